"""hu.sharpness: known answers, dense eigenvalues, closed form against a search, bad input."""

from __future__ import annotations

import math
from fractions import Fraction as Q

import matplotlib as mpl
import numpy as np
import pytest
from scipy.optimize import minimize

import halfulp as hu
from halfulp import sharpness as sh

mpl.use("Agg")


def quadratic(eigenvalues: list[float] | np.ndarray, seed: int = 0) -> np.ndarray:
    """A symmetric matrix with these eigenvalues in a random basis."""
    values = np.asarray(eigenvalues, float)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values),) * 2))[0]
    h = basis @ np.diag(values) @ basis.T
    return (h + h.T) / 2


class Network:
    """A tanh network of one hidden layer with cross-entropy; its Hessian-vector product by hand.

    R{·} is the derivative along v of what stands in the forward and backward pass (Pearlmutter 1994).
    """

    def __init__(self, inputs: int, hidden: int, classes: int, rows: int, seed: int = 1) -> None:
        g = np.random.default_rng(seed)
        self.shapes = [(inputs, hidden), (hidden,), (hidden, classes), (classes,)]
        self.ends = np.cumsum([0, *(math.prod(s) for s in self.shapes)])
        self.n = int(self.ends[-1])
        self.x = g.standard_normal((rows, inputs))
        self.y = np.eye(classes)[g.integers(0, classes, rows)]
        self.w = 0.7 * g.standard_normal(self.n)
        names = ["hidden.weight", "hidden.bias", "out.weight", "out.bias"]
        self.layers = {
            name: slice(int(a), int(b))
            for name, a, b in zip(names, self.ends[:-1], self.ends[1:], strict=True)
        }

    def parts(self, w: np.ndarray) -> list[np.ndarray]:
        pieces = zip(self.shapes, self.ends[:-1], self.ends[1:], strict=True)
        return [w[a:b].reshape(s) for s, a, b in pieces]

    def passes(self, w: np.ndarray, v: np.ndarray | None = None):
        a, b, c, d = self.parts(w)
        h = np.tanh(self.x @ a + b)
        z = h @ c + d
        z = z - z.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(z).sum(axis=1, keepdims=True))
        loss = float(((log_sum - z) * self.y).sum() / len(z))
        p = np.exp(z - log_sum)
        gz = (p - self.y) / len(z)
        gh = gz @ c.T
        ga = gh * (1 - h * h)
        flat = [self.x.T @ ga, ga.sum(axis=0), h.T @ gz, gz.sum(axis=0)]
        gradient = np.concatenate([g.ravel() for g in flat])
        if v is None:
            return loss, gradient, None
        ra, rb, rc, rd = self.parts(v)
        rh = (1 - h * h) * (self.x @ ra + rb)
        rz = rh @ c + h @ rc + rd
        rgz = p * (rz - (p * rz).sum(axis=1, keepdims=True)) / len(z)
        rga = (rgz @ c.T + gz @ rc.T) * (1 - h * h) + gh * (-2 * h * rh)
        flat = [self.x.T @ rga, rga.sum(axis=0), rh.T @ gz + h.T @ rgz, rgz.sum(axis=0)]
        return loss, gradient, np.concatenate([g.ravel() for g in flat])

    def loss(self, w: np.ndarray) -> float:
        return self.passes(w)[0]

    def gradient(self, w: np.ndarray) -> np.ndarray:
        return self.passes(w)[1]

    def hvp(self, v: np.ndarray) -> np.ndarray:
        return self.passes(self.w, v)[2]

    def dense(self) -> np.ndarray:
        return np.array([self.hvp(e) for e in np.eye(self.n)])


NET = Network(8, 20, 6, 60)


# ------------------------------------------------------------------ logits


def by_search(z: np.ndarray, y: int, epsilon: float, starts: int, seed: int) -> float:
    """The largest rise of one row's cross-entropy that L-BFGS-B finds, as the source does it."""
    reach = epsilon * (np.abs(z) + 1)

    def f(d: np.ndarray) -> tuple[float, np.ndarray]:
        a = z + d
        m = a.max()
        total = np.exp(a - m).sum()
        p = np.exp(a - m) / total
        p[y] -= 1
        return -(m + math.log(total) - a[y]), -p

    g = np.random.default_rng(seed)
    start = -f(np.zeros_like(z))[0]
    found = -math.inf
    for i in range(starts):
        first = np.zeros_like(z) if i == 0 else g.uniform(-reach, reach)
        end = minimize(
            f, first, jac=True, method="L-BFGS-B", bounds=list(zip(-reach, reach, strict=True))
        )
        found = max(found, -end.fun - start)
    return found


@pytest.mark.parametrize("epsilon", [1e-4, 1e-3, 1e-2, 0.5])
def test_the_closed_form_is_never_below_the_search(epsilon: float) -> None:
    g = np.random.default_rng(3)
    reached = 0
    for case in range(40):
        z = g.standard_normal(int(g.integers(2, 30))) * 10 ** g.uniform(-1, 1)
        y = int(g.integers(len(z)))
        rise = float(sh.logit_sharpness(z, y, epsilon).rises[0])
        searched = by_search(z, y, epsilon, 3, case)
        # The search's own values carry rounding errors of the loss.
        assert rise >= searched - 1e-14 * (1 + np.abs(z).max())
        reached += searched > 0.99 * rise
    assert reached > 20  # the bound is no idle one


@pytest.mark.parametrize("epsilon", [1e-9, 1e-3, 0.1, 2.0, 50.0])
def test_the_closed_form_is_the_loss_at_the_corner(epsilon: float) -> None:
    import flint

    flint.ctx.prec = 200
    g = np.random.default_rng(4)
    z = g.standard_normal((30, 5)) * 4
    z[0] *= 30  # nearly certain
    y = g.integers(0, 5, 30)
    found = sh.logit_sharpness(z, y, epsilon)

    def loss(row: list[Q], label: int) -> flint.arb:
        return sum(
            (
                flint.arb(
                    flint.fmpq((v - row[label]).numerator, (v - row[label]).denominator)
                ).exp()
                for v in row
            ),
            flint.arb(0),
        ).log()

    for i in range(30):
        row = [Q(v) for v in z[i].tolist()]
        reach = [Q(epsilon) * (abs(v) + 1) for v in row]
        corner = [
            v + (-b if j == y[i] else b) for j, (v, b) in enumerate(zip(row, reach, strict=True))
        ]
        rise = float(loss(corner, y[i]) - loss(row, y[i]))
        assert found.losses[i] == pytest.approx(float(loss(row, y[i])), rel=1e-12, abs=1e-300)
        assert found.rises[i] == pytest.approx(rise, rel=1e-11, abs=1e-300)
        assert found.logits[i] == pytest.approx([float(v) for v in corner], rel=1e-14)
    assert found.value == pytest.approx(100 * found.rises.mean() / (1 + found.loss), rel=1e-14)


def test_the_first_order_form() -> None:
    z, y = np.random.default_rng(5).standard_normal((20, 10)), np.arange(20) % 10
    for epsilon, near in ((1e-3, 1e-2), (1e-6, 1e-5)):
        found = sh.logit_sharpness(z, y, epsilon)
        assert found.first_order == pytest.approx(found.value, rel=near)
    # Two equal logits 0: p = ½, b = ε, so φ₁ = 100·ε/(1 + ln 2).
    assert sh.logit_sharpness([0.0, 0.0], 0, 0.01).first_order == pytest.approx(
        1 / (1 + math.log(2))
    )
    assert sh.logit_sharpness([0.0, 0.0], 0, 0.0).value == 0


# ------------------------------------------------------------------ losses


def test_keskar_of_a_linear_loss() -> None:
    c, w = np.array([1.0, -2.0, 0.5]), np.array([1.0, -3.0, 0.0])
    found = sh.keskar(lambda x: 3 + float(c @ (x - w)), w, 0.01, gradient=lambda x: c)
    expected = 0.01 * float(np.abs(c) @ (np.abs(w) + 1))
    assert found.rise == pytest.approx(expected, rel=1e-9)
    assert found.value == pytest.approx(100 * expected / 4, rel=1e-9)
    assert sh.keskar(lambda x: 3 + float(c @ (x - w)), w, 0.01).rise == pytest.approx(
        expected, rel=1e-6
    )


def test_keskar_at_a_minimum_and_in_a_subspace() -> None:
    h = np.diag([1.0, 4.0])
    found = sh.keskar(
        lambda x: float(x @ h @ x) / 2, [0.0, 0.0], 0.1, gradient=lambda x: h @ x, starts=4
    )
    assert found.rise == pytest.approx(0.025)  # the corner (0.1, 0.1); at 0 the gradient is 0
    one = sh.keskar(lambda x: float(x @ h @ x) / 2, [1.0, 2.0], 0.1, subspace=1, seed=7)
    again = sh.keskar(lambda x: float(x @ h @ x) / 2, [1.0, 2.0], 0.1, subspace=1, seed=7)
    assert 0 < one.rise == again.rise
    basis = np.random.default_rng(7).standard_normal((2, 1))
    bound = 0.1 * (abs(float((np.linalg.pinv(basis) @ [1.0, 2.0])[0])) + 1)
    y = np.linalg.lstsq(basis, one.perturbation, rcond=None)[0]
    assert abs(float(y[0])) <= bound * (1 + 1e-12)
    assert basis @ y == pytest.approx(one.perturbation)


def test_sam() -> None:
    c = np.array([3.0, 4.0])
    found = sh.sam(lambda w: float(c @ w), lambda w: c, [1.0, 1.0])
    assert found.value == pytest.approx(0.05 * 5, abs=1e-12)  # ρ = 0.05
    assert found.perturbation == pytest.approx([0.03, 0.04])
    # A quadratic: the ball's maximum from near a minimum is ρ²·λmax/2, where iteration leads.
    h = quadratic([1.0, 3.0, 10.0])
    near = 1e-9 * np.ones(3)
    many = sh.sam(lambda w: float(w @ h @ w) / 2, lambda w: h @ w, near, 0.5, steps=50)
    assert many.value == pytest.approx(0.25 * 10 / 2, rel=1e-6)
    assert sh.sam(lambda w: 1.0, lambda w: 0 * w, [1.0]).value == 0
    assert sh.sam(
        lambda w: float(w[0]), lambda w: np.array([5e-324]), [1.0]
    ).value == pytest.approx(0.05)


@pytest.mark.parametrize("initial", [1e-6, 1.0, 1e5])
def test_critical_sharpness_of_a_quadratic_is_the_curvature_along_the_gradient(
    initial: float,
) -> None:
    h = quadratic([0.5, 2.0, 7.0])
    w = np.array([1.0, -2.0, 0.3])
    g = h @ w
    found = sh.critical_sharpness(
        lambda x: float(x @ h @ x) / 2, w, -g, initial=initial, tolerance=1e-9
    )
    assert found.value == pytest.approx(float(g @ h @ g / (g @ g)), abs=1e-6)
    assert found.bracket[0] < found.bracket[1] == found.step
    few = sh.critical_sharpness(lambda x: float(x @ h @ x) / 2, w, -g, tolerance=0.1)
    assert few.evaluations <= 10
    assert few.value == pytest.approx(found.value, rel=0.11)


def test_critical_sharpness_of_piecewise_constant_losses() -> None:
    # |round(x)| from x = 3 downwards rises first above |3| where x < −3.5: a step of 6.5.
    found = sh.critical_sharpness(lambda w: abs(np.round(w[0])), [3.0], [-1.0], tolerance=1e-9)
    assert found.step == pytest.approx(6.5, rel=1e-8)
    assert found.value == pytest.approx(2 / 6.5, abs=1e-6)
    # A quantised quadratic: the loss of values of a format.
    e4m3 = sh.critical_sharpness(
        lambda w: float((hu.round(w, "float8_e4m3fn") ** 2).sum()), [1.0], [-1.0], tolerance=1e-6
    )
    assert e4m3.value == pytest.approx(2 / 2.0625, rel=1e-5)  # -1.0625 ties to even: -1.0
    flat = sh.critical_sharpness(lambda w: 1.0, [3.0], [-1.0])
    assert (flat.value, flat.step) == (0.0, math.inf)
    up = sh.critical_sharpness(lambda w: float(w[0] > 3), [3.0], [1.0])
    assert (up.value, up.step) == (math.inf, 0.0)
    nan = sh.critical_sharpness(lambda w: math.nan if w[0] < 1 else -w[0], [3.0], [-1.0])
    assert nan.step <= 2.002


def test_box_and_random_sharpness() -> None:
    c, w = np.array([1.0, -2.0]), np.array([1.0, 0.0])
    box = sh.box_sharpness(lambda x: 1 + float(c @ (x - w)), w, 0.1, samples=50)
    assert box.rise == pytest.approx(0.1 * (2 + 2))  # one of 4 corners
    assert box.evaluations == 51
    quantised = sh.box_sharpness(
        lambda x: float(np.abs(hu.round(x, "float4_e2m1fn")).sum()), [1.0, 0.0], 0.3
    )
    assert quantised.rise == 1.0  # 1.6 rounds to 1.5, and 0.3 to 0.5
    h = quadratic([1.0, -3.0, 10.0, 2.0])
    found = sh.random_sharpness(lambda x: float(x @ h @ x) / 2, np.zeros(4), 0.01, pairs=4000)
    assert found.value == pytest.approx(0.01**2 / 2 * 10, abs=4 * found.standard_error)
    assert found.curvature == pytest.approx(10, abs=8 * found.standard_error / 0.01**2)
    assert found.standard_error < 0.05 * found.value
    # Odd terms cancel exactly.
    line = sh.random_sharpness(lambda x: float(c @ x), w, 0.5)
    assert abs(line.value) < 1e-15


def test_a_constant_loss_has_sharpness_0() -> None:
    def flat(w: np.ndarray) -> float:
        return 2.0

    assert sh.keskar(flat, [1.0, 2.0]).value == 0
    assert sh.box_sharpness(flat, [1.0, 2.0]).value == 0
    found = sh.random_sharpness(flat, [1.0, 2.0], 0.1)
    assert (found.value, found.standard_error) == (0, 0)


# ------------------------------------------------------------------ curvature


def test_the_product_of_the_test_s_network_is_that_of_differences() -> None:
    v = np.random.default_rng(9).standard_normal(NET.n)
    by_differences = sh.difference_hvp(NET.gradient, NET.w)(v)
    exact = NET.hvp(v)
    assert np.abs(by_differences - exact).max() < 1e-7 * np.abs(exact).max()
    step = 1e-6
    for i in range(0, NET.n, 17):
        e = step * np.eye(NET.n)[i]
        slope = (NET.loss(NET.w + e) - NET.loss(NET.w - e)) / (2 * step)
        assert slope == pytest.approx(NET.gradient(NET.w)[i], abs=1e-8)


def test_lanczos_gives_dense_eigenvalues() -> None:
    assert NET.n < 2000
    values, vectors = np.linalg.eigh(NET.dense())
    found = sh.lanczos(NET.hvp, NET.n, 5)
    assert found.converged.all()
    assert found.products < NET.n
    assert found.values == pytest.approx(values[::-1][:5], rel=1e-10)
    for i in range(5):
        assert abs(found.vectors[:, i] @ vectors[:, -1 - i]) == pytest.approx(1, abs=1e-7)
        away = np.linalg.norm(NET.hvp(found.vectors[:, i]) - found.values[i] * found.vectors[:, i])
        assert away <= found.residuals[i] + 1e-12
    by_magnitude = sh.lanczos(lambda v: -NET.hvp(v), NET.n, 3, largest="magnitude")
    assert by_magnitude.values == pytest.approx(-values[::-1][:3], rel=1e-10)
    everything = sh.lanczos(NET.hvp, NET.n, NET.n)
    assert everything.values == pytest.approx(values[::-1], abs=1e-12)


def test_lanczos_on_known_spectra() -> None:
    values = np.concatenate([[100.0, 50.0, 50.0, 1e-3], np.linspace(-5, 5, 60)])
    h = quadratic(values)
    found = sh.lanczos(lambda v: h @ v, 64, 3, max_steps=64, tolerance=0.0)
    assert found.values == pytest.approx([100, 50, 50], rel=1e-12)  # also the multiple one
    gram = found.vectors.T @ found.vectors
    assert np.abs(gram - np.eye(3)).max() < 1e-12
    identity = sh.lanczos(lambda v: 3 * v, 10, 4)
    assert identity.values == pytest.approx([3] * 4)
    assert identity.converged.all()
    zero = sh.lanczos(lambda v: 0 * v, 5, 2)
    assert (zero.values == 0).all()
    alone = sh.lanczos(lambda v: -2 * v, 1)
    assert alone.values == pytest.approx([-2])


def test_lanczos_stopped_early_says_so_and_its_bounds_hold() -> None:
    values = np.sort(np.random.default_rng(2).uniform(0, 1, 400))
    h = quadratic(values)
    found = sh.lanczos(lambda v: h @ v, 400, 3, max_steps=15)
    assert not found.converged.any()
    assert found.products == 15
    for value, residual in zip(found.values, found.residuals, strict=True):
        assert np.abs(values - value).min() <= residual


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_traces(method: str) -> None:
    h = quadratic(np.concatenate([[1000.0, 300.0], np.linspace(-1, 1, 98)]))
    errors = []
    for seed in range(60):
        found = sh.trace(lambda v: h @ v, 100, method=method, samples=30, seed=seed)
        assert found.products == 30
        errors.append((found.value - 1300) / found.standard_error)
    # Student's t of 9 (Hutch++) or 29 degrees of freedom, if the standard error is one.
    assert abs(np.mean(errors)) < 0.6
    assert 0.7 < np.std(errors) < 2.0
    diagonal = sh.trace(lambda v: np.arange(5.0) * v, 5, samples=4)
    assert (diagonal.value, diagonal.standard_error) == (10, 0)  # signs see a diagonal exactly


def test_hutch_plus_plus_beats_hutchinson_and_is_exact_where_it_spans_all() -> None:
    h = quadratic(1000.0 * 0.7 ** np.arange(100))
    worst = {
        method: max(
            abs(
                sh.trace(lambda v: h @ v, 100, method=method, samples=60, seed=s).value
                - np.trace(h)
            )
            for s in range(10)
        )
        for method in ("hutchinson", "hutch++")
    }
    assert worst["hutch++"] < worst["hutchinson"] / 20
    small = quadratic([1.0, 2.0, -4.0])
    found = sh.trace(lambda v: small @ v, 3, method="hutch++", samples=9)
    assert found.value == pytest.approx(-1, abs=1e-12)


def test_moments_of_the_density_against_the_trace() -> None:
    h = NET.dense()
    found = sh.spectral_density(NET.hvp, NET.n, probes=12, steps=20, seed=4)
    assert found.products == 240
    # The same signs give Hutchinson's estimate: the first moment is that, to rounding.
    hutchinson = sh.trace(NET.hvp, NET.n, samples=12, seed=4)
    value, error = found.moment(1)
    assert value * NET.n == pytest.approx(hutchinson.value, rel=1e-10)
    assert error * NET.n == pytest.approx(hutchinson.standard_error, rel=1e-8)
    # Gauss's quadrature: each probe's moments are xᵀHᵏx/n exactly, to k = 2·steps − 1.
    generator = np.random.default_rng(4)
    signs = [generator.choice([-1.0, 1.0], NET.n) for _ in range(12)]
    for power in (0, 2, 3, 7):
        exact = np.mean([x @ np.linalg.matrix_power(h, power) @ x for x in signs]) / NET.n
        assert found.moment(power)[0] == pytest.approx(exact, rel=1e-9)
        value, error = found.moment(power)
        true = np.trace(np.linalg.matrix_power(h, power)) / NET.n
        assert abs(value - true) <= 5 * error + 1e-12
    assert found.weights.sum(axis=1) == pytest.approx(1)


def test_the_density_of_two_points() -> None:
    h = quadratic([0.0] * 30 + [4.0] * 10)
    found = sh.spectral_density(lambda v: h @ v, 40, probes=200, steps=30)
    x = np.linspace(-1, 5, 6001)
    y = found.density(x, 0.05)
    assert y.sum() * (x[1] - x[0]) == pytest.approx(1, abs=1e-6)
    assert y[x > 2].sum() * (x[1] - x[0]) == pytest.approx(0.25, abs=0.02)
    assert found.plot() is not None


def test_layers() -> None:
    dense = NET.dense()
    found = sh.layer_curvature(NET.hvp, NET.n, NET.layers, k=2, method="hutch++", samples=600)
    assert list(found) == list(NET.layers)
    for name, part in NET.layers.items():
        sub = dense[part, part]
        assert found[name].size == len(sub)
        assert found[name].eigenpairs.values == pytest.approx(
            np.linalg.eigvalsh(sub)[::-1][:2], rel=1e-8
        )
        error = found[name].trace.standard_error
        assert abs(found[name].trace.value - np.trace(sub)) <= 5 * error + 1e-10
    assert sum(float(np.trace(dense[p, p])) for p in NET.layers.values()) == pytest.approx(
        np.trace(dense)
    )


def test_the_hessian_of_logistic_regression() -> None:
    """xᵀ·p(1 − p)·x by hand, its largest eigenvalue and trace through the package."""
    g = np.random.default_rng(8)
    x, w = g.standard_normal((40, 7)), g.standard_normal(7)
    p = 1 / (1 + np.exp(-(x @ w)))
    h = x.T @ (x * (p * (1 - p))[:, None]) / 40
    y = g.integers(0, 2, 40)

    def gradient(v: np.ndarray) -> np.ndarray:
        return x.T @ (1 / (1 + np.exp(-(x @ v))) - y) / 40

    hvp = sh.difference_hvp(gradient, w)
    assert sh.lanczos(hvp, 7).values == pytest.approx(np.linalg.eigvalsh(h)[-1:], rel=1e-7)
    exact = sh.trace(hvp, 7, method="hutch++", samples=21)
    assert exact.value == pytest.approx(np.trace(h), rel=1e-7)


def test_the_three_semantics_of_a_quantised_loss_differ() -> None:
    """Curvature at the quantised weights, critical and random sharpness of the quantised function."""
    f = "float6_e3m2fn"
    at = hu.round(NET.w, f)

    def quantised(w: np.ndarray) -> float:
        return NET.loss(hu.round(w, f))

    # (a) has the dense Hessian's eigenvalue at Q(w), which is not that at w.
    found = sh.lanczos(lambda v: NET.passes(at, v)[2], NET.n)
    dense = np.array([NET.passes(at, e)[2] for e in np.eye(NET.n)])
    assert found.values == pytest.approx(np.linalg.eigvalsh(dense)[-1:], rel=1e-9)
    assert abs(found.values[0] - sh.lanczos(NET.hvp, NET.n).values[0]) > 1e-3 * found.values[0]
    # The Hessian of the quantised function itself is 0, by differences small enough.
    step = 1e-9 * np.random.default_rng(0).standard_normal(NET.n)
    assert quantised(NET.w + step) + quantised(NET.w - step) == 2 * quantised(NET.w)
    # (b) and (c) see its steps.
    critical = sh.critical_sharpness(quantised, NET.w, -NET.gradient(NET.w))
    assert 0 < critical.value < math.inf
    assert quantised(NET.w - critical.step * NET.gradient(NET.w)) > quantised(NET.w)
    small = sh.random_sharpness(quantised, NET.w, 1e-9, pairs=5)
    assert (small.value, small.standard_error) == (0, 0)
    assert sh.random_sharpness(quantised, NET.w, 0.3, pairs=5).value != 0
    assert sh.box_sharpness(quantised, NET.w, 0.1, samples=20).value > 0


def test_seeds_decide_everything() -> None:
    for f in (
        lambda s: sh.lanczos(NET.hvp, NET.n, 2, max_steps=10, seed=s).values,
        lambda s: sh.trace(NET.hvp, NET.n, samples=6, seed=s).value,
        lambda s: sh.trace(NET.hvp, NET.n, samples=6, method="hutch++", seed=s).value,
        lambda s: sh.spectral_density(NET.hvp, NET.n, probes=2, steps=5, seed=s).values,
        lambda s: sh.box_sharpness(NET.loss, NET.w, seed=s, samples=5).value,
        lambda s: sh.random_sharpness(NET.loss, NET.w, 0.1, pairs=3, seed=s).value,
        lambda s: sh.landscape(NET.loss, NET.w, 1, points=3, seed=s).losses,
    ):
        assert np.array_equal(f(1), f(1))
        assert not np.array_equal(f(1), f(2))


# ------------------------------------------------------------------ landscapes


def test_a_landscape_s_values_and_filters() -> None:
    g = np.random.default_rng(0)
    w = [g.standard_normal((4, 3)), g.standard_normal(3)]
    found = sh.landscape(lambda v: float((v[0] ** 2).sum() + v[1].sum()), w, 2, points=5)
    for d in found.directions:
        assert np.linalg.norm(d[0], axis=1) == pytest.approx(np.linalg.norm(w[0], axis=1))
        assert not d[1].any()
    assert found.along.tolist() == [-1, -0.5, 0, 0.5, 1]
    centre = float((w[0] ** 2).sum() + w[1].sum())
    assert found.losses[2, 2] == centre
    a, b = found.directions
    assert found.losses[4, 1] == pytest.approx(
        float(((w[0] + a[0] - 0.5 * b[0]) ** 2).sum() + w[1].sum())
    )
    columns = sh.landscape(lambda v: 0.0, w, 1, filter_axis=-1, points=3)
    assert np.linalg.norm(columns.directions[0][0], axis=0) == pytest.approx(
        np.linalg.norm(w[0], axis=0)
    )
    line = sh.landscape(
        lambda v: float(v @ v), [3.0, 4.0], [[1.0, 0.0]], points=3, reach=2, filter_normalised=False
    )
    assert line.losses.tolist() == [1 + 16, 25, 25 + 16]
    assert found.plot() is not None
    assert line.plot(logarithmic=True) is not None


# ------------------------------------------------------------------ bad input

BAD = [
    (lambda: sh.logit_sharpness([1.0, 2.0], 2), "targets holds 2, but classes are 0 to 1"),
    (lambda: sh.logit_sharpness([1.0, 2.0], 0.5), "targets must be integers"),
    (lambda: sh.logit_sharpness([1.0], 0), "at least 2 classes"),
    (lambda: sh.logit_sharpness([1.0, math.nan], 0), r"logits\[1\] is nan"),
    (lambda: sh.logit_sharpness([1.0, 2.0], [0, 1]), r"targets has the shape \(2,\)"),
    (lambda: sh.logit_sharpness([1.0, 2.0], 0, -1.0), "epsilon is -1.0, but must be"),
    (lambda: sh.keskar(lambda w: 1.0, []), "w is empty"),
    (lambda: sh.keskar(lambda w: math.inf, [1.0]), "the loss at w is inf"),
    (lambda: sh.keskar(3, [1.0]), "loss must be a function, not int"),
    (lambda: sh.keskar(lambda w: 1.0, [1.0], subspace=2), "subspace is 2, but must be 1 to 1"),
    (lambda: sh.sam(lambda w: 1.0, lambda w: [1.0, 2.0], [1.0]), r"gradient\(w\) has the shape \(2,\)"),
    (lambda: sh.critical_sharpness(lambda w: 1.0, [1.0], [0.0]), "direction is 0 everywhere"),
    (lambda: sh.critical_sharpness(lambda w: 1.0, [1.0], [1.0], initial=0.0), "initial is 0"),
    (lambda: sh.random_sharpness(lambda w: 1.0, [1.0], 0.0), "sigma is 0"),
    (lambda: sh.lanczos(lambda v: v, 3, 4), "k is 4, but must be 1 to 3"),
    (lambda: sh.lanczos(lambda v: v[:2], 3), r"hvp returned the shape \(2,\)"),
    (lambda: sh.lanczos(lambda v: v * math.nan, 3), "hvp returned NaN"),
    (lambda: sh.lanczos(lambda v: v, 3, largest="big"), "largest is 'big'"),
    (lambda: sh.trace(lambda v: v, 3, method="x"), "method is 'x'"),
    (lambda: sh.trace(lambda v: v, 3, method="hutch++", samples=2), "samples is 2, but must be 3"),
    (lambda: sh.block(lambda v: v, 3, slice(3, 5)), "holds none of the 3 parameters"),
    (lambda: sh.landscape(lambda v: 0.0, [1.0], points=4), "points is 4, but must be odd"),
    (lambda: sh.landscape(lambda v: 0.0, [1.0], 3), "directions is 3, but must be 1 to 2"),
    (lambda: sh.spectral_density(lambda v: v, 3, probes=0), "probes is 0, but must be"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "sentence"), BAD)
def test_bad_input_gets_one_sentence(call, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_docstring_s_example() -> None:
    import doctest

    assert doctest.testmod(sh).failed == 0
    assert hu.sharpness is sh
