"""Exact Hessian-vector products of a caller's gradient: the rules of dual arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from halfulp.sharpness._arguments import Array, Map, callable_of, like, vector
from halfulp.sharpness._dual_array import BY_VALUE, FUNCTIONS, RULES, Dual, parts, refused, stated


def _sum(a: Array | None, b: Array | None) -> Any:
    return b if a is None else (a if b is None else a + b)


def _bilinear(product: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Dual]:
    """(ab)' = a'b + ab' of any product."""

    def rule(a: Any, b: Any) -> Dual:
        (x, dx), (y, dy) = parts(a), parts(b)
        left = None if dx is None else product(dx, y)
        right = None if dy is None else product(x, dy)
        return Dual(product(x, y), _sum(left, right))

    return rule


def _elementwise(
    f: Callable[[Any], Any], slope: Callable[[Any, Any], Any]
) -> Callable[[Any], Dual]:
    """slope(x, f(x)) is f'(x)."""

    def rule(a: Any) -> Dual:
        x, dx = parts(a)
        y = f(x)
        return Dual(y, slope(x, y) * dx)

    return rule


def _add(a: Any, b: Any) -> Dual:
    (x, dx), (y, dy) = parts(a), parts(b)
    value = x + y
    return Dual(value, np.broadcast_to(_sum(dx, dy), value.shape))


def _subtract(a: Any, b: Any) -> Dual:
    (x, dx), (y, dy) = parts(a), parts(b)
    value = x - y
    return Dual(value, np.broadcast_to(_sum(dx, None if dy is None else -dy), value.shape))


def _divide(a: Any, b: Any) -> Dual:
    (x, dx), (y, dy) = parts(a), parts(b)
    value = x / y
    if dy is None:
        return Dual(value, dx / y)
    return Dual(value, _sum(None if dx is None else dx / y, -value * (dy / y)))


def _power(a: Any, b: Any) -> Dual:
    (x, dx), (y, dy) = parts(a), parts(b)
    value = x**y
    left = right = None
    if dx is not None:  # x^0 has the slope 0 also where x is 0
        left = np.where(y == 0, 0.0, y * x ** np.where(y == 0, 1.0, y - 1.0)) * dx
    if dy is not None:
        right = value * np.log(x) * dy
    return Dual(value, _sum(left, right))


def _where(condition: Any, a: Any = None, b: Any = None) -> Any:
    if isinstance(condition, Dual):
        condition = condition.value != 0
    if a is None or b is None:
        return np.where(condition)
    (x, dx), (y, dy) = parts(a), parts(b)
    return Dual(
        np.where(condition, x, y),
        np.where(condition, 0.0 if dx is None else dx, 0.0 if dy is None else dy),
    )


def _choice(better: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def rule(a: Any, b: Any) -> Any:
        x, y = parts(a)[0], parts(b)[0]
        return _where(better(x, y) | np.isnan(x), a, b)

    return rule


def _absolute_slope(x: Any, _: Any) -> Any:
    return np.sign(x)


RULES |= {
    np.add: _add,
    np.subtract: _subtract,
    np.multiply: _bilinear(np.multiply),
    np.matmul: _bilinear(np.matmul),
    np.divide: _divide,
    np.power: _power,
    np.float_power: _power,
    np.negative: lambda a: a.both(np.negative),
    np.positive: lambda a: a.copy(),
    np.conjugate: lambda a: a.copy(),
    np.exp: _elementwise(np.exp, lambda x, y: y),
    np.expm1: _elementwise(np.expm1, lambda x, y: y + 1),
    np.exp2: _elementwise(np.exp2, lambda x, y: np.log(2) * y),
    np.log: _elementwise(np.log, lambda x, y: 1 / x),
    np.log1p: _elementwise(np.log1p, lambda x, y: 1 / (1 + x)),
    np.log2: _elementwise(np.log2, lambda x, y: 1 / (np.log(2) * x)),
    np.tanh: _elementwise(np.tanh, lambda x, y: 1 - y * y),
    np.sin: _elementwise(np.sin, lambda x, y: np.cos(x)),
    np.cos: _elementwise(np.cos, lambda x, y: -np.sin(x)),
    np.sqrt: _elementwise(np.sqrt, lambda x, y: 0.5 / y),
    np.square: _elementwise(np.square, lambda x, y: 2 * x),
    np.reciprocal: _elementwise(np.reciprocal, lambda x, y: -y * y),
    np.absolute: _elementwise(np.absolute, _absolute_slope),
    np.fabs: _elementwise(np.fabs, _absolute_slope),
    np.arctan: _elementwise(np.arctan, lambda x, y: 1 / (1 + x * x)),
    np.logaddexp: lambda a, b: _log_add_exp(a, b),
    np.maximum: _choice(np.greater_equal),
    np.minimum: _choice(np.less_equal),
}
# Constant between jumps, or no function of the reals: values alone.
BY_VALUE |= {
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
    *(np.isnan, np.isfinite, np.isinf, np.sign, np.signbit, np.logical_not),
    *(np.logical_and, np.logical_or),
}


def _log_add_exp(a: Any, b: Any) -> Dual:
    (x, dx), (y, dy) = parts(a), parts(b)
    share = 1 / (1 + np.exp(np.clip(y - x, -700, 700)))
    left = None if dx is None else share * dx
    return Dual(np.logaddexp(x, y), _sum(left, None if dy is None else (1 - share) * dy))


def _special() -> None:
    """erf, expit, log_expit: their rules, once SciPy's module is there."""
    from scipy import special

    two = 2 / np.sqrt(np.pi)
    RULES[special.erf] = _elementwise(special.erf, lambda x, y: two * np.exp(-x * x))
    RULES[special.expit] = _elementwise(special.expit, lambda x, y: y * (1 - y))
    RULES[special.log_expit] = _elementwise(special.log_expit, lambda x, y: -np.expm1(y))


def _of_all(f: Callable[..., Any]) -> Callable[..., Dual]:
    """f(arrays, …), linear in all of them together."""

    def rule(arrays: Sequence[Any], *args: Any, **options: Any) -> Dual:
        pairs = [parts(a) for a in arrays]
        tangents = [np.zeros(np.shape(v)) if t is None else t for v, t in pairs]
        return Dual(f([v for v, _ in pairs], *args, **options), f(tangents, *args, **options))

    return rule


def _of_one(f: Callable[..., Any]) -> Callable[..., Any]:
    """f(array, …), linear in it."""
    return lambda a, *args, **options: a.both(lambda x: f(x, *args, **options))


def _einsum(subscripts: Any, *operands: Any, **options: Any) -> Any:
    """The rule of products, one operand after the other."""
    if not isinstance(subscripts, str) or stated(options) not in ([], ["optimize"]):
        raise refused("np.einsum but with subscripts as a string and no other options")
    pairs = [parts(x) for x in operands]
    values = [v for v, _ in pairs]
    tangent: Any = None
    for i, (_, t) in enumerate(pairs):
        if t is not None:
            along = np.einsum(subscripts, *values[:i], t, *values[i + 1 :], **options)
            tangent = _sum(tangent, along)
    return Dual(np.einsum(subscripts, *values, **options), tangent)


def _clip(a: Any, low: Any = None, high: Any = None, **options: Any) -> Any:
    low, high = options.pop("a_min", options.pop("min", low)), options.pop("a_max", high)
    high = options.pop("max", high)
    if stated(options):
        raise refused("np.clip with more than two limits")
    a = a if low is None else np.maximum(a, low)
    return a if high is None else np.minimum(a, high)


def _mean(a: Any, axis: Any = None, **options: Any) -> Any:
    keepdims = options.pop("keepdims", False) is True
    if said := stated(options):
        raise refused(f"np.mean with {', '.join(said)}=")
    return a.mean(axis, keepdims=keepdims)


def _pad(a: Any, width: Any, mode: Any = "constant", **options: Any) -> Any:
    if mode == "constant":  # beyond the edge is no parameter
        return Dual(np.pad(a.value, width, **options), np.pad(a.tangent, width))
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise refused(f"np.pad of mode {mode!r}")
    return a.both(lambda x: np.pad(x, width, mode, **options))


def _constant(value: float, a: Any, shape: Any) -> Dual:
    shape = a.shape if shape is None else shape
    return Dual(np.full(shape, value), np.zeros(shape))


FUNCTIONS |= {
    np.concatenate: _of_all(np.concatenate),
    np.stack: _of_all(np.stack),
    np.hstack: _of_all(np.hstack),
    np.vstack: _of_all(np.vstack),
    **{
        f: _of_one(f)
        for f in (
            *(np.reshape, np.ravel, np.transpose, np.swapaxes, np.moveaxis, np.squeeze),
            *(np.expand_dims, np.broadcast_to, np.take, np.take_along_axis, np.repeat, np.tile),
            *(np.roll, np.flip, np.diagonal, np.trace, np.cumsum, np.copy, np.tril, np.triu),
        )
    },
    np.sum: lambda a, axis=None, **k: np.add.reduce(a, axis=axis, **k),
    np.mean: _mean,
    np.pad: _pad,
    np.max: lambda a, axis=None, **k: np.maximum.reduce(a, axis=axis, **k),
    np.min: lambda a, axis=None, **k: np.minimum.reduce(a, axis=axis, **k),
    np.argmax: lambda a, axis=None: a.argmax(axis),
    np.dot: _bilinear(np.dot),
    np.inner: _bilinear(np.inner),
    np.outer: _bilinear(np.outer),
    np.vdot: _bilinear(np.vdot),
    np.tensordot: lambda a, b, axes=2: _bilinear(lambda x, y: np.tensordot(x, y, axes))(a, b),
    np.einsum: _einsum,
    np.where: _where,
    np.clip: _clip,
    np.zeros_like: lambda a, shape=None, **_: _constant(0.0, a, shape),
    np.ones_like: lambda a, shape=None, **_: _constant(1.0, a, shape),
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.size: lambda a: a.size,
}


def exact_hvp(gradient: Map, w: ArrayLike) -> Map:
    """H·x by running the caller's own gradient, in NumPy, over w + x·ε: exact but for the rounding
    errors of the gradient itself, at some three times its cost (Pearlmutter 1994).

    gradient(w): the gradient of the loss, of w's shape, by operators and the functions that
    docs/sharpness.md lists. What loses the derivative raises TypeError with the function's name;
    `difference_hvp` takes any gradient. At a kink (relu at 0) the branch of the value decides.
    Semantics (a): where gradient quantises, quantise w before instead.

    >>> product = exact_hvp(lambda w: w**3, [1.0, 2.0])  # of Σ w⁴/4
    >>> product(np.array([1.0, 10.0]))
    array([  3., 120.])
    """
    w = vector(w, "w")
    callable_of(gradient, "gradient")
    _special()

    def hvp(x: Array) -> Array:
        d = like(np.asarray(x, np.float64).reshape(w.shape), w.shape, "x")
        g = gradient(Dual(w.copy(), d.copy()))  # type: ignore[arg-type]
        if isinstance(g, Dual):
            if g.shape != w.shape:
                raise ValueError(f"gradient returned the shape {g.shape}, but w has {w.shape}")
            return np.array(g.tangent).reshape(np.shape(x))
        like(g, w.shape, "gradient(w)")  # a constant: the loss is linear
        return np.zeros(np.shape(x))

    return hvp
