"""Bottom-up saliency maps: which parts of an image stand out, before any training.

Every function takes one image and returns its map, (H, W) float32 in [0, 1]; `map_stack` does a whole set in
parallel and keeps the maps on disk.

An image is whatever `inputs.rgb_image` reads: (H, W, 3), `uint8` as 0..255 or floating point as 0..1, grey or
with alpha too, or a PIL picture; anything else raises ValueError. In an image of one colour nothing stands
out: its map is zero.

Sources: RC and HC from M.-M. Cheng et al., "Global Contrast Based Salient Region Detection", TPAMI 2015, with
the constants of the authors' released code; FT from R. Achanta et al., "Frequency-tuned Salient Region
Detection", CVPR 2009; LC from Y. Zhai and M. Shah, "Visual Attention Detection in Video Sequences Using
Spatiotemporal Cues", ACM Multimedia 2006; SR from X. Hou and L. Zhang, "Saliency Detection: A Spectral
Residual Approach", CVPR 2007. Alpha is our reading of a lost reference: see `alpha_matte`.
"""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import fft
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.spatial.distance import cdist
from skimage.color import rgb2gray, rgb2lab
from skimage.segmentation import felzenszwalb
from skimage.transform import resize
from torch import Tensor

from saliencylib.inputs import as_array, check_count, check_number, check_shape, rgb_image
from saliencylib.study.keep import kept, side_by_side

BINS = 12  # colour bins a channel
COVERED = 0.95  # share of the pixels whose colours are kept
MOST_COLOURS, FEWEST_COLOURS = 256, 10
SPATIAL_FALL_OFF = 0.4  # squared distance, in image sides, at which a region's weight has fallen to 1/e
BORDER_SHARE, BORDER_THRESHOLD = 0.02, 0.4
SPECTRUM_SIDE = 64  # longer side at which the spectral residual is taken
CHUNK = 32  # images a task and a kept entry, at most
PYMATTING = ("laplacian.cf_laplacian", "preconditioner.ichol", "solver.cg")


class Palette(NamedTuple):
    """The colours of an image after quantisation, most frequent first."""

    index: np.ndarray  # (H, W) int, which colour a pixel has
    lab: np.ndarray  # (C, 3) float, mean colour in CIE Lab
    count: np.ndarray  # (C,) float, pixels of that colour


def region_contrast(image: np.ndarray, min_region: int | None = None) -> np.ndarray:
    """RC: contrast of each region with all others, near ones counting more (Cheng et al. 2015, section 4).

    min_region: smallest region in pixels; by default the released code's 200, which suits images of 400
    pixels, scaled by area for smaller ones (`default_min_region`: 12 at 96 x 96).
    Returns the map, (H, W) float32 in [0, 1]. With two quantised colours it is the mask of the rarer one, as
    in the released code; with one colour, or one region, it is zero.
    """
    rgb = rgb_image(image)
    if min_region is not None:
        check_count("min_region", min_region)
    palette = _quantise(rgb)
    colours = len(palette.count)
    if colours <= 2:
        return (palette.index == 1).astype(np.float32)
    smallest = default_min_region(*rgb.shape[:2]) if min_region is None else min_region
    regions = felzenszwalb(rgb2lab(rgb), scale=50 * 255, sigma=0.5, min_size=smallest, channel_axis=2)
    saliency = _scaled(_region_saliency(regions, palette))[regions]
    border = _border_regions(regions)
    saliency[border] = 0
    mean = np.bincount(palette.index.ravel(), saliency.ravel(), colours) / palette.count
    saliency = _smooth_by_colour(_scaled(mean), palette, share=0.1, weight=palette.count)[palette.index]
    saliency = _scaled(_mean_by_region(saliency, regions))[regions]
    saliency[border] = 0
    return _map(_blur(saliency))


def default_min_region(height: int, width: int) -> int:
    """Smallest region in pixels: 200 where the longer side has 400 or more, below that scaled by area."""
    return max(1, round(200 * min(1.0, max(height, width) / 400) ** 2))


def histogram_contrast(image: np.ndarray) -> np.ndarray:
    """HC: mean Lab distance of a pixel's colour to all pixels' colours (Cheng et al. 2015, section 3).

    Returns the map, (H, W) float32 in [0, 1], smallest value 0 and largest 1 unless the map is constant.
    """
    palette = _quantise(rgb_image(image))
    contrast = cdist(palette.lab, palette.lab) @ (palette.count / palette.count.sum())
    smooth = _smooth_by_colour(contrast, palette, share=0.25, weight=np.ones_like(contrast))
    return _map(_scaled(_blur(smooth[palette.index])))


def frequency_tuned(image: np.ndarray) -> np.ndarray:
    """FT: squared Lab distance between the 3x3-blurred image and its mean (Achanta et al. 2009).

    Returns the map, (H, W) float32 in [0, 1]. Squared as in Cheng et al.'s code; the paper has no square.
    """
    lab = rgb2lab(_blur(rgb_image(image)))
    return _map(_scaled(np.square(lab - lab.mean((0, 1))).sum(2)))


def luminance_contrast(image: np.ndarray) -> np.ndarray:
    """LC: mean difference of a pixel's grey level to all pixels' (Zhai and Shah 2006).

    Grey levels are rounded to 0..255, the map is blurred by 3x3. Returns it, (H, W) float32 in [0, 1].
    """
    levels = np.rint(rgb2gray(rgb_image(image)) * 255).astype(int)
    every = np.arange(256)
    contrast = np.abs(every[:, None] - every) @ np.bincount(levels.ravel(), minlength=256) / levels.size
    return _map(_scaled(_blur(contrast[levels])))


def spectral_residual(image: np.ndarray) -> np.ndarray:
    """SR: what the log amplitude spectrum has beyond its own 3x3 average (Hou and Zhang 2007).

    The grey image is taken at a longer side of 64 pixels, the map is smoothed there (sigma 2.5) and enlarged.
    Returns the map, (H, W) float32 in [0, 1].
    """
    grey = rgb2gray(rgb_image(image))
    if np.ptp(grey) < 1e-9:
        return np.zeros(grey.shape, np.float32)
    small = [max(1, round(side * SPECTRUM_SIDE / max(grey.shape))) for side in grey.shape]
    spectrum = fft.fft2(resize(grey, small, anti_aliasing=True))
    log_amplitude = np.log(np.abs(spectrum) + 1e-9)
    residual = log_amplitude - uniform_filter(log_amplitude, 3, mode="nearest")
    saliency = np.square(np.abs(fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))))
    return _map(_scaled(resize(gaussian_filter(saliency, 2.5), grey.shape)))


def alpha_matte(image: np.ndarray, seed_share: float = 0.07, border: int = 3) -> np.ndarray:
    """Alpha: the soft foreground of closed-form matting, seeded without a user.

    The Sal-Mask paper takes "Alpha" from a work by "Dani et al." whose reference is lost. Our reading, which
    cannot be made certain, is the alpha matte of A. Levin, D. Lischinski and Y. Weiss, "A Closed-Form
    Solution to Natural Image Matting", TPAMI 2008.

    The outer `border` pixels are background seeds. Of the pixels inside, the `seed_share` with the highest
    histogram contrast times a centred Gaussian (sigma a quarter of each side) are foreground seeds, as far as
    that product is above zero. With the seeds held fixed, the other pixels get the alpha that minimises
    alpha' L alpha, L the matting Laplacian (pymatting's, 3x3 windows, epsilon 1e-7), clipped to [0, 1].
    seed_share: in (0, 1]. border: at least 1. Other values raise ValueError.
    Returns the map, (H, W) float32 in [0, 1]; zero without foreground seeds (one colour, or no pixel inside).
    """
    check_number("seed_share", seed_share, 0, 1, above=True)
    check_count("border", border)
    rgb = rgb_image(image)
    foreground, background = alpha_seeds(rgb, seed_share, border)
    alpha = foreground.astype(np.float64).ravel()
    known = (foreground | background).ravel()
    if not foreground.any() or known.all():
        return foreground.astype(np.float32)
    laplacian, preconditioner, solver = (_pymatting(name) for name in PYMATTING)
    matrix = laplacian.cf_laplacian(rgb, is_known=known)[~known]
    inner = matrix[:, ~known]
    with redirect_stdout(StringIO()):  # it prints when it must shift the diagonal
        factor = preconditioner.ichol(inner, max_nnz=500 * len(alpha))
    alpha[~known] = solver.cg(inner, -matrix[:, known] @ alpha[known], M=factor)
    return _map(alpha.reshape(foreground.shape))


def alpha_seeds(
    image: np.ndarray, seed_share: float = 0.07, border: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels that `alpha_matte` holds fixed, foreground and background, each (H, W) bool."""
    contrast = histogram_contrast(image)
    height, width = contrast.shape
    background = np.ones(contrast.shape, bool)
    background[border : height - border, border : width - border] = False
    quarter = [max(side - 1, 1) / 4 for side in contrast.shape]
    prior = contrast * centre_gaussian(contrast.shape, quarter) * ~background
    count = max(1, round(seed_share * np.count_nonzero(~background)))
    seeds = np.zeros(contrast.size, bool)
    seeds[np.argsort(-prior, axis=None, kind="stable")[:count]] = True
    return seeds.reshape(contrast.shape) & (prior > 0), background


def centre_gaussian(shape: tuple[int, int], sigma: float | tuple[float, float]) -> np.ndarray:
    """A Gaussian (H, W) float64 with peak 1 in the centre: what a map looks like that has not seen the image.

    ``sigma`` in pixels, one for both axes or (down, across). Raises ValueError unless it is above 0.
    """
    check_shape(shape)
    for deviation in np.broadcast_to(sigma, 2):
        check_number("sigma", deviation, 0, above=True)
    y, x = (
        np.linspace(-1, 1, side) * ((side - 1) / 2 / deviation)
        for side, deviation in zip(shape, np.broadcast_to(sigma, 2), strict=True)
    )
    return np.exp(-0.5 * np.add.outer(y**2, x**2))


METHODS: dict[str, Callable[..., np.ndarray]] = {
    "rc": region_contrast,
    "hc": histogram_contrast,
    "ft": frequency_tuned,
    "lc": luminance_contrast,
    "sr": spectral_residual,
    "alpha": alpha_matte,
}


def map_stack(images: np.ndarray | Sequence[np.ndarray], method: str) -> np.ndarray | list[np.ndarray]:
    """The maps of many images, by all cores; kept between runs, so an interrupted call goes on.

    images: (N, H, W, 3), or a list of images of any sizes and kinds that the module's text allows. method: a
    name in METHODS. Returns (N, H, W) float32, multiples of 1/255, or a list of (H, W) where sizes differ.
    Raises ValueError for an unknown method, and for a bad image, naming its number.
    """
    if method not in tuple(METHODS):
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if isinstance(images, Tensor):
        images = as_array(images)
    if isinstance(images, np.ndarray):
        if images.ndim != 4:
            raise ValueError(f"images must be (N, H, W, 3) or a list, got an array of shape {images.shape}")
        if not len(images):
            return np.zeros(images.shape[:3], np.float32)
    elif not isinstance(images, Sequence):
        raise ValueError(f"images must be (N, H, W, 3) or a list, not a {type(images).__name__}")
    starts = range(0, len(images), CHUNK)
    images = [_numbered(number, image) for number, image in enumerate(images)]
    chunks = [(images[start : start + CHUNK], method, start) for start in starts]
    if method == "alpha" and len(chunks) > 1:
        for name in PYMATTING:  # compiled here once, not in every process
            _pymatting(name)
    stack = [m / np.float32(255) for maps in side_by_side(_maps, chunks) for m in maps.values()]
    return np.stack(stack) if len({saliency.shape for saliency in stack}) == 1 else stack


def _numbered(number: int, image: object) -> np.ndarray | Image.Image:
    """An image as an array or a picture; ValueError with its number for what is neither."""
    try:
        return image if isinstance(image, np.ndarray | Image.Image) else as_array(image)
    except ValueError as error:
        raise ValueError(f"image {number}: {error}") from error


@kept("maps")
def _maps(images: list[np.ndarray], method: str, start: int) -> dict[str, np.ndarray]:
    """The maps of some images, uint8, by their number from ``start`` on."""
    maps = {}
    for number, image in enumerate(images, start):
        try:
            maps[str(number)] = np.rint(METHODS[method](image) * 255).astype(np.uint8)
        except ValueError as error:
            raise ValueError(f"image {number}: {error}") from error
    return maps


def _map(saliency: np.ndarray) -> np.ndarray:
    return np.clip(saliency, 0, 1).astype(np.float32)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values stretched to [0, 1]; zero where they are all equal, but for rounding."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high - low > 1e-9 else np.zeros_like(values, np.float64)


def _blur(array: np.ndarray) -> np.ndarray:
    """3x3 Gaussian (sigma 0.8) over the first two axes."""
    return gaussian_filter(array, 0.8, radius=1, mode="mirror", axes=(0, 1))


def _quantise(rgb: np.ndarray) -> Palette:
    """12 bins a channel; the colours of 95 % of the pixels stay, the rest take the nearest that stays."""
    bins = (rgb * (BINS - 0.0001)).astype(int)
    code = (bins[..., 2] * BINS + bins[..., 1]) * BINS + bins[..., 0]  # blue first, as in the released code
    codes, colour, count = np.unique(code, return_inverse=True, return_counts=True)
    order = np.lexsort((codes, count))[::-1]  # most frequent first, equal counts by the greater code
    dropped = round(code.size * (1 - COVERED))
    kept = np.searchsorted(np.cumsum(count[order]), code.size - dropped, side="right") + 1
    kept = min(len(codes), MOST_COLOURS, max(kept, FEWEST_COLOURS))
    place = np.stack(np.unravel_index(codes[order], (BINS, BINS, BINS)), 1)
    rank = np.arange(len(codes))
    if kept < len(codes):
        rank[kept:] = cdist(place[kept:], place[:kept], "sqeuclidean").argmin(1)
    index = rank[np.argsort(order)][colour].reshape(code.shape)
    count = np.bincount(index.ravel()).astype(np.float64)
    mean = np.stack([np.bincount(index.ravel(), rgb[..., c].ravel()) for c in range(3)], 1) / count[:, None]
    return Palette(index, rgb2lab(mean), count)


def _smooth_by_colour(values: np.ndarray, palette: Palette, share: float, weight: np.ndarray) -> np.ndarray:
    """Each colour's value averaged over its nearest colours in Lab, itself included, stretched to [0, 1]."""
    colours = len(values)
    if colours < 2:
        return _scaled(values)
    near = max(2, round(share * colours))
    distance = cdist(palette.lab, palette.lab)
    nearest = np.argpartition(distance, near - 1, axis=1)[:, :near]
    distance = np.take_along_axis(distance, nearest, 1)
    total = distance.sum(1)
    weight = weight[nearest]
    smooth = (values[nearest] * (total[:, None] - distance) * weight).sum(1)
    return _scaled(smooth / (total * weight.sum(1)))


def _region_saliency(regions: np.ndarray, palette: Palette) -> np.ndarray:
    """Contrast of each region with the others, (R,), not yet stretched (Cheng et al. 2015, section 4)."""
    height, width = regions.shape
    region, colours = regions.ravel(), len(palette.count)
    size = np.bincount(region)
    frequency = np.bincount(region * colours + palette.index.ravel(), minlength=len(size) * colours)
    frequency = frequency.reshape(len(size), colours) / size[:, None]
    contrast = frequency @ cdist(palette.lab, palette.lab) @ frequency.T
    np.fill_diagonal(contrast, 0)
    y, x = np.indices(regions.shape)
    centroid = np.stack([_mean_by_region(x, regions) / width, _mean_by_region(y, regions) / height], 1)
    off_x = _mean_by_region(np.abs(x - width / 2), regions) / width
    off_y = _mean_by_region(np.abs(y - height / 2), regions) / height
    near = np.exp(-cdist(centroid, centroid, "sqeuclidean") / SPATIAL_FALL_OFF)
    return np.exp(-9 * (off_x**2 + off_y**2)) * ((contrast * near) @ size)


def _border_regions(regions: np.ndarray) -> np.ndarray:
    """(H, W) bool: the bands along the border and every region that lies mostly along them.

    A side of less than 26 pixels has no band, since 2 % of it round to none.
    """
    height, width = regions.shape
    gap_y, gap_x = round(BORDER_SHARE * height), round(BORDER_SHARE * width)
    y, x = np.indices(regions.shape)
    sides, ends = _band(x, gap_x, width), _band(y, gap_y, height)
    size = np.bincount(regions.ravel())
    spread_x = _mean_by_region(np.abs(x - _mean_by_region(x, regions)[regions]), regions) + 1e-9
    spread_y = _mean_by_region(np.abs(y - _mean_by_region(y, regions)[regions]), regions) + 1e-9
    likelihood = _mean_by_region(sides, regions) * size / (4 * max(1, gap_y)) / spread_y
    likelihood += _mean_by_region(ends, regions) * size / (4 * max(1, gap_x)) / spread_x
    return (likelihood > BORDER_THRESHOLD)[regions] | sides | ends


def _band(position: np.ndarray, gap: int, side: int) -> np.ndarray:
    return (position < gap) | (position >= side - gap)


def _mean_by_region(values: np.ndarray, regions: np.ndarray) -> np.ndarray:
    return np.bincount(regions.ravel(), values.ravel()) / np.bincount(regions.ravel())


def _pymatting(name: str) -> ModuleType:
    """A module of pymatting without the package around it, whose import compiles every function it has.

    It gets its own full name before it runs, since numba's stored code looks the module up by it.
    """
    name = f"pymatting.{name}"
    if name not in sys.modules:
        root = Path(importlib.util.find_spec("pymatting").origin).parents[1]
        path = root.joinpath(*name.split(".")).with_suffix(".py")
        spec = importlib.util.spec_from_file_location(name, path)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
