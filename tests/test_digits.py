"""The embedded data set: what it holds, what its arguments change, and that it is the same everywhere."""

import os
import subprocess
import sys

import numpy as np
import pytest

from saliencylib.digits import FIXATIONS, cluttered_digits
from saliencylib.places import ROOT

pytestmark = pytest.mark.usefixtures("own_cache")


def test_shapes_ranges_and_fixations():
    made = cluttered_digits(50, seed=3)
    assert made.images.shape == (50, 96, 96, 3) and made.images.dtype == np.uint8
    assert made.labels.tolist() == [*range(10)] * 5
    share = made.masks.mean((1, 2))
    assert (share > 0.02).all() and (share < 0.35).all()
    assert all(len(x) == FIXATIONS and x.min() >= 0 and x.max() <= 95 for x in made.x + made.y)
    points = zip(made.masks, made.x, made.y, strict=True)
    on_digit = [mask[y.astype(int), x.astype(int)].mean() for mask, x, y in points]
    assert np.mean(on_digit) > 3 * made.masks.mean()


def test_backgrounds_change_nothing_but_the_background():
    random, tied, swapped = (
        cluttered_digits(10, seed=1, backgrounds=b) for b in ("random", "tied", "swapped")
    )
    assert (tied.backgrounds == tied.labels).all() and (random.backgrounds != random.labels).any()
    assert (swapped.backgrounds == (swapped.labels + 1) % 10).all()
    assert (tied.masks == swapped.masks).all()
    difference = np.abs(tied.images.astype(int) - swapped.images.astype(int)).max(-1)
    assert difference[tied.masks].mean() < 20 < difference[~tied.masks].mean()


def test_seed_and_split_change_the_images():
    first = cluttered_digits(10, seed=0)
    assert (cluttered_digits(10, seed=0).images == first.images).all()
    assert (cluttered_digits(10, seed=1).images != first.images).any()
    assert (cluttered_digits(10, split="test").images != first.images).any()


def test_equal_in_two_processes_with_different_hash_seeds(tmp_path):
    code = (
        "import hashlib; from saliencylib.digits import cluttered_digits;"
        "print(hashlib.sha256(cluttered_digits(10).images).hexdigest())"
    )
    found = set()
    for seed in ("1", "2"):
        own = {"PYTHONHASHSEED": seed, "SALIENCY_CACHE": str(tmp_path / seed)}
        ran = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | own, cwd=ROOT, capture_output=True
        )
        found.add(ran.stdout)
    assert len(found) == 1 and len(found.pop()) == 65


@pytest.mark.parametrize("wrong", [{"split": "val"}, {"backgrounds": "green"}, {"count": 0}])
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        cluttered_digits(**({"count": 10} | wrong))
