from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from saliencylib.shallow_cnn import figures
from saliencylib.shallow_cnn.network import shallow_saliency_cnn
from saliencylib.shallow_cnn.results import PRINTED_METRICS, means_by_tenth
from saliencylib.shallow_cnn.training import GAZE_RECIPES, GazeTraining
from saliencylib.stats import Estimate


@pytest.fixture(scope="module")
def trained():
    """Two losses with two seeds each; every training loss is two thirds of the validation loss."""
    losses = np.array([1, 0.5, 0.3, 0.2, 0.15, 0.12])
    epochs = np.arange(1, 7)
    base = replace(GAZE_RECIPES["starts at the mean map"], epochs=6)
    model = shallow_saliency_cnn(width=0.25, hidden=8)
    return [
        GazeTraining(model, replace(base, loss=loss, seed=seed), epochs, losses / 1.5, epochs, losses, epochs)
        for loss in ("mse", "l1")
        for seed in (0, 1)
    ]


def test_figures_of_curves_say_what_they_show(trained):
    assert "epoch 3 (MSE), 3 (L1)" in figures.figure_knees(trained, "digits").get_suptitle()
    assert "50 % (MSE), 50 % (L1)" in figures.figure_gaps(trained, "digits").get_suptitle()
    assert "ends 40 % below" in figures.figure_losses(trained[:2], 0.2, "digits").get_suptitle()
    start = trained[0].model.conv1.weight.detach().numpy()
    assert "correlate 1.00" in figures.figure_4(trained[0], start).get_suptitle()
    rows = [("a", s, 1 - s / 10, s / 10) for s in range(3)] + [("b", s, 1.2, 0.0) for s in range(3)]
    plateau = figures.figure_plateau(pd.DataFrame(rows, columns=["name", "step", "loss", "spread"]), "digits")
    assert "1 of 2 starts and optimisers" in plateau.get_suptitle()
    assert [text.get_text() for text in plateau.legends[0].get_texts()] == ["a: step 1", "b: stays"]


def with_intervals(value, differences, **columns):
    rows = [
        {"predictor": p, "data": "d", "metric": m, value: d, "low": d - 0.05, "high": d + 0.05}
        for m in PRINTED_METRICS
        for p, d in differences.items()
    ]
    return pd.DataFrame(rows).assign(**columns)


def test_figures_of_scores_say_what_they_show():
    means = with_intervals("value", {"MSE": 0.6, "mean map": 0.5})
    assert "on 1 of 1 test sets" in figures.figure_scores(means).get_suptitle()
    variants = with_intervals("difference", {"L1": -0.1, "KL divergence": 0.1}, seeds=3)
    assert "1 of 2 variants clearly beat" in figures.figure_variants(variants).get_suptitle()
    bias = pd.DataFrame(
        [(name, seed, 0.5 + seed / 9) for name in ("MSE", "L1") for seed in (0, 1)],
        columns=["loss", "seed", "bias"],
    )
    assert "0 of 2 seeds" in figures.figure_centre_bias(bias, "d").get_suptitle()
    shares = with_intervals("share", {"net": 40, "RC": -900, "centre": 0, "other people": 100}, n=9)
    figure = figures.figure_shares(shares, "centre", "d")
    assert "net goes 40 % of the way" in figure.get_suptitle()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["net", "RC"]
    assert all(panel.get_xlim()[0] >= figures.SHARES_DRAWN[0] for panel in figure.axes)


def test_figures_of_controls_say_what_they_show():
    wide, narrow = np.full(10, 9.0), np.append(np.full(9, 8.0), 10)
    assert "on 90 % of images" in figures.figure_width(wide, narrow, "d").get_suptitle()
    scores = pd.DataFrame({0: [0.1, 0.5, 0.9], 1: [0.2, 0.4, 0.8]})
    assert "0.93" in figures.figure_failures(scores, Estimate(0.93, 0.9, 0.95, 3), "d").get_suptitle()
    tenths = means_by_tenth(np.append(np.full(4, 2.0), np.ones(36)), np.arange(40.0))
    assert "2.00 times" in figures.figure_smoothness(tenths, "d").get_suptitle()
    contrast = pd.DataFrame(
        {"feature": ["a", "b"], "difference": 0.2, "low": [0.1, -0.1], "high": 0.3, "n": 5}
    )
    assert "1 of 2 features" in figures.figure_contrast(contrast, "d").get_suptitle()
