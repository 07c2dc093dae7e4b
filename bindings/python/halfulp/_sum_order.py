"""The order in which a product of matrices adds its K terms, asked of the product itself.

Needs nothing but NumPy: tests/hardware/library_gemm.py takes this file where halfulp is not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Product = Callable[[Array, Array, Any], Any]
Value = TypeVar("Value")

C = -1  # stands for c where places of K stand


class _Format(Protocol):
    """Of halfulp.Format what is needed here."""

    @property
    def emin(self) -> int: ...
    @property
    def emax(self) -> int: ...
    @property
    def precision(self) -> int: ...


class UnknownOrderError(ValueError):
    """What the product gave fits no order that SumOrder can hold."""


@dataclass(frozen=True)
class Chain:
    """Steps, each on the last one's result: places of K (a block, whose products and the result so
    far are one fused sum), or a Chain, whose sum is added."""

    steps: tuple[tuple[int, ...] | Chain, ...]

    def places(self) -> Iterator[int]:
        for step in self.steps:
            yield from step.places() if isinstance(step, Chain) else step

    def runs(self) -> Iterator[list[tuple[int, ...]] | Chain]:
        """Blocks that follow each other, and chains that are added."""
        run: list[tuple[int, ...]] = []
        for step in self.steps:
            if isinstance(step, Chain):
                if run:
                    yield run
                run = []
                yield step
            else:
                run.append(step)
        if run:
            yield run


def _ranges(places: list[int]) -> list[list[int]]:
    """The places as [low, high], or [low, high, step] for three or more at equal distances."""
    found: list[list[int]] = []
    at = 0
    while at < len(places):
        step = places[at + 1] - places[at] if at + 1 < len(places) else 1
        end = at + 1
        while end < len(places) and places[end] - places[end - 1] == step:
            end += 1
        if step < 1 or (step > 1 and end - at < 3):
            step, end = 1, at + 1
        found.append([places[at], places[end - 1] + 1] + ([step] if step > 1 else []))
        at = end
    return found


def _as_json(chain: Chain) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    for run in chain.runs():
        if isinstance(run, Chain):
            steps.append({"add": _as_json(run)})
            continue
        for block in run:
            if block == (C,):
                steps.append({"add": "c"})
                continue
            has_c = C in block
            size = len(block) - has_c
            last = steps[-1] if steps else {}
            if last.get("block") != size or has_c:
                steps.append({"block": size, "k": []} | ({"c": True} if has_c else {}))
            steps[-1]["k"] += [k for k in block if k != C]
    for step in steps:
        if "k" in step:
            step["k"] = _ranges(step["k"])
    return steps


def _of_json(steps: list[dict[str, Any]]) -> Chain:
    made: list[tuple[int, ...] | Chain] = []
    for step in steps:
        if "add" in step:
            made.append((C,) if step["add"] == "c" else _of_json(step["add"]))
            continue
        places = [k for bounds in step["k"] for k in range(*bounds)]
        size = step["block"]
        blocks = [tuple(places[i : i + size]) for i in range(0, len(places), size)]
        if step.get("c"):
            blocks[0] = (C, *blocks[0])
        made += blocks
    return Chain(tuple(made))


@dataclass(frozen=True)
class SumOrder:
    """The order in which K products are added: blocks chained through an accumulator, and sums that
    are added to each other. str() says it in words; probe_order finds it."""

    k: int
    chain: Chain

    def parts(self) -> list[Chain]:
        """The chains that are added one after another, first the one they are added to."""
        parts: list[Chain] = []
        steps: list[Any] = []
        for step in self.chain.steps:
            if not isinstance(step, Chain) and step != (C,):
                steps.append(step)
                continue
            if steps:
                parts.append(Chain(tuple(steps)))
                steps = []
            parts.append(step if isinstance(step, Chain) else Chain((step,)))
        return [*parts, Chain(tuple(steps))] if steps else parts

    def blocks(self) -> list[int]:
        """The numbers of products that one fused sum has, each once."""

        def of(chain: Chain) -> Iterator[int]:
            for step in chain.steps:
                if isinstance(step, Chain):
                    yield from of(step)
                elif step != (C,):
                    yield len(step) - (C in step)

        return sorted(set(of(self.chain)))

    def json(self) -> list[dict[str, Any]]:
        """Lists and numbers that from_json takes."""
        return _as_json(self.chain)

    @classmethod
    def from_json(cls, steps: list[dict[str, Any]]) -> SumOrder:
        chain = _of_json(steps)
        return cls(sum(k != C for k in chain.places()), chain)

    def matmul(self, a: Any, b: Any, c: Any = None, *, model: Any) -> NDArray[np.float32]:
        """a (M, K) @ b (K, N) [+ c (M, N)] in this order: chains by the matrix unit `model`, whose
        blocks must be those of the order, sums added in binary32, to nearest even. Raises
        ValueError for another unit, or where K or c do not fit the order.
        """
        from halfulp._matmul import matmul
        from halfulp._models import Model

        unit = Model(model) if isinstance(model, str) else model
        x, y = np.asarray(a), np.asarray(b)
        if x.ndim != 2 or x.shape[1] != self.k:
            raise ValueError(f"a has shape {x.shape}, but this order is of {self.k} products")
        if self.blocks() != [unit.block] or unit.split != "consecutive" or unit.c != "in-block":
            found = ", ".join(str(n) for n in self.blocks())
            raise ValueError(
                f"this order has blocks of {found}, one sum with c each; {unit!r} has not: give a "
                "unit of such blocks (halfulp models lists them)"
            )
        takes_c = C in set(self.chain.places())
        if takes_c != (c is not None):
            raise ValueError(
                "this order has a place for c: give it, or probe without c"
                if takes_c
                else "this order has no place for c: probe with with_c=True"
            )

        def chain(places: list[int], block: int, start: Any) -> Any:
            return matmul(x[:, places], y[places], start, model=unit)

        start = None if c is None else np.asarray(c, np.float32)
        return np.asarray(self.evaluate(chain, lambda p, q: p + q, start), np.float32)

    def __str__(self) -> str:
        text = _described(self.chain)
        return text if len(text) < 500 else text[:500] + " …"

    def evaluate(
        self,
        chain: Callable[[list[int], int, Value | None], Value],
        add: Callable[[Value, Value], Value],
        c: Value | None = None,
    ) -> Value:
        """The sum. chain(places, block, start) is that of the products at these places of K, in
        blocks of so many, the first onto `start` (None: zero); add(x, y) adds sums."""

        def of(node: Chain) -> Value:
            total: Value | None = None
            for run in node.runs():
                if isinstance(run, Chain):
                    part = of(run)
                    total = part if total is None else add(total, part)
                    continue
                at = 0
                while at < len(run):
                    if C in run[at] and c is None:
                        raise ValueError("this order has a place for c, which is not given")
                    if run[at] == (C,):
                        total = c if total is None else add(total, c)  # type: ignore[arg-type]
                        at += 1
                        continue
                    size = len(run[at]) - (C in run[at])
                    start = c if C in run[at] else total
                    places = [k for k in run[at] if k != C]
                    end = at + 1
                    while end < len(run) and C not in run[end] and len(run[end]) == size:
                        places += run[end]
                        end += 1
                    total = chain(places, size, start)
                    at = end
            assert total is not None
            return total

        return of(self.chain)


def _described(chain: Chain) -> str:
    parts = SumOrder(0, chain).parts()
    after = [p for p in parts if list(p.places()) == [C]]
    parts = [p for p in parts if p not in after]
    c = {"then c": bool(after), "onto c": not after and C in set(chain.places())}
    end = "".join(f", {words}" for words, there in c.items() if there)
    if any(
        isinstance(s, Chain) and any(isinstance(t, Chain) for t in s.steps) for s in chain.steps
    ):
        # Sums of several parts are added to the first parts' sum.
        first = next(n for n, p in enumerate(parts) if any(isinstance(s, Chain) for s in p.steps))
        head = Chain((*parts[0].steps, *parts[1:first]))
        return " + ".join(f"({_described(p)})" for p in (head, *parts[first:])) + end
    blocks = "chains of blocks of " + "/".join(str(b) for b in SumOrder(0, chain).blocks())
    places = [[k for k in p.places() if k != C] for p in parts]
    flat = [k for p in places for k in p]
    if flat != sorted(flat) or len(flat) != flat[-1] - flat[0] + 1:  # not in order
        texts = []
        for part in places:
            ranges = _ranges(part)
            shown = " ".join(":".join(map(str, bounds)) for bounds in ranges[:4])
            texts.append(shown + (f" … ({len(ranges)} ranges)" if len(ranges) > 4 else ""))
        shown = " + ".join(texts[:8]) + (" + …" if len(texts) > 8 else "")
        return f"k = {shown}, {len(parts)} {blocks}{end}"
    if len(parts) == 1:
        return f"k = {flat[0]}:{flat[-1] + 1}, a {blocks.replace('chains', 'chain')}{end}"
    sizes = sorted({len(p) for p in places[:-1]})
    cut = f"{len(parts)} parts of {sizes[0]}"
    if len(sizes) > 1:
        cut = f"parts of {', '.join(str(len(p)) for p in places[:12])}"
        cut += " …" if len(places) > 12 else ""
    elif len(places[-1]) != sizes[0]:
        cut += f", the last of {len(places[-1])}"
    return f"k = {flat[0]}:{flat[-1] + 1} in {cut}, {blocks}{end}"


class _Asker:
    """Products of chosen numbers: ±2^big at two places, 2^small at others."""

    def __init__(
        self, f: Product, k: int, a: _Format, b: _Format, d: _Format, with_c: bool, rows: int
    ) -> None:
        self.f, self.k, self.with_c, self.rows = f, k, with_c, rows
        least_a, least_b = (x.emin - (x.precision - 1) for x in (a, b))
        self.calls = 0
        self.digits = max(d.precision, 24)  # of sums, also where the result has fewer
        self.exact = a.precision + b.precision <= self.digits
        # A sum of `most` small numbers is exact in d and is lost beside 2^big in binary32.
        big_a, small_a = min(a.emax, d.emax, 40), max(least_a, -40)
        self.both = big_a - small_a < 36  # then b's numbers must differ too, place by place
        if self.both:
            big_b = min(b.emax, d.emax - big_a)
            self.a = (2.0**big_a, 2.0**small_a)
            self.b = (2.0**big_b, 2.0**least_b)
            span = big_a + big_b - small_a - least_b
        else:
            self.a, self.b = (2.0**big_a, 2.0**small_a), (1.0, 1.0)
            span = big_a - small_a
        self.big, self.small = self.a[0] * self.b[0], self.a[1] * self.b[1]
        self.most = 2 ** max(min(d.precision, span - 26), 0)
        if self.most < 16:
            raise ValueError(
                "the formats of the operands have too few exponents to probe an order of sums"
            )

    def kept(
        self, pairs: list[tuple[int, int]], markers: list[NDArray[np.int64]], small: NDArray[Any]
    ) -> NDArray[np.int64]:
        """How many of row r's markers are in the result when ±2^big stand at pairs[r]; `small` says
        of each place of K (and of c, last) whether its b is that of markers."""
        a = np.zeros((self.rows, self.k))
        c = np.zeros(self.rows)
        b = np.where(small[: self.k], self.b[1], self.b[0])
        for r, (i, j) in enumerate(pairs):
            places = markers[r]
            a[r, places[places != C]] = self.a[1]
            if self.with_c and C in places:
                c[r] = self.small
            for place, sign in ((i, 1.0), (j, -1.0)):
                if place == C:
                    c[r] = sign * self.big
                else:
                    a[r, place] = sign * self.a[0]
        self.calls += 1
        got = np.asarray(self.f(a, b, c if self.with_c else None), np.float64)[: len(pairs)]
        counts = got / self.small
        if not (np.isfinite(counts).all() and (counts == np.rint(counts)).all()):
            raise UnknownOrderError(f"a sum of equal numbers gave {got[0]}, no multiple of them")
        return counts.astype(np.int64)


class _Grains:
    """The tree of sums over grains, runs of `size` places of K, as FPRev finds it (arXiv
    2411.00442): the sum of fewest grains that two are both in, for pairs of them."""

    def __init__(self, ask: _Asker, size: int) -> None:
        self.ask, self.size = ask, size
        self.grains = -(-ask.k // size)
        self.known: dict[tuple[int, int], int] = {}
        self.needed: set[tuple[int, int]] = set()

    def together(self, i: int, j: int) -> int | None:
        key = (i, j) if i < j else (j, i)
        found = self.known.get(key)
        if found is None:
            self.needed.add(key)
        return found

    def place(self, grain: int, offset: int) -> int:
        if grain == self.grains:
            return C
        return min(grain * self.size + min(offset, self.size - 1), self.ask.k - 1)

    def answer(self) -> None:
        ask = self.ask
        pairs = sorted(self.needed)
        self.needed.clear()
        leaves = [self.place(g, 1) for g in range(self.grains)] + [C] * ask.with_c
        kept = np.zeros(len(pairs), np.int64)
        small = np.zeros(ask.k + 1, bool)
        small[[p for p in leaves if p != C]] = True
        windows = np.array_split(np.array(leaves), -(-len(leaves) // ask.most))
        for at in range(0, len(pairs), ask.rows):
            here = [(self.place(i, 0), self.place(j, 0)) for i, j in pairs[at : at + ask.rows]]
            for window in windows:
                kept[at : at + ask.rows] += ask.kept(here, [window] * len(here), small)
        for pair, count in zip(pairs, kept, strict=True):
            self.known[pair] = len(leaves) - int(count)

    def tree(self) -> Chain:
        everything = list(range(self.grains + self.ask.with_c))
        while (found := self.path(everything)) is None:
            self.answer()
        return found if isinstance(found, Chain) else Chain(((found,),))

    def path(self, members: list[int]) -> Chain | int | None:
        """The sum of exactly these grains; None while answers are missing."""
        first = members[0]
        if len(members) == 1:
            return first
        sizes = [self.together(first, j) for j in members[1:]]
        if None in sizes:
            return None
        groups: dict[int, list[int]] = {}
        for j, size in zip(members[1:], sizes, strict=True):
            groups.setdefault(size, []).append(j)  # type: ignore[arg-type]
        chain: Chain | int = first
        complete, total = True, 1
        for size in sorted(groups):
            total += len(groups[size])
            if size != total:
                raise UnknownOrderError(f"a sum of {size} grains has {total} in it")
            children = self.children(groups[size], size)
            if children is None:
                complete = False
            elif complete:
                chain = _joined(chain, children)
        return chain if complete else None

    def children(self, members: list[int], size: int) -> list[Chain | int] | None:
        """What is directly below the sum of `size` grains, of these."""
        found: list[Chain | int | None] = []
        rest = members
        while rest:
            sizes = [self.together(rest[0], j) for j in rest[1:]]
            if None in sizes:
                return None
            below = [s < size for s in sizes]  # type: ignore[operator]
            inside = [rest[0]] + [j for j, b in zip(rest[1:], below, strict=True) if b]
            found.append(self.path(inside))
            rest = [j for j, b in zip(rest[1:], below, strict=True) if not b]
        return None if None in found else found  # type: ignore[return-value]


def _joined(sum_so_far: Chain | int, others: list[Chain | int]) -> Chain:
    nodes = [sum_so_far, *others]
    chains = [x for x in nodes if isinstance(x, Chain)]
    grains = tuple(x for x in nodes if not isinstance(x, Chain))
    if not chains:
        return Chain((grains,))
    if len(chains) == 1 and grains:
        return Chain((*chains[0].steps, grains))
    if len(chains) == 2 and not grains:
        # The sum of the one that begins earlier goes on; addition commutes.
        return Chain((*chains[0].steps, chains[1]))
    raise UnknownOrderError(f"{len(chains)} sums and {len(grains)} grains are added at once")


def _expanded(chain: Chain, tree: _Grains) -> Chain:
    steps: list[tuple[int, ...] | Chain] = []
    for step in chain.steps:
        if isinstance(step, Chain):
            steps.append(_expanded(step, tree))
            continue
        places: list[int] = []
        for grain in step:
            low = grain * tree.size
            high = min(low + tree.size, tree.ask.k)
            places += [C] if grain == tree.grains else range(low, high)
        steps.append(tuple(sorted(places)))
    return Chain(tuple(steps))


def _paths(chain: Chain, prefix: tuple[int, ...] = ()) -> Iterator[tuple[int, tuple[int, ...]]]:
    for n, step in enumerate(chain.steps):
        if isinstance(step, Chain):
            yield from _paths(step, (*prefix, n))
        else:
            yield from ((k, (*prefix, n)) for k in step)


def _singles(ask: _Asker, order: SumOrder) -> SumOrder:
    """The order of a chain's first two products, which the sizes of sums cannot show, and whether
    products are rounded before they are added: asked by (1 + 2^-h)^2 - (1 + 2^(1-h)) = 2^-2h, which
    is left if the product is not rounded."""
    half = (ask.digits + 1) // 2
    x, y, left = 1 + 2.0**-half, -(1 + 2.0 ** (1 - half)), 2.0 ** (-2 * half)

    def exact(later: list[int], first: list[int]) -> dict[int, bool]:
        answers: dict[int, bool] = {}
        if ask.exact:  # then neither changes a bit
            return answers
        for at in range(0, len(later), ask.rows):
            rows = list(zip(later, first, strict=True))[at : at + ask.rows]
            a, b = np.zeros((ask.rows, ask.k)), np.ones(ask.k)
            for r, (i, j) in enumerate(rows):
                a[r, i], a[r, j] = x, y
                b[i] = x
            ask.calls += 1
            got = np.asarray(ask.f(a, b, np.zeros(ask.rows) if ask.with_c else None), np.float64)
            answers |= {i: bool(value == left) for (i, _), value in zip(rows, got, strict=False)}
        return answers

    chains: list[Chain] = []

    def collect(chain: Chain) -> None:
        chains.append(chain)
        for step in chain.steps:
            if isinstance(step, Chain):
                collect(step)

    collect(order.chain)
    starts = [c.steps[0] for c in chains if not isinstance(c.steps[0], Chain)]
    pairs = [s for s in starts if len(s) == 2 and C not in s]
    second = exact([v for _, v in pairs], [u for u, _ in pairs])
    first = exact([u for u, _ in pairs], [v for _, v in pairs])
    later = [
        (step[0], chain.steps[0][0])
        for chain in chains
        for step in chain.steps[1:]
        if not isinstance(step, Chain) and not isinstance(chain.steps[0], Chain)
        if len(step) == 1 and step != (C,)
    ]
    others = exact([i for i, _ in later], [j for _, j in later])

    def alone(k: int, fused: bool) -> tuple[int, ...] | Chain:
        return (k,) if fused else Chain(((k,),))

    def ordered(chain: Chain) -> Chain:
        steps: list[tuple[int, ...] | Chain] = []
        for n, step in enumerate(chain.steps):
            if isinstance(step, Chain):
                steps.append(ordered(step))
            elif n == 0 and step in pairs:
                u, v = step
                if ask.exact:
                    steps += [(u,), (v,)]
                elif first[u] and second[v]:
                    steps.append(step)
                elif first[u]:
                    steps += [(v,), (u,)]
                else:
                    steps += [(u,), alone(v, second[v])]
            else:
                steps.append(
                    alone(step[0], others.get(step[0], True))
                    if len(step) == 1 and step != (C,)
                    else step
                )
        return Chain(tuple(steps))

    return SumOrder(order.k, ordered(order.chain))


def _verify(ask: _Asker, order: SumOrder, seed: int, calls: int) -> bool:
    """Whether random masks and markers at any place give what the order says."""
    rng = np.random.default_rng(seed)
    path = dict(_paths(order.chain))

    def lost(i: int, j: int, t: int) -> bool:
        x, y, z = path[i], path[j], path[t]
        depth = next(n for n in range(len(x)) if n == len(x) - 1 or x[n] != y[n])
        return z[:depth] == x[:depth] and z[depth] <= max(x[depth], y[depth])

    k = ask.k
    for call in range(calls):
        # Places whose residues were drawn are markers', the others masks'; near and far pairs.
        residues = rng.permutation(64) < 32
        small = np.append(residues[(np.arange(k) >> (call % 3)) % 64], False)
        free = np.flatnonzero(~small[:k])
        pairs, markers = [], []
        while len(pairs) < ask.rows:
            i = int(rng.choice(free[free < 64] if rng.random() < 0.2 else free))
            width = int(rng.choice([4, 16, 64, 256, k]))
            low = i // width * width
            near = free[(free >= low) & (free < low + width) & (free != i)]
            if len(near) == 0:
                continue
            j = C if ask.with_c and rng.random() < 0.1 else int(rng.choice(near))
            around = np.flatnonzero(small[:k] & (abs(np.arange(k) - i) < 2 * width))
            anywhere = np.flatnonzero(small[:k])
            most = min(ask.most, 128)
            chosen = np.unique(
                np.concatenate(
                    [
                        rng.permutation(around)[: most // 2],
                        rng.permutation(anywhere)[: most // 2],
                    ]
                )
            )
            pairs.append((i, j))
            markers.append(chosen.astype(np.int64))
        got = ask.kept(pairs, markers, small)
        for (i, j), chosen, count in zip(pairs, markers, got, strict=True):
            if count != sum(not lost(i, j, int(t)) for t in chosen):
                return False
    return True


def probe(
    f: Product,
    k: int,
    a: _Format,
    b: _Format,
    d: _Format,
    *,
    with_c: bool,
    grain: int,
    rows: int,
    checks: int,
) -> tuple[SumOrder, int]:
    """The order, and how many products were asked for; halfulp.probe_order has the definition."""
    ask = _Asker(f, k, a, b, d, with_c, rows)
    reasons = []
    size = 2 ** math.ceil(math.log2(min(grain, k)))
    least = 2 if ask.both else 1
    while size >= least:
        try:
            tree = _Grains(ask, size)
            order = SumOrder(k, _expanded(tree.tree(), tree))
            # A block of one grain might be several, or a part of one.
            if size > least and min(order.blocks()) <= size:
                reasons.append(f"grains of {size}: as long as a block")
            elif _verify(ask, order, 1, checks):
                if size == 1 and max(order.blocks()) <= 2:
                    order = _singles(ask, order)
                return order, ask.calls
            else:
                reasons.append(f"grains of {size}: random probes contradict {order}")
        except UnknownOrderError as error:
            reasons.append(f"grains of {size}: {error}")
        size //= 2
    raise UnknownOrderError("no order explains the sums: " + "; ".join(reasons))
