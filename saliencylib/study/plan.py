"""What will be run, and why: options, profiles and the choice among them.

This module needs nothing but Python itself, so that ``run_all.sh`` can refuse a wrong option and announce
what it will do before it installs anything.
"""

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from saliencylib.data.registry import REGISTRY, DataNotFound, Source, sets_of
from saliencylib.data.states import can_be_brought, lacking
from saliencylib.places import ROOT, data_root, environment

PROFILES = ("quick", "mini", "paper")
SCHEDULES = ("short", "full")
RUNS = ("quick", "mini-short", "mini-full", "paper-short", "paper-full")
NOTEBOOK_OF = {"Sal-Mask": "01_sal_mask", "Shallow CNN": "02_shallow_saliency_cnn", "LICNN": "03_licnn"}
NOTEBOOKS = (*NOTEBOOK_OF.values(), "04_scoreboard", "05_your_own_photograph")
SETUP_GIGABYTES = 6.7
MOST_WORKERS = 256  # that one machine starts

# The data sets that a notebook needs for a profile, as datasets.toml says; quick needs none.
NEEDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    notebook: {profile: sets for profile in PROFILES if (sets := sets_of(f"{notebook[:2]} {profile}"))}
    for notebook in NOTEBOOKS
}

# Expected minutes: quick and mini-short as measured on 2 cores with AVX-512, the rest on one H100 as planned.
# 01 mini-short reads the trainings that are on record; all anew (--fresh) take about 7 hours. With AVX2 alone
# 01 and 02 take three times as long.
MINUTES: Mapping[str, Mapping[str, float]] = {
    "01_sal_mask": dict(zip(RUNS, (5, 35, 25, 10, 60), strict=True)),
    "02_shallow_saliency_cnn": dict(zip(RUNS, (1.5, 40, 25, 10, 420), strict=True)),
    "03_licnn": dict(zip(RUNS, (2, 105, 25, 15, 60), strict=True)),
    "04_scoreboard": dict.fromkeys(RUNS, 0.2),
    "05_your_own_photograph": dict.fromkeys(RUNS, 0.3),
}


@dataclass(frozen=True)
class Job:
    """One notebook of a run, with the profile and schedule chosen for it and the reason."""

    notebook: str
    profile: str
    schedule: str
    why: str

    @property
    def folder(self) -> str:
        """The name of the run folder under ``results``."""
        return run_name(self.profile, self.schedule)

    @property
    def minutes(self) -> float:
        """Expected minutes."""
        return MINUTES[self.notebook][self.folder]


def run_name(profile: str, schedule: str) -> str:
    """The name of a run's folder and settings: "quick", or profile and schedule, as in "mini-short".

    Raises ValueError that names the valid ones for an unknown profile or schedule.
    """
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}; valid profiles: {', '.join(PROFILES)}")
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}; valid schedules: {', '.join(SCHEDULES)}")
    return "quick" if profile == "quick" else f"{profile}-{schedule}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        names = " ".join(name for action in self._actions for name in action.option_strings)
        super().error(
            f"{message}; valid options: {names}, or one of the words "
            "data, test, compare, site, photo and assignments first"
        )


def parser() -> argparse.ArgumentParser:
    """The options of ``./run_all.sh``."""
    options = _Parser(
        prog="./run_all.sh",
        usage="./run_all.sh [options]      run the study\n"
        "       ./run_all.sh data           bring what the mini profile needs; data --help says more\n"
        "       ./run_all.sh test           run the tests\n"
        "       ./run_all.sh compare A B    what differs between two runs, by name or folder\n"
        "       ./run_all.sh photo FILE     your own photograph through all three papers\n"
        "       ./run_all.sh site [RUN]     a run's notebooks as web pages, the newest by default\n"
        "       ./run_all.sh assignments    the students' copies of the assignments, built and proved",
        description="Runs the notebooks, judges every claim and writes tables and figures under results/.",
        epilog="Data is looked for in $SALIENCY_DATA, else in data/. A second call continues an interrupted "
        "run and skips what is finished.",
        allow_abbrev=False,
    )
    options.add_argument("--profile", choices=PROFILES, help="which data; chosen by itself when left out")
    options.add_argument("--schedule", choices=SCHEDULES, help="sizes, lengths and seeds (full with a GPU)")
    options.add_argument(
        "--only",
        action="extend",
        nargs="+",
        metavar="NAME",
        default=[],
        help="run only these notebooks, or those that measure these claims: --only 02, --only SM-T1",
    )
    options.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    options.add_argument("--fresh", action="store_true", help="forget finished notebooks and caches first")
    options.add_argument(
        "--download", action="store_true", help="fetch missing data sets that may be fetched"
    )
    options.add_argument(
        "-p",
        nargs=2,
        metavar=("NAME", "VALUE"),
        action="append",
        default=[],
        dest="parameters",
        help="set another notebook parameter, for example -p first_seed 10",
    )
    options.add_argument(
        "--dask",
        metavar="ADDRESS",
        default=os.environ.get("SALIENCY_DASK", ""),
        help="work on a Dask cluster: its scheduler's address, or local:N for N processes here (CLUSTERS.md)",
    )
    options.add_argument("--no-venv", action="store_true", help="use the active environment, not .venv")
    return options


def selected(names: list[str]) -> list[str]:
    """The notebooks meant by names, their beginnings, or ids of claims, in order; all when there is none.

    A claim stands for the notebook that measures it, "SM-T1" for all of SM-T1a to SM-T1c. Raises ValueError,
    naming the notebooks, for a name that fits none.
    """
    wanted = set()
    for name in names:
        found = {notebook for notebook in NOTEBOOKS if name and notebook.startswith(name)} | measured_by(name)
        if not found:
            raise ValueError(
                f"no notebook is called {name!r}, and no claim; notebooks: {', '.join(NOTEBOOKS)}; claims: "
                "those of saliencylib/study/claims.csv, for example SM-T1"
            )
        wanted |= found
    return [notebook for notebook in NOTEBOOKS if not names or notebook in wanted]


def measured_by(claim: str) -> set[str]:
    """The notebooks that measure a claim, or all the claims of one number; none for an unknown id."""
    with open(Path(__file__).with_name("claims.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        NOTEBOOK_OF[row["paper"]]
        for row in rows
        if row["id"] == claim or (row["id"].startswith(claim) and row["id"][len(claim) :].isalpha())
    }


def chosen(notebooks: list[str], profile: str | None, schedule: str | None, gpu: bool) -> list[Job]:
    """Profile and schedule for each notebook: as asked, else what the machine and its data allow.

    Notebooks that need no data of their own, the scoreboard and the reader's photograph, run once for each
    run folder.
    """
    jobs = []
    fitting = schedule or ("full" if gpu else "short")
    for notebook in notebooks:
        if NEEDS[notebook]:
            best, why = (profile, "as asked") if profile else _best_profile(notebook, gpu)
            jobs.append(Job(notebook, best, "short" if best == "quick" else fitting, why))
    folders = {job.folder: job for job in jobs} or {"": Job("", profile or "quick", fitting, "")}
    for notebook, why in (("04_scoreboard", "judges the others"), ("05_your_own_photograph", "looks closer")):
        if notebook in notebooks:
            jobs += [Job(notebook, job.profile, job.schedule, why) for job in folders.values()]
    return jobs


def _best_profile(notebook: str, gpu: bool) -> tuple[str, str]:
    if not gpu:
        return "quick", "no GPU; --profile mini runs on a CPU too"
    for profile in ("paper", "mini"):
        missing = lacking(NEEDS[notebook][profile])
        if not missing:
            return profile, "a GPU and its data are here"
    name, state = next(iter(missing.items()))
    return "quick", f"a GPU, but {name} is {state.word} under the data root"


def local_workers(address: str) -> int:
    """N of the Dask address "local:N", 0 of another. Raises ValueError for another N."""
    kind, _, count = address.partition(":")
    if kind != "local":
        return 0
    if not (count.isascii() and count.isdecimal() and 0 < int(count) <= MOST_WORKERS):
        raise ValueError(
            f"{address!r} is no Dask cluster: give local:N for N processes here, at most {MOST_WORKERS}, "
            "or a scheduler's address"
        )
    return int(count)


def check_device(name: str) -> None:
    """Raises ValueError for what is no name of a device that the study runs on."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", name, re.ASCII):
        raise ValueError(
            f"the study does not run on device {name!r}; use auto, cpu or cuda (cuda:1 for the second GPU)"
        )


def check_paths() -> None:
    """Raises ValueError, naming the variable, for a folder of the study whose path is not UTF-8: notebooks
    and records, which name it, are."""
    for variable, path in environment().items():
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the path {path!a} is not UTF-8, as notebooks are; set {variable} to another folder"
            ) from error


def gpu_seen() -> bool:
    """Whether the driver lists a GPU (torch is asked again once it is installed)."""
    if not shutil.which("nvidia-smi"):
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout


def wants_gpu(device: str, seen: bool) -> bool:
    """Whether a run on ``device`` uses a GPU, given whether one was seen."""
    return device.startswith("cuda") or (device == "auto" and seen)


def needed(jobs: list[Job]) -> tuple[str, ...]:
    """The data sets that jobs need, each once."""
    return tuple(dict.fromkeys(name for job in jobs for name in NEEDS[job.notebook].get(job.profile, ())))


def refusal(jobs: list[Job], download: bool) -> str:
    """Why jobs cannot run with the data that is here, and what to do; "" when they can.

    Names and counts only. With ``download``, sets that can be fetched are no reason.
    """
    missing = {
        name: state
        for name, state in lacking(needed(jobs)).items()
        if not (download and can_be_brought(name))
    }
    if not missing:
        return ""
    lines = [f"these notebooks need data that is not here ({data_root()}):"]
    for name, state in missing.items():
        entry = REGISTRY[name]
        fetched = f"{entry.download_size / 1e6:,.0f} MB to download" if entry.builder else "by hand"
        lines.append(f"  {name:<24}{state.word:<10}{fetched}, {entry.size / 1e6:,.0f} MB on disk")
        lines += [f"    {state.detail}"] if state.detail else []
        lines += [] if entry.builder else [f"    {entry.how}"]
    names = [name for name in missing if REGISTRY[name].builder]
    if names:
        files = {source.file: source for name in names for source in _first_sources(name)}
        size = sum(source.bytes for source in files.values()) / 1e6
        asks = " --accept-terms" if any(REGISTRY[name].research for name in names) else ""
        command = f"./run_all.sh data {' '.join(names)}{asks}"
        lines.append(f"{command} brings them ({size:,.0f} MB); --profile quick needs none")
    return "\n".join(lines)


def _first_sources(name: str) -> list[Source]:
    entry = REGISTRY[name]
    return entry.sources_of(entry.online[0])


def announcement(jobs: list[Job], device: str) -> str:
    """The plan as text: a line a notebook, then the device, the data root and the disk space."""
    lines = [f"{'notebook':<26}{'profile':<9}{'schedule':<10}{'minutes':>7}  why"]
    lines += [
        f"{job.notebook:<26}{job.profile:<9}{job.schedule:<10}{job.minutes:>7g}  {job.why}" for job in jobs
    ]
    lines.append(f"device: {device}; data root: {data_root()}")
    free = shutil.disk_usage(ROOT).free / 1e9
    lines.append(f"disk: a new environment takes about {SETUP_GIGABYTES} GB; {free:.0f} GB are free")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Check the options and the data and print the plan; 0, or 2 for options that cannot be used, or for
    data that is not there."""
    options = parser().parse_args(arguments)
    try:
        notebooks = selected(options.only)
        local_workers(options.dask)
        check_device(options.device)
        check_paths()
    except ValueError as error:
        parser().error(str(error))
    gpu = wants_gpu(options.device, gpu_seen())
    try:
        jobs = chosen(notebooks, options.profile, options.schedule, gpu)
        why = refusal(jobs, options.download)
    except DataNotFound as error:
        why = str(error)
    if why:
        print(f"run_all.sh: {why}", file=sys.stderr)
        return 2
    print(announcement(jobs, "GPU" if gpu else "CPU"), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
