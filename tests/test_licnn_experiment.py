"""What notebook 03 computes from maps and blurred photographs, by closed forms."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from saliencylib import figures_licnn, licnn, sanity
from saliencylib import licnn_experiment as experiment
from saliencylib.classifiers import Preprocess, as_classifier


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 9)]
    return as_classifier(nn.Sequential(*layers), Preprocess(36, 32), [str(i) for i in range(9)])


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def results() -> pd.DataFrame:
    """Ten photographs: 0 to 7 are right as they are, 0 to 3 with the object blurred, 3 to 9 with the rest."""
    frames = []
    number = np.arange(10)
    variants = {("", ""): number < 8, ("rule", "object"): number < 4, ("rule", "background"): number >= 3}
    for (region, where), right in variants.items():
        rows = {"photograph": number, "name": number.astype(str), "region": region, "where": where}
        rows |= {"radius": 10 if region else 0, "area": 0.3 if region else 1.0}
        frames.append(pd.DataFrame(rows | {"top1": right, "top5": right, "first": np.where(right, 1, 2)}))
    return pd.concat(frames, ignore_index=True)


def test_equations_match_and_would_not_with_another_zone(monkeypatch):
    assert experiment.equations_match()
    assert experiment.equations_match(k=3, a=0.3, b=0.2, seed=1)
    original = licnn.lateral_inhibition
    monkeypatch.setattr(licnn, "lateral_inhibition", lambda x, k, a, b: original(x, k - 2, a, b))
    assert not experiment.equations_match()


def test_mach_bands_rise_at_every_edge():
    rise = experiment.mach_band_rise(levels=5)
    assert rise.n == 4 and rise.low > 1
    bands = licnn.mach_bands(5)
    at_edge = licnn.lateral_inhibition(bands[None])[0, 7, [19, 10]].numpy()
    assert rise.high > (at_edge[0] - at_edge[1]) * 5 * 0.98


def test_photographs_at_even_steps():
    assert len(experiment.photo_set("photographs")) == 8
    few = experiment.photo_set("photographs", 3)
    assert [path.stem for path in few.paths] == ["astronaut", "coins", "rocket"]
    assert len(experiment.labelled(experiment.photo_set("photographs"))) == 6


def test_credits_are_readable():
    assert (
        experiment.plain(r"G\303\274ldem \303\234st\303\274n &amp; co, http://x")
        == "Güldem Üstün & co, http://x"
    )
    assert experiment.authors(["A, http://a, CC", "B, http://b", "A, http://c"]) == "by A, B"
    page = "https://www.flickr.com/photos/someone/123"
    assert experiment.authors([f"\u7e3d\u7d71\u5e9c, {page}, CC BY 2.0"]) == "by flickr.com/someone"


def test_share_kept_is_a_ratio_of_accuracies(results):
    kept = experiment.share_kept(results, "rule", "object", 10)
    assert kept.value == 0.5 and 0.1 < kept.low < 0.5 < kept.high < 0.9 and kept.n == 10
    with pytest.raises(ValueError, match="no unmodified"):
        experiment.share_kept(results.assign(top5=False), "rule", "object", 10)


def test_changes_count_both_ways(results):
    change = experiment.change(results, "top5", ("", "", 0), ("rule", "background", 10))
    assert change.value == pytest.approx(-10)
    turned = experiment.turned(results, "rule")
    assert turned["photograph"].tolist() == [0, 1, 2, 8, 9]
    assert turned["right_before"].tolist() == [True, True, True, False, False]
    assert turned["before"].tolist() == [1, 1, 1, 2, 2] and turned["after"].tolist() == [2, 2, 2, 1, 1]


def test_switches_one_at_a_time_and_all(model, images):
    table = experiment.switch_effects(model, images, torch.tensor([0, 1, 2]))
    assert len(table) == 6 and table["correlation"][0] == pytest.approx(1)
    assert table["correlation"][1:].max() < 1 - 1e-6
    by_name = table.set_index("variant")["locations kept, %"]
    assert by_name["text"] == by_name["normalise_gradient = False"] < by_name["released code"]


def test_terms_without_inhibition_keep_most(model, images):
    table = experiment.term_effects(model, images, torch.tensor([0, 1, 2]))
    kept = table.groupby("terms")["kept"].mean()
    assert len(table) == 12 and kept.idxmax() == "no inhibition (a = b = 0)"
    high = table.pivot(index="image", columns="terms", values="kept_high")
    difference = (high["both terms"] - high["differential term only (a = 0)"]).mean()
    assert experiment.protection(table).value == pytest.approx(difference)


def test_randomisation_is_judged_image_by_image(model, images):
    methods = ["LICNN", "Gradient", "Guided Backprop"]
    falls = sanity.curves(model, images, torch.tensor([0, 1, 2]), methods, seeds=[0, 1])
    found = experiment.randomisation_estimates(falls)
    mean = falls.groupby(["method", "stage"])["hog"].mean()
    assert found["LI-F12a"].value == pytest.approx(mean["LICNN", "6"] - mean["LICNN", "0"])
    assert found["LI-F12b"].value == pytest.approx(mean["LICNN", "0"] - mean["Gradient", "0"])
    assert found["LI-F12a"].n == 3


def test_maps_by_stage_start_with_the_network_as_it_is(model, images):
    maps = experiment.maps_by_stage(model, images[0], 4, ("LICNN", "Gradient"), shown=2)
    assert list(maps) == ["original", "6", "0"]
    expected = licnn.LICNN(model).attribute(images[:1], 4)[0].numpy()
    assert np.allclose(maps["original"]["LICNN"], expected, atol=1e-6)


def test_figures_state_their_finding(results):
    results = results.replace({"region": {"rule": "35 % of the picture"}})
    figure = figures_licnn.figure_15(results, "n = 10", "Natural", "35 % of the picture")
    assert "top-5 80 %, 70 % with the background" in figure.get_suptitle()
    energy = pd.DataFrame({"area": [0.2, 0.4], "LICNN, released code": [0.3, 0.5], "Grad-CAM": [0.6, 0.8]})
    assert "Grad-CAM: +0.40" in figures_licnn.energy_in_boxes(energy, "n = 2").get_suptitle()
    shares = {"released code": np.full((4, 2), 0.3), "text": np.array([[0.2, 0.1], [0, 0], [0, 0], [0, 0]])}
    assert "text 3 of 4 layers" in figures_licnn.kept_locations(shares, "n = 2").axes[0].get_title("left")
    assert "11 times" in figures_licnn.figure_6().axes[0].get_title("left")
    plt.close("all")
