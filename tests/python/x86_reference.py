"""x86's matrix instructions in exact rationals, from docs/matrix-units-x86.md and not from the core."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

DEFAULT_NAN = 0xFFC00000
SIGN = 0x80000000


def is_nan(word: int) -> bool:
    return word & 0x7FFFFFFF > 0x7F800000


def is_infinite(word: int) -> bool:
    return word & 0x7FFFFFFF == 0x7F800000


def value(word: int) -> Fraction:
    """A finite binary32 word; subnormals are zero."""
    field = word >> 23 & 0xFF
    if field == 0:
        return Fraction(0)
    magnitude = Fraction(word & 0x7FFFFF | 0x800000) * Fraction(2) ** (field - 150)
    return -magnitude if word & SIGN else magnitude


def floor_log2(x: Fraction) -> int:
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def nearest_even(x: Fraction) -> int:
    below = math.floor(x)
    rest = x - below
    return below + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1))


def rounded(x: Fraction) -> int:
    """x != 0 to 24 bits with any exponent; then zero below 2^-126, infinity from 2^128 on."""
    sign = SIGN if x < 0 else 0
    quantum = floor_log2(abs(x)) - 23
    n = nearest_even(abs(x) / Fraction(2) ** quantum)
    if n == 1 << 24:
        n, quantum = n // 2, quantum + 1
    field = quantum + 23 + 127
    if field < 1:
        return sign
    return sign | (0x7F800000 if field > 254 else field << 23 | n & 0x7FFFFF)


def fma(a: int, b: int, s: int) -> int:
    for word in (a, b, s):
        if is_nan(word):
            return word | 0x400000
    sign = (a ^ b) & SIGN
    if is_infinite(a) or is_infinite(b):
        other = b if is_infinite(a) else a
        zero = not is_infinite(other) and value(other) == 0
        against = is_infinite(s) and s & SIGN != sign
        return DEFAULT_NAN if zero or against else sign | 0x7F800000
    if is_infinite(s):
        return s
    product, start = value(a) * value(b), value(s)
    if product == 0 and start == 0:
        return sign & s & SIGN
    return rounded(product + start) if product + start != 0 else 0


def add(x: int, y: int) -> int:
    """x's NaN before y's, which is not the order of fma(1, x, y) alone: 1 is no NaN."""
    return fma(0x3F800000, x, y)


def vdpbf16ps(a: list[int], b: list[int], c: int) -> int:
    return fma(a[0], b[0], fma(a[1], b[1], c))


def tdpbf16ps(a: list[int], b: list[int], c: int) -> int:
    even = odd = 0
    for k in range(0, len(a), 2):
        even = fma(a[k], b[k], even)
        odd = fma(a[k + 1], b[k + 1], odd)
    return add(c, add(even, odd))


def vcvtneps2bf16(x: int) -> int:
    if is_nan(x):
        return x >> 16 | 0x40
    if is_infinite(x) or value(x) == 0:
        return (x & (0xFF800000 if is_infinite(x) else SIGN)) >> 16
    v = value(x)
    quantum = floor_log2(abs(v)) - 7
    n = nearest_even(abs(v) / Fraction(2) ** quantum) * Fraction(2) ** quantum
    return (x & SIGN) >> 16 | (0x7F80 if n >= Fraction(2) ** 128 else rounded(n) >> 16)


def half_value(word: int) -> Fraction:
    field = word >> 10 & 31
    magnitude = Fraction(word & 0x3FF | (0x400 if field else 0)) * Fraction(2) ** (
        max(field, 1) - 25
    )
    return -magnitude if word & 0x8000 else magnitude


def vfmadd231ph(a: int, b: int, c: int) -> int:
    def nan(w: int) -> bool:
        return w & 0x7FFF > 0x7C00

    def infinite(w: int) -> bool:
        return w & 0x7FFF == 0x7C00

    for word in (a, b, c):
        if nan(word):
            return word | 0x200
    sign = (a ^ b) & 0x8000
    if infinite(a) or infinite(b):
        other = b if infinite(a) else a
        bad = other & 0x7FFF == 0 or (infinite(c) and c & 0x8000 != sign)
        return 0xFE00 if bad else sign | 0x7C00
    if infinite(c):
        return c
    total = half_value(a) * half_value(b) + half_value(c)
    if total == 0:
        both = half_value(a) * half_value(b) == 0 and half_value(c) == 0
        return sign & c & 0x8000 if both else 0
    quantum = max(floor_log2(abs(total)), -14) - 10
    n = nearest_even(abs(total) / Fraction(2) ** quantum)
    if n * Fraction(2) ** quantum >= 65536:
        return (0x8000 if total < 0 else 0) | 0x7C00
    code = (quantum + 24 << 10) + n  # a carry counts on into the exponent
    return (0x8000 if total < 0 else 0) | code


def signed(word: int, bits: int) -> int:
    word &= (1 << bits) - 1
    return word - (1 << bits) if word >> (bits - 1) else word


def integers(
    a: list[int], b: list[int], c: int, bits: int, kinds: tuple[bool, bool], saturate: bool
) -> int:
    x = [signed(v, bits) if kinds[0] else v for v in a]
    y = [signed(v, bits) if kinds[1] else v for v in b]
    total = signed(c, 32) + sum(p * q for p, q in zip(x, y, strict=True))
    if saturate:
        total = max(-(2**31), min(2**31 - 1, total))
    return total & 0xFFFFFFFF


# Name: (products of an instruction, bits of an element, the instruction).
UNITS: dict[str, tuple[int, int, Any]] = {
    "x86.avx512.bf16.f32": (2, 16, vdpbf16ps),
    "x86.avx512.f32.bf16": (1, 32, lambda a, b, c: vcvtneps2bf16(a[0])),
    "x86.avx512.f16.f16": (1, 16, lambda a, b, c: vfmadd231ph(a[0], b[0], c)),
    "x86.amx.bf16.f32": (32, 16, tdpbf16ps),
}


def _integer_unit(name: str, k: int, bits: int, kinds: tuple[bool, bool], saturate: bool) -> None:
    UNITS[name] = (k, bits, lambda a, b, c: integers(a, b, c, bits, kinds, saturate))


for _tail, _saturate in (("", False), (".saturate", True)):
    _integer_unit(f"x86.avx512.u8.s8.s32{_tail}", 4, 8, (False, True), _saturate)
    _integer_unit(f"x86.avx512.s16.s32{_tail}", 2, 16, (True, True), _saturate)
_integer_unit("x86.amx.s8.s32", 64, 8, (True, True), False)
_integer_unit("x86.amx.s8.u8.s32", 64, 8, (True, False), False)
_integer_unit("x86.amx.u8.s8.s32", 64, 8, (False, True), False)
_integer_unit("x86.amx.u8.s32", 64, 8, (False, False), False)


def dot(name: str, a: list[int], b: list[int], c: int) -> int:
    """A sum of any length: instruction after instruction."""
    k, _, run = UNITS[name]
    for at in range(0, len(a), k):
        c = run(a[at : at + k], b[at : at + k], c)
    return c


@dataclass
class Record:
    category: int
    a: list[int]
    b: list[int]
    c: int
    d: int


def records(path: Path) -> tuple[dict[str, str], list[Record]]:
    """A file of data/hardware: its header and its results; elements as the units take them."""
    head, _, body = path.read_bytes().partition(b"end\n")
    lines = head.decode().splitlines()
    assert lines[0] == "halfulp matrix results 1"
    header = dict(line.split(": ", 1) for line in lines[1:])
    k, bits, _ = UNITS[header["unit"]]
    row = int(header["row"])
    assert row == k * bits // 8
    size = 1 + 2 * row + 8
    assert len(body) == size * int(header["records"])
    shift = 16 if header["unit"].endswith("bf16.f32") else 0

    def elements(data: bytes) -> list[int]:
        n = bits // 8
        return [int.from_bytes(data[i : i + n], "little") << shift for i in range(0, row, n)]

    found = []
    for at in range(0, len(body), size):
        r = body[at : at + size]
        c, d = (int.from_bytes(r[i : i + 4], "little") for i in (1 + 2 * row, 5 + 2 * row))
        found.append(
            Record(r[0], elements(r[1 : 1 + row]), elements(r[1 + row : 1 + 2 * row]), c, d)
        )
    return header, found
