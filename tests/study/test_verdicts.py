"""Every rule on made-up measurements, both ways and at the borders."""

import math

import pytest

from saliencylib.stats import Estimate
from saliencylib.study import verdicts
from saliencylib.study.verdicts import Case, Part, Verdict

NAN = math.nan


def claim(rule="positive", **changed):
    row = {"id": "X", "paper": "P", "rule": rule, "printed": NAN, "margin": NAN, "tolerance": NAN}
    return row | {"null": "none: made up", "condition": "", "scope": ""} | changed


def part(low, high, p=0.001):
    return Part((low + high) / 2, low, high, p)


def case(low, high, p=0.001, n=6, unit="seeds", source="real", **changed):
    return Case(part(low, high, p), n, unit, source, **changed)


def word(row, measured, redone=()):
    return verdicts.decided({"X": row}, {"X": [measured]}, redone)["X"].word


@pytest.mark.parametrize(
    ("rule", "margin", "low", "high", "expected"),
    [
        ("positive", NAN, 0.1, 2, "holds"),
        ("positive", NAN, 0, 2, "undecided"),
        ("positive", NAN, -2, 0, "undecided"),
        ("positive", NAN, -2, -0.1, "does not hold"),
        ("positive", 0.05, 0.06, 0.1, "holds"),
        ("positive", 0.05, 0.05, 0.1, "undecided"),
        ("positive", 0.05, 0.01, 0.04, "does not hold"),
        ("not_below", 1, -0.9, 3, "holds"),
        ("not_below", 1, -1, 3, "undecided"),
        ("not_below", 1, -3, -1, "undecided"),
        ("not_below", 1, -3, -1.1, "does not hold"),
        ("comparable", 0.05, -0.04, 0.04, "holds"),
        ("comparable", 0.05, -0.05, 0.04, "undecided"),
        ("comparable", 0.05, 0.05, 0.1, "undecided"),
        ("comparable", 0.05, 0.06, 0.1, "does not hold"),
        ("comparable", 0.05, -0.1, -0.06, "does not hold"),
        ("comparable", 0.05, -0.1, 0.1, "undecided"),
    ],
)
def test_the_interval_decides_and_a_border_that_it_touches_does_not(rule, margin, low, high, expected):
    assert word(claim(rule, margin=margin), case(low, high)) == expected


@pytest.mark.parametrize(("printed", "expected"), [(61.5, "holds"), (61.6, "does not hold"), (59.5, "holds")])
def test_a_value_is_judged_on_the_papers_own_data(printed, expected):
    row = claim("value", printed=printed, tolerance=0.5)
    assert word(row, case(60, 61, NAN, source="paper")) == expected
    unbounded = Case(Part(60.5, -math.inf, math.inf, NAN), 6, "seeds", "paper")
    assert word(row, unbounded) == "undecided"
    assert word(row, case(60, 61, NAN, source="real")) == "other data"
    assert word(row, case(60, 61, NAN, source="embedded")) == "other data"


def test_what_asks_for_its_own_data_reads_other_data_elsewhere():
    row = claim(scope="own data: ImageNet-A")
    assert word(row, case(1, 2)) == "other data" and word(row, case(1, 2, source="paper")) == "holds"


def test_a_check_of_code_passes_or_does_not_hold_even_while_a_paper_is_redone():
    passed, failed = (Case(Part(v, v, v, NAN), 1, "checks", "paper") for v in (1.0, 0.0))
    assert word(claim("exact"), passed, redone=("P",)) == "check of code"
    assert word(claim("exact"), failed) == "does not hold"
    assert word(claim("exact"), Case(reason="too long")) == "not judged"


def test_shown_untestable_and_redone_rows_are_not_judged():
    decided = case(1, 2)
    assert word(claim("shown"), decided, redone=("P",)) == "shown"
    found = verdicts.before_holm(claim("untestable", scope="no target"), decided)
    assert (found.word, found.remark) == ("not judged", "no target")
    found = verdicts.before_holm(claim(), decided, redone=("P",))
    assert (found.word, found.remark) == ("not judged", "being redone")
    assert word(claim(), decided, redone=("another",)) == "holds"


@pytest.mark.parametrize(
    "measured", [Case(reason="no data"), Case(Part(NAN, NAN, NAN, NAN), reason="no data")]
)
def test_what_was_not_measured_says_why(measured):
    assert verdicts.before_holm(claim(), measured) == Verdict("not judged", "no data")
    assert "no notebook" in verdicts.before_holm(claim(), Case()).remark


@pytest.mark.parametrize(
    ("n", "unit", "judged"),
    [
        (5, "seeds", False),
        (6, "seeds", True),
        (19, "images", False),
        (20, "images", True),
        (5, "classes", False),
        (6, "classes", True),
        (6, "seeds x 20 images", True),
        (6, "seeds x 19 images", False),
        (5, "seeds x 200 images", False),
    ],
)
def test_too_few_are_not_judged(n, unit, judged):
    found = verdicts.before_holm(claim(), case(1, 2, n=n, unit=unit))
    assert found.word == ("holds" if judged else "not judged")
    assert judged or found.remark == f"too few: {n} {unit}"


def test_a_row_whose_condition_is_not_met_is_not_judged():
    row = claim(condition="plain has learned")
    measured = [case(1, 2, met=met, condition="12 %") for met in (True, False, None)]
    remarks = [verdicts.before_holm(row, c).remark for c in measured]
    assert remarks == ["", "condition not met: 12 %", "its condition was not measured"]
    assert [word(row, c) for c in measured] == ["holds", "not judged", "not judged"]


@pytest.mark.parametrize(
    ("beyond", "expected"),
    [
        ({"A": (0.1, 1), "B": (0.1, 1)}, "holds"),
        ({"A": (0.1, 1), "B": (0, 1)}, "not telling"),
        ({"A": (-2, -1), "B": (0.1, 1)}, "not telling"),
        ({"A": (0.1, 1)}, "not judged"),
        ({}, "not judged"),
    ],
)
def test_a_row_holds_only_beyond_all_its_null_controls(beyond, expected):
    parts = {name: part(*ends) for name, ends in beyond.items()}
    found = verdicts.before_holm(claim(null="A; B"), case(1, 2, beyond=parts))
    assert found.word == expected
    assert expected != "not judged" or found.remark == "its null control was not measured"


@pytest.mark.parametrize(
    ("beyond", "margin", "expected"),
    [
        ((-1, 1), NAN, "not telling"),
        ((-3, 0), NAN, "does not hold"),  # the control lies at zero itself
        ((-2, 0), NAN, "not telling"),
        ((-1, -0.1), NAN, "does not hold"),  # it fails by more than the control does
        ((-4, 1), NAN, "does not hold"),  # the control does not fail
        ((-4, 1), 0.1, "not telling"),  # but for the margin
    ],
)
def test_a_row_tells_nothing_where_a_null_control_fails_alike(beyond, margin, expected):
    found = verdicts.before_holm(
        claim(null="A", margin=margin), case(-2, -1, beyond={"A": part(*beyond, 0.9)})
    )
    assert found.word == expected
    assert expected == "does not hold" or found.remark == "a null control fails alike: A"


def test_a_null_control_that_fails_changes_nothing_about_other_rules_and_open_rows():
    alike = {"A": part(-1, 1)}
    row = claim("not_below", margin=0.5, null="A")
    assert word(row, case(-2, -1, beyond=alike)) == "does not hold"
    assert word(claim(null="A"), case(-1, 1, beyond=alike)) == "undecided"


def test_a_p_value_beyond_a_null_control_counts():
    measured = case(1, 2, 0.001, beyond={"A": part(0.1, 1, 0.06)})
    found = verdicts.decided({"X": claim(null="A")}, {"X": [measured]})["X"]
    assert found.word == "undecided" and found.p == 0.06
    assert found.remark == "not after Holm; smallest visible effect 0.5"


def test_equal_values_and_missing_p_values_decide_nothing():
    free = Case(Part(2.0, -math.inf, math.inf, NAN), 6, "seeds", "real")
    cut = case(0.5, 1, NAN)
    for measured in (free, cut):
        found = verdicts.decided({"X": claim()}, {"X": [measured]})["X"]
        assert found.word == "undecided" and "do not vary" in found.remark


def test_undecided_rows_tell_what_they_exclude_and_could_have_seen():
    remarks = [verdicts.before_holm(claim(printed=p), case(-2, 1, 0.4)).remark for p in (1.5, 0.5, NAN)]
    assert remarks[0] == "printed size excluded on these data, sign open; smallest visible effect 1.5"
    assert remarks[1] == remarks[2] == "smallest visible effect 1.5"
    row = claim("comparable", margin=1, printed=7)
    assert verdicts.before_holm(row, case(-2, 1)).remark == "the margin is 1; smallest visible effect 1.5"


@pytest.mark.parametrize(
    ("rule", "margin", "value", "expected"),
    [
        ("positive", NAN, 2.0, 0.0455),
        ("positive", 1.0, 3.0, 0.0455),
        ("not_below", 1.0, 1.0, 0.02275),
        ("not_below", 1.0, -3.0, 0.02275),
        ("comparable", 2.0, 0.0, 0.02275),
        ("comparable", 2.0, 4.0, 0.02275),
        ("comparable", 2.0, -4.0, 0.02275),
        ("value", NAN, 2.0, NAN),
        ("exact", NAN, 2.0, NAN),
    ],
)
def test_each_rule_has_a_p_value_against_its_own_null(rule, margin, value, expected):
    p = 0.0455 if value == 2 else 0.9
    found = verdicts.own_p(rule, margin, Estimate(value, value - 2, value + 2, 50, p, error=1.0))
    assert found == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_holm_counts_rows_with_a_test_that_could_be_decided_within_a_paper():
    rows = {name: claim() | {"id": name} for name in "ABCDEF"}
    rows["C"]["paper"] = "another"
    rows["D"]["condition"] = "learned"
    rows["E"] |= {"rule": "value", "printed": 1.0, "tolerance": 1.0}
    cases = {name: [case(0.1, 2, 0.02, source="paper")] for name in rows}
    cases["D"] = [case(0.1, 2, 0.02, met=False)]
    cases["F"] = [case(-1, 2, 0.4)]
    found = verdicts.decided(rows, cases)
    assert found["C"].p_holm == pytest.approx(0.02) and found["C"].word == "holds"
    assert found["A"].p_holm == pytest.approx(0.06) and found["A"].word == "undecided"
    assert found["A"].remark == "not after Holm; smallest visible effect 0.95"
    assert math.isnan(found["D"].p_holm) and found["D"].word == "not judged"
    assert math.isnan(found["E"].p_holm) and found["E"].word == "holds"
    assert found["F"].p_holm == pytest.approx(0.4)


def test_a_row_of_several_metrics_counts_once_in_its_papers_family():
    rows = {"A": claim(scope=f"{METRICS} must agree"), "B": claim(), "C": claim()}
    strong, weak = (0.5, 1, 0.001), (0.5, 1, 0.02)
    cases = {"A": in_metrics(strong, weak, strong), "B": [case(*weak)], "C": [case(*weak)]}
    found = verdicts.decided({n: row | {"id": n} for n, row in rows.items()}, cases)
    assert found["B"].p_holm == found["C"].p_holm == pytest.approx(0.06), "three rows, not five"
    assert found["A"].remark == "the metrics do not agree (holds: CC, shuffled AUC; undecided: NSS)"


def test_an_adjusted_p_value_of_the_level_itself_is_enough():
    at, above = (verdicts.after_holm([Verdict("holds", p=p)])[0].word for p in (0.05, 0.0501))
    assert (at, above) == ("holds", "undecided")


METRICS = "CC, NSS and shuffled AUC"
YES, NO, OPEN = (0.5, 1, 0.001), (-1, -0.5, 0.001), (-1, 1, 0.5)


def in_metrics(*intervals, axis="metric", **changed):
    names = ("CC", "NSS", "shuffled AUC")
    pairs = zip(intervals, names, strict=False)
    return [case(*interval, axis=axis, case=name, **changed) for interval, name in pairs]


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ((YES, YES, YES), "holds"),
        ((NO, NO, NO), "does not hold"),
        ((YES, NO, YES), "depends on the metric"),
        ((YES, NO, OPEN), "depends on the metric"),
        ((YES, OPEN, YES), "undecided"),
        ((OPEN, OPEN, OPEN), "undecided"),
        ((NO, NO, OPEN), "undecided"),
        ((YES, YES), "not judged"),
    ],
)
def test_metrics_must_agree(intervals, expected):
    row = claim(scope=f"any; {METRICS} must agree, else: depends")
    assert verdicts.decided({"X": row}, {"X": in_metrics(*intervals)})["X"].word == expected


def test_a_metric_that_was_not_measured_is_named():
    row = claim(scope=f"{METRICS} must agree")
    found = verdicts.decided({"X": row}, {"X": in_metrics(YES)})["X"]
    assert found.remark == "not measured: NSS, shuffled AUC"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("holds", "not telling"), "not telling"),
        (("undecided", "not telling"), "not telling"),
        (("does not hold", "not telling"), "undecided"),
        (("holds", "not judged"), "not judged"),
        (("other data", "other data"), "other data"),
    ],
)
def test_metrics_that_tell_nothing(words, expected):
    assert verdicts.agreeing("metric", named(*words)).word == expected


def named(*words):
    return dict(zip("ABC", map(Verdict, words), strict=False))


def test_one_method_for_which_it_does_not_hold_is_enough():
    found = [verdicts.agreeing("method", named("holds", other)).word for other in verdicts.OPEN]
    assert found == ["holds", "does not hold", "undecided", "not telling"]


def test_methods_that_do_not_agree_are_named():
    found = verdicts.agreeing("method", named("holds", "undecided", "holds"))
    assert found.remark == "the methods do not agree (holds: A, C; undecided: B)"


@pytest.mark.parametrize("axis", verdicts.AXES[4:])
def test_the_opposite_elsewhere_makes_a_verdict_depend(axis):
    for main, other in ((YES, NO), (NO, YES)):
        cases = [case(*main), case(*other, axis=axis, case="elsewhere")]
        assert verdicts.decided({"X": claim()}, {"X": cases})["X"].word == f"depends on the {axis}"
    for other in (YES, OPEN):
        cases = [case(*YES), case(*other, axis=axis, case="elsewhere")]
        assert verdicts.decided({"X": claim()}, {"X": cases})["X"].word == "holds"
    cases = [case(*OPEN), case(*NO, axis=axis, case="elsewhere")]
    assert verdicts.decided({"X": claim()}, {"X": cases})["X"].word == "undecided"


@pytest.mark.parametrize("axis", verdicts.AXES[4:])
def test_a_null_control_that_passes_in_one_place_alone_makes_a_verdict_depend_on_the_network(axis):
    row, passes, fails = claim(null="A"), {"A": part(0.1, 1)}, {"A": part(-1, 1, 0.9)}
    for main, other in ((passes, fails), (fails, passes)):
        cases = [case(*YES, beyond=main), case(*YES, beyond=other, axis=axis, case="elsewhere")]
        found = verdicts.decided({"X": row}, {"X": cases})["X"].word
        alone = "holds" if main is passes else "not telling"
        assert found == (f"depends on the {axis}" if axis in ("classifier", "preset") else alone)


@pytest.mark.parametrize(
    ("main", "other", "remark"),
    [
        (YES, OPEN, "open on mit1003"),
        (NO, OPEN, "open on mit1003"),
        (YES, YES, ""),
        (OPEN, YES, "on mit1003: holds"),
        (OPEN, NO, "on mit1003: does not hold"),
    ],
)
@pytest.mark.parametrize("axis", ["test set", "training data", "classifier", "preset", "schedule"])
def test_another_verdict_elsewhere_is_remarked(axis, main, other, remark):
    cases = [case(*main), case(*other, axis=axis, case="mit1003")]
    found = verdicts.decided({"X": claim()}, {"X": cases})["X"]
    told = found.remark.removeprefix("smallest visible effect 1").removeprefix("; ")
    assert told == ("" if axis == "schedule" else remark)


def test_what_was_not_judged_elsewhere_is_not_remarked():
    cases = [case(*YES), case(*YES, n=5, axis="classifier", case="small")]
    assert verdicts.decided({"X": claim()}, {"X": cases})["X"].remark == ""


def test_between_learning_rates_the_intervals_decide_elsewhere_holm_does():
    row, weak = claim(), (-1, -0.5, 0.06)
    words = {}
    for axis in ("learning rate", "test set"):
        cases = [case(*YES), case(*weak, axis=axis, case="other")]
        words[axis] = verdicts.decided({"X": row}, {"X": cases})["X"].word
    assert words == {"learning rate": "depends on the learning rate", "test set": "holds"}


def test_another_test_set_has_to_be_opposite_in_all_its_metrics():
    row = claim(scope=f"{METRICS} must agree")

    def there(*intervals):
        names = ("mit1003, CC", "mit1003, NSS")
        beside = [case(*i, axis="test set", case=n) for i, n in zip(intervals, names, strict=True)]
        return verdicts.decided({"X": row}, {"X": [*in_metrics(YES, YES, YES), *beside]})["X"].word

    assert there(NO, NO) == "depends on the test set" and there(NO, YES) == "holds"


def test_what_was_only_measured_beside_is_not_judged():
    cases = [case(*YES, axis="learning rate", case="own best")]
    assert verdicts.decided({"X": claim()}, {"X": cases})["X"].word == "not judged"


def test_embedded_data_mark_what_was_decided_and_nothing_else():
    assert word(claim(), case(*YES, source="embedded")) == "holds (embedded)"
    assert word(claim(), case(*OPEN, source="embedded")) == "undecided (embedded)"
    assert word(claim(null="A"), case(*YES, source="embedded", beyond={"A": part(-1, 1)})) == (
        "not telling (embedded)"
    )
    assert word(claim(), case(*YES, n=5, source="embedded")) == "not judged"
    assert word(claim("shown"), case(*YES, source="embedded")) == "shown"
    opposite = [case(*YES, source="embedded"), case(*NO, source="embedded", axis="preset", case="text")]
    found = verdicts.decided({"X": claim()}, {"X": opposite})["X"]
    assert found.word == "depends on the preset (embedded)"


def test_an_unknown_rule_names_the_valid_ones():
    with pytest.raises(ValueError, match="positive"):
        verdicts.before_holm(claim("better"), case(*YES))
