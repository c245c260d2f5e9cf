"""Keeps README.md, REPORT.md and DATA.md equal to the mini run: ``python -m saliencylib.study.report``.

They are written by hand but for the parts between marks, which come from the run's tables and records.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import nbformat
import pandas as pd

from saliencylib.data.registry import REGISTRY, Source
from saliencylib.places import ROOT
from saliencylib.study import claims
from saliencylib.study.plan import MINUTES, NEEDS, NOTEBOOK_OF, NOTEBOOKS, SETUP_GIGABYTES

REPORTED_RUN = "results/mini-short"
# The claims that each paper is remembered for, in the README's words; all have a measured difference.
MAIN_CLAIMS = {
    "SM-D1": "RC mask helps AlexNet (points)",
    "SM-D2": "Alpha mask helps AlexNet (points)",
    "SM-D3": "RC mask helps NIN (points)",
    "SM-D4": "Alpha mask helps NIN (points)",
    "SC-D1b": "L1 loss beats MSE in a short training (CC, %)",
    "SC-X10": "learned maps beat handcrafted ones",
    "LI-F12aH": "maps change with the weights (HOG similarity)",
    "LI-F15b": "adversarial photographs do not suffer from background blur (points)",
    "LI-X6": "background pixels influence the class (points)",
}
COUNTED = {"holds": "hold", "does not hold": "do not hold", "undecided": "undecided", "depends": "depend"}
COUNTED |= {"not telling": "not telling"}
WHERE = {
    "quick": "any machine, no network",
    "mini-short": "2 CPU cores",
    "paper-full": "one GPU (planned, not run yet)",
}
FILES = ("README.md", "REPORT.md", "DATA.md")


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
    """The generated parts, as Markdown, from a run folder: verdicts (counts a paper), papers (a row each
    with its main claims), claims (a row each), trust (what the verdicts rest on) and cost (a row a notebook);
    and from the project: notebooks (where each opens), profiles and data."""
    joined = claims.verdicts(folder)
    shown = claims.readable(joined)
    links = map(claims.section_link, joined.to_dict("records"))
    places = [f"({REPORTED_RUN}/notebooks/{link})" if link else "" for link in links]
    counts = claims.verdict_counts(joined)
    return {
        "verdicts": markdown_table(counts, counts.to_numpy()),
        "papers": _papers(joined, shown["measured (95 % interval)"], _linked(joined["verdict"], places)),
        "claims": _claims(joined, shown, _linked(shown["verdict"], places)),
        "trust": _trust(joined),
        "cost": _cost(folder),
        "notebooks": _notebooks(),
        "profiles": _profiles(),
        "data": _data(),
    }


def repository() -> str:
    """The project's public address, from pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


def scope(paper: str) -> tuple[str, str]:
    """What a paper is ("Wang et al., ICIG 2015") and what it claims, as REPORT.md says it."""
    text = (ROOT / "REPORT.md").read_text(encoding="utf-8")
    return re.search(rf"^\d\. \*\*{paper}\*\* \((.+?)\)\. (.+)$", text, flags=re.MULTILINE).groups()


def read_record(folder: Path) -> dict[str, dict]:
    """The entries of a run folder's provenance.json by notebook; empty when there is none.

    Raises ValueError when the file cannot be read.
    """
    path = folder / "provenance.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the record {path} cannot be read ({error}): delete it to run the notebooks again"
        ) from error


def markdown_table(columns: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as Markdown, cells as text."""
    head = list(columns)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)


def _linked(verdicts: pd.Series, places: list[str]) -> list[str]:
    return [
        f"[{verdict}]{place}" if place else verdict for verdict, place in zip(verdicts, places, strict=True)
    ]


def _papers(joined: pd.DataFrame, shown: pd.Series, verdicts: list[str]) -> str:
    rows = []
    for paper, notebook in NOTEBOOK_OF.items():
        mine = joined["paper"] == paper
        cells = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4).cells
        asks = cells[0].source.splitlines()[0].partition(": ")[2]
        about = f"**{paper}**, {scope(paper)[0]}: [{asks}](notebooks/{notebook}.ipynb)"
        judging = claims.counted(joined[mine])["verdict"].map(claims.counted_as)
        counts = judging.value_counts().to_dict()
        unjudged = sum(count for verdict, count in counts.items() if verdict not in COUNTED)
        summed = [f"{counts[verdict]} {words}" for verdict, words in COUNTED.items() if verdict in counts]
        summed.append(f"{unjudged} not judged on real data")
        main = [
            ", ".join(filter(None, (_main(verdicts[row.Index], row.id), shown[row.Index], row.data)))
            for row in joined[mine & joined["id"].isin(MAIN_CLAIMS)].itertuples()
        ]
        rows.append((about, ", ".join(summed), "<br>".join(main)))
    return markdown_table(
        ["paper", "its claims", "what it is remembered for, with 95 % intervals and data"], rows
    )


def _main(verdict: str, claim: str) -> str:
    return f"{verdict}: {MAIN_CLAIMS[claim]}"


def _claims(joined: pd.DataFrame, shown: pd.DataFrame, verdicts: list[str]) -> str:
    table = pd.DataFrame({"claim": shown["id"] + ": " + shown["statement"]})
    columns = ["what is measured", "printed", "measured (95 % interval)", "null control", "condition", "n"]
    table = table.join(shown[[*columns, "data"]]).assign(verdict=verdicts)
    return markdown_table(table, table.to_numpy())


def _trust(joined: pd.DataFrame) -> str:
    """Which rows are checks of code, what Holm's adjustment left open, and when the rules were fixed."""
    checks = joined.loc[(joined["rule"] == "exact") & joined["measured"].notna(), "id"]
    tested = joined["p_holm"].notna()
    fragile = joined.loc[joined["remark"] == "not after Holm", "id"]
    commit, date = claims.rules_fixed()
    return (
        f"{', '.join(checks)} check code against equations and printed sizes and are counted apart. Of the "
        f"{tested.sum()} rows that rest on a test, {len(fragile)} would be decided by their interval but do "
        f"not survive Holm's adjustment within their paper: {', '.join(fragile) or 'none'}. The rules were "
        f"fixed in commit {commit} of {date}."
    )


def _cost(folder: Path) -> str:
    rows = []
    for notebook, entry in sorted(read_record(folder).items()):
        minutes, whole = f"{entry['seconds'] / 60:.1f}", f"{MINUTES[notebook][folder.name]:g}"
        about = entry["device"], entry["versions"]["torch"], entry["finished"][:10]
        rows.append((notebook, minutes, whole, *about))
    return markdown_table(
        ["notebook", "minutes", "from an empty cache, about", "machine", "torch", "run on"], rows
    )


def _notebooks() -> str:
    """Where each notebook opens without an installation, in one line."""
    place = repository().removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{place}/blob/main/notebooks"
    binder = f"https://mybinder.org/v2/gh/{place}/main?labpath=notebooks"
    return " · ".join(
        f"[`{name}`](notebooks/{name}.ipynb) ([Colab]({colab}/{name}.ipynb), [Binder]({binder}/{name}.ipynb))"
        for name in NOTEBOOKS
    )


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
            place = ", ".join(map(_place, entry.sources)) or "by hand"
            used = ", ".join(entry.used_by) + " (optional)" * entry.optional
            rows.append((name, used, download, _megabytes(entry.size), entry.licence, place, how))
    return markdown_table(["set", "used by", "download", "on disk", "licence", "from", "to get it"], rows)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _place(source: Source) -> str:
    """Where an archive comes from, linked: a repository with its commit, or a file."""
    host, _, path = source.url.partition("://")[2].partition("/")
    if host == "codeload.github.com":
        owner, repository, _, commit = path.split("/")
        return f"[{owner}/{repository} @ {commit[:7]}](https://github.com/{owner}/{repository}/tree/{commit})"
    return f"[{host}]({source.url})" if host else f"or your own {source.file}"


if __name__ == "__main__":
    made = report_parts()
    for name in FILES:
        path = ROOT / name
        path.write_text(updated(path.read_text(), made))
