"""Sanity checks for saliency maps (Adebayo et al., NeurIPS 2018): do maps change with the weights?"""

import copy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from skimage.feature import hog
from torch import Tensor, nn

from saliencylib.licnn.method import attribution, classifiers, method as licnn
from saliencylib.study import cache
from saliencylib.study.parallel import side_by_side

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


def class_similarity(maps: Tensor) -> np.ndarray:
    """How alike the maps of an image's classes are: mean Pearson correlation over all pairs of maps
    (N, K, H, W) -> (N,)."""
    flat = maps.flatten(2).double()
    flat = torch.nn.functional.normalize(flat - flat.mean(2, keepdim=True), dim=2)
    k = flat.shape[1]
    correlation = flat @ flat.transpose(1, 2)
    return ((correlation.sum((1, 2)) - k) / (k * (k - 1))).cpu().numpy()


def curves(
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    methods: Sequence[str],
    scheme: str = "cascading",
    seeds: Sequence[int] = (0,),
    draw: str = "fresh",
    batch_size: int | None = None,
    cache_dir: Path | None = None,
) -> pd.DataFrame:
    """Similarity of maps before and after randomisation: a row a method, seed, stage and image.

    Maps are signed sums over colour channels (LICNN and Grad-CAM have no negative values). Columns: method,
    seed, stage, image, hog (of absolute values), spearman (of absolute values), spearman_signed. Each seed is
    kept in ``cache_dir`` when it is finished.
    """
    weights = classifiers.fingerprint(model)
    jobs = [
        (model, weights, images, target, tuple(methods), scheme, seed, draw, batch_size, cache_dir)
        for seed in seeds
    ]
    found = side_by_side(_curve, jobs, next(model.parameters()).device)
    names = [name for name, _ in stages(model)]
    index = pd.MultiIndex.from_product(
        [methods, seeds, names, range(len(images))], names=["method", "seed", "stage", "image"]
    )
    values = np.stack(found, 1)  # method, seed, stage, image, similarity
    columns = ["hog", "spearman", "spearman_signed"]
    return pd.DataFrame(values.reshape(-1, 3), index=index, columns=columns).reset_index()


def _curve(
    model: nn.Module,
    weights: str,
    images: Tensor,
    target: Tensor,
    methods: tuple[str, ...],
    scheme: str,
    seed: int,
    draw: str,
    batch_size: int | None,
    cache_dir: Path | None,
) -> np.ndarray:
    """Similarities (methods, stages, images, 3) for one seed."""
    own = (sys.modules[__name__], attribution, licnn)
    pixels, classes = images.cpu().numpy(), [int(t) for t in target]
    name = cache.key(*own, pixels, classes, weights, methods, scheme, seed, draw)
    path = cache_dir / f"{name}.npz" if cache_dir else None
    kept = cache.load_arrays(path) if path else None
    if kept is None:
        options = {"batch_size": batch_size, "signed": True}
        originals = [attribution.attribute(m, model, images, target, **options) for m in methods]
        rows = []
        for _, changed in randomized(model, scheme, seed, draw):
            found = [attribution.attribute(m, changed, images, target, **options) for m in methods]
            rows.append([_similarities(a, b) for a, b in zip(originals, found, strict=True)])
        kept = {"values": np.array(rows).swapaxes(0, 1)}
        if path:
            cache.save_arrays(path, **kept)
    return kept["values"]


def _similarities(a: Tensor, b: Tensor) -> list[tuple[float, float, float]]:
    return [
        (
            hog_similarity(p.abs(), q.abs()),
            spearman_similarity(p, q),
            spearman_similarity(p, q, absolute=False),
        )
        for p, q in zip(a.cpu(), b.cpu(), strict=True)
    ]


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
