"""The study `information`: planes of small networks in many formats, exact and by estimators."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from halfulp._workers import run_tasks
from halfulp.information._measure import METHODS, OPTIONS, SUBSET, measure
from halfulp.information._network import Training, train

NAME = "information"
QUESTION = "Does the compression of a layer depend on its precision, or on the estimator?"
FORMATS = {
    "FP32": "binary32",
    "BF16": "bfloat16",
    "E8M5": "fp_e8p6b127_s_ieee_ieee",
    "E8M4": "fp_e8p5b127_s_ieee_ieee",
    "E8M3": "fp_e8p4b127_s_ieee_ieee",
    "E8M2": "fp_e8p3b127_s_ieee_ieee",
    "E8M1": "fp_e8p2b127_s_ieee_ieee",
    "E4M3": "float8_e4m3fn",
    "E5M2": "float8_e5m2",
    "E2M1": "float4_e2m1fn",
}
ACTIVATIONS = ("tanh", "relu", "leaky-relu")
ROUNDINGS = {"nearest": "nearest-even", "stochastic": "stochastic"}
CURVES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")


@dataclass(frozen=True)
class Size:
    formats: tuple[str, ...]
    activations: tuple[str, ...]
    seeds: int
    epochs: int
    records: int


SIZES = {
    "quick": Size(tuple(n for n in FORMATS if n != "E8M4"), ACTIVATIONS, 10, epochs=150, records=7),
    "full": Size(tuple(FORMATS), ACTIVATIONS, 30, epochs=2000, records=20),
}


@dataclass(frozen=True)
class Cell:
    """All seeds of one format, rounding and activation."""

    name: str
    rounding: str
    activation: str

    @property
    def label(self) -> str:
        return f"{self.name}-{self.rounding}-{self.activation}"


def cells(size: Size) -> list[Cell]:
    return [
        Cell(name, rounding, activation)
        for activation in size.activations
        for name in size.formats
        for rounding in ROUNDINGS
        if (name, rounding) != ("FP32", "stochastic")
    ]


def training_of(cell: Cell, size: Size) -> Training:
    return Training(
        FORMATS[cell.name],
        ROUNDINGS[cell.rounding],
        cell.activation,
        epochs=size.epochs,
        records=size.records,
    )


def content(cell: Cell, size: Size) -> str:
    """All that decides a cell's results; a file with another one is made anew."""
    return json.dumps([asdict(training_of(cell, size)), size.seeds, METHODS, OPTIONS, SUBSET])


def run_cell(cell: Cell, size: Size, folder: Path) -> None:
    """Trains and measures; writes one HDF5 file."""
    training = training_of(cell, size)
    run = train(training, list(range(size.seeds)))
    path = folder / f"{cell.label}.h5"
    part = path.with_suffix(".part")
    with h5py.File(part, "w") as file:
        for key, value in asdict(training).items():
            file.attrs[key] = value
        file.attrs["content"] = content(cell, size)
        file["epochs"] = run.epochs
        for key in CURVES:
            file[key] = np.stack(getattr(run, key), axis=1)  # (seeds, epochs)
        for name, values in measure(run, cell.activation).items():
            file[name] = values
    part.replace(path)


def run_task(cell: dict[str, Any], size: dict[str, Any], folder: str) -> None:
    size = {k: tuple(v) if isinstance(v, list) else v for k, v in size.items()}
    run_cell(Cell(**cell), Size(**size), Path(folder))


def is_finished(folder: Path, cell: Cell, size: Size) -> bool:
    path = folder / f"{cell.label}.h5"
    if not path.is_file():
        return False
    with h5py.File(path) as file:
        return bool(file.attrs.get("content") == content(cell, size))


def control(size: Size) -> None:
    """binary32 through the path of emulation, every operand rounded, must be binary32 without."""
    for activation in size.activations:
        runs = [
            train(Training(name, activation=activation, epochs=5, records=2), [0, 1])
            for name in ("binary32", "fp_e8p24b127_s_ieee_ieee")
        ]
        for a, b in zip(*(run.layers[-1] for run in runs), strict=True):
            if a.tobytes() != b.tobytes():
                raise RuntimeError(
                    f"control failed: {activation} networks in binary32 differ where their "
                    "operands are rounded to binary32, which changes nothing; report this"
                )


def run_study(
    size_name: str = "quick",
    out: str | Path | None = None,
    *,
    jobs: int | None = None,
    page: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """What is missing of the study; figures, summary.json and the page. Returns its folder."""
    from halfulp.information._page import write_figures, write_page
    from halfulp.information._results import Results

    size = SIZES[size_name]
    folder = Path("results") / f"{NAME}-{size_name}" if out is None else Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    control(size)
    todo = [c for c in cells(size) if not is_finished(folder, c, size)]
    started = time.perf_counter()

    def say(text: str) -> None:
        if progress:
            print(text, file=sys.stderr, flush=True)

    tasks = [(c.label, [asdict(c), asdict(size), str(folder)]) for c in todo]
    run_tasks(__name__, tasks, jobs or min(2, os.cpu_count() or 1), say)
    results = Results(folder, size)
    summary = results.summary()
    kept = folder / "summary.json"
    if len(todo) == len(results.cells):
        summary["seconds"] = round(time.perf_counter() - started, 1)
    elif kept.is_file():
        summary["seconds"] = json.loads(kept.read_text(encoding="utf-8")).get("seconds")
    kept.write_text(json.dumps(summary, separators=(",", ":")) + "\n", encoding="utf-8")
    write_figures(results, summary, folder)
    if page is not None:
        write_page(results, Path(page), f"halfulp study {NAME} --{size_name}", summary, folder)
    return folder


def estimate_cost(size_name: str) -> dict[str, Any]:
    """Cells, seeds, and seconds on two processors, from measured ones of one thread: 0.24 ms a step
    of one network, 4.5 ms for all methods on one layer of one, 1 s for a cell's start."""
    size = SIZES[size_name]
    number = len(cells(size))
    train_seconds = 6 * size.epochs * size.seeds * 0.24e-3
    measure_seconds = size.records * size.seeds * 6 * 4.5e-3
    return {
        "cells": number,
        "seeds": size.seeds,
        "seconds": number * (train_seconds + measure_seconds + 1) / 2,
    }
