"""The blur experiment: what a classifier still recognises when background or object are blurred.

Pillow's Gaussian blur of radius 2, 5 and 10 on everything outside ("background") or inside ("object") the
region that a map marks, on the crop that the network sees. The whole crop is blurred and then put together
along the region's border.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from torch import nn

from saliencylib import cache, classifiers, licnn
from saliencylib.data import PhotoSet

RADII = (2, 5, 10)
SIDES = ("background", "object")
CONTROLS = ("random region", "centre Gaussian")


def region(saliency: np.ndarray, rule: str | float = "printed") -> np.ndarray:
    """The object's region in a map (H, W), bool.

    "printed" is the paper's map > (max - min) / 5; "offset" is map > min + (max - min) / 5, which does not
    change when a constant is added to the map; a number between 0 and 1 takes that share of the picture, the
    highest values first (equal values in reading order). Raises ValueError for any other rule.
    """
    saliency = np.asarray(saliency)
    low, high = saliency.min(), saliency.max()
    if rule == "printed":
        return saliency > (high - low) / 5
    if rule == "offset":
        return saliency > low + (high - low) / 5
    if isinstance(rule, float) and 0 < rule < 1:
        return _highest(saliency, round(rule * saliency.size))
    raise ValueError(f"the rule must be 'printed', 'offset' or a share between 0 and 1, not {rule!r}")


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    mask = np.zeros(values.size, bool)
    mask[np.argsort(-values, axis=None, kind="stable")[:count]] = True
    return mask.reshape(values.shape)


def control_region(kind: str, like: np.ndarray, seed: int = 0) -> np.ndarray:
    """A region with exactly the area of ``like`` (H, W) that no classifier chose.

    "random region" takes the highest values of smoothed noise (sigma an eighth of the side), "centre
    Gaussian" the pixels nearest to the centre. Raises ValueError for another kind.
    """
    if kind == "random region":
        noise = np.random.default_rng(seed).standard_normal(like.shape)
        return _highest(gaussian_filter(noise, min(like.shape) / 8, mode="wrap"), int(like.sum()))
    if kind == "centre Gaussian":
        y, x = (np.linspace(-1, 1, side) ** 2 for side in like.shape)
        return _highest(-(y[:, None] + x[None]), int(like.sum()))
    raise ValueError(f"unknown control {kind!r}; valid controls: {', '.join(CONTROLS)}")


def blurred(picture: Image.Image, mask: np.ndarray, radius: float, where: str = "background") -> Image.Image:
    """The RGB picture with a Gaussian blur outside (``where="background"``) or inside ("object") the mask.

    The mask is bool (H, W) of the picture's size. Raises ValueError for another ``where`` or size.
    """
    return _composed(picture, picture.filter(ImageFilter.GaussianBlur(radius)), mask, where)


def _composed(picture: Image.Image, soft: Image.Image, mask: np.ndarray, where: str) -> Image.Image:
    if where not in SIDES:
        raise ValueError(f"where must be one of {', '.join(SIDES)}, not {where!r}")
    if mask.shape != (picture.height, picture.width):
        raise ValueError(f"a mask of shape {mask.shape} for a picture of {picture.height} x {picture.width}")
    sharp = mask if where == "background" else ~mask
    return Image.composite(picture, soft, Image.fromarray(sharp.astype(np.uint8) * 255))


def top_classes(
    model: nn.Module, pictures: Sequence[Image.Image], k: int = 5, batch_size: int = 16
) -> np.ndarray:
    """The k likeliest classes, best first, int64 (N, k), of crops as ``model.preprocess.cut`` makes them."""
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(pictures), batch_size):
        batch = torch.stack([model.preprocess.normalise(p) for p in pictures[start : start + batch_size]])
        with torch.inference_mode():
            logits = model(batch.to(device).contiguous(memory_format=torch.channels_last))
        found.append(logits.topk(k).indices.cpu().numpy())
    return np.concatenate(found)


def top_classes_of(
    model: nn.Module, photos: PhotoSet, cache_dir: Path | None = None, chunk: int = 64
) -> np.ndarray:
    """The five likeliest classes of every photograph, int64 (N, 5); kept in ``cache_dir`` chunk by chunk."""
    weights = classifiers.fingerprint(model)
    jobs = [joblib.delayed(_classify)(model, weights, part, cache_dir) for part in _chunks(photos, chunk)]
    return np.concatenate([np.empty((0, 5), np.int64), *joblib.Parallel()(jobs)])


def _classify(model: nn.Module, weights: str, photos: PhotoSet, cache_dir: Path | None) -> np.ndarray:
    pictures = _cut(model, photos)
    path = _entry(cache_dir, pictures, weights)
    kept = cache.load_arrays(path) if path else None
    if kept is None:
        kept = {"top": top_classes(model, pictures)}
        if path:
            cache.save_arrays(path, **kept)
    return kept["top"]


def correct(top: np.ndarray, accepted: Sequence[Sequence[int]], k: int) -> np.ndarray:
    """Whether one of the first k classes of each row of ``top`` (N, K) is an accepted one: bool (N,)."""
    return np.array([bool(set(row[:k]) & set(right)) for row, right in zip(top, accepted, strict=True)], bool)


def adversarially_filtered(
    photos: PhotoSet, filter_model: nn.Module, cache_dir: Path | None = None
) -> PhotoSet:
    """The photographs whose top-1 class ``filter_model`` gets wrong, as ImageNet-A was made with a ResNet-50.

    Test another classifier on them. It is not ImageNet-A: it holds fewer and easier photographs.
    """
    top = top_classes_of(filter_model, photos, cache_dir)
    labelled = np.array([len(right) > 0 for right in photos.accepted])
    return photos.select(np.flatnonzero(~correct(top, photos.accepted, 1) & labelled))


def experiment(
    explainer: licnn.LICNN,
    photos: PhotoSet,
    rules: Sequence[str | float] = ("printed", "offset"),
    radii: Sequence[int] = RADII,
    control_rule: str | float | None = "offset",
    cache_dir: Path | None = None,
    chunk: int = 16,
) -> pd.DataFrame:
    """Top-1 and top-5 correctness of photographs, unmodified and blurred: one row a photograph and variant.

    Regions come from the explainer's saliency maps by every rule. With ``control_rule`` the background is
    also blurred at the largest radius outside control regions with the same area as that rule's region.
    Columns: photograph (position in ``photos``), name (of its file), region, where ("background", "object"
    or ""), radius (0 is unmodified), area (share of the picture inside the region), top1, top5 (bool), first
    (likeliest class).
    Chunks of photographs are kept in ``cache_dir`` as they are finished; a later call goes on from there.
    """
    variants = list(_variants(rules, radii, control_rule))
    weights = classifiers.fingerprint(explainer.model)
    parts = joblib.Parallel()(
        joblib.delayed(_experiment_chunk)(explainer, weights, part, rules, radii, control_rule, cache_dir)
        for part in _chunks(photos, chunk)
    )
    frames = []
    for number, (name, where, radius) in enumerate(variants):
        top = np.concatenate([part["top"][:, number] for part in parts])
        frames.append(
            pd.DataFrame(
                {
                    "photograph": np.arange(len(photos)),
                    "name": [path.stem for path in photos.paths],
                    "region": name,
                    "where": where,
                    "radius": radius,
                    "area": np.concatenate([part["area"][:, number] for part in parts]),
                    "top1": correct(top, photos.accepted, 1),
                    "top5": correct(top, photos.accepted, 5),
                    "first": top[:, 0],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _variants(
    rules: Sequence[str | float], radii: Sequence[int], control_rule: str | float | None
) -> Iterator[tuple[str, str, int]]:
    """(region, where, radius) of every variant; the unmodified photograph comes first."""
    yield "", "", 0
    for rule in rules:
        for where in SIDES:
            for radius in radii:
                yield rule_name(rule), where, radius
    for control in CONTROLS if control_rule is not None else ():
        yield control, "background", max(radii)


def rule_name(rule: str | float) -> str:
    """How tables and figures call a rule."""
    return {"printed": "printed rule", "offset": "rule with offset"}.get(
        rule
    ) or f"{100 * rule:.0f} % of the picture"


def _experiment_chunk(
    explainer: licnn.LICNN,
    weights: str,
    photos: PhotoSet,
    rules: Sequence[str | float],
    radii: Sequence[int],
    control_rule: str | float | None,
    cache_dir: Path | None,
) -> dict[str, np.ndarray]:
    """Top classes (n, variants, 5) and areas (n, variants) of a few photographs."""
    model, pictures = explainer.model, _cut(explainer.model, photos)
    settings = (explainer.switches, list(rules), list(radii), control_rule)
    path = _entry(cache_dir, pictures, weights, licnn, *settings)
    kept = cache.load_arrays(path) if path else None
    if kept is not None:
        return kept
    images = torch.stack([model.preprocess.normalise(picture) for picture in pictures])
    maps = explainer.saliency_maps(images).cpu().numpy()
    top, area = [], []
    for picture, saliency in zip(pictures, maps, strict=True):
        regions = {rule_name(rule): region(saliency, rule) for rule in rules}
        if control_rule is not None:
            like = region(saliency, control_rule)
            seed = int(cache.key(np.asarray(picture)), 16) % 2**32  # the photograph's own, in whatever order
            regions |= {kind: control_region(kind, like, seed) for kind in CONTROLS}
        soft = {radius: picture.filter(ImageFilter.GaussianBlur(radius)) for radius in radii}
        rows = list(_variants(rules, radii, control_rule))
        crops = [picture if not r else _composed(picture, soft[r], regions[n], w) for n, w, r in rows]
        top.append(top_classes(model, crops))
        area.append([regions[name].mean() if name else 1.0 for name, _, _ in rows])
    kept = {"top": np.stack(top), "area": np.array(area)}
    if path:
        cache.save_arrays(path, **kept)
    return kept


def accuracy_table(results: pd.DataFrame) -> pd.DataFrame:
    """Mean covered area (%), top-1 and top-5 accuracy (%) and number of photographs of every variant."""
    groups = results.groupby(["region", "where", "radius"], sort=False)
    table = groups[["area", "top1", "top5"]].mean().mul(100).reset_index()
    return table.assign(n=groups.size().to_numpy())


def outcomes(
    results: pd.DataFrame, column: str, region: str = "", where: str = "", radius: int = 0
) -> np.ndarray:
    """One variant's column, in the order of the photographs; the unmodified ones by default."""
    chosen = results[
        (results["region"] == region) & (results["where"] == where) & (results["radius"] == radius)
    ]
    if chosen.empty:
        raise ValueError(f"no variant with region {region!r}, where {where!r} and radius {radius}")
    return chosen[column].to_numpy()


def _cut(model: nn.Module, photos: PhotoSet) -> list[Image.Image]:
    return [model.preprocess.cut(photos.image(i)) for i in range(len(photos))]


def _chunks(photos: PhotoSet, size: int) -> Iterator[PhotoSet]:
    return (photos.select(slice(start, start + size)) for start in range(0, len(photos), size))


def _entry(cache_dir: Path | None, pictures: list[Image.Image], *settings: object) -> Path | None:
    """The cache file named by the crops' pixels, the settings and this module's source; or None."""
    if cache_dir is None:
        return None
    pixels = np.stack([np.asarray(picture) for picture in pictures])
    return cache_dir / f"{cache.key(pixels, sys.modules[__name__], *settings)}.npz"
