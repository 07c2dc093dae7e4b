"""A small sweep whose cells fake_cell.py makes, and how tests start, watch and count it."""

import copy
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import fake_cell

from halfulp.studies.folder import Folder
from halfulp.studies.program import find_program
from halfulp.studies.spec import expand, read_sweep

HERE = Path(__file__).parent
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


def undisturbed(spec: Path, out: Path) -> Path:
    """The folder that a sweep leaves which nothing disturbs, made without its processes."""
    sweep, folder = read_sweep(spec), Folder(out)
    plan = expand(sweep, find_program())
    folder.create()
    folder.keep_sweep(sweep, spec.read_text())
    folder.write_index(plan)
    for cell in plan:
        fake_cell.write(cell.specification, cell.canonical, folder.cell(cell.id), time.time())
    return out


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command line and returns its exit code and output."""
    line = [sys.executable, "-m", "halfulp.cli", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


def start(spec: Path, out: Path, *options: object) -> "subprocess.Popen[str]":
    """A sweep in the background, in a process group of its own; it speaks to OUT.stderr."""
    line = [sys.executable, "-m", "halfulp.cli", "sweep", spec, "--out", out, "--jobs=2", *options]
    with out.with_suffix(".stderr").open("a") as said:
        # A shell's background jobs ignore SIGINT, and children inherit that: the tests need it.
        inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(
                [*map(str, line)],
                stdout=subprocess.DEVNULL,
                stderr=said,
                text=True,
                process_group=0,
            )
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
    for line in log.read_text().splitlines() if log.exists() else []:
        status = Path(f"/proc/{line.split()[2]}/stat")
        try:
            if status.read_text().rpartition(")")[2].split()[0] != "Z":
                running.append(int(line.split()[2]))
        except OSError:
            pass
    return running
