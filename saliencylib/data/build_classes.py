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
from saliencylib.data.registry import REGISTRY, DataInvalid

TRAIN, TEST = 500, 580
SIDE = 96


def build_tinyimagenet10(sources: Archives, target: Path) -> None:
    """``{train,test}/CLASS/*.JPEG``, copied from Tiny-ImageNet's training files.

    The draw stands in the registry. Two synsets hold 1,000 files, so boat and frog have 500 to test on.
    """
    (source,) = sources
    files = defaultdict(dict)
    for path, content in photographs_among(members("tinyimagenet10", source, sources)):
        files[path.name.partition("_")[0]][path.name] = content
    for label, synsets in REGISTRY["tinyimagenet10"].synsets.items():
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
