"""halfulp.round, encode, quantize and matmul of arrays on a GPU against the same of NumPy arrays, bit for bit.

    python tests/device/python_arrays.py      # needs a GPU, and torch or CuPy; else it says "skipped"

Exit code 1 if anything differs.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable

import numpy as np

import halfulp as hu

failures = 0
cases = 0


def same(theirs: np.ndarray, ours: np.ndarray, what: str) -> None:
    global failures, cases
    cases += ours.size
    size = ours.dtype.itemsize
    bits = f"u{size}"
    differ = int((theirs.view(bits) != ours.view(bits)).sum())
    if differ or theirs.shape != ours.shape:
        failures += 1
        print(f"{what}: {differ} of {ours.size} differ")


def refused(call: Callable[[], object], word: str) -> None:
    """The call must end in an error that names `word`."""
    global failures
    try:
        call()
    except (TypeError, ValueError) as error:
        if word in str(error):
            return
        print(f"an error without {word}: {error}")
    else:
        print(f"not refused: {word}")
    failures += 1


def inputs(dtype: str) -> np.ndarray:
    g = np.random.default_rng()  # fresh ones each time; a failure prints what it was
    bits = {"float16": np.uint16, "float32": np.uint32, "float64": np.uint64}[dtype]
    x = g.integers(0, np.iinfo(bits).max, size=(37, 1024), dtype=bits).view(dtype)
    scaled = (g.standard_normal(x.shape) * 2.0 ** g.integers(-12, 12, size=x.shape)).astype(dtype)
    return np.where(g.random(x.shape) < 0.5, x, scaled)


def check(name: str, to_device: object, to_host: object, on_stream: object) -> None:
    for dtype in ("float16", "float32", "float64"):
        x = inputs(dtype)
        for f in ("float8_e4m3fn", "float8_e5m2", "float4_e2m1fn", "bfloat16", "binary16"):
            for rounding, extra in (
                ("nearest-even", {}),
                ("up", {}),
                ("odd", {"overflow": "saturate"}),
                ("stochastic", {"seed": 5, "random_bits": 8, "offset": 3}),
                ("stochastic", {"seed": 5, "random_bits": 32, "tensor": 7}),
                ("stochastic-c", {"seed": 1, "random_bits": 11}),
            ):
                options = {"rounding": rounding, "nan_to": "largest", **extra}
                for view in (np.s_[:], np.s_[::2, 1::3], np.s_[3], np.s_[:0]):
                    what = f"{name} {dtype} {f} {rounding} {extra} {view}"
                    host, device = x[view], to_device(x)[view]
                    with on_stream():
                        if not (f == "bfloat16" and dtype == "float16"):
                            same(
                                to_host(hu.round(device, f, **options)),
                                hu.round(host, f, **options),
                                f"round {what}",
                            )
                        codes, flags = hu.encode(device, f, flags=True, **options)
                        ours, our_flags = hu.encode(host, f, flags=True, **options)
                        same(to_host(codes), ours, f"encode {what}")
                        same(to_host(flags), our_flags, f"flags {what}")
    device = to_device(np.ones((4, 4), np.float32))
    for call, word in (
        (lambda: hu.round(device, "float4_e2m1fn"), "nan_to"),
        (lambda: hu.round(device, "binary64"), "encode"),
        (lambda: hu.round(device, "float8_e5m2", overflow="error"), "overflow"),
        (lambda: hu.round(device, "posit16"), "posit16"),
        (lambda: hu.round(device, "float8_e5m2", out=np.ones((4, 4), np.float32)), "out"),
    ):
        refused(call, word)


def check_blocks(name: str, to_device: object, to_host: object, on_stream: object) -> None:
    global failures
    for dtype in ("float16", "float32", "float64"):
        x = np.where(np.isfinite(inputs(dtype)), inputs(dtype), np.asarray(1, dtype))
        x[3, 5], x[7, 11] = np.nan, np.inf
        for f, more in (
            ("mxfp8_e4m3", {}),
            ("mxfp8_e5m2", {"rule": "rceil", "rounding": "up"}),
            ("mxfp6_e2m3", {"axis": 0}),
            ("mxfp4", {"rule": "even", "rounding": "odd"}),
            ("mxfp4", {"rounding": "stochastic", "seed": 3, "random_bits": 8, "offset": 5}),
            ("mxint8", {}),
            ("nvfp4", {}),
            ("nvfp4", {"rounding": "down"}),
            ("nvfp4_te", {}),
            ("uint4_affine", {}),
            ("bfp_m7_e8_b16", {"axis": 0}),
        ):
            for view in (np.s_[:], np.s_[::2, 1::3], np.s_[3], np.s_[:0]):
                what = f"{name} {dtype} {f} {more} {view}"
                with on_stream():
                    q = hu.quantize(to_device(x[view].copy()), f, **more)
                    ours = hu.quantize(x[view], f, **more)
                    same(to_host(q.codes), ours.codes, f"codes {what}")
                    same(to_host(q.scales), ours.scales, f"scales {what}")
                    if ours.zero_points is not None:
                        same(to_host(q.zero_points), ours.zero_points, f"zero points {what}")
                    if ours.tensor_scale is not None:
                        same(
                            to_host(q.tensor_scale).reshape(1),
                            np.array([ours.tensor_scale]),
                            f"tensor scale {what}",
                        )
                    for to in ("float32", "float64", "float16"):
                        got = to_host(q.dequantize(to, "nearest-even"))
                        want = ours.dequantize(to, "nearest-even")
                        if np.isnan(got).tolist() != np.isnan(want).tolist():
                            print(f"NaN elsewhere: {what}")
                            failures += 1
                        same(np.nan_to_num(got), np.nan_to_num(want), f"dequantize {to} {what}")
                    # Under rceil a block near the end of float32 can round beyond it.
                    if not (
                        f.startswith("mx") and dtype != "float16" and (more or dtype == "float64")
                    ):
                        same(to_host(q.dequantize()), ours.dequantize(), f"dequantize {what}")
                    if q.format.element_bits in (4, 8):
                        same(to_host(q.pack()), ours.pack(), f"pack {what}")
                    host = q.host()
                    same(host.codes, ours.codes, f"host {what}")
                    if host.bits != ours.bits or q.bits != ours.bits or q.shape != ours.shape:
                        print(f"bits or shape: {what}")
                        failures += 1
        y = np.where(np.isfinite(x), x, np.asarray(1, dtype))
        for rounding in ("nearest-even", "up", "odd", "stochastic"):
            for scale in (2.0**-149, 2.0**-11, np.float32(0.3), np.float32(1e-9), np.float32(3e38)):
                for axis in (0, 1):
                    what = f"{name} {dtype} {rounding} axis {axis} tensor scale {scale}"
                    options = {"axis": axis, "rounding": rounding, "seed": 3}
                    ours = hu.quantize(y, "nvfp4", tensor_scale=scale, **options)
                    with on_stream():
                        z = to_device(y)
                        first = hu.quantize(z, "nvfp4", tensor_scale=scale, **options)
                        again = hu.quantize(z, "nvfp4", tensor_scale=first.tensor_scale, **options)
                        for q in (first, again):
                            same(to_host(q.codes), ours.codes, f"codes {what}")
                            same(to_host(q.scales), ours.scales, f"scales {what}")
                            got = to_host(q.tensor_scale).reshape(1)
                            same(got, np.array([ours.tensor_scale]), f"tensor scale {what}")
        wrong = to_device(np.array([np.nan, 0, -1, np.inf], np.float32))
        for k in range(4):
            q = hu.quantize(to_device(y), "nvfp4", tensor_scale=wrong[k])
            same(to_host(q.scales), np.full((37, 64), 0x7F, np.uint8), f"scales under {k}")
            same(to_host(q.codes), np.zeros((37, 1024), np.uint8), f"codes under {k}")
    device = to_device(np.ones((32, 32), np.float32))
    doubles = to_device(np.ones((32, 32)))
    for call, word in (
        (lambda: hu.quantize(device, "mxfp4", tensor_scale=1.0), "no tensor scale"),
        (lambda: hu.quantize(device, "nvfp4_te", tensor_scale=1.0), "te"),
        (lambda: hu.quantize(device, "nvfp4", tensor_scale=0.1), "binary32 does not have"),
        (lambda: hu.quantize(device, "nvfp4", tensor_scale=device), "one float32"),
        (lambda: hu.quantize(device, "nvfp4", tensor_scale=doubles[0, :1]), "one float32"),
        (lambda: hu.quantize(device, "nvfp4").dequantize("float32"), "wider dtype"),
        (lambda: hu.quantize(device, "mxfp4", rule="ceil").dequantize(), "wider dtype"),
        (lambda: hu.quantize(doubles, "mxfp4").dequantize(), "wider dtype"),
        (lambda: hu.quantize(device, "mxfp4", rule="mse"), "mse"),
        (lambda: hu.quantize(device[:, ::2], "mxfp4"), "contiguous"),
        (lambda: hu.quantize(device, "nvfp4_16x16"), "square"),
        (lambda: hu.quantize(device, "mxfp4", axis=2), "axis"),
        (lambda: hu.quantize(device, "mxfp8_e4m3").dequantize("uint8"), "dtype"),
        (lambda: hu.quantize(device, "mxfp8_e4m3").scale_values, "host"),
        (lambda: hu.quantize(device, "mxfp6_e2m3").pack(), "6 bits"),
    ):
        refused(call, word)


def check_matmul(name: str, to_device: object, to_host: object, on_stream: object) -> None:
    """NaN is one NaN here, on the host the one that its arithmetic gives."""
    global failures
    g = np.random.default_rng()

    def matrix(shape: tuple[int, int], f: str, dtype: str) -> np.ndarray:
        x = g.standard_normal(shape) * 2.0 ** g.integers(-3, 4, size=shape)
        return hu.round(x, f, nan_to="largest", overflow="saturate").astype(dtype)

    def agree(got: object, want: np.ndarray, what: str) -> None:
        got = to_host(got)
        if got.dtype != want.dtype:
            global failures
            failures += 1
            print(f"{what}: {got.dtype}, not {want.dtype}")
            return
        one = np.float32(np.nan)
        same(np.where(np.isnan(got), one, got), np.where(np.isnan(want), one, want), what)
        same(np.isnan(got), np.isnan(want), f"NaN {what}")

    for m, k, n in ((1, 1, 1), (5, 33, 7), (70, 129, 130), (3, 0, 4), (0, 3, 2), (128, 64, 256)):
        for f, operands, dtype in (
            ("binary16", None, "float16"),
            ("binary16", "binary16", "float32"),
            ("binary16", "float8_e4m3fn", "float16"),
            ("binary16", "float4_e2m1fn", "float32"),
            ("bfloat16", "bfloat16", "float32"),
            ("tf32", "float8_e5m2", "float32"),
            ("tf32", None, "float16"),
            ("binary32", None, "float32"),
            ("float8_e5m2", "float8_e5m2", "float16"),
            ("float8_e4m3fn", "float8_e4m3fn", "float32"),
        ):
            held = operands or f if operands or dtype != "float32" else "binary32"
            held = "binary16" if operands is None and dtype == "float16" else held
            a, b = matrix((m, k), held, dtype), matrix((k, n), held, dtype)
            c = matrix((m, n), f, "float32")
            for rounding, overflow in (
                ("nearest-even", "ieee"),
                ("up", "ieee"),
                ("odd", "ieee"),
                ("nearest-even", "saturate"),
            ):
                options = {
                    "operands": operands,
                    "accumulate": f,
                    "order": "sequential",
                    "rounding": rounding,
                    "overflow": overflow,
                }
                what = f"{name} matmul {m}x{k}x{n} {f} {operands} {dtype} {rounding} {overflow}"
                with on_stream():
                    x, y, z = to_device(a), to_device(b), to_device(c)
                    agree(hu.matmul(x, y, **options), hu.matmul(a, b, **options), what)
                    got, want = hu.matmul(x, y, z, **options), hu.matmul(a, b, c, **options)
                    agree(got, want, f"{what} + c")
                    turned = hu.matmul(to_device(a.T.copy()).T, y, product=f, **options)
                    agree(turned, hu.matmul(a, b, product=f, **options), f"{what}, a view")
            if m > 2 and k > 2 and held != "binary32":  # an element that is no value of the format
                a[1, 2], c[0, 1] = np.float16(1 + 2**-9), np.float32(1 + 2**-20)
                options = {"accumulate": f, "order": "sequential"}
                with on_stream():
                    x, y, z = to_device(a), to_device(b), to_device(c)
                    got = hu.matmul(x, y, z, operands=operands, **options)
                if held not in ("binary16", "tf32"):
                    a[1, 2] = np.nan
                c[0, 1] = np.nan
                agree(got, hu.matmul(a, b, c, **options), f"{name} offenders {f} {operands}")
    special = np.array([[np.inf, 1], [np.nan, 2], [-np.inf, 3]], np.float32)
    other = np.array([[1, -1, 0], [np.inf, 2, 1]], np.float32)
    for f in ("binary16", "bfloat16", "tf32", "binary32"):
        options = {"operands": f, "accumulate": f, "order": "sequential"}
        got = hu.matmul(to_device(special), to_device(other), **options)
        agree(got, hu.matmul(special, other, **options), f"{name} special {f}")
    x = to_device(np.ones((4, 4), np.float32))
    ones = {"order": "sequential"}
    for call, word in (
        (lambda: hu.matmul(x, x), "order is 'fma-sequential'"),
        (lambda: hu.matmul(x, x, **ones, accumulate="binary16"), "give operands="),
        (lambda: hu.matmul(x, x, **ones, accumulate="binary64"), "within binary32"),
        (lambda: hu.matmul(x, x, **ones, product="binary16"), "leave product out"),
        (lambda: hu.matmul(x, x, **ones, rounding="stochastic", seed=1), "stochastic"),
        (lambda: hu.matmul(x, x, **ones, overflow="error"), "error"),
        (lambda: hu.matmul(x, np.ones((4, 4), np.float32), **ones), "one library"),
        (lambda: hu.matmul(x, x[:2], **ones), "columns of a"),
        (lambda: hu.matmul(x, x, x[:2], **ones), "c has shape"),
        (lambda: hu.matmul(x[0], x, **ones), "dimensions"),
        (lambda: hu.matmul(to_device(np.ones((4, 4))), x, **ones), "float64"),
        (lambda: hu.matmul(x, x, **ones, operands="posit16"), "posit16"),
    ):
        refused(call, word)


def main() -> int:
    found = False
    if importlib.util.find_spec("torch"):
        import torch

        if torch.cuda.is_available():
            found = True
            for each in (check, check_blocks, check_matmul):
                each(
                    "torch",
                    lambda x: torch.from_numpy(x.copy()).cuda(),
                    lambda t: t.cpu().numpy(),
                    lambda: torch.cuda.stream(torch.cuda.Stream()),
                )
            x = torch.randn(1000, device="cuda").to(torch.bfloat16)
            got = hu.round(x, "float8_e4m3fn").to(torch.float32).cpu().numpy()
            same(
                got, hu.round(x.to(torch.float32).cpu().numpy(), "float8_e4m3fn"), "torch bfloat16"
            )
    if importlib.util.find_spec("cupy"):
        import cupy

        if cupy.cuda.runtime.getDeviceCount():
            found = True
            for each in (check, check_blocks, check_matmul):
                each("cupy", cupy.asarray, cupy.asnumpy, cupy.cuda.Stream)
    if not found:
        print("skipped: no torch or CuPy with a GPU here")
        return 77
    print(f"{cases:,} results on the GPU compared with the host's, {failures} comparisons differ")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
