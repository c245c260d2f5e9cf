import math

import pandas as pd
import pytest

from saliencylib.study import claims, session as profiles
from saliencylib import stats
from saliencylib.stats import Estimate


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
    stems = {
        *[f"SM-{s}" for s in "T1 T2 D1 D2 D3 D4 O1 F6 F7 E1 X1 X2 X3 X4 X5".split()],
        *[f"SC-{s}" for s in "A1 S1 T3 T4 D1 D2 D3 D4".split()],
        *[f"SC-X{n}" for n in range(1, 13)],
        *[f"LI-{s}" for s in "E1 F6 F7 F12 F21 F15a F15o F15b F16".split()],
        *[f"LI-X{n}" for n in range(1, 8)],
    }
    missing = {stem for stem in stems if not table["id"].str.startswith(stem).any()}
    assert not missing


def test_run_folder_is_joined_and_judged(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path))
    monkeypatch.setitem(profiles.SETTINGS["04_scoreboard"], "quick", {})
    run = profiles.start("04_scoreboard", "quick", device="cpu")
    run.measure("SM-D1", Estimate(1.0, 0.5, 1.5, 6, 0.01), "somewhere", "real", "A section")
    run.measure("SM-D2", Estimate(1.0, -0.5, 2.5, 6, 0.03), "somewhere", "real", "A section")
    run.not_measured("SM-X1", "too long")
    assert set(run.verdicts()["id"]) == {"SM-D1", "SM-D2", "SM-X1"}
    joined = claims.verdicts(tmp_path / "quick").set_index("id")
    assert len(joined) == len(claims.table())
    assert joined.loc["SM-D1", "verdict"] == "holds"
    assert joined.loc["SM-D1", "p_holm"] == pytest.approx(0.02)
    assert joined.loc["SM-D2", "verdict"] == "undecided"
    assert joined.loc["LI-X1", "verdict"] == "not measured"
    shown = claims.readable(joined.reset_index()).set_index("id")["verdict"]
    assert shown["SM-X1"] == "not measured: too long"
    assert shown["SM-D2"] == "undecided; smallest visible effect 1.5"


def test_bad_measurements_are_refused(tmp_path):
    with pytest.raises(ValueError, match="SM-D99"):
        claims.measured_row("SM-D99", Estimate(1, 0, 2, 3), "d", "real", "c")
    with pytest.raises(ValueError, match="source"):
        claims.measured_row("SM-D1", Estimate(1, 0, 2, 3), "d", "reel", "c")
    with pytest.raises(ValueError, match="NaN"):
        claims.measured_row("SM-D1", Estimate(math.nan, 0, 2, 3), "d", "real", "c")
    with pytest.raises(FileNotFoundError, match="run the notebooks"):
        claims.verdicts(tmp_path)


def test_what_is_undecided_about_a_margin_names_the_margin():
    rows = [
        claims.measured_row("SC-X12", Estimate(-0.02, -0.04, 0.001, 3, 0.1), "d", "real", "c"),
        claims.measured_row("SC-X5", Estimate(0.1, -0.1, 0.3, 6, 0.3), "d", "real", "c"),
    ]
    shown = claims.readable(claims.judged(pd.DataFrame(rows))).set_index("id")["verdict"]
    assert shown["SC-X12"] == "undecided; the margin is 0.01"
    assert shown["SC-X5"] == "undecided; smallest visible effect 0.2"


def test_summary_counts_every_claim_in_the_order_of_papers_and_verdicts():
    row = claims.measured_row("SM-E1", stats.exact(True), "d", "real", "c")
    counts = claims.summary(claims.judged(pd.DataFrame([row], columns=claims.MEASURED_COLUMNS)))
    assert counts.drop(columns="paper").to_numpy().sum() == len(claims.table())
    assert list(counts["paper"]) == ["Sal-Mask", "Shallow CNN", "LICNN"]
    assert list(counts)[1:] == ["holds", "not measured"]
