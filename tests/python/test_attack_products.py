"""Attacks on matrix products: every fast order and every unit on hard data, against exact rationals."""

from __future__ import annotations

import math
import os
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attack_reference import FORMATS, magnitudes, rounded

import halfulp as hu

MODES = ["nearest-even", "nearest-away", "nearest-zero", "toward-zero", "up", "down", "away", "odd"]
SEEDS = range(int(os.environ.get("HALFULP_ATTACKS", "1")))  # some seconds each


def sign(x: float) -> float:
    return math.copysign(1.0, x)


def infinite(s: float, name: str) -> float:
    """What an infinity of that sign becomes."""
    _, _, _, _, has_infinity, has_nan = FORMATS[name]
    return s * (math.inf if has_infinity else math.nan if has_nan else float(magnitudes(name)[-2]))


def dot(
    pairs: list[tuple[float, float]], c: float | None, name: str, mode: str, exact: bool = False
) -> float:
    """The sum of the products and c, exact and rounded once; NaN into no NaN: the largest value."""
    nan = math.nan if FORMATS[name][5] else float(magnitudes(name)[-2])
    total, infinities, zeros, nonzero = Fraction(0), set(), set(), False
    for a, b in [*pairs, *([] if c is None else [(c, 1.0)])]:
        if a != a or b != b:
            return nan
        if math.isinf(a) or math.isinf(b):
            if a == 0 or b == 0:
                return nan
            infinities.add(sign(a) * sign(b))
        elif a == 0 or b == 0:
            zeros.add(sign(a) * sign(b) < 0)
        else:
            nonzero = True
            total += Fraction(a) * Fraction(b)
    if len(infinities) == 2:
        return nan
    if infinities:
        got = infinite(infinities.pop(), name)
        return nan if got != got else got
    if total == 0 and not nonzero and len(zeros) < 2:
        return rounded(total, name, mode, zeros == {True})
    got = rounded(total, name, mode, mode == "down")
    return nan if got != got else got


def product(
    row: list[float], column: list[float], c: float | None, order: str, names: tuple[str, str], mode: str
) -> float:  # fmt: skip
    of_products, of_sums = names
    pairs = list(zip(row, column, strict=True))
    if order == "exact":
        return dot(pairs, c, of_sums, mode)
    total = 0.0 if c is None else c
    if order == "fma-sequential":
        for pair in pairs:
            total = dot([pair], total, of_sums, mode)
        return total
    terms = [dot([pair], None, of_products, mode) for pair in pairs]
    if order == "pairwise":
        while len(terms) > 1:
            odd = terms[len(terms) & ~1 :]
            both = zip(terms[::2], terms[1::2], strict=False)
            terms = [dot([(a, 1.0)], b, of_sums, mode) for a, b in both] + odd
    for term in terms:
        total = dot([(term, 1.0)], total, of_sums, mode)
    return total


def hard(rng: random.Random, name: str) -> float:
    values = magnitudes(name)
    kind = rng.random()
    if kind < 0.15:
        return rng.choice([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45, -1e-40, 3e38])
    if kind < 0.75:
        return float(values[rng.randrange(len(values) - 1)]) * rng.choice([1.0, -1.0])
    return float(np.float32(rng.gauss(0, 1) * 2.0 ** rng.randrange(-20, 20)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("order", ["sequential", "fma-sequential", "exact", "pairwise"])
def test_every_order_is_right_on_hard_operands(order: str, seed: int) -> None:
    rng = random.Random(f"{order} {seed}")
    formats = list(FORMATS)
    for _ in range(250):
        operands, sums = rng.choice(formats), rng.choice(formats)
        products = rng.choice(formats) if order in ("sequential", "pairwise") else sums
        mode = rng.choice(MODES)
        k = rng.choice([0, 1, 2, 5, 17])
        m, n = rng.choice([(0, 3), (1, 1), (1, 17), (3, 1), (3, 5)])
        special = rng.random() < 0.5

        def matrix(
            rows: int, columns: int, name: str, given: bool, special: bool = special
        ) -> np.ndarray[Any, Any]:
            x = np.array([hard(rng, name) for _ in range(rows * columns)], np.float32)
            if not special:
                x = np.where(np.isfinite(x), x, np.float32(0.5))
            if given:
                overflow = "ieee" if special else "saturate"
                x = hu.round(x, name, overflow=overflow, nan_to="zero")
            return np.asarray(x).reshape(rows, columns)

        given = rng.random() < 0.6
        a, b = matrix(m, k, operands, given), matrix(n, k, operands, given).T
        c = matrix(m, n, sums, True) if rng.random() < 0.4 else None
        options = {"operands": operands} if given else {}
        if order in ("sequential", "pairwise"):
            options["product"] = products
        got = hu.matmul(
            a.astype(rng.choice([np.float32, np.float64])), b, c, accumulate=sums,
            order=order, rounding=mode, nan_to="largest", **options,
        )  # fmt: skip
        assert got.shape == (m, n)
        for i in range(m):
            for j in range(n):
                start = None if c is None else float(c[i, j])
                row, column = a[i].tolist(), b[:, j].tolist()
                want = product(row, column, start, order, (products, sums), mode)
                value = float(got[i, j])
                alike = value == want and sign(value) == sign(want)
                assert alike or (value != value and want != want), (
                    row, column, start, products, sums, mode, value, want,
                )  # fmt: skip


@pytest.mark.parametrize("unit", hu.models())
def test_every_unit_multiplies_small_integers_of_any_k(unit: str) -> None:
    rng = np.random.default_rng(3)
    x86 = unit.startswith("x86.")
    fields = {"k": 32, "kind": ""} if x86 else hu.Model(unit).fields
    block = 0 if x86 else fields["scale_block"]
    is_float = ".s32" not in unit
    for k in (0, 2, fields["k"] - 2 if fields["k"] > 2 else 2, fields["k"], 2 * fields["k"] + 2):
        a, b = rng.integers(0, 2, (3, k)), rng.integers(0, 2, (k, 2))
        want = (a[:, :, None] ^ b[None]).sum(1) if ".xor." in unit else a @ b
        options: dict[str, Any] = {}
        if block:
            n = -(-k // block)
            options["scales"] = np.full((3, n), 2.0), np.full((n, 2), 0.5)
        if is_float:
            a, b = a.astype(np.float32), b.astype(np.float32)
        for c in (None, np.ones((3, 2), np.float32 if is_float else np.int32)):
            got = hu.matmul(a, b, c, model=unit, evidence="any", **options)
            assert np.array_equal(got, want + (0 if c is None else 1)), (k, c)


@pytest.mark.parametrize("scales", [1.0, (1.0,), (1.0, 1.0), (np.ones((2, 1)),) * 3])
def test_scales_that_do_not_fit_are_one_sentence(scales: Any) -> None:
    a, b = np.ones((2, 32), np.float32), np.ones((32, 3), np.float32)
    with pytest.raises((TypeError, ValueError), match="scales"):
        hu.matmul(a, b, model="blackwell.tcgen05.mxf4.f32", evidence="any", scales=scales)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"block": 0}, "block is 0"),
        ({"k": 10, "block": 4}, "block is 4"),
        ({"fraction_bits": 0}, "fraction_bits is 0"),
        ({"fraction_bits": 40}, "fraction_bits is 40"),
        ({"a": "binary64"}, "binary64"),
        ({"floor_exponent": 10**6}, "floor_exponent is 1000000"),
        ({"c_zero_exponent": -(10**6)}, "c_zero_exponent is -1000000"),
        ({"kind": "fma-chain"}, "fma-chain has a, b and d of binary64"),
        ({"kind": "fma-chain", "d": "binary64"}, "not binary16"),
    ],
)
def test_a_senseless_model_is_refused_when_it_is_described(
    fields: dict[str, Any], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        hu.Model(**fields)


def test_a_described_chain_of_binary64_is_the_named_one() -> None:
    chain = hu.Model(kind="fma-chain", a="binary64", b="binary64", d="binary64")
    x = np.random.default_rng(1).standard_normal((3, 40))
    want = hu.matmul(x, x.T, model="hopper.mma.f64.f64")
    assert hu.matmul(x, x.T, model=chain).tobytes() == want.tobytes()


def test_a_model_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"m\.toml is no TOML"):
        hu.Model.from_toml(path)


@pytest.mark.parametrize("unit", ["hopper.wgmma.s8.s32", "x86.amx.s8.s32", "x86.amx.bf16.f32"])
def test_a_mask_is_not_ignored(unit: str) -> None:
    a = np.ma.masked_array([[1, 2]], [[0, 1]])
    with pytest.raises(TypeError, match="a is a masked array"):
        hu.matmul(a, [[1], [1]], model=unit)
