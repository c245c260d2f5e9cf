"""The record of a run, ``provenance.json`` in its folder: what finished notebooks were made of and wrote."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from saliencylib.files import write_text


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
