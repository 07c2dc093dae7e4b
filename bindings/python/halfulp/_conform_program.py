"""Plug-ins and halfulp's own kernels under test: the program halfulp-conform, whose records come as
JSON Lines.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from halfulp._conform_records import Record

PROGRAM = "halfulp-conform"
# Its exit codes.
_JUDGED = (0, 1, 4)


def program() -> str:
    """The path of halfulp-conform. Raises FileNotFoundError."""
    beside = Path(sys.executable).parent / PROGRAM
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(PROGRAM)
    if found is None:
        raise FileNotFoundError(
            f"the program {PROGRAM} is neither beside {sys.executable} nor on PATH; "
            "./dev build makes it"
        )
    return found


def run_program(
    kernel: str,
    suite: str,
    promise: str | None,
    *,
    level: str,
    variants: Sequence[str] | None,
    cases: Sequence[str] | None,
    seconds: float,
) -> Iterator[Record]:
    """The records of a run of a plug-in or of builtin:NAME, as they come."""
    command = [program(), "run", "--suite", suite, "--kernel", kernel, "--level", level]
    command += ["--seconds", f"{seconds:g}"]
    command += [] if promise is None else ["--promise", promise]
    for option, values in (("--variant", variants), ("--case", cases)):
        for value in values or ():
            command += [option, value]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            yield json.loads(line)
        complaint = process.stderr.read().strip().removeprefix(f"{PROGRAM}: ")
    if process.returncode not in _JUDGED:
        sentence = complaint or f"{PROGRAM} ended with {process.returncode}"
        raise (ValueError if process.returncode == 2 else ChildProcessError)(sentence)
