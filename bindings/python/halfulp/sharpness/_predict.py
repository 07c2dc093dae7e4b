"""How well an early measure tells what becomes of a run, judged on seeds it was not chosen on.

Seeds are the independent units: pairs of runs are counted by pair of seeds, so that drawing seeds
again is a sum with other weights, and intervals are those of whole seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

DRAWS = 2000
POWER = 1.959964 + 0.841621  # a two-sided test at 5% with 80% power, in standard errors


def divergence(
    losses: NDArray[Any], initial: NDArray[Any], *, window: int = 10, patience: int = 20
) -> Floats:
    """The step at which each run diverges, inf where it does not: the first of `patience` steps in
    sequence (or of those that are left) whose loss, the mean of `window` steps, is above
    min(initial, least so far + 1); or the first that is not finite.

    losses: (runs, steps), before each step; initial: (runs,). Definition: docs/studies/sharpness.md.
    """
    runs, steps = losses.shape
    found = np.full(runs, np.inf)
    window = min(window, steps)
    patience = min(patience, steps - window + 1)
    for k in range(runs):
        broken = np.flatnonzero(~np.isfinite(losses[k]))
        end = int(broken[0]) if len(broken) else steps
        if end < steps:
            found[k] = end
        total = np.concatenate([[0.0], np.cumsum(losses[k, :end], dtype=np.float64)])
        smooth = (total[window:] - total[:-window]) / window  # of the steps i to i + window − 1
        if len(smooth) == 0:
            continue
        limit = np.minimum(initial[k], np.minimum.accumulate(smooth) + 1)
        above = 0
        for i, bad in enumerate(smooth > limit):
            above = above + 1 if bad else 0
            if above == patience or (above and i == len(smooth) - 1 and end < steps):
                found[k] = min(found[k], i - above + window)
                break
    return found


@dataclass(frozen=True)
class Pairs:
    """By (seed of a run with the event, seed of one without): how many pairs there are, and of how
    many the measure is larger in the first, ties counting a half."""

    larger: Floats
    count: Floats

    def auc(self, weights: Floats | None = None) -> float:
        """Of the seeds with these weights; NaN where there is no pair."""
        w = np.ones(len(self.count)) if weights is None else weights
        pairs = float(w @ self.count @ w)
        return float(w @ self.larger @ w) / pairs if pairs > 0 else float("nan")

    def turned(self) -> Pairs:
        return Pairs(self.count - self.larger, self.count)

    def of(self, seeds: Ints) -> Pairs:
        return Pairs(self.larger[np.ix_(seeds, seeds)], self.count[np.ix_(seeds, seeds)])


def pairs(
    values: NDArray[Any], event: Bools, seed: Ints, seeds: int, stratum: NDArray[Any] | None = None
) -> Pairs:
    """Of runs whose value is not NaN; only runs of one stratum make a pair. seed: 0 to seeds − 1."""
    use = ~np.isnan(values)
    groups = np.zeros(len(values), np.int64) if stratum is None else stratum
    larger, count = np.zeros((seeds, seeds)), np.zeros((seeds, seeds))
    for group in np.unique(groups[use]):
        among = use & (groups == group)
        a, b = np.flatnonzero(among & event), np.flatnonzero(among & ~event)
        if len(a) == 0 or len(b) == 0:
            continue
        x, y = values[a, None], values[None, b]
        won = (x > y) + 0.5 * (x == y)
        at = (np.broadcast_to(seed[a, None], won.shape), np.broadcast_to(seed[None, b], won.shape))
        np.add.at(larger, at, won)
        np.add.at(count, at, 1.0)
    return Pairs(larger, count)


def folds(seeds: int) -> tuple[Ints, Ints]:
    """Even and odd seeds: what is chosen on one half is judged on the other."""
    return np.arange(0, seeds, 2), np.arange(1, seeds, 2)


def held_out(p: Pairs, weights: Floats | None = None) -> float:
    """The AUC of both halves' pairs, each in the direction that the other half chose (there at
    least a half). A half without any pair is left out; NaN without both."""
    w = np.ones(len(p.count)) if weights is None else weights
    even, odd = folds(len(w))
    won = total = 0.0
    for train, test in ((even, odd), (odd, even)):
        chosen = p.of(train).auc(w[train])
        count = float(w[test] @ p.of(test).count @ w[test])
        if np.isnan(chosen) or count == 0:
            continue
        judged = p.of(test) if chosen >= 0.5 else p.of(test).turned()
        won += float(w[test] @ judged.larger @ w[test])
        total += count
    return won / total if total > 0 else float("nan")


def draws(seeds: int, number: int = DRAWS) -> Floats:
    """How often each seed is drawn: (number, seeds), with replacement within each half."""
    generator = np.random.default_rng(0)
    found = np.zeros((number, seeds))
    for half in folds(seeds):
        drawn = generator.choice(half, (number, len(half)))
        for i in range(number):
            found[i] += np.bincount(drawn[i], minlength=seeds)
    return found


@dataclass(frozen=True)
class Estimate:
    """A value, its 95% interval from drawn seeds, and the least distance from `null` that a test at
    5% finds with 80% power."""

    value: float
    low: float
    high: float
    least: float

    def rounded(self, digits: int = 3) -> list[float | None]:
        of = (self.value, self.low, self.high, self.least)
        return [round(v, digits) if np.isfinite(v) else None for v in of]


def estimate(value: float, drawn: NDArray[Any]) -> Estimate:
    """Percentiles of what was drawn; a value that cannot be drawn again has no interval."""
    drawn = np.asarray(drawn, np.float64)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 2:
        return Estimate(value, np.nan, np.nan, np.nan)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high), float(POWER * drawn.std(ddof=1)))


@dataclass(frozen=True)
class Warnings:
    """A threshold's alarms on the other half's runs: leads (steps from the alarm to the divergence,
    0 where there was none before it) and false alarms (of runs that do not diverge)."""

    leads: Floats
    lead_seed: Ints
    false: Bools
    false_seed: Ints


def warnings(
    series: NDArray[Any], steps: NDArray[Any], diverges: Floats, seed: Ints, rate: float = 0.1
) -> Warnings:
    """series: (runs, records) of a measure; steps: of the records; diverges: step or inf.

    On each half of the seeds the direction is the one in which the runs' largest value before their
    end tells better, and the threshold the one that at most `rate` of the runs that do not diverge
    exceed; both are used on the other half.
    """
    seeds = int(seed.max()) + 1
    bad = np.isfinite(diverges)
    seen = steps[None, :] < diverges[:, None]
    most = {}
    for sign in (1.0, -1.0):
        values = np.where(seen & ~np.isnan(series), sign * series, -np.inf)
        most[sign] = (values, values.max(axis=1))
    leads, lead_seed, false, false_seed = [], [], [], []
    even, odd = folds(seeds)
    for train, test in ((even, odd), (odd, even)):
        inside = np.isin(seed, train)
        calm = inside & ~bad
        if not calm.any() or not (inside & bad).any():
            continue
        told = {
            sign: pairs(top[inside], bad[inside], seed[inside], seeds).auc()
            for sign, (_, top) in most.items()
        }
        sign = max(told, key=lambda s: told[s])
        values, top = most[sign]
        ordered = np.sort(top[calm])
        allowed = int(np.floor(rate * len(ordered)))
        threshold = ordered[len(ordered) - 1 - allowed]
        outside = np.isin(seed, test)
        for k in np.flatnonzero(outside & bad):
            alarms = np.flatnonzero(values[k] > threshold)
            leads.append(diverges[k] - steps[alarms[0]] if len(alarms) else 0.0)
            lead_seed.append(seed[k])
        for k in np.flatnonzero(outside & ~bad):
            false.append(bool(top[k] > threshold))
            false_seed.append(seed[k])
    return Warnings(
        np.array(leads, np.float64),
        np.array(lead_seed, np.int64),
        np.array(false, bool),
        np.array(false_seed, np.int64),
    )


def rank_correlation(
    a: NDArray[Any], b: NDArray[Any], stratum: NDArray[Any], weights: NDArray[Any] | None = None
) -> float:
    """Spearman's ρ within each stratum, mean over strata by their runs; weights: how often each run
    counts. NaN where nothing varies."""
    from scipy.stats import rankdata

    w = np.ones(len(a), np.int64) if weights is None else weights.astype(np.int64)
    use = ~(np.isnan(a) | np.isnan(b))
    total, runs = 0.0, 0
    for group in np.unique(stratum):
        at = np.flatnonzero(use & (stratum == group))
        at = np.repeat(at, w[at])
        if len(at) < 4:
            continue
        x, y = rankdata(a[at]), rankdata(b[at])
        x, y = x - x.mean(), y - y.mean()
        scale = float(np.sqrt((x @ x) * (y @ y)))
        if scale > 0:
            total += float(x @ y) / scale * len(at)
            runs += len(at)
    return total / runs if runs else float("nan")
