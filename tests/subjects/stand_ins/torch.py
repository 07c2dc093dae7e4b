"""As much of torch as torch_library.py and hu.conform call, on codes of NumPy. README.md has why."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import special

import halfulp as hu

__version__ = "0 (stand-in)"
_PLAIN = ("float32", "float64", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")


class dtype:  # noqa: N801
    def __init__(self, name: str) -> None:
        self.name = name
        wide = {"bfloat16": "u2"}.get(name, "u1")
        self.stored = np.dtype(name if name in _PLAIN else wide)

    def __str__(self) -> str:
        return f"torch.{self.name}"


for _name in (*_PLAIN, "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"):
    globals()[_name] = dtype(_name)
_DTYPES = {n: d for n, d in globals().items() if isinstance(d, dtype)}


class device:  # noqa: N801
    def __init__(self, name: Any) -> None:
        self.type = str(name).partition(":")[0]

    def __str__(self) -> str:
        return self.type


class Tensor:
    """Stored numbers, or codes of a dtype that NumPy lacks."""

    def __init__(self, stored: Any, kind: dtype, where: Any = "cpu") -> None:
        self.stored, self.dtype, self.device = np.asarray(stored), kind, device(where)
        self.grad: Any = None

    shape = property(lambda self: self.stored.shape)

    def numbers(self) -> Any:
        if self.dtype.name in _PLAIN:
            wide = np.float64 if "float" in self.dtype.name else np.int64
            return self.stored.astype(np.bool_ if self.dtype.name == "bool" else wide)
        return hu.decode(self.stored, self.dtype.name, dtype=np.float64)

    def like(self, numbers: Any, kind: dtype | None = None) -> Tensor:
        return _from(numbers, kind or self.dtype, self.device)

    def numel(self) -> int:
        return int(self.stored.size)

    def _same(self, stored: Any) -> Tensor:
        return Tensor(stored, self.dtype, self.device)

    def reshape(self, *shape: Any) -> Tensor:
        return self._same(self.stored.reshape(*shape))

    def transpose(self, a: int, b: int) -> Tensor:
        return self._same(self.stored.swapaxes(a, b))

    def t(self) -> Tensor:
        return self._same(self.stored.T)

    def contiguous(self) -> Tensor:
        return self._same(np.ascontiguousarray(self.stored))

    def clone(self) -> Tensor:
        return self._same(self.stored.copy())

    def detach(self) -> Tensor:
        return self

    def requires_grad_(self) -> Tensor:
        return self

    def backward(self, gradient: Any = None) -> None:
        raise NotImplementedError("this stand-in has no gradients")

    def view(self, kind: dtype) -> Tensor:
        return Tensor(self.stored.view(kind.stored), kind, self.device)

    def copy_(self, other: Tensor) -> Tensor:
        self.stored[...] = other.stored
        return self

    def cpu(self) -> Tensor:
        return Tensor(self.stored, self.dtype, "cpu")

    def numpy(self) -> Any:
        return self.stored

    def to(self, what: Any) -> Tensor:
        if isinstance(what, dtype):
            return self.like(self.numbers(), what)
        return Tensor(self.stored, self.dtype, what)

    def float(self) -> Tensor:
        return self.to(_DTYPES["float32"])

    def __getitem__(self, at: Any) -> Tensor:
        return self._same(self.stored[at])

    def __setitem__(self, at: Any, value: Tensor) -> None:
        self.stored[at] = value.stored

    def __add__(self, other: Any) -> Tensor:
        return self.like(self.numbers() + _numbers(other))

    def __mul__(self, other: Any) -> Tensor:
        return self.like(self.numbers() * _numbers(other))

    def __matmul__(self, other: Tensor) -> Tensor:
        return matmul(self, other)

    def __eq__(self, other: Any) -> Any:
        return Tensor(self.numbers() == _numbers(other), _DTYPES["bool"], self.device)

    __hash__ = object.__hash__

    def __neg__(self) -> Tensor:
        return self.like(-self.numbers())

    def __invert__(self) -> Tensor:
        return self._same(~self.stored)

    def tril(self) -> Tensor:
        return self._same(np.tril(self.stored))

    def masked_fill(self, mask: Tensor, value: Any) -> Tensor:
        return self.like(np.where(mask.stored, value, self.numbers()))

    def gather(self, dim: int, index: Tensor) -> Tensor:
        return self._same(np.take_along_axis(self.stored, index.stored, dim))


def _numbers(x: Any) -> Any:
    return x.numbers() if isinstance(x, Tensor) else x


def _from(numbers: Any, kind: dtype, where: Any) -> Tensor:
    if kind.name in _PLAIN:
        return Tensor(np.asarray(numbers).astype(kind.stored), kind, where)
    return Tensor(hu.encode(np.asarray(numbers, np.float64), kind.name), kind, where)


def from_numpy(a: Any) -> Tensor:
    return Tensor(a, _DTYPES[a.dtype.name])


def tensor(value: Any, device: Any = "cpu") -> Tensor:
    return Tensor(np.float32(value), _DTYPES["float32"], device)


def _filled(value: int, *shape: Any, dtype: Any = None, device: Any = "cpu") -> Tensor:
    shape = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
    kind = dtype or _DTYPES["float32"]
    return Tensor(np.full(shape, value, kind.stored), kind, device)


def ones(*shape: Any, **more: Any) -> Tensor:
    return _filled(1, *shape, **more)


def zeros(*shape: Any, **more: Any) -> Tensor:
    return _filled(0, *shape, **more)


empty = zeros


def softmax(x: Tensor, dim: int) -> Tensor:
    faults = dict(
        f.split(":")[::-1] for f in os.environ.get("HALFULP_STAND_IN", "").split(",") if f
    )
    fault = faults.get(x.dtype.name)  # what the runner must outlive
    if fault == "dies":
        os.abort()
    elif fault == "hangs":
        time.sleep(3600)
    elif fault == "spoils":
        cuda.spoilt = True
        cuda.synchronize()
    return x.like(special.softmax(x.numbers(), axis=dim) if x.numel() else x.numbers())


def log_softmax(x: Tensor, dim: int) -> Tensor:
    return x.like(special.log_softmax(x.numbers(), axis=dim) if x.numel() else x.numbers())


def logsumexp(x: Tensor, dim: int) -> Tensor:
    return x.like(special.logsumexp(x.numbers(), axis=dim))


def sum(x: Tensor, dim: int) -> Tensor:
    return x.like(x.numbers().sum(axis=dim))


def matmul(a: Tensor, b: Tensor) -> Tensor:
    return a.like(a.numbers() @ b.numbers())


def mm(a: Tensor, b: Tensor, *, out_dtype: dtype) -> Tensor:
    return a.like(a.numbers() @ b.numbers(), out_dtype)


def addmm(c: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return c.like(a.numbers() @ b.numbers() + c.numbers())


def _int_mm(a: Tensor, b: Tensor) -> Tensor:
    assert a.shape[0] > 16
    assert a.shape[1] % 8 == 0
    assert b.shape[1] % 8 == 0
    return a.like(a.numbers() @ b.numbers(), _DTYPES["int32"])


def _scaled_mm(
    a: Tensor,
    b: Tensor,
    scale_a: Tensor,
    scale_b: Tensor,
    bias: Any = None,
    scale_result: Any = None,
    out_dtype: Any = None,
    use_fast_accum: bool = False,
) -> Tensor:
    (m, k), n = a.shape, b.shape[1]
    assert k % 16 == 0
    assert n % 16 == 0
    assert a.stored.flags.c_contiguous
    assert b.stored.flags.f_contiguous
    left, right = scale_a.numbers(), scale_b.numbers()
    if left.shape == (m, -(-k // 128)) and left.shape[1:] != (1,):
        assert scale_a.stored.strides[0] == 4 or m == 1
        left = np.repeat(left, 128, axis=1)[:, :k]
        right = np.repeat(np.repeat(right, 128, axis=0)[:k], 128, axis=1)[:, :n]
    elif (left.ndim and left.shape != (m, 1)) or (
        right.ndim and right.shape not in ((1, n), (-(-k // 128), -(-n // 128)))
    ):
        raise RuntimeError("Invalid scaling configuration.")
    elif right.ndim and right.shape != (1, n):
        right = np.repeat(np.repeat(right, 128, axis=0)[:k], 128, axis=1)[:, :n]
    return a.like((a.numbers() * left) @ (b.numbers() * right), out_dtype)


def _attention(q: Tensor, k: Tensor, v: Tensor, is_causal: bool, scale: float) -> tuple[Any, Any]:
    scores = q.numbers() @ k.numbers().swapaxes(2, 3) * scale
    if is_causal:
        scores = np.where(np.tril(np.ones(scores.shape[2:], np.bool_)), scores, -np.inf)
    lse = special.logsumexp(scores, axis=-1)
    weights = np.exp(scores - lse[..., None])
    lse = np.where(np.isposinf(lse), np.nan, lse)
    return q.like(weights @ v.numbers()), q.like(lse, _DTYPES["float32"])


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: Any = None,
) -> tuple[Any, ...]:
    assert query.shape[3] % 8 == 0
    return (*_attention(query, key, value, is_causal, scale), *[None] * 7)


def _efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Any,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: Any = None,
) -> tuple[Any, ...]:
    out, lse = _attention(query, key, value, is_causal, scale)
    rows = -(-lse.shape[2] // 32) * 32  # it fills up to 32
    wide = np.full((*lse.shape[:2], rows), np.inf)
    wide[:, :, : lse.shape[2]] = lse.numbers()
    return out, lse.like(wide), None, None


def _cudnn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Any,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: Any = None,
) -> tuple[Any, ...]:
    if query.shape[2] == 1:
        raise RuntimeError("cuDNN Frontend error: No valid execution plans built.")
    out, lse = _attention(query, key, value, is_causal, scale)
    return (out, lse.reshape((*lse.shape, 1)), *[None] * 7)


def _normed(x: Tensor, shape: Any, eps: float, centred: bool) -> Any:
    assert shape == x.shape[1:]
    v = x.numbers()
    v = v - v.mean(axis=1, keepdims=True) if centred and v.size else v
    return v / np.sqrt((v * v).mean(axis=1, keepdims=True) + eps)


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    v = x.numbers()
    if approximate == "none":
        return x.like(v * special.ndtr(v))
    return x.like(0.5 * v * (1 + np.tanh(0.79788456080286536 * (v + 0.044715 * v**3))))


def _pad(x: Tensor, width: tuple[int, int]) -> Tensor:
    return x._same(np.pad(x.stored, [(0, 0)] * (x.stored.ndim - 1) + [width]))


def _cross_entropy(x: Tensor, target: Tensor, reduction: str) -> Tensor:
    return -log_softmax(x, 1).gather(1, target[:, None])[:, 0]


class _AdamW:
    def __init__(self, params: Any, **how: Any) -> None:
        self.params, self.how, self.state = params, how, {}

    def step(self) -> None:
        for p in self.params:
            s, h = self.state[p], self.how
            t, g, b1, b2 = float(s["step"].numbers()) + 1, p.grad.numbers(), *h["betas"]
            w = p.numbers() * (1 - h["lr"] * h["weight_decay"])
            m = s["exp_avg"].numbers() * b1 + (1 - b1) * g
            v = s["exp_avg_sq"].numbers() * b2 + (1 - b2) * g * g
            w = w - h["lr"] / (1 - b1**t) * m / (np.sqrt(v) / np.sqrt(1 - b2**t) + h["eps"])
            p.copy_(p.like(w))
            s["exp_avg"], s["exp_avg_sq"] = p.like(m), p.like(v)


def _module(name: str, **content: Any) -> Any:
    made = types.ModuleType(f"torch.{name}")
    made.__dict__.update(content)
    sys.modules[f"torch.{name}"] = made
    return made


@contextlib.contextmanager
def _sdpa_kernel(backend: str) -> Iterator[None]:
    yield


_BACKENDS = types.SimpleNamespace(
    MATH="m", FLASH_ATTENTION="f", EFFICIENT_ATTENTION="e", CUDNN_ATTENTION="c"
)
nn = _module(
    "nn",
    functional=_module(
        "nn.functional",
        layer_norm=lambda x, shape, w, b, eps: x.like(
            _normed(x, shape, eps, True) * w.numbers() + b.numbers()
        ),
        rms_norm=lambda x, shape, w, eps: x.like(_normed(x, shape, eps, False) * w.numbers()),
        gelu=_gelu,
        silu=lambda x: x.like(x.numbers() * special.expit(x.numbers())),
        pad=_pad,
        cross_entropy=_cross_entropy,
        scaled_dot_product_attention=lambda q, k, v, scale, is_causal: _attention(
            q, k, v, is_causal, scale
        )[0],
    ),
    attention=_module("nn.attention", SDPBackend=_BACKENDS, sdpa_kernel=_sdpa_kernel),
)
linalg = _module("linalg", vecdot=lambda a, b: a.like((a.numbers() * b.numbers()).sum(axis=-1)))
optim = _module("optim", AdamW=_AdamW)
backends = types.SimpleNamespace(
    cuda=types.SimpleNamespace(
        matmul=types.SimpleNamespace(
            allow_tf32=False,
            allow_fp16_reduced_precision_reduction=True,
            allow_bf16_reduced_precision_reduction=True,
        )
    )
)
version = types.SimpleNamespace(cuda="0")
ops = types.SimpleNamespace(
    aten=types.SimpleNamespace(
        _scaled_dot_product_flash_attention=_flash,
        _scaled_dot_product_efficient_attention=_efficient,
        _scaled_dot_product_cudnn_attention=_cudnn,
    )
)


class cuda:  # noqa: N801
    spoilt = False

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def get_device_name(number: Any = 0) -> str:
        return "a host that stands in for a GPU"

    @staticmethod
    def synchronize(where: Any = None) -> None:
        if cuda.spoilt:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
