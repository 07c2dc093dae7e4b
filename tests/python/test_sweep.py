"""Sweeps: expansion, resuming, failures, other builds, the command line; cells by fake_cell.py."""

import json
import math
import os
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import fake_cell
import pytest
from fake_sweeps import E8M3, HERE, SWEEP, behaving, changed, command, started

from halfulp import cli, studies
from halfulp.studies.predict import kind_of
from halfulp.studies.program import Build, find_program
from halfulp.studies.progress import Estimate, duration
from halfulp.studies.spec import check, expand, flatten, merge, nest, read_sweep
from halfulp.studies.sweep import _order
from halfulp.studies.toml_text import to_toml

pytestmark = pytest.mark.usefixtures("log")

QUICKSTART = HERE.parents[1] / "studies" / "quickstart.toml"


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


def test_every_kind_of_data_is_compared_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = changed(cell={"data": {"name": "kjv"}})
    studies.run_sweep(text, tmp_path / "out", progress=False)
    monkeypatch.setenv("FAKE_CELL_DATA", "4" * 64)  # the digits are not what these cells read
    assert studies.open_sweep(tmp_path / "out").warnings() == []
    monkeypatch.setenv("FAKE_CELL_TEXT", "5" * 64)
    (warning,) = studies.open_sweep(tmp_path / "out").warnings()
    assert warning.startswith("WARNING: 4 of 4 cells were made from other data (data_sha256 2222")


def test_builds() -> None:
    told = {"numerics": "n", "data_sha256": {"digits": "d", "kjv": None}}
    program, older = Build.of(told), Build.of({"numerics": "n", "data_sha256": "d"})
    assert program == older == Build("n", {"digits": "d"})
    assert not Build.of({"numerics": "n", "data_sha256": "e"}, "kjv").differs(program)
    assert Build.of({"numerics": "n", "data_sha256": "e"}, "digits").differs(program)
    assert Build.of({"data_sha256": "d"}).differs(program)
    assert not Build.of({"numerics": "m"}).differs(Build.of({"numerics": "unknown"}))


def test_programs_that_do_not_say_their_build(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("FAKE_CELL_BUILD", "none")
    sweep = studies.run_sweep(CONTROLLED, out, progress=False)
    assert (sweep.build, sweep.warnings()) == (Build(), [])
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
        (["sweep", "good.toml", "--out", "x", "--cell-limit", "0"], 2, "seconds above 0"),
        (["sweep", "good.toml", "--out", "x", "--executor", "slurm"], 2, "it is local, dask, "),
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
    estimate = Estimate(slots=2)
    assert estimate.seconds(["a"]) is None
    assert estimate.seconds([]) == 0
    estimate.add("a", 1.0)
    estimate.add("a", 3.0)
    estimate.add("b", 8.0)
    estimate.add("control", 100.0, typical=False)
    assert estimate.seconds(["a", "a", "a"]) == 4.0  # the third follows one of the others
    assert estimate.seconds(["b", "a", "c"]) == 8.0  # c is as long as the mean of a and b
    assert estimate.seconds(["a"], [("b", 7.0), ("a", 1.5)]) == 1.0 + 2.0
    assert estimate.seconds([], [("b", None)]) == 4.0
    assert estimate.seconds([], [("b", 9.0)]) == pytest.approx(0.4)  # overdue: soon
    assert estimate.seconds([], [("c", 12.0)]) == 6.0  # unknown, and longer than the known ones
    assert estimate.seconds(["c"], [("c", 12.0)]) == 18.0
    assert estimate.seconds(["a"] * 4, [("a", 2.0)] * 4) == 3.0  # with the slots of other sweeps
    assert [duration(s) for s in (41.6, 200, 7500)] == ["42 s", "3 min 20 s", "2 h 05 min"]


@pytest.mark.parametrize("seconds", [(1, 1, 1), (1, 3, 10), (20, 1, 5), (2, 2, 60)])
@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize("seeds", [3, 5])
def test_estimate_is_right_within_a_factor_of_two(
    seconds: tuple[float, ...], slots: int, seeds: int
) -> None:
    """A simulated sweep of cells that take different times: from a fifth of its time on."""
    sweep = changed(
        axes={"precision": ["a", "b", "c"], "training": {"seed": list(range(seeds))},
              "optimizer": {"learning_rate": [1e-3, 1e-2, 1e-1]}},
        precision={"a": {}, "b": {}, "c": {}}, baseline="a",
    )  # fmt: skip
    means = dict(zip("abc", seconds, strict=True))
    waiting = sorted(expand(check(sweep), find_program()), key=_order)
    takes = {c.id: means[kind_of(c)] * (0.8 + int(c.id[:4], 16) / 0xFFFF * 0.4) for c in waiting}
    kinds, now = {cell.id: kind_of(cell) for cell in waiting}, 0.0
    estimate, running = Estimate(slots), dict[str, float]()  # since when
    said: list[tuple[float, float | None]] = []
    while waiting or running:
        while waiting and len(running) < slots:
            running[waiting.pop(0).id] = now
        first = min(running, key=lambda cell: running[cell] + takes[cell])
        end = running[first] + takes[first]
        while now < end:
            elapsed = [(kinds[cell], now - since) for cell, since in running.items()]
            said.append((now, estimate.seconds([kinds[c.id] for c in waiting], elapsed)))
            now = min(end, now + sum(takes.values()) / slots / 200)
        estimate.add(kinds[first], takes[first])
        del running[first]
    for at, left in said:
        if 0.2 * now <= at <= 0.9 * now:
            assert left is not None
            assert 0.5 <= left / (now - at) <= 2, (at, now)


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
