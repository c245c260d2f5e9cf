from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from saliencylib.study import checkpoints
from saliencylib.shallow_cnn.network import training as saliency_training
from saliencylib.shallow_cnn.losses import LOSSES, distributions
from saliencylib.shallow_cnn.training import RECIPES, Pairs, Recipe, mean_map, predict, train, untrained

CPU = torch.device("cpu")
SMALL = replace(
    RECIPES["starts at the mean map"], width=0.1, hidden=16, batch=8, epochs=4, loss_every=2, seed=3
)


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(20, 96, 96, 3), dtype=np.uint8)
    targets = rng.random((20, 48, 48), dtype=np.float32)
    return Pairs(images[:14], targets[:14]), Pairs(images[14:], targets[14:])


def weights(trained):
    return [value.clone() for value in trained.model.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_schedule_as_printed():
    paper = RECIPES["as printed"]
    assert paper == Recipe()
    assert paper.steps(20_000) == 157
    assert paper.losses_logged(20_000) == 31
    assert (paper.validate_every, paper.checkpoint_every, paper.epochs) == (5, 50, 1000)
    rates = [paper.rate(epoch) for epoch in range(1000)]
    assert (rates[0], rates[-1]) == (0.03, 0.0001)
    assert np.allclose(np.diff(rates), (0.0001 - 0.03) / 999)


def test_history_has_the_printed_rhythm(pairs, tmp_path):
    recipe = replace(SMALL, validate_every=2, epochs=4)
    trained = train(recipe, *pairs, CPU, tmp_path)
    assert trained.train_steps.tolist() == [2, 4, 6, 8, 10, 12, 14, 16]  # 28 images with flips: 4 steps
    assert len(trained.train_losses) == 8
    assert trained.validation_epochs.tolist() == [2, 4]
    assert len(trained.seconds) == 4


def test_schedule_of_the_original_release():
    original = RECIPES["original release"]
    momenta = [original.momentum(epoch) for epoch in (0, 1199)]
    assert momenta == [0.9, 0.999] and original.epochs == 1200 and original.rate(0) == 0.05
    assert original.steps(10_000) == 79, "flips are not added, half of each batch is mirrored"


def test_losses_are_their_formulas():
    a, b = torch.rand(3, 48, 48), torch.rand(3, 48, 48)
    assert LOSSES["mse"].of(a, b).item() == pytest.approx(((a - b) ** 2).mean().item())
    assert LOSSES["l1"].of(a, b).item() == pytest.approx((a - b).abs().mean().item())
    chance = torch.sigmoid(a)
    entropy = -(b * chance.log() + (1 - b) * (1 - chance).log()).mean()
    assert LOSSES["bce"].of(a, b).item() == pytest.approx(entropy.item(), rel=1e-5)
    p, q = distributions(b), a.flatten(1).exp() / a.flatten(1).exp().sum(1, keepdim=True)
    assert LOSSES["kl"].of(a, b).item() == pytest.approx((p * (p / q).log()).sum(1).mean().item(), rel=1e-4)
    overlap = (p * q).sqrt().sum(1)
    assert LOSSES["bhattacharyya"].of(a, b).item() == pytest.approx(-overlap.log().mean().item(), rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_readings_invert_answers_and_the_truth_is_the_smallest_loss(loss):
    maps = torch.rand(3, 48, 48) * 0.9 + 0.05
    maps = maps / maps.amax((1, 2), keepdim=True) if loss in ("kl", "bhattacharyya") else maps
    answers = LOSSES[loss].answers(maps)
    assert torch.allclose(LOSSES[loss].maps(answers), maps, atol=1e-4)
    assert LOSSES[loss].of(answers, maps) < LOSSES[loss].of(LOSSES[loss].answers(maps.flip(2)), maps)


def test_distributions_of_zeros_are_uniform():
    assert torch.allclose(distributions(torch.zeros(1, 4, 4)), torch.full((1, 16), 1 / 16))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_starts_at_the_mean_map_and_falls(pairs, tmp_path, loss):
    recipe = replace(SMALL, loss=loss, epochs=12, rates=(1e-3, 1e-3), hidden=64, width=0.25)
    maps = predict(untrained(recipe, pairs[0]), recipe, pairs[1].images, CPU)
    mean = mean_map(pairs[0])
    expected = mean / mean.max() if loss in ("kl", "bhattacharyya") else mean
    assert np.abs(maps - expected).max() < 0.02
    trained = train(recipe, *pairs, CPU, tmp_path)
    assert trained.train_losses[-4:].mean() < trained.train_losses[:4].mean()


def test_names_say_what_sets_recipes_apart():
    names = [replace(SMALL, **changes).name for changes in ({}, {"loss": "kl"}, {"prior": True})]
    assert [*names, replace(SMALL, preset="10x10").name] == [
        "MSE",
        "KL divergence",
        "MSE, learned prior",
        "MSE, 10x10",
    ]


def test_range_of_targets_and_blur(pairs):
    """Targets between -1 and 1 quadruple the squared error; reading the answers undoes the range."""
    scaled = replace(SMALL, target_range=(-1.0, 1.0))
    maps, truth = torch.rand(2, 48, 48), torch.rand(2, 48, 48)
    answers = scaled.answer_for(maps)
    assert torch.allclose(scaled.maps_of(answers), maps, atol=1e-6)
    assert torch.allclose(scaled.loss_of(answers, truth), 4 * SMALL.loss_of(maps, truth))
    model = untrained(SMALL, pairs[0])
    sharp, soft = (predict(model, replace(SMALL, blur=b), pairs[1].images, CPU) for b in (0.0, 3.0))
    assert np.abs(np.diff(soft, axis=2)).mean() < 0.2 * np.abs(np.diff(sharp, axis=2)).mean()


def test_half_of_each_batch_is_mirrored(pairs, monkeypatch):
    recipe = replace(SMALL, flips="half of each batch")
    seen = []
    floats = saliency_training._floats
    monkeypatch.setattr(saliency_training, "_floats", lambda x: (seen.append(x.clone()), floats(x))[1])
    model = untrained(recipe, pairs[0])
    images = torch.from_numpy(pairs[0].images[:6]).permute(0, 3, 1, 2)
    targets = torch.from_numpy(pairs[0].targets[:6])
    optimiser = saliency_training._optimiser(model, recipe)
    saliency_training.training_step(model, optimiser, recipe, images, targets)
    assert torch.equal(seen[0][:3], images[:3].flip(3)) and torch.equal(seen[0][3:], images[3:])


def test_training_lowers_the_loss(pairs, tmp_path):
    trained = train(
        replace(SMALL, epochs=30, rates=(1e-3, 1e-3), hidden=64, width=0.25), *pairs, CPU, tmp_path
    )
    assert trained.train_losses[-4:].mean() < 0.9 * trained.train_losses[:4].mean()


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("where", ["after an epoch", "within an epoch", "within a write"])
def test_interrupted_equals_uninterrupted(pairs, tmp_path, monkeypatch, optimiser, where):
    recipe = replace(SMALL, optimiser=optimiser, rates=(0.01, 0.001))
    whole = train(recipe, *pairs, CPU, tmp_path / "whole")
    with monkeypatch.context() as patch:
        if where == "within an epoch":
            rate = Recipe.rate
            patch.setattr(Recipe, "rate", lambda self, epoch: rate(self, epoch) if epoch < 2 else 1 / 0)
        else:
            patch.setattr(checkpoints, "save", interrupted(checkpoints.save, after=where == "after an epoch"))
        with pytest.raises((KeyboardInterrupt, ZeroDivisionError)):
            train(recipe, *pairs, CPU, tmp_path / "parts")
    assert len(list((tmp_path / "parts").iterdir())) == 1  # the checkpoint and no half-written file
    continued = train(recipe, *pairs, CPU, tmp_path / "parts")
    assert same(whole, continued)
    for name in ("train_steps", "train_losses", "validation_epochs", "validation_losses"):
        assert np.array_equal(getattr(whole, name), getattr(continued, name)), name


def interrupted(save, after: bool):
    def saves(path, model, optimiser, epoch, log):
        if epoch < 2 or after:
            save(path, model, optimiser, epoch, log)
        if epoch == 2:
            raise KeyboardInterrupt

    return saves


def test_checkpoints_come_at_their_rhythm_and_at_the_end(pairs, tmp_path, monkeypatch):
    epochs = []
    save = checkpoints.save
    monkeypatch.setattr(checkpoints, "save", lambda *args: (epochs.append(args[3]), save(*args)))
    train(replace(SMALL, epochs=7, checkpoint_every=3), *pairs, CPU, tmp_path)
    assert epochs == [3, 6, 7]


def test_finished_run_is_loaded_not_repeated(pairs, tmp_path, monkeypatch):
    first = train(SMALL, *pairs, CPU, tmp_path)
    monkeypatch.setattr(saliency_training, "_one_epoch", None)
    again = train(SMALL, *pairs, CPU, tmp_path)
    assert same(first, again)
    assert np.array_equal(first.train_losses, again.train_losses)
    assert np.array_equal(first.seconds, again.seconds)


def test_damaged_checkpoint_is_made_again(pairs, tmp_path):
    first = train(SMALL, *pairs, CPU, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    assert same(first, train(SMALL, *pairs, CPU, tmp_path))


def test_seed_fixes_and_changes_the_result(pairs, tmp_path):
    first = train(SMALL, *pairs, CPU, tmp_path / "a")
    again = train(SMALL, *pairs, CPU, tmp_path / "b")
    other = train(replace(SMALL, seed=4), *pairs, CPU, tmp_path / "c")
    assert same(first, again)
    assert not same(first, other)


def test_other_data_is_another_run(pairs, tmp_path):
    training, validation = pairs
    train(SMALL, training, validation, CPU, tmp_path)
    train(SMALL, Pairs(training.images, 1 - training.targets), validation, CPU, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_losses_share_start_and_order(pairs, tmp_path, monkeypatch):
    assert torch.equal(
        untrained(replace(SMALL, loss="mse"), pairs[0]).full.weight,
        untrained(replace(SMALL, loss="l1"), pairs[0]).full.weight,
    )
    batches = []
    floats = saliency_training._floats
    monkeypatch.setattr(
        saliency_training, "_floats", lambda images: (batches.append(images.sum().item()), floats(images))[1]
    )
    orders = {}
    for name, recipe in {
        "mse": SMALL,
        "l1": replace(SMALL, loss="l1"),
        "other": replace(SMALL, seed=4),
    }.items():
        batches.clear()
        train(recipe, *pairs, CPU, tmp_path)
        orders[name] = list(batches)
    assert orders["mse"] == orders["l1"] != orders["other"]
    assert orders["mse"][:4] != orders["mse"][5:9]  # another order in the second epoch


def test_flips_are_trained_on(pairs):
    training, _ = pairs
    images, targets = saliency_training._on_device(training, CPU, flips=True)
    assert torch.equal(images[14:].flip(3), images[:14])
    assert torch.equal(targets[14:].flip(2), targets[:14])
    assert np.allclose(mean_map(training), targets.mean(0), atol=1e-6)


def test_predictions(pairs, tmp_path):
    trained = train(SMALL, *pairs, CPU, tmp_path)
    maps = predict(trained.model, SMALL, pairs[1].images, CPU, batch=4)
    assert maps.shape == (6, 48, 48) and maps.dtype == np.float32
    assert maps.min() >= 0 and maps.max() <= 1
    one = predict(trained.model, SMALL, pairs[1].images[5:], CPU)
    assert np.allclose(maps[5], one[0], atol=1e-5)


def test_untrained_network_answers_the_mean_map(pairs):
    maps = predict(untrained(SMALL, pairs[0]), SMALL, pairs[1].images, CPU)
    assert np.abs(maps - mean_map(pairs[0])).max() < 0.01


def test_what_cannot_be_trained_is_refused(pairs, tmp_path):
    training, validation = pairs
    for bad, message in (
        ({"loss": "l3"}, "loss must be"),
        ({"optimiser": "lbfgs"}, "optimiser must be"),
        ({"flips": "some"}, "flips must be"),
        ({"loss": "kl", "target_range": (-1.0, 1.0)}, "needs targets between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(SMALL, **bad)
    with pytest.raises(ValueError, match="at least one image"):
        train(SMALL, Pairs(training.images[:0], training.targets[:0]), validation, CPU, tmp_path)
    with pytest.raises(FloatingPointError, match="not finite"):
        train(replace(SMALL, optimiser="sgd", rates=(1e30, 1e30)), *pairs, CPU, tmp_path)


def test_recipes_pair_losses_and_seeds():
    made = saliency_training.recipes(SMALL, ("mse", "l1"), (0, 1))
    assert [(r.loss, r.seed) for r in made] == [("mse", 0), ("mse", 1), ("l1", 0), ("l1", 1)]


def test_trace_follows_the_training_and_is_kept(pairs, own_cache, monkeypatch):
    recipe = replace(SMALL, validate_every=1, epochs=2)
    found = saliency_training.trace(recipe, *pairs, steps=8, every=2, device=CPU)
    assert found["step"].tolist() == [0, 2, 4, 6, 8]
    assert found["loss"].iloc[0] == pytest.approx(1, abs=0.02) and found["spread"].iloc[0] < 0.1
    level = torch.from_numpy(mean_map(pairs[0])).expand(6, 48, 48)
    of_mean_map = recipe.loss_of(level, torch.from_numpy(pairs[1].targets)).item()
    trained = train(recipe, *pairs, CPU, own_cache / "runs")
    assert found["loss"].iloc[[2, 4]].to_numpy() * of_mean_map == pytest.approx(trained.validation_losses)
    monkeypatch.setattr(saliency_training, "_steps", None)
    assert saliency_training.trace(recipe, *pairs, 8, 2, CPU).equals(found)


def test_traces_have_a_name_each_and_tell_when_the_plateau_is_left(pairs, own_cache):
    recipes = {"a": SMALL, "b": replace(SMALL, start="paper", optimiser="sgd", rates=(0.03, 0.0001))}
    found = saliency_training.traces(recipes, *pairs, steps=2, every=1, device=CPU)
    assert found.groupby("name").size().to_dict() == {"a": 3, "b": 3}
    rows = pd.DataFrame({"step": [0, 5, 10], "loss": [1.3, 0.99, 0.97]})
    assert saliency_training.left_plateau(rows) == 10
    assert np.isnan(saliency_training.left_plateau(rows[:2]))


def test_train_all_equals_one_by_one_on_any_number_of_cores(pairs, tmp_path):
    made = saliency_training.recipes(replace(SMALL, epochs=2), ("mse", "l1"), (0, 1))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = [train(recipe, *pairs, CPU, tmp_path / "alone") for recipe in made]
    torch.set_num_threads(2)
    together = saliency_training.train_all(made, *pairs, CPU, tmp_path / "together")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    assert [t.recipe for t in together] == made
