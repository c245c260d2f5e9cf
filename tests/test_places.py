"""Where things lie, whatever the folders are called and from wherever the commands are called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from saliencylib import places
from saliencylib.places import ROOT

ROOTS = {
    "SALIENCY_DATA": places.data_root,
    "SALIENCY_CACHE": places.cache_root,
    "SALIENCY_RESULTS": places.results_root,
}


@pytest.mark.parametrize("variable", ROOTS)
def test_a_relative_path_starts_where_the_user_is_and_a_tilde_at_home(variable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value, wanted in {"a/b": "a/b", "~/b": "home/b", "": None, "~nobody-/b": "~nobody-/b"}.items():
        monkeypatch.setenv(variable, value)
        root = ROOTS[variable]()
        assert root == tmp_path / wanted if wanted else root.parent == ROOT
        assert places.environment()[variable] == str(root)


def called(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "--", *command],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_takes_paths_from_where_it_is_called_and_modules_from_the_project(tmp_path):
    for module in ("csv.py", "saliencylib.py"):
        (tmp_path / module).write_text("raise SystemExit('a stranger of the same name')")
    done = called(tmp_path, str(ROOT / "run_all.sh"), "--profile", "mini", SALIENCY_DATA="my data")
    assert done.returncode == 2 and f"({tmp_path / 'my data'})" in done.stderr


@pytest.mark.parametrize("name", ["{a} %d [b] #c ?d", "-x", 'it\'s "q" $HOME `id`', "n\u00e9w\nline"])
def test_the_project_may_lie_in_a_folder_of_any_name(tmp_path, name):
    (tmp_path / name).mkdir()
    shutil.copy(ROOT / "run_all.sh", tmp_path / name)
    (tmp_path / name / "saliencylib").symlink_to(ROOT / "saliencylib")
    done = called(tmp_path, f"{name}/run_all.sh", "--help", CDPATH="/", PYTHONPATH="")
    assert done.returncode == 0 and "--profile" in done.stdout, done.stderr


def test_a_project_whose_path_python_would_split_is_refused(tmp_path):
    (tmp_path / "a:b").mkdir()
    shutil.copy(ROOT / "run_all.sh", tmp_path / "a:b")
    done = called(tmp_path, "a:b/run_all.sh", "--help")
    assert done.returncode == 2 and "has a colon" in done.stderr


@pytest.mark.parametrize("command", ["--help", "test", "data"])
def test_a_project_whose_path_is_not_utf_8_is_refused(tmp_path, command):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    shutil.copy(ROOT / "run_all.sh", folder)
    done = called(tmp_path, str(folder / "run_all.sh"), command)
    assert done.returncode == 2 and "is not UTF-8, as notebooks are: rename the folder" in done.stderr
