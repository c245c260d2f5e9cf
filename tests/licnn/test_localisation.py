"""Energy and contrast inside masks, in closed form."""

import numpy as np
import pytest
import torch
from PIL import Image

from saliencylib import data
from saliencylib.licnn.method import localisation
from saliencylib.licnn.classifiers import Preprocess
from saliencylib.licnn.localisation import baseline_map, box_masks, contrast, energy_inside, scores

MASK = np.zeros((1, 4, 4), bool)
MASK[0, :2, :2] = True


def test_energy_of_a_constant_and_of_an_empty_map_is_the_area():
    assert energy_inside(np.ones((1, 4, 4)), MASK) == [0.25]
    assert energy_inside(np.zeros((1, 4, 4)), MASK) == [0.25]


def test_energy_and_contrast_of_a_map_on_the_object():
    on = torch.tensor(MASK).float() * 3
    assert energy_inside(on, MASK) == [1] and contrast(on, MASK) == [1]
    assert energy_inside(3 - on, MASK) == [0] and contrast(3 - on, MASK) == [-1]
    assert energy_inside(on + 1, MASK) == [16 / 28]


def test_shapes_and_areas_must_fit():
    with pytest.raises(ValueError, match="shape"):
        energy_inside(np.ones((1, 4, 5)), MASK)
    with pytest.raises(ValueError, match="outside"):
        contrast(np.ones((1, 4, 4)), np.ones((1, 4, 4), bool))


def test_scores_of_the_object_itself_and_of_its_opposite():
    on = MASK.astype(float)
    best, worst = scores(on, MASK).iloc[0], scores(1 - on, MASK).iloc[0]
    assert best.to_dict() == {"pointing": True, "auc": 1, "energy": 1, "area": 0.25, "iou": 1, "iou_area": 1}
    assert worst.to_dict() == {
        "pointing": False,
        "auc": 0,
        "energy": 0,
        "area": 0.25,
        "iou": 0,
        "iou_area": 0,
    }


def test_scores_in_closed_form():
    """Values 0 to 15 in reading order: the object's are 0, 1, 4 and 5."""
    row = scores(np.arange(16.0).reshape(1, 4, 4), MASK).iloc[0]
    assert row["auc"] == pytest.approx((0 + 0 + 2 + 2) / (4 * 12))
    assert row["energy"] == pytest.approx(10 / 120)
    assert row["iou"] == pytest.approx(2 / 14) and row["iou_area"] == 0  # above 3: 4 to 15


def test_a_constant_map_knows_nothing():
    row = scores(np.ones((1, 4, 4)), MASK).iloc[0]
    assert not row["pointing"] and row["auc"] == 0.5 and row["energy"] == row["area"] and row["iou"] == 0


def test_baselines_ask_no_classifier():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    picture, other = Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())
    centre = baseline_map("centre Gaussian", picture)
    assert centre.shape == (40, 60) and np.allclose(
        np.argwhere(centre > 0.9 * centre.max()).mean(0), [19.5, 29.5]
    )
    noise = baseline_map("random", picture)
    assert noise.min() == 0 and np.array_equal(noise, baseline_map("random", picture))
    assert not np.array_equal(noise, baseline_map("random", other))
    flat = Image.new("RGB", (60, 40), "grey")  # RC finds nothing: ranked by the centre
    assert np.allclose(baseline_map("RC", flat), 1e-6 * centre)
    with pytest.raises(ValueError, match="RC, centre Gaussian, random"):
        baseline_map("FT", picture)


def test_people_have_boxes_in_the_crop():
    chosen = localisation.people(data.photographs())
    assert [path.stem for path in chosen.paths] == ["astronaut", "camera"]
    masks = box_masks(chosen, Preprocess())
    assert masks.shape == (2, 224, 224) and np.all((masks.mean((1, 2)) > 0.2) & (masks.mean((1, 2)) < 0.6))


def test_all_people_are_found_where_the_data_is(real_data):
    if not data.available("nips2017_dev"):
        pytest.skip("needs nips2017_dev below $SALIENCY_DATA")
    chosen = localisation.people(data.nips2017_dev())
    assert len(chosen) == len(localisation.PEOPLE) - 2
    area = box_masks(chosen, Preprocess()).mean((1, 2))
    assert np.all((area > 0.02) & (area < 0.95))  # a team of footballers fills .89 of one picture


def test_masks_are_cut_as_their_photographs_are():
    image = np.zeros((60, 90, 3), np.uint8)
    image[20:40, 30:60] = 255
    objects = data.Segmented([image], [image[..., 0] > 0], "drawn")
    crops, masks = localisation.segmented_crops(objects, [0], Preprocess(60, 56))
    assert masks.shape == (1, 56, 56) and np.array_equal(masks[0], np.asarray(crops[0])[..., 0] > 127)
    assert masks[0].sum() == 20 * 30
