"""What holds, in plain words: the sentences follow the verdicts and hold the measured numbers."""

import tomllib
from pathlib import Path

import pandas as pd
import pytest

from saliencylib import stats
from saliencylib.places import ROOT
from saliencylib.study import claims, findings
from saliencylib.study.plan import NOTEBOOK_OF
from saliencylib.study.settings import SETTINGS

TEXTS = tomllib.loads(Path(findings.__file__).with_suffix(".toml").read_text("utf-8"))


def written(folder, estimate, nulls=None):
    """A run folder in which SC-X6 was measured."""
    met = claims.Condition(True, "learned")
    rows = claims.measured_rows("SC-X6", estimate, "pictures", "real", nulls=nulls, condition=met)
    (folder / "tables").mkdir()
    pd.DataFrame(rows).to_csv(folder / "tables" / "02_claims.csv", index=False)
    return findings.findings(folder)["Shallow CNN"].sentences[-1]


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
    assert "says nothing about the network" in told and "0.57 [0.47, 0.67] bits of entropy against" in told


def test_a_sentence_may_be_of_one_axis():
    row = pd.Series({"verdict": "depends on the preset", "statement": "it holds"})
    texts = {"claim": "LI-X8", "depends": "on something", "depends on the classifier": "on the network"}
    assert findings._sentence(texts, row, {}) == "on something"
    row["verdict"] = "depends on the classifier"
    assert findings._sentence(texts, row, {}) == "on the network"


def test_of_several_sentences_the_first_counts_whose_numbers_were_measured():
    row = pd.Series({"verdict": "holds", "statement": "it holds"})
    numbers = {"A": findings.Measured(1.0, 0.5, 1.5)}
    texts = {"claim": "A", "holds": ["with B {B:.0f}", "with A {A.value:.0f}"]}
    assert findings._sentence(texts, row, numbers) == "with A 1"
    with pytest.raises(ValueError, match="the finding of A lacks 'B'"):
        findings._sentence(texts | {"holds": ["with B {B:.0f}"]}, row, numbers)


def test_a_verdict_without_a_sentence_is_told_by_its_claim(tmp_path):
    few = stats.Estimate(0.4, 0.3, 0.5, 3, 0.001, "images")
    assert (
        written(tmp_path, few, {"mean map": (few, few)})
        == "predictions are wider than the truth: not judged."
    )


def test_the_scale_of_a_run_is_told_from_its_settings_and_measurements(tmp_path):
    met = claims.Condition(True, "learned")
    rows = []
    for claim in ("SM-D1", "SM-D2", "SM-X8a", "SM-X8b", "SM-X8c", "SM-X8d", "SM-T1a", "SM-T2a"):
        rows += claims.measured_rows(claim, estimate(4.0), "pebbles", "real", condition=met)
    for name in ("mini-short", "own"):
        (tmp_path / name / "tables").mkdir(parents=True)
        pd.DataFrame(rows).to_csv(tmp_path / name / "tables" / "01_claims.csv", index=False)
    scale = findings.findings(tmp_path / "mini-short")["Sal-Mask"].scale
    images = SETTINGS["01_sal_mask"]["mini-short"]["train_per_class"]
    assert f"classes of pebbles, {images} training images" in scale and "name 4 % (AlexNet)" in scale
    assert findings.findings(tmp_path / "own")["Sal-Mask"].scale == "", "its settings are not known"


@pytest.mark.parametrize("paper", NOTEBOOK_OF)
def test_the_reported_run_has_a_few_sentences_of_its_own_and_a_figure(paper):
    folder = ROOT / "results" / "mini-short"
    found = findings.findings(folder)[paper]
    assert 3 <= len(found.sentences) <= 4 and (folder / "figures" / found.figure).is_file() and found.shows
    judged = claims.verdicts(folder).set_index("id")["verdict"]
    for text in TEXTS[paper]["finding"]:
        verdict = judged[text["claim"]]
        assert verdict in text or claims.counted_as(verdict) in text
