"""What happened inside the runs: spikes, shares by role, laws, gradients, speed, models of the data."""

import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import halfulp as hu
from halfulp import studies
from halfulp.studies import blocks, exponents, metrics
from halfulp.studies.drawing import percent
from halfulp.studies.errors import SweepError
from halfulp.studies.spec import check, merge

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import fake_cell  # noqa: E402 - what the made-up cells contain

NARROW = {"format": "fp_e4p4b7_s_last_none", "scaling": "power-of-two"}
TEXT: dict[str, Any] = {
    "name": "text",
    "question": "Does it learn?",
    "method": "One paragraph.\n\nAnother <one>.",
    "limits": "It is small.",
    "baseline": "fp32",
    "baseline_beats": "bigram",
    "cell": {
        "data": {"name": "kjv", "held_out": 96},
        "model": {"kind": "transformer", "context": 32, "width": 48},
        "training": {"steps": 120, "batch": 12},
        "divergence": {"rise": 1.0, "patience": 20},
        "observe": {"gradients": True},
    },
    "axes": {
        "precision": ["fp32", "e4m3fn", "e4m3fn-master"],
        "optimizer": {"learning_rate": [1e-3, 1e-2]},
        "training": {"seed": [0, 1]},
    },
    "precision": {
        "fp32": {},
        "e4m3fn": {role: NARROW for role in ("weights", "activations", "gradients")},
        "e4m3fn-master": {"master": {"format": "fp_e4p4b7_s_last_none"}},
    },
}
OBSERVED = 3  # steps 50, 100 and 120 of each run


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("program") / "halfulp-cell"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "fake_cell.py"} "$@"\n')
    path.chmod(0o755)
    return str(path)


def made(program: str, spec: dict[str, Any], folder: Path) -> studies.Sweep:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALFULP_CELL", program)
        return studies.run_sweep(spec, folder, progress=False)


@pytest.fixture(scope="module")
def text(program: str, tmp_path_factory: pytest.TempPathFactory) -> studies.Sweep:
    """TEXT, finished, with cells made up by fake_cell.py."""
    return made(program, TEXT, tmp_path_factory.mktemp("text") / "out")


# ---------------------------------------------------------------- spike score
def brute_force(x: list[float], window: int, least: int) -> float:
    judged = [i for i in range(len(x)) if i >= least]
    spikes = 0
    for i in judged:
        past = x[max(0, i - window) : i]
        mean, sigma = np.mean(past), np.std(past, ddof=1)
        spikes += abs(x[i] - mean) >= 7 * sigma and x[i] != mean
    return spikes / len(judged)


@pytest.mark.parametrize("seed", range(4))
def test_spike_score_against_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=400) + np.linspace(3, 0, 400)
    x[random.integers(0, 400, 12)] += random.choice([-1, 1], 12) * random.uniform(3, 30, 12)
    for window, least in ((50, 20), (1000, 100), (30, 30)):
        expected = brute_force(x.tolist(), window, least)
        assert metrics.spike_score(x, window=window, least=least) == expected
    assert metrics.spike_score(x, window=50, least=20) > 0


def test_spike_score_of_known_series() -> None:
    flat = np.tile([1.0, -1.0], 100)  # mean 0, sigma a little above 1
    assert metrics.spike_score(flat) == 0
    for value, spikes in ((6.9, 0), (7.1, 1), (-7.1, 1), (math.inf, 1), (math.nan, 1)):
        x = flat.copy()
        x[150] = value
        assert metrics.spike_score(x) == spikes / 100, value
    # The value itself is not in its mean: with it, no single one of n reaches 7 sigma for n < 50.
    short = np.r_[np.tile([1.0, -1.0], 10), 100.0]
    assert metrics.spike_score(short, least=20) == 1
    assert metrics.spike_score(np.ones(300)) == 0  # sigma 0, and nothing differs
    assert math.isnan(metrics.spike_score(flat[:100]))  # nothing has 100 values before it
    assert math.isnan(metrics.spike_score([]))
    # The window: the first hundred wild values are forgotten.
    wild = np.r_[np.tile([100.0, -100.0], 50), flat, 20.0]
    assert metrics.spike_score(wild) == 0
    assert metrics.spike_score(wild, window=150) == 1 / 201


# ---------------------------------------------------------------- from the files
def test_shares_by_role(text: studies.Sweep) -> None:
    fp32, narrow, master = text.details
    counts = narrow.roles["gradients"]
    runs = 4
    assert counts.elements == 1000 * OBSERVED * runs
    assert counts.counted == (1000 - 100 - 2) * OBSERVED * runs
    assert counts.share("overflow") == pytest.approx(1 / 898)
    assert counts.share("underflow") == pytest.approx(20 / 898)
    assert counts.share("to_zero") == pytest.approx(9 / 898)
    assert narrow.roles["master"].share("to_zero") == 0
    assert master.roles["master"].share("to_zero") == pytest.approx(9 / 898)
    assert {fp32.roles[role].share("underflow") for role in fp32.roles} == {0}
    assert counts.exponents.sum() == 898 * OBSERVED * runs
    assert counts.by_binade.sum() == pytest.approx(1)
    assert counts.by_binade[-8 - metrics.FIRST_EXPONENT] == pytest.approx(200 / 898)
    # Of sums, those that are not finite count among all of them.
    assert fp32.roles["accumulation"].counted == 1000 * OBSERVED * runs


def test_laws_gradients_and_speed(text: studies.Sweep) -> None:
    fp32, _, master = text.details
    assert master.frozen == metrics.Frozen(100 * OBSERVED * 4, 0.4, 0.38, 0.3)
    assert fp32.frozen is not None
    assert fp32.frozen.frozen == 0.01
    assert [a.parameter for a in master.gradients] == ["all", "layer0.weight"]
    own = master.gradients[0]
    assert (own.cosine, own.relative_error, own.n) == (0.75, 0.5, OBSERVED * 4)
    assert fp32.gradients[0].cosine == 1
    speed = fp32.throughput
    assert speed is not None
    assert speed.milliseconds == pytest.approx(2)
    assert speed.items_per_second == pytest.approx(500 * 12 * 32)
    assert (speed.item, speed.n) == ("characters", 4)
    assert fp32.baselines == fake_cell.BASELINES


def test_gradients_that_are_not_defined_do_not_count() -> None:
    observed = studies.cells.Observed(
        gradients={
            "w": {
                "cosine": np.array([math.nan, 0.5, 0.7]),
                "relative_error": np.array([math.nan, 1, 3]),
            }
        }
    )

    class Cell:
        pass

    cell = Cell()
    cell.observed = observed
    (own,) = metrics.gradient_agreement([cell])
    assert (own.cosine, own.least_cosine, own.relative_error, own.n) == (0.6, 0.5, 2, 2)
    assert metrics.gradient_agreement([]) == []


def test_columns_of_csv_and_json(text: studies.Sweep) -> None:
    made = text.table()
    document = json.loads(made.to_json())["rows"]
    rows = list(csv.DictReader(io.StringIO(made.to_csv())))
    narrow = rows[1]
    assert float(narrow["gradients_underflow"]) == document[1]["gradients_underflow"] == 20 / 898
    assert float(narrow["gradient_cosine_layer0.weight"]) == 0.75
    assert document[1]["gradients"][0]["parameter"] == "all"
    assert float(rows[2]["frozen"]) == 0.4
    assert float(narrow["baseline_bigram"]) == 0.5
    assert float(narrow["characters_per_second"]) == pytest.approx(192_000)
    assert float(narrow["loss_spikes"]) == document[1]["loss_spikes"]
    runs = text.cells_of("e4m3fn")
    scores = [metrics.spike_score(c.metrics["gradient_norm"]) for c in runs]
    assert float(narrow["gradient_spikes"]) == pytest.approx(np.mean(scores))
    assert int(narrow["gradient_spikes_n"]) == 4
    best = [run.counted for run in text.runs if run.setting == "e4m3fn" and run.rate == 1e-2]
    assert float(narrow["loss"]) == pytest.approx(np.mean(best))
    assert "frozen" not in str(made)  # the printed table stays as it is


def test_files_of_older_versions(text: studies.Sweep, tmp_path: Path) -> None:
    for source in (text.folder.sweep, text.folder.index):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / "cells").mkdir()
    for cell in text.cells:
        path = tmp_path / "cells" / cell.path.name
        path.write_bytes(cell.path.read_bytes())
        with h5py.File(path, "a") as file:
            for name in ("observed", "baseline_unigram", "baseline_bigram"):
                del file["metrics"][name]
            for name in ("training_seconds", "resumed"):
                del file.attrs[name]
    old = studies.open_sweep(tmp_path)
    for row in old.details:
        assert (row.roles, row.gradients, row.baselines) == ({}, [], {})
        assert (row.frozen, row.throughput) == (None, None)
        assert row.loss_spikes is not None
    assert old.cells[0].resumed == 0
    assert "nats on what is held out" not in str(old.table())
    assert [c.passed for c in old.check_controls()] == [False]  # no bigram that it could beat
    report = old.report(tmp_path / "r.html").read_text()
    assert "Frozen" not in report
    assert not (tmp_path / "report/exponents.png").exists()
    assert "steps_per_second" in old.table().to_csv()


def test_observations_are_read_only_when_asked_for(
    text: studies.Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = studies.open_sweep(text.folder.root)
    monkeypatch.setattr(studies.cells, "read_observed", lambda path: pytest.fail("was read"))
    str(again.table())
    again.check_controls()
    with pytest.raises(pytest.fail.Exception):
        again.table().to_csv()


# ---------------------------------------------------------------- models of the data
def test_the_baseline_beats_the_bigram(text: studies.Sweep) -> None:
    (beats,) = text.check_controls()
    assert beats.passed is True
    mean = np.mean([r.counted for r in text.runs if r.setting == "fp32" and r.rate == 1e-2])
    assert f"{mean:.4f} nats" in beats.detail
    assert "the bigram has 0.5000" in beats.detail
    said = " ".join(str(text.table()).split())
    assert "a unigram model has 0.900 nats" in said
    assert f"fp32 beats it, with {mean:.3f}" in said


def test_the_baseline_that_does_not_beat_it_fails(program: str, tmp_path: Path) -> None:
    axes = {"precision": ["fp32"], "training": {"seed": [0]}}
    short = {"training": {"steps": 20}}  # too few to learn anything
    spec = merge(TEXT, {"cell": short, "axes": axes})
    sweep = made(program, spec, tmp_path)
    (beats,) = sweep.check_controls()
    assert beats.passed is False
    assert "fp32 does NOT beat it" in " ".join(str(sweep.table()).split())


def test_an_unfinished_baseline_is_not_run(text: studies.Sweep, tmp_path: Path) -> None:
    for source in (text.folder.sweep, text.folder.index):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / "cells").mkdir()
    for cell in text.cells:
        if (cell.policy, cell.learning_rate, cell.seed) != ("fp32", 1e-3, 1):
            (tmp_path / "cells" / cell.path.name).write_bytes(cell.path.read_bytes())
    (beats,) = studies.open_sweep(tmp_path).check_controls()
    assert beats.passed is None
    assert beats.detail.startswith("all learning rates are finished for 1 of 2 seeds")


def test_keys_of_the_sweep() -> None:
    assert check(TEXT).baseline_beats == "bigram"
    assert check(TEXT).text("limits") == "It is small."
    assert check(TEXT).text("claims") == ""
    for key, value in (("baseline_beats", "trigram"), ("limits", 3), ("method", " ")):
        with pytest.raises(SweepError, match=key):
            check({**TEXT, key: value})


# ---------------------------------------------------------------- formats and figures
def test_ranges_are_those_of_the_formats() -> None:
    names = [*hu.formats(), "fp_e4p4b7_s_ieee_none", "fp_e5p3b15_u_last_last_nosub", "binary8p3se"]
    for name in names:
        f = hu.format(name)
        least = f.emin - (f.precision - 1) if f.subnormals else f.emin
        found = exponents.range_of(f.canonical_name)
        assert found == exponents.Range(least, f.emin, f.emax), name
    assert exponents.range_of("binary32") == exponents.Range(-149, -126, 127)
    assert exponents.range_of("bf16") is None


def test_exponents_show_range_and_losses(text: studies.Sweep) -> None:
    figure = exponents.draw_exponents(text)
    assert figure is not None
    panels = np.array(figure.axes).reshape(3, 4)
    shaded = [[len(axes.patches) for axes in row] for row in panels]
    assert shaded == [[3] * 4] * 3  # normal range, subnormal range, histogram
    normal, subnormal = panels[1, 0].patches[:2]
    assert (normal.get_x(), normal.get_x() + normal.get_width()) == (-6.5, 8.5)
    assert (subnormal.get_x(), subnormal.get_x() + subnormal.get_width()) == (-9.5, -6.5)
    (lost,) = panels[1, 0].texts
    assert lost.get_text() == "over 0.11%\nunder 2.2%\nto zero 1%"
    assert panels[0, 0].texts[0].get_text() == ""
    low, high = panels[0, 0].get_xlim()
    assert low < -12
    assert high > 8


def test_percentages() -> None:
    shares = (0, 1e-9, 0.000012, 0.0123, 0.5, 0.9999, 1, math.nan)
    shown = ["0%", "<0.0001%", "0.0012%", "1.2%", "50%", "100%", "100%", "–"]
    assert [percent(share) for share in shares] == shown


def test_blocks_of_the_report(text: studies.Sweep) -> None:
    shares = blocks.shares(text)
    assert shares is not None
    assert shares.headings == ("policy", "weights", "activations", "gradients", "master")
    assert shares.rows[1][1] == "0.11% / 2.2% / 1%"
    frozen = blocks.frozen(text)
    assert frozen is not None
    assert frozen.rows[2] == ["e4m3fn-master", "40%", "38%", "30%"]
    page = text.report().read_text()
    for word in ("40%", "0.7500 / 0.5", "192,000", "Another &lt;one&gt;.", "<h2>Limits</h2>"):
        assert word in page
    assert "http" not in page
