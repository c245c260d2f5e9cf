from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from saliencylib.shallow_cnn import figures
from saliencylib.shallow_cnn.gaze import gaze_split
from saliencylib.shallow_cnn.network import shallow_saliency_cnn
from saliencylib.shallow_cnn.results import METRIC_LABELS
from saliencylib.shallow_cnn.training import GAZE_RECIPES, GazeTraining
from saliencylib.stats import Estimate


@pytest.fixture(scope="module")
def trained():
    """Two losses with two seeds each, whose validation loss is lowest in the fourth of six epochs."""
    validation = np.array([1, 0.5, 0.3, 0.2, 0.25, 0.3])
    train, epochs = np.array([1, 0.5, 0.3, 0.2, 0.15, 0.12]), np.arange(1, 7)
    model = shallow_saliency_cnn(width=0.25, hidden=8)
    base = replace(GAZE_RECIPES["stopped in time"], epochs=6)
    return [
        GazeTraining(
            model, model, replace(base, loss=loss, seed=seed), epochs, train, epochs, validation, epochs
        )
        for loss in ("mse", "l1")
        for seed in (0, 1)
    ]


def test_figures_of_curves_say_what_they_show(trained):
    levels = {"mean map": 0.25, "median map": 0.4}
    losses = figures.figure_losses(trained[:2], levels, "digits")
    title = "MSE: validation loss lowest in epochs 4 to 4, 20 % below the better constant map's"
    assert losses.get_suptitle().replace("\n", " ") == title
    title = figures.figure_over_fitting(trained, "digits").get_suptitle().replace("\n", " ")
    assert "rises by 22.5 % (MSE), 50.0 % (L1)" in title
    start = trained[0].model.conv1.weight.detach().numpy()
    assert "by 50 % of their size" in figures.figure_4(trained[0], 2 * start, "d").get_suptitle()
    rows = [("a", s, 1 - s / 10, s / 10) for s in range(3)] + [("b", s, 1.2, 0.0) for s in range(3)]
    plateau = figures.figure_plateau(pd.DataFrame(rows, columns=["name", "step", "loss", "spread"]), "digits")
    assert "Of 2 starts and optimisers 1 came below" in plateau.get_suptitle()
    assert [text.get_text() for text in plateau.legends[0].get_texts()] == ["a: step 1", "b: not in 2"]


def test_figure_of_predictions_says_how_far_they_follow_the_picture():
    shown = gaze_split("quick", 16, 6).shown
    maps = {"MSE": shown.targets, "L1": shown.targets**2}
    examples = {"good": np.array([1]), "bad": np.array([3])}
    figure = figures.figure_predictions(shown, maps, examples, np.full(6, 0.3), seed=0)
    assert figure.get_suptitle().startswith("CC is 1.00 with the own truth,")
    assert "0.30" in figure.get_suptitle() and "good\nCC 1.00" in figure.axes[0].get_title()


def with_intervals(value, found, **columns):
    rows = [
        {"method": method, "test": "d", "metric": m, value: d, "low": d - 0.05, "high": d + 0.05}
        for m in METRIC_LABELS
        for method, d in found.items()
    ]
    return pd.DataFrame(rows).assign(**columns)


def test_figures_of_scores_say_what_they_show():
    means = with_intervals("value", {"MSE": 0.6, "mean map": 0.5, "hidden": 0.9}, n=9, unit="images")
    figure = figures.figure_scores(means, ["MSE", "mean map"])
    assert figure.get_suptitle() == "CC on d: MSE 0.60, mean map 0.50"
    assert "d (n = 9 images)" in figure.get_supxlabel()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["MSE", "mean map"]
    variants = with_intervals("difference", {"L1": -0.1, "KL divergence": 0.1}, n=6)
    title = " ".join(figures.figure_variants(variants).get_suptitle().split())
    assert title == "Ahead of MSE in all of CC, NSS, shuffled AUC: 1 of 2 on d"
    bias = pd.DataFrame(
        [(name, seed, 0.5 + seed / 9) for name in ("MSE", "L1") for seed in (0, 1)],
        columns=["loss", "seed", "bias"],
    )
    figure = figures.figure_centre_bias(bias, {"MSE": 1.0, "L1": 0.9}, 0.4, "d", images=9)
    title = figure.get_suptitle().replace("\n", " ")
    assert title == "CC with the mean map: MSE 0.56, L1 0.56, the true maps 0.40"


def test_figures_of_controls_say_what_they_show():
    entropies = {"predictions": np.full(10, 9.0), "truths": np.append(np.full(9, 8.0), 10)}
    title = (
        figures.figure_width(entropies | {"mean map": np.array([9.5])}, "d").get_suptitle().replace("\n", " ")
    )
    assert "truth on 90 %" in title and "mean map on 0 %" in title
    scores = pd.DataFrame([[0.1, 0.5, 0.9], [0.2, 0.4, 0.8]])
    alone, partial = Estimate(0.93, 0.9, 0.95, 3), Estimate(0.4, 0.3, 0.5, 3)
    title = figures.figure_failures(scores, alone, partial, "d").get_suptitle()
    assert title.startswith("What fails in one run") and "0.93" in title and "0.40" in title
    contrast = pd.DataFrame(
        {"feature": ["a", "b"], "data": "d", "difference": 0.2, "low": [0.1, -0.1], "high": 0.3, "n": 5}
    )
    assert "1 of 2 (2 features, 1 data set)" in figures.figure_contrast(contrast).get_suptitle()
