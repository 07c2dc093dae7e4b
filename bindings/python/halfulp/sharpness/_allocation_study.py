"""The bit-allocation part of the study `sharpness`: trained networks, every proxy beside the
measured truth, every method beside the best of all allocations."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from halfulp._workers import run_tasks
from halfulp.sharpness import _allocation_measures as measures
from halfulp.sharpness._allocation import integer_program, layer_importance, spearman
from halfulp.sharpness._allocation_measures import BITS, FORMATS, INTEGERS, LIMITS, METHODS, Point
from halfulp.sharpness._arguments import Array
from halfulp.sharpness._data import Images, digits, fashion, fashion_full
from halfulp.sharpness._networks import ConvNet, Mlp, Network, adam

FOLDER = "allocation"
NETWORKS: dict[str, tuple[Callable[[], Network], Callable[[], Images]]] = {
    "digits-mlp": (lambda: Mlp((64, 48, 32, 24, 16, 10)), digits),
    "digits-conv": (lambda: ConvNet(8, (6, 12)), digits),
    "fashion-mlp": (lambda: Mlp((196, 48, 32, 24, 16, 10)), lambda: fashion(14)),
    "fashion-full-mlp": (lambda: Mlp((196, 48, 32, 24, 16, 10)), lambda: fashion_full(14)),
}
OPERATION_LIMITS = (3.0, 4.0, 5.0)  # of the mean of bits over products; size at most 4 bits
SIZE_LIMIT = 4.0
RESCALED = ("digits-mlp",)  # networks whose layers are rescaled as a control
# What predicts the loss of an allocation as a sum over layers, and over pairs of layers.
PREDICTORS = ("hawq-v2", "taylor", "measured", "measured+pairs")


@dataclass(frozen=True)
class AllocationSize:
    networks: tuple[str, ...]
    seeds: int
    epochs: int = 20
    rows: int = 600  # of the training rows: the loss that is measured and its Hessian
    test_rows: int = 500
    samples: int = 30  # products of a layer's trace


SIZES = {
    "quick": AllocationSize(("digits-mlp", "digits-conv", "fashion-mlp"), 8),
    "full": AllocationSize(tuple(NETWORKS), 24),
}


@dataclass(frozen=True)
class AllocationCell:
    network: str
    seed: int
    epochs: int
    rows: int
    test_rows: int
    samples: int

    @property
    def path(self) -> str:
        """A name that holds all that decides the cell, as a digest."""
        content = json.dumps([asdict(self), list(FORMATS), LIMITS, METHODS, OPERATION_LIMITS])
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        return f"{self.network}-{self.seed}-{digest}.h5"


def cells(size: AllocationSize) -> list[AllocationCell]:
    return [
        AllocationCell(network, seed, size.epochs, size.rows, size.test_rows, size.samples)
        for network in size.networks
        for seed in range(size.seeds)
    ]


def missing(size: AllocationSize) -> str:
    """Why networks of this size cannot run here; empty where all can."""
    if "fashion-full-mlp" in size.networks:
        try:
            fashion_full(14)
        except FileNotFoundError as error:
            return str(error)
    return ""


def trained(cell: AllocationCell) -> tuple[Point, Images]:
    """The network of a cell, after its training in float64."""
    build, load = NETWORKS[cell.network]
    network, images = build(), load()
    w = adam(
        network,
        network.initial(cell.seed),
        images.train_x,
        images.train_y,
        epochs=cell.epochs if len(images.train_x) < 10_000 else max(1, cell.epochs // 8),
        seed=cell.seed,
        anneal=True,
    )
    return Point(network, w, images.train_x[: cell.rows], images.train_y[: cell.rows]), images


def rescaled(point: Point) -> Point:
    """The same function of the same rows: the second layer times 8 and the third over 8 (relu)."""
    w = point.w.copy()
    parameters = point.network.parameters
    for name in ("2.weight", "2.bias"):
        w[parameters[name]] *= 8
    w[parameters["3.weight"]] /= 8
    return Point(point.network, w, point.x, point.y)


def measure(cell: AllocationCell) -> dict[str, Any]:
    """All of a cell, by name."""
    point, images = trained(cell)
    test_x, test_y = images.test_x[: cell.test_rows], images.test_y[: cell.test_rows]
    network, q = point.network, measures.quantised(point)
    truth = measures.truth(point, q)
    proxies = measures.proxies(point, q, samples=cell.samples, seed=cell.seed)
    interactions = measures.pairs(point, q)
    loss, test_loss, accuracy = measures.enumerate_all(point, q, test_x, test_y)
    base = float(network.loss(point.w, point.x, point.y))
    found: dict[str, Any] = {
        "sizes": point.sizes,
        "products": point.products,
        "loss": base,
        "test_loss": network.loss(point.w, test_x, test_y),
        "accuracy": network.accuracy(point.w, test_x, test_y),
        "truth": truth,
        "enumerated/rise": (loss - base).astype(np.float32),
        "enumerated/test_loss": test_loss.astype(np.float32),
        "enumerated/accuracy": accuracy.astype(np.float32),
    }
    found |= {f"proxies/{name}": value for name, value in proxies.items()}
    found |= {f"pairs/{i}-{j}": table for (i, j), table in interactions.items()}
    same = {"same": lambda x: x}
    found["control/ties"] = layer_importance(point.loss, same, point.layers)[:, 0]

    # Every format everywhere.
    uniform = []
    for name in FORMATS:
        w = point.w.copy()
        for part, by in zip(point.parts, q, strict=True):
            w[part] = by[name]
        uniform.append(
            [network.loss(w, point.x, point.y) - base, network.accuracy(w, test_x, test_y)]
        )
    found["uniform"] = np.array(uniform)

    # What sums say of all allocations, and what methods choose.
    integers = [list(FORMATS).index(name) for name in INTEGERS]
    costs = {k: proxies[k][:, integers] for k in ("hawq", "baq", "hawq-v2", "taylor")}
    costs["measured"] = truth[:, integers]
    joint = {k: measures.sums(costs[k]) for k in PREDICTORS[:-1]}
    joint["measured+pairs"] = joint["measured"] + measures.sums_of_pairs(
        interactions, len(point.sizes)
    )
    found["joint"] = np.array([spearman(joint[k], loss) for k in PREDICTORS])
    bits = measures.sums(point.sizes[:, None] * BITS)
    chosen = np.full((len(LIMITS), len(METHODS) + 1, 4), np.nan)  # rise, accuracy, test loss, bits
    for row, limit in zip(chosen, LIMITS, strict=True):
        by_method = measures.allocations(point.sizes, costs, interactions, limit, cell.seed)
        fits = bits <= limit * point.sizes.sum()
        by_method["best"] = [measures.best_within(loss, fits)]
        for at, choices in zip(row, by_method.values(), strict=True):
            if choices:
                at[:] = [
                    np.mean([table[c] for c in choices])
                    for table in (loss - base, accuracy, test_loss, bits / point.sizes.sum())
                ]
    found["chosen"] = chosen

    # Under limits of size and of bit operations: products·bits (operands of a fixed width beside).
    size, operations = point.sizes[:, None] * BITS, point.products[:, None] * BITS
    both = np.full((len(OPERATION_LIMITS), 3), np.nan)  # rises: Ω's program, the truth's, the best
    for row, limit in zip(both, OPERATION_LIMITS, strict=True):
        most = {
            "size_limit": SIZE_LIMIT * float(point.sizes.sum()),
            "operation_limit": limit * float(point.products.sum()),
        }
        fits = (bits <= most["size_limit"]) & (measures.sums(operations) <= most["operation_limit"])
        for at, name in enumerate(("hawq-v2", "measured")):
            row[at] = loss[integer_program(costs[name], size, operations, **most).choice] - base
        row[2] = loss[measures.best_within(loss, fits)] - base
    found["operations"] = both

    if cell.network in RESCALED:
        other = rescaled(point)
        q = measures.quantised(other)
        found["control/rescaled/truth"] = measures.truth(other, q)
        again = measures.proxies(other, q, samples=cell.samples, seed=cell.seed)
        found |= {f"control/rescaled/{k}": again[k] for k in measures.PROXIES}
        control = measures.quadratic_control(cell.seed)
        found["control/quadratic"] = np.array([control["rho"], control["best"]])
    return found


def run_cell(cell: AllocationCell, folder: Path) -> None:
    """Measures and writes one HDF5 file."""
    path = folder / cell.path
    part = path.with_suffix(".part")
    with h5py.File(part, "w") as file:
        for key, value in asdict(cell).items():
            file.attrs[key] = value
        file.attrs["formats"], file.attrs["methods"] = list(FORMATS), [*METHODS, "best"]
        file.attrs["limits"] = LIMITS
        for key, value in measure(cell).items():
            file[key] = value
    part.replace(path)


def run_task(cell: dict[str, Any], folder: str) -> None:
    run_cell(AllocationCell(**cell), Path(folder))


def apart(chosen: Sequence[AllocationCell], folder: Path, progress: bool, jobs: int = 1) -> None:
    """In Pythons of their own; RuntimeError with the first cell that fails."""

    def say(text: str) -> None:
        if progress:
            print(text, file=sys.stderr, flush=True)

    tasks = [(f"allocation: {c.network}-{c.seed}", [asdict(c), str(folder)]) for c in chosen]
    run_tasks(__name__, tasks, jobs, say)


def run_allocation(
    size: str | AllocationSize = "quick",
    folder: str | Path = "results/sharpness-quick",
    progress: bool = True,
    *,
    jobs: int | None = None,
) -> Path:
    """What is missing of the allocation part: an HDF5 file a network and seed in folder/allocation.

    Returns that folder, which `AllocationResults` reads. progress: a line a cell on standard error.
    """
    chosen = SIZES[size] if isinstance(size, str) else size
    place = Path(folder) / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    lacking = missing(chosen)
    if lacking and progress:
        print(f"fashion-full-mlp is left out: {lacking}", file=sys.stderr)
    todo = [
        c
        for c in cells(chosen)
        if not (place / c.path).is_file() and not (lacking and c.network == "fashion-full-mlp")
    ]
    todo.sort(key=lambda c: (c.network != "digits-conv", c.seed))  # the slow networks first
    started = time.perf_counter()
    apart(todo, place, progress, jobs or min(2, os.cpu_count() or 1))
    kept = place / "seconds.json"
    if len(todo) == len(cells(chosen)) or not kept.is_file():
        seconds = round(time.perf_counter() - started, 1)
        kept.write_text(json.dumps({"seconds": seconds, "left_out": lacking}) + "\n")
    return place


def load(place: Path, size: AllocationSize) -> dict[str, dict[str, Array]]:
    """By network and name, values of all seeds stacked; networks that did not run are absent."""
    found: dict[str, dict[str, list[Array]]] = {}
    for cell in cells(size):
        if not (place / cell.path).is_file():
            continue
        into = found.setdefault(cell.network, {})
        with h5py.File(place / cell.path) as file:
            file.visititems(
                lambda name, item, into=into: (
                    into.setdefault(name, []).append(item[()])
                    if isinstance(item, h5py.Dataset)
                    else None
                )
            )
    return {n: {k: np.array(v) for k, v in by.items()} for n, by in found.items()}
