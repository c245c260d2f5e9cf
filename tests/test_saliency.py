"""Bottom-up saliency maps against direct loops, stored maps, the authors' maps and object masks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import pearsonr
from skimage import data
from skimage.color import rgb2gray, rgb2lab
from sklearn.metrics import roc_auc_score

from saliencylib import saliency
from saliencylib.saliency import METHODS, map_stack

ORACLES = Path(__file__).parent / "oracles" / "saliency.npz"
pytestmark = pytest.mark.usefixtures("own_cache")
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


@pytest.mark.parametrize("method", METHODS)
def test_equals_stored_maps(method):
    """Regression; the alpha maps were stored from pymatting's own `estimate_alpha_cf` with the same seeds."""
    images = np.stack([photograph(name) for name in PHOTOGRAPHS])
    stack = map_stack(images, method)
    assert stack.dtype == np.float32 and stack.shape == (3, 96, 96)
    with np.load(ORACLES) as stored:
        expected = np.stack([stored[f"{name}_{method}"] for name in PHOTOGRAPHS]) / 255
    difference = np.abs(stack - expected)
    assert difference.mean() < 0.003 and np.quantile(difference, 0.99) < 0.01
    np.testing.assert_allclose(stack[1], METHODS[method](images[1]), atol=0.5 / 255 + 1e-6)


# ---- direct loops ------------------------------------------------------------------------------------------


def test_quantise_drops_colours_beyond_95_percent_to_the_nearest_bin():
    steps = np.arange(12) * 255 // 11
    frequent = np.stack([steps, steps, steps], 1).astype(np.uint8)  # 12 greys, 80 pixels each: 96 %
    rare = np.array([[255, 255, 225], [0, 30, 0]], np.uint8)  # 20 pixels each: 4 %
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


def test_border_regions_equal_direct_count():
    regions = np.ones((100, 80), int)
    regions[:, :5] = 0  # a strip along the left side
    regions[80:, 60:] = 3  # an object cut by a corner, whose pixels count in both directions
    regions[20:60, 20:60] = 2  # an object inside ...
    regions[:20, 38:42] = 2  # ... that reaches the top by a thin stem, and stays
    expected = np.zeros(regions.shape, bool)
    for region in range(4):
        y, x = np.nonzero(regions == region)
        left_right, top_bottom = ((x < 2) | (x >= 78)).sum(), ((y < 2) | (y >= 98)).sum()
        spread_x, spread_y = np.abs(x - x.mean()).mean(), np.abs(y - y.mean()).mean()
        expected[y, x] = left_right / (4 * 2) / spread_y + top_bottom / (4 * 2) / spread_x > 0.4
    assert [expected[regions == region].all() for region in range(4)] == [True, True, False, True]
    expected[:2] = expected[-2:] = expected[:, :2] = expected[:, -2:] = True
    np.testing.assert_array_equal(saliency._border_regions(regions), expected)


def test_alpha_equals_dense_solution_of_the_matting_equations():
    image = np.random.default_rng(3).integers(0, 256, (10, 11, 3), np.uint8)
    foreground, background = saliency.alpha_seeds(image, seed_share=0.1, border=2)
    rgb, (height, width) = image / 255, image.shape[:2]
    laplacian = np.zeros((height * width, height * width))
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            place = [(y + dy) * width + x + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
            window = rgb.reshape(-1, 3)[place]
            centred = window - window.mean(0)
            inverse = np.linalg.inv(centred.T @ centred / 9 + 1e-7 / 9 * np.eye(3))
            laplacian[np.ix_(place, place)] += np.eye(9) - (1 + centred @ inverse @ centred.T) / 9
    known = (foreground | background).ravel()
    expected = foreground.astype(float).ravel()
    right = -laplacian[np.ix_(~known, known)] @ expected[known]
    expected[~known] = np.clip(np.linalg.solve(laplacian[np.ix_(~known, ~known)], right), 0, 1)
    alpha = saliency.alpha_matte(image, seed_share=0.1, border=2)
    np.testing.assert_allclose(alpha.ravel(), expected, atol=1e-4)


@pytest.mark.parametrize(("share", "border"), [(0.03, 3), (0.15, 3), (0.07, 10)])
def test_alpha_holds_its_seeds(share, border):
    foreground, background = saliency.alpha_seeds(photograph("chelsea"), share, border)
    inside = (96 - 2 * border) ** 2
    assert background.sum() == 96**2 - inside and foreground.sum() == round(share * inside)
    alpha = saliency.alpha_matte(photograph("chelsea"), share, border)
    assert (alpha[foreground] == 1).all() and (alpha[background] == 0).all()


@pytest.mark.parametrize(
    ("share", "border", "wrong"), [(0, 3, "seed_share"), (1.5, 3, "seed_share"), (0.07, 0, "border")]
)
def test_alpha_refuses_wrong_seeds(share, border, wrong):
    with pytest.raises(ValueError, match=f"{wrong} must be"):
        saliency.alpha_matte(small_image(), share, border)


def test_centre_gaussian_falls_to_its_deviation():
    wide = saliency.centre_gaussian((5, 9), (1, 2))
    assert wide.shape == (5, 9) and wide[2, 4] == 1
    np.testing.assert_allclose([wide[1, 4], wide[2, 2], wide[3, 6]], np.exp([-0.5, -0.5, -1]))
    assert saliency.centre_gaussian((1, 3), 1)[0, 1] == 1


def test_min_region_default_scales_with_area_and_changes_the_map():
    assert saliency.default_min_region(300, 400) == saliency.default_min_region(800, 600) == 200
    assert saliency.default_min_region(96, 96) == 12 and saliency.default_min_region(4, 4) == 1
    image = photograph("coffee")
    default = saliency.region_contrast(image)
    np.testing.assert_array_equal(default, saliency.region_contrast(image, min_region=12))
    assert not np.array_equal(default, saliency.region_contrast(image, min_region=200))


# ---- degenerate input --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_one_colour_gives_zero(method, value):
    result = METHODS[method](np.full((20, 30, 3), value, np.uint8))
    assert result.dtype == np.float32 and result.shape == (20, 30) and not result.any()


@pytest.mark.parametrize("method", ["rc", "hc", "ft", "lc", "alpha"])
def test_two_colours_give_the_rarer(method):
    image = np.zeros((30, 30, 3), np.uint8)
    image[10:20, 12:18] = (250, 40, 10)
    result = METHODS[method](image)
    assert result[14, 15] == 1 and result[2, 2] < 0.01
    if method == "rc":
        np.testing.assert_array_equal(result, image[..., 0] > 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3), (7, 7), (13, 90)])
def test_small_and_narrow_images_are_defined(method, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    result = METHODS[method](image)
    assert result.dtype == np.float32 and result.shape == shape
    assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= 1
    if method == "alpha" and min(shape) <= 6:  # no pixel inside the border
        assert not result.any()


@pytest.mark.parametrize("method", METHODS)
def test_grey_alpha_channel_and_float_are_converted(method):
    image, function = photograph("coffee"), METHODS[method]
    image.flags.writeable = False  # no method writes into its input
    grey = image[..., 0]
    expected = function(np.repeat(grey[..., None], 3, 2))
    np.testing.assert_array_equal(function(grey), expected)
    np.testing.assert_array_equal(function(grey[..., None]), expected)
    np.testing.assert_allclose(function(image / 255), function(image), atol=1e-6)
    opacity = np.full((96, 96, 1), 255, np.uint8)
    opaque = np.concatenate([image, opacity], 2)
    np.testing.assert_allclose(function(opaque), function(image), atol=1e-6)
    opacity[:48] = 0
    on_white = np.where(opacity == 0, np.uint8(255), image)
    see_through = np.concatenate([image, opacity], 2)
    np.testing.assert_allclose(function(see_through), function(on_white), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((8, 8, 3), np.nan), "lie in"),
        (np.full((8, 8, 3), 254.0), "lie in"),
        (np.zeros((8, 8, 3), np.int64), "uint8, or floating point"),
        (np.zeros((8, 8, 2), np.uint8), "must be"),
        (np.zeros((2, 8, 8, 3), np.uint8), "must be"),
        (np.zeros((0, 8, 3), np.uint8), "must be"),
    ],
)
def test_bad_image_is_refused(method, image, message):
    with pytest.raises(ValueError, match=message):
        METHODS[method](image)


# ---- map_stack ---------------------------------------------------------------------------------------------


def noise(count, side=12):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def count_calls(monkeypatch, fail_at=None):
    """Let the method "lc" count its calls, and stop at one of them as a keyboard interrupt would."""
    calls = []

    def counted(image):
        calls.append(image)
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        return saliency.luminance_contrast(image)

    monkeypatch.setitem(METHODS, "lc", counted)
    return calls


def test_map_stack_in_processes_equals_one_by_one():
    images = noise(saliency.CHUNK + 9)
    one_by_one = np.concatenate([map_stack(images[i : i + 1], "hc") for i in range(len(images))])
    for _ in range(2):  # computed, then read back
        np.testing.assert_array_equal(map_stack(images, "hc"), one_by_one)


def test_map_stack_of_mixed_sizes_is_a_list():
    images = [noise(1, 12)[0], noise(1, 15)[0], noise(1, 12)[0, ..., 0]]
    for _ in range(2):
        maps = map_stack(images, "ft")
        assert isinstance(maps, list) and [m.shape for m in maps] == [(12, 12), (15, 15), (12, 12)]
        np.testing.assert_allclose(maps[1], saliency.frequency_tuned(images[1]), atol=0.5 / 255 + 1e-6)
    assert map_stack(images[::2], "ft").shape == (2, 12, 12)
    assert map_stack(noise(0), "rc").shape == (0, 12, 12) and map_stack([], "rc") == []


def test_map_stack_goes_on_after_an_interrupt(monkeypatch, in_process):
    images = noise(2 * saliency.CHUNK + 6)
    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
        count_calls(interrupted, fail_at=saliency.CHUNK + 8)
        map_stack(images, "lc")
    calls = count_calls(monkeypatch)
    maps = map_stack(images, "lc")
    assert len(calls) == saliency.CHUNK + 6
    np.testing.assert_array_equal(maps, map_stack(images, "lc"))
    np.testing.assert_array_equal(maps[:5], map_stack(list(images[:5]), "lc"))
    assert len(calls) == saliency.CHUNK + 11  # other images, another entry


def test_map_stack_prints_nothing_without_a_terminal(capfd):
    map_stack(noise(3), "alpha")
    assert capfd.readouterr() == ("", "")


def test_map_stack_refuses_bad_arguments():
    with pytest.raises(ValueError, match="method must be one of rc, hc, ft, lc, sr, alpha"):
        map_stack(noise(1), "gc")
    with pytest.raises(ValueError, match="or a list"):
        map_stack(noise(1)[0], "rc")
    images = list(noise(2)) + [np.full((4, 4, 3), np.nan)]
    with pytest.raises(ValueError, match="image 2: .*lie in"):
        map_stack(images, "rc")


# ---- the authors' maps and object masks --------------------------------------------------------------------


@pytest.fixture
def reference(real_data):
    """(images, object masks, a function from a method's name to the authors' maps) of the 18 images."""
    folder = real_data / "rc_reference" / "DataSet1"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: the authors' maps are not at hand")
    paths = sorted((folder / "Imgs").glob("*.jpg"))
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    masks = [np.asarray(Image.open(path.with_suffix(".png")).convert("L")) > 127 for path in paths]

    def authors(method):
        files = [folder / "Saliency" / f"{path.stem}_{method}.png" for path in paths]
        return [np.asarray(Image.open(file).convert("L")) / 255 for file in files]

    return images, masks, authors


@pytest.mark.parametrize(("method", "least"), [("hc", 0.995), ("ft", 0.999)])
def test_correlates_with_the_authors_maps(reference, method, least):
    images, _, authors = reference
    pairs = zip(images, authors(method.upper()), strict=True)
    assert np.mean([pearsonr(METHODS[method](i).ravel(), m.ravel()).statistic for i, m in pairs]) >= least


def test_region_contrast_finds_the_objects(reference):
    """The authors' stored RC maps reach .811 here; they do not come from their released code."""
    images, masks, authors = reference

    def mean_auc(maps):
        pairs = zip(masks, maps, strict=True)
        return np.mean([roc_auc_score(mask.ravel(), saliency.ravel()) for mask, saliency in pairs])

    assert mean_auc(map_stack(images, "rc")) >= 0.93
    assert mean_auc(authors("RC")) == pytest.approx(0.811, abs=0.002)


def test_pictures_and_tensors_are_read_by_their_own_mode():
    rgb = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    picture = Image.fromarray(rgb)
    expected = saliency.frequency_tuned(rgb)
    for form in (picture, torch.from_numpy(rgb), torch.from_numpy(rgb / 255).requires_grad_()):
        assert np.allclose(saliency.frequency_tuned(form), expected, atol=1e-6)
    few = picture.quantize(16)
    for mode in (few, picture.convert("CMYK"), picture.convert("LA"), picture.convert("1")):
        read = saliency.frequency_tuned(np.asarray(mode.convert("RGB")))
        assert np.allclose(saliency.frequency_tuned(mode), read)
    clear = Image.new("RGBA", (24, 20), (0, 0, 0, 0))
    assert saliency.frequency_tuned(clear).max() == 0
    with pytest.raises(ValueError, match="uint8"):
        saliency.frequency_tuned(Image.new("I", (24, 20)))
