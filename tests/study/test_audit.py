"""An audit of the stored verdicts, independent of the code that judged: from the raw tables of a run it
recomputes every counted row's effect, null controls and condition, and what follows from them.

It reads CSV files alone and shares nothing with the library but the place of the results. A recipe says how
one claim follows from the raw tables. Runs without such tables are skipped.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from saliencylib.places import ROOT

CLAIMS = pd.read_csv(ROOT / "saliencylib" / "study" / "claims.csv").set_index("id", drop=False)
COUNTED = CLAIMS[~CLAIMS["rule"].isin(["exact", "shown", "untestable", "value"])]
OWN_DATA = COUNTED["scope"].fillna("").str.startswith("own data")  # judged on the paper's data alone
AUDITED = COUNTED.loc[~OWN_DATA, "id"].tolist()
RUNS = sorted(path.parents[1] for path in (ROOT / "results").glob("*/tables/04_verdicts.csv"))
CHANCE = 10.0  # %, of ten classes
METRICS = {"CC": "cc", "NSS": "nss", "shuffled AUC": "sauc"}
SEEDLESS = -1
ROUNDED_RATIO = 1e-4  # %, by which a ratio of two numbers of six digits can be off


@dataclass
class Found:
    """What raw tables give for a case: values by unit (n,) or (seeds, images), minus each null control's too.

    A number in place of values is an estimate that is no mean, such as a correlation: then it alone is
    compared, and its stored interval is taken. ``limits`` are those of what is possible. ``groups`` (n,),
    such as classes, are what is drawn for an interval over images. ``rounding`` is what the six digits of the
    raw numbers can change.
    """

    effect: np.ndarray | float
    beyond: dict[str, np.ndarray | float] = field(default_factory=dict)
    met: bool | None = None
    limits: tuple[float, float] = (-math.inf, math.inf)
    groups: np.ndarray | None = None
    rounding: float = 0.0


def interval(
    values: np.ndarray, unit: str = "seeds", groups: np.ndarray | None = None
) -> tuple[float, float]:
    """A 95 % interval of the mean of values (n,), over 20 images and more (or groups of them) by bootstrap,
    else by Student's t; of values (seeds, images) by the variances of both."""
    values = np.asarray(values, float)
    if groups is not None:
        parts = pd.Series(values).groupby(np.asarray(groups)).agg(["sum", "size"]).to_numpy()
        drawn = np.random.default_rng(1).integers(len(parts), size=(3000, len(parts)))
        totals = parts[drawn].sum(1)
        return tuple(np.quantile(totals[:, 0] / totals[:, 1], [0.025, 0.975]))
    if unit.startswith("images") and values.ndim == 1 and len(values) >= 20 and values.std() > 0:
        found = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1))
        return found.confidence_interval
    parts = [values] if values.ndim == 1 else [values.mean(1), values.mean(0)]
    variances = np.array([part.var(ddof=1) / len(part) for part in parts])
    counts = np.array([len(part) - 1 for part in parts])
    df = variances.sum() ** 2 / (variances**2 / counts).sum()
    half = stats.t.ppf(0.975, df) * math.sqrt(variances.sum())
    return values.mean() - half, values.mean() + half


def paired(table: pd.DataFrame, metric: str, a: dict, b: dict, unit: str | list[str] = "seed") -> np.ndarray:
    """``metric`` of the rows with keys ``a`` minus that of those with keys ``b``, by unit.

    Two units, such as seed and image, give an array (seeds, images). Raises KeyError for missing rows.
    """
    sides = []
    for keys in (a, b):
        chosen = table[(table[list(keys)] == pd.Series(keys)).all(axis=1)]
        if chosen.empty or chosen.duplicated(unit).any():
            raise KeyError(f"{keys} names {len(chosen)} rows, of which some are of one {unit}")
        sides.append(chosen.set_index(unit)[metric])
    difference = (sides[0] - sides[1]).dropna()
    return difference.unstack().to_numpy() if isinstance(unit, list) else difference.to_numpy()


# ------------------------------------------------------------------------------------- paper 1's recipes


RAW = {"01": "01_accuracy_by_training.csv", "02": "02_image_scores.csv.gz", "03": "03_blur_by_image.csv.gz"}


def read(run: Path, name: str) -> pd.DataFrame:
    """A raw table of a run; skips the test when the notebook's run is older than all raw tables."""
    tables = run / "tables"
    if not (tables / RAW[name[:2]]).exists():
        pytest.skip(f"{run.name} has no {RAW[name[:2]]}: the run is older than it")
    return pd.read_csv(tables / name)


def trainings_of(run: Path, network: str, data: str) -> pd.DataFrame:
    table = read(run, "01_accuracy_by_training.csv")
    return table[(table["network"] == network) & (table["data"] == data)]


def most_shared(table: pd.DataFrame) -> pd.DataFrame:
    """The trainings of the width, learning rate and images a class that most of them share."""
    keys = ["width", "learning_rate", "per_class"]
    shared = pd.Series(table[keys].value_counts().index[0], keys)
    return table[(table[keys] == shared).all(axis=1)]


def main_trainings(run: Path, network: str, data: str) -> pd.DataFrame:
    table = trainings_of(run, network, data).query("connection == 'first'")
    return most_shared(table[table["mask"].isin(["plain", "grey", "RC", "Alpha"])])


def learned(accuracies: pd.Series) -> bool:
    return bool(accuracies.mean() >= 3 * CHANCE)


def gain(network: str, mask: str, over: str, run: Path, data: str) -> Found:
    trainings = main_trainings(run, network, data)
    values = paired(trainings, "last", {"mask": mask}, {"mask": over})
    return Found(values, met=learned(trainings.query("mask == 'plain'")["last"]))


def epochs_above(network: str, run: Path, data: str) -> Found:
    curves = read(run, "01_curves_by_training.csv").query("network == @network and data == @data")
    table = curves.pivot(index=["seed", "epoch"], columns="mask", values="accuracy")
    above = table[["RC", "Alpha"]].mean(axis=1) > table["plain"] + 1e-3
    shares = above.groupby("seed").mean().to_numpy() - 0.5
    plain = main_trainings(run, network, data).query("mask == 'plain'")["last"]
    return Found(shares, met=learned(plain), limits=(-0.5, 0.5))


def averaged_minus_raw(run: Path, data: str) -> Found:
    """With the averaged minus with the raw mask; beyond grey's, of which a raw one is darker, too."""
    table = trainings_of(run, "alexnet", data)
    raw = most_shared(table.query("connection == 'raw'"))
    keys = ["width", "learning_rate", "per_class", "mask", "seed"]
    both = raw.merge(table.query("connection == 'first'"), on=keys, suffixes=("_raw", "_first"))
    more = (both["last_first"] - both["last_raw"]).groupby([both["seed"], both["mask"]]).mean().unstack()
    of_maps = more[["RC", "Alpha"]].mean(axis=1)
    beyond = {"grey": (of_maps - more["grey"]).to_numpy()} if "grey" in more else {}
    averaged = both.query("mask == 'RC'")["last_first"]
    return Found(of_maps.to_numpy(), beyond, met=learned(averaged))


def spared(images: str, run: Path, data: str, mask: str = "RC") -> Found:
    """Points lost by plain minus those by a masked network; beyond grey, which stands in plain's place."""
    table = read(run, "01_lost_by_seed.csv").query("images == @images and data == @data")
    lost = table.pivot(index="seed", columns="mask", values="lost")
    beyond = {"grey": (lost["grey"] - lost[mask]).to_numpy()}
    plain = table.query("mask == 'plain'")["clean"]
    return Found((lost["plain"] - lost[mask]).to_numpy(), beyond, met=learned(plain))


def quality(run: Path, data: str) -> Found:
    table = read(run, "01_quality_by_seed.csv").query("data == @data")
    steps = table[table["kind"] == "degraded truth"].groupby("mask")[["auc", "points"]].mean()
    found = stats.spearmanr(steps["auc"], steps["points"]).statistic
    return Found(float(found), met=learned(table["plain"]))


def auc_lost(run: Path, data: str) -> Found:
    table = read(run, "01_map_auc_by_image.csv").query("mask == 'RC' and data == @data")
    return Found(paired(table, "auc", {"size": 96}, {"size": 32}, "image"))


# ------------------------------------------------------------------------------------- paper 2's recipes


def values_of(table: pd.DataFrame, test: str, method: str, column: str) -> pd.DataFrame:
    """A row a seed, a column an image. Raises KeyError when there are none."""
    rows = table[(table["test"] == test) & (table["method"] == method)]
    found = rows.pivot(index="seed", columns="image", values=column).dropna(axis=1)
    if found.empty:
        raise KeyError(f"no {column} of {method} on {test}")
    return found


def minus(of: pd.DataFrame, other: pd.DataFrame) -> np.ndarray:
    """Differences (seeds, images); what has no seed stands beside every seed, two such give (images,)."""
    if of.index[0] == SEEDLESS or other.index[0] == SEEDLESS:
        found = of.to_numpy() - other.to_numpy()
        return found[0] if len(found) == 1 else found
    return (of - other).dropna().to_numpy()


def ratio_minus_one(of: pd.DataFrame, other: pd.DataFrame) -> np.ndarray:
    """Values (seeds, images) whose mean is 100 (of / other - 1) of the means, and that vary as it does."""
    of, other = of.align(other, join="inner", axis=0)
    level, ratio = other.to_numpy().mean(), of.to_numpy().mean() / other.to_numpy().mean()
    return 100 * ((of - ratio * other) / level + ratio - 1).to_numpy()


def scores(run: Path) -> pd.DataFrame:
    return read(run, "02_image_scores.csv.gz")


def gaze_learned(run: Path, data: str, *methods: str) -> bool:
    """Below mean and median map in the own validation loss, following the image (.05 of CC), and of a higher
    CC than the maps that see no picture."""
    curves, table = read(run, "02_validation.csv"), scores(run)
    blind = table[
        (table["test"] == data) & table["method"].isin(["mean map", "median map", "centre Gaussian"])
    ]
    best, met = blind.groupby("method")["cc"].mean().max(), True
    for method in methods:
        mine = curves[curves["method"] == method]
        loss = mine.groupby("seed")["validation"].min().mean()
        own = values_of(table, data, method, "cc").to_numpy().mean()
        focus = own - values_of(table, data, method, "others").to_numpy().mean()
        met &= bool(loss < mine[["mean map", "median map"]].min(axis=None) and focus >= 0.05 and own > best)
    return met


def against_mse(method: str, metric: str, run: Path, data: str, case: str = "") -> Found:
    """In %, of one metric; by the networks that were trained on a mixture where that is the case."""
    pair = [name + ", mixture" * (case == "mixture") for name in (method, "MSE")]
    of, other = (values_of(scores(run), data, name, metric) for name in pair)
    return Found(ratio_minus_one(of, other), met=gaze_learned(run, data, *pair))


def runs_apart(run: Path, data: str) -> Found:
    """The jackknife's values for the deviation, in %, of the relative difference of two runs' AUC-Borji."""
    means = values_of(scores(run), data, "MSE", "borji").mean(axis=1).to_numpy()

    def deviation(some: np.ndarray) -> float:
        return 100 * math.sqrt(2) * some.std(ddof=1) / some.mean()

    n = len(means)
    values = [n * deviation(means) - (n - 1) * deviation(np.delete(means, i)) for i in range(n)]
    return Found(np.array(values), met=gaze_learned(run, data, "MSE"))


def better(method: str, needed: tuple[str, ...], run: Path, data: str, case: str) -> Found:
    of, other = (values_of(scores(run), data, name, METRICS[case]) for name in (method, "MSE"))
    return Found(minus(of, other), met=gaze_learned(run, data, *needed))


def sizes_compared(run: Path, data: str, case: str) -> Found:
    of, other = (values_of(scores(run), data, name, METRICS[case]) for name in ("MSE", "MSE, 10x10"))
    return Found(ratio_minus_one(of, other), met=gaze_learned(run, data, "MSE", "MSE, 10x10"))


def beyond_handcrafted(run: Path, data: str, case: str) -> Found:
    of = partial(values_of, scores(run), data, column=METRICS[case])
    rivals = [name + prior for name in ("RC", "FT", "SR") for prior in ("", " x prior")]
    best = max(map(lambda name: of(method=name), rivals), key=lambda values: values.to_numpy().mean())
    network = of(method="MSE")
    beyond = {name: minus(network, of(method=name)) for name in ("mean map", "median map")}
    return Found(minus(network, best), beyond, met=gaze_learned(run, data, "MSE"))


def fails_alike(run: Path, data: str) -> Found:
    cc = partial(values_of, scores(run), data, column="cc")
    ranks = cc(method="MSE").rank(axis=1).to_numpy()
    pairs = np.triu_indices(len(ranks), 1)
    beyond = {}
    for name in ("mean map", "median map"):
        level = stats.rankdata(cc(method=name).iloc[0])
        given = np.column_stack([level, np.ones_like(level)])
        left = ranks.T - given @ np.linalg.lstsq(given, ranks.T, rcond=None)[0]
        beyond[name] = float(np.corrcoef(left.T)[pairs].mean())
    return Found(float(np.corrcoef(ranks)[pairs].mean()), beyond, met=gaze_learned(run, data, "MSE"))


def grows_worse(run: Path, data: str) -> Found:
    table = scores(run)
    ends = ("L1, last epoch", "L1") if "L1, last epoch" in set(table["method"]) else ("L1", "L1, best epoch")
    last, best = (values_of(table, data, name, "cc") for name in ends)
    rise = over_fitted(run).query("loss == 'L1'")["rise"].to_numpy()
    return Found(minus(last, best), met=gaze_learned(run, data, "L1") and interval(rise, "seeds")[0] > 0)


def over_fitted(run: Path) -> pd.DataFrame:
    """Rise and fall in % by loss and seed, from the epoch that is best for the other seeds to the last."""
    curves, rows = read(run, "02_validation.csv"), []
    gone = read(run, "02_over_fitting.csv")
    for loss, seed in gone[["loss", "seed"]].itertuples(index=False):
        seeds = gone.loc[gone["loss"] == loss, "seed"]
        mine = curves[(curves["method"] == loss) & curves["seed"].isin(seeds)]
        power = 0.5 if loss == "MSE" else 1.0  # the unit of the maps
        valid, train = (
            mine.pivot(index="epoch", columns="seed", values=v) ** power for v in ("validation", "train")
        )
        epoch = valid.drop(columns=seed).mean(axis=1).idxmin()
        rise = 100 * (valid[seed].iloc[-1] / valid[seed][epoch] - 1)
        rows.append((loss, seed, rise, 100 * (1 - train[seed].iloc[-1] / train[seed][epoch])))
    return pd.DataFrame(rows, columns=["loss", "seed", "rise", "fall"])


def drifts_apart(run: Path, data: str) -> Found:
    gone = over_fitted(run).query("loss == 'MSE'")
    judged = data.removesuffix(", validation")
    values = gone[["rise", "fall"]].min(axis=1).to_numpy()
    return Found(values, met=gaze_learned(run, judged, "MSE"), rounding=ROUNDED_RATIO)


def over_fits_more(run: Path, data: str) -> Found:
    values = paired(over_fitted(run), "rise", {"loss": "L1"}, {"loss": "MSE"})
    met = gaze_learned(run, data.removesuffix(", validation"), "MSE", "L1")
    return Found(values, met=met, rounding=2 * ROUNDED_RATIO)


def measures(run: Path, data: str, column: str, *methods: str) -> list[pd.DataFrame]:
    """A measure of single maps: of networks, of "mean map", "median map" and "truth" (without seed)."""
    table = read(run, "02_image_measures.csv.gz")
    return [values_of(table, data, method, column) for method in methods]


def less_biased(run: Path, data: str) -> Found:
    """``bias`` is the correlation with the mean map."""
    of_mse, of_l1, mean_map, median_map = measures(run, data, "bias", "MSE", "L1", "mean map", "median map")
    constants = mean_map.to_numpy().mean() - median_map.to_numpy().mean()
    return Found(minus(of_mse, of_l1) - constants, met=gaze_learned(run, data, "MSE", "L1"))


def wider(run: Path, data: str) -> Found:
    network, truth, level = measures(run, data, "entropy", "MSE", "truth", "mean map")
    beyond = {"mean map": minus(network, level)}
    return Found(minus(network, truth), beyond, met=gaze_learned(run, data, "MSE"))


def worst_tenth(column: str, least: float | None, run: Path, data: str) -> Found:
    """What the tenth of images with the lowest CC has more of ``column`` than the rest, or how much oftener
    it has at least so much."""
    (values,) = measures(run, data, column, "MSE")
    values = values if least is None else (values >= least).astype(float)
    order = values_of(scores(run), data, "MSE", "cc").mean().sort_values(kind="stable").index
    worst = order[: max(2, len(order) // 10)]
    found = float(values[worst].to_numpy().mean() - values.drop(columns=worst).to_numpy().mean())
    return Found(found, met=gaze_learned(run, data, "MSE"))


def more_confident(column: str, sign: int, run: Path, data: str) -> Found:
    """``column`` is a measure of what is left of a prediction when the mean map is regressed out."""
    of_l1, of_mse = measures(run, data, column, "L1", "MSE")
    return Found(sign * minus(of_l1, of_mse), met=gaze_learned(run, data, "MSE", "L1"))


def looked_at(run: Path, data: str) -> Found:
    table = read(run, "02_contrast_by_image.csv").query("data == @data")
    features = [table[name].to_numpy() for name in ("colour contrast", "complexity")]
    return Found(min(features, key=np.mean))


def faces_and_text(run: Path, data: str) -> Found:
    table = read(run, "02_faces_and_text_by_image.csv").query("data == @data")
    return Found(table["share"].to_numpy() - table["share of others"].to_numpy())


# ------------------------------------------------------------------------------------- paper 3's recipes

SCORES = {"AUC": ("auc", 0.5), "pointing": ("pointing", "area"), "energy": ("energy", "area")}
CONTRASTS = {"energy": "energy", "AUC": "auc", "IoU": "iou_area"}
MAPS_OF_CHANCE = ("centre Gaussian", "random map")


def of_classifier(run: Path, name: str, data: str) -> pd.DataFrame:
    """The rows of a raw table of the classifier that the data's name ends in."""
    table = read(run, name)
    return table[table["classifier"] == data.rpartition(", ")[2]]


def mach(run: Path, data: str) -> Found:
    return Found(read(run, "03_mach_bands.csv")["rise"].to_numpy())


def standing_out(name: str, kind: str, sign: int, run: Path, data: str) -> Found:
    """Inside minus outside of objects (of one kind, where there are some), or with sign -1 receding."""
    table = of_classifier(run, name, data)
    if "objects" in table:
        table = table[table["objects"] == (kind if kind in set(table["objects"]) else "digits")]
    own = sign * table["inside minus outside"].to_numpy()
    beyond = {control: own - sign * table[control].to_numpy() for control in MAPS_OF_CHANCE}
    return Found(own, beyond, limits=(-2, 2))


def areas_of(run: Path, data: str, scheme: str, similarity: str) -> pd.DataFrame:
    curves = of_classifier(run, "03_randomisation_by_image.csv.gz", data).query("scheme == @scheme")
    return curves.groupby(["image", "method"])[similarity].mean().unstack()


def falls(scheme: str, similarity: str, run: Path, data: str) -> Found:
    areas = areas_of(run, data, scheme, similarity)
    own = 1 - areas["LICNN"]
    controls = {"edge detector": "Edge detector", "Guided Backprop": "Guided Backprop"}
    beyond = {name: (own - (1 - areas[method])).to_numpy() for name, method in controls.items()}
    return Found(own.to_numpy(), beyond, limits=(-2, 2))


def falls_as_far(similarity: str, run: Path, data: str, method: str) -> Found:
    areas = areas_of(run, data, "cascading", similarity)
    return Found((areas["LICNN"] - areas[method]).to_numpy(), limits=(-2, 2))


def top5(run: Path, data: str) -> pd.DataFrame:
    """Top-5 correctness (0 or 1) by image and label, a column (source, rule, where, radius)."""
    table = of_classifier(run, "03_blur_by_image.csv.gz", data).fillna(
        {c: "" for c in ("source", "rule", "where")}
    )
    return table.pivot(
        index=["image", "label"], columns=["source", "rule", "where", "radius"], values="top5"
    ).astype(float)


def by_label(difference: pd.Series, beyond: dict[str, pd.Series] | None = None) -> Found:
    """Values by image and label, with intervals over labels."""
    labels = difference.index.get_level_values("label").to_numpy()
    others = {name: values.to_numpy() for name, values in (beyond or {}).items()}
    return Found(difference.to_numpy(), others, groups=labels)


def background_of(source: str, radius: int, rule: str = "released rule") -> tuple[str, str, str, int]:
    return source, rule, "background", radius


def falls_with_blur(run: Path, data: str) -> Found:
    right = top5(run, data)
    return by_label(100 * (right[background_of("LICNN", 2)] - right[background_of("LICNN", 10)]))


def turning_right(run: Path, data: str) -> Found:
    right = top5(run, data)
    own, chance = (
        7500.0 * ((right["", "", "", 0] == 0) & (right[background_of(source, 10)] == 1)).to_numpy()
        for source in ("LICNN", "random map")
    )
    return Found(own, {"random region": own - chance}, limits=(-7500, 7500))


def focus(run: Path, data: str, case: str) -> Found:
    """After minus before the softmax: of the share in the own half, or of how unlike five maps are."""
    if case == "own half":
        return own_half("LICNN", "LICNN, before the softmax", run, data)
    alike = of_classifier(run, "03_five_maps_by_image.csv", data)
    return Found((alike["before the softmax"] - alike["after the softmax"]).to_numpy(), limits=(-2, 2))


def own_half(a: str, b: str, run: Path, data: str) -> Found:
    halves = of_classifier(run, "03_own_half_by_pair.csv.gz", data)
    share = halves.groupby(["pair", "map"])["energy"].mean().unstack()
    return Found((share[a] - share[b]).to_numpy(), limits=(-1, 1))


def map_scores(run: Path, data: str, column: str) -> pd.DataFrame:
    table = of_classifier(run, "03_localisation_by_image.csv.gz", data)
    return table.pivot(index=["image", "label"], columns="map", values=column).astype(float)


def emphasis(run: Path, data: str, metric: str) -> Found:
    column, chance = SCORES[metric]
    table = map_scores(run, data, column)
    above = table["LICNN"] - (chance if isinstance(chance, float) else map_scores(run, data, chance)["LICNN"])
    return by_label(above, {control: table["LICNN"] - table[control] for control in MAPS_OF_CHANCE})


def inhibition(run: Path, data: str, metric: str) -> Found:
    table = map_scores(run, data, CONTRASTS[metric])
    without = "LICNN, no inhibition"
    beyond = {c: table["LICNN"] - table[f"{without}, times {c}"] for c in MAPS_OF_CHANCE}
    return by_label(table["LICNN"] - table[without], beyond)


def response_based(run: Path, data: str, metric: str) -> Found:
    table = map_scores(run, data, SCORES[metric][0])
    return by_label(table["LICNN"] - table["LICNN, gradient-based"])


def background_lost(run: Path, data: str) -> Found:
    table = of_classifier(run, "03_background_by_image.csv.gz", data)
    right = table.pivot(index=["name", "label"], columns="change", values="top5").astype(float)
    return by_label(100 * (right["unmodified"] - right["background blurred, radius 10"]).dropna())


def with_term(name: str, place: str, other_place: str, without: str, run: Path, data: str) -> Found:
    """A share with both terms minus with another variant, and beyond the same in another place of the map."""
    table = of_classifier(run, name, data).pivot(index="image", columns="terms")
    own, other = (table[where]["both terms"] - table[where][without] for where in (place, other_place))
    null = "elsewhere in the map" if other_place == "elsewhere" else "the rest of the map"
    return Found(own.to_numpy(), {null: (own - other).to_numpy()}, limits=(-2, 2))


# --------------------------------------------------------------------------------------- all the recipes

Recipe = Callable[..., Found]
RECIPES: dict[str, Recipe] = {
    "SM-D1": partial(gain, "alexnet", "RC", "plain"),
    "SM-D2": partial(gain, "alexnet", "Alpha", "plain"),
    "SM-D3": partial(gain, "nin", "RC", "plain"),
    "SM-D4": partial(gain, "nin", "Alpha", "plain"),
    "SM-O1a": partial(gain, "alexnet", "Alpha", "RC"),
    "SM-O1b": partial(gain, "nin", "RC", "Alpha"),
    "SM-X8a": partial(gain, "alexnet", "RC", "grey"),
    "SM-X8b": partial(gain, "alexnet", "Alpha", "grey"),
    "SM-X8c": partial(gain, "nin", "RC", "grey"),
    "SM-X8d": partial(gain, "nin", "Alpha", "grey"),
    "SM-F6a": partial(epochs_above, "alexnet"),
    "SM-F7a": partial(epochs_above, "nin"),
    "SM-X1": averaged_minus_raw,
    "SM-X2": quality,
    "SM-X3a": partial(spared, "noise 0.3"),
    "SM-X3b": partial(spared, "swapped"),
    "SM-X5": auc_lost,
    "SC-D1b": partial(against_mse, "L1", "cc"),
    "SC-D2b": partial(against_mse, "L1", "sauc"),
    "SC-D3": runs_apart,
    "SC-X3": drifts_apart,
    "SC-X4": over_fits_more,
    "SC-X14": grows_worse,
    "SC-X5": less_biased,
    "SC-X6": wider,
    "SC-X7": fails_alike,
    "SC-X8a": partial(worst_tenth, "variation", None),
    "SC-X8b": partial(worst_tenth, "spots", 2),
    "SC-X9": looked_at,
    "SC-X10": beyond_handcrafted,
    "SC-X11a": partial(better, "KL divergence", ("MSE", "KL divergence")),
    "SC-X11b": partial(better, "Bhattacharyya", ("MSE", "Bhattacharyya")),
    "SC-X12": sizes_compared,
    "SC-X13a": partial(more_confident, "peak beyond constants", 1),
    "SC-X13b": partial(more_confident, "entropy beyond constants", -1),
    "SC-X15": faces_and_text,
    "SC-X16": partial(better, "MSE, learned prior", ("MSE",)),
    "LI-F6": mach,
    "LI-F7": partial(standing_out, "03_people.csv", "", -1),
    "LI-F12aH": partial(falls, "cascading", "hog"),
    "LI-F12aS": partial(falls, "cascading", "spearman"),
    "LI-F12bH": partial(falls_as_far, "hog"),
    "LI-F12bS": partial(falls_as_far, "spearman"),
    "LI-F21H": partial(falls, "independent", "hog"),
    "LI-F21S": partial(falls, "independent", "spearman"),
    "LI-F15a": falls_with_blur,
    "LI-X1a": turning_right,
    "LI-X2": focus,
    "LI-X3": partial(standing_out, "03_unknown_objects.csv", "unknown", 1),
    "LI-X4": inhibition,
    "LI-X6": background_lost,
    "LI-X7b": partial(with_term, "03_borders.csv", "border", "elsewhere", "average term only (b = 0)"),
    "LI-X8": emphasis,
    "LI-X9a": response_based,
    "LI-X9b": partial(own_half, "LICNN, gradient-based", "LICNN"),
}


# ---------------------------------------------------------------------------------------------- the audit


def follows(claim: str, found: Found, low: float, high: float, beyond: dict[str, tuple[float, float]]) -> str:
    """What the recomputed interval, null controls (the ends of what is beyond them) and condition say, before
    Holm."""
    row = CLAIMS.loc[claim]
    margin = 0.0 if math.isnan(row["margin"]) else row["margin"]
    if found.met is False:
        return "not judged"
    if row["rule"] == "positive":
        holds, fails = low > margin, high < margin
    elif row["rule"] == "not_below":
        holds, fails = low > -margin, high < -margin
    else:
        holds, fails = -margin < low and high < margin, low > margin or high < -margin
    alike = [
        np.mean(found.effect) - np.mean(found.beyond[name]) < margin and ends[0] <= 0 <= ends[1]
        for name, ends in beyond.items()
    ]
    passing = holds and any(ends[0] <= 0 for ends in beyond.values())
    if passing or (fails and row["rule"] == "positive" and any(alike)):
        return "not telling"
    return "holds" if holds else "does not hold" if fails else "undecided"


def stored_cases(run: Path) -> pd.DataFrame:
    """The stored main measurements of a run, a row a part, of the audited claims."""
    frames = [pd.read_csv(path) for path in sorted((run / "tables").glob("*_claims.csv"))]
    table = pd.concat(frames, ignore_index=True)
    mains = table["axis"].isna() | table["axis"].isin(["metric", "method", "mask"])
    return table[mains & table["measured"].notna()]


def near(stored: float, again: float, width: float) -> bool:
    """Equal but for six stored digits and, with ``width``, for what bootstrap and t intervals differ by."""
    return math.isclose(stored, again, rel_tol=1e-4, abs_tol=1e-6 + width)


def recomputed(run: Path, claim: str, case: str, data: str) -> Found:
    recipe = RECIPES[claim]
    return recipe(run, data) if not case else recipe(run, data, case)


def check_part(
    stored: pd.Series,
    values: np.ndarray | float,
    limits: tuple[float, float] = (-math.inf, math.inf),
    groups: np.ndarray | None = None,
    rounding: float = 0.0,
) -> tuple[float, float]:
    """Compare a stored part with what the raw tables give; its interval, by the stored numbers."""
    digits = 2e-4 if " x " in stored["unit"] else 0.0  # scores are stored with four digits
    slack = digits * np.abs(values).max() + rounding
    assert near(stored["measured"], np.mean(values), slack), stored["part"]
    if stored["n"] < 3:
        assert math.isnan(stored["low"]) and math.isnan(stored["high"]), "two values have no interval"
    elif not isinstance(values, float) and np.ptp(values) == 0:
        ends = np.array([stored["low"], stored["high"]])
        assert np.isnan(ends).all() or (ends == limits).all(), "equal values are bounded by what is possible"
    elif not isinstance(values, float):
        low, high = interval(values, stored["unit"], groups)
        slack += 0.1 * (high - low) if "images" in stored["unit"] else 0.0
        low, high = np.clip([low, high], *limits)
        assert near(stored["low"], low, slack) and near(stored["high"], high, slack), stored["part"]
    return stored["low"], stored["high"]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
@pytest.mark.parametrize("claim", AUDITED)
def test_stored_numbers_and_verdicts_follow_from_the_raw_tables(run, claim):
    verdicts = pd.read_csv(run / "tables" / "04_verdicts.csv").set_index("id")
    cases = stored_cases(run).query("id == @claim").fillna({"case": "", "condition": ""})
    if cases.empty:
        assert verdicts.loc[claim, "verdict"] == "not judged"
        pytest.skip(f"{run.name} did not measure {claim}: {verdicts.loc[claim, 'remark']}")
    if claim not in RECIPES:
        pytest.fail(f"{claim} was measured and has no recipe")
    words = [
        audited_case(run, claim, rows.set_index("part")) for _, rows in cases.groupby("case", sort=False)
    ]
    assert consistent(verdicts.loc[claim], words, of_all=(cases["axis"] == "method").all())


def audited_case(run: Path, claim: str, parts: pd.DataFrame) -> str:
    """Check one stored case against the raw tables; what it says by its interval."""
    effect = parts.loc["effect"].copy()
    effect["part"] = "effect"
    found = recomputed(run, claim, effect["case"], effect["data"])
    names = {name.removeprefix("beyond: ") for name in parts.index if name.startswith("beyond: ")}
    assert names == set(found.beyond), "the null controls"
    assert str(effect["met"]) == ("nan" if found.met is None else str(found.met)), "the condition"
    low, high = check_part(effect, found.effect, found.limits, found.groups, found.rounding)
    ends = {}
    for name, values in found.beyond.items():
        part = parts.loc[f"beyond: {name}"].copy()
        part["part"] = name
        possible = found.limits if np.ptp(values) == 0 else (-math.inf, math.inf)
        ends[name] = check_part(part, values, possible, found.groups)
        if not isinstance(values, float):
            alone = np.mean(found.effect) - np.mean(values)
            assert near(parts.loc[f"null: {name}", "measured"], alone, 2e-4 * abs(alone)), name
    few = effect["n"] < (20 if effect["unit"].startswith("images") else 6)
    return "not judged" if few else follows(claim, found, low, high, ends)


def consistent(verdict: pd.Series, words: list[str], of_all: bool = False) -> bool:
    """Whether a stored verdict follows from what its cases say, Holm's adjustment and other axes aside.

    A claim ``of_all`` methods fails with one of them.
    """
    word = verdict["verdict"].removesuffix(" (embedded)")
    if of_all and word == "does not hold":
        return word in words and verdict["p_holm"] <= 0.05
    if word.startswith("depends on the metric"):
        return {"holds", "does not hold"} <= set(words)
    if word.startswith("depends on"):
        passes = word.endswith(("classifier", "preset")) and "not telling" in words
        return passes or set(words) <= {"holds", "does not hold"}
    if str(verdict["remark"]).startswith("not after Holm"):
        return set(words) <= {"holds", "does not hold"} and verdict["p_holm"] > 0.05
    if word in ("holds", "does not hold"):
        return set(words) == {word} and (math.isnan(verdict["p_holm"]) or verdict["p_holm"] <= 0.05)
    apart = len(set(words)) > 1 or "do not agree" in str(verdict["remark"])  # by Holm, if not by the interval
    return word in words or (word == "undecided" and apart)


def test_every_counted_row_is_audited():
    assert sorted(RECIPES) == sorted(AUDITED)


# ------------------------------------------------------------------------- the audit itself, on made-up runs


def made_run(tmp_path: Path, effect: float = 2.0, **changed) -> Path:
    """A run with SM-D1 and SM-X3b, whose stored numbers are right but for what ``changed`` replaces."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "made" / "tables"
    folder.mkdir(parents=True)
    rows, lost = [], []
    for seed in range(8):
        base = 40 + rng.normal()
        for mask, more in {"plain": 0, "grey": 0, "RC": effect, "Alpha": 0}.items():
            last = base + more + 0.3 * rng.normal()
            rows.append(("alexnet", 0.5, "first", mask, seed, 0.001, "set", 50, last))
            lost.append(("swapped", mask, seed, "set", base, 20 - more + 0.3 * rng.normal()))
    columns = "network width connection mask seed learning_rate data per_class last".split()
    pd.DataFrame(rows, columns=columns).to_csv(folder / "01_accuracy_by_training.csv", index=False)
    columns = "images mask seed data clean lost".split()
    pd.DataFrame(lost, columns=columns).to_csv(folder / "01_lost_by_seed.csv", index=False)
    stored = []
    for claim in ("SM-D1", "SM-X3b"):
        found = RECIPES[claim](folder.parent, "set")
        parts = {"effect": found.effect} | {f"beyond: {n}": v for n, v in found.beyond.items()}
        parts |= {f"null: {name}": found.effect - values for name, values in found.beyond.items()}
        for part, values in parts.items():
            low, high = interval(values)
            numbers = {"measured": values.mean(), "low": low, "high": high, "n": 8, "unit": "seeds"}
            place = {"id": claim, "axis": "", "case": "", "part": part, "data": "set", "met": True}
            stored.append(place | numbers | {"condition": "40 %"} | changed)
    pd.DataFrame(stored).to_csv(folder / "01_claims.csv", index=False)
    word = "holds" if effect > 1 else "undecided"
    judged = [{"id": claim, "verdict": word, "remark": "", "p_holm": 0.001} for claim in ("SM-D1", "SM-X3b")]
    pd.DataFrame(judged).to_csv(folder / "04_verdicts.csv", index=False)
    return folder.parent


@pytest.mark.parametrize("claim", ["SM-D1", "SM-X3b"])
def test_a_right_verdict_passes(tmp_path, claim):
    test_stored_numbers_and_verdicts_follow_from_the_raw_tables(made_run(tmp_path), claim)


@pytest.mark.parametrize("changed", [{"measured": 2.5}, {"low": 0.1}, {"met": False}, {"n": 5}])
@pytest.mark.parametrize("claim", ["SM-D1", "SM-X3b"])
def test_a_wrong_number_condition_or_count_is_found(tmp_path, claim, changed):
    run = made_run(tmp_path, **changed)
    with pytest.raises(AssertionError):
        test_stored_numbers_and_verdicts_follow_from_the_raw_tables(run, claim)


@pytest.mark.parametrize("word", ["undecided", "does not hold", "not telling", "not judged"])
def test_a_wrong_verdict_is_found(tmp_path, word):
    run = made_run(tmp_path)
    path = run / "tables" / "04_verdicts.csv"
    pd.read_csv(path).assign(verdict=word).to_csv(path, index=False)
    with pytest.raises(AssertionError):
        test_stored_numbers_and_verdicts_follow_from_the_raw_tables(run, "SM-D1")


def test_the_raw_grey_stands_beside_the_raw_maps(tmp_path):
    (tmp_path / "tables").mkdir()
    gains = {("first", "RC"): 5, ("first", "Alpha"): 3, ("first", "grey"): 2, ("raw", "Alpha"): -1}
    rows = [
        ("alexnet", 0.5, place, mask, seed, 0.001, "set", 50, 40 + seed + gains.get((place, mask), 0))
        for place in ("first", "raw", "second")
        for mask in ("plain", "RC", "Alpha", "grey")
        for seed in range(3)
    ]
    columns = "network width connection mask seed learning_rate data per_class last".split()
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "tables" / RAW["01"], index=False)
    found = averaged_minus_raw(tmp_path, "set")
    assert found.effect.tolist() == [4.5] * 3 and found.beyond["grey"].tolist() == [2.5] * 3 and found.met


@pytest.fixture
def made_scores(tmp_path):
    """A run in which MSE follows the image and is .1 above RC, L1 is a tenth above MSE, and SR has not
    learned."""
    (tmp_path / "tables").mkdir()
    rng = np.random.default_rng(0)
    images, seeds = 0.4 + 0.1 * rng.random(30), 0.01 * rng.random(6)
    levels = {"mean map": -0.2, "median map": -0.3, "RC": -0.1, "RC x prior": -0.15, "FT": -0.2}
    levels |= {"FT x prior": -0.2, "SR": -0.2, "SR x prior": -0.2}
    rows = [("set", name, SEEDLESS, i, v + images[i], 0.4) for name, v in levels.items() for i in range(30)]
    for seed, more in enumerate(seeds):
        for name, factor, others in (("MSE", 1, 0.3), ("L1", 1.1, 0.3), ("blind", 1, 0.5)):
            values = factor * (images + more)
            rows += [("set", name, seed, i, value, others) for i, value in enumerate(values)]
    table = pd.DataFrame(rows, columns=["test", "method", "seed", "image", "cc", "others"])
    table.to_csv(tmp_path / "tables" / "02_image_scores.csv.gz", index=False)
    curves = [
        (m, s, e, 1 / e + 0.001, 1.5, 2) for m in ("MSE", "L1", "blind") for s in range(6) for e in (1, 2)
    ]
    columns = ["method", "seed", "epoch", "validation", "mean map", "median map"]
    pd.DataFrame(curves, columns=columns).to_csv(tmp_path / "tables" / "02_validation.csv", index=False)
    return tmp_path


def test_recipes_of_gaze_scores(made_scores):
    found = beyond_handcrafted(made_scores, "set", "CC")
    assert found.effect.shape == (6, 30) and found.met is True
    cc = values_of(scores(made_scores), "set", "MSE", "cc").to_numpy()
    rival = values_of(scores(made_scores), "set", "RC", "cc").to_numpy()
    assert found.effect.mean() == pytest.approx(cc.mean() - rival.mean())
    assert found.beyond["median map"].mean() == pytest.approx(found.effect.mean() + 0.2)
    assert against_mse("L1", "cc", made_scores, "set").effect == pytest.approx(np.full((6, 30), 10))
    assert not gaze_learned(made_scores, "set", "MSE", "blind")
    assert fails_alike(made_scores, "set").effect == pytest.approx(1)


def test_paired_values_by_seed_and_by_seed_and_image():
    rows = [(s, i, m, 10 * s + i + 5 * (m == "a")) for s in range(2) for i in range(3) for m in "ab"]
    table = pd.DataFrame(rows, columns=["seed", "image", "map", "cc"])
    both = paired(table, "cc", {"map": "a"}, {"map": "b"}, ["seed", "image"])
    assert both.shape == (2, 3) and (both == 5).all()
    one = table.query("image == 0")
    assert paired(one, "cc", {"map": "a"}, {"map": "b"}).tolist() == [5, 5]
    with pytest.raises(KeyError):
        paired(table, "cc", {"map": "a"}, {"map": "c"}, ["seed", "image"])
    with pytest.raises(KeyError):
        paired(table, "cc", {"map": "a"}, {"map": "b"})
