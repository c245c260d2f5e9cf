"""What all figures share: one style, one palette, captions with n, seeds and data, and pictures in rows."""

import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from skimage.color import rgb2gray
from skimage.transform import resize
from torch import Tensor

from saliencylib.inputs import check_number, finite_map, rgb_image

STYLE = Path(__file__).with_name("saliency.mplstyle")
# Okabe and Ito's colours, which colour-blind readers can tell apart, but for their pale yellow, here grey.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
PALETTE += ("#882255", "#44AA99")
# Beside the colours, for readers who see or print in grey.
DASHES = ("", (4, 1.5), (1, 1), (4, 1.5, 1, 1.5))
MARKERS = "os^Dv"
VERDICT_COLOURS = {
    "holds": "#009E73",
    "does not hold": "#D55E00",
    "undecided": "#F0E442",
    "depends": "#CC79A7",
    "not telling": "#E69F00",
    "not judged": "0.85",
    "other data": "#56B4E9",
    "check of code": "0.7",
    "shown": "0.95",
}

plt.style.use(STYLE)


def new(width: float, height: float, rows: int = 1, cols: int = 1, **options) -> tuple[Figure, Axes]:
    """A figure of ``width`` x ``height`` inches in the study's style, with axes as ``plt.subplots`` gives."""
    return plt.subplots(rows, cols, figsize=(width, height), **options)


def finish(figure: Figure, title: str, below: str) -> Figure:
    """Give a figure its title, which states the finding, and the lines below that say n, seeds and data. The
    title ends where a legend beside the axes begins."""
    width = figure.get_figwidth()
    free = width - sum(legend.get_window_extent().width / figure.dpi + 0.1 for legend in figure.legends)
    below = "\n".join(textwrap.fill(line, round(15 * width)) for line in below.split("\n"))
    title = "\n".join(textwrap.fill(line, round(11.5 * free)) for line in title.split("\n"))
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figure.supxlabel(below, x=0.01, ha="left", fontsize=7.5, color="0.35", parse_math=False)
    return figure


def picture(axes: Axes, image: np.ndarray, title: str = "", **options: object) -> None:
    """Show an image (H, W, 3) or a map (H, W) without ticks, with a small title."""
    axes.imshow(image, **options)
    axes.set_title(title, fontsize=8, loc="center")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def show(
    map: np.ndarray | Tensor,
    photograph: np.ndarray | Tensor | Image.Image,
    title: str = "",
    opacity: float = 0.5,
) -> Figure:
    """A map (H, W) over its photograph in grey, with a colour bar of the map's values.

    The photograph is in any form that ``inputs.rgb_image`` reads; a map of another size is resized to it
    (bilinear), with a warning where the shapes say that it belongs to a cut of the photograph. ``opacity``,
    in [0, 1], is the map's. Raises ValueError for a map with NaN or infinity, and for another opacity.
    """
    check_number("opacity", opacity, 0, 1)
    values, pixels = finite_map(map), rgb_image(photograph)
    height, width = pixels.shape[:2]
    if abs(values.shape[0] * width / (values.shape[1] * height) - 1) > 0.05:
        warnings.warn(
            f"a map of {values.shape[1]} x {values.shape[0]} over a photograph of {width} x {height}: that "
            "of a cut picture belongs over the cut, model.preprocess.cut(photograph)",
            stacklevel=2,
        )
    if values.shape != (height, width):
        values = resize(values, (height, width), order=1, preserve_range=True, anti_aliasing=True)
    figure, axes = new(4.6, min(8.0, 0.4 + 3.8 * height / width))
    picture(axes, rgb2gray(pixels), cmap="gray", vmin=0, vmax=1)
    picture(axes, values, title, alpha=opacity)
    figure.colorbar(axes.images[-1], ax=axes, fraction=0.046 * height / width, pad=0.03)
    return figure


def grid(
    rows: Sequence[Sequence[np.ndarray]],
    row_names: Sequence[str],
    column_names: Sequence[str],
    title: str,
    below: str,
    limits: tuple[float, float] | None = None,
    cell_names: Sequence[Sequence[str]] | None = None,
    side: float = 1.3,
) -> Figure:
    """Rows of pictures with named rows and columns, or with a name for every picture (``cell_names``).

    All maps share the colour scale ``limits``; None lets every map use its own range (then say so below).
    ``side`` is the width of a picture in inches, less where they are many: shrunk to a page, names of a wide
    figure could not be read.
    """
    low, high = limits if limits else (None, None)
    columns = max(len(row) for row in rows)
    side = min(side, 8.2 / columns)
    names = cell_names or [column_names] + [[""] * columns] * (len(rows) - 1)
    lines = sum(max(name.count("\n") for name in row) for row in names)
    shape = max(image.shape[0] / image.shape[1] for row in rows for image in row)
    height = (side * min(shape, 1.6) + 0.16) * len(rows) + 0.165 * lines + 0.7
    figure, axes = new(side * columns + 0.5, height, len(rows), columns, squeeze=False)
    figure.get_layout_engine().set(h_pad=0.07)  # else the title touches the names
    for r, row in enumerate(rows):
        for c in range(columns):
            if c < len(row):
                picture(axes[r, c], row[c], names[r][c], vmin=low, vmax=high)
            else:
                axes[r, c].set_axis_off()
        axes[r, 0].set_ylabel(row_names[r], fontsize=8)
    fitting = columns * side / 1.3
    title = textwrap.fill(title, max(30, round(15 * fitting)))
    return finish(figure, title, below)


def forest(
    table: pd.DataFrame,
    value: str,
    names: str,
    xlabel: str,
    title: str,
    below: str,
    *,
    panels: str | None = None,
    colours: str | None = None,
    zero: float | None = 0.0,
    width: float = 8.2,
) -> Figure:
    """Dots with intervals (columns ``value``, low, high), a line for each entry of the column ``names``.

    ``panels`` is a column whose values stand side by side, each on its own axes (``figure.axes``, in order);
    ``colours`` one whose values are told apart by colour and, on one line, stand a little apart. ``zero`` is
    where a vertical line says "no effect". An interval without bounds is left out.
    """
    lines = list(dict.fromkeys(table[names]))
    kinds = list(dict.fromkeys(table[colours])) if colours else [None]
    parts = list(table.groupby(panels, sort=False)) if panels else [("", table)]
    crowded = any(part[names].duplicated().any() for _, part in parts)  # several kinds on one line
    height = max(1.8, 0.26 * len(lines) * (max(1, len(kinds) / 2) if crowded else 1) + 1.2)
    height += 0.17 * max(str(panel).count("\n") for panel, _ in parts)
    figure, axes = new(width, height, 1, len(parts), sharey=True, squeeze=False)
    for axis, (panel, part) in zip(axes[0], parts, strict=True):
        for number, (kind, colour) in enumerate(zip(kinds, PALETTE * 2, strict=False)):
            rows = part if kind is None else part[part[colours] == kind]
            shift = 0.5 * (number - (len(kinds) - 1) / 2) / len(kinds) if crowded else 0
            places = [lines.index(name) + shift for name in rows[names]]
            dots(axis, rows, value, places, colour, kind, MARKERS[number % len(MARKERS)])
        if zero is not None:
            axis.axvline(zero, color="0.4", linewidth=0.8)
        axis.set_title(str(panel), fontsize=9)
        axis.set(xlabel=xlabel)
        axis.set_yticks(range(len(lines)), lines)
    axes[0, 0].set_ylabel(names)
    axes[0, 0].set_ylim(len(lines) - 0.5, -0.5)
    if colours:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=7.5)
    return finish(figure, title, below)


def dots(
    axes: Axes,
    rows: pd.DataFrame,
    value: str,
    places: Sequence[float],
    colour: str,
    label: str | None = None,
    marker: str = "o",
) -> None:
    """Values with their intervals (columns low, high) along the x axis, at ``places`` on the y axis."""
    error = np.array([rows[value] - rows["low"], rows["high"] - rows[value]], float)
    error[~np.isfinite(error)] = 0
    axes.errorbar(rows[value], places, xerr=error, fmt=marker, markersize=4, color=colour, label=label)


def lines(
    table: pd.DataFrame,
    x: str,
    y: str,
    colours: str,
    xlabel: str,
    ylabel: str,
    title: str,
    below: str,
    *,
    panels: str | None = None,
    palette: Mapping[str, str] | None = None,
    band: bool = True,
    width: float = 7.0,
) -> Figure:
    """A line for each entry of the column ``colours``, with the band between the columns low and high.

    ``panels`` is a column whose values stand side by side (``figure.axes``, in order). Rows of one line and x
    are averaged. Lines differ in colour and in dashes; after ten the colours come again, otherwise dashed.
    """
    names = list(dict.fromkeys(table[colours]))
    parts = list(table.groupby(panels, sort=False)) if panels else [("", table)]
    figure, axes = new(width, 3.4, 1, len(parts), sharey=True, squeeze=False)
    chosen = palette or dict(zip(names, PALETTE * 3, strict=False))
    for axis, (panel, part) in zip(axes[0], parts, strict=True):
        sns.lineplot(
            part,
            x=x,
            y=y,
            hue=colours,
            hue_order=names,
            style=colours,
            style_order=names,
            dashes={name: DASHES[(i + i // len(PALETTE)) % len(DASHES)] for i, name in enumerate(names)},
            palette={name: chosen[name] for name in names},
            errorbar=None,
            ax=axis,
        )
        for name, rows in part.groupby(colours, sort=False) if band else ():
            if np.isfinite(rows[["low", "high"]].to_numpy(float)).all():
                axis.fill_between(rows[x], rows["low"], rows["high"], color=chosen[name], alpha=0.12, lw=0)
        axis.set_title(str(panel), fontsize=9)
        axis.set(xlabel=xlabel, ylabel=ylabel)
        axis.label_outer()
        axis.get_legend().remove()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=7.5)
    return finish(figure, title, below)


def paired(
    wide: pd.DataFrame, xlabel: str, ylabel: str, title: str, below: str, colours: Sequence[str] = PALETTE
) -> Figure:
    """A dot for every entry of a table, a column side by side with the next, and a grey line a row."""
    figure, axes = new(4.2, 3.0)
    places = np.arange(wide.shape[1])
    axes.plot(places, wide.to_numpy().T, "-", color="0.6", linewidth=1)
    for place, name, colour in zip(places, wide, colours, strict=False):
        axes.plot(np.full(len(wide), place), wide[name], "o", color=colour)
    axes.set_xticks(places, list(wide.columns))
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.4, places[-1] + 0.4))
    return finish(figure, title, below)


def verdict_bars(summary: pd.DataFrame, run_name: str) -> Figure:
    """Stacked bars of ``claims.verdict_counts``, a bar a paper; verdicts on embedded data are hatched. Checks
    of code and what is only shown are left out."""
    summary = summary.drop(columns=["check of code", "shown"], errors="ignore")
    figure, axes = new(7.0, 2.8)
    left = np.zeros(len(summary))
    for verdict, colour in VERDICT_COLOURS.items():
        for column, hatch in ((verdict, None), (f"{verdict} (embedded)", "////")):
            if column in summary:
                counts = summary[column].to_numpy()
                style = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
                bars = axes.barh(summary["paper"], counts, left=left, label=column, **style)
                axes.bar_label(bars, [f"{count}" if count else "" for count in counts], label_type="center")
                left += counts
    counted = {name: int(summary[name].sum()) for name in ("holds", "does not hold") if name in summary}
    open_ones = int(left.sum()) - sum(counted.values())
    axes.set(xlabel="claims", ylabel="paper")
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    note = "hatched: embedded data, which only show that the machinery works"
    title = f"{counted.get('holds', 0)} claims hold and {counted.get('does not hold', 0)} do not; "
    title += f"{open_ones} others are open, or not for these data to decide"
    below = (
        f"n = {int(left.sum())} claims (checks of code and what is only shown left out), run: {run_name}; "
    )
    below += note
    return finish(figure, title, below)


def greyed(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 with everything outside the mask (H, W) bool pale."""
    return np.where(mask[..., None], pixels, (0.25 * pixels + 150).astype(np.uint8))


def encoded(figure: Figure, photographs: bool) -> tuple[bytes, str]:
    """The figure as bytes and their format: JPEG of quality 80 for photographs, else PNG of 256 colours, a
    third of the size of full colour; then close it."""
    buffer = io.BytesIO()
    if photographs:
        figure.savefig(
            buffer, format="jpeg", pil_kwargs={"quality": 80, "optimize": True, "progressive": True}
        )
        plt.close(figure)
        return buffer.getvalue(), "jpeg"
    full = io.BytesIO()
    figure.savefig(full, format="png", metadata={"Software": None})
    plt.close(figure)
    drawn = Image.open(full)
    few = drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(buffer, format="png", optimize=True, dpi=drawn.info["dpi"])
    return buffer.getvalue(), "png"
