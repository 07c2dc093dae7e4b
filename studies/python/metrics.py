"""What happened inside the runs of a setting: spikes, rounding by role, frozen weights, speed.

`statistics.py` judges runs by their last loss; this module says what there is to say of the way
there. Every number is of the finished runs of one setting, all learning rates and seeds together,
and of all observed steps (docs/cells.md), unless it says otherwise.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from .cells import Cell
from .statistics import Grid, Plan, Summary

SPIKE_WINDOW = 1000  # values that the rolling mean is taken over
SPIKE_SIGMAS = 7.0
SPIKE_LEAST = 100  # values that must lie before the first one that is judged

EXPONENTS = 277  # entries of a histogram of exponents
FIRST_EXPONENT = -149  # exponent that its first entry counts


def spike_score(
    values: Sequence[float] | np.ndarray,
    window: int = SPIKE_WINDOW,
    sigmas: float = SPIKE_SIGMAS,
    least: int = SPIKE_LEAST,
) -> float:
    """Share of values at least 7 standard deviations from the rolling mean of the last 1,000.

    The spike score of OLMo 2 (arXiv 2501.00656), in a variant for short runs: value x_i is judged
    by the mean m and the standard deviation s (n - 1 in the denominator) of the min(i, window)
    values before it, without its own, as soon as there are `least` of them: a spike is
    |x_i - m| >= 7 s and x_i != m. A value that is not finite is a spike, and none that is later
    judged by it. NaN if no value has enough before it.
    """
    x = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(x)
    past = x[finite]
    before = np.cumsum(finite) - finite  # of value i: how many finite ones lie before it
    spikes = judged = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for value, known in zip(x, before, strict=True):
            if known < least:
                continue
            judged += 1
            last = past[max(0, known - window) : known]
            mean = last.sum() / last.size
            deviations = last - mean
            sigma = math.sqrt(float(deviations @ deviations) / (last.size - 1))
            distance = abs(value - mean)
            spikes += not math.isfinite(value) or bool(distance >= sigmas * sigma and distance > 0)
    return spikes / judged if judged else math.nan


@dataclass(frozen=True)
class Spread:
    """A mean over n runs and its range."""

    mean: float
    low: float
    high: float
    n: int


def spread(values: Iterable[float]) -> Spread | None:
    """Mean and range of the values that are finite; None if none is."""
    x = [float(value) for value in values if math.isfinite(value)]
    return Spread(sum(x) / len(x), min(x), max(x), len(x)) if x else None


@dataclass(frozen=True)
class RoleCounts:
    """What rounding met in the tensors of one role, counted over steps and runs."""

    role: str
    elements: int
    zeros: int
    not_finite: int
    overflow: int
    underflow: int
    to_zero: int
    exponents: np.ndarray = field(repr=False)  # (EXPONENTS,): finite inputs but zeros, by exponent

    @property
    def counted(self) -> int:
        """What the shares are of: finite inputs other than zero; of accumulation, every sum.

        The overflow of a sum is one that is not finite, and no finite one.
        """
        if self.role == "accumulation":
            return self.elements
        return self.elements - self.zeros - self.not_finite

    def share(self, name: str) -> float:
        """Share of `overflow`, `underflow` or `to_zero`; NaN if nothing was counted."""
        return int(getattr(self, name)) / self.counted if self.counted else math.nan

    @property
    def by_binade(self) -> np.ndarray:
        """Share of the finite nonzero inputs at each exponent; the first is FIRST_EXPONENT."""
        return self.exponents / max(1, int(self.exponents.sum()))


SHARES = ("overflow", "underflow", "to_zero")
_COUNTS = ("elements", "zeros", "not_finite", *SHARES)


def role_counts(cells: Sequence[Cell]) -> dict[str, RoleCounts]:
    """Role -> its counts over all observed steps of these cells; roles in the files' order."""
    seen = [cell.observed.roles for cell in cells]
    names = dict.fromkeys(role for cell in cells for role in cell.roles)
    found = {}
    for role in names:
        parts = [roles[role] for roles in seen if role in roles]
        if not parts:
            continue
        exponents = np.zeros(EXPONENTS, np.int64)
        for part in parts:
            exponents += part["exponents"]
        counts = {name: sum(int(part[name].sum()) for part in parts) for name in _COUNTS}
        found[role] = RoleCounts(role=role, exponents=exponents, **counts)
    return found


@dataclass(frozen=True)
class Frozen:
    """Weights whose update was lost when the optimiser's result was rounded, and two laws of it.

    Both laws are shares of the weights that a binary32 update would have moved, like `frozen`.
    With M fraction bits of the master format, to nearest, an update is certainly lost if

        |dw| < 2^-(M+2) |w|          stagnation law, in terms of the update itself
        |w|  > 2^(M+2) eta           Adam's law: the same for |dw| = eta, the learning rate
    """

    moved: int
    frozen: float  # shares of `moved`
    stagnation_law: float
    adam_law: float


def frozen_weights(cells: Sequence[Cell]) -> Frozen | None:
    """Shares over all observed steps of these cells; None if no weight was to move."""
    updates = [cell.observed.update for cell in cells if cell.observed.update]
    names = ("moved", "frozen", "stagnation_law", "adam_law")
    moved, *lost = (sum(int(update[name].sum()) for update in updates) for name in names)
    return Frozen(moved, *(count / moved for count in lost)) if moved else None


@dataclass(frozen=True)
class Agreement:
    """The gradient of a parameter against that of FP32: means over observed steps and runs."""

    parameter: str  # "all": the whole gradient
    cosine: float
    least_cosine: float
    relative_error: float  # norm of the difference, over the norm of FP32's
    n: int  # observed steps of runs in which the cosine is defined


def gradient_agreement(cells: Sequence[Cell]) -> list[Agreement]:
    """By parameter in the files' order, "all" first; empty where cells did not look at it."""
    seen = [cell.observed.gradients for cell in cells]
    names = dict.fromkeys(name for gradients in seen for name in gradients)
    found = []
    for name in sorted(names, key=lambda name: name != "all"):
        parts = [gradients[name] for gradients in seen if name in gradients]
        cosines = spread(x for part in parts for x in part["cosine"])
        errors = spread(x for part in parts for x in part["relative_error"])
        if cosines is not None and errors is not None:
            found.append(Agreement(name, cosines.mean, cosines.low, errors.mean, cosines.n))
    return found


@dataclass(frozen=True)
class Throughput:
    """Speed in training steps alone, on the machine and beside the cells that ran then."""

    steps_per_second: float  # median over runs
    items_per_second: float  # the same times batch, and context of a text
    item: str  # "characters" | "images"
    n: int  # runs

    @property
    def milliseconds(self) -> float:
        """Time of a step."""
        return 1000 / self.steps_per_second


def throughput(cells: Sequence[Cell]) -> Throughput | None:
    """Steps made over the time in them (`training_seconds`); None in files without that time."""
    timed = [cell for cell in cells if cell.training_seconds]
    if not timed:
        return None
    speeds = [cell.metrics["train_loss"].size / float(cell.training_seconds or 1) for cell in timed]
    items = [v * cell.items_per_step for v, cell in zip(speeds, timed, strict=True)]
    return Throughput(median(speeds), median(items), timed[0].item, len(timed))


@dataclass(frozen=True)
class Details:
    """One setting of a sweep: what stands beside its `Summary`. None or empty: not known."""

    setting: str
    loss: Spread | None  # last held-out loss as it counts, at the own best rate, over its seeds
    baselines: dict[str, float]  # models of the data: loss in nats
    loss_spikes: Spread | None
    gradient_spikes: Spread | None
    throughput: Throughput | None
    roles: dict[str, RoleCounts]
    frozen: Frozen | None
    gradients: list[Agreement]


def details(loss: Spread | None, setting: str, cells: Sequence[Cell]) -> Details:
    """The details of one setting from its finished cells; `loss` is that of `loss_at_best`."""
    return Details(
        setting=setting,
        loss=loss,
        baselines=baselines(cells),
        loss_spikes=_spikes(cells, "train_loss"),
        gradient_spikes=_spikes(cells, "gradient_norm"),
        throughput=throughput(cells),
        roles=role_counts(cells),
        frozen=frozen_weights(cells),
        gradients=gradient_agreement(cells),
    )


def baselines(cells: Sequence[Cell]) -> dict[str, float]:
    """Name -> loss in nats of the models of the data: those of the first cell that has any."""
    return next((cell.baselines for cell in cells if cell.baselines), {})


def loss_at_best(summary: Summary, runs: Grid, plan: Plan) -> Spread | None:
    """Held-out loss at the rate that is best for all complete seeds together: mean and range."""
    if summary.best_rate is None:
        return None
    return spread(runs[summary.best_rate, seed].counted for seed in plan.complete(runs))


def _spikes(cells: Sequence[Cell], series: str) -> Spread | None:
    return spread(spike_score(cell.metrics[series]) for cell in cells)
