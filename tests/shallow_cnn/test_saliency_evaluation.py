from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from scipy import stats as scipy_stats

from saliencylib.shallow_cnn.network import figures as figures_shallow_cnn, gaze, training as saliency_training
from saliencylib import metrics
from saliencylib.shallow_cnn.network import results as evaluation
from saliencylib.stats import Estimate

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
    maps = evaluation.predictions(trained, test, CPU)
    assert list(maps) == [("MSE", 0), ("MSE", 1), ("L1", 0), ("L1", 1)]
    return evaluation.network_scores({test.name: maps}, parts.tests)


def test_predictions_are_kept_as_npz(parts, trained, own_cache, monkeypatch):
    test = parts.tests[0]
    maps = evaluation.predictions(trained[:1], test, CPU)["MSE", 0]
    expected = saliency_training.predict(trained[0].model, trained[0].recipe, test.images, CPU)
    assert np.array_equal(maps, expected)
    (path,) = (own_cache / "predictions").iterdir()
    assert path.name.startswith("cluttered-digits-MSE-0-") and path.suffix == ".npz"
    monkeypatch.setattr(evaluation, "predict", None)
    assert np.array_equal(evaluation.predictions(trained[:1], test, CPU)["MSE", 0], expected)
    with pytest.raises(TypeError, match="not callable"):
        evaluation.predictions(trained[1:2], test, CPU)


def test_scores_have_a_row_an_image_and_run(parts, scored):
    assert len(scored) == 4 * 12
    assert set(scored["predictor"]) == {"MSE", "L1"}
    assert list(scored.columns[:4]) == ["predictor", "seed", "data", "image"]
    assert not scored.isna().any().any()


def test_maps_alone_have_map_metrics_only(parts):
    alone = replace(parts.tests[0], fine_points=None)
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


def test_variants_are_compared_with_mse_by_seed():
    rows = [
        ("MSE", 0, 0.5),
        ("MSE", 1, 0.4),
        ("MSE", 2, 0.1),
        ("KL divergence", 0, 0.6),
        ("KL divergence", 1, 0.48),
    ]
    scored = pd.DataFrame(rows, columns=["predictor", "seed", "cc"]).assign(data="d", image=0)
    scored = scored.assign(auc_shuffled=np.nan, auc_borji=np.nan)
    table = evaluation.variants_table(scored)
    assert table[["predictor", "metric", "seeds"]].to_numpy().tolist() == [["KL divergence", "cc", 2]]
    assert table["difference"].iloc[0] == pytest.approx(0.09)
    assert table["low"].iloc[0] < 0.09 < table["high"].iloc[0]
    assert evaluation.spread_of_two_runs(scored, "d", "cc") == pytest.approx(
        100 * np.std([0.5, 0.4, 0.1], ddof=1) * np.sqrt(2) / np.mean([0.5, 0.4, 0.1])
    )


def test_best_variant_has_the_highest_correlation():
    truths = np.random.default_rng(0).random((4, 48, 48))
    noise = np.random.default_rng(1).random((4, 48, 48))
    predicted = {("a", 0): truths + noise, ("a", 1): noise, ("b", 0): truths, ("c", 0): truths}
    assert evaluation.best_variant(predicted, truths, ["a", "b"]) == "b"


def test_deciles_go_from_the_worst_to_the_best():
    values, scored = np.arange(40.0), np.arange(40.0)[::-1]
    found = evaluation.by_decile(values, scored)
    assert found["tenth"].tolist() == list(range(1, 11)) and (found["n"] == 4).all()
    assert found["value"].iloc[0] == 37.5 and found["value"].is_monotonic_decreasing


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
    by_loss = {name: [t for t in trained if t.recipe.name == name] for name in ("MSE", "L1")}
    shown = {
        name: saliency_training.predict(runs[0].model, runs[0].recipe, parts.shown.images, CPU)
        for name, runs in by_loss.items()
    }
    cc = evaluation.correlations(shown["MSE"], parts.shown.targets)
    mean_map = saliency_training.mean_map(gaze.joined(parts.training))
    bias = pd.DataFrame(
        [(name, seed, 0.5 + seed) for name in ("MSE", "L1") for seed in (0, 1)],
        columns=["loss", "seed", "bias"],
    )
    blind = evaluation.summary(evaluation.baseline_scores(mean_map, parts.tests), over="images")
    summaries = pd.concat([evaluation.summary(scored, over="seeds"), blind])
    drawn = [
        figures_shallow_cnn.figure_1(parts.shown, 4),
        figures_shallow_cnn.figure_losses(by_loss["L1"], 0.1, "digits"),
        figures_shallow_cnn.figure_4(trained[0], trained[0].model.conv1.weight.detach().numpy()),
        figures_shallow_cnn.figure_predictions(
            parts.shown, shown, evaluation.chosen_examples(cc, cc, each=2), 0
        ),
        figures_shallow_cnn.figure_scores(summaries),
        figures_shallow_cnn.figure_centre_bias(bias, "digits"),
    ]
    assert all(isinstance(figure, Figure) for figure in drawn)
    assert "1.00" in drawn[2].get_suptitle()
    assert "0 of 2 seeds" in title(drawn[5])


def title(figure):
    return figure.get_suptitle() or figure.axes[0].get_title(loc="left")


def test_figures_of_curves_say_what_they_show(trained):
    slow = [with_curve(t, [1, 0.5, 0.3, 0.2, 0.15, 0.12]) for t in trained]
    assert "epoch 3 (MSE), 3 (L1)" in title(figures_shallow_cnn.figure_knees(slow, "digits"))
    assert "50 % (MSE), 50 % (L1)" in title(figures_shallow_cnn.figure_gaps(slow, "digits"))
    rows = [("a", s, 1 - s / 10, s / 10) for s in range(3)] + [("b", s, 1.2, 0.0) for s in range(3)]
    traces = pd.DataFrame(rows, columns=["name", "step", "loss", "spread"])
    plateau = figures_shallow_cnn.figure_plateau(traces, "digits")
    assert "1 of 2 starts and optimisers" in title(plateau)
    assert [text.get_text() for text in plateau.legends[0].get_texts()] == ["a: step 1", "b: stays"]


def with_curve(trained, losses):
    """A history of as many epochs as values, each training loss two thirds of the validation loss."""
    epochs = np.arange(1, len(losses) + 1)
    recipe = replace(trained.recipe, epochs=len(losses))
    validation = np.array(losses)
    return replace(
        trained,
        recipe=recipe,
        train_losses=validation / 1.5,
        validation_epochs=epochs,
        validation_losses=validation,
    )


def test_figures_of_controls_say_what_they_show():
    columns = ["predictor", "data", "metric", "difference", "low", "high", "seeds"]
    variants = pd.DataFrame(
        [("L1", "d", m, -0.1, -0.2, -0.05, 3) for m in ("cc", "auc_shuffled", "auc_borji")]
        + [("KL divergence", "d", m, 0.1, 0.05, 0.2, 3) for m in ("cc", "auc_shuffled", "auc_borji")],
        columns=columns,
    )
    assert "1 of 2 variants clearly beat" in title(figures_shallow_cnn.figure_variants(variants))
    shares = pd.DataFrame(
        [
            (p, "cc", 0.5, s, s - 1, s + 1, 9)
            for p, s in (("net", 40), ("RC", -9), ("centre", 0), ("other people", 100))
        ],
        columns=["predictor", "metric", "value", "share", "low", "high", "n"],
    )
    figure = figures_shallow_cnn.figure_shares(shares, "centre", "d")
    assert "net goes 40 % of the way" in title(figure)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["net", "RC"]
    wide, narrow = np.full(10, 9.0), np.append(np.full(9, 8.0), 10)
    assert "on 90 % of images" in title(figures_shallow_cnn.figure_width(wide, narrow, "d"))
    scores = pd.DataFrame({0: [0.1, 0.5, 0.9], 1: [0.2, 0.4, 0.8]})
    agreement = Estimate(0.93, 0.9, 0.95, 3)
    assert "0.93" in title(figures_shallow_cnn.figure_failures(scores, agreement, "d"))
    deciles = evaluation.by_decile(np.append(np.full(4, 2.0), np.ones(36)), np.arange(40.0))
    assert "2.00 times" in title(figures_shallow_cnn.figure_smoothness(deciles, "d"))
    contrast = pd.DataFrame(
        [("a", 0.2, 0.1, 0.3, 5), ("b", 0.1, -0.1, 0.3, 5)],
        columns=["feature", "difference", "low", "high", "n"],
    )
    assert "1 of 2 features" in title(figures_shallow_cnn.figure_contrast(contrast, "d"))
