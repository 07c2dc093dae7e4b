"""Runs a sweep: every cell that is not finished yet, in processes of their own, resumably.

The one seam is `concurrent.futures.Executor`: anything with `submit` runs cells, one
`run_cell(task)` each (threads that wait for local processes by default; Dask's or mpi4py's
executors for many machines). The finished files are the only state.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from .cells import DIVERGED, build_of_cell, read_cell
from .errors import CorruptCellError, SweepError
from .folder import Folder
from .predict import predict
from .program import LOCAL_CELLS, Build, CellRun, CellTask, build_of, find_program, run_cell
from .progress import Display, Estimate, State, display
from .results import Sweep, open_sweep
from .spec import PlannedCell, expand, read_sweep
from .statistics import setting_of

__all__ = ["CellRun", "CellTask", "Sweep", "open_sweep", "run_cell", "run_sweep"]

_LOOK_EVERY = 1.0  # seconds between looks at what runs


def run_sweep(
    sweep: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    jobs: int | None = None,
    executor: Executor | None = None,
    shard: tuple[int, int] | None = None,
    fresh: bool = False,
    dry_run: bool = False,
    progress: bool = True,
) -> Sweep:
    """Runs what is missing of a sweep and returns it, `.failed` cells included.

    sweep: a TOML file, or a dict of the same shape (docs/cells.md).  out: its folder.
    jobs: cells at a time (default: the CPUs this process may use).
    executor: runs `run_cell` instead of `jobs` local threads; it is not shut down here.
    shard: (I, N), 1 <= I <= N: only every N-th cell, from the I-th; all N shards make the sweep.
    fresh: finished cells of another build of halfulp-cell, or of other data, are run again; without
    it they are kept, and `.warnings()` says so. Controls of another build are always run again.
    dry_run: starts nothing, writes nothing; `.prediction` of what is returned says time and disk.
    progress: shows progress on stderr. Failing cells are always reported there at once.

    Raises SweepError (a ValueError) for a specification that makes no sense or a folder that holds
    a different sweep, SweepBusyError (an OSError) if another sweep is at work in the folder,
    OSError if it cannot be written or halfulp-cell is not found. KeyboardInterrupt ends the running
    cells; what is finished stays, and the same call goes on from there.
    """
    jobs = _checked_jobs(jobs)
    spec = read_sweep(sweep)
    text = None if isinstance(sweep, Mapping) else Path(sweep).read_text(encoding="utf-8")
    program = find_program()
    plan = expand(spec, program)
    mine = plan if shard is None else _shard(plan, shard)
    folder, build = Folder(out), build_of(program)
    if dry_run:
        result = Sweep(spec, folder, plan, build)
        chosen = {cell.id for cell in mine}
        cells = [cell for cell in result.cells if cell.id in chosen]
        again = {c.id for c in result.of_another_build if fresh or c.control is not None}
        result.prediction = predict(cells, program, jobs, again)
        return result
    folder.create()
    with folder.locked(shard):
        folder.keep_sweep(spec, text)
        folder.write_index(plan)
        written = folder.remove_parts(None if shard is None else [cell.id for cell in mine])
        shown = display(progress)
        try:
            with _one_interrupt():
                runner = _Runner(folder, mine, jobs, shown, program, build, fresh)
                runner.run(executor, written)
        finally:
            shown.close()
    return Sweep(spec, folder, plan, build)


class _Runner:
    """One run over the cells of a plan: what is finished, what failed, what time is left."""

    def __init__(
        self,
        folder: Folder,
        plan: Sequence[PlannedCell],
        jobs: int,
        shown: Display,
        program: str,
        build: Build,
        fresh: bool,
    ) -> None:
        self.folder, self.plan, self.jobs, self.shown = folder, plan, jobs, shown
        self.program, self.build, self.fresh = program, build, fresh
        self.state, self.estimate = State(len(plan)), Estimate(jobs)
        self.again: set[str] = set()  # finished cells of another build that are run again
        self.futures: dict[Future[CellRun], PlannedCell] = {}

    def run(self, executor: Executor | None, written: Set[str]) -> None:
        """Runs what is missing, reporting each failure when it happens.

        `written`: the cells that a process writes already; they are waited for.
        """
        pending = [planned for planned in self.plan if not self._is_finished(planned)]
        pending.sort(key=_order)
        held = [planned for planned in pending if planned.id in written]
        for planned in held:
            part = self.folder.part(planned.id)
            self.shown.say(f"{planned.describe()} is being written by a cell that an earlier sweep "
                           f"has left; waiting for it ({part})")  # fmt: skip
        LOCAL_CELLS.open()
        pool = executor or ThreadPoolExecutor(self.jobs, thread_name_prefix="halfulp-cell")
        try:
            for planned in pending:
                if planned.id not in written:
                    self._submit(pool, planned)
            self._collect(pool, held)
        except BaseException as error:
            for future in self.futures:
                future.cancel()
            LOCAL_CELLS.stop()
            if isinstance(error, KeyboardInterrupt):
                left = "" if executor is None else " (cells that the executor has begun may go on)"
                raise KeyboardInterrupt(
                    f"interrupted{left}: {self.state.finished} of {self.state.total} cells are "
                    "finished; the same command goes on from there"
                ) from None
            raise
        finally:
            if executor is None:
                pool.shutdown(wait=True, cancel_futures=True)
                self.folder.remove_parts([planned.id for planned in pending])

    def _submit(self, pool: Executor, planned: PlannedCell) -> Future[CellRun]:
        out = str(self.folder.cell(planned.id).absolute())
        task = CellTask(self.program, planned.canonical, out, planned.id in self.again)
        future = pool.submit(run_cell, task)
        self.futures[future] = planned
        return future

    def _collect(self, pool: Executor, held: list[PlannedCell]) -> None:
        """Waits for all futures and records each as it ends; runs what is held when it is free."""
        waiting = set(self.futures)
        self.shown.show(self.state)
        while waiting or held:
            if not waiting:
                time.sleep(_LOOK_EVERY)
            done, waiting = wait(waiting, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
            for future in done:
                self._record(self.futures[future], _result(future))
            for planned in [p for p in held if not self.folder.is_written(p.id)]:
                held.remove(planned)
                self.folder.remove_parts([planned.id])
                if not self._is_finished(planned):
                    waiting.add(self._submit(pool, planned))
            left = [_setting(self.futures[f]) for f in waiting] + [_setting(p) for p in held]
            self.state.left = self.estimate.seconds(left)
            self.shown.show(self.state)

    def _is_finished(self, planned: PlannedCell) -> bool:
        """Whether the cell's file is there and whole, and need not be run again.

        A corrupt one is named and moved aside.
        """
        path = self.folder.cell(planned.id)
        try:
            attributes = read_cell(path).attributes
        except FileNotFoundError:
            return False
        except CorruptCellError as error:
            aside = self.folder.set_aside(planned.id)
            self.shown.say(f"corrupt: {error}; moved to {aside.name}, the cell is run again")
            return False
        made_by = build_of_cell(attributes, planned.specification)
        if made_by.differs(self.build) and (self.fresh or planned.control is not None):
            self.again.add(planned.id)
            return False
        self.folder.forget_failure(planned.id)
        self._count(planned, attributes, float(attributes.get("wall_seconds", 0.0)))
        return True

    def _record(self, planned: PlannedCell, run: CellRun) -> None:
        """Counts a cell that ended, or notes and reports why it failed."""
        if run.exit_code == 0:
            try:
                attributes = read_cell(self.folder.cell(planned.id)).attributes
            except (CorruptCellError, FileNotFoundError) as error:
                run = CellRun(3, str(error), run.seconds, run.ran)
            else:
                self.folder.forget_failure(planned.id)
                self._count(planned, attributes, run.seconds if run.ran else None)
                return
        self.state.failed += 1
        self.folder.note_failure(planned, run.exit_code, run.message)
        self.shown.say(f"failed: {planned.describe()}: {run.message}")

    def _count(
        self, planned: PlannedCell, attributes: Mapping[str, Any], seconds: float | None
    ) -> None:
        self.state.finished += 1
        self.state.diverged += attributes["outcome"] == DIVERGED
        if seconds is not None:
            self.estimate.add(_setting(planned), seconds, typical=planned.control is None)


@contextmanager
def _one_interrupt() -> Iterator[None]:
    """Only the first Ctrl-C raises KeyboardInterrupt: a second one must not end the clean-up."""
    usual = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or usual is not signal.default_int_handler:
        yield
        return

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def available_cpus() -> int:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _result(future: Future[CellRun]) -> CellRun:
    """What `run_cell` returned; an executor that lost the task counts as a failed cell."""
    try:
        return future.result()
    except Exception as error:
        return CellRun(3, f"the executor failed: {type(error).__name__}: {error}", 0.0, ran=True)


def _setting(planned: PlannedCell) -> str:
    """Cells of one setting take about as long; a control is a setting of its own."""
    if planned.control is not None:
        return f"control {planned.control}"
    return setting_of(planned.parameters)


def _order(planned: PlannedCell) -> tuple[bool, int]:
    """Controls first, then one whole seed after the other: an ended sweep still compares."""
    return planned.control is None, int(planned.specification["training"]["seed"])


def _shard(plan: Sequence[PlannedCell], shard: tuple[int, int]) -> list[PlannedCell]:
    number, shards = shard
    if not 1 <= number <= shards:
        raise SweepError(f"shard {number}/{shards} does not exist; I/N takes 1 <= I <= N")
    return list(plan[number - 1 :: shards])


def _checked_jobs(jobs: int | None) -> int:
    if jobs is None:
        return available_cpus()
    if jobs < 1:
        raise SweepError(f"jobs is {jobs}; at least 1 cell runs at a time")
    return jobs
