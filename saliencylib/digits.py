"""Cluttered digits: the embedded data set, built offline from data that ships with two libraries.

Real handwritten digits (scikit-learn, 8 x 8) are enlarged, coloured and set at random places over crops of
real photographs and textures (scikit-image), together with pieces of other digits as clutter. Since we set
the digit, its mask is exact; fixations are drawn from that mask and from a centre prior.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import skimage.data
from scipy.ndimage import gaussian_filter
from skimage.color import gray2rgb, hsv2rgb
from skimage.transform import resize
from sklearn.datasets import load_digits

from saliencylib.inputs import check_count, check_seed
from saliencylib.saliency import centre_gaussian
from saliencylib.study.keep import kept

SIZE = 96
FIXATIONS = 30
TRAIN_DIGITS = 1200
BACKGROUNDS = tuple(
    "brick grass gravel coins camera astronaut chelsea coffee hubble_deep_field immunohistochemistry".split()
)


@dataclass(frozen=True)
class DigitSet:
    """Images (N, 96, 96, 3) uint8, labels (N,) int64 in 0..9, masks (N, 96, 96) bool (True on the digit),
    backgrounds (N,) int64 (index into ``BACKGROUNDS``), and fixations ``x``, ``y``: a list entry an image,
    float arrays of pixel positions in 0..95."""

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    backgrounds: np.ndarray
    x: list[np.ndarray]
    y: list[np.ndarray]
    classes: tuple[str, ...] = tuple("0123456789")
    name: str = "cluttered digits"

    def __len__(self) -> int:
        return len(self.labels)


def cluttered_digits(
    count: int, seed: int = 0, split: str = "train", backgrounds: str = "random"
) -> DigitSet:
    """``count`` images, classes in turn, the same for the same arguments on every machine.

    ``split`` is "train" or "test": they share neither handwritten digits nor halves of background pictures.
    ``backgrounds`` is "random" (no relation to the class), "tied" (class c always lies on background c) or
    "swapped" (class c lies on the background that "tied" gives to class c + 1). The digits, their colours
    and places do not depend on this choice, so the three kinds can be compared image by image.

    Raises ValueError for an unknown split or kind of background, a count below 1 or a negative seed.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    if backgrounds not in ("random", "tied", "swapped"):
        raise ValueError(f"backgrounds must be 'random', 'tied' or 'swapped', not {backgrounds!r}")
    check_count("count", count)
    check_seed("seed", seed)
    arrays = _drawn(count, seed, split, backgrounds)
    points = arrays.pop("points").astype(np.float64)
    return DigitSet(**arrays, x=list(points[:, :, 0]), y=list(points[:, :, 1]))


@kept("digits")
def _drawn(count: int, seed: int, split: str, backgrounds: str) -> dict[str, np.ndarray]:
    glyphs, glyph_labels = _glyphs(split)
    of_class = [np.flatnonzero(glyph_labels == c) for c in range(10)]
    scene_rng, digit_rng, fixation_rng = np.random.default_rng([seed, split == "train"]).spawn(3)
    labels = np.arange(count) % 10
    scenes = scene_rng.integers(10, size=count)
    if backgrounds != "random":
        scenes = (labels + (backgrounds == "swapped")) % 10
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    masks = np.empty((count, SIZE, SIZE), bool)
    points = np.empty((count, FIXATIONS, 2), np.uint8)
    for i, label in enumerate(labels):
        canvas = _crop(_picture(BACKGROUNDS[scenes[i]]), split, scene_rng)
        for _ in range(4):
            piece = _enlarged(glyphs[digit_rng.integers(len(glyphs))], digit_rng, 14, 22)[:, ::2]
            _paste(canvas, piece, digit_rng, _colour(digit_rng, 0.35))
        glyph = _enlarged(glyphs[digit_rng.choice(of_class[label])], digit_rng, 56, 76)
        opacity = _paste(canvas, glyph, digit_rng, _colour(digit_rng, 0.9))
        masks[i] = opacity > 0.5
        images[i] = np.round(np.clip(canvas + digit_rng.normal(0, 0.02, canvas.shape), 0, 1) * 255)
        points[i] = _fixations(masks[i], fixation_rng)
    numbers = {"labels": labels.astype(np.int64), "backgrounds": scenes.astype(np.int64)}
    return {"images": images, "masks": masks, "points": points} | numbers


def _glyphs(split: str) -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    part = slice(TRAIN_DIGITS) if split == "train" else slice(TRAIN_DIGITS, None)
    return digits.images[part] / 16.0, digits.target[part]


@cache
def _picture(name: str) -> np.ndarray:
    picture = getattr(skimage.data, name)()
    picture = gray2rgb(picture) if picture.ndim == 2 else picture
    scale = 256 / min(picture.shape[:2])
    shape = [round(side * scale) for side in picture.shape[:2]]
    return resize(picture[..., :3], shape, anti_aliasing=True).astype(np.float32)


def _crop(picture: np.ndarray, split: str, rng: np.random.Generator) -> np.ndarray:
    half = picture.shape[1] // 2
    left = rng.integers(half - SIZE) + (0 if split == "train" else half)
    top = rng.integers(picture.shape[0] - SIZE)
    return 0.6 * picture[top : top + SIZE, left : left + SIZE].astype(np.float64)


def _enlarged(glyph: np.ndarray, rng: np.random.Generator, smallest: int, largest: int) -> np.ndarray:
    side = int(rng.integers(smallest, largest + 1))
    soft = resize(glyph, (side, side), order=3, mode="constant")
    return np.clip((soft - 0.3) * 4, 0, 1)


def _colour(rng: np.random.Generator, saturation: float) -> np.ndarray:
    return hsv2rgb(np.array([rng.random(), saturation, rng.uniform(0.75, 1.0)]))


def _paste(canvas: np.ndarray, glyph: np.ndarray, rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """Blend a glyph into the canvas (in place), anywhere inside; its opacity (96, 96) in [0, 1]."""
    height, width = glyph.shape
    top, left = rng.integers(SIZE - height + 1), rng.integers(SIZE - width + 1)
    opacity = np.zeros((SIZE, SIZE))
    opacity[top : top + height, left : left + width] = glyph
    canvas += opacity[..., None] * (colour - canvas)
    return opacity


def _fixations(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions (30, 2) x, y, drawn from 0.7 of the smoothed mask and 0.3 of a centred Gaussian."""
    centre = centre_gaussian(mask.shape, SIZE / 5)
    smoothed = gaussian_filter(mask.astype(float), 3)
    density = 0.7 * smoothed / smoothed.sum() + 0.3 * centre / centre.sum()
    positions = rng.choice(density.size, size=FIXATIONS, p=density.ravel())
    return np.stack([positions % SIZE, positions // SIZE], axis=1)
