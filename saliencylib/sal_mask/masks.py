"""The masks of paper 1 and their controls: which map multiplies the feature maps of which image.

Each control keeps one property of a saliency mask and takes the others away, so that a gain can be traced to
what causes it.
"""

from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from skimage.measure import block_reduce

from saliencylib import saliency

SALIENCY = {"RC": "rc", "Alpha": "alpha", "HC": "hc", "FT": "ft", "LC": "lc", "SR": "sr"}
CONTROLS = {
    "plain": "white everywhere: the mask is 1, the layer changes nothing",
    "grey": "the mean of all training RC maps everywhere: a mask without any place",
    "own mean": "each image's own RC mean everywhere: how much is salient, but not where",
    "centre": "one centred Gaussian with the mean of the RC maps: a place that no image chose",
    "shuffled": "the RC map of another image: the shape and place of saliency, but not of this image",
    "inverted RC": "one minus the RC map: the background in place of the object",
}
NAMES = (*CONTROLS, *SALIENCY)
BLOCK = 8  # side of the squares that `degraded` replaces, in pixels of a 96-pixel image
STEPS = 10


def mask_maps(
    names: tuple[str, ...], train_images: np.ndarray, test_images: np.ndarray, cache_dir: Path | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each name in ``NAMES`` the maps (N, H, W) in [0, 1] of the training and of the test images.

    Images are (N, H, W, 3) uint8; ``cache_dir`` keeps the saliency maps. Maps that a network of its own
    connection averages with white are given before that average. "grey" and "centre" take their level from
    the training images. Raises ValueError for an unknown name.
    """
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise ValueError(f"unknown masks {', '.join(unknown)}; valid masks: {', '.join(NAMES)}")
    both = (train_images, test_images)
    rc = [saliency.map_stack(images, "rc", cache_dir) for images in both]
    level = float(rc[0].mean())
    return {
        name: tuple(_maps(name, *pair, level, cache_dir) for pair in zip(both, rc, strict=True))
        for name in names
    }


def _maps(name: str, images: np.ndarray, rc: np.ndarray, level: float, cache_dir: Path | None) -> np.ndarray:
    match name:
        case "plain":
            return np.ones_like(rc)
        case "grey":
            return np.full_like(rc, level)
        case "own mean":
            return np.broadcast_to(rc.mean((1, 2), keepdims=True), rc.shape).copy()
        case "centre":
            return np.broadcast_to(centre_gaussian(rc.shape[1:], level), rc.shape).copy()
        case "shuffled":
            return rc[others(len(rc))]
        case "inverted RC":
            return 1 - rc
    return saliency.map_stack(images, SALIENCY[name], cache_dir)


def centre_gaussian(shape: tuple[int, int], mean: float) -> np.ndarray:
    """A Gaussian (H, W) float32 with peak 1 in the centre, as wide as gives the mean asked for, in (0, 1).

    Its standard deviation is the same share of both sides. Raises ValueError for another mean.
    """
    if not 0.001 < mean < 0.999:
        raise ValueError(f"the mean of a centred Gaussian must lie between .001 and .999, not {mean}")
    y, x = (np.linspace(-1, 1, side) if side > 1 else np.zeros(1) for side in shape)
    squares = np.add.outer(y**2, x**2)
    width = brentq(lambda deviation: np.exp(-0.5 * squares / deviation**2).mean() - mean, 0.005, 50)
    return np.exp(-0.5 * squares / width**2).astype(np.float32)


def others(count: int, seed: int = 0) -> np.ndarray:
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
    return np.where(draw < share, objects[others(count, seed)], objects).astype(np.float32)


def bounding_boxes(objects: np.ndarray) -> np.ndarray:
    """The filled bounding boxes of object masks (N, H, W) bool: where the object is, but not its shape.

    Returns (N, H, W) float32. Raises ValueError for an empty mask.
    """
    if not objects.any((1, 2)).all():
        raise ValueError(f"mask {int(np.argmin(objects.any((1, 2))))} is empty and has no bounding box")
    spans = []
    for axis in (2, 1):  # rows that hold object, then columns
        line = objects.any(axis)
        after_first = np.maximum.accumulate(line, 1)
        before_last = np.maximum.accumulate(line[:, ::-1], 1)[:, ::-1]
        spans.append(after_first & before_last)
    return (spans[0][:, :, None] & spans[1][:, None, :]).astype(np.float32)


def shrunk(stack: np.ndarray, factor: int) -> np.ndarray:
    """Images (N, H, W, 3) uint8, or maps (N, H, W), averaged over ``factor`` pixels in both directions."""
    if factor == 1:
        return stack
    blocks = (1, factor, factor) + (1,) * (stack.ndim - 3)
    means = block_reduce(stack, blocks, np.mean)
    return np.round(means).astype(np.uint8) if stack.dtype == np.uint8 else means.astype(np.float32)
