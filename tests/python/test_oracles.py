"""halfulp against ml_dtypes and gfloat. Disagreements are listed in docs/verification.md and pinned here."""

from __future__ import annotations

import gfloat
import gfloat.formats as gff
import ml_dtypes
import numpy as np
import pytest

import halfulp as hu

RNG = np.random.default_rng(20261121)
EVERY_HALF = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
EXTREMES = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 464, 465, 1e9, -1e9, 1e-45], np.float32)
INPUTS = np.concatenate(
    [EVERY_HALF, RNG.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32), EXTREMES]
)


def nan_aware_difference(theirs: np.ndarray, ours: np.ndarray, name: str) -> np.ndarray:
    """Where two arrays of codes differ, any NaN being equal to any NaN."""
    both_nan = np.isnan(hu.decode(theirs, name)) & np.isnan(hu.decode(ours, name))
    return (theirs != ours) & ~both_nan


@pytest.mark.parametrize(
    "name",
    [
        "float8_e4m3",
        "float8_e3m4",
        "float8_e5m2",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2fnuz",
        "float8_e4m3b11fnuz",
        "bfloat16",
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ml_dtypes_casts_from_float32(name: str) -> None:
    theirs = INPUTS.astype(getattr(ml_dtypes, name)).view(
        np.uint16 if name == "bfloat16" else np.uint8
    )
    assert not nan_aware_difference(theirs, hu.encode(INPUTS, name), name).any()


@pytest.mark.parametrize("name", ["float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ml_dtypes_sends_nan_to_a_zero_of_the_other_sign_in_formats_without_nan(name: str) -> None:
    theirs = INPUTS.astype(getattr(ml_dtypes, name)).view(np.uint8)
    ours = hu.encode(INPUTS, name, nan_to="negative-zero")
    negative_nan = np.isnan(INPUTS) & np.signbit(INPUTS)
    assert (theirs == np.where(negative_nan, 0, ours)).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ml_dtypes_e8m0_differs_in_ties_and_zero_only() -> None:
    positive = INPUTS[np.signbit(INPUTS) == 0]
    theirs = positive.astype(ml_dtypes.float8_e8m0fnu).view(np.uint8)
    ours = hu.encode(positive, "float8_e8m0fnu")
    differ = nan_aware_difference(theirs, ours, "float8_e8m0fnu")
    significand, _ = np.frexp(positive[differ])
    assert ((significand == 0.75) | (positive[differ] < 2.0**-126)).all()
    # In ties ml_dtypes goes away from zero; here the even code wins.
    tie = np.float32(1.5)
    assert tie.astype(ml_dtypes.float8_e8m0fnu).view(np.uint8) == 0x80
    assert hu.encode(float(tie), "float8_e8m0fnu") == 0x80
    assert np.float32(3.0).astype(ml_dtypes.float8_e8m0fnu).view(np.uint8) == 0x81
    assert hu.encode(3.0, "float8_e8m0fnu") == 0x80


def test_ml_dtypes_double_rounds_from_float64() -> None:
    """A known fault of the peer: float64 goes to narrow types by way of float32."""
    x = 1.125 + 2.0**-40
    assert float(np.float64(x).astype(ml_dtypes.float8_e5m2)) == 1.0
    assert hu.round(x, "float8_e5m2") == 1.25


GFLOAT_MODES = {
    "toward-zero": gfloat.RoundMode.TowardZero,
    "down": gfloat.RoundMode.TowardNegative,
    "up": gfloat.RoundMode.TowardPositive,
    "nearest-even": gfloat.RoundMode.TiesToEven,
    "nearest-away": gfloat.RoundMode.TiesToAway,
}


@pytest.mark.parametrize("rounding", list(GFLOAT_MODES))
@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("float8_e4m3fn", gff.format_info_ocp_e4m3),
        ("float8_e5m2", gff.format_info_ocp_e5m2),
        ("float6_e2m3fn", gff.format_info_ocp_e2m3),
        ("float6_e3m2fn", gff.format_info_ocp_e3m2),
        ("float4_e2m1fn", gff.format_info_ocp_e2m1),
        ("bfloat16", gff.format_info_bfloat16),
        ("binary16", gff.format_info_binary16),
    ],
)
def test_gfloat_saturating(name: str, peer: gfloat.FormatInfo, rounding: str) -> None:
    x = EVERY_HALF[np.isfinite(EVERY_HALF)][::37].astype(np.float64) * (1 + 2.0**-30)
    theirs = np.array([gfloat.round_float(peer, float(v), GFLOAT_MODES[rounding], True) for v in x])
    ours = hu.round(x, name, rounding=rounding, overflow="saturate")
    assert (theirs.view(np.uint64) == ours.view(np.uint64)).all()
