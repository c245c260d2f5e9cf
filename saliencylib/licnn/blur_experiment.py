"""What notebook 03 asks of the blur experiment: which photographs, and what the differences say."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from saliencylib.licnn.method import blur
from saliencylib import stats
from saliencylib.licnn.blur import BASELINES, UNMODIFIED, Variant
from saliencylib.data import PhotoSet
from saliencylib.licnn.method import LICNN
from saliencylib.licnn.results import crops_and_inputs

AREAS = (0.1, 0.2, 0.35, 0.5, 0.7)  # of the curve: accuracy against the share of the picture left sharp
AREA = 0.35  # where claims cannot be judged by the printed rule


def blurred_sets(
    explainer: LICNN,
    sets: Mapping[str, PhotoSet],
    natural: Mapping[str, np.ndarray],
    adversarial: Mapping[str, np.ndarray],
    plan: Sequence[Variant],
    cache_dir: Path | None = None,
) -> pd.DataFrame:
    """``blur.experiment`` on the photographs of all sets that are natural or adversarial or both, each once.

    ``natural`` and ``adversarial`` hold positions by the name of the set. ``photograph`` is the position in
    its set; more columns: set (name), natural and adversarial (bool).
    """
    frames = []
    for name, photos in sets.items():
        members = {"natural": natural.get(name, []), "adversarial": adversarial.get(name, [])}
        used = np.union1d(*members.values()).astype(int)
        if len(used):
            found = blur.experiment(explainer, photos.select(used), plan, cache_dir)
            place = used[found["photograph"]]
            marks = {kind: np.isin(place, positions) for kind, positions in members.items()}
            frames.append(found.assign(photograph=place, set=name, **marks))
    return pd.concat(frames, ignore_index=True)


def share_kept(results: pd.DataFrame, variant: Variant, seed: int = 0) -> stats.Estimate:
    """Top-5 accuracy of a variant as a share of the unmodified accuracy, with the bootstrap interval over
    photographs (both accuracies drawn together). Raises ValueError when no unmodified one is right."""
    before, after = blur.paired_outcomes(results, "top5", UNMODIFIED, variant)
    if not before.any():
        raise ValueError("no unmodified photograph is right")
    drawn = np.random.default_rng(seed).integers(len(before), size=(4000, len(before)))
    right = before[drawn].sum(1)
    ratios = (after[drawn].sum(1) / np.maximum(right, 1))[right > 0]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return stats.Estimate(after.sum() / before.sum(), float(low), float(high), len(before), unit="images")


def change(results: pd.DataFrame, column: str, before: Variant, after: Variant) -> stats.Estimate:
    """Change of accuracy in points between two variants, by McNemar's test, of photographs that have both."""
    return stats.mcnemar(*blur.paired_outcomes(results, column, before, after))


def changes(
    results: pd.DataFrame, compared: Mapping[str, tuple[Variant, Variant]], column: str = "top5"
) -> pd.DataFrame:
    """``change`` of named pairs of variants (before, after): a row a pair, with the area that each leaves
    sharp or covers (%), the change in points with its interval (low, high), the smallest change that so many
    photographs could show, and n."""
    rows = []
    for name, (before, after) in compared.items():
        found = change(results, column, before, after)
        areas = [100 * blur.outcomes(results, "area", variant).mean() for variant in (before, after)]
        rows.append((name, *areas, found.value, found.low, found.high, found.detectable, found.n))
    columns = [
        "comparison",
        "area before, %",
        "area after, %",
        "points",
        "low",
        "high",
        "smallest visible",
        "n",
    ]
    return pd.DataFrame(rows, columns=columns)


def blur_changes(results: pd.DataFrame, plan: Sequence[Variant]) -> pd.DataFrame:
    """What the variants of LICNN's own regions do to top-5 and top-1 accuracy: the columns of ``changes``
    behind accuracy ("top5" or "top1")."""
    pairs = {
        f"{blur.rule_name(v.rule)}, {v.where}, radius {v.radius}": (UNMODIFIED, v)
        for v in plan
        if v.source == "LICNN"
    }
    pairs = _measured(results, pairs)
    parts = [changes(results, pairs, column).assign(accuracy=column) for column in ("top5", "top1")]
    table = pd.concat(parts, ignore_index=True)
    return table[["accuracy", *table.columns.drop("accuracy")]]


def _measured(
    results: pd.DataFrame, pairs: Mapping[str, tuple[Variant, Variant]]
) -> dict[str, tuple[Variant, Variant]]:
    """The pairs of variants that have rows: photographs without boxes have none for theirs."""
    present = set(zip(results["source"], results["rule"], strict=True))
    return {
        name: pair
        for name, pair in pairs.items()
        if all((variant.source, blur.rule_name(variant.rule)) in present for variant in pair)
    }


def control_changes(results: pd.DataFrame, area: float = AREA) -> pd.DataFrame:
    """How much more blurring costs outside (and inside) LICNN's region than outside (inside) regions of the
    same area that come from elsewhere: negative is worse for LICNN's side."""
    last, pairs = max(blur.RADII), {}
    for where in blur.SIDES:
        own = Variant("LICNN", area, where, last)
        for kind in BASELINES:
            pairs[f"{where}: LICNN minus {kind}"] = (Variant(kind, area, where, last), own)
    own = Variant("LICNN", "boxes", "background", last)
    for kind in (*BASELINES, "boxes"):
        pairs[f"background: LICNN minus {kind}, area of the boxes"] = (Variant(kind, *own[1:]), own)
    own = Variant("LICNN", "boxes", "object", last)
    pairs["object: LICNN minus boxes, area of the boxes"] = (Variant("boxes", *own[1:]), own)
    return changes(results, _measured(results, pairs))


def curve(results: pd.DataFrame, areas: Sequence[float] = AREAS, column: str = "top5") -> pd.DataFrame:
    """Accuracy (%) against the share of the picture left sharp, background blurred at the largest radius.

    Rows source, area (%), accuracy, low, high (95 % intervals over photographs).
    """
    rows, last = [], max(blur.RADII)
    for source in ("LICNN", *BASELINES):
        for area in areas:
            right = blur.outcomes(results, column, Variant(source, area, "background", last))
            found = stats.mean_interval(100.0 * right.to_numpy(), "images", (0, 100))
            rows.append((source, 100 * area, found.value, found.low, found.high))
    return pd.DataFrame(rows, columns=["source", "area", "accuracy", "low", "high"])


def turned(results: pd.DataFrame, variant: Variant) -> pd.DataFrame:
    """The photographs whose top-5 correctness a variant changes: set, photograph (position in its set), name,
    whether it was right before (right_before), and the likeliest class before and after."""
    place = results.drop_duplicates("name").set_index("name")[["set", "photograph"]]
    columns = {
        "right_before": blur.outcomes(results, "top5"),
        "right_after": blur.outcomes(results, "top5", variant),
        "before": blur.outcomes(results, "first"),
        "after": blur.outcomes(results, "first", variant),
    }
    both = pd.concat([place, pd.DataFrame(columns)], axis=1, join="inner").rename_axis("name").reset_index()
    changed = both[both["right_before"] != both["right_after"]]
    return changed.drop(columns="right_after").reset_index(drop=True)


def turned_counts(results: pd.DataFrame, variant: Variant, photographs: str) -> dict[str, object]:
    """How many photographs a variant turns, both ways: a row with wrong to right, right to wrong, the balance
    (% of all) with its interval, and the p value of McNemar's test."""
    changed, balance = turned(results, variant), change(results, "top5", UNMODIFIED, variant)
    return {
        "photographs": photographs,
        "n": balance.n,
        "wrong to right": int((~changed["right_before"]).sum()),
        "right to wrong": int(changed["right_before"].sum()),
        "balance, %": str(balance),
        "p": balance.p,
    }


def turned_pictures(
    explainer: LICNN, photos: PhotoSet, positions: Sequence[int], variant: Variant
) -> tuple[list[Image.Image], list[Image.Image], tuple[list[list[str]], list[list[str]]]]:
    """Photographs at these positions before and after a variant of ``explainer``'s own region: the crops, the
    blurred crops, and the names of the five likeliest classes of each, before and after."""
    model, chosen = explainer.model, photos.select(positions)
    crops, images = crops_and_inputs(model, chosen)
    maps = explainer.saliency_maps(images).cpu().numpy()
    regions = [blur.region(saliency, variant.rule) for saliency in maps]
    soft = [blur.blurred(c, r, variant.radius, variant.where) for c, r in zip(crops, regions, strict=True)]
    names = [
        [[model.classes[i] for i in five] for five in blur.top_classes(model, side)] for side in (crops, soft)
    ]
    return crops, soft, (names[0], names[1])
