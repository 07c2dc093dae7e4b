"""The study of sharpness: its networks, its measures beside the public ones, its judge of
predictors, and a tiny run of it all."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import halfulp as hu
from halfulp import cli
from halfulp.sharpness import _cells as parts
from halfulp.sharpness import _controls, _measures, _predict, _results, _study, _summary
from halfulp.sharpness import _figures as pictures
from halfulp.sharpness import _page as pages
from halfulp.sharpness._networks import Mlp
from halfulp.sharpness._training import Stack, Training, objective, static_scale

E8M3 = "fp_e8p4b127_s_ieee_ieee"
TINY = parts.Size(
    settings=("FP32", "E8M3 truncated"),
    rates=(0.1, 0.6, 4.0),
    seeds=4,
    steps=40,
    edge_settings=("FP32",),
    edge_rates=(0.1, 0.15),
    edge_seeds=2,
    edge_steps=8,
    rows=32,
)


@pytest.fixture(scope="module")
def digits() -> parts.Data:
    return parts.data()


def some_stack(digits: parts.Data, training: Training, steps: int = 5) -> Stack:
    stack = Stack(training, [0, 1, 2])
    random = np.random.default_rng(3)
    for _ in range(steps):
        at = random.integers(0, len(digits.x), (3, 32))
        stack.train_step(digits.x[at], digits.y[at])
    return stack


def test_data(digits: parts.Data) -> None:
    assert digits.x.shape == (1500, 64)
    assert digits.x_out.shape == (297, 64)
    assert digits.x.min() == 0
    assert digits.x.max() == 1
    # Pixels are sixteenths, exact with three bits after the point: inputs lose nothing there.
    assert np.array_equal(hu.round(digits.x, E8M3), digits.x)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("kind", ["cross-entropy", "squared"])
def test_gradients_are_those_of_the_networks(
    digits: parts.Data, activation: str, kind: str
) -> None:
    """The stack's own passes in binary32 against `Mlp`'s in binary64, which share no code."""
    t = Training(activation=activation, objective=kind)
    stack = some_stack(digits, t)
    x, y = digits.x[:40], digits.y[:40]
    losses, gradient = stack.gradient(x[None], y)
    w = stack.parameters.astype(np.float64)
    smooth = _measures.Smooth(stack, x, y)
    assert losses == pytest.approx(smooth.loss(w), rel=1e-5)
    assert gradient == pytest.approx(smooth.gradient(w), abs=2e-6)
    # Squared is by hand, so its derivative and its products are tried by differences.
    v = np.random.default_rng(0).standard_normal(w.shape)
    ahead, behind = (smooth.gradient(w + s * 1e-6 * v) for s in (1, -1))
    assert smooth.hvp(w)(v) == pytest.approx((ahead - behind) / 2e-6, abs=1e-4)
    slope = (smooth.loss(w + 1e-6 * v) - smooth.loss(w - 1e-6 * v)) / 2e-6
    assert (smooth.gradient(w) * v).sum(axis=1) == pytest.approx(slope, rel=1e-6)


def test_operands_are_values_of_the_format(digits: parts.Data) -> None:
    for name, rounding in ((E8M3, "toward-zero"), ("float8_e4m3fn", "nearest-even")):
        stack = some_stack(digits, Training(name, rounding, rate=0.1))
        layers, weights = stack.forward(digits.x[None, :20])
        for x, role in ((layers[1], "activations"), (weights[0], "weights")):
            scale = np.float32(static_scale(name, {"activations": 8, "weights": 2}[role]))
            assert np.array_equal(hu.round(x * scale, name) / scale, x)
    stack = some_stack(digits, Training(E8M3, "toward-zero"))
    exact = stack.parameters[:, : 64 * 32].reshape(-1, 64, 32)
    used = stack.used()[0]
    assert (np.abs(used) <= np.abs(exact)).all()
    # The shrinking that `FP32 shrunk` imitates, up to how significands are spread.
    lost = 1 - np.abs(used).sum() / np.abs(exact).sum()
    assert lost == pytest.approx(parts.SETTINGS["FP32 shrunk"][2], rel=0.1)


def test_binary32_by_the_emulator_is_plain_binary32() -> None:
    same, other, broken, planted, noise = _controls.controls()
    assert same.passed
    assert " 0 differ" in same.text
    assert other.passed
    assert int(other.text.split()[0].replace(",", "")) > 1000
    assert broken.passed
    assert planted.passed
    assert noise.passed


def test_seeds_are_paired_and_runs_repeat(digits: parts.Data) -> None:
    t = Training(E8M3, "stochastic", rate=0.3, steps=12)
    first, again = (parts.compute_run(t, [0, 1], digits, 16) for _ in range(2))
    for name, values in first.items():
        assert np.array_equal(values, again[name], equal_nan=True), name
    nearest = parts.compute_run(replace(t, rounding="nearest-even"), [0, 1], digits, 16)
    assert not np.array_equal(first["train_loss"], nearest["train_loss"])
    assert np.array_equal(first["measures/loss"][:, 0], nearest["measures/loss"][:, 0])
    wide = parts.compute_run(replace(t, format="binary32"), [0, 1], digits, 16)
    assert first["measures/loss"][:, 0] == pytest.approx(wide["measures/loss"][:, 0], rel=0.05)
    more = parts.compute_run(replace(t, rounding="nearest-even"), [0, 1, 2], digits, 16)
    assert np.array_equal(more["train_loss"][:2], nearest["train_loss"]), "a seed is its own"


def test_measures_are_the_public_ones(digits: parts.Data) -> None:
    """In lockstep or alone: each measure against the function of `hu.sharpness`."""
    s = hu.sharpness
    stack = some_stack(digits, Training("float8_e5m2", rate=0.2), 8)
    x, y = digits.x[:32], digits.y[:32]
    found = _measures.measure(stack, x, y, lanczos_steps=40, samples=6)
    network = Mlp((64, 32, 10))
    for k in range(3):
        w = stack.parameters[k].astype(np.float64)
        used = parts.weights_used(stack)[k]
        hvp = network.hvp(used, x, y)
        one = Stack(stack.training, [0])

        def rounded(w: np.ndarray, one: Stack = one) -> float:
            z = one.forward(x[None], w.astype(np.float32)[None])[0][-1]
            return float(objective(z.astype(np.float64), y, "cross-entropy")[0][0])

        pairs = s.lanczos(hvp, w.size, tolerance=1e-9)
        assert found["lambda-max"][k] == pytest.approx(pairs.values[0], rel=1e-6)
        assert found["sam"][k] == pytest.approx(
            s.sam(lambda w: network.loss(w, x, y), lambda w: network.gradient(w, x, y), used).value,
            rel=1e-9,
        )
        g = stack.gradient(x[None], y)[1][k].astype(np.float64)
        now = stack.training.rate_at(stack.step)
        alone = s.critical_sharpness(rounded, w, -g, initial=now, tolerance=0.05, doublings=12)
        assert found["critical-gradient"][k] == alone.value
        assert found["critical-gradient-evaluations"][k] == alone.evaluations
        assert found["logit-sharpness"][k] == pytest.approx(
            s.logit_sharpness(stack.forward(x[None])[0][-1][k].astype(np.float64), y, 1e-2).value
        )
    assert (found["box"] >= 0).all()
    losses = _measures.Smooth(stack, x, y).loss
    w = stack.parameters.astype(np.float64)
    boxes = _measures.box(losses, w, 1e-3, 6)
    assert (boxes > 0).all()
    # Of the same diagonal everywhere the trace is exact, for any signs.
    assert _measures.traces(lambda v: 3 * v, 2, 7, 2) == pytest.approx([21, 21])


def test_critical_at_its_ends() -> None:
    w, d = np.zeros((5, 1)), np.ones((5, 1))

    def losses(w: np.ndarray) -> np.ndarray:
        x = w[:, 0]
        return np.array([2 * (x[0] - 1) ** 2, x[1], -x[2], np.nan, np.floor(x[4])])

    value, count = _measures.critical(losses, w, d, 0.3, tolerance=1e-6)
    assert value[0] == pytest.approx(1, rel=1e-5)  # falls to 1, rises above its start at 2
    assert (value[1], value[2]) == (np.inf, 0)
    assert np.isnan(value[3])
    assert value[4] == pytest.approx(2, rel=1e-5)  # a stair: as high as before is no rise
    assert count[0] > 20


def brute_auc(values: np.ndarray, event: np.ndarray, groups: np.ndarray) -> float:
    won, total = 0.0, 0
    for i, j in itertools.product(range(len(values)), repeat=2):
        if event[i] and not event[j] and groups[i] == groups[j]:
            total += 1
            won += (values[i] > values[j]) + 0.5 * (values[i] == values[j])
    return won / total


def test_auc_against_all_pairs_with_ties() -> None:
    random = np.random.default_rng(0)
    n, seeds = 60, 6
    seed = np.arange(n) % seeds
    event = random.random(n) < 0.4
    values = np.round(random.normal(size=n) + event, 0)  # many ties
    groups = random.integers(0, 3, n)
    one = np.zeros(n, int)
    for of in (one, groups):
        p = _predict.pairs(values, event, seed, seeds, of)
        assert p.auc() == pytest.approx(brute_auc(values, event, of))
    values[5] = np.nan
    p = _predict.pairs(values, event, seed, seeds)
    keep = ~np.isnan(values)
    assert p.auc() == pytest.approx(brute_auc(values[keep], event[keep], one[keep]))
    # A seed drawn twice is its runs twice.
    weights = np.array([2, 0, 1, 1, 1, 1.0])
    again = np.concatenate([np.flatnonzero(seed == s) for s in (0, 0, 2, 3, 4, 5)])
    again = again[~np.isnan(values[again])]
    assert p.auc(weights) == pytest.approx(brute_auc(values[again], event[again], one[again]))


def test_held_out_directions() -> None:
    """Both halves' pairs, each in the other half's direction: 1 where both agree, 0 where the
    measure turns about between them."""
    seed = np.repeat(np.arange(4), 10)
    event = np.tile([True, False], 20)
    up = event.astype(float)
    turned = np.where(seed % 2 == 0, up, -up)
    for values, auc in ((up, 1), (-up, 1), (turned, 0), (np.zeros(40), 0.5)):
        p = _predict.pairs(values, event, seed, 4)
        assert _predict.held_out(p)[0] == auc
        assert (_predict.held_out(p, _predict.draws(4, 50)) == auc).all()
    none = _predict.pairs(up, np.zeros(40, bool), seed, 4)
    assert np.isnan(_predict.held_out(none)[0])
    drawn = _predict.draws(5, 20)
    assert (drawn[:, ::2].sum(axis=1) == 3).all()
    assert (drawn[:, 1::2].sum(axis=1) == 2).all()


def test_divergence() -> None:
    steps = 60
    calm = np.linspace(2.3, 0.1, steps)
    late = calm.copy()
    late[40:] = 3.0  # above its start
    spike = calm.copy()
    spike[30:33] = 8.0  # for few steps
    broken = calm.copy()
    broken[25:] = np.nan
    worse = np.concatenate([np.full(20, 0.1), np.full(40, 1.5)])  # 1.4 above its best
    ends = calm.copy()
    ends[50:] = 5.0  # for fewer steps than asked
    losses = np.stack([calm, late, spike, broken, worse, ends])
    found = _predict.divergence(losses, np.full(6, 2.4), window=4, patience=12)
    assert found[0] == np.inf
    assert 40 <= found[1] <= 43
    assert found[2] == np.inf
    assert found[3] == 25
    assert 20 <= found[4] <= 23
    assert found[5] == np.inf


def test_leads_and_alarms() -> None:
    """A monitor that shows every divergence two records before, and one that shows nothing."""
    steps = np.arange(0, 100, 10)
    seed = np.repeat(np.arange(6), 20)  # 36 calm runs in each half
    diverges = np.where(np.tile(np.arange(20) < 8, 6), 75.0, np.inf)
    one = np.zeros(120, int)
    random = np.random.default_rng(0)
    noise = random.random((120, 10))
    trend = 100.0 * np.arange(10)  # the same for all: only what is unusual at its step counts
    knows = noise + trend + 50 * (np.isfinite(diverges)[:, None] & (steps >= 50))
    for sign in (1, -1):  # the direction is chosen on the other half
        found = _predict.warnings(sign * knows, steps, diverges, seed, one)
        assert len(found.leads) == 48
        assert (found.leads >= 25).all()
        assert np.median(found.leads) == 25
        assert found.false.mean() < 0.3
        assert found.left_out == 0
    blind = _predict.warnings(np.ones_like(knows), steps, diverges, seed, one)
    assert (blind.leads == 0).all()
    assert not blind.false.any()
    nothing = _predict.warnings(noise, steps, diverges, seed, one)
    assert (nothing.leads > 0).mean() < 0.4
    assert nothing.false.mean() < 0.3
    after = noise + 9 * (steps >= 80)  # what shows when it is over
    assert (_predict.warnings(after, steps, diverges, seed, one).leads > 0).mean() < 0.4
    alone = np.where(np.isfinite(diverges), 1, 0)  # a stratum without a calm run
    assert _predict.warnings(knows, steps, diverges, seed, alone).left_out == 48


def test_unusual_is_in_spreads_of_calm_runs() -> None:
    series = np.array([[0.0], [1], [2], [3], [10], [2], [np.nan], [np.inf], [-np.inf]])
    calm = np.arange(9) < 5  # median 2, quantiles of 10% and 90%: 0.4 and 7.2
    up = _predict.unusual(series, calm, np.zeros(9, int), 1, 5)[:, 0]
    assert up[[0, 2, 4, 5, 7]] == pytest.approx([-2 / 5.2, 0, 8 / 5.2, 0, 1e6])
    down = _predict.unusual(series, calm, np.zeros(9, int), -1, 5)[:, 0]
    assert down[[0, 2, 4, 8]] == pytest.approx([2 / 1.6, 0, -8 / 1.6, 1e6])
    assert np.isnan(up[6])
    assert np.isnan(_predict.unusual(series, calm, np.zeros(9, int), 1, 6)).all()
    same = _predict.unusual(np.array([[1.0]] * 5 + [[2]]), np.arange(6) < 5, np.zeros(6, int), 1, 5)
    assert same[:, 0].tolist() == [0] * 5 + [1e6]


def test_rank_correlation() -> None:
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    a, b = random.normal(size=40), random.normal(size=40)
    b += a
    groups = np.repeat([0, 1], 20)
    mean = np.mean([spearmanr(a[groups == g], b[groups == g]).statistic for g in (0, 1)])
    assert _predict.rank_correlation(a, b, groups) == pytest.approx(mean)
    weights = random.integers(0, 3, 40)
    again = np.repeat(np.arange(40), weights)
    assert _predict.rank_correlation(a, b, groups, weights) == pytest.approx(
        _predict.rank_correlation(a[again], b[again], groups[again])
    )
    assert np.isnan(_predict.rank_correlation(np.ones(40), b, groups))
    rows = _predict.along_runs(a.reshape(2, 20), b.reshape(2, 20))
    assert rows.mean() == pytest.approx(mean)
    a[3:20] = np.nan
    assert np.isnan(_predict.along_runs(a.reshape(2, 20), b.reshape(2, 20))[0])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A whole study of few cells by the command line; its folder and its page."""
    folder = tmp_path_factory.mktemp("study")
    page = folder / "page.md"
    page.write_text("before\n## Reading\nby hand\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(parts.SIZES, "quick", TINY)
        patch.setattr(pages, "RESOLUTION", 50)
        # The other half has tests of its own.
        patch.setattr(
            _study, "allocation", lambda *_: (lambda stem: f"## Bits of {stem}", {"a": 1}, [])
        )
        patch.setattr(_predict, "DRAWS", 200)
        patch.setattr(_summary, "FEWER_DRAWS", 20)
        first = parts.cells(TINY)[0]
        parts.run_cell(first, TINY, folder)
        (folder / "run-FP32-0.1-0000.1.part").write_bytes(b"a killed run's")
        kept = parts.path_of(first, TINY, folder).stat().st_mtime_ns
        arguments = ["study", "sharpness", "--out", str(folder), "--page", str(page)]
        assert cli.main(arguments) == 0
        assert parts.path_of(first, TINY, folder).stat().st_mtime_ns == kept, "not computed again"
    return folder, page


def test_a_tiny_study(tiny: tuple[Path, Path]) -> None:
    folder, page = tiny
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["cells_computed"] == len(parts.cells(TINY)) - 1
    assert all(c["passed"] for c in summary["controls"])
    text = page.read_text()
    assert text.endswith("## Bits of page\n\n## Reading\nby hand\n")
    assert not text.startswith("before")
    assert "nan" not in text.replace("finan", "")
    for name in ("along", "auc", "lead", "edge", "spectra", "slice"):
        assert (folder / f"{name}.png").stat().st_size > 3000
        assert f"page-{name}.png" in text
        assert (folder / f"page-{name}.png").is_file()
    outcome = summary["outcomes"]["settings"]
    assert outcome["FP32"]["diverged"][-1] >= 3, "4.0 is known to break"
    assert outcome["FP32"]["diverged"][0] == 0
    results = _results.read(folder, TINY)
    runs = results.runs
    assert len(runs.seed) == 2 * 3 * 4
    assert (runs.gap[runs.setting == 0] == 0).all()
    assert np.isfinite(runs.loss).all(), "a diverged run counts as at its start"
    for row in summary["predictions"]:
        value = row["auc"]["rate"]["auc"][0]
        assert row["within"] == "all runs" or value in (None, 0.5), "one rate tells nothing of it"
    with h5py.File(parts.path_of(parts.Cell("run", "FP32", 0.6), TINY, folder)) as file:
        assert file["measures/lambda-max"].shape == (4, len(parts.record_steps(40)))
        assert file.attrs["format"] == "binary32"
    assert set(pictures.figures(results, summary)) == {
        *("along", "auc", "lead", "edge", "spectra", "slice")
    }


def test_a_cell_is_addressed_by_its_content(tmp_path: Path) -> None:
    cell = parts.Cell("run", "E8M3 truncated", 0.1)
    here = parts.path_of(cell, TINY, tmp_path)
    for other in (replace(TINY, seeds=5), replace(TINY, steps=41), replace(TINY, rows=33)):
        assert parts.path_of(cell, other, tmp_path) != here
    assert parts.path_of(cell, replace(TINY, rates=(0.1,)), tmp_path) == here
    assert parts.path_of(cell, replace(TINY, edge_seeds=9), tmp_path) == here


def test_a_cell_that_fails_is_named(tmp_path: Path) -> None:
    cell = parts.Cell("run", "FP32", -1.0)
    with pytest.raises(RuntimeError, match=r"run FP32 -1: ValueError: rate is -1.0"):
        _study.run_cells([cell], TINY, tmp_path, 1, lambda _: None)
    assert not list(tmp_path.glob("*.h5"))


def test_the_study_is_listed_and_foretold(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "sharpness  (quick, full)" in listed
    assert "information  (quick, full)" in listed
    assert cli.main(["study", "sharpness", "--full", "--dry-run"]) == 0
    assert "cells of 24 networks" in capsys.readouterr().out
    assert cli.main(["study", "sharpness", "--jobs", "0"]) == 2
    assert capsys.readouterr().err == "halfulp: --jobs is 0, but must be 1 or more\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"activation": "gelu"}, "relu or tanh"),
        ({"path": "fast"}, "one of emulated, plain"),
        ({"path": "plain", "format": "bfloat16"}, "binary32's, not bfloat16's"),
        ({"widths": (64,)}, "two or more"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"steps": 0}, "steps are 0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"objective": "hinge"}, "cross-entropy or squared"),
        ({"shrink": 1.0}, "shrink is 1.0"),
    ],
)
def test_bad_trainings(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Training(**options)
