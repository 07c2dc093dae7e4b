"""Curvature by Hessian-vector products: eigenvalues, trace, spectral density."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from halfulp.sharpness._arguments import Array, Map, callable_of, like, product, vector
from halfulp.transforms._arguments import integer, number

_MOST = 2**40  # parameters, samples and steps: a limit against slips only


@dataclass(frozen=True)
class Eigenpairs:
    """Ritz pairs. `residuals` bound ‖H·v − λ·v‖, so that each value lies that near to an
    eigenvalue of H (up to rounding); `converged` says which met the tolerance; products: calls of
    hvp.
    """

    values: Array
    vectors: Array  # (n, k): column i belongs to values[i]
    residuals: Array
    converged: np.ndarray[Any, np.dtype[np.bool_]]
    products: int


class _Lanczos:
    """Lanczos' process with full re-orthogonalisation: H·Q = Q·T + β·q·eᵀ, T tridiagonal."""

    def __init__(self, hvp: Map, start: Array) -> None:
        self.hvp = callable_of(hvp, "hvp")
        self.basis = [start / np.linalg.norm(start)]
        self.alphas: list[float] = []
        self.betas: list[float] = []
        self.scale = 0.0  # of H: the largest |entry| of T
        self.residual = np.zeros_like(start)

    def step(self) -> float:
        """One product; returns β, 0 where the space is invariant."""
        q = self.basis[-1]
        r = product(self.hvp, q.copy())
        norm = float(np.linalg.norm(r))
        self.alphas.append(float(q @ r))
        known = np.array(self.basis)
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            r = r - known.T @ (known @ r)
        beta = float(np.linalg.norm(r))
        self.scale = max(self.scale, abs(self.alphas[-1]), beta)
        # What is left of an invariant space is rounding errors of the product.
        if beta <= 10 * np.finfo(float).eps * max(norm, self.scale) or len(known) == r.size:
            beta = 0.0
        self.residual = r
        return beta

    def extend(self, beta: float, generator: np.random.Generator) -> None:
        """The next vector: the residual's direction, or where there is none any other one."""
        r = self.residual
        self.betas.append(beta)
        known = np.array(self.basis)
        if beta == 0:
            r = generator.standard_normal(r.size)
            r /= np.linalg.norm(r)
        else:
            r = r / beta
        for _ in range(2):
            r = r - known.T @ (known @ r)
            r /= np.linalg.norm(r)
        self.basis.append(r)


def lanczos(
    hvp: Map,
    n: int,
    k: int = 1,
    *,
    largest: str = "value",
    tolerance: float = 1e-9,
    max_steps: int | None = None,
    seed: int = 0,
) -> Eigenpairs:
    """The k largest eigenvalues of a symmetric H, n × n, with eigenvectors and residual bounds.

    hvp(x): H·x for x of shape (n,). largest: by "value" (largest first) or by "magnitude". Stops
    when the k residual bounds are at most tolerance·max|λ|, or after max_steps products (default
    all n up to 300, else max(300, 10·k)); nothing is called converged that is not. The process
    starts at a random vector (`seed`) and continues at another where a space is invariant. A
    multiple eigenvalue may show once only, unless max_steps = n. Memory: n numbers a step.
    """
    from scipy.linalg import eigh_tridiagonal  # here, since importing SciPy takes long

    n = integer(n, "n", 1, _MOST)
    k = integer(k, "k", 1, n)
    if largest not in ("value", "magnitude"):
        raise ValueError(f'largest is {largest!r}, but must be "value" or "magnitude"')
    tolerance = number(tolerance, "tolerance", 0.0, 1.0)
    if max_steps is None:
        max_steps = min(n, max(300, 10 * k))
    max_steps = integer(max_steps, "max_steps", k, n)
    generator = np.random.default_rng(integer(seed, "seed", 0, 2**64 - 1))
    process = _Lanczos(hvp, generator.standard_normal(n))
    while True:
        beta = process.step()
        m = len(process.alphas)
        last = m == max_steps
        # Solved at every step while that is cheap, later at every tenth.
        if m >= k and (last or beta == 0 or m < 50 or m % 10 == 0):
            values, shapes = eigh_tridiagonal(process.alphas, process.betas)
            order = np.argsort(-(values if largest == "value" else np.abs(values)), kind="stable")
            order = order[:k]
            # |β·s_m|, and the rounding errors of products and orthogonalisation.
            most = float(np.abs(values).max())
            rounding = 10 * np.finfo(float).eps * most
            residuals = np.abs(beta * shapes[-1, order]) + rounding
            converged = residuals <= max(tolerance * most, rounding)
            # An invariant space of m < n dimensions says nothing of what is outside it.
            if last or (converged.all() and beta != 0):
                break
        process.extend(beta, generator)
    vectors = np.array(process.basis).T @ shapes[:, order]
    return Eigenpairs(values[order], vectors, residuals, converged, m)


@dataclass(frozen=True)
class Trace:
    """An estimate of tr H. standard_error: NaN where there is one sample only; products: calls of
    hvp.
    """

    value: float
    standard_error: float
    products: int
    method: str


def trace(
    hvp: Map, n: int, *, method: str = "hutchinson", samples: int = 100, seed: int = 0
) -> Trace:
    """tr H by `samples` products, from random signs; all of them are taken, whatever comes.

    "hutchinson": the mean of xᵀHx. "hutch++" (arXiv:2010.09649): a third of the products sketches
    the range, a third gives the trace there exactly, the rest estimates what is orthogonal to it;
    the standard error is that of the last part. Where the sketch spans everything (samples ≥ 3n),
    2n products give the trace itself.
    """
    n = integer(n, "n", 1, _MOST)
    callable_of(hvp, "hvp")
    generator = np.random.default_rng(integer(seed, "seed", 0, 2**64 - 1))
    if method == "hutchinson":
        samples = integer(samples, "samples", 1, _MOST)
        values = np.array([x @ product(hvp, x) for x in _signs(generator, samples, n)])
        return Trace(float(values.mean()), _standard_error(values), samples, method)
    if method != "hutch++":
        raise ValueError(f'method is {method!r}, but must be "hutchinson" or "hutch++"')
    samples = integer(samples, "samples", 3, _MOST)
    rank = min(samples // 3, n)
    sketch = np.array([product(hvp, x) for x in _signs(generator, rank, n)]).T
    q = np.linalg.qr(sketch)[0]
    exact = sum(float(q[:, i] @ product(hvp, q[:, i].copy())) for i in range(rank))
    if rank == n:  # nothing is orthogonal to it
        return Trace(exact, 0.0, 2 * rank, method)
    rest = samples - 2 * rank
    values = np.empty(rest)
    for i, x in enumerate(_signs(generator, rest, n)):
        x = x - q @ (q.T @ x)
        values[i] = x @ product(hvp, x)
    return Trace(exact + float(values.mean()), _standard_error(values), samples, method)


def _signs(generator: np.random.Generator, count: int, n: int) -> Any:
    return (generator.choice([-1.0, 1.0], n) for _ in range(count))


def _standard_error(values: Array) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


@dataclass(frozen=True)
class Spectrum:
    """The spectral density (1/n)·Σ δ(λ − λ_i) of H, as weighted points of each probe.

    values, weights: (probes, steps); a probe's weights add to 1, those of unused places are 0.
    """

    values: Array
    weights: Array
    n: int
    products: int

    def moment(self, power: int) -> tuple[float, float]:
        """(1/n)·tr H^power and its standard error over the probes; exact for each probe's vector up
        to power 2·steps − 1.
        """
        power = integer(power, "power", 0, 10**6)
        of_probe = (self.weights * self.values**power).sum(axis=1)
        return float(of_probe.mean()), _standard_error(of_probe)

    def density(self, at: ArrayLike, sigma: float | None = None) -> Array:
        """The density at these points, each λ widened to a normal density of standard deviation
        sigma (default: a hundredth of the range of the values).
        """
        x = vector(at, "at")
        if sigma is None:
            used = self.values[self.weights > 0]
            sigma = max(float(np.ptp(used)), float(np.abs(used).max()), 1e-300) / 100
        s = number(sigma, "sigma", 0.0)
        if s == 0:
            raise ValueError("sigma is 0, but must be above 0: the density is one of points")
        away = (x[..., None] - self.values.ravel()) / s
        weights = self.weights.ravel() / (len(self.values) * s * np.sqrt(2 * np.pi))
        return np.asarray(np.exp(-(away**2) / 2) @ weights)

    def plot(self, ax: Any = None, *, sigma: float | None = None) -> Any:
        """The density on a logarithmic axis; returns the matplotlib axes."""
        import matplotlib.pyplot as plt

        if ax is None:
            ax = plt.subplots(figsize=(6, 3.5), layout="constrained")[1]
        used = self.values[self.weights > 0]
        if sigma is None:
            sigma = max(float(np.ptp(used)), float(np.abs(used).max()), 1e-300) / 100
        x = np.linspace(used.min() - 5 * sigma, used.max() + 5 * sigma, 2001)
        y = self.density(x, sigma)
        ax.semilogy(x, y, linewidth=1.2)
        ax.set_ylim(max(y.max() * 1e-7, 1e-300), y.max() * 3)
        ax.set_xlabel("eigenvalue λ")
        ax.set_ylabel("density")
        ax.set_title(f"{self.n} parameters, {len(self.values)} probes, σ = {sigma:.2g}", fontsize=9)
        return ax


def spectral_density(
    hvp: Map, n: int, *, probes: int = 10, steps: int = 50, seed: int = 0
) -> Spectrum:
    """The spectral density of H by stochastic Lanczos quadrature: probes·steps products.

    Each probe is a vector of random signs, the start of `steps` steps of Lanczos' process; its Ritz
    values with the squares of their vectors' first entries are Gauss's quadrature of the density.
    Sources: Ubaru, Chen and Saad 2017 (SIAM J. Matrix Anal. Appl. 38), arXiv:1901.10159.
    """
    from scipy.linalg import eigh_tridiagonal

    n = integer(n, "n", 1, _MOST)
    probes = integer(probes, "probes", 1, _MOST)
    steps = min(integer(steps, "steps", 1, _MOST), n)
    generator = np.random.default_rng(integer(seed, "seed", 0, 2**64 - 1))
    values = np.zeros((probes, steps))
    weights = np.zeros((probes, steps))
    products = 0
    for i, start in enumerate(_signs(generator, probes, n)):
        process = _Lanczos(hvp, start)
        for m in range(1, steps + 1):
            beta = process.step()
            products += 1
            if beta == 0 or m == steps:  # an invariant space: the quadrature is exact
                break
            process.extend(beta, generator)
        nodes, shapes = eigh_tridiagonal(process.alphas, process.betas)
        values[i, :m] = nodes
        weights[i, :m] = shapes[0] ** 2
    return Spectrum(values, weights, n, products)


def block(hvp: Map, n: int, part: slice) -> tuple[Map, int]:
    """The product by the diagonal block of H that belongs to the parameters `part`, and its size.

    A layer's Hessian, all others held: `lanczos(*block(hvp, n, slice(0, 640)))`.
    """
    n = integer(n, "n", 1, _MOST)
    callable_of(hvp, "hvp")
    if not isinstance(part, slice):
        raise TypeError(f"a part of the parameters is a slice, not {type(part).__name__}")
    size = len(range(*part.indices(n)))
    if size == 0:
        raise ValueError(f"{part} holds none of the {n} parameters")

    def within(x: Array) -> Array:
        whole = np.zeros(n)
        whole[part] = x
        return product(hvp, whole)[part]

    return within, size


@dataclass(frozen=True)
class LayerCurvature:
    """A layer's block of the Hessian: its size, its largest eigenvalues, its trace."""

    size: int
    eigenpairs: Eigenpairs
    trace: Trace


def layer_curvature(
    hvp: Map,
    n: int,
    layers: Mapping[str, slice],
    *,
    k: int = 1,
    method: str = "hutchinson",
    samples: int = 100,
    seed: int = 0,
) -> dict[str, LayerCurvature]:
    """`lanczos` and `trace` of the diagonal block of each layer, a slice of the parameters."""
    found = {}
    for name, part in layers.items():
        within, size = block(hvp, n, part)
        found[name] = LayerCurvature(
            size,
            lanczos(within, size, min(integer(k, "k", 1, _MOST), size), seed=seed),
            trace(within, size, method=method, samples=samples, seed=seed),
        )
    return found


def difference_hvp(gradient: Map, w: ArrayLike, step: float = 1e-5) -> Map:
    """H·x by central differences of a gradient, for those who have no exact product.

    (g(w + h·x) − g(w − h·x))/2h with h = step·(1 + ‖w‖)/‖x‖: an error of h²‖x‖³ times third
    derivatives, and of the gradient's rounding errors over h. H is then symmetric only to that.
    """
    w = vector(w, "w")
    callable_of(gradient, "gradient")
    step = number(step, "step", 1e-300, 1.0)
    length = step * (1 + float(np.linalg.norm(w)))

    def hvp(x: Array) -> Array:
        norm = float(np.linalg.norm(x))
        if norm == 0:
            return np.zeros_like(x)
        d = (length / norm) * x.reshape(w.shape)
        ahead = like(gradient(w + d), w.shape, "gradient(w)")
        behind = like(gradient(w - d), w.shape, "gradient(w)")
        return ((ahead - behind) * (norm / (2 * length))).reshape(x.shape)

    return hvp
