import numpy as np
import pandas as pd
import pytest

from saliencylib import sal_mask
from saliencylib.data import Labelled


def log_with(gains):
    """Accuracy logs of two epochs in which every mask gains what is asked over plain, seed by seed."""
    rows = []
    for network in ("alexnet", "nin"):
        for seed in range(4):
            for mask in sal_mask.MASKS:
                best = 50 + seed + gains.get((network, mask), 0) + 0.01 * seed * (mask != "plain")
                for epoch, accuracy in ((1, best), (2, best - 1)):
                    rows.append((network, mask, seed, epoch, 1.0, accuracy))
    return pd.DataFrame(rows, columns=["network", "mask", "seed", "epoch", "loss", "accuracy"])


def test_tables_and_gains_are_read_from_the_log():
    log = log_with({("alexnet", "RC"): 2, ("nin", "RC"): 1, ("nin", "Alpha"): -1})
    table = sal_mask.accuracy_table(log, "alexnet", "somewhere").set_index("mask")
    assert table.loc["RC", "best minus last"] == pytest.approx(1)
    assert table.loc["plain", "printed (STL-10, best epoch)"] == 61.74
    estimates = sal_mask.gain_estimates(log)
    assert estimates["SM-D1"].value == pytest.approx(2.015)
    assert estimates["SM-O1b"].value == pytest.approx(2)
    assert estimates["SM-X4"].value == pytest.approx(0.015)
    assert sal_mask.table_estimates(log)["SM-T2a"].value == pytest.approx(51.5)


def test_share_of_epochs_above_plain():
    above = sal_mask.share_of_epochs_above(
        log_with({("alexnet", "RC"): 2, ("alexnet", "Alpha"): 2}), "alexnet"
    )
    below = sal_mask.share_of_epochs_above(log_with({("nin", "RC"): -2, ("nin", "Alpha"): -2}), "nin")
    assert (above.value, below.value) == (0.5, -0.5)


def test_shrinking_averages_blocks(own_cache):
    whole = sal_mask.labelled("cluttered digits", "train", 1).images
    half = sal_mask.labelled("cluttered digits", "train", 1, shrink=2).images
    assert half.shape == (10, 48, 48, 3) and half.dtype == np.uint8
    assert abs(int(half[0, 0, 0, 0]) - whole[0, :2, :2, 0].mean()) <= 0.5


def test_grey_has_the_training_mean_and_plain_is_white(own_cache):
    images = sal_mask.labelled("cluttered digits", "train", 1).images
    masks = sal_mask.maps_by_mask(images, images[:3], own_cache)
    assert np.allclose(masks["grey"][1], masks["RC"][0].mean()) and masks["grey"][1].shape == (3, 96, 96)
    assert (masks["plain"][0] == 1).all()


def test_first_of_each_class_keeps_order():
    labels = np.array([1, 0, 1, 0, 1])
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    kept = sal_mask.first_of_each_class(Labelled(images, labels, ("a", "b"), "x"), 1)
    assert kept.labels.tolist() == [1, 0] and kept.images[:, 0, 0, 0].tolist() == [0, 1]


def test_map_quality_falls_when_masks_are_foreign(own_cache, monkeypatch):
    quality = sal_mask.map_quality_by_size(4, sizes=(96, 32))
    assert quality.groupby("method").size().to_dict() == {"Alpha": 8, "RC": 8}
    assert quality.query("method == 'RC' and size == 96")["auc"].mean() > 0.6
