from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from saliencylib.study import checkpoints
from saliencylib.sal_mask.experiment import network as models, training
from saliencylib.data import Labelled
from saliencylib.sal_mask.training import Material, Recipe

CPU = torch.device("cpu")
RECIPE = Recipe("nin", "RC", 0, 3, 0.0625, 0.5, 8, "adamw", 0.002)


def material(images, labels, maps, classes=tuple("0123456789")):
    labelled = Labelled(images, labels, classes, "noise")
    return Material(labelled, labelled, {"RC": (maps, maps), "plain": (np.ones_like(maps),) * 2})


@pytest.fixture(scope="module")
def tiny():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    return material(images, np.arange(20) % 10, rng.random((20, 16, 16)).astype(np.float32))


def train(recipe, tiny):
    return training.accuracy_per_epoch(recipe, tiny, CPU)


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


def test_seed_and_mask_change_the_result(own_cache, tiny):
    first = train(RECIPE, tiny)
    assert not first["loss"].equals(train(replace(RECIPE, seed=1), tiny)["loss"])
    assert not first["loss"].equals(train(replace(RECIPE, mask="plain"), tiny)["loss"])


def test_runs_mark_every_row_with_its_training(own_cache, tiny):
    recipes = [replace(RECIPE, epochs=1, mask=mask, seed=seed) for seed in (0, 1) for mask in ("plain", "RC")]
    log = training.runs([*recipes, replace(recipes[0], connection="raw")], tiny, CPU)
    assert list(log.columns[:6]) == [*training.KEYS, "epoch"]
    assert log.groupby(training.KEYS).ngroups == len(log) == 5
    assert (log["accuracy"] == (log["accuracy_even"] + log["accuracy_odd"]) / 2).all()
    with pytest.raises(ValueError, match="no recipe"):
        training.runs([], tiny, CPU)


@pytest.mark.parametrize("connection", models.CONNECTIONS)
def test_variants_share_their_start(connection):
    """Every mask and connection begins with the plain network's weights of the same seed."""
    first = training.masked_network(RECIPE, 10, 16).state_dict()
    other = training.masked_network(replace(RECIPE, connection=connection), 10, 16).state_dict()
    shared = [value for name, value in other.items() if "branch" not in name]
    assert all(torch.equal(a, b) for a, b in zip(first.values(), shared, strict=True))


def test_a_finished_training_keeps_its_network_and_drops_its_optimiser(own_cache, tiny):
    train(RECIPE, tiny)
    path = next(own_cache.rglob("*.safetensors"))
    names = load_file(path)
    assert not [name for name in names if name.startswith("optimiser/")]
    network = training.trained(RECIPE, tiny, CPU)
    assert not network.training
    assert all(torch.equal(names[f"model/{n}"], value) for n, value in network.state_dict().items())


def test_accuracy_elsewhere_is_that_of_the_trained_network(own_cache, tiny):
    log = training.runs([RECIPE], tiny, CPU)
    black = material(np.zeros_like(tiny.test.images), tiny.test.labels, tiny.maps["RC"][1])
    found = training.accuracy_elsewhere([RECIPE], tiny, {"same": tiny, "black": black}, CPU)
    found = found.set_index("images")["accuracy"]
    assert found["same"] == log["accuracy"].iloc[-1]
    white_masks = replace(black, maps={"RC": (tiny.maps["plain"][1],) * 2})
    again = training.accuracy_elsewhere([RECIPE], tiny, {"white": white_masks}, CPU)["accuracy"]
    assert found["black"] <= 20 and again[0] <= 20, "equal images differ by their masks only"


def test_the_mask_follows_the_image_through_flips_and_crops():
    """A map that is a copy of the image's first channel stays one, and something did move."""
    images = torch.rand(16, 3, 12, 12)
    moved, maps = training.augmented(images, images[:, 0], torch.Generator().manual_seed(0))
    assert torch.equal(moved[:, 0], maps) and moved.shape == images.shape
    assert not torch.equal(moved, images)
    again, _ = training.augmented(images, images[:, 0], torch.Generator().manual_seed(0))
    other, _ = training.augmented(images, images[:, 0], torch.Generator().manual_seed(1))
    assert torch.equal(moved, again) and not torch.equal(moved, other)
    positions = torch.arange(144.0).reshape(1, 1, 12, 12).expand(200, 3, -1, -1)
    inside = training.augmented(positions, positions[:, 0], torch.Generator().manual_seed(0))[0][:, 0, 6, 6]
    flipped_or_not = {int(v) for v in inside.tolist()}
    assert len(flipped_or_not) > 60, "81 crops in two orientations"


def test_augmentation_and_precision_change_the_training(own_cache, tiny):
    plain = train(RECIPE, tiny)
    assert not train(replace(RECIPE, augment=True), tiny)["loss"].equals(plain["loss"])
    rounded = train(replace(RECIPE, precision="bfloat16"), tiny)["loss"]
    assert not rounded.equals(plain["loss"]) and np.allclose(rounded, plain["loss"], rtol=0.05)
    with pytest.raises(ValueError, match="one of float32, bfloat16"):
        train(replace(RECIPE, precision="float16"), tiny)


def test_maps_that_do_not_fit_or_hold_nan_are_refused(own_cache, tiny):
    maps = tiny.maps["RC"][0]
    with pytest.raises(ValueError, match="do not fit"):
        train(RECIPE, replace(tiny, maps={"RC": (maps[:, :8], maps)}))
    damaged = maps.copy()
    damaged[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 20 maps hold NaN"):
        train(RECIPE, replace(tiny, maps={"RC": (damaged, maps)}))


def test_a_network_can_learn(own_cache):
    """Two classes that differ in colour: the loss must fall and the accuracy rise to all right."""
    images = np.zeros((40, 16, 16, 3), np.uint8)
    images[::2, ..., 0] = 200
    images[1::2, ..., 2] = 200
    colours = material(images, np.arange(40) % 2, np.ones((40, 16, 16), np.float32), ("red", "blue"))
    log = train(replace(RECIPE, epochs=30, learning_rate=0.01), colours)
    assert log["loss"].iloc[-1] < log["loss"].iloc[0] and log["accuracy"].iloc[-1] == 100
