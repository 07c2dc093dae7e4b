"""Small networks on flat vectors of parameters: passes written once, for arrays and dual arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halfulp.sharpness._arguments import Array, Map, vector
from halfulp.sharpness._dual import exact_hvp
from halfulp.transforms._arguments import integer, number

Quantise = Callable[[str, Any], Any]  # (role, array) -> array


def _plain(role: str, x: Any) -> Any:
    return x


@dataclass(frozen=True)
class Dense:
    """z = h·W + b, W (inputs, outputs)."""

    inputs: int
    outputs: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.inputs, self.outputs

    @property
    def products(self) -> int:
        """Multiplications of one row."""
        return self.inputs * self.outputs

    def forward(self, w: Any, b: Any, h: Any) -> tuple[Any, Any]:
        """z, and what the backward pass needs again."""
        return h @ w + b[..., None, :], None

    def backward(self, w: Any, kept: Any, h: Any, g: Any, first: bool) -> tuple[Any, Any, Any]:
        """The gradients of W, of b, and of h (None for the first layer)."""
        back = None if first else g @ w.swapaxes(-1, -2)
        return h.swapaxes(-1, -2) @ g, g.sum(axis=-2), back


class Convolution:
    """A valid convolution of square images, as a product for each output pixel.

    Images are flat, pixel by pixel, channels last. W: (kernel²·before, after). Inside, rows stand
    last, so that all copies are of long pieces; outside that shows only in strides.
    """

    def __init__(self, side: int, before: int, after: int, kernel: int, stride: int) -> None:
        if side < kernel:
            raise ValueError(f"the kernel is {kernel} wide, but the image before it only {side}")
        self.before, self.after, self.kernel = before, after, kernel
        self.image = (side, side, before)
        self.side = (side - kernel) // stride + 1
        self.inputs, self.outputs = side * side * before, self.side**2 * after
        self.shape = (kernel * kernel * before, after)
        self.products = self.side**2 * kernel * kernel * before * after
        out, k = np.arange(self.side) * stride, np.arange(kernel)
        # (output pixel, place in the kernel, channel) -> input
        rows = (out[:, None] + k).reshape(self.side, 1, kernel, 1, 1)
        columns = (out[:, None] + k).reshape(1, self.side, 1, kernel, 1)
        self.gather = ((rows * side + columns) * before + np.arange(before)).ravel()
        self.steps = [slice(o, o + stride * (self.side - 1) + 1, stride) for o in k.tolist()]

    def forward(self, w: Any, b: Any, h: Any) -> tuple[Any, Any]:
        lead, rows = h.shape[:-2], h.shape[-2]
        patches = h.swapaxes(-1, -2).take(self.gather, axis=len(lead))
        patches = patches.reshape(*lead, self.side**2, self.shape[0], rows)
        z = w.swapaxes(-1, -2)[..., None, :, :] @ patches + b[..., None, :, None]
        return z.reshape(*z.shape[:-3], self.outputs, rows).swapaxes(-1, -2), patches

    def backward(self, w: Any, kept: Any, h: Any, g: Any, first: bool) -> tuple[Any, Any, Any]:
        lead, rows, s = g.shape[:-2], g.shape[-2], self.side
        g = g.swapaxes(-1, -2).reshape(*lead, s * s, self.after, rows)
        gw = (kept @ g.swapaxes(-1, -2)).sum(axis=-3)
        gb = g.sum(axis=-1).sum(axis=-2)
        if first:
            return gw, gb, None
        back = w[..., None, :, :] @ g
        back = back.reshape(*lead, s, s, self.kernel, self.kernel, self.before, rows)
        found = np.zeros_like(h.swapaxes(-1, -2).reshape(*lead, *self.image, rows))
        for i, down in enumerate(self.steps):
            for j, across in enumerate(self.steps):
                found[..., down, across, :, :] += back[..., i, j, :, :]
        return gw, gb, found.reshape(*lead, self.inputs, rows).swapaxes(-1, -2)


def _normal(z: Any) -> Any:
    """Φ(z)."""
    from scipy.special import erf  # here, since importing SciPy takes long

    return 0.5 * (1 + erf(z * np.sqrt(0.5)))


# By name: the function of z, and its slope from z and its value.
ACTIVATIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "relu": (lambda z: np.maximum(z, 0.0), lambda z, a: z > 0),
    "tanh": (np.tanh, lambda z, a: 1 - a * a),
    "gelu": (
        lambda z: z * _normal(z),
        lambda z, a: _normal(z) + z * np.exp(-0.5 * z * z) * (1 / np.sqrt(2 * np.pi)),
    ),
}


class Network:
    """Layers of products with an activation between them, and mean cross-entropy at the end.

    w: parameters (n,) in float64, in the order of `parameters`; x: (rows, inputs); y: classes
    (rows,). w may be a stack (…, n), and x and y then too, (…, rows, inputs) and (…, rows): one
    network each, and losses (…). quantise(role, array) is called on every operand of a product:
    role "weights", "activations" (the inputs are some) and "gradients" (of a layer's z); its result
    stands in the forward and in the backward pass (straight through). Biases stay as they are.
    """

    def __init__(self, layers: Sequence[Dense | Convolution], activation: str) -> None:
        if activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"activation is {activation!r}, but must be one of {known}")
        self.layers = tuple(layers)
        self.activation = activation
        self.inputs, self.classes = self.layers[0].inputs, self.layers[-1].outputs
        self.parameters: dict[str, slice] = {}
        self.n = 0
        for i, layer in enumerate(self.layers):
            ends = self.n + layer.shape[0] * layer.shape[1]
            self.parameters[f"{i + 1}.weight"] = slice(self.n, ends)
            self.n = ends + layer.shape[1]
            self.parameters[f"{i + 1}.bias"] = slice(ends, self.n)

    @property
    def weights(self) -> dict[str, slice]:
        """`parameters` without the biases: the layers that are quantised."""
        return {k: part for k, part in self.parameters.items() if k.endswith("weight")}

    def initial(self, seed: int) -> Array:
        """Weights normal with deviation √(2/inputs) for relu, else √(1/inputs); biases 0."""
        random = np.random.default_rng([integer(seed, "seed", 0, 2**64 - 1), 1])
        gain = 2.0 if self.activation == "relu" else 1.0
        pieces = []
        for layer in self.layers:
            pieces.append(random.normal(size=layer.shape).ravel() * np.sqrt(gain / layer.shape[0]))
            pieces.append(np.zeros(layer.shape[1]))
        return np.concatenate(pieces)

    def arrays(self, w: Any) -> list[tuple[Any, Any]]:
        """(W, b) of each layer, views of w."""
        if w.shape[-1] != self.n:
            raise ValueError(f"w has the shape {w.shape}, but the network {self.n} parameters")
        parts = list(self.parameters.values())
        return [
            (w[..., a].reshape(*w.shape[:-1], *layer.shape), w[..., b])
            for layer, a, b in zip(self.layers, parts[::2], parts[1::2], strict=True)
        ]

    def _forward(self, w: Any, x: Any, quantise: Quantise) -> tuple[list[Any], ...]:
        """Weights and layers as the products took them, all z, and what layers keep."""
        x = np.asarray(x, np.float64)
        if x.ndim < 2 or x.shape[-1] != self.inputs:
            raise ValueError(f"x has the shape {x.shape}, but must be (rows, {self.inputs})")
        f, _ = ACTIVATIONS[self.activation]
        used, layers, sums, kept = [], [quantise("activations", x)], [], []
        for i, (layer, (matrix, bias)) in enumerate(zip(self.layers, self.arrays(w), strict=True)):
            if i > 0:
                layers.append(quantise("activations", f(sums[-1])))
            used.append(quantise("weights", matrix))
            z, keep = layer.forward(used[-1], bias, layers[-1])
            sums.append(z)
            kept.append(keep)
        return used, layers, sums, kept

    def logits(self, w: Any, x: ArrayLike, quantise: Quantise | None = None) -> Any:
        """(…, rows, classes)."""
        return self._forward(w, x, quantise or _plain)[2][-1]

    def loss(self, w: Any, x: ArrayLike, y: ArrayLike, quantise: Quantise | None = None) -> Any:
        """Mean cross-entropy in nats: a float, or (…) of a stack."""
        found = cross_entropy(self.logits(w, x, quantise), y)
        return float(found) if np.ndim(found) == 0 else found

    def accuracy(self, w: Any, x: ArrayLike, y: ArrayLike, quantise: Quantise | None = None) -> Any:
        """The share of rows whose largest logit is that of their class; a NaN is none."""
        z = self.logits(w, x, quantise)
        right = (z.argmax(axis=-1) == np.asarray(y)) & np.isfinite(z).all(axis=-1)
        found = right.mean(axis=-1)
        return float(found) if np.ndim(found) == 0 else found

    def gradient(self, w: Any, x: ArrayLike, y: ArrayLike, quantise: Quantise | None = None) -> Any:
        """Of the loss with respect to w, of w's shape; runs over dual arrays."""
        q = quantise or _plain
        used, layers, sums, kept = self._forward(w, x, q)
        _, slope = ACTIVATIONS[self.activation]
        g = self._output_gradient(sums[-1], y) * (1 / layers[0].shape[-2])
        pieces: list[Any] = []
        for i in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[i]
            gw, gb, g = layer.backward(used[i], kept[i], layers[i], q("gradients", g), i == 0)
            if i > 0:
                # the activation's own value, for tanh, before its quantisation
                z = sums[i - 1]
                a = np.tanh(z) if self.activation == "tanh" else None
                g = g * slope(z, a)
            pieces += [gb, gw.reshape(*gw.shape[:-2], -1)]
        return np.concatenate(pieces[::-1], axis=-1)

    def _output_gradient(self, z: Any, y: ArrayLike) -> Any:
        """Of each row's loss in its logits."""
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True) - self._one_hot(y)

    def _one_hot(self, y: ArrayLike) -> NDArray[np.bool_]:
        classes = np.asarray(y)
        if classes.dtype.kind not in "iu":
            raise TypeError(f"y must hold integers (classes), not {classes.dtype}")
        if classes.size and not (classes.min() >= 0 and classes.max() < self.classes):
            raise ValueError(
                f"y holds {classes.min()} to {classes.max()}, "
                f"but classes are 0 to {self.classes - 1}"
            )
        return np.asarray(classes[..., None] == np.arange(self.classes))

    def hvp(self, w: ArrayLike, x: ArrayLike, y: ArrayLike) -> Map:
        """v -> H·v of the unquantised loss at w, exact (`exact_hvp`); of a quantised network pass
        the quantised weights: semantics (a).
        """
        return exact_hvp(lambda at: self.gradient(at, x, y), vector(w, "w"))

    def quantised(self, w: Array, quantise: Quantise) -> Array:
        """w with its weights as the products take them."""
        found = np.array(w, np.float64)
        for part, (matrix, _) in zip(self.weights.values(), self.arrays(w), strict=True):
            found[..., part] = quantise("weights", matrix).reshape(*found.shape[:-1], -1)
        return found


class Mlp(Network):
    """Dense layers: widths from the inputs to the classes, as (64, 32, 10)."""

    def __init__(self, widths: Sequence[int], activation: str = "relu") -> None:
        found = [integer(width, "a width", 1, 2**20) for width in widths]
        if len(found) < 2:
            raise ValueError(f"widths is {tuple(widths)}, but must hold inputs and classes")
        super().__init__([Dense(*pair) for pair in pairwise(found)], activation)


class ConvNet(Network):
    """Two 3 × 3 convolutions without padding, and a dense layer, on images side × side."""

    def __init__(
        self,
        side: int = 8,
        channels: tuple[int, int] = (6, 12),
        classes: int = 10,
        activation: str = "relu",
        strides: tuple[int, int] = (1, 1),
    ) -> None:
        side = integer(side, "side", 3, 2**10)
        one = Convolution(side, 1, channels[0], 3, strides[0])
        two = Convolution(one.side, channels[0], channels[1], 3, strides[1])
        super().__init__([one, two, Dense(two.outputs, classes)], activation)


def cross_entropy(z: Any, y: ArrayLike) -> Any:
    """Mean over rows of −log softmax(z)_y, (…) for (…, rows, classes)."""
    top = z.max(axis=-1, keepdims=True)
    at = np.broadcast_to(np.asarray(y), z.shape[:-1])[..., None]
    d = z - top
    rows = np.log(np.exp(d).sum(axis=-1)) - np.take_along_axis(d, at, -1)[..., 0]
    return rows.mean(axis=-1)


def adam(
    network: Network,
    w: Array,
    x: Array,
    y: NDArray[np.int64],
    *,
    epochs: int,
    rate: float = 3e-3,
    batch: int = 64,
    seed: int = 0,
    decay: float = 0.0,
    anneal: bool = False,
    quantise: Quantise | None = None,
) -> Array:
    """w after epochs of Adam (0.9, 0.999, 1e-8; decoupled decay) in random batches by seed.
    anneal: the rate falls linearly to 0.
    """
    random = np.random.default_rng([integer(seed, "seed", 0, 2**64 - 1), 2])
    batch = min(integer(batch, "batch", 1, 2**40), len(x))
    rate = number(rate, "rate", 0.0)
    w = np.array(w, np.float64)
    epochs = integer(epochs, "epochs", 0, 2**40)
    m, v, step, steps = np.zeros_like(w), np.zeros_like(w), 0, epochs * (len(x) // batch)
    for _ in range(epochs):
        order = random.permutation(len(x))
        for start in range(0, len(x) - batch + 1, batch):
            rows = order[start : start + batch]
            g = network.gradient(w, x[rows], y[rows], quantise)
            step += 1
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            now = rate * (1 - (step - 1) / steps if anneal else 1)
            corrected = now * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            w = w - corrected * m / (np.sqrt(v) + 1e-8) - now * decay * w
    return w
