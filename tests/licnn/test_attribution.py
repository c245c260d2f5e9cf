"""All attribution methods behind one call: closed forms on linear networks, norms, seeds, no traces."""

import pytest
import torch
from torch import nn

from saliencylib.licnn.attribution import EDGE_DETECTOR, METHODS, attribute, last_feature_map
from saliencylib.licnn.classifiers import Preprocess, as_classifier
from saliencylib.licnn.method import l2_normalised


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU6()]
    layers += [nn.Flatten(), nn.Linear(800, 16), nn.ReLU(), nn.Linear(16, 5)]
    return as_classifier(nn.Sequential(*layers), Preprocess(20, 20))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 20, 20, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def linear() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(1200, 5)).eval()


@pytest.mark.parametrize("method", METHODS)
def test_maps_have_the_images_size_and_norm_1(network, images, method):
    maps = attribute(method, network, images, [0, 1, 2])
    assert maps.shape == (3, 20, 20) and torch.isfinite(maps).all()
    assert not maps.requires_grad and maps.min() >= 0
    assert torch.allclose(maps.norm(dim=(1, 2)), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("signed", [True, False])
def test_closed_forms_on_a_linear_network(linear, images, signed):
    weights = linear[1].weight[3].detach().view(3, 20, 20).expand(3, -1, -1, -1)

    def expected(values: torch.Tensor) -> torch.Tensor:
        return l2_normalised(values.sum(1) if signed else values.abs().sum(1))

    for method in ("Gradient", "SmoothGrad"):
        assert torch.allclose(
            attribute(method, linear, images, 3, signed=signed), expected(weights), atol=1e-5
        )
    for method in ("Gradient x Input", "Integrated Gradients"):
        found = attribute(method, linear, images, 3, signed=signed)
        assert torch.allclose(found, expected(weights * images), atol=1e-5)


def test_grad_cam_uses_the_last_feature_map(network, images):
    layer = last_feature_map(network, images)
    assert layer is network[4]
    features = network[:5](images).detach().requires_grad_()
    network[5:](features)[:, 1].sum().backward()
    cam = torch.relu((features.grad.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True))
    cam = nn.functional.interpolate(cam, (20, 20), mode="bilinear")[:, 0].detach()
    assert torch.allclose(attribute("Grad-CAM", network, images, 1), l2_normalised(cam), atol=1e-5)


def test_guided_backprop_is_not_the_gradient(network, images):
    guided, plain = (attribute(m, network, images, 0) for m in ("Guided Backprop", "Gradient"))
    assert not torch.allclose(guided, plain, atol=1e-3)


def test_batches_do_not_change_maps(network, images):
    for method in set(METHODS) - {"SmoothGrad"}:
        whole, parts = (attribute(method, network, images, [4, 0, 1], batch_size=n) for n in (None, 2))
        assert torch.allclose(whole, parts, atol=1e-5), method


def test_seeds_fix_and_change_smoothgrad_and_spare_the_callers_stream(network, images):
    torch.manual_seed(9)
    first = attribute("SmoothGrad", network, images, 0, seed=1)
    drawn = torch.rand(2)
    torch.manual_seed(9)
    assert torch.equal(drawn, torch.rand(2))
    assert torch.equal(first, attribute("SmoothGrad", network, images, 0, seed=1))
    assert not torch.equal(first, attribute("SmoothGrad", network, images, 0, seed=2))


@pytest.mark.parametrize("method", METHODS)
def test_network_and_images_stay_as_they_were(network, images, method):
    before, logits = images.clone(), network(images)
    attribute(method, network, images, 0)
    assert torch.equal(images, before) and not images.requires_grad
    assert torch.equal(network(images), logits)
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in network.modules())
    assert all(p.grad is None for p in network.parameters())


def test_unknown_methods_are_refused(network, images):
    with pytest.raises(ValueError, match="Grad-CAM"):
        attribute("GradCAM", network, images, 0)


def test_a_network_without_feature_maps_has_no_grad_cam(linear, images):
    with pytest.raises(ValueError, match="no ReLU module"):
        attribute("Grad-CAM", linear, images, 0)


def test_the_edge_detector_marks_edges_and_asks_no_network(network, linear):
    images = torch.zeros(2, 3, 12, 12)
    images[0, :, :, 6:] = 1
    found = attribute(EDGE_DETECTOR, network, images, 0)
    assert (found[0, :, 5:7] > 0).all() and found[0].sum() == pytest.approx(found[0, :, 5:7].sum())
    assert found[0].norm() == pytest.approx(1) and found[1].sum() == 0
    assert torch.equal(found, attribute(EDGE_DETECTOR, linear, images, 1))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_explain_the_probability(network, images, method):
    found = attribute(method, network, images, 2, probability=True)
    assert found.shape == (3, 20, 20) and torch.allclose(found.norm(dim=(1, 2)), torch.ones(3), atol=1e-5)
    if method == "LICNN":
        assert torch.equal(found, attribute(method, network, images, 2))


def test_the_gradient_of_the_probability_has_its_closed_form(linear, images):
    weight = linear[1].weight.detach()
    with torch.no_grad():
        p = linear(images).softmax(1)
    slope = p[:, 2, None] * (weight[2] - p @ weight)
    expected = l2_normalised(slope.view(3, 3, 20, 20).abs().sum(1))
    assert torch.allclose(attribute("Gradient", linear, images, 2, probability=True), expected, atol=1e-5)
