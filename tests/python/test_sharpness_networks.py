"""exact_hvp, the networks it runs over, quantisers by role, the images: against differences, dense Hessians, by hand."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from halfulp import sharpness as sh
from halfulp.sharpness import _data
from halfulp.sharpness._networks import adam
from halfulp.sharpness._quantiser import ROLES

ROOT = Path(__file__).resolve().parents[2]


def by_complex_step(gradient, w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """H·x = Im g(w + i·h·x)/h: exact to rounding, by other arithmetic than dual arrays'."""
    return np.imag(gradient(w + 1e-40j * x)) / 1e-40


A = np.random.default_rng(0).standard_normal((6, 6))
GRADIENTS = {
    "power": lambda w: w**3 + 2.0**w + w**w,
    "exp": lambda w: np.exp(w) * np.log(w) + np.expm1(w) / np.log1p(w),
    "roots": lambda w: np.sqrt(w) - 1 / w + np.square(w) * np.reciprocal(w + 1),
    "angles": lambda w: np.sin(w) @ A + np.cos(w) * np.arctan(w) - np.tanh(w) * np.log2(w),
    "matmul": lambda w: A @ w + (w @ A) * w.dot(A[0]) + np.outer(w, w) @ w,
    "shapes": lambda w: np.concatenate([w.reshape(2, 3).T.ravel()[::-1] * w, -w[:0]]),
    "stack": lambda w: np.stack([w[:3] * w[3:], w[3:] ** 2]).ravel(),
    "sums": lambda w: w * w.sum() + np.sum(w.reshape(2, 3) ** 2, axis=0).repeat(2) + np.mean(w) * w,
    "pad": lambda w: np.pad(w[:4] ** 2, 1, constant_values=7) * w + np.pad(w[1:5] ** 2, 1, "edge"),
    "einsum": lambda w: np.einsum("i,ij,j->j", w, A, w, optimize=True),
    "take": lambda w: np.take(w, [5, 4, 3, 2, 1, 0]) ** 2 + w[[0, 0, 1, 1, 2, 2]] * w,
    "subtract": lambda w: 3.0 - w * w - (2 - w) / (5.0 - w),
    "in place": lambda w: _in_place(w),
}


def _in_place(w):
    g = np.zeros_like(w)
    g[1:] += w[1:] * w[:-1]
    g[0] = w[5] ** 2
    g *= w
    return g


@pytest.mark.parametrize("name", GRADIENTS)
def test_products_are_those_of_a_complex_step(name: str) -> None:
    random = np.random.default_rng(1)
    w, x = random.uniform(0.5, 2, 6), random.standard_normal(6)
    expected = by_complex_step(GRADIENTS[name], w, x)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(
        sh.exact_hvp(GRADIENTS[name], w)(x), expected, rtol=1e-13, atol=1e-13
    )


def test_what_depends_on_the_value_takes_its_branch() -> None:
    w = np.array([-2.0, 3.0, 0.5, -0.25])
    x = np.array([1.0, 10.0, 100.0, 1000.0])
    for gradient, slope in (
        (lambda w: np.maximum(w, 0) * 2, [0, 2, 2, 0]),
        (lambda w: np.minimum(1.0, w), [1, 0, 1, 1]),
        (lambda w: np.where(w > 0, w * w, -w), [-1, 6, 1, -1]),
        (lambda w: np.clip(w, -1, 1), [0, 0, 1, 1]),
        (lambda w: abs(w) * (w != 3), [-1, 0, 1, -1]),
        (lambda w: np.sign(w), [0, 0, 0, 0]),
    ):
        assert sh.exact_hvp(gradient, w)(x).tolist() == (np.array(slope) * x).tolist()
    # The largest of all: its own tangent, also as a scalar times a vector.
    assert sh.exact_hvp(lambda w: w.max() + 0 * w, w)(x).tolist() == [10.0] * 4
    product = sh.exact_hvp(lambda w: np.max(w.reshape(2, 2), axis=1).repeat(2), w)
    assert product(x).tolist() == [10.0, 10.0, 100.0, 100.0]


def test_functions_of_scipy() -> None:
    w, x = np.array([-1.5, 0.2, 2.0]), np.array([1.0, -2.0, 3.0])
    for f, slope in (
        (special.erf, 2 / np.sqrt(np.pi) * np.exp(-w * w)),
        (special.expit, special.expit(w) * special.expit(-w)),
        (special.log_expit, special.expit(-w)),
    ):
        np.testing.assert_allclose(sh.exact_hvp(f, w)(x), slope * x, rtol=1e-14)
    found = sh.exact_hvp(lambda w: np.logaddexp(w, 2 * w), w)(x)
    np.testing.assert_allclose(found, (1 + special.expit(w)) * x, rtol=1e-14)


def test_what_loses_the_derivative_is_refused_by_name() -> None:
    import halfulp as hu

    def assigns(w):
        g = np.zeros(3)
        g[:] = w
        return g

    for gradient, words in (
        (lambda w: np.fft.fft(w), r"np\.fft"),
        (lambda w: np.sort(w), r"np\.sort"),
        (lambda w: np.floor_divide(w, 2), r"np\.floor_divide"),
        (lambda w: np.multiply.reduce(w) * w, r"np\.multiply\.reduce"),
        (lambda w: w.astype(np.float32), r"float32"),
        (lambda w: float(w[0]) * w, r"float\(\)"),
        (lambda w: np.asarray(w) * 2, r"np\.asarray.*difference_hvp"),
        (assigns, r"plain array.*difference_hvp"),
        (lambda w: np.exp(w, where=np.ones(3, bool)), r"np\.exp with where="),
        (lambda w: np.mean(w, dtype=np.float32) * w, r"np\.mean with dtype="),
        (lambda w: np.pad(w, 1, "maximum")[1:4], r"np\.pad of mode 'maximum'"),
        (lambda w: np.exp(w, dtype=np.float32), r"np\.exp with dtype="),
        (lambda w: hu.round(w, "bfloat16"), r"Dual"),
        (lambda w: w.round(2), r"\.round"),
        (special.gammaln, "gammaln.*difference_hvp"),
    ):
        with pytest.raises((TypeError, AttributeError), match=words):
            sh.exact_hvp(gradient, [1.0, 2.0, 3.0])(np.ones(3))
    with pytest.raises(ValueError, match=r"shape \(2,\), but w has \(3,\)"):
        sh.exact_hvp(lambda w: w[:2], np.ones(3))(np.ones(3))
    with pytest.raises(TypeError, match="gradient must be a function"):
        sh.exact_hvp(3, np.ones(3))  # type: ignore[arg-type]
    assert sh.exact_hvp(lambda w: np.ones(3), np.ones(3))(np.ones(3)).tolist() == [0, 0, 0]


def test_products_take_the_shape_of_what_they_multiply() -> None:
    w = np.arange(1.0, 7).reshape(2, 3)
    product = sh.exact_hvp(lambda w: w**2, w)
    assert product(np.ones(6)).tolist() == (2 * w).ravel().tolist()
    assert product(np.ones((2, 3))).tolist() == (2 * w).tolist()


# Networks


def convolution_by_loops(net: sh.Network, w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Logits of a ConvNet, from its definition."""
    h = x.reshape(len(x), *net.layers[0].image)
    for layer, (matrix, bias) in zip(net.layers[:2], net.arrays(w)[:2], strict=True):
        stride = layer.steps[0].step
        kernel = matrix.reshape(3, 3, layer.before, layer.after)
        z = np.empty((len(x), layer.side, layer.side, layer.after))
        for i in range(layer.side):
            for j in range(layer.side):
                piece = h[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
                z[:, i, j] = np.tensordot(piece, kernel, 3) + bias
        h = np.maximum(z, 0)
    matrix, bias = net.arrays(w)[2]
    return h.reshape(len(x), -1) @ matrix + bias


@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (1, 2)])
def test_convolutions_are_those_of_the_definition(strides: tuple[int, int]) -> None:
    net = sh.ConvNet(9, (3, 4), 5, "relu", strides)
    random = np.random.default_rng(0)
    w, x = random.standard_normal(net.n), random.standard_normal((7, 81))
    np.testing.assert_allclose(net.logits(w, x), convolution_by_loops(net, w, x), rtol=1e-12)
    assert net.layers[1].products == net.layers[1].side ** 2 * 9 * 3 * 4


NETWORKS = {
    "mlp": lambda activation: sh.Mlp((7, 6, 5, 4), activation),
    "conv": lambda activation: sh.ConvNet(6, (2, 3), 4, activation),
    "strides": lambda activation: sh.ConvNet(9, (2, 2), 3, activation, (2, 1)),
}


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_gradients_and_products_against_differences(kind: str, activation: str) -> None:
    net = NETWORKS[kind](activation)
    random = np.random.default_rng(3)
    w = net.initial(4) + 0.1 * random.standard_normal(net.n)
    x, y = random.standard_normal((20, net.inputs)), random.integers(0, net.classes, 20)
    g = net.gradient(w, x, y)
    v = random.standard_normal(net.n)
    v /= np.linalg.norm(v)
    # Four points, h⁴: two points at this h would err by 1e-7. Kinks of relu are not that near.
    h = 1e-4 if activation != "relu" else 1e-6

    def slope(f):
        near = f(w + h * v) - f(w - h * v)
        return (8 * near - (f(w + 2 * h * v) - f(w - 2 * h * v))) / (12 * h)

    assert slope(lambda w: net.loss(w, x, y)) == pytest.approx(g @ v, rel=1e-8, abs=1e-9)
    product = net.hvp(w, x, y)
    expected = slope(lambda w: net.gradient(w, x, y))
    np.testing.assert_allclose(product(v), expected, rtol=1e-6, atol=1e-8)
    dense = np.array([product(row) for row in np.eye(net.n)])
    np.testing.assert_allclose(dense, dense.T, atol=1e-13 * np.abs(dense).max())
    assert np.linalg.eigvalsh(dense)[-1] > 1e-3
    np.testing.assert_allclose(dense @ v, product(v), atol=1e-12)


def test_parameters_name_every_number_once() -> None:
    net = sh.ConvNet(8, (6, 12), 10)
    assert list(net.parameters) == [f"{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")]
    places = np.concatenate([np.arange(net.n)[part] for part in net.parameters.values()])
    assert places.tolist() == list(range(net.n))
    assert [part.stop - part.start for part in net.parameters.values()] == [
        54,
        6,
        648,
        12,
        1920,
        10,
    ]
    assert list(net.weights) == ["1.weight", "2.weight", "3.weight"]
    w = net.initial(3)
    assert not w[net.parameters["2.bias"]].any()
    assert w[net.parameters["3.weight"]].std() == pytest.approx(np.sqrt(2 / 192), rel=0.1)
    assert (net.initial(3) == w).all()
    assert (net.initial(4) != w).any()


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_stack_is_its_networks(kind: str) -> None:
    net = NETWORKS[kind]("tanh")
    random = np.random.default_rng(5)
    w = np.stack([net.initial(s) for s in range(3)])
    x, y = random.standard_normal((3, 8, net.inputs)), random.integers(0, net.classes, (3, 8))
    q = sh.Quantiser("float8_e4m3fn", scale="power")
    for quantise in (None, q):
        g, loss = net.gradient(w, x, y, quantise), net.loss(w, x, y, quantise)
        assert loss.shape == (3,)
        for i in range(3):
            np.testing.assert_allclose(g[i], net.gradient(w[i], x[i], y[i], quantise), atol=1e-14)
            assert loss[i] == pytest.approx(net.loss(w[i], x[i], y[i], quantise), rel=1e-14)


def test_quantisers_see_every_operand_and_biases_stay() -> None:
    net = sh.Mlp((4, 3, 2), "relu")
    random = np.random.default_rng(0)
    w, x, y = (
        random.standard_normal(net.n),
        random.standard_normal((5, 4)),
        np.array([0, 1, 1, 0, 1]),
    )
    seen: list[tuple[str, tuple[int, ...]]] = []

    def halve(role: str, a: np.ndarray) -> np.ndarray:
        seen.append((role, a.shape))
        return a * {"weights": 0.5, "activations": 3.0, "gradients": -1.0}[role]

    g = net.gradient(w, x, y, halve)
    assert seen == [
        ("activations", (5, 4)),
        ("weights", (4, 3)),
        ("activations", (5, 3)),
        ("weights", (3, 2)),
        ("gradients", (5, 2)),
        ("gradients", (5, 3)),
    ]
    # By hand, straight through: what the products took stands in both passes.
    (a, b), (c, d) = net.arrays(w)
    z = 3 * x @ (a / 2) + b
    h = 3 * np.maximum(z, 0)
    logits = h @ (c / 2) + d
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gz = -(p - np.eye(2)[y]) / 5
    gh = -((gz @ (c / 2).T) * (z > 0))
    by_hand = [3 * x.T @ gh, gh.sum(0), h.T @ gz, gz.sum(0)]
    np.testing.assert_allclose(g, np.concatenate([k.ravel() for k in by_hand]), rtol=1e-12)
    q = net.quantised(w, halve)
    assert (q[net.parameters["1.weight"]] == w[net.parameters["1.weight"]] / 2).all()
    assert (q[net.parameters["2.bias"]] == w[net.parameters["2.bias"]]).all()


def test_training_in_binary32_through_the_emulator_is_that_by_casts() -> None:
    data = sh.digits()
    x, y = data.train_x[:256], data.train_y[:256]
    net = sh.Mlp((64, 12, 10), "tanh")

    def cast(role: str, a: np.ndarray) -> np.ndarray:
        return a.astype(np.float32).astype(np.float64)

    trained = [
        adam(net, net.initial(0), x, y, epochs=2, quantise=q)
        for q in (sh.Quantiser("binary32"), cast, None, sh.Quantiser("float8_e4m3fn"))
    ]
    assert (trained[0] == trained[1]).all()
    assert (trained[0] != trained[2]).any()
    losses = [net.loss(w, x, y) for w in trained]
    assert losses[0] == pytest.approx(losses[2], rel=1e-3)
    assert losses[3] != losses[2]
    assert max(losses) < net.loss(net.initial(0), x, y)


def test_scales_are_powers_of_two_that_keep_all_within() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 30, 4)) * np.array([1.0, 1000.0])[:, None, None]
    for name in ("float4_e2m1fn", "float8_e4m3fn", "int4"):
        q = sh.Quantiser(name, scale="power")
        y = q("weights", x)
        for i in range(2):  # of each network apart
            grid = np.abs(y[i] / np.abs(y[i]).max())
            assert np.abs(y[i]).max() <= np.abs(x[i]).max() * (1 + 2**-2)
            assert np.abs(y[i] - x[i]).max() <= np.abs(x[i]).max() / 5
            assert len(np.unique(grid)) < 2**8
        s = 2.0 ** np.floor(np.log2(q.largest / np.abs(x[0]).max()))
        assert s * np.abs(x[0]).max() <= q.largest < 2 * s * np.abs(x[0]).max()
        assert (q("weights", x[0]) == y[0]).all()
    static = sh.Quantiser("float4_e2m1fn")
    assert static("weights", np.array([[0.26, 5.0]])).tolist() == [
        [0.25, 3.0]
    ]  # 2 within 6: a scale of 2
    assert sh.Quantiser("binary32").scaled is False
    some = sh.Quantiser("float4_e2m1fn", roles=("weights",))
    assert some("gradients", x) is x
    lost = static("weights", np.array([[np.nan, 1.0, np.inf]]))  # a format without NaN
    assert np.isnan(lost[0, 0])
    assert lost[0, 1:].tolist() == [1.0, 3.0]
    assert (
        sh.Quantiser("float8_e4m3fn", scale="power")("weights", np.zeros((2, 2))).tolist()
        == [[0, 0]] * 2
    )


def test_stochastic_bits_are_those_of_seed_step_and_call() -> None:
    x = np.full((50, 4), 0.3)

    def draw(seed: int = 0, step: int = 0, calls: int = 1) -> np.ndarray:
        q = sh.Quantiser("float4_e2m1fn", "stochastic", seed=seed)
        q.begin(step)
        for _ in range(calls):
            y = q("weights", x)
        return y

    first = draw()
    assert (draw() == first).all()
    for other in (draw(seed=1), draw(step=1), draw(calls=2)):
        assert (other != first).any()
    assert set(np.unique(first)) == {0.25, 0.5}
    assert first.mean() == pytest.approx(0.3, abs=0.03)


def test_bad_networks_and_arguments() -> None:
    with pytest.raises(ValueError, match=r"activation is 'swish'.*relu, tanh, gelu"):
        sh.Mlp((3, 2), "swish")
    with pytest.raises(ValueError, match="must hold inputs and classes"):
        sh.Mlp((3,))
    with pytest.raises(ValueError, match="kernel is 3 wide, but the image before it only 2"):
        sh.ConvNet(4, (2, 2), 3)
    net = sh.Mlp((3, 2))
    w, x = net.initial(0), np.zeros((4, 3))
    with pytest.raises(ValueError, match=r"x has the shape \(4, 2\), but must be \(rows, 3\)"):
        net.loss(w, x[:, :2], [0, 1, 1, 0])
    with pytest.raises(ValueError, match=r"w has the shape \(7,\), but the network 8"):
        net.logits(w[1:], x)
    with pytest.raises(ValueError, match="classes are 0 to 1"):
        net.gradient(w, x, [0, 1, 2, 0])
    with pytest.raises(TypeError, match="y must hold integers"):
        net.gradient(w, x, [0.0, 1, 1, 0])
    with pytest.raises(ValueError, match="scale is 'best'"):
        sh.Quantiser("bfloat16", scale="best")
    with pytest.raises(ValueError, match="roles holds 'biases'"):
        sh.Quantiser("bfloat16", roles=("biases",))
    assert ROLES == ("weights", "activations", "gradients")


# Images


def test_the_fashion_subset_is_the_one_recorded() -> None:
    packed = (ROOT / "data/fashion/fashion.gz").read_bytes()
    made = (ROOT / "data/fashion/make.py").read_text()
    assert f'\nSHA256 = "{hashlib.sha256(packed).hexdigest()}"' in made
    assert f'CONTENT_SHA256 = "{hashlib.sha256(gzip.decompress(packed)).hexdigest()}"' in made
    assert len(packed) < 1.2e6
    assert "MIT License" in (ROOT / "data/fashion/LICENSE").read_text()
    images = sh.fashion()
    assert images.train_x.shape == (1500, 784)
    assert images.test_x.shape == (500, 784)
    assert np.bincount(images.train_y).tolist() == [150] * 10
    assert np.bincount(images.test_y).tolist() == [50] * 10
    small = sh.fashion(14)
    pixels = images.train_x[7].reshape(28, 28)
    assert small.train_x[7][14 + 2] == pytest.approx(pixels[2:4, 4:6].mean())
    # No image is in both parts.
    assert len({x.tobytes() for x in (*images.train_x, *images.test_x)}) == 2000


def test_the_digits_are_split_once() -> None:
    images = sh.digits()
    assert (images.train_x.shape, images.test_x.shape) == ((1500, 64), (297, 64))
    table = np.loadtxt(ROOT / "data/digits/digits.csv", delimiter=",", skiprows=1)
    rows = np.column_stack(
        [np.vstack([images.train_x, images.test_x]) * 16, [*images.train_y, *images.test_y]]
    )
    assert sorted(map(tuple, rows)) == sorted(map(tuple, table))
    assert np.bincount(images.test_y, minlength=10).min() > 15


def test_the_full_set_needs_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_data, "FASHION_PACKAGE", tmp_path)
    with pytest.raises(FileNotFoundError, match="install Debian's package dataset-fashion-mnist"):
        sh.fashion_full()
    with pytest.raises(FileNotFoundError, match=r"the data file no\.gz is in none of .*install"):
        _data.find_data("no.gz")


def test_the_examples_of_the_page() -> None:
    import doctest
    import re

    blocks = re.findall(r"```pycon\n(.*?)```", (ROOT / "docs/sharpness.md").read_text(), re.S)
    test = doctest.DocTestParser().get_doctest(
        "\n".join(blocks), {}, "sharpness", "sharpness.md", 0
    )
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.failed == 0
    assert result.attempted >= 8
