"""Entropies and mutual information of codes, exactly: counted, not estimated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Information:
    """Mutual information in bits. `i_xt`: of a layer's values T and the input X, `i_ty`: of T and
    the labels Y."""

    i_xt: float
    i_ty: float


@dataclass(frozen=True)
class Exact(Information):
    """`h_t`, `h_y`: the entropies of T and of the labels; `distinct`: different values of T;
    `samples`: N."""

    h_t: float
    h_y: float
    distinct: int
    samples: int


def classes(codes: ArrayLike) -> NDArray[np.int64]:
    """The number (N,) of each row's class: rows of codes (N, d) are equal where all their bits are.

    Floats are compared as bits: −0 and +0 are different codes, as are NaNs with different payloads.
    """
    a = np.ascontiguousarray(np.asarray(codes))
    if a.ndim == 1:
        a = a[:, None]
    if a.ndim != 2:
        raise ValueError(f"codes has {a.ndim} dimensions, but must be (N, d) or (N,)")
    if a.dtype.hasobject:
        raise TypeError(f"codes has dtype {a.dtype}; pass numbers")
    if a.shape[0] == 0:
        raise ValueError("codes has no rows; information needs at least one sample")
    if a.shape[1] == 0:
        return np.zeros(a.shape[0], np.int64)
    if a.dtype.itemsize in (1, 2, 4, 8):
        return numbered(a.view(f"u{a.dtype.itemsize}"))
    return numbered(a.view(np.uint8))


def numbered(a: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    """Column by column, (class of the columns before, column) is numbered anew: sorts of integers,
    which are faster than sorts of rows. Words of eight bytes hold several columns."""
    width = a.dtype.itemsize
    if width < 8:
        columns = -(-a.shape[1] * width // 8)
        wide = np.zeros((a.shape[0], columns * 8 // width), a.dtype)
        wide[:, : a.shape[1]] = a
        a = wide.view(np.uint64)
    found = np.unique(a[:, 0], return_inverse=True)[1].astype(np.int64)
    for column in a.T[1:]:
        if int(found.max()) == len(found) - 1:
            break  # all rows differ by now
        new = np.unique(column, return_inverse=True)[1]
        pair = found * (int(new.max()) + 1) + new  # below N², which 64 bits hold
        found = np.unique(pair, return_inverse=True)[1].astype(np.int64)
    return found


def entropy_of_counts(counts: ArrayLike) -> float:
    """Of counts, in bits: log2 N − Σ c·log2 c / N; exact where all counts are powers of two."""
    c = np.asarray(counts, np.float64)
    c = c[c > 0]
    total = c.sum()
    return float(np.log2(total) - np.sum(c * np.log2(c)) / total) + 0.0


def entropy(codes: ArrayLike) -> float:
    """H of the rows of codes (N, d), each as likely as any other, in bits."""
    return entropy_of_counts(np.bincount(classes(codes)))


def exact(codes: ArrayLike, labels: ArrayLike | None = None) -> Exact:
    """I(X;T) and I(T;Y) of a deterministic layer on N equally likely, different inputs.

    codes: (N, d), the layer's values of each input, as codes of a format or as floats (whose bits
    count). labels: (N,). T is a function of X, so I(X;T) = H(T); I(T;Y) = H(T) + H(Y) − H(T, Y).
    No estimator: values are counted (Lorenzen, Igel & Nielsen, "Information bottleneck: exact
    analysis of (quantized) neural networks", ICLR 2022). Without labels I(T;Y) is 0.
    """
    t = classes(codes)
    y = np.zeros_like(t) if labels is None else classes(labels)
    if y.shape != t.shape:
        raise ValueError(f"labels has {y.shape[0]} rows, but codes has {t.shape[0]}")
    return exact_of(t, y)


def exact_of(t: NDArray[np.int64], y: NDArray[np.int64]) -> Exact:
    """exact, of numbers that stand for rows: t in 0 … 2⁶³/K − 1, y in 0 … K − 1."""
    labels = int(y.max()) + 1
    joint = np.sort(t * labels + y)
    c_t, c_ty = run_lengths(joint // labels), run_lengths(joint)
    h_t, h_y = entropy_of_counts(c_t), entropy_of_counts(np.bincount(y))
    h_ty = entropy_of_counts(c_ty)
    return Exact(h_t, max(0.0, h_t + h_y - h_ty), h_t, h_y, len(c_t), t.size)


def run_lengths(ordered: NDArray[np.int64]) -> NDArray[np.int64]:
    starts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return np.diff(starts, prepend=0, append=len(ordered))
