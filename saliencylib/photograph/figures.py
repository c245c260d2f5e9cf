"""Figures of notebook 05: one photograph through all three papers."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from saliencylib.figures import PALETTE, finish, greyed, grid, new, picture
from saliencylib.licnn.classifiers import Preprocess

FIGURE_WIDTH = 9.0
FULL_NAMES = {
    "RC": "region contrast",
    "HC": "histogram contrast",
    "FT": "frequency-tuned",
    "LC": "luminance contrast",
    "SR": "spectral residual",
    "Alpha": "alpha matte",
}


def whole_and_crop(photo: Image.Image, preprocess: Preprocess, below: str) -> Figure:
    """The photograph with the classifier's crop outlined, and the crop."""
    figure, axes = new(7.0, 3.6, 1, 2)
    picture(axes[0], np.asarray(photo), "the photograph")
    side = min(photo.size) * preprocess.crop / preprocess.side
    corner = (photo.width - side) / 2, (photo.height - side) / 2
    axes[0].add_patch(Rectangle(corner, side, side, fill=False, edgecolor=PALETTE[4], linewidth=2))
    picture(axes[1], np.asarray(preprocess.cut(photo)), "what the classifier sees")
    seen = side * side / (photo.width * photo.height)
    return finish(figure, f"The classifier sees {seen:.0%} of the photograph", below)


def bottom_up(pixels: np.ndarray, maps: Mapping[str, np.ndarray], below: str) -> Figure:
    """A photograph (H, W, 3) and its bottom-up maps (H, W) in [0, 1], in two rows of four."""
    figure, axes = _panels(2, 4, pixels.shape)
    picture(axes[0], pixels, "photograph")
    for panel, (name, values) in zip(axes[1:], maps.items(), strict=False):
        picture(panel, values, f"{name}: {FULL_NAMES[name]}", vmin=0, vmax=1)
    for panel in axes[1 + len(maps) :]:
        panel.set_axis_off()
    bright = {name: values.mean() for name, values in maps.items()}
    most, least = max(bright, key=bright.get), min(bright, key=bright.get)
    title = f"{most} calls the most of this picture salient ({bright[most]:.0%} on average), "
    title += f"{least} the least ({bright[least]:.0%})"
    if not bright[most]:
        title = "Nothing stands out in this picture: all maps are zero"
    return finish(figure, title, below)


def predicted(pixels: np.ndarray, prediction: np.ndarray, centre: float, below: str) -> Figure:
    """A photograph, where the shallow network predicts that people look (48, 48), and both together.

    ``centre`` is the prediction's correlation with a Gaussian at the centre.
    """
    figure, axes = _panels(1, 3, pixels.shape)
    small = Image.fromarray(prediction.astype(np.float32))
    shown = np.asarray(small.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC))
    shown = shown / max(shown.max(), 1e-12)
    picture(axes[0], pixels, "photograph")
    picture(axes[1], shown, "prediction", vmin=0, vmax=1)
    picture(axes[2], np.uint8(pixels * (0.25 + 0.75 * shown.clip(0, 1)[..., None])), "lit by the prediction")
    word = "mostly" if centre > 0.8 else "partly" if centre > 0.4 else "hardly"
    title = f"Where people would look: {word} the centre (correlation {centre:.2f} with a centre Gaussian)"
    return finish(figure, title, below)


def attention(
    crop: Image.Image, maps: np.ndarray, summed: np.ndarray, names: Sequence[str], likeness: float, below: str
) -> Figure:
    """A crop, the sum of its attention maps (H, W), and these maps (5, H, W) of the likeliest classes."""
    wanted = ["crop", "sum: saliency", *(textwrap.fill(name, 18) for name in names), ""]
    pictures = [np.asarray(crop), summed, *maps]
    title = f"The maps of the five likeliest classes have a correlation of {likeness:.2f} on average"
    cells = [wanted[:4], wanted[4:]]
    return grid([pictures[:4], pictures[4:]], ["", ""], [], title, below, cell_names=cells, side=1.7)


def blurs(crops: Mapping[str, Image.Image], region: np.ndarray, effects: pd.DataFrame, below: str) -> Figure:
    """The object's region, and the crop as it is and blurred, each with its likeliest class."""
    rows = effects[effects["region"].isin(["", "LICNN"])].set_index("picture")
    first, probability = rows["first"], rows["probability"]
    names = [
        f"{name}\n{textwrap.shorten(first[name], 22, placeholder='…')} {probability[name]:.0%}"
        for name in crops
    ]
    pictures = [greyed(np.asarray(crops["as it is"]), region), *map(np.asarray, crops.values())]
    changed = [name for name in crops if first[name] != first["as it is"]]
    title = "No blur changes the likeliest class"
    if changed:
        title = f"The likeliest class changes with the {' and with the '.join(changed)}"
    return grid([pictures], [""], ["the object, by LICNN", *names], title, below, side=1.7)


def blur_controls(effects: pd.DataFrame, share: float, below: str) -> Figure:
    """The probability of the class that was likeliest without blur, for the regions of LICNN and of maps that
    ask no classifier."""
    rows = effects[effects["region"] != ""]
    figure, axes = new(7.0, 2.9)
    sns.scatterplot(rows, x="before", y="region", hue="picture", style="picture", s=45, ax=axes)
    axes.margins(y=0.12)
    axes.axvline(float(effects["before"].iloc[0]), color="0.4", linestyle="--", label="without blur")
    label = "probability of the class that was likeliest without blur"
    axes.set(xlabel=label, ylabel="whose region", xlim=(-0.03, 1.03))
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.28))
    kept = rows[rows["picture"] == "background blurred"].set_index("region")["before"]
    title = f"With {share:.0%} of the picture sharp, the class has a probability of {kept['LICNN']:.0%} "
    title += f"by LICNN's region, of {kept.max():.0%} by the best one ({kept.idxmax()})"
    if np.ptp(rows["before"]) < 0.01:
        title = "It makes no difference whose region is kept sharp"
    return finish(figure, title, below)


def three_papers(
    crop: Image.Image, maps: Mapping[str, np.ndarray], table: pd.DataFrame, below: str
) -> Figure:
    """The crop beside one map (H, W) a paper: region contrast, the shallow network's, LICNN's.

    ``table`` holds the rank correlations of all ``maps`` with one another.
    """
    chosen = {
        "RC": "1 Sal-Mask:\nwhat stands out",
        "shallow CNN": "2 Shallow CNN:\nwhere people look",
        "LICNN": "3 LICNN: what a\nclassifier looks at",
    }
    among = table.loc[list(chosen), list(chosen)].round(2).to_numpy()[np.triu_indices(3, 1)] + 0.0
    title = "Three papers, three meanings of salient: "
    title += f"rank correlations {among.min():.2f} to {among.max():.2f}"
    pictures, names = (
        [np.asarray(crop), *(maps[name] for name in chosen)],
        ["a photograph\n", *chosen.values()],
    )
    return grid([pictures], [""], names, title, below, side=2.1)


def agreement(table: pd.DataFrame, below: str) -> Figure:
    """Rank correlations of all maps with one another (n, n), as a heat map."""
    figure, axes = new(6.2, 5.0)
    options = {"vmin": -1, "vmax": 1, "cmap": "RdBu_r", "cbar_kws": {"label": "rank correlation"}}
    shown = table.round(1) + 0.0  # no minus zero
    sns.heatmap(table, ax=axes, annot=shown, fmt=".1f", annot_kws={"fontsize": 7}, **options)
    axes.set(xlabel="map", ylabel="map")
    pairs = table.where(np.triu(np.ones(table.shape, bool), 1)).stack()
    a, b = pairs.idxmax()
    return finish(figure, f"Most alike: {a} and {b} ({pairs.max():.2f})", below)


def _panels(rows: int, cols: int, shape: tuple[int, ...]) -> tuple[Figure, list[Axes]]:
    """Axes for pictures of one shape (H, W, ...), whose figure is as high as they need."""
    height = FIGURE_WIDTH / cols * np.clip(shape[0] / shape[1], 0.3, 1.6)
    figure, axes = new(FIGURE_WIDTH, rows * (height + 0.3) + 0.6, rows, cols, squeeze=False)
    return figure, list(axes.flat)
