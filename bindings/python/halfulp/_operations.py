"""IEEE 754's operations beyond arithmetic: remainder, integers, neighbours, minimum and maximum,
predicates, and the probabilities of stochastic rounding.

Operands, shapes, options and results are those of `halfulp.add`; docs/definitions.md says what each
gives in formats without zero, sign, NaN or infinity.
"""

from __future__ import annotations

from enum import IntEnum
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halfulp import _core, _dlpack
from halfulp._elementwise import (
    _ANY,
    FormatLike,
    _given_back,
    _kind,
    _operation,
    _raw,
    _values,
    make_how,
)
from halfulp._formats import exact_value
from halfulp._formats import format as as_format

# A factor of 2**±2**24 takes every number out of every format, and float32 holds all integers up to
# it.
_FAR = 2**24


class Class(IntEnum):
    """What `classify` says. A NaN is always quiet here."""

    SIGNALING_NAN = 0
    QUIET_NAN = 1
    NEGATIVE_INFINITY = 2
    NEGATIVE_NORMAL = 3
    NEGATIVE_SUBNORMAL = 4
    NEGATIVE_ZERO = 5
    POSITIVE_ZERO = 6
    POSITIVE_SUBNORMAL = 7
    POSITIVE_NORMAL = 8
    POSITIVE_INFINITY = 9


class Ordering(IntEnum):
    """What `compare` says."""

    LESS = 0
    EQUAL = 1
    GREATER = 2
    UNORDERED = 3


def remainder(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """a - n * b, n the integer nearest to a / b, the even one of two equally near (as in IEEE 754).

    Exact where f holds the operands; else rounded once. Options and result as for `round`.
    """
    return _operation("remainder", [a, b], f, options)


def round_to_integral(
    a: ArrayLike,
    f: FormatLike,
    rounding: str = "nearest-even",
    *,
    inexact: bool = True,
    **options: Any,
) -> Any:
    """The integer that the rounding mode chooses for a, as a number of f.

    nearest-even and odd look at the integer, not at its code. inexact=False does not raise the
    inexact flag for it. Options and result as for `round`.
    """
    name = "round-to-integral" if inexact else "round-to-integral-quiet"
    return _operation(name, [a], f, {"rounding": rounding, **options})


def scalb(a: ArrayLike, n: Any, f: FormatLike, **options: Any) -> Any:
    """a * 2**n for integers n, rounded once to f (IEEE 754's scaleB).

    Shapes broadcast; the result has the dtype of a. Options and result as for `round`.
    """
    try:
        objects = np.array(n, dtype=object)
    except ValueError:
        raise TypeError("n must be integers in a regular shape") from None
    if isinstance(n, np.ndarray) and n.dtype.kind in "iu":
        factors = np.clip(n.astype(np.float64), -_FAR, _FAR).astype(np.float32)
    else:
        for v in objects.flat:
            if isinstance(v, bool) or not isinstance(v, int | np.integer):
                raise TypeError(f"n must be integers in a regular shape, not {v!r}")
        clipped = [max(-_FAR, min(_FAR, int(v))) for v in objects.flat]
        factors = np.array(clipped, np.float32).reshape(objects.shape)
    return _operation("scalb", [a, factors], f, options, deciding=1)


def logb(a: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """floor(log2 |a|), rounded once to f; of zero -infinity, divide-by-zero (IEEE 754's logB).

    Options and result as for `round`.
    """
    return _operation("logb", [a], f, options)


def next_up(a: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """The least value of f above a; past the largest, what an infinite operand becomes.

    Options and result as for `round`; the rounding mode has no say.
    """
    return _operation("next-up", [a], f, options)


def next_down(a: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """The greatest value of f below a; past the least, what an infinite operand becomes.

    Options and result as for `round`; the rounding mode has no say.
    """
    return _operation("next-down", [a], f, options)


def minimum(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """The lesser of a and b, rounded once to f; NaN if one is NaN; -0 is less than +0.

    Shapes broadcast; options and result as for `round`.
    """
    return _operation("minimum", [a, b], f, options)


def maximum(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """The greater of a and b, rounded once to f; NaN if one is NaN; -0 is less than +0.

    Shapes broadcast; options and result as for `round`.
    """
    return _operation("maximum", [a, b], f, options)


def minimum_number(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """As `minimum`, but a number beside NaN is the result.

    Shapes broadcast; options and result as for `round`.
    """
    return _operation("minimum-number", [a, b], f, options)


def maximum_number(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """As `maximum`, but a number beside NaN is the result.

    Shapes broadcast; options and result as for `round`.
    """
    return _operation("maximum-number", [a, b], f, options)


def minimum_magnitude(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """The one of lesser magnitude; of equal magnitudes the minimum. NaN if one is NaN.

    Shapes broadcast; options and result as for `round`.
    """
    return _operation("minimum-magnitude", [a, b], f, options)


def maximum_magnitude(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """The one of greater magnitude; of equal magnitudes the maximum. NaN if one is NaN.

    Shapes broadcast; options and result as for `round`.
    """
    return _operation("maximum-magnitude", [a, b], f, options)


def minimum_magnitude_number(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """As `minimum_magnitude`, but a number beside NaN is the result.

    Shapes broadcast; options and result as for `round`.
    """
    return _operation("minimum-magnitude-number", [a, b], f, options)


def maximum_magnitude_number(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
    """As `maximum_magnitude`, but a number beside NaN is the result.

    Shapes broadcast; options and result as for `round`.
    """
    return _operation("maximum-magnitude-number", [a, b], f, options)


def _predicate(
    name: str,
    operands: list[ArrayLike],
    f: FormatLike,
    out: NDArray[Any] | None,
    dtype: type = np.uint8,
) -> Any:
    arrays = [_values(x, letter) for x, letter in zip(operands, "ab", strict=False)]
    broadcast = np.broadcast_arrays(*arrays) if len(arrays) > 1 else arrays
    shape = broadcast[0].shape
    target = _dlpack.written(out)
    if target is not None and (
        not isinstance(target, np.ndarray) or target.dtype != np.uint8 or target.shape != shape
    ):
        raise TypeError(f"out must be an array of uint8 and shape {shape}")
    result = _dlpack.empty(operands, shape, np.uint8) if target is None else target
    views = [(_raw(x), _kind(x), _ANY) for x in broadcast]
    _core.apply(name, views, result, "code8", as_format(f), make_how(name))
    given, _ = _given_back(operands, result.view(dtype), None, out)
    return int(given) if isinstance(given, np.generic) else given


def classify(a: ArrayLike, f: FormatLike, out: NDArray[Any] | None = None) -> Any:
    """The class of a among the ten of IEEE 754, as a `Class`; arrays give uint8.

    Subnormal is what lies below the least normal number of f.
    """
    result = _predicate("classify", [a], f, out)
    return Class(result) if isinstance(result, int) else result


def compare(a: ArrayLike, b: ArrayLike, out: NDArray[Any] | None = None) -> Any:
    """Whether a is less than, equal to or greater than b, or unordered (NaN), as an `Ordering`.

    Quiet: nothing is raised. Operands are compared at their exact values, whatever their dtypes.
    Arrays give uint8.
    """
    result = _predicate("compare", [a, b], _ANY, out)
    return Ordering(result) if isinstance(result, int) else result


def total_order(a: ArrayLike, b: ArrayLike, out: NDArray[Any] | None = None) -> Any:
    """Whether a is b or before it in the total order: -infinity ... -0, +0 ... infinity, NaN.

    All NaNs are one element: their signs and payloads do not exist here. Arrays give bool (uint8 in
    `out`).
    """
    result = _predicate("total-order", [a, b], _ANY, out, np.uint8 if out is not None else np.bool_)
    return bool(result) if isinstance(result, int) else result


class Outcomes(NamedTuple):
    """The two results that stochastic rounding chooses from; the probability of the second."""

    toward_zero: float | Fraction
    away: float | Fraction
    probability: Fraction


def probability(
    x: float,
    f: FormatLike,
    rounding: str = "stochastic",
    overflow: str = "ieee",
    random_bits: int = 32,
    *,
    nan_to: str = "error",
) -> Outcomes:
    """What rounding x stochastically to f may give, and how probable it is, exactly.

    The probability, a Fraction k / 2**random_bits, is that of `away`; `toward_zero` has the rest.
    Where nothing is to choose, both are the same and the probability is 0.
    """
    f = as_format(f)
    array = _values(x)
    if array.ndim != 0:
        raise TypeError(f"probability takes one number, not an array of shape {array.shape}")
    how = make_how(
        "probability",
        rounding=rounding,
        overflow=overflow,
        nan_to=nan_to,
        random_bits=random_bits,
        seed=0,  # nothing is drawn
    )
    raw = _raw(array)
    code = int(raw.view({2: np.uint16, 4: np.uint32, 8: np.uint64}[raw.dtype.itemsize])[()])
    return outcomes(code, as_format(_kind(array)), f, how, random_bits)


def outcomes(
    code: int, code_format: _core.Format, f: _core.Format, how: _core.How, random_bits: int
) -> Outcomes:
    """`probability` for a code of any format."""
    if not isinstance(f, _core.Format):
        raise ValueError(
            f"probabilities are those of formats, and {f.name} is none; count the results of round "
            "over many elements"
        )
    toward_zero, away, count = _core.outcomes(code, code_format, f, how)
    chance = Fraction(count, 2**random_bits)
    return Outcomes(exact_value(f, toward_zero), exact_value(f, away), chance)
