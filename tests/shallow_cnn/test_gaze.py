from dataclasses import replace

import numpy as np
import pytest

from saliencylib.data import REGISTRY, available, fixation_set
from saliencylib.shallow_cnn.gaze import (
    GazeSet,
    densities,
    gaze_pairs,
    gaze_split,
    held_out_of_osie,
    peak_one,
)


@pytest.fixture(scope="module")
def quick():
    return gaze_split("quick", 40, 12)


def everything(parts):
    return [*parts.training, *parts.other_kinds, *parts.validation, *parts.tests]


def fingerprints(sets):
    return {image.tobytes() for part in sets for image in part.images}


def check(part: GazeSet):
    assert part.images.shape == (len(part), 96, 96, 3) and part.images.dtype == np.uint8
    assert part.targets.shape == (len(part), 48, 48) and part.targets.dtype == np.float32
    assert part.targets.min() >= 0 and np.allclose(part.targets.max((1, 2)), 1)
    for (x, y), observers in zip(part.points or [], part.observers or [], strict=True):
        assert len(observers) == len(x)
        assert len(x) == len(y) and x.min() >= 0 and x.max() < 48 and y.min() >= 0 and y.max() < 48
        assert (x == np.floor(x)).all()


def test_quick_parts_have_their_sizes_and_share_no_image(quick):
    assert [len(part) for part in everything(quick)] == [40, 5, 12] and quick.shown is quick.tests[0]
    for part in everything(quick):
        check(part)
        assert part.source == "embedded"
    assert len(fingerprints(everything(quick))) == 57
    table = quick.table()
    assert table["part"].tolist() == ["train", "validate", "test"]
    assert table["images"].tolist() == [40, 5, 12] and (table["fixations an image"] > 1).all()
    pairs = gaze_pairs(quick.training + quick.validation)
    assert pairs.images.shape[0] == pairs.targets.shape[0] == 45


def test_targets_peak_where_people_looked(quick):
    test = quick.tests[0]
    for (x, y), target in zip(test.points, test.targets, strict=True):
        peak_y, peak_x = np.unravel_index(target.argmax(), target.shape)
        assert np.hypot(x - peak_x, y - peak_y).min() < 2
        assert target[y.astype(int), x.astype(int)].mean() > 4 * target.mean()


def test_select_keeps_images_maps_and_points_together(quick):
    test = quick.tests[0]
    part = test.select(np.array([3, 1]))
    assert np.array_equal(part.images[0], test.images[3])
    assert np.array_equal(part.targets[1], test.targets[1])
    assert part.fine_points[0] is test.fine_points[3] and part.observers[1] is test.observers[1]
    assert len(test.select(np.arange(len(test)) < 5)) == len(test.select(slice(5))) == 5


def test_points_lie_on_the_finer_grid(quick):
    test = quick.tests[0]
    for (x, y), (fine_x, fine_y) in zip(test.points, test.fine_points, strict=True):
        assert (x == fine_x // 4).all() and (y == fine_y // 4).all() and fine_x.max() < 192


def test_halves_share_images_and_no_observer(quick):
    test = quick.tests[0]
    first, second = test.halves(seed=1)
    for i in range(len(test)):
        people = set(first.observers[i]), set(second.observers[i])
        assert people[0] and people[1] and not people[0] & people[1]
        assert len(first.points[i][0]) + len(second.points[i][0]) == len(test.points[i][0])
    assert np.array_equal(first.images, test.images)
    assert first.targets.shape == test.targets.shape and not np.array_equal(first.targets, second.targets)
    again, other = test.halves(seed=1)[0], test.halves(seed=2)[0]
    assert np.array_equal(first.targets, again.targets) and not np.array_equal(first.targets, other.targets)


def test_sets_that_cannot_be_halved_are_refused(quick):
    test = quick.tests[0]
    with pytest.raises(ValueError, match="no fixations"):
        replace(test, fine_points=None, observers=None).halves()
    with pytest.raises(ValueError, match="image 0 of cluttered digits has 1 observers"):
        replace(test, observers=[np.zeros_like(o) for o in test.observers]).halves()


def test_densities_on_a_finer_grid_have_the_same_peaks(quick):
    test = quick.tests[0]
    fine = densities(test.fine_points, finer=4)
    assert fine.shape == (12, 192, 192)
    coarse = fine.reshape(12, 48, 4, 48, 4).mean((2, 4))
    for a, b in zip(coarse, test.targets, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.97, "only the rounding to a pixel differs"


def test_peaks_of_one_and_zeros_stay_zeros():
    maps = peak_one(np.stack([np.full((4, 4), 0.5), np.zeros((4, 4))]))
    assert (maps[0] == 1).all() and not maps[1].any()


def test_held_out_images_are_places_three_and_four_of_seven_by_name():
    names = [f"{i:03}" for i in range(14)]
    assert np.flatnonzero(held_out_of_osie(names)).tolist() == [3, 4, 10, 11]
    assert held_out_of_osie(names[::-1]).tolist() == held_out_of_osie(names).tolist()[::-1]


def test_a_set_keeps_the_width_of_its_gaussian_when_halved(quick):
    wide = replace(quick.tests[0], sigma=(4.0, 1.0))
    half = wide.halves()[0]
    assert half.sigma == (4.0, 1.0)
    assert np.allclose(half.targets, densities(half.points, (4.0, 1.0)))
    rows, columns = (np.abs(np.diff(half.targets, axis=axis)).mean() for axis in (1, 2))
    assert rows < columns, "smoother along the wider axis"


def test_mini_sets_are_apart(real_data):
    if not available("osie_mouse"):
        pytest.skip("needs osie_mouse below $SALIENCY_DATA")
    parts = gaze_split("mini", 60, 20)
    for part in everything(parts):
        check(part)
    assert [part.name for part in parts.training] == ["osie mouse"]
    assert [part.name for part in parts.other_kinds] == ["crowd", "scene", "pascal"]
    assert [(part.name, len(part)) for part in parts.validation] == [("osie mouse", 50)]
    assert parts.shown is parts.tests[0] and REGISTRY["osie_mouse"].showable
    names = ["osie mouse", "osie eye", "mit1003", "salicon_val_recovered"]
    assert [part.name for part in parts.tests] == names[: len(parts.tests)] and len(parts.tests) >= 3
    assert all(len(part) == 20 for part in parts.tests)
    assert np.array_equal(parts.tests[0].images, parts.tests[1].images), "one picture, mouse and eye"
    correlations = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1]
        for a, b in zip(*(t.targets for t in parts.tests[:2]), strict=True)
    ]
    assert np.mean(correlations) > 0.6
    assert min(len(np.unique(o)) for o in parts.tests[0].observers) >= 60, "about a hundred people"
    assert abs(sum(len(part) for part in parts.training) - 60) <= 2
    judged = fixation_set("osie").select(held_out_of_osie(fixation_set("osie").names)).images(96, 96)
    whole = gaze_split("mini", None, 20)
    seen = fingerprints([*whole.training, *whole.other_kinds, *parts.validation])
    assert not seen & {image.tobytes() for image in judged} and not seen & fingerprints(parts.tests)
