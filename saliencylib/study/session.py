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

from saliencylib.study import cache, claims
from saliencylib import figures
from saliencylib.study.plan import NOTEBOOKS, ROOT, RUNS, folder_name
from saliencylib.stats import Estimate

# Paper 1. `..._per_class` None: all images. `shrink` averages images and maps over so many pixels. `seeds`
# are those of the main comparison, `few_seeds` those of the others. `digits` are the trainings on the
# embedded set, with the exact mask degraded in so many `steps`.
_SAL_MASK_SHORT = {
    "shrink": 1,
    "train_per_class": 100,
    "test_per_class": 100,
    "seeds": 6,
    "few_seeds": 3,
    "epochs": {"alexnet": 8, "nin": 16},
    "widths": {"alexnet": 0.25, "nin": 0.125},
    "dropout": 0.0,
    "batch": 16,
    "optimiser": "adamw",
    "learning_rates": {"alexnet": 0.001, "nin": 0.002},
    "precision": "float32",
    "width_shrink": 2,
    "second": None,
    "second_shrink": 1,
    "digits": {"train": 1000, "test": 300, "shrink": 3, "seeds": 4, "steps": 10},
    "noise_masks": ("plain", "grey", "RC", "Alpha", "true"),
    "quality_data": "rc_reference",
    "quality_images": 100,
    "control_networks": ("alexnet",),
    "width_networks": ("alexnet", "nin"),
}
_SAL_MASK_FULL = {
    "shrink": 1,
    "train_per_class": None,
    "test_per_class": None,
    "seeds": 10,
    "few_seeds": 3,
    "epochs": {"alexnet": 120, "nin": 120},
    "widths": {"alexnet": 1.0, "nin": 1.0},
    "dropout": 0.5,
    "batch": 100,
    "optimiser": "sgd",
    "learning_rates": {"alexnet": 0.001, "nin": 0.001},
    "precision": "float32",
    "width_shrink": 1,
    "second": None,
    "second_shrink": 1,
    "digits": {"train": 5000, "test": 1000, "shrink": 1, "seeds": 3, "steps": 10},
    "noise_masks": ("plain", "grey", "RC", "Alpha", "true"),
    "quality_data": "rc_reference",
    "quality_images": 100,
    "control_networks": ("alexnet", "nin"),
    "width_networks": ("alexnet", "nin"),
}


_STL10 = {"data": "stl10", "shown": "cluttered digits", "quality_data": "cluttered digits"}


# Paper 2. `seeds` are those of MSE and L1, `few_seeds` those of the other losses and variants. `watched` are
# the starts and optimisers whose first `plateau_steps` steps are followed in the run's own network; where
# that is a small one, the exact network takes `exact_steps` from the paper's start.
def _shallow_cnn(recipe: str, **changes: object) -> dict:
    return {
        "recipe": recipe,
        "changes": {},
        "losses": ("mse", "l1"),
        "other_losses": ("kl", "bhattacharyya", "bce"),
        "seeds": 3,
        "few_seeds": 1,
        "train_images": None,
        "test_images": None,
        "handcrafted_images": 300,
        "watched": WATCHED,
        "plateau_steps": 400,
        "exact_steps": 0,
    } | changes


# Start, optimiser and learning rate.
WATCHED = (
    ("paper", "sgd", 0.03),
    ("paper", "sgd", 0.3),
    ("paper", "adamw", 0.0005),
    ("he", "sgd", 0.03),
    ("he", "adamw", 0.0005),
    ("mean map", "sgd", 0.03),
    ("mean map", "adamw", 0.0005),
)


_SHALLOW_SHORT = {
    "changes": {"epochs": 5},
    "seeds": 6,
    "few_seeds": 3,
    "plateau_steps": 160,
    "exact_steps": 40,
}


# Paper 3. Sets are named with a number of photographs (None: all). `filter_by` is the classifier whose errors
# make the adversarial set of the photographs named; VGG-16 is tested on ImageNet-A as it is. Localisation is
# measured on so many `boxes` photographs of imagenet_val, or, without, on digits. `objects` are those whose
# class the classifier may not know.
def _licnn(classifier: str, **changes: object) -> dict:
    return {
        "classifier": classifier,
        "filter_by": None if classifier == "vgg16" else "efficientnet_lite1",
        "shown": "photographs",
        "examples": 8,
        "shown_count": 6,
        "people": ("photographs",),
        "objects": "digits",
        "boxes": 0,
        "composites": 8,
        "sanity_images": 8,
        "seeds": 2,
        "methods": ("LICNN", "Gradient", "Gradient x Input", "Integrated Gradients")
        + ("SmoothGrad", "Guided Backprop", "Grad-CAM", "Guided Grad-CAM"),
        "batch": 8,
        "judged": "printed" if classifier == "vgg16" else 0.35,
        "digits": {"train": 2000, "test": 200, "epochs": 12, "shrink": 2},
    } | changes


_LICNN_MINI = {
    "shown": "nips2017_dev",
    "examples": 24,
    "people": ("photographs", "nips2017_dev"),
    "objects": "rc_reference",
    "boxes": 200,
    "composites": 100,
    "natural": (("imagenet_val", 600), ("nips2017_dev", 150)),
    "adversarial": (("imagenet_val", None), ("nips2017_dev", None)),
}
_LICNN_FULL = {"seeds": 5, "batch": 64}


# Sizes, seeds and lengths of every run. Accuracy needs seeds: many small runs decide more than one long one.
SETTINGS: Mapping[str, Mapping[str, dict]] = {
    "01_sal_mask": {
        "quick": _SAL_MASK_SHORT
        | {
            "data": "cluttered digits",
            "shown": "cluttered digits",
            "shrink": 3,
            "train_per_class": 30,
            "test_per_class": 20,
            "seeds": 2,
            "few_seeds": 2,
            "epochs": {"alexnet": 6, "nin": 4},
            "widths": {"alexnet": 0.125, "nin": 0.125},
            "batch": 8,
            "learning_rates": {"alexnet": 0.002, "nin": 0.005},
            "width_shrink": 6,
            "digits": {"train": 200, "test": 200, "shrink": 3, "seeds": 2, "steps": 2},
            "noise_masks": ("plain", "RC", "true"),
            "quality_data": "cluttered digits",
            "quality_images": 20,
            "width_networks": ("alexnet",),
        },
        "mini-short": _SAL_MASK_SHORT
        | {"data": "tinyimagenet10", "shown": "clothing96", "second": "clothing96", "second_shrink": 2},
        "mini-full": _SAL_MASK_FULL
        | {"data": "tinyimagenet10", "shown": "clothing96", "second": "clothing96"},
        "paper-short": _SAL_MASK_SHORT | _STL10,
        "paper-full": _SAL_MASK_FULL | _STL10,
    },
    "02_shallow_saliency_cnn": {
        "quick": _shallow_cnn(
            "starts at the mean map",
            changes={"width": 0.25, "hidden": 576, "batch": 32, "epochs": 3},
            seeds=2,
            few_seeds=2,
            other_losses=("kl", "bce"),
            train_images=400,
            test_images=100,
            handcrafted_images=32,
            watched=WATCHED[:1] + WATCHED[-1:],
            plateau_steps=20,
        ),
        "mini-short": _shallow_cnn("starts at the mean map", **_SHALLOW_SHORT),
        "mini-full": _shallow_cnn("as printed"),
        "paper-short": _shallow_cnn(
            "starts at the mean map", train_images=2000, test_images=500, **_SHALLOW_SHORT
        ),
        "paper-full": _shallow_cnn("as printed"),
    },
    "03_licnn": {
        "quick": _licnn(
            "efficientnet_lite0",
            natural=(("photographs", None),),
            adversarial=(("photographs", None),),
            sanity_images=2,
            seeds=1,
            methods=("LICNN", "Gradient", "Gradient x Input", "Grad-CAM"),
            digits={"train": 600, "test": 40, "epochs": 8, "shrink": 3},
        ),
        "mini-short": _licnn("efficientnet_lite0", **_LICNN_MINI),
        "mini-full": _licnn(
            "efficientnet_lite0",
            **_LICNN_MINI
            | _LICNN_FULL
            | {
                "examples": 100,
                "boxes": 1810,
                "natural": (("imagenet_val", None), ("nips2017_dev", None)),
                "sanity_images": 24,
            },
        ),
        "paper-short": _licnn("vgg16", natural=(("imagenet_val", 600),), adversarial=(("imagenet_a", 600),)),
        "paper-full": _licnn(
            "vgg16", natural=(("imagenet_val", 7500),), adversarial=(("imagenet_a", 7500),), **_LICNN_FULL
        ),
    },
    "04_scoreboard": {name: {} for name in RUNS},
    # `share` of the crop is taken as the object, as in the judged claims of notebook 03.
    "05_your_own_photograph": {name: {"classifier": "efficientnet_lite0", "share": 0.35} for name in RUNS},
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
    notebook: str,
    profile: str,
    schedule: str = "short",
    device: str = "auto",
    first_seed: int = 0,
    folder: str | None = None,
) -> Run:
    """The run of one notebook. Raises ValueError, naming the valid choices, for an unknown argument.

    ``folder`` is where it writes below ``results_root()``: by default that of the profile and schedule.
    """
    if notebook not in NOTEBOOKS:
        raise ValueError(f"unknown notebook {notebook!r}; valid notebooks: {', '.join(NOTEBOOKS)}")
    name = folder_name(profile, schedule)
    return Run(
        notebook=notebook,
        profile=profile,
        schedule="short" if profile == "quick" else schedule,
        device=device_named(device),
        folder=results_root() / (folder or name),
        settings=SimpleNamespace(**SETTINGS[notebook][name]),
        first_seed=first_seed,
    )
