"""Regions, blurring, and the blur experiment on a small classifier of our own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import nn

from saliencylib import blur
from saliencylib.blur import blurred, control_region, correct, experiment, region
from saliencylib.classifiers import Preprocess, as_classifier
from saliencylib.data import PhotoSet
from saliencylib.licnn import LICNN

RAMP = np.arange(100.0).reshape(10, 10)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU6(), nn.Flatten()]
    return as_classifier(nn.Sequential(*layers, nn.Linear(1152, 9)), Preprocess(36, 32))


@pytest.fixture
def photos(tmp_path: Path) -> PhotoSet:
    rng, paths = np.random.default_rng(0), []
    for i in range(5):
        small = rng.integers(0, 256, (12, 15, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(small).resize((60, 48)).save(paths[-1])
    accepted = [(0,), (1, 4), (2,), (3,), ()]
    labels = np.array([0, 1, 2, 3, -1])
    return PhotoSet("drawn", paths, labels, [np.empty((0, 4))] * 5, [""] * 5, accepted, [None] * 5)


def test_the_printed_rule_has_no_offset_by_the_minimum():
    assert region(RAMP, "printed").sum() == (RAMP > 99 / 5).sum() == 80
    assert region(RAMP, "offset").sum() == 80  # its minimum is 0
    assert region(RAMP + 50, "printed").all()
    assert np.array_equal(region(RAMP + 50, "offset"), region(RAMP, "offset"))


def test_a_share_is_exact_even_with_ties():
    assert region(RAMP, 0.35).sum() == 35 and region(RAMP, 0.35)[RAMP >= 65].all()
    assert region(np.ones((10, 10)), 0.2).sum() == 20


@pytest.mark.parametrize("rule", ["mean", 0.0, 1.5, 1])
def test_other_rules_are_refused(rule):
    with pytest.raises(ValueError, match="rule"):
        region(RAMP, rule)


@pytest.mark.parametrize("kind", blur.CONTROLS)
def test_control_regions_have_the_same_area(kind):
    like = region(np.random.default_rng(0).random((40, 40)), 0.3)
    control = control_region(kind, like, seed=3)
    assert control.sum() == like.sum() and not np.array_equal(control, like)
    assert np.array_equal(control, control_region(kind, like, seed=3))
    other = control_region(kind, like, seed=4)
    assert np.array_equal(control, other) == (kind == "centre Gaussian")


def test_the_centre_is_in_the_centre():
    control = control_region("centre Gaussian", region(np.random.default_rng(0).random((41, 41)), 0.3))
    assert control[20, 20] and not control[0, 0]
    assert np.allclose(np.argwhere(control).mean(0), 20, atol=0.2)


@pytest.mark.parametrize("where", blur.SIDES)
def test_one_side_is_blurred_by_pillow_and_the_other_untouched(where):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    picture, mask = Image.fromarray(pixels), np.zeros((20, 30), bool)
    mask[5:12, 8:20] = True
    found = np.asarray(blurred(picture, mask, 5, where))
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(5)))
    sharp = mask if where == "background" else ~mask
    assert np.array_equal(found[sharp], pixels[sharp])
    assert np.array_equal(found[~sharp], soft[~sharp])


def test_wrong_masks_and_sides_are_refused():
    picture = Image.new("RGB", (30, 20))
    with pytest.raises(ValueError, match="20 x 30"):
        blurred(picture, np.zeros((30, 20), bool), 2)
    with pytest.raises(ValueError, match="background, object"):
        blurred(picture, np.zeros((20, 30), bool), 2, "foreground")


def test_correct_counts_any_accepted_class():
    top = np.array([[3, 1, 2], [0, 4, 5], [7, 8, 9]])
    accepted = [(1,), (5, 0), ()]
    assert correct(top, accepted, 1).tolist() == [False, True, False]
    assert correct(top, accepted, 2).tolist() == [True, True, False]


def test_experiment_equals_doing_it_by_hand(model, photos):
    explainer = LICNN(model)
    results = experiment(explainer, photos, rules=("offset", 0.35), radii=(2, 5), control_rule=0.35, chunk=2)
    assert len(results) == 5 * (1 + 2 * 2 * 2 + 2)
    maps = explainer.saliency_maps(torch.stack([model.preprocess(photos.image(i)) for i in range(5)])).numpy()
    for i in range(5):
        picture = model.preprocess.cut(photos.image(i))
        mask = region(maps[i], 0.35)
        top = blur.top_classes(model, [blurred(picture, mask, 5, "object")])
        rows = results[(results.photograph == i) & (results.radius == 5) & (results["where"] == "object")]
        row = rows[rows.region == "35 % of the picture"].iloc[0]
        assert row["first"] == top[0, 0] and row["area"] == mask.mean()
        assert row["top5"] == correct(top, [photos.accepted[i]], 5)[0]
    areas = results[results.region.isin(blur.CONTROLS)].groupby("region").area.mean()
    assert np.allclose(areas, 0.35, atol=0.001)


def test_unmodified_photographs_come_first(model, photos):
    results = experiment(LICNN(model), photos, rules=(0.5,), radii=(2,), control_rule=None)
    top = blur.top_classes_of(model, photos)
    assert np.array_equal(blur.outcomes(results, "first"), top[:, 0])
    assert np.array_equal(blur.outcomes(results, "top5"), correct(top, photos.accepted, 5))
    with pytest.raises(ValueError, match="no variant"):
        blur.outcomes(results, "top5", "printed rule", "object", 2)
    table = blur.accuracy_table(results)
    assert table["n"].tolist() == [5, 5, 5] and table["area"].tolist() == [100, 50, 50]


def test_finished_chunks_are_not_computed_again(model, photos, tmp_path, monkeypatch):
    options = {"rules": (0.5,), "radii": (2,), "control_rule": 0.5, "chunk": 2}
    whole = experiment(LICNN(model), photos, **options)
    experiment(LICNN(model), photos.select(slice(0, 4)), cache_dir=tmp_path / "kept", **options)
    assert len(list((tmp_path / "kept").iterdir())) == 2
    computed = []
    original = LICNN.saliency_maps
    monkeypatch.setattr(LICNN, "saliency_maps", lambda *a: computed.append(len(a[1])) or original(*a))
    again = experiment(LICNN(model), photos, cache_dir=tmp_path / "kept", **options)
    assert computed == [1]
    assert again.equals(whole)
    experiment(LICNN(model, a=0.0), photos, cache_dir=tmp_path / "kept", **options)
    with torch.no_grad():
        model[0].weight.mul_(1.1)
    experiment(LICNN(model), photos, cache_dir=tmp_path / "kept", **options)
    assert computed == [1, 2, 2, 1, 2, 2, 1]  # another switch or other weights: computed anew


def test_filtered_photographs_are_those_with_a_wrong_first_class(model, photos, tmp_path):
    top = blur.top_classes_of(model, photos, tmp_path)
    photos.accepted[0] = (int(top[0, 0]),)
    kept = blur.adversarially_filtered(photos, model, tmp_path)
    expected = [i for i in range(4) if top[i, 0] not in photos.accepted[i]]  # the fifth has no class
    assert kept.paths == [photos.paths[i] for i in expected] and 0 not in expected
