"""The figures of paper 1 (Sal-Mask): maps, accuracy per epoch, gains."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from saliencylib import figures, sal_mask, stats

NETWORK_NAMES = {"alexnet": "AlexNet", "nin": "NIN"}
COLOURS = dict(zip(sal_mask.MASKS, (figures.PALETTE[6], *figures.PALETTE[:2], "0.6"), strict=True))


def figure_1(images: np.ndarray, maps: dict[str, np.ndarray], data_name: str) -> Figure:
    """Figure 1: images with their Alpha and RC maps; the title compares how much of a picture each lights."""
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


def figure_curves(log: pd.DataFrame, network: str, data_name: str) -> Figure:
    """Figures 6 and 7: test accuracy per epoch for every mask; bands are 95 % t intervals over seeds."""
    rows = log.query("network == @network")
    figure, axes = figures.new(6.4, 3.4)
    for mask in sal_mask.MASKS:
        curve = rows.query("mask == @mask").pivot(index="epoch", columns="seed", values="accuracy")
        bands = [stats.mean_interval(values) for values in curve.to_numpy()]
        axes.plot(curve.index, [band.value for band in bands], color=COLOURS[mask], label=mask)
        low, high = [band.low for band in bands], [band.high for band in bands]
        if np.isfinite(low).all():
            axes.fill_between(curve.index, low, high, color=COLOURS[mask], alpha=0.12, linewidth=0)
    share = 100 * (sal_mask.share_of_epochs_above(log, network).value + 0.5)
    axes.set(xlabel="epoch", ylabel="test accuracy (%)")
    axes.set_title(f"{NETWORK_NAMES[network]}: the masked curves lie above plain in {share:.0f} % of epochs")
    axes.legend(ncols=4, loc="lower right")
    seeds = sorted(rows["seed"].unique())
    figures.caption(figure, f"seeds {seeds[0]}-{seeds[-1]}, bands: 95 % t intervals, data: {data_name}")
    return figure


def figure_gains(gains: pd.DataFrame, data_name: str) -> Figure:
    """Paired gains in points with 95 % intervals, for both networks, beside the printed gains."""
    rows = gains.query("epoch == 'best'")
    networks = list(rows["network"].unique())
    figure, panels = figures.new(8.2, 2.9, 1, len(networks), sharex=True, sharey=True)
    for axes, network in zip(np.atleast_1d(panels), networks, strict=True):
        part = rows.query("network == @network").reset_index(drop=True)
        error = [part["points"] - part["low"], part["high"] - part["points"]]
        axes.errorbar(part["points"], part.index, xerr=error, fmt="o", color=figures.PALETTE[0], label="here")
        printed = [
            sal_mask.PRINTED.get((network, name.split()[0]), np.nan) - sal_mask.PRINTED[network, "plain"]
            if name.endswith("plain")
            else np.nan
            for name in part["comparison"]
        ]
        axes.plot(printed, part.index, "D", color=figures.PALETTE[1], label="printed (STL-10)")
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.set_yticks(part.index, part["comparison"])
        axes.set(xlabel="gain in accuracy (points)", ylabel="comparison")
        axes.label_outer()
        axes.set_title(NETWORK_NAMES[network], fontsize=9)
    axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    masked = rows["comparison"].isin(["RC minus plain", "Alpha minus plain"])
    clear = int((rows["low"][masked] > 0).sum())
    title = f"{clear} of {int(masked.sum())} masked networks are clearly better than plain"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figures.caption(figure, f"{rows['seeds'].max()} seeds, paired, 95 % t intervals, data: {data_name}")
    return figure


def figure_map_quality(quality: pd.DataFrame) -> Figure:
    """AUC of the maps against exact masks by image size, with bootstrap intervals over images."""
    figure, axes = figures.new(5.0, 3.0)
    for colour, (method, rows) in zip(figures.PALETTE, quality.groupby("method", sort=False), strict=False):
        sizes = sorted(rows["size"].unique())
        found = [stats.bootstrap_interval(rows.query("size == @s")["auc"]) for s in sizes]
        values = np.array([estimate.value for estimate in found])
        error = [values - [e.low for e in found], [e.high for e in found] - values]
        axes.errorbar(sizes, values, yerr=error, fmt="o-", color=colour, label=method)
    rc = quality.query("method == 'RC'").pivot(index="image", columns="size", values="auc")
    word = "clearly better" if stats.bootstrap_interval(rc[96] - rc[32]).low > 0 else "not clearly better"
    axes.set_title(f"RC maps are {word} on 96 than on 32 pixels")
    axes.set(xlabel="image side (pixels)", ylabel="AUC against the object mask", xticks=sizes)
    axes.legend()
    count = quality["image"].nunique()
    figures.caption(
        figure, f"n = {count} images, 95 % bootstrap intervals, data: cluttered digits (embedded)"
    )
    return figure
