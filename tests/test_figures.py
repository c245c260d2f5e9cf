import matplotlib.pyplot as plt
import pandas as pd

from saliencylib import figures
from saliencylib.study import session as profiles


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
