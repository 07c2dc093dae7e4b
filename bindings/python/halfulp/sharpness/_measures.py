"""Sharpness measures of a stack of networks in lockstep, for the study `sharpness`.

The algorithms are those of the public functions, of which each is one network's case (a test holds
them to that). Three semantics stay apart (docs/sharpness.md): `smooth` is the unrounded graph, at
the rounded weights; `critical` and `box` see the rounded function's values alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halfulp.sharpness._networks import Mlp, Quantise
from halfulp.sharpness._training import Labels, Stack, objective

Floats = NDArray[np.float64]
Losses = Callable[[Floats], Floats]  # of (networks, n): (networks,)


class Squared(Mlp):
    """Half the squared distance of the logits to one-hot, mean over rows."""

    def loss(self, w: Any, x: ArrayLike, y: ArrayLike, quantise: Quantise | None = None) -> Any:
        away = self.logits(w, x, quantise) - self._one_hot(y)
        return (away * away).sum(axis=-1).mean(axis=-1) / 2

    def _output_gradient(self, z: Any, y: ArrayLike) -> Any:
        return z - self._one_hot(y)


class Smooth:
    """The unrounded loss of networks in binary64, its gradient and its Hessian's products, on the
    same rows for all of them."""

    def __init__(self, stack: Stack, x: NDArray[Any], y: Labels):
        t = stack.training
        kind = Squared if t.objective == "squared" else Mlp
        self.network = kind(t.widths, t.activation)
        k = len(stack.seeds)
        self.x = np.broadcast_to(x.astype(np.float64), (k, *x.shape))
        self.y = np.broadcast_to(y, (k, len(y)))

    def loss(self, w: Floats) -> Floats:
        return np.asarray(self.network.loss(w, self.x, self.y))

    def gradient(self, w: Floats) -> Floats:
        return np.asarray(self.network.gradient(w, self.x, self.y))

    def hvp(self, w: Floats) -> Callable[[Floats], Floats]:
        """Products of all networks at once: (networks, n) to (networks, n)."""
        return self.network.hvp(w, self.x, self.y)  # type: ignore[return-value]


def top_eigenvalues(
    hvp: Callable[[Floats], Floats], networks: int, n: int, steps: int, seed: int = 0
) -> tuple[Floats, Floats]:
    """λ_max of each network's Hessian after `steps` steps of Lanczos' process with full
    re-orthogonalisation, and the bound of its residual; both (networks,)."""
    from scipy.linalg import eigh_tridiagonal

    steps = min(steps, n)
    start = np.random.default_rng(seed).standard_normal(n)
    basis = np.zeros((networks, steps, n))
    basis[:, 0] = start / np.linalg.norm(start)
    alphas, betas = np.zeros((networks, steps)), np.zeros((networks, steps))
    for m in range(steps):
        q = basis[:, m]
        r = hvp(q)
        alphas[:, m] = (q * r).sum(axis=1)
        known = basis[:, : m + 1]
        for _ in range(2):
            r = r - np.einsum("km,kmn->kn", np.einsum("kmn,kn->km", known, r), known)
        betas[:, m] = np.linalg.norm(r, axis=1)
        if m + 1 < steps:
            basis[:, m + 1] = r / np.where(betas[:, m] > 0, betas[:, m], 1)[:, None]
    values, residuals = np.full(networks, np.nan), np.full(networks, np.nan)
    for k in np.flatnonzero(np.isfinite(alphas).all(axis=1) & np.isfinite(betas).all(axis=1)):
        found, shapes = eigh_tridiagonal(alphas[k], betas[k, :-1])
        values[k], residuals[k] = found[-1], abs(betas[k, -1] * shapes[-1, -1])
    return values, residuals


def traces(
    hvp: Callable[[Floats], Floats], networks: int, n: int, samples: int, seed: int = 0
) -> Floats:
    """Hutchinson's estimate, the same random signs for every network."""
    generator = np.random.default_rng(seed)
    total = np.zeros(networks)
    for _ in range(samples):
        x = np.broadcast_to(generator.choice([-1.0, 1.0], n), (networks, n))
        total += (x * hvp(x)).sum(axis=1)
    return total / samples


def sam(smooth: Smooth, w: Floats, gradient: Floats, rho: float) -> Floats:
    """L(w + ρ·g/‖g‖) − L(w), at least 0 as the public function's; 0 where g is."""
    norm = np.linalg.norm(gradient, axis=1, keepdims=True)
    away = w + rho * gradient / np.where(norm > 0, norm, 1)
    return np.maximum(smooth.loss(away) - smooth.loss(w), 0)


def critical(
    losses: Losses,
    w: Floats,
    direction: Floats,
    initial: float,
    *,
    tolerance: float = 0.05,
    doublings: int = 12,
) -> tuple[Floats, NDArray[np.int64]]:
    """λ_c = 2/η_c of each network, and the evaluations that its own search needs."""
    start = losses(w)
    k = len(w)
    step, low, high = np.full(k, initial), np.zeros(k), np.full(k, np.inf)
    count = np.ones(k, np.int64)

    def rises(eta: Floats) -> NDArray[np.bool_]:
        found = losses(w + eta[:, None] * direction)
        return (found > start) | np.isnan(found)

    up = rises(step)
    count += 1
    high[up], low[~up] = step[up], step[~up]
    open_ = np.isfinite(start)
    for _ in range(doublings):
        if not open_.any():
            break
        step = np.where(up, step / 2, step * 2)
        now = rises(step)
        count += open_
        at = open_ & now
        high[at] = step[at]
        at = open_ & ~now
        low[at] = step[at]
        open_ = open_ & (now == up)
    bracketed = (low > 0) & np.isfinite(high)
    for _ in range(60):
        wide = bracketed & (high - low > tolerance * high)
        if not wide.any():
            break
        middle = np.where(wide, low + (high - low) / 2, high)
        now = rises(middle)
        count += wide
        high = np.where(wide & now, middle, high)
        low = np.where(wide & ~now, middle, low)
    value = np.where(bracketed, 2 / high, np.where(up, np.inf, 0.0))
    return np.where(np.isfinite(start), value, np.nan), count


def box(losses: Losses, w: Floats, epsilon: float, samples: int, seed: int = 0) -> Floats:
    """Keskar's quotient, the largest of random corners and points of the box, in turn."""
    start = losses(w)
    generator = np.random.default_rng(seed)
    reach = epsilon * (np.abs(w) + 1)
    most = start
    for i in range(samples):
        shape = w.shape[1:]
        u = generator.choice([-1.0, 1.0], shape) if i % 2 == 0 else generator.uniform(-1, 1, shape)
        most = np.fmax(most, losses(w + reach * u))
    return 100 * (most - start) / (1 + start)


@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def measure(
    stack: Stack,
    x: NDArray[Any],
    y: Labels,
    *,
    lanczos_steps: int = 8,
    probes: int = 4,
    samples: int = 8,
    epsilon: float = 1e-3,
    logit_epsilon: float = 1e-2,
    rho: float = 0.05,
) -> dict[str, Floats]:
    """What is known of each network before its next step, by name; (networks,) each. NaN where a
    network's loss is not finite."""
    from halfulp.sharpness._losses import logit_sharpness

    t = stack.training
    rounding = None if not t.rounding.startswith("stochastic") else "nearest-even"
    x32 = x[None]  # rounded once for all networks
    k, n = stack.parameters.shape

    def rounded(w: Floats) -> Floats:
        z = stack.forward(x32, w.astype(np.float32), rounding)[0][-1]
        return objective(z.astype(np.float64), y, t.objective)[0]

    logits = stack.forward(x32, None, rounding)[0][-1].astype(np.float64)
    gradient = stack.gradient(x32, y, None, rounding)[1].astype(np.float64)
    losses = objective(logits, y, t.objective)[0]
    most = logits.max(axis=2)
    used = stack.parameters.astype(np.float64)
    for i, (at, _, _) in enumerate(stack.layout):
        used[:, at] = stack.used(None, rounding)[i].reshape(k, -1)
    smooth = Smooth(stack, x, y)
    true = smooth.gradient(used)
    norm = np.linalg.norm(gradient, axis=1)
    w = stack.parameters.astype(np.float64)
    update = -(t.momentum * stack.velocity.astype(np.float64) + gradient)
    along_update, evaluations = critical(rounded, w, update, t.rate_at(stack.step))
    along_gradient, more = critical(rounded, w, -gradient, t.rate_at(stack.step))
    hvp = smooth.hvp(used)
    eigenvalue, residual = top_eigenvalues(hvp, k, n, lanczos_steps)
    found = {
        "loss": losses,
        "gradient-norm": norm,
        "gradient-error": np.linalg.norm(gradient - true, axis=1) / np.linalg.norm(true, axis=1),
        "max-logit": np.abs(logits).max(axis=(1, 2)),
        "log-z": (most + np.log(np.exp(logits - most[..., None]).sum(axis=2))).mean(axis=1),
        "logit-sharpness": np.array(
            [
                logit_sharpness(z, y, logit_epsilon).value if np.isfinite(z).all() else np.nan
                for z in logits
            ]
        ),
        "sam": sam(smooth, used, true, rho),
        "critical": along_update,
        "critical-evaluations": evaluations.astype(np.float64),
        "critical-gradient": along_gradient,
        "critical-gradient-evaluations": more.astype(np.float64),
        "box": box(rounded, w, epsilon, samples),
        "lambda-max": eigenvalue,
        "lambda-residual": residual,
        "trace": traces(hvp, k, n, probes),
    }
    sound = np.isfinite(losses)
    return {name: np.where(sound, v, np.nan) for name, v in found.items()}
