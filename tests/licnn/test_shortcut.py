"""Small classifiers that go by the background, and what is said of their maps."""

import numpy as np
import pandas as pd
import pytest
import torch

from saliencylib.licnn.method import shortcut
from saliencylib.digits import BACKGROUNDS

pytestmark = pytest.mark.usefixtures("in_process")

CPU = torch.device("cpu")


@pytest.fixture
def material(own_cache):
    return shortcut.material("tied", 40, 20, 4)


def test_swapped_digits_lie_on_the_next_classs_background(own_cache):
    digits = shortcut.swapped_digits(20)
    assert np.array_equal(digits.backgrounds, (digits.labels + 1) % len(BACKGROUNDS))


def test_the_classifier_is_the_trained_network_without_its_mask(material):
    recipe = shortcut.recipe(epochs=1, width=0.125)
    model = shortcut.classifier(recipe, material, CPU)
    pictures, inputs, objects = shortcut.digit_inputs(shortcut.swapped_digits(20), material, CPU)
    masked = shortcut.training.trained(recipe, material, CPU)
    assert torch.allclose(model(inputs), masked(inputs, torch.ones(20, 24, 24)), atol=1e-5)
    assert pictures[0].size == (24, 24) and objects.shape == (20, 24, 24) and objects.any((1, 2)).all()
    found = shortcut.background_shares({"tied": model}, {"tied": material}, shortcut.swapped_digits(20))
    assert len(found) == 20 * len(shortcut.METHODS) and found["energy"].between(0, 1).all()


def test_accuracies_tell_digit_from_background(own_cache):
    digits = shortcut.swapped_digits(20)

    class Background(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.one_hot(torch.as_tensor(digits.backgrounds), 10).float()

    found = shortcut.accuracies(Background(), digits, torch.zeros(20, 3, 4, 4))
    assert found == {"digit, %": 0, "background, %": 100}


def test_the_table_pairs_by_image():
    rows = [
        {
            "method": method,
            "trained": kind,
            "image": i,
            "energy": 0.3 + (kind == "random") * 0.1 + 0.01 * i,
            "area": 0.2,
        }
        for method in shortcut.METHODS
        for kind in shortcut.KINDS
        for i in range(4)
    ]
    table = shortcut.energy_table(pd.DataFrame(rows))
    assert table["tied"].tolist() == pytest.approx([0.115] * 3)
    assert table["random minus tied"].tolist() == ["0.1 [0.1, 0.1]"] * 3
