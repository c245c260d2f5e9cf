"""The losses of paper 2: its MSE and L1, and those that it names as future work, each with its own reading.

A loss and the way in which the network's answer is read as a map belong together: MSE and L1 take the answer
as the map itself, binary cross-entropy as log odds, KL divergence and Bhattacharyya distance as the logarithm
of a distribution over the pixels (softmax, as in Jetley et al., CVPR 2016). So each has a function that turns
answers into maps, and its inverse, by which every loss can start at the same mean map.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

FLOOR = 1e-3  # the smallest value of a map whose logarithm is taken, a thousandth of the peak


@dataclass(frozen=True)
class Loss:
    """``of(answers, targets)`` is the loss, a mean over images; ``maps(answers)`` reads answers as maps in
    [0, 1]; ``answers(maps)`` is the inverse of that. All take and give (N, 48, 48)."""

    name: str
    of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    maps: Callable[[torch.Tensor], torch.Tensor]
    answers: Callable[[torch.Tensor], torch.Tensor]


def kl_divergence(answers: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence in nats of the answers' distributions from the targets', mean of images."""
    truth = distributions(targets)
    return functional.kl_div(answers.flatten(1).log_softmax(1), truth, reduction="batchmean")


def bhattacharyya_distance(answers: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Minus the logarithm of the overlap sum(sqrt(p q)) of both distributions, mean of images."""
    logs = answers.flatten(1).log_softmax(1)
    overlap = (distributions(targets).sqrt() * (logs / 2).exp()).sum(1)
    return -overlap.log().mean()


def distributions(maps: torch.Tensor) -> torch.Tensor:
    """Maps (N, H, W) of values above zero as distributions (N, H * W) of sum 1; zeros become uniform."""
    flat = maps.flatten(1) + 1e-12
    return flat / flat.sum(1, keepdim=True)


def _of_peak_one(answers: torch.Tensor) -> torch.Tensor:
    return (answers - answers.amax((1, 2), keepdim=True)).exp()


def _unit(answers: torch.Tensor) -> torch.Tensor:
    return answers.clamp(0, 1)


def _same(maps: torch.Tensor) -> torch.Tensor:
    return maps


def _log(maps: torch.Tensor) -> torch.Tensor:
    return maps.clamp(min=FLOOR).log()


def _log_odds(maps: torch.Tensor) -> torch.Tensor:
    return maps.logit(FLOOR)


LOSSES: Mapping[str, Loss] = {
    "mse": Loss("MSE", functional.mse_loss, _unit, _same),
    "l1": Loss("L1", functional.l1_loss, _unit, _same),
    "kl": Loss("KL divergence", kl_divergence, _of_peak_one, _log),
    "bhattacharyya": Loss("Bhattacharyya", bhattacharyya_distance, _of_peak_one, _log),
    "bce": Loss("cross-entropy", functional.binary_cross_entropy_with_logits, torch.sigmoid, _log_odds),
}
