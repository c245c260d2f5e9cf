import sys

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from saliencylib.study import benchmarks
from saliencylib.licnn.method import method as licnn
from saliencylib import metrics
from saliencylib.sal_mask.experiment import network as models
from saliencylib.shallow_cnn.network import training as saliency_training
from saliencylib.shallow_cnn.network import shallow_saliency_cnn

CPU = torch.device("cpu")


def test_map_speeds_cover_every_method(own_cache):
    table = benchmarks.maps_per_second(count=48).set_index("method")
    assert list(table.index) == list(benchmarks.saliency.METHODS) and table.loc["alpha", "images"] == 12
    assert (table["computed"] > 0).all() and table.loc["alpha", "cached"] > 3 * table.loc["alpha", "computed"]


def test_training_cost_counts_the_arithmetic_of_a_run():
    """A forward pass of n multiplications-and-additions costs 2 n flop, a training step about three times."""
    table = benchmarks.training_cost(CPU, batch=2, side=32, repeats=1).set_index("network")
    assert list(table.index) == list(models.NETWORKS)
    rows = models.layer_table(models.alexnet(size=32), size=32)
    convolutions = rows.query("kind == 'Conv2d'")
    forward = 2 * (convolutions["parameters"] * convolutions["side"] ** 2).sum()
    images = 120 * (3 * 5000 + 8000)
    assert table.loc["alexnet", "petaflop"] == pytest.approx(forward * images / 1e15, rel=0.1)
    assert (table["ratio"] > 0).all()
    assert table.loc["nin", "run"] == pytest.approx(
        120 * (2500 * table.loc["nin", "step"] + 4000 * table.loc["nin", "test"])
    )


def test_metric_speed_counts_all_maps_and_does_without_pysaliency(monkeypatch):
    monkeypatch.setitem(sys.modules, "pysaliency.roc", None)
    table = benchmarks.metric_speed(count=12, shape=(24, 32), splits=3, plain_count=2).set_index("metric")
    assert list(table.index) == ["auc_borji", "auc_shuffled"] and (table["maps"] == 12).all()
    assert table["ratio"].tolist() == pytest.approx((table["plain"] / table["seconds"]).tolist())
    assert (table["plain"] > 0).all() and table["pysaliency"].isna().all()


@pytest.mark.parametrize("shuffled", [False, True])
def test_published_loop_and_metrics_agree_within_their_sampling_error(shuffled):
    rng = np.random.default_rng(5)
    map = benchmarks._smooth_maps(1, (24, 32))[0]
    high, low = (np.argwhere(part) for part in (map > np.median(map), map < np.quantile(map, 0.8)))
    y, x = rng.choice(high, 20).T
    v, u = rng.choice(low, 30).T
    others = [(u[:9], v[:9]), (u[9:], v[9:])]
    loop = [
        benchmarks._published_area(map, x, y, others if shuffled else None, 10, 0.1, rng) for _ in range(200)
    ]
    borji, shuffled_area = metrics.auc_borji(map, x, y, None), metrics.auc_shuffled(map, x, y, others, None)
    error = np.std(loop) / np.sqrt(len(loop))
    assert abs(np.mean(loop) - (shuffled_area if shuffled else borji)) < 4 * error
    assert abs(borji - shuffled_area) > 10 * error


def test_pysaliency_is_timed_on_the_area_that_the_splits_estimate():
    pytest.importorskip("pysaliency", reason="the extra `oracle` is not installed")
    rng = np.random.default_rng(5)
    map = benchmarks._smooth_maps(1, (24, 32))[0]
    x, y, u, v = (rng.integers(24, size=20) for _ in range(4))
    area = benchmarks._pysaliency_areas()
    assert area(map, x, y, None) == pytest.approx(metrics.auc_borji(map, x, y, None, None))
    expected = metrics.auc_shuffled(map, x, y, [(u, v)], None, None)
    assert area(map, x, y, [(u, v)]) == pytest.approx(expected)
    assert (benchmarks.metric_speed(12, (24, 32), 3, 2)["pysaliency"] > 0).all()


def test_shallow_step_cost_compares_a_step_with_its_parts():
    table = benchmarks.shallow_step_cost(CPU, batch=4, width=0.1, hidden=64, repeats=2).set_index("network")
    assert list(table.index) == ["exact", "short"] and (table > 0).all(axis=None)
    parts = table["floor"] + table["optimiser"]
    assert table["ratio"].tolist() == pytest.approx((table["step"] / parts).tolist())


def test_floor_has_the_arithmetic_of_a_step():
    """With a batch that the network takes in two parts."""
    network = shallow_saliency_cnn(hidden=64, width=0.1)
    layers = benchmarks._bare_layers(network, torch.rand(10, 3, 96, 96))
    with FlopCounterMode(display=False) as floor:
        for layer in layers:
            layer()
    images, targets = torch.zeros(10, 3, 96, 96, dtype=torch.uint8), torch.rand(10, 48, 48)
    optimiser = torch.optim.SGD(network.parameters(), 0.01)
    with FlopCounterMode(display=False) as step:
        saliency_training.training_step(network, optimiser, saliency_training.Recipe(), images, targets)
    assert floor.get_total_flops() == step.get_total_flops()


def test_floor_does_not_add_up_gradients():
    network = shallow_saliency_cnn(hidden=64, width=0.1)
    last = benchmarks._bare_layers(network, torch.rand(2, 3, 96, 96))[-1]
    last()
    once = network.output.weight.grad.clone()
    last()
    assert once.any() and torch.equal(network.output.weight.grad, once)


def test_licnn_is_timed_against_its_passes_and_the_released_way():
    table = benchmarks.licnn_cost(CPU, ("squeezenet1_1",), count=2, size=64, repeats=2)
    row = table.iloc[0]
    assert row["ratio"] == pytest.approx(row["seconds"] / row["floor"])
    assert row["times_faster"] == pytest.approx(row["released"] / row["seconds"])
    assert 0 < row["inhibition"] < 1 and row["images"] == 2


def test_the_released_way_costs_what_it_says():
    """Five times a forward pass, a backward pass with the gradients of all weights, and a masked pass."""
    model = benchmarks._classifier("squeezenet1_1", 64)
    images, explainer = torch.rand(2, 3, 64, 64), licnn.LICNN(model)
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        model(images)
    with FlopCounterMode(display=False) as released:
        benchmarks._released_way(explainer, images)
    with FlopCounterMode(display=False) as ours:
        explainer.saliency_maps(images)
    passes = released.get_total_flops() / forward.get_total_flops()
    assert 19 < passes < 21.01  # 1 + 5 * (1 + 2 + 1), but for the gradient of the image
    assert ours.get_total_flops() < 0.6 * released.get_total_flops()


def test_unknown_benchmark_is_refused(capsys):
    with pytest.raises(SystemExit):
        benchmarks.main(["speed"])
    assert "invalid choice: 'speed'" in capsys.readouterr().err
