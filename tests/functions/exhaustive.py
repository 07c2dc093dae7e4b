"""The proof of halfulp.functions against rigorous balls (balls.py), by hand or by
`./dev verify --functions`.

  univariate   every code of binary16 and of bfloat16, into every named format of up to 32 bits, in
               every deterministic mode; stochastic with 1, 4 and 8 random bits into two formats
  binary32     boundaries and random operands (--samples each), into binary32 in every mode
  bivariate    every pair of every named format of 8 bits, into that format in every mode and into
               binary32 in two; random pairs of binary16, bfloat16 and binary32

Values and flags are compared bit for bit. Finished units are remembered in --state and tallied.
Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import balls
import check
import ml_dtypes
import numpy as np

import halfulp as hu

DTYPES = {"binary16": np.float16, "bfloat16": ml_dtypes.bfloat16}
Outcome = tuple[int, int, list[str]]  # operands, results compared, what differs


def generator(*words: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(" ".join(words).encode()))


def univariate(name: str, operand: str, step: int = 1) -> Outcome:
    x = np.arange(0, 1 << 16, step, dtype=np.uint16).view(DTYPES[operand])
    want = check.oracle(name, [x])
    compared, wrong = check.compare(name, [x], want)
    # The stochastic modes of `round`, which halfulp-verify proves, on numbers that round alike.
    exact = want.odd()
    for format in ("float8_e5m2", "binary16"):
        for mode in ("stochastic", "stochastic-b", "stochastic-c", "stochastic-equal"):
            for bits in (1, 4, 8):
                options = {"rounding": mode, "seed": 1, "random_bits": bits}
                out = np.empty(x.shape, np.float32)
                y = getattr(hu.functions, name)(x, format, out=out, **options)
                with np.errstate(all="ignore"):
                    z = hu.round(exact, format, **options).astype(np.float32)
                same = (y.view(np.uint32) == z.view(np.uint32)) | (np.isnan(y) & np.isnan(z))
                compared += len(x)
                if not same.all():
                    wrong.append(f"{name} of {operand} into {format} {mode} {bits}")
    return len(x), compared, wrong


def binary32_operands(name: str, samples: int) -> np.ndarray:
    rng = generator("binary32", name)
    any_bits = rng.integers(0, 1 << 32, samples // 3, dtype=np.uint32).view(np.float32)
    spread = (
        np.exp2(rng.uniform(-30, 10, samples // 3)) * rng.choice([-1, 1], samples // 3)
    ).astype(np.float32)
    middle = rng.uniform(-20, 20, samples - 2 * (samples // 3)).astype(np.float32)
    ends = np.array(
        [0, 1, 2, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000], np.uint32
    ).view(np.float32)
    powers = np.exp2(np.arange(-149, 128)).astype(np.float32)
    near = [powers, np.nextafter(powers, np.float32(0)), np.nextafter(powers, np.float32(np.inf))]
    whole = np.arange(1, 300, dtype=np.float32)
    edges = np.concatenate(
        [ends, *near, whole, whole + np.float32(0.5), np.float32(10.0) ** np.arange(11)]
    )
    return np.concatenate([edges, -edges, any_bits, spread, middle], dtype=np.float32)


def binary32(name: str, samples: int) -> Outcome:
    x = binary32_operands(name, samples)
    compared, wrong = check.compare(name, [x], check.oracle(name, [x]), ["binary32"])
    return len(x), compared, wrong


def pairs(name: str, format: str, step: int = 1) -> Outcome:
    values = hu.values(format).astype(np.float32)
    a, b = (g.ravel()[::step] for g in np.meshgrid(values, values, indexing="ij"))
    want = check.oracle(name, [a, b])
    one, wrong = check.compare(name, [a, b], want, [format])
    two, more = check.compare(name, [a, b], want, ["binary32"], ["nearest-even", "odd"])
    return len(a), one + two, wrong + more


def random_pairs(name: str, operand: str, samples: int) -> Outcome:
    rng = generator("pairs", name, operand)
    x: list[np.ndarray] = []
    for _ in range(2):
        if operand == "binary32":
            raw = rng.integers(0, 1 << 32, samples, dtype=np.uint32).view(np.float32)
            mild = rng.uniform(-9, 9, samples).astype(np.float32)
        else:
            raw = rng.integers(0, 1 << 16, samples, dtype=np.uint16).view(DTYPES[operand])
            mild = rng.uniform(-9, 9, samples).astype(DTYPES[operand])
        x.append(np.where(rng.random(samples) < 0.5, raw, mild))
    compared, wrong = check.compare(name, x, check.oracle(name, x), [operand])
    return samples, compared, wrong


def units(samples: int, step: int) -> Iterator[tuple[str, str, Callable[[], Outcome]]]:
    for name in balls.UNIVARIATE:
        for operand in DTYPES:
            yield f"{name}/{operand}", name, lambda n=name, o=operand: univariate(n, o, step)
        yield f"{name}/binary32", name, lambda n=name: binary32(n, samples)
    for name in balls.BIVARIATE:
        for format, f in hu.formats().items():
            if f.width == 8:
                yield f"{name}/{format}", name, lambda n=name, f=format: pairs(n, f, step)
        for operand in [*DTYPES, "binary32"]:
            yield (
                f"{name}/{operand}", name,
                lambda n=name, o=operand: random_pairs(n, o, samples),
            )  # fmt: skip


def table(done: dict[str, dict[str, int]], step: int, samples: int) -> str:
    compared = sum(d["compared"] for d in done.values())
    wrong = sum(d["wrong"] for d in done.values())
    operands = sum(d["operands"] for d in done.values())
    lines = [
        f"\n**{compared:,} results of {operands:,} operands (or pairs) compared, {wrong} differ.**"
        f" Random operands: {samples:,} for each function and format.",
        "" if step == 1 else f"\nOnly every {step}th of the exhaustive operands was run.\n",
        "| function | binary16 | bfloat16 | binary32 | 8-bit pairs | results | differ |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    rows: dict[str, dict[str, int]] = {}
    for unit, d in done.items():
        name, format = unit.split("/")
        row = rows.setdefault(name, {"compared": 0, "wrong": 0})
        column = format if format in (*DTYPES, "binary32") else "pairs"
        row[column] = row.get(column, 0) + d["operands"]
        row["compared"] += d["compared"]
        row["wrong"] += d["wrong"]
    for name, row in rows.items():
        cells = [f"{row[c]:,}" if c in row else "" for c in (*DTYPES, "binary32", "pairs")]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['compared']:,} | {row['wrong']} |")
    return "\n".join(lines) + "\n\n"


def sources() -> str:
    """A hash of what the outcome depends on."""
    root = Path(__file__).resolve().parents[2]
    files = [f for d in ("core", "functions") for f in (root / "emu" / d).glob("*.?pp")]
    digest = hashlib.sha256()
    for file in sorted([*files, *(root / "tests/functions").glob("*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="units whose name contains this")
    parser.add_argument("--samples", type=int, default=60_000, help="random operands per unit")
    parser.add_argument("--step", type=int, default=1, help="every N-th of the exhaustive operands")
    parser.add_argument("--shard", default="1/1", help="I/N: every N-th unit")
    parser.add_argument("--state", type=Path, help="remembers finished units, one JSON a line")
    parser.add_argument("--tally", type=Path, help="page whose marked section gets the table")
    args = parser.parse_args()
    shard, shards = map(int, args.shard.split("/"))
    key = f"{sources()}/{args.step}/{args.samples}"
    done: dict[str, dict[str, int]] = {}
    if args.state and args.state.exists():
        entries = [json.loads(line) for line in args.state.read_text().splitlines() if line]
        done = {e["unit"]: e for e in entries if e["key"] == key}
    failed = False
    for i, (unit, _, run) in enumerate(units(args.samples, args.step)):
        if args.only not in unit or i % shards != shard - 1 or unit in done:
            continue
        start = time.monotonic()
        operands, compared, wrong = run()
        for sentence in wrong:
            print(f"MISMATCH {sentence}", file=sys.stderr)
        failed = failed or bool(wrong)
        print(f"{unit}: {compared:,} compared, {time.monotonic() - start:.1f} s", flush=True)
        done[unit] = {"operands": operands, "compared": compared, "wrong": len(wrong)}
        if args.state and not wrong:
            with args.state.open("a") as file:
                file.write(json.dumps({"key": key, "unit": unit, **done[unit]}) + "\n")
    if args.tally:
        begin, end = "<!-- begin functions -->\n", "<!-- end functions -->"
        text = args.tally.read_text()
        head, rest = text.split(begin)
        ordered = {u: done[u] for u, _, _ in units(args.samples, args.step) if u in done}
        body = table(ordered, args.step, args.samples)
        args.tally.write_text(head + begin + body + end + rest.split(end)[1])
    print(f"{sum(d['compared'] for d in done.values()):,} results compared")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
