"""The figures of paper 1 (Sal-Mask): maps, structures, accuracy per epoch, gains and their controls."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from saliencylib import figures
from saliencylib.inputs import Images, network_input, saliency_input
from saliencylib.metrics import cc
from saliencylib.sal_mask.masks import MASK_CHAIN, PAPER_MASKS, SALIENCY_MASKS, SIDE_CONTROLS
from saliencylib.sal_mask.network import SalMask
from saliencylib.sal_mask.results import (
    NETWORK_NAMES,
    PRINTED_ACCURACIES,
    best_rates,
    mean_curve_above,
    share_of_epochs_above,
)
from saliencylib.stats import Estimate, bootstrap_interval, mean_interval

_CONTROLS = (*MASK_CHAIN[2:-1], *SIDE_CONTROLS)
MASK_COLOURS = dict(zip(PAPER_MASKS, (figures.PALETTE[6], *figures.PALETTE[:2], "0.6"), strict=True))
MASK_COLOURS |= dict(zip(_CONTROLS, figures.PALETTE[2:6] * 2, strict=False)) | {"true": figures.PALETTE[2]}
GAIN = "gain over plain (points)"
LAYER_KINDS = {
    "Conv2d": ("convolution", figures.PALETTE[0]),
    "Linear": ("full layer", figures.PALETTE[1]),
    "MaxPool2d": ("pooling", figures.PALETTE[2]),
    "AdaptiveAvgPool2d": ("pooling", figures.PALETTE[2]),
    "LocalResponseNorm": ("normalisation", figures.PALETTE[4]),
    "Dropout": ("dropout", figures.PALETTE[3]),
    "ReLU": ("ReLU", "0.75"),
}


def figure_1(images: np.ndarray, maps: Mapping[str, np.ndarray], data_name: str) -> Figure:
    """Figure 1: images with their Alpha and RC maps; the title compares how much each lights."""
    wide, narrow = sorted(("Alpha", "RC"), key=lambda name: -maps[name].mean())
    means = f"mean {maps[wide].mean():.2f} against {maps[narrow].mean():.2f}"
    rows = {"image": images, "Alpha map": maps["Alpha"], "RC map": maps["RC"]}
    scale = "all maps on one scale, 0 (black) to 1 (pale yellow)"
    below = f"n = {len(images)} images, data: {data_name}; {scale}"
    return _pictures(rows, f"{wide} lights more than {narrow} ({means})", below)


def figure_alpha_seeds(
    images: np.ndarray, maps: Mapping[str, np.ndarray], table: pd.DataFrame, count: int, data_name: str
) -> Figure:
    """How the Alpha map of some images changes with its seeds; ``table`` has the columns seeds, border and cc
    (with the maps of the chosen ones), from ``count`` images."""
    least = table.loc[table["cc"].idxmin()]
    which = f"{100 * least['seeds']:g} % seeds and border {least['border']:.0f}"
    title = f"At worst ({which}) maps correlate {least['cc']:.2f} with the chosen ones"
    below = (
        f"n = {count} images ({len(images)} shown), data: {data_name}; scale 0 to 1; chosen: 7 %, border 3"
    )
    return _pictures({"image": images} | maps, title, below)


def figure_3(network: SalMask, image: np.ndarray, tensor: Images, saliency: Images, data_name: str) -> Figure:
    """Figure 3, on one photograph: the first layer's maps before and after the mask, from the model itself.

    ``tensor`` is the normalised image (1, 3, H, W), ``saliency`` its map (H, W).
    """
    with torch.no_grad():
        images = network_input(tensor, network)
        maps = network.first(images)[0]
        mask = network.mask(images, saliency_input(saliency[None], images, network.training))[0]
        maps, mask, masked = (found.cpu() for found in (maps, mask, network.activation(maps * mask)))
    loudest = maps.mean((1, 2)).argsort(descending=True)[:3].tolist()
    above, below = ([(stack[k] / maps[k].max()).numpy() for k in loudest] for stack in (maps, masked))
    names = [[f"map {k}\n{what}" for k in loudest] for what in ("y = ReLU(conv(x))", "ReLU(y s)")]
    kept = 100 * float(masked.sum() / maps.sum())
    return figures.grid(
        [[image, *above], [mask.numpy(), *below]],
        ["", ""],
        [],
        f"Figure 3. The connection keeps {kept:.0f} % of the first layer's response here",
        f"n = 1 image, data: {data_name}; untrained filters (seed 0), a map's pair on one scale",
        limits=(0, 1),
        cell_names=[["image x", *names[0]], ["mask s", *names[1]]],
    )


def figure_structure(table: pd.DataFrame, name: str, masked_after: str, title: str) -> Figure:
    """Figures 4 and 5: a network's layers as bars, read from ``network.layer_table``.

    A bar's height is the side of its output (logarithmic); the mask enters after the layer ``masked_after``.
    """
    rows = table[table["kind"].isin(LAYER_KINDS)].reset_index(drop=True)
    wide = rows["kind"].isin(["Conv2d", "Linear"])
    heights, widths = np.log2(rows["side"]) + 1, np.where(wide, 1.0, 0.45)
    left = np.cumsum(widths + 0.12) - widths - 0.12
    figure, axes = figures.new(8.2, 3.6)
    axes.bar(left, heights, widths, align="edge", color=[LAYER_KINDS[kind][1] for kind in rows["kind"]])
    for i, row in rows[wide].iterrows():
        kernel = f"{row['kernel']}x{row['kernel']}, " if row["kernel"] else ""
        text = f"{row['layer']}: {kernel}{row['maps']}"
        axes.text(left[i] + 0.5, heights[i] + 0.15, text, rotation=60, fontsize=8, va="bottom")
    end = left[rows["layer"] == masked_after][0] + 0.51
    axes.annotate("mask s", (end, 0), (end, -1.6), ha="center", fontsize=8, arrowprops={"arrowstyle": "->"})
    sides = sorted(rows["side"].unique())
    axes.set_yticks(np.log2(sides) + 1, sides)
    axes.set(xticks=[], xlabel="layers in their order", ylabel="side of the maps (pixels)")
    axes.set_ylim(-2, heights.max() + 3.6)
    kinds = dict(LAYER_KINDS[kind] for kind in rows["kind"])
    figure.legend(
        handles=[Patch(label=kind, color=colour) for kind, colour in kinds.items()],
        loc="outside right upper",
    )
    parameters = f"{rows['parameters'].sum():,} parameters, read from the model"
    return figures.finish(figure, title, f"{name} for 96x96 images, {parameters}")


def figure_accuracy_curves(log: pd.DataFrame, network: str, data_name: str) -> Figure:
    """Figures 6 and 7: test accuracy per epoch for the paper's masks and grey; bands are 95 % t intervals
    over seeds."""
    above, epochs = mean_curve_above(log, network)
    share = 100 * (share_of_epochs_above(log, network).value + 0.5)
    title = (
        f"{NETWORK_NAMES[network]}: RC and Alpha's mean curve lies above plain in {above} of {epochs} epochs "
        f"({share:.0f} % seed by seed)"
    )
    return _curves(log, network, PAPER_MASKS, title, f"{data_name}, the part tested every epoch")


def figure_control_curves(log: pd.DataFrame, network: str, data_name: str, masks: Sequence[str]) -> Figure:
    """The same for these masks, the controls among them, without bands, which would hide each other."""
    ends = log[log["network"] == network].pivot_table("accuracy", index="epoch", columns="mask").iloc[-1]
    above = (ends[[mask for mask in masks if mask != "plain"]] > ends["plain"]).sum()
    title = f"{NETWORK_NAMES[network]}: {above} of {len(masks) - 1} masks end above plain, at most by "
    title += f"{ends[list(masks)].max() - ends['plain']:.1f} points"
    return _curves(log, network, masks, title, data_name, band=False)


def _curves(
    log: pd.DataFrame, network: str, masks: Sequence[str], title: str, data_name: str, band: bool = True
) -> Figure:
    rows = []
    for mask in masks:
        runs = log.query("network == @network and mask == @mask")
        for epoch, of_seeds in runs.groupby("epoch")["accuracy"]:
            rows.append({"epoch": epoch, "mask": mask} | mean_interval(of_seeds).row("accuracy", "seeds"))
    table = pd.DataFrame(rows)
    shown = _intervals(table) if band else f"{_count(table)}, means"
    labels = ("epoch", "test accuracy (%)", title, f"{shown}, data: {data_name}")
    figure = figures.lines(table, "epoch", "accuracy", "mask", *labels, palette=MASK_COLOURS, band=band)
    low, high = figure.axes[0].get_ylim()
    figure.axes[0].set_ylim(max(low, 0), min(high, 100))
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def figure_accuracy_gains(gains: pd.DataFrame, data_name: str) -> Figure:
    """Paired gains in points with 95 % intervals, for both networks, beside the printed gains."""
    rows = gains.query("epoch == 'last'")
    masked, grey = (
        rows.loc[rows["comparison"].isin([f"{mask} minus plain" for mask in which]), "low"]
        for which in (("RC", "Alpha"), ("grey",))
    )
    title = (
        f"RC and Alpha: {(masked > 0).sum()} of {len(masked)} intervals above zero, before Holm's "
        f"adjustment; a uniform grey: {(grey > 0).sum()} of {len(grey)}"
    )
    figure = _gains(rows, "comparison", "difference (points)", title, data_name)
    names = list(rows["comparison"].drop_duplicates())
    for axes, network in zip(figure.axes, rows["network"].unique(), strict=True):
        plain = PRINTED_ACCURACIES[network, "plain"]
        printed = {
            f"{mask} minus plain": PRINTED_ACCURACIES[network, mask] - plain for mask in ("RC", "Alpha")
        }
        places = [names.index(name) for name in printed]
        axes.plot(printed.values(), places, "D", color=figures.PALETTE[1], label="printed (STL-10)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=7.5)
    return figure


def figure_epoch_selection(table: pd.DataFrame, data_name: str) -> Figure:
    """What choosing the epoch on the test set adds, from ``results.selection_table``."""
    rows = table.assign(rival=table["network"].map(NETWORK_NAMES) + ", " + table["rival"])
    title = f"Choosing the epoch on the test set adds up to {table['points'].max():.1f} points"
    below = f"{table['trainings'].max()} trainings a network, 95 % t intervals, data: {data_name}"
    return figures.forest(rows, "points", "rival", "best epoch minus rival (points)", title, below, width=7.0)


def figure_learning_rates(table: pd.DataFrame, data_name: str) -> Figure:
    """Held-out accuracy against the learning rate, a line a mask, from ``results.learning_rate_table``."""
    best, rates = best_rates(table), table["learning_rate"]
    ends = [mask for mask, rate in best.items() if rate in (rates.min(), rates.max())]
    at_ends = f"at an end of those tried for {', '.join(ends)}" if ends else "at no end of those tried"
    title = f"Best learning rate: {best['plain']:g} for plain; {at_ends}"
    below = f"{_intervals(table)}, held-out training images, data: {data_name}{_rate_ties(table)}"
    labels = ("learning rate", "accuracy (%)", title, below)
    figure = figures.lines(table, "learning_rate", "accuracy", "mask", *labels, palette=MASK_COLOURS)
    for axes in figure.axes:
        axes.set_xscale("log", base=2)
        ticks = sorted(table["learning_rate"].unique())
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    return figure


def _rate_ties(table: pd.DataFrame) -> str:
    """For how many masks the intervals of the two best learning rates overlap; "" where there are none."""
    if table["low"].isna().any():
        return ""
    ranked = table.sort_values("accuracy", ascending=False).groupby("mask")
    best, second = (ranked.nth(place).set_index("mask") for place in (0, 1))
    tied = (best["low"].sub(second["high"]) <= 0).sum()
    return f"; the intervals of the two best rates overlap for {tied} of {len(best)} masks"


def figure_mask_controls(controls: pd.DataFrame, data_name: str) -> Figure:
    """Gain of every mask over plain, saliency maps and controls in two colours."""
    computed = controls["mask"].isin(SALIENCY_MASKS)
    rows = controls.assign(kind=np.where(computed, "saliency map", "control"))
    title = (
        f"Of {len(controls)} gains ({controls['mask'].nunique()} masks, {controls['network'].nunique()} "
        f"networks) {(controls['low'] > 0).sum()} have an interval above zero"
    )
    absent = len(controls) < controls["mask"].nunique() * controls["network"].nunique()
    data_name = f"{data_name}; without a dot: not trained" if absent else data_name
    return _gains(rows, "mask", GAIN, title, data_name, colours="kind")


def figure_mask_chain(chain: pd.DataFrame, data_name: str) -> Figure:
    """RC's gain taken apart: a step a property, from ``results.chain_table``."""
    clear = ((chain["low"] > 0) | (chain["high"] < 0)).sum()
    title = f"Of {len(chain)} steps from plain to RC {clear} have an interval without zero"
    rows = chain.assign(step=chain["what"].str.split(" (", regex=False).str[0])
    data_name = f"{data_name}; the steps add up to RC minus plain"
    return _gains(rows, "step", "change in accuracy (points)", title, data_name)


def figure_mask_places(place: pd.DataFrame, data_name: str) -> Figure:
    """Gains over plain by where, and how, the mask enters: network, connection, mask, points, interval.

    The title compares what has equal seeds: averaged with white and raw, on the first network.
    """
    gains = place.drop_duplicates(["connection", "mask"]).set_index(["mask", "connection"])["points"]
    name = NETWORK_NAMES[place["network"].iloc[0]]
    rows = place.assign(
        place=place["connection"] + ", " + place["mask"],
        kind=np.where(place["connection"] == "first", "the paper's", "another"),
    )
    title = (
        f"{name}: RC averaged with white gains {gains['RC', 'first']:+.1f} points, raw "
        f"{gains['RC', 'raw']:+.1f}; a uniform grey {gains['grey', 'first']:+.1f} and "
        f"{gains['grey', 'raw']:+.1f}"
    )
    return _gains(rows, "place", GAIN, title, data_name, colours="kind")


def figure_learned_gains(table: pd.DataFrame, data_name: str) -> Figure:
    """Gains of learned masks and of a wider plain network over plain, from ``results.learned_table``."""
    best = table.loc[table["points"].idxmax()]
    clear = "clearly" if best["low"] > 0 else "not clearly"
    which = f"{best['what']} on {NETWORK_NAMES[best['network']]}"
    title = f"Best: {which}, {best['points']:+.1f} points, {clear} above zero"
    return _gains(table.rename(columns={"what": "change"}), "change", GAIN, title, data_name)


def figure_network_widths(widths: pd.DataFrame, data_name: str) -> Figure:
    """Gains over plain at half, chosen and double width, from ``results.width_table``."""
    cases = widths.assign(sign=np.sign(widths["points"])).groupby(["network", "mask"])
    changed = (cases["sign"].nunique() > 1).sum()
    clear = int(((widths["low"] > 0) | (widths["high"] < 0)).sum())
    title = f"The gain's sign changes with the width in {changed} of {len(cases)} cases; "
    title += f"{clear} of {len(widths)} gains are clear"
    below = f"paired by seed, {_intervals(widths)}, data: {data_name}"
    labels = ("width (share of the full network's)", GAIN, title, below)
    rows, options = widths.replace({"network": NETWORK_NAMES}), {"panels": "network", "width": 8.2}
    figure = figures.lines(rows, "width", "points", "mask", *labels, palette=MASK_COLOURS, **options)
    for axes, (_, part) in zip(figure.axes, widths.groupby("network", sort=False), strict=True):
        ticks = sorted(part["width"].unique())
        axes.axhline(0, color="0.4", linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    return figure


def figure_gain_by_quality(table: pd.DataFrame, correlation: Estimate, data_name: str) -> Figure:
    """Gain over grey of masks from the best to the worst, from ``results.quality_table`` (SM-X2)."""
    neither = "Worse" if correlation.high < 0 else "Neither better nor worse"
    word = "Better" if correlation.low > 0 else neither
    title = f"{word} masks go with larger gains (degraded truth: rank correlation {correlation.value:.2f})"
    names, below = "mask (AUC against the object)", f"paired by seed, {_intervals(table)}, data: {data_name}"
    rows = table.assign(**{names: [f"{row.mask} ({row.auc:.2f})" for row in table.itertuples()]})
    gain = "gain over grey (points)"
    return figures.forest(rows, "points", names, gain, title, f"{below} (embedded)", colours="kind")


def figure_accuracy_lost(tables: Mapping[str, pd.DataFrame], data_name: str) -> Figure:
    """Accuracy on clean and changed images by mask, a panel a kind of change (SM-X3): first noise, whose last
    images have the most, then swapped backgrounds."""
    rows = pd.concat([table.assign(change=change) for change, table in tables.items()])
    noisy, swapped = map(_lost, tables.values())
    title = f"Points lost to swapped backgrounds: {swapped}; to noise: {noisy}"
    below = f"{_count(rows)}, means, data: {data_name} (embedded)"
    labels = ("test images", "test accuracy (%)", title, below)
    options = {"panels": "change", "band": False, "width": 8.4}
    return figures.lines(rows, "images", "accuracy", "mask", *labels, palette=MASK_COLOURS, **options)


def _lost(table: pd.DataFrame) -> str:
    """Points lost on the last images of a ``results.loss_table``, by plain, RC and Alpha, in words."""
    lost = table[table["images"] == table["images"].iloc[-1]].set_index("mask")["lost"]
    return ", ".join(f"{mask} {lost[mask]:.0f}" for mask in ("plain", "RC", "Alpha") if mask in lost)


def figure_learned_maps(
    images: np.ndarray, maps: Mapping[str, np.ndarray], data_name: str, trained_on: str
) -> Figure:
    """What masks the learned branches make of photographs, beside the maps that they were given."""
    alike = {
        name: np.mean([cc(*pair) for pair in zip(maps["RC map"], stack, strict=True)])
        for name, stack in maps.items()
    }
    title = f"What is learned from RC correlates {alike['learned from RC']:.2f} with RC, "
    title += f"what is learned without it {alike['learned from plain']:.2f}"
    rows = {"image": images} | {name.replace(" from ", "\nfrom "): stack for name, stack in maps.items()}
    below = f"n = {len(images)} images, data: {data_name}, trained on {trained_on} (first seed)"
    return _pictures(rows, title, f"{below}; scale 0 to 1")


def figure_quality_by_size(quality: pd.DataFrame, change: Estimate, data_name: str) -> Figure:
    """AUC of the maps against exact masks by image size; ``change`` is RC's from 32 to 96 pixels."""
    rows = [
        {"mask": mask, "size": size} | bootstrap_interval(part["auc"]).row("auc")
        for (mask, size), part in quality.groupby(["mask", "size"], sort=False)
    ]
    word = "better" if change.low > 0 else "worse" if change.high < 0 else "not clearly better"
    title = f"RC maps are {word} on 96 than on 32 pixels ({change.value:+.3f})"
    below = f"n = {quality['image'].nunique()} images, 95 % bootstrap intervals, data: {data_name}"
    labels = ("image side (pixels)", "AUC against the object mask", title, below)
    figure = figures.lines(pd.DataFrame(rows), "size", "auc", "mask", *labels)
    figure.axes[0].set_xticks(sorted(quality["size"].unique()))
    return figure


def _pictures(rows: Mapping[str, np.ndarray], title: str, below: str) -> Figure:
    """Images and their maps in [0, 1], a row a kind."""
    columns = [""] * len(rows["image"])
    return figures.grid(list(rows.values()), list(rows), columns, title, below, limits=(0, 1))


def _gains(rows: pd.DataFrame, names: str, xlabel: str, title: str, data_name: str, **options) -> Figure:
    """Dots with intervals, a panel a network."""
    below = f"paired by seed, {_intervals(rows)}, data: {data_name}"
    rows = rows.replace({"network": NETWORK_NAMES})
    return figures.forest(rows, "points", names, xlabel, title, below, panels="network", **options)


def _intervals(rows: pd.DataFrame) -> str:
    known = rows["low"].notna().any()
    return f"{_count(rows)}, {'95 % t intervals' if known else 'too few for intervals'}"


def _count(rows: pd.DataFrame) -> str:
    low, high = rows["seeds"].min(), rows["seeds"].max()
    return ("1 seed" if high == 1 else f"{high} seeds") if low == high else f"{low} to {high} seeds"
