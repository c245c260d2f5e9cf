"""What is said of the maps of small classifiers that go by the background."""

import pandas as pd
import pytest
import torch

from saliencylib.digits import cluttered_digits
from saliencylib.licnn.shortcut import (
    METHODS_ASKED,
    TRAINING_BACKGROUNDS,
    background_shares,
    energy_table,
    shortcut_accuracies,
)

pytestmark = pytest.mark.usefixtures("in_process", "own_cache")


def test_accuracies_tell_digit_from_background():
    digits = cluttered_digits(20, split="test", backgrounds="swapped")

    class Background(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.one_hot(torch.as_tensor(digits.backgrounds), 10).float()

    found = shortcut_accuracies(Background(), digits, torch.zeros(20, 3, 4, 4))
    assert found == {"digit, %": 0, "background, %": 100}


def test_shares_are_of_every_network_method_and_image(model, images):
    objects = torch.zeros(3, 32, 32, dtype=torch.bool).numpy()
    objects[:, 5:20, 8:25] = True
    both = dict.fromkeys(TRAINING_BACKGROUNDS, model), dict.fromkeys(TRAINING_BACKGROUNDS, images)
    found = background_shares(*both, objects)
    assert len(found) == 3 * len(METHODS_ASKED) * 2 and found["energy"].between(0, 1).all()


def test_the_table_pairs_by_image():
    rows = [
        {
            "method": m,
            "trained": k,
            "image": i,
            "energy": 0.3 + i / 100 + (k == "random") * (0.1 + i / 100),
            "area": 0.2,
        }
        for m in METHODS_ASKED
        for k in TRAINING_BACKGROUNDS
        for i in range(4)
    ]
    table = energy_table(pd.DataFrame(rows))
    assert table["tied"].tolist() == pytest.approx([0.115] * 3)
    assert table["random minus tied"].tolist() == ["0.115 [0.0945, 0.136]"] * 3
