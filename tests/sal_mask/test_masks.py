import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from saliencylib.sal_mask.experiment import masks


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 24, 24, 3), dtype=np.uint8)
    images[:, 8:14, 8:14] = rng.integers(0, 256, (6, 1, 1, 3), dtype=np.uint8)
    return masks.mask_maps(masks.NAMES, images, images[:4], tmp_path_factory.mktemp("maps"))


def test_every_mask_fits_the_images_and_lies_in_0_to_1(made):
    assert set(made) == set(masks.NAMES)
    for train, test in made.values():
        assert train.shape == (6, 24, 24) and test.shape == (4, 24, 24)
        assert min(train.min(), test.min()) >= 0 and max(train.max(), test.max()) <= 1


def test_controls_keep_what_they_promise(made):
    rc, rc_test = made["RC"]
    assert (made["plain"][0] == 1).all()
    assert np.allclose(made["grey"][1], rc.mean()), "the level comes from the training images"
    assert np.allclose(made["own mean"][1], rc_test.mean((1, 2))[:, None, None])
    assert np.allclose(made["inverted RC"][0], 1 - rc)
    assert np.allclose(made["centre"][0].mean(), rc.mean(), atol=1e-4)
    assert (made["centre"][0] == made["centre"][0][0]).all()


def test_shuffled_masks_are_those_of_other_images(made):
    rc, shuffled = made["RC"][0], made["shuffled"][0]
    assert sorted(map(bytes, rc)) == sorted(map(bytes, shuffled))
    assert (masks.others(50) != np.arange(50)).all() and sorted(masks.others(50)) == list(range(50))
    assert (masks.others(50) != masks.others(50, seed=1)).any()
    with pytest.raises(ValueError, match="no other"):
        masks.others(1)


def test_unknown_mask_is_named():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="unknown masks blue; valid masks: plain, grey"):
        masks.mask_maps(("RC", "blue"), images, images)


@pytest.mark.parametrize("mean", [0.05, 0.25, 0.9])
def test_centre_gaussian_has_its_mean_and_peaks_in_the_centre(mean):
    found = masks.centre_gaussian((33, 21), mean)
    assert found.mean() == pytest.approx(mean, abs=1e-4) and found.max() == found[16, 10] == 1
    assert np.allclose(found, found[::-1, ::-1]) and found[16, 0] == pytest.approx(found[0, 10], abs=1e-6)


@pytest.mark.parametrize("mean", [0.0, 1.0, np.nan])
def test_centre_gaussian_of_an_impossible_mean_is_refused(mean):
    with pytest.raises(ValueError, match=r"between \.001 and \.999"):
        masks.centre_gaussian((9, 9), mean)


def blobs(count=40):
    rng = np.random.default_rng(0)
    objects = np.zeros((count, 48, 48), bool)
    for i in range(count):
        y, x = rng.integers(0, 36, 2)
        objects[i, y : y + 12, x : x + 12] = True
    return objects


def test_degraded_masks_fall_evenly_from_exact_to_foreign():
    objects = blobs()
    aucs = []
    for share in np.linspace(0, 1, 11):
        maps = masks.degraded(objects, share)
        aucs.append(
            np.mean([roc_auc_score(o.ravel(), m.ravel()) for o, m in zip(objects, maps, strict=True)])
        )
    assert aucs[0] == 1 and 0.4 < aucs[-1] < 0.6
    assert (np.diff(aucs) < -0.02).all() and (np.diff(aucs) > -0.09).all()
    assert (masks.degraded(objects, 1.0) == objects[masks.others(40)]).all()
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


def test_shrinking_averages_blocks_of_images_and_maps():
    stack = np.arange(32, dtype=np.uint8).reshape(1, 4, 8, 1).repeat(3, 3)
    small = masks.shrunk(stack, 2)
    assert small.shape == (1, 2, 4, 3) and small.dtype == np.uint8
    assert abs(int(small[0, 0, 0, 0]) - stack[0, :2, :2, 0].mean()) <= 0.5
    maps = stack[..., 0] / np.float32(32)
    assert np.allclose(masks.shrunk(maps, 2)[0, 0, 0], maps[0, :2, :2].mean())
    assert masks.shrunk(maps, 1) is maps
