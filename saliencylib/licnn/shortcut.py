"""Classifiers that can use the background, and what their maps then show (beyond the paper).

Small classifiers are trained on cluttered digits whose background tells the class ("tied"), or does not
("random"), so that it is known what they use. A method that shows what a classifier uses must show the
difference. Both are tested on digits on the background that "tied" ties to the next class.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from saliencylib import stats
from saliencylib.digits import DigitSet, cluttered_digits
from saliencylib.licnn.attribution import attribute
from saliencylib.licnn.classifiers import Preprocess, as_classifier
from saliencylib.licnn.crops import PhotoCrops
from saliencylib.licnn.localisation import object_scores
from saliencylib.sal_mask.masks import block_means, material
from saliencylib.sal_mask.network import Classifier
from saliencylib.sal_mask.training import ClassifierRecipe, trained_classifier

TRAINING_BACKGROUNDS = ("tied", "random")
METHODS_ASKED = ("LICNN", "LICNN, released code", "Gradient", "Grad-CAM")


def digit_classifier(how: str, seed: int, sizes: Mapping[str, int], device: torch.device) -> nn.Module:
    """Paper 1's narrow AlexNet, without a mask, trained on cluttered digits with backgrounds ``how``.

    ``sizes``: train and test (images), epochs, shrink (the images' factor). Like every classifier here it has
    ``.preprocess``, whose means and deviations are those of its training images.
    """
    recipe = ClassifierRecipe("alexnet", "plain", seed, sizes["epochs"], 0.25, 0.0, 16, "adamw", 0.001, 0)
    train = cluttered_digits(sizes["train"], backgrounds=how)
    test = cluttered_digits(sizes["test"], split="test", backgrounds="swapped")
    given = material(train, test, ["plain"], sizes["shrink"])
    network = trained_classifier(recipe, given, device)
    pixels = given.train_images[::4].reshape(-1, 3) / 255
    side = given.train_images.shape[1]
    mean, deviation = pixels.mean(0).tolist(), np.maximum(pixels.std(0), 1 / 255).tolist()
    preprocess = Preprocess(side, side, tuple(mean), tuple(deviation))
    return as_classifier(Classifier(network.first, network.rest), preprocess, test.classes, "alexnet, digits")


def digit_crops(digits: DigitSet, shrink: int) -> PhotoCrops:
    """Digits as a small classifier sees them, averaged over ``shrink`` pixels, with their exact masks."""
    pixels, masks = (block_means(part, shrink) for part in (digits.images, digits.masks.astype(np.float32)))
    return _as_crops(digits, [Image.fromarray(image) for image in pixels], masks > 0.5)


def enlarged_digits(digits: DigitSet, count: int, side: int) -> PhotoCrops:
    """The first ``count`` digits enlarged to (side, side), with their masks: objects without an ImageNet
    class."""
    some = [Image.fromarray(image).resize((side, side)) for image in digits.images[:count]]
    masks = [np.asarray(Image.fromarray(mask).resize((side, side))) for mask in digits.masks[:count]]
    return _as_crops(digits, some, np.stack(masks))


def _as_crops(digits: DigitSet, crops: list[Image.Image], masks: np.ndarray) -> PhotoCrops:
    labels = digits.labels[: len(crops)]
    names, accepted = [f"digit {i}" for i in range(len(crops))], [(int(label),) for label in labels]
    return PhotoCrops(names, crops, masks, labels, accepted)


@torch.no_grad()
def shortcut_accuracies(model: nn.Module, digits: DigitSet, inputs: torch.Tensor) -> dict[str, float]:
    """How often (%) the likeliest class is the digit's, and how often the one that "tied" ties to its
    background."""
    first = model(inputs).argmax(1).cpu().numpy()
    return {
        "digit, %": 100 * float((first == digits.labels).mean()),
        "background, %": 100 * float((first == digits.backgrounds).mean()),
    }


def background_shares(models: Mapping[tuple[str, int], nn.Module], seen: PhotoCrops) -> pd.DataFrame:
    """Where maps of the likeliest class lie, for models by training background and seed.

    Rows method, trained (on which background), seed, image, with energy (share of the map on the digit), area
    (of the digit) and pointing.
    """
    frames = []
    for (kind, seed), model in models.items():
        inputs = seen.inputs(model)
        with torch.no_grad():
            first = model(inputs).argmax(1)
        for method in METHODS_ASKED:
            found = object_scores(attribute(method, model, inputs, first, batch_size=50), seen.boxes)
            frames.append(found.assign(method=method, trained=kind, seed=seed, image=range(len(found))))
    return pd.concat(frames, ignore_index=True)


def energy_table(shares: pd.DataFrame) -> pd.DataFrame:
    """Mean energy on the digit above its area by method and training, and the difference between the
    trainings (random minus tied) with its interval over seeds."""
    shares = shares.assign(above=shares["energy"] - shares["area"])
    above = shares.groupby(["method", "trained", "seed"])["above"].mean().unstack(["method", "trained"])
    rows = []
    for method in METHODS_ASKED:
        tied, random = (above[method, kind].to_numpy() for kind in TRAINING_BACKGROUNDS)
        found = stats.paired_difference(random, tied)
        rows.append((method, tied.mean(), random.mean(), str(found), len(tied)))
    return pd.DataFrame(rows, columns=["method", *TRAINING_BACKGROUNDS, "random minus tied", "seeds"])
