"""One process at a time in a folder. Needs nothing but Python itself."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone_in(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Lock a folder for a while, and say whether that worked: False while another process holds its lock.

    The lock is advisory and on the folder itself (``flock``), so that it leaves no file and ends with its
    process, however that ends. A network drive may lock for this machine alone, or not at all: then this says
    True. With ``wait`` it waits until no other holds it. Raises OSError for a folder that cannot be opened.
    """
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            alone = True
        except OSError as error:
            alone = not isinstance(error, BlockingIOError)
        yield alone
    finally:
        os.close(descriptor)
