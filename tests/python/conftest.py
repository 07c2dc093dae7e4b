"""What tests of sweeps share."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the fake in the place of halfulp-cell; returns its log (fake_sweeps.py reads it)."""
    program = tmp_path / "halfulp-cell"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "fake_cell.py"} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("HALFULP_CELL", str(program))
    monkeypatch.setenv("FAKE_CELL_LOG", str(tmp_path / "log"))
    return tmp_path / "log"
