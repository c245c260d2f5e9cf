"""Files out of archives, one after another: nothing but what is wanted, and nothing written to the disk."""

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from saliencylib.data.folders import is_left_behind, names_below
from saliencylib.data.registry import DataInvalid

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)
MOST_BYTES = 2**30  # of one file, far more than any of a set has: beyond it lies an attack, or damage
GZIP = b"\x1f\x8b"
FETCH_AGAIN = "run ./run_all.sh data again, or give another copy with --from FOLDER"


def members_of(archive: Path, wanted: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the wanted files of a tar, tar.gz or zip archive, or below a folder.

    Names are relative to the archive's top folder, where it has one. ``wanted`` holds such names, folders
    ("images/": everything below) and patterns ("*.jpg"; a star crosses folders). The order is the
    archive's own, a folder's is sorted by name.
    Raises DataInvalid, one sentence that names the archive, for one that is truncated or none, that lacks
    what is wanted, that has a name outside itself ("../x", "/x"), or in which a wanted file is a link or
    unpacks to more than ``MOST_BYTES``.
    """
    names = set(wanted)
    patterns = [(text, f"{text}*" if text.endswith("/") else text) for text in names if _is_pattern(text)]
    absent = set(names)
    try:
        for name, content in _everything(archive):
            found = {text for text, pattern in patterns if fnmatchcase(name, pattern)} | ({name} & names)
            if found:
                absent -= found
                yield name, content(name)
    except DAMAGED as error:
        raise DataInvalid(
            f"{archive} is truncated or no archive ({_reason(error)}); {FETCH_AGAIN}."
        ) from error
    if absent:
        more = f" and {len(absent) - 1:,} more" if len(absent) > 1 else ""
        raise DataInvalid(
            f"{archive} does not hold {min(absent)}{more}: its source has changed; {FETCH_AGAIN}."
        )


def _is_pattern(text: str) -> bool:
    return text.endswith("/") or any(sign in text for sign in "*?[")


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


class _Content:
    """Reads one file of an archive when it is asked to; refuses a link, and a file that is too large."""

    def __init__(self, archive: Path, read, link: bool, size: int = 0) -> None:
        self.archive, self.read, self.link, self.size = archive, read, link, size

    def __call__(self, name: str) -> bytes:
        if self.link:
            raise DataInvalid(f"{self.archive} has a link where a file is expected, {name}; {FETCH_AGAIN}.")
        if self.size > MOST_BYTES:
            raise DataInvalid(
                f"{self.archive} has a file of {self.size:,} bytes, {name}, but at most {MOST_BYTES:,} are "
                f"read; {FETCH_AGAIN}."
            )
        return self.read()


def _everything(archive: Path) -> Iterator[tuple[str, _Content]]:
    """All files but those left behind, with their names below the top folder."""
    if archive.is_dir():
        for name in names_below(archive):
            yield name, _Content(archive, (archive / name).read_bytes, False)
        return
    top = None
    for name, is_folder, content in _in_zip(archive) if zipfile.is_zipfile(archive) else _in_tar(archive):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in (path.parts or [""])[0]:
            raise DataInvalid(f"{archive} has a name that leads out of it, {name!r}; {FETCH_AGAIN}.")
        if any(map(is_left_behind, path.parts)):
            continue
        if top is None:  # all that comes below this folder is named without it
            top = f"{path.parts[0]}/" if path.parts and (is_folder or len(path.parts) > 1) else ""
        if not is_folder:
            yield str(path).removeprefix(top), content


def _in_tar(archive: Path) -> Iterator[tuple[str, bool, _Content]]:
    with archive.open("rb") as file:
        packed = file.read(2) == GZIP
        file.seek(0 if packed else max(0, archive.stat().st_size - tarfile.BLOCKSIZE))
        if not packed and file.read() != bytes(
            tarfile.BLOCKSIZE
        ):  # tarfile itself takes a short tar for whole
            raise tarfile.ReadError("its end is missing")
        file.seek(0)
        plain = gzip.GzipFile(fileobj=file) if packed else file
        with tarfile.open(fileobj=plain, mode="r|") as tar:
            for member in tar:
                read = (lambda member=member: tar.extractfile(member).read()) if member.isreg() else None
                yield member.name, member.isdir(), _Content(archive, read, read is None, member.size)
        while plain.read(2**20):  # to the sum at the end of a gzip file
            pass


def _in_zip(archive: Path) -> Iterator[tuple[str, bool, _Content]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            link = stat.S_ISLNK(info.external_attr >> 16)
            yield (
                info.filename,
                info.is_dir(),
                _Content(archive, lambda i=info: file.read(i), link, info.file_size),
            )
