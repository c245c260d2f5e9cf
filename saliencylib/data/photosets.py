"""Photographs of any size for ImageNet classifiers, with labels, boxes and credits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from saliencylib.data.folders import entries_in
from saliencylib.data.images import ImageFiles, check_range, image_in, images_below, images_called
from saliencylib.data.registry import REGISTRY, DataInvalid, DataSet

PHOTOGRAPHS_CSV = Path(__file__).with_name("photographs.csv")
SETTLED_ON_TXT = Path(__file__).with_name("settled_on.txt")


@dataclass(frozen=True, eq=False)
class PhotoSet(ImageFiles):
    """Photographs of any size for an ImageNet classifier. Lists have one entry a photograph.

    labels: int64 (N,), index in the 1000 sorted ImageNet synsets, -1 where no class fits; boxes: float
    (k, 4), relative x0, y0, x1, y1 of the labelled objects, k = 0 where unknown; credits: author, source or
    licence; accepted: every index that counts as right, the label first, empty for -1; sizes: the original
    (width, height) where it is known, else None.
    """

    labels: np.ndarray
    boxes: list[np.ndarray]
    credits: list[str]
    accepted: list[tuple[int, ...]]
    sizes: list[tuple[int, int] | None]

    def image(self, index: int) -> Image.Image:
        """Photograph ``index`` in RGB, brought (bicubic) to its original size where it is stored squashed.

        Raises DataInvalid for a file that is not an image.
        """
        image, size = image_in(self.paths[index]), self.sizes[index]
        squashed = size is not None and abs(image.width * size[1] / (image.height * size[0]) - 1) > 0.02
        return image.resize(size, Image.Resampling.BICUBIC) if squashed else image


def imagenet_val() -> PhotoSet:
    """1,810 of the ImageNet (ILSVRC2012) validation images with their boxes, sorted.

    Layout: ``imagenet_val/images``, and ``imagenet_val/labels.csv`` with file, wnid, index, width, height and
    boxes.
    """
    entry = REGISTRY["imagenet_val"]
    entry.require()
    return _photos_by_csv(entry, lambda row: f"ILSVRC2012, {Path(row['file']).stem}")


def judging(photos: PhotoSet) -> PhotoSet:
    """The photographs without those of imagenet_val on which LICNN's presets were settled, 160 by name."""
    lines = SETTLED_ON_TXT.read_text(encoding="utf-8").splitlines()
    settled = {line for line in lines if not line.startswith("#")}
    return photos.select([i for i, path in enumerate(photos.paths) if path.name not in settled])


def imagenet_val_50000() -> PhotoSet:
    """All ImageNet (ILSVRC2012) validation images, without boxes, ``imagenet_val_50000/<wnid>/*.JPEG``."""
    REGISTRY["imagenet_val_50000"].require()
    return _photos_by_synset(REGISTRY["imagenet_val_50000"])


def imagenet_a() -> PhotoSet:
    """ImageNet-A: 7,500 photographs of 200 classes that a ResNet-50 gets wrong, ``imagenet-a/<wnid>/*.jpg``.

    Hendrycks et al., Natural Adversarial Examples, CVPR 2021. Labels are indices among all 1000 synsets.
    """
    REGISTRY["imagenet_a"].require()
    return _photos_by_synset(REGISTRY["imagenet_a"])


def nips2017_dev() -> PhotoSet:
    """Flickr photographs with ImageNet labels, 299x299, CC BY 2.0; credits name author and page."""
    entry = REGISTRY["nips2017_dev"]
    entry.require()
    return _photos_by_csv(entry, lambda row: f"{row['author']}, {row['url']}, CC BY 2.0")


def photographs() -> PhotoSet:
    """Photographs that scikit-image ships, labelled by hand in photographs.csv. Needs no data root."""
    entry = REGISTRY["photographs"]
    entry.require()
    rows = _records(PHOTOGRAPHS_CSV)
    accepted = [tuple(int(index) for index in row["accepted"].split(";") if index) for row in rows]
    paths = [entry.folder / row["file"] for row in rows]
    credits = [f"{row['credit']} (scikit-image, {row['name']})" for row in rows]
    return _photo_set("photographs", paths, [(*indices, -1)[0] for indices in accepted], credits, accepted)


def imagenet_samples() -> PhotoSet:
    """Twenty ImageNet photographs of 512 pixels that the package foolbox ships; their names end in the label.

    Needs no data root; foolbox itself is not imported.
    """
    entry = REGISTRY["imagenet_samples"]
    entry.require()
    labels = [int(path.stem.rpartition("_")[2]) for path in entry.paths]
    return _photo_set(entry.name, entry.paths, labels, [f"ImageNet, {path.stem}" for path in entry.paths])


def _photo_set(
    name: str,
    paths: list[Path],
    labels: Sequence[int] | np.ndarray,
    credits: list[str],
    accepted: list[tuple[int, ...]] | None = None,
    boxes: list[np.ndarray] | None = None,
    sizes: list[tuple[int, int] | None] | None = None,
) -> PhotoSet:
    """A PhotoSet without boxes and sizes, and with the label alone accepted, unless they are given."""
    labels = np.asarray(labels, np.int64)
    accepted = [(int(label),) for label in labels] if accepted is None else accepted
    boxes = [np.empty((0, 4)) for _ in paths] if boxes is None else boxes
    return PhotoSet(name, paths, labels, boxes, credits, accepted, sizes or [None for _ in paths])


def _records(path: Path) -> list[dict[str, str]]:
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")


def _photos_by_csv(entry: DataSet, credit: Callable[[dict[str, str]], str]) -> PhotoSet:
    """Photographs of a set's ``images``, described by its ``labels.csv``, sorted by file name."""
    path = entry.folder / "labels.csv"
    try:
        rows = sorted(_records(path), key=lambda row: row["file"])
        labels = np.array([int(row["index"]) for row in rows])
        sizes = [(int(row["width"]), int(row["height"])) if row.get("width") else None for row in rows]
        boxes = [_boxes(row.get("boxes", "")) for row in rows]
        credits = [credit(row) for row in rows]
    except FileNotFoundError as error:
        raise entry.missing(path) from error
    except KeyError as error:
        raise entry.invalid(path, f"lacks the column {error}") from error
    except (OSError, ValueError) as error:
        raise entry.invalid(path, f"has a value that cannot be read ({error})") from error
    if not rows:
        raise entry.invalid(path, "holds no image")
    check_range(labels, 0, 999, path, entry)
    paths = images_called([row["file"] for row in rows], entry.folder / "images", entry, by="name")
    return _photo_set(entry.name, paths, labels, credits, None, boxes, sizes)


def _boxes(text: str) -> np.ndarray:
    """(k, 4) from "x0 y0 x1 y1;x0 y0 x1 y1"."""
    boxes = np.array([box.split() for box in text.split(";") if box.strip()], np.float64).reshape(-1, 4)
    if not ((boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:]) & (boxes[:, 2:] <= 1)).all():
        raise ValueError(f"the box {text} lies outside its image")
    return boxes


def _photos_by_synset(entry: DataSet) -> PhotoSet:
    """Photographs in one folder a synset, sorted by synset and file name."""
    from timm.data import ImageNetInfo

    index = {wnid: i for i, wnid in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    synsets = [item for item in entries_in(entry.folder) if item.is_dir()]
    if not synsets:
        raise entry.invalid(entry.folder, "has no folders, expected one of images a synset")
    if unknown := [item for item in synsets if item.name not in index]:
        raise DataInvalid(
            f"{unknown[0]} is none of the 1000 ImageNet synsets, expected e.g. n01440764 ({entry.title}); "
            "move it away."
        )
    groups = [images_below(item, entry) for item in synsets]
    paths = [path for group in groups for path in group]
    labels = np.repeat([index[item.name] for item in synsets], [len(group) for group in groups])
    return _photo_set(entry.name, paths, labels, [f"{entry.title}, {path.stem}" for path in paths])
