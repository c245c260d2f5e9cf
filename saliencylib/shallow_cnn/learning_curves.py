"""What the loss curves of a training say: where learning slows, and how far train and validation part.

The paper reads both off its curves by eye (sections VIII and X); here each has a rule that was fixed before
any long run.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from saliencylib import stats
from saliencylib.shallow_cnn.training import Trained
from saliencylib.stats import Estimate

FEWEST = 5  # values that a knee needs


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean of values (n,); near the ends over the values that there are."""
    window = min(window, len(values))
    sums = np.convolve(values, np.ones(window), mode="same")
    return sums / np.convolve(np.ones(len(values)), np.ones(window), mode="same")


def by_epoch(trained: Trained) -> pd.DataFrame:
    """Rows at validated epochs: epoch, train (mean of the epoch's noted losses), validation, gap.

    gap is how much the validation loss exceeds the training loss, as a share of the latter.
    """
    noted = trained.train_losses.reshape(trained.recipe.epochs, -1).mean(1)
    epochs = trained.validation_epochs.astype(int)
    train, validation = noted[epochs - 1], trained.validation_losses
    columns = {"epoch": epochs, "train": train, "validation": validation, "gap": validation / train - 1}
    return pd.DataFrame(columns)


def knee(epochs: np.ndarray, losses: np.ndarray) -> float:
    """The epoch at which learning slows: where the smoothed curve lies farthest below its chord.

    The chord joins the first and the last value, both axes are scaled to [0, 1], and the curve is smoothed
    over a twentieth of its values (the rule of Satopaa et al., "Finding a Kneedle in a Haystack", 2011). NaN
    for fewer than five values, or for a curve that does not end lower than it began.
    """
    if len(losses) < FEWEST:
        return float("nan")
    curve = smoothed(np.asarray(losses, float), max(1, len(losses) // 20))
    if curve[-1] >= curve[0]:
        return float("nan")
    x = (epochs - epochs[0]) / (epochs[-1] - epochs[0])
    y = (curve - curve[-1]) / (curve[0] - curve[-1])
    return float(epochs[np.argmax(1 - x - y)])


def knees(trained: Sequence[Trained]) -> np.ndarray:
    """The ``knee`` of each training's validation loss (n,)."""
    return np.array([knee(run.validation_epochs, run.validation_losses) for run in trained])


def drift(trained: Sequence[Trained]) -> Estimate:
    """How much the gap grows over the second half of training, an epoch, by linear regression (SC-X3)."""
    slopes = []
    for run in trained:
        late = by_epoch(run).query("epoch > epoch.max() / 2")
        slopes.append(np.polyfit(late["epoch"], late["gap"], 1)[0])
    return stats.mean_interval(np.array(slopes))


def last_gaps(trained: Sequence[Trained]) -> np.ndarray:
    """The mean gap over the last tenth of each training's validated epochs (n,)."""
    frames = [by_epoch(run)["gap"].to_numpy() for run in trained]
    return np.array([gaps[-max(1, len(gaps) // 10) :].mean() for gaps in frames])


def summary(trained: Sequence[Trained]) -> pd.DataFrame:
    """A row a training: loss, seed, knee (epoch), gap at the end, and epochs in all."""
    return pd.DataFrame(
        {
            "loss": [run.recipe.name for run in trained],
            "seed": [run.recipe.seed for run in trained],
            "knee": knees(trained),
            "gap at the end": last_gaps(trained),
            "epochs": [run.recipe.epochs for run in trained],
        }
    )
