"""The assignments: the proof itself, what students must not see, and what each common mistake costs."""

import copy
import re

import nbformat
import pytest
import torch
from joblib import Parallel, delayed
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from saliencylib import assignments
from saliencylib.assignments import Result

NAMES = assignments.names()
ANSWERS = assignments.answers_of()
GUIDE = (assignments.COURSE / "TEACHING.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def proof(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    results, unproved = assignments.prove(folder)
    return folder, {(r.assignment, r.student): r for r in results}, unproved


def cells(folder, step, name):
    return nbformat.read(folder / step / name / f"{name}.ipynb", as_version=4).cells


def meta(cell):
    return cell.metadata["nbgrader"]


# --- the proof ---------------------------------------------------------------------------------------------


def test_all_is_proved(proof):
    assert proof[2] == []


@pytest.mark.parametrize("name", NAMES)
def test_blank_gets_nothing_half_something_and_the_solution_all(proof, name):
    blank, half, solution = (proof[1][name, student] for student in assignments.PROOF)
    assert blank.total == 0 and blank.most == 20
    assert 0 < half.automatic < half.most_automatic and 0 < half.written < half.most_written
    assert solution.automatic == solution.most_automatic and solution.lost == ()
    assert solution.written == solution.most_written > 0, "marked as a teacher would"


@pytest.mark.parametrize("name", NAMES)
def test_half_loses_what_its_mistakes_and_blank_cells_say(proof, name):
    half = ANSWERS[name]["half"]
    by_mistakes = {t for m in ANSWERS[name]["mistakes"] if m["name"] in half["mistakes"] for t in m["loses"]}
    lost = set(proof[1][name, "half"].lost)
    assert len(half["mistakes"]) >= 1 and len(half["blank"]) >= 1
    assert by_mistakes < lost, "the blank cells cost points too"


@pytest.mark.parametrize("name", NAMES)
def test_students_see_neither_solutions_nor_model_answers_nor_hidden_tests(proof, name):
    source, released = (cells(proof[0], step, name) for step in ("source", "release"))
    text = "\n".join(cell.source for cell in released)
    assert "### BEGIN" not in text and "### END" not in text
    assert text.count("YOUR ANSWER HERE") == 2 + 1, "two answers, and the rules that speak of them"
    hidden = 0
    for cell, shown in zip(source, released, strict=True):
        assert meta(cell)["grade_id"] == meta(shown)["grade_id"]
        if meta(cell)["solution"] and cell.cell_type == "code":
            assert "raise NotImplementedError()" in shown.source
        for region in re.findall(r"### BEGIN HIDDEN TESTS\n(.*?)\s*### END", cell.source, re.S):
            hidden += 1
            assert region.strip() not in text
    assert hidden == sum(meta(cell)["grade"] and cell.cell_type == "code" for cell in source)


def test_a_leak_is_found(proof, tmp_path):
    assignments.shutil.copytree(proof[0], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "release" / NAMES[0] / f"{NAMES[0]}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    (hidden,) = (
        c for c in cells(tmp_path, "source", NAMES[0]) if meta(c)["grade_id"] == "test_mask_from_map"
    )
    notebook.cells.append(new_code_cell(hidden.source))
    nbformat.write(notebook, path)
    assert assignments.leaks(tmp_path) == [
        f"{NAMES[0]}: the students' copy shows what test_mask_from_map should hide"
    ]


# --- a broken assignment -----------------------------------------------------------------------------------


def result(student, automatic, written, lost=()):
    return Result("fake", student, automatic, written, 15.0, 5.0, lost, 1.0)


def test_results_that_prove_nothing_are_named():
    good = [result("blank", 0, 0), result("half", 7, 2.5), result("solution", 15, 5)]
    assert assignments.problems(good) == []
    bad = [result("blank", 2, 0), result("half", 15, 5), result("solution", 13, 5, ("test_b",))]
    blank, half, solution = assignments.problems(bad)
    assert "the blank copy gets 2 of 20 points" in blank
    assert "the half-right answer gets 15 of 15 automatic points" in half and "fails test_b" in solution
    assert assignments.problems([result("half", 0, 2.5)])


def fake_course(folder, test="assert double(2) == 4", solution="return 2 * x"):
    """A course of one small assignment."""

    def made(make, grade_id, text, grade=False, solution=False, points=None):
        meta = {"schema_version": 3, "grade_id": grade_id, "grade": grade, "solution": solution}
        meta |= {"locked": not solution, "task": False} | ({"points": points} if grade else {})
        return make(text, metadata={"nbgrader": meta})

    code = f"def double(x):\n    ### BEGIN SOLUTION\n    {solution}\n    ### END SOLUTION"
    tested = f"{test}\n### BEGIN HIDDEN TESTS\nassert double(5) == 10\n### END HIDDEN TESTS"
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
    (folder / assignments.CONFIG).write_text((assignments.COURSE / assignments.CONFIG).read_text())
    mistake = '{name = "adds", cell = "double", right = "2 * x", wrong = "2 + x", loses = []}'
    half = 'half = {mistakes = ["adds"], blank = [], written = 0.5}'
    (folder / "answers.toml").write_text(f"[fake]\n{half}\nmistakes = [{mistake}]\n")
    return folder


def test_a_broken_assignment_fails_the_proof(tmp_path, monkeypatch, capsys):
    """Its visible test passes whatever the student writes, and its solution fails the hidden one."""
    course = fake_course(tmp_path / "course", "assert True", "return 2 * x + 1")
    monkeypatch.setattr(assignments, "COURSE", course)
    prove = assignments.prove
    monkeypatch.setattr(assignments, "prove", lambda folder: prove(folder, course))
    assert assignments.main([]) == 1
    said = capsys.readouterr().err
    assert "fake: the blank copy gets 1 of 4 points, not zero" in said
    assert "fake: the solution gets 2 of 4 points; it fails test_double" in said
    assert not (course / "release").exists(), "what is not proved is not handed out"


def test_an_assignment_that_nbgrader_refuses_is_named(tmp_path):
    course = fake_course(tmp_path / "course", solution="### BEGIN SOLUTION")
    (tmp_path / "built").mkdir()
    with pytest.raises(assignments.AssignmentError, match="fake cannot be built"):
        assignments.build(tmp_path / "built", course)


def test_what_is_proved_is_handed_out(tmp_path, monkeypatch, capsys):
    course = fake_course(tmp_path / "course")
    (course / "release" / "old").mkdir(parents=True)
    monkeypatch.setattr(assignments, "COURSE", course)

    def proved(folder):
        assignments.build(folder, course)
        return [result(student, 15, 5) for student in assignments.PROOF], []

    monkeypatch.setattr(assignments, "prove", proved)
    assert assignments.main([]) == 0
    assert "as a teacher would mark" in capsys.readouterr().out
    assert [path.name for path in (course / "release").iterdir()] == ["fake"]
    assert "return 2 * x" not in (course / "release" / "fake" / "fake.ipynb").read_text()


def test_a_folder_without_sources_is_named(tmp_path):
    with pytest.raises(assignments.AssignmentError, match="source is missing"):
        assignments.build(tmp_path, tmp_path / "empty")


def test_answers_that_do_not_fit_are_named(proof):
    with pytest.raises(assignments.AssignmentError, match="no cell nowhere to answer"):
        assignments.answered(proof[0], NAMES[0], blank=["nowhere"])
    wrong = {"name": "odd", "cell": "mask_from_map", "right": "not there", "wrong": ""}
    with pytest.raises(assignments.AssignmentError, match="'odd' does not fit mask_from_map"):
        assignments.answered(proof[0], NAMES[0], [wrong])


def test_unknown_arguments_are_refused(capsys):
    assert assignments.main(["--profile", "quick"]) == 2
    assert "takes no arguments, not --profile quick" in capsys.readouterr().err


# --- the sources and the guide -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_sources_are_clean_and_in_nbgraders_form(name):
    found = cells(assignments.COURSE, "source", name)
    ids = [meta(cell)["grade_id"] for cell in found]
    assert len(set(ids)) == len(ids) and [cell.id for cell in found] == [i.replace("_", "-") for i in ids]
    for cell in found:
        assert meta(cell)["schema_version"] == 3
        assert meta(cell)["locked"] != meta(cell)["solution"]
        assert cell.source.count("\n") < 25
        if cell.cell_type == "code":
            assert cell.execution_count is None and not cell.outputs
    graded = [cell for cell in found if meta(cell)["grade"]]
    written = [cell for cell in graded if cell.cell_type == "markdown"]
    assert sum(meta(cell)["points"] for cell in graded) == 20 and len(written) == 2
    assert all(("BEGIN HIDDEN TESTS" in cell.source) == (cell.cell_type == "code") for cell in graded)


@pytest.mark.parametrize("name", NAMES)
def test_tables_of_points_are_right(name):
    found = cells(assignments.COURSE, "source", name)
    rows = re.findall(r"^\| (\d)\. .*? \| (\d+) \| (\d+) \|$", found[0].source, re.M)
    parts, part = {}, None
    for cell in found:
        heading = re.match(r"## (\d)\. ", cell.source) if cell.cell_type == "markdown" else None
        part = heading[1] if heading else part
        if meta(cell)["grade"]:
            parts[part] = parts.get(part, 0) + meta(cell)["points"]
    assert {part: int(points) for part, _, points in rows} == parts
    assert sum(int(minutes) for _, minutes, _ in rows) == 120


def test_the_guide_holds_every_mistake_and_no_other():
    rows = re.findall(r"^\| (.+?) \| (`test_.+`) \|$", GUIDE, re.M)
    expected = [
        (mistake["name"], ", ".join(f"`{test}`" for test in mistake["loses"]))
        for name in NAMES
        for mistake in ANSWERS[name]["mistakes"]
    ]
    assert rows == expected


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
        failed = []
        for i in sorted(set(code) - set(once)):
            if fails(student[i] if meta(source[i])["solution"] else source[i], space):
                failed.append(i)
        found.append([meta(source[i])["grade_id"] for i in failed if i in tests])
    return found


@pytest.fixture(scope="module")
def losses(proof):
    """What the solution (None) and each mistake lose, by assignment and mistake."""
    mistakes = {name: [None, *ANSWERS[name]["mistakes"]] for name in NAMES}
    jobs = [
        (
            cells(proof[0], "source", n),
            [assignments.answered(proof[0], n, [m] if m else []).cells for m in ms],
        )
        for n, ms in mistakes.items()
    ]
    with Parallel(n_jobs=2) as parallel:
        found = parallel(delayed(losses_of)(*job) for job in jobs)
    return {
        (name, mistake and mistake["name"]): lost
        for (name, tried), all_lost in zip(mistakes.items(), found, strict=True)
        for mistake, lost in zip(tried, all_lost, strict=True)
    }


@pytest.mark.filterwarnings("ignore:A worker stopped")  # torch fills its memory: joblib starts another
@pytest.mark.parametrize("name", NAMES)
def test_each_common_mistake_loses_points_but_not_all(losses, name):
    assert losses[name, None] == []
    for mistake in ANSWERS[name]["mistakes"]:
        lost = losses[name, mistake["name"]]
        assert sorted(lost) == sorted(mistake["loses"]), mistake["name"]
        assert 1 <= len(lost) <= 3
