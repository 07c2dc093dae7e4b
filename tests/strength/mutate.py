"""Breaks the reference kernels mechanically, one token at a time, and asks the suites which they catch at the level quick.

    python tests/strength/mutate.py [--kernel NAME] [--judge] [--json FILE] [--jobs N]

A mutant is a header of kernels/ with one operator, bound, comparison or width changed, compiled into a plug-in
(reference.cpp) and run by `halfulp-conform`. Those that are not caught are survivors: each has its reason in survivors.toml
(it changes no result, or none that the promise rules out), and one without a reason is an error.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

# What is replaced by what. Patterns look only at code: comments, strings and preprocessor lines are blanked first.
CHANGES: list[tuple[str, str, str]] = [
    ("operator", r"\badd\(", "sub("),
    ("operator", r"\bsub\(", "add("),
    ("operator", r"\bmul\(", "add("),
    ("operator", r"\bdiv\(", "mul("),
    ("operator", r"(?<=[\w)\]]) \+ (?=[\w(])", " - "),
    ("operator", r"(?<=[\w)\]]) - (?=[\w(])", " + "),
    ("operator", r"(?<=[\w)\]]) \* (?=[\w(])", " + "),
    ("operator", r"(?<=[\w)\]]) / (?=[\w(])", " * "),
    ("operator", r" && ", " || "),
    ("operator", r" \|\| ", " && "),
    ("comparison", r"(?<=[\w)\]]) < (?=[\w(])", " <= "),
    ("comparison", r" <= ", " < "),
    ("comparison", r"(?<=[\w)\]]) > (?=[\w(])", " >= "),
    ("comparison", r" >= ", " > "),
    ("comparison", r" == ", " != "),
    ("comparison", r" != ", " == "),
    ("bound", r"(?<== )0(?=[;,])", "1"),
    ("bound", r"(?<=[<] )n(?=;)", "n - 1"),
    ("bound", r"\bi \+ 1\b", "i"),
    ("width", r"\barith\.add\(", "narrow(arith).add("),
    ("width", r"\barith\.mul\(", "narrow(arith).mul("),
    ("width", r"\barith\.div\(", "narrow(arith).div("),
    ("width", r"\barith\.exp\(", "narrow(arith).exp("),
    ("width", r"\barith\.fma\(", "narrow(arith).fma("),
    ("width", r"\bsum\.(?=(add|fma|sub)\()", "narrow(sum)."),
    ("width", r"\bproduct\.(?=(mul|fma)\()", "narrow(product)."),
]

# A header, the plug-in that includes it, and the forms in which it is asked: (suite, HALFULP_FORM). A mutant is caught if
# any of them is.
KERNELS: dict[str, tuple[str, list[tuple[str, int]]]] = {
    "softmax": ("kernels/softmax.hpp", [*((s, f) for f in (0, 1, 2) for s in ("softmax", "log-sum-exp")), ("log-sum-exp", 3)]),
    "norms": ("kernels/norms.hpp", [("layer-norm", 0), ("layer-norm", 1), ("rms-norm", 0)]),
    "matmul": ("kernels/matmul.hpp", [("matmul", f) for f in (0, 1, 2, 3, 4, 5)]),
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    file: str
    line: int
    column: int
    kind: str
    before: str
    after: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}:{self.column} {self.before.strip()} -> {self.after.strip()}"


def code_alone(text: str) -> str:
    """The text with comments, strings, preprocessor lines and templates' heads blanked, positions kept."""

    def blank(m: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", m.group())

    # The last argument of an operation numbers its rounding, which native arithmetic does not look at.
    sites = r"\b(after|site)\b( \+ 4 \* i)?( \+ \d+)?(?=[,)])|\b[42] \* i( \+ \d)?(?=[,)])|const u64 after = [^;]*;"
    for pattern in (sites, r"//[^\n]*", r"/\*.*?\*/", r'"(\\.|[^"\\\n])*"', r"(?m)^\s*#[^\n]*", r"template <[^>]*>"):
        text = re.sub(pattern, blank, text, flags=re.S if "/\\*" in pattern else 0)
    return text


def mutants_of(path: Path) -> list[tuple[Mutant, str]]:
    """Each mutant with its whole text."""
    text = path.read_text()
    code = code_alone(text)
    found = []
    for kind, pattern, after in CHANGES:
        for m in re.finditer(pattern, code):
            line = text.count("\n", 0, m.start()) + 1
            column = m.start() - text.rfind("\n", 0, m.start())
            mutant = Mutant(str(path.relative_to(ROOT)), line, column, kind, m.group(), after)
            found.append((mutant, text[: m.start()] + after + text[m.end() :]))
    return found


def caught_by(mutant: Mutant, text: str, kernel: str, forms: list[tuple[str, int]], program: Path) -> str:
    """What caught it: "suite form: first failing case", "does not compile", or "" if it survived."""
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / mutant.file
        changed.parent.mkdir(parents=True)
        changed.write_text(text)
        built = Path(folder) / f"{kernel}.so"
        command = [
            "g++", "-std=c++20", "-O1", "-w", "-ffp-contract=off", "-shared", "-fPIC", "-fvisibility=hidden",
            f"-I{folder}", f"-I{ROOT}", str(HERE / "reference" / f"{kernel}.cpp"), "-o", str(built),
            f"-L{program.parents[1] / 'kernels'}", "-lhalfulp_kernels", f"-L{program.parents[1] / 'emu'}", "-lhalfulp_emu",
        ]  # fmt: skip
        if subprocess.run(command, capture_output=True).returncode != 0:
            return "does not compile"
        for suite, form in forms:
            done = subprocess.run(
                [program, "--kernel", built, "--suite", suite],
                capture_output=True,
                text=True,
                env={**os.environ, "HALFULP_FORM": str(form)},
            )
            if done.returncode != 0:
                said = done.stdout.strip().splitlines()
                how = said[-1] if said else f"ended by signal {-done.returncode}"
                return f"{suite}, form {form}: {how}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", choices=KERNELS, action="append")
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/tests/halfulp-strength")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="only every N-th mutant")
    args = parser.parse_args()
    reasons = tomllib.loads((HERE / "survivors.toml").read_text())
    report = []
    unexplained = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for kernel in args.kernel or KERNELS:
            header, forms = KERNELS[kernel]
            mutants = mutants_of(ROOT / header)[:: args.every]
            found = list(
                pool.map(lambda m: caught_by(m[0], m[1], kernel, forms, args.program), mutants)
            )
            compiled = [(m, by) for (m, _), by in zip(mutants, found, strict=True) if by != "does not compile"]
            survivors = [m for m, by in compiled if not by]
            print(f"{kernel}: {len(compiled)} mutants, {len(compiled) - len(survivors)} caught", flush=True)
            for m in survivors:
                line = (ROOT / m.file).read_text().splitlines()[m.line - 1].strip()
                why = reasons.get(kernel, {}).get(f"{line} | {m.before.strip()} -> {m.after.strip()} @{m.column}")
                unexplained += why is None
                print(f"  survivor {m.name}: {line}\n    {why or 'NO REASON GIVEN'}")
            report += [{**dataclasses.asdict(m), "kernel": kernel, "caught_by": by} for m, by in compiled]
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{len(report)} mutants, {sum(bool(r['caught_by']) for r in report)} caught, {unexplained} survivors without a reason")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
