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

from saliencylib.inputs import as_array, as_mask, rgb_picture
from saliencylib.licnn.attribution import GRADIENT_BASED, METHODS, VARIANTS, attribute
from saliencylib.licnn.crops import PhotoCrops
from saliencylib.licnn.method import LICNN
from saliencylib.saliency import centre_gaussian, region_contrast
from saliencylib.study.keep import kept, side_by_side

BASELINES = ("RC", "centre Gaussian", "random map")  # maps that ask no classifier
CONTROLS = ("centre Gaussian", "random map")  # those that must not do what a map is claimed to do
NO_INHIBITION = "LICNN, no inhibition"
SALIENCY_MAPS = {  # of the five likeliest classes
    "LICNN, five likeliest": "normalised",
    "LICNN, released code, five likeliest": "released_code",
}
# What a control makes of the map without inhibition: the place of LI-X4's inhibition taken by a map that
# asks no classifier.
CONTROLLED = {f"{NO_INHIBITION}, times {control}": control for control in CONTROLS}
SLOW = ("Integrated Gradients", "SmoothGrad")
SWITCHED = tuple(name for name in VARIANTS if "softmax" not in name and "released code" not in name)
LOCALISED = (
    *("LICNN", NO_INHIBITION, "LICNN, released code", "LICNN, released code, no inhibition"),
    *(GRADIENT_BASED, *CONTROLLED),
    *(method for method in METHODS[1:] if method not in SLOW),
    *BASELINES,
)
HALVED = (
    *("LICNN", "LICNN, before the softmax", GRADIENT_BASED),
    *("LICNN, released code", "LICNN, released code, before the softmax", "Gradient", "Grad-CAM"),
)


def baseline_map(kind: str, picture: Image.Image) -> np.ndarray:
    """A map (H, W) of an RGB picture that asks no classifier.

    "RC" is region contrast (equal values, of which it has many, rank by their distance from the centre),
    "centre Gaussian" has a deviation of a quarter of the sides, "random map" is smoothed noise (sigma an
    eighth of the shorter side) of the picture's own. Raises ValueError for another kind.
    """
    pixels = np.asarray(rgb_picture(picture))
    shape = pixels.shape[:2]
    centre = centre_gaussian(shape, tuple(max(side - 1, 1) / 4 for side in shape))
    if kind == "centre Gaussian":
        return centre
    if kind == "RC":
        return region_contrast(pixels) + 1e-6 * centre
    if kind == "random map":
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
    values, masks = _checked(maps, masks)
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

    A map of zeros gets the mask's area, as a constant map does. Raises ValueError for different shapes, and
    for maps with negative values, NaN or infinity.
    """
    values, masks = _pair(maps, masks)
    values = np.where(values.any((1, 2), keepdims=True), values, 1.0)
    return (values * masks).sum((1, 2)) / values.sum((1, 2))


def inside_minus_outside(maps: Tensor | np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean of each map (N, H, W) inside its mask minus outside, as a share of the map's maximum: (N,).

    Raises ValueError for different shapes, or a mask that is empty or covers everything.
    """
    values, masks = _checked(maps, masks)
    area = masks.mean((1, 2))
    inside = (values * masks).mean((1, 2)) / area
    outside = (values * ~masks).mean((1, 2)) / (1 - area)
    return (inside - outside) / np.maximum(values.max((1, 2)), 1e-30)


def _iou(region: np.ndarray, mask: np.ndarray) -> float:
    return float((region & mask).sum() / (region | mask).sum())


def _pair(maps: Tensor | np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps (N, H, W) float64, finite and not negative, and masks (N, H, W) bool."""
    values, masks = as_array(maps).astype(np.float64), as_mask(masks)
    if values.ndim != 3 or values.shape != masks.shape:
        raise ValueError(f"need maps and masks (N, H, W), not shapes {values.shape} and {masks.shape}")
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError("the maps hold negative values, NaN or infinity: give their absolute values")
    return values, masks


def _checked(maps: Tensor | np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, masks = _pair(maps, masks)
    area = masks.mean((1, 2))
    if not np.all((area > 0) & (area < 1)):
        raise ValueError("need maps and masks of one shape, each mask with an inside and an outside")
    return values, masks


# ------------------------------------------------------------------------------------------- experiments


@kept("localisation", table=True)
def localisation_scores(
    model: nn.Module,
    seen: PhotoCrops,
    maps: Sequence[str] = LOCALISED,
    probability: bool = False,
    batch_size: int = 8,
) -> pd.DataFrame:
    """``object_scores`` of maps of the labelled class against crops' boxes: rows map, image (name), label.

    ``maps`` are names that ``attribute`` takes, of ``SALIENCY_MAPS``, ``CONTROLLED`` or ``BASELINES``; with
    ``probability`` all of ``attribute`` explain the class's probability. Batches are kept as they are
    finished.
    """
    jobs = [(model, part, list(maps), probability) for part in seen.parts(batch_size)]
    found = side_by_side(_scores_of_batch, jobs, next(model.parameters()).device)
    frame = pd.concat(found, ignore_index=True)
    order = frame["map"].map(list(maps).index).argsort(kind="stable")
    return frame.iloc[order].reset_index(drop=True)


@kept("localisation")
def _scores_of_batch(model: nn.Module, seen: PhotoCrops, names: list[str], probability: bool) -> pd.DataFrame:
    images, target = seen.inputs(model), torch.as_tensor(seen.labels)
    maps = {}
    for name in names:
        if name in BASELINES:
            maps[name] = np.stack([baseline_map(name, crop) for crop in seen.crops])
        elif name in CONTROLLED:
            control = np.stack([baseline_map(CONTROLLED[name], crop) for crop in seen.crops])
            maps[name] = maps[NO_INHIBITION].cpu().numpy() * control
        elif name in SALIENCY_MAPS:
            maps[name] = LICNN(model, SALIENCY_MAPS[name]).saliency_maps(images)
        else:
            maps[name] = attribute(name, model, images, target, probability=probability)
    about = {"image": seen.names, "label": seen.labels}
    frames = [object_scores(found, seen.boxes).assign(map=name, **about) for name, found in maps.items()]
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
        maps = torch.stack([attribute(name, model, images, column) for column in classes.T], 1)
        halves = np.stack(np.split(maps.cpu().numpy(), 2, axis=3), 2)  # image, class, half, H, W
        energy, peak = halves.sum((3, 4)), halves.max((3, 4))
        share = energy[:, own, own] / np.maximum(energy.sum(2), 1e-30)
        values.append(np.stack([share, peak.argmax(2) == own], 2))
    return np.stack(values)
