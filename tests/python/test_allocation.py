"""Bit allocation: brute force over all choices, closed forms, measured truth, bad input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import halfulp as hu
from halfulp import sharpness as sh


def every(layers: int, choices: int) -> list[tuple[int, ...]]:
    return list(itertools.product(range(choices), repeat=layers))


def total(table: np.ndarray, choice: tuple[int, ...]) -> float:
    return float(sum(table[i, c] for i, c in enumerate(choice)))


def test_hawq_and_hawq_v2() -> None:
    assert sh.hawq([6.0, 1.0], [3, 2]).tolist() == [2.0, 0.5]
    omega = sh.hawq_v2([6.0, 1.0], [3, 2], [[4.0, 1.0], [8.0, 0.0]])
    assert omega.tolist() == [[8.0, 2.0], [4.0, 0.0]]


@pytest.mark.parametrize("seed", range(8))
def test_the_front_is_that_of_brute_force(seed: int) -> None:
    g = np.random.default_rng(seed)
    layers, choices = 5, 4
    costs = g.integers(0, 20, (layers, choices)).astype(float)  # many ties
    sizes = np.sort(g.integers(1, 12, (layers, choices)), axis=1).astype(float)
    points = {(total(sizes, c), total(costs, c)) for c in every(layers, choices)}
    best = sorted(
        p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)
    )
    found = sh.pareto_front(costs, sizes)
    assert [(f.size, f.cost) for f in found] == best
    for f in found:
        assert (total(sizes, f.choice), total(costs, f.choice)) == (f.size, f.cost)


def test_non_dominated_points() -> None:
    cost, size = [3.0, 1.0, 2.0, 1.0, 3.0], [1.0, 3.0, 2.0, 3.0, 2.0]
    assert sh.non_dominated(cost, size).tolist() == [0, 2, 1]


@pytest.mark.parametrize("seed", range(12))
def test_the_integer_program_against_brute_force(seed: int) -> None:
    g = np.random.default_rng(seed)
    layers, choices = int(g.integers(2, 7)), int(g.integers(2, 5))
    n = g.integers(10, 1000, layers)
    bits = np.array([2, 3, 4, 8])[:choices]
    sizes = n[:, None] * bits * 1.0
    operations = g.integers(1, 100, layers)[:, None] * bits**2 * 1.0
    costs = g.exponential(1.0, (layers, 1)) * 4.0**-bits * g.uniform(0.5, 2, (layers, choices))
    pairs = {(0, 1): g.normal(0, costs.mean(), (choices, choices))} if seed % 2 else None

    def cost(c: tuple[int, ...]) -> float:
        return total(costs, c) + sum(t[c[i], c[j]] for (i, j), t in (pairs or {}).items())

    for share in (0.0, 0.2, 0.6, 1.0):
        size_limit = float(sizes.min(axis=1).sum() * (1 - share) + sizes.max(axis=1).sum() * share)
        operation_limit = float(
            operations.min(axis=1).sum() * 0.5 + operations.max(axis=1).sum() * 0.5
        )
        allowed = [
            c
            for c in every(layers, choices)
            if total(sizes, c) <= size_limit and total(operations, c) <= operation_limit
        ]
        found = sh.integer_program(
            costs,
            sizes,
            operations,
            size_limit=size_limit,
            operation_limit=operation_limit,
            interactions=pairs,
        )
        assert found.size <= size_limit
        assert found.bit_operations <= operation_limit
        assert found.choice in allowed
        assert found.cost == pytest.approx(cost(found.choice), rel=1e-12)
        assert found.cost <= min(map(cost, allowed)) + 2e-6 * np.abs(costs).max()


def test_the_integer_program_takes_limits_exactly() -> None:
    costs, sizes = [[1.0, 0.0]], [[1e9, 1e9 + 1]]
    assert sh.integer_program(costs, sizes, size_limit=1e9).choice == (0,)
    assert sh.integer_program(costs, sizes, size_limit=1e9 + 1).choice == (1,)
    assert sh.integer_program(costs, sizes).choice == (1,)


def test_baq() -> None:
    g = np.random.default_rng(1)
    s, n = g.lognormal(0, 3, 20), g.integers(1, 50, 20)
    bits = sh.baq(s, 4.0)
    assert bits == pytest.approx(4 + 0.5 * np.log2(s / np.exp(np.log(s).mean())), abs=1e-12)
    assert bits.mean() == pytest.approx(4, abs=1e-12)
    losses = s * 4.0**-bits
    assert losses == pytest.approx(losses[0])  # equal loss
    weighted = sh.baq(s, 4.0, n)
    assert (weighted * n).sum() / n.sum() == pytest.approx(4, abs=1e-12)
    assert sh.baq([1.0, 16.0], 3.0).tolist() == [2.0, 4.0]


@pytest.mark.parametrize("seed", range(10))
def test_baq_within_limits(seed: int) -> None:
    g = np.random.default_rng(seed)
    s, n = g.lognormal(0, 5, 12), g.integers(1, 50, 12)
    for mean, least, most in (
        (3.0, 2.0, 8.0),
        (2.0, 2.0, 8.0),
        (8.0, 2.0, 8.0),
        (3.0, 0.0, None),
        (3.0, None, 5.0),
    ):
        bits = sh.baq(s, mean, n, least=least, most=most)
        assert (bits * n).sum() / n.sum() == pytest.approx(mean, abs=1e-9)
        low, high = -math.inf if least is None else least, math.inf if most is None else most
        assert ((bits >= low) & (bits <= high)).all()
        losses = np.log2(s) - 2 * bits
        free = (bits > low) & (bits < high)
        if free.any():  # equal among the free, no more at the most bits, no less at the least
            assert np.ptp(losses[free]) < 1e-9
            assert (losses[bits == low] <= losses[free].max() + 1e-9).all()
            assert (losses[bits == high] >= losses[free].min() - 1e-9).all()


FORMATS = {
    name: (lambda x, name=name: hu.round(x, name))
    for name in ("float4_e2m1fn", "float6_e3m2fn", "float8_e4m3fn")
}


def network() -> tuple[dict[str, np.ndarray], object]:
    g = np.random.default_rng(2)
    x, target = g.standard_normal((50, 6)), g.standard_normal((50, 2))
    layers = {"a": g.standard_normal((6, 8)) * 0.4, "b": g.standard_normal((8, 2)) * 0.4}

    def loss(w: dict[str, np.ndarray]) -> float:
        return float(((np.tanh(x @ w["a"]) @ w["b"] - target) ** 2).mean())

    return layers, loss


def test_importance_is_the_rise_of_the_loss() -> None:
    layers, loss = network()
    found = sh.layer_importance(loss, FORMATS, layers)
    assert found.shape == (2, 3)
    for j, f in enumerate(FORMATS):
        alone = {**layers, "b": hu.round(layers["b"], f)}
        assert found[1, j] == loss(alone) - loss(layers)
    terms = sh.layer_pairs(loss, FORMATS, layers)
    assert list(terms) == [(0, 1)]
    both = {k: hu.round(v, "float6_e3m2fn") for k, v in layers.items()}
    expected = loss(both) - loss(layers) - found[0, 1] - found[1, 1]
    assert terms[0, 1][1, 1] == pytest.approx(expected, abs=1e-15)
    assert sh.inter_layer(3.0, 1.0, 0.5) == 1.5


def test_the_sensitivity_of_what_does_not_change_is_0() -> None:
    layers, loss = network()
    layers["b"] = hu.round(layers["b"], "float4_e2m1fn")
    found = sh.layer_importance(loss, FORMATS, layers)
    assert (found[1] == 0).all()  # the formats hold these values
    assert (found[0] != 0).all()
    assert (sh.layer_pairs(loss, FORMATS, layers)[0, 1] == 0).all()
    # A loss that ties: rounded so coarsely that no quantiser changes it.
    assert (sh.layer_importance(lambda w: np.round(loss(w) / 10), FORMATS, layers) == 0).all()


def test_the_program_with_measured_terms_finds_the_best_measured_pair() -> None:
    layers, loss = network()
    single, terms = (
        sh.layer_importance(loss, FORMATS, layers),
        sh.layer_pairs(loss, FORMATS, layers),
    )
    sizes = np.array([[layers[k].size * hu.format(f).width for f in FORMATS] for k in layers])
    quantised = {k: [q(v) for q in FORMATS.values()] for k, v in layers.items()}
    for limit in (sizes[:, 0].sum(), sizes[:, 1].sum(), sizes[:, 2].sum()):
        found = sh.integer_program(single, sizes, size_limit=float(limit), interactions=terms)
        measured = {
            c: loss({k: quantised[k][c[i]] for i, k in enumerate(layers)}) - loss(layers)
            for c in every(2, 3)
            if total(sizes, c) <= limit
        }
        assert found.cost == pytest.approx(min(measured.values()), abs=1e-6)
        assert measured[found.choice] == pytest.approx(found.cost, abs=1e-14)


def test_spearman() -> None:
    from scipy.stats import spearmanr

    assert sh.spearman([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)
    assert sh.spearman([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5/√(4.5·5) by hand.
    assert sh.spearman([0, 5, 5, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert math.isnan(sh.spearman([1, 1, 1], [1, 2, 3]))
    g = np.random.default_rng(0)
    for _ in range(20):
        a, b = g.integers(0, 6, 15), g.integers(0, 6, 15)
        assert sh.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-14)


BAD = [
    (lambda: sh.hawq([1.0], [0]), "sizes holds 0, but must be above 0"),
    (lambda: sh.hawq([1.0], [1, 2]), r"sizes has the shape \(2,\), but eigenvalues has \(1,\)"),
    (lambda: sh.hawq_v2([1.0], [1], [[-1.0]]), "squared norms are not negative"),
    (lambda: sh.hawq_v2([1.0], [1], [[1.0], [2.0]]), "perturbations has 2 layers, but traces has 1"),
    (lambda: sh.baq([0.0, 1.0], 4.0), "sensitivities holds 0, but must be above 0"),
    (lambda: sh.baq([1.0], 4.0, most=3.0), "mean_bits is 4.0, but must be"),
    (lambda: sh.integer_program([[1.0]], [[5.0]], size_limit=4), "size_limit is 4, but the least sum is 5"),
    (lambda: sh.integer_program([[1.0]], [[5.0]], operation_limit=4), "operation_limit needs bit_operations"),
    (lambda: sh.integer_program([1.0], [5.0]), r"costs has the shape \(1,\)"),
    (lambda: sh.integer_program([[1.0]], [[5.0]], interactions={(0, 1): [[1.0]]}), r"the pair \(0, 1\)"),
    (lambda: sh.integer_program([[0, 1], [0, 1]], [[1, 2], [1, 2]], [[9, 1], [9, 1]], size_limit=2, operation_limit=2), "no allocation meets size_limit 2 and operation_limit 2"),
    (lambda: sh.pareto_front([[0, 1], [0, 2]], [[2, 1], [2, 1]], most=2), "more than 2; round the sizes"),
    (lambda: sh.layer_importance(lambda w: 0.0, {}, {"a": np.ones(1)}), "at least one entry"),
    (lambda: sh.layer_importance(lambda w: 0.0, {"q": lambda x: x[:1]}, {"a": np.ones(2)}), r"quantise\['q'\]"),
    (lambda: sh.layer_importance(lambda w: math.nan, {"q": lambda x: x}, {"a": np.ones(2)}), "is nan, but must be finite"),
    (lambda: sh.spearman([1.0], [1.0]), "at least 2"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "sentence"), BAD)
def test_bad_input_gets_one_sentence(call, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)
