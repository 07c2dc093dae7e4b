"""K-sort, bit switching and the best format, against rationals and by exhaustion."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction as Q

import ml_dtypes
import numpy as np
import pytest
from modes import DETERMINISTIC

import halfulp as hu
from halfulp import transforms as tr


def norm(row: np.ndarray) -> Q:
    return sum((Q(float(v)) ** 2 for v in row), Q(0))


def reference_order(x: np.ndarray) -> list[int]:
    return sorted(range(len(x)), key=lambda i: (norm(x[i]), i))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_rows_are_ordered_by_exact_norms(dtype: type) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(-3, 4, (60, 4)).astype(dtype)  # many ties
    assert tr.norm_order(x).tolist() == reference_order(x)
    y = rng.standard_normal((40, 7)).astype(dtype)
    y[5], y[9] = y[3], -y[3]
    assert tr.norm_order(y).tolist() == reference_order(y)
    assert tr.norm_order(y[:, ::-2]).tolist() == reference_order(y[:, ::-2])


def test_the_least_bit_decides_also_across_the_whole_range() -> None:
    for far in (2.0**-20, 2.0**-200, 2.0**-900):
        x = np.array([[1, far, 5e-324], [1, far, 0], [1, 0, far], [far, 1, -5e-324]])
        assert tr.norm_order(x).tolist() == [1, 2, 0, 3]
    huge = np.array([[1.7e308, 5e-324], [1.7e308, 0], [-1.7e308, 0]])
    assert tr.norm_order(huge).tolist() == [1, 2, 0]
    assert tr.norm_order(np.zeros((3, 0))).tolist() == [0, 1, 2]


@pytest.mark.parametrize("pairs", ["none", "halves", "neighbours"])
def test_k_sort_keeps_every_product_of_queries_and_keys(pairs: str) -> None:
    rng = np.random.default_rng(2)
    heads, shared, d, model = 2, 3, 8, 5
    w_k = rng.integers(-9, 10, (heads * d, model)).astype(np.float64)
    w_q = rng.integers(-9, 10, (heads * shared * d, model)).astype(np.float64)
    s = tr.k_sort(w_k, w_q, heads=heads, pairs=pairs)
    x = rng.integers(-9, 10, (6, model)).astype(np.float64)

    def scores(k: np.ndarray, q: np.ndarray) -> np.ndarray:
        keys = (x @ k.T).reshape(6, heads, d)
        queries = (x @ q.T).reshape(6, heads, shared, d)
        return np.einsum("qhsd,khd->hsqk", queries, keys)

    assert (scores(s.w_k, s.w_q) == scores(w_k, w_q)).all()  # integers: exact in any order
    assert (s.w_k == w_k[s.order]).all()
    assert (s.w_k[s.inverse] == w_k).all()
    assert sorted(s.order.tolist()) == list(range(heads * d))
    for head in range(heads):
        order = (s.order[head * d : (head + 1) * d] - head * d).tolist()
        block = w_k[head * d : (head + 1) * d]
        if pairs == "none":
            assert order == reference_order(block)
            continue
        partner = {i: (i + d // 2) % d if pairs == "halves" else i ^ 1 for i in range(d)}
        places = [(i, i + d // 2) if pairs == "halves" else (2 * i, 2 * i + 1) for i in range(4)]
        norms = []
        for a, b in places:
            assert order[b] == partner[order[a]]
            assert order[a] < order[b]
            norms.append(norm(block[order[a]]) + norm(block[order[b]]))
        assert norms == sorted(norms)


def test_k_sort_makes_small_channels_finer_in_blocks() -> None:
    # What it is for: rows of alike magnitude share blocks (a fact of this example). The error is
    # relative to each channel's own energy; that of the large channels does not fall.
    rng = np.random.default_rng(3)
    w = rng.standard_normal((64, 32)) * np.exp2(rng.integers(-6, 7, (64, 1)))
    x = rng.standard_normal((50, 32))

    def error(weights: np.ndarray) -> Q:
        keys = (x @ weights.T).astype(np.float32)
        got = hu.quantize(keys, "bfp_m3_e8_b16").dequantize()
        return sum(tr.squared_error(got[:, j], keys[:, j]) / norm(keys[:, j]) for j in range(64))

    assert 4 * error(tr.k_sort(w).w_k) < error(w)


def divided(w: int, shift: int, mode: str) -> int:
    """Integer division by 2^shift, by its definition."""
    low, rest = divmod(w, 1 << shift)
    if rest == 0:
        return low
    half = Q(rest, 1 << shift) - Q(1, 2)
    up = {
        "nearest-even": half > 0 or (half == 0 and low % 2 == 1),
        "nearest-away": half > 0 or (half == 0 and w > 0),
        "nearest-zero": half > 0 or (half == 0 and w < 0),
        "toward-zero": w < 0,
        "up": True,
        "down": False,
        "away": w > 0,
        "odd": low % 2 == 0,
    }[mode]
    return low + up


@pytest.mark.parametrize("mode", DETERMINISTIC)
def test_every_code_of_eight_bits_switches_to_every_width(mode: str) -> None:
    codes = np.arange(-128, 128, dtype=np.int8)
    for bits in range(2, 9):
        least, most = -(1 << bits - 1), (1 << bits - 1) - 1
        want = [divided(w, 8 - bits, mode) for w in range(-128, 128)]
        got = tr.switch_bits(codes, bits, rounding=mode)
        assert got.dtype == np.int8
        assert got.tolist() == [max(least, min(most, v)) for v in want]
        wrapped = tr.switch_bits(codes, bits, rounding=mode, overflow="wrap")
        assert wrapped.tolist() == [(v - least) % (1 << bits) + least for v in want]
    unsigned = tr.switch_bits(np.arange(256, dtype=np.uint8), 3, rounding=mode, signed=False)
    assert unsigned.tolist() == [min(7, divided(w, 5, mode)) for w in range(256)]
    wide = np.array([-(2**31), 2**31 - 1, 123456789])
    assert tr.switch_bits(wide, 16, 32, "down").tolist() == [-32768, 32767, 123456789 >> 16]


def test_which_modes_may_round_twice() -> None:
    # Exhaustive over 9-bit integers, by way of every middle width.
    for middle in range(2, 10):
        for bits in range(2, middle + 1):
            a, b = 9 - middle, middle - bits
            for mode in DETERMINISTIC:
                again = tr.count_double_rounding(9, middle, bits, mode, mode)
                odd = tr.count_double_rounding(9, middle, bits, "odd", mode)
                want = sum(
                    divided(divided(w, a, mode), b, mode) != divided(w, 9 - bits, mode)
                    for w in range(-256, 256)
                )
                assert again == (want, 512)
                if not mode.startswith("nearest"):
                    assert again.differences == 0
                    # With b = 0 there is no second rounding after the first one.
                    assert odd.differences == 0 or b == 0
                elif a and b:
                    # Of the 2^a numbers that the first rounding takes to the middle of one of the
                    # 2^bits intervals, the half that lies on the wrong side of it. That middle is
                    # odd for b = 1, so ties to even never come to it.
                    fewer = mode == "nearest-even" and b == 1
                    assert again.differences == 2**bits * (2 ** (a - 1) - fewer)
                    assert (odd.differences == 0) == (b >= 2)


def brute_force(x: np.ndarray, width: int) -> tuple:
    """The least error over all splits and far more biases than can matter."""
    best = None
    for e in range(1, width):
        p = width - e
        for bias in range(-20, 30):
            least = Q(2) ** (1 - bias - (p - 1))
            values = {Q(0)}
            for field in range(1 << e):
                for fraction in range(1 << p - 1):
                    significand = fraction + ((1 << p - 1) if field else 0)
                    values.add(significand * least * 2 ** max(field - 1, 0))
            table = sorted(values | {-v for v in values})
            error = sum(min((Q(float(v)) - t) ** 2 for t in table) for v in x)
            if best is None or (error, e, -bias) < best:
                best = (error, e, -bias)
    return best


@pytest.mark.parametrize("width", [2, 3, 4, 5])
def test_the_best_format_by_brute_force(width: int) -> None:
    rng = np.random.default_rng(width)
    for x in (
        rng.standard_normal(12).astype(np.float32),
        np.ldexp(rng.standard_normal(8), rng.integers(-6, 7, 8)),
        np.array([1.0, 2.0, 3.0, 0.0, -4.0]),
        np.array([0.75]),
    ):
        got = tr.best_format(x, width)
        error, e, bias = brute_force(x, width)
        assert (got.squared_error, got.format.exponent_bits, -got.format.bias) == (error, e, bias)
        assert got.format.width == width
        assert tr.squared_error(x, hu.round(x, got.format, overflow="saturate")) == error


def test_fits_with_specials_and_a_given_split() -> None:
    x = np.random.default_rng(8).standard_normal(200).astype(ml_dtypes.bfloat16)
    free = tr.best_format(x, 8)
    given = tr.best_format(x, 8, exponent_bits=4, nan="last")
    assert given.format.exponent_bits == 4
    assert given.format.nan == "last"
    assert free.squared_error < given.squared_error
    assert free.candidates > given.candidates > 1
    assert tr.best_format([0.0, -0.0], 4).squared_error == 0
    assert tr.best_format([0.5, 3.0], 4, is_signed=False).squared_error == 0


def test_the_search_for_a_real_bias_is_what_it_says() -> None:
    x = np.random.default_rng(9).standard_normal(300).astype(np.float32)
    f = hu.format("float8_e4m3fn")
    fit = tr.search_bias(x, f, 40)
    top, errors = float(np.abs(x).max()), []
    for i in range(1, 41):
        s = (top * (i / 40)) / 448.0
        # float32 x over s, rounded into three bits: through float64 it would round twice.
        q = [float(hu.round(to_odd(Q(float(v)) / Q(s)), f, overflow="saturate")) for v in x]
        errors.append((sum((Q(float(v)) - Q(y * s)) ** 2 for v, y in zip(x, q, strict=True)), -s))
    assert (fit.squared_error, -fit.scale) == min(errors)
    assert fit.bias == 7 - math.log2(fit.scale)
    assert fit.candidates == 40
    # The formula of arXiv:2208.09225, in floating point, for formats all of whose codes are finite.
    fit = tr.search_bias(x, "fp_e4p4b7_s_none_none", 40)
    c = fit.scale * 1.875 * 2**8
    assert math.isclose(fit.bias, 2**4 - math.log2(c) + math.log2(2 - 2**-3) - 1, rel_tol=1e-12)


def to_odd(x: Q) -> float:
    near = float(x)
    if Q(near) == x:
        return near
    down = near if Q(near) < x else math.nextafter(near, -math.inf)
    odd = int(np.float64(down).view(np.uint64)) & 1
    return down if odd else math.nextafter(down, math.inf)


def test_squared_errors_are_exact() -> None:
    rng = np.random.default_rng(10)
    for spread in (1, 20, 500):
        x = np.ldexp(rng.standard_normal(50), rng.integers(-spread, spread, 50))
        y = np.ldexp(rng.standard_normal(50), rng.integers(-spread, spread, 50))
        want = sum((Q(a) - Q(b)) ** 2 for a, b in zip(x.tolist(), y.tolist(), strict=True))
        assert tr.squared_error(x, y) == want
    # The longest integers that are summed in words, enough of them to carry into the third word.
    for unit in (-1074, -3, 900):
        x = np.ldexp(np.append(rng.uniform(1, 2, 200) * 2.0**59 // 1, 1.0), unit)
        want = sum((2 * Q(a)) ** 2 for a in x.tolist())
        assert tr.squared_error(x, -x) == want
        assert 4 * tr.squared_error(x, 0 * x) == want
    assert tr.squared_error([5e-324], [0.0]) == Q(2) ** -2148
    assert tr.squared_error([1.7e308], [-1.7e308]) == (2 * Q(1.7e308)) ** 2
    assert tr.squared_error([], []) == 0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: tr.norm_order([1.0]), ValueError, "1 dimension.*matrix"),
        (lambda: tr.norm_order([[math.nan]]), ValueError, r"x\[0, 0\] is nan"),
        (lambda: tr.inverse_permutation([0, 0]), ValueError, "lacks 1"),
        (lambda: tr.inverse_permutation([0.5]), TypeError, "integers"),
        (lambda: tr.k_sort(np.ones((5, 2)), heads=2), ValueError, "5 rows.*2 heads"),
        (lambda: tr.k_sort(np.ones((3, 2)), pairs="halves"), ValueError, "3 rows.*no pairs"),
        (lambda: tr.k_sort(np.ones((4, 2)), pairs="x"), ValueError, "'x' is unknown"),
        (lambda: tr.k_sort(np.ones((4, 2)), np.ones((6, 2))), ValueError, "6 rows.*the 4"),
        (lambda: tr.switch_bits([1.5], 4), TypeError, "float64; pass integers"),
        (lambda: tr.switch_bits([128], 4), ValueError, "128 is outside -128 to 127"),
        (lambda: tr.switch_bits([1], 9), ValueError, "bits is 9.*1 to 8"),
        (lambda: tr.switch_bits([1], 1), ValueError, "at least 2 bits"),
        (lambda: tr.switch_bits([1], 4, overflow="ieee"), ValueError, "'ieee' is unknown"),
        (lambda: tr.switch_bits([127], 4, overflow="error"), hu.RoundingError, "overflows"),
        (lambda: tr.switch_bits([1], 4, rounding="stochastic"), ValueError, "seed"),
        (lambda: tr.count_double_rounding(21, 8, 4, "up", "up"), ValueError, "fine_bits is 21"),
        (lambda: tr.best_format([], 8), ValueError, "empty"),
        (lambda: tr.best_format([math.inf], 8), ValueError, "is inf"),
        (lambda: tr.best_format([1.0], 17), ValueError, "width is 17"),
        (lambda: tr.best_format([-1.0], 8, is_signed=False), ValueError, "negative"),
        (lambda: tr.best_format([5e-324], 8, exponent_bits=7), ValueError, "beyond what float64"),
        (lambda: tr.search_bias([0.0], "float8_e4m3fn"), ValueError, "only zeros"),
        (lambda: tr.search_bias([1.0], "int8"), ValueError, "int8"),
        (lambda: tr.squared_error([1.0], [1.0, 2.0]), ValueError, "shape"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(
    call: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
