"""The one place where results are kept between runs: the ignored folder ``.cache`` of the project.

Entries are npz or safetensors files, named by a hash of everything they depend on, written next to their
place and then renamed, so that an interrupted write leaves nothing behind.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from saliencylib.plan import ROOT

CACHE = ROOT / ".cache"


def key(*parts: object) -> str:
    """16 hexadecimal digits that change when any part changes.

    Arrays count by dtype, shape and content, modules by their source; everything else by its JSON form.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part))
        elif isinstance(part, ModuleType):
            digest.update(Path(part.__file__).read_bytes())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
        digest.update(b"|")
    return digest.hexdigest()[:16]


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
    write(path, lambda temporary: _save_npz(temporary, arrays))


def _save_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def load_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of an npz file, or None when it is absent or was damaged (then it is made again)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError):
        return None
    except Exception as error:  # zipfile and zlib raise their own types for damaged archives
        if type(error).__module__ in ("zipfile", "zlib"):
            return None
        raise
