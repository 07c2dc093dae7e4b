"""Breaks attention on the device in named ways and shows that its test catches each.

    python tests/device/mutants.py FOLDER [--build | --run]

Builds one program for each fault into FOLDER with nvcc (and one without a fault), and runs them; --build and --run do one
of both, for machines that have only a compiler or only a GPU. Exit code 0 if the test passes unchanged and fails on all.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNEL, DECODE = "kernels/cuda/attention.cu", "kernels/cuda/attention_decode.cu"
SOURCES = [KERNEL, DECODE, "tests/device/attention_test.cu"]
FLAGS = [
    "-std=c++20", "-O2", "-gencode=arch=compute_90a,code=sm_90a", "--expt-relaxed-constexpr",
    "--fmad=false", f"-I{ROOT}",
]  # fmt: skip

# Name: in the file, the only occurrence of the first becomes the second.
MUTANTS = {
    "unchanged": ("", "", ""),
    "output is not rescaled": (KERNEL, "          rescale(o, alpha);\n", ""),
    "sum is not rescaled": (KERNEL, "__fmaf_rn(l[r], alpha[r], ", "__fadd_rn(l[r], "),
    "rescaled by the new maximum alone": (
        KERNEL,
        "__fsub_rn(__fmul_rn(m[r], scale), mu[r])",
        "-mu[r]",
    ),
    "keys beyond the last are not masked": (
        KERNEL,
        "const int seen = w.keys - j * columns",
        "const int seen = columns",
    ),
    "the diagonal is one too far": (
        KERNEL,
        "+ w.offset + 1 - j * columns",
        "+ w.offset + 2 - j * columns",
    ),
    "large scores as small ones": (KERNEL, "largest_mu = 4096", "largest_mu = 1e38f"),
    "rows without keys divide by zero": (KERNEL, "o[i] = l[i / 2 % 2] == 0", "o[i] = false"),
    "lse forgets the maximum": (KERNEL, "__fadd_rn(mu, log2f(l[r]))", "log2f(l[r])"),
    "heads of k and v in turn": (
        KERNEL,
        "t.head / (w.heads / w.heads_kv)",
        "t.head % w.heads_kv",
    ),
    "an empty part is no identity": (DECODE, "m == -infinity ? 0.0f : m", "m"),
    "parts are added as they are": (
        DECODE,
        "const float alpha = weight(from[i * next + width], base, w.scale)",
        "const float alpha = 1",
    ),
    "the last key counts again": (DECODE, "if (from + 16 > end) {", "if (false) {"),
}


def compile_to(source: Path, target: Path) -> None:
    subprocess.run(["nvcc", *FLAGS, "-c", source, "-o", target], check=True)


def build(folder: Path, name: str) -> None:
    file, old, new = MUTANTS[name]
    stem = folder / name.replace(" ", "_")
    objects = {source: folder / Path(source).with_suffix(".o").name for source in SOURCES}
    if file:
        text = (ROOT / file).read_text()
        assert text.count(old) == 1, f"{name}: {text.count(old)} places"
        stem.with_suffix(".cu").write_text(text.replace(old, new))
        objects[file] = stem.with_suffix(".o")
        compile_to(stem.with_suffix(".cu"), objects[file])
    link = ["-cudart=static", "-Xcompiler=-static-libgcc,-static-libstdc++"]
    subprocess.run(
        ["nvcc", *FLAGS, *link, *objects.values(), "-o", stem.with_suffix(".program")], check=True
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--build", action="store_true", help="build only")
    parser.add_argument("--run", action="store_true", help="run only")
    parser.add_argument("--only", nargs="+", choices=MUTANTS, default=MUTANTS, metavar="NAME")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if not options.run:
        for source in SOURCES:
            compile_to(ROOT / source, options.folder / Path(source).with_suffix(".o").name)
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda name: build(options.folder, name), options.only))
    if options.build:
        return 0
    wrong = 0
    for name in options.only:
        program = options.folder / f"{name.replace(' ', '_')}.program"
        run = subprocess.run(
            [program, "--quick"], capture_output=True, text=True, check=False, timeout=300
        )
        passed = name == "unchanged"
        last = run.stdout.strip().splitlines()[-1] if run.stdout else run.stderr
        good = run.returncode == (0 if passed else 1) and "cases failed" in last
        wrong += not good
        print(f"{'good' if good else 'WRONG':5} {name}: {last.split(': ', 1)[-1]}", flush=True)
    print(f"{len(options.only)} programs, {wrong} wrong")
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
