"""The estimators that studies of the information plane have used: docs/information.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
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


def groups(labels: NDArray[np.int64]) -> Iterator[tuple[float, NDArray[np.bool_]]]:
    for y in range(int(labels.max()) + 1):
        of = labels == y
        yield float(of.mean()), of


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


def log_densities(at: Array, centres: Array, weights: Array, variance: float) -> Array:
    """Of the mixture of Gaussians N(centre, variance·I), in nats, at each point."""
    d = centres.shape[1]
    normal = -0.5 * d * np.log(2 * np.pi * variance)
    out = np.empty(len(at))
    log_weights = np.log(weights)
    step = max(1, 4_000_000 // len(centres))
    for i in range(0, len(at), step):
        exponent = squared_distances(at[i : i + step], centres)
        exponent *= -0.5 / variance
        exponent += log_weights
        top = exponent.max(axis=1)
        exponent -= top[:, None]
        out[i : i + step] = np.log(np.exp(exponent, out=exponent).sum(axis=1)) + top + normal
    return out


def unique_rows(t: Array) -> tuple[Array, Array]:
    """Different rows and the share of each."""
    number = classes(t)
    _, first, counts = np.unique(number, return_index=True, return_counts=True)
    return t[first], counts / counts.sum()


def mixture_entropy_bound(t: Array, variance: float, upper: bool) -> float:
    """Of T + N(0, variance·I), in nats (Kolchinsky & Tracey 2017, arXiv:1706.02419): by pairwise
    Kullback–Leibler divergences (upper) or Bhattacharyya's (lower, kernels four times as wide)."""
    d = t.shape[1]
    if not upper:
        return mixture_entropy_bound(t, 4 * variance, True) + 0.5 * d * np.log(0.25)
    centres, share = unique_rows(t)
    return float(0.5 * d - share @ log_densities(centres, centres, share, variance))


def plane_of(
    entropy: Callable[[Array], float], of_noise: float, t: Array, labels: Any
) -> Information:
    """I(X;T) = H(T) − H(T|X) and I(T;Y) = H(T) − H(T|Y) in bits, from entropies in nats."""
    h = entropy(t)
    i_ty = 0.0
    if labels is not None:
        i_ty = h - sum(share * entropy(t[of]) for share, of in groups(labels))
    return Information(float(h - of_noise) * BITS, float(i_ty) * BITS)


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
    if bound not in ("upper", "lower"):
        raise ValueError(f"bound is {bound!r}, but must be 'upper' or 'lower'")
    require(variance > 0, "variance", variance, "greater than 0")
    return plane_of(
        lambda a: mixture_entropy_bound(a, variance, bound == "upper"),
        noise_entropy(t.shape[1], variance),
        t,
        labels,
    )


def akde(t: Array, labels: Any, variance: float = 1e-3, bound: str = "upper") -> Information:
    scale = float(np.abs(t).max()) or 1.0
    return kde(t, labels, variance * scale * scale, bound)


def noise(
    t: Array, labels: Any, deviation: float = 0.1, draws: int = 4, seed: int = 0
) -> Information:
    """Goldfeld et al. (arXiv:1810.05728): of T + N(0, deviation²·I), its entropy by the mixture's
    density at `draws` noisy copies of each sample."""
    require(deviation > 0, "deviation", deviation, "greater than 0")
    require(draws >= 1, "draws", draws, "1 or more")
    random = np.random.default_rng(seed)
    variance = deviation**2

    def entropy(a: Array) -> float:
        centres, share = unique_rows(a)
        at = np.repeat(a, draws, axis=0)
        z = random.normal(0, deviation, at.shape)
        # The noise's own density beside the mixture's: its mean is known, and without it the
        # variance would be that of a chi-square with d degrees of freedom.
        of_z = -0.5 * np.sum(z * z, axis=1) / variance
        of_z -= 0.5 * a.shape[1] * np.log(2 * np.pi * variance)
        gain = float(np.mean(of_z - log_densities(at + z, centres, share, variance)))
        return noise_entropy(a.shape[1], variance) + gain

    return plane_of(entropy, noise_entropy(t.shape[1], variance), t, labels)


# ---------------------------------------------------------------- methods on pairs (x, t)
def refuse_ties(a: Array, name: str, method: str) -> None:
    _, share = unique_rows(a)
    most = 1 - len(share) / len(a)
    if most > 0.05:
        raise ValueError(
            f"{most:.0%} of the rows of {name} repeat another one; method '{method}' is for "
            "continuous values and is far off there: use hu.information.exact, or add noise"
        )


def ksg(x: Array, t: Array, neighbours: int = 3) -> float:
    """KSG-1 (Kraskov, Stögbauer & Grassberger 2004, arXiv:cond-mat/0305641, equation 8), in bits:
    ψ(k) + ψ(N) − <ψ(n_x + 1) + ψ(n_t + 1)>, maximum norm."""
    n = len(x)
    require(1 <= neighbours < n, "neighbours", neighbours, f"in 1 … N − 1 = {n - 1}")
    joint = np.hstack([x, t])
    distance = cKDTree(joint).query(joint, neighbours + 1, p=np.inf)[0][:, -1]
    within = np.nextafter(distance, 0)  # strictly nearer
    n_x = cKDTree(x).query_ball_point(x, within, p=np.inf, return_length=True)  # itself included
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
    distance = cKDTree(a).query(a, neighbours + 1)[0][:, 1:]
    j = np.arange(1, neighbours + 1)
    log_volume = 0.5 * d * np.log(np.pi) - gammaln(0.5 * d + 1)
    terms = d * np.log(distance) + np.log(n - 1) + log_volume - digamma(j)
    return float(np.mean(terms[:, w != 0] @ w[w != 0]))


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
    n, d = a.shape
    require(width is None or width > 0, "width", width, "greater than 0")
    if width is None:
        width = float(np.mean(a.std(axis=0))) * (4 / ((d + 2) * n)) ** (1 / (d + 4)) or 1.0
    return np.exp(-squared_distances(a, a) / (2 * width * width))


def cs_qmi(x: Array, t: Array, width: float | None = None) -> float:
    """Cauchy–Schwarz quadratic mutual information (Principe 2010, section 2.6), in bits: 0 where
    independent, but not I(X;T)."""
    n = len(x)
    k_x, k_t = kernel(x, width), kernel(t, width)
    joint = np.sum(k_x * k_t) / n**2
    margins = k_x.sum() * k_t.sum() / n**4
    cross = np.sum(k_x.sum(axis=1) * k_t.sum(axis=1)) / n**3
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
