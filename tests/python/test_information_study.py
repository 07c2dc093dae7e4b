"""The study of the information plane: its networks, what they compute, and a tiny run of it all."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import halfulp as hu
from halfulp import cli
from halfulp.information import _network as network
from halfulp.information import _page as pages
from halfulp.information import _study as study

BY_BITS = {m: f"fp_e8p{m + 1}b127_s_ieee_ieee" for m in (7, 5, 4, 3, 2, 1)}


def layers_of(training: network.Training, seeds: list[int]) -> list[np.ndarray]:
    x, _ = hu.information.icosahedron()
    made = network.Network(training, seeds)
    return made.forward(np.broadcast_to(x, (len(seeds), *x.shape)), "nearest-even")[0]


def test_entropies_at_initialisation() -> None:
    """The 3-unit layer: 12 bits of FP32 and BF16, fewer the narrower the format; published for two
    seeds as 12.00 at M = 23, 10, 7; 11.99/11.93 at 5; 11.65/10.54 at 3; 8.91/6.56 at 1."""
    seeds = list(range(8))
    h = {}
    for m, name in {23: "binary32", **BY_BITS}.items():
        layer = layers_of(network.Training(name), seeds)[5]
        assert layer.shape == (8, 4096, 3)
        h[m] = np.array([hu.information.exact(t).h_t for t in layer])
    assert (np.median(h[23]), np.median(h[7])) == (12, pytest.approx(12, abs=0.01))
    means = [np.median(h[m]) for m in (23, 7, 5, 4, 3, 2, 1)]
    assert all(a >= b for a, b in itertools.pairwise(means))
    assert 11.8 < np.median(h[4]) <= 12
    assert 10 < np.median(h[2]) < 11.7
    assert 6 < np.median(h[1]) < 10.5


@pytest.mark.parametrize("name", ["binary32", "float8_e4m3fn", "float4_e2m1fn"])
@pytest.mark.parametrize("activation", network.ACTIVATIONS)
def test_layers_are_values_of_the_format_in_data_processing_order(
    name: str, activation: str
) -> None:
    _, y = hu.information.icosahedron()
    training = network.Training(name, activation=activation)
    layers = layers_of(training, [3])
    before = hu.information.exact(layers[0][0], y)
    for layer in layers[1:-1]:
        scale = network.static_scale(name, network.BOUNDS[activation])
        again = hu.round(layer * np.float32(scale), name, overflow="saturate")
        assert np.array_equal(again / np.float32(scale), layer)
        assert not np.signbit(layer[layer == 0]).any(), "−0 and 0 are one value"
        after = hu.information.exact(layer[0], y)
        assert after.h_t <= before.h_t <= 12
        assert after.i_ty <= before.i_ty + 1e-12
        before = after


def test_weights_are_truncated_normal() -> None:
    """Beyond two deviations none; the variance is 1 − 2·2φ(2)/(2Φ(2) − 1) = 0.7737."""
    z = network.truncated_normal(np.random.default_rng(0), (200_000,))
    assert 1.99 < np.abs(z).max() <= 2
    assert z.var() == pytest.approx(0.7737, abs=0.01)


def test_static_scales() -> None:
    assert network.static_scale("float4_e2m1fn", 1) == 4  # 4 ≤ 6 < 8
    assert network.static_scale("float4_e2m1fn", 2) == 2
    assert network.static_scale("float8_e4m3fn", 1) == 256
    assert network.static_scale("float8_e5m2", 1) == 32768
    assert network.static_scale("bfloat16", 1) == 1


@pytest.mark.parametrize("activation", network.ACTIVATIONS)
def test_gradients_are_those_of_differences(
    activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In binary32 against central differences of the loss's sum in binary64."""
    made = network.Network(network.Training(activation=activation), [0, 1])
    x, y = hu.information.icosahedron()
    at = np.random.default_rng(0).integers(0, 4096, (2, 64))
    seen: list[np.ndarray] = []
    monkeypatch.setattr(made, "adam", seen.extend)
    made.train_step(x[at], y.astype(np.int64)[at])

    def loss(weights: list[np.ndarray]) -> float:
        h = x[at[1]].astype(np.float64)
        for i, w in enumerate(weights):
            h = h @ w
            if i < len(weights) - 1:
                h = np.tanh(h) if activation == "tanh" else np.maximum(h, 0)
        h = h - np.log(np.exp(h).sum(axis=1, keepdims=True))
        return -float(h[np.arange(64), y[at[1]]].sum())

    weights = [w[1].astype(np.float64) for w in made.weights]
    random = np.random.default_rng(1)
    for i, w in enumerate(weights):
        for _ in range(5):
            j = tuple(random.integers(0, n) for n in w.shape)
            kept = w[j]
            ends = []
            for step in (1e-5, -1e-5):
                w[j] = kept + step
                ends.append(loss(weights))
            w[j] = kept
            assert seen[i][1][j] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-3, abs=1e-3)


def test_training_learns_and_repeats() -> None:
    training = network.Training("bfloat16", "stochastic", epochs=25, records=3)
    first, again = (network.train(training, [0, 1]) for _ in range(2))
    assert first.epochs == [0, 1, 25]
    for a, b in zip(first.layers, again.layers, strict=True):
        assert all(
            np.array_equal(u.view(np.uint32), v.view(np.uint32)) for u, v in zip(a, b, strict=True)
        )
    other = network.train(network.Training("bfloat16", epochs=25, records=3), [0, 1])
    assert not np.array_equal(first.layers[-1][0], other.layers[-1][0])
    for a, b in zip(first.layers[0], other.layers[0], strict=True):
        assert np.array_equal(a, b), "records are rounded to nearest, however one trains"
    assert first.train_loss[-1].mean() < 0.6 * first.train_loss[0].mean()
    assert (first.train_accuracy[-1] > 0.8).all()


def test_intervals() -> None:
    mean, half, least = study.interval(np.array([1.0, 2, 3, 4, 5]))
    assert mean == 3
    assert half == pytest.approx(2.7764451 * np.sqrt(2.5 / 5))
    assert least == pytest.approx((2.7764451 + 0.9409646) * np.sqrt(2.5 / 5), rel=1e-5)


def test_a_tiny_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = study.Size(("FP32", "E8M1"), ("tanh",), 3, epochs=2, records=3)
    study.run_cell(study.cells(size)[0], size, tmp_path)  # the others in processes of their own
    monkeypatch.setitem(study.SIZES, "quick", size)
    page = tmp_path / "page.md"
    page.write_text("old\n## Reading\nby hand\n")
    assert cli.main(["study", "information", "--out", str(tmp_path), "--page", str(page)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [c["format"] for c in summary["cells"]] == ["FP32", "E8M1", "E8M1"]
    text = page.read_text()
    assert text.endswith("## Reading\nby hand\n")
    assert "old" not in text
    for file in (*pages.FIGURES, "page-planes.png", "page-compression.png", "page-planes.gif"):
        assert (tmp_path / file).stat().st_size > 5000
    with h5py.File(tmp_path / "E8M1-nearest-tanh.h5") as file:
        exact = file["information/exact"][()]
        assert exact.shape == (3, 3, 6, 2)
        assert np.isfinite(exact).all()
        assert (exact[..., 0] <= 12).all()
        assert (np.diff(exact, axis=2)[..., 0] <= 1e-6).all(), "data processing, all layers"
        binning = file["information/binning"][()]
        assert (binning[..., 0] <= exact[..., 0] + 1e-6).all(), "bins are a function of T"
    results = study.Results(tmp_path, size)
    zero = results.compression(study.Cell("FP32", "nearest", "tanh"), "exact")
    assert (zero >= 0).all()


def test_the_study_is_listed_and_foretold(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", "--list"]) == 0
    assert "information  (quick, full)" in capsys.readouterr().out
    assert cli.main(["study", "information", "--full", "--dry-run"]) == 0
    assert "38 cells of 30 networks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"activation": "gelu"}, "one of tanh, relu"),
        ({"widths": (10, 2)}, "begin with 12"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_bad_trainings(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        network.Training(**options)
