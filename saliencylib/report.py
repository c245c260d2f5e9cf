"""Keeps README.md, REPORT.md and DATA.md equal to the newest mini run: ``python -m saliencylib.report``.

They are written by hand but for the parts between marks, which come from the run's tables and records.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pandas as pd

from saliencylib import claims, datasets
from saliencylib.plan import MINUTES, NEEDS, NOTEBOOKS, ROOT, SETUP_GIGABYTES

RUN = "results/mini-short"
# The claims that the README tells first: what each paper is remembered for.
MAIN = ("SM-D1", "SM-D2", "SM-D3", "SM-D4", "SC-D1b", "SC-X10", "LI-F12a", "LI-F15b", "LI-X6")
FILES = ("README.md", "REPORT.md", "DATA.md")


def updated(text: str, parts: Mapping[str, str]) -> str:
    """A text with what stands between ``<!-- NAME: ... -->`` and ``<!-- end of NAME -->`` replaced, for every
    part by name whose marks it has. Raises ValueError when it has none, or a mark without its end."""
    found = 0
    for name, part in parts.items():
        start, end = f"<!-- {name}: written by python -m saliencylib.report -->", f"<!-- end of {name} -->"
        if start in text:
            if end not in text:
                raise ValueError(f"the mark {start!r} has no {end!r}")
            before, rest = text.split(start)
            text = f"{before}{start}\n{part}\n{end}{rest.split(end)[1]}"
            found += 1
    if not found:
        raise ValueError(f"no marks of {', '.join(parts)} in this text")
    return text


def parts(folder: Path = ROOT / RUN) -> dict[str, str]:
    """The generated parts, as Markdown, from a run folder: verdicts (counts a paper), main claims and claims
    (a row each), trust (what the verdicts rest on) and cost (a row a notebook); and from the project:
    notebooks (where each opens), profiles and data."""
    joined = claims.verdicts(folder)
    return {
        "verdicts": _markdown(claims.summary(joined)),
        "main claims": _claims(joined.set_index("id").loc[list(MAIN)].reset_index()),
        "claims": _claims(joined),
        "trust": _trust(joined),
        "cost": _cost(folder / "provenance.json"),
        "notebooks": _notebooks(),
        "profiles": _profiles(),
        "data": _data(),
    }


def repository() -> str:
    """The project's public address, from pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


def _claims(joined: pd.DataFrame) -> str:
    table = claims.readable(joined)
    table["claim"] = table["id"] + ": " + table["statement"]
    table["judged by"] = joined["estimate"].to_numpy()
    links = [claims.target(row) for row in joined.to_dict("records")]
    table["verdict"] = [
        f"[{verdict}]({RUN}/notebooks/{link})" if link else verdict
        for verdict, link in zip(table["verdict"], links, strict=True)
    ]
    shown = ["claim", "judged by", "printed", "measured (95 % interval)", "n", "data", "verdict"]
    return _markdown(table[shown])


def _trust(joined: pd.DataFrame) -> str:
    """Which verdicts are checks of code, and which do not survive Holm's adjustment."""
    checks = joined.loc[(joined["kind"] == "exact") & joined["measured"].notna(), "id"]
    clear = joined[joined["verdict"].str.contains("hold") & joined["p_holm"].notna()]
    fragile = clear.loc[clear["p_holm"] > 0.05, "id"]
    return (
        f"{', '.join(checks)} check code against equations and printed sizes. Of the {len(clear)} verdicts "
        f"that rest on a test, {len(fragile)} do not survive Holm's adjustment within their paper: "
        f"{', '.join(fragile) or 'none'}."
    )


def _cost(path: Path) -> str:
    rows = []
    for notebook, entry in sorted(json.loads(path.read_text()).items()):
        minutes, whole = f"{entry['seconds'] / 60:.1f}", f"{MINUTES[notebook][path.parent.name]:g}"
        about = entry["device"], entry["versions"]["torch"], entry["finished"][:10]
        rows.append((notebook, minutes, whole, *about))
    columns = ["notebook", "minutes", "from an empty cache, about", "machine", "torch", "run on"]
    return _markdown(pd.DataFrame(rows, columns=columns))


def _notebooks() -> str:
    """A row a notebook: its link, its question, and where it opens without an installation."""
    place = repository().removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{place}/blob/main/notebooks"
    binder = f"https://mybinder.org/v2/gh/{place}/main?labpath=notebooks"
    rows = []
    for name in NOTEBOOKS:
        first = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells[0].source
        title = first.splitlines()[0].removeprefix("# ")
        opens = f"[Colab]({colab}/{name}.ipynb) or [Binder]({binder}/{name}.ipynb)"
        rows.append((f"[`{name}`](notebooks/{name}.ipynb)", title, opens))
    return _markdown(pd.DataFrame(rows, columns=["notebook", "about", "open in"]))


WHERE = {
    "quick": "any machine, no network",
    "mini-short": "2 CPU cores",
    "paper-full": "one GPU (planned, not run yet)",
}


def _profiles() -> str:
    """A row a run: its options, data with their size on disk, machine and minutes."""
    rows = []
    for run, where in WHERE.items():
        profile, _, schedule = run.partition("-")
        sets = list(dict.fromkeys(name for needs in NEEDS.values() for name in needs.get(profile, ())))
        size = sum(datasets.REGISTRY[name].size for name in sets) / 1e9
        options = f"`--profile {profile}`" + (f" `--schedule {schedule}`" if schedule else "")
        disk = f"{SETUP_GIGABYTES + size:.1f} GB"
        minutes = f"{sum(MINUTES[notebook][run] for notebook in NOTEBOOKS):.0f} minutes"
        rows.append((options, ", ".join(sets) or "embedded", disk, where, minutes))
    return _markdown(pd.DataFrame(rows, columns=["options", "data", "disk", "machine", "time"]))


def _data() -> str:
    """A row a data set that is not embedded: who uses it, its size, its licence, how to get it."""
    users: dict[str, list[str]] = {}
    for notebook, needs in NEEDS.items():
        for profile, sets in needs.items():
            for name in sets:
                users.setdefault(name, []).append(f"{notebook[:2]} {profile}")
    rows = []
    for name, used in users.items():
        entry = datasets.REGISTRY[name]
        rows.append((name, ", ".join(used), f"{entry.size / 1e6:,.0f} MB", entry.licence, entry.how))
    return _markdown(pd.DataFrame(rows, columns=["set", "used by", "size", "licence", "to get it"]))


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    made = parts()
    for name in FILES:
        path = ROOT / name
        path.write_text(updated(path.read_text(), made))
