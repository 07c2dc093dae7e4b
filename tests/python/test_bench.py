"""halfulp bench: its rows, its targets, its exit codes. The times themselves are no test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from halfulp import _cli_bench

HALFULP = Path(sys.executable).parent / "halfulp"
TINY = ("--rounds", "3", "--log2-elements", "12", "--threads", "1")
EASY = '[[target]]\noperation = ["round"]\nratio = 0.0\n'
HARD = '[[target]]\noperation = ["encode"]\nrounding = ["up"]\nratio = 1e9\n'


ROW = {
    "operation": "dot", "from": "x", "format": "y", "rounding": "up", "random_bits": 0, "data": "L2",
    "threads": 1, "device": "cpu", "elements_per_second": 2e9, "copy_elements_per_second": None,
    "ratio": None, "ratio_interval": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("target", "met"),
    [
        ({"rate": 1e9}, True),
        ({"rate": 3e9}, False),
        ({"rate": 1e9, "ratio": 0.5}, False),
        ({"data": ["other"], "rate": 3e9}, None),
    ],
)
def test_rates_as_targets(target: dict, met: bool | None) -> None:
    row = _cli_bench.judge(ROW, [target])
    assert row["met"] is met
    assert _cli_bench.line_of(row).endswith(" missed") is (met is False)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HALFULP, "bench", *arguments], capture_output=True, text=True, check=False
    )


def test_rows_targets_and_exit_codes(tmp_path: Path) -> None:
    targets = tmp_path / "targets.toml"
    targets.write_text(EASY)
    done = bench(*TINY, "--check", "--json", "--targets", str(targets))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    rows = document["rows"]
    assert document["missed"] == 0
    assert document["judged"] == sum(row["operation"] == "round" for row in rows) > 20
    for row in rows:
        assert {
            "operation",
            "format",
            "rounding",
            "data",
            "threads",
            "device",
            "device_name",
        } <= set(row)
        assert row["elements_per_second"] > 0
        if row["ratio"] is None:  # in a cache, or a product: nothing to compare with
            assert row["data"] == "L2" or row["operation"].startswith(("matmul", "attention"))
            assert row["copy_elements_per_second"] is None
            continue
        assert row["copy_elements_per_second"] > 0
        low, high = row["ratio_interval"]
        assert 0 < low <= row["ratio"] <= high
    blocks = {"quantize", "dequantize", "hu.quantize", "hu.dequantize"}
    arithmetic = {"add", "mul", "div", "sqrt", "fma"}
    products = {"matmul sequential", "matmul fma-sequential", "matmul exact", "matmul model"}
    rounding = {"round", "encode", "decode", "hu.round"}
    attention = {"attention flash", "attention backward"}
    integers = {"matmul integer", "matmul bit planes", "matmul scaled"}
    softmax = {"softmax three-pass", "softmax two-pass", "softmax two-pass beside three-pass"}
    norms = {"layer norm", "rms norm"}
    pointwise = {"gelu", "silu", "rotary", "rotary, interleaved", "adamw"}
    all_of_them = rounding | arithmetic | products | blocks | attention | integers | softmax | norms
    all_of_them |= pointwise
    assert {row["operation"] for row in rows} == all_of_them
    assert {row["from"] for row in rows} >= {"binary16", "bfloat16", "binary32", "binary64"}
    targets.write_text(EASY + HARD)
    few = (*TINY, "--only", "rounding")
    assert bench(*few, "--targets", str(targets)).returncode == 0
    missed = bench(*few, "--check", "--targets", str(targets))
    assert missed.returncode == 1
    assert " missed" in missed.stdout


def test_every_row_of_the_targets_is_known() -> None:
    import tomllib

    for target in tomllib.loads(_cli_bench.TARGETS.read_text())["target"]:
        assert set(target) <= {*_cli_bench._KEYS, "ratio", "rate"}
        assert {"ratio", "rate"} & set(target)
        assert 0 < target.get("ratio", 1) < 2
        assert 0 < target.get("rate", 1e9) < 1e12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rounds", "1"), "rounds"),
        (("--log2-elements", "99"), "log2-elements"),
        (("--threads", "x"), "threads"),
        (("--only", "everything"), "everything"),
        (("--targets", "/nowhere/at/all.toml"), "/nowhere/at/all.toml"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], words: str) -> None:
    done = bench(*arguments)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
