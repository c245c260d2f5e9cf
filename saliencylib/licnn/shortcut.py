"""Classifiers that can use the background, and what their maps then show (beyond the paper).

Small classifiers are trained on cluttered digits whose background tells the class, or does not, so that it is
known what they use. A method that shows what a classifier uses must show the difference.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from saliencylib.licnn.method import attribution, classifiers, localisation
from saliencylib.sal_mask.experiment import masks, network as models, experiment as sal_mask, training
from saliencylib import stats
from saliencylib.digits import DigitSet, cluttered_digits
from saliencylib.sal_mask.training import Material, Recipe

KINDS = ("tied", "random")  # backgrounds in training
METHODS = ("LICNN", "Gradient", "Grad-CAM")


def recipe(epochs: int, width: float = 0.25) -> Recipe:
    """AlexNet of paper 1, a quarter wide, without mask or dropout, as its short schedule trains it."""
    return Recipe("alexnet", "plain", 0, epochs, width, 0.0, 16, "adamw", 0.001)


def material(kind: str, train: int, test: int, shrink: int) -> Material:
    """Digits to train on with one kind of background, ``train`` of them, and swapped ones to test on."""
    digits = cluttered_digits(train, backgrounds=kind), swapped_digits(test)
    return sal_mask.digit_material(*digits, ["plain"], shrink)


def classifier(recipe: Recipe, material: Material, device: torch.device) -> nn.Module:
    """The trained network of a recipe, ready for attribution: normalised images (N, 3, H, W) to logits."""
    masked = training.trained(recipe, material, device)
    side = material.train.images.shape[1]
    plain = models.Classifier(masked.first, masked.rest)
    preprocess = classifiers.Preprocess(side, side)
    return classifiers.as_classifier(plain, preprocess, material.train.classes, f"{recipe.network}, digits")


def digit_inputs(
    digits: DigitSet, material: Material, device: torch.device
) -> tuple[list[Image.Image], torch.Tensor, np.ndarray]:
    """Digits as a classifier of ``material`` sees them: pictures, inputs (N, 3, H, W), masks (N, H, W)."""
    factor = digits.images.shape[1] // material.train.images.shape[1]
    images = masks.shrunk(digits.images, factor)
    objects = masks.shrunk(digits.masks.astype(np.float32), factor) > 0.5
    inputs = training.normalised(images, material.train.images, device)
    return [Image.fromarray(image) for image in images], inputs, objects


def swapped_digits(count: int) -> DigitSet:
    """Test digits, each on the background that "tied" ties to the next class."""
    return cluttered_digits(count, split="test", backgrounds="swapped")


@torch.no_grad()
def accuracies(model: nn.Module, digits: DigitSet, inputs: torch.Tensor) -> dict[str, float]:
    """How often (%) the likeliest class is the digit's, and how often the one that "tied" ties to its
    background."""
    first = model(inputs).argmax(1).cpu().numpy()
    return {
        "digit, %": 100 * float((first == digits.labels).mean()),
        "background, %": 100 * float((first == digits.backgrounds).mean()),
    }


def background_shares(
    classifiers_by_kind: Mapping[str, nn.Module], materials: Mapping[str, Material], digits: DigitSet
) -> pd.DataFrame:
    """Where maps of the likeliest class lie: rows method, trained on, image, with energy (share of the map on
    the digit), area (of the digit) and pointing."""
    frames = []
    for kind, model in classifiers_by_kind.items():
        device = next(model.parameters()).device
        _, inputs, objects = digit_inputs(digits, materials[kind], device)
        with torch.no_grad():
            first = model(inputs).argmax(1)
        for method in METHODS:
            maps = attribution.attribute(method, model, inputs, first, batch_size=50)
            found = localisation.scores(maps, objects)
            frames.append(found.assign(method=method, trained=kind, image=range(len(found))))
    return pd.concat(frames, ignore_index=True)


def energy_table(shares: pd.DataFrame) -> pd.DataFrame:
    """Mean energy on the digit above its area by method and training, and the difference between the
    trainings (random minus tied) with its interval over images."""
    above = shares.assign(above=shares["energy"] - shares["area"]).pivot(
        index="image", columns=["method", "trained"], values="above"
    )
    rows = []
    for method in METHODS:
        tied, random = (above[method, kind].to_numpy() for kind in KINDS)
        found = stats.paired_difference(random, tied, "images")
        rows.append((method, tied.mean(), random.mean(), str(found)))
    return pd.DataFrame(rows, columns=["method", *KINDS, "random minus tied"])
