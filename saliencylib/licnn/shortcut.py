"""Classifiers that can use the background, and what their maps then show (beyond the paper).

Small classifiers are trained on cluttered digits whose background tells the class ("tied"), or does not
("random"), so that it is known what they use. A method that shows what a classifier uses must show the
difference. Both are tested on digits on the background that "tied" ties to the next class.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from saliencylib import stats
from saliencylib.digits import DigitSet
from saliencylib.licnn.attribution import attribute
from saliencylib.licnn.classifiers import Preprocess, as_classifier
from saliencylib.licnn.crops import PhotoCrops
from saliencylib.licnn.localisation import object_scores
from saliencylib.study.keep import kept, side_by_side

TRAINING_BACKGROUNDS = ("tied", "random")
METHODS_ASKED = ("LICNN", "LICNN, released code", "Gradient", "Grad-CAM")


def small_classifier(
    first: nn.Module, rest: nn.Module, images: np.ndarray, classes: Sequence[str], name: str
) -> nn.Module:
    """A small network in two parts, made ready for attribution like every classifier here.

    Its ``.preprocess`` takes the size, channel means and deviations of its training images, (N, H, W, 3)
    uint8.
    """
    pixels, side = images[::4].reshape(-1, 3) / 255, images.shape[1]
    mean, deviation = pixels.mean(0).tolist(), np.maximum(pixels.std(0), 1 / 255).tolist()
    whole = nn.Sequential(OrderedDict(first=first, rest=rest))
    return as_classifier(whole, Preprocess(side, side, tuple(mean), tuple(deviation)), classes, name)


def digit_crops(digits: DigitSet, shrink: int) -> PhotoCrops:
    """Digits as a small classifier sees them, averaged over ``shrink`` pixels, with their exact masks."""
    crops, masks = (
        [Image.fromarray(one).reduce(shrink) for one in stack]
        for stack in (digits.images, np.uint8(255) * digits.masks)
    )
    return labelled_crops(crops, digits.labels, np.stack([np.asarray(mask) for mask in masks]) > 127)


def enlarged_digits(digits: DigitSet, count: int, side: int) -> PhotoCrops:
    """The first ``count`` digits enlarged to (side, side), with their masks: objects without an ImageNet
    class."""
    some = [Image.fromarray(image).resize((side, side)) for image in digits.images[:count]]
    masks = [np.asarray(Image.fromarray(mask).resize((side, side))) for mask in digits.masks[:count]]
    return labelled_crops(some, digits.labels[:count], np.stack(masks))


def labelled_crops(
    images: Sequence[Image.Image] | np.ndarray, labels: np.ndarray, masks: np.ndarray | None = None
) -> PhotoCrops:
    """Pictures of one size, or images (N, H, W, 3) uint8, with one label each and the masks of their objects,
    (N, H, W) bool (none by default), as ``PhotoCrops``; their names are their places."""
    crops = [image if isinstance(image, Image.Image) else Image.fromarray(image) for image in images]
    masks = np.zeros((len(crops), *crops[0].size[::-1]), bool) if masks is None else masks
    accepted = [(int(label),) for label in labels]
    return PhotoCrops([str(i) for i in range(len(crops))], crops, masks, np.asarray(labels), accepted)


@torch.no_grad()
def shortcut_accuracies(model: nn.Module, digits: DigitSet, seen: PhotoCrops) -> dict[str, float]:
    """How often (%) the likeliest class is the digit's, and how often the one that "tied" ties to its
    background."""
    first = model(seen.inputs(model)).argmax(1).cpu().numpy()
    return {
        "digit, %": 100 * float((first == digits.labels).mean()),
        "background, %": 100 * float((first == digits.backgrounds).mean()),
    }


def background_shares(models: Mapping[tuple[str, str, int], nn.Module], seen: PhotoCrops) -> pd.DataFrame:
    """Where maps of the likeliest class lie, for models by network, training background and seed.

    Rows network, trained (on which background), seed, method, image, with energy (share of the map on the
    digit), area (of the digit) and pointing.
    """
    device = next(next(iter(models.values())).parameters()).device
    found = side_by_side(_shares_of_model, [(model, seen) for model in models.values()], device)
    columns = ("network", "trained", "seed")
    frames = [
        part.assign(**dict(zip(columns, key, strict=True))) for key, part in zip(models, found, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


@kept("tied backgrounds")
def _shares_of_model(model: nn.Module, seen: PhotoCrops) -> pd.DataFrame:
    inputs = seen.inputs(model)
    with torch.no_grad():
        first = model(inputs).argmax(1)
    frames = []
    for method in METHODS_ASKED:
        scores = object_scores(attribute(method, model, inputs, first, batch_size=50), seen.boxes)
        frames.append(scores.assign(method=method, image=range(len(seen))))
    return pd.concat(frames, ignore_index=True)


def energy_table(shares: pd.DataFrame) -> pd.DataFrame:
    """Mean energy on the digit above its area by network, method and training, and the difference between
    the trainings (random minus tied) with its interval over seeds."""
    shares = shares.assign(above=shares["energy"] - shares["area"])
    keys = ["network", "method", "trained", "seed"]
    above = shares.groupby(keys, sort=False)["above"].mean().unstack("trained")
    rows = []
    for (network, method), part in above.groupby(["network", "method"], sort=False):
        tied, random = (part[kind].to_numpy() for kind in TRAINING_BACKGROUNDS)
        found = stats.paired_difference(random, tied)
        rows.append((network, method, tied.mean(), random.mean(), str(found), len(tied)))
    columns = ["network", "method", *TRAINING_BACKGROUNDS, "random minus tied", "seeds"]
    return pd.DataFrame(rows, columns=columns)
