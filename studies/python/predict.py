"""Predicts time and disk of a sweep without starting it."""

import json
import tempfile
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .cells import Cell, read_cell
from .errors import SweepError
from .process import LOCAL_CELLS, CellTask, run_cell
from .progress import Estimate, duration
from .spec import PlannedCell, Tree, cell_id
from .statistics import setting_of

PROBE_STEPS = 20
_BYTES_PER_STEP = 24  # train_loss, gradient_norm, learning_rate: one float64 each


@dataclass(frozen=True)
class Prediction:
    """What a sweep would still take. `measured`: how many settings were timed by a short probe."""

    cells: int
    finished: int
    to_run: int
    seconds: float
    bytes: int
    jobs: int
    measured: int

    def __str__(self) -> str:
        probes = (
            f" (timed by {self.measured} probes of at most {PROBE_STEPS} steps)"
            if self.measured
            else ""
        )
        return (
            f"{self.cells} cells, {self.finished} finished, {self.to_run} to run: about "
            f"{duration(self.seconds)} with {self.jobs} at a time and {_size(self.bytes)}{probes}"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def predict(
    cells: Sequence[Cell], program: str, jobs: int, again: Set[str] = frozenset()
) -> Prediction:
    """Time and disk for the cells that are not finished, and for those that are run `again`.

    A setting of which cells are finished is predicted from those; else one of its cells is run for
    PROBE_STEPS steps in a temporary folder, `jobs` such probes at a time, as the sweep's cells will
    run. Raises SweepError if such a probe fails.
    """
    known: dict[str, tuple[float, int]] = {}
    for cell in cells:
        if cell.finished:
            seconds = float(cell.attributes.get("wall_seconds", 0.0))
            known[kind_of(cell)] = (seconds, cell.path.stat().st_size)
    waiting = [cell for cell in cells if not cell.finished or cell.id in again]
    unknown = {kind_of(cell): cell for cell in reversed(waiting) if kind_of(cell) not in known}
    known.update(zip(unknown, _probes(list(unknown.values()), program, jobs), strict=True))
    estimate = Estimate(jobs)
    for kind, (seconds, _) in known.items():
        estimate.add(kind, seconds)
    left = estimate.seconds([kind_of(cell) for cell in waiting]) or 0.0
    size = sum(known[kind_of(cell)][1] for cell in waiting)
    done = len(cells) - len(waiting)
    return Prediction(len(cells), done, len(waiting), left, size, jobs, len(unknown))


def _probes(cells: Sequence[Cell], program: str, jobs: int) -> list[tuple[float, int]]:
    """(seconds, bytes) of each cell; several at a time, since they share caches and clock."""
    LOCAL_CELLS.open()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            return list(pool.map(lambda cell: _probe(cell, program), cells))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            LOCAL_CELLS.stop()
            raise


def kind_of(cell: Cell | PlannedCell) -> str:
    """Cells of one setting take about as long; a control is a setting of its own."""
    if cell.control is not None:
        return f"control {cell.control}"
    return setting_of(cell.parameters)


def _probe(cell: Cell, program: str) -> tuple[float, int]:
    """(seconds, bytes) of a cell, from its first steps."""
    specification: Tree = json.loads(json.dumps(cell.specification))
    steps = int(specification["training"]["steps"])
    specification["training"]["steps"] = short = min(steps, PROBE_STEPS)
    text = json.dumps(specification, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    with tempfile.TemporaryDirectory(prefix="halfulp-probe-") as folder:
        path = Path(folder) / f"{cell_id(text)}.h5"
        run = run_cell(CellTask(program, text, str(path)))
        if run.exit_code != 0:
            raise SweepError(f"the probe of {cell.describe()} failed: {run.message}")
        size = path.stat().st_size + _BYTES_PER_STEP * (steps - short)
        training = float(_wall_seconds(path, run.seconds))
    return max(0.0, run.seconds - training) + training * steps / max(1, short), size


def _wall_seconds(path: Path, otherwise: float) -> float:
    """The time that the cell itself measured, without starting and reading data."""
    try:
        return float(read_cell(path).attributes["wall_seconds"])
    except (OSError, KeyError):
        return otherwise


def _size(count: int) -> str:
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, max(0, len(str(count)) - 1) // 3)
    return f"{count / 1000**power:.3g} {units[power]}"
