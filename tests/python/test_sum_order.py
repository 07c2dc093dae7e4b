"""Orders of sums are recovered from products that add in them, and from nothing else."""

from __future__ import annotations

import copy
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import halfulp as hu
from halfulp._sum_order import C, Chain

sys.path.insert(0, str(Path(__file__).parents[1] / "hardware"))
import library_gemm

RECORDED = Path(__file__).parents[2] / "data/hardware/h200/gemm.json"


def blocks(low: int, high: int, block: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(range(i, i + block)) for i in range(low, high, block))


def cut(k: int, block: int, cuts: list[int], c: str = "") -> hu.SumOrder:
    ends = [0, *cuts, k]
    parts = [blocks(low, high, block) for low, high in itertools.pairwise(ends)]
    steps: tuple[Any, ...] = (*parts[0], *(Chain(p) for p in parts[1:]))
    if c == "onto":
        steps = ((C, *steps[0]), *steps[1:])
    return hu.SumOrder(k, Chain((*steps, (C,)) if c == "after" else steps))


def library(order: hu.SumOrder, model: str) -> Callable[..., Any]:
    """A library that adds in this order."""

    def f(a: np.ndarray, b: np.ndarray, c: np.ndarray | None) -> np.ndarray:
        start = None if c is None else c[:, None]
        return order.matmul(a, b[:, None], start, model=model)[:, 0]

    return f


F16, FP8 = ("hopper.wgmma.f16.f32", "binary16"), ("hopper.wgmma.e4m3.f32", "float8_e4m3fn")
BF16, TF32 = ("hopper.wgmma.bf16.f32", "bfloat16"), ("hopper.mma.k4.tf32.f32", "tf32")
K8 = ("hopper.mma.k8.f16.f32", "binary16")


@pytest.mark.parametrize(
    ("unit", "order"),
    [
        (F16, cut(256, 16, [])),
        (F16, cut(32, 16, [])),
        (F16, cut(256, 16, [64, 160])),
        (K8, cut(256, 8, [])),
        (BF16, cut(256, 16, [64], "after")),
        (BF16, cut(256, 16, [64], "onto")),
        (BF16, cut(256, 16, [], "onto")),
        (FP8, cut(512, 32, [128, 256, 384])),
        (FP8, cut(512, 32, [], "after")),
        (TF32, cut(128, 4, [32, 64, 96])),
        (TF32, cut(16, 4, [4, 8, 12])),
    ],
    ids=lambda x: str(x) if isinstance(x, hu.SumOrder) else x[0],
)
def test_an_order_is_recovered(unit: tuple[str, str], order: hu.SumOrder) -> None:
    with_c = C in set(order.chain.places())
    found = hu.probe_order(library(order, unit[0]), order.k, unit[1], with_c=with_c)
    assert found == order
    assert hu.SumOrder.from_json(json.loads(json.dumps(found.json()))) == order


def sliced(k: int, block: int, slices: int) -> hu.SumOrder:
    """Groups of threads take blocks in turn; their sums are added."""
    parts = [Chain(blocks(0, k, block)[s::slices]) for s in range(slices)]
    return hu.SumOrder(k, Chain((*parts[0].steps, *parts[1:])))


def nested() -> hu.SumOrder:
    """Sums of parts are added to sums of parts."""
    inner = [cut(128, 32, [64]).chain.steps for _ in range(4)]

    def moved(step: Any, by: int) -> Any:
        if isinstance(step, Chain):
            return Chain(tuple(moved(s, by) for s in step.steps))
        return tuple(x + by for x in step)

    sums = [Chain(tuple(moved(s, 128 * n) for s in steps)) for n, steps in enumerate(inner)]
    return hu.SumOrder(512, Chain((*sums[0].steps, sums[1], Chain((*sums[2].steps, sums[3])))))


def random_order(seed: int) -> hu.SumOrder:
    """Blocks of 16 in any order, in chains that are joined at random."""
    rng = np.random.default_rng(seed)
    every = [tuple(range(16 * i, 16 * i + 16)) for i in rng.permutation(24)]
    chains = []
    while every:
        n = int(rng.integers(1, 6))
        chains.append(Chain(tuple(every[:n])))
        every = every[n:]
    while len(chains) > 1:
        i, j = sorted(rng.choice(len(chains), 2, replace=False))
        second = chains.pop(j)
        chains[i] = Chain((*chains[i].steps, second))
    return hu.SumOrder(384, chains[0])


def same_sums(x: hu.SumOrder, y: hu.SumOrder) -> bool:
    """Equal but for which of two sums is added to the other."""

    def of(chain: Chain) -> Any:
        total: Any = None
        for step in chain.steps:
            part = of(step) if isinstance(step, Chain) else frozenset(step)
            if total is None:
                total = part if isinstance(step, Chain) else ("block", None, part)
            elif isinstance(step, Chain):
                total = ("sum", frozenset((total, part)))
            else:
                total = ("block", total, part)
        return total

    return bool(of(x.chain) == of(y.chain))


@pytest.mark.parametrize("order", [sliced(256, 16, 2), sliced(256, 16, 4)], ids=str)
def test_slices_of_k_are_recovered(order: hu.SumOrder) -> None:
    assert hu.probe_order(library(order, F16[0]), order.k, F16[1]) == order


def test_sums_of_sums_are_recovered() -> None:
    order = nested()
    assert same_sums(hu.probe_order(library(order, FP8[0]), 512, FP8[1]), order)


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_blocks_is_recovered(seed: int) -> None:
    order = random_order(seed)
    found = hu.probe_order(library(order, F16[0]), order.k, F16[1])
    assert same_sums(found, order)
    rng = np.random.default_rng(seed)
    a = np.asarray(hu.round(rng.standard_normal((9, 384)), "binary16"))
    b = np.asarray(hu.round(rng.standard_normal((384, 7)), "binary16"))
    x, y = (o.matmul(a, b, model=F16[0]) for o in (found, order))
    assert (x.view(np.uint32) == y.view(np.uint32)).all()


@pytest.mark.parametrize("rounds", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_chains_of_single_products_are_recovered(rounds: bool, reverse: bool) -> None:
    """Four threads of two chains each; products rounded first or not, from either end."""

    def thread(t: int) -> Chain:
        def chain(n: int) -> Chain:
            places = [t + 4 * i + 32 * n for i in range(8)]
            places = places[::-1] if reverse else places
            later = [Chain(((p,),)) if rounds else (p,) for p in places[1:]]
            return Chain(((places[0],), *later))

        return Chain((*chain(0).steps, chain(1)))

    order = hu.SumOrder(64, Chain((*thread(0).steps, *(thread(t) for t in (1, 2, 3)))))

    def f(a: np.ndarray, b: np.ndarray, c: None) -> np.ndarray:
        x, y = a.astype(np.float32), b.astype(np.float32)

        def chain(places: list[int], block: int, start: Any) -> np.ndarray:
            total = np.zeros(len(a), np.float32) if start is None else start
            for k in places:
                total = np.asarray(hu.fma(x[:, k], np.full(len(a), y[k]), total, "binary32"))
            return total

        return order.evaluate(chain, lambda p, q: p + q)

    found = hu.probe_order(f, 64, "binary32")
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((64, 64)).astype(np.float32), rng.standard_normal(64)

    def by(o: hu.SumOrder) -> Any:
        x, y = a, b.astype(np.float32)

        def chain(places: list[int], block: int, start: Any) -> np.ndarray:
            total = np.zeros(len(a), np.float32) if start is None else start
            for k in places:
                total = np.asarray(hu.fma(x[:, k], np.full(len(a), y[k]), total, "binary32"))
            return total

        return o.evaluate(chain, lambda p, q: p + q)

    assert (by(found).view(np.uint32) == by(order).view(np.uint32)).all()


def test_a_library_without_an_order_is_refused() -> None:
    rng = np.random.default_rng(1)
    orders = [library(random_order(seed), F16[0]) for seed in range(2)]

    def f(a: np.ndarray, b: np.ndarray, c: None) -> Any:
        return orders[rng.integers(2)](a, b, c)

    with pytest.raises(hu.UnknownOrderError, match="no order explains the sums"):
        hu.probe_order(f, 384, "binary16")


def test_sums_of_three_at_once_are_refused() -> None:
    def f(a: np.ndarray, b: np.ndarray, c: None) -> Any:
        thirds = [a[:, i : i + 64] @ b[i : i + 64] for i in (0, 64, 128)]
        return np.sum(thirds, axis=0)  # in binary64: exact, where a tree would lose

    with pytest.raises(hu.UnknownOrderError):
        hu.probe_order(f, 192, "binary16")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: hu.probe_order(lambda a, b, c: a @ b, 1, "binary16"), "k is 1"),
        (lambda: hu.probe_order(lambda a, b, c: a @ b, 8, "binary16", rows=0), "rows is 0"),
        (lambda: hu.probe_order(lambda a, b, c: a @ b, 8, "int8"), "int8 is none"),
        (
            lambda: hu.probe_order(lambda a, b, c: a @ b, 8, "float4_e2m1fn"),
            "too few exponents to probe",
        ),
        (
            lambda: cut(32, 16, []).matmul(np.ones((1, 32)), np.ones((32, 1)), model=K8[0]),
            "blocks of 16",
        ),
        (
            lambda: cut(32, 16, []).matmul(np.ones((1, 8)), np.ones((8, 1)), model=F16[0]),
            "is of 32 products",
        ),
        (
            lambda: cut(32, 16, [], "after").matmul(
                np.ones((1, 32)), np.ones((32, 1)), model=F16[0]
            ),
            "has a place for c",
        ),
    ],
)
def test_requests_that_cannot_be_met_are_errors(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


# ---------------------------------------------------------------- what an H200's libraries gave


def test_products_of_libraries_are_what_their_orders_say() -> None:
    compared, mismatched = library_gemm.check(RECORDED)
    assert compared > 20_000
    assert mismatched == 0


def test_the_shapes_and_types_that_were_asked_for_are_recorded() -> None:
    table = json.loads(RECORDED.read_text(encoding="utf-8"))
    seen = {
        (tuple(r["shape"]), r["type"], "fast" in r["name"], r["library"])
        for r in table["products"]
        if r["verdict"] == "predicted" and r["out"] == "f32" and r["repeats"]
    }
    for shape in library_gemm.SHAPES:
        for lib in ("torch", "cuBLASLt"):
            for kind, fast in (
                *((k, False) for k in ("e4m3", "f16", "bf16", "tf32")),
                ("e4m3", True),
            ):
                assert (shape, kind, fast, lib) in seen
    assert any(r["algorithm"] and r["algorithm"]["splitk"] > 1 for r in table["products"])
    assert sum(r["compared"] for r in table["products"]) > 2**30
    assert sum(r["mismatched"] for r in table["products"]) == 0


@pytest.mark.parametrize("change", ["order", "bits"])
def test_the_check_of_recorded_products_can_fail(tmp_path: Path, change: str) -> None:
    table = json.loads(RECORDED.read_text(encoding="utf-8"))
    record = copy.deepcopy(
        next(r for r in table["products"] if r["type"] == "f16" and r["out"] == "f32")
    )
    if change == "order":
        k = record["shape"][2]
        record["order"] = cut(k, 16, [k // 2]).json()
    else:
        bits = record["sample"]["spread"]["bits"]
        record["sample"]["spread"]["bits"] = f"{int(bits[:8], 16) ^ 1:08x}{bits[8:]}"
    path = tmp_path / "gemm.json"
    path.write_text(json.dumps(table | {"products": [record]}))
    assert library_gemm.check(path)[1] > 0
