"""An audit of the stored verdicts, independent of the code that judged: from the raw tables of a run it
recomputes every counted row's effect, null controls and condition, and what follows from them.

It reads CSV files alone and shares nothing with the library but the place of the results. A recipe says how
one claim follows from the raw tables. Runs without such tables are skipped, and so are the rows of papers
that are being redone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from saliencylib.places import ROOT

CLAIMS = pd.read_csv(ROOT / "saliencylib" / "study" / "claims.csv").set_index("id", drop=False)
BEING_REDONE = ("LICNN",)
COUNTED = CLAIMS[~CLAIMS["rule"].isin(["exact", "shown", "untestable", "value"])]
AUDITED = COUNTED.loc[~COUNTED["paper"].isin(BEING_REDONE), "id"].tolist()
RUNS = sorted(path.parents[1] for path in (ROOT / "results").glob("*/tables/04_verdicts.csv"))
CHANCE = 10.0  # %, of ten classes
METRICS = ("CC", "NSS", "shuffled AUC")


@dataclass
class Found:
    """What raw tables give for a case: values by unit (n,) or (seeds, images), minus each null control's too.

    ``value`` replaces the mean where the estimate is none, such as a correlation, which then has no interval
    here; ``limits`` are those of what is possible.
    """

    effect: np.ndarray
    beyond: dict[str, np.ndarray] = field(default_factory=dict)
    met: bool | None = None
    value: float | None = None
    limits: tuple[float, float] = (-math.inf, math.inf)


def interval(values: np.ndarray) -> tuple[float, float]:
    """A 95 % interval of the mean of values (n,), or (seeds, images) by the variances of both."""
    values = np.asarray(values, float)
    parts = [values] if values.ndim == 1 else [values.mean(1), values.mean(0)]
    variances = np.array([part.var(ddof=1) / len(part) for part in parts])
    counts = np.array([len(part) - 1 for part in parts])
    df = variances.sum() ** 2 / (variances**2 / counts).sum()
    half = stats.t.ppf(0.975, df) * math.sqrt(variances.sum())
    return values.mean() - half, values.mean() + half


def paired(table: pd.DataFrame, metric: str, a: dict, b: dict, unit: str | list[str] = "seed") -> np.ndarray:
    """``metric`` of the rows with keys ``a`` minus that of those with keys ``b``, by unit.

    Two units, such as seed and image, give an array (seeds, images). Raises KeyError for missing rows.
    """
    sides = []
    for keys in (a, b):
        chosen = table[(table[list(keys)] == pd.Series(keys)).all(axis=1)]
        if chosen.empty or chosen.duplicated(unit).any():
            raise KeyError(f"{keys} names {len(chosen)} rows, of which some are of one {unit}")
        sides.append(chosen.set_index(unit)[metric])
    difference = (sides[0] - sides[1]).dropna()
    return difference.unstack().to_numpy() if isinstance(unit, list) else difference.to_numpy()


# ------------------------------------------------------------------------------------- paper 1's recipes


def read(run: Path, name: str) -> pd.DataFrame:
    """A raw table of a run; skips the test when the run is older than it."""
    for suffix in (".csv", ".csv.gz"):
        if (path := run / "tables" / f"{name}{suffix}").exists():
            return pd.read_csv(path)
    pytest.skip(f"{run.name} has no {name}: the run is older than it")


def main_trainings(run: Path, network: str, data: str) -> pd.DataFrame:
    """The trainings of the main comparison: of the width and learning rate that most trainings share."""
    table = read(run, "01_accuracy_by_training")
    same = (table["network"] == network) & (table["data"] == data) & (table["connection"] == "first")
    table = table[same & table["mask"].isin(["plain", "grey", "RC", "Alpha"])]
    keys = ["width", "learning_rate"]
    shared = table[keys].value_counts().index[0]
    return table[(table[keys] == pd.Series(dict(zip(keys, shared, strict=True)))).all(axis=1)]


def learned(trainings: pd.DataFrame, mask: str = "plain") -> bool:
    return bool(trainings.loc[trainings["mask"] == mask, "last"].mean() >= 3 * CHANCE)


def gain(network: str, mask: str, over: str, run: Path, data: str) -> Found:
    trainings = main_trainings(run, network, data)
    values = paired(trainings, "last", {"mask": mask}, {"mask": over})
    return Found(values, met=learned(trainings))


def epochs_above(network: str, run: Path, data: str) -> Found:
    curves = read(run, "01_curves_by_training").query("network == @network and data == @data")
    table = curves.pivot(index=["seed", "epoch"], columns="mask", values="accuracy")
    above = table[["RC", "Alpha"]].mean(axis=1) > table["plain"]
    shares = above.groupby("seed").mean().to_numpy() - 0.5
    return Found(shares, met=learned(main_trainings(run, network, data)), limits=(-0.5, 0.5))


def averaged_minus_raw(run: Path, data: str) -> Found:
    table = read(run, "01_accuracy_by_training").query("network == 'alexnet' and data == @data")
    table = table[table["mask"].isin(["RC", "RC raw"]) & (table["connection"] == "first")]
    both = table.groupby(["learning_rate", "width", "seed"])["mask"].transform("nunique") == 2
    values = paired(table[both], "last", {"mask": "RC"}, {"mask": "RC raw"})
    return Found(values, met=learned(table[both], "RC"))


def spared(images: str, run: Path, data: str) -> Found:
    """Points lost by plain minus those by the masked networks; beyond grey, which stands in plain's place."""
    table = read(run, "01_lost_by_seed").query("images == @images and data == @data")
    lost = table.pivot(index="seed", columns="mask", values="lost")
    masked = lost[["RC", "Alpha"]].mean(axis=1)
    plain = table.loc[table["mask"] == "plain", "clean"].mean()
    beyond = {"grey": (lost["grey"] - masked).to_numpy()}
    return Found((lost["plain"] - masked).to_numpy(), beyond, met=bool(plain >= 3 * CHANCE))


def quality(run: Path, data: str) -> Found:
    table = read(run, "01_quality_by_seed").query("data == @data")
    steps = table[table["kind"] == "degraded truth"].groupby("mask")[["auc", "points"]].mean()
    found = stats.spearmanr(steps["auc"], steps["points"]).statistic
    plain = table["plain"].mean()
    return Found(steps["points"].to_numpy(), met=bool(plain >= 3 * CHANCE), value=float(found))


def auc_lost(run: Path, data: str) -> Found:
    table = read(run, "01_map_auc_by_image").query("mask == 'RC' and data == @data")
    return Found(paired(table, "auc", {"size": 96}, {"size": 32}, "image"))


# --------------------------------------------------------------------------------------- all the recipes

Recipe = Callable[[Path, str], Found]
RECIPES: dict[str, Recipe] = {
    "SM-D1": partial(gain, "alexnet", "RC", "plain"),
    "SM-D2": partial(gain, "alexnet", "Alpha", "plain"),
    "SM-D3": partial(gain, "nin", "RC", "plain"),
    "SM-D4": partial(gain, "nin", "Alpha", "plain"),
    "SM-O1a": partial(gain, "alexnet", "Alpha", "RC"),
    "SM-O1b": partial(gain, "nin", "RC", "Alpha"),
    "SM-X8a": partial(gain, "alexnet", "RC", "grey"),
    "SM-X8b": partial(gain, "alexnet", "Alpha", "grey"),
    "SM-X8c": partial(gain, "nin", "RC", "grey"),
    "SM-X8d": partial(gain, "nin", "Alpha", "grey"),
    "SM-F6a": partial(epochs_above, "alexnet"),
    "SM-F7a": partial(epochs_above, "nin"),
    "SM-X1": averaged_minus_raw,
    "SM-X2": quality,
    "SM-X3a": partial(spared, "noise"),
    "SM-X3b": partial(spared, "swapped"),
    "SM-X5": auc_lost,
}


# ---------------------------------------------------------------------------------------------- the audit


def follows(claim: str, found: Found, low: float, high: float, beyond: list[float]) -> str:
    """What the recomputed interval, null controls (their lower ends) and condition say, before Holm."""
    row = CLAIMS.loc[claim]
    margin = 0.0 if math.isnan(row["margin"]) else row["margin"]
    if found.met is False:
        return "not judged"
    if row["rule"] == "positive":
        holds, fails = low > margin, high < margin
    elif row["rule"] == "not_below":
        holds, fails = low > -margin, high < -margin
    else:
        holds, fails = -margin < low and high < margin, low > margin or high < -margin
    if holds and min(beyond, default=1) <= 0:
        return "not telling"
    return "holds" if holds else "does not hold" if fails else "undecided"


def stored_cases(run: Path) -> pd.DataFrame:
    """The stored main measurements of a run, a row a part, of the audited claims."""
    frames = [pd.read_csv(path) for path in sorted((run / "tables").glob("*_claims.csv"))]
    table = pd.concat(frames, ignore_index=True)
    mains = table["axis"].isna() | (table["axis"] == "metric")
    return table[mains & table["measured"].notna()]


def near(stored: float, again: float, width: float) -> bool:
    """Equal but for six stored digits and, with ``width``, for what bootstrap and t intervals differ by."""
    return math.isclose(stored, again, rel_tol=1e-4, abs_tol=1e-6 + width)


def recomputed(run: Path, claim: str, case: str, data: str) -> Found:
    recipe = RECIPES[claim]
    return recipe(run, data) if not case else recipe(run, data, case)


def check_part(stored: pd.Series, values: np.ndarray, found: Found) -> tuple[float, float]:
    """Compare a stored part with values by unit; its interval by the stored numbers."""
    low, high = interval(values)
    resampled = "images" in stored["unit"]
    slack = 0.1 * (high - low) if resampled else 0.0
    assert near(stored["measured"], np.mean(values), 0), stored["part"]
    low, high = np.clip([low, high], *found.limits)
    assert near(stored["low"], low, slack) and near(stored["high"], high, slack), stored["part"]
    return stored["low"], stored["high"]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
@pytest.mark.parametrize("claim", AUDITED)
def test_stored_numbers_and_verdicts_follow_from_the_raw_tables(run, claim):
    verdicts = pd.read_csv(run / "tables" / "04_verdicts.csv").set_index("id")
    cases = stored_cases(run).query("id == @claim").fillna({"case": "", "condition": ""})
    if cases.empty:
        assert verdicts.loc[claim, "verdict"] == "not judged"
        pytest.skip(f"{run.name} did not measure {claim}: {verdicts.loc[claim, 'remark']}")
    if claim not in RECIPES:
        pytest.fail(f"{claim} was measured and has no recipe")
    words = [
        audited_case(run, claim, rows.set_index("part")) for _, rows in cases.groupby("case", sort=False)
    ]
    assert consistent(verdicts.loc[claim], words)


def audited_case(run: Path, claim: str, parts: pd.DataFrame) -> str:
    """Check one stored case against the raw tables; what it says by its interval."""
    effect = parts.loc["effect"].copy()
    effect["part"] = "effect"
    found = recomputed(run, claim, effect["case"], effect["data"])
    names = {name.removeprefix("beyond: ") for name in parts.index if name.startswith("beyond: ")}
    assert names == set(found.beyond), "the null controls"
    assert str(effect["met"]) == ("nan" if found.met is None else str(found.met)), "the condition"
    if found.value is not None:
        assert near(effect["measured"], found.value, 0)
        low, high = effect["low"], effect["high"]
        assert -1 <= low <= high <= 1
    else:
        low, high = check_part(effect, found.effect, found)
    ends = []
    for name, values in found.beyond.items():
        part = parts.loc[f"beyond: {name}"].copy()
        part["part"] = name
        ends.append(check_part(part, values, found)[0])
    few = effect["n"] < (20 if effect["unit"].startswith("images") else 6)
    return "not judged" if few else follows(claim, found, low, high, ends)


def consistent(verdict: pd.Series, words: list[str]) -> bool:
    """Whether a stored verdict follows from what its cases say, Holm's adjustment and other axes aside."""
    word = verdict["verdict"].removesuffix(" (embedded)")
    if word.startswith("depends on the metric"):
        return {"holds", "does not hold"} <= set(words)
    if word.startswith("depends on"):
        return set(words) <= {"holds", "does not hold"}
    if verdict["remark"] == "not after Holm":
        return set(words) <= {"holds", "does not hold"} and verdict["p_holm"] > 0.05
    if word in ("holds", "does not hold"):
        return set(words) == {word} and (math.isnan(verdict["p_holm"]) or verdict["p_holm"] <= 0.05)
    return word in words or (word == "undecided" and len(set(words)) > 1)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_papers_that_are_being_redone_are_not_judged_and_no_others(run):
    verdicts = pd.read_csv(run / "tables" / "04_verdicts.csv").set_index("id")
    redone = verdicts.index[verdicts["remark"] == "being redone"]
    expected = CLAIMS[CLAIMS["paper"].isin(BEING_REDONE) & ~CLAIMS["rule"].isin(["exact", "shown"])].index
    assert sorted(redone) == sorted(expected)
    assert (verdicts.loc[redone, "verdict"] == "not judged").all()


def test_every_counted_row_is_audited_or_being_redone():
    assert sorted(RECIPES) == sorted(AUDITED)


# ------------------------------------------------------------------------- the audit itself, on made-up runs


def made_run(tmp_path: Path, effect: float = 2.0, **changed) -> Path:
    """A run with SM-D1 and SM-X3b, whose stored numbers are right but for what ``changed`` replaces."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "made" / "tables"
    folder.mkdir(parents=True)
    rows, lost = [], []
    for seed in range(8):
        base = 40 + rng.normal()
        for mask, more in {"plain": 0, "grey": 0, "RC": effect, "Alpha": 0}.items():
            last = base + more + 0.3 * rng.normal()
            rows.append(("alexnet", 0.5, "first", mask, seed, 0.001, "set", last + 1, last, last))
            lost.append(("swapped", mask, seed, "set", base, 20 - more + 0.3 * rng.normal()))
    columns = "network width connection mask seed learning_rate data best last elsewhere".split()
    pd.DataFrame(rows, columns=columns).to_csv(folder / "01_accuracy_by_training.csv", index=False)
    columns = "images mask seed data clean lost".split()
    pd.DataFrame(lost, columns=columns).to_csv(folder / "01_lost_by_seed.csv", index=False)
    stored = []
    for claim in ("SM-D1", "SM-X3b"):
        found = RECIPES[claim](folder.parent, "set")
        parts = {"effect": found.effect} | {f"beyond: {n}": v for n, v in found.beyond.items()}
        for part, values in parts.items():
            low, high = interval(values)
            numbers = {"measured": values.mean(), "low": low, "high": high, "n": 8, "unit": "seeds"}
            place = {"id": claim, "axis": "", "case": "", "part": part, "data": "set", "met": True}
            stored.append(place | numbers | {"condition": "40 %"} | changed)
    pd.DataFrame(stored).to_csv(folder / "01_claims.csv", index=False)
    word = "holds" if effect > 1 else "undecided"
    judged = [{"id": claim, "verdict": word, "remark": "", "p_holm": 0.001} for claim in ("SM-D1", "SM-X3b")]
    pd.DataFrame(judged).to_csv(folder / "04_verdicts.csv", index=False)
    return folder.parent


@pytest.mark.parametrize("claim", ["SM-D1", "SM-X3b"])
def test_a_right_verdict_passes(tmp_path, claim):
    test_stored_numbers_and_verdicts_follow_from_the_raw_tables(made_run(tmp_path), claim)


@pytest.mark.parametrize("changed", [{"measured": 2.5}, {"low": 0.1}, {"met": False}, {"n": 5}])
@pytest.mark.parametrize("claim", ["SM-D1", "SM-X3b"])
def test_a_wrong_number_condition_or_count_is_found(tmp_path, claim, changed):
    run = made_run(tmp_path, **changed)
    with pytest.raises(AssertionError):
        test_stored_numbers_and_verdicts_follow_from_the_raw_tables(run, claim)


@pytest.mark.parametrize("word", ["undecided", "does not hold", "not telling", "not judged"])
def test_a_wrong_verdict_is_found(tmp_path, word):
    run = made_run(tmp_path)
    path = run / "tables" / "04_verdicts.csv"
    pd.read_csv(path).assign(verdict=word).to_csv(path, index=False)
    with pytest.raises(AssertionError):
        test_stored_numbers_and_verdicts_follow_from_the_raw_tables(run, "SM-D1")


def test_paired_values_by_seed_and_by_seed_and_image():
    rows = [(s, i, m, 10 * s + i + 5 * (m == "a")) for s in range(2) for i in range(3) for m in "ab"]
    table = pd.DataFrame(rows, columns=["seed", "image", "map", "cc"])
    both = paired(table, "cc", {"map": "a"}, {"map": "b"}, ["seed", "image"])
    assert both.shape == (2, 3) and (both == 5).all()
    one = table.query("image == 0")
    assert paired(one, "cc", {"map": "a"}, {"map": "b"}).tolist() == [5, 5]
    with pytest.raises(KeyError):
        paired(table, "cc", {"map": "a"}, {"map": "c"}, ["seed", "image"])
    with pytest.raises(KeyError):
        paired(table, "cc", {"map": "a"}, {"map": "b"})
