"""The dual array itself: value + tangent·ε, ε² = 0, as NumPy's functions see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import ArrayLike

from halfulp.sharpness._arguments import Array

_REMEDY = "write it in operations of docs/sharpness.md, or use difference_hvp"
RULES: dict[Any, Callable[..., Any]] = {}  # of ufuncs; filled by _dual.py
BY_VALUE: set[Any] = set()  # ufuncs whose result has no tangent
FUNCTIONS: dict[Any, Callable[..., Any]] = {}  # of NumPy's other functions
_REDUCTIONS = {np.add: "sum", np.maximum: "max", np.minimum: "min"}


def refused(name: str) -> TypeError:
    return TypeError(f"exact_hvp cannot differentiate {name}; {_REMEDY}")


class Dual(NDArrayOperatorsMixin):
    """A float64 array and its derivative along one direction, of one shape.

    Comparisons are of values: at a kink the branch that the value takes decides.
    """

    __slots__ = ("tangent", "value")
    __array_priority__ = 1000
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: ArrayLike, tangent: ArrayLike) -> None:
        self.value: Array = np.asarray(value, np.float64)
        self.tangent: Array = np.asarray(tangent, np.float64)
        if self.tangent.shape != self.value.shape:
            self.tangent = np.broadcast_to(self.tangent, self.value.shape)

    # What an array tells of itself.
    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)
    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))  # noqa: N815 - NumPy's name

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Dual({self.value!r}, {self.tangent!r})"

    # What would lose the tangent.
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "exact_hvp cannot follow np.asarray of a parameter, nor one put into a plain array: "
            "join pieces by np.concatenate or np.stack, begin with np.zeros_like(w), "
            "or use difference_hvp"
        )

    def __float__(self) -> float:
        raise refused("float() of a parameter")

    def __bool__(self) -> bool:
        return bool(self.value)

    def item(self, *_: Any) -> Any:
        raise refused("item()")

    def tolist(self) -> Any:
        raise refused("tolist()")

    def astype(self, dtype: Any, *_: Any, **__: Any) -> Dual:
        if np.dtype(dtype) != np.float64:
            raise refused(f"astype({np.dtype(dtype).name}), a rounding")
        return self.copy()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"exact_hvp does not know .{name} of a parameter; {_REMEDY}")

    # Shapes: the same map of both parts.
    def __getitem__(self, at: Any) -> Dual:
        return Dual(self.value[plain(at)], self.tangent[plain(at)])

    def __setitem__(self, at: Any, new: Any) -> None:
        value, tangent = parts(new)
        if not self.tangent.flags.writeable:
            self.tangent = self.tangent.copy()
        self.value[at] = value
        self.tangent[at] = 0.0 if tangent is None else tangent

    def __iadd__(self, other: Any) -> Dual:
        value, tangent = parts(other)
        if not self.tangent.flags.writeable:
            self.tangent = self.tangent.copy()
        self.value += value
        if tangent is not None:
            self.tangent += tangent
        return self

    def both(self, f: Callable[[Array], Any]) -> Dual:
        """f, which must be linear, of both parts."""
        return Dual(f(self.value), f(self.tangent))

    def copy(self, *_: Any, **__: Any) -> Dual:
        return self.both(np.copy)

    def reshape(self, *shape: Any) -> Dual:
        return self.both(lambda x: x.reshape(*shape))

    def ravel(self) -> Dual:
        return self.both(np.ravel)

    flatten = ravel

    def transpose(self, *axes: Any) -> Dual:
        return self.both(lambda x: x.transpose(*axes))

    def swapaxes(self, a: int, b: int) -> Dual:
        return self.both(lambda x: x.swapaxes(a, b))

    def squeeze(self, axis: Any = None) -> Dual:
        return self.both(lambda x: x.squeeze(axis))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Dual:
        return self.both(lambda x: x.sum(axis=axis, keepdims=keepdims))

    def mean(self, axis: Any = None, keepdims: bool = False) -> Dual:
        return self.both(lambda x: x.mean(axis=axis, keepdims=keepdims))

    def max(self, axis: Any = None, keepdims: bool = False) -> Dual:
        return extreme(self, np.argmax, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Dual:
        return extreme(self, np.argmin, axis, keepdims)

    def argmax(self, axis: Any = None) -> Any:
        return self.value.argmax(axis=axis)

    def dot(self, other: Any) -> Any:
        return np.dot(self, other)  # type: ignore[call-overload]

    def take(self, at: Any, axis: Any = None) -> Dual:
        return self.both(lambda x: np.take(x, at, axis=axis))

    def repeat(self, times: Any, axis: Any = None) -> Dual:
        return self.both(lambda x: x.repeat(times, axis))

    def clip(self, low: Any = None, high: Any = None) -> Dual:
        return np.clip(self, low, high)  # type: ignore[call-overload,no-any-return]

    # NumPy's calls.
    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        name = ufunc.__name__
        out = options.pop("out", None)
        if method == "reduce" and ufunc in _REDUCTIONS:
            known = {key: options.pop(key) for key in ("axis", "keepdims") if key in options}
            if not stated(options):
                return getattr(inputs[0], _REDUCTIONS[ufunc])(**{"axis": 0, **known})
        if method != "__call__":
            raise refused(f"np.{name}.{method}")
        if stated(options):
            raise refused(f"np.{name} with {', '.join(stated(options))}=")
        if ufunc in BY_VALUE:
            return ufunc(*(parts(x)[0] for x in inputs))
        if ufunc not in RULES:
            raise refused(f"np.{name}" if not name.startswith("_") else name)
        result = RULES[ufunc](*inputs)
        if out is None:
            return result
        target = out[0]
        if not isinstance(target, Dual):
            target.__setitem__(..., result)  # a plain array: says why it cannot
        target[...] = result
        return target

    def __array_function__(self, f: Any, types: Any, args: Any, kwargs: Any) -> Any:
        rule = FUNCTIONS.get(f)
        if rule is None:
            raise refused(f"np.{getattr(f, '__name__', f)}")
        return rule(*args, **kwargs)


def stated(options: dict[str, Any]) -> list[str]:
    """The options that say other than NumPy's defaults do."""
    usual = {"dtype": (None, np.float64), "where": (True,), "initial": (np._NoValue,)}
    usual |= {"casting": ("same_kind",), "order": ("K",), "subok": (True,), "out": (None,)}

    def is_usual(key: str, value: Any) -> bool:
        if isinstance(value, np.ndarray):
            return False
        return any(value is u or value == u for u in usual.get(key, ()))

    return [key for key, value in options.items() if not is_usual(key, value)]


def plain(at: Any) -> Any:
    if isinstance(at, Dual):
        raise TypeError("exact_hvp: an index is a parameter; indices must be integers")
    return at


def parts(x: Any) -> tuple[Any, Array | None]:
    """The value of an operand, and its tangent: None of a constant."""
    return (x.value, x.tangent) if isinstance(x, Dual) else (np.asarray(x), None)


def extreme(a: Dual, argument: Callable[..., Any], axis: Any, keepdims: bool) -> Dual:
    """Largest or smallest along one axis or all; of equal ones the first gives the tangent."""
    if axis is None:
        at = np.unravel_index(argument(a.value), a.shape)
        found = a[at]
        return found.reshape((1,) * a.ndim) if keepdims else found
    if not isinstance(axis, int | np.integer):
        raise refused("a maximum over several axes")
    where = np.expand_dims(argument(a.value, axis=axis), axis)
    found = a.both(lambda x: np.take_along_axis(x, where, axis))
    return found if keepdims else found.squeeze(axis)
