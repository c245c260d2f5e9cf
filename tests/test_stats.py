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


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0], [0.0] * 6, [0.1] * 7])
def test_one_value_or_equal_ones_are_no_certainty(values):
    for limits in (None, (-5, 5)):
        for found in (
            stats.mean_interval(values, "u", limits),
            stats.bootstrap_interval(values, limits=limits),
        ):
            assert (found.low, found.high) == (limits or (-math.inf, math.inf))
            assert found.value == pytest.approx(values[0]) and math.isnan(found.p) and found.n == len(values)
            assert math.isnan(found.p_against(1.0))


def test_two_values_have_no_interval_that_a_table_shows():
    found = stats.mean_interval([2.0, 3.0])
    assert found.value == 2.5 and math.isnan(found.p) and str(found) == "2.5 [no interval]"
    assert str(stats.mean_interval([0.2, 0.3], "images", (-1, 1))) == "0.25 [no interval]"
    row = found.row("points", "seeds")
    assert (row["points"], row["seeds"]) == (2.5, 2)
    assert all(math.isnan(row[name]) for name in ("low", "high", "p", "smallest visible"))
    three = stats.mean_interval([2.0, 3.0, 4.0])
    assert three.shown_interval == (three.low, three.high) and math.isfinite(three.low)


def test_p_against_another_value_is_the_t_test_against_it():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    found = stats.mean_interval(values)
    assert found.p_against(3) == pytest.approx(scipy_stats.ttest_1samp(values, 3).pvalue)
    assert found.p_against(0) == found.p and found.p_against(found.value) == 1
    assert stats.Estimate(1, 0, 2, 6, 0.05).p_against(0) == 0.05


def test_intervals_end_at_the_limits_of_what_is_possible():
    free, cut = (stats.mean_interval([0.9, 1.0, 0.95], limits=limits) for limits in (None, (-1, 1)))
    assert free.high > 1 and (cut.low, cut.high) == (free.low, 1) and cut.p == free.p


def test_paired_difference_equals_the_paired_t_test():
    a, b = np.array([3.0, 5.0, 9.0]), np.array([1.0, 2.0, 4.0])
    found = stats.paired_difference(a, b)
    assert found.p == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    with pytest.raises(ValueError, match="equal shapes"):
        stats.paired_difference(a, b[:2])


def test_values_of_few_groups_do_not_count_as_many():
    rng = np.random.default_rng(0)
    of_group = rng.normal(size=20)
    groups = np.repeat(np.arange(20), 30)
    values = of_group[groups] + 0.01 * rng.normal(size=600)
    found, naive = stats.grouped_interval(values, groups), stats.bootstrap_interval(values)
    assert found.value == pytest.approx(values.mean()) and found.n == 600
    assert found.high - found.low > 4 * (naive.high - naive.low)
    alone = stats.mean_interval(of_group, "groups")
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.25)
    each = stats.grouped_interval(values, np.arange(600))
    assert each.high - each.low == pytest.approx(naive.high - naive.low, rel=0.1)
    assert math.isnan(stats.grouped_interval(values, np.zeros(600)).shown_interval[0])
    with pytest.raises(ValueError, match="a group for each"):
        stats.grouped_interval(values, groups[:5])


def test_bootstrap_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(100):
        found = stats.bootstrap_interval(rng.normal(1, 1, 60), seed=trial, resamples=400)
        hits += found.low <= 1 <= found.high
    assert 87 <= hits <= 100


def test_p_against_of_a_bootstrap_is_near_the_t_test():
    values = np.random.default_rng(0).normal(0.3, 1, 200)
    expected = scipy_stats.ttest_1samp(values, 0.5).pvalue
    assert stats.bootstrap_interval(values).p_against(0.5) == pytest.approx(expected, abs=0.03)


def crossed(rng, seeds, images):
    """Values (seeds, images) around 1: both kinds of unit vary, and the rest."""
    return 1 + rng.normal(size=(seeds, 1)) + rng.normal(size=images) + rng.normal(size=(seeds, images))


@pytest.mark.parametrize("seeds", [6, 25])
def test_two_way_intervals_cover_the_mean_over_other_seeds_and_images(seeds):
    rng = np.random.default_rng(1)
    found = [stats.two_way_interval(crossed(rng, seeds, 40), resamples=500) for _ in range(100)]
    hits = sum(estimate.low <= 1 <= estimate.high for estimate in found)
    assert 88 <= hits <= 100
    of_images = [stats.bootstrap_interval(crossed(rng, seeds, 40).mean(0)) for _ in range(100)]
    assert sum(e.low <= 1 <= e.high for e in of_images) < 85, "images alone promise too much"
    assert (found[0].n, found[0].unit) == (seeds, "seeds x 40 images")


def test_a_two_way_interval_below_twenty_seeds_is_students_with_both_variances():
    values = crossed(np.random.default_rng(2), 6, 40)
    found = stats.two_way_interval(values)
    parts = np.array([values.mean(1).var(ddof=1) / 6, values.mean(0).var(ddof=1) / 40])
    df = parts.sum() ** 2 / (parts[0] ** 2 / 5 + parts[1] ** 2 / 39)
    half = scipy_stats.t.ppf(0.975, df) * np.sqrt(parts.sum())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))
    same = stats.two_way_interval(np.tile(values[0], (6, 1)), limits=(-9, 9))
    assert (same.low, same.high) == (-9, 9) and math.isnan(same.p), "seeds that do not vary"
    with pytest.raises(ValueError, match="seeds, images"):
        stats.two_way_interval(values[0])


def test_a_rank_correlation_stays_within_its_limits():
    ranks = np.arange(10)
    perfect, none = (
        stats.rank_correlation(ranks, ranks**2, "masks"),
        stats.rank_correlation(ranks, 0 * ranks, "m"),
    )
    assert perfect.value == pytest.approx(1) and 0.9 < perfect.low and perfect.high <= 1
    assert perfect.p == pytest.approx(1e-4)
    assert (none.value, none.low, none.high) == (0, -1, 1) and math.isnan(none.p)
    few = stats.rank_correlation([1, 2, 3], [1, 3, 2], "masks")
    assert few.value == pytest.approx(0.5) and (few.low, few.high) == (-1, 1)


def test_a_rank_correlation_is_spearmans_with_a_permutation_test():
    rng = np.random.default_rng(0)
    a = rng.normal(size=12)
    b = a + rng.normal(size=12)
    found = stats.rank_correlation(a, b, "masks")
    expected = scipy_stats.spearmanr(a, b)
    assert found.value == pytest.approx(expected.statistic) and -1 < found.low < found.value < found.high < 1
    assert found.p == pytest.approx(expected.pvalue, abs=0.01)


def test_power_is_the_share_of_tests_that_see_the_effect():
    draws = np.random.default_rng(0).normal(0.98, 2.7, (4000, 30))
    seen = (scipy_stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    assert stats.power(2.7, 30, 0.98) == pytest.approx(seen, abs=0.02)
    assert stats.power(2.7, 30, 0) == pytest.approx(0.05)


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


def test_a_perfect_rank_correlation_is_no_certainty():
    few, many = (stats.rank_correlation(np.arange(n), np.arange(n), "masks") for n in (6, 30))
    assert few.value == many.value == 1
    assert few.low < 0.9 < many.low < 1 and few.high == many.high == 1
    swapped = stats.rank_correlation(np.arange(6), np.array([0, 1, 2, 3, 5, 4]), "masks")
    assert (swapped.low, swapped.high) == pytest.approx((few.low, few.high), abs=0.05)
