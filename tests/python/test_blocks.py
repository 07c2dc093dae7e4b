"""Block formats against an exact reference that shares no code with them, and laws."""

from __future__ import annotations

import contextlib
import doctest
import io
import itertools
import json
import math
import re
import shlex
import sys
import types
from fractions import Fraction as Q
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from block_reference import E2M1, E2M3, E3M2, E4M3, E5M2, REFERENCES, index_of, uniform
from hypothesis import given
from hypothesis import strategies as st
from modes import MODES

import halfulp as hu

RULES = ["floor", "ceil", "rceil", "even"]
MX = {
    "mxfp8_e4m3": E4M3,
    "mxfp8_e5m2": E5M2,
    "mxfp6_e2m3": E2M3,
    "mxfp6_e3m2": E3M2,
    "mxfp4": E2M1,
    "mxint8": uniform(7, -6),
}
DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def inputs(rng: np.random.Generator, n: int, dtype: type) -> np.ndarray:
    """Normal numbers of a random magnitude, ties, powers of two and their neighbours, zeros."""
    reach = {2: 8, 4: 100, 8: 150}[np.dtype(dtype).itemsize]
    scale = 2.0 ** rng.integers(-reach, reach)
    x = (rng.standard_normal(n) * scale).astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        grid = rng.integers(0, n, n // 2)
        x[grid] = rng.integers(-64, 65, n // 2) * scale / 16
        powers = rng.integers(0, n, n // 8)
        x[powers] = scale * 2.0 ** rng.integers(-6, 5, n // 8)
        x[rng.integers(0, n, n // 8)] *= 0.0
        x[rng.integers(0, n, n // 16)] = np.nextafter(scale, 0)
        y = x.astype(dtype)
    return np.where(np.isfinite(y), y, np.array(1, dtype)).astype(dtype)


def agree(q: hu.Quantized, wanted: tuple, what: str) -> None:
    codes, scales, zeros, s_g, values = wanted
    assert q.codes.ravel().tolist() == codes, what
    assert q.scales.ravel().tolist() == scales, what
    if q.zero_points is not None:
        assert q.zero_points.ravel().tolist() == zeros, what
    if q.tensor_scale is not None:
        assert Q(float(q.tensor_scale)) == s_g, what
    got = q.dequantize(np.float64).tolist()
    exact = [math.isnan(g) if v is None else Q(g) == v for g, v in zip(got, values, strict=True)]
    assert all(exact), what


@pytest.mark.parametrize("name", REFERENCES)
def test_random_blocks_agree_with_the_definitions(name: str, cases) -> None:
    rng = np.random.default_rng(7)
    reference = REFERENCES[name]
    rules = RULES if reference.rule in RULES else [None]
    for rule in rules:
        for k, mode in enumerate(MODES):
            for dtype in DTYPES:
                x = inputs(rng, int(rng.integers(1, 75)), dtype)
                if k % 3 == 0 and x.size > 40:
                    x[int(rng.integers(x.size))] = [np.nan, np.inf, -np.inf][k // 3 % 3]
                seed, r = int(rng.integers(2**63)), [32, 8, 3, 16][k % 4]
                q = hu.quantize(x, name, rule=rule, rounding=mode, seed=seed, random_bits=r)
                what = f"{name} {rule} {mode} {dtype.__name__} {x.tolist()}"
                wanted = reference.quantize(x, mode, rule, seed, r)
                agree(q, wanted, what)
                cases(x.size, f"block {name}", f"rule {rule or reference.rule}", f"mode {mode}")


@pytest.mark.parametrize(
    "name", ["mxfp4", "mxfp8_e5m2", "mxint8", "nvfp4", "nvfp4_te", "int8_symmetric", "uint8_affine"]
)
@pytest.mark.parametrize(
    "value", [0.0, 2.0**-149, 2.0**-126, 3.3e38, 3.4028234663852886e38, 1e308, 5e-324]
)
def test_the_ends_of_the_range(name: str, value: float) -> None:
    for dtype in (np.float32, np.float64):
        with np.errstate(over="ignore"):
            x = np.array([value, -value / 2, value / 3, -0.0, 0.0] * 4, np.float64).astype(dtype)
        if not np.isfinite(x).all():
            continue
        for mode in ("nearest-even", "up", "odd"):
            agree(
                hu.quantize(x, name, rounding=mode),
                REFERENCES[name].quantize(x, mode),
                f"{name} {value} {dtype} {mode}",
            )


TENSOR_SCALES = [2.0**-149, 2.0**-126, 3.4028234663852886e38, 1.0, 0.75, 3.1415927410125732]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_scale_that_the_caller_gives(dtype: type, cases) -> None:
    """nvfp4 and a target of its own, about the scale that amax gives and far from it, on both
    sides: scales and elements saturate, and blocks vanish."""
    rng = np.random.default_rng(11)
    reference = REFERENCES["nvfp4"]
    for k, mode in enumerate(MODES):
        for trial in range(8):
            x = inputs(rng, int(rng.integers(1, 75)), dtype)
            if trial == 7 and x.size > 40:
                x[int(rng.integers(x.size))] = np.nan
            own = float(hu.quantize(x, "nvfp4").tensor_scale)
            with np.errstate(over="ignore", under="ignore"):
                about = np.float32(own * 2.0 ** rng.integers(-12, 12) * rng.uniform(1, 2))
            given = float(about) if 0 < about < np.inf else own
            if trial < 2:
                given = TENSOR_SCALES[(2 * k + trial) % len(TENSOR_SCALES)]
            seed, r = int(rng.integers(2**63)), [32, 8, 3, 16][k % 4]
            options = {"rounding": mode, "seed": seed, "random_bits": r, "tensor_scale": given}
            wanted = reference.quantize(x, mode, None, seed, r, Q(given))
            what = f"{mode} {dtype.__name__} {given!r} {x.tolist()}"
            agree(hu.quantize(x, "nvfp4", **options), wanted, what)
            # Blocks that do not lie along the last dimension take the core's way.
            column = hu.quantize(x[:, np.newaxis], "nvfp4", axis=0, **options)
            assert column.codes.ravel().tolist() == wanted[0], what
            assert column.scales.ravel().tolist() == wanted[1], what
            cases(2 * x.size, "block nvfp4", "tensor scale given", f"mode {mode}")


def test_a_tensor_scale_is_refused_where_it_means_nothing() -> None:
    x = np.ones(32, np.float32)
    own = hu.quantize(x, "nvfp4")
    again = hu.quantize(x, "nvfp4", tensor_scale=own.tensor_scale)
    assert again.tensor_scale == own.tensor_scale
    assert again.codes.tolist() == own.codes.tolist()
    for name, value, words in [
        ("mxfp4", 1.0, "mxfp4 has no tensor scale"),
        ("nvfp4_te", 1.0, "rule 'te' makes its factors"),
        ("nvfp4", 0.0, "tensor_scale is 0.0, but must be positive and finite in binary32"),
        ("nvfp4", -1, "tensor_scale is -1, but must be positive"),
        ("nvfp4", math.nan, "tensor_scale is nan, but must be positive"),
        ("nvfp4", 2.0**128, "but must be positive and finite in binary32"),
        ("nvfp4", 0.1, "tensor_scale is 0.1, which binary32 does not have; pass numpy.float32"),
    ]:
        with pytest.raises(ValueError, match=re.escape(words)):
            hu.quantize(x, name, tensor_scale=value)
    for value in ("1", True, np.ones(1, np.float32)):
        with pytest.raises(TypeError, match="tensor_scale must be a number"):
            hu.quantize(x, "nvfp4", tensor_scale=value)


ALL_FLOAT16 = np.arange(65536, dtype=np.uint16).view(np.float16)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MX)
def test_every_float16_as_the_maximum_of_a_block(name: str, rule: str, cases) -> None:
    """Scales from the definitions in integers: amax = m·2^e, compared by cross-multiplication."""
    values = MX[name]
    largest, p = values[-1], REFERENCES[name].p
    emax = 0
    while Q(2) ** (emax + 1) <= largest:
        emax += 1
    amax = ALL_FLOAT16[:0x7C00]
    q = hu.quantize(amax.reshape(-1, 1), name, rule=rule)
    mantissa, exponent = np.frexp(amax.astype(np.float64))  # 0.5 <= mantissa < 1: exact
    floor = exponent - 1
    e = {
        "floor": floor,
        "ceil": np.where(mantissa == 0.5, floor, floor + 1),
        "rceil": floor + (mantissa * 2 > float(largest / Q(2) ** emax)),
        "even": floor + (mantissa * 2 >= 2 - 2.0**-p),
    }[rule] - emax
    wanted = np.where(amax == 0, 0, np.clip(e, -127, 127) + 127)
    assert (q.scales.ravel() == wanted).all()
    cases(amax.size, f"block {name}", f"rule {rule}")
    specials = hu.quantize(ALL_FLOAT16[0x7C00:0x8000].reshape(-1, 1), name, rule=rule)
    assert (specials.scales == 0xFF).all()
    assert np.isnan(specials.dequantize()).all()


def rounded(v: np.ndarray, values: np.ndarray, mode: str) -> np.ndarray:
    """Signed float64 values to indices of magnitudes; exact, since all differences here are."""
    a = np.abs(v)
    lower = np.minimum(np.searchsorted(values, a, side="right") - 1, len(values) - 1)
    upper = np.minimum(lower + 1, len(values) - 1)
    past, left = a - values[lower], values[upper] - a
    odd, negative = lower % 2 == 1, np.signbit(v)
    away = {
        "nearest-even": (past > left) | ((past == left) & odd),
        "nearest-away": past >= left,
        "nearest-zero": past > left,
        "toward-zero": np.zeros_like(odd),
        "up": ~negative,
        "down": negative,
        "away": np.ones_like(odd),
        "odd": ~odd,
    }[mode]
    return np.where((past > 0) & away, upper, lower)


@pytest.mark.parametrize("mode", MODES[:8])
@pytest.mark.parametrize("name", MX)
def test_every_float16_as_an_element(name: str, mode: str, cases) -> None:
    values = np.array([float(v) for v in MX[name]])
    finite = ALL_FLOAT16[np.isfinite(ALL_FLOAT16)]
    for top in (65504.0, 1000.0, 2.0**-9):
        x = np.stack([np.clip(finite, -top, top), np.full_like(finite, top)], axis=1)
        q = hu.quantize(x, name, rounding=mode)
        scale = 2.0 ** (q.scales.ravel().astype(np.float64) - 127)
        v = x[:, 0].astype(np.float64) / scale
        k = rounded(v, values, mode)
        if name == "mxint8":
            wanted = np.where(np.signbit(v), -k, k) & 0xFF
        else:
            wanted = k | (np.signbit(v).astype(int) << (REFERENCES[name].bits - 1))
        assert (q.codes[:, 0] == wanted).all()
        assert (np.abs(q.dequantize()[:, 0].astype(np.float64)) == values[k] * scale).all()
        cases(finite.size, f"block {name}", f"mode {mode}")


def test_nvfp4_te_agrees_with_float32_arithmetic() -> None:
    """TransformerEngine's steps in NumPy's float32 and ml_dtypes' casts."""
    rng = np.random.default_rng(11)
    f32, top = np.float32, np.finfo(np.float32).max
    differing = 0
    for k in range(300):
        x = inputs(rng, 64, np.float32)
        blocks = x.reshape(4, 16)
        amax = np.abs(x).max()
        with np.errstate(all="ignore"):
            encode = min(f32(2688) / amax, top) if amax > 0 else f32(1)
            encode = encode if encode != 0 else f32(1)
            decode = f32(1) / encode
            s = np.abs(blocks).max(axis=1) * (encode * (f32(1) / f32(6)))
            s_b = np.minimum(s, f32(448)).astype(ml_dtypes.float8_e4m3fn)
            factor = np.minimum(f32(1) / (s_b.astype(f32) * decode), top)
            scaled = np.clip(blocks * factor[:, None], f32(-6), f32(6))
        codes = scaled.astype(ml_dtypes.float4_e2m1fn).view(np.uint8) & 15
        q = hu.quantize(x, "nvfp4_te")
        assert (q.scales == s_b.view(np.uint8)).all(), k
        assert q.tensor_scale == decode
        assert (q.codes.reshape(4, 16) == codes).all(), k
        differing += (hu.quantize(x, "nvfp4").codes != q.codes).sum()
    assert differing > 0  # the two orders of operations are not the same function


def te_in_numpy(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TransformerEngine's scale and element codes of blocks (n, 16) of float32."""
    f32, top = np.float32, np.finfo(np.float32).max
    with np.errstate(all="ignore"):
        encode = min(f32(2688) / np.abs(x).max(), top)
        decode = f32(1) / encode
        s = np.abs(x).max(axis=1) * (encode * (f32(1) / f32(6)))
        s_b = np.minimum(s, f32(448)).astype(ml_dtypes.float8_e4m3fn)
        factor = np.minimum(f32(1) / (s_b.astype(f32) * decode), top)
        scaled = np.clip(x * factor[:, None], f32(-6), f32(6))
    return s_b.view(np.uint8), scaled.astype(ml_dtypes.float4_e2m1fn).view(np.uint8) & 15


def test_nvfp4_te_about_every_tie() -> None:
    """Scales and elements a few units in the last place from where they are decided."""
    rng = np.random.default_rng(13)
    ties = np.array([float(a + b) / 2 for a, b in itertools.pairwise(E4M3)])
    element_ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    for top in np.exp(rng.uniform(-8, 8, 40)).astype(np.float32):
        s_g = np.float64(1) / (2688 / np.float64(top))
        amax = (ties[1:] * 6 * s_g).astype(np.float32)
        amax = np.concatenate([amax.view(np.int32) + k for k in range(-3, 4)]).view(np.float32)
        amax = amax[amax < top]
        x = np.zeros((amax.size + 1, 16), np.float32)
        x[:-1, 0], x[-1, 0] = amax, top
        first = te_in_numpy(x)[0]
        unit = first[:-1].view(ml_dtypes.float8_e4m3fn).astype(np.float64) * s_g
        centre = (unit[:, None] * element_ties).astype(np.float32)
        x[:-1, 1:8] = (centre.view(np.int32) + rng.integers(-2, 3, centre.shape, np.int32)).view(
            np.float32
        )
        x[:-1, 8:15] = -(centre.view(np.int32) + rng.integers(-2, 3, centre.shape, np.int32)).view(
            np.float32
        )
        x = np.clip(x, -np.abs(x[:, :1]), np.abs(x[:, :1]))
        scales, codes = te_in_numpy(x)
        q = hu.quantize(x, "nvfp4_te")
        assert (q.scales.ravel() == scales).all()
        assert (q.codes == codes).all()


# ---------------------------------------------------------------- layout
def test_any_axis_is_the_transposed_tensor() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((5, 37, 19)).astype(np.float32)
    for name in (
        "mxfp4",
        "nvfp4",
        "int4_symmetric",
        "uint4_affine",
        "bfp_m3_e5_b8",
        "zeroquant_m1",
    ):
        for axis in range(3):
            q = hu.quantize(x, name, axis=axis)
            t = hu.quantize(np.ascontiguousarray(np.moveaxis(x, axis, 2)), name, axis=2)
            assert (np.moveaxis(q.codes, axis, 2) == t.codes).all()
            assert (np.moveaxis(q.scales, axis, 2) == t.scales).all()
            assert (np.moveaxis(q.dequantize(), axis, 2) == t.dequantize()).all()
            assert (hu.quantize(x, name, axis=axis - 3).codes == q.codes).all()


@given(
    st.integers(1, 70),
    st.sampled_from(
        ["mxfp4", "mxint8", "nvfp4", "int4_symmetric", "uint4_affine", "bfp_m4_e4_b5_tc"]
    ),
)
def test_a_ragged_block_is_one_padded_with_zeros(n: int, name: str) -> None:
    x = np.random.default_rng(n).standard_normal((3, n)).astype(np.float32)
    f = hu.block_format(name)
    padded = np.zeros((3, -(-n // f.columns) * f.columns), np.float32)
    padded[:, :n] = x
    q, p = hu.quantize(x, f), hu.quantize(padded, f)
    assert (q.scales == p.scales).all()
    assert (q.codes == p.codes[:, :n]).all()


def test_square_blocks_are_those_of_the_flattened_tiles() -> None:
    x = np.random.default_rng(5).standard_normal((2, 40, 35)).astype(np.float32)
    q = hu.quantize(x, "nvfp4_16x16")
    assert q.scales.shape == (2, 3, 3)
    padded = np.zeros((2, 48, 48), np.float32)
    padded[:, :40, :35] = x
    tiles = padded.reshape(2, 3, 16, 3, 16).transpose(0, 1, 3, 2, 4).reshape(2, 3, 3, 256)
    flat = hu.quantize(tiles, hu.block_format("nvfp4", block=256))
    assert (q.scales == flat.scales[..., 0]).all()
    codes = flat.codes.reshape(2, 3, 3, 16, 16).transpose(0, 1, 3, 2, 4).reshape(2, 48, 48)
    assert (q.codes == codes[:, :40, :35]).all()
    assert (
        hu.quantize(x, "nvfp4_16x16", axis=1).codes
        == hu.quantize(x.transpose(2, 0, 1), "nvfp4_16x16", axis=2).codes.transpose(1, 2, 0)
    ).all()


def test_scales_per_tensor_channel_and_group() -> None:
    x = np.random.default_rng(6).standard_normal((6, 8)).astype(np.float32)
    per_tensor, per_channel = (
        hu.quantize(x, "int8_symmetric"),
        hu.quantize(x, "int8_symmetric", axis=0, block="channel"),
    )
    assert per_tensor.scales.shape == (1, 1)
    assert per_channel.scales.shape == (6, 1)
    for i in range(6):
        one = hu.quantize(x[i], "int8_symmetric")
        assert (one.codes == per_channel.codes[i]).all()
        assert one.scales == per_channel.scales[i]
    assert hu.quantize(x, "int8_symmetric", block=4).scales.shape == (6, 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_views_and_shapes(dtype: type) -> None:
    x = np.random.default_rng(8).standard_normal((6, 64)).astype(dtype)
    whole = hu.quantize(x.astype(np.float64), "mxfp8_e4m3")
    assert (hu.quantize(x, "mxfp8_e4m3").codes == whole.codes).all()
    for v in (x[:, ::-1], x[::2, 1::3], x.T, x[:0], x[:, :0], x[0, 0]):
        assert (hu.quantize(v, "mxfp4").codes == hu.quantize(v.copy(), "mxfp4").codes).all()
    swapped = hu.quantize(x[:, ::-1], "nvfp4", rounding="stochastic", seed=4)
    assert (
        swapped.codes
        == hu.quantize(x[:, ::-1].copy(), "nvfp4", rounding="stochastic", seed=4).codes
    ).all()
    assert hu.quantize(1.5, "mxfp4").dequantize() == 1.5
    assert hu.quantize([1, 2, 3.5], "mxfp8_e4m3").dequantize().tolist() == [1, 2, 3.5]
    assert hu.quantize(x[:0], "mxfp4").dequantize().shape == (0, 64)


# ---------------------------------------------------------------- laws
finite = st.floats(-1e6, 1e6, width=32)
vectors = st.lists(finite, min_size=1, max_size=40).map(lambda v: np.array(v, np.float32))


@given(
    vectors,
    st.integers(-20, 20),
    st.sampled_from([n for n in REFERENCES if "floor" in n or n[:2] in ("mx", "bf", "df")]),
    st.sampled_from(MODES),
)
def test_a_power_of_two_moves_the_scales_alone(x: np.ndarray, k: int, name: str, mode: str) -> None:
    """In float64, whose range no block leaves; scales that were not clamped."""
    x = x.astype(np.float64)
    a = hu.quantize(x, name, rounding=mode, seed=1)
    b = hu.quantize(x * 2.0**k, name, rounding=mode, seed=1)
    least, last = 0, (1 << a.format.scale.width) - 2
    same = (a.scales != least) & (b.scales != least) & (a.scales != last) & (b.scales != last)
    assert (b.scales.astype(int)[same] == a.scales.astype(int)[same] + k).all()
    if same.all():
        assert (a.codes == b.codes).all()


ordinary = finite.map(lambda v: v if abs(v) > 1e-3 else 0.0)


@given(
    st.lists(ordinary, min_size=1, max_size=40),
    st.integers(-20, 20),
    st.sampled_from(sorted({*REFERENCES, *hu.block_formats()})),
    st.sampled_from(MODES),
)
def test_a_power_of_two_scales_the_values_alone(
    x: list[float], k: int, name: str, mode: str
) -> None:
    """Every format and rule: codes stay and values scale, unless a scale is at an end."""
    f = hu.block_format(name)
    if f.scale.name == "float8_e4m3fn" and not f.tensor_target:
        return  # four exponent bits have no room for it
    shape = (-1, 1) if f.rows > 1 else -1
    array = np.array(x, np.float64).reshape(shape)
    a = hu.quantize(array, f, rounding=mode, seed=1)
    b = hu.quantize(array * 2.0**k, f, rounding=mode, seed=1)
    if f.scale.precision == 1:
        ends = (0, (1 << f.scale.width) - 2)
        if np.isin(a.scales, ends).any() or np.isin(b.scales, ends).any():
            return
    assert (a.codes == b.codes).all()
    assert (a.dequantize(np.float64) * 2.0**k == b.dequantize(np.float64)).all()
    if a.zero_points is not None:
        assert (a.zero_points == b.zero_points).all()


@given(
    vectors,
    st.sampled_from([*MX, "bfp_m7_e8_b16", "bfp_m3_e5_b8", "dfp16"]),
    st.sampled_from(["floor", "ceil", "rceil"]),
    st.sampled_from(MODES),
)
def test_what_was_quantised_once_does_not_move(
    x: np.ndarray, name: str, rule: str, mode: str
) -> None:
    """`even` is left out: 480 in E4M3, reached by 240·2, has the scale 1 there and saturates."""
    a = hu.quantize(x, name, rule=rule, rounding=mode, seed=1)
    b = hu.quantize(a.dequantize(np.float64), name, rule=rule, rounding=mode, seed=2)
    assert (a.dequantize(np.float64) == b.dequantize(np.float64)).all()
    if rule == "floor":
        assert (a.scales == b.scales).all()
        assert (a.codes == b.codes).all()


@given(vectors, st.sampled_from([*REFERENCES, "zeroquant_m2"]), st.sampled_from(MODES[:8]))
def test_monotone_within_a_block(x: np.ndarray, name: str, mode: str) -> None:
    f = hu.block_format(name, block="tensor")
    x = np.sort(x)
    assert (np.diff(hu.quantize(x, f, rounding=mode).dequantize(np.float64)) >= 0).all()


@given(vectors, st.sampled_from(MODES))
def test_e1m2_is_int4_in_quarters(x: np.ndarray, mode: str) -> None:
    """FP4 with one exponent bit and two fraction bits has the values n/4, n = -7..7."""
    e1m2 = hu.block_format(
        element="fp_e1p3b1_s_none_none", scale="binary32", rule="absmax", block=8
    )
    int4 = hu.block_format(element="int4q-2", scale="binary32", rule="absmax", block=8)
    a, b = (hu.quantize(x, f, rounding=mode, seed=3) for f in (e1m2, int4))
    assert (a.scales == b.scales).all()
    assert (a.dequantize() == b.dequantize()).all()
    n = np.where(a.codes & 8, -(a.codes & 7).astype(int), a.codes & 7)
    assert (n & 15 == b.codes).all()


@given(vectors)
def test_nothing_saturates_under_rceil(x: np.ndarray) -> None:
    for name in MX:
        q = hu.quantize(x.astype(np.float64), name, rule="rceil", rounding="away")
        assert (np.abs(q.dequantize(np.float64)) >= np.abs(x.astype(np.float64))).all()


def test_mxint8_is_bfp_in_twos_complement() -> None:
    assert hu.block_format("bfp_m7_e8_b32_tc") == hu.block_format("mxint8")
    x = np.random.default_rng(1).standard_normal(100).astype(np.float32)
    a, b = hu.quantize(x, "mxint8"), hu.quantize(x, "bfp_m7_e8_b32")
    assert (a.dequantize() == b.dequantize()).all()
    i = hu.quantize(x, "dfp16")
    E_s = math.floor(math.log2(np.abs(x).max())) - 14
    assert int(i.scales[0]) - 127 == E_s
    assert (
        i.codes.view(np.int16) == np.clip(np.rint(x.astype(float) / 2.0**E_s), -32767, 32767)
    ).all()


# ---------------------------------------------------------------- other packages
@pytest.mark.parametrize("name", list(MX))
def test_gfloat_agrees_where_its_log2_is_exact(name: str) -> None:
    """gfloat takes ⌊log2 amax⌋ in float64, which is 1 too large just below a power of two, and
    rounds INT8 codes to -128; elsewhere it is equal."""
    import gfloat.formats as gf
    from gfloat.block import compute_scale_amax, quantize_block

    info = {f.name: f for f in gf.all_block_formats}[{"mxfp4": "mxfp4_e2m1"}.get(name, name)]
    rng = np.random.default_rng(12)
    for _ in range(60):
        x = inputs(rng, 32, np.float32).astype(np.float64)
        amax = np.abs(x).max()
        if amax and math.floor(math.log2(amax)) != math.frexp(amax)[1] - 1:
            continue
        if not 2.0**-100 < amax < 2.0**100:
            continue
        got = hu.quantize(x, name).dequantize(np.float64)
        theirs = quantize_block(info, x, compute_scale_amax)
        lowest = got.min() if name == "mxint8" else None
        differ = got != theirs
        if name == "mxint8":
            differ &= ~((got == lowest) & (theirs < lowest))
        assert not differ.any()


def test_where_gfloat_s_logarithm_is_wrong() -> None:
    import gfloat.formats as gf
    from gfloat.block import compute_scale_amax, quantize_block

    x = np.full(32, np.nextafter(8.0, 0))  # floor(log2) is 2, so the scale 1 and the largest value
    assert (hu.quantize(x, "mxfp4").dequantize() == 6).all()
    assert (quantize_block(gf.format_info_mxfp4_e2m1, x, compute_scale_amax) == 8).all()


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("mxfp8_e4m3", ml_dtypes.float8_e4m3fn),
        ("mxfp8_e5m2", ml_dtypes.float8_e5m2),
        ("mxfp6_e2m3", ml_dtypes.float6_e2m3fn),
        ("mxfp6_e3m2", ml_dtypes.float6_e3m2fn),
        ("mxfp4", ml_dtypes.float4_e2m1fn),
    ],
)
def test_elements_are_ml_dtypes_casts_at_scale_one(name: str, dtype: type) -> None:
    largest = float(MX[name][-1])
    emax = math.floor(math.log2(largest))
    x = ALL_FLOAT16[np.abs(ALL_FLOAT16) <= largest].astype(np.float32)
    blocks = np.stack([x, np.full_like(x, 2.0**emax)], axis=1)  # the maximum that has scale 1
    keep = np.abs(x) < 2.0 ** (emax + 1)
    q = hu.quantize(blocks, name)
    assert (q.scales[keep] == 127).all()
    assert (q.codes[keep, 0] == x[keep].astype(dtype).view(np.uint8)).all()


# ---------------------------------------------------------------- formats, packing, errors
def test_names_round_trip() -> None:
    import pickle

    for name, f in hu.block_formats().items():
        assert f.name == name
        assert hu.block_format(f.canonical_name) == f
        assert pickle.loads(pickle.dumps(f)) == f
        assert eval(repr(f), {"halfulp": hu}) == f
    for name in REFERENCES:
        f = hu.block_format(name)
        assert hu.block_format(f.canonical_name) == f
    ue5m3 = hu.format("ue5m3"), hu.format("ue5m3fn")
    assert [hu.exact_value(f, f.largest_code) for f in ue5m3] == [61440, 114688]
    ue4m3 = hu.values("ue4m3")
    assert np.array_equal(ue4m3, hu.values("float8_e4m3fn")[:128], equal_nan=True)


@pytest.mark.parametrize("scale", ["ue4m3", "ue5m3", "ue5m3fn", "binary16", "bfloat16"])
def test_scale_formats_take_the_rounded_quotient(scale: str) -> None:
    f = hu.block_format(element="float4_e2m1fn", scale=scale, rule="absmax", block=16)
    x = np.random.default_rng(9).standard_normal(320).astype(np.float32) * 50
    q = hu.quantize(x, f)
    positive = hu.values(scale)[: hu.format(scale).largest_code + 1]
    values = [Q(v) for v in positive.tolist()]
    for b, block in enumerate(x.reshape(-1, 16)):
        code = index_of(Q(float(np.abs(block).max())) / 6, values, "nearest-even", False)
        assert q.scales[b] == code
        for v, c in zip(block.tolist(), q.codes[16 * b : 16 * b + 16].tolist(), strict=True):
            assert c == index_of(abs(Q(v)) / values[code], E2M1, "nearest-even", v < 0) | 8 * (
                v < 0
            )


@pytest.mark.parametrize("width", range(1, 17))
def test_packing_round_trips_in_little_endian_bit_order(width: int, cases) -> None:
    rng = np.random.default_rng(width)
    for n in range(40):
        codes = rng.integers(0, 1 << width, n)
        packed = hu.pack(codes, width)
        stream = sum(int(c) << (width * i) for i, c in enumerate(codes))
        assert packed.tobytes() == stream.to_bytes((n * width + 7) // 8, "little")
        assert (hu.unpack(packed, width, n) == codes).all()
        cases(n, "packing")


def test_packed_fp4_has_the_even_element_in_the_low_nibble() -> None:
    assert hu.pack([1, 2, 3], 4).tolist() == [0x21, 0x03]
    q = hu.quantize(np.linspace(-6, 6, 64).reshape(2, 32), "mxfp4")
    assert q.pack().nbytes == 32
    again = q.unpack(q.pack())
    assert (again.codes == q.codes).all()
    assert (again.dequantize() == q.dequantize()).all()


def test_double_quantisation_of_scales() -> None:
    x = np.random.default_rng(10).standard_normal((64, 512)).astype(np.float32)
    f = hu.block_format("int4_symmetric", block=64)
    q = hu.quantize(x, f)
    d = q.double_quantize()
    assert (d.codes == q.codes).all()
    inner, mean = d.doubled
    values = [Q(float(v)) for v in q.scale_values.ravel()]
    assert Q(float(mean)) == Q(float(np.float32(float(sum(values) / len(values)))))
    restored = (inner.dequantize(np.float64) + np.float64(mean)).astype(np.float32)
    assert (d.scale_values.ravel() == restored).all()
    assert d.bits == x.size * 4 + 512 * 8 + 2 * 32 + 32
    assert np.abs(d.dequantize() - x).max() < 1.1 * np.abs(q.dequantize() - x).max() + 0.05
    with pytest.raises(ValueError, match="scales of binary32"):
        hu.quantize(x, "mxfp4").double_quantize()


def test_dequantize_is_exact_or_refuses() -> None:
    x = np.random.default_rng(2).standard_normal(64).astype(np.float32)
    q = hu.quantize(x, "nvfp4")
    assert q.dequantize().dtype == np.float64
    with pytest.raises(hu.RoundingError, match="binary32 does not have"):
        q.dequantize(np.float32)
    rounded = q.dequantize(np.float32, rounding="nearest-even")
    assert (rounded == q.dequantize().astype(np.float32)).all()
    assert hu.quantize(x, "mxfp4").dequantize().dtype == np.float32
    assert hu.quantize(x, "mxfp4").dequantize(ml_dtypes.bfloat16).dtype == ml_dtypes.bfloat16
    with pytest.raises(TypeError, match="dtype is int32"):
        q.dequantize(np.int32)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x: hu.quantize(x, "mxfp5"), "block format 'mxfp5' is unknown"),
        (lambda x: hu.quantize(x, "mxfp4", rule="round"), "rule 'round' is unknown"),
        (lambda x: hu.quantize(x, "nvfp4", rule="floor"), "powers of two"),
        (lambda x: hu.quantize(x, "mxfp4", block=0), "block is 0, but each side must be 1"),
        (lambda x: hu.quantize(x, "mxfp4", block="row"), "block 'row' is unknown"),
        (lambda x: hu.quantize(x, "mxfp4", axis=2), "axis is 2, but x has 1 dimensions"),
        (lambda x: hu.quantize(x, "nvfp4_16x16"), "need an axis before"),
        (lambda x: hu.quantize(x, "mxfp4", rounding="stochastic"), "needs a seed"),
        (lambda x: hu.quantize(x, "bfp_m0_e8_b16"), "must be 1 to 15"),
        (lambda x: hu.quantize(x, "bfp_m7_e8_b0"), "each side must be 1 to"),
        (lambda x: hu.quantize(x.astype(int), "mxfp4"), "dtype int"),
        (lambda x: hu.pack([16], 4), "code 16 is outside 0 to 15"),
        (lambda x: hu.pack([-1], 4), "code -1 is outside"),
        (lambda x: hu.pack([1], 17), "width is 17, but must be 1 to 16"),
        (lambda x: hu.unpack(np.zeros(3, np.uint8), 4, 8), "take 4 bytes, but 3 were given"),
        (
            lambda x: hu.block_format(element="binary32", scale="binary32", rule="absmax", block=4),
            "32 bits, but must have 2 to 16",
        ),
        (
            lambda x: hu.block_format(
                element="float4_e2m1fn", scale="binary64", rule="absmax", block=4
            ),
            "its scale has 64 bits",
        ),
        (
            lambda x: hu.block_format(element="float4_e2m1fn"),
            "needs element, scale, rule and block",
        ),
    ],
)
def test_errors_are_one_sentence(call, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence) as error:
        call(np.ones(8, np.float32))
    assert "\n" not in str(error.value)


def test_nan_into_scales_without_nan_is_refused() -> None:
    f = hu.block_format(
        element="float4_e2m1fn", scale="fp_e4p4b7_u_none_none", rule="absmax", block=4
    )
    assert hu.quantize([1.0, 2.0], f).codes.shape == (2,)
    with pytest.raises(hu.RoundingError, match="block 1 holds NaN or infinity"):
        hu.quantize([1.0, 2, 3, 4, math.nan], f)


def test_stochastic_rounding_is_unbiased_and_repeats() -> None:
    x = np.full(32 * 2000, 1.2, np.float32)
    x[::32] = 4.0
    q = hu.quantize(x, "mxfp4", rounding="stochastic", seed=5)
    again = hu.quantize(x, "mxfp4", rounding="stochastic", seed=5)
    assert (q.codes == again.codes).all()
    mean = q.dequantize().reshape(-1, 32)[:, 1:].mean()
    assert abs(mean - 1.2) < 6 * 0.25 / math.sqrt(62000)
    tail = hu.quantize(x[32:], "mxfp4", rounding="stochastic", seed=5, offset=32)
    assert (tail.codes == q.codes[32:]).all()


# ---------------------------------------------------------------- faces
PAGE = (Path(__file__).resolve().parents[2] / "docs/block-formats.md").read_text()


def printed(arguments: list[str]) -> tuple[int, str]:
    from halfulp import cli

    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
        code = cli.main(arguments)
    return code, text.getvalue()


def test_the_page_shows_what_happens() -> None:
    block = re.findall(r"```pycon\n(.*?)```", PAGE, re.S)
    test = doctest.DocTestParser().get_doctest("\n".join(block), {}, "page", "page", 0)
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed == 0
    for command, output in re.findall(r"```console\n\$ (.*?)\n(.*?)```", PAGE, re.S):
        assert printed(shlex.split(command)[1:]) == (0, output)


def test_the_page_names_every_format_and_rule() -> None:
    names = [n for n in hu.block_formats() if f"`{n}`" not in PAGE]
    assert not names
    assert all(f"| `{rule}` |" in PAGE for rule in hu._core.scale_rule_names())


def test_the_command_line() -> None:
    code, text = printed(["quantize", "--format", "nvfp4", "--json", "1", "nan"])
    assert code == 0
    document = json.loads(text)
    assert document["scales"][0]["code"] == "0x7f"
    assert [r["value"] for r in document["results"]] == ["nan", "nan"]
    assert "zero 9" in printed(["quantize", "--format", "uint4_affine", "1", "2", "3", "-4"])[1]
    code, text = printed(["quantize", "--format", "bfp_m3_e5_b2", "1", "2", "3", "4", "--json"])
    assert [r["block"] for r in json.loads(text)["results"]] == [0, 0, 1, 1]
    for name in hu.block_formats():
        code, text = printed(["formats", name])
        assert code == 0
        assert hu.block_format(name).canonical_name in text
        assert printed(["formats", name, "--json"])[0] == 0
        if "16x16" not in name:
            assert printed(["quantize", "--format", name, "1", "-2.5", "0x1.8p-3"])[0] == 0
    assert printed(["formats", "mxfp4", "binary16"])[0] == 2
    assert printed(["quantize", "--format", "mxfp4", "--block", "0", "1"])[0] == 2
    assert printed(["quantize", "--format", "mxfp4", "one"])[0] == 2


def test_no_block_format_has_the_name_of_another_number_system() -> None:
    others = {*hu.formats(), *hu.number_systems()}
    assert not others & set(hu.block_formats())


class FakeDeviceArray:
    """What is asked of a CuPy array before its library is asked for anything."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)


def test_an_array_on_a_gpu_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.ModuleType("cupy")
    fake.ndarray = FakeDeviceArray  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", fake)
    with pytest.raises((TypeError, RuntimeError), match=r"dtype int32; on a GPU|no CUDA"):
        hu.quantize(FakeDeviceArray((4, 32), "int32"), "mxfp4")
    with pytest.raises(ValueError, match="axis is 2"):
        hu.quantize(FakeDeviceArray((4, 32), "float32"), "mxfp4", axis=2)
    with pytest.raises(ValueError, match="block format"):
        hu.quantize(FakeDeviceArray((4, 32), "float32"), "float8_e4m3fn")
