"""The blur experiment: what a classifier still recognises when background or object are blurred.

Pillow's Gaussian blur of radius 2, 5 and 10 on everything outside ("background") or inside ("object") the
region that a map marks, on the crop that the network sees. The whole crop is blurred and then put together
along the region's border.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageFilter
from torch import nn

from saliencylib.study import cache
from saliencylib.licnn.method import classifiers, method as licnn, localisation
from saliencylib.data import PhotoSet
from saliencylib.licnn.localisation import BASELINES
from saliencylib.study.parallel import side_by_side

RADII = (2, 5, 10)
SIDES = ("background", "object")
SOURCES = ("LICNN", *BASELINES, "boxes")  # whose map marks the region


class Variant(NamedTuple):
    """One way to blur a photograph: whose map marks the object, by which rule, which side of it is blurred
    and how far. ``Variant()`` is the unmodified photograph."""

    source: str = ""
    rule: str | float = ""
    where: str = ""
    radius: int = 0


UNMODIFIED = Variant()


def variants(judged: str | float, areas: Sequence[float], radii: Sequence[int] = RADII) -> list[Variant]:
    """What the experiment compares, the unmodified photograph first.

    The printed rule and the one by which claims are ``judged``: both sides at all radii. At the largest
    radius: by the rule with offset and at 20, 35 and 50 % of the picture, both sides of LICNN's region;
    background blur around LICNN's region and the baselines' at every one of ``areas``, and their object at
    the judged area (35 % where the judged rule is none); and LICNN, baselines and the boxes themselves at
    the area of the boxes.
    """
    last, area = max(radii), judged if isinstance(judged, float) else 0.35
    found = [UNMODIFIED, Variant("random", judged, "background", last)]
    found += [
        Variant("LICNN", rule, where, r) for rule in ("printed", judged) for where in SIDES for r in radii
    ]
    found += [Variant("LICNN", rule, where, last) for rule in ("offset", 0.2, 0.35, 0.5) for where in SIDES]
    for source in ("LICNN", *BASELINES):
        found += [Variant(source, share, "background", last) for share in (*areas, area)]
        found += [Variant(source, area, "object", last)]
    found += [Variant(source, "boxes", "background", last) for source in SOURCES]
    found += [Variant(source, "boxes", "object", last) for source in ("LICNN", "boxes")]
    return list(dict.fromkeys(found))


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
        mask = np.zeros(saliency.size, bool)
        mask[np.argsort(-saliency, axis=None, kind="stable")[: round(rule * saliency.size)]] = True
        return mask.reshape(saliency.shape)
    raise ValueError(f"the rule must be 'printed', 'offset' or a share between 0 and 1, not {rule!r}")


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
    jobs = [(model, weights, part, cache_dir) for part in _chunks(photos, chunk)]
    found = side_by_side(_classify, jobs, next(model.parameters()).device)
    return np.concatenate([np.empty((0, 5), np.int64), *found])


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
) -> np.ndarray:
    """Positions of the labelled photographs whose top-1 class ``filter_model`` gets wrong, as ImageNet-A was
    made with a ResNet-50.

    Test another classifier on them. They are not ImageNet-A: they are fewer and easier.
    """
    top = top_classes_of(filter_model, photos, cache_dir)
    has_label = np.array([len(right) > 0 for right in photos.accepted])
    return np.flatnonzero(~correct(top, photos.accepted, 1) & has_label)


def experiment(
    explainer: licnn.LICNN,
    photos: PhotoSet,
    plan: Sequence[Variant],
    cache_dir: Path | None = None,
    chunk: int = 16,
) -> pd.DataFrame:
    """Top-1 and top-5 correctness of photographs in every variant: one row a photograph and variant.

    Regions come from the explainer's saliency maps, from ``localisation.baseline_map``, or from the
    photographs' boxes. A baseline's region by a rule other than a share has the area that LICNN's has by it.
    The rule "boxes" takes the highest values, as many as the boxes have pixels; a
    photograph without boxes, or with boxes that leave nothing outside, has no rows for it.
    Columns: photograph (position in ``photos``), name (of its file), source, rule (as ``rule_name`` calls
    it), where, radius, area (share of the picture inside the region), top1, top5 (bool), first (likeliest
    class). Chunks of photographs are kept in ``cache_dir`` as they are finished; a later call goes on there.
    """
    weights = classifiers.fingerprint(explainer.model)
    jobs = [(explainer, weights, part, list(plan), cache_dir) for part in _chunks(photos, chunk)]
    parts = side_by_side(_experiment_chunk, jobs, next(explainer.model.parameters()).device)
    frames = []
    for number, variant in enumerate(plan):
        top = np.concatenate([part["top"][:, number] for part in parts])
        frames.append(
            pd.DataFrame(
                {
                    "photograph": np.arange(len(photos)),
                    "name": [path.stem for path in photos.paths],
                    "source": variant.source,
                    "rule": rule_name(variant.rule),
                    "where": variant.where,
                    "radius": variant.radius,
                    "area": np.concatenate([part["area"][:, number] for part in parts]),
                    "top1": correct(top, photos.accepted, 1),
                    "top5": correct(top, photos.accepted, 5),
                    "first": top[:, 0],
                }
            )
        )
    return pd.concat(frames, ignore_index=True).dropna(subset="area", ignore_index=True)


def rule_name(rule: str | float) -> str:
    """How tables and figures call a rule."""
    names = {"": "", "printed": "printed rule", "offset": "rule with offset", "boxes": "area of the boxes"}
    return names[rule] if rule in names else f"{100 * rule:.0f} % of the picture"


def _marked(saliency: np.ndarray, rule: str | float) -> np.ndarray:
    """``region``, or all or nothing of the picture for the shares 1 and 0."""
    return np.full(saliency.shape, bool(rule)) if rule in (0.0, 1.0) else region(saliency, rule)


def _experiment_chunk(
    explainer: licnn.LICNN, weights: str, photos: PhotoSet, plan: list[Variant], cache_dir: Path | None
) -> dict[str, np.ndarray]:
    """Top classes (n, variants, 5) and areas (n, variants) of a few photographs; -1 and NaN for variants that
    need boxes where there are none."""
    model, pictures = explainer.model, _cut(explainer.model, photos)
    boxes = localisation.box_masks(photos, model.preprocess)
    path = _entry(cache_dir, pictures, weights, licnn, localisation, explainer.switches, plan, boxes)
    kept = cache.load_arrays(path) if path else None
    if kept is not None:
        return kept
    images = torch.stack([model.preprocess.normalise(picture) for picture in pictures])
    maps = explainer.saliency_maps(images).cpu().numpy()
    top = np.full((len(pictures), len(plan), 5), -1)
    area = np.full((len(pictures), len(plan)), np.nan)
    for i, picture in enumerate(pictures):
        found = {"LICNN": maps[i], "boxes": boxes[i].astype(float)}
        found |= {kind: localisation.baseline_map(kind, picture) for kind in BASELINES}
        regions = {}
        for source, rule in dict.fromkeys(variant[:2] for variant in plan if variant.source):
            if rule == "boxes":
                share = float(boxes[i].mean())
                if not 0 < share < 1:
                    continue
            elif source in BASELINES and isinstance(rule, str):
                share = float(region(maps[i], rule).mean())
            else:
                share = rule
            regions[source, rule] = _marked(found[source], share)
        soft = {r: picture.filter(ImageFilter.GaussianBlur(r)) for r in {v.radius for v in plan if v.radius}}
        possible = [n for n, v in enumerate(plan) if not v.source or v[:2] in regions]
        crops = [
            picture if not v.source else _composed(picture, soft[v.radius], regions[v[:2]], v.where)
            for v in (plan[n] for n in possible)
        ]
        top[i, possible] = top_classes(model, crops)
        area[i, possible] = [regions[plan[n][:2]].mean() if plan[n].source else 1.0 for n in possible]
    kept = {"top": top, "area": area}
    if path:
        cache.save_arrays(path, **kept)
    return kept


def accuracy_table(results: pd.DataFrame) -> pd.DataFrame:
    """Mean covered area (%), top-1 and top-5 accuracy (%) and number of photographs of every variant."""
    groups = results.groupby(["source", "rule", "where", "radius"], sort=False)
    table = groups[["area", "top1", "top5"]].mean().mul(100).reset_index()
    return table.assign(n=groups.size().to_numpy())


def outcomes(results: pd.DataFrame, column: str, variant: Variant = UNMODIFIED) -> pd.Series:
    """One variant's column, by the photographs' names; the unmodified ones by default."""
    chosen = results[
        (results["source"] == variant.source)
        & (results["rule"] == rule_name(variant.rule))
        & (results["where"] == variant.where)
        & (results["radius"] == variant.radius)
    ]
    if chosen.empty:
        raise ValueError(f"no rows for {variant}")
    return chosen.set_index("name")[column]


def paired_outcomes(
    results: pd.DataFrame, column: str, before: Variant, after: Variant
) -> tuple[np.ndarray, np.ndarray]:
    """A column of two variants (n,), of the photographs that have both."""
    both = pd.concat([outcomes(results, column, v) for v in (before, after)], axis=1, join="inner")
    return both.iloc[:, 0].to_numpy(), both.iloc[:, 1].to_numpy()


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
