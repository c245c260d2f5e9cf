import numpy as np
import pytest
import torch

from saliencylib.study import cache, checkpoints
from saliencylib import stats


def test_keys_depend_on_content_type_and_source():
    a = np.arange(4)
    assert cache.key(a) == cache.key(a.copy())
    assert (
        len({cache.key(a), cache.key(a.astype(np.int32)), cache.key(a.reshape(2, 2)), cache.key(a + 1)}) == 4
    )
    assert cache.key(stats) != cache.key(cache) and cache.key({"a": 1}) != cache.key({"a": 2})


def test_arrays_come_back_and_damaged_or_missing_files_give_none(tmp_path):
    path = tmp_path / "deep" / "x.npz"
    assert cache.load_arrays(path) is None
    cache.save_arrays(path, x=np.arange(3))
    assert cache.load_arrays(path)["x"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-30])
    assert cache.load_arrays(path) is None
    path.write_bytes(b"")
    assert cache.load_arrays(path) is None


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    cache.write(path, lambda temporary: temporary.write_text("old"))

    def interrupted(temporary):
        temporary.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.write(path, interrupted)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_restores_network_optimiser_and_log_exactly(tmp_path):
    def parts():
        torch.manual_seed(0)
        network = torch.nn.Linear(3, 2)
        return network, torch.optim.AdamW(network.parameters(), 0.1)

    def step(network, optimiser):
        optimiser.zero_grad()
        network(torch.ones(1, 3)).square().sum().backward()
        optimiser.step()

    network, optimiser = parts()
    step(network, optimiser)
    checkpoints.save(tmp_path / "x.safetensors", network, optimiser, 1, {"loss": [0.1]})
    step(network, optimiser)
    other, other_optimiser = parts()
    assert checkpoints.restore(tmp_path / "absent.safetensors", other, other_optimiser) == (0, {})
    assert checkpoints.restore(tmp_path / "x.safetensors", other, other_optimiser) == (1, {"loss": [0.1]})
    step(other, other_optimiser)
    assert torch.equal(network.weight, other.weight)
