"""Libraries of C and C++ as plug-ins of halfulp-conform: compiled here, loaded there in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from subject import AbsentError, Subject

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HEADER = ROOT / "kernels/conformance"
BUILD = ROOT / "build/subjects"


def compiled(source: Path, command: Sequence[str]) -> str:
    """The shared library of that source; made anew where source or header are newer."""
    tool = shutil.which(command[0])
    if tool is None:
        raise AbsentError(f"{command[0]} is not installed, so {source.name} cannot be compiled")
    BUILD.mkdir(parents=True, exist_ok=True)
    library = BUILD / f"{source.stem}.so"
    newest = max(f.stat().st_mtime for f in (source, HEADER / "halfulp_kernel.h", Path(__file__)))
    if not library.exists() or library.stat().st_mtime < newest:
        made = library.with_suffix(".part")
        arguments = [tool, *command[1:], f"-I{HEADER}", str(source), "-o", str(made)]
        if command[0] == "nvcc":  # its libraries need not be on the loader's path
            arguments += ["-Xlinker", f"-rpath={Path(tool).resolve().parents[1] / 'lib64'}"]
        else:
            arguments.append("-lm")
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            first = next((x for x in done.stderr.splitlines() if "error" in x), done.stderr[:200])
            raise AbsentError(f"{source.name} does not compile: {first}")
        made.rename(library)
    return str(library)


def eigen_subjects(device: str) -> Iterator[Subject]:
    flags = ["-shared", "-fPIC", "-O3", "-std=c++17", "-march=x86-64-v3", "-I/usr/include/eigen3"]
    library = compiled(HERE / "eigen.cpp", ["g++", *flags])
    for suite, what in (
        ("sum", "sum()"),
        ("dot", "dot()"),
        ("matmul", "product"),
    ):
        for v in ("float32", "float64"):
            yield Subject(suite, v, f"Eigen {what}", library, note="AVX2")
    yield Subject("softmax", "float32", "Eigen, by its formula", library, note="AVX2")
    yield Subject("layer-norm", "float32", "Eigen, by its formula", library, note="AVX2")


def cublas_subjects(device: str) -> Iterator[Subject]:
    flags = ["-shared", "-Xcompiler", "-fPIC", "-O2", "-std=c++17", "-lcublasLt"]
    library = compiled(HERE / "cublaslt.cpp", ["nvcc", *flags])
    for v in (
        "bfloat16:float32",
        "float16:float32",
        "bfloat16",
        "float16",
        "float32",
        "tf32",
        "float64",
    ):
        yield Subject("matmul", v, "cuBLASLt", library, note="plug-in")


def example_subjects(device: str) -> Iterator[Subject]:
    """The two examples that come with halfulp_kernel.h."""
    if device == "cuda":
        flags = ["-shared", "-Xcompiler", "-fPIC", "-O2", "-arch=native"]
        library = compiled(HEADER / "example/softmax.cu", ["nvcc", *flags])
        yield Subject("softmax", "float32", "example/softmax.cu", library, note="plug-in")
    else:
        library = compiled(HEADER / "example/softmax.c", ["cc", "-shared", "-fPIC", "-O2"])
        yield Subject("softmax", "float32", "example/softmax.c", library, note="plug-in")
