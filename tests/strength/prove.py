"""The proof of strength: which broken kernels the conformance suites catch, and which correct ones they blame.

    ./dev verify --strength [--no-mutants] [--write]

1. Kernels broken by hand, and correct ones in other orders (halfulp-strength).
2. Mutants of the reference kernels (mutate.py), and of the judge (judge.py).
3. The share of single changed elements that is detected (halfulp-strength --sensitivity).

--write records the figures: in kernels/conformance/strength.hpp, from which reports take them, and in
docs/conformance-strength.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build/release/tests/halfulp-strength"
HERE = Path(__file__).resolve().parent
STATE = ROOT / "build/strength-mutants.json"
SHOWN = (1, 4, 8, 12, 16, 20, 23)


def of_program(*options: str) -> list[dict[str, Any]]:
    done = subprocess.run([PROGRAM, "--json", *options], capture_output=True, text=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def by_suite(rows: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, int]]:
    counts: dict[tuple[str, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for r in rows:
        c = counts[r["suite"], r["suite_version"]]
        failed = r["failed"] > 0
        c["correct" if r["correct"] else "broken"] += 1
        c["blamed" if r["correct"] else "caught"] += failed
    return counts


def header(counts: dict[tuple[str, int], dict[str, int]]) -> str:
    path = ROOT / "kernels/conformance/strength.hpp"
    text = path.read_text()
    begin = text.index("// Written by")
    end = text.index("// End of what")
    rows = "".join(
        f'    {{"{suite}", {version}, {c["broken"]}, {c["caught"]}, {c["correct"]}, {c["blamed"]}}},\n'
        for (suite, version), c in counts.items()
    )
    table = (
        "// Written by ./dev verify --strength --write.\ninline constexpr Strength strengths[] = {\n"
        + rows
        + "};\n"
    )
    return text[:begin] + table + text[end:]


def shares(curve: dict[str, Any]) -> list[str]:
    """Of changes by 1 + 2^-k, k in SHOWN; empty where such a change is lost in rounding."""
    detected = curve.get("detected", {})
    return [f"{detected[str(k)]:.2f}" if str(k) in detected else "" for k in SHOWN]


def page(
    rows: list[dict[str, Any]], curves: list[dict[str, Any]], mutants: list[dict[str, Any]]
) -> str:
    """docs/conformance-strength.md, but for its first part, which is written by hand."""
    path = ROOT / "docs/conformance-strength.md"
    out = [path.read_text().split("<!-- tables -->")[0] + "<!-- tables -->", ""]
    out += [
        "## By suite",
        "",
        "| suite | version | broken | caught | correct | blamed |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for (suite, version), c in by_suite(rows).items():
        out.append(
            f"| {suite} | {version} | {c['broken']} | {c['caught']} | {c['correct']} | {c['blamed']} |"
        )
    if mutants:
        out += ["", "## Mutants", "", "| kernel | change | mutants | caught |", "|---|---|--:|--:|"]
        table: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for m in mutants:
            cell = table[m["kernel"], m["kind"]]
            cell[0] += 1
            cell[1] += bool(m["caught_by"])
        out += [f"| {k} | {kind} | {n} | {caught} |" for (k, kind), (n, caught) in table.items()]
        out += ["", "Each survivor has its reason in `tests/strength/survivors.toml`."]
    out += ["", "## Sensitivity", ""]
    out += ["| suite | variant | " + " | ".join(f"2^-{k}" for k in SHOWN) + " |"]
    out += ["|---|---|" + "--:|" * len(SHOWN)]
    for c in curves:
        out.append(f"| {c['suite']} | {c['variant']} | " + " | ".join(shares(c)) + " |")
    out += [
        "",
        "## Every kernel",
        "",
        "| suite | variant | kernel | what | promise | cases failed | of | families |",
        "|---|---|---|---|---|--:|--:|--:|",
    ]
    for r in rows:
        what = ("*correct*: " if r["correct"] else "") + r["what"]
        out.append(
            f"| {r['suite']} | {r['variant']} | {r['kernel']} | {what} | {r['promise']} | {r['failed']} | {r['cases']} | {len(r['families'])} |"
        )
    return "\n".join(out) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--no-mutants", action="store_true", help="leave out the mutants (minutes)")
    parser.add_argument("--write", action="store_true", help="record the figures")
    args = parser.parse_args()
    if args.write and args.no_mutants:
        parser.error("--write records what the mutants did too: leave --no-mutants out")
    rows = of_program()
    for (suite, version), c in by_suite(rows).items():
        print(
            f"{suite:24} version {version}  broken {c['broken']:3}  caught {c['caught']:3}"
            f"  correct {c['correct']:3}  blamed {c['blamed']:3}"
        )
    missed = [r for r in rows if not r["correct"] and r["failed"] == 0]
    blamed = [r for r in rows if r["correct"] and r["failed"] > 0]
    for r in missed:
        print(f"MISSED {r['suite']} {r['variant']} {r['kernel']}: {r['what']}")
    for r in blamed:
        print(f"BLAMED {r['suite']} {r['variant']} {r['kernel']}: {r['first']}")
    code = 1 if missed or blamed else 0
    mutants = []
    for script in () if args.no_mutants else ("mutate.py", "judge.py"):
        path = STATE.with_suffix(f".{script}.json")
        path.unlink(missing_ok=True)
        done = subprocess.run([sys.executable, HERE / script, "--json", path])
        code = code or done.returncode
        if path.exists():
            mutants += json.loads(path.read_text())
    curves = of_program("--sensitivity")
    print(f"{'share of changes by 1 + 2^-k that is seen, k =':50}", *(f"{k:4}" for k in SHOWN))
    for c in curves:
        print(f"{c['suite']:24} {c['variant']:25}", *(f"{s:4}" for s in shares(c)))
    broken = sum(not r["correct"] for r in rows)
    print(
        f"{broken} broken kernels, {broken - len(missed)} caught; {len(rows) - broken} correct ones, {len(blamed)} blamed"
    )
    if args.write:
        (ROOT / "kernels/conformance/strength.hpp").write_text(header(by_suite(rows)))
        (ROOT / "docs/conformance-strength.md").write_text(page(rows, curves, mutants))
    return code


if __name__ == "__main__":
    sys.exit(main())
