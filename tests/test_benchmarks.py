import pytest
import torch

from saliencylib import benchmarks, models

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


def test_unknown_benchmark_is_refused(capsys):
    with pytest.raises(SystemExit):
        benchmarks.main(["speed"])
    assert "invalid choice: 'speed'" in capsys.readouterr().err
