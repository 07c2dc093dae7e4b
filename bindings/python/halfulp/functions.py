"""Elementary functions, correctly rounded: the exact value at the exact operand, rounded once.

    >>> import halfulp as hu
    >>> hu.functions.exp([0.0, 1.0, -1.0], "float8_e4m3fn", rounding="down")
    array([1.      , 2.5     , 0.34375 ])

Each takes one or two arrays, numbers or lists (shapes broadcast), the format of the result, and the
options of `halfulp.round`: rounding, overflow, out, seed, step, tensor, offset, random_bits,
nan_to, tininess, flags. `names()` lists the functions; docs/functions.md defines them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from halfulp import _core
from halfulp._elementwise import FormatLike, _operation


def _of_one(name: str) -> Callable[..., Any]:
    def function(x: ArrayLike, f: FormatLike, **options: Any) -> Any:
        return _operation(name, [x], f, options)

    return function


def _of_two(name: str) -> Callable[..., Any]:
    def function(a: ArrayLike, b: ArrayLike, f: FormatLike, **options: Any) -> Any:
        return _operation(name, [a, b], f, options)

    return function


def names() -> list[str]:
    """The names of the functions."""
    return [name for name, _, _ in _core.functions()]


# One per row of the table in emu/functions/table.cpp; functions.pyi tells type checkers the same.
for _name, _arity, _meaning in _core.functions():
    _made = (_of_one if _arity == 1 else _of_two)(_name)
    _made.__name__ = _made.__qualname__ = _name
    _made.__doc__ = f"{_meaning}, rounded once to f. Options and result as for `halfulp.round`."
    globals()[_name] = _made
del _name, _arity, _meaning, _made

__all__ = ["names", *names()]
