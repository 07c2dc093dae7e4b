"""Every method on the layers of a run; what methods share is computed once. The same numbers as
`exact` and `estimate` give, which see one layer at a time (tests compare them)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halfulp.information import _estimators as e
from halfulp.information._exact import Information, exact_of
from halfulp.information._icosahedron import icosahedron
from halfulp.information._network import ACTIVATIONS, Array, Run, Wide

ON_ALL_ROWS = ("exact", "binning", "binning-closed", "bin-size", "ebab")
ON_A_SUBSET = ("exact-256", "kde", "akde", "noise", "cs-qmi", "ksg", "kl")
METHODS = (*ON_ALL_ROWS, *ON_A_SUBSET)
REFUSING = ("ksg", "kl")  # asked at the first and the last record alone
SUBSET = 256  # rows for methods whose time grows with the square
OPTIONS = {
    "noise": {"deviation": 0.1, "draws": 2, "seed": 0},
    "kde": {"variance": 1e-3, "bound": "upper"},
    "ksg": {"neighbours": 3},
    "kl": {"neighbours": 5, "components": 4},
}


def subset_of(rows: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).permutation(rows)[:SUBSET])


def symbols(layer: Array) -> tuple[Array, NDArray[np.int64]]:
    """The different values, in any order, and for each element the number of its value."""
    bits = np.ascontiguousarray(layer).view(np.uint32)
    if (bits & 0xFFFF).any():
        values, number = np.unique(layer, return_inverse=True)
        return values, number.reshape(layer.shape)
    codes = bits >> 16  # of bfloat16, which holds the values of all narrower formats: a table
    present = np.flatnonzero(np.bincount(codes.ravel(), minlength=1 << 16))
    table = np.empty(1 << 16, np.int64)
    table[present] = np.arange(len(present))
    return (present.astype(np.uint32) << 16).view(np.float32), table[codes]


def row_keys(digits: NDArray[np.int64], base: int) -> NDArray[np.int64]:
    """A number below 2⁶¹ for each row of digits in 0 … base − 1; equal where rows are."""
    columns = 1
    while columns < digits.shape[1] and max(base, 2) ** (columns + 1) <= 1 << 61:
        columns += 1
    words = []
    for start in range(0, digits.shape[1], columns):
        word = digits[:, start].copy()
        for column in digits.T[start + 1 : start + columns]:
            word *= base
            word += column
        words.append(word)
    found = words[0]
    for word in words[1:]:
        found = np.unique(found, return_inverse=True)[1]
        if int(found.max()) == len(found) - 1:
            break  # all rows differ by now
        new = np.unique(word, return_inverse=True)[1]
        found = found * (int(new.max()) + 1) + new
    return found


@dataclass(frozen=True)
class Subset:
    """What all layers share on the subset of rows."""

    rows: NDArray[np.int64]
    x: Wide
    labels: NDArray[np.int64]
    kernel_x: Wide
    kernel_y: Wide

    @staticmethod
    def of(x: Array, y: NDArray[np.int64]) -> Subset:
        rows = subset_of(len(x))
        inputs, labels = x[rows].astype(np.float64), y[rows]
        of_labels = e.kernel(np.eye(int(labels.max()) + 1)[labels], None)
        return Subset(rows, inputs, labels, e.kernel(inputs, None), of_labels)


def on_layer(
    layer: Array, y: NDArray[np.int64], low: float, high: float, subset: Subset, ask: bool
) -> tuple[dict[str, Information], tuple[float, float]]:
    """By method, those left out that refuse; and the shares of values, and of rows with such a
    value, in the bin that only `high` and what lies above it hits."""
    values, number = symbols(layer)
    wide = values.astype(np.float64)
    bins = e.uniform_bins(wide, 30, low, high)
    sizes = np.floor(wide / 0.07).astype(np.int64)
    adaptive = np.digitize(wide, e.adaptive_edges(wide, 30))
    key = row_keys(number, len(values))
    found: dict[str, Information] = {"exact": exact_of(key, y)}
    for method, of_value in {
        "binning": bins,
        "binning-closed": np.minimum(bins, 29),
        "bin-size": sizes - sizes.min(),
        "ebab": adaptive,
    }.items():
        digits = of_value[number]
        found[method] = exact_of(row_keys(digits, int(of_value.max()) + 1), y)
    found |= on_subset(layer[subset.rows].astype(np.float64), key[subset.rows], subset, ask)
    top = bins[number] == 30
    return found, (float(top.mean()), float(top.any(axis=1).mean()))


def on_subset(t: Wide, key: NDArray[np.int64], subset: Subset, ask: bool) -> dict[str, Information]:
    y = subset.labels
    number = np.unique(key, return_inverse=True)[1]
    m = e.mixture_of_classes(t, number, y)
    squared = e.squared_distances(m.centres, m.centres)
    variance = OPTIONS["kde"]["variance"]
    kernel = e.kernel_of(squared, e.silverman(t))[number[:, None], number]
    found = {
        "exact-256": exact_of(number, y),
        "kde": e.kde_of(m, squared, variance, "upper"),
        "akde": e.kde_of(m, squared, variance * e.largest(t) ** 2, "upper"),
        "noise": e.noise_of(m, t, y, **OPTIONS["noise"]),
        "cs-qmi": Information(
            e.cs_divergence(subset.kernel_x, kernel), e.cs_divergence(subset.kernel_y, kernel)
        ),
    }
    for method in REFUSING if ask else ():
        with suppress(ValueError):
            e.refuse_ties(t, "t", method)
            of = e.ON_PAIRS[method](subset.x, t, **OPTIONS[method])
            found[method] = Information(of, float("nan"))
    return found


def measure(run: Run, activation: str) -> dict[str, NDArray[np.float32]]:
    """`information/METHOD` (seeds, epochs, layers, 2): I(X;T) and I(T;Y) in bits, NaN where it was
    not asked, refuses, or meets values that are not finite. `top_bin` likewise: the shares of
    values, and of rows with such a value, at the last edge of the 30 bins or above. `distinct`
    (seeds, epochs, layers): different rows."""
    x, y = icosahedron()
    labels = y.astype(np.int64)
    subset = Subset.of(x, labels)
    shape = (len(run.layers[0][0]), len(run.epochs), len(run.layers[0]))
    names = [*[f"information/{method}" for method in METHODS], "top_bin"]
    found = {name: np.full((*shape, 2), np.nan, np.float32) for name in names}
    found["distinct"] = np.zeros(shape, np.float32)
    of_hidden = ACTIVATIONS[activation]
    for r, layers in enumerate(run.layers):
        ask = r in (0, len(run.epochs) - 1)
        for i, layer in enumerate(layers):
            hidden = i < len(layers) - 1
            low, high = (of_hidden.low, of_hidden.bound) if hidden else (-1.0, 1.0)
            for s, t in enumerate(layer):
                if not np.isfinite(t).all():
                    continue
                of, top = on_layer(t, labels, low, high, subset, ask)
                for method, value in of.items():
                    found[f"information/{method}"][s, r, i] = value.i_xt, value.i_ty
                found["top_bin"][s, r, i] = top
                found["distinct"][s, r, i] = of["exact"].distinct
    return found
