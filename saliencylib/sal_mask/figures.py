"""The figures of paper 1 (Sal-Mask): maps, structures, accuracy per epoch, gains and their controls."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from saliencylib import figures, metrics, stats
from saliencylib.sal_mask.experiment import experiment as sal_mask
from saliencylib.sal_mask.network import SalMask
from saliencylib.sal_mask.results import NETWORK_NAMES, PRINTED, share_of_epochs_above

COLOURS = dict(zip(sal_mask.MASKS, (figures.PALETTE[6], *figures.PALETTE[:2], "0.6"), strict=True))
OTHERS = [name for name in sal_mask.masks.NAMES if name not in COLOURS]
COLOURS |= dict(zip(OTHERS, (*figures.PALETTE[2:6], *figures.PALETTE[2:6]), strict=True))
INTERVALS = "paired by seed, 95 % t intervals"
LAYER_COLOURS = {
    "Conv2d": figures.PALETTE[0],
    "Linear": figures.PALETTE[1],
    "MaxPool2d": figures.PALETTE[2],
    "AdaptiveAvgPool2d": figures.PALETTE[2],
    "LocalResponseNorm": figures.PALETTE[4],
    "Dropout": figures.PALETTE[3],
    "ReLU": "0.75",
}
LAYER_NAMES = {
    "Conv2d": "convolution",
    "Linear": "full layer",
    "MaxPool2d": "pooling",
    "LocalResponseNorm": "normalisation",
    "Dropout": "dropout",
    "ReLU": "ReLU",
}


def figure_1(images: np.ndarray, maps: Mapping[str, np.ndarray], data_name: str) -> Figure:
    """Figure 1: images with their Alpha and RC maps; the title compares how much each lights."""
    alpha, rc = maps["Alpha"].mean(), maps["RC"].mean()
    wide, narrow = ("Alpha", "RC") if alpha > rc else ("RC", "Alpha")
    return figures.picture_grid(
        [list(images), list(maps["Alpha"]), list(maps["RC"])],
        ["image", "Alpha map", "RC map"],
        [""] * len(images),
        f"{wide} lights more than {narrow} (mean {max(alpha, rc):.2f} against {min(alpha, rc):.2f})",
        f"n = {len(images)} images, data: {data_name}; all maps on one scale, 0 (black) to 1 (pale yellow)",
        limits=(0, 1),
    )


def figure_alpha(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    shown: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    data_name: str,
) -> Figure:
    """How the Alpha map changes with its seeds: maps and table from ``sal_mask.alpha_sensitivity``.

    ``images`` and ``shown`` are the examples out of all ``maps``.
    """
    least = table.loc[table["cc"].idxmin()]
    return figures.picture_grid(
        [list(images), *(list(stack[: len(images)]) for stack in shown.values())],
        ["image", *(name.replace(", ", ",\n") for name in shown)],
        [""] * len(images),
        f"Maps of {100 * least['seeds']:g} % seeds and border {least['border']:.0f} "
        f"correlate {least['cc']:.2f} with the chosen ones",
        f"n = {len(next(iter(maps.values())))} images ({len(images)} shown), data: {data_name}; scale 0 to 1",
        limits=(0, 1),
    )


def figure_connection(
    network: SalMask, image: np.ndarray, tensor: torch.Tensor, saliency: np.ndarray, data_name: str
) -> Figure:
    """Figure 3, on one photograph: the first layer's maps before and after the mask, from the model itself.

    ``tensor`` is the normalised image (1, 3, H, W), ``saliency`` its map (H, W).
    """
    given = torch.from_numpy(saliency)[None]
    with torch.no_grad():
        maps = network.first(tensor)[0]
        mask = network.mask(tensor, given)[0]
        masked = network.activation(maps * mask)
    loudest = maps.mean((1, 2)).argsort(descending=True)[:3].tolist()
    figure, axes = figures.new(7.6, 3.1, 2, 4)
    figures.picture(axes[0, 0], image, "image x")
    figures.picture(axes[1, 0], mask.numpy(), "mask s", vmin=0, vmax=1)
    for column, k in enumerate(loudest, start=1):
        top = float(maps[k].max())
        figures.picture(axes[0, column], maps[k].numpy(), f"map {k}: y = ReLU(conv(x))", vmin=0, vmax=top)
        figures.picture(axes[1, column], masked[k].numpy(), f"map {k}: ReLU(y s)", vmin=0, vmax=top)
    kept = float(masked.sum() / maps.sum())
    title = f"Figure 3. The connection keeps {100 * kept:.0f} % of the first layer's response here"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figures.caption(
        figure, f"n = 1 image, data: {data_name}; untrained filters (seed 0), a map's pair on one scale"
    )
    return figure


def figure_structure(table: pd.DataFrame, name: str, masked_after: str, title: str) -> Figure:
    """Figures 4 and 5: a network's layers as bars, read from ``models.layer_table``.

    A bar's height is the side of its output (logarithmic); the mask enters after the layer ``masked_after``.
    """
    rows = table[table["kind"].isin(LAYER_COLOURS)].reset_index(drop=True)
    figure, axes = figures.new(9.2, 3.5)
    heights = np.log2(rows["side"]) + 1
    wide = rows["kind"].isin(["Conv2d", "Linear"])
    widths = np.where(wide, 1.0, 0.45)
    left = np.concatenate([[0], np.cumsum(widths + 0.12)[:-1]])
    colours = [LAYER_COLOURS[kind] for kind in rows["kind"]]
    axes.bar(left, heights, widths, align="edge", color=colours)
    for x, width, height, row in zip(left, widths, heights, rows.itertuples(), strict=True):
        if row.kind in ("Conv2d", "Linear"):
            kernel = f"{row.kernel}x{row.kernel}, " if row.kernel else ""
            text = f"{row.layer}: {kernel}{row.maps}"
            axes.text(x + width / 2, height + 0.15, text, rotation=60, fontsize=7, va="bottom")
    at = int(rows.index[rows["layer"] == masked_after][0])
    end = left[at] + widths[at] + 0.06
    arrow = {"arrowstyle": "->", "color": "black"}
    axes.annotate("mask s", (end, 0), (end, -1.6), ha="center", fontsize=8, arrowprops=arrow)
    sides = sorted(rows["side"].unique())
    axes.set_yticks(np.log2(sides) + 1, sides)
    axes.set(xticks=[], xlabel="layers in their order", ylabel="side of the maps (pixels)")
    axes.set_ylim(-2, heights.max() + 3.6)
    axes.set_title(title)
    handles = [Patch(color=LAYER_COLOURS[kind]) for kind in LAYER_NAMES]
    figure.legend(handles, LAYER_NAMES.values(), loc="outside right upper")
    figures.caption(
        figure, f"{name} for 96x96 images, {rows['parameters'].sum():,} parameters, read from the model"
    )
    return figure


def figure_curves(
    log: pd.DataFrame, network: str, data_name: str, masks: Sequence[str] = sal_mask.MASKS
) -> Figure:
    """Figures 6 and 7: test accuracy per epoch for every mask; bands are 95 % t intervals over seeds."""
    rows = log.query("network == @network and mask in @masks")
    figure, axes = figures.new(7.0, 3.4)
    for mask in masks:
        curve = rows.query("mask == @mask").pivot(index="epoch", columns="seed", values="accuracy")
        bands = [stats.mean_interval(values) for values in curve.to_numpy()]
        dashes = "-" if mask in (*sal_mask.MASKS, *OTHERS[:4]) else "--"
        axes.plot(curve.index, [band.value for band in bands], dashes, color=COLOURS[mask], label=mask)
        low, high = [band.low for band in bands], [band.high for band in bands]
        if np.isfinite(low).all():
            axes.fill_between(curve.index, low, high, color=COLOURS[mask], alpha=0.12, linewidth=0)
    share = 100 * (share_of_epochs_above(log, network).value + 0.5)
    axes.set(xlabel="epoch", ylabel="test accuracy (%)")
    axes.set_ylim(max(axes.get_ylim()[0], 0), min(axes.get_ylim()[1], 100))
    axes.set_title(f"{NETWORK_NAMES[network]}: RC and Alpha lie above plain in {share:.0f} % of epochs")
    figure.legend(loc="outside right upper")
    figures.caption(figure, f"{_seeds(rows)}, bands: 95 % t intervals, data: {data_name}")
    return figure


def figure_gains(gains: pd.DataFrame, data_name: str) -> Figure:
    """Paired gains in points with 95 % intervals, for both networks, beside the printed gains."""
    rows = gains.query("epoch == 'best'")
    figure, panels = _panels(rows)
    for axes, (network, part) in panels:
        _dots(axes, part, part["comparison"], figures.PALETTE[0], "here")
        printed = [
            PRINTED.get((network, name.split()[0]), np.nan) - PRINTED[network, "plain"]
            if name.endswith("plain")
            else np.nan
            for name in part["comparison"]
        ]
        axes.plot(printed, range(len(part)), "D", color=figures.PALETTE[1], label="printed (STL-10)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    masked = rows["comparison"].isin(["RC minus plain", "Alpha minus plain"])
    clear = int((rows["low"][masked] > 0).sum())
    title = f"{clear} of {int(masked.sum())} masked networks are clearly better than plain"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figures.caption(figure, f"{rows['seeds'].max()} seeds, {INTERVALS}, data: {data_name}")
    return figure


def figure_selection(table: pd.DataFrame, data_name: str) -> Figure:
    """What choosing the epoch on the test set adds, from ``sal_mask_results.selection_table``."""
    figure, axes = figures.new(7.0, 2.2)
    names = [NETWORK_NAMES[row.network] + ", " + row.rival for row in table.itertuples()]
    _dots(axes, table, names, figures.PALETTE[0])
    axes.set(xlabel="best epoch minus rival (points)", ylabel="rival")
    axes.invert_yaxis()
    top = table.loc[table["points"].idxmax()]
    axes.set_title(f"Choosing the epoch on the test set adds up to {top['points']:.1f} points")
    caption = f"{table['trainings'].max()} trainings a network, 95 % t intervals, data: {data_name}"
    figures.caption(figure, caption)
    return figure


def figure_controls(controls: pd.DataFrame, data_name: str) -> Figure:
    """Gain of every mask over plain, saliency maps and controls in two colours."""
    figure, panels = _panels(controls, height=3.6)
    names = list(controls["mask"].drop_duplicates())
    for axes, (_, part) in panels:
        places = part["mask"].map(names.index).to_numpy()
        computed = part["mask"].isin(sal_mask.masks.SALIENCY).to_numpy()
        for of, colour, label in (
            (~computed, "0.5", "control"),
            (computed, figures.PALETTE[0], "saliency map"),
        ):
            _dots(axes, part[of], part["mask"][of], colour, label, places[of])
        axes.set_yticks(range(len(names)), names)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    clear = int((controls["low"] > 0).sum())
    title = f"{clear} of {len(controls)} masks are clearly better than no mask"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figures.caption(figure, f"{_count(controls)}, {INTERVALS}, data: {data_name}")
    return figure


def figure_chain(chain: pd.DataFrame, data_name: str) -> Figure:
    """RC's gain taken apart: a step a property, from ``sal_mask_results.chain_table``."""
    figure, panels = _panels(chain, height=2.7)
    for axes, (_, part) in panels:
        _dots(axes, part, [what.replace(" (", "\n(") for what in part["what"]], figures.PALETTE[0])
        axes.set(xlabel="change in accuracy (points)", ylabel="what the step adds")
        axes.label_outer()
    largest = chain.loc[chain["points"].abs().idxmax()]
    clear = "clear" if largest["low"] > 0 or largest["high"] < 0 else "not clear"
    figure.suptitle(
        f"The largest step is {largest['what'].split(' (')[0]} on {NETWORK_NAMES[largest['network']]} "
        f"({largest['points']:+.1f} points, {clear})",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    figures.caption(
        figure,
        f"{chain['seeds'].max()} seeds, {INTERVALS}, steps add up to RC minus plain, data: {data_name}",
    )
    return figure


def figure_place(place: pd.DataFrame, data_name: str) -> Figure:
    """Gains over plain by where, and how, the mask enters, from ``sal_mask_results.place_table``."""
    figure, panels = _panels(place, height=2.9)
    for axes, (_, part) in panels:
        names = part["connection"] + ", " + part["mask"]
        colours = np.where(part["connection"] == "first", figures.PALETTE[1], figures.PALETTE[0])
        for i, (name, colour) in enumerate(zip(names, colours, strict=True)):
            _dots(axes, part.iloc[[i]], [name], colour, None, [i])
        axes.set_yticks(range(len(part)), names)
    best = place.loc[place["points"].idxmax()]
    which = f"{best['connection']}, {best['mask']} on {NETWORK_NAMES[best['network']]}"
    title = f"Largest gain: {which} ({best['points']:+.1f} points)"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figures.caption(
        figure, f"{_count(place)}, {INTERVALS}, orange: the paper's connection, data: {data_name}"
    )
    return figure


def figure_widths(widths: pd.DataFrame, data_name: str) -> Figure:
    """Gains over plain at half, chosen and double width, from ``sal_mask_results.width_table``."""
    figure, panels = _panels(widths, height=3.0, dots=False)
    for axes, (_, part) in panels:
        for mask, rows in part.groupby("mask", sort=False):
            error = [rows["points"] - rows["low"], rows["high"] - rows["points"]]
            shift = 1.03 if mask == "RC" else 0.97  # so that the bars do not hide one another
            axes.errorbar(
                rows["width"] * shift, rows["points"], error, fmt="o-", color=COLOURS[mask], label=mask
            )
        axes.axhline(0, color="0.4", linewidth=0.8)
        axes.set_xscale("log", base=2)
        ticks = sorted(part["width"].unique())
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set(xlabel="width (share of the full network's)", ylabel="gain over plain (points)")
        axes.label_outer()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    signs = widths.assign(sign=np.sign(widths["points"])).groupby(["network", "mask"])["sign"].nunique()
    clear = (
        widths.assign(up=widths["low"] > 0, down=widths["high"] < 0)
        .groupby(["network", "mask"])[["up", "down"]]
        .any()
    )
    title = (
        f"The gain's sign changes with the width in {(signs > 1).sum()} of {len(signs)} cases, "
        f"clearly in {int(clear.all(axis=1).sum())}"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figures.caption(figure, f"{widths['seeds'].max()} seeds, {INTERVALS}, data: {data_name}")
    return figure


def figure_quality(table: pd.DataFrame, correlation: stats.Estimate, data_name: str) -> Figure:
    """Gain over plain against map quality, from ``sal_mask_results.quality_table`` (SM-X2)."""
    figure, axes = figures.new(6.4, 3.6)
    for (kind, rows), colour in zip(table.groupby("kind"), figures.PALETTE, strict=False):
        error = [rows["points"] - rows["low"], rows["high"] - rows["points"]]
        axes.errorbar(rows["auc"], rows["points"], yerr=error, fmt="o", color=colour, label=kind, alpha=0.9)
        if kind == "computed map":
            for row in rows.itertuples():
                axes.annotate(row.mask, (row.auc, row.points), (4, 4), textcoords="offset points", fontsize=7)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set(xlabel="quality of the map (AUC against the object)", ylabel="gain over plain (points)")
    word = (
        "Better" if correlation.low > 0 else "Worse" if correlation.high < 0 else "Neither better nor worse"
    )
    axes.set_title(f"{word} maps go with larger gains (rank correlation {correlation.value:.2f})")
    axes.legend(loc="upper left")
    figures.caption(figure, f"{correlation.n} seeds, {INTERVALS}, data: {data_name} (embedded)")
    return figure


def figure_losses(tables: Mapping[str, pd.DataFrame], data_name: str) -> Figure:
    """Accuracy on clean and changed images by mask, a panel a kind of change (SM-X3)."""
    figure, panels = figures.new(8.4, 3.2, 1, len(tables), sharey=True, squeeze=False)
    for axes, (name, table) in zip(panels[0], tables.items(), strict=True):
        for (mask, rows), colour in zip(
            table.groupby("mask", sort=False), figures.PALETTE[::-1][1:], strict=False
        ):
            axes.plot(rows["images"], rows["accuracy"], "o-", label=mask, color=COLOURS.get(mask, colour))
        axes.set(xlabel=name, ylabel="test accuracy (%)")
        axes.label_outer()
    axes.legend(loc="upper right")
    changed = pd.concat(tables.values()).query("images == 'swapped' and mask != 'plain'")
    clear = int((changed["low"] > 0).sum())
    title = f"{clear} of {len(changed)} masks clearly lose less than plain when backgrounds are swapped"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figures.caption(figure, f"{changed['seeds'].max()} seeds, means, data: {data_name} (embedded)")
    return figure


def figure_learned(rows: pd.DataFrame, data_name: str) -> Figure:
    """Gains of learned masks and of a wider plain network over plain: network, what, points, low, high."""
    figure, panels = _panels(rows, height=2.3)
    for axes, (_, part) in panels:
        _dots(axes, part, part["what"], figures.PALETTE[0])
    best = rows.loc[rows["points"].idxmax()]
    clear = "clearly" if best["low"] > 0 else "not clearly"
    which = f"{best['what']} on {NETWORK_NAMES[best['network']]}"
    title = f"Best: {which}, {best['points']:+.1f} points, {clear} above zero"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figures.caption(figure, f"{rows['seeds'].max()} seeds, {INTERVALS}, data: {data_name}")
    return figure


def figure_learned_maps(
    images: np.ndarray, rows: Mapping[str, np.ndarray], shown_name: str, trained_on: str
) -> Figure:
    """What masks the learned branches make of photographs, beside the maps that they were given."""
    given, learned = rows["RC map"], rows["learned from RC"]
    alike = float(np.mean([metrics.cc(a, b) for a, b in zip(given, learned, strict=True)]))
    return figures.picture_grid(
        [list(images), *(list(maps) for maps in rows.values())],
        ["image", *(name.replace(" from ", "\nfrom ") for name in rows)],
        [""] * len(images),
        f"What is learned from RC correlates {alike:.2f} with RC",
        f"n = {len(images)} images, data: {shown_name}, trained on {trained_on} (first seed); scale 0 to 1",
        limits=(0, 1),
    )


def figure_map_quality(quality: pd.DataFrame, data_name: str) -> Figure:
    """AUC of the maps against exact masks by image size, with bootstrap intervals over images."""
    figure, axes = figures.new(6.0, 3.2)
    for colour, (mask, rows) in zip(figures.PALETTE, quality.groupby("mask", sort=False), strict=False):
        sizes = sorted(rows["size"].unique())
        found = [stats.bootstrap_interval(rows.query("size == @s")["auc"]) for s in sizes]
        values = np.array([estimate.value for estimate in found])
        error = [values - [e.low for e in found], [e.high for e in found] - values]
        axes.errorbar(sizes, values, yerr=error, fmt="o-", color=colour, label=mask)
    rc = quality.query("mask == 'RC'").pivot(index="image", columns="size", values="auc")
    change = stats.bootstrap_interval(rc[96] - rc[32])
    word = "better" if change.low > 0 else "worse" if change.high < 0 else "not clearly better"
    axes.set_title(f"RC maps are {word} on 96 than on 32 pixels ({change.value:+.3f})")
    axes.set(xlabel="image side (pixels)", ylabel="AUC against the object mask", xticks=sizes)
    figure.legend(loc="outside right upper")
    count = quality["image"].nunique()
    figures.caption(figure, f"n = {count} images, 95 % bootstrap intervals, data: {data_name}")
    return figure


def _panels(rows: pd.DataFrame, height: float = 2.9, dots: bool = True) -> tuple[Figure, list]:
    """A figure with a panel a network; each panel comes with the network's name and rows.

    With ``dots`` the gains lie along the x axis, a line a row from the top.
    """
    networks = list(rows["network"].unique())
    figure, panels = figures.new(8.2, height, 1, len(networks), sharex=dots, sharey=True, squeeze=False)
    parts = []
    for axes, network in zip(panels[0], networks, strict=True):
        axes.set(xlabel="gain over plain (points)", ylabel="mask")
        axes.label_outer()
        axes.set_title(NETWORK_NAMES[network], fontsize=9)
        parts.append((axes, (network, rows.query("network == @network").reset_index(drop=True))))
    if dots:
        panels[0, 0].invert_yaxis()
    return figure, parts


def _dots(
    axes: Axes,
    rows: pd.DataFrame,
    names: Sequence[str],
    colour: str,
    label: str | None = None,
    places: Sequence[int] | None = None,
) -> None:
    """Points with their intervals, one line a row, and a line at zero."""
    places = range(len(rows)) if places is None else places
    error = [rows["points"] - rows["low"], rows["high"] - rows["points"]]
    axes.errorbar(rows["points"], places, xerr=error, fmt="o", color=colour, label=label)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_yticks(places, names)


def _count(rows: pd.DataFrame) -> str:
    low, high = rows["seeds"].min(), rows["seeds"].max()
    return f"{high} seeds" if low == high else f"{low} to {high} seeds"


def _seeds(rows: pd.DataFrame) -> str:
    seeds = sorted(rows["seed"].unique())
    return f"seeds {seeds[0]}-{seeds[-1]}"
