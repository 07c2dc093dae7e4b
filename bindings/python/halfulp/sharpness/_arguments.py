"""Checks of arguments that the measures share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Loss = Callable[[Array], float]
Map = Callable[[Array], ArrayLike]


def vector(x: ArrayLike, name: str) -> Array:
    """x as an array of float64 of any shape, which must be finite and not empty."""
    values = np.asarray(x)
    if values.dtype == object or (
        values.dtype.kind not in "fiub" and values.dtype.name not in _NARROW
    ):
        raise TypeError(f"{name} must be an array of real numbers, not of {values.dtype}")
    values = values.astype(np.float64)
    if values.size == 0:
        raise ValueError(f"{name} is empty; pass at least one number")
    if not np.isfinite(values).all():
        index = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
        raise ValueError(f"{name}{index} is {values[tuple(index)]}; replace NaN and infinities")
    return values


_NARROW = {"bfloat16"}


def like(x: ArrayLike, shape: tuple[int, ...], name: str, of: str = "w") -> Array:
    """x as `vector` gives it, of the given shape."""
    values = vector(x, name)
    if values.shape != shape:
        raise ValueError(f"{name} has the shape {values.shape}, but {of} has {shape}")
    return values


def loss_at(loss: Loss, w: Array) -> float:
    """loss(w) as a float; NaN counts as +∞, since a loss that is lost has risen."""
    value = float(loss(w))
    return value if value == value else float("inf")


def loss_at_start(loss: Loss, w: Array) -> float:
    """loss(w), which must be finite."""
    value = float(loss(w))
    if not np.isfinite(value):
        raise ValueError(f"the loss at w is {value}; sharpness is measured from a finite loss")
    return value


def product(hvp: Map, x: Array) -> Array:
    """hvp(x), which must be finite and have x's shape."""
    y = np.asarray(hvp(x), np.float64)
    if y.shape != x.shape:
        raise ValueError(f"hvp returned the shape {y.shape} for a vector of shape {x.shape}")
    if not np.isfinite(y).all():
        raise ValueError("hvp returned NaN or an infinity; the curvature is not defined there")
    return y


def callable_of(f: Any, name: str) -> Any:
    """f, which must be callable."""
    if not callable(f):
        raise TypeError(f"{name} must be a function, not {type(f).__name__}")
    return f
