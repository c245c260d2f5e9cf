import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from saliencylib import figures
from saliencylib.study.session import start


@pytest.fixture(autouse=True)
def closed():
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture
def table():
    rows = [(n, m, v, v - 1, v + 1) for n in ("one", "two") for m, v in (("a", 1.0), ("b", -2.0))]
    frame = pd.DataFrame(rows, columns=["network", "mask", "points", "low", "high"])
    frame.loc[3, ["low", "high"]] = -np.inf, np.inf
    return frame


def test_a_shown_figure_is_saved_closed_and_described(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path))
    run = start("04_scoreboard", "quick", device="cpu")
    figure, axes = figures.new(2, 2)
    image = run.show(figure, "x", alt="an empty plot")
    assert (tmp_path / "quick/figures/04_x.png").read_bytes() == image.data
    assert not plt.get_fignums() and image._repr_png_()[1]["alt"] == "an empty plot"
    figure, axes = figures.new(2, 2)
    assert run.show(figure, "y", alt="a photograph", photographs=True).data[:2] == b"\xff\xd8"


def test_a_forest_has_a_panel_a_network_a_line_a_mask_and_a_colour_a_kind(table):
    figure = figures.forest(table, "points", "mask", "gain", "title", "below", panels="network")
    assert [axes.get_title("left") for axes in figure.axes] == ["one", "two"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]
    first, second = figure.axes[0].get_ylim()
    assert first > second, "the first row is on top"
    spans = [bar.get_segments() for axes in figure.axes for bar in axes.collections]
    assert spans[0][0][:, 0].tolist() == [0, 2] and spans[1][1][:, 0].tolist() == [-2, -2]
    assert (figure._suptitle.get_text(), figure._supxlabel.get_text()) == ("title", "below")
    coloured = figures.forest(table, "points", "mask", "gain", "", "", colours="network", zero=None)
    assert [text.get_text() for text in coloured.legends[0].get_texts()] == ["one", "two"]
    places = [line.get_ydata()[0] for line in coloured.axes[0].lines]
    assert places == [-0.125, 0.125]


def test_lines_have_bands_where_intervals_are_known(table):
    table["x"] = [0, 1, 0, 1]
    figure = figures.lines(table, "x", "points", "network", "x", "y", "title", "below")
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    assert [line.get_ydata().tolist() for line in drawn] == [[1, -2], [1, -2]]
    assert len(figure.axes[0].collections) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]


def test_pairs_are_joined_row_by_row():
    figure = figures.paired(pd.DataFrame({"MSE": [1, 2], "L1": [0, 3]}), "loss", "bias", "title", "below")
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[1, 0], [2, 3], [1, 2], [0, 3]]


def test_a_grid_names_rows_and_columns_and_shares_its_scale():
    maps = [[np.zeros((2, 2)), np.ones((2, 2))], [np.eye(2)]]
    figure = figures.grid(maps, ["first", "second"], ["a", "b"], "title", "below", limits=(0, 1))
    assert [axes.get_title() for axes in figure.axes[:2]] == ["a", "b"]
    assert {axes.images[0].get_clim() for axes in figure.axes if axes.images} == {(0, 1)}


def test_verdict_bars_count_what_holds():
    summary = pd.DataFrame({"paper": ["A", "B"], "holds": [2, 1], "undecided (embedded)": [1, 0]})
    figure = figures.verdict_bars(summary, "mini-short")
    title = "3 claims hold and 0 do not; 1 others are open, or not for these data to decide"
    assert figure._suptitle.get_text() == title
    hatched = [bar for bars in figure.axes[0].containers for bar in bars if bar.get_hatch()]
    assert [bar.get_width() for bar in hatched] == [1, 0]


@pytest.mark.parametrize("map_shape", [(30, 40), (6, 8)])
def test_a_map_is_laid_over_its_photograph(map_shape):
    values = np.zeros(map_shape)
    values[: map_shape[0] // 2] = 3
    for photograph in (np.zeros((30, 40, 3), np.uint8), np.zeros((30, 40)), Image.new("P", (40, 30))):
        figure = figures.show(torch.from_numpy(values), photograph, "its title")
        under, over = figure.axes[0].images
        assert under.get_array().shape == over.get_array().shape == (30, 40)
        assert np.allclose(over.get_array()[2], 3) and np.allclose(over.get_array()[-3], 0)
        assert figure.axes[0].get_title() == "its title" and len(figure.axes) == 2
        assert over.colorbar is not None and over.get_alpha() == 0.5


def test_what_is_no_map_or_photograph_is_not_shown():
    photograph = np.zeros((4, 5, 3))
    for wrong, message in (
        (lambda: figures.show(np.full((4, 5), np.nan), photograph), "NaN"),
        (lambda: figures.show(np.zeros((1, 4, 5)), photograph), "two dimensions"),
        (lambda: figures.show(np.zeros((4, 5)), 255 + photograph), r"lie in \[0, 1\]"),
        (lambda: figures.show(np.zeros((4, 5)), photograph, opacity=2), "opacity"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
    assert not plt.get_fignums()


def test_a_map_of_a_cut_picture_over_the_whole_one_is_told():
    with pytest.warns(UserWarning, match="belongs over the cut"):
        figures.show(np.eye(8), np.zeros((20, 30, 3)))
