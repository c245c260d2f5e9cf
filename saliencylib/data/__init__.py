"""Data sets: what they are (datasets.toml), where they lie, and one loader for each.

Every set lies below one data root (`root`). Loaders never touch the network; `download` does, when called.
Loaders check what is cheap: presence, sizes, label ranges, and that images decode when they are read.
`verify` checks everything that is known: checksums, counts, every image.

Whatever is wrong with a file is raised as `DataNotFound` or `DataInvalid`, one sentence that names the file,
what was expected, and what to do. A wrong argument (an unknown split or set) is a `ValueError`.
"""

import csv
import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import joblib
import numpy as np
from PIL import Image

from saliencylib.data.registry import ARCHIVES, REGISTRY, DataInvalid, DataNotFound, DataSet, fetch, root

__all__ = [
    "REGISTRY",
    "DataInvalid",
    "DataNotFound",
    "DataSet",
    "root",
    "available",
    "download",
    "fingerprint",
    "verify",
    "FixationSet",
    "Labelled",
    "PhotoSet",
    "Recovered",
    "Segmented",
    "SaliconSet",
    "clothing96",
    "fixation_set",
    "imagenet_a",
    "imagenet_val",
    "nips2017_dev",
    "photographs",
    "rc_reference",
    "salicon",
    "salicon_val_recovered",
    "stl10",
    "tinyimagenet10",
]
PHOTOGRAPHS_CSV = Path(__file__).with_name("photographs.csv")
STL10_COUNTS = {"train": 5_000, "test": 8_000}
STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
TINYIMAGENET10_CLASSES = tuple("bird boat car cat dog frog hoofed monkey truck wild_beast".split())
CLOTHING96_CLASSES = tuple("dress hat longsleeve outwear pants shirt shoes shorts skirt t-shirt".split())
FIXATION_SETS = ("mit1003", "osie", "crowd", "scene", "pascal")
SALICON_SPLITS = ("train", "val")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
# A whole pixel counted from 1, as MATLAB does, has its centre half a pixel before its number.
ONE_BASED = 0.5


# ------------------------------------------------------------------------------------------- the registry


def available(name: str) -> bool:
    """Whether the set's files are there (STL-10: with their exact sizes). Quick; `verify` is thorough."""
    try:
        _require(_entry(name))
    except DataNotFound:
        return False
    return True


def fingerprint(name: str) -> str:
    """SHA-256 over the sorted names and sizes of the set's files, which are not read; "" if it is absent."""
    if not available(name):
        return ""
    digest = hashlib.sha256()
    for relative, size in _entry(name).sizes():
        digest.update(f"{relative}\0{size}\n".encode())
    if name == "photographs":
        digest.update(PHOTOGRAPHS_CSV.read_bytes())
    return digest.hexdigest()


def verify(name: str) -> str:
    """Checks all that is known of a set: checksums, counts, label ranges, that every image decodes.

    Returns one sentence with the counts found. Raises DataNotFound or DataInvalid.
    """
    entry = _entry(name)
    _require(entry)
    found = _count(entry)
    expected = {key: count for key, count in entry.count.items() if key in found}
    if found != expected:
        raise entry.invalid(entry.folder, f"holds {_listed(found)}, expected {_listed(expected)}")
    return f"{entry.title}: {_listed(found)}, complete." if found else f"{entry.title}: complete."


def download(name: str) -> Path:
    """Fetches a set below the data root, unless it is there and complete, and returns its folder.

    What stands under its final name afterwards is whole; finished steps are not repeated after an
    interruption.
    Raises DataNotFound, saying where a person gets the set, for sets that need an agreement, a login or
    preparation, and when network or disk fail; DataInvalid for a wrong checksum.
    """
    entry = _entry(name)
    try:
        verify(name)
    except DataNotFound:
        if name not in ARCHIVES:
            raise
        if name == "imagenet_a" and entry.folder.exists():
            again = "delete this folder, then run ./run_all.sh --download again"
            raise DataInvalid(f"{entry.folder} is incomplete; {again}.") from None
        fetch(entry)
    return entry.folder


# ----------------------------------------------------------------------------------------- what loaders give


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images of one size, uint8 (N, H, W, 3); labels int64 (N,), an index into classes; the set's name."""

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    name: str

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class FixationSet:
    """Photographs and where people looked. Lists have one entry an image.

    widths, heights: pixels of the ORIGINAL image (the stored one may be smaller); x, y: float32 positions
    in original pixels, as the set's authors stored them; subject: the observer of each position; origin:
    the value of x and y at the image's left and upper edge (0, or 0.5 for whole pixels counted from 1).
    """

    name: str
    names: list[str]
    paths: list[Path]
    widths: list[int]
    heights: list[int]
    x: list[np.ndarray]
    y: list[np.ndarray]
    subject: list[np.ndarray]
    origin: float = 0.0

    def __len__(self) -> int:
        return len(self.names)

    def images(self, height: int, width: int) -> np.ndarray:
        """uint8 (N, height, width, 3): each whole image stretched to that size, bilinear, antialiased.

        Raises DataInvalid for a file that is not an image or has not the shape of its original.
        """
        originals = zip(self.widths, self.heights, strict=True)
        pixels = _in_threads(_fitted, self.paths, originals, [(width, height)] * len(self))
        return np.stack(pixels) if pixels else np.empty((0, height, width, 3), np.uint8)

    def points(self, height: int, width: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """(x, y) an image: the pixel of a (height, width) map into which each position falls.

        Float arrays of whole numbers, 0-based, 0 <= x < width and 0 <= y < height. A pixel looked at twice
        stands there twice; positions outside the image are dropped.
        """
        pixels = []
        for i, inside in enumerate(self._inside()):
            column = np.floor((self.x[i][inside].astype(np.float64) - self.origin) * width / self.widths[i])
            row = np.floor((self.y[i][inside].astype(np.float64) - self.origin) * height / self.heights[i])
            pixels.append((np.minimum(column, width - 1), np.minimum(row, height - 1)))
        return pixels

    def observers(self) -> list[np.ndarray]:
        """For every image the observer of each position that `points` keeps, int64."""
        return [subject[inside] for subject, inside in zip(self.subject, self._inside(), strict=True)]

    def _inside(self) -> list[np.ndarray]:
        everything = zip(self.x, self.y, self.widths, self.heights, strict=True)
        return [
            (x >= self.origin) & (x < w + self.origin) & (y >= self.origin) & (y < h + self.origin)
            for x, y, w, h in everything
        ]

    def select(self, indices: Sequence[int] | np.ndarray | slice) -> Self:
        """The images at these positions (indices, a slice or a boolean mask), in that order."""
        return _select(self, indices)


@dataclass(frozen=True, eq=False)
class SaliconSet(FixationSet):
    """A FixationSet with blurred maps; edition is "2015" or "2017", kind is "mouse" or "fixations"."""

    map_paths: list[Path] = field(default_factory=list)
    edition: str = ""
    kind: str = ""

    def maps(self, height: int, width: int) -> np.ndarray:
        """float32 (N, height, width) in [0, 1]: the stored maps / 255, stretched bilinear, antialiased."""
        maps = _in_threads(_map, self.map_paths, [(width, height)] * len(self))
        return np.stack(maps) if maps else np.empty((0, height, width), np.float32)


@dataclass(frozen=True, eq=False)
class Segmented:
    """images: a list of uint8 (H, W, 3) of any sizes; masks: for each a bool (H, W), True on the object."""

    images: list[np.ndarray]
    masks: list[np.ndarray]
    name: str

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Recovered:
    """images uint8 (N, 240, 320, 3); maps float32 (N, 240, 320) in [0, 1]; names: file stems."""

    images: np.ndarray
    maps: np.ndarray
    names: list[str]
    name: str = "salicon_val_recovered"

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class PhotoSet:
    """Photographs of any size for an ImageNet classifier. Lists have one entry a photograph.

    labels: int64 (N,), index in the 1000 sorted ImageNet synsets, -1 where no class fits; boxes: float
    (k, 4), relative x0, y0, x1, y1 of the labelled objects, k = 0 where unknown; credits: author, source or
    licence; accepted: every index that counts as right, the label first, empty for -1; sizes: the original
    (width, height) where it is known, else None.
    """

    name: str
    paths: list[Path]
    labels: np.ndarray
    boxes: list[np.ndarray]
    credits: list[str]
    accepted: list[tuple[int, ...]]
    sizes: list[tuple[int, int] | None]

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Image.Image:
        """Photograph `index` as a PIL image in RGB, bicubic in its original size where it is stored squashed.

        Raises DataInvalid for a file that is not an image.
        """
        image, size = _open(self.paths[index]), self.sizes[index]
        squashed = size is not None and abs(image.width * size[1] / (image.height * size[0]) - 1) > 0.02
        return image.resize(size, Image.Resampling.BICUBIC) if squashed else image

    def select(self, indices: Sequence[int] | np.ndarray | slice) -> Self:
        """The photographs at these positions (indices, a slice or a boolean mask), in that order."""
        return _select(self, indices)


# ------------------------------------------------------------------------------------------------ the loaders


def stl10(split: str) -> Labelled:
    """STL-10's labelled images, 96x96, 10 classes, split "train" or "test", in official order.

    Reads the official `stl10_binary/{split}_X.bin` (uint8; image, channel, column, row)
    and `{split}_y.bin` (labels 1..10). Checks both sizes and the labels' checksum; `verify` also that of
    the images.
    """
    _choose("split", split, STL10_COUNTS)
    entry = REGISTRY["stl10"]
    images_path, labels_path = _stl10_file(split, "X"), _stl10_file(split, "y")
    numbers = np.fromfile(labels_path, np.uint8).astype(np.int64)
    _check_range(numbers, 1, len(STL10_CLASSES), labels_path, entry)
    entry.check_hash(labels_path)
    images = np.fromfile(images_path, np.uint8).reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
    return Labelled(np.ascontiguousarray(images), numbers - 1, STL10_CLASSES, "stl10")


def tinyimagenet10(split: str, per_class: int | None = None) -> Labelled:
    """Ten STL-like classes of Tiny-ImageNet, 64x64, split "train" or "test", sorted by class and file name.

    `per_class` takes at most that many of each class, evenly spaced, so that every merged synset has its
    share.
    """
    return _class_folders("tinyimagenet10", split, TINYIMAGENET10_CLASSES, 64, per_class)


def clothing96(split: str, per_class: int | None = None) -> Labelled:
    """Ten classes of clothing, 96x96, split "train", "validation" or "test", sorted by class and file name.

    `per_class` takes at most that many of each class, evenly spaced. The classes are uneven.
    """
    return _class_folders("clothing96", split, CLOTHING96_CLASSES, 96, per_class)


def fixation_set(name: str) -> FixationSet:
    """Eye fixations on photographs: "mit1003", "osie", "crowd", "scene" or "pascal", in the file's order.

    Layout: `fixations/NAME/images/` and `fixations/NAME/fixations.npz` with name, width, height (N,) of the
    original images, offset (N + 1,), and x, y, subject (P,): image i has the positions
    offset[i]:offset[i + 1].
    """
    _choose("set", name, FIXATION_SETS)
    entry = REGISTRY[name]
    _require(entry)
    path = entry.paths[0]
    stored = _read_npz(path, ("name", "width", "height", "offset", "x", "y", "subject"), entry)
    _check_fixations(stored, path, entry)
    names = [str(item) for item in stored["name"]]
    types = {"x": np.float32, "y": np.float32, "subject": np.int64}
    return FixationSet(
        name,
        names,
        _named_images(entry.paths[1], names, entry),
        stored["width"].astype(int).tolist(),
        stored["height"].astype(int).tolist(),
        *(np.split(stored[key].astype(kind), stored["offset"][1:-1]) for key, kind in types.items()),
        origin=ONE_BASED if name == "pascal" else 0.0,
    )


def salicon(split: str, edition: str, kind: str) -> SaliconSet:
    """SALICON, split "train" or "val": photographs, the authors' blurred maps, and the points behind them.

    edition: "2015" or "2017". kind: "mouse" (samples of the mouse's track) or "fixations" (detected in it).
    Scores differ by half between them, so both must be chosen.
    Layout below `salicon/EDITION/`: `images/SPLIT/*.jpg`, `maps/SPLIT/*.png`, and the points, either one
    MATLAB file an image, `fixations/SPLIT/*.mat` (both kinds), or `fixations/fixations_SPLIT2014.json`,
    which holds one kind: mouse samples in 2015, fixations in 2017.
    """
    _choose("split", split, SALICON_SPLITS)
    _choose("edition", edition, ("2015", "2017"))
    _choose("kind", kind, ("mouse", "fixations"))
    entry = REGISTRY[f"salicon_{edition}_{kind}"]
    folder = entry.folder
    paths = _images(folder / "images" / split, entry)
    names = [path.stem for path in paths]
    map_paths = _named_images(folder / "maps" / split, names, entry)
    source = _salicon_points(entry, split)
    read = _read_salicon_mat if source.is_dir() else _read_salicon_json
    points = read(source, names, entry)
    sizes = [_image_size(path) for path in paths]
    return SaliconSet(
        entry.name,
        names,
        paths,
        [width for width, _ in sizes],
        [height for _, height in sizes],
        *(list(column) for column in zip(*points, strict=True)),
        origin=ONE_BASED,
        map_paths=map_paths,
        edition=edition,
        kind=kind,
    )


def salicon_val_recovered() -> Recovered:
    """125 SALICON validation images with blurred maps, 320x240, recovered from a plot; no points."""
    entry = REGISTRY["salicon_val_recovered"]
    paths = _images(entry.paths[0], entry)
    names = [path.stem for path in paths]
    map_paths = _named_images(entry.paths[1], names, entry)
    images = np.stack(_in_threads(_exact, paths, [(320, 240)] * len(paths), ["RGB"] * len(paths)))
    maps = np.stack(_in_threads(_exact, map_paths, [(320, 240)] * len(paths), ["L"] * len(paths)))
    return Recovered(images, maps.astype(np.float32) / 255, names)


def rc_reference() -> Segmented:
    """36 photographs with the masks of their objects, from SalBenchmark's two examples."""
    entry = REGISTRY["rc_reference"]
    photos = [path for folder in entry.paths for path in _images(folder, entry) if path.suffix == ".jpg"]
    images = [np.asarray(image) for image in _in_threads(_open, photos)]
    drawn = _in_threads(_open, [path.with_suffix(".png") for path in photos], ["L"] * len(photos))
    masks = [np.asarray(mask) > 127 for mask in drawn]
    for path, image, mask in zip(photos, images, masks, strict=True):
        if image.shape[:2] != mask.shape or not mask.any() or mask.all():
            problem = "is no mask with an inside and an outside of the size of its photograph"
            raise entry.invalid(path.with_suffix(".png"), problem)
    return Segmented(images, masks, entry.name)


def imagenet_val() -> PhotoSet:
    """ImageNet (ILSVRC2012) validation images, sorted.

    Layouts: the official images, one folder a synset, `imagenet_val/<wnid>/*.JPEG` (50,000, no boxes); or a
    part of them, `imagenet_val/images` with `imagenet_val/labels.csv` (file, wnid, index, width, height,
    boxes).
    """
    entry = REGISTRY["imagenet_val"]
    _require(entry)
    folder = entry.folder
    if (folder / "labels.csv").exists() or (folder / "images").is_dir():
        return _photos_by_csv(folder, entry, lambda row: f"ILSVRC2012, {Path(row['file']).stem}")
    return _photos_by_synset(folder, entry)


def imagenet_a() -> PhotoSet:
    """ImageNet-A: 7,500 photographs of 200 classes that a ResNet-50 gets wrong, `imagenet-a/<wnid>/*.jpg`.

    Hendrycks et al., Natural Adversarial Examples, CVPR 2021. Labels are indices among all 1000 synsets.
    """
    entry = REGISTRY["imagenet_a"]
    _require(entry)
    return _photos_by_synset(entry.folder, entry)


def nips2017_dev() -> PhotoSet:
    """Flickr photographs with ImageNet labels, 299x299, CC BY 2.0; credits name author and page."""
    entry = REGISTRY["nips2017_dev"]
    _require(entry)
    folder = entry.folder
    return _photos_by_csv(folder, entry, lambda row: f"{row.get('author')}, {row.get('url')}, CC BY 2.0")


def photographs() -> PhotoSet:
    """Photographs that scikit-image ships, labelled by hand in photographs.csv. Needs no data root."""
    entry = REGISTRY["photographs"]
    _require(entry)
    with PHOTOGRAPHS_CSV.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    accepted = [tuple(int(index) for index in row["accepted"].split(";") if index) for row in rows]
    return PhotoSet(
        "photographs",
        [entry.folder / row["file"] for row in rows],
        np.array([indices[0] if indices else -1 for indices in accepted], np.int64),
        [np.empty((0, 4)) for _ in rows],
        [f"{row['credit']} (scikit-image, {row['name']})" for row in rows],
        accepted,
        [None for _ in rows],
    )


# ----------------------------------------------------------------------------------- behind: the registry


def _choose(what: str, value: str, valid: Iterable[str]) -> None:
    if value not in valid:
        raise ValueError(f"unknown {what} {value!r}; choose one of: {', '.join(valid)}")


def _entry(name: str) -> DataSet:
    _choose("data set", name, REGISTRY)
    return REGISTRY[name]


def _require(entry: DataSet) -> None:
    """The cheap check that a set is there."""
    if entry.name == "stl10":
        for split in STL10_COUNTS:
            for part in "Xy":
                _stl10_file(split, part)
        return
    for path in entry.paths:
        if not path.exists():
            raise entry.missing(path)
    if entry.name.startswith("salicon_20"):
        for split in SALICON_SPLITS:
            _salicon_points(entry, split)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {key}" for key, count in counts.items())


def _count(entry: DataSet) -> dict[str, int]:
    """What a set holds; reads all of it."""
    name = entry.name
    if name == "stl10":
        for path in entry.paths:
            entry.check_hash(path)
        return {split: len(stl10(split)) for split in STL10_COUNTS}
    if name in ("tinyimagenet10", "clothing96"):
        load = {"tinyimagenet10": tinyimagenet10, "clothing96": clothing96}[name]
        return {split: len(load(split)) for split in entry.count}
    if name in FIXATION_SETS:
        looked = fixation_set(name)
        looked.images(8, 8)
        return {"images": len(looked), "points": sum(len(x) for x in looked.x)}
    if name.startswith("salicon_20"):
        _, edition, kind = name.split("_")
        sets = {split: salicon(split, edition, kind) for split in SALICON_SPLITS}
        for looked in sets.values():
            looked.images(8, 8)
            looked.maps(8, 8)
        return {split: len(looked) for split, looked in sets.items()}
    if name == "salicon_val_recovered":
        return {"images": len(salicon_val_recovered())}
    if name == "rc_reference":
        return {"images": len(rc_reference())}
    if name == "cluttered digits":
        return {}
    loaders = (imagenet_val, imagenet_a, nips2017_dev, photographs)
    photos = next(load for load in loaders if load.__name__ == name)()
    _in_threads(_image_check, photos.paths)
    by_csv = name == "imagenet_val" and (entry.folder / "labels.csv").exists()
    return {"images by labels.csv" if by_csv else "images": len(photos)}


# ------------------------------------------------------------------------------- behind: files and images


def _stl10_file(split: str, part: str) -> Path:
    """The path of an official binary file, after a check of its size."""
    entry = REGISTRY["stl10"]
    path = entry.folder / f"{split}_{part}.bin"
    size = STL10_COUNTS[split] * (3 * 96 * 96 if part == "X" else 1)
    if not path.is_file():
        raise entry.missing(path, f"{size:,} bytes")
    found = path.stat().st_size
    if found != size:
        word = "truncated" if found < size else "too long"
        raise entry.invalid(path, f"is {word}: it has {found:,} bytes, expected {size:,}")
    return path


def _check_range(labels: np.ndarray, first: int, last: int, path: Path, entry: DataSet) -> None:
    wrong = np.flatnonzero((labels < first) | (labels > last))
    if len(wrong):
        problem = f"has the label {labels[wrong[0]]} at position {wrong[0]}, expected {first} to {last}"
        raise entry.invalid(path, problem)


def _open(path: Path, mode: str = "RGB") -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except FileNotFoundError as error:
        raise DataNotFound(
            f"{path} is missing, expected an image; put it back, or fetch its set again."
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _not_an_image(path, error) from error


def _image_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _not_an_image(path, error) from error


def _not_an_image(path: Path, error: Exception) -> DataInvalid:
    problem = "is a truncated image" if "truncated" in str(error) else "is not an image"
    return DataInvalid(f"{path} {problem}, expected a whole JPEG or PNG file; fetch its set again.")


def _image_check(path: Path) -> None:
    _open(path)


def _exact(path: Path, size: tuple[int, int], mode: str) -> np.ndarray:
    """The image's pixels, which must be of this (width, height)."""
    image = _open(path, mode)
    if image.size != size:
        found, wanted = f"{image.width}x{image.height}", f"{size[0]}x{size[1]}"
        raise DataInvalid(f"{path} has {found} pixels, expected {wanted}; resize it, or fetch its set again.")
    return np.asarray(image)


def _fitted(path: Path, original: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The image stretched to a (width, height); its shape must be its original's, to a pixel."""
    image = _open(path)
    if abs(image.width * original[1] - image.height * original[0]) > sum(original):
        found, wanted = f"{image.width}x{image.height}", f"{original[0]}x{original[1]}"
        raise DataInvalid(
            f"{path} has {found} pixels, expected the shape of its {wanted} original; fetch its set again."
        )
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def _map(path: Path, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(_open(path, "L").resize(size, Image.Resampling.BILINEAR), np.float32) / 255


def _in_threads(read: Callable[..., Any], *columns: Iterable[Any]) -> list[Any]:
    """read(*items) for the items of all columns. Threads are enough: Pillow decodes outside Python's lock."""
    tasks = (joblib.delayed(read)(*items) for items in zip(*columns, strict=True))
    return joblib.Parallel(n_jobs=-1, prefer="threads", batch_size=16)(tasks)


def _images(folder: Path, entry: DataSet) -> list[Path]:
    """The folder's images, sorted by name."""
    if not folder.is_dir():
        raise entry.missing(folder)
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    except OSError as error:
        raise entry.invalid(folder, f"cannot be read ({error.strerror})") from error
    if not paths:
        raise entry.invalid(folder, "is empty, expected images")
    return paths


def _named_images(folder: Path, names: Sequence[str], entry: DataSet) -> list[Path]:
    """The folder's images with these stems, in this order."""
    found = {path.stem: path for path in _images(folder, entry)}
    absent = [name for name in names if name not in found]
    if absent:
        expected = f"one image for each of {len(names):,} names, {len(absent):,} absent"
        raise entry.missing(folder / f"{absent[0]}.*", expected)
    return [found[name] for name in names]


def _class_folders(
    name: str, split: str, classes: tuple[str, ...], side: int, per_class: int | None
) -> Labelled:
    entry = REGISTRY[name]
    _choose("split", split, entry.count)
    if per_class is not None and per_class < 1:
        raise ValueError(f"per_class must be None or at least 1, not {per_class}")
    groups = [_images(entry.folder / split / label, entry) for label in classes]
    if per_class is not None:
        groups = [[group[i] for i in _evenly(len(group), per_class)] for group in groups]
    paths = [path for group in groups for path in group]
    images = np.stack(_in_threads(_exact, paths, [(side, side)] * len(paths), ["RGB"] * len(paths)))
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(group) for group in groups])
    return Labelled(images, labels, classes, name)


def _evenly(length: int, count: int) -> np.ndarray:
    """At most `count` evenly spaced positions below `length`, from 0."""
    count = min(count, length)
    return np.arange(count) * length // count


def _select(items: Any, indices: Any) -> Any:
    """A copy of a dataclass with each of its lists and arrays cut to these positions."""
    kept = np.arange(len(items))[indices if isinstance(indices, slice | np.ndarray) else list(indices)]
    cut = {}
    for name in (item.name for item in fields(items)):
        value = getattr(items, name)
        if isinstance(value, list):
            cut[name] = [value[i] for i in kept]
        elif isinstance(value, np.ndarray):
            cut[name] = value[kept]
    return replace(items, **cut)


# ------------------------------------------------------------------------------------- behind: fixations


def _read_npz(path: Path, names: Sequence[str], entry: DataSet) -> dict[str, np.ndarray]:
    damaged = (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)
    try:
        with np.load(path, allow_pickle=False) as stored:
            absent = [name for name in names if name not in stored.files]
            if not absent:
                return {name: stored[name] for name in names}
    except damaged as error:
        raise entry.invalid(path, "is not a whole npz file of plain arrays") from error
    raise entry.invalid(path, f"lacks the fields {', '.join(absent)}")


def _check_fixations(stored: dict[str, np.ndarray], path: Path, entry: DataSet) -> None:
    images, points = stored["name"].size, stored["x"].size
    lengths = {"name": images, "width": images, "height": images, "offset": images + 1}
    lengths |= {"x": points, "y": points, "subject": points}
    for name, length in lengths.items():
        array = stored[name]
        if array.shape != (length,) or (name != "name" and array.dtype.kind not in "iuf"):
            found = f"{array.dtype} {array.shape}"
            raise entry.invalid(path, f"has {found} for {name}, expected numbers of the shape ({length},)")
    offset = stored["offset"]
    if offset.dtype.kind == "f" or offset[0] != 0 or offset[-1] != points or (np.diff(offset) < 0).any():
        raise entry.invalid(path, f"has an offset that does not rise from 0 to its {points:,} points")
    if not (np.isfinite(stored["x"]).all() and np.isfinite(stored["y"]).all()):
        raise entry.invalid(path, "has positions that are not finite numbers")
    if not (images and min(stored["width"].min(), stored["height"].min()) >= 1):
        raise entry.invalid(path, "has no images, or a width or height below 1")


Points = tuple[np.ndarray, np.ndarray, np.ndarray]  # x, y, subject


def _salicon_points(entry: DataSet, split: str) -> Path:
    """The folder of .mat files, or else the JSON file, that holds the set's points."""
    _, edition, kind = entry.name.split("_")
    folder = entry.folder
    mats = folder / "fixations" / split
    if mats.is_dir() and any(path.suffix == ".mat" for path in mats.iterdir()):
        return mats
    name = f"fixations_{split}2014.json"
    for path in (folder / "fixations" / name, folder / "annotations" / name, folder / name):
        if path.is_file() and kind != {"2015": "mouse", "2017": "fixations"}[edition]:
            problem = f"has no points of the kind {kind!r}, expected one .mat file an image in {mats}"
            raise entry.invalid(path, problem)
        if path.is_file():
            return path
    raise entry.missing(folder / "fixations" / name, f"this file, or one .mat file an image in {mats}")


def _read_salicon_mat(folder: Path, names: Sequence[str], entry: DataSet) -> list[Points]:
    paths = [folder / f"{name}.mat" for name in names]
    absent = [path for path in paths if not path.is_file()]
    if absent:
        expected = f"one file for each of {len(names):,} images, {len(absent):,} absent"
        raise entry.missing(absent[0], expected)
    track = "location" if entry.name.endswith("mouse") else "fixations"
    prefer = "processes" if len(paths) > 500 else "threads"  # scipy holds Python's lock while it reads
    return joblib.Parallel(n_jobs=-1, prefer=prefer)(
        joblib.delayed(_read_gaze)(path, track) for path in paths
    )


def _read_gaze(path: Path, track: str) -> Points:
    from scipy.io import loadmat

    try:
        observers = loadmat(path)["gaze"].ravel()
        return _joined([np.asarray(observer[track], np.float32).reshape(-1, 2) for observer in observers])
    except Exception as error:  # scipy raises a dozen types for a damaged file
        raise DataInvalid(
            f"{path} is not a whole SALICON file, expected gaze with {track}; fetch its set again."
        ) from error


def _joined(tracks: Sequence[np.ndarray]) -> Points:
    points = np.concatenate([np.empty((0, 2), np.float32), *tracks])
    if not np.isfinite(points).all():
        raise ValueError("positions that are not finite numbers")
    return points[:, 0], points[:, 1], np.repeat(np.arange(len(tracks)), [len(track) for track in tracks])


def _read_salicon_json(path: Path, names: Sequence[str], entry: DataSet) -> list[Points]:
    """The points of an annotation file, which stores them as (row, column)."""

    def compact(item: dict[str, Any]) -> dict[str, Any]:  # a whole file of Python numbers would take 10 GB
        if "fixations" in item:
            item["fixations"] = np.asarray(item["fixations"], np.float32).reshape(-1, 2)[:, ::-1]
        return item

    try:
        with path.open(encoding="utf-8") as file:
            stored = json.load(file, object_hook=compact)
        stems = {image["id"]: Path(image["file_name"]).stem for image in stored["images"]}
        tracks: dict[str, list[np.ndarray]] = {stem: [] for stem in stems.values()}
        for annotation in stored["annotations"]:
            tracks[stems[annotation["image_id"]]].append(annotation["fixations"])
        points = {stem: _joined(tracks[stem]) for stem in names if stem in tracks}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise entry.invalid(path, "is not a whole annotation file of SALICON") from error
    absent = [name for name in names if name not in points]
    if absent:
        raise entry.invalid(path, f"lacks {len(absent):,} of {len(names):,} images, first {absent[0]}")
    return [points[name] for name in names]


# ----------------------------------------------------------------------------------- behind: photographs


def _photos_by_csv(folder: Path, entry: DataSet, credit: Callable[[dict[str, str]], str]) -> PhotoSet:
    """Photographs of `folder/images`, described by `folder/labels.csv`, sorted by file name."""
    path = folder / "labels.csv"
    rows = _read_rows(path, ("file", "index"), entry)
    present = {item.name: item for item in _images(folder / "images", entry)}
    absent = [row["file"] for row in rows if row["file"] not in present]
    if absent:
        expected = f"an image for each of {len(rows):,} rows of {path.name}, {len(absent):,} absent"
        raise entry.missing(folder / "images" / absent[0], expected)
    try:
        labels = np.array([int(row["index"]) for row in rows], np.int64)
        sizes = [(int(row["width"]), int(row["height"])) if row.get("width") else None for row in rows]
        boxes = [_boxes(row.get("boxes") or "") for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise entry.invalid(path, f"has a value that cannot be read ({error})") from error
    _check_range(labels, 0, 999, path, entry)
    for row, size, box in zip(rows, sizes, boxes, strict=True):
        if size is not None and min(size) < 1:
            raise entry.invalid(path, f"has a width or height below 1 for {row['file']}")
        if not ((box[:, :2] >= 0) & (box[:, :2] < box[:, 2:]) & (box[:, 2:] <= 1)).all():
            raise entry.invalid(path, f"has a box outside its image {row['file']} ({row['boxes']})")
    paths = [present[row["file"]] for row in rows]
    accepted = [(int(label),) for label in labels]
    return PhotoSet(entry.name, paths, labels, boxes, [credit(row) for row in rows], accepted, sizes)


def _read_rows(path: Path, columns: Sequence[str], entry: DataSet) -> list[dict[str, str]]:
    """The rows of a table, sorted by file name."""
    if not path.is_file():
        raise entry.missing(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            rows, absent = list(table), [name for name in columns if name not in (table.fieldnames or ())]
    except (OSError, ValueError, csv.Error) as error:
        raise entry.invalid(path, "cannot be read as a table") from error
    if absent:
        raise entry.invalid(path, f"lacks the columns {', '.join(absent)}")
    if not rows:
        raise entry.invalid(path, "is empty, expected a row an image")
    return sorted(rows, key=lambda row: row["file"])


def _boxes(text: str) -> np.ndarray:
    """(k, 4) from "x0 y0 x1 y1;x0 y0 x1 y1"."""
    boxes = [[float(number) for number in box.split()] for box in text.split(";") if box.strip()]
    if any(len(box) != 4 for box in boxes):
        raise ValueError(f"box {text!r} has not four numbers")
    return np.array(boxes, np.float64).reshape(-1, 4)


def _photos_by_synset(folder: Path, entry: DataSet) -> PhotoSet:
    """Photographs in one folder a synset, sorted by synset and file name."""
    from timm.data import ImageNetInfo

    index = {wnid: i for i, wnid in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    synsets = sorted(item for item in folder.iterdir() if item.is_dir())
    if not synsets:
        raise entry.invalid(folder, "has no folders, expected one of images a synset")
    unknown = [item for item in synsets if item.name not in index]
    if unknown:
        raise entry.invalid(unknown[0], "is none of the 1000 ImageNet synsets, expected e.g. n01440764")
    groups = [_images(item, entry) for item in synsets]
    paths = [path for group in groups for path in group]
    labels = np.repeat([index[item.name] for item in synsets], [len(group) for group in groups])
    return PhotoSet(
        entry.name,
        paths,
        labels.astype(np.int64),
        [np.empty((0, 4)) for _ in paths],
        [f"{entry.title}, {path.stem}" for path in paths],
        [(int(label),) for label in labels],
        [None for _ in paths],
    )
