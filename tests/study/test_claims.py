import math
import re
import subprocess

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from saliencylib import stats
from saliencylib.places import ROOT
from saliencylib.stats import Estimate
from saliencylib.study import claims, session, verdicts


def test_table_is_complete_and_consistent():
    table = claims.table()
    assert table["id"].is_unique
    assert set(table["rule"]) <= set(verdicts.RULES)
    assert table.loc[table["rule"] == "value", ["printed", "tolerance"]].notna().all(axis=None)
    assert table.loc[table["rule"].isin(["not_below", "comparable"]), "margin"].notna().all()
    assert (table["rule"] == "exact").equals(table["kind"] == "exact")


def test_every_row_says_what_is_measured_and_which_control_must_not_pass_or_why_there_is_none():
    table = claims.table()
    assert table.loc[table["measured_as"] == "", "id"].tolist() == []
    for row in table.itertuples():
        assert row.null.startswith("none: ") or verdicts.null_names(row.null), row.id
    silent = table["rule"].isin(["shown", "untestable"]) & (table["scope"] == "")
    assert table.loc[silent, "id"].tolist() == []


def test_the_rules_have_not_changed_since_the_commit_that_the_scoreboard_names():
    commit, date = claims.rules_fixed()
    assert re.fullmatch(r"[0-9a-f]{7,40}", commit) and re.fullmatch(r"\d{4}-\d\d-\d\d", date)
    if not int(commit, 16):
        pytest.skip("the rules are not fixed yet")
    git = ["git", "-C", str(ROOT)]
    shallow = subprocess.run([*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True)
    known = subprocess.run([*git, "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True)
    if shallow.returncode or (shallow.stdout.strip() == "true" and known.returncode):
        pytest.skip("no repository, or a shallow one without the commit that fixed the rules")
    for name in ("claims.csv", "verdicts.py"):
        show = [*git, "show", f"{commit}:saliencylib/study/{name}"]
        fixed = subprocess.run(show, capture_output=True, check=True).stdout
        assert (ROOT / "saliencylib" / "study" / name).read_bytes() == fixed, name


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
    notebook.cells += measuring_notebook(Two="SM-D1").cells  # beside the main measurement
    assert claims.measuring_cells(notebook) == {"SM-D1": 3, "SM-D2": 6}
    assert claims.measuring_sections(notebook) == {"SM-D1": "In One", "SM-D2": "In Two"}


LEARNED = claims.Condition(True, "plain 33 %, chance 10 %")
CLEAR, WEAK = Estimate(1.0, 0.5, 1.5, 6, 0.01), Estimate(1.0, -0.5, 2.5, 6, 0.03)


def test_run_folder_is_joined_and_judged(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path))
    run = session.start("04_scoreboard", "quick", device="cpu")
    run.measure("SM-D1", CLEAR, "somewhere", "real", condition=LEARNED)
    run.measure("SM-D2", WEAK, "somewhere", "real", condition=LEARNED)
    run.not_measured("SM-X1", "too long")
    assert set(run.verdicts()["id"]) == {"SM-D1", "SM-D2", "SM-X1"}
    (tmp_path / "quick" / "notebooks").mkdir()
    nbformat.write(measuring_notebook(A="SM-D1"), tmp_path / "quick" / "notebooks" / "01_sal_mask.ipynb")
    joined = claims.verdicts(tmp_path / "quick").set_index("id")
    assert len(joined) == len(claims.table())
    assert joined.loc["SM-D1", "verdict"] == "holds"
    assert joined.loc["SM-D1", "p_holm"] == pytest.approx(0.02)
    assert joined.loc["SM-D2", "verdict"] == "undecided"
    nobody = ["not judged", "no notebook of this run measured it"]
    assert (joined.loc["LI-X1a", ["verdict", "remark"]] == nobody).all()
    shown = claims.readable(joined.reset_index()).set_index("id")
    assert shown.loc["SM-X1", "verdict"] == "not judged: too long"
    assert shown.loc["SM-D2", "verdict"] == "undecided: smallest visible effect 1.5"
    assert shown.loc["SM-D1", "condition"] == "met: plain 33 %, chance 10 %"
    assert shown.loc["SM-D1", "measured in"] == '<a href="01_sal_mask.ipynb#In-A">01</a>, In A'
    assert shown.loc["SM-D2", "measured in"] == '<a href="01_sal_mask.ipynb">01</a>', "no cell tells"
    assert shown.loc["SM-X1", "measured in"] == ""


def test_a_measurement_replaces_that_of_its_case_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path))
    run = session.start("01_sal_mask", "quick", device="cpu")
    opposite = Estimate(-1.0, -1.5, -0.5, 6, 0.01)
    beside = {"axis": "learning rate", "case": "own best"}
    run.measure("SM-D1", opposite, "d", "real", condition=LEARNED, **beside)
    run.measure("SM-D1", WEAK, "d", "real", condition=LEARNED)
    run.measure("SM-D1", CLEAR, "d", "real", condition=LEARNED)
    (row,) = run.verdicts().to_dict("records")
    assert row["verdict"] == "depends on the learning rate"
    assert row["measured (95 % interval)"] == "1 [0.5, 1.5]; learning rate own best: -1 [-1.5, -0.5]"
    run.not_measured("SM-D1", "broken")
    assert run.verdicts()["verdict"].tolist() == ["not judged: broken"]


def test_null_controls_are_stored_judged_and_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path))
    run = session.start("01_sal_mask", "quick", device="cpu")
    nulls = {"grey": (CLEAR, WEAK)}
    run.measure("SM-X1", CLEAR, "d", "real", nulls=nulls, condition=LEARNED)
    (row,) = run.verdicts().to_dict("records")
    assert row["null control"] == "grey: 1 [0.5, 1.5], beyond it 1 [-0.5, 2.5]"
    assert row["verdict"] == "not telling: not beyond the null control: grey"
    stored = claims.measurements(tmp_path / "quick")
    assert list(stored["part"]) == ["effect", "null: grey", "beyond: grey"]
    again = claims.verdicts(tmp_path / "quick").set_index("id")
    assert again.loc["SM-X1", "verdict"] == "not telling" and again.loc["SM-X1", "met"] is True


def test_a_null_control_without_variation_is_told_as_one_value():
    still = Estimate(0.0, 0.0, 0.0, 6)
    rows = claims.measured_rows("SM-X1", CLEAR, "d", "real", nulls={"grey": (still, CLEAR)})
    joined = claims.judged(pd.DataFrame(rows)).set_index("id")
    assert joined.loc["SM-X1", "nulls"] == "grey: 0 in all, beyond it 1 [0.5, 1.5]"


def test_a_row_without_its_control_or_condition_is_not_judged():
    bare = claims.measured_rows("SM-X1", CLEAR, "d", "real", condition=LEARNED)
    bare += claims.measured_rows("SM-D1", CLEAR, "d", "real")
    bare += claims.measured_rows("SM-D2", CLEAR, "d", "real", condition=claims.Condition(False, "12 %"))
    joined = claims.judged(pd.DataFrame(bare)).set_index("id")
    told = joined.loc[["SM-X1", "SM-D1", "SM-D2"], "remark"].tolist()
    assert told[:2] == ["its null control was not measured", "its condition was not measured"]
    assert told[2] == "condition not met: 12 %"
    assert joined.loc["SM-D2", "learned"] == "not met: 12 %"


def test_a_row_of_metrics_shows_them_all():
    rows = []
    for name in ("CC", "NSS", "shuffled AUC"):
        about = {"axis": "metric", "case": name, "condition": LEARNED}
        rows += claims.measured_rows("SC-X16", CLEAR, "d", "real", **about)
    joined = claims.judged(pd.DataFrame(rows)).set_index("id")
    assert joined.loc["SC-X16", "verdict"] == "holds"
    text = "CC: 1 [0.5, 1.5]; NSS: 1 [0.5, 1.5]; shuffled AUC: 1 [0.5, 1.5]"
    assert joined.loc["SC-X16", "shown"] == text


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


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"claim": "SM-D99"}, "SM-D99"),
        ({"source": "reel"}, "source"),
        ({"estimate": Estimate(math.nan, 0, 2, 3)}, "NaN"),
        ({"axis": "weather", "case": "rain"}, "axis"),
        ({"axis": "metric"}, "needs a case"),
        ({"case": "CC"}, "its axis"),
        ({"nulls": {"grey": (CLEAR, CLEAR)}}, "grey"),
        ({"claim": "SM-X1", "nulls": {"grey": (CLEAR, Estimate(math.nan, 0, 2, 3))}}, "NaN"),
    ],
)
def test_bad_measurements_are_refused(changed, wrong):
    given = {"claim": "SM-D1", "estimate": CLEAR, "data": "d", "source": "real"}
    with pytest.raises(ValueError, match=wrong):
        claims.measured_rows(**given | changed)


def test_a_folder_without_measurements_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the notebooks"):
        claims.verdicts(tmp_path)


def test_counts_hold_every_claim_in_the_order_of_papers_and_verdicts():
    rows = claims.measured_rows("SM-E1", stats.exact(True), "d", "real")
    joined = claims.judged(pd.DataFrame(rows, columns=claims.MEASURED_COLUMNS))
    counts = claims.verdict_counts(joined)
    assert counts.drop(columns="paper").to_numpy().sum() == len(claims.table())
    assert list(counts["paper"]) == ["Sal-Mask", "Shallow CNN", "LICNN"]
    assert list(counts)[1:] == ["not judged", "check of code", "shown"]
    assert not set(claims.counted(joined)["verdict"]) & {"check of code", "shown"}


def test_what_depends_is_counted_together():
    words = ["depends on the test set", "depends on the metric (embedded)", "holds"]
    assert list(map(claims.counted_as, words)) == ["depends", "depends (embedded)", "holds"]
