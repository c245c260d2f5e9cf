"""Files that are written whole or not at all, and arrays in them."""

import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Let ``save(temporary_path)`` write a file, then move it to ``path`` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        save(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays to a compressed npz file at ``path``, all or nothing."""

    def save(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)

    write(path, save)


def load_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of an npz file, or None when it is absent or was damaged (then it is made again)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
