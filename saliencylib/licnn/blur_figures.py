"""Figures of the blur experiment of notebook 03, each named after the paper's that it stands for."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from saliencylib.figures import finish, forest, greyed, grid, lines, new
from saliencylib.licnn.blur import RADII, SIDES, blurred, object_region, rule_name
from saliencylib.licnn.results import blur_accuracies


def figure_13(crop: Image.Image, saliency: np.ndarray, rules: Sequence[str | float], below: str) -> Figure:
    """Figures 13 and 14: one photograph with background and object blurred, two rows a rule."""
    rows, names = [], []
    for rule in rules:
        mask = object_region(saliency, rule)
        for where in SIDES:
            pictures = [np.asarray(blurred(crop, mask, radius, where)) for radius in RADII]
            rows.append([greyed(np.asarray(crop), mask), *pictures])
            names.append(f"{where}\n{rule_name(rule)}".replace(" of the", "\nof the"))
    covered = object_region(saliency, rules[0]).mean()
    title = f"The {rule_name(rules[0])} covers {covered:.0%} of this picture"
    return grid(rows, names, ["the object", *(f"radius {radius}" for radius in RADII)], title, below)


def figure_15(results: pd.DataFrame, what: str, title: str, judged: str | float) -> Figure:
    """Figures 15 and 16: top-5 and top-1 accuracy by blur radius, background and object, a colour a rule.

    The figure's title is ``title`` and what happens to top-5 accuracy by the rule ``judged``.
    """
    table = blur_accuracies(results)
    start, table = table.iloc[0], table[table["source"] == "LICNN"]
    drawn = table[table.groupby("rule")["radius"].transform("nunique") > 1]
    drawn = drawn.assign(object=drawn["rule"] + drawn["area"].map("\n({:.0f} % covered)".format))
    drawn = drawn.rename(columns={"where": "blurred"})
    sharp = drawn.drop_duplicates(["rule", "blurred"]).assign(
        radius=0, top5=start["top5"], top1=start["top1"]
    )
    drawn = pd.concat([sharp, drawn], ignore_index=True)
    figure, axes = new(10, 3.4, 1, 2)
    for axis, column in zip(axes, ("top5", "top1"), strict=True):
        sns.lineplot(drawn, x="radius", y=column, hue="object", style="blurred", markers=True, ax=axis)
        axis.set(xlabel="blur radius, pixels", ylabel=f"top-{column[-1]} accuracy, %", ylim=(0, 102))
        axis.set_xticks([0, *RADII])
        axis.get_legend().remove()
    name = rule_name(judged)
    largest = table[(table["rule"] == name) & (table["radius"] == max(RADII))].set_index("where")["top5"]
    title += f": top-5 {start['top5']:.0f} %, {largest['background']:.0f} % with the background blurred,\n"
    title += f"{largest['object']:.0f} % with the object blurred (object: {name})"
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=7.5)
    return finish(figure, title, what)


def accuracy_by_area(
    curves: Mapping[str, pd.DataFrame], unmodified: Mapping[str, float], what: str
) -> Figure:
    """Accuracy against the share of the picture left sharp, a panel a kind of photographs, a line a source of
    the region (``area_curve``), with the unmodified accuracy (%) above."""
    table = pd.concat([rows.assign(kind=kind) for kind, rows in curves.items()], ignore_index=True)
    first = next(iter(curves.values()))
    at = first[first["area"].sub(35).abs() < 1].set_index("source")["accuracy"]
    title = (
        f"With 35 % of the picture sharp: {at['LICNN']:.0f} % in LICNN's region, {at['random']:.0f} % in a "
    )
    title += f"random one, {at['centre Gaussian']:.0f} % in the centre"
    below = f"{what}; grey: unmodified; blur radius {max(RADII)}; bands: 95 % t intervals over photographs"
    labels = "share of the picture left sharp, %", "top-5 accuracy, %"
    width = 4.2 * len(curves) + 1.2
    figure = lines(table, "area", "accuracy", "source", *labels, title, below, panels="kind", width=width)
    for axes, kind in zip(figure.axes, curves, strict=True):
        axes.axhline(unmodified[kind], color="0.5", linewidth=1)
        axes.set(xlim=(0, 100), ylim=(0, 102))
    return figure


def regions_beaten(controls: pd.DataFrame) -> str:
    """What ``control_changes`` found, as a title: beside which regions LICNN's keeps more of the accuracy
    when the rest is blurred, and beside which less; those clear at every area."""
    rows = controls[controls["comparison"].str.startswith("background: LICNN minus ")]
    names = rows["comparison"].str.removeprefix("background: LICNN minus ").str.partition(",")[0]
    more = [name for name, group in rows.groupby(names, sort=False) if (group["low"] > 0).all()]
    less = [name for name, group in rows.groupby(names, sort=False) if (group["high"] < 0).all()]
    parts = [
        f"{word} than {' and '.join(names)}" for word, names in (("more", more), ("less", less)) if names
    ]
    return f"LICNN's region keeps {', '.join(parts) or 'neither clearly more nor clearly less than others'}"


def accuracy_differences(table: pd.DataFrame, title: str, what: str) -> Figure:
    """Changes of accuracy with their intervals, a row each, from ``accuracy_changes``."""
    label, below = "difference of top-5 accuracy, points", f"{what}; bars: 95 % intervals (McNemar)"
    return forest(table, "points", "comparison", label, title, below)


def figure_17(
    crops: Sequence[Image.Image],
    soft: Sequence[Image.Image],
    names: tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]],
    right_before: Sequence[bool],
    below: str,
) -> Figure:
    """Figures 17, 18 and 26 to 28: photographs before and after background blur, with their five likeliest
    classes (N, 5) before and after."""
    signs = ["lost" if right else "gained" for right in right_before]
    before, after = (
        ["\n".join(textwrap.shorten(n, 19, placeholder="...") for n in five) for five in side]
        for side in names
    )
    before = [f"{sign}:\n{five}" for sign, five in zip(signs, before, strict=True)]
    title = (
        f"Background blur: {signs.count('gained')} of these gain and {signs.count('lost')} lose their label"
    )
    title += " among the five likeliest"
    rows = [[np.asarray(picture) for picture in side] for side in (crops, soft)]
    row_names = ["unmodified", "background\nblurred"]
    return grid(rows, row_names, [], title, below, cell_names=[before, after])
