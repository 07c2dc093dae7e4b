"""What is made of a sweep: statistics against values by hand and scipy, controls, table, report."""

import csv
import html.parser
import io
import json
import math
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from halfulp import studies
from halfulp.studies import statistics as st
from halfulp.studies.controls import compare_cells
from halfulp.studies.figures import _spread
from halfulp.studies.spec import merge

HERE = Path(__file__).parent
E8M3 = {"format": "fp_e8p4b127_s_ieee_ieee"}
OPERANDS = ("weights", "activations", "gradients")
SHORT = {"training": {"steps": 8}}

SWEEP: dict[str, Any] = {
    "name": "small & <odd>",
    "question": "Is 1 < 2?",
    "baseline": "fp32",
    "baseline_accuracy": 0.9,
    "expect_broken": ["e8m3_master"],
    "cell": {"training": {"steps": 100}},
    "axes": {
        "precision": ["fp32", "bf16", "truncated", "e8m3_master"],
        "optimizer": {"learning_rate": [3e-3, 1e-2, 3e-2]},
        "training": {"seed": [0, 1, 2]},
    },
    "precision": {
        "fp32": {},
        "bf16": {role: {"format": "bfloat16"} for role in OPERANDS},
        "truncated": {role: {**E8M3, "rounding": "toward-zero"} for role in OPERANDS},
        "e8m3_master": {"master": E8M3},
    },
    "control": [
        {"name": "plain", "cell": SHORT},
        {
            "name": "general",
            "cell": merge(SHORT, {"precision": {"path": "general"}}),
            "expect": "equal",
            "to": "plain",
        },
        {
            "name": "flipped",
            "cell": merge(SHORT, {"precision": {"path": "general"}, "fault": {"flip_rounding": 9}}),
            "expect": "different",
            "to": "plain",
        },
    ],
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> studies.Sweep:
    """SWEEP, finished, with cells made up by fake_cell.py."""
    folder = tmp_path_factory.mktemp("sweep")
    program = folder / "halfulp-cell"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "fake_cell.py"} "$@"\n')
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALFULP_CELL", str(program))
        return studies.run_sweep(SWEEP, folder / "out", progress=False)


# ---------------------------------------------------------------- statistics
def run(setting: str, rate: float, seed: int, loss: float, **other: Any) -> st.Run:
    """A run with the loss at initialisation 2."""
    values = {"initial": 2.0, "accuracy": 0.5, "diverged": False, **other}
    return st.Run(setting=setting, baseline="base", rate=rate, seed=seed, loss=loss, **values)


def test_t_interval() -> None:
    found = st.t_interval([1.0, 2.0, 3.0])
    assert found is not None
    assert (found.mean, found.n, found.df) == (2.0, 3, 2)
    # t(0.975, 2) = 4.302653 (any table), s = 1: half the width is 4.302653 / sqrt(3)
    assert found.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    low, high = stats.t.interval(0.95, 2, loc=2, scale=1 / math.sqrt(3))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert st.t_interval([]) is None
    single = st.t_interval([4.0])
    assert single is not None
    assert single.mean == 4.0
    assert math.isnan(single.low)


@pytest.mark.parametrize(("count", "n"), [(0, 15), (2, 15), (15, 15), (1, 1)])
def test_wilson_interval(count: int, n: int) -> None:
    expected = stats.binomtest(count, n).proportion_ci(0.95, method="wilson")
    assert st.wilson_interval(count, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_of_nothing() -> None:
    assert st.wilson_interval(0, 0) == (0.0, 1.0)


RUNS = [
    run("base", 1, 0, 0.5), run("base", 1, 1, 0.7), run("base", 2, 0, 0.4), run("base", 2, 1, 0.6),
    run("p", 1, 0, 0.6), run("p", 1, 1, 0.7), run("p", 2, 0, 0.9, diverged=True),
    run("p", 2, 1, 2.5),
]  # fmt: skip


def test_gaps_by_hand() -> None:
    base, policy = st.grid(RUNS, "base"), st.grid(RUNS, "p")
    assert st.best_rate(base) == 2  # means 0.6 and 0.5
    # At rate 2: the diverged run counts with 2, the other one as it is: 2 - 0.4 and 2.5 - 0.6.
    gap = st.gap_at(policy, base, 2)
    assert gap is not None
    assert gap.mean == pytest.approx((1.6 + 1.9) / 2)
    assert (gap.low, gap.high) == pytest.approx(stats.t.interval(0.95, 1, 1.75, 0.15))
    # Over the rates, clipped at 2. Seed 0: (0.1 + 1.6) / 2; seed 1: (0 + 1.4) / 2.
    mean = st.mean_gap(policy, base)
    assert mean is not None
    assert mean.mean == pytest.approx((0.85 + 0.7) / 2)
    assert mean.n == 2


def test_sensitivity_by_hand() -> None:
    # Seed 0: (0.6 + 2) / 2 - 0.6; seed 1: (0.7 + 2) / 2 - 0.7.
    found = st.sensitivity(st.grid(RUNS, "p"))
    assert found is not None
    assert found.mean == pytest.approx((0.7 + 0.65) / 2)
    assert found.n == 2


def test_unpaired_cells_do_not_count() -> None:
    missing = [r for r in RUNS if not (r.setting == "p" and r.rate == 1 and r.seed == 0)]
    base, policy = st.grid(missing, "base"), st.grid(missing, "p")
    mean, gap = st.mean_gap(policy, base), st.gap_at(policy, base, 1)
    assert mean is not None
    assert gap is not None
    assert (mean.n, gap.n) == (1, 1)
    assert st.mean_gap({}, base) is None
    assert st.best_rate({}) is None


def test_losses_that_are_not_finite_count_with_the_initial_loss() -> None:
    assert run("p", 1, 0, math.nan).counted == 2.0
    assert run("p", 1, 0, math.inf).clipped == 2.0
    assert run("p", 1, 0, 3.0).counted == 3.0
    assert run("p", 1, 0, 3.0).clipped == 2.0


def test_summary_and_accuracy() -> None:
    row = st.summarise(RUNS, [("base", "base"), ("p", "base")])[1]
    assert (row.runs, row.diverged, row.best_rate, row.baseline_rate) == (4, 1, 1, 2)
    assert row.accuracy == st.Accuracy(0.5, 0.5, 0.5, 2)


# ---------------------------------------------------------------- controls
def test_controls_pass(sweep: studies.Sweep) -> None:
    checks = sweep.check_controls()
    assert [c.passed for c in checks] == [True] * 4, checks
    assert "rounding calls: weights 7, activations 7" in checks[0].detail
    assert checks[0].detail.endswith("accumulation 7")
    assert checks[1].name == "flipped: differs from plain"
    assert checks[2].name.startswith("e8m3_master: known to break")


def test_comparison_sees_every_bit(sweep: studies.Sweep) -> None:
    plain, general = (c for c in sweep.cells if c.control in ("plain", "general"))
    assert plain.file is not None
    assert compare_cells(plain, general).different == 0
    loss = plain.file.metrics["train_loss"]
    kept = loss.copy()
    try:
        loss[3] = np.nextafter(loss[3], 9)
        found = compare_cells(plain, general)
        assert (found.different, found.first) == (1, "metric train_loss, element 3")
        loss[3], loss[4] = np.nan, -0.0
        assert compare_cells(plain, plain).different == 0
        assert compare_cells(plain, general).different == 2
    finally:
        loss[:] = kept


def test_failing_controls(sweep: studies.Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    general = next(c for c in sweep.cells if c.control == "general")
    assert general.file is not None
    monkeypatch.setitem(general.file.rounding, "master", {"calls": 0, "elements": 0})
    assert sweep.check_controls()[0].passed is False
    monkeypatch.setitem(general.file.attributes, "outcome", "nothing")
    assert sweep.check_controls()[0].passed is None


# ---------------------------------------------------------------- table
def test_table_as_csv_and_json(sweep: studies.Sweep) -> None:
    table = sweep.table()
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [row["policy"] for row in rows] == SWEEP["axes"]["precision"]
    assert rows[0]["gap"] == ""
    summary = sweep.summaries[1]
    assert summary.gap is not None
    assert float(rows[1]["gap_low"]) == summary.gap.low
    assert int(rows[2]["diverged"]) == 2
    document = json.loads(table.to_json())
    assert document["rows"] == table.rows
    assert [c["passed"] for c in document["controls"]] == [True] * 4


def test_table_as_latex(sweep: studies.Sweep) -> None:
    lines = [line for line in sweep.table().to_latex().splitlines() if not line.startswith("%")]
    assert lines[0] == "\\begin{tabular}{llrrrrr}"
    assert lines[-1] == "\\end{tabular}"
    rows = [line for line in lines if line.endswith("\\\\")]
    assert {line.count(" & ") for line in rows} == {6}
    assert rows[-1].startswith("e8m3\\_master & ")
    assert not re.search(r"(?<!\\)[%_#]", "".join(rows))


def test_table_as_text(sweep: studies.Sweep) -> None:
    text = str(sweep.table())
    for word in [*SWEEP["axes"]["precision"], "±", "2/9", "df = 2", "Controls", "pass"]:
        assert word in text
    assert "PROVISIONAL" not in text
    narrow = io.StringIO()
    sweep.table().print(Console(file=narrow, width=74, color_system=None))
    assert "…" not in narrow.getvalue()
    assert re.search(r"\) +± 0\.\d{4} ", narrow.getvalue())


def test_further_axes_make_rows_of_their_own(sweep: studies.Sweep) -> None:
    parameters = {"precision": "bf16", "training.seed": 1, "model.hidden": [64]}
    assert st.setting_of(parameters) == "bf16, model.hidden=[64]"
    assert st.setting_of(parameters, "fp32") == "fp32, model.hidden=[64]"


# ---------------------------------------------------------------- report and figures
class _Page(html.parser.HTMLParser):
    """Collects what a page would load, and checks that its tags are closed."""

    EMPTY = ("meta", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "data")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_report_stands_alone(sweep: studies.Sweep) -> None:
    path = sweep.report()
    assert path == sweep.folder.root / "report.html"
    text = path.read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert len(page.loads) == 3
    assert all(load.startswith("data:image/svg+xml;base64,") for load in page.loads)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?:|@import|url\(", text)
    assert 'name="viewport"' in text
    for policy in SWEEP["axes"]["precision"]:
        assert policy in text
    assert "<h1>small &amp; &lt;odd&gt;</h1>" in text
    assert "Is 1 &lt; 2?" in text
    for figure in ("gaps", "curves", "sensitivity"):
        assert (path.parent / "report" / f"{figure}.svg").read_text().startswith("<?xml")
        png = (path.parent / "report" / f"{figure}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
    assert not list(path.parent.rglob(".*.html*"))


def test_report_of_an_unfinished_sweep(sweep: studies.Sweep, tmp_path: Path) -> None:
    for source in (sweep.folder.sweep, sweep.folder.index):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    empty = studies.open_sweep(tmp_path)
    assert empty.counts()["missing"] == len(empty.cells)
    assert [c.passed for c in empty.check_controls()] == [None] * 4
    assert "PROVISIONAL: 0 of 39" in empty.report(tmp_path / "r.html").read_text()
    (tmp_path / "cells").mkdir()
    for cell in sweep.cells[::2]:
        (tmp_path / "cells" / cell.path.name).write_bytes(cell.path.read_bytes())
    half = studies.open_sweep(tmp_path)
    assert "PROVISIONAL: 20 of 39" in half.report(tmp_path / "r.html").read_text()


def test_plot(sweep: studies.Sweep, tmp_path: Path) -> None:
    figure = sweep.plot(tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000
    curves, rates = figure.axes
    assert curves.get_ylabel() == "held-out loss / nats"
    assert rates.get_xlabel() == "peak learning rate"
    texts = {t.get_text() for t in rates.texts}
    assert texts >= set(SWEEP["axes"]["precision"])


def test_names_beside_lines_do_not_overlap() -> None:
    placed = _spread([0.1, 0.5, 0.5, 0.5, 0.99, 1.0], 0.1)
    assert placed[:4] == pytest.approx([0.1, 0.4, 0.5, 0.6])
    assert all(b - a >= 0.1 - 1e-12 for a, b in pairwise(placed))
    assert placed[-1] <= 1
