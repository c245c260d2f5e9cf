"""The figures of paper 2 (the shallow saliency network)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from saliencylib import figures, stats
from saliencylib.shallow_cnn.gaze import GazeSet
from saliencylib.shallow_cnn.network import GAZE_LOSSES
from saliencylib.shallow_cnn.results import (
    PRINTED_METRICS,
    correlations,
    curve_table,
    loss_by_epoch,
    smoothed,
)
from saliencylib.shallow_cnn.training import LEFT, GazeTraining, left_plateau
from saliencylib.stats import Estimate, evenly

LOSS_COLOURS = dict(zip([loss.name for loss in GAZE_LOSSES.values()], figures.PALETTE, strict=False))
HIGHEST = 1.6  # where the figure of the plateau ends
SHARES_DRAWN = (-150, 250)  # %
METRIC_LABELS = PRINTED_METRICS | {"nss": "NSS"}


def figure_1(shown: GazeSet, count: int) -> Figure:
    """Figure 1: images and their true maps; the title says how much of a picture people look at."""
    part = shown.select(evenly(len(shown), count))
    area = 100 * (shown.targets > 0.5).mean()
    title = f"Half of the peak density is passed on {area:.0f} % of an image's area"
    below = f"n = {len(part)} of {len(shown)} images, data: {shown.name}; all maps on one scale, 0 to 1"
    rows = [list(part.images), list(part.targets)]
    return figures.grid(rows, ["image", "truth"], [""] * len(part), title, below, limits=(0, 1))


def figure_losses(trained: Sequence[GazeTraining], mean_map_loss: float, data_name: str) -> Figure:
    """Figures 2, 3 (MSE) and 10 (L1): training loss raw and smoothed, and validation loss, a line a seed.

    ``mean_map_loss`` is the validation loss of the training data's mean map.
    """
    loss = trained[0].recipe.name
    figure, (left, right) = figures.new(7.4, 3.0, 1, 2)
    for run in trained:
        window = max(5, len(run.train_losses) // 20)
        left.plot(run.train_steps, run.train_losses, color="0.75", linewidth=0.6)
        left.plot(run.train_steps, smoothed(run.train_losses, window), color=LOSS_COLOURS[loss])
        right.plot(run.validation_epochs, run.validation_losses, color=LOSS_COLOURS[loss])
    right.axhline(mean_map_loss, color="0.3", linewidth=1, linestyle="--", label="mean map")
    left.locator_params(axis="x", nbins=5)
    left.set(xlabel="step", ylabel=f"training loss ({loss})")
    right.set(xlabel="epoch", ylabel=f"validation loss ({loss})")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(left.lines[:2], ["raw", f"smoothed ({window} values)"])
    right.legend()
    below = 100 * (1 - np.mean([run.validation_losses[-1] for run in trained]) / mean_map_loss)
    word = "below" if below >= 0 else "above"
    title = f"{loss}: the validation loss ends {abs(below):.0f} % {word} the mean map's"
    seeds = ", ".join(str(run.recipe.seed) for run in trained)
    return figures.finish(figure, title, f"seeds {seeds}, a line each; data: {data_name}")


def figure_4(trained: GazeTraining, start: np.ndarray) -> Figure:
    """Figure 4: the filters of the first convolution (maps, 3, 5, 5), each on its own range.

    ``start`` holds the same filters before training.
    """
    filters = trained.model.conv1.weight.detach().float().cpu().numpy()
    likeness = np.corrcoef(filters.ravel(), start.ravel())[0, 1]
    tiles = [((w - w.min()) / np.ptp(w)).transpose(1, 2, 0) for w in filters]
    rows = [tiles[first : first + 8] for first in range(0, len(tiles), 8)]
    title = f"First-layer filters correlate {likeness:.2f} with their random start"
    below = (
        f"{len(filters)} filters, {trained.recipe.name}, seed {trained.recipe.seed}, each on its own range"
    )
    return figures.grid(rows, [""] * len(rows), [""] * 8, title, below)


def figure_predictions(
    shown: GazeSet, maps: Mapping[str, np.ndarray], examples: Mapping[str, np.ndarray], seed: int
) -> Figure:
    """Figures 5 to 9: good, centre-biased and bad predictions; the same images under every loss.

    ``maps`` holds predictions (N, 48, 48) by loss, ``examples`` image numbers by kind.
    """
    order = np.concatenate([*examples.values()])
    every = correlations(maps["MSE"], shown.targets)
    cc = every[order]
    kinds = [kind for kind, numbers in examples.items() for _ in numbers]
    rows = [images[order] for images in (shown.images, shown.targets, *maps.values())]
    columns = [f"{kind}\nCC {value:.2f}" for kind, value in zip(kinds, cc, strict=True)]
    title = f"CC with MSE runs from {cc.min():.2f} to {cc.max():.2f}, mean {every.mean():.2f}"
    below = f"chosen by rule among {len(shown)} images, seed {seed}, data: {shown.name}; "
    below += "each map on its own range; CC is that of MSE"
    return figures.grid(rows, ["image", "truth", *maps], columns, title, below)


def figure_scores(means: pd.DataFrame) -> Figure:
    """The paper's three metrics for every predictor and test set (``mean_scores``), with 95 % intervals."""
    cc = means[means["metric"] == "cc"].pivot(index="data", columns="predictor", values="value")
    above = int((cc["MSE"] > cc["mean map"]).sum())
    title = f"Trained with MSE, the network is above the mean map in CC on {above} of {len(cc)} test sets"
    below = f"95 % intervals: of networks over seeds, of others over images; data: {', '.join(cc.index)}"
    return _by_metric(means, "value", "predictor", "mean over images", title, below, zero=None)


def figure_variants(table: pd.DataFrame) -> Figure:
    """Every loss and variant against MSE, from ``variants_table``, with intervals."""
    first = table["data"].iloc[0]
    cc = table[(table["metric"] == "cc") & (table["data"] == first)]
    better, counts = int((cc["low"] > 0).sum()), " or ".join(map(str, sorted(set(table["seeds"]))))
    title = f"{better} of {len(cc)} variants clearly beat MSE in CC on {first}"
    below = f"{counts} seeds, paired by seed, 95 % t intervals; data: {', '.join(table['data'].unique())}"
    table = table.rename(columns={"predictor": "network"})
    figure = _by_metric(table, "difference", "network", "minus MSE's", title, below)
    for panel in figure.axes:
        panel.locator_params(axis="x", nbins=3)
    return figure


def figure_shares(shares: pd.DataFrame, centre: str, data_name: str) -> Figure:
    """Scores as shares of the way from a centre map (0 %) to other people (100 %), a panel a metric."""
    shares = shares[~shares["predictor"].isin([centre, "other people"])]
    best = shares[shares["metric"] == "cc"].sort_values("share").iloc[-1]
    went = f"{best['predictor']} goes {best['share']:.0f} % of the way"
    below = f"n = {best['n']} images, 95 % bootstrap intervals, data: {data_name}\n0 %: {centre}; 100 %: "
    below += "one half of the observers for the other; axes end at {} and {} %".format(*SHARES_DRAWN)
    title = f"In CC, {went} from the centre to other people"
    figure = _by_metric(shares, "share", "predictor", "% of the way", title, below)
    for panel in figure.axes:
        panel.axvline(100, color=figures.PALETTE[2], linewidth=1)
        panel.set_xlim(np.clip(panel.get_xlim(), *SHARES_DRAWN))
    return figure


def figure_centre_bias(bias: pd.DataFrame, data_name: str) -> Figure:
    """Correlation of predictions with the mean map by loss, paired by seed (columns loss, seed, bias)."""
    wide = bias.pivot(index="seed", columns="loss", values="bias")[["MSE", "L1"]]
    lower = int((wide["L1"] < wide["MSE"]).sum())
    difference = stats.paired_difference(wide["MSE"].to_numpy(), wide["L1"].to_numpy())
    title = f"The centre bias is lower with L1 in {lower} of {len(wide)} seeds"
    below = f"MSE minus L1: {difference}; n = {len(wide)} seeds, a line each\nmean over test images, "
    return figures.paired(wide, "loss", "CC with the mean map", title, f"{below}data: {data_name}")


def figure_plateau(traces: pd.DataFrame, data_name: str) -> Figure:
    """Which starts and optimisers leave the mean map: loss and spread by step, a line a run.

    ``traces`` has the rows of ``plateau_trace`` for every run, with its name in the column ``name``.
    """
    steps = {name: left_plateau(rows) for name, rows in traces.groupby("name", sort=False)}
    gone = int(np.isfinite(list(steps.values())).sum())
    words = {name: f"{name}: " + (f"step {s:.0f}" if s == s else "stays") for name, s in steps.items()}
    panels = {"loss": "validation loss (mean map = 1)", "spread": "spread between images (truths = 1)"}
    table = traces.assign(run=traces["name"].map(words), loss=traces["loss"].clip(upper=HIGHEST))
    table = table.rename(columns=panels).melt(["run", "step"], list(panels.values()), "panel")
    last = traces["step"].max()
    title = f"{gone} of {len(steps)} starts and optimisers leave the mean map within {last:.0f} steps"
    below = f"one seed each; losses above {HIGHEST:g} are drawn there; data: {data_name}"
    labels = "step", "share", title, below
    figure = figures.lines(table, "step", "value", "run", *labels, panels="panel", band=False, width=8.6)
    figure.axes[0].axhline(LEFT, color="0.6", linewidth=1, linestyle=":")
    figure.legends[0].set_title(f"below {LEFT:g} of the mean map")
    return figure


def figure_width(predictions: np.ndarray, truths: np.ndarray, data_name: str) -> Figure:
    """Entropies in bits of predictions and of truths, (N,) each, as two histograms (SC-X6)."""
    figure, axes = figures.new(5.6, 3.0)
    sns.histplot({"truths": truths, "predictions (MSE)": predictions}, bins=40, ax=axes)
    axes.set(xlabel="entropy (bits)", ylabel="images")
    share = 100 * (predictions > truths).mean()
    title = f"The prediction is wider than the truth on {share:.0f} % of images"
    return figures.finish(figure, title, f"n = {len(truths)} images, mean over seeds, data: {data_name}")


def figure_failures(per_image: pd.DataFrame, agreement: Estimate, data_name: str) -> Figure:
    """The CC of each image in one run against that in another, from a column a seed (SC-X7)."""
    first, second = per_image.columns[:2]
    figure, axes = figures.new(3.9, 3.7)
    axes.plot(per_image[first], per_image[second], ".", ms=3, alpha=0.5)
    axes.axline((1, 1), slope=1, color="0.5", linewidth=1)
    axes.set(xlabel=f"CC, seed {first}", ylabel=f"CC, seed {second}")
    title = f"The same images fail: rank correlation {agreement.value:.2f}"
    return figures.finish(figure, title, f"a dot an image, n = {len(per_image)}, MSE, data: {data_name}")


def figure_smoothness(tenths: pd.DataFrame, data_name: str) -> Figure:
    """Total variation of predictions by tenth of the images, from the worst CC to the best (SC-X8)."""
    ratio = tenths["value"].iloc[0] / tenths["value"].iloc[1:].mean()
    figure, axes = figures.new(5.2, 3.0)
    error = [tenths["value"] - tenths["low"], tenths["high"] - tenths["value"]]
    axes.errorbar(tenths["tenth"], tenths["value"], yerr=error, fmt="o-", ms=4)
    axes.set(xlabel="tenth of the images, worst CC first", ylabel="total variation (peak = 1)")
    axes.set_xticks(tenths["tenth"])
    title = f"The worst tenth varies {ratio:.2f} times as much as the rest"
    below = f"n = {tenths['n'].sum()} images, 95 % bootstrap intervals, data: {data_name}"
    return figures.finish(figure, title, below)


def figure_contrast(table: pd.DataFrame, data_name: str) -> Figure:
    """Contrast and complexity at fixations minus at other images' fixations, dots with intervals (SC-X9)."""
    title = f"{(table['low'] > 0).sum()} of {len(table)} features are clearly higher where people look"
    below = f"n = {table['n'].iloc[0]} images, 95 % bootstrap intervals, data: {data_name}"
    xlabel = "at fixations minus elsewhere (deviations of the image)"
    return figures.forest(table, "difference", "feature", xlabel, title, below, width=5.6)


def figure_knees(trained: Sequence[GazeTraining], data_name: str) -> Figure:
    """Validation loss by epoch, scaled from 1 to 0, with each run's knee; colours are losses."""
    curves = loss_by_epoch(trained)
    by_run = curves.groupby(["loss", "seed"])["validation"]
    lowest = by_run.transform("min")
    curves["scaled"] = (curves["validation"] - lowest) / (by_run.transform("max") - lowest).clip(lower=1e-12)
    table = curve_table(trained)
    knees = curves.merge(table, left_on=["loss", "seed", "epoch"], right_on=["loss", "seed", "knee"])
    means = table.groupby("loss", sort=False)["knee"].mean().dropna()
    words = ", ".join(f"{epoch:.0f} ({name})" for name, epoch in means.items())
    title = f"Learning slows at epoch {words}" if words else "So few epochs do not tell where learning slows"
    figure = _by_epoch(curves, "scaled", "validation loss (scaled)", title, f"dots: knees; data: {data_name}")
    for name, dots in knees.groupby("loss"):
        figure.axes[0].plot(dots["epoch"], dots["scaled"], "o", ms=5, color=LOSS_COLOURS[name])
    return figure


def figure_gaps(trained: Sequence[GazeTraining], data_name: str) -> Figure:
    """How much the validation loss exceeds the training loss, by epoch; colours are losses."""
    curves = loss_by_epoch(trained)
    curves["gap"] *= 100
    ends = curve_table(trained).groupby("loss", sort=False)["gap at the end"].mean()
    words = ", ".join(f"{round(100 * gap)} % ({name})" for name, gap in ends.items())
    title = f"The validation loss ends above the training loss by {words}"
    figure = _by_epoch(curves, "gap", "validation above training loss (%)", title, f"data: {data_name}")
    figure.axes[0].axhline(0, color="0.3", linewidth=1)
    return figure


def _by_epoch(curves: pd.DataFrame, value: str, ylabel: str, title: str, note: str) -> Figure:
    """A line a training by epoch, coloured by loss."""
    figure, axes = figures.new(5.8, 3.2)
    lines = {"hue": "loss", "palette": LOSS_COLOURS, "units": "seed", "estimator": None}
    sns.lineplot(curves, x="epoch", y=value, ax=axes, **lines)
    axes.set(ylabel=ylabel)
    axes.legend(title=None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    seeds = curves["seed"].nunique()
    return figures.finish(figure, title, f"{seeds} seeds a loss, a line each; {note}")


def _by_metric(table: pd.DataFrame, *arguments: str, **options: object) -> Figure:
    """``figures.forest`` with a panel a metric, and a colour a data set where there are more than one."""
    colours = "data" if "data" in table and table["data"].nunique() > 1 else None
    table = table.assign(metric=table["metric"].map(METRIC_LABELS))
    return figures.forest(table, *arguments, panels="metric", colours=colours, **options)
