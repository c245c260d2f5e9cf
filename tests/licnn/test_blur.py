"""Regions, blurring, and the blur experiment on a small classifier of our own."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from saliencylib.licnn.blur import (
    RADII,
    REGION_SOURCES,
    SIDES,
    UNMODIFIED,
    Variant,
    blur_outcomes,
    blur_variants,
    blurred,
    object_region,
    right_within,
    top_classes,
    top_classes_of_many,
)
from saliencylib.licnn.localisation import BASELINES
from saliencylib.licnn.method import LICNN

pytestmark = pytest.mark.usefixtures("in_process", "own_cache")

RAMP = np.arange(100.0).reshape(10, 10)
ACCEPTED = [(0,), (1, 4), (2,), (3,), ()]
NAMES = [f"photo {i}" for i in range(5)]


@pytest.fixture
def boxes() -> np.ndarray:
    """The second crop has a box, the fourth one that leaves nothing outside, the others none."""
    boxes = np.zeros((5, 32, 32), bool)
    boxes[1, 8:20, 4:30] = True
    boxes[3] = True
    return boxes


def test_the_printed_rule_has_no_offset_by_the_minimum():
    assert object_region(RAMP, "printed").sum() == (RAMP > 99 / 5).sum() == 80
    assert object_region(RAMP, "offset").sum() == 80  # its minimum is 0
    assert object_region(RAMP + 50, "printed").all()
    assert np.array_equal(object_region(RAMP + 50, "offset"), object_region(RAMP, "offset"))


def test_a_share_is_exact_even_with_ties():
    assert object_region(RAMP, 0.35).sum() == 35 and object_region(RAMP, 0.35)[RAMP >= 65].all()
    assert object_region(np.ones((10, 10)), 0.2).sum() == 20


@pytest.mark.parametrize("rule", ["mean", 0.0, 1.5, 1])
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


def test_the_plan_sets_every_control_beside_the_region_of_the_same_area():
    plan = blur_variants(0.35, (0.2, 0.5))
    assert plan[0] == UNMODIFIED and len(set(plan)) == len(plan)
    for where in SIDES:
        for rule in ("printed", 0.35):
            assert {v.radius for v in plan if v[:3] == ("LICNN", rule, where)} == set(RADII)
    at_area = {v.source for v in plan if v.rule == 0.2 and v.where == "background"}
    assert at_area == {"LICNN", *BASELINES}
    assert {v.source for v in plan if v.rule == "boxes" and v.where == "background"} == set(REGION_SOURCES)
    assert Variant("random", "printed", "background", 10) in blur_variants("printed", ())


def test_outcomes_equal_doing_it_by_hand(model, crops, boxes):
    explainer = LICNN(model)
    sides = [(where, radius) for where in SIDES for radius in (2, 5)]
    plan = [UNMODIFIED, *(Variant("LICNN", rule, *side) for rule in ("offset", 0.35) for side in sides)]
    plan += [Variant(kind, "offset", "background", 5) for kind in BASELINES]
    results = blur_outcomes(explainer, crops, boxes, ACCEPTED, NAMES, plan, chunk=2)
    assert len(results) == 5 * len(plan)
    maps = explainer.saliency_maps(model.preprocess.inputs(crops)).numpy()
    for i, crop in enumerate(crops):
        mask = object_region(maps[i], 0.35)
        top = top_classes(model, [blurred(crop, mask, 5, "object")])
        rows = results[(results.photograph == i) & (results.radius == 5) & (results["where"] == "object")]
        row = rows[rows.rule == "35 % of the picture"].iloc[0]
        assert row["first"] == top[0, 0] and row["area"] == mask.mean()
        assert row["top5"] == right_within(top, [ACCEPTED[i]], 5)[0]
        areas = results[(results.photograph == i) & (results.rule == "rule with offset")].area
        assert areas.to_numpy() == pytest.approx(object_region(maps[i], "offset").mean())
    unmodified = results[results["source"] == ""]
    assert np.array_equal(unmodified["first"], top_classes_of_many(model, crops, chunk=2)[:, 0])


def test_boxes_give_regions_of_their_own_area_and_nothing_where_they_are_useless(model, crops, boxes):
    plan = [UNMODIFIED, *(Variant(source, "boxes", "background", 2) for source in REGION_SOURCES)]
    results = blur_outcomes(LICNN(model), crops, boxes, ACCEPTED, NAMES, plan)
    boxed = results[results.rule == "area of the boxes"]
    assert set(boxed["name"]) == {"photo 1"} and len(boxed) == len(REGION_SOURCES)
    assert (boxed.area == boxes[1].mean()).all()
    top = top_classes(model, [blurred(crops[1], boxes[1], 2)])
    assert boxed.loc[boxed.source == "boxes", "first"].tolist() == [top[0, 0]]


def test_finished_chunks_are_not_computed_again(model, crops, boxes, monkeypatch):
    plan = [UNMODIFIED, Variant("LICNN", 0.5, "object", 2)]

    def outcomes(explainer: LICNN, count: int = 5):
        some = (crops[:count], boxes[:count], ACCEPTED[:count], NAMES[:count])
        return blur_outcomes(explainer, *some, plan, chunk=2)

    computed = []
    original = LICNN.saliency_maps
    monkeypatch.setattr(LICNN, "saliency_maps", lambda *a: computed.append(len(a[1])) or original(*a))
    part = outcomes(LICNN(model), count=4)
    whole = outcomes(LICNN(model))
    assert computed == [2, 2, 1]
    assert whole[whole["photograph"] < 4].reset_index(drop=True).equals(part)
    assert outcomes(LICNN(model)).equals(whole) and computed == [2, 2, 1]
    outcomes(LICNN(model, a=0.0))
    with torch.no_grad():
        model[0].weight.mul_(1.1)
    outcomes(LICNN(model))
    assert computed == [2, 2, 1] * 3  # another switch or other weights: computed anew
