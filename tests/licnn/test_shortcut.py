"""What is said of the maps of small classifiers that go by the background."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from saliencylib.digits import cluttered_digits
from saliencylib.licnn.sanity import randomisation_stages
from saliencylib.licnn.shortcut import (
    METHODS_ASKED,
    TRAINING_BACKGROUNDS,
    background_shares,
    digit_crops,
    energy_table,
    enlarged_digits,
    labelled_crops,
    shortcut_accuracies,
    small_classifier,
)
from saliencylib.sal_mask.masks import block_means
from saliencylib.sal_mask.network import alexnet
from saliencylib.sal_mask.training import normalised_images

pytestmark = pytest.mark.usefixtures("in_process", "own_cache")


def test_accuracies_tell_digit_from_background():
    digits = cluttered_digits(20, split="test", backgrounds="swapped")

    class Background(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.one_hot(torch.as_tensor(digits.backgrounds), 10).float()

    images = np.zeros((4, 24, 24, 3), np.uint8)
    model = small_classifier(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU(), images, (), "net")
    blind = Background()
    blind.weight, blind.preprocess = torch.nn.Parameter(torch.zeros(1)), model.preprocess
    found = shortcut_accuracies(blind, digits, digit_crops(digits, 4))
    assert found == {"digit, %": 0, "background, %": 100}


def test_shares_are_of_every_network_method_and_image(model, seen):
    boxes = np.zeros((5, 32, 32), bool)
    boxes[:, 5:20, 8:25] = True
    models = {("net", how, seed): model for how in TRAINING_BACKGROUNDS for seed in (0, 1)}
    found = background_shares(models, replace(seen, boxes=boxes))
    assert len(found) == 5 * len(METHODS_ASKED) * 4 and found["energy"].between(0, 1).all()


def test_the_table_pairs_by_seed():
    rows = [
        {
            "network": "net",
            "method": m,
            "trained": k,
            "seed": seed,
            "image": i,
            "energy": 0.3 + i / 100 + (k == "random") * (0.1 + seed / 100),
            "area": 0.2,
        }
        for m in METHODS_ASKED
        for k in TRAINING_BACKGROUNDS
        for seed in range(4)
        for i in range(4)
    ]
    table = energy_table(pd.DataFrame(rows))
    assert table["tied"].tolist() == pytest.approx([0.115] * 4) and table["seeds"].eq(4).all()
    assert table["random minus tied"].tolist() == ["0.115 [0.0945, 0.136]"] * 4


def test_digits_have_their_masks_whatever_their_size():
    digits = cluttered_digits(6, split="test", backgrounds="swapped")
    small, large = digit_crops(digits, 3), enlarged_digits(digits, 4, 224)
    assert small.boxes.shape == (6, 32, 32) and small.crops[0].size == (32, 32)
    assert large.boxes.shape == (4, 224, 224) and large.labels.tolist() == digits.labels[:4].tolist()
    shares = [part.boxes[:4].mean((1, 2)) for part in (small, large)]
    assert np.allclose(*shares, atol=0.02) and (shares[0] > 0).all()


def test_a_small_classifier_sees_what_it_was_trained_on():
    digits = cluttered_digits(20, split="test", backgrounds="swapped")
    seen, cpu = digit_crops(digits, 4), torch.device("cpu")
    train = block_means(cluttered_digits(40, backgrounds="tied").images, 4)
    network = alexnet(width=0.1, size=24)
    found = small_classifier(network.first, network.rest, train, digits.classes, "alexnet, digits")
    pixels = np.stack([np.asarray(crop) for crop in seen.crops])
    expected = normalised_images(pixels, train, cpu)
    assert torch.allclose(seen.inputs(found), expected, atol=1e-5)
    assert found(expected).shape == (20, 10) and found.preprocess.crop == 24
    assert np.abs(pixels.astype(int) - block_means(digits.images, 4)).max() <= 1  # but for rounding
    assert [stage for stage, _ in randomisation_stages(found)][-1] == "first.conv1"


def test_labelled_crops_have_no_objects_unless_told():
    images = np.zeros((3, 8, 8, 3), np.uint8)
    found = labelled_crops(images, np.array([2, 0, 1]))
    assert found.accepted == [(2,), (0,), (1,)] and found.boxes.shape == (3, 8, 8) and not found.boxes.any()
