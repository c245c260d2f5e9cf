"""What the data sets are (the table datasets.toml), where they lie, and how two of them are fetched.

`saliencylib.data` gives all public names of this module, and the loaders.
"""

import hashlib
import os
import shutil
import tarfile
import tomllib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
ARCHIVES = {
    "stl10": "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    "imagenet_a": "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
}


class DataNotFound(Exception):
    """A file or folder is missing. The text names it, what was expected, and what to do."""


class DataInvalid(DataNotFound):
    """A file is truncated, of a wrong size, checksum or shape, or holds values out of range."""


def root() -> Path:
    """The folder below which all data sets lie: $SALIENCY_DATA, else `data` in the project.

    A relative $SALIENCY_DATA is taken from the project's folder, so that notebooks and tests mean one place.
    """
    return PROJECT / Path(os.environ.get("SALIENCY_DATA") or "data").expanduser()


@dataclass(frozen=True)
class DataSet:
    """What is known about a data set (an entry of datasets.toml).

    size: bytes on disk; count: numbers of images or points; how: how a person gets it, as the end of a
    sentence; showable: may its photographs stand in published figures; kind: "real", or "embedded" in
    installed packages; files: what must exist below the data root (or beside the packages); checksums: file
    name to "md5:...", where known.
    """

    name: str
    title: str
    licence: str
    size: int
    count: dict[str, int]
    how: str
    showable: bool
    kind: str
    files: tuple[str, ...]
    checksums: dict[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """The files and folders that must exist, in full."""
        base = root() if self.kind == "real" else Path(find_spec("skimage").origin).parents[1]
        return [base / relative for relative in self.files]

    @property
    def folder(self) -> Path:
        """The folder that holds the whole set."""
        return Path(os.path.commonpath(self.paths))

    def missing(self, path: Path, expected: str = "") -> DataNotFound:
        """The error for a path that is not there, to be raised."""
        if self.kind == "real" and not root().is_dir():
            return DataNotFound(
                f"The data root {root()} is not there ({self.title} was expected below it); set "
                f"SALIENCY_DATA to the folder that holds the data, or {self.how}."
            )
        expected = f", expected {expected}" if expected else ""
        return DataNotFound(f"{path} is missing{expected} ({self.title}); {self.how}.")

    def invalid(self, path: Path, problem: str) -> DataInvalid:
        """The error for a path whose content is wrong, to be raised."""
        return DataInvalid(f"{path} {problem} ({self.title}); {self.how}.")

    def check_hash(self, path: Path) -> None:
        """Raises DataInvalid unless the file has its known checksum."""
        algorithm, expected = self.checksums[path.name].split(":")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != expected:
            raise self.invalid(path, f"has the wrong {algorithm} checksum {found}, expected {expected}")

    def sizes(self) -> Iterator[tuple[str, int]]:
        """(name relative to the set's folder, bytes) of every file of a set that is there, sorted."""
        paths = self.paths
        if self.kind == "real":
            walk = os.walk(self.folder)
            paths = [Path(folder, name) for folder, _, names in walk for name in names]
        for path in sorted(paths):
            yield path.relative_to(self.folder).as_posix(), path.stat().st_size


def _registry() -> dict[str, DataSet]:
    table = tomllib.loads(Path(__file__).with_name("datasets.toml").read_text(encoding="utf-8"))
    return {name: DataSet(name, **row | {"files": tuple(row["files"])}) for name, row in table.items()}


REGISTRY: dict[str, DataSet] = _registry()


def fetch(entry: DataSet) -> None:
    """Fetches and unpacks the archive of a set that ARCHIVES lists.

    The archive goes to a temporary file, is checked by its MD5 and renamed; its files are unpacked beside
    their place, checked, and renamed. So what stands under its final name is whole, and a step that was
    finished is not repeated after an interruption. Raises DataNotFound where network or disk fail,
    DataInvalid for a wrong checksum.
    """
    try:
        archive = _archive(entry)
        part = root() / f".{entry.folder.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        _unpack(archive, part, entry)
        for relative, path in zip(entry.files, entry.paths, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(part / relative, path)
        shutil.rmtree(part, ignore_errors=True)
        archive.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataNotFound(
            f"{entry.folder} could not be written ({reason}); free disk space, or point SALIENCY_DATA to a "
            "folder that can be written."
        ) from error


def _archive(entry: DataSet) -> Path:
    """The archive below the data root, whole and checked; fetched unless it is there already."""
    import pooch
    from requests import RequestException

    url = ARCHIVES[entry.name]
    name = url.rsplit("/", 1)[1]
    try:
        return Path(pooch.retrieve(url, entry.checksums[name], fname=name, path=root()))
    except RequestException as error:
        raise DataNotFound(
            f"{url} could not be fetched ({type(error).__name__}); check the network and run "
            f"./run_all.sh --download again, or put this file into {root()} by hand."
        ) from error
    except ValueError as error:  # pooch's answer to a wrong checksum; it has removed the file
        raise DataInvalid(
            f"{url} did not have the expected checksum {entry.checksums[name]} and was not kept; run "
            "./run_all.sh --download again."
        ) from error


def _unpack(archive: Path, part: Path, entry: DataSet) -> None:
    """Unpacks the set's files from an archive into the folder `part` and checks what is known of them."""
    again = "delete it and run ./run_all.sh --download again."
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.name.startswith(entry.files):
                    tar.extract(member, part, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataInvalid(f"{archive} is not a whole tar archive; {again}") from error
    for relative in entry.files:
        if not (part / relative).exists():
            raise DataInvalid(f"{archive} lacks {relative}; {again}")
        if Path(relative).name in entry.checksums:
            entry.check_hash(part / relative)
