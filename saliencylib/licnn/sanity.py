"""Sanity checks for saliency maps (Adebayo et al., NeurIPS 2018): do maps change with the weights?"""

import copy
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from skimage.feature import hog
from torch import Tensor, nn

from saliencylib.inputs import as_tensor, check_network, check_seed, finite_map
from saliencylib.licnn.attribution import attribute
from saliencylib.study.keep import kept, side_by_side

SCHEMES = ("cascading", "independent")
SIMILARITIES = ("hog", "spearman", "spearman_signed")


def randomisation_stages(model: nn.Module) -> list[tuple[str, list[str]]]:
    """The parts that are randomised together, from the output down: (name, names of layers with weights).

    A layer of a plain network is a part of its own; layers inside a numbered block ("blocks.3.1.conv_dw") go
    with the block's first number ("blocks.3"), those of a plain sequence ("features.28") with theirs. A
    normalisation belongs to the layer before it. Weights of the network itself ("class_token"), whose layer
    has no name (""), are a part called after the first of them.
    """
    groups: dict[str, list[str]] = {}
    last = ""
    for name, module in model.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        parts = (name or next(own for own, _ in module.named_parameters(recurse=False))).split(".")
        numbers = [i for i, part in enumerate(parts) if part.isdigit()]
        group = ".".join(parts[: numbers[0] + 1]) if numbers else ".".join(parts)
        if _is_norm(module) and group not in groups and last:
            group = last
        groups.setdefault(group, []).append(name)
        last = group
    return list(reversed(groups.items()))


def randomized(model: nn.Module, scheme: str = "cascading", seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Copies of ``model`` with weights drawn anew, a (stage name, model) a stage, from the output down.

    "cascading" keeps what was randomised before, "independent" randomises one stage at a time. Each layer
    draws its initial weights again (``reset_parameters``; a BatchNorm's statistics go back to mean 0 and
    variance 1) from a random stream of its own, fixed by ``seed`` and its place. Choice: weights that this
    leaves as they were, such as those of a container, which knows no initial ones (a class token, a layer's
    scale), are shuffled: the same values in other places. A stage that changes nothing even so warns. The
    model that is passed in never changes. Raises ValueError for an unknown scheme.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown scheme {scheme!r}; valid schemes: {', '.join(SCHEMES)}")
    check_network(model)
    check_seed("seed", seed)
    return _randomised_stages(model, scheme, seed)


def _randomised_stages(model: nn.Module, scheme: str, seed: int) -> Iterator[tuple[str, nn.Module]]:
    place, current = 0, model
    for stage, names in randomisation_stages(model):
        changed = False
        with torch.inference_mode(False):  # in which no gradient could be taken of the copy
            current = copy.deepcopy(current if scheme == "cascading" else model)
            for name in names:
                with torch.random.fork_rng():
                    torch.manual_seed(int(np.random.SeedSequence([seed, place]).generate_state(1)[0]))
                    changed |= _draw_anew(current.get_submodule(name))
                place += 1
        if not changed:
            warnings.warn(f"randomising {stage} left all its weights as they were", stacklevel=2)
        yield stage, current


@torch.no_grad()
def _draw_anew(layer: nn.Module) -> bool:
    """Draw the layer's own weights anew; whether any is another now."""
    own = list(layer.parameters(recurse=False))
    before = [weight.clone() for weight in own]
    reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
    if reset:  # attention names it with an underscore
        reset()
    for weight, old in zip(own, before, strict=True):
        if weight.equal(old):
            weight.copy_(
                weight.flatten()[torch.randperm(weight.numel(), device=weight.device)].view_as(weight)
            )
    return any(not weight.equal(old) for weight, old in zip(own, before, strict=True))


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.LayerNorm)


# ------------------------------------------------------------------------------------------- similarity


def hog_similarity(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> float:
    """Pearson correlation of the HOG features of two maps (H, W), in [-1, 1]; 0 when either has none.

    Eight directions, cells of 16 x 16 pixels (smaller for maps under 64 pixels), one cell a block, on maps
    scaled to [0, 1], as in Adebayo et al.
    """
    a, b = _pair(a, b)
    if min(a.shape) < 2:
        raise ValueError(f"HOG features need maps of at least two pixels a side, not {a.shape}")
    return _pearson(_hog_features(a), _hog_features(b))


def spearman_similarity(a: Tensor | np.ndarray, b: Tensor | np.ndarray, absolute: bool = True) -> float:
    """Spearman's rank correlation of two maps (H, W), of their absolute values or as they are; 0 when either
    is constant."""
    return _pearson(*(rankdata(np.abs(m) if absolute else m, axis=None) for m in _pair(a, b)))


def class_similarity(maps: Tensor) -> np.ndarray:
    """How alike the maps of an image's classes are: mean Pearson correlation over all pairs of maps
    (N, K, H, W) -> (N,); a constant map correlates with none. Raises ValueError for other shapes, and for
    fewer than two maps an image."""
    maps = as_tensor(maps)
    if maps.ndim != 4 or maps.shape[1] < 2:
        raise ValueError(f"need maps (N, K, H, W) of at least two classes, not shape {tuple(maps.shape)}")
    flat = maps.flatten(2).double()
    varied = flat.amin(2, keepdim=True) < flat.amax(2, keepdim=True)  # exact, where a deviation is rounded
    flat = torch.nn.functional.normalize((flat - flat.mean(2, keepdim=True)) * varied, dim=2)
    correlation, k = flat @ flat.transpose(1, 2), flat.shape[1]
    among_others = correlation.sum((1, 2)) - correlation.diagonal(dim1=1, dim2=2).sum(1)
    return (among_others / (k * (k - 1))).cpu().numpy()


def _pair(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two maps of one shape (H, W) in double precision."""
    a, b = finite_map(a), finite_map(b)
    if a.shape != b.shape:
        raise ValueError(f"maps of different shapes: {a.shape} and {b.shape}")
    return a.astype(np.float64), b.astype(np.float64)


def _hog_features(values: np.ndarray) -> np.ndarray:
    span, cell = np.ptp(values), max(2, min(16, min(values.shape) // 4))
    options = {"orientations": 8, "pixels_per_cell": (cell, cell), "cells_per_block": (1, 1)}
    return hog((values - values.min()) / (span if span > 0 else 1), **options)


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 1e-12 else 0.0


# ------------------------------------------------------------------------------------------- curves


@kept("randomisation", table=True)
def randomisation_curves(
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    methods: Sequence[str],
    scheme: str = "cascading",
    seeds: Sequence[int] = (0,),
    batch_size: int | None = None,
    stages: int | None = None,
) -> pd.DataFrame:
    """Similarity of maps before and after randomisation: a row a method, seed, stage and image.

    ``stages`` is how many are looked at, evenly spaced, the first and the last among them; None: all.
    Maps are signed sums over colour channels (LICNN and Grad-CAM have no negative values). Columns: method,
    seed, stage, image, hog (of absolute values), spearman (of absolute values), spearman_signed. Each seed is
    kept when it is finished.
    """
    parts = [name for name, _ in randomisation_stages(model)]
    places = np.linspace(0, len(parts) - 1, min(stages or len(parts), len(parts))).round().astype(int)
    names = [parts[place] for place in places]
    jobs = [(model, images, target, list(methods), scheme, seed, names, batch_size) for seed in seeds]
    found = side_by_side(_similarities_of_seed, jobs, next(model.parameters()).device)
    index = pd.MultiIndex.from_product(
        [methods, seeds, names, range(len(images))], names=["method", "seed", "stage", "image"]
    )
    values = np.stack(found, 1)  # method, seed, stage, image, similarity
    return pd.DataFrame(values.reshape(-1, 3), index=index, columns=list(SIMILARITIES)).reset_index()


@kept("randomisation")
def _similarities_of_seed(
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    methods: list[str],
    scheme: str,
    seed: int,
    stages: list[str],
    batch_size: int | None,
) -> np.ndarray:
    """Similarities (methods, stages, images, 3) for one seed, at the stages named."""
    options = {"batch_size": batch_size, "signed": True}
    originals = [_described(attribute(method, model, images, target, **options)) for method in methods]
    rows = []
    for stage, changed in randomized(model, scheme, seed):
        if stage not in stages:
            continue
        found = [_described(attribute(method, changed, images, target, **options)) for method in methods]
        rows.append([_similarities(a, b) for a, b in zip(originals, found, strict=True)])
    return np.array(rows).swapaxes(0, 1)


_Described = tuple[np.ndarray, np.ndarray, np.ndarray]


def _similarities(before: Sequence[_Described], after: Sequence[_Described]) -> list[list[float]]:
    return [
        [_pearson(a, b) for a, b in zip(one, other, strict=True)]
        for one, other in zip(before, after, strict=True)
    ]


def _described(maps: Tensor) -> list[_Described]:
    """What each map (N, H, W) is compared by, one for each of ``SIMILARITIES``."""
    found = []
    for values in maps.cpu().double().numpy():
        ranks = rankdata(np.abs(values), axis=None)
        signed = rankdata(values, axis=None) if values.min() < 0 else ranks
        found.append((_hog_features(np.abs(values)), ranks, signed))
    return found
