"""Breaks kernels in named ways and shows that their device tests, run on this processor, catch each.

    python tests/device/on_processor/mutants.py BUILD [--test NAME …] [--only TEXT]

BUILD: a build folder with halfulp_kernels and halfulp_emu (build/release); programs go to BUILD/mutants. --test: int8, sums …
(all); each has its faults in mutants_NAME.py. --only: faults with TEXT in their names. Exit code 0 if the tests pass unchanged
and fail on all faults. (Those of attention's gradients are in tests/device/mutants.py, for a GPU too.)
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

from translate import translated

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TESTS = sorted(p.stem.removeprefix("mutants_") for p in HERE.glob("mutants_*.py"))
FLAGS = ["-std=c++20", "-O1", "-DHALFULP_ON_PROCESSOR", "-fno-strict-aliasing", "-ffp-contract=off"]

Change = tuple[str, str, str]  # file, what stands there once, what comes in its place


def compiled(folder: Path, source: str, text: str, include: list[Path]) -> Path:
    unit = folder / f"{Path(source).stem}.cpp"
    unit.write_text(translated(text, str(ROOT / source)))
    target = unit.with_suffix(".o")
    places = [f"-I{p}" for p in (HERE, *include, ROOT)]
    subprocess.run(["g++", *FLAGS, "-w", *places, "-c", unit, "-o", target], check=True)
    return target


def build(
    folder: Path, sources: list[str], whole: dict[str, Path], libraries: list[Path], change: Change
) -> Path:
    """The program with that change. A header's makes all anew."""
    file, old, new = change
    objects = dict(whole)
    if file:
        text = (ROOT / file).read_text()
        assert text.count(old) == 1, f"{text.count(old)} places in {file}: {old}"
        broken = folder / file
        broken.parent.mkdir(parents=True, exist_ok=True)
        broken.write_text(text.replace(old, new))
        for source in [file] if file in sources else sources:
            body = (broken if source == file else ROOT / source).read_text()
            objects[source] = compiled(folder, source, body, [folder])
    program = folder / "program"
    subprocess.run(["g++", *objects.values(), *libraries, "-pthread", "-o", program], check=True)
    return program


def run(program: Path) -> tuple[bool, str]:
    """Whether the test passed, and what it said last."""
    try:
        done = subprocess.run(
            [program, "--small"], capture_output=True, text=True, check=False, timeout=600
        )
    except subprocess.TimeoutExpired:
        return False, "did not end"
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    if done.returncode < 0:  # a wild place
        said = [f"ended by signal {-done.returncode}"]
    return done.returncode == 0, said[-1].split(": ", 1)[-1] if said else "nothing"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("build", type=Path)
    parser.add_argument("--test", nargs="+", choices=TESTS, default=TESTS)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    names = ("kernels/libhalfulp_kernels.a", "emu/libhalfulp_emu.a")
    libraries = [options.build / name for name in names]
    programs = wrong = 0
    for test in options.test:
        table = importlib.import_module(f"mutants_{test}")
        changes: dict[str, Change] = {"unchanged": ("", "", "")}
        changes |= {k: v for k, v in table.MUTANTS.items() if options.only in k}
        top = options.build / "mutants" / test
        top.mkdir(parents=True, exist_ok=True)
        whole = {s: compiled(top, s, (ROOT / s).read_text(), []) for s in table.SOURCES}
        for name, change in changes.items():
            folder = top / "".join(c if c.isalnum() else "_" for c in name)
            folder.mkdir(exist_ok=True)
            passed, said = run(build(folder, table.SOURCES, whole, libraries, change))
            good = passed == (name == "unchanged")
            programs, wrong = programs + 1, wrong + (not good)
            print(f"{'good' if good else 'WRONG':5} {test}: {name}: {said}", flush=True)
    print(f"{programs} programs, {wrong} wrong")
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
