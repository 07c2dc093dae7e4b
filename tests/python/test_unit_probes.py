"""Probes of matrix units recover what the table says; the study's figures are what its code gives."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unit_reference import dot, unit_of, value_of

import halfulp as hu
from halfulp import _probes, _unit_errors, cli

PAGE = Path(__file__).resolve().parents[2] / "docs/studies/matrix-units.md"
NAMES = _probes.names()


def order_of(model: hu.Model) -> tuple[int, ...]:
    """The fused sum of each k, as docs/matrix-units.md defines split."""
    k, block = model.k, model.block
    consecutive = list(range(k))
    if model.split == "pairs":
        consecutive = [i for i in range(k) if i % 4 < 2] + [i for i in range(k) if i % 4 >= 2]
    return tuple(consecutive.index(i) // block for i in range(k))


def facts(found: hu.Features) -> dict[str, Any]:
    kept = ("block", "order", "c", "fraction_bits", "terms", "precision", "rounding")
    return {name: getattr(found, name) for name in kept}


def expected(model: hu.Model) -> dict[str, Any]:
    terms = "nearest" if model.terms == "nearest-even" else model.terms
    return {
        "block": model.block,
        "order": order_of(model),
        "c": model.c,
        "fraction_bits": model.fraction_bits,
        "terms": terms,
        "precision": model.sum.precision,
        "rounding": model.rounding,
    }


def test_the_units_of_all_architectures_are_there() -> None:
    assert len(NAMES) > 80
    assert {n.split(".")[0] for n in NAMES} == {
        *("volta", "turing", "ampere", "ada", "hopper", "blackwell", "x86")
    }


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("x86.")])
def test_a_probe_recovers_the_fields_of_a_unit(name: str) -> None:
    found = _probes.of_model(name)
    assert facts(found) == expected(hu.Model(name))
    assert found.subnormal_operands
    assert found.subnormal_results


@pytest.mark.parametrize(
    "fields",
    [
        {"block": 4},
        {"block": 8, "fraction_bits": 22},
        {"fraction_bits": 20},
        {"fraction_bits": 24, "terms": "down"},
        {"fraction_bits": 20, "terms": "nearest-even"},
        {"rounding": "nearest-even"},
        {"c": "after", "block": 8},
        {"split": "pairs", "block": 8},
        {"sum": "fp_e8p14b127_s_ieee_ieee", "fraction_bits": 15},
    ],
    ids=str,
)
def test_a_probe_recovers_what_a_unit_was_changed_to(fields: dict[str, Any]) -> None:
    model = hu.Model("hopper.wgmma.f16.f32", **fields)

    def f(a: np.ndarray, b: np.ndarray, c: float) -> float:
        return float(hu.matmul(a[None], b[:, None], [[c]], model=model)[0, 0])

    assert facts(hu.probe_unit(f, "binary16", k=16)) == expected(model)


@pytest.mark.parametrize("name", ["ampere.mma.f16.f32", "hopper.mma.k16.e4m3.f16"])
def test_a_probe_asks_nothing_but_products(name: str) -> None:
    """The unit is exact rational arithmetic here, which knows no models."""
    model = hu.Model(name)
    u = unit_of(model.fields)
    calls = 0

    def f(a: np.ndarray, b: np.ndarray, c: float) -> float:
        nonlocal calls
        calls += 1
        words, kind = (np.uint16, np.float16) if model.d.width == 16 else (np.uint32, np.float32)
        start = int(np.asarray(c, kind).view(words))
        return value_of(dot(u, a.tolist(), b.tolist(), start), u.d)

    assert facts(hu.probe_unit(f, model.a, model.b, model.d, model.k)) == expected(model)
    assert calls < 2000


def test_what_a_unit_does_not_show_is_none() -> None:
    model = hu.Model("hopper.wgmma.f16.f32", block=2, c="after")

    def f(a: np.ndarray, b: np.ndarray, c: float) -> float:
        return float(hu.matmul(a[None], b[:, None], [[c]], model=model)[0, 0])

    found = hu.probe_unit(f, "binary16", k=16)
    assert facts(found) == expected(model) | {"fraction_bits": None, "terms": None}


def test_a_precision_that_no_sum_reaches_is_not_guessed() -> None:
    model = hu.Model("hopper.wgmma.f16.f32", fraction_bits=18)  # 18 + log2 16 < 24

    def f(a: np.ndarray, b: np.ndarray, c: float) -> float:
        return float(hu.matmul(a[None], b[:, None], [[c]], model=model)[0, 0])

    found = hu.probe_unit(f, "binary16", k=16)
    assert (found.fraction_bits, found.precision, found.rounding) == (18, None, None)


@pytest.mark.parametrize(
    ("name", "one_bit", "two_bits"),
    [
        ("volta.mma.f16.f32", False, None),
        ("ampere.mma.f16.f32", True, False),
        ("hopper.wgmma.f16.f32", True, True),
    ],
)
def test_the_tests_of_fttn_find_the_same_extra_bits(
    name: str, one_bit: bool, two_bits: bool | None
) -> None:
    """fp16in.cpp of LLNL's FTTN: 1 - (1 - 2^-24), then 1.25 - (2^-3 + 2^-25), for binary16."""

    def d(b: float, c: float) -> float:
        return float(hu.matmul([[1.0]], [[b]], [[c]], model=name)[0, 0])

    assert d(1.0, -(1 - 2.0**-24)) == (2.0**-24 if one_bit else 2.0**-23)
    if two_bits is not None:
        assert d(1.25, -(2.0**-3 + 2.0**-25)) == 1.125 - (2.0**-23 if two_bits else 0)


@pytest.mark.parametrize(
    ("name", "width"), [("ampere.mma.f16.f32", 8), ("hopper.wgmma.f16.f32", 16)]
)
def test_the_tests_of_fttn_find_width_and_normalisation(name: str, width: int) -> None:
    """fp16in.cpp: 1 + 2^-24 + 2^-24, the second moved along k; 1 - 2^-24 + 2^-23 + 2^-25 + 2^-25."""

    def d(terms: dict[int, float], c: float) -> float:
        a, b = np.zeros((1, 16)), np.zeros((16, 1))
        for k, value in terms.items():
            a[0, k], b[k, 0] = value * 2.0**14, 2.0**-14
        return float(hu.matmul(a, b, [[c]], model=name)[0, 0])

    tiny = 2.0**-24
    together = [d({0: tiny, k: tiny}, 1.0) == 1 + 2.0**-23 for k in range(1, 16)]
    assert together == [k < width for k in range(1, 16)]
    few = {0: 2.0**-23, 1: 2.0**-25, 2: 2.0**-25}
    assert d(few, 1 - 2.0**-24) == 1 + 2.0**-23  # normalised once, at the end
    ones = dict.fromkeys(range(8), 1.0)
    sums = d(ones, 2.0**25 - 2), d(ones, 2.0**25)
    assert sums == (2.0**25 + 4, 2.0**25 if width == 8 else 2.0**25 + 8)


def test_units_of_x86_are_chains() -> None:
    amx = _probes.of_model("x86.amx.bf16.f32")
    assert (amx.block, amx.c, amx.fraction_bits) == (1, "after", None)
    assert (amx.precision, amx.rounding) == (24, "nearest-even")
    assert not amx.subnormal_operands
    assert not amx.subnormal_results
    assert amx.order[0] < amx.order[2] < amx.order[4]  # the even chain
    dpbf16 = _probes.of_model("x86.avx512.bf16.f32")
    assert (dpbf16.block, dpbf16.c) == (1, "in-block")
    assert dpbf16.order[:6] == (0, 1, 3, 2, 5, 4)  # the odd product of a pair before the even one


def test_a_larger_term_makes_a_smaller_sum() -> None:
    found = _probes.of_model("hopper.wgmma.e4m3.f32").decreases
    assert found == (4 + 30 * 2.0**-12, 4.0)
    assert _probes.of_model("hopper.mma.e4m3.f32").decreases is None


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: hu.probe_unit(lambda a, b, c: 0.0, "binary16"), "16 products of ones gave 0.0"),
        (lambda: hu.probe_unit(lambda a, b, c: c, "binary16", k=0), "k is 0"),
        (lambda: hu.probe_unit(lambda a, b, c: c, "int8"), "int8 is none"),
        (lambda: _probes.table(["hopper.mma.s8.s32"]), "hopper.mma.s8.s32 cannot be probed"),
    ],
)
def test_bad_input_gets_a_sentence(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        call()


# ---------------------------------------------------------------- the study
def rows(*labels: str) -> list[_unit_errors.Row]:
    return [row for row in _unit_errors.ROWS if row.label in labels]


def test_errors_are_what_they_say() -> None:
    s = np.array([[2.0, -4.0], [1.0, 3.0]])
    d = np.array([[1.5, -3.0], [1.0, 3.5]])
    found = _unit_errors.errors(d, s)
    assert found.bias == (-0.5 - 1 + 0 + 0.5) / 10
    assert math.isclose(found.rms, math.sqrt((0.25 + 1 + 0.25) / 30), rel_tol=1e-15)
    assert found.relative.ravel().tolist() == [0.25, 0.25, 0.0, 0.5 / 3]


@pytest.mark.parametrize(
    "label", ["hopper.wgmma.e4m3.f32", "hopper.wgmma.f16.f32", "x86.amx.bf16.f32"]
)
def test_the_page_has_the_figures_of_its_command(label: str) -> None:
    """Its tables by K, at the two smaller ones."""
    text = PAGE.read_text(encoding="utf-8")
    found = _unit_errors.measure(rows(label), lengths=(64, 256))
    for data, what in (("U[0, 1)", "bias"), ("N(0, 1)", "rms")):
        section = text.split(f"**{what} of {data}, by K**")[1]
        cells = re.search(rf"^\| {re.escape(label)} \| ([^|]+) \| ([^|]+) \|", section, re.M)
        assert cells is not None
        values = [[getattr(e, what) for e in found[label, data, k]] for k in (64, 256)]
        assert list(cells.groups()) == [_unit_errors.interval(v) for v in values]


def test_the_page_has_the_table_of_probes() -> None:
    """A few of its rows: a row names units that share all features."""
    text = PAGE.read_text(encoding="utf-8")
    section = text.split("<!-- begin probe -->")[1].split("<!-- end probe -->")[0]
    for name in ("volta.mma.f16.f32", "hopper.wgmma.e4m3.f32", "hopper.mma.e4m3.f32"):
        row = _probes.table([name]).splitlines()[-1]
        cells = row.split(" | ", 1)[1]
        in_page = [x for x in section.splitlines() if re.search(rf"[ ,|]{name}[ ,]", x)]
        assert [x.split(" | ", 1)[1] for x in in_page] == [cells]


def test_the_published_bias_and_its_prediction() -> None:
    """6.6 % at K = 4096, 0.05 % in parts of 128: as claimed; the mean chain predicts the first."""
    plain, parts = "hopper.wgmma.e4m3.f32", "the same, parts of 128"
    found = _unit_errors.measure(rows(plain, parts), lengths=(4096,), seeds=1)
    bias = {label: found[label, "U[0, 1)", 4096][0].bias for label in (plain, parts)}
    assert round(100 * bias[plain], 1) == -6.6
    assert round(100 * bias[parts], 2) == -0.05
    assert abs(_unit_errors.predicted_bias(rows(plain)[0], 4096) / bias[plain] - 1) < 0.03


@pytest.mark.parametrize(
    "label",
    ["hopper.wgmma.f16.f32", "hopper.wgmma.tf32.f32", "ampere.mma.f16.f32", "volta.mma.f16.f32"],
)
def test_bias_and_rms_are_predicted(label: str) -> None:
    row = rows(label)[0]
    found = _unit_errors.measure([row], lengths=(1024,), seeds=2)
    bias = np.mean([e.bias for e in found[label, "U[0, 1)", 1024]])
    assert abs(_unit_errors.predicted_bias(row, 1024) / bias - 1) < 0.1
    rms = np.mean([e.rms for e in found[label, "N(0, 1)", 1024]])
    assert abs(_unit_errors.predicted_of_normal(row, 1024)[1] / rms - 1) < 0.15


def test_the_command_puts_its_table_into_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin probe -->\nold\n<!-- end probe -->\nafter\n")
    command = ["models", "volta.mma.f16.f32", "--probe"]
    assert cli.main([*command, "--page", str(page)]) == 0
    table = capsys.readouterr().out
    assert table.startswith("| units | B | F |")
    assert page.read_text() == (f"before\n<!-- begin probe -->\n{table}<!-- end probe -->\nafter\n")
    (tmp_path / "none.md").write_text("nothing\n")
    assert cli.main([*command, "--page", str(tmp_path / "none.md")]) == 2
    assert "has no lines" in capsys.readouterr().err
    assert cli.main(["models", "--page", str(page)]) == 2
    assert "--page needs --probe or --errors" in capsys.readouterr().err
