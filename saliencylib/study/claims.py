"""What the papers claim, row by row, and the verdicts on it.

The claims stand in ``claims.csv``; notebooks write what they measured into a run folder; this module joins
the two by rules that were fixed before looking.
"""

import math
import re
from pathlib import Path

import nbformat
import pandas as pd
from nbformat import NotebookNode

from saliencylib import stats
from saliencylib.study.plan import NOTEBOOK_OF

RULES = {
    "exact": "an assert: holds when it passes",
    "value": "judged on the paper's own data only: holds when the printed value lies within the 95 % "
    "interval widened by the tolerance",
    "ratio": "judged on any real data: holds when the printed value lies within the 95 % interval widened by "
    "the tolerance",
    "positive": "holds when the 95 % interval of the difference lies above zero, does not hold when below",
    "not_below": "holds when the 95 % interval lies above minus the margin, does not hold when below it",
    "comparable": "holds when the 95 % interval lies within plus and minus the margin, does not hold when "
    "outside",
    "no_effect": "holds when the 95 % interval of the difference includes zero",
}
SOURCES = ("paper", "real", "embedded")
VERDICTS = ("holds", "undecided", "does not hold", "other data", "not measured")
MEASURED_COLUMNS = ["id", "measured", "low", "high", "n", "unit", "p", "data", "source", "reason"]


def table() -> pd.DataFrame:
    """All claims, a row each: id, paper, where, kind, statement, printed, rule, margin, tolerance, estimate.

    ``printed`` is the paper's number in the unit that ``statement`` names, NaN where the claim is words.
    ``estimate`` says which measured difference or value the rule is applied to.
    """
    return pd.read_csv(Path(__file__).with_name("claims.csv"))


def measured_row(claim: str, estimate: stats.Estimate, data: str, source: str) -> dict:
    """One measurement as a row of ``MEASURED_COLUMNS``; raises ValueError for an unknown claim or source."""
    _check_id(claim)
    if source not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}, not {source!r}")
    if math.isnan(estimate.value):
        raise ValueError(f"the measurement of {claim} is NaN")
    numbers = {name: getattr(estimate, name) for name in ("low", "high", "n", "unit", "p")}
    about = {"data": data, "source": source, "reason": ""}
    return {"id": claim, "measured": estimate.value} | numbers | about


def unmeasured_row(claim: str, reason: str) -> dict:
    """The row of a claim that a run could not measure, with the reason."""
    _check_id(claim)
    return dict.fromkeys(MEASURED_COLUMNS, float("nan")) | {"id": claim, "reason": reason}


def verdicts(folder: str | Path) -> pd.DataFrame:
    """The claims table joined with everything that the notebooks of one run measured, and the verdicts.

    ``folder`` is a run folder such as ``results/mini-short``. Adds the columns of ``MEASURED_COLUMNS``,
    ``notebook``, ``p_holm`` (adjusted within a paper), ``detectable``, ``verdict`` and ``section`` (the last
    heading above the cell that measured it, "" when no executed notebook of the run tells). Raises
    FileNotFoundError when the folder holds no measurements.
    """
    files = sorted(Path(folder).glob("tables/*_claims.csv"))
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no tables/*_claims.csv: run the notebooks of this profile first"
        )
    parts = [pd.read_csv(file).assign(notebook=file.name.removesuffix("_claims.csv")) for file in files]
    joined = judged(pd.concat(parts, ignore_index=True))
    stored = [Path(folder, "notebooks", f"{name}.ipynb") for name in NOTEBOOK_OF.values()]
    sections = {}
    for path in filter(Path.exists, stored):
        sections |= measuring_sections(nbformat.read(path, as_version=4))
    return joined.assign(section=joined["id"].map(sections).fillna(""))


def judged(measured: pd.DataFrame) -> pd.DataFrame:
    """The claims table joined with measurements (rows of ``MEASURED_COLUMNS``), and the verdicts."""
    joined = table().merge(measured, on="id", how="left")
    joined["detectable"] = (joined["high"] - joined["low"]) / 2
    joined["p_holm"] = joined.groupby("paper")["p"].transform(lambda p: stats.holm(p.to_numpy()))
    joined["verdict"] = [verdict(row) for row in joined.to_dict("records")]
    joined["reason"] = joined["reason"].fillna("")
    return joined


def verdict(row: dict) -> str:
    """The verdict on one joined row: "holds", "does not hold", "undecided", "other data" or "not measured".

    On embedded data the verdict ends with "(embedded)": there it only shows that the machinery works.
    """
    if math.isnan(row["measured"]):
        return "not measured"
    if row["rule"] == "exact":
        return "holds" if row["measured"] == 1 else "does not hold"
    if row["rule"] == "value" and row["source"] != "paper":
        return "other data"
    suffix = " (embedded)" if row["source"] == "embedded" else ""
    return _decided(row) + suffix


def _decided(row: dict) -> str:
    low, high, margin = row["low"], row["high"], row["margin"]
    match row["rule"]:
        case "value" | "ratio":
            inside = low - row["tolerance"] <= row["printed"] <= high + row["tolerance"]
            return "holds" if inside else "does not hold"
        case "no_effect":
            return "holds" if low <= 0 <= high else "does not hold"
        case "positive":
            return _sided(low > 0, high < 0)
        case "not_below":
            return _sided(low > -margin, high < -margin)
        case "comparable":
            return _sided(-margin < low and high < margin, low > margin or high < -margin)
    raise ValueError(f"claim {row['id']} has the unknown rule {row['rule']!r}; valid: {', '.join(RULES)}")


def _sided(holds: bool, fails: bool) -> str:
    return "holds" if holds else "does not hold" if fails else "undecided"


def _check_id(claim: str) -> None:
    if claim not in set(table()["id"]):
        raise ValueError(f"{claim!r} is not an id of claims.csv")


def readable(joined: pd.DataFrame) -> pd.DataFrame:
    """A judged table as people read it: id, where, statement, printed, measured, n, data, verdict, and where
    it was measured (a link to the section, when the table comes from a run folder)."""
    rows = joined.to_dict("records")
    shown = joined[["id", "where", "statement"]].assign(printed=[_number(row["printed"]) for row in rows])
    shown["measured (95 % interval)"] = [_interval(row) for row in rows]
    shown["n"] = [_count(row) for row in rows]
    shown["data"] = joined["data"].fillna("")
    shown["verdict"] = [_with_remark(row) for row in rows]
    if "section" in joined:
        links = [section_link(row) for row in rows]
        shown["measured in"] = [f'<a href="{link}">{link[:2]}</a>' if link else "" for link in links]
    return shown


def measuring_cells(notebook: NotebookNode) -> dict[str, int]:
    """Which cell of an executed notebook, by index, measured each claim, as the cells' outputs say."""
    return {
        claim: index
        for index, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", ())
        for claim in output.get("metadata", {}).get("claims", ())
    }


def measuring_sections(notebook: NotebookNode) -> dict[str, str]:
    """The heading that stands last above the cell that measured each claim."""
    cells = measuring_cells(notebook)
    return {claim: [h for c in notebook.cells[:i] for h in headings(c)][-1] for claim, i in cells.items()}


def headings(cell: NotebookNode) -> list[str]:
    """The headings of a notebook's cell, those of Markdown cells."""
    text = cell.source if cell.cell_type == "markdown" else ""
    return re.findall(r"^#{1,4} (.+)$", text, flags=re.MULTILINE)


def section_link(row: dict) -> str:
    """The notebook and, where known, its section that measured a judged row, as a relative link, or ""."""
    if math.isnan(row["measured"]):
        return ""
    section = row["section"].replace(" ", "-")
    return f"{NOTEBOOK_OF[row['paper']]}.ipynb" + (f"#{section}" if section else "")


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if value >= 10_000 else f"{value:g}"


def _interval(row: dict) -> str:
    if math.isnan(row["measured"]):
        return ""
    if row["rule"] == "exact":
        return "passed" if row["measured"] == 1 else "failed"
    if math.isinf(row["low"]):
        return f"{row['measured']:.3g}"
    return f"{row['measured']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"


def _count(row: dict) -> str:
    return "" if math.isnan(row["n"]) or row["rule"] == "exact" else f"{row['n']:.0f} {row['unit']}"


def _with_remark(row: dict) -> str:
    if row["verdict"] == "not measured":
        return f"not measured: {row['reason'] or 'no notebook of this run measured it'}"
    if not row["verdict"].startswith("undecided"):
        return row["verdict"]
    if row["margin"] > 0:
        return f"{row['verdict']}; the margin is {row['margin']:g}"
    seen = f"; smallest visible effect {row['detectable']:.2g}" if math.isfinite(row["detectable"]) else ""
    return row["verdict"] + seen


def verdict_counts(joined: pd.DataFrame) -> pd.DataFrame:
    """Counts of verdicts (columns, in the order of ``VERDICTS``) by paper (rows, as in ``joined``); embedded
    verdicts are columns of their own."""
    counts = pd.crosstab(joined["paper"], joined["verdict"]).loc[joined["paper"].unique()]
    order = sorted(counts, key=lambda verdict: (VERDICTS.index(verdict.removesuffix(" (embedded)")), verdict))
    counts = counts[order]
    counts.columns.name = None
    return counts.reset_index()
