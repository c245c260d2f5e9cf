"""What the builders share: reading out of archives, and writing the same bytes every time.

A builder is ``build_NAME(sources, target)`` in the module that datasets.toml names: from the archives by the
names of its sources to the layout that the loader reads, written into the empty folder ``target``, which the
caller moves to its place once the disk holds all of it.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from PIL import Image

from saliencylib.data.archives import members_of
from saliencylib.data.registry import REGISTRY, DataInvalid

Archives = Mapping[str, Path]
PHOTOGRAPH = {".jpg", ".jpeg", ".png"}


def members(data_set: str, source: str, sources: Archives) -> Iterator[tuple[PurePosixPath, bytes]]:
    """(path below the archive's top folder, content) of what a set uses of a source, in its order."""
    wanted = next(found.members for found in REGISTRY[data_set].sources if found.name == source)
    for name, content in members_of(sources[source], wanted):
        yield PurePosixPath(name), content


def photographs_among(found: Iterable[tuple[PurePosixPath, bytes]]) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Those whose name is that of an image; folders hold thumbnails and lists besides."""
    return ((path, content) for path, content in found if path.suffix.lower() in PHOTOGRAPH)


def put(path: Path, content: bytes) -> None:
    """Write a file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def put_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with plain line ends."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    put(path, text.getvalue().encode())


def each(work: Callable, jobs: Iterable[tuple]) -> list:
    """work(*job) for all jobs, in their order. Threads are enough: Pillow works outside Python's lock."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda job: work(*job), jobs))


@contextmanager
def understood(archive: Path, name: object) -> Iterator[None]:
    """Turns whatever goes wrong while a content is read into DataInvalid that names file and archive."""
    try:
        yield
    except DataInvalid:
        raise
    except Exception as error:  # Pillow, scipy and h5py raise a dozen types for a changed file
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise DataInvalid(
            f"{archive} holds something else than expected in {name} ({reason}): its source has changed or "
            "this copy is damaged; delete it and run ./run_all.sh data again."
        ) from error


def decoded(content: bytes) -> Image.Image:
    """The photograph in RGB, without what the file says beside its pixels."""
    with Image.open(io.BytesIO(content)) as file:
        image = file.convert("RGB")
    image.info = {}
    return image


def put_png(path: Path, image: Image.Image) -> None:
    """Write an image without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "PNG")
