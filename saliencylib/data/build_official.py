"""The papers' official sets and networks, copied as they come."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from saliencylib.data.archives import members_of
from saliencylib.data.building import put
from saliencylib.data.registry import REGISTRY


def build_stl10(sources: Mapping[str, Path], target: Path) -> None:
    """The four files of labelled images and labels."""
    _copied("stl10", sources["stl10"], target)


def build_imagenet_a(sources: Mapping[str, Path], target: Path) -> None:
    """One folder a synset."""
    _copied("imagenet_a", sources["imagenet-a"], target)


def build_vgg16(sources: Mapping[str, Path], target: Path) -> None:
    """VGG-16's weights as torchvision publishes them."""
    _weights("vgg16", sources["weights"], target)


def build_squeezenet1_1(sources: Mapping[str, Path], target: Path) -> None:
    """SqueezeNet 1.1's weights as torchvision publishes them."""
    _weights("squeezenet1_1", sources["weights"], target)


def _copied(name: str, archive: Path, target: Path) -> None:
    """All members that the registry names, under their names below the archive's top folder."""
    (source,) = REGISTRY[name].sources
    for member, content in members_of(archive, source.members):
        put(target / member, content)


def _weights(name: str, file: Path, target: Path) -> None:
    shutil.copyfile(file, target / REGISTRY[name].sources[0].file)
