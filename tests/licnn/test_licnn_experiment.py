"""What notebook 03 computes from maps and blurred photographs, by closed forms."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from saliencylib import data
from saliencylib.licnn.method import figures as figures_licnn, method as licnn, localisation, sanity
from saliencylib.licnn.method import results as experiment
from saliencylib.licnn.classifiers import Preprocess, as_classifier
from saliencylib.licnn.method import LICNN

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 9)]
    return as_classifier(nn.Sequential(*layers), Preprocess(36, 32), [str(i) for i in range(9)])


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


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


def test_switches_one_at_a_time_and_all(model, images):
    table, shares = experiment.switch_effects(model, images, torch.tensor([0, 1, 2]))
    assert table["map"].tolist() == list(experiment.CHANGES) == list(shares)
    assert table["correlation"][0] == pytest.approx(1) and table["correlation"][1:].max() < 1 - 1e-6
    kept = table.set_index("map")["locations kept, %"]
    assert kept["LICNN, text"] == kept["LICNN, gradient not normalised"] < kept["LICNN"]
    assert shares["LICNN"].shape == (2, 3) and 100 * shares["LICNN"].mean() == pytest.approx(kept["LICNN"])


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


def pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.fixture
def masks() -> np.ndarray:
    masks = np.zeros((3, 32, 32), bool)
    masks[:, 5:20, 8:25] = True
    return masks


def test_every_map_is_scored_against_the_masks(model, images, masks, tmp_path):
    crops, target = pictures(3), torch.tensor([0, 1, 2])
    found = experiment.localisation_scores(model, crops, images, masks, target, 2, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert found["map"].drop_duplicates().tolist() == list(experiment.LOCALISED)
    assert found["image"].tolist() == [0, 1, 2] * len(experiment.LOCALISED)
    own = LICNN(model).attribute(images, target)
    assert experiment.energy_of(found, "LICNN") == pytest.approx(localisation.energy_inside(own, masks))
    centre = np.stack([localisation.baseline_map("centre Gaussian", crop) for crop in crops])
    expected = localisation.energy_inside(centre, masks)
    assert experiment.energy_of(found, "centre Gaussian") == pytest.approx(expected)
    assert experiment.localisation_scores(model, crops, images, masks, target, 2, tmp_path).equals(found)
    table = experiment.localisation_table(found).set_index("map")
    assert table["against_licnn"]["LICNN"] == "0 [0, 0]"
    assert table["above"]["LICNN"] == pytest.approx(table["energy"]["LICNN"] - masks.mean())


def test_composites_pair_right_photographs_of_different_classes(model):
    crops = pictures(4)
    top, right = np.array([[1], [2], [1], [3]]), np.array([True, True, True, False])
    pairs, joined, classes = experiment.composites(model, crops, top, right, count=2)
    assert all(top[i, 0] != top[j, 0] and right[i] and right[j] for i, j in pairs) and len(pairs) == 2
    assert joined.shape == (2, 3, 32, 64) and classes.tolist() == [[top[i, 0], top[j, 0]] for i, j in pairs]
    with pytest.raises(ValueError, match="no two photographs"):
        experiment.composites(model, crops, top, np.array([True, False, True, False]), count=2)
    assert torch.equal(joined[0][:, :, 32:], model.preprocess.normalise(crops[pairs[0][1]]))


def test_own_halves_of_a_network_that_looks_left(images):
    """Class 0 counts the left half only, class 1 the right half only."""

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.weight = nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = self.relu(self.conv(x).abs()) * self.weight
            left, right = features.chunk(2, 3)
            return torch.stack([left.mean((1, 2, 3)), right.mean((1, 2, 3))], 1)

    torch.manual_seed(0)
    wide = torch.cat([images, images.flip(2)], 3)
    found = experiment.own_halves(Halves().eval(), wide, torch.tensor([[0, 1]] * 3), batch_size=2)
    gradient = found[found["map"] == "Gradient"]
    assert (gradient["energy"] > 0.999).all() and gradient["pointing"].all() and len(gradient) == 6
    table = experiment.own_half_table(found).set_index("map")
    assert table["share in the own half"]["Gradient"] == "1 [1, 1]"
    assert table["share minus before"]["LICNN, before the softmax"] == "0 [0, 0]"


def test_objects_stand_out_by_their_mean_inside_minus_outside(model, masks):
    crops = pictures(3)
    maps, found = experiment.object_contrast(model, crops, masks)
    assert np.allclose(found["inside minus outside"], localisation.contrast(maps, masks))
    assert (found["centre Gaussian"] > 0).all() and found["area"].tolist() == [masks[0].mean()] * 3


def test_people_are_taken_from_every_set(model):
    photos = data.photographs()
    table, outside = experiment.people_contrast(model, [photos, photos.select([3])])
    assert table["photograph"].tolist() == ["astronaut", "camera"]
    assert outside.value == pytest.approx(-table["inside minus outside"].mean())


def test_figures_state_their_finding():
    shares = {"released code": np.full((4, 2), 0.3), "text": np.array([[0.2, 0.1], [0, 0], [0, 0], [0, 0]])}
    assert "text 3 of 4 layers" in figures_licnn.kept_locations(shares, "n = 2").axes[0].get_title("left")
    assert "11 times" in figures_licnn.figure_6().axes[0].get_title("left")
    rows = [
        {"map": name, "image": i, "pointing": True, "auc": 0.7, "energy": energy + 0.01 * i, "area": 0.2}
        for name, energy in (("LICNN", 0.3), ("Grad-CAM", 0.6), ("centre Gaussian", 0.4))
        for i in range(2)
    ]
    title = figures_licnn.localisation(pd.DataFrame(rows), "n = 2").get_suptitle()
    assert "Grad-CAM has the most energy" in title and "LICNN +0.1" in title
    plt.close("all")
