"""What goes stale when a line of the library changes, notebooks and kept results, tried on a copy of it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from saliencylib.places import ROOT
from saliencylib.study import sources
from saliencylib.study.plan import NOTEBOOKS

# Each edit: a file, what is replaced once in it, and by what; "" stands for its end.
EDITS = {
    "a line": ("licnn/blur.py", "", "\nUNUSED = 1\n"),
    "a docstring": ("licnn/blur.py", '"""', '"""Other words. '),
    "a message": ("data/registry.py", 'raise ValueError(f"unknown ', 'raise ValueError(f"not known: '),
    "the report": ("study/report.py", "", "\nUNUSED = 1\n"),
    "the verdicts": ("study/claims.py", "", "\nUNUSED = 1\n"),
    "a claim": ("study/claims.csv", "printed", "stated"),
}
KEEPING = ("digits", "saliency", "sal_mask.training", "shallow_cnn.training", "licnn.blur", "licnn.sanity")
MARKS = """
import importlib, inspect, json, sys
from pathlib import Path
from saliencylib.study import plan, run, sources

def marks():
    sources.code_of.cache_clear()
    jobs = [plan.Job(name, "quick", "short", "") for name in plan.NOTEBOOKS]
    found = {job.notebook: run.notebook_fingerprint(job, {}) for job in jobs}
    for name in KEEPING:
        module = importlib.import_module(f"saliencylib.{name}")
        for _, function in inspect.getmembers(module, inspect.isfunction):
            if hasattr(function, "key") and function.__module__.endswith(name):
                arguments = dict.fromkeys(inspect.signature(function).parameters)
                found[f"{name}.{function.__name__}"] = function.key(**arguments)
    return found

before, stale = marks(), {}
for name, (file, old, new) in EDITS.items():
    path = Path(sources.ROOT, "saliencylib", file)
    text = path.read_text()
    assert old in text, name
    path.write_text(text.replace(old, new, 1) if old else text + new)
    stale[name] = [mark for mark, value in marks().items() if value != before[mark]]
    path.write_text(text)
print(json.dumps([sorted(before), stale]))
"""


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """All marks by name, and those that each edit makes stale."""
    copy = tmp_path_factory.mktemp("copy")
    for part in ("saliencylib", "notebooks"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", "assignments"))
    done = subprocess.run(
        [sys.executable, "-c", f"EDITS, KEEPING = {EDITS!r}, {KEEPING!r}\n{MARKS}"],
        capture_output=True,
        text=True,
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_module_that_keeps_results_has_a_key(tried):
    assert all(any(mark.startswith(f"{module}.") for mark in tried[0]) for module in KEEPING)


def test_a_changed_line_makes_stale_what_imports_it_and_nothing_else(tried):
    marks, stale = tried
    kept = [mark for mark in marks if mark.startswith("licnn.blur.")]
    assert sorted(stale["a line"]) == ["03_licnn", "05_your_own_photograph", *kept]


@pytest.mark.parametrize("edit", ["a docstring", "a message", "the report"])
def test_what_only_words_or_reports_makes_nothing_stale(tried, edit):
    assert tried[1][edit] == []


@pytest.mark.parametrize("edit", ["the verdicts", "a claim"])
def test_what_judges_makes_notebooks_stale_but_nothing_kept(tried, edit):
    assert set(tried[1][edit]) == set(NOTEBOOKS)


def test_every_python_has_the_same_fingerprint_of_a_piece_of_code():
    code = 'def f(x: int, *y, z=None):\n    "doc"\n    return f"{x:.2f} {y!r}" if z else [0, -1.5, None]\n'
    assert sources._digest_of(code) == "cf9e7c1e1ca1a182"
    assert sources._digest_of(code.replace("doc", "words")) == sources._digest_of(code)
    assert sources._digest_of(code.replace("-1.5", "1.5")) != sources._digest_of(code)
