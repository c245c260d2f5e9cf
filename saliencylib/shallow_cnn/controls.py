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

from saliencylib import metrics
from saliencylib.metrics import Points
from saliencylib.shallow_cnn.gaze import FINE_SIZE, FINER, GazeSet, densities

# How maps are brought onto a grid before they are compared with fixations.
WAYS_TO_COMPARE = {
    "network grid": "48x48 pixels, as the network gives its maps, without blur (this study's choice)",
    "enlarged": "192x192 pixels, bilinear",
    "blurred, enlarged": "Gaussian of 3 pixels on the 48x48 grid, then 192x192, as the original release",
}
LOCAL_FEATURES = ("luminance contrast", "colour contrast", "complexity")


def human_maps(first: GazeSet, second: GazeSet, widths: Sequence[float] = (1, 1.5, 2, 3)) -> np.ndarray:
    """Where one half of the observers looked as a prediction (N, 48, 48) for the other half.

    The fixation density of ``first`` is blurred further, so that its width is one of ``widths`` times the
    usual one: that with the highest CC with ``second``, in favour of the bound.
    """
    usual = np.broadcast_to(first.sigma, 2)
    tried = [gaussian_filter(first.targets, (0, *usual * np.sqrt(width**2 - 1))) for width in widths]
    return max(
        tried, key=lambda maps: metrics.score(maps, None, second.targets, metrics=("cc",))["cc"].mean()
    )


def scores_by_comparison(predicted: Mapping[str, np.ndarray], test: GazeSet) -> pd.DataFrame:
    """Scores by way of comparing: rows comparison, predictor, cc, auc_shuffled, auc_borji (means of images).

    ``predicted`` has maps (N, 48, 48) by name. Truths are fixations and their density on the same grid.
    """
    rows = []
    names = ["cc", "auc_shuffled", "auc_borji"]
    for comparison in WAYS_TO_COMPARE:
        fine = comparison != "network grid"
        points = test.fine_points if fine else test.points
        truths = densities(points, test.sigma, FINER) if fine else test.targets
        for name, maps in predicted.items():
            frame = metrics.score(as_compared(maps, comparison), points, truths, metrics=names, rng=0)
            rows.append({"comparison": comparison, "predictor": name} | frame[names].mean().to_dict())
    return pd.DataFrame(rows)


def as_compared(maps: np.ndarray, comparison: str) -> np.ndarray:
    """Maps (N, 48, 48) on the grid of one of ``WAYS_TO_COMPARE``. Raises ValueError for another name."""
    if comparison not in WAYS_TO_COMPARE:
        raise ValueError(f"comparison must be one of {', '.join(WAYS_TO_COMPARE)}, not {comparison!r}")
    if comparison == "network grid":
        return maps
    if comparison == "blurred, enlarged":
        maps = gaussian_filter(maps, (0, 3, 3))
    return interpolate(torch.tensor(maps)[:, None], (FINE_SIZE, FINE_SIZE), mode="bilinear")[:, 0].numpy()


def local_features(image: np.ndarray) -> dict[str, np.ndarray]:
    """Local contrast and complexity (H, W) of an image (H, W, 3) uint8, by the names of ``LOCAL_FEATURES``.

    Contrast is the standard deviation under a Gaussian window of 3 pixels, of luminance, and of the two
    colour channels of Lab together; complexity is the entropy in bits of grey levels within 5 pixels.
    """
    variances = [
        np.maximum(gaussian_filter(channel**2, 3) - gaussian_filter(channel, 3) ** 2, 0)
        for channel in np.moveaxis(rgb2lab(image), 2, 0)
    ]
    grey = (255 * rgb2gray(image)).round().astype(np.uint8)
    maps = (np.sqrt(variances[0]), np.sqrt(variances[1] + variances[2]), entropy(grey, disk(5)))
    return dict(zip(LOCAL_FEATURES, maps, strict=True))


def contrast_at_fixations(test: GazeSet, others: int = 10, seed: int = 0) -> pd.DataFrame:
    """How much more contrast and complexity an image has where people look than where they look elsewhere.

    Each feature is scaled to mean 0 and deviation 1 within the image. A row an image, a column a feature: its
    mean at the image's fixations minus its mean, in the same image, at the fixations of ``others`` other
    images, which share the centre bias (SC-X9). Images without fixations are left out.
    """
    rng = np.random.default_rng(seed)
    step = FINE_SIZE // test.images.shape[1]
    places = [(x // step, y // step) for x, y in test.fine_points]
    looked = [i for i, (x, _) in enumerate(places) if len(x)]
    rows = []
    for i in looked:
        rest = rng.choice([j for j in looked if j != i], min(others, len(looked) - 1), replace=False)
        elsewhere = np.concatenate([np.stack(places[j]) for j in rest], axis=1)
        scaled = {n: (m - m.mean()) / max(m.std(), 1e-9) for n, m in local_features(test.images[i]).items()}
        rows.append({n: _mean_at(m, places[i]) - _mean_at(m, elsewhere) for n, m in scaled.items()})
    return pd.DataFrame(rows)


def _mean_at(map: np.ndarray, points: Points) -> float:
    x, y = (np.asarray(values).astype(int) for values in points)
    return float(map[y, x].mean())
