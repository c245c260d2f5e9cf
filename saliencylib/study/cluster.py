"""Work by the workers of a Dask cluster, which share no disk with this machine.

``$SALIENCY_DASK`` names it: the address of a scheduler ("tcp://head:8786"), or "local:N" for N workers on
this machine. ``CLUSTERS.md`` says how one is started. Dask is imported only where the variable is set.

joblib has a back end of its own for Dask. It is not used, since it gives up what this must survive: with it,
data sent once are gone with the workers that held them, and the call with them, and a lost scheduler is a
bare CancelledError; and it brings back what a job returns, but not what it keeps.

A job is done in an empty folder that stands for the cache and the results. What it writes there comes back
with its answer and is written here under the same names; a file that it looks for in vain there, but that is
here, is sent, and the job starts again.
"""

import copy
import functools
import logging
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock
from uuid import uuid4

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from saliencylib.files import write_bytes
from saliencylib.places import cache_root, results_root
from saliencylib.study.plan import local_workers
from saliencylib.study.sources import code_of_text

if TYPE_CHECKING:
    from distributed import Client, Future, SpecCluster

VARIABLE = "SALIENCY_DASK"
SENT_ONCE = 100_000  # bytes from which an array that several jobs have is sent once, not with every job
IN_FLIGHT = 256  # jobs that the cluster has at a time, or four a worker: each holds its data until it is done
PATIENCE = "30s"  # for a scheduler to answer
DASK_SETTINGS = {
    "distributed.admin.large-graph-warning-threshold": "1TB",  # inputs are meant to be large
    "distributed.comm.timeouts.tcp": "300s",  # a scheduler answers nothing while it imports torch
}
BAR = "{l_bar}{bar}| {n_fmt} of {total_fmt} done{postfix} [{elapsed}, expected end in {remaining}]"

_connected: dict[str, "Client"] = {}
_elsewhere: Collection[Path] = ()  # on a worker: where a file would be that only the caller has


# ------------------------------------------------------------------------------------------- connection


def joined() -> bool:
    """Whether ``$SALIENCY_DASK`` names a cluster, to which this process is then connected."""
    address = os.environ.get(VARIABLE)
    return bool(address) and bool(client_at(address))


def client_at(address: str) -> "Client":
    """The client of the cluster at ``address``; "local:N" starts one, which ends with this process.

    Says on stderr where the dashboard is. Raises ValueError for what is no address, where Dask is not
    installed, and where no scheduler answers.
    """
    client = _connected.get(address)
    if client is not None and client.status == "running":
        return client
    distributed, count = _distributed(), local_workers(address)
    import_module("dask").config.set(DASK_SETTINGS)
    try:
        target = _local_cluster(count) if count else address
        client = distributed.Client(target, timeout=PATIENCE, set_as_default=False)
        about = f"Dask scheduler {client.scheduler.address}, {len(client.ncores())} workers"
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Dask scheduler answers at {address}: start it, or leave out --dask and ${VARIABLE}"
        ) from error
    _connected[address] = client
    print(f"{about}, dashboard {client.dashboard_link}", file=sys.stderr, flush=True)
    return client


def _distributed() -> ModuleType:
    try:
        return import_module("distributed")
    except ImportError as error:
        raise ValueError(
            f"a cluster (--dask, ${VARIABLE}) needs Dask: {sys.executable} -m pip install dask distributed"
        ) from error


def _local_cluster(count: int) -> "SpecCluster":
    """``count`` workers of one thread each; where there are GPUs, each is given one."""
    distributed = _distributed()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [str(i) for i in range(torch.cuda.device_count())] if given is None else given.split(",")
    workers = {}
    for i in range(count):
        env = {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {}
        options = {"nthreads": 1, "memory_limit": 0, "silence_logs": logging.WARNING, "env": env}
        workers[i] = {"cls": distributed.Nanny, "options": options}
    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": distributed.Scheduler, "options": options}
    return distributed.SpecCluster(workers, scheduler, silence_logs=logging.WARNING)


# ------------------------------------------------------------------------------------------- the caller


def as_they_come(work: Callable, jobs: Sequence[tuple], module: str, gpu: bool, bar: tqdm) -> Iterator:
    """``work(*job)`` for every job, as soon as it is done, by the cluster that ``$SALIENCY_DASK`` names.

    ``module`` names the code behind the work, which must be a worker's too; with ``gpu`` a worker must see
    one GPU. ``bar`` is told how many jobs run and how many failed. A job whose worker dies is done by
    another. When a job raises, the others are done first; then that is raised. Raises RuntimeError as soon as
    a worker is refused, and ConnectionError when the scheduler is lost.
    """
    address = os.environ[VARIABLE]
    client, distributed = client_at(address), _distributed()
    roots = _roots()
    sent = _Sent(client, jobs)
    listed = sent.once(frozenset(_files(roots)))
    terms = _Terms(_about(module, gpu), module, gpu, os.environ.get("SALIENCY_FRESH", ""))
    waiting: dict[str, tuple[int, Future]] = {}
    given: list[dict[str, bytes]] = [{} for _ in jobs]
    failures: list[BaseException] = []

    def send(number: int) -> "Future":
        key = f"{bar.desc} {number}-{uuid4().hex}"
        packed, inputs = sent.packed(work, jobs[number])
        future = client.submit(_apart, packed, inputs, given[number], listed, terms, key=key)
        waiting[key] = number, future
        return future

    def go_on() -> None:
        """Send more jobs, and tell ``bar`` how many run and how many failed."""
        try:
            workers = len(client.ncores())
        except OSError:  # the scheduler is lost, which the next job tells
            workers = 0
        room = max(0, max(IN_FLIGHT, 4 * workers) - len(waiting))
        done.update([send(number) for number in islice(numbers, room)])
        running = min(len(waiting), workers)  # a worker does one job at a time
        bar.set_postfix_str(f"{running} running, {len(failures)} failed")

    numbers = iter(range(len(jobs)))
    done = distributed.as_completed(loop=client.loop, with_results=True, raise_errors=False)
    try:
        go_on()
        for future, answer in done:
            number, _ = waiting.pop(future.key)
            if future.status == "error":
                failure = answer[1].with_traceback(answer[2])
                if isinstance(failure, _Refused):
                    raise RuntimeError(str(failure))
                if not hasattr(failure, "__notes__"):  # it did not come from the work itself
                    failure.add_note(f"in job {number} (from 0) of {bar.desc}")
                failures.append(failure)
            elif future.status != "finished":
                raise ConnectionError(
                    f"the Dask scheduler at {address} was lost: start it again and repeat the call, which "
                    "continues with what was kept"
                )
            else:
                for name, content in answer.files.items():
                    write_bytes(_path(roots, name), content)
                if answer.wants:
                    given[number] |= {answer.wants: _path(roots, answer.wants).read_bytes()}
                    done.add(send(number))
                    continue
                yield answer.result
            go_on()
    finally:
        if waiting and client.status == "running":
            client.cancel([future for _, future in waiting.values()])
    if failures:
        failures[0].add_note(f"{len(failures)} of {len(jobs)} jobs failed; what the others gave is kept")
        raise failures[0]


class _Input(NamedTuple):
    """Stands in a job for what is sent once: the place in the list of its inputs."""

    number: int


class _Packed:
    """Keeps Dask from taking apart, and the scheduler from loading, what it holds."""

    def __init__(self, value: object) -> None:
        self.value = value


class _Sent:
    """Packs jobs; a network, or a large array, that several of them have is one input of the cluster.

    An input is a task whose code is its content. Unlike scattered data it is there again when the worker that
    held it is gone.
    """

    def __init__(self, client: "Client", jobs: Sequence[tuple]) -> None:
        self._client = client
        self._inputs: dict[int, tuple[object, Future]] = {}
        self._jobs: Counter[int] = Counter()
        for job in jobs:
            found: dict[int, object] = {}
            _replaced(job, lambda value, found=found: found.setdefault(id(value), value))
            self._jobs.update(found.keys())

    def once(self, value: object) -> "Future":
        """The input that holds a value."""
        if id(value) not in self._inputs:
            future = self._client.submit(_itself, _bytes(value), key=f"input-{uuid4().hex}")
            self._inputs[id(value)] = value, future  # as long as the value is held, its id means it
        return self._inputs[id(value)][1]

    def packed(self, work: Callable, job: tuple) -> tuple[bytes, list["Future"]]:
        """The call as bytes, and its inputs."""
        used: list[object] = []

        def change(value: object) -> object:
            large = isinstance(value, nn.Module) or value.nbytes >= SENT_ONCE
            if not large or self._jobs[id(value)] < 2:
                return value
            places = [number for number, known in enumerate(used) if known is value]
            used.extend([] if places else [value])
            return _Input(places[0] if places else len(used) - 1)

        packed = _bytes((work, _replaced(job, change)))
        return packed, [self.once(value) for value in used]


def _replaced(value: object, change: Callable[[object], object]) -> object:
    """A copy in which every array, tensor, network and ``_Input`` is what ``change`` makes of it."""
    if isinstance(value, np.ndarray | torch.Tensor | nn.Module | _Input):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)([_replaced(item, change) for item in value])
    if type(value) is dict:
        return {name: _replaced(item, change) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        for field in fields(value):  # also of a frozen one
            object.__setattr__(changed, field.name, _replaced(getattr(value, field.name), change))
        return changed
    return value


def _bytes(value: object) -> bytes:
    return import_module("distributed.protocol").serialize_bytes(_Packed(value), serializers=("pickle",))


def _value(content: bytes) -> object:
    return import_module("distributed.protocol").deserialize_bytes(content).value


def _itself(content: bytes) -> bytes:
    return content


# ------------------------------------------------------------------------------------------- a worker


class _Terms(NamedTuple):
    """What a worker must fulfil to do a job, and whether tables that came with the study are read."""

    about: dict[str, str]
    module: str
    gpu: bool
    fresh: str


class _Answer(NamedTuple):
    result: object
    files: dict[str, bytes]
    wants: str


class _Refused(Exception):
    pass


class _Wanted(BaseException):  # not an Exception, so that no work takes it for one of its own
    pass


def at_hand(path: Path) -> Path:
    """The path; on a worker, where only the caller has that file, the job is left, to start again with it."""
    if path in _elsewhere and not path.exists():
        raise _Wanted(path)
    return path


def _apart(
    packed: bytes, inputs: list[bytes], given: dict[str, bytes], listed: bytes, terms: _Terms
) -> _Answer:
    """Do one job in a folder of its own; ``given`` are files of the caller, ``listed`` the names of all."""
    global _elsewhere
    if why := _refusal(terms):
        raise _Refused(why)
    with tempfile.TemporaryDirectory() as folder:
        variables = {"SALIENCY_CACHE": f"{folder}/cache", "SALIENCY_RESULTS": folder}
        variables |= {"SALIENCY_FRESH": terms.fresh, VARIABLE: ""}
        with mock.patch.dict(os.environ, variables):
            roots = _roots()
            for name, content in given.items():
                write_bytes(_path(roots, name), content)
            names = {_path(roots, name): name for name in _value(listed)}
            _elsewhere = names.keys()
            values = [_value(content) for content in inputs]
            work, job = _value(packed)
            job = _replaced(job, lambda value: values[value.number] if isinstance(value, _Input) else value)
            result, wants = None, ""
            try:
                result = work(*job)
            except _Wanted as wanted:
                wants = names[wanted.args[0]]
            finally:
                _elsewhere = ()
            written = {name: _path(roots, name).read_bytes() for name in _files(roots)}
    new = {name: content for name, content in written.items() if content != given.get(name)}
    return _Answer(result, new, wants)


def _refusal(terms: _Terms) -> str:
    """Why this worker may not do the work; "" when it may."""
    worker = import_module("distributed").get_worker()
    here = _about(terms.module, terms.gpu)
    differing = [f"its {name} is {here[name]}, not {wanted}" for name, wanted in terms.about.items()
                 if here[name] != wanted]  # fmt: skip
    if differing:
        why = f"{'; '.join(differing)}: make them the same and start it again"
    elif worker.state.nthreads != 1:
        why = f"it has {worker.state.nthreads} threads: start it with --nthreads 1"
    elif terms.gpu and torch.cuda.device_count() != 1:
        why = f"it sees {torch.cuda.device_count()} GPUs: give it one by CUDA_VISIBLE_DEVICES"
    else:
        return ""
    return f"the worker {worker.address} was refused: {why}"


@functools.cache
def _about(module: str, gpu: bool) -> dict[str, str]:
    """What the numbers of a module's work depend on beside the machine."""
    code = code_of_text(f"import {module}, saliencylib.study.keep", ())
    about = {"saliencylib (a digest of the code)": code, "torch": torch.__version__}
    return about | ({"NVIDIA_TF32_OVERRIDE": os.environ.get("NVIDIA_TF32_OVERRIDE", "unset")} if gpu else {})


# ------------------------------------------------------------------------------------------- files


def _roots() -> dict[str, Path]:
    """The folders of files that belong to a job, by what their names begin with."""
    return {"cache": cache_root(), "kept": results_root() / "kept"}


def _files(roots: dict[str, Path]) -> list[str]:
    return [
        f"{kind}/{path.relative_to(root).as_posix()}"
        for kind, root in roots.items()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    ]


def _path(roots: dict[str, Path], name: str) -> Path:
    """Where a file of this name lies. Raises ValueError for one that lies in none of the folders."""
    kind, _, rest = name.partition("/")
    path = PurePosixPath(rest)
    if kind not in roots or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"a worker named a file outside the cache and the results, {name!r}: look after it")
    return roots[kind] / path
