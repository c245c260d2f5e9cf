"""A photograph of your own: ``./run_all.sh photo FILE``.

Reads what cameras, phones and the web produce and hands it on as an upright RGB picture.
"""

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pi_heif
from PIL import ExifTags, Image

from saliencylib.data.metadata import read_picture
from saliencylib.data.photosets import photographs
from saliencylib.data.registry import DataInvalid, DataNotFound
from saliencylib.places import given
from saliencylib.study.keep import digest

DEFAULT_PHOTOGRAPH = "coffee"  # that of notebook 05 until another is asked for
LONGEST_SIDE = 1024  # pixels of the longer side that are kept: all that any method here can use
SHORTEST_SIDE = 32  # pixels that a side must have, for the maps to have something to compare
MAP_SIDE = 400  # the size of photograph for which region contrast was made
MOST_PIXELS = Image.MAX_IMAGE_PIXELS  # 89 million: beyond it Pillow suspects an attack
# How a picture is turned upright, by the orientation in its EXIF data (TIFF 6.0, section 8); 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
REMEDY = "save it as JPEG or PNG with any picture program and use that file"

pi_heif.register_heif_opener()


@dataclass(frozen=True)
class Photograph:
    """A photograph, upright, in RGB and of a size that every method here can take.

    ``picture`` has sides of ``SHORTEST_SIDE`` to ``LONGEST_SIDE`` pixels; ``size`` is the (width, height) of
    the file; ``notes`` say what was done to it, a clause each; ``credit`` names the author, where known.
    """

    name: str
    picture: Image.Image
    size: tuple[int, int]
    notes: tuple[str, ...]
    credit: str = ""

    @property
    def pixels(self) -> np.ndarray:
        """The picture for the bottom-up maps, at most ``MAP_SIDE`` pixels long: (H, W, 3) uint8."""
        return np.asarray(_fitted(self.picture, MAP_SIDE, 1))


def photograph(source: str | Path) -> Photograph:
    """A photograph by path (or file URI), or by name ("chelsea") one of those that come with scikit-image.

    Any format that Pillow reads, and HEIF; any orientation (EXIF), bit depth and colour model; what is
    transparent is laid on white; of several frames the first is taken; 1 to ``MOST_PIXELS`` pixels. Raises
    ``DataNotFound`` when there is no such file, and ``DataInvalid`` when it cannot be read as a
    picture; both name the file and the remedy.
    """
    if not isinstance(source, str | Path) or "\0" in str(source):
        raise DataNotFound(f"a photograph is the path of a file, or a name such as coffee, not {source!r}")
    known = photographs()
    for index, path in enumerate(known.paths):
        if path.stem == str(source):
            return _prepared(path, known.credits[index])
    if str(source).startswith("file://"):
        source = os.fsdecode(unquote_to_bytes(str(source).removeprefix("file://")))
    return _prepared(given(source))


def _prepared(path: Path, credit: str = "") -> Photograph:
    try:
        there = path.exists()
    except OSError:  # a name that is too long for any file
        there = False
    if not there:
        names = ", ".join(known.stem for known in photographs().paths)
        raise DataNotFound(f"there is no file {path}: give the path of a photograph, or one of {names}")
    if not path.is_file():
        raise DataInvalid(f"{path} is not a file: give the path of one photograph")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on large pictures and odd metadata
            size, notes, picture = read_picture(path, _upright_rgb)
    except Image.DecompressionBombError as error:
        raise DataInvalid(
            f"{path} has more than the {MOST_PIXELS / 1e6:.0f} million pixels that are read: "
            "save a smaller copy"
        ) from error
    except PermissionError as error:
        raise DataInvalid(f"{path} may not be read: change its rights") from error
    except Exception as error:  # Pillow's readers raise types of their own for damaged files
        raise DataInvalid(f"{path} is not a picture that can be read ({error}): {REMEDY}") from error
    fitted = _fitted(picture, LONGEST_SIDE, SHORTEST_SIDE)
    if fitted.size != picture.size:
        shape = "{}x{}".format(*picture.size), "{}x{}".format(*fitted.size)
        notes.append(f"resized from {shape[0]} to {shape[1]} pixels")
    name = os.fsencode(path.stem).decode(errors="replace")
    return Photograph(name, fitted, size, tuple(notes), credit)


def _upright_rgb(image: Image.Image) -> tuple[tuple[int, int], list[str], Image.Image]:
    """The size of the file, what was done, and the picture in RGB as its owner sees it."""
    if image.width * image.height > MOST_PIXELS:
        raise Image.DecompressionBombError
    size, notes = image.size, []
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"the first of {image.n_frames} frames")
    image.load()
    turn = _turn(image)
    if turn is not None:
        notes.append("turned upright as its EXIF data say")
        image = image.transpose(turn)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        notes.append(f"its values ({image.mode}) stretched to 0..255")
        image = _stretched(image)
    if image.has_transparency_data:
        notes.append("laid on white where it is transparent")
        layers = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), layers)
    return size, notes, image.convert("RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How its EXIF data say that a picture is turned upright; None where it is, or where they say nothing."""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow raises a dozen types for damaged EXIF data
        return None


def _stretched(image: Image.Image) -> Image.Image:
    """A picture of 16 or 32 bits a pixel in 8, from its smallest value to its largest."""
    values = np.asarray(image, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds NaN or infinity")
    span = np.ptp(values) or 1
    return Image.fromarray(np.uint8((values - values.min()) / span * 255))


def _fitted(picture: Image.Image, longest: int, shortest: int) -> Image.Image:
    """The picture with no side longer than ``longest`` and none shorter than ``shortest``, if need be
    stretched, else in its own shape."""
    scale = min(1, longest / max(picture.size))
    width, height = (max(shortest, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def folder_name(source: str) -> str | None:
    """The run folder of a photograph, from its name and content; None for ``DEFAULT_PHOTOGRAPH``, which
    belongs to every run and goes into the profile's folder. Raises as ``photograph`` does."""
    if str(source) == DEFAULT_PHOTOGRAPH:
        return None
    photo = photograph(source)
    content = digest(np.asarray(photo.picture), photo.name)
    return f"photo-{re.sub(r'[^A-Za-z0-9_]+', '-', photo.name)[:40].strip('-')}-{content[:4]}"
