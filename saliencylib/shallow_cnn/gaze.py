"""Eye data at the shallow network's sizes: what paper 2 trains on, shows and tests on, for each profile."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from saliencylib import data
from saliencylib.digits import cluttered_digits
from saliencylib.metrics import Points, fixation_density
from saliencylib.shallow_cnn.training import Pairs
from saliencylib.shallow_cnn.network import INPUT_SIZE, MAP_SIZE

HELD_OUT_EVERY = 7  # of the 700 osie images, the 100 that are only shown
VALIDATION_EVERY = 10
DENSITY_SIGMA = 1.5  # pixels of the 48x48 grid: 3 % of a side, about one degree of vision in these sets
FINER = 4  # the grid on which fixations are kept is so many times finer than the maps'
FINE_SIZE = FINER * MAP_SIZE


@dataclass(frozen=True)
class GazeSet:
    """Photographs stretched to 96x96 with where people looked, on the 48x48 grid of the network's maps.

    ``images`` (N, 96, 96, 3) uint8; ``targets`` (N, 48, 48) float32 with peak 1, the fixation density (or the
    map that the set came with); ``fine_points`` (x, y) an image, whole pixels of a 192x192 grid, and
    ``observers``, who looked at each; both are None for a set of maps alone. ``source`` is "paper", "real" or
    "embedded"; ``showable`` says whether its images may be shown.
    """

    name: str
    images: np.ndarray
    targets: np.ndarray
    fine_points: list[Points] | None
    observers: list[np.ndarray] | None
    source: str
    showable: bool = False

    def __len__(self) -> int:
        return len(self.images)

    @property
    def points(self) -> list[Points] | None:
        """The fixations (x, y) of each image as whole pixels of the 48x48 grid."""
        if self.fine_points is None:
            return None
        return [(np.floor(x / FINER), np.floor(y / FINER)) for x, y in self.fine_points]

    def select(self, indices: np.ndarray) -> "GazeSet":
        """The images at these positions (indices or a boolean mask), in that order."""
        indices = np.arange(len(self))[indices]
        lists = {
            name: None if values is None else [values[i] for i in indices]
            for name, values in (("fine_points", self.fine_points), ("observers", self.observers))
        }
        return replace(self, images=self.images[indices], targets=self.targets[indices], **lists)

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
            x, y = self.fine_points[i]
            for part, kept in zip(parts, (first, ~first), strict=True):
                part.append(((x[kept], y[kept]), observers[kept]))
        halves = []
        for part in parts:
            points, observers = (list(column) for column in zip(*part, strict=True))
            half = replace(self, name=f"{self.name}, half", fine_points=points, observers=observers)
            halves.append(replace(half, targets=densities(half.points)))
        return tuple(halves)

    @property
    def pairs(self) -> Pairs:
        """Images and targets as training takes them."""
        return Pairs(self.images, self.targets)


@dataclass(frozen=True)
class Split:
    """The parts of a run: ``training`` (a list of sets), ``validation``, ``shown`` and ``tests``, which share
    no image."""

    training: list[GazeSet]
    validation: list[GazeSet]
    shown: GazeSet
    tests: list[GazeSet]


def joined(sets: list[GazeSet]) -> Pairs:
    """Several sets as one for training."""
    return Pairs(np.concatenate([s.images for s in sets]), np.concatenate([s.targets for s in sets]))


def split(profile: str, train_images: int | None, test_images: int | None) -> Split:
    """The data of a profile.

    quick: cluttered digits of the two splits that share no digit. mini: crowd, scene, pascal and osie to
    train, every tenth image of each to validate, 100 osie images that are only shown, and mit1003 and the
    recovered SALICON maps to test. paper: SALICON as of 2015 with its fixations; a tenth of its validation
    images (500) validates and another tenth tests; digits are shown. ``train_images`` and ``test_images``
    bound the numbers for training and for each test (None: all); what is kept is spread evenly over the
    sorted set.
    """
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
    return replace(parts, training=training, tests=tests)


def from_fixations(fixations: data.FixationSet, showable: bool) -> GazeSet:
    """A fixation set at the network's sizes, with its fixation density as targets."""
    images = fixations.images(INPUT_SIZE, INPUT_SIZE)
    return _with_densities(
        fixations.name,
        images,
        fixations.points(FINE_SIZE, FINE_SIZE),
        fixations.observers(),
        "real",
        showable,
    )


def _with_densities(
    name: str,
    images: np.ndarray,
    fine_points: list[Points],
    observers: list[np.ndarray],
    source: str,
    showable: bool,
) -> GazeSet:
    blank = np.empty((len(images), 0, 0), np.float32)
    gaze = GazeSet(name, images, blank, fine_points, observers, source, showable)
    return replace(gaze, targets=densities(gaze.points))


def shrunk(maps: np.ndarray) -> np.ndarray:
    """Maps (N, H, W) averaged down (bilinear, antialiased) to (N, 48, 48) float32, each with peak 1."""
    small = functional.interpolate(
        torch.from_numpy(maps)[:, None], (MAP_SIZE, MAP_SIZE), mode="bilinear", antialias=True
    )
    small = small[:, 0].numpy()
    return small / small.max((1, 2), keepdims=True).clip(1e-6)


def _digits(train_images: int | None, test_images: int | None) -> Split:
    count, tested = train_images or 1000, test_images or 200
    validated = count // 8
    train = _digit_set(count + validated, "train")
    test = _digit_set(2 * tested, "test")
    order = np.arange(len(train))
    return Split(
        [train.select(order < count)],
        [train.select(order >= count)],
        test.select(np.arange(tested, 2 * tested)),
        [test.select(np.arange(tested))],
    )


def _digit_set(count: int, part: str) -> GazeSet:
    digits = cluttered_digits(count, split=part)
    scale = FINE_SIZE / digits.images.shape[1]
    points = [(np.floor(x * scale), np.floor(y * scale)) for x, y in zip(digits.x, digits.y, strict=True)]
    simulated = [np.arange(len(x)) % 10 for x, _ in points]
    return _with_densities(digits.name, digits.images, points, simulated, "embedded", True)


def _fixation_sets() -> Split:
    sets = {name: data.fixation_set(name) for name in ("crowd", "scene", "pascal", "osie")}
    held_out = np.arange(len(sets["osie"])) % HELD_OUT_EVERY == 0
    shown = from_fixations(sets["osie"].select(held_out), data.REGISTRY["osie"].showable)
    sets["osie"] = sets["osie"].select(~held_out)
    training, validation = [], []
    for fixations in sets.values():
        gaze = from_fixations(fixations, data.REGISTRY[fixations.name].showable)
        validates = np.arange(len(gaze)) % VALIDATION_EVERY == 0
        training.append(gaze.select(~validates))
        validation.append(gaze.select(validates))
    recovered = data.salicon_val_recovered()
    images = functional.interpolate(
        torch.from_numpy(recovered.images).permute(0, 3, 1, 2).float(),
        (INPUT_SIZE, INPUT_SIZE),
        mode="bilinear",
        antialias=True,
    )
    images = images.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    maps_alone = GazeSet(recovered.name, images, shrunk(recovered.maps), None, None, "real")
    mit1003 = from_fixations(data.fixation_set("mit1003"), False)
    return Split(training, validation, shown, [mit1003, maps_alone])


def _salicon() -> Split:
    train, held_out = (
        _salicon_set(data.salicon(part, edition="2015", kind="fixations")) for part in ("train", "val")
    )
    turn = np.arange(len(held_out)) % VALIDATION_EVERY
    shown = _digit_set(100, "test")  # SALICON's photographs may not be shown
    return Split([train], [held_out.select(turn == 0)], shown, [held_out.select(turn == 1)])


def _salicon_set(salicon: data.SaliconSet) -> GazeSet:
    maps = salicon.maps(MAP_SIZE, MAP_SIZE)
    maps = maps / maps.max((1, 2), keepdims=True).clip(1e-6)
    points = salicon.points(FINE_SIZE, FINE_SIZE)
    name = f"SALICON {salicon.edition} {salicon.kind}"
    images = salicon.images(INPUT_SIZE, INPUT_SIZE)
    return GazeSet(name, images, maps, points, salicon.observers(), "paper")


def densities(points: list[Points], finer: int = 1) -> np.ndarray:
    """Fixation densities (N, H, W) float32, peak 1, of points on the 48x48 grid, or on one so much finer."""
    shape = (finer * MAP_SIZE, finer * MAP_SIZE)
    return np.stack([fixation_density(x, y, shape, finer * DENSITY_SIGMA) for x, y in points])


def evenly(length: int, count: float) -> np.ndarray:
    """About ``count`` of ``length`` positions, evenly spread, at least one, at most all."""
    count = min(length, max(1, round(count)))
    return np.arange(count) * length // count


def summary(parts: Split) -> pd.DataFrame:
    """One row a part and set: part, data, images, fixations an image (NaN for maps alone)."""
    rows = []
    for part, sets in (
        ("train", parts.training),
        ("validate", parts.validation),
        ("show", [parts.shown]),
        ("test", parts.tests),
    ):
        for gaze in sets:
            count = np.nan if gaze.points is None else np.mean([len(x) for x, _ in gaze.points])
            row = {"part": part, "data": gaze.name, "images": len(gaze), "fixations an image": count}
            rows.append(row)
    return pd.DataFrame(rows)
