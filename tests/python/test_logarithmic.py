"""Logarithmic numbers against rigorous balls: tests/python/logarithmic_reference.py."""

from __future__ import annotations

import itertools
import os
import pickle
import random
from fractions import Fraction as Q

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("flint", reason="python-flint is the oracle")

from logarithmic_reference import (
    DISTANCES,
    Reference,
    rational,
    round_to_float,
)
from modes import DETERMINISTIC, STOCHASTIC
from test_contract import random_bits_of

import halfulp as hu
from halfulp import logarithmic as lg

EIGHT_BITS = [(8, 0), (8, 1), (8, 3), (8, 6)]
# All pairs of the others take minutes.
PAIRED = EIGHT_BITS if os.environ.get("HALFULP_LOGARITHMIC") == "full" else [(8, 3)]
SMALL = [(3, 0), (3, 1), (4, 1), (5, 3), (6, 2)]
WIDE = [(12, 0), (16, 8), (16, 14), (20, 10), (32, 0), (32, 23), (32, 30)]
OPERATIONS = {"add": lg.add, "sub": lg.sub, "mul": lg.mul, "div": lg.div}
ALL = {**OPERATIONS, "sqrt": lg.sqrt, "fma": lg.fma}
PAIRS = [(m, d) for m in DETERMINISTIC for d in DISTANCES]


def name(shape: tuple[int, int]) -> str:
    return f"lns{shape[0]}_f{shape[1]}"


def expected(ref: Reference, operation: str, codes: tuple[int, ...], ways: list) -> list:
    special = ref.special(operation, codes)
    if special is not None:
        return [special] * len(ways)
    rounded = ref.rounder(ref.exact(operation, codes))
    return [rounded(*way) for way in ways]


def compare(
    operation: str, f: str, operands: list[np.ndarray], want: np.ndarray, ways: list, **more
) -> None:
    """want[i, w]: (code, flags) of element i under way w."""
    for w, (mode, distance) in enumerate(ways):
        codes, flags = ALL[operation](
            *operands, f, rounding=mode, distance=distance, flags=True, **more
        )
        wrong = np.flatnonzero((codes != want[:, w, 0]) | (flags != want[:, w, 1]))
        assert not wrong.size, (
            operation,
            mode,
            distance,
            [hex(x[wrong[0]]) for x in operands],
            (hex(codes[wrong[0]]), flags[wrong[0]]),
            want[wrong[0], w],
        )


# ---------------------------------------------------------------- codes and values
def test_the_codes_of_a_small_system() -> None:
    f = lg.lns("lns4_f1")
    assert (f.name, f.width, f.fraction_bits) == ("lns4_f1", 4, 1)
    assert (f.zero_code, f.nan_code, f.largest_code, f.least_code) == (0b0100, 0b1100, 3, 5)
    h = 2**0.5
    want = [1, h, 2, 2 * h, 0, h / 4, 0.5, h / 2]
    got = lg.values(f)
    assert np.allclose(got[:8], want, rtol=1e-15)
    assert np.isnan(got[12])
    assert (got[[8, 9, 10, 11, 13, 14, 15]] == -got[[0, 1, 2, 3, 5, 6, 7]]).all()


@pytest.mark.parametrize("shape", EIGHT_BITS + SMALL)
def test_every_code_comes_back(shape: tuple[int, int]) -> None:
    """From float64, which tells neighbours apart, in every nearest mode."""
    f = lg.lns(name(shape))
    codes = np.arange(1 << f.width, dtype=np.uint8)
    for mode, distance in itertools.product(("nearest-even", "nearest-away"), DISTANCES):
        back = lg.encode(lg.decode(codes, f), f, mode, distance=distance)
        assert (back == codes).all()


FLOATS = {
    np.float64: (53, -1022, 1023),
    np.float32: (24, -126, 127),
    np.float16: (11, -14, 15),
    ml_dtypes.bfloat16: (8, -126, 127),
}


@pytest.mark.parametrize("shape", [*EIGHT_BITS, (12, 0), (12, 4)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_decoding_rounds_every_code_once(shape: tuple[int, int], dtype: type) -> None:
    f = lg.lns(name(shape))
    ref = Reference(*shape, bits=400)
    codes = np.arange(1 << f.width, dtype=np.uint16)
    for mode in DETERMINISTIC:
        got, flags = lg.decode(codes, f, dtype, mode, flags=True)
        assert got.dtype == dtype
        for code in codes.tolist():
            y = float(got[code])
            if code == ref.nan:
                assert np.isnan(y)
                continue
            k = ref.logarithm(code)
            if k is None:
                assert y == 0
                assert not np.signbit(got[code])
                continue
            ref._ready()
            q, inexact = round_to_float(
                ref.value(code), *FLOATS[dtype], mode, exact=k % (1 << shape[1]) == 0
            )
            assert np.signbit(got[code]) == ref.is_negative(code)
            assert np.isinf(y) if q is None else Q(abs(y)) == q, (hex(code), mode, y, q)
            assert bool(flags[code] & 1) == inexact


# ---------------------------------------------------------------- encode
def hard_numbers(shape: tuple[int, int], count: int, seed: int) -> list[float]:
    """Powers of two, numbers around values and around the middles between them, and any others."""
    f = lg.lns(name(shape))
    draw = random.Random(seed)
    numbers = [0.0, -0.0, 1.0, -1.0, 5e-324, 1.7976931348623157e308, 2.0**-1022]
    for _ in range(count):
        k = draw.choice([draw.randrange(1 << f.width), f.largest_code, f.least_code])
        if k in (f.zero_code, f.nan_code):
            continue
        x = lg.decode(k, f)
        y = lg.decode((k + 1) % (1 << f.width), f)
        middle = x * (y / x) ** 0.5 if x * y > 0 else x
        for v in (x, (x + y) / 2, x / 2, middle):
            if np.isfinite(v):
                numbers += [v, float(np.nextafter(v, np.inf)), float(np.nextafter(v, -np.inf))]
        numbers.append(draw.uniform(-1, 1) * 2.0 ** draw.randint(-140, 140))
    return numbers


@pytest.mark.parametrize("shape", EIGHT_BITS + SMALL + WIDE)
def test_encode(shape: tuple[int, int]) -> None:
    f = name(shape)
    ref = Reference(*shape, bits=None if shape[0] <= 8 else 1200)
    x = hard_numbers(shape, 60 if shape[0] <= 8 else 25, 1)
    want = []
    for v in x:
        ref._ready()
        rounded = ref.rounder(rational(Q(v)))
        want.append([rounded(*way) for way in PAIRS])
    for w, (mode, distance) in enumerate(PAIRS):
        codes, flags = lg.encode(x, f, mode, distance=distance, flags=True)
        for i, v in enumerate(x):
            got = (int(codes[i]), int(flags[i]))
            assert got == want[i][w], (v.hex(), mode, distance)


def test_every_float16_number() -> None:
    """Nearest-even, up and odd; zero and specials too."""
    ref = Reference(8, 3)
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    ways = [("nearest-even", "value"), ("nearest-even", "logarithm"), ("up", "value")]
    got = [lg.encode(x, "lns8_f3", m, distance=d, flags=True) for m, d in ways]
    for i, v in enumerate(x.tolist()):
        if not np.isfinite(v):
            want = [(ref.nan, 16 if np.isinf(v) else 0)] * 3
        else:
            ref._ready()
            rounded = ref.rounder(rational(Q(v)))
            want = [rounded(*way) for way in ways]
        assert [(int(c[i]), int(f[i])) for c, f in got] == want, v


@pytest.mark.parametrize("r", [1, 2, 8, 32])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("shape", [(8, 0), (8, 3), (16, 8)])
def test_stochastic_modes(shape: tuple[int, int], distance: str, r: int) -> None:
    ref = Reference(*shape, bits=None if shape[0] <= 8 else 1200)
    x = hard_numbers(shape, 12, r)
    drawn = [random_bits_of(i, 9, r=r) for i in range(len(x))]
    for mode in STOCHASTIC:
        codes, flags = lg.encode(
            x, name(shape), mode, distance=distance, seed=9, random_bits=r, flags=True
        )
        for i, v in enumerate(x):
            ref._ready()
            want = ref.round(rational(Q(v)), mode, distance, r, drawn[i])
            assert (int(codes[i]), int(flags[i])) == want, (v.hex(), mode)


def test_stochastic_rounding_of_sums() -> None:
    ref = Reference(8, 3)
    draw = random.Random(3)
    a, b = (np.array([draw.randrange(256) for _ in range(400)], np.uint8) for _ in range(2))
    drawn = [random_bits_of(i, 4, r=6) for i in range(400)]
    for mode, distance in itertools.product(STOCHASTIC, DISTANCES):
        got = lg.add(a, b, "lns8_f3", rounding=mode, distance=distance, seed=4, random_bits=6)
        for i in range(400):
            want = expected(ref, "add", (int(a[i]), int(b[i])), [(mode, distance, 6, drawn[i])])[0]
            assert got[i] == want[0], (hex(a[i]), hex(b[i]), mode, distance)


# ---------------------------------------------------------------- operations
@pytest.mark.parametrize("shape", PAIRED + SMALL)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_pair(shape: tuple[int, int], operation: str) -> None:
    n = 1 << shape[0]
    ref = Reference(*shape)
    pairs = list(itertools.product(range(n), repeat=2))
    want = np.array([expected(ref, operation, pair, PAIRS) for pair in pairs])
    a, b = (np.array(x, dtype=np.uint8) for x in zip(*pairs, strict=True))
    compare(operation, name(shape), [a, b], want, PAIRS)


@pytest.mark.parametrize("shape", [*EIGHT_BITS, *SMALL, (12, 4)])
def test_every_square_root(shape: tuple[int, int]) -> None:
    ref = Reference(*shape, bits=None if shape[0] <= 8 else 1200)
    codes = list(range(1 << shape[0]))
    want = np.array([expected(ref, "sqrt", (c,), PAIRS) for c in codes])
    compare("sqrt", name(shape), [np.array(codes, dtype=np.uint16)], want, PAIRS)


def test_every_triple_of_a_small_system() -> None:
    ref = Reference(4, 1)
    triples = list(itertools.product(range(16), repeat=3))
    want = np.array([expected(ref, "fma", t, PAIRS) for t in triples])
    operands = [np.array(x, dtype=np.uint8) for x in zip(*triples, strict=True)]
    compare("fma", "lns4_f1", operands, want, PAIRS)


@pytest.mark.parametrize("shape", [(8, 3), (8, 0), *WIDE])
@pytest.mark.parametrize("operation", ["add", "sub", "fma", "mul", "div", "sqrt"])
def test_drawn_operands(shape: tuple[int, int], operation: str) -> None:
    """Any codes, and codes that lie near each other, where differences cancel."""
    f = lg.lns(name(shape))
    # Far apart the lesser of two addends lies beyond any precision: then exact cancellation decides
    # in the package, and here the ball does not; so the ends of the range meet their like only.
    reach = min(f.largest_code, 300 << f.fraction_bits)
    draw = random.Random(11)
    count = {"add": 2, "sub": 2, "mul": 2, "div": 2, "sqrt": 1, "fma": 3}[operation]
    rows = []
    for _ in range(150):
        base = draw.randint(-reach, reach)
        row = []
        for j in range(count):
            k = draw.choice([draw.randint(-reach, reach), base + draw.randint(-3, 3)])
            if operation == "fma" and j == 2:
                k = sum(row_k for row_k, _ in row) + draw.choice([0, 1, -1, draw.randint(-99, 99)])
            k = max(-f.largest_code, min(f.largest_code, k))
            row.append((k, draw.randrange(2)))
        rows.append(row)
    ref = Reference(*shape, bits=3000)
    codes = [tuple(ref.code(bool(s), k) for k, s in row) for row in rows]
    want = np.array([expected(ref, operation, c, PAIRS) for c in codes])
    operands = [np.array(x, dtype=np.uint32) for x in zip(*codes, strict=True)]
    compare(operation, f.name, operands, want, PAIRS)


def test_the_lesser_addend_decides_however_small() -> None:
    """2^(2^29) + 2^-(2^29) lies above 2^(2^29): no precision would show it, algebra does."""
    f = lg.lns("lns32_f0")
    big, small = 1 << 29, (1 << 31) - (1 << 29)
    assert lg.add(big, small, f, rounding="up") == big + 1
    assert lg.add(big, small, f, rounding="nearest-even", flags=True) == (big, 1)
    assert lg.sub(big, small, f, rounding="down") == big - 1
    assert lg.sub(big, big, f, flags=True) == (f.zero_code, 0)


# ---------------------------------------------------------------- policies, faces, errors
def test_policies() -> None:
    f = "lns8_f3"
    big, nan = lg.lns(f).largest_code, lg.lns(f).nan_code
    assert lg.mul(big, big, f, flags=True) == (big, 5)
    assert lg.mul(big, big, f, overflow="nan", flags=True) == (nan, 5)
    assert lg.encode(float("inf"), f, flags=True) == (nan, 16)
    assert lg.encode(float("-inf"), f, overflow="saturate", flags=True) == (128 + big, 1)
    assert lg.div(128, 64, f, flags=True) == (nan, 8)
    assert lg.div(128, 64, f, overflow="saturate", flags=True) == (128 + big, 9)
    with pytest.raises(hu.RoundingError, match="element 1 overflows lns8_f3"):
        lg.mul([0, big], [0, big], f, overflow="error")
    with pytest.raises(ValueError, match="'infinity' needs infinity, and lns8_f3 has none"):
        lg.encode(1.0, f, overflow="infinity")


def test_the_example_of_the_module() -> None:
    import doctest

    assert doctest.testmod(lg) == doctest.TestResults(0, 4)


def test_shapes_and_types() -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=ml_dtypes.bfloat16)
    c = lg.encode(x, "lns16_f8")
    assert c.dtype == np.uint16
    assert c.shape == (2, 2)
    assert lg.encode(x.T, "lns16_f8").tolist() == c.T.tolist()
    assert lg.encode(1.0, "lns32_f23").__class__ is int
    assert lg.add(c, c[0], "lns16_f8").shape == (2, 2)
    assert lg.encode(np.zeros((0, 3)), "lns8_f3").shape == (0, 3)
    f = lg.lns("lns8_f3")
    assert pickle.loads(pickle.dumps(f)) == f
    assert repr(f) == "halfulp.logarithmic.lns('lns8_f3')"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lns33_f3", "the width is 33, but must be 3 to 32"),
        ("lns8_f7", "7 fraction bits, but must have 0 to 6"),
        ("lns8", "is no logarithmic number system: write lnsN_fF"),
        ("int8", "is no logarithmic number system; write lnsN_fF"),
    ],
)
def test_names_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lg.lns(text)


def test_other_bad_inputs() -> None:
    with pytest.raises(ValueError, match="code 256, but the codes of lns8_f3 are 0 to 0xff"):
        lg.decode([256], "lns8_f3")
    with pytest.raises(TypeError, match="unsigned integers such as uint8, not float64"):
        lg.add(np.ones(2), np.ones(2), "lns8_f3")
    with pytest.raises(ValueError, match="distance 'log' is unknown; choose 'value' or"):
        lg.encode(1.0, "lns8_f3", distance="log")
    for option in ("nan_to", "tininess"):
        with pytest.raises(TypeError, match=f"add\\(\\) has no argument '{option}'"):
            lg.add(0, 0, "lns8_f3", **{option: "largest"})
    with pytest.raises(ValueError, match=r"values are irrational.*logarithmic\.encode"):
        hu.round(1.0, "lns8_f3")


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    from halfulp import cli

    assert cli.main(["formats", "lns4_f1", "--values"]) == 0
    shown = capsys.readouterr().out
    assert "lns4_f1 (logarithmic)" in shown
    assert "0x4   0100  0 " in shown
    assert cli.main(["formats", "lns8_f3"]) == 0
    assert "2^7.875" in capsys.readouterr().out
    assert cli.main(["round", "--format", "lns8_f3", "3", "0x40"]) == 0
    assert "0x0d" in capsys.readouterr().out
    assert cli.main(["op", "mul", "--format", "lns8_f3", "0x0d", "0x0d", "--flags"]) == 0
    assert "0x1a" in capsys.readouterr().out
    assert cli.main(["op", "mul", "--format", "lns8_f3", "0.3", "0x0d"]) != 0
    assert "halfulp round" in capsys.readouterr().err
