"""Element-wise functions over arrays, scalars and lists.

Operands are taken at their exact values in their own dtype (they need not be values of the result
format), the exact result is rounded once. Results have the dtype of the operands, or that of `out`;
it must hold every value of the format. ml_dtypes' narrow dtypes count as float32, which holds them.
Arrays of other libraries are read where they lie, and results are theirs (_dlpack.py).
Stochastic rounding takes its random bits from (seed, step,
tensor, offset + row-major index).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from halfulp import _core, _dlpack
from halfulp._core import Format, NumberSystem
from halfulp._device import is_device_array, round_on_device
from halfulp._formats import format as as_format

Flags = NDArray[np.uint8]
FormatLike = str | Format | NumberSystem

_KINDS = {
    "float16": "binary16",
    "bfloat16": "bfloat16",
    "float32": "binary32",
    "float64": "binary64",
}
# Dtypes of ml_dtypes that float32 holds: operands of them are taken at their values. The names are
# those of formats and number systems here, and the bits are their codes.
NARROW = (
    *("float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz"),
    *("float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    *("float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"),
    *("int1", "int2", "int4", "uint1", "uint2", "uint4"),
)
_CODE_DTYPES = {
    8: np.dtype(np.uint8),
    16: np.dtype(np.uint16),
    32: np.dtype(np.uint32),
    64: np.dtype(np.uint64),
}
_CODE_KINDS = {"uint8": "code8", "uint16": "code16", "uint32": "code32", "uint64": "code64"}
_ANY = Format(exponent_bits=8, precision=24)  # stands where an array of values needs no format


def _is_plain(x: Any) -> bool:
    """Whether x is a Python scalar or a (nested) list or tuple, which have no dtype of their
    own.
    """
    return isinstance(x, int | float | list | tuple)


def _values(x: ArrayLike, what: str = "x") -> NDArray[Any]:
    """x as an array of values, without a copy if it is one."""
    if _is_plain(x):
        return _plain_values(x, what)
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{what} is a masked array; pass x.filled(...) or x.data")
    if _dlpack.is_foreign(x):
        return _foreign_values(x, what)
    if not isinstance(x, np.ndarray | np.generic):
        raise TypeError(
            f"{what} is of type {type(x).__module__}.{type(x).__qualname__}; "
            "pass a NumPy array, an array with DLPack, a number or a list"
        )
    array = np.asarray(x)
    if array.dtype.name in NARROW:
        if "int" in array.dtype.name:  # their bytes may have the sign in the high bits
            return array.astype(np.float32)
        return np.asarray(decode(array.view(np.uint8), array.dtype.name, dtype=np.float32))
    if array.dtype.name not in _KINDS:
        raise TypeError(
            f"{what} has dtype {array.dtype}; "
            "pass float16, bfloat16, float32, float64 or a dtype of ml_dtypes (codes go to decode)"
        )
    _require_native(array, what)
    return array


def _foreign_values(x: Any, what: str) -> NDArray[Any]:
    """The numbers of an array with DLPack, without a copy; narrow ones as float32."""
    bits, dtype = _dlpack.bits_of(x, what)
    if dtype in NARROW and "int" not in dtype:
        return np.asarray(decode(bits, dtype, dtype=np.float32))
    array = _dlpack.as_numpy(bits, dtype) if dtype in _KINDS else None
    if array is None:
        raise TypeError(
            f"{what} has dtype {dtype}; pass float16, bfloat16, float32, float64 or a narrower "
            "float (codes go to decode)"
        )
    return array


def _plain_values(x: Any, what: str) -> NDArray[np.float64]:
    """Python numbers in any nesting as float64, which must hold each of them exactly."""
    try:
        objects = np.array(x, dtype=object)
    except ValueError as error:
        raise TypeError(f"{what} must hold numbers in a regular shape: {error}") from None
    for value in objects.flat:
        if not isinstance(value, int | float | np.integer | np.floating):
            raise TypeError(f"{what} must hold ints and floats in a regular shape, not {value!r}")
        if isinstance(value, int | np.integer) and abs(int(value)) > 2**53:
            try:
                exact = int(float(value)) == value
            except OverflowError:
                exact = False
            if not exact:
                raise ValueError(
                    f"{what} holds the integer {value}, which is no float64; pass a float, "
                    "or a decimal to the command line"
                )
    return objects.astype(np.float64)


def _require_native(array: NDArray[Any], what: str) -> None:
    if not array.dtype.isnative:
        raise TypeError(
            f"{what} has foreign byte order; convert it with x.astype(x.dtype.newbyteorder('='))"
        )


def _kind(array: NDArray[Any]) -> str:
    return _KINDS[array.dtype.name]


def _raw(array: NDArray[Any]) -> NDArray[Any]:
    """The same memory in a dtype that the buffer protocol knows (bfloat16 is NumPy's only as an
    extension).
    """
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


def _result(
    like: Sequence[NDArray[Any]],
    shape: tuple[int, ...],
    out: NDArray[Any] | None,
    operands: Sequence[Any] = (),
) -> NDArray[Any]:
    """`out`, checked, or an array of the dtype that `like` decide; for whom, `operands` say."""
    if out is None:
        try:
            return _dlpack.empty(operands, shape, np.result_type(*like))
        except TypeError:
            names = " and ".join(str(x.dtype) for x in like)
            raise TypeError(
                f"{names} have no common dtype for the result; pass out=, or convert one of them"
            ) from None
    if not isinstance(out, np.ndarray) or out.dtype.name not in _KINDS:
        raise TypeError("the result must be an array of float16, bfloat16, float32 or float64")
    _require_native(out, "out")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, but the result has {shape}")
    return out


def _apply(
    operation: str,
    operands: Sequence[NDArray[Any]],
    out: NDArray[Any],
    kind: str,
    f: Format | NumberSystem,
    how: _core.How,
    flag_bytes: Flags | None,
) -> None:
    """The compiled operation on arrays of values, whichever kind of number system f is."""
    if isinstance(f, NumberSystem):
        given = [(_raw(x), _kind(x), None) for x in operands]
        _core.apply_system(operation, given, out, kind, f, how, flag_bytes)
    else:
        known = [(_raw(x), _kind(x), _ANY) for x in operands]
        _core.apply(operation, known, out, kind, f, how, flag_bytes)


def _given_back(
    operands: Sequence[Any], result: NDArray[Any], flag_bytes: Flags | None, out: Any
) -> tuple[Any, Any]:
    """Result and flags as the caller has them: `out` itself, scalars of NumPy for no dimensions, or
    arrays of the operands' library.
    """
    flags: Any = flag_bytes
    if any(_dlpack.is_foreign(x) for x in operands):
        if flag_bytes is not None:
            flags = _dlpack.like(operands, flag_bytes)
        return _dlpack.like(operands, result) if out is None else out, flags
    if result.ndim or out is not None:
        return result if out is None else out, flags
    return result[()], None if flag_bytes is None else int(flag_bytes[()])


def _wrapping(f: FormatLike, overflow: str) -> tuple[Format | NumberSystem, str]:
    """f and its overflow policy; 'wrap' is a property of the integers, not a policy of floats."""
    f = as_format(f)
    if overflow != "wrap":
        return f, overflow
    if isinstance(f, Format):
        raise ValueError(
            f"overflow 'wrap' is for integers and fixed point, and {f.name} is neither; "
            "use 'saturate'"
        )
    return f.wrapping(), "ieee"


def _run(
    operation: str,
    operands: Sequence[ArrayLike],
    f: FormatLike,
    out: NDArray[Any] | None,
    flags: bool,
    how: _core.How,
    deciding: int = 3,
) -> Any:
    """The operation on all elements. The first `deciding` operands decide the result's dtype."""
    f = as_format(f)
    if isinstance(f, NumberSystem):
        require_defined(operation, f)
    arrays = [
        _values(x, name)
        for x, name in zip(operands, "abc" if len(operands) > 1 else "x", strict=False)
    ]
    broadcast = np.broadcast_arrays(*arrays) if len(arrays) > 1 else arrays
    # Python numbers have no dtype of their own, so they do not widen the result.
    typed = [array for array, x in zip(arrays, operands, strict=True) if not _is_plain(x)]
    typed = [array for array in arrays[:deciding] if any(array is t for t in typed)]
    result = _result(typed or arrays[:deciding], broadcast[0].shape, _dlpack.written(out), operands)
    flag_bytes = np.zeros(result.shape, dtype=np.uint8) if flags else None
    _apply(operation, broadcast, _raw(result), _kind(result), f, how, flag_bytes)
    value, given_flags = _given_back(operands, result, flag_bytes, out)
    if isinstance(value, np.generic) and all(_is_plain(x) for x in operands[:deciding]):
        value = float(value)
    return value if flag_bytes is None else (value, given_flags)


def round(
    x: ArrayLike,
    f: FormatLike,
    rounding: str = "nearest-even",
    overflow: str = "ieee",
    out: NDArray[Any] | None = None,
    seed: int | None = None,
    step: int = 0,
    tensor: int = 0,
    offset: int = 0,
    random_bits: int = 32,
    *,
    nan_to: str = "error",
    tininess: Literal["after", "before"] = "after",
    flags: bool = False,
) -> Any:
    """x rounded once to the format f; same shape and dtype (`out` may be x itself).

    rounding: nearest-even, nearest-away, nearest-zero, toward-zero, up, down, away, odd, stochastic
    (P3109 variants A, and B and C as stochastic-b and -c), stochastic-equal. overflow: ieee,
    saturate, saturate-propagate, infinity, nan, error; for integers and fixed point also wrap.
    nan_to (formats without NaN): error, largest, zero, negative-zero. flags=True: returns
    (y, flags), one byte per element: invalid 16,
    divide-by-zero 8, overflow 4, underflow 2, inexact 1. Raises ValueError for what does not fit
    together; then nothing has been written.

    x may be an array of another library that speaks DLPack, such as JAX's: the result is one too.
    A tensor of torch or an array of CuPy may be on a GPU: then the work is queued on the current
    stream and not waited for.
    """
    f, overflow = _wrapping(f, overflow)
    how = make_how(
        "round",
        rounding=rounding,
        overflow=overflow,
        nan_to=nan_to,
        tininess=tininess,
        seed=seed,
        step=step,
        tensor=tensor,
        offset=offset,
        random_bits=random_bits,
    )
    if is_device_array(x):
        return round_on_device(x, f, out, flags, how, codes=False)
    return _run("convert", [x], f, out, flags, how)


_DEFAULTS: dict[str, Any] = {
    "rounding": "nearest-even",
    "overflow": "ieee",
    "nan_to": "error",
    "tininess": "after",
    "seed": None,
    "step": 0,
    "tensor": 0,
    "offset": 0,
    "random_bits": 32,
}
_LIMITS = {"seed": 2**64, "step": 2**32, "tensor": 2**32, "offset": 2**64, "random_bits": 65}


def make_how(function: str, **options: Any) -> _core.How:
    """The rounding options of `round` by name, checked; those left out have its defaults."""
    for name, value in options.items():
        if name not in _DEFAULTS:
            raise TypeError(
                f"{function}() has no argument '{name}'; "
                f"it takes {', '.join(_DEFAULTS)}, out, flags"
            )
        if name in _LIMITS:
            if name == "seed" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
            if not 0 <= value < _LIMITS[name]:
                least = int(name == "random_bits")  # whose 0 is refused where bits are drawn
                raise ValueError(f"{name} is {value}, but must be {least} to {_LIMITS[name] - 1}")
        elif not isinstance(value, str):
            raise TypeError(f"{name} must be a name, not {type(value).__name__}")
    return _core.How(**{**_DEFAULTS, **options})


def require_defined(operation: str, f: NumberSystem) -> None:
    """Refuses the functions, which only formats have; the core refuses other operations."""
    if operation in {name for name, _, _ in _core.functions()}:
        raise ValueError(
            f"{operation} is not defined for {f.name}; compute it in a float format, such as "
            "binary64, and encode the result"
        )


def _operation(
    name: str,
    operands: Sequence[ArrayLike],
    f: FormatLike,
    options: dict[str, Any],
    deciding: int = 3,
) -> Any:
    out = options.pop("out", None)
    flags = options.pop("flags", False)
    how = make_how(name.replace("-", "_"), **options)
    return _run(name, operands, f, out, flags, how, deciding)


def add(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """a + b, rounded once to f. Shapes broadcast; options and result as for `round`."""
    return _operation("add", [a, b], f, options)


def sub(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """a - b, rounded once to f. Shapes broadcast; options and result as for `round`."""
    return _operation("sub", [a, b], f, options)


def mul(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """a * b, rounded once to f. Shapes broadcast; options and result as for `round`."""
    return _operation("mul", [a, b], f, options)


def div(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """a / b, rounded once to f. Shapes broadcast; options and result as for `round`."""
    return _operation("div", [a, b], f, options)


def sqrt(a: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """The square root of a, rounded once to f. Options and result as for `round`."""
    return _operation("sqrt", [a], f, options)


def fma(a: ArrayLike, b: ArrayLike, c: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """a * b + c, rounded once to f. Shapes broadcast; options and result as for `round`."""
    return _operation("fma", [a, b, c], f, options)


def _code_dtype(f: Format | NumberSystem) -> np.dtype[Any]:
    for bits, dtype in _CODE_DTYPES.items():
        if f.width <= bits:
            return dtype
    raise ValueError(f"{f.name} has {f.width} bits; arrays of codes have at most 64")


@overload
def encode(
    x: float, f: FormatLike, rounding: str = ..., overflow: str = ..., **options: Any
) -> int: ...
@overload
def encode(
    x: ArrayLike, f: FormatLike, rounding: str = ..., overflow: str = ..., **options: Any
) -> NDArray[Any]: ...
def encode(
    x: ArrayLike,
    f: FormatLike,
    rounding: str = "nearest-even",
    overflow: str = "ieee",
    **options: Any,
) -> Any:
    """The codes of x rounded once to f: uint8, 16, 32 or 64 by the format's width, one code per
    element.

    Options as for `round`; `out` is an array of that dtype. flags=True: returns (codes, flags).
    dtype: that of NumPy or ml_dtypes whose numbers are f's, to have these numbers instead of codes.
    """
    dtype_wanted = options.pop("dtype", None)
    if dtype_wanted is not None:
        from halfulp._dtypes import dtype_of, to_ml_dtypes

        if np.dtype(dtype_wanted) != dtype_of(f):
            raise ValueError(
                f"dtype is {np.dtype(dtype_wanted)}, but numbers of {as_format(f).name} are "
                f"{dtype_of(f)}; encode to the format of the dtype"
            )
        foreign = _dlpack.is_foreign(x) and not is_device_array(x)
        result = encode(_values(x) if foreign else x, f, rounding, overflow, **options)
        codes, *rest = result if options.get("flags") else (result,)
        numbers = to_ml_dtypes(codes, f)
        if foreign:
            given = tuple(_dlpack.like([x], np.asarray(y)) for y in (numbers, *rest))
            return given if rest else given[0]
        return (numbers[()], *rest) if rest else numbers[()]  # of one number a scalar, as elsewhere
    f, overflow = _wrapping(f, overflow)
    out = options.pop("out", None)
    flags = options.pop("flags", False)
    how = make_how("encode", rounding=rounding, overflow=overflow, **options)
    if is_device_array(x):
        return round_on_device(x, f, out, flags, how, codes=True)
    values = _values(x)
    dtype = _code_dtype(f)
    target = _dlpack.written(out)
    if target is not None and (
        not isinstance(target, np.ndarray) or target.dtype != dtype or target.shape != values.shape
    ):
        raise TypeError(f"out must be an array of {dtype.name} and shape {values.shape}")
    codes = target if target is not None else _dlpack.empty([x], values.shape, dtype)
    flag_bytes = np.zeros(values.shape, dtype=np.uint8) if flags else None
    kind = _CODE_KINDS[dtype.name]
    _apply("convert", [values], codes, kind, f, how, flag_bytes)
    result, given_flags = _given_back([x], codes, flag_bytes, out)
    if isinstance(result, np.generic):
        result = int(result)
    return result if flag_bytes is None else (result, given_flags)


def _plain_codes(c: Any, f: Format | NumberSystem) -> NDArray[Any]:
    """Python integers in any nesting as codes of f."""
    try:
        objects = np.array(c, dtype=object)
    except ValueError:
        raise TypeError("codes must be integers in a regular shape") from None
    for code in objects.flat:
        if isinstance(code, bool) or not isinstance(code, int | np.integer):
            raise ValueError(f"codes are integers in a regular shape, not {code!r}")
        if not 0 <= code < 1 << f.width:
            raise ValueError(
                f"code {code} is outside 0 to {(1 << f.width) - 1:#x}, the codes of {f.name}"
            )
    return objects.astype(_code_dtype(f))


def _code_array(c: Any, expected: np.dtype[Any]) -> NDArray[Any]:
    """An array of codes; copied only if it is none (a scalar, a sequence)."""
    if _dlpack.is_foreign(c):
        bits, name = _dlpack.bits_of(c, "c")
        array = _dlpack.as_numpy(bits, name)
    else:
        array = np.asarray(c)
        name = str(array.dtype)
    if array is None or array.dtype.name not in _CODE_KINDS:
        raise TypeError(f"codes have dtype {name}; pass unsigned integers, such as {expected.name}")
    return array


def _holds(container: Format, f: Format | NumberSystem) -> bool:
    return f.fits(container) if isinstance(f, NumberSystem) else container.holds(f)


def decode(
    c: ArrayLike, f: FormatLike, dtype: DTypeLike = None, out: NDArray[Any] | None = None
) -> Any:
    """The values of codes of f, exactly. c: unsigned integers; dtype: float32 if it holds f, else
    float64.

    Codes above the format's last one raise ValueError. Python integers and lists give floats.
    """
    f = as_format(f)
    plain = _is_plain(c)
    expected = _code_dtype(f)
    codes = _plain_codes(c, f) if plain else _code_array(c, expected)
    if codes.dtype.itemsize * 8 > f.width and codes.size and int(codes.max()) >= 1 << f.width:
        raise ValueError(
            f"code {int(codes.max()):#x} is above {(1 << f.width) - 1:#x}, the last of {f.name}"
        )
    target = _dlpack.written(out)
    if dtype is None:
        fits_float32 = _holds(as_format("binary32"), f)
        dtype = np.float32 if fits_float32 and not plain else np.float64
    elif target is not None and np.dtype(dtype) != target.dtype:
        raise TypeError(
            f"dtype is {np.dtype(dtype)}, but out has {target.dtype}; leave one of them out"
        )
    _require_native(codes, "c")
    empty = _dlpack.empty([c], codes.shape, dtype) if target is None else target
    values = _result([], codes.shape, empty)
    container = as_format(_kind(values))
    if not _holds(container, f):
        wider = _holds(as_format("binary64"), f)
        remedy = "use a wider dtype" if wider else "exact_value gives single values exactly"
        raise ValueError(f"{values.dtype} cannot hold every value of {f.name}; {remedy}")
    code_kind = _CODE_KINDS[codes.dtype.name]
    if isinstance(f, NumberSystem):
        _core.decode_system(codes, code_kind, f, _raw(values), _kind(values))
    else:
        given = [(codes, code_kind, f)]
        _core.apply("convert", given, _raw(values), _kind(values), container, make_how("decode"))
    result, _ = _given_back([c], values, None, out)
    return float(result) if plain and codes.ndim == 0 and out is None else result
