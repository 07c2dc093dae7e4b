"""The study `information`: planes of small networks in many formats, exact and by estimators."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import stats

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


def apart(task: tuple[Cell, Size, str]) -> tuple[str, float]:
    """run_cell in a Python of its own, on one thread: multiprocessing would run the caller's script
    again."""
    cell, size, folder = task
    started = time.perf_counter()
    code = "import sys; from halfulp.information import _study; _study.from_json(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([asdict(cell), asdict(size), folder])],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "HALFULP_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(f"{cell.label}: {said[-1]}")
    return cell.label, time.perf_counter() - started


def from_json(text: str) -> None:
    cell, size, folder = json.loads(text)
    for key in ("formats", "activations"):
        size[key] = tuple(size[key])
    run_cell(Cell(**cell), Size(**size), Path(folder))


def is_finished(folder: Path, cell: Cell, size: Size) -> bool:
    path = folder / f"{cell.label}.h5"
    if not path.is_file():
        return False
    with h5py.File(path) as file:
        return bool(file.attrs.get("content") == content(cell, size))


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

    size = SIZES[size_name]
    folder = Path("results") / f"{NAME}-{size_name}" if out is None else Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    todo = [c for c in cells(size) if not is_finished(folder, c, size)]
    started = time.perf_counter()
    with ThreadPoolExecutor(jobs or min(2, os.cpu_count() or 1)) as pool:
        tasks = [(cell, size, str(folder)) for cell in todo]
        for label, seconds in pool.map(apart, tasks):
            if progress:
                print(f"{label}  {seconds:.1f} s", file=sys.stderr, flush=True)
    results = Results(folder, size)
    summary = results.summary()
    kept = folder / "summary.json"
    if todo:
        summary["seconds"] = round(time.perf_counter() - started, 1)
    elif kept.is_file():
        summary["seconds"] = json.loads(kept.read_text(encoding="utf-8")).get("seconds")
    kept.write_text(json.dumps(summary, separators=(",", ":")) + "\n", encoding="utf-8")
    write_figures(results, folder)
    if page is not None:
        write_page(results, Path(page), f"halfulp study {NAME} --{size_name}", summary)
    return folder


def estimate_cost(size_name: str) -> dict[str, Any]:
    """Cells, seeds, and seconds on two processors, from measured ones: 2.7 ms a step of ten
    networks of one thread, 10 ms for all methods on one layer of one network."""
    size = SIZES[size_name]
    number = len(cells(size))
    train_seconds = 6 * size.epochs * 2.7e-3 * size.seeds / 10
    measure_seconds = size.records * size.seeds * 6 * 10e-3
    return {
        "cells": number,
        "seeds": size.seeds,
        "seconds": number * (train_seconds + measure_seconds) / 2,
    }


def interval(values: NDArray[Any]) -> tuple[float, float, float]:
    """Mean over seeds, half of its 95% interval (Student's t), and the least effect that a test at
    5% finds with 80% power."""
    n = len(values)
    error = float(np.std(values, ddof=1) / np.sqrt(n))
    t95, t80 = stats.t.ppf(0.975, n - 1), stats.t.ppf(0.8, n - 1)
    return float(np.mean(values)), float(t95 * error), float((t95 + t80) * error)


class Results:
    """The files of a study, read."""

    def __init__(self, folder: Path, size: Size):
        self.size = size
        self.cells = cells(size)
        self.information: dict[str, dict[str, NDArray[Any]]] = {}
        self.curves: dict[str, dict[str, NDArray[Any]]] = {}
        for cell in self.cells:
            with h5py.File(folder / f"{cell.label}.h5") as file:
                self.epochs = file["epochs"][()]
                self.information[cell.label] = {m: file["information"][m][()] for m in METHODS}
                self.curves[cell.label] = {
                    k: file[k][()]
                    for k in ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
                }

    def compression(self, cell: Cell, method: str) -> NDArray[Any]:
        """(seeds, layers) bits: the largest I(X;T) of all recorded epochs less the last one."""
        of = self.information[cell.label][method][..., 0]
        return of.max(axis=1) - of[:, -1]

    def fitted(self, cell: Cell) -> NDArray[np.bool_]:
        """(seeds,): above what k alone gives on the training rows, 87.5%, by 2.5%."""
        return self.curves[cell.label]["train_accuracy"][:, -1] > 0.9

    def reference(self, cell: Cell) -> Cell:
        return Cell("FP32", "nearest", cell.activation)

    def correlation(self, activation: str, layer: int, method: str) -> tuple[float, float, float]:
        """Of compression and accuracy on unseen rows: Spearman's over the seeds of each cell, mean
        over cells; 95% by drawing seeds again, the same ones in every cell."""
        chosen = [c for c in self.cells if c.activation == activation]
        a = np.array([self.compression(c, method)[:, layer] for c in chosen])
        b = np.array([self.curves[c.label]["test_accuracy"][:, -1] for c in chosen])
        random = np.random.default_rng(0)
        n = a.shape[1]

        def mean(at: NDArray[Any]) -> float:
            ranks = [stats.rankdata(v[:, at], axis=1) for v in (a, b)]
            ra, rb = (r - r.mean(axis=1, keepdims=True) for r in ranks)
            scale = np.sqrt((ra**2).sum(axis=1) * (rb**2).sum(axis=1))
            use = scale > 0
            return float(np.mean((ra * rb).sum(axis=1)[use] / scale[use])) if use.any() else np.nan

        drawn = [mean(random.integers(0, n, n)) for _ in range(500)]
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        return mean(np.arange(n)), float(low), float(high)

    def summary(self) -> dict[str, Any]:
        rows = []
        for cell in self.cells:
            base = self.reference(cell)
            row: dict[str, Any] = {
                "format": cell.name,
                "rounding": cell.rounding,
                "activation": cell.activation,
                "fitted": int(self.fitted(cell).sum()),
            }
            for key in ("train_accuracy", "test_accuracy"):
                row[key] = [round(v, 4) for v in interval(self.curves[cell.label][key][:, -1])]
            for method in METHODS:
                of = self.information[cell.label][method]
                compression = self.compression(cell, method)
                paired = compression - self.compression(base, method)
                row[method] = {
                    "first": np.round(of[:, 0].mean(axis=0), 3).tolist(),
                    "last": np.round(of[:, -1].mean(axis=0), 3).tolist(),
                    "compression": [
                        [round(v, 3) for v in interval(compression[:, i])]
                        for i in range(compression.shape[1])
                    ],
                    "less_fp32": [
                        [round(v, 3) for v in interval(paired[:, i])]
                        for i in range(paired.shape[1])
                    ],
                }
            rows.append(row)
        layers = range(self.information[self.cells[0].label]["exact"].shape[2])
        correlations = {
            activation: {
                method: [
                    [round(v, 3) for v in self.correlation(activation, i, method)] for i in layers
                ]
                for method in ("exact", "binning", "kde")
            }
            for activation in self.size.activations
        }
        return {"size": asdict(self.size), "cells": rows, "correlations": correlations}
