"""Energy and contrast inside masks, in closed form."""

import numpy as np
import pytest
import torch

from saliencylib import data
from saliencylib.classifiers import Preprocess
from saliencylib.localisation import PEOPLE, box_masks, contrast, energy_inside

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


def test_people_have_boxes_in_the_crop():
    photos = data.photographs()
    chosen = photos.select([i for i, path in enumerate(photos.paths) if path.name in PEOPLE])
    for i, path in enumerate(chosen.paths):
        chosen.boxes[i] = PEOPLE[path.name]
    masks = box_masks(chosen, Preprocess())
    assert masks.shape == (2, 224, 224) and np.all((masks.mean((1, 2)) > 0.2) & (masks.mean((1, 2)) < 0.6))
