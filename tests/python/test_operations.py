"""Remainder, integers, neighbours, minimum and maximum, predicates, probabilities, P3109: against NumPy,
gfloat and Fractions."""

from __future__ import annotations

import contextlib
import io
import json
import math
from fractions import Fraction

import gfloat
import gfloat.formats as gff
import numpy as np
import pytest

import halfulp as hu
from halfulp import _core, cli

RNG = np.random.default_rng(20261122)
HALVES = np.arange(65536, dtype=np.uint16).view(np.float16)
NUMBERS = HALVES[~np.isnan(HALVES)]


def pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Binary32 operands: any bits, and near ones."""
    x = RNG.integers(0, 2**32, n, dtype=np.uint32).view(np.float32)
    y = RNG.integers(0, 2**32, n, dtype=np.uint32).view(np.float32)
    near = np.round(RNG.normal(size=n) * 100) / 8
    y = np.where(RNG.integers(0, 2, n) == 0, y, near.astype(np.float32))
    return x, y


def same(a: np.ndarray, b: np.ndarray) -> bool:
    kind = {2: np.uint16, 4: np.uint32, 8: np.uint64}[a.dtype.itemsize]
    both_nan = np.isnan(a) & np.isnan(b)
    return a.dtype == b.dtype and bool(((a.view(kind) == b.view(kind)) | both_nan).all())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numpy_agrees() -> None:
    x, y = pairs(200_000)
    assert same(hu.round_to_integral(x, "binary32"), np.rint(x))
    assert same(hu.round_to_integral(x, "binary32", "up"), np.ceil(x))
    assert same(hu.round_to_integral(x, "binary32", "down"), np.floor(x))
    assert same(hu.round_to_integral(x, "binary32", "toward-zero"), np.trunc(x))
    assert same(hu.next_up(x, "binary32"), np.nextafter(x, np.float32(np.inf)))
    assert same(hu.next_down(HALVES, "binary16"), np.nextafter(HALVES, np.float16(-np.inf)))
    n = RNG.integers(-300, 300, x.size)
    assert same(hu.scalb(x, n, "binary32"), np.ldexp(x, n))
    ordered = (x != 0) | (y != 0)  # NumPy leaves the order of zeros open
    for ours, theirs in (
        (hu.minimum, np.minimum),
        (hu.maximum, np.maximum),
        (hu.minimum_number, np.fmin),
        (hu.maximum_number, np.fmax),
    ):
        assert same(ours(x, y, "binary32")[ordered], theirs(x, y)[ordered])
    assert (hu.compare(x, y) == np.select([x < y, x == y, x > y], [0, 1, 2], 3)).all()


def test_remainder_against_fractions() -> None:
    x, y = pairs(5000)
    good = np.isfinite(x) & np.isfinite(y) & (y != 0)
    for a, b in zip(x[good].tolist(), y[good].tolist(), strict=True):
        quotient = Fraction(a) / Fraction(b)
        n = math.floor(quotient)
        rest = quotient - n
        n += rest > Fraction(1, 2) or (rest == Fraction(1, 2) and n % 2 == 1)
        got = hu.remainder(a, b, "binary32")
        assert Fraction(got) == Fraction(a) - n * Fraction(b)
        assert got != 0 or math.copysign(1, got) == math.copysign(1, a)
    value, flags = hu.remainder(1.0, 0.0, "binary16", flags=True)
    assert math.isnan(value)
    assert flags == 16


def test_logb_and_classes_of_every_half() -> None:
    finite = NUMBERS[np.isfinite(NUMBERS) & (NUMBERS != 0)]
    _, exponents = np.frexp(finite)
    assert (hu.logb(finite, "binary16") == exponents - 1).all()
    got = hu.classify(HALVES, "binary16")
    size = np.abs(HALVES)
    with np.errstate(invalid="ignore"):
        kind = np.select([size == 0, size < 2.0**-14, np.isfinite(size)], [0, 1, 2], 3)
    want = np.where(np.signbit(HALVES), 5 - kind, 6 + kind)
    assert (got == np.where(np.isnan(HALVES), 1, want)).all()


def test_every_pair_of_a_small_format_in_the_total_order() -> None:
    f = hu.format("float8_e5m2")
    v = hu.values(f)
    # Ranks: numbers by value, -0 before +0, NaNs together at the end.
    key = np.where(np.isnan(v), np.inf, v)
    rank = 4 * np.searchsorted(np.unique(key), key) + np.where(np.isnan(v), 2, ~np.signbit(v))
    assert (hu.total_order(v[:, None], v) == (rank[:, None] <= rank)).all()
    assert hu.total_order(1.0, 2.0) is True


def test_results_have_the_operands_dtypes_and_scalars_their_names() -> None:
    assert hu.scalb(np.float16([1, 3]), np.int64([3, -2]), "float8_e4m3fn").dtype == np.float16
    assert hu.scalb(1.5, 10**30, "binary64") == math.inf
    assert hu.scalb([1.0, 2.0], np.uint8([1, 255]), "binary64").tolist() == [2.0, 2.0**256]
    assert hu.classify(2.0**-20, "binary16") is hu.Class.POSITIVE_SUBNORMAL
    assert hu.compare(1.0, np.float16(2)) is hu.Ordering.LESS
    out = np.empty(2, np.float32)
    y, flags = hu.round_to_integral(np.float32([2.5, 3]), "bfloat16", out=out, flags=True)
    assert y is out
    assert flags.tolist() == [1, 0]
    assert hu.round_to_integral(2.5, "bfloat16", inexact=False, flags=True) == (2.0, 0)
    with pytest.raises(TypeError, match="n must be integers"):
        hu.scalb(1.0, 0.5, "binary16")
    with pytest.raises(TypeError, match="uint8"):
        hu.compare([1.0], [2.0], out=np.empty(1))
    assert [c.name.lower().replace("_", "-") for c in hu.Class] == _core.class_names()
    assert [o.name.lower() for o in hu.Ordering] == _core.ordering_names()


def test_every_operation_has_a_function() -> None:
    for name, _, _ in _core.operations():
        python = name.replace("-", "_")
        assert python in ("convert", "round_to_integral_quiet") or callable(getattr(hu, python))


@pytest.mark.parametrize(
    "rounding", ["stochastic", "stochastic-b", "stochastic-c", "stochastic-equal"]
)
@pytest.mark.parametrize("name", ["float8_e5m2", "float4_e2m1fn", "binary8p1se"])
def test_probabilities_are_the_shares_of_all_random_bits(name: str, rounding: str) -> None:
    """r = 8: the codes of 2^8 draws are counted where the random bits run through all values."""
    index = np.arange(1 << 16)
    for x in RNG.choice(NUMBERS[np.isfinite(NUMBERS)], 12).tolist():
        p = hu.probability(x, name, rounding, overflow="saturate", random_bits=8)
        assert 256 % p.probability.denominator == 0
        y = hu.round(
            np.full(index.size, x), name, rounding, overflow="saturate", seed=1, random_bits=8
        )
        assert set(y.tolist()) <= {p.toward_zero, p.away}
        if p.toward_zero == p.away:
            continue
        share = float((y == p.away).mean())
        expected = float(p.probability)
        assert abs(share - expected) <= 6 * math.sqrt(expected * (1 - expected) / index.size)
        assert (share == expected) or 0 < expected < 1


def test_probability_of_variant_a_is_the_floor_of_the_discarded_part() -> None:
    p = hu.probability(1.05, "float8_e4m3fn", random_bits=8)
    frac = (Fraction(1.05) - 1) * 8
    assert p == (1.0, 1.125, Fraction(math.floor(frac * 256), 256))
    assert hu.probability(1.0, "float8_e4m3fn").probability == 0
    with pytest.raises(ValueError, match="draws nothing"):
        hu.probability(1.0, "float8_e4m3fn", "nearest-even")
    with pytest.raises(hu.RoundingError, match="nan_to"):
        hu.probability(math.nan, "float4_e2m1fn")


def p3109(k: int, p: int, kind: str) -> gfloat.FormatInfo:
    return gff.format_info_p3109(
        k,
        p,
        gfloat.Signedness.Signed if kind[0] == "s" else gfloat.Signedness.Unsigned,
        gfloat.Domain.Extended if kind[1] == "e" else gfloat.Domain.Finite,
    )


def p3109_value(k: int, p: int, kind: str, code: int) -> Fraction | float:
    """The draft's definition in Fractions: 1.0 in the middle of the positive codes, one zero, one NaN."""
    signed = kind[0] == "s"
    top = (1 << (k - 1)) - 1 if signed else (1 << k) - 2  # the last positive code that is no NaN
    negative = signed and code >> (k - 1) == 1
    if code == (1 << (k - 1) if signed else (1 << k) - 1):
        return math.nan
    magnitude = code - (1 << (k - 1)) if negative else code
    sign = -1 if negative else 1
    if kind[1] == "e" and magnitude == top:
        return sign * math.inf
    bias = Fraction(2) ** (k - p - 1) if signed else Fraction(2) ** (k - p)
    field, fraction = divmod(magnitude, 1 << (p - 1))
    significand = fraction + (1 << (p - 1) if field else 0)
    return sign * significand * Fraction(2) ** int(max(field, 1) - math.floor(bias) - (p - 1))


@pytest.mark.parametrize("kind", ["se", "sf", "ue", "uf"])
@pytest.mark.parametrize("k", range(3, 17))
def test_p3109_values_are_the_draft_s_and_gfloat_s(k: int, kind: str) -> None:
    for p in range(1, k if kind[0] == "s" else k + 1):
        f = hu.format(f"p3109_k{k}p{p}{kind}")
        assert f == hu.format(f"binary{k}p{p}{kind}")
        assert f.width == k
        peer = p3109(k, p, kind)
        codes = np.arange(1 << k)
        if k > 8:
            ends = [0, 1, 2, (1 << k) - 2, (1 << k) - 1, 1 << (k - 1), (1 << (k - 1)) - 1]
            codes = np.concatenate([RNG.integers(0, 1 << k, 60), ends])
        for code in codes.tolist():
            ours = hu.exact_value(f, code)
            want = p3109_value(k, p, kind, code)
            both_nan = ours != ours and want != want
            assert both_nan or ours == want, (p, code)
            if f.emin < -1000 or f.emax > 1000:
                continue  # beyond float64, which gfloat's decoder computes in
            theirs = gfloat.decode_float(peer, code).fval
            assert both_nan or (
                theirs == ours and math.copysign(1, theirs) == math.copysign(1, ours)
            )


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("op remainder --format bfloat16 5 3 --json", "0xbf80"),
        ("op next-up --format p3109_k8p3se 1 --json", "0x41"),
        ("op scalb --format binary16 1 3 --json", "0x4800"),
        ("op classify --format bfloat16 0x8000", "negative-zero"),
        ("op total_order --format bfloat16 -- 0 -1", "false"),
        ("op compare --format bfloat16 nan 1", "unordered"),
        ("op mul --format binary128 0x3fff8000000000000000000000000001 3 --json", "4001200000000"),
        ("round --format float8_e4m3fn --rounding stochastic --probabilities 1.05", "2147483648"),
    ],
)
def test_the_command_line_has_them(arguments: str, shown: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert cli.main(arguments.split()) == 0
    assert shown in printed.getvalue()
    if "--json" in arguments:
        json.loads(printed.getvalue())


def test_binary128_products_and_fma_against_fractions() -> None:
    """Codes of 128 bits, through the command line's function: 226 bits of product, rounded once."""
    f = hu.format("binary128")
    how = _core.How("toward-zero", "ieee", "error", "after", None, 0, 0, 0, 32)
    for _ in range(300):
        a, b, c = (
            (int(RNG.integers(0x3FF0, 0x4010)) << 112)
            | (int(RNG.integers(0, 2**63)) << 49)
            | int(RNG.integers(0, 2**49))
            for _ in range(3)
        )
        x, y, z = (Fraction(hu.exact_value(f, code)) for code in (a, b, c))
        for operation, operands, exact in (
            ("mul", [a, b], x * y),
            ("fma", [a, b, c], x * y + z),
        ):
            code, flags = _core.compute(operation, [(v, f) for v in operands], f, how)
            below = Fraction(hu.exact_value(f, code))
            above = Fraction(hu.exact_value(f, code + 1))
            assert below <= exact < above
            assert flags == (0 if below == exact else 1)
