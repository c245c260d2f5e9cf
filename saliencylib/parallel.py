"""Work side by side: on a CPU one process a core, each with one thread; on a GPU one after another."""

from collections.abc import Callable, Iterable

import torch
from joblib import Parallel, delayed


def side_by_side(work: Callable[..., object], jobs: Iterable[tuple], device: torch.device) -> list:
    """``work(*job)`` for every job, in order.

    joblib runs them, so that whatever back end is active takes them, to other machines too; large arrays are
    shared, not copied. A single job keeps all threads.
    """
    jobs = list(jobs)
    workers = 1 if device.type == "cuda" else min(len(jobs), torch.get_num_threads())
    if workers <= 1:
        return [work(*job) for job in jobs]
    with Parallel(n_jobs=workers, max_nbytes="1M") as parallel:
        return parallel(delayed(_on_one_thread)(work, *job) for job in jobs)


def _on_one_thread(work: Callable[..., object], *arguments: object) -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return work(*arguments)
    finally:
        torch.set_num_threads(threads)
