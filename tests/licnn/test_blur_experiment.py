"""What differences of blurred photographs say, on results made by hand."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from saliencylib.licnn.method import blur, blur_experiment, figures_blur
from saliencylib.licnn.blur import UNMODIFIED, Variant
from saliencylib.licnn.classifiers import Preprocess, as_classifier
from saliencylib.data import PhotoSet
from saliencylib.licnn.method import LICNN

pytestmark = pytest.mark.usefixtures("in_process")

OBJECT, BACKGROUND = (Variant("LICNN", 0.35, where, 10) for where in ("object", "background"))


def rows(variant: Variant, right: np.ndarray, area: float = 0.35) -> pd.DataFrame:
    number = np.arange(len(right))
    columns = {"photograph": number, "name": number.astype(str)} | variant._asdict()
    columns |= {"rule": blur.rule_name(variant.rule), "area": area, "top1": right, "top5": right}
    return pd.DataFrame(columns | {"first": np.where(right, 1, 2), "set": "drawn"})


@pytest.fixture
def results() -> pd.DataFrame:
    """Ten photographs: 0 to 7 are right as they are, 0 to 3 with the object blurred, 3 to 9 with the rest."""
    number = np.arange(10)
    parts = [rows(UNMODIFIED, number < 8, 1.0), rows(OBJECT, number < 4), rows(BACKGROUND, number >= 3)]
    for source in blur.BASELINES:
        parts += [rows(v._replace(source=source), number < 5) for v in (OBJECT, BACKGROUND)]
    return pd.concat(parts, ignore_index=True)


def test_share_kept_is_a_ratio_of_accuracies(results):
    kept = blur_experiment.share_kept(results, OBJECT)
    assert kept.value == 0.5 and 0.1 < kept.low < 0.5 < kept.high < 0.9 and kept.n == 10
    with pytest.raises(ValueError, match="no unmodified"):
        blur_experiment.share_kept(results.assign(top5=False), OBJECT)


def test_changes_count_both_ways(results):
    assert blur_experiment.change(results, "top5", UNMODIFIED, BACKGROUND).value == pytest.approx(-10)
    turned = blur_experiment.turned(results, BACKGROUND)
    assert turned["photograph"].tolist() == [0, 1, 2, 8, 9]
    assert turned["right_before"].tolist() == [True, True, True, False, False]
    assert turned["before"].tolist() == [1, 1, 1, 2, 2] and turned["after"].tolist() == [2, 2, 2, 1, 1]
    counts = blur_experiment.turned_counts(results, BACKGROUND, "all")
    assert (counts["wrong to right"], counts["right to wrong"], counts["n"], counts["p"]) == (2, 3, 10, 1)


def test_controls_that_were_not_measured_have_no_row(results):
    table = blur_experiment.control_changes(results)
    assert len(table) == 6 and (table["area before, %"] == 35).all()
    own_background = table.set_index("comparison")["points"]["background: LICNN minus RC"]
    assert own_background == pytest.approx(20)  # 7 of 10 against 5 of 10
    assert (table["smallest visible"] == (table["high"] - table["low"]) / 2).all()


def test_changes_by_rule_are_of_licnns_regions_in_both_accuracies(results):
    missing = Variant("LICNN", "boxes", "background", 10)
    table = blur_experiment.blur_changes(results, [UNMODIFIED, OBJECT, BACKGROUND, missing])
    assert table["accuracy"].tolist() == ["top5", "top5", "top1", "top1"]
    assert table["comparison"].tolist()[:2] == [
        "35 % of the picture, object, radius 10",
        "35 % of the picture, background, radius 10",
    ]
    assert table["points"].tolist() == pytest.approx([-40, -10, -40, -10])


def test_curve_holds_every_source_and_area(results):
    curve = blur_experiment.curve(results, areas=(0.35,))
    assert curve["source"].tolist() == ["LICNN", *blur.BASELINES] and curve["area"].tolist() == [35] * 4
    assert curve["accuracy"].tolist() == [70, 50, 50, 50] and (curve["low"] >= 0).all()


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU6(), nn.Flatten()]
    classes = [f"class {i}" for i in range(9)]
    return as_classifier(nn.Sequential(*layers, nn.Linear(1152, 9)), Preprocess(36, 32), classes)


@pytest.fixture
def photos(tmp_path) -> PhotoSet:
    rng, paths = np.random.default_rng(0), []
    for i in range(6):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(paths[-1])
    accepted = [(i,) for i in range(6)]
    return PhotoSet("drawn", paths, np.arange(6), [np.empty((0, 4))] * 6, [""] * 6, accepted, [None] * 6)


def test_every_photograph_is_blurred_once_whatever_sets_it_is_in(model, photos):
    found = blur_experiment.blurred_sets(
        LICNN(model),
        {"drawn": photos},
        {"drawn": np.array([0, 2])},
        {"drawn": np.array([2, 5])},
        [UNMODIFIED],
    )
    assert found["photograph"].tolist() == [0, 2, 5] and found["name"].tolist() == ["0", "2", "5"]
    assert found["natural"].tolist() == [True, True, False]
    assert found["adversarial"].tolist() == [False, True, True]
    whole = blur.experiment(LICNN(model), photos, [UNMODIFIED])
    assert found["first"].tolist() == whole["first"][[0, 2, 5]].tolist()


def test_turned_pictures_are_those_of_the_experiment(model, photos):
    explainer, variant = LICNN(model), Variant("LICNN", 0.35, "background", 5)
    crops, soft, (before, after) = blur_experiment.turned_pictures(explainer, photos, [1, 4], variant)
    results = blur.experiment(explainer, photos, [UNMODIFIED, variant])
    for names, found in ((before, UNMODIFIED), (after, variant)):
        first = blur.outcomes(results, "first", found)
        assert [five[0] for five in names] == [f"class {first[name]}" for name in ("1", "4")]
    figure = figures_blur.turned(crops, soft, (before, after), [True, False], "n = 2")
    assert "1 of these gain and 1 lose" in figure.get_suptitle().replace("\n", " ")
    plt.close("all")


def test_figures_state_their_finding(results):
    figure = figures_blur.figure_15(results, "n = 10", "Natural", 0.35)
    assert "top-5 80 %, 70 % with the background" in figure.get_suptitle()
    curve = blur_experiment.curve(results, areas=(0.35,))
    figure = figures_blur.accuracy_by_area({"natural": curve}, {"natural": 80.0}, "n = 10")
    assert "70 % in LICNN's region, 50 % in a random one" in figure.get_suptitle()
    plt.close("all")


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
    assert figures_blur.regions_beaten(controls) == title
    assert figures_blur.regions_beaten(controls[4:]).endswith(
        "neither clearly more nor clearly less than others"
    )
