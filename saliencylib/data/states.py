"""Whether a set is whole: by names and counts alone, or with every checksum; and the builder's marker.

Needs nothing but Python itself, so that a run can be refused before any package is installed.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from saliencylib.data.folders import names_below
from saliencylib.data.manifest import MARKER, difference
from saliencylib.data.registry import REGISTRY, DataInvalid, DataNotFound, DataSet
from saliencylib.places import data_root

MANIFESTS = Path(__file__).with_name("manifests")
USABLE = ("whole", "unverified")
COUNTED_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".mat"}


@dataclass(frozen=True)
class State:
    """word: "whole", "partial", "damaged", "absent", or "unverified" (there, but not made by a builder, so
    that nothing is known but names and counts); detail: what is wrong; source: which alternative it is from.
    """

    word: str
    detail: str = ""
    source: str = ""

    def __str__(self) -> str:
        details = ", ".join(filter(None, (self.source and f"from {self.source}", self.detail)))
        return f"{self.word} ({details})" if details else self.word


def state_of(name: str, hashed: bool = False) -> State:
    """The state of a set. Quick, by names and counts, unless ``hashed``: then every file is read.

    Raises DataNotFound for what may not be read.
    """
    try:
        return _state_of(REGISTRY[name], hashed)
    except PermissionError as error:
        raise unread(error) from error


def unread(error: OSError) -> DataNotFound:
    """The error for a path that could not be read, to be raised."""
    return DataNotFound(
        f"{error.filename} could not be read ({error.strerror}); change its rights, or point SALIENCY_DATA "
        "to a folder that can be read."
    )


def _state_of(entry: DataSet, hashed: bool) -> State:
    if not any(path.exists() for path in entry.paths):
        return State("absent")
    marker = read_marker(entry)
    manifest = marker.get("files") or manifest_text(entry, marker.get("source", ""))
    if not marker or manifest is None or marker.get("manifest") != digest_of(manifest):
        return _unmarked(entry, hashed)
    differs = difference(entry.folder, manifest, hashed)
    word = "damaged" if differs.changed or differs.unknown else "partial" if differs else "whole"
    return State(word, str(differs), marker["source"])


def lacking(names: Iterable[str]) -> dict[str, State]:
    """The sets that a run cannot use, with their states; optional ones are never among them."""
    states = {name: state_of(name) for name in names if not REGISTRY[name].optional}
    return {name: state for name, state in states.items() if state.word not in USABLE}


def can_be_brought(name: str) -> bool:
    """Whether ./run_all.sh data would build a set: there is nothing in its place, or what it built itself."""
    entry = REGISTRY[name]
    return bool(entry.builder) and (state_of(name).word == "absent" or bool(read_marker(entry)))


def _unmarked(entry: DataSet, hashed: bool) -> State:
    try:
        entry.require()
    except DataInvalid as error:
        return State("damaged", str(error).split(" (", 1)[0])
    except DataNotFound as error:
        return State("partial", str(error).split(" (", 1)[0])
    images = sum(number for what, number in entry.count.items() if what != "points")
    pictures = {} if entry.sizes or entry.single else {str(entry.folder): images}
    for folder, least in (entry.holds or pictures).items():
        found = sum(
            Path(name).suffix.lower() in COUNTED_SUFFIXES for name in names_below(data_root() / folder)
        )
        if found < least:
            return State("partial", f"{found:,} of {least:,} files in {data_root() / folder}")
    differs = [difference(entry.folder, text) for text in manifests_of(entry)] if hashed else []
    return State("unverified", str(min(differs, key=len, default="")))


def manifest_name(entry: DataSet, source: str) -> str:
    """The file name of a set's manifest; with one a source where the sources give different files."""
    return f"{entry.name}.{source}.txt" if entry.variants and source else f"{entry.name}.txt"


def manifest_text(entry: DataSet, source: str) -> str | None:
    """The committed manifest of a set from one of its sources, or None."""
    path = MANIFESTS / manifest_name(entry, source)
    return path.read_text(encoding="utf-8") if path.exists() else None


def manifests_of(entry: DataSet) -> list[str]:
    """All committed manifests of a set."""
    names = {manifest_name(entry, source) for source in (*entry.groups, "")}
    paths = sorted(path for path in map(MANIFESTS.joinpath, names) if path.exists())
    return [path.read_text(encoding="utf-8") for path in paths]


def digest_of(text: str) -> str:
    """The start of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def marker_path(entry: DataSet) -> Path:
    """Where the builder's marker of a set lies: in its folder, or beside its only file."""
    return entry.folder.with_name(f".{entry.name}{MARKER}") if entry.single else entry.folder / MARKER


def read_marker(entry: DataSet) -> dict[str, str]:
    """What the builder noted: set, source, manifest (its digest), files (the manifest itself, where none is
    committed) and version. Empty where it made nothing, or the marker cannot be read."""
    try:
        marker = json.loads(marker_path(entry).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) and marker.get("set") == entry.name else {}
