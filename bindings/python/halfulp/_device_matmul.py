"""Matrix products of arrays on a GPU, every product and sum rounded: kernels/cuda/matmul.hpp.

As in _device.py, work is queued on the library's current stream and nothing waits for it.
"""

from __future__ import annotations

from typing import Any

from halfulp._core import Format, How
from halfulp._device import _KINDS, _cuda, _Library, _library_of, is_device_array, round_on_device
from halfulp._elementwise import FormatLike, make_how
from halfulp._formats import format as as_format

_FLOATS = ("float16", "bfloat16", "float32")
_NATIVE = {"binary16": "float16", "bfloat16": "bfloat16"}  # with instructions of the GPU's own


def _matrix(x: Any, name: str, like: Any, library: _Library) -> Any:
    if not is_device_array(x) or not library.is_mine(x):
        raise TypeError(
            f"{name} is a {type(x).__name__}; on a GPU all operands must be arrays of one library"
        )
    if x.device != like.device:
        raise ValueError(f"{name} is on {x.device}, but a on {like.device}")
    dtype = library.dtype_name(x)
    if dtype not in _FLOATS:
        raise TypeError(f"{name} has dtype {dtype}; on a GPU pass float16, bfloat16 or float32")
    if x.ndim != 2:
        raise ValueError(f"{name} has {x.ndim} dimensions; matmul takes matrices (2 dimensions)")
    return x


def matmul_on_device(
    a: Any,
    b: Any,
    c: Any,
    *,
    operands: FormatLike | None,
    product: Format | None,
    accumulator: Format,
    order: str,
    how: How,
    choices: str,
) -> Any:
    """a @ b [+ c] in float32. Arguments as for `matmul`; choices: rounding and policy, in words."""
    cuda = _cuda()
    like = next(m for m in (a, b, c) if is_device_array(m))
    library = _library_of(like)
    x, y = _matrix(a, "a", like, library), _matrix(b, "b", like, library)
    z = None if c is None else _matrix(c, "c", like, library)
    if x.shape[1] != y.shape[0]:
        raise ValueError(
            f"a has shape {tuple(x.shape)} and b {tuple(y.shape)}; the columns of a must equal the "
            "rows of b"
        )
    shape = [int(x.shape[0]), int(y.shape[1])]
    if z is not None and tuple(z.shape) != tuple(shape):
        raise ValueError(f"c has shape {tuple(z.shape)}, but the product has {tuple(shape)}")
    if order != "sequential":
        raise ValueError(
            f"order is '{order}', but on a GPU there is 'sequential' alone; give "
            "order='sequential', or copy the operands to the host"
        )
    if product is not None and product != accumulator:
        raise ValueError(
            f"product is {product.name} and accumulate {accumulator.name}, but on a GPU they are "
            "one; leave product out, or copy the operands to the host"
        )

    # Products are exact only of values of the accumulator's format, and an offender could not be
    # reported without waiting: it becomes NaN. What the types rule out is not looked for.
    def checked(v: Any, name: str, wanted: Format | None) -> Any:
        stored = as_format(_KINDS[library.dtype_name(v)])
        f = stored if wanted is None else wanted
        if not accumulator.holds(f):
            raise ValueError(
                f"{name} may hold any value of {f.name}, but {accumulator.name} does not have them "
                "all; on a GPU operands must be values of accumulate: give operands= a format "
                "within it, or a wider accumulate"
            )
        if f.holds(stored):
            return v
        v = library.contiguous(v, "float32")
        rounding = make_how("matmul", nan_to="largest" if f.nan == "none" else "error")
        return library.nan_where_different(
            v, round_on_device(v, f, None, False, rounding, codes=False)
        )

    given = None if operands is None else as_format(operands)
    if given is not None and not isinstance(given, Format):
        raise TypeError(f"{given.name} is not for arrays on a GPU; copy the operands to the host")
    if not as_format("binary32").holds(accumulator):
        raise ValueError(
            f"accumulate is {accumulator.name}, but on a GPU it must be within binary32; copy the "
            "operands to the host"
        )
    with library.on_device_of(like):
        kinds = [k for k in _NATIVE if accumulator == as_format(k) and library.has(_NATIVE[k])]
        kind = next((k for k in kinds if cuda.has_matmul(k, accumulator, how)), "binary32")
        if not cuda.has_matmul(kind, accumulator, how):
            raise ValueError(
                f"{accumulator.name} with {choices} has no products on a GPU; copy the operands to "
                "the host"
            )
        dtype = _NATIVE.get(kind, "float32")
        x = library.contiguous(checked(x, "a", given), dtype)
        y = library.contiguous(checked(y, "b", given), dtype)
        if z is not None:
            z = library.contiguous(checked(z, "c", accumulator), dtype)
        out = library.new(like, shape, dtype)
        cuda.matmul(
            library.address(x),
            library.address(y),
            0 if z is None else library.address(z),
            library.address(out),
            kind,
            *(shape[0], shape[1], int(x.shape[1])),
            accumulator,
            how,
            library.stream(),
        )
        if dtype == "float32":
            return out
        return library.canonical(library.contiguous(out, "float32"))
