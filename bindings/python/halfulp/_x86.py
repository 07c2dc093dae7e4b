"""Matrix products as the matrix instructions of x86 compute them."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halfulp import _core, _dlpack
from halfulp._threads import threads

_ROWS = {name: row for name, *row in _core.x86_units()}
_CONVERSION = "x86.avx512.f32.bf16"


def models() -> list[str]:
    """The names of x86's units that multiply, as 'x86.amx.bf16.f32'."""
    return [name for name in _ROWS if name != _CONVERSION]


def facts(name: str) -> dict[str, Any]:
    """What there is to say of a unit: its instruction, its evidence, its k."""
    instruction, kind, k, *_ = _row(name)
    source = "data/hardware/xeon-emerald-rapids"
    found = {"name": name, "evidence": "hardware", "source": source}
    return {**found, "instruction": instruction, "kind": kind, "k": k}


def _row(name: str) -> list[Any]:
    if name not in _ROWS or name == _CONVERSION:
        near = difflib.get_close_matches(name, models(), 3, 0.5) or models()
        raise ValueError(f"no matrix unit of x86 is called '{name}'; near it: {', '.join(near)}")
    return _ROWS[name]


def _first(bad: NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])


def _float_words(x: ArrayLike, dtype: type[Any], name: str) -> NDArray[np.uint32]:
    """The bits of x in `dtype`, whose values its elements must be; payloads of NaN stay."""
    array = _dlpack.numbers(x, name)
    if array.dtype.name == "bfloat16":
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} has dtype {array.dtype}; pass real numbers")
    if array.dtype == dtype:
        cast = array
    else:
        with np.errstate(all="ignore"):
            cast = array.astype(dtype)
            wide = np.float64 if array.dtype.itemsize < 8 else np.longdouble
            bad = cast.astype(wide) != array.astype(wide)
        bad &= ~(np.isnan(cast) & np.isnan(array))
        if bad.any():
            index = _first(bad)
            raise ValueError(
                f"{name}{list(index)} = {array[index]} is no value of {np.dtype(dtype).name}; "
                f"round {name} to it first"
            )
    bits = np.uint16 if dtype is np.float16 else np.uint32
    return np.ascontiguousarray(cast).view(bits).astype(np.uint32)


def _operand(x: ArrayLike, row: list[Any], first: bool, name: str) -> NDArray[np.uint32]:
    _, kind, _, bits, a_signed, b_signed = row
    if kind == "f16":
        return _float_words(x, np.float16, name)
    if kind == "bf16":
        words = _float_words(x, np.float32, name)
        bad = (words & 0xFFFF) != 0
        if bad.any():
            index = _first(bad)
            value = words[index].view(np.float32)
            raise ValueError(
                f"{name}{list(index)} = {value} is no value of bfloat16; round {name} to it first"
            )
        return words
    signed = a_signed if first else b_signed
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return _integer_words(x, low, high, name)


def _integer_words(x: ArrayLike, low: int, high: int, name: str) -> NDArray[np.uint32]:
    array = _dlpack.numbers(x, name)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {array.dtype}; pass integers, {low} to {high}")
    bad = (array < low) | (array > high)
    if bad.any():
        index = _first(bad)
        raise ValueError(
            f"{name}{list(index)} = {array[index]} is not from {low} to {high}, this unit's range"
        )
    return array.astype(np.int64).astype(np.uint32)


def matmul(name: str, a: ArrayLike, b: ArrayLike, c: ArrayLike | None = None) -> NDArray[Any]:
    """a (M, K) @ b (K, N) [+ c (M, N)] with the bits of the unit `name`; shape (M, N).

    a and b hold values of the unit's operands (bfloat16, also in a float32 array; float16;
    integers), c and the result are float32, float16 or int32. K is cut into instructions of the
    unit's k products; the last takes what remains. Of bfloat16 K must be even. Without c sums start
    at +0. NaN payloads are those of the processor. docs/matrix-units-x86.md defines the units.
    """
    row = _row(name)
    kind = row[1]
    x, y = _operand(a, row, True, "a"), _operand(b, row, False, "b")
    for m, which in ((x, "a"), (y, "b")):
        if m.ndim != 2:
            raise ValueError(f"{which} has {m.ndim} dimensions; a product takes matrices (2)")
    if x.shape[1] != y.shape[0]:
        raise ValueError(
            f"a has shape {x.shape} and b {y.shape}; the columns of a must equal the rows of b"
        )
    out = np.empty((x.shape[0], y.shape[1]), np.uint32)
    z = None
    if c is not None:
        if kind == "integer":
            z = _integer_words(c, -(2**31), 2**31 - 1, "c")
        else:
            z = _float_words(c, np.float16 if kind == "f16" else np.float32, "c")
        if z.shape != out.shape:
            raise ValueError(f"c has shape {z.shape}, but the product has {out.shape}")
        z = np.ascontiguousarray(z)
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    _core.matmul_x86(name, x, y, z, out, threads())
    if kind == "integer":
        return out.view(np.int32)
    return out.astype(np.uint16).view(np.float16) if kind == "f16" else out.view(np.float32)


def to_bfloat16(x: ArrayLike) -> NDArray[np.uint16]:
    """The codes in bfloat16 that VCVTNEPS2BF16 and VCVTNE2PS2BF16 give for x, values of float32:
    rounded to nearest even, subnormals to zeros, NaN with the upper bits of its payload.
    """
    words = _float_words(x, np.float32, "x")
    out = np.empty((words.size, 1), np.uint32)
    zero = np.zeros((1, 1), np.uint32)
    flat = np.ascontiguousarray(words).reshape(-1, 1)
    _core.matmul_x86(_CONVERSION, flat, zero, None, out, threads())
    return out.astype(np.uint16).reshape(words.shape)
