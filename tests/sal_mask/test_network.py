import pytest
import torch
from torch import nn

from saliencylib.sal_mask.network import (
    CONNECTIONS,
    NETWORKS,
    Classifier,
    LocalResponseNorm,
    SalMask,
    alexnet,
    connected,
    layer_table,
    nin,
    parameter_count,
    width_of_equal_size,
)


def test_sal_mask_equals_the_equations_written_as_loops():
    """Forward ey = ReLU(y s), backward delta = edelta s f'(z), and none for the map (equations 1 to 8)."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, 3, padding="same").double()
    network = SalMask(nn.Sequential(convolution, nn.ReLU()), nn.Identity())
    images = torch.rand(2, 3, 6, 6, dtype=torch.double, requires_grad=True)
    maps = torch.rand(2, 6, 6, dtype=torch.double, requires_grad=True)
    masked = network(images, maps)
    edelta = torch.rand_like(masked)
    z = convolution(images).detach().requires_grad_()
    ey, delta = torch.zeros_like(masked), torch.zeros_like(masked)
    for n, k, row, column in torch.cartesian_prod(*(torch.arange(side) for side in z.shape)).tolist():
        at, s = (n, k, row, column), (maps[n, row, column].item() + 1) / 2
        ey[at] = max(max(z[at].item(), 0) * s, 0)
        delta[at] = edelta[at] * s * (z[at].item() > 0)
    assert torch.allclose(masked, ey)
    expected = torch.autograd.grad(convolution(images), images, delta)[0]
    to_images, to_maps = torch.autograd.grad(masked, [images, maps], edelta, allow_unused=True)
    assert torch.allclose(to_images, expected) and to_maps is None


def test_white_mask_changes_nothing_and_black_raw_mask_erases():
    plain = alexnet(width=0.125, size=32).eval()
    images = torch.rand(2, 3, 32, 32)
    masked = SalMask(plain.first, plain.rest)
    assert torch.equal(masked(images, torch.ones(2, 32, 32)), plain(images))
    raw = SalMask(plain.first, nn.Identity(), average=False)
    assert raw(images, torch.zeros(2, 32, 32)).abs().max() == 0
    averaged = SalMask(plain.first, nn.Identity())
    assert torch.allclose(averaged(images, torch.zeros(2, 32, 32)), plain.first(images) / 2)


def test_mask_of_another_size_is_refused():
    network = connected(nin(width=0.125))
    with pytest.raises(ValueError, match="does not fit"):
        network(torch.rand(2, 3, 32, 32), torch.rand(2, 31, 32))


def test_maps_that_are_none_are_refused():
    network, images = connected(nin(width=0.125)).eval(), torch.rand(2, 3, 32, 32)
    for wrong, message in (
        (torch.full((2, 32, 32), torch.nan), "without NaN"),
        (255 * torch.rand(2, 32, 32), "divide maps of 0 to 255 by 255"),
        (torch.rand(2, 32, 32) - 0.5, r"lie in \[0, 1\]"),
        (torch.randint(0, 256, (2, 32, 32), dtype=torch.uint8), "divide"),
        (torch.rand(32, 32), r"maps \(N, H, W\)"),
    ):
        with pytest.raises(ValueError, match=message):
            network(images, wrong)
    with pytest.raises(ValueError, match="NaN or infinity"):
        network(images * torch.nan, torch.rand(2, 32, 32))


def test_images_and_maps_of_every_form_score_the_same():
    network, images, maps = (
        connected(nin(width=0.125)).eval(),
        torch.rand(2, 3, 32, 32),
        torch.rand(2, 32, 32),
    )
    expected = network(images, maps)
    for x, s in ((images.numpy(), maps.numpy()), (images.double(), maps.double()), (images, maps[:, None])):
        assert torch.equal(network(x, s), expected)
    assert torch.equal(network(images.permute(0, 2, 3, 1), maps), expected)


def test_a_mask_can_be_fitted_to_smaller_features():
    halved = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
    images, maps = torch.rand(2, 3, 16, 16), torch.rand(2, 16, 16)
    with pytest.raises(ValueError, match="resize=True"):
        SalMask(halved, nn.Identity())(images, maps)
    network = SalMask(halved, nn.Identity(), resize=True)
    assert torch.equal(network(images, torch.ones(2, 16, 16)), halved(images))
    small = nn.functional.interpolate(maps[:, None], (8, 8), mode="bilinear", antialias=True)
    assert torch.allclose(network(images, maps), halved(images) * (small + 1) / 2)
    same = SalMask(nn.Identity(), nn.Identity(), resize=True)
    assert torch.equal(same(images, maps), SalMask(nn.Identity(), nn.Identity())(images, maps))


@pytest.mark.parametrize("connection", CONNECTIONS)
def test_a_network_without_parts_for_a_mask_is_told_what_it_lacks(connection):
    with pytest.raises(ValueError, match=r"Linear has no parts.*Classifier\(first, rest\)"):
        connected(nn.Linear(2, 2), connection)


def test_a_second_layer_mask_needs_a_second_layer():
    for rest in (nn.Linear(4, 2), nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())):
        with pytest.raises(ValueError, match="above 1x1"):
            connected(Classifier(nn.Conv2d(3, 4, 3), rest), "second")


def test_local_response_norm_equals_a_loop_and_torchs_with_three_times_its_alpha():
    torch.manual_seed(0)
    maps = 100 * torch.rand(2, 5, 3, 3, dtype=torch.double)
    expected = torch.empty_like(maps)
    for channel in range(5):
        neighbours = maps[:, max(0, channel - 1) : channel + 2]
        expected[:, channel] = maps[:, channel] / (1 + 0.00005 * (neighbours**2).sum(1)) ** 0.75
    assert torch.allclose(LocalResponseNorm()(maps), expected)
    assert torch.allclose(nn.LocalResponseNorm(3, alpha=3 * 0.00005, beta=0.75, k=1.0)(maps), expected)


def test_pooling_rounds_up_as_caffe_does():
    """96 -> 48 -> 24 -> 12 with windows of 3 and steps of 2; rounding down would give 47."""
    assert alexnet().rest.full6.in_features == 128 * 12 * 12


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_the_layers_of_the_text(name):
    table = layer_table(NETWORKS[name](10, 1.0, 96, 0.5))
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
    network = alexnet(width=0.125, size=32)
    table = layer_table(network, size=32)
    assert table["parameters"].sum() == parameter_count(network)
    assert table.iloc[0].tolist() == ["conv1", "Conv2d", 5, 8, 32, 8 * (3 * 25 + 1)]
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("connection", CONNECTIONS)
def test_every_connection_scores_and_uses_its_mask(name, connection):
    torch.manual_seed(0)
    plain = NETWORKS[name](10, 0.125, 32, 0.0).eval()
    network = connected(plain, connection).eval()
    images, maps = torch.randn(2, 3, 32, 32), torch.rand(2, 32, 32)
    scores = network(images, maps)
    assert scores.shape == (2, 10) and plain.first(images).shape[2:] == (32, 32)
    assert not torch.allclose(scores, network(images, torch.zeros(2, 32, 32)))
    if connection != "learned":
        assert torch.allclose(network(images, torch.ones(2, 32, 32)), plain(images), atol=1e-6)
        assert parameter_count(network) == parameter_count(plain)


def test_the_connections_differ_where_they_say():
    plain = alexnet(width=0.125, size=32).eval()
    images, maps = torch.randn(1, 3, 32, 32), torch.rand(1, 32, 32)
    s = (maps + 1) / 2
    assert torch.allclose(connected(plain, "input")(images, maps), plain(images * s[:, None]))
    second = connected(plain, "second")
    assert [name for name, _ in second.first[1].named_children()] == ["pool1", "norm1", "conv2", "relu2"]
    pooled = nn.functional.avg_pool2d(s, 3, 2, ceil_mode=True)
    assert torch.allclose(second.mask(images, maps), pooled)
    of_nin = connected(nin(width=0.125), "second")
    assert [name for name, _ in of_nin.first[1].named_children()][-2:] == ["conv2", "relu2a"]
    with pytest.raises(ValueError, match="one of first, raw, input, second, learned"):
        connected(plain, "third")


def test_learned_mask_is_trained_by_the_loss_and_its_given_map_is_not():
    torch.manual_seed(0)
    network = connected(nin(width=0.125, dropout=0.0), "learned")
    images, maps = torch.randn(2, 3, 32, 32), torch.rand(2, 32, 32, requires_grad=True)
    network(images, maps).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.branch.parameters())
    assert maps.grad is None
    saliency = network.learned_saliency(images, maps)
    assert saliency.shape == (2, 32, 32) and 0 <= saliency.min() and saliency.max() <= 1
    assert torch.equal(network.mask(images, maps), (saliency + 1) / 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_wider_network_has_just_the_parameters_of_the_branch(name):
    wider = width_of_equal_size(name, 0.125, 32)
    learned = parameter_count(connected(NETWORKS[name](10, 0.125, 32, 0.0), "learned"))
    found, below = (parameter_count(NETWORKS[name](10, w, 32, 0.0)) for w in (wider, wider - 0.125 / 256))
    assert below < learned <= found < 1.2 * learned


def test_another_number_of_maps_than_of_images_is_told():
    masked = connected(alexnet(width=0.05, size=32)).eval()
    with pytest.raises(ValueError, match="a saliency map an image, not 1 for 2 images"):
        masked(torch.rand(2, 3, 32, 32), torch.rand(1, 32, 32))
    with pytest.raises(ValueError, match=r"saliency\[None\]"):
        masked(torch.rand(1, 3, 32, 32), torch.rand(32, 32))
