import subprocess
import sys

import pytest

from saliencylib import data
from saliencylib.study import plan, session as profiles


def test_left_to_itself_it_takes_the_best_that_is_there():
    names = plan.selected([])
    nothing = plan.chosen(names, None, None, gpu=False, has=lambda name: True)
    assert {(job.profile, job.schedule) for job in nothing} == {("quick", "short")}
    all_there = plan.chosen(names, None, None, gpu=True, has=lambda name: True)
    assert {(job.profile, job.schedule) for job in all_there} == {("paper", "full")}
    of_paper_1 = plan.NEEDS["01_sal_mask"]["mini"]
    mixed = plan.chosen(names, None, None, gpu=True, has=lambda name: name in of_paper_1)
    assert [job.profile for job in mixed] == ["mini", "quick", "quick", "mini", "quick", "mini", "quick"]
    without_data = ["04_scoreboard"] * 2 + ["05_your_own_photograph"] * 2
    assert [job.notebook for job in mixed][3:] == without_data
    alone = plan.chosen(["05_your_own_photograph"], None, None, gpu=True, has=lambda name: True)
    assert [job.folder for job in alone] == ["quick"]


def test_a_claim_stands_for_the_notebook_that_measures_it():
    assert plan.selected(["SM-T1"]) == ["01_sal_mask"]
    assert plan.selected(["LI-F15b", "SC-X9"]) == ["02_shallow_saliency_cnn", "03_licnn"]
    assert plan.selected(["LI-X4", "03"]) == ["03_licnn"]
    for wrong in ("SM-T", "SM-T9", "SM", "XX-T1"):
        with pytest.raises(ValueError, match="no notebook is called"):
            plan.selected([wrong])


def test_asked_profile_and_schedule_win():
    jobs = plan.chosen(plan.selected(["02"]), "mini", "short", gpu=True, has=lambda name: False)
    assert [(job.notebook, job.folder, job.why) for job in jobs] == [
        ("02_shallow_saliency_cnn", "mini-short", "as asked")
    ]
    assert plan.chosen(["03_licnn"], "quick", "full", True, lambda name: True)[0].schedule == "short"


def test_every_plan_has_settings_minutes_and_marks():
    for notebook in plan.NOTEBOOKS:
        for profile in plan.PROFILES:
            for schedule in plan.SCHEDULES:
                folder = plan.folder_name(profile, schedule)
                assert folder in profiles.SETTINGS[notebook], (notebook, folder)
                assert plan.MINUTES[notebook][folder] > 0
    needed = {name for sets in plan.NEEDS.values() for names in sets.values() for name in names}
    assert needed == set(plan.MARKS) and needed <= set(data.REGISTRY)


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
    """-S -E -I leave Python without site-packages: the check must work before anything is installed."""
    start = f"import sys; sys.path.insert(0, {str(plan.ROOT)!r})"
    code = f"{start}; from saliencylib import plan; plan.main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 2 and named in done.stderr


def test_unknown_profile_or_notebook_in_a_notebook_is_named():
    with pytest.raises(ValueError, match="quick, mini, paper"):
        profiles.start("01_sal_mask", "large")
    with pytest.raises(ValueError, match="01_sal_mask"):
        profiles.start("01", "quick")
    with pytest.raises(ValueError, match="auto, cpu or cuda"):
        profiles.start("01_sal_mask", "quick", device="cuda:99")
