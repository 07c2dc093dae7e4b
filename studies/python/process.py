"""Runs a cell in a process of its own: what executors are given, and how cells are ended.

halfulp-cell ends with 0 when the file is complete, with 4 when another process writes it, and with
75 when SIGTERM stopped it, its checkpoint (`.h5.resume`) written: docs/cells.md.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from .errors import SweepTerminated
from .folder import Identity, identity_of, is_locked
from .program import PROGRAM, sentence

GRACE = 10.0  # seconds that a cell has between SIGTERM and SIGKILL to write its checkpoint
HELD, STOPPED = 4, 75  # exit codes of halfulp-cell
LIMIT = 124  # of a CellRun that took too long, as with timeout(1)
_GUARD = Path(__file__).with_name("guard.py")

Process = subprocess.Popen[str]


@dataclass(frozen=True)
class CellTask:
    """One cell to run. Plain values only, so that any executor can carry it to another process."""

    program: str
    canonical: str  # the specification, JSON text
    out: str  # DIR/cells/<sha256>.h5
    replaces: Identity | None = None  # a finished file to replace; it stays until then
    limit: float | None = None  # seconds that the process may take

    @property
    def part(self) -> str:
        """The file's name while it is written; halfulp-cell renames it when it is complete."""
        return self.out + ".part"

    def is_finished(self) -> bool:
        """Whether a file is there, and not the one that is to be replaced."""
        found = identity_of(self.out)
        return found is not None and found != self.replaces


@dataclass(frozen=True)
class CellRun:
    """How a task ended. `exit_code` 0: the finished file is there; else `message` says why not."""

    exit_code: int
    message: str
    seconds: float  # wall-clock time of the process; 0 if there was none
    ran: bool  # False: another sweep finished or holds the cell, or this one was interrupted

    @property
    def held(self) -> bool:
        """Another process writes this cell."""
        return self.exit_code == HELD

    @property
    def stopped(self) -> bool:
        """A signal stopped it before it was complete; what it has begun can go on."""
        return self.exit_code in (STOPPED, -signal.SIGTERM, -signal.SIGINT)


class LocalCells:
    """The cells that threads of this process run now, so that an interrupt can end them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: dict[Process, str] = {}  # and the file that it makes
        self._stopped = False

    def open(self) -> None:
        """Lets cells start (again)."""
        with self._changed:
            self._stopped = False

    def start(self, out: str, command: Sequence[str], **options: Any) -> Process | None:
        """Starts a process, or returns None after `stop`."""
        with self._changed:
            if self._stopped:
                return None
            process: Process = subprocess.Popen(command, **options)
            self._running[process] = out
            return process

    def ended(self, process: Process) -> None:
        with self._changed:
            self._running.pop(process, None)
            self._changed.notify_all()

    def stop(self) -> None:
        """Ends what runs and lets nothing more start."""
        with self._changed:
            self._stopped = True
        self.end_below("")

    def end_below(self, folder: str) -> None:
        """Ends the cells whose files begin with `folder`, and waits for it: GRACE at most.

        Other threads wait for these processes, so they are gone when this returns.
        """

        def mine() -> list[Process]:
            return [process for process, out in self._running.items() if out.startswith(folder)]

        with self._changed:
            for process in mine():
                process.terminate()
            if not self._changed.wait_for(lambda: not mine(), GRACE):
                for process in mine():
                    process.kill()


LOCAL_CELLS = LocalCells()


def run_cell(task: CellTask) -> CellRun:
    """Runs one cell in a process of its own and waits for it: what executors are given.

    It never raises for a cell that fails. The process is killed with the thread that called this
    (guard.py), so a sweep that is killed leaves nobody behind writing files.
    """
    if task.is_finished():
        return CellRun(0, "", 0.0, ran=False)
    # No claim, only a look that spares a process: the claim is halfulp-cell's own lock. A file that
    # is to be replaced can be replaced twice only if another process does so, from lock to rename,
    # while ours starts.
    if is_locked(task.part):
        return CellRun(HELD, f"{task.part} is being written by another process", 0.0, ran=False)
    started = time.monotonic()
    try:
        process = LOCAL_CELLS.start(
            task.out,
            [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *_command(task)],
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
        return CellRun(STOPPED, "interrupted", 0.0, ran=False)
    try:
        stderr, limited = _wait(process, task)
    finally:
        LOCAL_CELLS.ended(process)
    return _judge(task, process.returncode, stderr, limited, time.monotonic() - started)


def _command(task: CellTask) -> list[str]:
    force = [] if task.replaces is None else ["--force"]
    return [task.program, "--spec", "-", "--out", task.part, "--json", *force]


def _wait(process: Process, task: CellTask) -> tuple[str, bool]:
    """What the process says on stderr, and whether it was ended since its time was over.

    Executors that run tasks in the main thread of a process (mpi4py's) can be told to end by
    SIGTERM: their cell is then stopped like any other.
    """
    try:
        with raising(signal.SIGTERM):
            return process.communicate(task.canonical, timeout=task.limit)[1], False
    except subprocess.TimeoutExpired:
        return _end(process), True
    except SweepTerminated:
        return _end(process), False
    except BaseException:
        _end(process)
        raise


def _end(process: Process) -> str:
    """Ends a process, with SIGKILL if SIGTERM does not do it; returns what it says on stderr."""
    process.terminate()
    try:
        return process.communicate(timeout=GRACE)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[1]


def _judge(task: CellTask, code: int, stderr: str, limited: bool, seconds: float) -> CellRun:
    if task.is_finished():
        return CellRun(0, "", seconds if code == 0 else 0.0, ran=code == 0)
    if code == 0:
        return CellRun(3, f"{PROGRAM} ended without leaving {task.out}", seconds, ran=True)
    if limited:
        saved = Path(f"{task.out}.resume").exists()
        then = "goes on from its checkpoint" if saved else "is needed; it left no checkpoint"
        said = f"it took longer than the limit of {task.limit:g} s for a cell; a larger one {then}"
        return CellRun(LIMIT, said, seconds, ran=True)
    return CellRun(code, sentence(stderr, code), seconds, ran=True)


# ---------------------------------------------------------------- signals
@contextmanager
def raising(*numbers: signal.Signals) -> Iterator[None]:
    """The first of these signals raises: SIGINT KeyboardInterrupt, SIGTERM SweepTerminated.

    Further ones are ignored, as they must not end the clean-up. Signals that somebody handles or
    ignores are left alone, and so are all of them outside the main thread.
    """
    usual = {number: signal.getsignal(number) for number in numbers}
    mine = [n for n, handler in usual.items() if handler in _DEFAULT]
    if threading.current_thread() is not threading.main_thread():
        mine = []

    def first(number: int, frame: FrameType | None) -> None:
        for each in mine:
            signal.signal(each, signal.SIG_IGN)
        raise SweepTerminated if number == signal.SIGTERM else KeyboardInterrupt

    try:
        for number in mine:
            signal.signal(number, first)
        yield
    finally:
        for number in mine:
            signal.signal(number, usual[number])


_DEFAULT: tuple[signal.Handlers | Callable[[int, FrameType | None], Any], ...] = (
    signal.SIG_DFL,
    signal.default_int_handler,
)
