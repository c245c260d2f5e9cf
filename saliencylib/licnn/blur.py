"""The blur experiment: what a classifier still recognises when background or object are blurred.

Pillow's Gaussian blur of radius 2, 5 and 10 on everything outside ("background") or inside ("object") the
region that a map marks, on the crop that the network sees. The whole crop is blurred and then put together
along the region's border.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageFilter
from torch import nn

from saliencylib.inputs import as_array, as_mask, check_number, finite_map, rgb_picture
from saliencylib.licnn.attribution import attribute
from saliencylib.licnn.crops import PhotoCrops
from saliencylib.licnn.localisation import BASELINES, baseline_map
from saliencylib.licnn.method import LICNN
from saliencylib.study.keep import kept, side_by_side

RADII = (2, 5, 10)
SIDES = ("background", "object")
PRESETS_BLURRED = {"LICNN": "normalised", "LICNN, released code": "released_code"}
# Whose map marks the region. Grad-CAM's is of the likeliest class, LICNN's of the five likeliest.
REGION_SOURCES = (*PRESETS_BLURRED, "Grad-CAM", *BASELINES, "boxes")
AREA = 0.35  # of the picture, where regions are compared at equal area
AREAS = (0.1, 0.2, 0.35, 0.5, 0.7)  # of the curve: accuracy against the share of the picture left sharp


class Variant(NamedTuple):
    """One way to blur a photograph: whose map marks the object, by which rule, which side of it is blurred
    and how far. ``Variant()`` is the unmodified photograph."""

    source: str = ""
    rule: str | float = ""
    where: str = ""
    radius: int = 0


UNMODIFIED = Variant()


def released_variants(sources: Sequence[str] = tuple(PRESETS_BLURRED)) -> list[Variant]:
    """The experiment as printed, by the released code's rule: the unmodified photograph, both sides at all
    radii for the maps of ``sources``, and the background of a random region as large as LICNN's."""
    found = [UNMODIFIED, Variant("random map", "released", "background", max(RADII))]
    return found + [Variant(s, "released", where, r) for s in sources for where in SIDES for r in RADII]


def equal_area_variants(
    areas: Sequence[float] = (AREA,), where: Sequence[str] = ("background",)
) -> list[Variant]:
    """Regions of equal area from every source, blurred at the largest radius on the sides named: each of
    ``areas`` (of the picture) and the boxes' own area."""
    return [
        Variant(source, share, side, max(RADII))
        for source in REGION_SOURCES
        for share in ([*areas, "boxes"] if source != "boxes" else ["boxes"])
        for side in where
    ]


def offset_variants() -> list[Variant]:
    """Both sides of LICNN's regions at the largest radius by the rule with offset."""
    return [Variant(s, "offset", where, max(RADII)) for s in PRESETS_BLURRED for where in SIDES]


def rule_name(rule: str | float) -> str:
    """How tables and figures call a rule."""
    names = {"": "", "released": "released rule", "offset": "rule with offset", "boxes": "area of the boxes"}
    return names[rule] if rule in names else f"{100 * rule:.0f} % of the picture"


def object_region(saliency: np.ndarray | torch.Tensor, rule: str | float = "released") -> np.ndarray:
    """The object's region in a map (H, W), bool.

    "released" is the released code's map > (max - min) / 5 (the paper prints no rule); "offset" is map >
    min + (max - min) / 5, which does not change when a constant is added to the map; a number from 0 to 1
    takes that share of the picture, the highest values first (equal values in reading order). Raises
    ValueError for any other rule, and for a map as ``inputs.finite_map`` does.
    """
    finite_map(saliency)
    saliency = as_array(saliency)
    low, high = saliency.min(), saliency.max()
    if rule == "released":
        return saliency > (high - low) / 5
    if rule == "offset":
        return saliency > low + (high - low) / 5
    if isinstance(rule, float) and 0 <= rule <= 1:
        mask = np.zeros(saliency.shape, bool)
        mask.flat[np.argsort(-saliency, axis=None, kind="stable")[: round(rule * saliency.size)]] = True
        return mask
    raise ValueError(f"the rule must be 'released', 'offset' or a share from 0 to 1, not {rule!r}")


def blurred(picture: Image.Image, mask: np.ndarray, radius: float, where: str = "background") -> Image.Image:
    """The RGB picture with a Gaussian blur outside (``where="background"``) or inside ("object") the mask.

    The mask is bool (H, W) of the picture's size. Raises ValueError for another ``where`` or size, for a
    negative radius, and for what is no picture.
    """
    picture = rgb_picture(picture).convert("RGB")
    check_number("radius", radius, 0)
    return _composed(picture, picture.filter(ImageFilter.GaussianBlur(radius)), mask, where)


def _composed(picture: Image.Image, soft: Image.Image, mask: np.ndarray, where: str) -> Image.Image:
    if where not in SIDES:
        raise ValueError(f"where must be one of {', '.join(SIDES)}, not {where!r}")
    mask = as_mask(mask)
    if mask.shape != (picture.height, picture.width):
        raise ValueError(f"a mask of shape {mask.shape} for a picture of {picture.height} x {picture.width}")
    sharp = mask if where == "background" else ~mask
    return Image.composite(picture, soft, Image.fromarray(sharp.astype(np.uint8) * 255))


# ------------------------------------------------------------------------------------------- classes


@torch.inference_mode()
def class_logits(model: nn.Module, crops: Sequence[Image.Image], batch_size: int = 16) -> torch.Tensor:
    """The network's output (N, classes), on the CPU, for crops as ``model.preprocess.cut`` makes them."""
    device, found = next(model.parameters()).device, []
    for start in range(0, len(crops), batch_size):
        batch = model.preprocess.inputs(crops[start : start + batch_size]).to(device)
        found.append(model(batch.contiguous(memory_format=torch.channels_last)).cpu())
    return torch.cat(found)


def top_classes(model: nn.Module, crops: Sequence[Image.Image], k: int = 5) -> np.ndarray:
    """The k likeliest classes of crops, best first, int64 (N, k)."""
    return class_logits(model, crops).topk(k).indices.numpy()


def top_classes_of_many(model: nn.Module, crops: Sequence[Image.Image], chunk: int = 64) -> np.ndarray:
    """The five likeliest classes of every crop, int64 (N, 5), side by side; kept chunk by chunk."""
    jobs = [(model, crops[start : start + chunk]) for start in range(0, len(crops), chunk)]
    found = side_by_side(_top_classes_of_chunk, jobs, next(model.parameters()).device)
    return np.concatenate([np.empty((0, 5), np.int64), *found])


@kept("classes")
def _top_classes_of_chunk(model: nn.Module, crops: Sequence[Image.Image]) -> np.ndarray:
    return top_classes(model, crops)


def right_within(top: np.ndarray, accepted: Sequence[Sequence[int]], k: int) -> np.ndarray:
    """Whether one of the first k classes of each row of ``top`` (N, K) is an accepted one: bool (N,)."""
    return np.array([bool(set(row[:k]) & set(right)) for row, right in zip(top, accepted, strict=True)], bool)


# ------------------------------------------------------------------------------------------- the experiment


@kept("blur", table=True)
def blur_outcomes(
    model: nn.Module, seen: PhotoCrops, plan: Sequence[Variant], chunk: int = 16
) -> pd.DataFrame:
    """Top-1 and top-5 correctness of photographs in every variant: one row a photograph and variant.

    A baseline's region by a rule other than a share has the area that LICNN's has by it. The rule "boxes"
    takes the highest values, as many as the boxes have pixels; a photograph without boxes, or with boxes that
    leave nothing outside, has no rows for it. Columns: name, label, source, rule (as ``rule_name`` calls it),
    where, radius, area (share of the picture inside the region), top1, top5 (bool), first (likeliest class).
    Chunks of photographs are kept as they are finished; a later call goes on there.
    """
    plan = list(plan)
    jobs = [(model, part, plan) for part in seen.parts(chunk)]
    found = side_by_side(_outcomes_of_chunk, jobs, next(model.parameters()).device)
    top, area = (np.concatenate([chunk[name] for chunk in found]) for name in ("top", "area"))
    frames = []
    for number, variant in enumerate(plan):
        columns = {"name": seen.names, "label": seen.labels} | variant._asdict()
        columns |= {"rule": rule_name(variant.rule), "area": area[:, number]}
        columns |= {f"top{k}": right_within(top[:, number], seen.accepted, k) for k in (1, 5)}
        frames.append(pd.DataFrame(columns | {"first": top[:, number, 0]}))
    return pd.concat(frames, ignore_index=True).dropna(subset="area", ignore_index=True)


@kept("blur")
def _outcomes_of_chunk(model: nn.Module, seen: PhotoCrops, plan: list[Variant]) -> dict[str, np.ndarray]:
    """Top classes (n, variants, 5) and areas (n, variants) of a few photographs; -1 and NaN for variants that
    need boxes where there are none."""
    radii = {variant.radius for variant in plan if variant.radius}
    maps = _region_maps(model, seen, {variant.source for variant in plan} - {""})
    top = np.full((len(seen), len(plan), 5), -1)
    area = np.full((len(seen), len(plan)), np.nan)
    for i, crop in enumerate(seen.crops):
        regions = _regions({source: stack[i] for source, stack in maps.items()}, seen.boxes[i], plan)
        possible = [n for n, variant in enumerate(plan) if not variant.source or variant[:2] in regions]
        soft = {radius: crop.filter(ImageFilter.GaussianBlur(radius)) for radius in radii}
        pictures = [
            _composed(crop, soft[v.radius], regions[v[:2]], v.where) if v.source else crop
            for v in (plan[n] for n in possible)
        ]
        top[i, possible] = top_classes(model, pictures)
        area[i, possible] = [regions[plan[n][:2]].mean() if plan[n].source else 1.0 for n in possible]
    return {"top": top, "area": area}


def _region_maps(model: nn.Module, seen: PhotoCrops, sources: set[str]) -> dict[str, np.ndarray]:
    """The maps (n, H, W) that regions are taken from; LICNN's always, whose area others may need."""
    images = seen.inputs(model)
    maps = {"boxes": seen.boxes.astype(float)}
    for source, preset in PRESETS_BLURRED.items():
        if source in sources | {"LICNN"}:
            maps[source] = LICNN(model, preset).saliency_maps(images).cpu().numpy()
    if "Grad-CAM" in sources:
        first = class_logits(model, seen.crops).argmax(1)
        maps["Grad-CAM"] = attribute("Grad-CAM", model, images, first).cpu().numpy()
    for kind in sources & set(BASELINES):
        maps[kind] = np.stack([baseline_map(kind, crop) for crop in seen.crops])
    return maps


def _regions(
    maps: Mapping[str, np.ndarray], boxes: np.ndarray, plan: list[Variant]
) -> dict[tuple[str, str | float], np.ndarray]:
    """The region (H, W) bool of every source and rule in the plan; none by the area of useless boxes."""
    regions = {}
    for source, rule in dict.fromkeys(variant[:2] for variant in plan if variant.source):
        share = rule
        if rule == "boxes":
            share = float(boxes.mean())
            if not 0 < share < 1:
                continue
        elif source in BASELINES and isinstance(rule, str):
            share = float(object_region(maps["LICNN"], rule).mean())
        regions[source, rule] = object_region(maps[source], share)
    return regions
