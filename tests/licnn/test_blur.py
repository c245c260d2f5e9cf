"""Regions, blurring, and the blur experiment on a small classifier of our own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import nn

from saliencylib.licnn.method import blur
from saliencylib.licnn.blur import UNMODIFIED, Variant, blurred, correct, experiment, region, variants
from saliencylib.licnn.classifiers import Preprocess, as_classifier
from saliencylib.data import PhotoSet
from saliencylib.licnn.method import LICNN

pytestmark = pytest.mark.usefixtures("in_process")

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


def test_the_plan_sets_every_control_beside_the_region_of_the_same_area():
    plan = variants(0.35, (0.2, 0.5))
    assert plan[0] == UNMODIFIED and len(set(plan)) == len(plan)
    for where in blur.SIDES:
        for rule in ("printed", 0.35):
            assert {v.radius for v in plan if v[:3] == ("LICNN", rule, where)} == {2, 5, 10}
    at_area = {v.source for v in plan if v.rule == 0.2 and v.where == "background"}
    assert at_area == {"LICNN", "RC", "centre Gaussian", "random"}
    assert {v.source for v in plan if v.rule == "boxes" and v.where == "background"} == set(blur.SOURCES)
    assert Variant("random", "printed", "background", 10) in variants("printed", ())


def test_experiment_equals_doing_it_by_hand(model, photos):
    explainer = LICNN(model)
    sides = [(where, radius) for where in blur.SIDES for radius in (2, 5)]
    plan = [UNMODIFIED, *(Variant("LICNN", rule, *side) for rule in ("offset", 0.35) for side in sides)]
    plan += [Variant(kind, "offset", "background", 5) for kind in blur.BASELINES]
    results = experiment(explainer, photos, plan, chunk=2)
    assert len(results) == 5 * len(plan)
    maps = explainer.saliency_maps(torch.stack([model.preprocess(photos.image(i)) for i in range(5)])).numpy()
    for i in range(5):
        picture = model.preprocess.cut(photos.image(i))
        mask = region(maps[i], 0.35)
        top = blur.top_classes(model, [blurred(picture, mask, 5, "object")])
        rows = results[(results.photograph == i) & (results.radius == 5) & (results["where"] == "object")]
        row = rows[rows.rule == "35 % of the picture"].iloc[0]
        assert row["first"] == top[0, 0] and row["area"] == mask.mean()
        assert row["top5"] == correct(top, [photos.accepted[i]], 5)[0]
        areas = results[(results.photograph == i) & (results.rule == "rule with offset")].area
        assert areas.to_numpy() == pytest.approx(region(maps[i], "offset").mean())


def test_boxes_give_regions_of_their_own_area_and_nothing_where_there_are_none(model, photos):
    photos.boxes[1] = np.array([[0.25, 0.25, 0.75, 0.5]])
    photos.boxes[3] = np.array([[0.0, 0.0, 1.0, 1.0]])
    plan = [UNMODIFIED, *(Variant(source, "boxes", "background", 2) for source in blur.SOURCES)]
    results = experiment(LICNN(model), photos, plan)
    boxed = results[results.rule == "area of the boxes"]
    assert set(boxed["name"]) == {"1"} and len(boxed) == len(blur.SOURCES) and boxed.area.nunique() == 1
    mask = model.preprocess.box_mask(photos.boxes[1], 60, 48)
    assert boxed.area.iloc[0] == mask.mean()
    top = blur.top_classes(model, [blurred(model.preprocess.cut(photos.image(1)), mask, 2)])
    assert blur.outcomes(results, "first", Variant("boxes", "boxes", "background", 2)).tolist() == [top[0, 0]]


def test_unmodified_photographs_come_first(model, photos):
    half = Variant("LICNN", 0.5, "background", 2)
    results = experiment(LICNN(model), photos, [UNMODIFIED, half, half._replace(where="object")])
    top = blur.top_classes_of(model, photos)
    assert np.array_equal(blur.outcomes(results, "first"), top[:, 0])
    assert np.array_equal(blur.outcomes(results, "top5"), correct(top, photos.accepted, 5))
    with pytest.raises(ValueError, match="no rows for Variant.source='LICNN', rule='printed'"):
        blur.outcomes(results, "top5", Variant("LICNN", "printed", "object", 2))
    table = blur.accuracy_table(results)
    assert table["n"].tolist() == [5, 5, 5] and table["area"].tolist() == [100, 50, 50]


def test_pairs_are_photographs_that_have_both(model, photos):
    photos.boxes[2] = np.array([[0.25, 0.25, 0.75, 0.5]])
    boxes = Variant("boxes", "boxes", "background", 2)
    results = experiment(LICNN(model), photos, [UNMODIFIED, boxes])
    before, after = blur.paired_outcomes(results, "first", UNMODIFIED, boxes)
    assert len(before) == len(after) == 1
    assert before[0] == blur.outcomes(results, "first")["2"]


def test_finished_chunks_are_not_computed_again(model, photos, tmp_path, monkeypatch):
    options = {"plan": [UNMODIFIED, Variant("LICNN", 0.5, "object", 2)], "chunk": 2}
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
    assert kept.tolist() == expected and 0 not in expected
