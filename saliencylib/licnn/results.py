"""What notebook 03 measures of maps and of blurred photographs: tables, and estimates of its claims."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from saliencylib import stats
from saliencylib.data.photosets import PhotoSet
from saliencylib.licnn.attribution import attribute
from saliencylib.licnn.blur import (
    RADII,
    SIDES,
    UNMODIFIED,
    Variant,
    blur_outcomes,
    object_region,
    rule_name,
)
from saliencylib.licnn.crops import box_masks, crops_of
from saliencylib.licnn.localisation import (
    BASELINES,
    HALVED,
    LICNN_VARIANTS,
    baseline_map,
    inside_minus_outside,
    object_scores,
)
from saliencylib.licnn.method import LICNN, inhibited, lateral_inhibition
from saliencylib.licnn.sanity import class_similarity, randomisation_stages, randomized

OTHERS_COMPARED = ("Gradient", "Gradient x Input", "Integrated Gradients", "Grad-CAM")
TERMS = {
    "both terms": {},
    "average term only (b = 0)": {"b": 0.0},
    "differential term only (a = 0)": {"a": 0.0},
    "no inhibition (a = b = 0)": {"a": 0.0, "b": 0.0},
}
AREAS = (0.1, 0.2, 0.35, 0.5, 0.7)  # of the curve: accuracy against the share of the picture left sharp
AREA = 0.35  # where claims cannot be judged by the printed rule


# ------------------------------------------------------------------------------------------- the method


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
    found = lateral_inhibition(single, k, a, b)[0].numpy(), inhibited(single, k, a, b)[0].numpy()
    return all(np.abs(f - e).max() < 1e-6 for f, e in zip(found, (inhibition, kept), strict=True))


def mach_bands(levels: int = 6, width: int = 20, height: int = 15) -> Tensor:
    """The stimulus of Figure 6: stripes of equal grey (height, levels * width), from 1 / levels up to 1."""
    return torch.linspace(1 / levels, 1, levels).repeat_interleave(width).expand(height, -1)


def mach_discs(levels: int = 6, width: int = 10) -> Tensor:
    """The same in two dimensions: discs of equal grey in one another, brighter inwards, each ``width`` pixels
    wider in radius than the next; (2 * levels * width, same), from 1 / levels up to 1."""
    place = torch.arange(-levels * width, levels * width) + 0.5
    radius = torch.hypot(place[:, None], place[None])
    return (levels - (radius / width).floor()).clamp(min=1) / levels


def mach_band_rise(levels: int = 6, width: int = 20) -> stats.Estimate:
    """Inhibition on the dark side of each edge of the stripes minus that in the middle of the dark stripe,
    as a share of the step: mean and interval over edges."""
    bands = mach_bands(levels, width)
    row = lateral_inhibition(bands[None])[0, len(bands) // 2].numpy()
    edges = np.arange(1, levels) * width - 1
    return stats.mean_interval((row[edges] - row[edges - width // 2]) * levels, "edges")


def cost_in_forward_passes(compute: Callable[[], object], model: nn.Module, images: Tensor) -> float:
    """Multiplications of ``compute()`` over those of a forward pass of ``images``, as torch counts."""
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        model(images)
    with FlopCounterMode(display=False) as whole:
        compute()
    return whole.get_total_flops() / forward.get_total_flops()


def switch_effects(
    model: nn.Module, images: Tensor, target: Tensor, batch_size: int | None = None
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The released code as it is, without inhibition, with each of the text's changes alone, and the text.

    A row each of ``LICNN_VARIANTS``: share of locations kept, share of the picture that the rules mark (%),
    and mean correlation of attention maps with the released code's; and by name the shares kept (layers, N).
    """
    made = {name: LICNN(model, batch_size=batch_size, **change) for name, change in LICNN_VARIANTS.items()}
    maps = {name: variant.attribute(images, target) for name, variant in made.items()}
    shares = {name: variant.kept_shares(images, target).cpu().numpy() for name, variant in made.items()}
    rows = [
        {
            "map": name,
            "locations kept, %": 100 * float(shares[name].mean()),
            "printed rule marks, %": _marked(maps[name], "printed"),
            "rule with offset marks, %": _marked(maps[name], "offset"),
            "correlation": float(class_similarity(torch.stack([maps["LICNN"], maps[name]], 1)).mean()),
        }
        for name in made
    ]
    return pd.DataFrame(rows), shares


def _marked(maps: Tensor, rule: str) -> float:
    return 100 * float(np.mean([object_region(saliency, rule) for saliency in maps.cpu().numpy()]))


def term_effects(
    model: nn.Module, images: Tensor, target: Tensor, batch_size: int | None = None
) -> pd.DataFrame:
    """Equation 3 with and without each term: a row a variant and image, with the share of locations kept over
    all (``kept``) and in the quarter with the highest zone means (``kept_high``), mean over layers."""
    maps = LICNN(model, batch_size=batch_size).max_c_maps(images, target)
    frames = []
    for name, terms in TERMS.items():
        kept = torch.stack([(inhibited(x, **terms) > 0).float().mean((1, 2)) for x in maps]).mean(0)
        high = torch.stack([kept_in_high_zones(x, **terms) for x in maps]).mean(0)
        columns = {"image": range(len(images)), "kept": kept.cpu(), "kept_high": high.cpu()}
        frames.append(pd.DataFrame({"terms": name} | columns))
    return pd.concat(frames, ignore_index=True)


def kept_in_high_zones(x: Tensor, k: int = 7, a: float = 0.1, b: float = 0.9) -> Tensor:
    """Share of locations that the gate keeps among the quarter with the highest zone means: maps x (N, H, W)
    -> (N,). It tells whether the average term protects zones of high response (compare with ``a = 0``)."""
    mean = functional.avg_pool2d(x[:, None], k, stride=1, padding=k // 2)[:, 0].flatten(1)
    high = mean.topk(max(1, mean.shape[1] // 4)).indices
    return (inhibited(x, k, a, b) > 0).flatten(1).gather(1, high).float().mean(1)


# ------------------------------------------------------------------------------------------- the maps


def object_contrasts(crops: Sequence[Image.Image], maps: np.ndarray, masks: np.ndarray) -> pd.DataFrame:
    """How maps (N, H, W) of crops stand out on the objects (N, H, W) bool there: a row a crop.

    Columns: area (of the object), pointing (whether the highest value lies on it), "inside minus outside"
    (means, as a share of the map's maximum) and the same for a centre Gaussian.
    """
    centre = np.stack([baseline_map("centre Gaussian", crop) for crop in crops])
    columns = {
        "area": masks.mean((1, 2)),
        "pointing": object_scores(maps, masks)["pointing"],
        "inside minus outside": inside_minus_outside(maps, masks),
        "centre Gaussian": inside_minus_outside(centre, masks),
    }
    return pd.DataFrame(columns)


def localisation_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Means of ``localisation_scores``, a row a map: the scores, energy above the object's area, and the
    energy's difference from LICNN's with its interval over images ("" for LICNN itself)."""
    scores = scores.assign(above=scores["energy"] - scores["area"])
    columns = ["pointing", "auc", "energy", "above", "iou", "iou_area"]
    table = scores.groupby("map", sort=False)[columns].mean()
    energy = scores.pivot(index="image", columns="map", values="energy")
    found = {n: stats.paired_difference(energy[n], energy["LICNN"], "images", (-1, 1)) for n in table.index}
    against = ["" if name == "LICNN" else str(estimate) for name, estimate in found.items()]
    return table.assign(against_licnn=against).reset_index()


def own_half_table(halves: pd.DataFrame) -> pd.DataFrame:
    """Means of ``own_halves`` with their intervals over pairs, a row a map, and the share in the own half
    beside that of LICNN before the softmax ("" for that itself)."""
    per_pair = halves.groupby(["map", "pair"])[["energy", "pointing"]].mean()
    before = per_pair.loc["LICNN, before the softmax", "energy"].to_numpy()
    rows = []
    for name in HALVED:
        energy, pointing = (per_pair.loc[name, column].to_numpy() for column in ("energy", "pointing"))
        found = [stats.mean_interval(values, "pairs", (0, 1)) for values in (energy, pointing)]
        beside = str(stats.paired_difference(energy, before, "pairs", (-1, 1)))
        rows.append((name, *map(str, found), "" if name == "LICNN, before the softmax" else beside))
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
    of randomisation, evenly spread up to the last: {stage: {method: map}}."""

    def maps(network: nn.Module) -> dict[str, np.ndarray]:
        return {m: attribute(m, network, image[None], target)[0].cpu().numpy() for m in methods}

    last = len(randomisation_stages(model)) - 1
    wanted = last - stats.evenly(last + 1, shown)
    stages = enumerate(randomized(model, scheme, seed))
    return {"original": maps(model)} | {name: maps(net) for i, (name, net) in stages if i in wanted}


def similarity_lost(curves: pd.DataFrame, similarity: str) -> stats.Estimate:
    """1 minus the area under the curve of one of ``sanity.SIMILARITIES`` over all stages, of LICNN in
    ``randomisation_curves``: mean and interval over images."""
    return stats.mean_interval(1 - _areas(curves, similarity)["LICNN"].to_numpy(), "images", (0, 2))


def similarity_beside_others(curves: pd.DataFrame, similarity: str) -> dict[str, stats.Estimate]:
    """LICNN's area under the curve of similarity minus that of each of ``OTHERS_COMPARED`` that was measured,
    by its name, paired by image."""
    areas = _areas(curves, similarity)
    others = [method for method in OTHERS_COMPARED if method in areas]
    return {m: stats.paired_difference(areas["LICNN"], areas[m], "images", (-2, 2)) for m in others}


def _areas(curves: pd.DataFrame, similarity: str) -> pd.DataFrame:
    """Mean similarity over stages and seeds: a row an image, a column a method."""
    return curves.pivot_table(index="image", columns="method", values=similarity)


# ------------------------------------------------------------------------------------------- blur


def blurred_sets(
    explainer: LICNN,
    sets: Mapping[str, PhotoSet],
    natural: Mapping[str, np.ndarray],
    adversarial: Mapping[str, np.ndarray],
    plan: Sequence[Variant],
) -> pd.DataFrame:
    """``blur_outcomes`` of the photographs of all sets that are natural or adversarial or both, each once.

    ``natural`` and ``adversarial`` hold positions by the name of the set. ``photograph`` is the position in
    its set; more columns: set (name), natural and adversarial (bool).
    """
    frames = []
    for name, photos in sets.items():
        members = {"natural": natural.get(name, []), "adversarial": adversarial.get(name, [])}
        used = np.union1d(*members.values()).astype(int)
        if len(used):
            chosen = photos.select(used)
            crops, boxes = crops_of(explainer.model, chosen), box_masks(chosen, explainer.model.preprocess)
            names = [path.stem for path in chosen.paths]
            found = blur_outcomes(explainer, crops, boxes, chosen.accepted, names, plan)
            place = used[found["photograph"]]
            marks = {kind: np.isin(place, positions) for kind, positions in members.items()}
            frames.append(found.assign(photograph=place, set=name, **marks))
    return pd.concat(frames, ignore_index=True)


def blur_accuracies(results: pd.DataFrame) -> pd.DataFrame:
    """Mean covered area (%), top-1 and top-5 accuracy (%) and number of photographs of every variant."""
    groups = results.groupby(["source", "rule", "where", "radius"], sort=False)
    table = groups[["area", "top1", "top5"]].mean().mul(100).reset_index()
    return table.assign(n=groups.size().to_numpy())


def outcomes_of(results: pd.DataFrame, column: str, variant: Variant = UNMODIFIED) -> pd.Series:
    """One variant's column, by the photographs' names; the unmodified ones by default."""
    wanted = variant._replace(rule=rule_name(variant.rule))._asdict()
    chosen = results[np.logical_and.reduce([results[name] == value for name, value in wanted.items()])]
    if chosen.empty:
        raise ValueError(f"no rows for {variant}")
    return chosen.set_index("name")[column]


def paired_outcomes(
    results: pd.DataFrame, column: str, before: Variant, after: Variant
) -> tuple[np.ndarray, np.ndarray]:
    """A column of two variants (n,), of the photographs that have both."""
    both = pd.concat([outcomes_of(results, column, v) for v in (before, after)], axis=1, join="inner")
    return both.iloc[:, 0].to_numpy(), both.iloc[:, 1].to_numpy()


def share_kept(results: pd.DataFrame, variant: Variant, seed: int = 0) -> stats.Estimate:
    """Top-5 accuracy of a variant as a share of the unmodified accuracy, with the bootstrap interval over
    photographs (both accuracies drawn together). Raises ValueError when no unmodified one is right."""
    before, after = paired_outcomes(results, "top5", UNMODIFIED, variant)
    if not before.any():
        raise ValueError("no unmodified photograph is right")
    drawn = np.random.default_rng(seed).integers(len(before), size=(4000, len(before)))
    right = before[drawn].sum(1)
    ratios = (after[drawn].sum(1) / np.maximum(right, 1))[right > 0]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return stats.Estimate(after.sum() / before.sum(), float(low), float(high), len(before), unit="images")


def accuracy_change(results: pd.DataFrame, column: str, before: Variant, after: Variant) -> stats.Estimate:
    """Change of accuracy in points between two variants, by McNemar's test, of photographs that have both."""
    return stats.mcnemar(*paired_outcomes(results, column, before, after))


def region_worth(results: pd.DataFrame, source: str, other: str) -> stats.Estimate:
    """Top-5 accuracy with all outside the region of ``source`` blurred at the largest radius minus outside
    that of ``other``, of equal area (``AREA`` of the picture), in points. Sources as in ``Variant``."""
    pair = (Variant(kind, AREA, "background", max(RADII)) for kind in (other, source))
    return accuracy_change(results, "top5", *pair)


def accuracy_changes(
    results: pd.DataFrame, compared: Mapping[str, tuple[Variant, Variant]], column: str = "top5"
) -> pd.DataFrame:
    """``accuracy_change`` of named pairs of variants (before, after) that have rows (photographs without
    boxes have none for theirs): a row a pair, with the area that each leaves sharp or covers (%), the change
    in points with its interval (low, high), the smallest change that so many could show, and n."""
    present = set(zip(results["source"], results["rule"], strict=True))
    rows = []
    for name, pair in compared.items():
        if all((variant.source, rule_name(variant.rule)) in present for variant in pair):
            areas = [100 * outcomes_of(results, "area", variant).mean() for variant in pair]
            named = {"comparison": name, "area before, %": areas[0], "area after, %": areas[1]}
            rows.append(named | accuracy_change(results, column, *pair).row("points"))
    return pd.DataFrame(rows).drop(columns="p")


def control_changes(results: pd.DataFrame) -> pd.DataFrame:
    """How much more blurring costs outside (and inside) LICNN's region than outside (inside) regions of the
    same area that come from elsewhere: negative is worse for LICNN's side."""
    pairs = {}
    for where in SIDES:
        for kind in BASELINES:
            other = Variant(kind, AREA, where, max(RADII))
            pairs[f"{where}: LICNN minus {kind}"] = other, other._replace(source="LICNN")
    boxes = Variant("boxes", "boxes", "background", max(RADII))
    for kind in (*BASELINES, "boxes"):
        pair = boxes._replace(source=kind), boxes._replace(source="LICNN")
        pairs[f"background: LICNN minus {kind}, area of the boxes"] = pair
    boxes = boxes._replace(where="object")
    pairs["object: LICNN minus boxes, area of the boxes"] = boxes, boxes._replace(source="LICNN")
    return accuracy_changes(results, pairs)


def area_curve(results: pd.DataFrame, areas: Sequence[float] = AREAS) -> pd.DataFrame:
    """Top-5 accuracy (%) against the share of the picture left sharp, the rest blurred at the largest radius.

    Rows source, area (%), accuracy, low, high (95 % intervals over photographs).
    """
    rows = []
    for source in ("LICNN", *BASELINES):
        for area in areas:
            right = outcomes_of(results, "top5", Variant(source, area, "background", max(RADII)))
            found = stats.mean_interval(100.0 * right.to_numpy(), "images", (0, 100))
            rows.append({"source": source, "area": 100 * area} | found.row("accuracy"))
    return pd.DataFrame(rows)[["source", "area", "accuracy", "low", "high"]]


def turned_photographs(results: pd.DataFrame, variant: Variant) -> pd.DataFrame:
    """The photographs whose top-5 correctness a variant changes: name, set, photograph (position in its set),
    whether it was right before (right_before), and the likeliest class before and after."""
    place = results.drop_duplicates("name").set_index("name")[["set", "photograph"]]
    columns = {
        "right_before": outcomes_of(results, "top5"),
        "right_after": outcomes_of(results, "top5", variant),
        "before": outcomes_of(results, "first"),
        "after": outcomes_of(results, "first", variant),
    }
    both = pd.concat([place, pd.DataFrame(columns)], axis=1, join="inner").rename_axis("name").reset_index()
    changed = both[both["right_before"] != both["right_after"]]
    return changed.drop(columns="right_after").reset_index(drop=True)


def turned_right(results: pd.DataFrame, variant: Variant) -> stats.Estimate:
    """How many photographs a variant turns from wrong to right by top-5, with the interval of that count."""
    before, after = paired_outcomes(results, "top5", UNMODIFIED, variant)
    n = len(before)
    return stats.mean_interval(n * (~before.astype(bool) & after.astype(bool)), "images", (0, n))


def turned_counts(results: pd.DataFrame, variant: Variant, photographs: str) -> dict[str, object]:
    """How many photographs a variant turns, both ways: a row with wrong to right, right to wrong, the balance
    (% of all) with its interval, and the p value of McNemar's test."""
    before = turned_photographs(results, variant)["right_before"]
    balance = accuracy_change(results, "top5", UNMODIFIED, variant)
    return {
        "photographs": photographs,
        "n": balance.n,
        "wrong to right": int((~before).sum()),
        "right to wrong": int(before.sum()),
        "balance, %": str(balance),
        "p": balance.p,
    }
