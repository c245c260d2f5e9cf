"""The record of a run, ``provenance.json`` in its folder: what finished notebooks were made of and wrote."""

import calendar
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from saliencylib.files import write_text

STAMP = "%Y-%m-%dT%H:%M:%SZ"
PULSE = 5.0  # seconds


def read_record(folder: Path) -> dict[str, dict]:
    """The entries of a run folder's provenance.json by notebook; empty when there is none.

    Raises ValueError when the file cannot be read or holds something else.
    """
    path = folder / "provenance.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not (isinstance(record, dict) and all(isinstance(entry, dict) for entry in record.values())):
            raise ValueError("it holds no entries by notebook")
        return record
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the record {path} cannot be read ({error}): delete it to run the notebooks again"
        ) from error


def known(folder: Path) -> dict[str, dict]:
    """The same; of a damaged record nothing, so that its notebooks run again and it is made anew."""
    try:
        return read_record(folder)
    except ValueError:
        return {}


def note(folder: Path, notebook: str, entry: Mapping[str, object]) -> None:
    """Make ``entry`` that of a finished notebook."""
    _write(folder, known(folder) | {notebook: entry})


def forget(folder: Path, notebook: str) -> None:
    """Take a notebook's entry out: what lies in the folder is no longer what it speaks of."""
    entries = known(folder)
    if entries.pop(notebook, None):
        _write(folder, entries)


@contextmanager
def on_record(folder: Path, notebook: str, mark: str, device: str, commit: str) -> Iterator[list[dict]]:
    """While inside, an execution of a notebook is on record, so that its time counts also when it is killed.

    Gives the executions of the very run that has the fingerprint ``mark``: those that were interrupted, each
    with when it began, its device, commit and seconds, and this one, whose seconds are added on leaving. The
    record lies beside the executed notebooks, is touched every few seconds, and stays until ``uncount``.
    """
    path = _parts_path(folder, notebook)
    parts = _parts_before(path, mark)
    this = {"began": now(), "device": device, "commit": commit}
    write_text(path, json.dumps({"fingerprint": mark, "parts": [*parts, this]}))
    started, over = time.monotonic(), threading.Event()

    def touch() -> None:
        while not over.wait(PULSE):
            os.utime(path)

    pulse = threading.Thread(target=touch, daemon=True)
    pulse.start()
    try:
        yield [*parts, this]
    finally:
        over.set()
        pulse.join()
        os.utime(path)
        this["seconds"] = round(time.monotonic() - started, 1)


def uncount(folder: Path, notebook: str) -> None:
    """Forget the executions that ``on_record`` noted: the notebook is finished."""
    _parts_path(folder, notebook).unlink(missing_ok=True)


def now() -> str:
    """The time as ISO 8601, UTC, whole seconds."""
    return time.strftime(STAMP, time.gmtime())


def _parts_path(folder: Path, notebook: str) -> Path:
    return folder / "notebooks" / f"{notebook}.parts.json"


def _parts_before(path: Path, mark: str) -> list[dict]:
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        if noted["fingerprint"] != mark:
            return []
        *parts, last = noted["parts"]
        seconds = path.stat().st_mtime - calendar.timegm(time.strptime(last["began"], STAMP))
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [*parts, last | {"seconds": round(max(seconds, 0.0), 1)}]


def outputs_of(folder: Path, notebook: str) -> dict[str, str]:
    """The tables and figures of a notebook by name ("tables/01_claims.csv"), each with its digest."""
    paths = sorted(path for kind in ("tables", "figures") for path in folder.glob(f"{kind}/{notebook[:2]}_*"))
    return {path.relative_to(folder).as_posix(): digest_of_file(path) for path in paths}


def digest_of_file(path: Path) -> str:
    """16 hexadecimal digits of a file's content; "" when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def _write(folder: Path, entries: Mapping[str, object]) -> None:
    write_text(folder / "provenance.json", json.dumps(entries, indent=1, sort_keys=True) + "\n")
