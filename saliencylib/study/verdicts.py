"""The rules that turn measurements into verdicts: pure functions of a row of claims.csv and of what a run
measured for it. They stand in one commit (``claims.rules_fixed``); REPORT.md names what was changed late, and
after which measurements."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from saliencylib import stats

RULES = {
    "exact": "a check of code: an assert that passes",
    "value": "judged on the paper's own data only: holds when the printed value lies within the 95 % "
    "interval widened by the tolerance",
    "positive": "holds when the 95 % interval of the difference lies above zero (above the margin, where "
    "there is one), does not hold when below",
    "not_below": "holds when the 95 % interval lies above minus the margin, does not hold when below it",
    "comparable": "holds when the 95 % interval lies within plus and minus the margin, does not hold when "
    "outside",
    "shown": "a table without a verdict, or a sentence that another row counts",
    "untestable": "not judged, for the reason that its scope gives",
}
TESTED = ("positive", "not_below", "comparable")
LEAST_SEEDS, LEAST_IMAGES, LEVEL = 6, 20, 0.05
# An axis whose cases must agree, in place of a main measurement.
AGREEING = ("metric", "method", "mask")
AXES = ("", *AGREEING, "test set", "training data", "training images", "epoch", "learning rate")
AXES += ("classifier", "preset", "schedule")
# Where a null control that passes on one side alone is as telling as the opposite verdict.
TELLING = ("classifier", "preset")
# What a remark names where the verdict there is another one.
NAMED = ("test set", "training data", "training images", "epoch", *TELLING)
UNMET = "condition not met"
UNCOUNTED = ("check of code", "shown")
UNJUDGED = ("not judged", "other data", *UNCOUNTED)
DECIDED = ("holds", "does not hold")
OPEN = (*DECIDED, "undecided", "not telling")


@dataclass(frozen=True)
class Part:
    """A number with its 95 % interval and p value, as a run noted it: an effect, or one beyond a null."""

    measured: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Case:
    """One measurement of a claim: the main one (``axis`` is empty) or one that stands beside it.

    ``effect`` is None when a run says why it measured nothing (``reason``); ``beyond`` holds the paired
    effect minus each null control's, ``met`` whether the condition holds, None when that was not measured.
    """

    effect: Part | None = None
    n: float = 0
    unit: str = ""
    source: str = ""
    axis: str = ""
    case: str = ""
    reason: str = ""
    beyond: Mapping[str, Part] = field(default_factory=dict)
    condition: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Verdict:
    """A verdict and what is remarked on it; ``by_interval`` is what it was before Holm's adjustment, and
    ``if_open`` what the interval still tells where that leaves it undecided."""

    word: str
    remark: str = ""
    by_interval: str = ""
    p: float = math.nan
    p_holm: float = math.nan
    if_open: str = ""


def null_names(null: str) -> list[str]:
    """The names of a row's null controls, as its column ``null`` lists them; none where it says why not."""
    return [] if null.startswith("none") else [name.strip() for name in null.split(";")]


def own_p(rule: str, margin: float, estimate: stats.Estimate) -> float:
    """The p value of a measurement against its row's own null hypothesis; NaN where the row has no test.

    Two-sided against zero (or the margin) for "positive"; one-sided, on the side where the measurement lies,
    against minus the margin for "not_below", and against both ends (the larger) for "comparable".
    """
    if rule == "positive":
        return estimate.p_against(_threshold(margin))
    ends = {"not_below": (-margin,), "comparable": (-margin, margin)}.get(rule, ())
    return max((estimate.p_against(end) / 2 for end in ends), default=math.nan)


def settled(claim: Mapping, case: Case, redone: Collection[str] = ()) -> Verdict | None:
    """The verdict on one case that needs no interval; None when the interval has to decide.

    ``claim`` is a row of claims.csv; papers in ``redone`` are not judged.
    """
    rule, remark = claim["rule"], _unjudged(claim, case, redone)
    if rule == "exact" and case.effect is not None:
        return Verdict("check of code" if case.effect.measured == 1 else "does not hold")
    if rule == "shown":
        return Verdict("shown", claim["scope"])
    if remark:
        return Verdict("not judged", remark)
    if _asks_own_data(claim) and case.source != "paper":
        return Verdict("other data")
    remark = _unfit(claim, case)
    return Verdict("not judged", remark) if remark else None


def _unjudged(claim: Mapping, case: Case, redone: Collection[str]) -> str:
    if claim["rule"] == "untestable":
        return claim["scope"]
    if claim["paper"] in redone and claim["rule"] != "exact":
        return "being redone"
    if case.effect is None or math.isnan(case.effect.measured):
        return case.reason or "no notebook of this run measured it"
    return ""


def _asks_own_data(claim: Mapping) -> bool:
    return claim["rule"] == "value" or claim["scope"].startswith("own data")


def _unfit(claim: Mapping, case: Case) -> str:
    """Why a measurement cannot be judged: no null control, no condition, one not met, or too few."""
    if set(null_names(claim["null"])) - set(case.beyond):
        return "its null control was not measured"
    if claim["condition"] and case.met is None:
        return "its condition was not measured"
    if case.met is False:
        return f"{UNMET}: {case.condition}"
    return "" if enough(case.n, case.unit) else f"too few: {case.n:g} {case.unit}"


def enough(n: float, unit: str) -> bool:
    """Whether so many units can be judged: 6 seeds or the like, 20 images, both where both vary."""
    images = re.search(r" x (\d+) images", unit)
    least = LEAST_IMAGES if unit.startswith("images") else LEAST_SEEDS
    return n >= least and (images is None or int(images[1]) >= LEAST_IMAGES)


def by_interval(claim: Mapping, effect: Part) -> str:
    """What the interval alone says: "holds", "does not hold" or "undecided"."""
    low, high, margin = effect.low, effect.high, claim["margin"]
    match claim["rule"]:
        case "value":
            wide = claim["tolerance"]
            return "holds" if low - wide <= claim["printed"] <= high + wide else "does not hold"
        case "positive":
            edge = _threshold(margin)
            return _sided(low > edge, high < edge)
        case "not_below":
            return _sided(low > -margin, high < -margin)
        case "comparable":
            return _sided(-margin < low and high < margin, low > margin or high < -margin)
    raise ValueError(f"claim {claim['id']} has the unknown rule {claim['rule']!r}; valid: {', '.join(RULES)}")


def _threshold(margin: float) -> float:
    return 0.0 if math.isnan(margin) else margin


def _sided(holds: bool, fails: bool) -> str:
    return "holds" if holds else "does not hold" if fails else "undecided"


def case_p(claim: Mapping, case: Case) -> float:
    """The p value of a case: of the effect, and where it lies on the claimed side the largest of it and all
    beyond the null controls; NaN where one is NaN, and for rules without a test."""
    if claim["rule"] not in TESTED:
        return math.nan
    opposite = claim["rule"] == "positive" and case.effect.measured < _threshold(claim["margin"])
    beyond = [] if opposite else [part.p for part in case.beyond.values()]
    return float(np.max([case.effect.p, *beyond]))


def before_holm(claim: Mapping, case: Case, redone: Collection[str] = ()) -> Verdict:
    """The verdict on one case without regard to the other rows."""
    if (verdict := settled(claim, case, redone)) is not None:
        return verdict
    word, p = by_interval(claim, case.effect), case_p(claim, case)
    passing = [name for name, part in case.beyond.items() if not part.low > 0]
    if word == "holds" and passing:
        return Verdict("not telling", f"not beyond the null control: {', '.join(passing)}", word, p)
    if word == "does not hold" and (failing := _failing_alike(claim, case)):
        return Verdict("not telling", f"a null control fails alike: {', '.join(failing)}", word, p)
    unbounded = not math.isfinite(case.effect.high - case.effect.low)
    if unbounded or (claim["rule"] in TESTED and math.isnan(p)):
        word = "undecided"
    told = undecided_remark(claim, case.effect, p)
    return Verdict(word, "" if word in DECIDED else told, word, p, if_open=told)


def _failing_alike(claim: Mapping, case: Case) -> list[str]:
    """The null controls of a positive row that lie on the failing side themselves and are not told from what
    was measured."""
    edge = _threshold(claim["margin"])
    return [
        name
        for name, part in case.beyond.items()
        if claim["rule"] == "positive"
        and case.effect.measured - part.measured < edge
        and part.low <= 0 <= part.high
    ]


def undecided_remark(claim: Mapping, effect: Part, p: float) -> str:
    """What an open interval still tells: whether it excludes the printed size, and what it could show."""
    half = (effect.high - effect.low) / 2
    if not math.isfinite(half) or math.isnan(p):
        return "its values do not vary, so that nothing bounds it"
    signed = claim["rule"] == "positive" and not math.isnan(claim["printed"])
    excluded = signed and not effect.low <= claim["printed"] <= effect.high
    told = ["printed size excluded on these data, sign open"] if excluded else []
    margin = [] if math.isnan(claim["margin"]) else [f"the margin is {claim['margin']:g}"]
    return "; ".join([*told, *margin, f"smallest visible effect {half:.2g}"])


def after_holm(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts of one family of tests with Holm's p values: what the interval decides stays open when
    the p value does not survive, or there is none. Rows without a test keep theirs."""
    adjusted = stats.holm(np.array([verdict.p for verdict in verdicts]))
    return [_surviving(verdict, float(p)) for verdict, p in zip(verdicts, adjusted, strict=True)]


def after_holm_by_row(rows: Mapping[str, Mapping[int, Verdict]]) -> dict[int, Verdict]:
    """``after_holm`` for the rows of a family that have one verdict or several (of metrics that must agree),
    each by its number: every row counts once, by its largest p, and each of its own in the place of that."""
    largest = {claim: max(found.values(), key=_known_p) for claim, found in rows.items()}
    adjusted = {}
    for claim, found in rows.items():
        others = [verdict for name, verdict in largest.items() if name != claim]
        for index, verdict in found.items():
            adjusted[index] = after_holm([*others, verdict])[-1]
    return adjusted


def _known_p(verdict: Verdict) -> float:
    return -1.0 if math.isnan(verdict.p) else verdict.p


def _surviving(verdict: Verdict, p_holm: float) -> Verdict:
    verdict = replace(verdict, p_holm=p_holm)
    if verdict.word not in DECIDED or not p_holm > LEVEL:
        return verdict
    return replace(verdict, word="undecided", remark=f"not after Holm; {verdict.if_open}")


def agreeing_cases(scope: str) -> list[str]:
    """The cases that a row's scope says must agree: "CC, NSS and shuffled AUC must agree"; else none."""
    found = re.search(r"(?:^|; )([^;]+) must agree", scope)
    return re.split(r", | and ", found[1]) if found else []


def agreeing(axis: str, verdicts: Mapping[str, Verdict]) -> Verdict:
    """One verdict from those of cases, by name, that must agree. Of methods, one for which the row does not
    hold is enough."""
    words: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        words.setdefault(verdict.word, []).append(name)
    for verdict in verdicts.values():
        if verdict.word not in OPEN or len(words) == 1:
            return verdict
    if "does not hold" in words and axis == "method":
        return verdicts[words["does not hold"][0]]
    if set(DECIDED) <= set(words):
        return Verdict(f"depends on the {axis}")
    word = "not telling" if "not telling" in words and "does not hold" not in words else "undecided"
    told = "; ".join(f"{found}: {', '.join(names)}" for found, names in words.items())
    return Verdict(word, f"the {axis}s do not agree ({told})")


def beside(main: Verdict, axis: str, other: Verdict) -> Verdict:
    """The main verdict, or "depends on the AXIS" when another case was decided the opposite way.

    Between learning rates the intervals decide that; on another classifier or preset, a row that holds is
    opposite to one that a null control makes not telling, too.
    """
    rate = axis == "learning rate"
    words = {verdict.by_interval if rate else verdict.word for verdict in (main, other)}
    opposite = [set(DECIDED), *([{"holds", "not telling"}] if axis in TELLING else [])]
    return Verdict(f"depends on the {axis}", main.remark) if words in opposite else main


def elsewhere(main: Verdict, others: Mapping[str, Verdict]) -> Verdict:
    """The main verdict, remarking where, by name, another one was found: "open on NAMES" beside a decided
    one, else "on NAME: VERDICT"; and where a condition is not met, "not judged on NAMES"."""
    differing = {name: v.word for name, v in others.items() if v.word not in (main.word, *UNJUDGED)}
    unsure = [n for n, word in differing.items() if main.word in DECIDED and word in set(OPEN) - set(DECIDED)]
    told = [f"open on {', '.join(unsure)}"] if unsure else []
    told += [f"on {name}: {word}" for name, word in differing.items() if name not in unsure]
    unmet = [name for name, other in others.items() if other.remark.startswith(UNMET)]
    told += [f"not judged on {', '.join(unmet)}"] if unmet else []
    return replace(main, remark="; ".join(filter(None, (main.remark, *told))))


def combined(claim: Mapping, cases: Sequence[Case], verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict on a claim from those on its cases (after Holm's adjustment).

    A case of another axis that has several metrics is called "mit1003, CC"; they must agree there, too.
    """
    pairs = list(zip(cases, verdicts, strict=True))
    mains = [(case, verdict) for case, verdict in pairs if case.axis in ("", *AGREEING)]
    if not mains:
        return Verdict("not judged", "only measured beside what judges")
    main = mains[0][1]
    if claim["rule"] in TESTED and main.word in OPEN:
        missing = [
            name for name in agreeing_cases(claim["scope"]) if name not in {case.case for case, _ in mains}
        ]
        if missing:
            return Verdict("not judged", f"not measured: {', '.join(missing)}")
    if mains[0][0].axis:
        main = agreeing(mains[0][0].axis, {case.case: verdict for case, verdict in mains})
    others: dict[tuple[str, str], dict[str, Verdict]] = {}
    for case, verdict in pairs:
        if case.axis not in ("", *AGREEING):
            name, _, metric = case.case.partition(", ")
            others.setdefault((case.axis, name), {})[metric] = verdict
    found = {place: agreeing("metric", group) for place, group in others.items()}
    for (axis, _), other in found.items():
        main = beside(main, axis, other)
    named = {name: other for (axis, name), other in found.items() if axis in NAMED}
    return main if main.word in UNJUDGED else elsewhere(main, named)


def decided(
    table: Mapping[str, Mapping], measured: Mapping[str, Sequence[Case]], redone: Collection[str] = ()
) -> dict[str, Verdict]:
    """The verdicts on all rows of claims.csv (by id) from the cases that a run measured (by id)."""
    flat = [(claim, case) for claim in table for case in measured.get(claim) or [Case()]]
    verdicts = [before_holm(table[claim], case, redone) for claim, case in flat]
    families: dict[tuple[str, str, str], dict[str, dict[int, Verdict]]] = {}
    for index, (claim, case) in enumerate(flat):
        main = case.axis in ("", *AGREEING)
        place = ("", "") if main else (case.axis, case.case.partition(", ")[0])
        rows = families.setdefault((table[claim]["paper"], *place), {})
        rows.setdefault(claim, {})[index] = verdicts[index]
    for rows in families.values():
        for index, verdict in after_holm_by_row(rows).items():
            verdicts[index] = verdict
    found = {}
    for claim, row in table.items():
        mine = [index for index, (name, _) in enumerate(flat) if name == claim]
        verdict = combined(row, [flat[i][1] for i in mine], [verdicts[i] for i in mine])
        embedded = flat[mine[0]][1].source == "embedded" and verdict.word not in UNJUDGED
        found[claim] = replace(verdict, word=verdict.word + " (embedded)") if embedded else verdict
    return found
