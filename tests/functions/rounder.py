"""Rounds results of balls.py by searching among the values of a format, from docs/definitions.md
alone. Nothing of halfulp is used here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

ZERO, FINITE, INFINITE, NAN = range(4)
INVALID, DIVIDE_BY_ZERO, OVERFLOW, UNDERFLOW, INEXACT = 16, 8, 4, 2, 1
Result = tuple[int, bool, float, bool, int]  # kind, negative, t, rest, flags raised: see balls.py


@dataclass
class Results:
    """Results as arrays, one element each."""

    kind: np.ndarray
    negative: np.ndarray
    t: np.ndarray
    rest: np.ndarray
    raised: np.ndarray

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, i: slice | np.ndarray) -> Results:
        return Results(self.kind[i], self.negative[i], self.t[i], self.rest[i], self.raised[i])

    def odd(self) -> np.ndarray:
        """Float64 values that round as the results do, in every mode, to at most 40 bits."""
        m, e = np.frexp(self.t)
        t = np.ldexp(m + np.where(self.rest, 2.0**-52, 0), e)
        t[self.kind == INFINITE] = np.inf
        t[self.kind == NAN] = np.nan
        return np.where(self.negative, -t, t)


def collect(results: list[Result]) -> Results:
    columns = list(zip(*results, strict=True))
    types = (np.int8, bool, np.float64, bool, np.uint8)
    return Results(*(np.array(c, dtype=t) for c, t in zip(columns, types, strict=True)))


# ---------------------------------------------------------------- formats and rounding
class Values:
    """The non-negative finite values of a format, from its canonical name, in order of codes."""

    def __init__(self, canonical: str) -> None:
        m = re.fullmatch(
            r"fp_e(\d+)p(\d+)b(-?\d+)_([su])_(\w+?)_(ieee|last|none)(_nosub)?(_nozero)?(?:_max(\w+))?",
            canonical,
        )
        E, self.p, bias = int(m[1]), int(m[2]), int(m[3])
        self.signed, nan, inf = m[4] == "s", m[5], m[6]
        self.has_zero, self.has_nan, self.has_inf = m[8] is None, nan != "none", inf != "none"
        self.negative_zero = self.signed and self.has_zero and nan != "negzero"
        fraction = self.p - 1
        if "ieee" in (nan, inf):
            count = ((1 << E) - 1) << fraction
        else:
            count = (1 << (E + fraction)) - (nan == "last") - (inf == "last")
        if m[9]:
            count = int(m[9], 16) + 1
        self.emin = (1 if self.has_zero else 0) - bias
        if E == 8 and self.p == 24:
            self.values = None  # binary32: NumPy's own
            self.largest = float(np.finfo(np.float32).max)
            return
        code = np.arange(count + 1)  # and the one after the largest, where overflow begins
        field, low = code >> fraction, code & ((1 << fraction) - 1)
        steps = np.maximum(field, int(self.has_zero)) - bias - fraction
        normal = np.ldexp(low + float(1 << fraction), steps)
        small = np.ldexp(low.astype(float), self.emin - fraction) if m[7] is None else 0.0
        self.values = np.where((field == 0) & self.has_zero, small, normal)
        if m[7] is not None and self.has_zero:
            raise NotImplementedError("formats without subnormals")
        self.largest = self.values[-2]

    def neighbours(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each t: the greatest value at most t, the next one, and whether the first's code is
        odd. Beyond the largest: the last pair.
        """
        if self.values is not None:
            i = np.clip(np.searchsorted(self.values, t, "right") - 1, 0, len(self.values) - 2)
            return self.values[i], self.values[i + 1], i % 2 == 1
        c = np.minimum(t, self.largest).astype(np.float32)
        with np.errstate(all="ignore"):  # NumPy reports subnormal numbers and infinity here
            c = np.where(c.astype(float) > t, np.nextafter(c, np.float32(0)), c)
            up = np.nextafter(c, np.float32(np.inf)).astype(float)
        return c.astype(float), np.where(np.isinf(up), 2.0**128, up), c.view(np.uint32) % 2 == 1


MODES = ["nearest-even", "nearest-away", "nearest-zero", "toward-zero", "up", "down", "away", "odd"]


def _goes_away(
    mode: str, r: Results, low: np.ndarray, high: np.ndarray, odd: np.ndarray
) -> np.ndarray:
    middle = low + (high - low) / 2
    above = (r.t > middle) | ((r.t == middle) & r.rest)
    tie = (r.t == middle) & ~r.rest
    yes, no = np.ones(len(r), bool), np.zeros(len(r), bool)
    return {
        "nearest-even": above | (tie & odd),
        "nearest-away": above | tie,
        "nearest-zero": above,
        "toward-zero": no,
        "up": ~r.negative,
        "down": r.negative,
        "away": yes,
        "odd": ~odd,
    }[mode]


def rounded(r: Results, f: Values, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Values (float64) and flags under overflow 'ieee' and nan_to 'zero'."""
    low, high, odd = f.neighbours(r.t)
    finite = r.kind == FINITE
    below_all = finite & (r.t < low)  # no zero: below the least value
    exact = (low == r.t) & ~r.rest
    away = ~exact & _goes_away(mode, r, low, high, odd)
    y = np.where(away, high, low)
    flags = r.raised.astype(int)
    flags[finite & ~exact] |= INEXACT

    # Underflow: the result rounded to p bits with unbounded exponent is below 2^emin.
    least = 2.0**f.emin
    last = least - math.ldexp(1.0, f.emin - f.p)  # the last number of p bits below it
    reaches = (r.t >= last) & ~((r.t == last) & ~r.rest)
    ends = [np.full(len(r), v) for v in (last, least, f.p >= 2)]
    reaches &= _goes_away(mode, r, ends[0], ends[1], ends[2].astype(bool))
    flags[finite & ~exact & (r.t < least) & ~reaches] |= UNDERFLOW

    # Overflow.
    over = finite & ((y > f.largest) | ((r.t >= high) & (high > f.largest)))
    flags[over] |= OVERFLOW | INEXACT
    to_infinity = {
        "toward-zero": np.zeros(len(r), bool), "odd": np.zeros(len(r), bool),
        "up": ~r.negative, "down": r.negative,
    }.get(mode, np.ones(len(r), bool))  # fmt: skip
    substitute = np.inf if f.has_inf else np.nan if f.has_nan else f.largest
    y = np.where(over, np.where(to_infinity, substitute, f.largest), y)

    # Infinities and x/0.
    infinite = r.kind == INFINITE
    y = np.where(infinite, substitute, y)
    if not f.has_inf:
        explained = (flags & DIVIDE_BY_ZERO) != 0
        flags[infinite & ~explained & f.has_nan] |= INVALID
        flags[infinite & (not f.has_nan)] |= INEXACT

    # Zeros.
    y = np.where(r.kind == ZERO, 0.0, y)
    if not f.has_zero:
        lost = (r.kind == ZERO) | below_all
        y = np.where(lost, least, y)
        flags[lost] = (flags[lost] & ~UNDERFLOW) | UNDERFLOW | INEXACT

    # Signs.
    y = np.where(r.negative & ((y != 0) | f.negative_zero), -y, y)
    nan = r.kind == NAN
    if not f.signed:
        negative = r.negative & (finite | infinite)
        flags[negative] = r.raised[negative].astype(int) | INVALID
        nan = nan | negative
        y = np.where((r.kind == ZERO) & f.has_zero, 0.0, y)
        y = np.where((r.kind == ZERO) & (not f.has_zero), least, y)
    y = np.where(nan, np.nan if f.has_nan else 0.0, y)
    if not f.has_nan:
        flags[nan] |= INVALID
    return y, flags.astype(np.uint8)
