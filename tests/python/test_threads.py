"""Arrays shared among threads: the same bits for any number, layout and element type."""

import os
import subprocess
import sys

import numpy as np
import pytest

import halfulp as hu


@pytest.fixture(autouse=True)
def restored() -> object:
    before = hu.threads()
    yield
    hu.set_threads(before)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rounding": "up", "overflow": "saturate"},
        {"rounding": "stochastic", "seed": 3, "offset": 5, "random_bits": 8},
        {"rounding": "stochastic", "seed": 3, "offset": 5, "random_bits": 24},
        {"rounding": "stochastic-equal", "seed": 3},
    ],
)
def test_any_number_of_threads_gives_the_same_bits(dtype: str, options: dict[str, object]) -> None:
    x = np.random.default_rng(11).standard_normal(700_001).astype(dtype)
    hu.set_threads(1)
    one = hu.round(x, "float8_e4m3fn", **options)
    codes = hu.encode(x, "float8_e4m3fn", **options)
    for n in (2, 3, 7):
        hu.set_threads(n)
        assert hu.threads() == n
        for got, want in (
            (hu.round(x, "float8_e4m3fn", **options), one),
            (hu.round(x[::-1], "float8_e4m3fn", **options), None),
            (hu.encode(x, "float8_e4m3fn", **options), codes),
        ):
            if want is not None:
                assert got.tobytes() == want.tobytes()
        if options.get("rounding", "").startswith("stochastic"):
            continue
        strided = np.zeros((700_001, 2), dtype)
        strided[:, 1] = x
        assert hu.round(strided[:, 1], "float8_e4m3fn", **options).tobytes() == one.tobytes()
        in_place = x.copy()
        hu.round(in_place, "float8_e4m3fn", out=in_place, **options)
        assert in_place.tobytes() == one.tobytes()


@pytest.mark.parametrize(
    ("name", "code", "dtype"),
    [
        ("float8_e4m3fn", np.uint8, np.float32),
        ("float8_e8m0fnu", np.uint8, np.float64),
        ("posit8", np.uint8, np.float32),
        ("binary16", np.uint16, np.float32),
        ("bfloat16", np.uint16, np.float32),
        ("binary16", np.uint16, np.float64),
    ],
)
def test_decoding_large_arrays_gives_what_small_ones_do(name: str, code: type, dtype: type) -> None:
    codes = np.random.default_rng(5).integers(0, np.iinfo(code).max + 1, 700_001).astype(code)
    every = np.arange(np.iinfo(code).max + 1, dtype=code)
    by_code = np.concatenate([hu.decode(part, name, dtype) for part in np.split(every, 256)])
    want = by_code[codes].tobytes()
    for n in (1, 2, 5):
        hu.set_threads(n)
        assert hu.decode(codes, name, dtype).tobytes() == want
        out = np.full(700_002, 7, dtype)
        hu.decode(codes, name, out=out[1:])
        assert out[1:].tobytes() == want
        assert out[0] == 7
        assert hu.decode(codes[::-1], name, dtype)[::-1].tobytes() == want


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "mxint8"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_blocks_have_the_same_bits_too(name: str, dtype: str) -> None:
    x = np.random.default_rng(12).standard_normal((3, 200_003)).astype(dtype)
    x[1, 77] = np.nan
    hu.set_threads(1)
    one = hu.quantize(x, name)
    values = one.dequantize()
    for n in (2, 5):
        hu.set_threads(n)
        q = hu.quantize(x, name)
        assert q.codes.tobytes() == one.codes.tobytes()
        assert q.scales.tobytes() == one.scales.tobytes()
        assert q.dequantize().tobytes() == values.tobytes()


def test_a_nan_in_any_thread_is_an_error_and_nothing_is_written() -> None:
    x = np.zeros(600_000, np.float32)
    x[599_999] = np.nan
    out = np.full_like(x, 7)
    hu.set_threads(4)
    with pytest.raises(ValueError, match=r"element 599999.*nan_to"):
        hu.round(x, "float4_e2m1fn", out=out)
    assert (out == 7).all()


@pytest.mark.parametrize(
    ("n", "error", "words"),
    [
        (0, ValueError, "is 0, but must be 1 to 1024"),
        (2.0, TypeError, "not float"),
        (True, TypeError, "bool"),
    ],
)
def test_bad_numbers(n: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        hu.set_threads(n)


@pytest.mark.parametrize(
    ("text", "said"),
    [("3", "3"), ("x", "HALFULP_THREADS is 'x', but must be"), ("0", "from 1 to 1024")],
)
def test_the_environment_decides_at_first(text: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import halfulp; print(halfulp.threads())"],
        env={**os.environ, "HALFULP_THREADS": text},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said in (done.stdout if text == "3" else done.stderr)
