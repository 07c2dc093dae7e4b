"""tests/subjects/run.py without the libraries that it is for: stand-ins under their names, processes that die and
hang, runs cut short and gone on with, the page."""

from __future__ import annotations

import ast
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "subjects"
sys.path.insert(0, str(FOLDER))


def run(out: Path, *words: str, fault: str = "") -> tuple[list[dict[str, object]], str]:
    """The rows that are there afterwards, and what was said."""
    command = [
        sys.executable,
        str(FOLDER / "run.py"),
        "--device",
        "cuda",
        "--out",
        str(out),
        *words,
    ]
    paths = [str(FOLDER / "stand_ins"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HALFULP_STAND_IN": fault}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "conformance-cuda.json").read_text())[
        "rows"
    ], done.stdout + done.stderr


def records(out: Path) -> list[dict[str, object]]:
    with gzip.open(out / "conformance-cuda.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def test_subjects_that_die_hang_and_spoil_their_device_have_reasons_and_are_asked_again(
    tmp_path: Path,
) -> None:
    asked = ("--library", "torch", "--only", "torch.softmax", "--cases", "4")
    fault = "dies:float32,hangs:bfloat16,spoils:float16"
    rows, said = run(tmp_path, *asked, "--jobs", "3", "--subject-seconds", "3", fault=fault)
    assert [r["variant"] for r in rows] == ["float32", "bfloat16", "float16"]
    assert rows[0]["not_run"] == "its process died by signal 6 (SIGABRT)"
    assert str(rows[1]["not_run"]).startswith("ended after ")
    assert rows[2]["failed"] == rows[2]["cases"] != 0
    assert "its device can be used no more: RuntimeError: CUDA error: an illegal" in said
    assert {r["of"] for r in records(tmp_path)} == {rows[2]["key"]}
    rows, said = run(tmp_path, *asked, "--resume")
    assert "[torch 2/2] softmax bfloat16" in said
    assert "softmax float16" not in said  # it has a result, if a bad one
    assert [r["failed"] for r in rows[:2]] == [0, 0]
    assert len({r["of"] for r in records(tmp_path)}) == 3

    from table import page

    text = page("above\n<!-- tables -->\nbelow", tmp_path)
    assert text.startswith("above\n<!-- tables -->")
    assert "below" not in text
    assert text.count("| torch.softmax |") == 3
    assert "a host that stands in for a GPU" in text


def test_no_subject_is_begun_after_the_time_and_absent_libraries_are_named(tmp_path: Path) -> None:
    rows, said = run(tmp_path, "--library", "cupy", "--seconds", "0")
    assert rows == []
    assert "cupy: not begun, time was up" in said
    rows, said = run(tmp_path, "--library", "cupy", "--only", "cupy.sum", "--cases", "3")
    assert [r["failed"] for r in rows] == [0, 0]
    _, said = run(tmp_path, "--library", "jax")
    assert "left out: jax: " in said
    absent = json.loads((tmp_path / "conformance-cuda.json").read_text())["absent"]
    assert list(absent) == ["jax"]


def test_wrappers_of_torch_ask_what_the_suite_means(tmp_path: Path) -> None:
    """With arithmetic that is right every case passes: what is cut, padded and transposed is right too."""
    only = [
        "| float16 | torch SDPA",
        "attention-backward",
        "_scaled_mm",
        "AdamW",
        "cross_entropy",
        "log_softmax",
        "_int_mm",
        "TF32",
    ]
    asked = [word for text in only for word in ("--only", text)]
    rows, _ = run(tmp_path, "--library", "torch", *asked, "--cases", "5")
    assert len(rows) == 26
    for row in rows:
        assert row.get("failed") == 0, row
        assert row["cases"] or "backward" in str(row["key"]), row


def test_minimal_cases_are_programs_and_say_what_is_not_there() -> None:
    import minimal

    assert minimal.run("x = y + 1\nx * 2", {"y": 3}) == 8
    names = [name for name, *_ in minimal.CASES]
    assert len(set(names)) == len(names)
    for name, library, code, exact in minimal.CASES:
        assert ast.parse(code.strip()).body, name
        assert exact, name
        assert library in ("torch", "cupy", "jax"), name
    said = subprocess.run(
        [sys.executable, str(FOLDER / "minimal.py"), "rms_norm"], capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("# rms_norm of a row with an infinity") == 1
    assert "fused" not in said.stdout
