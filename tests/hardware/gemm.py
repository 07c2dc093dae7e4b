"""Whole matrix products of torch on hard operands, against the chained model.

python tests/hardware/gemm.py record OUT.npz     (needs a CUDA device and torch)
python tests/hardware/gemm.py compare OUT.npz    (needs halfulp)

Each product is 64 x 64 x K; arrays a_i (64, K), b_i (K, 64) and d_i (64, 64) hold bits, `names` says
what product i is: "f16.f32 K", "e4m3.fast K" and so on.
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
    rng: np.random.Generator, k: int, low: int, high: int, kind: int
) -> tuple[np.ndarray, np.ndarray]:
    if kind == 0:
        return rng.standard_normal((64, k)), rng.standard_normal((k, 64))
    a, b = hard(rng, (64, k), low, high), hard(rng, (k, 64), low, high)
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


def record(path: str) -> None:
    import torch

    rng = np.random.default_rng(20261122)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    saved: dict[str, np.ndarray] = {}
    names: list[str] = []

    def save(name: str, a: torch.Tensor, b: torch.Tensor, d: torch.Tensor) -> None:
        i = len(names)
        names.append(name)
        saved[f"a_{i}"], saved[f"b_{i}"], saved[f"d_{i}"] = bits(a), bits(b), bits(d)

    for k in (8, 16, 32, 64, 128, 256, 512):
        for kind in range(3):
            for name, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
                x, y = operands(rng, k, -7, 7, kind)
                a = torch.tensor(x).to(dtype).cuda()
                b = torch.tensor(y).to(dtype).cuda()
                save(f"{name}.f32 {k}", a, b, torch.mm(a, b, out_dtype=torch.float32))
                save(f"{name} {k}", a, b, torch.mm(a, b))
            x, y = operands(rng, k, -12, 12, kind)
            a, b = torch.tensor(x).float().cuda(), torch.tensor(y).float().cuda()
            save(f"tf32.f32 {k}", a, b, torch.mm(a, b))
            if k < 16:
                continue
            for pair in ("e4m3 e4m3", "e5m2 e4m3", "e4m3 e5m2"):
                of = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
                x, y = operands(rng, k, -6, 7, kind)
                a = torch.tensor(x).to(of[pair.split()[0]]).cuda()
                b = torch.tensor(y.T.copy()).to(of[pair.split()[1]]).cuda().t()
                one = torch.ones((), device="cuda")
                for fast in (False, True):
                    d = torch._scaled_mm(
                        a, b, one, one, out_dtype=torch.float32, use_fast_accum=fast
                    )
                    save(f"{pair.replace(' ', '.')}.{'fast' if fast else 'precise'} {k}", a, b, d)
    saved["names"] = np.array(names)
    saved["device"] = np.array([torch.cuda.get_device_name(), torch.__version__])
    np.savez_compressed(path, **saved)
    print(len(names), "products;", torch.cuda.get_device_name(), torch.__version__)


def compare(path: str) -> None:
    """Mismatches of every product that a chain of one unit is known to predict."""
    import halfulp as hu

    data = np.load(path)
    formats = {
        "f16": "binary16",
        "bf16": "bfloat16",
        "e4m3": "float8_e4m3fn",
        "e5m2": "float8_e5m2",
    }
    counts: dict[str, list[int]] = {}

    def values(name: str, kind: str) -> np.ndarray:
        array = data[name]
        codes = array.view({1: np.uint8, 2: np.uint16}[array.dtype.itemsize])
        return np.asarray(hu.decode(codes, formats[kind]))

    def tally(kind: str, k: str, got: np.ndarray, d: np.ndarray) -> None:
        row = counts.setdefault(kind, [0, 0, 0])
        row[0] += got.size
        row[1] += int((got.view(np.uint32) != d.view(np.uint32)).sum())
        row[2] = max(row[2], int(k))

    for i, name in enumerate(data["names"]):
        kind, k = str(name).split()
        types = kind.split(".")
        if kind in ("f16", "bf16"):
            continue
        if types[0] == "tf32":
            # cuBLAS rounds the operands, and splits K into parts that it adds in order.
            part = {8: 4, 16: 4, 512: 64}.get(int(k), 32)
            a, b = (
                hu.round(data[f"{x}_{i}"].view(np.float32), "tf32", "nearest-even") for x in "ab"
            )
            unit = "hopper.mma.k4.tf32.f32" if part == 4 else "hopper.mma.tf32.f32"
            got = hu.matmul(a, b, model=hu.Model(unit, promote_every=part))
            tally(kind, k, got, data[f"d_{i}"])
            continue
        promote = 128 if types[-1] == "precise" else 0
        of_a, of_b = types[0], types[1] if promote or types[-1] == "fast" else types[0]
        unit = f"hopper.wgmma.{of_a if of_a == of_b else f'{of_a}.{of_b}'}.f32"
        got = hu.matmul(
            values(f"a_{i}", of_a),
            values(f"b_{i}", of_b),
            model=hu.Model(unit, promote_every=promote) if promote else unit,
        )
        tally(kind, k, got, data[f"d_{i}"])
    print(*data["device"])
    for kind, (compared, wrong, longest) in counts.items():
        print(f"{kind:20} K up to {longest}: compared {compared}, mismatched {wrong}")


if __name__ == "__main__":
    {"record": record, "compare": compare}[sys.argv[1]](sys.argv[2])
