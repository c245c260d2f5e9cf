"""What differs between two runs: ``./run_all.sh compare mini-short quick``.

Runs are named as their folders under ``results``, or by the path of any run folder.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from saliencylib.places import given, results_root
from saliencylib.study import claims


def run_folder(name: str) -> Path:
    """The folder of a run: a path, or a name under ``results``. Raises ValueError, naming the runs, for one
    that is not there or holds no measured claims."""
    for folder in (given(name), results_root() / name) if name else ():
        if list(folder.glob("tables/[0-9]*_claims.csv")):
            return folder
    known = sorted({path.parents[1].name for path in results_root().glob("*/tables/[0-9]*_claims.csv")})
    raise ValueError(
        f"{name!r} is no run with measured claims; runs: {', '.join(known) or 'none yet'}, "
        "or the path of a run folder"
    )


def differences(first: Path, second: Path) -> pd.DataFrame:
    """Two runs side by side, a row a claim that both could judge.

    Columns: id, first and second (value with interval and n), data (of both, where they differ), difference
    (second minus first), intervals (how often the difference holds half the 95 % interval that it has if the
    runs are independent; NaN without intervals), verdict_first and verdict_second, and changed (whether the
    verdicts differ).
    """
    a, b = (claims.verdicts(folder) for folder in (first, second))
    either = a["measured"].notna() | b["measured"].notna()
    a, b = a[either].reset_index(drop=True), b[either].reset_index(drop=True)
    shown = [claims.readable(side)["measured (95 % interval)"] for side in (a, b)]
    data = [side["data"].replace("", "none") for side in (a, b)]
    difference = b["measured"] - a["measured"]
    width = np.hypot(a["detectable"], b["detectable"]).replace([0, np.inf], np.nan)
    return pd.DataFrame(
        {
            "id": a["id"],
            "first": shown[0],
            "second": shown[1],
            "data": data[0].where(data[0] == data[1], data[0] + " | " + data[1]),
            "difference": difference,
            "intervals": difference.abs() / width,
            "verdict_first": a["verdict"],
            "verdict_second": b["verdict"],
            "changed": a["verdict"] != b["verdict"],
        }
    )


def main(arguments: list[str]) -> int:
    """Print what differs between two runs; 0, or 2 for runs that are not there."""
    try:
        if len(arguments) != 2:
            raise ValueError("compare takes two runs, for example: compare mini-short quick")
        table = differences(*map(run_folder, arguments))
    except ValueError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    apart = table[table["changed"] | (table["intervals"] > 1)].drop(columns="changed")
    print(f"first: {arguments[0]}, second: {arguments[1]}")
    print(f"{len(table)} claims measured in one of them or both; {table['changed'].sum()} verdicts differ, ")
    print(f"{(table['intervals'] > 1).sum()} values differ by more than their interval")
    if len(apart):
        print(apart.to_string(index=False, float_format=lambda value: f"{value:.3g}", max_colwidth=40))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
