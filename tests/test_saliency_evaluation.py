from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from scipy import stats as scipy_stats

from saliencylib import figures_shallow_cnn, gaze, metrics, saliency_training
from saliencylib import saliency_evaluation as evaluation

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def parts():
    return gaze.split("quick", 40, 12)


@pytest.fixture(scope="module")
def trained(parts, tmp_path_factory):
    base = saliency_training.RECIPES["starts at the mean map"]
    base = replace(base, width=0.1, hidden=16, batch=16, epochs=2, loss_every=1)
    recipes = saliency_training.recipes(base, ("mse", "l1"), (0, 1))
    pairs = gaze.joined(parts.training), gaze.joined(parts.validation)
    return saliency_training.train_all(recipes, *pairs, CPU, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def scored(parts, trained):
    test = parts.tests[0]
    maps = {
        (t.recipe.loss, t.recipe.seed): saliency_training.predict(t.model, test.images, CPU) for t in trained
    }
    return evaluation.network_scores({test.name: maps}, parts.tests)


def test_scores_have_a_row_an_image_and_run(parts, scored):
    assert len(scored) == 4 * 12
    assert set(scored["predictor"]) == {"MSE", "L1"}
    assert list(scored.columns[:4]) == ["predictor", "seed", "data", "image"]
    assert not scored.isna().any().any()


def test_maps_alone_have_map_metrics_only(parts):
    alone = replace(parts.tests[0], points=None)
    frame = evaluation.scores("truth", 0, alone.targets, alone)
    assert list(frame.columns[4:]) == ["cc", "sim", "kl"]
    assert frame["cc"].to_numpy() == pytest.approx(1)


def test_centre_gaussian_keeps_the_widths_about_the_centre():
    y, x = np.mgrid[:48, :48] - 23.5
    density = np.exp(-(x**2) / (2 * 6**2) - y**2 / (2 * 4**2))
    assert np.allclose(evaluation.centre_gaussian(density), density, atol=2e-3)


def test_baselines_are_blind_and_chance_is_chance(parts):
    mean_map = saliency_training.mean_map(gaze.joined(parts.training))
    maps = evaluation.baselines(mean_map, 3)
    assert (maps["mean map"] == mean_map).all()
    assert (maps["centre Gaussian"][0] == maps["centre Gaussian"][2]).all()
    table = evaluation.baseline_scores(mean_map, parts.tests).groupby("predictor")["auc_borji"].mean()
    assert table["chance"] == pytest.approx(0.5, abs=0.05)
    assert table["mean map"] > 0.6


def test_summary_over_seeds_and_images(scored):
    seeds = evaluation.summary(scored, over="seeds").set_index(["predictor", "metric"])
    row = seeds.loc[("L1", "cc")]
    means = scored.query("predictor == 'L1'").groupby("seed")["cc"].mean()
    assert row["value"] == pytest.approx(means.mean()) and row["n"] == 2
    images = evaluation.summary(scored, over="images").set_index(["predictor", "metric"])
    assert images.loc[("L1", "cc"), "n"] == 12
    assert images.loc[("L1", "cc"), "value"] == pytest.approx(means.mean())


def test_printed_tables_hold_the_papers_numbers(scored):
    summaries = evaluation.summary(scored, over="seeds")
    third = evaluation.printed_table("III", summaries, ["MSE"])
    assert third.iloc[:2, 3:].to_numpy().tolist() == [[0.65, 0.55, 0.71], [0.66, 0.56, 0.72]]
    assert third["network"].tolist()[2:] == ["here"]
    fourth = evaluation.printed_table("IV", summaries, ["MSE", "L1"])
    assert fourth.iloc[:2, 3:].to_numpy().tolist() == [[0.659, 0.556, 0.715], [0.70, 0.577, 0.718]]
    assert fourth["loss"].tolist() == ["MSE", "L1", "MSE", "L1"]


def test_table_estimates_cover_both_tables(scored, parts):
    found = evaluation.table_estimates(scored, parts.tests)
    assert list(found) == [f"SC-T{table}{letter}" for table in "34" for letter in "abcdef"]
    l1_area = scored.query("predictor == 'L1'").groupby("seed")["auc_borji"].mean().mean()
    assert found["SC-T4f"][0].value == pytest.approx(l1_area)
    assert found["SC-T3a"][0] == found["SC-T3d"][0] == found["SC-T4a"][0]


def test_relative_gain_is_paired_by_seed():
    rows = [("MSE", 0, 0.5), ("MSE", 1, 0.4), ("L1", 0, 0.55), ("L1", 1, 0.42)]
    scored = pd.DataFrame(rows, columns=["predictor", "seed", "cc"]).assign(data="d", image=0)
    gain = evaluation.relative_gain(scored, "d", "cc")
    assert gain.value == pytest.approx((10 + 5) / 2) and gain.n == 2


def test_entropy_of_known_maps():
    one, four = np.zeros((48, 48)), np.zeros((48, 48))
    one[3, 3] = 5
    four[:2, :2] = 0.1
    assert evaluation.entropy(np.stack([one, four])) == pytest.approx([0, 2], abs=1e-6)


def test_total_variation_of_a_ramp_and_a_checkerboard():
    ramp = np.broadcast_to(np.linspace(0, 1, 48), (48, 48))
    board = np.indices((48, 48)).sum(0) % 2
    flat = np.ones((48, 48))
    found = evaluation.total_variation(np.stack([ramp, board, flat]).astype(float))
    assert found == pytest.approx([1 / 47 / 2, 1, 0])


def test_centre_bias_of_the_mean_map_is_one(parts):
    mean_map = saliency_training.mean_map(gaze.joined(parts.training))
    maps = np.broadcast_to(mean_map, (4, 48, 48))
    assert evaluation.centre_bias(maps, mean_map) == pytest.approx(1)
    assert evaluation.centre_bias(1 - maps, mean_map) == pytest.approx(-1)


def test_agreement_is_the_mean_spearman_correlation():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((60, 3)) + np.linspace(0, 2, 60)[:, None])
    expected = np.mean([scipy_stats.spearmanr(frame[a], frame[b])[0] for a, b in ((0, 1), (0, 2), (1, 2))])
    found = evaluation.agreement(frame)
    assert found.value == pytest.approx(expected)
    assert found.low < expected < found.high <= 1
    with pytest.raises(ValueError, match="two seeds"):
        evaluation.agreement(frame[[0]])


def test_worst_tenth_minus_rest():
    scored = np.arange(100.0)
    values = np.where(scored < 10, 3.0, 1.0) + np.tile([0.1, -0.1], 50)
    found = evaluation.worst_tenth_minus_rest(values, scored)
    assert found.value == pytest.approx(2) and 1.8 < found.low < 2 < found.high < 2.2


def test_chosen_examples_follow_their_rule():
    cc = np.array([0.1, 0.9, 0.5, 0.4, 0.8, 0.2])
    bias = np.array([0.9, 0.99, 0.3, 0.95, 0.1, 0.2])
    found = evaluation.chosen_examples(cc, bias, each=2)
    assert {kind: numbers.tolist() for kind, numbers in found.items()} == {
        "good": [1, 4],
        "centre-biased": [3, 2],
        "bad": [0, 5],
    }


def test_three_forms_differ_and_agree(parts):
    test = parts.tests[0]
    maps = np.random.default_rng(0).random((12, 48, 48))
    forms = evaluation.three_forms(maps + test.targets, test).set_index("form")["AUC-Borji"]
    assert forms.max() - forms.min() < 0.05 and forms.nunique() == 3
    assert forms["exact at step 0.1"] == pytest.approx(
        metrics.score(maps + test.targets, test.points, metrics=("auc_borji",), splits=None)[
            "auc_borji"
        ].mean()
    )


def test_every_figure_is_drawn(parts, trained, scored):
    by_loss = {loss: [t for t in trained if t.recipe.loss == loss] for loss in ("mse", "l1")}
    shown = {
        loss: saliency_training.predict(runs[0].model, parts.shown.images, CPU)
        for loss, runs in by_loss.items()
    }
    cc = evaluation.correlations(shown["mse"], parts.shown.targets)
    mean_map = saliency_training.mean_map(gaze.joined(parts.training))
    bias = pd.DataFrame(
        [(loss, seed, 0.5 + seed) for loss in ("mse", "l1") for seed in (0, 1)],
        columns=["loss", "seed", "bias"],
    )
    blind = evaluation.summary(evaluation.baseline_scores(mean_map, parts.tests), over="images")
    summaries = pd.concat([evaluation.summary(scored, over="seeds"), blind])
    drawn = [
        figures_shallow_cnn.figure_1(parts.shown, 4),
        figures_shallow_cnn.figure_losses(by_loss["l1"], 0.1, "digits"),
        figures_shallow_cnn.figure_4(trained[0], trained[0].model.conv1.weight.detach().numpy()),
        figures_shallow_cnn.figure_predictions(
            parts.shown, shown, evaluation.chosen_examples(cc, cc, each=2), 0
        ),
        figures_shallow_cnn.figure_scores(summaries),
        figures_shallow_cnn.figure_centre_bias(bias, "digits"),
    ]
    assert all(isinstance(figure, Figure) for figure in drawn)
    assert "1.00" in drawn[2].get_suptitle()
    assert "0 of 2 seeds" in drawn[5].axes[0].get_title(loc="left")


def test_smoothing_keeps_a_constant_and_averages():
    assert np.allclose(figures_shallow_cnn.smoothed(np.full(9, 2.0), 4), 2)
    assert figures_shallow_cnn.smoothed(np.array([0.0, 3, 0, 3, 0]), 3)[2] == pytest.approx(2)
