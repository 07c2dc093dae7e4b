"""The study of the information plane: its networks, what they compute, and a tiny run of it all."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.stats import spearmanr

import halfulp as hu
from halfulp import cli
from halfulp.information import _measure as measuring
from halfulp.information import _network as network
from halfulp.information import _page as pages
from halfulp.information import _results as statistics
from halfulp.information import _study as study


def layers_of(training: network.Training, seeds: list[int]) -> list[np.ndarray]:
    """Of all inputs, at initialisation: the hidden layers as stored, then the logits."""
    x, _ = hu.information.icosahedron()
    made = network.Network(training, seeds)
    stored, sums, _, _ = made.forward(np.broadcast_to(x, (len(seeds), *x.shape)), "nearest-even")
    return [*stored, sums[-1]]


def test_entropies_at_initialisation() -> None:
    """The 3-unit layer: 12.00 bits at M = 23, 10, 7, fewer the narrower the format. Published for
    two seeds, whose generator is not: each value must lie within those of 40 seeds."""
    published = {
        23: (12.0, 12.0), 10: (12.0, 12.0), 7: (12.0, 12.0), 5: (11.99, 11.93), 4: (11.93, 11.63),
        3: (11.65, 10.54), 2: (10.86, 8.76), 1: (8.91, 6.56),
    }  # fmt: skip
    before = None
    for m, known in published.items():
        name = "binary32" if m == 23 else f"fp_e8p{m + 1}b127_s_ieee_ieee"
        layer = layers_of(network.Training(name), list(range(40)))[4]
        assert layer.shape == (40, 4096, 3)
        h = np.array([hu.information.exact(t).h_t for t in layer])
        assert (h <= 12).all()
        assert h.min() - 0.005 <= min(known), m
        assert max(known) <= h.max() + 0.005, m
        assert m < 7 or np.median(h) > 11.995
        assert before is None or np.median(h) <= before
        before = np.median(h)


@pytest.mark.parametrize("name", ["binary32", "float8_e4m3fn", "float4_e2m1fn", "posit8", "int4"])
@pytest.mark.parametrize("activation", network.ACTIVATIONS)
def test_layers_are_values_of_the_format_in_data_processing_order(
    name: str, activation: str
) -> None:
    _, y = hu.information.icosahedron()
    training = network.Training(name, activation=activation)
    h_t, i_ty = 12.0, hu.information.exact(y, y).h_y
    for layer in layers_of(training, [3])[:-1]:
        scale = np.float32(network.static_scale(name, network.ACTIVATIONS[activation].bound))
        again = hu.round(layer * scale, name, overflow="saturate")
        assert np.array_equal(again / scale, layer)
        assert not np.signbit(layer[layer == 0]).any(), "−0 and 0 are one value"
        after = hu.information.exact(layer[0], y)
        assert after.h_t <= h_t <= 12
        assert after.h_t > 2 or h_t < 12, "the first layer holds something"
        assert after.i_ty <= i_ty + 1e-12
        h_t, i_ty = after.h_t, after.i_ty


def test_other_widths() -> None:
    training = hu.information.Training(
        "float8_e4m3fn", "stochastic", "gelu", widths=(12, 3, 20, 2), epochs=1
    )
    run = hu.information.train(training, [0, 1])
    shapes = [(2, 4096, 3), (2, 4096, 20), (2, 4096, 2)]
    assert [layer.shape for layer in run.layers[1]] == shapes


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_the_path_of_emulation_changes_nothing(activation: str) -> None:
    """binary32 through the rounding of every operand, scales of 1, is binary32 without."""
    canonical = "fp_e8p24b127_s_ieee_ieee"
    assert hu.format(canonical) == hu.format("binary32")
    runs = [
        network.train(network.Training(name, activation=activation, epochs=2, records=2), [0, 1])
        for name in ("binary32", canonical)
    ]
    for a, b in zip(*(run.layers[-1] for run in runs), strict=True):
        assert a.tobytes() == b.tobytes()
    assert np.array_equal(runs[0].train_loss, runs[1].train_loss)


def test_weights_are_truncated_normal() -> None:
    """Beyond two deviations none; the variance is 1 − 2·2φ(2)/(2Φ(2) − 1) = 0.7737."""
    z = network.truncated_normal(np.random.default_rng(0), (200_000,))
    assert 1.99 < np.abs(z).max() <= 2
    assert z.var() == pytest.approx(0.7737, abs=0.01)
    for w in network.Network(network.Training(), list(range(100))).weights:
        assert w.var() == pytest.approx(0.7737 / w.shape[1], rel=0.15)


def test_static_scales() -> None:
    assert network.static_scale("float4_e2m1fn", 1) == 4  # 4 ≤ 6 < 8
    assert network.static_scale("float4_e2m1fn", 2) == 2
    assert network.static_scale("float8_e4m3fn", 1) == 256
    assert network.static_scale("float8_e5m2", 1) == 32768
    assert network.static_scale("bfloat16", 1) == 1


SMOOTH = {
    "tanh": math.tanh,
    "relu": lambda z: max(z, 0.0),
    "leaky-relu": lambda z: z if z > 0 else z / 100,
    "hard-tanh": lambda z: min(max(z, -1.0), 1.0),
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "softplus": lambda z: math.log(1 + math.exp(z)),
    "gelu": lambda z: z * (1 + math.erf(z / math.sqrt(2))) / 2,
}


@pytest.mark.parametrize("activation", network.ACTIVATIONS)
def test_activations(activation: str) -> None:
    """Against their definitions in libm, far out too; the bounds hold where there are some."""
    of = network.ACTIVATIONS[activation]
    z = np.concatenate([np.linspace(-6, 6, 4001), [-60, -20, 20, 60]]).astype(np.float32)
    known = np.array([SMOOTH[activation](float(v)) for v in z])
    h = of.value(z)
    assert h.dtype == np.float32
    assert h == pytest.approx(known, rel=3e-6, abs=1e-7)
    slope = of.slope(z, h)
    ends = [np.array([SMOOTH[activation](float(v) + d) for v in z]) for d in (1e-6, -1e-6)]
    smooth = np.abs(np.abs(z) - 1) > 1e-3
    smooth &= np.abs(z) > 1e-3
    assert slope[smooth] == pytest.approx(((ends[0] - ends[1]) / 2e-6)[smooth], abs=2e-6)
    assert (h[np.abs(z) < 4] >= of.low - 1e-6).all()
    assert (h[np.abs(z) < 3.9] <= of.bound).all()


@pytest.mark.parametrize("activation", network.ACTIVATIONS)
def test_gradients_are_those_of_differences(
    activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In binary32 against central differences of the loss's sum in binary64."""
    made = network.Network(network.Training(activation=activation), [0, 1])
    x, y = hu.information.icosahedron()
    at = np.random.default_rng(0).integers(0, 4096, (2, 64))
    monkeypatch.setattr(made, "adam", lambda: None)
    made.train_step(x[at], np.eye(2, dtype=np.float32)[y[at]])
    value = np.vectorize(SMOOTH[activation], otypes=[float])

    def loss(weights: list[np.ndarray]) -> float:
        h = x[at[1]].astype(np.float64)
        for i, w in enumerate(weights):
            h = h @ w
            if i < len(weights) - 1:
                h = value(h)
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
            known = (ends[0] - ends[1]) / 2e-5
            assert made.gradients[i][1][j] == pytest.approx(known, rel=1e-3, abs=1e-3)


def test_sums_and_softmax_are_numpys() -> None:
    """The same bits as NumPy's reductions, which round in the same order."""
    g = np.random.default_rng(0).normal(size=(3, 512, 7)).astype(np.float32)
    assert network.sum_of_rows(g).tobytes() == g.sum(axis=1, keepdims=True).tobytes()
    z = g[:, :, :2]
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    assert network.softmax(z).tobytes() == (e / e.sum(axis=-1, keepdims=True)).tobytes()


@pytest.mark.parametrize("name", ["FP32", "BF16", "E8M1", "E4M3"])
def test_the_study_measures_what_the_functions_do(name: str) -> None:
    """exact and estimate see one layer at a time and share nothing; layers of 10 units need two
    words, those of FP32 no table."""
    x, y = hu.information.icosahedron()
    training = network.Training(study.FORMATS[name], epochs=1, records=2)
    run = network.train(training, [5])
    run.layers[1][2] = np.clip(4 * run.layers[1][2], -1, 1)  # into the upper bins too
    found = measuring.measure(run, "tanh")
    rows = measuring.subset_of(4096)
    estimate = hu.information.estimate
    refused = 0
    for e, i in itertools.product((0, 1), (0, 2, 5)):
        t = run.layers[e][i][0]
        known = {
            "exact": hu.information.exact(t, y),
            "exact-256": hu.information.exact(t[rows], y[rows]),
            "noise": estimate(t[rows], y[rows], method="noise", draws=2),
        }
        for method in ("binning", "bin-size", "ebab"):
            known[method] = estimate(t, y, method=method)
        for method in ("kde", "akde"):
            known[method] = estimate(t[rows], y[rows], method=method)
        for method, options in [("cs-qmi", {}), ("ksg", {}), ("kl", {"components": 4})]:
            try:
                known[method] = estimate(t[rows], y[rows], method=method, x=x[rows], **options)
            except ValueError:
                refused += 1
                known[method] = hu.information.Information(np.nan, np.nan)
        for method, of in known.items():
            got = found[f"information/{method}"][0, e, i]
            assert got == pytest.approx([of.i_xt, of.i_ty], abs=1e-6, nan_ok=True), (method, i)
        bins = np.minimum(np.digitize(t, np.linspace(-1, 1, 30)), 29)
        closed = hu.information.exact(bins, y)
        got = found["information/binning-closed"][0, e, i]
        assert got == pytest.approx([closed.i_xt, closed.i_ty], abs=1e-6)
        top = t >= 1
        assert found["top_bin"][0, e, i] == pytest.approx([top.mean(), top.any(axis=1).mean()])
        assert found["distinct"][0, e, i] == len(np.unique(t, axis=0))
    assert (refused > 0) == (name != "FP32")
    run.layers[0][1][0][7, 3] = np.nan
    with_nan = measuring.measure(run, "tanh")
    assert np.isnan(with_nan["information/exact"][0, 0, 1]).all()
    assert np.isfinite(with_nan["information/exact"][0, 1]).all()


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
    mean, half, least = statistics.interval(np.array([1.0, 2, 3, 4, 5]))
    assert mean == 3
    assert half == pytest.approx(2.7764451 * np.sqrt(2.5 / 5))
    assert least == pytest.approx((2.7764451 + 0.9409646) * np.sqrt(2.5 / 5), rel=1e-5)


def test_holm_is_its_definition() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.9, 1.0]) == [1, 1, 1]
    p = np.random.default_rng(0).random(40) ** 3
    order = sorted(range(40), key=lambda i: p[i])
    for i, adjusted in enumerate(statistics.holm(p)):
        before = order[: order.index(i) + 1]
        known = max(min(1.0, (40 - n) * p[j]) for n, j in enumerate(before))
        assert adjusted == pytest.approx(known)


def test_paired_differences() -> None:
    assert statistics.of_pairs(np.zeros(5)) == 1
    assert statistics.of_pairs(np.ones(5)) == 0
    assert statistics.of_pairs(np.array([1.0, 2, 3, 4, 5])) == pytest.approx(0.013236, abs=1e-6)


def test_correlations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spearman's by SciPy, mean over two cells; strong ones are found, of noise p is not small."""
    random = np.random.default_rng(4)
    made = statistics.Results.__new__(statistics.Results)
    made.cells = [study.Cell(name, "nearest", "tanh") for name in ("FP32", "BF16")]
    right = {c.label: random.random((20, 1)) for c in made.cells}
    made.curves = {label: {"test_accuracy": v} for label, v in right.items()}
    follows = {label: v + 0.1 * random.random((20, 1)) for label, v in right.items()}
    noise = {label: random.random((20, 1)) for label in right}
    for of, strong in ((follows, True), (noise, False)):
        monkeypatch.setattr(made, "compression", lambda cell, _, of=of: of[cell.label])
        rho, low, high, p = made.correlation("tanh", 0, "exact")
        known = [
            float(spearmanr(of[c.label][:, 0], right[c.label][:, 0]).statistic) for c in made.cells
        ]
        assert rho == pytest.approx(np.mean(known), abs=1e-12)
        assert low < rho < high
        assert (p < 0.001) == strong == (low > 0)


def test_a_tiny_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = study.Size(("FP32", "E8M1"), ("tanh",), 3, epochs=2, records=3)
    study.run_cell(study.cells(size)[0], size, tmp_path)  # the others in processes of their own
    monkeypatch.setitem(study.SIZES, "quick", size)
    page = tmp_path / "page.md"
    page.write_text("old\n## Reading\nby hand\n")
    assert cli.main(["study", "information", "--out", str(tmp_path), "--page", str(page)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [c["format"] for c in summary["cells"]] == ["FP32", "E8M1", "E8M1"]
    of = {c["format"]: c for c in summary["cells"] if c["rounding"] == "nearest"}
    assert of["FP32"]["errors"]["ksg"]["refused"] == of["FP32"]["repeating"] == 0
    assert 0 < of["E8M1"]["errors"]["ksg"]["refused"] <= of["E8M1"]["errors"]["kl"]["refused"] < 1
    assert of["FP32"]["errors"]["binning"]["i_xt"][0] < -1
    assert of["FP32"]["top_bin"]["rows"] == [0] * 6
    assert of["E8M1"]["top_bin"]["rows"][0] > 0.1
    assert all(v["holm"] >= v["p"] for layers in summary["less_fp32"].values() for v in layers)
    text = page.read_text()
    assert text.endswith("## Reading\nby hand\n")
    assert "old" not in text
    for file in (*pages.FIGURES, *(f"page-{name}" for name in pages.FIGURES)):
        assert (tmp_path / file).stat().st_size > 5000
    with h5py.File(tmp_path / "E8M1-nearest-tanh.h5") as file:
        exact = file["information/exact"][()]
        assert exact.shape == (3, 3, 6, 2)
        assert np.isfinite(exact).all()
        assert (exact[..., 0] <= 12).all()
        assert (np.diff(exact, axis=2)[..., 0] <= 1e-6).all(), "data processing, all layers"
        binning = file["information/binning"][()]
        assert (binning[..., 0] <= exact[..., 0] + 1e-6).all(), "bins are a function of T"
    results = statistics.Results(tmp_path, size)
    zero = results.compression(study.Cell("FP32", "nearest", "tanh"), "exact")
    assert (zero >= 0).all()


def test_the_study_is_listed_and_foretold(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", "--list"]) == 0
    assert "information  (quick, full)" in capsys.readouterr().out
    assert cli.main(["study", "information", "--full", "--dry-run"]) == 0
    assert "57 cells of 30 networks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"activation": "swish"}, "one of tanh, relu"),
        ({"widths": (10, 2)}, "begin with 12"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_bad_trainings(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        network.Training(**options)
