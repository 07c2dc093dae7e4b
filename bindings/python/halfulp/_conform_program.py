"""Plug-ins and halfulp's own kernels under test: the program halfulp-conform, whose records come as
JSON Lines.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from halfulp import _programs
from halfulp._conform_records import Record

PROGRAM = "halfulp-conform"
_BAD_ARGUMENTS = 2  # of its exit codes
_JUDGED = (0, 1, 4)


def program() -> str:
    """The path of halfulp-conform. Raises FileNotFoundError."""
    return _programs.find(PROGRAM, "./dev build makes it")


def run_program(
    kernel: str,
    suite: str,
    promise: str | None,
    *,
    level: str = "quick",
    variants: Sequence[str] | None = None,
    cases: Sequence[str] | None = None,
    seconds: float = 10.0,
    jobs: int = 1,
) -> Iterator[Record]:
    """The records of a run of a plug-in or of builtin:NAME, as they come.

    promise: None is the kernel's own. Raises ValueError for bad arguments, ChildProcessError for a
    kernel that cannot be tried at all.
    """
    if cases is not None and len(cases) != 1:
        raise ValueError(f"{len(cases)} cases are asked for; of a plug-in give one, or a level")
    command = [program(), "run", "--suite", suite, "--kernel", kernel, "--level", level]
    command += ["--seconds", f"{seconds:g}", "--jobs", str(jobs), "--jsonl", "-"]
    command += [] if promise is None else ["--promise", promise]
    for option, values in (("--variant", variants), ("--case", cases)):
        for value in values or ():
            command += [option, value]
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
        errors.seek(0)
        _raise_for(process.returncode, errors.read())


def shrink_by_program(
    kernel: str, suite: str, promise: str | None, case: str, seconds: float
) -> Record:
    """The record of the smallest cut of a case that still fails. Raises ValueError if it passes."""
    command = [program(), "shrink", "--suite", suite, "--kernel", kernel, "--case", case]
    command += ["--seconds", f"{seconds:g}"]
    command += [] if promise is None else ["--promise", promise]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    _raise_for(done.returncode, done.stderr)
    found = re.findall(r"--case '([^']+)'$", done.stdout, re.M)
    if not found:
        raise ValueError(f"case {case} does not fail, so there is nothing to shrink")
    records = run_program(kernel, suite, promise, cases=found[-1:], seconds=seconds)
    return next(r for r in list(records) if r["type"] == "case")


def _raise_for(code: int, errors: str) -> None:
    if code in _JUDGED:
        return
    said = [line for line in errors.splitlines() if line.strip()]
    sentence = said[-1].removeprefix(f"{PROGRAM}: ") if said else f"{PROGRAM} ended with {code}"
    raise (ValueError if code == _BAD_ARGUMENTS else ChildProcessError)(sentence)
