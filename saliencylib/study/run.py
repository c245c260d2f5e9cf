"""Runs the notebooks headless: choosing, executing, skipping what is finished, reporting.

``./run_all.sh`` calls ``python -m saliencylib.run``; the options are those of ``saliencylib.plan``.
"""

import ast
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import torch
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from saliencylib.study import cache, claims, plan, session as profiles
from saliencylib.licnn.method import classifiers
from saliencylib import data
from saliencylib.photograph import reading as photo

NOTEBOOK_FOLDER = plan.ROOT / "notebooks"
PACKAGES = ("torch", "torchvision", "numpy", "scikit-image", "captum", "timm", "pymatting", "scikit-learn")


class Refused(Exception):
    """The run cannot start; the text says why and what to do."""


def main(arguments: list[str]) -> int:
    """Run what the options ask for; 0 when all notebooks finished, 1 when one failed, 2 for wrong input."""
    options = plan.parser().parse_args(arguments)
    try:
        return run(options)
    except (Refused, data.DataNotFound, ValueError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: nothing finished is lost; the same call continues", file=sys.stderr)
        return 130


def run(options) -> int:
    """Execute the jobs that ``options`` (of ``plan.parser``) ask for and report; the exit status."""
    device = profiles.device_named(options.device)
    gpu = device.type == "cuda"
    jobs = plan.chosen(plan.selected(options.only), options.profile, options.schedule, gpu, data.available)
    parameters = checked_parameters(options.parameters, jobs)
    for folder in {job.folder for job in jobs}:
        _check_writable(profiles.results_root() / folder)
    if options.download:
        _download(jobs)
    if options.fresh:
        shutil.rmtree(cache.CACHE, ignore_errors=True)
    print(f"torch {torch.__version__} on {_device_text(device)}", flush=True)
    failures = []
    for job in jobs:
        failure = execute(job, str(device), parameters, options.fresh)
        if failure:
            failures.append(failure)
    for folder in dict.fromkeys(job.folder for job in jobs):
        report(profiles.results_root() / folder)
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def checked_parameters(pairs: list[list[str]], jobs: list[plan.Job]) -> dict[str, object]:
    """Values for the notebooks' own parameters, typed as the notebooks declare them.

    Raises Refused for a name that no notebook of the run has, for one that an option sets, or a wrong type.
    """
    known = {}
    for job in jobs:
        known |= papermill.inspect_notebook(str(NOTEBOOK_FOLDER / f"{job.notebook}.ipynb"))
    free = sorted(set(known) - {"profile", "schedule", "device"})
    values = {}
    for name, text in pairs:
        if name not in free:
            raise Refused(
                f"unknown notebook parameter {name!r}; valid parameters: {', '.join(free) or 'none'}"
            )
        try:
            kind = type(ast.literal_eval(known[name]["default"]))
            values[name] = kind(text)
        except ValueError as error:
            raise Refused(f"parameter {name} must be of type {kind.__name__}, not {text!r}") from error
    return values


def execute(
    job: plan.Job,
    device: str,
    parameters: dict[str, object],
    fresh: bool = False,
    folder: Path | None = None,
) -> str | None:
    """Run one notebook unless it is finished; None, or a text that names notebook, cell and error.

    ``folder`` is the run folder, by default that of the job.
    """
    folder = folder or profiles.results_root() / job.folder
    source = NOTEBOOK_FOLDER / f"{job.notebook}.ipynb"
    declared = papermill.inspect_notebook(str(source))
    values = {"profile": job.profile, "schedule": job.schedule, "device": device} | parameters
    values = {name: value for name, value in values.items() if name in declared}
    mark = fingerprint(job, values)
    if not fresh and finished(job, folder, mark):
        print(f"{job.notebook} ({job.folder}): finished before, nothing it uses has changed", flush=True)
        return None
    print(f"{job.notebook} ({job.folder}): running, about {job.minutes:g} min", flush=True)
    started = time.time()
    partial = folder / "notebooks" / f"{job.notebook}.partial.ipynb"
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(source),
            str(partial),
            parameters=values,
            cwd=str(NOTEBOOK_FOLDER),
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
    except PapermillExecutionError as error:
        where = f"{job.notebook}, cell {error.exec_count}"
        return f"FAILED {where}: {error.ename}: {error.evalue} (see {_shown(partial)})"
    except (DeadKernelError, OSError) as error:
        return f"FAILED {job.notebook}: {type(error).__name__}: {error}"
    seconds = time.time() - started
    steps = store(partial, folder / "notebooks" / f"{job.notebook}.ipynb")
    partial.unlink()
    record(folder, job.notebook, mark, values, seconds, steps)
    print(f"{job.notebook} ({job.folder}): done in {seconds:.0f} s", flush=True)
    return None


def fingerprint(job: plan.Job, values: dict[str, object]) -> str:
    """Changes when the notebook's code, a library module it uses, its parameters or its data change."""
    notebook = nbformat.read(NOTEBOOK_FOLDER / f"{job.notebook}.ipynb", as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    sources = {name: (plan.ROOT / "saliencylib" / name).read_text() for name in sorted(modules_used(code))}
    sets = plan.NEEDS[job.notebook].get(job.profile, ())
    marks = {name: data.fingerprint(name) for name in sets}
    if job.notebook == "04_scoreboard":
        tables = sorted((profiles.results_root() / job.folder / "tables").glob("*_claims.csv"))
        marks = {table.name: table.read_text() for table in tables}
    return cache.key(code, sources, values, marks, torch.__version__)


def modules_used(code: list[str]) -> set[str]:
    """File names of the library modules that pieces of code import, directly or through one another.

    Data files beside the modules (tables, the figure style) count as used by all.
    """
    folder = plan.ROOT / "saliencylib"
    used = {path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}
    waiting = [name for text in code for name in imported(text)]
    while waiting:
        name = waiting.pop()
        if name not in used and (folder / name).exists():
            used.add(name)
            waiting += imported((folder / name).read_text())
    return used


def imported(text: str) -> list[str]:
    """File names of the library modules that a piece of Python imports itself."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "saliencylib":
            names += [f"{alias.name}.py" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("saliencylib."):
            names.append(f"{node.module.split('.')[1]}.py")
    return names


def finished(job: plan.Job, folder: Path, mark: str) -> bool:
    """Whether the record says that this very notebook run is complete and its outputs are still there."""
    entry = read_record(folder).get(job.notebook, {})
    outputs = [folder / "notebooks" / f"{job.notebook}.ipynb"]
    if job.notebook in plan.NOTEBOOK_OF.values():
        outputs.append(folder / "tables" / f"{job.notebook[:2]}_claims.csv")
    return entry.get("fingerprint") == mark and all(path.exists() for path in outputs)


def read_record(folder: Path) -> dict[str, dict]:
    """The entries of a run folder's provenance.json by notebook; empty when there is none.

    Raises Refused when the file cannot be read.
    """
    path = folder / "provenance.json"
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Refused(
            f"{_shown(path)} cannot be read ({error}): delete it to run the notebooks again"
        ) from error


def record(
    folder: Path, notebook: str, mark: str, values: dict[str, object], seconds: float, steps: dict[str, float]
) -> None:
    """Note in provenance.json that a notebook is finished, with versions, machine, data and wall times."""
    device = torch.device(str(values.get("device", "cpu")))
    sets = plan.NEEDS[notebook].get(str(values["profile"]), ())
    entry = {
        "fingerprint": mark,
        "parameters": values,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 1),
        "seconds by section": {name: round(duration, 1) for name, duration in steps.items()},
        "device": _device_text(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "data": {name: data.fingerprint(name) for name in sets},
    }
    text = json.dumps(read_record(folder) | {notebook: entry}, indent=1, sort_keys=True) + "\n"
    cache.write(folder / "provenance.json", lambda temporary: temporary.write_text(text))


def store(executed: Path, target: Path) -> dict[str, float]:
    """Copy an executed notebook; seconds by section heading.

    Papermill's marks and what libraries write to stderr are left out: they name this machine's paths, times.
    """
    notebook = nbformat.read(executed, as_version=4)
    heading, steps = "start", {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")]
            heading = headings[-1] if headings else heading
        seconds = cell.metadata.get("papermill", {}).get("duration") or 0
        if seconds:
            steps[heading] = steps.get(heading, 0) + seconds
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
    notebook.metadata.pop("papermill", None)
    cache.write(target, lambda temporary: nbformat.write(notebook, temporary))
    return steps


def store_quick() -> None:
    """Put the executed notebooks of the quick run in place of those in ``notebooks``, parameters aside.

    For maintainers: ``python -m saliencylib.run store`` after a complete ``./run_all.sh --profile quick``.
    """
    for name in plan.NOTEBOOKS:
        notebook = nbformat.read(
            profiles.results_root() / "quick" / "notebooks" / f"{name}.ipynb", as_version=4
        )
        injected = "injected-parameters"
        notebook.cells = [c for c in notebook.cells if injected not in c.metadata.get("tags", [])]
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for number, cell in enumerate(code, start=1):
            cell.execution_count = number
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = number
        path = NOTEBOOK_FOLDER / f"{name}.ipynb"
        cache.write(path, lambda temporary, notebook=notebook: nbformat.write(notebook, temporary))


def run_photograph(arguments: list[str]) -> int:
    """Run notebook 05 on a photograph, given by its path or name; 0, 1 when the notebook failed, 2 for a file
    that cannot be used."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("run_all.sh: photo takes one file, for example: photo holiday.jpg", file=sys.stderr)
        return 2
    source = str(Path(arguments[0]).resolve()) if Path(arguments[0]).exists() else arguments[0]
    try:
        name = photo.folder_name(source)
    except (data.DataNotFound, data.DataInvalid) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    job = plan.Job("05_your_own_photograph", "quick", "short", "as asked")
    folder = profiles.results_root() / (name or job.folder)
    failure = execute(job, "cpu", {"photograph": source}, fresh=True, folder=folder)
    if failure:
        print(failure, file=sys.stderr)
        return 1
    print(pd.read_csv(folder / "tables" / "05_classes.csv").to_string(index=False))
    print(f"\npictures: {_shown(folder / 'figures')}")
    print(f"notebook: {_shown(folder / 'notebooks' / job.notebook)}.ipynb")
    return 0


def report(folder: Path) -> None:
    """Print the scoreboard of a run folder and the paths of what lies in it."""
    try:
        joined = claims.verdicts(folder)
    except FileNotFoundError:
        print(f"\n{_shown(folder)}: no notebook has finished yet, so there is no scoreboard")
        return
    print(f"\nScoreboard of {_shown(folder)}")
    rows = claims.readable(joined)[["id", "printed", "measured (95 % interval)", "data", "verdict"]]
    width = [min(60, rows[column].str.len().max()) for column in rows]
    for row in rows.itertuples(index=False):
        print("  ".join(f"{text[:w]:<{w}}" for text, w in zip(row, width, strict=True)).rstrip())
    print()
    print(claims.summary(joined).to_string(index=False))
    print()
    for name in ("notebooks", "tables", "figures"):
        count = len([path for path in (folder / name).glob("*") if not path.name.startswith(".")])
        print(f"{count:>4} {name:<10} {_shown(folder / name)}")


def _check_writable(folder: Path) -> None:
    probe = folder / "tables" / ".probe"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("probe")
        probe.unlink()
    except OSError as error:
        raise Refused(
            f"{_shown(folder)} cannot be written ({error.strerror}): free the disk, change its rights, "
            "or set SALIENCY_RESULTS to another folder"
        ) from error


def _download(jobs: list[plan.Job]) -> None:
    for job in jobs:
        for name in plan.NEEDS[job.notebook].get(job.profile, ()):
            if not data.available(name):
                print(f"fetching {name}", flush=True)
                data.download(name)
        classifier = profiles.SETTINGS[job.notebook][job.folder].get("classifier")
        if classifier:
            classifiers.load_classifier(classifier, download=True)


def _device_text(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    command = ["git", "-C", str(plan.ROOT), "describe", "--always", "--dirty"]
    try:
        return (
            subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
        )
    except OSError:
        return "unknown"


def _shown(path: Path) -> str:
    return os.path.relpath(path)


if __name__ == "__main__":
    if sys.argv[1:] == ["store"]:
        store_quick()
    elif sys.argv[1:2] == ["photo"]:
        sys.exit(run_photograph(sys.argv[2:]))
    else:
        sys.exit(main(sys.argv[1:]))
