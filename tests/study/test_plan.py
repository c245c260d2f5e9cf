import subprocess
import sys

import pytest

from saliencylib.data.registry import REGISTRY, DataSet
from saliencylib.places import ROOT
from saliencylib.study import plan, session
from saliencylib.study.settings import SETTINGS


def test_left_to_itself_it_takes_the_best_that_is_there(monkeypatch):
    names = plan.selected([])
    monkeypatch.setattr(DataSet, "present", lambda entry: True)
    without_gpu = plan.chosen(names, None, None, gpu=False)
    assert {(job.profile, job.schedule) for job in without_gpu} == {("quick", "short")}
    all_there = plan.chosen(names, None, None, gpu=True)
    assert {(job.profile, job.schedule) for job in all_there} == {("paper", "full")}
    alone = plan.chosen(["05_your_own_photograph"], None, None, gpu=True)
    assert [job.folder for job in alone] == ["quick"]
    of_paper_1 = plan.NEEDS["01_sal_mask"]["mini"]
    monkeypatch.setattr(DataSet, "present", lambda entry: entry.name in of_paper_1)
    mixed = plan.chosen(names, None, None, gpu=True)
    assert [job.profile for job in mixed] == ["mini", "quick", "quick", "mini", "quick", "mini", "quick"]
    without_data = ["04_scoreboard"] * 2 + ["05_your_own_photograph"] * 2
    assert [job.notebook for job in mixed][3:] == without_data


def test_a_claim_stands_for_the_notebook_that_measures_it():
    assert plan.selected(["SM-T1"]) == ["01_sal_mask"]
    assert plan.selected(["LI-F15b", "SC-X9"]) == ["02_shallow_saliency_cnn", "03_licnn"]
    assert plan.selected(["LI-X4", "03"]) == ["03_licnn"]
    for wrong in ("SM-T", "SM-T9", "SM", "XX-T1"):
        with pytest.raises(ValueError, match="no notebook is called"):
            plan.selected([wrong])


def test_asked_profile_and_schedule_win():
    (job,) = plan.chosen(plan.selected(["02"]), "mini", "short", gpu=True)
    assert (job.notebook, job.folder, job.why) == ("02_shallow_saliency_cnn", "mini-short", "as asked")
    assert plan.chosen(["03_licnn"], "quick", "full", gpu=True)[0].schedule == "short"


def test_every_plan_has_settings_minutes_and_known_data():
    for notebook in plan.NOTEBOOKS:
        assert set(SETTINGS[notebook]) == set(plan.MINUTES[notebook]) == set(plan.RUNS)
    assert {name for sets in plan.NEEDS.values() for names in sets.values() for name in names} <= set(
        REGISTRY
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--profile", "large"], "'quick', 'mini', 'paper'"),
        (["--schedule", "long"], "'short', 'full'"),
        (["--only", "07"], "01_sal_mask"),
        (["--quick"], "unrecognized arguments: --quick; valid options: -h --help --profile"),
    ],
)
def test_unknown_options_are_refused_with_the_valid_ones_and_without_any_package(arguments, named):
    """-S -I leave Python without site-packages: the check must work before anything is installed."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    code = f"{start}; from saliencylib.study import plan; plan.main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 2 and named in done.stderr


def test_unknown_profile_or_notebook_in_a_notebook_is_named():
    with pytest.raises(ValueError, match="quick, mini, paper"):
        session.start("01_sal_mask", "large")
    with pytest.raises(ValueError, match="01_sal_mask"):
        session.start("01", "quick")
    with pytest.raises(ValueError, match="auto, cpu or cuda"):
        session.start("01_sal_mask", "quick", device="cuda:99")
