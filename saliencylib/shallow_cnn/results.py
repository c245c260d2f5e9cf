"""What paper 2 says about its trainings and predictions, made measurable: scores, tables, curves, failures.

Networks vary with their seed and scores with the image, so estimates are over both; what has no seed (a
constant map, a handcrafted one) is numbered -1 and stands beside every seed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from scipy import stats as scipy_stats

from saliencylib import metrics, stats
from saliencylib.saliency import centre_gaussian
from saliencylib.shallow_cnn.gaze import GazeSet, peak_one
from saliencylib.shallow_cnn.network import GAZE_LOSSES
from saliencylib.shallow_cnn.training import GazePairs, GazeTraining
from saliencylib.stats import Estimate
from saliencylib.study.claims import Condition
from saliencylib.study.keep import kept, side_by_side

PRINTED_METRICS = {"cc": "CC", "sauc": "shuffled AUC", "borji": "AUC-Borji"}
JUDGING_METRICS = {"cc": "CC", "nss": "NSS", "sauc": "shuffled AUC"}
METRIC_LABELS = {"cc": "CC", "nss": "NSS", "sauc": "shuffled AUC", "borji": "AUC-Borji"}
COLUMN_OF = {"cc": "cc", "nss": "nss", "auc_shuffled": "sauc", "auc_borji": "borji"}
# Tables III and IV on SALICON validation images, in the order of PRINTED_METRICS.
PRINTED_SCORES = {
    ("III", "target, printed", "MSE"): (0.65, 0.55, 0.71),
    ("III", "replication, printed", "MSE"): (0.66, 0.56, 0.72),
    ("IV", "replication, printed", "MSE"): (0.659, 0.556, 0.715),
    ("IV", "replication, printed", "L1"): (0.70, 0.577, 0.718),
}
SEEDLESS = -1
OWN_MINUS_OTHERS = 0.05  # of CC, that a network which has learned reaches
BLIND = ("mean map", "median map", "centre Gaussian")  # maps that see no picture, which it beats in CC
SQUARED = ("mse",)  # losses whose root is in the unit of the maps
INTENSE = 0.5  # of a map's peak: what lies above is an intense spot
PRIOR_WIDTHS = (0.75, 1, 1.5, 2, 3)


# -------------------------------------------------------------------------------------------------- scores


def image_scores(predicted: Mapping[tuple[str, int], np.ndarray], test: GazeSet) -> pd.DataFrame:
    """Scores of maps (N, 48, 48), given by method and seed, on a test set; kept as they are finished.

    Rows test, method, seed, image, cc, nss, sauc (shuffled AUC), borji (AUC-Borji) and others (mean CC with
    the other images' truths). Maps are compared on the network's own 48x48 grid, without blur. The areas are
    the published sampled ones, of 100 splits; their negatives depend on the image only, so every method meets
    the same. Sets of maps alone have NaN where fixations are needed.
    """
    found = side_by_side(_scores_of_maps, [(maps, test.points, test.targets) for maps in predicted.values()])
    names = zip(predicted, found, strict=True)
    frames = [frame.assign(test=test.name, method=method, seed=seed) for (method, seed), frame in names]
    columns = ["test", "method", "seed", "image", *COLUMN_OF.values(), "others"]
    return pd.concat(frames, ignore_index=True).rename(columns=COLUMN_OF).reindex(columns=columns)


@kept("scores")
def _scores_of_maps(
    maps: np.ndarray, points: Sequence[np.ndarray] | None, targets: np.ndarray
) -> pd.DataFrame:
    chosen = ("cc",) if points is None else tuple(COLUMN_OF)
    frame = metrics.score(maps, points, targets, metrics=chosen, rng=0)
    return frame.assign(others=correlations_with_others(maps, targets))


def by_seed(scored: pd.DataFrame, test: str, method: str, metric: str) -> pd.DataFrame:
    """One score of one method on one test set: a row a seed, a column an image that has it."""
    rows = scored[(scored["test"] == test) & (scored["method"] == method)]
    return rows.pivot(index="seed", columns="image", values=metric).dropna(axis=1)


def mean_of(values: pd.DataFrame, limits: tuple[float, float] | None = None) -> Estimate:
    """Mean of values (seeds, images): over both, or over images where there are no seeds."""
    if values.index[0] == SEEDLESS:
        return stats.bootstrap_interval(values.iloc[0].to_numpy(), limits=limits)
    return stats.two_way_interval(values.to_numpy(), limits=limits)


def two_way_difference(of: pd.DataFrame, minus: pd.DataFrame, relative: bool = False) -> Estimate:
    """Mean of one method's values (seeds, images) minus another's, paired by image and by the seeds of both.

    ``relative``: 100 (of / minus - 1), the ratio of the means, by the delta method. Values without a seed
    stand beside every seed.
    """
    if of.index[0] == SEEDLESS != minus.index[0]:
        of = pd.DataFrame(np.broadcast_to(of, minus.shape), minus.index, of.columns)
    if minus.index[0] == SEEDLESS != of.index[0]:
        minus = pd.DataFrame(np.broadcast_to(minus, of.shape), of.index, minus.columns)
    seeds = of.index.intersection(minus.index)
    of, minus = of.loc[seeds], minus.loc[seeds]
    if not relative:
        return mean_of(of - minus)
    level = minus.to_numpy().mean()
    ratio = of.to_numpy().mean() / level
    return mean_of(100 * ((of - ratio * minus) / level + ratio - 1))


def score_difference(
    scored: pd.DataFrame, test: str, metric: str, of: str, minus: str = "MSE", relative: bool = False
) -> Estimate:
    """``compared`` for a score of two methods on a test set."""
    return two_way_difference(*(by_seed(scored, test, name, metric) for name in (of, minus)), relative)


def mean_scores(scored: pd.DataFrame) -> pd.DataFrame:
    """Mean of every score by test set and method: test, method, metric, value, low, high, n, unit.

    Beside the metrics stands "own minus others", the CC with the own truth minus that with other images'.
    """
    scored = scored.assign(**{"own minus others": scored["cc"] - scored["others"]})
    rows = []
    for test, method in scored[["test", "method"]].drop_duplicates().itertuples(index=False):
        for metric in (*METRIC_LABELS, "own minus others"):
            values = by_seed(scored, test, method, metric)
            if values.size:
                found = mean_of(values)
                named = {"test": test, "method": method, "metric": metric, "unit": found.unit}
                rows.append(named | found.row())
    return pd.DataFrame(rows)[["test", "method", "metric", "value", "low", "high", "n", "unit"]]


def score_table(means: pd.DataFrame) -> pd.DataFrame:
    """``mean_scores`` as people read them: a row for method and test set, a column a score."""
    wide = means.pivot_table(index=["method", "test"], columns="metric", values="value", sort=False)
    wide = wide.reindex(columns=[*METRIC_LABELS, "own minus others"])
    return wide.rename(columns=METRIC_LABELS).reset_index().rename_axis(columns=None)


def printed_table(number: str, means: pd.DataFrame, losses: Sequence[str]) -> pd.DataFrame:
    """Table "III" or "IV" with the printed rows first and ours below, each row with its loss and data."""
    rows = [
        (network, loss, "SALICON validation", *values)
        for (table, network, loss), values in PRINTED_SCORES.items()
        if table == number
    ]
    printed = pd.DataFrame(rows, columns=["network", "loss", "data", *PRINTED_METRICS.values()])
    ours = score_table(means).rename(columns={"method": "loss", "test": "data"})
    ours = ours[ours["loss"].isin(losses)].assign(network="here")
    return pd.concat([printed, ours[printed.columns]], ignore_index=True)


def differences_table(scored: pd.DataFrame, methods: Sequence[str], tests: Sequence[str]) -> pd.DataFrame:
    """Every method against the network trained with MSE: rows test, method, metric, difference, low, high, p,
    smallest visible, n, unit."""
    rows = []
    for test in tests:
        for method in methods:
            for metric in METRIC_LABELS:
                found = score_difference(scored, test, metric, method)
                named = {"test": test, "method": method, "metric": metric, "unit": found.unit}
                rows.append(named | found.row("difference"))
    return pd.DataFrame(rows)


def spread_of_two_runs(scored: pd.DataFrame, test: str, metric: str, method: str = "MSE") -> Estimate:
    """The standard deviation, in %, of the relative difference of two seeds' means of a metric (SC-D3), with
    the jackknife's interval over seeds, whose mean it is; of fewer than three seeds without one."""
    means = by_seed(scored, test, method, metric).mean(axis=1).to_numpy()
    count, whole = len(means), _relative_spread(means)
    if count < 3:
        return Estimate(whole, np.nan, np.nan, count)
    left_out = np.array([_relative_spread(np.delete(means, place)) for place in range(count)])
    return stats.mean_interval(count * whole - (count - 1) * left_out)


def _relative_spread(means: np.ndarray) -> float:
    """sqrt(2) times the deviation of runs' means (n,), in % of their level; 0 of a single one."""
    return float(100 * np.sqrt(2) * means.std(ddof=1) / means.mean()) if len(means) > 1 else 0.0


# -------------------------------------------------------------------------------------- what is no network


def blind_maps(mean_map: np.ndarray, median_map: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Maps (count, 48, 48) that have not seen the image: mean map, median map, centre Gaussian and noise.

    The Gaussian lies at the centre; its two widths are those of the mean map about the centre.
    """
    noise = np.random.default_rng(0).random((count, *mean_map.shape), dtype=np.float32)
    same = {"mean map": mean_map, "median map": median_map}
    same["centre Gaussian"] = fitted_centre_gaussian(mean_map)
    return {name: np.broadcast_to(m, noise.shape) for name, m in same.items()} | {"chance": noise}


def fitted_centre_gaussian(density: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """The Gaussian (H, W), peak 1, about the centre with the density's second moments about it, ``scale``
    times as wide."""
    weights = density / density.sum()
    y, x = (np.arange(side) - (side - 1) / 2 for side in density.shape)
    down, across = (weights * y[:, None] ** 2).sum(), (weights * x**2).sum()
    return centre_gaussian(density.shape, (scale * down**0.5, scale * across**0.5)).astype(np.float32)


def centre_prior(maps: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The centre Gaussian (48, 48) by which maps (N, 48, 48) are multiplied to predict these targets best.

    Its width is the targets' own times one of ``PRIOR_WIDTHS``, that with the highest mean CC.
    """
    density = targets.mean(0)
    priors = [fitted_centre_gaussian(density, scale) for scale in PRIOR_WIDTHS]
    return max(priors, key=lambda prior: correlations(maps * prior, targets).mean())


def best_rival(scored: pd.DataFrame, test: str, metric: str, rivals: Sequence[str]) -> str:
    """The rival with the highest mean score on this very test set, which favours it."""
    return max(rivals, key=lambda name: by_seed(scored, test, name, metric).to_numpy().mean())


# ----------------------------------------------------------------------------------- measures of single maps


def correlations(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """CC (N,) of maps (N, H, W) with other maps, or with one; that with the mean map is the centre bias."""
    others = np.broadcast_to(others, maps.shape)
    return np.array([metrics.cc(a, b) for a, b in zip(maps, others, strict=True)])


def correlations_with_others(maps: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Mean CC (N,) of each map (N, H, W) with the truths of all other images; 0 where there is no other."""
    scaled, truth = (_standardised(values) for values in (maps, truths))
    own = (scaled * truth).mean(1)
    return (scaled @ truth.sum(0) / truth.shape[1] - own) / max(1, len(maps) - 1)


def _standardised(maps: np.ndarray) -> np.ndarray:
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    flat -= flat.mean(1, keepdims=True)
    return flat / flat.std(1, keepdims=True).clip(1e-12)


def map_entropy(maps: np.ndarray) -> np.ndarray:
    """Entropy (N,) in bits of maps (N, H, W) read as distributions: wide maps have more (SC-X6)."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    return scipy_stats.entropy(flat + metrics.EPSILON, base=2, axis=1)


def beyond_constants(maps: np.ndarray, constants: Sequence[np.ndarray]) -> np.ndarray:
    """What is left of maps (N, H, W) after constant maps (H, W) and a level are regressed out (SC-X13)."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    levels = np.stack([np.ones(flat.shape[1]), *(np.ravel(constant) for constant in constants)], axis=1)
    basis, _ = np.linalg.qr(levels)
    return (flat - flat @ basis @ basis.T).reshape(maps.shape)


def total_variation(maps: np.ndarray) -> np.ndarray:
    """Mean absolute step (N,) between neighbouring pixels of maps (N, H, W) scaled to peak 1 (SC-X8a)."""
    scaled = peak_one(maps)
    return (np.abs(np.diff(scaled, axis=1)).mean((1, 2)) + np.abs(np.diff(scaled, axis=2)).mean((1, 2))) / 2


def intense_spots(maps: np.ndarray) -> np.ndarray:
    """How many separate regions (N,) of each map (N, H, W) lie above half of its peak (SC-X8b)."""
    return np.array([ndimage.label(map > INTENSE * map.max())[1] for map in maps], float)


def image_measures(
    predicted: Mapping[tuple[str, int], np.ndarray], test: str, constants: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """What single maps (N, 48, 48), by method and seed, are like: rows test, method, seed, image, bias (CC
    with the mean map), entropy, variation, spots, and peak and entropy of what is beyond the ``constants``,
    maps (48, 48) by name, of which one is the mean map."""
    frames = []
    for (method, seed), maps in predicted.items():
        left = beyond_constants(maps, [*constants.values()])
        columns = {
            "bias": correlations(maps, constants["mean map"]),
            "entropy": map_entropy(maps),
            "variation": total_variation(maps),
            "spots": intense_spots(maps),
            "peak beyond constants": left.max((1, 2)),
            "entropy beyond constants": map_entropy(left.clip(min=0)),
        }
        about = {"test": test, "method": method, "seed": seed, "image": range(len(maps))}
        frames.append(pd.DataFrame(about | columns))
    return pd.concat(frames, ignore_index=True)


def agreement_of_runs(scores: pd.DataFrame, given: np.ndarray | None = None) -> Estimate:
    """Spearman's rank correlation of images' scores between runs, mean over all pairs (SC-X7).

    ``scores`` has a row a seed and a column an image; with ``given`` (images,) it is the partial correlation.
    The interval is over seeds and images, by the jackknife. Raises ValueError for fewer than three runs.
    """
    values = scores.to_numpy()
    if len(values) < 3:
        raise ValueError("the agreement of runs needs at least three seeds")
    given = None if given is None else np.asarray(given)
    found = _mean_rank_correlation(values, given)
    seeds = [_mean_rank_correlation(np.delete(values, i, 0), given) for i in range(len(values))]
    images = []
    for i in range(values.shape[1]):
        rest = None if given is None else np.delete(given, i)
        images.append(_mean_rank_correlation(np.delete(values, i, 1), rest))
    of_seeds, of_images = (-(len(p) - 1) * (np.array(p) - np.mean(p)) for p in (seeds, images))
    return stats.two_way_interval(found + of_seeds[:, None] + of_images, limits=(-1, 1))


def shared_worst_tenth(scores: pd.DataFrame) -> float:
    """Which share of the tenth of images with the lowest scores two runs have in common, mean over all pairs
    of runs (rows of ``scores``); chance gives a tenth."""
    count = max(1, scores.shape[1] // 10)
    worst = np.zeros(scores.shape, int)
    np.put_along_axis(worst, np.argsort(scores.to_numpy(), axis=1)[:, :count], 1, axis=1)
    return float((worst @ worst.T)[np.triu_indices(len(worst), 1)].mean() / count)


def _mean_rank_correlation(values: np.ndarray, given: np.ndarray | None) -> float:
    ranks = scipy_stats.rankdata(values, axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    if given is not None:
        level = scipy_stats.rankdata(given) - (values.shape[1] + 1) / 2
        ranks -= np.outer(ranks @ level / (level @ level), level)
    return float(np.corrcoef(ranks)[np.triu_indices(len(ranks), 1)].mean())


def worst_tenth_minus_rest(values: pd.DataFrame, scores: pd.DataFrame) -> Estimate:
    """Mean over the tenth of images with the lowest scores minus that over the rest, of values (seeds,
    images); scores are averaged over seeds. Within each group images vary as in Welch's test."""
    order = np.argsort(scores.mean(axis=0).to_numpy(), kind="stable")
    worst = np.zeros(len(order), bool)
    worst[order[: max(2, len(order) // 10)]] = True
    array = values.to_numpy(float)
    means = [array[:, part].mean(1, keepdims=True) for part in (worst, ~worst)]
    weight = np.where(worst, len(worst) / worst.sum(), -len(worst) / (~worst).sum())
    influence = means[0] - means[1] + weight * (array - np.where(worst, *means))
    return mean_of(pd.DataFrame(influence, values.index))


def chosen_examples(cc: np.ndarray, others: np.ndarray, bias: np.ndarray, each: int) -> dict[str, np.ndarray]:
    """Images (indices) for Figures 5 to 9 by a fixed rule: those whose CC with the own truth exceeds that
    with others' the most, the predictions nearest to the mean map, and the lowest CC; no image twice."""
    good = np.argsort(others - cc, kind="stable")[:each]
    bad = np.argsort(cc, kind="stable")[:each]
    biased = [i for i in np.argsort(-bias, kind="stable") if i not in {*good, *bad}][:each]
    return {"good": good, "centre-biased": np.array(biased, int), "bad": bad}


# -------------------------------------------------------------------------------------------- trainings


def constant_losses(
    trained: Sequence[GazeTraining], constants: Mapping[str, np.ndarray], validation: GazePairs
) -> dict[str, dict[str, float]]:
    """The validation losses of constant maps (48, 48), by name, in the measure of every network, by name."""
    truths, found = torch.from_numpy(validation.targets), {}
    for recipe in (run.recipe for run in trained):
        loss = GAZE_LOSSES[recipe.loss]
        maps = {name: torch.from_numpy(map).expand_as(truths) for name, map in constants.items()}
        if recipe.name not in found:
            found[recipe.name] = {n: float(loss.of(loss.answers(m), truths)) for n, m in maps.items()}
    return found


def loss_by_epoch(
    trained: Sequence[GazeTraining], levels: Mapping[str, Mapping[str, float]] | None = None
) -> pd.DataFrame:
    """Rows method, seed, epoch (validated ones), train (mean of the losses noted in it), validation, and the
    validation losses of the constant maps in ``levels`` (``constant_losses``)."""
    frames = []
    for run in trained:
        epochs = run.validation_epochs.astype(int)
        train = run.train_losses.reshape(len(run.seconds), -1).mean(1)[epochs - 1]
        columns = {"method": run.recipe.name, "seed": run.recipe.seed, "epoch": epochs, "train": train}
        columns |= {"validation": run.validation_losses} | dict((levels or {}).get(run.recipe.name, {}))
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def has_learned(
    methods: Sequence[str],
    trained: Sequence[GazeTraining],
    levels: Mapping[str, Mapping[str, float]],
    scored: pd.DataFrame,
    test: str,
) -> Condition:
    """Whether networks, by name, have learned what a test set asks: validation losses below all constant
    maps', and on the test set a CC with the own truth at least .05 above that with other images' truths and
    above that of every map of ``BLIND`` that is ``scored`` (means over seeds)."""
    met, texts = True, []
    blind = {name: by_seed(scored, test, name, "cc").to_numpy() for name in BLIND}
    best = max((float(values.mean()) for values in blind.values() if values.size), default=-1.0)
    for method in methods:
        loss = np.mean([run.judged_loss for run in trained if run.recipe.name == method])
        own, others = (by_seed(scored, test, method, name).to_numpy().mean() for name in ("cc", "others"))
        follows = own - others >= OWN_MINUS_OTHERS and own > best
        met &= bool(loss < min(levels[method].values()) and follows)
        beside = ", ".join(f"{name} {value:.3g}" for name, value in levels[method].items())
        texts.append(
            f"{method}: validation loss {loss:.3g} ({beside}), CC {own:.3f} (of maps that see no picture at "
            f"most {best:.3f}), own minus others {own - others:.3f}"
        )
    return Condition(met, "; ".join(texts))


def over_fitting(trained: Sequence[GazeTraining]) -> pd.DataFrame:
    """By seed, from the epoch in which the *other* seeds' mean validation loss is lowest to the last, in % of
    the error there: columns rise (of the validation error) and fall (of the training error).

    All trainings are of one loss, and equally long (SC-X3, X4). An error is the loss, of a squared one its
    root, so that losses can be compared.
    """
    curves = loss_by_epoch(trained).pivot(index="epoch", columns="seed", values=["train", "validation"])
    if trained[0].recipe.loss in SQUARED:
        curves = np.sqrt(curves)
    rows = {}
    for seed in curves["validation"]:
        epoch = curves["validation"].drop(columns=seed).mean(axis=1).idxmin()
        train, validation = (curves[name, seed] for name in ("train", "validation"))
        rise, fall = validation.iloc[-1] / validation[epoch] - 1, 1 - train.iloc[-1] / train[epoch]
        rows[seed] = {"rise": 100 * rise, "fall": 100 * fall}
    return pd.DataFrame(rows).T


def over_fitted(rise: np.ndarray, learned: Condition) -> Condition:
    """Whether networks that have ``learned`` also over-fit: their validation loss's ``rise`` in %, a value a
    seed as ``over_fitting`` gives it, lies above zero."""
    found = stats.mean_interval(rise)
    return Condition(learned.met and found.low > 0, f"{learned.text}; validation loss rises by {found} %")


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean of values (n,); near the ends over the values that there are."""
    window = min(window, len(values))
    sums = np.convolve(values, np.ones(window), mode="same")
    return sums / np.convolve(np.ones(len(values)), np.ones(window), mode="same")


# -------------------------------------------------------------------------------------------- for verdicts


def judging_places(tests: Sequence[GazeSet]) -> list[tuple[GazeSet, dict[str, str]]]:
    """The test sets that decide, with the axis and case by which they are noted: the first judges, and
    mit1003, other photographs, stands beside it."""
    beside = [(test, {"axis": "test set", "case": test.name}) for test in tests[1:] if test.name == "mit1003"]
    return [(tests[0], {}), *beside]


def metric_places(tests: Sequence[GazeSet]) -> list[tuple[GazeSet, str, dict[str, str]]]:
    """The same for rows in which CC, NSS and shuffled AUC must agree: test set, metric, axis and case."""
    found = []
    for test, place in judging_places(tests):
        for metric, label in JUDGING_METRICS.items():
            case = f"{place['case']}, {label}" if place else label
            found.append((test, metric, {"axis": place.get("axis", "metric"), "case": case}))
    return found


def compact(table: pd.DataFrame) -> pd.DataFrame:
    """A table with 4 significant digits in its columns of numbers with fractions, as it is stored."""
    digits = table.select_dtypes("floating").columns
    return table.assign(**{name: table[name].map("{:.4g}".format).astype(float) for name in digits})
