"""Photographs as a classifier sees them: crops, inputs, objects on the crops; and who took them."""

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from saliencylib.data import photosets
from saliencylib.data.fixations import fixation_set
from saliencylib.data.images import ImageFiles, in_threads
from saliencylib.data.photosets import PhotoSet
from saliencylib.licnn.classifiers import Preprocess
from saliencylib.stats import evenly


def photo_set(name: str, count: int | None = None) -> PhotoSet:
    """``count`` photographs of a set of ``saliencylib.data``, evenly spread through its list, or all."""
    photos = getattr(photosets, name)()
    return photos.select(evenly(len(photos), count))


def boxed_by_us(names: Sequence[str], chosen: Callable[[ImageFiles], PhotoSet]) -> list[PhotoSet]:
    """The photographs of sets of ``saliencylib.data`` that carry boxes of ours: ``chosen`` is
    ``data.people`` or ``data.unknown_objects``."""
    whole = [getattr(photosets, name)() if hasattr(photosets, name) else fixation_set(name) for name in names]
    return [chosen(photos) for photos in whole]


@dataclass(frozen=True, eq=False)
class PhotoCrops:
    """Photographs as one classifier sees them, everything by photograph.

    names (of the files), crops (RGB pictures of one size), boxes (N, H, W) bool (of their objects, on the
    crops), labels (N,) int64 and accepted, the classes that count as right.
    """

    names: list[str]
    crops: list[Image.Image]
    boxes: np.ndarray
    labels: np.ndarray
    accepted: list[tuple[int, ...]]

    def __len__(self) -> int:
        return len(self.names)

    def inputs(self, model: nn.Module) -> Tensor:
        """The network's inputs (N, 3, H, W) on its device."""
        return model.preprocess.inputs(self.crops).to(next(model.parameters()).device)

    def select(self, positions: Sequence[int]) -> "PhotoCrops":
        """Those at the positions, in that order."""
        some = [[column[i] for i in positions] for column in (self.names, self.crops, self.accepted)]
        where = np.asarray(positions, int)
        return PhotoCrops(some[0], some[1], self.boxes[where], self.labels[where], some[2])

    def evenly(self, count: int | None) -> "PhotoCrops":
        """``count`` of them, evenly spread, or all."""
        return self.select(evenly(len(self), count))

    def boxed(self) -> "PhotoCrops":
        """Those whose boxes are on the crop and leave something outside."""
        area = self.boxes.mean((1, 2))
        return self.select(np.flatnonzero((area > 0) & (area < 1)))

    def joined(self, *others: "PhotoCrops") -> "PhotoCrops":
        """These and others of the same size behind them."""
        every = (self, *others)
        names, crops, accepted = (
            [x for one in every for x in getattr(one, c)] for c in ("names", "crops", "accepted")
        )
        boxes, labels = (np.concatenate([getattr(one, c) for one in every]) for c in ("boxes", "labels"))
        return PhotoCrops(names, crops, boxes, labels, accepted)

    def parts(self, size: int) -> list["PhotoCrops"]:
        """All of them in order, ``size`` at a time."""
        return [self.select(range(i, min(i + size, len(self)))) for i in range(0, len(self), size)]


def photo_crops(photos: PhotoSet, preprocess: Preprocess) -> PhotoCrops:
    """The crops that a classifier with this preprocessing sees of photographs, with their boxes."""

    def cut(index: int) -> tuple[Image.Image, np.ndarray]:
        picture = photos.image(index)
        return preprocess.cut(picture), preprocess.box_mask(photos.boxes[index], *picture.size)

    crops, boxes = zip(*in_threads(cut, range(len(photos))), strict=True)
    names = [path.stem for path in photos.paths]
    return PhotoCrops(names, list(crops), np.stack(boxes), np.asarray(photos.labels), list(photos.accepted))


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
