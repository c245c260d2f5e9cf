"""The boxes that we drew, and the photographs they are drawn on."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saliencylib import data
from saliencylib.data import boxes
from saliencylib.data.fixations import FixationSet

TABLES = {"people.csv": 40, "unknown_objects.csv": 30}  # and the fewest photographs


def drawn(table: str) -> pd.DataFrame:
    return pd.read_csv(Path(boxes.__file__).with_name(table), dtype={"photograph": str})


@pytest.mark.parametrize(("table", "least"), TABLES.items())
def test_boxes_are_enough_and_lie_inside_their_photographs(table, least):
    rows = drawn(table)
    assert rows.groupby(["set", "photograph"]).ngroups >= least and not rows.duplicated().any()
    assert not rows.isna().any(axis=None)
    corners = rows[boxes.BOXES].to_numpy()
    assert ((corners >= 0) & (corners <= 1)).all()
    sides = corners[:, 2:] - corners[:, :2]
    assert (sides > 0.02).all() and (sides.prod(axis=1) > 0.003).all()


@pytest.mark.parametrize("table", TABLES)
def test_photographs_are_named_as_in_their_sets_and_none_of_osie_settled_a_choice(table):
    rows = drawn(table).groupby("set")["photograph"].unique()
    assert set(rows.index) <= {"photographs", "nips2017_dev", "osie"}
    assert all(len(stem) == 16 and int(stem, 16) >= 0 for stem in rows["nips2017_dev"])
    places = rows["osie"].astype(int) - 1001  # osie's photographs are 1001 to 1700
    assert places.min() >= 0 and places.max() < 700 and (places % 7 >= 2).all()


def test_boxes_go_to_their_photographs_with_labels_where_there_are_any():
    photos = data.photographs()
    assert [path.stem for path in data.people(photos).paths] == ["astronaut", "camera"]
    assert len(data.unknown_objects(photos)) == 0
    paths = [Path("1001.jpg"), Path("1003.jpg")]
    nothing = [np.empty(0, np.float32)] * 2
    looked = FixationSet("osie", paths, ["1001.jpg", "1003.jpg"], [800] * 2, [600] * 2, *[nothing] * 3)
    people = data.people(looked)
    assert people.paths == paths[1:] and people.labels.tolist() == [-1] and people.accepted == [()]
    np.testing.assert_array_equal(people.boxes[0], [[0.35, 0.3, 0.55, 0.78]])


@pytest.mark.parametrize("name", ["nips2017_dev", "osie"])
def test_every_boxed_photograph_is_in_the_real_set(name):
    if not os.environ.get("SALIENCY_DATA") or not data.available(name):
        pytest.skip(f"{name} is not below $SALIENCY_DATA")
    photos = data.nips2017_dev() if name == "nips2017_dev" else data.fixation_set(name)
    for table, chosen in (("people.csv", data.people), ("unknown_objects.csv", data.unknown_objects)):
        rows = drawn(table).query("set == @name")
        found = chosen(photos)
        assert {path.stem for path in found.paths} == set(rows["photograph"])
        assert sum(map(len, found.boxes)) == len(rows)
