"""The bit-allocation part of the study `sharpness`: measures against direct evaluation, choices against brute force, controls, files."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from scipy import stats

import halfulp as hu
from halfulp import sharpness as sh
from halfulp.sharpness import _allocation_measures as measures
from halfulp.sharpness import _allocation_page as page
from halfulp.sharpness import _allocation_results as results
from halfulp.sharpness import _allocation_study as study
from halfulp.sharpness import _data
from halfulp.sharpness._networks import adam

mpl.use("Agg")

FORMATS, INTEGERS, BITS = list(measures.FORMATS), list(measures.INTEGERS), measures.BITS


def every_other(data: sh.Images) -> sh.Images:
    """With half of the pixels: small layers."""
    return dataclasses.replace(data, train_x=data.train_x[:, ::2], test_x=data.test_x[:, ::2])


@pytest.fixture(scope="module")
def point() -> measures.Point:
    """A trained network of three layers."""
    data, net = every_other(sh.digits()), sh.Mlp((32, 6, 5, 10))
    w = adam(net, net.initial(0), data.train_x[:300], data.train_y[:300], epochs=6, anneal=True)
    return measures.Point(net, w, data.train_x[:80], data.train_y[:80])


@pytest.fixture(scope="module")
def quantised(point: measures.Point) -> measures.Quantised:
    return measures.quantised(point)


@pytest.fixture(scope="module")
def proxies(point: measures.Point, quantised: measures.Quantised) -> dict[str, np.ndarray]:
    return measures.proxies(point, quantised, samples=3 * 192, seed=0)


def put(
    point: measures.Point, quantised: measures.Quantised, names: tuple[str | None, ...]
) -> np.ndarray:
    w = point.w.copy()
    for part, by, name in zip(point.parts, quantised, names, strict=True):
        if name is not None:
            w[part] = by[name]
    return w


def test_integers_are_those_of_the_best_clip() -> None:
    x = np.random.default_rng(0).standard_normal(500)
    for b in (2, 3, 5, 8):
        best = None
        for clip in measures.CLIPS:
            scale = clip * np.abs(x).max() / (2 ** (b - 1) - 1)
            y = np.clip(np.rint(x / scale), -(2 ** (b - 1)), 2 ** (b - 1) - 1) * scale
            if best is None or ((y - x) ** 2).sum() < ((best - x) ** 2).sum():
                best = y
        assert (measures.quantise(x, f"INT{b}") == best).all()
    errors = [((measures.quantise(x, f"INT{b}") - x) ** 2).sum() for b in range(2, 9)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("name", FORMATS)
def test_a_power_of_two_goes_through_a_quantiser(name: str) -> None:
    x = np.random.default_rng(1).standard_normal(300)
    y = measures.quantise(x, name)
    assert (measures.quantise(8 * x, name) == 8 * y).all()
    assert 0 < np.abs(y - x).max() < 3
    assert not measures.quantise(np.zeros(3), name).any()
    if name == "BF16":
        assert (y == hu.round(x, "bfloat16")).all()


def test_truth_pairs_and_all_allocations_are_losses_of_the_network(
    point: measures.Point, quantised: measures.Quantised
) -> None:
    net, data = point.network, every_other(sh.digits())
    test_x, test_y = data.test_x[:50], data.test_y[:50]

    def rise(names: tuple[str | None, ...]) -> float:
        return net.loss(put(point, quantised, names), point.x, point.y) - base

    base = net.loss(point.w, point.x, point.y)
    truth = measures.truth(point, quantised)
    for layer, f in ((0, 0), (1, 7), (2, 13)):
        names = tuple(FORMATS[f] if i == layer else None for i in range(3))
        assert truth[layer, f] == rise(names)
    pairs = measures.pairs(point, quantised)
    assert sorted(pairs) == [(0, 1), (0, 2), (1, 2)]
    assert pairs[0, 2][1, 3] == pytest.approx(
        rise(("INT3", None, "INT5")) - rise(("INT3", None, None)) - rise((None, None, "INT5")),
        abs=1e-14,
    )
    loss, test_loss, accuracy = measures.enumerate_all(point, quantised, test_x, test_y)
    assert loss.shape == (7, 7, 7)
    for choice in ((0, 0, 0), (6, 5, 4), (1, 3, 0), (2, 6, 6)):
        w = put(point, quantised, tuple(INTEGERS[c] for c in choice))
        assert loss[choice] == pytest.approx(net.loss(w, point.x, point.y), rel=1e-12)
        assert test_loss[choice] == pytest.approx(net.loss(w, test_x, test_y), rel=1e-12)
        assert accuracy[choice] == net.accuracy(w, test_x, test_y)


def test_enumeration_of_a_convolution(point: measures.Point) -> None:
    data, net = sh.digits(), sh.ConvNet(8, (2, 3))
    other = measures.Point(net, net.initial(1), data.train_x[:20], data.train_y[:20])
    q = measures.quantised(other)
    loss, _, accuracy = measures.enumerate_all(other, q, data.test_x[:20], data.test_y[:20])
    for choice in ((0, 1, 2), (5, 0, 3)):
        w = put(other, q, tuple(INTEGERS[c] for c in choice))
        assert loss[choice] == pytest.approx(net.loss(w, other.x, other.y), rel=1e-12)
        assert accuracy[choice] == net.accuracy(w, data.test_x[:20], data.test_y[:20])
    assert other.products.tolist() == [36 * 9 * 2, 16 * 18 * 3, 48 * 10]


def test_proxies_are_those_of_the_dense_hessian(
    point: measures.Point, quantised: measures.Quantised, proxies: dict[str, np.ndarray]
) -> None:
    net = point.network
    product = net.hvp(point.w, point.x, point.y)
    gradient = net.gradient(point.w, point.x, point.y)
    for i, part in enumerate(point.parts):
        basis = np.zeros((part.stop - part.start, net.n))
        basis[:, part] = np.eye(len(basis))
        dense = np.array([product(row)[part] for row in basis])
        n = len(basis)
        assert proxies["λ"][i] == pytest.approx(np.linalg.eigvalsh(dense)[-1], rel=1e-3)
        assert proxies["tr"][i] == pytest.approx(np.trace(dense), rel=1e-9)
        for f, name in enumerate(FORMATS):
            d = quantised[i][name] - point.w[part]
            assert proxies["perturbation"][i, f] == pytest.approx(d @ d, rel=1e-12)
            assert proxies["hawq-v2"][i, f] == pytest.approx(
                np.trace(dense) / n * (d @ d), rel=1e-8
            )
            assert proxies["second order"][i, f] == pytest.approx(
                d @ dense @ d / 2, rel=1e-9, abs=1e-15
            )
            assert proxies["first order"][i, f] == pytest.approx(
                gradient[part] @ d, rel=1e-9, abs=1e-15
            )
            assert proxies["hawq"][i, f] == proxies["λ"][i] / n
            bits = measures.FORMATS[name][1]
            at8 = proxies["hawq-v2"][i, FORMATS.index("INT8")]
            assert proxies["baq"][i, f] == pytest.approx(at8 * 4.0 ** (8 - bits), rel=1e-12)
    # Near enough, the expansion to second order is the truth.
    fine = FORMATS.index("BF16")
    truth = measures.truth(point, quantised)[:, fine]
    np.testing.assert_allclose(proxies["taylor"][:, fine], truth, rtol=1e-2, atol=1e-8)


def test_choices_against_brute_force(
    point: measures.Point, quantised: measures.Quantised, proxies: dict[str, np.ndarray]
) -> None:
    sizes = point.sizes
    at = [FORMATS.index(name) for name in INTEGERS]
    costs = {k: proxies[k][:, at] for k in ("hawq", "baq", "hawq-v2", "taylor")}
    costs["measured"] = measures.truth(point, quantised)[:, at]
    pairs = measures.pairs(point, quantised)
    everything = list(itertools.product(range(7), repeat=3))

    def total(table: np.ndarray, c: tuple[int, ...]) -> float:
        return float(sum(table[i, k] for i, k in enumerate(c)))

    def joint(c: tuple[int, ...]) -> float:
        return total(costs["measured"], c) + sum(t[c[i], c[j]] for (i, j), t in pairs.items())

    table = measures.sums(costs["measured"]) + measures.sums_of_pairs(pairs, 3)
    for c in everything[::17]:
        assert table[c] == pytest.approx(joint(c), abs=1e-12)
    for limit in measures.LIMITS:
        most = limit * sizes.sum()
        fit = [c for c in everything if (sizes * BITS[list(c)]).sum() <= most]
        found = measures.allocations(sizes, costs, pairs, limit, 0)
        for choices in found.values():
            assert all(c in fit for c in choices)
        for method in ("hawq-v2", "taylor", "measured"):
            least = min(total(costs[method], c) for c in fit)
            assert total(costs[method], found[method][0]) == pytest.approx(least, rel=1e-6)
        assert joint(found["measured+pairs"][0]) == pytest.approx(min(map(joint, fit)), rel=1e-6)
        assert len(found["random"]) == measures.DRAWS
        assert len(set(found["random"])) > 5
        assert found["uniform"] == ([(int(limit) - 2,) * 3] if limit in (3, 4, 5, 6) else [])
        order = np.argsort(-costs["hawq"][:, 0])
        bits = BITS[list(found["hawq"][0])][order]
        assert (np.diff(bits) <= 0).all()
        fits = measures.sums(sizes[:, None] * BITS) <= most
        assert measures.best_within(table, fits) == min(fit, key=joint)
    # BAQ: a layer whose weights are 16 times as sensitive gets two bits more.
    assert measures.by_baq(np.array([16.0, 1.0]), np.array([10.0, 10.0]), 5.0) == (4, 2)
    assert measures.by_baq(np.array([1e9, 1.0]), np.array([10.0, 10.0]), 4.0) == (4, 0)


def test_controls_have_their_known_answers(
    point: measures.Point, quantised: measures.Quantised
) -> None:
    control = measures.quadratic_control(3)
    assert control == {"rho": 1.0, "best": True}
    other = study.rescaled(point)
    assert (other.w != point.w).any()
    net = point.network
    assert net.loss(other.w, point.x, point.y) == net.loss(point.w, point.x, point.y)
    q = measures.quantised(other)
    assert (measures.truth(other, q) == measures.truth(point, quantised)).all()
    omega = [
        measures.proxies(p, of, samples=9, seed=0) for p, of in ((point, quantised), (other, q))
    ]
    np.testing.assert_allclose(omega[0]["hawq-v2"], omega[1]["hawq-v2"], rtol=1e-9)
    np.testing.assert_allclose(omega[0]["perturbation"][1] * 64, omega[1]["perturbation"][1])
    np.testing.assert_allclose(omega[0]["hawq"][2] * 64, omega[1]["hawq"][2], rtol=1e-6)


def test_intervals_are_those_of_their_definition() -> None:
    x = np.array([1.0, 2.0, 4.0, 5.0, 9.0])
    mean, low, high, least = results.student(x)
    expected = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((4.2, expected.low, expected.high))
    assert least == pytest.approx((stats.t.ppf(0.975, 4) + stats.t.ppf(0.8, 4)) * stats.sem(x))
    drawn = stats.bootstrap((x,), np.mean, method="percentile", n_resamples=20_000, rng=1)
    interval = results.bootstrap(x)
    assert interval[1:3] == pytest.approx(list(drawn.confidence_interval), abs=0.25)
    assert results.bootstrap(np.array([np.nan, *x]))[0] == 4.2
    assert np.isnan(results.bootstrap(np.array([np.nan, 1.0]))[1])
    table = np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 3.0]])
    everything, within, coarse = results.correlations(
        np.tile(table, 7), np.tile(np.array([[1.0], [2], [3]]), 14)
    )
    assert within == pytest.approx((1 + 0.5) / 2)
    names = list(measures.FORMATS)
    few = [i for i, n in enumerate(names) if measures.FORMATS[n][1] <= 4]
    assert coarse == pytest.approx(np.mean([1.0 if i % 2 == 0 else 0.5 for i in few]))
    assert 0 < everything < 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, study.AllocationSize]:
    size = study.AllocationSize(("digits-conv",), 2, epochs=3, rows=60, test_rows=60, samples=6)
    folder = tmp_path_factory.mktemp("allocation")
    study.run_allocation(size, folder, False)
    return folder, size


def test_a_run_is_resumed_and_read(run: tuple[Path, study.AllocationSize]) -> None:
    folder, size = run
    files = sorted((folder / "allocation").glob("*.h5"))
    assert len(files) == 2
    times = {f: f.stat().st_mtime_ns for f in files}
    files[1].unlink()
    study.run_allocation(size, folder, False, jobs=1)
    assert sorted((folder / "allocation").glob("*.h5")) == files
    assert [f.stat().st_mtime_ns == times[f] for f in files] == [True, False]
    found = results.AllocationResults(folder, size)
    assert found.networks == ["digits-conv"]
    of = found.by_network["digits-conv"]
    assert of["control/ties"].tolist() == [[0.0] * 3] * 2
    # Nothing is better than the best, and the best is that of the enumerated losses.
    chosen, bits = of["chosen"], measures.sums(of["sizes"][0][:, None] * BITS)
    assert (chosen[:, :, :-1, 0] >= chosen[:, :, -1:, 0] - 1e-12)[
        np.isfinite(chosen[:, :, :-1, 0])
    ].all()
    for i, limit in enumerate(measures.LIMITS):
        fits = bits <= limit * of["sizes"][0].sum()
        assert chosen[0, i, -1, 0] == pytest.approx(of["enumerated/rise"][0][fits].min(), abs=1e-6)
    summary = json.loads(json.dumps(found.summary(), allow_nan=False))
    assert summary["networks"]["digits-conv"]["seeds"] == 2
    assert summary["networks"]["digits-conv"]["rho"]["taylor"]["all"][0] > 0.7
    for claim, (mean, low, high, least, p) in found.claims("digits-conv").items():
        assert claim in results.CLAIMS
        assert low <= mean <= high
        assert least >= 0
        assert 0 <= p <= 1


def test_the_section_and_its_figures(
    run: tuple[Path, study.AllocationSize], tmp_path: Path
) -> None:
    folder, size = run
    found = results.AllocationResults(folder, size)
    made = page.allocation_figures(found, tmp_path)
    assert [f.name for f in made] == list(page.FIGURES)
    assert all(f.read_bytes()[:4] == b"\x89PNG" for f in made)
    text = page.allocation_section(found, "here")
    for name in (*page.NAMES.values(), *page.METHOD_NAMES.values(), *results.CLAIMS.values()):
        assert name in text, name
    assert all(f"](here-{f})" in text for f in page.FIGURES)
    assert "nan" not in text
    mean = found.rho("digits-conv")["hawq-v2"][0].mean()
    row = next(line for line in text.splitlines() if line.startswith("| HAWQ-V2: Ω"))
    assert f"{mean:.2f}".replace("-", "−") in row


def test_what_cannot_run_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_data, "FASHION_PACKAGE", tmp_path)
    assert "dataset-fashion-mnist" in study.missing(study.SIZES["full"])
    assert study.missing(study.SIZES["quick"]) == ""
    size = study.AllocationSize(("fashion-full-mlp",), 1)
    study.run_allocation(size, tmp_path)
    assert "fashion-full-mlp is left out" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="holds no results"):
        results.AllocationResults(tmp_path, size)
    with pytest.raises(RuntimeError, match=r"allocation: .*KeyError.*nothing"):
        study.apart([study.AllocationCell("nothing", 0, 1, 1, 1, 3)], tmp_path, False)
