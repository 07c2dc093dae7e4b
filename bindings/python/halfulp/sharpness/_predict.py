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

    losses: (runs, steps), before each step; initial: (runs,).
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


def pairs(
    values: NDArray[Any], event: Bools, seed: Ints, seeds: int, stratum: NDArray[Any] | None = None
) -> Pairs:
    """Of runs whose value is not NaN; only runs of one stratum pair. seed: 0 to seeds − 1."""
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


def held_out(p: Pairs, weights: Floats | None = None) -> Floats:
    """The AUC of both halves' pairs, each in the direction that the other half chose (there at
    least a half), for each row of weights (draws, seeds); all 1 by default. A half without any pair
    is left out; NaN without both."""
    w = np.ones((1, len(p.count))) if weights is None else weights

    def total(of: Floats, half: Ints) -> Floats:
        inside = w[:, half]
        return ((inside @ of[np.ix_(half, half)]) * inside).sum(axis=1)

    even, odd = folds(w.shape[1])
    larger = {0: total(p.larger, even), 1: total(p.larger, odd)}
    count = {0: total(p.count, even), 1: total(p.count, odd)}
    won, pairs_judged = np.zeros(len(w)), np.zeros(len(w))
    for train, test in ((0, 1), (1, 0)):
        known = (count[train] > 0) & (count[test] > 0)
        up = 2 * larger[train] >= count[train]
        of = np.where(up, larger[test], count[test] - larger[test])
        won += np.where(known, of, 0)
        pairs_judged += np.where(known, count[test], 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(won / np.where(pairs_judged > 0, pairs_judged, np.nan))


def draws(seeds: int, number: int | None = None) -> Floats:
    """How often each seed is drawn: (number, seeds), with replacement within each half."""
    number = DRAWS if number is None else number
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
    """A monitor's alarms on the runs of the other half: leads (steps from the first alarm to the
    divergence, 0 where there was none before it) and false alarms (of runs that do not diverge);
    `left_out` runs had nothing to be compared with."""

    leads: Floats
    lead_seed: Ints
    false: Bools
    left_out: int


LEAST = 20  # runs, of which one says what is usual
FARTHEST = 1e6  # spreads: what is infinite, or where nothing spreads, is no farther away


def unusual(
    series: NDArray[Any], calm: Bools, stratum: NDArray[Any], sign: int, least: int = LEAST
) -> NDArray[np.float64]:
    """By run and record: how far a value lies above the median (below, for sign −1) of the calm
    runs of the same stratum at the same record, in units of the distance from there to their 90%
    (10%) quantile; NaN where fewer than `least` are known."""
    found = np.full(series.shape, np.nan)
    finite = np.clip(series, -1e150, 1e150)
    for group in np.unique(stratum):
        among = np.flatnonzero(stratum == group)
        for e in range(series.shape[1]):
            known = finite[among[calm[among]], e]
            known = known[~np.isnan(known)]
            if len(known) < least:
                continue
            middle, end = np.percentile(known, [50, 90 if sign > 0 else 10])
            with np.errstate(divide="ignore", invalid="ignore"):
                z = (finite[among, e] - middle) / (end - middle)
            z = np.where(finite[among, e] == middle, 0, z)
            found[among, e] = np.clip(z, -FARTHEST, FARTHEST)
    return found


def warnings(
    series: NDArray[Any],
    steps: NDArray[Any],
    diverges: Floats,
    seed: Ints,
    stratum: NDArray[Any],
    rate: float = 0.1,
) -> Warnings:
    """series: (runs, records) of a measure; steps: of the records; diverges: step or inf.

    A value alarms where it is `unusual` beside runs of the same stratum, at the same record, that
    do not diverge. What is usual, the direction, and the threshold (that a share `rate` of those
    runs exceed at some time) come from one half of the seeds, and are used on the other half.
    """
    seeds = int(seed.max()) + 1
    bad = np.isfinite(diverges)
    seen = steps[None, :] < diverges[:, None]
    leads, lead_seed, false, left_out = [], [], [], 0
    even, odd = folds(seeds)
    for train, test in ((even, odd), (odd, even)):
        inside, outside = np.isin(seed, train), np.isin(seed, test)
        away = {sign: unusual(series, inside & ~bad, stratum, sign) for sign in (1, -1)}
        compared = ~np.isnan(away[1]).all(axis=1)
        left_out += int((outside & ~compared).sum())
        calm = inside & ~bad & compared
        if not calm.any() or not (inside & bad & compared).any():
            continue
        most = {}
        for sign, z in away.items():
            values = np.where(seen & ~np.isnan(z), z, -np.inf)
            top = values.max(axis=1)
            use = inside & compared
            told = pairs(top[use], bad[use], seed[use], seeds, stratum[use]).auc()
            most[sign] = (-np.inf if np.isnan(told) else told, values, top)
        _, values, top = max(most.values(), key=lambda m: m[0])
        ordered = np.sort(top[calm])
        threshold = ordered[len(ordered) - 1 - int(np.floor(rate * len(ordered)))]
        for k in np.flatnonzero(outside & bad & compared):
            alarms = np.flatnonzero(values[k] > threshold)
            leads.append(diverges[k] - steps[alarms[0]] if len(alarms) else 0.0)
            lead_seed.append(seed[k])
        false.append(top[outside & ~bad & compared] > threshold)
    return Warnings(
        np.array(leads, np.float64),
        np.array(lead_seed, np.int64),
        np.concatenate(false) if false else np.zeros(0, bool),
        left_out,
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


def along_runs(a: NDArray[Any], b: NDArray[Any], least: int = 5) -> Floats:
    """Spearman's ρ of each row, (runs,), where both are finite; NaN where fewer than `least` are,
    or nothing varies."""
    from scipy.stats import rankdata

    use = np.isfinite(a) & np.isfinite(b)
    found = np.full(len(a), np.nan)
    for k in np.flatnonzero(use.sum(axis=1) >= least):
        x, y = rankdata(a[k, use[k]]), rankdata(b[k, use[k]])
        x, y = x - x.mean(), y - y.mean()
        scale = float(np.sqrt((x @ x) * (y @ y)))
        if scale > 0:
            found[k] = float(x @ y) / scale
    return found
