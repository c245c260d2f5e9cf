"""Figures of the blur experiment of notebook 03, each named after the paper's figure that it stands for."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from saliencylib.licnn.method import blur
from saliencylib.figures import PALETTE, caption, greyed, new, picture_grid, wrapped


def figure_13(crop: Image.Image, saliency: np.ndarray, rules: Sequence[str | float], below: str) -> Figure:
    """Figures 13 and 14: one photograph with background and object blurred, two rows a rule."""
    rows, names = [], []
    for rule in rules:
        mask = blur.region(saliency, rule)
        for where in blur.SIDES:
            pictures = [blur.blurred(crop, mask, radius, where) for radius in blur.RADII]
            rows.append([greyed(np.asarray(crop), mask), *(np.asarray(picture) for picture in pictures)])
            names.append(f"{where}\n{blur.rule_name(rule)}".replace(" of the", "\nof the"))
    covered = blur.region(saliency, rules[0]).mean()
    return picture_grid(
        rows,
        names,
        ["the object", *(f"radius {radius}" for radius in blur.RADII)],
        f"The {blur.rule_name(rules[0])} covers {covered:.0%} of this picture",
        wrapped(below, 4),
    )


def figure_15(results: pd.DataFrame, what: str, title: str, judged: str | float) -> Figure:
    """Figures 15 and 16: top-5 and top-1 accuracy by blur radius, background and object, a colour a rule.

    The figure's title is ``title`` and what happens to top-5 accuracy by the rule ``judged``.
    """
    table = blur.accuracy_table(results)
    start, table = table.iloc[0], table[table["source"] == "LICNN"]
    figure, axes = new(10, 3.4, 1, 2)
    rules = [rule for rule, rows in table.groupby("rule", sort=False) if rows["radius"].nunique() > 1]
    for axis, column in zip(axes, ("top5", "top1"), strict=True):
        for rule, colour in zip(rules, PALETTE, strict=False):
            for where, line in zip(blur.SIDES, ("-", ":"), strict=True):
                rows = table[(table["rule"] == rule) & (table["where"] == where)]
                label = f"{where}, {rule} ({rows['area'].iloc[0]:.0f} % covered)"
                style = {"color": colour, "linestyle": line, "marker": "o", "markersize": 3, "label": label}
                axis.plot([0, *rows["radius"]], [start[column], *rows[column]], **style)
        axis.set(xlabel="blur radius, pixels", ylabel=f"top-{column[-1]} accuracy, %", ylim=(0, 102))
        axis.set_xticks([0, *blur.RADII])
    name = blur.rule_name(judged)
    largest = table[(table["rule"] == name) & (table["radius"] == max(blur.RADII))].set_index("where")["top5"]
    figure.suptitle(
        f"{title}: top-5 {start['top5']:.0f} %, {largest['background']:.0f} % with the background blurred,\n"
        f"{largest['object']:.0f} % with the object blurred (object: {name})",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=7.5)
    caption(figure, what)
    return figure


def accuracy_by_area(
    curves: Mapping[str, pd.DataFrame], unmodified: Mapping[str, float], what: str
) -> Figure:
    """Accuracy against the share of the picture left sharp, a panel a kind of photographs, a line a source of
    the region (``blur_experiment.curve``), with the unmodified accuracy (%) above."""
    figure, axes = new(4.2 * len(curves) + 1.2, 3.4, 1, len(curves), sharey=True, squeeze=False)
    for axis, (kind, rows) in zip(axes[0], curves.items(), strict=True):
        axis.axhline(unmodified[kind], color="0.5", linewidth=1, label="unmodified")
        for source, colour in zip(dict.fromkeys(rows["source"]), PALETTE, strict=False):
            part = rows[rows["source"] == source]
            axis.plot(part["area"], part["accuracy"], "o-", markersize=3, color=colour, label=source)
            axis.fill_between(part["area"], part["low"], part["high"], color=colour, alpha=0.12, linewidth=0)
        axis.set(xlabel="share of the picture left sharp, %", title=kind, ylim=(0, 102), xlim=(0, 100))
    axes[0, 0].set_ylabel("top-5 accuracy, %")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=7.5)
    first = next(iter(curves.values()))
    at = first[first["area"].sub(35).abs() < 1].set_index("source")["accuracy"]
    figure.suptitle(
        f"With 35 % of the picture sharp: {at['LICNN']:.0f} % in LICNN's region, {at['random']:.0f} % in a "
        f"random one, {at['centre Gaussian']:.0f} % in the centre",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    caption(figure, f"{what}; blur radius {max(blur.RADII)}; bands: 95 % t intervals over photographs")
    return figure


def regions_beaten(controls: pd.DataFrame) -> str:
    """What ``blur_experiment.control_changes`` found, as a title: beside which regions LICNN's keeps more of
    the accuracy when the rest is blurred, and beside which less; those clear at every area."""
    rows = controls[controls["comparison"].str.startswith("background: LICNN minus ")]
    names = rows["comparison"].str.removeprefix("background: LICNN minus ").str.partition(",")[0]
    more = [name for name, group in rows.groupby(names, sort=False) if (group["low"] > 0).all()]
    less = [name for name, group in rows.groupby(names, sort=False) if (group["high"] < 0).all()]
    parts = [f"{word} than {_listed(names)}" for word, names in (("more", more), ("less", less)) if names]
    return f"LICNN's region keeps {', '.join(parts) or 'neither clearly more nor clearly less than others'}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def differences(table: pd.DataFrame, title: str, what: str) -> Figure:
    """Changes of accuracy with their intervals, a row each, from ``blur_experiment.changes``."""
    figure, axes = new(7.5, 0.9 + 0.24 * len(table))
    axes.axvline(0, color="0.5", linewidth=1)
    error = [table["points"] - table["low"], table["high"] - table["points"]]
    axes.errorbar(table["points"], range(len(table)), xerr=error, fmt="o", color=PALETTE[0], capsize=3)
    axes.set_yticks(range(len(table)), table["comparison"])
    axes.invert_yaxis()
    axes.set(xlabel="difference of top-5 accuracy, points", ylabel="comparison")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    caption(figure, f"{what}; bars: 95 % intervals (McNemar)")
    return figure


def turned(
    crops: Sequence[Image.Image],
    soft: Sequence[Image.Image],
    names: tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]],
    right_before: Sequence[bool],
    below: str,
) -> Figure:
    """Figures 17, 18 and 26 to 28: photographs before and after background blur, with their five likeliest
    classes (N, 5) before and after."""
    signs = ["lost" if right else "gained" for right in right_before]
    listed = [
        ["\n".join(textwrap.shorten(n, 19, placeholder="...") for n in five) for five in side]
        for side in names
    ]
    title = (
        f"Background blur: {signs.count('gained')} of these gain and {signs.count('lost')} lose their label"
    )
    cells = [[f"{sign}:\n{five}" for sign, five in zip(signs, listed[0], strict=True)], listed[1]]
    return picture_grid(
        [[np.asarray(crop) for crop in crops], [np.asarray(crop) for crop in soft]],
        ["unmodified", "background\nblurred"],
        [],
        textwrap.fill(title + " among the five likeliest", 15 * len(crops) + 5),
        wrapped(below, len(crops)),
        cell_names=cells,
    )
