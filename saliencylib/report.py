"""Keeps README.md and REPORT.md equal to the newest mini run: ``python -m saliencylib.report``.

Both are written by hand but for the parts between marks, which come from the run's tables and records.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from saliencylib import claims
from saliencylib.plan import MINUTES, ROOT

RUN = "results/mini-short"
FILES = ("README.md", "REPORT.md")


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
    """The generated parts, as Markdown, from a run folder: verdicts (counts a paper), claims (a row each) and
    cost (a row a notebook)."""
    joined = claims.verdicts(folder)
    return {
        "verdicts": _markdown(claims.summary(joined)),
        "claims": _claims(joined),
        "cost": _cost(folder / "provenance.json"),
    }


def _claims(joined: pd.DataFrame) -> str:
    table = claims.readable(joined)
    table["claim"] = table["id"] + ": " + table["statement"]
    links = [claims.target(row) for row in joined.to_dict("records")]
    table["verdict"] = [
        f"[{verdict}]({RUN}/notebooks/{link})" if link else verdict
        for verdict, link in zip(table["verdict"], links, strict=True)
    ]
    return _markdown(table[["claim", "printed", "measured (95 % interval)", "n", "data", "verdict"]])


def _cost(path: Path) -> str:
    rows = []
    for notebook, entry in sorted(json.loads(path.read_text()).items()):
        minutes, whole = f"{entry['seconds'] / 60:.1f}", f"{MINUTES[notebook][path.parent.name]:g}"
        about = entry["device"], entry["versions"]["torch"], entry["finished"][:10]
        rows.append((notebook, minutes, whole, *about))
    columns = ["notebook", "minutes", "from an empty cache, about", "machine", "torch", "run on"]
    return _markdown(pd.DataFrame(rows, columns=columns))


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    made = parts()
    for name in FILES:
        path = ROOT / name
        path.write_text(updated(path.read_text(), made))
