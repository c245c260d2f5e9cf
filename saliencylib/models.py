"""The networks of the study: Sal-Mask with its two classifiers; the others come from their own modules."""

import math
from collections import OrderedDict

import torch
from torch import nn

from saliencylib.classifiers import load_classifier as load_classifier
from saliencylib.shallow_cnn import shallow_saliency_cnn as shallow_saliency_cnn


class SalMask(nn.Module):
    """A network whose first feature maps are multiplied by a saliency map (Sal-Mask, equations 1 to 8).

    ``first`` is the first convolution with its activation and keeps the image's height and width; ``rest`` is
    everything after it. With y = first(images), the masked maps are ey = ReLU(y * s) for every channel; the
    saliency map gets no gradient. With ``average`` the mask is s = (saliency + 1) / 2, in [0.5, 1], the
    average of saliency and a white image (section 2.3); without it the raw saliency.
    """

    def __init__(self, first: nn.Module, rest: nn.Module, average: bool = True) -> None:
        super().__init__()
        self.first, self.rest, self.average = first, rest, average

    def forward(self, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
        """Class scores (N, classes) of images (N, 3, H, W) with saliency maps (N, H, W) in [0, 1].

        Raises ValueError when a map's size is not that of the first layer's feature maps.
        """
        features = self.first(images)
        if saliency.shape != (len(features), *features.shape[2:]):
            raise ValueError(
                f"saliency of shape {tuple(saliency.shape)} does not fit feature maps of shape "
                f"{tuple(features.shape)}: it must be (N, H, W) with the same N, H and W"
            )
        mask = saliency.detach()
        if self.average:
            mask = (mask + 1) / 2
        return self.rest(torch.relu(features * mask.unsqueeze(1)))


class Classifier(nn.Module):
    """A plain network in the two parts that ``SalMask`` needs: ``first`` and ``rest``."""

    def __init__(self, first: nn.Module, rest: nn.Module) -> None:
        super().__init__()
        self.first, self.rest = first, rest

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores (N, classes) of images (N, 3, 96, 96)."""
        return self.rest(self.first(images))


def local_response_norm() -> nn.LocalResponseNorm:
    """b = a / (1 + alpha * sum of a^2 over 3 neighbouring maps)^0.75 with alpha = 0.00005 (equation 9).

    torch divides alpha by the number of neighbours, the paper does not; so torch is given 3 alpha.
    """
    return nn.LocalResponseNorm(size=3, alpha=3 * 0.00005, beta=0.75, k=1.0)


def alexnet(classes: int = 10, width: float = 1.0, size: int = 96, dropout: float = 0.5) -> Classifier:
    """The reduced AlexNet for (N, 3, size, size) images, 96 in the paper (section 4.2, Figure 4).

    From the text: convolutions of stride 1 with 'same' padding, ReLU after every convolution and full layer
    but the last, max pooling k=3 s=2, dropout 0.5, local response normalisation. Choice, since the figure's
    widths are lost: five convolutions of 64, 128, 192, 192, 128 maps (5x5, 5x5, then 3x3) and full layers of
    512 and 512, all times ``width``. Choice: pooling comes before normalisation, as in CaffeNet, Caffe's own
    AlexNet; normalising the four times smaller maps also saves most of a step's time on a CPU.
    """
    c1, c2, c3, c4, c5, full = (max(1, round(n * width)) for n in (64, 128, 192, 192, 128, 512))
    end = size
    for _ in range(3):
        end = math.ceil((end - 1) / 2)
    rest = [
        ("pool1", _pool()),
        ("norm1", local_response_norm()),
        ("conv2", nn.Conv2d(c1, c2, 5, padding="same")),
        ("relu2", nn.ReLU()),
        ("pool2", _pool()),
        ("norm2", local_response_norm()),
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
    c1, c2, c3 = (max(1, round(n * width)) for n in (96, 128, 128))
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


def _first(maps: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, maps, 5, padding="same"), relu1=nn.ReLU()))


def _pool() -> nn.MaxPool2d:
    """Overlapping max pooling; Caffe rounds its output size up, torch down unless told."""
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)
