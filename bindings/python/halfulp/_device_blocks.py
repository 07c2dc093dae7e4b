"""Block formats of arrays that live on a GPU: tensors of torch, arrays of CuPy.

As in _device.py, work is queued on the library's current stream and nothing waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from halfulp import _core
from halfulp._blocks import Quantized
from halfulp._core import BlockFormat, How
from halfulp._device import _KINDS, _cuda, _Library, _library_of
from halfulp._elementwise import _code_dtype


@dataclass(frozen=True, eq=False, repr=False)
class DeviceQuantized(Quantized):
    """A tensor in a block format on a GPU: the fields of `Quantized` as arrays of the library that
    x came from, on its device. tensor_scale is an array of one float32.
    """

    codes: Any
    scales: Any
    tensor_scale: Any = None
    zero_points: Any = None

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

        Each is rounded once in `rounding` (default nearest-even). An error that depends on data
        cannot be reported from a device, so what the host would report is rounded.
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


def _blocks(library: _Library, codes: Any, scales: Any, zero_points: Any, tensor: Any) -> Any:
    return _cuda().DeviceQuantized(
        library.address(codes),
        _KINDS[library.dtype_name(codes)],
        library.address(scales),
        _KINDS[library.dtype_name(scales)],
        0 if zero_points is None else library.address(zero_points),
        0 if tensor is None else library.address(tensor),
    )


def quantize_on_device(x: Any, f: BlockFormat, axis: int, how: How) -> DeviceQuantized:
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
        cuda.quantize(
            library.address(x),
            _KINDS[dtype],
            shape,
            f,
            axis,
            _blocks(library, codes, scales, zero_points, tensor),
            how,
            library.stream(),
        )
    scale = None if tensor is None else tensor[:1].reshape(())
    return DeviceQuantized(codes, scales, f, axis, scale, zero_points)
