"""Files that are written whole or not at all, also when the power fails.

Needs nothing but Python itself, and numpy for arrays.
"""

import errno
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Let ``save(temporary_path)`` write a file, then move it to ``path`` in one step.

    Returns when the disk holds both, so that what is written next cannot outlive it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        save(temporary)
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """``write`` for bytes."""
    write(path, lambda temporary: temporary.write_bytes(content))


def write_text(path: Path, text: str) -> None:
    """``write`` for text, as UTF-8."""
    write_bytes(path, text.encode())


def flush(path: Path) -> None:
    """Wait until the disk holds what was written to a file, or the names in a folder (fsync).

    Does nothing where the file system offers no such thing.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def clear_away(folder: Path) -> None:
    """Delete the temporary files that ``write`` left below a folder in processes that are dead."""
    for path in folder.rglob(".*-*"):
        process = re.match(r"\.(\d+)-", path.name)
        if process and not _lives(int(process[1])):
            path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True


def save_arrays(path: Path, **arrays: "np.ndarray") -> None:
    """Write arrays to a compressed npz file at ``path``, all or nothing."""
    import numpy as np

    def save(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)

    write(path, save)


def load_arrays(path: Path) -> "dict[str, np.ndarray] | None":
    """The arrays of an npz file, or None when it is absent or was damaged (then it is made again)."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
