"""The shallow saliency network of Pan et al. (CVPR 2016) and its re-implementation (Tables I and II).

A loss and the way in which the network's answer is read as a map belong together: MSE and L1 take the answer
as the map itself, binary cross-entropy as log odds, KL divergence and Bhattacharyya distance as the logarithm
of a distribution over the pixels (softmax, as in Jetley et al., CVPR 2016). So each has a function that turns
answers into maps, and its inverse, by which every loss can start at the same mean map.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from saliencylib.inputs import check_count, check_number, check_seed, network_input

INPUT_SIZE = 96
MAP_SIZE = 48
PRIOR_SIZE = 6
CPU_PART = 8  # images whose maps still fit a CPU's cache; the convolutions then take two thirds of the time
FLOOR = 1e-3  # the smallest value of a map whose logarithm is taken, a thousandth of the peak


@dataclass(frozen=True)
class LayerSizes:
    """What sets one preset apart: maps of the three convolutions, 'same' padding, pools, and a ReLU before
    the maxout."""

    maps: tuple[int, int, int]
    same_padding: bool
    pools: tuple[int, int, int]
    relu_before_maxout: bool


LAYER_SIZES = {
    # Tables I and II; Table I prints 32 maps for the third convolution, but only 128 give 15,488 inputs.
    "replication": LayerSizes((32, 64, 128), same_padding=True, pools=(2, 3, 3), relu_before_maxout=False),
    # The replication without its padding, with the pools that then leave 10x10 positions (section VI.C).
    "10x10": LayerSizes((32, 64, 128), same_padding=False, pools=(2, 2, 2), relu_before_maxout=False),
    # The original release: no padding, and its library puts a ReLU behind every full layer but the last.
    "pan2016": LayerSizes((32, 64, 64), same_padding=False, pools=(2, 2, 2), relu_before_maxout=True),
}


class ShallowSaliencyCNN(nn.Module):
    """Three convolutions, a full layer, maxout over adjacent pairs, a full layer: image in, saliency map out.

    Parts by name: ``conv1``, ``conv2``, ``conv3``, ``full``, ``output``. ``prior`` is None, or, as a learned
    prior, a coarse map (6, 6) that is enlarged to the output's size and whose sum with 1 multiplies it (after
    Cornia et al., A Deep Multi-Level Network for Saliency Prediction, ICPR 2016).
    """

    def __init__(self, sizes: LayerSizes, hidden: int, width: float, prior: bool) -> None:
        super().__init__()
        one, two, three = (max(1, round(count * width)) for count in sizes.maps)
        self.conv1 = nn.utils.skip_init(nn.Conv2d, 3, one, 5, padding=2 * sizes.same_padding)
        self.conv2 = nn.utils.skip_init(nn.Conv2d, one, two, 3, padding=1 * sizes.same_padding)
        self.conv3 = nn.utils.skip_init(nn.Conv2d, two, three, 3, padding=1 * sizes.same_padding)
        self.pools = nn.ModuleList(nn.MaxPool2d(size, stride=2) for size in sizes.pools)
        self.before_maxout = nn.ReLU() if sizes.relu_before_maxout else nn.Identity()
        side = INPUT_SIZE
        for conv, pool in zip(self.convolutions, self.pools, strict=True):
            side += 2 * conv.padding[0] - conv.kernel_size[0] + 1
            side = (side - pool.kernel_size) // 2 + 1
        self.full = nn.utils.skip_init(nn.Linear, three * side * side, hidden)
        self.output = nn.utils.skip_init(nn.Linear, hidden // 2, MAP_SIZE * MAP_SIZE)
        self.prior = nn.Parameter(torch.zeros(PRIOR_SIZE, PRIOR_SIZE)) if prior else None

    @property
    def convolutions(self) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
        """The three convolutions in order."""
        return self.conv1, self.conv2, self.conv3

    def features(self, images: Tensor) -> Tensor:
        """What the first full layer sees: (N, 15488) in the replication.

        The ReLU follows the pooling, which gives the same values and gradients for a quarter of the work.
        """
        parts = images.split(CPU_PART) if images.device.type == "cpu" else [images]
        return torch.cat([self._features(part) for part in parts])

    def _features(self, images: Tensor) -> Tensor:
        for conv, pool in zip(self.convolutions, self.pools, strict=True):
            images = torch.relu_(pool(conv(images)))
        return images.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Saliency maps (N, 48, 48), unbounded, of images (N, 3, 96, 96) in [0, 1].

        Images have any form that ``inputs.network_input`` reads; ValueError as there, and for another size.
        """
        images = network_input(images, self)
        if images.shape[1:] != (3, INPUT_SIZE, INPUT_SIZE):
            raise ValueError(
                f"need images (N, 3, {INPUT_SIZE}, {INPUT_SIZE}) in [0, 1], not shape {tuple(images.shape)}: "
                "stretch them to that size"
            )
        hidden = self.before_maxout(self.full(self.features(images)))
        strongest = hidden.unflatten(1, (-1, 2)).amax(2)
        maps = self.output(strongest).unflatten(1, (MAP_SIZE, MAP_SIZE))
        if self.prior is None:
            return maps
        size = (MAP_SIZE, MAP_SIZE)
        prior = functional.interpolate(self.prior[None, None], size, mode="bilinear", align_corners=True)
        return maps * (1 + prior[0])


def shallow_saliency_cnn(
    preset: str = "replication",
    hidden: int | None = None,
    width: float = 1.0,
    seed: int = 0,
    prior: bool = False,
) -> ShallowSaliencyCNN:
    """The network for 96x96 images and 48x48 maps, at the paper's start (``paper_start`` with ``seed``).

    ``preset`` "replication" has 76,778,816 parameters; "pan2016" has the sizes of the original release, and
    "10x10" is the replication without padding. ``hidden`` is the size of the first full layer before the
    maxout (None: 4,608), ``width`` multiplies the maps of all convolutions, and ``prior`` adds a learned
    prior, which changes nothing at the start. Raises ValueError for an unknown preset, or an odd or too small
    ``hidden``.
    """
    if preset not in tuple(LAYER_SIZES):
        raise ValueError(f"preset must be one of {', '.join(LAYER_SIZES)}, not {preset!r}")
    hidden = 2 * MAP_SIZE * MAP_SIZE if hidden is None else hidden
    check_count("hidden", hidden, 2)
    if hidden % 2:
        raise ValueError(f"hidden must be even and at least 2, for the maxout over pairs, not {hidden}")
    check_number("width", width, 0, above=True)
    check_seed("seed", seed)
    model = ShallowSaliencyCNN(LAYER_SIZES[preset], hidden, width, prior)
    paper_start(model, seed)
    return model


@torch.no_grad()
def paper_start(model: ShallowSaliencyCNN, seed: int) -> None:
    """Weights from N(0, 0.01), 0.01 the standard deviation, and biases of 0.1, as the paper starts."""
    generator = torch.Generator().manual_seed(seed)
    for layer in (*model.convolutions, model.full, model.output):
        layer.weight.copy_(_like_on_cpu(layer.weight).normal_(0, 0.01, generator=generator))
        layer.bias.fill_(0.1)


@torch.no_grad()
def he_start(model: ShallowSaliencyCNN, seed: int) -> None:
    """Weights after He et al. (2015) in every layer and biases of zero: the usual start today."""
    generator = torch.Generator().manual_seed(seed)
    for layer in (*model.convolutions, model.full, model.output):
        drawn = _like_on_cpu(layer.weight)
        layer.weight.copy_(nn.init.kaiming_normal_(drawn, nonlinearity="relu", generator=generator))
        layer.bias.zero_()


@torch.no_grad()
def mean_map_start(model: ShallowSaliencyCNN, mean_answer: Tensor, seed: int) -> None:
    """The declared variant: the untrained network answers nearly ``mean_answer`` (48, 48) to every image.

    Inner weights and biases are those of ``he_start``, output weights come from N(0, 0.0001), and the
    output's bias is that answer, so that training begins where the paper's own start arrives after a long
    plateau.
    """
    he_start(model, seed)
    generator = torch.Generator().manual_seed(seed)
    model.output.weight.copy_(_like_on_cpu(model.output.weight).normal_(0, 0.0001, generator=generator))
    model.output.bias.copy_(mean_answer.flatten())


def _like_on_cpu(weight: Tensor) -> Tensor:
    """Room for a weight's values on the CPU, where a seed draws the same ones for every device."""
    return torch.empty(weight.shape, dtype=weight.dtype)


@dataclass(frozen=True)
class GazeLoss:
    """``of(answers, targets)`` is the loss, a mean over images; ``maps(answers)`` reads answers as maps in
    [0, 1]; ``answers(maps)`` is the inverse of that. All take and give (N, 48, 48)."""

    name: str
    of: Callable[[Tensor, Tensor], Tensor]
    maps: Callable[[Tensor], Tensor]
    answers: Callable[[Tensor], Tensor]


def kl_divergence(answers: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence in nats of the answers' distributions from the targets', mean of images."""
    truth = distributions(targets)
    return functional.kl_div(answers.flatten(1).log_softmax(1), truth, reduction="batchmean")


def bhattacharyya_distance(answers: Tensor, targets: Tensor) -> Tensor:
    """Minus the logarithm of the overlap sum(sqrt(p q)) of both distributions, mean of images."""
    logs = answers.flatten(1).log_softmax(1)
    overlap = (distributions(targets).sqrt() * (logs / 2).exp()).sum(1)
    return -overlap.log().mean()


def distributions(maps: Tensor) -> Tensor:
    """Maps (N, H, W) of values above zero as distributions (N, H * W) of sum 1; zeros become uniform."""
    flat = maps.flatten(1) + 1e-12
    return flat / flat.sum(1, keepdim=True)


_unit = (lambda answers: answers.clamp(0, 1), lambda maps: maps)
_logarithm = (
    lambda answers: (answers - answers.amax((1, 2), keepdim=True)).exp(),
    lambda maps: maps.clamp(min=FLOOR).log(),
)
GAZE_LOSSES: Mapping[str, GazeLoss] = {
    "mse": GazeLoss("MSE", functional.mse_loss, *_unit),
    "l1": GazeLoss("L1", functional.l1_loss, *_unit),
    "kl": GazeLoss("KL divergence", kl_divergence, *_logarithm),
    "bhattacharyya": GazeLoss("Bhattacharyya", bhattacharyya_distance, *_logarithm),
    "bce": GazeLoss(
        "cross-entropy",
        functional.binary_cross_entropy_with_logits,
        torch.sigmoid,
        lambda maps: maps.logit(FLOOR),
    ),
}
