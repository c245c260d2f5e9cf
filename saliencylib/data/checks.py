"""What is known of the sets that are here: fingerprints for the records of runs, and thorough checks."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

from saliencylib.data import fixations, images, photosets
from saliencylib.data.folders import names_below
from saliencylib.data.registry import DataSet, entry_of
from saliencylib.data.states import read_marker, state_of


def fingerprint(name: str) -> str:
    """SHA-256 over the sorted names and sizes of the set's files, which are not read; "" if it is absent.

    What does not belong to it (the builder's marker, hidden files) does not count: the same files have the
    same fingerprint wherever they come from.
    """
    entry = entry_of(name)
    if not entry.present():
        return ""
    inside = [entry.folder / name for name in names_below(entry.folder)]
    inside = [entry.folder] if entry.single else [path for path in inside if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted(inside if entry.kind == "real" else entry.paths):
        digest.update(f"{path.relative_to(entry.folder).as_posix()}\0{path.stat().st_size}\n".encode())
    if name == "photographs":
        digest.update(photosets.PHOTOGRAPHS_CSV.read_bytes())
    return digest.hexdigest()


def verify(name: str) -> str:
    """Checks all that is known of a set: the sums of its manifest, checksums, counts, label ranges, that
    every image decodes.

    Returns one sentence with the counts found. Raises DataNotFound or DataInvalid.
    """
    entry = entry_of(name)
    entry.require()
    if read_marker(entry) and (state := state_of(name, hashed=True)).word in ("partial", "damaged"):
        raise entry.invalid(entry.folder, f"is {state}")
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
    load = _loader(entry.name)
    if load is None:
        return {}
    if "train" in entry.count:
        return {split: len(_decoded(load(split=split))) for split in entry.count}
    loaded = _decoded(load())
    if "points" in entry.count:
        return {"images": len(loaded), "points": sum(len(x) for x in loaded.x)}
    return {"images": len(loaded)}


def _loader(name: str) -> Callable | None:
    if name in fixations.FIXATION_SETS:
        return partial(fixations.fixation_set, name)
    if name.startswith("salicon_20"):
        _, edition, kind = name.split("_")
        return partial(fixations.salicon, edition=edition, kind=kind)
    return next((vars(m)[name] for m in (images, fixations, photosets) if name in vars(m)), None)


def _decoded(loaded: Any) -> Any:
    """The set, after all its image files were read once."""
    if isinstance(loaded, fixations.FixationSet):
        loaded.images(8, 8)
    if isinstance(loaded, fixations.SaliconSet):
        loaded.maps(8, 8)
    if isinstance(loaded, photosets.PhotoSet):
        images.in_threads(lambda path: images.image_in(path).size, loaded.paths)
    return loaded
