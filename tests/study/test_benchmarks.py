"""The benchmarks on small things: what they time is what they say, and nothing of it is negative."""

import numpy as np
import pytest

from saliencylib import metrics
from saliencylib.study import benchmarks


def test_maps_are_read_back_faster_than_computed(own_cache):
    speeds = benchmarks.map_speed(count=48)
    assert speeds["read back"] > speeds["computed"] > 0


def test_the_published_loop_agrees_with_the_exact_area_within_its_sampling_error():
    rng = np.random.default_rng(5)
    map = rng.random((24, 32)) + np.linspace(0, 1, 32)
    y, x = rng.choice(np.argwhere(map > np.median(map)), 20).T
    loop = [benchmarks.published_auc_borji(map, x, y, 10, 0.1, rng) for _ in range(200)]
    error = np.std(loop) / np.sqrt(len(loop))
    assert abs(np.mean(loop) - metrics.auc_borji(map, x, y, None)) < 4 * error


def test_metrics_are_timed_against_the_loop():
    found = benchmarks.metric_speed(count=12, shape=(24, 32), splits=3, looped=2)
    assert found["times as fast"] == pytest.approx(found["published loop"] / found["seconds"])


def test_the_gaze_step_and_licnn_are_timed():
    step = benchmarks.gaze_step_speed(batch=4, repeats=1, width=0.1, hidden=64)
    assert step["minutes of the paper's training"] == pytest.approx(step["seconds"] * 157_000 / 60)
    found = benchmarks.licnn_speed(name="squeezenet1_1", count=2, size=64, repeats=2)
    assert found["ratio"] == pytest.approx(found["seconds"] / found["floor"]) and found["floor"] > 0


def test_an_unknown_benchmark_is_refused(capsys):
    with pytest.raises(SystemExit):
        benchmarks.main(["speed"])
    assert "invalid choice: 'speed'" in capsys.readouterr().err
