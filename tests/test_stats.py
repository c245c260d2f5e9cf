import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from saliencylib import stats


def test_mean_interval_is_students():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    found = stats.mean_interval(values)
    error = values.std(ddof=1) / 2
    low, high = scipy_stats.t.interval(0.95, 3, loc=3.5, scale=error)
    assert found.value == 3.5 and found.low == pytest.approx(low) and found.high == pytest.approx(high)
    assert found.p == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue)
    assert found.detectable == pytest.approx((high - low) / 2)


def test_one_value_has_no_bounds_and_equal_values_no_width():
    assert math.isinf(stats.mean_interval([2.0]).high)
    same = stats.mean_interval([2.0, 2.0])
    assert (same.low, same.high, same.p) == (2.0, 2.0, 0.0)
    assert stats.mean_interval([0.0, 0.0]).p == 1.0


def test_intervals_end_at_the_limits_of_what_is_possible():
    free, cut = (stats.mean_interval([0.9, 1.0, 0.95], limits=limits) for limits in (None, (-1, 1)))
    assert free.high > 1 and (cut.low, cut.high) == (free.low, 1) and cut.p == free.p


def test_paired_difference_equals_the_paired_t_test():
    a, b = np.array([3.0, 5.0, 9.0]), np.array([1.0, 2.0, 4.0])
    found = stats.paired_difference(a, b)
    assert found.p == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    with pytest.raises(ValueError, match="equal shapes"):
        stats.paired_difference(a, b[:2])


def test_bootstrap_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(100):
        found = stats.bootstrap_interval(rng.normal(1, 1, 60), seed=trial, resamples=400)
        hits += found.low <= 1 <= found.high
    assert 87 <= hits <= 100
    assert stats.bootstrap_interval(np.ones(5)).low == 1


def test_mcnemar_counts_points_and_uses_the_exact_binomial():
    before = np.array([True] * 50 + [False] * 50)
    after = before.copy()
    after[:2] = False
    after[50:60] = True
    found = stats.mcnemar(before, after)
    assert found.value == pytest.approx(8) and found.n == 100
    assert found.p == pytest.approx(scipy_stats.binomtest(10, 12).pvalue)
    assert found.low < 8 < found.high
    assert stats.mcnemar(before, before).p == 1.0


def test_holm_by_hand_and_nan_stays():
    adjusted = stats.holm([0.01, np.nan, 0.04, 0.03])
    assert adjusted[[0, 2, 3]] == pytest.approx([0.03, 0.06, 0.06]) and math.isnan(adjusted[1])


@pytest.mark.parametrize("values", [[], [1.0, np.nan]])
def test_nothing_and_nan_are_refused(values):
    with pytest.raises(ValueError):
        stats.mean_interval(values)


def test_a_row_names_its_columns():
    row = stats.Estimate(1.0, 0.5, 2.5, 6, 0.04).row("points", "seeds")
    assert row == {"points": 1, "low": 0.5, "high": 2.5, "p": 0.04, "smallest visible": 1, "seeds": 6}


def test_evenly_spread_positions_start_at_zero_and_never_repeat():
    assert stats.evenly(10, 4).tolist() == [0, 2, 5, 7]
    assert stats.evenly(3).tolist() == stats.evenly(3, 9).tolist() == [0, 1, 2]
    assert stats.evenly(3, 0).tolist() == [0]
