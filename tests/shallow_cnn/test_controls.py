from dataclasses import replace

import numpy as np
import pytest

from saliencylib.shallow_cnn.controls import (
    LOCAL_FEATURES,
    WAYS_TO_COMPARE,
    as_compared,
    contrast_at_fixations,
    human_maps,
    local_features,
    scores_by_comparison,
)
from saliencylib.shallow_cnn.gaze import gaze_split
from saliencylib.shallow_cnn.results import blind_maps


@pytest.fixture(scope="module")
def parts():
    return gaze_split("quick", 40, 30)


def test_human_maps_take_the_width_that_predicts_best(parts):
    first, second = parts.tests[0].halves(0)
    best = human_maps(first, second)
    narrow = human_maps(first, second, widths=(1,))
    assert np.allclose(narrow, first.targets, atol=1e-6)
    correlations = [np.corrcoef(m.ravel(), second.targets.ravel())[0, 1] for m in (best, narrow)]
    assert correlations[0] > correlations[1]


def test_comparisons_have_their_grids_and_blur(parts):
    maps = parts.tests[0].targets[:2]
    same, enlarged, blurred = (as_compared(maps, name) for name in WAYS_TO_COMPARE)
    assert same is maps and enlarged.shape == blurred.shape == (2, 192, 192)
    assert enlarged.mean() == pytest.approx(maps.mean(), rel=0.02)
    assert np.abs(np.diff(blurred, axis=2)).max() < 0.5 * np.abs(np.diff(enlarged, axis=2)).max()
    with pytest.raises(ValueError, match="comparison must be one of network grid, enlarged"):
        as_compared(maps, "huge")


def test_the_truth_scores_highest_in_every_way_of_comparing(parts):
    test = parts.tests[0]
    mean_map = parts.training[0].targets.mean(0)
    maps = blind_maps(mean_map, mean_map, len(test))
    table = scores_by_comparison({"truth": test.targets, "mean map": maps["mean map"]}, test)
    assert table["comparison"].tolist() == [name for name in WAYS_TO_COMPARE for _ in range(2)]
    wide = table.pivot(index="comparison", columns="predictor", values="cc")
    assert (wide["truth"] > wide["mean map"]).all() and wide.loc["network grid", "truth"] == pytest.approx(1)


def test_features_see_contrast_colour_and_complexity():
    image = np.full((96, 96, 3), 128, np.uint8)
    image[:, :32] = np.random.default_rng(0).integers(256, size=(96, 32, 1), dtype=np.uint8)
    image[:, 64:] = np.where(np.arange(32)[:, None] % 2, (200, 80, 80), (80, 150, 80))
    middle = {name: [m[48, 16], m[48, 48], m[48, 80]] for name, m in local_features(image).items()}
    assert middle["luminance contrast"][0] > 5 > middle["luminance contrast"][1]
    assert middle["colour contrast"][2] > 10 > middle["colour contrast"][0]
    assert middle["complexity"][0] > middle["complexity"][2] > middle["complexity"][1]


def test_contrast_is_higher_where_we_put_the_fixations(parts):
    """Fixations moved to each image's pixels of highest contrast, and then to those of lowest."""
    test = parts.tests[0].select(np.arange(12))
    signs = {}
    for kind, order in (("high", -1), ("low", 1)):
        points = []
        for image in test.images:
            contrast = local_features(image)["luminance contrast"]
            y, x = np.unravel_index(np.argsort(order * contrast, axis=None)[:20], contrast.shape)
            points.append((2.0 * x, 2.0 * y))
        frame = contrast_at_fixations(replace(test, fine_points=points))
        signs[kind] = frame["luminance contrast"].mean()
        assert list(frame.columns) == list(LOCAL_FEATURES) and len(frame) == 12
    assert signs["high"] > 0.5 and signs["low"] < 0
