"""Small networks trained in a format, several seeds at once, with what the sharpness study records.

Products' operands (weights, layers, gradients) are rounded to the format; sums, biases, master
weights and the optimiser's state are binary32.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfulp import _elementwise, _formats

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

BOUNDS = {"weights": 2.0, "activations": 8.0, "gradients": 1.0}
PATHS = ("emulated", "plain")


@dataclass(frozen=True)
class Training:
    """What decides a run but its seeds and its data."""

    format: str = "binary32"
    rounding: str = "nearest-even"
    rate: float = 0.1
    activation: str = "relu"
    widths: tuple[int, ...] = (64, 32, 10)
    steps: int = 300
    batch: int = 32  # 0: all rows in every step
    momentum: float = 0.9
    warmup: float = 0.5  # share of the steps in which the rate rises to its peak
    objective: str = "cross-entropy"  # or "squared": half the squared distance to one-hot
    shrink: float = 0.0  # operands times 1 − shrink, after rounding
    path: str = "emulated"  # "plain" rounds nothing: binary32 without the emulator

    def __post_init__(self) -> None:
        if self.activation not in ("relu", "tanh"):
            raise ValueError(f"activation is {self.activation!r}, but must be relu or tanh")
        if self.objective not in ("cross-entropy", "squared"):
            raise ValueError(
                f"objective is {self.objective!r}, but must be cross-entropy or squared"
            )
        if not 0 <= self.shrink < 1:
            raise ValueError(f"shrink is {self.shrink}, but must be 0 or more and below 1")
        if self.path not in PATHS:
            raise ValueError(f"path is {self.path!r}, but must be one of {', '.join(PATHS)}")
        if self.path == "plain" and self.format != "binary32":
            raise ValueError(f"the plain path is binary32's, not {self.format}'s")
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"widths are {self.widths}, but must be two or more, each 1 or more")
        if not 0 < self.rate < np.inf:
            raise ValueError(f"rate is {self.rate}, but must be above 0 and finite")
        if self.steps < 1 or self.batch < 0:
            raise ValueError(
                f"steps are {self.steps} and batch is {self.batch}, but must be 1 or more, "
                "and 0 (all rows) or more"
            )
        if not (0 <= self.momentum < 1 and 0 <= self.warmup <= 1):
            raise ValueError(
                f"momentum is {self.momentum} and warmup {self.warmup}, but both lie from 0 to 1"
            )

    def rate_at(self, step: int) -> float:
        """Of step 0, 1, …: rises linearly over the warm-up, then stays."""
        rising = self.warmup * self.steps
        return self.rate * min(1.0, (step + 1) / rising) if rising > 0 else self.rate


def static_scale(format_name: str, bound: float) -> float:
    """The largest power of two that keeps bound·scale within the format; 1 where the exponent is
    binary32's."""
    f = _formats.format(format_name)
    if f.exponent_bits >= 8:
        return 1.0
    largest = float(_elementwise.round(1e300, f, overflow="saturate"))
    return float(2.0 ** np.floor(np.log2(largest / bound)))


def product(a: Array, b: Array) -> Array:
    """Operands in binary32, products and sums in binary64, one rounding at the end."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)


def sizes(widths: tuple[int, ...]) -> list[tuple[slice, slice, tuple[int, int]]]:
    """Of each layer: where its weights and its biases lie among the parameters of a network, and
    the weights' shape (inputs, outputs)."""
    found, at = [], 0
    for before, after in itertools.pairwise(widths):
        w = slice(at, at + before * after)
        b = slice(w.stop, w.stop + after)
        found.append((w, b, (before, after)))
        at = b.stop
    return found


class Stack:
    """Networks of one shape; `parameters` is (networks, n) binary32, layer by layer weights
    (inputs, outputs) and biases."""

    def __init__(self, training: Training, seeds: list[int]):
        self.training, self.seeds = training, seeds
        self.layout = sizes(training.widths)
        n = self.layout[-1][1].stop
        self.parameters: Array = np.zeros((len(seeds), n), np.float32)
        for i, seed in enumerate(seeds):
            random = np.random.default_rng([seed, 1])
            for w, _, shape in self.layout:
                deviation = np.sqrt((2 if training.activation == "relu" else 1) / shape[0])
                self.parameters[i, w] = random.normal(0, deviation, shape[0] * shape[1])
        self.velocity = np.zeros_like(self.parameters)
        self.scales = {role: static_scale(training.format, b) for role, b in BOUNDS.items()}
        self.step = 0

    def quantised(self, x: Array, role: str, tensor: int, rounding: str | None = None) -> Array:
        """x as an operand: scaled, rounded, saturated, scaled back. Scales are powers of two."""
        t = self.training
        if t.path == "plain":
            return x
        mode = t.rounding if rounding is None else rounding
        scale = np.float32(self.scales[role])
        random = {"seed": self.seeds[0], "step": self.step, "tensor": tensor}
        y = _elementwise.round(
            x * scale if scale != 1 else x,
            t.format,
            mode,
            overflow="saturate",
            **(random if mode.startswith("stochastic") else {}),
        )
        y = y / scale if scale != 1 else y
        return y * np.float32(1 - t.shrink) if t.shrink else y

    def used(self, parameters: Array | None = None, rounding: str | None = None) -> list[Array]:
        """The weights as operands."""
        p = self.parameters if parameters is None else parameters
        return [
            self.quantised(p[:, w].reshape(-1, *shape), "weights", 3 * i, rounding)
            for i, (w, _, shape) in enumerate(self.layout)
        ]

    def forward(
        self,
        x: Array,
        parameters: Array | None = None,
        rounding: str | None = None,
    ) -> tuple[list[Array], list[Array]]:
        """Layers as operands, the last as logits in binary32; the weights as operands."""
        p = self.parameters if parameters is None else parameters
        weights = self.used(p, rounding)
        layers = [self.quantised(x, "activations", 1, rounding)]
        last = len(weights) - 1
        for i, (w, (_, b, _)) in enumerate(zip(weights, self.layout, strict=True)):
            z = product(layers[-1], w) + p[:, None, b]
            if i < last:
                h = np.maximum(z, 0) if self.training.activation == "relu" else np.tanh(z)
                z = self.quantised(h, "activations", 3 * i + 4, rounding)
            layers.append(z)
        return layers, weights

    def gradient(
        self,
        x: Array,
        y: Labels,
        parameters: Array | None = None,
        rounding: str | None = None,
    ) -> tuple[Array, Array]:
        """Each network's mean loss and the gradient that its training uses: of shapes
        (networks,) and (networks, n)."""
        layers, weights = self.forward(x, parameters, rounding)
        losses, g = objective(layers[-1], y, self.training.objective)
        rows = np.float32(y.shape[-1])
        found = np.empty((len(weights[0]), self.layout[-1][1].stop), np.float32)
        for i in range(len(weights) - 1, -1, -1):
            w, b, _ = self.layout[i]
            g = self.quantised(g, "gradients", 3 * i + 2, rounding)
            found[:, w] = product(layers[i].swapaxes(1, 2), g).reshape(len(found), -1) / rows
            found[:, b] = g.sum(axis=1) / rows
            if i > 0:
                h = layers[i]
                slope = (h > 0) if self.training.activation == "relu" else 1 - h * h
                g = product(g, weights[i].swapaxes(1, 2)) * slope
        return losses, found

    def train_step(self, x: Array, y: Labels) -> Array:
        """One step of each network; returns their losses before it. A network whose loss or
        parameters are not finite stays where it was."""
        t = self.training
        losses, g = self.gradient(x, y)
        velocity = np.float32(t.momentum) * self.velocity + g
        moved = self.parameters - np.float32(t.rate_at(self.step)) * velocity
        sound = np.isfinite(losses) & np.isfinite(moved).all(axis=1)
        self.parameters = np.where(sound[:, None], moved, self.parameters)
        self.velocity = np.where(sound[:, None], velocity, self.velocity)
        self.step += 1
        return np.where(sound, losses, np.nan).astype(np.float32)


def objective(z: NDArray[Any], y: Labels, kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean loss over rows, (networks,), and each row's gradient in the logits."""
    at = np.broadcast_to(y, z.shape[:-1])[..., None]
    if kind == "squared":
        g = z.copy()
        np.put_along_axis(g, at, np.take_along_axis(g, at, -1) - 1, -1)
        return (g * g).sum(axis=-1).mean(axis=-1) / 2, g
    shifted = z - z.max(axis=-1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=-1, keepdims=True)
    losses = (np.log(total) - np.take_along_axis(shifted, at, -1))[..., 0].mean(axis=-1)
    g = e / total
    np.put_along_axis(g, at, np.take_along_axis(g, at, -1) - 1, -1)
    return losses, g
