"""A small classifier and pictures that several tests share."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from saliencylib.data.photosets import PhotoSet
from saliencylib.licnn.classifiers import Preprocess, as_classifier
from saliencylib.licnn.crops import PhotoCrops


@pytest.fixture
def model() -> nn.Module:
    """Nine classes, two ReLUs with maps; crops of 32 pixels."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU6()]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 9)]
    return as_classifier(nn.Sequential(*layers), Preprocess(36, 32), [f"class {i}" for i in range(9)])


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def crops() -> list[Image.Image]:
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(5)]


@pytest.fixture
def seen(crops) -> PhotoCrops:
    """Five crops; the second has a box, the fourth one that leaves nothing outside, the others none."""
    boxes = np.zeros((5, 32, 32), bool)
    boxes[1, 8:20, 4:30] = True
    boxes[3] = True
    accepted = [(0,), (1, 4), (2,), (3,), ()]
    return PhotoCrops([f"photo {i}" for i in range(5)], crops, boxes, np.array([0, 1, 2, 3, -1]), accepted)


@pytest.fixture
def photos(tmp_path) -> PhotoSet:
    """Five photographs of 60 x 48 pixels; the last has no class, none has boxes."""
    rng, paths = np.random.default_rng(0), []
    for i in range(5):
        paths.append(tmp_path / f"photo {i}.png")
        small = Image.fromarray(rng.integers(0, 256, (12, 15, 3), dtype=np.uint8))
        small.resize((60, 48)).save(paths[-1])
    labels, accepted = np.array([0, 1, 2, 3, -1]), [(0,), (1, 4), (2,), (3,), ()]
    boxes = [np.empty((0, 4)) for _ in paths]
    return PhotoSet("drawn", paths, labels, boxes, [""] * 5, accepted, [None] * 5)
