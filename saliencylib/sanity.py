"""Sanity checks for saliency maps (Adebayo et al., NeurIPS 2018): do maps change with the weights?"""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from scipy.stats import rankdata
from skimage.feature import hog
from torch import Tensor, nn

SCHEMES = ("cascading", "independent")
DRAWS = ("fresh", "permutation")
Maps = Tensor | np.ndarray


def stages(model: nn.Module) -> list[tuple[str, list[str]]]:
    """The parts that are randomised together, from the output down: (name, names of layers with weights).

    A layer of a plain network is a part of its own; layers inside a numbered block ("blocks.3.1.conv_dw") go
    with the block's first number ("blocks.3"), those of a plain sequence ("features.28") with theirs. A
    normalisation belongs to the layer before it.
    """
    groups: dict[str, list[str]] = {}
    last = ""
    for name, module in model.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        parts = name.split(".")
        numbers = [i for i, part in enumerate(parts) if part.isdigit()]
        group = ".".join(parts[: numbers[0] + 1]) if numbers else name
        if _is_norm(module) and group not in groups and last:
            group = last
        groups.setdefault(group, []).append(name)
        last = group
    return list(reversed(groups.items()))


def randomized(
    model: nn.Module, scheme: str = "cascading", seed: int = 0, draw: str = "fresh"
) -> Iterator[tuple[str, nn.Module]]:
    """Copies of ``model`` with weights drawn anew, a (stage name, model) a stage, from the output down.

    "cascading" keeps what was randomised before, "independent" randomises one stage at a time. "fresh" draws
    each layer's initial weights again (``reset_parameters``; a BatchNorm's statistics go back to mean 0 and
    variance 1), "permutation" shuffles each weight tensor and each BatchNorm's channels, so that the values
    keep their distribution. Every layer has its own random stream, fixed by ``seed`` and its place. The
    model that is passed in never changes. Raises ValueError for an unknown scheme or draw.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown scheme {scheme!r}; valid schemes: {', '.join(SCHEMES)}")
    if draw not in DRAWS:
        raise ValueError(f"unknown draw {draw!r}; valid draws: {', '.join(DRAWS)}")
    return _stages_of(model, scheme, seed, draw)


def _stages_of(model: nn.Module, scheme: str, seed: int, draw: str) -> Iterator[tuple[str, nn.Module]]:
    place, current = 0, model
    for stage, names in stages(model):
        current = copy.deepcopy(current if scheme == "cascading" else model)
        for name in names:
            _randomise(current.get_submodule(name), np.random.SeedSequence([seed, place]), draw)
            place += 1
        yield stage, current


@torch.no_grad()
def _randomise(module: nn.Module, sequence: np.random.SeedSequence, draw: str) -> None:
    number = int(sequence.generate_state(1)[0])
    if draw == "fresh":
        with torch.random.fork_rng():
            torch.manual_seed(number)
            module.reset_parameters()
        return
    generator = torch.Generator().manual_seed(number)
    tensors = [tensor for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))]
    order = torch.randperm(len(tensors[0]), generator=generator) if _is_norm(module) else None
    for tensor in tensors:
        if tensor.ndim:  # BatchNorm counts its batches in a scalar
            mixed = torch.randperm(tensor.numel(), generator=generator) if order is None else order
            tensor.copy_(tensor.flatten()[mixed.to(tensor.device)].view_as(tensor))


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.LayerNorm)


def hog_similarity(a: Maps, b: Maps) -> float:
    """Pearson correlation of the HOG features of two maps (H, W), in [-1, 1]; 0 when either has none.

    Eight directions, cells of 16 x 16 pixels (smaller for maps under 64 pixels), one cell a block, on maps
    scaled to [0, 1], as in Adebayo et al.
    """
    a, b = _unit_range(_array(a)), _unit_range(_array(b))
    _check_shapes(a, b)
    cell = max(2, min(16, min(a.shape) // 4))
    options = {"orientations": 8, "pixels_per_cell": (cell, cell), "cells_per_block": (1, 1)}
    return _pearson(hog(a, **options), hog(b, **options))


def spearman_similarity(a: Maps, b: Maps, absolute: bool = True) -> float:
    """Spearman's rank correlation of two maps (H, W), of their absolute values or as they are; 0 when either
    is constant."""
    a, b = _array(a), _array(b)
    _check_shapes(a, b)
    if absolute:
        a, b = np.abs(a), np.abs(b)
    return _pearson(rankdata(a, axis=None), rankdata(b, axis=None))


def _array(values: Maps) -> np.ndarray:
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if values.ndim != 2:
        raise ValueError(f"need a map (H, W), not an array of shape {values.shape}")
    return values.astype(np.float64)


def _check_shapes(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise ValueError(f"maps of different shapes: {a.shape} and {b.shape}")


def _unit_range(values: np.ndarray) -> np.ndarray:
    span = np.ptp(values)
    return (values - values.min()) / (span if span > 0 else 1)


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 1e-12 else 0.0
