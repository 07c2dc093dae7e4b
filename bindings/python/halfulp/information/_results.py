"""The files of a study of the information plane, read, and their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from halfulp.information._estimators import MOST_TIES
from halfulp.information._measure import METHODS, ON_A_SUBSET, REFUSING
from halfulp.information._study import CURVES, Cell, Size, cells

Array = NDArray[Any]
COMPARED = ("exact", "binning", "bin-size", "ebab", "exact-256", "kde", "akde", "noise")
ESTIMATES = tuple(m for m in METHODS if not m.startswith("exact"))
CORRELATED = ("exact", "binning", "kde")
PERMUTATIONS = 9999
ROWS = 4096


def interval(values: Array) -> tuple[float, float, float]:
    """Mean over seeds, half of its 95% interval (Student's t), and the least effect that a test at
    5% finds with 80% power."""
    n = len(values)
    error = float(np.std(values, ddof=1) / np.sqrt(n))
    t95, t80 = stats.t.ppf(0.975, n - 1), stats.t.ppf(0.8, n - 1)
    return float(np.mean(values)), float(t95 * error), float((t95 + t80) * error)


def of_pairs(differences: Array) -> float:
    """p of Student's paired test, two-sided; 1 where all differences are 0."""
    if not differences.any():
        return 1.0
    if np.ptp(differences) == 0:
        return 0.0
    return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted for their number (Holm 1979): the i-th least times n − i + 1, made monotone."""
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    out = np.empty(len(p))
    out[order] = adjusted
    return [float(v) for v in out]


def ranks(values: Array) -> Array:
    """Along the last axis, less their mean and of length 1; 0 where all are equal."""
    r = stats.rankdata(values, axis=-1)
    r -= r.mean(axis=-1, keepdims=True)
    length = np.sqrt((r * r).sum(axis=-1, keepdims=True))
    return r / np.where(length > 0, length, 1)


def digits(values: Any, places: int = 3) -> Any:
    return np.round(np.asarray(values, float), places).tolist()


class Results:
    def __init__(self, folder: Path, size: Size):
        self.size = size
        self.cells = cells(size)
        self.information: dict[str, dict[str, Array]] = {}
        self.curves: dict[str, dict[str, Array]] = {}
        self.top_bin: dict[str, Array] = {}
        self.distinct: dict[str, Array] = {}
        for cell in self.cells:
            with h5py.File(folder / f"{cell.label}.h5") as file:
                self.epochs = file["epochs"][()]
                of = file["information"]
                self.information[cell.label] = {m: of[m][()].astype(float) for m in METHODS}
                self.curves[cell.label] = {k: file[k][()] for k in CURVES}
                self.top_bin[cell.label] = file["top_bin"][()]
                self.distinct[cell.label] = file["distinct"][()]
        self.layers = self.information[self.cells[0].label]["exact"].shape[2]

    def compression(self, cell: Cell, method: str) -> Array:
        """(seeds, layers) bits: the largest I(X;T) of all recorded epochs less the last one."""
        of = self.information[cell.label][method][..., 0]
        return of.max(axis=1) - of[:, -1]

    def fitted(self, cell: Cell) -> NDArray[np.bool_]:
        """(seeds,): above what k alone gives on the training rows, 87.5%, by 2.5%."""
        return self.curves[cell.label]["train_accuracy"][:, -1] > 0.9

    def reference(self, cell: Cell) -> Cell:
        return Cell("FP32", "nearest", cell.activation)

    def error(self, cell: Cell, method: str) -> dict[str, Any]:
        """Of I(X;T) and I(T;Y) against the count of the same rows: mean over records and layers,
        then [mean, half interval] over seeds; the mean magnitude of I(X;T)'s; and, of methods that
        refuse, the share of layers refused. None where fewer than three seeds have a value."""
        of = self.information[cell.label]
        error = of[method] - of["exact-256" if method in ON_A_SUBSET else "exact"]
        if method in REFUSING:
            error = error[:, [0, -1]]
        known = np.isfinite(error[..., 0])
        out: dict[str, Any] = {}
        for key, part in (("i_xt", error[..., 0]), ("i_ty", error[..., 1])):
            asked = np.isfinite(part)
            some = asked.any(axis=(1, 2))
            sums = np.where(asked, part, 0).sum(axis=(1, 2))[some]
            means = sums / asked.sum(axis=(1, 2))[some]
            out[key] = digits(interval(means)[:2]) if some.sum() > 2 else None
        out["magnitude"] = digits(np.abs(error[..., 0][known]).mean()) if known.any() else None
        if method in REFUSING:
            out["refused"] = digits(1 - known.mean())
        return out

    def correlation(
        self, activation: str, layer: int, method: str
    ) -> tuple[float, float, float, float]:
        """Of compression and accuracy on unseen rows: Spearman's over the seeds of each cell, mean
        over cells; 95% by drawing seeds again, the same ones in every cell; p by permuting one of
        the two over seeds, likewise."""
        chosen = [c for c in self.cells if c.activation == activation]
        a = np.array([self.compression(c, method)[:, layer] for c in chosen])
        b = np.array([self.curves[c.label]["test_accuracy"][:, -1] for c in chosen])
        random = np.random.default_rng(0)
        n = a.shape[1]

        def mean(at: Array) -> Array:
            """For each row of at, seeds drawn."""
            of_a, of_b = ranks(a[:, at]), ranks(b[:, at])
            use = of_a.any(axis=-1) & of_b.any(axis=-1)
            total = (of_a * of_b).sum(axis=-1).sum(axis=0, where=use)
            return np.where(use.any(axis=0), total / np.maximum(use.sum(axis=0), 1), np.nan)

        drawn = mean(random.integers(0, n, (500, n)))
        found = float(mean(np.arange(n)[None])[0])
        if np.isnan(found):
            return found, np.nan, np.nan, 1.0
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        of_a, of_b = ranks(a), ranks(b)
        use = of_a.any(axis=1) & of_b.any(axis=1)
        table = of_a[use].T @ of_b[use] / use.sum()  # of seed i's rank by seed j's
        orders = random.permuted(np.tile(np.arange(n), (PERMUTATIONS, 1)), axis=1)
        permuted = table[np.arange(n), orders].sum(axis=1)
        beyond = int(np.sum(np.abs(permuted) >= abs(found) - 1e-12))
        return found, float(low), float(high), (beyond + 1) / (PERMUTATIONS + 1)

    def row(self, cell: Cell) -> dict[str, Any]:
        row: dict[str, Any] = {
            "format": cell.name,
            "rounding": cell.rounding,
            "activation": cell.activation,
            "fitted": int(self.fitted(cell).sum()),
        }
        for key in ("train_accuracy", "test_accuracy"):
            row[key] = digits(interval(self.curves[cell.label][key][:, -1]), 4)
        for method in COMPARED:
            of = self.information[cell.label][method]
            compression = self.compression(cell, method)
            row[method] = {
                "first": digits(of[:, 0].mean(axis=0)),
                "last": digits(of[:, -1].mean(axis=0)),
                "compression": [digits(interval(c)) for c in compression.T],
            }
        row["errors"] = {method: self.error(cell, method) for method in ESTIMATES}
        share = self.distinct[cell.label][:, [0, -1]] / ROWS
        row["repeating"] = digits(np.mean(1 - share > MOST_TIES))  # layers, of all rows
        of = self.information[cell.label]
        artefact = of["binning"][:, -1, :, 0] - of["binning-closed"][:, -1, :, 0]
        row["top_bin"] = {
            "rows": digits(self.top_bin[cell.label][:, -1, :, 1].mean(axis=0)),
            "values": digits(self.top_bin[cell.label][:, -1, :, 0].mean(axis=0)),
            "bits": [digits(interval(a)[:2]) for a in artefact.T],
        }
        return row

    def compared(self, cell: Cell, with_cell: Cell) -> list[dict[str, Any]]:
        """Counted compression less another cell's, paired by seed, for each layer."""
        difference = self.compression(cell, "exact") - self.compression(with_cell, "exact")
        return [{"less": digits(interval(d)), "p": of_pairs(d)} for d in difference.T]

    def family(self, pairs: list[tuple[Cell, Cell]]) -> dict[str, list[dict[str, Any]]]:
        """By the first one's label, p adjusted for all pairs and layers together."""
        found = {a.label: self.compared(a, b) for a, b in pairs}
        flat = [of for layers in found.values() for of in layers]
        for of, adjusted in zip(flat, holm([of["p"] for of in flat]), strict=True):
            of["p"], of["holm"] = (float(f"{p:.3g}") for p in (of["p"], adjusted))
        return found

    def correlations(self) -> dict[str, dict[str, list[list[float]]]]:
        """By activation and method, for each layer: ρ, its interval, p, and p adjusted for all."""
        found = {
            activation: {
                method: [list(self.correlation(activation, i, method)) for i in range(self.layers)]
                for method in CORRELATED
            }
            for activation in self.size.activations
        }
        flat = [of for methods in found.values() for layers in methods.values() for of in layers]
        for of, adjusted in zip(flat, holm([of[3] for of in flat]), strict=True):
            of[:] = [*digits(of[:3]), *digits([of[3], adjusted], 4)]
        return found

    def summary(self) -> dict[str, Any]:
        others = [c for c in self.cells if (c.name, c.rounding) != ("FP32", "nearest")]
        stochastic = [c for c in self.cells if c.rounding == "stochastic"]
        return {
            "size": asdict(self.size),
            "epochs": [int(e) for e in self.epochs],
            "cells": [self.row(cell) for cell in self.cells],
            "less_fp32": self.family([(c, self.reference(c)) for c in others]),
            "less_nearest": self.family(
                [(c, Cell(c.name, "nearest", c.activation)) for c in stochastic]
            ),
            "correlations": self.correlations(),
        }
