"""Breaks the judge itself mechanically and asks its tests whether they notice: mutate.py's changes in judge.cpp and statistics.cpp.

    python tests/strength/judge.py [--json FILE] [--jobs N] [--every N]

A mutant is linked with the judge's tests, as ninja compiled them (tests/unit/judge_test.cpp, which pins every figure, and
conformance_test.cpp); it is caught if one fails. What they let pass and survivors.toml does not explain is asked
halfulp-strength too: caught if a broken kernel is missed or a correct one blamed.
"""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from mutate import ROOT, Mutant, arguments, key_of, mutants_of, reasons_of, report

BUILD = ROOT / "build/release"
SOURCES = ("kernels/conformance/judge.cpp", "kernels/conformance/statistics.cpp")
TESTS = ("judge_test.cpp.o", "conformance_test.cpp.o")


def objects(program: str) -> list[Path]:
    return sorted((BUILD / "tests/CMakeFiles" / f"{program}.dir").rglob("*.o"))


def caught_by(mutant: Mutant, text: str, explained: bool) -> str:
    libraries = [
        BUILD / "kernels/libhalfulp_conformance.a",
        BUILD / "kernels/libhalfulp_kernels.a",
        BUILD / "emu/libhalfulp_emu.a",
    ]
    tests = [o for o in objects("halfulp-unit-tests") if o.name in TESTS]
    asked = [
        ("figures", tests, ["-lCatch2Main", "-lCatch2"], ["[judge]"]),
        ("tests", tests, ["-lCatch2Main", "-lCatch2"], []),
    ]
    if not explained:
        asked.append(("strength", objects("halfulp-strength"), [], []))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "mutant.cpp"
        source.write_text(text)
        compiled = Path(folder) / "mutant.o"
        # With assertions, so that an index one too far is noticed.
        flags = ["g++", "-std=c++20", "-O1", "-w", "-ffp-contract=off", f"-I{ROOT}"]
        command = [*flags, "-D_GLIBCXX_ASSERTIONS", "-c", source, "-o", compiled]
        if subprocess.run(command, capture_output=True).returncode:
            return "does not compile"
        for name, parts, options, filters in asked:
            program = Path(folder) / parts[0].parents[1].name
            if not program.exists():
                command = [*flags, compiled, *parts, *libraries, *options, "-ldl", "-o", program]
                linked = subprocess.run(command, capture_output=True, text=True)
                if linked.returncode:
                    raise SystemExit(linked.stderr[-2000:])
            try:
                done = subprocess.run([program, *filters], capture_output=True, timeout=600)
            except subprocess.TimeoutExpired:
                return f"{name}: hangs"
            if done.returncode:
                return name
    return ""


def main() -> int:
    args = arguments(__doc__).parse_args()
    reasons = reasons_of("judge")
    mutants = [m for source in SOURCES for m in mutants_of(ROOT / source)][:: args.every]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        found = list(pool.map(lambda m: caught_by(*m, key_of(m[0]) in reasons), mutants))
    rows, wrong = report("judge", [m for m, _ in mutants], found, args.every)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
