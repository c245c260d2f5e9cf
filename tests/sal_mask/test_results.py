import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from saliencylib import stats
from saliencylib.sal_mask import figures, results
from saliencylib.sal_mask.masks import MASK_CHAIN, PAPER_MASKS
from saliencylib.sal_mask.network import alexnet, connected, layer_table, nin


def log_of(gains, seeds=4, masks=PAPER_MASKS, networks=("alexnet", "nin"), width=1.0, connection="first"):
    """Accuracy logs of two epochs in which every mask gains what is asked over plain, seed by seed.

    The best epoch is the first for the even images and the second for the odd ones.
    """
    rows = []
    for network in networks:
        for seed in range(seeds):
            for mask in masks:
                keys = (network, width, connection, 0.001, 0, mask, seed)
                best = 50 + seed + gains.get((network, mask), 0) + 0.01 * seed * (mask != "plain")
                rows.append((*keys, 1, 1.0, best, best + 2, best - 2, best - 1))
                rows.append((*keys, 2, 1.0, best - 1, best - 5, best + 3, best - 1))
    accuracies = ["accuracy", "accuracy_even", "accuracy_odd", "final"]
    frame = pd.DataFrame(rows, columns=[*results.RECIPE_KEYS, "epoch", "loss", *accuracies])
    return frame.assign(made_on="here")


def test_tables_and_gains_are_read_from_the_log():
    log = log_of({("alexnet", "RC"): 2, ("nin", "RC"): 1, ("nin", "Alpha"): -1})
    table = results.accuracy_table(log, "alexnet", "somewhere").set_index("mask")
    of_rc = table.loc["RC"]
    assert of_rc["best epoch (part)"] - of_rc["last epoch (part)"] == pytest.approx(1)
    assert of_rc["last epoch (all test images, somewhere)"] == pytest.approx(52.515)
    assert table.loc["plain", "printed (STL-10, best epoch)"] == 61.74
    assert results.mask_gain(log, "alexnet", "RC").value == pytest.approx(2.015)
    assert results.mask_gain(log, "nin", "RC", "Alpha").value == pytest.approx(2)
    assert results.gain_on_both_networks(log).value == pytest.approx(0.015)
    gains = results.gains_table(log).set_index(["network", "comparison", "epoch"])
    assert gains.loc[("alexnet", "RC minus grey", "last"), "points"] == pytest.approx(2)


def test_the_network_whose_gain_is_less_certain_stands_for_both():
    log = log_of({("alexnet", "RC"): 2, ("nin", "RC"): 1})
    assert results.gain_on_both_networks(log).value == pytest.approx(0.515)
    log.loc[(log["network"] == "alexnet") & (log["mask"] == "RC"), "final"] += 9 * log["seed"]
    assert results.gain_on_both_networks(log).value > 1, "the interval that reaches lower is the wider one"


def test_collapsed_trainings_are_counted():
    log = log_of({})
    log.loc[(log["network"] == "nin") & (log["seed"] == 3) & (log["mask"] == "grey"), "final"] = 12
    assert results.collapsed_table(log, 10).loc["nin"].to_dict() == {
        "plain": 0,
        "RC": 0,
        "Alpha": 0,
        "grey": 1,
    }


def test_the_epoch_of_one_half_is_judged_on_the_other():
    """Even images are best at the first epoch, where the odd ones have best - 2; odd ones at the second,
    where the even ones have best - 5: the mean is 3.5 below the best epoch of all."""
    table = results.selection_table(log_of({})).set_index(["network", "rival"])
    assert table.loc[("nin", "epoch chosen on the other half"), "points"] == pytest.approx(3.5)
    assert table.loc[("nin", "last epoch"), "points"] == pytest.approx(1)
    assert table["trainings"].eq(16).all()


def test_share_of_epochs_above_plain():
    rising = {("alexnet", "RC"): 2, ("alexnet", "Alpha"): 2, ("nin", "RC"): -2, ("nin", "Alpha"): -2}
    log = log_of(rising)
    log.loc[(log["mask"] == "RC") & (log["epoch"] == 2) & (log["network"] == "alexnet"), "accuracy"] -= 20
    share = results.share_of_epochs_above
    assert share(log, "alexnet").value == 0 and share(log, "nin").value == -0.5
    assert share(log, "alexnet", after=0.5).value == -0.5
    others = log.query("network == 'alexnet'").assign(epoch=9)[::2]
    longer = pd.concat([log.query("network == 'nin'"), others])
    assert share(longer, "nin", after=0.4).value == -0.5, "the epochs are this network's"


def test_the_mean_curve_can_lie_above_where_single_seeds_do_not():
    log = log_of({}, seeds=3, networks=("nin",))
    masked = log["mask"].isin(["RC", "Alpha"])
    log.loc[masked, "accuracy"] -= 1
    log.loc[masked & (log["seed"] == 2) & (log["epoch"] == 2), "accuracy"] += 9
    assert results.mean_curve_above(log, "nin") == (1, 2)
    assert results.mean_curve_above(log, "nin", masks=("grey",)) == (2, 2)
    title = " ".join(figures.figure_accuracy_curves(log, "nin", "x").get_suptitle().split())
    assert title.endswith("plain in 1 of 2 epochs (17 % seed by seed)")
    plt.close("all")


def test_steps_of_the_chain_add_up_to_the_gain():
    log = log_of({("nin", "grey"): 1, ("nin", "centre"): 3, ("nin", "RC"): 4}, masks=MASK_CHAIN)
    log["final"] += (
        1e-4 * (log["seed"] % 2 * 2 - 1) * log["mask"].map(len)
    )  # equal steps would be no certainty
    chain = results.chain_table(log)
    of_nin = chain.query("network == 'nin'").set_index("step")["points"]
    assert of_nin.sum() == pytest.approx(results.mask_gain(log, "nin", "RC").value)
    assert of_nin.to_dict() == pytest.approx({"grey": 1.015, "centre": 2, "shuffled": -3, "RC": 4})
    words = results.chain_words(chain)
    assert words[1].startswith(
        "NIN, 4 seeds: being a mask at all (grey minus plain) raises the accuracy (+1.0)"
    )
    assert "having the form of saliency (shuffled minus centre) lowers it (-3.0)" in words[1]
    assert "nothing that is clear" in words[0]
    title = figures.figure_mask_chain(chain, "x").get_suptitle()
    assert title == "Of 8 steps from plain to RC 4 have an interval without zero"
    plt.close("all")
    two = results.chain_words(results.chain_table(log.query("seed < 2")))
    assert (
        two[0].endswith("2 seeds are too few for intervals.") and "(grey minus plain) is not known" in two[0]
    )


def test_only_shared_seeds_are_compared_and_ambiguous_ones_refused():
    log = pd.concat([log_of({}, masks=("plain",)), log_of({("nin", "RC"): 1}, seeds=2, masks=("RC",))])
    assert results.gains_over_plain(log, "network", "mask")["seeds"].tolist() == [2, 2]
    with pytest.raises(ValueError, match="fits 8 trainings of 4 seeds"):
        results.accuracy_by_seed(log, mask="plain")
    with pytest.raises(ValueError, match="fits 0 trainings"):
        results.accuracy_by_seed(log, mask="blue")


def test_places_widths_and_learned_masks_are_compared_with_their_own_plain_network():
    first = log_of({("nin", "RC"): 3}, masks=("plain", "RC", "Alpha", "grey"))
    gains = {("nin", "RC"): 1, ("nin", "Alpha"): -1, ("nin", "grey"): -4}
    raw = log_of(gains, masks=("RC", "Alpha", "grey"), connection="raw")
    log = pd.concat([first, raw])
    place = results.gains_over_plain(log, "network", "connection", "mask")
    place = place.set_index(["network", "connection", "mask"])["points"]
    assert place["nin", "first", "RC"] == pytest.approx(3.015) and place["nin", "raw", "Alpha"] < 0
    assert results.averaged_minus_raw(log).tolist() == pytest.approx([3 / 4] * 4), "without the grey"
    assert results.averaged_minus_raw(log, ["grey"]).tolist() == pytest.approx([2] * 4)
    wide = log_of({("nin", "RC"): -2}, masks=("plain", "RC"), width=2.0)
    wide["final"] += 7
    widths = results.width_table(pd.concat([first, wide])).set_index(["network", "width", "mask"])
    assert widths.loc[("nin", 2.0, "RC"), "points"] == pytest.approx(-1.985)
    assert widths.loc[("nin", 2.0, "RC"), "plain"] == pytest.approx(57.5)
    learned = log_of({("nin", "plain"): 5, ("nin", "RC"): 6}, masks=("plain", "RC"), connection="learned")
    every = pd.concat([first, wide.query("mask == 'plain'"), learned])
    gains = results.learned_table(every, {"alexnet": 1.0, "nin": 1.0}).query("network == 'nin'")["points"]
    assert gains.tolist() == pytest.approx([3.015, 7, 5, 6.015])


def test_conditions_say_what_was_measured():
    assert results.learned(log_of({}), 10, network="nin", mask="plain").met
    condition = results.learned(log_of({("nin", "plain"): -40}), 10, network="nin", mask="plain")
    assert not condition.met and condition.text == "nin plain 10.5 %, 3 times chance 30 %"
    elsewhere = losses()
    assert results.learned_elsewhere(elsewhere, "tied", 10).met
    assert not results.learned_elsewhere(elsewhere, "tied", 3).met


def test_power_grows_with_seeds_and_the_printed_gain():
    gains = {(name, mask): 1 for name in ("alexnet", "nin") for mask in ("RC", "Alpha")}
    log = log_of(gains, seeds=4)
    log.loc[log["mask"] == "RC", "final"] += 8 * (log["seed"] % 2)
    table = results.power_table(log).set_index(["network", "mask"])
    assert table["printed"].round(2).tolist() == [0.98, 1.5, 2.1, 0.7]
    assert table.loc[("nin", "Alpha"), "power"] > 0.99, "its pairs hardly differ"
    assert table.loc[("alexnet", "RC"), "power"] < table.loc[("nin", "RC"), "power"] < 0.5


def test_gains_are_set_beside_the_printed_range():
    table = results.gain_range_table(log_of({("alexnet", "RC"): 1, ("nin", "RC"): 3}))
    assert table["wholly inside"].tolist() == [True, False, False, False]


def test_picking_among_equal_maps_gains_by_luck_alone():
    names = ("RC", "Alpha", "HC", "FT")
    log = log_of({}, seeds=40, masks=("plain", *names), networks=("alexnet",))
    log["final"] += np.random.default_rng(0).normal(size=len(log))
    table = results.picking_table(log, "alexnet", names)
    assert table["maps"].tolist() == [1, 2, 3, 4]
    assert table["luck"].iloc[0] == pytest.approx(0) and table["luck"].is_monotonic_increasing


def test_each_mask_has_its_own_best_learning_rate():
    slow, fast = (log_of({("alexnet", "RC"): gain}, networks=("alexnet",)) for gain in (1, 3))
    fast["final"] -= 2
    table = results.learning_rate_table(pd.concat([slow, fast.assign(learning_rate=0.004)]))
    assert len(table) == 8 and table["seeds"].eq(4).all()
    slower = {"plain": 0.001, "grey": 0.001, "Alpha": 0.001}
    assert {k: v for k, v in results.best_rates(table).items() if k != "RC"} == slower
    figure = figures.figure_learning_rates(table, "x")
    title = " ".join(figure.get_suptitle().split())
    assert title.endswith("0.001 for plain; at an end of those tried for plain, RC, Alpha, grey")
    below = " ".join(figure.get_supxlabel().split())
    assert below.endswith("the intervals of the two best rates overlap for 4 of 4 masks")
    lower = table.query("learning_rate == 0.001").assign(learning_rate=0.0005)
    lower[["accuracy", "low", "high"]] -= 40
    more = pd.concat([lower, table, lower.assign(learning_rate=0.008)], ignore_index=True)
    more.loc[(more["mask"] == "RC") & (more["learning_rate"] == 0.004), ["accuracy", "low", "high"]] += 30
    figure = figures.figure_learning_rates(more, "x")
    assert figure.get_suptitle().endswith("at no end of those tried")
    assert "overlap for 3 of 4 masks" in " ".join(figure.get_supxlabel().split())
    plt.close("all")


def test_quality_and_gain_correlate_by_rank():
    steps = {f"true, {share} % foreign": 1 - share / 150 for share in range(10, 101, 10)}
    quality = {"true": 1.0, "RC": 0.9, **steps, "SR": 0.5}
    gains = {("alexnet", name): 10 * auc**3 for name, auc in quality.items()}
    log = log_of(gains, masks=("plain", "grey", *quality), networks=("alexnet",))
    table = results.quality_table(log, quality)
    found = results.quality_correlation(table)
    assert found.value == pytest.approx(1) and found.n == 10 and found.p < 0.01
    assert table.set_index("mask")["kind"][["true", "RC"]].tolist() == ["exact place", "computed map"]
    worse = table.assign(points=-table["points"])
    assert results.quality_correlation(worse).value == pytest.approx(-1)
    by_seed = results.quality_by_seed(log, quality)
    means = by_seed.groupby("mask")["points"].mean()
    assert means.to_dict() == pytest.approx(table.set_index("mask")["points"].to_dict())


def losses():
    rows = []
    for seed in range(3):
        for mask, lost in (("plain", 30), ("grey", 25), ("RC", 10), ("Alpha", 20)):
            rows.append(("tied", mask, seed, 80.0 + seed))
            rows.append(("swapped", mask, seed, 80.0 + seed - lost - 0.1 * seed * (mask == "RC")))
    return pd.DataFrame(rows, columns=["images", "mask", "seed", "accuracy"])


def test_losses_count_what_each_mask_spares():
    table = results.loss_table(losses(), "tied").set_index(["images", "mask"])
    assert table.loc[("swapped", "RC"), "points"] == pytest.approx(19.9)
    assert table.loc[("swapped", "plain"), "lost"] == pytest.approx(30)
    assert table.loc["tied", "points"].eq(0).all()
    lost = results.lost_by_seed(losses(), "tied", "swapped")
    assert results.spared_by_mask(lost, "RC").value == pytest.approx(19.9)
    assert results.spared_by_mask(lost, "Alpha", "grey").value == pytest.approx(5)
    rows = results.lost_table({"swapped": (losses(), "tied")}, "x").set_index(["seed", "mask"])
    assert rows.loc[(2, "RC"), "lost"] == pytest.approx(10.2) and rows.loc[(2, "RC"), "clean"] == 82


def drawn_figures():
    """What stands in each title, and the figure."""
    log = log_of({("alexnet", "RC"): 9, ("nin", "RC"): 9}, masks=(*PAPER_MASKS, "centre", "shuffled"))
    wide = log_of({("alexnet", "RC"): -9, ("nin", "RC"): -9}, masks=("plain", "RC"), width=2.0)
    raw, learned = (log_of({}, masks=("plain", "RC", "grey"), connection=name) for name in ("raw", "learned"))
    yield (
        "RC and Alpha: 2 of 4 intervals above zero, before Holm's adjustment; a uniform grey: 0 of 2",
        figures.figure_accuracy_gains(results.gains_table(log), "x"),
    )
    yield "Choosing the", figures.figure_epoch_selection(results.selection_table(log), "x")
    controls = results.gains_over_plain(log, "network", "mask")
    yield (
        "Of 10 gains (5 masks, 2 networks) 2 have an interval above zero",
        figures.figure_mask_controls(controls, "x"),
    )
    yield (
        "Of 8 steps from plain to RC 0 have an interval without zero",
        figures.figure_mask_chain(results.chain_table(log), "x"),
    )
    both = pd.concat([log, raw.query("mask != 'plain'")])
    place = results.gains_over_plain(both, "network", "connection", "mask")
    yield (
        "AlexNet: RC averaged with white gains +9.0 points, raw +0.0; a uniform grey +0.0 and +0.0",
        figures.figure_mask_places(place, "x"),
    )
    widths = results.width_table(pd.concat([log.query("mask in ('plain', 'RC')"), wide]))
    yield (
        "The gain's sign changes with the width in 2 of 2 cases; 4 of 4 gains are clear",
        figures.figure_network_widths(widths, "x"),
    )
    table = results.learned_table(pd.concat([log, wide, learned]), {"alexnet": 1.0, "nin": 1.0})
    yield "Best: RC mask", figures.figure_learned_gains(table, "x")
    yield (
        "NIN: RC and Alpha's mean curve lies above plain in 2 of 2 epochs (100 % seed by seed)",
        figures.figure_accuracy_curves(log, "nin", "x"),
    )
    yield (
        "AlexNet: 1 of 1 masks end above plain, at most by",
        figures.figure_control_curves(log, "alexnet", "x", ["plain", "centre"]),
    )
    quality = results.quality_table(log.query("network == 'nin'"), {"RC": 0.9})
    worse = stats.Estimate(-0.5, -0.6, -0.4, 4)
    yield "Worse masks", figures.figure_gain_by_quality(quality, worse, "x")
    table = results.loss_table(losses(), "tied")
    loss = {"noise": table.query("images == 'tied'"), "swapped": table}
    yield (
        "Points lost to swapped backgrounds: plain 30, RC 10, Alpha 20; to noise: plain 0, RC 0, Alpha 0",
        figures.figure_accuracy_lost(loss, "x"),
    )
    rows = [(i, size, "RC", size / 100 + 0.001 * i) for i in range(9) for size in (32, 96)]
    by_size = pd.DataFrame(rows, columns=["image", "size", "mask", "auc"])
    better = stats.Estimate(0.2, 0.1, 0.3, 9)
    yield "RC maps are better", figures.figure_quality_by_size(by_size, better, "x")


def test_figures_state_the_finding_n_and_data_and_name_their_axes():
    for title, figure in drawn_figures():
        below = figure.get_supxlabel()
        assert " ".join(figure.get_suptitle().split()).startswith(title)
        assert "data: x" in below and any(n in below for n in ("4 seeds", "3 seeds", "trainings", "n = 9"))
        assert all(axes.get_xlabel() for axes in figure.axes) and figure.axes[0].get_ylabel()
    plt.close("all")


def test_pictures_are_drawn_from_the_model_and_its_maps():
    table = layer_table(nin(width=0.125))
    figure = figures.figure_structure(table, "NIN", "relu1", "Figure 5")
    drawn = [text.get_text() for text in figure.axes[0].texts]
    assert "conv1: 5x5, 12" in drawn and "cccp6: 1x1, 10" in drawn and "mask s" in drawn
    assert f"{table['parameters'].sum():,} parameters" in figure.get_supxlabel()
    network, black = connected(alexnet(width=0.125, size=32)), np.zeros((32, 32), np.float32)
    image = np.zeros((32, 32, 3), np.uint8)
    figure = figures.figure_3(network, image, torch.randn(1, 3, 32, 32), black, "x")
    assert "keeps 50 %" in " ".join(figure.get_suptitle().split()), "half, where the map is black"
    images, maps = np.zeros((2, 8, 8, 3), np.uint8), np.random.default_rng(0).random((2, 8, 8))
    figure = figures.figure_1(images, {"RC": maps, "Alpha": maps / 2}, "x")
    assert figure.get_suptitle().startswith("RC lights more than")
    figure = figures.figure_learned_maps(
        images, {"RC map": maps, "learned from plain": 1 - maps, "learned from RC": maps}, "x", "y"
    )
    assert "1.00 with RC" in figure.get_suptitle() and "-1.00" in figure.get_suptitle()
    assert "trained on y" in " ".join(figure.get_supxlabel().split())
    plt.close("all")
