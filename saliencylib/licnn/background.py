"""What a classifier loses with the background (LI-X6): all outside an object's box blurred, greyed, replaced.

No saliency map takes part: the official boxes say where the object is. What replaces the background is
another photograph whose own objects are hidden, either because the pasted box covers them or because they
were filled with a piece of their surroundings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image
from torch import nn

from saliencylib import stats
from saliencylib.inputs import as_mask
from saliencylib.licnn.blur import RADII, blurred, right_within, top_classes
from saliencylib.licnn.crops import PhotoCrops
from saliencylib.study.keep import kept, side_by_side

HIDDEN = 0.95  # of a donor's own boxes that a pasted box must hide
MOST_BOXED = 0.6  # of a donor whose boxes are filled: more leaves too little to fill them with
DONORS = ("same class", "another class")
CHANGES = (
    "unmodified",
    *(f"background blurred, radius {radius}" for radius in RADII),
    "background grey",
    *(f"background of {kind}" for kind in DONORS),
    *(f"object blurred, radius {radius}" for radius in RADII),
    "object grey",
)


@dataclass(frozen=True)
class Donor:
    """The photograph that gives its background: its position, and whether its own boxes are filled."""

    position: int
    filled: bool


# ------------------------------------------------------------------------------------------- pictures


def pasted(picture: Image.Image, mask: np.ndarray, ground: Image.Image) -> Image.Image:
    """What the mask, bool (H, W), marks of the RGB picture, at its place on another picture of its size.

    Raises ValueError for other sizes.
    """
    mask = as_mask(mask)
    if not picture.size == ground.size == mask.shape[::-1]:
        raise ValueError(f"a picture {picture.size}, a ground {ground.size} and a mask {mask.shape[::-1]}")
    return Image.composite(picture, ground, Image.fromarray(mask.astype(np.uint8) * 255))


def largest_free_rectangle(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The largest rectangle of a mask, bool (H, W), that holds no True: top, left, bottom, right (exclusive).

    The first in reading order of its lower end among equals. Raises ValueError when all is True.
    """
    height, width = mask.shape
    above, best, found = np.zeros(width, int), 0, None
    for row in range(height):
        above = np.where(mask[row], 0, above + 1)
        for tall in np.unique(above[above > 0]):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], above >= tall, [0]])))
            spans = edges.reshape(-1, 2)
            longest = spans[np.argmax(spans[:, 1] - spans[:, 0])]
            size = int(tall * (longest[1] - longest[0]))
            if size > best:
                best, found = size, (row + 1 - int(tall), int(longest[0]), row + 1, int(longest[1]))
    if found is None:
        raise ValueError("the mask leaves no free place")
    return found


def filled(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    """The RGB picture with what its mask marks, bool (H, W), covered by tiles of its largest free rectangle.

    Every other tile is mirrored, so that tiles meet without an edge. Raises ValueError when all is marked.
    """
    top, left, bottom, right = largest_free_rectangle(mask)
    tile = np.asarray(picture)[top:bottom, left:right]
    height, width = mask.shape
    places = (_mirrored(height, bottom - top)[:, None], _mirrored(width, right - left)[None])
    return pasted(Image.fromarray(tile[places]), mask, picture)


def _mirrored(length: int, side: int) -> np.ndarray:
    """Places 0 to ``side`` - 1, there and back again, ``length`` of them."""
    place = np.arange(length) % (2 * side)
    return np.minimum(place, 2 * side - 1 - place)


# ------------------------------------------------------------------------------------------- donors


def donors(masks: np.ndarray, labels: Sequence[int], seed: int = 0) -> dict[str, list[Donor | None]]:
    """For every photograph one of the same and one of another class to lend it a background.

    ``masks`` (N, H, W) bool are the boxes on the crops. Drawn among the photographs whose own boxes the
    pasted one covers by 95 %; where there are none, among those that are boxed by at most 60 %, to be
    filled; None where there are none of these either. Photographs without a box, or with boxes that leave
    nothing outside, neither get nor are donors.
    """
    flat, labels = masks.reshape(len(masks), -1), np.asarray(labels)
    area = flat.mean(1)
    usable = (area > 0) & (area < 1)
    hidden = flat.astype(np.float32) @ flat.astype(np.float32).T / np.maximum(flat.sum(1), 1)
    rng = np.random.default_rng(seed)
    found: dict[str, list[Donor | None]] = {kind: [] for kind in DONORS}
    for i in range(len(masks)):
        for kind in DONORS:
            of_kind = usable & ((labels == labels[i]) == (kind == "same class")) & bool(usable[i])
            of_kind[i] = False
            covered = np.flatnonzero(of_kind & (hidden[i] >= HIDDEN))
            pool = covered if len(covered) else np.flatnonzero(of_kind & (area <= MOST_BOXED))
            found[kind].append(Donor(int(rng.choice(pool)), not len(covered)) if len(pool) else None)
    return found


def grounds_of(
    crops: Sequence[Image.Image], masks: np.ndarray, lenders: Sequence[Donor | None]
) -> list[Image.Image | None]:
    """The pictures that the donors lend, their own boxes filled where the donor says so."""
    return [
        None if d is None else filled(crops[d.position], masks[d.position]) if d.filled else crops[d.position]
        for d in lenders
    ]


# ------------------------------------------------------------------------------------------- the experiment


def changed_pictures(
    picture: Image.Image,
    mask: np.ndarray,
    grounds: Mapping[str, Image.Image | None],
    grey: tuple[int, int, int],
) -> dict[str, Image.Image]:
    """The picture in every one of ``CHANGES`` that it has a ground for.

    ``mask`` marks its objects, bool (H, W); ``grounds`` holds a picture or None by ``DONORS``; ``grey`` is
    the colour (0..255) that the classifier takes for zero. "background blurred" pastes the object on its own
    blurred background, with the same seam that a foreign ground has.
    """
    even = Image.new("RGB", picture.size, grey)
    found = {"unmodified": picture}
    for name, side, sharp in (("background", "background", mask), ("object", "object", ~mask)):
        for radius in RADII:
            found[f"{name} blurred, radius {radius}"] = blurred(picture, mask, radius, side)
        found[f"{name} grey"] = pasted(picture, sharp, even)
    for kind, ground in grounds.items():
        if ground is not None:
            found[f"background of {kind}"] = pasted(picture, mask, ground)
    return {name: found[name] for name in CHANGES if name in found}


def background_outcomes(model: nn.Module, seen: PhotoCrops, chunk: int = 16) -> pd.DataFrame:
    """Top-1 and top-5 correctness of photographs in every one of ``CHANGES``: a row a photograph and change.

    Donors are of the same class by the labels. Photographs without a usable box have no rows. Columns: name,
    label, change, area (of the boxes), donor ("" or "covered" or "filled"), top1, top5 (bool), and donor5:
    whether the donor's class is among the first five (bool; False without a donor of another class). Chunks
    are kept as they are finished.
    """
    seen = seen.boxed()
    lenders = donors(seen.boxes, seen.labels)
    grounds = {kind: grounds_of(seen.crops, seen.boxes, lenders[kind]) for kind in DONORS}
    jobs = []
    for number, part in enumerate(seen.parts(chunk)):
        lent = {kind: all_lent[number * chunk :][: len(part)] for kind, all_lent in grounds.items()}
        jobs.append((model, part.crops, part.boxes, lent))
    tops = np.concatenate(side_by_side(_tops_of_chunk, jobs, next(model.parameters()).device))
    frames = []
    for number, change in enumerate(CHANGES):
        kind = change.removeprefix("background of ")
        lent = lenders[kind] if kind in DONORS else [None] * len(seen)
        own = [lender is not None and kind == "another class" for lender in lent]
        foreign = [(int(seen.labels[d.position]),) if keep else () for d, keep in zip(lent, own, strict=True)]
        columns = {"name": seen.names, "label": seen.labels, "change": change}
        columns |= {"area": seen.boxes.mean((1, 2)), "donor": [_donor_word(lender) for lender in lent]}
        columns |= {f"top{k}": right_within(tops[:, number], seen.accepted, k) for k in (1, 5)}
        columns |= {"donor5": right_within(tops[:, number], foreign, 5)}
        frames.append(pd.DataFrame(columns)[tops[:, number, 0] >= 0])
    return pd.concat(frames, ignore_index=True)


def _donor_word(donor: Donor | None) -> str:
    return "" if donor is None else "filled" if donor.filled else "covered"


@kept("background")
def _tops_of_chunk(
    model: nn.Module,
    crops: Sequence[Image.Image],
    masks: np.ndarray,
    grounds: Mapping[str, Sequence[Image.Image | None]],
) -> np.ndarray:
    """The five likeliest classes (n, changes, 5) of a few photographs, -1 for changes that they lack."""
    grey = tuple(round(255 * level) for level in model.preprocess.mean)
    top = np.full((len(crops), len(CHANGES), 5), -1)
    for i, crop in enumerate(crops):
        pictures = changed_pictures(crop, masks[i], {k: lent[i] for k, lent in grounds.items()}, grey)
        places = [CHANGES.index(name) for name in pictures]
        top[i, places] = top_classes(model, list(pictures.values()))
    return top


# ------------------------------------------------------------------------------------------- tables


def accuracy_lost(outcomes: pd.DataFrame, change: str, column: str = "top5") -> stats.Estimate:
    """Accuracy of the unmodified photographs minus that with a change, in points, of the photographs that
    have it, with the interval over classes."""
    table = outcomes.pivot(index=["name", "label"], columns="change", values=column)
    both = table[["unmodified", change]].dropna().astype(float)
    lost = 100 * (both["unmodified"] - both[change])
    return stats.grouped_interval(lost.to_numpy(), lost.index.get_level_values("label"))


def background_changes(outcomes: pd.DataFrame, column: str = "top5") -> pd.DataFrame:
    """Accuracy of every change and what it loses against the unmodified photographs, a row a change.

    Columns change, n (photographs), accuracy and before (both in %, of the same photographs), points
    (accuracy minus before) with low and high; then the same as a mean over classes (points by class, low by
    class, high by class, classes). Both intervals are bootstrapped over classes, since a set may hold many
    photographs of a few.
    """
    before = outcomes[outcomes["change"] == "unmodified"].set_index("name")
    rows = []
    for change in [name for name in CHANGES[1:] if name in set(outcomes["change"])]:
        after = outcomes[outcomes["change"] == change].set_index("name")[column].astype(float)
        same = before.loc[after.index]
        points = 100 * (after - same[column])
        found = stats.grouped_interval(points, same["label"])
        classes = stats.bootstrap_interval(points.groupby(same["label"]).mean(), "classes")
        row = {"change": change, "n": found.n, "accuracy": 100 * after.mean()}
        row |= {"before": 100 * same[column].mean()} | found.row("points", "n")
        by_class = classes.row("points", "classes")
        row |= {f"{name} by class": by_class[name] for name in ("points", "low", "high")}
        rows.append(row | {"classes": classes.n})
    return pd.DataFrame(rows).drop(columns=["p", "smallest visible"])


def background_changes_by_area(
    outcomes: pd.DataFrame, column: str = "top5", edges: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
) -> pd.DataFrame:
    """``background_changes`` apart for photographs whose boxes take a share of the picture between two
    ``edges``: the columns from and to, then its own. Ranges without photographs are left out."""
    frames = []
    for low, high in zip(edges, edges[1:], strict=False):
        part = outcomes[(outcomes["area"] > low) & (outcomes["area"] <= high)]
        if len(part):
            frames.append(background_changes(part, column).assign(**{"from": low, "to": high}))
    table = pd.concat(frames, ignore_index=True)
    return table[["from", "to", *table.columns.drop(["from", "to"])]]
