"""Breaks products of integers on the device in named ways and shows that their test, run on this processor, catches each.

    python tests/device/on_processor/mutants.py BUILD [--only NAME ...]

BUILD: a build folder with halfulp_kernels and halfulp_emu (build/release). Programs go to BUILD/mutants. Exit code 0 if the
test passes unchanged and fails on all others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from translate import translated

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TILES = "kernels/cuda/int8_tiles.cuh"
FINISH = "kernels/cuda/int8_finish.cuh"
PRODUCT, LLM = "kernels/cuda/int8_matmul.cu", "kernels/cuda/llm_int8.cu"
SOURCES = [PRODUCT, LLM, "tests/device/int8_test.cu"]
FLAGS = ["-std=c++20", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w"]

# Name: in the file, the only occurrence of the first becomes the second.
MUTANTS = {
    "unchanged": (PRODUCT, "", ""),
    "odd columns are even ones": (TILES, "__byte_perm(r[0], r[1], 0x7531)", "__byte_perm(r[0], r[1], 0x6420)"),
    "b's lines in the order of memory": (
        TILES,
        "lane / 16 * 16 + lane / 8 % 2 * 2 + lane % 8 / 2 * 4 + lane % 2",
        "lane",
    ),
    "a stage is read before it has come": (
        TILES,
        "        copies_wait<T::stages - 2>();",
        "        copies_wait<T::stages - 1>();",
    ),
    "nobody waits for others' copies": (
        TILES,
        "        copies_wait<T::stages - 2>();\n        __syncthreads();",
        "        copies_wait<T::stages - 2>();",
    ),
    "a stage too many ahead": (TILES, "load(step + T::stages - 1, filled)", "load(step + T::stages, filled)"),
    "the last band is as high as others": (TILES, "min(band, tiles_down - top)", "band"),
    "parts of K forget c": (PRODUCT, "memory.preset(out, c,", "memory.preset(out, nullptr,"),
    "INT4 without a sign": (PRODUCT, "(byte & 8U) != 0 ? 0xF0U : 0", "0"),
    "four INT4 without signs": (PRODUCT, "(bytes & 0x08080808U) * 0x1EU", "0"),
    "INT4 rows begin at whole bytes": (
        PRODUCT,
        "first = row * columns + column;",
        "first = row * (columns + columns % 2) + column;",
    ),
    "6 itself is no outlier": (LLM, "!(fabsf(v.at[i]) < threshold)", "!(fabsf(v.at[i]) <= threshold)"),
    "NaN is no outlier": (LLM, "!(fabsf(v.at[i]) < threshold)", "fabsf(v.at[i]) >= threshold"),
    "row maxima before outliers are zeroed": (
        LLM,
        "      if ((out >> (8 * i) & 0xFFU) != 0) v.at[i] = 0;\n      most = max(most, magnitude(v.at[i]));",
        "      most = max(most, magnitude(v.at[i]));\n      if ((out >> (8 * i) & 0xFFU) != 0) v.at[i] = 0;",
    ),
    "long rows by the maximum of their beginning": (LLM, "at < k; at += step) load(at);", "at < 0; at += step) load(at);"),
    "column maxima over outliers too": (LLM, "outlier[row] != 0 ? 0 : ~Word{0}", "~Word{0}"),
    "codes near ties by the estimate": (LLM, "0.5F - 0x1p-15F", "0.75F"),
    "a quotient that overflows is trusted": (
        LLM,
        "sure &= fabsf(__fsub_rn(e, nearest)) < 0.5F - 0x1p-15F;",
        "sure &= !(fabsf(__fsub_rn(e, nearest)) >= 0.5F - 0x1p-15F);",
    ),
    "outliers beyond the room are the first ones": (FINISH, "staged != from", "staged < 0"),
    "outliers beyond those gathered are gathered": (FINISH, "near ? gathered", "true ? gathered"),
    "the chain in descending order": (FINISH, "memory + o * both", "memory + (here - 1 - o) * both"),
    "the list is not waited for": (LLM, "found[me] = mine;\n  __syncthreads();", "found[me] = mine;"),
    "(s·r)·c": (FINISH, "s, __fmul_rn(r, c)", "__fmul_rn(s, r), c"),
}  # fmt: skip


def build(folder: Path, name: str, libraries: list[Path]) -> Path:
    file, old, new = MUTANTS[name]
    text = (ROOT / file).read_text()
    if old:
        assert text.count(old) == 1, f"{name}: {text.count(old)} places"
        text = text.replace(old, new)
    place = folder / "".join(c if c.isalnum() else "_" for c in name)
    (place / file).parent.mkdir(parents=True, exist_ok=True)
    (place / file).write_text(text)
    objects = []
    for source in SOURCES:
        stem = Path(source).stem
        changed = source == file or (file.endswith(".cuh") and source.startswith("kernels"))
        target = (place if changed else folder) / f"{stem}.o"
        if changed or not target.exists():
            code = target.with_suffix(".cpp")
            code.write_text(
                translated(text if source == file else (ROOT / source).read_text(), source)
            )
            subprocess.run(
                ["g++", *FLAGS, f"-I{place}", f"-I{HERE}", f"-I{ROOT}", "-c", code, "-o", target],
                check=True,
            )
        objects.append(target)
    subprocess.run(["g++", *objects, *libraries, "-pthread", "-o", place / "program"], check=True)
    return place / "program"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("build", type=Path)
    parser.add_argument("--only", nargs="+", choices=MUTANTS, default=list(MUTANTS), metavar="NAME")
    options = parser.parse_args()
    libraries = [
        options.build / "kernels/libhalfulp_kernels.a",
        options.build / "emu/libhalfulp_emu.a",
    ]
    folder = options.build / "mutants"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.o"):
        old.unlink()
    wrong = 0
    for name in options.only:
        program = build(folder, name, libraries)
        run = subprocess.run(
            [program, "--small"], capture_output=True, text=True, check=False, timeout=300
        )
        last = run.stdout.strip().splitlines()[-1] if run.stdout else ""
        if run.returncode < 0:  # a wild place
            last = f"ended by signal {-run.returncode}"
        good = bool(last) and (run.returncode == 0) == (name == "unchanged")
        wrong += not good
        print(f"{'good' if good else 'WRONG':5} {name}: {last.split(': ', 1)[-1]}", flush=True)
    print(f"{len(options.only)} programs, {wrong} wrong")
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
