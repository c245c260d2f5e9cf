"""How well a map sits on an object whose place is known: four scores, objects of known place, and maps that
know nothing of the classifier."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from torch import Tensor

from saliencylib.study import cache
from saliencylib import saliency
from saliencylib.licnn.classifiers import Preprocess
from saliencylib.data import PhotoSet, Segmented

BASELINES = ("RC", "centre Gaussian", "random")
Maps = Tensor | np.ndarray

# Boxes (relative x0 y0 x1 y1) that we drew around the people in photographs whose label is not the person:
# head, body, arms. The first two ship with scikit-image, the others are of nips2017_dev.
PEOPLE = {
    "astronaut": [(0.30, 0.03, 0.58, 0.40), (0.05, 0.33, 0.55, 1.0)],
    "camera": [(0.31, 0.12, 0.53, 0.40), (0.0, 0.2, 0.4, 1.0), (0.4, 0.38, 0.63, 0.6)],
    "1cc2caf8e5db27c3": [(0.12, 0.25, 0.48, 1.0), (0.42, 0.05, 0.87, 1.0)],
    "1e4bb9fd37654da6": [(0.12, 0.0, 0.6, 1.0)],
    "328d99215b19c8c7": [(0.0, 0.18, 0.2, 0.9), (0.2, 0.15, 0.5, 1.0), (0.52, 0.1, 1.0, 0.95)],
    "34a39905ce228160": [(0.0, 0.0, 0.6, 0.42), (0.8, 0.0, 1.0, 0.45)],
    "85e2eea48d912d31": [(0.0, 0.12, 0.1, 0.55), (0.83, 0.17, 0.97, 0.42)],
    "95d1a6be6786190f": [(0.0, 0.0, 0.3, 0.85), (0.55, 0.0, 0.82, 0.57)],
    "a00c8d22e63497c4": [(0.1, 0.3, 0.55, 1.0), (0.5, 0.1, 0.72, 0.7), (0.05, 0.25, 0.2, 0.6)],
    "a482985ca1e77960": [(0.1, 0.45, 0.4, 1.0), (0.42, 0.75, 0.6, 0.95), (0.88, 0.7, 1.0, 0.95)],
    "b722c809657aecee": [(0.08, 0.0, 0.75, 1.0)],
    "d3aa8ee50458c020": [(0.18, 0.1, 0.6, 0.5), (0.5, 0.25, 1.0, 1.0)],
    "e5f15610a22098bb": [(0.35, 0.0, 0.98, 0.3), (0.5, 0.2, 0.9, 0.78)],
    "e957c417fcd20c5b": [(0.1, 0.13, 0.3, 0.77), (0.66, 0.0, 0.98, 0.87)],
}

# Positions in ``data.rc_reference()`` of objects that we could name: none of the 1000 ImageNet classes fits
# (a dancer, tulips, a toy figure, a seedling, a water plant, a seed head, a hand, a rose, sticks), or one
# does (castle, tiger, horses, starfish, leopard, eagle, dog, meerkat, car mirror, mailbox, flagpole, traffic
# light). The others are doubtful and left out.
UNKNOWN_OBJECTS = (0, 13, 18, 21, 24, 25, 27, 31, 33)
KNOWN_OBJECTS = (1, 3, 4, 5, 6, 8, 10, 11, 19, 22, 23, 28, 29, 34)


def box_masks(photos: PhotoSet, preprocess: Preprocess) -> np.ndarray:
    """The photographs' boxes on the crops that the network sees: bool (N, crop, crop)."""
    sizes = [photos.image(i).size for i in range(len(photos))]
    return np.stack([preprocess.box_mask(b, *size) for b, size in zip(photos.boxes, sizes, strict=True)])


def people(photos: PhotoSet) -> PhotoSet:
    """The photographs among ``photos`` with people around whom we drew boxes, with these boxes."""
    chosen = photos.select([i for i, path in enumerate(photos.paths) if path.stem in PEOPLE])
    for i, path in enumerate(chosen.paths):
        chosen.boxes[i] = np.array(PEOPLE[path.stem])
    return chosen


def segmented_crops(
    objects: Segmented, positions: Sequence[int], preprocess: Preprocess
) -> tuple[list[Image.Image], np.ndarray]:
    """The crops (RGB pictures) that a network sees of photographs with masks, and these masks on the crops,
    bool (N, crop, crop)."""
    crops = [preprocess.cut(Image.fromarray(objects.images[i])) for i in positions]
    drawn = [preprocess.cut(Image.fromarray(objects.masks[i]).convert("RGB")) for i in positions]
    return crops, np.stack([np.asarray(mask)[..., 0] > 127 for mask in drawn])


def baseline_map(kind: str, picture: Image.Image) -> np.ndarray:
    """A map (H, W) of an RGB picture that asks no classifier.

    "RC" is region contrast (equal values, of which it has many, rank by their distance from the centre),
    "centre Gaussian" has a deviation of a quarter of the sides, "random" is smoothed noise (sigma an eighth
    of the shorter side) of the picture's own. Raises ValueError for another kind.
    """
    pixels = np.asarray(picture)
    y, x = (np.linspace(-2, 2, side) ** 2 for side in pixels.shape[:2])
    centre = np.exp(-0.5 * (y[:, None] + x[None]))
    if kind == "centre Gaussian":
        return centre
    if kind == "RC":
        return saliency.region_contrast(pixels) + 1e-6 * centre
    if kind == "random":
        rng = np.random.default_rng(int(cache.key(pixels), 16))
        noise = rng.standard_normal(pixels.shape[:2])
        noise = gaussian_filter(noise, min(noise.shape) / 8, mode="wrap")
        return noise - noise.min()
    raise ValueError(f"unknown map {kind!r}; valid maps: {', '.join(BASELINES)}")


def scores(maps: Maps, masks: np.ndarray) -> pd.DataFrame:
    """How well each map (N, H, W), values >= 0, sits on its object (N, H, W) bool: a row a map.

    Columns: pointing (whether the highest value lies on the object; the pointing game of Zhang et al., ECCV
    2016, without tolerance), auc (area under the ROC curve of the pixels), energy (share of the map's sum on
    the object), area (share of the picture that the object takes; what energy is for a constant map), iou
    (intersection over union with the region above 20 % of the map's range, as Zhou et al., CVPR 2016) and
    iou_area (with the map's highest values, as many as the object has pixels). A map that is constant points
    nowhere. Raises ValueError for different shapes, or a mask that is empty or covers everything.
    """
    values = _array(maps)
    _check(values, masks)
    rows = []
    for one, mask, energy in zip(values, masks, energy_inside(values, masks), strict=True):
        low, high = one.min(), one.max()
        flat = one.ravel()
        order = np.argsort(-flat, kind="stable")
        largest = np.zeros(flat.shape, bool)
        largest[order[: mask.sum()]] = True
        rows.append(
            {
                "pointing": bool(low < high and mask.ravel()[order[0]]),
                "auc": float(roc_auc_score(mask.ravel(), flat)),
                "energy": float(energy),
                "area": float(mask.mean()),
                "iou": _iou(one > low + (high - low) / 5, mask),
                "iou_area": _iou(largest.reshape(mask.shape), mask),
            }
        )
    return pd.DataFrame(rows)


def _iou(region: np.ndarray, mask: np.ndarray) -> float:
    return float((region & mask).sum() / (region | mask).sum())


def energy_inside(maps: Maps, masks: np.ndarray) -> np.ndarray:
    """Share of each map's sum (N, H, W), values >= 0, that lies inside its mask (N, H, W), in [0, 1].

    A map of zeros gets the mask's area, as a constant map does. Raises ValueError for different shapes.
    """
    values = _array(maps)
    if values.shape != masks.shape:
        raise ValueError(f"maps of shape {values.shape} and masks of shape {masks.shape}")
    values = np.where(values.any((1, 2), keepdims=True), values, 1.0)
    return (values * masks).sum((1, 2)) / values.sum((1, 2))


def contrast(maps: Maps, masks: np.ndarray) -> np.ndarray:
    """Mean of each map (N, H, W) inside its mask minus outside, as a share of the map's maximum: (N,).

    Raises ValueError for different shapes, or a mask that is empty or covers everything.
    """
    values = _array(maps)
    _check(values, masks)
    area = masks.mean((1, 2))
    inside = (values * masks).mean((1, 2)) / area
    outside = (values * ~masks).mean((1, 2)) / (1 - area)
    return (inside - outside) / np.maximum(values.max((1, 2)), 1e-30)


def _array(maps: Maps) -> np.ndarray:
    values = maps.cpu().numpy() if isinstance(maps, torch.Tensor) else np.asarray(maps)
    return values.astype(np.float64)


def _check(values: np.ndarray, masks: np.ndarray) -> None:
    area = masks.mean((1, 2))
    if values.shape != masks.shape or not np.all((area > 0) & (area < 1)):
        raise ValueError("need maps and masks of one shape, each mask with an inside and an outside")
