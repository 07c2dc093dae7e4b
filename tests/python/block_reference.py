"""Block formats again, in exact rationals, from docs/block-formats.md and docs/definitions.md alone.

Values of element formats are listed, and neighbours are looked up in the list; nothing here works
on codes as numbers, and nothing is shared with the package.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from fractions import Fraction as Q

import numpy as np


def floats(exponent_bits: int, fraction_bits: int, bias: int, count: int) -> list[Q]:
    """The first `count` magnitudes of a format with subnormals, in the order of their codes."""
    values = []
    for code in range(count):
        e, m = divmod(code, 2**fraction_bits)
        unit = Q(2) ** (max(e, 1) - bias - fraction_bits)
        values.append((m + (2**fraction_bits if e else 0)) * unit)
    return values


E4M3 = floats(4, 3, 7, 0x7F)
E5M2 = floats(5, 2, 15, 0x7C)
E2M3 = floats(2, 3, 1, 32)
E3M2 = floats(3, 2, 3, 32)
E2M1 = floats(2, 1, 1, 8)
assert (E4M3[-1], E5M2[-1], E2M3[-1], E3M2[-1], E2M1[-1]) == (448, 57344, Q(15, 2), 28, 6)


def uniform(magnitude_bits: int, quantum: int) -> list[Q]:
    return [n * Q(2) ** quantum for n in range(2**magnitude_bits)]


def floor_log2(x: Q) -> int:
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Q(2) ** e <= x else e - 1


def goes_away(mode: str, frac: Q, lower_is_odd: bool, negative: bool, R: int, r: int) -> bool:
    """Whether a value between two neighbours takes the one of larger magnitude."""
    if frac == 0:
        return False
    half = Q(1, 2)
    rules = {
        "nearest-even": frac > half or (frac == half and lower_is_odd),
        "nearest-away": frac >= half,
        "nearest-zero": frac > half,
        "toward-zero": False,
        "up": not negative,
        "down": negative,
        "away": True,
        "odd": not lower_is_odd,
        "stochastic": math.floor(2**r * frac) + R >= 2**r,
        "stochastic-b": math.floor(2 ** (r + 1) * frac) + 2 * R + 1 >= 2 ** (r + 1),
        "stochastic-c": round(2**r * frac) + R >= 2**r,
        "stochastic-equal": 2 ** (r - 1) <= R,
    }
    return rules[mode]


def index_of(x: Q, values: list[Q], mode: str, negative: bool, R: int = 0, r: int = 32) -> int:
    """Which of the magnitudes x >= 0 is rounded to; the last one beyond it."""
    lower = bisect_right(values, x) - 1
    if lower == len(values) - 1:
        return lower
    frac = (x - values[lower]) / (values[lower + 1] - values[lower])
    return lower + goes_away(mode, frac, bool(lower & 1), negative, R, r)


def root(x: Q) -> Q:
    """√x, or a number so close above its first 300 bits that every rounding is the same."""
    k = 300
    scaled = x * Q(4) ** k
    whole = math.isqrt(math.floor(scaled))
    return Q(whole, 2**k) + (Q(1, 2 ** (k + 2)) if whole**2 != scaled else 0)


FLOAT32_MAX = (2 - Q(2) ** -23) * Q(2) ** 127


def rn32(x: Q) -> Q:
    """To nearest even in binary32, at most its largest value."""
    if x == 0:
        return x
    unit = Q(2) ** (max(floor_log2(abs(x)), -126) - 23)
    y = round(x / unit) * unit
    return max(-FLOAT32_MAX, min(FLOAT32_MAX, y))


def code32(x: Q) -> int:
    return int(np.float32(float(x)).view(np.uint32))


def power_of_two_exponent(rule: str, amax: Q, emax: int, largest: Q, p: int) -> int:
    e = floor_log2(amax)
    if rule == "floor":
        return e - emax
    if rule == "ceil":
        return e + (amax != Q(2) ** e) - emax
    if rule == "rceil":
        k = -400 - emax if amax < Q(2) ** -400 else e - emax - 2
        while largest * Q(2) ** k < amax:
            k += 1
        return k
    assert rule == "even"
    unit = Q(2) ** (e - p + 1)
    return floor_log2(math.floor(amax / unit + Q(1, 2)) * unit) - emax


def philox(counter: list[int], key: list[int]) -> list[int]:
    x, (k0, k1) = list(counter), key
    for _ in range(10):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(b >> 32) ^ x[1] ^ k0, b & 0xFFFFFFFF, (a >> 32) ^ x[3] ^ k1, a & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return x


def random_number(i: int, seed: int, r: int = 32) -> int:
    B = next(b for b in (8, 16, 32, 64) if b >= r)
    block = i * B // 128
    words = philox(
        [block & 0xFFFFFFFF, block >> 32, 0, 0], [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF]
    )
    stream = sum(w << (32 * k) for k, w in enumerate(words))
    return ((stream >> (i * B % 128)) & (2**B - 1)) >> (B - r)


@dataclass
class Reference:
    """One block format. bits: of an element; p: its precision; whole: the integers' kind."""

    values: list[Q]
    bits: int
    p: int
    scale: str = "e8m0"  # e8m0, e4m3, float32
    rule: str = "floor"
    block: int | str = 32
    integers: str = ""  # "", "symmetric", "full", "bipolar", "affine_signed", "affine_unsigned"
    scale_mode: str = "nearest-even"
    target: int = 0
    exponents: tuple[int, int] = (-127, 127)
    clip: Q = Q(0)  # of rule rms
    largest: Q = field(init=False)

    def __post_init__(self) -> None:
        self.largest = self.values[-1]

    # ------------------------------------------------------------- scales
    def tensor_scale(self, finite: list[Q]) -> Q:
        amax = max((abs(x) for x in finite), default=Q(0))
        if not self.target or amax == 0:
            return Q(1)
        if self.rule == "te":
            return rn32(1 / self.te_encode(amax))
        return rn32(amax / (self.largest * self.target)) or Q(1)

    @staticmethod
    def te_encode(amax: Q) -> Q:
        return rn32(2688 / rn32(amax)) if rn32(amax) else Q(1)

    def block_scale(self, xs: list, s_g: Q, tensor_amax: Q) -> tuple[int, Q | None, int]:
        """(code, value, zero point); the value None is NaN."""
        nan = {
            "e8m0": 2 ** (self.exponents[1].bit_length() + 1) - 1,
            "e4m3": 0x7F,
            "float32": 0x7FC00000,
        }[self.scale]
        if any(x is None for x in xs):
            return nan, None, 0
        amax = max((abs(x) for x in xs), default=Q(0))
        low, high = self.exponents
        if self.rule in ("floor", "ceil", "rceil", "even"):
            e = low
            if amax:
                e = power_of_two_exponent(
                    self.rule, amax, floor_log2(self.largest), self.largest, self.p
                )
            e = max(low, min(high, e))
            return e - low, Q(2) ** e, 0
        if self.rule == "minmax":
            return self.affine(xs)
        if self.rule == "te":
            factor = (
                rn32(self.te_encode(tensor_amax) * rn32(Q(1, 6))) if tensor_amax else rn32(Q(1, 6))
            )
            k = index_of(rn32(rn32(amax) * factor), E4M3, "nearest-even", False)
            return k, E4M3[k], 0
        if self.rule == "mse":
            return self.least_squares(xs, amax, s_g)
        exact = amax / (self.largest * s_g)
        if self.rule == "rms":
            mean = sum(x * x for x in xs) / len(xs)
            exact = root(self.clip**2 * mean / (self.largest * s_g) ** 2)
        return self.rounded_scale(exact)

    def least_squares(self, xs: list[Q], amax: Q, s_g: Q) -> tuple[int, Q, int]:
        low, high = self.exponents
        if self.scale == "e8m0":
            e = floor_log2(amax) - floor_log2(self.largest) if amax else low - 2
            exponents = [max(low, min(high, e + k)) for k in (-2, -1, 0, 1)]
            candidates = [(e - low, Q(2) ** e, 0) for e in exponents]
        else:
            unit = amax / (self.largest * s_g)
            candidates = [self.rounded_scale(unit * k / 16) for k in range(8, 25)]

        def error(scale: Q) -> Q:
            def value(x: Q) -> Q:
                return self.element(x, False, scale, s_g, 0, "nearest-even", 0, 1)[1] * scale * s_g

            return sum((x - value(x)) ** 2 for x in xs)

        return min(candidates, key=lambda c: (error(c[1]), -c[1]))

    def rounded_scale(self, exact: Q) -> tuple[int, Q, int]:
        low, high = self.exponents
        if self.scale == "e4m3":
            k = index_of(exact, E4M3, self.scale_mode, False)
            return k, E4M3[k], 0
        if self.scale == "float32":
            return code32(rn32(exact)), rn32(exact), 0
        # A power of two between two powers of two; at half-way the one with the even code.
        if exact <= Q(2) ** low:
            e = low
        else:
            e = floor_log2(exact)
            e += goes_away(self.scale_mode, exact / Q(2) ** e - 1, bool((e - low) & 1), False, 0, 1)
        e = min(high, e)
        return e - low, Q(2) ** e, 0

    def affine(self, xs: list[Q]) -> tuple[int, Q, int]:
        low, high = self.limits()
        top, bottom = max([Q(0), *xs]), min([Q(0), *xs])
        spread = rn32(top - bottom)
        scale = rn32(spread / (high - low))
        if scale == 0:
            return 0, Q(0), 0
        z = rn32(low - rn32(bottom / scale))
        return code32(scale), scale, max(low, min(high, round(z)))

    def limits(self) -> tuple[int, int]:
        half = 2 ** (self.bits - 1)
        return {
            "symmetric": (1 - half, half - 1),
            "full": (-half, half - 1),
            "affine_signed": (-half, half - 1),
            "affine_unsigned": (0, 2 * half - 1),
        }[self.integers]

    # ------------------------------------------------------------- elements
    def element(self, x: Q, minus_zero: bool, scale: Q, s_g: Q, z: int, mode: str, R: int, r: int):
        """(code, value before scaling)"""
        if self.integers == "bipolar":
            return self.bipolar(x, scale * s_g, mode, R, r)
        if scale == 0 and self.rule != "te":
            return z & (2**self.bits - 1), Q(0)
        if self.rule == "te":
            product = rn32(scale * s_g)
            factor = rn32(1 / product) if product else FLOAT32_MAX
            quotient = rn32(rn32(x) * factor)
        else:
            quotient = x / (scale * s_g)
        negative = x < 0 or minus_zero
        if not self.integers:
            k = index_of(abs(quotient), self.values, mode, negative, R, r)
            return k | (negative << (self.bits - 1)), (-1 if negative else 1) * self.values[k]
        low, high = self.limits()
        units = abs(quotient) / self.values[1]
        k = math.floor(units)
        k += goes_away(mode, units - k, bool(k & 1), negative, R, r)
        n = max(low - z, min(high - z, -k if negative else k))
        return (n + z) & (2**self.bits - 1), n * self.values[1]

    def bipolar(self, x: Q, scale: Q, mode: str, R: int, r: int) -> tuple[int, Q]:
        """Neighbours m - 1/2 in steps; of smaller magnitude first, and of those -1/2."""
        half = 2 ** (self.bits - 1)
        step = 2 * (self.values[1] - self.values[0])
        if scale == 0:
            return half, step / 2
        t = x / (scale * step)
        below = math.floor(t - Q(1, 2)) + 1
        exact = t == below - Q(1, 2)
        pair = [below] if exact else sorted([below, below + 1], key=lambda m: (abs(m - Q(1, 2)), m))
        inner, outer = pair[0] - Q(1, 2), pair[-1] - Q(1, 2)
        frac = abs(t - inner)
        m = pair[goes_away(mode, frac, bool(pair[0] & 1), outer < inner, R, r)]
        m = max(1 - half, min(half, m))
        return m + half - 1, (m - Q(1, 2)) * step

    # ------------------------------------------------------------- a vector
    def quantize(
        self,
        x: np.ndarray,
        mode: str,
        rule: str | None = None,
        seed: int = 0,
        r: int = 32,
        tensor_scale: Q | None = None,
    ):
        """(codes, scale codes, zero points, tensor scale, exact values; None for NaN)"""
        numbers = [Q(float(v)) if math.isfinite(v) else None for v in x.tolist()]
        minus = np.signbit(x.astype(np.float64)).tolist()
        kept, self.rule = self.rule, rule or self.rule
        finite = [v for v in numbers if v is not None]
        s_g = self.tensor_scale(finite) if tensor_scale is None else tensor_scale
        tensor_amax = max((abs(v) for v in finite), default=Q(0))
        n = len(numbers) if self.block == "tensor" else self.block
        codes, scales, zeros, values = [], [], [], []
        for start in range(0, len(numbers), n or 1):
            xs = numbers[start : start + n]
            code, scale, z = self.block_scale(xs, s_g, tensor_amax)
            scales.append(code)
            zeros.append(z)
            for k, v in enumerate(xs):
                if scale is None:
                    codes.append(0)
                    values.append(None)
                    continue
                R = random_number(start + k, seed, r) if mode.startswith("stochastic") else 0
                c, e = self.element(v, v == 0 and minus[start + k], scale, s_g, z, mode, R, r)
                codes.append(c)
                values.append(e * scale * s_g)
        self.rule = kept
        return codes, scales, zeros, s_g, values


def bfp(m: int, e: int, n: int, integers: str = "") -> Reference:
    low = -(2 ** (e - 1) - 1)
    # The last code is NaN, so the exponents are 2^e − 1 in number.
    return Reference(
        uniform(m, 1 - m), m + 1, m, block=n, integers=integers, exponents=(low, low + 2**e - 2)
    )


REFERENCES = {
    "mxfp8_e4m3": Reference(E4M3, 8, 4),
    "mxfp8_e5m2": Reference(E5M2, 8, 3),
    "mxfp6_e2m3": Reference(E2M3, 6, 4),
    "mxfp6_e3m2": Reference(E3M2, 6, 3),
    "mxfp4": Reference(E2M1, 4, 2),
    "mxint8": Reference(uniform(7, -6), 8, 7, integers="symmetric"),
    "nvfp4": Reference(E2M1, 4, 2, scale="e4m3", rule="absmax", block=16, target=448),
    "nvfp4_te": Reference(E2M1, 4, 2, scale="e4m3", rule="te", block=16, target=448),
    "dfp16": Reference(uniform(15, 0), 16, 15, block="tensor", integers="symmetric"),
    "int8_symmetric": Reference(uniform(7, 0), 8, 7, "float32", "absmax", "tensor", "symmetric"),
    "int4_symmetric": Reference(uniform(3, 0), 4, 3, "float32", "absmax", 32, "symmetric"),
    "int8_affine": Reference(uniform(7, 0), 8, 7, "float32", "minmax", "tensor", "affine_signed"),
    "uint8_affine": Reference(
        uniform(7, 0), 8, 7, "float32", "minmax", "tensor", "affine_unsigned"
    ),
    "uint4_affine": Reference(uniform(3, 0), 4, 3, "float32", "minmax", 32, "affine_unsigned"),
    "block_1x32__float4_e2m1fn__float8_e8m0fnu__mse": Reference(E2M1, 4, 2, rule="mse"),
    "block_1x8__int8q-6__float8_e8m0fnu__mse": Reference(
        uniform(7, -6), 8, 7, rule="mse", block=8, integers="symmetric"
    ),
    "block_1x16__float4_e2m1fn__float8_e4m3fn__mse__t448": Reference(
        E2M1, 4, 2, scale="e4m3", rule="mse", block=16, target=448
    ),
    "block_1x11__int4q0__binary32__mse": Reference(
        uniform(3, 0), 4, 3, "float32", "mse", 11, "symmetric"
    ),
    "block_1x12__bipolar3q-1__binary32__mse": Reference(
        uniform(3, -1), 3, 3, "float32", "mse", 12, "bipolar"
    ),
    "block_1x16__float4_e2m1fn__float8_e4m3fn__rms__t448": Reference(
        E2M1, 4, 2, "e4m3", "rms", 16, target=448, clip=Q(2.9224750713736955)
    ),
    "block_1x10__int2q0__binary32__rms": Reference(
        uniform(1, 0), 2, 1, "float32", "rms", 10, "symmetric", clip=Q(1.2240089519030855)
    ),
    "block_1x9__bipolar1q-1__binary32__rms": Reference(
        uniform(1, -1), 1, 1, "float32", "rms", 9, "bipolar", clip=Q(0.7978845587140913)
    ),
    "block_1x20__bipolar4q-1__binary32__rms": Reference(
        uniform(4, -1), 4, 4, "float32", "rms", 20, "bipolar", clip=Q(2.513930578568423)
    ),
    "block_1x20__bipolar8q-1__float8_e8m0fnu__rms__up": Reference(
        uniform(8, -1),
        8,
        8,
        rule="rms",
        block=20,
        integers="bipolar",
        scale_mode="up",
        clip=Q(3.884938678807525),
    ),
    "bfp_m7_e8_b16": bfp(7, 8, 16),
    "bfp_m3_e5_b8": bfp(3, 5, 8),
    "bfp_m4_e4_b5_tc": bfp(4, 4, 5, "symmetric"),
    "bfp_m1_e8_b4_tc": bfp(1, 8, 4, "symmetric"),
    "block_1x32__intfull8q-6__float8_e8m0fnu__floor": Reference(
        uniform(7, -6), 8, 7, integers="full"
    ),
    "block_1x8__float4_e2m1fn__float8_e8m0fnu__absmax__up": Reference(
        E2M1, 4, 2, rule="absmax", block=8, scale_mode="up"
    ),
    "block_1x8__float8_e4m3fn__float8_e8m0fnu__absmax": Reference(
        E4M3, 8, 4, rule="absmax", block=8
    ),
    "block_1x8__float4_e2m1fn__float8_e8m0fnu__absmax__t1__down": Reference(
        E2M1, 4, 2, rule="absmax", block=8, scale_mode="down", target=1
    ),
    "block_1x7__float8_e5m2__binary32__absmax": Reference(E5M2, 8, 3, "float32", "absmax", 7),
    "block_1x9__float6_e2m3fn__ue4m3__absmax__t448": Reference(
        E2M3, 6, 4, "e4m3", "absmax", 9, target=448
    ),
    "block_1x9__int5q0__float8_e4m3fn__absmax": Reference(
        uniform(4, 0), 5, 4, "e4m3", "absmax", 9, "symmetric"
    ),
}
