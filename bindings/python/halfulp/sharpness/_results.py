"""The cells of the study `sharpness`, read, and its runs as one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from halfulp.sharpness._cells import Cell, Size, cells, path_of, record_steps, training
from halfulp.sharpness._predict import Bools, Floats, Ints, divergence

GAP = 0.1  # nats of held-out loss above FP32: the event "gap"
FALSE_ALARMS = 0.1
FEWER_DRAWS = 200  # for rank correlations, which are dearer than AUCs
SOON = 0.15  # share of a run: how near a divergence is that is imminent
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
    return divergence(losses, initial, patience=patience_of(losses.shape[1]))


def patience_of(steps: int) -> int:
    """How many steps a loss has to stay high for a run to have diverged."""
    return max(2, steps // 15)


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
    whole["noise"] = np.random.default_rng(7).random(whole["lambda-max"].shape)
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
    return dict(zip(WITHIN, (np.zeros_like(rate), rate, rate * 1000 + runs.setting), strict=True))


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
