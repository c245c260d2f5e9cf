"""Figures of notebook 03, each named after the paper's figure that it stands for."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from saliencylib import blur, stats
from saliencylib.data import PhotoSet
from saliencylib.figures import PALETTE, caption, new, picture, picture_grid
from saliencylib.licnn import LICNN, LayerSteps, lateral_inhibition, mach_bands
from saliencylib.licnn_experiment import authors, crops_and_inputs


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
        rows.append([_greyed(np.asarray(crop), np.asarray(gate)), *maps])
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


def saliency_gallery(
    crops: Sequence[Image.Image], maps: np.ndarray, rules: Sequence[str | float], below: str
) -> Figure:
    """Photographs, their saliency maps, and what each rule marks as the object (the rest is greyed)."""
    rows = [[np.asarray(crop) for crop in crops], list(maps)]
    covered = {}
    for rule in rules:
        regions = [blur.region(saliency, rule) for saliency in maps]
        covered[rule] = np.mean(regions)
        rows.append([_greyed(np.asarray(crop), mask) for crop, mask in zip(crops, regions, strict=True)])
    names = [
        blur.rule_name(rule).replace(" of the ", "\nof the\n").replace(" with", "\nwith") for rule in rules
    ]
    return picture_grid(
        rows,
        ["photograph", "saliency", *names],
        [""] * len(crops),
        f"The {blur.rule_name(rules[0])} marks {covered[rules[0]]:.0%} of these pictures as the object",
        _wrapped(below, len(crops)),
    )


def _wrapped(text: str, columns: int) -> str:
    """A caption in lines that fit below a grid of so many pictures."""
    return "\n".join(textwrap.fill(line, 21 * columns) for line in text.split("\n"))


def _greyed(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask[..., None], pixels, (0.25 * pixels + 150).astype(np.uint8))


def randomised_maps(columns: Mapping[str, Mapping[str, np.ndarray]], what: str) -> Figure:
    """Figure 10: one photograph's maps, a row a method, a column a stage of randomisation."""
    methods = list(next(iter(columns.values())))
    rows = [[maps[method] for maps in columns.values()] for method in methods]
    return picture_grid(
        rows,
        [method.replace(" ", "\n", 1) for method in methods],
        [name.replace("classifier", "class-\nifier") for name in columns],
        "Maps as the weights are drawn anew from the output down",
        f"{what}\nEvery map has its own colour scale.",
    )


def figure_12(results: pd.DataFrame, what: str) -> Figure:
    """Figures 12 and 21: similarity to the original map by stage, a line a method, bands of 95 %."""
    names = {"hog": "HOG", "spearman": "Spearman, absolute", "spearman_signed": "Spearman, signed"}
    figure, axes = new(9.5, 3.8, 1, 3, sharey=True)
    stages = list(dict.fromkeys(results["stage"]))
    place = np.arange(len(stages))
    for axis, (column, title) in zip(axes, names.items(), strict=True):
        for method, colour in zip(dict.fromkeys(results["method"]), PALETTE, strict=False):
            mean, low, high = _by_stage(results[results["method"] == method], column, stages)
            axis.plot(place, mean, color=colour, label=method, linewidth=2.5 if method == "LICNN" else 1.2)
            if method == "LICNN":
                axis.fill_between(place, low, high, color=colour, alpha=0.15, linewidth=0)
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
    caption(figure, f"{what}; band: 95 % t interval of LICNN over photographs")
    return figure


def _by_stage(rows: pd.DataFrame, column: str, stages: Sequence[str]) -> tuple[list, list, list]:
    per_image = rows.groupby(["stage", "image"])[column].mean()
    found = [stats.mean_interval(per_image[stage].to_numpy(), "images") for stage in stages]
    bounds = [(max(e.low, -1), min(e.high, 1)) for e in found]
    return [e.value for e in found], [low for low, _ in bounds], [high for _, high in bounds]


def figure_21(results: pd.DataFrame, what: str) -> Figure:
    """Figure 21: HOG similarity to the original map when one part alone is random, a line a method."""
    figure, axes = new(6, 3.4)
    stages = list(dict.fromkeys(results["stage"]))
    for method, colour in zip(dict.fromkeys(results["method"]), PALETTE, strict=False):
        mean, low, high = _by_stage(results[results["method"] == method], "hog", stages)
        axes.errorbar(
            range(len(stages)),
            mean,
            yerr=[np.subtract(mean, low), np.subtract(high, mean)],
            color=colour,
            marker="o",
            markersize=4,
            linestyle="none",
            capsize=2,
            label=method,
        )
    licnn_mean = results.loc[results["method"] == "LICNN", "hog"].mean()
    axes.set_title(f"One random part leaves LICNN a HOG similarity of {licnn_mean:.2f} on average")
    axes.set(ylabel="HOG similarity to the original map", xlabel="the part that is random", ylim=(-0.4, 1))
    axes.set_xticks(range(len(stages)), stages, rotation=60, ha="right", fontsize=7)
    axes.legend()
    caption(figure, f"{what}; bars: 95 % t intervals over photographs")
    return figure


def figure_15(results: pd.DataFrame, what: str, title: str, judged: str) -> Figure:
    """Figures 15 and 16: top-5 and top-1 accuracy by blur radius, background and object, a colour a rule.

    The figure's title is ``title`` and what happens to top-5 accuracy by the rule called ``judged``.
    """
    table = blur.accuracy_table(results)
    start = table[table["radius"] == 0].iloc[0]
    figure, axes = new(10, 3.4, 1, 2)
    rules = [name for name in dict.fromkeys(table["region"]) if name and name not in blur.CONTROLS]
    for axis, column in zip(axes, ("top5", "top1"), strict=True):
        for rule, colour in zip(rules, PALETTE, strict=False):
            for where, line in zip(blur.SIDES, ("-", ":"), strict=True):
                rows = table[(table["region"] == rule) & (table["where"] == where)]
                label = f"{where}, {rule} ({rows['area'].iloc[0]:.0f} % covered)"
                style = {"color": colour, "linestyle": line, "marker": "o", "markersize": 3, "label": label}
                axis.plot([0, *rows["radius"]], [start[column], *rows[column]], **style)
        axis.set(xlabel="blur radius, pixels", ylabel=f"top-{column[-1]} accuracy, %", ylim=(0, 102))
        axis.set_xticks([0, *blur.RADII])
    largest = table[(table["region"] == judged) & (table["radius"] == max(blur.RADII))].set_index("where")[
        "top5"
    ]
    figure.suptitle(
        f"{title}: top-5 {start['top5']:.0f} %, {largest['background']:.0f} % with the background blurred,\n"
        f"{largest['object']:.0f} % with the object blurred (object: {judged})",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=7.5)
    caption(figure, what)
    return figure


def energy_in_boxes(energy: pd.DataFrame, what: str) -> Figure:
    """Share of each map's energy inside the official boxes minus the boxes' area, a row a column of
    ``licnn_experiment.energy_in_boxes``, with 95 % bootstrap intervals over photographs."""
    names = [name for name in energy.columns if name != "area"]
    found = [stats.bootstrap_interval((energy[name] - energy["area"]).to_numpy()) for name in names]
    figure, axes = new(6.5, 3)
    axes.axvline(0, color="0.5", linewidth=1)
    for place, (name, estimate) in enumerate(zip(names, found, strict=True)):
        error = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
        colour = PALETTE[0] if name.startswith("LICNN") else PALETTE[1]
        axes.errorbar(estimate.value, place, xerr=error, fmt="o", color=colour, capsize=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="share of the map's energy inside the boxes, minus the boxes' area", ylabel="map")
    best = int(np.argmax([estimate.value for estimate in found]))
    figure.suptitle(
        f"{names[best]}: {found[best].value:+.2f} above the boxes' area, the best; "
        f"{names[0]}: {found[0].value:+.2f}",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    caption(
        figure,
        f"{what}; boxes cover {energy['area'].mean():.0%} of the crops; bars: 95 % bootstrap intervals",
    )
    return figure


def turned(explainer: LICNN, photos: PhotoSet, changed: pd.DataFrame, rule: str | float) -> Figure:
    """Figures 17 and 18: photographs before and after background blur of radius 10, with likeliest classes.

    ``changed`` is a part of ``licnn_experiment.turned``, positions in ``photos``.
    """
    model, chosen = explainer.model, photos.select(changed["photograph"].to_numpy())
    crops, images = crops_and_inputs(model, chosen)
    maps = explainer.saliency_maps(images).cpu().numpy()
    soft = [blur.blurred(c, blur.region(m, rule), 10) for c, m in zip(crops, maps, strict=True)]
    before, after = (
        [textwrap.fill(model.classes[i], 15) for i in changed[when]] for when in ("before", "after")
    )
    names = [a if a == b else f"{a}\n→ {b}" for a, b in zip(before, after, strict=True)]
    signs = ["lost" if right else "gained" for right in changed["right_before"]]
    title = (
        f"Background blur: {signs.count('gained')} of these gain and {signs.count('lost')} lose their label "
    )
    below = f"Likeliest class before → after; radius 10, {blur.rule_name(rule)}, {model.name}; "
    return picture_grid(
        [[np.asarray(crop) for crop in crops], [np.asarray(crop) for crop in soft]],
        ["unmodified", "background\nblurred"],
        [f"{sign}:\n{name}" for sign, name in zip(signs, names, strict=True)],
        textwrap.fill(title + "among the top 5", 15 * len(crops) + 5),
        _wrapped(f"{below}{photos.name}, {authors(chosen.credits)}", len(crops)),
    )
