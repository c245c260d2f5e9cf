"""What the papers claim, row by row, and the verdicts on it.

The claims stand in ``claims.csv``; notebooks write what they measured into a run folder; this module joins
the two by the rules of ``verdicts``. Rows and rules stand in one commit, which REPORT.md names with what was
changed late, and after which measurements.
"""

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pandas as pd
from nbformat import NotebookNode

from saliencylib import stats
from saliencylib.study import verdicts as rules
from saliencylib.study.plan import NOTEBOOK_OF
from saliencylib.study.records import digest_of_file, known

SOURCES = ("paper", "real", "embedded")
# The order in which verdicts are counted; those on embedded data follow theirs.
ORDER = ("holds", "does not hold", "undecided", "depends", "not telling", "not judged", "other data")
ORDER += rules.UNCOUNTED
ROUNDING = 1e-12  # what is nearer to zero is zero
NUMBERS = ["measured", "low", "high", "n", "p"]
MEASURED_COLUMNS = [
    "id",
    "axis",
    "case",
    "part",
    "measured",
    "low",
    "high",
    "n",
    "unit",
    "p",
    "data",
    "source",
]
MEASURED_COLUMNS += ["condition", "met", "reason"]
WORDS = ["axis", "case", "part", "unit", "data", "source", "condition", "reason"]


@dataclass(frozen=True)
class Condition:
    """Whether what a row presupposes holds, and the measured numbers that say so, in words."""

    met: bool
    text: str


def table() -> pd.DataFrame:
    """All claims, a row each: id, paper, where, kind, statement, printed, rule, margin, tolerance and words.

    ``printed`` is the paper's number in the unit that ``statement`` names, NaN where the claim is words. The
    words: ``measured_as`` says which number the rule is applied to, ``null`` the controls that must not pass,
    ``condition`` what must hold for a verdict, ``scope`` which data judge.
    """
    frame = pd.read_csv(Path(__file__).with_name("claims.csv"))
    words = ["measured_as", "null", "condition", "scope"]
    return frame.assign(**frame[words].fillna(""))


def rules_fixed() -> tuple[str, str]:
    """The commit, and its date, in which the rows and the rules of the verdicts stand."""
    commit, date = Path(__file__).with_name("rules_fixed.txt").read_text(encoding="utf-8").split()
    return commit, date


def measured_rows(
    claim: str,
    estimate: stats.Estimate,
    data: str,
    source: str,
    *,
    axis: str = "",
    case: str = "",
    nulls: Mapping[str, tuple[stats.Estimate, stats.Estimate]] | None = None,
    condition: Condition | None = None,
) -> list[dict]:
    """One measurement as rows of ``MEASURED_COLUMNS``: the effect, and two for each null control.

    ``nulls`` maps the name of a null control, one of those that claims.csv names, to its own effect and to
    the paired effect minus it. Raises ValueError for an unknown claim, source, axis or null control, a case
    without its axis, and a value that is NaN.
    """
    row, nulls = claim_row(claim), nulls or {}
    _check(source in SOURCES, f"source must be one of {', '.join(SOURCES)}, not {source!r}")
    _check(axis in rules.AXES, f"axis must be one of {', '.join(rules.AXES[1:])} or empty, not {axis!r}")
    _check(bool(axis) == bool(case), f"an axis needs a case and a case its axis, not {axis!r} and {case!r}")
    names = rules.null_names(row["null"])
    for name in nulls:
        _check(name in names, f"{claim} has no null control {name!r}; claims.csv names {names or 'none'}")
    parts = {"effect": estimate}
    for name, (alone, beyond) in nulls.items():
        parts |= {f"null: {name}": alone, f"beyond: {name}": beyond}
    met = {} if condition is None else {"condition": condition.text, "met": bool(condition.met)}
    about = {"data": data, "source": source, "reason": "", "condition": "", "met": ""} | met
    rows = []
    for part, found in parts.items():
        _check(not math.isnan(found.value), f"the measurement of {claim} ({part}) is NaN")
        numbers = dict(zip(("low", "high"), found.shown_interval, strict=True))
        numbers |= {name: getattr(found, name) for name in ("n", "unit")}
        p = rules.own_p(row["rule"], row["margin"], found) if part == "effect" else found.p
        place = {"id": claim, "axis": axis, "case": case, "part": part, "measured": found.value}
        rows.append(place | numbers | {"p": p} | about)
    return rows


def unmeasured_rows(claim: str, reason: str) -> list[dict]:
    """The row of a claim that a run could not measure, with the reason."""
    claim_row(claim)
    empty = dict.fromkeys(MEASURED_COLUMNS, "") | dict.fromkeys(NUMBERS, math.nan)
    return [empty | {"id": claim, "part": "effect", "reason": reason}]


def claim_row(claim: str) -> dict:
    """The row of claims.csv of one claim; raises ValueError for an id that it does not have."""
    rows = table().set_index("id", drop=False)
    _check(claim in rows.index, f"{claim!r} is not an id of claims.csv")
    return rows.loc[claim].to_dict()


def _check(right: bool, wrong: str) -> None:
    if not right:
        raise ValueError(wrong)


def verdicts(folder: str | Path) -> pd.DataFrame:
    """The claims table joined with everything that the notebooks of one run measured, and the verdicts.

    ``folder`` is a run folder such as ``results/mini-short``. The columns are those of ``judged``, and
    ``section``: the last heading above the cell that measured it, "" when no executed notebook of the run
    tells. Raises as ``measurements`` does.
    """
    joined = judged(measurements(folder))
    sections = {}
    for name in NOTEBOOK_OF.values():
        if executed := executed_notebook(Path(folder, "notebooks", f"{name}.ipynb")):
            sections |= measuring_sections(executed)
    return joined.assign(section=joined["id"].map(sections).fillna(""))


def executed_notebook(path: Path) -> NotebookNode | None:
    """An executed notebook, or None when it is absent or damaged."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError):
        return None  # nbformat takes what it reads for a notebook until something is missing
    return notebook


def measured_in(file: Path) -> pd.DataFrame:
    """What one notebook measured: a table with ``MEASURED_COLUMNS``.

    Raises FileNotFoundError when there is none, and ValueError, naming it, for a file that is something else,
    or not what the run's record says that the notebook wrote.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    digest = digest_of_file(file)
    entries = known(file.parents[1]).values()
    written = [entry.get("outputs", {}).get(f"tables/{file.name}", digest) for entry in entries]
    try:
        if not text.endswith("\n") or set(written) - {digest}:
            raise ValueError("it is not as it was written")
        return pd.read_csv(io.StringIO(text))[MEASURED_COLUMNS]
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{file} is damaged, no table of measurements: delete it and run its notebook again"
        ) from error


def measurements(folder: str | Path) -> pd.DataFrame:
    """What the notebooks of one run measured: rows of ``MEASURED_COLUMNS``, and ``notebook``.

    Raises FileNotFoundError when the folder holds none, and as ``measured_in`` does.
    """
    files = sorted(Path(folder).glob("tables/[0-9]*_claims.csv"))
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no tables/*_claims.csv: run the notebooks of this profile first"
        )
    parts = [measured_in(file).assign(notebook=file.name.removesuffix("_claims.csv")) for file in files]
    return pd.concat(parts, ignore_index=True)


def judged(measured: pd.DataFrame) -> pd.DataFrame:
    """The claims table joined with measurements (rows of ``MEASURED_COLUMNS``), and the verdicts.

    Adds the main measurement (its columns, and ``detectable``, half its interval), ``verdict``, ``remark``,
    ``p_holm``, and as people read them ``shown`` (all that was measured), ``nulls`` and ``learned`` (the
    condition). A claim whose metrics must agree has the first of them as its main measurement.
    """
    measured = main_first(measured)
    parts = dict(list(measured.groupby("id", sort=False)))
    rows = {row["id"]: row for row in table().to_dict("records")}
    cases = {claim: _cases(part) for claim, part in parts.items()}
    found = rules.decided(rows, cases)
    told = pd.DataFrame(
        [(v.word, v.remark, v.p_holm) for v in found.values()], columns=["verdict", "remark", "p_holm"]
    )
    texts = [_texts(row, parts.get(claim, measured.iloc[:0])) for claim, row in rows.items()]
    effects = measured[measured["part"] == "effect"].drop_duplicates("id").drop(columns=["part", "condition"])
    joined = table().merge(effects, on="id", how="left")
    words = [name for name in WORDS if name in effects]
    joined = joined.assign(
        **joined[words].fillna(""),
        met=joined["met"].map(_met),
        detectable=(joined["high"] - joined["low"]) / 2,
    )
    return joined.join(told).join(pd.DataFrame(texts, columns=["shown", "nulls", "learned"]))


def main_first(measured: pd.DataFrame) -> pd.DataFrame:
    """Rows of measurements without empty words, those that judge before those beside them."""
    measured = measured.assign(**measured[WORDS].fillna(""))
    return measured.sort_values("axis", key=lambda axis: ~axis.isin(("", *rules.AGREEING)), kind="stable")


def _cases(measured: pd.DataFrame) -> list[rules.Case]:
    """The cases of one claim from its rows, in their order."""
    groups = measured.groupby(["axis", "case"], sort=False)
    return [_case(axis, case, rows.to_dict("records")) for (axis, case), rows in groups]


def _case(axis: str, case: str, rows: list[dict]) -> rules.Case:
    parts = {
        row["part"]: rules.Part(*(row[name] for name in ("measured", "low", "high", "p"))) for row in rows
    }
    main = rows[0]
    return rules.Case(
        effect=None if math.isnan(main["measured"]) else parts["effect"],
        beyond={
            name.removeprefix("beyond: "): part for name, part in parts.items() if name.startswith("beyond: ")
        },
        met=_met(main["met"]),
        axis=axis,
        case=case,
        **{name: main[name] for name in ("n", "unit", "source", "reason", "condition")},
    )


def _met(value: object) -> bool | None:
    """A stored "met" as truth value; None where a row has no condition."""
    return {"True": True, "False": False}.get(str(value))


def _texts(row: dict, parts: pd.DataFrame) -> tuple[str, str, str]:
    """What was measured in all cases, the null controls and the condition of one claim, as people read them.

    Where a run measured none, the last two are what claims.csv asks for.
    """
    records = parts[parts["measured"].notna()].to_dict("records")
    effects = [part for part in records if part["part"] == "effect"]
    beyond = {(p["axis"], p["case"], p["part"]): p for p in records}
    nulls = []
    for part in (part for part in records if part["part"].startswith("null: ")):
        name = part["part"].removeprefix("null: ")
        after = _interval(beyond[part["axis"], part["case"], f"beyond: {name}"])
        nulls.append(f"{_labelled(part, name)} {_interval(part)}, beyond it {after}")
    measured = "; ".join(f"{_labelled(part)} {_interval(part, row['rule'])}".strip() for part in effects)
    told = {"True": "met: ", "False": "not met: "}
    conditions = [told[str(p["met"])] + p["condition"] for p in effects if str(p["met"]) in told]
    return measured, "; ".join(nulls) or row["null"], "; ".join(dict.fromkeys(conditions)) or row["condition"]


def _labelled(part: dict, name: str = "") -> str:
    """Which case a number is of, and of what, with a colon; "" for the main one."""
    axis = "" if part["axis"] in ("", *rules.AGREEING) else part["axis"]
    label = " ".join(filter(None, (axis, part["case"], name)))
    return f"{label}:" if label else ""


def _interval(part: dict, rule: str = "") -> str:
    if rule == "exact":
        return "passed" if part["measured"] == 1 else "failed"
    value, *ends = (0.0 if abs(part[name]) < ROUNDING else part[name] for name in ("measured", "low", "high"))
    if not all(map(math.isfinite, ends)):
        return f"{value:.3g}"
    if part["part"].startswith("null: ") and ends[0] == ends[1]:
        return f"{value:.3g} in all"
    return f"{value:.3g} [{ends[0]:.3g}, {ends[1]:.3g}]"


def readable(joined: pd.DataFrame) -> pd.DataFrame:
    """A judged table as people read it: id, where, statement, printed, what is measured, its value with
    interval, null control, condition, n, data, verdict with remark, and where it was measured (a link to the
    section, when the table comes from a run folder)."""
    rows = joined.to_dict("records")
    shown = joined[["id", "where", "statement"]].assign(printed=[_number(row["printed"]) for row in rows])
    shown["what is measured"] = joined["measured_as"]
    shown["measured (95 % interval)"] = joined["shown"]
    shown["null control"] = joined["nulls"]
    shown["condition"] = joined["learned"]
    shown["n"] = [_count(row) for row in rows]
    shown["data"] = joined["data"]
    shown["verdict"] = [": ".join(filter(None, (row["verdict"], row["remark"]))) for row in rows]
    if "section" in joined:
        links = [(section_link(row), row["section"]) for row in rows]
        shown["measured in"] = [
            ", ".join(filter(None, (f'<a href="{link}">{link[:2]}</a>', section))) if link else ""
            for link, section in links
        ]
    return shown


def measuring_cells(notebook: NotebookNode) -> dict[str, int]:
    """Which cell of an executed notebook, by index, was the first to measure each claim, as the cells'
    outputs say: what stands beside the main measurement may follow in others."""
    return {
        claim: index
        for index, cell in reversed([*enumerate(notebook.cells)])
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


def _count(row: dict) -> str:
    return "" if math.isnan(row["n"]) or row["rule"] == "exact" else f"{row['n']:.0f} {row['unit']}"


def verdict_counts(joined: pd.DataFrame) -> pd.DataFrame:
    """Counts of verdicts (columns) by paper (rows, as in ``joined``): first those that judge a claim, of
    embedded data in columns of their own; checks of code and what is only shown come last."""
    words = joined["verdict"].map(counted_as)
    counts = pd.crosstab(joined["paper"], words).loc[joined["paper"].unique()]
    order = sorted(counts, key=lambda word: (ORDER.index(word.removesuffix(" (embedded)")), word))
    counts = counts[order]
    counts.columns.name = None
    return counts.reset_index()


def counted_as(verdict: str) -> str:
    """The verdict without the axis that it depends on."""
    return re.sub(r"^depends on the [\w ]*\w", "depends", verdict)


def counted(joined: pd.DataFrame) -> pd.DataFrame:
    """The rows that judge a claim of a paper: without checks of code and what is only shown."""
    return joined[~joined["rule"].isin(["exact", "shown"])]
