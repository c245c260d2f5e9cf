"""The newest run as static pages that need no network: ``./run_all.sh site``.

Sphinx with MyST-NB renders the executed notebooks as they are stored; nothing is run again. This module
stages them in a temporary folder, adds the links between claims and the cells that measured them, and is
itself the Sphinx extension that sets equations as MathML.
"""

import argparse
import html
import io
import re
import shutil
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterable, Mapping
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

import saliencylib
from saliencylib.figures import VERDICT_COLOURS
from saliencylib.places import ROOT, results_root
from saliencylib.study import claims, report
from saliencylib.study.compare import run_folder
from saliencylib.study.findings import findings
from saliencylib.study.plan import NOTEBOOK_OF, NOTEBOOKS
from saliencylib.study.records import read_record
from saliencylib.study.report import markdown_table

SITE = ROOT / "site"
STATIC = Path(__file__).with_name("pages")
TITLE = "Three saliency papers, rerun: what holds?"
PARAMETERS = {"parameters", "injected-parameters"}
FULL_SIZE = '{width="100%"}'  # a picture with a width is linked in full size
PICTURE_KINDS = ("image/png", "image/jpeg")
SAYS_NOTHING = "its data comes from the project itself, and it says nothing about the papers."
COLUMNS = ("id", "statement", "printed", "measured (95 % interval)", "n", "data", "verdict")
BELOW_MEASURED = ("what is measured", "null control", "condition")

SPHINX = {
    "project": TITLE,
    "html_title": "Three saliency papers, rerun",
    "language": "en",
    "extensions": ["myst_nb", "sphinx.ext.autodoc", "saliencylib.study.site"],
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
    "myst_enable_extensions": ["dollarmath", "attrs_inline"],
    "myst_dmath_allow_digits": False,  # 5$ and $6 are prices, $ x $ is none of ours
    "myst_dmath_allow_space": False,
    "myst_heading_anchors": 4,
    "myst_heading_slug_func": "saliencylib.study.site.heading_anchor",
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


def heading_anchor(heading: str) -> str:
    """The link target of a heading, as Jupyter forms it."""
    return heading.replace(" ", "-")


# ------------------------------------------------------------------------------------------- which run


def executed_notebooks(folder: Path) -> list[str]:
    """The notebooks whose executed copies a run folder stores."""
    return [name for name in NOTEBOOKS if (folder / "notebooks" / f"{name}.ipynb").is_file()]


def newest_run() -> Path:
    """The run folder that was finished last, among those with measured claims and a paper's notebook; a quick
    run, which says nothing about the papers, only where there is no other.

    Raises ValueError when there is none.
    """
    folders = {path.parents[1] for path in results_root().glob("*/tables/[0-9]*_claims.csv")}
    folders = [f for f in folders if set(executed_notebooks(f)) & set(NOTEBOOK_OF.values())]
    if not folders:
        raise ValueError("no run with executed notebooks is stored: call ./run_all.sh first")
    return max(folders, key=lambda folder: (folder.name != "quick", finished_at(folder)))


def finished_at(folder: Path) -> str:
    """When the last notebook of a run was finished, as ISO date and time; "" for a run without a record."""
    return max((entry["finished"] for entry in read_record(folder).values()), default="")


# ------------------------------------------------------------------------------------------- the pages


def staged(notebook: NotebookNode, note: str) -> NotebookNode:
    """An executed notebook with what a page needs more: a note below its title, links from the measuring
    cells back to the claims, in place of the marks in their outputs, and alternative texts. Code is folded;
    the cells that set up and take parameters are left out.

    Raises ValueError for a figure without alternative text.
    """
    measured: dict[int, list[str]] = {}
    known = set(claims.table()["id"])  # a run of an earlier edition may have measured others
    for claim, index in claims.measuring_cells(notebook).items():
        if claim not in known:
            continue
        link = f'<a id="measured-{claim}" href="index.html#claim-{claim}">{claim}</a>'
        measured.setdefault(index, []).append(link)
    page = nbformat.v4.new_notebook(metadata=notebook.metadata)
    for index, cell in enumerate(notebook.cells):
        if index in measured:
            mark = f'<p class="measures">Claims of the next cell: {", ".join(measured[index])}</p>'
            page.cells.append(nbformat.v4.new_markdown_cell(mark))
            cell.outputs = [output for output in cell.outputs if "claims" not in output.get("metadata", {})]
        if cell.cell_type == "code":
            _describe_pictures(cell)
            machinery = PARAMETERS & set(cell.metadata.get("tags", ())) or "find_spec(" in cell.source
            cell.metadata["tags"] = ["remove-cell" if machinery else "hide-input"]
        page.cells.append(cell)
    title = page.cells[0]
    linked = r"\[(!\[[^]]*\])\(\.\./(figures/[^)]+)\)\]\([^)]+\)"
    title.source = re.sub(linked, rf"\1(\2){FULL_SIZE}", title.source)
    title.source = _noted(title.source, f'<p class="run-note">{note}</p>')
    return page


def _noted(source: str, note: str) -> str:
    """A Markdown text with a note below its first heading."""
    title, _, rest = source.partition("\n")
    return f"{title}\n\n{note}\n\n{rest}"


def _describe_pictures(cell: NotebookNode) -> None:
    """Give the cell what MyST-NB takes from there: the alternative text, and the width, for which Sphinx
    links the picture in full size."""
    pictures = [(o, kind) for o in cell.outputs for kind in PICTURE_KINDS if kind in o.get("data", {})]
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
    entry = read_record(folder).get(notebook)
    if entry is None:
        return f"Run {folder.name}"
    sets = ", ".join(entry["data"]) or "none from outside the project"
    parts = [f"Run {folder.name}", f"executed {entry['finished'][:10]} on {entry['device']}"]
    parts += [f"data sets: {sets}"]
    if entry["commit"] != "unknown":
        parts.append(f"commit {entry['commit']}")
    return html.escape("; ".join(parts))


def index_page(folder: Path) -> str:
    """The first page, as Markdown: what holds of each paper, with a figure, the counts of verdicts, then
    every claim with its links, then contents."""
    joined = claims.verdicts(folder)
    missing = [name for name in NOTEBOOKS if name not in executed_notebooks(folder)]
    lines = [
        f"# {TITLE}",
        f"Every number and every testable sentence of three papers about saliency, with what the run "
        f"*{folder.name}* of {finished_at(folder)[:10]} measured beside it. A verdict leads to the cell that "
        "measured it, and the cell leads back; brackets give 95 % intervals. "
        "[Report on one page](REPORT.md), [data and provenance](provenance.md), [contents](#Contents).",
    ]
    if missing:
        lines.append(f"Not in this run: {', '.join(missing)}.")
    lines += _what_holds(folder)
    counts = claims.verdict_counts(joined).set_index("paper")
    papers = [f"[{paper}](#{heading_anchor(paper)})" for paper in counts.index]
    summary = markdown_table(["verdict", *papers], [[_badge(name), *counts[name]] for name in counts])
    lines += [
        f"## Verdicts\n\n{summary}",
        "*Other data*: what can only be judged on the paper's own data. *Not telling*: what cannot have the "
        "property passes, or fails, alike. *Embedded*: data that the study makes itself, where a verdict "
        "only shows that the machinery works. Checks of code and what is only shown are no verdicts. Rows "
        "and rules stand in commit {} of {}.".format(*claims.rules_fixed()),
    ]
    readable = claims.readable(joined).assign(link=[*map(_measured_at, joined.to_dict("records"))])
    for paper, rows in readable.groupby(joined["paper"], sort=False):
        lines += [f"## {paper}", "{}. {}".format(*report.scope(paper)), _claims_table(rows)]
    pages = "\n".join([*NOTEBOOKS, "USING", "api", "REPORT", "EDITIONS", "provenance"])
    lines += ["## Contents", f"```{{toctree}}\n:maxdepth: 2\n\n{pages}\n```"]
    return "\n\n".join(lines) + "\n"


def _what_holds(folder: Path) -> list[str]:
    if folder.name == "quick":
        return [f"**This is a quick run: {SAYS_NOTHING}**"]
    lines = ["## What holds, and what does not"]
    for paper, found in findings(folder).items():
        lines.append(f"**[{paper}]({NOTEBOOK_OF[paper]}.ipynb).** {' '.join(found.sentences)}")
        if (folder / "figures" / found.figure).is_file():
            lines.append(f"![{found.shows}](figures/{found.figure}){FULL_SIZE}")
    return lines


def _measured_at(row: Mapping[str, str]) -> str:
    """The page, and where known the cell, that measured a judged row; "" where none did."""
    notebook, found, section = claims.section_link(row).partition(".ipynb")
    return f"{notebook}.html" + (f"#measured-{row['id']}" if section else "") if found else ""


def _claims_table(rows: pd.DataFrame) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    body = "\n".join(map(_claim_row, rows.to_dict("records")))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
    return f'<div class="table-wrapper claims">{table}</div>'


def _claim_row(row: Mapping[str, str]) -> str:
    cells = {name: html.escape(row[name]) for name in COLUMNS}
    verdict, _, remark = row["verdict"].partition(": ")
    badge = f'<a href="{row["link"]}">{_badge(verdict)}</a>' if row["link"] else _badge(verdict)
    cells["verdict"] = badge + (f" <small>{html.escape(remark)}</small>" if remark else "")
    below = [f"{name}: {html.escape(row[name])}" for name in BELOW_MEASURED if row[name]]
    measured = cells["measured (95 % interval)"] or "not measured"
    cells["measured (95 % interval)"] = f"<span>{measured}</span>" + "".join(
        f"<small>{line}</small>" for line in below
    )
    filled = "".join(f'<td data-label="{name.split(" (")[0]}">{cell}</td>' for name, cell in cells.items())
    return f'<tr id="claim-{row["id"]}">{filled}</tr>'


def _badge(verdict: str) -> str:
    colour = to_hex(VERDICT_COLOURS[claims.counted_as(verdict).removesuffix(" (embedded)")])
    return f'<span class="verdict" style="background-color: {colour}">{verdict}</span>'


def provenance_page(folder: Path) -> str:
    """When, on what and with which versions and data each notebook was executed, as Markdown."""
    record = dict(sorted(read_record(folder).items()))
    times = []
    for name, entry in record.items():
        date, minutes = entry["finished"][:16].replace("T", " "), f"{entry['seconds'] / 60:.1f}"
        times.append((name, date, minutes, entry["device"], entry["python"], entry["commit"]))
    data = [(s, name, f"`{sha[:16]}`") for name, entry in record.items() for s, sha in entry["data"].items()]
    packages = sorted({package for entry in record.values() for package in entry["versions"]})
    versions = [(p, *(entry["versions"].get(p, "") for entry in record.values())) for p in packages]
    columns = ["notebook", "finished", "minutes", "machine", "Python", "commit"]
    return (
        f"# Data and provenance\n\nWhat the record of the run *{folder.name}* says of each execution. A "
        "commit that ends in *dirty* had changes beside it that were not yet committed.\n\n"
        f"{markdown_table(columns, times)}\n\n"
        "## Data\n\nSets from outside the project; what is embedded is not listed.\n\n"
        f"{markdown_table(['data set', 'notebook', 'checksum (first digits)'], data)}\n\n"
        f"## Versions\n\n{markdown_table(['package', *record], versions)}\n"
    )


def api_page() -> str:
    """The names that the library offers, from their docstrings, as Markdown."""
    lines = [
        "# The library",
        "What `saliencylib` offers; [with your own network](USING.md) shows how.",
    ]
    for name, module in sorted(saliencylib.NAMES.items()):
        found = getattr(saliencylib, name)
        kind = "autoclass" if isinstance(found, type) else "autofunction" if callable(found) else "autodata"
        members = "\n   :members:" if kind == "autoclass" else ""
        lines.append(f"## {name}\n\n```{{eval-rst}}\n.. {kind}:: {module}.{name}{members}\n```")
    return "\n\n".join(lines) + "\n"


def report_page(folder: Path) -> str:
    """The one-page report; its appendix, every claim, is the first page's. When the pages show another run,
    it says so."""
    text = (ROOT / "REPORT.md").read_text(encoding="utf-8").partition("## Appendix")[0]
    text = text.replace("[appendix](#appendix-every-claim)", "[first page](index.md)")
    run = report.REPORTED_RUN
    note = f"This report speaks of {run}; the notebooks beside it are those of the run {folder.name}."
    return text if folder.name == Path(run).name else _noted(text, note)


def stage(folder: Path, source: Path) -> None:
    """Write the sources of all pages of a run into the folder ``source``."""
    present = executed_notebooks(folder)
    missing = [name for name in NOTEBOOKS if name not in present]
    for name in NOTEBOOKS:
        if name in present:
            path = folder / "notebooks" / f"{name}.ipynb"
            notebook = claims.executed_notebook(path)
            if notebook is None:
                raise ValueError(f"{path} is damaged: delete it and run the notebook again")
        else:
            title = f"# {name[3:].replace('_', ' ').capitalize()} (not in this run)"
            text = f"{title}\n\nThe run {folder.name} stores no executed copy of this notebook."
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
        page = nbformat.writes(staged(notebook, run_note(folder, name)))
        (source / f"{name}.ipynb").write_text(relinked(page, missing), encoding="utf-8")
    pages = {
        "index": index_page(folder),
        "REPORT": report_page(folder),
        "provenance": provenance_page(folder),
        **{name: (ROOT / f"{name}.md").read_text(encoding="utf-8") for name in ("USING", "EDITIONS")},
        "api": api_page(),
    }
    for name, text in pages.items():
        (source / f"{name}.md").write_text(text, encoding="utf-8")
    if (folder / "figures").is_dir():
        shutil.copytree(folder / "figures", source / "figures")
    for picture in re.findall(r"!\[.*?\]\((.+?)\)", pages["REPORT"]):
        (source / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / picture, source / picture)


def build(folder: Path, target: Path) -> None:
    """Render a run folder as pages into ``target``, in place of what was there.

    Raises ValueError, and leaves ``target`` as it was, when the run stores no executed notebook, Sphinx warns
    of anything, or a link leads nowhere.
    """
    if not executed_notebooks(folder):
        raise ValueError(
            f"run {folder.name!r} stores no executed notebook: run it again, or name another run"
        )
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
    started = time.monotonic()
    try:
        folder = newest_run() if name is None else run_folder(name)
        build(folder, SITE)
    except (ValueError, OSError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    pages = len(list(SITE.glob("*.html")))
    megabytes = sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file()) / 1e6
    seconds = time.monotonic() - started
    print(f"run {folder.name}: {pages} pages, {megabytes:.1f} MB, in {seconds:.0f} s")
    print(f"open {SITE / 'index.html'}, or serve it: python -m http.server --directory {SITE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
