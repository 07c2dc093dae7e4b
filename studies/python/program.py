"""The program halfulp-cell: finding it, canonical specifications, running a cell with it."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import SweepError

PROGRAM = "halfulp-cell"
VARIABLE = "HALFULP_CELL"
DATA = "digits"  # `data_sha256` of halfulp-cell --version --json is that of these data
_GUARD = Path(__file__).with_name("guard.py")


def find_program() -> str:
    """The path of halfulp-cell: $HALFULP_CELL if set, else beside this Python, else on PATH.

    Raises FileNotFoundError with one sentence if it is nowhere.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if os.access(named, os.X_OK) and Path(named).is_file():
            return str(Path(named).absolute())
        raise FileNotFoundError(f"{VARIABLE} names '{named}', which is not a program")
    beside = Path(sys.executable).parent / PROGRAM
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(PROGRAM)
    if found is None:
        raise FileNotFoundError(
            f"the program {PROGRAM} is neither beside {sys.executable} nor on PATH: "
            f"build it with ./dev build, or name it in {VARIABLE}"
        )
    return found


def _json(specification: Mapping[str, Any], name: str) -> str:
    """The specification as one line of JSON, which has no NaN, infinity or foreign types."""

    def refuse(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, below in value.items():
                refuse(f"{path}.{key}" if path else str(key), below)
        elif isinstance(value, list | tuple):
            for below in value:
                refuse(path, below)
        elif (
            not isinstance(value, str | bool | int | float)
            or value in (math.inf, -math.inf)
            or value != value
        ):
            raise SweepError(
                f"{name}: {path} is {value!r}; give a text, a finite number, true or false"
            )

    refuse("", specification)
    return json.dumps(specification, ensure_ascii=False)


def canonicalise(
    program: str, specifications: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[str]:
    """The canonical JSON text of each specification (docs/cells.md), in one call of the program.

    Raises SweepError with the program's own sentence if it refuses one of them, called by its name.
    """
    lines = [_json(s, name) for s, name in zip(specifications, names, strict=True)]
    done = subprocess.run(
        [program, "--canonical"],
        input="".join(line + "\n" for line in lines),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0:
        said = sentence(done.stderr, done.returncode)
        line = re.match(r"line (\d+): ", said)
        if line and 1 <= int(line[1]) <= len(names):
            said = f"{names[int(line[1]) - 1]}: {said[line.end() :]}"
        raise SweepError(said)
    canonical = done.stdout.splitlines()
    if len(canonical) != len(lines):
        raise SweepError(
            f"{program} --canonical answered {len(canonical)} lines to {len(lines)}: "
            "it is not the halfulp-cell of this version; build it anew"
        )
    return canonical


@dataclass(frozen=True)
class Build:
    """What decides the bits of a cell besides its specification; None where it is not known.

    The program says the hash of the data called DATA; cells that train on others are not compared.
    """

    numerics: str | None  # a digest of the sources that decide bits
    data_sha256: str | None  # of the data that the program would read

    @classmethod
    def of(cls, record: Mapping[str, Any], data_name: str = DATA) -> "Build":
        """From the attributes of a cell's file, or from what the program says of itself."""
        numerics, data = (
            None if record.get(key) in (None, "", "unknown") else str(record[key])
            for key in ("numerics", "data_sha256")
        )
        return cls(numerics, data if data_name == DATA else None)

    def differs(self, other: "Build") -> bool:
        """Whether a cell of this build is not one of the `other`, as far as that one is known."""
        return (other.numerics is not None and self.numerics != other.numerics) or (
            None not in (self.data_sha256, other.data_sha256)
            and self.data_sha256 != other.data_sha256
        )


def build_of(program: str) -> Build:
    """The build of a program; all unknown if it is too old to say it."""
    try:
        done = subprocess.run(
            [program, "--version", "--json"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        said = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, ValueError):
        said = {}
    return Build.of(said if isinstance(said, dict) else {})


def sentence(stderr: str, code: int) -> str:
    """What a program said last on stderr, without its name; or how it ended, if it said nothing."""
    said = [line.strip() for line in stderr.splitlines() if line.strip()]
    if said:
        return said[-1].removeprefix(f"{PROGRAM}: ")
    if code < 0:
        return f"{PROGRAM} was ended by signal {-code}"
    return f"{PROGRAM} ended with exit code {code} and said nothing"


@dataclass(frozen=True)
class CellTask:
    """One cell to run. Plain values only, so that any executor can carry it to another process."""

    program: str
    canonical: str  # the specification, JSON text
    out: str  # DIR/cells/<sha256>.h5
    force: bool = False  # replace a finished file; it stays until the new one is complete

    @property
    def part(self) -> str:
        """The file's name while it is written; halfulp-cell renames it when it is complete."""
        return self.out + ".part"


@dataclass(frozen=True)
class CellRun:
    """How a task ended. `exit_code` 0: the finished file is there; else `message` says why not."""

    exit_code: int
    message: str
    seconds: float  # wall-clock time of the process; 0 if the file was there already
    ran: bool  # False: another sweep had finished the cell meanwhile, or this one was interrupted


class LocalCells:
    """The cells that threads of this process run now, so that an interrupt can end them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def open(self) -> None:
        """Lets cells start (again)."""
        with self._lock:
            self._stopped = False

    def start(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[str] | None":
        """Starts a process, or returns None after `stop`."""
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(command, **options)
            self._running.add(process)
            return process

    def ended(self, process: "subprocess.Popen[str]") -> None:
        with self._lock:
            self._running.discard(process)

    def stop(self) -> None:
        """Kills what runs and lets nothing more start."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()


LOCAL_CELLS = LocalCells()


def run_cell(task: CellTask) -> CellRun:
    """Runs one cell in a process of its own and waits for it: what executors are given.

    It never raises for a cell that fails. The process is killed with the thread that called this
    (guard.py), so a sweep that is killed leaves nobody behind writing files.
    """
    if Path(task.out).exists() and not task.force:
        return CellRun(0, "", 0.0, ran=False)
    cell = [task.program, "--spec", "-", "--out", task.part, "--json"]
    if task.force:
        cell.append("--force")
    started = time.monotonic()
    try:
        process = LOCAL_CELLS.start(
            [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *cell],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            process_group=0,  # Ctrl-C on the terminal is for the sweep, which then ends its cells
        )
    except OSError as error:
        return CellRun(3, f"{task.program} cannot be started: {error}", 0.0, ran=True)
    if process is None:
        return CellRun(130, "interrupted", 0.0, ran=False)
    try:
        _, stderr = process.communicate(task.canonical)
    finally:
        LOCAL_CELLS.ended(process)
    seconds = time.monotonic() - started
    code = process.returncode
    if code != 0:
        if Path(task.out).exists() and not task.force:  # somebody else finished it meanwhile
            return CellRun(0, "", 0.0, ran=False)
        return CellRun(code, sentence(stderr, code), seconds, ran=True)
    if not Path(task.out).exists():
        return CellRun(3, f"{PROGRAM} ended without leaving {task.out}", seconds, ran=True)
    return CellRun(0, "", seconds, ran=True)
