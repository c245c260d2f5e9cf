"""Experiments of paper 2 beyond scores: the human bound, ways to compare, contrast at fixations."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2gray, rgb2lab
from skimage.filters.rank import entropy
from skimage.morphology import disk
from torch.nn.functional import interpolate

from saliencylib.shallow_cnn.network import gaze
from saliencylib import metrics, stats
from saliencylib.shallow_cnn.gaze import FINER, GazeSet
from saliencylib.metrics import Points
from saliencylib.stats import Estimate

SHARED = ("cc", "nss", "auc_borji", "auc_shuffled")
# How maps are brought onto a grid before they are compared with fixations.
COMPARISONS = {
    "network grid": "48x48 pixels, as the network gives its maps, without blur (this study's choice)",
    "enlarged": "192x192 pixels, bilinear",
    "blurred, enlarged": "Gaussian of 3 pixels on the 48x48 grid, then 192x192, as the original release",
}
FEATURES = ("luminance contrast", "colour contrast", "complexity")


def human_maps(first: GazeSet, second: GazeSet, widths: Sequence[float] = (1, 1.5, 2, 3)) -> np.ndarray:
    """Where one half of the observers looked as a prediction (N, 48, 48) for the other half.

    The fixation density of ``first`` is blurred further, so that its width is one of ``widths`` times the
    usual one: that with the highest CC with ``second``, in favour of the bound.
    """
    extra = [gaze.DENSITY_SIGMA * np.sqrt(width**2 - 1) for width in widths]
    tried = [gaussian_filter(first.targets, (0, sigma, sigma)) for sigma in extra]
    return max(
        tried, key=lambda maps: metrics.score(maps, None, second.targets, metrics=("cc",))["cc"].mean()
    )


def shares(
    predicted: Mapping[str, np.ndarray], test: GazeSet, centre: str, seed: int = 0, resamples: int = 1000
) -> pd.DataFrame:
    """Every predictor's scores as shares of the way from a centre map to other people (SC-X10).

    ``predicted`` has maps (N, 48, 48) for the images of ``test`` by name, ``centre`` is the name of the one
    that stands for 0 %. One half of the observers, drawn with ``seed``, predicts the other half, which is
    100 %; all predictors are scored on that other half. Rows predictor, metric, value, share (%), low, high
    (95 % bootstrap over images), n.
    """
    first, second = test.halves(seed)
    everyone = dict(predicted) | {"other people": human_maps(first, second)}
    scores = {
        name: metrics.score(maps, second.points, second.targets, metrics=SHARED, rng=0)
        for name, maps in everyone.items()
    }
    drawn = np.random.default_rng(seed).integers(len(test), size=(resamples, len(test)))
    rows = []
    for name, frame in scores.items():
        for metric in SHARED:
            value, zero, full = (
                s[metric].to_numpy() for s in (frame, scores[centre], scores["other people"])
            )
            way = 100 * (value.mean() - zero.mean()) / (full.mean() - zero.mean())
            ways = (
                100
                * (value[drawn].mean(1) - zero[drawn].mean(1))
                / (full[drawn].mean(1) - zero[drawn].mean(1))
            )
            low, high = np.quantile(ways, [0.025, 0.975])
            rows.append((name, metric, value.mean(), way, low, high, len(test)))
    return pd.DataFrame(rows, columns=["predictor", "metric", "value", "share", "low", "high", "n"])


def as_compared(maps: np.ndarray, comparison: str) -> np.ndarray:
    """Maps (N, 48, 48) on the grid of one of ``COMPARISONS``. Raises ValueError for another name."""
    if comparison not in COMPARISONS:
        raise ValueError(f"comparison must be one of {', '.join(COMPARISONS)}, not {comparison!r}")
    if comparison == "network grid":
        return maps
    if comparison == "blurred, enlarged":
        maps = gaussian_filter(maps, (0, 3, 3))
    size = [FINER * side for side in maps.shape[1:]]
    return interpolate(torch.tensor(maps)[:, None], size, mode="bilinear")[:, 0].numpy()


def compared(predicted: Mapping[str, np.ndarray], test: GazeSet) -> pd.DataFrame:
    """Scores by way of comparing: rows comparison, predictor, cc, auc_shuffled, auc_borji (means of images).

    ``predicted`` has maps (N, 48, 48) by name. Truths are fixations and their density on the same grid.
    """
    rows = []
    names = ("cc", "auc_shuffled", "auc_borji")
    for comparison in COMPARISONS:
        fine = comparison != "network grid"
        points = test.fine_points if fine else test.points
        truths = gaze.densities(points, FINER) if fine else test.targets
        for name, maps in predicted.items():
            frame = metrics.score(as_compared(maps, comparison), points, truths, metrics=names, rng=0)
            rows.append({"comparison": comparison, "predictor": name} | frame[list(names)].mean().to_dict())
    return pd.DataFrame(rows)


def features(image: np.ndarray) -> dict[str, np.ndarray]:
    """Local contrast and complexity (H, W) of an image (H, W, 3) uint8, by the names of ``FEATURES``.

    Contrast is the standard deviation under a Gaussian window of 3 pixels, of luminance, and of the two
    colour channels of Lab together; complexity is the entropy in bits of grey levels within 5 pixels.
    """
    lab = rgb2lab(image)
    variances = [
        np.maximum(gaussian_filter(channel**2, 3) - gaussian_filter(channel, 3) ** 2, 0)
        for channel in np.moveaxis(lab, 2, 0)
    ]
    grey = (255 * rgb2gray(image)).round().astype(np.uint8)
    maps = (np.sqrt(variances[0]), np.sqrt(variances[1] + variances[2]), entropy(grey, disk(5)))
    return dict(zip(FEATURES, maps, strict=True))


def contrast_at_fixations(test: GazeSet, others: int = 10, seed: int = 0) -> pd.DataFrame:
    """How much more contrast and complexity an image has where people look than where they look elsewhere.

    Each feature is scaled to mean 0 and deviation 1 within the image. A row an image, a column a feature: its
    mean at the image's fixations minus its mean, in the same image, at the fixations of ``others`` other
    images, which share the centre bias (SC-X9). Images without fixations are left out.
    """
    rng = np.random.default_rng(seed)
    step = gaze.FINE_SIZE // test.images.shape[1]
    places = [(x // step, y // step) for x, y in test.fine_points]
    looked = [i for i, (x, _) in enumerate(places) if len(x)]
    rows = []
    for i in looked:
        rest = rng.choice([j for j in looked if j != i], min(others, len(looked) - 1), replace=False)
        elsewhere = np.concatenate([np.stack(places[j]) for j in rest], axis=1)
        rows.append(
            {
                name: _mean_at(scaled, places[i]) - _mean_at(scaled, tuple(elsewhere))
                for name, scaled in _scaled(features(test.images[i])).items()
            }
        )
    return pd.DataFrame(rows)


def contrast_table(at_fixations: pd.DataFrame) -> pd.DataFrame:
    """``contrast_at_fixations`` in short: rows feature, difference with 95 % interval over images, n."""
    rows = []
    for name, values in at_fixations.items():
        found = stats.bootstrap_interval(values.to_numpy())
        rows.append((name, found.value, found.low, found.high, found.n))
    return pd.DataFrame(rows, columns=["feature", "difference", "low", "high", "n"])


def contrast_estimate(at_fixations: pd.DataFrame) -> Estimate:
    """The smallest of the features' mean differences, for the claim speaks of contrast and complexity."""
    found = [stats.bootstrap_interval(values.to_numpy()) for _, values in at_fixations.items()]
    return min(found, key=lambda estimate: estimate.value)


def _scaled(maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: (m - m.mean()) / max(float(m.std()), 1e-9) for name, m in maps.items()}


def _mean_at(map: np.ndarray, points: Points) -> float:
    x, y = (np.asarray(values).astype(int) for values in points)
    return float(map[y, x].mean())
