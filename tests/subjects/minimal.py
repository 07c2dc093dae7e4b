"""Smallest cases of what stands out on a GPU, run on the libraries that are there.

    python tests/subjects/minimal.py [TEXT]      those with TEXT in their names; without a GPU or a library: said so

Each prints its code, what came, and what exact arithmetic gives; docs/conformance-results.md explains them.
"""

from __future__ import annotations

import ast
import contextlib
import platform
import sys
from collections.abc import Callable
from typing import Any

# (name, libraries, code whose last line is an expression, what is exact or asked)
CASES: list[tuple[str, str, str, str]] = [
    (
        "fused AdamW: 1 - beta",
        "torch",
        """
def step(gradient, m, v, **how):
    p = torch.zeros(1, device="cuda", requires_grad=True)
    p.grad = torch.full_like(p, gradient)
    optimizer = torch.optim.AdamW([p], betas=(0.9, 0.999), **how)
    where = "cuda" if how.get("fused") else "cpu"
    optimizer.state[p] = {"step": torch.tensor(0.0, device=where), "exp_avg": torch.full_like(p, m), "exp_avg_sq": torch.full_like(p, v)}
    optimizer.step()
    return optimizer.state[p]["exp_avg"].item(), optimizer.state[p]["exp_avg_sq"].item()
[step(1.0, 0.0, 0.0, **how) for how in ({"fused": True}, {"foreach": True}, {"foreach": False})]
""",
        "(0.1, 0.001) rounded: (0.10000000149011612, 0.0010000000474974513); with 1 - beta in binary32: (0.10000002384185791, 0.0009999871253967285)",
    ),
    (
        "fused AdamW: infinities",
        "torch",
        """
def moments(gradient, m, v, **how):
    p = torch.zeros(1, device="cuda", requires_grad=True)
    p.grad = torch.full_like(p, gradient)
    optimizer = torch.optim.AdamW([p], betas=(0.9, 0.999), **how)
    where = "cuda" if how.get("fused") else "cpu"
    optimizer.state[p] = {"step": torch.tensor(0.0, device=where), "exp_avg": torch.full_like(p, m), "exp_avg_sq": torch.full_like(p, v)}
    optimizer.step()
    return optimizer.state[p]["exp_avg"].item(), optimizer.state[p]["exp_avg_sq"].item()
[[moments(*x, **how) for how in ({"fused": True}, {"foreach": True})] for x in ((1.0, -torch.inf, 0.0), (2.0**70, 0.0, torch.inf), (2.0**70, 0.0, 1.0), (torch.inf, 0.0, 0.0))]
""",
        "m = -inf, v = 0.001; v = inf; v = 0.001 * 2^140 = inf; m = v = inf",
    ),
    (
        "rms_norm of a row with an infinity",
        "torch",
        """
[torch.nn.functional.rms_norm(torch.tensor([[1.0, torch.inf, 2.0]], device=where), (3,)).tolist() for where in ("cuda", "cpu")]
""",
        "x / sqrt(mean x^2): [0, nan, 0]",
    ),
    (
        "flash attention's lse of a row of NaN",
        "torch",
        """
q = torch.full((1, 1, 1, 8), torch.nan, device="cuda", dtype=torch.bfloat16)
k = torch.ones(1, 1, 2, 8, device="cuda", dtype=torch.bfloat16)
flash = torch.ops.aten._scaled_dot_product_flash_attention(q, k, k, 0.0, False, False)[:2]
efficient = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, k, None, True, 0.0, False)[:2]
[(out[0, 0, 0, 0].item(), lse.flatten()[0].item()) for out, lse in (flash, efficient)]
""",
        "(nan, nan)",
    ),
    (
        "flash attention's lse of a score of +inf",
        "torch",
        """
q = torch.ones(1, 1, 1, 8, device="cuda", dtype=torch.bfloat16)
k = torch.ones(1, 1, 2, 8, device="cuda", dtype=torch.bfloat16)
k[0, 0, 1, 0] = torch.inf
flash = torch.ops.aten._scaled_dot_product_flash_attention(q, k, k, 0.0, False, False)[:2]
efficient = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, k, None, True, 0.0, False)[:2]
[(out[0, 0, 0, 1].item(), lse.flatten()[0].item()) for out, lse in (flash, efficient)]
""",
        "(nan, nan): inf / inf",
    ),
    (
        "flash attention's gradients beside a score of +inf",
        "torch",
        """
from torch.nn.attention import SDPBackend, sdpa_kernel
def gradients(backend):
    q, k, v = (torch.ones(1, 1, 2, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    k[0, 0, 1, 0] = torch.inf
    for x in (q, k, v):
        x.requires_grad_()
    with sdpa_kernel(backend):
        torch.nn.functional.scaled_dot_product_attention(q, k, v).sum().backward()
    return [x.grad[0, 0, :, 1].tolist() for x in (q, k, v)]
{b.name: gradients(b) for b in (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)}
""",
        "the suite asks NaN of every weight of a row with a score of +inf; of dq, dk, dv all NaN",
    ),
    (
        "efficient attention of binary32: -inf in v",
        "torch",
        """
q = torch.zeros(1, 1, 1, 8, device="cuda")
v = torch.ones(1, 1, 1, 8, device="cuda")
v[..., 0] = -torch.inf
torch.ops.aten._scaled_dot_product_efficient_attention(q, q, v, None, True, 0.0, False)[0][0, 0, 0, :2].tolist()
""",
        "[-inf, 1]: one key, of weight 1",
    ),
    (
        "math attention: what a masked key holds",
        "torch",
        """
from torch.nn.attention import SDPBackend, sdpa_kernel
def masked(dtype, where, what, position):
    q, k, v = (torch.ones(1, 1, 2, 8, device="cuda", dtype=dtype) for _ in range(3))
    (k if where == "k" else v)[0, 0, 1, 0] = what
    with sdpa_kernel(SDPBackend.MATH):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)[0, 0, 0, :2].tolist()
{f"{str(d)[6:]} {what} in {w}": masked(d, w, what, 1) for d in (torch.float32, torch.bfloat16) for w in "kv" for what in (torch.nan, torch.inf)}
""",
        "[1, 1] for k: query 0 does not see it; of v, 0 times it is NaN in the column that holds it",
    ),
    (
        "_scaled_mm with scales of 128 x 128 blocks",
        "torch",
        """
def product(k, n, layout):
    a = torch.ones(16, k, device="cuda").to(torch.float8_e4m3fn)
    b = torch.ones(n, k, device="cuda").to(torch.float8_e4m3fn).t()
    K, N, K4 = k // 128, -(-n // 128), -(-(k // 128) // 4) * 4
    scale_a = torch.ones(K, 16, device="cuda").t()
    room = torch.full((4 * N * K4,), torch.nan, device="cuda")  # what lies behind the scales
    if layout == "K blocks by columns":
        scale_b = room.as_strided((K, N), (1, K))
    elif layout == "columns of a multiple of 4":
        scale_b = room.as_strided((K, N), (1, K4))
    else:
        scale_b = room.as_strided((K4, N), (1, K4))
    scale_b.fill_(1)
    try:
        d = torch._scaled_mm(a, b, scale_a, scale_b, out_dtype=torch.bfloat16)
    except (RuntimeError, ValueError) as error:
        return "refused: " + " ".join(str(error).split())[:90]
    return [d[0, j].item() for j in range(0, n, 128)]
{f"K = {k}, N = {n}, {layout}": product(k, n, layout) for k, n in ((128, 128), (128, 256), (384, 256), (512, 256)) for layout in ("K blocks by columns", "columns of a multiple of 4", "that and K4 of them")}
""",
        "K in every column",
    ),
    (
        "_int_mm's shapes",
        "torch",
        """
def works(m, k, n):
    a, b = torch.ones(m, k, device="cuda", dtype=torch.int8), torch.ones(k, n, device="cuda", dtype=torch.int8)
    try:
        return "" if bool((torch._int_mm(a, b) == k).all()) else "wrong"
    except RuntimeError as error:
        return " ".join(str(error).split())[:60]
ks = (8, 16, 32, 64)
{f"m = {m}": [n for n in (8, 16, 24, 32, 40, 48, 64, 72, 128) if any(works(m, k, n) for k in ks)] for m in (17, 24, 32, 40, 48, 64, 72, 96, 128)}, works(40, 16, 64)
""",
        "no n refused: torch asks for m > 16, k and n multiples of 8",
    ),
    (
        "logsumexp of 16 bits",
        "torch",
        """
x = torch.tensor([[0.0, -3.0]], device="cuda")
[torch.logsumexp(x.to(t), 1).item() for t in (torch.float32, torch.float16, torch.bfloat16)] + [(torch.logsumexp(torch.tensor([[-0.7212, -0.7212]], device="cuda", dtype=torch.float16), 1).item())]
""",
        "0.04858735; of the last row -0.02804423: the sum and its logarithm are rounded to 16 bits",
    ),
    (
        "einsum of CuPy: subnormals",
        "cupy",
        """
x, y = cupy.array([[1e-20]], cupy.float32), cupy.array([[9e-19]], cupy.float32)
cupy.einsum("ij,ij->i", x, y).item(), (x * y).item(), cupy.matmul(x, y).item(), cupy.array([1e-39, 2e-39], cupy.float32).sum().item()
""",
        "9e-39 four times, but the last: 3e-39",
    ),
    (
        "softmax of CuPy: subnormals and empty rows",
        "cupy",
        """
import cupyx.scipy.special as special
def empty():
    try:
        return special.softmax(cupy.zeros((2, 0), cupy.float32), axis=1).shape
    except ValueError as error:
        return str(error)
special.softmax(cupy.array([[0.0, -90.0]], cupy.float32), axis=1).tolist(), empty()
""",
        "[1, 8.194e-40], (2, 0)",
    ),
    (
        "matmul of CuPy in binary16",
        "cupy",
        """
x = 1 + 2.0**-10
a, b = cupy.array([[x, -1.0]], cupy.float16), cupy.array([[x], [1 + 2.0**-9]], cupy.float16)
cupy.matmul(a, b).item(), cupy.matmul(cupy.repeat(a, 2, 0), cupy.repeat(b, 2, 1)).tolist()
""",
        "2^-20 = 9.5367e-07, everywhere: products of binary16 are exact in binary32",
    ),
    (
        "JAX: products of binary32 in attention",
        "jax",
        """
import numpy as np
rng = np.random.default_rng(0)
q = rng.standard_normal((1, 128, 1, 64)).astype(np.float32)
k = rng.standard_normal((1, 128, 1, 64)).astype(np.float32)
s = (q[0, :, 0].astype(np.float64) @ k[0, :, 0].astype(np.float64).T) / 8
p = np.exp(s - s.max(axis=1, keepdims=True))
exact = (p / p.sum(axis=1, keepdims=True)) @ k[0, :, 0].astype(np.float64)
def error():
    return float(np.abs(np.asarray(jax.nn.dot_product_attention(q, k, k))[0, :, 0] - exact).max())
with jax.default_matmul_precision("highest"):
    highest = error()
error(), highest
""",
        "about 1e-7; products of TF32 (11 bits) cost 1e-3 and are JAX's default on this GPU",
    ),
    (
        "JAX: SiLU and GELU of bfloat16",
        "jax",
        """
import jax.numpy as jnp
x = jnp.array([0.10546875, -0.0009765625], jnp.bfloat16)
[f(x).tolist() for f in (jax.nn.silu, lambda x: jax.nn.gelu(x, approximate=False))], [f(x.astype(jnp.float32)).tolist() for f in (jax.nn.silu, lambda x: jax.nn.gelu(x, approximate=False))]
""",
        "the first rounded from the second, half an ulp (2^-9 of it) off at most",
    ),
]


def run(code: str, scope: dict[str, Any]) -> Any:
    """The value of the last expression."""
    tree = ast.parse(code.strip())
    last = tree.body.pop()
    assert isinstance(last, ast.Expr)
    exec(compile(tree, "minimal", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "minimal", "eval"), scope)


def gpu_of(library: str) -> tuple[Any, str]:
    """The module and its device, or None and why not."""
    try:
        module = __import__(library)
        name: Callable[[], str] = {
            "torch": lambda: module.cuda.get_device_name(),
            "cupy": lambda: module.cuda.runtime.getDeviceProperties(0)["name"].decode(),
            "jax": lambda: next(
                str(d.device_kind) for d in module.devices() if d.platform == "gpu"
            ),
        }[library]
        return module, f"{library} {module.__version__}, {name()}"
    except StopIteration:
        return None, f"{library}: no GPU"
    except Exception as error:
        return None, f"{library}: {type(error).__name__}: {' '.join(str(error).split())[:100]}"


def main() -> int:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    print(f"Python {platform.python_version()}")
    devices: dict[str, tuple[Any, str]] = {}
    for name, library, code, exact in CASES:
        if wanted not in name:
            continue
        if library not in devices:
            devices[library] = gpu_of(library)
            print(devices[library][1])
        module = devices[library][0]
        if module is None:
            print(f"\n# {name}: not run")
            continue
        print(f"\n# {name}\n{code.strip()}")
        with contextlib.suppress(KeyboardInterrupt):
            try:
                came = repr(run(code, {library: module}))
            except Exception as error:
                came = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            print(f"came:  {came}\nexact: {exact}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
