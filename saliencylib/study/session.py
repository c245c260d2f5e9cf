"""What a notebook is given when it starts: its settings and device, and where its tables and figures go."""

import gzip
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure

from saliencylib import figures
from saliencylib.files import write_bytes
from saliencylib.inputs import check_seed
from saliencylib.places import results_root
from saliencylib.stats import Estimate
from saliencylib.study import claims, keep, records
from saliencylib.study.plan import NOTEBOOKS, check_device, run_name
from saliencylib.study.settings import SETTINGS


def device_named(name: str) -> torch.device:
    """ "auto" (CUDA if there is one, else the CPU), "cpu", "cuda" or "cuda:1" as a torch device.

    Raises ValueError for another name, and for a device that this machine does not have.
    """
    if not isinstance(name, str) or name.startswith("meta"):
        raise ValueError(f"device {name!r} cannot be used here; use auto, cpu or cuda")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device(name)
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {name!r} cannot be used here; use auto, cpu or cuda ({reason})") from error
    return device


def source_code(code: Callable | type) -> Markdown:
    """The library's own source of a function, method or class, highlighted where it is shown."""
    return Markdown(f"```python\n{textwrap.dedent(inspect.getsource(code))}```")


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
    def seeds(self) -> range:
        """The seeds of this run: ``settings.seeds`` of them, from ``first_seed`` on."""
        return range(self.first_seed, self.first_seed + self.settings.seeds)

    def show_settings(self) -> pd.DataFrame:
        """The settings of this run as a table."""
        rows = {"profile": self.profile, "schedule": self.schedule} | vars(self.settings)
        return pd.DataFrame({"setting": rows.keys(), "value": [str(value) for value in rows.values()]})

    def save_table(self, frame: pd.DataFrame, name: str) -> pd.DataFrame:
        """Write ``tables/NN_name.csv`` (6 significant digits) and give the frame back for display.

        A name that ends in ".csv.gz" is compressed.
        """
        path = self.folder / "tables" / f"{self.notebook[:2]}_{name.removesuffix('.csv.gz')}.csv"
        text = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()
        if name.endswith(".gz"):
            path, text = path.with_suffix(".csv.gz"), gzip.compress(text, mtime=0)
        self._write(path, text)
        return frame

    def show(self, figure: Figure, name: str, alt: str, photographs: bool = False) -> Image:
        """Write ``figures/NN_name.png`` (``.jpg`` for photographs), close the figure, return it as image.

        ``alt`` describes the picture in words for readers who cannot see it.
        """
        data, kind = figures.encoded(figure, photographs)
        suffix = "jpg" if photographs else "png"
        path = self.folder / "figures" / f"{self.notebook[:2]}_{name}.{suffix}"
        self._write(path, data)
        return Image(data=data, format=kind, alt=alt)

    def _write(self, path: Path, content: bytes) -> None:
        records.forget(self.folder, self.notebook)  # of an earlier run
        write_bytes(path, content)

    def measure(
        self,
        claim: str,
        estimate: Estimate,
        data: str,
        source: str,
        *,
        axis: str = "",
        case: str = "",
        nulls: Mapping[str, tuple[Estimate, Estimate]] | None = None,
        condition: claims.Condition | None = None,
    ) -> None:
        """Note what was measured for a claim, and mark the cell as the one that did.

        ``data`` names the data (and the classifier); ``source`` is "paper" for the paper's own data, "real"
        or "embedded". ``axis`` and ``case`` name a measurement beside the main one, such as another metric;
        ``nulls`` and ``condition`` are as ``claims.measured_rows`` takes them; it raises ValueError.
        """
        options = {"axis": axis, "case": case, "nulls": nulls, "condition": condition}
        rows = claims.measured_rows(claim, estimate, data, source, **options)
        self._note(rows, f"measured: {claim}" + (f" ({axis}: {case})" if axis else ""))

    def not_measured(self, claim: str, reason: str) -> None:
        """Note that this run cannot measure a claim, and why; what it had measured for it is dropped."""
        self.measured = [row for row in self.measured if row["id"] != claim]
        self._note(claims.unmeasured_rows(claim, reason), f"not measured: {claim}")

    def _note(self, rows: list[dict], text: str) -> None:
        places = {(row["id"], row["axis"], row["case"]) for row in rows}
        kept = [row for row in self.measured if (row["id"], row["axis"], row["case"]) not in places]
        self.measured = kept + rows
        data = {"text/plain": text, "text/markdown": f"*{text}*"}
        display(data, raw=True, metadata={"claims": [rows[0]["id"]]})

    def verdicts(self) -> pd.DataFrame:
        """Write ``tables/NN_claims.csv`` and return this notebook's verdicts as people read them."""
        order = {claim: i for i, claim in enumerate(claims.table()["id"])}
        rows = sorted(self.measured, key=lambda row: order[row["id"]])
        frame = pd.DataFrame(rows, columns=claims.MEASURED_COLUMNS)
        self.save_table(frame, "claims")
        judged = claims.judged(frame)
        return claims.readable(judged[judged["id"].isin(frame["id"])])


def start(
    notebook: str,
    profile: str,
    schedule: str = "short",
    device: str = "auto",
    first_seed: int = 0,
    folder: str | None = None,
) -> Run:
    """The run of one notebook. Raises ValueError, naming the valid choices, for an unknown argument.

    ``folder`` is where it writes below ``results_root()``: by default that of the profile and schedule. What
    a quick run computes is not recorded in ``results/kept``.
    """
    if notebook not in NOTEBOOKS:
        raise ValueError(f"unknown notebook {notebook!r}; valid notebooks: {', '.join(NOTEBOOKS)}")
    name = run_name(profile, schedule)
    check_seed("first_seed", first_seed)
    keep.recording = name != "quick"
    return Run(
        notebook=notebook,
        profile=profile,
        schedule="short" if profile == "quick" else schedule,
        device=device_named(device),
        folder=results_root() / (folder or name),
        settings=SimpleNamespace(**SETTINGS[notebook][name]),
        first_seed=first_seed,
    )
