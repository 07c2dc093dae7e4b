"""The contract of docs/definitions.md, from outside.

The reference below is written from that page alone, in exact rationals and with its own Philox; it
shares no code with the package. A value is a Fraction if it is finite and not zero, else a float.
"""

import json
import math
import os
import random
import re
import subprocess
import sys
from fractions import Fraction as Q
from pathlib import Path

import numpy as np
import pytest
from modes import MODES, STOCHASTIC

import halfulp as hu

ALIASES = {
    "binary16": "fp_e5p11b15_s_ieee_ieee",
    "binary32": "fp_e8p24b127_s_ieee_ieee",
    "binary64": "fp_e11p53b1023_s_ieee_ieee",
    "binary128": "fp_e15p113b16383_s_ieee_ieee",
    "bfloat16": "fp_e8p8b127_s_ieee_ieee",
    "tf32": "fp_e8p11b127_s_ieee_ieee",
    "float8_e4m3": "fp_e4p4b7_s_ieee_ieee",
    "float8_e3m4": "fp_e3p5b3_s_ieee_ieee",
    "float8_e5m2": "fp_e5p3b15_s_ieee_ieee",
    "float8_e4m3fn": "fp_e4p4b7_s_last_none",
    "float8_e4m3fnuz": "fp_e4p4b8_s_negzero_none",
    "float8_e5m2fnuz": "fp_e5p3b16_s_negzero_none",
    "float8_e4m3b11fnuz": "fp_e4p4b11_s_negzero_none",
    "float8_e8m0fnu": "fp_e8p1b127_u_last_none_nosub_nozero",
    "float6_e2m3fn": "fp_e2p4b1_s_none_none",
    "float6_e3m2fn": "fp_e3p3b3_s_none_none",
    "float4_e2m1fn": "fp_e2p2b1_s_none_none",
}
INVALID, DIVZERO, OVERFLOW, UNDERFLOW, INEXACT = 16, 8, 4, 2, 1
POLICIES = ["ieee", "saturate", "saturate-propagate", "infinity", "nan", "error"]
NAN, INF = math.nan, math.inf


class RefusedError(Exception):
    pass


def p3109(name):
    m = re.fullmatch(r"binary(\d+)p(\d+)([su])([ef])", name)
    K, P, s, e = int(m[1]), int(m[2]), m[3], m[4]
    inf = "last" if e == "e" else "none"
    if s == "s":
        E = K - P
        b = 2 ** (K - P - 1)
        return f"fp_e{E}p{P}b{b}_s_negzero_{inf}"
    E = K - P + 1
    b = 2 ** (K - P)
    return f"fp_e{E}p{P}b{b}_u_last_{inf}"


def pow2(e):
    return Q(2) ** e


def floorlog2(x):
    n, d = x.numerator, x.denominator
    e = n.bit_length() - d.bit_length()
    return e if (n >= d << e if e >= 0 else n << -e >= d) else e - 1


class Fmt:
    def __init__(self, name):
        self.given = name
        if name.startswith("binary") and "p" in name:
            name = p3109(name)
        name = ALIASES.get(name, name)
        self.name = name
        parts = name.split("_")
        assert parts[0] == "fp"
        a, rest = parts[1][1:].split("p")
        pp, bb = rest.split("b")
        self.E, self.p, self.b = int(a), int(pp), int(bb)
        self.signed = parts[2] == "s"
        self.nan, self.inf = parts[3], parts[4]
        self.sub = "nosub" not in parts
        self.zero = "nozero" not in parts
        mx = [q for q in parts if q.startswith("max")]
        self.emin = (1 if self.zero else 0) - self.b
        self.magbits = self.E + self.p - 1
        self.width = self.magbits + self.signed
        top = 1 << self.magbits
        self.top = top
        if self.nan == "ieee":
            first = ((1 << self.E) - 1) << (self.p - 1)
        else:
            first = top - (self.nan == "last") - (self.inf == "last")
        self.first_special = first
        self.largest_code = int(mx[0][3:], 16) if mx else first - 1
        self.largest = self.mag(self.largest_code)
        self.emax = floorlog2(self.largest)
        self.least_normal_code = (1 << (self.p - 1)) if self.zero else 0
        self.least_code = 0 if not self.zero else (1 if self.sub else self.least_normal_code)
        self.least_normal = pow2(self.emin)
        self.least = self.mag(self.least_code)
        self.has_nan = self.nan != "none"
        self.has_inf = self.inf != "none"
        self.has_negzero = self.signed and self.zero and self.nan != "negzero"
        self.nan_code = {
            "ieee": first | (1 << (self.p - 2) if self.p > 1 else 0),
            "last": top - 1,
            "negzero": top,
            "none": None,
        }[self.nan]
        self.inf_code = {"ieee": first, "last": top - 1 - (self.nan == "last"), "none": None}[
            self.inf
        ]

    def mag(self, m):
        field, frac = m >> (self.p - 1), m & ((1 << (self.p - 1)) - 1)
        if field == 0 and self.zero:
            return frac * pow2(self.emin - self.p + 1) if self.sub else Q(0)
        return ((1 << (self.p - 1)) + frac) * pow2(field - self.b - self.p + 1)

    def decode(self, c):
        m, neg = c & (self.top - 1), bool(c >> self.magbits)
        if self.nan == "negzero" and c == self.top:
            return NAN
        if m >= self.first_special:
            if m == self.inf_code:
                return -INF if neg else INF
            return NAN
        v = self.mag(m)
        if v == 0:
            return -0.0 if neg and self.has_negzero else 0.0
        return -v if neg else v

    def lower(self, a):
        """code below or at a > 0, exponent unbounded above; and the fraction of the step above it"""
        e = floorlog2(a)
        if e >= self.emin:
            n = a / pow2(e - self.p + 1)
            i = n.numerator // n.denominator
            return ((e - self.emin + (1 if self.zero else 0)) << (self.p - 1)) + i - (
                1 << (self.p - 1)
            ), n - i
        if not self.zero:
            return None, None
        if not self.sub:
            return 0, a / self.least_normal
        n = a / pow2(self.emin - self.p + 1)
        i = n.numerator // n.denominator
        return i, n - i

    def next_code(self, c):
        if self.zero and not self.sub and c == 0:
            return self.least_normal_code
        return c + 1

    def code_of(self, v):
        """code of a result"""
        if isinstance(v, float):
            if v != v:
                return self.nan_code
            if math.isinf(v):
                return self.inf_code | ((v < 0) * self.top)
            return self.top if math.copysign(1, v) < 0 else 0
        m, frac = self.lower(abs(v))
        assert frac == 0
        return m | ((v < 0) * self.top)


def away(mode, frac, lower_odd, neg, R=0, r=32):
    if frac == 0:
        return False
    half = Q(1, 2)
    if mode == "nearest-even":
        return frac > half or (frac == half and lower_odd)
    if mode == "nearest-away":
        return frac >= half
    if mode == "nearest-zero":
        return frac > half
    if mode == "toward-zero":
        return False
    if mode == "up":
        return not neg
    if mode == "down":
        return neg
    if mode == "away":
        return True
    if mode == "odd":
        return not lower_odd
    if mode == "stochastic":
        return math.floor(frac * (1 << r)) + R >= 1 << r
    if mode == "stochastic-b":
        return math.floor(frac * (2 << r)) + 2 * R + 1 >= 2 << r
    if mode == "stochastic-c":
        return round(frac * (1 << r)) + R >= 1 << r  # Fraction's round is to even
    if mode == "stochastic-equal":
        return bool(R >> (r - 1))
    raise ValueError(mode)


def infinity_due(f, neg, policy, flags):
    """An infinite operand or x/0."""
    if policy == "saturate":
        return (-f.largest if neg else f.largest), flags | INEXACT
    if f.has_inf:
        return (-INF if neg else INF), flags
    if f.has_nan:
        return NAN, flags | (0 if flags & (DIVZERO | OVERFLOW) else INVALID)
    return (-f.largest if neg else f.largest), flags | INEXACT


def to_nan(f, flags, nan_to):
    if f.has_nan:
        return NAN, flags
    flags |= INVALID
    if nan_to == "error":
        raise RefusedError("nan")
    if nan_to == "largest":
        return f.largest, flags
    if not f.zero:
        return f.least, flags
    return (-0.0 if nan_to == "negative-zero" and f.has_negzero else 0.0), flags


def finish(
    x,
    f,
    mode="nearest-even",
    policy="ieee",
    nan_to="error",
    tininess="after",
    R=0,
    r=32,
    flags=0,
    nan_operand=False,
):
    """x: exact: float nan/inf/zero or Fraction -> (value, flags)"""
    if isinstance(x, float) and x != x:
        if not nan_operand and not flags & DIVZERO:
            flags |= INVALID
        return to_nan(f, flags, nan_to)
    neg = (math.copysign(1, x) < 0) if isinstance(x, float) else x < 0
    if not f.signed and neg and x != 0:
        return to_nan(f, flags | INVALID, nan_to)
    if isinstance(x, float) and math.isinf(x):
        return infinity_due(f, neg, policy, flags)
    if isinstance(x, float):
        if not f.zero:
            return (-f.least if neg and f.signed else f.least), flags | UNDERFLOW | INEXACT
        return (-0.0 if neg and f.has_negzero else 0.0), flags
    a = abs(x)
    lo, frac = f.lower(a)
    if lo is None:
        return (-f.least if neg else f.least), flags | UNDERFLOW | INEXACT
    up = away(mode, frac, lo & 1, neg, R, r)
    code = f.next_code(lo) if up else lo
    if code > f.largest_code:
        flags |= OVERFLOW | INEXACT
        big = -f.largest if neg else f.largest
        if policy == "error":
            raise RefusedError("overflow")
        if policy in ("saturate", "saturate-propagate"):
            return big, flags
        if policy == "nan":
            if not f.has_nan:
                raise RefusedError("policy")
            return NAN, flags
        if policy == "infinity":
            if not f.has_inf:
                raise RefusedError("policy")
            return (-INF if neg else INF), flags
        if mode in ("toward-zero", "odd") or (mode == "up" and neg) or (mode == "down" and not neg):
            return big, flags
        if f.has_inf:
            return (-INF if neg else INF), flags
        if f.has_nan:
            return NAN, flags
        return big, flags
    if frac:
        flags |= INEXACT
        if tininess == "before":
            tiny = a < f.least_normal
        else:
            e = floorlog2(a)
            n = a / pow2(e - f.p + 1)
            i = n.numerator // n.denominator
            odd_code = (
                ((e - f.emin + (1 if f.zero else 0)) << (f.p - 1)) + i - (1 << (f.p - 1))
            ) & 1
            i += away(mode, n - i, odd_code, neg, R, r)
            tiny = i * pow2(e - f.p + 1) < f.least_normal
        if tiny:
            flags |= UNDERFLOW
    if code == 0 and f.zero:
        return (-0.0 if neg and f.has_negzero else 0.0), flags
    v = f.mag(code)
    return (-v if neg else v), flags


def exact(x):
    x = float(x)
    return x if x == 0 or math.isnan(x) or math.isinf(x) else Q(x)


def sgn(x):
    return math.copysign(1, x) < 0 if isinstance(x, float) else x < 0


def isnan(x):
    return isinstance(x, float) and x != x


def isinf(x):
    return isinstance(x, float) and math.isinf(x)


def mul_(a, b):
    if isnan(a) or isnan(b):
        return NAN
    s = sgn(a) != sgn(b)
    if isinf(a) or isinf(b):
        return NAN if (a == 0 or b == 0) else (-INF if s else INF)
    if a == 0 or b == 0:
        return -0.0 if s else 0.0
    return a * b


def add_(a, b, mode):
    if isnan(a) or isnan(b):
        return NAN
    if isinf(a) or isinf(b):
        if isinf(a) and isinf(b) and sgn(a) != sgn(b):
            return NAN
        return a if isinf(a) else b
    if a == 0 and b == 0:
        if sgn(a) == sgn(b):
            return a
        return -0.0 if mode == "down" else 0.0
    if a == 0:
        return b
    if b == 0:
        return a
    s = a + b
    if s == 0:
        return -0.0 if mode == "down" else 0.0
    return s


def div_(a, b):
    """value, flags"""
    if isnan(a) or isnan(b):
        return NAN, 0
    s = sgn(a) != sgn(b)
    if isinf(a):
        return (NAN if isinf(b) else -INF if s else INF), 0
    if isinf(b):
        return (-0.0 if s else 0.0), 0
    if b == 0:
        if a == 0:
            return NAN, 0
        return (-INF if s else INF), DIVZERO
    if a == 0:
        return (-0.0 if s else 0.0), 0
    return a / b, 0


def sqrt_(a):
    if isnan(a):
        return NAN
    if a == 0:
        return a
    if sgn(a):
        return NAN
    if isinf(a):
        return a
    e = floorlog2(a) // 2
    k = 400 - e
    n = a * Q(4) ** k
    i = n.numerator // n.denominator
    root = math.isqrt(i)
    v = Q(root)
    if root * root != n:
        v += Q(1, 2)
    return v * pow2(-k)


def op(name, args, f, mode="nearest-even", **kw):
    nanop = any(isnan(a) for a in args)
    fl = 0
    if name in ("round", "convert"):
        v = args[0]
    elif name == "add":
        v = add_(*args, mode)
    elif name == "sub":
        v = add_(args[0], -args[1], mode)
    elif name == "mul":
        v = mul_(*args)
    elif name == "div":
        v, fl = div_(*args)
    elif name == "sqrt":
        v = sqrt_(args[0])
    elif name == "fma":
        v = mul_(args[0], args[1])
        v = add_(v, args[2], mode)
    return finish(v, f, mode, flags=fl, nan_operand=nanop, **kw)


def philox(ctr, key):
    c0, c1, c2, c3 = ctr
    k0, k1 = key
    M = 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & M, (p0 >> 32) ^ c3 ^ k1, p0 & M
        k0, k1 = (k0 + 0x9E3779B9) & M, (k1 + 0xBB67AE85) & M
    return c0 | c1 << 32 | c2 << 64 | c3 << 96


def random_bits_of(i, seed, step=0, tensor=0, r=32):
    B = next(b for b in (8, 16, 32, 64) if b >= r)
    block, bit = divmod(i * B, 128)
    w = philox(
        (block & 0xFFFFFFFF, block >> 32 & 0xFFFFFFFF, tensor, step),
        (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF),
    )
    return (w >> bit & ((1 << B) - 1)) >> (B - r)


def same(got, ref):
    got = float(got)
    if isinstance(ref, float):
        if ref != ref:
            return got != got
        return got == ref and math.copysign(1, got) == math.copysign(1, ref)
    return math.isfinite(got) and got != 0 and Q(got) == ref


# ---------------------------------------------------------------------------------------------
# Formats


def shapes(max_bits=8, biases=(-3, 0, None, 5)):
    for E in range(1, 7):
        for p in range(1, max_bits + 1 - E):
            for b in biases:
                for s in "su":
                    for nan in ("ieee", "last", "negzero", "none"):
                        for inf in ("ieee", "last", "none"):
                            for tail in ("", "_nosub", "_nosub_nozero"):
                                bias = 2 ** (E - 1) - 1 if b is None else b
                                yield f"fp_e{E}p{p}b{bias}_{s}_{nan}_{inf}{tail}"


def usable(name):
    """The combinations that the definitions allow."""
    f = Fmt(name)
    if f.inf == "ieee" and (f.nan != "ieee" or f.p < 2):
        return False
    if f.nan == "ieee" and f.inf == "last":
        return False
    if (f.nan == "negzero" and not f.signed) or (not f.zero and f.signed):
        return False
    return f.first_special > f.least_normal_code  # a normal number


def test_every_small_shape_is_decoded():
    rng = random.Random(1)
    for name in shapes():
        if rng.random() > 0.25:
            continue
        if not usable(name):
            with pytest.raises(ValueError, match="no format"):
                hu.format(name)
            continue
        f, g = Fmt(name), hu.format(name)
        assert g.canonical_name == name
        got = [
            getattr(g, a)
            for a in (
                "width",
                "emin",
                "emax",
                "largest_code",
                "least_code",
                "least_normal_code",
                "nan_code",
                "infinity_code",
            )
        ]
        assert got == [
            f.width,
            f.emin,
            f.emax,
            f.largest_code,
            f.least_code,
            f.least_normal_code,
            f.nan_code,
            f.inf_code,
        ], name
        values = hu.values(g)
        assert values.shape == (1 << f.width,)
        for c in range(1 << f.width):
            assert same(values[c], f.decode(c)), (name, hex(c))


def test_names_mean_what_the_table_says():
    assert set(hu.formats()) == set(ALIASES)
    for name, canonical in ALIASES.items():
        assert hu.format(name).canonical_name == canonical
        assert hu.format(canonical) == hu.format(name)


def test_p3109_names():
    for K in range(3, 17):
        for P in range(1, K + 1):
            for tail in ("se", "sf", "ue", "uf"):
                if not (P == K and tail[0] == "s") and (K, P) != (3, 3):
                    name = f"binary{K}p{P}{tail}"
                    assert hu.format(name).canonical_name == p3109(name)


# ---------------------------------------------------------------------------------------------
# Element-wise operations

WIDE = (
    "binary16",
    "binary32",
    "bfloat16",
    "tf32",
    "float8_e4m3fn",
    "float8_e8m0fnu",
    "binary8p1se",
    "binary8p3ue",
    "binary6p6ue",
    "binary5p2sf",
)


def random_format(rng):
    while True:
        if rng.random() < 0.25:
            return rng.choice(WIDE)
        E, p, s = rng.randrange(1, 8), rng.randrange(1, 9), rng.choice("su")
        b = rng.choice([-3, 0, 1, 5, 2 ** (E - 1) - 1, 60, -40])
        nan, inf = (
            rng.choice(["ieee", "last", "negzero", "none"]),
            rng.choice(["ieee", "last", "none"]),
        )
        tails = ["", "_nosub"] + ["_nosub_nozero"] * (s == "u")
        name = f"fp_e{E}p{p}b{b}_{s}_{nan}_{inf}{rng.choice(tails)}"
        if not usable(name):
            continue
        f = Fmt(name)
        if rng.random() < 0.3 and f.largest_code > f.least_normal_code + 1:
            name += f"_max{rng.randrange(max(1, f.least_normal_code), f.largest_code):x}"
        return name


def random_operands(rng, f, n=24):
    out = []
    for _ in range(n):
        k = rng.random()
        if k < 0.6:
            c = rng.randrange(0, f.first_special + 2)
            t = rng.choice(
                [
                    Q(0),
                    Q(1, 2),
                    Q(1, 4),
                    Q(3, 4),
                    Q(rng.randrange(1, 2**20), 2**20),
                    Q(1, 2) + Q(1, 2**18),
                    Q(1, 2) - Q(1, 2**18),
                ]
            )
            v = f.mag(c) + (f.mag(c + 1) - f.mag(c)) * t
        elif k < 0.75:
            v = f.least_normal * Q(rng.randrange(1, 2**12), 2**11)
        elif k < 0.85:
            v = f.largest * Q(rng.randrange(1, 2**12), 2**11)
        else:
            v = Q(rng.randrange(1, 2**10)) * pow2(rng.randrange(-100, 100))
        out.append(float(v * rng.choice([1, -1] if f.signed else [1, 1, 1, -1])))
    return [*out, 0.0, -0.0, *rng.sample([INF, -INF, NAN, 5e-324, -5e-324, 1.7e308], 3)]


@pytest.mark.parametrize("seed", range(4))
def test_operations_agree_with_the_definitions(seed):
    rng = random.Random(seed)
    for _ in range(330):
        name = random_format(rng)
        f, g = Fmt(name), hu.format(name)
        assert g.canonical_name == f.name
        mode, policy = rng.choice(MODES), rng.choice(POLICIES)
        if (policy == "infinity" and not f.has_inf) or (policy == "nan" and not f.has_nan):
            with pytest.raises(ValueError, match="needs a format with"):
                hu.round(1.0, g, overflow=policy)
            continue
        nan_to = rng.choice(
            ["error", "largest"] + ["zero"] * f.zero + ["negative-zero"] * f.has_negzero
        )
        tininess = rng.choice(["after", "before"])
        operation = rng.choice(["round", "encode", "add", "sub", "mul", "div", "sqrt", "fma"])
        first = random_operands(rng, f)
        count = {"round": 1, "encode": 1, "sqrt": 1, "fma": 3}.get(operation, 2)
        columns = [first] + [rng.sample(first, len(first)) for _ in range(count - 1)]
        stream = {
            "seed": rng.getrandbits(64),
            "step": rng.getrandbits(32),
            "tensor": rng.getrandbits(32),
        }
        bits, offset = rng.randrange(1, 65), rng.choice([0, rng.getrandbits(63)])
        kw = {
            "rounding": mode,
            "overflow": policy,
            "nan_to": nan_to,
            "tininess": tininess,
            "flags": True,
        }
        if mode in STOCHASTIC:
            kw |= stream | {"random_bits": bits, "offset": offset}
        want = []
        for i, row in enumerate(zip(*columns, strict=True)):
            R = random_bits_of(offset + i, r=bits, **stream)
            try:
                want.append(
                    op(
                        "round" if operation == "encode" else operation,
                        [exact(x) for x in row],
                        f,
                        mode,
                        policy=policy,
                        nan_to=nan_to,
                        tininess=tininess,
                        R=R,
                        r=bits,
                    )
                )
            except RefusedError:
                want.append(None)
        call = getattr(hu, operation)
        if None in want:
            with pytest.raises(hu.RoundingError, match=f"element {want.index(None)} "):
                call(*map(np.array, columns), g, **kw)
            if mode in STOCHASTIC:
                continue
            keep = [i for i, w in enumerate(want) if w is not None]
            columns, want = [[c[i] for i in keep] for c in columns], [want[i] for i in keep]
        y, flags = call(*map(np.array, columns), g, **kw)
        for i, (value, flag) in enumerate(want):
            ok = int(y[i]) == f.code_of(value) if operation == "encode" else same(y[i], value)
            case = (operation, name, kw, [c[i].hex() for c in columns], y[i])
            assert ok, (*case, "want", value)
            assert flags[i] == flag, (*case, "flags", flags[i], "want", flag)


def test_wide_formats():
    rng = random.Random(5)
    done = 0
    while done < 150:
        E, p = rng.choice([1, 2, 8, 11, 12, 15, 19]), rng.randrange(1, 62)
        b = rng.choice([2 ** (E - 1) - 1, 0, rng.randrange(-1100, 1100)])
        name = f"fp_e{E}p{p}b{b}_{rng.choice('su')}_{rng.choice(['ieee', 'last', 'negzero'])}_{rng.choice(['ieee', 'last', 'none'])}"
        if E + p - 1 > 63 or not usable(name):
            continue
        done += 1
        f, g = Fmt(name), hu.format(name)
        for _ in range(5):
            code = rng.getrandbits(f.width)
            got, want = hu.exact_value(g, code), f.decode(code)
            assert same(got, want) if isinstance(want, float) else Q(got) == want
        mode, offset = rng.choice(MODES), rng.choice([0, 2**61 - 5, 2**63, 2**64 - 40])
        x = [rng.choice([0.0, -0.0, INF, -INF, NAN])] + [
            math.ldexp(rng.uniform(-2, 2), rng.randrange(-1074, 1023)) for _ in range(20)
        ]
        bits = rng.randrange(1, 65)
        kw = (
            {
                "seed": 2**64 - 1,
                "step": 2**32 - 1,
                "tensor": 7,
                "offset": offset,
                "random_bits": bits,
            }
            if mode in STOCHASTIC
            else {}
        )
        codes, flags = hu.encode(np.array(x), g, mode, flags=True, **kw)
        for i, v in enumerate(x):
            R = random_bits_of(offset + i, 2**64 - 1, 2**32 - 1, 7, bits)
            value, flag = op("round", [exact(v)], f, mode, R=R, r=bits)
            assert (int(codes[i]), flags[i]) == (f.code_of(value), flag), (name, mode, v.hex())


@pytest.mark.parametrize("tail", ["none_none", "ieee_ieee", "last_last", "negzero_none"])
def test_no_zero_implies_no_sign(tail):
    """-least would have the code of -0: a signed format without zero is refused."""
    nan, inf = tail.split("_")
    with pytest.raises(ValueError, match="sign"):
        hu.format(f"fp_e3p3b3_s_{tail}_nosub_nozero")
    with pytest.raises(ValueError, match="sign"):
        hu.Format(exponent_bits=3, precision=3, nan=nan, inf=inf, subnormals=False, zero=False)


def test_a_value_of_the_format_is_never_moved():
    for name in [n for n in shapes(6, (None,)) if usable(n)][::4]:
        v = hu.values(name)
        v = v[np.isfinite(v)]
        v = v[np.abs(v) <= float(Fmt(name).largest)]
        y, flags = hu.round(v, name, flags=True)
        np.testing.assert_array_equal(np.signbit(y), np.signbit(v), err_msg=name)
        np.testing.assert_array_equal(y, v, err_msg=name)
        assert not flags.any(), name


def test_known_answer_of_philox():
    assert philox((0, 0, 0, 0), (0, 0)) & 0xFFFFFFFF == 0x6627E8D5
    assert philox((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2) & 0xFFFFFFFF == 0x408F276D


# ---------------------------------------------------------------------------------------------
# Arrays

F8 = "float8_e4m3fn"


def one_by_one(x):
    return np.array([hu.round(float(v), F8) for v in np.ravel(x)]).reshape(np.shape(x))


def test_layouts_give_the_same_values():
    base = (np.random.default_rng(0).normal(size=(7, 9)) * 100).astype(np.float32)
    unaligned = np.zeros(4 * 20 + 1, np.uint8)[1:].view(np.float32)
    unaligned[:] = base.ravel()[:20]
    locked = base.copy()
    locked.flags.writeable = False
    views = [
        base[::2, ::-3],
        base.T,
        np.asfortranarray(base),
        np.broadcast_to(base[0], (4, 9)),
        unaligned,
        locked,
        np.array(1.06),
        np.zeros((0, 3)),
    ]
    for x in views:
        y = hu.round(x, F8)
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        np.testing.assert_array_equal(np.asarray(y, np.float64), one_by_one(x))
        r = hu.round(x, F8, "stochastic", seed=3)
        np.testing.assert_array_equal(
            r, hu.round(np.ascontiguousarray(x), F8, "stochastic", seed=3).reshape(x.shape)
        )
    with pytest.raises(ValueError, match="read-only"):
        hu.round(locked, F8, out=locked)


@pytest.mark.parametrize("case", ["later", "earlier", "reversed", "transposed", "itself"])
def test_overlap_is_right_or_refused(case):
    x = np.random.default_rng(1).normal(size=49) * 100
    m = x.reshape(7, 7)
    src, dst = {
        "later": (x[:-1], x[1:]),
        "earlier": (x[1:], x[:-1]),
        "reversed": (x, x[::-1]),
        "transposed": (m, m.T),
        "itself": (x, x),
    }[case]
    want, before = hu.round(src.copy(), F8), x.copy()
    try:
        hu.round(src, F8, out=dst)
    except ValueError:
        np.testing.assert_array_equal(x, before)
    else:
        np.testing.assert_array_equal(dst, want)


def test_nothing_is_written_when_an_element_is_refused():
    x = np.full(100_000, 1.1)
    x[-1] = 1e9
    before, out = x.copy(), np.full(x.shape, 7.0)
    for target in (out, x):
        with pytest.raises(hu.RoundingError, match="element 99999 "):
            hu.round(x, F8, overflow="error", out=target)
    np.testing.assert_array_equal(x, before)
    assert (out == 7).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda o: hu.round(np.arange(5.0), F8, out=o),
        lambda o: hu.add(np.arange(5.0), 0.0, F8, out=o),
        lambda o: hu.decode(np.array([0, 56, 64, 68, 72], np.uint8), F8, out=o),
    ],
)
def test_result_in_foreign_byte_order_is_right_or_refused(call):
    out = np.full(5, -1.0, np.dtype(np.float64).newbyteorder())
    try:
        call(out)
    except (TypeError, ValueError):
        assert (out == -1).all()
    else:
        np.testing.assert_array_equal(out, np.arange(5.0))


def test_decode_to_foreign_byte_order_is_right_or_refused():
    foreign = np.dtype(np.float64).newbyteorder()
    try:
        y = hu.decode(np.array([56], np.uint8), F8, dtype=foreign)
    except (TypeError, ValueError):
        return
    assert y[0] == 1.0


@pytest.mark.parametrize(
    "x", [2**53 + 1, [2**53 + 1], [Q(1, 3)], 2**2000], ids=["int", "ints", "fractions", "huge"]
)
def test_python_numbers_are_taken_exactly_or_refused(x):
    """Operands are taken at their exact values; a silent rounding on the way in is a second one."""
    exact_x = Q(x[0] if isinstance(x, list) else x)
    try:
        y, flags = hu.round(x, "binary64", "up", flags=True)
    except (TypeError, ValueError) as error:
        y, flags, refusal = None, None, str(error)
    if y is None:
        assert "int too large" not in refusal
        return
    want, flag = finish(exact_x, Fmt("binary64"), "up")
    assert (Q(float(np.ravel(y)[0])), int(np.ravel(flags)[0])) == (want, flag)


def test_none_is_not_a_number():
    with pytest.raises(TypeError):
        hu.round([None], F8)


@pytest.mark.parametrize("code", [np.uint8(5), np.int64(5), np.uint64(5)])
def test_exact_value_takes_numpy_integers(code):
    assert hu.exact_value("float8_e4m3fn", code) == float(Fmt(F8).decode(5))
    assert hu.exact_value("binary128", code) == Fmt("binary128").decode(5)


@pytest.mark.parametrize("code", [1.0, "1", None])
def test_exact_value_names_a_bad_code(code):
    with pytest.raises((TypeError, ValueError), match="code"):
        hu.exact_value("binary128", code)


def test_offset_past_the_counter_is_exact_or_refused():
    """i may not wrap: 2^64 is another counter than 0."""
    x = np.full(2, 0.3)
    try:
        y = hu.round(x, F8, "stochastic", seed=1, offset=2**64 - 1)
    except ValueError:
        return
    want = [
        finish(Q(0.3), Fmt(F8), "stochastic", R=random_bits_of(2**64 - 1 + i, 1))[0]
        for i in range(2)
    ]
    assert [Q(float(v)) for v in y] == want


def test_negative_into_unsigned_is_not_called_nan():
    with pytest.raises(hu.RoundingError) as caught:
        hu.round(-1.0, "fp_e4p4b7_u_none_none")
    assert "negative" in str(caught.value).replace("negative-zero", "")
    assert "negative-zero" not in str(caught.value)  # refused for a format without -0: no remedy


@pytest.mark.parametrize(
    "kw",
    [
        {"max_code": -1},
        {"max_code": 1.5},
        {"exponent_bits": 4.5},
        {"exponent_bits": "4"},
        {"bias": 10**30},
        {"nan": None},
        {"signed": False},
    ],
)
def test_bad_format_arguments_give_one_sentence(kw):
    with pytest.raises((TypeError, ValueError)) as caught:
        hu.Format(**({"exponent_bits": 4, "precision": 4} | kw))
    text = str(caught.value)
    assert next(iter(kw)) in text
    assert "\n" not in text, text


def test_max_code_of_a_wide_format():
    with pytest.raises(ValueError, match=r"max_code.*64 bits"):
        hu.format("fp_e15p113b16383_s_ieee_ieee_max7ffd" + "f" * 28)
    with pytest.raises(ValueError, match=r"max_code.*64 bits"):
        hu.Format(exponent_bits=15, precision=113, max_code=2**70)


@pytest.mark.parametrize("order", ["blocked", None, 2])
def test_bad_order_gives_one_sentence(order):
    one = np.ones((1, 1), np.float32)
    with pytest.raises((TypeError, ValueError)) as caught:
        hu.matmul(one, one, order=order)
    assert "order" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mixed_half_types_are_added_or_refused_in_one_sentence():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    a, b = np.ones(2, np.float16), np.ones(2, ml_dtypes.bfloat16)
    try:
        y, refusal = hu.add(a, b, "binary16"), ""
    except (TypeError, ValueError) as error:
        y, refusal = None, str(error)
    assert y is None or (y == 2).all()
    assert len(refusal) < 200, refusal


def test_sixteen_million_elements():
    x = np.random.default_rng(2).normal(size=2**24).astype(np.float32)
    y = hu.round(x, F8, "stochastic", seed=1)
    for i in (0, 1, 12345, 2**23, 2**24 - 1):
        assert same(y[i], finish(Q(float(x[i])), Fmt(F8), "stochastic", R=random_bits_of(i, 1))[0])


# ---------------------------------------------------------------------------------------------
# Matrix product


def reference_matmul(a, b, c, product, acc, order, mode, policy, stream, offset, bits):
    M, K, N = len(a), len(a[0]), len(b[0])

    def rounded(name, site, f, *args):
        R = random_bits_of(offset + site, r=bits, **stream)
        return op(name, args, f, mode, policy=policy, R=R, r=bits)[0]

    def element(m, n):
        cell = m * N + n

        def prod(k):
            return rounded("mul", 2 * (cell * K + k), product, a[m][k], b[k][n])

        def plus(k, x, y):
            return rounded("add", 2 * (cell * K + k) + 1, acc, x, y)

        def tree(lo, hi):
            if hi - lo == 1:
                return prod(lo)
            left = 1 << ((hi - lo - 1).bit_length() - 1)
            return plus(lo + left, tree(lo, lo + left), tree(lo + left, hi))

        s = 0.0 if c is None else c[m][n]
        if order == "fma-sequential":
            for k in range(K):
                s = rounded("fma", 2 * (cell * K + k) + 1, acc, a[m][k], b[k][n], s)
        elif order == "sequential":
            for k in range(K):
                s = plus(k, s, prod(k))
        elif order == "pairwise":
            s = plus(0, tree(0, K), s)
        else:
            J = -(-K // order)
            for j in range(J):
                t = 0.0
                for k in range(j * order, min(K, (j + 1) * order)):
                    t = plus(k, t, prod(k))
                s = rounded("add", 2 * M * N * K + cell * J + j, acc, s, t)
        return s

    return [[element(m, n) for n in range(N)] for m in range(M)]


MATMUL = (
    "binary32",
    "bfloat16",
    "binary16",
    "float8_e4m3fn",
    "float8_e5m2",
    "tf32",
    "float8_e4m3fnuz",
    "fp_e5p3b15_s_ieee_ieee_nosub",
    "binary64",
)


@pytest.mark.parametrize("order", ["fma-sequential", "sequential", "pairwise", 1, 3, 4])
def test_matmul_agrees_with_the_definitions(order, cases):
    rng = random.Random(str(order))
    for _ in range(120):
        acc_name, product_name, operand_name = (
            rng.choice(MATMUL),
            rng.choice([None, *MATMUL]),
            rng.choice(MATMUL),
        )
        acc, product, operand = Fmt(acc_name), Fmt(product_name or acc_name), Fmt(operand_name)
        M, K, N = rng.randrange(1, 4), rng.randrange(1, 10), rng.randrange(1, 4)
        mode, policy = rng.choice(MODES), rng.choice(POLICIES[:3])

        def value(f=operand):
            if rng.random() < 0.1:
                return rng.choice([0.0, -0.0 if f.has_negzero else 0.0, INF if f.has_inf else 0.0])
            while True:
                v = f.decode(rng.getrandbits(f.width))
                if isinstance(v, Q) and (rng.random() < 0.1 or 2**-12 < abs(v) < 2**6):
                    return v

        a = [[value() for _ in range(K)] for _ in range(M)]
        b = [[value() for _ in range(N)] for _ in range(K)]
        c = [[value(acc) for _ in range(N)] for _ in range(M)] if rng.random() < 0.5 else None
        stream = {
            "seed": rng.getrandbits(64),
            "step": rng.getrandbits(32),
            "tensor": rng.getrandbits(32),
        }
        offset, bits = rng.choice([0, rng.getrandbits(40)]), rng.choice([1, 8, 13, 32, 33, 64])
        kw = {
            "accumulate": acc_name,
            "operands": operand_name,
            "rounding": mode,
            "overflow": policy,
            "order": order if isinstance(order, str) else f"blocked({order})",
        }
        if product_name and order != "fma-sequential":
            kw["product"] = product_name
        if mode in STOCHASTIC:
            kw |= stream | {"offset": offset, "random_bits": bits}
        arrays = [
            None if x is None else np.array([[float(v) for v in row] for row in x])
            for x in (a, b, c)
        ]
        y = hu.matmul(*arrays, **kw)
        want = reference_matmul(a, b, c, product, acc, order, mode, policy, stream, offset, bits)
        assert all(same(y[m, n], want[m][n]) for m in range(M) for n in range(N)), (
            kw,
            arrays,
            y,
            want,
        )
        name = order if isinstance(order, str) else "blocked"
        cases(M * N, "sum matmul", f"order {name}", f"format {acc_name}", f"mode {mode}")


def test_matmul_without_terms():
    for order in ("fma-sequential", "sequential", "pairwise", "blocked(3)"):
        empty = np.zeros((2, 0)), np.zeros((0, 2))
        y = hu.matmul(*empty, order=order)
        assert (y.shape, y.any(), np.signbit(y).any()) == ((2, 2), False, False)
        c = np.array([[1.0, -0.0], [np.inf, np.nan]])
        np.testing.assert_array_equal(hu.matmul(*empty, c, order=order), c)


# ---------------------------------------------------------------------------------------------
# The command line

PROGRAMS = Path(sys.executable).parent


def run(program, *args, cwd=None, timeout=20, **kw):
    return subprocess.run(
        [PROGRAMS / program, *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=timeout,
        **kw,
    )


def refused(program, *args, code=(2, 3), **kw):
    p = run(program, *args, **kw)
    assert p.returncode in code, (p.returncode, p.stdout, p.stderr)
    assert "Traceback" not in p.stderr
    assert len(p.stderr.strip().splitlines()) == 1, p.stderr
    return p.stderr


@pytest.mark.parametrize("operand", ["0x1.00000000000001p0", "0x1p-99999", "0x1p5000"])
def test_hex_floats_are_taken_exactly(operand):
    """As decimals are: no silent rounding to binary64 on the way in, and no refusal of a number."""
    m = re.fullmatch(r"0x1\.?([0-9a-f]*)p(-?\d+)", operand)
    x = (1 + Q(int(m[1] or "0", 16), 16 ** len(m[1]))) * pow2(int(m[2]))
    p = run("halfulp", "round", "--json", "--format", "binary128", operand)
    assert p.returncode == 0, p.stderr
    result = json.loads(p.stdout)["results"][0]
    value, flags = finish(x, Fmt("binary128"))
    assert (int(result["code"], 16), result["flags"]) == (Fmt("binary128").code_of(value), flags)


@pytest.mark.parametrize("operand", ["1e99999999999", "1e-99999999999"])
def test_a_huge_exponent_ends_soon(operand):
    p = run("halfulp", "round", "--format", F8, operand, timeout=5)
    assert "Traceback" not in p.stderr


def test_op_takes_only_exact_hex_floats_or_says_so():
    p = run("halfulp", "op", "add", "--format", "binary64", "0x1p-2000", "0", "--flags")
    assert p.returncode == 2 or "taken as" in p.stderr or "underflow inexact" in p.stdout


def test_png_is_written_where_it_is_said(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    refused("halfulp", "formats", "float6_e2m3fn", "--png", folder)
    assert sorted(tmp_path.iterdir()) == [folder]


def test_png_is_png_whatever_its_name(tmp_path):
    p = run("halfulp", "formats", "float6_e2m3fn", "--png", tmp_path / "x.jpg")
    assert p.returncode != 0 or (tmp_path / "x.jpg").read_bytes().startswith(b"\x89PNG")


SWEEP = """
name = "small"
question = "Does it hold?"
baseline = "fp32"
[cell]
training = { steps = 4, batch = 8, evaluate_every = 2 }
model.hidden = [4]
[axes]
precision = ["fp32", "bf16"]
training.seed = [0, 1]
[precision.fp32]
[precision.bf16]
weights = { format = "bfloat16" }
"""


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("model.hidden", "model.hiden", "hiden"),
        ("weights =", "weigts =", "weigts"),
        ("[axes]", "[axe]", "axe"),
        ("steps = 4", "steps = 0", "steps"),
        ("steps = 4", 'steps = "4"', "steps"),
        ("[0, 1]", "[0, -1]", "seed"),
        ("[0, 1]", "[0, 0]", "seed"),
        ("[0, 1]", "[]", "seed"),
        ("hidden = [4]", "hidden = [0]", "hidden"),
        ("hidden = [4]", "hidden = 4", "hidden"),
        ("[axes]", "[axes]\noptimizer.learning_rate = [-1.0]", "learning_rate"),
        ("[axes]", "[axes]\noptimizer.learning_rate = [nan]", "learning_rate"),
        ('"bfloat16"', '"bfloat17"', "bfloat17"),
        ("training = { steps = 4, batch = 8, evaluate_every = 2 }", "training = 5", "training"),
        (
            "[precision.fp32]",
            "[[control]]\ncell = {training.steps = 3}\n[precision.fp32]",
            "control",
        ),
    ],
)
def test_a_bad_sweep_is_refused_and_leaves_nothing(tmp_path, old, new, word):
    assert old in SWEEP
    (tmp_path / "s.toml").write_text(SWEEP.replace(old, new))
    assert word in refused("halfulp", "sweep", "s.toml", "--out", "out", cwd=tmp_path, code=(2,))
    assert not (tmp_path / "out").exists()


def test_nonsense_and_unwritable_places_are_refused(tmp_path):
    (tmp_path / "s.toml").write_text(SWEEP)
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe = [")
    refused("halfulp", "sweep", "bad.toml", "--out", "out", cwd=tmp_path)
    for out in ("s.toml", "s.toml/x", "/proc/halfulp"):
        assert str(out) in refused(
            "halfulp", "sweep", "s.toml", "--out", out, cwd=tmp_path, code=(3,)
        )
    for command in ("status", "table", "report"):
        refused("halfulp", command, "nowhere", cwd=tmp_path)
    assert (tmp_path / "s.toml").read_text() == SWEEP


def test_broken_cells_are_run_again_and_the_rest_is_kept(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "s.toml").write_text(SWEEP)
    assert (
        run(
            "halfulp", "sweep", "s.toml", "--out", "out", "--jobs", 1, cwd=tmp_path, timeout=60
        ).returncode
        == 0
    )
    cells = sorted((tmp_path / "out" / "cells").glob("*.h5"))
    kept = cells[3].read_bytes()
    cells[0].write_bytes(b"")
    cells[1].write_bytes(cells[1].read_bytes()[:3000])
    with h5py.File(cells[2], "a") as h:
        del h["checkpoint"]
    assert "3 corrupt" in run("halfulp", "status", "out", cwd=tmp_path).stdout
    (tmp_path / "out" / "cells" / "0.h5.part").write_bytes(b"x")
    assert (
        run(
            "halfulp", "sweep", "s.toml", "--out", "out", "--jobs", 1, cwd=tmp_path, timeout=60
        ).returncode
        == 0
    )
    assert cells[3].read_bytes() == kept
    assert len(list((tmp_path / "out" / "cells").glob("*.corrupt"))) == 3
    assert not list((tmp_path / "out" / "cells").glob("*.part"))


def test_cell_says_bad_arguments_with_2(tmp_path):
    (tmp_path / "c.toml").write_text("[training]\nsteps = 1\n")
    refused("halfulp-cell", "--spec", "c.toml", "--out", "x.h5", cwd=tmp_path, code=(2,))
    assert not (tmp_path / "x.h5").exists()


def test_an_empty_data_file_is_called_damaged(tmp_path):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "digits.csv").touch()
    (tmp_path / "c.toml").write_text("[training]\nsteps = 1\n")
    text = refused(
        "halfulp-cell", "--spec", "c.toml", "--out", "x.h5.part", "--data", ".", cwd=tmp_path
    )
    assert "digits.csv" in text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_is_named():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        p = subprocess.run(
            [PROGRAMS / "halfulp", "formats"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
        )
    assert p.returncode == 3
    assert "No space left" in p.stderr
    assert "Errno" not in p.stderr
