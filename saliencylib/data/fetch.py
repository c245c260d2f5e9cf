"""Fetching data sets, and checking all that is known of them."""

import hashlib
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from saliencylib.data import fixations, images, photosets
from saliencylib.data.registry import DataInvalid, DataNotFound, DataSet, entry_of
from saliencylib.places import data_root


def fingerprint(name: str) -> str:
    """SHA-256 over the sorted names and sizes of the set's files, which are not read; "" if it is absent."""
    entry = entry_of(name)
    if not entry.present():
        return ""
    inside = (path for path in entry.folder.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in sorted(inside if entry.kind == "real" else entry.paths):
        digest.update(f"{path.relative_to(entry.folder).as_posix()}\0{path.stat().st_size}\n".encode())
    if name == "photographs":
        digest.update(photosets.PHOTOGRAPHS_CSV.read_bytes())
    return digest.hexdigest()


def verify(name: str) -> str:
    """Checks all that is known of a set: checksums, counts, label ranges, that every image decodes.

    Returns one sentence with the counts found. Raises DataNotFound or DataInvalid.
    """
    entry = entry_of(name)
    entry.require()
    for path in entry.paths:
        if path.name in entry.checksums:
            entry.check_hash(path)
    found = _found(entry)
    expected = {key: count for key, count in entry.count.items() if key in found}
    held, wanted = (", ".join(f"{n:,} {key}" for key, n in counts.items()) for counts in (found, expected))
    if found != expected:
        raise entry.invalid(entry.folder, f"holds {held}, expected {wanted}")
    return f"{entry.title}: {held or 'all'}, complete."


def _found(entry: DataSet) -> dict[str, int]:
    """What a set holds; reads all of it."""
    if entry.name == "cluttered digits":
        return {}
    load = _loader(entry.name)
    if "train" in entry.count:
        return {split: len(_decoded(load(split=split))) for split in entry.count}
    loaded = _decoded(load())
    if "points" in entry.count:
        return {"images": len(loaded), "points": sum(len(x) for x in loaded.x)}
    by_csv = entry.name == "imagenet_val" and (entry.folder / "labels.csv").exists()
    return {"images by labels.csv" if by_csv else "images": len(loaded)}


def _loader(name: str) -> Callable:
    if name in fixations.FIXATION_SETS:
        return partial(fixations.fixation_set, name)
    if name.startswith("salicon_20"):
        _, edition, kind = name.split("_")
        return partial(fixations.salicon, edition=edition, kind=kind)
    return next(vars(module)[name] for module in (images, fixations, photosets) if name in vars(module))


def _decoded(loaded: Any) -> Any:
    """The set, after all its image files were read once."""
    if isinstance(loaded, fixations.FixationSet):
        loaded.images(8, 8)
    if isinstance(loaded, fixations.SaliconSet):
        loaded.maps(8, 8)
    if isinstance(loaded, photosets.PhotoSet):
        images.in_threads(lambda path: images.image_in(path).size, loaded.paths)
    return loaded


def download(name: str) -> Path:
    """Fetches a set below the data root, unless it is there and complete, and returns its folder.

    The archive is checked by its MD5 before it gets its name, and unpacked beside the set's place before its
    files get theirs: what stands under its final name is whole, and a step that was finished is not repeated
    after an interruption.
    Raises DataNotFound, saying where a person gets the set, for sets that need an agreement, a login or
    preparation, and when network or disk fail; DataInvalid for a wrong checksum.
    """
    entry = entry_of(name)
    try:
        verify(name)
    except DataNotFound:
        if not entry.archive:
            raise
        if name == "imagenet_a" and entry.folder.exists():
            again = "delete this folder, then run ./run_all.sh --download again"
            raise DataInvalid(f"{entry.folder} is incomplete; {again}.") from None
        _fetch(entry)
    return entry.folder


def _fetch(entry: DataSet) -> None:
    """Fetches and unpacks a set's archive, and puts the files in their places."""
    part = data_root() / f".{entry.folder.name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        archive = _unpacked(entry, part)
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


def _unpacked(entry: DataSet, part: Path) -> Path:
    """The archive below the data root, fetched unless it is there; its files are unpacked into ``part``."""
    import pooch
    from requests import RequestException

    url, archive = entry.archive, data_root() / entry.archive.rsplit("/", 1)[1]
    known = entry.checksums[archive.name]
    wanted = os.path.commonprefix(entry.files)  # their whole names would each take a pass over the archive
    unpack = pooch.Untar(members=[wanted], extract_dir=part.name)
    try:
        pooch.retrieve(url, known, fname=archive.name, path=data_root(), processor=unpack)
    except RequestException as error:
        raise DataNotFound(
            f"{url} could not be fetched ({type(error).__name__}); check the network and run "
            f"./run_all.sh --download again, or put this file into {data_root()} by hand."
        ) from error
    except ValueError as error:  # pooch's answer to a wrong checksum; it has removed the file
        raise DataInvalid(
            f"{url} did not have the expected checksum {known} and was not kept; run "
            "./run_all.sh --download again."
        ) from error
    return archive
