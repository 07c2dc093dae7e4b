"""Integers, fixed point and codebooks against an independent reference, and the laws they obey."""

import json
import math
import pickle
import re
import shlex
from fractions import Fraction as Q
from pathlib import Path

import numpy as np
import pytest
import system_reference as ref
from hypothesis import given, settings
from hypothesis import strategies as st
from modes import DETERMINISTIC, MODES, STOCHASTIC
from test_contract import random_bits_of

import halfulp as hu
from halfulp import cli

NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
]  # fmt: skip
_FP4 = [0, 5.208333333e-03, 0.66666667, 1, 0.33333333, 0.5, 0.16666667, 0.25]
FP4 = [float(np.float32(v)) for v in _FP4] + [-float(np.float32(v)) for v in _FP4]
# Two equal values, codes out of order with gaps and of equal parity, no zero.
ODD_ONE = ([0.75, -3.0, 0.75, 0.10000000149011612, 12.0, -0.5], [9, 2, 4, 6, 1, 0])

SYSTEMS = {
    "int8": ref.integers(8),
    "uint8": ref.integers(8, signed=False),
    "int4": ref.integers(4),
    "uint4": ref.integers(4, signed=False),
    "int1": ref.integers(1),
    "uint1": ref.integers(1, signed=False),
    "q3.4": ref.integers(8, 4),
    "uq0.8": ref.integers(8, 8, signed=False),
    "q0.7": ref.integers(8, 7),
    "nf4": ref.table(NF4),
    "fp4_bnb": ref.table(FP4),
    "dynamic8": ref.table(ref.dynamic(True)),
    "udynamic8": ref.table(ref.dynamic(False)),
    "ternary": ref.table([-1, 0, 1], [3, 0, 1]),
    "binary": ref.table([-1, 1]),
    "bipolar1": ref.table([-1, 1]),
    "bipolar3": ref.table([-7, -5, -3, -1, 1, 3, 5, 7]),
    "odd one": ref.table(*ODD_ONE),
}
POSITS = {f"posit{n}_es{es}": ref.posits(n, es) for n, es in [(8, 2), (8, 0), (6, 1), (5, 2), (2, 2), (3, 1)]}  # fmt: skip
ALL = SYSTEMS | POSITS


def system(name: str) -> hu.NumberSystem:
    return hu.codebook(*ODD_ONE) if name == "odd one" else hu.format(name)


@pytest.fixture(scope="module")
def random_bits() -> np.ndarray:
    count = ref.all_float16().size
    return np.array([random_bits_of(i, 5, r=8) for i in range(count)])


@pytest.mark.parametrize("name", ALL)
def test_every_float16_number_in_every_mode(name: str, random_bits: np.ndarray, cases) -> None:
    x = ref.all_float16()
    f = system(name)
    for mode in MODES:
        options = {"seed": 5, "random_bits": 8} if mode in STOCHASTIC else {}
        codes, flags = hu.encode(x, f, mode, flags=True, **options)
        want, want_flags = ref.round_all(ALL[name], x, mode, random_bits, 8)
        wrong = np.flatnonzero((codes != want) | (flags != want_flags))
        assert wrong.size == 0, (
            f"{mode} of {float(x[wrong[0]]).hex()}: code {codes[wrong[0]]:#x} flags "
            f"{flags[wrong[0]]}, but {want[wrong[0]]:#x} and {want_flags[wrong[0]]}"
        )
        cases(x.size, f"system {f.name}", f"mode {mode}")


@pytest.mark.parametrize("name", ALL)
def test_every_code_decodes_to_its_value_and_back(name: str) -> None:
    f = system(name)
    values = hu.values(f)
    want = ALL[name]
    assert values.shape == (1 << f.width,)
    numbers = np.flatnonzero(~np.isnan(values))
    assert {Q(v) for v in values[numbers].tolist()} == set(want.values)
    for value, code in zip(want.values, want.codes, strict=True):
        assert Q(float(values[code])) == value
    codes = numbers.astype(np.uint16)
    assert np.array_equal(hu.decode(codes, f, dtype=np.float64), values[numbers])
    # Of codes with one value the least is canonical; every other goes to it.
    canonical = hu.encode(values[numbers], f, "odd")
    assert np.array_equal(values[canonical], values[numbers])
    assert (canonical <= codes).all()
    assert set(canonical.tolist()) == set(want.codes)


finite = st.floats(allow_nan=False, allow_infinity=False)
modes = st.sampled_from(DETERMINISTIC)


@given(st.sampled_from(sorted(ALL)), modes, finite)
@settings(max_examples=400)
def test_float64_numbers_agree_with_rationals(name: str, mode: str, x: float) -> None:
    code, flags = hu.encode(x, system(name), mode, flags=True)
    assert (code, flags) == ALL[name].round(Q(x), mode)


@given(
    st.sampled_from(sorted(ALL)),
    st.sampled_from(STOCHASTIC),
    st.floats(-70, 70),
    st.sampled_from([1, 3, 8, 32, 64]),
    st.integers(0, 2**64 - 1),
)
@settings(max_examples=400)
def test_stochastic_float64_numbers(name: str, mode: str, x: float, r: int, seed: int) -> None:
    code, flags = hu.encode(x, system(name), mode, seed=seed, random_bits=r, flags=True)
    assert (code, flags) == ALL[name].round(Q(x), mode, random_bits_of(0, seed, r=r), r)


@given(st.sampled_from(sorted(ALL)), modes, finite, finite)
@settings(max_examples=300)
def test_rounding_is_monotone_and_idempotent(name: str, mode: str, x: float, y: float) -> None:
    f = system(name)
    low, high = hu.round(min(x, y), f, mode), hu.round(max(x, y), f, mode)
    assert low <= high
    assert hu.round(low, f, mode, flags=True) == (low, 0)


@given(st.sampled_from(sorted(POSITS)), modes, finite)
@settings(max_examples=200)
def test_posits_are_symmetric(name: str, mode: str, x: float) -> None:
    mirrored = {"up": "down", "down": "up"}.get(mode, mode)
    assert hu.round(-x, name, mode) == -hu.round(x, name, mirrored)


@given(st.integers(2, 20), st.integers(0, 8), modes, finite)
@settings(max_examples=300)
def test_rounding_to_odd_first_changes_nothing(width: int, n: int, mode: str, x: float) -> None:
    """Two more bits, rounded to odd, decide every coarser rounding (Boldo & Melquiond)."""
    wide, narrow = hu.format(f"q{width}.{n + 2}"), hu.format(f"q{width - 1}.{n}")
    once = hu.round(x, narrow, mode)
    assert hu.round(hu.round(x, wide, "odd"), narrow, mode) == once


@given(st.integers(1, 32), st.booleans(), st.integers(0, 32), finite, modes)
@settings(max_examples=400)
def test_wrapping_is_the_residue_of_the_unbounded_integer(
    width: int, signed: bool, n: int, x: float, mode: str
) -> None:
    n = min(n, width - signed)
    name = f"{'' if signed else 'u'}q{width - n - signed}.{n}"
    code, flags = hu.encode(x, name, mode, overflow="wrap", flags=True)
    units = Q(x) * 2**n
    whole = math.floor(abs(units))
    go = units.denominator != 1 and ref.away(mode, abs(units) - whole, whole % 2 == 1, x < 0, 0, 32)
    rounded = (whole + go) * (-1 if x < 0 else 1)
    low = -(1 << (width - 1)) if signed else 0
    beyond = not low <= rounded < low + (1 << width)
    inexact = ref.INEXACT if units.denominator != 1 or beyond else 0
    assert code == rounded % (1 << width)
    assert flags == (inexact | (ref.OVERFLOW if beyond else 0))


@given(
    st.lists(finite, min_size=1, max_size=20),
    finite,
    st.sampled_from(MODES),
    st.integers(0, 99),
)
@settings(max_examples=300)
def test_codebooks_of_any_float64_values(
    values: list[float], x: float, mode: str, seed: int
) -> None:
    f = hu.codebook(values)
    want = ref.table(values).round(Q(x), mode, random_bits_of(0, seed), 32)
    assert hu.encode(x, f, mode, seed=seed, flags=True) == want


@given(st.sampled_from(["nf4", "dynamic8", "odd one"]), finite, finite, st.sampled_from(MODES))
@settings(max_examples=300)
def test_division_by_a_scale_is_exact(name: str, x: float, scale: float, mode: str) -> None:
    if scale == 0:
        return
    code, flags = hu.div(x, scale, system(name), rounding=mode, seed=3, flags=True)
    want, want_flags = ALL[name].round(Q(x) / Q(scale), mode, random_bits_of(0, 3), 32)
    assert code == hu.values(system(name))[want]
    assert flags == want_flags


def small(name: str) -> list[float]:
    return [float(v) for v in ALL[name].values]


@pytest.mark.parametrize("name", ["int4", "uint4", "q1.2"])
@pytest.mark.parametrize("mode", DETERMINISTIC)
def test_operations_on_all_pairs(name: str, mode: str) -> None:
    want = ref.integers(4, 2) if name == "q1.2" else ALL[name]
    v = [float(x) for x in want.values]
    a, b = (m.ravel() for m in np.meshgrid(v, v))
    exact = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul": lambda x, y: x * y,
        "div": lambda x, y: x / y,
    }
    for op, calculate in exact.items():
        nonzero = (b != 0) if op == "div" else np.ones(b.shape, bool)
        x, y = a[nonzero], b[nonzero]
        got, flags = getattr(hu, op)(x, y, name, rounding=mode, flags=True)
        for i in range(x.size):
            code, flag = want.round(calculate(Q(x[i]), Q(y[i])), mode)
            assert (got[i], flags[i]) == (float(want.values[want.codes.index(code)]), flag)


def test_the_named_tables() -> None:
    assert hu.values("nf4").tolist() == NF4
    assert hu.values("fp4_bnb").tolist() == FP4
    assert [Q(v) for v in hu.values("dynamic8").tolist()] == ref.dynamic(True)
    assert [Q(v) for v in hu.values("udynamic8").tolist()] == ref.dynamic(False)
    # A bipolar integer is the sum of its bits as ±2^i.
    bits = [sum((2 * (c >> i & 1) - 1) * 2**i for i in range(4)) for c in range(16)]
    assert hu.values("bipolar4").tolist() == bits
    for name, ends in {"dynamic8": (-0.99296874, 1), "udynamic8": (0, 1)}.items():
        v = hu.values(name)
        assert len(set(v.tolist())) == 256
        assert (np.float32(v[0]), v[-1]) == (np.float32(ends[0]), ends[1])


def test_specials() -> None:
    inf, nan = math.inf, math.nan
    for name, low, high in [("int8", -128, 127), ("uint4", 0, 15), ("nf4", -1, 1)]:
        assert hu.round([inf, -inf], name, flags=True)[0].tolist() == [high, low]
        assert hu.round([inf, -inf], name, flags=True)[1].tolist() == [1, 1]
        assert hu.round(nan, name, nan_to="zero", flags=True) == (0, 16)
        assert hu.round(nan, name, nan_to="largest", flags=True) == (high, 16)
        assert math.copysign(1, hu.round(-0.0, name)) == 1
        assert hu.div(-1.0, 0.0, name, flags=True) == (low, 9)
        with pytest.raises(hu.RoundingError, match="element 1 gives NaN"):
            hu.round([0.0, nan], name)
        with pytest.raises(hu.RoundingError, match="element 2 overflows"):
            hu.round([0.0, 1, 1e9], name, overflow="error")
    assert hu.encode(inf, "int8", overflow="wrap", nan_to="zero", flags=True) == (0, 16)


def test_arrays_strides_in_place_and_stochastic_indices() -> None:
    x = np.random.default_rng(1).standard_normal((6, 8)).astype(np.float32)
    for name in ("int8", "nf4", "posit16"):
        y = hu.round(x[::2, ::-3], name)
        assert y.dtype == np.float32
        assert np.array_equal(y, hu.round(x, name)[::2, ::-3])
        z = x.copy()
        assert hu.round(z, name, out=z) is z
        assert np.array_equal(z, hu.round(x, name))
        flat = hu.encode(x.ravel(), name, "stochastic", seed=2)
        late = hu.encode(x.ravel()[20:], name, "stochastic", seed=2, offset=20)
        assert np.array_equal(flat[20:], late)
        assert hu.encode(x[:0], name).size == 0
        with pytest.raises(ValueError, match="overlaps"):
            hu.round(z[:, :3], name, out=z[:, 1:4])


def test_stochastic_means_are_the_values() -> None:
    x = np.full(20000, 0.3, np.float64)
    for name in ("ternary", "nf4", "int4", "posit5"):
        y = hu.round(x, name, "stochastic", seed=9)
        spread = float(np.unique(y)[-1] - np.unique(y)[0])
        assert abs(y.mean() - 0.3) < 5 * spread / 2 / math.sqrt(x.size)


def test_systems_pickle_and_compare() -> None:
    own = hu.codebook([0.5, -0.5], [7, 3], name="mine")
    for f in [*hu.number_systems().values(), own]:
        assert pickle.loads(pickle.dumps(f)) == f
    assert hu.format("q7.0") == hu.format("int8") == hu.format("INT8")
    assert hu.format("posit16_es2") == hu.format("posit16") != hu.format("posit16_es1")
    assert own != hu.codebook([0.5, -0.5])
    assert repr(own) == "<halfulp codebook 'mine'>"
    assert eval(repr(hu.format("uq4.4")), {"halfulp": hu}) == hu.format("uq4.4")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: hu.format("int33"), ValueError, "33.*1 to 32"),
        (lambda: hu.format("uint0"), ValueError, "0.*1 to 32"),
        (lambda: hu.format("posit33"), ValueError, "33.*2 to 32"),
        (lambda: hu.format("posit8_es6"), ValueError, "6.*0 to 5"),
        (lambda: hu.format("bipolar17"), ValueError, "17.*1 to 16"),
        (lambda: hu.format("intt8"), ValueError, "unknown"),
        (lambda: hu.round(1.0, "bfloat16", overflow="wrap"), ValueError, "wrap.*bfloat16"),
        (lambda: hu.round(1.0, "nf4", overflow="wrap"), ValueError, "wrap.*nf4.*saturate"),
        (lambda: hu.add(1.0, 1.0, "nf4"), ValueError, "codebook.*add"),
        (lambda: hu.round(1.0, "int8", overflow="infinity"), ValueError, "none.*saturate"),
        (lambda: hu.round(1.0, "int8", overflow="nan"), ValueError, "none.*saturate"),
        (lambda: hu.round(1.0, "int8", nan_to="negative-zero"), ValueError, "negative zero"),
        (lambda: hu.round(1.0, "binary", nan_to="zero"), ValueError, "needs zero.*binary"),
        (lambda: hu.round(np.float16([1]), "int16"), ValueError, "binary16 cannot hold.*encode"),
        (lambda: hu.decode([2], "ternary"), ValueError, "0x2 has no value in ternary"),
        (lambda: hu.decode(np.array([16], np.uint8), "nf4"), ValueError, "0x10.*0xf"),
        (lambda: hu.codebook([]), (TypeError, ValueError), "1 to 65536 values"),
        (lambda: hu.codebook([1.0, math.inf]), ValueError, "value 1.*finite"),
        (lambda: hu.codebook([1.0, 2.0], [1, 1]), ValueError, "code 1.*differ"),
        (lambda: hu.codebook([1.0, 2.0], [1]), ValueError, "2 values has 1 codes"),
        (lambda: hu.codebook([1.0], [1 << 16]), ValueError, "65536.*0 to 65535"),
        (lambda: hu.codebook([[1.0]]), TypeError, "one-dimensional"),
        (lambda: hu.codebook([2**53 + 1, 0]), ValueError, "no float64"),
        (lambda: hu.matmul([[1.0]], [[1.0]], accumulate="int8"), ValueError, "float format.*int8"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(call: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("page", ["integers-and-codebooks.md", "posits.md"])
def test_the_examples_of_the_pages(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / page).read_text()
    examples = re.findall(r"```console\n\$ ([^\n]*)\n(.*?)```", text, re.S)
    assert examples
    for command, output in examples:
        assert cli.main(shlex.split(command)[1:]) == 0
        assert capsys.readouterr().out == output


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    def output(*words: str) -> str:
        assert cli.main(list(words)) == 0
        return capsys.readouterr().out

    facts = json.loads(output("formats", "int4", "posit32", "ternary", "binary16", "--json"))
    assert [row["name"] for row in facts] == ["binary16", "int4", "posit32", "ternary"]
    assert facts[1]["least"] == -8
    assert facts[2]["largest"] == 2.0**120
    assert facts[2]["least"] == -(2.0**120)
    assert facts[3]["values"] == 3
    assert "0x9   1001   -7.0" in output("formats", "int4", "--values")
    assert "NaN" in output("formats", "int4", "binary16")  # each kind has its own table
    # A decimal between two float64 numbers beside a tie is rounded once.
    assert "3.0  0x3" in output("round", "--format", "int4", "2.50000000000000000000000000001")
    assert "2.0  0x2" in output("round", "--format", "int4", "2.5")
    wrapped = output("round", "--format", "int8", "--overflow", "wrap", "300", "0xff")
    assert "44.0  0x2c" in wrapped
    assert "-1.0  0xff" in wrapped
    assert "0x48" in output("op", "div", "--format", "posit8", "0x50", "2")
    for words in (
        ["op", "add", "--format", "nf4", "1", "2"],
        ["round", "--format", "ternary", "0x2"],
        ["round", "--format", "int8", "nan"],
        ["formats", "posit32", "--png", "a.png"],
    ):
        assert cli.main(words) != 0
        assert capsys.readouterr().err.count("\n") == 1
