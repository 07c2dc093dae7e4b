"""Rounding of arrays that live on a GPU: tensors of torch, arrays of CuPy. Block formats are in
_device_blocks.py.

Work is queued on the library's current stream of the array's device and nothing waits for it, so
policies that report an error are refused. No array is copied.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from halfulp._core import Format, How, NumberSystem

_KINDS = {
    "float16": "binary16",
    "bfloat16": "bfloat16",
    "float32": "binary32",
    "float64": "binary64",
    "uint8": "code8",
    "uint16": "code16",
    "uint32": "code32",
    "uint64": "code64",
}


def is_device_array(x: Any) -> bool:
    """Whether x is an array in the memory of a GPU. Imports nothing."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return bool(x.is_cuda)
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, cupy.ndarray)


@dataclass(frozen=True)
class _Library:
    """What is asked of torch or CuPy."""

    module: Any

    @property
    def is_torch(self) -> bool:
        return bool(self.module.__name__ == "torch")

    def dtype_name(self, x: Any) -> str:
        return str(x.dtype).removeprefix("torch.")

    def address(self, x: Any) -> int:
        return int(x.data_ptr() if self.is_torch else x.data.ptr)

    def strides(self, x: Any) -> list[int]:
        if self.is_torch:
            return [s * x.element_size() for s in x.stride()]
        return list(x.strides)

    def on_device_of(self, x: Any) -> AbstractContextManager[Any]:
        device: AbstractContextManager[Any] = (
            self.module.cuda.device(x.device) if self.is_torch else x.device
        )
        return device

    def stream(self) -> int:
        if self.is_torch:
            return int(self.module.cuda.current_stream().cuda_stream)
        return int(self.module.cuda.get_current_stream().ptr)

    def empty(self, like: Any, dtype: str) -> Any:
        return self.module.empty_like(like, dtype=getattr(self.module, dtype))

    def new(self, like: Any, shape: list[int], dtype: str) -> Any:
        where = {"device": like.device} if self.is_torch else {}
        return self.module.empty(tuple(shape), dtype=getattr(self.module, dtype), **where)

    def contiguous(self, x: Any, dtype: str) -> Any:
        """x in that dtype, in row-major order; x itself where it is that."""
        if self.is_torch:
            return x.to(getattr(self.module, dtype)).contiguous()
        return self.module.ascontiguousarray(x, dtype=dtype)

    def nan_where_different(self, x: Any, y: Any) -> Any:
        """x, of float32, with NaN where y has other bits."""
        m = self.module
        return m.where(x.view(m.int32) == y.view(m.int32), x, m.full_like(x, float("nan")))

    def canonical(self, x: Any) -> Any:
        """x with one NaN for all."""
        return self.module.where(self.module.isnan(x), self.module.full_like(x, float("nan")), x)

    def has(self, dtype: str) -> bool:
        return hasattr(self.module, dtype)

    def require_contiguous(self, x: Any, what: str) -> None:
        if not (x.is_contiguous() if self.is_torch else x.flags.c_contiguous):
            copy = "contiguous()" if self.is_torch else "copy()"
            raise ValueError(
                f"{what} is a view that is not contiguous, and block formats on a GPU copy "
                f"nothing; pass {what}.{copy}"
            )

    def to_host(self, x: Any) -> Any:
        return x.cpu().numpy() if self.is_torch else self.module.asnumpy(x)

    def is_mine(self, x: Any) -> bool:
        return isinstance(x, self.module.Tensor if self.is_torch else self.module.ndarray)


def _library_of(x: Any) -> _Library:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return _Library(torch)
    return _Library(sys.modules["cupy"])


def _cuda() -> Any:
    try:
        from halfulp import _cuda
    except ImportError:
        raise RuntimeError(
            "x is on a GPU, but this build of halfulp has no CUDA; build it where nvcc is, or pass "
            "an array of the host"
        ) from None
    return _cuda


def round_on_device(
    x: Any, f: Format | NumberSystem, out: Any, flags: bool, how: How, *, codes: bool
) -> Any:
    """x rounded once to f, as values of its dtype or as codes. Arguments as for `round`."""
    cuda = _cuda()
    library = _library_of(x)
    if isinstance(f, NumberSystem):
        raise TypeError(
            f"{f.name} is not for arrays on a GPU in this version; pass an array of the host"
        )
    dtype = library.dtype_name(x)
    if _KINDS.get(dtype, "code").startswith("code"):
        raise TypeError(f"x has dtype {dtype}; on a GPU pass float16, bfloat16, float32 or float64")
    wanted = dtype
    if codes:
        bits = next((b for b in (8, 16, 32, 64) if f.width <= b), None)
        if bits is None:
            raise ValueError(f"{f.name} has {f.width} bits; arrays of codes have at most 64")
        wanted = f"uint{bits}"
    if out is None:
        out = library.empty(x, wanted)
    elif not library.is_mine(out) or library.dtype_name(out) != wanted or out.device != x.device:
        raise TypeError(f"out must be an array like x, of dtype {wanted} and on its device")
    elif tuple(out.shape) != tuple(x.shape):
        raise ValueError(f"out has shape {tuple(out.shape)}, but the result has {tuple(x.shape)}")
    flag_bytes = None
    with library.on_device_of(x):
        if flags:
            flag_bytes = library.module.zeros(
                tuple(x.shape),
                dtype=library.module.uint8,
                **({"device": x.device} if library.is_torch else {}),
            )
        cuda.convert(
            library.address(x),
            _KINDS[dtype],
            library.strides(x),
            library.address(out),
            _KINDS[wanted],
            library.strides(out),
            list(x.shape),
            f,
            how,
            0 if flag_bytes is None else library.address(flag_bytes),
            library.stream(),
        )
    return out if flag_bytes is None else (out, flag_bytes)
