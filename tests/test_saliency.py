"""Bottom-up saliency maps against direct loops, stored maps, the authors' maps and object masks."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import pearsonr
from skimage import data
from skimage.color import rgb2gray, rgb2lab
from sklearn.metrics import roc_auc_score

from saliencylib import saliency
from saliencylib.saliency import METHODS, map_stack

ORACLES = Path(__file__).parent / "oracles" / "saliency.npz"
PHOTOGRAPHS = {"chelsea": (6, 100, 3), "coffee": (8, 120, 4), "astronaut": (0, 16, 5)}  # top, left, reduction


def photograph(name):
    """A photograph of scikit-image at 96 x 96: a square of it, reduced by the mean of whole blocks."""
    top, left, step = PHOTOGRAPHS[name]
    square = getattr(data, name)()[top : top + 96 * step, left : left + 96 * step]
    return np.rint(square.reshape(96, step, 96, step, 3).mean((1, 3))).astype(np.uint8)


def small_image(height=9, width=8, colours=5, seed=0):
    """A few colours in random places, so that direct loops over pixels stay short."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (colours, 3), np.uint8)[rng.integers(0, colours, (height, width))]


def blurred(array):
    """3x3 Gaussian of sigma 0.8 with mirrored borders, pixel by pixel."""
    side = np.exp(-1 / (2 * 0.8**2))
    weights = np.outer([side, 1, side], [side, 1, side]) / (1 + 2 * side) ** 2
    padded = np.pad(array, ((1, 1), (1, 1)), mode="reflect")
    result = np.zeros(array.shape)
    for y in range(array.shape[0]):
        for x in range(array.shape[1]):
            result[y, x] = (padded[y : y + 3, x : x + 3] * weights).sum()
    return result


def stretched(array):
    return (array - array.min()) / (array.max() - array.min())


# ---- stored maps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("method", METHODS)
def test_equals_stored_map(name, method):
    """Regression; the alpha maps were stored from pymatting's own `estimate_alpha_cf` with the same seeds."""
    with np.load(ORACLES) as stored:
        expected = stored[f"{name}_{method}"] / 255
    difference = np.abs(METHODS[method](photograph(name)) - expected)
    assert difference.mean() < 0.003
    assert np.quantile(difference, 0.99) < 0.01


# ---- direct loops ------------------------------------------------------------------------------------------


def test_quantise_keeps_every_colour_while_there_are_ten_or_fewer():
    image = small_image(colours=10, height=40, width=40)
    palette = saliency._quantise(image / 255)
    assert len(palette.count) == len(np.unique((image / 255 * 11.9999).astype(int).reshape(-1, 3), axis=0))
    assert (np.diff(palette.count) <= 0).all() and palette.count.sum() == 1600
    first = palette.index == 0
    assert palette.lab[0] == pytest.approx(rgb2lab((image[first] / 255).mean(0)[None])[0])


def test_quantise_drops_colours_beyond_95_percent_to_the_nearest_bin():
    steps = np.arange(12) * 255 // 11
    frequent = np.stack([steps, steps, steps], 1).astype(np.uint8)  # 12 greys, 80 pixels each: 96 %
    rare = np.array([[255, 255, 210], [0, 30, 0]], np.uint8)  # 20 pixels each: 4 %
    image = np.concatenate([np.repeat(frequent, 80, 0), np.repeat(rare, 20, 0)]).reshape(40, 25, 3)
    palette = saliency._quantise(image / 255)
    index = palette.index.ravel()
    assert len(palette.count) == 12
    assert (index[960:980] == index[11 * 80]).all()  # light yellow to white
    assert (index[980:] == index[0]).all()  # dark green to black
    assert sorted(palette.count)[-2:] == [100, 100]


def test_histogram_contrast_equals_direct_loop():
    image = small_image(colours=9)
    colours, index, count = np.unique(
        image.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True
    )  # far apart: quantisation keeps all of them
    lab = rgb2lab(colours / 255)
    distance = np.array([[np.linalg.norm(a - b) for b in lab] for a in lab])
    raw = [sum(count[j] / count.sum() * distance[i, j] for j in range(len(lab))) for i in range(len(lab))]
    smooth = []
    for i in range(len(lab)):
        near = sorted(range(len(lab)), key=lambda j, i=i: distance[i, j])[: max(2, round(len(lab) / 4))]
        total = sum(distance[i, j] for j in near)
        smooth.append(sum(raw[j] * (total - distance[i, j]) for j in near) / (total * len(near)))
    expected = stretched(blurred(np.array(smooth)[index].reshape(image.shape[:2])))
    np.testing.assert_allclose(saliency.histogram_contrast(image), expected, atol=1e-5)


def test_frequency_tuned_equals_direct_loop():
    image = small_image(colours=40)
    lab = rgb2lab(np.stack([blurred(image[..., c] / 255) for c in range(3)], 2))
    expected = stretched(((lab - lab.mean((0, 1))) ** 2).sum(2))
    np.testing.assert_allclose(saliency.frequency_tuned(image), expected, atol=1e-5)


def test_luminance_contrast_equals_direct_loop():
    image = small_image(colours=40)
    grey = np.rint(rgb2gray(image) * 255)
    contrast = np.array([[np.abs(grey - level).mean() for level in row] for row in grey])
    np.testing.assert_allclose(saliency.luminance_contrast(image), stretched(blurred(contrast)), atol=1e-5)


def test_spectral_residual_equals_direct_computation():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)  # 64: nothing is resized
    spectrum = np.fft.fft2(rgb2gray(image))
    log_amplitude = np.pad(np.log(np.abs(spectrum)), 1, mode="edge")
    average = sum(log_amplitude[y : y + 64, x : x + 64] for y in range(3) for x in range(3)) / 9
    raw = np.abs(np.fft.ifft2(np.exp(-average) * spectrum)) ** 2
    reach = np.arange(-10, 11)
    weights = np.exp(-(reach**2) / (2 * 2.5**2))
    weights /= weights.sum()
    padded = np.pad(raw, 10, mode="symmetric")
    rows = sum(w * padded[k : k + 64] for k, w in enumerate(weights))
    expected = stretched(sum(w * rows[:, k : k + 64] for k, w in enumerate(weights)))
    np.testing.assert_allclose(saliency.spectral_residual(image), expected, atol=1e-4)


def test_region_saliency_equals_direct_loop():
    image = small_image(12, 10, colours=6)
    regions = np.repeat(np.repeat(np.arange(6).reshape(2, 3), 6, 0), [4, 3, 3], 1)
    palette = saliency._quantise(image / 255)
    height, width = regions.shape
    expected = []
    for i in range(6):
        total = 0.0
        for j in set(range(6)) - {i}:
            pairs = [
                np.linalg.norm(palette.lab[m] - palette.lab[n])
                for m in palette.index[regions == i]
                for n in palette.index[regions == j]
            ]
            (y_i, x_i), (y_j, x_j) = (np.argwhere(regions == k).mean(0) for k in (i, j))
            apart = ((x_i - x_j) / width) ** 2 + ((y_i - y_j) / height) ** 2
            total += (regions == j).sum() * np.mean(pairs) * np.exp(-apart / 0.4)
        y, x = np.argwhere(regions == i).T
        off = (np.abs(x - width / 2).mean() / width) ** 2 + (np.abs(y - height / 2).mean() / height) ** 2
        expected.append(np.exp(-9 * off) * total)
    np.testing.assert_allclose(saliency._region_saliency(regions, palette), expected, rtol=1e-9)


def test_border_regions_are_those_along_the_border():
    regions = np.ones((100, 80), int)
    regions[:, :5] = 0  # a strip of the left side: 200 band pixels / (4 * 2) / 25 = 1
    regions[10:90, 30:50] = 2  # an object inside
    regions[80:, 60:] = 3  # an object that touches a corner: 40 / 8 / 5 + 40 / 8 / 5 = 2
    border = saliency._border_regions(regions)
    assert border[regions == 0].all() and border[regions == 3].all()
    assert not border[regions == 2].any()
    assert border[:2].all() and border[-2:].all() and border[:, :2].all() and border[:, -2:].all()
    assert not border[2:-2, 5:60].any()  # the middle: lk = 140 / 8 / 25 ... counted below
    likelihood = np.count_nonzero(regions[:, -2:] == 1) / 8
    assert likelihood > 0  # it has border pixels, yet stays
