import pytest
import torch

from saliencylib.sal_mask.experiment import network as models, experiment as sal_mask


def test_sal_mask_equals_the_equations_and_the_check_can_fail(monkeypatch):
    assert sal_mask.layer_matches_equations()
    original = models.SalMask.forward
    monkeypatch.setattr(models.SalMask, "forward", lambda self, x, s: 1.01 * original(self, x, s))
    assert not sal_mask.layer_matches_equations()


def test_saliency_that_reached_the_backward_pass_would_be_noticed(monkeypatch):
    monkeypatch.setattr(models.SalMask, "mask", lambda self, images, saliency: (saliency + 1) / 2)
    assert not sal_mask.layer_matches_equations()


def test_white_mask_changes_nothing_and_black_raw_mask_erases():
    plain = models.alexnet(width=0.125, size=32).eval()
    images = torch.rand(2, 3, 32, 32)
    masked = models.SalMask(plain.first, plain.rest)
    assert torch.equal(masked(images, torch.ones(2, 32, 32)), plain(images))
    raw = models.SalMask(plain.first, torch.nn.Identity(), average=False)
    assert raw(images, torch.zeros(2, 32, 32)).abs().max() == 0
    averaged = models.SalMask(plain.first, torch.nn.Identity())
    assert torch.allclose(averaged(images, torch.zeros(2, 32, 32)), plain.first(images) / 2)


def test_mask_of_another_size_is_refused():
    network = models.nin(width=0.125)
    masked = models.SalMask(network.first, network.rest)
    with pytest.raises(ValueError, match="does not fit"):
        masked(torch.rand(2, 3, 32, 32), torch.rand(2, 31, 32))


def test_local_response_norm_equals_a_direct_loop():
    torch.manual_seed(0)
    maps = 100 * torch.rand(2, 5, 3, 3, dtype=torch.double)
    expected = torch.empty_like(maps)
    for channel in range(5):
        neighbours = maps[:, max(0, channel - 1) : channel + 2]
        expected[:, channel] = maps[:, channel] / (1 + 0.00005 * (neighbours**2).sum(1)) ** 0.75
    assert torch.allclose(models.LocalResponseNorm()(maps), expected)


def test_local_response_norm_is_torchs_with_three_times_its_alpha():
    maps = 100 * torch.rand(2, 5, 3, 3, dtype=torch.double, requires_grad=True)
    ours = models.LocalResponseNorm()(maps)
    theirs = torch.nn.LocalResponseNorm(3, alpha=3 * 0.00005, beta=0.75, k=1.0)(maps)
    assert torch.allclose(ours, theirs)
    gradients = [torch.autograd.grad(norm.sum(), maps)[0] for norm in (ours, theirs)]
    assert torch.allclose(*gradients)
    undivided = torch.nn.LocalResponseNorm(3, alpha=0.00005, beta=0.75, k=1.0)(maps)
    assert not torch.allclose(ours, undivided, rtol=1e-3)


@pytest.mark.parametrize("size", [96, 64, 48])
def test_networks_keep_the_first_maps_size_and_score_ten_classes(size):
    for build in models.NETWORKS.values():
        network = build(10, 0.125, size, 0.5)
        images = torch.rand(2, 3, size, size)
        assert network.first(images).shape[2:] == (size, size)
        assert network(images).shape == (2, 10)


def test_pooling_rounds_up_as_caffe_does():
    """96 -> 48 -> 24 -> 12 with windows of 3 and steps of 2; rounding down would give 47."""
    assert models.alexnet().rest.full6.in_features == 128 * 12 * 12


@pytest.mark.parametrize("name", models.NETWORKS)
def test_networks_have_the_layers_of_the_text(name):
    table = models.layer_table(models.NETWORKS[name](10, 1.0, 96, 0.5))
    kinds = table["kind"].tolist()
    for number, kind in enumerate(kinds[:-1]):
        if kind in ("Conv2d", "Linear"):
            last = not {"Conv2d", "Linear"} & set(kinds[number + 1 :])
            assert (kinds[number + 1] == "ReLU") != last, "ReLU after every such layer but the last"
    convolutions = table.query("kind == 'Conv2d'")
    pooled = (table["kind"] == "MaxPool2d").cumsum()[convolutions.index]
    assert (convolutions["side"] == 96 // 2**pooled).all(), "stride 1, padded"
    assert ("LocalResponseNorm" in kinds) == ("Linear" in kinds) == (name == "alexnet")
    assert ("AdaptiveAvgPool2d" in kinds) == (name == "nin")
    assert kinds.count("Dropout") == 2


def test_layer_table_counts_what_the_network_has_and_leaves_no_hook():
    network = models.alexnet(width=0.125, size=32)
    table = models.layer_table(network, size=32)
    assert table["parameters"].sum() == models.parameters(network)
    assert table.iloc[0].to_dict() == {
        "layer": "conv1",
        "kind": "Conv2d",
        "kernel": 5,
        "maps": 8,
        "side": 32,
        "parameters": 8 * (3 * 25 + 1),
    }
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("name", models.NETWORKS)
@pytest.mark.parametrize("connection", models.CONNECTIONS)
def test_every_connection_scores_and_uses_its_mask(name, connection):
    torch.manual_seed(0)
    plain = models.NETWORKS[name](10, 0.125, 32, 0.0).eval()
    network = models.connected(plain, connection).eval()
    images, maps = torch.randn(2, 3, 32, 32), torch.rand(2, 32, 32)
    scores = network(images, maps)
    assert scores.shape == (2, 10)
    assert not torch.allclose(scores, network(images, torch.zeros(2, 32, 32)))
    if connection != "learned":
        assert torch.allclose(network(images, torch.ones(2, 32, 32)), plain(images), atol=1e-6)
        assert models.parameters(network) == models.parameters(plain)


def test_the_connections_differ_where_they_say():
    plain = models.alexnet(width=0.125, size=32).eval()
    images, maps = torch.randn(1, 3, 32, 32), torch.rand(1, 32, 32)
    s = (maps + 1) / 2
    by_input = models.connected(plain, "input")
    assert torch.allclose(by_input(images, maps), plain(images * s[:, None]))
    second = models.connected(plain, "second")
    assert [name for name, _ in second.first[1].named_children()] == ["pool1", "norm1", "conv2", "relu2"]
    pooled = torch.nn.functional.avg_pool2d(s, 3, 2, ceil_mode=True)
    assert torch.allclose(second.mask(images, maps), pooled)
    of_nin = models.connected(models.nin(width=0.125), "second")
    assert [name for name, _ in of_nin.first[1].named_children()][-2:] == ["conv2", "relu2a"]
    with pytest.raises(ValueError, match="one of first, raw, input, second, learned"):
        models.connected(plain, "third")


def test_learned_mask_is_trained_by_the_loss_and_its_given_map_is_not():
    torch.manual_seed(0)
    network = models.connected(models.nin(width=0.125, dropout=0.0), "learned")
    images, maps = torch.randn(2, 3, 32, 32), torch.rand(2, 32, 32, requires_grad=True)
    network(images, maps).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.branch.parameters())
    assert maps.grad is None
    saliency = network.learned_saliency(images, maps)
    assert saliency.shape == (2, 32, 32) and 0 <= saliency.min() and saliency.max() <= 1
    assert torch.equal(network.mask(images, maps), (saliency + 1) / 2)
