"""Laws of rounding over formats at random, through the Python face: no reference, only what must hold."""

from __future__ import annotations

import math
from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from modes import DETERMINISTIC

import halfulp as hu

DUAL = {"up": "down", "down": "up"}
modes = st.sampled_from(DETERMINISTIC)
policies = st.sampled_from(["ieee", "saturate", "saturate-propagate"])


@st.composite
def formats(draw: st.DrawFn, widest: int = 20, float64: bool = True) -> hu.Format:
    """Any valid combination of the parts of a Format whose values float64 holds; P3109 among them."""
    if draw(st.integers(0, 4)) == 0:
        k = draw(st.integers(3, 12))
        kind = draw(st.sampled_from(["se", "sf", "ue", "uf"]))
        p = draw(st.integers(1, k - (kind[0] == "s")))
        f = hu.format(f"p3109_k{k}p{p}{kind}")
    else:
        e = draw(st.integers(1, 9))
        parts = {
            "exponent_bits": e,
            "precision": draw(st.integers(1, widest - e)),
            "is_signed": draw(st.booleans()),
            "nan": draw(st.sampled_from(["ieee", "last", "negzero", "none"])),
            "inf": draw(st.sampled_from(["ieee", "last", "none"])),
            "subnormals": draw(st.booleans()),
            "zero": draw(st.integers(0, 5)) > 0,
        }
        if draw(st.booleans()):
            parts["bias"] = draw(st.integers(-20, 300))
        try:
            f = hu.Format(**parts)
        except ValueError:
            assume(False)
    assume(not float64 or hu.format("binary64").holds(f))
    return f


def ends(f: hu.Format) -> tuple[float, float]:
    return tuple(float(hu.exact_value(f, c)) for c in (f.least_code, f.largest_code))


@st.composite
def numbers(draw: st.DrawFn, f: hu.Format) -> float:
    """Float64 numbers where the format has something to decide, and any."""
    least, largest = ends(f)
    code = draw(st.integers(0, f.largest_code))
    value = float(hu.exact_value(f, code))
    step = draw(st.sampled_from([0, 1, 0.5, 0.25, 0.75, 2**-20]))
    quantum = math.ulp(value) * 2 ** (53 - f.precision) if value else least
    x = draw(
        st.one_of(
            st.just(value + step * quantum),
            st.just(np.nextafter(value + step * quantum, math.inf)),
            st.just(np.nextafter(value + step * quantum, -math.inf)),
            st.sampled_from([least / 2, least / 4, largest * 1.5, largest * 2]),
            st.floats(allow_nan=False),
        )
    )
    return float(-x if draw(st.booleans()) else x)


@st.composite
def situations(draw: st.DrawFn) -> tuple[hu.Format, str, str, float, float]:
    f = draw(formats())
    return f, draw(modes), draw(policies), draw(numbers(f)), draw(numbers(f))


def rounded(x: float, f: hu.Format, mode: str, policy: str = "ieee") -> float:
    """hu.round; NaN is let be where the format has none."""
    nan_to = "largest" if f.nan == "none" else "error"
    return hu.round(x, f, mode, overflow=policy, nan_to=nan_to)


def same(a: float, b: float) -> bool:
    return (a != a and b != b) or (a == b and math.copysign(1, a) == math.copysign(1, b))


@given(situations())
@settings(max_examples=600, deadline=None)
def test_rounding_is_monotone(situation: tuple) -> None:
    f, mode, _, x, y = situation
    if not f.is_signed:
        x, y = abs(x), abs(y)
    low, high = (rounded(v, f, mode, "saturate") for v in sorted([x, y]))
    assert low <= high


@given(situations())
@settings(max_examples=600, deadline=None)
def test_rounding_twice_is_rounding_once(situation: tuple) -> None:
    f, mode, policy, x, _ = situation
    once = rounded(x, f, mode, policy)
    assume(once == once or f.nan != "none")
    for again in DETERMINISTIC:
        assert same(rounded(once, f, again, policy), once)


@given(situations())
@settings(max_examples=600, deadline=None)
def test_minus_x_rounds_to_minus_the_result_of_the_dual_mode(situation: tuple) -> None:
    f, mode, policy, x, _ = situation
    assume(f.is_signed)
    there = rounded(x, f, mode, policy)
    back = rounded(-x, f, DUAL.get(mode, mode), policy)
    if f.nan == "negzero" and there == 0:
        assert same(back, 0.0)
        assert same(there, 0.0)
    else:
        assert there != there or same(back, -there)
    assert (there != there) == (back != back)


@given(situations())
@settings(max_examples=600, deadline=None)
def test_nearest_is_a_neighbour_and_directed_modes_enclose(situation: tuple) -> None:
    f, _, _, x, _ = situation
    least, largest = ends(f)
    assume(abs(x) <= largest and (f.is_signed or x >= 0) and (f.zero or x >= least))
    down, up = (rounded(x, f, mode) for mode in ("down", "up"))
    assert down <= x <= up
    for mode in DETERMINISTIC:
        y = rounded(x, f, mode)
        assert y in (down, up), mode
        if mode.startswith("nearest") and (f.subnormals or abs(x) >= least):
            assert abs(Q(y) - Q(x)) == min(Q(up) - Q(x), Q(x) - Q(down))
    assert abs(rounded(x, f, "toward-zero")) <= abs(x) <= abs(rounded(x, f, "away"))


@given(st.data())
@settings(max_examples=600, deadline=None)
def test_odd_first_then_any_mode_is_rounding_once(data: st.DataObject) -> None:
    """Boldo & Melquiond 2008: two more bits, and the quantum below the narrow format's."""
    f = data.draw(formats(widest=16))
    wide = hu.Format(
        exponent_bits=11, precision=min(f.precision + 2 + data.draw(st.integers(0, 20)), 53)
    )
    assume(wide.emin - wide.precision <= f.emin - f.precision - 2)
    x = data.draw(numbers(f))
    middle = hu.round(x, wide, "odd")
    for mode in DETERMINISTIC:
        for policy in ("ieee", "saturate"):
            assert same(rounded(middle, f, mode, policy), rounded(x, f, mode, policy)), mode


@given(st.data())
@settings(max_examples=600, deadline=None)
def test_codes_come_back(data: st.DataObject) -> None:
    """encode(decode(c)) = c; of codes of one value, the canonical one (NaN; zeros; above max_code)."""
    f = data.draw(formats(widest=17))
    codes = np.array(
        data.draw(st.lists(st.integers(0, (1 << f.width) - 1), min_size=1, max_size=30))
    )
    kind = np.uint8 if f.width <= 8 else np.uint16 if f.width <= 16 else np.uint32
    codes = np.concatenate([codes, [0, f.largest_code, f.least_code, (1 << f.width) - 1]]).astype(
        kind
    )
    values = hu.decode(codes, f, dtype=np.float64)
    back = hu.encode(values, f, "odd", overflow="saturate-propagate")
    again = hu.decode(back, f, dtype=np.float64)
    assert all(same(a, b) for a, b in zip(values.tolist(), again.tolist(), strict=True))
    canonical = ~np.isnan(values) & ~((values == 0) & (codes != 0) & (codes != 1 << (f.width - 1)))
    if not f.subnormals and f.zero:  # a zero exponent field is a zero, whatever its fraction says
        canonical &= values != 0
    assert (back[canonical] == codes[canonical]).all()
    if f.nan_code is not None:
        assert (back[np.isnan(values)] == f.nan_code).all()


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_codes_above_the_largest_decode_and_are_never_results(data: st.DataObject) -> None:
    """max_code: between it and the first special code values are read as their bits say."""
    f = data.draw(formats(widest=12))
    assume(f.largest_code > f.least_normal_code + 1)
    top = data.draw(st.integers(max(f.least_normal_code, 1), f.largest_code - 1))
    parts = {
        n: getattr(f, n)
        for n in (
            "exponent_bits",
            "precision",
            "bias",
            "is_signed",
            "nan",
            "inf",
            "subnormals",
            "zero",
        )
    }
    short = hu.Format(**parts, max_code=top)
    kind = np.uint8 if f.width <= 8 else np.uint16
    beyond = np.arange(top + 1, f.largest_code + 1, dtype=kind)
    values = hu.decode(beyond, short, dtype=np.float64)
    assert np.array_equal(values, hu.decode(beyond, f, dtype=np.float64))
    largest = float(hu.exact_value(short, top))
    assert short.largest_code == top
    assert (hu.encode(values, short, overflow="saturate") == top).all()
    assert (hu.round(values, short, "toward-zero", overflow="saturate") == largest).all()


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_addition_and_multiplication_commute_and_negate(data: st.DataObject) -> None:
    f, mode, policy = data.draw(formats()), data.draw(modes), data.draw(policies)
    assume(f.is_signed)
    x, y = data.draw(numbers(f)), data.draw(numbers(f))
    options = {"overflow": policy, "nan_to": "largest" if f.nan == "none" else "error"}
    for operation in (hu.add, hu.mul):
        xy, xy_flags = operation(x, y, f, rounding=mode, flags=True, **options)
        yx, yx_flags = operation(y, x, f, rounding=mode, flags=True, **options)
        assert same(xy, yx)
        assert xy_flags == yx_flags
    minus = hu.mul(-x, y, f, rounding=DUAL.get(mode, mode), **options)
    product = hu.mul(x, y, f, rounding=mode, **options)
    if product == product and product != 0 and f.nan != "none":
        assert same(minus, -product)
    assert same(
        hu.sub(x, y, f, rounding=mode, **options), hu.add(x, -y, f, rounding=mode, **options)
    )


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_p3109_is_ordered_by_its_codes_and_one_is_in_the_middle(data: st.DataObject) -> None:
    k = data.draw(st.integers(3, 12))
    kind = data.draw(st.sampled_from(["se", "sf", "ue", "uf"]))
    p = data.draw(st.integers(1, k - (kind[0] == "s")))
    f = hu.format(f"p3109_k{k}p{p}{kind}")
    assume(hu.format("binary64").holds(f))
    v = hu.values(f)
    signed = kind[0] == "s"
    positive = v[: 1 << (k - 1)] if signed else v[:-1]
    assert v[0] == 0
    assert (np.diff(positive) > 0).all()
    assert v[1 << (k - 2) if signed else 1 << (k - 1)] == 1
    assert np.isnan(v).sum() == 1
    assert np.isinf(v).sum() == (kind[1] == "e") * (1 + signed)
    if signed:
        assert np.isnan(v[1 << (k - 1)])
        assert np.array_equal(v[(1 << (k - 1)) + 1 :], -v[1 : 1 << (k - 1)])


MX = [
    "mxfp8_e4m3",
    "mxfp8_e5m2",
    "mxfp6_e2m3",
    "mxfp6_e3m2",
    "mxfp4",
    "mxint8",
    "bfp_m5_e8_b16",
    "dfp16",
]


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=70),
    st.integers(-30, 30), st.sampled_from(MX), modes, st.sampled_from(["floor", "ceil", "rceil", "even"]),
)  # fmt: skip
@settings(max_examples=500, deadline=None)
def test_a_power_of_two_moves_block_scales_alone(
    x: list[float], k: int, name: str, mode: str, rule: str
) -> None:
    given_ = np.array(x)
    given_[np.abs(given_) < 2.0**-20] = 0
    one, other = (hu.quantize(v, name, rule=rule, rounding=mode) for v in (given_, given_ * 2.0**k))
    assert np.array_equal(one.codes, other.codes)
    used = one.scales > 0
    assert np.array_equal(one.scales[used].astype(int) + k, other.scales[used].astype(int))


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=40), modes, st.integers(-4, 4))
@settings(max_examples=500, deadline=None)
def test_e1m2_is_int4_in_quarters(x: list[float], mode: str, k: int) -> None:
    """One exponent bit and no special codes: all values are multiples of 1/4, as int4 / 4 without -8."""
    given_ = np.array(x) * 2.0**k
    e1m2 = hu.round(given_, "fp_e1p3b1_s_none_none", mode, overflow="saturate")
    int4 = hu.round(given_ * 4, "int4", mode, overflow="saturate") / 4
    assert np.array_equal(e1m2, np.maximum(int4, -7 / 4))


POWERS = [n for n, f in hu.block_formats().items() if f.rule in ("floor", "ceil", "rceil")]


@pytest.mark.parametrize("name", POWERS)
def test_blocks_quantised_again_do_not_move_under_power_of_two_scales(name: str) -> None:
    f = hu.block_format(name)
    x = np.random.default_rng(1).standard_normal((16, 96)).astype(np.float32)
    once = hu.quantize(x, f)
    again = hu.quantize(once.dequantize(), f)
    assert np.array_equal(once.dequantize(), again.dequantize())
