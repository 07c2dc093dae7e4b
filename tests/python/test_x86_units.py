"""x86's matrix instructions: the package and recorded results against exact rationals."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import x86_reference as reference
from numpy.typing import NDArray

import halfulp as hu
from halfulp import _core, _x86, cli

DATA = Path(__file__).resolve().parents[2] / "data/hardware/xeon-emerald-rapids"
NAMES = sorted(reference.UNITS)


def test_the_list_of_models_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(_x86.models()) <= set(hu.models())
    assert cli.main(["models", "x86.amx.bf16.f32"]) == 0
    assert "TDPBF16PS" in capsys.readouterr().out


def words(rows: list[list[int]]) -> NDArray[np.uint32]:
    return np.array(rows, np.uint32)


def test_the_package_has_the_units_of_the_reference() -> None:
    assert sorted([*_x86.models(), "x86.avx512.f32.bf16"]) == NAMES
    assert sorted(p.stem for p in DATA.glob("*.bits")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_recorded_results_are_those_of_the_reference_and_of_the_package(
    name: str, cases: Callable[..., None]
) -> None:
    header, records = reference.records(DATA / f"{name}.bits")
    assert header["unit"] == name
    assert len(records) > 500
    assert len({r.category for r in records}) == 13
    wrong = [r for r in records if reference.dot(name, r.a, r.b, r.c) != r.d]
    assert not wrong
    for r in records:
        out = np.empty((1, 1), np.uint32)
        columns = words([r.b]).T.copy()
        _core.matmul_x86(name, words([r.a]), columns, words([[r.c]]), out, 1)
        assert int(out[0, 0]) == r.d, r
    cases(2 * len(records), f"unit {name}")


def operands(
    rng: np.random.Generator, name: str, shape: tuple[int, int], first: bool
) -> NDArray[Any]:
    """Numbers of a unit's operands; floats near 1 and near both ends, a few NaN and infinities."""
    if name.endswith("f32"):
        exponents = rng.integers(-3, 4, shape) + rng.choice([0, 0, 0, -62, 62], shape[0])[:, None]
        sign = rng.integers(0, 2, shape) << 31
        w = (exponents + 127 << 23 | rng.integers(0, 128, shape) << 16 | sign).astype(np.uint32)
        special = rng.choice(
            [0x7FC10000, 0xFF820000, 0x7F800000, 0x80000000, 0x00030000], shape
        ).astype(np.uint32)
        return np.where(rng.random(shape) < 0.003, special, w).view(np.float32)
    if name.endswith("f16"):
        return rng.integers(0, 1 << 16, shape).astype(np.uint16).view(np.float16)
    types = name.removesuffix(".saturate").split(".")[2:-1]
    of = types[0] if first else types[-1]
    bits = int(of[1:])
    low = -(1 << (bits - 1)) if of[0] == "s" else 0
    return rng.integers(low, low + (1 << bits), shape)


@pytest.mark.parametrize("name", _x86.models())
@pytest.mark.parametrize("k", [2, 30, 70])
def test_products_are_sequences_of_instructions(
    name: str, k: int, cases: Callable[..., None]
) -> None:
    rng = np.random.default_rng(k)
    m, n = 9, 7
    a, b = operands(rng, name, (m, k), True), operands(rng, name, (n, k), False).T
    integer = name.endswith("s32") or name.endswith("saturate")
    c: NDArray[Any]
    if integer:
        c = rng.integers(-(2**31), 2**31, (m, n))
    else:
        c = rng.standard_normal((m, n)).astype(np.float16 if name.endswith("f16") else np.float32)
    got = hu.matmul(a, b, c, model=name)
    bits: Any = np.uint16 if name.endswith("f16") else np.uint32

    def raw(x: NDArray[Any]) -> list[list[int]]:
        if integer:
            width = 16 if "s16" in name else 8
            return (x.astype(np.int64) & ((1 << width) - 1)).tolist()
        return np.ascontiguousarray(x).view(bits).tolist()

    columns = raw(np.ascontiguousarray(b.T))
    starts = (c & 0xFFFFFFFF).tolist() if integer else np.ascontiguousarray(c).view(bits).tolist()
    want = [
        [
            reference.dot(name, row, column, start)
            for column, start in zip(columns, line, strict=True)
        ]
        for row, line in zip(raw(a), starts, strict=True)
    ]
    assert np.ascontiguousarray(got).view(bits).tolist() == want
    cases(m * n, f"unit {name}")


def test_the_order_of_a_pair_and_of_a_tile() -> None:
    big, one = np.float32(2.0**24), np.float32(1)
    # VDPBF16PS: the odd product meets c first.
    a, b = [[one, big]], [[one], [one]]
    avx = hu.matmul(a, b, [[-big]], model="x86.avx512.bf16.f32")
    assert avx.dtype == np.float32
    assert avx.tolist() == [[1.0]]
    assert hu.matmul([[big, one]], b, [[-big]], model="x86.avx512.bf16.f32").tolist() == [[1.0]]
    assert hu.matmul([[one, -big]], b, [[one]], model="x86.avx512.bf16.f32").tolist() == [
        [float(np.float32(1 - 2.0**24) + 1)]
    ]
    # TDPBF16PS: the even products, the odd ones, and c at the end.
    x = [[big, one, -big, one]]
    ones = [[one]] * 4
    assert hu.matmul(x, ones, model="x86.amx.bf16.f32").tolist() == [[2.0]]
    assert hu.matmul(x, ones, model="x86.avx512.bf16.f32").tolist() == [[0.0]]


def test_flushing_and_its_edge() -> None:
    def f(word: int) -> np.float32:
        return np.array(word, np.uint32).view(np.float32)[()]

    def run(a: list[float], b: list[float], c: int, name: str = "x86.avx512.bf16.f32") -> int:
        out = hu.matmul([a], [[x] for x in b], np.array([[f(c)]]), model=name)
        return int(out.view(np.uint32)[0, 0])

    least = 0x00800000
    assert run([0.0, 0.0], [0.0, 0.0], 0x00400000) == 0
    assert run([0.0, 0.0], [0.0, 0.0], 0x80400000) == 0  # -0 + 0·0
    assert run([-0.0, -0.0], [0.0, 0.0], 0x80400000) == 0x80000000
    # 2^-126 − 2^-151 rounds to 2^-126 in 24 bits; 2^-126 − 2^-150 does not and is flushed.
    assert run([2.0**-60, 0.0], [-(2.0**-91), 0.0], least) == least
    assert run([2.0**-60, 0.0], [-(2.0**-90), 0.0], least) == 0
    assert run([2.0**-60, 0.0], [2.0**-90, 0.0], 0x80800000) == 0x80000000
    assert run([float(f(0x00400000)), 0.0], [2.0**127, 0.0], 0) == 0  # a subnormal operand


def test_bfloat16_arrays_and_nan_payloads() -> None:
    a = np.array([[0x7F81, 0x3F80]], np.uint16).view(ml_dtypes.bfloat16)
    b = np.array([[0x3F80], [0xFFD3]], np.uint16).view(ml_dtypes.bfloat16)
    got = hu.matmul(a, b, model="x86.avx512.bf16.f32").view(np.uint32)
    assert got.tolist() == [[0x7FC10000]]  # the even product's, made quiet
    inf = np.float32("inf")
    got = hu.matmul([[inf, 0]], [[0], [0]], model="x86.amx.bf16.f32").view(np.uint32)
    assert got.tolist() == [[0xFFC00000]]


def test_conversion() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 1 << 32, 20000).astype(np.uint32)
    x = np.where((x & 0x7F800000) == 0, x | 0x00800000, x)  # no subnormals: those are flushed
    x = np.where((x & 0x7F800000) == 0x7F800000, x & 0xFF800000, x)  # no NaN
    f = x.view(np.float32)
    want = f.astype(ml_dtypes.bfloat16).view(np.uint16)
    assert (_x86.to_bfloat16(f) == want).all()
    special = np.array([1, 0x80000001, 0x007FFFFF, 0x7F800001, 0xFFFFFFFF], np.uint32)
    assert _x86.to_bfloat16(special.view(np.float32)).tolist() == [0, 0x8000, 0, 0x7FC0, 0xFFFF]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: hu.matmul([[1.0]], [[1.0]], model="x86.amx.f64"), "no matrix unit of x86"),
        (
            lambda: hu.matmul([[1.0]], [[1.0]], model="x86.avx512.f32.bf16"),
            "no matrix unit of x86 is called",
        ),
        (
            lambda: hu.matmul([[1.0] * 3], [[1.0]] * 3, model="x86.amx.bf16.f32"),
            "K is 3, but this unit multiplies pairs; append zeros",
        ),
        (
            lambda: hu.matmul([[1.01, 1]], [[1.0]] * 2, model="x86.amx.bf16.f32"),
            "a[0, 0] = 1.01 is no value of float32",
        ),
        (
            lambda: hu.matmul([[1, 257.0]], [[1.0]] * 2, model="x86.amx.bf16.f32"),
            "a[0, 1] = 257.0 is no value of bfloat16",
        ),
        (
            lambda: hu.matmul([[1, 256]], [[1]] * 2, model="x86.amx.u8.s8.s32"),
            "a[0, 1] = 256 is not from 0 to 255",
        ),
        (
            lambda: hu.matmul([[1.5]], [[1]], model="x86.amx.s8.s32"),
            "a has dtype float64; pass integers, -128 to 127",
        ),
        (
            lambda: hu.matmul([[1]], [[1]], [[2**31]], model="x86.amx.s8.s32"),
            "c[0, 0] = 2147483648 is not from",
        ),
        (lambda: hu.matmul([[1, 2]], [[1]], model="x86.amx.s8.s32"), "the columns of a"),
        (lambda: hu.Model("x86.amx.s8.s32"), "a unit of x86, which has no fields to change"),
        (
            lambda: hu.matmul([[1]], [[1]], model="x86.amx.s8.s32", order="exact"),
            "a model decides formats, order and rounding",
        ),
        (lambda: hu.matmul([1], [[1]], model="x86.amx.s8.s32"), "a has 1 dimensions"),
        (lambda: hu.matmul([["x"]], [[1.0]], model="x86.avx512.f16.f16"), "pass real numbers"),
    ],
)
def test_errors_are_sentences(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(sentence)) as error:
        call()
    assert "\n" not in str(error.value)
