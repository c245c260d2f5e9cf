"""The images and masks of paper 1, and the controls: which map multiplies the feature maps of which image.

Each control keeps one property of a saliency mask and takes the others away, so that a gain can be traced to
what causes it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from skimage.measure import block_reduce
from skimage.transform import resize
from sklearn.metrics import roc_auc_score

from saliencylib.data.images import Labelled, clothing96, stl10, tinyimagenet10
from saliencylib.data.registry import choose
from saliencylib.digits import DigitSet, cluttered_digits
from saliencylib.inputs import check_count
from saliencylib.sal_mask.training import Material
from saliencylib.saliency import alpha_matte, centre_gaussian, map_stack
from saliencylib.stats import evenly
from saliencylib.study.keep import kept, side_by_side

SALIENCY_MASKS = {"RC": "rc", "Alpha": "alpha", "HC": "hc", "FT": "ft", "LC": "lc", "SR": "sr"}
MASK_CONTROLS = {
    "plain": "white everywhere: the mask is 1, the layer changes nothing",
    "grey": "the mean of all training RC maps everywhere: a mask without any place",
    "own mean": "each image's own RC mean everywhere: how much is salient, but not where",
    "centre": "one centred Gaussian with the mean of the RC maps: a place that no image chose",
    "shuffled": "the RC map of another image: the shape and place of saliency, but not of this image",
    "inverted RC": "one minus the RC map: the background in place of the object",
}
PAPER_MASKS = ("plain", "RC", "Alpha", "grey")  # the paper's three rows, and a mask without any place
# From the plain network to the RC mask, each step adding one property; the four steps add up to the gain.
MASK_CHAIN = ("plain", "grey", "centre", "shuffled", "RC")
SIDE_CONTROLS = ("own mean", "inverted RC", "HC", "FT")  # controls that get fewer seeds
DEGRADED_MASKS = tuple(f"true, {share} % foreign" for share in range(10, 101, 10))
EXACT_MASKS = ("true", "box", *DEGRADED_MASKS)  # masks that need the object's exact place
LABELLED = ("cluttered digits", "stl10", "tinyimagenet10", "clothing96")
BLOCK = 8  # side of the squares that `degraded` replaces, in pixels of a 96-pixel image


def labelled_images(name: str, split: str, per_class: int | None) -> Labelled | DigitSet:
    """Images (N, H, W, 3) uint8 with labels: "cluttered digits", "stl10", "tinyimagenet10" or "clothing96".

    ``per_class`` takes so many images of each class, None takes all; of STL-10 the first ones. Raises
    ValueError for an unknown name or split, and for fewer than one image of each class.
    """
    choose("data set", name, LABELLED)
    if per_class is not None:
        check_count("per_class", per_class)
    if name == "cluttered digits":
        return cluttered_digits(10 * (per_class or 500), split=split)
    if name != "stl10":
        return {"tinyimagenet10": tinyimagenet10, "clothing96": clothing96}[name](split, per_class)
    every = stl10(split)
    firsts = [np.flatnonzero(every.labels == c)[:per_class] for c in range(len(every.classes))]
    kept_ones = np.sort(np.concatenate(firsts))
    return replace(every, images=every.images[kept_ones], labels=every.labels[kept_ones])


def material(
    train: Labelled | DigitSet, test: Labelled | DigitSet, names: Sequence[str], shrink: int = 1
) -> Material:
    """Images and masks to train on, as ``mask_maps`` makes them at the images' size; then both are averaged
    over ``shrink`` pixels in both directions, so that a smaller training keeps the larger image's maps."""
    maps = mask_maps(names, train, test)
    return Material(
        block_means(train.images, shrink),
        train.labels,
        block_means(test.images, shrink),
        test.labels,
        len(train.classes),
        {name: tuple(block_means(stack, shrink) for stack in pair) for name, pair in maps.items()},
    )


def held_out(material: Material, per_class: int) -> Material:
    """Training images alone: so many of each class, evenly spread, are the test images, the others train.

    Choices (rates, lengths) are made on these, so that no test image settles them.
    """
    groups = [np.flatnonzero(material.train_labels == label) for label in range(material.classes)]
    test = np.sort(np.concatenate([group[evenly(len(group), per_class)] for group in groups]))
    train = np.setdiff1d(np.arange(len(material.train_labels)), test)
    images, labels = material.train_images, material.train_labels
    maps = {name: (every[train], every[test]) for name, (every, _) in material.maps.items()}
    return Material(images[train], labels[train], images[test], labels[test], material.classes, maps)


def mask_maps(
    names: Sequence[str], train: Labelled | DigitSet, test: Labelled | DigitSet
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each name the maps (N, H, W) in [0, 1] of the training and of the test images.

    Names are those of ``MASK_CONTROLS``, ``SALIENCY_MASKS`` and, for digits, ``EXACT_MASKS``. These are the
    maps before a network averages them with white. "grey" and "centre" take their level from the training
    images. Raises ValueError for an unknown name.
    """
    exact = EXACT_MASKS if isinstance(train, DigitSet) else ()
    valid = (*MASK_CONTROLS, *SALIENCY_MASKS, *exact)
    if unknown := sorted(set(names) - set(valid)):
        raise ValueError(f"unknown masks {', '.join(unknown)}; valid masks: {', '.join(valid)}")
    from_rc = set(names) & (set(MASK_CONTROLS) - {"plain"})
    rc = [map_stack(part.images, "rc") if from_rc else None for part in (train, test)]
    level = float(rc[0].mean()) if from_rc else 1.0
    pairs = list(zip((train, test), rc, strict=True))
    return {name: tuple(_maps(name, part, of_rc, level) for part, of_rc in pairs) for name in names}


def _maps(name: str, part: Labelled | DigitSet, rc: np.ndarray | None, level: float) -> np.ndarray:
    white = np.ones(part.images.shape[:3], np.float32)
    match name:
        case "plain":
            return white
        case "grey":
            return white * np.float32(level)
        case "own mean":
            return white * rc.mean((1, 2), keepdims=True)
        case "centre":
            return white * centre_of_mean(white.shape[1:], level)
        case "shuffled":
            return rc[other_images(len(rc))]
        case "inverted RC":
            return 1 - rc
        case "true":
            return degraded(part.masks, 0.0)
        case "box":
            return bounding_boxes(part.masks)
    if name in DEGRADED_MASKS:
        return degraded(part.masks, (DEGRADED_MASKS.index(name) + 1) / len(DEGRADED_MASKS))
    return map_stack(part.images, SALIENCY_MASKS[name])


def centre_of_mean(shape: tuple[int, int], mean: float) -> np.ndarray:
    """A centred Gaussian (H, W) float32 with peak 1, as wide as gives the mean asked for, in (0, 1).

    Its standard deviation is the same share of both sides. Raises ValueError for another mean.
    """
    if not 0.001 < mean < 0.999:
        raise ValueError(f"the mean of a centred Gaussian must lie between .001 and .999, not {mean}")
    halves = np.maximum(np.array(shape) - 1, 1) / 2
    width = brentq(lambda share: centre_gaussian(shape, share * halves).mean() - mean, 0.005, 50)
    return centre_gaussian(shape, width * halves).astype(np.float32)


def other_images(count: int, seed: int = 0) -> np.ndarray:
    """For each of ``count`` images the number of another one, (count,): a random order without fixed points.

    Raises ValueError for fewer than two images.
    """
    if count < 2:
        raise ValueError("one image has no other to take a map from")
    cycle = np.random.default_rng(seed).permutation(count)
    found = np.empty(count, int)
    found[cycle] = np.roll(cycle, 1)
    return found


def degraded(objects: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Object masks (N, H, W) bool in which a share of squares shows another image's object instead.

    Squares of a twelfth of the height are replaced with probability ``share``, in [0, 1], the same squares
    for a greater share and more: quality falls in even steps from exact to foreign, while area and typical
    place stay. Returns (N, H, W) float32. Raises ValueError for another share.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], not {share}")
    count, height, width = objects.shape
    side = max(1, height * BLOCK // 96)
    rng = np.random.default_rng(seed)
    draw = rng.random((count, -(-height // side), -(-width // side)))
    draw = draw.repeat(side, 1).repeat(side, 2)[:, :height, :width]
    return np.where(draw < share, objects[other_images(count, seed)], objects).astype(np.float32)


def bounding_boxes(objects: np.ndarray) -> np.ndarray:
    """The filled bounding boxes of object masks (N, H, W) bool: where the object is, but not its shape.

    Returns (N, H, W) float32. Raises ValueError for an empty mask.
    """
    if not objects.any((1, 2)).all():
        raise ValueError(f"mask {int(np.argmin(objects.any((1, 2))))} is empty and has no bounding box")
    rows, columns = (_between(objects.any(axis)) for axis in (2, 1))
    return (rows[:, :, None] & columns[:, None, :]).astype(np.float32)


def _between(hits: np.ndarray) -> np.ndarray:
    """True from the first to the last True of each row, (N, L) bool."""
    before_last = np.maximum.accumulate(hits[:, ::-1], 1)[:, ::-1]
    return np.maximum.accumulate(hits, 1) & before_last


def block_means(stack: np.ndarray, factor: int) -> np.ndarray:
    """Images (N, H, W, 3) uint8, or maps (N, H, W), averaged over ``factor`` pixels in both directions.

    Raises ValueError for a factor below 1.
    """
    check_count("shrink", factor)
    if factor == 1:
        return stack
    blocks = (1, factor, factor) + (1,) * (stack.ndim - 3)
    means = block_reduce(stack, blocks, np.mean)
    return np.round(means).astype(np.uint8) if stack.dtype == np.uint8 else means.astype(np.float32)


@kept("alpha")
def alpha_maps(images: np.ndarray, seed_share: float, border: int) -> np.ndarray:
    """Alpha maps (N, H, W) of images (N, H, W, 3), by all cores, for other seeds than the chosen ones."""
    return np.stack(side_by_side(alpha_matte, [(image, seed_share, border) for image in images]))


def quality_by_size(
    images: Sequence[np.ndarray], objects: Sequence[np.ndarray], sizes: Sequence[int] = (96, 64, 32)
) -> pd.DataFrame:
    """AUC of every kind of map against the objects, on images shrunk to a longer side of each size (SM-X5).

    Rows image, size, mask (the map's name), auc; the same images at every size.
    """
    rows = []
    for size in sizes:
        small = [_resized(image, size) for image in images]
        truth = [_resized(mask.astype(np.float32), size) > 0.5 for mask in objects]
        for name, method in SALIENCY_MASKS.items():
            areas = object_aucs(map_stack(small, method), truth)
            rows += [(i, size, name, auc) for i, auc in enumerate(areas)]
    return pd.DataFrame(rows, columns=["image", "size", "mask", "auc"])


def object_aucs(maps: Iterable[np.ndarray], objects: Iterable[np.ndarray]) -> list[float]:
    """Area under the ROC curve of each map (H, W) for telling its object (H, W) bool from the rest."""
    return [
        float(roc_auc_score(o.ravel(), np.asarray(m).ravel())) for m, o in zip(maps, objects, strict=True)
    ]


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    """Image or map with a longer side of ``size`` pixels."""
    longer = max(image.shape[:2])
    if longer == size:
        return image
    shape = [max(1, round(side * size / longer)) for side in image.shape[:2]]
    small = resize(image.astype(np.float32), shape, anti_aliasing=True)
    return np.round(small).astype(np.uint8) if image.dtype == np.uint8 else small
