"""Backgrounds replaced: rectangles, fills, donors, and the experiment on a small classifier of our own."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from saliencylib.licnn import background
from saliencylib.licnn.background import CHANGES, Donor
from saliencylib.licnn.blur import blurred, top_classes
from saliencylib.licnn.crops import PhotoCrops

pytestmark = pytest.mark.usefixtures("in_process", "own_cache")


def box(top, left, bottom, right, side=32):
    mask = np.zeros((side, side), bool)
    mask[top:bottom, left:right] = True
    return mask


def largest_by_trying_all(mask):
    height, width = mask.shape
    sizes = [0]
    for top, left in np.ndindex(mask.shape):
        for bottom in range(top + 1, height + 1):
            for right in range(left + 1, width + 1):
                if not mask[top:bottom, left:right].any():
                    sizes.append((bottom - top) * (right - left))
    return max(sizes)


def test_the_largest_free_rectangle_is_free_and_largest():
    rng = np.random.default_rng(0)
    for _ in range(30):
        mask = rng.random((6, 8)) < 0.35
        top, left, bottom, right = background.largest_free_rectangle(mask)
        assert not mask[top:bottom, left:right].any()
        assert (bottom - top) * (right - left) == largest_by_trying_all(mask)
    assert background.largest_free_rectangle(np.zeros((3, 5), bool)) == (0, 0, 3, 5)
    with pytest.raises(ValueError, match="no free place"):
        background.largest_free_rectangle(np.ones((3, 5), bool))


def test_filling_hides_the_boxes_and_leaves_the_rest():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[..., 0] = np.arange(32)[:, None]
    mask = box(8, 8, 20, 32)
    pixels[mask] = 255
    found = np.asarray(background.filled(Image.fromarray(pixels), mask))
    assert np.array_equal(found[~mask], pixels[~mask]) and found.max() < 255
    rectangle = background.largest_free_rectangle(mask)
    assert rectangle == (20, 0, 32, 32)
    assert found[8, 8, 0] == 20 + 8 and found[12, 8, 0] == 31 - 0, "every other tile is mirrored"


def test_pasting_takes_the_marked_part_and_refuses_other_sizes():
    light, dark = (Image.new("RGB", (32, 32), (grey,) * 3) for grey in (200, 10))
    mask = box(4, 4, 9, 9)
    found = np.asarray(background.pasted(light, mask, dark))[..., 0]
    assert (found[mask] == 200).all() and (found[~mask] == 10).all()
    with pytest.raises(ValueError, match="a ground"):
        background.pasted(light, mask, dark.resize((16, 16)))


def test_donors_are_covered_or_else_filled_or_none():
    small, large, other = box(10, 10, 14, 14), box(4, 4, 28, 28), box(0, 20, 12, 32)
    masks = np.stack([large, small, other, np.zeros_like(small), np.ones_like(small), box(0, 0, 30, 30)])
    labels = [0, 0, 1, 0, 1, 2]
    found = background.donors(masks, labels)
    assert found["same class"][0] == Donor(1, filled=False), "the small box lies within the large one"
    assert found["same class"][1] == Donor(0, filled=True), "the large box does not lie within the small one"
    assert found["same class"][2] is None, "its class has one other photograph, which is all box"
    assert found["same class"][3] is None and found["another class"][4] is None, "no usable box of their own"
    assert found["another class"][0] == Donor(2, filled=True), "5 is boxed by more than 60 %"
    assert found["another class"][5].filled is False and found["another class"][5].position in (0, 1)
    assert background.donors(masks, labels) == found


def test_a_lent_ground_is_filled_where_the_donor_says_so(crops):
    masks = np.stack([box(2, 2, 9, 9)] * 5)
    kept, changed, none = background.grounds_of(crops, masks, [Donor(1, False), Donor(2, True), None])
    assert kept is crops[1] and none is None
    assert np.array_equal(np.asarray(changed), np.asarray(background.filled(crops[2], masks[2])))


def test_every_change_keeps_its_side(crops):
    mask, grounds = box(5, 6, 20, 25), {"same class": crops[1], "another class": None}
    found = background.changed_pictures(crops[0], mask, grounds, (1, 2, 3))
    assert list(found) == [name for name in CHANGES if name != "background of another class"]
    before = np.asarray(crops[0])
    for name, picture in found.items():
        same = (np.asarray(picture) == before).all(2)
        kept = mask if name.startswith("background") else ~mask
        assert same[kept].all() and (name == "unmodified" or not same[~kept].all())
    assert (np.asarray(found["background grey"])[~mask] == (1, 2, 3)).all()
    assert (np.asarray(found["object grey"])[mask] == (1, 2, 3)).all()
    assert np.array_equal(np.asarray(found["background of same class"])[~mask], np.asarray(crops[1])[~mask])


def test_outcomes_equal_doing_it_by_hand(model, crops):
    masks = np.stack(
        [box(4, 4, 28, 28), box(10, 10, 14, 14), box(0, 20, 12, 32), box(0, 0, 0, 0), box(1, 1, 9, 9)]
    )
    labels, accepted = [0, 0, 1, 0, 1], [(0,), (0, 3), (1,), (0,), (1,)]
    names = [f"photo {i}" for i in range(5)]
    found = background.background_outcomes(
        model, PhotoCrops(names, crops, masks, np.array(labels), accepted), chunk=2
    )
    assert "photo 3" not in set(found["name"])
    used = [0, 1, 2, 4]
    crops, accepted = ([column[i] for i in used] for column in (crops, accepted))
    names, masks, labels = [names[i] for i in used], masks[used], np.array(labels)[used]
    lenders = background.donors(masks, labels)
    by_place = found.set_index(["name", "change"])
    for i in range(4):
        soft = blurred(crops[i], masks[i], 5)
        five = top_classes(model, [soft])[0]
        row = by_place.loc[names[i], "background blurred, radius 5"]
        assert row["top5"] == bool(set(five) & set(accepted[i])) and row["top1"] == (five[0] in accepted[i])
        assert row["area"] == masks[i].mean() and row["donor"] == "" and not row["donor5"]
        lender = lenders["another class"][i]
        ground = background.grounds_of(crops, masks, [lender])[0]
        five = top_classes(model, [background.pasted(crops[i], masks[i], ground)])[0]
        row = by_place.loc[names[i], "background of another class"]
        assert row["donor5"] == (labels[lender.position] in five)
        assert row["donor"] == ("filled" if lender.filled else "covered")


def test_tables_pair_photographs_and_count_classes_once():
    rows = []
    for i in range(40):
        label = 0 if i < 30 else i
        area = 0.2 if i % 2 else 0.6
        rows.append((f"p{i}", label, "unmodified", area, "", True, True, False))
        rows.append((f"p{i}", label, "background grey", area, "", False, label != 0, False))
        if i < 20:
            rows.append((f"p{i}", label, "background of same class", area, "filled", True, i > 0, False))
    columns = ["name", "label", "change", "area", "donor", "top1", "top5", "donor5"]
    outcomes = pd.DataFrame(rows, columns=columns)
    table = background.background_changes(outcomes).set_index("change")
    assert table["n"].to_dict() == {"background grey": 40, "background of same class": 20}
    grey = table.loc["background grey"]
    assert grey["before"] == 100 and grey["accuracy"] == 25 and grey["points"] == -75
    assert grey["classes"] == 11 and grey["points by class"] == pytest.approx(-100 / 11)
    assert grey["low"] < -75 < grey["high"] <= 0
    assert table.loc["background of same class", "points"] == -5
    split = background.background_changes_by_area(outcomes)
    assert split.groupby("change")["n"].sum().to_dict() == table["n"].to_dict()
    assert set(zip(split["from"], split["to"], strict=True)) == {(0.0, 0.25), (0.5, 0.75)}
