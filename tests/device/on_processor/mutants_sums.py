"""Breaks kernels in named ways and shows that their device tests, run on this processor, catch each.

    python tests/device/on_processor/mutants.py FOLDER LIBRARIES… [--only NAME …]

LIBRARIES are libhalfulp_kernels.a and libhalfulp_emu.a of a build. Exit code 0 if each test passes unchanged and fails on all.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from translate import translated

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
FLAGS = ["-std=c++20", "-O1", "-fno-strict-aliasing", "-ffp-contract=off", "-w"]
SUMS, WINDOWS = "kernels/cuda/sums.cu", "kernels/cuda/windows.cuh"
TESTS = {SUMS: "tests/device/sums_test.cu", WINDOWS: "tests/device/windows_test.cu"}

# Name: in the file, the only occurrence of the first becomes the second.
MUTANTS = {
    "sums unchanged": (SUMS, "", ""),
    "pairwise: the last joins are not numbered": (SUMS, "site(n >> l << l)", "site(n)"),
    "pairwise: four levels": (SUMS, "for (; (k >> l & 1) != 0; ++l)", "for (; (k >> l & 1) != 0 && l < 4; ++l)"),
    "pairwise: not added to +0": (SUMS, "return a_.add(V{}, right, site(0));", "return right;"),
    "pairwise: eight in sequence": (SUMS, "for (int step = 1; step < 8; step *= 2) {", "for (int step = 4; step > 0; step /= 2) {"),
    "blocked: blocks are one too long": (SUMS, "next_ += at_.block;", "next_ += at_.block + 1;"),
    "blocked: joins are not numbered": (SUMS, "joined_++, blocks", "0, blocks"),
    "kahan: what is lost, as it was": (SUMS, "further(k, 1)), t, further(k, 2));", "further(k, 1)), other_, further(k, 2));"),
    "compensated: errors of products forgotten": (SUMS, "error = a_.add(error, lost, further(k, 7));", ""),
    "compensated: errors not added": (SUMS, "sum_ = a_.add(sum_, other_, further(n - 1, 9));", ""),
    "tile: no barrier after a tile": (SUMS, "    }\n    __syncthreads();\n  }\n  if (thread / 32 == adding", "    }\n  }\n  if (thread / 32 == adding"),
    "tile: the last column is lost": (SUMS, "for (; k < end; ++k)", "for (; k + 1 < end; ++k)"),
    "exact: the high halves are lost": (SUMS, "const u64 high = i > 0 ?", "const u64 high = false ?"),
    "exact: the high halves of products are lost": (SUMS, "static_cast<unsigned>(v.m >> 24), shift + 24", "0, shift + 24"),
    "exact: what lies above the window, in it": (SUMS, "static_cast<unsigned>(shift) <= E::reach", "shift >= 0"),
    "exact: what lies below the window is lost": (SUMS, "    add_to_digits(digits[mine], v);\n  };", "  };"),
    "exact: digits carry no sign": (SUMS, "static_cast<u64>(static_cast<std::int64_t>(digits[i]) >> 32)", "digits[i] >> 32"),
    "exact: nothing sticks": (SUMS, ".sticky = below", ".sticky = false"),
    "exact: zeros are positive": (SUMS, "const bool all_minus = n != 0 &&", "const bool all_minus = false &&"),
    "exact: infinities of both signs": (SUMS, "(flags & exact_nan) != 0 ||", "(flags & exact_nan) != 0 || false &&"),
    "windows unchanged": (WINDOWS, "", ""),
    "windows: the first granule whole": (WINDOWS, "if (k == 0 && c.first == 0 && lane == 0 && s_ != 0) continue;", ""),
    "windows: granule 32 forgotten": (WINDOWS, "if (lane < P && rest > 0) fetch_part", "if (false) fetch_part"),
    "windows: the last granule whole": (WINDOWS, "fetch_part(c.window(k) + lane, at + k * c.step, (left - k * c.step) * size)", "fetch_whole(c.window(k) + lane, at + k * c.step)"),
    "windows: a shared granule stored whole": (WINDOWS, "const bool is_own = lane != 0 || s_ == 0;", "const bool is_own = true;"),
    "windows: packs a word off": (WINDOWS, "const int words = by / per_word;", "const int words = by / per_word + 1;"),
    "windows: halves not shifted": (WINDOWS, "const unsigned how = (by & 1) != 0 ? 0x5432 : 0x3210;", "const unsigned how = 0x3210;"),
    "windows: packs' edges lost": (WINDOWS, "if (s_ != 0 && k < P && place < n_ + s_ - first)", "if (!packs && s_ != 0 && k < P && place < n_ + s_ - first)"),
    "windows: beyond the row anything": (WINDOWS, "if (first + chunk > n_) keep_first(raw, n_ - first - lane * W);", ""),
}  # fmt: skip


def build(folder: Path, name: str, libraries: list[Path]) -> Path:
    file, old, new = MUTANTS[name]
    text = (ROOT / file).read_text()
    assert not old or text.count(old) == 1, f"{name}: {text.count(old)} places"
    place = folder / name.replace(" ", "_").replace(":", "")
    broken = place / file
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_text(text.replace(old, new) if old else text)
    objects = []
    for source in dict.fromkeys([file, TESTS[file]]):
        if not source.endswith(".cu"):
            continue
        body = broken.read_text() if source == file else (ROOT / source).read_text()
        unit = place / f"{Path(source).stem}.cpp"
        unit.write_text(translated(body, source))
        # A test of the original is the same for every mutant of kernels, but not of headers.
        shared = source != file and file.endswith(".cu")
        target = folder / f"{unit.stem}.o" if shared else unit.with_suffix(".o")
        if not (shared and target.exists()):
            include = [f"-I{HERE}", f"-I{place}", f"-I{ROOT}"]
            subprocess.run(["g++", *FLAGS, *include, "-c", unit, "-o", target], check=True)
        objects.append(target)
    program = place / "program"
    subprocess.run(["g++", *objects, *libraries, "-pthread", "-o", program], check=True)
    return program


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("libraries", type=Path, nargs="+")
    parser.add_argument("--only", nargs="+", choices=MUTANTS, default=MUTANTS, metavar="NAME")
    options = parser.parse_args()
    wrong = 0
    for name in options.only:
        program = build(options.folder, name, options.libraries)
        try:
            run = subprocess.run(
                [program, "--small"], capture_output=True, text=True, check=False, timeout=120
            )
            code = run.returncode
            last = run.stdout.strip().splitlines()[-1] if run.stdout else run.stderr
        except subprocess.TimeoutExpired:
            code, last = 1, "did not end"
        good = (code == 0) == name.endswith("unchanged")
        wrong += not good
        print(f"{'good' if good else 'WRONG':5} {name}: {last.split(': ', 1)[-1]}", flush=True)
    print(f"{len(options.only)} programs, {wrong} wrong")
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
