"""The command `halfulp study`, the sweeps that come with halfulp, and the pages that it writes."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from halfulp import cli, studies
from halfulp.studies import catalogue
from halfulp.studies.errors import SweepError
from halfulp.studies.spec import read_sweep
from halfulp.studies.table import texts
from halfulp.studies.toml_text import to_toml

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {
    "name": "small-quick",
    "question": "Does it\nlearn?",
    "method": "With a method.",
    "limits": "It is small.",
    "claims": "Published: a. Found: b | c.",
    "baseline": "fp32",
    "baseline_beats": "bigram",
    "cell": {
        "data": {"name": "kjv"},
        "model": {"kind": "transformer"},
        "training": {"steps": 120, "batch": 12},
    },
    "axes": {
        "precision": ["fp32", "narrow"],
        "optimizer": {"learning_rate": [1e-2, 3e-2]},
        "training": {"seed": [0, 1]},
    },
    "precision": {
        "fp32": {},
        "narrow": {"weights": {"format": "fp_e4p4b7_s_last_none", "rounding": "toward-zero"}},
    },
}


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to be in, beside a halfulp-cell that is made up and the study SMALL."""
    program = tmp_path / "bin" / "halfulp-cell"
    program.parent.mkdir()
    fake = ROOT / "tests/python/fake_cell.py"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {fake} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("HALFULP_CELL", str(program))
    folder = tmp_path / "share/halfulp/studies"
    folder.mkdir(parents=True)
    (folder / "small-quick.toml").write_text(to_toml(SMALL))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading of a Markdown page."""
    section = page.split(f"## {heading}\n\n")[1].split("\n\n")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[1:]]


def test_a_study_from_the_command_to_its_page(
    at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["study", "small", "--page", "docs/small.md", "--jobs", "2"]) == 0
    printed = capsys.readouterr().out
    assert "small-quick: 8 cells: 7 completed, 1 diverged" in printed
    assert "results/small-quick/report.html" in printed
    sweep = studies.open_sweep("results/small-quick")
    assert (at_home / "results/small-quick/report.html").is_file()
    page = (at_home / "docs/small.md").read_text()
    assert page.startswith("# small-quick\n\nDoes it\nlearn?\n\n## Method\n\nWith a method.\n")
    # Its numbers are those of the table.
    assert rows_of(page, "Results") == [texts(row) for row in sweep.table().rows]
    assert all(note in page for note in sweep.table().notes)
    (beats,) = sweep.check_controls()
    assert f"- **pass** {beats.name}: {beats.detail}" in page
    full = sweep.table().full_rows
    losses = {row[0]: row[2] for row in rows_of(page, "Models of the data")}
    assert losses["bigram"] == "0.5000"
    assert losses["narrow"].startswith(f"{full[1]['loss']:.4f} (")
    assert rows_of(page, "Overflow, underflow, flush to zero")[1][1] == "0.11% / 2.2% / 1%"
    assert rows_of(page, "Divergences")[1] == ["narrow", "0/2 (0–66%)", "1/2 (9–91%)"]
    assert "## Claims\n\nPublished: a. Found: b | c.\n" in page
    assert page.index("## Claims") < page.index("## Limits")
    for fact in ("`halfulp study small --quick`", "8 of 8", "2 policies × 2 rates × 2 seeds"):
        assert fact in page
    picture = at_home / "docs/small-quick.png"
    assert "(small-quick.png)" in page
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 120_000
    # Once more: nothing runs, and nothing of the page changes.
    before = page, picture.read_bytes()
    assert cli.main(["study", "small", "--page", "docs/small.md", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["completed"] == 7
    assert ((at_home / "docs/small.md").read_text(), picture.read_bytes()) == before


def test_other_texts_are_taken_and_nothing_runs(at_home: Path) -> None:
    spec = {**SMALL, "axes": {**SMALL["axes"], "training": {"seed": [0]}}}
    first = studies.run_sweep(spec, "out", progress=False)
    times = [cell.path.stat().st_mtime_ns for cell in first.cells]
    changed = {**spec, "limits": "It is tiny.", "question": "Does it?"}
    again = studies.run_sweep(changed, "out", progress=False)
    assert [cell.path.stat().st_mtime_ns for cell in again.cells] == times
    assert studies.open_sweep("out").spec.text("limits") == "It is tiny."
    with pytest.raises(SweepError, match="is a different sweep"):
        studies.run_sweep({**spec, "baseline_beats": "unigram"}, "out", progress=False)


def test_a_control_that_fails_is_exit_code_1(
    at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {**SMALL, "cell": {**SMALL["cell"], "training": {"steps": 20}}}
    (at_home / "share/halfulp/studies/small-quick.toml").write_text(to_toml(few))
    assert cli.main(["study", "small"]) == 1
    assert "control FAILED: fp32: beats the bigram" in capsys.readouterr().err


def test_dry_run_writes_nothing(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", "small", "--dry-run", "--page", "p.md"]) == 0
    assert "8" in capsys.readouterr().out
    assert not (at_home / "results").exists()
    assert not (at_home / "p.md").exists()


def test_what_studies_there_are(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("share/halfulp/studies/small-quick.toml", "share/halfulp/studies/other.toml")
    assert cli.main(["study", "--list"]) == 0
    assert "small  (quick)\n  Does it learn?\n" in capsys.readouterr().out
    assert cli.main(["study", "--list", "--json"]) == 0
    listed = {each["name"]: each["sizes"] for each in json.loads(capsys.readouterr().out)}
    assert listed["small"] == listed["other"] == ["quick"]
    assert catalogue.find_study("other").out == Path("results/other")
    for arguments, words in (
        (["smal"], "no study 'smal'; did you mean 'small'?"),
        (["sharp"], "no study 'sharp'; did you mean 'sharpness'?"),
        (["small", "--full"], "the study 'small' has no --full size; it has --quick"),
        ([], "give the name of a study"),
    ):
        assert cli.main(["study", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_a_page_of_an_unfinished_sweep(at_home: Path) -> None:
    sweep = studies.study("small", progress=False)
    for cell in sweep.cells[1:]:
        cell.path.unlink()
    left = studies.open_sweep("results/small-quick")
    page = left.page("p.md").read_text()
    assert "**PROVISIONAL: 1 of 8 cells are finished.**" in page
    sweep.cells[0].path.unlink()
    assert "0 of 8" in studies.open_sweep("results/small-quick").page("p.md").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda p: p.stem)
def test_the_sweeps_of_the_sources(path: Path) -> None:
    spec = read_sweep(path)
    assert spec.name == path.stem
    assert spec.baseline in spec.axes["precision"]
    assert spec.baseline_beats or spec.baseline_accuracy  # each shows that its baseline learns
    assert set(spec.policies) == set(spec.axes["precision"])  # none is forgotten


def test_the_study_of_text_has_both_sizes() -> None:
    quick, full = (read_sweep(ROOT / f"studies/text-{size}.toml") for size in ("quick", "full"))
    assert set(quick.policies) < set(full.policies)
    for name, policy in quick.policies.items():
        assert full.policies[name] == policy
    assert len(full.axes["training.seed"]) >= 3
    for spec in (quick, full):
        assert spec.cell["divergence"] == {
            "window": 20,
            "margin": 0.0,
            "rise": 1.0,
            "patience": 200,
        }
        assert [c.expect for c in spec.controls] == [None, "equal", "different"]
        assert spec.text("method")
        assert spec.text("limits")
