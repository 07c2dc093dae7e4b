"""tests/peers/speed.py: that it runs, whatever the times, and that it sees other results."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import halfulp as hu

SCRIPT = Path(__file__).resolve().parents[2] / "tests/peers/speed.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)


def test_every_row_is_timed_and_the_exact_peers_agree() -> None:
    done = run("--tiny", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {"halfulp", "numpy", "ml_dtypes", "gfloat"} <= set(document["versions"])
    assert len(document["rows"]) == 26
    for row in document["rows"]:
        rates = row["elements_per_second"]
        assert "halfulp" in rates
        assert len(rates) >= 2, row
        assert all(rate > 0 for rate in rates.values())
        assert set(row["halfulp_faster_by"]) == set(rates) - {"halfulp"}
        if row["rounding"] != "stochastic":
            assert set(row["other_results"]) == set(rates) - {"halfulp"}
            for peer in {"numpy", "ml_dtypes", "gfloat"} & set(rates):
                assert row["other_results"][peer] == 0, row


def test_the_table_has_a_line_for_each_row() -> None:
    done = run("--tiny", "--only", "blocks", "matmul")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    named = ["matmul 8³, bfloat16, nearest-even", "quantize, mxfp4, nearest-even"]
    assert [line.split("|")[1].strip() for line in lines] == ["what", "---", *named]
    assert len({line.count("|") for line in lines}) == 1


def test_another_result_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("peers_speed", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    speed = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "peers_speed", speed)
    spec.loader.exec_module(speed)
    x = np.array([0.3, -0.0, np.nan], np.float32)
    row = speed.Row("round", "round", "bfloat16", "up", 3, lambda: hu.round(x, "bfloat16", "up"))
    row.theirs = {"numpy": row.ours, "gfloat": lambda: x, "pychop": lambda: row.ours() + 0}
    found = speed.measured(row, 1)
    assert found["other_results"] == {"numpy": 0, "gfloat": 1, "pychop": 1}  # +0 is not -0
    cells = speed.line_of(found).split(" | ")
    assert "*" not in cells[3]
    assert "*" in cells[4]


@pytest.mark.parametrize("bad", [("--rounds", "0"), ("--elements", "33"), ("--only", "speed")])
def test_bad_input(bad: tuple[str, str]) -> None:
    done = run(*bad)
    assert done.returncode == 2
    assert bad[0] in done.stderr
    assert "Traceback" not in done.stderr
