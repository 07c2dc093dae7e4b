"""Matrix units again, in exact rationals, from docs/matrix-units.md and not from the core.

Values are floats or Fractions, results bits. A unit is a `Unit`; `unit_of` reads one from the fields of a
hu.Model, which are numbers and names only.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

# (least exponent of normal numbers, fraction bits) of operands.
FORMATS = {
    "binary16": (-14, 10),
    "bfloat16": (-126, 7),
    "tf32": (-126, 10),
    "float8_e4m3fn": (-6, 3),
    "float8_e5m2": (-14, 2),
    "float6_e3m2fn": (-2, 2),
    "float6_e2m3fn": (0, 3),
    "float4_e2m1fn": (0, 1),
}
INFINITY = {"binary32": 0x7F800000, "binary16": 0x7C00}
NAN = {"binary32": 0x7FFFFFFF, "binary16": 0x7FFF}
SIGN = {"binary32": 1 << 31, "binary16": 1 << 15}
NAN_OF = math.nan


@dataclass
class Unit:
    a: str
    b: str
    d: str
    kept: int  # fraction bits of a block's result
    nearest: bool
    k: int
    block: int
    fraction_bits: int
    pairs: bool
    c_after: bool
    floor: int | None
    operand_emin: int | None
    promote: int
    group: int
    scale_block: int


def unit_of(fields: Any) -> Unit:
    return Unit(
        a=fields["a"].name,
        b=fields["b"].name,
        d=fields["d"].name,
        kept=fields["sum"].precision - 1,
        nearest=fields["rounding"] == "nearest-even",
        k=fields["k"],
        block=fields["block"],
        fraction_bits=fields["fraction_bits"],
        pairs=fields["split"] == "pairs",
        c_after=fields["c"] == "after",
        floor=fields["floor_exponent"],
        operand_emin=fields["operand_emin"],
        promote=fields["promote_every"],
        group=fields["group"],
        scale_block=fields["scale_block"],
    )


def value_of(bits: int, d: str) -> float:
    """The number of a word of d."""
    if d == "binary16":
        return struct.unpack("<e", struct.pack("<H", bits))[0]
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def exponent(x: Fraction, emin: int) -> int:
    """max(floor(log2 |x|), emin)."""
    x = abs(x)
    e = x.numerator.bit_length() - x.denominator.bit_length()
    if Fraction(2) ** e > x:
        e -= 1
    return max(e, emin)


def rounded(x: Fraction, d: str, kept: int, nearest: bool) -> int:
    """x, rounded to `kept` fraction bits, as a word of d; a result of zero is +0."""
    if x == 0:
        return 0
    emin, fraction = (-126, 23) if d == "binary32" else (-14, 10)
    quantum = Fraction(2) ** (exponent(x, emin) - kept)
    units = abs(x) / quantum
    n = math.floor(units)
    if nearest and (units - n > Fraction(1, 2) or (units - n == Fraction(1, 2) and n % 2 == 1)):
        n += 1
    if n == 0:
        return 0
    sign = SIGN[d] if x < 0 else 0
    if n * quantum >= Fraction(2) ** (1 - emin + 1):
        return sign | INFINITY[d]
    e = exponent(n * quantum, emin)
    significand = int(n * quantum / Fraction(2) ** (e - fraction))
    biased = e - emin + 1 if significand >= 1 << fraction else 0
    return sign | (biased << fraction) | (significand & ((1 << fraction) - 1))


def specials(products: list[tuple[float, float]], c: float, d: str) -> int | None:
    """The word that NaN and infinities decide, or None."""
    infinite = set()
    for x, y in products:
        if math.isnan(x) or math.isnan(y):
            return NAN[d]
        if math.isinf(x) or math.isinf(y):
            if x == 0 or y == 0:
                return NAN[d]
            infinite.add((x > 0) == (y > 0))
    if math.isnan(c):
        return NAN[d]
    if math.isinf(c):
        infinite.add(c > 0)
    if len(infinite) == 2:
        return NAN[d]
    if infinite:
        return INFINITY[d] | (0 if infinite.pop() else SIGN[d])
    return None


def cut(x: Fraction, place: int) -> Fraction:
    """x without its bits below 2^place."""
    quantum = Fraction(2) ** place
    n = math.floor(abs(x) / quantum)
    return (n if x > 0 else -n) * quantum


def block_sum(
    u: Unit, a: list[float], b: list[float], c: int, sa: list[float], sb: list[float]
) -> int:
    """One fused sum; sa and sb: the scale of each element."""
    start = value_of(c, u.d)
    if any(math.isnan(s) for s in (*sa, *sb)):
        return NAN[u.d]
    if (decided := specials(list(zip(a, b, strict=True)), start, u.d)) is not None:
        return decided
    emin_a, emin_b = FORMATS[u.a][0], FORMATS[u.b][0]
    if u.operand_emin is not None:
        emin_a, emin_b = min(emin_a, u.operand_emin), min(emin_b, u.operand_emin)
    terms: list[tuple[Fraction, int]] = []
    if start != 0:
        emin = -126 if u.d == "binary32" else -14
        terms.append((Fraction(start), exponent(Fraction(start), emin)))
    for i in range(0, len(a), u.group):
        inside = [j for j in range(i, i + u.group) if a[j] != 0 and b[j] != 0]
        if not inside or sa[i] == 0 or sb[i] == 0:
            continue
        scale = Fraction(sa[i]) * Fraction(sb[i])
        total = sum(Fraction(a[j]) * Fraction(b[j]) for j in inside) * scale
        if u.group == 1:
            e = exponent(Fraction(a[i]), emin_a) + exponent(Fraction(b[i]), emin_b)
        else:
            e = emin_a + emin_b
        if u.scale_block:
            e += exponent(Fraction(sa[i]), -6 if u.group > 1 and u.scale_block == 16 else -127)
            e += exponent(Fraction(sb[i]), -6 if u.group > 1 and u.scale_block == 16 else -127)
        terms.append((total, e))
    if not terms:
        return 0
    largest = max(e for _, e in terms)
    if u.floor is not None:
        largest = max(largest, u.floor)
    exact = sum((cut(x, largest - u.fraction_bits) for x, _ in terms), Fraction(0))
    return rounded(exact, u.d, u.kept, u.nearest)


def plus(x: int, y: int, d: str) -> int:
    """x + y to nearest even; a zero has the sign of both, or +."""
    v, w = value_of(x, d), value_of(y, d)
    if (decided := specials([], v, d)) == NAN[d] or (
        decided := specials([(w, 1.0)], v, d)
    ) is not None:
        return decided
    if v == 0 and w == 0:
        return x & y
    return rounded(Fraction(v) + Fraction(w), d, 23 if d == "binary32" else 10, True)


def dot(
    u: Unit,
    a: list[float],
    b: list[float],
    c: int,
    sa: list[float] | None = None,
    sb: list[float] | None = None,
) -> int:
    """The word of c + sum a·b; len(a) is a multiple of u.k. sa, sb: a scale for each scale_block."""
    n = len(a)
    assert n % u.k == 0
    each_a = [1.0] * n if sa is None else [sa[i // u.scale_block] for i in range(n)]
    each_b = [1.0] * n if sb is None else [sb[i // u.scale_block] for i in range(n)]
    total, running = c, c
    if u.promote:
        running = 0
    for start in range(0, n, u.k):
        if u.promote and start and start % u.promote == 0:
            total, running = plus(total, running, u.d), 0
        order = list(range(start, start + u.k))
        if u.pairs:
            order = [i for i in order if i % 4 < 2] + [i for i in order if i % 4 >= 2]
        part = 0 if u.c_after else running
        for at in range(0, u.k, u.block):
            chosen = order[at : at + u.block]
            part = block_sum(
                u, *([x[i] for i in chosen] for x in (a, b)), part,
                *([x[i] for i in chosen] for x in (each_a, each_b)),
            )  # fmt: skip
        running = plus(part, running, u.d) if u.c_after else part
    return plus(total, running, u.d) if u.promote else running
