"""Regions, blurring, and the blur experiment on a small classifier of our own."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from saliencylib.licnn.attribution import attribute
from saliencylib.licnn.blur import (
    PRESETS_BLURRED,
    RADII,
    REGION_SOURCES,
    SIDES,
    UNMODIFIED,
    Variant,
    blur_outcomes,
    blurred,
    equal_area_variants,
    object_region,
    released_variants,
    right_within,
    top_classes,
    top_classes_of_many,
)
from saliencylib.licnn.localisation import BASELINES
from saliencylib.licnn.method import LICNN

pytestmark = pytest.mark.usefixtures("in_process", "own_cache")

RAMP = np.arange(100.0).reshape(10, 10)


def test_the_released_rule_has_no_offset_by_the_minimum():
    assert object_region(RAMP, "released").sum() == (RAMP > 99 / 5).sum() == 80
    assert object_region(RAMP, "offset").sum() == 80  # its minimum is 0
    assert object_region(RAMP + 50, "released").all()
    assert np.array_equal(object_region(RAMP + 50, "offset"), object_region(RAMP, "offset"))


def test_a_share_is_exact_even_with_ties():
    assert object_region(RAMP, 0.35).sum() == 35 and object_region(RAMP, 0.35)[RAMP >= 65].all()
    assert object_region(np.ones((10, 10)), 0.2).sum() == 20
    assert not object_region(RAMP, 0.0).any() and object_region(RAMP, 1.0).all()


@pytest.mark.parametrize("rule", ["mean", -0.1, 1.5, 1])
def test_other_rules_are_refused(rule):
    with pytest.raises(ValueError, match="rule"):
        object_region(RAMP, rule)


@pytest.mark.parametrize("where", SIDES)
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


def test_any_accepted_class_is_right():
    top = np.array([[3, 1, 2], [0, 4, 5], [7, 8, 9]])
    accepted = [(1,), (5, 0), ()]
    assert right_within(top, accepted, 1).tolist() == [False, True, False]
    assert right_within(top, accepted, 2).tolist() == [True, True, False]


def test_the_plans_set_every_control_beside_the_region_of_the_same_area():
    released, equal = released_variants(), equal_area_variants((0.2, 0.35), ("background", "object"))
    assert released[0] == UNMODIFIED and len(set(released + equal)) == len(released) + len(equal)
    for source in PRESETS_BLURRED:
        for where in SIDES:
            assert {v.radius for v in released if v[:3] == (source, "released", where)} == set(RADII)
    assert Variant("random map", "released", "background", 10) in released
    others = set(REGION_SOURCES) - {"boxes"}
    assert {v.source for v in equal if v.rule == 0.2} == others
    for where in SIDES:
        assert {v.source for v in equal if v.rule == 0.35 and v.where == where} == others
        assert {v.source for v in equal if v.rule == "boxes" and v.where == where} == set(REGION_SOURCES)


def test_outcomes_equal_doing_it_by_hand(model, seen):
    sides = [(where, radius) for where in SIDES for radius in (2, 5)]
    plan = [UNMODIFIED, *(Variant("LICNN", rule, *side) for rule in ("offset", 0.35) for side in sides)]
    plan += [Variant(kind, "offset", "background", 5) for kind in BASELINES]
    plan += [
        Variant("LICNN, released code", "released", "background", 5),
        Variant("Grad-CAM", 0.35, "object", 5),
    ]
    results = blur_outcomes(model, seen, plan, chunk=2)
    assert len(results) == 5 * len(plan)
    images = model.preprocess.inputs(seen.crops)
    maps = LICNN(model).saliency_maps(images).numpy()
    released = LICNN(model, "released_code").saliency_maps(images).numpy()
    first = top_classes_of_many(model, seen.crops, chunk=2)[:, 0]
    blobs = attribute("Grad-CAM", model, images, torch.as_tensor(first)).numpy()
    for i, crop in enumerate(seen.crops):
        mine = results[results["name"] == f"photo {i}"]
        mask = object_region(maps[i], 0.35)
        top = top_classes(model, [blurred(crop, mask, 5, "object")])
        rows = mine[(mine.radius == 5) & (mine["where"] == "object") & (mine.source == "LICNN")]
        row = rows[rows.rule == "35 % of the picture"].iloc[0]
        assert row["first"] == top[0, 0] and row["area"] == mask.mean() and row["label"] == seen.labels[i]
        assert row["top5"] == right_within(top, [seen.accepted[i]], 5)[0]
        areas = mine[mine.rule == "rule with offset"].area
        assert areas.to_numpy() == pytest.approx(object_region(maps[i], "offset").mean())
        others = {
            "LICNN, released code": object_region(released[i]),
            "Grad-CAM": object_region(blobs[i], 0.35),
        }
        for source, region in others.items():
            row = mine[mine.source == source].iloc[0]
            assert row["area"] == region.mean()
            assert row["first"] == top_classes(model, [blurred(crop, region, 5, row["where"])])[0, 0]
    assert np.array_equal(results[results["source"] == ""]["first"], first)


def test_boxes_give_regions_of_their_own_area_and_nothing_where_they_are_useless(model, seen):
    plan = [UNMODIFIED, *(Variant(source, "boxes", "background", 2) for source in REGION_SOURCES)]
    results = blur_outcomes(model, seen, plan)
    boxed = results[results.rule == "area of the boxes"]
    assert set(boxed["name"]) == {"photo 1"} and len(boxed) == len(REGION_SOURCES)
    assert (boxed.area == seen.boxes[1].mean()).all()
    top = top_classes(model, [blurred(seen.crops[1], seen.boxes[1], 2)])
    assert boxed.loc[boxed.source == "boxes", "first"].tolist() == [top[0, 0]]


def test_finished_chunks_are_not_computed_again(model, seen, monkeypatch):
    plan = [UNMODIFIED, Variant("LICNN", 0.5, "object", 2)]
    computed = []
    original = LICNN.saliency_maps
    monkeypatch.setattr(LICNN, "saliency_maps", lambda *a: computed.append(len(a[1])) or original(*a))
    part = blur_outcomes(model, seen.select(range(4)), plan, chunk=2)
    whole = blur_outcomes(model, seen, plan, chunk=2)
    assert computed == [2, 2, 1]
    assert whole[whole["name"] != "photo 4"].reset_index(drop=True).equals(part)
    assert blur_outcomes(model, seen, plan, chunk=2).equals(whole) and computed == [2, 2, 1]
    with torch.no_grad():
        model[0].weight.mul_(1.1)
    blur_outcomes(model, seen, plan, chunk=2)
    assert computed == [2, 2, 1] * 2  # other weights: computed anew
