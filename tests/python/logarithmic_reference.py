"""Logarithmic numbers once more, from docs/logarithmic.md, in rigorous balls (Arb, by python-flint).

Nothing of halfulp is used. A comparison is a ball that excludes 0, or one so small that 0 is all it
can be: where `bits` is that of `proof_bits`, by a bound on algebraic numbers of degree 2^f.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction as Q

import flint
from flint import arb
from modes import STOCHASTIC

INEXACT, UNDERFLOW, OVERFLOW, DIVIDE_BY_ZERO, INVALID = 1, 2, 4, 8, 16
DISTANCES = ("value", "logarithm")


def proof_bits(n: int, f: int) -> int:
    """Bits that prove a comparison of n-bit numbers with f fraction bits of the exponent.

    What is compared is an integer combination of five powers of t = 2^(1/2N), N = 2^f, with factors
    below 2^40 and exponents within ±2w, w = 2^(n-2-f) + 1. Times 2^2w it is an algebraic integer of
    degree at most 2N, whose conjugates are below 2^(43 + 4w). The product of them all is an
    integer, so it is 0 or no less than 2^-(2N (43 + 4w)). (Stochastic modes in the logarithm have
    thresholds of a higher degree, for which this proves nothing.)
    """
    w = (1 << (n - 2)) // (1 << f) + 1
    return 750 + 2 * (1 << f) * (45 + 4 * w)


def rational(q: Q) -> arb:
    return arb(q.numerator) / arb(q.denominator)


class Reference:
    def __init__(self, width: int, fraction_bits: int, bits: int | None = None) -> None:
        self.n, self.f = width, fraction_bits
        self.bits = proof_bits(width, fraction_bits) if bits is None else bits
        self.largest = 2 ** (width - 2) - 1
        self.zero, self.nan = 1 << (width - 2), 3 << (width - 2)
        self._powers: dict[int, arb] = {}

    def _ready(self) -> None:
        flint.ctx.prec = self.bits

    def sign(self, ball: arb) -> int:
        if ball > 0:
            return 1
        if ball < 0:
            return -1
        assert ball.rad() < arb(2) ** (600 - self.bits)
        return 0

    def half_power(self, j: int) -> arb:
        """2^(j / 2^(f+1))."""
        if j not in self._powers:
            self._ready()
            step = 1 << (self.f + 1)
            whole, part = divmod(j, step)
            self._powers[j] = (arb(2).log() * part / step).exp() * arb(2) ** whole
            if part == 0:
                self._powers[j] = arb(2) ** whole
        return self._powers[j]

    def power(self, k: int) -> arb:
        return self.half_power(2 * k)

    def logarithm(self, code: int) -> int | None:
        """k; None for zero and NaN."""
        field = code % (1 << (self.n - 1))
        if field == 1 << (self.n - 2):
            return None
        return field - (1 << (self.n - 1)) if field >> (self.n - 2) else field

    def is_negative(self, code: int) -> bool:
        return code >> (self.n - 1) == 1

    def code(self, negative: bool, k: int) -> int:
        return k % (1 << (self.n - 1)) + (negative << (self.n - 1))

    def value(self, code: int) -> arb:
        k = self.logarithm(code)
        if k is None:
            return arb(0)
        return -self.power(k) if self.is_negative(code) else self.power(k)

    # ---------------------------------------------------------------- rounding
    def place(self, v: arb) -> tuple[int, int]:
        """The greatest k with 2^(k/2^f) <= v, and the sign of the difference."""
        self._ready()
        man, exp = v.mid().man_exp()
        shift = int(man).bit_length() - 60
        top = int(man) >> shift if shift > 0 else int(man)
        k = math.floor((math.log2(top) + int(exp) + max(shift, 0)) * 2**self.f)
        while (s := self.sign(v / self.power(k) - 1)) < 0:
            k -= 1
        while self.sign(v / self.power(k + 1) - 1) >= 0:
            k += 1
            s = self.sign(v / self.power(k) - 1)
        return k, s

    def _stochastic(
        self, mode: str, r: int, random: int, beyond: Callable[[int, int], int]
    ) -> bool:
        """beyond(t, b): the sign of frac - t/2^b."""
        if mode == "stochastic-equal":
            return random >> (r - 1) == 1
        if mode == "stochastic-c":
            low, high = 0, (1 << r) + 1  # floor(2^r frac): low <= it < high
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if beyond(middle, r) >= 0 else (low, middle)
            half = beyond(2 * low + 1, r + 1)
            rounded = low + (half > 0 or (half == 0 and low % 2 == 1))
            return rounded + random >= 1 << r
        bits, drawn = (r, random) if mode == "stochastic" else (r + 1, 2 * random + 1)
        # floor(2^b·frac) >= t for an integer t says frac >= t / 2^b.
        return beyond((1 << bits) - drawn, bits) >= 0

    def _away(
        self, v: arb, k: int, gap: bool, negative: bool, mode: str, distance: str, r: int, R: int
    ) -> bool:
        odd = not gap and k % 2 == 1
        if mode in ("toward-zero", "away"):
            return mode == "away"
        if mode in ("up", "down"):
            return (mode == "up") != negative
        if mode == "odd":
            return not odd
        upper = self.power(k + 1)
        lower = arb(0) if gap else self.power(k)
        if distance == "value":
            way = (v - lower) / (upper - lower)

            def beyond(t: int, b: int) -> int:
                return self.sign(way - rational(Q(t, 1 << b)))
        else:

            def beyond(t: int, b: int) -> int:
                if gap:
                    return 1 if t <= 1 << b else -1
                if b == 1 and t == 1:
                    return self.sign(v / self.half_power(2 * k + 1) - 1)
                if t == 0:
                    return self.sign(v / lower - 1)
                step = Q(t, (1 << b) << self.f)
                return self.sign(v / lower - (arb(2).log() * rational(step)).exp())

        if mode in STOCHASTIC:
            return self._stochastic(mode, r, R, beyond)
        half = beyond(1, 1)
        return half > 0 or (
            half == 0 and (mode == "nearest-away" or (mode == "nearest-even" and odd))
        )

    def round(
        self, v: arb, mode: str, distance: str = "value", r: int = 32, R: int = 0
    ) -> tuple[int, int]:
        """(code, flags) of the number v under overflow 'ieee'."""
        return self.rounder(v)(mode, distance, r, R)

    def rounder(self, v: arb) -> Callable[..., tuple[int, int]]:
        self._ready()
        if v.contains(0):
            self.sign(v)
            return lambda *_: (self.zero, 0)
        negative = bool(v < 0)
        v = abs(v)
        k, s = self.place(v)

        def rounded(mode: str, distance: str = "value", r: int = 32, R: int = 0) -> tuple[int, int]:
            self._ready()
            if k < -self.largest:
                away = self._away(v, -self.largest - 1, True, negative, mode, distance, r, R)
                code = self.code(negative, -self.largest) if away else self.zero
                return code, UNDERFLOW | INEXACT
            result = k
            if s and k <= self.largest:
                result += self._away(v, k, False, negative, mode, distance, r, R)
            if result > self.largest:
                return self.code(negative, self.largest), OVERFLOW | INEXACT
            return self.code(negative, result), INEXACT if s else 0

        return rounded

    def special(self, operation: str, codes: tuple[int, ...]) -> tuple[int, int] | None:
        """What needs no number: NaN operands, division by zero, roots of negative numbers."""
        if self.nan in codes:
            return self.nan, 0
        if operation == "div" and codes[1] == self.zero:
            return self.nan, INVALID if codes[0] == self.zero else DIVIDE_BY_ZERO
        if operation == "sqrt" and codes[0] != self.zero and self.is_negative(codes[0]):
            return self.nan, INVALID
        return None

    def exact(self, operation: str, codes: tuple[int, ...]) -> arb:
        self._ready()
        x = [self.value(c) for c in codes]
        if operation == "add":
            return x[0] + x[1]
        if operation == "sub":
            return x[0] - x[1]
        if operation == "mul":
            return x[0] * x[1]
        if operation == "div":
            return x[0] / x[1]
        if operation == "sqrt":
            return x[0].sqrt()
        return x[0] * x[1] + x[2]


def round_to_float(
    v: arb, precision: int, emin: int, emax: int, mode: str, exact: bool
) -> tuple[Q | None, bool]:
    """|v| > 0 rounded to a float format: its magnitude (None for infinity); whether it is inexact.

    `exact`: v is a power of two. Signs are those of v.
    """
    negative = bool(v < 0)
    v = abs(v)
    man, exp = v.mid().man_exp()
    e = int(man).bit_length() - 1 + int(exp)
    while v < arb(2) ** e:
        e -= 1
    while v >= arb(2) ** (e + 1):
        e += 1
    quantum = max(e, emin) - precision + 1
    steps = v * arb(2) ** -quantum
    low = int(steps.mid().floor().unique_fmpz())
    if not exact:
        while steps < low:
            low -= 1
        while steps > low + 1:
            low += 1
        assert low < steps < low + 1
    rest = steps - low
    inexact = not (exact and rest.contains(0))
    away = False
    if inexact:
        half = 0 if exact and rest == arb(1) / 2 else (1 if rest > arb(1) / 2 else -1)
        away = {
            "nearest-even": half > 0 or (half == 0 and low % 2 == 1),
            "nearest-away": half >= 0,
            "nearest-zero": half > 0,
            "toward-zero": False,
            "up": not negative,
            "down": negative,
            "away": True,
            "odd": low % 2 == 0,
        }[mode]
    q = Q(low + away) * Q(2) ** quantum
    most = (Q(2) - Q(2) ** (1 - precision)) * Q(2) ** emax
    if q > most:
        to_infinity = {"toward-zero": False, "odd": False, "up": not negative, "down": negative}
        return (None if to_infinity.get(mode, True) else most), True
    return q, inexact
