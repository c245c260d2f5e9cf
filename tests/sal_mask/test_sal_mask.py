from types import SimpleNamespace

import numpy as np
import pytest

from saliencylib.sal_mask.experiment import masks, network as models, experiment as sal_mask
from saliencylib.data import Labelled, Segmented
from saliencylib.digits import cluttered_digits

SETTINGS = SimpleNamespace(
    epochs={"alexnet": 3, "nin": 5},
    widths={"alexnet": 0.125, "nin": 0.125},
    dropout=0.0,
    batch=8,
    optimiser="adamw",
    learning_rates={"alexnet": 0.001, "nin": 0.002},
    precision="float32",
)


def test_first_of_each_class_keeps_order():
    labels = np.array([1, 0, 1, 0, 1])
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    kept = sal_mask.first_of_each_class(Labelled(images, labels, ("a", "b"), "x"), 1)
    assert kept.labels.tolist() == [1, 0] and kept.images[:, 0, 0, 0].tolist() == [0, 1]


def test_material_makes_maps_at_full_size_and_shrinks_both(own_cache):
    train = sal_mask.labelled("cluttered digits", "train", 1)
    whole = sal_mask.material(train, train, ("RC", "grey"))
    half = sal_mask.material(train, train, ("RC", "grey"), shrink=2)
    assert half.train.images.shape == (10, 48, 48, 3) and half.maps["RC"][1].shape == (10, 48, 48)
    assert np.allclose(half.maps["RC"][0], masks.shrunk(whole.maps["RC"][0], 2))
    assert half.train.labels is train.labels


def test_digit_material_knows_the_exact_object(own_cache):
    digits = cluttered_digits(10)
    made = sal_mask.digit_material(digits, digits, ["plain", *sal_mask.EXACT])
    assert (made.maps["true"][0] == digits.masks).all()
    assert (made.maps["box"][0] >= digits.masks).all()
    last = made.maps[sal_mask.DEGRADED[-1]][0]
    assert sal_mask.DEGRADED[-1] == "true, 100 % foreign"
    assert (last == digits.masks[masks.others(10)]).all()


def test_noise_lies_beside_the_digit_only(own_cache):
    digits = cluttered_digits(10)
    noisy = sal_mask.noisy_backgrounds(digits, 0.2)
    change = np.abs(noisy.images.astype(int) - digits.images.astype(int)).max(-1)
    assert (change[digits.masks] == 0).all() and change[~digits.masks].mean() > 20
    assert (sal_mask.noisy_backgrounds(digits, 0.0).images == digits.images).all()
    assert (sal_mask.noisy_backgrounds(digits, 0.2, seed=1).images != noisy.images).any()
    with pytest.raises(ValueError, match="must not be negative"):
        sal_mask.noisy_backgrounds(digits, -0.1)


def test_recipes_pair_masks_and_seeds_and_take_changes():
    made = sal_mask.recipes(SETTINGS, "nin", ("plain", "RC"), range(2), connection="raw", width=0.5)
    assert [(r.mask, r.seed) for r in made] == [("plain", 0), ("RC", 0), ("plain", 1), ("RC", 1)]
    assert {(r.network, r.epochs, r.connection, r.width) for r in made} == {("nin", 5, "raw", 0.5)}


@pytest.mark.parametrize("network", models.NETWORKS)
def test_the_wider_network_has_just_the_parameters_of_the_branch(network):
    wider = sal_mask.width_of_equal_size(network, 0.125, 32)
    build = models.NETWORKS[network]
    learned = models.parameters(models.connected(build(10, 0.125, 32, 0.0), "learned"))
    found = models.parameters(build(10, wider, 32, 0.0))
    below = models.parameters(build(10, wider - 0.125 / 256, 32, 0.0))
    assert below < learned <= found < 1.2 * learned


def test_alpha_sensitivity_compares_with_the_chosen_seeds(own_cache):
    images = cluttered_digits(2, split="test").images
    maps, table = sal_mask.alpha_sensitivity(images, shares=(0.07, 0.3), borders=(3,))
    assert list(maps) == ["seeds 7 %, border 3", "seeds 30 %, border 3"]
    chosen, wide = table.to_dict("records")
    assert chosen["cc"] == pytest.approx(1) and wide["cc"] < 0.999 and wide["mean"] > chosen["mean"]


def test_map_quality_is_measured_at_every_size():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 40, (60, 90, 3), dtype=np.uint8)
    mask = np.zeros((60, 90), bool)
    mask[20:40, 30:60] = True
    image[mask] = (250, 220, 30)
    quality = sal_mask.map_quality_by_size(Segmented([image] * 2, [mask] * 2, "x"), sizes=(90, 30))
    assert quality.groupby(["mask", "size"]).size().eq(2).all() and quality["mask"].nunique() == 6
    assert quality.query("mask == 'HC'")["auc"].min() > 0.95
    foreign = Segmented([image] * 2, [~mask] * 2, "x")
    assert sal_mask.map_quality_by_size(foreign, sizes=(30,)).query("mask == 'HC'")["auc"].max() < 0.05


def test_objects_come_from_the_digits_or_from_photographs(own_cache, monkeypatch):
    digits = sal_mask.with_objects("cluttered digits", 3)
    assert len(digits) == 3 and digits.images[0].shape == (96, 96, 3)
    monkeypatch.setattr(sal_mask.data, "rc_reference", lambda: "photographs")
    assert sal_mask.with_objects("rc_reference", 3) == "photographs"
