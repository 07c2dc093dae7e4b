"""Rounding of an exact number into a float format again, in rationals, from docs/definitions.md.

It shares no code with the package. A number is a Fraction, or a `Root`: a Fraction times √2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction as Q
from functools import total_ordering


@total_ordering
@dataclass(frozen=True)
class Root:
    """factor · √2."""

    factor: Q

    def __lt__(self, other: Q) -> bool:
        signed = self.factor * abs(self.factor) * 2
        return signed < other * abs(other)

    def __eq__(self, other: object) -> bool:
        return self.factor == 0 == other

    def __neg__(self) -> Root:
        return Root(-self.factor)

    def floor_times(self, n: Q) -> int:
        """floor(self * n) for self > 0, n > 0."""
        scaled = (self.factor * n) ** 2 * 2
        return math.isqrt(scaled.numerator // scaled.denominator)


def floor_times(x: Q | Root, n: Q) -> int:
    return x.floor_times(n) if isinstance(x, Root) else math.floor(x * n)


def away(mode: str, frac2: tuple[int, int], negative: bool, odd: bool, R: int, r: int) -> bool:
    """frac2: floor(2^80 · frac) and whether it is more than that."""
    f, more = frac2
    half = 1 << 79
    above = f > half or (f == half and more)
    tie = f == half and not more
    g = f >> (80 - r) if r <= 80 else f << (r - 80)
    g1 = f >> (79 - r)
    rest = more or f & ((1 << (79 - r)) - 1) != 0
    nearest = (g1 + 1) // 2 if g1 % 2 and (rest or g % 2) else g
    return {
        "nearest-even": above or (tie and odd),
        "nearest-away": above or tie,
        "nearest-zero": above,
        "toward-zero": False,
        "up": not negative,
        "down": negative,
        "away": True,
        "odd": not odd,
        "stochastic": g + R >= 1 << r,
        "stochastic-b": g1 + 2 * R + 1 >= 2 << r,
        "stochastic-c": nearest + R >= 1 << r,
        "stochastic-equal": R >> (r - 1) == 1,
    }[mode]


def round_to(
    x: Q | Root, precision: int, emin: int, largest: Q, mode: str, R: int = 0, r: int = 32
) -> float:
    """x != 0 in a format with subnormals, infinities and overflow 'ieee', as a float64."""
    negative = x < 0
    m = -x if negative else x
    low = m.factor if isinstance(m, Root) else m
    e = max(emin, low.numerator.bit_length() - low.denominator.bit_length() - 1)
    while not m < Q(2) ** (e + 1):
        e += 1
    quantum = Q(2) ** (e - precision + 1)
    kept = floor_times(m, 1 / quantum)
    rest = floor_times(m, Q(2) ** 80 / quantum) - (kept << 80)
    exact = not isinstance(m, Root) and m * 2**80 / quantum == (kept << 80) + rest
    if rest or not exact:
        # Codes of p >= 2 bits: the last bit of the code is that of the significand.
        kept += away(mode, (rest, not exact), negative, kept % 2 == 1, R, r)
    value = kept * quantum
    if value > largest:
        stays = mode in ("toward-zero", "odd") or mode == ("up" if negative else "down")
        value = largest if stays else math.inf
    return -float(value) if negative else float(value)
