"""Downloads: several at once, resumed, retried, and never half a file under a final name."""

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

from saliencylib.data.registry import DataInvalid, DataNotFound, Source
from saliencylib.files import flush

AT_ONCE = 4
PAUSES = (1, 2, 4, 8)  # seconds before the second try and the further ones
TIMEOUT = (15, 60)  # seconds to connect, and without a byte
CHUNK_BYTES = 2**16


class Interrupted(Exception):
    """A worker stops because another part of the program did."""


class _Retry(Exception):
    """A try failed in a way that another may not."""


def mirrored(url: str) -> str:
    """The address to ask: with ``$SALIENCY_MIRROR`` set, its own host in place of https://.

    Raises DataNotFound when that is no address of a host.
    """
    mirror = os.environ.get("SALIENCY_MIRROR", "").rstrip("/")
    if mirror and not re.match(r"https?://[^/]", mirror):
        raise DataNotFound(f"SALIENCY_MIRROR is {mirror!r}; set it to an address such as http://HOST.")
    return f"{mirror}/{url.partition('://')[2]}" if mirror else url


def found_locally(source: Source, folders: Iterable[Path]) -> Path | None:
    """The file of a source in one of these folders, or, for a source without address, the folder that was
    unpacked from it (its name without ``.tar``)."""
    for folder in folders:
        candidates = [folder / source.file] + [folder / Path(source.file).stem] * (not source.url)
        for path in candidates:
            if path.is_file() or (path.is_dir() and path.name != source.file):
                return path
    return None


def fetch_all(
    sources: Iterable[Source], folder: Path, given: Iterable[Path] = ()
) -> tuple[dict[str, Path], dict[str, DataNotFound]]:
    """Brings the files of all sources: those that were had, and those that were not with what went wrong.

    Both are by ``Source.file``. Looks into the folders ``given`` first, whose files stay where they are;
    downloads go into ``folder``, as NAME.part until they are whole, and an interrupted one is continued where
    the server can. Progress is shown on stderr. Raises DataNotFound when the disk has no room.
    """
    wanted = {source.file: source for source in sources}
    paths, errors, missing = {}, {}, []
    for name, source in wanted.items():
        path = found_locally(source, (*given, folder))
        try:
            if path and path.is_file():
                check_archive(path, source)
        except DataInvalid as error:
            if path.parent == folder:  # an earlier download, which the disk damaged
                path.unlink()
                missing.append(source)
            else:
                errors[name] = error
        else:
            paths |= {name: path} if path else {}
            missing += [] if path else [source]
    if not missing:
        return paths, errors
    check_room(folder, sum(source.bytes for source in missing))
    size = sum(source.bytes for source in missing) / 1e6
    print(f"to fetch: {len(missing)} files, about {size:,.0f} MB, into {folder}", file=sys.stderr)
    stop = Event()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = {s.file: pool.submit(_download, s, folder / s.file, stop) for s in missing}
        try:
            for name, job in jobs.items():
                if error := job.exception():
                    errors[name] = error
                else:
                    paths[name] = job.result()
        except BaseException:  # an interruption: the parts stay, to be continued
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    for error in errors.values():
        if not isinstance(error, DataNotFound):
            raise error
    return paths, errors


def check_room(folder: Path, needed: int) -> None:
    """Raises DataNotFound unless so many bytes can be written below ``folder``; makes the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise unwritten(folder, error) from error
    if free < needed:
        raise DataNotFound(
            f"{folder} has {free / 1e6:,.0f} MB free, and {needed / 1e6:,.0f} MB are needed; free disk "
            "space, or point SALIENCY_DATA to another folder."
        )


def unwritten(path: Path, error: OSError) -> DataNotFound:
    """The error for a path that could not be written, to be raised."""
    reason = error.strerror or type(error).__name__
    return DataNotFound(
        f"{path} could not be written ({reason}); free disk space, or point SALIENCY_DATA to a folder that "
        "can be written."
    )


def check_archive(path: Path, source: Source) -> None:
    """Raises DataInvalid unless the file has its known checksum, where there is one."""
    algorithm, _, expected = source.checksum.partition(":")
    if not expected:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if not found.startswith(expected):
        raise DataInvalid(
            f"{path} has the {algorithm} checksum {found[: len(expected)]}, expected {expected}: it was "
            "damaged, or its source has changed; run ./run_all.sh data again, or give another copy with "
            "--from FOLDER."
        )


def _download(source: Source, target: Path, stop: Event) -> Path:
    from tqdm import tqdm

    part = target.with_name(f"{target.name}.part")
    began = time.monotonic()
    url = mirrored(source.url)
    for pause in (*PAUSES, None):
        try:
            _attempt(url, source, part, stop)
            break
        except _Retry as error:
            if pause is None:
                raise DataNotFound(
                    f"{url} could not be fetched ({error}); check the network and run ./run_all.sh data "
                    f"again, or give the file {source.file} with --from FOLDER."
                ) from error
            if stop.wait(pause):
                raise Interrupted from error
        except OSError as error:
            part.unlink(missing_ok=True)
            raise unwritten(part, error) from error
    try:
        check_archive(part, source)
    except DataInvalid:
        part.unlink()
        raise
    flush(part)
    os.replace(part, target)
    size, seconds = target.stat().st_size / 1e6, max(time.monotonic() - began, 1e-3)
    told = f"fetched {source.file}: {size:,.1f} MB in {seconds:.0f} s ({size / seconds:,.1f} MB/s)"
    tqdm.write(told, file=sys.stderr)  # above the bars of the others
    return target


def _attempt(url: str, source: Source, part: Path, stop: Event) -> None:
    """One try to complete ``part``. Raises _Retry, DataNotFound, DataInvalid or OSError."""
    import requests
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            goes_on = answer.status_code == 206
            if answer.status_code == 416 or (goes_on and not _starts_at(answer.headers, have)):
                part.unlink(missing_ok=True)  # there is nothing after what is here: begin again
                raise _Retry("the part that is here does not fit")
            _check_answer(answer, url, source)
            have *= goes_on
            length = answer.headers.get("Content-Length")
            expected = have + int(length) if length else None
            bar = tqdm(
                desc=source.file[:40],
                total=expected,
                initial=have,
                unit="B",
                unit_scale=True,
                leave=False,
                disable=None,
            )
            with part.open("ab" if goes_on else "wb") as file, bar:
                for chunk in answer.iter_content(CHUNK_BYTES):
                    if stop.is_set():
                        raise Interrupted
                    if not have and chunk.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
                        raise _web_page(answer.url, source)
                    file.write(chunk)
                    have += len(chunk)
                    bar.update(len(chunk))
    except requests.RequestException as error:
        raise _Retry(type(error).__name__) from error
    except DataInvalid:
        part.unlink(missing_ok=True)
        raise
    if expected and have != expected:
        raise _Retry(f"{have:,} of {expected:,} bytes came")


def _starts_at(headers, have: int) -> bool:
    return headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _check_answer(answer, url: str, source: Source) -> None:
    status = f"{answer.status_code} {answer.reason}"
    if answer.status_code in (408, 425, 429) or answer.status_code >= 500:
        raise _Retry(status)
    if answer.status_code >= 400:
        raise DataNotFound(
            f"{url} is refused by its server ({status}); give the file {source.file} from elsewhere with "
            "--from FOLDER, or another server in SALIENCY_MIRROR."
        )
    if "text/html" in answer.headers.get("Content-Type", ""):
        raise _web_page(answer.url, source)


def _web_page(url: str, source: Source) -> DataInvalid:
    return DataInvalid(
        f"{source.url} leads to a web page at {urlsplit(url).netloc}{urlsplit(url).path} (a login?), not to "
        f"the file {source.file}; fetch it in a browser and give it with --from FOLDER."
    )
