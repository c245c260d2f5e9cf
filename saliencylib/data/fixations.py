"""Photographs with where people looked: eye fixations, SALICON's mouse data, and maps alone."""

import zipfile
import zlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import joblib
import numpy as np
from PIL import Image

from saliencylib.data.images import (
    ImageFiles,
    image_in,
    images_below,
    images_called,
    in_threads,
    pixels_in,
    read_in,
)
from saliencylib.data.registry import REGISTRY, DataInvalid, DataSet, choose

FIELDS = ("name", "width", "height", "offset", "x", "y", "subject")
FIXATION_SETS = ("mit1003", "osie", "crowd", "scene", "pascal")
SALICON_EDITIONS = ("2015", "2017")
SALICON_TRACKS = {"mouse": "location", "fixations": "fixations"}  # kind: its field in the files
# A whole pixel counted from 1, as MATLAB does, has its centre half a pixel before its number; counted from 0,
# half a pixel behind.
ONE_BASED, ZERO_BASED = 0.5, -0.5


@dataclass(frozen=True, eq=False)
class FixationSet(ImageFiles):
    """Photographs and where people looked. Lists have one entry an image.

    widths, heights: pixels of the ORIGINAL image (the stored one may be smaller); x, y: float32 positions
    in original pixels, as the set's authors stored them; subject: the observer of each position; origin:
    the value of x and y at the image's left and upper edge (0, or 0.5 for whole pixels counted from 1, -0.5
    for whole pixels counted from 0).
    """

    names: list[str]
    widths: list[int]
    heights: list[int]
    x: list[np.ndarray]
    y: list[np.ndarray]
    subject: list[np.ndarray]
    origin: float = 0.0

    def images(self, height: int, width: int) -> np.ndarray:
        """uint8 (N, height, width, 3): each whole image stretched to that size, bilinear, antialiased.

        Raises DataInvalid for a file that is not an image or has not the shape of its original.
        """
        originals = zip(self.widths, self.heights, strict=True)
        pixels = in_threads(partial(_stretched, size=(width, height)), self.paths, originals)
        return np.array(pixels, np.uint8).reshape(-1, height, width, 3)

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
        """For every image the observer of each position that ``points`` keeps, int64."""
        return [subject[inside] for subject, inside in zip(self.subject, self._inside(), strict=True)]

    def _inside(self) -> list[np.ndarray]:
        everything = zip(self.x, self.y, self.widths, self.heights, strict=True)
        return [
            (x >= self.origin) & (x < w + self.origin) & (y >= self.origin) & (y < h + self.origin)
            for x, y, w, h in everything
        ]


def _stretched(
    path: Path, original: tuple[int, int] | None = None, *, size: tuple[int, int], mode: str = "RGB"
) -> np.ndarray:
    """The image stretched to a (width, height); its shape must be its original's, to a pixel."""
    image = image_in(path, mode)
    width, height = original or image.size
    if abs(image.width * height - image.height * width) > width + height:
        problem = (
            f"has {image.width}x{image.height} pixels, expected the shape of its {width}x{height} original"
        )
        raise DataInvalid(f"{path} {problem}; fetch its set again.")
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def fixation_set(name: str) -> FixationSet:
    """Eye fixations on photographs: "mit1003", "osie", "crowd", "scene" or "pascal", in the file's order.

    Layout: ``fixations/NAME/images/`` and ``fixations/NAME/fixations.npz`` with name, width, height (N,) of
    the original images, offset (N + 1,), and x, y, subject (P,): image i has the positions
    offset[i]:offset[i + 1].
    """
    choose("set", name, FIXATION_SETS)
    return _fixations(name, ONE_BASED if name == "pascal" else 0.0)


def osie_mouse() -> FixationSet:
    """OSIE's photographs with mouse samples of about 100 people each, made with SALICON's protocol.

    Every sample of a trace but its first ten is a point (see ``build_osie_mouse``); subject is the
    participant. Layout: as ``fixation_set``'s, with x and y whole pixels counted from 0.
    """
    return _fixations("osie_mouse", ZERO_BASED)


def _fixations(name: str, origin: float) -> FixationSet:
    entry = REGISTRY[name]
    entry.require()
    path, folder = entry.paths
    stored = _stored(path, entry)
    names = [str(item) for item in stored["name"]]
    types = {"x": np.float32, "y": np.float32, "subject": np.int64}
    return FixationSet(
        name,
        images_called(names, folder, entry),
        names,
        stored["width"].astype(int).tolist(),
        stored["height"].astype(int).tolist(),
        *(np.split(stored[key].astype(kind), stored["offset"][1:-1]) for key, kind in types.items()),
        origin=origin,
    )


def _stored(path: Path, entry: DataSet) -> dict[str, np.ndarray]:
    """The checked fields of a file of fixations."""
    damaged = (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in FIELDS if name in file.files}
    except damaged as error:
        raise entry.invalid(path, "is not a whole npz file of plain arrays") from error
    if absent := [name for name in FIELDS if name not in stored]:
        raise entry.invalid(path, f"lacks the fields {', '.join(absent)}")
    images, points, offset = stored["name"].size, stored["x"].size, stored["offset"]
    for name, length in zip(FIELDS, (images, images, images, images + 1, *[points] * 3), strict=True):
        array = stored[name]
        if array.shape != (length,) or (name != "name" and array.dtype.kind not in "iuf"):
            found = f"{array.dtype} {array.shape}"
            raise entry.invalid(path, f"has {found} for {name}, expected numbers of the shape ({length},)")
    if offset.dtype.kind == "f" or offset[0] != 0 or offset[-1] != points or (np.diff(offset) < 0).any():
        raise entry.invalid(path, f"has an offset that does not rise from 0 to its {points:,} points")
    if not (np.isfinite(stored["x"]).all() and np.isfinite(stored["y"]).all()):
        raise entry.invalid(path, "has positions that are not finite numbers")
    if not (images and min(stored["width"].min(), stored["height"].min()) >= 1):
        raise entry.invalid(path, "has no images, or a width or height below 1")
    return stored


@dataclass(frozen=True, eq=False)
class SaliconSet(FixationSet):
    """A FixationSet with blurred maps; edition is "2015" or "2017", kind is "mouse" or "fixations"."""

    map_paths: list[Path] = field(default_factory=list)
    edition: str = ""
    kind: str = ""

    def maps(self, height: int, width: int) -> np.ndarray:
        """float32 (N, height, width) in [0, 1], stretched bilinear, antialiased.

        The stored maps are scaled by the depth of their format: 8 or 16 bits, or floating point from 0 to 1.
        """
        maps = in_threads(partial(_stretched, size=(width, height), mode="L"), self.map_paths)
        return np.array(maps, np.float32).reshape(-1, height, width) / 255


def salicon(split: str, edition: str, kind: str) -> SaliconSet:
    """SALICON, split "train" or "val": photographs, the authors' blurred maps, and the points behind them.

    edition: "2015" or "2017". kind: "mouse" (samples of the mouse's track) or "fixations" (detected in it).
    Scores differ by half between them, so both must be chosen.
    Layout below ``salicon/EDITION/``: ``images/SPLIT/*.jpg``, ``maps/SPLIT/*.png``, and one MATLAB file an
    image with both kinds of points, ``fixations/SPLIT/*.mat``.
    """
    choose("edition", edition, SALICON_EDITIONS)
    choose("kind", kind, SALICON_TRACKS)
    entry = REGISTRY[f"salicon_{edition}_{kind}"]
    choose("split", split, entry.count)
    entry.require(split)
    paths = images_below(entry.folder / "images" / split, entry)
    names = [path.stem for path in paths]
    prefer = "processes" if len(paths) > 500 else "threads"  # scipy holds Python's lock while it reads
    read = joblib.delayed(_salicon_points)
    files = (entry.folder / "fixations" / split / f"{name}.mat" for name in names)
    points = joblib.Parallel(n_jobs=-1, prefer=prefer)(read(file, kind, entry) for file in files)
    sizes = in_threads(_size, paths)
    return SaliconSet(
        entry.name,
        paths,
        names,
        [width for width, _ in sizes],
        [height for _, height in sizes],
        *(list(column) for column in zip(*points, strict=True)),
        origin=ONE_BASED,
        map_paths=images_called(names, entry.folder / "maps" / split, entry),
        edition=edition,
        kind=kind,
    )


def _size(path: Path) -> tuple[int, int]:
    return read_in(path, lambda image: image.size)


def _salicon_points(path: Path, kind: str, entry: DataSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and observer of one image's points, counted from 1."""
    from scipy.io import loadmat

    if not path.is_file():
        raise entry.missing(path, "one file an image")
    try:
        observers = loadmat(path)["gaze"].ravel()
        tracks = [np.asarray(gaze[SALICON_TRACKS[kind]], np.float32).reshape(-1, 2) for gaze in observers]
        points = np.concatenate([np.empty((0, 2), np.float32), *tracks])
    except Exception as error:  # scipy raises a dozen types for a damaged file
        raise entry.invalid(path, f"is not a whole file of SALICON's {kind}") from error
    if not np.isfinite(points).all():
        raise entry.invalid(path, "has positions that are not finite numbers")
    return points[:, 0], points[:, 1], np.repeat(np.arange(len(tracks)), [len(track) for track in tracks])


@dataclass(frozen=True, eq=False)
class Recovered:
    """images uint8 (N, 240, 320, 3); maps float32 (N, 240, 320) in [0, 1]; names: file stems."""

    images: np.ndarray
    maps: np.ndarray
    names: list[str]
    name: str = "salicon_val_recovered"

    def __len__(self) -> int:
        return len(self.names)


def salicon_val_recovered() -> Recovered:
    """125 SALICON validation images with blurred maps, 320x240, recovered from a plot; no points."""
    entry = REGISTRY["salicon_val_recovered"]
    paths = images_below(entry.paths[0], entry)
    names = [path.stem for path in paths]
    maps = pixels_in(images_called(names, entry.paths[1], entry), (320, 240), "L")
    return Recovered(pixels_in(paths, (320, 240)), maps.astype(np.float32) / 255, names)
