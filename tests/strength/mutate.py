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
]


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

    for pattern in (r"//[^\n]*", r"/\*.*?\*/", r'"(\\.|[^"\\\n])*"', r"(?m)^\s*#[^\n]*", r"template <[^>]*>"):
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
