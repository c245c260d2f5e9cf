"""What a power cut leaves of a file is noticed: its content is made again, or an error names it.

A file may then be cut at any byte, be empty or end in zeros, and a temporary file may lie beside it or alone.
"""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from saliencylib.files import clear_away, write
from saliencylib.study import claims, keep, records
from saliencylib.study.keep import Checkpoint, kept, recorded_side_by_side

pytestmark = pytest.mark.usefixtures("in_process", "own_cache")


@kept("tables", table=True)
def table_of(number: int) -> pd.DataFrame:
    return pd.DataFrame({"x": [number / 3, 0.1234567890123], "name": ["a", "b"]})


@kept("arrays")
def array_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).random((20, 10))


def trained(epochs: int) -> tuple[nn.Module, int, dict[str, list[float]]]:
    """A network after so many steps, going on from its checkpoint; how many that had, and its log."""
    torch.manual_seed(0)
    network = nn.Linear(8, 8)
    optimiser = torch.optim.AdamW(network.parameters(), 0.1)
    checkpoint = Checkpoint("trainings", trained, 1)
    done, log = checkpoint.restore(network, optimiser)
    for epoch in range(done, epochs):
        optimiser.zero_grad()
        network(torch.ones(1, 8)).square().sum().backward()
        optimiser.step()
        log.setdefault("loss", []).append(epoch / 3)
        checkpoint.save(network, optimiser, epoch + 1, log)
    return network, done, log


def logged(number: int) -> pd.DataFrame:
    return pd.DataFrame({"epoch": [1, 2], "accuracy": [number / 7, 12.345678901234]})


def record_of_three() -> list[pd.DataFrame]:
    numbers = range(3)
    marks = [{"network": "nin", "seed": number} for number in numbers]
    return recorded_side_by_side("log", logged, [(n,) for n in numbers], marks, [(n,) for n in numbers])


def measured_table(folder: Path) -> Path:
    """A run of one notebook, with its record, and the table of what it measured."""
    path = folder / "tables" / "01_claims.csv"
    row = dict.fromkeys(claims.MEASURED_COLUMNS, 1.25)
    rows = pd.DataFrame([row | {"claim": f"SM-X{number}"} for number in range(3)])
    text = rows.to_csv(index=False, lineterminator="\n")
    write(path, lambda temporary: temporary.write_text(text))
    records.note(folder, "01_sal_mask", {"outputs": records.outputs_of(folder, "01_sal_mask")})
    return path


def executed_notebook(folder: Path) -> Path:
    path = folder / "notebooks" / "01_sal_mask.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1", id="one")])
    write(path, lambda temporary: nbformat.write(notebook, temporary))
    return path


def found(read: Callable[[], object], path: Path) -> object:
    """What reading gives, as text, or "refused" for a ValueError that names the file."""
    try:
        value = read()
    except ValueError as error:
        assert str(path) in str(error)
        return "refused"
    if isinstance(value, pd.DataFrame):
        return value.to_csv()
    return value if value is None else str(value)


def kept_array(folder: Path) -> tuple[Path, Callable[[], object], tuple[object, ...]]:
    whole = array_of(3).tobytes()
    (path,) = Path(os.environ["SALIENCY_CACHE"]).rglob("*.npz")
    return path, lambda: array_of(3).tobytes() == whole, ("True",)


def kept_table(folder: Path) -> tuple[Path, Callable[[], object], tuple[object, ...]]:
    whole = table_of(3).to_csv()
    (path,) = folder.rglob("*.csv.gz")

    def read() -> bool:
        for entry in Path(os.environ["SALIENCY_CACHE"]).rglob("*.npz"):
            entry.unlink()
        return table_of(3).to_csv() == whole

    return path, read, ("True",)


def checkpoint(folder: Path) -> tuple[Path, Callable[[], object], tuple[object, ...]]:
    whole, _, log = trained(3)
    (path,) = Path(os.environ["SALIENCY_CACHE"]).rglob("*.safetensors")

    def read() -> bool:
        network, done, again = trained(3)
        return torch.equal(network.weight, whole.weight) and again == log and done in (0, 3)

    return path, read, ("True",)


def record(folder: Path) -> tuple[Path, Callable[[], object], tuple[object, ...]]:
    whole = [frame.to_csv() for frame in record_of_three()]
    path = folder / "kept" / "log.csv"
    return path, lambda: [frame.to_csv() for frame in record_of_three()] == whole, ("True",)


def measurements(folder: Path) -> tuple[Path, Callable[[], object], tuple[object, ...]]:
    path = measured_table(folder)
    return path, lambda: claims.measured_in(path), (claims.measured_in(path).to_csv(), "refused")


def provenance(folder: Path) -> tuple[Path, Callable[[], object], tuple[object, ...]]:
    measured_table(folder)
    path = folder / "provenance.json"
    return path, lambda: records.known(folder), (str(records.known(folder)), "{}")


def notebook(folder: Path) -> tuple[Path, Callable[[], object], tuple[object, ...]]:
    path = executed_notebook(folder)
    return path, lambda: claims.executed_notebook(path), (str(claims.executed_notebook(path)), None)


def damages(content: bytes) -> dict[str, bytes]:
    """What may be left of a file's content."""
    places = sorted(
        {len(content) * part // 40 for part in range(40)} | set(range(len(content) - 4, len(content)))
    )
    cut = {f"cut at byte {place}": content[:place] for place in places}
    zeros = {f"zeros from byte {place}": content[:place].ljust(len(content), b"\0") for place in places}
    return cut | zeros


@pytest.mark.parametrize(
    "kind", [kept_array, kept_table, checkpoint, record, measurements, provenance, notebook]
)
def test_what_is_left_of_a_file_is_never_taken_for_the_whole(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path))
    monkeypatch.setattr(keep, "recording", True)
    monkeypatch.setattr(keep, "RECORD_AFTER", -1.0)
    monkeypatch.setattr(keep, "TABLE_AFTER", -1.0)
    path, read, allowed = kind(tmp_path)
    content = path.read_bytes()
    assert found(read, path) == allowed[0]
    for name, left in damages(content).items():
        path.write_bytes(left)
        assert found(read, path) in allowed, name
    path.unlink()
    path.with_name(f".1-{path.name}").write_bytes(content)
    if kind is not measurements:  # whose absence is an error of its own
        assert found(read, path) in allowed, "the temporary file alone"


def test_a_flipped_digit_of_a_record_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path))
    monkeypatch.setattr(keep, "recording", True)
    monkeypatch.setattr(keep, "RECORD_AFTER", -1.0)
    path, read, _ = record(tmp_path)
    path.write_text(path.read_text().replace("12.345678901234", "12.345678901235", 1))
    assert len(keep._whole_lines(path)) == 2 and read()


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: order.append("fsync") or fsync(descriptor))
    monkeypatch.setattr(os, "replace", lambda *paths: order.append("replace") or replace(*paths))
    write(tmp_path / "file", lambda temporary: temporary.write_text("x"))
    assert order == ["fsync", "replace", "fsync"]


def test_temporary_files_of_dead_processes_are_cleared_away(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    left = tmp_path / "deep" / f".{dead.pid}-table.csv"
    ours, other = tmp_path / f".{os.getpid()}-table.csv", tmp_path / ".hidden-file"
    for path in (left, ours, other):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    clear_away(tmp_path)
    assert not left.exists() and ours.exists() and other.exists()


def test_a_kept_table_is_guarded_by_its_checksum(tmp_path, monkeypatch):
    path = tmp_path / "table.csv.gz"
    packed = bytearray(gzip.compress(b"x\n0.125\n" * 40, compresslevel=0, mtime=0))
    place = packed.index(b"0.125")
    packed[place + 2] ^= 1
    path.write_bytes(packed)
    assert keep._read_table(path) is None


def test_a_notebook_whose_table_was_damaged_is_not_finished(tmp_path):
    path = measured_table(tmp_path)
    outputs = json.loads((tmp_path / "provenance.json").read_text())["01_sal_mask"]["outputs"]
    assert outputs == {"tables/01_claims.csv": records.digest_of_file(path)}
    path.write_text(path.read_text().replace("1.25", "1.26"))
    with pytest.raises(ValueError, match=f"{path} is damaged"):
        claims.measured_in(path)
