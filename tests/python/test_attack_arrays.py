"""Attacks on arrays: large against small, any layout, threads, forks and control words, against lists and rationals."""

from __future__ import annotations

import math
import multiprocessing
import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from attack_reference import FORMATS, magnitudes, random_bits, rounded, same, stochastic

import halfulp as hu

MODES = ["nearest-even", "nearest-away", "nearest-zero", "toward-zero", "up", "down", "away", "odd"]
STOCHASTIC = ["stochastic", "stochastic-b", "stochastic-c", "stochastic-equal"]
F = "float8_e4m3fn"


@pytest.fixture(autouse=True)
def restored() -> object:
    before = hu.threads()
    yield
    hu.set_threads(before)


def hard(rng: np.random.Generator, n: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """Random words, normal numbers over many binades, and short multiples of powers of two."""
    words = rng.integers(0, 1 << 32, n, dtype=np.uint64).astype(np.uint32).view(np.float32)
    normal = rng.standard_normal(n) * 2.0 ** rng.integers(-20, 20, n)
    short = np.ldexp(rng.integers(-40, 40, n).astype(float), rng.integers(-15, 10, n))
    pick = rng.integers(0, 3, n)
    with np.errstate(all="ignore"):
        return np.where(pick == 0, words, np.where(pick == 1, normal, short)).astype(dtype)


@pytest.mark.parametrize("name", FORMATS)
def test_rounding_encoding_and_decoding_follow_the_list_of_values(name: str) -> None:
    rng = np.random.default_rng(1)
    infinite, has_nan = FORMATS[name][4:]
    options = {} if has_nan else {"nan_to": "zero"}
    for dtype in (np.float32, np.float64):
        x = hard(rng, 300, dtype)
        for mode in MODES:
            want = []
            for v in x.astype(float).tolist():
                if math.isnan(v):
                    want.append(v if has_nan else 0.0)
                elif math.isinf(v):
                    largest = math.copysign(float(magnitudes(name)[-2]), v)
                    want.append(v if infinite else math.nan if has_nan else largest)
                else:
                    want.append(rounded(Fraction(v), name, mode, math.copysign(1, v) < 0))
            given = np.array(want, dtype)
            assert same(hu.round(x, name, rounding=mode, **options), given), (mode, dtype)
            codes = hu.encode(x, name, rounding=mode, **options)
            assert same(hu.decode(codes, name, dtype), given), (mode, dtype)


OPERATIONS = {"round": 1, "encode": 1, "sqrt": 1, "add": 2, "sub": 2, "mul": 2, "div": 2, "fma": 3}


@pytest.mark.parametrize(
    "name", [F, "tf32", "fp_e5p4b15_s_ieee_ieee_nosub", "fp_e5p17b15_s_ieee_ieee"]
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_pieces_of_a_large_unaligned_array_have_the_bits_and_flags_of_the_whole(
    operation: str, name: str
) -> None:
    rng = np.random.default_rng([OPERATIONS[operation], len(name)])
    run = getattr(hu, operation)
    n = (1 << 17) + 13
    for mode in (*rng.choice(MODES, 2), *rng.choice(STOCHASTIC, 1)):
        options: dict[str, Any] = {"rounding": str(mode), "flags": True, "nan_to": "largest"}
        options["overflow"] = str(rng.choice(["ieee", "saturate", "saturate-propagate", "nan"]))
        if mode in STOCHASTIC:
            options |= {"seed": 11, "offset": 2**40 + 3, "random_bits": int(rng.integers(1, 65))}
        given = []
        for _ in range(OPERATIONS[operation]):
            shift = int(rng.integers(0, 64))
            memory = bytes(shift) + hard(rng, n).tobytes()  # read-only, at any address
            given.append(np.frombuffer(memory, np.float32, offset=shift))
        hu.set_threads(int(rng.choice([2, 7, 1024])))
        result, flags = run(*given, name, **options)
        hu.set_threads(1)
        for length in (1, 2, 15, 16, 17, 63, 257):
            first = int(rng.integers(0, n - length))
            part = slice(first, first + length)
            if mode in STOCHASTIC:
                options["offset"] = 2**40 + 3 + first
            piece, piece_flags = run(*(x[part].copy() for x in given), name, **options)
            small = result[part]
            assert small.tobytes() == piece.tobytes() or same(small, piece), (mode, first, length)
            assert np.array_equal(flags[part], piece_flags)


@pytest.mark.parametrize("mode", STOCHASTIC)
def test_random_bits_are_those_of_the_definition_by_index(mode: str) -> None:
    rng = np.random.default_rng(4)
    for r in (1, 3, 8, 11, 16, 21, 32, 50, 64):
        x = (rng.standard_normal(64) * 2.0 ** rng.integers(-12, 6, 64)).astype(np.float32)
        for offset in (0, 7, 2**33 + 5, 2**50 + 1):
            bits = random_bits(2**63 + 9, offset, 64, r, 5, 6)
            got = hu.round(
                x, F, mode, seed=2**63 + 9, random_bits=r, offset=offset, tensor=5, step=6
            )
            want = [
                stochastic(Fraction(v), F, mode, r, b)
                for v, b in zip(x.tolist(), bits, strict=True)
            ]
            assert got.tolist() == want, (r, offset)


def test_a_result_in_place_is_right_and_one_over_operands_is_refused() -> None:
    rng = np.random.default_rng(5)
    hu.set_threads(3)
    for n in (2, 1000, 70_001):
        for shift in (-3, -1, 1, 64):
            memory = rng.standard_normal(n + abs(shift)).astype(np.float32)
            before = memory.copy()
            x, out = memory[max(0, -shift) :][:n], memory[max(0, shift) :][:n]
            if abs(shift) < n:
                for call in (
                    lambda x=x, out=out: hu.round(x, F, out=out),
                    lambda x=x, out=out: hu.fma(1.0, 2.0, x, F, out=out),
                ):
                    with pytest.raises(ValueError, match="overlaps"):
                        call()
                assert memory.tobytes() == before.tobytes()
            want = hu.round(x.copy(), F)
            assert hu.round(x, F, out=x).tobytes() == want.tobytes()


@pytest.mark.parametrize("strides", [(0, 0), (4, 4), (8, 4), (-4, 4), (2, 12)])
def test_a_result_whose_elements_share_bytes_is_refused(strides: tuple[int, int]) -> None:
    out = np.lib.stride_tricks.as_strided(np.zeros(64, np.float32)[32:], (3, 3), strides)
    for f in (F, "q3.4"):
        with pytest.raises(ValueError, match="the result repeats its memory"):
            hu.round(np.ones((3, 3), np.float32), f, out=out)


def test_results_go_into_every_view_of_memory_of_its_own() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    want = hu.round(x, "float6_e2m3fn")
    whole = np.zeros((4, 6, 8), np.float32)
    for out in (
        whole[::2, ::2, ::2],
        whole[1::2, ::-2, 4:],
        np.zeros((4, 3, 2), np.float32).T,
        whole[1:3, 2:5, 3:7],
    ):
        assert np.array_equal(hu.round(x, "float6_e2m3fn", out=out), want)
    diagonal = np.einsum("ii->i", np.zeros((24, 24), np.float32))
    assert np.array_equal(hu.round(x.ravel(), "float6_e2m3fn", out=diagonal), want.ravel())


@pytest.mark.parametrize("bad", [0, 40_000, 70_000])
@pytest.mark.parametrize("threads", [1, 7])
def test_nothing_is_written_before_an_error_which_names_the_element(bad: int, threads: int) -> None:
    hu.set_threads(threads)
    x = np.random.default_rng(6).standard_normal(70_001)
    x[bad] = 1e9
    for call, dtype in (
        (lambda out: hu.round(x, F, overflow="error", out=out), np.float64),
        (lambda out: hu.encode(x, F, overflow="error", out=out), np.uint8),
        (lambda out: hu.mul(x, 1.0, F, overflow="error", out=out), np.float64),
        (lambda out: hu.round(x * np.nan, "float4_e2m1fn", out=out), np.float64),
    ):
        out = np.full(x.size, 77, dtype)
        with pytest.raises(hu.RoundingError, match=r"element \d+ "):
            call(out)
        assert (out == 77).all()
    with pytest.raises(hu.RoundingError, match=f"element {bad} "):
        hu.round(x, F, overflow="error")


def jobs() -> list[Callable[[], bytes]]:
    rng = np.random.default_rng(7)
    x, y = hard(rng, 1 << 17), hard(rng, 1 << 17)
    a = hu.round(rng.standard_normal((90, 70)).astype(np.float32), F)
    b = hu.round(rng.standard_normal((70, 50)).astype(np.float32), F)
    return [
        lambda: hu.encode(x, F).tobytes(),
        lambda: hu.encode(x, F, "stochastic", seed=3, random_bits=7).tobytes(),
        lambda: hu.div(x, y, "bfloat16", flags=True)[1].tobytes(),
        lambda: hu.matmul(a, b, accumulate="binary16", order="sequential").tobytes(),
        lambda: hu.matmul(a, b, order="exact").tobytes(),
        lambda: hu.matmul(a, b, model="hopper.wgmma.e4m3.f32").tobytes(),
        lambda: hu.matmul(a, b, model="x86.amx.bf16.f32").tobytes(),
        lambda: hu.quantize(a, "mxfp4").codes.tobytes(),
    ]


def test_calls_from_several_python_threads_do_not_disturb_each_other() -> None:
    hu.set_threads(1)
    work = jobs()
    want = [job() for job in work]
    wrong: list[int] = []

    def run(first: int) -> None:
        for i in range(len(work)):
            if first == 0:
                hu.set_threads(1 + i)
            at = (i + first) % len(work)
            if work[at]() != want[at]:
                wrong.append(at)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _child(queue: Any, work: list[Callable[[], bytes]], want: list[bytes]) -> None:
    queue.put([job() for job in work] == want)


@pytest.mark.filterwarnings("ignore:This process")
def test_a_fork_after_threads_were_used_computes_the_same() -> None:
    hu.set_threads(4)
    work = jobs()
    want = [job() for job in work]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue, work, want))
    child.start()
    try:
        assert queue.get(timeout=60)
    finally:
        child.kill()
        child.join()
