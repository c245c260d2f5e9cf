"""Runs the notebooks headless: executing, skipping what is finished, recording, reporting.

``./run_all.sh`` calls ``python -m saliencylib.study.run`` with the options of ``saliencylib.study.plan``.
"""

import argparse
import ast
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import nbformat
import pandas as pd
import papermill
import torch
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from saliencylib.data.checks import fingerprint
from saliencylib.data.get import obtain
from saliencylib.data.registry import DataNotFound
from saliencylib.data.states import lacking, state_of
from saliencylib.files import clear_away, write
from saliencylib.inputs import check_seed
from saliencylib.licnn.classifiers import load_classifier
from saliencylib.lock import alone_in
from saliencylib.photograph.reading import folder_name
from saliencylib.places import ROOT, cache_root, data_root, environment, given, results_root
from saliencylib.study import claims, cluster, plan, records
from saliencylib.study.keep import digest
from saliencylib.study.report import OPENING, REPORTED_RUN, updated
from saliencylib.study.session import device_named
from saliencylib.study.settings import SETTINGS
from saliencylib.study.sources import code_of_text

NOTEBOOK_FOLDER = ROOT / "notebooks"
PACKAGES = ("torch", "torchvision", "numpy", "scikit-image", "captum", "timm", "pymatting", "scikit-learn")
# What is printed of a claim, beside its id, place and verdict.
SHOWN = ("statement", "printed", "what is measured", "measured (95 % interval)", "null control", "data")
# What a notebook's results do not depend on: of the settings its own count, by their values.
NOT_IN_FINGERPRINTS = ("saliencylib.study.settings", "saliencylib.study.plan")


def main(arguments: list[str]) -> int:
    """Run what the options ask for; 0 when all notebooks finished, 1 when one failed, 2 for wrong input."""
    try:
        plan.check_paths()
        if arguments[:1] == ["photo"]:
            return run_photograph(arguments[1:])
        return run_study(plan.parser().parse_args(arguments))
    except (DataNotFound, ValueError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: nothing finished is lost; the same call continues", file=sys.stderr)
        return 130


def run_study(options: argparse.Namespace) -> int:
    """Execute the jobs that ``options`` (of ``plan.parser``) ask for and report; the exit status.

    Raises ValueError or DataNotFound for what cannot be run, and while another run is at work in one of its
    run folders.
    """
    device = device_named(options.device)
    gpu = device.type == "cuda"
    jobs = plan.chosen(plan.selected(options.only), options.profile, options.schedule, gpu)
    parameters = checked_parameters(options.parameters, jobs)
    folders = [results_root() / name for name in dict.fromkeys(job.folder for job in jobs)]
    failures: dict[plan.Job, str | None] = {}
    try:
        with _alone(folders), mock.patch.dict(os.environ):
            _prepare(options, jobs)
            print(f"torch {torch.__version__} on {_device_text(device)}", flush=True)
            for job in jobs:
                why = _not_judged(job, failures)
                failures[job] = why or execute(job, str(device), parameters, options.fresh)
            for folder in folders:
                ended = [job for job, failure in failures.items() if not failure]
                report_run(folder, [job.notebook for job in ended if results_root() / job.folder == folder])
    finally:
        for failure in filter(None, failures.values()):
            print(failure, file=sys.stderr)
    return 1 if any(failures.values()) else 0


def _prepare(options: argparse.Namespace, jobs: list[plan.Job]) -> None:
    """Bring and check the data, clear away what earlier runs left, and set what the kernels' processes need.

    Raises ValueError or DataNotFound for data that is missing or damaged, and for a cluster out of reach.
    """
    if options.download:
        _download(jobs)
    if why := plan.refusal(jobs, download=False):
        raise ValueError(why)
    _check_data(plan.needed(jobs))
    for root in (cache_root(), results_root()):
        clear_away(root)
    if options.fresh:
        _forget_cache()
        os.environ["SALIENCY_FRESH"] = "1"  # the kernels do not read results/kept either
    # The kernels use the cluster that this process connects to, or starts.
    address = options.dask and cluster.client_at(options.dask).scheduler.address
    os.environ[cluster.VARIABLE] = address


def _not_judged(job: plan.Job, failures: Mapping[plan.Job, str | None]) -> str | None:
    """Why a scoreboard is left out: what a failed notebook measured in an earlier run may be there still."""
    failed = [other.notebook for other, why in failures.items() if why and other.folder == job.folder]
    if job.notebook != "04_scoreboard" or not failed:
        return None
    return f"FAILED {job.notebook}: not run, since {', '.join(failed)} failed: mend that and call again"


def checked_parameters(pairs: list[list[str]], jobs: list[plan.Job]) -> dict[str, object]:
    """Values for the notebooks' own parameters, typed as the notebooks declare them.

    Raises ValueError for a name that no notebook of the run has or that an option sets, and for a wrong type.
    """
    known = {}
    for job in jobs:
        known |= _declared(job.notebook)
    free = sorted(set(known) - {"profile", "schedule", "device"})
    values = {}
    for name, text in pairs:
        if name not in free:
            raise ValueError(
                f"unknown notebook parameter {name!r}; valid parameters: {', '.join(free) or 'none'}"
            )
        kind = type(ast.literal_eval(known[name]["default"]))
        try:
            values[name] = kind(text.encode().decode())
        except ValueError as error:
            wanted = "UTF-8 text" if kind is str else f"of type {kind.__name__}"
            raise ValueError(f"parameter {name} must be {wanted}, not {text!r}") from error
        if name == "first_seed":
            check_seed(f"parameter {name}", values[name])
    return values


def _declared(notebook: str) -> dict[str, dict]:
    """The parameters that a notebook declares; none where it is missing."""
    source = NOTEBOOK_FOLDER / f"{notebook}.ipynb"
    return papermill.inspect_notebook(_literal(source)) if source.is_file() else {}


def _literal(path: Path) -> str:
    """A path as papermill takes it, for which braces are places to fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


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
    folder = folder or results_root() / job.folder
    source = NOTEBOOK_FOLDER / f"{job.notebook}.ipynb"
    if not source.is_file():
        return f"FAILED {job.notebook}: {_shown(source)} is missing: put it back"
    declared = _declared(job.notebook)
    values = {"profile": job.profile, "schedule": job.schedule, "device": device} | parameters
    values = {name: value for name, value in values.items() if name in declared}
    mark = notebook_fingerprint(job, values)
    if not fresh and finished(job, folder, mark):
        print(f"{job.notebook} ({job.folder}): finished before, nothing it uses has changed", flush=True)
        return None
    print(f"{job.notebook} ({job.folder}): running, about {job.minutes:g} min", flush=True)
    partial = folder / "notebooks" / f"{job.notebook}.partial.ipynb"
    described = _device_text(torch.device(device)), _commit()
    try:
        with (
            records.on_record(folder, job.notebook, mark, *described) as parts,
            mock.patch.dict(os.environ, environment()),  # the kernel's working folder is another
        ):
            papermill.execute_notebook(
                _literal(source),
                _literal(partial),
                parameters=values,
                cwd=str(NOTEBOOK_FOLDER),
                kernel_name="python3",
                progress_bar=False,
                log_output=False,
                stderr_file=sys.stderr if cluster.joined() else None,  # its progress
                extra_arguments=["--IPKernelApp.log_level=ERROR"],
            )
        steps = store(partial, folder / "notebooks" / f"{job.notebook}.ipynb")
        partial.unlink()
        record(folder, job.notebook, mark, values, steps, parts)
        records.uncount(folder, job.notebook)
    except PapermillExecutionError as error:
        where = f"{job.notebook}, cell {error.exec_count}"
        return f"FAILED {where}: {error.ename}: {error.evalue} (see {_shown(partial)})"
    except DeadKernelError as error:
        return f"FAILED {job.notebook}: {type(error).__name__}: {error}"
    except OSError as error:
        return f"FAILED {job.notebook}: {error}: {_writable('SALIENCY_RESULTS')}"
    print(f"{job.notebook} ({job.folder}): done in {parts[-1]['seconds']:.0f} s", flush=True)
    return None


def notebook_fingerprint(job: plan.Job, values: dict[str, object]) -> str:
    """Changes when the notebook's code, the library behind it, its settings, parameters or data change."""
    notebook = nbformat.read(NOTEBOOK_FOLDER / f"{job.notebook}.ipynb", as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    library = code_of_text("\n".join(code), NOT_IN_FINGERPRINTS)
    settings = SETTINGS[job.notebook][job.folder]
    used = _data_fingerprints(job.notebook, job.profile)
    if job.notebook == "04_scoreboard":
        tables = sorted((results_root() / job.folder / "tables").glob("[0-9]*_claims.csv"))
        used = {table.name: table.read_text(encoding="utf-8", errors="replace") for table in tables}
    return digest(code, library, settings, values, used, torch.__version__)


def _data_fingerprints(notebook: str, profile: str) -> dict[str, str]:
    return {name: fingerprint(name) for name in plan.NEEDS[notebook].get(profile, ())}


def finished(job: plan.Job, folder: Path, mark: str) -> bool:
    """Whether the record says that this very notebook run is complete and its outputs are still whole."""
    entry = records.known(folder).get(job.notebook, {})
    if entry.get("fingerprint") != mark or "outputs" not in entry:
        return False
    if claims.executed_notebook(folder / "notebooks" / f"{job.notebook}.ipynb") is None:
        return False
    outputs = entry["outputs"].items()
    return all(records.digest_of_file(folder / name) == digits for name, digits in outputs)


def record(
    folder: Path,
    notebook: str,
    mark: str,
    values: dict[str, object],
    steps: dict[str, float],
    parts: list[dict],
) -> None:
    """Note in provenance.json that a notebook is finished: versions, machine, data, commit, wall times and
    what it wrote. ``parts`` are its executions, all but the last interrupted; their seconds are summed, those
    by section are the last one's."""
    entry = {
        "fingerprint": mark,
        "parameters": values,
        "finished": records.now(),
        "seconds": round(sum(part["seconds"] for part in parts), 1),
        "parts": parts,
        "seconds by section": {name: round(duration, 1) for name, duration in steps.items()},
        "device": parts[-1]["device"],
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": parts[-1]["commit"],
        "data": _data_fingerprints(notebook, str(values["profile"])),
        "data from": {
            name: str(state_of(name)) for name in plan.NEEDS[notebook].get(str(values["profile"]), ())
        },
        "outputs": records.outputs_of(folder, notebook),
    }
    records.note(folder, notebook, entry)


def store(executed: Path, target: Path) -> dict[str, float]:
    """Copy an executed notebook; seconds by section heading.

    Papermill's marks and what libraries write to stderr are left out: they name this machine's paths, times.
    """
    notebook = nbformat.read(executed, as_version=4)
    heading, steps = "start", {}
    for cell in notebook.cells:
        heading = [heading, *claims.headings(cell)][-1]
        # By the clock of the day, which may be set back.
        seconds = max(0.0, cell.metadata.get("papermill", {}).get("duration") or 0)
        if seconds:
            steps[heading] = steps.get(heading, 0) + seconds
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
    notebook.metadata.pop("papermill", None)
    title = notebook.cells[0]  # what it says of another run is written anew where this one is reported
    if f"<!-- {OPENING}: " in title.source:
        title.source = updated(title.source, {OPENING: ""})
    write(target, lambda temporary: nbformat.write(notebook, temporary))
    return steps


def store_quick() -> None:
    """Put the executed notebooks of the quick run in place of those in ``notebooks``, parameters aside.

    For maintainers: ``python -m saliencylib.study.run store`` after a complete quick run.
    """
    for name in plan.NOTEBOOKS:
        notebook = nbformat.read(results_root() / "quick" / "notebooks" / f"{name}.ipynb", as_version=4)
        injected = "injected-parameters"
        notebook.cells = [c for c in notebook.cells if injected not in c.metadata.get("tags", [])]
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for number, cell in enumerate(code, start=1):
            cell.execution_count = number
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = number
        path = NOTEBOOK_FOLDER / f"{name}.ipynb"
        write(path, lambda temporary, notebook=notebook: nbformat.write(notebook, temporary))


def run_photograph(arguments: list[str]) -> int:
    """Run notebook 05 on a photograph, given by its path or name; 0, or 1 when the notebook failed.

    Raises ValueError or DataNotFound for what is no photograph, and while it is run already.
    """
    path = given(arguments[0]) if len(arguments) == 1 else None
    if path is None or (arguments[0].startswith("-") and not path.exists()):
        raise ValueError("photo takes one file, for example: photo holiday.jpg")
    source = arguments[0]
    if path.exists():  # a notebook is text, which not every path is
        source = str(path) if str(path).isprintable() else path.as_uri()
    job = plan.Job("05_your_own_photograph", "quick", "short", "as asked")
    folder = results_root() / (folder_name(source) or job.folder)
    with _alone([folder]):
        failure = execute(job, "cpu", {"photograph": source}, fresh=True, folder=folder)
    if failure:
        print(failure, file=sys.stderr)
        return 1
    print(pd.read_csv(folder / "tables" / "05_classes.csv").to_string(index=False))
    print(f"\npictures: {_shown(folder / 'figures')}")
    print(f"notebook: {_shown(folder / 'notebooks' / job.notebook)}.ipynb")
    return 0


def report_run(folder: Path, notebooks: Collection[str]) -> None:
    """Print what these notebooks of a run found, claim by claim, and the paths of what lies in its folder.

    What other notebooks found in an earlier run is left out, unless the scoreboard is among these, which
    judges it. A quick run tells nothing about the papers, so that it says where to read what holds instead.
    """
    if not notebooks:
        print(f"\n{_shown(folder)}: no notebook has finished, so there is no scoreboard")
        return
    try:
        joined = claims.verdicts(folder)
    except (FileNotFoundError, ValueError) as error:
        print(f"\n{error}, so there is no scoreboard")
        joined = pd.DataFrame({"paper": []})
    if "04_scoreboard" not in notebooks:
        joined = joined[joined["paper"].map(plan.NOTEBOOK_OF).isin(notebooks)]
    quick = folder.name == "quick"
    if not (quick or joined.empty):
        print(f"\nScoreboard of {_shown(folder)}")
        for row in claims.readable(joined).to_dict("records"):
            print(f"\n{row['id']}, {row['where']}: {row['verdict']}")
            for column in (name for name in SHOWN if row[name]):
                print(f"    {column}: {row[column]}")
        print(f"\n{claims.verdict_counts(joined).to_string(index=False)}")
    print()
    for name in ("notebooks", "tables", "figures"):
        count = len([path for path in (folder / name).glob("*") if not path.name.startswith(".")])
        print(f"{count:>4} {name:<10} {_shown(folder / name)}")
    if quick:
        print("\nA quick run shows that everything works. It says nothing about the papers.")
        measured_in = _shown(ROOT / REPORTED_RUN / "notebooks")
        print(f"What holds: {_shown(ROOT / 'REPORT.md')}, measured in {measured_in}")


@contextmanager
def _alone(folders: Collection[Path]) -> Iterator[None]:
    """Keeps other runs out of these run folders, once they and the cache are found to be writable.

    A notebook that is opened by hand asks for no lock.
    """
    _check_writable(cache_root(), "SALIENCY_CACHE")
    with ExitStack() as stack:
        for folder in folders:
            for part in (".", "notebooks", "tables", "figures"):
                _check_writable(folder / part, "SALIENCY_RESULTS")
            if not stack.enter_context(alone_in(folder)):
                raise ValueError(
                    f"another run is at work in {_shown(folder)}: wait until it has ended, or set "
                    "SALIENCY_RESULTS to another folder"
                )
        yield


def _check_writable(folder: Path, variable: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
    except OSError as error:
        raise ValueError(
            f"{_shown(folder)} cannot be written ({error.strerror}): {_writable(variable)}"
        ) from error


def _writable(variable: str) -> str:
    return f"free the disk, change its rights, or set {variable} to another folder"


def _forget_cache() -> None:
    """Deletes the cache. Raises ValueError where other things lie in its folder."""
    cache = cache_root().resolve()
    for place in (ROOT, data_root(), results_root(), given("~"), given(".")):
        if place.resolve().is_relative_to(cache):
            raise ValueError(
                f"--fresh would delete {cache}, which holds {place}: set SALIENCY_CACHE to another folder"
            )
    shutil.rmtree(cache, ignore_errors=True)


def _check_data(names: Collection[str]) -> None:
    """Read all files of these sets; say which cannot be verified. Raises ValueError for damaged ones."""
    states = {name: state_of(name, hashed=True) for name in names}
    if damaged := {name: state for name, state in states.items() if state.word == "damaged"}:
        told = "; ".join(f"{name} is {state}" for name, state in damaged.items())
        raise ValueError(
            f"{told}: delete it below {data_root()} and run ./run_all.sh data {' '.join(damaged)}"
        )
    if unverified := [name for name, state in states.items() if state.word == "unverified"]:
        print(f"unverified data, not made by ./run_all.sh data: {', '.join(unverified)}", flush=True)


def _download(jobs: list[plan.Job]) -> None:
    for error in obtain(lacking(plan.needed(jobs))).values():
        raise error
    for job in jobs:
        for classifier in SETTINGS[job.notebook][job.folder].get("classifiers", ()):
            load_classifier(classifier, download=True)


def _device_text(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    """What the processor calls itself, else its architecture."""
    try:
        named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else f"CPU ({platform.machine()})"


def _commit() -> str:
    """The checkout's commit, marked "-dirty" where anything but the results differs from it."""
    commit = _git("describe", "--always") or "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
    return commit + "-dirty" * bool(changed)


def _git(*arguments: str) -> str:
    """What git says of the checkout; "" where it fails or is not there."""
    try:
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def _shown(path: Path) -> str:
    return os.path.relpath(path)


if __name__ == "__main__":
    if sys.argv[1:] == ["store"]:
        store_quick()
    else:
        sys.exit(main(sys.argv[1:]))
