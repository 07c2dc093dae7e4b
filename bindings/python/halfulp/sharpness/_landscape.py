"""Slices of the loss along one or two directions, and their pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from halfulp.sharpness._arguments import Array, callable_of, like, vector
from halfulp.transforms._arguments import integer, number


@dataclass(frozen=True)
class Landscape:
    """Losses at w + α·d₀ (losses[i]), or w + α·d₀ + β·d₁ (losses[i, j]: α = along[i], β =
    along[j]).
    """

    along: Array
    losses: Array
    directions: list[list[Array]]

    def plot(self, ax: Any = None, *, logarithmic: bool = False) -> Any:
        """The slice as a curve or as contours; returns the matplotlib axes. Where the loss is not
        finite nothing is drawn.
        """
        import matplotlib.pyplot as plt
        from matplotlib.ticker import MaxNLocator

        if ax is None:
            ax = plt.subplots(figsize=(5, 4), layout="constrained")[1]
        losses = np.where(np.isfinite(self.losses), self.losses, np.nan)
        if not np.isfinite(losses).any():
            raise ValueError("no loss of the slice is finite; there is nothing to draw")
        if logarithmic and not (losses[np.isfinite(losses)] > 0).all():
            raise ValueError("a logarithmic picture needs losses above 0")
        ax.set_xlabel("α")
        if losses.ndim == 1:
            ax.plot(self.along, losses, linewidth=1.2)
            ax.axvline(0, color="0.6", linewidth=0.8)
            ax.set_ylabel("loss")
            ax.set_yscale("log" if logarithmic else "linear")
            return ax
        shown = np.log10(losses) if logarithmic else losses
        levels = MaxNLocator(15).tick_values(np.nanmin(shown), np.nanmax(shown))
        filled = ax.contourf(self.along, self.along, shown.T, levels, cmap="viridis")
        ax.contour(self.along, self.along, shown.T, levels, colors="k", linewidths=0.4, alpha=0.5)
        ax.plot(0, 0, "w+", markersize=9)
        ax.set_ylabel("β")
        ax.set_aspect("equal")
        ax.figure.colorbar(filled, ax=ax, label="log10 loss" if logarithmic else "loss")
        return ax


def landscape(
    loss: Callable[[Any], float],
    w: ArrayLike | Sequence[ArrayLike],
    directions: int | Sequence[Any] = 2,
    *,
    reach: float = 1.0,
    points: int = 21,
    filter_normalised: bool = True,
    filter_axis: int = 0,
    seed: int = 0,
) -> Landscape:
    """The loss on a line (1 direction) or a square (2) around w, |α|, |β| ≤ reach; points (odd) a
    side.

    w: an array, or a list of arrays; the loss takes the same. directions: how many random normal
    ones (`seed`), or the directions themselves, each shaped as w. filter_normalised: each filter
    (index of `filter_axis` of an array of 2 or more dimensions) of a direction gets the norm of w's
    filter, and vectors of a list (biases) stay fixed; one vector alone counts as one filter.
    Source: arXiv:1712.09913. Evaluate in float32 or wider, so that what is seen is the function and
    not the evaluation's rounding.
    """
    callable_of(loss, "loss")
    alone = not isinstance(w, list | tuple) or all(np.ndim(x) == 0 for x in w)
    if alone:
        parts = [vector(w, "w")]
    else:
        parts = [vector(x, f"w[{i}]") for i, x in enumerate(w)]
    points = integer(points, "points", 3, 100_001)
    if points % 2 == 0:
        raise ValueError(f"points is {points}, but must be odd, so that w itself is one of them")
    size = number(reach, "reach", 0.0)
    if isinstance(directions, int | np.integer) and not isinstance(directions, bool):
        count = integer(directions, "directions", 1, 2)
        generator = np.random.default_rng(integer(seed, "seed", 0, 2**64 - 1))
        found = [[generator.standard_normal(p.shape) for p in parts] for _ in range(count)]
    else:
        if len(directions) not in (1, 2):
            raise ValueError(f"directions holds {len(directions)} directions, but must hold 1 or 2")
        found = []
        for n, d in enumerate(directions):
            pieces = [d] if alone else list(d)
            if len(pieces) != len(parts):
                raise ValueError(
                    f"directions[{n}] has {len(pieces)} arrays, but w has {len(parts)}"
                )
            found.append(
                [like(x, p.shape, f"directions[{n}]") for x, p in zip(pieces, parts, strict=True)]
            )
    if filter_normalised:
        found = [
            [_normalised(x, p, filter_axis, len(parts) == 1) for x, p in zip(d, parts, strict=True)]
            for d in found
        ]
    along = np.linspace(-size, size, points)
    along[points // 2] = 0

    def at(*steps: float) -> float:
        moved = [
            p + sum(a * d[i] for a, d in zip(steps, found, strict=True))
            for i, p in enumerate(parts)
        ]
        return float(loss(moved[0] if alone else moved))

    if len(found) == 1:
        losses = np.array([at(a) for a in along])
    else:
        losses = np.array([[at(a, b) for b in along] for a in along])
    return Landscape(along, losses, found)


def _normalised(d: Array, w: Array, axis: int, single: bool) -> Array:
    if w.ndim < 2:
        if not single:
            return np.zeros_like(d)
        others = None
    else:
        if not -w.ndim <= axis < w.ndim:
            raise ValueError(f"filter_axis is {axis}, but an array of w has {w.ndim} dimensions")
        others = tuple(i for i in range(w.ndim) if i != axis % w.ndim)
    norm = np.sqrt((d * d).sum(axis=others, keepdims=True))
    target = np.sqrt((w * w).sum(axis=others, keepdims=True))
    return np.asarray(d * (target / np.where(norm > 0, norm, 1)))
