import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.exceptions import PapermillExecutionError
from PIL import Image

from saliencylib import stats
from saliencylib.data.registry import REGISTRY
from saliencylib.data.states import State
from saliencylib.lock import alone_in
from saliencylib.photograph.reading import folder_name, photograph
from saliencylib.places import ROOT
from saliencylib.study import claims, plan, run

PARAMETERS = 'profile = "quick"\nschedule = "short"\ndevice = "auto"\nfirst_seed = 0'
GOOD = """from saliencylib import stats
from saliencylib.study import start
run = start("{name}", profile, schedule, device, first_seed)
run.measure("{claim}", stats.exact(True), "nothing", "embedded")
run.verdicts()"""
MEASURED = {"01_sal_mask": "SM-E1", "02_shallow_saliency_cnn": "SC-A1", "03_licnn": "LI-E1"}


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """Small notebooks in place of the study's, results in a folder of their own."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(run, "NOTEBOOK_FOLDER", folder)
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SALIENCY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # kernels take this checkout, wherever another is installed
    for name, claim in MEASURED.items():
        write(folder, name, GOOD.format(name=name, claim=claim))
    for name in ("04_scoreboard", "05_your_own_photograph"):
        write(folder, name, "print(profile)")
    return folder


@pytest.fixture
def copied(notebooks, tmp_path, monkeypatch):
    """As ``notebooks``, but copied instead of executed; those named in the set that this gives fail."""
    failing = set()

    def execute(source, target, **options):
        name = Path(source).stem
        shutil.copy(source, target)
        if name in failing:
            raise PapermillExecutionError(0, 1, name, "Error", "the cause", [])
        if name in MEASURED:
            rows = claims.measured_rows(MEASURED[name], stats.exact(True), "nothing", "embedded")
            path = Path(target).parents[1] / "tables" / f"{name[:2]}_claims.csv"
            pd.DataFrame(rows, columns=claims.MEASURED_COLUMNS).to_csv(path, index=False)

    monkeypatch.setattr(run.papermill, "execute_notebook", execute)
    monkeypatch.setattr(run, "notebook_fingerprint", lambda *about: str(about))
    monkeypatch.setattr(run, "_commit", lambda: "abc")
    return failing


def write(folder, name, code, declared=PARAMETERS):
    parameters = new_code_cell(declared, metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [parameters, new_markdown_cell("## The result"), new_code_cell(code)]
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")


def call(*arguments):
    return run.main(["--profile", "quick", "--device", "cpu", *arguments])


def test_runs_everything_then_skips_what_is_finished_until_its_code_changes(notebooks, tmp_path, capfd):
    assert call() == 0
    printed = capfd.readouterr().out
    nothing, holds = printed.splitlines()[-2:]
    assert "says nothing about the papers" in nothing and "Scoreboard" not in printed
    assert os.path.relpath(ROOT / "REPORT.md") in holds and "results/mini-short/notebooks" in holds
    assert call() == 0
    assert capfd.readouterr().out.count("finished before") == 5
    write(notebooks, "02_shallow_saliency_cnn", "print('new')\n" + GOOD.format(
        name="02_shallow_saliency_cnn", claim="SC-A1"))  # fmt: skip
    assert call("--only", "01", "02") == 0
    printed = capfd.readouterr().out
    assert "01_sal_mask (quick): finished before" in printed
    assert "02_shallow_saliency_cnn (quick): done" in printed
    executed = nbformat.read(tmp_path / "results/quick/notebooks/01_sal_mask.ipynb", as_version=4)
    assert "papermill" not in executed.metadata
    assert claims.measuring_sections(executed) == {"SM-E1": "The result"}
    record = json.loads((tmp_path / "results/quick/provenance.json").read_text())["01_sal_mask"]
    assert record["parameters"]["profile"] == "quick" and record["versions"]["torch"]


def test_a_failing_notebook_does_not_stop_the_others_and_is_named_last(notebooks, capfd):
    write(notebooks, "01_sal_mask", "raise RuntimeError('the cause')")
    assert call("--only", "01", "02") == 1
    captured = capfd.readouterr()
    assert "02_shallow_saliency_cnn (quick): done" in captured.out
    last = captured.err.strip().splitlines()[-1]
    assert "01_sal_mask, cell" in last and "RuntimeError: the cause" in last
    assert call("--only", "02") == 0


def test_another_parameter_runs_again_and_unknown_ones_are_refused(notebooks, capfd):
    assert call("--only", "01", "-p", "first_seed", "3") == 0
    assert call("--only", "01") == 0
    assert "finished before" not in capfd.readouterr().out
    for name in ("seed", "profile"):
        assert call("--only", "01", "-p", name, "3") == 2
        assert "valid parameters: first_seed" in capfd.readouterr().err
    assert call("--only", "01", "-p", "first_seed", "many") == 2
    assert "must be of type int" in capfd.readouterr().err


def test_a_lost_output_is_noticed(notebooks, tmp_path, capfd):
    assert call("--only", "01") == 0
    (tmp_path / "results/quick/tables/01_claims.csv").unlink()
    assert call("--only", "01") == 0
    assert "finished before" not in capfd.readouterr().out


def test_a_results_folder_that_cannot_be_written_is_named(notebooks, tmp_path, monkeypatch, capfd):
    blocker = tmp_path / "results"
    blocker.write_text("a file, not a folder")
    assert call("--only", "01") == 2
    assert "cannot be written" in capfd.readouterr().err
    assert blocker.read_text() == "a file, not a folder"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_fails_the_notebook_with_its_reason(notebooks, tmp_path, capfd):
    """A table that cannot be written: the cell fails, the run names it and leaves no half-written file."""
    code = GOOD.format(name="01_sal_mask", claim="SM-E1").replace(
        "run.verdicts()",
        "from saliencylib.study import keep\n"
        "def full(path):\n"
        "    path.symlink_to('/dev/full')\n"
        "    path.write_text('x')\n"
        "keep.write(run.folder / 'tables' / '01_x.csv', full)",
    )
    write(notebooks, "01_sal_mask", code)
    assert call("--only", "01") == 1
    assert "No space left on device" in capfd.readouterr().err
    assert not list((tmp_path / "results/quick/tables").glob("*x.csv"))


def test_fresh_forgets_the_cache_and_what_is_kept_with_the_results(notebooks, tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_FRESH", "")
    (tmp_path / "cache" / "maps").mkdir(parents=True)
    write(notebooks, "01_sal_mask", "import os\nassert os.environ['SALIENCY_FRESH']")
    assert call("--only", "01", "--fresh") == 0
    assert not (tmp_path / "cache" / "maps").exists()


def test_fingerprint_changes_with_data_parameters_and_settings(monkeypatch):
    job = plan.Job("01_sal_mask", "mini", "short", "")
    monkeypatch.setattr(run, "fingerprint", lambda name: "one")
    first = run.notebook_fingerprint(job, {"first_seed": 0})
    assert run.notebook_fingerprint(job, {"first_seed": 0}) == first
    assert run.notebook_fingerprint(job, {"first_seed": 1}) != first
    with monkeypatch.context() as patched:
        patched.setitem(run.SETTINGS["03_licnn"], "mini-short", {})
        assert run.notebook_fingerprint(job, {"first_seed": 0}) == first, "another notebook's settings"
        patched.setitem(run.SETTINGS["01_sal_mask"], "mini-short", {})
        assert run.notebook_fingerprint(job, {"first_seed": 0}) != first
    monkeypatch.setattr(run, "fingerprint", lambda name: "two")
    assert run.notebook_fingerprint(job, {"first_seed": 0}) != first


def test_report_of_an_empty_folder_says_so(tmp_path, capsys):
    run.report_run(tmp_path, plan.NOTEBOOKS)
    assert "so there is no scoreboard" in capsys.readouterr().out


def test_download_fetches_what_is_missing_and_the_classifiers_weights_only_when_asked(
    notebooks, tmp_path, monkeypatch, capfd
):
    fetched = []
    here = {"imagenet_val_50000"}

    def obtain(names):
        fetched.extend(names)
        here.update(names)
        return {}

    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path))
    for module in (run, plan):
        monkeypatch.setattr(
            module, "lacking", lambda names: {n: State("absent") for n in names if n not in here}
        )
    monkeypatch.setattr(run, "obtain", obtain)
    monkeypatch.setattr(run, "load_classifier", lambda name, download: fetched.append((name, download)))
    paper = ["--profile", "paper", "--schedule", "short", "--device", "cpu", "--only", "03"]
    assert run.main(paper) == 2 and fetched == []
    assert "./run_all.sh data osie imagenet_val imagenet_a nips2017_dev vgg16" in capfd.readouterr().err
    run.main([*paper, "--download"])
    sets = ["osie", "imagenet_val", "imagenet_a", "nips2017_dev", "vgg16"]
    assert fetched == [*sets, ("vgg16", True)]


def test_what_is_printed_at_the_end_comes_from_this_run(notebooks, monkeypatch, capfd):
    for module in (run, plan):
        monkeypatch.setattr(module, "lacking", lambda names: {})
    mini = "--profile", "mini", "--schedule", "short", "--only"
    assert call(*mini, "01") == 0
    block = capfd.readouterr().out.partition("\nSM-E1, ")[2].partition("\n\n")[0]
    claim = claims.claim_row("SM-E1")
    assert f"statement: {claim['statement']}\n" in block and f"null control: {claim['null']}" in block
    assert f"what is measured: {claim['measured_as']}\n" in block and "interval): passed" in block
    write(notebooks, "02_shallow_saliency_cnn", "raise RuntimeError('the cause')")
    assert call(*mini, "02") == 1
    printed = capfd.readouterr().out
    assert "no scoreboard" in printed and "SM-E1" not in printed
    (notebooks / "02_shallow_saliency_cnn.ipynb").unlink()
    assert call(*mini, "02", "03") == 1
    printed, told = capfd.readouterr()
    assert "LI-E1" in printed and "SM-E1" not in printed and "SC-A1" not in printed
    assert "FAILED 02_shallow_saliency_cnn" in told and "is missing" in told


ODD = "{a} %d [b] #c ?d 'e' \"f\" $g \u00e9\n-h"


def test_paths_may_hold_anything_and_relative_ones_mean_one_place(notebooks, tmp_path, monkeypatch, capfd):
    odd = notebooks.rename(tmp_path / ODD)
    monkeypatch.setattr(run, "NOTEBOOK_FOLDER", odd)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SALIENCY_RESULTS", f"results {ODD}")
    assert call("--only", "01", "-p", "first_seed", "3") == 0
    table = tmp_path / f"results {ODD}" / "quick" / "tables" / "01_claims.csv"
    assert table.is_file() and os.path.relpath(table.parent) in capfd.readouterr().out


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"new\nline.png", "caf\u00e9 {x}.png".encode(), b"-.png"])
def test_a_photograph_of_any_name_reaches_its_notebook_as_text(tmp_path, monkeypatch, name):
    path = tmp_path / os.fsdecode(name)
    Image.new("RGB", (90, 60), "red").save(path)
    passed = []
    monkeypatch.setattr(run, "execute", lambda *args, **options: passed.append(args[2]) or "FAILED")
    monkeypatch.chdir(tmp_path)
    assert run.main(["photo", os.fsdecode(name)]) == 1
    (source,) = passed[0].values()
    monkeypatch.chdir("/")
    shown = photograph(source)
    assert source.encode() and shown.name.encode()
    assert shown.size == (90, 60) and folder_name(source).isascii()


@pytest.mark.parametrize("path", sorted((run.ROOT / "results").glob("*/provenance.json")), ids=str)
def test_committed_runs_take_no_unverified_data(path):
    for notebook, entry in run.records.read_record(path.parent).items():
        states = entry.get("data from", {})
        # Weights in another form than the download have no checksum to compare with.
        beside = {name for name in states if REGISTRY[name].optional or REGISTRY[name].instead}
        assert all(states[name].startswith("whole") for name in set(states) - beside), notebook


@pytest.mark.parametrize("path", sorted((run.ROOT / "results").glob("*/provenance.json")), ids=str)
def test_committed_runs_are_of_one_clean_commit_and_name_the_machine_of_every_part(path):
    entries = run.records.read_record(path.parent)
    assert set(entries) == set(plan.NOTEBOOKS)
    parts = [part for entry in entries.values() for part in entry["parts"]]
    assert all(part["device"] and part["seconds"] >= 0 for part in parts)
    (commit,) = {part["commit"] for part in parts}
    assert re.fullmatch(r"[0-9a-f]{7,40}|.+-\d+-g[0-9a-f]{7,40}", commit)


def test_what_a_run_writes_does_not_make_its_commit_dirty(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    (tmp_path / "results").mkdir()
    for name in ("code.py", "results/table.csv"):
        (tmp_path / name).write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@b.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    clean = run._commit()
    (tmp_path / "results/table.csv").write_text("2")
    (tmp_path / "results/new.csv").write_text("2")
    assert run._commit() == clean and len(clean) >= 7
    (tmp_path / "code.py").write_text("2")
    assert run._commit() == f"{clean}-dirty"


def test_the_time_of_an_execution_that_was_killed_is_summed(tmp_path, monkeypatch):
    monkeypatch.setattr(run.records, "PULSE", 0.05)
    code = "import os, sys, time\nfrom pathlib import Path\nfrom saliencylib.study import records\n"
    code += "records.PULSE = 0.05\nwith records.on_record(Path(sys.argv[1]), 'a', 'mark', 'CPU', 'abc'):\n"
    code += "    time.sleep(2.5)\n    os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == -9
    with run.records.on_record(tmp_path, "a", "mark", "CPU", "abc") as parts:
        pass
    assert len(parts) == 2 and 1 < parts[0]["seconds"] < 5 and parts[1]["seconds"] < 1
    with run.records.on_record(tmp_path, "a", "other", "CPU", "abc") as parts:
        assert len(parts) == 1, "of another run"
    run.records.uncount(tmp_path, "a")
    assert not list((tmp_path / "notebooks").iterdir())


def test_the_record_says_where_data_comes_from(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path))
    (tmp_path / "rc_reference/DataSet1/Imgs").mkdir(parents=True)
    part = {"began": run.records.now(), "device": "CPU", "commit": "abc", "seconds": 1.0}
    run.record(tmp_path, "01_sal_mask", "mark", {"profile": "mini"}, {}, [part])
    states = run.records.read_record(tmp_path)["01_sal_mask"]["data from"]
    assert states["clothing96"] == "absent" and states["rc_reference"].startswith("partial (")


def test_an_executed_copy_says_nothing_of_another_run(tmp_path):
    mark = "<!-- what holds: written by hand -->\nA banner.\n<!-- end of what holds -->"
    given = new_notebook(cells=[new_markdown_cell(f"# Title\n\n{mark}\n\nText.")])
    nbformat.write(given, tmp_path / "given.ipynb")
    run.store(tmp_path / "given.ipynb", tmp_path / "stored.ipynb")
    title = nbformat.read(tmp_path / "stored.ipynb", as_version=4).cells[0].source
    assert "banner" not in title and title.startswith("# Title\n\n<!-- what holds: ")
    assert title.endswith("<!-- end of what holds -->\n\nText.")


def test_a_cluster_is_named_to_the_notebooks_and_its_progress_is_shown(notebooks, monkeypatch, capfd):
    code = "import os, sys\nprint(os.environ.get('SALIENCY_DASK'), 'done', file=sys.stderr)"
    write(notebooks, "05_your_own_photograph", code)
    for variable in ("SALIENCY_DASK", "SALIENCY_FRESH"):  # which a run may set
        monkeypatch.setenv(variable, "")
    assert call("--only", "05", "--fresh") == 0
    assert "done" not in capfd.readouterr().err
    client = SimpleNamespace(scheduler=SimpleNamespace(address="tcp://127.0.0.1:9"))
    monkeypatch.setattr(run.cluster, "client_at", {"local:3": client, "tcp://127.0.0.1:9": client}.get)
    assert call("--only", "05", "--fresh", "--dask", "local:3") == 0
    assert "tcp://127.0.0.1:9 done" in capfd.readouterr().err


# --- what may be damaged, full, taken or set wrongly --------------------------------------------------------

NO_NOTEBOOK = [b"", b"{half", b"[]", b"{}", b"null", b"\xff", b'{"cells": 3, "nbformat": 4}']


@pytest.mark.parametrize("content", [b"", b"{half", b"[]", b'{"05_your_own_photograph": 3}', b"\xff"])
def test_a_damaged_record_is_made_again(copied, tmp_path, capfd, content):
    assert call("--only", "01") == 0
    record = tmp_path / "results/quick/provenance.json"
    record.write_bytes(content)
    with pytest.raises(ValueError, match="provenance.json cannot be read"):
        run.records.read_record(record.parent)
    assert call("--only", "01") == 0 and run.records.read_record(record.parent).keys() == {"01_sal_mask"}
    assert call("--only", "01") == 0
    assert capfd.readouterr().out.count("finished before") == 1


@pytest.mark.parametrize(
    ("output", "contents"),
    [("notebooks/01_sal_mask.ipynb", NO_NOTEBOOK), ("tables/01_claims.csv", [b"", b"a,b\n1,2\n", b"\xff"])],
)
def test_a_damaged_output_is_made_again_and_other_notebooks_are_reported_without(
    copied, tmp_path, capfd, output, contents
):
    assert call("--only", "01", "02") == 0
    path = tmp_path / "results/quick" / output
    whole = path.read_bytes()
    for content in contents:
        path.write_bytes(content)
        capfd.readouterr()
        assert call("--only", "02") == 0
        assert "What holds" in capfd.readouterr().out
        assert call("--only", "01", "02") == 0 and path.read_bytes() == whole, content
        assert capfd.readouterr().out.count("finished before") == 1


def test_a_damaged_table_is_named(copied, tmp_path, capfd):
    assert call("--only", "01", "02") == 0
    (tmp_path / "results/quick/tables/01_claims.csv").write_bytes(b"")
    assert call("--only", "02") == 0
    told = capfd.readouterr().out
    assert "01_claims.csv is damaged" in told and "delete it and run its notebook again" in told
    with pytest.raises(ValueError, match="01_claims.csv is damaged"):
        claims.verdicts(tmp_path / "results/quick")


def test_a_scoreboard_does_not_judge_what_failed_just_now(copied, tmp_path, capfd):
    assert call() == 0
    copied.add("02_shallow_saliency_cnn")
    assert call("--fresh") == 1
    told = capfd.readouterr().err
    assert "FAILED 04_scoreboard: not run, since 02_shallow_saliency_cnn failed" in told
    assert "01_sal_mask" not in told and "05_your_own" not in told


def test_a_scoreboard_alone_reports_what_it_judged(copied, monkeypatch, capfd):
    for module in (run, plan):
        monkeypatch.setattr(module, "lacking", lambda names: {})
    mini = "--profile", "mini", "--schedule", "short", "--only"
    assert call(*mini, "01") == 0
    capfd.readouterr()
    assert call("--only", "04") == 0
    told = capfd.readouterr().out
    assert "tables/*_claims.csv: run the notebooks" in told and "no notebook" not in told
    run.report_run(run.results_root() / "mini-short", ["04_scoreboard"])
    assert "\nSM-E1, " in capfd.readouterr().out
    assert call("--only", "05") == 0
    assert "no notebook" not in capfd.readouterr().out


def test_a_run_leaves_the_environment_as_it_was_and_no_cluster_means_none(copied, monkeypatch):
    seen = []
    monkeypatch.setattr(run, "execute", lambda *args: seen.append(os.environ[run.cluster.VARIABLE]))
    monkeypatch.setenv(run.cluster.VARIABLE, "tcp://head:8786")
    monkeypatch.delenv("SALIENCY_FRESH", raising=False)
    before = dict(os.environ)
    assert call("--only", "05", "--fresh", "--dask", "") == 0
    assert os.environ == before and seen == [""]


def test_a_second_run_is_refused_while_one_is_at_work_and_a_killed_one_frees_the_folder(
    copied, tmp_path, capfd
):
    folder = tmp_path / "results/quick"
    folder.mkdir(parents=True)
    code = "import sys, time\nfrom pathlib import Path\nfrom saliencylib.lock import alone_in\n"
    code += "with alone_in(Path(sys.argv[1])) as alone:\n    print(alone, flush=True)\n    time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "True\n"
    assert call("--only", "05") == 2
    assert "another run is at work in" in capfd.readouterr().err and not (folder / "provenance.json").exists()
    other.kill()
    other.communicate()
    assert call("--only", "05") == 0


def test_one_folder_is_held_by_one_at_a_time_and_others_are_free(tmp_path):
    with alone_in(tmp_path) as first, alone_in(tmp_path) as second, alone_in(tmp_path.parent) as other:
        assert (first, second, other) == (True, False, True)
    with pytest.raises(RuntimeError, match="inside"), alone_in(tmp_path):
        raise RuntimeError("inside")
    with alone_in(tmp_path) as again:
        assert again
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["", "quick", "quick/notebooks", "quick/tables", "quick/figures"])
def test_every_folder_that_cannot_be_written_is_refused_before_anything_runs(copied, tmp_path, capfd, part):
    blocker = tmp_path / "results" / part
    blocker.parent.mkdir(parents=True, exist_ok=True)
    blocker.write_text("a file")
    assert call("--only", "05") == 2
    told = capfd.readouterr().err
    assert "cannot be written (" in told and "set SALIENCY_RESULTS to another folder" in told


def test_a_cache_that_cannot_be_written_is_refused_before_anything_runs(copied, tmp_path, capfd):
    (tmp_path / "cache").write_text("a file")
    assert call("--only", "05", "--fresh") == 2
    told = capfd.readouterr().err
    assert "set SALIENCY_CACHE to another folder" in told and (tmp_path / "cache").exists()


def test_a_disk_that_fills_up_while_a_notebook_is_stored_fails_it_alone(copied, tmp_path, monkeypatch, capfd):
    def full(executed, target):
        raise OSError(28, "No space left on device", str(target))

    with monkeypatch.context() as patched:
        patched.setattr(run, "store", full)
        assert call("--only", "01", "05") == 1
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 2 and all("No space left on device" in line for line in told)
    assert all(line.startswith("FAILED 0") and line.endswith("to another folder") for line in told)
    assert call("--only", "01", "05") == 0


@pytest.mark.parametrize("held", ["", "home", "work", "data"])
def test_fresh_deletes_no_folder_that_holds_more_than_a_cache(copied, tmp_path, monkeypatch, capfd, held):
    places = {name: tmp_path / "kept" / name for name in ("home", "work", "data", "cache", "results")}
    for path in places.values():
        path.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(places["home"]))
    monkeypatch.setenv("SALIENCY_DATA", str(places["data"]))
    monkeypatch.setenv("SALIENCY_CACHE", str(places[held or "cache"]))
    monkeypatch.chdir(places["work"])
    (places[held or "cache"] / "letter.txt").write_text("dear")
    assert call("--only", "05", "--fresh") == (2 if held else 0)
    assert (places[held or "cache"] / "letter.txt").exists() == bool(held)
    assert ("set SALIENCY_CACHE to another folder" in capfd.readouterr().err) == bool(held)


def test_a_clock_that_is_set_back_gives_no_negative_seconds(copied, tmp_path, monkeypatch):
    hours = iter(range(10**6, 0, -1))
    monkeypatch.setattr(run.records.time, "time", lambda: 3600.0 * next(hours))
    code = new_code_cell("1", metadata={"papermill": {"duration": -3600.0}})
    nbformat.write(new_notebook(cells=[new_markdown_cell("## A"), code]), tmp_path / "given.ipynb")
    assert run.store(tmp_path / "given.ipynb", tmp_path / "stored.ipynb") == {}
    assert call("--only", "05") == 0
    assert run.records.read_record(tmp_path / "results/quick")["05_your_own_photograph"]["seconds"] >= 0


@pytest.mark.parametrize("seed", ["-1", "4294967296", "9" * 400])
def test_a_seed_that_no_generator_takes_is_refused(copied, capfd, seed):
    assert call("--only", "01", "-p", "first_seed", seed) == 2
    assert "first_seed must be a whole number of at least 0 and at most 4294967295" in capfd.readouterr().err


def test_a_photograph_whose_name_is_not_utf_8_is_refused_as_a_parameter(copied, capfd):
    write(run.NOTEBOOK_FOLDER, "05_your_own_photograph", "print(photograph)", 'photograph = "coffee"')
    assert call("--only", "05", "-p", "photograph", os.fsdecode(b"caf\xe9.jpg")) == 2
    assert "parameter photograph must be UTF-8 text, not 'caf" in capfd.readouterr().err


def test_weights_that_cannot_be_fetched_are_named(copied, tmp_path, monkeypatch, capfd):
    def unreachable(*arguments, **options):
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path))
    monkeypatch.setattr(run, "obtain", lambda names: {})
    for module in (run, plan):
        monkeypatch.setattr(module, "lacking", lambda names: {})
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", unreachable)
    paper = ["--profile", "paper", "--schedule", "short", "--device", "cpu", "--only", "03"]
    assert run.main([*paper, "--download"]) == 2
    told = capfd.readouterr().err
    assert "weights of vgg16 could not be fetched (Name or service not known): check the network" in told


@pytest.mark.parametrize("variable", ["SALIENCY_DATA", "SALIENCY_CACHE", "SALIENCY_RESULTS"])
@pytest.mark.parametrize("arguments", [["--only", "05"], ["photo", "coffee"]])
def test_a_path_that_is_not_utf_8_is_refused(copied, tmp_path, monkeypatch, capfd, variable, arguments):
    monkeypatch.setenv(variable, os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    assert run.main(arguments) == 2
    assert f"is not UTF-8, as notebooks are; set {variable} to another" in capfd.readouterr().err
