"""Two runs side by side."""

import pandas as pd
import pytest

from saliencylib import stats
from saliencylib.study import claims, compare

ROWS = {
    "SM-D1": (stats.Estimate(1.0, 0.5, 1.5, 6, 0.01), stats.Estimate(4.0, 3.6, 4.4, 6, 0.01)),
    "SM-D2": (stats.Estimate(1.0, 0.5, 1.5, 6, 0.01), stats.Estimate(0.9, -0.1, 1.9, 6, 0.07)),
    "SM-E1": (stats.exact(True), stats.exact(True)),
}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path))
    for side, data in enumerate(("tinyimagenet10", "stl10")):
        rows = []
        for name, pair in ROWS.items():
            met = None if name == "SM-E1" else claims.Condition(True, "learned")
            rows += claims.measured_rows(name, pair[side], data, "real", condition=met)
        folder = tmp_path / f"run-{side}" / "tables"
        folder.mkdir(parents=True)
        pd.DataFrame(rows).to_csv(folder / "01_claims.csv", index=False)
    return sorted(tmp_path.iterdir())


def test_differences_are_counted_in_intervals(folders):
    table = compare.differences(*folders).set_index("id")
    assert list(table.index) == list(ROWS)
    assert table.loc["SM-D1", "difference"] == pytest.approx(3)
    assert table.loc["SM-D1", "intervals"] == pytest.approx(3 / (0.5**2 + 0.4**2) ** 0.5)
    assert table["changed"].to_dict() == {"SM-D1": False, "SM-D2": True, "SM-E1": False}
    assert table.loc["SM-D2", "verdict_second"] == "undecided"
    assert pd.isna(table.loc["SM-E1", "intervals"]) and table.loc["SM-E1", "first"] == "passed"
    assert table.loc["SM-D1", "data"] == "tinyimagenet10 | stl10"


def test_command_names_runs_and_prints_what_differs(folders, capsys):
    assert compare.main(["run-0", str(folders[1])]) == 0
    printed = capsys.readouterr().out
    assert "1 verdicts differ" in printed and "1 values differ by more" in printed and "SM-E1" not in printed
    assert compare.main(["run-0", "run-7"]) == 2
    assert "runs: run-0, run-1" in capsys.readouterr().err
    assert compare.main(["run-0"]) == 2
