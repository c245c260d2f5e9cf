"""The experiments of paper 1: which images and masks, and what is read from the trainings."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from skimage.measure import block_reduce
from skimage.transform import resize
from sklearn.metrics import roc_auc_score
from torch import nn

from saliencylib import data, saliency, stats
from saliencylib.data import Labelled
from saliencylib.digits import cluttered_digits
from saliencylib.models import SalMask
from saliencylib.training import Recipe

MASKS = ("plain", "RC", "Alpha", "grey")
COMPARISONS = (("RC", "plain"), ("Alpha", "plain"), ("grey", "plain"), ("RC", "grey"), ("Alpha", "grey"))
PRINTED = {
    ("alexnet", "plain"): 61.74,
    ("alexnet", "RC"): 62.72,
    ("alexnet", "Alpha"): 63.24,
    ("nin", "plain"): 57.13,
    ("nin", "RC"): 59.23,
    ("nin", "Alpha"): 57.83,
}


def labelled(name: str, split: str, per_class: int | None, shrink: int = 1) -> Labelled:
    """Images (N, H, W, 3) uint8 with labels: "cluttered digits", "stl10", "tinyimagenet10" or "clothing96".

    ``per_class`` takes the first that many images of each class, None takes all; ``shrink`` averages over
    that many pixels in both directions.
    """
    if name == "cluttered digits":
        digits = cluttered_digits(10 * (per_class or 500), split=split)
        found = Labelled(digits.images, digits.labels, digits.classes, name)
    elif name == "stl10":
        found = first_of_each_class(data.stl10(split), per_class)
    else:
        found = getattr(data, name)(split, per_class)
    if shrink == 1:
        return found
    means = block_reduce(found.images, (1, shrink, shrink, 1), np.mean)
    return dataclasses.replace(found, images=np.round(means).astype(np.uint8))


def first_of_each_class(labelled: Labelled, per_class: int | None) -> Labelled:
    """The first ``per_class`` images of every class in their order; all for None."""
    if per_class is None:
        return labelled
    groups = [np.flatnonzero(labelled.labels == c)[:per_class] for c in range(len(labelled.classes))]
    kept = np.sort(np.concatenate(groups))
    return dataclasses.replace(labelled, images=labelled.images[kept], labels=labelled.labels[kept])


def maps_by_mask(
    train_images: np.ndarray, test_images: np.ndarray, cache_dir: Path
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For every name in ``MASKS`` the maps (N, H, W) in [0, 1] of the training and of the test images.

    "plain" is white everywhere, so that the averaged mask is 1 and the layer changes nothing. "grey" is the
    mean of the training RC maps for every pixel of every image: a mask of equal mean without saliency.
    """
    rc, alpha = (
        [saliency.map_stack(images, method, cache_dir) for images in (train_images, test_images)]
        for method in ("rc", "alpha")
    )
    level = float(rc[0].mean())
    return {
        "plain": tuple(np.ones_like(maps) for maps in rc),
        "RC": tuple(rc),
        "Alpha": tuple(alpha),
        "grey": tuple(np.full_like(maps, level) for maps in rc),
    }


def recipe(network: str, settings: SimpleNamespace) -> Recipe:
    """How a run's settings train ``network``; ``training.runs`` fills in mask and seed."""
    return Recipe(
        network=network,
        mask="",
        seed=0,
        epochs=settings.epochs,
        width=settings.widths[network],
        dropout=settings.dropout,
        batch=settings.batch,
        optimiser=settings.optimiser,
        learning_rate=settings.learning_rates[network],
    )


def layer_matches_equations(seed: int = 0) -> bool:
    """Whether ``SalMask`` equals equations 1 to 8, written out by hand, forward and backward (SM-E1).

    Forward: y = ReLU(conv(x)), ey = ReLU(y * (s + 1) / 2). Backward, for a loss whose gradient at ey is
    edelta: delta = edelta * s * f'(z), and no gradient reaches the saliency map. In double precision, also
    checked by numerical differentiation.
    """
    torch.manual_seed(seed)
    convolution = nn.Conv2d(3, 4, 3, padding="same").double()
    network = SalMask(nn.Sequential(convolution, nn.ReLU()), nn.Identity())
    images = torch.rand(2, 3, 6, 6, dtype=torch.double, requires_grad=True)
    maps = torch.rand(2, 6, 6, dtype=torch.double, requires_grad=True)
    z = convolution(images)
    s = (maps.detach() + 1)[:, None] / 2
    masked = network(images, maps)
    edelta = torch.rand_like(masked)
    by_layer = torch.autograd.grad(masked, [images, maps], edelta, allow_unused=True)
    delta = edelta * s * (z > 0)
    by_hand = torch.nn.grad.conv2d_input(images.shape, convolution.weight, delta, padding=1)
    return bool(
        torch.allclose(masked, z.clamp(min=0) * s)
        and torch.allclose(by_layer[0], by_hand)
        and by_layer[1] is None
        and torch.autograd.gradcheck(lambda x: network(x, maps), images)
    )


def scores(log: pd.DataFrame) -> pd.DataFrame:
    """Best-epoch and last-epoch test accuracy (%) of every training: network, mask, seed, best, last."""
    ordered = log.sort_values("epoch").groupby(["network", "mask", "seed"], sort=False)["accuracy"]
    return ordered.agg(best="max", last="last").reset_index()


def accuracy_table(log: pd.DataFrame, network: str, data_name: str) -> pd.DataFrame:
    """Table 1 or 2: a row a mask with the printed accuracy, ours at the best and at the last epoch, in %."""
    rows = []
    for mask in MASKS:
        runs = scores(log).query("network == @network and mask == @mask")
        best, last = stats.mean_interval(runs["best"]), stats.mean_interval(runs["last"])
        rows.append(
            {
                "mask": mask,
                "printed (STL-10, best epoch)": PRINTED.get((network, mask), np.nan),
                f"best epoch ({data_name})": best.value,
                "low": best.low,
                "high": best.high,
                "last epoch": last.value,
                "best minus last": best.value - last.value,
                "seeds": best.n,
            }
        )
    return pd.DataFrame(rows)


def gain(log: pd.DataFrame, network: str, mask: str, over: str = "plain", at: str = "best") -> stats.Estimate:
    """Accuracy of ``mask`` minus that of ``over`` in points, paired by seed, at the best or last epoch."""
    table = scores(log).query("network == @network").pivot(index="seed", columns="mask", values=at)
    return stats.paired_difference(table[mask], table[over])


def gains_table(log: pd.DataFrame) -> pd.DataFrame:
    """Paired gains over plain and over grey, at the best and at the last epoch: points, interval, p."""
    rows = []
    for network in log["network"].unique():
        for mask, over in COMPARISONS:
            for at in ("best", "last"):
                found = gain(log, network, mask, over, at)
                rows.append(
                    {
                        "network": network,
                        "comparison": f"{mask} minus {over}",
                        "epoch": at,
                        "points": found.value,
                        "low": found.low,
                        "high": found.high,
                        "p": found.p,
                        "smallest visible gain": found.detectable,
                        "seeds": found.n,
                    }
                )
    return pd.DataFrame(rows)


def share_of_epochs_above(log: pd.DataFrame, network: str) -> stats.Estimate:
    """Share of epochs with the mean of RC and Alpha above plain, minus one half, by seed (Figures 6, 7)."""
    table = log.query("network == @network").pivot(index=["seed", "epoch"], columns="mask", values="accuracy")
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


def map_quality_by_size(count: int, sizes: tuple[int, ...] = (96, 64, 32)) -> pd.DataFrame:
    """AUC of RC and Alpha maps against the exact masks of cluttered digits shrunk to each size (SM-X5).

    Rows image, size, method, auc; the same images at every size, shrunk by averaging.
    """
    digits = cluttered_digits(count, seed=1, split="test")
    rows = []
    for size in sizes:
        images = [_shrunk(image, size) for image in digits.images]
        masks = [_shrunk(mask.astype(np.float32), size) > 0.5 for mask in digits.masks]
        for name, method in (("RC", "rc"), ("Alpha", "alpha")):
            for i, found in enumerate(saliency.map_stack(images, method)):
                auc = roc_auc_score(masks[i].ravel(), np.asarray(found).ravel())
                rows.append({"image": i, "size": size, "method": name, "auc": auc})
    return pd.DataFrame(rows)


def _shrunk(image: np.ndarray, size: int) -> np.ndarray:
    if image.shape[0] == size:
        return image
    small = resize(image.astype(np.float32), (size, size), anti_aliasing=True)
    return np.round(small).astype(np.uint8) if image.dtype == np.uint8 else small
