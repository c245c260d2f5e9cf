"""The shallow saliency network of Pan et al. (CVPR 2016) and its re-implementation (Tables I and II)."""

from dataclasses import dataclass

import torch
from torch import nn

INPUT_SIZE = 96
MAP_SIZE = 48


@dataclass(frozen=True)
class Sizes:
    """What sets one preset apart: maps of the three convolutions, 'same' padding, pools, and a ReLU before
    the maxout."""

    maps: tuple[int, int, int]
    same_padding: bool
    pools: tuple[int, int, int]
    relu_before_maxout: bool


PRESETS = {
    # Tables I and II; Table I prints 32 maps for the third convolution, but only 128 give 15,488 inputs.
    "replication": Sizes((32, 64, 128), same_padding=True, pools=(2, 3, 3), relu_before_maxout=False),
    # The original release: no padding, and its library puts a ReLU behind every full layer but the last.
    "pan2016": Sizes((32, 64, 64), same_padding=False, pools=(2, 2, 2), relu_before_maxout=True),
}


class ShallowSaliencyCNN(nn.Module):
    """Three convolutions, a full layer, maxout over adjacent pairs, a full layer: image in, saliency map out.

    Parts by name: ``conv1``, ``conv2``, ``conv3``, ``full``, ``output``.
    """

    def __init__(self, sizes: Sizes, hidden: int, width: float) -> None:
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

    @property
    def convolutions(self) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
        """The three convolutions in order."""
        return self.conv1, self.conv2, self.conv3

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the first full layer sees: (N, 15488) in the replication."""
        for conv, pool in zip(self.convolutions, self.pools, strict=True):
            images = pool(torch.relu(conv(images)))
        return images.flatten(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Saliency maps (N, 48, 48), unbounded, of images (N, 3, 96, 96) in [0, 1]."""
        hidden = self.before_maxout(self.full(self.features(images)))
        strongest = hidden.unflatten(1, (-1, 2)).amax(2)
        return self.output(strongest).unflatten(1, (MAP_SIZE, MAP_SIZE))


def shallow_saliency_cnn(
    preset: str = "replication", hidden: int | None = None, width: float = 1.0, seed: int = 0
) -> ShallowSaliencyCNN:
    """The network for 96x96 images and 48x48 maps, at the paper's start (``paper_start`` with ``seed``).

    ``preset`` "replication" has 76,778,816 parameters; "pan2016" has the sizes of the original release.
    ``hidden`` is the size of the first full layer before the maxout (None: 4,608) and ``width`` multiplies
    the maps of all convolutions. Raises ValueError for an unknown preset, or an odd or too small ``hidden``.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, not {preset!r}")
    hidden = 2 * MAP_SIZE * MAP_SIZE if hidden is None else hidden
    if hidden < 2 or hidden % 2:
        raise ValueError(f"hidden must be even and at least 2, for the maxout over pairs, not {hidden}")
    if width <= 0:
        raise ValueError(f"width must be above 0, not {width}")
    model = ShallowSaliencyCNN(PRESETS[preset], hidden, width)
    paper_start(model, seed)
    return model


@torch.no_grad()
def paper_start(model: ShallowSaliencyCNN, seed: int) -> None:
    """Weights from N(0, 0.01), 0.01 the standard deviation, and biases of 0.1, as the paper starts."""
    generator = torch.Generator().manual_seed(seed)
    for layer in (*model.convolutions, model.full, model.output):
        layer.weight.normal_(0, 0.01, generator=generator)
        layer.bias.fill_(0.1)


@torch.no_grad()
def mean_map_start(model: ShallowSaliencyCNN, mean_map: torch.Tensor, seed: int) -> None:
    """The declared variant: the untrained network answers nearly the mean map (48, 48) to every image.

    Inner weights after He et al. (2015) with zero biases, output weights from N(0, 0.0001), and the output's
    bias is the mean map, so that training begins where the paper's own start arrives after a long plateau.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in (*model.convolutions, model.full):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        layer.bias.zero_()
    model.output.weight.normal_(0, 0.0001, generator=generator)
    model.output.bias.copy_(mean_map.flatten())
