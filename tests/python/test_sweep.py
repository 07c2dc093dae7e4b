"""Sweeps: expansion, resuming, failures, locks, the death of a sweep; cells by fake_cell.py."""

import copy
import fcntl
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import fake_cell
import pytest

from halfulp import cli, studies
from halfulp.studies.folder import Folder
from halfulp.studies.program import Build, find_program
from halfulp.studies.progress import Estimate, duration
from halfulp.studies.spec import check, expand, flatten, merge, nest, read_sweep
from halfulp.studies.toml_text import to_toml

HERE = Path(__file__).parent
QUICKSTART = HERE.parents[1] / "studies" / "quickstart.toml"
E8M3 = {"format": "fp_e8p4b127_s_ieee_ieee"}

SWEEP: dict[str, Any] = {
    "name": "small",
    "question": "Does it work?",
    "baseline": "fp32",
    "cell": {"training": {"steps": 40, "evaluate_every": 20}},
    "axes": {
        "precision": ["fp32", "e8m3"],
        "optimizer": {"learning_rate": [1e-3]},
        "training": {"seed": [0, 1]},
    },
    "precision": {"fp32": {}, "e8m3": {"weights": E8M3}},
}


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the fake in the place of halfulp-cell; returns its log."""
    program = tmp_path / "halfulp-cell"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "fake_cell.py"} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("HALFULP_CELL", str(program))
    monkeypatch.setenv("FAKE_CELL_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def started(log: Path, event: str = "start") -> Counter[str]:
    """How often each cell was started (or ended)."""
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(line.split()[1] for line in lines if line.startswith(event))


def changed(**keys: Any) -> dict[str, Any]:
    """SWEEP with some keys replaced."""
    return {**copy.deepcopy(SWEEP), **keys}


def behaving(*values: float) -> dict[str, Any]:
    """SWEEP with the fake's behaviours as a further axis."""
    sweep = copy.deepcopy(SWEEP)
    sweep["axes"]["optimizer"]["beta1"] = list(values)
    return sweep


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command line and returns its exit code and output."""
    line = [sys.executable, "-m", "halfulp.cli", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


# ---------------------------------------------------------------- the specification
def test_expansion_order_and_ids() -> None:
    plan = expand(check(SWEEP), find_program())
    assert [tuple(c.parameters.values()) for c in plan] == [
        ("fp32", 1e-3, 0), ("fp32", 1e-3, 1), ("e8m3", 1e-3, 0), ("e8m3", 1e-3, 1),
    ]  # fmt: skip
    assert plan[2].specification["precision"]["label"] == "e8m3"
    assert plan[2].specification["precision"]["weights"]["format"] == E8M3["format"]
    assert len({c.id for c in plan}) == 4
    # A cell's name depends on what it is, not on how it was written.
    quoted = changed(axes={"training.seed": [1], "precision": ["e8m3"]}, baseline="e8m3")
    quoted["cell"] = merge(quoted["cell"], {"optimizer": {"learning_rate": 0.001}})
    assert expand(check(quoted), find_program())[0].id == plan[3].id


def test_quickstart_expands() -> None:
    spec = read_sweep(QUICKSTART)
    plan = expand(spec, find_program())
    assert sum(c.control is None for c in plan) == math.prod(len(v) for v in spec.axes.values())
    assert [c.control for c in plan if c.control][1] == "general path"


def test_trees() -> None:
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}
    assert flatten({"a": {"b": [1]}, "c": 2}) == {"a.b": [1], "c": 2}
    assert nest("a.b", 1) == {"a": {"b": 1}}
    tree = {"a b": 'q"uote\\ é\x7f', "c": {"d": [1, 2.5, True], "e": {}}, "f": [{"x": 1e-8}]}
    assert tomllib.loads(to_toml(tree)) == tree


CONTROL = {"name": "a", "cell": {}}


@pytest.mark.parametrize(
    ("sweep", "sentence"),
    [
        (changed(basline="x"), "no key 'basline'; did you mean 'baseline'?"),
        (changed(baseline="bf16"), "baseline = 'bf16' is not in the axis precision"),
        (changed(axes={"precision": ["fp32", "e8m4"]}), "no [precision.e8m4]; did you mean 'e8m3'"),
        (changed(axes={"precision": ["fp32"], "training": {"seed": []}}), "seed is empty"),
        (changed(axes={"precision": ["fp32"], "training": {"seed": 1}}), "an axis is a list"),
        (changed(axes={"precision": ["fp32", "fp32"]}), "has the value 'fp32' twice"),
        (changed(axes={}), "[axes] has no precision"),
        (changed(name=3), "name is 3"),
        (changed(expect_broken=["x"]), "expect_broken = 'x'"),
        (changed(baseline_accuracy=95), "baseline_accuracy is 95"),
        (changed(control=[{**CONTROL, "expct": "equal"}]), "did you mean 'expect'?"),
        (changed(control=[{**CONTROL, "expect": "equal"}]), "only one of expect and to"),
        (changed(control=[{**CONTROL, "expect": "same", "to": "b"}]), "'equal' or 'different'"),
        (changed(control=[{**CONTROL, "expect": "equal", "to": "b"}]), "it names another control"),
        (changed(control=[CONTROL, CONTROL]), "stands 2 times"),
        (changed(precision={"fp32": {"label": "x"}, "e8m3": {}}), "the table is the label"),
    ],
)  # fmt: skip
def test_bad_sweeps_get_a_sentence(sweep: dict[str, Any], sentence: str) -> None:
    with pytest.raises(studies.SweepError) as error:
        check(sweep)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_misspelt_cell_key_names_the_cell(tmp_path: Path) -> None:
    with pytest.raises(studies.SweepError, match=r"precision=fp32.*training\.step is not a key"):
        studies.run_sweep(changed(cell={"training": {"step": 4}}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_duplicate_cells() -> None:
    same = changed(precision={"fp32": {}, "e8m3": {}})
    assert len(expand(check(same), find_program())) == 4  # the label alone sets them apart
    same["axes"] = {"precision": ["fp32", "e8m3"], "precision.label": ["x"]}
    with pytest.raises(studies.SweepError, match=r"two cells are the same, precision=fp32.*e8m3"):
        expand(check(same), find_program())


# ---------------------------------------------------------------- running
def test_resume_runs_only_what_is_missing(tmp_path: Path, log: Path) -> None:
    out = tmp_path / "out"
    first = studies.run_sweep(SWEEP, out, progress=False)
    assert [c.outcome for c in first.cells] == ["completed"] * 4
    gone = first.cells[2]
    gone.path.unlink()
    again = studies.run_sweep(SWEEP, out, progress=False)
    counts = started(log)
    assert counts.pop(gone.id) == 2
    assert set(counts.values()) == {1}
    assert again.cells[2].finished
    assert again.cells[0].metrics["train_loss"].shape == (40,)
    assert studies.run_sweep(SWEEP, out, progress=False).counts()["completed"] == 4
    assert sum(started(log).values()) == 5


def test_stale_parts_go_and_a_different_sweep_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    studies.run_sweep(SWEEP, out, progress=False)
    stale = out / "cells" / f"{'0' * 64}.h5.part"
    stale.write_bytes(b"")
    kept = (out / "sweep.toml").read_bytes()
    with pytest.raises(studies.SweepError, match="is a different sweep"):
        studies.run_sweep(changed(name="other"), out, progress=False)
    assert (out / "sweep.toml").read_bytes() == kept
    assert len(list((out / "cells").glob("*.h5"))) == 4
    studies.run_sweep(SWEEP, out, progress=False)
    assert not stale.exists()


def test_a_failing_cell_is_reported_and_the_rest_goes_on(tmp_path: Path, log: Path) -> None:
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(behaving(0.9, fake_cell.FAIL, fake_cell.NO_FILE)))
    done = command("sweep", spec, "--out", out)
    assert done.returncode == 1
    assert "8 failed" in done.stdout
    sentence = "failed: precision=e8m3, optimizer.learning_rate=0.001, optimizer.beta1=0.111, "
    assert sentence + "training.seed=1: it was told to fail" in done.stderr
    assert "without leaving" in done.stderr
    sweep = studies.open_sweep(out)
    assert sweep.counts() == {
        "completed": 4, "diverged": 0, "failed": 8, "corrupt": 0, "missing": 0
    }  # fmt: skip
    status = command("status", out)
    assert "4 of 12 cells are finished, 8 failed" in status.stdout
    command("sweep", spec, "--out", out)
    assert sorted(started(log).values()) == [1] * 4 + [2] * 8  # failures are tried again


def test_a_corrupt_file_is_named_kept_and_run_again(
    tmp_path: Path, log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    sweep = studies.run_sweep(SWEEP, out, progress=False)
    broken, swapped = sweep.cells[1].path, sweep.cells[2].path
    broken.write_bytes(b"this is not HDF5")
    swapped.write_bytes(sweep.cells[3].path.read_bytes())
    seen = studies.open_sweep(out)  # looking changes nothing
    assert [c.outcome for c in seen.cells] == ["completed", "corrupt", "corrupt", "completed"]
    assert "PROVISIONAL: 2 of 4" in str(seen.table())
    again = studies.run_sweep(SWEEP, out, progress=False)
    assert again.counts()["completed"] == 4
    assert broken.with_name(broken.name + ".corrupt").read_bytes() == b"this is not HDF5"
    said = capfd.readouterr().err
    assert f"corrupt: {broken} is not the file of a cell" in said
    assert f"corrupt: {swapped} holds another specification" in said
    assert started(log)[sweep.cells[0].id] == 1


def test_shards_make_the_sweep(tmp_path: Path, log: Path) -> None:
    one = studies.run_sweep(SWEEP, tmp_path / "out", shard=(1, 2), progress=False)
    assert one.counts()["missing"] == 2
    two = studies.run_sweep(SWEEP, tmp_path / "out", shard=(2, 2), progress=False)
    assert two.counts()["completed"] == 4
    assert set(started(log).values()) == {1}


def test_other_executors(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        sweep = studies.run_sweep(SWEEP, tmp_path / "out", executor=pool, progress=False)
    assert sweep.counts()["completed"] == 4


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    sweep = studies.run_sweep(SWEEP, tmp_path / "out", jobs=2, dry_run=True)
    assert not (tmp_path / "out").exists()
    assert sweep.prediction is not None
    assert (sweep.prediction.to_run, sweep.prediction.measured) == (4, 2)
    assert sweep.prediction.seconds > 0
    assert sweep.prediction.bytes > 4 * 1000


# ---------------------------------------------------------------- other builds and other data
NEW = "b" * 64
CONTROLLED = changed(
    control=[
        {"name": "one", "cell": {}},
        {"name": "two", "cell": {"data": {"held_out": 361}}, "expect": "equal", "to": "one"},
    ]
)


def test_cells_of_another_build_are_kept_and_said(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(CONTROLLED))
    first = studies.run_sweep(spec, out, progress=False)
    assert first.warnings() == []
    grid, controls = first.grid, [c.id for c in first.cells if c.control]
    monkeypatch.setenv("FAKE_CELL_BUILD", NEW)
    grid[0].path.unlink()
    done = command("sweep", spec, "--out", out)
    sentence = (
        "WARNING: 3 of 6 cells were made by another build (numerics aaaaaaaa…); "
        "halfulp sweep --fresh runs them again."
    )
    assert sentence in done.stderr
    # What was missing and the controls were run, nothing else.
    assert started(log) == {c.id: 1 for c in grid[1:]} | {c: 2 for c in (*controls, grid[0].id)}
    assert sentence in " ".join(command("table", out).stdout.split())
    assert sentence in command("status", out).stdout
    assert sentence in command("report", out).stderr
    assert sentence in (out / "report.html").read_text()
    assert sentence in json.loads(command("table", out, "--json").stdout)["warnings"]
    assert json.loads(command("status", out, "--json").stdout)["other_build"] == 3
    again = json.loads(command("sweep", spec, "--out", out, "--json").stdout)
    assert (again["other_build"], again["warnings"]) == (3, [sentence])
    assert sum(started(log).values()) == 9  # the controls are of the present build now
    dry = json.loads(command("sweep", spec, "--out", out, "--fresh", "--dry-run", "--json").stdout)
    assert (dry["finished"], dry["to_run"]) == (3, 3)
    fresh = command("sweep", spec, "--out", out, "--fresh")
    assert "WARNING" not in fresh.stderr
    assert "6 completed" in fresh.stdout
    assert set(started(log).values()) == {2}  # only those of the other build
    assert not list(out.rglob("*.part"))


def test_cells_from_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studies.run_sweep(SWEEP, tmp_path / "out", progress=False)
    monkeypatch.setenv("FAKE_CELL_DATA", "2" * 64)
    (warning,) = studies.open_sweep(tmp_path / "out").warnings()
    assert warning.startswith("WARNING: 4 of 4 cells were made from other data (data_sha256 1111")
    other = tmp_path / "other"  # data that the program says no hash of
    studies.run_sweep(changed(cell={"data": {"name": "shakespeare"}}), other, progress=False)
    monkeypatch.setenv("FAKE_CELL_DATA", "3" * 64)
    assert studies.open_sweep(other).warnings() == []
    monkeypatch.setenv("FAKE_CELL_BUILD", NEW)
    (warning,) = studies.open_sweep(tmp_path / "out").warnings()
    assert "made by another build (numerics aaaaaaaa…) and 4 of 4 cells were made from" in warning
    fresh = studies.run_sweep(SWEEP, tmp_path / "out", fresh=True, progress=False)
    assert fresh.warnings() == []


def test_programs_that_do_not_say_their_build(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("FAKE_CELL_BUILD", "none")
    sweep = studies.run_sweep(CONTROLLED, out, progress=False)
    assert (sweep.build, sweep.warnings()) == (Build(None, None), [])
    assert studies.run_sweep(CONTROLLED, out, fresh=True, progress=False).warnings() == []
    assert set(started(log).values()) == {1}
    # A new program takes old cells for those of another build, an old one sees that they differ.
    monkeypatch.setenv("FAKE_CELL_BUILD", NEW)
    assert "(numerics unknown)" in studies.open_sweep(out).warnings()[0]
    studies.run_sweep(CONTROLLED, out, progress=False)
    monkeypatch.setenv("FAKE_CELL_BUILD", "none")
    (warning,) = studies.open_sweep(out).warnings()
    assert "the cells come from 2 builds (numerics unknown: 4, bbbbbbbb…: 2)" in warning
    # Results are read without the program, too.
    monkeypatch.setenv("HALFULP_CELL", str(tmp_path / "nowhere"))
    assert studies.open_sweep(out).warnings() == [warning]


def test_a_fresh_cell_that_fails_keeps_its_old_file(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = studies.run_sweep(CONTROLLED, out, progress=False)
    kept = {c.id: c.path.read_bytes() for c in first.cells}
    monkeypatch.setenv("FAKE_CELL_BUILD", NEW)
    monkeypatch.setenv("FAKE_CELL_BROKEN", "1")
    failed = studies.run_sweep(CONTROLLED, out, fresh=True, progress=False)
    assert failed.counts()["failed"] == 6  # what an old build made does not pass for the new one
    assert failed.check_controls()[0].passed is None
    assert {c.id: c.path.read_bytes() for c in failed.cells} == kept
    monkeypatch.delenv("FAKE_CELL_BROKEN")
    again = studies.run_sweep(CONTROLLED, out, progress=False)
    assert again.counts()["completed"] == 6
    assert len(again.of_another_build) == 4


# ---------------------------------------------------------------- parts that are still written
def test_a_part_that_is_written_is_left_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.create()
    stale, written, renamed = (folder.part(name) for name in ("s", "w", "r"))
    for part in (stale, written, renamed):
        part.write_bytes(b"half")
    handle = os.open(written, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    renamed.rename(folder.cell("r"))
    assert folder.remove_parts() == {"w"}
    assert (stale.exists(), written.exists(), folder.cell("r").exists()) == (False, True, True)
    assert [folder.is_written(name) for name in "swr"] == [False, True, False]
    os.close(handle)
    assert folder.remove_parts(["w", "r"]) == set()
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
    said = capfd.readouterr().err
    assert said.count("is being written by a cell that an earlier sweep has left; waiting") == 2
    assert not list(out.rglob("*.part"))


# ---------------------------------------------------------------- the death of a sweep
def start(spec: Path, out: Path) -> "subprocess.Popen[str]":
    """A sweep in the background."""
    line = [sys.executable, "-m", "halfulp.cli", "sweep", str(spec), "--out", str(out), "--jobs=2"]
    with out.with_suffix(".stderr").open("w") as said:
        # A shell's background jobs ignore SIGINT, and children inherit that: the tests need it.
        inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(line, stderr=said, text=True)
        finally:
            signal.signal(signal.SIGINT, inherited)


def wait_for(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def alive(log: Path) -> list[int]:
    """The cells' processes that still run (an ended one that nobody waited for does not count)."""
    running = []
    for line in log.read_text().splitlines():
        status = Path(f"/proc/{line.split()[2]}/stat")
        try:
            if status.read_text().rpartition(")")[2].split()[0] != "Z":
                running.append(int(line.split()[2]))
        except OSError:
            pass
    return running


def test_killed_and_started_again(tmp_path: Path, log: Path) -> None:
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(behaving(0.9, fake_cell.SLOW)))
    sweep = start(spec, out)
    wait_for(lambda: len(started(log, "end")) >= 3)
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    wait_for(lambda: not alive(log), 2)  # nobody is left behind
    finished = started(log, "end")
    assert len(finished) < 8
    again = command("sweep", spec, "--out", out)
    assert again.returncode == 0, again.stderr
    assert "8 completed" in again.stdout
    assert set(started(log, "end").values()) == {1}  # no finished cell was run twice
    assert all(started(log)[name] == 1 for name in finished)
    assert not list(out.rglob("*.part"))


def test_no_orphan_survives_and_two_sweeps_exclude_each_other(tmp_path: Path, log: Path) -> None:
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(behaving(fake_cell.HANG)))
    sweep = start(spec, out)
    wait_for(lambda: len(started(log)) == 2)
    assert len(alive(log)) == 2
    second = command("sweep", spec, "--out", out)
    assert second.returncode == 3
    assert f"is being worked on by another sweep (process {sweep.pid}" in second.stderr
    assert "running" in command("status", out).stdout
    assert command("sweep", spec, "--out", out, "--shard", "1/2").returncode == 3
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    wait_for(lambda: not alive(log), 2)
    assert Folder(out).holder() is None


def test_interrupted(tmp_path: Path, log: Path) -> None:
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(behaving(0.9, fake_cell.HANG)))
    sweep = start(spec, out)
    wait_for(lambda: len(started(log, "end")) >= 1 and len(alive(log)) == 2)
    sweep.send_signal(signal.SIGINT)
    sweep.wait(timeout=20)
    said = out.with_suffix(".stderr").read_text()
    assert sweep.returncode == 130
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    assert not alive(log)
    assert not list(out.rglob("*.part"))


def test_shards_of_one_division_run_together(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with folder.locked((1, 2)):
        with Folder(tmp_path).locked((2, 2)):
            pass
        for other in ((1, 2), (1, 3), None):
            with pytest.raises(studies.SweepBusyError), Folder(tmp_path).locked(other):
                pass
        assert folder.holder() is not None
    with folder.locked():
        pass


# ---------------------------------------------------------------- the command line
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["sweep", "absent.toml", "--out", "x"], 3, "absent.toml: No such file"),
        (["sweep", "absent.toml"], 2, "--out"),
        (["sweep", "bad.toml", "--out", "x"], 2, "is not TOML"),
        (["sweep", "good.toml", "--out", "bad.toml/x"], 3, "bad.toml/x cannot be written"),
        (["sweep", "good.toml", "--out", "x", "--jobs", "0"], 2, "jobs is 0"),
        (["sweep", "good.toml", "--out", "x", "--shard", "3/2"], 2, "1 <= I <= N"),
        (["table", "x"], 3, "holds no sweep"),
        (["status", "x"], 3, "holds no sweep"),
        (["report", "x"], 3, "holds no sweep"),
        (["weep"], 2, "invalid choice: 'weep'"),
        ([], 2, "COMMAND"),
    ],
)
def test_bad_input_gets_one_sentence(
    tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    (tmp_path / "bad.toml").write_text("[")
    (tmp_path / "good.toml").write_text(to_toml(SWEEP))
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert sentence in done.stderr
    assert done.stderr.startswith("halfulp: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep", "absent.toml", "--out", "x"],
        ["sweep", "bad.toml", "--out", "x"],
        ["sweep", "huge.toml", "--out", "x"],
        ["sweep", "good.toml"],
        ["sweep", "good.toml", "--out", "x", "--shard", "3/2"],
        ["table", "x"],
        ["table", "x", "--csv"],
        ["status", "x"],
        ["report", "x"],
        ["round", "--format", "nonsense", "1"],
        ["op", "nonsense", "--format", "bfloat16", "1"],
        ["formats", "nonsense"],
        ["weep"],
        [],
    ],
)
def test_json_also_when_it_fails(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text("[")
    Path("good.toml").write_text(to_toml(SWEEP))
    Path("huge.toml").write_text(to_toml(changed(cell={"optimizer": {"epsilon": math.inf}})))
    code = cli.main([*arguments, "--json"])
    said = capfd.readouterr()
    answer = json.loads(said.out)
    assert code == answer["exit_code"] != 0
    assert said.err == f"halfulp: {answer['error']}\n"


def test_what_fails_late_leaves_one_json_document(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def late(*_: object) -> int:
        print(json.dumps({"half": "an answer"}))
        raise OSError("the disk is full")

    monkeypatch.setattr(cli, "_status", late)
    assert cli.main(["status", "x", "--json"]) == 3
    answer = {"error": "the disk is full", "exit_code": 3}
    assert json.loads(capfd.readouterr().out) == answer


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("cell.optimizer.epsilon = 1e999", "give a text, a finite number, true or false"),
        ("cell.training.seed = nan", "give a text, a finite number, true or false"),
        ("cell.training.batch = 1979-05-27", "give a text, a finite number, true or false"),
        (f"cell.training.seed = {'9' * 5000}", "is not TOML: Exceeds the limit"),
        (f"baseline_accuracy = {'9' * 400}", "it lies between 0 and 1"),
        (f"cell.model.hidden = {'[' * 5000}{']' * 5000}", "nested too deeply"),
        ("control = [3]", "write [[control]] above each"),
        ("control = [{ name = 'a', policy = [1] }]", "has the policy '[1]'"),
        ("axes.precision = [['fp32']]", "axes.precision names '['fp32']'"),
        ("axes.precision = [{ a = 1 }]", "axes.precision names"),
        ("axes.precision = 'fp32'", "is one value"),
        ("expect_broken = [['fp32']]", "expect_broken = '['fp32']'"),
        (f"axes.training.seed = {list(range(1001))}\naxes.data.held_out = {list(range(1000))}",
         "spans 1,001,000 cells, more than 1,000,000"),
        ("\0", "is not TOML"),
    ],
)  # fmt: skip
def test_nonsense_in_a_toml_gets_one_sentence(tmp_path: Path, line: str, sentence: str) -> None:
    spec = tmp_path / "sweep.toml"
    start = 'name = "n"\nquestion = "q"\nbaseline = "fp32"\n'
    axes = "" if "axes.precision" in line else 'axes.precision = ["fp32"]\n'
    spec.write_text(f"{start}{axes}precision.fp32 = {{}}\n{line}\n")
    with pytest.raises(studies.SweepError) as error:
        studies.run_sweep(spec, tmp_path / "out")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_program_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFULP_CELL", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="which is not a program"):
        studies.run_sweep(SWEEP, tmp_path / "out")
    monkeypatch.delenv("HALFULP_CELL")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    with pytest.raises(FileNotFoundError, match=r"build it with ./dev build"):
        find_program()


def test_json_answers(tmp_path: Path) -> None:
    spec, out = tmp_path / "sweep.toml", tmp_path / "out"
    spec.write_text(to_toml(SWEEP))
    dry = json.loads(command("sweep", spec, "--out", out, "--dry-run", "--json").stdout)
    assert dry["to_run"] == 4
    done = command("sweep", spec, "--out", out, "--json")
    assert json.loads(done.stdout)["completed"] == 4
    assert done.stderr == ""
    status = json.loads(command("status", out, "--json").stdout)
    assert (status["cells"], status["completed"], status["running"]) == (4, 4, False)


def test_negative_numbers_are_no_options() -> None:
    from halfulp.cli import _parser, _protect_negatives

    def parse(line: str) -> Any:
        return _parser().parse_args(_protect_negatives(line.split()))

    start = "round --format float8_e4m3fn --rounding nearest-even "
    assert parse(start + "0.3 448 1e9 nan -- -0.0").values == ["0.3", "448", "1e9", "nan", "-0.0"]
    assert parse(start + "-1e9 -inf -0x1p-3 -nan").values == ["-1e9", "-inf", "-0x1p-3", "-nan"]
    assert parse(start + "--seed -5 1 -.5").seed == -5
    line = parse("op fma --format bfloat16 --rounding up 0x3f80 -1.5 -0 --flags")
    assert (line.name, line.operands, line.flags) == ("fma", ["0x3f80", "-1.5", "-0"], True)


# ---------------------------------------------------------------- small parts
def test_estimate() -> None:
    estimate = Estimate(jobs=2)
    assert estimate.seconds(["a"]) is None
    estimate.add("a", 1.0)
    estimate.add("a", 3.0)
    estimate.add("b", 8.0)
    estimate.add("control", 100.0, typical=False)
    assert estimate.seconds(["a", "b", "c"]) == (2.0 + 8.0 + 4.0) / 2
    assert [duration(s) for s in (41.6, 200, 7500)] == ["42 s", "3 min 20 s", "2 h 05 min"]


def test_studies_import_nothing_else_of_the_package() -> None:
    folder = Path(studies.__file__).parent
    for source in folder.glob("*.py"):
        text = source.read_text()
        assert "from .." not in text, source
        assert "import halfulp" not in text, source
        assert "from halfulp" not in text, source


def test_the_fake_is_like_the_program(tmp_path: Path) -> None:
    """The fake's canonical text is the program's, but for the names of formats."""
    real = Path(sys.executable).parent / "halfulp-cell"
    if not os.access(real, os.X_OK):
        pytest.skip("halfulp-cell is not built")
    text = json.dumps({"training": {"steps": 5, "evaluate_every": 2}})
    answers = [
        subprocess.run(
            [program, "--canonical"], input=text, capture_output=True, text=True, check=True
        )
        for program in (str(real), find_program())
    ]
    texts = [re.sub(r'"format":"[a-z0-9_]+"', "", answer.stdout) for answer in answers]
    assert texts[0] == texts[1]
