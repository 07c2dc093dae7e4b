"""Number systems again, in integers and rationals, from docs/integers-and-codebooks.md and
docs/posits.md alone. It shares no code with the package.

A system is a table of its values in order, with their codes. Rounding finds the neighbours of x in
the table and decides by where x lies between them.
"""

import bisect
import math
from dataclasses import dataclass
from fractions import Fraction as Q

import numpy as np

INVALID, DIVZERO, OVERFLOW, UNDERFLOW, INEXACT = 16, 8, 4, 2, 1


def integer_value(code, width, fraction_bits, signed):
    negative = signed and code >= 1 << (width - 1)
    return Q(code - (1 << width) if negative else code, 1 << fraction_bits)


def posit_value(code, n, es=2):
    """The formula of the standard (section 3.2), which needs no two's complement."""
    if code == 0:
        return Q(0)
    if code == 1 << (n - 1):
        return None
    text = format(code, f"0{n}b")
    s = int(text[0])
    rest = text[1:]
    run = len(rest) - len(rest.lstrip(rest[0]))
    r = run - 1 if rest[0] == "1" else -run
    after = rest[run + 1 :]
    e = int((after + "0" * es)[:es] or "0", 2)
    digits = after[es:]
    f = Q(int(digits, 2), 1 << len(digits)) if digits else Q(0)
    return ((1 - 3 * s) + f) * Q(2) ** ((1 - 2 * s) * ((r << es) + e + s))


@dataclass
class System:
    values: list  # Fractions, increasing
    codes: list
    posit: tuple | None = None  # (n, es)
    step: Q | None = None  # of integers and fixed point

    def extended(self):
        """The table with one more step at each end: only what rounds there overflows."""
        if self.step is None:
            return self.values, self.codes
        ends = self.values[0] - self.step, self.values[-1] + self.step
        codes = [self.codes[0] + 1, *self.codes, self.codes[-1] + 1]  # only their parity counts
        return [ends[0], *self.values, ends[1]], codes

    @property
    def nar(self):
        return 1 << (self.posit[0] - 1)

    def round(self, x, mode, R=0, r=32):
        """The code of a finite Fraction, and the flags."""
        if self.posit and x != 0:
            # Neither 0 nor NaR: beyond the ends, the ends.
            least = min(v for v in self.values if v > 0) if len(self.values) < 64 else self._least()
            if abs(x) < least:
                return self.code(least if x > 0 else -least), UNDERFLOW | INEXACT
        values, codes = self.extended()
        low_end, high_end = (self.codes[0], self.codes[-1])
        if x < values[0]:
            return low_end, OVERFLOW | INEXACT
        if x > values[-1]:
            return high_end, OVERFLOW | INEXACT
        i = bisect.bisect_left(values, x)
        if values[i] == x:
            if self.step and i in (0, len(values) - 1):
                return (high_end if i else low_end), OVERFLOW | INEXACT
            return codes[i], 0
        low, high = i - 1, i
        downwards = abs(values[low]) > abs(values[high])
        inner, outer = (high, low) if downwards else (low, high)
        frac = (x - values[inner]) / (values[outer] - values[inner])
        if self.posit and not mode.startswith("stochastic"):
            frac = self._cut(x, inner, outer)
        ci, co = codes[inner], codes[outer]
        odd = ci % 2 == 1 if (ci + co) % 2 else downwards
        chosen = outer if away(mode, frac, odd, downwards, R, r) else inner
        if self.step and chosen in (0, len(values) - 1):
            return (high_end if chosen else low_end), OVERFLOW | INEXACT
        return codes[chosen], INEXACT

    def _least(self):
        n, es = self.posit
        return posit_value(1, n, es)

    def _cut(self, x, inner, outer):
        """Less than, equal to or more than half, by the (n+1)-bit posit between the neighbours."""
        n, es = self.posit
        # Of the two codes of a magnitude the lesser one followed by a 1 is the posit between.
        lesser = min(
            c if c < self.nar else (1 << n) - c for c in (self.codes[inner], self.codes[outer])
        )
        middle = posit_value(2 * lesser + 1, n + 1, es)
        return Q(1, 2) + Q((abs(x) > middle) - (abs(x) < middle), 4)

    def code(self, value):
        return self.codes[self.values.index(value)]


def away(mode, frac, odd, negative, R, r):
    """Whether an inexact value goes to the neighbour of larger magnitude (docs/definitions.md),
    which is the lesser one if `negative`.
    """
    half = Q(1, 2)
    return {
        "nearest-even": lambda: frac > half or (frac == half and odd),
        "nearest-away": lambda: frac >= half,
        "nearest-zero": lambda: frac > half,
        "toward-zero": lambda: False,
        "up": lambda: not negative,
        "down": lambda: negative,
        "away": lambda: True,
        "odd": lambda: not odd,
        "stochastic": lambda: math.floor(frac * (1 << r)) + R >= 1 << r,
        "stochastic-b": lambda: math.floor(frac * (2 << r)) + 2 * R + 1 >= 2 << r,
        "stochastic-c": lambda: round(frac * (1 << r)) + R >= 1 << r,
        "stochastic-equal": lambda: bool(R >> (r - 1)),
    }[mode]()


def integers(width, fraction_bits=0, signed=True):
    rows = sorted((integer_value(c, width, fraction_bits, signed), c) for c in range(1 << width))
    return System([v for v, _ in rows], [c for _, c in rows], step=Q(1, 1 << fraction_bits))


def posits(n, es=2):
    rows = sorted((posit_value(c, n, es), c) for c in range(1 << n) if c != 1 << (n - 1))
    return System([v for v, _ in rows], [c for _, c in rows], (n, es))


def table(values, codes=None):
    codes = range(len(values)) if codes is None else codes
    best = {}
    for v, c in zip(values, codes, strict=True):
        q = Q(float(v))
        best[q] = min(best.get(q, c), c)
    rows = sorted(best.items())
    return System([v for v, _ in rows], [c for _, c in rows])


def dynamic(signed):
    """Midpoints of n equal parts of [1/10, 1], times 10^(i-6), as the nearest binary32 numbers."""
    found = [Q(0), Q(1)]
    for i in range(7):
        n = 2**i if signed else 2 ** (i + 1)
        step = Q(9, 10) / n
        for j in range(n):
            exact = (Q(1, 10) + step * j + step / 2) * Q(10) ** (i - 6)
            e = math.floor(math.log2(exact)) - 23
            nearest = round(exact / Q(2) ** e) * Q(2) ** e  # Fraction's round is to even
            found += [nearest, -nearest] if signed else [nearest]
    return sorted(found)


def all_float16():
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    return x[np.isfinite(x)]


def round_all(system, x, mode, R, r):
    """Codes and flags of float16 numbers, in 64-bit integers: the same definition, all at once."""
    # Every float16 number and every value used here is a multiple of 2^-unit.
    unit = 28 if system.posit or system.step else 46

    values, code_list = system.extended()
    scaled = np.array([int(v * 2**unit) for v in values], dtype=np.int64)
    assert [Q(int(s), 2**unit) for s in scaled] == values
    codes = np.array(code_list, dtype=np.int64)
    low_end, high_end = float(values[0]), float(values[-1])
    wide = x.astype(np.float64)
    # Beyond the ends only the comparison counts, so that such units fit 64 bits.
    inside = np.clip(wide, low_end, high_end)
    n = np.round(inside * 2.0**unit).astype(np.int64)
    assert (n / 2.0**unit == inside).all()
    i = np.searchsorted(scaled, n)
    exact = scaled[i] == n
    low, high = np.where(exact, i, i - 1), i
    negative = np.abs(scaled[low]) > np.abs(scaled[high])  # the outer neighbour is the lesser one
    inner, outer = np.where(negative, high, low), np.where(negative, low, high)
    part, whole = np.abs(n - scaled[inner]), np.maximum(np.abs(scaled[outer] - scaled[inner]), 1)
    ci, co = codes[inner], codes[outer]
    odd = np.where((ci + co) % 2 == 1, ci % 2 == 1, negative)
    half = np.sign(2 * part - whole)
    if system.posit:
        nbits, es = system.posit
        top = 1 << nbits
        lesser = np.minimum(*(np.where(c < top // 2, c, top - c) for c in (ci, co)))
        middles = {}
        for c in np.unique(lesser[~exact]).tolist():
            middles[c] = int(posit_value(2 * c + 1, nbits + 1, es) * 2**unit)
        middle = np.array([middles.get(c, 0) for c in lesser.tolist()], dtype=np.int64)
        half = np.sign(np.abs(n) - middle)
    R = R.astype(np.int64)
    one = 1 << r
    floor = (part << r) // whole
    double_floor = (part << (r + 1)) // whole
    rest = (part << (r + 1)) % whole != 0
    c_up = (double_floor % 2 == 1) & (rest | (floor % 2 == 1))
    go = {
        "nearest-even": (half > 0) | ((half == 0) & odd),
        "nearest-away": half >= 0,
        "nearest-zero": half > 0,
        "toward-zero": np.zeros(n.shape, bool),
        "up": ~negative,
        "down": negative,
        "away": np.ones(n.shape, bool),
        "odd": ~odd,
        "stochastic": floor + R >= one,
        "stochastic-b": double_floor + 2 * R + 1 >= 2 * one,
        "stochastic-c": floor + c_up + R >= one,
        "stochastic-equal": R >> (r - 1) == 1,
    }[mode]
    chosen = np.where(exact, i, np.where(go, outer, inner))
    result = codes[chosen]
    flags = np.where(exact, 0, INEXACT)
    if system.step:
        ends = (chosen == 0) | (chosen == len(values) - 1)
        flags = np.where(ends, OVERFLOW | INEXACT, flags)
        result = np.where(ends, np.where(chosen == 0, system.codes[0], system.codes[-1]), result)
    if system.posit:
        least = float(posit_value(1, *system.posit))
        tiny = (wide != 0) & (np.abs(wide) < least)
        result = np.where(tiny, np.where(wide > 0, 1, (1 << system.posit[0]) - 1), result)
        flags = np.where(tiny, UNDERFLOW | INEXACT, flags)
    beyond = (wide < low_end) | (wide > high_end)
    return result, np.where(beyond, OVERFLOW | INEXACT, flags)


def nearest_float(x, precision=24, least=-149):
    """A positive Fraction or 0 as the nearest number of that precision, ties to even."""
    if x == 0:
        return Q(0)
    e = x.numerator.bit_length() - x.denominator.bit_length()
    e -= Q(2) ** e > x
    quantum = Q(2) ** max(e - precision + 1, least)
    return round(x / quantum) * quantum  # Fraction's round is to even
