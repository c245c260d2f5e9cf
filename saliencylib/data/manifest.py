"""Manifests: one line a file, 16 hex digits of its SHA-256 and its name; written by builders, then committed.

A file that is copied as it comes has the sum of its bytes. One that a builder encodes has the sum of what is
in it (a picture's pixels, the members of an npz file), marked with a ``p``, so that another machine's
compression does not matter.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from saliencylib.data.folders import names_below

DIGITS = 16
MARKER = ".built"


@dataclass(frozen=True)
class Difference:
    """Where a folder differs from its manifest: names that are absent, changed, or unknown to it."""

    absent: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.absent) + len(self.changed) + len(self.unknown)

    def __str__(self) -> str:
        words = {"absent": self.absent, "changed": self.changed, "unknown": self.unknown}
        return ", ".join(f"{len(names):,} {word} ({names[0]})" for word, names in words.items() if names)


def manifest_of(folder: Path, made: Sequence[str] = ()) -> str:
    """The manifest of what lies below a folder. ``made``: patterns of the files that a builder encodes."""
    names = names_below(folder)
    sums = _sums(folder, names, [any(fnmatchcase(name, pattern) for pattern in made) for name in names])
    return "".join(f"{digits} {name}\n" for digits, name in zip(sums, names, strict=True))


def listed_in(manifest: str) -> dict[str, str]:
    """The sums of a manifest by name."""
    return {name: digits for digits, _, name in (line.partition(" ") for line in manifest.splitlines())}


def compared(expected: str, found: str) -> Difference:
    """Where one manifest differs from another."""
    listed, held = listed_in(expected), listed_in(found)
    changed = sorted(name for name in set(listed) & set(held) if listed[name] != held[name])
    return Difference(
        tuple(sorted(set(listed) - set(held))), tuple(changed), tuple(sorted(set(held) - set(listed)))
    )


def difference(folder: Path, manifest: str, hashed: bool = True) -> Difference:
    """Where a folder differs from a manifest; with ``hashed`` False only names are compared."""
    listed = listed_in(manifest)
    held = names_below(folder)
    both = [name for name in held if name in listed] if hashed else []
    sums = _sums(folder, both, [listed[name].endswith("p") for name in both])
    changed = [name for name, digits in zip(both, sums, strict=True) if digits != listed[name]]
    absent, unknown = sorted(set(listed) - set(held)), sorted(set(held) - set(listed))
    return Difference(tuple(absent), tuple(changed), tuple(unknown))


def _sums(folder: Path, names: Sequence[str], by_content: Sequence[bool]) -> list[str]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(partial(_sum, folder), names, by_content))


def _sum(folder: Path, name: str, by_content: bool) -> str:
    path = folder if folder.is_file() else folder / name
    try:
        digest = _of_content(path) if by_content else _of_bytes(path)
    except (OSError, SyntaxError, ValueError, zipfile.BadZipFile):
        return "unreadable"
    return digest[:DIGITS] + "p" * by_content


def _of_bytes(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_content(path: Path) -> str:
    """Of a picture: its mode, size and pixels; of an npz file: its members by name."""
    digest = hashlib.sha256()
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as file:
            for name in sorted(file.namelist()):
                digest.update(f"{name}\0".encode())
                digest.update(file.read(name))
        return digest.hexdigest()
    from PIL import Image

    with Image.open(path) as image:
        digest.update(f"{image.mode} {image.width}x{image.height}\0".encode())
        digest.update(image.tobytes())
    return digest.hexdigest()
