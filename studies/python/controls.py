"""The controls of a sweep: does the emulation do what it says, and does a known fault show?

Four kinds, all declared in the sweep's TOML (docs/cells.md):

- `[[control]]` with `expect` and `to`: two cells compared bit for bit, every metric and every
  tensor of the checkpoint. A cell with path = "general" that must be equal also has to count
  roundings for every role.
- `expect_broken`: policies whose paired gap to the baseline must have its interval above 0.
- `baseline_accuracy`: the held-out accuracy that the baseline must reach.
- `baseline_beats`: a model of the data whose held-out loss the baseline must be below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .cells import Cell
from .spec import Control
from .statistics import Summary

if TYPE_CHECKING:
    from .results import Sweep


@dataclass(frozen=True)
class Check:
    """The outcome of one control. `passed` is None while its cells are not finished."""

    name: str
    passed: bool | None
    detail: str

    @property
    def word(self) -> str:
        return {True: "pass", False: "FAIL", None: "not run"}[self.passed]


@dataclass(frozen=True)
class Comparison:
    """Numbers compared bit for bit."""

    compared: int
    different: int
    first: str  # where the first difference is; empty if there is none


def check_controls(sweep: "Sweep") -> list[Check]:
    """Every control of a sweep: comparisons, then what is expected of policies and baseline."""
    cells = {cell.control: cell for cell in sweep.cells if cell.control is not None}
    checks = []
    for control in sweep.spec.controls:
        if control.expect is not None and control.to is not None:
            checks.append(_compare(control, cells[control.name], cells[control.to]))
    rows = {row.setting: row for row in sweep.summaries}
    for policy in sweep.spec.expect_broken:
        checks += [_broken(row, len(sweep.plan.seeds)) for row in _rows_of(policy, rows)]
    if sweep.spec.baseline_accuracy is not None:
        least = float(sweep.spec.baseline_accuracy)
        checks += [
            _accuracy(row, least, len(sweep.plan.seeds))
            for row in _rows_of(sweep.spec.baseline, rows)
        ]
    if sweep.spec.baseline_beats is not None:
        checks += [
            _beats(row, sweep, sweep.spec.baseline_beats)
            for row in _rows_of(sweep.spec.baseline, rows)
        ]
    return checks


def compare_cells(one: Cell, other: Cell) -> Comparison:
    """Compares two finished cells bit for bit: all metrics, then all tensors of the checkpoint.

    A NaN equals the same NaN, +0 differs from -0. A tensor that only one of them has, or that has
    another shape or type, differs in every element.
    """
    compared = different = 0
    first = ""
    for kind, left, right in (
        ("metric", one.metrics, other.metrics),
        ("tensor", one.checkpoint(), other.checkpoint()),
    ):
        for name in sorted(set(left) | set(right)):
            mismatch = _mismatches(left, right, name)
            compared += mismatch.size
            different += int(np.count_nonzero(mismatch))
            if not first and mismatch.any():
                first = f"{kind} {name}, element {int(np.flatnonzero(mismatch)[0])}"
    return Comparison(compared, different, first)


def _mismatches(
    left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray], name: str
) -> np.ndarray:
    """Flat booleans: which elements differ in their bits."""
    if name not in left or name not in right:
        return np.ones((left[name] if name in left else right[name]).size, dtype=bool)
    a, b = np.asarray(left[name]), np.asarray(right[name])
    if a.dtype != b.dtype or a.shape != b.shape:
        return np.ones(max(a.size, b.size), dtype=bool)
    if a.size == 0:
        return np.zeros(0, dtype=bool)
    bits = [np.ascontiguousarray(x).reshape(-1, 1).view(np.uint8) for x in (a, b)]
    return (bits[0] != bits[1]).any(axis=1)


def _compare(control: Control, cell: Cell, other: Cell) -> Check:
    name = (
        f"{control.name}: {'equals' if control.expect == 'equal' else 'differs from'} {control.to}"
    )
    for each in (cell, other):
        if not each.finished:
            return Check(name, None, f"the cell '{each.control}' is {each.outcome}")
    if cell.build != other.build:
        return Check(name, None, "the two cells were made by different builds or from other data")
    found = compare_cells(cell, other)
    detail = f"{found.compared:,} numbers compared bit for bit, {found.different:,} differ"
    if found.first:
        detail += f" (first: {found.first})"
    if control.expect == "different":
        return Check(name, found.different > 0, detail)
    passed = found.different == 0 and found.compared > 0
    if cell.specification["precision"].get("path") == "general":
        calls = {role: cell.rounding.get(role, {}).get("calls", 0) for role in cell.roles}
        detail += "; rounding calls: " + ", ".join(f"{r} {n:,}" for r, n in calls.items())
        passed = passed and bool(calls) and all(n > 0 for n in calls.values())
    return Check(name, passed, detail)


def _rows_of(policy: str, rows: Mapping[str, Summary]) -> Sequence[Summary]:
    """The rows of a policy: one, or one per value of the further axes."""
    return [row for name, row in rows.items() if name == policy or name.startswith(f"{policy}, ")]


def _broken(row: Summary, seeds: int) -> Check:
    name = f"{row.setting}: known to break, worse than {row.baseline}"
    if seeds < 2:
        return Check(
            name, None, "one seed has no interval; give the axis training.seed two or more"
        )
    if row.gap is None or row.gap.n < seeds:
        return Check(name, None, _unfinished(0 if row.gap is None else row.gap.n, seeds))
    return Check(
        name,
        row.gap.low > 0,
        f"paired loss gap {row.gap.mean:.3g} nats, 95% interval {row.gap.low:.3g} to "
        f"{row.gap.high:.3g} (df = {row.gap.df}), at the baseline's learning rate",
    )


def _accuracy(row: Summary, least: float, seeds: int) -> Check:
    name = f"{row.setting}: has learnt, held-out accuracy at least {least:g}"
    if row.accuracy is None or row.accuracy.n < seeds:
        return Check(name, None, _unfinished(0 if row.accuracy is None else row.accuracy.n, seeds))
    rates = "–".join(f"{rate:g}" for rate in sorted({*row.accuracy.rates}))
    return Check(
        name,
        row.accuracy.mean >= least,
        f"mean over {row.accuracy.n} seeds {row.accuracy.mean:.4f} "
        f"({row.accuracy.low:.4f} to {row.accuracy.high:.4f}) at learning rate {rates}",
    )


def _beats(row: Summary, sweep: "Sweep", model: str) -> Check:
    name = f"{row.setting}: beats the {model} model of the data"
    seeds, complete = len(sweep.plan.seeds), len(sweep.plan.complete(sweep.grid_of(row.setting)))
    loss = sweep.loss_of(row)
    if loss is None or loss.n < seeds:
        return Check(name, None, _unfinished(complete, seeds))
    least = sweep.baselines_of(row.setting).get(model)
    if least is None:
        return Check(name, False, f"the cells' files name no loss of a {model} model")
    return Check(
        name,
        loss.mean < least,
        f"held-out loss, mean over {loss.n} seeds, {loss.mean:.4f} nats ({loss.low:.4f} to "
        f"{loss.high:.4f}) at learning rate {row.best_rate:g}; the {model} has {least:.4f}",
    )


def _unfinished(complete: int, seeds: int) -> str:
    return f"all learning rates are finished for {complete} of {seeds} seeds; all are needed"
