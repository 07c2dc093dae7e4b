"""Breaks attention and its gradients on the device in named ways and shows that their tests catch each.

    python tests/device/mutants.py FOLDER [--build | --run]

Builds one program for each fault into FOLDER with nvcc (and each test's without a fault), and runs them; --build and
--run do one of both, for machines that have only a compiler or only a GPU. --on-processor has g++ build the gradients'
alone, to run by tests/device/on_processor. Exit code 0 if the tests pass unchanged and fail on all.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNEL, DECODE = "kernels/cuda/attention.cu", "kernels/cuda/attention_decode.cu"
BACKWARD = "kernels/cuda/attention_backward.cu"
FORWARD_TEST = [KERNEL, DECODE, "tests/device/attention_test.cu"]
BACKWARD_TEST = [KERNEL, BACKWARD, "tests/device/attention_backward_test.cu"]
SOURCES = list(dict.fromkeys(FORWARD_TEST + BACKWARD_TEST))
ON_PROCESSOR = ROOT / "tests/device/on_processor"
FLAGS = [
    "-std=c++20", "-O2", "-gencode=arch=compute_90a,code=sm_90a", "--expt-relaxed-constexpr",
    "--fmad=false", f"-I{ROOT}",
]  # fmt: skip
PROCESSOR_FLAGS = [
    "-std=c++20",
    "-O1",
    "-fno-strict-aliasing",
    "-w",
    f"-I{ON_PROCESSOR}",
    f"-I{ROOT}",
]

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
    "gradients unchanged": (BACKWARD, "", ""),
    "dS forgets delta": (BACKWARD, "to[padded] = delta", "to[padded] = 0"),
    "dS of keys forgets P": (
        BACKWARD,
        "y[i] = __fmul_rn(x[i], __fsub_rn(y[i], l.x))",
        "y[i] = __fsub_rn(y[i], l.x)",
    ),
    "dS of queries forgets P": (
        BACKWARD,
        "y[k] = __fmul_rn(x[k], __fsub_rn(y[k], delta[k / 2 % 2]))",
        "y[k] = __fsub_rn(y[k], delta[k / 2 % 2])",
    ),
    "dv is scaled, too": (BACKWARD, "sum_second, one, zero", "sum_second, scale, zero"),
    "dq and dk are not scaled": (BACKWARD, "scale[2] = {w.scale, w.scale}", "scale[2] = {1, 1}"),
    "scores are not scaled by log2 e": (
        BACKWARD,
        "static_cast<double>(f.scale) * 1.4426950408889634",
        "static_cast<double>(f.scale)",
    ),
    "keys' diagonal is one too far": (
        BACKWARD,
        "begin[r] = row - w.offset - from",
        "begin[r] = row - w.offset - from - 1",
    ),
    "queries' diagonal is one too far": (
        BACKWARD,
        "end[r] = min(end[r], row + w.offset + 1 - from)",
        "end[r] = min(end[r], row + w.offset + 2 - from)",
    ),
    "gradients' keys beyond the last": (
        BACKWARD,
        "masked = at + columns > w.streamed_rows",
        "masked = false",
    ),
    "the first tile of keys is left out": (
        BACKWARD,
        "t.begin = max(0, t.first - w.offset) / L::columns",
        "t.begin = max(0, t.first - w.offset) / L::columns + 1",
    ),
    "dk and dv of the group's first head alone": (
        BACKWARD,
        "t.heads = w.heads / w.heads_kv;",
        "t.heads = 1;",
    ),
    "queries without keys weigh": (
        BACKWARD,
        "fabsf(l) == infinity ? infinity : __fmul_rn",
        "false ? infinity : __fmul_rn",
    ),
}

# Faults of time, which a GPU may not show; tests/device/on_processor does.
OF_TIME = {
    "a stage is given back before its sums": (
        BACKWARD,
        "products_wait<1>();\n        pin(sum_first);",
        "products_wait<2>();\n        pin(sum_first);",
    ),
    "scores are used before they are waited for": (
        BACKWARD,
        "products_wait<2>();  // of `second`, too\n        pin(x);",
        "products_wait<3>();\n        pin(x);",
    ),
    "tiles are used before they are there": (
        BACKWARD,
        "        wait(base + L::full + 8 * stage, parity);\n        queue_x();",
        "        queue_x();",
    ),
}


def compile_to(source: Path, target: Path, on_processor: bool) -> None:
    if not on_processor:
        subprocess.run(["nvcc", *FLAGS, "-c", source, "-o", target], check=True)
        return
    translated = target.with_suffix(".cpp")
    subprocess.run([sys.executable, ON_PROCESSOR / "translate.py", source, translated], check=True)
    subprocess.run(["g++", *PROCESSOR_FLAGS, "-c", translated, "-o", target], check=True)


def build(folder: Path, name: str, on_processor: bool) -> None:
    file, old, new = (MUTANTS | OF_TIME)[name]
    stem = folder / name.replace(" ", "_")
    sources = BACKWARD_TEST if file == BACKWARD else FORWARD_TEST
    objects = {source: folder / Path(source).with_suffix(".o").name for source in sources}
    if old:
        text = (ROOT / file).read_text()
        assert text.count(old) == 1, f"{name}: {text.count(old)} places"
        stem.with_suffix(".cu").write_text(text.replace(old, new))
        objects[file] = stem.with_suffix(".o")
        compile_to(stem.with_suffix(".cu"), objects[file], on_processor)
    link = ["-cudart=static", "-Xcompiler=-static-libgcc,-static-libstdc++"]
    linker = ["g++"] if on_processor else ["nvcc", *FLAGS, *link]
    subprocess.run([*linker, *objects.values(), "-o", stem.with_suffix(".program")], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--build", action="store_true", help="build only")
    parser.add_argument("--run", action="store_true", help="run only")
    parser.add_argument("--on-processor", action="store_true")
    parser.add_argument("--only", nargs="+", choices=[*MUTANTS, *OF_TIME], metavar="NAME")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    processor = options.on_processor
    known = MUTANTS | OF_TIME if processor else MUTANTS
    mine = {name for name, mutant in known.items() if not processor or mutant[0] == BACKWARD}
    names = [name for name in options.only or known if name in mine]
    if not options.run:
        for source in BACKWARD_TEST if processor else SOURCES:
            target = options.folder / Path(source).with_suffix(".o").name
            compile_to(ROOT / source, target, processor)
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda name: build(options.folder, name, processor), names))
    if options.build:
        return 0
    wrong = 0
    for name in names:
        program = options.folder / f"{name.replace(' ', '_')}.program"
        run = subprocess.run(
            [program, "--small" if processor else "--quick"],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        passed = not known[name][1]
        last = run.stdout.strip().splitlines()[-1] if run.stdout else run.stderr
        good = run.returncode == (0 if passed else 1) and "cases failed" in last
        wrong += not good
        print(f"{'good' if good else 'WRONG':5} {name}: {last.split(': ', 1)[-1]}", flush=True)
    print(f"{len(names)} programs, {wrong} wrong")
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
