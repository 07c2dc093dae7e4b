"""A sweep as results: its cells, table, figures and report, read from its folder."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import controls as _controls
from . import metrics as _metrics
from . import table as _table
from .cells import COMPLETED, DIVERGED, FAILED, Cell
from .errors import SweepError
from .folder import Folder, Listing
from .predict import Prediction, kind_of
from .program import Build, build_of, find_program
from .progress import Estimate
from .spec import PlannedCell, SweepSpec, expand, read_sweep
from .statistics import Grid, Plan, Run, Summary, grid, run_of, setting_of, summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_UNKNOWN = Build()


class Sweep:
    """A sweep and what is finished of it. Files are read when first asked for."""

    def __init__(
        self,
        spec: SweepSpec,
        folder: Folder,
        plan: Sequence[PlannedCell],
        build: Build = _UNKNOWN,
    ) -> None:
        self.spec = spec
        self.folder = folder
        self.build = build  # of the present halfulp-cell, as far as it is known
        self.prediction: Prediction | None = None  # of a dry run
        self.stopped: list[Cell] = []  # cells that somebody else's signal stopped in this run
        self.cells = [Cell.of(p, folder.cell(p.id), folder.failure(p.id)) for p in plan]

    @property
    def grid(self) -> list[Cell]:
        """The cells of the axes, without the controls."""
        return [cell for cell in self.cells if cell.control is None]

    @property
    def failed(self) -> list[Cell]:
        """The cells that failed at the last attempt; each has `.failure`."""
        return [cell for cell in self.cells if cell.outcome == FAILED]

    def counts(self) -> dict[str, int]:
        """How many cells are completed, diverged, failed, corrupt, missing."""
        found = dict.fromkeys((COMPLETED, DIVERGED, FAILED, "corrupt", "missing"), 0)
        for cell in self.cells:
            found[cell.outcome] += 1
        return found

    @property
    def of_another_build(self) -> list[Cell]:
        """Finished cells that another build of halfulp-cell made, or the same from other data."""
        return [cell for cell in self.cells if cell.finished and cell.build.differs(self.build)]

    def warnings(self) -> list[str]:
        """What must be known before any number is believed; a sentence each."""
        finished = sum(cell.finished for cell in self.cells)
        lines = []
        if finished < len(self.cells):
            lines.append(f"PROVISIONAL: {finished} of {len(self.cells)} cells are finished.")
        return lines + self.build_warnings()

    def build_warnings(self) -> list[str]:
        """A sentence if cells were made by another build or from other data than the present."""
        return _about_builds(self.cells, self.build)

    @cached_property
    def plan(self) -> Plan:
        """The learning rates and seeds of the grid, finished or not."""
        rates = {cell.learning_rate for cell in self.grid}
        return Plan(sorted(rates), sorted({cell.seed for cell in self.grid}))

    @cached_property
    def runs(self) -> list[Run]:
        """One record per finished cell of the grid: what the statistics are made from."""
        return [run_of(cell, self.spec.baseline) for cell in self.grid if cell.finished]

    @cached_property
    def settings(self) -> list[tuple[str, str]]:
        """(setting, its baseline) in the order of the axes: the rows of the table."""
        pairs = {
            setting_of(c.parameters): setting_of(c.parameters, self.spec.baseline)
            for c in self.grid
        }
        return list(pairs.items())

    @cached_property
    def summaries(self) -> list[Summary]:
        """One row per setting; see statistics.py."""
        return summarise(self.runs, self.settings, self.plan)

    def cells_of(self, setting: str) -> list[Cell]:
        """The finished cells of one setting."""
        return [c for c in self.grid if c.finished and setting_of(c.parameters) == setting]

    def grid_of(self, setting: str) -> Grid:
        """The runs of one setting by (learning rate, seed)."""
        return grid(self.runs, setting)

    def loss_of(self, row: Summary) -> _metrics.Spread | None:
        """Held-out loss of a row's setting at its best rate; see metrics.py."""
        return _metrics.loss_at_best(row, self.grid_of(row.setting), self.plan)

    def baselines_of(self, setting: str) -> dict[str, float]:
        """Name -> loss in nats of the models of the data; empty for data without such models."""
        return _metrics.baselines(self.cells_of(setting))

    @cached_property
    def details(self) -> list[_metrics.Details]:
        """What stands beside each summary: spikes, shares by role, speed; see metrics.py."""
        return [
            _metrics.details(self.loss_of(row), row.setting, self.cells_of(row.setting))
            for row in self.summaries
        ]

    def check_controls(self) -> list[_controls.Check]:
        """The outcome of every control; see controls.py."""
        return _controls.check_controls(self)

    def table(self) -> _table.Table:
        """The main table: `print` it, or take `.rows`, `.to_csv()`, `.to_latex()`, `.to_json()`.

        CSV, JSON and `.full_rows` also have the columns of `.details`, made when asked for.
        """
        return _table.Table(
            title=self.spec.name,
            rows=[_table.row_of(summary, self.plan) for summary in self.summaries],
            warnings=self.warnings(),
            notes=[*self._beaten(), *_table.notes(self.summaries, self.plan)],
            checks=self.check_controls(),
            details=lambda: [_table.columns_of(each) for each in self.details],
        )

    def _beaten(self) -> list[str]:
        """A sentence for each model of the data, of every row that is a baseline."""
        return [
            _table.beaten_note(name, loss, row, self.loss_of(row))
            for row in self.summaries
            if row.setting == row.baseline
            for name, loss in self.baselines_of(row.setting).items()
        ]

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Loss curves and learning-rate sensitivity side by side; `path`: also written there."""
        from . import figures

        figure = figures.overview(self)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def report(self, path: str | Path | None = None) -> Path:
        """Writes the report, one HTML file (DIR/report.html), and its figures to DIR/report/."""
        from . import report

        return report.write_report(self, None if path is None else Path(path))

    def page(self, path: str | Path, command: str | None = None) -> Path:
        """Writes a Markdown page of the sweep and its figure beside it; see page.py."""
        from . import page

        return page.write_page(self, path, *([] if command is None else [command]))

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {word}" for word, n in self.counts().items() if n)
        return f"Sweep('{self.spec.name}', {counts})"


def open_sweep(directory: str | Path) -> Sweep:
    """Opens the folder of a sweep, finished or not, changing nothing.

    Raises FileNotFoundError if no sweep was ever started there, SweepError if its sweep.toml was
    damaged.
    """
    folder = Folder(directory)
    if not folder.sweep.is_file():
        raise FileNotFoundError(
            f"{folder.root} holds no sweep (no sweep.toml); start one with "
            f"halfulp sweep SPEC.toml --out {folder.root}"
        )
    spec = read_sweep(folder.sweep)
    plan = folder.read_index()
    if plan is None:
        plan = expand(spec, find_program())
    names = {cell.control for cell in plan}
    for control in spec.controls:
        if control.name not in names:
            raise SweepError(f"{folder.index} does not fit {folder.sweep}; remove it")
    return Sweep(spec, folder, plan, _present_build())


def _present_build() -> Build:
    """The build of halfulp-cell that is installed; all unknown without one."""
    try:
        return build_of(find_program())
    except FileNotFoundError:
        return _UNKNOWN


def _about_builds(cells: Sequence[Cell], present: Build) -> list[str]:
    """One sentence if cells were made by another build or from other data than the present ones.

    Where the present build is not known, the cells are compared with each other.
    """
    builds = [cell.build for cell in cells if cell.finished]
    numerics = Counter(build.numerics or "unknown" for build in builds)
    data: dict[str, Counter[str]] = defaultdict(Counter)
    for name, digest in (item for build in builds for item in build.data.items()):
        data[name][digest] += 1
    kinds = [
        ("numerics", numerics, present.numerics, "made by another build", "builds"),
        *(
            ("data_sha256", found, present.data.get(name), "made from other data",
             f"versions of the data {name}")
            for name, found in data.items()
        ),
    ]  # fmt: skip
    said = []
    for attribute, found, own, kind, plural in kinds:
        if own is None and len(found) > 1:
            counts = ", ".join(f"{_short(value)}: {n}" for value, n in found.most_common())
            said.append(f"the cells come from {len(found)} {plural} ({attribute} {counts})")
        elif own is not None and set(found) - {own}:
            values = ", ".join(_short(value) for value in sorted(set(found) - {own}))
            count = found.total() - found[own]
            said.append(f"{count} of {len(cells)} cells were {kind} ({attribute} {values})")
    if not said:
        return []
    known = present != _UNKNOWN
    remedy = (
        "halfulp sweep --fresh runs them again" if known else "this halfulp-cell names no build"
    )
    return [f"WARNING: {' and '.join(said)}; {remedy}."]


def _short(digest: str) -> str:
    return digest if digest == "unknown" else f"{digest[:8]}…"


def status_of(sweep: Sweep) -> dict[str, Any]:
    """Counts, which sweeps are at work in the folder, and about how many seconds they need."""
    counts, sweeps, seen = sweep.counts(), sweep.folder.sweeps(), sweep.folder.look()
    mine = {cell.id for cell in sweep.cells}
    return {
        "sweep": sweep.spec.name,
        "cells": len(sweep.cells),
        **counts,
        "begun": len(seen.begun & mine),
        "other_build": len(sweep.of_another_build),
        "warnings": sweep.build_warnings(),
        "running": sweeps is not None,
        "sweeps": sweeps or [],
        "seconds_left": None if sweeps is None else _seconds_left(sweep, seen),
        "problems": [c.problem for c in sweep.cells if c.problem]
        + [f"{c.describe()}: {c.failure}" for c in sweep.failed],
    }


def _seconds_left(sweep: Sweep, seen: Listing) -> float | None:
    """About how long the cells that are not finished take, as many at a time as are written now."""
    left = [cell for cell in sweep.cells if not cell.finished]
    running = [(kind_of(cell), None) for cell in left if cell.id in seen.written]
    estimate = Estimate(len(running))
    for cell in sweep.cells:
        if cell.finished:
            seconds = float(cell.attributes.get("wall_seconds", 0.0))
            estimate.add(kind_of(cell), seconds, typical=cell.control is None)
    waiting = [kind_of(cell) for cell in left if cell.id not in seen.written]
    seconds_left = estimate.seconds(waiting, running) if running else None
    return None if seconds_left is None else round(seconds_left, 1)
