import pytest
import torch

from saliencylib import models, sal_mask


def test_sal_mask_equals_the_equations_and_the_check_can_fail(monkeypatch):
    assert sal_mask.layer_matches_equations()
    original = models.SalMask.forward
    monkeypatch.setattr(models.SalMask, "forward", lambda self, x, s: 1.01 * original(self, x, s))
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
    assert torch.allclose(models.local_response_norm()(maps), expected)


@pytest.mark.parametrize("size", [96, 64, 48])
def test_networks_keep_the_first_maps_size_and_score_ten_classes(size):
    for network in (models.alexnet(width=0.125, size=size), models.nin(width=0.125)):
        images = torch.rand(2, 3, size, size)
        assert network.first(images).shape[2:] == (size, size)
        assert network(images).shape == (2, 10)


def test_pooling_rounds_up_as_caffe_does():
    """96 -> 48 -> 24 -> 12 with windows of 3 and steps of 2; rounding down would give 47."""
    assert models.alexnet().rest.full6.in_features == 128 * 12 * 12
