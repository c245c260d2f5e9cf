import os
import subprocess
import sys
import time

import pytest

from saliencylib.data import states
from saliencylib.data.registry import REGISTRY
from saliencylib.data.states import State
from saliencylib.places import ROOT
from saliencylib.study import plan, session
from saliencylib.study.settings import SETTINGS


def test_left_to_itself_it_takes_the_best_that_is_there(monkeypatch):
    names = plan.selected([])
    monkeypatch.setattr(plan, "lacking", lambda names: {})
    without_gpu = plan.chosen(names, None, None, gpu=False)
    assert {(job.profile, job.schedule) for job in without_gpu} == {("quick", "short")}
    all_there = plan.chosen(names, None, None, gpu=True)
    assert {(job.profile, job.schedule) for job in all_there} == {("paper", "full")}
    alone = plan.chosen(["05_your_own_photograph"], None, None, gpu=True)
    assert [job.folder for job in alone] == ["quick"]
    of_paper_1 = plan.NEEDS["01_sal_mask"]["mini"]
    absent = State("absent")
    monkeypatch.setattr(
        plan, "lacking", lambda names: {name: absent for name in names if name not in of_paper_1}
    )
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


def test_only_may_be_given_more_than_once():
    options = plan.parser().parse_args(["--only", "01", "--only", "02", "SM-T1"])
    assert options.only == ["01", "02", "SM-T1"] and plan.parser().parse_args([]).only == []


@pytest.mark.parametrize("name", ["meta", "cuda:", "cuda:-1", "cuda:999", "cpu:1", "CPU", "cuda\n", "xla"])
def test_other_devices_are_refused_by_the_options_and_in_a_notebook(name):
    with pytest.raises(ValueError, match="auto, cpu or cuda"):
        session.start("01_sal_mask", "quick", device=name)
    with pytest.raises(SystemExit):
        plan.main(["--only", "05", "--device", name])


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
        (["--only", ""], "no notebook is called ''"),
        (["--device", "mps"], "not run on device 'mps'; use auto, cpu or cuda"),
        (["--device", ""], "not run on device ''; use auto, cpu or cuda"),
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


def refused_plan(root, *arguments: str) -> tuple[str, float]:
    """What ./run_all.sh says, with an empty results folder and a Python that has no packages; seconds."""
    settings = os.environ | {"SALIENCY_DATA": str(root), "SALIENCY_RESULTS": str(root / "results")}
    started = time.monotonic()
    done = subprocess.run(
        [str(ROOT / "run_all.sh"), *arguments], env=settings, capture_output=True, text=True, timeout=30
    )
    seconds = time.monotonic() - started
    assert done.returncode == 2 and done.stdout == "" and not (root / "results").exists()
    return done.stderr, seconds


@pytest.mark.parametrize("arguments", [["--profile", "mini"], ["--profile", "mini", "--only", "SM-D1"]])
def test_a_run_without_its_data_is_refused_at_once(tmp_path, arguments):
    """Before anything is set up: names, sizes, the command, and no scoreboard."""
    text, seconds = refused_plan(tmp_path, *arguments)
    assert seconds < 2
    known = REGISTRY["tinyimagenet10"]
    sizes = f"{known.download_size / 1e6:,.0f} MB to download, {known.size / 1e6:,.0f} MB on disk"
    assert f"tinyimagenet10          absent    {sizes}" in text
    assert ("  mit1003 " in text) == ("--only" not in arguments) and "salicon_val_recovered" not in text
    assert "./run_all.sh data " in text and " --accept-terms brings them (" in text and "Score" not in text


def test_a_data_root_without_rights_is_named(monkeypatch, capsys):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(states.Path, "exists", refuse)
    assert plan.main(["--profile", "mini", "--only", "01", "--device", "cpu"]) == 2
    assert "could not be read (Permission denied); change its rights" in capsys.readouterr().err


def test_partial_sets_are_refused(tmp_path):
    for number in range(1810):
        path = tmp_path / f"imagenet_val_50000/n01440764/{number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "stl10_binary").mkdir()
    (tmp_path / "stl10_binary/train_X.bin").write_bytes(b"161 images")
    text, _ = refused_plan(tmp_path, "--profile", "paper")
    assert "1,810 of 50,000 files" in text and "is truncated: it has 10 bytes, expected 138,240,000" in text
    assert (
        "salicon_2015_fixations  absent    by hand" in text
        and "accept the terms at http://salicon.net" in text
    )
    assert "./run_all.sh data stl10 osie imagenet_val imagenet_a nips2017_dev vgg16" in text


def test_with_download_only_what_nobody_can_fetch_refuses(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path))
    jobs = plan.chosen(plan.selected(["01", "03"]), "mini", "short", gpu=False)
    assert "mit1003" not in plan.needed(jobs) and "nips2017_dev" in plan.refusal(jobs, download=False)
    assert plan.refusal(jobs, download=True) == ""
    papers = plan.chosen(plan.selected(["03"]), "paper", "short", gpu=False)
    text = plan.refusal(papers, download=True)
    assert "imagenet_val_50000" in text and "imagenet_a" not in text
    assert plan.refusal(plan.chosen(plan.selected([]), "quick", None, gpu=False), download=False) == ""


def test_unknown_profile_or_notebook_in_a_notebook_is_named():
    with pytest.raises(ValueError, match="quick, mini, paper"):
        session.start("01_sal_mask", "large")
    with pytest.raises(ValueError, match="01_sal_mask"):
        session.start("01", "quick")
    with pytest.raises(ValueError, match="auto, cpu or cuda"):
        session.start("01_sal_mask", "quick", device="cuda:99")
    for seed in (-1, 2**32):
        with pytest.raises(ValueError, match="first_seed must be a whole number of at least 0"):
            session.start("01_sal_mask", "quick", device="cpu", first_seed=seed)
