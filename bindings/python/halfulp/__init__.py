"""halfulp: bit-exact emulation of number formats, and what they do to kernels and to learning.

    >>> import halfulp as hu
    >>> f = hu.format("float8_e4m3fn")
    >>> hu.round([0.3, 464.0, 1e9], f, overflow="saturate")
    array([3.125e-01, 4.480e+02, 4.480e+02])

Arrays are NumPy arrays of float16, bfloat16 (ml_dtypes), float32 or float64, of any shape and
strides, used without copies, or of ml_dtypes' narrower dtypes, which count as float32, or arrays
of other libraries that speak DLPack; Python scalars and lists are taken as float64. What each bit
means is in docs/definitions.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from halfulp import functions, information, logarithmic, sharpness, transforms
from halfulp._blocks import (
    Quantized,
    block_format,
    block_formats,
    pack,
    quantize,
    unpack,
)
from halfulp._codebooks import (
    CodebookQuantized,
    VectorCodebook,
    VectorQuantized,
    quantize_codebook,
    quantize_vectors,
    vector_codebook,
)
from halfulp._conformance import Replay, Report, conform
from halfulp._core import BlockFormat, Format, NumberSystem, RoundingError, __version__
from halfulp._dtypes import Codes, dtype_of, from_ml_dtypes, from_torch, to_ml_dtypes, to_torch
from halfulp._elementwise import add, decode, div, encode, fma, mul, round, sqrt, sub
from halfulp._formats import codebook, exact_value, format, formats, number_systems, values
from halfulp._kernels import (
    adamw_step,
    attention,
    cross_entropy,
    gelu,
    int8_matmul,
    layer_norm,
    llm_int8,
    log_sum_exp,
    rms_norm,
    rotary,
    silu,
    softmax,
)
from halfulp._matmul import dot, matmul, sum
from halfulp._models import Model, models
from halfulp._operations import (
    Class,
    Ordering,
    Outcomes,
    classify,
    compare,
    logb,
    maximum,
    maximum_magnitude,
    maximum_magnitude_number,
    maximum_number,
    minimum,
    minimum_magnitude,
    minimum_magnitude_number,
    minimum_number,
    next_down,
    next_up,
    probability,
    remainder,
    round_to_integral,
    scalb,
    total_order,
)
from halfulp._probes import Features, probe_order, probe_unit
from halfulp._refinement import Refinement, refine
from halfulp._suites import Suite, TestCase, suite, suites
from halfulp._sum_order import SumOrder, UnknownOrderError
from halfulp._threads import set_threads, threads

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from os import PathLike

    from halfulp.studies.sweep import Sweep

__all__ = [
    "BlockFormat",
    "Class",
    "CodebookQuantized",
    "Codes",
    "Features",
    "Format",
    "Model",
    "NumberSystem",
    "Ordering",
    "Outcomes",
    "Quantized",
    "Refinement",
    "Replay",
    "Report",
    "RoundingError",
    "Suite",
    "SumOrder",
    "TestCase",
    "UnknownOrderError",
    "VectorCodebook",
    "VectorQuantized",
    "__version__",
    "adamw_step",
    "add",
    "attention",
    "block_format",
    "block_formats",
    "classify",
    "codebook",
    "compare",
    "conform",
    "cross_entropy",
    "decode",
    "div",
    "dot",
    "dtype_of",
    "encode",
    "exact_value",
    "fma",
    "format",
    "formats",
    "from_ml_dtypes",
    "from_torch",
    "functions",
    "gelu",
    "information",
    "int8_matmul",
    "layer_norm",
    "llm_int8",
    "log_sum_exp",
    "logarithmic",
    "logb",
    "matmul",
    "maximum",
    "maximum_magnitude",
    "maximum_magnitude_number",
    "maximum_number",
    "minimum",
    "minimum_magnitude",
    "minimum_magnitude_number",
    "minimum_number",
    "models",
    "mul",
    "next_down",
    "next_up",
    "number_systems",
    "pack",
    "probability",
    "probe_order",
    "probe_unit",
    "quantize",
    "quantize_codebook",
    "quantize_vectors",
    "refine",
    "remainder",
    "rms_norm",
    "rotary",
    "round",
    "round_to_integral",
    "scalb",
    "set_threads",
    "sharpness",
    "silu",
    "softmax",
    "sqrt",
    "sub",
    "suite",
    "suites",
    "sum",
    "sweep",
    "threads",
    "to_ml_dtypes",
    "to_torch",
    "total_order",
    "transforms",
    "unpack",
    "values",
    "vector_codebook",
]


def sweep(
    spec: str | PathLike[str] | dict[str, Any],
    out: str | PathLike[str],
    *,
    executor: Executor | str | None = None,
    jobs: int | None = None,
    cell_limit: float | None = None,
    progress: bool = True,
    fresh: bool = False,
) -> Sweep:
    """Run a sweep of training cells, or what is missing of it, and return its results.

    spec: a TOML file or its content as a dict (docs/cells.md). out: the folder of the results;
    cells that are finished there are not run again. executor: any concurrent.futures.Executor, or
    'dask', 'dask:ADDRESS' or 'mpi'; by default `jobs` local processes (default: one per processor).
    A cell that fails, or takes more than `cell_limit` seconds, is reported and the rest goes on.
    fresh: run cells again that were made by another build or from other data.
    """
    from halfulp.studies.sweep import run_sweep

    return run_sweep(
        spec,
        out,
        executor=executor,
        jobs=jobs,
        cell_limit=cell_limit,
        progress=progress,
        fresh=fresh,
    )
