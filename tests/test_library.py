"""The library as a whole: its layers, its names, its face, and the wheel that others install."""

import ast
import subprocess
import sys
import zipfile
from collections import defaultdict
from graphlib import TopologicalSorter

import pytest

import saliencylib
from saliencylib.places import ROOT
from saliencylib.study.sources import imported, modules_behind

BOTTOM = {"places", "files", "lock", "stats", "metrics", "saliency", "digits", "figures", "inputs", "data"}
PAPERS = {"sal_mask", "shallow_cnn", "licnn"}
SHARED_FROM_STUDY = {"saliencylib.study.keep", "saliencylib.study.claims", "saliencylib.study.session"}
# Names that several modules define because they are one interface: the commands' entry, the names of the
# methods that one call understands, and the papers' figures by their numbers.
ONE_INTERFACE = {"main", "METHODS"}


def modules() -> dict[str, str]:
    """Every module of the library by its dotted name, with its text."""
    paths = sorted((ROOT / "saliencylib").rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    return {name.removesuffix(".__init__"): text for name, text in zip(names, texts, strict=True)}


MODULES = modules()


def layer(module: str) -> str:
    """The file or folder of the library that a module lies in ("" for the face)."""
    return module.partition(".")[2].partition(".")[0]


def test_imports_go_one_way():
    graph = {name: set(imported(text)) - {name} for name, text in MODULES.items()}
    TopologicalSorter(graph).prepare()
    for module, used in graph.items():
        above = {name for name in used if layer(name) not in BOTTOM | {"_lazy", layer(module)}}
        if layer(module) in BOTTOM:
            assert above <= {"saliencylib.study.keep"}, f"{module} imports {above}"
        elif layer(module) in PAPERS:
            assert above <= SHARED_FROM_STUDY, f"{module} imports {above}"
        elif layer(module) == "photograph":
            from_study = {name for name in above if layer(name) not in PAPERS}
            assert from_study <= SHARED_FROM_STUDY, f"{module} imports {from_study}"


@pytest.mark.parametrize("part", ["network", "training", "masks", "gaze", "method", "attribution", "blur"])
def test_what_trains_or_computes_knows_nothing_that_draws_or_judges(part):
    found = [name for name in MODULES if name.endswith(f".{part}") and layer(name) in PAPERS]
    assert found
    behind = {name.rpartition(".")[2] for name in modules_behind(found, left_out=("saliencylib.study",))}
    assert not behind & {"figures", "results", "claims", "session"}


def test_a_public_name_means_one_thing():
    defined = defaultdict(set)
    for module, text in MODULES.items():
        for node in ast.parse(text).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
            for name in (getattr(target, "id", getattr(target, "name", None)) for target in targets):
                if name and not name.startswith("_") and name != "NAMES":
                    defined[name].add(module)
    twice = {name: places for name, places in defined.items() if len(places) > 1}
    numbered = {name for name in twice if name.startswith(("figure_", "table_")) and name[-1].isdigit()}
    assert {name: twice[name] for name in set(twice) - ONE_INTERFACE - numbered} == {}


def test_packages_offer_names_and_hold_no_code():
    for name in (
        "saliencylib",
        *(f"saliencylib.{part}" for part in (*PAPERS, "data", "study", "photograph")),
    ):
        body = ast.parse(MODULES[name]).body
        kinds = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign)
        assert all(isinstance(node, kinds) for node in body), name


def test_the_face_is_instant_and_complete():
    code = "import sys, saliencylib; print(sorted({'numpy', 'torch', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    assert dir(saliencylib) == sorted(saliencylib.NAMES)
    for name in saliencylib.NAMES:
        assert getattr(saliencylib, name) is not None
        assert f"\n    {name} " in saliencylib.__doc__, f"help(saliencylib) does not say what {name} is for"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        saliencylib.nothing  # noqa: B018


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with nothing but the library, installed from its wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / "saliencylib").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = folder.glob("saliencylib-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_every_module_imports_from_the_wheel_without_the_project(installed, tmp_path):
    tracked = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "saliencylib").rglob("*") if path.is_file()
    }
    wanted = {name for name in tracked if "__pycache__" not in name}
    assert wanted == {name for name in wanted if (installed / name).is_file()}
    names = list(MODULES)
    code = (
        f"import importlib\nfor name in {names!r}:\n    module = importlib.import_module(name)\n"
        f"    assert module.__file__.startswith({str(installed)!r}), module.__file__\n"
        "from saliencylib.data import REGISTRY\nfrom saliencylib.shallow_cnn import shipped\n"
        "from saliencylib.study import claims\nassert len(REGISTRY) > 10 and len(claims.table()) > 70\n"
        "shipped.shipped_network()\n"
    )
    environment = {"PYTHONPATH": str(installed), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
