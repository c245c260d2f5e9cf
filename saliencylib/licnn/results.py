"""What notebook 03 measures of the maps: equations, switches, terms, and objects of known place."""

import html
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from saliencylib.licnn.method import attribution, blur, classifiers, method as licnn, localisation, sanity
from saliencylib.study import cache
from saliencylib import data, stats
from saliencylib.data import PhotoSet
from saliencylib.licnn.method import LICNN
from saliencylib.study.parallel import side_by_side

PHOTO_SETS = {
    "photographs": data.photographs,
    "nips2017_dev": data.nips2017_dev,
    "imagenet_val": data.imagenet_val,
    "imagenet_a": data.imagenet_a,
}
COMPARED = ("Gradient", "Gradient x Input", "Integrated Gradients", "Grad-CAM")
CHANGES = {
    "LICNN": {},
    "LICNN, no inhibition (a = b = 0)": {"a": 0.0, "b": 0.0},
    "LICNN, gradient not normalised": {"normalise_gradient": False},
    "LICNN, last map masked": {"mask_last": True},
    "LICNN, layers normalised": {"normalise_layers": True},
    "LICNN, bilinear": {"interpolation": "bilinear"},
    "LICNN, text": {"preset": "text"},
}
LOCALISED = (
    *CHANGES,
    "LICNN, likeliest class",
    "LICNN, five likeliest",
    *attribution.METHODS[1:],
    *localisation.BASELINES,
)
SCORES = ["pointing", "auc", "energy", "area", "iou", "iou_area"]
HALVED = ("LICNN, after the softmax", "LICNN, before the softmax", "Gradient", "Grad-CAM")
TERMS = {
    "both terms": {},
    "average term only (b = 0)": {"b": 0.0},
    "differential term only (a = 0)": {"a": 0.0},
    "no inhibition (a = b = 0)": {"a": 0.0, "b": 0.0},
}


def photo_set(name: str, count: int | None = None) -> PhotoSet:
    """``count`` photographs of a set at even steps through its sorted list, or all of them."""
    photos = PHOTO_SETS[name]()
    return photos.select(evenly(len(photos), count))


def evenly(length: int, count: int | None = None) -> np.ndarray:
    """``count`` positions at even steps through a list of so many, or all of them."""
    if count is None or count >= length:
        return np.arange(length)
    return np.linspace(0, length - 1, count).round().astype(int)


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
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The released code as it is, without inhibition, with each of the text's changes alone, and the text.

    A row each of ``CHANGES``: share of locations kept, share of the picture that the rules mark (%), and mean
    correlation of attention maps with the released code's; and by name the shares kept (layers, N).
    """
    made = {name: LICNN(model, batch_size=batch_size, **change) for name, change in CHANGES.items()}
    maps = {name: variant.attribute(images, target).cpu().numpy() for name, variant in made.items()}
    shares = {name: variant.kept_shares(images, target).cpu().numpy() for name, variant in made.items()}
    rows = [
        {
            "map": name,
            "locations kept, %": 100 * float(shares[name].mean()),
            "printed rule marks, %": _marked(maps[name], "printed"),
            "rule with offset marks, %": _marked(maps[name], "offset"),
            "correlation": np.mean([_correlation(*p) for p in zip(maps["LICNN"], maps[name], strict=True)]),
        }
        for name in CHANGES
    ]
    return pd.DataFrame(rows), shares


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


def people_contrast(
    model: nn.Module, photos: Sequence[PhotoSet], batch_size: int | None = None
) -> tuple[pd.DataFrame, stats.Estimate]:
    """Saliency inside and outside the people in the photographs around whom we drew boxes.

    A row a photograph: set, photograph, area (of the people), pointing (whether the highest value lies on
    them), "inside minus outside" (means, as a share of the map's maximum) and the same for a centre Gaussian;
    and the estimate of outside minus inside, over photographs.
    """
    frames = []
    for chosen in map(localisation.people, photos):
        if not len(chosen):
            continue
        crops, images = crops_and_inputs(model, chosen)
        masks = localisation.box_masks(chosen, model.preprocess)
        columns = {"set": chosen.name, "photograph": [path.stem for path in chosen.paths]}
        maps = LICNN(model, batch_size=batch_size).saliency_maps(images)
        frames.append(pd.DataFrame(columns | _contrasts(crops, maps, masks)))
    frame = pd.concat(frames, ignore_index=True)
    return frame, stats.mean_interval(-frame["inside minus outside"].to_numpy(), "images")


def object_contrast(
    model: nn.Module, crops: Sequence[Image.Image], masks: np.ndarray, batch_size: int | None = None
) -> tuple[np.ndarray, pd.DataFrame]:
    """Saliency maps (N, H, W) of crops with an object of any kind, and how they stand out on its mask (N, H,
    W): a row an object, columns as in ``people_contrast`` without set and photograph."""
    images = torch.stack([model.preprocess.normalise(crop) for crop in crops])
    maps = LICNN(model, batch_size=batch_size).saliency_maps(images).cpu().numpy()
    return maps, pd.DataFrame(_contrasts(crops, maps, masks))


def _contrasts(crops: Sequence[Image.Image], maps: localisation.Maps, masks: np.ndarray) -> dict:
    centre = np.stack([localisation.baseline_map("centre Gaussian", crop) for crop in crops])
    return {
        "area": masks.mean((1, 2)),
        "pointing": localisation.scores(maps, masks)["pointing"].to_numpy(),
        "inside minus outside": localisation.contrast(maps, masks),
        "centre Gaussian": localisation.contrast(centre, masks),
    }


def boxed_objects(
    model: nn.Module, photos: PhotoSet, count: int
) -> tuple[list[Image.Image], Tensor, np.ndarray, Tensor]:
    """Crops, inputs (N, 3, H, W), masks of the boxes (N, H, W) and labels (N,) of ``count`` photographs, at
    even steps among those whose boxes mark a part of the crop, and not all of it."""
    masks = localisation.box_masks(photos, model.preprocess)
    area = masks.mean((1, 2))
    usable = np.flatnonzero((area > 0) & (area < 1))
    positions = usable[evenly(len(usable), count)]
    chosen = photos.select(positions)
    return *crops_and_inputs(model, chosen), masks[positions], torch.as_tensor(chosen.labels)


def localisation_scores(
    model: nn.Module,
    crops: Sequence[Image.Image],
    images: Tensor,
    masks: np.ndarray,
    target: Tensor,
    batch_size: int,
    cache_dir: Path | None = None,
) -> pd.DataFrame:
    """``localisation.scores`` of every map of images (N, 3, H, W) against masks (N, H, W): rows map, image.

    Maps, in this order: LICNN of the ``target`` classes (N,), with every change of ``CHANGES``; LICNN of the
    likeliest class, and of the five likeliest; the other methods of ``attribution``; and the baselines of
    ``localisation``, drawn from the ``crops``. Batches are kept in ``cache_dir`` as they are finished.
    """
    weights = classifiers.fingerprint(model)
    parts = [slice(start, start + batch_size) for start in range(0, len(images), batch_size)]
    jobs = [(model, weights, crops[p], images[p], masks[p], target[p], cache_dir) for p in parts]
    found = side_by_side(_localised, jobs, next(model.parameters()).device)
    frame = pd.concat(
        [rows.assign(image=rows["image"] + p.start) for rows, p in zip(found, parts, strict=True)]
    )
    order = {name: place for place, name in enumerate(LOCALISED)}
    return frame.sort_values(
        ["map", "image"], key=lambda c: c.map(order) if c.name == "map" else c
    ).reset_index(drop=True)


def _localised(
    model: nn.Module,
    weights: str,
    crops: Sequence[Image.Image],
    images: Tensor,
    masks: np.ndarray,
    target: Tensor,
    cache_dir: Path | None,
) -> pd.DataFrame:
    own = (sys.modules[__name__], attribution, licnn, localisation)
    name = cache.key(*own, images.cpu().numpy(), masks, target.cpu().numpy(), weights)
    path = cache_dir / f"{name}.npz" if cache_dir else None
    kept = cache.load_arrays(path) if path else None
    if kept is None:
        maps = {name: LICNN(model, **change).attribute(images, target) for name, change in CHANGES.items()}
        classes = LICNN(model).attention_maps(images)
        maps["LICNN, likeliest class"] = classes[:, 0]
        maps["LICNN, five likeliest"] = licnn.l2_normalised(classes.sum(1))
        for method in attribution.METHODS[1:]:
            maps[method] = attribution.attribute(method, model, images, target)
        for kind in localisation.BASELINES:
            maps[kind] = np.stack([localisation.baseline_map(kind, crop) for crop in crops])
        kept = {
            f"{i}": localisation.scores(maps[name], masks).to_numpy(float) for i, name in enumerate(LOCALISED)
        }
        if path:
            cache.save_arrays(path, **kept)
    frames = [pd.DataFrame(kept[f"{i}"], columns=SCORES) for i in range(len(LOCALISED))]
    frames = [f.assign(map=name, image=range(len(f))) for f, name in zip(frames, LOCALISED, strict=True)]
    return pd.concat(frames)[["map", "image", *SCORES]]


def localisation_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Means of ``localisation_scores``, a row a map: the scores, energy above the object's area, and the
    latter's difference from LICNN's with its interval over images."""
    scores = scores.assign(above=scores["energy"] - scores["area"])
    table = scores.groupby("map", sort=False)[
        ["pointing", "auc", "energy", "above", "iou", "iou_area"]
    ].mean()
    own = energy_of(scores, "LICNN")
    found = [stats.paired_difference(energy_of(scores, name), own, "images") for name in table.index]
    return table.assign(against_licnn=[str(estimate) for estimate in found]).reset_index()


def energy_of(scores: pd.DataFrame, name: str) -> np.ndarray:
    """The energy (N,) on the object of the map called ``name``, from ``localisation_scores``."""
    return scores.loc[scores["map"] == name, "energy"].to_numpy()


def composites(
    model: nn.Module, crops: Sequence[Image.Image], top: np.ndarray, right: np.ndarray, count: int
) -> tuple[list[tuple[int, int]], Tensor, Tensor]:
    """Pairs of photographs side by side, for the grid pointing game (Boehle et al., CVPR 2021).

    Photographs whose likeliest class is ``right`` are paired with another one of a different class, at most
    ``count`` pairs. Returns the pairs' positions, their inputs (N, 3, H, 2 W) and their two classes (N, 2),
    that of the left half first. The network must average its last feature maps, so that width is free.
    Raises ValueError when no two photographs are right and of different classes.
    """
    good = np.flatnonzero(right)
    other = np.roll(good, len(good) // 2)
    pairs = [(i, j) for i, j in zip(good, other, strict=True) if top[i, 0] != top[j, 0]][:count]
    if not pairs:
        raise ValueError("no two photographs have right and different classes: take more of them")
    normalise = model.preprocess.normalise
    joined = [torch.cat([normalise(crops[i]), normalise(crops[j])], 2) for i, j in pairs]
    return pairs, torch.stack(joined), torch.tensor([[top[i, 0], top[j, 0]] for i, j in pairs])


def own_halves(
    model: nn.Module, images: Tensor, classes: Tensor, batch_size: int, cache_dir: Path | None = None
) -> pd.DataFrame:
    """Where the maps of the two classes of ``composites`` lie: rows map, pair, side (0 left, 1 right), with
    energy (share of the map in the class's own half) and pointing (whether its highest value lies there).

    Maps: LICNN after and before the softmax, Gradient and Grad-CAM.
    """
    weights = classifiers.fingerprint(model)
    parts = [slice(start, start + batch_size) for start in range(0, len(images), batch_size)]
    jobs = [(model, weights, images[p], classes[p], cache_dir) for p in parts]
    values = np.concatenate(side_by_side(_halves, jobs, next(model.parameters()).device), 1)
    index = pd.MultiIndex.from_product([HALVED, range(len(images)), (0, 1)], names=["map", "pair", "side"])
    frame = pd.DataFrame(values.reshape(-1, 2), index=index, columns=["energy", "pointing"]).reset_index()
    return frame.astype({"pointing": bool})


def _halves(
    model: nn.Module, weights: str, images: Tensor, classes: Tensor, cache_dir: Path | None
) -> np.ndarray:
    """Energy and pointing, (maps, images, 2 sides, 2)."""
    own = (sys.modules[__name__], attribution, licnn)
    path = (
        cache_dir / f"{cache.key(*own, images.numpy(), classes.numpy(), weights)}.npz" if cache_dir else None
    )
    kept = cache.load_arrays(path) if path else None
    if kept is None:
        values = []
        for name in HALVED:
            if name.startswith("LICNN"):
                maps = LICNN(model, softmax="after" in name).attention_maps(images, classes)
            else:
                sides = [attribution.attribute(name, model, images, column) for column in classes.T]
                maps = torch.stack(sides, 1)
            maps = maps.cpu().numpy()
            halves = np.stack(np.split(maps, 2, axis=3), 2)  # image, class, half, H, W
            energy, peak = halves.sum((3, 4)), halves.max((3, 4))
            own_half = np.arange(2)
            share = energy[:, own_half, own_half] / np.maximum(energy.sum(2), 1e-30)
            values.append(np.stack([share, peak.argmax(2) == own_half], 2))
        kept = {"values": np.stack(values)}
        if path:
            cache.save_arrays(path, **kept)
    return kept["values"]


def own_half_table(halves: pd.DataFrame) -> pd.DataFrame:
    """Means of ``own_halves`` with their intervals over pairs, a row a map, and the share in the own half
    beside that of LICNN before the softmax."""
    per_pair = halves.groupby(["map", "pair"])[["energy", "pointing"]].mean()
    before = per_pair.loc["LICNN, before the softmax", "energy"].to_numpy()
    rows = []
    for name in HALVED:
        energy, pointing = (per_pair.loc[name, column].to_numpy() for column in ("energy", "pointing"))
        found = [stats.mean_interval(values, "pairs", (0, 1)) for values in (energy, pointing)]
        rows.append((name, *map(str, [*found, stats.paired_difference(energy, before, "pairs")])))
    columns = ["map", "share in the own half", "highest value in the own half", "share minus before"]
    return pd.DataFrame(rows, columns=columns)


def maps_by_stage(
    model: nn.Module,
    image: Tensor,
    target: int,
    methods: Sequence[str],
    scheme: str = "cascading",
    seed: int = 0,
    shown: int = 5,
) -> dict[str, dict[str, np.ndarray]]:
    """Maps (H, W) of one image (3, H, W) by every method, for the network as it is and for ``shown`` stages
    of randomisation at even steps: {stage: {method: map}}."""

    def maps(network: nn.Module) -> dict[str, np.ndarray]:
        found = {m: attribution.attribute(m, network, image[None], target)[0] for m in methods}
        return {method: values.cpu().numpy() for method, values in found.items()}

    last = len(sanity.stages(model)) - 1
    wanted = set(np.linspace(0, last, min(shown, last + 1)).round().astype(int))
    stages = enumerate(sanity.randomized(model, scheme, seed))
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
