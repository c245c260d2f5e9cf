"""What a user hands in, in its usual forms: maps, photographs, images and classes for a network, its answer.

Every part of the library reads these by the functions here, so that one rule holds everywhere. What can be
read in one way only is converted; what can be read in two is refused, with a sentence that says what is
wanted.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from os import PathLike

import numpy as np
import torch
from PIL import Image
from skimage.color import rgba2rgb
from torch import Tensor, nn

Images = Tensor | np.ndarray
FLOATING = (np.float16, np.float32, np.float64)
TORCH_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MOST_SEED = 2**32 - 1
FAR_OUT = 10  # times the largest standardised value of a picture: beyond lie images that are not standardised
NO_GRADIENT = (
    "no gradient leads from the logits back to the images: a part of the network runs under torch.no_grad(), "
    "or detaches its features; let it run with gradients"
)


# ------------------------------------------------------------------------------------------- numbers


def check_count(name: str, value: object, least: int = 1, most: float = math.inf) -> None:
    """ValueError unless a value is a whole number from ``least`` to ``most``."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (whole and least <= value <= most):
        upper = f" and at most {most}" if most < math.inf else ""
        raise ValueError(f"{name} must be a whole number of at least {least}{upper}, not {_plain(value)!r}")


def check_seed(name: str, value: object) -> None:
    """ValueError unless a value is a seed that NumPy and torch both take, 0 to 2**32 - 1."""
    check_count(name, value, 0, MOST_SEED)


def check_number(
    name: str, value: object, low: float = -math.inf, high: float = math.inf, *, above: bool = False
) -> None:
    """ValueError unless a value is a finite number from ``low`` (with ``above``: above it) to ``high``."""
    number = isinstance(value, Real) and not isinstance(value, bool | np.bool_) and math.isfinite(value)
    if not (number and low <= value <= high and not (above and value == low)):
        lower = f" {'above' if above else 'of at least'} {low:g}" if low > -math.inf else ""
        upper = f"{' and' if lower else ' of'} at most {high:g}" if high < math.inf else ""
        raise ValueError(f"{name} must be a finite number{lower}{upper}, not {_plain(value)!r}")


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def check_shape(shape: object) -> None:
    """ValueError unless this is the height and width of a map of at least one pixel."""
    if not (isinstance(shape, Sequence | np.ndarray) and len(shape) == 2):
        raise ValueError(f"shape must be (H, W), the height and width of a map in pixels, not {shape!r}")
    for side in shape:
        check_count("a side of the shape (H, W)", side)


# ------------------------------------------------------------------------------------------- arrays


def as_array(values: object) -> np.ndarray:
    """A tensor of any device, with or without a graph, or whatever NumPy takes, as an array of real numbers.

    Raises ValueError for anything else: text, complex numbers, lists of unequal lengths, masked values, and
    a tensor on the device "meta".
    """
    if isinstance(values, str | bytes | PathLike):
        raise ValueError(
            f"need an array or a tensor of real numbers, not {values!r}: PIL.Image.open reads a picture"
        )
    if isinstance(values, Tensor):
        tensor = _stored(values).detach().cpu()
        narrow = tensor.is_floating_point() and tensor.dtype not in TORCH_FLOATING[2:]
        return (tensor.float() if narrow and tensor.dtype != torch.float16 else tensor).numpy()
    try:
        array = np.asarray(values)
        if array.dtype == object and values is not None:
            array = array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(values).__name__
        raise ValueError(f"a {kind} cannot be read as one array of real numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        found = type(values).__name__ if array.ndim == 0 else f"an array of {array.dtype}"
        raise ValueError(f"need an array or a tensor of real numbers, not {found}")
    if np.ma.is_masked(values):
        raise ValueError("a masked array has places without a value: give them one by its method filled")
    return array


def as_tensor(values: object) -> Tensor:
    """A tensor as it is, but dense, or what ``as_array`` reads as one; ValueError as there."""
    if isinstance(values, Tensor):
        return _stored(values)
    array = as_array(values)
    if array.dtype.kind == "f" and array.dtype not in FLOATING:
        array = array.astype(np.float64)
    elif array.dtype.kind == "u" and array.dtype != np.uint8:  # torch can hardly do anything with these
        array = array.astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape))


def _stored(tensor: Tensor) -> Tensor:
    """A tensor with a value in every place; ValueError for one without any."""
    if lacks_values(tensor):
        raise ValueError('a tensor on the device "meta" holds no values: make it on the CPU or on a GPU')
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def lacks_values(tensor: Tensor) -> bool:
    """Whether a tensor has a shape and a type alone, as those on the device "meta" have."""
    return tensor.is_meta


def finite_map(map: np.ndarray | Tensor) -> np.ndarray:
    """A map as (H, W) float64; ValueError for another shape, no pixel, NaN or infinity."""
    map = as_array(map).astype(np.float64, copy=False)
    if map.ndim != 2 or not map.size:
        raise ValueError(f"a map (H, W) has two dimensions and at least one pixel, not shape {map.shape}")
    if not np.isfinite(map).all():
        raise ValueError("the map holds NaN or infinity")
    return map


def as_mask(mask: object, name: str = "a mask") -> np.ndarray:
    """A mask as a bool array; 0 and 1 count as False and True. Raises ValueError for other values.

    ``name`` is what that calls it.
    """
    array = as_array(mask)
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} holds True and False, or 1 and 0, alone: compare values with a threshold")
    return array.astype(bool, copy=False)


# ------------------------------------------------------------------------------------------- pictures


def rgb_picture(picture: Image.Image | np.ndarray | Tensor) -> Image.Image:
    """A PIL picture of 8 bits as it is, its file read; any other as RGB, as ``rgb_image`` reads it.

    Raises ValueError as that does, and where the file cannot be read.
    """
    if isinstance(picture, Image.Image) and not _is_deep(picture):
        return _loaded(picture)
    return Image.fromarray(np.uint8(np.round(255 * rgb_image(picture))))


def _is_deep(picture: Image.Image) -> bool:
    """Whether a picture has more than 8 bits a channel."""
    return picture.mode in ("I", "F") or picture.mode.startswith("I;")


def _loaded(picture: Image.Image) -> Image.Image:
    """The picture with its file read, which Pillow puts off until pixels are needed."""
    try:
        picture.load()
    except (OSError, SyntaxError, ValueError) as error:
        file = getattr(picture, "filename", "") or "the picture"
        raise ValueError(f"{file} cannot be read to its end ({error}): give a whole copy") from error
    return picture


def rgb_image(image: np.ndarray | Tensor | Image.Image) -> np.ndarray:
    """One photograph as (H, W, 3) float64 in [0, 1].

    (H, W, 3) ``uint8`` is read as 0..255, floating point as 0..1. A grey image, (H, W) or (H, W, 1), counts
    as three equal channels; one with an alpha channel, (H, W, 4), is laid on white. A PIL picture of 8 bits
    is read by its own mode. Anything else raises ValueError: another shape or type, no pixel, NaN, values
    outside 0..1.
    """
    if isinstance(image, Image.Image) and not _is_deep(_loaded(image)):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image = as_array(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise ValueError(f"an image must be (H, W, 3), (H, W, 4), (H, W, 1) or (H, W), got {image.shape}")
    if image.dtype == np.uint8:
        image = image / 255
    elif not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"an image must be uint8, or floating point in [0, 1], got {image.dtype}")
    elif not (image.min() >= 0 and image.max() <= 1):  # so that NaN fails too
        raise ValueError(f"a floating point image must lie in [0, 1], got {image.min()} to {image.max()}")
    if image.shape[2] == 4:
        return rgba2rgb(image.astype(np.float64))
    return np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.float64)


# ------------------------------------------------------------------------------------------- networks


def check_network(network: object) -> None:
    """ValueError unless this is a network of torch whose weights have values."""
    if not isinstance(network, nn.Module):
        name = f"the class {network.__name__}" if isinstance(network, type) else type(network).__name__
        raise ValueError(
            f"need a network, an instance of torch.nn.Module, not {name}; load_classifier gives one by name"
        )
    if any(lacks_values(weight) for weight in (*network.parameters(), *network.buffers())):
        raise ValueError(
            'weights of the network lie on the device "meta", which holds no values: load them on the CPU '
            "or a GPU"
        )


def image_batch(images: Images, network: nn.Module) -> Tensor:
    """Images as a tensor (N, C, H, W), of the values, type and device that they have.

    (N, H, W, C) is turned where its last axis alone has the channels that the network's first convolution
    takes. Raises ValueError for anything else, for types other than uint8 and floating point, and for what
    ``check_network`` refuses.
    """
    check_network(network)
    channels = _channels(network) or 3
    wanted = f"need images (N, {channels}, H, W), a tensor or an array"
    if not isinstance(images, Tensor | np.ndarray):
        raise ValueError(
            f"{wanted}, not a {type(images).__name__}; pictures become one by "
            "model.preprocess.inputs([model.preprocess.cut(picture) for picture in pictures])"
        )
    if isinstance(images, np.ndarray) and images.dtype.kind in "fu":
        images = images.astype(images.dtype.newbyteorder("="))  # a copy, in the order that torch reads
        images = torch.from_numpy(images) if images.dtype in (np.uint8, *FLOATING) else images
    if isinstance(images, np.ndarray) or images.dtype not in (torch.uint8, *TORCH_FLOATING):
        raise ValueError(
            f"images must be floating point, as the network takes them, or uint8, not {images.dtype}"
        )
    images = _stored(images)
    if images.ndim == 4 and images.shape[1] != channels == images.shape[3]:
        images = images.permute(0, 3, 1, 2)
    if images.ndim != 4 or not images.numel():
        one = "; a single image is images[None]" if images.ndim == 3 else ""
        raise ValueError(f"{wanted}, not shape {tuple(images.shape)}{one}")
    return images


def network_input(images: Images, network: nn.Module) -> Tensor:
    """Images as a network takes them: (N, C, H, W), of the type and on the device of its weights.

    The forms are those of ``image_batch``. Floating-point values are taken as they are: standardised, if
    that is what the network was trained with. uint8, 0..255, is standardised by ``network.preprocess`` (see
    ``classifiers.as_classifier``) and refused without one, since nothing then says what the network wants.
    Raises ValueError, too, for NaN or infinity, and for values far outside what ``network.preprocess`` makes
    of a picture. Only images on the CPU, for a network in eval mode, are looked at: to look at others would
    be to wait for them.
    """
    images = image_batch(images, network)
    preprocess = getattr(network, "preprocess", None)
    known = hasattr(preprocess, "mean") and hasattr(preprocess, "std")
    weight = next(network.parameters(), images)
    if images.dtype == torch.uint8:
        if not known:
            raise ValueError(
                "images are uint8, and nothing says how this network standardises 0..255: give floating "
                "point as the network takes it, or make it ready with as_classifier(model, Preprocess(...))"
            )
        mean, std = (torch.tensor(preprocess.mean), torch.tensor(preprocess.std))
        pixels = images.float().div(255).to(weight.device)
        images = (pixels - mean.to(pixels)[:, None, None]) / std.to(pixels)[:, None, None]
    elif images.device.type == "cpu" and not network.training:
        low, high = (float(value) for value in images.detach().aminmax())
        if not math.isfinite(high - low):
            raise ValueError("the images hold NaN or infinity")
        largest = math.inf
        if known:
            scale = zip(preprocess.mean, preprocess.std, strict=True)
            largest = max(max(mean, 1 - mean) / std for mean, std in scale)
            if 0 <= low < high <= 1 and min(preprocess.mean) > 0:
                warnings.warn(
                    "the images lie in 0..1, as if not standardised: give uint8, or what model.preprocess "
                    "makes of the pictures",
                    stacklevel=3,
                )
        if max(-low, high) > FAR_OUT * largest:
            raise ValueError(
                f"the images run from {low:g} to {high:g}, far outside what model.preprocess gives, "
                f"at most {largest:.1f}: give uint8 for 0..255, or standardise them"
            )
    images = images.to(weight.device, weight.dtype if weight.is_floating_point() else images.dtype)
    return outside_inference(images)


def saliency_input(maps: Images, images: Tensor, training: bool) -> Tensor:
    """Saliency maps as a tensor (N, H, W) of the images' type and device, from (N, H, W) or (N, 1, H, W).

    Raises ValueError for another shape, and for NaN or values outside [0, 1]. As with the images of
    ``network_input``, maps on a GPU or in training are not looked at.
    """
    maps = as_tensor(maps)
    if maps.ndim == 4 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim != 3 or maps.is_complex():
        one = "; a single map is saliency[None]" if maps.ndim == 2 else ""
        raise ValueError(
            f"need saliency maps (N, H, W) in [0, 1], not {maps.dtype} of shape {tuple(maps.shape)}{one}"
        )
    if maps.device.type == "cpu" and not training and maps.numel():
        low, high = (float(value) for value in maps.detach().aminmax())
        if not (low >= 0 and high <= 1):
            remedy = "; divide maps of 0 to 255 by 255" if high > 1 else ""
            raise ValueError(f"saliency maps lie in [0, 1], without NaN, not {low:g} to {high:g}{remedy}")
    return maps.to(images)


def outside_inference(tensor: Tensor) -> Tensor:
    """The tensor, or where it was made in ``torch.inference_mode`` and that is left, a copy for a graph."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor


def target_classes(target: int | Sequence[int] | Tensor | np.ndarray, count: int) -> Tensor:
    """One class index an image, (count,), from one for all or one an image; ValueError for other forms."""
    classes = _whole_numbers(target, f"need one class index for all or one for each of {count} images")
    if classes.shape not in ((), (1,), (count,)):
        raise ValueError(
            f"need one class index for all or one for each of {count} images, not {classes.dtype} of shape "
            f"{tuple(classes.shape)}"
        )
    return classes.expand(count)


def classes_each(classes: Sequence[Sequence[int]] | Tensor | np.ndarray, count: int) -> Tensor:
    """Class indices (count, K), K of them an image and at least one; ValueError for other forms."""
    classes = _whole_numbers(classes, f"need class indices ({count}, K)")
    if classes.ndim != 2 or len(classes) != count or not classes.numel():
        raise ValueError(f"need classes ({count}, K), K of them an image, not shape {tuple(classes.shape)}")
    return classes


def _whole_numbers(values: object, wanted: str) -> Tensor:
    """Values as an int64 tensor; ValueError that begins with what is ``wanted`` for other than whole ones."""
    try:
        numbers = as_tensor(values)
    except ValueError as error:
        raise ValueError(f"{wanted}, as whole numbers: {error}") from error
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise ValueError(f"{wanted}, as whole numbers, not {numbers.dtype}; names have one in model.classes")
    return numbers.long()


def answer_of(
    network: nn.Module, images: Tensor, name: str = "the network", inputs: str = "images"
) -> object:
    """What a network answers to images; ValueError with their shape where it fails on them.

    ``name`` is what that calls the network, ``inputs`` what it calls the images.
    """
    try:
        return network(images)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError) as error:
        if "require grad" in str(error):  # a hook that a method hangs on an activation says so first
            raise ValueError(NO_GRADIENT) from error
        channels = _channels(network)
        takes = f" (its first convolution takes {channels} channels)" if channels else ""
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{name} fails on {inputs} of shape {tuple(images.shape)}{takes}: {reason}"
        ) from error


def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    """The logits (N, classes) of images: the network's answer, or what it calls "logits", or its first part.

    Raises ValueError as ``answer_of`` does, where the network answers with something else, and where a
    gradient is wanted and none leads back to the images.
    """
    logits = answer = answer_of(network, images)
    if isinstance(answer, Mapping):
        logits = answer.get("logits")
    elif not isinstance(answer, Tensor):
        logits = getattr(answer, "logits", answer[0] if isinstance(answer, tuple | list) and answer else None)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.is_floating_point():
        form = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(answer).__name__
        raise ValueError(
            f"the network must answer with logits (N, classes), alone, first of a tuple or as "
            f'"logits" of a dictionary, not with {form}'
        )
    if logits.device.type == "cpu" and logits.isnan().any():
        raise ValueError(
            "the network answers to finite images with NaN: its weights or its BatchNorm's statistics hold "
            "NaN or infinity, or leave the range of their type; train or load it again"
        )
    if images.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
        raise ValueError(NO_GRADIENT)
    return logits


def check_classes(classes: Tensor, count: int) -> None:
    """ValueError where a class index is none of ``count`` classes; indices on a GPU are not looked at."""
    if classes.device.type == "cpu" and not 0 <= int(classes.min()) <= int(classes.max()) < count:
        raise ValueError(
            f"the network has classes 0 to {count - 1}, "
            f"but {int(classes.min())} to {int(classes.max())} are asked for"
        )


def _channels(network: nn.Module) -> int | None:
    """The channels that the network's first convolution takes, if it has one."""
    convolutions = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    return next((layer.in_channels for layer in convolutions), None)
