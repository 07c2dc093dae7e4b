"""Posit arithmetic against rationals: the exact result, rounded once by the standard's rule."""

import math
import os
from fractions import Fraction as Q

import numpy as np
import pytest
import system_reference as ref
from hypothesis import given, settings
from hypothesis import strategies as st
from modes import DETERMINISTIC, MODES
from test_contract import random_bits_of

import halfulp as hu

# Every pair of these; HALFULP_POSITS=full adds those of 10 bits (minutes).
SHAPES = [(2, 2), (3, 0), (4, 2), (5, 1), (6, 0), (6, 2), (7, 2)]
if os.environ.get("HALFULP_POSITS") == "full":
    SHAPES += [(8, 0), (8, 2), (9, 2), (10, 2), (10, 1)]
EXACT = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y if y else None,
}


def name(n: int, es: int) -> str:
    return f"posit{n}_es{es}"


def root(x: Q) -> Q:
    """A number on the same side of everything of few bits as the square root of x > 0."""
    scaled = x * Q(4) ** 200
    floor = math.isqrt(scaled.numerator // scaled.denominator)
    return (floor + (Q(1, 2) if floor * floor != scaled else 0)) / Q(2) ** 200


@pytest.mark.parametrize(("n", "es"), SHAPES)
@pytest.mark.parametrize("op", EXACT)
def test_every_pair(op: str, n: int, es: int, cases) -> None:
    want = ref.posits(n, es)
    by_code = hu.values(name(n, es))
    a, b = (m.ravel() for m in np.meshgrid(np.arange(1 << n), np.arange(1 << n)))
    for mode in ("nearest-even", "down") if n > 4 else DETERMINISTIC:
        got = getattr(hu, op)(by_code[a], by_code[b], name(n, es), rounding=mode)
        codes = hu.encode(got, name(n, es))
        for i, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
            x, y = (ref.posit_value(c, n, es) for c in (x, y))
            exact = None if x is None or y is None else EXACT[op](x, y)
            expected = want.nar if exact is None else want.round(exact, mode)[0]
            assert codes[i] == expected, f"{op}({x}, {y}) {mode}"
        cases(codes.size, f"system {hu.format(name(n, es)).name}", f"mode {mode}")


@pytest.mark.parametrize(("n", "es"), [(8, 2), (8, 0), (10, 2), (12, 1)])
def test_every_square_root(n: int, es: int) -> None:
    want = ref.posits(n, es)
    by_code = hu.values(name(n, es))
    got = hu.encode(hu.sqrt(by_code, name(n, es)), name(n, es))
    for code in range(1 << n):
        x = ref.posit_value(code, n, es)
        if x is None or x < 0:
            assert got[code] == want.nar
        else:
            assert got[code] == (want.round(root(x), "nearest-even")[0] if x else 0)


@given(st.integers(2, 12), st.integers(0, 5), st.data())
@settings(max_examples=300, deadline=None)
def test_operations_of_any_shape_and_mode(n: int, es: int, data: st.DataObject) -> None:
    want = ref.posits(n, es)
    a, b, c = (Q(data.draw(st.sampled_from(want.values))) for _ in range(3))
    mode = data.draw(st.sampled_from(MODES))
    r = data.draw(st.sampled_from([1, 8, 32, 64]))
    options = {"rounding": mode, "seed": 11, "random_bits": r}
    bits = random_bits_of(0, 11, r=r)
    cases = [("add", (a, b), a + b), ("mul", (a, b), a * b), ("fma", (a, b, c), a * b + c)]
    if b:
        cases.append(("div", (a, b), a / b))
    if a > 0:
        # Thresholds have 67 bits at most, the stand-in for an irrational root 200.
        cases.append(("sqrt", (a,), root(a)))
    for op, operands, exact in cases:
        got, flags = getattr(hu, op)(*map(float, operands), name(n, es), flags=True, **options)
        code, want_flags = want.round(exact, mode, bits, r)
        assert (Q(got), flags) == (ref.posit_value(code, n, es), want_flags), op


# Computed with SoftPosit 0.3.4.4 (Python), codes of posit32 (es = 2), posit16_es1 and posit8_es0.
KNOWN = [
    ("posit32", "add", [0xa46d6753, 0xdc2574bd], 0xa455b23c),
    ("posit32", "add", [0x6405d31b, 0x36047035], 0x6413d78b),
    ("posit32", "add", [0x9be0f1d6, 0xcb888369], 0x9bd47a59),
    ("posit32", "sub", [0xa46d6753, 0xdc2574bd], 0xa4851c6a),
    ("posit32", "sub", [0x6405d31b, 0x36047035], 0x63ef9d56),
    ("posit32", "sub", [0x9be0f1d6, 0xcb888369], 0x9bed6953),
    ("posit32", "mul", [0xa46d6753, 0xdc2574bd], 0x4092db11),
    ("posit32", "mul", [0x6405d31b, 0x36047035], 0x5e18d98a),
    ("posit32", "mul", [0x9be0f1d6, 0xcb888369], 0x5cd846c2),
    ("posit32", "div", [0xa46d6753, 0xdc2574bd], 0x6bcf7161),
    ("posit32", "div", [0x6405d31b, 0x36047035], 0x68977c9c),
    ("posit32", "div", [0x9be0f1d6, 0xcb888369], 0x694a12be),
    ("posit32", "sqrt", [0x6405d31b], 0x535888f4),
    ("posit16_es1", "add", [0xf897, 0xf66d], 0xf382),
    ("posit16_es1", "add", [0xf0, 0xbf66], 0xbf67),
    ("posit16_es1", "add", [0x454d, 0xb16b], 0xcd70),
    ("posit16_es1", "sub", [0xf897, 0xf66d], 0x62a),
    ("posit16_es1", "sub", [0xf0, 0xbf66], 0x409b),
    ("posit16_es1", "sub", [0x454d, 0xb16b], 0x59f1),
    ("posit16_es1", "mul", [0xf897, 0xf66d], 0x118),
    ("posit16_es1", "mul", [0xf0, 0xbf66], 0xff0c),
    ("posit16_es1", "mul", [0x454d, 0xb16b], 0xaba5),
    ("posit16_es1", "div", [0xf897, 0xf66d], 0x3394),
    ("posit16_es1", "div", [0xf0, 0xbf66], 0xff14),
    ("posit16_es1", "div", [0x454d, 0xb16b], 0xc9b6),
    ("posit16_es1", "sqrt", [0xf0], 0x7be),
    ("posit8_es0", "add", [0x0, 0x7], 0x7),
    ("posit8_es0", "add", [0x4, 0xd2], 0xd6),
    ("posit8_es0", "add", [0x16, 0x2e], 0x42),
    ("posit8_es0", "sub", [0x0, 0x7], 0xf9),
    ("posit8_es0", "sub", [0x4, 0xd2], 0x32),
    ("posit8_es0", "sub", [0x16, 0x2e], 0xe8),
    ("posit8_es0", "mul", [0x0, 0x7], 0x0),
    ("posit8_es0", "mul", [0x4, 0xd2], 0xfd),
    ("posit8_es0", "mul", [0x16, 0x2e], 0x10),
    ("posit8_es0", "div", [0x0, 0x7], 0x0),
    ("posit8_es0", "div", [0x4, 0xd2], 0xfa),
    ("posit8_es0", "div", [0x16, 0x2e], 0x1f),
    ("posit8_es0", "sqrt", [0x4], 0x10),
]  # fmt: skip


@pytest.mark.parametrize(("f", "op", "operands", "result"), KNOWN)
def test_known_results_of_softposit(f: str, op: str, operands: list[int], result: int) -> None:
    values = [hu.exact_value(f, code) for code in operands]
    assert hu.encode(getattr(hu, op)(*values, f), f) == result


def test_the_standards_landmarks() -> None:
    # Posit Standard (2022): maxPos = 2^(4n-8), pIntMax = 2^floor(4(n-3)/5), sign, order, NaR.
    for n in (8, 16, 32):
        f = f"posit{n}"
        assert hu.exact_value(f, (1 << (n - 1)) - 1) == 2.0 ** (4 * n - 8)
        assert hu.exact_value(f, 1) == 2.0 ** (8 - 4 * n)
        assert hu.encode(1.0, f) == 1 << (n - 2)
        assert hu.encode(-1.0, f) == 3 << (n - 2)
        assert math.isnan(hu.exact_value(f, 1 << (n - 1)))
        whole = 2 ** (4 * (n - 3) // 5)
        integers = np.arange(max(0, whole - 3000), whole + 1, dtype=np.float64)
        assert np.array_equal(hu.round(integers, f), integers)
        assert hu.round(whole + 1.0, f) != whole + 1.0
    codes = np.arange(1 << 16, dtype=np.uint16)
    order = np.argsort(codes.view(np.int16))
    assert (np.diff(hu.decode(codes, "posit16", dtype=np.float64)[order][1:]) > 0).all()


def test_neither_zero_nor_nar_by_rounding() -> None:
    for mode in DETERMINISTIC:
        for f in ("posit8", "posit16", "posit32", "posit6_es5"):
            least, largest = (
                hu.exact_value(f, 1),
                hu.exact_value(f, (1 << (hu.format(f).width - 1)) - 1),
            )
            assert hu.round([1e-300, -1e-300], f, mode, flags=True)[0].tolist() == [least, -least]
            assert hu.round([1e300, -1e300], f, mode, flags=True)[0].tolist() == [largest, -largest]
    assert hu.round([1e300, 1e-300], "posit8", flags=True)[1].tolist() == [5, 3]


def test_nar() -> None:
    inf, nan = math.inf, math.nan
    assert np.isnan(hu.round([inf, -inf, nan], "posit16")).all()
    assert hu.encode(inf, "posit16", flags=True) == (0x8000, 16)
    assert hu.encode(nan, "posit16", flags=True) == (0x8000, 0)
    assert hu.encode(-inf, "posit16", overflow="saturate", flags=True) == (0x8001, 1)
    assert hu.encode(1e99, "posit16", overflow="nan", flags=True) == (0x8000, 5)
    for call, flags in [
        (lambda: hu.div(1.0, 0.0, "posit8", flags=True), 8),
        (lambda: hu.div(0.0, 0.0, "posit8", flags=True), 16),
        (lambda: hu.sqrt(-1.0, "posit8", flags=True), 16),
        (lambda: hu.add(nan, 1.0, "posit8", flags=True), 0),
    ]:
        value, got = call()
        assert math.isnan(value)
        assert got == flags
    with pytest.raises(hu.RoundingError, match="overflows posit8"):
        hu.round(1e99, "posit8", overflow="error")
