"""The assignments: the proof itself, what students must not see, and what each common mistake costs."""

import ast
import copy
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions

import cloudpickle
import nbformat
import pandas as pd
import pytest
import torch
from joblib import Parallel, delayed
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.plugins import FileNameCollectorPlugin
from packaging.requirements import Requirement
from traitlets.config.loader import PyFileConfigLoader

from saliencylib.places import ROOT

spec = importlib.util.spec_from_file_location("prove", ROOT / "notebooks" / "assignments" / "prove.py")
prove = sys.modules["prove"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(prove)
cloudpickle.register_pickle_by_value(prove)  # the workers of joblib cannot import a script

NAMES = prove.assignment_names()
ANSWERS = prove.answers_of()
CONFIG = PyFileConfigLoader(prove.CONFIG, path=str(prove.COURSE)).load_config()
GUIDE = (prove.COURSE / "TEACHING.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def proof(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    results, unproved = prove.prove(folder)
    return folder, results.set_index(["assignment", "student"]), unproved


def cells(folder, step, name):
    return nbformat.read(folder / step / name / f"{name}.ipynb", as_version=4).cells


def meta(cell):
    return cell.metadata["nbgrader"]


# --- the proof ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_blank_gets_nothing_half_something_and_the_solution_all(proof, name):
    assert proof[2] == []
    blank, half, solution = (proof[1].loc[(name, student)] for student in prove.PROOF)
    assert blank["total"] == 0 and blank["most"] == 20
    assert 0 < half["automatic"] < half["most_automatic"] and 0 < half["written"] < half["most_written"]
    assert solution["total"] == 20 and solution["lost"] == [] and solution["written"] > 0
    mistakes = [m for m in ANSWERS[name]["mistakes"] if m["name"] in ANSWERS[name]["half"]["mistakes"]]
    assert {test for m in mistakes for test in m["loses"]} < set(half["lost"]), "blank cells cost points too"


@pytest.mark.parametrize("name", NAMES)
def test_students_see_what_they_need_and_no_marks_of_what_is_hidden(proof, name):
    source, released = (cells(proof[0], step, name) for step in ("source", "release"))
    text = "\n".join(cell.source for cell in released)
    assert "### BEGIN" not in text and "### END" not in text
    assert text.count("YOUR ANSWER HERE") == 2 + 1, "two answers, and the rules that speak of them"
    for cell, shown in zip(source, released, strict=True):
        assert meta(cell)["grade_id"] == meta(shown)["grade_id"]
        if meta(cell)["solution"] and cell.cell_type == "code":
            assert "raise NotImplementedError()" in shown.source


def test_a_leak_is_found(proof, tmp_path):
    prove.shutil.copytree(proof[0], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "release" / NAMES[0] / f"{NAMES[0]}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    hidden = {meta(c)["grade_id"]: c.source for c in cells(tmp_path, "source", NAMES[0])}
    notebook.cells.append(new_code_cell(hidden["test_mask_from_map"]))
    nbformat.write(notebook, path)
    said = f"{NAMES[0]}: the students' copy shows what test_mask_from_map should hide"
    assert prove.leaks(tmp_path) == [said]


# --- a broken assignment -----------------------------------------------------------------------------------


HIDDEN = "assert double(5) == 10"


def fake_course(folder, test="assert double(2) == 4", solution="return 2 * x", hidden=HIDDEN):
    """A course of one small assignment."""

    def made(make, grade_id, text, grade=False, solution=False, points=None):
        meta = {"schema_version": 3, "grade_id": grade_id, "grade": grade, "solution": solution}
        meta |= {"locked": not solution, "task": False} | ({"points": points} if grade else {})
        return make(text, metadata={"nbgrader": meta})

    code = f"def double(x):\n    ### BEGIN SOLUTION\n    {solution}\n    ### END SOLUTION"
    tested = f"{test}\n### BEGIN HIDDEN TESTS\n{hidden}\n### END HIDDEN TESTS"
    notebook = new_notebook(
        cells=[
            made(new_code_cell, "double", code, solution=True),
            made(new_code_cell, "test_double", tested, grade=True, points=2),
            made(new_code_cell, "test_other", test, grade=True, points=1),
            made(new_markdown_cell, "answer", "The model answer.", grade=True, solution=True, points=1),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    (folder / "source" / "fake").mkdir(parents=True)
    nbformat.write(notebook, folder / "source" / "fake" / "fake.ipynb")
    (folder / prove.CONFIG).write_text((prove.COURSE / prove.CONFIG).read_text())
    mistake = '{name = "adds", cell = "double", right = "2 * x", wrong = "2 + x", loses = ["test_double"]}'
    half = 'half = {mistakes = ["adds"], blank = [], written = 0.5}'
    (folder / "answers.toml").write_text(f"[fake]\n{half}\nmistakes = [{mistake}]\n")
    return folder


def test_a_broken_assignment_fails_the_proof(tmp_path, monkeypatch, capsys):
    """Its visible test passes whatever the student writes, and its solution fails the hidden one."""
    course = fake_course(tmp_path / "course", "assert True", "return 2 * x + 1")
    monkeypatch.setattr(prove, "COURSE", course)
    assert prove.main() == 1
    said = capsys.readouterr().err
    assert "fake: the blank copy gets 1 of 4 points, not zero" in said
    assert "fake: the solution gets 2 of 4 points; it fails test_double" in said
    assert not (course / "release").exists(), "what is not proved is not handed out"


def test_a_build_that_lost_its_hidden_tests_fails_the_proof(tmp_path):
    course, built = fake_course(tmp_path, hidden="pass"), tmp_path / "built"
    built.mkdir()
    prove.build(built, course)
    half = prove.proof_copies(built, course)[1]
    said = "fake: the mistakes of the half copy pass test_double"
    assert said in prove.problems(prove.graded(built, [half]))


def test_code_that_is_to_be_marked_by_hand_fails_the_proof(tmp_path):
    course, built = fake_course(tmp_path), tmp_path / "built"
    built.mkdir()
    path = course / "source" / "fake" / "fake.ipynb"
    notebook = nbformat.read(path, as_version=4)
    meta(notebook.cells[1]).update(solution=True, locked=False)  # its tests became "YOUR CODE HERE"
    nbformat.write(notebook, path)
    prove.build(built, course)
    solution = prove.proof_copies(built, course)[2]
    with pytest.raises(prove.AssignmentError, match="leaves the code cell test_double to be marked by hand"):
        prove.graded(built, [solution])


def test_what_is_proved_is_handed_out(tmp_path, monkeypatch, capsys):
    course = fake_course(tmp_path / "course")
    (course / "release" / "old").mkdir(parents=True)
    monkeypatch.setattr(prove, "COURSE", course)
    points = {"automatic": 3, "written": 1, "most_automatic": 3, "most_written": 1, "lost": [], "seconds": 1}
    rows = [{"assignment": "fake", "student": s, "total": 4, "most": 4} | points for s in prove.PROOF]
    monkeypatch.setattr(prove, "graded", lambda folder, copies: pd.DataFrame(rows))
    monkeypatch.setattr(prove, "problems", lambda results: [])
    assert prove.main() == 0
    assert "as a teacher would mark" in capsys.readouterr().out
    assert [path.name for path in (course / "release").iterdir()] == ["fake"]
    assert "return 2 * x" not in (course / "release" / "fake" / "fake.ipynb").read_text()
    assert [path.name for path in (course / "handouts").iterdir()] == ["fake.zip"]


def test_what_does_not_fit_is_named(proof, tmp_path, capsys):
    refused = fake_course(tmp_path / "course", solution="### BEGIN SOLUTION")
    (tmp_path / "built").mkdir()
    with pytest.raises(prove.AssignmentError, match="fake cannot be built"):
        prove.build(tmp_path / "built", refused)
    with pytest.raises(prove.AssignmentError, match="source is missing"):
        prove.build(tmp_path, tmp_path / "empty")
    with pytest.raises(prove.AssignmentError, match="no cell nowhere to answer"):
        prove.answered(proof[0], NAMES[0], blank=["nowhere"])
    wrong = {"name": "odd", "cell": "mask_from_map", "right": "not there", "wrong": ""}
    with pytest.raises(prove.AssignmentError, match="'odd' does not fit mask_from_map"):
        prove.answered(proof[0], NAMES[0], [wrong])
    assert prove.main(["--profile"]) == 2 and "takes no arguments" in capsys.readouterr().err


# --- what students get -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def handouts(proof, tmp_path_factory):
    folder = tmp_path_factory.mktemp("students") / "handouts"
    prove.hand_out(proof[0], folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_zip_holds_the_students_copy_its_set_up_and_nothing_else(proof, handouts, name):
    with zipfile.ZipFile(handouts / f"{name}.zip") as archive:
        assert sorted(archive.namelist()) == [f"{name}/{name}.ipynb", f"{name}/requirements.txt"]
        notebook = nbformat.reads(archive.read(f"{name}/{name}.ipynb").decode(), as_version=4)
        requirements = archive.read(f"{name}/requirements.txt").decode()
    nbformat.validate(notebook)
    ids = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in notebook.cells]
    assert ids.index("setup") == ids.index(None) + 2, "the set-up stands before the first code"
    released = [meta(cell)["grade_id"] for cell in cells(proof[0], "release", name)]
    assert [grade_id for grade_id in ids if grade_id] == released
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"%pip install --quiet --no-deps {project['urls']['Repository']}/" in notebook.cells[3].source
    assert requirements == (prove.COURSE / "requirements.txt").read_text()


def test_the_requirements_are_what_the_notebooks_load_in_the_versions_of_the_study():
    lines = (prove.COURSE / "requirements.txt").read_text().splitlines()
    needed = [Requirement(line) for line in lines if line[0] not in "#-"]
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    assert {f"{r.name}{r.specifier}".removesuffix("+cpu") for r in needed} <= set(pins)
    torch_on = {r.marker.evaluate({"sys_platform": "linux"}): str(r.specifier) for r in needed if r.marker}
    assert torch_on[True].endswith("+cpu") and not torch_on[False].endswith("+cpu")

    code = [c.source for name in NAMES for c in cells(prove.COURSE, "source", name) if c.id == "setup"]
    code = "\n".join([*code, "import json, sys", "cluttered_digits(2)", "print(json.dumps([*sys.modules]))"])
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {module.split(".")[0] for module in json.loads(ran.stdout)}
    packages = packages_distributions()
    used = {name.lower() for module in loaded for name in packages.get(module, [])}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    used &= {Requirement(line).name for line in project["dependencies"]}
    assert {requirement.name for requirement in needed} == used | {"jupyterlab"}


# --- what comes back ---------------------------------------------------------------------------------------


NAMED = {
    "Chen Li_4712_assignsubmission_file_1_mask_layer.ipynb": "Chen Li",
    "Jörg Müller-Lüdenscheidt_33_assignsubmission_file_1_mask_layer (1).ipynb": "Jörg Müller-Lüdenscheidt",
    "Chen Li_4712_assignsubmission_file/1_mask_layer.ipynb": "Chen Li",
    "Course-99/Chen Li_4712_assignsubmission_file_/1_mask_layer.ipynb": "Chen Li",
    "Chen Li_4712_assignsubmission_file_1_mask_layer/1_mask_layer/1_mask_layer.ipynb": "Chen Li",
    "Participant_4712_assignsubmission_file_1_mask_layer.ipynb": "Participant_4712",
    "meieranna_20417_881203_1_mask_layer.ipynb": "meieranna",
    "meieranna_LATE_20417_881203_1_mask_layer.ipynb": "meieranna",
    "anna_b_meier_20417_881203_1_mask_layer-1.ipynb": "anna_b_meier",
    "müller-jörg_20417_881203_1_mask_layer-2.ipynb": "müller-jörg",
    "submissions/meieranna_20417_881203_1_mask_layer/1_mask_layer/1_mask_layer.ipynb": "meieranna",
    "anna_meier_1_mask_layer.ipynb": "anna_meier",
    "12345_1_mask_layer.ipynb": "12345",
    "anna_2_1_mask_layer.ipynb": "anna_2",
    "1_mask_layer.ipynb": None,
    "Chen Li_4712_assignsubmission_file_homework.ipynb": None,
    "Chen Li_4712_assignsubmission_file/__MACOSX/1_mask_layer/._1_mask_layer.ipynb": None,
    "anna_1_mask_layer/1_mask_layer/.ipynb_checkpoints/1_mask_layer-checkpoint.ipynb": None,
}


@pytest.mark.parametrize(("path", "student"), NAMED.items())
def test_file_names_of_learning_platforms_name_the_student(path, student):
    collector = FileNameCollectorPlugin(config=CONFIG)
    found = collector.collect(f"/srv/vision_2026_27_course/downloaded/1_mask_layer/extracted/{path}")
    assert found == (student and {"student_id": student, "file_id": "1_mask_layer"})


def test_cells_pasted_twice_or_from_elsewhere_cost_nothing_nor_do_warnings(tmp_path):
    (tmp_path / "built").mkdir()
    course = fake_course(tmp_path, hidden="import sys\nprint('careful', file=sys.stderr)")
    prove.build(tmp_path / "built", course)
    notebook = prove.answered(tmp_path / "built", "fake")
    once = notebook.cells
    stray, old, odd = (copy.deepcopy(once[1]) for _ in range(3))
    meta(stray)["grade_id"] = "test_of_another_assignment"
    meta(old)["schema_version"] = 1
    odd.metadata["nbgrader"] = {}
    meta(once[2]).pop("points")
    notebook.cells = [*copy.deepcopy(once[:2]), stray, old, odd, *once]
    for cell, number in zip(notebook.cells, range(100), strict=False):
        cell.id = f"cell-{number}"
    (result,) = prove.graded(tmp_path / "built", [prove.Copy("fake", "anna", notebook)]).itertuples()
    assert result.total == result.most == 4


# --- the sources and the guide -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_sources_are_clean_and_their_tables_of_points_are_right(name):
    found = cells(prove.COURSE, "source", name)
    parts, part = {}, None
    for cell in found:
        assert meta(cell)["locked"] != meta(cell)["solution"] and cell.source.count("\n") < 25
        if cell.cell_type == "code":
            assert cell.execution_count is None and not cell.outputs
        heading = re.match(r"## (\d)\. ", cell.source) if cell.cell_type == "markdown" else None
        part = heading[1] if heading else part
        if meta(cell)["grade"]:
            assert ("BEGIN HIDDEN TESTS" in cell.source) == (cell.cell_type == "code")
            parts[part] = parts.get(part, 0) + meta(cell)["points"]
    rows = re.findall(r"^\| (\d)\. .*? \| (\d+) \| (\d+) \|$", found[0].source, re.M)
    assert {part: int(points) for part, _, points in rows} == parts and sum(parts.values()) == 20
    assert sum(int(minutes) for _, minutes, _ in rows) == 120


@pytest.mark.parametrize("name", NAMES)
def test_every_test_has_a_title_and_says_what_is_wrong(name):
    for cell in cells(prove.COURSE, "source", name):
        if meta(cell)["grade"] and cell.cell_type == "code":
            points = meta(cell)["points"]
            title = rf"# Test: .+ \({points} point{'s' if points > 1 else ''}\)$"
            assert re.match(title, cell.source.split("\n")[0]), meta(cell)["grade_id"]
            asserts = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Assert)]
            assert asserts and all(node.msg for node in asserts), meta(cell)["grade_id"]


def test_the_guide_holds_every_mistake_and_no_other():
    rows = re.findall(r"^\| (.+?) \| (`test_.+`) \|$", GUIDE, re.M)
    mistakes = [mistake for name in NAMES for mistake in ANSWERS[name]["mistakes"]]
    assert rows == [(m["name"], ", ".join(f"`{test}`" for test in m["loses"])) for m in mistakes]


# --- what the common mistakes cost -------------------------------------------------------------------------


ONCE = ("setup", "data", "network", "training")  # given cells that use nothing of the student's


def fails(cell, space):
    try:
        exec(compile(cell.source, cell.id, "exec"), space)
    except Exception:
        return True
    return False


def losses_of(source, copies):
    """For each student's copy the tests (grade ids) that fail, run in this process as far as the last one."""
    torch.set_num_threads(1)
    tests = [i for i, cell in enumerate(source) if meta(cell)["grade"] and cell.cell_type == "code"]
    code = [i for i, cell in enumerate(source[: tests[-1] + 1]) if cell.cell_type == "code"]
    code = [i for i in code if not source[i].id.startswith("figure")]
    once, given, found = [i for i in code if source[i].id in ONCE], {}, []
    assert not any(fails(source[i], given) for i in once)
    for student in copies:
        space = {**given, "network": copy.deepcopy(given.get("network"))}
        rest = sorted(set(code) - set(once))
        failed = [i for i in rest if fails((student if meta(source[i])["solution"] else source)[i], space)]
        found.append([meta(source[i])["grade_id"] for i in failed if i in tests])
    return found


@pytest.fixture(scope="module")
def losses(proof):
    """What the solution (first) and each mistake lose, by assignment."""
    tried = {name: [[], *([mistake] for mistake in ANSWERS[name]["mistakes"])] for name in NAMES}
    copies = [[prove.answered(proof[0], n, mistakes).cells for mistakes in tried[n]] for n in NAMES]
    jobs = zip([cells(proof[0], "source", name) for name in NAMES], copies, strict=True)
    return dict(zip(NAMES, Parallel(n_jobs=2)(delayed(losses_of)(*job) for job in jobs), strict=True))


@pytest.mark.filterwarnings("ignore:A worker stopped")  # torch fills its memory: joblib starts another
@pytest.mark.parametrize("name", NAMES)
def test_each_common_mistake_loses_points_but_not_all(losses, name):
    nothing, *lost_by_mistakes = losses[name]
    assert nothing == []
    for mistake, lost in zip(ANSWERS[name]["mistakes"], lost_by_mistakes, strict=True):
        assert sorted(lost) == sorted(mistake["loses"]), mistake["name"]
        assert 1 <= len(lost) <= 3
