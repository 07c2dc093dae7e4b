"""Whole matrix products of torch on hard operands, against the chained model.

python tests/hardware/gemm.py record OUT.npz          (needs a CUDA device and torch)
python tests/hardware/gemm.py record-large OUT.npz
python tests/hardware/gemm.py compare OUT.npz         (needs halfulp)

Small products are 64 x 64 x K and kept whole; of large ones 16 rows and columns are kept. Arrays a_i, b_i
and d_i hold bits, `names` says what product i is: "f16.f32 K", "e4m3.e4m3.fast K" and so on.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def hard(rng: np.random.Generator, shape: tuple[int, int], low: int, high: int) -> np.ndarray:
    """Signed numbers with uniform exponents, some of them zero."""
    x = (
        rng.choice([-1.0, 1.0], shape)
        * (1 + rng.random(shape))
        * 2.0 ** rng.integers(low, high, shape)
    )
    x[rng.random(shape) < 0.05] = 0
    return x


def operands(
    rng: np.random.Generator, m: int, k: int, low: int, high: int, kind: int
) -> tuple[np.ndarray, np.ndarray]:
    """Matrices of m rows and of m columns: N(0, 1), exponents in [low, high), or those and halves
    that cancel."""
    if kind == 0:
        return rng.standard_normal((m, k)), rng.standard_normal((k, m))
    a, b = hard(rng, (m, k), low, high), hard(rng, (k, m), low, high)
    if kind == 2:  # halves that cancel
        half = k // 2
        a[:, half : 2 * half] = -a[:, :half]
        b[half : 2 * half] = b[:half]
        a[:, :: max(1, k // 8)] *= 1 + 2.0**-5
    return a, b


def bits(x: torch.Tensor) -> np.ndarray:
    import torch

    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32}
    return x.contiguous().view(kinds[x.element_size()]).cpu().numpy()


def record(path: str, large: bool = False) -> None:
    import torch

    rng = np.random.default_rng(20261122)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    dtype_of = {1: torch.uint8, 2: torch.int16, 4: torch.int32}
    saved: dict[str, np.ndarray] = {}
    names: list[str] = []

    def save(name: str, a: torch.Tensor, b: torch.Tensor, d: torch.Tensor) -> None:
        i = len(names)
        names.append(name)
        if large:
            rows = torch.tensor(rng.choice(a.shape[0], 16, replace=False)).cuda()
            columns = torch.tensor(rng.choice(b.shape[1], 16, replace=False)).cuda()
            a, d = a.view(dtype_of[a.element_size()])[rows], d[rows][:, columns]
            b = b.t().contiguous().view(dtype_of[b.element_size()])[columns].t()
        saved[f"a_{i}"], saved[f"b_{i}"], saved[f"d_{i}"] = bits(a), bits(b), bits(d)

    shapes = [(64, k, kind) for k in (8, 16, 32, 64, 128, 256, 512) for kind in range(3)]
    if large:
        shapes = [(k, k, 1) for k in (512, 1024, 2048, 4096)] + [(256, 16384, 1), (4096, 4096, 2)]
    for m, k, kind in shapes:
        for name, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
            x, y = operands(rng, m, k, -7, 7, kind)
            a = torch.tensor(x).to(dtype).cuda()
            b = torch.tensor(y).to(dtype).cuda()
            save(f"{name}.f32 {k}", a, b, torch.mm(a, b, out_dtype=torch.float32))
            if not large:
                save(f"{name} {k}", a, b, torch.mm(a, b))
        x, y = operands(rng, m, k, -12, 12, kind)
        a, b = torch.tensor(x).float().cuda(), torch.tensor(y).float().cuda()
        save(f"tf32.f32 {k}", a, b, torch.mm(a, b))
        if k < 16:
            continue
        for pair in ("e4m3 e4m3", "e5m2 e4m3", "e4m3 e5m2"):
            of = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
            x, y = operands(rng, m, k, -6, 7, kind)
            a = torch.tensor(x).to(of[pair.split()[0]]).cuda()
            b = torch.tensor(y.T.copy()).to(of[pair.split()[1]]).cuda().t()
            one = torch.ones((), device="cuda")
            for fast in (False, True):
                d = torch._scaled_mm(a, b, one, one, out_dtype=torch.float32, use_fast_accum=fast)
                save(f"{pair.replace(' ', '.')}.{'fast' if fast else 'precise'} {k}", a, b, d)
    saved["names"] = np.array(names)
    saved["device"] = np.array([torch.cuda.get_device_name(), torch.__version__])
    np.savez_compressed(path, **saved)
    print(len(names), "products;", torch.cuda.get_device_name(), torch.__version__)


# Parts of K that a library was seen to make chains of, which it adds in order; 0: one chain. 128 is
# also what FP8 without fast accumulation does.
PARTS = (0, 128, 4, 32, 64, 512, 2048, 2752, 5504)


def compare(path: str) -> None:
    """For every product the parts of K with which chains of the unit predict it, and the mismatches."""
    import halfulp as hu

    data = np.load(path)
    formats = {
        "f16": "binary16",
        "bf16": "bfloat16",
        "e4m3": "float8_e4m3fn",
        "e5m2": "float8_e5m2",
    }
    counts: dict[tuple[str, int, int], list[int]] = {}

    def values(name: str, kind: str) -> np.ndarray:
        array = data[name]
        if kind == "tf32":  # cuBLAS rounds the operands
            return np.asarray(hu.round(array.view(np.float32), "tf32", "nearest-even"))
        codes = array.view({1: np.uint8, 2: np.uint16}[array.dtype.itemsize])
        return np.asarray(hu.decode(codes, formats[kind]))

    for i, name in enumerate(data["names"]):
        kind, k = str(name).split()
        types = kind.split(".")
        if len(types) == 1:
            continue
        of_a, of_b = types[0], types[1] if len(types) == 3 else types[0]
        a, b, d = values(f"a_{i}", of_a), values(f"b_{i}", of_b), data[f"d_{i}"].view(np.uint32)

        def wrong(
            part: int, a: np.ndarray = a, b: np.ndarray = b, d: np.ndarray = d,
            of_a: str = of_a, of_b: str = of_b,
        ) -> int:  # fmt: skip
            unit = f"hopper.wgmma.{of_a if of_a == of_b else f'{of_a}.{of_b}'}.f32"
            if of_a == "tf32":
                unit = f"hopper.mma.{'k4.' if part == 4 else ''}tf32.f32"
            elif part == 4:
                return d.size
            got = hu.matmul(a, b, model=hu.Model(unit, promote_every=part))
            return int((got.view(np.uint32) != d).sum())

        tried = {}
        for part in PARTS:
            tried[part] = wrong(part)
            if tried[part] == 0:
                break
        best = min(tried, key=lambda part: tried[part])
        row = counts.setdefault((kind, int(k), best), [0, 0])
        row[0] += d.size
        row[1] += tried[best]
    print(*data["device"])
    for (kind, k, part), (compared, mismatched) in counts.items():
        how = f"parts of {part}" if part else "one chain"
        print(f"{kind:20} K = {k:5} {how:13}: compared {compared}, mismatched {mismatched}")
    totals = [sum(c[n] for c in counts.values()) for n in range(2)]
    print(f"all: compared {totals[0]}, mismatched {totals[1]}")


if __name__ == "__main__":
    command, path = sys.argv[1:3]
    if command == "compare":
        compare(path)
    else:
        record(path, large=command == "record-large")
