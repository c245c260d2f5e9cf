"""The assignments: builds the students' copies with nbgrader and proves them (``./run_all.sh assignments``).

Once the proof holds, writes beside this script ``release/`` and ``handouts/``: a zip for the students of each
assignment, with a cell that sets it up and the list of packages. The proof grades copies of every assignment
in a temporary course folder: the blank copy must get no points and not crash the grader, the solution full
marks, a half-right answer something between, and no points for a test that its mistakes should fail.
nbgrader's autograder gives the automatic points. Written answers are for a teacher to read; the proof enters
the marks in the gradebook as a teacher would: full marks for the model answer, and the share that
``answers.toml`` states for the half-right one.
"""

import os
import shutil
import sys
import tempfile
import time
import tomllib
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import nbformat
import pandas as pd
from joblib import Parallel, delayed
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from sqlalchemy.exc import SAWarning
from traitlets.config.loader import PyFileConfigLoader

from saliencylib.places import ROOT
from saliencylib.study.report import repository

COURSE = Path(__file__).resolve().parent
CONFIG = "nbgrader_config.py"
PROOF = ("blank", "half", "solution")
REGIONS = ("SOLUTION", "HIDDEN TESTS")
REQUIREMENTS = "requirements.txt"
SET_UP = rf"""
## Set-up

**On Google Colab:** choose *File*, *Upload notebook* for this file, and run the next cell.

**On your own computer**, with Python 3.11 or newer, in the folder of this notebook (on Windows the programs
lie in `.venv\Scripts`):

```
python3 -m venv .venv
.venv/bin/pip install -r {REQUIREMENTS}
.venv/bin/jupyter lab
```

The next cell then installs the library that the assignment uses, where it is missing.
"""
INSTALL = """
from importlib.util import find_spec

if find_spec("saliencylib") is None:
    %pip install --quiet --no-deps {repository}/archive/refs/heads/main.zip
"""


class AssignmentError(Exception):
    """nbgrader could not build or grade a notebook, or an answer does not fit its assignment."""


@dataclass(frozen=True)
class Copy:
    """One student's notebook, the share of the written points that the teacher gives, and the tests (grade
    ids) that its mistakes should fail."""

    assignment: str
    student: str
    notebook: NotebookNode
    written: float = 1.0
    loses: tuple[str, ...] = ()


def assignment_names(course: Path = COURSE) -> list[str]:
    """The assignments of a course folder, in order."""
    return sorted(path.name for path in (course / "source").iterdir() if path.is_dir())


def build(folder: Path, course: Path = COURSE) -> None:
    """Make ``folder`` a course folder of its own: source, release copies and a gradebook.

    Raises AssignmentError when there are no sources, or with nbgrader's words when it refuses one.
    """
    if not (course / "source").is_dir():
        raise AssignmentError(f"{course / 'source'} is missing: the students' copies are built from it")
    shutil.copytree(course / "source", folder / "source")
    shutil.copy(course / CONFIG, folder)
    with _nbgrader(folder) as api:
        for assignment in assignment_names(folder):
            _check(api.generate_assignment(assignment), f"{assignment} cannot be built")


def proof_copies(folder: Path, course: Path = COURSE) -> list[Copy]:
    """For every assignment built in ``folder`` the blank copy, a half-right one and the solution.

    Raises AssignmentError when ``answers.toml`` does not fit the assignments.
    """
    answers = answers_of(course)
    copies = []
    for assignment in assignment_names(folder):
        half = answers[assignment]["half"]
        mistakes = [m for m in answers[assignment]["mistakes"] if m["name"] in half["mistakes"]]
        if len(mistakes) != len(half["mistakes"]):
            raise AssignmentError(f"answers.toml: the half-right {assignment} names an unknown mistake")
        loses = tuple(test for mistake in mistakes for test in mistake["loses"])
        notebook = answered(folder, assignment, mistakes, half["blank"])
        copies += [
            Copy(assignment, "blank", _notebook(folder, "release", assignment)),
            Copy(assignment, "half", notebook, half["written"], loses),
            Copy(assignment, "solution", answered(folder, assignment)),
        ]
    return copies


def answers_of(course: Path = COURSE) -> dict[str, dict]:
    """The wrong answers of ``answers.toml`` by assignment."""
    return tomllib.loads((course / "answers.toml").read_text(encoding="utf-8"))


def answered(
    folder: Path, assignment: str, mistakes: Sequence[Mapping] = (), blank: Sequence[str] = ()
) -> NotebookNode:
    """The student's copy with the solutions and model answers filled in, but for ``mistakes`` and for cells
    left ``blank`` (grade ids). Raises AssignmentError when one of them does not fit."""
    notebook = _notebook(folder, "release", assignment)
    solutions = {
        _id(cell): cell.source for cell in _notebook(folder, "source", assignment).cells if _open(cell)
    }
    if unknown := {*blank, *(mistake["cell"] for mistake in mistakes)} - set(solutions):
        raise AssignmentError(f"{assignment} has no cell {', '.join(sorted(unknown))} to answer")
    for cell in notebook.cells:
        if _open(cell) and _id(cell) not in blank:
            lines = solutions[_id(cell)].split("\n")
            cell.source = "\n".join(line for line in lines if not line.strip().startswith("###"))
        for mistake in [m for m in mistakes if m["cell"] == _id(cell)]:
            if cell.source.count(mistake["right"]) != 1:
                raise AssignmentError(f"{assignment}: {mistake['name']!r} does not fit {_id(cell)}")
            cell.source = cell.source.replace(mistake["right"], mistake["wrong"])
    return notebook


def graded(folder: Path, copies: Sequence[Copy]) -> pd.DataFrame:
    """A row a copy, in order: assignment, student, the points that it got (automatic, written, total) and
    could get (most_automatic, most_written, most), the tests without points (lost, grade ids), those that
    gave points though the copy's mistakes should fail them (missed), and seconds.

    Two are graded at a time, each in a course folder of its own. Raises AssignmentError when nbgrader
    fails, or leaves a code cell to be marked by hand.
    """
    workers = min(2, len(copies), os.cpu_count() or 1)
    rows = pd.DataFrame(Parallel(n_jobs=workers)(delayed(_graded)(folder, copy) for copy in copies))
    rows["total"] = rows["automatic"] + rows["written"]
    return rows.assign(most=rows["most_automatic"] + rows["most_written"])


def _graded(built: Path, copy: Copy) -> dict[str, object]:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("source", CONFIG, "gradebook.db"):
            place = shutil.copytree if (built / part).is_dir() else shutil.copy
            place(built / part, folder / part)
        handed_in = folder / "submitted" / copy.student / copy.assignment / f"{copy.assignment}.ipynb"
        handed_in.parent.mkdir(parents=True)
        nbformat.write(copy.notebook, handed_in)
        with _nbgrader(folder) as api:
            reply = api.autograde(copy.assignment, copy.student)
            _check(reply, f"the {copy.student} copy of {copy.assignment} cannot be graded")
            with api.gradebook as gradebook:
                row = {"assignment": copy.assignment, "student": copy.student} | _points(gradebook, copy)
    return row | {"seconds": time.perf_counter() - start}


def _points(gradebook: Gradebook, copy: Copy) -> dict[str, object]:
    """Mark the written answers that still need it, then read the points. Code is never marked by hand."""
    submission = gradebook.find_submission(copy.assignment, copy.student)
    grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
    for grade in grades:
        if grade.needs_manual_grade:
            if grade.cell.cell_type == "code":
                raise AssignmentError(
                    f"{copy.assignment}: nbgrader leaves the code cell {grade.name} to be marked by hand; "
                    "a code cell with points must hold tests and be locked"
                )
            grade.manual_score = copy.written * grade.max_score
            grade.needs_manual_grade = False
    gradebook.db.commit()
    gradebook.db.refresh(submission)
    lost = {g.name for g in grades if g.cell.cell_type == "code" and g.score == 0 < g.max_score}
    return {
        "automatic": submission.code_score,
        "written": submission.written_score,
        "most_automatic": submission.max_code_score,
        "most_written": submission.max_written_score,
        "lost": sorted(lost),
        "missed": sorted(set(copy.loses) - lost),
    }


def problems(results: pd.DataFrame) -> list[str]:
    """What the results of proof copies leave unproved, in words; empty when all is proved."""
    found = []
    for result in results.itertuples():
        of = f"{result.total:g} of {result.most:g} points"
        automatic = f"{result.automatic:g} of {result.most_automatic:g} automatic points"
        if result.student == "blank" and result.total:
            found.append(f"{result.assignment}: the blank copy gets {of}, not zero")
        if result.student == "half" and not 0 < result.automatic < result.most_automatic:
            found.append(
                f"{result.assignment}: the half-right answer gets {automatic}, not something between"
            )
        if result.missed:
            missed = ", ".join(result.missed)
            found.append(f"{result.assignment}: the mistakes of the {result.student} copy pass {missed}")
        if result.student == "solution" and result.total != result.most:
            lost = ", ".join(result.lost)
            found.append(f"{result.assignment}: the solution gets {of}; it fails {lost}")
    return found


def leaks(folder: Path) -> list[str]:
    """Solutions, model answers and hidden tests that the release copies still hold, in words."""
    found = []
    for assignment in assignment_names(folder):
        released = "\n".join(cell.source for cell in _notebook(folder, "release", assignment).cells)
        for cell in _notebook(folder, "source", assignment).cells:
            if any(secret in released for secret in _secrets(cell)):
                found.append(f"{assignment}: the students' copy shows what {_id(cell)} should hide")
    return found


def _secrets(cell: NotebookNode) -> Iterator[str]:
    """The texts of a source cell that no student may see."""
    if cell.cell_type == "markdown" and _open(cell):
        yield cell.source
    for region in REGIONS:
        for part in cell.source.split(f"### BEGIN {region}")[1:]:
            yield part.split(f"### END {region}")[0].strip()


def hand_out(folder: Path, handouts: Path) -> None:
    """Write to ``handouts`` a zip for the students of every assignment built in ``folder``: their notebook,
    with cells that set it up on Google Colab or at home, and the list of packages for the latter."""
    handouts.mkdir()
    install = INSTALL.strip().format(repository=repository())
    added = [new_markdown_cell(SET_UP.strip()), new_code_cell(install)]
    for assignment in assignment_names(folder):
        notebook = _notebook(folder, "release", assignment)
        first = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
        notebook.cells[first:first] = added
        with zipfile.ZipFile(handouts / f"{assignment}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{assignment}/{assignment}.ipynb", nbformat.writes(notebook))
            archive.write(Path(__file__).with_name(REQUIREMENTS), f"{assignment}/{REQUIREMENTS}")


def prove(folder: Path, course: Path = COURSE) -> tuple[pd.DataFrame, list[str]]:
    """Build a course in ``folder`` and grade its proof copies: their results, and what is not proved."""
    build(folder, course)
    results = graded(folder, proof_copies(folder, course))
    return results, leaks(folder) + problems(results)


def proof_table(results: pd.DataFrame) -> pd.DataFrame:
    """The proof as a table: a row an assignment, with its points, what each copy got, and seconds."""
    groups = results.groupby("assignment")
    table = groups[["most", "most_automatic", "most_written"]].first()
    table = table.join(results.pivot(index="assignment", columns="student", values="total")[[*PROOF]])
    return table.assign(seconds=groups["seconds"].sum().round()).reset_index()


def _notebook(folder: Path, step: str, assignment: str) -> NotebookNode:
    return nbformat.read(folder / step / assignment / f"{assignment}.ipynb", as_version=4)


def _id(cell: NotebookNode) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def _open(cell: NotebookNode) -> bool:
    """Whether the student writes in this cell."""
    return cell.metadata.get("nbgrader", {}).get("solution", False)


def _check(reply: Mapping, problem: str) -> None:
    if not reply["success"]:
        words = "\n".join(filter(None, (reply.get("log"), reply.get("error"))))
        raise AssignmentError(f"{problem}:\n{words}")


@contextmanager
def _nbgrader(folder: Path) -> Iterator[NbGraderAPI]:
    """nbgrader on a course folder, with its settings there and nobody else's, and one thread a kernel.

    ``PATH`` starts with this Python's programs, since nbgrader calls ``alembic`` by its name.
    """
    jupyter = folder / "jupyter"
    own = {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        "JUPYTER_NO_CONFIG": "1",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_CONFIG_DIR": str(jupyter / "config"),
        "JUPYTER_DATA_DIR": str(jupyter / "data"),
        "JUPYTER_RUNTIME_DIR": str(jupyter / "runtime"),
        "IPYTHONDIR": str(jupyter / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    (jupyter / "ipython").mkdir(parents=True, exist_ok=True)
    config = PyFileConfigLoader(CONFIG, path=str(folder)).load_config()
    config.CourseDirectory.root = str(folder)
    config.Execute.extra_arguments = ["--IPKernelApp.log_level=ERROR"]
    with mock.patch.dict(os.environ, own), warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # nbgrader's own use of its database
        yield NbGraderAPI(config=config)


def main(arguments: Sequence[str] = ()) -> int:
    """Build, prove, print the table, and put the students' copies in place; the exit status."""
    if arguments:
        print(f"assignments: takes no arguments, not {' '.join(arguments)}", file=sys.stderr)
        return 2
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        try:
            results, unproved = prove(Path(name), COURSE)
        except AssignmentError as error:
            print(f"assignments: {error}", file=sys.stderr)
            return 1
        print(proof_table(results).to_string(index=False, float_format="{:g}".format))
        for problem in unproved:
            print(f"assignments: {problem}", file=sys.stderr)
        if unproved:
            return 1
        hand_out(Path(name), Path(name) / "handouts")
        for step in ("release", "handouts"):
            shutil.rmtree(COURSE / step, ignore_errors=True)
            shutil.copytree(Path(name) / step, COURSE / step)
    print("Automatic points are nbgrader's. Written answers were marked by the proof as a teacher would mark")
    print("them: full marks for the model answer, half marks in the half-right copy.")
    seconds = time.perf_counter() - start
    print(f"Proved in {seconds:.0f} s. The zips for students are in {os.path.relpath(COURSE / 'handouts')}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
