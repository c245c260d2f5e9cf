"""What holds, in plain words: a few sentences a paper, with the numbers of a run.

The sentences stand in ``findings.toml``, one for each verdict that their claim may get; this module fills in
what was measured.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from saliencylib.study import claims
from saliencylib.study.plan import NOTEBOOK_OF
from saliencylib.study.settings import SETTINGS


@dataclass(frozen=True)
class Measured:
    """What a run measured for a claim; formatted, the value and its 95 % interval: ``f"{found:.1f}"``.

    ``data`` names the data set (and the classifier).
    Indexed by words, the case of that name, a null control ("mean map"), or what is left beyond it ("beyond
    mean map").
    """

    value: float
    low: float
    high: float
    n: float = float("nan")
    printed: float = float("nan")
    data: str = ""
    cases: Mapping[str, "Measured"] = field(default_factory=dict)

    def __format__(self, spec: str) -> str:
        return f"{self.value:z{spec}} [{self.low:z{spec}}, {self.high:z{spec}}]"  # z: no "-0.0"

    def __getitem__(self, case: str) -> "Measured":
        return self.cases[case]

    @property
    def size(self) -> "Measured":
        """The same without the sign of the value: what was lost, as a positive number."""
        turned = {"value": -self.value, "low": -self.high, "high": -self.low}
        return self if self.value >= 0 else replace(self, **turned)


@dataclass(frozen=True)
class Findings:
    """What a run found of a paper: sentences, the most telling first, and the figure that shows it.

    ``figure`` is a file below the run's ``figures``; ``shows`` says in words what is in it; ``scale`` says
    on what and how much the run was trained, "" where nothing does.
    """

    sentences: tuple[str, ...]
    figure: str
    shows: str
    scale: str = ""


def findings(folder: str | Path) -> dict[str, Findings]:
    """The findings of a run folder such as ``results/mini-short``, by paper.

    A verdict may have a sentence for the axis that it depends on; one that ``findings.toml`` has no sentence
    for is told by the claim itself. Raises FileNotFoundError
    when the folder holds no measurements, and ValueError when a sentence names a number that it lacks.
    """
    joined, measured = claims.verdicts(folder), claims.measurements(folder)
    rows = joined.set_index("id")
    numbers = {claim: _measured(rows) for claim, rows in measured.groupby("id", sort=False)}
    numbers = {
        claim: Measured(**(vars(found) | {"printed": printed}))
        for claim, printed in zip(joined["id"], joined["printed"], strict=True)
        if (found := numbers.get(claim))
    }
    told = {}
    for paper, about in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8")).items():
        sentences = tuple(_sentence(one, rows.loc[one["claim"]], numbers) for one in about["finding"])
        settings = SETTINGS[NOTEBOOK_OF[paper]].get(Path(folder).name)
        known = settings and about["finding"][0]["claim"] in numbers
        scale = about.get("scale", "").format_map(numbers | {"settings": settings}) if known else ""
        told[paper] = Findings(sentences, about["figure"], about["shows"], scale)
    return told


def _sentence(finding: Mapping[str, str | list[str]], row: pd.Series, numbers: Mapping[str, Measured]) -> str:
    """The sentence for a row's verdict; of several the first whose numbers were all measured."""
    verdict = claims.counted_as(row["verdict"])
    texts = finding.get(row["verdict"], finding.get(verdict, f"{row['statement']}: {verdict}."))
    lacking = []
    for text in [texts] if isinstance(texts, str) else texts:
        try:
            return text.format_map(numbers)
        except KeyError as error:
            lacking.append(str(error))
    raise ValueError(f"findings.toml: the finding of {finding['claim']} lacks {lacking[-1]}")


def _measured(rows: pd.DataFrame) -> Measured:
    """The rows of one claim as its main measurement, with all others as cases of it."""
    parts = {}
    for row in claims.main_first(rows).to_dict("records"):
        null = row["part"].replace("null: ", "").replace("beyond: ", "beyond ").replace("effect", "")
        name = ", ".join(filter(None, (row["case"], null)))
        numbers = (row[key] for key in ("measured", "low", "high", "n"))
        parts.setdefault(name, Measured(*numbers, data=row["data"]))
    return replace(next(iter(parts.values())), cases=parts)
