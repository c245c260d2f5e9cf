"""Classifiers that can use the background, and what their maps then show (beyond the paper).

Small classifiers are trained on cluttered digits whose background tells the class ("tied"), or does not
("random"), so that it is known what they use. A method that shows what a classifier uses must show the
difference. Both are tested on digits on the background that "tied" ties to the next class.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import nn

from saliencylib import stats
from saliencylib.digits import DigitSet
from saliencylib.licnn.attribution import attribute
from saliencylib.licnn.localisation import object_scores

TRAINING_BACKGROUNDS = ("tied", "random")
METHODS_ASKED = ("LICNN", "Gradient", "Grad-CAM")


@torch.no_grad()
def shortcut_accuracies(model: nn.Module, digits: DigitSet, inputs: torch.Tensor) -> dict[str, float]:
    """How often (%) the likeliest class is the digit's, and how often the one that "tied" ties to its
    background."""
    first = model(inputs).argmax(1).cpu().numpy()
    return {
        "digit, %": 100 * float((first == digits.labels).mean()),
        "background, %": 100 * float((first == digits.backgrounds).mean()),
    }


def background_shares(
    models: Mapping[str, nn.Module], inputs: Mapping[str, torch.Tensor], objects: np.ndarray
) -> pd.DataFrame:
    """Where maps of the likeliest class lie, for models and their inputs (N, 3, H, W) by training background.

    Rows method, trained (on which background), image, with energy (share of the map on the digit (N, H, W)
    bool), area (of the digit) and pointing.
    """
    frames = []
    for kind, model in models.items():
        with torch.no_grad():
            first = model(inputs[kind]).argmax(1)
        for method in METHODS_ASKED:
            found = object_scores(attribute(method, model, inputs[kind], first, batch_size=50), objects)
            frames.append(found.assign(method=method, trained=kind, image=range(len(found))))
    return pd.concat(frames, ignore_index=True)


def energy_table(shares: pd.DataFrame) -> pd.DataFrame:
    """Mean energy on the digit above its area by method and training, and the difference between the
    trainings (random minus tied) with its interval over images."""
    shares = shares.assign(above=shares["energy"] - shares["area"])
    above = shares.pivot(index="image", columns=["method", "trained"], values="above")
    rows = []
    for method in METHODS_ASKED:
        tied, random = (above[method, kind].to_numpy() for kind in TRAINING_BACKGROUNDS)
        found = stats.paired_difference(random, tied, "images")
        rows.append((method, tied.mean(), random.mean(), str(found)))
    return pd.DataFrame(rows, columns=["method", *TRAINING_BACKGROUNDS, "random minus tied"])
