"""Attention of kernels/cuda/attention.hpp beside torch's backends, on one GPU in one run.

    python tests/bench/attention.py build/device/tests/libhalfulp_attention.so [--backward] [--json FILE] [--quick]

Operands are normal random numbers in the layout (batch, row, head, width). Launches of all are interleaved in rounds; a
time is the median over them, between events of a stream that is kept full. Attention is counted in operations,
4 · batch · heads · queries · keys · width, half of that if causal; decoding (one query) in bytes of k and v. --backward
has the gradients instead, in 2.5 times these operations whatever a backend makes (ours 3.5 times).
Needs torch and a Hopper GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import math
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    Arrays = tuple[torch.Tensor | None, ...]

ROUNDS, LAUNCHES = 6, 5


@dataclass(frozen=True)
class Case:
    batch: int
    heads: int
    heads_kv: int
    queries: int
    keys: int
    width: int
    causal: bool = False
    dtype: str = "bfloat16"

    def operations(self, *, backward: bool = False) -> float:
        whole = 4 * self.batch * self.heads * self.queries * self.keys * self.width
        return whole * (2.5 if backward else 1) / (2 if self.causal else 1)

    def bytes_of_keys(self) -> float:
        return 4 * self.batch * self.heads_kv * self.keys * self.width


def called(
    function: Callable[..., bytes | None], arrays: Arrays, causal: bool, *rest: object
) -> None:
    """A function of the library, on tensors (batch, row, head, width) of which the first two are q and k, and rest."""
    import torch

    q, k = (x for x in arrays[:2] if x is not None)
    batch, queries, heads, width = q.shape
    shape = (ctypes.c_uint64 * 6)(batch, heads, k.shape[2], queries, k.shape[1], width)
    with_strides = [x for x in arrays if x is not None and x.dim() == 4]
    numbers = [x.stride(i) for x in with_strides for i in (0, 1, 2)]
    problem = function(
        0 if q.dtype == torch.bfloat16 else 1,
        shape,
        (ctypes.c_int64 * len(numbers))(*numbers),
        2 if causal else 0,
        ctypes.c_float(1 / math.sqrt(width)),
        *(None if x is None else ctypes.c_void_p(x.data_ptr()) for x in arrays),
        *rest,
        ctypes.c_void_p(torch.cuda.current_stream().cuda_stream),
    )
    if problem:
        raise RuntimeError(problem.decode())


class Library:
    """The library's functions, on tensors (batch, row, head, width) and the current stream."""

    def __init__(self, path: str) -> None:
        functions = ctypes.CDLL(path)
        self._forward = functions.halfulp_attention
        self._backward = functions.halfulp_attention_backward
        self._forward.restype = self._backward.restype = ctypes.c_char_p

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        causal: bool,
        lse: torch.Tensor | None = None,
    ) -> None:
        parts = 0 if q.shape[1] == 1 else -1
        called(self._forward, (q, k, v, out, lse), causal, parts)

    def backward(self, *arrays: torch.Tensor, causal: bool) -> None:
        """q, k, v, out, lse, dout, dq, dk, dv."""
        called(self._backward, arrays, causal)


def backends() -> dict[str, Callable[..., torch.Tensor]]:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def one(kind: SDPBackend) -> Callable[..., torch.Tensor]:
        def call(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> torch.Tensor:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            with sdpa_kernel(kind):
                x = torch.nn.functional.scaled_dot_product_attention(
                    q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
                )
            return x.transpose(1, 2)

        return call

    return {
        "flash": one(SDPBackend.FLASH_ATTENTION),
        "cudnn": one(SDPBackend.CUDNN_ATTENTION),
        "efficient": one(SDPBackend.EFFICIENT_ATTENTION),
        "math": one(SDPBackend.MATH),
    }


def times(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Medians in seconds. A kernel that sleeps lets the host queue a round before the first of it runs."""
    import torch

    for call in calls.values():
        call()
        call()
    torch.cuda.synchronize()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            torch.cuda._sleep(2_000_000)  # (torch has no other.)
            events = [torch.cuda.Event(enable_timing=True) for _ in range(LAUNCHES + 1)]
            for event in events[:-1]:
                event.record()
                call()
            events[-1].record()
            torch.cuda.synchronize()
            pairs = itertools.pairwise(events)
            found[name] += [a.elapsed_time(b) / 1000 for a, b in pairs]
    return {name: statistics.median(x) for name, x in found.items()}


def gemm_rate() -> float:
    """What torch's product of 8192 x 8192 x 8192 does, in operations a second."""
    import torch

    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / times({"gemm": lambda: a @ b})["gemm"]


def read_rate() -> float:
    """Bytes a second that a sum over 4 GiB reads."""
    import torch

    x = torch.randn(1 << 30, device="cuda")
    return 2**32 / times({"sum": lambda: x.sum()})["sum"]


def row_of(
    case: Case, seconds: dict[str, float], ours: dict[str, Library], apart: dict[str, object]
) -> dict[str, object]:
    best = min((name for name in seconds if name not in ours), key=lambda name: seconds[name])
    first = next(iter(ours))
    return {
        **asdict(case),
        "microseconds": {name: round(s * 1e6, 2) for name, s in seconds.items()},
        "best": best,
        "ratio": round(seconds[best] / seconds[first], 3),
        "largest_difference": apart,
    }


def measure_backward(ours: dict[str, Library], case: Case, others: list[str]) -> dict[str, object]:
    """Ours from our own forward pass; theirs from theirs, by autograd, and with its promise of the same bits in each run
    where a name ends in -det. Differences are of the largest gradient."""
    import warnings

    import torch

    warnings.filterwarnings("ignore", module=__name__)
    dtype = getattr(torch, case.dtype)

    def normal(rows: int, heads: int) -> torch.Tensor:
        return torch.randn(case.batch, rows, heads, case.width, device="cuda", dtype=dtype)

    q, dout = (normal(case.queries, case.heads) for _ in range(2))
    k, v = (normal(case.keys, case.heads_kv) for _ in range(2))
    calls: dict[str, Callable[[], object]] = {}
    want: tuple[torch.Tensor, ...] = ()

    def gradients(
        out: torch.Tensor, leaves: tuple[torch.Tensor, ...], deterministic: bool
    ) -> tuple[torch.Tensor, ...]:
        torch.use_deterministic_algorithms(deterministic)
        try:
            return torch.autograd.grad(out, leaves, dout, retain_graph=True)
        finally:
            torch.use_deterministic_algorithms(False)

    torch.utils.deterministic.fill_uninitialized_memory = False
    for name in others:
        if name == "math" and case.queries > 1024:
            continue  # the matrices of all heads take too much memory and time
        leaves = tuple(x.detach().requires_grad_() for x in (q, k, v))
        deterministic = name.endswith("-det")
        try:
            out = backends()[name.removesuffix("-det")](*leaves, case.causal)
            found = gradients(out, leaves, deterministic)
        except RuntimeError:  # no kernel for it, or no memory
            continue
        want = want or found
        calls[name] = lambda out=out, leaves=leaves, same=deterministic: gradients(
            out, leaves, same
        )
    apart: dict[str, object] = {}
    for name, one in ours.items():
        out = torch.empty_like(q)
        lse = torch.empty(case.batch, case.heads, case.queries, device="cuda")
        one.forward(q, k, v, out, case.causal, lse)
        mine = tuple(torch.full_like(x, math.nan) for x in (q, k, v))
        call = lambda one=one, arrays=(q, k, v, out, lse, dout, *mine): one.backward(  # noqa: E731
            *arrays, causal=case.causal
        )
        call()
        apart[name] = [
            ((x.float() - y.float()).abs().max() / y.float().abs().max()).item()
            for x, y in zip(mine, want, strict=True)
        ]
        calls[name] = call
    return row_of(case, times(calls), ours, apart)


def measure(ours: dict[str, Library], case: Case, others: list[str]) -> dict[str, object]:
    import warnings

    import torch

    warnings.filterwarnings("ignore", module=__name__)  # of torch, where a backend has no kernel
    dtype = getattr(torch, case.dtype)

    def normal(rows: int, heads: int) -> torch.Tensor:
        return torch.randn(case.batch, rows, heads, case.width, device="cuda", dtype=dtype)

    q = normal(case.queries, case.heads)
    k, v = (normal(case.keys, case.heads_kv) for _ in range(2))
    out = torch.full_like(q, math.nan)
    calls: dict[str, Callable[[], object]] = {}
    theirs = backends()
    with torch.no_grad():
        for name in others:
            call = theirs[name]
            try:
                want = call(q, k, v, case.causal)
            except RuntimeError:  # no kernel for it, or no memory
                continue
            calls[name] = lambda call=call: call(q, k, v, case.causal)
        apart: dict[str, object] = {}
        for name, one in ours.items():
            out.fill_(math.nan)
            one.forward(q, k, v, out, case.causal)
            apart[name] = (out.float() - want.float()).abs().max().item()
            calls[name] = lambda one=one: one.forward(q, k, v, out, case.causal)
        return row_of(case, times(calls), ours, apart)


def where() -> dict[str, str]:
    import torch

    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "device": torch.cuda.get_device_name(),
        "driver": driver,
        "toolkit": str(torch.version.cuda),
        "torch": torch.__version__,
        "cudnn": str(torch.backends.cudnn.version()),
        "date": datetime.now(UTC).date().isoformat(),
    }


def cases(quick: bool) -> list[Case]:
    shapes = [(16, 1024), (4, 4096)] if quick else [(16, 1024), (8, 2048), (4, 4096), (2, 8192)]
    found = [
        Case(batch, 16, 16, rows, rows, width, causal)
        for width in (64, 128)
        for causal in (False, True)
        for batch, rows in shapes
    ]
    if not quick:
        found += [
            Case(4, 16, 16, 4096, 4096, width, causal, "float16")
            for width in (64, 128)
            for causal in (False, True)
        ]
    found += [Case(8, 32, 32, 1, 8192, 128), Case(64, 16, 16, 1, 4096, 64)]
    found += [Case(1, 32, 8, 1, 131072, 128), Case(16, 32, 8, 1, 16384, 128)]
    return [*found, Case(16, 64, 8, 1, 16384, 128)]


def backward_cases(quick: bool) -> list[Case]:
    shapes = [(4, 4096)] if quick else [(16, 1024), (4, 4096), (1, 16384)]
    found = [
        Case(batch, 16, 16, rows, rows, width, causal)
        for width in (64, 128)
        for causal in (False, True)
        for batch, rows in shapes
    ]
    if quick:
        return found
    found += [
        Case(4, 16, 16, 4096, 4096, width, causal, "float16")
        for width in (64, 128)
        for causal in (False, True)
    ]
    return [*found, Case(4, 32, 8, 4096, 4096, 128, True)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("library", nargs="+", help="with halfulp_attention; [NAME=]PATH")
    parser.add_argument("--backward", action="store_true", help="the gradients")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything there, as JSON")
    parser.add_argument("--quick", action="store_true", help="few shapes, against flash and cudnn")
    options = parser.parse_args()

    ours = {}
    for one in options.library:
        name, _, path = one.rpartition("=")
        ours[name or "halfulp"] = Library(path)
    others = ["flash", "cudnn"] if options.quick else ["flash", "cudnn", "efficient", "math"]
    if options.backward:
        others += ["flash-det", "cudnn-det"]
    result: dict[str, object] = {
        **where(),
        "gemm_tflops": round(gemm_rate() / 1e12, 1),
        "read_tb": round(read_rate() / 1e12, 2),
    }
    print(json.dumps(result))
    names = [*ours, *others]
    columns = " ".join(f"{n:>9}" for n in names)
    print(
        f"{'dtype':9} batch heads kv queries   keys width causal  {columns}  ratio to the best of torch"
    )
    rows = []
    backward = options.backward
    for case in backward_cases(options.quick) if backward else cases(options.quick):
        row = (measure_backward if backward else measure)(ours, case, others)
        rows.append(row)
        work = case.operations(backward=backward) if case.queries > 1 else case.bytes_of_keys()
        rates = " ".join(f"{work / row['microseconds'].get(n, math.nan) / 1e6:9.2f}" for n in names)
        print(
            f"{case.dtype:9} {case.batch:5} {case.heads:5} {case.heads_kv:2} {case.queries:7} {case.keys:6} "
            f"{case.width:5} {case.causal!s:6}  {rates}  {row['ratio']:.3f} {row['best']} "
            f"({'TFLOP/s' if case.queries > 1 else 'TB/s'})",
            flush=True,
        )
    result["rows"] = rows
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
