"""The experiments of paper 1 (Sal-Mask): which images, masks and networks are trained and compared.

What the trainings show is read by ``sal_mask_results``.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from skimage.transform import resize
from sklearn.metrics import roc_auc_score
from torch import nn

from saliencylib import data, metrics, saliency
from saliencylib.sal_mask.experiment import masks, network as models
from saliencylib.data import Labelled, Segmented
from saliencylib.digits import DigitSet, cluttered_digits
from saliencylib.sal_mask.network import LearnedMask, SalMask
from saliencylib.sal_mask.training import Material, Recipe, normalised

MASKS = ("plain", "RC", "Alpha", "grey")
# From the plain network to the RC mask, each step adding one property; the four steps add up to the gain.
CHAIN = ("plain", "grey", "centre", "shuffled", "RC")
FEWER = ("own mean", "inverted RC", "HC", "FT")  # controls that get fewer seeds
DEGRADED = tuple(f"true, {10 * step} % foreign" for step in range(1, masks.STEPS + 1))
EXACT = ("true", "box", *DEGRADED)  # masks that need the object's exact place


def labelled(name: str, split: str, per_class: int | None) -> Labelled:
    """Images (N, H, W, 3) uint8 with labels: "cluttered digits", "stl10", "tinyimagenet10" or "clothing96".

    ``per_class`` takes the first that many images of each class, None takes all.
    """
    if name == "cluttered digits":
        return of_digits(cluttered_digits(10 * (per_class or 500), split=split))
    if name == "stl10":
        return first_of_each_class(data.stl10(split), per_class)
    return getattr(data, name)(split, per_class)


def of_digits(digits: DigitSet) -> Labelled:
    """Cluttered digits as images with labels."""
    return Labelled(digits.images, digits.labels, digits.classes, digits.name)


def first_of_each_class(labelled: Labelled, per_class: int | None) -> Labelled:
    """The first ``per_class`` images of every class in their order; all for None."""
    if per_class is None:
        return labelled
    groups = [np.flatnonzero(labelled.labels == c)[:per_class] for c in range(len(labelled.classes))]
    kept = np.sort(np.concatenate(groups))
    return dataclasses.replace(labelled, images=labelled.images[kept], labels=labelled.labels[kept])


def material(
    train: Labelled, test: Labelled, names: Sequence[str], shrink: int = 1, cache_dir: Path | None = None
) -> Material:
    """Images and masks to train on. Maps are made at the images' size; then both are averaged over
    ``shrink`` pixels in both directions, so that a smaller training keeps the maps of the larger image."""
    maps = masks.mask_maps(tuple(names), train.images, test.images, cache_dir)
    return _shrunk(Material(train, test, maps), shrink)


def digit_material(
    train: DigitSet, test: DigitSet, names: Sequence[str], shrink: int = 1, cache_dir: Path | None = None
) -> Material:
    """As ``material``, for cluttered digits: ``names`` may also hold those of ``EXACT``."""
    computed = [name for name in names if name not in EXACT]
    maps = masks.mask_maps(tuple(computed), train.images, test.images, cache_dir)
    maps |= {name: (_exact(name, train), _exact(name, test)) for name in names if name in EXACT}
    return _shrunk(Material(of_digits(train), of_digits(test), maps), shrink)


def noisy_backgrounds(digits: DigitSet, deviation: float, seed: int = 0) -> DigitSet:
    """The same digits with Gaussian noise on every pixel beside the digit; ``deviation`` in grey levels of 1.

    Values are clipped to 0..255. Raises ValueError for a negative deviation.
    """
    if deviation < 0:
        raise ValueError(f"deviation must not be negative, got {deviation}")
    noise = np.random.default_rng(seed).normal(0, 255 * deviation, digits.images.shape)
    noisy = np.clip(np.round(digits.images + noise * ~digits.masks[..., None]), 0, 255).astype(np.uint8)
    return dataclasses.replace(digits, images=noisy, name=f"digits, noise {deviation:g}")


def recipes(
    settings: SimpleNamespace, network: str, names: Iterable[str], seeds: Iterable[int], **changes: object
) -> list[Recipe]:
    """How a run's settings train ``network`` with each mask and seed; ``changes`` to other fields by name."""
    base = Recipe(
        network=network,
        mask="",
        seed=0,
        epochs=settings.epochs[network],
        width=settings.widths[network],
        dropout=settings.dropout,
        batch=settings.batch,
        optimiser=settings.optimiser,
        learning_rate=settings.learning_rates[network],
        precision=settings.precision,
    )
    names = tuple(names)
    return [dataclasses.replace(base, mask=name, seed=seed, **changes) for seed in seeds for name in names]


def width_of_equal_size(network: str, width: float, size: int, classes: int = 10) -> float:
    """The smallest width whose plain network has at least the parameters of one with a learned mask."""
    build = models.NETWORKS[network]
    goal = models.parameters(models.connected(build(classes, width, size, 0.0), "learned"))
    wider = width
    while models.parameters(build(classes, wider, size, 0.0)) < goal:
        wider += width / 256
    return wider


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


def alpha_sensitivity(
    images: np.ndarray, shares: Sequence[float] = (0.03, 0.07, 0.15), borders: Sequence[int] = (1, 3, 8)
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Alpha maps of images (N, H, W, 3) for several seed shares (border 3) and border widths (share 7 %).

    Returns the maps (N, H, W) by name, and a row a setting: seeds (share), border (pixels), mean (of the
    maps), cc (mean Pearson correlation with the maps of the chosen 7 % and 3 pixels).
    """
    chosen = (0.07, 3)
    pairs = dict.fromkeys([(share, chosen[1]) for share in shares] + [(chosen[0], b) for b in borders])
    found = {}
    with Parallel(n_jobs=-1) as parallel:
        for share, border in dict.fromkeys([chosen, *pairs]):
            maps = parallel(delayed(saliency.alpha_matte)(image, share, border) for image in images)
            found[share, border] = np.stack(maps)
    rows = []
    for share, border in pairs:
        maps = found[share, border]
        correlations = [metrics.cc(a, b) for a, b in zip(maps, found[chosen], strict=True)]
        rows.append((share, border, float(maps.mean()), float(np.mean(correlations))))
    named = {f"seeds {100 * share:g} %, border {border}": found[share, border] for share, border in pairs}
    return named, pd.DataFrame(rows, columns=["seeds", "border", "mean", "cc"])


def with_objects(name: str, count: int) -> Segmented:
    """Images with object masks: ``count`` "cluttered digits", or all of the photographs of "rc_reference"."""
    if name == "cluttered digits":
        digits = cluttered_digits(count, seed=1, split="test")
        return Segmented(list(digits.images), list(digits.masks), name)
    return getattr(data, name)()


def map_quality_by_size(
    segmented: Segmented, sizes: Sequence[int] = (96, 64, 32), cache_dir: Path | None = None
) -> pd.DataFrame:
    """AUC of every kind of map against the objects, on images shrunk to a longer side of each size (SM-X5).

    Rows image, size, mask (the map's name), auc; the same images at every size.
    """
    rows = []
    for size in sizes:
        images = [_resized(image, size) for image in segmented.images]
        objects = [_resized(mask.astype(np.float32), size) > 0.5 for mask in segmented.masks]
        for name, method in masks.SALIENCY.items():
            for i, auc in enumerate(aucs(saliency.map_stack(images, method, cache_dir), objects)):
                rows.append({"image": i, "size": size, "mask": name, "auc": auc})
    return pd.DataFrame(rows)


def aucs(maps: Iterable[np.ndarray], objects: Iterable[np.ndarray]) -> list[float]:
    """Area under the ROC curve of each map (H, W) for telling its object (H, W) bool from the rest."""
    return [
        float(roc_auc_score(o.ravel(), np.asarray(m).ravel())) for m, o in zip(maps, objects, strict=True)
    ]


def learned_maps(
    network: LearnedMask, images: np.ndarray, given: str, rc: np.ndarray, material: Material
) -> np.ndarray:
    """The saliency (N, H, W) in [0, 1] that a learned branch gives to images (N, H, W, 3) uint8.

    ``given`` says which maps the branch was trained with, "plain" (white) or "RC" (then ``rc`` are those of
    the images); ``material`` is what it was trained on, for the normalisation.
    """
    device = next(network.parameters()).device
    maps = np.ones_like(rc) if given == "plain" else rc
    x = normalised(images, material.train.images, device)
    with torch.no_grad():
        return network.learned_saliency(x, torch.from_numpy(maps).to(device)).cpu().numpy()


def _exact(name: str, digits: DigitSet) -> np.ndarray:
    if name == "box":
        return masks.bounding_boxes(digits.masks)
    share = 0.0 if name == "true" else (DEGRADED.index(name) + 1) / masks.STEPS
    return masks.degraded(digits.masks, share)


def _shrunk(material: Material, factor: int) -> Material:
    train, test = (
        dataclasses.replace(part, images=masks.shrunk(part.images, factor))
        for part in (material.train, material.test)
    )
    maps = {name: tuple(masks.shrunk(m, factor) for m in pair) for name, pair in material.maps.items()}
    return Material(train, test, maps)


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    """Image or map with a longer side of ``size`` pixels."""
    if max(image.shape[:2]) == size:
        return image
    shape = [max(1, round(side * size / max(image.shape[:2]))) for side in image.shape[:2]]
    small = resize(image.astype(np.float32), shape, anti_aliasing=True)
    return np.round(small).astype(np.uint8) if image.dtype == np.uint8 else small
