"""Which layer gets how many bits: sensitivities and their use; definitions in docs/sharpness.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halfulp.sharpness._arguments import Array, callable_of, like, vector
from halfulp.transforms._arguments import integer, number

Layers = Mapping[str, Array]


def hawq(eigenvalues: ArrayLike, sizes: ArrayLike) -> Array:
    """HAWQ's sensitivity of each layer, λ_max/n: the largest first gets the most bits
    (arXiv:1905.03696).
    """
    values = vector(eigenvalues, "eigenvalues")
    return values / _positive(like(sizes, values.shape, "sizes", "eigenvalues"), "sizes")


def hawq_v2(traces: ArrayLike, sizes: ArrayLike, perturbations: ArrayLike) -> Array:
    """HAWQ-V2's Ω of each layer and choice: (tr H_i/n_i)·‖Q_b(W_i) − W_i‖² (arXiv:1911.03852).

    traces, sizes: (layers,); perturbations: (layers, choices), squared norms. Their sum over
    layers is the cost of an allocation: `pareto_front`, `integer_program`.
    """
    t = vector(traces, "traces")
    if t.ndim != 1:
        raise ValueError(f"traces has the shape {t.shape}, but must be (layers,)")
    n = _positive(like(sizes, t.shape, "sizes", "traces"), "sizes")
    p = _table(perturbations, "perturbations")
    if len(p) != len(t):
        raise ValueError(f"perturbations has {len(p)} layers, but traces has {len(t)}")
    if (p < 0).any():
        raise ValueError(f"perturbations holds {p.min():g}, but squared norms are not negative")
    return (t / n)[:, None] * p


@dataclass(frozen=True)
class Allocation:
    """choice[i] is the index of layer i's choice; cost, size and bit operations are sums over
    layers.
    """

    choice: tuple[int, ...]
    cost: float
    size: float
    bit_operations: float | None = None


def pareto_front(costs: ArrayLike, sizes: ArrayLike, *, most: int = 1_000_000) -> list[Allocation]:
    """All allocations that no other beats in cost and size, smallest first.

    costs, sizes: (layers, choices). Exact: layer by layer, what is beaten is dropped, since costs
    and sizes add. Of equal ones the first stays. Sizes on a coarse grid keep fronts short;
    ValueError where one grows beyond `most`.
    """
    c = _table(costs, "costs")
    s = like(sizes, c.shape, "sizes", "costs")
    most = integer(most, "most", 1, 10**9)
    cost, size = np.zeros(1), np.zeros(1)
    trail: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for layer in range(len(c)):
        new_cost = (cost[:, None] + c[layer]).ravel()
        new_size = (size[:, None] + s[layer]).ravel()
        keep = non_dominated(new_cost, new_size)
        if len(keep) > most:
            raise ValueError(
                f"the front has {len(keep)} points after {layer + 1} layers, more than {most}; "
                "round the sizes to a coarser unit, or use integer_program for one limit"
            )
        trail.append(np.divmod(keep, c.shape[1]))
        cost, size = new_cost[keep], new_size[keep]
    found = []
    for i in range(len(cost)):
        choice, at = [], i
        for before, chosen in reversed(trail):
            choice.append(int(chosen[at]))
            at = before[at]
        found.append(Allocation(tuple(reversed(choice)), float(cost[i]), float(size[i])))
    return found


def non_dominated(costs: ArrayLike, sizes: ArrayLike) -> NDArray[np.intp]:
    """The indices of the points that no other beats in both, by size: an accuracy–size front takes
    1 − accuracy as cost. Of equal points the first stays.
    """
    c = vector(costs, "costs")
    s = like(sizes, c.shape, "sizes", "costs")
    if c.ndim != 1:
        raise ValueError(f"costs has the shape {c.shape}, but must be (points,)")
    order = np.lexsort((np.arange(len(c)), c, s))
    least = np.minimum.accumulate(c[order])
    first = np.ones(len(c), bool)
    first[1:] = c[order][1:] < least[:-1]
    return order[first]


def integer_program(
    costs: ArrayLike,
    sizes: ArrayLike,
    bit_operations: ArrayLike | None = None,
    *,
    size_limit: float | None = None,
    operation_limit: float | None = None,
    interactions: Mapping[tuple[int, int], ArrayLike] | None = None,
) -> Allocation:
    """HAWQ-V3's integer program: the choice of each layer with the least total cost under limits.

    costs, sizes, bit_operations: (layers, choices); bit operations may be any second resource, as
    latency. interactions: for pairs of layers (i, j), i < j, a (choices, choices) table of what is
    added when i takes row b and j column c (see `inter_layer`). Solved to optimality by HiGHS
    (scipy.optimize.milp) up to its tolerance of 1e-6 of the largest |cost|; limits hold exactly for
    the sums in float64. ValueError where no allocation fits. Source: arXiv:2011.10680.
    """
    from scipy.optimize import (
        Bounds,
        LinearConstraint,
        milp,
    )  # here, since importing SciPy takes long
    from scipy.sparse import coo_array

    c = _table(costs, "costs")
    layers, choices = c.shape
    resources: list[tuple[str, Array, float]] = []
    tables = {"size": like(sizes, c.shape, "sizes", "costs")}
    if bit_operations is not None:
        tables["operation"] = like(bit_operations, c.shape, "bit_operations", "costs")
    elif operation_limit is not None:
        raise ValueError("operation_limit needs bit_operations, a table of (layers, choices)")
    for name, limit in (("size", size_limit), ("operation", operation_limit)):
        if limit is None:
            continue
        bound = number(limit, f"{name}_limit")
        least = float(tables[name].min(axis=1).sum())
        if least > bound:
            raise ValueError(f"{name}_limit is {bound:g}, but the least sum is {least:g}")
        resources.append((name, tables[name], bound))

    pairs = []
    for (i, j), table in (interactions or {}).items():
        if not 0 <= i < j < layers:
            raise ValueError(
                f"interactions has the pair ({i}, {j}), but pairs are 0 <= i < j < {layers}"
            )
        pairs.append((i, j, like(table, (choices, choices), f"interactions[{i}, {j}]", "it")))
    x_count = layers * choices
    count = x_count + len(pairs) * choices**2
    objective = np.concatenate([c.ravel(), *(t.ravel() for _, _, t in pairs)])
    scale = float(np.abs(objective).max()) or 1.0

    # One choice for each layer; products y_bc = x_ib·x_jc by their sums over b and over c.
    rows, cols, entries, bounds = [], [], [], []

    def equation(terms: Sequence[tuple[int, float]], right: float) -> None:
        for col, entry in terms:
            rows.append(len(bounds))
            cols.append(col)
            entries.append(entry)
        bounds.append(right)

    for i in range(layers):
        equation([(i * choices + b, 1.0) for b in range(choices)], 1.0)
    for p, (i, j, _) in enumerate(pairs):
        first = x_count + p * choices**2
        for b in range(choices):
            row = [(first + b * choices + k, 1.0) for k in range(choices)]
            column = [(first + k * choices + b, 1.0) for k in range(choices)]
            equation([*row, (i * choices + b, -1.0)], 0.0)
            equation([*column, (j * choices + b, -1.0)], 0.0)
    matrix = coo_array((entries, (rows, cols)), shape=(len(bounds), count)).tocsr()
    constraints = [LinearConstraint(matrix, bounds, bounds)]
    for _, table, bound in resources:
        # In units of the largest entry: HiGHS lets a row be exceeded by 1e-6 or so.
        unit = float(np.abs(table).max()) or 1.0
        row = np.concatenate([table.ravel() / unit, np.zeros(count - x_count)])
        constraints.append(LinearConstraint(row[None, :], -np.inf, bound / unit))

    integrality = np.concatenate([np.ones(x_count), np.zeros(count - x_count)])
    every = np.arange(layers)
    for _ in range(10_000):
        found = milp(
            objective / scale,
            integrality=integrality,
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0.0},
        )
        if found.x is None:
            names = " and ".join(f"{name}_limit {bound:g}" for name, _, bound in resources)
            raise ValueError(f"no allocation meets {names}: {found.message}")
        choice = found.x[:x_count].reshape(layers, choices).argmax(axis=1)
        if all(table[every, choice].sum() <= bound for _, table, bound in resources):
            break
        # Over a limit by less than the tolerance: this choice is forbidden.
        cut = np.zeros(count)
        cut[every * choices + choice] = 1
        constraints.append(LinearConstraint(cut[None, :], -np.inf, layers - 1))
    else:
        raise RuntimeError("10,000 allocations exceed a limit by rounding errors; change the limit")
    cost = float(c[every, choice].sum() + sum(t[choice[i], choice[j]] for i, j, t in pairs))
    operations = tables.get("operation")
    return Allocation(
        tuple(int(b) for b in choice),
        cost,
        float(tables["size"][every, choice].sum()),
        None if operations is None else float(operations[every, choice].sum()),
    )


def baq(
    sensitivities: ArrayLike,
    mean_bits: float,
    sizes: ArrayLike | None = None,
    *,
    least: float | None = None,
    most: float | None = None,
) -> Array:
    """BAQ's bits R_i = R̄ + ½·log2(L_i / geometric mean of L), so that all L_i·2^(−2R_i) are equal.

    sizes: weights of the mean of bits and of the geometric mean (default: all 1). least, most:
    limits of R_i; the others then share what is left, with equal losses, and the mean stays
    mean_bits. Bits are real numbers: round them as the format needs. Source: arXiv:2506.05664.
    """
    s = _positive(vector(sensitivities, "sensitivities"), "sensitivities")
    n = (
        np.ones_like(s)
        if sizes is None
        else _positive(like(sizes, s.shape, "sizes", "sensitivities"), "sizes")
    )
    low = -np.inf if least is None else number(least, "least")
    high = np.inf if most is None else number(most, "most")
    mean = number(mean_bits, "mean_bits", low, high)
    if mean in (low, high):
        return np.full_like(s, mean)
    share = n / n.sum()
    half = np.log2(s) / 2
    # R_i = clip(½·log2 L_i + t): the mean rises with t, piecewise linearly, between places where
    # one reaches a limit.
    t = mean - float(share @ half)
    if np.isfinite([low, high]).any():
        turns = np.concatenate([low - half, high - half])
        turns = np.sort(turns[np.isfinite(turns)])
        means = np.array([share @ np.clip(half + turn, low, high) for turn in turns])
        at = int(np.searchsorted(means, mean))
        if at < len(turns) and means[at] == mean:
            t = float(turns[at])
        else:
            # Between two places the same ones are free.
            before = turns[at - 1] if at > 0 else turns[0] - 1
            after = turns[at] if at < len(turns) else turns[-1] + 1
            inside = half + (before + after) / 2
            free = (inside > low) & (inside < high)
            fixed = float(share[~free] @ np.clip(inside, low, high)[~free])
            if free.any():
                t = (mean - fixed - float(share[free] @ half[free])) / float(share[free].sum())
            else:  # all at limits, whose mean is mean_bits but for rounding errors
                t = (before + after) / 2
    return np.clip(half + t, low, high)


def inter_layer(joint: ArrayLike, first: ArrayLike, second: ArrayLike) -> Array:
    """The inter-layer term L_ij − L_i − L_j of rises of the loss: of both layers quantised, and of
    each alone.
    """
    together = vector(joint, "joint")
    return np.asarray(together - vector(first, "first") - vector(second, "second"))


def layer_importance(
    loss: Callable[[dict[str, Array]], float],
    quantise: Mapping[str, Callable[[Array], ArrayLike]],
    layers: Layers,
) -> Array:
    """The measured truth: the rise of the loss when one layer alone is quantised, (layers,
    choices).

    loss: of a dict of arrays as `layers` is; quantise: for each choice (a format's name, say) a
    function of an array. A layer that its quantiser leaves as it is gets exactly 0, if the loss is
    a function.
    """
    start, quantised = _quantised(loss, quantise, layers)
    return np.array(
        [
            [float(loss({**layers, name: q})) - start for q in choices]
            for name, choices in quantised.items()
        ]
    )


def layer_pairs(
    loss: Callable[[dict[str, Array]], float],
    quantise: Mapping[str, Callable[[Array], ArrayLike]],
    layers: Layers,
) -> dict[tuple[int, int], Array]:
    """`inter_layer` terms of all pairs of layers i < j, measured: (choices, choices) each, as
    `integer_program` takes them; layers·(layers − 1)/2·choices² evaluations and those of
    `layer_importance`.
    """
    start, quantised = _quantised(loss, quantise, layers)
    single = layer_importance(loss, quantise, layers)
    names = list(quantised)
    found = {}
    for i, a in enumerate(names):
        for j in range(i + 1, len(names)):
            b = names[j]
            joint = np.array(
                [
                    [float(loss({**layers, a: p, b: q})) - start for q in quantised[b]]
                    for p in quantised[a]
                ]
            )
            found[i, j] = inter_layer(joint, single[i][:, None], single[j][None, :])
    return found


def _quantised(
    loss: Callable[[dict[str, Array]], float],
    quantise: Mapping[str, Callable[[Array], ArrayLike]],
    layers: Layers,
) -> tuple[float, dict[str, list[Array]]]:
    callable_of(loss, "loss")
    if not layers or not quantise:
        raise ValueError("layers and quantise must each hold at least one entry")
    start = float(loss(dict(layers)))
    if not np.isfinite(start):
        raise ValueError(f"the loss of the layers as they are is {start}, but must be finite")
    return start, {
        name: [
            like(callable_of(f, f"quantise[{key!r}]")(x), x.shape, f"quantise[{key!r}](x)", "x")
            for key, f in quantise.items()
        ]
        for name, x in ((name, vector(x, name)) for name, x in layers.items())
    }


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation, of ranks that are averaged over ties; NaN where all of one are
    equal.
    """
    from scipy.stats import rankdata  # here, since importing SciPy takes long

    x = vector(a, "a").ravel()
    y = vector(b, "b").ravel()
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"a has {len(x)} numbers and b {len(y)}; they must be as many, at least 2")
    p, q = rankdata(x), rankdata(y)
    p, q = p - p.mean(), q - q.mean()
    norm = np.sqrt((p @ p) * (q @ q))
    return float(p @ q / norm) if norm > 0 else float("nan")


def _positive(x: Array, name: str) -> Array:
    if (x <= 0).any():
        raise ValueError(f"{name} holds {x.min():g}, but must be above 0")
    return x


def _table(x: ArrayLike, name: str) -> Array:
    values = vector(x, name)
    if values.ndim != 2:
        raise ValueError(f"{name} has the shape {values.shape}, but must be (layers, choices)")
    return values
