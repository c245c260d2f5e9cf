"""One photograph of your own through all three papers: ``./run_all.sh photo FILE``.

Reads what cameras, phones and the web produce and hands it on as an upright RGB picture; runs notebook
``05_your_own_photograph`` on it.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pi_heif
import torch
from PIL import Image, ImageOps
from torch import nn
from torchvision.transforms.functional import center_crop, resize

from saliencylib.licnn.method import blur, localisation, sanity
from saliencylib.study import cache
from saliencylib import data, saliency
from saliencylib.licnn.classifiers import Preprocess
from saliencylib.licnn.localisation import BASELINES

DEFAULT = "coffee"  # the photograph of notebook 05 until another is asked for
LONGEST = 1024  # pixels of the longer side that are kept: all that any method here can use
SHORTEST = 32  # pixels that a side must have, for the maps to have something to compare
MAP_SIDE = 400  # the size of photograph for which region contrast was made
MOST_PIXELS = Image.MAX_IMAGE_PIXELS  # 89 million: beyond it Pillow suspects an attack
HOW = "save it as JPEG or PNG with any picture program and use that file"

pi_heif.register_heif_opener()


@dataclass(frozen=True)
class Photograph:
    """A photograph, upright, in RGB and of a size that every method here can take.

    ``picture`` has sides of ``SHORTEST`` to ``LONGEST`` pixels; ``size`` is the (width, height) of the file;
    ``notes`` say what was done to it, a clause each; ``credit`` names the author of those that ship.
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
    """A photograph by path, or by name ("chelsea") one of those that come with scikit-image.

    Any format that Pillow reads, and HEIF; any orientation (EXIF), bit depth and colour model; what is
    transparent is laid on white; of several frames the first is taken; 1 to ``MOST_PIXELS`` pixels. Raises
    ``data.DataNotFound`` when there is no such file, and ``data.DataInvalid`` when it cannot be read as a
    picture; both name the file and the remedy.
    """
    known = data.photographs()
    for index, path in enumerate(known.paths):
        if path.stem == str(source):
            return _prepared(path, known.credits[index])
    return _prepared(Path(source))


def _prepared(path: Path, credit: str = "") -> Photograph:
    if not path.exists():
        names = ", ".join(known.stem for known in data.photographs().paths)
        raise data.DataNotFound(f"there is no file {path}: give the path of a photograph, or one of {names}")
    if not path.is_file():
        raise data.DataInvalid(f"{path} is not a file: give the path of one photograph")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                size, notes, picture = image.size, *_upright_rgb(image)
    except Image.DecompressionBombError as error:
        raise data.DataInvalid(
            f"{path} has more than the {MOST_PIXELS / 1e6:.0f} million pixels that are read: "
            "save a smaller copy"
        ) from error
    except PermissionError as error:
        raise data.DataInvalid(f"{path} may not be read: change its rights") from error
    except Exception as error:  # Pillow's readers raise types of their own for damaged files
        raise data.DataInvalid(f"{path} is not a picture that can be read ({error}): {HOW}") from error
    fitted = _fitted(picture, LONGEST, SHORTEST)
    if fitted.size != picture.size:
        shape = "{}x{}".format(*picture.size), "{}x{}".format(*fitted.size)
        notes.append(f"resized from {shape[0]} to {shape[1]} pixels")
    return Photograph(path.stem, fitted, size, tuple(notes), credit)


def _upright_rgb(image: Image.Image) -> tuple[list[str], Image.Image]:
    """What was done, and the picture in RGB as its owner sees it."""
    notes = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"the first of {image.n_frames} frames")
    image.load()
    if image.getexif().get(0x0112, 1) != 1:
        notes.append("turned upright as its EXIF data say")
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        notes.append(f"its values ({image.mode}) stretched to 0..255")
        image = _stretched(image)
    if image.has_transparency_data:
        notes.append("laid on white where it is transparent")
        layers = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), layers)
    return notes, image.convert("RGB")


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
    """The run folder of a photograph, from its name and content; None for ``DEFAULT``, which belongs to every
    run and goes into the profile's folder. Raises as ``photograph`` does."""
    if source == DEFAULT:
        return None
    photo = photograph(source)
    content = cache.key(np.asarray(photo.picture), photo.name)
    return f"photo-{re.sub(r'[^A-Za-z0-9_]+', '-', photo.name)[:40].strip('-')}-{content[:4]}"


# ---------------------------------------------------------------- what is measured


def bottom_up_maps(photo: Photograph) -> dict[str, np.ndarray]:
    """Every map of ``saliency.METHODS`` by its name: (H, W) float32 in [0, 1], of ``photo.pixels``."""
    names = {name: name.capitalize() if name == "alpha" else name.upper() for name in saliency.METHODS}
    return {names[name]: of(photo.pixels) for name, of in saliency.METHODS.items()}


def on_crop(values: np.ndarray, picture: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """The part of a map (h, w) of the whole picture that the classifier's crop shows: (crop, crop)."""
    whole = Image.fromarray(values.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    tensor = torch.from_numpy(np.asarray(whole).copy())[None, None]
    return center_crop(resize(tensor, preprocess.side, antialias=True), preprocess.crop)[0, 0].numpy()


def agreement(maps: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Spearman's rank correlation of every two maps of one shape, (n, n) with the maps' names; 0 where one of
    them is constant."""
    names = list(maps)
    values = [[sanity.spearman_similarity(maps[a], maps[b], absolute=False) for b in names] for a in names]
    return pd.DataFrame(values, index=names, columns=names)


def likeliest(model: nn.Module, crops: Sequence[Image.Image], top: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """The ``top`` likeliest classes of crops, best first, int64 (N, top), and all probabilities (N, 1000)."""
    batch = torch.stack([model.preprocess.normalise(crop) for crop in crops])
    device = next(model.parameters()).device
    with torch.inference_mode():
        found = model(batch.to(device).contiguous(memory_format=torch.channels_last)).softmax(1).cpu()
    return found.topk(top).indices.numpy(), found.numpy()


def class_table(model: nn.Module, crops: Mapping[str, Image.Image]) -> pd.DataFrame:
    """The five likeliest classes of crops with their probabilities, as text: a column a crop, by name."""
    top, probabilities = likeliest(model, list(crops.values()))
    columns = {
        name: [f"{model.classes[index]} {row[index]:.1%}" for index in best]
        for name, best, row in zip(crops, top, probabilities, strict=True)
    }
    return pd.DataFrame(columns)


def blurred_crops(crop: Image.Image, region: np.ndarray) -> dict[str, Image.Image]:
    """The crop as it is, and with background and object blurred at the largest radius of the experiment."""
    radius = max(blur.RADII)
    return {"as it is": crop} | {
        f"{where} blurred": blur.blurred(crop, region, radius, where) for where in blur.SIDES
    }


def blur_effects(model: nn.Module, crop: Image.Image, saliency_map: np.ndarray, share: float) -> pd.DataFrame:
    """What blur does to the likeliest class: a row for the crop as it is, and two (background and object)
    for each region of ``share`` of the crop, by LICNN's map and by those that ask no classifier.

    Columns: region (whose map; "" for none), picture, first (the likeliest class), probability (of it) and
    before (the probability of the class that was likeliest without blur).
    """
    maps = {"LICNN": saliency_map} | {kind: localisation.baseline_map(kind, crop) for kind in BASELINES}
    rows, crops = [("", "as it is")], [crop]
    for kind, values in maps.items():
        pictures = blurred_crops(crop, blur.region(values, share))
        rows += [(kind, name) for name in list(pictures)[1:]]
        crops += list(pictures.values())[1:]
    top, probabilities = likeliest(model, crops, 1)
    return pd.DataFrame(
        {
            "region": [kind for kind, _ in rows],
            "picture": [name for _, name in rows],
            "first": [model.classes[index] for index in top[:, 0]],
            "probability": probabilities.max(1),
            "before": probabilities[:, top[0, 0]],
        }
    )
