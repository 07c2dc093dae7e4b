"""hu.information: the data, the exact counts, and every estimator where the truth is known."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import digamma, ndtr

import halfulp as hu
from halfulp import information

Array = NDArray[np.float64]


# ---------------------------------------------------------------- the data
def label_of(x: tuple[int, ...]) -> tuple[int, tuple[int, Fraction, int]]:
    """The rule again, one row at a time, q as a quadratic form over the icosahedron's diagonals."""
    diagonals = [(0, 9), (1, 7), (2, 5), (3, 6), (4, 10), (8, 11)]
    sign = {
        (0, 1): 1, (0, 2): -1, (0, 3): 1, (0, 4): -1, (0, 5): -1, (1, 2): 1, (1, 3): 1, (1, 4): 1,
        (1, 5): -1, (2, 3): 1, (2, 4): 1, (2, 5): 1, (3, 4): -1, (3, 5): 1, (4, 5): -1,
    }  # fmt: skip
    k = sum(x)
    p = sum(x[a] * x[b] for a, b in diagonals)
    q = sum(
        s * (x[diagonals[i][0]] - x[diagonals[i][1]]) * (x[diagonals[j][0]] - x[diagonals[j][1]])
        for (i, j), s in sign.items()
    )
    if k <= 4 or k >= 8:
        return int(k >= 8), (k, Fraction(p), q)
    above = {5: Fraction(2), 6: Fraction(-16, 5), 7: Fraction(-28, 5)}[k]
    return int(q - Fraction(7, 5) * p > above), (k, Fraction(p), q)


def test_the_data_are_those_of_the_rule() -> None:
    x, y = hu.information.icosahedron()
    assert x.shape == (4096, 12)
    assert x.dtype == np.float32
    rows = list(itertools.product((0, 1), repeat=12))
    assert np.array_equal(x, np.array(rows))
    made = [label_of(row) for row in rows]
    assert [label for label, _ in made] == y.tolist()
    assert len({invariant for _, invariant in made}) == 64
    k, p, q = hu.information.invariants(x.astype(np.int64))
    assert len(set(zip(k.tolist(), p.tolist(), q.tolist(), strict=True))) == 64


def test_the_constants_of_the_data() -> None:
    x, y = hu.information.icosahedron()
    assert int(y.sum()) == 2118
    share = 2118 / 4096
    h = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    of = hu.information.exact(x, y)
    assert of.h_y == pytest.approx(h, abs=1e-12)
    assert round(of.h_y, 5) == 0.99916
    assert (of.i_xt, of.h_t, of.distinct, of.samples) == (12.0, 12.0, 4096, 4096)
    assert of.i_ty == pytest.approx(of.h_y, abs=1e-12)
    # k alone: the best guess for each k
    k = x.sum(axis=1)
    right = sum(max(Counter(y[k == v].tolist()).values()) for v in range(13))
    assert round(right / 4096, 3) == 0.875


def test_the_labels_are_the_same_for_every_rotation_found_by_search() -> None:
    """A permutation of the inputs that keeps k, p, q of single and double ones keeps all labels."""
    x, y = hu.information.icosahedron()
    turn = [0] * 12
    for a, b in [(0, 9), (1, 7), (2, 5), (3, 6), (4, 10), (8, 11)]:
        turn[a], turn[b] = b, a  # the inversion: d -> -d, so p and q stay
    weights = 1 << np.arange(11, -1, -1)
    moved = (x[:, turn].astype(int) @ weights).astype(int)
    assert np.array_equal(y, y[moved])


# ---------------------------------------------------------------- exact
def brute(rows: list[object], labels: list[object]) -> tuple[float, float]:
    """H(T) and I(T;Y) by their definitions, shares as fractions."""
    n = len(rows)

    def share(values: list[object]) -> dict[object, Fraction]:
        return {v: Fraction(c, n) for v, c in Counter(values).items()}

    t, y, joint = share(rows), share(labels), share(list(zip(rows, labels, strict=True)))
    h = -math.fsum(float(p) * math.log2(p) for p in t.values())
    i = math.fsum(float(p) * math.log2(p / (t[a] * y[b])) for (a, b), p in joint.items())
    return h, i


@pytest.mark.parametrize("seed", range(30))
def test_exact_is_the_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    n, d = int(random.integers(1, 200)), int(random.integers(1, 8))
    codes = random.integers(0, random.integers(1, 6), (n, d))
    codes = codes.astype(["i8", "u1", "f4", "u2", "f8", "c16", "?"][seed % 7])
    labels = random.integers(0, random.integers(1, 5), n)
    h, i = brute([tuple(row) for row in codes.tolist()], labels.tolist())
    of = hu.information.exact(codes, labels)
    assert of.h_t == pytest.approx(h, abs=1e-12)
    assert of.i_xt == of.h_t
    assert of.i_ty == pytest.approx(i, abs=1e-12)
    assert of.distinct == len({tuple(row) for row in codes.tolist()})
    assert hu.information.entropy(codes) == of.h_t


def test_floats_are_compared_as_bits() -> None:
    nans = np.array([0x7FC00000, 0x7FC00001, 0xFFC00000], np.uint32).view(np.float32)
    of = hu.information.exact(np.concatenate([np.float32([0.0, -0.0]), nans, nans]))
    assert of.distinct == 5
    assert hu.information.exact(np.float32([1, 1, 1, 1])).h_t == 0.0
    assert hu.information.exact(np.arange(8)).h_t == 3.0


def test_data_processing_order() -> None:
    """A function of T knows no more than T; rounding is one."""
    x, y = hu.information.icosahedron()
    random = np.random.default_rng(5)
    z = np.tanh(x @ random.normal(0, 12**-0.5, (12, 3)).astype(np.float32)).astype(np.float32)
    before = hu.information.exact(z, y)
    for m in (7, 5, 4, 3, 2, 1):
        after = hu.information.exact(hu.round(z, f"fp_e8p{m + 1}b127_s_ieee_ieee"), y)
        assert after.h_t <= before.h_t <= 12
        assert after.i_ty <= before.i_ty <= after.h_y
        assert after.i_ty <= after.h_t
        before = after if m == 7 else before


# ---------------------------------------------------------------- Gaussians of known information
def gaussians(n: int, d: int, rho: float, seed: int) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d))
    return x, rho * x + math.sqrt(1 - rho * rho) * random.normal(size=(n, d))


@pytest.mark.parametrize(
    ("method", "d", "rho", "within"),
    [
        ("ksg", 1, 0.0, 0.05),
        ("ksg", 1, 0.5, 0.08),
        ("ksg", 1, 0.9, 0.1),
        ("ksg", 2, 0.9, 0.1),
        ("kl", 1, 0.0, 0.07),
        ("kl", 1, 0.5, 0.08),
        ("kl", 1, 0.9, 0.08),
        ("kl", 2, 0.9, 0.2),
    ],
)
def test_pairs_of_gaussians(method: str, d: int, rho: float, within: float) -> None:
    """I = −d/2·log2(1 − ρ²)."""
    x, t = gaussians(2000, d, rho, 1)
    known = -d / 2 * math.log2(1 - rho * rho)
    assert hu.information.estimate(t, x=x, method=method).i_xt == pytest.approx(known, abs=within)


def test_ksg_underestimates_high_information_in_many_dimensions() -> None:
    """A limit that docs/information.md states: 6 bits in 5 + 5 dimensions from 2000 samples."""
    x, t = gaussians(2000, 5, 0.9, 1)
    error = hu.information.estimate(t, x=x, method="ksg").i_xt + 2.5 * math.log2(1 - 0.81)
    assert -2.2 < error < -1.4


@pytest.mark.parametrize(("d", "rho"), [(1, 0.0), (1, 0.5), (1, 0.9), (2, 0.9)])
def test_cauchy_schwarz_of_gaussians(d: int, rho: float) -> None:
    """Against its own limit: the means of the kernels over Gaussians, which are determinants."""
    width = 0.5

    def mean(covariance: Array) -> float:
        return float(np.linalg.det(np.eye(2) + covariance / width**2) ** -0.5)

    c, one = np.array([[1, rho], [rho, 1]]), np.eye(2)
    limit = d * math.log2(mean(2 * c) * mean(2 * one) / mean(c + one) ** 2)
    x, t = gaussians(2000, d, rho, 2)
    of = hu.information.estimate(t, x=x, method="cs-qmi", width=width).i_xt
    assert of == pytest.approx(limit, abs=0.02 if d == 1 else 0.06)


@pytest.mark.parametrize(("d", "deviation"), [(1, 0.3), (1, 1.0), (2, 0.3), (2, 1.0)])
def test_a_layer_of_gaussians_with_noise(d: int, deviation: float) -> None:
    """I(T; T + N(0, β²)) = d/2·log2(1 + 1/β²); the bounds on it lie on either side."""
    t = gaussians(2000, d, 0, 3)[0]
    known = d / 2 * math.log2(1 + deviation**-2)
    estimate = hu.information.estimate
    assert estimate(t, method="noise", deviation=deviation).i_xt == pytest.approx(known, abs=0.06)
    bounds = [
        estimate(t, method="kde", variance=deviation**2, bound=b).i_xt for b in ("lower", "upper")
    ]
    assert bounds[0] < known < bounds[1]
    assert bounds[1] - bounds[0] < 1.1 * d
    largest = float(np.abs(t).max())
    scaled = estimate(t, method="akde", variance=(deviation / largest) ** 2).i_xt
    assert scaled == pytest.approx(bounds[1], abs=1e-9)


def two_gaussians(n: int, seed: int) -> tuple[Array, NDArray[np.int64]]:
    """T = ±1 + N(0, 0.5²), Y its sign's side."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, n)
    return (2.0 * y - 1 + random.normal(0, 0.5, n))[:, None], y


def information_of_two_gaussians(deviation: float) -> float:
    """I(T;Y) for T = ±1 + N(0, deviation²), by the trapezium rule."""
    t = np.linspace(-12, 12, 200_001)
    p = [
        np.exp(-(((t - m) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
        for m in (-1, 1)
    ]
    mixed = (p[0] + p[1]) / 2
    terms = sum(q / 2 * np.log2(np.where(q > 0, q / mixed, 1)) for q in p if q is not None)
    return float(np.trapezoid(terms, t))


@pytest.mark.parametrize(
    ("method", "options", "noise", "within"),
    [
        ("binning", {"low": -3, "high": 3}, 0.0, 0.03),
        ("bin-size", {"size": 0.2}, 0.0, 0.03),
        ("ebab", {}, 0.0, 0.03),
        ("noise", {"deviation": 0.3}, 0.3, 0.03),
    ],
)
def test_information_on_labels(method: str, options: dict, noise: float, within: float) -> None:
    t, y = two_gaussians(4000, 4)
    known = information_of_two_gaussians(math.hypot(0.5, noise))
    of = hu.information.estimate(t, y, method=method, **options)
    assert of.i_ty == pytest.approx(known, abs=within)


@pytest.mark.parametrize("d", [1, 2])
def test_bins_of_gaussians(d: int) -> None:
    """H of the bins: their probabilities are differences of the distribution function."""
    t = gaussians(4000, d, 0, 5)[0]
    for method, options, edges in [
        ("binning", {"low": -3.0, "high": 3.0}, np.linspace(-3, 3, 30)),
        ("bin-size", {"size": 0.5}, np.arange(-20, 21) * 0.5),
    ]:
        p = np.diff(np.concatenate([[0], ndtr(edges), [1]]))
        known = -d * float(np.sum(p[p > 0] * np.log2(p[p > 0])))
        of = hu.information.estimate(t, method=method, **options)
        # the plug-in entropy lies below by about (bins − 1)/(2 N ln 2)
        assert known - (0.02 if d == 1 else 0.3) < of.i_xt < known + 0.03
    equal = hu.information.estimate(t[:, :1], method="ebab", bins=30).i_xt
    assert equal == pytest.approx(math.log2(30), abs=1e-3)


# ---------------------------------------------------------------- images of known information
def rectangles(corners: Array, size: int = 8) -> Array:
    """Images (N, size²) of rectangles of 3 × 3 pixels whose upper left corners, in [0, 1]², move over
    size − 3 pixels; a pixel is the share of it that is covered, so that the map is one to one."""
    pixel = np.arange(size)

    def covered(start: Array) -> Array:
        low, high = start[:, None], start[:, None] + 3
        return np.clip(np.minimum(pixel + 1, high) - np.maximum(pixel, low), 0, 1)

    across = covered(corners[:, 0] * (size - 3))
    down = covered(corners[:, 1] * (size - 3))
    return (down[:, :, None] * across[:, None, :]).reshape(len(corners), -1)


def pairs_of_images(n: int, rho: float, seed: int) -> tuple[Array, Array, Array]:
    """Two images each, the coordinates coupled by a Gaussian copula: I = −log2(1 − ρ²)
    (Butakov et al. 2024, section 5)."""
    x, t = gaussians(n, 2, rho, seed)
    return rectangles(ndtr(x)), rectangles(ndtr(t)), ndtr(t)


def images_of_two_labels(n: int, seed: int) -> tuple[Array, NDArray[np.int64], float]:
    """Images whose coordinates are ±1 + N(0, 1) through a strictly increasing map, the sign being
    that of the label. The image determines the coordinates and their mean is sufficient, so I is
    that of ±1 + N(0, 1/2)."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, n)
    z = 2.0 * y[:, None] - 1 + random.normal(size=(n, 2))
    return rectangles(ndtr(z / 1.5)), y, information_of_two_gaussians(math.sqrt(0.5))


LABELLED: dict[str, list[tuple[str, dict[str, float]]]] = {
    "t": [("binning", {"low": -3, "high": 3}), ("bin-size", {"size": 0.2}), ("ebab", {}),
          ("kde", {"variance": 0.01}), ("akde", {"variance": 0.001}), ("noise", {"deviation": 0.1})],
    "images": [("binning", {"low": 0, "high": 1}), ("bin-size", {}), ("ebab", {}),
               ("kde", {}), ("akde", {}), ("noise", {"deviation": 0.1})],
    "components": [("binning", {"low": -3, "high": 3, "bins": 10}), ("bin-size", {"size": 0.5}),
                   ("ebab", {"bins": 8}), ("kde", {"variance": 0.04}), ("akde", {"variance": 0.005}),
                   ("noise", {"deviation": 0.2})],
}  # fmt: skip


@pytest.mark.parametrize("number", range(6))
def test_images_of_known_information_on_labels(number: int) -> None:
    """Of two components, the six methods for layers find it; of all pixels they do not: every
    image differs, and bins and narrow kernels tell all of them apart, so that I(T;Y) = H(Y)."""
    t, y, known = images_of_two_labels(2000, 3)
    assert 0.6 < known < 0.75
    method, options = LABELLED["components"][number]
    of = hu.information.estimate(information.principal(t, 2), y, method=method, **options)
    assert of.i_ty == pytest.approx(known, abs=0.06)
    method, options = LABELLED["images"][number]
    of = hu.information.estimate(t, y, method=method, **options)
    assert known + 0.05 < of.i_ty <= 1.001


@pytest.mark.parametrize(("rho", "within"), [(0.0, 0.35), (0.7, 0.5), (0.9, 0.8)])
def test_images_after_principal_components(rho: float, within: float) -> None:
    x, t, _ = pairs_of_images(2000, rho, 6)
    known = -math.log2(1 - rho * rho)
    for method in ("kl", "ksg"):
        components = information.principal(x, 2), information.principal(t, 2)
        of = hu.information.estimate(components[1], x=components[0], method=method)
        assert of.i_xt == pytest.approx(known, abs=within), method
    direct = hu.information.estimate(t, x=x, method="kl", components=2)
    again = hu.information.estimate(components[1], x=components[0], method="kl")
    assert direct.i_xt == pytest.approx(again.i_xt, abs=1e-9)


def test_cauchy_schwarz_orders_images() -> None:
    """Not I, but more where I is more."""
    found = []
    for rho in (0.0, 0.7, 0.95):
        x, t, _ = pairs_of_images(600, rho, 7)
        found.append(hu.information.estimate(t, x=x, method="cs-qmi", width=1.0).i_xt)
    assert 0 <= found[0] < found[1] < found[2]


@pytest.mark.parametrize("method", ["binning", "bin-size", "ebab", "kde", "akde", "noise"])
def test_layers_of_images(method: str) -> None:
    """Different images, each once, and labels that are flips with probability 1/8 of a coordinate's
    half: I(X;T) = log2 N, and I(T;Y) = H(Y), T determining the row. With narrow kernels and bins
    each estimator finds it."""
    grid = np.stack(np.meshgrid(np.arange(16), np.arange(16)), axis=-1).reshape(-1, 2) / 16
    t = rectangles(grid + 1 / 64)
    y = (grid[:, 0] >= 0.5).astype(int)
    options = {
        "binning": {"bins": 200},
        "bin-size": {"size": 0.01},
        "ebab": {"bins": 200},
        "kde": {"variance": 1e-4},
        "akde": {"variance": 1e-4},
        "noise": {"deviation": 0.01},
    }[method]
    of = hu.information.estimate(t, y, method=method, **options)
    assert of.i_xt == pytest.approx(8, abs=0.1)
    assert of.i_ty == pytest.approx(1, abs=0.05)


# ---------------------------------------------------------------- traps
def test_the_bin_that_only_one_hits() -> None:
    """30 edges make 29 intervals; +1 has a bin of its own, and −1 shares one."""
    t = np.float32([-1, -0.99, 0.99, 1.0])
    assert hu.information.estimate(t, method="binning").i_xt == 1.5
    assert hu.information.estimate(-t, method="binning").i_xt == 1.5
    below = np.float32([0.95, 0.96, 0.97, 0.98])
    assert hu.information.estimate(below, method="binning").i_xt == 0
    one = hu.information.estimate(np.float32([0.95, 0.96, 1, 1]), method="binning")
    assert one.i_xt == 1


@pytest.mark.parametrize(
    ("bits", "from_x"), [(7, 3.465247), (5, 2.770632), (3, 2.071567), (1, 1.354025)]
)
def test_where_tanh_rounds_to_one(bits: int, from_x: float) -> None:
    """The artefact starts earlier in narrow formats: at atanh(1 − 2^−(M+2)), the tie below 1 (to the
    even 1), for M bits of significand after the point."""
    at = math.log(2 ** (bits + 3) - 1) / 2
    assert abs(at - from_x) < 1e-6
    x = np.array([at - 1e-6, at + 1e-6])
    found = hu.round(np.tanh(x), f"fp_e8p{bits + 1}b127_s_ieee_ieee")
    assert found[0] < 1
    assert found[1] == 1


def test_ties_are_refused() -> None:
    x, t = gaussians(500, 1, 0.5, 8)
    for method in ("ksg", "kl"):
        with pytest.raises(ValueError, match="repeat another one"):
            hu.information.estimate(hu.round(t, "fp_e8p3b127_s_ieee_ieee"), x=x, method=method)
        with pytest.raises(ValueError, match="of x repeat"):
            hu.information.estimate(t, x=np.round(x), method=method)
    t[:6] = t[6]  # too few for that share, but a density is infinite there
    with pytest.raises(ValueError, match="without distance to neighbour 5"):
        hu.information.estimate(t, x=x, method="kl")


def test_neighbours_by_a_tree_and_by_all_distances() -> None:
    """KSG-1 by its definition in 10 dimensions, where the tree is left out, ties among them."""
    random = np.random.default_rng(3)
    x, t = random.integers(0, 2, (300, 6)).astype(float), random.normal(size=(300, 4)).round(1)
    k, total = 3, 0.0
    for i in range(300):
        of_x, of_t = np.abs(x - x[i]).max(axis=1), np.abs(t - t[i]).max(axis=1)
        nearest = np.sort(np.maximum(of_x, of_t))[k]
        n_x, n_t = (max(int((of < nearest).sum()) - 1, 0) for of in (of_x, of_t))
        total += digamma(n_x + 1) + digamma(n_t + 1)
    known = (digamma(k) + digamma(300) - total / 300) / math.log(2)
    from halfulp.information._estimators import ksg

    assert ksg(x, t) == pytest.approx(known, abs=1e-12)


def test_what_ties_would_do() -> None:
    """The refusal's reason: a variable of four values knows 2 bits about itself, and KSG-1 finds
    fewer than none (distances of 0, counts of whole classes)."""
    from halfulp.information._estimators import ksg

    t = np.repeat(np.arange(4.0), 250)[:, None]
    assert hu.information.exact(t, t).i_ty == 2
    assert ksg(t, t) < -1


def test_the_weights_fulfil_their_equations() -> None:
    from halfulp.information._estimators import weights_of

    for d in (1, 2, 3, 4, 7, 8, 12):
        w = weights_of(3 * d, d)
        assert math.fsum(w) == pytest.approx(1, abs=1e-9)
        for level in range(1, d // 4 + 1):
            total = math.fsum(
                float(v) * math.exp(math.lgamma(j + 2 * level / d) - math.lgamma(j))
                for j, v in enumerate(w, 1)
            )
            assert total == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: hu.information.estimate([1.0, np.nan], method="kde"), "not finite in row 1"),
        (lambda: hu.information.estimate([1.0], method="knn"), "no method 'knn'"),
        (lambda: hu.information.estimate([1.0, 2], [0], method="kde"), "labels has 1 rows"),
        (lambda: hu.information.estimate([1.0, 2], method="ksg"), "needs x"),
        (lambda: hu.information.estimate([1.0, 2], x=[1.0], method="ksg"), "x has 1 rows"),
        (lambda: hu.information.estimate([1.0], x=[1.0], method="kde"), "takes no x"),
        (lambda: hu.information.estimate([1.0], method="kde", bound="both"), "'upper' or 'lower'"),
        (lambda: hu.information.estimate([1.0], method="kde", variance=0), "variance is 0"),
        (lambda: hu.information.estimate([1.0], method="noise", deviation=-1), "deviation is -1"),
        (lambda: hu.information.estimate([1.0], method="noise", draws=0), "draws is 0"),
        (lambda: hu.information.estimate([1.0], method="bin-size", size=0), "size is 0"),
        (lambda: hu.information.estimate([1.0], method="binning", bins=1), "bins is 1"),
        (lambda: hu.information.estimate([1.0], method="binning", low=1, high=1), "low is 1"),
        (lambda: hu.information.estimate([1.0], method="kde", width=3), "no option 'width'"),
        (lambda: hu.information.estimate([1.0, 2], x=[1.0, 3], method="ksg", neighbours=2), "neighbours is 2"),
        (lambda: hu.information.estimate([1.0, 2], x=[1.0, 3], method="kl"), "neighbours is 5"),
        (lambda: hu.information.estimate([1.0, 2], x=[1.0, 3], method="cs-qmi", width=0), "width is 0"),
        (lambda: hu.information.estimate(np.zeros((0, 2)), method="kde"), "has shape"),
        (lambda: hu.information.exact(np.zeros((0, 2))), "no rows"),
        (lambda: hu.information.exact(np.zeros((2, 2, 2))), "3 dimensions"),
        (lambda: hu.information.exact([1, 2], [1]), "labels has 1 rows"),
    ],
)  # fmt: skip
def test_bad_input_gets_a_sentence(call, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("(", r"\(")) as raised:
        call()
    assert "\n" not in str(raised.value)
