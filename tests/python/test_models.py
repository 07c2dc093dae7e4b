"""Matrix units: the model against exact rationals and recorded hardware, and its faces."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from unit_reference import FORMATS, dot, unit_of

import halfulp as hu
from halfulp import cli

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "data/hardware/h200"
VERIFY = shutil.which("halfulp-verify")
# What no result can show where a format's exponents or the unit's F keep it out of sight.
HIDDEN = {
    "other floor",
    "zeros have exponents",
    "a zero c has an exponent",
    "other emin",
    "sign of underflow",
}
UNITS = [
    "volta.mma.f16.f32",
    "ampere.mma.f16.f32",
    "ampere.mma.tf32.f32",
    "ada.mma.e4m3.f32",
    "hopper.wgmma.f16.f32",
    "hopper.wgmma.f16.f16",
    "hopper.wgmma.bf16.f32",
    "hopper.wgmma.tf32.f32",
    "hopper.wgmma.e4m3.f32",
    "hopper.wgmma.e5m2.e4m3.f16",
    "hopper.mma.k8.f16.f16",
    "hopper.mma.e4m3.f32",
    "hopper.mma.e4m3.e5m2.f16",
    "hopper.mma.k16.e5m2.f32",
    "blackwell.tcgen05.e2m1.f32",
    "blackwell.tcgen05.mxf8f6f4.e4m3.f32",
    "blackwell.tcgen05.mxf4.f32",
    "blackwell.tcgen05.nvf4.f32",
]


def operands(
    rng: np.random.Generator, name: str, shape: tuple[int, int], centre: int, special: bool
) -> np.ndarray:
    """Values of the format: exponents about `centre` or at its ends, zeros, specials."""
    f = hu.format(name)
    emin, fraction = FORMATS[name]
    low, high = emin - fraction, f.emax
    e = np.clip(centre + rng.integers(-14, 15, shape), low, high)
    ends = rng.random(shape) < 0.1
    e = np.where(ends, rng.choice([low, emin, high], shape), e)
    x = rng.choice([-1.0, 1.0], shape) * (1 + rng.random(shape)) * 2.0**e
    x = np.asarray(hu.round(x, f, rounding="toward-zero", overflow="saturate"))
    x[rng.random(shape) < 0.1] = rng.choice([0.0, -0.0])
    if special and f.nan != "none":
        x[rng.random(shape) < 0.01] = np.nan
    if special and f.inf != "none":
        x[rng.random(shape) < 0.02] = np.inf * rng.choice([-1, 1])
    return x


def words(x: np.ndarray) -> np.ndarray:
    return x.view(np.uint16 if x.dtype.itemsize == 2 else np.uint32)


@pytest.mark.filterwarnings("ignore:invalid value")  # of NumPy, for NaN and infinity
@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_its_definition(name: str, cases: Callable[..., None]) -> None:
    model = hu.Model(name)
    u = unit_of(model.fields)
    rng = np.random.default_rng(len(name) * 1009 + u.k)
    compared = 0
    for trial in range(10):
        k = u.k * (1 + trial % 3)
        centre = int(rng.choice([-60, -20, -4, 0, 4])) if trial else 0
        a = operands(rng, u.a, (6, k), centre, trial == 5)
        b = operands(rng, u.b, (k, 5), int(rng.choice([0, -3, -centre])), trial == 5)
        if trial % 2:  # halves that cancel
            half = k // 2
            a[:, half : 2 * half] = -a[:, :half]
            b[half : 2 * half] = np.where(rng.random((half, 5)) < 0.8, b[:half], b[half : 2 * half])
        ends = np.array([0.0, -0.0, 1.5, -(2.0**-14), 2.0**-24, 3e4, -np.inf])
        near = (a.astype(np.float64) @ b.astype(np.float64)) * rng.choice([-1, 1, 2.0**-20], (6, 5))
        c = np.where(rng.random((6, 5)) < 0.3, rng.choice(ends, (6, 5)), near)
        c = np.asarray(hu.round(np.nan_to_num(c, posinf=np.inf, neginf=-np.inf), model.d))
        sa = sb = None
        if u.scale_block:
            scale = hu.format("ue4m3" if u.scale_block == 16 else "float8_e8m0fnu")
            n = k // u.scale_block
            sa, sb = (
                np.asarray(hu.round(2.0 ** rng.integers(-6, 7, s) * (1 + rng.random(s)), scale))
                for s in ((6, n), (n, 5))
            )
        scales = None if sa is None or sb is None else (sa, sb)
        got = words(hu.matmul(a, b, c, model=model, evidence="any", scales=scales))
        starts = words(c.astype(np.float16 if model.d.width == 16 else np.float32))
        for i in range(6):
            for j in range(5):
                of_a, of_b = (None, None) if sa is None or sb is None else (sa[i], sb[:, j])
                expected = dot(u, a[i].tolist(), b[:, j].tolist(), int(starts[i, j]), of_a, of_b)
                assert f"{int(got[i, j]):x}" == f"{expected:x}", (name, trial, i, j)
                compared += 1
    cases(compared, f"unit {name}")


def records(path: Path) -> tuple[dict[str, str], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Header, codes of A's rows and B's columns, c and d."""
    content = path.read_bytes()
    head, _, rest = content.partition(b"\nend\n")
    header = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:])
    row, word, k = int(header["row"]), int(header["word"]), int(header["k"])
    raw = np.frombuffer(rest, np.uint8).reshape(int(header["records"]), -1)
    element = np.dtype(f"<u{row // k}") if row >= k else np.dtype(np.uint8)
    parts = [raw[:, 1 : 1 + row], raw[:, 1 + row : 1 + 2 * row]]
    a, b = (np.ascontiguousarray(p).view(element) for p in parts)
    c, d = (
        np.ascontiguousarray(raw[:, at : at + word]).view(f"<u{word}")[:, 0]
        for at in (1 + 2 * row, 1 + 2 * row + word)
    )
    return header, a, b, c, d


@pytest.mark.filterwarnings("ignore:invalid value")  # of NumPy, for NaN
@pytest.mark.parametrize(
    "name", [n for n in UNITS if hu.Model(n).evidence == "hardware"] + ["hopper.mma.bf16.f32"]
)
def test_the_definition_is_what_the_hardware_does(name: str, cases: Callable[..., None]) -> None:
    """The rationals against recorded bits, without the core; operands decoded by ml_dtypes."""
    import ml_dtypes

    dtypes = {
        "binary16": np.float16,
        "bfloat16": ml_dtypes.bfloat16,
        "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
        "float8_e5m2": ml_dtypes.float8_e5m2,
    }
    u = unit_of(hu.Model(name).fields)
    _, a, b, c, d = records(RECORDED / f"{name}.bits")

    def numbers(codes: np.ndarray, f: str) -> np.ndarray:
        if f == "tf32":
            return (codes & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)
        return codes.view(dtypes[f]).astype(np.float64)

    chosen = range(0, len(d), max(1, len(d) // 250))
    for i in chosen:
        expected = dot(u, numbers(a[i], u.a).tolist(), numbers(b[i], u.b).tolist(), int(c[i]))
        assert f"{int(d[i]):x}" == f"{expected:x}", (name, i)
    cases(len(chosen), f"unit {name}")


def test_a_wrong_definition_is_refuted_by_the_hardware() -> None:
    u = unit_of(hu.Model("hopper.wgmma.e5m2.f32").fields)
    _, a, b, c, d = records(RECORDED / "hopper.wgmma.e5m2.f32.bits")
    rows = [hu.decode(x, "float8_e5m2").tolist() for x in (a[:200], b[:200])]
    for field, value in (("fraction_bits", 14), ("nearest", True), ("block", 16), ("kept", 23)):
        wrong = replace(u, **{field: value})
        given = zip(*rows, c, d, strict=False)
        assert any(dot(wrong, x, y, int(z)) != int(w) for x, y, z, w in given), field


def test_products_have_the_bits_of_the_hardware(cases: Callable[..., None]) -> None:
    for name in ("hopper.wgmma.e4m3.f32", "hopper.mma.e5m2.e4m3.f16", "hopper.mma.s8.s32"):
        _, a, b, c, d = records(RECORDED / f"{name}.bits")
        model = hu.Model(name)
        n = 300
        for i in range(n):
            if model.kind == "integer":
                x, y, z = a[i].view(np.int8), b[i].view(np.int8), c[i : i + 1].view(np.int32)
            else:
                x, y = hu.decode(a[i], model.a), hu.decode(b[i], model.b)
                z = hu.decode(c[i : i + 1], model.d)
            got = hu.matmul(x[np.newaxis], y[:, np.newaxis], z[:, np.newaxis], model=model)
            assert got.view(d.dtype)[0, 0] == d[i], (name, i)
        cases(n, f"unit {name}")


# ---------------------------------------------------------------- known answers
def test_published_probes() -> None:
    def one(a: list[float], b: list[float], name: str, c: float | None = None) -> float:
        start = None if c is None else [[c]]
        return float(hu.matmul([a], [[x] for x in b], start, model=name)[0, 0])

    fp8 = [448.0] + [1.0] * 31
    assert one(fp8, fp8, "hopper.wgmma.e4m3.f32") == 200704  # F = 13
    assert one(fp8, fp8, "hopper.mma.e4m3.f32") == 200735  # through binary16, F = 25
    # M is at least -133 and -21: bits of small sums survive, or not.
    small = [2.0**-76] * 16
    assert one(small, small, "hopper.wgmma.bf16.f32") == 2.0**-148
    pair = [2.0**-12, 2.0**-23] + [0.0] * 14
    assert one(pair, [2.0**-13, 2.0**-24] + [0.0] * 14, "hopper.wgmma.f16.f16") == 0
    # A zero operand has no say in M, whatever it is multiplied by.
    big = [2.0**100] + [0.0] * 15
    assert one([0.0] * 16, big, "hopper.mma.bf16.f32", 2.0**-100) == 2.0**-100
    # What underflows is +0.
    tiny = one([-(2.0**-75)] + [0.0] * 15, [2.0**-75] + [0.0] * 15, "hopper.mma.bf16.f32")
    assert (tiny, np.signbit(tiny)) == (0, False)


def test_bits_of_specials() -> None:
    a = np.array([[np.inf, 1.0], [np.nan, 1.0], [-np.inf, 1.0], [0.0, 0.0]])
    b = np.array([[1.0], [1.0]])
    got = hu.matmul(a, b, model="hopper.wgmma.f16.f32")
    assert [f"{x:x}" for x in got.view(np.uint32)[:, 0]] == [
        "7f800000",
        "7fffffff",
        "ff800000",
        "0",
    ]
    assert got.dtype == np.float32
    half = hu.matmul(a, b, model="hopper.wgmma.f16.f16")
    assert half.dtype == np.float16
    assert half.view(np.uint16)[1, 0] == 0x7FFF


def test_integers_wrap_or_saturate() -> None:
    a, b = np.full((1, 32), -128), np.full((32, 1), -128)
    c = [[2**31 - 1]]
    assert hu.matmul(a, b, c, model="hopper.mma.s8.s32")[0, 0] == 32 * 2**14 - 1 - 2**31
    assert hu.matmul(a, b, c, model="hopper.mma.s8.s32.satfinite")[0, 0] == 2**31 - 1
    rng = np.random.default_rng(1)
    x, y = rng.integers(-8, 8, (3, 70)), rng.integers(-8, 8, (70, 4))
    assert np.array_equal(hu.matmul(x, y, model="hopper.mma.s4.s32"), x @ y)
    p, q = rng.integers(0, 2, (3, 300)), rng.integers(0, 2, (300, 4))
    assert np.array_equal(hu.matmul(p, q, model="hopper.mma.b1.and.s32"), p @ q)
    xor = (p[:, :, np.newaxis] != q[np.newaxis]).sum(1)
    assert np.array_equal(hu.matmul(p, q, model="hopper.mma.b1.xor.s32"), xor)


def test_binary64_is_a_chain_of_fma() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((3, 37)), rng.standard_normal((37, 4))
    chain = hu.matmul(a, b, accumulate="binary64", order="fma-sequential")
    assert np.array_equal(hu.matmul(a, b, model="hopper.mma.f64.f64"), chain)


def test_shapes_layouts_and_threads_change_no_bit() -> None:
    rng = np.random.default_rng(3)
    a = hu.round(rng.standard_normal((40, 70)), "float8_e4m3fn")
    b = hu.round(rng.standard_normal((70, 50)), "float8_e4m3fn")
    whole = hu.matmul(a, b, model="hopper.wgmma.e4m3.f32")
    padded = hu.matmul(
        np.pad(a, ((0, 0), (0, 26))), np.pad(b, ((0, 26), (0, 0))), model="hopper.wgmma.e4m3.f32"
    )
    assert np.array_equal(whole, padded)
    before = hu.threads()
    try:
        for n in (1, 3):
            hu.set_threads(n)
            again = hu.matmul(np.asfortranarray(a), b[:, ::-1], model="hopper.wgmma.e4m3.f32")
            assert np.array_equal(again[:, ::-1], whole)
    finally:
        hu.set_threads(before)
    empty = hu.matmul(a[:, :0], b[:0], model="hopper.wgmma.e4m3.f32")
    assert empty.shape == (40, 50)
    assert not empty.any()
    assert hu.matmul(a[:0], b, model="hopper.wgmma.e4m3.f32").shape == (0, 50)
    start = rng.standard_normal((40, 50)).astype(np.float32)
    assert np.array_equal(hu.matmul(a[:, :0], b[:0], start, model="hopper.wgmma.e4m3.f32"), start)


# ---------------------------------------------------------------- models as objects
def test_models_by_name_and_by_fields(tmp_path: Path) -> None:
    assert len(hu.models()) == len(set(hu.models())) > 100
    for name in hu.models():
        if name.startswith("x86."):  # test_x86_units.py
            continue
        model = hu.Model(name)
        assert (model.name, model.is_described) == (name, False)
        assert model.evidence in ("hardware", "published", "none")
        assert (model.evidence == "hardware") == (RECORDED / f"{name}.bits").exists(), name
        path = tmp_path / "model.toml"
        path.write_text(model.toml())
        assert hu.Model.from_toml(path) == model
    changed = hu.Model("hopper.wgmma.e4m3.f32", fraction_bits=14)
    assert (changed.is_described, changed.fraction_bits, changed.k) == (True, 14, 32)
    assert eval(repr(changed), {"Model": hu.Model}) == changed
    path.write_text('base = "hopper.wgmma.e4m3.f32"\nfraction_bits = 14\n')
    assert hu.Model.from_toml(path) == changed
    same = hu.Model("hopper.wgmma.e4m3.f32", fraction_bits=13)
    assert (same.evidence, same.name) == ("hardware", "hopper.wgmma.e4m3.f32")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block": 0}, "block is 0, but must divide k, which is 16"),
        ({"block": 3}, "block is 3"),
        ({"fraction_bits": 36}, "fraction_bits is 36, but must be 1 to 35"),
        ({"k": 0}, "k is 0"),
        ({"a": "binary64"}, "at most 32 bits and 24 bits of precision"),
        ({"a": "float8_e8m0fnu"}, "with a zero"),
        ({"d": "bfloat16"}, "must be binary32 or binary16"),
        ({"sum": "binary64"}, "or that with fewer bits of precision"),
        ({"rounding": "up"}, "toward-zero or nearest-even, not up"),
        ({"rounding": "sideways"}, "rounding is 'sideways', but must be one of nearest-even"),
        ({"promote_every": 24}, "promote_every is 24, but must be 0 or a multiple of k"),
        ({"split": "pairs", "k": 6, "block": 6}, "multiple of 4, not 6"),
        ({"group": 3}, "group is 3"),
        ({"group": 4}, "spread too far"),
        ({"scale_block": 5}, "scale_block is 5"),
        ({"operand_emin": -500, "a": "binary32"}, "operand_emin is too far below"),
        ({"words": 1}, "a model has no field 'words'"),
        ({"a": "int8"}, "a must be a float format, and int8 is none"),
        ({"kind": "integer", "a_bits": 17}, "a_bits is 17, but must be 1 to 16"),
    ],
)
def test_bad_fields_get_a_sentence(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hu.Model(**fields)


def test_bad_types_get_a_sentence() -> None:
    for fields in ({"k": 1.5}, {"k": True}, {"saturate": 1}, {"split": 3}):
        with pytest.raises(TypeError, match="must be"):
            hu.Model(**fields)
    with pytest.raises(TypeError, match="a model is a Model or its name, not int"):
        hu.matmul([[1.0]], [[1.0]], model=3)


def test_what_cannot_be_multiplied_gets_a_sentence() -> None:
    one = [[1.0]]
    with pytest.raises(ValueError, match=r"near it: hopper\.wgmma\.e4m3\.f32"):
        hu.matmul(one, one, model="hopper.wgmma.e4m3")
    with pytest.raises(ValueError, match="not evidenced by published results"):
        hu.matmul(one, one, model="turing.mma.f16.f32")
    with pytest.raises(ValueError, match="not evidenced by hardware results"):
        hu.matmul(one, one, model="volta.mma.f16.f32", evidence="hardware")
    assert hu.matmul(one, one, model="turing.mma.f16.f32", evidence="any")[0, 0] == 1
    with pytest.raises(ValueError, match="evidence is 'some'"):
        hu.matmul(one, one, model="volta.mma.f16.f32", evidence="some")
    with pytest.raises(ValueError, match=r"0\.3 is no value of float8_e4m3fn; round a to it first"):
        hu.matmul([[0.3]], one, model="hopper.wgmma.e4m3.f32")
    with pytest.raises(ValueError, match=r"c\[0, 0\] = 0.1 is no value of binary32"):
        hu.matmul(one, one, [[0.1]], model="hopper.wgmma.e4m3.f32")
    with pytest.raises(ValueError, match="no integer from -128 to 127"):
        hu.matmul([[128]], one, model="hopper.mma.s8.s32")
    with pytest.raises(ValueError, match="no integer from 0 to 1"):
        hu.matmul([[0.5]], one, model="hopper.mma.b1.and.s32")
    with pytest.raises(ValueError, match="columns of a must equal the rows of b"):
        hu.matmul([[1.0, 2.0]], one, model="hopper.wgmma.f16.f32")
    with pytest.raises(ValueError, match="a has 1 dimensions"):
        hu.matmul([1.0], one, model="hopper.wgmma.f16.f32")
    with pytest.raises(ValueError, match="a model decides formats, order and rounding"):
        hu.matmul(one, one, model="hopper.wgmma.f16.f32", order="pairwise")
    with pytest.raises(ValueError, match="a scale for each 32 elements"):
        hu.matmul(one, one, model="blackwell.tcgen05.mxf4.f32", evidence="any")
    with pytest.raises(ValueError, match="takes no block scales"):
        hu.matmul(one, one, model="hopper.wgmma.f16.f32", scales=(one, one))
    with pytest.raises(ValueError, match="scales= belongs to models"):
        hu.matmul(one, one, scales=(one, one))
    with pytest.raises(ValueError, match=r"the array of a's scales has shape \(1, 2\)"):
        hu.matmul(
            one,
            one,
            model="blackwell.tcgen05.mxf4.f32",
            evidence="any",
            scales=([[1.0, 1.0]], one),
        )


# ---------------------------------------------------------------- the command lines
def test_the_list_of_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in rows] == hu.models()
    assert cli.main(["models", "hopper.wgmma.e4m3.f32"]) == 0
    text = capsys.readouterr().out
    assert "evidence" in text
    assert "hardware" in text
    assert "fraction_bits" in text
    assert cli.main(["models", "nothing"]) == 2
    assert "no matrix unit is called 'nothing'" in capsys.readouterr().err


def test_products_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a.npy", tmp_path / "b.npy"
    np.save(a, np.array([[448.0] + [1.0] * 31], np.float32))
    np.save(b, np.load(a).T)
    out = tmp_path / "d.npy"
    arguments = ["matmul", str(a), str(b), "--out", str(out), "--model"]
    assert cli.main([*arguments, "hopper.wgmma.e4m3.f32"]) == 0
    assert np.load(out).tolist() == [[200704.0]]
    described = tmp_path / "unit.toml"
    described.write_text('base = "hopper.wgmma.e4m3.f32"\nfraction_bits = 25\nsum = "binary32"\n')
    assert cli.main([*arguments, str(described)]) == 0
    assert np.load(out).tolist() == [[200735.0]]
    assert cli.main([*arguments, "turing.mma.f16.f32"]) == 2
    assert "not evidenced" in capsys.readouterr().err
    assert cli.main([*arguments, str(tmp_path / "none.toml")]) == 3
    assert "none.toml" in capsys.readouterr().err


def test_products_of_files_with_scales(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "blackwell.tcgen05.mxf4.f32"
    n = 64 // hu.Model(name).scale_block
    rng = np.random.default_rng(5)
    a = np.asarray(hu.round(rng.standard_normal((3, 64)), "float4_e2m1fn"), np.float32)
    b = np.asarray(hu.round(rng.standard_normal((64, 2)), "float4_e2m1fn"), np.float32)
    scales = (2.0 ** rng.integers(-3, 3, (3, n)), 2.0 ** rng.integers(-3, 3, (n, 2)))
    paths = [tmp_path / f"{x}.npy" for x in ("a", "b", "of_a", "of_b", "d")]
    for path, x in zip(paths, (a, b, *scales), strict=False):
        np.save(path, x)
    files = [str(p) for p in paths]
    arguments = ["matmul", *files[:2], "--model", name, "--evidence", "any", "--out", files[4]]
    assert cli.main([*arguments, "--scales", *files[2:4]]) == 0
    want = hu.matmul(a, b, model=name, evidence="any", scales=scales)
    assert np.load(paths[4]).tolist() == want.tolist()
    assert cli.main(arguments) == 2
    assert "give scales=" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        *("hopper.wgmma.e4m3.f32", "hopper.mma.e4m3.f16", "hopper.wgmma.tf32.f32"),
        *("hopper.mma.k8.f64.f64", "hopper.mma.s4.u4.s32", "hopper.mma.b1.xor.s32"),
    ],
)
def test_recorded_results_against_one_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = str(RECORDED / f"{name}.bits")
    assert cli.main(["models", name, "--recorded", file]) == 0
    found = re.fullmatch(r"\S+: compared (\d+), mismatched 0\n", capsys.readouterr().out)
    assert found is not None
    assert int(found[1]) > 100
    if hu.Model(name).kind != "block-sum":
        return
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(f'base = "{name}"\nfraction_bits = {hu.Model(name).fraction_bits - 1}\n')
    assert cli.main(["models", str(wrong), "--recorded", file, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["mismatched"] > 0


def test_what_no_unit_can_be_compared_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(RECORDED / "hopper.wgmma.f16.f32.bits")
    assert cli.main(["models", "hopper.wgmma.e4m3.f32", "--recorded", file]) == 2
    assert "operands of 16 bits, but the model's have 8" in capsys.readouterr().err
    assert cli.main(["models", "--recorded", file]) == 2
    assert "--recorded takes one unit" in capsys.readouterr().err
    other = tmp_path / "x.bits"
    other.write_bytes(b"something\nend\n")
    assert cli.main(["models", "hopper.wgmma.f16.f32", "--recorded", str(other)]) == 2
    assert "holds no results of hardware" in capsys.readouterr().err
    cut = tmp_path / "cut.bits"
    cut.write_bytes(Path(file).read_bytes()[:-3])
    assert cli.main(["models", "hopper.wgmma.f16.f32", "--recorded", str(cut)]) == 2
    assert "bytes of records, not" in capsys.readouterr().err


@pytest.mark.skipif(VERIFY is None, reason="halfulp-verify is not built")
class TestVerifyHardware:
    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(VERIFY), "hardware", *arguments], capture_output=True, text=True, check=False
        )

    def test_no_result_differs_and_wrong_models_are_told_apart(
        self, cases: Callable[..., None]
    ) -> None:
        run = self.run(str(RECORDED), "--json")
        assert run.returncode == 0, run.stderr
        rows = json.loads(run.stdout)
        assert len(rows) == len(list(RECORDED.glob("*.bits"))) >= 60
        for row in rows:
            assert row["mismatched"] == 0
            survivors = {m["mutant"] for m in row["mutants"] if m["killed_by"] == 0}
            assert survivors <= HIDDEN, row["unit"]
            cases(row["compared"], f"unit {row['unit']}")

    def test_a_changed_bit_is_a_mismatch(self, tmp_path: Path) -> None:
        name = "hopper.wgmma.e4m3.f32.bits"
        content = bytearray((RECORDED / name).read_bytes())
        content[-1] ^= 0x40
        (tmp_path / name).write_bytes(content)
        run = self.run(str(tmp_path))
        assert run.returncode == 1
        assert "1 mismatched" in run.stdout
        (tmp_path / name).write_bytes(content[:-1])
        run = self.run(str(tmp_path))
        assert run.returncode == 2
        assert "bytes of records" in run.stderr
        assert self.run(str(tmp_path / "nothing")).returncode == 2
