"""hu.softmax, hu.attention and the other kernels: in the host's arithmetic the bits of the C++ kernels,
in emulated arithmetic those of rational arithmetic that is written here, operation by operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import halfulp as hu
from halfulp import _conform

RANDOM = np.random.default_rng(5)


def bits(x: Any) -> Any:
    """As integers, every NaN the same one."""
    x = np.asarray(x)
    codes = x.view(f"u{x.itemsize}").copy()
    numbers = x.astype(np.float64) if x.dtype.name == "bfloat16" else x
    if numbers.dtype.kind == "f":
        codes[np.isnan(numbers)] = 0xFFFF
    return codes


# ---------------------------------------------------------------- the host's arithmetic
BUILTINS: list[tuple[str, str, Callable[..., Any]]] = [
    *(
        (suite, f"{a}-cpu", lambda x, f=f, a=a: f(x, algorithm=a))
        for suite, f in (("softmax", hu.softmax), ("log-sum-exp", hu.log_sum_exp))
        for a in ("three-pass", "two-pass", "online")
    ),
    ("cross-entropy", "tiled-cpu", lambda e, c, t: hu.cross_entropy(e, c, t, tile=16)),
    ("cross-entropy", "online-cpu", lambda e, c, t: hu.cross_entropy(e, c, t, tile=1)),
    *(
        (
            "attention",
            name,
            lambda q, k, v, scale, causal, how=how: hu.attention(
                q, k, v, scale=scale, causal=bool(causal), return_lse=True, **how
            ),
        )
        for name, how in (
            ("plain-cpu", {"algorithm": "plain"}),
            ("flash-cpu", {}),
            ("flash-16-cpu", {"tile": 16}),
        )
    ),
    *(
        ("layer-norm", name, lambda x, w, b, eps, how=how: hu.layer_norm(x, w, b, eps=eps, **how))
        for name, how in (
            ("two-pass-cpu", {"lanes": 1}),
            ("two-pass-tree-cpu", {}),
            ("welford-cpu", {"algorithm": "welford", "lanes": 1}),
            ("welford-merged-cpu", {"algorithm": "welford", "lanes": 32}),
        )
    ),
    ("rms-norm", "chain-cpu", lambda x, w, eps: hu.rms_norm(x, w, eps=eps, lanes=1)),
    ("rms-norm", "tree-cpu", lambda x, w, eps: hu.rms_norm(x, w, eps=eps)),
    ("gelu", "erf-cpu", lambda x: hu.gelu(x, algorithm="erf")),
    ("gelu-tanh", "tanh-cpu", lambda x: hu.gelu(x, algorithm="tanh")),
    ("silu", "sigmoid-cpu", lambda x: hu.silu(x, algorithm="sigmoid")),
    *(
        (
            "rotary",
            name,
            lambda x, c, s, interleaved, fused=fused: hu.rotary(
                x, c, s, pairing="interleaved" if interleaved else "halves", fused=fused
            ),
        )
        for name, fused in (("products-cpu", False), ("fused-cpu", True))
    ),
    *(
        (
            "adamw",
            name,
            lambda p, g, m, v, step, lerp=lerp, **a: hu.adamw_step(
                p, g, m, v, step=int(step), lerp=lerp, **a
            ),
        )
        for name, lerp in (("lerp-cpu", True), ("products-cpu", False))
    ),
    ("int8-matmul", "vectors-cpu", hu.int8_matmul),
]


# Functions, where they are not called as their suites are.
NAMES = {
    "log-sum-exp": "log_sum_exp",
    "cross-entropy": "cross_entropy",
    "layer-norm": "layer_norm",
    "rms-norm": "rms_norm",
    "gelu-tanh": "gelu",
    "adamw": "adamw_step",
    "int8-matmul": "int8_matmul",
}


# Of the cases one in so many, for time's sake.
STEPS = {"attention": 27, "cross-entropy": 3, "int8-matmul": 2}


@pytest.mark.parametrize(("suite", "builtin", "kernel"), BUILTINS)
def test_native_kernels_have_the_bits_of_the_builtins(
    suite: str, builtin: str, kernel: Callable[..., Any], cases: Callable[..., None]
) -> None:
    compared = 0
    for variant in hu.suite(suite).variants[:3]:
        if variant.startswith(("bfloat16", "uint8")):
            if variant.startswith("uint8"):
                continue
            pytest.importorskip("ml_dtypes")
        for case in hu.suite(suite).cases(variant, "quick")[:: STEPS.get(suite, 13)]:
            made = hu.suite(suite).make(case)
            got = kernel(*made.inputs.values(), **made.attributes)
            got = got if isinstance(got, tuple) else (got,)
            wanted = _conform.builtin_outputs(case, builtin)
            for y, (name, (element, shape)) in zip(got, made.outputs.items(), strict=True):
                assert y.dtype.name == element
                assert y.shape == shape
                other = np.frombuffer(wanted[name], y.dtype).reshape(shape)
                assert np.array_equal(bits(y), bits(other)), (case, name)
                compared += y.size
    assert compared > 30
    cases(compared, f"kernel {NAMES.get(suite, suite)}")


@pytest.mark.parametrize(
    ("suite", "kernel"),
    [("gelu", lambda x: hu.gelu(x)), ("silu", lambda x: hu.silu(x))],
)
def test_activations_in_vectors_keep_the_suites_bounds(
    suite: str, kernel: Callable[..., Any]
) -> None:
    for variant in ("float32", "float16"):
        assert hu.conform(kernel, suite, variant=variant, isolate=False).outcome == "pass"


def test_float64_is_computed_in_binary64() -> None:
    x = RANDOM.standard_normal((5, 33)) * 20
    e = np.exp(x - x.max(axis=1, keepdims=True))
    expected = e / e.sum(axis=1, keepdims=True)
    for algorithm in ("three-pass", "online", "two-pass"):
        y = hu.softmax(x, algorithm=algorithm)
        assert y.dtype == np.float64
        assert np.allclose(y, expected, rtol=1e-14, atol=0)
        lse = hu.log_sum_exp(x, algorithm=algorithm)
        assert np.allclose(lse, np.log(e.sum(axis=1)) + x.max(axis=1), rtol=1e-14)
    q, k, v = (RANDOM.standard_normal((1, n, 2, 8)) for n in (5, 7, 7))
    for algorithm in ("plain", "tiles"):
        out, lse = hu.attention(q, k, v, algorithm=algorithm, tile=3, causal=True, return_lse=True)
        s = np.einsum("bshd,bthd->bhst", q, k) / math.sqrt(8)
        s = np.where(np.arange(7) <= np.arange(5)[:, None] + 2, s, -np.inf)
        assert np.allclose(lse, np.log(np.exp(s).sum(-1)), rtol=1e-13)
        assert np.allclose(
            out, np.einsum("bhst,bthd->bshd", np.exp(s - lse[..., None]), v), rtol=1e-12
        )
    for y, expected in (
        (hu.silu(x), x / (1 + np.exp(-x))),
        (hu.gelu(x[0] / 20), [t / 2 * math.erfc(-t / math.sqrt(2)) for t in x[0] / 20]),
        (hu.layer_norm(x, eps=0.1), (x - x.mean(1)[:, None]) / np.sqrt(x.var(1) + 0.1)[:, None]),
    ):
        assert np.allclose(y, expected, rtol=1e-12)


# ---------------------------------------------------------------- emulated arithmetic
class Rational:
    """Numbers of a format without limits of range, every operation rounded once; exp and log by decimals of 60
    digits, far more than decide here."""

    def __init__(self, precision: int, toward_zero: bool = False) -> None:
        self.precision, self.toward_zero = precision, toward_zero

    def __call__(self, x: Fraction | int | float) -> Fraction:
        x = Fraction(x)
        if x == 0:
            return x
        exponent = math.frexp(float(x))[1]
        while abs(x) >= Fraction(2) ** exponent:
            exponent += 1
        while abs(x) < Fraction(2) ** (exponent - 1):
            exponent -= 1
        quantum = Fraction(2) ** (exponent - self.precision)
        count = math.trunc(x / quantum) if self.toward_zero else round(x / quantum)
        return count * quantum

    def _by_decimals(self, x: Fraction, function: str) -> Fraction:
        with localcontext() as context:
            context.prec = 60
            decimal = Decimal(x.numerator) / Decimal(x.denominator)
            return self(Fraction(getattr(decimal, function)()))

    def exp(self, x: Fraction) -> Fraction:
        return self._by_decimals(x, "exp")

    def log(self, x: Fraction) -> Fraction:
        return self._by_decimals(x, "ln")

    def tanh(self, x: Fraction) -> Fraction:
        with localcontext() as context:
            context.prec = 60
            e = (2 * Decimal(x.numerator) / Decimal(x.denominator)).exp()
            return self(Fraction((e - 1) / (e + 1)))

    # The kernels, from their definitions.
    def softmax(self, x: list[Fraction], algorithm: str) -> list[Fraction]:
        m = max(x)
        if algorithm == "three-pass":
            total = self.sum([self.exp(self(t - m)) for t in x])
            return [self(self.exp(self(t - m)) / total) for t in x]
        if algorithm == "online":
            total = self.running(x)[1]
            return [self(self.exp(self(t - m)) / total) for t in x]
        pairs = [self.pair(t) for t in x]
        v, e = self.pairs(pairs)
        inverse = self(1 / v)
        return [self(self(p * inverse) * Fraction(2) ** (n - e)) for p, n in pairs]

    def log_sum_exp(self, x: list[Fraction], algorithm: str) -> Fraction:
        if algorithm == "two-pass":
            v, e = self.pairs([self.pair(t) for t in x])
            digits = Fraction(0)  # e as a value of the format, by its digits
            for k in range(31):
                if abs(e) >> k & 1:
                    digits = self(digits + 2**k)
            return self((digits if e >= 0 else -digits) * self.log(Fraction(2)) + self.log(v))
        m = max(x)
        total = (
            self.running(x)[1]
            if algorithm == "online"
            else self.sum([self.exp(self(t - m)) for t in x])
        )
        return self(m + self.log(total))

    def sum(self, terms: list[Fraction]) -> Fraction:
        total = Fraction(0)
        for t in terms:
            total = self(total + t)
        return total

    def running(self, x: list[Fraction]) -> tuple[Fraction, Fraction]:
        m, total = x[0], Fraction(1)
        for t in x[1:]:
            if t > m:
                total = self(self(total * self.exp(self(m - t))) + 1)
                m = t
            else:
                total = self(total + self.exp(self(t - m)))
        return m, total

    def pair(self, x: Fraction) -> tuple[Fraction, int]:
        with localcontext() as context:
            context.prec = 60
            e = Fraction((Decimal(x.numerator) / Decimal(x.denominator)).exp())
        n = math.frexp(float(e))[1] - 1
        return self(e / Fraction(2) ** n), n

    def pairs(self, pairs: list[tuple[Fraction, int]]) -> tuple[Fraction, int]:
        (v, e), *others = pairs
        for p, n in others:
            top = max(e, n)
            v = self(self(v * Fraction(2) ** (e - top)) + self(p * Fraction(2) ** (n - top)))
            e = top
        return v, e

    def scores(self, q: Any, k: Any, scale: Fraction) -> list[Fraction]:
        found = []
        for key in k:
            s = Fraction(0)
            for a, b in zip(q, key, strict=True):
                s = self(Fraction(float(a)) * Fraction(float(b)) + s)
            found.append(self(s * scale))
        return found

    def products(self, p: list[Fraction], v: Any) -> list[Fraction]:
        out = [Fraction(0)] * v.shape[1]
        for w, row in zip(p, v, strict=True):
            out = [self(w * Fraction(float(x)) + o) for x, o in zip(row, out, strict=True)]
        return out

    def attention(self, q: Any, k: Any, v: Any, scale: Fraction) -> tuple[list[Fraction], Fraction]:
        s = self.scores(q, k, scale)
        m = max(s)
        p = [self.exp(self(t - m)) for t in s]
        total = self.sum(p)
        out = self.products([self(t / total) for t in p], v)
        return out, self(m + self.log(total))


def rounded(shape: tuple[int, ...], name: str, spread: float = 3) -> Any:
    return hu.round((RANDOM.standard_normal(shape) * spread).astype(np.float32), name)


def fractions(x: Any) -> list[Fraction]:
    return [Fraction(float(t)) for t in x]


FORMATS = [("bfloat16", 8), ("binary16", 11), ("float8_e5m2", 3), ("tf32", 11)]


@pytest.mark.parametrize(("name", "precision"), FORMATS)
@pytest.mark.parametrize("rounding", ["nearest-even", "toward-zero"])
def test_emulated_softmax_rounds_every_operation(
    name: str, precision: int, rounding: str, cases: Callable[..., None]
) -> None:
    r = Rational(precision, rounding == "toward-zero")
    compared = 0
    for n in (1, 2, 3, 12):
        x = rounded((6, n), name)
        # No subnormals in between: Rational has none.
        x = hu.round(np.clip(x, x.max(axis=1, keepdims=True) - 6, None), name)
        for algorithm in ("three-pass", "online", "two-pass"):
            y = hu.softmax(x, algorithm=algorithm, arithmetic=name, rounding=rounding)
            lse = hu.log_sum_exp(x, algorithm=algorithm, arithmetic=name, rounding=rounding)
            assert y.dtype == lse.dtype == np.float32
            for row, got, total in zip(x, y, lse, strict=True):
                expected = r.softmax(fractions(row), algorithm)
                assert fractions(got) == expected, (algorithm, row)
                assert Fraction(float(total)) == r.log_sum_exp(fractions(row), algorithm)
                compared += n + 1
    cases(compared, "kernel softmax", "kernel log_sum_exp")


@pytest.mark.parametrize(("name", "precision"), FORMATS[:2])
def test_emulated_attention_and_cross_entropy_round_every_operation(
    name: str, precision: int, cases: Callable[..., None]
) -> None:
    r = Rational(precision)
    q, k, v = (rounded((1, n, 2, 4), name, 1) for n in (3, 5, 5))
    scale = r(0.3)
    out, lse = hu.attention(q, k, v, scale=0.3, algorithm="plain", arithmetic=name, return_lse=True)
    # One tile of all keys, in which lane j holds key j alone.
    tiles, sums = hu.attention(q, k, v, scale=0.3, tile=64, arithmetic=name, return_lse=True)
    for h in range(2):
        for i in range(3):
            expected, total = r.attention(q[0, i, h], k[0, :, h], v[0, :, h], scale)
            assert fractions(out[0, i, h]) == expected
            assert Fraction(float(lse[0, h, i])) == total
            s = r.scores(q[0, i, h], k[0, :, h], scale)
            p = [r.exp(r(t - max(s))) for t in s]
            lanes = [*p, *[Fraction(0)] * 11]
            for half in (8, 4, 2, 1):
                lanes = [r(a + b) for a, b in zip(lanes[:half], lanes[half:], strict=True)]
            o = r.products(p, v[0, :, h])
            assert fractions(tiles[0, i, h]) == [r(x / lanes[0]) for x in o]
            assert Fraction(float(sums[0, h, i])) == r(max(s) + r.log(lanes[0]))
    e, c = rounded((4, 3), name, 1), rounded((7, 3), name, 1)
    target = [0, 6, 3, 3]
    loss, lse = hu.cross_entropy(e, c, target, arithmetic=name, return_lse=True)
    for i in range(4):
        a = r.scores(e[i], c, Fraction(1))
        m, total = r.running(a)
        assert Fraction(float(lse[i])) == r(m + r.log(total))
        assert Fraction(float(loss[i])) == r(Fraction(float(lse[i])) - a[target[i]])
    cases(2 * 3 * 2 * 5, "kernel attention")
    cases(8, "kernel cross_entropy")


@pytest.mark.parametrize(("name", "precision"), FORMATS[:3])
def test_emulated_activations_round_every_operation(
    name: str, precision: int, cases: Callable[..., None]
) -> None:
    r = Rational(precision)
    x = hu.round(np.linspace(-3, 3, 101, dtype=np.float32), name)
    silu = hu.silu(x, arithmetic=name)
    sigmoid = hu.silu(x, algorithm="sigmoid", arithmetic=name)
    tanh = hu.gelu(x, algorithm="tanh", arithmetic=name)
    for t, *got in zip(fractions(x), silu, sigmoid, tanh, strict=True):
        e = r.exp(-t)
        z = r(r(0.79788456080286536) * r(t + r(r(0.044715) * r(r(t * t) * t))))
        assert fractions(got) == [
            r(t / r(1 + e)),
            r(t * r(1 / r(1 + e))),
            r(r(t * Fraction(1, 2)) * r(1 + r.tanh(z))),
        ]
    cases(2 * x.size, "kernel silu")
    cases(x.size, "kernel gelu")


def llm_int8_reference(x: Any, w: Any, threshold: float) -> list[list[Fraction]]:
    """docs/products.md, in rationals; each step of the last one rounded to binary32."""
    r = Rational(24)
    columns = [fractions(c) for c in x.T]
    outliers = [k for k, c in enumerate(columns) if any(abs(t) >= threshold for t in c)]
    others = [k for k in range(len(columns)) if k not in outliers]
    rows = [fractions(row) for row in x]
    weights = [fractions(column) for column in w.T]

    def codes(line: list[Fraction]) -> tuple[Fraction, list[int]]:
        most = max((abs(line[k]) for k in others), default=Fraction(0))
        return most, [round(127 * line[k] / most) if most else 0 for k in others]

    y = []
    for row in rows:
        row_most, row_codes = codes(row)
        y.append([])
        for column in weights:
            most, column_codes = codes(column)
            s = r(sum(a * b for a, b in zip(row_codes, column_codes, strict=True)))
            chain = Fraction(0)
            for k in outliers:
                chain = r(row[k] * column[k] + chain)
            y[-1].append(r(r(r(s * r(row_most * most)) / 16129) + chain))
    return y


def test_llm_int8_is_its_definition(cases: Callable[..., None]) -> None:
    compared = 0
    random = np.random.default_rng(11)
    for m, n, k in ((1, 1, 1), (3, 4, 7), (5, 3, 40), (2, 2, 0), (4, 1, 300)):
        for threshold in (6.0, 0.0, 1.5, math.inf):
            x = (random.standard_normal((m, k)) * 2).astype(np.float32)
            w = random.standard_normal((k, n)).astype(np.float32)
            if k > 6:
                x[0, 3], x[:, 5] = 6.0, 0
                x[0, 6] = np.nextafter(np.float32(6), np.float32(0))
            y = hu.llm_int8(x, w, threshold=threshold)
            assert [fractions(row) for row in y] == llm_int8_reference(x, w, threshold)
            compared += y.size
            halves = [v.astype(np.float16) for v in (x, w)]
            y = hu.llm_int8(*halves, threshold=threshold)
            single = hu.llm_int8(*(v.astype(np.float32) for v in halves), threshold=threshold)
            assert y.dtype == np.float16
            assert np.array_equal(bits(y), bits(single.astype(np.float16)))
            compared += y.size
    x, w = np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)
    w[1, 0] = np.nan
    assert np.isnan(hu.llm_int8(x, w)).tolist() == [[True, False]] * 2
    x[0, 1] = np.nan  # an outlier now: its row of w is in no maximum
    assert np.isnan(hu.llm_int8(x, w)).tolist() == [[True, True], [True, False]]
    cases(compared, "kernel llm_int8")


@pytest.mark.parametrize("variant", ["float16", "bfloat16"])
def test_llm_int8_has_the_bits_of_the_builtin(variant: str, cases: Callable[..., None]) -> None:
    if variant == "bfloat16":
        pytest.importorskip("ml_dtypes")
    compared = 0
    for case in hu.suite("llm-int8").cases(variant, "quick")[::5]:
        made = hu.suite("llm-int8").make(case)
        x, w = made.inputs.values()
        y = hu.llm_int8(x, w, **made.attributes)
        other = np.frombuffer(_conform.builtin_outputs(case, "float32-cpu")["y"], y.dtype)
        assert np.array_equal(bits(y), bits(other.reshape(y.shape))), case
        compared += y.size
    assert compared > 30
    cases(compared, "kernel llm_int8")


def test_emulated_binary32_is_what_the_processor_computes() -> None:
    """Kernels without exp: additions, products, quotients and roots alone."""
    x, w, b = (RANDOM.standard_normal(n).astype(np.float32) for n in ((6, 37), 37, 37))
    for how in ({}, {"lanes": 1}, {"algorithm": "welford", "lanes": 4}, {"algorithm": "one-pass"}):
        y = hu.layer_norm(x, w, b, **how)
        assert np.array_equal(
            bits(hu.layer_norm(x, w, b, arithmetic="binary32", **how)), bits(y)
        ), how
    y = hu.rms_norm(x, w, lanes=8)
    assert np.array_equal(bits(hu.rms_norm(x, w, lanes=8, arithmetic="binary32")), bits(y))
    h, c, s = (RANDOM.standard_normal(n).astype(np.float32) for n in ((2, 3, 2, 8), (3, 4), (3, 4)))
    for how in ({}, {"fused": True}, {"pairing": "interleaved"}):
        y = hu.rotary(h, c, s, **how)
        assert np.array_equal(bits(hu.rotary(h, c, s, arithmetic="binary32", **how)), bits(y))
    p, g, m, v = (RANDOM.standard_normal(50).astype(np.float32) for _ in range(4))
    v = np.abs(v)
    for lerp in (True, False):
        for step in (1, 1000):
            ours = hu.adamw_step(p, g, m, v, step=step, lerp=lerp)
            other = hu.adamw_step(p, g, m, v, step=step, lerp=lerp, arithmetic="binary32")
            for a, b in zip(ours, other, strict=True):
                assert np.array_equal(bits(a), bits(b))
    assert not np.shares_memory(ours[0], p)


def test_stochastic_bits_depend_on_the_row_alone() -> None:
    x = rounded((5, 9), "bfloat16")
    options = {"arithmetic": "bfloat16", "rounding": "stochastic", "seed": 3}
    whole = hu.softmax(x, **options)
    assert np.array_equal(whole, hu.softmax(x, **options))
    assert not np.array_equal(whole, hu.softmax(x, **{**options, "seed": 4}))
    assert np.array_equal(whole[3:4], hu.softmax(x[3:4], offset=3 << 32, **options))
    norm = hu.layer_norm(x, **options)
    assert np.array_equal(norm[2:3], hu.layer_norm(x[2:3], offset=2 << 32, **options))


# ---------------------------------------------------------------- shapes, dtypes, special values
@pytest.mark.parametrize("arithmetic", [None, "bfloat16"])
def test_special_rows_and_empty_shapes(arithmetic: str | None) -> None:
    inf, nan = np.inf, np.nan
    x = np.array([[nan, 1, 2], [inf, 1, 2], [-inf] * 3, [-inf, 1, 1]], np.float32)
    y = hu.softmax(x, arithmetic=arithmetic)
    assert np.isnan(y[:3]).all()
    assert list(y[3]) == [0, 0.5, 0.5]
    lse = hu.log_sum_exp(x, arithmetic=arithmetic)
    assert np.isnan(lse[0])
    assert list(lse[1:3]) == [inf, -inf]
    for shape in ((0, 3), (3, 0), (0,), (2, 0, 4)):
        empty = np.zeros(shape, np.float32)
        assert hu.softmax(empty, arithmetic=arithmetic).shape == shape
        assert (hu.log_sum_exp(empty, arithmetic=arithmetic) == -inf).all()
        assert hu.layer_norm(empty, arithmetic=arithmetic).shape == shape
        assert hu.silu(empty, arithmetic=arithmetic).shape == shape
    q, k = np.zeros((1, 2, 1, 4), np.float32), np.zeros((1, 0, 1, 4), np.float32)
    out, lse = hu.attention(q, k, k, arithmetic=arithmetic, return_lse=True)
    assert bits(out).sum() == 0
    assert (lse == -inf).all()
    assert hu.cross_entropy(q[0, :0, 0], q[0, :, 0], [], arithmetic=arithmetic).shape == (0,)


def test_strided_operands_axes_and_dtypes() -> None:
    x = RANDOM.standard_normal((4, 6, 10)).astype(np.float32)
    turned = x.transpose(2, 0, 1)[::-2]
    assert np.array_equal(hu.softmax(turned), hu.softmax(turned.copy()))
    assert np.array_equal(hu.gelu(turned), hu.gelu(turned.copy()))
    assert hu.rms_norm(turned).shape == turned.shape
    for dtype in (np.float16, np.float32, np.float64):
        assert hu.softmax(x.astype(dtype)).dtype == dtype
        assert hu.log_sum_exp(x.astype(dtype)).shape == (4, 6)
    assert hu.softmax([1.0, 1.0]).tolist() == [0.5, 0.5]
    assert isinstance(hu.silu(np.float32(1)), np.float32)
    # float16 does not hold bfloat16's range, float32 does; nothing narrower than the operand.
    assert hu.softmax(np.ones((2, 2), np.float16), arithmetic="bfloat16").dtype == np.float32
    assert hu.softmax(np.ones((2, 2), np.float64), arithmetic="bfloat16").dtype == np.float64
    assert hu.softmax(np.ones((2, 2), np.float16), arithmetic="float8_e5m2").dtype == np.float16
    assert x.flags.writeable


def test_arrays_of_other_libraries_are_read_where_they_lie() -> None:
    class Foreign:
        def __init__(self, array: Any) -> None:
            self.array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    x = RANDOM.standard_normal((3, 5)).astype(np.float32)
    assert np.array_equal(hu.softmax(Foreign(x)), hu.softmax(x))
    a = RANDOM.integers(-128, 128, (3, 5)).astype(np.int8)
    expected = a.astype(np.int32) @ a.T.astype(np.int32)
    assert np.array_equal(hu.int8_matmul(Foreign(a), a.T), expected)


X, Q = np.ones((2, 4), np.float32), np.ones((1, 2, 4, 8), np.float32)
E = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: hu.softmax(np.float32(1)), "x is a single number; pass an array"),
        (
            lambda: hu.softmax(X, algorithm="fast"),
            "algorithm 'fast' is unknown; choose one of 'thr",
        ),
        (lambda: hu.softmax(X.astype(np.int32)), "x has dtype int32"),
        (
            lambda: hu.softmax(X, rounding="up"),
            "rounding belong to emulated arithmetic; give its f",
        ),
        (lambda: hu.softmax(X, speed=1), r"softmax\(\) has no argument 'speed'"),
        (lambda: hu.softmax(X, arithmetic="bfloat16", flags=True), "has no argument 'flags'"),
        (lambda: hu.softmax(X * 0.3, arithmetic="bfloat16"), r"x\[0, 0\] = .* is no value of bfl"),
        (lambda: hu.softmax(X, arithmetic="int8"), "rounded to a float format, and int8 is none"),
        (lambda: hu.softmax(X, arithmetic="binary128"), "binary128 has values that binary64 lacks"),
        (lambda: hu.softmax(X, arithmetic="binary64", rounding="stochastic"), "needs a seed"),
        (lambda: hu.log_sum_exp(X, algorithm="plain"), "algorithm 'plain' is unknown"),
        (lambda: hu.cross_entropy(E, E.T, [0, 0]), "both must have one width D"),
        (lambda: hu.cross_entropy(E, E, [0, 2]), "target holds 2, but must be 0 to 1"),
        (lambda: hu.cross_entropy(E, E, [-1, 0]), "target holds -1, but must be 0 to 1"),
        (lambda: hu.cross_entropy(E, E, [0.5, 1]), "target has dtype float64; pass integers"),
        (lambda: hu.cross_entropy(E, E, [0]), "e has 2 tokens"),
        (lambda: hu.cross_entropy(E, E, [0, 0], tile=0), "tile is 0, but must be 1 to"),
        (
            lambda: hu.cross_entropy(
                E, E, [0, 0], arithmetic="bfloat16", rounding="stochastic", seed=1
            ),
            "has no stochastic modes",
        ),
        (lambda: hu.attention(X, X, X), "q has 2 dimensions, but must have 4"),
        (lambda: hu.attention(Q, Q[:, :, :2], Q[:, :, :2]), r"np.repeat\(k, 2, axis=2\)"),
        (lambda: hu.attention(Q, Q[..., :4], Q[..., :4]), "may differ in the second extent only"),
        (lambda: hu.attention(Q, Q, Q[:, :1]), "they must be equal"),
        (lambda: hu.attention(Q, Q.astype(np.float16), Q), "q has dtype float32 and k float16"),
        (lambda: hu.attention(Q, Q, Q, tile=0), "tile is 0, but must be 1 to"),
        (lambda: hu.attention(Q, Q, Q, arithmetic="float8_e4m3fn"), "pass overflow='saturate', or"),
        (lambda: hu.attention(Q, Q, Q, scale=0), "scale is 0, but must be above 0"),
        (lambda: hu.layer_norm(X, X[0, :3]), r"weight has shape \(3,\), but x has rows of 4"),
        (lambda: hu.layer_norm(X, X[0].astype(np.float64)), "convert one of them"),
        (lambda: hu.layer_norm(X, lanes=3), "lanes is 3, but must be a power of two"),
        (lambda: hu.rms_norm(X, eps=-1), "eps is -1, but must be 0 or more"),
        (lambda: hu.gelu(X, arithmetic="bfloat16"), "choose 'erf' or 'tanh', or hu.functions.gelu"),
        (lambda: hu.rotary(Q[..., :7], E, E), "x has heads of 7; their width must be even"),
        (lambda: hu.rotary(Q, E, E), r"cos has shape \(2, 3\), but for this x it must be \(2, 4\)"),
        (lambda: hu.rotary(Q, X, X, pairing="odd"), "pairing 'odd' is unknown"),
        (lambda: hu.adamw_step(E, E, E, X, step=1), r"v has shape \(2, 4\), but parameter has"),
        (lambda: hu.adamw_step(E, E, E, E, step=0), "step is 0, but must be an integer, 1 or more"),
        (lambda: hu.adamw_step(E, E, E, E, step=1, beta1=1), "beta1 is 1, but must be"),
        (lambda: hu.adamw_step(E, E, E, np.float64(E), step=1), "pass float32 or float64"),
        (lambda: hu.int8_matmul(X, X), "a has dtype float32, but must have int8"),
        (lambda: hu.int8_matmul(np.int8(X), np.int8(X)), "the columns of a must equal the rows"),
        (lambda: hu.llm_int8(X, X), r"x has shape \(2, 4\) and w \(2, 4\); the columns of x must"),
        (lambda: hu.llm_int8(X[0], X), "x has 1 dimensions, but must have 2"),
        (lambda: hu.llm_int8(X, X.astype(np.float64).T), "x has dtype float32 and w float64"),
        (lambda: hu.llm_int8(np.float64(X), np.float64(X.T)), "computes in binary32; convert"),
        (lambda: hu.llm_int8(X, X.T, threshold=-1), "threshold is -1, but must be 0 or more"),
        (lambda: hu.llm_int8(X, X.T, threshold=math.nan), "threshold is nan, but must be 0"),
        (
            lambda: hu.llm_int8(
                np.zeros((1, 131072), np.float32), np.zeros((131072, 1), np.float32)
            ),
            "x has 131072 columns, but its integers' sums hold those of 131071",
        ),
    ],
)
def test_bad_arguments_get_one_sentence(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_overflow_can_be_an_error() -> None:
    x = np.full((1, 2), 240, np.float32)
    with pytest.raises(hu.RoundingError, match="an operation"):
        hu.rms_norm(x, arithmetic="float8_e4m3fn", overflow="error")
    saturating = {"arithmetic": "float8_e4m3fn", "overflow": "saturate"}
    assert np.isfinite(hu.rms_norm(x, **saturating)).all()
    # The lowest value in place of the -inf that tiles begin with changes nothing.
    q = rounded((1, 3, 1, 4), "float8_e4m3fn", 1)
    one = hu.attention(q, q, q, tile=2, **saturating)
    assert np.isfinite(one).all()
    assert np.abs(one - hu.attention(q, q, q)).max() < 0.25
