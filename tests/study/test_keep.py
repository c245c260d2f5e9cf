"""What is kept between runs: keys, entries, committed tables, checkpoints, and work side by side."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from PIL import Image

from saliencylib.digits import DigitSet
from saliencylib.study import keep
from saliencylib.study.keep import Checkpoint, digest, kept, side_by_side

CALLS = []


@kept("numbers")
def doubled(values, factor=2, *, kind="array"):
    CALLS.append(factor)
    if kind == "frame":
        return pd.DataFrame({"name": ["a", ""], "x": values[:2] * factor, "right": [True, False]})
    if kind == "dictionary":
        return {"x": values * factor, "y": values}
    return values * factor if kind == "array" else kind


@kept("tables", table=True)
def table_of(seed):
    CALLS.append(seed)
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"name": ["nan?", "", "b"], "x": rng.random(3), "n": [1, 2, 3], "y": [0.1, np.nan, 2]}
    )


@pytest.fixture(autouse=True)
def fresh(own_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path / "results"))
    CALLS.clear()


def test_a_digest_depends_on_content_type_and_shape():
    a = np.arange(4)
    assert digest(a) == digest(a.copy()) and digest(torch.tensor(a)) == digest(a)
    different = [a, a.astype(np.int32), a.reshape(2, 2), a + 1, [0, 1, 2, 3], {"a": a}, "0", None, 0, 0.0]
    assert len({digest(value) for value in different}) == len(different)
    red, blue = (Image.new("RGB", (2, 2), name) for name in ("red", "blue"))
    assert digest(red) != digest(blue) and digest([1], [2]) != digest([1, 2])
    networks = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    assert digest(networks[0]) != digest(networks[1])
    networks[1].load_state_dict(networks[0].state_dict())
    assert digest(networks[0]) == digest(networks[1])
    parts = [np.zeros((1, 2, 2, 3), np.uint8), a[:1], a[:1], a[:1], [], []]
    assert digest(DigitSet(*parts)) != digest(DigitSet(*parts, name="other"))


def test_what_has_no_content_cannot_name_an_entry():
    with pytest.raises(TypeError, match="cannot depend on a function"):
        digest(doubled)


@pytest.mark.parametrize("kind", ["array", "frame", "dictionary"])
def test_a_second_call_reads_what_the_first_computed(kind):
    values = np.arange(3.0)
    first, second = doubled(values, kind=kind), doubled(values, 2, kind=kind)
    assert CALLS == [2]
    if kind == "frame":
        pd.testing.assert_frame_equal(first, second)
        assert second["name"].tolist() == ["a", ""] and second["right"].dtype == bool
    else:
        assert str(first) == str(second)
    doubled(values, 3, kind=kind)
    assert CALLS == [2, 3]


def test_a_damaged_entry_is_made_again(own_cache):
    doubled(np.arange(3))
    (entry,) = own_cache.rglob("*.npz")
    entry.write_bytes(entry.read_bytes()[:-30])
    assert doubled(np.arange(3)).tolist() == [0, 2, 4] and CALLS == [2, 2]


def test_other_results_are_refused():
    with pytest.raises(TypeError, match="cannot keep a str"):
        doubled(np.arange(3), kind="text")


def test_only_long_work_is_also_a_committed_table_which_survives_a_lost_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(keep, "recording", True)
    table_of(0)
    assert not (tmp_path / "results").exists()
    monkeypatch.setattr(keep, "TABLE_AFTER", 0.0)
    first = table_of(1)
    (stored,) = (tmp_path / "results" / "kept").rglob("*.csv.gz")
    monkeypatch.setenv("SALIENCY_CACHE", str(tmp_path / "another"))
    pd.testing.assert_frame_equal(table_of(1), first)
    assert CALLS == [0, 1]
    monkeypatch.setenv("SALIENCY_FRESH", "1")
    table_of(1)
    assert CALLS == [0, 1, 1]
    before = stored.read_bytes()
    monkeypatch.delenv("SALIENCY_FRESH")
    stored.write_bytes(before[:-9])
    monkeypatch.setenv("SALIENCY_CACHE", str(tmp_path / "a third"))
    assert table_of(1)["x"].equals(first["x"]) and stored.read_bytes() == before


def _inner(number):
    doubled(np.arange(3), number)
    return number


@kept("outer")
def outer(numbers):
    return np.array(side_by_side(_inner, [(number,) for number in numbers]))


@pytest.mark.parametrize("numbers", [[5], [5, 6]])
def test_the_work_behind_an_entry_counts_also_when_its_parts_were_kept_before(own_cache, numbers):
    get_reusable_executor().shutdown()  # workers of other tests have other caches
    doubled(np.arange(3), 5)
    (entry,) = own_cache.rglob("*.npz")
    with np.load(entry) as file:
        keep.save_arrays(entry, array=file["array"], seconds=np.float64(1000))
    outer(numbers)
    (whole,) = (own_cache / "outer").glob("*.npz")
    assert 1000 <= np.load(whole)["seconds"] < 1030


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    keep.write(path, lambda temporary: temporary.write_text("old"))

    def interrupted(temporary):
        temporary.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep.write(path, interrupted)
    assert path.read_text() == "old" and not list(tmp_path.glob(".*"))


def test_a_checkpoint_restores_network_optimiser_and_log_exactly():
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
    checkpoint = Checkpoint("trainings", parts, "first")
    checkpoint.save(network, optimiser, 1, {"loss": [0.1]})
    step(network, optimiser)
    other, other_optimiser = parts()
    assert Checkpoint("trainings", parts, "second").restore(other, other_optimiser) == (0, {})
    before = keep._unseen
    assert checkpoint.restore(other, other_optimiser) == (1, {"loss": [0.1]})
    assert keep._unseen > before, "an interrupted training's earlier work counts"
    step(other, other_optimiser)
    assert torch.equal(network.weight, other.weight)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-5])
    assert checkpoint.restore(*parts()) == (0, {})


def _where(number):
    return number, os.getpid(), torch.get_num_threads()


def test_results_keep_their_order_and_each_process_has_one_thread():
    threads = torch.get_num_threads()
    found = side_by_side(_where, [(n,) for n in range(5)])
    assert [number for number, _, _ in found] == list(range(5))
    if threads > 1:
        assert os.getpid() not in {pid for _, pid, _ in found} and {t for _, _, t in found} == {1}
    assert torch.get_num_threads() == threads


def test_a_single_job_and_a_gpu_stay_here_with_all_threads():
    assert side_by_side(_where, [(7,)]) == [(7, os.getpid(), torch.get_num_threads())]
    assert side_by_side(_where, [(1,), (2,)], torch.device("cuda"))[1][1] == os.getpid()
    assert side_by_side(_where, []) == []


def test_two_processes_that_add_to_one_record_lose_no_line(tmp_path):
    code = (
        "import sys\nfrom saliencylib.study import keep\n"
        "for i in range(20):\n"
        "    keep._write_record('shared', {f'{sys.argv[1]}{i}': {'made_on': 'CPU', 'x:': '1'}})"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert set(keep._read_record("shared")) == {f"{name}{i}" for name in "ab" for i in range(20)}
