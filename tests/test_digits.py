import subprocess
import sys

import numpy as np
import pytest

from saliencylib import digits


def test_shapes_ranges_and_fixations(own_cache):
    made = digits.cluttered_digits(20, seed=3)
    assert made.images.shape == (20, 96, 96, 3) and made.images.dtype == np.uint8
    assert made.labels.tolist() == [*range(10), *range(10)]
    share = made.masks.mean((1, 2))
    assert (share > 0.02).all() and (share < 0.35).all()
    assert all(len(x) == digits.FIXATIONS and x.min() >= 0 and x.max() <= 95 for x in made.x + made.y)


def test_mask_is_exactly_where_the_digit_was_painted(own_cache):
    tied = digits.cluttered_digits(10, seed=1, backgrounds="tied")
    swapped = digits.cluttered_digits(10, seed=1, backgrounds="swapped")
    assert (tied.masks == swapped.masks).all()
    difference = np.abs(tied.images.astype(int) - swapped.images.astype(int)).max(-1)
    assert difference[tied.masks].mean() < 20 < difference[~tied.masks].mean()


def test_fixations_fall_on_the_digit_more_often_than_by_chance(own_cache):
    made = digits.cluttered_digits(50)
    points = zip(made.masks, made.x, made.y, strict=True)
    on_digit = [mask[y.astype(int), x.astype(int)].mean() for mask, x, y in points]
    assert np.mean(on_digit) > 3 * made.masks.mean()


def test_tied_and_swapped_backgrounds(own_cache):
    tied = digits.cluttered_digits(30, backgrounds="tied")
    swapped = digits.cluttered_digits(30, backgrounds="swapped")
    random = digits.cluttered_digits(30, backgrounds="random")
    assert (tied.backgrounds == tied.labels).all()
    assert (swapped.backgrounds == (swapped.labels + 1) % 10).all()
    assert (random.backgrounds != random.labels).any()


def test_seed_and_split_change_the_images_and_the_cache_gives_them_again(own_cache):
    first = digits.cluttered_digits(10, seed=0)
    assert (digits.cluttered_digits(10, seed=0).images == first.images).all()
    assert list((own_cache / "digits").glob("*.npz"))
    assert (digits.cluttered_digits(10, seed=1).images != first.images).any()
    assert (digits.cluttered_digits(10, split="test").images != first.images).any()


def test_equal_in_two_processes_with_different_hash_seeds(tmp_path):
    code = (
        "import sys, hashlib; from pathlib import Path; from saliencylib import cache, digits;"
        "cache.CACHE = Path(sys.argv[1]);"
        "print(hashlib.sha256(digits.cluttered_digits(10).images).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / seed)],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(digits.disk.ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


@pytest.mark.parametrize("wrong", [{"split": "val"}, {"backgrounds": "green"}, {"count": 0}])
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        digits.cluttered_digits(**({"count": 10} | wrong))
