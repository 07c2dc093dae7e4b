"""Small networks trained in a format, several seeds at once, their layers recorded as codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from halfulp import _core, _elementwise, _formats
from halfulp._core import NumberSystem
from halfulp.information._icosahedron import icosahedron

Array = NDArray[np.float32]
Wide = NDArray[np.float64]

WIDTHS = (12, 10, 7, 5, 4, 3, 2)
LEAK = np.float32(0.01)


@dataclass(frozen=True)
class Activation:
    """`slope(z, h)`: the derivative, from the stored value h where that determines it, else from
    the sum z. Values lie from `low` on and are stored up to `bound`, which fixes the scale."""

    value: Callable[[Array], Array]
    slope: Callable[[Array, Array], NDArray[np.float32] | NDArray[np.bool_]]
    low: float
    bound: float


def density(z: Array) -> Array:
    return np.float32(1 / np.sqrt(2 * np.pi)) * np.exp(np.float32(-0.5) * z * z)


ACTIVATIONS = {
    "tanh": Activation(np.tanh, lambda z, h: 1 - h * h, -1, 1),
    "relu": Activation(lambda z: np.maximum(z, 0), lambda z, h: h > 0, 0, 4),
    "leaky-relu": Activation(
        lambda z: np.maximum(z, LEAK * z),
        lambda z, h: np.where(h > 0, np.float32(1), LEAK),
        -0.04,
        4,
    ),
    "hard-tanh": Activation(lambda z: np.clip(z, -1, 1), lambda z, h: np.abs(h) < 1, -1, 1),
    "sigmoid": Activation(
        lambda z: 1 / (1 + np.exp(-np.clip(z, -80, 80))), lambda z, h: h * (1 - h), 0, 1
    ),
    "softplus": Activation(
        lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))), lambda z, h: -np.expm1(-h), 0, 4
    ),
    "gelu": Activation(lambda z: z * ndtr(z), lambda z, h: ndtr(z) + z * density(z), -0.17, 4),
}
BOUNDS = {"weights": 2.0, "gradients": 1.0, "output": 1.0}


@dataclass(frozen=True)
class Training:
    """What decides a run but its seeds. Products' operands (weights, layers, gradients) are rounded
    to `format` (any name that hu.format knows) by `rounding`; their sums, biases and Adam's state
    are binary32. activation: one of ACTIVATIONS. widths begin with 12 and end with 2. records: how
    many epochs are recorded, 0 and the last among them."""

    format: str = "binary32"
    rounding: str = "nearest-even"
    activation: str = "tanh"
    widths: tuple[int, ...] = WIDTHS
    epochs: int = 200
    rate: float = 3e-3
    batch: int = 512
    train_share: float = 0.85
    records: int = 10

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation is {self.activation!r}, but must be one of {', '.join(ACTIVATIONS)}"
            )
        if len(self.widths) < 2 or self.widths[0] != 12 or self.widths[-1] != 2:
            raise ValueError(f"widths are {self.widths}, but must begin with 12 and end with 2")
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}, but must be 1 or more")


@dataclass
class Run:
    """What came of it, at `epochs[i]`: `layers[i][l]` (seeds, 4096, width) on all inputs, the last
    one being probabilities; mean losses (nats) and shares of right rows, (seeds,) each."""

    epochs: list[int] = field(default_factory=list)
    layers: list[list[Array]] = field(default_factory=list)
    train_loss: list[Array] = field(default_factory=list)
    test_loss: list[Array] = field(default_factory=list)
    train_accuracy: list[Array] = field(default_factory=list)
    test_accuracy: list[Array] = field(default_factory=list)


def static_scale(format_name: str, bound: float) -> float:
    """The largest power of two that keeps bound·scale within the format, and 1 where the exponent
    is binary32's, or is tapered. Fixed before training, so that a layer stays a function of one
    input."""
    f = _formats.format(format_name)
    if f.kind == "posit" if isinstance(f, NumberSystem) else f.exponent_bits >= 8:
        return 1.0
    largest = float(_elementwise.round(1e300, f, overflow="saturate"))
    return float(2.0 ** np.floor(np.log2(largest / bound)))


def rounded_product(a: Wide, b: Wide) -> Array:
    """Of binary32 values held in binary64, rounded once: where operands have at most 11 bits each
    product is exact and so is a sum of 512 of them over some 20 binades, in any order."""
    return (a @ b).astype(np.float32)


def sum_of_rows(g: Array) -> Array:
    """g.sum(axis=1, keepdims=True), the same additions: one inner loop for all seeds and columns,
    where NumPy's would run once for each row."""
    return np.add.reduce(np.ascontiguousarray(g.swapaxes(0, 1)), axis=0)[:, None, :]


class Network:
    """A stack of networks, one for each seed."""

    def __init__(self, training: Training, seeds: list[int]):
        self.training = training
        self.seeds = seeds
        self.random = [np.random.default_rng([seed, 1]) for seed in seeds]
        self.step = 0
        self.activation = ACTIVATIONS[training.activation]
        pairs = list(zip(training.widths, training.widths[1:], strict=False))
        shapes = [(len(seeds), *pair) for pair in pairs] + [(len(seeds), 1, b) for _, b in pairs]
        # One vector each, so that a step of Adam is a few operations; layers see views.
        total = sum(int(np.prod(shape)) for shape in shapes)
        self.flat, self.flat_gradient, *self.moments = np.zeros((4, total), np.float32)
        parameters = views(self.flat, shapes)
        self.weights, self.biases = parameters[: len(pairs)], parameters[len(pairs) :]
        self.gradients = views(self.flat_gradient, shapes)
        for w, (before, after) in zip(self.weights, pairs, strict=True):
            drawn = [truncated_normal(r, (before, after)) / np.sqrt(before) for r in self.random]
            w[...] = np.stack(drawn)
        bounds = BOUNDS | {"layers": self.activation.bound}
        self.scales = {n: np.float32(static_scale(training.format, b)) for n, b in bounds.items()}
        self.format = _formats.format(training.format)
        self.hows: dict[str, _core.How] = {}

    def how(self, mode: str, tensor: int) -> _core.How:
        options = {"rounding": mode, "overflow": "saturate"}
        if mode.startswith("stochastic"):
            return _elementwise.make_how(
                "round", seed=self.seeds[0], step=self.step, tensor=tensor, **options
            )
        if mode not in self.hows:
            self.hows[mode] = _elementwise.make_how("round", **options)
        return self.hows[mode]

    def quantise(self, x: Array, role: str, tensor: int, rounding: str | None = None) -> Array:
        """x itself, rounded in place."""
        t = self.training
        if t.format != "binary32":
            scale = self.scales[role]
            if scale != 1:
                x *= scale
            how = self.how(t.rounding if rounding is None else rounding, tensor)
            _elementwise._apply("convert", [x], x, "binary32", self.format, how, None)
            if scale != 1:
                x /= scale
        x += 0  # −0 and 0 are one value of a layer
        return x

    def forward(
        self, x: Array | Wide, rounding: str | None = None
    ) -> tuple[list[Array], list[Array], list[Wide], list[Wide]]:
        """Of all layers but the inputs: values as stored and sums in binary32, the last sums being
        the logits; of all products the operands, layers and weights as used, in binary64."""
        stored, sums, layers, used = [], [], [x.astype(np.float64, copy=False)], []
        last = len(self.weights) - 1
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            used.append(self.quantise(w.copy(), "weights", 3 * i, rounding).astype(np.float64))
            z = rounded_product(layers[-1], used[-1])
            z += b
            sums.append(z)
            if i < last:
                h = self.quantise(self.activation.value(z), "layers", 3 * i + 1, rounding)
                stored.append(h)
                layers.append(h.astype(np.float64))
        return stored, sums, layers, used

    def train_step(self, x: Array | Wide, target: Array) -> None:
        """x (seeds, batch, 12); target (seeds, batch, 2): 1 for the label, 0 for the other."""
        stored, sums, layers, used = self.forward(x)
        g = softmax(sums[-1]) - target
        for i in range(len(used) - 1, -1, -1):
            g = self.quantise(g, "gradients", 3 * i + 2)
            wide = g.astype(np.float64)
            self.gradients[i][...] = rounded_product(layers[i].swapaxes(1, 2), wide)
            self.gradients[len(used) + i][...] = sum_of_rows(g)
            if i > 0:
                g = rounded_product(wide, used[i].swapaxes(1, 2))
                g *= self.activation.slope(sums[i - 1], stored[i - 1])
        self.adam()

    def adam(self) -> None:
        self.step += 1
        rate = self.training.rate * np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step)
        p, g, (m, v) = self.flat, self.flat_gradient, self.moments
        m += np.float32(0.1) * (g - m)
        v += np.float32(0.001) * (g * g - v)
        p -= np.float32(rate) * m / (np.sqrt(v) + np.float32(1e-8))


def views(flat: Array, shapes: list[tuple[int, ...]]) -> list[Array]:
    """Parts of a vector, one after the other, in these shapes."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes, strict=True)]


def truncated_normal(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal, drawn again beyond two deviations."""
    z = random.normal(size=shape)
    while (far := np.abs(z) > 2).any():
        z[far] = random.normal(size=int(far.sum()))
    return z


def softmax(z: Array) -> Array:
    """Of the last axis, which is short: column by column, where a reduction would run once for
    each row; the same bits for two columns."""
    columns = np.moveaxis(z, -1, 0)
    e = np.exp(z - reduce(np.maximum, columns)[..., None])
    e /= reduce(np.add, np.moveaxis(e, -1, 0))[..., None]
    return e


def record_epochs(epochs: int, records: int) -> list[int]:
    """0, and the rest spread evenly over the logarithm; the last one is `epochs`."""
    wanted = np.round(np.geomspace(1, epochs, max(records - 1, 1))).astype(int)
    return sorted({0, epochs, *wanted.tolist()})


def train(training: Training, seeds: list[int]) -> Run:
    """Networks from each of the seeds: the weights, the split and the order of rows are the same
    for every format. Rounded stochastically or not, records come from a pass rounded to nearest,
    so that a layer is a function of its input."""
    x, y = icosahedron()
    labels = y.astype(np.int64)
    network = Network(training, seeds)
    orders = [np.random.default_rng([seed, 2]) for seed in seeds]
    share = int(training.train_share * len(x))
    split = np.stack([r.permutation(len(x)) for r in orders])
    inside, outside = split[:, :share], split[:, share:]
    inputs = x.astype(np.float64)
    targets = np.eye(2, dtype=np.float32)[labels]
    everything = np.broadcast_to(inputs, (len(seeds), *x.shape))
    run = Run()

    def record(epoch: int) -> None:
        stored, sums, _, _ = network.forward(everything, "nearest-even")
        p = softmax(sums[-1])
        right = p.argmax(axis=2) == labels
        loss = -np.log(np.maximum(p[:, np.arange(len(x)), labels], 1e-30))
        for rows, losses, accuracies in (
            (inside, run.train_loss, run.train_accuracy),
            (outside, run.test_loss, run.test_accuracy),
        ):
            losses.append(np.take_along_axis(loss, rows, 1).mean(axis=1))
            accuracies.append(np.take_along_axis(right, rows, 1).mean(axis=1))
        output = network.quantise(p, "output", 3 * len(network.weights), "nearest-even")
        run.epochs.append(epoch)
        run.layers.append([*stored, output])

    wanted = record_epochs(training.epochs, training.records)
    record(0)
    each = np.arange(len(seeds))[:, None]
    for epoch in range(1, training.epochs + 1):
        order = np.stack([r.permutation(share) for r in orders])
        for start in range(0, share - training.batch + 1, training.batch):
            rows = inside[each, order[:, start : start + training.batch]]
            network.train_step(inputs[rows], targets[rows])
        if epoch in wanted:
            record(epoch)
    return run
