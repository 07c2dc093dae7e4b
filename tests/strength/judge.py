"""Breaks the judge itself mechanically and asks its tests whether they notice: mutate.py's changes in judge.cpp.

    python tests/strength/judge.py [--json FILE] [--jobs N]

A mutant is linked with tests/unit/conformance_test.cpp, as ninja compiled it, and with halfulp-strength's objects; it is
caught if the tests of the judge fail, or if a broken kernel is missed or a correct one blamed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from mutate import HERE, ROOT, Mutant, mutants_of

BUILD = ROOT / "build/release"
SOURCES = ("kernels/conformance/judge.cpp",)


def objects(program: str) -> list[Path]:
    return sorted((BUILD / "tests/CMakeFiles" / f"{program}.dir").rglob("*.o"))


def caught_by(mutant: Mutant, text: str) -> str:
    libraries = [
        BUILD / "kernels/libhalfulp_conformance.a",
        BUILD / "kernels/libhalfulp_kernels.a",
        BUILD / "emu/libhalfulp_emu.a",
    ]
    tests = [o for o in objects("halfulp-unit-tests") if o.name == "conformance_test.cpp.o"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "judge.cpp"
        source.write_text(text)
        compiled = Path(folder) / "judge.o"
        flags = ["g++", "-std=c++20", "-O1", "-w", "-ffp-contract=off", f"-I{ROOT}"]
        if subprocess.run([*flags, "-c", source, "-o", compiled], capture_output=True).returncode:
            return "does not compile"
        for name, parts, options in (
            ("tests", tests, ["-lCatch2Main", "-lCatch2"]),
            ("strength", objects("halfulp-strength"), []),
        ):
            program = Path(folder) / name
            command = [*flags, compiled, *parts, *libraries, *options, "-ldl", "-o", program]
            linked = subprocess.run(command, capture_output=True, text=True)
            if linked.returncode:
                raise SystemExit(linked.stderr[-2000:])
            try:
                done = subprocess.run([program], capture_output=True, text=True, timeout=240)
            except subprocess.TimeoutExpired:
                return f"{name}: hangs"
            if done.returncode:
                return name
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="only every N-th mutant")
    args = parser.parse_args()
    reasons = tomllib.loads((HERE / "survivors.toml").read_text()).get("judge", {})
    mutants = [m for source in SOURCES for m in mutants_of(ROOT / source)][:: args.every]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        found = list(pool.map(lambda m: caught_by(*m), mutants))
    compiled = [
        (m, by) for (m, _), by in zip(mutants, found, strict=True) if by != "does not compile"
    ]
    unexplained = 0
    print(f"judge: {len(compiled)} mutants, {sum(bool(by) for _, by in compiled)} caught")
    for m, by in compiled:
        if by:
            continue
        line = (ROOT / m.file).read_text().splitlines()[m.line - 1].strip()
        why = reasons.get(f"{line} | {m.before.strip()} -> {m.after.strip()}")
        unexplained += why is None
        print(f"  survivor {m.name}: {line}\n    {why or 'NO REASON GIVEN'}")
    if args.json:
        report = [
            {**dataclasses.asdict(m), "kernel": "the judge", "caught_by": by} for m, by in compiled
        ]
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
