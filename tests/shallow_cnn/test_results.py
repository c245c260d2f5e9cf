from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from saliencylib import metrics, stats
from saliencylib.shallow_cnn import results
from saliencylib.shallow_cnn.gaze import gaze_split
from saliencylib.shallow_cnn.network import GAZE_LOSSES
from saliencylib.shallow_cnn.training import GAZE_RECIPES, GazePairs, GazeTraining
from saliencylib.study.claims import Condition

NO_SEED = results.SEEDLESS


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


def values(array, seeds=None):
    array = np.atleast_2d(np.asarray(array, float))
    return pd.DataFrame(array, range(len(array)) if seeds is None else seeds)


# ------------------------------------------------------------------------------------------------ scores


def test_scores_have_a_row_an_image_and_run_and_are_kept(parts, scored, monkeypatch):
    assert len(scored) == 4 * 12
    columns = ["test", "method", "seed", "image", "cc", "nss", "sauc", "borji", "others"]
    assert list(scored.columns) == columns and not scored.isna().any().any()
    monkeypatch.setattr(metrics, "score", None)
    with pytest.raises(TypeError, match="not callable"):
        results.image_scores({("MSE", 0): parts.tests[0].targets}, parts.tests[0])


def test_maps_alone_have_only_correlations(parts, own_cache):
    alone = replace(parts.tests[0], fine_points=None)
    frame = results.image_scores({("truth", NO_SEED): alone.targets}, alone)
    assert frame["cc"].to_numpy() == pytest.approx(1)
    assert frame[["nss", "sauc", "borji"]].isna().all().all() and (frame["others"] < 0.9).all()


def test_correlation_with_others_is_the_mean_over_all_other_truths():
    rng = np.random.default_rng(0)
    maps, truths = rng.random((2, 5, 8, 8))
    expected = [
        np.mean([metrics.cc(maps[i], truths[j]) for j in range(5) if j != i], dtype=float) for i in range(5)
    ]
    assert results.correlations_with_others(maps, truths) == pytest.approx(expected)


def test_a_constant_map_does_not_tell_its_own_truth_from_others(parts, own_cache):
    test = parts.tests[0]
    mean_map = test.targets.mean(0)
    maps = results.blind_maps(mean_map, mean_map**2, len(test))
    frame = results.image_scores({(name, NO_SEED): m for name, m in maps.items()}, test)
    means = results.mean_scores(frame).set_index(["method", "metric"])["value"]
    assert means["mean map", "own minus others"] == pytest.approx(0, abs=1e-9)
    assert means["chance", "borji"] == pytest.approx(0.5, abs=0.05) and means["mean map", "borji"] > 0.6


def test_stored_scores_have_four_digits(scored):
    stored = results.compact(scored)
    assert stored["cc"].to_numpy() == pytest.approx(scored["cc"].to_numpy(), rel=5e-4)
    assert all(len(f"{abs(value):.10g}".lstrip("0.").replace(".", "")) <= 4 for value in stored["cc"])


def test_means_are_over_seeds_and_images_or_over_images(scored):
    blind = scored.query("method == 'L1' and seed == 0").assign(method="blind", seed=NO_SEED)
    means = results.mean_scores(pd.concat([scored, blind])).set_index(["method", "metric"])
    l1 = means.loc["L1", "cc"]
    assert l1["value"] == pytest.approx(scored.query("method == 'L1'")["cc"].mean())
    assert l1["n"] == 2 and l1["unit"] == "seeds x 12 images"
    assert means.loc["blind", "cc"]["n"] == 12 and means.loc["blind", "cc"]["unit"] == "images"


def test_ours_stand_below_the_papers_numbers(scored):
    table = results.printed_table("IV", results.mean_scores(scored), ["MSE", "L1"])
    assert table["loss"].tolist() == ["MSE", "L1", "MSE", "L1"]
    assert table["network"].tolist() == ["replication, printed"] * 2 + ["here"] * 2
    l1 = scored.query("method == 'L1'")
    assert table.iloc[3, 3:].tolist() == pytest.approx([l1[name].mean() for name in ("cc", "sauc", "borji")])


def test_methods_are_paired_by_the_seeds_of_both_and_by_image():
    rng = np.random.default_rng(0)
    of, minus = values(rng.random((3, 30)), [0, 1, 2]), values(rng.random((2, 30)), [1, 2])
    found = results.two_way_difference(of, minus)
    assert found == stats.two_way_interval(of.loc[[1, 2]].to_numpy() - minus.to_numpy())
    blind = values(rng.random(30), [NO_SEED])
    assert results.two_way_difference(of, blind) == stats.two_way_interval(of.to_numpy() - blind.to_numpy())
    back = results.two_way_difference(blind, of)
    assert back.value == pytest.approx(-results.two_way_difference(of, blind).value)
    assert results.two_way_difference(blind, blind + of.to_numpy()[:1]).unit == "images"


def test_a_relative_difference_is_the_ratio_of_means_with_its_own_spread():
    rng = np.random.default_rng(0)
    minus = 0.5 + 0.1 * rng.random((8, 40))
    found = results.two_way_difference(values(1.2 * minus), values(minus), relative=True)
    assert found.value == pytest.approx(20) and not found.high - found.low > 1e-6 or np.isinf(found.high)
    noisy = results.two_way_difference(
        values(1.2 * minus + 0.05 * rng.random(minus.shape)), values(minus), True
    )
    exact = 100 * ((1.2 * minus.mean() + 0.025) / minus.mean() - 1)
    assert noisy.low < noisy.value < noisy.high and noisy.value == pytest.approx(exact, abs=0.5)


def test_every_variant_stands_against_mse(scored):
    table = results.differences_table(scored, ["L1"], ["cluttered digits"])
    assert table["metric"].tolist() == list(results.METRIC_LABELS) and (table["n"] == 2).all()
    expected = scored.groupby("method")["cc"].mean()
    assert table["difference"].iloc[0] == pytest.approx(expected["L1"] - expected["MSE"])


def test_spread_of_two_runs():
    rows = [("d", "MSE", seed, 0, cc) for seed, cc in enumerate((0.5, 0.4, 0.1))]
    scored = pd.DataFrame(rows, columns=["test", "method", "seed", "image", "cc"])
    spread = 100 * np.std([0.5, 0.4, 0.1], ddof=1) * np.sqrt(2) / np.mean([0.5, 0.4, 0.1])
    few = results.spread_of_two_runs(scored[scored["seed"] < 2], "d", "cc")
    assert few.value == pytest.approx(100 * 0.1 / 0.45) and np.isnan(few.low), "two runs have no interval"
    again = results.spread_of_two_runs(scored, "d", "cc")
    assert again.n == 3 and again.low < spread < again.high


def test_the_best_rival_is_the_highest():
    rows = [("d", name, NO_SEED, 0, cc) for name, cc in {"RC": 0.3, "FT": 0.4, "SR": 0.1}.items()]
    scored = pd.DataFrame(rows, columns=["test", "method", "seed", "image", "cc"])
    assert results.best_rival(scored, "d", "cc", ["RC", "FT", "SR"]) == "FT"
    assert results.best_rival(scored, "d", "cc", ["RC", "SR"]) == "RC"


# -------------------------------------------------------------------------------------------- single maps


def test_centre_gaussian_keeps_the_widths_about_the_centre():
    y, x = np.mgrid[:48, :48] - 23.5
    density = np.exp(-(x**2) / (2 * 6**2) - y**2 / (2 * 4**2))
    assert np.allclose(results.fitted_centre_gaussian(density), density, atol=2e-3)
    wide = results.fitted_centre_gaussian(density, 2)
    assert np.allclose(wide, density ** (1 / 4), atol=5e-3)


def test_the_prior_has_the_width_that_helps():
    y, x = np.mgrid[:48, :48] - 23.5
    noise = np.random.default_rng(0).random((20, 48, 48))
    narrow = np.exp(-(x**2 + y**2) / (2 * 5**2))
    found = results.centre_prior(noise, noise * narrow)
    others = [results.fitted_centre_gaussian((noise * narrow).mean(0), s) for s in results.PRIOR_WIDTHS]
    cc = [results.correlations(noise * prior, noise * narrow).mean() for prior in others]
    assert np.array_equal(found, others[int(np.argmax(cc))])


def test_entropy_of_known_maps():
    one, four = np.zeros((48, 48)), np.zeros((48, 48))
    one[3, 3] = 5
    four[:2, :2] = 0.1
    assert results.map_entropy(np.stack([one, four])) == pytest.approx([0, 2], abs=1e-6)


def test_nothing_of_the_constants_is_left():
    rng = np.random.default_rng(0)
    *constants, own = rng.random((3, 8, 8))
    maps = np.stack([3 * constants[0] - constants[1] + 1, constants[0] + own])
    left = results.beyond_constants(maps, constants)
    assert np.abs(left[0]).max() < 1e-9 and abs(left.mean()) < 1e-9
    for constant in constants:
        assert np.corrcoef(left[1].ravel(), constant.ravel())[0, 1] == pytest.approx(0, abs=1e-9)
    assert np.corrcoef(left[1].ravel(), own.ravel())[0, 1] > 0.9


def test_runs_share_their_worst_tenth_by_chance_or_wholly():
    first = np.arange(40.0)
    runs = pd.DataFrame([first, first, first[::-1]])
    assert results.shared_worst_tenth(runs.iloc[:2]) == 1
    assert results.shared_worst_tenth(runs) == pytest.approx(1 / 3)


def test_over_fitting_is_met_where_the_loss_rises_on_most_seeds():
    learned = Condition(True, "learned")
    assert results.over_fitted(np.array([1.0, 2, 1.5]), learned).met
    assert not results.over_fitted(np.array([1.0, -2, 0.5]), learned).met
    assert not results.over_fitted(np.array([1.0, 2, 1.5]), Condition(False, "")).met


def test_total_variation_of_a_ramp_and_a_checkerboard():
    ramp = np.broadcast_to(np.linspace(0, 1, 48), (48, 48))
    board = np.indices((48, 48)).sum(0) % 2
    flat = np.ones((48, 48))
    found = results.total_variation(np.stack([ramp, board, flat]).astype(float))
    assert found == pytest.approx([1 / 47 / 2, 1, 0])


def test_spots_above_half_of_the_peak_are_counted():
    two = np.zeros((48, 48))
    two[4:8, 4:8], two[30:33, 30:33], two[20, 20] = 1, 0.8, 0.4
    assert results.intense_spots(np.stack([two, np.ones((48, 48))])).tolist() == [2, 1]


def test_measures_of_single_maps_stand_by_method_seed_and_image():
    rng = np.random.default_rng(0)
    mean_map, maps = rng.random((48, 48)), rng.random((3, 48, 48))
    constant = np.broadcast_to(mean_map, maps.shape)
    constants = {"median map": rng.random((48, 48)), "mean map": mean_map}
    table = results.image_measures({("MSE", 4): maps, ("mean map", NO_SEED): constant}, "d", constants)
    of = {name: results.by_seed(table, "d", "MSE", name).loc[4].to_numpy() for name in table.columns[4:]}
    assert of["bias"] == pytest.approx(results.correlations(maps, mean_map))
    assert of["entropy"] == pytest.approx(results.map_entropy(maps))
    left = results.beyond_constants(maps, [*constants.values()])
    assert of["peak beyond constants"] == pytest.approx(left.max((1, 2)))
    blind = table[table["method"] == "mean map"]
    assert blind["bias"].to_numpy() == pytest.approx(1)
    assert blind["peak beyond constants"].to_numpy() == pytest.approx(0, abs=1e-9)


def test_agreement_is_the_mean_spearman_correlation():
    rng = np.random.default_rng(0)
    frame = values((rng.random((60, 3)) + np.linspace(0, 2, 60)[:, None]).T)
    pairs = ((0, 1), (0, 2), (1, 2))
    expected = np.mean([scipy_stats.spearmanr(frame.loc[a], frame.loc[b])[0] for a, b in pairs])
    found = results.agreement_of_runs(frame)
    assert found.value == pytest.approx(expected) and found.unit == "seeds x 60 images"
    assert found.low < expected < found.high <= 1
    with pytest.raises(ValueError, match="three seeds"):
        results.agreement_of_runs(frame.loc[[0, 1]])


def test_agreement_vanishes_given_what_causes_it():
    rng = np.random.default_rng(0)
    cause = rng.random(200)
    frame = values(cause + 0.2 * rng.random((6, 200)))
    alone, given = results.agreement_of_runs(frame), results.agreement_of_runs(frame, cause)
    assert alone.low > 0.8 and given.low < 0 < given.high
    own = results.agreement_of_runs(frame + 0.2 * rng.random(200), cause)
    assert own.low > 0.2, "what the runs share beyond the cause stays"


def test_worst_tenth_minus_rest():
    scored = values(np.arange(100.0))
    array = np.where(scored.to_numpy()[0] < 10, 3.0, 1.0) + np.tile([0.1, -0.1], 50)
    found = results.worst_tenth_minus_rest(values(array, [NO_SEED]), scored)
    assert found.value == pytest.approx(2) and 1.8 < found.low < 2 < found.high < 2.2
    welch = scipy_stats.ttest_ind(array[:10], array[10:], equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high), abs=0.04)
    seeds = results.worst_tenth_minus_rest(values(array + 0.1 * np.arange(6)[:, None] * (array > 2)), scored)
    assert seeds.n == 6 and seeds.high - seeds.low > found.high - found.low
    same = results.worst_tenth_minus_rest(values(np.ones(100), [NO_SEED]), scored)
    assert same.value == 0 and np.isnan(same.p)


def test_chosen_examples_follow_their_rule():
    cc = np.array([0.1, 0.9, 0.5, 0.4, 0.8, 0.2])
    others = np.array([0.1, 0.8, 0.1, 0.3, 0.5, 0.2])
    bias = np.array([0.9, 0.99, 0.3, 0.95, 0.1, 0.2])
    found = results.chosen_examples(cc, others, bias, each=2)
    found = {kind: numbers.tolist() for kind, numbers in found.items()}
    assert found == {"good": [2, 4], "centre-biased": [1, 3], "bad": [0, 5]}


# ---------------------------------------------------------------------------------------------- trainings


def history(train, validation, every=1, noted=2, **recipe):
    """A training whose every epoch noted ``noted`` equal losses, validated every ``every`` epochs."""
    epochs = np.arange(every, len(train) + 1, every)
    settings = replace(GAZE_RECIPES["stopped in time"], epochs=len(train), **recipe)
    losses = np.repeat(train, noted)
    seconds = np.ones(len(train))
    steps = np.arange(len(losses))
    return GazeTraining(None, None, settings, steps, losses, epochs, np.asarray(validation, float), seconds)


def test_validated_epochs_are_paired_with_their_own_training_losses():
    frame = results.loss_by_epoch(
        [history(np.arange(10, 0, -1.0), [7.0, 2.0], every=5)], {"MSE": {"mean map": 3.0}}
    )
    assert frame["epoch"].tolist() == [5, 10] and frame["train"].tolist() == [6, 1]
    assert frame["validation"].tolist() == [7, 2] and frame["mean map"].tolist() == [3, 3]


def test_constants_are_measured_in_every_networks_own_loss():
    rng = np.random.default_rng(0)
    pairs = GazePairs(np.zeros((6, 1, 1, 3), np.uint8), rng.random((6, 48, 48), dtype=np.float32))
    trained = [history([1.0], [1.0]), history([1.0], [1.0], loss="l1"), history([1.0], [1.0], loss="kl")]
    constants = {"mean map": pairs.targets.mean(0), "median map": np.median(pairs.targets, 0)}
    found = results.constant_losses(trained, constants, pairs)
    assert found["MSE"]["mean map"] == pytest.approx(pairs.targets.var(0).mean(), rel=1e-5)
    assert found["MSE"]["mean map"] < found["MSE"]["median map"]
    assert found["L1"]["median map"] < found["L1"]["mean map"]
    assert set(found) == {"MSE", "L1", GAZE_LOSSES["kl"].name}


@pytest.mark.parametrize(
    ("loss", "own", "others", "blind", "met"),
    [
        (0.9, 0.5, 0.4, 0.45, True),
        (1.05, 0.5, 0.4, 0.45, False),
        (0.9, 0.44, 0.4, 0.3, False),
        (1.2, 0.4, 0.4, 0.3, False),
        (0.9, 0.5, 0.4, 0.55, False),
    ],
)
def test_a_network_has_learned_below_constants_with_its_own_truth_and_beyond_maps_that_see_no_picture(
    loss, own, others, blind, met
):
    trained = [history([1.0, 1.0], [loss, 2.0], seed=seed) for seed in (0, 1)]
    levels = {"MSE": {"mean map": 1.0, "median map": 1.1}}
    rows = [("d", "MSE", seed, image, own, others) for seed in (0, 1) for image in (0, 1)]
    rows += [("d", "centre Gaussian", NO_SEED, image, blind, blind) for image in (0, 1)]
    scored = pd.DataFrame(rows, columns=["test", "method", "seed", "image", "cc", "others"])
    found = results.has_learned(["MSE"], trained, levels, scored, "d")
    assert found.met is met
    assert f"validation loss {loss:g} (mean map 1, median map 1.1)" in found.text


def test_over_fitting_starts_at_the_other_seeds_best_epoch():
    train = [1.0, 0.8, 0.6, 0.4]
    lucky = history(train, [1.0, 0.9, 0.5, 1.0], seed=0, loss="l1")
    rest = [history(train, [1.0, 0.8, 0.9, 1.2], seed=seed, loss="l1") for seed in (1, 2)]
    found = results.over_fitting([lucky, *rest])
    assert found.loc[0, "rise"] == pytest.approx(100 * (1.0 / 0.9 - 1)), "not from its own lowest, .5"
    assert found.loc[0, "fall"] == pytest.approx(50)
    assert found.loc[1, "rise"] == pytest.approx(100 * (1.2 / 0.9 - 1)), "the others' mean is lowest at 3"


def test_a_squared_error_rises_by_its_root():
    runs = [history([4.0, 1.0, 1.0], [4.0, 1.0, 2.25], seed=seed, loss="mse") for seed in (0, 1, 2)]
    found = results.over_fitting(runs)
    assert found["rise"].tolist() == pytest.approx([50] * 3) and found["fall"].tolist() == [0] * 3


def test_smoothing_keeps_a_constant_and_averages():
    assert np.allclose(results.smoothed(np.full(9, 2.0), 4), 2)
    assert results.smoothed(np.array([0.0, 3, 0, 3, 0]), 3)[2] == pytest.approx(2)
    assert results.smoothed(np.array([1.0, 3.0]), 5).shape == (2,)


def test_the_first_test_set_judges_and_mit1003_stands_beside_it(parts):
    tests = [replace(parts.tests[0], name=name) for name in ("osie mouse", "osie eye", "mit1003")]
    found = [(test.name, place) for test, place in results.judging_places(tests)]
    assert found == [("osie mouse", {}), ("mit1003", {"axis": "test set", "case": "mit1003"})]
    places = [(test.name, metric, *place.values()) for test, metric, place in results.metric_places(tests)]
    assert places[0] == ("osie mouse", "cc", "metric", "CC")
    assert places[4] == ("mit1003", "nss", "test set", "mit1003, NSS") and len(places) == 6
