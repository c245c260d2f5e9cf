"""Figures of the blur experiment of notebook 03, each named after the paper's that it stands for."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from saliencylib.figures import forest, greyed, grid, lines
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
            names.append(f"{where} blurred,\n{rule_name(rule)}".replace(" of the", "\nof the"))
    covered = object_region(saliency, rules[0]).mean()
    title = f"The {rule_name(rules[0])} covers {covered:.0%} of this picture"
    return grid(rows, names, ["the object", *(f"radius {radius}" for radius in RADII)], title, below)


def figure_15(results: pd.DataFrame, what: str, title: str, rule: str | float = "released") -> Figure:
    """Figures 15 and 16: top-5 and top-1 accuracy by blur radius, background and object, a colour a map whose
    region ``rule`` gives, with the share of the picture that it covers.

    The figure's title is ``title`` and what happens to top-5 accuracy by the first map's region.
    """
    table = blur_accuracies(results)
    start, table = table.iloc[0], table[table["rule"] == rule_name(rule)]
    drawn = table[table.groupby("source")["radius"].transform("nunique") > 1]
    covered = drawn["area"].map(" ({:.0f} % object)".format)
    drawn = drawn.assign(line=drawn["source"] + ",\n" + drawn["where"] + " blurred" + covered)
    sharp = drawn.drop_duplicates("line").assign(radius=0)
    columns = [f"{name}{end}" for name in ("top5", "top1") for end in ("", " low", " high")]
    sharp = sharp.assign(**{name: start[name] for name in columns})
    drawn = pd.concat([sharp, drawn], ignore_index=True)
    panels = {"top5": "top-5 accuracy", "top1": "top-1 accuracy"}
    parts = [
        drawn.assign(panel=name, accuracy=drawn[c], low=drawn[f"{c} low"], high=drawn[f"{c} high"])
        for c, name in panels.items()
    ]
    first = drawn["source"].iloc[0]
    largest = table[(table["source"] == first) & (table["radius"] == max(RADII))].set_index("where")["top5"]
    title += f": top-5 {start['top5']:.0f} %, {largest['background']:.0f} % with the background blurred, "
    title += f"{largest['object']:.0f} % with the object blurred ({rule_name(rule)})"
    below = f"{what}; bands: 95 % intervals over classes"
    labels = "blur radius, pixels", "accuracy, %"
    options = {"panels": "panel", "width": 8.6}
    figure = lines(pd.concat(parts), "radius", "accuracy", "line", *labels, title, below, **options)
    for axes in figure.axes:
        axes.set(xticks=[0, *RADII], ylim=(0, 102))
    return figure


def accuracy_by_area(
    curves: Mapping[str, pd.DataFrame], unmodified: Mapping[str, float], what: str
) -> Figure:
    """Accuracy against the share of the picture left sharp, a panel a kind of photographs, a line a source of
    the region (``area_curve``), with the unmodified accuracy (%) above."""
    table = pd.concat([rows.assign(kind=kind) for kind, rows in curves.items()], ignore_index=True)
    first = next(iter(curves.values()))
    at = first[first["area"].sub(35).abs() < 1].set_index("source")["accuracy"]
    shares = [f"{at[name]:.0f} %" for name in ("LICNN", "random map", "centre Gaussian")]
    title = f"With 35 % of the picture sharp: {shares[0]} in LICNN's region, "
    title += f"{shares[1]} in a random one, {shares[2]} in the centre"
    below = f"{what}; grey: unmodified; blur radius {max(RADII)}; bands: 95 % intervals over classes"
    labels = "share of the picture left sharp, %", "top-5 accuracy, %"
    width = 4.2 * len(curves) + 1.6
    figure = lines(table, "area", "accuracy", "source", *labels, title, below, panels="kind", width=width)
    for axes, kind in zip(figure.axes, curves, strict=True):
        axes.axhline(unmodified[kind], color="0.5", linewidth=1)
        axes.set(xlim=(0, 100), ylim=(0, 102))
    return figure


def regions_beaten(controls: pd.DataFrame) -> str:
    """What ``control_changes`` found, as a title: beside which regions LICNN's keeps more of the accuracy
    when the rest is blurred, and beside which less; those clear at every area."""
    rows = controls[controls["comparison"].str.startswith("background: LICNN minus ")]
    names = rows["comparison"].str.removeprefix("background: LICNN minus ").str.rpartition(",")[0]
    names = names.replace("LICNN, released code", "the released code's")
    more = [name for name, group in rows.groupby(names, sort=False) if (group["low"] > 0).all()]
    less = [name for name, group in rows.groupby(names, sort=False) if (group["high"] < 0).all()]
    parts = [
        f"{word} than {', '.join(names[:-1])}{' and ' * (len(names) > 1)}{names[-1]}"
        for word, names in (("more", more), ("less", less))
        if names
    ]
    return f"LICNN's region keeps {'; '.join(parts) or 'neither clearly more nor clearly less than others'}"


def accuracy_differences(table: pd.DataFrame, title: str, what: str) -> Figure:
    """Changes of accuracy with their intervals, a row each, from ``accuracy_changes``."""
    label, below = "difference of top-5 accuracy, points", f"{what}; bars: 95 % intervals over classes"
    start, names = "background: LICNN minus ", "comparison"
    if table[names].str.startswith(start).all():
        table = table.rename(columns={names: start}).assign(**{start: table[names].str.removeprefix(start)})
        names = start
    return forest(table, "points", names, label, title, below)


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


BACKGROUND_WORDS = {
    "background blurred, radius 10": "blurred",
    "background grey": "grey",
    "background of same class": "of another photograph,\nsame class",
    "background of another class": "of another photograph,\nanother class",
}


def background_lost(changes: pd.DataFrame, what: str) -> Figure:
    """The paper's question in one picture: top-5 accuracy lost when all outside of the official boxes is
    blurred, greyed or replaced, by classifier; rows of ``background.background_changes`` with a column
    classifier."""
    table = changes[changes["change"].isin(BACKGROUND_WORDS)]
    table = table.assign(
        background=table["change"].map(BACKGROUND_WORDS),
        lost=-table["points"],
        low=-table["high"],
        high=-table["low"],
    )
    first = table[table["classifier"] == table["classifier"].iloc[0]].set_index("change")
    soft, foreign = (
        first.loc[name] for name in ("background blurred, radius 10", "background of another class")
    )
    title = "Changing the background costs no accuracy that this many photographs could show"
    if soft["low"] > 0 and foreign["low"] > 0:
        title = f"The background counts: of {soft['before']:.0f} % top-5 accuracy ({soft['classifier']}), "
        title += f"{soft['lost']:.0f} points "
        title += (
            f"go when it is blurred and {foreign['lost']:.0f} when it comes from another class's photograph"
        )
    label = "accuracy lost, points (the class is among the five likeliest)"
    same = table[table["change"] == "background of same class"]["n"]
    below = f"{what}; of the same class: n = {', '.join(map(str, same))}; bars: 95 % intervals over classes"
    return forest(table, "lost", "background", label, title, below, colours="classifier")


def background_lost_by_size(by_size: pd.DataFrame, what: str) -> Figure:
    """The same by what the boxes take of the picture, one classifier's rows of
    ``background.background_changes_by_area``: a panel a change, all with one scale."""
    table = by_size[by_size["change"].isin(BACKGROUND_WORDS)]
    sizes = table["from"].map("{:.0%}".format) + " to " + table["to"].map("{:.0%}".format)
    table = table.assign(
        panel=table["change"].map(BACKGROUND_WORDS),
        lost=-table["points"],
        low=-table["high"],
        high=-table["low"],
        **{"boxes' share": sizes},
    )
    lost = table.set_index(["change", "from"])["lost"].unstack()
    soft, foreign = (
        lost.loc[name] for name in ("background blurred, radius 10", "background of another class")
    )
    title = "What a changed background costs, by the share of the picture that the boxes take"
    if lost.iloc[:, 0].min() > lost.iloc[:, -1].max():
        title = f"Small objects lose most: {soft.iloc[0]:.0f} points when all else is blurred, "
        title += f"{foreign.iloc[0]:.0f} when it is of another class; large ones "
        title += f"{soft.iloc[-1]:z.0f} and {foreign.iloc[-1]:z.0f}"
    counts = table.groupby("change", sort=False)["n"].apply(lambda n: ", ".join(map(str, n)))
    below = f"n = {counts['background blurred, radius 10']} photographs by size"
    if "background of same class" in counts:
        below += f", of the same class {counts['background of same class']}"
    below += f"; {what}; bars: 95 % intervals over classes"
    options = {"panels": "panel", "width": 8.6}
    figure = forest(table, "lost", "boxes' share", "top-5 lost, points", title, below, **options)
    limits = np.array([axes.get_xlim() for axes in figure.axes])
    for axes in figure.axes:
        axes.set_xlim(limits.min(), limits.max())
    return figure
