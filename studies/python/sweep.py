"""Runs a sweep: every cell that is not finished yet, in processes of their own, resumably.

The one seam is `concurrent.futures.Executor`: anything with `submit` runs cells, one
`run_cell(task)` each (executors.py). The finished files are the only state. Several sweeps of one
folder share the work: halfulp-cell's lock on the part of a cell is the claim on it, and what one
sweep finds claimed by another it waits for.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import closing
from pathlib import Path
from typing import Any

from .cells import DIVERGED, build_of_cell, read_cell
from .errors import CorruptCellError, SweepError
from .executors import Workers, workers
from .folder import Folder, Identity, Listing, identity_of, is_locked
from .predict import kind_of, predict
from .process import GRACE, LOCAL_CELLS, CellRun, CellTask, raising, run_cell
from .program import Build, build_of, find_program
from .progress import Display, Estimate, State, display
from .results import Sweep, open_sweep
from .spec import PlannedCell, expand, read_sweep

__all__ = ["CellRun", "CellTask", "Sweep", "open_sweep", "run_cell", "run_sweep"]

_LOOK_EVERY = 1.0  # seconds between looks at what runs
_LOSSES = 2  # so often a cell that the executor lost is tried again
_LOOKING = 0.02  # the share of the time that looks at the folder may take


def run_sweep(
    sweep: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    jobs: int | None = None,
    executor: Executor | str | None = None,
    shard: tuple[int, int] | None = None,
    cell_limit: float | None = None,
    fresh: bool = False,
    dry_run: bool = False,
    progress: bool = True,
) -> Sweep:
    """Runs what is missing of a sweep and returns it, `.failed` and `.stopped` cells included.

    sweep: a TOML file, or a dict of the same shape (docs/cells.md).  out: its folder, in which any
    number of sweeps may be at work.
    jobs: cells at a time (default: the CPUs this process may use).
    executor: "local" (default), "dask", "dask:ADDRESS", "mpi", or an Executor, which runs
    `run_cell` and is not shut down here.
    shard: (I, N), 1 <= I <= N: only every N-th cell, from the I-th; all N shards make the sweep.
    cell_limit: seconds; a cell that takes longer is ended, its checkpoint written, and has failed.
    fresh: finished cells of another build of halfulp-cell, or of other data, are run again; without
    it they are kept, and `.warnings()` says so. Controls of another build are always run again.
    dry_run: starts nothing, writes nothing; `.prediction` of what is returned says time and disk.
    progress: shows progress on stderr. Failing cells are always reported there at once.

    Raises SweepError (a ValueError) for a specification that makes no sense or a folder that holds
    a different sweep, OSError if the folder cannot be written or locked or halfulp-cell is not
    found, ImportError if the executor's package is missing. KeyboardInterrupt ends the running
    cells, which write their checkpoints; what is finished stays, and the same call goes on from
    there. So does SIGTERM, as SweepTerminated (a KeyboardInterrupt), unless somebody handles it.
    """
    jobs, cell_limit = _checked_jobs(jobs), _checked_limit(cell_limit)
    opened = workers(executor, jobs)
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
    with raising(signal.SIGINT, signal.SIGTERM), folder.at_work():
        folder.keep_sweep(spec, text)
        folder.write_index(plan)
        folder.remove_parts()
        with closing(display(progress)) as shown, opened as crew:
            runner = _Runner(folder, mine, crew, shown, program, build, fresh, cell_limit)
            runner.run()
    result = Sweep(spec, folder, plan, build)
    result.stopped = [cell for cell in result.cells if cell.id in runner.stopped]
    return result


class _Runner:
    """One run over the cells of a plan: what is finished, what failed, what time is left."""

    def __init__(
        self,
        folder: Folder,
        plan: Sequence[PlannedCell],
        crew: Workers,
        shown: Display,
        program: str,
        build: Build,
        fresh: bool,
        limit: float | None,
    ) -> None:
        self.folder, self.plan, self.crew, self.shown = folder, plan, crew, shown
        self.program, self.build, self.fresh, self.limit = program, build, fresh, limit
        self.state, self.estimate = State(len(plan)), Estimate(crew.slots)
        self.settings = {planned.id: kind_of(planned) for planned in plan}
        self.again: dict[str, Identity] = {}  # finished files that are to be replaced
        self.held: list[PlannedCell] = []  # other processes write them
        self.losses = Counter[str]()  # how often the executor lost a cell
        self.stopped: set[str] = set()
        self.futures: dict[Future[CellRun], PlannedCell] = {}
        self.watch = _Watch(folder)

    def run(self) -> None:
        """Runs what is missing, reporting each failure when it happens."""
        LOCAL_CELLS.open()
        seen = self.folder.look()
        for identity in seen.saved & seen.finished & self.settings.keys():
            self.folder.remove_checkpoint(identity)
        pending = [planned for planned in self.plan if not self._is_finished(planned)]
        pending.sort(key=_order)
        try:
            for planned in pending:
                self._submit(planned)
            self._collect()
        except BaseException as error:
            self._end()
            if isinstance(error, KeyboardInterrupt):
                raise type(error)(self._farewell(error)) from None
            raise
        finally:
            self.folder.remove_parts([planned.id for planned in pending])

    def _submit(self, planned: PlannedCell) -> None:
        out, replaces = self.folder.cell(planned.id).absolute(), self.again.get(planned.id)
        task = CellTask(self.program, planned.canonical, str(out), replaces, self.limit)
        self.futures[self.crew.pool.submit(run_cell, task)] = planned

    def _collect(self) -> None:
        """Waits for all futures and records each as it ends; runs what is held when it is free."""
        said = False
        while self.futures or self.held:
            self._show()
            if not self.futures:
                if not said:
                    self.shown.say(f"waiting for {len(self.held)} cells that others write")
                    said = True
                time.sleep(_LOOK_EVERY)
            done, _ = wait(self.futures, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
            for future in done:
                self._take(self.futures.pop(future), future)
            held, self.held = self.held, []
            for planned in held:
                if is_locked(self.folder.part(planned.id)):
                    self.held.append(planned)
                elif not self._is_finished(planned):
                    self._submit(planned)
        self._show()

    def _show(self) -> None:
        seen = self.watch.look()
        left = [p.id for p in (*self.futures.values(), *self.held)]
        left = [i for i in left if i not in seen.finished or i in self.again]
        running = {i: self.watch.seconds(i) for i in left if i in seen.written}
        self.state.left = self.estimate.seconds(
            [self.settings[i] for i in left if i not in running],
            [(self.settings[i], seconds) for i, seconds in running.items()],
        )
        self.shown.show(self.state)

    def _end(self) -> None:
        """Ends the cells that run, so that they write their checkpoints; nothing more starts."""
        for future in self.futures:
            future.cancel()
        self.shown.say(f"ending the running cells, which takes {GRACE:g} s at most")
        if self.crew.end is not None:
            self.crew.end(str(self.folder.cells.absolute()))
        LOCAL_CELLS.stop()

    def _farewell(self, interrupt: KeyboardInterrupt) -> str:
        name = "interrupted" if type(interrupt) is KeyboardInterrupt else "ended by SIGTERM"
        on = "" if self.crew.end else " (cells that the executor has begun may go on)"
        seen = self.folder.look()  # a cell may have been finished while it was being ended
        finished, begun = seen.finished & self.settings.keys(), seen.begun & self.settings.keys()
        return (
            f"{name}{on}: {len(finished)} of {self.state.total} cells are finished, "
            f"{len(begun)} are begun; the same command goes on from there"
        )

    def _is_finished(self, planned: PlannedCell) -> bool:
        """Whether the cell's file is there and whole, and need not be run again.

        A corrupt one is named and moved aside.
        """
        path = self.folder.cell(planned.id)
        file = identity_of(path)  # looked at first: what is read is this file, or a newer one
        try:
            attributes = read_cell(path).attributes
        except FileNotFoundError:
            return False
        except CorruptCellError as error:
            self._set_aside(planned, file, error)
            return False
        made_by = build_of_cell(attributes, planned.specification)
        if made_by.differs(self.build) and (self.fresh or planned.control is not None):
            if file is not None:
                self.again[planned.id] = file
            return False
        self._count(planned, attributes, float(attributes.get("wall_seconds", 0.0)))
        return True

    def _set_aside(
        self, planned: PlannedCell, file: Identity | None, error: CorruptCellError
    ) -> None:
        aside = None if file is None else self.folder.set_aside(planned.id, file)
        if aside is not None:
            self.shown.say(f"corrupt: {error}; moved to {aside.name}, the cell is run again")
        elif file is not None:  # another sweep sees to it
            self.again[planned.id] = file

    def _take(self, planned: PlannedCell, future: Future[CellRun]) -> None:
        """Records what `run_cell` returned.

        An executor that lost it has perhaps not lost the cell (Dask forgets the result of a worker
        that is killed just then): the file decides, and the cell is tried again some times.
        """
        try:
            run = future.result()
        except Exception as error:
            if self._is_finished(planned):
                return
            self.losses[planned.id] += 1
            if self.losses[planned.id] <= _LOSSES and not isinstance(error, BrokenExecutor):
                self.held.append(planned)
                return
            said = f"the executor failed: {type(error).__name__}: {' '.join(str(error).split())}"
            run = CellRun(3, said, 0.0, ran=True)
        self._record(planned, run)

    def _record(self, planned: PlannedCell, run: CellRun) -> None:
        """Counts a cell that ended, or notes and reports why it failed."""
        if run.exit_code == 0:
            try:
                attributes = read_cell(self.folder.cell(planned.id)).attributes
            except (CorruptCellError, FileNotFoundError) as error:
                run = CellRun(3, str(error), run.seconds, run.ran)
            else:
                seconds = run.seconds if run.ran else float(attributes.get("wall_seconds", 0.0))
                self._count(planned, attributes, seconds)
                return
        if run.held:
            self.held.append(planned)
        elif run.stopped:  # not by us, or _collect would have ended
            self.stopped.add(planned.id)
            self.state.stopped += 1
            self.shown.say(f"stopped: {planned.describe()}: {run.message}")
        else:
            self.state.failed += 1
            self.folder.note_failure(planned, run.exit_code, run.message)
            self.shown.say(f"failed: {planned.describe()}: {run.message}")

    def _count(self, planned: PlannedCell, attributes: Mapping[str, Any], seconds: float) -> None:
        self.folder.forget_failure(planned.id)
        self.again.pop(planned.id, None)
        self.state.finished += 1
        self.state.diverged += attributes["outcome"] == DIVERGED
        self.estimate.add(self.settings[planned.id], seconds, typical=planned.control is None)


class _Watch:
    """Looks at a folder from time to time: what others finish, and since when cells are written."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._seen = Listing()
        self._since: dict[str, float] = {}  # a cell that is written -> when that was first seen
        self._next = 0.0

    def look(self) -> Listing:
        """The folder's cells, as of now or a short time ago: a large folder takes time to read."""
        now = time.monotonic()
        if now >= self._next:
            self._seen = self._folder.look()
            self._since = {cell: self._since.get(cell, now) for cell in self._seen.written}
            took = time.monotonic() - now
            self._next = now + max(_LOOK_EVERY / 2, took / _LOOKING)
        return self._seen

    def seconds(self, cell: str) -> float:
        """For how long a cell has been written."""
        return time.monotonic() - self._since.get(cell, time.monotonic())


def available_cpus() -> int:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _order(planned: PlannedCell) -> tuple[bool, int, float]:
    """Controls first, then one whole seed after the other: an ended sweep still compares.

    Within a seed one rate after the other, so that soon a cell of every setting was timed.
    """
    specification = planned.specification
    rate = float(specification["optimizer"]["learning_rate"])
    return planned.control is None, int(specification["training"]["seed"]), rate


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


def _checked_limit(limit: float | None) -> float | None:
    if limit is not None and not 0 < limit < float("inf"):
        raise SweepError(f"cell_limit is {limit}; it is a finite number of seconds above 0")
    return limit
