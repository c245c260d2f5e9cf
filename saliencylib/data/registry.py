"""What the data sets are (the table datasets.toml), whether they are there, and what to say when one is not.

Needs nothing but Python itself, so that it answers before any package is installed.
"""

import hashlib
import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from saliencylib.places import data_root


class DataNotFound(Exception):
    """A file or folder is missing. The text names it, what was expected, and what to do."""


class DataInvalid(DataNotFound):
    """A file is truncated, of a wrong size, checksum or shape, or holds values out of range."""


@dataclass(frozen=True)
class Source:
    """One download behind a set: an archive, or a single file.

    url: "" for a file that its owner has; bytes: of the download, about; members: what is used, below the
    archive's top folder; file: its name on this machine, by default as the server calls it; checksum:
    "md5:..." or the beginning of "sha256:...", where the bytes never change; alternative: the group of
    sources that it belongs to, of which one is enough, or "" for a source that is always needed.
    """

    name: str
    url: str
    bytes: int
    members: tuple[str, ...]
    file: str
    checksum: str = ""
    alternative: str = ""


@dataclass(frozen=True)
class DataSet:
    """What is known about a data set (an entry of datasets.toml).

    size: bytes on disk; count: numbers of images or points; how: how a person gets it, as the end of a
    sentence; showable: may its photographs stand in published figures; kind: "real", or "embedded" in
    installed packages; files: what must exist below the data root (or beside the packages); instead: files of
    which one will do, too; sizes and checksums: file name to its bytes and to "md5:...", where known; holds:
    the least number of files below a folder; used_by: notebook and profile, "01 mini"; optional: runs go on
    without it; sources, and the builder, the module with the function build_NAME that makes the set from
    them; variants: alternative sources give different files; made: patterns of the files that the builder
    encodes; terms: a sentence on the licence; research: they restrict to research and are to be accepted;
    draw: the rule by which files were chosen, among those of the synsets that each class merges.
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
    instead: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    holds: dict[str, int] = field(default_factory=dict)
    used_by: tuple[str, ...] = ()
    optional: bool = False
    variants: bool = False
    sources: tuple[Source, ...] = ()
    builder: str = ""
    made: tuple[str, ...] = ()
    terms: str = ""
    research: bool = False
    draw: str = ""
    synsets: dict[str, list[str]] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """The files and folders that must exist, in full."""
        base = data_root() if self.kind == "real" else self._packages
        for name in (*self.files[:1], *self.instead) if self.instead else ():
            if (base / name).exists():
                return [base / name]
        return [base / relative for relative in self.files]

    @property
    def _packages(self) -> Path:
        """Where the package lies that ships an embedded set; it is not imported."""
        package = self.files[0].split("/")[0] if self.files else "saliencylib"
        found = find_spec(package)
        return Path(found.origin).parents[1] if found else Path(f"{package}, which is not installed")

    @property
    def single(self) -> bool:
        """Whether the set is one file."""
        return len(self.files) == 1 and "." in Path(self.files[0]).name

    @property
    def folder(self) -> Path:
        """The folder that holds the whole set, or its only file."""
        return Path(os.path.commonpath(self.paths))

    @property
    def groups(self) -> list[str]:
        """The alternatives among the sources, in order of preference; [""] where there are none."""
        return list(dict.fromkeys(source.alternative for source in self.sources if source.alternative)) or [
            ""
        ]

    @property
    def online(self) -> list[str]:
        """The alternatives of which every source has an address."""
        return [group for group in self.groups if all(source.url for source in self.sources_of(group))]

    def sources_of(self, group: str) -> list[Source]:
        """The sources that one alternative takes, with those that are always needed."""
        return [source for source in self.sources if source.alternative in ("", group)]

    @property
    def download_size(self) -> int:
        """Bytes to download, about; 0 for a set that cannot be fetched."""
        return sum(source.bytes for source in self.sources_of(self.online[0])) if self.online else 0

    @property
    def origin(self) -> str:
        """Where the set comes from: repositories at GitHub, or hosts."""
        places = []
        for source in self.sources:
            host, _, path = source.url.partition("://")[2].partition("/")
            by_commit = host == "codeload.github.com"
            places.append("/".join(path.split("/")[:2]) if by_commit else host or f"your {source.file}")
        return ", ".join(dict.fromkeys(places)) or "by hand"

    def require(self, part: str = "") -> None:
        """Raises DataNotFound for an absent file (of those with ``part`` in their name), DataInvalid for one
        of a wrong size. Quick: nothing is read."""
        for path in (path for file, path in zip(self.files, self.paths, strict=True) if part in file):
            size = self.sizes.get(path.name)
            if not path.exists():
                raise self.missing(path, f"{size:,} bytes" if size else "")
            if size and (found := path.stat().st_size) != size:
                word = "truncated" if found < size else "too long"
                raise self.invalid(path, f"is {word}: it has {found:,} bytes, expected {size:,}")

    def present(self) -> bool:
        """Whether the set's files are there, of the known sizes. Quick: nothing is read."""
        try:
            self.require()
        except DataNotFound:
            return False
        return True

    def missing(self, path: Path, expected: str = "") -> DataNotFound:
        """The error for a path that is not there, to be raised."""
        if self.kind == "real" and not data_root().is_dir():
            return DataNotFound(
                f"The data root {data_root()} is not there ({self.title} was expected below it); set "
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


def _registry() -> dict[str, DataSet]:
    table = tomllib.loads(Path(__file__).with_name("datasets.toml").read_text(encoding="utf-8"))
    return {name: _entry(name, row) for name, row in table.items()}


def _entry(name: str, row: dict) -> DataSet:
    row["sources"] = [_source(**source) for source in row.get("sources", [])]
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return DataSet(name, **plain)


def _source(
    name: str,
    bytes: int,
    members: list[str],
    url: str = "",
    file: str = "",
    checksum: str = "",
    alternative: str = "",
) -> Source:
    parts = url.split("/")
    on_server = f"{parts[-3]}-{parts[-1]}.tar.gz" if parts[-2:-1] == ["tar.gz"] else parts[-1]
    return Source(name, url, bytes, tuple(members), file or on_server, checksum, alternative)


REGISTRY: dict[str, DataSet] = _registry()


def sets_of(user: str) -> tuple[str, ...]:
    """The sets that a notebook and profile, or a profile alone, needs: "01 mini", "mini"."""
    return tuple(
        name for name, entry in REGISTRY.items() if any(u == user or u[3:] == user for u in entry.used_by)
    )


def choose(what: str, value: str, valid: Iterable[str]) -> None:
    """Raises ValueError that names the valid values unless ``value`` is one of them."""
    if value not in tuple(valid):
        raise ValueError(f"unknown {what} {value!r}; choose one of: {', '.join(valid)}")


def entry_of(name: str) -> DataSet:
    """The entry of a data set. Raises ValueError that names all sets for an unknown one."""
    choose("data set", name, REGISTRY)
    return REGISTRY[name]


def available(name: str) -> bool:
    """Whether a set's files are there (STL-10: with their exact sizes). Quick; ``verify`` is thorough."""
    return entry_of(name).present()
