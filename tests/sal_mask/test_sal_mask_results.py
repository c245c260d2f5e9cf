import numpy as np
import pandas as pd
import pytest

from saliencylib.sal_mask.experiment import experiment as sal_mask, results as sal_mask_results
from saliencylib.sal_mask.results import by_seed


def log_of(gains, seeds=4, masks=sal_mask.MASKS, networks=("alexnet", "nin"), **columns):
    """Accuracy logs of two epochs in which every mask gains what is asked over plain, seed by seed.

    The best epoch is the first for the even images and the second for the odd ones.
    """
    rows = []
    for network in networks:
        for seed in range(seeds):
            for mask in masks:
                best = 50 + seed + gains.get((network, mask), 0) + 0.01 * seed * (mask != "plain")
                for epoch, accuracy, shift in ((1, best, 2), (2, best - 1, -4)):
                    row = {
                        "network": network,
                        "width": 1.0,
                        "connection": "first",
                        "mask": mask,
                        "seed": seed,
                    }
                    row |= {"epoch": epoch, "loss": 1.0, "accuracy": accuracy}
                    rows.append(row | {"accuracy_even": accuracy + shift, "accuracy_odd": accuracy - shift})
    return pd.DataFrame(rows).assign(**columns)


def test_tables_and_gains_are_read_from_the_log():
    log = log_of({("alexnet", "RC"): 2, ("nin", "RC"): 1, ("nin", "Alpha"): -1})
    table = sal_mask_results.accuracy_table(log, "alexnet", "somewhere").set_index("mask")
    assert table.loc["RC", "best minus last"] == pytest.approx(1)
    assert table.loc["plain", "printed (STL-10, best epoch)"] == 61.74
    estimates = sal_mask_results.gain_estimates(log)
    assert estimates["SM-D1"].value == pytest.approx(2.015)
    assert estimates["SM-O1b"].value == pytest.approx(2)
    assert estimates["SM-X4"].value == pytest.approx(0.015)
    assert sal_mask_results.table_estimates(log)["SM-T2a"].value == pytest.approx(51.5)
    gains = sal_mask_results.gains_table(log).set_index(["network", "comparison", "epoch"])
    assert gains.loc[("alexnet", "RC minus grey", "last"), "points"] == pytest.approx(2)


def test_the_epoch_of_one_half_is_judged_on_the_other():
    """Even images are best at the first epoch, where the odd ones have best - 2; odd ones at the second,
    where the even ones have best - 5: the mean is 3.5 below the best epoch of all."""
    scores = sal_mask_results.scores(log_of({}))
    assert (scores["best"] - scores["elsewhere"]).to_numpy() == pytest.approx(3.5)
    table = sal_mask_results.selection_table(log_of({})).set_index(["network", "rival"])
    assert table.loc[("nin", "epoch chosen on the other half"), "points"] == pytest.approx(3.5)
    assert table.loc[("nin", "last epoch"), "points"] == pytest.approx(1)
    assert table["trainings"].eq(16).all()


def test_share_of_epochs_above_plain():
    rising = {("alexnet", "RC"): 2, ("alexnet", "Alpha"): 2, ("nin", "RC"): -2, ("nin", "Alpha"): -2}
    log = log_of(rising)
    log.loc[(log["mask"] == "RC") & (log["epoch"] == 2) & (log["network"] == "alexnet"), "accuracy"] -= 20
    share = sal_mask_results.share_of_epochs_above
    assert share(log, "alexnet").value == 0 and share(log, "nin").value == -0.5
    assert share(log, "alexnet", after=0.5).value == -0.5


def test_steps_of_the_chain_add_up_to_the_gain():
    log = log_of({("nin", "grey"): 1, ("nin", "centre"): 3, ("nin", "RC"): 4}, masks=sal_mask.CHAIN)
    chain = sal_mask_results.chain_table(log)
    of_nin = chain.query("network == 'nin'").set_index("step")["points"]
    assert of_nin.sum() == pytest.approx(sal_mask_results.gain(log, "nin", "RC").value)
    assert of_nin.to_dict() == pytest.approx({"grey": 1.015, "centre": 2, "shuffled": -3, "RC": 4})
    words = sal_mask_results.chain_words(chain)
    assert words[1].startswith("NIN: being a mask at all (grey minus plain) raises the accuracy (+1.0)")
    assert "having the form of saliency (shuffled minus centre) lowers it (-3.0)" in words[1]
    assert "nothing that is clear" in words[0]


def test_only_shared_seeds_are_compared_and_ambiguous_ones_refused():
    log = pd.concat([log_of({}, masks=("plain",)), log_of({("nin", "RC"): 1}, seeds=2, masks=("RC",))])
    assert sal_mask_results.gain(log, "nin", "RC").n == 2
    assert sal_mask_results.controls_table(log)["seeds"].tolist() == [2, 2]
    with pytest.raises(ValueError, match="fits 8 trainings of 4 seeds"):
        by_seed(log, mask="plain")
    with pytest.raises(ValueError, match="fits 0 trainings"):
        by_seed(log, mask="blue")


def test_places_widths_and_learned_masks_are_compared_with_their_own_plain_network():
    first, raw = (
        log_of({("nin", "RC"): 3}),
        log_of({("nin", "RC"): 1, ("nin", "Alpha"): -1}, connection="raw"),
    )
    log = pd.concat([first, raw[raw["mask"].isin(["RC", "Alpha"])]]).query("mask != 'grey'")
    place = sal_mask_results.place_table(log).set_index(["network", "connection", "mask"])["points"]
    assert place["nin", "first", "RC"] == pytest.approx(3.015) and place["nin", "raw", "Alpha"] < 0
    assert sal_mask_results.averaged_minus_raw(log).value == pytest.approx(3 / 4)
    wide = log_of({("nin", "RC"): -2}, width=2.0)
    wide["accuracy"] += 7
    widths = sal_mask_results.width_table(pd.concat([first, wide]).query("mask != 'grey'"))
    found = widths.set_index(["network", "width", "mask"])
    assert found.loc[("nin", 2.0, "RC"), "points"] == pytest.approx(-1.985)
    assert found.loc[("nin", 2.0, "RC"), "plain"] == pytest.approx(58.5)
    learned = log_of({("nin", "plain"): 5, ("nin", "RC"): 6}, connection="learned", masks=("plain", "RC"))
    every = pd.concat([first, wide.query("mask == 'plain'"), learned])
    table = sal_mask_results.learned_table(every, {"alexnet": 1.0, "nin": 1.0}).set_index(["network", "what"])
    gains = table.loc["nin", "points"].to_dict()
    assert gains == pytest.approx(
        {
            "RC mask": 3.015,
            "wider plain network": 7,
            "mask learned from the image": 5,
            "mask learned from image and RC": 6.015,
        }
    )


def test_quality_and_gain_correlate_by_rank():
    quality = {"true": 1.0, "RC": 0.9, "true, 50 % foreign": 0.7, "SR": 0.5}
    gains = {("alexnet", name): 10 * auc**3 for name, auc in quality.items()}
    log = log_of(gains, masks=("plain", *quality), networks=("alexnet",))
    assert sal_mask_results.quality_correlation(log, quality).value == pytest.approx(1)
    worse = dict(zip(quality, list(quality.values())[::-1], strict=True))
    assert sal_mask_results.quality_correlation(log, worse).value == pytest.approx(-1)
    table = sal_mask_results.quality_table(log, quality)
    assert table["mask"].tolist() == list(quality)
    assert table["kind"].tolist() == ["degraded truth", "computed map"] * 2


def test_losses_count_what_each_mask_spares():
    rows = []
    for seed in range(3):
        for mask, lost in (("plain", 30), ("RC", 10), ("Alpha", 20)):
            rows.append(("tied", mask, seed, 80.0 + seed))
            rows.append(("swapped", mask, seed, 80.0 + seed - lost - 0.1 * seed * (mask == "RC")))
    frame = pd.DataFrame(rows, columns=["images", "mask", "seed", "accuracy"])
    table = sal_mask_results.loss_table(frame, "tied").set_index(["images", "mask"])
    assert table.loc[("swapped", "RC"), "points"] == pytest.approx(19.9)
    assert table.loc[("swapped", "plain"), "lost"] == pytest.approx(30)
    assert table.loc["tied", "points"].eq(0).all()
    assert sal_mask_results.spared(frame, "tied", "swapped").value == pytest.approx(14.95)


def test_rank_correlation_of_one_mask_alone_is_refused():
    log = log_of({}, masks=("plain", "RC"), networks=("alexnet",))
    with pytest.raises(ValueError), np.errstate(all="ignore"):
        sal_mask_results.quality_correlation(log, {"RC": 0.9})
