from dataclasses import replace

import numpy as np
import pytest
import torch

from saliencylib import checkpoints, training
from saliencylib.data import Labelled
from saliencylib.training import Recipe

CPU = torch.device("cpu")
RECIPE = Recipe("nin", "RC", 0, 3, 0.0625, 0.5, 8, "adamw", 0.002)


@pytest.fixture(scope="module")
def tiny():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    labelled = Labelled(images, np.arange(20) % 10, tuple("0123456789"), "noise")
    return labelled, rng.random((20, 16, 16)).astype(np.float32)


def train(recipe, tiny):
    labelled, maps = tiny
    return training.accuracy_per_epoch(recipe, labelled, maps, labelled, maps, CPU)


def test_learning_rates_follow_the_paper():
    rates = training.learning_rates(replace(RECIPE, epochs=120, optimiser="sgd", learning_rate=0.001))
    assert rates[0] == rates[39] == pytest.approx(1e-3)
    assert rates[40] == rates[79] == pytest.approx(1e-4)
    assert rates[80] == rates[119] == pytest.approx(1e-5)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_interrupted_equals_uninterrupted(optimiser, own_cache, tiny, monkeypatch):
    recipe = replace(RECIPE, optimiser=optimiser)
    whole = train(recipe, tiny)
    next(own_cache.rglob("*.safetensors")).unlink()
    original = checkpoints.save

    def stop_after_two(path, model, optimiser, epoch, log):
        original(path, model, optimiser, epoch, log)
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tiny)
    monkeypatch.setattr(checkpoints, "save", original)
    assert train(recipe, tiny).equals(whole)


def test_finished_training_is_read_back_and_a_damaged_file_trained_again(own_cache, tiny, monkeypatch):
    whole = train(RECIPE, tiny)
    path = next(own_cache.rglob("*.safetensors"))
    with monkeypatch.context() as patch:
        patch.setattr(training, "_train_one_epoch", lambda *_: pytest.fail("trained again"))
        assert train(RECIPE, tiny).equals(whole)
    path.write_bytes(path.read_bytes()[:100])
    assert train(RECIPE, tiny).equals(whole)


def test_seed_changes_the_result_and_masks_share_their_start(own_cache, tiny):
    first, other = train(RECIPE, tiny), train(replace(RECIPE, seed=1), tiny)
    assert not first["loss"].equals(other["loss"])
    rc, alpha = (training.masked_network(replace(RECIPE, mask=m), 10, 16) for m in ("RC", "Alpha"))
    assert all(torch.equal(a, b) for a, b in zip(rc.parameters(), alpha.parameters(), strict=True))


def test_runs_pair_masks_and_seeds(own_cache, tiny):
    labelled, maps = tiny
    masks = {"plain": (np.ones_like(maps),) * 2, "RC": (maps, maps)}
    log = training.runs(replace(RECIPE, epochs=1), masks, range(2), labelled, labelled, CPU)
    assert log.groupby(["mask", "seed"]).size().to_dict() == {
        (mask, seed): 1 for mask in ("plain", "RC") for seed in (0, 1)
    }


def test_maps_that_do_not_fit_or_hold_nan_are_refused(own_cache, tiny):
    labelled, maps = tiny
    with pytest.raises(ValueError, match="do not fit"):
        train(RECIPE, (labelled, maps[:, :8]))
    damaged = maps.copy()
    damaged[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 20 maps hold NaN"):
        train(RECIPE, (labelled, damaged))


def test_a_network_can_learn(own_cache):
    """Two classes that differ in colour: the loss must fall and the accuracy rise to all right."""
    images = np.zeros((40, 16, 16, 3), np.uint8)
    images[::2, ..., 0] = 200
    images[1::2, ..., 2] = 200
    labelled = Labelled(images, np.arange(40) % 2, ("red", "blue"), "colours")
    log = train(replace(RECIPE, epochs=30, learning_rate=0.01), (labelled, np.ones((40, 16, 16), np.float32)))
    assert log["loss"].iloc[-1] < log["loss"].iloc[0] and log["accuracy"].iloc[-1] == 100
