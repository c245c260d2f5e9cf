"""What paper 2 says about its trainings and predictions, made measurable: scores, tables, curves, failures.

The paper reads by eye off its loss curves (sections VIII and X) where learning slows and how far training and
validation part; here each has a rule that was fixed before any long run.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from saliencylib import metrics, stats
from saliencylib.saliency import centre_gaussian
from saliencylib.shallow_cnn.gaze import GazeSet, peak_one
from saliencylib.shallow_cnn.training import GazeTraining
from saliencylib.stats import Estimate
from saliencylib.study.keep import kept

PRINTED_METRICS = {"cc": "CC", "auc_shuffled": "shuffled AUC", "auc_borji": "AUC-Borji"}
# Tables III and IV on SALICON validation images, in the order of PRINTED_METRICS.
PRINTED_SCORES = {
    ("III", "target, printed", "MSE"): (0.65, 0.55, 0.71),
    ("III", "replication, printed", "MSE"): (0.66, 0.56, 0.72),
    ("IV", "replication, printed", "MSE"): (0.659, 0.556, 0.715),
    ("IV", "replication, printed", "L1"): (0.70, 0.577, 0.718),
}
FEWEST_VALUES = 5  # that a knee needs
FIXATION_SCORES = ("cc", "sim", "kl", "nss", "auc_borji", "auc_shuffled")


@kept("scores", table=True)
def image_scores(predicted: Mapping[tuple[str, int], np.ndarray], test: GazeSet) -> pd.DataFrame:
    """Scores of maps (N, 48, 48), given by predictor and seed, on a test set; kept between runs.

    Rows predictor, seed, data, image and a column a metric. Maps are compared on the network's own 48x48
    grid, without blur. The areas are the published sampled ones, of 100 splits; their negatives depend on the
    image only, so every predictor meets the same. Sets of maps alone have CC, SIM and KL.
    """
    chosen = metrics.MAP_METRICS if test.points is None else FIXATION_SCORES
    frames = []
    for (predictor, seed), maps in predicted.items():
        frame = metrics.score(maps, test.points, test.targets, metrics=chosen, rng=0)
        frames.append(frame.assign(predictor=predictor, seed=seed, data=test.name))
    return pd.concat(frames, ignore_index=True)[["predictor", "seed", "data", "image", *chosen]]


def blind_maps(mean_map: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Maps (count, 48, 48) that have not seen the image: the mean map, a centre Gaussian, and noise.

    The Gaussian lies at the centre; its two widths are those of the mean map about the centre.
    """
    noise = np.random.default_rng(0).random((count, *mean_map.shape), dtype=np.float32)
    same = {"mean map": mean_map, "centre Gaussian": fitted_centre_gaussian(mean_map)}
    return {name: np.broadcast_to(m, noise.shape) for name, m in same.items()} | {"chance": noise}


def fitted_centre_gaussian(density: np.ndarray) -> np.ndarray:
    """The Gaussian (H, W), peak 1, about the centre with the density's second moments about it."""
    weights = density / density.sum()
    y, x = (np.arange(side) - (side - 1) / 2 for side in density.shape)
    down, across = (weights * y[:, None] ** 2).sum(), (weights * x**2).sum()
    return centre_gaussian(density.shape, (down**0.5, across**0.5)).astype(np.float32)


# -------------------------------------------------------------------------------------------------- tables


def mean_scores(scored: pd.DataFrame, over: str) -> pd.DataFrame:
    """Mean of every metric by predictor and data, with its 95 % interval over "seeds" or "images".

    Rows predictor, data, metric, value, low, high, n, unit; metrics that a set cannot have are left out.
    """
    unit, mean = {
        "seeds": ("seed", stats.mean_interval),
        "images": ("image", stats.bootstrap_interval),
    }[over]
    rows = []
    for (predictor, data), part in scored.groupby(["predictor", "data"], sort=False):
        for metric in (name for name in metrics.METRICS if name in part and part[name].notna().any()):
            found = mean(part.groupby(unit)[metric].mean().dropna().to_numpy(), unit=over)
            named = {"predictor": predictor, "data": data, "metric": metric, "unit": over}
            rows.append(named | found.row())
    return pd.DataFrame(rows)[["predictor", "data", "metric", "value", "low", "high", "n", "unit"]]


def score_table(means: pd.DataFrame) -> pd.DataFrame:
    """``mean_scores`` as people read them: a row for predictor and data, a column a metric of the paper."""
    wide = means.pivot_table(index=["predictor", "data"], columns="metric", values="value", sort=False)
    wide = wide.reindex(columns=list(PRINTED_METRICS))
    return wide.rename(columns=PRINTED_METRICS).reset_index().rename_axis(columns=None)


def printed_table(number: str, means: pd.DataFrame, losses: Sequence[str]) -> pd.DataFrame:
    """Table "III" or "IV" with the printed rows first and ours below, each row with its loss and data."""
    rows = [
        (network, loss, "SALICON validation", *values)
        for (table, network, loss), values in PRINTED_SCORES.items()
        if table == number
    ]
    printed = pd.DataFrame(rows, columns=["network", "loss", "data", *PRINTED_METRICS.values()])
    ours = score_table(means).rename(columns={"predictor": "loss"})
    ours = ours[ours["loss"].isin(losses)].assign(network="here")
    return pd.concat([printed, ours[printed.columns]], ignore_index=True)


def score_estimates(scored: pd.DataFrame, tests: Sequence[GazeSet]) -> dict[str, tuple[Estimate, GazeSet]]:
    """Tables III and IV by claim: the mean over seeds, and the test set that it was measured on.

    CC comes from the last test set (SALICON's own maps where they are there), the areas from the first,
    which has fixations.
    """
    found = {}
    for table, losses in (("T3", ("MSE", "MSE")), ("T4", ("MSE", "L1"))):
        columns = [(loss, metric) for loss in losses for metric in PRINTED_METRICS]
        for letter, (loss, metric) in zip("abcdef", columns, strict=True):
            test = tests[-1] if metric == "cc" else tests[0]
            values = seed_means(scored, test.name, metric)[loss]
            found[f"SC-{table}{letter}"] = (stats.mean_interval(values.to_numpy()), test)
    return found


def seed_means(scored: pd.DataFrame, data: str, metric: str) -> pd.Series:
    """A metric's mean over a set's images, by predictor and seed."""
    return scored[scored["data"] == data].groupby(["predictor", "seed"])[metric].mean()


def relative_gain(scored: pd.DataFrame, data: str, metric: str) -> Estimate:
    """100 (L1 / MSE - 1) of a metric's mean over images, paired by seed (SC-D1 to D3)."""
    means = seed_means(scored, data, metric)
    return stats.mean_interval((100 * (means["L1"] / means["MSE"] - 1)).to_numpy())


def score_difference(scored: pd.DataFrame, data: str, metric: str, of: str, minus: str = "MSE") -> Estimate:
    """A metric's mean over images of one network minus that of another, paired by the seeds both have."""
    means = seed_means(scored, data, metric)
    return stats.mean_interval((means[of] - means[minus]).dropna().to_numpy())


def variants_table(scored: pd.DataFrame) -> pd.DataFrame:
    """Every network against the one trained with MSE: rows predictor, data, metric, difference, low, high,
    p, smallest visible, seeds. Metrics are the paper's three, where the set has them."""
    rows = []
    for data, part in scored.groupby("data", sort=False):
        for metric in (name for name in PRINTED_METRICS if part[name].notna().any()):
            for name in part["predictor"].drop_duplicates():
                if name != "MSE":
                    found = score_difference(scored, data, metric, name).row("difference", "seeds")
                    rows.append({"predictor": name, "data": data, "metric": metric} | found)
    return pd.DataFrame(rows)


def best_network(
    predicted: Mapping[tuple[str, int], np.ndarray], truths: np.ndarray, names: Sequence[str]
) -> str:
    """The network among ``names`` with the highest mean CC over seeds and images; for validation images."""
    found = {key: correlations(maps, truths).mean() for key, maps in predicted.items()}
    return max(names, key=lambda name: np.mean([cc for (other, _), cc in found.items() if other == name]))


def spread_of_two_runs(scored: pd.DataFrame, data: str, metric: str, predictor: str = "MSE") -> float:
    """The standard deviation, in %, of the relative difference of two seeds' means of a metric."""
    means = seed_means(scored, data, metric)[predictor]
    return float(100 * np.sqrt(2) * means.std(ddof=1) / means.mean())


# ----------------------------------------------------------------------------------- measures of single maps


def correlations(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """CC (N,) of maps (N, H, W) with other maps, or with one; that with the mean map is the centre bias."""
    others = np.broadcast_to(others, maps.shape)
    return np.array([metrics.cc(a, b) for a, b in zip(maps, others, strict=True)])


def map_entropy(maps: np.ndarray) -> np.ndarray:
    """Entropy (N,) in bits of maps (N, H, W) read as distributions: wide maps have more (SC-X6)."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    return scipy_stats.entropy(flat + metrics.EPSILON, base=2, axis=1)


def total_variation(maps: np.ndarray) -> np.ndarray:
    """Mean absolute step (N,) between neighbouring pixels of maps (N, H, W) scaled to peak 1 (SC-X8)."""
    scaled = peak_one(maps)
    return (np.abs(np.diff(scaled, axis=1)).mean((1, 2)) + np.abs(np.diff(scaled, axis=2)).mean((1, 2))) / 2


def agreement_of_runs(per_image: pd.DataFrame, seed: int = 0, resamples: int = 1000) -> Estimate:
    """Spearman's rank correlation of scores between runs, mean over all pairs (SC-X7).

    ``per_image`` has a row an image and a column a seed. The interval is a percentile bootstrap over images.
    Raises ValueError for fewer than two runs.
    """
    values = per_image.to_numpy()
    if values.shape[1] < 2:
        raise ValueError("the agreement of runs needs at least two seeds")
    rng = np.random.default_rng(seed)
    resampled = (values[rng.integers(len(values), size=len(values))] for _ in range(resamples))
    drawn = np.array([_mean_rank_correlation(sample) for sample in resampled])
    low, high = np.quantile(drawn, [0.025, 0.975])
    p = min(1.0, 2 * max(min((drawn <= 0).mean(), (drawn >= 0).mean()), 0.5 / resamples))
    return Estimate(_mean_rank_correlation(values), float(low), float(high), len(values), float(p), "images")


def _mean_rank_correlation(values: np.ndarray) -> float:
    ranks = scipy_stats.rankdata(values, axis=0)
    pairs = np.triu_indices(ranks.shape[1], 1)
    return float(np.corrcoef(ranks, rowvar=False)[pairs].mean())


def worst_tenth_minus_rest(values: np.ndarray, scored: np.ndarray) -> Estimate:
    """Mean of ``values`` over the tenth of images with the lowest scores minus that over the rest (Welch)."""
    order = np.argsort(scored, kind="stable")
    worst, rest = np.split(values[order], [max(2, len(order) // 10)])
    test = scipy_stats.ttest_ind(worst, rest, equal_var=False)
    low, high = map(float, test.confidence_interval())
    return Estimate(float(worst.mean() - rest.mean()), low, high, len(values), float(test.pvalue), "images")


def means_by_tenth(values: np.ndarray, scored: np.ndarray) -> pd.DataFrame:
    """Means of ``values`` (N,) in ten groups of images from the lowest to the highest score.

    Rows tenth (1 to 10), value, low, high (95 % bootstrap over the group's images), n.
    """
    groups = np.array_split(np.argsort(scored, kind="stable"), 10)
    rows = [stats.bootstrap_interval(values[group]).row() for group in groups]
    table = pd.DataFrame(rows)[["value", "low", "high", "n"]]
    table.insert(0, "tenth", range(1, 11))
    return table


def chosen_examples(cc: np.ndarray, bias: np.ndarray, each: int) -> dict[str, np.ndarray]:
    """Images (indices) for Figures 5 to 9 by a fixed rule: the highest CC, the predictions nearest to the
    mean map, and the lowest CC; no image twice."""
    good = np.argsort(-cc, kind="stable")[:each]
    bad = np.argsort(cc, kind="stable")[:each]
    biased = [i for i in np.argsort(-bias, kind="stable") if i not in {*good, *bad}][:each]
    return {"good": good, "centre-biased": np.array(biased, int), "bad": bad}


# -------------------------------------------------------------------------------------------- loss curves


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean of values (n,); near the ends over the values that there are."""
    window = min(window, len(values))
    sums = np.convolve(values, np.ones(window), mode="same")
    return sums / np.convolve(np.ones(len(values)), np.ones(window), mode="same")


def loss_by_epoch(trained: Sequence[GazeTraining]) -> pd.DataFrame:
    """Rows by training (its loss's name and seed) and validated epoch: train, validation, gap.

    train is the mean of the losses noted in that epoch; gap is how much the validation loss exceeds it, as a
    share of it.
    """
    frames = []
    for run in trained:
        epochs = run.validation_epochs.astype(int)
        train = run.train_losses.reshape(run.recipe.epochs, -1).mean(1)[epochs - 1]
        columns = {"loss": run.recipe.name, "seed": run.recipe.seed, "epoch": epochs, "train": train}
        frame = pd.DataFrame(columns | {"validation": run.validation_losses})
        frames.append(frame.assign(gap=run.validation_losses / train - 1))
    return pd.concat(frames, ignore_index=True)


def knee(epochs: np.ndarray, losses: np.ndarray) -> float:
    """The epoch at which learning slows: where the smoothed curve lies farthest below its chord.

    The chord joins the first and the last value, both axes are scaled to [0, 1], and the curve is smoothed
    over a twentieth of its values (the rule of Satopaa et al., "Finding a Kneedle in a Haystack", 2011). NaN
    for fewer than five values, or for a curve that does not end lower than it began.
    """
    if len(losses) < FEWEST_VALUES:
        return float("nan")
    curve = smoothed(np.asarray(losses, float), max(1, len(losses) // 20))
    if curve[-1] >= curve[0]:
        return float("nan")
    x = (epochs - epochs[0]) / (epochs[-1] - epochs[0])
    y = (curve - curve[-1]) / (curve[0] - curve[-1])
    return float(epochs[np.argmax(1 - x - y)])


def curve_table(trained: Sequence[GazeTraining]) -> pd.DataFrame:
    """A row a training: loss, seed, knee (epoch, or NaN), gap at the end (mean over the last tenth of its
    validated epochs), and epochs in all."""
    rows = []
    for run in trained:
        gaps = loss_by_epoch([run])["gap"].to_numpy()
        slows = knee(run.validation_epochs, run.validation_losses)
        end = gaps[-max(1, len(gaps) // 10) :].mean()
        rows.append((run.recipe.name, run.recipe.seed, slows, end, run.recipe.epochs))
    return pd.DataFrame(rows, columns=["loss", "seed", "knee", "gap at the end", "epochs"])


def gap_growth(trained: Sequence[GazeTraining]) -> Estimate:
    """How much the gap grows over the second half of training, an epoch, by linear regression (SC-X3)."""
    slopes = []
    for run in trained:
        late = loss_by_epoch([run]).query("epoch > epoch.max() / 2")
        slopes.append(np.polyfit(late["epoch"], late["gap"], 1)[0])
    return stats.mean_interval(np.array(slopes))
