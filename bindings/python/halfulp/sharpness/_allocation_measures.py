"""What the study of bit allocation measures on one trained network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfulp import _elementwise
from halfulp.sharpness._allocation import (
    baq,
    hawq,
    hawq_v2,
    integer_program,
    layer_importance,
    layer_pairs,
    pareto_front,
)
from halfulp.sharpness._arguments import Array
from halfulp.sharpness._hessian import block, lanczos, trace
from halfulp.sharpness._networks import ACTIVATIONS, Network
from halfulp.sharpness._quantiser import largest

# By name: the number system and its bits.
FORMATS = {
    **{f"INT{b}": (f"int{b}", b) for b in range(2, 9)},
    "E2M1": ("float4_e2m1fn", 4),
    "E2M3": ("float6_e2m3fn", 6),
    "E3M2": ("float6_e3m2fn", 6),
    "E4M3": ("float8_e4m3fn", 8),
    "E5M2": ("float8_e5m2", 8),
    "E8M3": ("fp_e8p4b127_s_ieee_ieee", 12),
    "BF16": ("bfloat16", 16),
}
INTEGERS = tuple(name for name in FORMATS if name.startswith("INT"))
BITS = np.array([float(FORMATS[name][1]) for name in INTEGERS])
UNSCALED = ("E8M3", "BF16")
CLIPS = np.linspace(0.2, 1.0, 17)
# Whatever a layer's proxy says of it, and, where it can, of the format.
PROXIES = (
    *("random", "parameters", "hawq", "trace", "perturbation", "baq"),
    *("hawq-v2", "first order", "second order", "taylor"),
)
METHODS = ("uniform", "random", "hawq", "hawq-v2", "baq", "taylor", "measured", "measured+pairs")
LIMITS = (2.5, 3.0, 3.5, 4.0, 5.0, 6.0)  # of the mean of bits over weights
DRAWS = 20  # allocations of the method "random"


def quantise(x: Array, name: str) -> Array:
    """x in a format, saturating, nearest even, times the scale of least squared error: one of
    len(CLIPS) that put a share of max|x| on the format's largest value. A power of two times x has
    the result times it.
    """
    system, _ = FORMATS[name]
    most = float(np.abs(x).max())
    if most == 0 or name in UNSCALED:
        return np.asarray(_elementwise.round(x, system))
    best, least = x, np.inf
    top = largest(system)
    for clip in CLIPS[::-1]:
        scale = clip * most / top
        y = np.asarray(_elementwise.round(x / scale, system, overflow="saturate")) * scale
        error = float(((y - x) ** 2).sum())
        if error < least:
            best, least = y, error
    return best


@dataclass
class Point:
    """A trained network and the rows on which its loss is measured."""

    network: Network
    w: Array
    x: Array
    y: NDArray[np.int64]

    def __post_init__(self) -> None:
        self.parts = list(self.network.weights.values())
        self.names = list(self.network.weights)
        self.sizes = np.array([float(p.stop - p.start) for p in self.parts])
        self.products = np.array([float(layer.products) for layer in self.network.layers])

    @property
    def layers(self) -> dict[str, Array]:
        return {name: self.w[p] for name, p in zip(self.names, self.parts, strict=True)}

    def loss(self, layers: dict[str, Array]) -> float:
        w = self.w.copy()
        for name, p in zip(self.names, self.parts, strict=True):
            w[p] = layers[name]
        return float(self.network.loss(w, self.x, self.y))


Quantised = list[dict[str, Array]]  # of each layer, by format


def quantised(point: Point) -> Quantised:
    return [{name: quantise(x, name) for name in FORMATS} for x in point.layers.values()]


def _ready(point: Point, q: Quantised, names: Sequence[str]) -> dict[str, Any]:
    """Quantisers for `layer_importance` that look up what is there."""
    of = {x.tobytes(): found for x, found in zip(point.layers.values(), q, strict=True)}
    return {name: lambda x, name=name: of[x.tobytes()][name] for name in names}


def truth(point: Point, q: Quantised) -> Array:
    """(layers, formats): the rise of the loss when one layer is quantised."""
    return layer_importance(point.loss, _ready(point, q, list(FORMATS)), point.layers)


def proxies(point: Point, q: Quantised, *, samples: int, seed: int) -> dict[str, Array]:
    """(layers, formats) of each of PROXIES, and (layers,) "λ", "tr" and its error "tr error"."""
    hvp = point.network.hvp(point.w, point.x, point.y)
    n = point.network.n
    gradient = point.network.gradient(point.w, point.x, point.y)
    within = [block(hvp, n, part) for part in point.parts]
    pairs = [lanczos(h, k, tolerance=1e-4, max_steps=min(k, 60), seed=seed) for h, k in within]
    eigenvalues = np.array([p.values[0] for p in pairs])
    found = [trace(h, k, method="hutch++", samples=samples, seed=seed) for h, k in within]
    traces = np.array([t.value for t in found])
    deltas = [
        [by[name] - x for name in FORMATS] for by, x in zip(q, point.layers.values(), strict=True)
    ]
    squares = np.array([[float(d @ d) for d in row] for row in deltas])
    first = np.array(
        [[float(gradient[p] @ d) for d in row] for p, row in zip(point.parts, deltas, strict=True)]
    )
    second = np.array(
        [[float(d @ h(d)) / 2 for d in row] for (h, _), row in zip(within, deltas, strict=True)]
    )
    omega = hawq_v2(traces, point.sizes, squares)
    bits = np.array([float(b) for _, b in FORMATS.values()])
    last = list(FORMATS).index("INT8")
    each = np.ones_like(omega)
    return {
        "random": np.random.default_rng([seed, 3]).random(omega.shape),
        "parameters": point.sizes[:, None] * each,
        "hawq": hawq(eigenvalues, point.sizes)[:, None] * each,
        "trace": (traces / point.sizes)[:, None] * each,
        "perturbation": squares,
        # BAQ's law L·2^(−2R) with L from 8 bits, where it says what Ω says
        "baq": omega[:, last : last + 1] * 4.0 ** (8 - bits),
        "hawq-v2": omega,
        "first order": first,
        "second order": second,
        "taylor": first + second,
        "λ": eigenvalues,
        "tr": traces,
        "tr error": np.array([t.standard_error for t in found]),
    }


def pairs(point: Point, q: Quantised) -> dict[tuple[int, int], Array]:
    """L_ij − L_i − L_j of all pairs of layers, (integers, integers) each."""
    return layer_pairs(point.loss, _ready(point, q, INTEGERS), point.layers)


def enumerate_all(
    point: Point, q: Quantised, test_x: Array, test_y: NDArray[np.int64]
) -> tuple[Array, Array, Array]:
    """The loss, the loss on other rows and the accuracy there of every allocation of INTEGERS,
    (choices,)·layers: forward passes that share what is equal before a layer.
    """
    network, rows = point.network, len(point.x)
    f, _ = ACTIVATIONS[network.activation]
    arrays = network.arrays(point.w)
    matrices = [
        [by[name].reshape(m.shape) for name in INTEGERS]
        for by, (m, _) in zip(q, arrays, strict=True)
    ]
    shape = (len(INTEGERS),) * len(arrays)
    found = [np.empty(shape) for _ in range(3)]
    last = np.stack(matrices[-1])
    every, labels = np.arange(rows + len(test_x)), np.concatenate([point.y, test_y])

    def go(at: tuple[int, ...], h: Array) -> None:
        i = len(at)
        layer, bias = network.layers[i], arrays[i][1]
        if i == len(arrays) - 1:  # all its choices at once
            z = h @ last + bias
            z -= z.max(axis=-1, keepdims=True)
            mine = z[:, every, labels]
            losses = np.log(np.exp(z).sum(axis=-1)) - mine
            found[0][at] = losses[:, :rows].mean(axis=-1)
            found[1][at] = losses[:, rows:].mean(axis=-1)
            found[2][at] = (mine[:, rows:] == 0).mean(axis=-1)
            return
        for choice, matrix in enumerate(matrices[i]):
            go((*at, choice), f(layer.forward(matrix, bias, h)[0]))

    go((), np.concatenate([point.x, test_x]))
    return found[0], found[1], found[2]


def sums(tables: Array) -> Array:
    """Σ_i tables[i, c_i] for every allocation c."""
    total = np.zeros(())
    for row in tables:
        total = total[..., None] + row
    return total


def sums_of_pairs(interactions: dict[tuple[int, int], Array], layers: int) -> Array:
    total = np.zeros(())
    for (i, j), table in interactions.items():
        shape = [1] * layers
        shape[i] = shape[j] = len(table)
        total = total + table.reshape(shape)
    return total


def best_within(loss: Array, fits: NDArray[np.bool_]) -> tuple[int, ...]:
    """The allocation of least loss among those that fit."""
    at = int(np.where(fits, loss, np.inf).argmin())
    return tuple(int(i) for i in np.unravel_index(at, loss.shape))


def ramp(order: Sequence[int], sizes: Array, limit: float) -> tuple[int, ...]:
    """Bits that fall by two from the first of an order to its last, as many as fit: HAWQ gives an
    order and leaves the bits to hand, and this is the hand.
    """
    steps = np.empty(len(sizes))
    steps[list(order)] = np.linspace(1, -1, len(sizes))
    found = (0,) * len(sizes)
    for level in np.arange(BITS[0] - 1, BITS[-1] + 1.01, 1 / 16):
        bits = np.clip(np.round(level + steps), BITS[0], BITS[-1])
        if (sizes * bits).sum() > limit:
            break
        found = tuple(int(b - BITS[0]) for b in bits)
    return found


def by_baq(coefficients: Array, sizes: Array, mean: float) -> tuple[int, ...]:
    """BAQ's real bits rounded down, then one more where most is missing, while it fits."""
    real = baq(coefficients, mean, sizes, least=float(BITS[0]), most=float(BITS[-1]))
    bits = np.floor(real + 1e-9)
    for i in np.argsort(bits - real, kind="stable"):
        if bits[i] < BITS[-1] and (sizes * bits).sum() + sizes[i] <= mean * sizes.sum():
            bits[i] += 1
    return tuple(int(b - BITS[0]) for b in bits)


def allocations(
    sizes: Array,
    costs: dict[str, Array],
    interactions: dict[tuple[int, int], Array] | None,
    limit: float,
    seed: int,
) -> dict[str, list[tuple[int, ...]]]:
    """By method of METHODS, what it allots with a mean of at most `limit` bits; several only of
    "random", none of "uniform" where the limit is no whole number. costs: (layers, integers) of
    hawq (order), baq, hawq-v2, taylor and measured.
    """
    table = sizes[:, None] * BITS
    most = limit * float(sizes.sum())
    found: dict[str, list[tuple[int, ...]]] = {method: [] for method in METHODS}
    if limit == int(limit):
        found["uniform"] = [(int(limit - BITS[0]),) * len(sizes)]
    random = np.random.default_rng([seed, 4])
    while len(found["random"]) < DRAWS:
        choice = tuple(int(c) for c in random.integers(0, len(BITS), len(sizes)))
        if (sizes * BITS[list(choice)]).sum() <= most:
            found["random"].append(choice)
    order = np.argsort(-costs["hawq"][:, 0], kind="stable").tolist()
    found["hawq"] = [ramp(order, sizes, most)]
    coefficients = np.maximum(
        costs["baq"][:, -1] / sizes, 1e-300
    )  # of a weight: equal loss of each
    found["baq"] = [by_baq(coefficients, sizes, limit)]
    front = [a for a in pareto_front(costs["hawq-v2"], table) if a.size <= most]
    found["hawq-v2"] = [front[-1].choice]
    for method, name in (("taylor", "taylor"), ("measured", "measured")):
        found[method] = [integer_program(costs[name], table, size_limit=most).choice]
    if interactions is not None:
        program = integer_program(
            costs["measured"], table, size_limit=most, interactions=interactions
        )
        found["measured+pairs"] = [program.choice]
    return found


def quadratic_control(seed: int) -> dict[str, Any]:
    """Where the answer is known: a loss Σ a_i‖W_i − V_i‖²/2, whose blocks a_i·I make Ω twice the
    truth. Returns ρ of Ω, and whether the integer program on Ω finds the best of all allocations.
    """
    from halfulp.sharpness._allocation import spearman

    random = np.random.default_rng([seed, 5])
    sizes = np.array([400, 100, 250, 60, 30])
    strengths = 10.0 ** random.uniform(-2, 2, len(sizes))
    layers = {str(i): random.normal(size=n) for i, n in enumerate(sizes)}

    def loss(at: dict[str, Array]) -> float:
        terms = (a * ((at[k] - layers[k]) ** 2).sum() for a, k in zip(strengths, at, strict=True))
        return float(sum(terms)) / 2

    by: dict[str, Callable[[Array], Array]] = {
        name: lambda x, name=name: quantise(x, name) for name in INTEGERS
    }
    rises = layer_importance(loss, by, layers)
    squares = [[((quantise(x, b) - x) ** 2).sum() for b in INTEGERS] for x in layers.values()]
    omega = hawq_v2(strengths * sizes, sizes, squares)
    joint = sums(rises)
    bits = sums(sizes[:, None] * BITS)
    right = []
    for limit in LIMITS:
        most = limit * float(sizes.sum())
        found = integer_program(omega, sizes[:, None] * BITS, size_limit=most)
        best = float(np.where(bits <= most, joint, np.inf).min())
        right.append(bool(joint[found.choice] <= best * (1 + 1e-9)))
    return {"rho": spearman(omega, rises), "best": all(right)}
