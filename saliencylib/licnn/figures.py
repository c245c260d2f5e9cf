"""Figures of notebook 03, each named after the paper's figure that it stands for."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from skimage.segmentation import find_boundaries
from torch import Tensor

from saliencylib.licnn.method import blur
from saliencylib import stats
from saliencylib.figures import PALETTE, caption, greyed, new, picture, picture_grid, wrapped
from saliencylib.licnn.method import LayerSteps, lateral_inhibition, mach_bands, mach_discs


def figure_6(levels: int = 6) -> Figure:
    """Mach bands: stripes of grey, and the inhibition and difference along the middle row."""
    bands = mach_bands(levels)
    inhibition = lateral_inhibition(bands[None])[0]
    middle, edge, width = bands.shape[0] // 2, bands.shape[1] // levels - 1, bands.shape[1]
    rise = float(inhibition[middle, edge] / inhibition[middle, edge // 2])
    figure, (top, below) = new(6, 3.8, 2, 1, height_ratios=[1, 2.4])
    picture(top, bands.numpy(), vmin=0, vmax=1.1, cmap="gray", aspect="auto")
    top.set_title(
        f"Inhibition on the dark side of an edge is {rise:.0f} times that inside a stripe", loc="left"
    )
    below.plot(bands[middle], color=PALETTE[6], label="grey level x")
    below.plot(inhibition[middle], color=PALETTE[1], label="inhibition LI (equation 3)")
    below.plot((bands - inhibition)[middle], color=PALETTE[0], label="x - LI: the dark side is darkened")
    below.set(xlabel="pixel", ylabel="value", xlim=(0, width - 1))
    below.legend()
    caption(figure, f"n = {levels - 1} edges; synthetic stripes as in Figure 6; k = 7, a = 0.1, b = 0.9")
    return figure


def figure_6_2d() -> Figure:
    """Mach bands in two dimensions: stripes and discs of grey, their inhibition, and the difference."""
    rows = []
    for grey in (mach_bands(height=120), mach_discs()):
        inhibition = lateral_inhibition(grey[None])[0]
        rows.append([grey.numpy(), inhibition.numpy(), (grey - inhibition).numpy()])
    return picture_grid(
        rows,
        ["stripes", "discs"],
        ["grey level x", "inhibition LI", "x - LI"],
        "A dark band follows every edge, whatever its direction",
        "synthetic; k = 7, a = 0.1, b = 0.9. Every picture has its own colour scale.",
    )


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
    return picture_grid(
        rows,
        [f"ReLU {layer + 1}\n{steps[layer].kept.shape[-1]} px" for layer in layers],
        ["where the gate is open", *columns.values()],
        f"The gate keeps {min(shares):.0%} to {max(shares):.0%} of a layer's locations",
        f"{what}\nEvery map has its own colour scale.",
    )


def kept_locations(shares: Mapping[str, np.ndarray], what: str) -> Figure:
    """Share of locations kept at every ReLU (layers, N), a line a preset, with the range over photographs."""
    figure, axes = new(6, 3)
    for (name, values), colour in zip(shares.items(), PALETTE, strict=False):
        layers = np.arange(1, len(values) + 1)
        axes.plot(layers, values.mean(1), "o-", markersize=3, color=colour, label=name)
        axes.fill_between(layers, values.min(1), values.max(1), color=colour, alpha=0.15, linewidth=0)
    blank = {name: int((values.mean(1) < 0.001).sum()) for name, values in shares.items()}
    worst = max(blank, key=blank.get)
    axes.set_title(
        f"By the {worst} {blank[worst]} of {len(shares[worst])} layers keep under 0.1 % of locations"
    )
    axes.set(xlabel="ReLU, in forward order", ylabel="share of locations kept", ylim=(0, 1))
    axes.legend()
    caption(figure, f"{what}; lines: mean over photographs, bands: their range")
    return figure


def class_maps(
    crop: Image.Image,
    rows: Mapping[str, Tensor],
    class_names: Sequence[str],
    similarity: Mapping[str, float],
    what: str,
) -> Figure:
    """Attention maps (K, H, W) of the likeliest classes of one photograph, a row a way of computing them."""
    grids = [[np.asarray(crop), *maps.cpu().numpy()] for maps in rows.values()]
    before, after = similarity.values()
    word = "less" if after < before else "no less"
    return picture_grid(
        grids,
        list(rows),
        ["photograph", *class_names],
        f"After the softmax the five maps are {word} alike: correlation {after:.3f} against {before:.3f}",
        f"{what}\nEvery map has its own colour scale.",
    )


def figure_4(
    crops: Sequence[Image.Image], maps: np.ndarray, names: Sequence[Sequence[str]], below: str
) -> Figure:
    """Attention maps (N, K, H, W) of the likeliest classes of photographs, a column each, named."""
    rows = [[np.asarray(crop) for crop in crops], *maps.swapaxes(0, 1)]
    titles = [[""] * len(crops)] + [
        [textwrap.fill(name, 17) for name in row] for row in zip(*names, strict=True)
    ]
    return picture_grid(
        rows,
        ["photograph", *(f"class {place + 1}" for place in range(maps.shape[1]))],
        [],
        f"Attention maps of the {maps.shape[1]} likeliest classes: much the same places, class by class",
        wrapped(below, len(crops)),
        cell_names=titles,
    )


def figure_7(
    crops: Sequence[Image.Image], maps: np.ndarray, masks: np.ndarray, outside: stats.Estimate, below: str
) -> Figure:
    """People without a class: photographs with the people's boxes outlined, saliency maps, and the maps
    inside the boxes only."""
    outlined = [_outlined(np.asarray(crop), mask) for crop, mask in zip(crops, masks, strict=True)]
    found = (
        "stand out" if outside.high < 0 else "recede" if outside.low > 0 else "neither stand out nor recede"
    )
    title = f"People {found}: outside minus inside (n = {outside.n}) {outside} of the maximum"
    title = textwrap.fill(title, 15 * len(crops) + 5)
    return picture_grid(
        [outlined, list(maps)],
        ["photograph", "saliency"],
        [""] * len(crops),
        title,
        wrapped(below, len(crops)),
    )


def _outlined(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(find_boundaries(mask)[..., None], np.uint8([255, 220, 0]), pixels)


def figure_9(crops: Sequence[Image.Image], maps: Mapping[str, np.ndarray], below: str) -> Figure:
    """Maps (N, H, W) of photographs by every method, a row a photograph, a column a method. The highest 0.5 %
    of a map's values are shown as one, since single pixels would darken all others."""
    clipped = {name: [np.minimum(m, np.quantile(m, 0.995)) for m in found] for name, found in maps.items()}
    rows = [[np.asarray(crop), *(found[i] for found in clipped.values())] for i, crop in enumerate(crops)]
    names = [name.replace(" ", "\n", 1) for name in maps]
    title = "LICNN marks areas where gradients mark points"
    return picture_grid(rows, [""] * len(rows), ["photograph", *names], title, wrapped(below, len(names) + 1))


def objects_without_class(found: pd.DataFrame, what: str) -> Figure:
    """How far saliency maps stand out on objects of known and of unknown classes: a dot an object, means with
    intervals, beside a centre Gaussian. ``found`` has the columns objects (kind), inside minus outside and
    centre Gaussian."""
    figure, axes = new(6.5, 1.2 + 0.5 * found["objects"].nunique())
    kinds = list(dict.fromkeys(found["objects"]))
    for place, kind in enumerate(kinds):
        rows = found[found["objects"] == kind]
        for column, colour, shift in (
            ("inside minus outside", PALETTE[0], -0.15),
            ("centre Gaussian", "0.5", 0.15),
        ):
            values = rows[column].to_numpy()
            mean = stats.mean_interval(values, "images", (-1, 1))
            axes.plot(values, np.full(len(values), place + shift), ".", color=colour, alpha=0.35)
            error = [[mean.value - mean.low], [mean.high - mean.value]]
            label = {"inside minus outside": "LICNN", "centre Gaussian": "centre Gaussian"}[column]
            axes.errorbar(
                mean.value,
                place + shift,
                xerr=error,
                fmt="o",
                color=colour,
                capsize=3,
                label=label if place == 0 else None,
            )
    axes.axvline(0, color="0.5", linewidth=1)
    axes.set_yticks(range(len(kinds)), [f"{kind} (n = {(found['objects'] == kind).sum()})" for kind in kinds])
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set(xlabel="mean inside minus outside the object, share of the map's maximum", ylabel="objects")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    judged = "unknown" if "unknown" in kinds else kinds[0]
    licnn, centre = found.loc[found["objects"] == judged, ["inside minus outside", "centre Gaussian"]].mean()
    title = f"On objects without a class ({judged}) LICNN stands out by {licnn:+.2f}, "
    title = textwrap.fill(title + f"a centre Gaussian by {centre:+.2f}", 80)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    caption(figure, f"{what}; bars: 95 % t intervals")
    return figure


def saliency_gallery(
    crops: Sequence[Image.Image], maps: np.ndarray, rules: Sequence[str | float], below: str
) -> Figure:
    """Photographs, their saliency maps, and what each rule marks as the object (the rest is greyed)."""
    rows = [[np.asarray(crop) for crop in crops], list(maps)]
    covered = {}
    for rule in rules:
        regions = [blur.region(saliency, rule) for saliency in maps]
        covered[rule] = np.mean(regions)
        rows.append([greyed(np.asarray(crop), mask) for crop, mask in zip(crops, regions, strict=True)])
    names = [
        blur.rule_name(rule).replace(" of the ", "\nof the\n").replace(" with", "\nwith") for rule in rules
    ]
    return picture_grid(
        rows,
        ["photograph", "saliency", *names],
        [""] * len(crops),
        f"The {blur.rule_name(rules[0])} marks {covered[rules[0]]:.0%} of these pictures as the object",
        wrapped(below, len(crops)),
    )


def randomised_maps(columns: Mapping[str, Mapping[str, np.ndarray]], scheme: str, what: str) -> Figure:
    """Figures 11 and 20: one photograph's maps, a row a method, a column a stage of randomisation."""
    methods = list(next(iter(columns.values())))
    rows = [[maps[method] for maps in columns.values()] for method in methods]
    titles = {
        "cascading": "Maps as the weights are drawn anew from the output down",
        "independent": "Maps when one part alone has new weights",
    }
    return picture_grid(
        rows,
        [method.replace(" ", "\n", 1) for method in methods],
        [name.replace("classifier", "class-\nifier") for name in columns],
        titles[scheme],
        f"{what}\nEvery map has its own colour scale.",
    )


def figure_12(results: pd.DataFrame, what: str) -> Figure:
    """Figure 12: similarity to the original map by stage, a line a method, with bands of 95 % each."""
    names = {"hog": "HOG", "spearman": "Spearman, absolute", "spearman_signed": "Spearman, signed"}
    figure, axes = new(9.5, 3.8, 1, 3, sharey=True)
    stages = list(dict.fromkeys(results["stage"]))
    place = np.arange(len(stages))
    for axis, (column, title) in zip(axes, names.items(), strict=True):
        for method, colour in zip(dict.fromkeys(results["method"]), PALETTE, strict=False):
            mean, low, high = _by_stage(results[results["method"] == method], column, stages)
            axis.plot(place, mean, color=colour, label=method, linewidth=2.5 if method == "LICNN" else 1.2)
            if results["image"].nunique() > 2:
                axis.fill_between(place, low, high, color=colour, alpha=0.12, linewidth=0)
        axis.set(title=title, xticks=place, ylim=(-0.4, 1), xlabel="randomised from the output down to")
        axis.set_xticklabels(stages, rotation=60, ha="right", fontsize=7)
    axes[0].set_ylabel("similarity to the original map")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=7.5)
    last = results[results["stage"] == stages[-1]].groupby("method")["hog"].mean()
    figure.suptitle(
        f"With all weights random LICNN's HOG similarity is {last['LICNN']:.2f}, "
        f"the others' {last.drop('LICNN').mean():.2f} on average",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    caption(figure, f"{what}; bands: 95 % t intervals over photographs")
    return figure


def _by_stage(rows: pd.DataFrame, column: str, stages: Sequence[str]) -> tuple[list, list, list]:
    per_image = rows.groupby(["stage", "image"])[column].mean()
    found = [stats.mean_interval(per_image[stage].to_numpy(), "images") for stage in stages]
    bounds = [(max(e.low, -1), min(e.high, 1)) for e in found]
    return [e.value for e in found], [low for low, _ in bounds], [high for _, high in bounds]


def figure_21(results: pd.DataFrame, what: str) -> Figure:
    """Figure 21: HOG similarity to the original map when one part alone is random, a line a method."""
    figure, axes = new(8, 3.6)
    stages, methods = list(dict.fromkeys(results["stage"])), list(dict.fromkeys(results["method"]))
    shifts = np.linspace(-0.3, 0.3, len(methods))
    for method, shift, colour in zip(methods, shifts, PALETTE, strict=False):
        mean, low, high = _by_stage(results[results["method"] == method], "hog", stages)
        axes.errorbar(
            np.arange(len(stages)) + shift,
            mean,
            yerr=[np.subtract(mean, low), np.subtract(high, mean)],
            color=colour,
            marker="o",
            markersize=4,
            linestyle="none",
            capsize=1,
            elinewidth=0.8,
            label=method,
        )
    licnn_mean = results.loc[results["method"] == "LICNN", "hog"].mean()
    axes.set_title(f"One random part leaves LICNN a HOG similarity of {licnn_mean:.2f} on average")
    axes.set(ylabel="HOG similarity to the original map", xlabel="the part that is random", ylim=(-0.4, 1))
    axes.set_xticks(range(len(stages)), stages, rotation=60, ha="right", fontsize=7)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=7.5)
    caption(figure, f"{what}; bars: 95 % t intervals over photographs")
    return figure


def localisation(scores: pd.DataFrame, what: str) -> Figure:
    """How well maps sit on objects: pointing game, AUC, and energy above the objects' area, a row a map of
    ``licnn_experiment.localisation_scores``, with 95 % bootstrap intervals over images."""
    scores = scores.assign(above=scores["energy"] - scores["area"])
    panels = {"pointing": "pointing game", "auc": "AUC", "above": "energy above the area"}
    names = list(dict.fromkeys(scores["map"]))
    figure, axes = new(10, 0.9 + 0.24 * len(names), 1, 3, sharey=True)
    for axis, (column, label) in zip(axes, panels.items(), strict=True):
        for place, name in enumerate(names):
            values = scores.loc[scores["map"] == name, column].to_numpy(float)
            found = stats.bootstrap_interval(values)
            error = [[found.value - found.low], [found.high - found.value]]
            colour = PALETTE[0] if name.startswith("LICNN") else PALETTE[1]
            axis.errorbar(found.value, place, xerr=error, fmt="o", markersize=4, color=colour, capsize=2)
        axis.set(xlabel=label)
        axis.axvline({"auc": 0.5}.get(column, 0), color="0.5", linewidth=1)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].invert_yaxis()
    means = scores.groupby("map")["above"].mean()
    figure.suptitle(
        f"{means.idxmax()} has the most energy on the objects, {means.max():+.2f} above their area; "
        f"LICNN {means['LICNN']:+.2f}, centre Gaussian {means['centre Gaussian']:+.2f}",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    area = scores["area"].mean()
    caption(figure, f"{what}; objects cover {area:.0%} of the pictures; bars: 95 % bootstrap intervals")
    return figure


def composites(
    pictures: Sequence[np.ndarray],
    maps: Mapping[str, np.ndarray],
    names: Sequence[tuple[str, str]],
    below: str,
) -> Figure:
    """Pairs of photographs side by side (H, 2 W, 3) and the maps (N, 2, H, 2 W) of both classes, a column a
    pair; rows by way of computing and class."""
    rows, labels = [list(pictures)], ["pair"]
    for way, found in maps.items():
        for side, word in enumerate(("left", "right")):
            rows.append(list(found[:, side]))
            labels.append(f"{way},\n{word} class")
    titles = [" | ".join(textwrap.shorten(name, 16, placeholder="...") for name in pair) for pair in names]
    title = "The map of one half's class lies on both halves"
    figure, axes = new(
        2.5 * len(pictures) + 0.6, 1.25 * len(rows) + 0.6, len(rows), len(pictures), squeeze=False
    )
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            picture(axes[r, c], image, titles[c] if r == 0 else "")
        axes[r, 0].set_ylabel(labels[r], fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    caption(figure, textwrap.fill(below, 42 * len(pictures)))
    return figure


def shortcut_maps(
    pictures: Sequence[Image.Image],
    maps: Mapping[str, np.ndarray],
    energy: Mapping[str, float],
    what: str,
) -> Figure:
    """Digits and LICNN's maps (N, H, W) of networks trained on different backgrounds, a row each."""
    kinds = list(maps)
    title = f"Map energy on the digit above its area: {energy[kinds[0]]:+.3f} ({kinds[0]} backgrounds), "
    return picture_grid(
        [[np.asarray(p) for p in pictures], *(list(found) for found in maps.values())],
        ["digit on a\nswapped\nbackground", *(f"trained on\n{kind}\nbackgrounds" for kind in kinds)],
        [""] * len(pictures),
        title + f"{energy[kinds[1]]:+.3f} ({kinds[1]})",
        f"{what}\nEvery map has its own colour scale.",
    )
