"""Breaks the reference kernels mechanically, one token at a time, and asks the suites which they catch at the level quick.

    python tests/strength/mutate.py [--kernel NAME] [--json FILE] [--jobs N] [--every N]

A mutant is a header of kernels/ with one operator, bound, comparison or width changed, compiled into a plug-in
(reference/NAME.cpp) and judged by `halfulp-strength --kernel`. Those that are not caught are survivors: each has its reason in
survivors.toml (it changes no result, or none that the promise rules out). A survivor without a reason is an error, and so is a
reason without a survivor.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

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
    (
        "width",
        r"\b(a_?\.(score|weight|product|state))\.(?=(add|sub|mul|div|fma|exp|log)\()",
        r"narrow(\1).",
    ),
]

# A header, and the forms in which its plug-in (reference/NAME.cpp) is asked: suite, HALFULP_FORM, and the promise where it is
# more than the suite's bound. A mutant is caught if any of them is.
KERNELS: dict[str, tuple[str, list[tuple[str, int] | tuple[str, int, str]]]] = {
    "softmax": (
        "kernels/softmax.hpp",
        [*((s, f) for f in (0, 1, 2) for s in ("softmax", "log-sum-exp")), ("log-sum-exp", 3)],
    ),
    "norms": ("kernels/norms.hpp", [("layer-norm", 0), ("layer-norm", 1), ("rms-norm", 0)]),
    "matmul": (
        "kernels/matmul.hpp",
        [
            *(("matmul", f) for f in (0, 1, 2, 3)),
            ("matmul", 4, "condition:3.5"),
            ("matmul", 5, "condition:1.5"),
        ],
    ),
    "attention": ("kernels/attention.hpp", [("attention", f) for f in (0, 1, 2, 3, 4)]),
    "attention-merge": (
        "kernels/attention_merge.hpp",
        [("attention-merge", f) for f in (0, 1, 2)],
    ),
    "attention-backward": (
        "kernels/attention_backward.hpp",
        [("attention-backward", f) for f in (0, 1)],
    ),
    "cross-entropy": (
        "kernels/cross_entropy.hpp",
        [(s, f) for f in (0, 1, 2) for s in ("cross-entropy", "cross-entropy-backward")],
    ),
    "activations": (
        "kernels/activations.hpp",
        [("gelu", 0), ("gelu", 1), ("gelu-tanh", 2), ("silu", 3), ("silu", 4)],
    ),
    "rotary": ("kernels/rotary.hpp", [("rotary", 0), ("rotary", 1)]),
    "adamw": ("kernels/adamw.hpp", [("adamw", 0), ("adamw", 1)]),
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
        return (
            f"{self.file}:{self.line}:{self.column} {self.before.strip()} -> {self.after.strip()}"
        )


def code_alone(text: str) -> str:
    """The text with comments, strings, preprocessor lines and templates' heads blanked, positions kept."""

    def blank(m: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", m.group())

    # What native arithmetic does not look at: the numbers of roundings (the last argument of an operation), and sums that
    # only emulated arithmetic can have.
    unseen = (
        r"\b(after|site)\b( \+ 4 \* i)?( \+ \d+)?( \+ 2 \* d)?(?=[,)])|\b[42] \* i( \+ \d)?(?=[,)])|(?<=, )at( \+ 1)?(?=\))"
        r"|const u64 (after|step|first_site) = [^;]*;|site_? \+= [^;]*;|static_cast<u64>\([^)]*\) << \d+"
        r"|\bsites\.(product|sum|join|further)\([^()]*\)|struct MatmulSites \{.*?\n\};"
        r"|\n  struct Range \{.*?\n  \};|\n  V exact\(.*?\n  \}\n|\n  Range exponents\(.*?\n  \}\n"
    )
    for pattern in (
        unseen,
        r"//[^\n]*",
        r"/\*.*?\*/",
        r'"(\\.|[^"\\\n])*"',
        r"(?m)^\s*#[^\n]*",
        r"template <[^>]*>",
    ):
        text = re.sub(
            pattern, blank, text, flags=re.S if "/\\*" in pattern or pattern == unseen else 0
        )
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
            mutant = Mutant(
                str(path.relative_to(ROOT)), line, column, kind, m.group(), m.expand(after)
            )
            found.append((mutant, text[: m.start()] + m.expand(after) + text[m.end() :]))
    return found


def caught_by(
    mutant: Mutant,
    text: str,
    kernel: str,
    forms: list[tuple[str, int] | tuple[str, int, str]],
    program: Path,
) -> str:
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
        for suite, form, *promise in forms:
            done = subprocess.run(
                [
                    program,
                    "--kernel",
                    built,
                    "--suite",
                    suite,
                    "--promise",
                    *(promise or ["bound"]),
                ],
                capture_output=True,
                text=True,
                env={**os.environ, "HALFULP_FORM": str(form)},
            )
            if done.returncode != 0:
                said = done.stdout.strip().splitlines()
                how = said[-1] if said else f"ended by signal {-done.returncode}"
                return f"{suite}, form {form}: {how}"
    return ""


def reasons_of(kernel: str) -> dict[str, str]:
    reasons: dict[str, str] = tomllib.loads((HERE / "survivors.toml").read_text()).get(kernel, {})
    return reasons


def key_of(m: Mutant) -> str:
    """How survivors.toml names it."""
    line = (ROOT / m.file).read_text().splitlines()[m.line - 1].strip()
    return f"{line} | {m.before.strip()} -> {m.after.strip()}"


def report(
    kernel: str, mutants: list[Mutant], found: list[str], every: int
) -> tuple[list[dict[str, Any]], int]:
    """Prints what survived and why; the rows of those that compile, and how many survivors and reasons lack each other."""
    reasons = reasons_of(kernel)
    compiled = [(m, by) for m, by in zip(mutants, found, strict=True) if by != "does not compile"]
    survivors = [m for m, by in compiled if not by]
    print(f"{kernel}: {len(compiled)} mutants, {len(compiled) - len(survivors)} caught")
    for m in survivors:
        print(f"  survivor {m.name}: {reasons.get(key_of(m), 'NO REASON GIVEN')}")
    keys = {key_of(m) for m in survivors}
    stale = [key for key in reasons if key not in keys and every == 1]
    for key in stale:
        print(f"  NO SURVIVOR: {key}")
    sys.stdout.flush()
    rows = [{**dataclasses.asdict(m), "kernel": kernel, "caught_by": by} for m, by in compiled]
    return rows, sum(key_of(m) not in reasons for m in survivors) + len(stale)


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="only every N-th mutant")
    return parser


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--kernel", choices=KERNELS, action="append")
    parser.add_argument(
        "--program", type=Path, default=ROOT / "build/release/tests/halfulp-strength"
    )
    args = parser.parse_args()
    rows = []
    wrong = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for kernel in args.kernel or KERNELS:
            header, forms = KERNELS[kernel]
            mutants = mutants_of(ROOT / header)[:: args.every]
            ask = functools.partial(caught_by, kernel=kernel, forms=forms, program=args.program)
            # A plug-in that fails as it is would make every mutant look caught.
            unchanged = Mutant(header, 0, 0, "", "", "")
            if by := ask(unchanged, (ROOT / header).read_text()):
                raise SystemExit(f"{kernel}: the kernel itself is blamed: {by}")
            found = list(pool.map(lambda m, ask=ask: ask(*m), mutants))
            more, unmatched = report(kernel, [m for m, _ in mutants], found, args.every)
            rows += more
            wrong += unmatched
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    caught = sum(bool(r["caught_by"]) for r in rows)
    print(f"{len(rows)} mutants, {caught} caught, {wrong} survivors or reasons unmatched")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
