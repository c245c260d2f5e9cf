"""Bringing data sets: terms shown, archives fetched, each set built beside its place, checked, and put there.

``./run_all.sh data`` calls ``python -m saliencylib.data.get``. It needs nothing but Python itself until
something is downloaded or built.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

from saliencylib.data import downloads
from saliencylib.data.manifest import compared, manifest_of
from saliencylib.data.registry import REGISTRY, DataInvalid, DataNotFound, DataSet, Source, entry_of, sets_of
from saliencylib.data.states import (
    MANIFESTS,
    State,
    can_be_brought,
    digest_of,
    manifest_name,
    manifest_text,
    marker_path,
    state_of,
    unread,
)
from saliencylib.files import flush, write_text
from saliencylib.lock import alone_in
from saliencylib.places import data_root, given

VERSION = 1  # of what builders make
ACCEPTED = "accepted_terms.txt"
OFFICIAL = ("stl10", "imagenet_a", "vgg16")


def main(arguments: Sequence[str]) -> int:
    """Bring, list or verify sets; 0 when all are there, 1 when one is not, 2 for wrong input."""
    options = _options().parse_args(arguments)
    try:
        names = options.names or (OFFICIAL if options.paper else sets_of("mini"))
        for name in names:
            entry_of(name)
        if options.list:
            print(listed(options.names or _every_set()))
            return 0
        if options.verify:
            return _verified(names)
        problems = obtain(names, options.folder, options.accept_terms, options.write_manifest)
    except (DataNotFound, ValueError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: what was whole stays, and the same call goes on", file=sys.stderr)
        return 130
    for error in problems.values():
        print(f"run_all.sh: {error}", file=sys.stderr)
    return 1 if problems else 0


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="./run_all.sh data",
        description="Brings data sets into the data root ($SALIENCY_DATA, else data/): those that the mini "
        "profile needs, or those that are named. What is whole is left alone.",
        epilog="SALIENCY_MIRROR=http://HOST replaces the hosts: https://SERVER/PATH is then asked for as "
        "http://HOST/SERVER/PATH.",
        allow_abbrev=False,
    )
    options.add_argument("names", nargs="*", metavar="NAME", help="sets; --list shows them all")
    options.add_argument("--paper", action="store_true", help="the papers' official sets that can be fetched")
    options.add_argument("--list", action="store_true", help="show the sets and their states, fetch nothing")
    options.add_argument("--verify", action="store_true", help="read and check what is there, fetch nothing")
    options.add_argument(
        "--from",
        dest="folder",
        type=_folder,
        metavar="FOLDER",
        help="take archives that were fetched before from here, by their names",
    )
    options.add_argument(
        "--accept-terms", action="store_true", help="accept the terms of sets for research (kept)"
    )
    options.add_argument(
        "--write-manifest", action="store_true", help="for maintainers: write the manifests of what is built"
    )
    return options


def _folder(path: str) -> Path:
    if not path:
        raise argparse.ArgumentTypeError("an empty path; give the folder that holds the archives")
    return given(path)


def _every_set() -> list[str]:
    return [name for name, entry in REGISTRY.items() if entry.kind == "real"]


# ------------------------------------------------------------------------------------------- what is shown


def listed(names: Iterable[str]) -> str:
    """A table of sets: who uses them, state, size of download and on disk, licence, and where from."""
    rows = [("set", "used by", "state", "download", "on disk", "licence", "from")]
    for name in names:
        entry = REGISTRY[name]
        fetched, disk = _megabytes(entry.download_size), _megabytes(entry.size)
        users = ", ".join(entry.used_by) or "-"
        rows.append((name, users, state_of(name).word, fetched, disk, entry.licence, entry.origin))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size else "-"


def _verified(names: Iterable[str]) -> int:
    states = {name: state_of(name, hashed=True) for name in names}
    for name, state in states.items():
        print(f"{name}: {state}")
    wrong = {n for n, s in states.items() if s.word in ("absent", "partial", "damaged")}
    needed = sorted(name for name in wrong if not REGISTRY[name].optional)
    if needed:
        print(f"run_all.sh: not whole; ./run_all.sh data {' '.join(needed)}", file=sys.stderr)
    return 1 if needed else 0


# ------------------------------------------------------------------------------------------- what is done


def download(name: str) -> Path:
    """Brings a set unless it is there, and returns its folder.

    Raises DataNotFound, one sentence, for a set that only a person can get, for terms that nobody accepted,
    for whatever fails on the way; DataInvalid for what came and is not what it should be.
    """
    entry = entry_of(name)
    if entry.kind != "real":
        entry.require()
    for error in obtain([name]).values() if entry.kind == "real" else ():
        raise error
    return entry.folder


def obtain(
    names: Iterable[str], given: Path | None = None, accept: bool = False, write_manifest: bool = False
) -> dict[str, DataNotFound]:
    """Brings the sets that are not whole; those that could not be brought, with the reason.

    ``given``: a folder with archives fetched before. ``accept``: accept terms that restrict to research.
    Raises DataNotFound before the first byte when terms are not accepted or ``given`` is no folder.
    """
    if given and not given.is_dir():
        raise DataNotFound(f"{given} is no folder; give one that holds archives after --from.")
    wanted: list[str] = []
    problems: dict[str, DataNotFound] = {}
    for name in dict.fromkeys(names):
        entry, state = REGISTRY[name], state_of(name)
        if state.word == "unverified":
            state = _adopted(entry)
        if write_manifest and entry.builder:
            wanted.append(name)
        elif state.word in ("whole", "unverified"):
            print(f"{name}: {state}", file=sys.stderr)
        elif not entry.builder:
            if not entry.optional:
                problems[name] = entry.missing(entry.paths[0])
        elif not can_be_brought(name):
            problems[name] = _not_ours(entry, state)
        else:
            wanted.append(name)
    if wanted:
        _show_terms([REGISTRY[name] for name in wanted], accept)
        with _alone():
            problems |= _fetch_and_build(wanted, given, write_manifest)
    return problems


def _not_ours(entry: DataSet, state: State) -> DataInvalid:
    return DataInvalid(
        f"{entry.folder} is {state}, and was not made by ./run_all.sh data; move it away and run "
        f"./run_all.sh data {entry.name}."
    )


def _adopted(entry: DataSet) -> State:
    """A set without marker gets one when its files are those of a manifest, or have known sums; its state."""
    try:
        found = manifest_of(entry.folder, entry.made)
    except PermissionError as error:
        raise unread(error) from error
    for source in entry.groups:
        text = manifest_text(entry, source)
        if not compared(text, found) if text else _has_known_sums(entry):
            try:
                _mark(marker_path(entry), entry, source, found)
            except OSError:
                break  # a data root that cannot be written is as good
            return state_of(entry.name)
    return State("unverified", "left alone: move it away to have it built")


def _has_known_sums(entry: DataSet) -> bool:
    """Whether a set without manifest is one of known files, as its sources or its own checksums say."""
    try:
        if entry.single and entry.sources:
            downloads.check_archive(entry.folder, entry.sources[0])
        for path in entry.paths if entry.checksums else ():
            entry.check_hash(path)
    except DataInvalid:
        return False
    return bool(entry.single and entry.sources) or len(entry.checksums) == len(entry.paths)


def _show_terms(entries: list[DataSet], accept: bool) -> None:
    """Prints the terms of sets; raises DataNotFound for terms that are not accepted."""
    path = data_root() / ACCEPTED
    known = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for entry in entries:
        print(f"{entry.name}: {entry.title}. {entry.terms}", file=sys.stderr)
    asked = [entry for entry in entries if entry.research and f"{entry.name}: {entry.terms}" not in known]
    if asked and not accept:
        names = ", ".join(entry.name for entry in asked)
        raise DataNotFound(
            f"the terms of {names}, shown above, restrict to research; accept them once with ./run_all.sh "
            f"data {' '.join(entry.name for entry in entries)} --accept-terms."
        )
    if asked:
        lines = [*known, *(f"{entry.name}: {entry.terms}" for entry in asked)]
        try:
            write_text(path, "".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise downloads.unwritten(path, error) from error


@contextmanager
def _alone() -> Iterator[None]:
    """Keeps two calls from working in one data root at once."""
    root = data_root()
    with ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            alone = stack.enter_context(alone_in(root))
        except OSError as error:
            raise downloads.unwritten(root, error) from error
        if not alone:
            raise DataNotFound(f"another ./run_all.sh data is at work in {root}; wait until it has ended.")
        yield


def _fetch_and_build(wanted: list[str], given: Path | None, write_manifest: bool) -> dict[str, DataNotFound]:
    """Fetches the sources of all sets at once, then builds one set after another; the problems by set.

    A set whose sources cannot be had is tried again from the next alternative.
    """
    folders = [folder for folder in (given, data_root()) if folder]
    groups = {name: _groups_to_fetch(REGISTRY[name], folders) for name in wanted}
    problems: dict[str, DataNotFound] = {}
    store = data_root() / ".archives"
    while groups:
        sources = {name: REGISTRY[name].sources_of(left[0]) for name, left in groups.items()}
        paths, errors = downloads.fetch_all([s for found in sources.values() for s in found], store, folders)
        again = {}
        for name, left in groups.items():
            failed = [errors[source.file] for source in sources[name] if source.file in errors]
            if failed:
                problems[name] = failed[0]
            else:
                problems.pop(name, None)
                try:
                    had = {source.name: paths[source.file] for source in sources[name]}
                    print(f"{name}: building ...", file=sys.stderr)
                    began = time.monotonic()
                    build_set(name, left[0], had, write_manifest)
                    print(f"{name}: {state_of(name)}, {time.monotonic() - began:.0f} s", file=sys.stderr)
                except DataNotFound as error:
                    problems[name] = error
                    failed = [error]
            if failed and left[1:]:
                again[name] = left[1:]
        _forget(store, sources, problems)
        groups = again
    shutil.rmtree(store, ignore_errors=True) if not problems else None
    return problems


def _forget(store: Path, sources: Mapping[str, list[Source]], problems: Mapping[str, DataNotFound]) -> None:
    """Removes downloads that are used up, or that turned out to be wrong; others are kept for a next call."""
    kept = {
        source.file
        for name in sources
        if name in problems and not isinstance(problems[name], DataInvalid)
        for source in sources[name]
    }
    for source in (source for found in sources.values() for source in found):
        if source.file not in kept:
            (store / source.file).unlink(missing_ok=True)


def _groups_to_fetch(entry: DataSet, folders: Iterable[Path] = ()) -> list[str]:
    """The alternatives that can be had, those that are here first."""
    here = []
    for group in filter(None, entry.groups):
        if all(downloads.found_locally(s, folders) for s in entry.sources if s.alternative == group):
            here.append(group)
    return list(dict.fromkeys([*here, *entry.online]))


def build_set(name: str, source: str, paths: Mapping[str, Path], write_manifest: bool = False) -> None:
    """Builds a set from its sources' files (by ``Source.name``) and puts it in its place in one step.

    Raises DataInvalid when an archive is damaged or what was built differs from the manifest, DataNotFound
    when the disk fails; then nothing is left of it, and a set that stood there stays.
    """
    entry = REGISTRY[name]
    make: Callable = getattr(import_module(f"saliencylib.data.{entry.builder}"), f"build_{name}")
    part = data_root() / f".{name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(paths, part)
        found = manifest_of(part, entry.made)
        if write_manifest:
            write_text(MANIFESTS / manifest_name(entry, source), found)
        _check(entry, source, found, paths)
        _mark(part / marker_path(entry).name, entry, source, found)
        _put(part, entry)
    except OSError as error:
        raise downloads.unwritten(part, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check(entry: DataSet, source: str, found: str, paths: Mapping[str, Path]) -> None:
    expected = manifest_text(entry, source)
    from_owner = [item for item in entry.sources_of(source) if not item.url]
    if expected is None and all(item.checksum for item in from_owner or entry.sources_of(source)):
        return  # the archive itself was checked, or the builder has checked what its owner gave
    if expected is None:
        raise DataInvalid(
            f"{entry.name} has no manifest to be checked against; a maintainer writes it with ./run_all.sh "
            f"data {entry.name} --write-manifest."
        )
    if differs := compared(expected, found):
        archives = ", ".join(sorted(path.name for path in paths.values()))
        raise DataInvalid(
            f"{entry.name}, built from {archives}, differs from its manifest {manifest_name(entry, source)} "
            f"({differs}): a source has changed; give the archives of before with --from FOLDER."
        )


def _mark(path: Path, entry: DataSet, source: str, manifest: str) -> None:
    marker = {"set": entry.name, "source": source, "manifest": digest_of(manifest), "version": VERSION}
    if manifest_text(entry, source) is None:
        marker["files"] = manifest
    write_text(path, json.dumps(marker) + "\n")


def _put(part: Path, entry: DataSet) -> None:
    """Moves what was built to its place; what stood there goes only once the disk holds the new."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(flush, [part, *part.rglob("*")]))
    target = entry.folder
    target.parent.mkdir(parents=True, exist_ok=True)
    if entry.single:
        os.replace(part / target.name, target)
        os.replace(part / marker_path(entry).name, marker_path(entry))
        flush(target.parent)
        return
    old = part.with_name(f".{entry.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(part, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise
    flush(target.parent)
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
