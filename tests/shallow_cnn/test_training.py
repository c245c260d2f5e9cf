from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from saliencylib.shallow_cnn import training
from saliencylib.shallow_cnn.network import GAZE_LOSSES
from saliencylib.shallow_cnn.training import (
    GAZE_RECIPES,
    GazePairs,
    GazeRecipe,
    mean_map,
    plateau_trace,
    predicted_maps,
    train_gaze_network,
    untrained_gaze_network,
)
from saliencylib.study.keep import Checkpoint

CPU = torch.device("cpu")
SMALL = replace(
    GAZE_RECIPES["stopped in time"],
    width=0.1,
    hidden=16,
    batch=8,
    epochs=4,
    falls=None,
    patience=None,
    loss_every=2,
    seed=3,
)
pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(20, 96, 96, 3), dtype=np.uint8)
    targets = rng.random((20, 48, 48), dtype=np.float32)
    return GazePairs(images[:14], targets[:14]), GazePairs(images[14:], targets[14:])


def same(first, second):
    weights = (list(trained.model.state_dict().values()) for trained in (first, second))
    return all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def checkpoints(cache):
    return list((cache / "shallow_cnn").iterdir())


def test_history_has_the_printed_rhythm(pairs):
    trained = train_gaze_network(replace(SMALL, validate_every=2), *pairs, CPU)
    assert trained.train_steps.tolist() == [2, 4, 6, 8, 10, 12, 14, 16]  # 28 images with flips: 4 steps
    assert len(trained.train_losses) == 8
    assert trained.validation_epochs.tolist() == [2, 4]
    assert len(trained.seconds) == 4


@pytest.mark.parametrize("loss", GAZE_LOSSES)
def test_every_loss_starts_at_the_mean_map_and_falls(pairs, loss):
    recipe = replace(SMALL, loss=loss, epochs=12, rates=(1e-3, 1e-3), hidden=64, width=0.25)
    maps = predicted_maps(untrained_gaze_network(recipe, pairs[0]), recipe, pairs[1].images, CPU)
    mean = mean_map(pairs[0])
    expected = mean / mean.max() if loss in ("kl", "bhattacharyya") else mean
    assert np.abs(maps - expected).max() < 0.02
    trained = train_gaze_network(recipe, *pairs, CPU)
    assert trained.train_losses[-4:].mean() < trained.train_losses[:4].mean()


def test_rate_falls_over_its_epochs_and_stays():
    recipe = replace(SMALL, rates=(1.0, 0.1), epochs=10, falls=4)
    assert [recipe.rate(epoch) for epoch in range(6)] == pytest.approx([1, 0.7, 0.4, 0.1, 0.1, 0.1])
    assert replace(recipe, falls=None).rate(9) == pytest.approx(0.1)


def test_training_stops_at_its_patience():
    patient = replace(SMALL, patience=2)
    assert not patient.stops([]) and not patient.stops([3, 1, 2])
    assert patient.stops([3, 1, 2, 2]) and not patient.stops([3, 2, 2, 1])
    assert not replace(patient, run_on=True).stops([3, 1, 2, 2])
    assert not replace(patient, patience=None).stops([3, 1, 2, 2])


@pytest.fixture
def made_up_losses(monkeypatch):
    """Validation losses 3, 1, 2, 2, ... whatever the network does."""
    losses = iter([3.0, 1.0, *[2.0] * 20])
    monkeypatch.setattr(training, "_loss_and_spread", lambda *_: (next(losses), 0.0))


def test_the_network_of_the_best_epoch_is_judged_and_training_stops(pairs, own_cache, made_up_losses):
    stopped = train_gaze_network(replace(SMALL, patience=2, epochs=9, rates=(1e-3, 1e-3)), *pairs, CPU)
    assert len(stopped.seconds) == 4 and stopped.best_epoch == 2 and stopped.judged_loss == 1
    two = train_gaze_network(replace(SMALL, epochs=2, rates=(1e-3, 1e-3)), *pairs, CPU)
    assert same(stopped, two) and stopped.model is stopped.best
    assert not torch.equal(stopped.last.conv1.weight, stopped.best.conv1.weight)


def test_a_stopped_training_is_loaded_with_both_networks(pairs, own_cache, made_up_losses, monkeypatch):
    recipe = replace(SMALL, patience=2, epochs=9)
    first = train_gaze_network(recipe, *pairs, CPU)
    monkeypatch.setattr(training, "_steps", None)
    again = train_gaze_network(recipe, *pairs, CPU)
    assert same(first, again) and torch.equal(first.last.output.bias, again.last.output.bias)


def test_running_on_passes_the_same_best_network(pairs, tmp_path, monkeypatch):
    recipe = replace(SMALL, patience=1, epochs=8, rates=(0.01, 0.01))
    stopped = train_gaze_network(recipe, *pairs, CPU)
    ran_on = train_gaze_network(replace(recipe, run_on=True), *pairs, CPU)
    assert len(ran_on.seconds) == 8
    count = len(stopped.seconds)
    assert np.array_equal(ran_on.validation_losses[:count], stopped.validation_losses)
    assert ran_on.judged_loss <= stopped.judged_loss


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("where", ["after an epoch", "within an epoch", "within a write"])
def test_interrupted_equals_uninterrupted(pairs, tmp_path, monkeypatch, optimiser, where):
    recipe = replace(SMALL, optimiser=optimiser, rates=(0.01, 0.001))
    whole = train_gaze_network(recipe, *pairs, CPU)
    monkeypatch.setenv("SALIENCY_CACHE", str(tmp_path / "parts"))
    with monkeypatch.context() as patch:
        if where == "within an epoch":
            rate = GazeRecipe.rate
            patch.setattr(GazeRecipe, "rate", lambda self, epoch: rate(self, epoch) if epoch < 2 else 1 / 0)
        else:
            save = interrupted(Checkpoint.save, after=where == "after an epoch")
            patch.setattr(Checkpoint, "save", save)
        with pytest.raises((KeyboardInterrupt, ZeroDivisionError)):
            train_gaze_network(recipe, *pairs, CPU)
    assert len(checkpoints(tmp_path / "parts")) == 1  # the checkpoint and no half-written file
    continued = train_gaze_network(recipe, *pairs, CPU)
    assert same(whole, continued)
    for name in ("train_steps", "train_losses", "validation_epochs", "validation_losses"):
        assert np.array_equal(getattr(whole, name), getattr(continued, name)), name


def interrupted(save, after: bool):
    def saves(self, model, optimiser, epoch, log):
        if epoch < 2 or after:
            save(self, model, optimiser, epoch, log)
        if epoch == 2:
            raise KeyboardInterrupt

    return saves


def test_checkpoints_come_at_their_rhythm_and_at_the_end(pairs, monkeypatch):
    epochs = []
    save = Checkpoint.save
    monkeypatch.setattr(Checkpoint, "save", lambda *args: (epochs.append(args[3]), save(*args)))
    train_gaze_network(replace(SMALL, epochs=7, checkpoint_every=3), *pairs, CPU)
    assert epochs == [3, 6, 7]


def test_finished_run_is_loaded_and_a_damaged_one_made_again(pairs, own_cache, monkeypatch):
    first = train_gaze_network(SMALL, *pairs, CPU)
    with monkeypatch.context() as patch:
        patch.setattr(training, "_steps", None)
        again = train_gaze_network(SMALL, *pairs, CPU)
    assert same(first, again)
    assert np.array_equal(first.train_losses, again.train_losses)
    assert np.array_equal(first.seconds, again.seconds)
    (path,) = checkpoints(own_cache)
    path.write_bytes(path.read_bytes()[:1000])
    assert same(first, train_gaze_network(SMALL, *pairs, CPU))


def test_seed_fixes_and_changes_the_result(pairs, tmp_path, monkeypatch):
    first = train_gaze_network(SMALL, *pairs, CPU)
    monkeypatch.setenv("SALIENCY_CACHE", str(tmp_path / "other"))
    assert same(first, train_gaze_network(SMALL, *pairs, CPU))
    assert not same(first, train_gaze_network(replace(SMALL, seed=4), *pairs, CPU))


def test_other_data_is_another_run(pairs, own_cache):
    train, validation = pairs
    train_gaze_network(SMALL, train, validation, CPU)
    train_gaze_network(SMALL, GazePairs(train.images, 1 - train.targets), validation, CPU)
    assert len(checkpoints(own_cache)) == 2


def test_losses_share_start_and_order(pairs, monkeypatch):
    starts = [untrained_gaze_network(replace(SMALL, loss=loss), pairs[0]) for loss in ("mse", "l1")]
    assert torch.equal(starts[0].full.weight, starts[1].full.weight)
    orders, floats = {}, training._floats
    for name, changes in {"mse": {}, "l1": {"loss": "l1"}, "other": {"seed": 4}}.items():
        seen = orders[name] = []
        noted = lambda images, seen=seen: (seen.append(images.sum().item()), floats(images))[1]  # noqa: E731
        monkeypatch.setattr(training, "_floats", noted)
        train_gaze_network(replace(SMALL, **changes), *pairs, CPU)
    assert orders["mse"] == orders["l1"] != orders["other"]
    assert orders["mse"][:4] != orders["mse"][5:9]  # another order in the second epoch


def test_flips_are_trained_on(pairs):
    images, targets = training.on_device(pairs[0], CPU, flips=True)
    assert torch.equal(images[14:].flip(3), images[:14])
    assert torch.equal(targets[14:].flip(2), targets[:14])
    assert np.allclose(mean_map(pairs[0]), targets.mean(0), atol=1e-6)


def test_predictions_are_kept_and_do_not_depend_on_what_is_predicted_with_them(pairs, monkeypatch):
    model = train_gaze_network(SMALL, *pairs, CPU).model
    monkeypatch.setattr(training, "PREDICTED_AT_ONCE", 4)
    maps = predicted_maps(model, SMALL, pairs[1].images, CPU)
    assert maps.shape == (6, 48, 48) and maps.dtype == np.float32
    assert maps.min() >= 0 and maps.max() <= 1
    assert np.allclose(maps[5], predicted_maps(model, SMALL, pairs[1].images[5:], CPU)[0], atol=1e-5)
    monkeypatch.setattr(training, "_floats", None)
    assert np.array_equal(predicted_maps(model, SMALL, pairs[1].images, CPU), maps)
    with pytest.raises(TypeError, match="not callable"):
        predicted_maps(model, replace(SMALL, loss="kl"), pairs[1].images, CPU)


def test_what_cannot_be_trained_is_refused(pairs):
    for bad, message in (
        ({"loss": "l3"}, "loss must be"),
        ({"start": "zero"}, "start must be"),
        ({"optimiser": "lbfgs"}, "optimiser must be"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(SMALL, **bad)
    with pytest.raises(ValueError, match="at least one image"):
        train_gaze_network(SMALL, GazePairs(pairs[0].images[:0], pairs[0].targets[:0]), pairs[1], CPU)
    with pytest.raises(FloatingPointError, match="not finite"):
        train_gaze_network(replace(SMALL, optimiser="sgd", rates=(1e30, 1e30)), *pairs, CPU)


def test_trace_follows_the_training_and_is_kept(pairs, monkeypatch):
    recipe = replace(SMALL, validate_every=1, epochs=2)
    found = plateau_trace(recipe, *pairs, steps=8, every=2, device=CPU)
    assert found["step"].tolist() == [0, 2, 4, 6, 8]
    assert found["loss"].iloc[0] == pytest.approx(1, abs=0.02) and found["spread"].iloc[0] < 0.1
    of_mean_map = np.square(mean_map(pairs[0]) - pairs[1].targets).mean()
    trained = train_gaze_network(recipe, *pairs, CPU)
    assert found["loss"].iloc[[2, 4]].to_numpy() * of_mean_map == pytest.approx(trained.validation_losses)
    monkeypatch.setattr(training, "_steps", None)
    assert plateau_trace(recipe, *pairs, 8, 2, CPU).equals(found)


def test_constants_are_best_for_their_loss(pairs):
    targets = torch.from_numpy(np.concatenate([pairs[0].targets, pairs[0].targets[:, :, ::-1]]))
    maps = {"mse": mean_map(pairs[0]), "l1": training.median_map(pairs[0])}
    for loss, other in (("mse", "l1"), ("l1", "mse")):
        of = {
            n: float(GAZE_LOSSES[loss].of(torch.from_numpy(m).expand_as(targets), targets))
            for n, m in maps.items()
        }
        assert of[loss] < of[other]


def test_the_step_that_leaves_the_plateau():
    rows = pd.DataFrame({"step": [0, 5, 10], "loss": [1.3, 0.99, 0.97]})
    assert training.left_plateau(rows) == 10
    assert np.isnan(training.left_plateau(rows[:2]))


def test_many_trainings_equal_one_by_one_on_any_number_of_cores(pairs, tmp_path, monkeypatch):
    made = [replace(SMALL, epochs=2, loss=loss, seed=seed) for loss in ("mse", "l1") for seed in (0, 1)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = [train_gaze_network(recipe, *pairs, CPU) for recipe in made]
    monkeypatch.setenv("SALIENCY_CACHE", str(tmp_path / "together"))
    torch.set_num_threads(2)
    together = training.train_gaze_networks(made, *pairs, CPU)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    assert [t.recipe for t in together] == made
