import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from saliencylib.sal_mask import training
from saliencylib.sal_mask.network import CONNECTIONS
from saliencylib.sal_mask.training import RECIPE_KEYS, ClassifierRecipe, Material
from saliencylib.study import keep
from saliencylib.study.keep import Checkpoint
from saliencylib.study.session import start

CPU = torch.device("cpu")
RECIPE = ClassifierRecipe("nin", "RC", 0, 3, 0.0625, 0.5, 8, "adamw", 0.002, 0)

pytestmark = pytest.mark.usefixtures("own_cache", "in_process")


@pytest.fixture(autouse=True)
def _own_results(own_cache, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(own_cache / "results"))
    monkeypatch.setattr(keep, "RECORD_AFTER", math.inf)


def material(images, labels, maps, classes=10):
    every = {"RC": (maps, maps), "plain": (np.ones_like(maps),) * 2}
    return Material(images, labels, images, labels, classes, every)


@pytest.fixture(scope="module")
def tiny():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    return material(images, np.arange(20) % 10, rng.random((20, 16, 16)).astype(np.float32))


def log_of(recipe, tiny):
    return training.accuracies_by_epoch([recipe], tiny, CPU)


def forget_tables(own_cache):
    for path in own_cache.glob("accuracies/*"):
        path.unlink()


def test_learning_rates_follow_the_paper():
    rates = training.learning_rates(replace(RECIPE, epochs=120, optimiser="sgd", learning_rate=0.001))
    assert rates[0] == rates[39] == pytest.approx(1e-3)
    assert rates[40] == rates[79] == pytest.approx(1e-4)
    assert rates[80] == rates[119] == pytest.approx(1e-5)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_interrupted_equals_uninterrupted(optimiser, own_cache, tiny, monkeypatch):
    recipe = replace(RECIPE, optimiser=optimiser)
    whole = log_of(recipe, tiny)
    next(own_cache.rglob("*.safetensors")).unlink()
    forget_tables(own_cache)
    original = Checkpoint.save

    def stop_after_two(self, model, optimiser, epoch, log):
        original(self, model, optimiser, epoch, log)
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            log_of(recipe, tiny)
    assert log_of(recipe, tiny).equals(whole)


def test_finished_trainings_are_read_back_and_a_damaged_file_trained_again(own_cache, tiny, monkeypatch):
    whole = log_of(RECIPE, tiny)
    path = next(own_cache.rglob("*.safetensors"))
    with monkeypatch.context() as patch:
        patch.setattr(training, "_train_one_epoch", lambda *_: pytest.fail("trained again"))
        forget_tables(own_cache)
        assert log_of(RECIPE, tiny).equals(whole), "from the checkpoint"
        path.unlink()
        assert log_of(RECIPE, tiny).equals(whole), "from the table"
    forget_tables(own_cache)
    path.write_bytes(b"damaged")
    assert log_of(RECIPE, tiny).equals(whole)


def test_a_table_depends_on_the_maps_that_its_recipes_use(own_cache, tiny):
    log_of(RECIPE, tiny)
    changed = {"plain": tiny.maps["RC"], "RC": tiny.maps["RC"]}
    log_of(RECIPE, replace(tiny, maps=changed))
    assert len(list(own_cache.glob("accuracies/*"))) == 1, "another mask's maps do not matter"
    log_of(RECIPE, replace(tiny, maps={"RC": tiny.maps["plain"]}))
    log_of(RECIPE, replace(tiny, test_labels=tiny.test_labels[::-1].copy()))
    assert len(list(own_cache.glob("accuracies/*"))) == 3


def test_seed_and_mask_change_the_result(tiny):
    first = log_of(RECIPE, tiny)
    assert not first["loss"].equals(log_of(replace(RECIPE, seed=1), tiny)["loss"])
    assert not first["loss"].equals(log_of(replace(RECIPE, mask="plain"), tiny)["loss"])


def test_recipes_pair_masks_and_seeds_and_rows_are_marked_with_them(tiny):
    by_network = {"epochs": {"nin": 1}, "widths": {"nin": 0.0625}, "learning_rates": {"nin": 0.002}}
    settings = SimpleNamespace(**by_network, dropout=0.0, batch=8, optimiser="adamw", train_per_class=0)
    recipes = training.classifier_recipes(settings, "nin", ("plain", "RC"), range(2), batch=4)
    assert [(r.mask, r.seed) for r in recipes] == [("plain", 0), ("RC", 0), ("plain", 1), ("RC", 1)]
    assert {(r.epochs, r.width, r.batch) for r in recipes} == {(1, 0.0625, 4)}
    log = training.accuracies_by_epoch([*recipes, replace(recipes[0], connection="raw")], tiny, CPU)
    assert list(log.columns[:8]) == [*RECIPE_KEYS, "epoch"]
    assert log.groupby(RECIPE_KEYS).ngroups == len(log) == 5
    assert (log["accuracy"] == (log["accuracy_even"] + log["accuracy_odd"]) / 2).all()
    with pytest.raises(ValueError, match="no recipe"):
        training.accuracies_by_epoch([], tiny, CPU)


@pytest.mark.parametrize("connection", CONNECTIONS)
def test_variants_share_their_start(connection):
    """Every mask and connection begins with the plain network's weights of the same seed."""
    first = training.masked_network(RECIPE, 10, 16).state_dict()
    other = training.masked_network(replace(RECIPE, connection=connection), 10, 16).state_dict()
    shared = [value for name, value in other.items() if "branch" not in name]
    assert all(torch.equal(a, b) for a, b in zip(first.values(), shared, strict=True))


def test_accuracies_elsewhere_are_those_of_the_trained_network(tiny):
    log = log_of(RECIPE, tiny)
    black = replace(tiny, test_images=np.zeros_like(tiny.test_images))
    found = training.accuracies_elsewhere([RECIPE], tiny, {"same": tiny, "black": black}, CPU)
    found = found.set_index("images")["accuracy"]
    assert found["same"] == log["accuracy"].iloc[-1]
    assert found["black"] <= 20, "equal images differ by their masks only"


def test_maps_that_do_not_fit_or_hold_nan_are_refused(tiny):
    maps = tiny.maps["RC"][0]
    with pytest.raises(ValueError, match="do not fit"):
        log_of(RECIPE, replace(tiny, maps={"RC": (maps[:, :8], maps)}))
    damaged = maps.copy()
    damaged[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 20 maps hold NaN"):
        log_of(RECIPE, replace(tiny, maps={"RC": (damaged, maps)}))


def test_a_network_can_learn():
    """Two classes that differ in colour: the loss must fall and the accuracy rise to all right."""
    images = np.zeros((40, 16, 16, 3), np.uint8)
    images[::2, ..., 0] = 200
    images[1::2, ..., 2] = 200
    colours = material(images, np.arange(40) % 2, np.ones((40, 16, 16), np.float32), 2)
    log = log_of(replace(RECIPE, epochs=30, learning_rate=0.01), colours)
    assert log["loss"].iloc[-1] < log["loss"].iloc[0] and log["accuracy"].iloc[-1] == 100


def test_every_seed_draws_its_own_training_images_the_same_for_every_mask(tiny):
    recipe = replace(RECIPE, per_class=1)
    drawn = tiny.drawn(recipe)
    assert np.bincount(drawn.train_labels).tolist() == [1] * 10
    plain = tiny.drawn(replace(recipe, mask="plain"))
    assert np.array_equal(drawn.train_images, plain.train_images)
    assert not np.array_equal(drawn.train_images, tiny.drawn(replace(recipe, seed=1)).train_images)
    places = [np.flatnonzero((tiny.train_images == image).all((1, 2, 3)))[0] for image in drawn.train_images]
    assert np.array_equal(drawn.maps["RC"][0], tiny.maps["RC"][0][places]), "maps follow their images"
    assert np.array_equal(tiny.drawn(RECIPE).train_images, tiny.train_images), "0 takes all"
    with pytest.raises(ValueError, match="a class has 2 images, fewer than 3"):
        tiny.drawn(replace(recipe, per_class=3))


def test_the_last_epoch_is_tested_on_all_images_and_the_others_on_some(tiny, monkeypatch):
    monkeypatch.setattr(training, "CURVE_IMAGES", 10)
    log = log_of(RECIPE, tiny)
    assert (log["accuracy"] % 10 == 0).all() and log["final"].nunique() == 1
    network = training.trained_classifier(RECIPE, tiny, CPU)
    x = training.normalised_images(tiny.test_images, tiny.train_images, CPU)
    found = training.predicted_classes(network, x, torch.from_numpy(tiny.maps["RC"][1])).numpy()
    assert log["final"].iloc[0] == pytest.approx(100 * (found == tiny.test_labels).mean())


def test_recorded_trainings_are_not_done_again_without_their_checkpoints(own_cache, tiny, monkeypatch):
    monkeypatch.setattr(keep, "RECORD_AFTER", 0.0)
    monkeypatch.setattr(keep, "recording", True)
    whole = log_of(RECIPE, tiny)
    for path in [*own_cache.rglob("*.safetensors"), *own_cache.glob("accuracies/*")]:
        path.unlink()
    lines = (own_cache / "results/kept/sal_mask.csv").read_text().splitlines()
    assert len(lines) == 2 and lines[0].startswith("key,network,width")
    assert "mask,seed,made_on,epoch:" in lines[0]
    with monkeypatch.context() as patch:
        patch.setattr(training, "_train_one_epoch", lambda *_: pytest.fail("trained again"))
        assert log_of(RECIPE, tiny).equals(whole)
    log_of(replace(RECIPE, seed=1), tiny)
    assert len((own_cache / "results/kept/sal_mask.csv").read_text().splitlines()) == 3
    start("01_sal_mask", "quick")
    log_of(replace(RECIPE, seed=2), tiny)
    assert len((own_cache / "results/kept/sal_mask.csv").read_text().splitlines()) == 3, "nothing of quick"
