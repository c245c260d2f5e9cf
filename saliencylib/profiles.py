"""What a run is: its profile, schedule and device, its settings, and where its tables and figures go."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from IPython.display import Image
from matplotlib.figure import Figure

from saliencylib import cache, claims, figures
from saliencylib.plan import NOTEBOOKS, ROOT, folder_name
from saliencylib.stats import Estimate


def _sal_mask(
    dataset: str,
    shown: str,
    train_per_class: int | None,
    test_per_class: int | None,
    shrink: int,
    seeds: int,
    epochs: int,
    width: float,
    optimiser: str,
) -> dict:
    return {
        "data": dataset,
        "shown": shown,
        "train_per_class": train_per_class,
        "test_per_class": test_per_class,
        "shrink": shrink,
        "seeds": seeds,
        "epochs": epochs,
        "alexnet_width": width,
        "nin_width": width / 2 if optimiser == "adamw" else width,
        "batch": 32 if optimiser == "adamw" else 100,
        "optimiser": optimiser,
        "learning_rate": 0.002 if optimiser == "adamw" else 0.001,
        "quality_images": 40 if dataset == "cluttered digits" else 100,
    }


# Sizes, seeds and lengths of every run. Accuracy needs seeds: many small runs decide more than one long one.
SETTINGS: Mapping[str, Mapping[str, dict]] = {
    "01_sal_mask": {
        "quick": _sal_mask("cluttered digits", "cluttered digits", 60, 30, 2, 2, 6, 0.25, "adamw"),
        "mini-short": _sal_mask("tinyimagenet10", "clothing96", 120, 100, 1, 6, 10, 0.25, "adamw"),
        "mini-full": _sal_mask("tinyimagenet10", "clothing96", None, None, 1, 10, 120, 1.0, "sgd"),
        "paper-short": _sal_mask("stl10", "cluttered digits", 120, 100, 1, 6, 10, 0.25, "adamw"),
        "paper-full": _sal_mask("stl10", "cluttered digits", None, None, 1, 10, 120, 1.0, "sgd"),
    },
    "02_shallow_saliency_cnn": {},
    "03_licnn": {},
    "04_scoreboard": {name: {} for name in ("quick", "mini-short", "mini-full", "paper-short", "paper-full")},
}


def results_root() -> Path:
    """Where run folders lie: ``$SALIENCY_RESULTS``, else ``results`` in the project."""
    return Path(os.environ.get("SALIENCY_RESULTS") or ROOT / "results")


def device_named(name: str) -> torch.device:
    """ "auto" (CUDA if there is one, else the CPU), "cpu", "cuda" or "cuda:1" as a torch device.

    Raises ValueError for a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used here; use auto, cpu or cuda ({error})") from error
    return device


@dataclass
class Run:
    """One execution of one notebook: hands out settings, takes tables, figures and measured claims."""

    notebook: str
    profile: str
    schedule: str
    device: torch.device
    folder: Path
    settings: SimpleNamespace
    first_seed: int = 0
    measured: list[dict] = field(default_factory=list)

    @property
    def cache(self) -> Path:
        """The folder of caches and checkpoints, shared by all runs."""
        return cache.CACHE

    @property
    def seeds(self) -> range:
        """The seeds of this run: ``settings.seeds`` of them, from ``first_seed`` on."""
        return range(self.first_seed, self.first_seed + self.settings.seeds)

    def show_settings(self) -> pd.DataFrame:
        """The settings of this run as a table."""
        rows = {"profile": self.profile, "schedule": self.schedule} | vars(self.settings)
        return pd.DataFrame({"setting": rows.keys(), "value": [str(value) for value in rows.values()]})

    def save_table(self, frame: pd.DataFrame, name: str) -> pd.DataFrame:
        """Write ``tables/NN_name.csv`` (6 significant digits) and give the frame back for display."""
        path = self.folder / "tables" / f"{self.notebook[:2]}_{name}.csv"
        text = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        cache.write(path, lambda temporary: temporary.write_text(text))
        return frame

    def show(self, figure: Figure, name: str, alt: str, photographs: bool = False) -> Image:
        """Write ``figures/NN_name.png`` (``.jpg`` for photographs), close the figure, return it as image.

        ``alt`` describes the picture in words for readers who cannot see it.
        """
        data, kind = figures.encoded(figure, photographs)
        suffix = "jpg" if photographs else "png"
        path = self.folder / "figures" / f"{self.notebook[:2]}_{name}.{suffix}"
        cache.write(path, lambda temporary: temporary.write_bytes(data))
        return Image(data=data, format=kind, alt=alt)

    def measure(self, claim: str, estimate: Estimate, data: str, source: str, cell: str) -> None:
        """Note what was measured for a claim.

        ``data`` names the data (and the classifier); ``source`` is "paper" for the paper's own data, "real"
        or "embedded"; ``cell`` is the heading of the section that measured it.
        """
        self._note(claims.measured_row(claim, estimate, data, source, cell))

    def not_measured(self, claim: str, reason: str) -> None:
        """Note that this run cannot measure a claim, and why."""
        self._note(claims.unmeasured_row(claim, reason))

    def _note(self, row: dict) -> None:
        self.measured = [other for other in self.measured if other["id"] != row["id"]] + [row]

    def verdicts(self) -> pd.DataFrame:
        """Write ``tables/NN_claims.csv`` and return this notebook's verdicts as people read them."""
        order = {claim: i for i, claim in enumerate(claims.table()["id"])}
        rows = sorted(self.measured, key=lambda row: order[row["id"]])
        frame = pd.DataFrame(rows, columns=claims.MEASURED_COLUMNS)
        self.save_table(frame, "claims")
        judged = claims.judged(frame)
        return claims.readable(judged[judged["id"].isin(frame["id"])]).drop(columns="measured in")


def start(
    notebook: str, profile: str, schedule: str = "short", device: str = "auto", first_seed: int = 0
) -> Run:
    """The run of one notebook. Raises ValueError, naming the valid choices, for an unknown argument."""
    if notebook not in NOTEBOOKS:
        raise ValueError(f"unknown notebook {notebook!r}; valid notebooks: {', '.join(NOTEBOOKS)}")
    name = folder_name(profile, schedule)
    return Run(
        notebook=notebook,
        profile=profile,
        schedule="short" if profile == "quick" else schedule,
        device=device_named(device),
        folder=results_root() / name,
        settings=SimpleNamespace(**SETTINGS[notebook][name]),
        first_seed=first_seed,
    )
