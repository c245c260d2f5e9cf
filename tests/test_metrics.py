"""Oracles: MATLAB's values of the MIT benchmark code, the SALICON kit's printed scores, closed forms, and
direct loops written as the metrics are published."""

import base64
import io
import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from saliencylib import metrics

NO_POINTS = (np.array([]), np.array([]))


def random_case(seed: int = 0, shape: tuple[int, int] = (12, 16), count: int = 20):
    rng = np.random.default_rng(seed)
    return rng.random(shape), rng.integers(shape[1], size=count), rng.integers(shape[0], size=count), rng


# --- oracles of others -------------------------------------------------------------------------------------


@pytest.fixture
def matlab(real_data):
    folder = real_data / "metric_reference/benchmark/tests/road"
    if not folder.is_dir():
        pytest.skip("metric_reference is not below $SALIENCY_DATA")
    first, second, fixated, other = (
        np.array(Image.open(folder / f"{name}.png")).astype(float)
        for name in ("saliency1", "saliency2", "fixation", "other")
    )
    (y, x), (other_y, other_x) = np.nonzero(fixated), np.nonzero(other)
    return first, second, x, y, [(other_x, other_y)]


def test_matlab_cc_and_nss(matlab):
    first, second, x, y, _ = matlab
    assert metrics.cc(first, second) == pytest.approx(0.41267651, abs=1e-6)
    assert metrics.nss(first, x, y) == pytest.approx(0.94992533, abs=1e-6)


def test_matlab_areas(matlab):
    """MATLAB's within their sampling error; ours that are exact, at the step and continuous."""
    first, _, x, y, others = matlab
    borji, shuffled = (
        partial(metrics.auc_borji, first, x, y),
        partial(metrics.auc_shuffled, first, x, y, others),
    )
    for area, matlabs, exact, continuous in (
        (borji, 0.75449380, 0.7547, 0.7574),
        (shuffled, 0.79630240, 0.7962, 0.8010),
    ):
        sampled = [area(rng=seed) for seed in range(40)]
        assert abs(np.mean(sampled) - matlabs) < 3 * np.std(sampled)
        assert area(splits=None) == pytest.approx(exact, abs=5e-5)
        assert area(splits=None, step=None) == pytest.approx(continuous, abs=5e-5)


def test_salicon_kit_scores_of_its_sample_results(real_data):
    folder = real_data / "salicon_examples"
    if not folder.is_dir():
        pytest.skip("salicon_examples is not below $SALIENCY_DATA")
    points: dict[int, list] = {}
    stored = json.loads((folder / "annotations/fixations_train2014examples.json").read_text())
    for entry in stored["annotations"]:
        points.setdefault(entry["image_id"], []).extend(entry["fixations"])
    results = json.loads((folder / "results/fixations_train2014examples_fake_results.json").read_text())
    maps, fixations = [], []
    for result in results:
        maps.append(np.array(Image.open(io.BytesIO(base64.b64decode(result["saliency_map"])))))
        row_column = np.array(points[result["image_id"]]) - 1
        fixations.append((row_column[:, 1], row_column[:, 0]))
    scores = metrics.score(maps, fixations, sigma=19, metrics=("nss", "cc"))
    assert scores["nss"].mean() == pytest.approx(1.078, abs=5e-4)
    assert scores["cc"].mean() == pytest.approx(0.621, abs=2e-3)  # the kit blurs with another border rule
    exact = partial(metrics.score, maps, fixations, splits=None, others=None)
    borji = exact(metrics=("auc_borji",), step=0.1)["auc_borji"].mean()
    shuffled = exact(metrics=("auc_shuffled",), step=0.01)["auc_shuffled"].mean()
    assert (borji, shuffled) == pytest.approx((0.709, 0.670), abs=1e-3)  # the kit's steps, found by agreement


# --- direct loops ------------------------------------------------------------------------------------------


def published_area(positives: np.ndarray, negatives: np.ndarray, step: float) -> float:
    """The ROC loop of the MATLAB code for one split; values in [0, 1]."""
    thresholds = np.arange(0, max(positives.max(), negatives.max()) + 1e-9, step)[::-1]
    hits = [0, *((positives >= t - 1e-9).mean() for t in thresholds), 1]
    alarms = [0, *((negatives >= t - 1e-9).mean() for t in thresholds), 1]
    return float(np.trapezoid(hits, alarms))


@pytest.mark.parametrize("shuffled", [False, True])
def test_sampled_areas_have_the_distribution_of_the_published_loop(shuffled):
    saliency, x, y, rng = random_case()
    scaled = (saliency - saliency.min()) / np.ptp(saliency)
    area, pool = partial(metrics.auc_borji, saliency, x, y), scaled.ravel()
    if shuffled:
        others = [(rng.integers(16, size=15), rng.integers(12, size=15)) for _ in range(2)]
        area = partial(metrics.auc_shuffled, saliency, x, y, others)
        pool = np.concatenate([scaled[oy, ox] for ox, oy in others])
    draws = [rng.choice(pool, len(x), replace=not shuffled) for _ in range(4000)]
    loop = [published_area(scaled[y, x], draw, 0.1) for draw in draws]
    ours = [area(splits=1, rng=seed) for seed in range(4000)]
    assert np.mean(ours) == pytest.approx(np.mean(loop), abs=4 * np.std(loop) / 45)
    assert np.std(ours) == pytest.approx(np.std(loop), rel=0.1)


@pytest.mark.parametrize("step", [0.1, 0.25, 0.03])
def test_exact_area_is_the_published_loop_over_all_negatives(step):
    saliency, x, y, _ = random_case()
    scaled = (saliency - saliency.min()) / np.ptp(saliency)
    expected = published_area(scaled[y, x], scaled.ravel(), step)
    assert metrics.auc_borji(saliency, x, y, None, step) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [4, 1000])
def test_continuous_area_counts_pairs(levels):
    saliency, x, y, _ = random_case()
    saliency = np.round(saliency * levels)
    positives, negatives = saliency[y, x][:, None], saliency.ravel()[None]
    expected = (positives > negatives).mean() + (positives == negatives).mean() / 2
    assert metrics.auc_borji(saliency, x, y, None, None) == pytest.approx(expected, abs=1e-12)


def test_sampled_continuous_area_tends_to_the_continuous_one():
    saliency, x, y, _ = random_case()
    exact = metrics.auc_borji(saliency, x, y, None, None)
    assert metrics.auc_borji(saliency, x, y, 5000, None) == pytest.approx(exact, abs=0.005)
    assert metrics.auc_borji(saliency, x, y, 5000) != metrics.auc_borji(saliency, x, y, 5000, None)


def test_judd_is_a_loop_over_thresholds():
    saliency, x, y, _ = random_case()
    fixated = np.zeros(saliency.shape, bool)
    fixated[y, x] = True
    hits, alarms = [0.0], [0.0]
    for threshold in np.unique(saliency[y, x])[::-1]:
        hits.append((saliency[y, x] >= threshold).mean())
        alarms.append((saliency[~fixated] >= threshold).mean())
    expected = np.trapezoid([*hits, 1], [*alarms, 1])
    assert metrics.auc_judd(saliency, x, y) == pytest.approx(expected, abs=1e-12)


# --- closed forms ------------------------------------------------------------------------------------------


def test_cc_of_linear_maps():
    a = random_case()[0]
    assert metrics.cc(a, 3 * a + 1) == pytest.approx(1)
    assert metrics.cc(a, -a) == pytest.approx(-1)
    b = random_case(1)[0]
    assert metrics.cc(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_sim_of_equal_disjoint_and_half_overlapping_maps():
    a, b = np.zeros((2, 4)), np.zeros((2, 4))
    a[0, :2], b[0, 1:3] = 1, 5
    assert metrics.sim(a, a) == pytest.approx(1)
    assert metrics.sim(a, b) == pytest.approx(0.5)
    assert metrics.sim(a, 1 - a) == pytest.approx(0)


def test_kl_in_nats():
    truth, prediction = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert metrics.kl_div(truth, prediction) == pytest.approx(expected)
    assert metrics.kl_div(truth, 7 * truth) == pytest.approx(0, abs=1e-12)
    assert metrics.kl_div(np.array([[1.0, 0]]), np.array([[0, 1.0]])) == pytest.approx(36.04, abs=0.01)


def test_nss_and_information_gain():
    saliency = np.array([[0.0, 0, 0, 4]])
    assert metrics.nss(saliency, [3], [0]) == pytest.approx(1.5)  # (4 - 1) / 2, the deviation with ddof=1
    assert metrics.nss(saliency, [3, 3, 0], [0, 0, 0]) == pytest.approx((1.5 + 1.5 - 0.5) / 3)
    gain = metrics.information_gain(np.array([[1, 1, 2, 4.0]]), np.ones((1, 4)), [3, 2], [0, 0])
    assert gain == pytest.approx((1 + 0) / 2)


def test_density_has_the_fixations_as_peaks():
    density = metrics.fixation_density([5.9, 5], [3, 3.2], (20, 30), 1.5)
    assert density.dtype == np.float32 and density.max() == 1
    assert np.unravel_index(density.argmax(), density.shape) == (3, 5)
    assert density[3, 7] == pytest.approx(np.exp(-(2**2) / (2 * 1.5**2)), abs=1e-6)
    assert not metrics.fixation_density(*NO_POINTS, (20, 30), 1.5).any()


# --- edges -------------------------------------------------------------------------------------------------


def test_constant_map_has_defined_scores():
    flat, (other, x, y, _) = np.full((12, 16), 3.0), random_case()
    with pytest.warns(RuntimeWarning, match="CC of a constant map"):
        assert metrics.cc(flat, other) == 0
    with pytest.warns(RuntimeWarning, match="NSS of a constant map"):
        assert metrics.nss(flat, x, y) == 0
    areas = [
        metrics.auc_judd(flat, x, y),
        metrics.auc_borji(flat, x, y),
        metrics.auc_borji(flat, x, y, None, None),
        metrics.auc_shuffled(flat, x, y, [(x, y)]),
    ]
    assert areas == pytest.approx([0.5] * 4)
    zero = np.zeros((12, 16))
    assert metrics.kl_div(zero, flat) == pytest.approx(0, abs=1e-9)
    assert metrics.sim(flat, zero) == pytest.approx(1)
    assert metrics.information_gain(zero, flat, x, y) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("level", np.linspace(0.01, 1, 100))
def test_a_constant_map_is_one_whatever_its_mean_rounds_to(level):
    flat, (_, x, y, _) = np.full((13, 17), level), random_case()
    for a, b in (
        (flat, flat),
        (flat, np.arange(221.0).reshape(13, 17)),
        (np.arange(221.0).reshape(13, 17), flat),
    ):
        with pytest.warns(RuntimeWarning, match="CC of a constant map"):
            assert metrics.cc(a, b) == 0
    with pytest.warns(RuntimeWarning, match="NSS of a constant map"):
        assert metrics.nss(flat, x, y) == 0
    assert metrics.auc_judd(flat, x, y) == metrics.auc_borji(flat, x, y, None) == 0.5
    assert metrics.sim(flat, np.ones((13, 17))) == pytest.approx(1)
    assert metrics.kl_div(flat, np.ones((13, 17))) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
def test_maps_of_any_scale_have_the_same_scores(scale):
    (a, x, y, _), b = random_case(), random_case(1)[0]
    for metric in (metrics.cc, metrics.sim, metrics.kl_div):
        assert metric(a * scale, b) == pytest.approx(metric(a, b))
        assert metric(a, b * scale) == pytest.approx(metric(a, b))
    assert metrics.nss(a * scale, x, y) == pytest.approx(metrics.nss(a, x, y))


def test_no_fixations_and_no_others_give_nan():
    saliency, x, y, _ = random_case()
    for area in (metrics.nss, metrics.auc_judd, metrics.auc_borji):
        assert np.isnan(area(saliency, *NO_POINTS))
    assert np.isnan(metrics.auc_shuffled(saliency, *NO_POINTS, [(x, y)]))
    assert np.isnan(metrics.auc_shuffled(saliency, x, y, []))
    assert np.isnan(metrics.auc_shuffled(saliency, x, y, [NO_POINTS]))
    assert np.isnan(metrics.information_gain(saliency, saliency, *NO_POINTS))


def test_every_pixel_fixated():
    saliency = np.arange(4.0).reshape(2, 2)
    assert np.isnan(metrics.auc_judd(saliency, [0, 1, 0, 1], [0, 0, 1, 1]))
    assert metrics.auc_borji(saliency, [0, 1, 0, 1], [0, 0, 1, 1], None) == pytest.approx(0.5)


def test_fixations_on_the_border_count_and_beyond_it_are_refused():
    saliency = np.arange(12.0).reshape(3, 4)
    assert metrics.auc_borji(saliency, [3.99], [2.99], None, None) == pytest.approx(11.5 / 12)
    for x, y in ((4, 0), (0, 3), (-0.01, 0), (np.nan, 0)):
        with pytest.raises(ValueError, match="outside"):
            metrics.nss(saliency, [x], [y])


def test_what_is_refused():
    whole = np.ones((2, 3))
    for wrong, message in (
        (lambda: metrics.auc_borji(np.full((2, 3), np.nan), [0], [0]), "NaN or infinity"),
        (lambda: metrics.cc(whole, np.full((2, 3), np.inf)), "NaN or infinity"),
        (lambda: metrics.cc(whole, np.ones((3, 2))), "differ in shape"),
        (lambda: metrics.nss(np.ones((1, 2, 3)), [0], [0]), "two dimensions"),
        (lambda: metrics.nss(whole, [0, 1], [0]), "x positions"),
        (lambda: metrics.kl_div(whole, -whole), "negative"),
        (lambda: metrics.auc_borji(whole, [0], [0], step=0), "step"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


def test_value_on_a_threshold_reaches_it():
    saliency = np.array([[0, 153, 255]], np.uint8)  # 153 / 255 is the threshold 0.6, but for rounding
    assert metrics._levels(saliency.astype(float), slice(None), 0.1).tolist() == [0, 6, 10]


# --- whole sets --------------------------------------------------------------------------------------------


def small_set():
    rng = np.random.default_rng(3)
    maps = rng.random((5, 12, 16)).astype(np.float32)
    points = [(rng.integers(16, size=9), rng.integers(12, size=9)) for _ in maps]
    return maps, points


def test_score_rows_equal_the_functions():
    maps, points = small_set()
    baseline = np.full((12, 16), 0.5)
    frame = metrics.score(maps, points, sigma=2, baseline=baseline, splits=None, others=None)
    assert list(frame) == ["image", *metrics.METRICS]
    x, y = points[2]
    truth = metrics.fixation_density(x, y, (12, 16), 2)
    others = [p for i, p in enumerate(points) if i != 2]
    expected = [
        metrics.cc(maps[2], truth),
        metrics.sim(maps[2], truth),
        metrics.kl_div(truth, maps[2]),
        metrics.nss(maps[2], x, y),
        metrics.auc_judd(maps[2], x, y),
        metrics.auc_borji(maps[2], x, y, None),
        metrics.auc_shuffled(maps[2], x, y, others, None),
        metrics.information_gain(maps[2], baseline, x, y),
    ]
    assert frame.loc[2, list(metrics.METRICS)].tolist() == pytest.approx(expected)


def test_score_seed_fixes_and_changes_the_sampled_columns():
    maps, points = small_set()
    first, again, other = (metrics.score(maps, points, others=2, rng=seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert first["nss"].equals(other["nss"])
    assert not np.allclose(first["auc_borji"], other["auc_borji"], atol=1e-6)
    alone = metrics.score(maps, points, metrics=("auc_shuffled",), others=2, rng=0)
    assert alone["auc_shuffled"].equals(first["auc_shuffled"])


def test_score_takes_maps_alone_and_one_image():
    maps, points = small_set()
    assert list(metrics.score(maps, truths=maps)) == ["image", "cc", "sim", "kl"]
    one = metrics.score(maps[:1], points[:1], names=["a"])
    assert one["image"].tolist() == ["a"] and np.isnan(one.loc[0, "auc_shuffled"])


def test_score_of_mixed_sizes_scales_the_others():
    maps = [np.arange(12.0).reshape(3, 4), np.arange(48.0).reshape(6, 8)]
    points = [(np.array([3]), np.array([2])), (np.array([7]), np.array([5]))]
    frame = metrics.score(maps, points, metrics=("auc_shuffled",), splits=None, step=None)
    scaled = [(np.array([3]), np.array([2]))]  # (7, 5) of 8 x 6 lies in pixel (3, 2) of 4 x 3
    assert frame.loc[0, "auc_shuffled"] == metrics.auc_shuffled(maps[0], *points[0], scaled, None, None)


def test_fixations_of_every_form_score_the_same():
    maps, points = small_set()
    points = [(x[:5], y[:5]) for x, y in points]
    expected = metrics.score(maps, points)
    tensors = [torch.from_numpy(map).requires_grad_() for map in maps]
    rows = [np.stack(pair, 1) for pair in points]
    lists = [[(int(x), int(y)) for x, y in zip(*pair, strict=True)] for pair in points]
    for form in (rows, lists, [np.stack(pair) for pair in points], [list(pair) for pair in points]):
        assert metrics.score(maps, form).equals(expected)
        assert metrics.score(tensors, form).equals(expected)
    once = [np.unique(row, axis=0) for row in rows]
    marked = [np.zeros(maps[0].shape, bool) for _ in rows]
    for mark, row in zip(marked, once, strict=True):
        mark[row[:, 1], row[:, 0]] = True
    for form in (
        marked,
        [mark.astype(float) for mark in marked],
        [torch.from_numpy(mark) for mark in marked],
    ):
        found, wanted = metrics.score(maps, form, splits=None), metrics.score(maps, once, splits=None)
        assert np.allclose(found.iloc[:, 1:], wanted.iloc[:, 1:])
    assert np.isnan(metrics.score(maps[:1], [[]]).loc[0, "nss"])
    assert metrics.score(maps[:1], [[(3, 4)]]).equals(metrics.score(maps[:1], [(3, 4)]))


AMBIGUOUS = {
    "two rows": (np.array([[6, 5], [2, 3]]), "read in two ways"),
    "two points": ([(6, 5), (2, 3)], "read in two ways"),
    "two tensors' rows": (torch.tensor([[6, 5], [2, 3]]), "read in two ways"),
    "times too": (([6, 5], [2, 3], [100, 200]), "tuple of 3"),
    "columns too many": (np.ones((4, 3)), "do not fit"),
    "another map": (np.zeros((16, 12), bool), "do not fit a map of shape"),
    "a map of 255": (255 * np.eye(12, 16), "values other than 0 and 1"),
    "unlike lengths": ([np.arange(3), np.arange(4)], "3 x positions, but 4 y positions"),
}


@pytest.mark.parametrize("form", AMBIGUOUS)
def test_fixations_that_could_be_misread_are_refused(form):
    given, message = AMBIGUOUS[form]
    with pytest.raises(ValueError, match=message):
        metrics.score(small_set()[0][:1], [given])


def test_a_map_as_small_as_its_fixations_is_not_guessed():
    narrow, rows = np.arange(8.0).reshape(4, 2), np.array([[0, 1], [1, 0], [0, 0], [1, 1]])
    with pytest.raises(ValueError, match="two ways"):
        metrics.score([narrow], [rows])
    assert metrics.score([narrow], [rows.astype(bool)])["nss"].notna().all()


def test_score_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"single map as \[map\]"):
        metrics.score(np.ones((1, 4)), [([0], [0])])
    maps, points = small_set()
    with pytest.raises(ValueError, match="5 maps, but 4 fixations"):
        metrics.score(maps, points[:4])
    with pytest.raises(ValueError, match="needs fixations, truths or both"):
        metrics.score(maps)
    with pytest.raises(ValueError, match=r"cannot compute \['cc'\]"):
        metrics.score(maps, points, metrics=("cc",))
