import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from saliencylib import figures, figures_sal_mask, profiles, sal_mask


@pytest.fixture
def log():
    rng = np.random.default_rng(0)
    index = [
        (n, m, s, e) for n in ("alexnet", "nin") for m in sal_mask.MASKS for s in (0, 1, 2) for e in (1, 2)
    ]
    frame = pd.DataFrame(index, columns=["network", "mask", "seed", "epoch"])
    return frame.assign(loss=1.0, accuracy=20 + rng.random(len(frame)))


def texts(figure):
    found = [figure.get_suptitle(), figure.get_supxlabel()]
    return " ".join(
        found + [part for axes in figure.axes for part in (axes.get_title("left"), axes.get_xlabel())]
    )


def test_figures_state_finding_n_seeds_and_data(log):
    gains = figures_sal_mask.figure_gains(sal_mask.gains_table(log), "somewhere")
    assert "of 4 masked networks are clearly better than plain" in texts(gains)
    curves = figures_sal_mask.figure_curves(log, "nin", "somewhere")
    assert (
        "seeds 0-2" in texts(curves) and "data: somewhere" in texts(curves) and "% of epochs" in texts(curves)
    )
    plt.close("all")


def test_a_shown_figure_is_saved_closed_and_described(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path))
    run = profiles.start("04_scoreboard", "quick", device="cpu")
    figure, axes = figures.new(2, 2)
    image = run.show(figure, "x", alt="an empty plot")
    assert (tmp_path / "quick/figures/04_x.png").read_bytes() == image.data
    assert not plt.get_fignums() and image._repr_png_()[1]["alt"] == "an empty plot"
    figure, axes = figures.new(2, 2)
    assert run.show(figure, "y", alt="a photograph", photographs=True).data[:2] == b"\xff\xd8"


def test_verdict_bars_count_what_holds():
    summary = pd.DataFrame({"paper": ["A", "B"], "holds": [2, 1], "undecided (embedded)": [1, 0]})
    figure = figures.verdict_bars(summary, "mini-short")
    assert figure.axes[0].get_title("left") == "3 of 4 claims hold in this run"
    hatched = [bar for bars in figure.axes[0].containers for bar in bars if bar.get_hatch()]
    assert [bar.get_width() for bar in hatched] == [1, 0]
    plt.close("all")
