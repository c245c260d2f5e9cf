"""Estimates with 95 % intervals: over seeds by Student's t, over images by bootstrap or McNemar's test."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A measured value with its 95 % interval, the number of units behind it and the p value against zero."""

    value: float
    low: float
    high: float
    n: int
    p: float = math.nan
    unit: str = "seeds"

    @property
    def detectable(self) -> float:
        """Half the width of the interval: an effect smaller than this could not have been told from zero."""
        return (self.high - self.low) / 2

    def row(self, value: str = "value", n: str = "n") -> dict[str, float]:
        """The estimate as a table's columns: ``value``, low, high, p, smallest visible and ``n``."""
        numbers = (self.value, self.low, self.high, self.p, self.detectable, self.n)
        return dict(zip((value, "low", "high", "p", "smallest visible", n), numbers, strict=True))

    def __str__(self) -> str:
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
    value alone has an interval without bounds. Raises ValueError when there is none, or a NaN.
    """
    lowest, highest = limits or (-math.inf, math.inf)
    values = _checked(values)
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return Estimate(mean, lowest, highest, 1, unit=unit)
    error = float(values.std(ddof=1)) / math.sqrt(n)
    if error == 0:
        return Estimate(mean, mean, mean, n, 0.0 if mean else 1.0, unit)
    half = stats.t.ppf(0.975, n - 1) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, n - 1))
    return Estimate(mean, max(mean - half, lowest), min(mean + half, highest), n, p, unit)


def paired_difference(a: np.ndarray, b: np.ndarray, unit: str = "seeds") -> Estimate:
    """Mean of ``a - b`` over pairs (n,), with Student's t interval and paired t test."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape:
        raise ValueError(f"pairs need equal shapes, not {a.shape} and {b.shape}")
    return mean_interval(a - b, unit)


def bootstrap_interval(
    values: np.ndarray, unit: str = "images", seed: int = 0, resamples: int = 4000
) -> Estimate:
    """Mean of values (n,) with the percentile bootstrap interval over units (Efron 1979).

    p is twice the smaller share of resampled means on either side of zero, at least 1 / resamples.
    """
    values = _checked(values)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [values[rng.integers(len(values), size=(100, len(values)))].mean(1) for _ in range(resamples // 100)]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    p = min(1.0, 2 * max(min((means <= 0).mean(), (means >= 0).mean()), 0.5 / len(means)))
    return Estimate(float(values.mean()), float(low), float(high), len(values), float(p), unit)


def mcnemar(before: np.ndarray, after: np.ndarray) -> Estimate:
    """Change of accuracy, ``after`` minus ``before``, in percentage points, from (n,) booleans "is right".

    The interval is Agresti and Min's (2005): half an observation is added to each cell. The p value is the
    exact binomial one over the images that changed (McNemar 1947).
    """
    before, after = np.asarray(before, bool), np.asarray(after, bool)
    if before.shape != after.shape or before.ndim != 1 or not len(before):
        raise ValueError(f"need two equal vectors of at least one image, not {before.shape}, {after.shape}")
    gained, lost, n = int((after & ~before).sum()), int((before & ~after).sum()), len(before)
    centre = (gained - lost) / (n + 2)
    error = math.sqrt(max(gained + lost + 1 - (gained - lost) ** 2 / (n + 2), 0)) / (n + 2)
    p = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    low, high = centre - 1.96 * error, centre + 1.96 * error
    return Estimate(100 * (gained - lost) / n, 100 * low, 100 * high, n, float(p), "images")


def holm(p_values: np.ndarray) -> np.ndarray:
    """p values (n,) adjusted by Holm's method (1979); NaN entries stay NaN and do not count."""
    p_values = np.asarray(p_values, float)
    adjusted = np.full_like(p_values, np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted


def _checked(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float).ravel()
    if not len(values):
        raise ValueError("no values to average")
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} of {len(values)} values are NaN")
    return values
