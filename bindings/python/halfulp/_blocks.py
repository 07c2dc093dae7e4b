"""Block formats: elements that share a scale (MX, NVFP4, block floating point, scaled integers).

What each bit means is in docs/block-formats.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from halfulp import _core
from halfulp._core import BlockFormat, Format
from halfulp._device import is_device_array
from halfulp._elementwise import (
    _CODE_KINDS,
    _KINDS,
    _code_dtype,
    _kind,
    _raw,
    _require_native,
    _values,
    decode,
    make_how,
)
from halfulp._elementwise import round as round_to
from halfulp._elementwise import sub as subtract
from halfulp._formats import format as as_format

_INTEGER = re.compile(r"(int|intfull|bipolar|intaffine|uintaffine)(\d+)(q-?\d+)?")
_QUANTA = {"bipolar": "q-1"}  # one step from value to value
Block = int | tuple[int, int] | str


def _element_text(element: str | Format) -> str:
    integer = _INTEGER.fullmatch(element) if isinstance(element, str) else None
    if integer:
        return integer[1] + integer[2] + (integer[3] or _QUANTA.get(integer[1], "q0"))
    return as_format(element).canonical_name


def _block_text(block: Block) -> str:
    if isinstance(block, str):
        if block not in ("channel", "tensor"):
            raise ValueError(
                f"block '{block}' is unknown; give a size, (rows, columns), 'channel' or 'tensor'"
            )
        return block
    sides = block if isinstance(block, tuple) else (1, block)
    if len(sides) != 2 or any(
        isinstance(n, bool) or not isinstance(n, int | np.integer) for n in sides
    ):
        raise TypeError(
            f"block must be an integer, (rows, columns), 'channel' or 'tensor', not {block!r}"
        )
    for n in sides:
        if not 1 <= n <= 1 << 20:
            raise ValueError(
                f"block is {block}, but each side must be 1 to {1 << 20}; "
                "'tensor' takes all elements as one block"
            )
    return f"{sides[0]}x{sides[1]}"


def _is_number_name(name: str) -> bool:
    try:
        as_format(name)
    except ValueError:
        return False
    return True


def block_format(
    name: str | BlockFormat | None = None,
    *,
    element: str | Format | None = None,
    scale: str | Format | None = None,
    rule: str | None = None,
    block: Block | None = None,
    tensor_target: int | None = None,
    scale_rounding: str | None = None,
) -> BlockFormat:
    """The block format of that name, or one described by its parts, or a named one with changes.

    name: one of `block_formats()`, bfp_m7_e8_b16 (7 magnitude bits, 8 scale bits, blocks of 16; _tc
    for two's complement), or a canonical name. element: a format, or int8, intfull8, bipolar8,
    intaffine8, uintaffine8 with the exponent of their quantum, as in int8q-6. scale: a format.
    rule: floor, ceil, rceil, even (powers of two), absmax, minmax, te, mse, rms. block: a size
    along the axis, (rows, columns), "channel" or "tensor". tensor_target: the largest block scale
    that a second scale, per tensor in binary32, aims at; 0 for none. scale_rounding: the mode of
    absmax, minmax, mse and rms.
    """
    if isinstance(name, BlockFormat):
        base = name
    elif name is None:
        if element is None or scale is None or rule is None or block is None:
            raise TypeError("a block format without a name needs element, scale, rule and block")
        base = _core.parse_block_format("mxfp4")
        tensor_target, scale_rounding = tensor_target or 0, scale_rounding or "nearest-even"
    elif isinstance(name, str):
        try:
            base = _core.parse_block_format(name)
        except ValueError:
            if not _is_number_name(name):
                raise
            raise ValueError(
                f"{name} is a format of single numbers and no block format; round and encode take "
                "it, and blocks of it are described by block_format(element=...)"
            ) from None
    else:
        raise TypeError(f"a block format is a BlockFormat or its name, not {type(name).__name__}")
    given = (element, scale, rule, block, tensor_target, scale_rounding)
    if all(part is None for part in given):
        return base
    parts = base.canonical_name.removeprefix("block_").split("__")
    if block is not None:
        parts[0] = _block_text(block)
    if element is not None:
        parts[1] = _element_text(element)
    if scale is not None:
        parts[2] = as_format(scale).canonical_name
    if rule is not None:
        if not isinstance(rule, str):
            raise TypeError(f"rule must be a name, not {type(rule).__name__}")
        parts[3] = rule
    target = base.tensor_target if tensor_target is None else tensor_target
    mode = base.scale_rounding if scale_rounding is None else scale_rounding
    return _core.parse_block_format(f"block_{'__'.join(parts[:4])}__t{target}__{mode}")


def block_formats() -> dict[str, BlockFormat]:
    """All named block formats, by name."""
    return {name: f for name, f, _ in _core.named_block_formats()}


def pack(codes: ArrayLike, width: int) -> NDArray[np.uint8]:
    """Codes of `width` bits (1 to 16) without gaps, in row-major order, as bytes.

    Code i takes bits i*width ... of the stream, least significant first, and the low bits of a byte
    come first: for width 4 that is torch's float4_e2m1fn_x2, the even element in the low nibble.
    """
    array = np.asarray(codes)
    _require_width(width)
    if array.dtype.kind not in "ui" and array.size:
        raise TypeError(f"codes have dtype {array.dtype}; pass unsigned integers")
    if array.size and (int(array.min()) < 0 or int(array.max()) >= 1 << width):
        wrong = int(array.min()) if int(array.min()) < 0 else int(array.max())
        raise ValueError(
            f"code {wrong} is outside 0 to {(1 << width) - 1}, the codes of {width} bits"
        )
    dtype = np.uint8 if width <= 8 else np.uint16
    flat = np.ascontiguousarray(array.ravel(), dtype=dtype)
    return (_core.pack8 if width <= 8 else _core.pack16)(flat, width)


def unpack(packed: ArrayLike, width: int, shape: int | tuple[int, ...]) -> NDArray[Any]:
    """The codes that `pack` packed, as uint8 or uint16, in the shape given."""
    _require_width(width)
    data = np.asarray(packed)
    if data.dtype != np.uint8:
        raise TypeError(f"packed codes have dtype {data.dtype}; pass bytes as uint8")
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0 for n in sizes):
        raise ValueError(f"shape is {shape}, but must be of integers of at least 0")
    count = int(np.prod(sizes, dtype=np.int64))
    needed = (count * width + 7) // 8
    if data.size != needed:
        raise ValueError(
            f"{count} codes of {width} bits take {needed} bytes, but {data.size} were given"
        )
    flat = np.ascontiguousarray(data.ravel())
    return (_core.unpack8 if width <= 8 else _core.unpack16)(flat, count, width).reshape(sizes)


def _require_width(width: int) -> None:
    if isinstance(width, bool) or not isinstance(width, int | np.integer):
        raise TypeError(f"width must be an integer, not {type(width).__name__}")
    if not 1 <= width <= 16:
        raise ValueError(f"width is {width}, but must be 1 to 16 bits")


@dataclass(frozen=True, eq=False)
class Quantized:
    """A tensor in a block format.

    codes: one per element, uint8 or uint16, in the tensor's shape. scales: codes of format.scale,
    one per block. tensor_scale: of two-level formats, else None. zero_points: of affine integers,
    else None. doubled: what `double_quantize` made of the scales, else None.
    """

    codes: NDArray[Any]
    scales: NDArray[Any]
    format: BlockFormat
    axis: int
    tensor_scale: np.float32 | None = None
    zero_points: NDArray[np.int32] | None = None
    doubled: tuple[Quantized, np.float32] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def scale_values(self) -> NDArray[Any]:
        """The values of the scales (without the tensor scale), in float32 or float64, exactly."""
        return decode(self.scales, self.format.scale)

    @property
    def bits(self) -> int:
        """All bits of the tensor: codes, scales, zero points and the tensor scale."""
        if self.doubled is not None:
            scale_bits = self.doubled[0].bits + 32
        else:
            scale_bits = self.scales.size * self.format.scale.width
        zero_bits = 0 if self.zero_points is None else self.scales.size * self.format.element_bits
        tensor_bits = 0 if self.tensor_scale is None else 32
        return self.codes.size * self.format.element_bits + scale_bits + zero_bits + tensor_bits

    def dequantize(self, dtype: DTypeLike = None, rounding: str | None = None) -> Any:
        """The values, exactly: float32 where elements times scales have at most 24 bits of
        precision, else float64, unless dtype says otherwise.

        A value that the dtype does not have raises RoundingError; with `rounding`, a deterministic
        mode, values are rounded to it once instead.
        """
        f = self.format
        if dtype is None:
            needed = f.element.precision + f.scale.precision + (24 if f.tensor_target else 0)
            dtype = np.float32 if needed <= 24 else np.float64
        values = np.empty(self.shape, dtype)
        if values.dtype.name not in _KINDS:
            raise TypeError(
                f"dtype is {values.dtype}; it must be float16, bfloat16, float32 or float64"
            )
        tensor = np.float32(1 if self.tensor_scale is None else self.tensor_scale)
        codes, scales = np.ascontiguousarray(self.codes), np.ascontiguousarray(self.scales)
        _core.dequantize(
            codes.reshape(self.shape),
            _CODE_KINDS[codes.dtype.name],
            scales,
            _CODE_KINDS[scales.dtype.name],
            self.zero_points,
            int(tensor.view(np.uint32)),
            f,
            self.axis,
            _raw(values),
            _kind(values),
            rounding,
        )
        return values[()] if values.ndim == 0 else values

    def trusted(self, x: ArrayLike) -> NDArray[np.bool_]:
        """QuEST's trust mask: where |value - x| is at most half the step between values.

        x: what was quantised. Under rule `rms` half a step is RMS·α/(2^b - 1) with the scale as it
        was rounded. Compared exactly. For bipolar and symmetric integers with one scale.
        """
        f = self.format
        if f.coding not in ("bipolar", "int"):
            raise ValueError(
                f"{f.name} has no one step from value to value; trusted is for bipolar and "
                "symmetric integers"
            )
        values = np.asarray(_values(x), np.float64)
        if values.shape != self.shape:
            raise ValueError(f"x has shape {values.shape}, but what was quantised had {self.shape}")
        # The code 1 of integers is one step; in a bipolar code a value is half a step from 0.
        code, part = (1, 0.5) if f.coding == "int" else (1 << (f.element_bits - 1), 1.0)
        ones = replace(self, codes=np.full_like(self.codes, code))
        half = ones.dequantize(np.float64) * part
        error = subtract(values, self.dequantize(np.float64), "binary64", rounding="away")
        return np.asarray(np.abs(error) <= half)

    def pack(self) -> NDArray[np.uint8]:
        """The codes without gaps; see `halfulp.pack`."""
        return pack(self.codes, self.format.element_bits)

    def unpack(self, packed: ArrayLike) -> Quantized:
        """This tensor with the codes that `pack` gave, for instance after reading them from a
        file.
        """
        codes = unpack(packed, self.format.element_bits, self.shape)
        return Quantized(
            codes,
            self.scales,
            self.format,
            self.axis,
            self.tensor_scale,
            self.zero_points,
            self.doubled,
        )

    def double_quantize(
        self, scale_format: str | BlockFormat | None = None, center: bool = True
    ) -> Quantized:
        """This tensor with its binary32 scales quantised in turn, as QLoRA does; codes stay.

        The mean m of all scales, exact and rounded once to float32, is subtracted (if center),
        the differences (rounded to float32) are quantised along the flattened scales, and a scale
        becomes the float32 nearest to (dequantised difference + m). scale_format: by default
        E4M3 elements in blocks of 256 with binary32 scales.
        """
        if self.format.scale != as_format("binary32"):
            raise ValueError(
                f"double quantisation is for scales of binary32, not of {self.format.scale.name}"
            )
        inner_format = block_format(
            scale_format
            if scale_format is not None
            else "block_1x256__float8_e4m3fn__binary32__absmax"
        )
        values = self.scale_values.astype(np.float32).ravel()
        if values.size and not np.isfinite(values).all():
            raise ValueError("a block has the scale NaN; replace NaN and infinities first")
        mean = np.float32(0)
        if center and values.size:
            exact = sum((Fraction(float(v)) for v in values), Fraction(0)) / values.size
            mean = _nearest_float32(exact)
        inner = quantize(subtract(values, mean, "binary32"), inner_format)
        sums = inner.dequantize(np.float64).astype(np.float64)
        restored = np.array(
            [_nearest_float32(Fraction(float(v)) + Fraction(float(mean))) for v in sums],
            np.float32,
        )
        scales = restored.view(np.uint32).reshape(self.scales.shape)
        return Quantized(
            self.codes,
            scales,
            self.format,
            self.axis,
            self.tensor_scale,
            self.zero_points,
            (inner, mean),
        )

    def __repr__(self) -> str:
        blocks = "x".join(map(str, self.scales.shape)) or "1"
        return (
            f"Quantized({self.format.name}, shape={self.shape}, axis={self.axis}, "
            f"scales={blocks}, tensor_scale={self.tensor_scale})"
        )


def _nearest_float32(x: Fraction) -> np.float32:
    """x rounded once: float64 is rounded to odd, which float32 then rounds as x itself."""
    nearest = float(x)
    if Fraction(nearest) != x:
        down = nearest if Fraction(nearest) < x else np.nextafter(nearest, -np.inf)
        bits = np.array(down, np.float64).view(np.uint64)
        nearest = down if int(bits) & 1 else float(np.nextafter(down, np.inf))
    return np.float32(round_to(nearest, "binary32"))


def given_tensor_scale(value: Any) -> np.float32:
    """A number of the caller's as a tensor scale."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"tensor_scale must be a number, not {type(value).__name__}")
    with np.errstate(over="ignore", under="ignore"):
        scale = np.float32(value)
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"tensor_scale is {value}, but must be positive and finite in binary32")
    if float(scale) != value:
        raise ValueError(
            f"tensor_scale is {value!r}, which binary32 does not have; pass numpy.float32 of it"
        )
    return scale


def quantize(
    x: ArrayLike,
    f: str | BlockFormat,
    axis: int = -1,
    rule: str | None = None,
    rounding: str = "nearest-even",
    *,
    block: Block | None = None,
    tensor_scale: Any = None,
    seed: int | None = None,
    step: int = 0,
    tensor: int = 0,
    offset: int = 0,
    random_bits: int = 32,
) -> Quantized:
    """x in a block format: scales by its rule, elements rounded once.

    x: an array of float16, bfloat16, float32 or float64, a number or a list, or a tensor of torch
    or an array of CuPy on a GPU: then the result holds arrays there (docs/gpu.md). axis: along
    which blocks lie (the columns of square blocks; the channels of scales per channel). rule and
    block replace those of the format. rounding: any mode of `round`, for the elements; elements
    beyond the largest value saturate. tensor_scale: of formats that have one (nvfp4), instead of
    the one that the largest magnitude in x gives, which then need not be found first: a positive
    finite number of binary32, from calibration or from the step before; too small a one saturates
    scales and elements. For x on a GPU also an array of one float32 on its device, such as
    q.tensor_scale. Stochastic modes take seed, step, tensor, offset and
    random_bits as `round` does, by the row-major index of the element.
    """
    if isinstance(f, str) and _core.parse_system(f) is not None:
        raise ValueError(
            f"{f} is a format of single numbers; use hu.quantize_codebook for codebooks such as "
            "nf4, and hu.encode for other number systems"
        )
    f = block_format(f, rule=rule, block=block)
    on_device = is_device_array(x)
    values: Any = x if on_device else _values(x)
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise TypeError(f"axis must be an integer, not {type(axis).__name__}")
    dims = max(values.ndim, 1)
    if not -dims <= axis < dims:
        raise ValueError(
            f"axis is {axis}, but x has {values.ndim} dimensions, so it must be "
            f"{-dims} to {dims - 1}"
        )
    axis = int(axis) % dims
    how = make_how(
        "quantize",
        rounding=rounding,
        seed=seed,
        step=step,
        tensor=tensor,
        offset=offset,
        random_bits=random_bits,
    )
    if on_device:
        from halfulp._device_blocks import quantize_on_device

        return quantize_on_device(values, f, axis, how, tensor_scale)
    given = None if tensor_scale is None else given_tensor_scale(tensor_scale)
    codes = np.empty(values.shape, np.uint8 if f.element_bits <= 8 else np.uint16)
    counts = _core.block_counts(f, values.shape, axis)
    scales = np.empty(counts, _code_dtype(f.scale))
    zero_points = np.zeros(counts, np.int32) if f.is_affine else None
    two_level = np.zeros(1, np.float32) if given is None else np.full(1, given)
    _require_native(values, "x")
    _core.quantize(
        _raw(values),
        _kind(values),
        f,
        axis,
        codes,
        _CODE_KINDS[codes.dtype.name],
        scales,
        _CODE_KINDS[scales.dtype.name],
        zero_points,
        two_level.view(np.uint32),
        given is not None,
        how,
    )
    return Quantized(codes, scales, f, axis, two_level[0] if f.tensor_target else None, zero_points)
