"""Sharpness by values of the loss (and its gradient); definitions in docs/sharpness.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halfulp.sharpness._arguments import (
    Array,
    Loss,
    Map,
    callable_of,
    like,
    loss_at,
    loss_at_start,
    vector,
)
from halfulp.transforms._arguments import integer, number


@dataclass(frozen=True)
class LogitSharpness:
    """Logit sharpness of a batch. Percent of 1 + loss; `rises` and `losses` are of each row."""

    value: float
    first_order: float
    loss: float
    losses: Array
    rises: Array
    logits: Array  # where each row's loss is largest


def logit_sharpness(logits: ArrayLike, targets: ArrayLike, epsilon: float = 1e-3) -> LogitSharpness:
    """φ = 100·(max f(z₀ + z) − f(z₀)) / (1 + f(z₀)) over |z_i| ≤ b_i = ε(|z₀_i| + 1), in closed
    form.

    logits: (rows, classes), or (classes,) for one row; targets: the class of each row; f: mean
    cross-entropy of the rows, in nats. Cross-entropy rises in each wrong logit and falls in the
    right one, so the maximum is the corner z₀_i + b_i (i ≠ y), z₀_y − b_y. `first_order` puts
    Σ_{i≠y} p_i b_i + (1 − p_y) b_y for the rise. Source: arXiv:2405.18710, which searches by
    L-BFGS-B.
    """
    z = vector(logits, "logits")
    if z.ndim not in (1, 2) or z.shape[-1] < 2:
        raise ValueError(
            f"logits has the shape {z.shape}, but must be (rows, classes) with at least 2 classes"
        )
    z = np.atleast_2d(z)
    y = np.atleast_1d(np.asarray(targets))
    if y.dtype.kind not in "iu":
        raise TypeError(f"targets must be integers (classes), not {y.dtype}")
    if y.shape != z.shape[:1]:
        raise ValueError(f"targets has the shape {y.shape}, but logits has {z.shape[0]} row(s)")
    wrong = (y < 0) | (y >= z.shape[1])
    if wrong.any():
        raise ValueError(
            f"targets holds {y[wrong][0]}, but classes are 0 to {z.shape[1] - 1}; "
            "leave out rows without a class"
        )
    e = number(epsilon, "epsilon", 0.0)
    rows = np.arange(len(y))
    reach = e * (np.abs(z) + 1)
    sign = np.ones_like(z)
    sign[rows, y] = -1
    # All is written in d_i = z_i − z_y, since f = log Σ exp(d_i), and d_i moves by s_i = b_i + b_y.
    d = z - z[rows, y][:, None]
    shift = reach + reach[rows, y][:, None]
    shift[rows, y] = 0
    losses = _log_sum(d, y)
    # The rise is log1p(Σ_{i≠y} p_i·(exp(s_i) − 1)), without the difference of two close losses,
    # where that does not overflow.
    p = np.exp(d - losses[:, None])
    rises = _log_sum(d + shift, y) - losses
    tame = shift.max(axis=1) < 30
    rises[tame] = np.log1p((p[tame] * np.expm1(shift[tame])).sum(axis=1))
    f = float(losses.mean())
    other = 1 - p[rows, y]
    p[rows, y] = 0
    # 1 − p_y as the sum of the others, where it is small.
    other = np.where(other < 0.5, p.sum(axis=1), other)
    linear = (p * reach).sum(axis=1) + other * reach[rows, y]
    return LogitSharpness(
        100 * float(rises.mean()) / (1 + f),
        100 * float(linear.mean()) / (1 + f),
        f,
        losses,
        rises,
        z + sign * reach,
    )


def _log_sum(d: Array, y: NDArray[np.integer]) -> Array:
    """log Σ exp(d_i), where d_y = 0 is known: exact digits also where it is close to 0."""
    rows = np.arange(len(d))
    top = d.argmax(axis=1)
    top = np.where(d[rows, top] > 0, top, y)
    most = d[rows, top]
    rest = np.exp(d - most[:, None])
    rest[rows, top] = 0
    return most + np.log1p(rest.sum(axis=1))


@dataclass(frozen=True)
class Sharpness:
    """A largest loss that was found, so a lower bound of the largest there is.

    value: 100·rise/(1 + loss) for Keskar's and the box's, the rise itself for SAM's; perturbation:
    where `rise` was found; evaluations: of the loss.
    """

    value: float
    loss: float
    rise: float
    perturbation: Array
    evaluations: int


class _Best:
    """Counts evaluations of a loss and keeps the largest finite-or-infinite one."""

    def __init__(self, loss: Loss, w: Array) -> None:
        self.loss, self.w = callable_of(loss, "loss"), w
        self.start = loss_at_start(loss, w)
        self.most, self.where, self.count = self.start, np.zeros_like(w), 1

    def __call__(self, delta: Array) -> float:
        value = loss_at(self.loss, self.w + delta)
        self.count += 1
        if value > self.most:
            self.most, self.where = value, delta.copy()
        return value

    def result(self, percent: bool) -> Sharpness:
        rise = self.most - self.start
        value = 100 * rise / (1 + self.start) if percent else rise
        return Sharpness(value, self.start, rise, self.where, self.count)


def keskar(
    loss: Loss,
    w: ArrayLike,
    epsilon: float = 1e-3,
    *,
    gradient: Map | None = None,
    subspace: int | None = None,
    iterations: int = 10,
    starts: int = 2,
    seed: int = 0,
) -> Sharpness:
    """Keskar's ε-sharpness φ = 100·(max f(w + A·y) − f(w)) / (1 + f(w)) by L-BFGS-B.

    Over |y_i| ≤ ε(|(A⁺w)_i| + 1); A is the identity, or with `subspace=p` a matrix of p columns of
    independent normal numbers. gradient: of the loss at a point, of w's shape; without it,
    differences of the loss (p + 1 or n + 1 evaluations for each). The search begins at y = 0
    and at starts − 1 random points, `iterations` steps each. It finds a lower bound.
    A piecewise constant loss has no gradient: use `box_sharpness`.
    """
    from scipy.optimize import minimize  # here, since importing SciPy takes long

    w = vector(w, "w")
    e = number(epsilon, "epsilon", 0.0)
    starts = integer(starts, "starts", 1, 10**6)
    iterations = integer(iterations, "iterations", 1, 10**6)
    if gradient is not None:
        callable_of(gradient, "gradient")
    generator = np.random.default_rng(integer(seed, "seed", 0, 2**64 - 1))
    flat = w.ravel()
    if subspace is None:
        basis, centre = None, flat
    else:
        p = integer(subspace, "subspace", 1, flat.size)
        basis = generator.standard_normal((flat.size, p))
        centre = np.linalg.lstsq(basis, flat, rcond=None)[0]
    reach = e * (np.abs(centre) + 1)
    best = _Best(loss, w)

    def delta(y: Array) -> Array:
        # y is in units of the box, so that L-BFGS-B sees a cube.
        y = y * reach
        return (y if basis is None else basis @ y).reshape(w.shape)

    def value(y: Array) -> float:
        # L-BFGS-B cannot work with infinities; the infinite value itself is kept by `best`.
        return -min(best(delta(y)), 1e300)

    def slope(y: Array) -> Array:
        assert gradient is not None
        g = like(gradient(w + delta(y)), w.shape, "gradient(w)").ravel()
        return -reach * (g if basis is None else basis.T @ g)

    box = [(-1.0, 1.0)] * reach.size
    for start in range(starts):
        y = np.zeros(reach.size) if start == 0 else generator.uniform(-1, 1, reach.size)
        found = minimize(
            value,
            y,
            jac=None if gradient is None else slope,
            method="L-BFGS-B",
            bounds=box,
            options={"maxiter": iterations},
        )
        best(delta(np.clip(found.x, -1, 1)))
    return best.result(percent=True)


def sam(loss: Loss, gradient: Map, w: ArrayLike, rho: float = 0.05, *, steps: int = 1) -> Sharpness:
    """SAM's sharpness: L(w + δ) − L(w) with δ = ρ·g/‖g‖, a lower bound of the rise in the ball ‖δ‖
    ≤ ρ.

    steps > 1: δ ← ρ·g(w + δ)/‖g(w + δ)‖ again, which climbs to the maximum of a convex loss. Where
    the gradient is 0 there is no direction, and the value is 0. Source: arXiv:2010.01412.
    """
    w = vector(w, "w")
    radius = number(rho, "rho", 0.0)
    callable_of(gradient, "gradient")
    best = _Best(loss, w)
    delta = np.zeros_like(w)
    for _ in range(integer(steps, "steps", 1, 10**9)):
        g = like(gradient(w + delta), w.shape, "gradient(w)")
        # Divided by the largest first: squares of small numbers underflow.
        most = np.abs(g).max()
        if most == 0:
            break
        g = g / most
        delta = radius * (g / np.linalg.norm(g))
        best(delta)
    return best.result(percent=False)


@dataclass(frozen=True)
class CriticalSharpness:
    """λ_c = 2/η_c. η_c lies above bracket[0], which did not raise the loss, and at most at
    bracket[1] = `step`, which did. Never raised: value 0, step ∞. Raised by every step tried:
    value ∞, step 0.
    """

    value: float
    step: float
    bracket: tuple[float, float]
    loss: float
    evaluations: int


def critical_sharpness(
    loss: Loss,
    w: ArrayLike,
    direction: ArrayLike,
    *,
    initial: float = 1.0,
    tolerance: float = 1e-3,
    doublings: int = 40,
) -> CriticalSharpness:
    """Critical sharpness λ_c = 2/η_c, η_c the smallest step η with L(w + η·direction) > L(w).

    direction: the update for a learning rate of 1 (minus the gradient for gradient descent, where a
    quadratic loss has λ_c = gᵀHg/gᵀg). `initial` is doubled until the loss rises, or halved until
    it does not, `doublings` times at most; then the bracket is halved until it is narrower than
    tolerance·η_c. Only comparisons of losses decide, so it serves piecewise constant ones; a rise
    that begins and ends between the steps tried is not seen. A NaN counts as a rise. Source:
    arXiv:2601.16979.
    """
    w = vector(w, "w")
    d = like(direction, w.shape, "direction")
    if not d.any():
        raise ValueError("direction is 0 everywhere; there is no step along it")
    step = number(initial, "initial", 0.0)
    if not 0 < step < np.inf:
        raise ValueError(f"initial is {step:g}, but must be above 0 and finite")
    tolerance = number(tolerance, "tolerance", 1e-15, 1.0)
    doublings = integer(doublings, "doublings", 1, 1000)
    callable_of(loss, "loss")
    start = loss_at_start(loss, w)
    count = 1

    def rises(eta: float) -> bool:
        nonlocal count
        count += 1
        return loss_at(loss, w + eta * d) > start

    def result(value: float, step: float, low: float, high: float) -> CriticalSharpness:
        return CriticalSharpness(value, step, (low, high), start, count)

    if rises(step):
        low, high = 0.0, step
        for _ in range(doublings):
            step /= 2
            if not rises(step):
                low = step
                break
            high = step
        else:
            return result(np.inf, 0.0, 0.0, high)
    else:
        low = step
        for _ in range(doublings):
            step *= 2
            if rises(step):
                high = step
                break
            low = step
        else:
            return result(0.0, np.inf, low, np.inf)
    while high - low > tolerance * high:
        middle = low + (high - low) / 2
        if not low < middle < high:
            break
        if rises(middle):
            high = middle
        else:
            low = middle
    return result(2 / high, high, low, high)


def box_sharpness(
    loss: Loss, w: ArrayLike, epsilon: float = 1e-3, *, samples: int = 100, seed: int = 0
) -> Sharpness:
    """The largest 100·(f(w + δ) − f(w))/(1 + f(w)) of `samples` random corners δ_i = ±ε(|w_i| + 1).

    Keskar's box without a gradient, for quantised functions. Every second sample lies at a random
    point inside, since a piecewise constant loss need not be largest at a corner.
    """
    w = vector(w, "w")
    reach = number(epsilon, "epsilon", 0.0) * (np.abs(w) + 1)
    samples = integer(samples, "samples", 1, 10**9)
    generator = np.random.default_rng(integer(seed, "seed", 0, 2**64 - 1))
    best = _Best(loss, w)
    for i in range(samples):
        if i % 2 == 0:
            best(reach * generator.choice([-1.0, 1.0], w.shape))
        else:
            best(reach * generator.uniform(-1, 1, w.shape))
    return best.result(percent=True)


@dataclass(frozen=True)
class RandomSharpness:
    """Mean rise of the loss, its standard error, and 2·mean/σ²: the curvature summed over
    directions.
    """

    value: float
    standard_error: float
    curvature: float
    loss: float
    evaluations: int


def random_sharpness(
    loss: Loss, w: ArrayLike, sigma: float, *, pairs: int = 50, seed: int = 0
) -> RandomSharpness:
    """E[L(w + σu)] − L(w), u standard normal, by `pairs` of u and −u, whose odd terms cancel.

    For a quadratic loss the expectation is σ²/2·tr H; for any loss it is the rise of the loss
    smoothed by the normal density, and so defined for piecewise constant ones.
    """
    w = vector(w, "w")
    s = number(sigma, "sigma", 0.0)
    if not 0 < s < np.inf:
        raise ValueError(f"sigma is {s:g}, but must be above 0 and finite")
    pairs = integer(pairs, "pairs", 2, 10**9)
    generator = np.random.default_rng(integer(seed, "seed", 0, 2**64 - 1))
    callable_of(loss, "loss")
    start = loss_at_start(loss, w)
    rises = np.empty(pairs)
    for i in range(pairs):
        u = s * generator.standard_normal(w.shape)
        rises[i] = (loss_at(loss, w + u) - start) / 2 + (loss_at(loss, w - u) - start) / 2
    mean = float(rises.mean())
    with np.errstate(invalid="ignore"):
        error = float(rises.std(ddof=1) / np.sqrt(pairs))
    return RandomSharpness(mean, error, 2 * mean / s**2, start, 1 + 2 * pairs)
