"""LogFMT against rigorous balls, from docs/logarithmic.md."""

from __future__ import annotations

import math
import random
from fractions import Fraction as Q

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("flint", reason="python-flint is the oracle")

import flint
from flint import arb
from logarithmic_reference import rational, round_to_float
from modes import DETERMINISTIC, STOCHASTIC
from test_contract import random_bits_of

from halfulp import logarithmic as lg

BITS = 700  # a ball of this precision that contains 0 has not decided: an error, but for x = 1


def to_float(v: arb, precision: int, emin: int, emax: int) -> float:
    """An irrational number rounded to nearest."""
    q, _ = round_to_float(v, precision, emin, emax, "nearest-even", exact=False)
    assert q is not None
    return math.copysign(float(q), -1 if v < 0 else 1)


def to_float32(v: arb) -> float:
    return to_float(v, 24, -126, 127)


class Tile:
    """The scale and the levels of a tile of numbers."""

    def __init__(self, x: list[float], bits: int) -> None:
        flint.ctx.prec = BITS
        self.bits, self.top = bits, 2 ** (bits - 1) - 1
        magnitudes = [abs(Q(v)) for v in x if v]
        self.minimum = self.step = 0.0
        if magnitudes:
            most = max(magnitudes)
            least = max(min(magnitudes), most / 2**32)
            if least != 1:
                self.minimum = to_float32(rational(least).log())
            if most != least:
                self.step = to_float32(rational(most / least).log() / (self.top - 1))
        if self.step == 0:
            self.top = 1

    def exponent(self, k: int) -> Q:
        return Q(self.minimum) + Q(self.step) * (k - 1)

    def level(self, k: int) -> arb:
        flint.ctx.prec = BITS
        return arb(0) if k == 0 else rational(self.exponent(k)).exp()

    def encode(self, x: float, mode: str, r: int = 32, drawn: int = 0) -> int:
        flint.ctx.prec = BITS
        negative = math.copysign(1, x) < 0
        sign = negative << (self.bits - 1)
        if x == 0:
            return sign
        v = rational(abs(Q(x)))
        low, high = 0, self.top + 1
        while high - low > 1:
            middle = (low + high) // 2
            e = self.level(middle)
            if e == 1 and abs(x) == 1:
                return sign + middle
            assert v < e or v > e
            low, high = (middle, high) if v > e else (low, middle)
        if low == self.top:
            return sign + low
        frac = (v - self.level(low)) / (self.level(low + 1) - self.level(low))

        def at_least(t: Q) -> bool:
            assert frac < rational(t) or frac > rational(t)
            return bool(frac > rational(t))

        if mode.startswith("nearest"):
            away = self.nearest(v, low, mode)
        elif mode == "stochastic":
            away = at_least(Q(2**r - drawn, 2**r))
        elif mode == "stochastic-b":
            away = at_least(Q(2 ** (r + 1) - 2 * drawn - 1, 2 ** (r + 1)))
        elif mode == "stochastic-c":
            away = at_least(Q(2 * (2**r - drawn) - 1, 2 ** (r + 1)))
        elif mode == "stochastic-equal":
            away = drawn >> (r - 1) == 1
        else:
            away = {
                "toward-zero": False,
                "up": not negative,
                "down": negative,
                "away": True,
                "odd": low % 2 == 0,
            }[mode]
        return sign + low + away

    def nearest(self, v: arb, low: int, mode: str) -> bool:
        mean = (self.level(low) + self.level(low + 1)) / 2
        if low == 0 and v == mean:  # exp(0) / 2 is all that can be met
            return mode == "nearest-away"
        assert v < mean or v > mean
        return bool(v > mean)


def tiles(draw: random.Random) -> list[list[float]]:
    """Ordinary ones, and those where something is at its end."""
    normal = [[draw.gauss(0, 1) for _ in range(40)] for _ in range(2)]
    wide = [draw.choice((-1, 1)) * 10 ** draw.uniform(-14, 3) for _ in range(40)]
    near = [1 + draw.randrange(-3, 4) * 2.0**-52 for _ in range(6)]
    return [
        *normal,
        wide,
        near,
        [0.0, -0.0, 0.0],
        [0.0, 3.0, -3.0],
        [1.0, -1.0],
        [-1.0, 0.5, 0.0, 2.0, 0.25, 0.4999999],
        [1.0, 2.0**-32, 2.0**-33, 2.0**-34, 0.0],
        [2.0**32, 1.0, 0.5, -0.5, 0.25],  # 0.5 is a tie of 0 and exp(0)
        [2.0**-33, math.nextafter(2.0**-33, 0), 1.0, -(2.0**-60)],
        [5e-324, 1e-320, 1e-300, 0.0],
        [1.7976931348623157e308, -1e300, 1e299],
    ]


def row(q: lg.LogFmt) -> tuple[list[int], float, float]:
    return q.codes.tolist(), float(q.minimum[0]), float(q.step[0])


@pytest.mark.parametrize("bits", [4, 5, 8, 10, 16])
def test_scales_and_codes(bits: int) -> None:
    for x in tiles(random.Random(bits)):
        tile = Tile(x, bits)
        for mode in DETERMINISTIC:
            got = row(lg.logfmt(x, bits, rounding=mode))
            assert got[1:] == (tile.minimum, tile.step)
            assert got[0] == [tile.encode(v, mode) for v in x], (x, mode)


@pytest.mark.parametrize("r", [1, 7, 32])
def test_stochastic_modes(r: int) -> None:
    x = tiles(random.Random(r))[2]
    drawn = [random_bits_of(i, 6, r=r) for i in range(len(x))]
    tile = Tile(x, 6)
    for mode in STOCHASTIC:
        got = lg.logfmt(x, 6, rounding=mode, seed=6, random_bits=r).codes.tolist()
        assert got == [tile.encode(v, mode, r, R) for v, R in zip(x, drawn, strict=True)], mode


def test_numbers_next_to_the_middle() -> None:
    """The middle of each pair of levels, and its neighbours among float64 numbers."""
    x = [0.01, 3.0]
    tile = Tile(x, 6)
    for k in range(1, tile.top):
        mean = (tile.level(k) + tile.level(k + 1)) / 2
        middle = to_float(mean, 53, -1022, 1023)
        for v in (middle, math.nextafter(middle, 0), math.nextafter(middle, 9)):
            for mode in DETERMINISTIC[:4]:
                assert lg.logfmt([*x, v], 6, rounding=mode).codes[2] == tile.encode(v, mode)


@pytest.mark.parametrize("bits", [4, 8, 11])
def test_every_code_is_decoded_once(bits: int) -> None:
    for x in tiles(random.Random(bits)):
        tile = Tile(x, bits)
        codes = np.arange(1 << bits, dtype=np.uint8 if bits <= 8 else np.uint16)
        if tile.step == 0:
            codes = codes[[0, 1, 1 << (bits - 1), (1 << (bits - 1)) + 1]]
        q = lg.LogFmt(
            codes,
            np.array([tile.minimum], np.float32),
            np.array([tile.step], np.float32),
            bits,
            0,
            len(codes),
        )
        for dtype, shape in ((np.float32, (24, -126, 127)), (np.float64, (53, -1022, 1023))):
            got = q.dequantize(dtype)
            assert got.dtype == dtype
            for code, y in zip(codes.tolist(), got, strict=True):
                k = code % (1 << (bits - 1))
                assert np.signbit(y) == code >> (bits - 1)
                if k == 0 or tile.exponent(k) == 0:
                    assert abs(y) == (k != 0)
                    continue
                tile.level(1)
                exact, _ = round_to_float(tile.level(k), *shape, "nearest-even", exact=False)
                assert abs(float(y)) == (math.inf if exact is None else float(exact))


def test_tiles_axes_and_types() -> None:
    """Any axis, a shorter last tile, and every dtype equal one tile of float64 at a time."""
    x = np.random.default_rng(1).standard_normal((3, 5, 2)).astype(ml_dtypes.bfloat16)
    for axis in range(3):
        q = lg.logfmt(x, 7, axis=axis, tile=2)
        assert q.codes.shape == x.shape
        assert q.dequantize().shape == x.shape
        counts = [-(-n // 2) if d == axis else n for d, n in enumerate(x.shape)]
        assert list(q.minimum.shape) == list(q.step.shape) == counts
        for first in range(0, x.shape[axis], 2):
            part = [slice(None)] * 3
            part[axis] = slice(first, first + 2)
            rows = np.moveaxis(x[tuple(part)], axis, -1).astype(np.float64)
            codes = np.moveaxis(q.codes[tuple(part)], axis, -1)
            values = np.moveaxis(q.dequantize(np.float64)[tuple(part)], axis, -1)
            for index in np.ndindex(rows.shape[:-1]):
                alone = lg.logfmt(rows[index], 7)
                assert alone.codes.tolist() == codes[index].tolist()
                assert alone.dequantize(np.float64).tolist() == values[index].tolist()
    assert lg.logfmt(np.zeros((2, 0))).dequantize().shape == (2, 0)
    assert lg.logfmt(np.zeros((0, 3))).minimum.shape == (0, 1)
    assert lg.logfmt(np.ones(3), 9).codes.dtype == np.uint16


def test_random_bits_go_by_the_row_major_index() -> None:
    x = np.random.default_rng(2).standard_normal((4, 6))
    q = lg.logfmt(x, 4, axis=0, tile=4, rounding="stochastic", seed=3, offset=10)
    for i, j in np.ndindex(4, 6):
        drawn = random_bits_of(10 + 6 * i + j, 3)
        assert q.codes[i, j] == Tile(x[:, j].tolist(), 4).encode(x[i, j], "stochastic", 32, drawn)


def test_the_mean_of_stochastic_rounding_is_the_number() -> None:
    """The reason for rounding by distance in value (the paper's, too)."""
    x = np.tile([1.0, 0.001, 0.3], 20000)
    q = lg.logfmt(x, 4, tile=len(x), rounding="stochastic", seed=1)
    third = q.dequantize(np.float64)[2::3]
    assert len(np.unique(third)) == 2
    assert abs(third.mean() - 0.3) < 5 * third.std() / len(third) ** 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 3}, "bits is 3, but must be 4 to 16"),
        ({"tile": 0}, "tile is 0, but must be 1 to"),
        ({"axis": 2}, "axis is 2, but must be -1 to 0"),
        ({"rounding": "stochastic"}, "needs a seed"),
        ({"x": [1.0, math.nan]}, "x holds NaN, which has no place on a logarithmic scale"),
        ({"x": [math.inf]}, "x holds infinity"),
    ],
)
def test_bad_inputs(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lg.logfmt(**{"x": [1.0, 2.0], **arguments})


def test_scales_that_no_tile_has() -> None:
    q = lg.logfmt([1.0, 2.0])
    for minimum in (math.nan, 1e30, 1e-38):
        wrong = lg.LogFmt(q.codes, np.array([minimum], np.float32), q.step, 8, 0, 128)
        with pytest.raises(ValueError, match="which no tile of float64 numbers has"):
            wrong.dequantize()
