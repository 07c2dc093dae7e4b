"""Writes docs/coverage.md: what there is, how many cases of it were compared, how fast it is.

What is implemented is found by asking the package; cases come from the tallies in docs/ and from
tests/python/cases.json, which the tests wrote; speeds from docs/performance.md. What has no evidence
there is absent, whatever else may be known of it.
"""

from __future__ import annotations

import argparse
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import halfulp as hu
from halfulp import _core, alphabets

ROOT = Path(__file__).resolve().parents[2]
ABSENT = "*absent*"
ONE = np.ones(1, np.float32)
P3109_KINDS = ("se", "sf", "ue", "uf")
WIDE = {
    "x87's values, p = 64": "fp_e15p64b16383_s_ieee_ieee",
    "widest exponent, p = 109": "fp_e19p109b262143_s_ieee_ieee",
}


@dataclass(frozen=True)
class Row:
    name: str
    implemented: str
    cases: str
    page: str
    speed: str = ABSENT


# ------------------------------------------------------------------ evidence
def tables(text: str) -> Iterator[list[list[str]]]:
    """The Markdown tables of a text, each as rows of cells, the header first."""
    for block in re.findall(r"(?:^\|.*\|\n?)+", text, re.M):
        rows = [
            [c.strip() for c in line.strip().strip("|").split("|")] for line in block.splitlines()
        ]
        if len(rows) > 2:
            yield [rows[0], *rows[2:]]


def number(cell: str) -> int:
    return int(cell.replace(",", "")) if re.fullmatch(r"[0-9][0-9,]*", cell) else 0


class Evidence:
    """Counts of compared cases, by what was compared."""

    def __init__(self, root: Path) -> None:
        docs = root / "docs"
        verification = (docs / "verification.md").read_text()
        self.tallies = {}  # level -> {(format, operation): cases}
        for level in ("full", "quick"):
            section = verification.split(f"<!-- begin verify {level} -->")[1].split("<!-- end")[0]
            found = self.tallies[level] = {}
            for header, *rows in tables(section):
                for row in rows:
                    for operation, cell in zip(header[1:], row[1:], strict=True):
                        found[row[0], operation] = number(cell)
        self.functions = {}
        section = (docs / "functions.md").read_text().split("<!-- begin functions -->")[1]
        for _, *rows in tables(section.split("<!-- end")[0]):
            self.functions |= {row[0]: number(row[-2]) for row in rows}
        self.recorded: dict[str, int] = {}
        for counts in json.loads((root / "tests/python/cases.json").read_text()).values():
            for what, n in counts.items():  # "runs" names no capability
                self.recorded[what] = self.recorded.get(what, 0) + n
        self.speeds = {}
        for header, *rows in tables((docs / "performance.md").read_text()):
            for row in rows:
                self.speeds.setdefault(row[0].strip("`* "), (header[1], row[1].strip("* ")))

    def of(self, what: str, tally: Callable[[str, str], bool] | None = None) -> str:
        """Cases in words: of both levels of halfulp-verify, and those that tests recorded."""
        parts = []
        for level, counts in self.tallies.items() if tally else ():
            n = sum(cases for key, cases in counts.items() if tally(*key))
            if n:
                parts.append(f"{n:,} ({level})")
        if self.recorded.get(what):
            parts.append(f"{self.recorded[what]:,} (pytest)")
        return ", ".join(parts) or ABSENT

    def speed(self, name: str) -> str:
        """The first figure of performance.md whose row bears that name."""
        for row, (header, cell) in self.speeds.items():
            if row == name:
                return f"{cell} ({header})"
            if row == f"{name} / FP32":
                return f"{cell} of an FP32 training step ({header})"
        return ABSENT


# ------------------------------------------------------------------ questions to the package
def works(call: Callable[[], object]) -> str:
    """'yes' if the call gives something true, else absent. Only refusals count as an answer."""
    try:
        return "yes" if call() else ABSENT
    except (ValueError, TypeError, AttributeError, ImportError, KeyError):
        return ABSENT


def choices(call: Callable[[], object]) -> list[str]:
    """What an option can be, from the sentence that refuses '?'."""
    try:
        call()
    except ValueError as error:
        text = str(error)
        listed = text.split("choose one of ")[1].split(" (")[0] if "one of" in text else ""
        return listed.split(", ") if listed else re.findall(r"'([a-z-]+)'", text)
    raise AssertionError("an option takes '?'")


def one(f: hu.Format | hu.NumberSystem) -> bool:
    """Whether the least positive value comes back as itself."""
    code = next(c for c in range(3) if hu.exact_value(f, c) == hu.exact_value(f, c) != 0)
    how = hu._elementwise.make_how("coverage")
    if isinstance(f, hu.NumberSystem):
        return hu.encode(float(hu.exact_value(f, code)), f) == code
    return _core.compute("convert", [(code, f)], f, how)[0] == code


def has_order(order: str) -> bool:
    return hu.sum([1.0, 2.0, 4.0], order="blocked(2)" if order == "blocked" else order) == 7


def with_mode(mode: str) -> bool:
    options = {"seed": 0} if mode.startswith("stochastic") else {}
    return 1.0 <= hu.round(1.1, "float8_e4m3fn", mode, **options) <= 1.125


def source(root: Path, pattern: str) -> bool:
    """Whether the sources hold such a file."""
    return any(next(root.glob(f"{folder}/{pattern}"), None) for folder in ("emu", "kernels"))


def named(word: str) -> bool:
    """Whether something public, a submodule, a number system, its kind or a block format bears the word."""
    names = {*dir(hu), *hu.number_systems(), *hu.block_formats()}
    names |= {f.kind for f in hu.number_systems().values()}
    names |= {m.name for m in pkgutil.iter_modules(hu.__path__)}
    return any(word in name.lower() for name in names if not name.startswith("_"))


def takes_dlpack() -> bool:
    """Whether an array that is no NumPy array, but has its DLPack, is an operand."""

    class Other:
        def __dlpack_device__(self) -> tuple[int, int]:
            return ONE.__dlpack_device__()

        def __dlpack__(self, **options: object) -> object:
            return ONE.__dlpack__(**options)

    return bool(hu.round(Other(), "bfloat16") == ONE)


# ------------------------------------------------------------------ the groups
def groups(root: Path) -> Iterator[tuple[str, list[Row]]]:
    e = Evidence(root)
    definitions = "definitions.md"

    formats = []
    for name, f in hu.formats().items():
        cases = e.of(f"format {name}", lambda row, _, name=name: row == name)
        formats.append(Row(name, works(lambda f=f: one(f)), cases, definitions, e.speed(name)))
    for text, name in WIDE.items():
        cases = e.of(f"format {name}", lambda row, _, name=name: row == name)
        formats.append(Row(text, works(lambda name=name: one(hu.format(name))), cases, definitions))
    format_names = {*hu.formats(), *WIDE.values()}
    cases = e.of(
        "formats without a name", lambda row, _: row.startswith("fp_") and row not in format_names
    )
    formats.append(
        Row(
            "formats that no name covers",
            works(lambda: hu.Format(exponent_bits=5, precision=7)),
            cases,
            definitions,
        )
    )
    yield "Formats", formats

    families = []
    for k in range(3, 17):
        known = 0
        for kind in P3109_KINDS:
            for p in range(1, k + (kind[0] == "u")):
                known += (
                    works(lambda k=k, p=p, kind=kind: one(hu.format(f"p3109_k{k}p{p}{kind}")))
                    == "yes"
                )
        cases = e.of(f"P3109 {k}", lambda row, _, k=k: row == f"P3109, {k} bits")
        families.append(Row(f"P3109, {k} bits", f"{known} formats", cases, definitions))
    yield "P3109", families

    operations = []
    for name, arity, _ in _core.operations():
        python = {"convert": "round", "round-to-integral-quiet": "round_to_integral"}.get(
            name, name
        )
        cases = e.of(f"operation {name}", lambda _, op, name=name: op == name)
        call = getattr(hu, python.replace("-", "_"), None)
        face = works(lambda call=call: callable(call))
        operations.append(Row(f"{name} ({arity})", face, cases, definitions, e.speed(name)))
    cases = e.of("float32 array", lambda _, op: op == "float32 array")
    operations.append(
        Row("rounding of float32 arrays", "yes", cases, definitions, e.speed("float32 array"))
    )
    cases = e.of("probability", lambda _, op: op == "probability")
    operations.append(
        Row(
            "probability",
            works(lambda: hu.probability(1.1, "float8_e4m3fn").probability),
            cases,
            definitions,
        )
    )
    yield "Operations (number of operands)", operations

    modes = []
    for name in _core.mode_names():
        cases = e.of(
            f"mode {name}", (lambda _, op: op == "stochastic") if name == "stochastic" else None
        )
        modes.append(
            Row(name, works(lambda name=name: with_mode(name)), cases, definitions, e.speed(name))
        )
    yield "Rounding modes (halfulp-verify counts all stochastic ones together)", modes

    policies = []
    for option in ("overflow", "nan_to", "tininess"):
        for choice in choices(
            lambda option=option: hu.round([1.0], "float8_e5m2", **{option: "?"})
        ):
            asked = lambda o=option, c=choice: hu.round(1.0, "float8_e5m2", **{o: c})  # noqa: E731
            policies.append(
                Row(f"{option} {choice}", works(asked), e.of(f"{option} {choice}"), definitions)
            )
    wrap = works(lambda: hu.round(130.0, "int8", overflow="wrap") == -126)
    policies.append(
        Row("overflow wrap (integers)", wrap, e.of("overflow wrap"), "integers-and-codebooks.md")
    )
    yield "Policies (halfulp-verify runs all of them and does not count them apart)", policies

    blocks = []
    for name, f in hu.block_formats().items():
        implemented = works(lambda f=f: hu.quantize(np.ones((1, 1)), f).codes.size == 1)
        blocks.append(
            Row(name, implemented, e.of(f"block {name}"), "block-formats.md", e.speed(name))
        )
    for name in ("bfp_m3_e8_b16", "bfp_m7_e8_b16_tc"):
        blocks.append(
            Row(
                name,
                works(lambda name=name: hu.block_format(name)),
                e.of(f"block {name}"),
                "block-formats.md",
            )
        )
    for rule in _core.scale_rule_names():
        known = works(
            lambda rule=rule: (
                any(f.rule == rule for f in hu.block_formats().values())
                or hu.block_format("mxfp4", rule=rule)
            )
        )
        blocks.append(Row(f"scale rule {rule}", known, e.of(f"rule {rule}"), "block-formats.md"))
    for label, call in (
        ("packing, 1 to 16 bits", lambda: all(hu.unpack(hu.pack([1], w), w, (1,))[0] == 1 for w in range(1, 17))),
        ("other orders of bits or bytes", lambda: any("order" in p for p in inspect.signature(hu.pack).parameters)),
        ("scales by least squares (mse, rms)", lambda: {"mse", "rms"} & set(_core.scale_rule_names())),
    ):  # fmt: skip
        blocks.append(Row(label, works(call), e.of(label.split(",")[0]), "block-formats.md"))
    yield "Block formats", blocks

    systems = []
    for name, f in hu.number_systems().items():
        page = "posits.md" if f.kind == "posit" else "integers-and-codebooks.md"
        systems.append(
            Row(
                f"{name} ({f.kind})",
                works(lambda f=f: one(f)),
                e.of(f"system {name}"),
                page,
                e.speed(name),
            )
        )
    for name in sorted(
        {w.removeprefix("system ") for w in e.recorded if w.startswith("system ")}
        - set(hu.number_systems())
    ):
        known = works(lambda name=name: hu.format(name))
        page = "posits.md" if name.startswith("posit") else "integers-and-codebooks.md"
        if known == "yes":
            systems.append(Row(name, known, e.of(f"system {name}"), page))
    for name in ("binary", "ternary", "unipolar", "phases"):
        known = works(lambda name=name: callable(getattr(alphabets, name)))
        systems.append(Row(f"alphabets.{name}", known, e.of(f"alphabet {name}"), "alphabets.md"))
    yield "Integers, fixed point, codebooks, posits, alphabets", systems

    functions = []
    for name in hu.functions.names():
        known = works(lambda name=name: callable(getattr(hu.functions, name)))
        n = e.functions.get(name, 0)
        functions.append(
            Row(name, known, f"{n:,} (full)" if n else ABSENT, "functions.md", e.speed(name))
        )
    yield "Correctly rounded functions", functions

    sums = [
        Row(
            f"{what}",
            works(lambda what=what: callable(getattr(hu, what))),
            e.of(f"sum {what}"),
            definitions,
            e.speed(what),
        )
        for what in ("sum", "dot", "matmul")
    ]
    for order in choices(lambda: hu.sum([1.0], order="?")):
        text = {"exact": "exact (Kulisch)"}.get(order, order)
        sums.append(
            Row(
                f"order {text}",
                works(lambda order=order: has_order(order)),
                e.of(f"order {order}"),
                definitions,
            )
        )
    yield "Sums", sums

    units = []
    for name in hu.models():
        x86 = name.startswith("x86.")  # every one of them was recorded
        pair = np.ones((1, 2), np.int8)
        known = works(
            lambda name=name, x86=x86, pair=pair: (
                hu.matmul(pair, pair.T, model=name).size == 1 if x86 else hu.Model(name)
            )
        )
        cases = e.of(f"unit {name}")
        evidence = "hardware" if x86 else hu.Model(name).evidence
        where = "matrix-units-x86.md" if x86 else "matrix-units.md"
        units.append(Row(f"{name} ({evidence})", known, cases, where))
    yield "Matrix units (and what supports them)", units

    suites = []
    for row in hu._suites.engine.list_suites():
        quick = sum(len(hu.suite(row["name"]).cases(v, "quick")) for v in row["variants"])
        strength = row.get("strength")
        caught = (
            f"; {strength['caught']} of {strength['broken']} broken kernels caught"
            if strength
            else ""
        )
        suites.append(
            Row(
                row["name"],
                works(lambda row=row: len(row["builtins"]) > 0),
                f"{quick:,} at level quick{caught}",
                f"suites/{row['name']}.md",
            )
        )
    yield "Conformance suites", suites

    torch = ROOT / "tests/device/torch_dtypes.py"
    yield (
        "Other libraries' dtypes",
        [
            Row(
                "ml_dtypes, there and back",
                works(lambda: named("to_ml_dtypes")),
                e.of("ml_dtypes"),
                "dtypes.md",
            ),
            Row(
                "torch, there and back",
                works(lambda: named("to_torch") and torch.exists()),
                e.of("torch"),
                "dtypes.md",
            ),
            Row("DLPack on the host", works(takes_dlpack), e.of("DLPack"), "arrays.md"),
            Row("DLPack on a GPU", works(lambda: named("dlpack")), ABSENT, "status.md"),
        ],
    )

    kernels = []
    for name in (
        *("softmax", "log_sum_exp", "cross_entropy", "attention", "layer_norm", "rms_norm"),
        *("gelu", "silu", "rotary", "adamw_step", "int8_matmul", "llm_int8"),
    ):
        face = works(lambda name=name: callable(getattr(hu, name)))
        kernels.append(Row(name, face, e.of(f"kernel {name}"), "kernels-python.md"))
    yield "Kernels from Python", kernels

    others = []
    for text, call, page in (
        ("logarithmic numbers", lambda: named("lns") or named("logarithmic"), "logarithmic.md"),
        ("LogFMT", lambda: callable(hu.logarithmic.logfmt), "logarithmic.md"),
        ("transforms (Hadamard, smoothing)", lambda: named("hadamard") or named("transforms"), "transforms.md"),
        ("vector codebooks", lambda: named("vector"), "integers-and-codebooks.md"),
        ("quires of posits", lambda: named("quire"), "posits.md"),
        ("Eigen scalar", lambda: source(root, "**/*eigen_scalar*.hpp"), "eigen.md"),
    ):  # fmt: skip
        implemented = works(call)
        known = (root / "docs" / page).exists()
        others.append(Row(text, implemented, e.of(text), page if known else "status.md"))
    yield "Further parts", others


def page(root: Path = ROOT) -> str:
    lines = [
        "# Coverage",
        "",
        "    ./dev coverage                 # writes this page; --record counts the cases of the tests anew",
        "",
        "What the package says it has when it is asked, the cases that were compared, the speed, and the page that defines it. *full*",
        "and *quick* are the tallies of [verification](verification.md) and [functions](functions.md); *pytest* is what the tests themselves",
        "counted (`tests/python/cases.json`; a test fails whose count differs). Speeds are figures of [performance](performance.md). What has",
        f"no evidence there is {ABSENT}: neither said to be right nor to be wrong. A format's cases are those of all operations, an operation's",
        "those of all formats, so columns do not add up.",
    ]
    for title, rows in groups(root):
        lines += [
            "",
            f"## {title}",
            "",
            "| what | implemented | cases compared | speed | page |",
            "|---|---|---:|---|---|",
        ]
        for r in rows:
            link = (
                f"[{Path(r.page).stem}]({r.page})" if (root / "docs" / r.page).exists() else ABSENT
            )
            lines.append(f"| {r.name} | {r.implemented} | {r.cases} | {r.speed} | {link} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is current")
    options = parser.parse_args()
    target = ROOT / "docs/coverage.md"
    text = page()
    if options.check:
        current = target.exists() and target.read_text() == text
        print(
            "docs/coverage.md is current" if current else "docs/coverage.md is old: ./dev coverage"
        )
        return 0 if current else 1
    target.write_text(text)
    print(target.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
