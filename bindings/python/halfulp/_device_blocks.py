"""Block formats of arrays that live on a GPU: tensors of torch, arrays of CuPy.

As in _device.py, work is queued on the library's current stream and nothing waits for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from halfulp import _core
from halfulp._blocks import Quantized, given_tensor_scale, quantize
from halfulp._core import BlockFormat, Format, How
from halfulp._device import _KINDS, _cuda, _Library, _library_of
from halfulp._elementwise import _code_dtype, decode
from halfulp._formats import format as as_format


@dataclass(frozen=True, eq=False, repr=False)
class DeviceQuantized(Quantized):
    """A tensor in a block format on a GPU: the fields of `Quantized` as arrays of the library that
    x came from, on its device. tensor_scale is an array of one float32. source: the dtype of x.
    """

    codes: Any
    scales: Any
    tensor_scale: Any = None
    zero_points: Any = None
    source: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    @property
    def scale_values(self) -> Any:
        """Not on a GPU."""
        raise TypeError("scale_values are not for arrays on a GPU; use q.host().scale_values")

    @property
    def bits(self) -> int:
        """All bits of the tensor: codes, scales, zero points and the tensor scale."""
        scales = int(np.prod(tuple(self.scales.shape), dtype=np.int64))
        codes = int(np.prod(self.shape, dtype=np.int64))
        zero_bits = 0 if self.zero_points is None else scales * self.format.element_bits
        tensor_bits = 0 if self.tensor_scale is None else 32
        scale_bits = scales * self.format.scale.width
        return codes * self.format.element_bits + scale_bits + zero_bits + tensor_bits

    def host(self) -> Quantized:
        """A copy in the memory of the host. Waits for the device."""
        library = _library_of(self.codes)
        tensor = self.tensor_scale
        return Quantized(
            library.to_host(self.codes),
            library.to_host(self.scales),
            self.format,
            self.axis,
            None if tensor is None else np.float32(library.to_host(tensor)),
            None if self.zero_points is None else library.to_host(self.zero_points),
        )

    def dequantize(self, dtype: Any = None, rounding: str | None = None) -> Any:
        """The values, as an array on the same device, in float32 where elements times scales have
        at most 24 bits of precision, else float64, unless dtype (a name, or the library's) says
        otherwise.

        Values are exact, or rounded once in `rounding`, a deterministic mode. Without it the dtype
        must have every value that the format can take (after an x of dtype `source`): a single one
        that it lacks could not be reported without waiting, as it is on the host.
        """
        f = self.format
        if dtype is None:
            needed = f.element.precision + f.scale.precision + (24 if f.tensor_target else 0)
            dtype = "float32" if needed <= 24 else "float64"
        name = str(dtype).removeprefix("torch.")
        if name not in _KINDS:
            name = np.dtype(dtype).name
        if _KINDS.get(name, "code").startswith("code"):
            raise TypeError(f"dtype is {name}; it must be float16, bfloat16, float32 or float64")
        if rounding is None and not _holds_every_value(as_format(_KINDS[name]), f, self.source):
            raise ValueError(
                f"{f.name} has values that {name} does not have, which a GPU cannot report; ask "
                "for a wider dtype, such as float64, or give rounding='nearest-even'"
            )
        library = _library_of(self.codes)
        with library.on_device_of(self.codes):
            library.require_contiguous(self.codes, "codes")
            library.require_contiguous(self.scales, "scales")
            out = library.new(self.codes, list(self.shape), name)
            _cuda().dequantize(
                _blocks(library, self.codes, self.scales, self.zero_points, self.tensor_scale),
                f,
                self.axis,
                list(self.shape),
                library.address(out),
                _KINDS[name],
                rounding or "nearest-even",
                library.stream(),
            )
        return out

    def trusted(self, x: Any) -> Any:
        """Not on a GPU."""
        raise TypeError("trusted is not for arrays on a GPU; use q.host().trusted(x)")

    def pack(self) -> Any:
        """Codes of 4 or 8 bits without gaps, as `halfulp.pack` packs them, on the same device."""
        bits = self.format.element_bits
        flat = self.codes.reshape(-1)
        if bits == 8:
            return flat
        if bits != 4:
            raise ValueError(
                f"codes of {bits} bits are not packed on a GPU, only those of 4 and 8; use "
                "q.host().pack()"
            )
        packed = flat[0::2] | 0
        packed[: flat.shape[0] // 2] |= flat[1::2] << 4
        return packed

    def unpack(self, packed: Any) -> Quantized:
        """Not on a GPU."""
        raise TypeError("unpack is not for arrays on a GPU; use q.host().unpack(packed)")

    def double_quantize(self, scale_format: Any = None, center: bool = True) -> Quantized:
        """Not on a GPU."""
        raise TypeError("double_quantize is not for arrays on a GPU; use q.host()")

    def __repr__(self) -> str:
        blocks = "x".join(map(str, self.scales.shape)) or "1"
        return (
            f"DeviceQuantized({self.format.name}, shape={self.shape}, axis={self.axis}, "
            f"scales={blocks}, device={self.codes.device})"
        )


def _blocks(
    library: _Library,
    codes: Any,
    scales: Any,
    zero_points: Any,
    tensor: Any,
    tensor_given: bool = False,
) -> Any:
    return _cuda().DeviceQuantized(
        library.address(codes),
        _KINDS[library.dtype_name(codes)],
        library.address(scales),
        _KINDS[library.dtype_name(scales)],
        0 if zero_points is None else library.address(zero_points),
        0 if tensor is None else library.address(tensor),
        tensor_given,
    )


def _largest(f: Format) -> Fraction:
    return Fraction(float(decode(np.array([f.largest_code], _code_dtype(f)), f)[0]))


@cache
def _holds_every_value(out: Format, f: BlockFormat, source: str | None) -> bool:
    """Whether `out` has the value of every element under every scale that the rule gives a block of
    finite numbers of the dtype `source` (None: any scale). False may be too careful.
    """
    parts = [f.element, f.scale] + [as_format("binary32")] * (f.tensor_target != 0)
    # A factor of one bit is a power of two. Less its zero point an integer has two bits more.
    precision = sum(p.precision for p in parts if p.precision > 1) + 2 * f.is_affine
    quantum = sum(p.emin - p.precision + 1 for p in parts)
    top = math.prod(_largest(p) for p in parts) * (4 if f.is_affine else 1)
    if f.coding == "intfull":
        top *= Fraction(1 << f.element_bits, (1 << f.element_bits) - 2)  # -2^p
    if source is not None and f.rule in ("floor", "ceil", "rceil", "even"):
        # The scale grows with the block's largest magnitude.
        dtype = _KINDS[source]
        largest = np.array([float(_largest(as_format(dtype)))], np.float64)
        scale = quantize(largest, f).scale_values
        top = top / _largest(f.scale) * Fraction(float(scale.ravel()[0]))
    return (
        precision <= out.precision
        and quantum >= out.emin - out.precision + 1
        and top <= _largest(out)
    )


def _given_tensor_scale(value: Any, x: Any, library: _Library) -> Any:
    """A number, or an array of one float32 beside x."""
    if not library.is_mine(value):
        return float(given_tensor_scale(value))
    if library.dtype_name(value) != "float32" or math.prod(value.shape) != 1:
        raise TypeError(
            f"tensor_scale has dtype {library.dtype_name(value)} and shape {tuple(value.shape)}; "
            "it must be a number, or one float32"
        )
    if value.device != x.device:
        raise ValueError(f"tensor_scale is on {value.device}, but x on {x.device}")
    return value


def quantize_on_device(
    x: Any, f: BlockFormat, axis: int, how: How, tensor_scale: Any = None
) -> DeviceQuantized:
    """x, which is contiguous, in the block format. axis: from 0 on."""
    cuda = _cuda()
    library = _library_of(x)
    dtype = library.dtype_name(x)
    if _KINDS.get(dtype, "code").startswith("code"):
        raise TypeError(f"x has dtype {dtype}; on a GPU pass float16, bfloat16, float32 or float64")
    shape = list(x.shape)
    counts = _core.block_counts(f, shape, axis)
    with library.on_device_of(x):
        library.require_contiguous(x, "x")
        codes = library.new(x, shape, "uint8" if f.element_bits <= 8 else "uint16")
        scales = library.new(x, counts, np.dtype(_code_dtype(f.scale)).name)
        zero_points = library.new(x, counts, "int32") if f.is_affine else None
        # The scale's code and, behind it, what it is made of: TensorScale of blocks.hpp.
        tensor = library.new(x, [4], "float32") if f.tensor_target else None
        if tensor_scale is not None:
            _core.require_tensor_scale(f)
            tensor[:1] = _given_tensor_scale(tensor_scale, x, library)
        cuda.quantize(
            library.address(x),
            _KINDS[dtype],
            shape,
            f,
            axis,
            _blocks(library, codes, scales, zero_points, tensor, tensor_scale is not None),
            how,
            library.stream(),
        )
    scale = None if tensor is None else tensor[:1].reshape(())
    return DeviceQuantized(codes, scales, f, axis, scale, zero_points, source=dtype)
