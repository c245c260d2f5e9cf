import pytest
import torch

from saliencylib.shallow_cnn.network import (
    CPU_PART,
    GAZE_LOSSES,
    distributions,
    he_start,
    mean_map_start,
    shallow_saliency_cnn,
)


@pytest.fixture(scope="module")
def exact():
    return shallow_saliency_cnn()


def test_sizes_of_tables_one_and_two(exact):
    shapes = [tuple(conv.weight.shape) for conv in exact.convolutions]
    assert shapes == [(32, 3, 5, 5), (64, 32, 3, 3), (128, 64, 3, 3)]
    assert exact.full.in_features == 15488 == 11 * 11 * 128
    assert exact.full.out_features == 4608
    assert exact.output.in_features == exact.output.out_features == 2304 == 48 * 48
    assert sum(p.numel() for p in exact.parameters()) == 76_778_816
    images = torch.rand(2, 3, 96, 96)
    assert exact.features(images).shape == (2, 15488) and exact(images).shape == (2, 48, 48)


def test_paper_start(exact):
    for layer in (*exact.convolutions, exact.full, exact.output):
        assert (layer.bias == 0.1).all()
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert abs(layer.weight.mean().item()) < 0.001


def test_presets_differ_in_padding_maps_and_the_relu_before_the_maxout():
    original, unpadded = (shallow_saliency_cnn(preset, hidden=64) for preset in ("pan2016", "10x10"))
    assert original.full.in_features == 10 * 10 * 64 and unpadded.full.in_features == 10 * 10 * 128
    assert original(torch.rand(1, 3, 96, 96)).shape == (1, 48, 48)
    assert isinstance(original.before_maxout, torch.nn.ReLU)
    assert isinstance(unpadded.before_maxout, torch.nn.Identity)


def test_features_are_convolution_relu_and_pooling_in_the_written_order():
    model = shallow_saliency_cnn(hidden=8, width=0.25)
    he_start(model, seed=0)
    images = torch.rand(CPU_PART + 3, 3, 96, 96)
    maps = images
    for conv, pool in zip(model.convolutions, model.pools, strict=True):
        maps = pool(torch.relu(conv(maps)))
    gradients = {}
    for name, features in (("written", maps.flatten(1)), ("ours", model.features(images))):
        gradients[name] = torch.autograd.grad((features**2).sum(), [c.weight for c in model.convolutions])
    assert torch.allclose(model.features(images), maps.flatten(1), atol=1e-5)
    for ours, written in zip(gradients["ours"], gradients["written"], strict=True):
        assert torch.allclose(ours, written, rtol=1e-3, atol=1e-3 * written.abs().max().item())


def test_learned_prior_multiplies_the_output_and_learns():
    plain, model = (shallow_saliency_cnn(hidden=8, width=0.1, prior=prior) for prior in (False, True))
    images = torch.rand(2, 3, 96, 96)
    assert torch.equal(model(images), plain(images)), "no change at the start"
    model(images).sum().backward()
    assert model.prior.grad.abs().min() > 0
    with torch.no_grad():
        model.prior[0, 0] = 1.0
    ratio = model(images) / plain(images)
    assert ratio[0, 0, 0].item() == pytest.approx(2) and ratio[0, -1, -1].item() == pytest.approx(1)


def test_maxout_takes_adjacent_pairs():
    model = shallow_saliency_cnn(hidden=6, width=0.1)
    model.full.weight.data.zero_()
    model.full.bias.data = torch.tensor([1.0, 5, 3, 2, -4, -6])
    model.output.weight.data.zero_()
    model.output.weight.data[:3] = torch.eye(3)
    model.output.bias.data.zero_()
    assert model(torch.rand(1, 3, 96, 96)).flatten()[:3].tolist() == [5, 3, -4]


def test_seed_fixes_and_changes_the_weights():
    first, again, other = (shallow_saliency_cnn(hidden=8, width=0.1, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.full.weight, again.full.weight)
    assert not torch.equal(first.full.weight, other.full.weight)


def test_he_start_spreads_the_answers():
    model = shallow_saliency_cnn(hidden=64, width=0.25)
    he_start(model, seed=0)
    for layer in (*model.convolutions, model.full, model.output):
        assert not layer.bias.any()
        fan = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.1)
    assert model(torch.rand(4, 3, 96, 96)).std(0).mean() > 0.01


def test_mean_map_start_answers_the_mean_map():
    model = shallow_saliency_cnn(hidden=64, width=0.25)
    mean = torch.rand(48, 48)
    mean_map_start(model, mean, seed=0)
    images = torch.rand(4, 3, 96, 96)
    assert (model(images) - mean).abs().max() < 0.02
    assert model(images).std(0).max() > 0  # but not blind to the image
    assert model.full(model.features(images)).std() > 0.1


@pytest.mark.parametrize(
    "arguments, message",
    [({"preset": "deep"}, "preset must be"), ({"hidden": 7}, "even"), ({"width": 0}, "width must be")],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        shallow_saliency_cnn(**arguments)


def test_losses_are_their_formulas():
    a, b = torch.rand(3, 48, 48), torch.rand(3, 48, 48)
    found = {name: loss.of(a, b).item() for name, loss in GAZE_LOSSES.items()}
    chance = torch.sigmoid(a)
    p, q = distributions(b), a.flatten(1).exp() / a.flatten(1).exp().sum(1, keepdim=True)
    expected = {
        "mse": ((a - b) ** 2).mean(),
        "l1": (a - b).abs().mean(),
        "kl": (p * (p / q).log()).sum(1).mean(),
        "bhattacharyya": -(p * q).sqrt().sum(1).log().mean(),
        "bce": -(b * chance.log() + (1 - b) * (1 - chance).log()).mean(),
    }
    assert found == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-4)


@pytest.mark.parametrize("loss", GAZE_LOSSES.values(), ids=GAZE_LOSSES)
def test_readings_invert_answers_and_the_truth_is_the_smallest_loss(loss):
    maps = torch.rand(3, 48, 48) * 0.9 + 0.05
    maps = maps / maps.amax((1, 2), keepdim=True) if loss.name in ("KL divergence", "Bhattacharyya") else maps
    answers = loss.answers(maps)
    assert torch.allclose(loss.maps(answers), maps, atol=1e-4)
    assert loss.of(answers, maps) < loss.of(loss.answers(maps.flip(2)), maps)


def test_distributions_of_zeros_are_uniform():
    assert torch.allclose(distributions(torch.zeros(1, 4, 4)), torch.full((1, 16), 1 / 16))
