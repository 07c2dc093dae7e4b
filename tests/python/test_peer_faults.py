"""Faults that were found in other emulators, each as a test of this one, against exact rationals.

The reference (Fmt, finish, op, random_bits_of of test_contract.py) is written from docs/definitions.md.
Where a fault is a shortcut, the shortcut is taken here too and must be seen to fail: a test whose
inputs could not show the fault would prove nothing.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction as Q

import ml_dtypes
import numpy as np
import pytest
from modes import DETERMINISTIC, STOCHASTIC
from test_contract import POLICIES, Fmt, RefusedError, exact, finish, op, random_bits_of

import halfulp as hu

Cases = Callable[..., None]
EXTRA = [
    "fp_e3p3b3_s_ieee_ieee_nosub",
    "fp_e5p7b15_s_last_none_max7c0",
    "binary8p3se",
    "binary8p1uf",
]
FORMATS = [*(n for n, f in hu.formats().items() if f.width <= 32), *EXTRA]
SMALL = [n for n in FORMATS if hu.format(n).width <= 16]
SIGNED = [n for n in SMALL if hu.format(n).is_signed]


def positive(name: str) -> np.ndarray:
    """The positive finite values of a format, increasing, from the reference's decoder."""
    f = Fmt(name)
    return np.array(
        [float(f.mag(c)) for c in range(f.least_code or 1, f.largest_code + 1) if f.mag(c)]
    )


def wanted(x: float, f: Fmt, mode: str, **how: object) -> tuple[int, int]:
    """Code and flags; RefusedError passes."""
    value, flags = finish(exact(x), f, mode, nan_operand=x != x, **how)
    return f.code_of(value), flags


def compare(x: np.ndarray, name: str, mode: str, cases: Cases, **how: str) -> None:
    """Codes and flags of x in one format, mode and policy against rationals; refusals too."""
    f, rows = Fmt(name), []
    reference = {{"overflow": "policy"}.get(k, k): v for k, v in how.items()}
    for v in x.tolist():
        try:
            rows.append((v, wanted(v, f, mode, **reference)))
        except RefusedError:
            with pytest.raises(hu.RoundingError, match="overflow"):
                hu.encode(v, name, mode, **how)
    codes, flags = hu.encode(np.array([v for v, _ in rows]), name, mode, flags=True, **how)
    for (v, want), got in zip(rows, zip(codes.tolist(), flags.tolist(), strict=True), strict=True):
        assert got == want, f"{v.hex()} in {mode}, {how}: {got}, but {want}"
    cases(x.size, f"format {name}", f"mode {mode}", *(f"{k} {v}" for k, v in how.items()))


# ------------------------------------------------------------------ operations rounded twice
def operands(name: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Values of a format, two thirds of them of a few binades about 1."""
    v = np.concatenate([positive(name), -positive(name)])
    near = v[(np.abs(v) > 2.0**-6) & (np.abs(v) < 2.0**6)]
    return np.where(rng.integers(0, 3, n) == 0, rng.choice(v, n), rng.choice(near, n)).astype(
        np.float64
    )


@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div", "sqrt"])
@pytest.mark.parametrize("name", ["bfloat16", "binary16", "float8_e5m2", "float8_e4m3fn"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_directed_operations_are_rounded_once(name: str, operation: str, cases: Cases) -> None:
    """Arithmetic in float32, to nearest, and a directed rounding after it is what fails (CPFloat)."""
    rng = np.random.default_rng(1)
    a, b = operands(name, 400, rng), operands(name, 400, rng)
    a = np.abs(a) if operation == "sqrt" else a
    given = [a] if operation == "sqrt" else [a, b]
    # Only the arithmetic is in float32 here; then each mode rounds once more.
    wide = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "sqrt": np.sqrt,
    }
    twice = wide[operation](*(x.astype(np.float32) for x in given)).astype(np.float64)
    f, missed = Fmt(name), 0
    for mode in DETERMINISTIC:
        got, flags = getattr(hu, operation)(*given, name, rounding=mode, flags=True)
        shortcut = hu.encode(twice, name, mode)
        for i, args in enumerate(zip(*(x.tolist() for x in given), strict=True)):
            value, want_flags = op(operation, [exact(x) for x in args], f, mode)
            code = hu.encode(float(got[i]), name)
            assert (code, flags[i]) == (f.code_of(value), want_flags), (args, mode)
            missed += shortcut[i] != code
        cases(a.size, f"format {name}", f"operation {operation}", f"mode {mode}")
    # Quotients and roots are never near enough to a value for 24 bits to lose them; sums are.
    if (name, operation) in {("bfloat16", "add"), ("bfloat16", "sub"), ("binary16", "add")}:
        assert missed > 0


@pytest.mark.parametrize("name", ["bfloat16", "float8_e5m2", "float8_e4m3fn"])
def test_fma_is_rounded_once(name: str, cases: Cases) -> None:
    """Universal's E5M2 fma is wrong in 516 of 20,000: product and sum were rounded apart."""
    rng = np.random.default_rng(2)
    n = 1500
    a, b, c = (operands(name, n, rng) for _ in range(3))
    c[::3] = (
        np.where(rng.integers(0, 2, n) == 0, 1, -1)[::3] * positive(name)[0]
    )  # a product's tie, broken
    f = Fmt(name)
    for mode in DETERMINISTIC:
        got, flags = hu.fma(a, b, c, name, rounding=mode, flags=True)
        shortcut = hu.add(hu.mul(a, b, name, rounding=mode), c, name, rounding=mode)
        for i, args in enumerate(zip(a.tolist(), b.tolist(), c.tolist(), strict=True)):
            value, want_flags = op("fma", [exact(x) for x in args], f, mode)
            assert (hu.encode(float(got[i]), name), flags[i]) == (f.code_of(value), want_flags), (
                args,
                mode,
            )
        assert not np.array_equal(got, shortcut, equal_nan=True)
        cases(n, f"format {name}", "operation fma", f"mode {mode}")


@pytest.mark.parametrize("name", SMALL)
def test_float64_does_not_go_through_float32(name: str, cases: Cases) -> None:
    """The neighbours in float64 of every tie: ml_dtypes loses them (744 of 424,000 into E5M2)."""
    v = positive(name)
    lower, upper = v[:-1], v[1:]
    tie = (lower + upper) / 2  # exact: at most 13 bits
    below, above = np.nextafter(tie, 0), np.nextafter(tie, np.inf)
    results = {
        "nearest-even": (lower, upper),
        "nearest-away": (lower, upper),
        "nearest-zero": (lower, upper),
        "toward-zero": (lower, lower),
        "up": (upper, upper),
        "down": (lower, lower),
        "away": (upper, upper),
    }
    for mode, (for_below, for_above) in results.items():
        assert np.array_equal(hu.round(below, name, mode), for_below), mode
        assert np.array_equal(hu.round(above, name, mode), for_above), mode
        cases(2 * tie.size, f"format {name}", f"mode {mode}")
        mirror = {"up": "down", "down": "up"}.get(mode, mode)
        if hu.format(name).is_signed:
            assert np.array_equal(hu.round(-below, name, mirror), -for_below), mode
            assert np.array_equal(hu.round(-above, name, mirror), -for_above), mode
            cases(2 * tie.size, f"format {name}", f"mode {mirror}")
    narrowed = below.astype(np.float32).astype(np.float64)
    assert (hu.round(narrowed, name, "nearest-away") != lower).any()


# ------------------------------------------------------------------ NaN, zeros, ends
def nans() -> list[np.ndarray]:
    """NaNs of every dtype: all of float16 and bfloat16; each payload bit and few more of the others."""
    h = np.arange(1 << 16, dtype=np.uint16)
    found = [h.view(np.float16), h.view(ml_dtypes.bfloat16)]
    for kind, bits, top in (
        (np.float32, np.uint32, 0x7F800000),
        (np.float64, np.uint64, 0x7FF << 52),
    ):
        fraction = 23 if kind is np.float32 else 52
        payloads = [1 << i for i in range(fraction)] + [
            3,
            5,
            (1 << fraction) - 1,
            (1 << (fraction - 1)) - 1,
        ]
        sign = 1 << (31 if kind is np.float32 else 63)
        found.append(np.array([top | p | s for p in payloads for s in (0, sign)], bits).view(kind))
    return [x[np.isnan(x.astype(np.float64))] for x in found]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_of_any_payload_stays_nan(name: str, cases: Cases) -> None:
    """Payloads in the low bits alone are shifted out by narrow casts, which leaves infinity or -0."""
    f = Fmt(name)
    for x in nans():
        for mode in DETERMINISTIC:
            if f.has_nan:
                codes, flags = hu.encode(x, name, mode, overflow="saturate", flags=True)
                assert set(codes.tolist()) == {f.nan_code}
                assert set(flags.tolist()) == {0}
                cases(x.size, f"format {name}", f"mode {mode}")
                continue
            for nan_to, value in (("largest", f.largest), ("zero", 0.0), ("negative-zero", -0.0)):
                codes, flags = hu.encode(x, name, mode, nan_to=nan_to, flags=True)
                assert set(codes.tolist()) == {f.code_of(value)}
                assert set(flags.tolist()) == {16}
                cases(x.size, f"format {name}", f"mode {mode}", f"nan_to {nan_to}")
            with pytest.raises(hu.RoundingError, match="nan_to"):
                hu.encode(x, name, mode)
            cases(1, f"format {name}", "nan_to error")
    if f.has_nan:
        assert all((hu.encode(x, name) == f.nan_code).all() for x in nans())


@pytest.mark.parametrize("mode", DETERMINISTIC)
@pytest.mark.parametrize("name", SMALL)
def test_tiny_numbers_keep_their_sign(name: str, mode: str, cases: Cases) -> None:
    """`up` of a tiny negative number is -0, of which sign-losing implementations make +0."""
    least, normal = float(Fmt(name).least), float(Fmt(name).least_normal)
    tiny = [
        5e-324,
        2.0**-1022,
        1e-45,
        least / 1024,
        least / 2,
        np.nextafter(least / 2, 0),
        np.nextafter(least / 2, 1),
    ]
    tiny += [
        least * 0.75,
        np.nextafter(least, 0),
        least,
        normal / 2,
        np.nextafter(normal / 2, 1),
        np.nextafter(normal, 0),
    ]
    x = np.array([s * t for t in [0.0, *tiny] for s in (1, -1)])
    unsigned = not hu.format(name).is_signed
    for tininess in ("after", "before"):
        compare(np.abs(x) if unsigned else x, name, mode, cases, tininess=tininess)
    if mode == "up" and Fmt(name).has_negzero:
        assert hu.encode(-5e-324, name, "up") == 1 << (Fmt(name).width - 1)


@pytest.mark.parametrize("mode", DETERMINISTIC)
@pytest.mark.parametrize("name", FORMATS)
def test_the_largest_value_is_the_format_s_own(name: str, mode: str, cases: Cases) -> None:
    """E4M3FN ends at 448 and not at 480; 70000 into E5M2 is no 0; policies act at the very edge."""
    f = Fmt(name)
    largest = float(f.largest)
    step = float(f.largest - f.mag(f.largest_code - 1))
    edges = [largest + step * k / 8 for k in range(-9, 20)]
    edges += [
        np.nextafter(largest, np.inf),
        np.nextafter(largest + step / 2, 0),
        np.nextafter(largest + step / 2, np.inf),
    ]
    far = [largest * k for k in (1.07, 1.25, 1.5, 1.75, 2, 3, 4, 1000)] + [1e300, np.inf]
    x = np.array([s * v for v in [*edges, *far] for s in ((1, -1) if f.signed else (1,))])
    for policy in POLICIES:
        if (policy == "infinity" and not f.has_inf) or (policy == "nan" and not f.has_nan):
            with pytest.raises(ValueError, match="has none"):
                hu.encode(x, name, mode, overflow=policy)
            cases(1, f"overflow {policy}")
            continue
        compare(x, name, mode, cases, overflow=policy)


@pytest.mark.parametrize("name", SMALL)
def test_a_subnormal_may_become_the_least_normal_number(name: str, cases: Cases) -> None:
    """APyTypes makes 0 of it. Also: what lies between subnormals is rounded at their own quantum."""
    f = Fmt(name)
    v = positive(name)
    v = v[v <= 2 * float(f.least_normal)]
    v = np.concatenate([v[:12], v[-12:]])
    gaps = np.diff(v)
    x = np.concatenate([v[:-1] + gaps * k / 8 for k in range(8)])
    x = np.concatenate([x, np.nextafter(x, 0), np.nextafter(x, np.inf)])
    x = np.unique(x)
    for mode in DETERMINISTIC:
        for tininess in ("after", "before"):
            compare(x, name, mode, cases, tininess=tininess)
    if f.sub and f.zero:
        under = np.nextafter(float(f.least_normal), 0)
        assert hu.round(under, name) == float(f.least_normal)


@pytest.mark.parametrize("name", [n for n in SMALL if hu.format("binary32").holds(hu.format(n))])
def test_float32_subnormals_are_not_flushed(name: str, cases: Cases) -> None:
    """Values below 2^-126 survive in float32 arrays: rounding moves no value of the format."""
    v = positive(name)
    v = np.concatenate([v, -v] if hu.format(name).is_signed else [v]).astype(np.float32)
    for mode in DETERMINISTIC:
        assert np.array_equal(hu.round(v, name, mode).view(np.uint32), v.view(np.uint32))
        cases(v.size, f"format {name}", f"mode {mode}")
    if name == "bfloat16":
        assert (np.abs(v) < 2.0**-126).sum() == 254


# ------------------------------------------------------------------ exponents about powers of two
def about_powers(dtype: type) -> np.ndarray:
    """Every power of two of the dtype with the 32 numbers on either side (float64: 8), positive."""
    bits, fraction, reach = {
        np.float32: (np.uint32, 23, 32),
        np.float64: (np.uint64, 52, 8),
    }[dtype]
    top = (255 if dtype is np.float32 else 2047) << fraction
    normal = [e << fraction for e in range(1, top >> fraction)]
    powers = np.array([1 << i for i in range(fraction)] + normal, np.int64)
    near = np.unique(powers[:, None] + np.arange(-reach, reach + 1))
    return near[(near > 0) & (near < top)].astype(bits).view(dtype)


def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """floor(log2 x), and x / 2^floor in 52 fraction bits, from the bits of float64 alone."""
    bits = x.astype(np.float64).view(np.uint64).astype(np.int64)
    exponent, fraction = bits >> 52, bits & ((1 << 52) - 1)
    for i in np.flatnonzero(exponent == 0):  # subnormal
        n = int(fraction[i])
        fraction[i] = (n << (53 - n.bit_length())) & ((1 << 52) - 1)
        exponent[i] = n.bit_length() - 52
    return exponent - 1023, fraction


MX = {  # largest as a multiple of 2^emax in 52 fraction bits; emax; precision
    "mxfp8_e4m3": (0b1110, 8, 4),
    "mxfp8_e5m2": (0b1110, 15, 3),
    "mxfp6_e2m3": (0b1111, 2, 4),
    "mxfp6_e3m2": (0b1110, 4, 3),
    "mxfp4": (0b1100, 2, 2),
    "mxint8": (None, 0, 7),
}


@pytest.mark.parametrize("rule", ["floor", "ceil", "rceil", "even"])
@pytest.mark.parametrize("name", MX)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mx_scales_about_every_power_of_two(
    name: str, dtype: type, rule: str, cases: Cases
) -> None:
    """A logarithm in floating point rounds up just below 2^k: 122 of 300 blocks are wrong in microxcaling."""
    x = about_powers(dtype)
    top, emax, p = MX[name]
    largest = (127 << 46 if top is None else top << 49) - (1 << 52)  # its fraction bits
    e, fraction = split(x)
    e = (
        e
        + {
            "floor": 0,
            "ceil": fraction > 0,
            "rceil": fraction > largest,
            "even": fraction
            >= (1 << 52) - (1 << (52 - p)),  # rounds up to the next binade, half-way up
        }[rule]
    )
    scales = hu.quantize(x.reshape(-1, 1), name, rule=rule).scales.ravel()
    assert np.array_equal(scales, np.clip(e - emax, -127, 127) + 127)
    cases(x.size, f"block {name}", f"rule {rule}")
    if rule == "floor" and dtype is np.float64:
        by_logarithm = np.clip(np.floor(np.log2(x)) - emax, -127, 127) + 127
        assert (by_logarithm != scales).any()
        assert np.array_equal(hu.logb(x, "binary64"), split(x)[0])


# ------------------------------------------------------------------ stochastic rounding
@pytest.fixture(scope="module")
def draws() -> dict[int, np.ndarray]:
    """For r bits: indices at which seed 11 draws 0, 1, ... 2^r - 1 in turn, by the tests' own Philox."""
    found = {}
    for r in (1, 2, 3, 5, 8):
        first: dict[int, int] = {}
        i = 0
        while len(first) < 1 << r:
            first.setdefault(random_bits_of(i, 11, r=r), i)
            i += 1
        found[r] = np.array([first[R] for R in range(1 << r)])
    return found


def all_draws(x: float, name: str, mode: str, r: int, index: np.ndarray, **how: str) -> np.ndarray:
    """The codes of x for every value of r random bits."""
    many = np.full(int(index.max()) + 1, x)
    return hu.encode(many, name, mode, seed=11, random_bits=r, **how)[index]


@pytest.mark.parametrize("mode", STOCHASTIC)
@pytest.mark.parametrize("name", SIGNED)
def test_exact_counts_over_all_random_bits(
    name: str, mode: str, draws: dict[int, np.ndarray], cases: Cases
) -> None:
    """Near underflow (others: twice the probability), in the middle, and at overflow (others: doubled).

    The count of results away from zero is that of the definition, for every value of the random bits.
    """
    f = Fmt(name)
    beyond = f.mag(f.largest_code + 1)  # the next value if the exponent had no end
    inner = [
        (Q(0), f.least),
        (f.least, f.mag(f.next_code(f.least_code))),
        (Q(1), f.mag(f.lower(Q(1))[0] + 1)),
        (f.mag(f.largest_code - 1), f.largest),
    ]
    parts = [
        Q(1, 256),
        Q(3, 7).limit_denominator(1024),
        Q(1, 2),
        Q(255, 256),
        Q(85, 128) + Q(1, 2048),
    ]
    for r, index in draws.items():
        for low, high in [*inner, (f.largest, beyond)]:
            for part in parts if r == 8 else parts[2:]:
                x = float(low + (high - low) * Q(round(part * 4096), 4096))
                frac = (Q(x) - low) / (high - low)
                codes = all_draws(x, name, mode, r, index)
                want = [wanted(x, f, mode, R=R, r=r)[0] for R in range(1 << r)]
                assert codes.tolist() == want, (x.hex(), r)
                count = int(
                    (codes != want[0]).sum()
                )  # R = 0 goes toward zero but in variant C at the end
                by_definition = {
                    "stochastic": int(frac * 2**r),
                    "stochastic-b": (int(frac * 2 ** (r + 1)) + 1) // 2,
                    "stochastic-c": round(frac * 2**r),
                    "stochastic-equal": 2 ** (r - 1),
                }[mode]
                overflow = low == f.largest
                if 0 < by_definition < 1 << r and (f.has_nan or f.has_inf or not overflow):
                    assert count == by_definition, (x.hex(), r)
                    if not overflow:
                        p = hu.probability(x, name, mode, random_bits=r)
                        assert p.probability == Q(by_definition, 1 << r)
                cases(1 << r, f"format {name}", f"mode {mode}")


def test_random_bits_do_not_depend_on_threads_or_the_clock() -> None:
    """One call; pieces in another order; pieces in threads; a process held to one processor."""
    n = 1 << 21
    x = np.linspace(1, 2, n, dtype=np.float32)
    whole = hu.encode(x, "float8_e5m2", "stochastic", seed=3)
    pieces = [slice(i, i + 100_003) for i in range(0, n, 100_003)]

    def piece(s: slice) -> np.ndarray:
        return hu.encode(x[s], "float8_e5m2", "stochastic", seed=3, offset=s.start)

    assert np.array_equal(np.concatenate([piece(s) for s in reversed(pieces)][::-1]), whole)
    with ThreadPoolExecutor(8) as pool:
        assert np.array_equal(np.concatenate(list(pool.map(piece, pieces))), whole)
    program = (
        "import hashlib, os, numpy as np, halfulp as hu\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        f"x = np.linspace(1, 2, {n}, dtype=np.float32)\n"
        "print(hashlib.sha256(hu.encode(x, 'float8_e5m2', 'stochastic', seed=3)).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert run.stdout.strip() == hashlib.sha256(whole).hexdigest()
    # It does go up, and as often as it should: the mean is that of x.
    mean = float(hu.decode(whole, "float8_e5m2", dtype=np.float64).mean())
    assert abs(mean - 1.5) < 6 * 0.125 / np.sqrt(n)
