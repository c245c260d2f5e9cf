"""Keeps the README's table of verdicts equal to the newest mini run: ``python -m saliencylib.readme``."""

from pathlib import Path

import pandas as pd

from saliencylib import claims
from saliencylib.plan import ROOT

RUN = "results/mini-short"
START, END = "<!-- verdicts: written by python -m saliencylib.readme -->", "<!-- end of verdicts -->"


def updated(text: str, folder: Path = ROOT / RUN) -> str:
    """A README's text with the part between the marks replaced by the verdicts of a run folder.

    Raises ValueError when the marks are missing.
    """
    if START not in text or END not in text:
        raise ValueError(f"README.md must hold the lines {START!r} and {END!r}")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n{verdict_text(claims.verdicts(folder))}\n{END}{after}"


def verdict_text(joined: pd.DataFrame) -> str:
    """Counts a paper, then every claim, as Markdown."""
    summary = claims.summary(joined)
    table = claims.readable(joined)
    table["claim"] = table["id"] + ": " + table["statement"]
    links = [claims.target(row) for row in joined.to_dict("records")]
    table["verdict"] = [
        f"[{verdict}]({RUN}/notebooks/{link})" if link else verdict
        for verdict, link in zip(table["verdict"], links, strict=True)
    ]
    columns = ["claim", "printed", "measured (95 % interval)", "n", "data", "verdict"]
    return _markdown(summary) + "\n\n" + _markdown(table[columns])


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text()))
