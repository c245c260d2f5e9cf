"""What notebook 03 measures: the equations, the switches, the terms, objects of known place, and blurring."""

import html
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from saliencylib import attribution, blur, cache, classifiers, data, licnn, sanity, stats
from saliencylib.data import PhotoSet
from saliencylib.licnn import LICNN, PRESETS
from saliencylib.localisation import PEOPLE, box_masks, contrast, energy_inside

PHOTO_SETS = {
    "photographs": data.photographs,
    "nips2017_dev": data.nips2017_dev,
    "imagenet_val": data.imagenet_val,
    "imagenet_a": data.imagenet_a,
}
COMPARED = ("Gradient", "Gradient x Input", "Integrated Gradients", "Grad-CAM")
BOX_VARIANTS = {
    "LICNN, released code": {},
    "LICNN, no inhibition (a = b = 0)": {"a": 0.0, "b": 0.0},
    "LICNN, last map masked": {"mask_last": True},
    "LICNN, layers normalised": {"normalise_layers": True},
    "LICNN, both": {"mask_last": True, "normalise_layers": True},
}
BOX_METHODS = ("Gradient", "Grad-CAM")
TERMS = {
    "both terms": {},
    "average term only (b = 0)": {"b": 0.0},
    "differential term only (a = 0)": {"a": 0.0},
    "no inhibition (a = b = 0)": {"a": 0.0, "b": 0.0},
}


def photo_set(name: str, count: int | None = None) -> PhotoSet:
    """``count`` photographs of a set at even steps through its sorted list, or all of them."""
    photos = PHOTO_SETS[name]()
    if count is None or count >= len(photos):
        return photos
    return photos.select(np.linspace(0, len(photos) - 1, count).round().astype(int))


def labelled(photos: PhotoSet) -> PhotoSet:
    """The photographs that some class fits."""
    return photos.select([i for i, accepted in enumerate(photos.accepted) if accepted])


def plain(credit: str) -> str:
    """A credit without the HTML entities and octal bytes that some entries of the source's table carry."""
    octal = re.compile(r"(?:\\[0-7]{3})+")
    decoded = octal.sub(lambda found: bytes(int(o, 8) for o in found[0][1:].split("\\")).decode(), credit)
    return html.unescape(decoded)


def authors(credits: Sequence[str]) -> str:
    """The authors named first in credits, each once, as one line for a caption; for one whose script the
    figures' font lacks, the account on the page instead."""
    names = []
    for credit in map(plain, credits):
        name, account = credit.split(",")[0], re.search(r"(flickr\.com)/(?:photos/)?([^/,]+)", credit)
        latin = max(map(ord, name)) < 0x2000
        names.append(name if latin or not account else f"{account[1]}/{account[2]}")
    return "by " + ", ".join(dict.fromkeys(names))


def crops_and_inputs(model: nn.Module, photos: PhotoSet) -> tuple[list[Image.Image], Tensor]:
    """The crops that the network sees and their stacked inputs (N, 3, H, W) on the network's device."""
    crops = [model.preprocess.cut(photos.image(i)) for i in range(len(photos))]
    images = torch.stack([model.preprocess.normalise(crop) for crop in crops])
    return crops, images.to(next(model.parameters()).device)


def equations_match(k: int = 7, a: float = 0.1, b: float = 0.9, seed: int = 0) -> bool:
    """Whether ``lateral_inhibition`` and ``inhibited`` equal equations 3 and 4, written as a loop over
    locations and a loop over their zone, within 1e-6."""
    x = np.random.default_rng(seed).random((16, 14))
    inhibition = np.zeros_like(x)
    for i, j in np.ndindex(x.shape):
        total = difference = 0.0
        for u in range(max(0, i - k // 2), min(x.shape[0], i + k // 2 + 1)):
            for v in range(max(0, j - k // 2), min(x.shape[1], j + k // 2 + 1)):
                d = math.hypot(u - i, v - j) / k
                total += x[u, v]
                difference += d * math.exp(-d) * max(0.0, x[u, v] - x[i, j])
        inhibition[i, j] = a * math.exp(-total / k**2) + b * difference
    kept = np.where(x > inhibition / np.sqrt((inhibition**2).sum()), x, 0)
    single = torch.tensor(x, dtype=torch.float32)[None]
    found = licnn.lateral_inhibition(single, k, a, b)[0].numpy(), licnn.inhibited(single, k, a, b)[0].numpy()
    return all(np.abs(f - e).max() < 1e-6 for f, e in zip(found, (inhibition, kept), strict=True))


def mach_band_rise(levels: int = 6, width: int = 20) -> stats.Estimate:
    """Inhibition on the dark side of each edge of the stripes minus that in the middle of the dark stripe,
    as a share of the step: mean and interval over edges."""
    bands = licnn.mach_bands(levels, width)
    row = licnn.lateral_inhibition(bands[None])[0, len(bands) // 2].numpy()
    edges = np.arange(1, levels) * width - 1
    return stats.mean_interval((row[edges] - row[edges - width // 2]) * levels, "edges")


def switch_effects(
    model: nn.Module, images: Tensor, target: Tensor, batch_size: int | None = None
) -> pd.DataFrame:
    """Each difference between text and released code alone, and all of them: share of locations kept, share
    of the picture that the rules mark (%), and correlation of attention maps with the released code's."""
    changes = {"released code": {}} | {f"{name} = {value}": {name: value} for name, value in _text()}
    variants = {n: LICNN(model, batch_size=batch_size, **switches) for n, switches in changes.items()}
    variants["text"] = LICNN(model, "text", batch_size)
    maps = {name: variant.attribute(images, target).cpu().numpy() for name, variant in variants.items()}
    rows = [
        {
            "variant": name,
            "locations kept, %": 100 * float(variant.kept_shares(images, target).mean()),
            "printed rule marks, %": _marked(maps[name], "printed"),
            "rule with offset marks, %": _marked(maps[name], "offset"),
            "correlation": np.mean(
                [_correlation(*p) for p in zip(maps["released code"], maps[name], strict=True)]
            ),
        }
        for name, variant in variants.items()
    ]
    return pd.DataFrame(rows)


def _text() -> Sequence[tuple[str, object]]:
    return list(PRESETS["text"].items())


def _marked(maps: np.ndarray, rule: str) -> float:
    return 100 * float(np.mean([blur.region(saliency, rule) for saliency in maps]))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    constant = a.min() == a.max() or b.min() == b.max()
    return 0.0 if constant else float(np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1])


def term_effects(
    model: nn.Module, images: Tensor, target: Tensor, batch_size: int | None = None
) -> pd.DataFrame:
    """Equation 3 with and without each term: a row a variant and image, with the share of locations kept over
    all (``kept``) and in the quarter with the highest zone means (``kept_high``), mean over layers."""
    maps = LICNN(model, batch_size=batch_size).max_c_maps(images, target)
    frames = []
    for name, terms in TERMS.items():
        kept = torch.stack([(licnn.inhibited(x, **terms) > 0).float().mean((1, 2)) for x in maps]).mean(0)
        high = torch.stack([licnn.kept_in_high_zones(x, **terms) for x in maps]).mean(0)
        columns = {"image": range(len(images)), "kept": kept.cpu(), "kept_high": high.cpu()}
        frames.append(pd.DataFrame({"terms": name} | columns))
    return pd.concat(frames, ignore_index=True)


def protection(terms: pd.DataFrame) -> stats.Estimate:
    """Share kept in the highest zones with minus without the average term, over images."""
    with_it, without = (
        terms.loc[terms["terms"] == name, "kept_high"].to_numpy()
        for name in ("both terms", "differential term only (a = 0)")
    )
    return stats.paired_difference(with_it, without, "images")


def people_contrast(model: nn.Module) -> tuple[pd.DataFrame, stats.Estimate]:
    """Saliency inside and outside the people in scikit-image's photographs, around whom we drew boxes: area,
    contrast (mean inside minus outside, share of the maximum), and the estimate of outside minus inside."""
    photos = data.photographs()
    photos = photos.select([i for i, path in enumerate(photos.paths) if path.name in PEOPLE])
    for i, path in enumerate(photos.paths):
        photos.boxes[i] = PEOPLE[path.name]
    masks = box_masks(photos, model.preprocess)
    values = contrast(LICNN(model).saliency_maps(crops_and_inputs(model, photos)[1]), masks)
    names = [path.stem for path in photos.paths]
    frame = pd.DataFrame({"photograph": names, "area": masks.mean((1, 2)), "inside minus outside": values})
    return frame, stats.mean_interval(-values, "images")


def energy_in_boxes(
    model: nn.Module, photos: PhotoSet, batch_size: int, cache_dir: Path | None = None
) -> pd.DataFrame:
    """Attention maps of the labelled class against the official boxes: a row a photograph, with the boxes'
    ``area`` and, a column each of ``BOX_VARIANTS`` and ``BOX_METHODS``, the share of the map's energy inside.

    Batches are kept in ``cache_dir`` as they are finished.
    """
    weights = classifiers.fingerprint(model)
    jobs = [
        joblib.delayed(_energy)(model, weights, photos.select(slice(start, start + batch_size)), cache_dir)
        for start in range(0, len(photos), batch_size)
    ]
    columns = ["area", *BOX_VARIANTS, *BOX_METHODS]
    return pd.DataFrame(np.concatenate(joblib.Parallel()(jobs)), columns=columns)


def _energy(model: nn.Module, weights: str, photos: PhotoSet, cache_dir: Path | None) -> np.ndarray:
    images = crops_and_inputs(model, photos)[1]
    masks = box_masks(photos, model.preprocess)
    own = (sys.modules[__name__], attribution, licnn)
    name = cache.key(*own, images.cpu().numpy(), masks, photos.labels, weights)
    path = cache_dir / f"{name}.npz" if cache_dir else None
    kept = cache.load_arrays(path) if path else None
    if kept is None:
        target = torch.as_tensor(photos.labels)
        maps = [LICNN(model, **switches).attribute(images, target) for switches in BOX_VARIANTS.values()]
        maps += [attribution.attribute(method, model, images, target) for method in BOX_METHODS]
        kept = {"values": np.stack([masks.mean((1, 2)), *(energy_inside(m, masks) for m in maps)], 1)}
        if path:
            cache.save_arrays(path, **kept)
    return kept["values"]


def maps_by_stage(
    model: nn.Module, image: Tensor, target: int, methods: Sequence[str], seed: int = 0, shown: int = 5
) -> dict[str, dict[str, np.ndarray]]:
    """Maps (H, W) of one image (3, H, W) by every method, for the network as it is and for ``shown`` stages
    of cascading randomisation at even steps: {stage: {method: map}}."""

    def maps(network: nn.Module) -> dict[str, np.ndarray]:
        found = {m: attribution.attribute(m, network, image[None], target)[0] for m in methods}
        return {method: values.cpu().numpy() for method, values in found.items()}

    last = len(sanity.stages(model)) - 1
    wanted = set(np.linspace(0, last, min(shown, last + 1)).round().astype(int))
    stages = enumerate(sanity.randomized(model, seed=seed))
    return {"original": maps(model)} | {name: maps(net) for i, (name, net) in stages if i in wanted}


def randomisation_estimates(falls: pd.DataFrame) -> dict[str, stats.Estimate]:
    """LI-F12a and LI-F12b from ``sanity.curves``: LICNN's HOG similarity at the first stage minus at the
    last, and at the last stage LICNN's minus the mean of the other methods that the paper compares."""
    per_image = falls.groupby(["method", "stage", "image"])["hog"].mean()
    first, last = falls["stage"].iloc[0], falls["stage"].iloc[-1]
    others = [m for m in COMPARED if m in set(falls["method"])]
    mean_of_others = np.mean([per_image[m, last] for m in others], axis=0)
    return {
        "LI-F12a": stats.paired_difference(per_image["LICNN", first], per_image["LICNN", last], "images"),
        "LI-F12b": stats.paired_difference(per_image["LICNN", last], mean_of_others, "images"),
    }


def share_kept(results: pd.DataFrame, region: str, where: str, radius: int, seed: int = 0) -> stats.Estimate:
    """Top-5 accuracy of a variant as a share of the unmodified accuracy, with the bootstrap interval over
    photographs (both accuracies drawn together)."""
    before, after = blur.outcomes(results, "top5"), blur.outcomes(results, "top5", region, where, radius)
    if not before.any():
        raise ValueError("no unmodified photograph is right")
    drawn = np.random.default_rng(seed).integers(len(before), size=(4000, len(before)))
    right = before[drawn].sum(1)
    ratios = (after[drawn].sum(1) / np.maximum(right, 1))[right > 0]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return stats.Estimate(after.sum() / before.sum(), float(low), float(high), len(before), unit="images")


def change(
    results: pd.DataFrame, column: str, before: tuple[str, str, int], after: tuple[str, str, int]
) -> stats.Estimate:
    """Change of accuracy in points between two variants (region, where, radius), by McNemar's test."""
    return stats.mcnemar(blur.outcomes(results, column, *before), blur.outcomes(results, column, *after))


def by_rule(results: pd.DataFrame, rules: Sequence[str | float]) -> pd.DataFrame:
    """What background blur at radius 10 does to accuracy, a row a rule: covered area (%), and the change of
    top-5 and top-1 accuracy in points with its interval."""
    rows = []
    for name in map(blur.rule_name, rules):
        variant = (name, "background", 10)
        changes = {
            f"{column}, change": str(change(results, column, ("", "", 0), variant))
            for column in ("top5", "top1")
        }
        rows.append(
            {"region": name, "covered, %": 100 * blur.outcomes(results, "area", *variant).mean()} | changes
        )
    return pd.DataFrame(rows)


def turned(results: pd.DataFrame, region: str, radius: int = 10) -> pd.DataFrame:
    """The photographs whose top-5 correctness changes when the background is blurred: position, whether it
    was right before, and the likeliest class before and after."""
    before = blur.outcomes(results, "top5")
    after = blur.outcomes(results, "top5", region, "background", radius)
    first = blur.outcomes(results, "first"), blur.outcomes(results, "first", region, "background", radius)
    frame = pd.DataFrame(
        {"photograph": np.arange(len(before)), "right_before": before, "before": first[0], "after": first[1]}
    )
    return frame[before != after].reset_index(drop=True)
