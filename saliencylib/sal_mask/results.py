"""What the trainings of paper 1 show: tables, paired gains and the estimates behind the verdicts.

A log has a row an epoch of every training, as ``training.accuracies_by_epoch`` gives it: the columns of
``training.RECIPE_KEYS``, epoch, loss, accuracy, accuracy_even, accuracy_odd, final. Everything is paired by
seed; ``at`` is a column of ``accuracy_by_training``: "last" (epoch, on all test images: what is judged),
"best" or "elsewhere". Tables of gains end in the columns points, low, high, p, smallest visible and seeds.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from saliencylib.sal_mask.masks import DEGRADED_MASKS, EXACT_MASKS, MASK_CHAIN, PAPER_MASKS
from saliencylib.sal_mask.training import RECIPE_KEYS
from saliencylib.stats import Estimate, mean_interval, paired_difference, power, rank_correlation
from saliencylib.study.claims import Condition

PRINTED_ACCURACIES = {
    ("alexnet", "plain"): 61.74,
    ("alexnet", "RC"): 62.72,
    ("alexnet", "Alpha"): 63.24,
    ("nin", "plain"): 57.13,
    ("nin", "RC"): 59.23,
    ("nin", "Alpha"): 57.83,
}
PRINTED_RANGE = (0.70, 2.10)  # points (abstract, section 4.4)
TIE = 1e-3  # points by which a curve must lie above another, so that rounding decides nothing
NETWORK_NAMES = {"alexnet": "AlexNet", "nin": "NIN"}
MASK_PAIRS = (("RC", "plain"), ("Alpha", "plain"), ("grey", "plain"), ("RC", "grey"), ("Alpha", "grey"))
CHAIN_STEPS = {
    "grey": "being a mask at all (grey minus plain)",
    "centre": "being centred (centre minus grey)",
    "shuffled": "having the form of saliency (shuffled minus centre)",
    "RC": "being this image's saliency (RC minus shuffled)",
}


def accuracy_by_training(log: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy (%) of every training: the columns of ``RECIPE_KEYS`` and made_on, and accuracies.

    last is the last epoch's on all test images. The others come from the test images that are looked at
    after every epoch: best is the best epoch's, as the paper reports it; elsewhere the mean of two, the epoch
    that is best on the images of even number, judged on those of odd number, and vice versa. So it has the
    best epoch's advantage without the luck of having been chosen on the images it is judged by. ended is the
    last epoch's on the same images.
    """
    rows = []
    for keys, run in log.sort_values("epoch", kind="stable").groupby(RECIPE_KEYS, sort=False):
        even, odd = run["accuracy_even"].to_numpy(), run["accuracy_odd"].to_numpy()
        elsewhere = (odd[even.argmax()] + even[odd.argmax()]) / 2
        ended = run["accuracy"].iloc[-1]
        last = run["final"].iloc[-1]
        rows.append((*keys, last, run["accuracy"].max(), elsewhere, ended, run["made_on"].iloc[-1]))
    return pd.DataFrame(rows, columns=[*RECIPE_KEYS, "last", "best", "elsewhere", "ended", "made_on"])


def accuracy_by_seed(log: pd.DataFrame, at: str = "last", **which: object) -> pd.Series:
    """The accuracies (%) of the trainings with these keys, by seed.

    Raises ValueError when the keys leave no training, or more than one a seed.
    """
    table = accuracy_by_training(log[(log[list(which)] == pd.Series(which)).all(axis=1)])
    found = table.set_index("seed")[at]
    if found.empty or not found.index.is_unique:
        raise ValueError(f"{which} fits {len(found)} trainings of {found.index.nunique()} seeds")
    return found


def paired_gain(
    log: pd.DataFrame, of: Mapping[str, object], over: Mapping[str, object], at: str = "last"
) -> Estimate:
    """Accuracy of the trainings ``of`` minus those ``over``, in points, over the seeds that both have."""
    return mean_interval((accuracy_by_seed(log, at, **of) - accuracy_by_seed(log, at, **over)).dropna())


def mask_gain(log: pd.DataFrame, network: str, mask: str, over: str = "plain", at: str = "last") -> Estimate:
    """Accuracy of ``mask`` minus that of ``over`` in points, paired by seed, on one network."""
    return paired_gain(log, {"network": network, "mask": mask}, {"network": network, "mask": over}, at)


def gains_over_plain(log: pd.DataFrame, *by: str, at: str = "last") -> pd.DataFrame:
    """The gain of all masked trainings over plain ones, a row for each combination of the keys ``by``.

    They are compared with the plain trainings of the same network and, when ``by`` has it, width.
    """
    rows = []
    for which in log.query("mask != 'plain'")[list(by)].drop_duplicates().to_dict("records"):
        plain = {key: which[key] for key in ("network", "width") if key in by} | {"mask": "plain"}
        rows.append(which | paired_gain(log, which, plain, at).row("points", "seeds"))
    return pd.DataFrame(rows)


def learned(log: pd.DataFrame, classes: int, **which: object) -> Condition:
    """The condition that the trainings with these keys are right 3 times as often as chance, on average."""
    words = " ".join(str(which[key]) for key in ("network", "mask", "connection") if key in which)
    return _condition(accuracy_by_seed(log, **which).mean(), classes, words)


def _condition(accuracy: float, classes: int, words: str) -> Condition:
    least = 300 / classes
    return Condition(bool(accuracy >= least), f"{words} {accuracy:.1f} %, 3 times chance {least:.0f} %")


def accuracy_table(log: pd.DataFrame, network: str, data_name: str) -> pd.DataFrame:
    """Table 1 or 2: a row a mask with the printed accuracy and ours in %.

    Ours is the last epoch's on all test images with its interval (low, high). The others are of the part of
    them that is looked at after every epoch: the last epoch again, the best one, as the paper chose it, and
    the epoch chosen on the other half of the images that it is judged on.
    """
    rows = []
    for mask in PAPER_MASKS:
        runs = accuracy_by_training(log.query("network == @network and mask == @mask"))
        last = mean_interval(runs["last"])
        rows.append(
            {
                "mask": mask,
                "printed (STL-10, best epoch)": PRINTED_ACCURACIES.get((network, mask), np.nan),
                f"last epoch (all test images, {data_name})": last.value,
                "low": last.low,
                "high": last.high,
                "last epoch (part)": runs["ended"].mean(),
                "best epoch (part)": runs["best"].mean(),
                "epoch chosen on other half (part)": runs["elsewhere"].mean(),
                "seeds": last.n,
            }
        )
    return pd.DataFrame(rows)


def collapsed_table(log: pd.DataFrame, classes: int) -> pd.DataFrame:
    """How many trainings end below twice chance: a row a network, a column a mask."""
    table = accuracy_by_training(log)
    collapsed = table["last"] < 200 / classes
    return collapsed.groupby([table["network"], table["mask"]], sort=False).sum().unstack()


def without_collapsed(log: pd.DataFrame, classes: int) -> pd.DataFrame:
    """The log without the seeds of which a training of the same network ended below twice chance."""
    table = accuracy_by_training(log)
    collapsed = table.loc[table["last"] < 200 / classes, ["network", "seed"]].drop_duplicates()
    marked = log.merge(collapsed, how="left", on=["network", "seed"], indicator="where")
    return marked[marked["where"] == "left_only"].drop(columns="where")


def caution(log: pd.DataFrame, classes: int) -> str:
    """What a reader of few seeds should know, as the end of a line: trainings below twice chance by network
    and seed, and that trainings of one pair were made on different machines; "" where there is neither."""
    table = accuracy_by_training(log)
    collapsed = table[table["last"] < 200 / classes]
    told = [
        f"{NETWORK_NAMES[network]}, seed {seed} ({', '.join(rows['mask'])})"
        for (network, seed), rows in collapsed.groupby(["network", "seed"], sort=False)
    ]
    parts = [f"below twice chance: {'; '.join(told)}"] if told else []
    if (table.groupby(["network", "seed"])["made_on"].nunique() > 1).any():
        parts.append("pairs were trained on different machines")
    return "".join(f"; {part}" for part in parts)


def gains_table(log: pd.DataFrame) -> pd.DataFrame:
    """Paired gains over plain and over grey: a row a network, comparison and epoch ("last", "best" or
    "elsewhere", the columns of ``accuracy_by_training``)."""
    rows = []
    for network in log["network"].unique():
        for mask, over in MASK_PAIRS:
            for at in ("last", "best", "elsewhere"):
                names = {"network": network, "comparison": f"{mask} minus {over}", "epoch": at}
                rows.append(names | mask_gain(log, network, mask, over, at).row("points", "seeds"))
    return pd.DataFrame(rows)


def power_table(log: pd.DataFrame) -> pd.DataFrame:
    """How surely so many seeds would have seen the printed gains: a row a network and mask.

    Columns network, mask, printed (points), deviation (of the paired differences, points), seeds, power (the
    probability that a two-sided test at 5 % finds a gain of that size).
    """
    rows = []
    for (network, mask), accuracy in PRINTED_ACCURACIES.items():
        if mask == "plain":
            continue
        printed = accuracy - PRINTED_ACCURACIES[network, "plain"]
        of, plain = (accuracy_by_seed(log, network=network, mask=name) for name in (mask, "plain"))
        pairs = (of - plain).dropna()
        deviation = float(pairs.std(ddof=1))
        rows.append((network, mask, printed, deviation, len(pairs), power(deviation, len(pairs), printed)))
    return pd.DataFrame(rows, columns=["network", "mask", "printed", "deviation", "seeds", "power"])


def gain_range_table(log: pd.DataFrame) -> pd.DataFrame:
    """The gains over plain beside the range that the paper names, .70 to 2.10 points (SM-X6).

    A row a network and mask: points with interval, and whether the whole interval lies within the range.
    """
    rows = []
    for network in log["network"].unique():
        for mask in ("RC", "Alpha"):
            found = mask_gain(log, network, mask)
            inside = found.low >= PRINTED_RANGE[0] and found.high <= PRINTED_RANGE[1]
            row = {"network": network, "mask": mask} | found.row("points", "seeds")
            rows.append(row | {"wholly inside": inside})
    return pd.DataFrame(rows)


def picking_table(log: pd.DataFrame, network: str, masks: Sequence[str]) -> pd.DataFrame:
    """What picking the best of several maps gains by picking alone (SM-X7).

    For every k the best of all sets of k maps is picked by its mean gain over plain on the seeds of even
    place and judged on those of odd place, and vice versa: columns maps (k), picked (the gain on the seeds
    that it was picked on), judged (on the others), both in points, and luck (their difference).
    """
    plain = accuracy_by_seed(log, network=network, mask="plain")
    columns = {mask: accuracy_by_seed(log, network=network, mask=mask) - plain for mask in masks}
    gains = pd.DataFrame(columns).dropna()
    halves = gains.iloc[::2].mean(), gains.iloc[1::2].mean()
    rows = []
    for k in range(1, len(masks) + 1):
        found = []
        for some in map(list, combinations(masks, k)):
            for one, other in (halves, halves[::-1]):
                best = one[some].idxmax()
                found.append((one[best], other[best]))
        picked, judged = np.mean(found, axis=0)
        rows.append((k, picked, judged, picked - judged))
    return pd.DataFrame(rows, columns=["maps", "picked", "judged", "luck"])


def learning_rate_table(log: pd.DataFrame) -> pd.DataFrame:
    """Accuracy (%) by mask and learning rate, with interval: learning_rate, mask, accuracy, low, high, seeds.

    ``log`` holds trainings of one network whose test images are held-out training images.
    """
    rows = []
    for (rate, mask), runs in accuracy_by_training(log).groupby(["learning_rate", "mask"], sort=False):
        found = mean_interval(runs["last"]).row("accuracy", "seeds")
        rows.append({"learning_rate": rate, "mask": mask} | found)
    return pd.DataFrame(rows).drop(columns=["p", "smallest visible"])


def best_rates(table: pd.DataFrame) -> dict[str, float]:
    """The learning rate with the highest accuracy for each mask of a ``learning_rate_table``."""
    best = table.loc[table.groupby("mask", sort=False)["accuracy"].idxmax()]
    return dict(zip(best["mask"], best["learning_rate"], strict=True))


def selection_table(log: pd.DataFrame) -> pd.DataFrame:
    """What the best epoch's accuracy exceeds, over all trainings of a network: a row a network and rival.

    Rows: network, rival ("last epoch" or "epoch chosen on the other half"), points with interval, trainings.
    """
    rows = []
    for network, runs in accuracy_by_training(log).groupby("network", sort=False):
        for column, rival in {"ended": "last epoch", "elsewhere": "epoch chosen on the other half"}.items():
            excess = mean_interval(runs["best"] - runs[column], unit="trainings")
            rows.append({"network": network, "rival": rival} | excess.row("points", "trainings"))
    return pd.DataFrame(rows)


def chain_table(log: pd.DataFrame) -> pd.DataFrame:
    """RC's gain over plain, taken apart along ``MASK_CHAIN``: steps that add one property each.

    A row a network and step: network, step, what (the property), points with interval. Only seeds that all
    masks of the chain have are used, so that the steps' points add up exactly to the gain.
    """
    rows = []
    for network in log["network"].unique():
        columns = {mask: accuracy_by_seed(log, network=network, mask=mask) for mask in MASK_CHAIN}
        table = pd.DataFrame(columns).dropna()
        for before, (after, what) in zip(MASK_CHAIN, CHAIN_STEPS.items(), strict=False):
            found = mean_interval(table[after] - table[before])
            rows.append({"network": network, "step": after, "what": what} | found.row("points", "seeds"))
    return pd.DataFrame(rows)


def chain_words(chain: pd.DataFrame) -> list[str]:
    """A sentence a network: which property of the mask changes the accuracy, by how many points, and below
    which size these seeds settle no step."""
    sentences = []
    for network, rows in chain.groupby("network", sort=False):
        parts = [f"{row.what} {_effect(row.low, row.high)} ({row.points:+.1f})" for row in rows.itertuples()]
        size = (rows["high"] - rows["low"]).max() / 2
        missed = f"Effects below {size:.1f} points could have been missed."
        if np.isnan(size):
            missed = f"{rows['seeds'].max()} seeds are too few for intervals."
        name = f"{NETWORK_NAMES[network]}, {rows['seeds'].max()} seeds"
        sentences.append(f"{name}: {'; '.join(parts)}. {missed}")
    return sentences


def averaged_minus_raw(log: pd.DataFrame, masks: Sequence[str] = ("RC", "Alpha")) -> pd.Series:
    """Accuracy with the averaged minus with the raw mask, points, mean over the masks, by seed (SM-X1).

    Of "grey" it is what less brightness alone costs.
    """
    table = accuracy_by_training(log.query("mask in @masks"))
    means = table.groupby(["connection", "seed"])["last"].mean()
    return (means["first"] - means["raw"]).dropna()


def learned_table(log: pd.DataFrame, widths: Mapping[str, float]) -> pd.DataFrame:
    """Gains over plain of RC, a wider plain network and learned masks: network, what, points, interval.

    ``widths`` gives the width of the networks that are not widened, by network.
    """
    rows = []
    for network in log["network"].unique():
        plain = {"network": network, "width": widths[network], "connection": "first", "mask": "plain"}
        variants = {
            "RC mask": {"mask": "RC"},
            "wider plain network": {"width": max(log.query("network == @network")["width"])},
            "mask learned from the image": {"connection": "learned"},
            "mask learned from image and RC": {"connection": "learned", "mask": "RC"},
        }
        for what, change in variants.items():
            found = paired_gain(log, plain | change, plain)
            rows.append({"network": network, "what": what} | found.row("points", "seeds"))
    return pd.DataFrame(rows)


def width_table(log: pd.DataFrame) -> pd.DataFrame:
    """Gains over plain of each width: rows network, width, mask, plain (accuracy %), points, interval."""
    table = gains_over_plain(log, "network", "width", "mask").sort_values(["network", "mask", "width"])
    pairs = zip(table["network"], table["width"], strict=True)
    plain = [accuracy_by_seed(log, network=n, width=w, mask="plain").mean() for n, w in pairs]
    table.insert(3, "plain", plain)
    return table.reset_index(drop=True)


def quality_table(log: pd.DataFrame, quality: Mapping[str, float]) -> pd.DataFrame:
    """The gain over a uniform grey of every mask with a known quality, best mask first.

    ``quality`` is the mean AUC against the object by mask. Rows mask, kind ("degraded truth", "computed map"
    or "exact place"), auc, points, interval. Counted from grey, since a mask of any kind may gain.
    """
    rows = []
    for mask, auc in sorted(quality.items(), key=lambda pair: -pair[1]):
        found = paired_gain(log, {"mask": mask}, {"mask": "grey"})
        rows.append({"mask": mask, "kind": _kind(mask), "auc": auc} | found.row("points", "seeds"))
    return pd.DataFrame(rows)


def quality_by_seed(log: pd.DataFrame, quality: Mapping[str, float]) -> pd.DataFrame:
    """Every training behind a ``quality_table``: mask, kind, auc, seed, points (over grey), plain (%)."""
    plain, grey = (accuracy_by_seed(log, mask=mask) for mask in ("plain", "grey"))
    rows = [
        (mask, _kind(mask), auc, seed, accuracy - grey[seed], plain[seed])
        for mask, auc in quality.items()
        for seed, accuracy in accuracy_by_seed(log, mask=mask).items()
    ]
    return pd.DataFrame(rows, columns=["mask", "kind", "auc", "seed", "points", "plain"])


def _kind(mask: str) -> str:
    if mask in DEGRADED_MASKS:
        return "degraded truth"
    return "exact place" if mask in EXACT_MASKS else "computed map"


def quality_correlation(table: pd.DataFrame, kind: str = "degraded truth") -> Estimate:
    """Spearman's rank correlation of map quality and accuracy gain over the masks of one kind (SM-X2).

    ``table`` is a ``quality_table``. p is that of a permutation of the masks.
    """
    rows = table[table["kind"] == kind]
    return rank_correlation(rows["auc"], rows["points"], unit="masks")


def loss_table(elsewhere: pd.DataFrame, clean: str) -> pd.DataFrame:
    """Accuracy that each mask loses from the images ``clean`` to other sets, and how much less than plain.

    ``elsewhere`` is what ``training.accuracies_elsewhere`` gives. Rows images, mask, accuracy (%), lost
    (points), then plain's loss minus this mask's (points, interval): positive where the mask protects.
    """
    table = elsewhere.pivot(index="seed", columns=["images", "mask"], values="accuracy")
    rows = []
    for images in elsewhere["images"].unique():
        for mask in elsewhere["mask"].unique():
            lost = table[clean, mask] - table[images, mask]
            spared = mean_interval(table[clean, "plain"] - table[images, "plain"] - lost)
            means = {"accuracy": table[images, mask].mean(), "lost": lost.mean()}
            rows.append({"images": images, "mask": mask} | means | spared.row("points", "seeds"))
    return pd.DataFrame(rows)


def lost_by_seed(elsewhere: pd.DataFrame, clean: str, images: str) -> pd.DataFrame:
    """Accuracy (points) that each mask (columns) loses from the images ``clean`` to others, by seed."""
    table = elsewhere.pivot(index="seed", columns=["images", "mask"], values="accuracy")
    return table[clean] - table[images]


def lost_table(tested: Mapping[str, tuple[pd.DataFrame, str]], data_name: str) -> pd.DataFrame:
    """What every training loses, a row each: seed, mask, images, lost (points), clean (accuracy, %), data.

    ``tested`` gives for the changed images' name the log and the name of the unchanged ones.
    """
    parts = []
    for images, (elsewhere, clean) in tested.items():
        lost = lost_by_seed(elsewhere, clean, images).melt(value_name="lost", ignore_index=False)
        before = elsewhere.query("images == @clean").set_index(["seed", "mask"])["accuracy"].rename("clean")
        parts.append(lost.reset_index().assign(images=images).join(before, on=["seed", "mask"]))
    return pd.concat(parts, ignore_index=True).assign(data=data_name)


def learned_elsewhere(elsewhere: pd.DataFrame, clean: str, classes: int) -> Condition:
    """``learned`` for the plain network on the unchanged images ``clean``."""
    return _condition(
        elsewhere.query("images == @clean and mask == 'plain'")["accuracy"].mean(), classes, "plain"
    )


def spared_by_mask(lost: pd.DataFrame, mask: str, over: str = "plain") -> Estimate:
    """What ``over`` loses minus what a mask loses, in points, by seed (SM-X3a, b).

    ``lost`` is what ``lost_by_seed`` gives.
    """
    return paired_difference(lost[over], lost[mask])


def share_of_epochs_above(
    log: pd.DataFrame, network: str, after: float = 0.0, masks: Sequence[str] = ("RC", "Alpha")
) -> Estimate:
    """Share of epochs with the mean of the masks above plain, minus one half, by seed (Figures 6, 7).

    ``after`` leaves out the first share of the epochs; one third is the paper's first learning-rate step.
    """
    kept = log.query("network == @network").query("epoch > @after * epoch.max()")
    table = kept.pivot(index=["seed", "epoch"], columns="mask", values="accuracy")
    above = table[list(masks)].mean(axis=1) > table["plain"] + TIE
    return mean_interval(above.groupby("seed").mean() - 0.5, limits=(-0.5, 0.5))


def mean_curve_above(
    log: pd.DataFrame, network: str, masks: Sequence[str] = ("RC", "Alpha")
) -> tuple[int, int]:
    """In how many epochs the masks' mean curve over all seeds lies above plain's, and of how many."""
    curves = log.query("network == @network").pivot_table("accuracy", index="epoch", columns="mask")
    above = curves[list(masks)].mean(axis=1) > curves["plain"] + TIE
    return int(above.sum()), len(above)


def gain_on_both_networks(log: pd.DataFrame) -> Estimate:
    """Of the two networks' mean gains over RC and Alpha, in points by seed, the one whose interval reaches
    lower (SM-X4)."""
    table = accuracy_by_training(log).pivot(index=["network", "seed"], columns="mask", values="last")
    gains = table[["RC", "Alpha"]].mean(axis=1) - table["plain"]
    by_network = [mean_interval(gains[network]) for network in gains.index.unique("network")]
    return min(by_network, key=lambda estimate: estimate.low)


def _effect(low: float, high: float) -> str:
    if np.isnan(low):
        return "is not known"
    return "raises the accuracy" if low > 0 else "lowers it" if high < 0 else "changes nothing that is clear"
