import math

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from saliencylib import stats
from saliencylib.stats import Estimate
from saliencylib.study import claims, session


def row(rule, low, high, source="real", printed=math.nan, margin=math.nan, tolerance=math.nan):
    measured = (low + high) / 2
    return {
        "id": "SM-D1",
        "rule": rule,
        "measured": measured,
        "low": low,
        "high": high,
        "source": source,
        "printed": printed,
        "margin": margin,
        "tolerance": tolerance,
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (row("positive", 0.1, 2), "holds"),
        (row("positive", -2, -0.1), "does not hold"),
        (row("positive", -1, 1), "undecided"),
        (row("positive", 0.1, 2, source="embedded"), "holds (embedded)"),
        (row("not_below", -0.9, 3, margin=1), "holds"),
        (row("not_below", -3, -1.1, margin=1), "does not hold"),
        (row("not_below", -1.1, 3, margin=1), "undecided"),
        (row("comparable", -0.04, 0.04, margin=0.05), "holds"),
        (row("comparable", 0.06, 0.1, margin=0.05), "does not hold"),
        (row("comparable", 0.04, 0.1, margin=0.05), "undecided"),
        (row("no_effect", -1, 1), "holds"),
        (row("no_effect", 0.5, 1), "does not hold"),
        (row("value", 60, 61, source="paper", printed=61.4, tolerance=0.5), "holds"),
        (row("value", 60, 61, source="paper", printed=61.6, tolerance=0.5), "does not hold"),
        (row("value", 60, 61, source="real", printed=60.5, tolerance=0.5), "other data"),
        (row("ratio", 5, 7, source="real", printed=6, tolerance=1), "holds"),
        (row("ratio", 8, 9, source="real", printed=6, tolerance=1), "does not hold"),
        (row("exact", 1, 1), "holds"),
        (row("exact", 0, 0), "does not hold"),
    ],
)
def test_verdict_rules(given, expected):
    assert claims.verdict(given) == expected


def test_unknown_rule_names_the_valid_ones():
    with pytest.raises(ValueError, match="positive"):
        claims.verdict(row("better", 0, 1))


def test_table_is_complete_and_consistent():
    table = claims.table()
    assert table["id"].is_unique
    assert set(table["rule"]) <= set(claims.RULES)
    assert table.loc[table["rule"].isin(["value", "ratio"]), ["printed", "tolerance"]].notna().all(axis=None)
    assert table.loc[table["rule"].isin(["not_below", "comparable"]), "margin"].notna().all()


def measuring_notebook(**sections):
    """An executed notebook that measured one claim in each section."""
    notebook = new_notebook(cells=[new_markdown_cell("# T\n\n## The result")])
    for heading, claim in sections.items():
        mark = new_output("display_data", {"text/plain": claim}, metadata={"claims": [claim]})
        notebook.cells += [new_markdown_cell(f"## {heading}\n\n### In {heading}"), new_code_cell("x")]
        notebook.cells.append(new_code_cell("run.measure()", outputs=[mark]))
    return notebook


def test_the_measuring_cell_and_its_section_are_told_by_the_outputs():
    notebook = measuring_notebook(One="SM-D1", Two="SM-D2")
    assert claims.measuring_cells(notebook) == {"SM-D1": 3, "SM-D2": 6}
    assert claims.measuring_sections(notebook) == {"SM-D1": "In One", "SM-D2": "In Two"}


def test_run_folder_is_joined_and_judged(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path))
    run = session.start("04_scoreboard", "quick", device="cpu")
    run.measure("SM-D1", Estimate(1.0, 0.5, 1.5, 6, 0.01), "somewhere", "real")
    run.measure("SM-D2", Estimate(1.0, -0.5, 2.5, 6, 0.03), "somewhere", "real")
    run.not_measured("SM-X1", "too long")
    assert set(run.verdicts()["id"]) == {"SM-D1", "SM-D2", "SM-X1"}
    (tmp_path / "quick" / "notebooks").mkdir()
    nbformat.write(measuring_notebook(A="SM-D1"), tmp_path / "quick" / "notebooks" / "01_sal_mask.ipynb")
    joined = claims.verdicts(tmp_path / "quick").set_index("id")
    assert len(joined) == len(claims.table())
    assert joined.loc["SM-D1", "verdict"] == "holds"
    assert joined.loc["SM-D1", "p_holm"] == pytest.approx(0.02)
    assert joined.loc["SM-D2", "verdict"] == "undecided"
    assert joined.loc["LI-X1", "verdict"] == "not measured"
    shown = claims.readable(joined.reset_index()).set_index("id")
    assert shown.loc["SM-X1", "verdict"] == "not measured: too long"
    assert shown.loc["SM-D2", "verdict"] == "undecided; smallest visible effect 1.5"
    assert shown.loc["SM-D1", "measured in"] == '<a href="01_sal_mask.ipynb#In-A">01</a>'
    assert shown.loc["SM-D2", "measured in"] == '<a href="01_sal_mask.ipynb">01</a>', "no cell tells"
    assert shown.loc["SM-X1", "measured in"] == ""


def test_measuring_marks_the_cell_with_the_claim(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path))
    shown = []
    monkeypatch.setattr(session, "display", lambda data, raw, metadata: shown.append((data, metadata)))
    run = session.start("01_sal_mask", "quick", device="cpu")
    run.measure("SM-D1", Estimate(1.0, 0.5, 1.5, 6), "somewhere", "real")
    run.not_measured("SM-X1", "too long")
    assert [metadata for _, metadata in shown] == [{"claims": ["SM-D1"]}, {"claims": ["SM-X1"]}]
    assert [data["text/plain"] for data, _ in shown] == ["measured: SM-D1", "not measured: SM-X1"]


def test_source_code_is_the_librarys_own():
    shown = session.source_code(session.Run.show_settings).data
    assert shown.startswith("```python\ndef show_settings(self)") and shown.endswith("\n```")
    compile(shown.removeprefix("```python").removesuffix("```"), "shown", "exec")


def test_bad_measurements_are_refused(tmp_path):
    with pytest.raises(ValueError, match="SM-D99"):
        claims.measured_row("SM-D99", Estimate(1, 0, 2, 3), "d", "real")
    with pytest.raises(ValueError, match="source"):
        claims.measured_row("SM-D1", Estimate(1, 0, 2, 3), "d", "reel")
    with pytest.raises(ValueError, match="NaN"):
        claims.measured_row("SM-D1", Estimate(math.nan, 0, 2, 3), "d", "real")
    with pytest.raises(FileNotFoundError, match="run the notebooks"):
        claims.verdicts(tmp_path)


def test_what_is_undecided_about_a_margin_names_the_margin():
    rows = [
        claims.measured_row("SC-X12", Estimate(-0.02, -0.04, 0.001, 3, 0.1), "d", "real"),
        claims.measured_row("SC-X5", Estimate(0.1, -0.1, 0.3, 6, 0.3), "d", "real"),
    ]
    shown = claims.readable(claims.judged(pd.DataFrame(rows))).set_index("id")["verdict"]
    assert shown["SC-X12"] == "undecided; the margin is 0.01"
    assert shown["SC-X5"] == "undecided; smallest visible effect 0.2"


def test_counts_hold_every_claim_in_the_order_of_papers_and_verdicts():
    row = claims.measured_row("SM-E1", stats.exact(True), "d", "real")
    counts = claims.verdict_counts(claims.judged(pd.DataFrame([row], columns=claims.MEASURED_COLUMNS)))
    assert counts.drop(columns="paper").to_numpy().sum() == len(claims.table())
    assert list(counts["paper"]) == ["Sal-Mask", "Shallow CNN", "LICNN"]
    assert list(counts)[1:] == ["holds", "not measured"]
