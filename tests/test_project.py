"""Checks of the repository as a whole: pins, README, paths, unsafe calls."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import nbformat
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


# Calls that run code which they are given, by the end of their dotted names.
RUNS_CODE = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "read_pickle",
    "joblib.load",
}
RUNS_CODE |= {"yaml.load", "yaml.unsafe_load", "marshal.loads", "shelve.open", "subprocess.getoutput"}
# Calls that write what an archive names, or fetch what nobody has checked.
UNCHECKED = {"extractall", "unpack_archive", "urlretrieve", "urlopen", "torch.hub.load", "hf_hub_download"}
BUILTINS = {"eval", "exec"}  # a method of that name is another thing
# Calls that are safe with a certain argument alone.
SAFE_WITH = {"torch.load": ("weights_only", True), "load_state_dict_from_url": ("check_hash", True)}
UNSAFE_ARGUMENTS = {("shell", True), ("allow_pickle", True), ("pretrained", True), ("weights", "DEFAULT")}


def unsafe_calls(code: str) -> list[str]:
    """The calls in a piece of Python that could run foreign code or load what is not checked, by name."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if name.split(".")[0] in ("pickle", "cPickle", "dill", "shelve")]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {word.arg: getattr(word.value, "value", ...) for word in node.keywords}
        known = RUNS_CODE | UNCHECKED
        wrong = any(
            name == ending or (name.endswith(f".{ending}") and ending not in BUILTINS) for ending in known
        )
        for ending, (argument, value) in SAFE_WITH.items():
            wrong |= (name == ending or name.endswith(f".{ending}")) and given.get(argument) is not value
        if wrong or any((argument, value) in UNSAFE_ARGUMENTS for argument, value in given.items()):
            found.append(name)
    return found


def code_of(path: Path) -> str:
    """The Python of a file, or of all code cells of a notebook."""
    if path.suffix == ".py":
        return path.read_text()
    return "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")


def test_no_code_runs_what_it_was_given_or_loads_what_nobody_checked():
    sources = [path for path in tracked() if path.suffix in (".py", ".ipynb") and "tests" not in path.parts]
    assert sources and not {str(path): calls for path in sources if (calls := unsafe_calls(code_of(path)))}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "eval(text)",
        "os.system('ls ' + name)",
        "subprocess.run(command, shell=True)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.hub.load_state_dict_from_url(url)",
        "pd.read_pickle(path)",
        "yaml.load(text)",
        "tar.extractall(folder)",
        "urllib.request.urlretrieve(url, path)",
        "timm.create_model(name, pretrained=True)",
        "models.vgg16(weights='DEFAULT')",
    ],
)
def test_unsafe_calls_are_seen(code):
    assert unsafe_calls(code)


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "torch.load(path, weights_only=True)",
        "torch.hub.load_state_dict_from_url(url, check_hash=True)",
        "np.load(path, allow_pickle=False)",
        "yaml.safe_load(text)",
        "subprocess.run([sys.executable, path])",
    ],
)
def test_safe_calls_are_let_alone(code):
    assert not unsafe_calls(code)


def test_committed_files_are_small():
    large = {path.name: path.stat().st_size for path in tracked() if path.stat().st_size > 3 * 2**20}
    assert not large
