"""What the cells of the study `sharpness` say: outcomes, predictions, claims, each with intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from halfulp.sharpness._cells import (
    EARLY,
    FACTORS,
    Cell,
    Size,
    cells,
    path_of,
    record_steps,
    training,
)
from halfulp.sharpness._predict import (
    Bools,
    Floats,
    Ints,
    divergence,
    draws,
    estimate,
    held_out,
    pairs,
    rank_correlation,
    warnings,
)
from halfulp.studies.statistics import Plan, Run, mean_gap, sensitivity, wilson_interval
from halfulp.studies.statistics import grid as grid_of

GAP = 0.1  # nats of held-out loss above FP32: the event "gap"
FALSE_ALARMS = 0.1
SETTING_DRAWS = 500  # for rank correlations, which are dearer than AUCs
MEASURES = (
    "loss",
    "gradient-norm",
    "gradient-error",
    "max-logit",
    "log-z",
    "logit-sharpness",
    "sam",
    "critical",
    "critical-gradient",
    "box",
    "lambda-max",
    "trace",
)
# Beside them, as what a measure has to beat or as a check of the judge.
OTHERS = ("rate", "rate × lambda-max", "noise")
WITHIN = ("all runs", "same rate", "same rate and setting")


@dataclass
class Runs:
    """Every run of the study, one row each."""

    setting: NDArray[np.int64]  # index into size.settings
    rate: Floats
    seed: Ints
    diverges: Floats  # step, inf where it does not
    loss: Floats  # held out, at the end, nats; counts as min(loss, initial), initial if diverged
    gap: Floats  # to FP32 with the same seed and rate
    twin: Bools  # that FP32 run did not diverge
    series: dict[str, Floats]  # (runs, records)
    steps: NDArray[np.int64]


@dataclass
class Results:
    """The files of a study, read."""

    size: Size
    raw: dict[Cell, dict[str, NDArray[Any]]]
    runs: Runs
    seconds: float


def load(path: Path) -> tuple[dict[str, NDArray[Any]], float]:
    found: dict[str, NDArray[Any]] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(keep)
        return found, float(file.attrs["seconds"])


def read(folder: Path, size: Size) -> Results:
    raw, seconds = {}, 0.0
    for cell in cells(size):
        raw[cell], took = load(path_of(cell, size, folder))
        seconds += took
    return Results(size, raw, table(size, raw), seconds)


def divergence_of(found: dict[str, NDArray[Any]]) -> Floats:
    losses = found["train_loss"]
    initial = found["measures/loss"][:, 0]
    return divergence(losses, initial, patience=max(2, losses.shape[1] // 15))


def table(size: Size, raw: dict[Cell, dict[str, NDArray[Any]]]) -> Runs:
    rows: dict[str, list[Any]] = {k: [] for k in ("setting", "rate", "seed", "diverges", "loss")}
    series: dict[str, list[Any]] = {name: [] for name in (*MEASURES, *OTHERS)}
    steps = np.array(record_steps(size.steps))
    for s, setting in enumerate(size.settings):
        for rate in size.rates:
            cell = Cell("run", setting, rate)
            found = raw[cell]
            t = training(cell, size)
            diverges = divergence_of(found)
            last, first = found["last_loss"], found["first_loss"]
            lost = np.isfinite(diverges) | ~np.isfinite(last)
            rows["loss"].append(np.where(lost, first, np.fmin(last, first)))
            rows["diverges"].append(diverges)
            rows["setting"].append(np.full(size.seeds, s))
            rows["rate"].append(np.full(size.seeds, rate))
            rows["seed"].append(np.arange(size.seeds))
            now = np.array([t.rate_at(min(int(k), size.steps - 1)) for k in steps])
            for name in MEASURES:
                series[name].append(found[f"measures/{name}"])
            series["rate"].append(np.broadcast_to(now, (size.seeds, len(steps))))
            series["rate × lambda-max"].append(found["measures/lambda-max"] * now)
    of = {name: np.concatenate(v) for name, v in rows.items()}
    whole = {name: np.concatenate(v) for name, v in series.items() if v}
    whole["noise"] = np.random.default_rng(7).random(whole["loss"].shape)
    shape = (len(size.settings), len(size.rates), size.seeds)
    base = of["loss"].reshape(shape)[size.settings.index("FP32")]
    calm = np.isinf(of["diverges"]).reshape(shape)[size.settings.index("FP32")]
    return Runs(
        of["setting"],
        of["rate"],
        of["seed"],
        of["diverges"],
        of["loss"],
        (of["loss"].reshape(shape) - base).ravel(),
        np.broadcast_to(calm, shape).ravel(),
        whole,
        steps,
    )


def strata(runs: Runs) -> dict[str, NDArray[Any]]:
    rate = np.unique(runs.rate, return_inverse=True)[1]
    return dict(
        zip(WITHIN, (np.zeros_like(rate), rate, rate * 1000 + runs.setting), strict=True)
    )


def events(runs: Runs, early: int, size: Size) -> dict[str, tuple[Bools, Bools]]:
    """By name: which runs count, and which of them have the event. What has diverged by the early
    step is known then, not predicted."""
    open_ = runs.diverges > early
    calm = np.isinf(runs.diverges)
    other = runs.setting != size.settings.index("FP32")
    return {
        "diverges": (open_, ~calm),
        f"gap above {GAP:g}": (calm & runs.twin & other, runs.gap > GAP),
    }


def early_values(runs: Runs, share: float, size: Size) -> tuple[int, dict[str, Floats]]:
    step = round(share * size.steps)
    at = int(np.flatnonzero(runs.steps == step)[0])
    return step, {name: v[:, at] for name, v in runs.series.items()}


def predictions(results: Results) -> list[dict[str, Any]]:
    """For each early step, event, and choice of the runs that are compared: the AUC of each measure
    on held-out seeds, its interval, and how much it is above the loss's."""
    size, runs = results.size, results.runs
    weights = draws(size.seeds)
    found = []
    for share in EARLY:
        step, values = early_values(runs, share, size)
        for event, (counts, happens) in events(runs, step, size).items():
            for within, stratum in strata(runs).items():
                row: dict[str, Any] = {
                    "step": step,
                    "event": event,
                    "within": within,
                    "runs": int(counts.sum()),
                    "events": int((counts & happens).sum()),
                    "auc": {},
                }
                drawn: dict[str, Floats] = {}
                for name, v in values.items():
                    p = pairs(
                        v[counts], happens[counts], runs.seed[counts], size.seeds, stratum[counts]
                    )
                    row["pairs"] = int(p.count.sum())
                    drawn[name] = np.array([held_out(p, w) for w in weights])
                    value = held_out(p)
                    row["auc"][name] = {
                        "auc": estimate(value, drawn[name]).rounded(),
                        "larger": bool(p.auc() >= 0.5),
                    }
                for name in row["auc"]:
                    over = row["auc"][name]["auc"][0], row["auc"]["loss"]["auc"][0]
                    if name != "loss" and None not in over:
                        less = estimate(over[0] - over[1], drawn[name] - drawn["loss"])
                        row["auc"][name]["less_loss"] = less.rounded()
                found.append(row)
    return found


def correlations(results: Results) -> list[dict[str, Any]]:
    """Spearman's ρ of an early measure and the gap, within a rate, among runs that do not
    diverge."""
    size, runs = results.size, results.runs
    weights = draws(size.seeds, SETTING_DRAWS)
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
    found: dict[str, Any] = {}
    for name, series in runs.series.items():
        w = warnings(series, runs.steps, runs.diverges, runs.seed, FALSE_ALARMS)
        hit = w.leads > 0
        drawn = []
        for _ in range(SETTING_DRAWS):
            count = np.bincount(random.integers(0, size.seeds, size.seeds), minlength=size.seeds)
            again = np.repeat(w.leads, count[w.lead_seed])
            drawn.append(float(np.median(again)) if len(again) else np.nan)
        n, calm = len(w.leads), len(w.false)
        found[name] = {
            "median": estimate(float(np.median(w.leads)) if n else np.nan, np.array(drawn)).rounded(1),
            "warned": [int(hit.sum()), n, *(round(v, 3) for v in wilson_interval(int(hit.sum()), n))],
            "false": [
                int(w.false.sum()),
                calm,
                *(round(v, 3) for v in wilson_interval(int(w.false.sum()), calm)),
            ],
        }
    return found


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
            accuracy=float(
                results.raw[Cell("run", size.settings[s], rate)]["last_accuracy"][seed]
            ),
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
    weights = draws(size.seeds, 200)
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
            of[group] = {
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
    predicted = predictions(results)
    return {
        "size": asdict(results.size),
        "outcomes": outcomes(results),
        "predictions": predicted,
        "correlations": correlations(results),
        "leads": leads(results),
        "critical": critical_claim(results),
        "edges": edges(results),
        "layers": layers(results),
        "curves": curves(results),
        "comparisons": sum(len(row["auc"]) for row in predicted),
        "cell_seconds": round(results.seconds, 1),
    }
