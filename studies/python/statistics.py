"""What a sweep says: gaps to the baseline, learning-rate sensitivity, divergences, with intervals.

Everything is computed from one `Run` per cell of the grid. Conventions:

- The loss of a run is its last held-out loss l, in nats, and counts as min(l, l0), l0 being its own
  held-out loss at initialisation (arXiv 2309.14322). A run that diverged, or whose last loss is not
  finite, counts as l0. So no run counts worse than not having trained, whatever became of it.
- The seeds are the independent units: intervals are Student t over one number per seed, 95%.
- A seed counts in a statistic if the run of every rate of the sweep is finished for it (in both
  grids where two are compared); every result says how many seeds it rests on.
- A rate at which a run is judged is chosen by the other seeds (leave one seed out). With a single
  seed there are none, and it is chosen by the run that it is judged by.
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
        """The loss that counts: min(l, l0); l0 if the run diverged or ended without a finite l."""
        if self.diverged or not math.isfinite(self.loss):
            return self.initial
        return min(self.loss, self.initial)


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


@dataclass(frozen=True)
class Plan:
    """The learning rates and seeds of a sweep, from its axes: what a complete grid has."""

    rates: Sequence[float]  # ascending
    seeds: Sequence[int]  # ascending

    def complete(self, *grids: Grid) -> list[int]:
        """The seeds for which the run of every rate is finished, in each of the grids."""
        return [s for s in self.seeds if all((r, s) in g for r in self.rates for g in grids)]


def best_rate(cells: Grid, rates: Sequence[float], seeds: Sequence[int]) -> float | None:
    """The rate with the least mean loss over these seeds (the smaller one of equals)."""
    if not seeds:
        return None
    return min(rates, key=lambda rate: (float(np.mean(_losses(cells, rate, seeds))), rate))


def _losses(cells: Grid, rate: float, seeds: Sequence[int]) -> list[float]:
    return [cells[rate, seed].counted for seed in seeds]


def chosen_rates(cells: Grid, rates: Sequence[float], seeds: Sequence[int]) -> dict[int, float]:
    """Seed -> the rate at which its run is judged: the best one of the *other* seeds.

    A single seed has no others and chooses for itself.
    """
    chosen = {}
    for seed in seeds:
        best = best_rate(cells, rates, [s for s in seeds if s != seed] or [seed])
        if best is not None:
            chosen[seed] = best
    return chosen


def gap_at_chosen(policy: Grid, base: Grid, plan: Plan) -> Interval | None:
    """Paired gap at the baseline's rate, which for each seed the baseline's other seeds choose."""
    rates = chosen_rates(base, plan.rates, plan.complete(policy, base))
    return t_interval(
        [policy[rate, s].counted - base[rate, s].counted for s, rate in rates.items()]
    )


def mean_gap(policy: Grid, base: Grid, plan: Plan) -> Interval | None:
    """Paired gap averaged over the rates within a seed, then over seeds: nothing is chosen."""
    return t_interval(
        [
            float(np.mean([policy[r, s].counted - base[r, s].counted for r in plan.rates]))
            for s in plan.complete(policy, base)
        ]
    )


def sensitivity(cells: Grid, plan: Plan) -> Interval | None:
    """Learning-rate sensitivity (arXiv 2309.14322), over seeds.

    Of a seed: the mean over rates of min(l, l0), minus the least of them. None for a single rate.
    """
    if len(plan.rates) < 2:
        return None
    values = []
    for seed in plan.complete(cells):
        losses = [cells[rate, seed].counted for rate in plan.rates]
        values.append(float(np.mean(losses)) - min(losses))
    return t_interval(values)


@dataclass(frozen=True)
class Accuracy:
    """Held-out accuracy over seeds, each at the rate that was chosen for it: mean and range."""

    mean: float
    low: float
    high: float
    n: int  # seeds
    rates: tuple[float, ...]  # by seed


def accuracy_at_chosen(cells: Grid, plan: Plan) -> Accuracy | None:
    """Last held-out accuracy of each seed at the rate that its other seeds choose.

    A run that diverged counts with the accuracy of its last evaluation; one without, with 0.
    """
    rates = chosen_rates(cells, plan.rates, plan.complete(cells))
    if not rates:
        return None
    measured = [cells[rate, seed].accuracy for seed, rate in rates.items()]
    values = [value if math.isfinite(value) else 0.0 for value in measured]
    return Accuracy(
        float(np.mean(values)), min(values), max(values), len(values), tuple(rates.values())
    )


@dataclass(frozen=True)
class Share:
    """Divergences at one rate: how many of n seeds, and Wilson's interval of the share."""

    rate: float
    count: int
    n: int
    low: float
    high: float


def divergences(cells: Grid, plan: Plan) -> list[Share]:
    """Per rate, over the seeds that are finished: runs of one rate are independent draws."""
    shares = []
    for rate in plan.rates:
        runs = [run for (at, _), run in cells.items() if at == rate]
        count = sum(run.diverged for run in runs)
        shares.append(Share(rate, count, len(runs), *wilson_interval(count, len(runs))))
    return shares


@dataclass(frozen=True)
class Summary:
    """One setting of a sweep: a row of the main table. None: no seed is complete."""

    setting: str
    baseline: str
    planned: int  # cells of the sweep
    runs: int  # finished cells
    diverged: int
    divergences: list[Share]  # by rate
    best_rate: float | None  # of this setting, over all its complete seeds
    accuracy: Accuracy | None
    baseline_rate: float | None  # the baseline's best rate, over all its complete seeds
    gap: Interval | None  # at the baseline's rate
    mean_gap: Interval | None  # over all rates
    sensitivity: Interval | None


def summarise(
    runs: Sequence[Run], settings: Sequence[tuple[str, str]], plan: Plan
) -> list[Summary]:
    """A summary of each (setting, its baseline), in this order."""
    rows = []
    for setting, baseline in settings:
        cells, base = grid(runs, setting), grid(runs, baseline)
        own = setting == baseline
        rows.append(
            Summary(
                setting=setting,
                baseline=baseline,
                planned=len(plan.rates) * len(plan.seeds),
                runs=len(cells),
                diverged=sum(run.diverged for run in cells.values()),
                divergences=divergences(cells, plan),
                best_rate=best_rate(cells, plan.rates, plan.complete(cells)),
                accuracy=accuracy_at_chosen(cells, plan),
                baseline_rate=best_rate(base, plan.rates, plan.complete(base)),
                gap=None if own else gap_at_chosen(cells, base, plan),
                mean_gap=None if own else mean_gap(cells, base, plan),
                sensitivity=sensitivity(cells, plan),
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
