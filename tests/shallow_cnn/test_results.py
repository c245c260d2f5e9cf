from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from saliencylib import metrics
from saliencylib.shallow_cnn import results
from saliencylib.shallow_cnn.gaze import gaze_split
from saliencylib.shallow_cnn.training import GAZE_RECIPES, GazeTraining


@pytest.fixture(scope="module")
def parts():
    return gaze_split("quick", 40, 12)


@pytest.fixture
def scored(parts, own_cache):
    """Two losses with two seeds each: the truth under more noise and less."""
    test, rng = parts.tests[0], np.random.default_rng(0)
    noise = {("MSE", 0): 0.5, ("MSE", 1): 0.4, ("L1", 0): 0.2, ("L1", 1): 0.1}
    maps = {key: test.targets + width * rng.random(test.targets.shape) for key, width in noise.items()}
    return results.image_scores(maps, test)


def made_up(rows):
    scored = pd.DataFrame(rows, columns=["predictor", "seed", "cc"]).assign(data="d", image=0)
    return scored.assign(auc_shuffled=np.nan, auc_borji=np.nan)


def test_scores_have_a_row_an_image_and_run_and_are_kept(parts, scored, monkeypatch):
    assert len(scored) == 4 * 12
    assert list(scored.columns) == ["predictor", "seed", "data", "image", *results.FIXATION_SCORES]
    assert not scored.isna().any().any()
    monkeypatch.setattr(metrics, "score", None)
    with pytest.raises(TypeError, match="not callable"):
        results.image_scores({("MSE", 0): parts.tests[0].targets}, parts.tests[0])


def test_maps_alone_have_map_metrics_only(parts, own_cache):
    alone = replace(parts.tests[0], fine_points=None)
    frame = results.image_scores({("truth", 0): alone.targets}, alone)
    assert list(frame.columns[4:]) == ["cc", "sim", "kl"]
    assert frame["cc"].to_numpy() == pytest.approx(1)


def test_centre_gaussian_keeps_the_widths_about_the_centre():
    y, x = np.mgrid[:48, :48] - 23.5
    density = np.exp(-(x**2) / (2 * 6**2) - y**2 / (2 * 4**2))
    assert np.allclose(results.fitted_centre_gaussian(density), density, atol=2e-3)


def test_blind_maps_do_not_see_the_image_and_chance_is_chance(parts, own_cache):
    mean_map = parts.training[0].targets.mean(0)
    maps = results.blind_maps(mean_map, 12)
    assert (maps["mean map"] == mean_map).all()
    assert (maps["centre Gaussian"][0] == maps["centre Gaussian"][2]).all()
    scored = results.image_scores({(name, 0): m for name, m in maps.items()}, parts.tests[0])
    area = scored.groupby("predictor")["auc_borji"].mean()
    assert area["chance"] == pytest.approx(0.5, abs=0.05) and area["mean map"] > 0.6


def test_means_over_seeds_and_images(scored):
    seeds, images = (
        results.mean_scores(scored, over=over).set_index(["predictor", "metric"]).loc[("L1", "cc")]
        for over in ("seeds", "images")
    )
    means = scored.query("predictor == 'L1'").groupby("seed")["cc"].mean()
    assert seeds["value"] == pytest.approx(means.mean()) and seeds["n"] == 2
    assert images["value"] == pytest.approx(means.mean()) and images["n"] == 12


def test_ours_stand_below_the_papers_numbers(scored):
    table = results.printed_table("IV", results.mean_scores(scored, over="seeds"), ["MSE", "L1"])
    assert table["loss"].tolist() == ["MSE", "L1", "MSE", "L1"]
    assert table["network"].tolist() == ["replication, printed"] * 2 + ["here"] * 2
    l1 = scored.query("predictor == 'L1'")
    assert table.iloc[3, 3:].tolist() == pytest.approx(
        [l1["cc"].mean(), l1["auc_shuffled"].mean(), l1["auc_borji"].mean()]
    )


def test_estimates_cover_both_tables(scored, parts):
    found = results.score_estimates(scored, parts.tests)
    assert list(found) == [f"SC-T{table}{letter}" for table in "34" for letter in "abcdef"]
    l1_area = scored.query("predictor == 'L1'").groupby("seed")["auc_borji"].mean().mean()
    assert found["SC-T4f"][0].value == pytest.approx(l1_area)
    assert found["SC-T3a"][0] == found["SC-T3d"][0] == found["SC-T4a"][0]


def test_networks_are_compared_by_seed():
    scored = made_up([("MSE", 0, 0.5), ("MSE", 1, 0.4), ("MSE", 2, 0.1), ("L1", 0, 0.6), ("L1", 1, 0.48)])
    table = results.variants_table(scored)
    assert table[["predictor", "metric", "seeds"]].to_numpy().tolist() == [["L1", "cc", 2]]
    assert table["difference"].iloc[0] == pytest.approx(0.09)
    assert table["low"].iloc[0] < 0.09 < table["high"].iloc[0]
    spread = 100 * np.std([0.5, 0.4, 0.1], ddof=1) * np.sqrt(2) / np.mean([0.5, 0.4, 0.1])
    assert results.spread_of_two_runs(scored, "d", "cc") == pytest.approx(spread)
    gain = results.relative_gain(scored[scored["seed"] < 2], "d", "cc")
    assert gain.value == pytest.approx(20) and gain.n == 2


def test_best_network_has_the_highest_correlation():
    truths = np.random.default_rng(0).random((4, 48, 48))
    noise = np.random.default_rng(1).random((4, 48, 48))
    predicted = {("a", 0): truths + noise, ("a", 1): noise, ("b", 0): truths, ("c", 0): truths}
    assert results.best_network(predicted, truths, ["a", "b"]) == "b"


def test_tenths_go_from_the_worst_to_the_best():
    values, scored = np.arange(40.0), np.arange(40.0)[::-1]
    found = results.means_by_tenth(values, scored)
    assert found["tenth"].tolist() == list(range(1, 11)) and (found["n"] == 4).all()
    assert found["value"].iloc[0] == 37.5 and found["value"].is_monotonic_decreasing


def test_entropy_of_known_maps():
    one, four = np.zeros((48, 48)), np.zeros((48, 48))
    one[3, 3] = 5
    four[:2, :2] = 0.1
    assert results.map_entropy(np.stack([one, four])) == pytest.approx([0, 2], abs=1e-6)


def test_total_variation_of_a_ramp_and_a_checkerboard():
    ramp = np.broadcast_to(np.linspace(0, 1, 48), (48, 48))
    board = np.indices((48, 48)).sum(0) % 2
    flat = np.ones((48, 48))
    found = results.total_variation(np.stack([ramp, board, flat]).astype(float))
    assert found == pytest.approx([1 / 47 / 2, 1, 0])


def test_agreement_is_the_mean_spearman_correlation():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((60, 3)) + np.linspace(0, 2, 60)[:, None])
    expected = np.mean([scipy_stats.spearmanr(frame[a], frame[b])[0] for a, b in ((0, 1), (0, 2), (1, 2))])
    found = results.agreement_of_runs(frame)
    assert found.value == pytest.approx(expected)
    assert found.low < expected < found.high <= 1
    with pytest.raises(ValueError, match="two seeds"):
        results.agreement_of_runs(frame[[0]])


def test_worst_tenth_minus_rest():
    scored = np.arange(100.0)
    values = np.where(scored < 10, 3.0, 1.0) + np.tile([0.1, -0.1], 50)
    found = results.worst_tenth_minus_rest(values, scored)
    assert found.value == pytest.approx(2) and 1.8 < found.low < 2 < found.high < 2.2


def test_chosen_examples_follow_their_rule():
    cc = np.array([0.1, 0.9, 0.5, 0.4, 0.8, 0.2])
    bias = np.array([0.9, 0.99, 0.3, 0.95, 0.1, 0.2])
    found = {kind: numbers.tolist() for kind, numbers in results.chosen_examples(cc, bias, each=2).items()}
    assert found == {"good": [1, 4], "centre-biased": [3, 2], "bad": [0, 5]}


def history(train, validation, every=1, noted=2, **recipe):
    """A training whose every epoch noted ``noted`` equal losses, validated every ``every`` epochs."""
    epochs = np.arange(every, len(train) + 1, every)
    settings = replace(GAZE_RECIPES["starts at the mean map"], epochs=len(train), **recipe)
    losses = np.repeat(train, noted)
    return GazeTraining(
        None, settings, np.arange(len(losses)), losses, epochs, np.asarray(validation), np.ones(len(train))
    )


def test_smoothing_keeps_a_constant_and_averages():
    assert np.allclose(results.smoothed(np.full(9, 2.0), 4), 2)
    assert results.smoothed(np.array([0.0, 3, 0, 3, 0]), 3)[2] == pytest.approx(2)
    assert results.smoothed(np.array([1.0, 3.0]), 5).shape == (2,)


@pytest.mark.parametrize("corner", [250, 600])
def test_knee_of_two_straight_lines_is_their_corner(corner):
    epochs = np.arange(5, 1001, 5)
    losses = np.interp(epochs, [0, corner, 1000], [1, 0.1, 0.05])
    assert results.knee(epochs, losses) == pytest.approx(corner, abs=15)


def test_knee_does_not_depend_on_the_scale_of_the_loss():
    epochs = np.arange(1, 101)
    losses = np.exp(-epochs / 10)
    assert results.knee(epochs, losses) == results.knee(epochs, 7 * losses + 3)


def test_curves_without_a_knee_have_none():
    assert np.isnan(results.knee(np.arange(4), np.array([4.0, 3, 2, 1])))
    assert np.isnan(results.knee(np.arange(6), np.arange(6.0)))


def test_gap_and_its_growth():
    train = np.linspace(1, 0.5, 20)
    parting = [history(train, train * (1 + 0.01 * np.arange(1, 21)), seed=seed) for seed in (0, 1)]
    assert results.loss_by_epoch(parting[:1])["gap"].to_numpy() == pytest.approx(0.01 * np.arange(1, 21))
    assert results.gap_growth(parting).value == pytest.approx(0.01)
    table = results.curve_table(parting)
    assert table["gap at the end"].tolist() == pytest.approx([0.195, 0.195])
    assert table["seed"].tolist() == [0, 1] and table["epochs"].tolist() == [20, 20]
    together = [history(train, 1.1 * train, seed=seed) for seed in (0, 1)]
    assert results.gap_growth(together).value == pytest.approx(0, abs=1e-9)


def test_validated_epochs_are_paired_with_their_own_training_losses():
    frame = results.loss_by_epoch([history(np.arange(10, 0, -1.0), [7.0, 2.0], every=5)])
    assert frame["epoch"].tolist() == [5, 10] and frame["train"].tolist() == [6, 1]
