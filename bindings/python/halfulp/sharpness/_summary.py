"""What the runs of the study `sharpness` say: predictions, leads, claims, with intervals."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from halfulp.sharpness._cells import EARLY, FACTORS, Cell
from halfulp.sharpness._predict import (
    Bools,
    Floats,
    Ints,
    along_runs,
    draws,
    estimate,
    held_out,
    pairs,
    rank_correlation,
    warnings,
)
from halfulp.sharpness._results import (
    FALSE_ALARMS,
    FEWER_DRAWS,
    GAP,
    SOON,
    WITHIN,
    Results,
    Runs,
    early_values,
    events,
    strata,
)
from halfulp.studies.statistics import Plan, Run, mean_gap, sensitivity, wilson_interval
from halfulp.studies.statistics import grid as grid_of


def judged(
    values: dict[str, Floats],
    event: Bools,
    seed: Ints,
    stratum: NDArray[Any],
    weights: Floats,
) -> dict[str, Any]:
    """The AUC of each measure on held-out seeds, its interval, and how much it is above the
    loss's."""
    found: dict[str, Any] = {"runs": len(event), "events": int(event.sum()), "auc": {}}
    drawn: dict[str, Floats] = {}
    value: dict[str, float] = {}
    for name, v in values.items():
        p = pairs(v, event, seed, weights.shape[1], stratum)
        found["pairs"] = int(p.count.sum())
        drawn[name], value[name] = held_out(p, weights), float(held_out(p)[0])
        of: dict[str, Any] = {
            "auc": estimate(value[name], drawn[name]).rounded(),
            "larger": bool(p.auc() >= 0.5),
        }
        if name != "loss":
            less = value[name] - value["loss"]
            of["less_loss"] = estimate(less, drawn[name] - drawn["loss"]).rounded()
        found["auc"][name] = of
    return found


def predictions(results: Results) -> list[dict[str, Any]]:
    """For each early step, event, and choice of the runs that are compared."""
    size, runs = results.size, results.runs
    weights = draws(size.seeds)
    found = []
    for share in EARLY:
        step, values = early_values(runs, share, size)
        for event, (counts, happens) in events(runs, step, size).items():
            for within, stratum in strata(runs).items():
                of = judged(
                    {name: v[counts] for name, v in values.items()},
                    happens[counts],
                    runs.seed[counts],
                    stratum[counts],
                    weights,
                )
                found.append({"step": step, "event": event, "within": within, **of})
    return found


def imminent(results: Results) -> list[dict[str, Any]]:
    """At every record: does the run diverge within the next steps, or never? Runs that diverge
    later than that are left out, and only values of the same record are compared."""
    size, runs = results.size, results.runs
    weights = draws(size.seeds)
    away = runs.diverges[:, None] - runs.steps[None, :]
    soon = (away > 0) & (away <= SOON * size.steps)
    at, record = np.nonzero(soon | np.isinf(away))
    found = []
    for within, stratum in strata(runs).items():
        of = judged(
            {name: v[at, record] for name, v in runs.series.items()},
            soon[at, record],
            runs.seed[at],
            stratum[at] * 100 + record,
            weights,
        )
        found.append({"step": None, "event": "diverges soon", "within": within, **of})
    return found


def calibration(results: Results, number: int = 100) -> dict[str, Any]:
    """How many intervals of measures that know nothing contain a half."""
    size, runs = results.size, results.runs
    weights = draws(size.seeds, 400)
    step = round(EARLY[-1] * size.steps)
    counts, happens = events(runs, step, size)["diverges"]
    stratum = strata(runs)["same rate"]
    inside = 0
    for k in range(number):
        v = np.random.default_rng([11, k]).random(len(counts))
        p = pairs(v[counts], happens[counts], runs.seed[counts], size.seeds, stratum[counts])
        of = estimate(float(held_out(p)[0]), held_out(p, weights))
        inside += bool(of.low <= 0.5 <= of.high)
    return {"number": number, "inside": inside}


def correlations(results: Results) -> list[dict[str, Any]]:
    """Spearman's ρ of an early measure and the gap, within a rate, among runs that do not
    diverge."""
    size, runs = results.size, results.runs
    weights = draws(size.seeds, FEWER_DRAWS)
    rate = strata(runs)["same rate"]
    found = []
    for share in EARLY:
        step, values = early_values(runs, share, size)
        use = events(runs, step, size)[f"gap above {GAP:g}"][0]
        of = {}
        for name, v in values.items():
            if name == "rate":
                continue
            a, b, at = v[use], runs.gap[use], rate[use]
            drawn = [rank_correlation(a, b, at, w[runs.seed[use]]) for w in weights]
            of[name] = estimate(rank_correlation(a, b, at), np.array(drawn)).rounded()
        found.append({"step": step, "runs": int(use.sum()), "rho": of})
    return found


def leads(results: Results) -> dict[str, Any]:
    """Of each measure as a monitor: steps from its alarm to the divergence, on held-out seeds, and
    the false alarms there."""
    size, runs = results.size, results.runs
    random = np.random.default_rng(0)
    counts = [
        np.bincount(random.integers(0, size.seeds, size.seeds), minlength=size.seeds)
        for _ in range(FEWER_DRAWS)
    ]
    found: dict[str, Any] = {}
    for within in WITHIN[:2]:
        for name, series in runs.series.items():
            w = warnings(
                series, runs.steps, runs.diverges, runs.seed, strata(runs)[within], FALSE_ALARMS
            )
            hit, n = w.leads[w.leads > 0], len(w.leads)
            drawn = []
            for count in counts:
                again = np.repeat(w.leads, count[w.lead_seed])
                again = again[again > 0]
                drawn.append(float(np.median(again)) if len(again) else np.nan)
            false, calm = int(w.false.sum()), len(w.false)
            found.setdefault(within, {})[name] = {
                "median": estimate(
                    float(np.median(hit)) if len(hit) else np.nan, np.array(drawn)
                ).rounded(1),
                "warned": [len(hit), n, *(round(v, 3) for v in wilson_interval(len(hit), n))],
                "false": [false, calm, *(round(v, 3) for v in wilson_interval(false, calm))],
                "left_out": w.left_out,
            }
    return found


def divergence_steps(runs: Runs) -> list[float]:
    """5%, 25%, 50%, 75%, 95% of the steps at which runs diverge."""
    at = runs.diverges[np.isfinite(runs.diverges)]
    return [float(v) for v in np.percentile(at, [5, 25, 50, 75, 95])] if len(at) else []


def t_row(values: NDArray[Any], digits: int = 4) -> list[float]:
    """Mean over seeds, half of its 95% interval (Student's t), and the least effect that a test at
    5% finds with 80% power."""
    n = len(values)
    error = float(np.std(values, ddof=1) / np.sqrt(n))
    t95, t80 = stats.t.ppf(0.975, n - 1), stats.t.ppf(0.8, n - 1)
    return [round(float(v), digits) for v in (np.mean(values), t95 * error, (t95 + t80) * error)]


def outcomes(results: Results) -> dict[str, Any]:
    """Of each setting: divergences by rate, and per seed the share of rates that diverge and the
    gap, less FP32's; of each factor the same less its other setting's."""
    size, runs = results.size, results.runs
    shape = (len(size.settings), len(size.rates), size.seeds)
    diverged = np.isfinite(runs.diverges).reshape(shape)
    share = diverged.mean(axis=1)  # (settings, seeds)
    loss = runs.loss.reshape(shape)
    plan = Plan(size.rates, range(size.seeds))
    studied = [
        Run(
            setting=size.settings[s],
            baseline="FP32",
            rate=rate,
            seed=seed,
            loss=float(loss[s, r, seed]),
            initial=float(results.raw[Cell("run", size.settings[s], rate)]["first_loss"][seed]),
            accuracy=float(results.raw[Cell("run", size.settings[s], rate)]["last_accuracy"][seed]),
            diverged=bool(diverged[s, r, seed]),
        )
        for s in range(shape[0])
        for r, rate in enumerate(size.rates)
        for seed in range(size.seeds)
    ]
    base = grid_of(studied, "FP32")
    rows: dict[str, Any] = {}
    for s, name in enumerate(size.settings):
        own = grid_of(studied, name)
        sensitive, gap = sensitivity(own, plan), mean_gap(own, base, plan)
        assert sensitive is not None
        assert gap is not None
        at_least = int(np.argmin(loss[s].mean(axis=1)))
        rows[name] = {
            "diverged": diverged[s].sum(axis=1).tolist(),
            "share_less_fp32": t_row(share[s] - share[0]),
            "loss": t_row(loss[s, at_least]),
            "best_rate": size.rates[at_least],
            "gap_at_best": t_row(loss[s].min(axis=0) - loss[0].min(axis=0)),
            "gap_first_rate": t_row(loss[s, 0] - loss[0, 0]),
            "mean_gap": [round(gap.mean, 4), round(gap.half, 4)],
            "sensitivity": [round(sensitive.mean, 4), round(sensitive.half, 4)],
        }
    factors = []
    for a, b in FACTORS:
        if a in size.settings and b in size.settings:
            i, j = size.settings.index(a), size.settings.index(b)
            factors.append(
                {
                    "of": a,
                    "less": b,
                    "share": t_row(share[i] - share[j]),
                    "loss": t_row((loss[i] - loss[j]).mean(axis=0)),
                }
            )
    return {"settings": rows, "factors": factors}


def critical_claim(results: Results) -> dict[str, Any]:
    """Critical sharpness beside λ_max: rank correlation over runs at the same step and rate, their
    quotient, and what it costs."""
    size, runs = results.size, results.runs
    weights = draws(size.seeds, FEWER_DRAWS // 2)
    rate = strata(runs)["same rate"]
    alive = runs.diverges[:, None] > runs.steps[None, :]
    found: dict[str, Any] = {}
    for name in ("critical", "critical-gradient"):
        of: dict[str, Any] = {}
        for group in ("FP32", "all settings"):
            use = alive & np.isfinite(runs.series[name]) & np.isfinite(runs.series["lambda-max"])
            if group == "FP32":
                use &= (runs.setting == size.settings.index("FP32"))[:, None]
            use[:, -1] = False
            at = np.nonzero(use)
            a, b = runs.series[name][at], runs.series["lambda-max"][at]
            stratum = rate[at[0]] * 100 + at[1]
            seed = runs.seed[at[0]]
            drawn = [rank_correlation(a, b, stratum, w[seed]) for w in weights]
            each = along_runs(
                np.where(use, runs.series[name], np.nan),
                np.where(use, runs.series["lambda-max"], np.nan),
            )
            known = ~np.isnan(each)
            weighted = weights[:, runs.seed[known]]
            means = (weighted @ each[known]) / np.maximum(weighted.sum(axis=1), 1)
            of[group] = {
                "along": estimate(
                    float(each[known].mean()) if known.any() else np.nan, means
                ).rounded(),
                "rho": estimate(rank_correlation(a, b, stratum), np.array(drawn)).rounded(),
                "quotient": [round(float(q), 3) for q in np.percentile(a / b, [5, 50, 95])],
                "pairs": len(a),
            }
        counted = np.concatenate(
            [
                found_cell[f"measures/{name}-evaluations"].ravel()
                for cell, found_cell in results.raw.items()
                if cell.kind == "run"
            ]
        )
        values = runs.series[name][:, :-1][alive[:, :-1]]
        of["evaluations"] = [
            float(q) for q in np.nanpercentile(counted[np.isfinite(counted)], [5, 50, 95])
        ]
        of["never_descends"] = round(float(np.isinf(values).mean()), 4)
        found[name] = of
    return found


def edges(results: Results) -> list[dict[str, Any]]:
    """λ_max·η/2, and λ_c·η/2, mean over the second half of the records; 1 is the edge."""
    size = results.size
    found = []
    for setting in size.edge_settings:
        for rate in size.edge_rates:
            raw = results.raw[Cell("edge", setting, rate)]
            half = len(raw["steps"]) // 2
            row: dict[str, Any] = {"setting": setting, "rate": rate}
            sound = np.isfinite(raw["loss"]).all(axis=1) & (raw["loss"][:, -1] < raw["loss"][:, 0])
            row["sound"] = int(sound.sum())
            for name in ("lambda-max", "critical-gradient"):
                of = raw[name][sound, half:] * rate / 2
                of = np.where(np.isfinite(of), of, np.nan)
                means = np.nanmean(of, axis=1) if of.size else np.array([])
                means = means[np.isfinite(means)]
                row[name] = t_row(means, 3) if len(means) > 1 else None
            found.append(row)
    return found


def curves(results: Results) -> dict[str, Any]:
    """Means over seeds of measures along training at one rate, for the notebook."""
    size, runs = results.size, results.runs
    rate = size.rates[len(size.rates) // 2]
    found: dict[str, Any] = {"rate": rate, "steps": runs.steps.tolist()}
    for s, name in enumerate(size.settings):
        at = (runs.setting == s) & (runs.rate == rate)
        with np.errstate(all="ignore"):
            found[name] = {
                m: [
                    round(float(v), 4) if np.isfinite(v) else None
                    for v in np.nanmedian(runs.series[m][at], axis=0)
                ]
                for m in ("loss", "lambda-max", "logit-sharpness", "critical-gradient")
            }
    return found


def layers(results: Results) -> dict[str, Any]:
    """λ_max of each layer's block, mean over seeds and half its interval, by record."""
    found = {}
    for cell, raw in results.raw.items():
        if cell.kind == "pictures":
            found[cell.setting] = {
                "rate": cell.rate,
                "steps": raw["steps"].tolist(),
                "layers": [
                    [t_row(raw["layers"][:, e, i], 3)[:2] for i in range(raw["layers"].shape[2])]
                    for e in range(len(raw["steps"]))
                ],
            }
    return found


def summarise(results: Results) -> dict[str, Any]:
    predicted, soon = predictions(results), imminent(results)
    return {
        "size": asdict(results.size),
        "outcomes": outcomes(results),
        "diverges_at": divergence_steps(results.runs),
        "predictions": predicted,
        "imminent": soon,
        "calibration": calibration(results),
        "correlations": correlations(results),
        "leads": leads(results),
        "critical": critical_claim(results),
        "edges": edges(results),
        "layers": layers(results),
        "curves": curves(results),
        "comparisons": sum(len(row["auc"]) for row in (*predicted, *soon)),
        "cell_seconds": round(results.seconds, 1),
    }
