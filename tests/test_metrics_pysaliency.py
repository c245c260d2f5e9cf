"""An oracle by other authors: pysaliency (Kümmerer et al.), which the extra ``oracle`` installs.

Its definitions are the same but for these points, which the tests hold as well: its NSS divides by the
deviation with no degree of freedom taken off, and its SIM leaves a map's minimum where it is. It samples no
negatives and has no step of .1: its areas are those against all pixels, all pixels without a fixation, or all
fixations on other images.
"""

import numpy as np
import pytest

from saliencylib import metrics

pysaliency = pytest.importorskip("pysaliency", reason="the extra `oracle` is not installed")
theirs = pysaliency.metrics

SHAPES = ((24, 32), (30, 20), (24, 32))
COUNTS = (15, 40, 1)


class Itself(pysaliency.SaliencyMapModel):
    """The model whose map of an image is that image."""

    def _saliency_map(self, stimulus: np.ndarray) -> np.ndarray:
        return stimulus


class Centre(pysaliency.SaliencyMapModel):
    """The model whose map is highest in the middle, whatever the image."""

    def _saliency_map(self, stimulus: np.ndarray) -> np.ndarray:
        return centre(stimulus.shape)


def centre(shape: tuple[int, int]) -> np.ndarray:
    return np.outer(np.hanning(shape[0] + 2)[1:-1], np.hanning(shape[1] + 2)[1:-1])


@pytest.fixture(params=["smooth", "with ties"])
def case(request):
    """Three maps of two sizes, their fixations, and both in pysaliency's form."""
    rng = np.random.default_rng(7)
    maps = [rng.random(shape) ** 3 + 0.01 for shape in SHAPES]
    if request.param == "with ties":
        maps = [np.ceil(6 * map) for map in maps]
    points = [
        (rng.integers(width, size=count), rng.integers(height, size=count))
        for (height, width), count in zip(SHAPES, COUNTS, strict=True)
    ]
    x, y = (np.concatenate(part) for part in zip(*points, strict=True))
    fixations = pysaliency.Fixations.create_without_history(x, y, np.repeat(np.arange(3), COUNTS))
    return maps, points, pysaliency.Stimuli(maps), fixations


def by_image(values: np.ndarray) -> list[float]:
    """The mean an image of pysaliency's values, one a fixation."""
    return [part.mean() for part in np.split(values, np.cumsum(COUNTS)[:-1])]


def levels(map: np.ndarray, step: float) -> np.ndarray:
    """The map in steps, which turns an area over every value into one over the thresholds of the steps."""
    return np.floor((map - map.min()) / np.ptp(map) / step + 1e-9) * step


def test_nss_differs_by_one_degree_of_freedom(case):
    maps, points, stimuli, fixations = case
    for map, (x, y) in zip(maps, points, strict=True):
        ours = metrics.nss(map, x, y)
        assert ours == pytest.approx(theirs.NSS(map, x, y).mean() * np.sqrt(1 - 1 / map.size), rel=1e-12)
        assert ours != pytest.approx(theirs.NSS(map, x, y).mean(), rel=1e-4)
    ours = metrics.score(maps, points, metrics=("nss",))["nss"]
    assert by_image(Itself().NSSs(stimuli, fixations)) == pytest.approx(ours.tolist(), rel=1e-3)


def test_area_against_all_pixels(case):
    maps, points, stimuli, fixations = case
    ours = metrics.score(maps, points, metrics=("auc_borji",), splits=None, step=None)["auc_borji"]
    expected = by_image(Itself().AUCs(stimuli, fixations, nonfixations="uniform"))
    assert ours.tolist() == pytest.approx(expected, abs=1e-12)


def test_shuffled_area_against_all_other_fixations(case):
    maps, points, stimuli, fixations = case
    ours = metrics.score(maps, points, metrics=("auc_shuffled",), splits=None, step=None, others=None)
    expected = by_image(Itself().sAUCs(stimuli, fixations))
    assert ours["auc_shuffled"].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("step", [0.1, 0.25])
def test_areas_at_the_published_step(case, step):
    maps, points, _, fixations = case
    stepped = pysaliency.Stimuli([levels(map, step) for map in maps])
    ours = metrics.score(
        maps, points, metrics=("auc_borji", "auc_shuffled"), splits=None, step=step, others=None
    )
    uniform = by_image(Itself().AUCs(stepped, fixations, nonfixations="uniform"))
    assert ours["auc_borji"].tolist() == pytest.approx(uniform, abs=1e-12)
    shuffled = by_image(Itself().sAUCs(stepped, fixations))
    assert ours["auc_shuffled"].tolist() == pytest.approx(shuffled, abs=1e-12)


def test_judd(case, monkeypatch):
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)  # pysaliency uses the name before numpy 2.4
    maps, points, stimuli, fixations = case
    expected = Itself().AUC_per_image(stimuli, fixations, nonfixations="unfixated", thresholds="fixations")
    ours = metrics.score(maps, points, metrics=("auc_judd",))["auc_judd"]
    assert ours.tolist() == pytest.approx(expected, abs=1e-12)


def test_information_gain_over_a_centre_bias(case):
    maps, points, stimuli, fixations = case
    model, baseline = (pysaliency.models.SaliencyMapNormalizingModel(part()) for part in (Itself, Centre))
    expected = by_image(model.information_gains(stimuli, fixations, baseline))
    ours = [
        metrics.information_gain(map, centre(map.shape), x, y)
        for map, (x, y) in zip(maps, points, strict=True)
    ]
    assert ours == pytest.approx(expected, abs=1e-9)  # ours adds the machine's epsilon to both densities
    assert metrics.information_gain(maps[0], np.ones(SHAPES[0]), *points[0]) == pytest.approx(
        by_image(model.information_gains(stimuli, fixations))[0], abs=1e-9
    )


def test_cc(case):
    maps = case[0]
    for first, second in ((maps[0], maps[2]), (maps[1], centre(SHAPES[1]))):
        assert metrics.cc(first, second) == pytest.approx(theirs.CC(first, second), abs=1e-12)
    flat = np.ones(SHAPES[0])
    with pytest.warns(RuntimeWarning, match="CC of a constant map"):
        assert metrics.cc(flat, maps[0]) == theirs.CC(flat, maps[0]) == 0


def test_kl_with_the_constants_of_the_benchmark(case):
    first, _, second = case[0]
    assert metrics.kl_div(second, first) == pytest.approx(theirs.MIT_KLDiv(first, second), abs=1e-10)
    assert metrics.kl_div(second, first) == pytest.approx(
        theirs.image_based_kl_divergence(first, second), abs=1e-10
    )
    assert metrics.kl_div(first, second) != pytest.approx(theirs.MIT_KLDiv(first, second), abs=1e-3)


def test_sim_of_maps_that_begin_at_zero(case):
    first, _, second = case[0]
    ours = metrics.sim(first, second)
    assert ours == pytest.approx(theirs.SIM(first - first.min(), second - second.min()), abs=1e-12)
    assert abs(ours - theirs.SIM(first, second)) > 1e-4  # pysaliency leaves a minimum above 0 where it is
