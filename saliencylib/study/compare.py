"""What differs between two runs: ``./run_all.sh compare mini-short quick``.

Runs are named as their folders under ``results``, or by the path of any run folder.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from saliencylib.study import claims, session as profiles


def run_folder(name: str) -> Path:
    """The folder of a run: a path, or a name under ``results``. Raises ValueError, naming the runs, for one
    that is not there or holds no measured claims."""
    known = sorted(path.parent.parent for path in profiles.results_root().glob("*/tables/*_claims.csv"))
    for folder in (Path(name), profiles.results_root() / name):
        if list(folder.glob("tables/*_claims.csv")):
            return folder
    names = ", ".join(dict.fromkeys(folder.name for folder in known)) or "none yet"
    raise ValueError(f"{name!r} is no run with measured claims; runs: {names}, or the path of a run folder")


def differences(first: Path, second: Path) -> pd.DataFrame:
    """Two runs side by side, a row a claim that both could judge.

    Columns: id, first and second (value with interval and n), data (of both, where they differ), difference
    (second minus first), intervals (how often the difference holds half the 95 % interval that it has if the
    runs are independent; NaN without intervals), verdict_first and verdict_second, and changed (whether the
    verdicts differ).
    """
    columns = ["id", "measured", "low", "high", "data", "verdict"]
    a, b = (claims.verdicts(folder) for folder in (first, second))
    text = [claims.readable(side).set_index("id") for side in (a, b)]
    both = a[columns].merge(b[columns], on="id", suffixes=("_a", "_b"))
    both = both[both["measured_a"].notna() | both["measured_b"].notna()].reset_index(drop=True)
    halves = [(both[f"high_{side}"] - both[f"low_{side}"]) / 2 for side in "ab"]
    difference = both["measured_b"] - both["measured_a"]
    width = np.hypot(*halves).replace([0, np.inf], np.nan)
    shown = [side.loc[both["id"], "measured (95 % interval)"].to_numpy() for side in text]
    same = both["data_a"] == both["data_b"]
    return pd.DataFrame(
        {
            "id": both["id"],
            "first": shown[0],
            "second": shown[1],
            "data": both["data_a"]
            .fillna("none")
            .where(same, both["data_a"].fillna("none") + " | " + both["data_b"].fillna("none")),
            "difference": difference,
            "intervals": difference.abs() / width,
            "verdict_first": both["verdict_a"],
            "verdict_second": both["verdict_b"],
            "changed": both["verdict_a"] != both["verdict_b"],
        }
    )


def main(arguments: list[str]) -> int:
    """Print what differs between two runs; 0, or 2 for runs that are not there."""
    if len(arguments) != 2:
        print("run_all.sh: compare takes two runs, for example: compare mini-short quick", file=sys.stderr)
        return 2
    try:
        folders = [run_folder(name) for name in arguments]
    except ValueError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    table = differences(*folders)
    apart = table[table["changed"] | (table["intervals"] > 1)].drop(columns="changed")
    print(f"first: {arguments[0]}, second: {arguments[1]}")
    print(f"{len(table)} claims measured in one of them or both; {table['changed'].sum()} verdicts differ, ")
    print(f"{(table['intervals'] > 1).sum()} values differ by more than their interval")
    if len(apart):
        print(apart.to_string(index=False, float_format=lambda value: f"{value:.3g}", max_colwidth=40))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
