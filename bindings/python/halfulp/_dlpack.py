"""Arrays of other libraries in the memory of the host, by DLPack: JAX, torch, array-API objects.

Operands are read where they lie. Results are handed to the library of the first such operand, where
they lie too; what it does not take stays a NumPy array. docs/arrays.md.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from halfulp import _core

_HOST = (1, 3, 11)  # CPU; pinned memory of CUDA and ROCm: kDLCPU, kDLCUDAHost, kDLROCMHost
_DEVICES = {2: "CUDA", 8: "Metal", 10: "ROCm", 13: "CUDA managed", 14: "oneAPI"}
_OWN = (np.ndarray, np.generic, int, float, list, tuple)
_ALIGNMENT = 64  # what XLA asks for: it copies what has less


def is_foreign(x: Any) -> bool:
    """Whether x is an array that speaks DLPack and is not NumPy's."""
    return not isinstance(x, _OWN) and hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__")


def bits_of(x: Any, what: str) -> tuple[NDArray[Any], str]:
    """The memory of x as unsigned integers, one per element, and the name of its dtype. Read-only
    where its library says so, or cannot say (DLPack before 1.0).
    """
    try:
        device, number = map(int, x.__dlpack_device__())
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{what} cannot be read by DLPack: its device is no pair of integers ({error})"
        ) from None
    if device not in _HOST:
        raise TypeError(
            f"{what} is in the memory of a device ({_DEVICES.get(device, device)} {number}); "
            "copy it to the host, or give hu.round or hu.encode a tensor of torch "
            "or an array of CuPy"
        )
    try:
        try:
            capsule = x.__dlpack__(max_version=(1, 1), copy=False)
        except TypeError:  # before DLPack 1.0 there are no such options
            capsule = x.__dlpack__()
        bits, dtype = _core.read_dlpack(capsule)
    except (BufferError, TypeError) as error:
        raise TypeError(f"{what} cannot be read by DLPack: {error}") from error
    return bits, dtype


def _bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            "bfloat16 is a dtype of ml_dtypes, which is not installed; pip install ml_dtypes"
        ) from None
    return np.dtype(ml_dtypes.bfloat16)


def as_numpy(bits: NDArray[Any], dtype: str) -> NDArray[Any] | None:
    """The same memory as numbers of NumPy's dtype of that name, or of bfloat16; None if there is
    none.
    """
    if dtype == "bfloat16":
        return bits.view(_bfloat16())
    try:
        return bits.view(np.dtype(dtype))
    except TypeError:
        return None


def numbers(x: Any, what: str) -> NDArray[Any]:
    """x as an array of NumPy of whatever numbers it has, read where it lies."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{what} is a masked array; pass x.filled(...) or x.data")
    if not is_foreign(x):
        return np.asarray(x)
    bits, dtype = bits_of(x, what)
    array = as_numpy(bits, dtype)
    if array is None:
        raise TypeError(f"{what} has dtype {dtype}, which NumPy lacks; convert it first")
    return array


def written(out: Any) -> Any:
    """The array that `out` is, to be written: of NumPy, or the memory of another library's."""
    if not is_foreign(out):
        return out
    array = as_numpy(*bits_of(out, "out"))
    if array is None:
        raise TypeError("out must hold float16, bfloat16, float32, float64 or unsigned integers")
    if not array.flags.writeable:
        raise TypeError(
            "out may not be written, or its library cannot say that it may (DLPack before 1.0); "
            "pass a NumPy array"
        )
    return array


def empty(operands: Sequence[Any], shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """np.empty; if another library will have it, where that need not move it."""
    if not any(is_foreign(x) for x in operands):
        return np.empty(shape, dtype)
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(shape)


class _Exported:
    """An array of NumPy for DLPack, also of ml_dtypes' dtypes, which NumPy itself refuses."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        array = self._array
        if array.dtype.isbuiltin == 1:
            return array.__dlpack__(**options)
        capsule = array.view(f"u{array.itemsize}").__dlpack__(**options)
        _core.rename_dlpack_type(capsule, array.dtype.name)
        return capsule


def _taker(x: Any) -> Callable[[Any], Any] | None:
    """The from_dlpack of x's library."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        found: Callable[[Any], Any] = torch.from_dlpack
        return found
    if hasattr(x, "__array_namespace__"):
        return getattr(x.__array_namespace__(), "from_dlpack", None)
    return None


def like(operands: Sequence[Any], result: NDArray[Any]) -> Any:
    """The result as an array of the library of the first operand that is not NumPy's, if it takes
    it unchanged; else as it is.
    """
    foreign = next((x for x in operands if is_foreign(x)), None)
    take = None if foreign is None else _taker(foreign)
    if take is None:
        return result
    try:
        array = take(_Exported(result))
    except (BufferError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return result  # it has no such dtype
    # JAX makes 32 bits of 64 where it is not told to have these.
    dtype = str(getattr(array, "dtype", None)).rpartition(".")[2]  # float32, torch.float32, …
    return array if dtype == result.dtype.name else result
