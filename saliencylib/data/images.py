"""Reading image files, and the sets of images with labels or masks.

Loaders never touch the network. They check what is cheap: presence, sizes, label ranges, and that images
decode. Whatever is wrong with a file is raised as ``DataNotFound`` or ``DataInvalid``, one sentence that
names the file, what was expected, and what to do. A wrong argument (an unknown split) is a ``ValueError``.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import joblib
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.nn import functional

from saliencylib.data.folders import entries_in
from saliencylib.data.metadata import read_picture
from saliencylib.data.registry import REGISTRY, DataInvalid, DataNotFound, DataSet, choose
from saliencylib.inputs import as_array, check_count
from saliencylib.stats import evenly

STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
TINYIMAGENET10_CLASSES = tuple("bird boat car cat dog frog hoofed monkey truck wild_beast".split())
CLOTHING96_CLASSES = tuple("dress hat longsleeve outwear pants shirt shoes shorts skirt t-shirt".split())
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}
BITS_PER_SAMPLE, SAMPLE_FORMAT, SIGNED = 258, 339, 2  # tags of TIFF, and a value


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """A named set of image files. The other lists and arrays of such a set have one entry a file, too."""

    name: str
    paths: list[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, indices: Sequence[int] | np.ndarray | slice) -> Self:
        """The images at these positions (indices, a slice or a boolean mask), in that order."""
        kept = np.arange(len(self))[indices if isinstance(indices, slice | np.ndarray) else list(indices)]
        held = vars(self).items()
        cut = {name: [value[i] for i in kept] for name, value in held if isinstance(value, list)}
        return replace(self, **cut, **{name: v[kept] for name, v in held if isinstance(v, np.ndarray)})


def read_in(path: Path, read: Callable[[Image.Image], Any]) -> Any:
    """read(image) of an image file. Raises DataNotFound for an absent one, DataInvalid for no whole image."""
    try:
        return read_picture(path, read)
    except FileNotFoundError as error:
        raise DataNotFound(
            f"{path} is missing, expected an image; put it there, or fetch its set again."
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        problem = "is a truncated image" if "truncated" in str(error) else "is not an image"
        problem = "is a folder" if path.is_dir() else problem
        raise DataInvalid(
            f"{path} {problem}, expected a whole JPEG or PNG file; put one there, or fetch its set again."
        ) from error


def image_in(path: Path, mode: str = "RGB", size: tuple[int, int] | None = None) -> Image.Image:
    """The image of a file, "RGB" or grey ("L"), from 0 to 255 by the depth of its format.

    A grey one of more than 8 bits a pixel keeps them, in mode "F". Floating point is taken for 0 to 1. Raises
    DataInvalid for other values, and unless the image has the (width, height).
    """
    image = read_in(path, partial(_in_mode, path, mode))
    if size not in (None, image.size):
        found, wanted = f"{image.width}x{image.height}", f"{size[0]}x{size[1]}"
        raise DataInvalid(f"{path} has {found} pixels, expected {wanted}; resize it, or fetch its set again.")
    return image


def _in_mode(path: Path, mode: str, file: Image.Image) -> Image.Image:
    if file.mode[0] not in "IF":  # the modes of more than 8 bits a pixel: I, I;16 and F
        return file.convert(mode)
    values, top = np.asarray(file, np.float64), 1.0
    if file.mode != "F":
        tags = getattr(file, "tag_v2", {})  # other formats than TIFF have 16 bits
        bits, signed = tags.get(BITS_PER_SAMPLE, (16,))[0], tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED
        values, top = (values, 2.0 ** (bits - 1) - 1) if signed else (values % 2.0**bits, 2.0**bits - 1)
    if not (values.min() >= 0 and values.max() <= top):
        found = f"has values from {values.min():g} to {values.max():g}, expected 0 to {top:g}"
        raise DataInvalid(f"{path} {found}; scale them, or fetch its set again.")
    scaled = values * (255 / top)
    if mode == "L":
        return Image.fromarray(scaled.astype(np.float32))
    return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert(mode)


def in_threads(read: Callable[..., Any], *columns: Iterable[Any]) -> list[Any]:
    """read(*items) for the items of all columns. Threads are enough: Pillow decodes outside Python's lock."""
    tasks = (joblib.delayed(read)(*items) for items in zip(*columns, strict=True))
    return joblib.Parallel(n_jobs=-1, prefer="threads", batch_size=16)(tasks)


def pixels_in(paths: Sequence[Path], size: tuple[int, int], mode: str = "RGB") -> np.ndarray:
    """Images that must all be of one (width, height): uint8 (N, H, W, 3), or (N, H, W) for "L".

    Grey images of more than 8 bits make it float32, see ``image_in``.
    """
    images = in_threads(partial(image_in, mode=mode, size=size), paths)
    return np.stack([np.asarray(image) for image in images])


def images_below(folder: Path, entry: DataSet) -> list[Path]:
    """A folder's image files, sorted by name. Raises DataNotFound or DataInvalid where there are none."""
    if not folder.is_dir():
        raise entry.missing(folder)
    paths = [path for path in entries_in(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise entry.invalid(folder, "is empty, expected images")
    return paths


def images_called(names: Sequence[str], folder: Path, entry: DataSet, by: str = "stem") -> list[Path]:
    """A folder's image files with these stems (or names), in order. Raises DataNotFound for an absent one."""
    found = {getattr(path, by): path for path in images_below(folder, entry)}
    if absent := [name for name in names if name not in found]:
        expected = f"an image for each of {len(names):,} names, {len(absent):,} absent"
        raise entry.missing(folder / absent[0], expected)
    return [found[name] for name in names]


def check_range(labels: np.ndarray, first: int, last: int, path: Path, entry: DataSet) -> None:
    """Raises DataInvalid unless all labels of a file lie in first..last."""
    wrong = np.flatnonzero((labels < first) | (labels > last))
    if len(wrong):
        problem = f"has the label {labels[wrong[0]]} at position {wrong[0]}, expected {first} to {last}"
        raise entry.invalid(path, problem)


def downscaled(stack: np.ndarray, height: int, width: int) -> np.ndarray:
    """Images (N, H, W, 3) or maps (N, H, W) scaled to (height, width), bilinear and antialiased.

    uint8 gives rounded uint8, floating point gives float32. Raises ValueError for another shape, for no image
    and for a size below 1.
    """
    stack = as_array(stack)
    if stack.ndim not in (3, 4) or not stack.size:
        raise ValueError(f"need images (N, H, W, 3) or maps (N, H, W), at least one, not shape {stack.shape}")
    check_count("height", height)
    check_count("width", width)
    planes = torch.from_numpy(np.require(stack, requirements="W")).reshape(*stack.shape[:3], -1).movedim(3, 1)
    small = functional.interpolate(planes.float(), (height, width), mode="bilinear", antialias=True)
    small = small.round().to(torch.uint8) if stack.dtype == np.uint8 else small
    return small.movedim(1, 3).reshape(len(stack), height, width, *stack.shape[3:]).contiguous().numpy()


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images of one size, uint8 (N, H, W, 3); labels int64 (N,), an index into classes; the set's name."""

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    name: str

    def __len__(self) -> int:
        return len(self.images)


def stl10(split: str) -> Labelled:
    """STL-10's labelled images, 96x96, 10 classes, split "train" or "test", in official order.

    Reads the official ``stl10_binary/{split}_X.bin`` (uint8; image, channel, column, row) and
    ``{split}_y.bin`` (labels 1..10). Checks both sizes and the labels' checksum; ``verify`` also the images'.
    """
    entry = REGISTRY["stl10"]
    choose("split", split, entry.count)
    entry.require(split)
    images_path, labels_path = (entry.folder / f"{split}_{part}.bin" for part in "Xy")
    numbers = np.fromfile(labels_path, np.uint8).astype(np.int64)
    check_range(numbers, 1, len(STL10_CLASSES), labels_path, entry)
    entry.check_hash(labels_path)
    images = np.fromfile(images_path, np.uint8).reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
    return Labelled(np.ascontiguousarray(images), numbers - 1, STL10_CLASSES, "stl10")


def tinyimagenet10(split: str, per_class: int | None = None) -> Labelled:
    """Ten STL-like classes of Tiny-ImageNet, 64x64, split "train" or "test", sorted by class and file name.

    ``per_class`` takes at most that many of each class, evenly spaced, so that every merged synset has its
    share.
    """
    return _class_folders("tinyimagenet10", split, TINYIMAGENET10_CLASSES, 64, per_class)


def clothing96(split: str, per_class: int | None = None) -> Labelled:
    """Ten classes of clothing, 96x96, split "train", "validation" or "test", sorted by class and file name.

    ``per_class`` takes at most that many of each class, evenly spaced. The classes are uneven.
    """
    return _class_folders("clothing96", split, CLOTHING96_CLASSES, 96, per_class)


def _class_folders(
    name: str, split: str, classes: tuple[str, ...], side: int, per_class: int | None
) -> Labelled:
    entry = REGISTRY[name]
    choose("split", split, entry.count)
    if per_class is not None:
        check_count("per_class", per_class)
    groups = [images_below(entry.folder / split / label, entry) for label in classes]
    groups = [[group[i] for i in evenly(len(group), per_class)] for group in groups]
    images = pixels_in([path for group in groups for path in group], (side, side))
    labels = np.repeat(np.arange(len(classes)), [len(group) for group in groups])
    return Labelled(images, labels, classes, name)


@dataclass(frozen=True, eq=False)
class Segmented:
    """images: a list of uint8 (H, W, 3) of any sizes; masks: for each a bool (H, W), True on the object."""

    images: list[np.ndarray]
    masks: list[np.ndarray]
    name: str

    def __len__(self) -> int:
        return len(self.images)


def rc_reference() -> Segmented:
    """36 photographs with the masks of their objects, from SalBenchmark's two examples.

    Layout: ``NAME.jpg`` and ``NAME.png``; the object is where a mask has over half its highest grade.
    """
    entry = REGISTRY["rc_reference"]
    found = [path for folder in entry.paths for path in images_below(folder, entry)]
    photos = [path for path in found if path.suffix == ".jpg"]
    drawn = [path.with_suffix(".png") for path in photos]
    images = [np.asarray(image) for image in in_threads(image_in, photos)]
    grades = [np.asarray(mask) for mask in in_threads(partial(image_in, mode="L"), drawn)]
    masks = [mask > mask.max() / 2 for mask in grades]
    for path, image, mask in zip(drawn, images, masks, strict=True):
        if image.shape[:2] != mask.shape or not mask.any() or mask.all():
            problem = "is no mask with an inside and an outside of the size of its photograph"
            raise entry.invalid(path, problem)
    return Segmented(images, masks, entry.name)


def named_objects() -> dict[str, list[int]]:
    """Positions in ``rc_reference()`` of objects that we could name (objects.csv).

    "known": one of the 1000 ImageNet classes fits; "unknown": none does. The others are doubtful, left out.
    """
    objects = pd.read_csv(Path(__file__).with_name("objects.csv"))
    return {
        "known": objects.loc[objects["known"], "position"].tolist(),
        "unknown": objects.loc[~objects["known"], "position"].tolist(),
    }
