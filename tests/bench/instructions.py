"""Instructions per element of the main loops, against budgets: what times on shared machines cannot guard.

    python tests/bench/instructions.py [--check | --write] [--program PATH] [--json]

Prints the table. --check: exit code 1 if an operation needs more than its budget, 77 (skipped) where
nothing can be counted. --write: budgets a tenth above what was counted now, into
tests/bench/instructions.toml. Valgrind's processor has AVX2 and no AVX-512, so what is counted is what
the program chooses on such a one. Budgets hold for the compiler that the file names.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUDGETS = HERE / "instructions.toml"
PROGRAM = HERE.parents[1] / "build/release/tests/halfulp-counted"
SKIPPED = 77
NEEDED = ("avx2", "fma", "bmi2")  # of the host, to have the same choice of loops everywhere
HEAD = """\
# Most instructions per element (of products: per multiply-add) that these operations may need, on a
# processor with AVX2: a tenth above what was counted. Written by tests/bench/instructions.py --write.
"""


def compiler_name(about: str) -> str:
    """Compiler and its major version: 'GNU 12'."""
    return about.split(".")[0]


def missing(program: Path) -> str | None:
    """Why nothing can be counted here, if so."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed"
    if not program.exists():
        return f"{program} is not built"
    about = subprocess.run([program, "--about"], capture_output=True, text=True, check=True)
    if "no requests" in about.stdout:
        return f"{program} was compiled without <valgrind/callgrind.h>"
    cpuinfo = Path("/proc/cpuinfo")
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text() if cpuinfo.exists() else "", re.M)
    lacking = [flag for flag in NEEDED if flags is None or flag not in flags[1].split()]
    return f"this processor lacks {', '.join(lacking)}" if lacking else None


def counted(program: Path) -> dict[str, float]:
    """Instructions per element of each operation: what 2n elements need more than n, by n."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", program]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"valgrind failed with exit code {done.returncode}:\n{done.stderr}")
        counts: dict[str, dict[int, int]] = {}
        dumps = [path for path in Path(folder).glob("out.*") if path.suffix[1:].isdigit()]
        for dump in sorted(dumps, key=lambda path: int(path.suffix[1:])):
            text = dump.read_text()
            label = re.search(r"^desc: Trigger: Client Request: (.*)/(\d+)$", text, re.M)
            total = re.search(r"^(?:summary|totals): (\d+)$", text, re.M)
            if label and total:
                counts.setdefault(label[1], {})[int(label[2])] = int(total[1])
    if not counts:
        sys.exit(f"valgrind counted nothing:\n{done.stderr}")
    return {name: (of[max(of)] - of[min(of)]) / min(of) for name, of in counts.items()}


def budget_for(count: float) -> float:
    """A tenth more, to two digits after the point below 10 and one above, rounded up."""
    digits = 100 if count < 10 else 10
    return math.ceil(count * 1.1 * digits) / digits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="exit code 1 above a budget")
    parser.add_argument("--write", action="store_true", help="new budgets from these counts")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    parser.add_argument("--program", type=Path, default=PROGRAM, help="halfulp-counted")
    options = parser.parse_args()
    if options.check and options.write:
        parser.error("--write makes budgets that --check could not miss; give one of them")
    if reason := missing(options.program):
        print(f"skipped: {reason}")
        return SKIPPED
    about = subprocess.run(
        [options.program, "--about"], capture_output=True, text=True, check=True
    ).stdout
    compiler = compiler_name(about)
    known = tomllib.loads(BUDGETS.read_text()) if BUDGETS.exists() else {}
    if options.check and compiler != known.get("compiler"):
        print(f"skipped: budgets are of {known.get('compiler')}, and this is {compiler}")
        return SKIPPED
    counts = counted(options.program)
    if options.write:
        lines = [f'"{name}" = {budget_for(count):g}' for name, count in counts.items()]
        BUDGETS.write_text(
            f'{HEAD}compiler = "{compiler}"\n\n[instructions]\n' + "\n".join(lines) + "\n"
        )
        known = tomllib.loads(BUDGETS.read_text())
    budgets = known.get("instructions", {})
    over = [name for name, count in counts.items() if count > budgets.get(name, 0)]
    gone = sorted(set(budgets) - set(counts))
    if options.json:
        rows = {name: {"counted": c, "budget": budgets.get(name)} for name, c in counts.items()}
        print(json.dumps({"compiler": compiler, "instructions": rows, "over": over, "gone": gone}))
    else:
        print(f"instructions per element, {compiler}, AVX2 (valgrind):")
        for name, count in counts.items():
            budget = budgets.get(name)
            verdict = "  above its budget" if name in over else ""
            shown = "none" if budget is None else f"{budget:g}"
            print(f"  {name:46} {count:9.2f}   budget {shown:>7}{verdict}")
        for name in gone:
            print(f"  {name:46} is in {BUDGETS.name} and was not counted")
    if over or gone:
        print(
            f"{len(over) + len(gone)} above their budgets, without one, or not counted. A slower "
            "loop is to be mended; new budgets are written by tests/bench/instructions.py --write",
            file=sys.stderr,
        )
    return 1 if options.check and (over or gone) else 0


if __name__ == "__main__":
    sys.exit(main())
