"""Judges kernels that people use with the conformance suites: NumPy, SciPy, JAX and Eigen on the processor, torch, CuPy,
cuBLAS by them, and JAX on a GPU.

    python tests/subjects/run.py [--device cpu|cuda] [--only TEXT] [--level quick] [--out DIR]

Every case's record goes to DIR/conformance-DEVICE.jsonl.gz (default data/results); the table is printed, and written
into docs/conformance-results.md by --page. Libraries that are not installed are left out, and said so.

What is asked of each subject: the suite's bound, the same bits when run again, and that a row's bits do not depend on the
other rows. The last two are not promised by the libraries: the table says what holds.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import halfulp as hu

ROOT = Path(__file__).resolve().parents[2]
PROMISE = "bound+run-to-run+batch"


@dataclass
class Subject:
    suite: str
    variant: str
    name: str  # "torch softmax"
    kernel: Callable[..., Any]
    arrays: str = "numpy"
    device: str | None = None
    note: str = ""
    around: Callable[[], Any] | None = None  # a context: flags that the kernel needs
    options: dict[str, Any] = field(default_factory=dict)


def missing(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        print(f"left out: {name} is not installed", file=sys.stderr)
        return True
    return False


def numpy_subjects() -> Iterator[Subject]:
    import numpy as np

    for v in ("float32", "float64", "float16"):
        yield Subject("sum", v, "numpy.sum", lambda x: np.sum(x, axis=1, dtype=x.dtype))
        yield Subject("dot", v, "numpy.einsum", lambda a, b: np.einsum("ij,ij->i", a, b))

    def matmul(a: Any, b: Any, c: Any = None) -> Any:
        d = np.matmul(a, b)
        return d if c is None else d + c

    yield Subject("matmul", "float32", "numpy.matmul", matmul, note="OpenBLAS")
    yield Subject("matmul", "float64", "numpy.matmul", matmul, note="OpenBLAS")

    def layer_norm(x: Any, weight: Any, bias: Any, eps: float) -> Any:
        mean = x.mean(axis=1, keepdims=True)
        variance = x.var(axis=1, keepdims=True)
        return (x - mean) / np.sqrt(variance + np.float32(eps)) * weight + bias

    yield Subject("layer-norm", "float32", "numpy, by its formula", layer_norm)


def scipy_subjects() -> Iterator[Subject]:
    if missing("scipy"):
        return
    from scipy import special

    for v in ("float32", "float16"):
        yield Subject("softmax", v, "scipy.special.softmax", lambda x: special.softmax(x, axis=1))
        yield Subject(
            "log-sum-exp",
            v,
            "scipy.special.logsumexp",
            lambda x: special.logsumexp(x, axis=1).astype(x.dtype),
        )

    def gelu(x: Any) -> Any:
        return x * special.ndtr(x)

    yield Subject("gelu", "float32", "x·scipy.special.ndtr(x)", gelu)


def jax_subjects(device: str) -> Iterator[Subject]:
    if missing("jax"):
        return
    import jax
    import jax.numpy as jnp

    if device == "cuda" and jax.default_backend() == "cpu":
        print("left out: this JAX has no GPU", file=sys.stderr)
        return

    def subject(suite: str, v: str, name: str, kernel: Callable[..., Any]) -> Subject:
        return Subject(suite, v, name, kernel, arrays="jax")

    for v in ("float32", "bfloat16"):
        yield subject("softmax", v, "jax.nn.softmax", lambda x: jax.nn.softmax(x, axis=1))
        yield subject(
            "log-sum-exp", v, "jax.nn.logsumexp", lambda x: jax.nn.logsumexp(x, axis=1)
        )
        yield subject("gelu", v, "jax.nn.gelu", lambda x: jax.nn.gelu(x, approximate=False))
        yield subject("silu", v, "jax.nn.silu", lambda x: jax.nn.silu(x))
        yield subject("sum", v, "jax.numpy.sum", lambda x: jnp.sum(x, axis=1))

    def product(a: Any, b: Any, c: Any = None) -> Any:
        d = jnp.matmul(a, b, precision="highest", preferred_element_type=jnp.float32)
        return d if c is None else d + c

    yield subject("matmul", "float32", "jax.numpy.matmul, highest", product)
    yield subject("matmul", "bfloat16:float32", "jax.numpy.matmul, float32 out", product)


def torch_subjects(device: str) -> Iterator[Subject]:
    if missing("torch"):
        return
    import torch
    import torch.nn.functional as F  # noqa: N812

    if device == "cuda" and not torch.cuda.is_available():
        print("left out: this torch sees no GPU", file=sys.stderr)
        return

    def subject(suite: str, v: str, name: str, kernel: Callable[..., Any], **more: Any) -> Subject:
        return Subject(suite, v, name, kernel, arrays="torch", device=device, **more)

    for v in ("float32", "float16", "bfloat16"):
        yield subject("softmax", v, "torch.softmax", lambda x: torch.softmax(x, 1))
        yield subject("log-sum-exp", v, "torch.logsumexp", lambda x: torch.logsumexp(x, 1))
        yield subject("sum", v, "torch.sum", lambda x: torch.sum(x, 1))
        yield subject(
            "layer-norm",
            v,
            "torch layer_norm",
            lambda x, weight, bias, eps: F.layer_norm(x, (x.shape[1],), weight, bias, eps),
        )
        yield subject(
            "rms-norm",
            v,
            "torch rms_norm",
            lambda x, weight, eps: F.rms_norm(x, (x.shape[1],), weight, eps),
        )
        yield subject("gelu", v, "torch gelu", lambda x: F.gelu(x))
        yield subject("gelu-tanh", v, "torch gelu, tanh", lambda x: F.gelu(x, approximate="tanh"))
        yield subject("silu", v, "torch silu", lambda x: F.silu(x))
    yield subject("sum", "float64", "torch.sum", lambda x: torch.sum(x, 1))
    yield subject("dot", "float32", "torch.linalg.vecdot", lambda a, b: torch.linalg.vecdot(a, b))

    def product(a: Any, b: Any, c: Any = None) -> Any:
        return torch.matmul(a, b) if c is None else torch.addmm(c, a, b)

    class Tf32:
        def __init__(self, on: bool) -> None:
            self.on = on

        def __enter__(self) -> None:
            self.before = torch.backends.cuda.matmul.allow_tf32
            torch.backends.cuda.matmul.allow_tf32 = self.on

        def __exit__(self, *_: object) -> None:
            torch.backends.cuda.matmul.allow_tf32 = self.before

    yield subject("matmul", "float32", "torch.matmul", product, around=lambda: Tf32(False))
    if device == "cuda":
        yield subject(
            "matmul",
            "float32",
            "torch.matmul, TF32 allowed",
            product,
            around=lambda: Tf32(True),
            note="cuts operands to 11 bits: must not keep the bound of binary32",
        )
    yield subject("matmul", "float16", "torch.matmul", product)
    yield subject("matmul", "bfloat16", "torch.matmul", product)

    def widened(a: Any, b: Any, c: Any = None) -> Any:
        if device != "cuda":
            raise NotImplementedError("torch.mm with out_dtype is for GPUs")
        if 0 in (*a.shape, *b.shape):
            raise NotImplementedError("empty")
        d = torch.mm(a, b, out_dtype=torch.float32)
        return d if c is None else d + c

    yield subject("matmul", "float16:float32", "torch.mm, float32 out", widened)
    yield subject("matmul", "bfloat16:float32", "torch.mm, float32 out", widened)

    if device != "cuda":
        return

    def scaled(fast: bool) -> Callable[..., Any]:
        def run(a: Any, b: Any, c: Any = None) -> Any:
            m, k = a.shape
            n = b.shape[1]
            if 0 in (m, n, k):
                raise NotImplementedError("empty")
            # _scaled_mm wants multiples of 16, b by columns: zeros are added, which change nothing.
            up = lambda x: -(-x // 16) * 16  # noqa: E731
            big_a = torch.zeros(up(m), up(k), device=a.device, dtype=torch.uint8).view(a.dtype)
            big_b = torch.zeros(up(n), up(k), device=a.device, dtype=torch.uint8).view(b.dtype)
            big_a.view(torch.uint8)[:m, :k] = a.view(torch.uint8)
            big_b.view(torch.uint8)[:n, :k] = b.view(torch.uint8).t()
            one = torch.ones((), device=a.device)
            d = torch._scaled_mm(
                big_a, big_b.t(), one, one, out_dtype=torch.float32, use_fast_accum=fast
            )[:m, :n].contiguous()
            return d if c is None else d + c

        return run

    for v in ("float8_e4m3fn:float32",):
        yield subject("matmul", v, "torch._scaled_mm", scaled(False))
        yield subject("matmul", v, "torch._scaled_mm, fast accumulation", scaled(True))

    # scaled_dot_product_attention's backends by the operators beneath it, which return lse too.
    # (B, S, H, D) to (B, H, S, D). Causal with S != T is aligned to the last query here, to the first there.
    def attention(backend: str) -> Callable[..., Any]:
        ops = torch.ops.aten

        def run(q: Any, k: Any, v: Any, scale: float, causal: float) -> Any:
            S, T, D = q.shape[1], k.shape[1], q.shape[3]  # noqa: N806
            if 0 in (*q.shape, *k.shape):
                raise NotImplementedError("torch takes no empty sequences")
            if causal and S != T:
                raise NotImplementedError("torch aligns the mask to the first query")
            if backend != "math" and D % 8:
                raise NotImplementedError("head widths of 8n alone")
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            is_causal = bool(causal)
            try:
                if backend == "flash":
                    out, lse = ops._scaled_dot_product_flash_attention(
                        q, k, v, 0.0, is_causal, False, scale=scale
                    )[:2]
                elif backend == "efficient":
                    out, lse = ops._scaled_dot_product_efficient_attention(
                        q, k, v, None, True, 0.0, is_causal, scale=scale
                    )[:2]
                elif backend == "cudnn":
                    out, lse = ops._scaled_dot_product_cudnn_attention(
                        q, k, v, None, True, 0.0, is_causal, False, scale=scale
                    )[:2]
                else:  # its formula: there is no lse
                    out = F.scaled_dot_product_attention(q, k, v, scale=scale, is_causal=is_causal)
                    scores = torch.matmul(q.float(), k.float().transpose(2, 3)) * scale
                    if is_causal:
                        mask = torch.ones(S, T, dtype=torch.bool, device=q.device).tril()
                        scores = scores.masked_fill(~mask, -float("inf"))
                    lse = torch.logsumexp(scores, -1)
            except RuntimeError as e:
                if "No execution plans" in str(e) or "No valid" in str(e):
                    raise NotImplementedError("this backend does not take the case") from None
                raise
            lse = lse.reshape(lse.shape[0], lse.shape[1], -1)[:, :, :S].float()
            return out.transpose(1, 2).contiguous(), lse.contiguous()

        return run

    class Math:
        def __enter__(self) -> None:
            from torch.nn.attention import SDPBackend, sdpa_kernel

            self.context = sdpa_kernel(SDPBackend.MATH)
            self.context.__enter__()

        def __exit__(self, *_: object) -> None:
            self.context.__exit__(None, None, None)

    for backend in ("math", "flash", "efficient", "cudnn"):
        for v in ("float32", "float16", "bfloat16"):
            if v == "float32" and backend in ("flash", "cudnn"):
                continue
            yield subject(
                "attention", v, f"torch SDPA, {backend}", attention(backend), around=Math if backend == "math" else None
            )

    def adamw(parameter: Any, gradient: Any, m: Any, v: Any, **a: float) -> Any:
        p = parameter.clone().requires_grad_()
        p.grad = gradient.clone()
        optimizer = torch.optim.AdamW(
            [p],
            lr=a["lr"],
            betas=(a["beta1"], a["beta2"]),
            eps=a["eps"],
            weight_decay=a["weight_decay"],
            fused=True,
        )
        optimizer.state[p] = {
            "step": torch.tensor(float(a["step"]) - 1, device=p.device),
            "exp_avg": m.clone(),
            "exp_avg_sq": v.clone(),
        }
        optimizer.step()
        state = optimizer.state[p]
        return p.detach(), state["exp_avg"], state["exp_avg_sq"]

    yield subject("adamw", "float32", "torch AdamW, fused", adamw)

    def cross_entropy(e: Any, c: Any, target: Any) -> Any:
        return F.cross_entropy(e @ c.t(), target, reduction="none")

    yield subject(
        "cross-entropy", "float32", "torch cross_entropy of e·cT", cross_entropy, around=lambda: Tf32(False)
    )


def cupy_subjects() -> Iterator[Subject]:
    if missing("cupy"):
        return
    import cupy as cp
    from cupyx.scipy import special

    def subject(suite: str, v: str, name: str, kernel: Callable[..., Any]) -> Subject:
        return Subject(suite, v, name, kernel, arrays="cupy")

    for v in ("float32", "float64"):
        yield subject("sum", v, "cupy.sum", lambda x: cp.sum(x, axis=1))
        yield subject("dot", v, "cupy.einsum", lambda a, b: cp.einsum("ij,ij->i", a, b))

    def product(a: Any, b: Any, c: Any = None) -> Any:
        d = cp.matmul(a, b)
        return d if c is None else d + c

    yield subject("matmul", "float32", "cupy.matmul", product)
    yield subject("matmul", "float16", "cupy.matmul", product)
    yield subject(
        "softmax", "float32", "cupyx.scipy.special.softmax", lambda x: special.softmax(x, axis=1)
    )
    yield subject(
        "log-sum-exp", "float32", "cupyx.scipy.special.logsumexp", lambda x: special.logsumexp(x, axis=1)
    )


def subjects(device: str) -> list[Subject]:
    if device == "cpu":
        return [*numpy_subjects(), *scipy_subjects(), *jax_subjects("cpu"), *torch_subjects("cpu")]
    return [*torch_subjects("cuda"), *cupy_subjects(), *jax_subjects("cuda")]


def number(x: Any) -> float:
    return float(x) if x not in (None, "") else float("nan")


def row_of(s: Subject, report: Any, seconds: float) -> dict[str, Any]:
    """What the table says of a subject."""
    judged = [c for c in report.cases if c["outcome"] in ("pass", "fail", "waived")]
    failing = [c for c in judged if c["outcome"] == "fail"]
    families = sorted({c["family"] for c in failing})
    return {
        "suite": s.suite,
        "variant": s.variant,
        "subject": s.name,
        "note": s.note,
        "cases": len(judged),
        "failed": len(failing),
        "unsupported": sum(c["outcome"] == "unsupported" for c in report.cases),
        "families": families,
        "max_ulp": max((number(c.get("max_ulp")) for c in judged), default=float("nan")),
        "max_ratio": max((number(c.get("max_ratio")) for c in judged), default=float("nan")),
        "first": min(failing, key=lambda c: number(c.get("elements")))["reason"] if failing else "",
        "first_id": min(failing, key=lambda c: number(c.get("elements")))["id"] if failing else "",
        "checks": {c["name"]: c["outcome"] for c in report.checks},
        "seconds": seconds,
    }


def main() -> int:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", default="", help="subjects with this text in suite, variant or name")
    parser.add_argument("--level", default="quick")
    parser.add_argument("--out", type=Path, default=ROOT / "data/results")
    parser.add_argument("--without", default="", help="leave these libraries out: jax,cupy")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for a subject")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    known = {s.name: s for s in hu.suites()}
    rows = []
    path = args.out / f"conformance-{args.device}.jsonl.gz"
    with gzip.open(path, "wt", compresslevel=9) as lines:
        for s in subjects(args.device):
            label = f"{s.suite} {s.variant} {s.name}"
            if args.only not in label or s.arrays in args.without.split(","):
                continue
            if s.suite not in known or s.variant not in known[s.suite].variants:
                print(f"left out: {label}: no such suite or variant", file=sys.stderr)
                continue
            start = time.time()
            context = s.around() if s.around is not None else None
            if context is not None:
                context.__enter__()
            try:
                report = hu.conform(
                    s.kernel,
                    suite=s.suite,
                    promise=PROMISE,
                    variant=s.variant,
                    level=args.level,
                    arrays=s.arrays,
                    device=s.device,
                    isolate=False,
                    seconds=args.limit,
                    **s.options,
                )
            except Exception as error:  # a subject that cannot be asked is a finding, not the end
                print(f"not run: {label}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            finally:
                if context is not None:
                    context.__exit__(None, None, None)
            row = row_of(s, report, time.time() - start)
            rows.append(row)
            for record in report.records:
                lines.write(json.dumps({"subject": s.name, **record}) + "\n")
            print(
                f"{s.suite:14} {s.variant:18} {s.name:36} {row['failed']:5} of {row['cases']:5} fail"
                f"  max ratio {row['max_ratio']:9.3g}  max ulp {row['max_ulp']:9.3g}"
                f"  unsupported {row['unsupported']:4}  {row['seconds']:6.1f} s  {row['checks']}"
                f"  {', '.join(row['families'])}  {row['first']}",
                flush=True,
            )
    summary = {
        "device": args.device,
        "machine": platform.processor() or platform.machine(),
        "date": time.strftime("%Y-%m-%d"),
        "rows": rows,
    }
    (args.out / f"conformance-{args.device}.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(f"records: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
