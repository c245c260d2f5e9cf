"""Boxes that we drew, before any map was seen, around people and around objects of no ImageNet class."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from saliencylib.data.images import ImageFiles
from saliencylib.data.photosets import PhotoSet

BOXES = ["x0", "y0", "x1", "y1"]


def people(photos: ImageFiles) -> PhotoSet:
    """The photographs among ``photos`` around whose people we drew boxes (people.csv), with these boxes.

    Sets with boxes: photographs, nips2017_dev, osie; of another set nothing is left. Where a photograph has a
    label, it is neither a person nor clothing. Boxes hold one or more people, or head, body or arms of one;
    spectators and specks in the background have none.
    """
    return _boxed(photos, "people.csv")


def unknown_objects(photos: ImageFiles) -> PhotoSet:
    """The photographs among ``photos`` whose main object is of no ImageNet class, with boxes around it.

    Sets with boxes: nips2017_dev, osie. unknown_objects.csv names the object of each box. The labels of
    nips2017_dev name something beside or below it, such as a statue's pedestal.
    """
    return _boxed(photos, "unknown_objects.csv")


def _boxed(photos: ImageFiles, table: str) -> PhotoSet:
    """The photographs with a row in the table, with its boxes; without labels unless ``photos`` has them."""
    drawn = pd.read_csv(Path(__file__).with_name(table), dtype={"photograph": str})
    groups = drawn[drawn["set"] == photos.name].groupby("photograph")
    boxes = {stem: rows[BOXES].to_numpy(np.float64) for stem, rows in groups}
    chosen = photos.select([i for i, path in enumerate(photos.paths) if path.stem in boxes])
    found = [boxes[path.stem] for path in chosen.paths]
    if isinstance(chosen, PhotoSet):
        return replace(chosen, boxes=found)
    labels = np.full(len(chosen), -1, np.int64)
    credits = [f"{chosen.name}, {path.stem}" for path in chosen.paths]
    nothing = [() for _ in found]
    return PhotoSet(chosen.name, chosen.paths, labels, found, credits, nothing, [None for _ in found])
