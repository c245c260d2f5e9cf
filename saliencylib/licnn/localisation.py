"""How well a map sits on an object whose place is known, or on the half that shows its class."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from saliencylib.licnn.attribution import METHODS, attribute
from saliencylib.licnn.method import LICNN, l2_normalised
from saliencylib.saliency import centre_gaussian, region_contrast
from saliencylib.study.keep import kept, side_by_side

BASELINES = ("RC", "centre Gaussian", "random")  # maps that ask no classifier
LICNN_VARIANTS = {
    "LICNN": {},
    "LICNN, no inhibition (a = b = 0)": {"a": 0.0, "b": 0.0},
    "LICNN, gradient not normalised": {"normalise_gradient": False},
    "LICNN, last map masked": {"mask_last": True},
    "LICNN, layers normalised": {"normalise_layers": True},
    "LICNN, bilinear": {"interpolation": "bilinear"},
    "LICNN, text": {"preset": "text"},
}
OTHER_CLASSES = ("LICNN, likeliest class", "LICNN, five likeliest")
LOCALISED = (*LICNN_VARIANTS, *OTHER_CLASSES, *METHODS[1:], *BASELINES)
HALVED = ("LICNN, after the softmax", "LICNN, before the softmax", "Gradient", "Grad-CAM")


def baseline_map(kind: str, picture: Image.Image) -> np.ndarray:
    """A map (H, W) of an RGB picture that asks no classifier.

    "RC" is region contrast (equal values, of which it has many, rank by their distance from the centre),
    "centre Gaussian" has a deviation of a quarter of the sides, "random" is smoothed noise (sigma an eighth
    of the shorter side) of the picture's own. Raises ValueError for another kind.
    """
    pixels = np.asarray(picture)
    shape = pixels.shape[:2]
    centre = centre_gaussian(shape, tuple(max(side - 1, 1) / 4 for side in shape))
    if kind == "centre Gaussian":
        return centre
    if kind == "RC":
        return region_contrast(pixels) + 1e-6 * centre
    if kind == "random":
        content = f"{pixels.dtype}{pixels.shape}".encode() + pixels.tobytes() + b"|"
        rng = np.random.default_rng(int(hashlib.sha256(content).hexdigest()[:16], 16))
        noise = gaussian_filter(rng.standard_normal(shape), min(shape) / 8, mode="wrap")
        return noise - noise.min()
    raise ValueError(f"unknown map {kind!r}; valid maps: {', '.join(BASELINES)}")


# ------------------------------------------------------------------------------------------- scores


def object_scores(maps: Tensor | np.ndarray, masks: np.ndarray) -> pd.DataFrame:
    """How well each map (N, H, W), values >= 0, sits on its object (N, H, W) bool: a row a map.

    Columns: pointing (whether the highest value lies on the object; the pointing game of Zhang et al., ECCV
    2016, without tolerance), auc (area under the ROC curve of the pixels), energy (share of the map's sum on
    the object), area (share of the picture that the object takes; what energy is for a constant map), iou
    (intersection over union with the region above 20 % of the map's range, as Zhou et al., CVPR 2016) and
    iou_area (with the map's highest values, as many as the object has pixels). A map that is constant points
    nowhere. Raises ValueError for different shapes, or a mask that is empty or covers everything.
    """
    values = _checked(maps, masks)
    rows = []
    for one, mask, energy in zip(values, masks, energy_inside(values, masks), strict=True):
        low, high = one.min(), one.max()
        order = np.argsort(-one, axis=None, kind="stable")
        largest = np.zeros(mask.shape, bool)
        largest.flat[order[: mask.sum()]] = True
        rows.append(
            {
                "pointing": bool(low < high and mask.flat[order[0]]),
                "auc": float(roc_auc_score(mask.ravel(), one.ravel())),
                "energy": float(energy),
                "area": float(mask.mean()),
                "iou": _iou(one > low + (high - low) / 5, mask),
                "iou_area": _iou(largest, mask),
            }
        )
    return pd.DataFrame(rows)


def energy_inside(maps: Tensor | np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share of each map's sum (N, H, W), values >= 0, that lies inside its mask (N, H, W), in [0, 1].

    A map of zeros gets the mask's area, as a constant map does. Raises ValueError for different shapes.
    """
    values = _array(maps)
    if values.shape != masks.shape:
        raise ValueError(f"maps of shape {values.shape} and masks of shape {masks.shape}")
    values = np.where(values.any((1, 2), keepdims=True), values, 1.0)
    return (values * masks).sum((1, 2)) / values.sum((1, 2))


def inside_minus_outside(maps: Tensor | np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean of each map (N, H, W) inside its mask minus outside, as a share of the map's maximum: (N,).

    Raises ValueError for different shapes, or a mask that is empty or covers everything.
    """
    values = _checked(maps, masks)
    area = masks.mean((1, 2))
    inside = (values * masks).mean((1, 2)) / area
    outside = (values * ~masks).mean((1, 2)) / (1 - area)
    return (inside - outside) / np.maximum(values.max((1, 2)), 1e-30)


def _iou(region: np.ndarray, mask: np.ndarray) -> float:
    return float((region & mask).sum() / (region | mask).sum())


def _array(maps: Tensor | np.ndarray) -> np.ndarray:
    values = maps.cpu().numpy() if isinstance(maps, torch.Tensor) else np.asarray(maps)
    return values.astype(np.float64)


def _checked(maps: Tensor | np.ndarray, masks: np.ndarray) -> np.ndarray:
    values, area = _array(maps), masks.mean((1, 2))
    if values.shape != masks.shape or not np.all((area > 0) & (area < 1)):
        raise ValueError("need maps and masks of one shape, each mask with an inside and an outside")
    return values


# ------------------------------------------------------------------------------------------- experiments


@kept("localisation", table=True)
def localisation_scores(
    model: nn.Module,
    crops: Sequence[Image.Image],
    images: Tensor,
    masks: np.ndarray,
    target: Tensor,
    batch_size: int,
) -> pd.DataFrame:
    """``object_scores`` of every map of images (N, 3, H, W) against masks (N, H, W): rows map, image.

    Maps, in this order (``LOCALISED``): LICNN of the ``target`` classes (N,), and with every change of
    ``LICNN_VARIANTS``; LICNN of the likeliest class, and of the five likeliest; the other methods of
    ``attribute``; and the baselines, drawn from the ``crops``. Batches are kept as they are finished.
    """
    parts = [slice(start, start + batch_size) for start in range(0, len(images), batch_size)]
    jobs = [(model, crops[p], images[p], masks[p], target[p]) for p in parts]
    found = side_by_side(_scores_of_batch, jobs, next(model.parameters()).device)
    frames = [rows.assign(image=rows["image"] + p.start) for rows, p in zip(found, parts, strict=True)]
    frame = pd.concat(frames, ignore_index=True)
    order = np.lexsort((frame["image"], frame["map"].map(LOCALISED.index)))
    return frame.iloc[order].reset_index(drop=True)


@kept("localisation")
def _scores_of_batch(
    model: nn.Module, crops: Sequence[Image.Image], images: Tensor, masks: np.ndarray, target: Tensor
) -> pd.DataFrame:
    maps = {name: LICNN(model, **change).attribute(images, target) for name, change in LICNN_VARIANTS.items()}
    classes = LICNN(model).attention_maps(images)
    maps |= dict(zip(OTHER_CLASSES, (classes[:, 0], l2_normalised(classes.sum(1))), strict=True))
    maps |= {method: attribute(method, model, images, target) for method in METHODS[1:]}
    maps |= {kind: np.stack([baseline_map(kind, crop) for crop in crops]) for kind in BASELINES}
    frames = [
        object_scores(found, masks).assign(map=name, image=range(len(masks))) for name, found in maps.items()
    ]
    return pd.concat(frames, ignore_index=True)


@kept("own halves", table=True)
def own_halves(model: nn.Module, images: Tensor, classes: Tensor, batch_size: int) -> pd.DataFrame:
    """Where the maps of two photographs' classes (N, 2) lie in both side by side, images (N, 3, H, 2 W).

    Rows map (of ``HALVED``), pair, side (0 left, 1 right), with energy (share of the map in the class's own
    half) and pointing (whether its highest value lies there). Batches are kept as they are finished.
    """
    parts = [slice(start, start + batch_size) for start in range(0, len(images), batch_size)]
    jobs = [(model, images[p], classes[p]) for p in parts]
    values = np.concatenate(side_by_side(_halves_of_batch, jobs, next(model.parameters()).device), 1)
    index = pd.MultiIndex.from_product([HALVED, range(len(images)), (0, 1)], names=["map", "pair", "side"])
    frame = pd.DataFrame(values.reshape(-1, 2), index=index, columns=["energy", "pointing"]).reset_index()
    return frame.astype({"pointing": bool})


@kept("own halves")
def _halves_of_batch(model: nn.Module, images: Tensor, classes: Tensor) -> np.ndarray:
    """Energy and pointing, (maps, images, 2 sides, 2)."""
    values, own = [], np.arange(2)
    for name in HALVED:
        if name.startswith("LICNN"):
            maps = LICNN(model, softmax="after" in name).attention_maps(images, classes)
        else:
            maps = torch.stack([attribute(name, model, images, column) for column in classes.T], 1)
        halves = np.stack(np.split(maps.cpu().numpy(), 2, axis=3), 2)  # image, class, half, H, W
        energy, peak = halves.sum((3, 4)), halves.max((3, 4))
        share = energy[:, own, own] / np.maximum(energy.sum(2), 1e-30)
        values.append(np.stack([share, peak.argmax(2) == own], 2))
    return np.stack(values)
