"""Builders of paper 1's sets of labelled images."""

from collections import defaultdict
from itertools import chain, zip_longest
from pathlib import Path

from PIL import Image

from saliencylib.data.building import (
    Archives,
    decoded,
    each,
    members,
    photographs_among,
    put,
    put_png,
    understood,
)
from saliencylib.data.registry import DataInvalid

# Ten classes like STL-10's, merged from synsets of Tiny-ImageNet.
TINYIMAGENET10_SYNSETS = {
    "bird": ("n01855672", "n02002724", "n02056570", "n02058221"),
    "boat": ("n03447447", "n03662601"),
    "car": ("n02814533", "n03670208", "n04285008"),
    "cat": ("n02123045", "n02123394", "n02124075"),
    "dog": ("n02085620", "n02094433", "n02099601", "n02099712", "n02106662", "n02113799"),
    "frog": ("n01641577", "n01644900"),
    "hoofed": ("n02403003", "n02410509", "n02423022"),
    "monkey": ("n02480495", "n02481823", "n02486410"),
    "truck": ("n03796401", "n03977966", "n04146614", "n04487081"),
    "wild_beast": ("n02125311", "n02129165", "n02132136"),
}
TRAIN, TEST = 500, 580
SIDE = 96


def build_tinyimagenet10(sources: Archives, target: Path) -> None:
    """``{train,test}/CLASS/*.JPEG``, copied from Tiny-ImageNet's training files.

    The draw: a class takes its synsets in turn, of each the next file by sorted name; the first 500 are to
    train on, the next up to 580 to test on (two synsets hold 1,000 files, so boat and frog have 500 there).
    """
    (source,) = sources
    files = defaultdict(dict)
    for path, content in photographs_among(members("tinyimagenet10", source, sources)):
        files[path.name.partition("_")[0]][path.name] = content
    for label, synsets in TINYIMAGENET10_SYNSETS.items():
        in_turn = chain.from_iterable(zip_longest(*(sorted(files[synset]) for synset in synsets)))
        drawn = [name for name in in_turn if name][: TRAIN + TEST]
        if len(drawn) <= TRAIN:
            raise DataInvalid(
                f"{sources[source]} holds {len(drawn):,} images of {label} ({', '.join(synsets)}), expected "
                f"more than {TRAIN}; delete it and run ./run_all.sh data again."
            )
        for i, name in enumerate(drawn):
            put(
                target / ("train" if i < TRAIN else "test") / label / name,
                files[name.partition("_")[0]][name],
            )


def build_clothing96(sources: Archives, target: Path) -> None:
    """``{train,validation,test}/CLASS/*.png``: short side 96 (Lanczos), then cut to the centre 96x96."""

    def cut(path: Path, content: bytes) -> None:
        with understood(sources["clothing"], path):
            image = centred(decoded(content), SIDE)
        put_png(target / path.with_suffix(".png"), image)

    each(cut, photographs_among(members("clothing96", "clothing", sources)))


def centred(image: Image.Image, side: int) -> Image.Image:
    """The image with its short side scaled to ``side`` (Lanczos, both sides rounded), cut to its centre."""
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    scaled = image.resize((width, height), Image.Resampling.LANCZOS)
    return scaled.crop((left, top, left + side, top + side))
