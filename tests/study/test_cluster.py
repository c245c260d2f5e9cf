"""Work by the workers of a cluster: a scheduler and two workers, in processes of their own."""

import importlib
import io
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from tqdm import tqdm

from saliencylib.places import ROOT
from saliencylib.study import cluster, keep, plan
from saliencylib.study.keep import recorded_side_by_side, side_by_side

JOBS = '''
import os, signal, time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from saliencylib.study.keep import Checkpoint, kept, side_by_side

def noted(folder, text):
    with open(Path(folder) / "done", "a") as file:
        file.write(f"{text}\\n")

@kept("sums")
def total(network, values, number, folder):
    noted(folder, number)
    with torch.no_grad():
        return network(torch.from_numpy(values)).numpy() * number

def where(number):
    time.sleep(0.1)
    return os.getpid(), torch.get_num_threads(), os.environ["SALIENCY_CACHE"]

def trained(seed, folder, epochs=3):
    torch.manual_seed(seed)
    network = torch.nn.Linear(2, 2)
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    checkpoint = Checkpoint("trainings", trained, seed)
    done, log = checkpoint.restore(network, optimiser)
    for epoch in range(done, epochs):
        noted(folder, f"epoch {epoch} of {seed}")
        optimiser.zero_grad()
        network(torch.ones(1, 2)).square().sum().backward()
        optimiser.step()
        checkpoint.save(network, optimiser, epoch + 1, log)
    return network

def dies_once(number, folder):
    if number == 2 and not (Path(folder) / "died").exists():
        (Path(folder) / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return np.full(3, number)

@kept("quick or last")
def takes_the_scheduler_along(number, folder, kept_at):
    noted(folder, number)
    scheduler = Path(folder) / "scheduler"
    if number and scheduler.exists():
        while not list(Path(kept_at).rglob("*.npz")):
            pass
        os.kill(int(scheduler.read_text()), signal.SIGKILL)
        while True:
            pass
    return np.full(3, number)

def positive(number, values):
    if number < 0:
        raise ValueError("a number below 0")
    return number

def frame(number, folder):
    noted(folder, number)
    return pd.DataFrame({"x": [number / 3, 1.0]})

def nested(number):
    return side_by_side(positive, [(number, None), (number + 1, None)])

def scaled(values, network, seen):
    """Changes its inputs, as a careless job might."""
    values *= 2
    network.weight.data += 1
    return float(values.sum() + network.weight.detach().sum()), len(seen["x"])
'''


class Processes:
    """A scheduler and its workers."""

    def __init__(self, folder):
        self.folder, self.workers = folder, []
        self.file = folder / "scheduler.json"
        self.start()

    def start(self):
        self.file.unlink(missing_ok=True)
        options = ["--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(self.file)]
        self.scheduler = self._process("scheduler", *options)
        while not self.file.exists() or not self.file.read_text().endswith("}"):
            assert self.scheduler.poll() is None
            time.sleep(0.05)
        self.address = json.loads(self.file.read_text())["address"]

    def worker(self, *options, library=ROOT, threads=1):
        fixed = ["--nthreads", str(threads), "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
        local = ["--memory-limit", "0", "--local-directory", str(self.folder / "scratch")]
        path = os.pathsep.join([str(library), str(self.folder)])
        self.workers.append(self._process("worker", self.address, *fixed, *local, *options, PYTHONPATH=path))

    def alive(self):
        return [worker for worker in self.workers if worker.poll() is None]

    def ready(self, count):
        """Wait until so many workers have come."""
        cluster.client_at(self.address).wait_for_workers(count, timeout=300)

    def stop_workers(self):
        for process in self.workers:
            process.kill()
            process.wait()
        self.workers.clear()

    def stop(self):
        self.stop_workers()
        self.scheduler.kill()
        self.scheduler.wait()

    def _process(self, kind, *arguments, **variables):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SALIENCY")}
        environment |= {"SALIENCY_CACHE": str(self.folder / "never"), "OMP_NUM_THREADS": "1"} | variables
        environment.setdefault("PYTHONPATH", os.pathsep.join([str(ROOT), str(self.folder)]))
        with open(self.folder / "log", "a") as log:
            return subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    pytest.importorskip("distributed", reason="needs Dask: pip install dask distributed")
    started = Processes(tmp_path_factory.mktemp("cluster"))
    (started.folder / "jobs_of_a_test.py").write_text(JOBS)
    yield started
    started.stop()
    assert not (started.folder / "never").exists(), "a worker keeps nothing"


@pytest.fixture
def jobs(processes, monkeypatch):
    monkeypatch.syspath_prepend(str(processes.folder))
    return importlib.import_module("jobs_of_a_test")


@pytest.fixture
def two_workers(processes, monkeypatch, own_cache, tmp_path):
    """The cluster's address is set, and two workers are there."""
    for _ in range(2 - len(processes.alive())):
        processes.worker()
    processes.ready(2)
    monkeypatch.setenv("SALIENCY_DASK", processes.address)
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path / "results"))
    return processes


def arrays(folder):
    """The kept arrays by file, without the seconds that they took."""
    files = {path.relative_to(folder): keep.load_arrays(path) for path in folder.rglob("*.npz")}
    return {name: found["array"].tobytes() for name, found in files.items()}


def lines(folder):
    path = folder / "done"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("name", ["cache/../../x", "kept//etc/passwd", "elsewhere/x", "/etc/passwd", "../x"])
def test_a_file_outside_the_cache_and_the_results_is_neither_sent_nor_written(name, tmp_path):
    with pytest.raises(ValueError, match="a worker named a file outside"):
        cluster._path({"cache": tmp_path, "kept": tmp_path}, name)


def test_answers_and_entries_equal_those_of_a_local_call(two_workers, jobs, monkeypatch, tmp_path, own_cache):
    torch.manual_seed(0)
    network, values = nn.Linear(200, 3), np.random.default_rng(0).random((300, 200), np.float32)
    todo = [(network, values, number, str(tmp_path)) for number in range(5)]
    found = side_by_side(jobs.total, todo)
    monkeypatch.setenv("SALIENCY_DASK", "")
    monkeypatch.setenv("SALIENCY_CACHE", str(tmp_path / "local"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert [a.tobytes() for a in found] == [a.tobytes() for a in side_by_side(jobs.total, todo)]
    assert arrays(own_cache) == arrays(tmp_path / "local") and len(arrays(own_cache)) == 5


def test_both_workers_work_with_one_thread_and_a_folder_that_is_gone_afterwards(two_workers, jobs):
    found = side_by_side(jobs.where, [(number,) for number in range(20)])
    assert {pid for pid, _, _ in found} == {worker.pid for worker in two_workers.alive()}
    assert {threads for _, threads, _ in found} == {1}
    folders = {folder for _, _, folder in found}
    assert len(folders) == 20 and not any(os.path.exists(folder) for folder in folders)


def test_no_more_jobs_are_sent_than_the_workers_need(two_workers, jobs, monkeypatch):
    monkeypatch.setattr(cluster, "IN_FLIGHT", 3)
    sent, client = [], cluster.client_at(two_workers.address)
    submit = client.submit
    monkeypatch.setattr(client, "submit", lambda *a, **k: sent.append(k["key"]) or submit(*a, **k))
    todo = [(number, None) for number in range(30)]
    with tqdm(desc="positive", file=io.StringIO()) as bar:
        answers = cluster.as_they_come(jobs.positive, todo, "saliencylib.stats", False, bar)
        ahead = [len(sent) - done for done, _ in enumerate(answers)]
    assert len(sent) == 30 + 1, "the jobs, and the names of the files that are here"
    assert max(ahead) == 4 * 2 + 1


def test_a_single_job_stays_here(two_workers, jobs):
    assert side_by_side(jobs.where, [(0,)])[0][0] == os.getpid()


def test_what_is_kept_here_is_sent_to_a_worker_that_looks_for_it(two_workers, jobs, tmp_path):
    todo = [(seed, str(tmp_path)) for seed in range(3)]
    first = side_by_side(jobs.trained, todo[:2])
    assert sorted(lines(tmp_path)) == sorted(f"epoch {e} of {s}" for e in range(3) for s in range(2))
    again = side_by_side(jobs.trained, todo)
    assert lines(tmp_path)[6:] == [f"epoch {e} of 2" for e in range(3)]
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(first, again, strict=False))


def test_a_training_that_was_interrupted_here_goes_on_there(two_workers, jobs, tmp_path, own_cache):
    whole = jobs.trained(0, str(tmp_path))
    shutil.rmtree(own_cache)
    jobs.trained(0, str(tmp_path), epochs=1)
    found = side_by_side(jobs.trained, [(0, str(tmp_path)), (1, str(tmp_path))])[0]
    assert torch.equal(found.weight, whole.weight)
    assert [line for line in lines(tmp_path) if line.endswith("0")] == [
        f"epoch {epoch} of 0" for epoch in (0, 1, 2, 0, 1, 2)
    ]


def test_what_many_jobs_have_is_sent_once_and_each_job_has_a_fresh_copy(two_workers, jobs, monkeypatch):
    sent, bytes_of = [], cluster._bytes
    monkeypatch.setattr(cluster, "_bytes", lambda value: sent.append(bytes_of(value)) or sent[-1])
    values, network, seen = np.ones(10**6), nn.Linear(300, 300), {"x": [np.zeros((200, 200))] * 2}
    start = float(network.weight.detach().sum())
    found = side_by_side(jobs.scaled, [(values, network, seen)] * 6)
    assert found == [(pytest.approx(2e6 + start + 90_000, rel=1e-6), 2)] * 6 and len(set(found)) == 1
    assert len([content for content in sent if len(content) > 100_000]) == 3
    assert values[0] == 1 and float(network.weight.detach().sum()) == start


def test_a_job_that_raises_is_named_with_its_data_and_the_others_are_done(two_workers, jobs):
    with pytest.raises(ValueError, match="below 0") as caught:
        side_by_side(jobs.positive, [(1, None), (-7, np.zeros((2, 3))), (2, None)])
    notes = " ".join(caught.value.__notes__)
    assert "job 1 (from 0) of positive: -7; float64 (2, 3)" in notes and "1 of 3 jobs failed" in notes


def test_a_job_that_raises_is_named_without_a_cluster_too():
    for calls in ([("1",), ("abc",)], [("abc",)]):
        with pytest.raises(ValueError) as caught:
            side_by_side(int, calls)
        (note,) = caught.value.__notes__
        assert f"job {len(calls) - 1} (from 0) of int: 'abc'" in note


def test_work_within_work_stays_on_its_worker(two_workers, jobs):
    assert side_by_side(jobs.nested, [(1,), (5,)]) == [[1, 2], [5, 6]]


def test_a_record_is_written_line_by_line_and_names_the_machine(two_workers, jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(keep, "RECORD_AFTER", -1.0)
    monkeypatch.setattr(keep, "recording", True)
    todo, marks, keys = zip(*[((n, str(tmp_path)), {"n": n}, (n,)) for n in range(3)], strict=True)
    found = recorded_side_by_side("many", jobs.frame, todo, marks, keys)
    assert [frame["x"][0] for frame in found] == [0, 1 / 3, 2 / 3]
    again = recorded_side_by_side("many", jobs.frame, todo, marks, keys)
    assert len(lines(tmp_path)) == 3
    for one, other in zip(found, again, strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert pd.read_csv(tmp_path / "results/kept/many.csv")["made_on"].str.startswith("CPU, torch").all()


def test_progress_says_what_is_done_runs_and_failed(two_workers, jobs, capfd):
    side_by_side(jobs.nested, [(1,), (5,)])
    last = capfd.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert "nested: 100%" in last and "2 of 2 done, 0 running, 0 failed" in last and "expected end" in last


def test_a_killed_worker_costs_nothing_but_time(two_workers, jobs, tmp_path):
    found = side_by_side(jobs.dies_once, [(number, str(tmp_path)) for number in range(6)])
    assert [a.tolist() for a in found] == [[number] * 3 for number in range(6)]
    assert len(two_workers.alive()) == 1


@pytest.mark.parametrize("difference", ["library", "threads"])
def test_a_worker_that_differs_is_refused_with_what_differs(two_workers, jobs, tmp_path, difference):
    two_workers.stop_workers()
    library = tmp_path / "other"
    if difference == "library":
        shutil.copytree(ROOT / "saliencylib", library / "saliencylib")
        with open(library / "saliencylib" / "study" / "keep.py", "a") as file:
            file.write("\nANOTHER = 1\n")
        two_workers.worker(library=library)
    else:
        two_workers.worker(threads=2)
    two_workers.ready(1)
    wanted = {"library": "its saliencylib .* make them the same", "threads": "start it with --nthreads 1"}
    with pytest.raises(RuntimeError, match=f"was refused: .*{wanted[difference]}"):
        side_by_side(jobs.where, [(number,) for number in range(4)])
    two_workers.stop_workers()


def test_another_torch_and_missing_gpus_are_refused(two_workers, jobs, monkeypatch):
    with pytest.raises(RuntimeError, match="sees 0 GPUs: give it one by CUDA_VISIBLE_DEVICES"):
        side_by_side(jobs.nested, [(1,), (5,)], torch.device("cuda"))
    cluster._about.cache_clear()
    monkeypatch.setattr(torch, "__version__", "1.0")
    with pytest.raises(RuntimeError, match=r"its torch is 2\.\S+, not 1\.0"):
        side_by_side(jobs.nested, [(1,), (5,)])
    cluster._about.cache_clear()


def test_after_a_lost_scheduler_the_next_call_goes_on(two_workers, jobs, tmp_path, own_cache, monkeypatch):
    todo = [(number, str(tmp_path), str(own_cache)) for number in range(2)]
    (tmp_path / "scheduler").write_text(str(two_workers.scheduler.pid))
    with pytest.raises(ConnectionError, match=f"{two_workers.address} was lost: start it again"):
        side_by_side(jobs.takes_the_scheduler_along, todo)
    two_workers.stop()
    (tmp_path / "scheduler").unlink()
    two_workers.start()
    two_workers.worker()
    monkeypatch.setenv("SALIENCY_DASK", two_workers.address)
    found = side_by_side(jobs.takes_the_scheduler_along, todo)
    assert [a.tolist() for a in found] == [[0] * 3, [1] * 3] and lines(tmp_path) == ["0", "1", "1"]


def test_local_workers_need_no_scheduler_to_be_started(jobs, processes, monkeypatch, capfd):
    monkeypatch.setenv("SALIENCY_DASK", "local:2")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(processes.folder)]))
    assert side_by_side(jobs.nested, [(1,), (5,)]) == [[1, 2], [5, 6]]
    assert "2 workers, dashboard http://127.0.0.1:" in capfd.readouterr().err
    cluster.client_at("local:2").shutdown()


def test_no_scheduler_is_a_sentence(processes, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", "100ms")
    for address in ("tcp://127.0.0.1:9", "nothing"):
        with pytest.raises(ValueError, match=f"no Dask scheduler answers at {address}: start it"):
            cluster.client_at(address)


def test_without_dask_the_remedy_is_named_and_without_the_variable_it_is_not_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setenv("SALIENCY_DASK", "tcp://127.0.0.1:9")
    with pytest.raises(ValueError, match="pip install dask distributed"):
        side_by_side(abs, [(1,), (2,)])
    code = "import sys\nfrom saliencylib.study.keep import side_by_side\nside_by_side(abs, [(-1,), (2,)])\n"
    code += "sys.exit('dask' in sys.modules or 'distributed' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SALIENCY_DASK": ""}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


@pytest.mark.parametrize(
    "address", ["local", "local:", "local:0", "local:-1", "local:257", "local:two", "local:1.5"]
)
def test_a_wrong_number_of_local_workers_is_refused_before_anything_starts(address, capsys):
    with pytest.raises(SystemExit):
        plan.main(["--profile", "quick", "--device", "cpu", "--dask", address])
    assert f"'{address}' is no Dask cluster: give local:N" in capsys.readouterr().err


def test_the_address_comes_from_the_option_else_from_the_variable(monkeypatch):
    monkeypatch.setenv("SALIENCY_DASK", "local:3")
    assert plan.parser().parse_args([]).dask == "local:3"
    assert plan.parser().parse_args(["--dask", "tcp://a:1"]).dask == "tcp://a:1"
    assert [plan.local_workers(a) for a in ("local:3", "tcp://a:1", "")] == [3, 0, 0]
