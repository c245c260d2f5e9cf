"""The figures of paper 2 (the shallow saliency network)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from saliencylib import figures, metrics, stats
from saliencylib.shallow_cnn.network import learning_curves
from saliencylib.shallow_cnn.gaze import GazeSet
from saliencylib.shallow_cnn.learning_curves import smoothed
from saliencylib.shallow_cnn.results import PRINTED_METRICS
from saliencylib.shallow_cnn.losses import LOSSES
from saliencylib.shallow_cnn.training import LEFT, Trained, left_plateau
from saliencylib.stats import Estimate

COLOURS = dict(zip([loss.name for loss in LOSSES.values()], figures.PALETTE, strict=False))
HIGHEST = 1.6  # where the figure of the plateau ends
METRIC_NAMES = {**PRINTED_METRICS, "nss": "NSS"}


def figure_1(shown: GazeSet, count: int) -> Figure:
    """Figure 1: images and their true maps; the title says how much of a picture people look at."""
    part = shown.select(np.arange(count) * len(shown) // count)
    area = 100 * (shown.targets > 0.5).mean()
    return figures.picture_grid(
        [list(part.images), list(part.targets)],
        ["image", "truth"],
        [""] * len(part),
        f"Half of the peak density is passed on {area:.0f} % of an image's area",
        f"n = {len(part)} of {len(shown)} images, data: {shown.name}; all maps on one scale, 0 to 1",
        limits=(0, 1),
    )


def figure_losses(trained: Sequence[Trained], mean_map_loss: float, data_name: str) -> Figure:
    """Figures 2, 3 (MSE) and 10 (L1): training loss raw and smoothed, and validation loss, a line a seed.

    ``mean_map_loss`` is the validation loss of the training data's mean map.
    """
    loss = trained[0].recipe.name
    figure, (left, right) = figures.new(7.4, 3.0, 1, 2)
    for run in trained:
        window = max(5, len(run.train_losses) // 20)
        left.plot(run.train_steps, run.train_losses, color="0.75", linewidth=0.6)
        left.plot(run.train_steps, smoothed(run.train_losses, window), color=COLOURS[loss])
        right.plot(run.validation_epochs, run.validation_losses, color=COLOURS[loss])
    left.lines[0].set_label("raw")
    left.lines[1].set_label(f"smoothed ({window} values)")
    right.axhline(mean_map_loss, color="0.3", linewidth=1, linestyle="--", label="mean map")
    left.set(xlabel="step", ylabel=f"training loss ({loss})")
    right.set(xlabel="epoch", ylabel=f"validation loss ({loss})")
    left.legend()
    right.legend()
    below = 100 * (1 - np.mean([run.validation_losses[-1] for run in trained]) / mean_map_loss)
    word = "below" if below >= 0 else "above"
    title = f"{loss}: the validation loss ends {abs(below):.0f} % {word} the mean map's"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    seeds = ", ".join(str(run.recipe.seed) for run in trained)
    figures.caption(figure, f"seeds {seeds}, a line each; data: {data_name}")
    return figure


def figure_4(trained: Trained, start: np.ndarray) -> Figure:
    """Figure 4: the filters of the first convolution (maps, 3, 5, 5), each on its own range.

    ``start`` holds the same filters before training.
    """
    filters = trained.model.conv1.weight.detach().float().cpu().numpy()
    likeness = np.corrcoef(filters.ravel(), start.ravel())[0, 1]
    columns = 8
    rows = -(-len(filters) // columns)
    figure, axes = figures.new(0.75 * columns, 0.75 * rows + 0.7, rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for panel, weights in zip(axes.flat, filters, strict=False):
        low, high = weights.min(), weights.max()
        figures.picture(panel, ((weights - low) / (high - low)).transpose(1, 2, 0))
    title = f"First-layer filters correlate {likeness:.2f} with their random start"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    recipe = trained.recipe
    figures.caption(
        figure,
        f"{len(filters)} filters, {recipe.name}, seed {recipe.seed}, each on its own range",
    )
    return figure


def figure_predictions(
    shown: GazeSet, maps: Mapping[str, np.ndarray], examples: Mapping[str, np.ndarray], seed: int
) -> Figure:
    """Figures 5 to 9: good, centre-biased and bad predictions; the same images under every loss.

    ``maps`` holds predictions (N, 48, 48) by loss, ``examples`` image numbers by kind.
    """
    order = np.concatenate([*examples.values()])
    cc = {
        loss: [metrics.cc(predicted[i], shown.targets[i]) for i in order] for loss, predicted in maps.items()
    }
    names = [kind for kind, numbers in examples.items() for _ in numbers]
    first = cc["MSE"]
    columns = [f"{name}\nCC {value:.2f}" for name, value in zip(names, first, strict=True)]
    every = np.mean([metrics.cc(a, b) for a, b in zip(maps["MSE"], shown.targets, strict=True)])
    return figures.picture_grid(
        [list(shown.images[order]), list(shown.targets[order])]
        + [list(predicted[order]) for predicted in maps.values()],
        ["image", "truth", *maps],
        columns,
        f"CC with MSE runs from {min(first):.2f} to {max(first):.2f}, mean {every:.2f}",
        f"chosen by rule among {len(shown)} images, seed {seed}, data: {shown.name}; "
        "each map on its own range; CC is that of MSE",
    )


def figure_scores(summaries: pd.DataFrame) -> Figure:
    """The paper's three metrics for every predictor and test set, with 95 % intervals."""
    names = list(summaries["predictor"].drop_duplicates())
    sets = list(summaries["data"].drop_duplicates())
    figure, axes = figures.new(8.4, 0.3 * len(names) + 1.3, 1, len(PRINTED_METRICS), sharey=True)
    for panel, (metric, label) in zip(axes, PRINTED_METRICS.items(), strict=True):
        _dots_by_set(panel, summaries[summaries["metric"] == metric], "value", names, sets)
        panel.set(xlabel=label)
    axes[0].invert_yaxis()
    axes[0].set_ylabel("predictor")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    cc = summaries[summaries["metric"] == "cc"].pivot(index="data", columns="predictor", values="value")
    above = int((cc["MSE"] > cc["mean map"]).sum())
    title = f"Trained with MSE, the network is above the mean map in CC on {above} of {len(cc)} test sets"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figures.caption(figure, "95 % intervals: over seeds for the networks, over images for the others")
    return figure


def figure_centre_bias(bias: pd.DataFrame, data_name: str) -> Figure:
    """Correlation of predictions with the mean map by loss, paired by seed (columns loss, seed, bias)."""
    figure, axes = figures.new(4.2, 3.0)
    wide = bias.pivot(index="seed", columns="loss", values="bias")[["MSE", "L1"]]
    for _, row in wide.iterrows():
        axes.plot(range(2), row, "-", color="0.6", linewidth=1)
    for place, loss in enumerate(wide.columns):
        axes.plot(np.full(len(wide), place), wide[loss], "o", color=COLOURS[loss])
    axes.set_xticks(range(2), list(wide.columns))
    axes.set(xlabel="loss", ylabel="correlation with the mean map", xlim=(-0.4, 1.4))
    lower = int((wide["L1"] < wide["MSE"]).sum())
    axes.set_title(f"The centre bias is lower with L1 in {lower} of {len(wide)} seeds")
    difference = stats.paired_difference(wide["MSE"].to_numpy(), wide["L1"].to_numpy())
    below = f"MSE minus L1: {difference}; n = {len(wide)} seeds, a line each"
    figures.caption(figure, f"{below}\nmean over test images, data: {data_name}")
    return figure


def figure_plateau(traces: pd.DataFrame, data_name: str) -> Figure:
    """Which starts and optimisers leave the mean map: loss and spread by step, a line a run.

    ``traces`` is what ``saliency_training.traces`` gives, with columns name, step, loss, spread.
    """
    figure, (left, right) = figures.new(8.6, 3.4, 1, 2)
    names = list(traces["name"].drop_duplicates())
    gone = 0
    for name, colour in zip(names, figures.PALETTE * 2, strict=False):
        rows = traces[traces["name"] == name]
        step = left_plateau(rows)
        gone += bool(np.isfinite(step))
        label = f"{name}: step {step:.0f}" if np.isfinite(step) else f"{name}: stays"
        dashes = "-" if names.index(name) < len(figures.PALETTE) else "--"
        left.plot(rows["step"], rows["loss"].clip(upper=HIGHEST), dashes, color=colour, label=label)
        right.plot(rows["step"], 100 * rows["spread"], dashes, color=colour)
    left.axhline(1, color="0.3", linewidth=1, linestyle=":")
    left.axhline(LEFT, color="0.6", linewidth=1, linestyle=":")
    left.set(xlabel="step", ylabel="validation loss (mean map = 1)")
    right.set(xlabel="step", ylabel="spread between images (%)")
    figure.legend(loc="outside right upper", title=f"below {LEFT:g} of the mean map", fontsize=7)
    last = int(traces["step"].max())
    leave = "leaves" if gone == 1 else "leave"
    title = f"{gone} of {len(names)} starts and optimisers {leave} the mean map within {last} steps"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    note = f"losses above {HIGHEST:g} are drawn there; spread: 100 % is that of the truths"
    figures.caption(figure, f"one seed each; {note}; data: {data_name}")
    return figure


def figure_variants(table: pd.DataFrame) -> Figure:
    """Every loss and variant against MSE, from ``saliency_evaluation.variants_table``, with intervals."""
    names = list(table["predictor"].drop_duplicates())
    sets = list(table["data"].drop_duplicates())
    figure, axes = figures.new(8.6, 0.34 * len(names) + 1.3, 1, len(PRINTED_METRICS), sharey=True)
    for panel, (metric, label) in zip(axes, PRINTED_METRICS.items(), strict=True):
        _dots_by_set(panel, table[table["metric"] == metric], "difference", names, sets)
        panel.axvline(0, color="0.3", linewidth=1)
        panel.set(xlabel=f"{label} minus MSE's")
        panel.locator_params(axis="x", nbins=3)
    axes[0].invert_yaxis()
    axes[0].set_ylabel("network")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    cc = table[(table["metric"] == "cc") & (table["data"] == sets[0])]
    better = int((cc["low"] > 0).sum())
    title = f"{better} of {len(names)} variants clearly beat MSE in CC on {sets[0]}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    counts = sorted(set(table["seeds"]))
    figures.caption(figure, f"{' or '.join(map(str, counts))} seeds, paired by seed, 95 % t intervals")
    return figure


def figure_shares(shares: pd.DataFrame, centre: str, data_name: str) -> Figure:
    """Scores as shares of the way from a centre map (0 %) to other people (100 %), a panel a metric."""
    shares = shares[~shares["predictor"].isin([centre, "other people"])]
    names = list(shares["predictor"].drop_duplicates())
    kinds = list(shares["metric"].drop_duplicates())
    size = 8.6, 0.3 * len(names) + 1.3
    figure, (axes,) = figures.new(*size, 1, len(kinds), sharey=True, squeeze=False)
    for panel, metric in zip(axes, kinds, strict=True):
        rows = shares[shares["metric"] == metric]
        error = np.array([rows["share"] - rows["low"], rows["high"] - rows["share"]])
        panel.errorbar(rows["share"], range(len(rows)), xerr=error, fmt="o", ms=4, color=figures.PALETTE[0])
        panel.axvline(0, color="0.3", linewidth=1)
        panel.axvline(100, color=figures.PALETTE[2], linewidth=1)
        panel.set(xlabel=f"{METRIC_NAMES[metric]} (%)")
        panel.set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    axes[0].set_ylabel("predictor")
    best = shares[shares["metric"] == "cc"].sort_values("share").iloc[-1]
    title = (
        f"In CC, {best['predictor']} goes {best['share']:.0f} % of the way from the centre to other people"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    note = f"0 %: {centre}; 100 %: one half of the observers predicts the other half"
    figures.caption(
        figure, f"n = {rows['n'].iloc[0]} images, 95 % bootstrap intervals, data: {data_name}; {note}"
    )
    return figure


def figure_width(predictions: np.ndarray, truths: np.ndarray, data_name: str) -> Figure:
    """Entropies in bits of predictions and of truths, (N,) each, as two histograms (SC-X6)."""
    figure, axes = figures.new(5.6, 3.0)
    edges = np.linspace(min(predictions.min(), truths.min()), max(predictions.max(), truths.max()), 40)
    axes.hist(truths, edges, color=figures.PALETTE[1], alpha=0.6, label="truths")
    axes.hist(predictions, edges, color=figures.PALETTE[0], alpha=0.6, label="predictions (MSE)")
    axes.set(xlabel="entropy (bits)", ylabel="images")
    axes.legend()
    share = 100 * (predictions > truths).mean()
    axes.set_title(f"The prediction is wider than the truth on {share:.0f} % of images")
    figures.caption(figure, f"n = {len(truths)} images, mean over seeds, data: {data_name}")
    return figure


def figure_failures(per_image: pd.DataFrame, agreement: Estimate, data_name: str) -> Figure:
    """The CC of each image in one run against that in another, from a column a seed (SC-X7)."""
    first, second = per_image.columns[:2]
    figure, axes = figures.new(3.9, 3.7)
    axes.plot(per_image[first], per_image[second], ".", ms=3, alpha=0.5, color=figures.PALETTE[0])
    lowest = per_image.min().min()
    axes.plot([lowest, 1], [lowest, 1], color="0.5", linewidth=1)
    axes.set(xlabel=f"CC, seed {first}", ylabel=f"CC, seed {second}")
    axes.set_title(f"The same images fail: rank correlation {agreement.value:.2f}")
    figures.caption(figure, f"a dot an image, n = {len(per_image)}, MSE, data: {data_name}")
    return figure


def figure_smoothness(deciles: pd.DataFrame, data_name: str) -> Figure:
    """Total variation of predictions by tenth of the images, from the worst CC to the best (SC-X8)."""
    figure, axes = figures.new(5.2, 3.0)
    error = [deciles["value"] - deciles["low"], deciles["high"] - deciles["value"]]
    axes.errorbar(deciles["tenth"], deciles["value"], yerr=error, fmt="o-", ms=4, color=figures.PALETTE[0])
    axes.set(xlabel="tenth of the images, worst CC first", ylabel="total variation (peak = 1)")
    axes.set_xticks(deciles["tenth"])
    ratio = deciles["value"].iloc[0] / deciles["value"].iloc[1:].mean()
    axes.set_title(f"The worst tenth varies {ratio:.2f} times as much as the rest")
    figures.caption(figure, f"n = {deciles['n'].sum()} images, 95 % bootstrap intervals, data: {data_name}")
    return figure


def figure_contrast(table: pd.DataFrame, data_name: str) -> Figure:
    """Contrast and complexity at fixations minus at other images' fixations, dots with intervals (SC-X9)."""
    figure, axes = figures.new(5.6, 2.4)
    error = [table["difference"] - table["low"], table["high"] - table["difference"]]
    axes.errorbar(table["difference"], range(len(table)), xerr=error, fmt="o", color=figures.PALETTE[0])
    axes.axvline(0, color="0.3", linewidth=1)
    axes.set_yticks(range(len(table)), table["feature"])
    axes.invert_yaxis()
    axes.margins(y=0.25)
    axes.set(xlabel="at fixations minus elsewhere (deviations of the image)", ylabel="feature")
    higher = int((table["low"] > 0).sum())
    axes.set_title(f"{higher} of {len(table)} features are clearly higher where people look")
    figures.caption(figure, f"n = {table['n'].iloc[0]} images, 95 % bootstrap intervals, data: {data_name}")
    return figure


def figure_knees(trained: Sequence[Trained], data_name: str) -> Figure:
    """Validation loss by epoch, scaled from 1 to 0, with each run's knee; colours are losses."""
    figure, axes = figures.new(5.8, 3.2)
    for run in trained:
        losses, colour = run.validation_losses, COLOURS[run.recipe.name]
        scaled = (losses - losses.min()) / max(np.ptp(losses), 1e-12)
        axes.plot(run.validation_epochs, scaled, color=colour, linewidth=1, label=run.recipe.name)
        axes.plot(*_knee_on(run, scaled), "o", color=colour, ms=5)
    _once_each(axes)
    axes.set(xlabel="epoch", ylabel="validation loss (scaled)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    names = dict.fromkeys(run.recipe.name for run in trained)
    means = {name: learning_curves.knees([r for r in trained if r.recipe.name == name]) for name in names}
    words = ", ".join(f"{np.nanmean(k):.0f} ({name})" for name, k in means.items() if np.isfinite(k).any())
    told = f"Learning slows at epoch {words}"
    axes.set_title(told if words else "So few epochs do not tell where learning slows")
    seeds = len(trained) // len(names)
    figures.caption(figure, f"{seeds} seeds a loss, a line each, dots: knees; data: {data_name}")
    return figure


def figure_gaps(trained: Sequence[Trained], data_name: str) -> Figure:
    """How much the validation loss exceeds the training loss, by epoch; colours are losses."""
    figure, axes = figures.new(5.8, 3.2)
    for run in trained:
        frame = learning_curves.by_epoch(run)
        axes.plot(frame["epoch"], 100 * frame["gap"], color=COLOURS[run.recipe.name], label=run.recipe.name)
    _once_each(axes)
    axes.axhline(0, color="0.3", linewidth=1)
    axes.set(xlabel="epoch", ylabel="validation above training loss (%)")
    names = dict.fromkeys(run.recipe.name for run in trained)
    ends = {n: learning_curves.last_gaps([r for r in trained if r.recipe.name == n]).mean() for n in names}
    words = ", ".join(f"{round(100 * gap)} % ({name})" for name, gap in ends.items())
    axes.set_title(f"The validation loss ends above the training loss by {words}")
    seeds = len(trained) // len(names)
    figures.caption(figure, f"{seeds} seeds a loss, a line each; data: {data_name}")
    return figure


def _dots_by_set(
    panel: Axes, rows: pd.DataFrame, column: str, names: Sequence[str], sets: Sequence[str]
) -> None:
    """A line a predictor of ``names``, on it a dot with interval for each data set of ``sets``."""
    for number, (data, colour) in enumerate(zip(sets, figures.PALETTE, strict=False)):
        part = rows[rows["data"] == data]
        places = [names.index(name) + 0.12 * (2 * number - len(sets) + 1) for name in part["predictor"]]
        error = np.array([part[column] - part["low"], part["high"] - part[column]])
        error[~np.isfinite(error)] = 0
        panel.errorbar(part[column], places, xerr=error, fmt="o", ms=4, color=colour, label=data)
    panel.set_yticks(range(len(names)), names)


def _knee_on(run: Trained, scaled: np.ndarray) -> tuple[list[float], list[float]]:
    epoch = learning_curves.knee(run.validation_epochs, run.validation_losses)
    return ([epoch], [scaled[list(run.validation_epochs).index(epoch)]]) if np.isfinite(epoch) else ([], [])


def _once_each(axes: Axes) -> None:
    """A legend that names each loss once."""
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        *zip(*{label: (h, label) for h, label in zip(handles, labels, strict=True)}.values(), strict=True)
    )
