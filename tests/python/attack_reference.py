"""What the attacking tests compare with: written from docs/definitions.md, with lists of values and rationals only.

A format here is its list of magnitudes by code, without infinities and NaN; results are floats.
"""

from __future__ import annotations

import bisect
import math
from fractions import Fraction
from functools import cache

import numpy as np

# name: (exponent bits, precision, bias, number of magnitudes that are finite, has infinity, has NaN)
FORMATS = {
    "float4_e2m1fn": (2, 2, 1, 8, False, False),
    "float6_e2m3fn": (2, 4, 1, 32, False, False),
    "float6_e3m2fn": (3, 3, 3, 32, False, False),
    "float8_e4m3fn": (4, 4, 7, 127, False, True),
    "float8_e4m3": (4, 4, 7, 120, True, True),
    "float8_e5m2": (5, 3, 15, 124, True, True),
    "binary16": (5, 11, 15, 31 << 10, True, True),
    "bfloat16": (8, 8, 127, 255 << 7, True, True),
}


def magnitude(code: int, name: str) -> Fraction:
    _, precision, bias, _, _, _ = FORMATS[name]
    field, fraction = code >> (precision - 1), code & ((1 << (precision - 1)) - 1)
    if field == 0:
        return Fraction(fraction) * Fraction(2) ** (2 - bias - precision)
    return Fraction((1 << (precision - 1)) | fraction) * Fraction(2) ** (
        field - bias - precision + 1
    )


@cache
def magnitudes(name: str) -> list[Fraction]:
    """All finite ones, then the next there would be."""
    return [magnitude(code, name) for code in range(FORMATS[name][3] + 1)]


def rounded(v: Fraction, name: str, mode: str, negative_zero: bool = False) -> float:
    """v rounded once under the policy `ieee`; a v of 0 has the sign given."""
    _, _, _, finite, has_infinity, has_nan = FORMATS[name]
    if v == 0:
        return -0.0 if negative_zero else 0.0
    negative, m = v < 0, abs(v)
    values = magnitudes(name)
    outward = mode == "away" or mode == ("down" if negative else "up")
    inward = mode == "toward-zero" or mode == ("up" if negative else "down")
    if m >= values[-1]:
        code = finite
    else:
        code = bisect.bisect_right(values, m) - 1
        if values[code] != m:
            twice, both = 2 * m, values[code] + values[code + 1]
            if outward:
                code += 1
            elif mode == "odd":
                code |= 1
            elif not inward:
                tie = {"nearest-even": code & 1, "nearest-away": 1, "nearest-zero": 0}[mode]
                code += 1 if twice > both or (twice == both and tie) else 0
    if code == finite:
        if inward or mode == "odd":
            code = finite - 1
        elif has_infinity:
            return -math.inf if negative else math.inf
        elif has_nan:
            return math.nan
        else:
            code = finite - 1
    result = float(values[code])
    return -result if negative else result


def philox(seed: int, counters: np.ndarray, tensor: int, step: int) -> np.ndarray:
    """Philox4x32-10 of Salmon et al. 2011: four words of each 64-bit counter."""
    c = [
        counters & np.uint64(0xFFFFFFFF),
        counters >> np.uint64(32),
        np.full_like(counters, tensor),
        np.full_like(counters, step),
    ]
    k = [seed & 0xFFFFFFFF, seed >> 32]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p = np.uint64(0xD2511F53) * c[0]
        q = np.uint64(0xCD9E8D57) * c[2]
        c = [
            (q >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]),
            q & low,
            (p >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]),
            p & low,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c, axis=-1)


def random_bits(seed: int, first: int, n: int, r: int, tensor: int = 0, step: int = 0) -> list[int]:
    """R of the n elements from index `first`."""
    width = next(b for b in (8, 16, 32, 64) if b >= r)
    indices = [first + i for i in range(n)]
    counters = np.array([i * width // 128 for i in indices], np.uint64)
    words = philox(seed, counters, tensor, step)
    out = []
    for i, four in zip(indices, words.tolist(), strict=True):
        all_bits = sum(w << (32 * j) for j, w in enumerate(four))
        out.append(((all_bits >> (i * width % 128)) & ((1 << width) - 1)) >> (width - r))
    return out


def stochastic(v: Fraction, name: str, mode: str, r: int, bits: int) -> float:
    """v rounded by r bits; v below the largest value."""
    if v == 0:
        return 0.0
    negative, m = v < 0, abs(v)
    values = magnitudes(name)
    code = bisect.bisect_right(values, m) - 1
    frac = (m - values[code]) / (values[code + 1] - values[code])
    if frac:
        if mode == "stochastic":
            up = math.floor(frac * 2**r) + bits >= 2**r
        elif mode == "stochastic-b":
            up = math.floor(frac * 2 ** (r + 1)) + 2 * bits + 1 >= 2 ** (r + 1)
        elif mode == "stochastic-c":
            up = round(frac * 2**r) + bits >= 2**r
        else:
            up = bits >> (r - 1)
        code += bool(up)
    result = float(values[code])
    return -result if negative else result


def same(got: object, want: object) -> bool:
    """Equal bits of floating-point arrays, but all NaN alike."""
    g, w = np.asarray(got), np.asarray(want)
    if g.shape != w.shape or g.dtype != w.dtype:
        return False
    return bool(np.all((g == w) & (np.signbit(g) == np.signbit(w)) | (np.isnan(g) & np.isnan(w))))
