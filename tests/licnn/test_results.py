"""What notebook 03 computes from maps and from blurred photographs, by closed forms."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from saliencylib.licnn import blur_figures, figures, results
from saliencylib.licnn.blur import RADII, UNMODIFIED, Variant, rule_name
from saliencylib.licnn.crops import authors, joined_pairs, photo_set, readable_credit
from saliencylib.licnn.localisation import BASELINES, LICNN_VARIANTS, inside_minus_outside
from saliencylib.licnn.method import LICNN, lateral_inhibition
from saliencylib.licnn.sanity import randomisation_curves

pytestmark = pytest.mark.usefixtures("in_process", "own_cache")

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
    rise = results.mach_band_rise(levels=5)
    assert rise.n == 4 and rise.low > 1
    at_edge = lateral_inhibition(results.mach_bands(5)[None])[0, 7, [19, 10]].numpy()
    assert rise.low < (at_edge[0] - at_edge[1]) * 5 < rise.high
    discs = results.mach_discs(4, 5)
    assert discs.shape == (40, 40) and discs.unique().tolist() == results.mach_bands(4).unique().tolist()


def test_high_zones_are_the_quarter_with_the_highest_means():
    x = torch.zeros(1, 16, 16)
    x[0, :8, :8] = 1
    assert results.kept_in_high_zones(x, k=3, a=0, b=0) == 1  # all ones are kept, all zeros are not
    assert results.kept_in_high_zones(-x, k=3, a=0, b=0) == 0


def test_switches_one_at_a_time_and_all(model, images):
    table, shares = results.switch_effects(model, images, torch.tensor([0, 1, 2]))
    assert table["map"].tolist() == list(LICNN_VARIANTS) == list(shares)
    assert table["correlation"][0] == pytest.approx(1) and table["correlation"][1:].max() < 1 - 1e-6
    kept = table.set_index("map")["locations kept, %"]
    assert kept["LICNN, text"] == kept["LICNN, gradient not normalised"] < kept["LICNN"]
    assert shares["LICNN"].shape == (2, 3) and 100 * shares["LICNN"].mean() == pytest.approx(kept["LICNN"])


def test_terms_without_inhibition_keep_most(model, images):
    table = results.term_effects(model, images, torch.tensor([0, 1, 2]))
    assert len(table) == 12 and table.groupby("terms")["kept"].mean().idxmax() == "no inhibition (a = b = 0)"


def test_randomisation_is_judged_image_by_image(model, images):
    methods = ["LICNN", "Gradient", "Guided Backprop"]
    falls = randomisation_curves(model, images, torch.tensor([0, 1, 2]), methods, seeds=[0, 1])
    for similarity in ("hog", "spearman"):
        area = falls.groupby("method")[similarity].mean()  # every image has as many stages and seeds
        lost = results.similarity_lost(falls, similarity)
        assert lost.value == pytest.approx(1 - area["LICNN"]) and lost.n == 3 and lost.low < lost.value
        beside = results.similarity_beside_others(falls, similarity)
        assert list(beside) == ["Gradient"]
        assert beside["Gradient"].value == pytest.approx(area["LICNN"] - area["Gradient"])


def test_maps_by_stage_go_from_the_network_as_it_is_to_the_random_one(model, images):
    maps = results.maps_by_stage(model, images[0], 4, ("LICNN", "Gradient"), shown=2)
    assert list(maps)[0] == "original" and list(maps)[-1] == "0" and len(maps) == 3
    expected = LICNN(model).attribute(images[:1], 4)[0].numpy()
    assert np.allclose(maps["original"]["LICNN"], expected, atol=1e-6)


def test_objects_stand_out_by_their_mean_inside_minus_outside(model, crops):
    masks = np.zeros((5, 32, 32), bool)
    masks[:, 5:20, 8:25] = True
    maps = LICNN(model).saliency_maps(model.preprocess.inputs(crops)).numpy()
    found = results.object_contrasts(crops, maps, masks)
    assert np.allclose(found["inside minus outside"], inside_minus_outside(maps, masks))
    assert (found["centre Gaussian"] > 0).all() and found["area"].tolist() == [masks[0].mean()] * 5


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
    columns = {"photograph": number, "name": number.astype(str)} | variant._asdict()
    columns |= {"rule": rule_name(variant.rule), "area": area, "top1": right, "top5": right}
    return pd.DataFrame(columns | {"first": np.where(right, 1, 2), "set": "drawn"})


@pytest.fixture
def outcomes() -> pd.DataFrame:
    """Ten photographs: 0 to 7 are right as they are, 0 to 3 with the object blurred, 3 to 9 with the rest."""
    number = np.arange(10)
    parts = [drawn(UNMODIFIED, number < 8, 1.0), drawn(OBJECT, number < 4), drawn(BACKGROUND, number >= 3)]
    for source in BASELINES:
        parts += [drawn(v._replace(source=source), number < 5) for v in (OBJECT, BACKGROUND)]
    return pd.concat(parts, ignore_index=True)


def test_share_kept_is_a_ratio_of_accuracies(outcomes):
    kept = results.share_kept(outcomes, OBJECT)
    assert kept.value == 0.5 and 0.1 < kept.low < 0.5 < kept.high < 0.9 and kept.n == 10
    with pytest.raises(ValueError, match="no unmodified"):
        results.share_kept(outcomes.assign(top5=False), OBJECT)
    with pytest.raises(ValueError, match="no rows for Variant.source='LICNN', rule='printed'"):
        results.share_kept(outcomes, Variant("LICNN", "printed", "object", 10))


def test_changes_count_both_ways(outcomes):
    assert results.accuracy_change(outcomes, "top5", UNMODIFIED, BACKGROUND).value == pytest.approx(-10)
    turned = results.turned_photographs(outcomes, BACKGROUND)
    assert turned["photograph"].tolist() == [0, 1, 2, 8, 9]
    assert turned["right_before"].tolist() == [True, True, True, False, False]
    assert turned["before"].tolist() == [1, 1, 1, 2, 2] and turned["after"].tolist() == [2, 2, 2, 1, 1]
    counts = results.turned_counts(outcomes, BACKGROUND, "all")
    assert (counts["wrong to right"], counts["right to wrong"], counts["n"], counts["p"]) == (2, 3, 10, 1)
    right = results.turned_right(outcomes, BACKGROUND)
    assert right.value == 2 and right.n == 10 and right.low == 0 and 4 < right.high < 6


def test_pairs_of_outcomes_are_photographs_that_have_both(outcomes):
    boxes = drawn(Variant("boxes", "boxes", "background", 10), np.array([True, False])).assign(
        name=["3", "8"]
    )
    both = pd.concat([outcomes, boxes], ignore_index=True)
    pair = UNMODIFIED, Variant("boxes", "boxes", "background", 10)
    before, after = results.paired_outcomes(both, "top5", *pair)
    assert before.tolist() == [True, False] and after.tolist() == [True, False]


def test_controls_that_were_not_measured_have_no_row(outcomes):
    table = results.control_changes(outcomes)
    assert len(table) == 6 and (table["area before, %"] == 35).all()
    own_background = table.set_index("comparison")["points"]["background: LICNN minus RC"]
    assert own_background == pytest.approx(20)  # 7 of 10 against 5 of 10
    assert results.region_worth(outcomes, "LICNN", "RC").value == own_background
    assert results.region_worth(outcomes, "RC", "LICNN").value == -own_background


def test_the_curve_holds_every_source_and_area(outcomes):
    curve = results.area_curve(outcomes, areas=(0.35,))
    assert curve["source"].tolist() == ["LICNN", *BASELINES] and curve["area"].tolist() == [35] * 4
    assert curve["accuracy"].tolist() == [70, 50, 50, 50] and (curve["low"] >= 0).all()
    title = blur_figures.accuracy_by_area({"natural": curve}, {"natural": 80.0}, "n = 10").get_suptitle()
    assert "70 % in LICNN's region, 50 % in a random one" in title


def test_every_photograph_is_blurred_once_whatever_sets_it_is_in(model, photos):
    natural, adversarial = {"drawn": np.array([0, 2])}, {"drawn": np.array([2, 4])}
    found = results.blurred_sets(LICNN(model), {"drawn": photos}, natural, adversarial, [UNMODIFIED])
    assert found["photograph"].tolist() == [0, 2, 4] and found["name"][1] == "photo 2"
    assert found["natural"].tolist() == [True, True, False]
    assert found["adversarial"].tolist() == [False, True, True]


# ---------------------------------------------------------------- figures


def test_figures_state_their_finding(outcomes, crops):
    names = [["tench"] * 5] * 2
    title = blur_figures.figure_17(crops[:2], crops[2:4], (names, names), [True, False], "n").get_suptitle()
    assert "1 of these gain and 1 lose" in title.replace("\n", " ")
    shares = {"released code": np.full((4, 2), 0.3), "text": np.array([[0.2, 0.1], [0, 0], [0, 0], [0, 0]])}
    assert "text 3 of 4 layers" in figures.kept_locations(shares, "n = 2").get_suptitle()
    assert "11 times" in figures.figure_6().get_suptitle()
    rows = [
        {"map": name, "image": i, "pointing": True, "auc": 0.7, "energy": energy + 0.01 * i, "area": 0.2}
        for name, energy in (("LICNN", 0.3), ("Grad-CAM", 0.6), ("centre Gaussian", 0.4))
        for i in range(2)
    ]
    title = figures.localisation_forest(pd.DataFrame(rows), "n = 2").get_suptitle()
    assert "Grad-CAM has the most energy" in title and "LICNN +0.1" in title
    number = np.arange(10)
    smaller = [
        drawn(BACKGROUND._replace(radius=r, where=w), number < 7)
        for r in RADII
        for w in ("background", "object")
    ]
    both = pd.concat([outcomes[outcomes["source"] == ""], *smaller])
    title = blur_figures.figure_15(both, "n = 10", "Natural", 0.35).get_suptitle()
    assert "top-5 80 %, 70 % with the background" in title


def test_the_title_of_the_controls_names_what_is_clear_at_every_area():
    rows = [
        ("background: LICNN minus RC", -9, -12, -5),
        ("background: LICNN minus RC, area of the boxes", -3, -5, -1),
        ("background: LICNN minus random", 20, 15, 25),
        ("background: LICNN minus centre Gaussian", 9, 5, 13),
        ("background: LICNN minus boxes, area of the boxes", 1, -2, 4),
        ("object: LICNN minus random", -24, -29, -20),
    ]
    controls = pd.DataFrame(rows, columns=["comparison", "points", "low", "high"])
    title = "LICNN's region keeps more than random and centre Gaussian, less than RC"
    assert blur_figures.regions_beaten(controls) == title
    assert blur_figures.regions_beaten(controls[4:]).endswith("nor clearly less than others")
