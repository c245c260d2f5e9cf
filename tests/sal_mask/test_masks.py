import numpy as np
import pytest

from saliencylib.data import Labelled
from saliencylib.digits import cluttered_digits
from saliencylib.sal_mask import masks


def noise(count, side=24):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    images[:, 8:14, 8:14] = rng.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    return Labelled(images, np.arange(count) % 2, ("a", "b"), "noise")


def test_controls_keep_what_they_promise(own_cache, in_process):
    names = (*masks.MASK_CONTROLS, *masks.SALIENCY_MASKS)
    made = masks.mask_maps(names, noise(6), noise(4))
    assert list(made) == list(names)
    for train, test in made.values():
        assert train.shape == (6, 24, 24) and test.shape == (4, 24, 24)
        assert train.dtype == test.dtype == np.float32
        assert min(train.min(), test.min()) >= 0 and max(train.max(), test.max()) <= 1
    rc, rc_test = made["RC"]
    assert (made["plain"][0] == 1).all()
    assert np.allclose(made["grey"][1], rc.mean()), "the level comes from the training images"
    assert np.allclose(made["own mean"][1], rc_test.mean((1, 2))[:, None, None])
    assert np.allclose(made["inverted RC"][0], 1 - rc)
    assert np.allclose(made["centre"][0].mean(), rc.mean(), atol=1e-4)
    assert (made["centre"][0] == made["centre"][0][0]).all()
    assert sorted(map(bytes, rc)) == sorted(map(bytes, made["shuffled"][0]))


def test_rc_is_computed_only_for_masks_that_need_it(monkeypatch):
    monkeypatch.setattr(masks, "map_stack", lambda *_: pytest.fail("computed"))
    assert (masks.mask_maps(["plain"], noise(2), noise(2))["plain"][0] == 1).all()


def test_shuffled_masks_are_those_of_other_images():
    others = masks.other_images(50)
    assert (others != np.arange(50)).all() and sorted(others) == list(range(50))
    assert (others != masks.other_images(50, seed=1)).any()
    with pytest.raises(ValueError, match="no other"):
        masks.other_images(1)


def test_unknown_mask_is_named_and_photographs_have_no_exact_one():
    with pytest.raises(ValueError, match="unknown masks blue; valid masks: plain, grey"):
        masks.mask_maps(("RC", "blue"), noise(2), noise(2))
    with pytest.raises(ValueError, match="unknown masks true"):
        masks.mask_maps(("true",), noise(2), noise(2))


@pytest.mark.parametrize("mean", [0.05, 0.25, 0.9])
def test_centre_has_its_mean_and_peaks_in_the_centre(mean):
    found = masks.centre_of_mean((33, 21), mean)
    assert found.mean() == pytest.approx(mean, abs=1e-4) and found.max() == found[16, 10] == 1
    assert np.allclose(found, found[::-1, ::-1]) and found[16, 0] == pytest.approx(found[0, 10], abs=1e-6)


@pytest.mark.parametrize("mean", [0.0, 1.0, np.nan])
def test_centre_of_an_impossible_mean_is_refused(mean):
    with pytest.raises(ValueError, match=r"between \.001 and \.999"):
        masks.centre_of_mean((9, 9), mean)


def test_degraded_masks_fall_evenly_from_exact_to_foreign():
    rng = np.random.default_rng(0)
    objects = np.zeros((40, 48, 48), bool)
    for place in objects:
        y, x = rng.integers(0, 36, 2)
        place[y : y + 12, x : x + 12] = True
    steps = [masks.degraded(objects, share) for share in np.linspace(0, 1, 11)]
    aucs = [np.mean(masks.object_aucs(maps, objects)) for maps in steps]
    assert aucs[0] == 1 and 0.4 < aucs[-1] < 0.6
    assert (np.diff(aucs) < -0.02).all() and (np.diff(aucs) > -0.09).all()
    assert (steps[-1] == objects[masks.other_images(40)]).all()
    assert (masks.degraded(objects, 0.5) != masks.degraded(objects, 0.5, seed=1)).any()
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\]"):
        masks.degraded(objects, 1.1)


def test_bounding_boxes_hold_the_object_and_touch_it():
    objects = np.zeros((1, 6, 7), bool)
    objects[0, 1, 2] = objects[0, 3, 5] = True
    expected = np.zeros((6, 7))
    expected[1:4, 2:6] = 1
    assert (masks.bounding_boxes(objects)[0] == expected).all()
    with pytest.raises(ValueError, match="mask 1 is empty"):
        masks.bounding_boxes(np.concatenate([objects, np.zeros_like(objects)]))


def test_block_means_average_images_and_maps():
    stack = np.arange(32, dtype=np.uint8).reshape(1, 4, 8, 1).repeat(3, 3)
    small = masks.block_means(stack, 2)
    assert small.shape == (1, 2, 4, 3) and small.dtype == np.uint8
    assert abs(int(small[0, 0, 0, 0]) - stack[0, :2, :2, 0].mean()) <= 0.5
    maps = stack[..., 0] / np.float32(32)
    assert np.allclose(masks.block_means(maps, 2)[0, 0, 0], maps[0, :2, :2].mean())
    assert masks.block_means(maps, 1) is maps


def test_stl10_gives_the_first_of_each_class_in_their_order(monkeypatch):
    labels = np.array([1, 0, 1, 0, 1])
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    monkeypatch.setattr(masks, "stl10", lambda split: Labelled(images, labels, ("a", "b"), split))
    found = masks.labelled_images("stl10", "train", 1)
    assert found.labels.tolist() == [1, 0] and found.images[:, 0, 0, 0].tolist() == [0, 1]
    assert len(masks.labelled_images("stl10", "test", None).labels) == 5


def test_material_makes_maps_at_full_size_and_knows_the_exact_object(own_cache, in_process):
    digits = cluttered_digits(10)
    names = ["RC", *masks.EXACT_MASKS]
    whole, half = (masks.material(digits, digits, names, shrink) for shrink in (1, 2))
    assert half.train_images.shape == (10, 48, 48, 3) and half.maps["RC"][1].shape == (10, 48, 48)
    assert np.allclose(half.maps["RC"][0], masks.block_means(whole.maps["RC"][0], 2))
    assert half.train_labels is digits.labels and half.classes == 10
    assert (whole.maps["true"][0] == digits.masks).all()
    assert (whole.maps["box"][0] >= digits.masks).all()
    assert masks.DEGRADED_MASKS[-1] == "true, 100 % foreign"
    last = whole.maps[masks.DEGRADED_MASKS[-1]][0]
    assert (last == digits.masks[masks.other_images(10)]).all()


def test_quality_is_measured_at_every_size(own_cache, in_process):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 40, (60, 90, 3), dtype=np.uint8)
    mask = np.zeros((60, 90), bool)
    mask[20:40, 30:60] = True
    image[mask] = (250, 220, 30)
    quality = masks.quality_by_size([image] * 2, [mask] * 2, sizes=(90, 30))
    assert quality.groupby(["mask", "size"]).size().eq(2).all() and quality["mask"].nunique() == 6
    assert quality.query("mask == 'HC'")["auc"].min() > 0.95
    foreign = masks.quality_by_size([image] * 2, [~mask] * 2, sizes=(30,))
    assert foreign.query("mask == 'HC'")["auc"].max() < 0.05
