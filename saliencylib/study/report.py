"""Keeps the pages in ``FILES`` and the first words of the stored notebooks equal to the mini run:
``python -m saliencylib.study.report``.

They are written by hand but for the parts between marks, which come from the run's tables and records.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import nbformat
import pandas as pd
from nbformat import NotebookNode

from saliencylib.data.registry import REGISTRY, Source
from saliencylib.places import ROOT
from saliencylib.study import claims
from saliencylib.study import verdicts as rules
from saliencylib.study.findings import findings
from saliencylib.study.plan import MINUTES, NEEDS, NOTEBOOK_OF, NOTEBOOKS, SETUP_GIGABYTES
from saliencylib.study.records import read_record

REPORTED_RUN = "results/mini-short"
WHERE = {
    "quick": "any machine, no network",
    "mini-short": "2 CPU cores",
    "paper-full": "one GPU (planned, not run yet)",
}
FILES = ("README.md", "REPORT.md", "DATA.md", "EDITIONS.md")
FIRST_EDITION = Path(__file__).with_name("first_edition.csv")  # its verdicts; why each was measured anew
TRAININGS_ON_RECORD = ROOT / "results" / "kept" / "sal_mask.csv"
OPENING = "what holds"  # the mark of the part below the title of a stored notebook


def updated(text: str, parts: Mapping[str, str]) -> str:
    """A text with what stands between ``<!-- NAME: ... -->`` and ``<!-- end of NAME -->`` replaced, for every
    part by name whose marks it has. Raises ValueError when it has none, or a mark without its end."""
    marked = [name for name in parts if f"<!-- {name}: " in text]
    for name in marked:
        between = rf"(<!-- {name}: written by .*? -->\n).*?(\n<!-- end of {name} -->)"
        text, found = re.subn(between, lambda m, part=parts[name]: m[1] + part + m[2], text, flags=re.DOTALL)
        if not found:
            raise ValueError(f"the mark of {name} has no end")
    if not marked:
        raise ValueError(f"no marks of {', '.join(parts)} in this text")
    return text


def report_parts(folder: Path = ROOT / REPORTED_RUN) -> dict[str, str]:
    """The generated parts, as Markdown, from a run folder: findings (a sentence a paper), picture (of the
    last of them), verdicts (counts a paper), claims (a row each), trust (what the verdicts rest on), cost
    (a row a notebook) and editions (beside the first edition's verdicts); and from the project: notebooks
    (where each opens), profiles and data."""
    joined = claims.verdicts(folder)
    counts = claims.verdict_counts(joined)
    return {
        "findings": _findings(folder),
        "picture": _picture(folder),
        "verdicts": markdown_table(counts, counts.to_numpy()),
        "claims": _claims(joined, claims.readable(joined)),
        "trust": _trust(joined),
        "cost": _cost(folder),
        "editions": _editions(joined),
        "notebooks": _notebooks(),
        "profiles": _profiles(),
        "data": _data(),
    }


def opening(name: str, results: str, folder: Path = ROOT / REPORTED_RUN) -> str:
    """What a stored notebook says below its title, as Markdown: what the run in ``folder`` found of its paper
    (of all three, in a notebook of none), with a figure. ``results`` is the way from the notebook to the run
    folder: ".." for one that is stored there; any other is a copy, which says so first."""
    lines = []
    if results != "..":
        real = f"[{name} of the run {folder.name}]({results}/notebooks/{name}.ipynb)"
        lines += [
            "> This copy shows the run `quick`, which takes its data from the project itself and **says "
            f"nothing about the papers**. What was measured on real data: {real}."
        ]
    told = findings(folder)
    papers = [paper for paper, notebook in NOTEBOOK_OF.items() if notebook == name]
    sentences = [s for paper in papers for s in told[paper].sentences]
    sentences = sentences or [f"{paper}: {found.sentences[0]}" for paper, found in told.items()]
    listed = "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, start=1))
    by = f"by the run `{folder.name}` on real data (brackets: 95 % intervals):"
    lines += [f"**What holds, and what does not**, {by}"]
    lines += [told[paper].scale for paper in papers if told[paper].scale] + [listed]
    for found in (told[paper] for paper in papers):
        place = f"{results}/figures/{found.figure}"
        lines.append(f"[![{found.shows}]({place})]({place})")
    return "\n\n".join(lines)


def stored_notebooks() -> dict[Path, str]:
    """The notebooks that the project stores with outputs, each with the way from it to the reported run."""
    run = ROOT / REPORTED_RUN
    copies = {ROOT / "notebooks" / f"{name}.ipynb": f"../{REPORTED_RUN}" for name in NOTEBOOKS}
    return copies | {path: ".." for path in sorted((run / "notebooks").glob("[0-9]*.ipynb"))}


def with_opening(path: Path, results: str) -> NotebookNode:
    """A stored notebook with its ``opening`` brought up to date."""
    notebook = nbformat.read(path, as_version=4)
    title = notebook.cells[0]
    title.source = updated(title.source, {OPENING: opening(path.stem, results)})
    return notebook


def repository() -> str:
    """The project's public address, from pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


def scope(paper: str) -> tuple[str, str]:
    """What a paper is ("Wang et al., ICIG 2015") and what it claims, as REPORT.md says it."""
    text = (ROOT / "REPORT.md").read_text(encoding="utf-8")
    return re.search(rf"^\d\. \*\*{paper}\*\* \((.+?)\)\. (.+)$", text, flags=re.MULTILINE).groups()


def markdown_table(columns: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as Markdown, cells as text."""
    head = list(columns)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)


def _findings(folder: Path) -> str:
    """A sentence a paper, with the notebook that measured it."""
    return "\n".join(
        f"- **[{paper}]({REPORTED_RUN}/notebooks/{NOTEBOOK_OF[paper]}.ipynb)**: {found.sentences[0]}"
        for paper, found in findings(folder).items()
    )


def _picture(folder: Path) -> str:
    *_, found = findings(folder).values()
    return f"![{found.shows}]({REPORTED_RUN}/figures/{found.figure})"


def _claims(joined: pd.DataFrame, shown: pd.DataFrame) -> str:
    table = pd.DataFrame({"claim": shown["id"] + ": " + shown["statement"]})
    columns = ["what is measured", "printed", "measured (95 % interval)", "null control", "condition", "n"]
    table = table.join(shown[[*columns, "data", "verdict"]])
    table["measured in"] = [_place(row) for row in joined.to_dict("records")]
    return markdown_table(table, table.to_numpy())


def _place(row: dict) -> str:
    """The notebook and its section that measured a judged row; "" where none did. Only the file is linked:
    viewers of repositories know no sections of notebooks."""
    notebook = claims.section_link(row).partition("#")[0]
    return f"[{notebook[:2]}]({REPORTED_RUN}/notebooks/{notebook}), {row['section']}" if notebook else ""


def _trust(joined: pd.DataFrame) -> str:
    """Which rows are checks of code, what Holm's adjustment left open, and where the rules stand."""
    checks = joined.loc[joined["verdict"] == "check of code", "id"]
    decided = ~joined["verdict"].str.replace(" (embedded)", "").isin(rules.UNJUDGED)
    tested = joined["rule"].isin(rules.TESTED) & decided
    fragile = joined.loc[joined["remark"].str.startswith("not after Holm"), "id"]
    commit, date = claims.rules_fixed()
    return (
        f"{', '.join(checks)} check code against equations and printed sizes and are counted apart. Of the "
        f"{tested.sum()} rows that rest on a test, {len(fragile)} would be decided by their interval but do "
        f"not survive Holm's adjustment within their paper: {', '.join(fragile) or 'none'}. Rows and rules "
        f"stand in commit {commit} of {date}."
    )


def _cost(folder: Path) -> str:
    rows = []
    for notebook, entry in sorted(read_record(folder).items()):
        minutes, whole = f"{entry['seconds'] / 60:.1f}", f"{MINUTES[notebook][folder.name]:g}"
        about = entry["device"], entry["versions"]["torch"], entry["finished"][:10]
        rows.append((notebook, minutes, whole, *about))
    columns = ["notebook", "minutes", "from an empty cache, about", "machine", "torch", "run on"]
    places = pd.read_csv(TRAININGS_ON_RECORD)["made_on"].value_counts()
    made = "; ".join(f"{count} on {place}" for place, count in places.items())
    return (
        f"{markdown_table(columns, rows)}\n\nPaper 1's trainings that were on record were read and not "
        f"repeated. The {places.sum():,} that are there now (`results/kept`) were made so: {made}."
    )


def _editions(joined: pd.DataFrame) -> str:
    """A row for each of the first edition's verdicts that was measured or counted anew, and the new rows."""
    first = pd.read_csv(FIRST_EDITION, keep_default_na=False)
    now = claims.readable(joined).set_index("id")["verdict"]
    today = [", ".join(f"{claim}: {now[claim]}" for claim in ids.split()) for ids in first["second edition"]]
    first = first.assign(**{"second edition": today})
    head = ["row", "first edition", "measured then", "second edition", "why"]
    return markdown_table(
        head, first[["first edition", "verdict", "measured", "second edition", "why"]].to_numpy()
    )


def _notebooks() -> str:
    """A line a notebook: its title and where it opens, as it was run and to be run."""
    place = repository().removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{place}/blob/main/notebooks"
    binder = f"https://mybinder.org/v2/gh/{place}/main?labpath=notebooks"
    lines = []
    for name in NOTEBOOKS:
        cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
        title = cells[0].source.splitlines()[0].removeprefix("# ")
        run = f"[Colab]({colab}/{name}.ipynb), [Binder]({binder}/{name}.ipynb)"
        lines.append(f"- [{title}]({REPORTED_RUN}/notebooks/{name}.ipynb) (run it: {run})")
    return "\n".join(lines)


def _profiles() -> str:
    """A row a run: its options, data with their size on disk, machine and minutes."""
    rows = []
    for run, where in WHERE.items():
        profile, _, schedule = run.partition("-")
        sets = list(dict.fromkeys(name for needs in NEEDS.values() for name in needs.get(profile, ())))
        size = sum(REGISTRY[name].size for name in sets) / 1e9
        options = f"`--profile {profile}`" + (f" `--schedule {schedule}`" if schedule else "")
        disk = f"{SETUP_GIGABYTES + size:.1f} GB"
        minutes = f"{sum(MINUTES[notebook][run] for notebook in NOTEBOOKS):.0f} minutes"
        rows.append((options, f"{len(sets)} sets" if sets else "embedded", disk, where, minutes))
    return markdown_table(["options", "data", "disk", "machine", "time"], rows)


def _data() -> str:
    """A row a data set that a run reads: who uses it, sizes, licence, whence and how to get it."""
    rows = []
    for name, entry in REGISTRY.items():
        if entry.used_by:
            download = _megabytes(entry.download_size) if entry.builder else "-"
            how = f"`./run_all.sh data {name}`" if entry.builder else entry.how
            place = ", ".join(map(_origin, entry.sources)) or "by hand"
            used = ", ".join(entry.used_by) + " (optional)" * entry.optional
            rows.append((name, used, download, _megabytes(entry.size), entry.licence, place, how))
    return markdown_table(["set", "used by", "download", "on disk", "licence", "from", "to get it"], rows)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _origin(source: Source) -> str:
    """Where an archive comes from, linked: a repository with its commit, or a file."""
    host, _, path = source.url.partition("://")[2].partition("/")
    if host == "codeload.github.com":
        owner, repository, _, commit = path.split("/")
        return f"[{owner}/{repository} @ {commit[:7]}](https://github.com/{owner}/{repository}/tree/{commit})"
    return f"[{host}]({source.url})" if host else f"or your own {source.file}"


def main() -> None:
    """Write all parts where they belong."""
    for path, results in stored_notebooks().items():
        nbformat.write(with_opening(path, results), path)
    parts = report_parts()
    for name in FILES:
        path = ROOT / name
        path.write_text(updated(path.read_text(), parts))


if __name__ == "__main__":
    main()
