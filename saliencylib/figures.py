"""What all figures share: one style, one palette, captions with n, seeds and data, and pictures in rows."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

STYLE = Path(__file__).with_name("saliency.mplstyle")
# Okabe and Ito's colours, which colour-blind readers can tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
VERDICT_COLOURS = {
    "holds": "#009E73",
    "undecided": "#F0E442",
    "does not hold": "#D55E00",
    "other data": "#56B4E9",
    "not measured": "0.85",
}

plt.style.use(STYLE)


def new(width: float, height: float, rows: int = 1, cols: int = 1, **options) -> tuple[Figure, Axes]:
    """A figure of ``width`` x ``height`` inches in the study's style, with axes as ``plt.subplots`` gives."""
    return plt.subplots(rows, cols, figsize=(width, height), **options)


def caption(figure: Figure, text: str) -> None:
    """Write the line below a figure that says n, seeds and data."""
    figure.supxlabel(text, x=0.01, ha="left", fontsize=7.5, color="0.35")


def picture(axes: Axes, image: np.ndarray, title: str = "", **options: object) -> None:
    """Show an image (H, W, 3) or a map (H, W) without ticks, with a small title."""
    axes.imshow(image, **options)
    axes.set_title(title, fontsize=8, loc="center")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def picture_grid(
    rows: Sequence[Sequence[np.ndarray]],
    row_names: Sequence[str],
    column_names: Sequence[str],
    title: str,
    below: str,
    limits: tuple[float, float] | None = None,
    cell_names: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """Rows of pictures with named rows and columns, or with a name for every picture (``cell_names``).

    All maps share the colour scale ``limits``; None lets every map use its own range (then say so below).
    """
    low, high = limits if limits else (None, None)
    columns = max(len(row) for row in rows)
    names = cell_names or [column_names] + [[""] * columns] * (len(rows) - 1)
    lines = sum(max(name.count("\n") for name in row) for row in names)
    height = 1.35 * len(rows) + 0.14 * lines + 0.6
    figure, axes = new(1.3 * columns + 0.5, height, len(rows), columns, squeeze=False)
    for r, row in enumerate(rows):
        for c in range(columns):
            if c < len(row):
                picture(axes[r, c], row[c], names[r][c], vmin=low, vmax=high)
            else:
                axes[r, c].set_axis_off()
        axes[r, 0].set_ylabel(row_names[r], fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    caption(figure, below)
    return figure


def verdict_bars(summary: pd.DataFrame, run_name: str) -> Figure:
    """Counts of verdicts as stacked bars, a bar a paper, from ``claims.summary``; embedded ones hatched."""
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
    holding = int(summary.get("holds", pd.Series(0)).sum())
    axes.set(xlabel="claims", ylabel="paper")
    axes.set_title(f"{holding} of {int(left.sum())} claims hold in this run")
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    note = "hatched: embedded data, which only show that the machinery works"
    caption(figure, f"n = {int(left.sum())} claims, run: {run_name}; {note}")
    return figure


def wrapped(text: str, columns: int) -> str:
    """A caption in lines that fit below a grid of so many pictures."""
    return "\n".join(textwrap.fill(line, 21 * columns) for line in text.split("\n"))


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
