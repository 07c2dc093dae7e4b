"""The estimators that studies of the information plane have used: docs/information.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.special import digamma, gammaln

from halfulp.information._exact import Information, classes, exact

Array = NDArray[np.float64]
BITS = float(1 / np.log(2))


def points(t: ArrayLike, name: str) -> Array:
    """(N, d) in binary64; refuses NaN and infinities."""
    a = np.asarray(t, np.float64)
    if a.ndim == 1:
        a = a[:, None]
    if a.ndim != 2 or a.shape[0] == 0 or a.shape[1] == 0:
        raise ValueError(f"{name} has shape {np.shape(t)}, but must be (N, d) with N, d >= 1")
    if not np.isfinite(a).all():
        row = int(np.argmax(~np.isfinite(a).all(axis=1)))
        raise ValueError(
            f"{name} has a value that is not finite in row {row}; drop such rows first"
        )
    return a


def require(holds: bool, name: str, value: Any, limit: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {value}, but must be {limit}")


# ---------------------------------------------------------------- bins
def uniform_bins(t: Array, bins: int, low: float, high: float) -> NDArray[np.int64]:
    """np.digitize on `bins` edges from low to high, as Shwartz-Ziv & Tishby's code does: bins − 1
    intervals, and one more bin that only `high` itself and what lies above it hits."""
    return np.digitize(t, np.linspace(low, high, bins))


def adaptive_edges(t: Array, bins: int) -> Array:
    """EBAB (Chelombiev, Houghton & O'Donnell 2019, arXiv:1902.09037): edges such that each bin
    holds equally many different activations of the layer."""
    different = np.unique(t)
    inner = np.linspace(0, different.size, bins + 1)[1:-1]
    return different[np.minimum(np.round(inner).astype(int), different.size - 1)]


# ---------------------------------------------------------------- kernels
def squared_distances(a: Array, b: Array) -> Array:
    d = np.sum(a * a, axis=1)[:, None] + np.sum(b * b, axis=1)[None, :] - 2 * (a @ b.T)
    return np.maximum(d, 0)


@dataclass(frozen=True)
class Mixture:
    """Different rows of a layer (u, d), and their shares (u, 1 + K) of all rows and of the rows of
    each of K labels, whose own shares of all rows are `prior`."""

    centres: Array
    shares: Array
    prior: Array


def mixture_of(t: Array, labels: NDArray[np.int64] | None) -> Mixture:
    number = classes(t)
    return mixture_of_classes(t, number, np.zeros_like(number) if labels is None else labels)


def mixture_of_classes(t: Array, number: NDArray[np.int64], y: NDArray[np.int64]) -> Mixture:
    """number (N,): 0 … u − 1, equal where rows of t are."""
    _, first = np.unique(number, return_index=True)
    count = np.zeros((len(first), int(y.max()) + 1))
    np.add.at(count, (number, y), 1)
    of_label = count.sum(axis=0)
    shares = np.column_stack([count.sum(axis=1) / len(t), count / np.maximum(of_label, 1)])
    return Mixture(t[first], shares, of_label / len(t))


def log_densities(squared: Array, shares: Array, d: int, variance: float, top: Any = 0) -> Array:
    """Of the mixtures of Gaussians N(centre, variance·I), one for each column of shares, in nats,
    from squared distances (points, centres); `top` is about the largest exponent of each point.

    Right where one of the mixture's centres with a share s is as near as top says: exponents below
    top − 100 are raised to it, which adds less than 1e-43/s of the sum, nothing in binary64; what
    exp makes of them is subnormal and ten times as slow."""
    exponent = squared * (-0.5 / variance)
    exponent -= top
    np.maximum(exponent, -100, out=exponent)
    p = np.exp(exponent, out=exponent) @ shares
    with np.errstate(divide="ignore"):  # of labels without rows
        return np.log(p) + (top - 0.5 * d * np.log(2 * np.pi * variance))


def in_parts(points: int, centres: int) -> Iterator[slice]:
    """Slices of the points such that an array (points, centres) stays below 32 MB."""
    step = max(1, 4_000_000 // centres)
    for i in range(0, points, step):
        yield slice(i, i + step)


def entropy_bounds(m: Mixture, squared: Array | None, variance: float, upper: bool) -> Array:
    """Of T + N(0, variance·I), for each column of shares, in nats (Kolchinsky & Tracey 2017,
    arXiv:1706.02419): by pairwise Kullback–Leibler divergences (upper) or Bhattacharyya's (lower,
    kernels four times as wide). squared: the centres' squared distances, if they are known."""
    u, d = m.centres.shape
    used = variance if upper else 4 * variance
    total = np.zeros(m.shares.shape[1])
    for part in in_parts(u, u):
        known = squared_distances(m.centres[part], m.centres) if squared is None else squared[part]
        logs = log_densities(known, m.shares, d, used)
        share = m.shares[part]
        total += np.where(share > 0, share * np.where(share > 0, logs, 0), 0).sum(axis=0)
    return 0.5 * d - total + (0 if upper else 0.5 * d * np.log(0.25))


def plane_of(entropies: Array, of_noise: float, prior: Array) -> Information:
    """I(X;T) = H(T) − H(T|X) and I(T;Y) = H(T) − H(T|Y) in bits, from entropies of all rows and of
    each label's, in nats."""
    i_ty = float(entropies[0] - prior @ entropies[1:]) if len(prior) > 1 else 0.0
    return Information(float(entropies[0] - of_noise) * BITS, i_ty * BITS)


def noise_entropy(d: int, variance: float) -> float:
    return 0.5 * d * (np.log(2 * np.pi * variance) + 1)


# ---------------------------------------------------------------- methods on a layer
def narrow(bins: NDArray[np.int64]) -> NDArray[np.integer[Any]]:
    """The same numbers in the least bytes, which are sorted faster."""
    return bins.astype(
        np.promote_types(np.min_scalar_type(bins.min()), np.min_scalar_type(bins.max()))
    )


def binning(t: Array, labels: Any, bins: int = 30, low: float = -1, high: float = 1) -> Information:
    require(bins >= 2, "bins", bins, "2 edges or more")
    require(low < high, "low", low, f"less than high, which is {high}")
    return exact(narrow(uniform_bins(t, bins, low, high)), labels)


def bin_size(t: Array, labels: Any, size: float = 0.07) -> Information:
    require(size > 0, "size", size, "greater than 0")
    return exact(narrow(np.floor(t / size).astype(np.int64)), labels)


def ebab(t: Array, labels: Any, bins: int = 30) -> Information:
    require(bins >= 1, "bins", bins, "1 or more")
    return exact(narrow(np.digitize(t, adaptive_edges(t, bins))), labels)


def kde(t: Array, labels: Any, variance: float = 1e-3, bound: str = "upper") -> Information:
    return kde_of(mixture_of(t, labels), None, variance, bound)


def kde_of(m: Mixture, squared: Array | None, variance: float, bound: str) -> Information:
    if bound not in ("upper", "lower"):
        raise ValueError(f"bound is {bound!r}, but must be 'upper' or 'lower'")
    require(variance > 0, "variance", variance, "greater than 0")
    entropies = entropy_bounds(m, squared, variance, bound == "upper")
    return plane_of(entropies, noise_entropy(m.centres.shape[1], variance), m.prior)


def akde(t: Array, labels: Any, variance: float = 1e-3, bound: str = "upper") -> Information:
    return kde(t, labels, variance * largest(t) ** 2, bound)


def largest(t: Array) -> float:
    """Magnitude; 1 where all are 0."""
    return float(np.abs(t).max()) or 1.0


def noise(
    t: Array, labels: Any, deviation: float = 0.1, draws: int = 4, seed: int = 0
) -> Information:
    return noise_of(mixture_of(t, labels), t, labels, deviation, draws, seed)


def noise_of(
    m: Mixture, t: Array, labels: Any, deviation: float, draws: int, seed: int
) -> Information:
    """Goldfeld et al. (arXiv:1810.05728): of T + N(0, deviation²·I), its entropy by the mixture's
    density at `draws` noisy copies of each sample."""
    require(deviation > 0, "deviation", deviation, "greater than 0")
    require(draws >= 1, "draws", draws, "1 or more")
    d, variance = t.shape[1], deviation**2
    z = np.random.default_rng(seed).normal(0, deviation, (len(t) * draws, d))
    at = np.repeat(t, draws, axis=0) + z
    # The noise's own density beside the mixture's: its mean is known, and without it the
    # variance would be that of a chi-square with d degrees of freedom.
    of_z = -0.5 * np.sum(z * z, axis=1) / variance - 0.5 * d * np.log(2 * np.pi * variance)
    column = np.repeat(np.zeros(len(t), np.int64) if labels is None else labels, draws) + 1
    total = np.zeros(m.shares.shape[1])
    for part in in_parts(len(at), len(m.centres)):
        squared = squared_distances(at[part], m.centres)
        top = squared.min(axis=1, keepdims=True) * (-0.5 / variance)
        logs = log_densities(squared, m.shares, d, variance, top)
        own = column[part]
        total[0] += np.sum(of_z[part] - logs[:, 0])
        gain = of_z[part] - logs[np.arange(len(own)), own]
        total += np.bincount(own, gain, minlength=len(total))
    rows = len(at) * np.concatenate([[1], m.prior])
    entropies = noise_entropy(d, variance) + total / np.maximum(rows, 1)
    return plane_of(entropies, noise_entropy(d, variance), m.prior)


# ---------------------------------------------------------------- methods on pairs (x, t)
MOST_TIES = 0.05


def refuse_ties(a: Array, name: str, method: str) -> None:
    most = 1 - (int(classes(a).max()) + 1) / len(a)
    if most > MOST_TIES:
        raise ValueError(
            f"{most:.0%} of the rows of {name} repeat another one; method '{method}' is for "
            "continuous values and is far off there: use hu.information.exact, or add noise"
        )


def ksg(x: Array, t: Array, neighbours: int = 3) -> float:
    """KSG-1 (Kraskov, Stögbauer & Grassberger 2004, arXiv:cond-mat/0305641, equation 8), in bits:
    ψ(k) + ψ(N) − <ψ(n_x + 1) + ψ(n_t + 1)>, maximum norm."""
    n = len(x)
    require(1 <= neighbours < n, "neighbours", neighbours, f"in 1 … N − 1 = {n - 1}")
    if x.shape[1] + t.shape[1] > 8 and n <= 2048:  # where a tree sees nearly all points anyway
        of_x, of_t = (cdist(a, a, "chebyshev") for a in (x, t))
        distance = np.partition(np.maximum(of_x, of_t), neighbours, axis=1)[:, neighbours, None]
        n_x, n_t = (np.sum(of < distance, axis=1) for of in (of_x, of_t))  # itself included
        n_x, n_t = np.maximum(n_x, 1), np.maximum(n_t, 1)  # also at distance 0
    else:
        joint = np.hstack([x, t])
        distance = cKDTree(joint).query(joint, neighbours + 1, p=np.inf)[0][:, -1]
        within = np.nextafter(distance, 0)  # strictly nearer
        n_x = cKDTree(x).query_ball_point(x, within, p=np.inf, return_length=True)
        n_t = cKDTree(t).query_ball_point(t, within, p=np.inf, return_length=True)
    mean = np.mean(digamma(n_x) + digamma(n_t))
    return float(digamma(neighbours) + digamma(n) - mean) * BITS


def weights_of(neighbours: int, d: int) -> Array:
    """w_1 … w_k of the weighted Kozachenko–Leonenko estimator (Berrett, Samworth & Yuan 2019,
    arXiv:1606.00304): Σw = 1, Σ w_j Γ(j + 2l/d)/Γ(j) = 0 for l = 1 … ⌊d/4⌋, of least norm; those
    with j = ⌊k/d⌋, ⌊2k/d⌋ … k alone are not zero."""
    support = np.unique(np.maximum(1, np.floor(np.arange(1, d + 1) * neighbours / d))).astype(int)
    order = d // 4
    if len(support) <= order:
        raise ValueError(
            f"neighbours is {neighbours}, but {d} dimensions need more for their weights"
        )
    rows = [np.ones(len(support))]
    for level in range(1, order + 1):
        rows.append(np.exp(gammaln(support + 2 * level / d) - gammaln(support)))
    a = np.array(rows)
    w = np.zeros(neighbours)
    w[support - 1] = np.linalg.lstsq(a, np.eye(len(a))[0], rcond=None)[0]
    return w


def weighted_entropy(a: Array, neighbours: int) -> float:
    """In nats, by the weighted Kozachenko–Leonenko estimator."""
    n, d = a.shape
    require(1 <= neighbours < n, "neighbours", neighbours, f"in 1 … N − 1 = {n - 1}")
    w = weights_of(neighbours, d)
    used = w != 0
    distance = cKDTree(a).query(a, neighbours + 1)[0][:, 1:][:, used]
    if not distance.all():
        raise ValueError(
            f"method 'kl' finds rows of values without distance to neighbour {np.argmax(used) + 1} "
            "of them, where the entropy of a density is −∞: use hu.information.exact, or add noise"
        )
    j = np.arange(1, neighbours + 1)[used]
    log_volume = 0.5 * d * np.log(np.pi) - gammaln(0.5 * d + 1)
    terms = d * np.log(distance) + np.log(n - 1) + log_volume - digamma(j)
    return float(np.mean(terms @ w[used]))


def principal(a: Array, components: int | None) -> Array:
    """The leading principal components of rows of values; all values as they are with None.

    An orthogonal map: entropies stay if nothing is dropped."""
    if components is None or components >= a.shape[1]:
        return a
    centred = a - a.mean(axis=0)
    _, _, basis = np.linalg.svd(centred, full_matrices=False)
    return centred @ basis[:components].T


def kozachenko_leonenko(
    x: Array, t: Array, neighbours: int = 5, components: int | None = None
) -> float:
    """I(X;T) = h(X) + h(T) − h(X, T), in bits, after principal components (Butakov et al. 2024,
    arXiv:2305.08013)."""
    x, t = principal(x, components), principal(t, components)
    joint = np.hstack([x, t])
    h = [weighted_entropy(a, neighbours) for a in (x, t, joint)]
    return (h[0] + h[1] - h[2]) * BITS


def kernel(a: Array, width: float | None) -> Array:
    """Gaussian; by default as wide as Silverman's rule says for each dimension's mean deviation."""
    require(width is None or width > 0, "width", width, "greater than 0")
    return kernel_of(squared_distances(a, a), silverman(a) if width is None else width)


def kernel_of(squared: Array, width: float) -> Array:
    return np.exp(np.maximum(squared / (-2 * width * width), -700))  # not subnormal, which is slow


def silverman(a: Array) -> float:
    n, d = a.shape
    return float(np.mean(a.std(axis=0))) * (4 / ((d + 2) * n)) ** (1 / (d + 4)) or 1.0


def cs_qmi(x: Array, t: Array, width: float | None = None) -> float:
    """Cauchy–Schwarz quadratic mutual information (Principe 2010, section 2.6), in bits: 0 where
    independent, but not I(X;T)."""
    return cs_divergence(kernel(x, width), kernel(t, width))


def cs_divergence(k_x: Array, k_t: Array) -> float:
    n = len(k_x)
    of_x, of_t = k_x.sum(axis=1), k_t.sum(axis=1)
    joint = np.vdot(k_x, k_t) / n**2
    margins = of_x.sum() * of_t.sum() / n**4
    cross = of_x @ of_t / n**3
    return float(np.log2(joint) + np.log2(margins) - 2 * np.log2(cross))


ON_LAYERS: dict[str, Callable[..., Information]] = {
    "binning": binning,
    "bin-size": bin_size,
    "ebab": ebab,
    "kde": kde,
    "akde": akde,
    "noise": noise,
}
ON_PAIRS: dict[str, Callable[..., float]] = {
    "ksg": ksg,
    "kl": kozachenko_leonenko,
    "cs-qmi": cs_qmi,
}
METHODS = (*ON_LAYERS, *ON_PAIRS)


def estimate(
    t: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    method: str,
    x: ArrayLike | None = None,
    **options: Any,
) -> Information:
    """I(X;T) and I(T;Y) in bits, by an estimator.

    t: (N, d), the values of a layer, or of any variable. labels: (N,). method:

    binning   bins=30, low=−1, high=1: Shwartz-Ziv & Tishby's, its bin for +1 included
    bin-size  size=0.07: Saxe et al. 2018
    ebab      bins=30: adaptive bins, equally many different values in each
    kde       variance=1e-3, bound="upper"|"lower": bounds of Kolchinsky & Tracey for T plus noise
    akde      the same, the deviation times the layer's largest magnitude
    noise     deviation=0.1, draws=4, seed=0: Goldfeld et al., T plus noise by Monte Carlo
    ksg       neighbours=3; needs x (N, e); refuses values that repeat
    kl        neighbours=5, components=None; needs x; refuses values that repeat
    cs-qmi    width=None; needs x; a divergence of its own, not I

    The first six treat T as a function of X and need no x. For the last three I(T;Y) is of x and of
    the labels by the same method where it can (cs-qmi), and NaN for the others.
    Raises ValueError for other names, shapes that do not fit, values that are not finite.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; there are {', '.join(METHODS)}")
    function: Callable[..., Any] = ON_LAYERS.get(method) or ON_PAIRS[method]
    known = list(signature(function).parameters)[2:]
    for option in options:
        if option not in known:
            raise ValueError(
                f"method '{method}' has no option '{option}'; it has {', '.join(known)}"
            )
    values = points(t, "t")
    y = None if labels is None else classes(labels)
    if y is not None and len(y) != len(values):
        raise ValueError(f"labels has {len(y)} rows, but t has {len(values)}")
    if method in ON_LAYERS:
        if x is not None:
            raise ValueError(f"method '{method}' takes no x: it treats T as a function of X")
        return ON_LAYERS[method](values, y, **options)
    if x is None:
        raise ValueError(f"method '{method}' needs x, the other variable's values")
    other = points(x, "x")
    if len(other) != len(values):
        raise ValueError(f"x has {len(other)} rows, but t has {len(values)}")
    if method != "cs-qmi":
        refuse_ties(values, "t", method)
        refuse_ties(other, "x", method)
    of_labels = float("nan")
    if y is None:
        of_labels = 0.0
    elif method == "cs-qmi":
        of_labels = ON_PAIRS[method](np.eye(int(y.max()) + 1)[y], values, **options)
    return Information(ON_PAIRS[method](other, values, **options), of_labels)
