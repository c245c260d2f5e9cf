"""Work side by side."""

import os

import pytest
import torch

from saliencylib.parallel import side_by_side

CPU = torch.device("cpu")


def _where(number: int) -> tuple[int, int, int]:
    return number, os.getpid(), torch.get_num_threads()


def test_results_keep_their_order_and_each_process_has_one_thread():
    threads = torch.get_num_threads()
    found = side_by_side(_where, [(n,) for n in range(5)], CPU)
    assert [number for number, _, _ in found] == list(range(5))
    if threads > 1:
        assert os.getpid() not in {pid for _, pid, _ in found} and {t for _, _, t in found} == {1}
    assert torch.get_num_threads() == threads


def test_a_single_job_stays_here_with_all_threads():
    assert side_by_side(_where, [(7,)], CPU) == [(7, os.getpid(), torch.get_num_threads())]
    assert side_by_side(_where, [(1,), (2,)], torch.device("cuda"))[1][1] == os.getpid()
    assert side_by_side(_where, [], CPU) == []


def test_errors_come_back():
    with pytest.raises(TypeError):
        side_by_side(_where, [(1, 2), (3, 4)], CPU)
