"""What is kept between runs: results of functions, checkpoints of trainings; and work side by side.

An entry is named by everything that it depends on: the arguments (arrays by content) and the code, which is
the syntax tree of the function's module and of all library modules that it imports, directly or not. Writes
go to a temporary file that is then renamed, so that an interruption leaves nothing half-written; what a disk
damaged all the same is noticed when it is read, and made again.
"""

import csv
import functools
import gzip
import hashlib
import inspect
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from textwrap import shorten
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, cpu_count, delayed
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from saliencylib.files import load_arrays, save_arrays, write, write_bytes, write_text
from saliencylib.lock import alone_in
from saliencylib.places import ROOT, cache_root, results_root
from saliencylib.study import cluster
from saliencylib.study.sources import code_of

TABLE_AFTER = 300.0  # seconds of work from which a kept table is worth a place in the repository
RECORD_AFTER = 15.0  # the same for one of many jobs, whose outcome is a line
GPU_SHARE = 5e9  # bytes of a GPU's free memory for each of the processes that share it

recording = True  # whether that is written; a quick run, short on any machine, turns it off
_unseen = 0.0  # seconds of work behind what was read back or done by other processes, so unseen by the clock


# ------------------------------------------------------------------------------------------- kept results


def kept(name: str, table: bool = False) -> Callable[[Callable], Callable]:
    """Keep a function's result in the cache, below the folder ``name``.

    The function returns an array, a data frame (columns of numbers, booleans and text; its index is dropped),
    or a dictionary of arrays by name; its arguments are what ``digest`` takes. With ``table``, a data frame
    that took more than five minutes of work is also written below ``results/kept``, which is committed, and
    read from there when the cache has lost it, unless ``$SALIENCY_FRESH`` is set. The decorated function has
    ``.key(*args, **kwargs)``, the name of its entry.
    """

    def decorate(function: Callable) -> Callable:
        signature = inspect.signature(function)

        def key(*args: object, **kwargs: object) -> str:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return digest(function.__qualname__, code_of(function.__module__), dict(bound.arguments))

        @functools.wraps(function)
        def call(*args: object, **kwargs: object) -> object:
            global _unseen
            entry = f"{name}/{key(*args, **kwargs)}"
            found = _read(entry, table)
            if found is not None:
                _unseen += found[1]
                return _unpacked(found[0])
            began = _worked()
            arrays = _packed(function(*args, **kwargs))
            _write(entry, arrays, _worked() - began, table)
            return _unpacked(arrays)

        call.key = key
        return call

    return decorate


def _worked() -> float:
    """The clock of this process, in seconds, put forward by the work that it did not see."""
    return time.perf_counter() + _unseen


def digest(*values: object) -> str:
    """16 hexadecimal digits that change when any of the values does.

    Arrays, tensors, pictures and networks count by content; dataclasses and objects of this library by type
    and fields; everything else must be what JSON can hold. Raises TypeError for other types.
    """
    sha = hashlib.sha256()
    for piece in _pieces(values):
        sha.update(piece)
        sha.update(b"|")
    return sha.hexdigest()[:16]


def _pieces(value: object) -> Iterator[bytes | np.ndarray]:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    elif isinstance(value, Image.Image):
        value = np.asarray(value)
    elif isinstance(value, nn.Module):
        value = {"module": type(value).__name__} | dict(value.state_dict())
    elif isinstance(value, pd.DataFrame):
        value = {str(name): value[name].to_numpy() for name in value}
    elif isinstance(value, torch.device):
        value = value.type
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value)
    elif value is None or isinstance(value, str | bool | int | float | np.generic):
        yield json.dumps(value.item() if isinstance(value, np.generic) else value).encode()
    elif isinstance(value, list | tuple | range | np.ndarray):
        yield f"[{len(value)}".encode()
        for item in value:
            yield from _pieces(item)
    elif isinstance(value, dict):
        yield f"{{{len(value)}".encode()
        for name, item in value.items():
            yield from _pieces(name)
            yield from _pieces(item)
    elif is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__.encode()
        yield from _pieces({field.name: getattr(value, field.name) for field in fields(value)})
    elif isinstance(value, SimpleNamespace) or type(value).__module__.startswith("saliencylib."):
        yield type(value).__name__.encode()
        yield from _pieces(vars(value))
    else:
        raise TypeError(f"a kept result cannot depend on a {type(value).__name__}")


def _packed(result: object) -> dict[str, np.ndarray]:
    if isinstance(result, pd.DataFrame):
        columns = {f"column/{name}": result[name].to_numpy() for name in result}
        return {
            name: values.astype(np.str_) if values.dtype.kind not in "biuf" else values
            for name, values in columns.items()
        }
    if isinstance(result, np.ndarray):
        return {"array": result}
    if isinstance(result, dict) and all(isinstance(values, np.ndarray) for values in result.values()):
        return {f"item/{name}": values for name, values in result.items()}
    raise TypeError(
        f"cannot keep a {type(result).__name__}: return an array, arrays by name, or a data frame"
    )


def _unpacked(arrays: dict[str, np.ndarray]) -> object:
    if list(arrays) == ["array"]:
        return arrays["array"]
    plain = {name.partition("/")[2]: values for name, values in arrays.items()}
    if any(name.startswith("column/") for name in arrays):
        return pd.DataFrame({name: v.tolist() if v.dtype.kind == "U" else v for name, v in plain.items()})
    return plain


def _read(entry: str, table: bool) -> tuple[dict[str, np.ndarray], float] | None:
    arrays = load_arrays(cluster.at_hand(cache_root() / f"{entry}.npz"))
    if arrays is not None and "seconds" in arrays:
        return arrays, float(arrays.pop("seconds"))
    if table and not os.environ.get("SALIENCY_FRESH"):
        for root in dict.fromkeys((results_root(), ROOT / "results")):
            frame = _read_table(cluster.at_hand(root / "kept" / f"{entry}.csv.gz"))
            if frame is not None:
                return _packed(frame), TABLE_AFTER
    return None


def _write(entry: str, arrays: dict[str, np.ndarray], seconds: float, table: bool) -> None:
    save_arrays(cache_root() / f"{entry}.npz", **arrays, seconds=np.float64(seconds))
    if table and recording and seconds > TABLE_AFTER:
        text = _unpacked(arrays).to_csv(index=False, na_rep="nan", lineterminator="\n")
        write_bytes(results_root() / "kept" / f"{entry}.csv.gz", gzip.compress(text.encode(), mtime=0))


def _read_table(path: Path) -> pd.DataFrame | None:
    """A kept table, or None when it is absent or damaged (then it is made again)."""
    try:
        return pd.read_csv(path, na_values=["nan"], keep_default_na=False, float_precision="round_trip")
    except (OSError, EOFError, ValueError, zlib.error):
        return None


# ------------------------------------------------------------------------------------------- checkpoints


class Checkpoint:
    """The state of one training: network, optimiser and logged numbers in one safetensors file.

    Named by the code of ``function``'s module (and what that imports) and by ``parts``, everything else that
    the training's numbers depend on; so an interrupted training continues exactly where it stopped, and a
    changed one starts anew.
    """

    def __init__(self, name: str, function: Callable, *parts: object) -> None:
        key = digest(code_of(function.__module__), torch.__version__, list(parts))
        self.path = cache_root() / name / f"{key}.safetensors"
        self._began = _worked()

    def restore(
        self, model: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[int, dict[str, list[float]]]:
        """Load the state into ``model`` and ``optimiser``; the finished epochs and the log.

        Gives (0, {}) and changes nothing when there is no checkpoint or it is damaged.
        """
        global _unseen
        try:
            with safe_open(cluster.at_hand(self.path), "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}
                promised = (file.metadata() or {}).get("digest")  # which older checkpoints lack
        except (OSError, SafetensorError):
            return 0, {}
        if promised not in (None, _digest_of_sorted(tensors)):
            return 0, {}
        _unseen += float(tensors["seconds"])
        device = next(model.parameters()).device
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        model.load_state_dict(_part(tensors, "model/"))
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _part(tensors, "optimiser/").items():
            index, field = name.split("/")
            state.setdefault(int(index), {})[field] = value.cpu() if field == "step" else value
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        log = {name: values.cpu().tolist() for name, values in _part(tensors, "log/").items()}
        return int(tensors["epoch"]), log

    def save(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer | None,
        epoch: int,
        log: dict[str, list[float]],
    ) -> None:
        """Write everything that training needs to go on after ``epoch`` finished epochs, all or nothing.

        ``log`` holds lists of numbers by name, kept in float64. Without an optimiser, after the last epoch,
        the file is a third as large and can be read but not trained further.
        """
        seconds = torch.tensor(_worked() - self._began, dtype=torch.float64)
        tensors = {"epoch": torch.tensor(epoch), "seconds": seconds}
        tensors |= {f"log/{name}": torch.tensor(v, dtype=torch.float64) for name, v in log.items()}
        tensors |= {f"model/{name}": value.contiguous() for name, value in model.state_dict().items()}
        for index, state in (optimiser.state_dict()["state"] if optimiser else {}).items():
            for name, value in state.items():
                tensors[f"optimiser/{index}/{name}"] = torch.as_tensor(value).contiguous()
        facts = {"digest": _digest_of_sorted(tensors)}
        write(self.path, lambda temporary: save_file(tensors, temporary, facts))


def _digest_of_sorted(values: Mapping[str, object]) -> str:
    """The digest of named values, whatever their order."""
    return digest(dict(sorted(values.items())))


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


# ------------------------------------------------------------------------------------------- side by side


def side_by_side(work: Callable, jobs: Iterable[tuple], device: torch.device | None = None) -> list:
    """``work(*job)`` for every job, in order: on a CPU one process a core with one thread each, on a GPU one
    after another.

    joblib runs them, and shares large arrays instead of copying them; where ``$SALIENCY_DASK`` names a
    cluster, its workers do, one job at a time each, and what they keep is kept here. A single job stays here
    and has all threads. Progress is shown on a terminal, that of a cluster always. What a job raises has a
    note with the job's number and data.
    """
    jobs = list(jobs)
    workers = 1 if _is_gpu(device) else torch.get_num_threads()
    found = {done.number: done.result for done in _as_they_come(work, jobs, workers, device)}
    return [found[number] for number in range(len(jobs))]


def recorded_side_by_side(
    name: str,
    work: Callable,
    jobs: Sequence[tuple],
    marks: Sequence[Mapping[str, object]],
    keys: Sequence[tuple],
    device: torch.device | None = None,
) -> list[pd.DataFrame]:
    """``side_by_side`` for work that gives a data frame of numbers, with a record of every finished job.

    A job of more than ``RECORD_AFTER`` seconds (on a GPU, any) becomes, as soon as it is done, a line of
    ``results/kept/<name>.csv``, which is committed: its key, its ``marks`` (what a reader knows it by), where
    it was made, the frame's columns, and a digest of all that, without which the line does not count. A job
    whose key is in the record is not done again, unless ``$SALIENCY_FRESH`` is set. ``keys`` are what a job's
    outcome depends on beside the code of ``work``, as ``digest`` takes it; machine and torch version are no
    part of them, since they change a training as another seed would. The frames have one more column,
    made_on, which names both. The jobs are small: on a GPU as many processes share it as there are cores, and
    memory for (``GPU_SHARE`` each).
    """
    code = code_of(work.__module__)
    named = [digest(work.__qualname__, code, *key) for key in keys]
    record = _read_record(name)
    missing = [i for i, key in enumerate(named) if key not in record]
    found = {i: _frame(record[key]) for i, key in enumerate(named) if key in record}
    after, workers = RECORD_AFTER, torch.get_num_threads()
    if missing and _is_gpu(device):
        after = 0.0
        workers = min(cpu_count(), int(torch.cuda.mem_get_info(device)[0] // GPU_SHARE))
    for done in _as_they_come(work, [jobs[i] for i in missing], workers, device):
        i, where = missing[done.number], {"made_on": done.made_on}
        found[i] = done.result.assign(**where)
        if recording and done.seconds > after:
            _write_record(name, {named[i]: dict(marks[i]) | where | _line(done.result)})
    return [found[i] for i in range(len(jobs))]


def _is_gpu(device: torch.device | None) -> bool:
    return device is not None and device.type == "cuda"


class _Done(NamedTuple):
    """A job that is done: its number, what it gave, the seconds of work behind it, and where it was done."""

    number: int
    result: object
    seconds: float
    made_on: str


def _as_they_come(
    work: Callable, jobs: list[tuple], workers: int, device: torch.device | None
) -> Iterator[_Done]:
    """Every job as soon as it is done."""
    global _unseen
    calls = [(work, job, number, device) for number, job in enumerate(jobs)]
    title = work.__name__.strip("_").replace("_", " ")
    by_cluster = len(jobs) > 1 and cluster.joined()
    shown = {"disable": False, "bar_format": cluster.BAR} if by_cluster else {"disable": None}
    with tqdm(total=len(jobs), desc=title, **shown) as bar:
        if not by_cluster and min(len(jobs), workers) <= 1:
            for call in calls:
                yield _done(*call)
                bar.update()
            return
        if by_cluster:
            stream = cluster.as_they_come(_on_one_thread, calls, work.__module__, _is_gpu(device), bar)
        else:
            pool = Parallel(min(len(jobs), workers), max_nbytes="1M", return_as="generator_unordered")
            stream = pool(delayed(_on_one_thread)(*call) for call in calls)
        waited = time.perf_counter()
        for done in stream:
            _unseen += done.seconds - (time.perf_counter() - waited)  # the clock ran in this wait
            bar.update()
            yield done
            waited = time.perf_counter()


def _record_path(root: Path, name: str) -> Path:
    return root / "kept" / f"{name}.csv"


def _read_record(name: str) -> dict[str, dict[str, str]]:
    """The lines of a record by key: those of this run's results, and those that came with the study."""
    lines: dict[str, dict[str, str]] = {}
    if os.environ.get("SALIENCY_FRESH"):
        return lines
    for root in dict.fromkeys((ROOT / "results", results_root())):
        lines |= _whole_lines(_record_path(root, name))
    return lines


def _whole_lines(path: Path) -> dict[str, dict[str, str]]:
    """The lines of a record by key, without those that are damaged."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    header, *rows = (next(csv.reader([line.replace("\0", "")]), []) for line in text.split("\n"))
    lines = {}
    for row in rows:
        line = dict(zip(header, row, strict=False))
        promised = line.pop("digest", "")
        if promised == _digest_of_line(line):
            lines[line.pop("key")] = line
    return lines


def _digest_of_line(line: Mapping[str, str]) -> str:
    """The digest of a record's line, whichever empty columns other lines give it."""
    return _digest_of_sorted({name: text for name, text in line.items() if text})


def _write_record(name: str, new: dict[str, dict]) -> None:
    path = _record_path(results_root(), name)
    path.parent.mkdir(parents=True, exist_ok=True)
    added = {key: {column: str(value) for column, value in line.items()} for key, line in new.items()}
    with alone_in(path.parent, wait=True):  # runs of other profiles may add to the same record
        lines = [{"key": key} | line for key, line in (_whole_lines(path) | added).items()]
        frame = pd.DataFrame(lines).fillna("")
        marks = [column for column in frame if column != "key"]
        frame = frame.assign(digest=[_digest_of_line(line) for line in lines]).sort_values([*marks, "key"])
        write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def _line(frame: pd.DataFrame) -> dict[str, str]:
    """A frame of numbers as text, the values of a column side by side."""
    return {f"{name}:": " ".join(map(repr, frame[name].tolist())) for name in frame}


def _frame(line: Mapping[str, str]) -> pd.DataFrame:
    columns = {name[:-1]: text.split() for name, text in line.items() if name.endswith(":") and text}
    frame = pd.DataFrame({name: pd.to_numeric(values) for name, values in columns.items()})
    return frame.assign(made_on=line["made_on"])


def _on_one_thread(work: Callable, job: tuple, number: int, device: torch.device | None) -> _Done:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _done(work, job, number, device)
    finally:
        torch.set_num_threads(threads)


def _done(work: Callable, job: tuple, number: int, device: torch.device | None) -> _Done:
    began = _worked()
    try:
        result = work(*job)
    except Exception as error:
        error.add_note(f"in job {number} (from 0) of {work.__name__}: {'; '.join(map(_in_words, job))}")
        raise
    gpu = _is_gpu(device) and torch.cuda.is_available()
    where = torch.cuda.get_device_name(device) if gpu else "CPU"
    made_on = f"{where}, torch {torch.__version__.partition('+')[0]}"
    return _Done(number, result, _worked() - began, made_on)


def _in_words(value: object) -> str:
    """An argument in at most 200 characters."""
    if isinstance(value, nn.Module):
        return type(value).__name__
    if isinstance(value, np.ndarray | torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    return shorten(repr(value), 200, placeholder=" ...")
