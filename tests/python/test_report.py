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
from halfulp.studies import table
from halfulp.studies.controls import compare_cells
from halfulp.studies.figures import _spread, all_figures
from halfulp.studies.spec import merge
from halfulp.studies.table import texts

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
    run("base", 1, 0, 0.5), run("base", 1, 1, 0.7), run("base", 2, 0, 0.6), run("base", 2, 1, 0.4),
    run("p", 1, 0, 0.6, accuracy=0.8), run("p", 1, 1, 0.7, accuracy=0.7),
    run("p", 2, 0, 0.9, accuracy=0.1, diverged=True), run("p", 2, 1, 2.5, accuracy=0.2),
]  # fmt: skip
PLAN = st.Plan([1, 2], [0, 1])


def test_a_rate_is_chosen_by_the_other_seeds() -> None:
    base = st.grid(RUNS, "base")
    # Seed 1 is better at rate 2 (0.4 < 0.7), seed 0 at rate 1 (0.5 < 0.6): each chooses for the other.
    assert st.chosen_rates(base, PLAN.rates, PLAN.seeds) == {0: 2, 1: 1}
    assert st.chosen_rates(base, PLAN.rates, [0]) == {0: 1}  # alone it chooses for itself
    assert st.chosen_rates(base, PLAN.rates, []) == {}
    assert st.best_rate(base, PLAN.rates, PLAN.seeds) == 2  # means 0.6 and 0.5
    assert st.best_rate(base, [2, 1], []) is None
    same = st.grid([run("s", rate, 0, 0.5) for rate in (2, 1)], "s")
    assert st.best_rate(same, [1, 2], [0]) == 1


def test_choosing_a_rate_does_not_flatter_noise() -> None:
    """Losses that are the same noise at every rate: the least of them is too good, the chosen not."""
    random = np.random.default_rng(1)
    chosen, least = [], []
    for _ in range(300):
        loss = random.normal(1, 0.1, (5, 3))
        cells = {(r, s): run("n", r, s, loss[r, s]) for r in range(5) for s in range(3)}
        rates = st.chosen_rates(cells, range(5), range(3))
        chosen += [cells[rate, s].counted for s, rate in rates.items()]
        best = st.best_rate(cells, range(5), range(3))
        least += [cells[best, s].counted for s in range(3)]
    assert np.mean(chosen) == pytest.approx(1, abs=0.02)
    assert np.mean(least) < 0.95


def test_gaps_by_hand() -> None:
    base, policy = st.grid(RUNS, "base"), st.grid(RUNS, "p")
    # Seed 0 at rate 2: diverged, counts as 2, less 0.6. Seed 1 at rate 1: 0.7 - 0.7.
    gap = st.gap_at_chosen(policy, base, PLAN)
    assert gap is not None
    assert gap.mean == pytest.approx(1.4 / 2)
    assert (gap.low, gap.high) == pytest.approx(stats.t.interval(0.95, 1, 0.7, 0.7))
    # Over the rates. Seed 0: (0.1 + 1.4) / 2; seed 1: 2.5 counts as 2, (0 + 1.6) / 2.
    mean = st.mean_gap(policy, base, PLAN)
    assert mean is not None
    assert mean.mean == pytest.approx((0.75 + 0.8) / 2)
    assert mean.n == 2


def test_sensitivity_by_hand() -> None:
    # Seed 0: (0.6 + 2) / 2 - 0.6; seed 1: (0.7 + 2) / 2 - 0.7.
    found = st.sensitivity(st.grid(RUNS, "p"), PLAN)
    assert found is not None
    assert found.mean == pytest.approx((0.7 + 0.65) / 2)
    assert found.n == 2


def test_seeds_that_are_not_complete_do_not_count() -> None:
    missing = [r for r in RUNS if not (r.setting == "p" and r.rate == 1 and r.seed == 0)]
    base, policy = st.grid(missing, "base"), st.grid(missing, "p")
    for found in (
        st.mean_gap(policy, base, PLAN),
        st.gap_at_chosen(policy, base, PLAN),
        st.sensitivity(policy, PLAN),
        st.accuracy_at_chosen(policy, PLAN),
    ):
        assert found is not None
        assert found.n == 1
    assert st.mean_gap({}, base, PLAN) is None
    # The rates are those of the axes, not those that happen to be finished.
    axes = st.Plan([1, 2, 3], [0, 1])
    assert st.sensitivity(st.grid(RUNS, "p"), axes) is None
    assert st.sensitivity(st.grid(RUNS, "base"), st.Plan([1], [0, 1])) is None  # of one rate
    row = st.summarise(RUNS, [("base", "base"), ("p", "base")], axes)[1]
    assert (row.runs, row.planned) == (4, 6)
    assert {row.best_rate, row.accuracy, row.gap, row.mean_gap, row.sensitivity} == {None}


def test_no_run_counts_worse_than_one_that_diverged() -> None:
    """A run that gets worse never counts better: min(l, l0), and l0 where it diverged."""
    falling = [0.5, 1.9, 2.0, 3.0, math.inf, math.nan]
    counted = [run("p", 1, 0, loss).counted for loss in falling]
    assert counted == [0.5, 1.9, 2.0, 2.0, 2.0, 2.0]
    assert run("p", 1, 0, 0.9, diverged=True).counted == 2.0


def test_summary_and_accuracy() -> None:
    row = st.summarise(RUNS, [("base", "base"), ("p", "base")], PLAN)[1]
    assert (row.runs, row.diverged, row.best_rate, row.baseline_rate) == (4, 1, 1, 2)
    # Both seeds of p are better at rate 1.
    assert row.accuracy == st.Accuracy(0.75, 0.7, 0.8, 2, (1, 1))
    bad = [run("p", 1, s, 1.0, accuracy=a, diverged=True) for s, a in ((0, 0.1), (1, math.nan))]
    found = st.accuracy_at_chosen(st.grid(bad, "p"), st.Plan([1], [0, 1]))
    assert found == st.Accuracy(0.05, 0.0, 0.1, 2, (1, 1))


def test_divergences_are_counted_at_each_rate() -> None:
    shares = st.divergences(st.grid(RUNS, "p"), st.Plan([1, 2, 3], [0, 1]))
    assert [(s.rate, s.count, s.n) for s in shares] == [(1, 0, 2), (2, 1, 2), (3, 0, 0)]
    assert (shares[1].low, shares[1].high) == st.wilson_interval(1, 2)


# ---------------------------------------------------------------- controls
def test_controls_pass(sweep: studies.Sweep) -> None:
    checks = sweep.check_controls()
    assert [c.passed for c in checks] == [True] * 4, checks
    assert "rounding calls: accumulation 7, activations 7" in checks[0].detail
    assert "accumulation 7" in checks[0].detail
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
    monkeypatch.delitem(general.file.rounding, "master")  # the roles are those of the specification
    assert sweep.check_controls()[0].passed is False
    monkeypatch.setitem(general.file.attributes, "numerics", "b" * 64)
    assert sweep.check_controls()[0].passed is None
    monkeypatch.setitem(general.file.attributes, "outcome", "nothing")
    assert sweep.check_controls()[0].passed is None


# ---------------------------------------------------------------- table
def test_table_as_csv_and_json(sweep: studies.Sweep) -> None:
    made = sweep.table()
    rows = list(csv.DictReader(io.StringIO(made.to_csv())))
    assert [row["policy"] for row in rows] == SWEEP["axes"]["precision"]
    assert rows[0]["gap"] == ""
    summary = sweep.summaries[1]
    assert summary.gap is not None
    assert float(rows[1]["gap_low"]) == summary.gap.low
    assert int(rows[2]["diverged"]) == 2
    assert (rows[2]["diverged_at_0.03"], rows[2]["diverged_at_0.03_n"]) == ("2", "3")
    assert float(rows[2]["diverged_at_0.03_low"]) == st.wilson_interval(2, 3)[0]
    assert len(rows[2]["accuracy_rates"].split()) == int(rows[2]["accuracy_n"]) == 3
    document = json.loads(made.to_json())
    assert document["rows"] == made.full_rows
    assert all(
        row.items() <= full.items() for row, full in zip(made.rows, made.full_rows, strict=True)
    )
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
    assert "WARNING" not in text
    for word in ["min(l, l0)", "other seeds choose", "one fixed held-out split", "10 intervals"]:
        assert word in " ".join(text.split())
    assert "2/9 (" not in text  # no pooled interval of the divergences
    narrow = io.StringIO()
    sweep.table().print(Console(file=narrow, width=74, color_system=None))
    assert "…" not in narrow.getvalue()
    assert re.search(r"\) +± 0\.\d{4} ", narrow.getvalue())


def test_numbers_that_rest_on_fewer_seeds_say_so(sweep: studies.Sweep, tmp_path: Path) -> None:
    for source in (sweep.folder.sweep, sweep.folder.index):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / "cells").mkdir()
    gone = {("bf16", 1e-2, 1), ("truncated", 3e-3, 0), ("truncated", 3e-3, 1),
            ("truncated", 3e-2, 2), ("fp32", 3e-3, 2)}  # fmt: skip
    for cell in sweep.cells:
        if cell.control or (cell.policy, cell.learning_rate, cell.seed) not in gone:
            (tmp_path / "cells" / cell.path.name).write_bytes(cell.path.read_bytes())
    half = studies.open_sweep(tmp_path)
    cells = {row["policy"]: texts(row) for row in half.table().rows}
    assert cells["bf16"][1].endswith(" (n = 2)")
    assert cells["bf16"][3].endswith(" (df = 0)")
    assert cells["bf16"][5].endswith(" (df = 1)")
    assert cells["truncated"][1:6] == ["–"] * 5
    assert cells["e8m3_master"][4].endswith(" (df = 1)")
    assert cells["e8m3_master"][5].count("df") == 0
    checks = half.check_controls()
    assert [c.passed for c in checks] == [True, True, None, None]
    assert checks[3].detail.startswith("all learning rates are finished for 2 of 3 seeds")


def test_one_seed_has_no_interval_and_says_who_chose() -> None:
    plan = st.Plan([1, 2], [0])
    rows = st.summarise(RUNS, [("base", "base"), ("p", "base")], plan)
    said = " ".join(table.notes(rows, plan))
    assert "1 seed, so there are no intervals" in said
    assert "chosen by the run that is judged at it" in said
    assert "There are 0 intervals" in said
    assert texts(table.row_of(rows[1], plan))[4] == "0.7500"


def test_further_axes_make_rows_of_their_own(sweep: studies.Sweep) -> None:
    parameters = {"precision": "bf16", "training.seed": 1, "model.hidden": [64]}
    assert st.setting_of(parameters) == "bf16, model.hidden=[64]"
    assert st.setting_of(parameters, "fp32") == "fp32, model.hidden=[64]"


# ---------------------------------------------------------------- report and figures
FIGURES = ("gaps", "curves", "sensitivity", "exponents")


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
    assert len(page.loads) == len(FIGURES)
    assert all(load.startswith("data:image/svg+xml;base64,") for load in page.loads)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?:|@import|url\(", text)
    assert 'name="viewport"' in text
    for policy in SWEEP["axes"]["precision"]:
        assert policy in text
    assert "<h1>small &amp; &lt;odd&gt;</h1>" in text
    assert "Is 1 &lt; 2?" in text
    assert "2/3 (21–94%)" in text  # divergences at one rate, over its seeds
    for figure in FIGURES:
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
    shown = {t.get_text() for t in rates.texts}
    values = {text.rpartition("  ")[0]: float(text.rpartition("  ")[2]) for text in shown}
    assert set(values) >= set(SWEEP["axes"]["precision"])
    assert values["initialisation"] == 2.3
    # From the bottom up the names stand in the order of the values that they carry.
    placed = sorted(rates.texts, key=lambda t: t.xy[1])
    heights = [values[t.get_text().rpartition("  ")[0]] for t in placed]
    assert heights == sorted(heights)


def test_a_panel_for_every_setting(sweep: studies.Sweep) -> None:
    drawn = {name: figure for name, (figure, _) in all_figures(sweep).items()}
    assert tuple(drawn) == FIGURES
    for name in ("curves", "sensitivity"):
        panels = [axes for axes in drawn[name].axes if axes.axison]
        assert [axes.get_title("left") for axes in panels] == SWEEP["axes"]["precision"]
        # Each line, and behind it the baseline's in grey; it has no panel behind its own.
        behind = [sum(line.get_color() == "0.62" for line in axes.lines) for axes in panels]
        assert behind == [0, 1, 1, 1]
    assert "×" in all_figures(sweep)["curves"][1]
    marks = [line.get_marker() for line in drawn["sensitivity"].axes[2].lines]
    assert marks.count("x") == 1  # the rate at which "truncated" diverged
    # Roles: the operands, and master weights, which one policy narrows. Accumulation none does.
    panels = drawn["exponents"].axes
    assert len(panels) == 4 * 4
    titles = [axes.get_title() for axes in panels[:4]]
    assert titles == ["weights", "activations", "gradients", "master"]


def test_names_beside_lines_do_not_overlap() -> None:
    placed = _spread([0.1, 0.5, 0.5, 0.5, 0.99, 1.0], 0.1)
    assert placed[:4] == pytest.approx([0.1, 0.4, 0.5, 0.6])
    assert all(b - a >= 0.1 - 1e-12 for a, b in pairwise(placed))
    assert placed[-1] <= 1
