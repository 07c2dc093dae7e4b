"""halfulp.functions against rigorous balls (tests/functions), laws, and its faces."""

from __future__ import annotations

import ast
import json
import sys
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import halfulp as hu
from halfulp import _core, cli

ROOT = Path(__file__).resolve().parents[2]
ARITY = {name: arity for name, arity, _ in _core.functions()}
if _core.functions_missing():
    pytest.skip(_core.functions_missing(), allow_module_level=True)

pytest.importorskip("flint", reason="python-flint is the oracle")
sys.path.insert(0, str(ROOT / "tests/functions"))
import balls  # noqa: E402
import check  # noqa: E402
import exhaustive  # noqa: E402
import rounder  # noqa: E402

UNIVARIATE = [name for name, arity in ARITY.items() if arity == 1]
BIVARIATE = [name for name, arity in ARITY.items() if arity == 2]


def call(name: str, *args: object, **options: object) -> object:
    return getattr(hu.functions, name)(*args, **options)


def test_the_oracle_has_every_function() -> None:
    assert set(balls.UNIVARIATE) == set(UNIVARIATE)
    assert set(balls.BIVARIATE) == set(BIVARIATE)
    stub = ast.parse((ROOT / "bindings/python/halfulp/functions.pyi").read_text())
    declared = {
        n.target.id: n.annotation.id for n in stub.body if isinstance(n, ast.AnnAssign)
    }  # fmt: skip
    assert declared == {n: "_OfOne" if a == 1 else "_OfTwo" for n, a in ARITY.items()}
    page = (ROOT / "docs/functions.md").read_text()
    assert [n for n in ARITY if f"| {n} |" not in page] == []


# ---------------------------------------------------------------- against the balls
@pytest.mark.parametrize("name", UNIVARIATE)
def test_16_bit_operands(name: str) -> None:
    for operand in exhaustive.DTYPES:
        _, compared, wrong = exhaustive.univariate(name, operand, step=401)
        assert wrong == []
        assert compared > 20_000


@pytest.mark.parametrize("name", UNIVARIATE)
def test_binary32_operands(name: str) -> None:
    x = exhaustive.binary32_operands(name, 600)[::5]
    assert check.compare(name, [x], check.oracle(name, [x]), ["binary32", "bfloat16"])[1] == []


@pytest.mark.parametrize("name", BIVARIATE)
def test_pairs(name: str) -> None:
    for i, format in enumerate(f for f, v in hu.formats().items() if v.width == 8):
        assert exhaustive.pairs(name, format, step=211 + 2 * i)[2] == []
    for operand in [*exhaustive.DTYPES, "binary32"]:
        assert exhaustive.random_pairs(name, operand, 300)[2] == []


SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 1e30]


@pytest.mark.parametrize("name", UNIVARIATE)
def test_special_operands(name: str) -> None:
    x = np.float32([*SPECIAL, 2.0**-149, -(2.0**-149), 4.0, 10.0, 8.0, -8.0])
    assert check.compare(name, [x], check.oracle(name, [x]))[1] == []


@pytest.mark.parametrize("name", BIVARIATE)
def test_every_pair_of_special_operands(name: str) -> None:
    a, b = (g.ravel() for g in np.meshgrid(np.float32(SPECIAL), np.float32(SPECIAL)))
    compared, wrong = check.compare(name, [a, b], check.oracle(name, [a, b]))
    assert wrong == []
    assert compared == len(SPECIAL) ** 2 * len(check.FORMATS) * len(rounder.MODES)


@pytest.mark.parametrize("name", UNIVARIATE)
def test_float64_operands_and_far_ones(name: str) -> None:
    rng = np.random.default_rng(5)
    x = np.concatenate(
        [
            rng.uniform(-30, 30, 60),
            rng.standard_normal(40) * np.exp2(rng.uniform(-300, 60, 40)),
            [2.0**-1074, -(2.0**-1074), 1 + 2.0**-52, 1 - 2.0**-53, -1 + 2.0**-53, 2.0**900, -(2.0**900)],
        ]
    )  # fmt: skip
    want = check.oracle(name, [x])
    assert check.compare(name, [x], want, ["binary32", "float8_e5m2"])[1] == []


# ---------------------------------------------------------------- laws
CODES16 = np.arange(1 << 16, dtype=np.uint16)


@pytest.mark.parametrize("name", UNIVARIATE)
def test_tables_of_16_bit_operands_say_what_single_operands_say(name: str) -> None:
    x = CODES16[::257].view(np.float16)
    call(name, CODES16.view(np.float16), "binary16")  # makes the table
    for mode in (*rounder.MODES, "stochastic"):
        options = {"rounding": mode, "seed": 3, "flags": True, "out": np.empty(x.shape, np.float32)}
        y, flags = call(name, x, "bfloat16", **options)
        # float64 operands are evaluated one by one.
        options["out"] = np.empty(x.shape, np.float32)
        z, other = call(name, x.astype(np.float64), "bfloat16", **options)
        assert np.array_equal(y.view(np.uint32), z.view(np.uint32))
        assert np.array_equal(flags, other)


RISING = ["exp", "exp2", "exp10", "expm1", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "erf", "softplus", "cbrt"]  # fmt: skip


@pytest.mark.parametrize("name", [*RISING, "erfc", "rsqrt"])
def test_monotonic_functions_stay_monotonic(name: str) -> None:
    x = np.sort(CODES16.view(np.float16)[np.isfinite(CODES16.view(np.float16))])
    for mode in rounder.MODES:
        if mode == "odd":  # not a monotonic rounding
            continue
        y = call(name, x, "binary32", rounding=mode, out=np.empty(x.shape, np.float32))
        y = y[(x != 0) & ~np.isnan(y)].astype(np.float64)
        pairs = (y[:-1], y[1:]) if name in RISING else (y[1:], y[:-1])
        assert (pairs[0] <= pairs[1]).all(), mode


@pytest.mark.parametrize("name", ["sin", "tan", "tanh", "erf", "cbrt", "cos"])
def test_odd_and_even_functions(name: str) -> None:
    x = CODES16[: 1 << 15].view(np.float16)
    for mode, mirrored in [("nearest-even", "nearest-even"), ("up", "down"), ("odd", "odd")]:
        y = call(name, x, "binary16", rounding=mode)
        even = name == "cos"
        z = call(name, -x, "binary16", rounding=mode if even else mirrored)
        numbers = ~np.isnan(y)
        assert np.array_equal((z if even else -z)[numbers], y[numbers])


def test_exact_results_raise_nothing() -> None:
    n = np.arange(-24, 16, dtype=np.float32)
    for name, x, y in [
        ("exp2", n, np.exp2(n)),
        ("log2", np.exp2(n), n),
        ("rsqrt", np.float32(4) ** np.arange(-7, 12), np.exp2(-np.arange(-7, 12.0))),
        ("cbrt", np.arange(-40, 41, dtype=np.float32) ** 3, np.arange(-40.0, 41)),
        ("exp10", np.arange(0, 5, dtype=np.float32), 10.0 ** np.arange(5)),
        ("log10", np.float32(10) ** np.arange(11), np.arange(11.0)),
    ]:
        got, flags = call(name, x.astype(np.float32), "binary16", flags=True)
        assert np.array_equal(got, y.astype(np.float32)), name
        assert not flags.any(), name
    assert call("hypot", 3.0, 4.0, "float8_e4m3fn", flags=True) == (5.0, 0)
    assert call("pow", 6.25, 1.5, "binary16", flags=True) == (15.625, 0)
    assert call("pow", 3.0, -1.0, "binary16", flags=True)[1] == 1


def test_far_results_overflow_and_underflow_in_every_format() -> None:
    assert call("exp", 1e300, "binary32", flags=True) == (np.inf, 5)
    assert call("exp", 1e300, "binary32", rounding="down") == float(np.finfo(np.float32).max)
    assert call("exp", -1e300, "binary32", rounding="up", flags=True) == (2.0**-149, 3)
    assert call("gelu", -1e300, "binary32", rounding="down") == -(2.0**-149)
    assert call("pow", -2.0, 2.0**1000 + 2.0**950, "binary32", overflow="saturate") > 3e38
    with pytest.raises(hu.RoundingError, match="element 1 overflows"):
        call("exp", [1.0, 1000.0], "binary16", overflow="error")


# ---------------------------------------------------------------- faces
def test_arrays_of_every_kind() -> None:
    x = np.linspace(-4, 4, 24, dtype=np.float32).reshape(4, 6)
    y = call("tanh", x, "bfloat16")
    assert y.dtype == np.float32
    for view in (np.s_[:, ::-1], np.s_[::2, 1::3], np.s_[:0], np.s_[1]):
        assert np.array_equal(call("tanh", x[view], "bfloat16"), y[view])
    assert np.array_equal(call("tanh", x.T, "bfloat16"), y.T)
    z = x.copy()
    assert call("tanh", z, "bfloat16", out=z) is z
    assert np.array_equal(z, y)
    b = x.astype(ml_dtypes.bfloat16)
    assert call("exp", b, "float8_e5m2").dtype == b.dtype
    a, c = np.float32([[1.0], [2.0]]), np.float32([1.0, 2.0, 3.0])
    assert call("pow", a, c, "binary32").tolist() == [[1, 1, 1], [2, 4, 8]]
    assert isinstance(call("exp", 1, "binary32"), float)
    # Larger than the table, strided, with flags: by the table.
    wide = np.tile(CODES16.view(np.float16), (2, 2))[:, ::2]
    s, flags = call("exp", wide, "binary16", flags=True)
    t, others = call("exp", wide.copy(), "binary16", flags=True)
    assert np.array_equal(s.view(np.uint16), t.view(np.uint16))
    assert np.array_equal(flags, others)


def test_an_error_writes_nothing_and_nan_needs_a_policy() -> None:
    x = np.repeat(CODES16.view(np.float16), 2)
    out = np.full(x.shape, 7, np.float32)
    with pytest.raises(hu.RoundingError, match="nan_to"):
        call("log", x, "float4_e2m1fn", out=out)
    assert (out == 7).all()
    assert (call("log", x[:10], "float4_e2m1fn", nan_to="largest", out=out[:10]) <= 6).all()


def test_stochastic_rounding_depends_on_the_index_alone() -> None:
    x = np.linspace(0.1, 3, 1000, dtype=np.float32)
    y = call("log", x, "float8_e4m3fn", rounding="stochastic", seed=4)
    assert not np.array_equal(y, call("log", x, "float8_e4m3fn"))
    later = call("log", x[300:], "float8_e4m3fn", rounding="stochastic", seed=4, offset=300)
    assert np.array_equal(y[300:], later)
    with pytest.raises(ValueError, match="seed"):
        call("log", x, "float8_e4m3fn", rounding="stochastic")


def test_wide_formats() -> None:
    assert call("pow", 2.0, 0.5, "binary64") == float(np.sqrt(2.0))
    assert call("exp", 1.0, "binary64", rounding="up") == np.nextafter(np.e, 3)


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(["op", "exp", "--format", "float8_e4m3fn", "--rounding", "down", "1", "--flags"])
        == 0
    )
    assert capsys.readouterr().out.split("\n")[1].split()[1:4] == [
        "2.5",
        "0x42",
        "0x1.4000000000000p+1",
    ]
    assert cli.main(["op", "atan2", "--format", "binary32", "--json", "--", "-0", "-1"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["value"] == float(np.float32(-np.pi))
    assert cli.main(["op", "hypot", "--format", "binary32", "1"]) == 2
    assert "hypot takes 2 operands" in capsys.readouterr().err
    assert (
        cli.main(
            ["op", "exp", "--format", "binary128", "--rounding", "stochastic", "--seed", "1", "1"]
        )
        == 2
    )
    assert "fewer random bits" in capsys.readouterr().err
    # 2^(1/2) to 113 bits, between two neighbours whose squares enclose 2.
    assert (
        cli.main(["op", "pow", "--format", "binary128", "--rounding", "down", "--json", "2", "0.5"])
        == 0
    )
    m, e = json.loads(capsys.readouterr().out)["results"][0]["value"].split("*2^")
    assert (int(m) * Fraction(2) ** int(e)) ** 2 < 2 < ((int(m) + 1) * Fraction(2) ** int(e)) ** 2


def test_the_oracle_can_fail() -> None:
    x = np.float32([0.1, 0.2, 0.3])
    assert check.compare("exp", [x], check.oracle("exp2", [x]), ["binary32"], ["up"])[1]
    with pytest.raises(balls.Undecided):
        balls._ball(lambda: (balls.arb(4).log() / 2).exp())
