"""nbgrader's settings for the assignments; nbgrader reads this file in the folder that it is called in."""

from pathlib import Path

from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearOutput,
    NbGraderPreprocessor,
    OverwriteCells,
    OverwriteKernelspec,
)

c = get_config()  # noqa: F821 (nbgrader defines it)

c.CourseDirectory.course_id = "saliency"
c.Execute.timeout = 60  # seconds a cell: one that hangs loses its own points, and the next cells go on
c.IgnorePattern.enabled, c.IgnorePattern.pattern = True, "^"  # a message on stderr costs no points


class RestoreMetadata(NbGraderPreprocessor):
    """Gives each cell the nbgrader metadata that it was handed out with.

    Of a cell that was pasted more than once, the last one keeps them; the others, and cells of another
    assignment, become ordinary cells. nbgrader would stop at such a notebook, and grade nobody after it.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        known = handed_out(**resources["nbgrader"])
        for cell in reversed(nb.cells):
            given = cell.metadata.pop("nbgrader", None)
            grade_id = given.get("grade_id") if isinstance(given, dict) else None
            if grade_id in known:
                cell.metadata["nbgrader"] = known.pop(grade_id)
        return nb, resources


def handed_out(assignment: str, notebook: str, db_url: str, **_) -> dict[str, dict]:
    """The nbgrader metadata of a notebook's cells, by grade id, as the gradebook knows them."""
    with Gradebook(db_url) as gradebook:
        found = gradebook.find_notebook(notebook, assignment)
        points = {cell.name: cell.max_score for cell in found.grade_cells}
        solutions = {cell.name for cell in found.solution_cells}
        return {
            cell.name: {"schema_version": 3, "grade_id": cell.name, "locked": cell.locked, "task": False}
            | {"grade": cell.name in points, "solution": cell.name in solutions}
            | ({"points": points[cell.name]} if cell.name in points else {})
            for cell in found.source_cells
        }


c.Autograde.sanitize_preprocessors = [
    ClearOutput,
    RestoreMetadata,  # in place of nbgrader's DeduplicateIds
    OverwriteKernelspec,
    OverwriteCells,
    CheckCellMetadata,
]

# zip_collect: the student is what stands before the platform's own marks in the name of the file, or of a
# folder that holds it: "Chen Li_4712_assignsubmission_file_1_mask_layer.ipynb" (Moodle, which hides a name as
# "Participant"), "lichen_LATE_20417_881203_1_mask_layer-1.ipynb" (Canvas), or just "chen_1_mask_layer.ipynb".
names = "|".join(sorted(path.name for path in Path(__file__).parent.glob("source/*")))
marks = rf"(?:_\d+)?_assignsubmission_file|(?:_LATE)?_\d+_\d+_|_(?={names})"
c.FileNameCollectorPlugin.named_regexp = (
    r"(?!.*/(?:__MACOSX|\.ipynb_checkpoints)/)"  # what zip files of whole folders bring along
    r"(?:.*/extracted/|(?!/))(?:.*/)?"
    rf"(?P<student_id>Participant_\d+|[^/]+?)(?:{marks}).*?(?P<file_id>{names})[^/]*$"
)
