"""The program halfulp-cell: finding it, canonical specifications, its build."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import SweepError

PROGRAM = "halfulp-cell"
VARIABLE = "HALFULP_CELL"


def find_program() -> str:
    """The path of halfulp-cell: $HALFULP_CELL if set, else beside this Python, else on PATH.

    Raises FileNotFoundError with one sentence if it is nowhere.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if os.access(named, os.X_OK) and Path(named).is_file():
            return str(Path(named).absolute())
        raise FileNotFoundError(f"{VARIABLE} names '{named}', which is not a program")
    beside = Path(sys.executable).parent / PROGRAM
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(PROGRAM)
    if found is None:
        raise FileNotFoundError(
            f"the program {PROGRAM} is neither beside {sys.executable} nor on PATH: "
            f"build it with ./dev build, or name it in {VARIABLE}"
        )
    return found


def _json(specification: Mapping[str, Any], name: str) -> str:
    """The specification as one line of JSON, which has no NaN, infinity or foreign types."""

    def refuse(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, below in value.items():
                refuse(f"{path}.{key}" if path else str(key), below)
        elif isinstance(value, list | tuple):
            for below in value:
                refuse(path, below)
        elif (
            not isinstance(value, str | bool | int | float)
            or value in (math.inf, -math.inf)
            or value != value
        ):
            raise SweepError(
                f"{name}: {path} is {value!r}; give a text, a finite number, true or false"
            )

    refuse("", specification)
    return json.dumps(specification, ensure_ascii=False)


def canonicalise(
    program: str, specifications: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[str]:
    """The canonical JSON text of each specification (docs/cells.md), in one call of the program.

    Raises SweepError with the program's own sentence if it refuses one of them, called by its name.
    """
    lines = [_json(s, name) for s, name in zip(specifications, names, strict=True)]
    done = subprocess.run(
        [program, "--canonical"],
        input="".join(line + "\n" for line in lines),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0:
        said = sentence(done.stderr, done.returncode)
        line = re.match(r"line (\d+): ", said)
        if line and 1 <= int(line[1]) <= len(names):
            said = f"{names[int(line[1]) - 1]}: {said[line.end() :]}"
        raise SweepError(said)
    canonical = done.stdout.splitlines()
    if len(canonical) != len(lines):
        raise SweepError(
            f"{program} --canonical answered {len(canonical)} lines to {len(lines)}: "
            "it is not the halfulp-cell of this version; build it anew"
        )
    return canonical


@dataclass(frozen=True)
class Build:
    """What decides the bits of a cell besides its specification, as far as it is known."""

    numerics: str | None = None  # a digest of the sources that decide bits
    data: Mapping[str, str] = field(default_factory=dict)  # name of data -> SHA-256

    @classmethod
    def of(cls, record: Mapping[str, Any], data_name: str = "digits") -> "Build":
        """From the attributes of a cell's file, or from what the program says of itself.

        `data_sha256` is an object {name: hash or null}, or the hash of the data `data_name`.
        """
        data = record.get("data_sha256")
        hashes = data if isinstance(data, Mapping) else {data_name: data}
        known = {str(name): str(value) for name, value in hashes.items() if _is_known(value)}
        numerics = record.get("numerics")
        return cls(str(numerics) if _is_known(numerics) else None, known)

    def differs(self, other: "Build") -> bool:
        """Whether a cell of this build is not one of the `other`, as far as that one is known."""
        return (other.numerics is not None and self.numerics != other.numerics) or any(
            other.data.get(name, value) != value for name, value in self.data.items()
        )


def _is_known(value: Any) -> bool:
    return value not in (None, "", "unknown")


def build_of(program: str) -> Build:
    """The build of a program; all unknown if it is too old to say it."""
    try:
        done = subprocess.run(
            [program, "--version", "--json"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        said = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, ValueError):
        said = {}
    return Build.of(said if isinstance(said, dict) else {})


def sentence(stderr: str, code: int) -> str:
    """What a program said last on stderr, without its name; or how it ended, if it said nothing."""
    said = [line.strip() for line in stderr.splitlines() if line.strip()]
    if said:
        return said[-1].removeprefix(f"{PROGRAM}: ")
    if code < 0:
        return f"{PROGRAM} was ended by signal {-code}"
    return f"{PROGRAM} ended with exit code {code} and said nothing"
