"""What notebook 03 computes from maps and from blurred photographs, by closed forms."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from saliencylib.licnn import blur_figures, figures, results
from saliencylib.licnn.blur import RADII, REGION_SOURCES, UNMODIFIED, Variant, rule_name, top_classes
from saliencylib.licnn.crops import PhotoCrops, authors, joined_pairs, photo_set, readable_credit
from saliencylib.licnn.localisation import SWITCHED, inside_minus_outside
from saliencylib.licnn.method import LICNN, lateral_inhibition
from saliencylib.licnn.sanity import randomisation_curves
from saliencylib.stats import Estimate

pytestmark = pytest.mark.usefixtures("in_process", "own_cache")

OTHERS = REGION_SOURCES[1:-1]
OBJECT, BACKGROUND = (Variant("LICNN", 0.35, where, 10) for where in ("object", "background"))


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


# ---------------------------------------------------------------- maps


def test_equations_match_and_would_not_with_another_zone(monkeypatch):
    assert results.equations_match()
    assert results.equations_match(k=3, a=0.3, b=0.2, seed=1)
    monkeypatch.setattr(results, "lateral_inhibition", lambda x, k, a, b: lateral_inhibition(x, k - 2, a, b))
    assert not results.equations_match()


def test_mach_bands_rise_at_every_edge():
    rises = results.mach_band_rises(levels=5)
    assert len(rises) == 4 and rises["rise"].min() > 1
    at_edge = lateral_inhibition(results.mach_bands(5)[None])[0, 7, [19, 10]].numpy()
    assert (at_edge[0] - at_edge[1]) * 5 == pytest.approx(rises["rise"][0])
    discs = results.mach_discs(4, 5)
    assert discs.shape == (40, 40) and discs.unique().tolist() == results.mach_bands(4).unique().tolist()


def test_high_zones_are_the_quarter_with_the_highest_means():
    x = torch.zeros(1, 16, 16)
    x[0, :8, :8] = 1
    assert results.kept_by_zone(x, x > 0, k=3).flatten().tolist() == [0.25, 1, 0]
    kept = torch.zeros(1, 16, 16, dtype=torch.bool)
    kept[0, :, :4] = True
    assert results.kept_by_zone(x, kept, k=3).flatten().tolist() == pytest.approx([0.25, 0.5, 1 / 6])


def test_a_constant_inhibits_as_much_as_the_average_term_everywhere():
    x = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(0))
    average, rest = lateral_inhibition(x, b=0.0), lateral_inhibition(x, a=0.0)
    constant = average.mean((1, 2), keepdim=True) + rest
    expected = x > constant / constant.square().sum((1, 2), keepdim=True).sqrt()
    assert torch.equal(results.gate(x, results.AVERAGE_AS_CONSTANT), expected)
    assert constant.sum().item() == pytest.approx(lateral_inhibition(x).sum().item())


def test_zones_are_protected_and_borders_sharpened_beyond_the_rest_of_the_map():
    rng = np.random.default_rng(0)
    base, image = rng.random(30), np.arange(30)
    rows = [
        pd.DataFrame({"terms": terms, "image": image, "kept_high": base + high, "kept_rest": base + rest})
        for terms, high, rest in (("both terms", 0.3, 0.1), (results.AVERAGE_AS_CONSTANT, 0.1, 0.05))
    ]
    rows[0]["kept_high"] += 0.01 * rng.standard_normal(30)
    protected, nulls = results.zones_protected(pd.concat(rows))
    alone, beyond = nulls["the rest of the map"]
    assert protected.value == pytest.approx(0.2, abs=0.01) and beyond.value == pytest.approx(0.15, abs=0.01)
    assert (alone.low, alone.value, alone.high) == (alone.value,) * 3, "equal values are told as such"
    names = {"kept_high": "border", "kept_rest": "elsewhere"}
    changes = pd.concat(rows).rename(columns=names)
    changes["terms"] = changes["terms"].replace(results.AVERAGE_AS_CONSTANT, results.NO_DIFFERENTIAL)
    sharper, nulls = results.border_gain(changes)
    assert sharper == protected and nulls["elsewhere in the map"][1] == beyond


def test_switches_one_at_a_time_and_all(model, images):
    table, shares = results.switch_effects(model, images, torch.tensor([0, 1, 2]))
    assert table["map"].tolist() == [*SWITCHED, "LICNN, released code"] == list(shares)
    assert table["correlation"][0] == pytest.approx(1) and table["correlation"][1:].max() < 1 - 1e-6
    kept = table.set_index("map")["kept, %"]
    assert kept["LICNN, text"] < kept["LICNN"] == kept["LICNN, released code"]
    assert shares["LICNN"].shape == (2, 3) and 100 * shares["LICNN"].mean() == pytest.approx(kept["LICNN"])


def test_terms_without_inhibition_keep_most(model, images):
    table = results.term_effects(model, images, torch.tensor([0, 1, 2]))
    assert len(table) == 15 and table.groupby("terms")["kept"].mean().idxmax() == "no inhibition (a = b = 0)"
    by_batch = results.term_effects(model, images, torch.tensor([0, 1, 2]), batch_size=2)
    assert sorted(by_batch["image"]) == sorted(table["image"])
    order = ["terms", "image"]
    both = [frame.sort_values(order, ignore_index=True) for frame in (table, by_batch)]
    pd.testing.assert_frame_equal(*both, atol=1e-5)


def test_gates_change_at_borders_and_elsewhere_by_hand(model, images):
    gate = torch.zeros(2, 4, 4, dtype=torch.bool)
    gate[0, :2] = True
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[:, :2, :2] = True
    found = results._changes_at_borders(gate, mask)
    # the object has 4 pairs across its border, 2 of them below it; the gate changes at all 4 pairs of rows
    assert np.allclose(found, [[2 / 4, 2 / 20], [0, 0]])
    objects = np.zeros((3, 32, 32), bool)
    objects[:2, 4:20, 6:25] = True
    table = results.border_changes(model, images, torch.tensor([0, 1, 2]), objects)
    assert table["image"].tolist() == [0, 1] * 2, "a photograph without an object has no border"
    assert table[["border", "elsewhere"]].stack().between(0, 1).all()


def test_randomisation_is_judged_image_by_image(model, images):
    methods = ["LICNN", "Gradient", "Guided Backprop", "Edge detector"]
    falls = randomisation_curves(model, images, torch.tensor([0, 1, 2]), methods, seeds=[0, 1])
    for similarity in ("hog", "spearman"):
        area = falls.groupby("method")[similarity].mean()  # every image has as many stages and seeds
        lost, nulls = results.similarity_lost(falls, similarity)
        assert lost.value == pytest.approx(1 - area["LICNN"]) and lost.n == 3 and lost.low < lost.value
        edges, beyond = nulls["edge detector"]
        assert edges.value == pytest.approx(0, abs=1e-9) and beyond.value == pytest.approx(lost.value)
        assert edges.low == edges.high == edges.value
        guided = nulls["Guided Backprop"][1]
        assert guided.value == pytest.approx(area["Guided Backprop"] - area["LICNN"])
        beside = results.similarity_beside_others(falls, similarity)
        assert list(beside) == ["Gradient"]
        assert beside["Gradient"].value == pytest.approx(area["LICNN"] - area["Gradient"])
    table = results.similarity_table(falls.assign(classifier="small", scheme="cascading")).set_index("method")
    first = falls[falls["stage"] == falls["stage"].iloc[0]]
    expected = first.groupby("method")["hog"].mean()["Guided Backprop"]
    assert table["hog, top third"]["Guided Backprop"] == pytest.approx(expected)


def test_maps_by_stage_go_from_the_network_as_it_is_to_the_random_one(model, images):
    maps = results.maps_by_stage(model, images[0], 4, ("LICNN", "Gradient"), shown=2)
    assert list(maps)[0] == "original" and list(maps)[-1] == "0" and len(maps) == 3
    expected = LICNN(model).attribute(images[:1], 4)[0].numpy()
    assert np.allclose(maps["original"]["LICNN"], expected, atol=1e-6)


def test_objects_stand_out_by_their_mean_inside_minus_outside(model, crops):
    masks = np.zeros((5, 32, 32), bool)
    masks[:, 5:20, 8:25] = True
    maps = LICNN(model).saliency_maps(model.preprocess.inputs(crops)).numpy()
    found = results.contrasts(crops, maps, masks)
    assert np.allclose(found["inside minus outside"], inside_minus_outside(maps, masks))
    seen = PhotoCrops(list("abcde"), crops, masks, np.zeros(5, int), [(0,)] * 5)
    pd.testing.assert_frame_equal(results.object_contrasts(model, seen, batch_size=2), found, atol=1e-5)
    assert (found["centre Gaussian"] > 0).all() and found["area"].tolist() == [masks[0].mean()] * 5
    effect, nulls = results.contrast_beside_controls(found)
    recedes, _ = results.contrast_beside_controls(found, sign=-1)
    own = found["inside minus outside"].mean()
    assert effect.value == pytest.approx(own) == pytest.approx(-recedes.value) and effect.n == 5
    centre, beyond = nulls["centre Gaussian"]
    assert centre.value == pytest.approx(found["centre Gaussian"].mean())
    assert beyond.value == pytest.approx(own - centre.value)


def scores_of(values: dict[str, float], classifier: str = "net") -> pd.DataFrame:
    """Localisation scores of 30 images of 10 classes; a map's AUC, energy and so on vary by image alike."""
    rows = []
    for name, value in values.items():
        for i in range(30):
            some = value + 0.001 * i
            row = {"map": name, "image": f"p{i}", "label": i % 10, "area": 0.2 + 0.01 * i, "auc": some}
            row |= {"pointing": value > 0.5, "energy": some - 0.1, "iou": some, "iou_area": some - 0.2}
            rows.append(row | {"classifier": classifier})
    return pd.DataFrame(rows)


MAPS = {"LICNN": 0.8, "LICNN, no inhibition": 0.75, "centre Gaussian": 0.78, "random map": 0.5}
MAPS |= {f"LICNN, no inhibition, times {c}": v for c, v in (("centre Gaussian", 0.79), ("random map", 0.7))}


def test_emphasis_is_what_lies_above_a_map_that_knows_nothing():
    scores = scores_of(MAPS)
    effect, nulls = results.emphasis(scores, "AUC")
    assert effect.value == pytest.approx(0.3145) and effect.n == 30
    assert nulls["centre Gaussian"][1].value == pytest.approx(0.02)
    effect, nulls = results.emphasis(scores, "energy")
    assert effect.value == pytest.approx((0.7 + 0.0145) - (0.2 + 0.145))
    pointing, nulls = results.emphasis(scores, "pointing")
    assert pointing.value == pytest.approx(1 - 0.345) and nulls["random map"][0].value == pytest.approx(
        -0.345
    )


def test_inhibition_gains_beside_a_control_in_its_place():
    for metric in results.CONTRAST:
        effect, nulls = results.inhibition_gain(scores_of(MAPS), metric)
        assert effect.value == pytest.approx(0.05)
        assert nulls["centre Gaussian"][0].value == pytest.approx(0.04)
        assert nulls["random map"][1].value == pytest.approx(0.1)


def test_localisation_tables_are_apart_by_classifier_and_size():
    scores = pd.concat([scores_of(MAPS), scores_of(MAPS, "other")], ignore_index=True)
    table = results.localisation_table(scores).set_index(["classifier", "map"])
    assert len(table) == 2 * len(MAPS) and table.loc[("net", "LICNN"), "auc_minus_licnn"] == ""
    assert table.loc[("other", "random map"), "auc_minus_licnn"].startswith("-0.3")
    assert table.loc[("net", "LICNN"), "above"] == pytest.approx(0.3695)
    sizes = results.localisation_by_area(scores, ["LICNN", "random map"])
    assert sizes.groupby(["from", "to"])["n"].max().to_dict() == {(0.0, 0.25): 6, (0.25, 0.5): 24}


# ---------------------------------------------------------------- photographs


def test_photographs_are_evenly_spread_and_credits_readable():
    assert len(photo_set("photographs")) == 8
    assert [path.stem for path in photo_set("photographs", 3).paths] == [
        "astronaut",
        "chelsea",
        "hubble_deep_field",
    ]
    credit = r"G\303\274ldem \303\234st\303\274n &amp; co, http://x"
    assert readable_credit(credit) == "Güldem Üstün & co, http://x"
    assert authors(["A, http://a, CC", "B, http://b", "A, http://c"]) == "by A, B"
    page = "https://www.flickr.com/photos/someone/123"
    assert authors([f"\u7e3d\u7d71\u5e9c, {page}, CC BY 2.0"]) == "by flickr.com/someone"


def test_pairs_are_right_photographs_of_different_classes(model, crops):
    top, right = np.array([[1], [2], [1], [3]]), np.array([True, True, True, False])
    pairs, joined, classes = joined_pairs(model, crops, top, right, count=2)
    assert all(top[i, 0] != top[j, 0] and right[i] and right[j] for i, j in pairs) and len(pairs) == 2
    assert joined.shape == (2, 3, 32, 64) and classes.tolist() == [[top[i, 0], top[j, 0]] for i, j in pairs]
    assert torch.equal(joined[0][:, :, 32:], model.preprocess.normalise(crops[pairs[0][1]]))
    with pytest.raises(ValueError, match="no two photographs"):
        joined_pairs(model, crops, top, np.array([True, False, True, False]), count=2)


# ---------------------------------------------------------------- blurred photographs


def drawn(variant: Variant, right: np.ndarray, area: float = 0.35) -> pd.DataFrame:
    number = np.arange(len(right))
    columns = {"name": number.astype(str), "label": number} | variant._asdict()
    columns |= {"rule": rule_name(variant.rule), "area": area, "top1": right, "top5": right}
    return pd.DataFrame(columns | {"first": np.where(right, 1, 2)})


@pytest.fixture
def outcomes() -> pd.DataFrame:
    """Ten photographs: 0 to 7 are right as they are, 0 to 3 with the object blurred, 3 to 9 with the rest."""
    number = np.arange(10)
    parts = [drawn(UNMODIFIED, number < 8, 1.0), drawn(OBJECT, number < 4), drawn(BACKGROUND, number >= 3)]
    for source in OTHERS:
        parts += [drawn(v._replace(source=source), number < 5) for v in (OBJECT, BACKGROUND)]
    return pd.concat(parts, ignore_index=True)


def test_share_kept_is_a_ratio_of_accuracies(outcomes):
    kept = results.share_kept(outcomes, OBJECT)
    assert kept.value == 0.5 and 0.1 < kept.low < 0.5 < kept.high < 0.9 and kept.n == 10
    with pytest.raises(ValueError, match="no unmodified"):
        results.share_kept(outcomes.assign(top5=False), OBJECT)
    with pytest.raises(ValueError, match="no rows for Variant.source='LICNN', rule='released'"):
        results.share_kept(outcomes, Variant("LICNN", "released", "object", 10))


def test_changes_count_both_ways(outcomes):
    assert results.accuracy_change(outcomes, "top5", UNMODIFIED, BACKGROUND).value == pytest.approx(-10)
    turned = results.turned_photographs(outcomes, BACKGROUND)
    assert turned["name"].tolist() == ["0", "1", "2", "8", "9"]
    assert turned["right_before"].tolist() == [True, True, True, False, False]
    assert turned["before"].tolist() == [1, 1, 1, 2, 2] and turned["after"].tolist() == [2, 2, 2, 1, 1]
    counts = results.turned_counts(outcomes, {"LICNN": BACKGROUND}, "all").iloc[0]
    assert (counts["wrong to right"], counts["right to wrong"], counts["n"], counts["p"]) == (2, 3, 10, 1)
    assert counts["of the wrong, %"] == 100
    assert results.wrong_photographs(outcomes) == pytest.approx(1500)
    right, nulls = results.turned_right(outcomes, BACKGROUND, BACKGROUND._replace(source="RC"))
    assert right.value == pytest.approx(1500) and right.n == 10 and right.low < 0 < right.value < right.high
    alone, beyond = nulls["random region"]
    assert (alone.low, alone.value, alone.high) == (0, 0, 0) and beyond == right


def test_pairs_of_outcomes_are_photographs_that_have_both(outcomes):
    boxes = drawn(Variant("boxes", "boxes", "background", 10), np.array([True, False])).assign(
        name=["3", "8"]
    )
    both = pd.concat([outcomes, boxes], ignore_index=True)
    pair = UNMODIFIED, Variant("boxes", "boxes", "background", 10)
    before, after, labels = results.paired_outcomes(both, "top5", *pair)
    assert before.tolist() == [True, False] and after.tolist() == [True, False] and labels.tolist() == [3, 8]


def test_controls_that_were_not_measured_have_no_row(outcomes):
    table = results.control_changes(outcomes)
    assert len(table) == 2 * len(OTHERS) and (table["area before, %"] == 35).all()
    own_background = table.set_index("comparison")["points"]["background: LICNN minus RC, 35%"]
    assert own_background == pytest.approx(20)  # 7 of 10 against 5 of 10
    assert results.region_worth(outcomes, "LICNN", "RC").value == own_background
    assert results.region_worth(outcomes, "RC", "LICNN").value == -own_background


def test_the_curve_holds_every_source_and_area(outcomes):
    curve = results.area_curve(outcomes, areas=(0.35,))
    assert curve["source"].tolist() == ["LICNN", *OTHERS] and curve["area"].tolist() == [35] * 6
    assert curve["accuracy"].tolist() == [70, 50, 50, 50, 50, 50] and (curve["low"] >= 0).all()
    title = blur_figures.accuracy_by_area({"natural": curve}, {"natural": 80.0}, "n = 10").get_suptitle()
    assert "70 % in LICNN's region, 50 % in a random one" in title.replace("\n", " ")


def test_accuracies_over_photographs_and_over_classes(outcomes):
    two = outcomes.assign(label=(outcomes["label"] >= 8).astype(int))
    first = results.blur_accuracies(two).iloc[0]
    assert first[["top5", "n", "top5 by class"]].tolist() == [80, 10, 50], "classes of 8 and 2 photographs"


def test_what_chooses_photographs_does_not_measure_them(model, seen):
    other = seen.select([1, 2, 3, 4, 0])
    other = replace(other, names=seen.names, labels=seen.labels, accepted=seen.accepted)
    right = [np.array(flags) for flags in ([True, False, False, True, True], [False] * 4 + [True])]
    found, chosen = results.cross_fitted(model, list(zip((seen, other), right, strict=True)), [UNMODIFIED])
    assert found["name"].tolist() == ["photo 1 1", "photo 2 1"] + [f"photo {i} 2" for i in range(4)]
    assert found["first"][0] == top_classes(model, [other.crops[1]])[0, 0]
    assert found["first"][2] == top_classes(model, [seen.crops[0]])[0, 0]
    assert chosen["wrong"].tolist() == [2, 4] and chosen["top-1, %"].tolist() == [60, 20]
    assert chosen["top-1 on the other crop, %"].tolist() == [0, 50]


# ---------------------------------------------------------------- figures


def test_figures_state_their_finding(outcomes, crops):
    names = [["tench"] * 5] * 2
    title = blur_figures.figure_17(crops[:2], crops[2:4], (names, names), [True, False], "n").get_suptitle()
    assert "1 of these gain and 1 lose" in title.replace("\n", " ")
    shares = {"released code": np.full((4, 2), 0.3), "text": np.array([[0.2, 0.1], [0, 0], [0, 0], [0, 0]])}
    assert "text 3 of 4 layers" in figures.kept_locations(shares, "n = 2").get_suptitle()
    rise = results.mach_band_rises(6)["rise"].mean()
    title = figures.figure_6().get_suptitle().replace("\n", " ")
    assert f"rises by {rise:.2f} times the step" in title
    title = figures.localisation_forest(scores_of(MAPS), "n = 30").get_suptitle()
    assert title.replace("\n", " ") == "Of 1 classifiers LICNN's mean AUC is above centre Gaussian's on 1"
    sizes = results.localisation_by_area(scores_of(MAPS), ["LICNN", "centre Gaussian"])
    assert "LICNN has an AUC of 0.80" in figures.auc_by_area(sizes, "drawn").get_suptitle()
    number = np.arange(10)
    smaller = [
        drawn(Variant("LICNN", "released", where, r), number < 7)
        for r in RADII
        for where in ("background", "object")
    ]
    both = pd.concat([outcomes[outcomes["source"] == ""], *smaller])
    title = blur_figures.figure_15(both, "n = 10", "Natural").get_suptitle()
    assert "top-5 80 %, 70 % with the background" in title.replace("\n", " ")


def test_titles_of_maps_are_measured(crops):
    flat, peak = np.ones((2, 20, 20)), np.zeros((2, 20, 20))
    peak[:, 3, 4] = 1
    maps = {"LICNN": flat, "RC": flat, "Gradient": peak}
    title = figures.methods_side_by_side(crops[:2], maps, "n = 2").get_suptitle().replace("\n", " ")
    told = "50% (LICNN), 0% (Gradient)"
    assert title == f"The smallest part of a picture that holds half of its map: {told}"
    left_only = np.zeros((1, 2, 8, 16))
    left_only[..., :8] = 1
    assert figures.own_half_share(left_only) == 0.5
    left_only[:, 1, :, 8:] = 3
    assert figures.own_half_share(left_only) == pytest.approx((1 + 3 / 4) / 2)
    pictures, ways = [np.zeros((8, 16, 3), np.uint8)], {"after": left_only, "before": left_only[:, ::-1]}
    title = figures.figure_24(pictures, ways, [("cat", "dog")], "n = 1").get_suptitle().replace("\n", " ")
    assert "88% after, 12% before the softmax" in title
    masks = np.zeros((2, 32, 32), bool)
    masks[:, 5:20, 8:25] = True
    recede = Estimate(-0.13, -0.17, -0.08, 31), Estimate(-0.11, -0.15, -0.06, 31)
    title = figures.figure_7(crops[:2], np.ones((2, 32, 32)), masks, *recede, "n").get_suptitle()
    assert title.replace("\n", " ").endswith("of a centre Gaussian's -0.11 [-0.15, -0.06]")


def test_figures_of_the_background_state_what_it_costs():
    rows = [
        {"change": change, "before": 80.0, "points": -points, "low": -points - 1, "high": 1 - points, "n": 9}
        for change, points in zip(blur_figures.BACKGROUND_WORDS, (9.0, 12.0, 11.0, 30.0), strict=True)
    ]
    table = pd.DataFrame(rows).assign(classifier="net")
    title = blur_figures.background_lost(table, "n = 10").get_suptitle().replace("\n", " ")
    assert "of 80 % top-5 accuracy (net), 9 points go when it is blurred and 30 when" in title
    unclear = blur_figures.background_lost(table.assign(high=1), "n = 10").get_suptitle()
    assert unclear.startswith("Changing the background costs no accuracy")
    large = table.assign(**{"from": 0.5, "to": 1.0, "points": -1.0, "low": -2.0, "high": 0.5})
    sizes = pd.concat([table.assign(**{"from": 0.0, "to": 0.5}), large])
    figure = blur_figures.background_lost_by_size(sizes, "drawn")
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert "n = 9, 9 photographs by size, of the same class 9, 9; drawn" in figure.texts[-1].get_text()
    title = figure.get_suptitle()
    assert title.startswith("Small objects lose most: 9 points when all else is blurred, 30 when")
    assert title.replace("\n", " ").endswith("large ones 1 and 1")
    equal = sizes.assign(points=-1.0, low=-2.0, high=0.5)
    assert "by the share" in blur_figures.background_lost_by_size(equal, "n = 10").get_suptitle()


def test_the_title_of_the_controls_names_what_is_clear_at_every_area():
    rows = [
        ("background: LICNN minus RC, 35%", -9, -12, -5),
        ("background: LICNN minus RC, area of the boxes", -3, -5, -1),
        ("background: LICNN minus LICNN, released code, 35%", 20, 15, 25),
        ("background: LICNN minus centre Gaussian, 35%", 9, 5, 13),
        ("background: LICNN minus boxes, area of the boxes", 1, -2, 4),
        ("object: LICNN minus random map, 35%", -24, -29, -20),
    ]
    controls = pd.DataFrame(rows, columns=["comparison", "points", "low", "high"])
    title = "LICNN's region keeps more than the released code's and centre Gaussian; less than RC"
    assert blur_figures.regions_beaten(controls) == title
    assert blur_figures.regions_beaten(controls[4:]).endswith("nor clearly less than others")
