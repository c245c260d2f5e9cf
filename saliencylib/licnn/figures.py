"""Figures of notebook 03 but for the blur experiment, each named after the paper's that it stands for."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage.segmentation import find_boundaries
from torch import Tensor, from_numpy

from saliencylib import stats
from saliencylib.figures import PALETTE, finish, forest, greyed, grid, lines, new, picture
from saliencylib.licnn.attribution import EDGE_DETECTOR
from saliencylib.licnn.blur import object_region, rule_name
from saliencylib.licnn.localisation import CONTROLLED, CONTROLS
from saliencylib.licnn.method import LayerSteps, lateral_inhibition
from saliencylib.licnn.results import mach_band_rises, mach_bands, mach_discs
from saliencylib.licnn.sanity import SIMILARITIES, class_similarity, spearman_similarity

IN_FIGURE_21 = ("LICNN", "LICNN, released code, bilinear", "Gradient", "Guided Backprop", "Grad-CAM")
IN_FIGURE_21 += (EDGE_DETECTOR,)
OWN_SCALES = "Every map has its own colour scale."


def figure_6(levels: int = 6) -> Figure:
    """Mach bands: stripes of grey, and the inhibition and difference along the middle row."""
    bands = mach_bands(levels)
    inhibition = lateral_inhibition(bands[None])[0]
    middle, width = bands.shape[0] // 2, bands.shape[1]
    rise = mach_band_rises(levels)["rise"].mean()
    figure, (top, axes) = new(6, 3.8, 2, 1, height_ratios=[1, 2.4])
    picture(top, bands.numpy(), vmin=0, vmax=1.1, cmap="gray", aspect="auto")
    axes.plot(bands[middle], color=PALETTE[6], label="grey level x")
    axes.plot(inhibition[middle], color=PALETTE[1], label="inhibition LI (equation 3)")
    axes.plot((bands - inhibition)[middle], color=PALETTE[0], label="x - LI: the dark side is darkened")
    axes.set(xlabel="pixel", ylabel="value", xlim=(0, width - 1))
    axes.legend()
    title = f"On the dark side of an edge the inhibition rises by {rise:.2f} times the step"
    below = f"n = {levels - 1} edges; synthetic stripes as in Figure 6; k = 7, a = 0.1, b = 0.9"
    return finish(figure, title, below)


def figure_6_2d() -> Figure:
    """Mach bands in two dimensions: stripes and discs of grey, their inhibition, and the difference."""
    rows = []
    for grey in (mach_bands(height=120), mach_discs()):
        inhibition = lateral_inhibition(grey[None])[0]
        rows.append([grey.numpy(), inhibition.numpy(), (grey - inhibition).numpy()])
    title = "A dark band follows every edge, whatever its direction"
    below = "synthetic; k = 7, a = 0.1, b = 0.9. Every picture has its own colour scale."
    return grid(rows, ["stripes", "discs"], ["grey level x", "inhibition LI", "x - LI"], title, below)


def inhibition_steps(
    crop: Image.Image, steps: Sequence[LayerSteps], layers: Sequence[int], what: str
) -> Figure:
    """One photograph through chosen ReLUs, a row each: what the gate leaves of it, Max-C map, inhibition,
    gate, and the response of the second pass."""
    columns = {"max_c": "gradient, Max-C", "inhibition": "inhibition", "kept": "gate"}
    columns |= {"response": "response, second pass"}
    rows = []
    for step in (steps[layer] for layer in layers):
        gate = Image.fromarray(step.kept.cpu().numpy()).resize(crop.size, Image.Resampling.NEAREST)
        maps = [getattr(step, name).float().cpu().numpy() for name in columns]
        rows.append([greyed(np.asarray(crop), np.asarray(gate)), *maps])
    shares = [float(step.kept.float().mean()) for step in steps]
    names = [f"ReLU {layer + 1}\n{steps[layer].kept.shape[-1]} px" for layer in layers]
    title = f"The gate keeps {min(shares):.0%} to {max(shares):.0%} of a layer's locations"
    below = f"{what}\n{OWN_SCALES} One that is constant is black."
    return grid(rows, names, ["where the gate is open", *columns.values()], title, below)


def kept_locations(shares: Mapping[str, np.ndarray], what: str) -> Figure:
    """Share of locations kept at every ReLU (layers, N), a line a preset, with the range over photographs."""
    tables = []
    for name, values in shares.items():
        columns = {"layer": np.arange(1, len(values) + 1), "kept": values.mean(1), "preset": name}
        tables.append(pd.DataFrame(columns | {"low": values.min(1), "high": values.max(1)}))
    blank = {name: int((values.mean(1) < 0.001).sum()) for name, values in shares.items()}
    worst = max(blank, key=blank.get)
    title = f"By the {worst} {blank[worst]} of {len(shares[worst])} layers keep under 0.1 % of locations"
    below = f"{what}; lines: mean over photographs, bands: their range"
    labels = "ReLU, in forward order", "share of locations kept"
    return lines(pd.concat(tables, ignore_index=True), "layer", "kept", "preset", *labels, title, below)


def figure_4(
    crops: Sequence[Image.Image], maps: np.ndarray, names: Sequence[Sequence[str]], below: str
) -> Figure:
    """Attention maps (N, K, H, W) of the likeliest classes of photographs, a column each, named."""
    rows = [[np.asarray(crop) for crop in crops], *maps.swapaxes(0, 1)]
    named = [[textwrap.fill(name, 17) for name in row] for row in zip(*names, strict=True)]
    alike = class_similarity(from_numpy(maps)).mean()
    title = f"The maps of the {len(named)} likeliest classes have a correlation of {alike:.2f} on average"
    row_names = ["photograph", *(f"class {place + 1}" for place in range(len(named)))]
    return grid(rows, row_names, [], title, below, cell_names=[[""] * len(crops), *named])


def figure_5(
    crops: Sequence[Image.Image],
    maps: Mapping[str, np.ndarray],
    rules: Sequence[str | float],
    below: str,
) -> Figure:
    """Photographs, their saliency maps (N, H, W) by preset, and what each rule marks as the object in them
    (the rest is greyed)."""
    pixels = [np.asarray(crop) for crop in crops]
    rows, names, shares = [pixels], ["photograph"], []
    for preset, found in maps.items():
        rows.append(list(found))
        names.append(preset.replace("_", "\n"))
        for rule in rules:
            regions = [object_region(saliency, rule) for saliency in found]
            rows.append([greyed(*pair) for pair in zip(pixels, regions, strict=True)])
            names.append(rule_name(rule).replace(" of the ", "\nof the\n").replace(" rule", "\nrule"))
            shares.append(np.mean(regions))
    title = f"The {rule_name(rules[0])} marks {shares[0]:.0%} of these pictures as the object "
    title += f"({next(iter(maps))})"
    return grid(rows, names, [""] * len(crops), title, below)


def figure_7(
    crops: Sequence[Image.Image],
    maps: np.ndarray,
    masks: np.ndarray,
    outside: stats.Estimate,
    centre: stats.Estimate,
    below: str,
) -> Figure:
    """People without a class: photographs with the people's boxes outlined, and their saliency maps; how far
    people recede in these, and in a Gaussian in the centre."""
    outlined = [
        np.where(
            binary_dilation(find_boundaries(mask), iterations=2)[..., None],
            np.uint8([255, 220, 0]),
            np.asarray(crop),
        )
        for crop, mask in zip(crops, masks, strict=True)
    ]
    title = f"Outside minus inside the people (n = {outside.n}): {outside} of the map's maximum, "
    title += f"of a centre Gaussian's {centre}"
    return grid([outlined, list(maps)], ["photograph", "saliency"], [""] * len(crops), title, below)


def figure_9(crops: Sequence[Image.Image], maps: Mapping[str, np.ndarray], below: str) -> Figure:
    """Figure 9's dogs: photographs, and below each its saliency map by every preset (N, H, W), by name."""
    rows = [[np.asarray(crop) for crop in crops], *(list(found) for found in maps.values())]
    alike = class_similarity(from_numpy(np.stack(list(maps.values()), 1))).mean()
    title = f"The two presets' maps have a correlation of {alike:.2f} on average"
    names = ["photograph", *(name.replace("_", "\n") for name in maps)]
    return grid(rows, names, [""] * len(crops), title, below)


def methods_side_by_side(crops: Sequence[Image.Image], maps: Mapping[str, np.ndarray], below: str) -> Figure:
    """Maps (N, H, W) of photographs by every method, a row a photograph, a column a method. The highest 0.5 %
    of a map's values are shown as one, since single pixels would darken all others."""
    clipped = {name: [np.minimum(m, np.quantile(m, 0.995)) for m in found] for name, found in maps.items()}
    rows = [[np.asarray(crop), *(found[i] for found in clipped.values())] for i, crop in enumerate(crops)]
    names = ["photograph", *(name.replace(" ", "\n", 1) for name in maps)]
    spread = {name: np.mean([_half_energy(values) for values in found]) for name, found in maps.items()}
    told = [f"{spread[name]:.0%} ({name})" for name in ("LICNN", "Gradient", "Grad-CAM") if name in spread]
    title = f"The smallest part of a picture that holds half of its map: {', '.join(told)}"
    return grid(rows, [""] * len(rows), names, title, below)


def _half_energy(values: np.ndarray) -> float:
    """The smallest share of a map's pixels that holds half of its sum."""
    sums = np.sort(values, axis=None)[::-1].cumsum()
    return float((np.searchsorted(sums, sums[-1] / 2) + 1) / sums.size)


def objects_without_class(found: pd.DataFrame, what: str) -> Figure:
    """How far saliency maps stand out on objects of known and of unknown classes (column objects), beside
    maps that ask no classifier: means of ``object_contrasts`` with intervals."""
    rows = []
    for kind, part in found.groupby("objects", sort=False):
        for column, name in {"inside minus outside": "LICNN", **{c: c for c in CONTROLS}}.items():
            mean = stats.mean_interval(part[column], "images", (-1, 1))
            rows.append({"objects": f"{kind} (n = {len(part)})", "map": name} | mean.row())
    means = found.groupby("objects", sort=False)[["inside minus outside", "centre Gaussian"]].mean()
    told = [f"{kind} {licnn:+.2f}, {centre:+.2f}" for kind, (licnn, centre) in means.T.items()]
    title = f"How far LICNN and a centre Gaussian stand out on objects without a class:\n{'; '.join(told)}"
    label = "mean inside minus outside the object, share of the map's maximum"
    below = f"{what}; bars: 95 % t intervals"
    return forest(pd.DataFrame(rows), "value", "objects", label, title, below, colours="map")


def localisation_forest(scores: pd.DataFrame, what: str) -> Figure:
    """How well maps sit on objects: pointing game, AUC, and energy above the objects' area, a row a map of
    ``localisation_scores``, a colour a classifier, with 95 % intervals over classes."""
    scores = scores[~scores["map"].isin(CONTROLLED)].assign(above=scores["energy"] - scores["area"])
    panels = {"pointing": "pointing game", "auc": "AUC", "above": "energy above the area"}
    rows = []
    for column, panel in panels.items():
        for (classifier, name), part in scores.groupby(["classifier", "map"], sort=False):
            found = stats.grouped_interval(part[column].astype(float), part["label"]).row()
            rows.append({"map": name, "classifier": classifier, "score": panel} | found)
    means = scores.groupby(["classifier", "map"], sort=False)["auc"].mean().unstack()
    told = [
        f"{name}'s on {(means['LICNN'] > means[name]).sum()}"
        for name in ("centre Gaussian", "RC", "Grad-CAM")
        if name in means
    ]
    title = f"Of {len(means)} classifiers LICNN's mean AUC is above {', above '.join(told)}"
    area = f"objects cover {scores['area'].mean():.0%} of the pictures"
    below = f"{what}; {area}; bars: 95 % intervals over classes"
    options = {"panels": "score", "colours": "classifier", "zero": None, "width": 9}
    figure = forest(pd.DataFrame(rows), "value", "map", "mean", title, below, **options)
    for axes, nothing in zip(figure.axes, (0, 0.5, 0), strict=True):
        axes.axvline(nothing, color="0.5", linewidth=1)
    return figure


def auc_by_area(sizes: pd.DataFrame, what: str) -> Figure:
    """AUC of some maps against what the boxes take of the picture, from ``results.localisation_by_area``."""
    table = sizes.assign(share=50 * (sizes["from"] + sizes["to"]), low=np.nan, high=np.nan)
    small = table[table["from"] == table["from"].min()].set_index("map")["auc"]
    title = f"On the smallest objects LICNN has an AUC of {small['LICNN']:.2f}, "
    title += f"a centre Gaussian {small['centre Gaussian']:.2f}"
    counts = ", ".join(str(n) for n in sizes.drop_duplicates("from")["n"])
    below = f"n = {counts} photographs by size; {what}"
    labels = "share of the picture that the boxes take, % (middle of the range)", "AUC"
    return lines(table, "share", "auc", "map", *labels, title, below, band=False)


def randomised_maps(
    crop: Image.Image, columns: Mapping[str, Mapping[str, np.ndarray]], scheme: str, what: str
) -> Figure:
    """Figures 11 and 20: one photograph and its maps, a row a method, a column a stage of randomisation."""
    methods = list(next(iter(columns.values())))
    rows = [[maps[method] for maps in columns.values()] for method in methods]
    first, *others = (maps["LICNN"] for maps in columns.values())
    alike = [f"{spearman_similarity(first, found):z.2f}" for found in others]
    titles = {
        "cascading": "LICNN's map as the weights are drawn anew from the output down: rank correlation with "
        f"the original {alike[0]} at first, {alike[-1]} in the end",
        "independent": "LICNN's map when one part alone has new weights: rank correlation with the original "
        f"{min(alike, key=float)} to {max(alike, key=float)}",
    }
    names = ["photograph", *(method.replace(" ", "\n", 1) for method in methods)]
    stages = [name.replace("classifier", "class-\nifier") for name in columns]
    cells = [[""] * len(stages), stages, *([[""] * len(stages)] * (len(rows) - 1))]
    below = f"n = 1 photograph, {what}\n{OWN_SCALES} One that is empty is black."
    return grid([[np.asarray(crop)], *rows], names, [], titles[scheme], below, cell_names=cells)


def figure_12(results: pd.DataFrame, what: str) -> Figure:
    """Figure 12: similarity to the original map by stage, a line a method, with bands of 95 % each."""
    names = dict(zip(SIMILARITIES, ("HOG", "Spearman, absolute", "Spearman, signed"), strict=True))
    table = pd.concat([_by_stage(results, column).assign(panel=name) for column, name in names.items()])
    last = results[results["stage"] == results["stage"].iloc[-1]]
    last = last.groupby("method")[["hog", "spearman"]].mean()
    told = [
        f"{name} {hog:z.2f} and {rank:z.2f}"
        for name, (hog, rank) in last.T.items()
        if name in ("LICNN", "Grad-CAM", "Guided Backprop")
    ]
    title = f"Similarity left when all weights are random, by HOG and by rank: {', '.join(told)}"
    below = f"{what}; bands: 95 % t intervals over photographs"
    labels = "randomised from the output down to", "similarity to the original map"
    several = results["image"].nunique() > 2
    options = {"panels": "panel", "band": several, "width": 9.5}
    figure = lines(table, "stage", "value", "method", *labels, title, below, **options)
    for axes in figure.axes:
        axes.set_ylim(-0.4, 1.02)
        axes.tick_params("x", rotation=60, labelsize=7)
    for axes in (figure.axes[0], figure.axes[-1]):  # one label serves all three
        axes.set_xlabel("")
    return figure


def figure_21(results: pd.DataFrame, what: str) -> Figure:
    """Figure 21: HOG similarity to the original map when one part alone is random, a colour a method, for
    those that the pictures of Figure 20 show."""
    results = results[results["method"].isin(IN_FIGURE_21)]
    mean = results.loc[results["method"] == "LICNN", "hog"].mean()
    title = f"One random part leaves LICNN a HOG similarity of {mean:.2f} on average"
    below = f"{what}; bars: 95 % t intervals over photographs"
    table = _by_stage(results, "hog").rename(columns={"stage": "the part that is random"})
    label = "HOG similarity to the original map"
    return forest(table, "value", "the part that is random", label, title, below, colours="method")


def _by_stage(results: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means over images (each the mean over seeds) with intervals cut at -1 and 1, none where all images have
    one value: rows method, stage."""
    per_image = results.groupby(["method", "stage", "image"], sort=False)[column].mean()
    rows = []
    for (method, stage), values in per_image.groupby(level=["method", "stage"], sort=False):
        found = stats.mean_interval(values, "images", (-1, 1)).row()
        nothing = dict.fromkeys(("low", "high"), np.nan) if np.ptp(values) == 0 else {}
        rows.append({"method": method, "stage": stage} | found | nothing)
    return pd.DataFrame(rows)


def figure_22(
    crop: Image.Image,
    rows: Mapping[str, Tensor],
    class_names: Sequence[str],
    lost: stats.Estimate,
    what: str,
) -> Figure:
    """Attention maps (K, H, W) of the likeliest classes of one photograph, a row a way of computing them;
    ``lost`` is by how much the maps of five classes correlate less after the softmax, over photographs."""
    pictures = [[np.asarray(crop), *maps.cpu().numpy()] for maps in rows.values()]
    title = "Before or after the softmax, the five maps are as alike"
    if lost.low > 0 or lost.high < 0:
        word = "less" if lost.low > 0 else "more"
        title = f"After the softmax the five maps are {word} alike, by a correlation of {abs(lost.value):.3f}"
    return grid(pictures, list(rows), ["photograph", *class_names], title, f"{what}\n{OWN_SCALES}")


def figure_24(
    pictures: Sequence[np.ndarray],
    maps: Mapping[str, np.ndarray],
    names: Sequence[tuple[str, str]],
    below: str,
) -> Figure:
    """Pairs of photographs side by side (H, 2 W, 3) and the maps (N, 2, H, 2 W) of both classes, a column a
    pair; rows by way of computing and class."""
    rows, labels = [list(pictures)], ["pair"]
    for way, found in maps.items():
        rows += [list(found[:, 0]), list(found[:, 1])]
        labels += [f"{way},\nleft class", f"{way},\nright class"]
    shares = [f"{own_half_share(found):.0%} {way}" for way, found in maps.items()]
    title = f"Share of these maps in the half of their class: {', '.join(shares)} the softmax"
    titles = [" | ".join(textwrap.shorten(name, 16, placeholder="...") for name in pair) for pair in names]
    return grid(rows, labels, titles, title, below, side=2.5)


def own_half_share(maps: np.ndarray) -> float:
    """Mean share of maps' sums that lies in their class's half: maps (N, 2, H, 2 W) of the left half's class
    and of the right's."""
    halves = np.stack(np.split(maps, 2, axis=3), 2).sum((3, 4))
    return float(np.mean(halves[:, (0, 1), (0, 1)] / np.maximum(halves.sum(2), 1e-30)))


def shortcut_maps(
    pictures: Sequence[Image.Image], maps: Mapping[str, np.ndarray], energy: Mapping[str, float], what: str
) -> Figure:
    """Digits and LICNN's maps (N, H, W) of networks trained on different backgrounds, a row each."""
    found = [f"{energy[kind]:+.3f} ({kind} backgrounds)" for kind in maps]
    return grid(
        [[np.asarray(p) for p in pictures], *(list(rows) for rows in maps.values())],
        ["digit on a\nswapped\nbackground", *(f"trained on\n{kind}\nbackgrounds" for kind in maps)],
        [""] * len(pictures),
        f"Map energy on the digit above its area: {', '.join(found)}",
        f"{what}\n{OWN_SCALES}",
    )
