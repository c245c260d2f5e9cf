"""Builders of the photographs with where people looked, from each set's own files to one layout.

``images/``: photographs of at most 256 pixels, the long side scaled (Lanczos) and stored without loss;
smaller ones are copied. ``fixations.npz``: name, width and height of the original photographs; offset, x, y
and subject of the points: photograph i has the points offset[i]:offset[i + 1], as the set's authors stored
them, in original pixels.
"""

import io
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from saliencylib.data.building import (
    PHOTOGRAPH,
    Archives,
    decoded,
    each,
    members,
    put,
    put_png,
    understood,
)
from saliencylib.data.registry import DataInvalid
from saliencylib.files import save_arrays

LONG_SIDE = 256
MOUSE_LEFT_OUT = 10
_Points = tuple[np.ndarray, np.ndarray, np.ndarray]  # x, y and subject of one photograph


def build_mit1003(sources: Archives, target: Path) -> None:
    """MIT1003: 15 subjects; the names are those of the authors' list, in its order."""
    _from_struct("mit1003", sources, target)


def build_osie(sources: Archives, target: Path) -> None:
    """OSIE's eye data: 15 subjects."""
    _from_struct("osie", sources, target)


def build_crowd(sources: Archives, target: Path) -> None:
    """EyeCrowd: 16 subjects."""
    _from_struct("crowd", sources, target)


def build_osie_mouse(sources: Archives, target: Path) -> None:
    """OSIE's mouse data, made with SALICON's protocol: a sharp window that follows the mouse, by about 100
    people a photograph.

    A point is a sample of the mouse's position. SALICON keeps the samples of low velocity; here only their
    order is known, not their time, so no velocity: every sample counts, but those of order 1 to 10, since
    every trace begins at the centre of the screen. Row and column, counted from 1, become y and x counted
    from 0. A map is, as SALICON's, the points' density under a Gaussian.
    """
    sizes, points = {}, {}
    for path, content in _files("osie_mouse", "osie", sources, target, sizes):
        if path.suffix == ".mat":
            with understood(sources["osie"], path):
                points[path.stem] = mouse_points(content)
    _put_points(target, sources["osie"], sorted(points.items()), sizes, (np.uint16, np.uint16))


def mouse_points(content: bytes) -> _Points:
    """x, y and participant of the samples of one photograph's file, without the first ten of each trace."""
    samples = _matlab(content, "fixations")
    kept = samples.order > MOUSE_LEFT_OUT
    row, column = samples.coord[kept].astype(int).T - 1
    if kept.any() and min(row.min(), column.min()) < 0:
        raise ValueError("a row or column below 1")
    return column, row, samples.subj[kept]


def build_scene(sources: Archives, target: Path) -> None:
    """Scene: up to 12 subjects, 52 recordings are empty. Rows of y, x, latency, duration."""
    sizes = {}
    for path, content in _files("scene", "scene", sources, target, sizes):
        if path.suffix == ".mat":
            with understood(sources["scene"], path):
                cells = _matlab(content, "fixations", plain=False)
                points = [_joined(rows.reshape(-1, 4).T[[1, 0]] for rows in seen) for seen in cells]
    names = sorted(sizes)
    if len(names) != len(points):
        raise DataInvalid(
            f"{sources['scene']} holds {len(names):,} photographs and the points of {len(points):,}; "
            "delete it and run ./run_all.sh data again."
        )
    _put_points(target, sources["scene"], zip(names, points, strict=True), sizes)


def build_pascal(sources: Archives, target: Path) -> None:
    """PASCAL-S: 8 subjects, counted from 1; whole pixels counted from 1. Columns of y, x, subject."""
    sizes = {}
    list(_files("pascal", "photographs", sources, target, sizes))
    ((path, content),) = members("pascal", "points", sources)
    with understood(sources["points"], path):
        cells = _matlab_cells(content, "fixCell")
        points = [(str(i + 1), (cell[1], cell[0], cell[2])) for i, cell in enumerate(cells)]
    _put_points(target, sources["points"], points, sizes)


def _from_struct(name: str, sources: Archives, target: Path) -> None:
    """The layout that three of the sets share: a list of photographs, each with a list of subjects."""
    sizes = {}
    for path, content in _files(name, name, sources, target, sizes):
        if path.suffix == ".mat":
            with understood(sources[name], path):
                points = [
                    (PurePosixPath(row.img).stem, _joined((s.fix_x, s.fix_y) for s in np.ravel(row.subjects)))
                    for row in np.ravel(_matlab(content, "fixations"))
                ]
    _put_points(target, sources[name], points, sizes)


# ---------------------------------------------------------------- files


def _files(
    name: str, source: str, sources: Archives, target: Path, sizes: dict[str, tuple[int, int]]
) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The files of a source that are no photographs. Photographs go to ``images/``; ``sizes`` is filled with
    their (width, height) by name."""
    others = []

    def photographs() -> Iterator[tuple[PurePosixPath, bytes]]:
        for path, content in members(name, source, sources):
            if path.suffix.lower() in PHOTOGRAPH:
                yield path, content
            else:
                others.append((path, content))

    sizes |= dict(each(partial(_shrunk, sources[source], target / "images"), photographs()))
    yield from others


def _shrunk(archive: Path, folder: Path, path: PurePosixPath, content: bytes) -> tuple[str, tuple[int, int]]:
    """Stores a photograph with a long side of at most 256 pixels; its name and original (width, height)."""
    with understood(archive, path):
        image = decoded(content)
        scale = LONG_SIDE / max(image.size)
        width, height = (max(1, round(length * scale)) for length in image.size)
        small = image.resize((width, height), Image.Resampling.LANCZOS) if scale < 1 else None
    if small is None:
        put(folder / path.name, content)
    else:
        put_png(folder / f"{path.stem}.png", small)
    return path.stem, image.size


def _put_points(
    target: Path,
    archive: Path,
    points: Iterable[tuple[str, _Points]],
    sizes: dict[str, tuple[int, int]],
    kinds: tuple[type, type] = (np.float32, np.int16),
) -> None:
    """Writes fixations.npz. points: (name, x, y and subject); kinds: numbers of positions and of subjects.
    Raises DataInvalid unless every photograph has its entry and every entry its photograph."""
    names, seen = zip(*points, strict=True)
    if set(names) != set(sizes) or len(names) != len(sizes):
        odd = sorted(set(names) ^ set(sizes), key=_numbered) or ["a name that stands there twice"]
        raise DataInvalid(
            f"{archive} holds {len(names):,} lists of points for {len(sizes):,} photographs, which do not "
            f"agree in {odd[0]}; delete it and run ./run_all.sh data again."
        )
    x, y, subject = (np.concatenate(column) for column in zip(*seen, strict=True))
    save_arrays(
        target / "fixations.npz",
        name=np.array(names),
        width=np.array([sizes[name][0] for name in names], np.int32),
        height=np.array([sizes[name][1] for name in names], np.int32),
        offset=np.cumsum([0, *(len(one[0]) for one in seen)], dtype=np.int64),
        x=x.astype(kinds[0]),
        y=y.astype(kinds[0]),
        subject=subject.astype(kinds[1]),
    )


def _numbered(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _joined(subjects: Iterable[tuple[np.ndarray, np.ndarray]]) -> _Points:
    """x, y and subject (counted from 0) of the positions of all subjects."""
    pairs = [(np.ravel(x), np.ravel(y)) for x, y in subjects]
    x, y = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return x, y, np.repeat(np.arange(len(pairs)), [len(pair[0]) for pair in pairs])


def _matlab(content: bytes, variable: str, plain: bool = True) -> np.ndarray:
    """A variable of a MATLAB file: structs have attributes, and, where ``plain``, arrays no sides of 1."""
    from scipy.io import loadmat

    return loadmat(io.BytesIO(content), squeeze_me=plain, struct_as_record=False)[variable]


def _matlab_cells(content: bytes, variable: str) -> list[np.ndarray]:
    """The arrays of a cell of a MATLAB 7.3 file, which is HDF5 and has their axes turned."""
    import h5py

    with h5py.File(io.BytesIO(content)) as file:
        return [file[reference][:] for reference in file[variable][:].flat]
