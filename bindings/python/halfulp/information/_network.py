"""Small networks trained in a format, several seeds at once, their layers recorded as codes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from halfulp import _elementwise, _formats
from halfulp.information._icosahedron import icosahedron

Array = NDArray[np.float32]

WIDTHS = (12, 10, 7, 5, 4, 3, 2)
BOUNDS = {"weights": 2.0, "gradients": 1.0, "tanh": 1.0, "relu": 4.0, "output": 1.0}
ACTIVATIONS = ("tanh", "relu")


@dataclass(frozen=True)
class Training:
    """What decides a run but its seeds. Products' operands (weights, layers, gradients) are rounded
    to `format` by `rounding`; their sums, biases and Adam's state are binary32."""

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
    """What came of it: `layers[i][l]` (seeds, 4096, width) at `epochs[i]`, on all inputs."""

    epochs: list[int] = field(default_factory=list)
    layers: list[list[Array]] = field(default_factory=list)
    train_loss: list[Array] = field(default_factory=list)
    test_loss: list[Array] = field(default_factory=list)
    train_accuracy: list[Array] = field(default_factory=list)
    test_accuracy: list[Array] = field(default_factory=list)


def static_scale(format_name: str, bound: float) -> float:
    """The largest power of two that keeps bound·scale within the format, and 1 where the exponent
    is binary32's. Fixed before training, so that a layer stays a function of one input."""
    f = _formats.format(format_name)
    if f.exponent_bits >= 8:
        return 1.0
    largest = float(_elementwise.round(1e300, f, overflow="saturate"))
    return float(2.0 ** np.floor(np.log2(largest / bound)))


def product(a: Array, b: Array) -> Array:
    """Of operands in binary32, in binary64, rounded once: where operands have at most 11 bits each
    product is exact and so is a sum of 512 of them over some 20 binades, in any order."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)


class Network:
    """A stack of networks, one for each seed."""

    def __init__(self, training: Training, seeds: list[int]):
        self.training = training
        self.seeds = seeds
        self.random = [np.random.default_rng([seed, 1]) for seed in seeds]
        self.step = 0
        self.weights: list[Array] = []
        self.biases: list[Array] = []
        for before, after in zip(training.widths, training.widths[1:], strict=False):
            drawn = [truncated_normal(r, (before, after)) / np.sqrt(before) for r in self.random]
            self.weights.append(np.stack(drawn).astype(np.float32))
            self.biases.append(np.zeros((len(seeds), 1, after), np.float32))
        self.moments = [[np.zeros_like(p), np.zeros_like(p)] for p in (*self.weights, *self.biases)]
        roles = {name: static_scale(training.format, bound) for name, bound in BOUNDS.items()}
        self.scales = roles

    def quantised(self, x: Array, role: str, tensor: int, rounding: str | None = None) -> Array:
        t = self.training
        if t.format == "binary32":
            return x
        scale = np.float32(self.scales[role])
        mode = t.rounding if rounding is None else rounding
        random = {"seed": self.seeds[0], "step": self.step, "tensor": tensor}
        y = _elementwise.round(
            x * scale,
            t.format,
            mode,
            overflow="saturate",
            **(random if mode.startswith("stochastic") else {}),
        )
        return y / scale + np.float32(0)  # −0 and 0 are one value of a layer

    def forward(self, x: Array, rounding: str | None = None) -> tuple[list[Array], list[Array]]:
        """The layers as stored, the last as logits in binary32; the weights as used."""
        layers, used = [x], []
        last = len(self.weights) - 1
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            used.append(self.quantised(w, "weights", 3 * i, rounding))
            z = product(layers[-1], used[-1]) + b
            if i < last:
                h = np.tanh(z) if self.training.activation == "tanh" else np.maximum(z, 0)
                z = self.quantised(h, self.training.activation, 3 * i + 1, rounding)
            layers.append(z)
        return layers, used

    def train_step(self, x: Array, y: NDArray[np.int64]) -> None:
        layers, used = self.forward(x)
        g = softmax(layers[-1])
        np.put_along_axis(g, y[:, :, None], np.take_along_axis(g, y[:, :, None], 2) - 1, 2)
        gradients: list[Array] = [np.empty(0, np.float32)] * (2 * len(used))
        for i in range(len(used) - 1, -1, -1):
            g = self.quantised(g, "gradients", 3 * i + 2)
            gradients[i] = product(layers[i].swapaxes(1, 2), g)
            gradients[len(used) + i] = g.sum(axis=1, keepdims=True)
            if i > 0:
                h = layers[i]
                slope = 1 - h * h if self.training.activation == "tanh" else (h > 0)
                g = product(g, used[i].swapaxes(1, 2)) * slope
        self.adam(gradients)

    def adam(self, gradients: list[Array]) -> None:
        self.step += 1
        rate = self.training.rate * np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step)
        parameters = (*self.weights, *self.biases)
        for p, g, (m, v) in zip(parameters, gradients, self.moments, strict=True):
            m += np.float32(0.1) * (g - m)
            v += np.float32(0.001) * (g * g - v)
            p -= np.float32(rate) * m / (np.sqrt(v) + np.float32(1e-8))


def truncated_normal(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal, drawn again beyond two deviations."""
    z = random.normal(size=shape)
    while (far := np.abs(z) > 2).any():
        z[far] = random.normal(size=int(far.sum()))
    return z


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


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
    everything = np.broadcast_to(x, (len(seeds), *x.shape))
    run = Run()

    def record(epoch: int) -> None:
        layers, _ = network.forward(everything, "nearest-even")
        p = softmax(layers[-1])
        right = p.argmax(axis=2) == labels
        loss = -np.log(np.maximum(p[:, np.arange(len(x)), labels], 1e-30))
        for rows, losses, accuracies in (
            (inside, run.train_loss, run.train_accuracy),
            (outside, run.test_loss, run.test_accuracy),
        ):
            losses.append(np.take_along_axis(loss, rows, 1).mean(axis=1))
            accuracies.append(np.take_along_axis(right, rows, 1).mean(axis=1))
        output = network.quantised(p, "output", 3 * len(network.weights), "nearest-even")
        run.epochs.append(epoch)
        run.layers.append([*layers[1:-1], output])

    wanted = record_epochs(training.epochs, training.records)
    record(0)
    each = np.arange(len(seeds))[:, None]
    for epoch in range(1, training.epochs + 1):
        order = np.stack([r.permutation(share) for r in orders])
        for start in range(0, share - training.batch + 1, training.batch):
            rows = inside[each, order[:, start : start + training.batch]]
            network.train_step(x[rows], labels[rows])
        if epoch in wanted:
            record(epoch)
    return run
