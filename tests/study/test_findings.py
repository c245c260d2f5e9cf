"""What holds, in plain words: the sentences follow the verdicts and hold the measured numbers."""

import tomllib
from pathlib import Path

import pandas as pd
import pytest

from saliencylib import stats
from saliencylib.places import ROOT
from saliencylib.study import claims, findings
from saliencylib.study.plan import NOTEBOOK_OF

TEXTS = tomllib.loads(Path(findings.__file__).with_suffix(".toml").read_text("utf-8"))


def written(folder, estimate, nulls=None):
    """A run folder in which SC-X6 was measured."""
    met = claims.Condition(True, "learned")
    rows = claims.measured_rows("SC-X6", estimate, "pictures", "real", nulls=nulls, condition=met)
    (folder / "tables").mkdir()
    pd.DataFrame(rows).to_csv(folder / "tables" / "02_claims.csv", index=False)
    return findings.findings(folder)["Shallow CNN"].sentences[2]


def estimate(value, half=0.1):
    return stats.Estimate(value, value - half, value + half, 40, 0.001, "images")


def test_a_number_is_written_with_its_interval_and_a_loss_without_its_sign():
    lost = findings.Measured(-18.14, -20.56, -15.72)
    assert f"{lost:.0f}" == "-18 [-21, -16]" and f"{lost.size:.0f}" == "18 [16, 21]"
    assert f"{findings.Measured(0.3, -0.004, 0.6):.1f}" == "0.3 [0.0, 0.6]"


def test_another_verdict_is_another_sentence(tmp_path):
    wide, fails = estimate(0.38), {"mean map": (estimate(-0.2), estimate(0.58))}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert written(tmp_path / "a", wide, fails).startswith("Predictions are wider than the truth, by 0.38 [")
    passes = {"mean map": (estimate(0.57), estimate(-0.19))}
    told = written(tmp_path / "b", wide, passes)
    assert "says nothing about the network" in told and "0.57 [0.47, 0.67] against 0.38" in told


def test_a_verdict_without_a_sentence_is_told_by_its_claim(tmp_path):
    few = stats.Estimate(0.4, 0.3, 0.5, 3, 0.001, "images")
    assert (
        written(tmp_path, few, {"mean map": (few, few)})
        == "predictions are wider than the truth: not judged."
    )


@pytest.mark.parametrize("paper", NOTEBOOK_OF)
def test_the_reported_run_has_three_sentences_of_its_own_and_a_figure(paper):
    folder = ROOT / "results" / "mini-short"
    found = findings.findings(folder)[paper]
    assert len(found.sentences) == 3 and (folder / "figures" / found.figure).is_file() and found.shows
    judged = claims.verdicts(folder).set_index("id")["verdict"].map(claims.counted_as)
    assert all(judged[text["claim"]] in text for text in TEXTS[paper]["finding"])
