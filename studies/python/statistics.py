"""What a sweep says: gaps to the baseline, learning-rate sensitivity, divergences, with intervals.

Everything is computed from one `Run` per cell of the grid. Conventions:

- The loss of a run is the last held-out loss, in nats. A run that diverged, or whose last loss is
  not finite, counts with l0, its own held-out loss at initialisation.
- The seeds are the independent units: intervals are Student t over one number per seed, 95%.
- Only pairs that are both there are compared; an interval says how many seeds it rests on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtrit  # quantiles; scipy.stats takes a second to import

from .cells import DIVERGED, Cell

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Run:
    """One finished cell of the grid, reduced to what the statistics need."""

    setting: str  # the policy, and the values of further axes if there are any
    baseline: str  # the setting that this one is paired with
    rate: float  # peak learning rate
    seed: int
    loss: float  # last held-out loss, nats; as it was measured
    initial: float  # l0, held-out loss at initialisation, nats
    accuracy: float  # last held-out accuracy, 0 to 1
    diverged: bool

    @property
    def counted(self) -> float:
        """The loss that counts: l0 for a run that diverged or ended without a finite loss."""
        return self.initial if self.diverged or not math.isfinite(self.loss) else self.loss

    @property
    def clipped(self) -> float:
        """min(counted, l0): no worse than not having trained."""
        return min(self.counted, self.initial)


@dataclass(frozen=True)
class Interval:
    """A mean over n seeds and its 95% interval; low and high are NaN for n < 2."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def df(self) -> int:
        """Degrees of freedom of Student's t."""
        return self.n - 1

    @property
    def half(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Mean and Student t interval, mean +- t(n-1) s / sqrt(n); None for no values."""
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        return None
    mean = float(x.mean())
    if x.size == 1:
        return Interval(mean, math.nan, math.nan, 1)
    t = float(stdtrit(x.size - 1, (1 + confidence) / 2))
    half = t * float(x.std(ddof=1)) / math.sqrt(x.size)
    return Interval(mean, mean - half, mean + half, int(x.size))


def wilson_interval(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's interval of a proportion `count` of `n`; (0, 1) for n = 0.

    Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212: no continuity correction.
    """
    if n == 0:
        return 0.0, 1.0
    z = float(ndtri((1 + confidence) / 2))
    p, scale = count / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if count == 0 else centre - half  # exact at the ends, where rounding would show
    high = 1.0 if count == n else centre + half
    return low, high


Grid = dict[tuple[float, int], Run]  # (rate, seed) -> run


def grid(runs: Iterable[Run], setting: str) -> Grid:
    """The runs of one setting by (learning rate, seed)."""
    return {(r.rate, r.seed): r for r in runs if r.setting == setting}


def _rates(cells: Grid) -> list[float]:
    return sorted({rate for rate, _ in cells})


def _seeds(cells: Grid) -> list[int]:
    return sorted({seed for _, seed in cells})


def best_rate(cells: Grid) -> float | None:
    """The rate with the least mean clipped loss over seeds (the smaller one of equals)."""
    means = {
        rate: float(np.mean([cells[rate, s].clipped for s in _seeds(cells) if (rate, s) in cells]))
        for rate in _rates(cells)
    }
    return min(means, key=means.__getitem__) if means else None


def gap_at(policy: Grid, base: Grid, rate: float) -> Interval | None:
    """Paired gap at one rate: over seeds, loss of the policy minus loss of the baseline."""
    return t_interval(
        [
            policy[rate, seed].counted - base[rate, seed].counted
            for seed in _seeds(policy)
            if (rate, seed) in policy and (rate, seed) in base
        ]
    )


def mean_gap(policy: Grid, base: Grid) -> Interval | None:
    """Paired gap of the clipped losses, averaged over the rates within a seed, then over seeds.

    A seed counts if every rate of the two grids is there for it, in both.
    """
    rates = sorted(set(_rates(policy)) | set(_rates(base)))
    values = []
    for seed in _seeds(policy):
        pairs = [(policy.get((rate, seed)), base.get((rate, seed))) for rate in rates]
        if all(p is not None and b is not None for p, b in pairs):
            values.append(float(np.mean([p.clipped - b.clipped for p, b in pairs if p and b])))
    return t_interval(values)


def sensitivity(cells: Grid) -> Interval | None:
    """Learning-rate sensitivity (arXiv 2309.14322), over seeds.

    Of a seed: the mean over rates of min(l, l0), minus the least of them. A seed counts if every
    rate is there for it.
    """
    rates = _rates(cells)
    values = []
    for seed in _seeds(cells):
        losses = [cells[rate, seed].clipped for rate in rates if (rate, seed) in cells]
        if len(losses) == len(rates):
            values.append(float(np.mean(losses)) - min(losses))
    return t_interval(values)


@dataclass(frozen=True)
class Accuracy:
    """Held-out accuracy over seeds at one rate: mean and range."""

    mean: float
    low: float
    high: float
    n: int


def accuracy_at(cells: Grid, rate: float) -> Accuracy | None:
    """Held-out accuracy at one rate, of the runs that completed; None if none did."""
    values = [r.accuracy for (at, _), r in cells.items() if at == rate and not r.diverged]
    if not values:
        return None
    return Accuracy(float(np.mean(values)), min(values), max(values), len(values))


@dataclass(frozen=True)
class Summary:
    """One setting of a sweep: a row of the main table. None: not enough cells are finished."""

    setting: str
    baseline: str
    runs: int  # finished cells
    diverged: int
    diverged_interval: tuple[float, float]  # Wilson, of the share
    best_rate: float | None  # of this setting
    accuracy: Accuracy | None  # at its own best rate
    baseline_rate: float | None  # the baseline's best rate
    gap: Interval | None  # at the baseline's best rate
    mean_gap: Interval | None  # over all rates
    sensitivity: Interval | None


def summarise(runs: Sequence[Run], settings: Sequence[tuple[str, str]]) -> list[Summary]:
    """A summary of each (setting, its baseline), in this order."""
    rows = []
    for setting, baseline in settings:
        cells, base = grid(runs, setting), grid(runs, baseline)
        best, base_best = best_rate(cells), best_rate(base)
        diverged = sum(run.diverged for run in cells.values())
        own = setting == baseline
        rows.append(
            Summary(
                setting=setting,
                baseline=baseline,
                runs=len(cells),
                diverged=diverged,
                diverged_interval=wilson_interval(diverged, len(cells)),
                best_rate=best,
                accuracy=None if best is None else accuracy_at(cells, best),
                baseline_rate=base_best,
                gap=None if own or base_best is None else gap_at(cells, base, base_best),
                mean_gap=None if own else mean_gap(cells, base),
                sensitivity=sensitivity(cells),
            )
        )
    return rows


def setting_of(parameters: Mapping[str, Any], policy: str | None = None) -> str:
    """A cell's setting: its policy (or another one) and the axes besides rate and seed."""
    known = ("precision", "optimizer.learning_rate", "training.seed")
    others = [f"{path}={value}" for path, value in parameters.items() if path not in known]
    return ", ".join([policy or str(parameters["precision"]), *others])


def run_of(cell: Cell, baseline: str) -> Run:
    """The run of a finished cell; `baseline` is the name of the baseline policy."""
    losses, accuracies = cell.metrics["eval_loss"], cell.metrics["eval_accuracy"]
    return Run(
        setting=setting_of(cell.parameters),
        baseline=setting_of(cell.parameters, baseline),
        rate=cell.learning_rate,
        seed=cell.seed,
        loss=float(losses[-1]) if losses.size else math.nan,
        initial=float(cell.metrics["initial_eval_loss"]),
        accuracy=float(accuracies[-1]) if accuracies.size else math.nan,
        diverged=cell.outcome == DIVERGED,
    )
