"""The masked network of paper 1 (Sal-Mask) and its two classifiers, a reduced AlexNet and a reduced NIN."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate, pad

from saliencylib.inputs import (
    answer_of,
    check_count,
    check_network,
    check_number,
    network_input,
    saliency_input,
)


class SalMask(nn.Module):
    """A network whose first feature maps are multiplied by a saliency map (Sal-Mask, equations 1 to 8).

    ``first`` is the first convolution with its activation and keeps the image's height and width; ``rest`` is
    everything after it. With y = first(images), the masked maps are ey = h(y * s) for every channel; the
    saliency map gets no gradient. With ``average`` the mask is s = (saliency + 1) / 2, in [0.5, 1], the
    average of saliency and a white image (section 2.3); without it the raw saliency. ``activation`` is h,
    the ReLU in the paper. ``resize`` fits the mask to the feature maps where their size differs (bilinear,
    smoothed where it shrinks), for a first layer that does not keep the image's size. Raises ValueError where
    ``first`` or ``rest`` is no network.
    """

    def __init__(
        self,
        first: nn.Module,
        rest: nn.Module,
        average: bool = True,
        activation: Callable[[torch.Tensor], torch.Tensor] = torch.relu,
        resize: bool = False,
    ) -> None:
        super().__init__()
        if not (isinstance(first, nn.Module) and isinstance(rest, nn.Module) and callable(activation)):
            raise ValueError(
                "SalMask takes two nn.Modules, the first convolution with its activation and what follows, "
                "and a function as activation"
            )
        self.first, self.rest, self.average, self.activation = first, rest, average, activation
        self.resize = resize

    def mask(self, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
        """The mask s, (N, H, W), that multiplies the feature maps of images (N, 3, H, W)."""
        saliency = saliency.detach()
        return (saliency + 1) / 2 if self.average else saliency

    def forward(self, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
        """Class scores (N, classes) of images (N, 3, H, W) with saliency maps (N, H, W) in [0, 1].

        Both may have any form that ``inputs.network_input`` and ``inputs.saliency_input`` read. Raises
        ValueError when a map's size is not that of the first layer's feature maps, for maps that hold NaN or
        values outside [0, 1], and where a part of the network does not take what it is given.
        """
        images = network_input(images, self)
        saliency = saliency_input(saliency, images, self.training)
        features = answer_of(self.first, images, "the first layer")
        if len(saliency) != len(features):
            raise ValueError(f"need a saliency map an image, not {len(saliency)} for {len(features)} images")
        mask = self.mask(images, saliency)
        if self.resize and mask.shape[1:] != features.shape[2:]:
            mask = interpolate(mask[:, None], features.shape[2:], mode="bilinear", antialias=True)[:, 0]
        if mask.shape != (len(features), *features.shape[2:]):
            raise ValueError(
                f"saliency of shape {tuple(saliency.shape)} does not fit feature maps of shape "
                f"{tuple(features.shape)}: it must be (N, H, W) with the same N, H and W, "
                "or SalMask be told to resize=True"
            )
        masked = self.activation(features * mask.unsqueeze(1))
        return answer_of(self.rest, masked, "the rest (is its Flatten a module of it?)", "feature maps")


class SecondLayerMask(SalMask):
    """Sal-Mask behind one pooling layer: the map is averaged over the same windows that the features were."""

    def mask(self, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
        """The mask s, (N, h, w), of images (N, 3, H, W) pooled once."""
        pooled = avg_pool2d(saliency.unsqueeze(1), 3, stride=2, ceil_mode=True)
        return super().mask(images, pooled.squeeze(1))


class LearnedMask(SalMask):
    """Sal-Mask whose saliency is learned with the rest of the network (beyond the paper).

    After the authors' own follow-up, the Ada-Sal Network (Y. Wang et al., Signal Processing: Image
    Communication 2016), which learns its saliency from given maps while the feature maps are trained. Its
    layers are not known here. Choice: the branch sees image and given map at a quarter of their size, has a
    5x5 convolution to ``maps`` maps with ReLU and a 5x5 convolution to one, and a sigmoid makes its output a
    saliency map, enlarged to the image's size. The mask is the average of that map and white.
    """

    def __init__(self, first: nn.Module, rest: nn.Module, maps: int = 8) -> None:
        super().__init__(first, rest)
        self.branch = nn.Sequential(
            nn.AvgPool2d(4, ceil_mode=True),
            nn.Conv2d(4, maps, 5, padding="same"),
            nn.ReLU(),
            nn.Conv2d(maps, 1, 5, padding="same"),
            nn.Sigmoid(),
        )

    def learned_saliency(self, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
        """The branch's own saliency map, (N, H, W) in [0, 1], of images (N, 3, H, W) and given maps."""
        small = self.branch(torch.cat([images, saliency.detach().unsqueeze(1)], 1))
        return interpolate(small, size=saliency.shape[1:], mode="bilinear").squeeze(1)

    def mask(self, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
        """The mask s, (N, H, W) in [0.5, 1], from the branch."""
        return (self.learned_saliency(images, saliency) + 1) / 2


class Classifier(nn.Module):
    """A plain network in the two parts that ``SalMask`` needs: ``first`` and ``rest``."""

    def __init__(self, first: nn.Module, rest: nn.Module) -> None:
        super().__init__()
        self.first, self.rest = first, rest

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores (N, classes) of images (N, 3, 96, 96)."""
        return self.rest(self.first(images))


class LocalResponseNorm(nn.Module):
    """b = a / (1 + alpha * sum of a^2 over 3 neighbouring maps)^0.75 with alpha = 0.00005 (equation 9).

    Written out because torch's own divides alpha by the number of neighbours, which the paper does not, and
    takes 2 to 4 times as long on a CPU. (The paper prints a_i, not a_j, inside the sum: a slip.)
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """The normalised maps, (N, C, H, W) as given."""
        squares = pad(maps * maps, (0, 0, 0, 0, 1, 1))
        total = squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]
        return maps * (1 + 0.00005 * total).pow(-0.75)


def alexnet(classes: int = 10, width: float = 1.0, size: int = 96, dropout: float = 0.5) -> Classifier:
    """The reduced AlexNet for (N, 3, size, size) images, 96 in the paper (section 4.2, Figure 4).

    From the text: convolutions of stride 1 with 'same' padding, ReLU after every convolution and full layer
    but the last, max pooling k=3 s=2, dropout 0.5, local response normalisation. Choice, since the figure's
    widths are lost: five convolutions of 64, 128, 192, 192, 128 maps (5x5, 5x5, then 3x3) and full layers of
    512 and 512, all times ``width``. Choice: pooling comes before normalisation, as in CaffeNet, Caffe's own
    AlexNet; normalising the four times smaller maps also saves most of a step's time on a CPU.
    """
    c1, c2, c3, c4, c5, full = _maps((64, 128, 192, 192, 128, 512), width, classes)
    check_count("size", size)
    end = size
    for _ in range(3):
        end = math.ceil((end - 1) / 2)
    rest = [
        ("pool1", _pool()),
        ("norm1", LocalResponseNorm()),
        ("conv2", nn.Conv2d(c1, c2, 5, padding="same")),
        ("relu2", nn.ReLU()),
        ("pool2", _pool()),
        ("norm2", LocalResponseNorm()),
        ("conv3", nn.Conv2d(c2, c3, 3, padding="same")),
        ("relu3", nn.ReLU()),
        ("conv4", nn.Conv2d(c3, c4, 3, padding="same")),
        ("relu4", nn.ReLU()),
        ("conv5", nn.Conv2d(c4, c5, 3, padding="same")),
        ("relu5", nn.ReLU()),
        ("pool5", _pool()),
        ("flat", nn.Flatten()),
        ("full6", nn.Linear(c5 * end * end, full)),
        ("relu6", nn.ReLU()),
        ("drop6", nn.Dropout(dropout)),
        ("full7", nn.Linear(full, full)),
        ("relu7", nn.ReLU()),
        ("drop7", nn.Dropout(dropout)),
        ("full8", nn.Linear(full, classes)),
    ]
    return Classifier(_first(c1), nn.Sequential(OrderedDict(rest)))


def nin(classes: int = 10, width: float = 1.0, dropout: float = 0.5) -> Classifier:
    """The reduced Network in Network for (N, 3, H, W) images, 96 x 96 in the paper (section 4.3, Figure 5).

    From the text: mlpconv blocks (a k x k convolution and two 1x1 convolutions, each with ReLU), max pooling
    k=3 s=2 and dropout 0.5 between them, global average pooling at the end. Choice, since the figure's widths
    are lost: three blocks of 96, 128 and 128 maps (5x5, 5x5, 3x3), all times ``width``; the last 1x1
    convolution gives the class scores and has no ReLU.
    """
    c1, c2, c3 = _maps((96, 128, 128), width, classes)
    rest = [
        ("cccp1", nn.Conv2d(c1, c1, 1)),
        ("relu1b", nn.ReLU()),
        ("cccp2", nn.Conv2d(c1, c1, 1)),
        ("relu1c", nn.ReLU()),
        ("pool1", _pool()),
        ("drop1", nn.Dropout(dropout)),
        ("conv2", nn.Conv2d(c1, c2, 5, padding="same")),
        ("relu2a", nn.ReLU()),
        ("cccp3", nn.Conv2d(c2, c2, 1)),
        ("relu2b", nn.ReLU()),
        ("cccp4", nn.Conv2d(c2, c2, 1)),
        ("relu2c", nn.ReLU()),
        ("pool2", _pool()),
        ("drop2", nn.Dropout(dropout)),
        ("conv3", nn.Conv2d(c2, c3, 3, padding="same")),
        ("relu3a", nn.ReLU()),
        ("cccp5", nn.Conv2d(c3, c3, 1)),
        ("relu3b", nn.ReLU()),
        ("cccp6", nn.Conv2d(c3, classes, 1)),
        ("average", nn.AdaptiveAvgPool2d(1)),
        ("flat", nn.Flatten()),
    ]
    return Classifier(_first(c1), nn.Sequential(OrderedDict(rest)))


def vgg(classes: int = 10, width: float = 1.0, size: int = 96, dropout: float = 0.5) -> Classifier:
    """A small network in the manner of VGG-16, for (N, 3, size, size) images: not one of paper 1's.

    Blocks of 3x3 convolutions with ReLU (2, 2 and 3 of them, of 64, 128 and 256 maps times ``width``), each
    with max pooling k=2 s=2 behind it; full layers of 512 times ``width``, the same and ``classes``, with
    dropout. No normalisation of any kind. Paper 3 asks it what it asks VGG-16.
    """
    layers: list[nn.Module] = []
    given, side = 3, size
    check_count("size", size)
    *blocks, full = _maps((64, 128, 256, 512), width, classes)
    for maps, convolutions in zip(blocks, (2, 2, 3), strict=True):
        for _ in range(convolutions):
            layers += [nn.Conv2d(given, maps, 3, padding="same"), nn.ReLU()]
            given = maps
        layers.append(nn.MaxPool2d(2))
        side //= 2
    layers += [nn.Flatten(), nn.Linear(given * side * side, full), nn.ReLU(), nn.Dropout(dropout)]
    layers += [nn.Linear(full, full), nn.ReLU(), nn.Dropout(dropout), nn.Linear(full, classes)]
    return Classifier(nn.Sequential(*layers[:2]), nn.Sequential(*layers[2:]))


# By name, each built from (classes, width, size, dropout).
NETWORKS: dict[str, Callable[[int, float, int, float], Classifier]] = {
    "alexnet": alexnet,
    "nin": lambda classes, width, size, dropout: nin(classes, width, dropout),
}
BUILDERS = NETWORKS | {"vgg": vgg}
CONNECTIONS = {
    "first": "the first layer's maps times the average of saliency and white (the paper)",
    "raw": "the first layer's maps times the saliency itself",
    "input": "the normalised image times the average of saliency and white",
    "second": "the maps of the second spatial convolution times the average of saliency and white",
    "learned": "as first, with a saliency that a small branch learns from image and map",
}


def connected(plain: Classifier, connection: str = "first") -> SalMask:
    """A plain network with its mask where ``connection`` says, one of ``CONNECTIONS``, sharing its layers.

    "second" masks after the next convolution larger than 1x1 with its activation, in both networks at half
    the image's size (choice: the 1x1 convolutions of a NIN block are taken to belong to its first layer).
    Raises ValueError for an unknown connection, and for a network that lacks the parts.
    """
    if not all(isinstance(getattr(plain, part, None), nn.Module) for part in ("first", "rest")):
        raise ValueError(
            f"a {type(plain).__name__} has no parts for a mask between them: give Classifier(first, rest) "
            "with the first convolution and its activation, and everything after it"
        )
    if connection in ("first", "raw"):
        return SalMask(plain.first, plain.rest, average=connection == "first")
    if connection == "learned":
        return LearnedMask(plain.first, plain.rest)
    if connection == "input":  # the image has negative values, so that h must not be the ReLU
        return SalMask(nn.Identity(), plain, activation=nn.Identity())
    if connection == "second":
        layers = plain.rest if isinstance(plain.rest, nn.Sequential) else ()
        spatial = [isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1) for layer in layers]
        if True not in spatial:
            raise ValueError(
                '"second" needs a rest that is an nn.Sequential with a convolution above 1x1 in it'
            )
        end = spatial.index(True) + 2
        return SecondLayerMask(nn.Sequential(plain.first, plain.rest[:end]), plain.rest[end:])
    raise ValueError(f"connection must be one of {', '.join(CONNECTIONS)}, not {connection!r}")


def parameter_count(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in network.parameters())


def width_of_equal_size(name: str, width: float, size: int, classes: int = 10) -> float:
    """The smallest width whose plain network has at least the parameters of one with a learned mask."""
    build, wider = NETWORKS[name], width
    goal = parameter_count(connected(build(classes, width, size, 0.0), "learned"))
    while parameter_count(build(classes, wider, size, 0.0)) < goal:
        wider += width / 256
    return wider


def layer_table(network: nn.Module, size: int = 96) -> pd.DataFrame:
    """A row a layer, in the order of use, for one image (3, size, size): read from the network itself.

    Raises ValueError for what is no network, or takes no such image.
    Columns: layer (name), kind (class), kernel (side, 0 for none), maps, side (of the output), parameters.
    """
    check_network(network)
    check_count("size", size)
    rows = []

    def note(name: str, layer: nn.Module, output: torch.Tensor) -> None:
        kernel = getattr(layer, "kernel_size", 0)
        kernel = kernel[0] if isinstance(kernel, tuple) else kernel
        side = output.shape[2] if output.ndim == 4 else 1
        rows.append((name, type(layer).__name__, kernel, output.shape[1], side, parameter_count(layer)))

    leaves = [(name, layer) for name, layer in network.named_modules() if not list(layer.children())]
    handles = [
        layer.register_forward_hook(
            lambda layer, _, output, name=name: note(name.split(".")[-1], layer, output)
        )
        for name, layer in leaves
    ]
    weight = next(network.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            answer_of(network, torch.zeros(1, 3, size, size).to(weight))
    finally:
        for handle in handles:
            handle.remove()
    return pd.DataFrame(rows, columns=["layer", "kind", "kernel", "maps", "side", "parameters"])


def _maps(numbers: Sequence[int], width: float, classes: int) -> list[int]:
    """Numbers of maps times ``width``, at least one each; ValueError for a width or classes that are none."""
    check_number("width", width, 0, above=True)
    check_count("classes", classes)
    return [max(1, round(number * width)) for number in numbers]


def _first(maps: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, maps, 5, padding="same"), relu1=nn.ReLU()))


def _pool() -> nn.MaxPool2d:
    """Overlapping max pooling; Caffe rounds its output size up, torch down unless told."""
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)
