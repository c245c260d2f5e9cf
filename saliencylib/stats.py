"""Estimates with 95 % intervals: over seeds by Student's t, over images by bootstrap or McNemar's test.

Both where both vary. Equal values are no certainty: their interval is all that is possible, their p NaN.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from saliencylib.inputs import as_array, as_mask, check_count, check_number, check_seed

ENOUGH_SEEDS = 20
LEAST_FOR_T = 3  # two values have an interval, but at 12.7 standard errors it tells nobody anything


@dataclass(frozen=True)
class Estimate:
    """A measured value with its 95 % interval, the number of units behind it and the p value against zero.

    ``error`` is the standard error and ``df`` its degrees of freedom, for tests against other values.
    """

    value: float
    low: float
    high: float
    n: int
    p: float = math.nan
    unit: str = "seeds"
    error: float = math.nan
    df: float = math.inf

    def p_against(self, value: float) -> float:
        """Two-sided p value against ``value``, by Student's t (against zero ``p``); NaN without an error."""
        if value == 0 or not self.error > 0:
            return self.p if value == 0 else math.nan
        return 2 * float(stats.t.sf(abs(self.value - value) / self.error, self.df))

    @property
    def detectable(self) -> float:
        """Half the width of the interval: an effect smaller than this could not have been told from zero."""
        return (self.high - self.low) / 2

    @property
    def shown_interval(self) -> tuple[float, float]:
        """The interval's ends as tables show them: NaN where only what is possible bounds the value."""
        bounded = math.isfinite(self.low) and math.isfinite(self.high)
        limits_alone = self.n < LEAST_FOR_T and self.low < self.high
        return (self.low, self.high) if bounded and not limits_alone else (math.nan, math.nan)

    def row(self, value: str = "value", n: str = "n") -> dict[str, float]:
        """The estimate as a table's columns: ``value``, low, high, p, smallest visible and ``n``."""
        low, high = self.shown_interval
        numbers = (self.value, low, high, self.p, (high - low) / 2, self.n)
        return dict(zip((value, "low", "high", "p", "smallest visible", n), numbers, strict=True))

    def __str__(self) -> str:
        if math.isnan(self.shown_interval[0]):
            return f"{self.value:.3g} [no interval]"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def evenly(length: int, count: float | None = None) -> np.ndarray:
    """About ``count`` of ``length`` positions, evenly spread from 0 on, at least one; all for None."""
    count = length if count is None else min(length, max(1, round(count)))
    return np.arange(count) * length // count


def exact(passed: bool) -> Estimate:
    """The estimate of an assert: 1 when it passed, 0 when not."""
    value = float(passed)
    return Estimate(value, value, value, n=1, unit="checks")


def mean_interval(
    values: np.ndarray, unit: str = "seeds", limits: tuple[float, float] | None = None
) -> Estimate:
    """Mean of independent values (n,) with Student's t interval; p is the two-sided t test against zero.

    ``limits`` are the lowest and highest possible value, where there are any: the interval is cut there. One
    value or two, or equal ones, have the limits for an interval, and no p. Raises ValueError when there is
    none, or a NaN.
    """
    values = _checked(values)
    mean, n = float(values.mean()), len(values)
    error = _spread(values) / math.sqrt(n) if n >= LEAST_FOR_T else 0.0
    return _by_t(mean, error, n - 1, n, unit, limits)


def paired_difference(
    a: np.ndarray, b: np.ndarray, unit: str = "seeds", limits: tuple[float, float] | None = None
) -> Estimate:
    """Mean of ``a - b`` over pairs (n,), with Student's t interval and paired t test."""
    a, b = _numbers(a), _numbers(b)
    if a.shape != b.shape:
        raise ValueError(f"pairs need equal shapes, not {a.shape} and {b.shape}")
    return mean_interval(a - b, unit, limits)


def bootstrap_interval(
    values: np.ndarray,
    unit: str = "images",
    seed: int = 0,
    resamples: int = 4000,
    limits: tuple[float, float] | None = None,
) -> Estimate:
    """Mean of values (n,) with the percentile bootstrap interval over units (Efron 1979).

    p is twice the smaller share of resampled means on either side of zero, at least 1 / resamples. Equal
    values have the ``limits`` of what is possible for an interval, and no p.
    """
    values = _checked(values)
    check_seed("seed", seed)
    check_count("resamples", resamples, 100)
    if _spread(values) == 0:
        return _by_t(float(values.mean()), 0.0, math.inf, len(values), unit, limits)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [values[rng.integers(len(values), size=(100, len(values)))].mean(1) for _ in range(resamples // 100)]
    )
    return _by_resamples(float(values.mean()), means, len(values), unit)


def grouped_interval(
    values: np.ndarray, groups: np.ndarray, unit: str = "images", seed: int = 0, resamples: int = 4000
) -> Estimate:
    """Mean of values (n,) with the percentile bootstrap interval over their groups (n,), such as classes.

    Groups are drawn with all their values (the cluster bootstrap of Davison and Hinkley 1997), so that many
    values of few groups do not count as many. ``n`` counts values. One group alone has no interval, and
    equal values have none. Raises ValueError for other shapes.
    """
    values = _checked(values)
    names, place = np.unique(np.asarray(groups).ravel(), return_inverse=True)
    if place.shape != values.shape:
        raise ValueError(f"need a group for each of {len(values)} values, not {len(place)}")
    if len(names) < 2 or _spread(values) == 0:
        return _by_t(float(values.mean()), 0.0, math.inf, len(values), unit, None)
    sums, counts = np.bincount(place, values), np.bincount(place)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return _by_resamples(float(values.mean()), drawn @ sums / (drawn @ counts), len(values), unit)


def two_way_interval(
    values: np.ndarray,
    seed: int = 0,
    resamples: int = 4000,
    limits: tuple[float, float] | None = None,
) -> Estimate:
    """Mean of values (seeds, images) with an interval for other seeds *and* other images.

    From ``ENOUGH_SEEDS`` seeds on by bootstrap over both (Owen 2007); below by Student's t with the seeds'
    variance plus the images' and Satterthwaite's degrees of freedom. ``n`` counts seeds; the unit names the
    images.
    """
    values = _numbers(values)
    if values.ndim != 2:
        raise ValueError(f"need values of shape (seeds, images), not {values.shape}")
    mean, (seeds, images) = float(_checked(values).mean()), values.shape
    unit = f"seeds x {images} images"
    parts = np.array([_spread(values.mean(1 - axis)) ** 2 / n for axis, n in enumerate(values.shape)])
    if not parts.all():
        return _by_t(mean, 0.0, math.inf, seeds, unit, limits)
    if seeds < ENOUGH_SEEDS:
        df = parts.sum() ** 2 / (parts**2 / (np.array(values.shape) - 1)).sum()
        return _by_t(mean, math.sqrt(parts.sum()), float(df), seeds, unit, limits)
    rng = np.random.default_rng(seed)
    of_seeds, of_images = (rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n for n in values.shape)
    return _by_resamples(mean, (of_seeds @ values * of_images).sum(1), seeds, unit)


def rank_correlation(a: np.ndarray, b: np.ndarray, unit: str, seed: int = 0, draws: int = 9999) -> Estimate:
    """Spearman's rank correlation of a and b (n,), with Fisher's interval, which stays within [-1, 1].

    The standard error of z is Bonett and Wright's (2000); p is two-sided, by permutation of b. Below 4 units
    nothing bounds it, and where one side is constant it is 0 (and nothing bounds it).
    """
    a, b = stats.rankdata(_checked(a)), stats.rankdata(_checked(b))
    if len(a) != len(b):
        raise ValueError(f"pairs need equal lengths, not {len(a)} and {len(b)}")
    if len(a) < 4 or not _spread(a) or not _spread(b):
        varies = len(a) > 1 and _spread(a) and _spread(b)
        return Estimate(float(np.corrcoef(a, b)[0, 1]) if varies else 0.0, -1.0, 1.0, len(a), unit=unit)
    found = float(np.corrcoef(a, b)[0, 1])
    rng = np.random.default_rng(seed)
    drawn = np.array([np.corrcoef(a, rng.permutation(b))[0, 1] for _ in range(draws)])
    p = (1 + (np.abs(drawn) >= abs(found) - 1e-12).sum()) / (1 + draws)
    low, high = fisher_interval(found, len(a))
    return Estimate(found, low, high, len(a), float(p), unit)


def fisher_interval(correlation: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a rank correlation over n >= 4 units, within [-1, 1].

    A perfect one is no certainty: its far end is that of the next lower, of two neighbours in each other's
    place.
    """
    most = 1 - 12 / (n * (n**2 - 1))
    z = np.arctanh(np.clip(correlation, -most, most))
    half = 1.96 * math.sqrt((1 + correlation**2 / 2) / (n - 3))
    low, high = np.tanh(z - half), np.tanh(z + half)
    return float(min(low, correlation)), float(max(high, correlation))


def power(sd: float, n: int, effect: float) -> float:
    """Chance that a two-sided t test at 5 % over n pairs, of standard deviation ``sd``, sees an effect."""
    check_number("sd", sd, 0, above=True)
    check_count("n", n, 2)
    shift, edge = effect / sd * math.sqrt(n), stats.t.ppf(0.975, n - 1)
    return float(stats.nct.sf(edge, n - 1, shift) + stats.nct.cdf(-edge, n - 1, shift))


def mcnemar(before: np.ndarray, after: np.ndarray) -> Estimate:
    """Change of accuracy, ``after`` minus ``before``, in percentage points, from (n,) booleans "is right".

    The interval is Agresti and Min's (2005): half an observation is added to each cell. The p value is the
    exact binomial one over the images that changed (McNemar 1947).
    """
    before, after = as_mask(before, "each of before and after"), as_mask(after, "each of before and after")
    if before.shape != after.shape or before.ndim != 1 or not len(before):
        raise ValueError(f"need two equal vectors of at least one image, not {before.shape}, {after.shape}")
    gained, lost, n = int((after & ~before).sum()), int((before & ~after).sum()), len(before)
    centre = (gained - lost) / (n + 2)
    error = math.sqrt(max(gained + lost + 1 - (gained - lost) ** 2 / (n + 2), 0)) / (n + 2)
    p = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    low, high = centre - 1.96 * error, centre + 1.96 * error
    value = 100 * (gained - lost) / n
    return Estimate(value, 100 * low, 100 * high, n, float(p), "images", 100 * error)


def holm(p_values: np.ndarray) -> np.ndarray:
    """p values (n,) adjusted by Holm's method (1979); NaN entries stay NaN and do not count."""
    p_values = _numbers(p_values)
    if p_values.ndim != 1 or not (np.isnan(p_values) | ((p_values >= 0) & (p_values <= 1))).all():
        raise ValueError("p values are one row of numbers from 0 to 1, or NaN where there is none")
    adjusted = np.full_like(p_values, np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted


def _spread(values: np.ndarray) -> float:
    """The standard deviation of values (n,); 0 where rounding alone separates them, or for one."""
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return spread if spread > 1e-12 * np.abs(values).max() else 0.0


def _by_t(
    mean: float, error: float, df: float, n: int, unit: str, limits: tuple[float, float] | None
) -> Estimate:
    lowest, highest = limits or (-math.inf, math.inf)
    if error == 0:
        return Estimate(mean, lowest, highest, n, unit=unit)
    half = float(stats.t.ppf(0.975, df)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, df))
    return Estimate(mean, max(mean - half, lowest), min(mean + half, highest), n, p, unit, error, df)


def _by_resamples(mean: float, means: np.ndarray, n: int, unit: str) -> Estimate:
    low, high = np.quantile(means, [0.025, 0.975])
    p = min(1.0, 2 * max(min((means <= 0).mean(), (means >= 0).mean()), 0.5 / len(means)))
    return Estimate(mean, float(low), float(high), n, float(p), unit, float(means.std(ddof=1)))


def _numbers(values: object) -> np.ndarray:
    return as_array(values).astype(float)


def _checked(values: np.ndarray) -> np.ndarray:
    values = _numbers(values).ravel()
    if not len(values):
        raise ValueError("no values to average")
    if not np.isfinite(values).all():
        wrong = int((~np.isfinite(values)).sum())
        raise ValueError(f"{wrong} of {len(values)} values are NaN or infinite: leave out what they are of")
    return values
