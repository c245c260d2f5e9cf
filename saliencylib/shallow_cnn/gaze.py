"""Eye data at the shallow network's sizes: what paper 2 trains on, shows and tests on, for each profile."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from saliencylib.data.fixations import FixationSet, fixation_set, osie_mouse, salicon, salicon_val_recovered
from saliencylib.data.images import downscaled
from saliencylib.data.registry import available, choose
from saliencylib.digits import cluttered_digits
from saliencylib.inputs import check_count
from saliencylib.metrics import Points, fixation_density
from saliencylib.shallow_cnn.network import INPUT_SIZE, MAP_SIZE
from saliencylib.shallow_cnn.training import GazePairs
from saliencylib.stats import evenly

HELD_OUT = (3, 4)  # of each seven osie images in the order of their names: 200 that only tests see
VALIDATION_EVERY = 10
DENSITY_SIGMA = 1.5  # pixels of the 48x48 grid: 3 % of a side, about one degree of vision in these sets
MOUSE_SIGMA = (19 / 640 * MAP_SIZE * 4 / 3, 19 / 640 * MAP_SIZE)  # 19/640 of the width, of 4:3 photographs
FINER = 4  # the grid on which fixations are kept is so many times finer than the maps'
FINE_SIZE = FINER * MAP_SIZE


@dataclass(frozen=True)
class GazeSet:
    """Photographs stretched to 96x96 with where people looked, on the 48x48 grid of the network's maps.

    ``images`` (N, 96, 96, 3) uint8; ``targets`` (N, 48, 48) float32 with peak 1, the fixation density (or the
    map that the set came with); ``fine_points`` (x, y) an image, whole pixels of a 192x192 grid, and
    ``observers``, who looked at each; both are None for a set of maps alone. ``source`` is "paper", "real" or
    "embedded"; ``sigma`` is the width of the targets' Gaussian, or its heights and widths, on the map's grid.
    """

    name: str
    images: np.ndarray
    targets: np.ndarray
    fine_points: list[Points] | None
    observers: list[np.ndarray] | None
    source: str
    sigma: float | tuple[float, float] = DENSITY_SIGMA

    def __len__(self) -> int:
        return len(self.images)

    @property
    def points(self) -> list[Points] | None:
        """The fixations (x, y) of each image as whole pixels of the 48x48 grid."""
        return None if self.fine_points is None else _coarse(self.fine_points)

    def select(self, indices: np.ndarray | slice) -> "GazeSet":
        """The images at these positions (indices, a slice or a boolean mask), in that order."""
        kept = np.arange(len(self))[indices]
        held = vars(self).items()
        lists = {name: [value[i] for i in kept] for name, value in held if isinstance(value, list)}
        return replace(self, **lists, **{name: v[kept] for name, v in held if isinstance(v, np.ndarray)})

    def halves(self, seed: int = 0) -> tuple["GazeSet", "GazeSet"]:
        """The same images seen by one half of each image's observers, and by the other, drawn at random.

        Targets are the densities of each half's fixations. Raises ValueError for a set without fixations, or
        with an image of a single observer.
        """
        if self.fine_points is None:
            raise ValueError(f"{self.name} has no fixations to divide")
        rng = np.random.default_rng(seed)
        parts = ([], [])
        for i, observers in enumerate(self.observers):
            people = rng.permutation(np.unique(observers))
            if len(people) < 2:
                raise ValueError(f"image {i} of {self.name} has {len(people)} observers, fewer than two")
            first = np.isin(observers, people[: len(people) // 2])
            for part, kept in zip(parts, (first, ~first), strict=True):
                part.append((tuple(values[kept] for values in self.fine_points[i]), observers[kept]))
        columns = ([list(column) for column in zip(*part, strict=True)] for part in parts)
        about = self.source, self.sigma
        return tuple(with_densities(f"{self.name}, half", self.images, *c, *about) for c in columns)


@dataclass(frozen=True)
class GazeSplit:
    """The parts of a run: ``training`` (a list of sets), ``validation`` and ``tests``, which share no image
    but for one test's eye data beside another's mouse data. ``tests[0]`` judges, and ``training`` is of its
    kind; ``shown`` are photographs that may be shown, those of ``tests[0]`` where these may. ``other_kinds``
    join the training sets where a mixture of kinds is trained on, as a control."""

    training: list[GazeSet]
    validation: list[GazeSet]
    shown: GazeSet
    tests: list[GazeSet]
    other_kinds: list[GazeSet] = field(default_factory=list)

    def table(self) -> pd.DataFrame:
        """One row a part and set: part, data, images, fixations an image (NaN for maps alone)."""
        parts = {
            "train": self.training,
            "train, mixture only": self.other_kinds,
            "validate": self.validation,
            "test": self.tests,
        }
        rows = [
            (part, gaze.name, len(gaze), np.mean([len(x) for x, _ in gaze.fine_points or []] or [np.nan]))
            for part, sets in parts.items()
            for gaze in sets
        ]
        return pd.DataFrame(rows, columns=["part", "data", "images", "fixations an image"])


def gaze_split(profile: str, train_images: int | None, test_images: int | None) -> GazeSplit:
    """The data of a profile.

    quick: cluttered digits of the two splits that share no digit. mini: osie's mouse data to train, every
    tenth of these images to validate, the 200 of ``HELD_OUT`` with mouse data, then with eye data, mit1003
    and, where they are, the recovered SALICON maps to test; crowd, scene and pascal (eye data) are of other
    kinds.
    paper: SALICON as of 2015 with its fixations; a tenth of its validation images (500) validates and another
    tenth tests; digits are shown. ``train_images`` and ``test_images`` bound the numbers for training and for
    each test (None: all); what is kept is spread evenly over the sorted set. Raises ValueError for an unknown
    profile and for fewer than one image.
    """
    choose("profile", profile, ("quick", "mini", "paper"))
    for name, count in (("train_images", train_images), ("test_images", test_images)):
        if count is not None:
            check_count(name, count)
    if profile == "quick":
        parts = _digits(train_images, test_images)
    elif profile == "mini":
        parts = _fixation_sets()
    else:
        parts = _salicon()
    training, tests = parts.training, parts.tests
    if train_images is not None:
        share = min(1, train_images / sum(len(part) for part in training))
        training = [part.select(evenly(len(part), len(part) * share)) for part in training]
    if test_images is not None:
        tests = [part.select(evenly(len(part), test_images)) for part in tests]
    shown = tests[0] if parts.shown is parts.tests[0] else parts.shown
    return replace(parts, training=training, shown=shown, tests=tests)


def gaze_pairs(sets: Sequence[GazeSet]) -> GazePairs:
    """Several sets as one for training."""
    return GazePairs(np.concatenate([s.images for s in sets]), np.concatenate([s.targets for s in sets]))


def from_fixations(
    fixations: FixationSet, name: str | None = None, sigma: float | tuple[float, float] = DENSITY_SIGMA
) -> GazeSet:
    """A fixation set at the network's sizes, with its fixation density as targets."""
    images, points = fixations.images(INPUT_SIZE, INPUT_SIZE), fixations.points(FINE_SIZE, FINE_SIZE)
    return with_densities(name or fixations.name, images, points, fixations.observers(), "real", sigma)


def with_densities(
    name: str,
    images: np.ndarray,
    fine_points: list[Points],
    observers: list[np.ndarray],
    source: str,
    sigma: float | tuple[float, float] = DENSITY_SIGMA,
) -> GazeSet:
    """A set whose targets are the densities of its fixations."""
    targets = densities(_coarse(fine_points), sigma)
    return GazeSet(name, images, targets, fine_points, observers, source, sigma)


def held_out_of_osie(names: Sequence[str]) -> np.ndarray:
    """Which of osie's images (N,) only tests see: those whose place among the sorted names, counted from 0,
    leaves a remainder of ``HELD_OUT`` when divided by seven."""
    return np.isin(np.searchsorted(sorted(names), names) % 7, HELD_OUT)


def training_and_validation(gaze: GazeSet) -> tuple[GazeSet, GazeSet]:
    """A set's images but every tenth, to train on, and every tenth, to validate on."""
    validates = np.arange(len(gaze)) % VALIDATION_EVERY == 0
    return gaze.select(~validates), gaze.select(validates)


def densities(
    points: list[Points], sigma: float | tuple[float, float] = DENSITY_SIGMA, finer: int = 1
) -> np.ndarray:
    """Fixation densities (N, H, W) float32, peak 1, of points on the 48x48 grid, or on one so much finer."""
    shape, width = (finer * MAP_SIZE, finer * MAP_SIZE), finer * np.asarray(sigma)
    return np.stack([fixation_density(x, y, shape, width) for x, y in points])


def peak_one(maps: np.ndarray) -> np.ndarray:
    """Maps (N, H, W) divided by their largest value; zeros stay zeros."""
    return maps / maps.max((1, 2), keepdims=True).clip(1e-6)


def _coarse(fine_points: list[Points]) -> list[Points]:
    return [(np.floor(x / FINER), np.floor(y / FINER)) for x, y in fine_points]


def _digits(train_images: int | None, test_images: int | None) -> GazeSplit:
    count = train_images or 1000
    train, test = _digit_set(count + count // 8, "train"), _digit_set(test_images or 200, "test")
    return GazeSplit([train.select(slice(count))], [train.select(slice(count, None))], test, [test])


def _digit_set(count: int, part: str) -> GazeSet:
    digits = cluttered_digits(count, split=part)
    scale = FINE_SIZE / digits.images.shape[1]
    points = [(np.floor(x * scale), np.floor(y * scale)) for x, y in zip(digits.x, digits.y, strict=True)]
    simulated = [np.arange(len(x)) % 10 for x, _ in points]
    return with_densities(digits.name, digits.images, points, simulated, "embedded")


def _fixation_sets() -> GazeSplit:
    eye, mouse = fixation_set("osie"), osie_mouse()
    tested = held_out_of_osie(mouse.names)
    other_kinds = [from_fixations(fixation_set(name)) for name in ("crowd", "scene", "pascal")]
    rest = from_fixations(mouse.select(~tested), "osie mouse", MOUSE_SIGMA)
    training, validation = training_and_validation(rest)
    tests = [
        from_fixations(mouse.select(tested), "osie mouse", MOUSE_SIGMA),
        from_fixations(eye.select(held_out_of_osie(eye.names)), "osie eye"),
        from_fixations(fixation_set("mit1003")),
    ]
    if available("salicon_val_recovered"):
        recovered = salicon_val_recovered()
        images = downscaled(recovered.images, INPUT_SIZE, INPUT_SIZE)
        maps = peak_one(downscaled(recovered.maps, MAP_SIZE, MAP_SIZE))
        tests.append(GazeSet(recovered.name, images, maps, None, None, "real"))
    return GazeSplit([training], [validation], tests[0], tests, other_kinds)


def _salicon() -> GazeSplit:
    train, held_out = (_salicon_set(part) for part in ("train", "val"))
    turn = np.arange(len(held_out)) % VALIDATION_EVERY
    shown = _digit_set(100, "test")  # SALICON's photographs may not be shown
    return GazeSplit([train], [held_out.select(turn == 0)], shown, [held_out.select(turn == 1)])


def _salicon_set(part: str) -> GazeSet:
    found = salicon(part, edition="2015", kind="fixations")
    return GazeSet(
        f"SALICON {found.edition} {found.kind}",
        found.images(INPUT_SIZE, INPUT_SIZE),
        peak_one(found.maps(MAP_SIZE, MAP_SIZE)),
        found.points(FINE_SIZE, FINE_SIZE),
        found.observers(),
        "paper",
    )
