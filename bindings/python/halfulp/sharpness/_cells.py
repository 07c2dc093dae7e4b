"""The study `sharpness`: its sizes, its cells, and what a cell computes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from halfulp.sharpness._data import digits
from halfulp.sharpness._measures import Smooth, critical, measure, top_eigenvalues
from halfulp.sharpness._training import Labels, Stack, Training, objective

NAME = "sharpness"
QUESTION = (
    "How do sharpness measures move when training in a format, and which of them tells early what "
    "a run will lose, or that it will diverge?"
)
RECIPE = 1  # raised by whatever changes what a cell computes
HALF = float(np.log(2)) / 2  # truncation shrinks by ln 2 · 2^-(M+1) where significands are uniform


def e8(m: int) -> str:
    return f"fp_e8p{m + 1}b127_s_ieee_ieee"


# name: format, rounding, shrink
SETTINGS: dict[str, tuple[str, str, float]] = {
    "FP32": ("binary32", "nearest-even", 0.0),
    "FP32 shrunk": ("binary32", "nearest-even", HALF * 2**-3),
    "BF16": ("bfloat16", "nearest-even", 0.0),
    **{
        f"E8M{m}{suffix}": (e8(m), rounding, 0.0)
        for m in (5, 4, 3, 2, 1)
        for suffix, rounding in (
            ("", "nearest-even"),
            (" truncated", "toward-zero"),
            (" stochastic", "stochastic"),
        )
    },
    **{
        f"{name}{suffix}": (of, rounding, 0.0)
        for name, of in (("E4M3", "float8_e4m3fn"), ("E5M2", "float8_e5m2"))
        for suffix, rounding in (("", "nearest-even"), (" stochastic", "stochastic"))
    },
}
# What is compared with what, paired by seed: the factor of rounding, and whether shrinking is it.
FACTORS = (
    *((f"E8M{m} truncated", f"E8M{m}") for m in (5, 3, 2)),
    *((f"E8M{m} stochastic", f"E8M{m}") for m in (3, 2)),
    ("E8M3 truncated", "E8M5 truncated"),
    ("FP32 shrunk", "FP32"),
    ("E8M3 truncated", "FP32 shrunk"),
    ("E4M3", "E8M3"),  # the same significands: what the narrow range and its saturation do
    ("E5M2", "E8M2"),
)


@dataclass(frozen=True)
class Size:
    settings: tuple[str, ...]
    rates: tuple[float, ...]
    seeds: int
    steps: int
    edge_settings: tuple[str, ...]
    edge_rates: tuple[float, ...]
    edge_seeds: int
    edge_steps: int
    rows: int = 128  # of the training part, on which is measured


SIZES = {
    "quick": Size(
        (
            *("FP32", "FP32 shrunk", "BF16", "E8M5", "E8M5 truncated"),
            *("E8M3", "E8M3 truncated", "E8M3 stochastic"),
            *("E8M2", "E8M2 truncated", "E8M2 stochastic"),
            *("E4M3", "E4M3 stochastic", "E5M2", "E5M2 stochastic"),
        ),
        (0.1, 0.3, 0.5, 0.65, 0.8, 1.2),
        seeds=12,
        steps=300,
        edge_settings=("FP32", "BF16", "E8M3", "E8M2", "E5M2"),
        edge_rates=(0.06, 0.075, 0.09, 0.12, 0.15),
        edge_seeds=4,
        edge_steps=400,
    ),
    "full": Size(
        tuple(SETTINGS),
        (0.05, 0.1, 0.2, 0.3, 0.5, 0.65, 0.8, 1.2),
        seeds=24,
        steps=2000,
        edge_settings=("FP32", "BF16", "E8M5", "E8M3", "E8M3 truncated", "E8M2", "E4M3", "E5M2"),
        edge_rates=(0.045, 0.06, 0.075, 0.09, 0.12, 0.15),
        edge_seeds=20,
        edge_steps=3000,
        rows=512,
    ),
}
# When is measured, as shares of a run: dense while the rate rises.
RECORDS = (0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1)
EARLY = (0.1, 0.25)  # where is predicted from
EDGE_RECORDS = (0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1)
SHOWN = ("FP32", "E8M3 truncated", "E4M3", "E5M2")  # layers, spectra
SHOWN_RATE = 0.3


@dataclass(frozen=True)
class Cell:
    """All seeds of one setting at one rate. kind: "run", "edge" (full batches, squared loss) or
    "pictures" (layers, spectra, slices)."""

    kind: str
    setting: str
    rate: float

    @property
    def label(self) -> str:
        return f"{self.kind} {self.setting} {self.rate:g}"


def cells(size: Size) -> list[Cell]:
    return [
        *(Cell("edge", s, r) for s in size.edge_settings for r in size.edge_rates),
        *(Cell("pictures", s, SHOWN_RATE) for s in SHOWN if s in size.settings),
        *(Cell("run", s, r) for s in size.settings for r in size.rates),
    ]


def training(cell: Cell, size: Size) -> Training:
    name, rounding, shrink = SETTINGS[cell.setting]
    common = Training(name, rounding, cell.rate, shrink=shrink, steps=size.steps)
    if cell.kind != "edge":
        return common
    return replace(
        common,
        activation="tanh",
        widths=(64, 32, 32, 10),
        steps=size.edge_steps,
        batch=0,
        momentum=0.0,
        warmup=0.0,
        objective="squared",
    )


def seeds_of(cell: Cell, size: Size) -> list[int]:
    return list(range(size.edge_seeds if cell.kind == "edge" else size.seeds))


def record_steps(steps: int, shares: tuple[float, ...] = RECORDS) -> list[int]:
    return sorted({round(share * steps) for share in shares})


def path_of(cell: Cell, size: Size, folder: Path) -> Path:
    """By what decides a cell's content, so that a file of this name is this cell."""
    content = {
        "recipe": RECIPE,
        "kind": cell.kind,
        "training": asdict(training(cell, size)),
        "seeds": seeds_of(cell, size),
        "rows": size.rows,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    return folder / f"{cell.label.replace(' ', '-')}-{digest}.h5"


@dataclass(frozen=True)
class Data:
    """Rows in random order, the same for every seed: those that are learned, and held-out ones."""

    x: NDArray[np.float32]
    y: Labels
    x_out: NDArray[np.float32]
    y_out: Labels


def data() -> Data:
    images = digits()
    x, x_out = images.train_x.astype(np.float32), images.test_x.astype(np.float32)
    return Data(x, images.train_y, x_out, images.test_y)


Results = dict[str, NDArray[Any]]


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def compute_run(t: Training, seeds: list[int], d: Data, rows: int) -> Results:
    """One training of all seeds. The seed decides initialisation and the order of rows, each from a
    stream of its own; stochastic bits have the first seed, and the network's place in the stack."""
    stack = Stack(t, seeds)
    orders = [np.random.default_rng([seed, 2]) for seed in seeds]
    wanted = record_steps(t.steps)
    measured: list[dict[str, NDArray[np.float64]]] = []
    losses = np.full((len(seeds), t.steps), np.nan, np.float32)
    for step in range(t.steps + 1):
        if step in wanted:
            measured.append(measure(stack, d.x[:rows], d.y[:rows]))
        if step == t.steps:
            break
        at = np.stack([r.integers(0, len(d.x), t.batch) for r in orders])
        losses[:, step] = stack.train_step(d.x[at], d.y[at])
    found: Results = {"steps": np.array(wanted), "train_loss": losses}
    for when, parameters in (("first", Stack(t, seeds).parameters), ("last", stack.parameters)):
        mode = "nearest-even" if t.rounding.startswith("stochastic") else None
        z = stack.forward(d.x_out[None], parameters, mode)[0][-1]
        found[f"{when}_loss"] = objective(z.astype(np.float64), d.y_out, t.objective)[0]
        found[f"{when}_accuracy"] = (z.argmax(axis=2) == d.y_out).mean(axis=1)
    for name in measured[0]:
        found[f"measures/{name}"] = np.stack([m[name] for m in measured], axis=1)
    return found


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def compute_edge(t: Training, seeds: list[int], d: Data, rows: int) -> Results:
    """Full batches: λ_max at the rounded weights, and the critical step of the rounded loss along
    minus its gradient, along training."""
    stack = Stack(t, seeds)
    k = len(seeds)
    x = d.x[None, :rows]
    y = np.broadcast_to(d.y[:rows], (k, rows))
    wanted = record_steps(t.steps, EDGE_RECORDS)
    found: dict[str, list[Any]] = {n: [] for n in ("lambda-max", "critical-gradient", "loss")}

    def rounded(w: NDArray[np.float64]) -> NDArray[np.float64]:
        z = stack.forward(x, w.astype(np.float32))[0][-1]
        return objective(z.astype(np.float64), d.y[:rows], t.objective)[0]

    for step in range(t.steps + 1):
        if step in wanted:
            loss, gradient = stack.gradient(x, y)
            smooth = Smooth(stack, d.x[:rows], d.y[:rows])
            eigenvalue = top_eigenvalues(smooth.hvp(weights_used(stack)), k, gradient.shape[1], 10)
            w = stack.parameters.astype(np.float64)
            found["lambda-max"].append(eigenvalue[0])
            found["critical-gradient"].append(
                critical(rounded, w, -gradient.astype(np.float64), t.rate)[0]
            )
            found["loss"].append(loss)
        if step < t.steps:
            stack.train_step(x, y)
    return {"steps": np.array(wanted), **{n: np.stack(v, axis=1) for n, v in found.items()}}


def weights_used(stack: Stack) -> NDArray[np.float64]:
    """The parameters, their weights as the products' operands are."""
    mode = "nearest-even" if stack.training.rounding.startswith("stochastic") else None
    found = stack.parameters.astype(np.float64)
    for (at, _, _), w in zip(stack.layout, stack.used(None, mode), strict=True):
        found[:, at] = w.reshape(len(found), -1)
    return found


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def compute_pictures(t: Training, seeds: list[int], d: Data, rows: int) -> Results:
    """λ_max of each layer's block along training; of the first seed, at the ends, the spectral
    density; at the end, a slice of the rounded loss and of the unrounded one, same weights."""
    from halfulp.sharpness._hessian import spectral_density
    from halfulp.sharpness._landscape import landscape

    stack = Stack(t, seeds)
    orders = [np.random.default_rng([seed, 2]) for seed in seeds]
    wanted = record_steps(t.steps, (0, 0.1, 0.25, 0.5, 1))
    x, y = d.x[:rows], d.y[:rows]
    one = Stack(t, seeds[:1])
    smooth_one = Smooth(one, x, y)
    layers: list[Any] = []
    found: Results = {"steps": np.array(wanted)}
    for step in range(t.steps + 1):
        if step in wanted:
            used = weights_used(stack)
            hvp = Smooth(stack, x, y).hvp(used)
            layers.append([blocks(hvp, used.shape, part) for part in layer_parts(stack)])
        if step in (0, t.steps):
            at = weights_used(stack)[:1]
            spectrum = spectral_density(
                lambda v, at=at: smooth_one.hvp(at)(v[None])[0], at.shape[1], probes=3, steps=30
            )
            when = "first" if step == 0 else "last"
            found[f"spectrum/{when}/values"] = spectrum.values
            found[f"spectrum/{when}/weights"] = spectrum.weights
        if step == t.steps:
            break
        rows_now = np.stack([r.integers(0, len(d.x), t.batch) for r in orders])
        stack.train_step(d.x[rows_now], d.y[rows_now])
    w = stack.parameters[0].astype(np.float64)
    pieces = [w[part].reshape(shape) for part, shape in pieces_of(stack)]

    def rounded(parts: list[NDArray[np.float64]]) -> float:
        flat = np.concatenate([p.ravel() for p in parts]).astype(np.float32)[None]
        z = one.forward(x[None], flat, "nearest-even" if "stochastic" in t.rounding else None)
        return float(objective(z[0][-1].astype(np.float64), y, t.objective)[0][0])

    def plain(parts: list[NDArray[np.float64]]) -> float:
        return float(smooth_one.loss(np.concatenate([p.ravel() for p in parts])[None])[0])

    options = {"points": 25, "reach": 0.5, "filter_normalised": True, "filter_axis": -1, "seed": 1}
    slices = [landscape(f, pieces, **options) for f in (plain, rounded)]  # type: ignore[arg-type]
    found["slice/along"] = slices[0].along
    found["slice/plain"], found["slice/rounded"] = slices[0].losses, slices[1].losses
    found["layers"] = np.array(layers).transpose(2, 0, 1)  # (seeds, records, layers)
    return found


def layer_parts(stack: Stack) -> list[slice]:
    return [slice(w.start, b.stop) for w, b, _ in stack.layout]


def pieces_of(stack: Stack) -> list[tuple[slice, tuple[int, ...]]]:
    return [p for w, b, shape in stack.layout for p in ((w, shape), (b, (shape[1],)))]


def blocks(
    hvp: Callable[[NDArray[np.float64]], NDArray[np.float64]], shape: tuple[int, int], part: slice
) -> NDArray[np.float64]:
    """λ_max of each network's diagonal block of these parameters."""

    def within(v: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.zeros(shape)
        whole[:, part] = v
        return hvp(whole)[:, part]

    return top_eigenvalues(within, shape[0], part.stop - part.start, 12)[0]


COMPUTE = {"run": compute_run, "edge": compute_edge, "pictures": compute_pictures}


def run_cell(cell: Cell, size: Size, folder: Path) -> None:
    """Computes a cell and writes its file, whole or not at all."""
    started = time.process_time()
    t = training(cell, size)
    found = COMPUTE[cell.kind](t, seeds_of(cell, size), data(), size.rows)
    path = path_of(cell, size, folder)
    part = path.with_suffix(f".{os.getpid()}.part")
    with h5py.File(part, "w") as file:
        for key, value in asdict(t).items():
            file.attrs[key] = value
        for name, values in found.items():
            file[name] = values
        file.attrs["seconds"] = time.process_time() - started  # of one processor
    part.replace(path)
