"""Checks of the repository as a whole: pins, README, paths, unsafe loading."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from saliencylib.places import ROOT
from saliencylib.study import report

TEXT = {".py", ".ipynb", ".json", ".csv", ".md", ".yml", ".toml", ".sh", ".cff", ".mplstyle"}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_environment_and_constraints_hold_one_pin_for_every_requirement():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line for line in lines if not line.startswith("#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["study"], *extras["teach"], *extras["test"]]
    assert sorted(line.split("==")[0] for line in pinned) == sorted(re.split("[>=]", n)[0] for n in needed)
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    by_pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    by_conda = [
        entry.replace("=", "==")
        for entry in listed
        if isinstance(entry, str) and entry.split("=")[0] not in ("python", "pip")
    ]
    assert set(by_pip) | set(by_conda) == pinned
    assert not set(by_pip) & set(by_conda)


def test_readme_can_be_read_in_a_minute():
    text = (ROOT / "README.md").read_text()
    assert "./run_all.sh test" in text and len(text.splitlines()) <= 60 and "| ---" not in text
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", text)
    assert len(pictures) == 1 and (ROOT / pictures[0]).is_file()


def test_the_papers_are_named_with_their_addresses():
    for name in ("README.md", "CITATION.cff"):
        text = (ROOT / name).read_text()
        for address in ("10.1007/978-3-319-21963-9_38", "arxiv.org/abs/1603.00845", "2005.02184"):
            assert address in text, (name, address)


@pytest.mark.parametrize("name", report.FILES)
def test_what_is_generated_is_that_of_the_stored_run(name):
    text = (ROOT / name).read_text()
    made = report.updated(text, report.report_parts())
    assert made == text, "out of date: run python -m saliencylib.study.report"


def test_marks_are_filled_and_wrong_ones_named():
    start, end = "<!-- cost: written by python -m saliencylib.study.report -->", "<!-- end of cost -->"
    assert report.updated(f"a\n{start}\nold\n{end}\nb", {"cost": "new"}) == f"a\n{start}\nnew\n{end}\nb"
    with pytest.raises(ValueError, match="cost has no end"):
        report.updated(f"a\n{start}", {"cost": "new"})
    with pytest.raises(ValueError, match="no marks of cost"):
        report.updated("a", {"cost": "new"})


def test_ci_calls_the_test_command_of_the_readme():
    assert (ROOT / ".ci" / "run").read_text().strip().endswith("./run_all.sh test")


def test_no_absolute_path_of_a_machine_is_stored():
    pattern = re.compile(r"(?<![\w.~$}/:])/(?:work|root|tmp|home|Users|private|mnt)/")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path.suffix in TEXT and path.name != "test_project.py"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not found


def test_nothing_is_loaded_that_could_run_code():
    unsafe = re.compile(
        r"\bimport pickle|pickle\.load|allow_pickle=True|torch\.load\((?!.*weights_only=True)"
    )
    sources = [path for path in tracked() if path.suffix in (".py", ".ipynb") and "tests" not in path.parts]
    assert sources and not [path.name for path in sources if unsafe.search(path.read_text())]


def test_committed_files_are_small():
    large = {path.name: path.stat().st_size for path in tracked() if path.stat().st_size > 3 * 2**20}
    assert not large
