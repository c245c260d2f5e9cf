"""How well a map sits on an object whose place is known."""

import numpy as np
import torch
from torch import Tensor

from saliencylib.classifiers import Preprocess
from saliencylib.data import PhotoSet

# Boxes (relative x0 y0 x1 y1) that we drew around the people in scikit-image's photographs: head, body, arms.
PEOPLE = {
    "astronaut.png": np.array([[0.30, 0.03, 0.58, 0.40], [0.05, 0.33, 0.55, 1.0]]),
    "camera.png": np.array([[0.31, 0.12, 0.53, 0.40], [0.0, 0.2, 0.4, 1.0], [0.4, 0.38, 0.63, 0.6]]),
}


def box_masks(photos: PhotoSet, preprocess: Preprocess) -> np.ndarray:
    """The photographs' boxes on the crops that the network sees: bool (N, crop, crop)."""
    sizes = [photos.image(i).size for i in range(len(photos))]
    return np.stack([preprocess.box_mask(b, *size) for b, size in zip(photos.boxes, sizes, strict=True)])


def energy_inside(maps: Tensor | np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share of each map's sum (N, H, W), values >= 0, that lies inside its mask (N, H, W), in [0, 1].

    A map of zeros gets the mask's area, as a constant map does. Raises ValueError for different shapes.
    """
    maps = maps.cpu().numpy() if isinstance(maps, torch.Tensor) else np.asarray(maps)
    maps = maps.astype(np.float64)
    if maps.shape != masks.shape:
        raise ValueError(f"maps of shape {maps.shape} and masks of shape {masks.shape}")
    maps = np.where(maps.any((1, 2), keepdims=True), maps, 1.0)
    return (maps * masks).sum((1, 2)) / maps.sum((1, 2))


def contrast(maps: Tensor | np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean of each map (N, H, W) inside its mask minus outside, as a share of the map's maximum: (N,).

    Raises ValueError for different shapes, or a mask that is empty or covers everything.
    """
    maps = maps.cpu().numpy() if isinstance(maps, torch.Tensor) else np.asarray(maps)
    maps = maps.astype(np.float64)
    area = masks.mean((1, 2))
    if maps.shape != masks.shape or not np.all((area > 0) & (area < 1)):
        raise ValueError("need maps and masks of one shape, each mask with an inside and an outside")
    inside = (maps * masks).mean((1, 2)) / area
    outside = (maps * ~masks).mean((1, 2)) / (1 - area)
    return (inside - outside) / np.maximum(maps.max((1, 2)), 1e-30)
