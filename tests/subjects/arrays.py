"""NumPy, SciPy, ml_dtypes, JAX and CuPy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from subject import AbsentError, Subject, need


def numpy_subjects(device: str) -> Iterator[Subject]:
    np = need("numpy")
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


def scipy_subjects(device: str) -> Iterator[Subject]:
    special = need("scipy.special")
    for v in ("float32", "float16"):
        yield Subject("softmax", v, "scipy.special.softmax", lambda x: special.softmax(x, axis=1))
        yield Subject(
            "log-sum-exp",
            v,
            "scipy.special.logsumexp",
            lambda x: special.logsumexp(x, axis=1).astype(x.dtype),
        )
    yield Subject("gelu", "float32", "x·scipy.special.ndtr(x)", lambda x: x * special.ndtr(x))


def ml_dtypes_subjects(device: str) -> Iterator[Subject]:
    ml_dtypes = need("ml_dtypes")

    def casts(dtype: Any) -> Callable[..., Any]:
        return lambda x: x.astype(dtype)

    # Beyond the largest value: NaN (E4M3) and infinity (E5M2), as variants "-ieee" have it.
    for v, name in (
        ("float8_e4m3fn-ieee", "float8_e4m3fn"),
        ("float8_e5m2-ieee", "float8_e5m2"),
        ("float4_e2m1fn", "float4_e2m1fn"),
    ):
        yield Subject("quantize", v, f"ml_dtypes.{name}", casts(getattr(ml_dtypes, name)))


def jax_subjects(device: str) -> Iterator[Subject]:
    # Set before JAX is imported. Autotuning would time kernels again for every shape.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if device == "cuda":
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_autotune_level=0"
    jax = need("jax")
    jnp = need("jax.numpy")
    if device == "cuda" and jax.default_backend() == "cpu":
        raise AbsentError("this JAX has no GPU")

    # One compilation for each shape, as users have it, in place of one for each operation.
    def subject(suite: str, v: str, name: str, kernel: Callable[..., Any]) -> Subject:
        return Subject(suite, v, name, jax.jit(kernel), arrays="jax", note="jit")

    def product(a: Any, b: Any, c: Any = None) -> Any:
        d = jnp.matmul(a, b, precision="highest", preferred_element_type=jnp.float32)
        return d if c is None else d + c

    def layer_norm(x: Any, weight: Any, bias: Any, eps: Any) -> Any:
        x = x.astype(jnp.float32)
        mean = jnp.mean(x, axis=1, keepdims=True)
        variance = jnp.var(x, axis=1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + eps) * weight + bias

    def attention(q: Any, k: Any, v: Any, scale: Any, causal: Any) -> Any:
        if 0 in (*q.shape, *k.shape):
            raise NotImplementedError("empty")
        if causal and q.shape[1] != k.shape[1]:
            raise NotImplementedError("JAX aligns the mask to the first query")
        return attend(q, k, v, scale, bool(causal))

    def attended(q: Any, k: Any, v: Any, scale: Any, is_causal: bool) -> Any:
        out = jax.nn.dot_product_attention(q, k, v, scale=scale, is_causal=is_causal)
        scores = jnp.einsum("bshd,bthd->bhst", q, k, precision="highest").astype(jnp.float32)
        scores = scores * jnp.float32(scale)
        if is_causal:
            seen = jnp.tril(jnp.ones(scores.shape[2:], bool))
            scores = jnp.where(seen, scores, -jnp.inf)
        lse = jax.nn.logsumexp(scores, axis=-1)
        # Where a score is +inf so is logsumexp; the suite asks NaN of attention's lse there.
        return out, jnp.where(jnp.isposinf(lse), jnp.nan, lse)

    attend = jax.jit(attended, static_argnums=4)

    class Highest:
        """Without it a GPU multiplies binary32 in TF32."""

        def __enter__(self) -> None:
            self.context = jax.default_matmul_precision("highest")
            self.context.__enter__()

        def __exit__(self, *_: object) -> None:
            self.context.__exit__(None, None, None)

    yield subject("softmax", "float32", "jax.nn.softmax", lambda x: jax.nn.softmax(x, axis=1))
    yield subject("sum", "float32", "jax.numpy.sum", lambda x: jnp.sum(x, axis=1))
    yield subject("matmul", "float32", "jax.numpy.matmul, highest", product)
    yield subject("layer-norm", "float32", "JAX, by its formula with rsqrt", layer_norm)
    yield subject("gelu", "float32", "jax.nn.gelu", lambda x: jax.nn.gelu(x, approximate=False))
    yield subject("silu", "float32", "jax.nn.silu", lambda x: jax.nn.silu(x))
    yield subject(
        "log-sum-exp", "float32", "jax.nn.logsumexp", lambda x: jax.nn.logsumexp(x, axis=1)
    )
    yield Subject(
        "attention",
        "float32",
        "jax.nn.dot_product_attention",
        attention,
        arrays="jax",
        note="jit; lse by its formula",
    )
    if device == "cuda":
        yield Subject(
            "attention",
            "float32",
            "jax.nn.dot_product_attention",
            attention,
            arrays="jax",
            around=Highest,
            note='jit; precision "highest"; lse by its formula',
        )
    yield subject("softmax", "bfloat16", "jax.nn.softmax", lambda x: jax.nn.softmax(x, axis=1))
    yield subject("sum", "bfloat16", "jax.numpy.sum", lambda x: jnp.sum(x, axis=1))
    yield subject("matmul", "bfloat16:float32", "jax.numpy.matmul, float32 out", product)
    yield subject("gelu", "bfloat16", "jax.nn.gelu", lambda x: jax.nn.gelu(x, approximate=False))
    yield subject("silu", "bfloat16", "jax.nn.silu", lambda x: jax.nn.silu(x))
    yield subject(
        "log-sum-exp", "bfloat16", "jax.nn.logsumexp", lambda x: jax.nn.logsumexp(x, axis=1)
    )


def cupy_subjects(device: str) -> Iterator[Subject]:
    cp = need("cupy")
    special = need("cupyx.scipy.special")
    if device != "cuda":
        raise AbsentError("CuPy is for GPUs")
    if cp.cuda.runtime.getDeviceCount() == 0:
        raise AbsentError("this CuPy sees no GPU")

    def subject(suite: str, v: str, name: str, kernel: Callable[..., Any]) -> Subject:
        return Subject(suite, v, name, kernel, arrays="cupy")

    def product(a: Any, b: Any, c: Any = None) -> Any:
        if c is not None and a.dtype.itemsize == 2:
            raise NotImplementedError("adding c afterwards would round twice")
        d = cp.matmul(a, b)
        return d if c is None else d + c

    yield subject(
        "softmax", "float32", "cupyx.scipy.special.softmax", lambda x: special.softmax(x, axis=1)
    )
    yield subject(
        "log-sum-exp",
        "float32",
        "cupyx.scipy.special.logsumexp",
        lambda x: special.logsumexp(x, axis=1),
    )
    yield subject("matmul", "float32", "cupy.matmul", product)
    yield subject("matmul", "float16", "cupy.matmul", product)
    for v in ("float32", "float64"):
        yield subject("sum", v, "cupy.sum", lambda x: cp.sum(x, axis=1))
        yield subject("dot", v, "cupy.einsum", lambda a, b: cp.einsum("ij,ij->i", a, b))
