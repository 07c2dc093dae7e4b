"""The Python face of the element-wise operations: dtypes, shapes, scalars, codes, flags, errors."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import halfulp as hu

DTYPES = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16]
FORMATS = [name for name, f in hu.formats().items() if f.width <= 16]


def bits(x: np.ndarray) -> np.ndarray:
    return x.view({2: np.uint16, 4: np.uint32, 8: np.uint64}[x.dtype.itemsize])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_taken_at_its_exact_values(dtype: type) -> None:
    x = np.random.default_rng(1).standard_normal(500).astype(dtype)
    y = hu.round(x, "float8_e4m3fn")
    assert y.dtype == x.dtype
    want = hu.round(x.astype(np.float64), "float8_e4m3fn")
    assert (y.astype(np.float64) == want).all()


@pytest.mark.parametrize("name", FORMATS)
def test_codes_and_values_round_trip(name: str) -> None:
    f = hu.format(name)
    codes = np.arange(1 << f.width, dtype=np.uint8 if f.width <= 8 else np.uint16)
    x = hu.decode(codes, f, dtype=np.float64)
    numbers = ~np.isnan(x)
    assert (hu.encode(x[numbers], f) == codes[numbers]).all()
    assert [hu.exact_value(f, int(c)) for c in codes[numbers]] == x[numbers].tolist()
    assert (bits(hu.values(f))[numbers] == bits(x)[numbers]).all()


def test_results_share_no_memory_and_out_is_used() -> None:
    x = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
    out = np.empty_like(x)
    assert hu.round(x, "float8_e5m2", out=out) is out
    assert (out == hu.round(x, "float8_e5m2")).all()
    y = x.copy()
    assert hu.round(y, "float8_e5m2", out=y) is y
    assert (y == out).all()
    with pytest.raises(ValueError, match="overlaps"):
        hu.round(y[:, :3], "float8_e5m2", out=y[:, 1:])
    with pytest.raises(ValueError, match="shape"):
        hu.round(x, "float8_e5m2", out=np.empty(3, np.float32))
    frozen = x.copy()
    frozen.flags.writeable = False
    assert hu.round(frozen, "float8_e5m2").shape == x.shape
    with pytest.raises(ValueError, match="read-only"):
        hu.round(x, "float8_e5m2", out=frozen)


@pytest.mark.parametrize("view", ["transposed", "strided", "reversed", "empty", "zero_dimensional"])
def test_strides(view: str) -> None:
    x = np.random.default_rng(2).standard_normal((6, 8)).astype(np.float32)
    v = {
        "transposed": x.T,
        "strided": x[::2, 1::3],
        "reversed": x[::-1, ::-1],
        "empty": x[:0],
        "zero_dimensional": x[0, 0],
    }[view]
    assert np.array_equal(hu.round(v, "bfloat16"), hu.round(v.copy(), "bfloat16"))
    a = hu.round(v, "float8_e4m3fn", "stochastic", seed=3)
    assert np.array_equal(a, hu.round(v.copy(), "float8_e4m3fn", "stochastic", seed=3))


def test_stochastic_bits_depend_on_seed_step_tensor_and_index_alone() -> None:
    x = np.full(1000, 1.06, np.float32)
    y = hu.round(x, "float8_e4m3fn", "stochastic", seed=7, step=2, tensor=5)
    assert np.array_equal(
        y,
        hu.round(
            x.reshape(10, 100), "float8_e4m3fn", "stochastic", seed=7, step=2, tensor=5
        ).ravel(),
    )
    assert np.array_equal(
        y[400:],
        hu.round(x[400:], "float8_e4m3fn", "stochastic", seed=7, step=2, tensor=5, offset=400),
    )
    for other in ({"seed": 8}, {"step": 3}, {"tensor": 6}):
        assert not np.array_equal(
            y,
            hu.round(
                x, "float8_e4m3fn", "stochastic", **{"seed": 7, "step": 2, "tensor": 5, **other}
            ),
        )
    # 1.06 lies 0.48 of the way from 1 to 1.125: the share that goes up, within five standard deviations.
    assert abs((y == 1.125).mean() - 0.48) < 5 * np.sqrt(0.48 * 0.52 / 1000)


def test_operations_broadcast_and_mix_dtypes() -> None:
    a = np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    b = np.array([1.5, -2.25, 3.0], np.float16)
    y = hu.mul(a, b, "bfloat16", rounding="up")
    assert y.shape == (2, 3)
    assert y.dtype == np.float32
    exact = a.astype(np.float64) * b.astype(np.float64)
    assert np.array_equal(y, hu.round(exact, "bfloat16", rounding="up").astype(np.float32))
    s, flags = hu.fma(a, b, 1.0, "float8_e4m3fn", flags=True)
    assert s.shape == flags.shape == (2, 3)
    assert flags.dtype == np.uint8


def test_scalars_give_floats_and_flags_as_ints() -> None:
    y, flags = hu.div(1.0, 0.0, "float8_e5m2", flags=True)
    assert (y, flags) == (float("inf"), 8)
    assert isinstance(y, float)
    assert hu.div(1.0, 0.0, "float8_e5m2", overflow="saturate") == 57344.0
    assert hu.sqrt(-1.0, "binary16", flags=True)[1] == 16
    assert hu.sub(1.0, 1.0, "binary16", rounding="down").hex() == "-0x0.0p+0"
    assert hu.encode(0.3, "float8_e4m3fn") == 0x2A
    assert hu.decode(0x2A, "float8_e4m3fn") == 0.3125


def neighbours(x: Fraction) -> tuple[float, float]:
    """The greatest float32 at most x and the least at least x, by integers alone."""
    if x == 0:
        return 0.0, 0.0
    exponent = abs(x).numerator.bit_length() - abs(x).denominator.bit_length()
    exponent -= Fraction(2) ** exponent > abs(x)
    quantum = Fraction(2) ** (max(exponent, -126) - 23)
    return float(math.floor(x / quantum) * quantum), float(math.ceil(x / quantum) * quantum)


@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
def test_binary32_sums_are_the_neighbours_that_the_modes_name(a: float, b: float) -> None:
    exact = Fraction(a) + Fraction(b)
    below, above = neighbours(exact)
    assume(max(abs(below), abs(above)) <= float(np.finfo(np.float32).max))
    smaller, larger = (below, above) if exact >= 0 else (above, below)
    want = {"up": above, "down": below, "toward-zero": smaller, "away": larger}
    if exact - Fraction(below) != Fraction(above) - exact:
        want["nearest-even"] = below if exact - Fraction(below) < Fraction(above) - exact else above
    for rounding, value in want.items():
        assert hu.add(a, b, "binary32", rounding=rounding) == value, rounding


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: hu.format("e4m3"), ValueError, "ambiguous.*float8_e4m3fn"),
        (lambda: hu.format("float8_e4m3f"), ValueError, "unknown.*did you mean"),
        (lambda: hu.format(8), TypeError, "not int"),
        (lambda: hu.Format(exponent_bits=4, precision=0), ValueError, "precision.*0.*1 to 113"),
        (lambda: hu.Format(exponent_bits=0, precision=3), ValueError, "exponent_bits.*0.*1 to 19"),
        (lambda: hu.round([1.0], "float8_e4m3fn", "stochastic"), ValueError, "needs a seed"),
        (lambda: hu.round([1.0], "float8_e4m3fn", "nearest"), ValueError, "unknown.*nearest-even"),
        (lambda: hu.round([1.0], "float8_e4m3fn", overflow="clip"), ValueError, "overflow 'clip'.*saturate"),
        (lambda: hu.round([1.0], "float8_e4m3fn", overflow="infinity"), ValueError, "has none"),
        (lambda: hu.round(np.arange(3), "float8_e4m3fn"), TypeError, "int64.*float32"),
        (lambda: hu.round(np.array([1j]), "float8_e4m3fn"), TypeError, "complex128"),
        (lambda: hu.round("1.0", "float8_e4m3fn"), TypeError, "str.*NumPy"),
        (lambda: hu.round(None, "float8_e4m3fn"), TypeError, "NoneType"),
        (lambda: hu.round([1.0, [2.0]], "float8_e4m3fn"), TypeError, "regular shape"),
        (lambda: hu.round(np.zeros(1, ">f4"), "bfloat16"), TypeError, "byte order"),
        (lambda: hu.round(np.zeros(1), "bfloat16", out=np.empty(1, ">f8")), TypeError, "byte order"),
        (lambda: hu.decode(np.array([0x3F80], ">u2"), "bfloat16"), TypeError, "byte order"),
        (lambda: hu.decode([1], "bfloat16", dtype=">f4"), TypeError, "byte order"),
        (lambda: hu.decode([1], "bfloat16", dtype=np.int32), TypeError, "float32"),
        (lambda: hu.add(np.float16(1), ml_dtypes.bfloat16(1), "float8_e5m2"), TypeError, "no common dtype.*out="),
        (lambda: hu.matmul([[1.0]], [[1.0]], product="bfloat16"), ValueError, "rounds no products"),
        (lambda: hu.matmul([[1.0]], [[1.0]], order=None), TypeError, "NoneType"),
        (lambda: hu.matmul([[-0.0]], [[1.0]], operands="float8_e4m3fnuz"), ValueError, "no value of"),
        (lambda: hu.Format(exponent_bits=3, precision=3, nan="last", inf="none", subnormals=False, zero=False), ValueError, "is_signed to false"),
        (lambda: hu.round(np.float32([1]), "binary64"), ValueError, "cannot hold every value.*encode"),
        (lambda: hu.round([float("nan")], "float4_e2m1fn"), hu.RoundingError, "nan_to"),
        (lambda: hu.round([1.0, 1e9], "float8_e4m3fn", overflow="error"), hu.RoundingError, "element 1 overflows"),
        (lambda: hu.round([1.0], "float8_e4m3fn", "stochastic", seed=1, random_bits=65), ValueError, "65.*1 to 64"),
        (lambda: hu.round([1.0], "float8_e4m3fn", "stochastic", seed=-1), ValueError, "seed is -1"),
        (lambda: hu.decode(np.array([200], np.uint8), "float4_e2m1fn"), ValueError, "0xc8.*0xf"),
        (lambda: hu.decode([1.5], "float4_e2m1fn"), ValueError, "integers"),
        (lambda: hu.decode(np.array([1.5]), "float4_e2m1fn"), TypeError, "unsigned"),
        (lambda: hu.decode(np.array([1], np.uint8), "float8_e5m2", dtype=np.float64, out=np.zeros(2)), ValueError, "shape"),
        (lambda: hu.add(1.0, 2.0, "bfloat16", round="up"), TypeError, "no argument 'round'"),
        (lambda: hu.mul(1e308, 1e308, "binary128"), ValueError, "cannot hold"),
        (lambda: hu.encode([1.0], "binary128"), ValueError, "128 bits"),
        (lambda: hu.values("binary32"), ValueError, "up to 16 bits"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(call: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_formats_pickle_compare_and_describe_themselves() -> None:
    f = hu.Format(exponent_bits=4, precision=4, nan="last", inf="none")
    assert f == hu.format("float8_e4m3fn")
    assert pickle.loads(pickle.dumps(f)) == f
    assert len({f, hu.format("float8_e4m3fn")}) == 1
    assert eval(repr(f), {"halfulp": hu}) == f
    assert (f.width, f.emin, f.emax, f.largest_code) == (8, -6, 8, 0x7E)
    assert hu.format("binary16").holds(hu.format("float8_e5m2"))


def test_matmul_orders_formats_and_errors() -> None:
    a = np.array([[2048.0, 1, 1, 1, 1]], np.float16)
    b = np.ones((5, 1), np.float32)
    results = {
        o: hu.matmul(a, b, accumulate="binary16", order=o)[0, 0]
        for o in ("sequential", "pairwise", "blocked(3)", "fma-sequential")
    }
    assert results == {
        "sequential": 2048,
        "pairwise": 2052,
        "blocked(3)": 2050,
        "fma-sequential": 2048,
    }
    assert hu.matmul(a, b).dtype == np.float32
    assert hu.matmul(a.astype(np.float64), b, accumulate="binary64").dtype == np.float64
    with pytest.raises(ValueError, match="columns of a"):
        hu.matmul(a, b.T)
    with pytest.raises(ValueError, match="no value of float8_e4m3fn"):
        hu.matmul(a, b, operands="float8_e4m3fn")
    with pytest.raises(ValueError, match=r"blocked\(32\)"):
        hu.matmul(a, b, order="blocked")
    with pytest.raises(ValueError, match="order 'tree'"):
        hu.matmul(a, b, order="tree")
    x = np.random.default_rng(4).standard_normal((5, 7)).astype(np.float32)
    y = np.random.default_rng(5).standard_normal((7, 3)).astype(np.float32)
    assert np.array_equal(
        hu.matmul(x[:, ::-1], y[::-1], order="sequential"),
        hu.matmul(x[:, ::-1].copy(), y[::-1].copy(), order="sequential"),
    )
