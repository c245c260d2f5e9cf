"""The newest run as static pages that need no network: ``./run_all.sh site``.

Sphinx with MyST-NB renders the executed notebooks as they are stored; nothing is run again. This module
stages them in a temporary folder, adds the links between claims and the cells that measured them, and is
itself the Sphinx extension that sets equations as MathML.
"""

import argparse
import ast
import html
import io
import json
import re
import shutil
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
from bs4 import BeautifulSoup
from docutils import nodes
from latex2mathml import converter
from matplotlib.colors import to_hex
from nbformat import NotebookNode
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.console import strip_escape_sequences
from sphinx.util.docutils import docutils_namespace

from saliencylib.study import claims, compare, session as profiles, report
from saliencylib.figures import VERDICT_COLOURS
from saliencylib.study.plan import NOTEBOOK_OF, NOTEBOOKS, ROOT

SITE = ROOT / "site"
STATIC = resources.files("saliencylib") / "pages"
TITLE = "Three saliency papers, rerun: what holds?"
EMBEDDED = " (embedded)"
PICTURES = ("image/png", "image/jpeg")
COLUMNS = ("id", "statement", "printed", "measured (95 % interval)", "n", "data", "verdict")

SPHINX = {
    "project": TITLE,
    "html_title": "Three saliency papers, rerun",
    "language": "en",
    "extensions": ["myst_nb", "saliencylib.site"],
    "html_theme": "furo",
    "html_static_path": [str(STATIC)],
    "html_favicon": str(STATIC / "favicon.svg"),
    "html_css_files": ["site.css"],
    "html_math_renderer": "mathml",
    "html_copy_source": False,
    "html_show_sourcelink": False,
    "html_show_copyright": False,
    "html_show_search_summary": False,  # it fetches pages, which a browser refuses for files
    "html_use_index": False,
    "html_domain_indices": False,
    "nb_execution_mode": "off",
    "myst_enable_extensions": ["dollarmath"],
    "myst_dmath_allow_digits": False,  # 5$ and $6 are prices, $ x $ is none of ours
    "myst_dmath_allow_space": False,
    "myst_heading_anchors": 4,
    "myst_heading_slug_func": "saliencylib.site.anchor",
}


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers MathML, which browsers draw by themselves, as the way to write equations in pages."""
    app.add_html_math_renderer("mathml", (_inline_equation, None), (_equation, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline_equation(writer: nodes.NodeVisitor, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _equation(writer: nodes.NodeVisitor, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="equation">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def mathml(latex: str, display: str) -> str:
    """An equation as MathML, "inline" or "block", with the space that TeX sets around names such as log."""
    thin = '<mspace width="0.167em" />'
    return re.sub(r"(<mi>[a-z]{2,}</mi>)", rf"{thin}\1{thin}", converter.convert(latex, display=display))


def anchor(heading: str) -> str:
    """The link target of a heading, as Jupyter forms it."""
    return heading.replace(" ", "-")


def executed(folder: Path) -> list[str]:
    """The notebooks whose executed copies a run folder stores."""
    return [name for name in NOTEBOOKS if (folder / "notebooks" / f"{name}.ipynb").is_file()]


def provenance(folder: Path) -> dict[str, dict]:
    """A run's record by notebook; raises ValueError when it is not there or cannot be read."""
    path = folder / "provenance.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"the record of run {folder.name} cannot be read: {error}") from error


def newest_run() -> Path:
    """The run folder that was finished last, among those with measured claims and a paper's notebook.

    Raises ValueError when there is none.
    """
    records = profiles.results_root().glob("*/provenance.json")
    folders = [path.parent for path in records if _shows_claims(path.parent)]
    if not folders:
        raise ValueError("no run with executed notebooks is stored: call ./run_all.sh first")
    return max(folders, key=finished)


def _shows_claims(folder: Path) -> bool:
    measured = any(folder.glob("tables/*_claims.csv"))
    return measured and bool(set(executed(folder)) & set(NOTEBOOK_OF.values()))


def finished(folder: Path) -> str:
    """When the last notebook of a run was finished, as ISO date and time."""
    return max(entry["finished"] for entry in provenance(folder).values())


def named_run(name: str) -> Path:
    """The folder of a run by name or path. Raises ValueError, naming the runs, for one that is not there or
    stores no executed notebook."""
    folder = compare.run_folder(name)
    if not executed(folder):
        raise ValueError(f"run {name!r} stores no executed notebook: run it again, or name another run")
    return folder


def measuring_cells(notebook: NotebookNode, measured: Mapping[str, str]) -> dict[str, int]:
    """Which code cell measures each claim, by index, where it can be told; ``measured``: headings by claim.

    It is the cell below the heading that names the claim, else the only one there that names none.
    """
    ids = set(claims.table()["id"])
    sections: dict[str, dict[int, set[str]]] = {}
    below: list[str] = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            below = _headings(cell.source) or below
        elif ".measure(" in cell.source:
            for heading in below:
                sections.setdefault(heading, {})[index] = _named(cell.source, ids)
    found = {}
    for claim, heading in measured.items():
        cells = sections.get(heading, {})
        naming = [index for index, names in cells.items() if claim in names]
        silent = [index for index, names in cells.items() if not names]
        if naming or len(silent) == 1:
            found[claim] = (naming or silent)[0]
    return found


def _headings(source: str) -> list[str]:
    return re.findall(r"^#{1,4} (.+)$", source, flags=re.MULTILINE)


def _named(source: str, ids: set[str]) -> set[str]:
    """Those ids that a piece of Python holds as strings, or as strings with parts to be filled in; what a
    dictionary holds below its keys does not count."""
    named = set()
    nodes_left: list[ast.AST] = [ast.parse(source)]
    while nodes_left:
        node = nodes_left.pop()
        if isinstance(node, ast.Constant):
            named |= ids & {str(node.value)}
        elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            parts = [
                re.escape(part.value) if isinstance(part, ast.Constant) else ".*" for part in node.values
            ]
            named |= {name for name in ids if re.fullmatch("".join(parts), name)}
        else:
            inside = node.keys if isinstance(node, ast.Dict) else ast.iter_child_nodes(node)
            nodes_left += [child for child in inside if child]
    return named


def staged(notebook: NotebookNode, note: str, measured: Mapping[str, str]) -> NotebookNode:
    """An executed notebook with what a page needs more: a note below its title, links from the measuring
    cells and their sections back to the claims (``measured``: headings by claim id), alternative texts.

    Raises ValueError for a figure without alternative text.
    """
    headings = {heading for cell in notebook.cells for heading in _headings(cell.source)}
    title = _headings(notebook.cells[0].source)[0]
    below: dict[str, list[str]] = {}
    before: dict[int, list[str]] = {}
    cells = measuring_cells(notebook, measured)
    for claim, heading in measured.items():
        if claim in cells:
            before.setdefault(cells[claim], []).append(_back(claim, target=True))
        place = heading if heading in headings else title
        below.setdefault(place, []).append(_back(claim, target=claim not in cells))
    page = nbformat.v4.new_notebook(metadata=notebook.metadata)
    for index, cell in enumerate(notebook.cells):
        if index in before:
            text = f'<p class="measures cell-mark">The next cell measures {", ".join(before[index])}</p>'
            page.cells.append(nbformat.v4.new_markdown_cell(text))
        if cell.cell_type == "markdown":
            for heading in _headings(cell.source):
                line = f'<p class="run-note">{note}</p>' if heading == title else ""
                if heading in below:
                    line += f'<p class="measures">Measures {", ".join(below[heading])}</p>'
                cell.source = _after(cell.source, heading, line)
        else:
            _describe_pictures(cell)
        page.cells.append(cell)
    return page


def _back(claim: str, target: bool) -> str:
    place = f' id="measured-{claim}"' if target else ""
    return f'<a{place} href="index.html#claim-{claim}">{claim}</a>'


def _after(source: str, heading: str, line: str) -> str:
    found = re.search(rf"^#+ {re.escape(heading)}$", source, flags=re.MULTILINE)
    return f"{source[: found.end()]}\n\n{line}\n{source[found.end() :]}" if line else source


def _describe_pictures(cell: NotebookNode) -> None:
    """Give the cell what MyST-NB takes from there: the alternative text, and the width, for which Sphinx
    links the picture in full size."""
    pictures = [(o, kind) for o in cell.outputs for kind in PICTURES if kind in o.get("data", {})]
    if not pictures:
        return
    texts = [output.metadata.get(kind, {}).get("alt", "") for output, kind in pictures]
    if not all(texts):
        raise ValueError(f"a figure has no alternative text: {cell.source.splitlines()[-1]}")
    widths = [Image.open(io.BytesIO(b64decode(output.data[kind]))).width for output, kind in pictures]
    cell.metadata["mystnb"] = {"image": {"alt": "; ".join(texts), "width": f"{max(widths)}px"}}


def relinked(text: str, missing: Iterable[str]) -> str:
    """A notebook (JSON) whose links fit the pages: those in tables (HTML) lead to pages, and those to
    ``missing`` notebooks to no section."""
    for name in missing:
        text = re.sub(rf"({name}\.ipynb)#[^)\"\\]+", r"\1", text)
    return re.sub(r'(href=\\?"\w+)\.ipynb', r"\1.html", text)


def run_note(folder: Path, notebook: str) -> str:
    """What a page says of the execution that it shows: run, date, machine, data and, if known, commit."""
    entry = provenance(folder).get(notebook)
    if entry is None:
        return f"Run {folder.name}"
    sets = ", ".join(entry["data"]) or "none from outside the project"
    parts = [f"Run {folder.name}", f"executed {entry['finished'][:10]} on {entry['device']}"]
    parts += [f"data sets: {sets}"]
    if entry["commit"] != "unknown":
        parts.append(f"commit {entry['commit']}")
    return html.escape("; ".join(parts))


def index_page(folder: Path, joined: pd.DataFrame) -> str:
    """The first page, as Markdown: the counts of verdicts, then every claim with its links, then contents."""
    missing = [name for name in NOTEBOOKS if name not in executed(folder)]
    lines = [
        f"# {TITLE}",
        f"Every number and every testable sentence of three papers about saliency, with what the run "
        f"*{folder.name}* of {finished(folder)[:10]} measured beside it. A verdict leads to the cell that "
        "measured it, and the cell leads back; brackets give 95 % intervals. "
        "[Report on one page](REPORT.md), [data and provenance](provenance.md), [contents](#Contents).",
    ]
    if missing:
        lines.append(f"Not in this run: {', '.join(missing)}.")
    lines += ["## Verdicts", _summary(joined)]
    lines += [
        "*Other data*: a printed value that can only be judged on the paper's own data. *Embedded*: data "
        "that the study makes itself, where a verdict only shows that the machinery works."
    ]
    readable = claims.readable(joined)
    for paper in joined["paper"].unique():
        table = _claims_table(readable[joined["paper"] == paper], paper)
        lines += [f"## {paper}", "{}. {}".format(*report.scope(paper)), table]
    pages = "\n".join([*NOTEBOOKS, "REPORT", "provenance"])
    lines += ["## Contents", f"```{{toctree}}\n:maxdepth: 2\n\n{pages}\n```"]
    return "\n\n".join(lines) + "\n"


def _summary(joined: pd.DataFrame) -> str:
    counts = claims.summary(joined).set_index("paper")
    lines = [["verdict", *(f"[{paper}](#{anchor(paper)})" for paper in counts.index)]]
    return _markdown(lines + [[_badge(verdict), *map(str, counts[verdict])] for verdict in counts])


def _claims_table(readable: pd.DataFrame, paper: str) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    rows = "\n".join(_claim_row(row, NOTEBOOK_OF[paper]) for row in readable.to_dict("records"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>"
    return f'<div class="table-wrapper claims">{table}</div>'


def _claim_row(row: Mapping[str, str], notebook: str) -> str:
    cells = {name: html.escape(row[name]) for name in COLUMNS}
    verdict, mark, remark = re.match(r"([^;:]+)([;:]?)(.*)", row["verdict"]).groups()
    badge = _badge(verdict)
    if verdict != "not measured":
        badge = f'<a href="{notebook}.html#measured-{row["id"]}">{badge}</a>'
    cells["verdict"] = f"{badge} <small>{html.escape(remark.strip())}</small>" if mark else badge
    filled = "".join(f'<td data-label="{name.split(" (")[0]}">{cell}</td>' for name, cell in cells.items())
    return f'<tr id="claim-{row["id"]}">{filled}</tr>'


def _badge(verdict: str) -> str:
    colour = to_hex(VERDICT_COLOURS[verdict.removesuffix(EMBEDDED)])
    return f'<span class="verdict" style="background-color: {colour}">{verdict}</span>'


def provenance_page(folder: Path) -> str:
    """When, on what and with which versions and data each notebook was executed, as Markdown."""
    record = dict(sorted(provenance(folder).items()))
    times = [["notebook", "finished", "minutes", "machine", "Python", "commit"]]
    for name, entry in record.items():
        date, minutes = entry["finished"][:16].replace("T", " "), f"{entry['seconds'] / 60:.1f}"
        times.append([name, date, minutes, entry["device"], entry["python"], entry["commit"]])
    packages = sorted({package for entry in record.values() for package in entry["versions"]})
    versions = [["package", *record]]
    versions += [[p, *(entry["versions"].get(p, "") for entry in record.values())] for p in packages]
    data = [["data set", "notebook", "checksum (first digits)"]]
    data += [[s, name, f"`{sha[:16]}`"] for name, entry in record.items() for s, sha in entry["data"].items()]
    return (
        f"# Data and provenance\n\nWhat the record of the run *{folder.name}* says of each execution. A "
        "commit that ends in *dirty* had changes beside it that were not yet committed.\n\n"
        f"{_markdown(times)}\n\n## Data\n\nSets from outside the project; what is embedded is not listed.\n\n"
        f"{_markdown(data)}\n\n## Versions\n\n{_markdown(versions)}\n"
    )


def _markdown(rows: list[list[str]]) -> str:
    return report.markdown(pd.DataFrame(rows[1:], columns=rows[0]))


def report_page(folder: Path) -> str:
    """The one-page report; its appendix, every claim, is the first page's. When the pages show another run,
    it says so."""
    own = folder.name == Path(report.RUN).name
    text = (ROOT / "REPORT.md").read_text(encoding="utf-8").partition("## Appendix")[0]
    text = text.replace("[appendix](#appendix-every-claim)", "[first page](index.md)")
    note = f"This report speaks of {report.RUN}; the notebooks beside it are those of the run {folder.name}."
    return text if own else _after(text, _headings(text)[0], note)


def stage(folder: Path, source: Path) -> None:
    """Write the sources of all pages of a run into the folder ``source``."""
    joined = claims.verdicts(folder)
    present = executed(folder)
    missing = [name for name in NOTEBOOKS if name not in present]
    for name in NOTEBOOKS:
        rows = joined[joined["measured"].notna() & (joined["paper"].map(NOTEBOOK_OF) == name)]
        if name in present:
            notebook = nbformat.read(folder / "notebooks" / f"{name}.ipynb", as_version=4)
        else:
            title = f"# {name[3:].replace('_', ' ').capitalize()} (not in this run)"
            text = f"{title}\n\nThe run {folder.name} stores no executed copy of this notebook."
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
        page = staged(notebook, run_note(folder, name), dict(zip(rows["id"], rows["cell"], strict=True)))
        (source / f"{name}.ipynb").write_text(relinked(nbformat.writes(page), missing), encoding="utf-8")
    (source / "index.md").write_text(index_page(folder, joined), encoding="utf-8")
    text = report_page(folder)
    (source / "REPORT.md").write_text(text, encoding="utf-8")
    for picture in re.findall(r"!\[.*?\]\((.+?)\)", text):
        (source / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / picture, source / picture)
    (source / "provenance.md").write_text(provenance_page(folder), encoding="utf-8")


def build(folder: Path, target: Path) -> None:
    """Render a run folder as pages into ``target``, in place of what was there.

    Raises ValueError, and leaves ``target`` as it was, when Sphinx warns of anything or a link leads nowhere.
    """
    with tempfile.TemporaryDirectory() as temporary:
        source, pages, trees = (Path(temporary) / name for name in ("source", "pages", "trees"))
        source.mkdir()
        stage(folder, source)
        warnings = io.StringIO()
        with docutils_namespace():
            app = Sphinx(source, None, pages, trees, "html", SPHINX, status=None, warning=warnings)
            app.build()
        problems = strip_escape_sequences(warnings.getvalue()).splitlines() + broken_links(pages)
        if problems:
            raise ValueError("the pages have problems:\n" + "\n".join(problems))
        if target.exists():
            shutil.rmtree(target)
        shutil.move(pages, target)


def broken_links(pages: Path) -> list[str]:
    """The links and resources of all pages that lead to no file or anchor, as "PAGE: LINK"."""
    soups = {path.name: BeautifulSoup(path.read_text(), "html.parser") for path in pages.glob("*.html")}
    ids = {name: {tag["id"] for tag in soup.find_all(id=True)} for name, soup in soups.items()}
    broken = []
    for name, soup in soups.items():
        for tag in soup.select("[href], [src]"):
            link = tag.get("href") or tag.get("src") or ""
            if re.match(r"\w+:", link):
                continue
            file, _, place = unquote(link).partition("#")
            file = file.partition("?")[0] or name
            if not (pages / file).is_file() or (place and file in ids and place not in ids[file]):
                broken.append(f"{name}: {link}")
    return broken


def main(arguments: list[str]) -> int:
    """Render the newest run, or the one named; 0, or 2 when there is none or it cannot be rendered."""
    options = argparse.ArgumentParser(prog="./run_all.sh site", description="Renders a run as static pages.")
    options.add_argument("run", nargs="?", help="a name under results/ or a path; the newest when left out")
    name = options.parse_args(arguments).run
    started = time.time()
    try:
        folder = named_run(name) if name else newest_run()
        build(folder, SITE)
    except (ValueError, OSError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    pages = len(list(SITE.glob("*.html")))
    megabytes = sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file()) / 1e6
    seconds = time.time() - started
    print(f"run {folder.name}: {pages} pages, {megabytes:.1f} MB, in {seconds:.0f} s")
    print(f"open {SITE / 'index.html'}, or serve it: python -m http.server --directory {SITE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
