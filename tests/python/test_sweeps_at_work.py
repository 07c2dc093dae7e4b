"""Sweeps that work together, are ended, killed and started again; cells by fake_cell.py."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fake_cell
import kill_sweep
import pytest
from fake_sweeps import (
    SWEEP,
    alive,
    behaving,
    changed,
    command,
    start,
    started,
    undisturbed,
    wait_for,
)

from halfulp import studies
from halfulp.studies import process
from halfulp.studies.folder import Folder, identity_of, is_locked
from halfulp.studies.process import CellTask, run_cell
from halfulp.studies.program import find_program
from halfulp.studies.spec import check, expand
from halfulp.studies.toml_text import to_toml

pytestmark = pytest.mark.usefixtures("log")

NEW = "b" * 64


def seeds(count: int, behaviour: float = fake_cell.SLOW) -> dict[str, Any]:
    """A sweep of two policies and some seeds."""
    sweep = behaving(behaviour)
    sweep["axes"]["training"]["seed"] = list(range(count))
    return sweep


def task_of(out: Path, sweep: dict[str, Any], **options: Any) -> CellTask:
    """The first cell of a sweep, as a task."""
    planned = expand(check(sweep), find_program())[0]
    folder = Folder(out)
    folder.create()
    return CellTask(find_program(), planned.canonical, str(folder.cell(planned.id)), **options)


# ---------------------------------------------------------------- together in one folder
@pytest.mark.parametrize("shards", [False, True])
def test_two_sweeps_share_the_work(
    tmp_path: Path, log: Path, shards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tmp_path / "gate"
    monkeypatch.setenv("FAKE_CELL_GATE", str(gate))
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(seeds(4)))
    options = [["--shard", "1/2"], ["--shard", "2/2"]] if shards else [[], []]
    both = [start(spec, out, *each) for each in options]
    wait_for(lambda: len(alive(log)) == 4)
    status = json.loads(command("status", out, "--json").stdout)
    assert status["running"]
    assert {record["pid"] for record in status["sweeps"]} == {each.pid for each in both}
    gate.touch()
    assert [each.wait(timeout=60) for each in both] == [0, 0], out.with_suffix(
        ".stderr"
    ).read_text()
    assert set(started(log, "end").values()) == {1}
    assert len(started(log, "end")) == 8
    assert Folder(out).sweeps() is None
    assert not list(out.rglob("*.part"))
    alone = undisturbed(spec, tmp_path / "alone")
    tables = [command("table", each, "--csv").stdout for each in (out, alone)]
    assert tables[0] == tables[1] != ""


def test_a_cell_of_another_build_is_replaced_once(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(seeds(2)))
    undisturbed(spec, out)
    monkeypatch.setenv("FAKE_CELL_BUILD", NEW)
    both = [start(spec, out, "--fresh") for _ in range(2)]
    assert [each.wait(timeout=60) for each in both] == [0, 0]
    assert set(started(log, "end").values()) == {1}
    assert studies.open_sweep(out).warnings() == []


def test_a_task_replaces_only_the_file_that_it_names(tmp_path: Path, log: Path) -> None:
    task = task_of(tmp_path, SWEEP)
    assert run_cell(task).ran
    old = identity_of(task.out)
    again = task_of(tmp_path, SWEEP, replaces=old)
    assert [run_cell(again).ran, run_cell(again).ran, run_cell(task).ran] == [True, False, False]
    assert sum(started(log).values()) == 2


def test_a_cell_that_another_process_writes_is_not_run(tmp_path: Path, log: Path) -> None:
    task = task_of(tmp_path, behaving(fake_cell.SLOW))
    with ThreadPoolExecutor() as pool:
        other = pool.submit(run_cell, task)
        wait_for(lambda: bool(alive(log)))
        held = run_cell(task)
        assert (held.held, held.ran) == (True, False)
        assert "is being written by another process" in held.message
        assert other.result().exit_code == 0
    assert not run_cell(task).ran


def test_what_is_set_aside_is_what_was_read(tmp_path: Path) -> None:
    """Of two sweeps that find a corrupt file, the later must not take the new one for it."""
    folder = Folder(tmp_path)
    folder.create()
    folder.cell("x").write_bytes(b"corrupt")
    corrupt = identity_of(folder.cell("x"))
    assert corrupt is not None
    handle = os.open(folder.part("x"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert folder.set_aside("x", corrupt) is None  # the other one is at it
    assert folder.part("x").exists()
    os.close(handle)
    folder.part("x").rename(folder.cell("x"))
    assert folder.set_aside("x", corrupt) is None  # the other one has done it
    now = identity_of(folder.cell("x"))
    assert now is not None
    aside = folder.set_aside("x", now)
    assert aside is not None
    assert aside.exists()
    assert [path.name for path in folder.cells.iterdir()] == [aside.name]


def test_a_folder_belongs_to_the_first_of_two_sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find no sweep.toml; the file of the one that is slower replaces nothing."""
    folder = Folder(tmp_path / "out")
    folder.create()
    one, two = check(SWEEP), check(changed(name="two"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda _: False)  # as it was before the other one wrote it
        folder.keep_sweep(one, None)
        folder.keep_sweep(one, None)
        with pytest.raises(studies.SweepError, match="is a different sweep"):
            folder.keep_sweep(two, None)
    assert 'name = "small"' in folder.sweep.read_text()
    assert [path.name for path in folder.root.iterdir() if path.is_file()] == ["sweep.toml"]


def test_who_is_at_work(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert folder.sweeps() is None
    with folder.at_work():
        with Folder(tmp_path).at_work():
            assert [record["pid"] for record in folder.sweeps() or []] == [os.getpid()] * 2
        assert folder.sweeps()
        gone = subprocess.Popen(["true"])
        gone.wait()
        record = {"pid": gone.pid, "host": os.uname().nodename, "started": 0.0}
        with folder.lock.open("a") as file:
            file.write(json.dumps(record) + "\nnonsense\n")
            file.write(json.dumps({**record, "host": "elsewhere"}) + "\n")
        assert {record["host"] for record in folder.sweeps() or []} == {record["host"], "elsewhere"}
        assert gone.pid not in {r["pid"] for r in folder.sweeps() or [] if r["host"] != "elsewhere"}
    assert folder.sweeps() is None
    with folder.at_work():
        assert [record["pid"] for record in folder.sweeps() or []] == [os.getpid()]


def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match=r"without flock\(2\) \(No locks available\)"):
        studies.run_sweep(SWEEP, tmp_path / "out", progress=False)


def test_a_part_that_is_written_is_left_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.create()
    stale, written, renamed = (folder.part(name) for name in ("s", "w", "r"))
    for part in (stale, written, renamed):
        part.write_bytes(b"half")
    handle = os.open(written, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    renamed.rename(folder.cell("r"))
    folder.remove_parts()
    assert (stale.exists(), written.exists(), folder.cell("r").exists()) == (False, True, True)
    assert [is_locked(part) for part in (stale, written, renamed)] == [False, True, False]
    os.close(handle)
    folder.remove_parts(["w", "r"])
    assert not written.exists()


def test_cells_that_an_executor_still_writes_are_waited_for(
    tmp_path: Path, log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A sweep whose executor's cells outlive it: what they finish is taken, what they drop is run."""
    out = tmp_path / "out"
    plan = expand(check(SWEEP), find_program())
    folder = Folder(out)
    folder.create()
    finishes, drops = plan[0], plan[1]
    handles = []
    for planned in (finishes, drops):
        folder.part(planned.id).write_bytes(b"half")
        handles.append(os.open(folder.part(planned.id), os.O_RDWR))
        fcntl.flock(handles[-1], fcntl.LOCK_EX)
    made = studies.run_sweep(SWEEP, tmp_path / "other", progress=False)

    def finish() -> None:
        wait_for(lambda: all(folder.cell(p.id).exists() for p in plan[2:]))
        time.sleep(1.5)
        shutil.copy(made.cells[0].path, folder.part(finishes.id))
        folder.part(finishes.id).rename(folder.cell(finishes.id))
        for handle in handles:
            os.close(handle)

    remote = threading.Thread(target=finish)
    remote.start()
    sweep = studies.run_sweep(SWEEP, out, progress=False)
    remote.join()
    assert sweep.counts()["completed"] == 4
    assert started(log)[finishes.id] == 1  # in the other folder
    assert started(log)[drops.id] == 2
    assert "waiting for 2 cells that others write" in capfd.readouterr().err
    assert not list(out.rglob("*.part"))


# ---------------------------------------------------------------- ended and stopped
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")],
)
def test_ended_in_order(
    tmp_path: Path, log: Path, number: signal.Signals, code: int, word: str
) -> None:
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(behaving(0.9, fake_cell.HANG)))
    running = start(spec, out)
    wait_for(lambda: len(started(log, "end")) >= 1 and len(alive(log)) == 2)
    time.sleep(0.3)
    running.send_signal(number)
    assert running.wait(timeout=20) == code
    said = out.with_suffix(".stderr").read_text()
    finished = len(started(log, "end"))
    begun = len(list(out.rglob("*.resume")))
    assert begun >= 1
    sentence = f"{word}: {finished} of 8 cells are finished, {begun} are begun; the same command"
    assert sentence in said
    assert "Traceback" not in said
    assert not alive(log)
    assert not list(out.rglob("*.part"))
    assert not list((out / "failed").glob("*"))
    assert f"{begun} begun" in command("status", out).stdout


def test_what_was_stopped_goes_on_from_its_checkpoint(tmp_path: Path, log: Path) -> None:
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(behaving(fake_cell.SLOW)))
    running = start(spec, out)
    wait_for(lambda: len(alive(log)) == 2)
    running.terminate()
    assert running.wait(timeout=20) == 143
    begun = {path.name.split(".")[0] for path in out.rglob("*.resume")}
    left = out / "cells" / f"{'0' * 64}.h5.resume"  # of no cell of this sweep
    left.touch()
    assert command("sweep", spec, "--out", out).returncode == 0
    assert set(started(log, "resume")) == begun != set()
    assert list(out.rglob("*.resume")) == [left]


def test_a_checkpoint_that_a_finished_cell_left_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    cells = studies.run_sweep(SWEEP, out, progress=False).cells
    left, newer = (Folder(out).checkpoint(cell.id) for cell in cells[:2])
    left.touch()
    os.utime(left, (0, 0))
    newer.touch()  # of a cell that is to replace the finished one
    assert studies.status_of(studies.open_sweep(out))["begun"] == 0
    studies.run_sweep(SWEEP, out, progress=False)
    assert (left.exists(), newer.exists()) == (False, True)


def test_a_cell_that_somebody_stops_is_tried_again_the_next_time(tmp_path: Path, log: Path) -> None:
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(seeds(1)))
    running = start(spec, out)
    wait_for(lambda: len(alive(log)) == 2)
    os.kill(alive(log)[0], signal.SIGTERM)
    assert running.wait(timeout=20) == 1
    said = out.with_suffix(".stderr").read_text()
    assert "stopped: precision=" in said
    assert "the same command goes on from there" in said
    assert studies.open_sweep(out).counts()["missing"] == 1  # it has not failed
    assert command("sweep", spec, "--out", out).returncode == 0
    assert sum(started(log, "resume").values()) == 1


def test_a_limit_for_each_cell(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "GRACE", 0.3)
    out, two = tmp_path / "out", behaving(fake_cell.SLOW, fake_cell.DEAF)
    two["axes"]["training"]["seed"] = [0]
    limited = studies.run_sweep(two, out, cell_limit=0.45, jobs=4, progress=False)
    said = capfd.readouterr().err
    limit = "it took longer than the limit of 0.45 s for a cell; a larger one "
    assert said.count(limit + "is needed; it left no checkpoint") >= 2  # DEAF ones were killed
    assert not alive(log)
    assert len(limited.failed) >= 2
    hanging = behaving(fake_cell.HANG)
    hanging["axes"]["training"]["seed"] = [0]
    begun = studies.run_sweep(hanging, tmp_path / "begun", cell_limit=3, progress=False)
    assert len(begun.failed) == len(begun.cells) == 2
    for cell in begun.failed:
        assert "limit of 3 s for a cell; a larger one goes on from its checkpoint" in cell.failure
    with pytest.raises(studies.SweepError, match="cell_limit is -1"):
        studies.run_sweep(SWEEP, out, cell_limit=-1)


# ---------------------------------------------------------------- the death of a sweep
def test_killed_and_started_again(tmp_path: Path, log: Path) -> None:
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(behaving(0.9, fake_cell.SLOW)))
    running = start(spec, out)
    wait_for(lambda: len(started(log, "end")) >= 3)
    running.send_signal(signal.SIGKILL)
    running.wait()
    wait_for(lambda: not alive(log), 2)  # nobody is left behind
    finished = started(log, "end")
    assert len(finished) < 8
    again = command("sweep", spec, "--out", out)
    assert again.returncode == 0, again.stderr
    assert "8 completed" in again.stdout
    assert set(started(log, "end").values()) == {1}  # no finished cell was run twice
    assert all(started(log)[name] == 1 for name in finished)
    assert not list(out.rglob("*.part"))


def test_no_orphan_survives(tmp_path: Path, log: Path) -> None:
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(behaving(fake_cell.DEAF)))
    running = start(spec, out)
    wait_for(lambda: len(alive(log)) == 2)
    assert "running" in command("status", out).stdout
    running.send_signal(signal.SIGKILL)
    running.wait()
    wait_for(lambda: not alive(log), 2)
    assert Folder(out).sweeps() is None


@pytest.mark.parametrize("sweeps", [1, 2])
def test_killed_again_and_again(tmp_path: Path, log: Path, sweeps: int) -> None:
    spec = tmp_path / "sweep.toml"
    spec.write_text(to_toml(seeds(3)))
    out = tmp_path / "out"
    verdict = kill_sweep.disturb(spec, out, kills=3, seed=sweeps, longest=2.0, sweeps=sweeps)
    assert verdict.good, verdict
    assert (verdict.cells, verdict.kills + verdict.terms) == (6, 3)
    assert max(started(log, "end").values()) <= 1 + verdict.rounds  # once in each folder
    tables = [command("table", each, "--csv").stdout for each in out.iterdir()]
    assert len(set(tables)) == 1
