"""The figures of paper 2 (the shallow saliency network)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from saliencylib import figures
from saliencylib.shallow_cnn.gaze import GazeSet
from saliencylib.shallow_cnn.network import GAZE_LOSSES
from saliencylib.shallow_cnn.results import (
    JUDGING_METRICS,
    METRIC_LABELS,
    correlations,
    loss_by_epoch,
    over_fitting,
    smoothed,
)
from saliencylib.shallow_cnn.training import LEFT, GazeTraining, left_plateau
from saliencylib.stats import Estimate, evenly

LOSS_COLOURS = dict(zip([loss.name for loss in GAZE_LOSSES.values()], figures.PALETTE, strict=False))
HIGHEST = 1.6  # where the figure of the plateau ends
CONSTANT_STYLES = {"mean map": "--", "median map": ":"}


def figure_1(shown: GazeSet, count: int) -> Figure:
    """Figure 1: images and their true maps; the title says how much of a picture people look at."""
    part = shown.select(evenly(len(shown), count))
    area = 100 * (shown.targets > 0.5).mean()
    title = f"Half of the peak density is passed on {area:.0f} % of an image's area"
    below = f"n = {len(part)} of {len(shown)} images, data: {shown.name}; all maps on one scale, 0 to 1"
    rows = [list(part.images), list(part.targets)]
    return figures.grid(rows, ["image", "truth"], [""] * len(part), title, below, limits=(0, 1))


def figure_losses(trained: Sequence[GazeTraining], levels: Mapping[str, float], data_name: str) -> Figure:
    """Figures 2, 3 (MSE) and 10 (L1): training loss raw and smoothed, and validation loss, a line a seed.

    ``levels`` are the validation losses of the mean map and the median map; a dot is a seed's lowest loss.
    """
    loss = trained[0].recipe.name
    figure, (left, right) = figures.new(7.4, 3.0, 1, 2)
    for run in trained:
        window = max(5, len(run.train_losses) // 20)
        left.plot(run.train_steps, run.train_losses, color="0.75", linewidth=0.6)
        left.plot(run.train_steps, smoothed(run.train_losses, window), color=LOSS_COLOURS[loss], zorder=3)
        right.plot(run.validation_epochs, run.validation_losses, color=LOSS_COLOURS[loss], linewidth=0.9)
        right.plot(run.best_epoch, run.validation_losses.min(), "o", ms=4, color=LOSS_COLOURS[loss])
    for name, level in levels.items():
        right.axhline(level, color="0.3", linewidth=1, linestyle=CONSTANT_STYLES[name], label=name)
    left.locator_params(axis="x", nbins=5)
    left.set(xlabel="step", ylabel=f"training loss ({loss})")
    right.set(xlabel="epoch", ylabel=f"validation loss ({loss})")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(left.lines[:2], ["raw", "smoothed"])
    right.legend()
    level = min(levels.values())
    below = 100 * (1 - np.mean([run.validation_losses.min() for run in trained]) / level)
    epochs = sorted(run.best_epoch for run in trained)
    title = f"{loss}: validation loss lowest in epochs {epochs[0]} to {epochs[-1]}, "
    title += f"{below:.0f} % below the better constant map's"
    longer = sum(run.recipe.run_on for run in trained)
    words = f", a line each, {longer} of them not stopped" if longer else ", a line each"
    return figures.finish(figure, title, f"{_seeds(trained)}{words}; data: {data_name}")


def figure_over_fitting(trained: Sequence[GazeTraining], data_name: str) -> Figure:
    """Training and validation loss by epoch as shares of the loss in the first, a panel a loss."""
    curves = loss_by_epoch(trained)
    first = curves.groupby(["method", "seed"])[["train", "validation"]].transform("first")
    curves[["train", "validation"]] /= first
    long = curves.melt(["method", "seed", "epoch"], ["train", "validation"], "curve", "share")
    names = list(dict.fromkeys(curves["method"]))
    figure, axes = figures.new(7.4, 3.0, 1, len(names), sharey=True, squeeze=False)
    for panel, name in zip(axes[0], names, strict=True):
        rows = long[long["method"] == name]
        lines = {"hue": "curve", "palette": figures.PALETTE[:2], "units": "seed", "estimator": None}
        sns.lineplot(rows, x="epoch", y="share", ax=panel, linewidth=0.9, legend=panel is axes[0, 0], **lines)
        panel.set_title(name, fontsize=9)
        panel.set(xlabel="epoch", ylabel="loss (first epoch = 1)")
    axes[0, 0].legend(title=None)
    runs = {name: [run for run in trained if run.recipe.name == name] for name in names}
    words = ", ".join(f"{over_fitting(of)['rise'].mean():.1f} % ({name})" for name, of in runs.items())
    title = f"From the other seeds' best epoch on, the validation error rises by {words}"
    return figures.finish(figure, title, f"{_seeds(trained)}, a line each; data: {data_name}")


def figure_4(trained: GazeTraining, start: np.ndarray, data_name: str) -> Figure:
    """Figure 4: the filters of the first convolution (maps, 3, 5, 5), the ``start`` they had, and the change
    between, every tile on its own range."""
    filters = trained.model.conv1.weight.detach().float().cpu().numpy()
    change = filters - start
    moved = 100 * np.sqrt(np.square(change).sum() / np.square(start).sum())
    kinds = {"start": start, "trained": filters, "change": change}
    tiles = {
        name: [((w - w.min()) / max(np.ptp(w), 1e-12)).transpose(1, 2, 0) for w in part]
        for name, part in kinds.items()
    }
    rows = [part[first : first + 8] for first in range(0, len(filters), 8) for part in tiles.values()]
    names = list(kinds) * (len(rows) // len(kinds))
    title = f"Training changes the first-layer filters by {moved:.0f} % of their size"
    below = f"n = {len(filters)} filters, each tile on its own range; {trained.recipe.name}, "
    below += f"seed {trained.recipe.seed}, epoch {trained.best_epoch}, data: {data_name}"
    return figures.grid(rows, names, [""] * 8, title, below, side=0.8)


def figure_predictions(
    shown: GazeSet,
    maps: Mapping[str, np.ndarray],
    examples: Mapping[str, np.ndarray],
    focus: np.ndarray,
    seed: int,
) -> Figure:
    """Figures 5 to 9: good, centre-biased and bad predictions; the same images under every loss.

    ``maps`` holds predictions (N, 48, 48) by loss, ``examples`` image numbers by kind, ``focus`` (N,) the CC
    with the own truth minus that with others', of MSE.
    """
    order = np.concatenate([*examples.values()])
    every = correlations(maps["MSE"], shown.targets)
    kinds = [kind for kind, numbers in examples.items() for _ in numbers]
    rows = [images[order] for images in (shown.images, shown.targets, *maps.values())]
    columns = [f"{kind}\nCC {every[i]:.2f}" for kind, i in zip(kinds, order, strict=True)]
    title = f"CC is {every.mean():.2f} with the own truth, {focus.mean():.2f} more than with other images'"
    below = f"chosen by rule among n = {len(shown)} images, MSE and L1 of seed {seed}, data: {shown.name}; "
    below += "each map on its own range; CC is that of MSE"
    return figures.grid(rows, ["image", "truth", *maps], columns, title, below)


def figure_scores(means: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Four scores of ``methods`` (``mean_scores``) with 95 % intervals, a colour a test set."""
    means = means[means["method"].isin(methods) & means["metric"].isin(list(METRIC_LABELS))]
    first = means["test"].iloc[0]
    cc = means[(means["test"] == first) & (means["metric"] == "cc")].set_index("method")["value"]
    words = [f"{name} {cc[name]:.2f}" for name in ("MSE", "L1", "mean map", "other people") if name in cc]
    title = f"CC on {first}: {', '.join(words)}"
    counts = means[means["unit"] == "images"].groupby("test", sort=False)["n"].max()
    data = ", ".join(f"{test} (n = {n} images)" for test, n in counts.items())
    seeds = sorted(set(means.loc[means["unit"] != "images", "n"]))
    below = f"95 % intervals, networks over seeds ({' or '.join(map(str, seeds))}) and images, others over "
    below += f"images; data: {data}"
    return _by_metric(means, "value", "method", "mean", title, below, zero=None, width=8.8)


def figure_variants(table: pd.DataFrame) -> Figure:
    """Every loss and variant against MSE, from ``differences_table``, with intervals."""
    asked = table[table["metric"].isin(list(JUDGING_METRICS))]
    seeds = " or ".join(map(str, sorted(set(asked["n"]))))
    ahead = (asked["low"] > 0).groupby([asked["test"], asked["method"]], sort=False).all()
    better = ahead.groupby("test", sort=False).agg(["sum", "size"])
    words = ", ".join(f"{won} of {size} on {test}" for test, won, size in better.itertuples())
    title = f"Ahead of MSE in all of {', '.join(JUDGING_METRICS.values())}: {words}"
    below = f"{seeds} seeds, paired by seed and image, 95 % intervals over both; data: {_data(table)}"
    figure = _by_metric(table, "difference", "method", "minus MSE's", title, below, width=9.4)
    for panel in figure.axes:
        panel.locator_params(axis="x", nbins=3)
    return figure


def figure_centre_bias(
    bias: pd.DataFrame, levels: Mapping[str, float], truths: float, data_name: str, images: int
) -> Figure:
    """Correlation of predictions with the mean map by loss, paired by seed (columns loss, seed, bias), that
    of the two constants, the mean map and the median map, as dashed lines, and of the ``truths`` as a dotted
    one."""
    wide = bias.pivot(index="seed", columns="loss", values="bias")[["MSE", "L1"]]
    title = f"CC with the mean map: MSE {wide['MSE'].mean():.2f}, L1 {wide['L1'].mean():.2f}, "
    title += f"the true maps {truths:.2f}"
    below = f"n = {len(wide)} seeds, a line each, mean over {images} images; data: {data_name}\n"
    below += "dashed: the mean map (MSE) and the median map (L1); dotted: the true maps"
    figure = figures.paired(wide, "loss", "CC with the mean map", title, below)
    for place, (name, colour) in enumerate(zip(wide, figures.PALETTE, strict=False)):
        figure.axes[0].hlines(levels[name], place - 0.2, place + 0.2, color=colour, linestyle="--")
    figure.axes[0].axhline(truths, color="0.3", linewidth=1, linestyle=":")
    return figure


def figure_plateau(traces: pd.DataFrame, data_name: str) -> Figure:
    """Which starts and optimisers leave the mean map: loss and spread by step, a line a run.

    ``traces`` has the rows of ``plateau_trace`` for every run, with its name in the column ``name``.
    """
    steps = {name: left_plateau(rows) for name, rows in traces.groupby("name", sort=False)}
    gone = int(np.isfinite(list(steps.values())).sum())
    last = traces.groupby("name")["step"].max()
    words = {
        name: f"{name}: " + (f"step {s:.0f}" if s == s else f"not in {last[name]:.0f}")
        for name, s in steps.items()
    }
    panels = {"loss": "validation loss (mean map = 1)", "spread": "spread between images (truths = 1)"}
    table = traces.assign(run=traces["name"].map(words), loss=traces["loss"].clip(upper=HIGHEST))
    table = table.rename(columns=panels).melt(["run", "step"], list(panels.values()), "panel")
    title = f"Of {len(steps)} starts and optimisers {gone} came below the mean map in the steps watched"
    below = f"one seed each; losses above {HIGHEST:g} are drawn there; data: {data_name}"
    labels = "step", "share", title, below
    figure = figures.lines(table, "step", "value", "run", *labels, panels="panel", band=False, width=8.6)
    figure.axes[0].axhline(LEFT, color="0.6", linewidth=1, linestyle=":")
    figure.legends[0].set_title(f"below {LEFT:g} of the mean map", {"size": 7.5})
    return figure


def figure_width(entropies: Mapping[str, np.ndarray], data_name: str) -> Figure:
    """Entropies in bits of "predictions" and "truths", (N,) each, as histograms, and the mean map's (1,) as a
    line (SC-X6)."""
    figure, axes = figures.new(5.6, 3.0)
    drawn = {name: entropies[name] for name in ("truths", "predictions")}
    sns.histplot(drawn, bins=40, ax=axes)
    axes.axvline(entropies["mean map"][0], color="0.3", linestyle="--")
    axes.set(xlabel="entropy (bits); dashed: the mean map", ylabel="images")
    wider, narrower = (
        100 * (entropies["predictions"] > other).mean()
        for other in (entropies["truths"], entropies["mean map"][0])
    )
    title = (
        f"Predictions wider than the truth on {wider:.0f} % of images, than the mean map on {narrower:.0f} %"
    )
    below = f"n = {len(entropies['truths'])} images, MSE, mean over seeds, data: {data_name}"
    return figures.finish(figure, title, below)


def figure_failures(scores: pd.DataFrame, alone: Estimate, partial: Estimate, data_name: str) -> Figure:
    """The CC of each image in one run against that in another, from a row a seed (SC-X7); ``partial`` is the
    agreement given the mean map's CC."""
    first, second = scores.index[:2]
    figure, axes = figures.new(4.4, 3.9)
    axes.plot(scores.loc[first], scores.loc[second], ".", ms=3, alpha=0.5)
    axes.axline((1, 1), slope=1, color="0.5", linewidth=1)
    axes.set(xlabel=f"CC, seed {first}", ylabel=f"CC, seed {second}")
    title = f"Rank correlation of all runs {alone.value:.2f},\ngiven the mean map's CC {partial.value:.2f}"
    if min(alone.low, partial.low) > 0:
        title = "What fails in one run fails in others: " + title[0].lower() + title[1:].replace("\n", " ")
    below = f"a dot an image, n = {scores.shape[1]}, MSE, {len(scores)} seeds\ndata: {data_name}"
    return figures.finish(figure, title, below)


def figure_contrast(table: pd.DataFrame) -> Figure:
    """Contrast and complexity at fixations minus at other images' fixations, dots with intervals (SC-X9)."""
    kinds, sets = table["feature"].nunique(), table["data"].nunique()
    title = f"Higher where people look: {(table['low'] > 0).sum()} of {len(table)} "
    title += f"({kinds} features, {sets} data set{'s' if sets > 1 else ''})"
    counts = ", ".join(
        f"{name} (n = {n})" for name, n in table.groupby("data", sort=False)["n"].first().items()
    )
    below = f"95 % bootstrap intervals over images; data: {counts}"
    xlabel = "at fixations minus elsewhere (deviations of the image)"
    return figures.forest(table, "difference", "feature", xlabel, title, below, colours="data", width=6.4)


def _seeds(trained: Sequence[GazeTraining]) -> str:
    return f"n = {len({run.recipe.seed for run in trained})} seeds"


def _data(table: pd.DataFrame) -> str:
    return ", ".join(dict.fromkeys(table["test"]))


def _by_metric(table: pd.DataFrame, *arguments: str, **options: object) -> Figure:
    """``figures.forest`` with a panel a metric, and a colour a test set where there are more than one."""
    colours = "test" if table["test"].nunique() > 1 else None
    table = table.assign(metric=table["metric"].map(METRIC_LABELS))
    return figures.forest(table, *arguments, panels="metric", colours=colours, **options)
