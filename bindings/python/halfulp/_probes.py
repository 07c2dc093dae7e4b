"""The arithmetic of a matrix unit, asked of the unit itself by products of chosen numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halfulp._core import Format
from halfulp._elementwise import FormatLike
from halfulp._matmul import _float_format, matmul
from halfulp._models import Model, models
from halfulp._sum_order import Product, SumOrder, probe

Vector = NDArray[np.float64]
Unit = Callable[[Vector, Vector, float], float]

_MODES = {  # what S + u/2, S + 3u/2 and their negatives become, in halves of u beyond S
    (0, 2, 0, 2): "toward-zero",
    (0, 4, 0, 4): "nearest-even",
    (2, 4, 2, 4): "nearest-away",
    (0, 2, 2, 4): "down",
    (2, 4, 0, 2): "up",
    (2, 2, 2, 2): "odd",
}


@dataclass(frozen=True)
class Features:
    """What probe_unit finds; None where the unit shows nothing of it."""

    block: int
    """Products of one fused sum; 1 if every product is added by itself."""
    order: tuple[int, ...]
    """For each k, in which fused sum its product is: 0 first. For chains of single products: how
    many products are added before it is known to be there."""
    c: str
    """'in-block': c is a term of the first sum; 'after': it is added to the last."""
    fraction_bits: int | None
    """F: a term's bits below 2^(M - F) are lost, M being the largest exponent of a fused sum."""
    terms: str | None
    """How they are lost: 'toward-zero', 'down' or 'nearest'."""
    precision: int | None
    """Bits of significand that a fused sum is rounded to."""
    rounding: str | None
    """How: a rounding mode, 'other' if it is none of them."""
    subnormal_operands: bool
    subnormal_results: bool
    decreases: tuple[float, float] | None
    """Two results, the second smaller though one term of its sum is larger; None: none found."""


class _Probe:
    def __init__(self, f: Unit, a: Format, b: Format, d: Format, k: int) -> None:
        self.f, self.a, self.b, self.d, self.k = f, a, b, d, k
        self.least_a, self.least_b = (x.emin - (x.precision - 1) for x in (a, b))
        self.big = min(15, a.emax + b.emax)  # 2^15: what binary16 results still hold
        self.small = max(self.big - 40, self.least_a + self.least_b, d.emin - (d.precision - 1))

    def __call__(self, terms: dict[int, float], c: float = 0.0, rest: float = 0.0) -> float:
        """f of products with these values, at these k, `rest` at all others."""
        a, b = np.zeros(self.k), np.zeros(self.k)
        for i in range(self.k):
            a[i], b[i] = self.split(terms.get(i, rest))
        return float(self.f(a, b, c))

    def split(self, value: float) -> tuple[float, float]:
        """A value of a and one of b whose product this is: a significand of few bits goes to a."""
        if value == 0:
            return 0.0, 0.0
        significand, e = math.frexp(value)
        e -= 1
        y = min(max(e // 2, self.least_b), self.b.emax)
        x = min(max(e - y, self.least_a), self.a.emax)
        return math.ldexp(2 * significand, x), math.ldexp(1.0, e - x)

    def leaves(self, i: int, j: int) -> int:
        """Products of the smallest sum that has both i and j in it (FPRev, arXiv 2411.00442): next
        to ±2^big, what is 2^small is lost."""
        one = 2.0**self.small
        kept = self({i: 2.0**self.big, j: -(2.0**self.big)}, rest=one) / one
        return self.k - int(kept)

    def shares_rounding(self, i: int, j: int) -> bool:
        """Whether two halves of c's last bit become a bit, where products are too near each other
        for `leaves`. Needs F of at least the precision of d."""
        s = 2.0 ** (self.least_a + self.least_b)
        c = s * 2.0**self.d.precision
        return self({i: s, j: s}, c) == c + 2 * s

    def order(self) -> tuple[int, list[int]]:
        k = self.k
        if self.big - self.small >= 30:
            rows = [[self.leaves(i, j) if j != i else 0 for j in range(k)] for i in (0, k - 1)]
            found = min(rows, key=lambda row: sorted(x for x in row if x)[:1])
            block = math.gcd(*found)
            return (block, [max(x // block - 1, 0) for x in found]) if k > 1 else (1, [0])
        block_of = [-1] * k
        for n in range(k):
            first = next((i for i in range(k) if block_of[i] < 0), None)
            if first is None:
                break
            for j in range(first, k):
                if block_of[j] < 0 and (j == first or self.shares_rounding(first, j)):
                    block_of[j] = n
        return block_of.count(0), block_of

    def fine(
        self, inside: bool, members: Sequence[int], used: int, value: float
    ) -> tuple[dict[int, float], float]:
        """A small term: c, where that is a term of the sum, else a product."""
        return ({}, value) if inside else ({members[used]: value}, 0.0)

    def alignment(self, inside: bool, members: Sequence[int]) -> tuple[int | None, str | None]:
        if not inside and len(members) < 3:
            return None, None
        big = 2.0**self.big
        pair = {members[0]: big, members[1]: -big}
        low = self.d.emin - (self.d.precision - 1) if inside else self.small

        def left(value: float) -> float:
            terms, c = self.fine(inside, members, 2, value)
            return self(pair | terms, c)

        bits = next((j for j in range(self.big - low, -1, -1) if left(math.ldexp(big, -j))), None)
        if bits is None or bits == self.big - low:
            return None, None  # all that there is to lose stays
        unit = math.ldexp(big, -bits)
        if bits + 2 > self.big - low:
            return bits, None
        ends = (left(0.75 * unit) / unit, left(-0.75 * unit) / unit)
        return bits, {(0, 0): "toward-zero", (0, -1): "down", (1, -1): "nearest"}.get(ends)

    def rounding(
        self, inside: bool, members: Sequence[int], bits: int | None
    ) -> tuple[int | None, str | None]:
        """The longest exact sum 2^t 2^e + 2^(e - j), and what becomes of ties just beyond it."""
        if not inside and len(members) < 2:
            return None, None
        e = max(self.big - 6, (self.big + self.small) // 2 + 8)
        e = min(e, self.big)
        free = len(members) - (0 if inside else 1)
        places = [t for t in range(6) if 2**t <= free]
        least = self.d.emin - (self.d.precision - 1) if inside else self.small
        finest = min(e - least, self.d.precision + 8) if bits is None else min(bits, e - least)

        def total(t: int, value: float, sign: float) -> float:
            terms, c = self.fine(inside, members, 2**t, sign * value)
            return self({i: sign * 2.0**e for i in members[: 2**t]} | terms, c)

        exact = -1
        for t in places:
            for j in range(finest + 1):
                if total(t, 2.0 ** (e - j), 1.0) == 2.0 ** (e + t) + 2.0 ** (e - j):
                    exact = max(exact, t + j)
        t = next((t for t in places if t + finest > exact), None)
        if t is None:
            return None, None
        start, half = 2.0 ** (e + t), 2.0 ** (e + t - exact - 1)
        beyond = tuple(
            round((abs(total(t, times * half, sign)) - start) / half)
            for sign in (1.0, -1.0)
            for times in (1, 3)
        )
        return exact + 1, _MODES.get(beyond, "other")

    def decreases(
        self, members: Sequence[int], bits: int, precision: int
    ) -> tuple[float, float] | None:
        """c from just below 2^e to 2^e, beside terms that only the first lets in."""
        e = 2
        term = 2.0 ** (e - 1 - bits)
        if not self.small <= e - 1 - bits:
            return None
        below = 2.0**e - 2.0 ** (e - precision)
        terms = dict.fromkeys(members, term)
        pair = (self(terms, below), self(terms, 2.0**e))
        return pair if pair[1] < pair[0] else None


def probe_unit(
    f: Unit, a: FormatLike, b: FormatLike | None = None, d: FormatLike = "binary32", k: int = 16
) -> Features:
    """The arithmetic of a matrix unit, found by calling it.

    f(a, b, c) gives c + sum a[i] b[i] as the unit computes it: an instruction of k products, a and
    b float64 vectors of k values of the formats a and b (default: that of a), c a number of d. It
    may be a model or hardware; nothing else of it is asked, and some hundreds of calls are made.
    k may be that of several instructions in a chain, and must be where one has only two products.
    docs/studies/matrix-units.md says which sums show which feature, and their limits. Raises
    ValueError if f does not even add ones.

        >>> def f(a, b, c):
        ...     m = "hopper.wgmma.e4m3.f32"
        ...     return hu.matmul(a[None], b[:, None], [[c]], model=m)[0, 0]
        >>> hu.probe_unit(f, "float8_e4m3fn", k=32).fraction_bits
        13
    """
    if k < 1:
        raise ValueError(f"k is {k}, but a unit has at least one product")
    first = _float_format(a)
    probe = _Probe(f, first, first if b is None else _float_format(b), _float_format(d), k)
    if (got := probe({}, 0.0, 1.0)) != k:
        raise ValueError(f"{k} products of ones gave {got}; f must return c + sum a[i] b[i]")
    block, order = probe.order()
    members = [i for i in range(k) if order[i] == 0] if block > 1 else list(range(k))
    big, tiny = 2.0**probe.big, 2.0 ** max(probe.big - 60, probe.d.emin - probe.d.precision + 1)
    cancels = {members[0]: big, members[1]: -big} if k > 1 else {}
    inside = not cancels or probe(cancels, tiny) == 0
    bits, terms = probe.alignment(inside, members) if block > 1 else (None, None)
    # The last block's sum is the result; an earlier one is cut again, as c of the next.
    final = [i for i in range(k) if order[i] == max(order)] if block > 1 else members[:2]
    by_c = inside and (block == 1 or max(order) == 0)
    precision, rounding = probe.rounding(by_c, final, bits)
    broken = None
    if inside and bits is not None and precision is not None:
        broken = probe.decreases(members, bits, precision)
    least = 2.0**probe.least_a
    top = 2.0 ** min(probe.b.emax, 20)
    x, y = np.zeros(k), np.zeros(k)
    x[0], y[0] = least, top
    below_normal = 2.0 ** (probe.d.emin - 1)
    return Features(
        block=block,
        order=tuple(order),
        c="in-block" if inside else "after",
        fraction_bits=bits,
        terms=terms,
        precision=precision,
        rounding=rounding,
        subnormal_operands=float(f(x, y, 0.0)) != 0,
        subnormal_results=float(f(np.zeros(k), np.zeros(k), below_normal)) == below_normal,
        decreases=broken,
    )


def probe_order(
    f: Product,
    k: int,
    a: FormatLike,
    b: FormatLike | None = None,
    d: FormatLike = "binary32",
    *,
    with_c: bool = False,
    rows: int = 64,
) -> SumOrder:
    """The order in which a library's product adds its k terms, found by calling it.

    f(a, b, c) gives the `rows` results of a matrix product: a (rows, k) and b (k,) are float64
    arrays of values of the formats a and b (default: that of a), c (rows,) values of d to be added,
    or None without with_c. Only products are asked for, some dozens to hundreds of them.

    Large numbers that cancel, +M at i and -M at j, take every small one with them that their sums
    meet before: what is left counts the terms outside the smallest sum with both in it (FPRev,
    arXiv 2411.00442), on units that cut as on those that round. The tree of these sums is then
    checked by random masks. docs/matrix-units.md has the limits. Raises ValueError (its subclass
    UnknownOrderError) where no order explains what f gives: sums that differ from call to call, or
    that are added three at once.

        >>> def f(a, b, c):
        ...     m = hu.Model("hopper.wgmma.e4m3.f32", promote_every=128)
        ...     return hu.matmul(a, b[:, None], model=m)[:, 0]
        >>> print(hu.probe_order(f, 512, "float8_e4m3fn"))
        k = 0:512 in 4 parts of 128, chains of blocks of 32
    """
    if k < 2:
        raise ValueError(f"k is {k}, but an order needs two products at least")
    if rows < 1:
        raise ValueError(f"rows is {rows}, but a product has one row at least")
    first = _float_format(a)
    second = first if b is None else _float_format(b)
    return probe(
        f, k, first, second, _float_format(d), with_c=with_c, grain=16, rows=rows, checks=12
    )[0]


def of_model(name: str) -> Features:
    """The features of a named float unit without groups of products, its scales being ones."""
    if name.startswith("x86."):
        form, k = ("binary16", 16) if name == "x86.avx512.f16.f16" else ("bfloat16", 32)
        d = "binary16" if form == "binary16" else "binary32"

        def of_x86(a: Vector, b: Vector, c: float) -> float:
            return float(matmul(a[None], b[:, None], [[c]], model=name)[0, 0])

        return probe_unit(of_x86, form, d=d, k=k)
    m = Model(name)
    n = -(-m.k // m.scale_block) if m.scale_block else 0

    def f(a: Vector, b: Vector, c: float) -> float:
        scales = (np.ones((1, n)), np.ones((n, 1))) if n else None
        return float(
            matmul(a[None], b[:, None], [[c]], model=m, evidence="any", scales=scales)[0, 0]
        )

    return probe_unit(f, m.a, m.b, m.d, m.k)


def names() -> list[str]:
    """The float units that of_model takes."""
    x86 = [n for n in models() if n.startswith("x86.") and n.split(".")[-1] in ("f32", "f16")]
    own = (n for n in models() if not n.startswith("x86."))
    return [n for n in own if Model(n).kind == "block-sum" and Model(n).group == 1] + [
        n for n in x86 if n.split(".")[2] in ("bf16", "f16")
    ]


def table(chosen: Sequence[str]) -> str:
    """A Markdown table of features; units with the same ones share a row."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for name in chosen:
        if name not in names():
            raise ValueError(
                f"{name} cannot be probed: only float units without groups of products"
            )
        found = of_model(name)
        order = found.order
        if len(set(order)) == 1:
            split = "one sum"
        elif list(order) == sorted(order):
            split = "in order"
        else:
            split = " ".join(str(x) for x in order[:8]) + " …"
        drop = "none found"
        if found.decreases is not None:
            drop = f"{found.decreases[0]!r} → {found.decreases[1]!r}"
        cells = (
            *(str(found.block), "" if found.fraction_bits is None else str(found.fraction_bits)),
            *(found.terms or "", str(found.precision), str(found.rounding), found.c, split),
            *("yes" if x else "no" for x in (found.subnormal_operands, found.subnormal_results)),
            drop,
        )
        rows.setdefault(cells, []).append(name)
    head = (
        "| units | B | F | terms cut | bits of a sum | rounded | c | fused sum of each k "
        "| subnormal operands | subnormal results | a larger term, a smaller sum |\n"
        "|---|---:|---:|---|---:|---|---|---|---|---|---|\n"
    )
    lines = (f"| {', '.join(n)} | {' | '.join(cells)} |\n" for cells, n in rows.items())
    return head + "".join(lines)
