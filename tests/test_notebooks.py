"""Static checks of every stored notebook, those in notebooks/ and the executed ones under results/."""

import importlib.util
import json
import re
import subprocess
import sys

import nbformat
import pytest

from saliencylib.places import ROOT
from saliencylib.study import claims, plan, report

STORED = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXECUTED = sorted(p for p in (ROOT / "results").glob("*/notebooks/*.ipynb") if ".partial." not in p.name)
HEADINGS = [
    "The claim",
    "The data",
    "The method",
    "The result",
    "Controls",
    "Verdicts",
    "What was easy and what was not",
]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def headings(notebook, level="#{1,4}"):
    lines = [
        line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.split("\n")
    ]
    return [found[1] for line in lines if (found := re.match(rf"{level} (.+)", line))]


@pytest.fixture(params=STORED + EXECUTED, ids=lambda path: str(path.relative_to(ROOT)))
def path(request):
    return request.param


def test_all_are_there():
    assert [path.stem for path in STORED] == list(plan.NOTEBOOKS)


def test_executed_in_fresh_order_without_errors(path):
    cells = code_cells(nbformat.read(path, as_version=4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
    assert not [o for cell in cells for o in cell.outputs if o.get("name") == "stderr"]


def test_small_with_few_figures_and_alternative_texts(path):
    assert path.stat().st_size < 3 * 2**20
    outputs = [o for cell in code_cells(nbformat.read(path, as_version=4)) for o in cell.outputs]
    pictures = [o for o in outputs if {"image/png", "image/jpeg"} & set(o.get("data", {}))]
    assert len(pictures) <= 25
    for output in pictures:
        kind = "image/png" if "image/png" in output.data else "image/jpeg"
        assert output.metadata[kind].get("alt")


def test_kernel_and_metadata_are_those_of_any_machine(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "papermill" not in json.dumps(notebook.metadata)
    assert not [cell for cell in notebook.cells if {"papermill", "execution"} & set(cell.metadata)]


def test_skeleton(path):
    notebook = nbformat.read(path, as_version=4)
    found = headings(notebook, "##")
    assert found == HEADINGS
    assert len(headings(notebook)) == len(set(headings(notebook))), "headings are link targets: unique"


def test_cells_are_short_and_words_stand_between(path):
    notebook = nbformat.read(path, as_version=4)
    assert not [cell.source for cell in code_cells(notebook) if cell.source.count("\n") >= 25]
    kinds = "".join(cell.cell_type[0] for cell in notebook.cells)
    assert "cccccc" not in kinds


def test_exempt_cells_say_why(path):
    for cell in code_cells(nbformat.read(path, as_version=4)):
        lines = cell.source.split("\n")
        if "NBVAL" in cell.source:
            assert lines[0] == "# NBVAL_IGNORE_OUTPUT" and len(lines[1]) > 12 and lines[1].startswith("# ")


@pytest.mark.parametrize(("path", "results"), report.stored_notebooks().items(), ids=str)
def test_what_holds_is_told_first_and_as_measured(path, results):
    title = nbformat.read(path, as_version=4).cells[0].source
    assert title == report.with_opening(path, results).cells[0].source, (
        "run python -m saliencylib.study.report"
    )
    assert ("\n> This copy" in title) == (path.parent == ROOT / "notebooks"), "a banner for copies only"
    linked = [link for link in re.findall(r"\]\(([^)#]+)\)", title) if "://" not in link]
    assert all((path.parent / link).resolve().is_file() for link in linked)


@pytest.mark.parametrize(
    "path", [p for p in STORED + EXECUTED if p.stem in plan.NOTEBOOK_OF.values()], ids=str
)
def test_five_questions_close_the_notebook_of_a_paper(path):
    last = nbformat.read(path, as_version=4).cells[-1].source
    assert len(re.findall(r"^\d\. .+\?", last, flags=re.MULTILINE)) == 5
    assert "To try, by changing one cell" in last


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_one_parameters_cell_of_plain_values(path):
    cells = [
        c for c in code_cells(nbformat.read(path, as_version=4)) if "parameters" in c.metadata.get("tags", [])
    ]
    assert len(cells) == 1
    assert all(re.fullmatch(r"\w+ = (\"\w+\"|\d+)", line) for line in cells[0].source.split("\n"))
    assert 'profile = "quick"' in cells[0].source


@pytest.fixture
def set_up(monkeypatch):
    """Runs the set-up cell of the notebooks as if the library were (not) installed: sys.path's new entries
    and the commands that were called."""
    sources = {code_cells(nbformat.read(path, as_version=4))[0].source for path in STORED}
    assert len(sources) == 1 and report.repository() in (source := sources.pop())

    def run(installed):
        called, before = [], list(sys.path)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
        monkeypatch.setattr(subprocess, "run", lambda words, check: called.append(list(map(str, words))))
        exec(compile(source, "cell", "exec"), {})
        added = [entry for entry in sys.path if entry not in before]
        sys.path[:] = before
        return added, called

    return run


def test_the_set_up_cell_does_nothing_where_the_study_is_installed(set_up):
    assert set_up(installed=True) == ([], [])


def test_the_set_up_cell_finds_a_checkout_or_fetches_one(set_up, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT / "notebooks")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(ROOT)])
    assert set_up(installed=False) == ([str(ROOT)], [])
    monkeypatch.chdir(tmp_path)
    added, called = set_up(installed=False)
    assert added == [str(tmp_path / "study")]
    assert [words[:2] for words in called] == [["git", "clone"], [sys.executable, "-m"]]
    assert called[0][-2:] == [report.repository(), str(tmp_path / "study")]


@pytest.mark.parametrize("path", STORED[:3], ids=lambda path: path.stem)
def test_the_method_is_shown_from_the_librarys_own_source(path):
    shown = [
        output.data["text/markdown"]
        for cell in code_cells(nbformat.read(path, as_version=4))
        if "source_code(" in cell.source
        for output in cell.outputs
        if "text/markdown" in output.get("data", {})
    ]
    assert shown and all(re.match(r"```python\n(@.+\n)*(def|class) ", text) for text in shown)


def test_every_claim_is_measured_or_given_a_reason_by_its_notebook_and_leads_to_its_section():
    joined = claims.verdicts(ROOT / "results" / "mini-short")
    measured = joined["measured"].notna()
    assert joined.loc[~measured & (joined["reason"] == ""), "id"].tolist() == []
    assert joined.loc[measured & (joined["section"] == ""), "id"].tolist() == []


def test_every_claim_of_the_stored_notebooks_is_marked_in_a_cell():
    marked = [c for path in STORED[:3] for c in claims.measuring_cells(nbformat.read(path, as_version=4))]
    assert sorted(marked) == sorted(claims.table()["id"])
