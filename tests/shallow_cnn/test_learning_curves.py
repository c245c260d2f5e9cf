from dataclasses import replace

import numpy as np
import pytest

from saliencylib.shallow_cnn.network import learning_curves
from saliencylib.shallow_cnn.training import RECIPES, Trained


def history(train, validation, every=1, noted=2, **recipe):
    """A training whose every epoch noted ``noted`` equal losses, validated every ``every`` epochs."""
    epochs = np.arange(every, len(train) + 1, every)
    steps = np.arange(len(train) * noted)
    settings = replace(RECIPES["starts at the mean map"], epochs=len(train), **recipe)
    return Trained(
        None, settings, steps, np.repeat(train, noted), epochs, np.asarray(validation), np.ones(len(train))
    )


def test_smoothing_keeps_a_constant_and_averages():
    assert np.allclose(learning_curves.smoothed(np.full(9, 2.0), 4), 2)
    assert learning_curves.smoothed(np.array([0.0, 3, 0, 3, 0]), 3)[2] == pytest.approx(2)
    assert learning_curves.smoothed(np.array([1.0, 3.0]), 5).shape == (2,)


def test_knee_of_two_straight_lines_is_their_corner():
    epochs = np.arange(5, 1001, 5)
    losses = np.where(epochs < 250, 1 - 0.9 * epochs / 250, 0.1 - 0.05 * (epochs - 250) / 750)
    assert learning_curves.knee(epochs, losses) == pytest.approx(250, abs=15)
    later = np.where(epochs < 600, 1 - 0.9 * epochs / 600, 0.1 - 0.05 * (epochs - 600) / 400)
    assert learning_curves.knee(epochs, later) == pytest.approx(600, abs=15)


def test_knee_does_not_depend_on_the_scale_of_the_loss():
    epochs = np.arange(1, 101)
    losses = np.exp(-epochs / 10)
    assert learning_curves.knee(epochs, losses) == learning_curves.knee(epochs, 7 * losses + 3)


def test_curves_without_a_knee_have_none():
    assert np.isnan(learning_curves.knee(np.arange(4), np.array([4.0, 3, 2, 1])))
    assert np.isnan(learning_curves.knee(np.arange(6), np.arange(6.0)))


def test_gap_and_drift():
    train = np.linspace(1, 0.5, 20)
    parting = [history(train, train * (1 + 0.01 * np.arange(1, 21)), seed=seed) for seed in (0, 1)]
    frame = learning_curves.by_epoch(parting[0])
    assert frame["gap"].to_numpy() == pytest.approx(0.01 * np.arange(1, 21))
    assert learning_curves.drift(parting).value == pytest.approx(0.01)
    assert learning_curves.last_gaps(parting) == pytest.approx([0.195, 0.195])
    together = [history(train, 1.1 * train, seed=seed) for seed in (0, 1)]
    assert learning_curves.drift(together).value == pytest.approx(0, abs=1e-9)


def test_validated_epochs_are_paired_with_their_own_training_losses():
    train = np.arange(10, 0, -1.0)
    frame = learning_curves.by_epoch(history(train, [7.0, 2.0], every=5))
    assert frame["epoch"].tolist() == [5, 10] and frame["train"].tolist() == [6, 1]


def test_summary_has_a_row_a_training():
    train = np.exp(-np.arange(20) / 3)
    table = learning_curves.summary([history(train, train + 0.1, loss=loss) for loss in ("mse", "l1")])
    assert table["loss"].tolist() == ["MSE", "L1"] and table["knee"].between(1, 20).all()
