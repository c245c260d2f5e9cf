"""Energy and contrast inside masks, in closed form."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from saliencylib import data
from saliencylib.licnn import localisation
from saliencylib.licnn.classifiers import Preprocess
from saliencylib.licnn.crops import photo_crops
from saliencylib.licnn.localisation import (
    LOCALISED,
    SALIENCY_MAPS,
    baseline_map,
    energy_inside,
    inside_minus_outside,
    localisation_scores,
    object_scores,
    own_halves,
)
from saliencylib.licnn.method import LICNN
from saliencylib.licnn.results import own_half_table

pytestmark = pytest.mark.usefixtures("in_process", "own_cache")

MASK = np.zeros((1, 4, 4), bool)
MASK[0, :2, :2] = True


def test_energy_of_a_constant_and_of_an_empty_map_is_the_area():
    assert energy_inside(np.ones((1, 4, 4)), MASK) == [0.25]
    assert energy_inside(np.zeros((1, 4, 4)), MASK) == [0.25]


def test_energy_and_contrast_of_a_map_on_the_object():
    on = torch.tensor(MASK).float() * 3
    assert energy_inside(on, MASK) == [1] and inside_minus_outside(on, MASK) == [1]
    assert energy_inside(3 - on, MASK) == [0] and inside_minus_outside(3 - on, MASK) == [-1]
    assert energy_inside(on + 1, MASK) == [16 / 28]


def test_shapes_and_areas_must_fit():
    with pytest.raises(ValueError, match="shape"):
        energy_inside(np.ones((1, 4, 5)), MASK)
    with pytest.raises(ValueError, match="outside"):
        inside_minus_outside(np.ones((1, 4, 4)), np.ones((1, 4, 4), bool))


def test_scores_of_the_object_itself_and_of_its_opposite():
    on = MASK.astype(float)
    best, worst = object_scores(on, MASK).iloc[0], object_scores(1 - on, MASK).iloc[0]
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
    row = object_scores(np.arange(16.0).reshape(1, 4, 4), MASK).iloc[0]
    assert row["auc"] == pytest.approx((0 + 0 + 2 + 2) / (4 * 12))
    assert row["energy"] == pytest.approx(10 / 120)
    assert row["iou"] == pytest.approx(2 / 14) and row["iou_area"] == 0  # above 3: 4 to 15


def test_a_constant_map_knows_nothing():
    row = object_scores(np.ones((1, 4, 4)), MASK).iloc[0]
    assert not row["pointing"] and row["auc"] == 0.5 and row["energy"] == row["area"] and row["iou"] == 0


def test_baselines_ask_no_classifier():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    picture, other = Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())
    centre = baseline_map("centre Gaussian", picture)
    assert centre.shape == (40, 60) and np.allclose(
        np.argwhere(centre > 0.9 * centre.max()).mean(0), [19.5, 29.5]
    )
    noise = baseline_map("random map", picture)
    assert noise.min() == 0 and np.array_equal(noise, baseline_map("random map", picture))
    assert not np.array_equal(noise, baseline_map("random map", other))
    flat = Image.new("RGB", (60, 40), "grey")  # RC finds nothing: ranked by the centre
    assert np.allclose(baseline_map("RC", flat), 1e-6 * centre)
    with pytest.raises(ValueError, match="RC, centre Gaussian, random"):
        baseline_map("FT", picture)


def test_boxes_of_photographs_are_cut_as_they_are():
    masks = photo_crops(data.people(data.photographs()), Preprocess()).boxes
    assert masks.shape == (2, 224, 224) and np.all((masks.mean((1, 2)) > 0.2) & (masks.mean((1, 2)) < 0.6))


def test_every_map_is_scored_against_the_masks(model, seen, monkeypatch):
    masks = np.zeros((5, 32, 32), bool)
    masks[:, 5:20, 8:25] = True
    seen = replace(seen, boxes=masks, labels=np.array([0, 1, 2, 3, 0]))
    asked = [*LOCALISED, *SALIENCY_MAPS]
    found = localisation_scores(model, seen, asked, batch_size=2)
    assert found["map"].drop_duplicates().tolist() == asked
    assert found["image"].tolist() == seen.names * len(asked)
    assert found["label"].tolist() == seen.labels.tolist() * len(asked)
    images, target = model.preprocess.inputs(seen.crops), torch.as_tensor(seen.labels)
    centre = np.stack([baseline_map("centre Gaussian", crop) for crop in seen.crops])
    without = LICNN(model, a=0.0, b=0.0).attribute(images, target).numpy()
    expected = {
        "LICNN": LICNN(model).attribute(images, target),
        "LICNN, released code": LICNN(model, "released_code").attribute(images, target),
        "LICNN, released code, five likeliest": LICNN(model, "released_code").saliency_maps(images),
        "LICNN, gradient-based": LICNN(model).gradient_based_maps(images, target[:, None])[:, 0],
        "LICNN, no inhibition, times centre Gaussian": without * centre,
        "centre Gaussian": centre,
    }
    for name, maps in expected.items():
        energy = found.loc[found["map"] == name, "energy"].to_numpy()
        assert energy == pytest.approx(energy_inside(maps, masks)), name
    monkeypatch.setattr(localisation, "attribute", None)  # finished batches are not computed again
    first = localisation_scores(model, seen.select(range(4)), asked, batch_size=2)
    assert first.equals(found[found["image"] != "photo 4"].reset_index(drop=True))


def test_methods_can_all_explain_the_probability(model, seen):
    seen = replace(seen, boxes=np.stack([seen.boxes[1]] * 5), labels=np.arange(5))
    names = ["LICNN", "Gradient"]
    logit, probability = (localisation_scores(model, seen, names, p) for p in (False, True))
    same = logit["energy"].eq(probability["energy"])
    assert same[logit["map"] == "LICNN"].all() and not same[logit["map"] == "Gradient"].any()


def test_own_halves_of_a_network_that_looks_left(images):
    """Class 0 counts the left half only, class 1 the right half only."""

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.weight = nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = self.relu(self.conv(x).abs()) * self.weight
            left, right = features.chunk(2, 3)
            return torch.stack([left.mean((1, 2, 3)), right.mean((1, 2, 3))], 1)

    torch.manual_seed(0)
    wide = torch.cat([images, images.flip(2)], 3)
    found = own_halves(Halves().eval(), wide, torch.tensor([[0, 1]] * 3), batch_size=2)
    gradient = found[found["map"] == "Gradient"]
    assert (gradient["energy"] > 0.999).all() and gradient["pointing"].all() and len(gradient) == 6
    table = own_half_table(found.assign(classifier="halves")).set_index("map")
    assert table["share in the own half"]["Gradient"] == "1 in all" and table["pairs"].eq(3).all()
    assert table["share minus LICNN's"]["LICNN"] == ""
