"""What the trainings of paper 1 show: tables, paired gains and the estimates behind the verdicts.

A log has a row an epoch of every training, as ``training.runs`` gives it: the columns of ``training.KEYS``,
epoch, loss, accuracy, accuracy_even, accuracy_odd. Everything is paired by seed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from saliencylib import stats
from saliencylib.sal_mask.experiment import CHAIN, DEGRADED, MASKS
from saliencylib.sal_mask.training import KEYS

PRINTED = {
    ("alexnet", "plain"): 61.74,
    ("alexnet", "RC"): 62.72,
    ("alexnet", "Alpha"): 63.24,
    ("nin", "plain"): 57.13,
    ("nin", "RC"): 59.23,
    ("nin", "Alpha"): 57.83,
}
NETWORK_NAMES = {"alexnet": "AlexNet", "nin": "NIN"}
COMPARISONS = (("RC", "plain"), ("Alpha", "plain"), ("grey", "plain"), ("RC", "grey"), ("Alpha", "grey"))
STEPS = {
    "grey": "being a mask at all (grey minus plain)",
    "centre": "being centred (centre minus grey)",
    "shuffled": "having the form of saliency (shuffled minus centre)",
    "RC": "being this image's saliency (RC minus shuffled)",
}


def scores(log: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy (%) of every training: the columns of ``KEYS``, best, last and elsewhere.

    best is the best epoch's, as the paper reports it, last the last epoch's. elsewhere is the mean of two:
    the epoch that is best on the test images of even number, judged on those of odd number, and vice versa;
    so it has the best epoch's advantage without the luck of having been chosen on the images it is judged by.
    """
    rows = []
    for keys, run in log.sort_values("epoch").groupby(KEYS, sort=False):
        even, odd = run["accuracy_even"].to_numpy(), run["accuracy_odd"].to_numpy()
        elsewhere = (odd[even.argmax()] + even[odd.argmax()]) / 2
        rows.append((*keys, run["accuracy"].max(), run["accuracy"].iloc[-1], elsewhere))
    return pd.DataFrame(rows, columns=[*KEYS, "best", "last", "elsewhere"])


def by_seed(log: pd.DataFrame, at: str = "best", **which: object) -> pd.Series:
    """The accuracies (%) of the trainings with these keys, by seed; ``at`` is a column of ``scores``.

    Raises ValueError when the keys leave no training, or more than one a seed.
    """
    table = scores(log)
    for key, value in which.items():
        table = table[table[key] == value]
    found = table.set_index("seed")[at]
    if found.empty or not found.index.is_unique:
        raise ValueError(f"{which} fits {len(found)} trainings of {found.index.nunique()} seeds")
    return found


def difference(
    log: pd.DataFrame, of: Mapping[str, object], over: Mapping[str, object], at: str = "best"
) -> stats.Estimate:
    """Accuracy of the trainings ``of`` minus those ``over``, in points, over the seeds that both have."""
    gained = (by_seed(log, at, **of) - by_seed(log, at, **over)).dropna()
    return stats.mean_interval(gained)


def gain(log: pd.DataFrame, network: str, mask: str, over: str = "plain", at: str = "best") -> stats.Estimate:
    """Accuracy of ``mask`` minus that of ``over`` in points, paired by seed, at the best or last epoch."""
    return difference(log, {"network": network, "mask": mask}, {"network": network, "mask": over}, at)


def accuracy_table(log: pd.DataFrame, network: str, data_name: str) -> pd.DataFrame:
    """Table 1 or 2: a row a mask with the printed accuracy and ours in %.

    The interval (low, high) is that of the best epoch's mean. The last columns say what choosing the epoch on
    the test set is worth: best minus last epoch, and best minus the epoch chosen on the other half.
    """
    rows = []
    for mask in MASKS:
        runs = scores(log).query("network == @network and mask == @mask")
        best = stats.mean_interval(runs["best"])
        rows.append(
            {
                "mask": mask,
                "printed (STL-10, best epoch)": PRINTED.get((network, mask), np.nan),
                f"best epoch ({data_name})": best.value,
                "low": best.low,
                "high": best.high,
                "last epoch": runs["last"].mean(),
                "best minus last": (runs["best"] - runs["last"]).mean(),
                "best minus chosen on other half": (runs["best"] - runs["elsewhere"]).mean(),
                "seeds": best.n,
            }
        )
    return pd.DataFrame(rows)


def gains_table(log: pd.DataFrame) -> pd.DataFrame:
    """Paired gains over plain and over grey, at the best and at the last epoch: points, interval, p."""
    rows = []
    for network in log["network"].unique():
        for mask, over in COMPARISONS:
            for at in ("best", "last"):
                found = gain(log, network, mask, over, at)
                rows.append(
                    {"network": network, "comparison": f"{mask} minus {over}", "epoch": at} | _row(found)
                )
    return pd.DataFrame(rows)


def selection_table(log: pd.DataFrame) -> pd.DataFrame:
    """What the best epoch's accuracy exceeds, over all trainings of a network: a row a network and rival.

    Rows: network, rival ("last epoch" or "epoch chosen on the other half"), points with interval.
    """
    names = {"last": "last epoch", "elsewhere": "epoch chosen on the other half"}
    rows = []
    for network, runs in scores(log).groupby("network", sort=False):
        for column, rival in names.items():
            excess = stats.mean_interval(runs["best"] - runs[column], unit="trainings")
            rows.append({"network": network, "rival": rival} | _row(excess))
    return pd.DataFrame(rows).rename(columns={"seeds": "trainings"})


def controls_table(log: pd.DataFrame, at: str = "best") -> pd.DataFrame:
    """The gain of every mask over plain, a row a network and mask, paired by seed: points, interval, p."""
    pairs = log[["network", "mask"]].drop_duplicates().query("mask != 'plain'").itertuples(index=False)
    return pd.DataFrame([{"network": n, "mask": m} | _row(gain(log, n, m, "plain", at)) for n, m in pairs])


def chain_table(log: pd.DataFrame, at: str = "best") -> pd.DataFrame:
    """RC's gain over plain, taken apart along ``CHAIN``: steps that add one property each and add up to it.

    A row a network and step: network, step, what (the property), points with interval. Only seeds that all
    masks of the chain have are used, so that the steps' points add up exactly.
    """
    rows = []
    for network in log["network"].unique():
        columns = {mask: by_seed(log, at, network=network, mask=mask) for mask in CHAIN}
        table = pd.DataFrame(columns).dropna()
        for before, after in zip(CHAIN, CHAIN[1:], strict=False):
            found = stats.mean_interval(table[after] - table[before])
            rows.append({"network": network, "step": after, "what": STEPS[after]} | _row(found))
    return pd.DataFrame(rows)


def chain_words(chain: pd.DataFrame) -> list[str]:
    """A sentence a network: which property of the mask changes the accuracy, and by how many points."""
    sentences = []
    for network, rows in chain.groupby("network", sort=False):
        parts = [f"{row.what} {_effect(row.low, row.high)} ({row.points:+.1f})" for row in rows.itertuples()]
        size = (rows["high"] - rows["low"]).max() / 2
        sentences.append(
            f"{NETWORK_NAMES[network]}: {'; '.join(parts)}. "
            f"Effects below {size:.1f} points could have been missed."
        )
    return sentences


def place_table(log: pd.DataFrame, at: str = "best") -> pd.DataFrame:
    """Gains over plain for every connection and mask: rows network, connection, mask, points, interval."""
    rows = []
    masked = log[log["mask"] != "plain"][["network", "connection", "mask"]].drop_duplicates()
    for network, connection, mask in masked.itertuples(index=False):
        which = {"network": network, "connection": connection, "mask": mask}
        found = difference(log, which, {"network": network, "mask": "plain"}, at)
        rows.append(which | _row(found))
    return pd.DataFrame(rows)


def averaged_minus_raw(log: pd.DataFrame, at: str = "best") -> stats.Estimate:
    """Accuracy with the averaged minus with the raw mask, points, mean over all masks, by seed (SM-X1)."""
    table = scores(log).query("connection in ('first', 'raw') and mask != 'plain'")
    means = table.groupby(["connection", "seed"])[at].mean()
    return stats.paired_difference(means["first"], means["raw"])


def learned_table(log: pd.DataFrame, widths: Mapping[str, float], at: str = "best") -> pd.DataFrame:
    """Gains over plain of RC, a wider plain network and learned masks: network, what, points, interval.

    ``widths`` gives the width of the networks that are not widened, by network.
    """
    rows = []
    for network in log["network"].unique():
        width = widths[network]
        plain = {"network": network, "width": width, "connection": "first", "mask": "plain"}
        wide = max(log.query("network == @network")["width"])
        variants = {
            "RC mask": plain | {"mask": "RC"},
            "wider plain network": plain | {"width": wide},
            "mask learned from the image": plain | {"connection": "learned"},
            "mask learned from image and RC": plain | {"connection": "learned", "mask": "RC"},
        }
        for what, which in variants.items():
            rows.append({"network": network, "what": what} | _row(difference(log, which, plain, at)))
    return pd.DataFrame(rows)


def width_table(log: pd.DataFrame, at: str = "best") -> pd.DataFrame:
    """Gains over plain of each width: rows network, width, mask, plain (accuracy %), points, interval."""
    rows = []
    masked = log[log["mask"] != "plain"][["network", "width", "mask"]].drop_duplicates()
    for network, width, mask in masked.sort_values(["network", "mask", "width"]).itertuples(index=False):
        which = {"network": network, "width": width}
        plain = by_seed(log, at, **which, mask="plain").mean()
        found = difference(log, which | {"mask": mask}, which | {"mask": "plain"}, at)
        rows.append(which | {"mask": mask, "plain": plain} | _row(found))
    return pd.DataFrame(rows)


def quality_table(log: pd.DataFrame, quality: Mapping[str, float], at: str = "best") -> pd.DataFrame:
    """The gain over plain of every mask with a known quality, best mask first.

    ``quality`` is the mean AUC against the object by mask. Rows mask, kind ("degraded truth" or "computed
    map"), auc, points, interval.
    """
    rows = []
    for mask, auc in sorted(quality.items(), key=lambda pair: -pair[1]):
        found = difference(log, {"mask": mask}, {"mask": "plain"}, at)
        kind = "degraded truth" if mask in ("true", *DEGRADED) else "computed map"
        rows.append({"mask": mask, "kind": kind, "auc": auc} | _row(found))
    return pd.DataFrame(rows)


def quality_correlation(
    log: pd.DataFrame, quality: Mapping[str, float], only: Sequence[str] | None = None, at: str = "best"
) -> stats.Estimate:
    """Spearman's rank correlation of map quality and accuracy gain over masks, one a seed (SM-X2).

    Over all masks of ``quality``, or over those of ``only``.
    """
    names = [name for name in quality if only is None or name in only]
    gains = {name: by_seed(log, at, mask=name) - by_seed(log, at, mask="plain") for name in names}
    table = pd.DataFrame(gains).dropna()
    ranks = [
        spearmanr([quality[name] for name in names], row[names]).statistic for _, row in table.iterrows()
    ]
    return stats.mean_interval(np.array(ranks), limits=(-1, 1))


def loss_table(elsewhere: pd.DataFrame, clean: str) -> pd.DataFrame:
    """Accuracy that each mask loses from the images ``clean`` to other sets, and how much less than plain.

    ``elsewhere`` is what ``training.accuracy_elsewhere`` gives. Rows images, mask, accuracy (%), lost
    (points), then plain's loss minus this mask's (points, interval): positive where the mask protects.
    """
    table = elsewhere.pivot(index="seed", columns=["images", "mask"], values="accuracy")
    rows = []
    for images in elsewhere["images"].unique():
        for mask in elsewhere["mask"].unique():
            lost = table[clean, mask] - table[images, mask]
            spared = stats.mean_interval(table[clean, "plain"] - table[images, "plain"] - lost)
            row = {
                "images": images,
                "mask": mask,
                "accuracy": table[images, mask].mean(),
                "lost": lost.mean(),
            }
            rows.append(row | _row(spared))
    return pd.DataFrame(rows)


def spared(elsewhere: pd.DataFrame, clean: str, images: str) -> stats.Estimate:
    """Plain's loss of accuracy minus the mean loss with RC and Alpha masks, in points, by seed (SM-X3)."""
    table = elsewhere.pivot(index="seed", columns=["images", "mask"], values="accuracy")
    lost = table[clean] - table[images]
    masked = [mask for mask in ("RC", "Alpha") if mask in lost]
    return stats.paired_difference(lost["plain"], lost[masked].mean(axis=1))


def share_of_epochs_above(log: pd.DataFrame, network: str, after: float = 0.0) -> stats.Estimate:
    """Share of epochs with the mean of RC and Alpha above plain, minus one half, by seed (Figures 6, 7).

    ``after`` leaves out the first share of the epochs; one third is the paper's first learning-rate step.
    """
    kept = log.query("network == @network and epoch > @after * epoch.max()")
    table = kept.pivot(index=["seed", "epoch"], columns="mask", values="accuracy")
    above = table[["RC", "Alpha"]].mean(axis=1) > table["plain"]
    return stats.mean_interval(above.groupby("seed").mean() - 0.5)


def gain_on_both_networks(log: pd.DataFrame) -> stats.Estimate:
    """The smaller of the two networks' mean gains over RC and Alpha, in points, by seed (SM-X4)."""
    table = scores(log).pivot(index=["network", "seed"], columns="mask", values="best")
    gains = table[["RC", "Alpha"]].mean(axis=1) - table["plain"]
    by_network = [stats.mean_interval(gains[network]) for network in gains.index.unique("network")]
    return min(by_network, key=lambda estimate: estimate.value)


def table_estimates(log: pd.DataFrame) -> dict[str, stats.Estimate]:
    """Best-epoch accuracy in % for the claims of Tables 1 and 2, SM-T1a to SM-T2c."""
    best = scores(log).set_index(["network", "mask"])["best"]
    claims = ("SM-T1a", "SM-T1b", "SM-T1c", "SM-T2a", "SM-T2b", "SM-T2c")
    return {claim: stats.mean_interval(best[cell]) for claim, cell in zip(claims, PRINTED, strict=True)}


def gain_estimates(log: pd.DataFrame) -> dict[str, stats.Estimate]:
    """Gains in points at the best epoch for the claims about differences: SM-D1 to D4, SM-O1, SM-X4."""
    return {
        "SM-D1": gain(log, "alexnet", "RC"),
        "SM-D2": gain(log, "alexnet", "Alpha"),
        "SM-D3": gain(log, "nin", "RC"),
        "SM-D4": gain(log, "nin", "Alpha"),
        "SM-O1a": gain(log, "alexnet", "Alpha", "RC"),
        "SM-O1b": gain(log, "nin", "RC", "Alpha"),
        "SM-X4": gain_on_both_networks(log),
    }


def _row(found: stats.Estimate) -> dict[str, float]:
    return {
        "points": found.value,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "smallest visible": found.detectable,
        "seeds": found.n,
    }


def _effect(low: float, high: float) -> str:
    return "raises the accuracy" if low > 0 else "lowers it" if high < 0 else "changes nothing that is clear"
