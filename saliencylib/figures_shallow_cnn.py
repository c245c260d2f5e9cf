"""The figures of paper 2 (the shallow saliency network)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from saliencylib import figures, metrics
from saliencylib.gaze import GazeSet
from saliencylib.saliency_evaluation import LOSS_NAMES, PRINTED_METRICS
from saliencylib.saliency_training import Trained

LOSS_COLOURS = {"mse": figures.PALETTE[0], "l1": figures.PALETTE[1]}


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
    loss = trained[0].recipe.loss
    figure, (left, right) = figures.new(7.4, 3.0, 1, 2)
    for run in trained:
        window = max(5, len(run.train_losses) // 20)
        left.plot(run.train_steps, run.train_losses, color="0.75", linewidth=0.6)
        left.plot(run.train_steps, smoothed(run.train_losses, window), color=LOSS_COLOURS[loss])
        right.plot(run.validation_epochs, run.validation_losses, color=LOSS_COLOURS[loss])
    left.lines[0].set_label("raw")
    left.lines[1].set_label(f"smoothed ({window} values)")
    right.axhline(mean_map_loss, color="0.3", linewidth=1, linestyle="--", label="mean map")
    left.set(xlabel="step", ylabel=f"training loss ({LOSS_NAMES[loss]})")
    right.set(xlabel="epoch", ylabel=f"validation loss ({LOSS_NAMES[loss]})")
    left.legend()
    right.legend()
    below = 100 * (1 - np.mean([run.validation_losses[-1] for run in trained]) / mean_map_loss)
    word = "below" if below >= 0 else "above"
    title = f"{LOSS_NAMES[loss]}: the validation loss ends {abs(below):.0f} % {word} the mean map's"
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
        f"{len(filters)} filters, {LOSS_NAMES[recipe.loss]}, seed {recipe.seed}, each on its own range",
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
    first = cc["mse"]
    columns = [f"{name}\nCC {value:.2f}" for name, value in zip(names, first, strict=True)]
    every = np.mean([metrics.cc(a, b) for a, b in zip(maps["mse"], shown.targets, strict=True)])
    return figures.picture_grid(
        [list(shown.images[order]), list(shown.targets[order])]
        + [list(predicted[order]) for predicted in maps.values()],
        ["image", "truth", *(LOSS_NAMES[loss] for loss in maps)],
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
        for s, (data, colour) in enumerate(zip(sets, figures.PALETTE, strict=False)):
            rows = summaries[(summaries["data"] == data) & (summaries["metric"] == metric)]
            places = [names.index(name) + 0.12 * (2 * s - len(sets) + 1) for name in rows["predictor"]]
            error = np.array([rows["value"] - rows["low"], rows["high"] - rows["value"]])
            error[~np.isfinite(error)] = 0
            panel.errorbar(rows["value"], places, xerr=error, fmt="o", markersize=4, color=colour, label=data)
        panel.set(xlabel=label)
        panel.set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    axes[0].set_ylabel("predictor")
    axes[0].legend(fontsize=7, loc="best")
    cc = summaries[summaries["metric"] == "cc"].pivot(index="data", columns="predictor", values="value")
    above = int((cc["MSE"] > cc["mean map"]).sum())
    title = f"Trained with MSE, the network is above the mean map in CC on {above} of {len(cc)} test sets"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figures.caption(figure, "95 % intervals: over seeds for the networks, over images for the others")
    return figure


def figure_centre_bias(bias: pd.DataFrame, data_name: str) -> Figure:
    """Correlation of predictions with the mean map by loss, paired by seed (columns loss, seed, bias)."""
    figure, axes = figures.new(4.2, 3.0)
    wide = bias.pivot(index="seed", columns="loss", values="bias")[["mse", "l1"]]
    for _, row in wide.iterrows():
        axes.plot(range(2), row, "-", color="0.6", linewidth=1)
    for place, loss in enumerate(wide.columns):
        axes.plot(np.full(len(wide), place), wide[loss], "o", color=LOSS_COLOURS[loss])
    axes.set_xticks(range(2), [LOSS_NAMES[loss] for loss in wide.columns])
    axes.set(xlabel="loss", ylabel="correlation with the mean map", xlim=(-0.4, 1.4))
    lower = int((wide["l1"] < wide["mse"]).sum())
    axes.set_title(f"The centre bias is lower with L1 in {lower} of {len(wide)} seeds")
    figures.caption(figure, f"a line a seed, mean over test images, data: {data_name}")
    return figure


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean; near the ends over the values that there are."""
    sums = np.convolve(values, np.ones(window), mode="same")
    return sums / np.convolve(np.ones(len(values)), np.ones(window), mode="same")
