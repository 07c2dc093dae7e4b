"""The emulated matrix product."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halfulp import _core, _dlpack, _x86
from halfulp._core import Format
from halfulp._device import is_device_array
from halfulp._elementwise import FormatLike, _values, make_how
from halfulp._formats import format as as_format
from halfulp._models import Model, as_model, matmul_by, require_evidence

# The options of emulated products at their defaults: a model leaves none of them to choose.
_NO_CHOICES = (
    *(None, None, "binary32", "fma-sequential", "nearest-even", "ieee", "error", None, 0),
    *(0, 0, 32),
)


def _matrix(x: ArrayLike, name: str) -> NDArray[Any]:
    array = _values(x, name)
    if array.ndim != 2:
        raise ValueError(
            f"{name} has {array.ndim} dimensions; matmul takes matrices (2 dimensions)"
        )
    return array


def _parse_order(order: str) -> tuple[str, int]:
    if not isinstance(order, str):
        raise TypeError(f"order must be a name, not {type(order).__name__}")
    blocked = re.fullmatch(r"blocked\((\d+)\)", order)
    if blocked:
        return "blocked", min(int(blocked.group(1)), 2**62)
    if order == "blocked":
        raise ValueError("order 'blocked' needs its block length, as in order='blocked(32)'")
    return order, 0


def _require_representable(x: NDArray[Any], f: Format, name: str) -> None:
    from halfulp._elementwise import round as round_to

    as_float64 = x.astype(np.float64)
    rounded = round_to(as_float64, f, nan_to="largest" if f.nan == "none" else "error")
    both_nan = np.isnan(rounded) & np.isnan(as_float64)
    wrong = (rounded.view(np.uint64) != as_float64.view(np.uint64)) & ~both_nan
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name}{list(index)} = {float(as_float64[index])!r} is no value of {f.name}; "
            f"round {name} to it first"
        )


def _float_format(f: str | Format) -> Format:
    found = as_format(f)
    if not isinstance(found, Format):
        raise ValueError(
            f"products and sums are rounded to a float format, and {found.name} is none; "
            "only operands may be of it"
        )
    return found


def matmul(
    a: ArrayLike,
    b: ArrayLike,
    c: ArrayLike | None = None,
    *,
    model: str | Model | None = None,
    evidence: str = "published",
    scales: tuple[ArrayLike, ArrayLike] | None = None,
    operands: FormatLike | None = None,
    product: FormatLike | None = None,
    accumulate: FormatLike = "binary32",
    order: str = "fma-sequential",
    rounding: str = "nearest-even",
    overflow: str = "ieee",
    nan_to: str = "error",
    seed: int | None = None,
    step: int = 0,
    tensor: int = 0,
    offset: int = 0,
    random_bits: int = 32,
) -> Any:
    """a (M, K) @ b (K, N) [+ c (M, N)] with every product and sum rounded as told; shape (M, N).

    operands: if given, every element of a and b must be a value of that format; c must hold values
    of accumulate. product: the format that each a*b is rounded to (default: that of accumulate; not
    used by fma-sequential and exact). accumulate: the format of every sum. order: 'sequential',
    'pairwise', 'blocked(n)', 'fma-sequential', 'kahan', 'compensated' (Dot2 of Ogita, Rump and
    Oishi 2005; an infinite product or sum makes it NaN), or 'exact' (Kulisch: exact products, exact
    sum, rounded once); sums start at c, or at +0. With stochastic rounding, product k
    of element (m, n) takes the random bits of index 2((mN+n)K+k), the sum after it those of the
    next index. The result is float32 where that holds `accumulate` and the operands are no wider,
    else float64, and of the library of the first operand that is no NumPy array. Strided operands
    are gathered first.

    On a GPU (tensors of torch, arrays of CuPy; docs/gpu.md): order='sequential', product as
    accumulate, deterministic modes, values of accumulate as operands. Nothing waits, so an element
    that is no value of `operands`, or of accumulate in c, counts as NaN instead of being reported.

    model: a matrix unit of hardware instead, by name ('hopper.wgmma.e4m3.f32'; hu.models() lists
    them) or a hu.Model: the result has the bits that the hardware gives. Operands must hold values
    of the unit's formats (integers or bits for integer units), c values of its result's; the result
    is float16, float32, float64 or int32. K is filled up with zeros to a multiple of the
    instruction's k. evidence: what must support a named unit: 'hardware' (results that this project
    recorded), 'published' (those, or results that others published) or 'any'; else ValueError says
    that it is not evidenced. scales: of a, (M, ceil(K/n)), and of b, (ceil(K/n), N), for units with
    a scale for each n elements. The units of x86 ('x86.amx.bf16.f32'; docs/matrix-units-x86.md) are
    all recorded; K is not filled up there, and NaN keep the processor's payloads.
    """
    if model is not None:
        choices = (operands, product, accumulate, order, rounding, overflow, nan_to, seed, step)
        if (*choices, tensor, offset, random_bits) != _NO_CHOICES:
            raise ValueError(
                "a model decides formats, order and rounding; leave out the options of emulated "
                "products, or change the model's fields: hu.Model(name, fraction_bits=...)"
            )
        if isinstance(model, str) and model.startswith("x86."):
            require_evidence(evidence)
            if scales is not None:
                raise ValueError("this unit takes no block scales; leave out scales=")
            result = _x86.matmul(model, a, b, c)
        else:
            result = matmul_by(as_model(model, evidence), a, b, c, scales)
        return _dlpack.like([a, b] if c is None else [a, b, c], result)
    if scales is not None:
        raise ValueError("scales= belongs to models with block scales; give model=")
    if any(is_device_array(m) for m in (a, b, c)):
        from halfulp._device_matmul import matmul_on_device

        return matmul_on_device(
            a,
            b,
            c,
            operands=operands,
            product=None if product is None else _float_format(product),
            accumulator=_float_format(accumulate),
            order=order,
            how=make_how("matmul", rounding=rounding, overflow=overflow, nan_to=nan_to, seed=seed),
            choices=f"rounding='{rounding}' and overflow='{overflow}'",
        )
    x, y = _matrix(a, "a"), _matrix(b, "b")
    if x.shape[1] != y.shape[0]:
        raise ValueError(
            f"a has shape {x.shape} and b {y.shape}; the columns of a must equal the rows of b"
        )
    z = None if c is None else _matrix(c, "c")
    if z is not None and z.shape != (x.shape[0], y.shape[1]):
        raise ValueError(f"c has shape {z.shape}, but the product has {(x.shape[0], y.shape[1])}")
    if operands is not None:
        _require_representable(x, as_format(operands), "a")
        _require_representable(y, as_format(operands), "b")
    accumulator = _float_format(accumulate)
    if z is not None:
        _require_representable(z, accumulator, "c")
    wide = any(m is not None and m.dtype == np.float64 for m in (x, y, z))
    dtype: Any = np.float64 if wide or not as_format("binary32").holds(accumulator) else np.float32
    kind, block = _parse_order(order)
    if product is not None and kind in ("fma-sequential", "exact"):
        raise ValueError(
            f"order '{kind}' rounds no products, so product= has no meaning there; "
            "choose order='sequential', 'pairwise', 'blocked(n)', 'kahan' or 'compensated'"
        )
    how = make_how(
        "matmul",
        rounding=rounding,
        overflow=overflow,
        nan_to=nan_to,
        seed=seed,
        step=step,
        tensor=tensor,
        offset=offset,
        random_bits=random_bits,
    )
    given = [a, b] if c is None else [a, b, c]
    out = _dlpack.empty(given, (x.shape[0], y.shape[1]), dtype)
    run = _core.matmul64 if dtype is np.float64 else _core.matmul32
    run(
        np.ascontiguousarray(x, dtype=dtype),
        np.ascontiguousarray(y, dtype=dtype),
        None if z is None else np.ascontiguousarray(z, dtype=dtype),
        out,
        accumulator if product is None else _float_format(product),
        accumulator,
        kind,
        block,
        how,
    )
    return _dlpack.like(given, out)


def dot(a: ArrayLike, b: ArrayLike, c: ArrayLike | None = None, **options: Any) -> Any:
    """The inner product of two vectors [+ the number c], as `matmul` of a row and a column.

    All options are those of matmul: accumulate=, product=, order=, rounding= and so on. The result
    is a NumPy scalar.
    """
    x, y = _values(a, "a"), _values(b, "b")
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            f"a has shape {x.shape} and b {y.shape}; dot takes two vectors of one length"
        )
    start = None if c is None else np.asarray(c).reshape(1, 1)
    return matmul(x[np.newaxis, :], y[:, np.newaxis], start, **options)[0, 0]


def sum(  # as numpy.sum; only inside this package
    x: ArrayLike,
    format: FormatLike = "binary32",
    *,
    axis: int | None = None,
    order: str = "sequential",
    **options: Any,
) -> Any:
    """The sum of x with every addition rounded to `format`, starting at +0.

    x: its elements are taken at their exact values. axis: the one that is summed over (default: all
    elements in row-major order, to a scalar). order: as in matmul; 'fma-sequential' is 'sequential'
    here. options: rounding=, overflow=, nan_to=, seed= and so on, as in matmul; the addition of
    element k of sum m takes the random bits of index 2(mK+k)+1.
    """
    values = _values(x, "x")
    if axis is not None and not -values.ndim <= axis < values.ndim:
        raise ValueError(f"axis is {axis}, but x has {values.ndim} dimensions")
    moved = values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, -1)
    rows = moved.reshape(math.prod(moved.shape[:-1]), moved.shape[-1])
    for name in ("operands", "product", "accumulate", "model"):
        if name in options:
            raise TypeError(f"sum has no option {name}; the format of every addition is `format`")
    wide = rows.dtype == np.float64
    ones = np.ones((rows.shape[1], 1), dtype=np.float64 if wide else np.float32)
    kind, _ = _parse_order(order)
    # Times one, "rounded" to the format that the elements have already: nothing moves.
    exact = None if kind in ("fma-sequential", "exact") else ("binary64" if wide else "binary32")
    total = matmul(rows, ones, accumulate=format, product=exact, order=order, **options)
    return total[0, 0] if axis is None else total.reshape(moved.shape[:-1])
