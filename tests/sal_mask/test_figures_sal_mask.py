import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from saliencylib.sal_mask.experiment import figures
from saliencylib.sal_mask.experiment import network as models, experiment as sal_mask
from saliencylib import stats
from saliencylib.sal_mask.experiment import results


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def log_of(masks, **columns):
    rng = np.random.default_rng(0)
    index = [(n, m, s, e) for n in ("alexnet", "nin") for m in masks for s in (0, 1, 2) for e in (1, 2)]
    frame = pd.DataFrame(index, columns=["network", "mask", "seed", "epoch"])
    frame = frame.assign(width=1.0, connection="first", loss=1.0, accuracy=20 + rng.random(len(frame)))
    return frame.assign(accuracy_even=frame["accuracy"], accuracy_odd=frame["accuracy"], **columns)


def texts(figure):
    found = [figure.get_suptitle(), figure.get_supxlabel()]
    return " ".join(found + [axes.get_title("left") for axes in figure.axes])


def labelled(figure):
    assert all(axes.get_xlabel() for axes in figure.axes)
    assert any(axes.get_ylabel() for axes in figure.axes)


def dots_of_the_results():
    log = log_of([*sal_mask.MASKS, "centre", "shuffled"])
    raw = log_of(["RC", "Alpha"], connection="raw")
    learned = log_of(["plain", "RC"], connection="learned")
    wide = log_of(["plain", "RC", "Alpha"], width=2.0)
    yield figures.figure_gains(results.gains_table(log), "somewhere")
    yield figures.figure_selection(results.selection_table(log), "somewhere")
    yield figures.figure_controls(results.controls_table(log), "somewhere")
    yield figures.figure_chain(results.chain_table(log), "somewhere")
    yield figures.figure_place(results.place_table(pd.concat([log, raw])), "somewhere")
    of_widths = pd.concat([log[log["mask"].isin(wide["mask"])], wide])
    yield figures.figure_widths(results.width_table(of_widths), "somewhere")
    every = pd.concat([log, learned, wide.query("mask == 'plain'")])
    yield figures.figure_learned(results.learned_table(every, {"alexnet": 1.0, "nin": 1.0}), "somewhere")


def test_figures_state_n_seeds_and_data_and_name_their_axes():
    for figure in dots_of_the_results():
        assert "data: somewhere" in texts(figure)
        assert (
            "3 seeds" in texts(figure) or "12 trainings" in texts(figure) or "18 trainings" in texts(figure)
        )
        labelled(figure)


def test_a_mask_that_only_one_network_has_keeps_its_name():
    rows = [("alexnet", m, 1.0, 0.5, 1.5, 3) for m in ("RC", "HC", "own mean")] + [
        ("nin", "RC", 1.0, 0.5, 1.5, 3)
    ]
    table = pd.DataFrame(rows, columns=["network", "mask", "points", "low", "high", "seeds"])
    axes = figures.figure_controls(table, "somewhere").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["RC", "HC", "own mean"]


def test_titles_state_the_finding():
    log = log_of([*sal_mask.MASKS, "centre", "shuffled"])
    better = log.copy()
    better.loc[better["mask"] == "RC", ["accuracy", "accuracy_even", "accuracy_odd"]] += 10
    title = texts(figures.figure_gains(results.gains_table(better), "x"))
    assert title.startswith("2 of 4 masked networks are clearly better than plain")
    title = texts(figures.figure_chain(results.chain_table(better), "x"))
    assert title.startswith("The largest step is being this image's saliency") and ", clear)" in title
    curves = figures.figure_curves(better, "nin", "somewhere")
    assert "lie above plain in 100 % of epochs" in texts(curves) and "seeds 0-2" in texts(curves)
    assert curves.axes[0].get_ylim()[0] >= 0 and len(curves.axes[0].lines) == 4
    more = figures.figure_curves(better, "nin", "somewhere", ["plain", "RC", "Alpha", "centre", "shuffled"])
    drawn = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in more.axes[0].lines}
    assert len(drawn) == len(set(drawn.values())) == 5


def test_a_sign_that_changes_outside_its_interval_is_called_clear():
    log = log_of(["plain", "RC"])
    wide = log_of(["plain", "RC"], width=2.0)
    log.loc[log["mask"] == "RC", "accuracy"] += 10
    wide.loc[wide["mask"] == "RC", "accuracy"] -= 10
    title = texts(figures.figure_widths(results.width_table(pd.concat([log, wide])), "x"))
    assert title.startswith("The gain's sign changes with the width in 2 of 2 cases, clearly in 2")


def test_quality_and_losses():
    quality = {"true": 1.0, "RC": 0.9, "SR": 0.5}
    log = log_of(["plain", *quality]).query("network == 'nin'")
    table = results.quality_table(log, quality)
    for low, word in ((0.1, "Better"), (-0.1, "Neither better nor worse")):
        figure = figures.figure_quality(table, stats.Estimate(0.5, low, 0.9, 3), "digits")
        assert f"{word} maps go with larger gains (rank correlation 0.50)" in texts(figure)
        labelled(figure)
    rows = [(i, m, s, 50.0 + s) for i in ("tied", "swapped") for m in ("plain", "RC") for s in (0, 1, 2)]
    frame = pd.DataFrame(rows, columns=["images", "mask", "seed", "accuracy"])
    figure = figures.figure_losses({"background": results.loss_table(frame, "tied")}, "digits")
    assert "0 of 1 masks clearly lose less than plain" in texts(figure) and "embedded" in texts(figure)
    labelled(figure)


def test_map_quality_title_follows_the_difference():
    rows = [(i, size, "RC", auc + 0.001 * i) for i in range(20) for size, auc in ((32, 0.6), (96, 0.8))]
    quality = pd.DataFrame(rows, columns=["image", "size", "mask", "auc"])
    assert "RC maps are better on 96 than on 32 pixels (+0.200)" in texts(
        figures.figure_map_quality(quality, "x")
    )
    swapped = quality.assign(size=quality["size"].map({32: 96, 96: 32}))
    assert "RC maps are worse" in texts(figures.figure_map_quality(swapped, "x"))


def test_structure_is_drawn_from_the_model():
    table = models.layer_table(models.nin(width=0.125))
    figure = figures.figure_structure(table, "NIN", "relu1", "Figure 5")
    drawn = [text.get_text() for text in figure.axes[0].texts]
    assert "conv1: 5x5, 12" in drawn and "cccp6: 1x1, 10" in drawn and "mask s" in drawn
    assert f"{table['parameters'].sum():,} parameters" in texts(figure)


def test_the_connection_keeps_half_where_the_map_is_black():
    network = models.connected(models.alexnet(width=0.125, size=32))
    image = np.zeros((32, 32, 3), np.uint8)
    figure = figures.figure_connection(
        network, image, torch.randn(1, 3, 32, 32), np.zeros((32, 32), np.float32), "x"
    )
    assert "keeps 50 % of the first layer's response" in texts(figure)


def test_pictures_of_maps():
    images, maps = np.zeros((2, 8, 8, 3), np.uint8), np.random.default_rng(0).random((2, 8, 8))
    figure = figures.figure_1(images, {"RC": maps, "Alpha": maps / 2}, "x")
    assert texts(figure).startswith("RC lights more than Alpha")
    table = pd.DataFrame({"seeds": [0.07, 0.15], "border": [3, 3], "mean": [0.2, 0.3], "cc": [1.0, 0.5]})
    figure = figures.figure_alpha(images, {"a, b": maps}, {"a, b": maps}, table, "x")
    assert "Maps of 15 % seeds and border 3 correlate 0.50" in texts(figure)
    figure = figures.figure_learned_maps(images, {"RC map": maps, "learned from RC": maps}, "x", "y")
    assert "correlates 1.00 with RC" in texts(figure) and "trained on y" in texts(figure)
