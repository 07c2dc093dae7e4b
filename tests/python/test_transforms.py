"""The random Hadamard transform against rationals; laws of docs/transforms.md."""

from __future__ import annotations

import doctest
import itertools
import json
import math
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction as Q
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from modes import MODES
from transform_reference import Root, round_to

import halfulp as hu
from halfulp import cli
from halfulp import transforms as tr

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
TARGETS = {  # format: (precision, emin, largest)
    "binary16": (11, -14, Q(65504)),
    "float8_e5m2": (3, -14, Q(57344)),
    "binary32": (24, -126, (2 - Q(2) ** -23) * Q(2) ** 127),
    "binary64": (53, -1022, (2 - Q(2) ** -52) * Q(2) ** 1023),
}


def bits(x: np.ndarray) -> np.ndarray:
    return x.view({2: np.uint16, 4: np.uint32, 8: np.uint64}[x.dtype.itemsize])


def sylvester(d: int) -> list[list[int]]:
    """By its recursion [[H, H], [H, -H]], not by the parity of indices."""
    h = [[1]]
    while len(h) < d:
        h = [r + r for r in h] + [r + [-v for v in r] for r in h]
    return h


def exact_transform(x: list[float], signs: list[int], inverse: bool, normalize: bool) -> list:
    d = len(x)
    h = sylvester(d)
    if inverse:
        sums = [signs[i] * sum(h[i][j] * Q(x[j]) for j in range(d)) for i in range(d)]
    else:
        sums = [sum(h[j][i] * signs[i] * Q(x[i]) for i in range(d)) for j in range(d)]
    if not normalize:
        return [s / d if inverse else s for s in sums]
    k = d.bit_length() - 1
    if k % 2 == 0:
        return [s / 2 ** (k // 2) for s in sums]
    return [Root(s / 2 ** ((k + 1) // 2)) for s in sums]


def word(seed: int, tensor: int, step: int, index: int, r: int) -> int:
    """R by the layout of docs/definitions.md."""
    width = next(b for b in (8, 16, 32, 64) if b >= r)
    position = index * width
    counter = [position // 128 & 0xFFFFFFFF, position // 128 >> 32, tensor, step]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [
            b >> 32 ^ counter[1] ^ key[0],
            b & 0xFFFFFFFF,
            a >> 32 ^ counter[3] ^ key[1],
            a & 0xFFFFFFFF,
        ]
        key = [key[0] + 0x9E3779B9 & 0xFFFFFFFF, key[1] + 0xBB67AE85 & 0xFFFFFFFF]
    whole = sum(w << 32 * i for i, w in enumerate(counter))
    return (whole >> position % 128 & (1 << width) - 1) >> width - r


def numbers(rng: np.random.Generator, n: int, dtype: type, spread: int) -> np.ndarray:
    """Normal numbers whose exponents differ by up to `spread`, some of them equal or zero."""
    reach = {"float16": 10, "bfloat16": 120, "float32": 120, "float64": 1000}
    e = rng.integers(-spread, spread + 1, n).clip(-reach[np.dtype(dtype).name], None)
    e = e.clip(None, reach[np.dtype(dtype).name])
    x = np.ldexp(rng.standard_normal(n), e)
    x[rng.integers(0, n, n // 4)] = 0
    x[rng.integers(0, n, n // 3)] = x[0]
    return x.astype(dtype)


@pytest.mark.parametrize("spread", [0, 8, 30, 60, 400])
def test_every_output_is_the_exact_number_rounded_once(spread: int) -> None:
    # Spreads reach all three widths of the sums: one word, two words, any number.
    rng = np.random.default_rng(spread)
    for d, (target, shape) in itertools.product((1, 2, 4, 8, 16, 32), TARGETS.items()):
        for n, mode in enumerate(MODES):
            dtype = DTYPES[(n + d) % 4] if spread < 60 else np.float64
            x = numbers(rng, d, dtype, spread)
            signs = rng.choice([1, -1], d)
            inverse, normalize = bool(n % 2), bool((n + d) % 3)
            seed, r = int(rng.integers(2**63)), (32, 5, 64)[n % 3]
            got = tr.hadamard(
                x, target, d, signs=signs, inverse=inverse, normalize=normalize, rounding=mode,
                seed=seed, tensor=3, step=7, random_bits=r, out=np.empty(d, np.float64),
            )  # fmt: skip
            want = exact_transform(x.tolist(), signs.tolist(), inverse, normalize)
            for i, (g, w) in enumerate(zip(got.tolist(), want, strict=True)):
                what = f"{x.tolist()} {signs} {target} {mode} {inverse} {normalize} element {i}"
                if w == 0:
                    assert g == 0, what
                    continue
                R = word(seed, 3, 7, i, r) if "stochastic" in mode else 0
                assert g == round_to(w, *shape, mode, R, r), what


@pytest.mark.parametrize("precision", [11, 24, 53])
def test_sums_that_come_closest_to_a_tie(precision: int) -> None:
    # S · √2 lies 2^-600 above or below half-way between two numbers: no approximation of S by its
    # leading bits sees on which side. S is the first sum of 32 numbers that do not overlap.
    target = {11: "binary16", 24: "binary32", 53: "binary64"}[precision]
    rng = np.random.default_rng(precision)
    for _ in range(20):
        tie = 2 * int(rng.integers(2 ** (precision - 1), 2**precision)) + 1
        below = math.isqrt(tie**2 << 1199)
        for s, sign, mode in itertools.product(
            (below, below + 1), (1, -1), ("nearest-even", "up", "odd")
        ):
            x = [sign * math.ldexp(s >> 50 * i & (1 << 50) - 1, 50 * i - 600) for i in range(32)]
            assert sum(map(Q, x)) == Q(sign * s) / 2**600
            got = tr.hadamard(x, target, 32, rounding=mode)[0]
            want = round_to(Root(Q(sign * s) / 2**603), *TARGETS[target], mode)
            assert got == want, f"{s:#x} {sign} {mode}"


def test_sums_whose_low_words_cancel() -> None:
    # Of far smaller numbers nothing is left in some sums: exact, of either sign.
    for far in (40, 90, 300):
        x = np.array([2.0**-far, 2.0**-far, -(2.0**far), 3 * 2.0**far])
        y, flags = tr.hadamard(x, "binary32", 4, normalize=False, rounding="odd", flags=True)
        if far == 300:
            y, flags = tr.hadamard(x, "binary64", 4, normalize=False, rounding="odd", flags=True)
        assert [Q(v) for v in y[[1, 3]]] == [-4 * Q(2) ** far, 4 * Q(2) ** far]
        assert flags[[1, 3]].tolist() == [0, 0]
        assert flags[[0, 2]].tolist() == [1, 1]


def test_the_matrix_is_sylvester_s_and_orthogonal() -> None:
    for k in range(9):
        h = tr.hadamard_matrix(2**k)
        assert h.tolist() == sylvester(2**k)
        exact = h.astype(np.int64)
        assert (exact @ exact.T == 2**k * np.eye(2**k, dtype=np.int64)).all()
        assert (exact == exact.T).all()


@pytest.mark.parametrize("d", [1, 2, 4, 16, 64])
def test_a_one_hot_vector_gives_a_column(d: int) -> None:
    signs = tr.random_signs(d, seed=d)
    rows = tr.hadamard(np.eye(d, dtype=np.float32), "binary32", d, signs=signs, normalize=False)
    assert (rows == tr.hadamard_matrix(d) * signs[:, None]).all()
    back = tr.hadamard(rows, "binary32", d, signs=signs, normalize=False, inverse=True)
    assert (back == np.eye(d)).all()


@pytest.mark.parametrize(("d", "normalize"), [(4, True), (16, True), (256, True), (8, False)])
def test_round_trips_without_rounding_are_exact(d: int, normalize: bool) -> None:
    # Integers of 24 bits and sums of 256 of them are numbers of binary64: nothing is rounded, so
    # the inverse must give back every bit, and the energy is kept.
    rng = np.random.default_rng(d)
    x = rng.integers(-(2**24), 2**24, (3, 2 * d)).astype(np.float64)
    for signs in ("none", "fixed", "per-block"):
        how = {"signs": signs, "sign_seed": 5, "sign_tensor": 2, "normalize": normalize}
        y = tr.hadamard(x, "binary64", d, **how)
        assert (bits(tr.hadamard(y, "binary64", d, inverse=True, **how)) == bits(x)).all()
        if normalize:
            assert sum(Q(v) ** 2 for v in y.ravel()) == sum(Q(v) ** 2 for v in x.ravel())


def test_signs_are_the_bits_of_the_stream() -> None:
    got = tr.random_signs(300, seed=0x0123456789ABCDEF, step=4, tensor=9, offset=2**40 + 3)
    want = [1 - 2 * word(0x0123456789ABCDEF, 9, 4, 2**40 + 3 + i, 1) for i in range(300)]
    assert got.tolist() == want
    x = np.random.default_rng(1).standard_normal((4, 6, 8)).astype(np.float32)
    # One vector for all blocks; or by the row-major index of each element, whatever the axis.
    fixed = tr.hadamard(x, "binary32", 4, signs="fixed", sign_seed=6, sign_tensor=2)
    given = tr.hadamard(x, "binary32", 4, signs=tr.random_signs(4, 6, tensor=2))
    assert (bits(fixed) == bits(given)).all()
    for axis, block in ((0, 4), (1, 2), (2, 8)):
        each = tr.hadamard(x, "binary32", block, axis=axis, signs="per-block", sign_seed=6)
        signed = x * tr.random_signs(x.size, 6).reshape(x.shape)
        assert (bits(each) == bits(tr.hadamard(signed, "binary32", block, axis=axis))).all()
    assert len(tr.NVFP4_SIGNS) == 16
    assert (tr.hadamard(np.eye(16), "bfloat16", 16, signs=tr.NVFP4_SIGNS) * 4 ==
            tr.hadamard_matrix(16) * np.array(tr.NVFP4_SIGNS)[:, None]).all()  # fmt: skip


@pytest.mark.parametrize("mode", ["nearest-even", "stochastic"])
def test_layout_threads_and_place_do_not_matter(mode: str) -> None:
    rng = np.random.default_rng(9)
    x = rng.standard_normal((6, 16, 10)).astype(np.float32)
    how = {"signs": "per-block", "sign_seed": 1, "rounding": mode, "seed": 3}
    want = tr.hadamard(x, "float8_e4m3fn", 8, axis=1, **how)
    for layout in itertools.permutations(range(3)):
        copy = np.ascontiguousarray(x.transpose(layout)).transpose(np.argsort(layout))
        assert (bits(tr.hadamard(copy, "float8_e4m3fn", 8, axis=1, **how)) == bits(want)).all()
    wide = np.zeros((12, 16, 20), np.float32)
    wide[::2, ::-1, 1::2] = x
    assert (bits(tr.hadamard(wide[::2, ::-1, 1::2], "float8_e4m3fn", 8, axis=1, **how))
            == bits(want)).all()  # fmt: skip
    inplace = x.copy()
    assert tr.hadamard(inplace, "float8_e4m3fn", 8, axis=1, out=inplace, **how) is inplace
    assert (bits(inplace) == bits(want)).all()
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(tr.hadamard, x, "float8_e4m3fn", 8, axis=1, **how) for _ in range(8)]
        assert all((bits(j.result()) == bits(want)).all() for j in jobs)
    # A part of the tensor, by its offset.
    part = tr.hadamard(
        x[3:], "float8_e4m3fn", 8, axis=1, rounding=mode, seed=3, offset=3 * 160,
        signs=tr.random_signs(480, 1, offset=480).reshape(3, 16, 10),
    )  # fmt: skip
    assert (bits(part) == bits(want[3:])).all()


def test_nan_infinity_zeros_and_flags() -> None:
    inf, nan = math.inf, math.nan

    def of(x: list[float], **options: object) -> list:
        y, flags = tr.hadamard(x, "binary16", len(x), normalize=False, flags=True, **options)
        return list(zip(map(str, y.tolist()), flags.tolist(), strict=True))

    assert of([1.0, nan]) == [("nan", 0)] * 2
    assert of([inf, 1.0]) == [("inf", 0)] * 2
    assert of([1.0, inf]) == [("inf", 0), ("-inf", 0)]
    assert of([inf, inf]) == [("inf", 0), ("nan", 16)]
    assert of([inf, inf], signs=[1, -1]) == [("nan", 16), ("inf", 0)]
    assert of([0.0, -0.0]) == [("0.0", 0), ("0.0", 0)]
    assert of([-0.0, 0.0]) == [("0.0", 0), ("-0.0", 0)]
    assert of([-0.0, 0.0], rounding="down") == [("-0.0", 0), ("-0.0", 0)]
    assert of([1.0, 1.0]) == [("2.0", 0), ("0.0", 0)]
    assert of([1.0, 1.0], rounding="down") == [("2.0", 0), ("-0.0", 0)]
    assert of([1.0, 2.0**-30]) == [("1.0", 1), ("1.0", 1)]
    assert of([65504.0, 65504.0]) == [("inf", 5), ("0.0", 0)]
    assert of([2.0**-24, 2.0**-26]) == [(str(2.0**-24), 3)] * 2
    # The inverse multiplies its sums by the sign.
    assert of([-0.0, 0.0], signs=[1, -1], inverse=True) == [("0.0", 0), ("0.0", 0)]
    assert of([inf, 1.0], signs=[1, -1], inverse=True) == [("inf", 0), ("-inf", 0)]
    assert tr.hadamard(np.zeros((0, 4), np.float32), "binary32", 4).shape == (0, 4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: tr.hadamard(np.ones(6), "binary32", 3), ValueError, "power of two.*not 3"),
        (lambda: tr.hadamard(np.ones(6), "binary32", 0), ValueError, "block is 0"),
        (lambda: tr.hadamard(np.ones(6), "binary32", 2.0), TypeError, "integer, not 2.0"),
        (lambda: tr.hadamard(np.ones(6), "binary32", 4), ValueError, "6 elements.*of 4.*pad"),
        (lambda: tr.hadamard(1.0, "binary32", 1), ValueError, "one number and has no axis"),
        (lambda: tr.hadamard(np.ones(4), "binary32", 4, axis=1), ValueError, "axis is 1"),
        (lambda: tr.hadamard(np.ones(4), "int8", 4), ValueError, "int8 is none"),
        (lambda: tr.hadamard(np.ones(4), "binary32", 4, signs="fixed"), ValueError, "sign_seed=0"),
        (lambda: tr.hadamard(np.ones(4), "binary32", 4, signs="x"), ValueError, "'x' is unknown"),
        (lambda: tr.hadamard(np.ones(4), "binary32", 4, signs=[1]), ValueError, r"shape \(1,\)"),
        (lambda: tr.hadamard(np.ones(2), "binary32", 2, signs=[1, 0]), ValueError, "not 0"),
        (lambda: tr.hadamard(np.ones(4, np.float32), "binary64", 4), ValueError, "cannot hold"),
        (lambda: tr.hadamard(np.ones(4), "binary32", 4, rounding="stochastic"), ValueError, "seed"),
        (lambda: tr.hadamard([math.nan, 1], "float4_e2m1fn", 2), hu.RoundingError, "nan_to"),
        (lambda: tr.random_signs(-1, 0), ValueError, "count is -1"),
        (lambda: tr.random_signs(1, None), TypeError, "seed"),
        (lambda: tr.hadamard_matrix(3), ValueError, "not 3"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(
    call: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_examples_of_the_page_and_of_the_module(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/transforms.md").read_text()
    examples = "\n".join(re.findall(r"```pycon\n(.*?)```", page, re.S)) + "\n" + (tr.__doc__ or "")
    found = doctest.DocTestParser().get_doctest(examples, {}, "transforms", None, 0)
    result = doctest.DocTestRunner().run(found)
    assert result.failed == 0
    assert result.attempted >= 4
    (block,) = re.findall(r"```console\n(.*?)```", page, re.S)
    commands = re.findall(r"^\$ halfulp (.*)\n((?:(?!\$ ).*\n)*)", block, re.M)
    assert len(commands) == 2
    for words, shown in commands:
        assert cli.main(words.split()) == 0
        assert capsys.readouterr().out.endswith(shown)
    # Every public name is on the page.
    missing = [name for name in tr.__all__ if name not in page and name[0].islower()]
    assert not missing


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["hadamard", "--format", "bfloat16", "--sign-seed", "3", "--json"]
    assert cli.main([*words, "1", "2", "-3", "1e9"]) == 0
    rows = json.loads(capsys.readouterr().out)
    want, flags = tr.hadamard(
        [1, 2, -3, 1e9], "bfloat16", 4, signs="fixed", sign_seed=3, flags=True
    )
    assert [r["value"] for r in rows] == want.tolist()
    assert [r["flags"] for r in rows] == flags.tolist()
    assert cli.main([*words, "--block", "2", "--inverse", "1", "2", "3"]) == 2
    assert "no multiple of the block of 2" in json.loads(capsys.readouterr().out)["error"]
    assert cli.main(["hadamard", "--format", "binary16", "1", "1"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[1].split()[:3] == ["1", "1.4140625", "0x1.6a00000000000p+0"]
    assert "inexact" in table[1]

    x = [0.1, -0.7, 3, 1e-3]
    assert cli.main(["fit", "--width", "5", "--json", *map(str, x)]) == 0
    got, fit = json.loads(capsys.readouterr().out), tr.best_format(x, 5)
    assert (got["format"], got["bias"]) == (fit.format.name, fit.format.bias)
    assert Q(int(got["squared_error"][0]), int(got["squared_error"][1])) == fit.squared_error
    assert cli.main(["fit", "--width", "5", *map(str, x)]) == 0
    assert fit.format.name in capsys.readouterr().out
    assert cli.main(["fit", "--width", "99", "1"]) == 2


def test_nothing_is_written_before_an_error() -> None:
    x = np.array([1, 1, 300, 300], np.float32)
    y = x.copy()
    with pytest.raises(hu.RoundingError, match="element 2 overflows"):
        tr.hadamard(y, "float8_e4m3fn", 2, overflow="error", normalize=False, out=y)
    assert (y == x).all()
