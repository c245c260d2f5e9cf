"""What notebook 03 measures of maps and of blurred photographs: tables, and estimates of its claims."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from saliencylib import stats
from saliencylib.inputs import Images, network_input
from saliencylib.licnn.attribution import VARIANTS, attribute
from saliencylib.licnn.blur import (
    AREA,
    AREAS,
    RADII,
    REGION_SOURCES,
    SIDES,
    UNMODIFIED,
    Variant,
    blur_outcomes,
    object_region,
    rule_name,
)
from saliencylib.licnn.crops import PhotoCrops
from saliencylib.licnn.localisation import (
    CONTROLLED,
    CONTROLS,
    HALVED,
    NO_INHIBITION,
    SWITCHED,
    baseline_map,
    inside_minus_outside,
    object_scores,
)
from saliencylib.licnn.method import LICNN, inhibited, l2_normalised, lateral_inhibition
from saliencylib.licnn.sanity import class_similarity, randomisation_stages, randomized
from saliencylib.study.keep import kept, side_by_side

OTHERS_COMPARED = ("Gradient", "Gradient x Input", "Integrated Gradients", "Grad-CAM")
BOTH_TERMS, NO_DIFFERENTIAL = "both terms", "average term only (b = 0)"
AVERAGE_AS_CONSTANT = "average term as a constant"  # its own mean over the map everywhere
TERMS = {
    BOTH_TERMS: {},
    NO_DIFFERENTIAL: {"b": 0.0},
    "differential term only (a = 0)": {"a": 0.0},
    "no inhibition (a = b = 0)": {"a": 0.0, "b": 0.0},
}
# How a map's scores are told from those of a map that knows nothing: their names, columns, and what such a
# map scores (a number, or the column that holds it).
EMPHASIS = {"AUC": ("auc", 0.5), "pointing": ("pointing", "area"), "energy": ("energy", "area")}
CONTRAST = {"energy": "energy", "AUC": "auc", "IoU": "iou_area"}
PAPERS_PHOTOGRAPHS = 7500  # whose turned ones the paper counts in dozens
EQUAL = 1e-9  # values that differ by less do so by rounding
Beside = tuple[stats.Estimate, dict[str, tuple[stats.Estimate, stats.Estimate]]]  # as Run.measure's nulls
BOX_SIZES = (0.0, 0.25, 0.5, 0.75, 1.0)  # edges of the ranges of what boxes take of the picture


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


def mach_band_rises(levels: int = 12, width: int = 20) -> pd.DataFrame:
    """Inhibition on the dark side of each edge of the stripes minus that in the middle of the dark stripe,
    as a share of the step: a row an edge, with rise."""
    bands = mach_bands(levels, width)
    row = lateral_inhibition(bands[None])[0, len(bands) // 2].numpy()
    edges = np.arange(1, levels) * width - 1
    return pd.DataFrame({"edge": edges, "rise": (row[edges] - row[edges - width // 2]) * levels})


def cost_in_forward_passes(compute: Callable[[], object], model: nn.Module, images: Images) -> float:
    """Multiplications of ``compute()`` over those of a forward pass of ``images``, as torch counts."""
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        model(network_input(images, model))
    with FlopCounterMode(display=False) as whole:
        compute()
    return whole.get_total_flops() / forward.get_total_flops()


def switch_effects(
    model: nn.Module, images: Tensor, target: Tensor, batch_size: int | None = None
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The normalised preset, each of its switches alone, the released code's preset and the literal text.

    A row a variant: share of locations kept, share of the picture that the rules mark (%), and mean
    correlation of attention maps with the normalised preset's; and by name the shares kept (layers, N).
    """
    names = (*SWITCHED, "LICNN, released code")
    jobs = [(model, name, images, target, batch_size) for name in names]
    made = side_by_side(_maps_and_shares, jobs, images.device)
    maps = {name: torch.from_numpy(found["maps"]) for name, found in zip(names, made, strict=True)}
    shares = {name: found["shares"] for name, found in zip(names, made, strict=True)}
    rows = [
        {
            "map": name,
            "kept, %": 100 * float(shares[name].mean()),
            "released rule marks, %": _marked(maps[name], "released"),
            "rule with offset marks, %": _marked(maps[name], "offset"),
            "correlation": float(class_similarity(torch.stack([maps["LICNN"], maps[name]], 1)).mean()),
        }
        for name in names
    ]
    return pd.DataFrame(rows), shares


@kept("switches")
def _maps_and_shares(
    model: nn.Module, name: str, images: Tensor, target: Tensor, batch_size: int | None
) -> dict[str, np.ndarray]:
    variant = LICNN(model, batch_size=batch_size, **VARIANTS[name])
    found = {"maps": variant.attribute(images, target), "shares": variant.kept_shares(images, target)}
    return {what: values.cpu().numpy() for what, values in found.items()}


def _marked(maps: Tensor, rule: str) -> float:
    return 100 * float(np.mean([object_region(saliency, rule) for saliency in maps.numpy()]))


def _batch_by_batch(
    work: Callable[..., pd.DataFrame], model: nn.Module, size: int | None, *columns: Sequence
) -> pd.DataFrame:
    """The rows that ``work(model, places, *columns)`` gives for every ``size`` of columns' places (N,)."""
    places = np.arange(len(columns[0]))
    parts = [slice(i, i + (size or len(places))) for i in places[:: size or len(places)]]
    jobs = [(model, places[part], *(column[part] for column in columns)) for part in parts]
    return pd.concat(side_by_side(work, jobs, next(model.parameters()).device), ignore_index=True)


def term_effects(
    model: nn.Module, images: Tensor, target: Tensor, batch_size: int | None = None
) -> pd.DataFrame:
    """Equation 3 with and without each term, and with the average term ``AVERAGE_AS_CONSTANT``.

    A row a variant (terms) and image, with the share of locations kept over all (kept), in the quarter with
    the highest zone means (kept_high) and in the other three (kept_rest), means over layers.
    """
    return _batch_by_batch(_term_effects, model, batch_size, images, target)


@kept("terms")
def _term_effects(model: nn.Module, places: np.ndarray, images: Tensor, target: Tensor) -> pd.DataFrame:
    maps = LICNN(model).max_c_maps(images, target)
    frames = []
    for name in (*TERMS, AVERAGE_AS_CONSTANT):
        shares = torch.stack([kept_by_zone(x, gate(x, name)) for x in maps]).mean(0).cpu()
        columns = dict(zip(("kept", "kept_high", "kept_rest"), shares, strict=True))
        frames.append(pd.DataFrame({"terms": name, "image": places} | columns))
    return pd.concat(frames, ignore_index=True)


def gate(x: Tensor, terms: str) -> Tensor:
    """Where equation 4 keeps maps x (N, H, W), bool, with ``TERMS`` of equation 3 or ``AVERAGE_AS_CONSTANT``,
    which is as strong as the average term and knows no zones."""
    if terms != AVERAGE_AS_CONSTANT:
        return inhibited(x, **TERMS[terms]) > 0
    average = lateral_inhibition(x, b=0.0).mean((1, 2), keepdim=True)
    return x > l2_normalised(average + lateral_inhibition(x, a=0.0))


def kept_by_zone(x: Tensor, kept: Tensor, k: int = 7) -> Tensor:
    """Share of locations kept (N, H, W), bool: of all, of the quarter of maps x (N, H, W) with the highest
    zone means, and of the rest; (3, N)."""
    mean = functional.avg_pool2d(x[:, None], k, stride=1, padding=k // 2)[:, 0].flatten(1)
    most = mean.topk(max(1, mean.shape[1] // 4)).indices
    high = torch.zeros_like(mean, dtype=torch.bool).scatter(1, most, True)
    kept, parts = kept.flatten(1), (torch.ones_like(high), high, ~high)
    return torch.stack([(kept & part).sum(1) / part.sum(1).clamp(min=1) for part in parts])


def zones_protected(terms: pd.DataFrame) -> Beside:
    """Share of locations kept in the highest zones, with the average term minus with a constant in its place,
    from one classifier's ``term_effects``, with the interval over images; and the same in the rest of the
    map, with what the highest zones have beyond it."""
    table = terms.pivot(index="image", columns="terms", values=["kept_high", "kept_rest"])
    high, rest = (
        (table[place][BOTH_TERMS] - table[place][AVERAGE_AS_CONSTANT]).to_numpy()
        for place in ("kept_high", "kept_rest")
    )
    return _beside(high, {"the rest of the map": rest}, _over_images)


def border_changes(
    model: nn.Module, images: Tensor, target: Tensor, objects: np.ndarray, batch_size: int | None = None
) -> pd.DataFrame:
    """How often the gate changes between neighbouring locations, with and without the differential term.

    Rows terms (of ``TERMS``), image, with border (share of the pairs of neighbours, one inside and one
    outside of the objects (N, H, W) bool, that differ in the gate) and elsewhere (of all other pairs), means
    over the layers at whose size the objects still have both sides; no rows for photographs without one.
    """
    return _batch_by_batch(_border_changes, model, batch_size, images, target, objects)


@kept("borders")
def _border_changes(
    model: nn.Module, places: np.ndarray, images: Tensor, target: Tensor, objects: np.ndarray
) -> pd.DataFrame:
    maps = LICNN(model).max_c_maps(images, target)
    inside = torch.from_numpy(objects).float()[:, None]
    rows = []
    for name in (BOTH_TERMS, NO_DIFFERENTIAL):
        found = []
        for x in maps:
            mask = functional.adaptive_avg_pool2d(inside, x.shape[-2:])[:, 0] > 0.5
            found.append(_changes_at_borders(gate(x, name).cpu(), mask))
        with warnings.catch_warnings():  # a photograph without an object has no border at any layer
            warnings.simplefilter("ignore", RuntimeWarning)
            border, elsewhere = np.nanmean(np.array(found), 0).T
        columns = {"terms": name, "image": places, "border": border, "elsewhere": elsewhere}
        rows.append(pd.DataFrame(columns))
    return pd.concat(rows, ignore_index=True).dropna(ignore_index=True)


def _changes_at_borders(gate: Tensor, mask: Tensor) -> np.ndarray:
    """Shares of neighbours that differ in the gate, across the mask's border and elsewhere: (N, 2)."""
    counts = np.zeros((len(gate), 2, 2))
    for across in (lambda m: m[:, 1:] != m[:, :-1], lambda m: m[:, :, 1:] != m[:, :, :-1]):
        change, border = across(gate), across(mask)
        for place, chosen in enumerate((border, ~border)):
            counts[:, place, 0] += (change & chosen).sum((1, 2)).numpy()
            counts[:, place, 1] += chosen.sum((1, 2)).numpy()
    with np.errstate(invalid="ignore"):
        return counts[..., 0] / counts[..., 1]


def border_gain(changes: pd.DataFrame) -> Beside:
    """How much oftener the gate changes across the objects' borders with minus without the differential term,
    from one classifier's ``border_changes``, with the interval over images; and the same between all other
    neighbours, with what the borders have beyond it."""
    table = changes.pivot(index="image", columns="terms", values=["border", "elsewhere"])
    border, elsewhere = (
        (table[place][BOTH_TERMS] - table[place][NO_DIFFERENTIAL]).to_numpy()
        for place in ("border", "elsewhere")
    )
    return _beside(border, {"elsewhere in the map": elsewhere}, _over_images)


# ------------------------------------------------------------------------------------------- the maps


def object_contrasts(model: nn.Module, seen: PhotoCrops, batch_size: int = 8) -> pd.DataFrame:
    """``contrasts`` of LICNN's saliency maps of photographs, on their boxes. Batches are kept as they are
    finished."""
    jobs = [(model, part) for part in seen.parts(batch_size)]
    found = side_by_side(_contrasts_of_batch, jobs, next(model.parameters()).device)
    return pd.concat(found, ignore_index=True)


@kept("contrasts")
def _contrasts_of_batch(model: nn.Module, seen: PhotoCrops) -> pd.DataFrame:
    return contrasts(seen.crops, LICNN(model).saliency_maps(seen.inputs(model)).cpu().numpy(), seen.boxes)


def contrasts(crops: Sequence[Image.Image], maps: np.ndarray, masks: np.ndarray) -> pd.DataFrame:
    """How maps (N, H, W) of crops stand out on the objects (N, H, W) bool there: a row a crop.

    Columns: area (of the object), pointing (whether the highest value lies on it), "inside minus outside"
    (means, as a share of the map's maximum) and the same for each of ``CONTROLS``, by its name.
    """
    columns = {
        "area": masks.mean((1, 2)),
        "pointing": object_scores(maps, masks)["pointing"],
        "inside minus outside": inside_minus_outside(maps, masks),
    }
    for control in CONTROLS:
        stack = np.stack([baseline_map(control, crop) for crop in crops])
        columns[control] = inside_minus_outside(stack, masks)
    return pd.DataFrame(columns)


def contrast_beside_controls(contrasts: pd.DataFrame, sign: int = 1) -> Beside:
    """How far maps stand out (``sign`` 1) or recede (-1), from ``object_contrasts``, with the interval over
    images; and the same of each control, with what the maps have beyond it."""
    own = sign * contrasts["inside minus outside"].to_numpy()
    controls = {name: sign * contrasts[name].to_numpy() for name in CONTROLS}
    return _beside(own, controls, _over_images)


def _over_images(values: np.ndarray) -> stats.Estimate:
    """The mean of differences of shares (n,) with its interval over images."""
    return stats.mean_interval(values, "images", (-2, 2))


def _beside(
    own: np.ndarray, controls: Mapping[str, np.ndarray], estimate: Callable[[np.ndarray], stats.Estimate]
) -> Beside:
    """The estimate of own values (n,), and by control that of its values and of own minus its. A control's
    own interval is its value where all are equal."""
    nulls = {}
    for name, values in controls.items():
        alone = estimate(values)
        if np.ptp(values) < EQUAL:
            alone = replace(alone, low=alone.value, high=alone.value)
        nulls[name] = alone, estimate(own - values)
    return estimate(own), nulls


def localisation_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Means of ``localisation_scores`` (with the columns classifier and label), a row a classifier and map:
    the scores, energy above the object's area, n, and the AUC's difference from LICNN's with its interval
    over classes ("" for LICNN itself)."""
    scores = scores.assign(above=scores["energy"] - scores["area"])
    columns = ["pointing", "auc", "energy", "above", "iou_area"]
    tables = []
    for classifier, part in scores.groupby("classifier", sort=False):
        groups = part.groupby("map", sort=False)
        table = groups[columns].mean().assign(n=groups.size())
        against = [
            "" if name == "LICNN" else str(map_difference(part, "auc", name, "LICNN")) for name in table.index
        ]
        tables.append(table.assign(auc_minus_licnn=against, classifier=classifier).reset_index())
    table = pd.concat(tables, ignore_index=True)
    return table[["classifier", *table.columns.drop("classifier")]]


def localisation_by_area(scores: pd.DataFrame, maps: Sequence[str]) -> pd.DataFrame:
    """AUC and energy above the area of some maps by what the boxes take of the picture (``BOX_SIZES``): rows
    classifier, from, to, map, n, auc, above."""
    scores = scores[scores["map"].isin(maps)].assign(above=scores["energy"] - scores["area"])
    rows = []
    for low, high in zip(BOX_SIZES, BOX_SIZES[1:], strict=False):
        part = scores[(scores["area"] > low) & (scores["area"] <= high)]
        groups = part.groupby(["classifier", "map"], sort=False)
        table = groups[["auc", "above"]].mean().assign(n=groups.size()).reset_index()
        rows.append(table.assign(**{"from": low, "to": high}))
    return pd.concat(rows, ignore_index=True)[["classifier", "from", "to", "map", "n", "auc", "above"]]


def map_difference(scores: pd.DataFrame, column: str, a: str, b: str) -> stats.Estimate:
    """A score of map ``a`` minus that of map ``b`` in one classifier's ``localisation_scores``, mean over
    images, with the interval over their classes."""
    table = scores.pivot(index=["image", "label"], columns="map", values=column).astype(float)
    both = (table[a] - table[b]).dropna()
    return stats.grouped_interval(both.to_numpy(), both.index.get_level_values("label"))


def judging_place(classifier: str, judging: str, metric: str = "") -> dict[str, str]:
    """Where a measurement stands among a claim's, as ``Run.measure`` takes it: one of the classifier that
    judges is the main one, or one of its metrics, others stand beside it."""
    if classifier == judging:
        return {"axis": "metric", "case": metric} if metric else {}
    return {"axis": "classifier", "case": f"{classifier}, {metric}" if metric else classifier}


def emphasis(scores: pd.DataFrame, metric: str, name: str = "LICNN") -> Beside:
    """How far a map's score, one of ``EMPHASIS``, lies above what a map that knows nothing has, in one
    classifier's ``localisation_scores``; and the same of each control, with what the map has beyond it."""
    column, chance = EMPHASIS[metric]
    above = scores[column].astype(float) - (scores[chance] if isinstance(chance, str) else chance)
    table = scores.assign(above=above).pivot(index=["image", "label"], columns="map", values="above")
    return _by_class(table, table[name], {control: table[control] for control in CONTROLS})


def inhibition_gain(scores: pd.DataFrame, metric: str) -> Beside:
    """A score of ``CONTRAST`` with minus without inhibition, in one classifier's ``localisation_scores``; and
    what a control gains in the inhibition's place, with what the inhibition gains beyond it."""
    table = scores.pivot(index=["image", "label"], columns="map", values=CONTRAST[metric])
    without = table[NO_INHIBITION]
    controls = {control: table[name] - without for name, control in CONTROLLED.items()}
    return _by_class(table, table["LICNN"] - without, controls)


def _by_class(table: pd.DataFrame, own: pd.Series, controls: Mapping[str, pd.Series]) -> Beside:
    labels = table.index.get_level_values("label")
    values = {name: column.to_numpy(float) for name, column in controls.items()}
    return _beside(own.to_numpy(float), values, lambda v: stats.grouped_interval(v, labels))


def own_half_table(halves: pd.DataFrame) -> pd.DataFrame:
    """Means of ``own_halves`` (with the column classifier) with their intervals over pairs, a row a
    classifier and map, and the share in the own half beside that of LICNN ("" for that itself)."""
    rows = []
    for classifier, part in halves.groupby("classifier", sort=False):
        per_pair = part.groupby(["map", "pair"])[["energy", "pointing"]].mean()
        for name in HALVED:
            energy, pointing = (per_pair.loc[name, column].to_numpy() for column in ("energy", "pointing"))
            found = [
                str(stats.mean_interval(values, "pairs", (0, 1)))
                if np.ptp(values)
                else f"{values[0]:g} in all"
                for values in (energy, pointing)
            ]
            against = "" if name == "LICNN" else str(own_half_difference(part, name, "LICNN"))
            rows.append((classifier, name, *found, against, len(energy)))
    columns = ["classifier", "map", "share in the own half", "highest value in the own half"]
    return pd.DataFrame(rows, columns=[*columns, "share minus LICNN's", "pairs"])


def own_half_difference(halves: pd.DataFrame, a: str, b: str) -> stats.Estimate:
    """The share in the own half of map ``a`` minus that of map ``b``, in one classifier's ``own_halves``,
    with the interval over pairs."""
    share = halves.groupby(["map", "pair"])["energy"].mean()
    return stats.paired_difference(share[a], share[b], "pairs", (-1, 1))


# ------------------------------------------------------------------------------------------- random weights


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


def similarity_lost(curves: pd.DataFrame, similarity: str) -> Beside:
    """1 minus the area under LICNN's curve of one of ``sanity.SIMILARITIES`` over all stages of
    ``randomisation_curves``, mean and interval over images; and the same of an edge detector, whose map no
    weight changes, and of Guided Backprop, known to be blind to some, with what LICNN's has lost beyond."""
    lost = 1 - _areas(curves, similarity)
    controls = {"edge detector": "Edge detector", "Guided Backprop": "Guided Backprop"}
    values = {control: lost[method].to_numpy() for control, method in controls.items()}
    return _beside(lost["LICNN"].to_numpy(), values, _over_images)


def similarity_beside_others(curves: pd.DataFrame, similarity: str) -> dict[str, stats.Estimate]:
    """LICNN's area under the curve of similarity minus that of each of ``OTHERS_COMPARED`` that was measured,
    by its name, paired by image."""
    areas = _areas(curves, similarity)
    pairs = {method: areas[["LICNN", method]].dropna() for method in OTHERS_COMPARED if method in areas}
    return {
        method: stats.paired_difference(pair["LICNN"], pair[method], "images", (-2, 2))
        for method, pair in pairs.items()
        if len(pair)
    }


def similarity_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean similarities of ``randomisation_curves`` (with the columns classifier and scheme) over all stages,
    over the top third of them, where Guided Backprop is known to be blind, and at the last; and the share of
    maps that are ``empty_maps``: a row a classifier, scheme and method."""
    place = curves.groupby(["classifier", "scheme"])["stage"].transform(lambda s: pd.factorize(s)[0])
    count = curves.groupby(["classifier", "scheme"])["stage"].transform("nunique")
    keys, similarities = ["classifier", "scheme", "method"], ["hog", "spearman", "spearman_signed"]
    whole = curves.groupby(keys, sort=False)[similarities].mean()
    top = curves[place < (count / 3).round().clip(1)].groupby(keys, sort=False)[similarities].mean()
    last = curves[place == count - 1].groupby(keys, sort=False)[similarities].mean()
    empty = curves.assign(empty=empty_maps(curves)).groupby(keys, sort=False)["empty"].mean()
    whole = whole.join(top.add_suffix(", top third")).join(last.add_suffix(", last stage"))
    return whole.join(empty).reset_index()


def empty_maps(curves: pd.DataFrame) -> pd.Series:
    """Which rows of ``randomisation_curves`` are of a map that is empty, whose similarities are all zero."""
    return (curves[["hog", "spearman", "spearman_signed"]] == 0).all(axis=1)


def _areas(curves: pd.DataFrame, similarity: str) -> pd.DataFrame:
    """Mean similarity over stages and seeds: a row an image, a column a method."""
    return curves.pivot_table(index="image", columns="method", values=similarity)


# ------------------------------------------------------------------------------------------- blur


def cross_fitted(
    model: nn.Module, places: Sequence[tuple[PhotoCrops, np.ndarray]], plan: Sequence[Variant]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``blur_outcomes`` of photographs that the same classifier gets wrong on another crop of them.

    ``places`` are two crops of the same photographs, each with whether its first class is right, (N,) bool.
    The photographs that are wrong on one are tested on the other, and the other way round, so that what chose
    them is not what is measured; a photograph can be there twice, its name then ends in the crop's number.
    Also a row a crop with n, its top-1 accuracy, how many it chooses, and their top-1 accuracy on the other.
    """
    frames, rows = [], []
    for number, ((_, chosen_by), (seen, right)) in enumerate((places, places[::-1])):
        wrong = np.flatnonzero(~chosen_by)
        found = blur_outcomes(model, seen.select(wrong), plan)
        frames.append(found.assign(name=found["name"] + f" {number + 1}"))
        accuracies = {
            "top-1, %": 100 * chosen_by.mean(),
            "top-1 on the other crop, %": 100 * right[wrong].mean(),
        }
        rows.append({"chosen by crop": number + 1, "n": len(seen), "wrong": len(wrong)} | accuracies)
    return pd.concat(frames, ignore_index=True), pd.DataFrame(rows)


def crops_and_photographs(results: pd.DataFrame) -> str:
    """How many photographs outcomes are of, in words: "1,244 crops of 796 photographs" where some are there
    twice (``cross_fitted``)."""
    crops = results["name"].drop_duplicates()
    photographs = crops.str.replace(r" [12]$", "", regex=True).nunique()
    told = f"{photographs:,} photographs"
    return told if photographs == len(crops) else f"{len(crops):,} crops of {told}"


def blur_accuracies(results: pd.DataFrame) -> pd.DataFrame:
    """Every variant's mean covered area (%), number of photographs, and top-5 and top-1 accuracy (%), each
    with its interval over classes (low, high) and as a mean over classes."""
    rows = []
    for keys, part in results.groupby(["source", "rule", "where", "radius"], sort=False):
        row = dict(zip(["source", "rule", "where", "radius"], keys, strict=True))
        row |= {"area": 100 * part["area"].mean(), "n": len(part)}
        for column in ("top5", "top1"):
            found = stats.grouped_interval(100.0 * part[column], part["label"])
            row[column] = found.value
            row[f"{column} low"], row[f"{column} high"] = np.clip(found.shown_interval, 0, 100)
            row[f"{column} by class"] = 100 * part.groupby("label")[column].mean().mean()
        rows.append(row)
    return pd.DataFrame(rows)


def outcomes_of(results: pd.DataFrame, column: str, variant: Variant = UNMODIFIED) -> pd.Series:
    """One variant's column, by the photographs' names; the unmodified ones by default."""
    wanted = variant._replace(rule=rule_name(variant.rule))._asdict()
    chosen = results[np.logical_and.reduce([results[name] == value for name, value in wanted.items()])]
    if chosen.empty:
        raise ValueError(f"no rows for {variant}")
    return chosen.set_index("name")[column]


def paired_outcomes(
    results: pd.DataFrame, column: str, before: Variant, after: Variant
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A column of two variants (n,), of the photographs that have both, and their labels."""
    columns = [outcomes_of(results, column, v).rename(i) for i, v in enumerate((before, after))]
    both = pd.concat([*columns, outcomes_of(results, "label").rename("label")], axis=1, join="inner")
    return both[0].to_numpy(), both[1].to_numpy(), both["label"].to_numpy()


def share_kept(results: pd.DataFrame, variant: Variant, seed: int = 0) -> stats.Estimate:
    """Top-5 accuracy of a variant as a share of the unmodified accuracy, with the bootstrap interval over
    photographs (both accuracies drawn together). Raises ValueError when no unmodified one is right."""
    before, after, _ = paired_outcomes(results, "top5", UNMODIFIED, variant)
    if not before.any():
        raise ValueError("no unmodified photograph is right")
    drawn = np.random.default_rng(seed).integers(len(before), size=(4000, len(before)))
    right = before[drawn].sum(1)
    ratios = (after[drawn].sum(1) / np.maximum(right, 1))[right > 0]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return stats.Estimate(after.sum() / before.sum(), float(low), float(high), len(before), unit="images")


def accuracy_change(results: pd.DataFrame, column: str, before: Variant, after: Variant) -> stats.Estimate:
    """Change of accuracy in points between two variants, of photographs that have both, with the interval
    over their classes."""
    right_before, right_after, labels = paired_outcomes(results, column, before, after)
    points = 100.0 * (right_after.astype(float) - right_before.astype(float))
    return stats.grouped_interval(points, labels)


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
    present = set(zip(results["source"], results["rule"], results["where"], strict=True))
    rows = []
    for name, pair in compared.items():
        if all((variant.source, rule_name(variant.rule), variant.where) in present for variant in pair):
            areas = [100 * outcomes_of(results, "area", variant).mean() for variant in pair]
            named = {"comparison": name, "area before, %": areas[0], "area after, %": areas[1]}
            rows.append(named | accuracy_change(results, column, *pair).row("points"))
    return pd.DataFrame(rows).drop(columns="p")


def control_changes(results: pd.DataFrame) -> pd.DataFrame:
    """How much more blurring costs outside (and inside) LICNN's region than outside (inside) regions of the
    same area that come from elsewhere: negative is worse for LICNN's side."""
    pairs = {}
    for rule, name in ((AREA, f"{AREA:.0%}"), ("boxes", "area of the boxes")):
        for where in SIDES:
            for kind in REGION_SOURCES[1:]:
                if kind != "boxes" or rule == "boxes":
                    other = Variant(kind, rule, where, max(RADII))
                    pairs[f"{where}: LICNN minus {kind}, {name}"] = other, other._replace(source="LICNN")
    return accuracy_changes(results, pairs)


def area_curve(results: pd.DataFrame, areas: Sequence[float] = AREAS) -> pd.DataFrame:
    """Top-5 accuracy (%) against the share of the picture left sharp, the rest blurred at the largest radius.

    Rows source, area (%), accuracy, low, high (95 % intervals over the photographs' classes).
    """
    rows = []
    for source in (kind for kind in REGION_SOURCES if kind != "boxes"):
        for area in areas:
            variant = Variant(source, area, "background", max(RADII))
            _, right, labels = paired_outcomes(results, "top5", UNMODIFIED, variant)
            found = stats.grouped_interval(100.0 * right, labels)
            rows.append({"source": source, "area": 100 * area} | found.row("accuracy"))
    return pd.DataFrame(rows)[["source", "area", "accuracy", "low", "high"]]


def turned_photographs(results: pd.DataFrame, variant: Variant) -> pd.DataFrame:
    """The photographs whose top-5 correctness a variant changes: name, whether it was right before
    (right_before), and the likeliest class before and after."""
    columns = {
        "right_before": outcomes_of(results, "top5"),
        "right_after": outcomes_of(results, "top5", variant),
        "before": outcomes_of(results, "first"),
        "after": outcomes_of(results, "first", variant),
    }
    both = pd.concat(columns, axis=1, join="inner").rename_axis("name").reset_index()
    changed = both[both["right_before"] != both["right_after"]]
    return changed.drop(columns="right_after").reset_index(drop=True)


def turned_right(results: pd.DataFrame, variant: Variant, control: Variant) -> Beside:
    """How many photographs of ``PAPERS_PHOTOGRAPHS`` a variant turns from wrong to right by top-5, with the
    interval over photographs; and the same of a ``control`` region, with what the first has beyond it."""
    wrong = ~outcomes_of(results, "top5").astype(bool)
    own, other = (
        PAPERS_PHOTOGRAPHS * (wrong & outcomes_of(results, "top5", v).astype(bool)).to_numpy(float)
        for v in (variant, control)
    )
    limits = (-PAPERS_PHOTOGRAPHS, PAPERS_PHOTOGRAPHS)
    return _beside(own, {"random region": other}, lambda v: stats.mean_interval(v, "images", limits))


def wrong_photographs(results: pd.DataFrame) -> float:
    """How many of ``PAPERS_PHOTOGRAPHS`` are wrong by top-5 as they are: the most that can turn right."""
    return PAPERS_PHOTOGRAPHS * float((~outcomes_of(results, "top5").astype(bool)).mean())


def turned_counts(
    results: pd.DataFrame, variants: Mapping[str, Variant], photographs: str = ""
) -> pd.DataFrame:
    """How many photographs blur turns, both ways, a row a named variant: n, wrong to right with its share of
    the wrong ones (%), right to wrong, and the balance (% of all) with its interval and McNemar's p."""
    rows = []
    for name, variant in variants.items():
        before, after, _ = paired_outcomes(results, "top5", UNMODIFIED, variant)
        balance = stats.mcnemar(before, after)
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
        row = {"photographs": photographs, "region": name, "n": len(before), "wrong to right": gained}
        row |= {"of the wrong, %": 100 * gained / max(1, int((~before).sum())), "right to wrong": lost}
        rows.append(row | {"balance, %": str(balance), "p": balance.p})
    return pd.DataFrame(rows)
