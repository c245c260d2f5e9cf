"""Photographs as a classifier sees them: crops, inputs, objects on the crops; and who took them."""

import html
import re
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from saliencylib.data import photosets
from saliencylib.data.images import Segmented, in_threads
from saliencylib.data.photosets import PhotoSet
from saliencylib.licnn.classifiers import Preprocess
from saliencylib.stats import evenly


def photo_set(name: str, count: int | None = None) -> PhotoSet:
    """``count`` photographs of a set of ``saliencylib.data``, evenly spread through its list, or all."""
    photos = getattr(photosets, name)()
    return photos.select(evenly(len(photos), count))


def crops_of(model: nn.Module, photos: PhotoSet) -> list[Image.Image]:
    """The crops (RGB pictures) that the network sees."""
    return in_threads(lambda index: model.preprocess.cut(photos.image(index)), range(len(photos)))


def crops_and_inputs(model: nn.Module, photos: PhotoSet) -> tuple[list[Image.Image], Tensor]:
    """The crops and their inputs (N, 3, H, W) on the network's device."""
    crops = crops_of(model, photos)
    return crops, model.preprocess.inputs(crops).to(next(model.parameters()).device)


def box_masks(photos: PhotoSet, preprocess: Preprocess) -> np.ndarray:
    """The photographs' boxes on the crops that the network sees: bool (N, crop, crop)."""
    sizes = in_threads(lambda index: photos.image(index).size, range(len(photos)))
    return np.stack([preprocess.box_mask(b, *size) for b, size in zip(photos.boxes, sizes, strict=True)])


def segmented_crops(
    objects: Segmented, positions: Sequence[int], preprocess: Preprocess
) -> tuple[list[Image.Image], np.ndarray]:
    """The crops (RGB pictures) that a network sees of photographs with masks, and these masks on the crops,
    bool (N, crop, crop)."""
    crops = [preprocess.cut(Image.fromarray(objects.images[i])) for i in positions]
    drawn = [preprocess.cut(Image.fromarray(objects.masks[i]).convert("RGB")) for i in positions]
    return crops, np.stack([np.asarray(mask)[..., 0] > 127 for mask in drawn])


def joined_pairs(
    model: nn.Module, crops: Sequence[Image.Image], top: np.ndarray, right: np.ndarray, count: int
) -> tuple[list[tuple[int, int]], Tensor, Tensor]:
    """Pairs of photographs side by side, for the grid pointing game (Boehle et al., CVPR 2021).

    Photographs whose likeliest class is ``right`` are paired with another one of a different class, at most
    ``count`` pairs. Returns the pairs' positions, their inputs (N, 3, H, 2 W) and their two classes (N, 2),
    that of the left half first. The network must average its last feature maps, so that width is free.
    Raises ValueError when no two photographs are right and of different classes.
    """
    good = np.flatnonzero(right)
    other = np.roll(good, len(good) // 2)
    pairs = [(i, j) for i, j in zip(good, other, strict=True) if top[i, 0] != top[j, 0]][:count]
    if not pairs:
        raise ValueError("no two photographs have right and different classes: take more of them")
    halves = [model.preprocess.inputs([crops[i], crops[j]]) for i, j in pairs]
    joined = torch.stack([torch.cat(tuple(pair), 2) for pair in halves])
    return pairs, joined, torch.tensor([[top[i, 0], top[j, 0]] for i, j in pairs])


def readable_credit(credit: str) -> str:
    """A credit without the HTML entities and octal bytes that some entries of the source's table carry."""
    octal = re.compile(r"(?:\\[0-7]{3})+")
    decoded = octal.sub(lambda found: bytes(int(o, 8) for o in found[0][1:].split("\\")).decode(), credit)
    return html.unescape(decoded)


def authors(credits: Sequence[str]) -> str:
    """The authors named first in credits, each once, as one line for a caption; for one whose script the
    figures' font lacks, the account on the page instead."""
    names = []
    for credit in map(readable_credit, credits):
        name, account = credit.split(",")[0], re.search(r"(flickr\.com)/(?:photos/)?([^/,]+)", credit)
        latin = max(map(ord, name)) < 0x2000
        names.append(name if latin or not account else f"{account[1]}/{account[2]}")
    return "by " + ", ".join(dict.fromkeys(names))
