"""Randomised networks and the similarity of maps."""

import copy

import numpy as np
import pytest
import torch
import torchvision
from scipy.stats import spearmanr
from torch import nn

from saliencylib.licnn import sanity
from saliencylib.licnn.attribution import EDGE_DETECTOR, attribute
from saliencylib.licnn.sanity import (
    hog_similarity,
    randomisation_curves,
    randomisation_stages,
    randomized,
    spearman_similarity,
)

pytestmark = pytest.mark.usefixtures("in_process", "own_cache")


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    layers += [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    network = nn.Sequential(*layers)
    network(torch.randn(16, 3, 8, 8))  # BatchNorm statistics that are not the initial ones
    return network.eval()


def changed(a: nn.Module, b: nn.Module) -> list[str]:
    """Names of the layers of b that differ from those of a."""
    other = b.state_dict()
    names = {
        name.rpartition(".")[0] for name, value in a.state_dict().items() if not value.equal(other[name])
    }
    return sorted(names)


@pytest.fixture
def maps() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(64, 64)), rng.normal(size=(64, 64))


def test_stages_go_from_the_output_down_and_keep_norms_with_their_layer(network):
    assert randomisation_stages(network) == [("9", ["9"]), ("5", ["5"]), ("3", ["3"]), ("0", ["0", "1"])]


def test_stages_of_a_network_of_blocks():
    names = [name for name, _ in randomisation_stages(torchvision.models.resnet18())]
    assert names[:3] == ["fc", "layer4.1", "layer4.0"] and names[-1] == "conv1" and len(names) == 10


def test_cascading_keeps_what_was_randomised_and_independent_restores_it(network):
    before = copy.deepcopy(network.state_dict())
    cascading = {stage: changed(network, model) for stage, model in randomized(network)}
    assert list(cascading) == ["9", "5", "3", "0"] and cascading["3"] == ["3", "5", "9"]
    assert cascading["0"] == ["0", "1", "3", "5", "9"]
    independent = [changed(network, model) for _, model in randomized(network, "independent")]
    assert independent == [["9"], ["5"], ["3"], ["0", "1"]]
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    with pytest.raises(ValueError, match="cascading, independent"):
        randomized(network, "backwards")


def test_seeds_fix_and_change_and_layers_have_streams_of_their_own(network):
    def last(seed: int) -> dict[str, torch.Tensor]:
        return list(randomized(network, seed=seed))[-1][1].state_dict()

    torch.manual_seed(1)
    first, stream = last(0), torch.get_rng_state()
    torch.manual_seed(2)
    assert all(first[name].equal(value) for name, value in last(0).items())
    assert not first["5.weight"].equal(last(1)["5.weight"])
    assert not first["5.weight"].equal(first["3.weight"])
    torch.manual_seed(1)
    assert torch.get_rng_state().equal(stream)


def test_fresh_batchnorm_forgets_its_statistics(network):
    model = list(randomized(network))[-1][1]
    assert model[1].running_mean.abs().max() == 0 and model[1].running_var.eq(1).all()


def test_a_map_is_similar_to_itself_and_not_to_noise(maps):
    a, b = maps
    assert hog_similarity(a, a) == pytest.approx(1) and hog_similarity(a, 3 * a + 2) == pytest.approx(1)
    assert abs(hog_similarity(a, b)) < 0.3
    assert hog_similarity(np.ones((64, 64)), a) == spearman_similarity(np.zeros((64, 64)), a) == 0


def test_spearman_is_scipys(maps):
    a, b = maps
    b = a + b
    assert spearman_similarity(a, b, absolute=False) == pytest.approx(spearmanr(a.ravel(), b.ravel())[0])
    expected = spearmanr(abs(a).ravel(), abs(b).ravel())[0]
    assert spearman_similarity(a, b) == pytest.approx(expected)
    assert spearman_similarity(a, -a) == pytest.approx(1)
    assert spearman_similarity(a, -a, absolute=False) == pytest.approx(-1)


def test_maps_must_fit(maps):
    for similarity in (hog_similarity, spearman_similarity):
        with pytest.raises(ValueError, match="different shapes"):
            similarity(maps[0], np.zeros((64, 32)))
        with pytest.raises(ValueError, match="H, W"):
            similarity(np.zeros((1, 64, 64)), maps[0])


def test_class_similarity_is_the_mean_pearson_correlation():
    maps = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    flat = maps[1].flatten(1).numpy()
    expected = np.corrcoef(flat)[np.triu_indices(3, 1)].mean()
    assert sanity.class_similarity(maps)[1] == pytest.approx(expected, abs=1e-6)
    assert sanity.class_similarity(maps[:, :1].repeat(1, 5, 1, 1))[0] == pytest.approx(1)
    for level in (0.0, 0.1, 0.3, 1e6 + 0.1):
        assert sanity.class_similarity(torch.full((1, 3, 7, 11), level, dtype=torch.double)) == [0]


def test_curves_hold_every_method_seed_stage_and_image(network, monkeypatch):
    images, target = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    found = randomisation_curves(network, images, target, ["Gradient", "LICNN"], seeds=[0, 4])
    assert len(found) == 2 * 2 * 4 * 2
    model = list(randomized(network, seed=4))[1][1]
    a, b = (attribute("Gradient", m, images, target, signed=True)[1] for m in (network, model))
    row = found.query("method == 'Gradient' and seed == 4 and stage == '5' and image == 1").iloc[0]
    assert row.hog == pytest.approx(hog_similarity(a.abs(), b.abs()))
    assert row.spearman == pytest.approx(spearman_similarity(a, b))
    assert row.spearman_signed == pytest.approx(spearman_similarity(a, b, absolute=False))
    monkeypatch.setattr(sanity, "randomized", None)  # finished seeds are not computed again
    again = randomisation_curves(network, images, target, ["Gradient", "LICNN"], seeds=[4])
    assert again.equals(found[found["seed"] == 4].reset_index(drop=True))


def test_stages_that_are_looked_at_are_evenly_spaced_from_the_first_to_the_last(network):
    images, target = torch.randn(1, 3, 32, 32), torch.tensor([0])
    whole = randomisation_curves(network, images, target, ["Gradient"])
    some = randomisation_curves(network, images, target, ["Gradient"], stages=3)
    assert some["stage"].tolist() == ["9", "3", "0"]
    kept = whole[whole["stage"].isin(some["stage"])].reset_index(drop=True)
    assert some.equals(kept), "a stage between them is randomised, too"
    more = randomisation_curves(network, images, target, ["Gradient"], stages=9)
    assert more.equals(whole)


def test_an_edge_detector_does_not_fall(network):
    images, target = torch.randn(1, 3, 32, 32), torch.tensor([0])
    found = randomisation_curves(network, images, target, [EDGE_DETECTOR])
    assert np.allclose(found[list(sanity.SIMILARITIES)], 1)
