"""Lateral inhibition against a double loop, LICNN against a plain rewrite, switches, hooks and costs."""

import math

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from saliencylib.licnn.classifiers import load_classifier
from saliencylib.licnn.method import LICNN, PRESETS, inhibited, l2_normalised, lateral_inhibition
from saliencylib.licnn.results import cost_in_forward_passes


def double_loop(x: np.ndarray, k: int, a: float, b: float) -> np.ndarray:
    """Equation 3 written out."""
    result, padded = np.zeros_like(x), np.pad(x, k // 2)
    for i, j in np.ndindex(x.shape):
        total, difference = 0.0, 0.0
        for u, v in np.ndindex(k, k):
            d = math.hypot(u - k // 2, v - k // 2) / k
            total += padded[i + u, j + v]
            difference += d * math.exp(-d) * max(0.0, padded[i + u, j + v] - x[i, j])
        result[i, j] = a * math.exp(-total / k**2) + b * difference
    return result


class Network(nn.Module):
    """Three convolutions and a full layer, small enough to follow; its ReLUs are ``kind``."""

    def __init__(self, shared: bool = False, inplace: bool = False) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1)]
        )
        own = [nn.ReLU(inplace) for _ in range(4)]
        self.relus = nn.ModuleList([own[0]] * 4 if shared else own)
        self.full, self.head = nn.Linear(8, 12), nn.Linear(12, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, relu in zip(self.convs, self.relus, strict=False):
            x = relu(conv(x))
        return self.head(self.relus[3](self.full(x.mean((2, 3)))))


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network().eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 20, 20, generator=torch.Generator().manual_seed(1))


def plain_attention(network: Network, image: torch.Tensor, target: int, switches: dict) -> torch.Tensor:
    """The procedure for one image and class, step by step, without hooks."""

    def features(x: torch.Tensor, masks: list | None = None) -> tuple[list[torch.Tensor], torch.Tensor]:
        maps = []
        for number, conv in enumerate(network.convs):
            x = torch.relu(conv(x))
            x = x if masks is None else x * masks[number]
            maps.append(x)
        return maps, network.head(torch.relu(network.full(x.mean((2, 3)))))

    maps, logits = features(image[None])
    score = (logits.softmax(1) if switches["softmax"] else logits)[0, target]
    masks = []
    for gradient in torch.autograd.grad(score, maps):
        x = gradient[0].amax(0)
        x = x / x.norm() if switches["normalise_gradient"] else x
        inhibition = double_loop(x.double().numpy(), switches["k"], switches["a"], switches["b"])
        norm = np.sqrt((inhibition**2).sum())
        masks.append((x > torch.tensor(inhibition / norm if norm else inhibition)).float()[None, None])
    if not switches["mask_last"]:
        masks[-1] = torch.ones_like(masks[-1])
    total = 0
    for response in features(image[None], masks)[0]:
        response = response.sum(1, keepdim=True)
        if switches["normalise_layers"]:
            response = response / response.norm().clamp(min=1e-30)
        total = total + functional.interpolate(response, image.shape[-2:], mode=switches["interpolation"])
    return (total / total.norm().clamp(min=1e-30))[0, 0].detach()


@pytest.mark.parametrize("k", [1, 3, 7])
def test_inhibition_is_equation_3(k):
    x = np.random.default_rng(k).normal(size=(2, 12, 9))
    expected = np.stack([double_loop(m, k, 0.1, 0.9) for m in x])
    assert np.abs(lateral_inhibition(torch.tensor(x), k).numpy() - expected).max() < 1e-12


def test_gate_is_equation_4():
    x = np.random.default_rng(3).random((10, 10))
    inhibition = double_loop(x, 7, 0.1, 0.9)
    expected = np.where(x > inhibition / np.sqrt((inhibition**2).sum()), x, 0)
    found = inhibited(torch.tensor(x)[None])[0].numpy()
    assert np.allclose(found, expected, atol=1e-12)
    assert 0 < (found > 0).mean() < 1


def test_zones_have_a_centre():
    with pytest.raises(ValueError, match="odd"):
        lateral_inhibition(torch.zeros(1, 5, 5), k=4)
    with pytest.raises(ValueError, match="N, H, W"):
        lateral_inhibition(torch.zeros(5, 5))


def test_norm_of_tiny_and_empty_maps():
    maps = l2_normalised(torch.stack([torch.full((3, 3), 1e-30), torch.zeros(3, 3)]))
    assert maps[0].norm() == pytest.approx(1) and maps[1].norm() == 0


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("softmax", [True, False])
def test_attention_equals_the_plain_procedure(network, images, preset, softmax):
    licnn = LICNN(network, preset, k=5, softmax=softmax)
    targets = [2, 0, 6, 3]
    found = licnn.attribute(images, targets)
    for image, target, attention in zip(images, targets, found, strict=True):
        expected = plain_attention(network, image, target, licnn.switches)
        assert torch.allclose(attention, expected, atol=1e-5)


def test_saliency_is_the_sum_over_the_top_classes(network, images):
    licnn = LICNN(network)
    top = network(images).topk(3).indices
    columns = torch.stack([licnn.attribute(images, top[:, i]) for i in range(3)], 1)
    assert torch.allclose(licnn.attention_maps(images, top=3), columns, atol=1e-6)
    assert torch.allclose(licnn.saliency_maps(images, top=3), l2_normalised(columns.sum(1)), atol=1e-6)
    assert torch.allclose(licnn.saliency_maps(images).norm(dim=(1, 2)), torch.ones(4))


def test_batch_size_bounds_memory_not_results(network, images):
    whole, sizes = LICNN(network).saliency_maps(images), []
    handle = network.convs[0].register_forward_hook(lambda module, given, _: sizes.append(len(given[0])))
    assert torch.allclose(LICNN(network, batch_size=3).saliency_maps(images), whole, atol=1e-6)
    handle.remove()
    rest = len(images) - 3
    assert sizes == [3, 15, rest, 5 * rest]  # the second pass takes an image once a class, without a graph


def test_shared_and_inplace_activations_give_the_same_maps(network, images):
    other = Network(shared=True, inplace=True).eval()
    other.load_state_dict(network.state_dict())
    assert torch.allclose(LICNN(other).attribute(images, 1), LICNN(network).attribute(images, 1), atol=1e-6)


SWITCHES = {"normalise_gradient": False, "mask_last": False, "normalise_layers": False}
SWITCHES |= {"interpolation": "nearest", "softmax": False, "k": 3, "a": 0.0, "b": 0.0}


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_has_an_effect(network, images, switch):
    base, changed = LICNN(network), LICNN(network, **{switch: SWITCHES[switch]})
    assert base.switches | {switch: SWITCHES[switch]} == changed.switches != base.switches
    assert not torch.allclose(base.attribute(images, 4), changed.attribute(images, 4), atol=1e-4)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())


def test_nothing_is_left_behind(network, images):
    network.convs[0].weight.requires_grad_(False)
    asking = [p.requires_grad for p in network.parameters()]
    before = network(images)
    LICNN(network).saliency_maps(images)
    assert hooks(network) == 0
    assert [p.requires_grad for p in network.parameters()] == asking
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(network(images), before)
    with pytest.raises(ValueError, match=r"fails on images of shape \(4, 2, 20, 20\).*takes 3 channels"):
        LICNN(network).saliency_maps(images[:, :2])
    assert hooks(network) == 0 and [p.requires_grad for p in network.parameters()] == asking


def test_wrong_use_is_refused(network, images):
    with pytest.raises(ValueError, match="released_code, text"):
        LICNN(network, "code")
    with pytest.raises(ValueError, match="interpolation"):
        LICNN(network, interpolation="cubic")
    with pytest.raises(ValueError, match="no ReLU module"):
        LICNN(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(648, 2)).eval()).attribute(images, 0)
    with pytest.raises(ValueError, match="N, 3, H, W"):
        LICNN(network).attribute(images[0], 0)
    with pytest.raises(ValueError, match="training"):
        LICNN(network.train()).attribute(images, 0)


def test_activations_beside_the_first_ones_way_get_their_gradients(images):
    """The second branch does not lie on any way from the first activation to the score."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
            self.relu_a, self.relu_b, self.full = nn.ReLU(), nn.ReLU(), nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.full((self.relu_a(self.a(x)) + self.relu_b(self.b(x))).mean((2, 3)))

    torch.manual_seed(0)
    network = Branches().eval()
    found = LICNN(network, normalise_gradient=False).max_c_maps(images, 3)
    features = [layer(images).detach().relu().requires_grad_() for layer in (network.a, network.b)]
    score = network.full(sum(features).mean((2, 3))).softmax(1)[:, 3].sum()
    for maximum, gradient in zip(found, torch.autograd.grad(score, features), strict=True):
        assert torch.allclose(maximum, gradient.amax(1))


def test_steps_are_those_of_the_maps(network, images):
    licnn = LICNN(network, "released_code")
    steps = licnn.steps(images[:1], 2)
    assert [step.max_c.shape[0] for step in steps] == [20, 10, 10]
    for step in steps:
        assert torch.equal(step.kept, step.max_c > step.inhibition)
        assert step.max_c.norm() == pytest.approx(1, abs=1e-5)
    shares = licnn.kept_shares(images, [2, 2, 2, 2])
    assert torch.allclose(shares[:, 0], torch.stack([step.kept.float().mean() for step in steps]))
    total = sum(functional.interpolate(s.response[None, None], (20, 20))[0, 0] for s in steps)
    assert torch.allclose(l2_normalised(total), licnn.attribute(images[:1], 2)[0], atol=1e-6)


def test_gradient_based_maps_are_the_inhibited_gradients_summed(network, images):
    licnn = LICNN(network, "normalised", k=5)
    found = licnn.gradient_based_maps(images[:1], torch.tensor([[2]]))
    assert found.shape == (1, 1, 20, 20) and found.norm() == pytest.approx(1, abs=1e-5)
    total = torch.zeros(20, 20)
    for step in licnn.steps(images[:1], 2):
        kept = l2_normalised(inhibited(step.max_c[None], k=5))
        total += functional.interpolate(kept[None], (20, 20), mode="bilinear")[0, 0]
    assert torch.allclose(found[0, 0], l2_normalised(total), atol=1e-6)
    both = LICNN(network, "normalised", batch_size=1).gradient_based_maps(images[:2], top=3)
    assert both.shape == (2, 3, 20, 20)
    best = network(images[:1]).argmax(1)
    assert torch.allclose(
        both[0, 0], LICNN(network, "normalised").gradient_based_maps(images[:1], best[:, None])[0, 0]
    )


def test_normalised_is_the_text_with_one_norm_more(network, images):
    normalised, text = (LICNN(network, preset).switches for preset in ("normalised", "text"))
    assert normalised == text | {"normalise_gradient": True}


def test_on_a_real_classifier_the_text_blanks_the_network():
    model = load_classifier("efficientnet_lite0")
    image = model.preprocess(Image.fromarray(skimage.data.chelsea()))[None]
    target = model(image).argmax(1)
    code, text = LICNN(model).kept_shares(image, target), LICNN(model, "text").kept_shares(image, target)
    assert len(code) == 33
    assert code.min() > 0.05
    assert (text == 0).float().mean() > 0.8
    cost = cost_in_forward_passes(lambda: LICNN(model).saliency_maps(image), model, image)
    assert 8 < cost < 12  # 1 forward, 5 masked forward, and 5 backward of about as much
