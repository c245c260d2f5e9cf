"""Builders of paper 3's photographs, with labels, boxes, masks and authors. All photographs are copied."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from saliencylib.data.archives import members_of
from saliencylib.data.building import (
    Archives,
    decoded,
    members,
    photographs_among,
    put,
    put_table,
    understood,
)
from saliencylib.data.folders import names_below
from saliencylib.data.registry import DataInvalid

IMAGENET_VAL_NAMES = Path(__file__).with_name("imagenet_val.txt")
# The public copies, in the order in which they are asked for a photograph: of full size first.
IMAGENET_VAL_COPIES = {
    "zoo": "rknn_model_zoo",
    "patch": "ImageNet-Patch",
    "acuity": "acuity-dataset",
    "imagenette": "imagenette",
}


def build_nips2017_dev(sources: Archives, target: Path) -> None:
    """``images/*.png``, and ``labels.csv`` with the author and page of each."""
    held, listed = set(), {}
    for path, content in members("nips2017_dev", "flickr", sources):
        if path.suffix == ".csv":
            with understood(sources["flickr"], path):
                listed = {row["ImageId"]: row for row in _rows(content)}
        elif path.suffix == ".png":
            put(target / "images" / path.name, content)
            held.add(path.stem)
    with understood(sources["flickr"], "data/dev_dataset.csv"):
        synsets = _synsets()
        indices = {name: int(listed[name]["TrueLabel"]) - 1 for name in sorted(held)}  # counted from 1 there
        columns = ("Author", "OriginalLandingURL", "License")
        rows = [
            (f"{name}.png", synsets[index], index, *(listed[name][column] for column in columns))
            for name, index in indices.items()
        ]
    put_table(target / "labels.csv", ("file", "wnid", "index", "author", "url", "licence"), rows)


def build_imagenet_val(sources: Archives, target: Path) -> None:
    """``images/*.JPEG`` and ``labels.csv``: the 1,810 photographs that imagenet_val.txt names.

    From the official tar or a folder of its files, where there is one, whose photographs must have their
    published sizes; else from the public copies, of which most were squashed to a square. Labels, original
    sizes and boxes (relative x0 y0 x1 y1) are those published with "Evaluating weakly supervised object
    localization", whose test part is this set.
    """
    names = IMAGENET_VAL_NAMES.read_text(encoding="utf-8").split()
    labels, sizes, boxes = _published(sources)
    origin = {}
    for source in ("official",) if "official" in sources else IMAGENET_VAL_COPIES:
        for path, content in _validation_images(source, sources, set(names) - set(origin)):
            with understood(sources[source], path):
                size = decoded(content).size
            if source == "official" and size != sizes[path.name]:
                wanted = "{}x{}".format(*sizes[path.name])
                raise DataInvalid(
                    f"{sources[source]} holds {path} with {size[0]}x{size[1]} pixels, expected the official "
                    f"{wanted}; give the official file, or move it away to have the public copies."
                )
            put(target / "images" / path.name, content)
            origin[path.name] = IMAGENET_VAL_COPIES.get(source, "ILSVRC2012_img_val")
    if absent := sorted(set(names) - set(origin)):
        where = ", ".join(str(path) for name, path in sources.items() if name != "boxes")
        raise DataInvalid(
            f"{len(absent):,} of {len(names):,} photographs, {absent[0]} among them, are in none of {where}; "
            "fetch them again: delete these files and run ./run_all.sh data."
        )
    synsets, rows = _synsets(), []
    with understood(sources["boxes"], "metadata/ILSVRC/test"):
        for name in sorted(names):
            index, (width, height) = labels[name], sizes[name]
            relative = ((x0 / width, y0 / height, x1 / width, y1 / height) for x0, y0, x1, y1 in boxes[name])
            text = ";".join(" ".join(f"{value:.6f}" for value in box) for box in relative)
            rows.append((name, synsets[index], index, width, height, text, origin[name]))
    header = ("file", "wnid", "index", "width", "height", "boxes", "source")
    put_table(target / "labels.csv", header, rows)


def _validation_images(
    source: str, sources: Archives, names: set[str]
) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Those photographs of a source that have one of these names."""
    if sources[source].is_dir():  # of 50,000 files only those that are wanted should be read
        wanted = [name for name in names_below(sources[source]) if PurePosixPath(name).name in names]
        found = ((PurePosixPath(name), content) for name, content in members_of(sources[source], wanted))
    else:
        found = members("imagenet_val", source, sources)
    return ((path, content) for path, content in found if path.name in names)


def _published(sources: Archives) -> tuple[dict[str, int], dict[str, tuple], dict[str, list[tuple]]]:
    """Class index, (width, height) and boxes in pixels by file name."""
    tables = {path.stem: content.decode() for path, content in members("imagenet_val", "boxes", sources)}
    boxes = defaultdict(list)
    with understood(sources["boxes"], "metadata/ILSVRC/test"):
        read = {
            table: [
                (PurePosixPath(name).name, tuple(int(number) for number in numbers))
                for name, *numbers in csv.reader(io.StringIO(tables[table]))
            ]
            for table in ("class_labels", "image_sizes", "localization")
        }
        for name, box in read["localization"]:
            boxes[name].append(box)
        return {name: index for name, (index,) in read["class_labels"]}, dict(read["image_sizes"]), boxes


def build_rc_reference(sources: Archives, target: Path) -> None:
    """``DataSet{1,2}/Imgs``: photographs and masks; ``DataSet1/Saliency``: the authors' own maps."""
    for path, content in photographs_among(members("rc_reference", "benchmark", sources)):
        if path.parent.name in ("Imgs", "Saliency"):
            put(target / path.relative_to("Data"), content)


def _rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))


def _synsets() -> list[str]:
    """The 1000 sorted synsets of ImageNet."""
    from timm.data import ImageNetInfo

    return ImageNetInfo("imagenet-1k").label_names()
