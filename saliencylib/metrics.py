"""How well a saliency map predicts where people looked.

Maps are (H, W) arrays or tensors of finite numbers; fixations are two arrays ``x``, ``y`` of 0-based pixel
positions in the map (fractions fall in the pixel that holds them, a repeated position counts twice).
Everything is computed in float64. Rules for the edges, the same in every function:

* NaN or infinity in a map, a wrong shape, or a fixation outside the map: ValueError.
* No fixations (or, for shuffled AUC, no others): NaN, so that the image keeps its row in a table.
* A constant map knows nothing: AUC .5, and CC and NSS 0 with a RuntimeWarning. SIM, KL and information gain
  read a constant map (zeros too) as the uniform distribution.

Definitions follow the MIT saliency benchmark (Bylinskii et al., "What do different evaluation metrics tell
us about saliency models?", TPAMI 2019) and its MATLAB code; the tests hold its values.
"""

import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from torch import Tensor

from saliencylib.inputs import as_array, check_count, check_number, check_shape, finite_map

Points = tuple[np.ndarray, np.ndarray]
MAP_METRICS = ("cc", "sim", "kl")
FIXATION_METRICS = ("nss", "auc_judd", "auc_borji", "auc_shuffled")
METRICS = (*MAP_METRICS, *FIXATION_METRICS, "information_gain")
SMALLEST_STEP = 1e-6  # a million thresholds
WIDEST = 1e6  # pixels of a Gaussian's deviation, for which its window still fits a memory
EPSILON = np.finfo(np.float64).eps  # what MATLAB's code adds before it divides or takes a logarithm


def fixation_density(x: np.ndarray, y: np.ndarray, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """The fixations as a smooth map: counts a pixel under a Gaussian of ``sigma`` pixels (cut at 4 sigma).

    ``sigma`` may be one for both axes or (down, across). Returns (H, W) float32 with peak 1, or zeros where
    there are no fixations. Raises ValueError for another shape than (H, W), and for a negative or NaN sigma.
    """
    check_shape(shape)
    for deviation in np.broadcast_to(sigma, 2):
        check_number("sigma", deviation, 0, WIDEST)
    counts = np.bincount(_pixels(x, y, shape), minlength=shape[0] * shape[1]).reshape(shape)
    density = gaussian_filter(counts.astype(np.float64), sigma, mode="constant", truncate=4.0)
    return (density / max(density.max(), EPSILON)).astype(np.float32)


def cc(a: np.ndarray, b: np.ndarray) -> float:
    """Linear correlation coefficient (Pearson) of two maps, in [-1, 1]."""
    a, b = _pair(a, b)
    if a.min() == a.max() or b.min() == b.max():  # a deviation from the mean may be rounding alone
        warnings.warn("CC of a constant map is taken as 0", RuntimeWarning, stacklevel=2)
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), -1, 1))


def sim(a: np.ndarray, b: np.ndarray) -> float:
    """Similarity: the overlap of two maps, each scaled to [0, 1] and then to sum 1. In [0, 1], 1 if equal."""
    a, b = _pair(a, b)
    return float(np.minimum(_distribution(a - a.min()), _distribution(b - b.min())).sum())


def kl_div(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Kullback-Leibler divergence of the prediction from the truth, in nats; 0 if equal, else above.

    Both maps are scaled to sum 1 and must not be negative (ValueError). A place that the prediction leaves
    at zero costs up to 36 nats (the logarithm of the machine's epsilon), as in MATLAB's code.
    """
    truth, prediction = _pair(truth, prediction)
    p, q = _distribution(truth), _distribution(prediction)
    return float((p * np.log(EPSILON + p / (q + EPSILON))).sum())


def nss(map: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Normalised scanpath saliency: the mean at fixations of the map in its own standard deviations.

    The deviation has one degree of freedom less than pixels (MATLAB's ``std``).
    """
    map = _checked(map)
    index = _pixels(x, y, map.shape)
    if not index.size:
        return float("nan")
    if map.min() == map.max():
        warnings.warn("NSS of a constant map is taken as 0", RuntimeWarning, stacklevel=2)
        return 0.0
    return float((map.ravel()[index].mean() - map.mean()) / map.std(ddof=1))


def auc_judd(map: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Area under the ROC curve with a threshold at every fixated value (Judd et al.).

    Positives are the fixations, negatives the pixels without any; the curve is joined by straight lines.
    NaN where every pixel is fixated.
    """
    map = _checked(map)
    index = _pixels(x, y, map.shape)
    fixated = np.unique(index)
    if not index.size or fixated.size == map.size:
        return float("nan")
    values = map.ravel()
    thresholds, counts = np.unique(values[index], return_counts=True)
    hits = np.cumsum(counts[::-1]) / index.size
    free = np.sort(np.delete(values, fixated))
    alarms = (free.size - np.searchsorted(free, thresholds[::-1])) / free.size
    return float(np.trapezoid([0, *hits, 1], [0, *alarms, 1]))


def auc_borji(
    map: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    splits: int | None = 100,
    step: float | None = 0.1,
    rng: np.random.Generator | int | None = None,
) -> float:
    """Area under the ROC curve against pixels drawn uniformly from the whole map (Borji et al.).

    As published: in each of ``splits`` splits, as many pixels as fixations are drawn (with replacement), the
    map is scaled to [0, 1], thresholds run from 0 in steps of ``step``, and the areas are averaged.
    ``splits=None`` is the value that this tends to as the number of splits grows ("exact at the step");
    ``step=None`` takes every value of the map as a threshold ("continuous"). ``rng`` is a generator or a
    seed (None: seed 0).
    """
    map = _checked(map)
    return _auc(map, _pixels(x, y, map.shape), None, splits, step, rng)


def auc_shuffled(
    map: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    others: Sequence[Points],
    splits: int | None = 100,
    step: float | None = 0.1,
    rng: np.random.Generator | int | None = None,
) -> float:
    """Shuffled AUC: like ``auc_borji``, but negatives are drawn from fixations on other images.

    ``others`` holds one (x, y) an image, in this map's pixels. Each split draws as many of them as there are
    fixations, without replacement (all of them where there are fewer). A centre bias that people show on
    every image then earns nothing.
    """
    map = _checked(map)
    pairs = [[as_array(positions) for positions in points] for points in (() if others is None else others)]
    if others is None or not all(len(points) == 2 and points[0].ndim and points[1].ndim for points in pairs):
        raise ValueError(
            "others must hold one (x, y) an image, each of two arrays of positions: [(x, y), ...]"
        )
    pool = [_pixels(*points, map.shape) for points in pairs]
    pool = np.concatenate(pool) if pool else np.empty(0, np.int64)
    return _auc(map, _pixels(x, y, map.shape), pool, splits, step, rng)


def information_gain(map: np.ndarray, baseline: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Mean gain in bits a fixation of the map over a baseline map, both read as distributions (sum 1).

    Neither may be negative (ValueError). A zero under a fixation counts as the machine's epsilon.
    """
    map, baseline = _pair(map, baseline)
    index = _pixels(x, y, map.shape)
    if not index.size:
        return float("nan")
    gain = np.log2(EPSILON + _distribution(map)) - np.log2(EPSILON + _distribution(baseline))
    return float(gain.ravel()[index].mean())


def score(
    maps: Sequence[np.ndarray] | np.ndarray,
    fixations: Sequence[Points] | None = None,
    truths: Sequence[np.ndarray] | np.ndarray | None = None,
    *,
    sigma: float | None = None,
    baseline: np.ndarray | None = None,
    metrics: Sequence[str] | None = None,
    splits: int | None = 100,
    step: float | None = 0.1,
    others: int | None = 10,
    rng: np.random.Generator | int | None = None,
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Every metric on a whole set: a DataFrame with column ``image`` and one column a metric, a row an image.

    ``maps`` (N, H, W), or a list of maps of different sizes; ``fixations`` a list of (x, y) in each map's
    pixels (or, for an image, rows of points (n, 2), each x and y, or a map (H, W) of 0 and 1); ``truths``
    the maps of CC, SIM and KL (else, with ``sigma``, the fixation density of that width); ``baseline`` one
    map for information gain, of every map's size. ``metrics`` names what to compute; None is all that the
    arguments allow. Shuffled AUC takes its negatives from ``others`` other images drawn for each image
    (None: all of them), their positions scaled to the image's size. Every image has a generator of its own,
    spawned from ``rng``, so a row does not depend on which rows stand beside it in ``metrics``.

    Raises ValueError for lists of different lengths, for fixations that can be read in two ways (two in an
    array of 2 x 2), or for a metric that is unknown or lacks its input.
    """
    if fixations is None and truths is None:
        raise ValueError("score needs fixations, truths or both")
    for argument, given in (("maps", maps), ("fixations", fixations), ("truths", truths), ("names", names)):
        if not hasattr(given, "__len__") and (given is not None or argument == "maps"):
            raise ValueError(f"{argument} must be a list or an array, one entry an image, not {given!r}")
        if given is not None and len(given) != len(maps):
            raise ValueError(f"{len(maps)} maps, but {len(given)} {argument}")
    maps = [as_array(map) for map in maps]
    if any(map.ndim != 2 for map in maps):
        raise ValueError("maps are (N, H, W) or a list of maps (H, W); give a single map as [map]")
    if fixations is not None:
        fixations = [_points(points, map.shape) for points, map in zip(fixations, maps, strict=True)]
    possible = _possible(fixations, truths, sigma, baseline)
    metrics = possible if metrics is None else (metrics,) if isinstance(metrics, str) else tuple(metrics)
    if others is not None:
        check_count("others", others)
    if impossible := [name for name in metrics if name not in possible]:
        raise ValueError(f"cannot compute {impossible} from these arguments; possible are {list(possible)}")
    generators = _generator(rng).spawn(len(maps))
    rows = []
    for i, map in enumerate(maps):
        x, y = fixations[i] if fixations is not None else (None, None)
        truth = truths[i] if truths is not None else None
        if truth is None and sigma is not None:
            truth = fixation_density(x, y, map.shape, sigma)
        choice, borji, shuffled = generators[i].spawn(3)
        compute = {
            "cc": partial(cc, map, truth),
            "sim": partial(sim, map, truth),
            "kl": partial(kl_div, truth, map),
            "nss": partial(nss, map, x, y),
            "auc_judd": partial(auc_judd, map, x, y),
            "auc_borji": partial(auc_borji, map, x, y, splits, step, borji),
            "information_gain": partial(information_gain, map, baseline, x, y),
        }
        if "auc_shuffled" in metrics:
            pool = _others(maps, fixations, i, others, choice)
            compute["auc_shuffled"] = partial(auc_shuffled, map, x, y, pool, splits, step, shuffled)
        rows.append({name: compute[name]() for name in metrics})
    frame = pd.DataFrame(rows, columns=list(metrics), dtype=np.float64)
    frame.insert(0, "image", list(names) if names is not None else np.arange(len(maps)))
    return frame


def _possible(fixations, truths, sigma: float | None, baseline: np.ndarray | None) -> tuple[str, ...]:
    has_truth = truths is not None or sigma is not None
    inputs = [has_truth] * len(MAP_METRICS) + [fixations is not None] * len(FIXATION_METRICS)
    inputs.append(fixations is not None and baseline is not None)
    return tuple(name for name, given in zip(METRICS, inputs, strict=True) if given)


def _others(
    maps, fixations: Sequence[Points], i: int, count: int | None, rng: np.random.Generator
) -> list[Points]:
    """Fixations of other images that have any, scaled to the pixels of map ``i``."""
    candidates = np.array([j for j in range(len(maps)) if j != i and len(fixations[j][0])], int)
    if count is not None and count < len(candidates):
        candidates = np.sort(rng.choice(candidates, count, replace=False))
    height, width = maps[i].shape
    pool = []
    for j in candidates:
        x, y = fixations[j]
        if maps[j].shape != (height, width):
            x = np.minimum(np.asarray(x) * width / maps[j].shape[1], np.nextafter(width, 0))
            y = np.minimum(np.asarray(y) * height / maps[j].shape[0], np.nextafter(height, 0))
        pool.append((x, y))
    return pool


def _auc(
    map: np.ndarray,
    fixated: np.ndarray,
    pool: np.ndarray | None,
    splits: int | None,
    step: float | None,
    rng: np.random.Generator | int | None,
) -> float:
    """ROC area of the flat pixels ``fixated`` against those of ``pool`` (None: every pixel).

    The area against a sample of negatives is the mean over that sample of the share of positives that lie
    above (ties count half), so it needs only how often each level of the map was drawn: a split is one draw
    from the multinomial distribution (hypergeometric without replacement) over the levels. That is the
    distribution of the published loop, at the cost of a dozen numbers a split instead of one a fixation.
    """
    if splits is not None:
        check_count("splits", splits)
    if step is not None:
        check_number("step", step, SMALLEST_STEP, 1)
    rng = _generator(rng)
    count = fixated.size if pool is None else min(fixated.size, pool.size)
    if not count:
        return float("nan")
    if step is None:
        return _auc_continuous(map.ravel(), fixated, pool, splits, count, rng)
    size = int(1 / step + 1e-9) + 1
    positives = np.bincount(_levels(map, fixated, step), minlength=size) / fixated.size
    share_above = 1 - np.cumsum(positives) + positives / 2
    negatives = np.bincount(_levels(map, slice(None) if pool is None else pool, step), minlength=size)
    if splits is None:
        return float(share_above @ negatives / negatives.sum())
    if pool is None:
        draws = rng.multinomial(count, negatives / negatives.sum(), size=splits)
    else:
        draws = rng.multivariate_hypergeometric(negatives, count, size=splits)
    return float((draws @ share_above).mean() / count)


def _generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    if not isinstance(rng, np.random.Generator | None):
        check_count("rng, as a seed,", rng, 0)
    return np.random.default_rng(0 if rng is None else rng)


def _auc_continuous(
    values: np.ndarray,
    fixated: np.ndarray,
    pool: np.ndarray | None,
    splits: int | None,
    count: int,
    rng: np.random.Generator,
) -> float:
    positives = np.sort(values[fixated])
    negatives = values if pool is None else values[pool]
    below = np.searchsorted(positives, negatives, "left") + np.searchsorted(positives, negatives, "right")
    share_above = 1 - below / (2 * positives.size)
    if splits is None:
        return float(share_above.mean())
    replace = pool is None
    draws = [rng.choice(negatives.size, count, replace=replace, shuffle=False) for _ in range(splits)]
    return float(np.mean([share_above[draw].mean() for draw in draws]))


def _levels(map: np.ndarray, pixels: np.ndarray | slice, step: float) -> np.ndarray:
    """The highest threshold 0, step, 2 step, ... that flat pixels of the [0, 1]-scaled map reach."""
    low, high = map.min(), map.max()
    values = map.ravel()[pixels]
    if low == high:
        return np.zeros(values.size, np.int64)
    scaled = (values - low) / ((high - low) * step)
    return (scaled + 1e-9).astype(np.int64)  # rounding must not push a value below the threshold it equals


def _distribution(map: np.ndarray) -> np.ndarray:
    if map.min() < 0:
        raise ValueError("a map that is read as a distribution must not be negative")
    total = map.sum()
    return map / total if total > 0 else np.full(map.shape, 1 / map.size)


def _pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = _checked(a), _checked(b)
    if a.shape != b.shape:
        raise ValueError(f"the maps differ in shape: {a.shape} and {b.shape}")
    return a, b


def _checked(map: np.ndarray) -> np.ndarray:
    """The map in float64; one whose squares would leave the range of float64, with its peak at 1."""
    map = finite_map(map)
    peak = np.abs(map).max()
    return map / peak if peak > 1e100 or 0 < peak < 1e-100 else map


def _points(fixations: object, shape: tuple[int, int]) -> Points:
    """Fixations on a map of this shape as (x, y), from (x, y), rows of points (n, 2) or a map of 0 and 1."""
    wanted = "give (x, y) as a tuple of two arrays, rows (x, y) of shape (n, 2), or a map (H, W) of 0 and 1"
    if isinstance(fixations, tuple):
        if len(fixations) != 2:
            raise ValueError(f"fixations are a tuple of {len(fixations)}: {wanted}")
        return tuple(np.atleast_1d(as_array(positions)) for positions in fixations)
    if not isinstance(fixations, Sequence | np.ndarray | Tensor | pd.DataFrame):
        raise ValueError(f"fixations are a {type(fixations).__name__}: {wanted}")
    sizes = [as_array(positions).size for positions in fixations[:2]]
    if len(fixations) == 2 and sizes[0] != sizes[1]:
        raise ValueError(f"{sizes[0]} x positions, but {sizes[1]} y positions")
    given = as_array(fixations)
    if not given.size:
        return np.empty(0), np.empty(0)
    as_map = given.shape == tuple(shape) and bool(np.isin(given, (0, 1)).all())
    as_rows, as_pair = (given.ndim == 2 and given.shape[axis] == 2 for axis in (1, 0))
    if sum((as_map, as_rows, as_pair)) > 1 and given.dtype != bool:
        raise ValueError(f"fixations of shape {given.shape} can be read in two ways: {wanted}")
    if as_map:
        return np.nonzero(given)[::-1]
    if as_rows or as_pair:
        return tuple(given.T if as_rows else given)
    other = " and values other than 0 and 1" if given.shape == tuple(shape) else ""
    raise ValueError(
        f"fixations of shape {given.shape}{other} do not fit a map of shape {tuple(shape)}: {wanted}"
    )


def _pixels(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Flat pixel index of every fixation."""
    x, y = (as_array(positions).astype(np.float64, copy=False).ravel() for positions in (x, y))
    if x.size != y.size:
        raise ValueError(f"{x.size} x positions, but {y.size} y positions")
    inside = (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])
    if not inside.all():
        raise ValueError(f"{np.count_nonzero(~inside)} of {x.size} fixations lie outside the {shape} map")
    return y.astype(np.int64) * shape[1] + x.astype(np.int64)
