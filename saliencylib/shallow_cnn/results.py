"""What paper 2 says about its predictions, made measurable: scores, centre bias, width, failures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
import torch
from scipy import stats as scipy_stats

from saliencylib.study import cache
from saliencylib import metrics, stats
from saliencylib.shallow_cnn.gaze import GazeSet
from saliencylib.shallow_cnn.training import Trained, predict
from saliencylib.stats import Estimate

PRINTED_METRICS = {"cc": "CC", "auc_shuffled": "shuffled AUC", "auc_borji": "AUC-Borji"}
# Tables III and IV on SALICON validation images, in the order of PRINTED_METRICS.
PRINTED = {
    ("III", "target, printed", "MSE"): (0.65, 0.55, 0.71),
    ("III", "replication, printed", "MSE"): (0.66, 0.56, 0.72),
    ("IV", "replication, printed", "MSE"): (0.659, 0.556, 0.715),
    ("IV", "replication, printed", "L1"): (0.70, 0.577, 0.718),
}
POINT_METRICS = ("cc", "sim", "kl", "nss", "auc_borji", "auc_shuffled")


def scores(predictor: str, seed: int, maps: np.ndarray, test: GazeSet, splits: int = 100) -> pd.DataFrame:
    """Scores of maps (N, 48, 48) on a test set: rows predictor, seed, data, image and a column a metric.

    Maps are compared on the network's own 48x48 grid, without blur. The areas are the published sampled ones;
    their negatives depend on the image only, so every predictor meets the same. Sets of maps alone have CC,
    SIM and KL.
    """
    chosen = metrics.MAP_METRICS if test.points is None else POINT_METRICS
    frame = metrics.score(maps, test.points, test.targets, metrics=chosen, splits=splits, rng=0)
    frame.insert(0, "data", test.name)
    frame.insert(0, "seed", seed)
    frame.insert(0, "predictor", predictor)
    return frame


def baselines(mean_map: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Maps (count, 48, 48) that have not seen the image: the mean map, a centre Gaussian, and noise.

    The Gaussian lies at the centre; its two widths are those of the mean map about the centre.
    """
    noise = np.random.default_rng(0).random((count, *mean_map.shape), dtype=np.float32)
    same = {"mean map": mean_map, "centre Gaussian": centre_gaussian(mean_map)}
    return {name: np.broadcast_to(m, noise.shape) for name, m in same.items()} | {"chance": noise}


def centre_gaussian(density: np.ndarray) -> np.ndarray:
    """The Gaussian (H, W), peak 1, about the centre with the density's second moments about it."""
    weights = density / density.sum()
    height, width = density.shape
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width)[None] - (width - 1) / 2
    exponent = x**2 / (weights * x**2).sum() + y**2 / (weights * y**2).sum()
    return np.exp(-exponent / 2).astype(np.float32)


def summary(scored: pd.DataFrame, over: str) -> pd.DataFrame:
    """Mean of every metric by predictor and data, with its 95 % interval over "seeds" or "images".

    Rows predictor, data, metric, value, low, high, n, unit; metrics that a set cannot have are left out.
    """
    names = [name for name in scored.columns if name in metrics.METRICS]
    rows = []
    for (predictor, data), part in scored.groupby(["predictor", "data"], sort=False):
        for metric in names:
            values = part.groupby("seed" if over == "seeds" else "image")[metric].mean().dropna()
            if len(values):
                mean = stats.mean_interval if over == "seeds" else stats.bootstrap_interval
                found = mean(values.to_numpy(), unit=over)
                row = {"predictor": predictor, "data": data, "metric": metric, "value": found.value}
                rows.append(row | {"low": found.low, "high": found.high, "n": found.n, "unit": over})
    return pd.DataFrame(rows)


def table_of(summaries: pd.DataFrame) -> pd.DataFrame:
    """A summary as people read it: a row for predictor and data, a column a metric of the paper."""
    wide = summaries.pivot_table(index=["predictor", "data"], columns="metric", values="value", sort=False)
    wide = wide.reindex(columns=list(PRINTED_METRICS))
    return wide.rename(columns=PRINTED_METRICS).reset_index().rename_axis(columns=None)


def printed_table(number: str, summaries: pd.DataFrame, losses: Sequence[str]) -> pd.DataFrame:
    """Table "III" or "IV" with the printed rows first and ours below, each row with its loss and data."""
    rows = [
        {"network": network, "loss": loss, "data": "SALICON validation"}
        | dict(zip(PRINTED_METRICS.values(), values, strict=True))
        for (table, network, loss), values in PRINTED.items()
        if table == number
    ]
    printed = pd.DataFrame(rows)
    ours = table_of(summaries).rename(columns={"predictor": "loss"})
    ours = ours[ours["loss"].isin(losses)].assign(network="here")
    return pd.concat([printed, ours[printed.columns]], ignore_index=True)


def predictions(
    trained: Sequence[Trained], gaze: GazeSet, device: torch.device
) -> dict[tuple[str, int], np.ndarray]:
    """The maps (N, 48, 48) of every trained network for a set's images, by recipe name and seed.

    Each network's maps are kept as an npz file below ``predictions`` in the cache, named by set, recipe and
    seed and by a hash of images and weights, and read back by the next call.
    """
    return {(run.recipe.name, run.recipe.seed): _stored_maps(run, gaze, device) for run in trained}


def _stored_maps(run: Trained, gaze: GazeSet, device: torch.device) -> np.ndarray:
    weights = [value.cpu().numpy() for value in run.model.state_dict().values()]
    name = "-".join(re.findall(r"\w+", f"{gaze.name} {run.recipe.name} {run.recipe.seed}"))
    key = cache.key(gaze.images, asdict(run.recipe), *weights)
    path = cache.CACHE / "predictions" / f"{name}-{key}.npz"
    stored = cache.load_arrays(path)
    if stored is None:
        stored = {"maps": predict(run.model, run.recipe, gaze.images, device)}
        cache.save_arrays(path, **stored)
    return stored["maps"]


def network_scores(
    predicted: Mapping[str, Mapping[tuple[str, int], np.ndarray]], tests: Sequence[GazeSet]
) -> pd.DataFrame:
    """``scores`` of every trained network on every test; ``predicted`` has ``predictions`` by test."""
    return pd.concat(
        [
            scores(name, seed, maps, test)
            for test in tests
            for (name, seed), maps in predicted[test.name].items()
        ],
        ignore_index=True,
    )


def baseline_scores(mean_map: np.ndarray, tests: Sequence[GazeSet]) -> pd.DataFrame:
    """``scores`` of the ``baselines`` on every test."""
    return pd.concat(
        [
            scores(name, 0, maps, test)
            for test in tests
            for name, maps in baselines(mean_map, len(test)).items()
        ],
        ignore_index=True,
    )


def table_estimates(scored: pd.DataFrame, tests: Sequence[GazeSet]) -> dict[str, tuple[Estimate, GazeSet]]:
    """Tables III and IV by claim: the mean over seeds, and the test set that it was measured on.

    CC comes from the last test set (SALICON's own maps where they are there), the areas from the first,
    which has fixations.
    """
    found = {}
    for table, losses in (("T3", ("MSE", "MSE")), ("T4", ("MSE", "L1"))):
        columns = [(loss, metric) for loss in losses for metric in PRINTED_METRICS]
        for letter, (loss, metric) in zip("abcdef", columns, strict=True):
            test = tests[-1] if metric == "cc" else tests[0]
            rows = scored[(scored["predictor"] == loss) & (scored["data"] == test.name)]
            values = rows.groupby("seed")[metric].mean().to_numpy()
            found[f"SC-{table}{letter}"] = (stats.mean_interval(values), test)
    return found


def relative_gain(scored: pd.DataFrame, data: str, metric: str) -> Estimate:
    """100 (L1 / MSE - 1) of a metric's mean over images, paired by seed (SC-D1 to D3)."""
    means = scored[scored["data"] == data].groupby(["predictor", "seed"])[metric].mean()
    return stats.mean_interval((100 * (means["L1"] / means["MSE"] - 1)).to_numpy())


def difference(scored: pd.DataFrame, data: str, metric: str, of: str, over: str = "MSE") -> Estimate:
    """A metric's mean over images of one network minus that of another, paired by the seeds both have."""
    means = scored[scored["data"] == data].groupby(["predictor", "seed"])[metric].mean()
    return stats.mean_interval((means[of] - means[over]).dropna().to_numpy())


def variants_table(scored: pd.DataFrame, over: str = "MSE") -> pd.DataFrame:
    """Every network against the one trained with MSE: rows predictor, data, metric, difference, low, high,
    p, smallest visible, seeds. Metrics are the paper's three, where the set has them."""
    rows = []
    for data, part in scored.groupby("data", sort=False):
        for metric in (name for name in PRINTED_METRICS if part[name].notna().any()):
            for name in part["predictor"].drop_duplicates():
                if name != over:
                    found = difference(scored, data, metric, name, over)
                    numbers = (found.value, found.low, found.high, found.p, found.detectable, found.n)
                    rows.append((name, data, metric, *numbers))
    columns = ["difference", "low", "high", "p", "smallest visible", "seeds"]
    return pd.DataFrame(rows, columns=["predictor", "data", "metric", *columns])


def best_variant(
    predicted: Mapping[tuple[str, int], np.ndarray], truths: np.ndarray, names: Sequence[str]
) -> str:
    """The network among ``names`` with the highest mean CC over seeds and images; for validation images."""
    found = {
        name: np.mean([correlations(maps, truths) for (n, _), maps in predicted.items() if n == name])
        for name in names
    }
    return max(found, key=found.get)


def spread_of_two_runs(scored: pd.DataFrame, data: str, metric: str, predictor: str = "MSE") -> float:
    """The standard deviation, in %, of the relative difference of two seeds' means of a metric."""
    part = scored[(scored["data"] == data) & (scored["predictor"] == predictor)]
    means = part.groupby("seed")[metric].mean()
    return float(100 * np.sqrt(2) * means.std(ddof=1) / means.mean())


def centre_bias(maps: np.ndarray, mean_map: np.ndarray) -> float:
    """Mean correlation of maps (N, 48, 48) with the mean map (SC-X5)."""
    return float(correlations(maps, mean_map).mean())


def correlations(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """CC (N,) of maps (N, H, W) with other maps, or with one."""
    others = np.broadcast_to(others, maps.shape)
    return np.array([metrics.cc(a, b) for a, b in zip(maps, others, strict=True)])


def entropy(maps: np.ndarray) -> np.ndarray:
    """Entropy (N,) in bits of maps (N, H, W) read as distributions: wide maps have more (SC-X6)."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    return scipy_stats.entropy(flat + metrics.EPSILON, base=2, axis=1)


def total_variation(maps: np.ndarray) -> np.ndarray:
    """Mean absolute step (N,) between neighbouring pixels of maps (N, H, W) scaled to peak 1 (SC-X8)."""
    scaled = maps / maps.max((1, 2), keepdims=True).clip(1e-6)
    return (np.abs(np.diff(scaled, axis=1)).mean((1, 2)) + np.abs(np.diff(scaled, axis=2)).mean((1, 2))) / 2


def agreement(per_image: pd.DataFrame, seed: int = 0, resamples: int = 1000) -> Estimate:
    """Spearman's rank correlation of scores between runs, mean over all pairs (SC-X7).

    ``per_image`` has a row an image and a column a seed. The interval is a percentile bootstrap over images.
    Raises ValueError for fewer than two runs.
    """
    values = per_image.to_numpy()
    if values.shape[1] < 2:
        raise ValueError("the agreement of runs needs at least two seeds")
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            _mean_rank_correlation(values[rng.integers(len(values), size=len(values))])
            for _ in range(resamples)
        ]
    )
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
    low, high = test.confidence_interval()
    return Estimate(
        float(worst.mean() - rest.mean()), float(low), float(high), len(values), float(test.pvalue), "images"
    )


def by_decile(values: np.ndarray, scored: np.ndarray) -> pd.DataFrame:
    """Means of ``values`` (N,) in ten groups of images from the lowest to the highest score.

    Rows tenth (1 to 10), value, low, high (95 % bootstrap over the group's images), n.
    """
    rows = []
    for tenth, group in enumerate(np.array_split(np.argsort(scored, kind="stable"), 10), 1):
        found = stats.bootstrap_interval(values[group])
        rows.append((tenth, found.value, found.low, found.high, found.n))
    return pd.DataFrame(rows, columns=["tenth", "value", "low", "high", "n"])


def three_forms(maps: np.ndarray, test: GazeSet) -> pd.DataFrame:
    """AUC-Borji and shuffled AUC as sampled, exact at the step 0.1, and continuous: means over a test set."""
    forms = {"sampled (100 splits)": (100, 0.1), "exact at step 0.1": (None, 0.1), "continuous": (None, None)}
    rows = []
    for form, (splits, step) in forms.items():
        names = ("auc_borji", "auc_shuffled")
        frame = metrics.score(maps, test.points, metrics=names, splits=splits, step=step, rng=0)
        rows.append({"form": form} | {PRINTED_METRICS[name]: frame[name].mean() for name in names})
    return pd.DataFrame(rows)


def chosen_examples(cc: np.ndarray, bias: np.ndarray, each: int) -> Mapping[str, np.ndarray]:
    """Images (indices) for Figures 5 to 9 by a fixed rule: the highest CC, the predictions nearest to the
    mean map, and the lowest CC; no image twice."""
    good = np.argsort(-cc, kind="stable")[:each]
    bad = np.argsort(cc, kind="stable")[:each]
    biased = [i for i in np.argsort(-bias, kind="stable") if i not in {*good, *bad}][:each]
    return {"good": good, "centre-biased": np.array(biased, int), "bad": bad}
