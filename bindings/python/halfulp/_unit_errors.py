"""The errors that the sums of matrix units make: measured by their models, and predicted.

docs/studies/matrix-units.md has the question, the definitions and the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfulp._elementwise import round as round_to
from halfulp._matmul import matmul
from halfulp._models import Model
from halfulp.studies.statistics import t_interval

Array = NDArray[np.float64]
SIDE = 32  # a product is SIDE x K by K x SIDE
LENGTHS = (64, 256, 1024, 4096)
SEEDS = 10
TILE = 64  # results of one small experiment


@dataclass(frozen=True)
class Row:
    """A unit, or a variant of one, by the label it has in the tables."""

    label: str
    model: str
    fields: tuple[tuple[str, Any], ...] = ()

    def unit(self) -> Model | str:
        return Model(self.model, **dict(self.fields)) if self.fields else self.model


ROWS = (
    Row("hopper.wgmma.e4m3.f32", "hopper.wgmma.e4m3.f32"),
    Row("the same, parts of 128", "hopper.wgmma.e4m3.f32", (("promote_every", 128),)),
    Row("the same, F = 25, 23 bits", "hopper.wgmma.e4m3.f32",
        (("fraction_bits", 25), ("sum", "binary32"))),
    Row("hopper.mma.e4m3.f32", "hopper.mma.e4m3.f32"),
    Row("ada.mma.e4m3.f32", "ada.mma.e4m3.f32"),
    Row("hopper.wgmma.f16.f16", "hopper.wgmma.f16.f16"),
    Row("hopper.wgmma.f16.f32", "hopper.wgmma.f16.f32"),
    Row("hopper.wgmma.bf16.f32", "hopper.wgmma.bf16.f32"),
    Row("hopper.wgmma.tf32.f32", "hopper.wgmma.tf32.f32"),
    Row("ampere.mma.f16.f32", "ampere.mma.f16.f32"),
    Row("ampere.mma.tf32.f32", "ampere.mma.tf32.f32"),
    Row("volta.mma.f16.f32", "volta.mma.f16.f32"),
    Row("x86.amx.bf16.f32", "x86.amx.bf16.f32"),
    Row("x86.avx512.bf16.f32", "x86.avx512.bf16.f32"),
)  # fmt: skip
DATA: dict[str, Callable[[np.random.Generator, tuple[int, int]], Array]] = {
    "N(0, 1)": lambda rng, shape: rng.normal(size=shape),
    "U[0, 1)": lambda rng, shape: rng.random(shape),
}


def operands(data: str, form: str, k: int, seed: int, side: int = SIDE) -> tuple[Array, Array]:
    """side x k and k x side values of the format, rounded to nearest even."""
    rng = np.random.default_rng([seed, list(DATA).index(data), k])
    a, b = DATA[data](rng, (side, k)), DATA[data](rng, (k, side))
    return np.asarray(round_to(a, form)), np.asarray(round_to(b, form))


@dataclass(frozen=True)
class Errors:
    """Of the results d of one product, s being the exact sums."""

    bias: float  # sum (d - s) sign(s) / sum |s|: below 0, results are too small
    rms: float  # ||d - s|| / ||s||, Frobenius
    relative: Array  # |d - s| / |s| of each result


def errors(d: Array, s: Array) -> Errors:
    e = d - s
    return Errors(
        bias=float((e * np.sign(s)).sum() / np.abs(s).sum()),
        rms=float(np.linalg.norm(e) / np.linalg.norm(s)),
        relative=np.abs(e / s),
    )


def operand_format(row: Row) -> str:
    if row.model.startswith("x86."):
        return "bfloat16"
    return Model(row.model).a.name


def measure(
    rows: Iterable[Row] = ROWS, lengths: Sequence[int] = LENGTHS, seeds: int = SEEDS
) -> dict[tuple[str, str, int], list[Errors]]:
    """The errors by (label, data, K), for each seed."""
    rows = list(rows)
    found: dict[tuple[str, str, int], list[Errors]] = {}
    for data in DATA:
        for form in dict.fromkeys(operand_format(row) for row in rows):
            for k in lengths:
                for seed in range(seeds):
                    a, b = operands(data, form, k, seed)
                    s = np.asarray(matmul(a, b, accumulate="binary64", order="exact"))
                    for row in rows:
                        if operand_format(row) == form:
                            d = np.asarray(matmul(a, b, model=row.unit()), np.float64)
                            found.setdefault((row.label, data, k), []).append(errors(d, s))
    return found


# ---------------------------------------------------------------- prediction
def cut(p: Array, q: float) -> Array:
    """What is left of p above q, toward zero."""
    return np.trunc(p / q) * q


def _block(u: Model, total: float, quantum: float) -> tuple[float, float]:
    """The last place of a sum of this size, and the mean of what a cut at it takes."""
    last = math.ldexp(1.0, math.frexp(total)[1] - u.sum.precision)
    return last, max(last - quantum, 0.0) / 2 if u.rounding == "toward-zero" else 0.0


def predicted_bias(row: Row, k: int, half: bool = False) -> float:
    """Of U[0, 1): every result a chain of mean values.

    A block of B products that begins at c has M = floor(log2 c) and takes from each product p what
    it has below q = 2^(M - F): on average p mod q over the distribution of products, or, with
    `half`, q/2. The cut of the sum to its last place r takes (r - q)/2 more. 0 for sums to nearest.
    """
    if row.model.startswith("x86."):
        return 0.0
    u = Model(row.model, **dict(row.fields))
    a, b = operands("U[0, 1)", u.a.name, 1 << 11, 10**6)
    p = (a.ravel() * b.T.ravel()).astype(np.float64)
    mean = float(p.mean())
    c, parts = 0.0, 0.0
    length = u.promote_every or (u.block * 2 if u.c == "after" else k)
    for at in range(0, k, u.block):
        if at % length == 0:
            parts, c = parts + c, 0.0
        m = max(math.frexp(c)[1] - 1 if c else -2, -2)  # -2: of the largest products
        q = math.ldexp(1.0, m - u.fraction_bits)
        kept = max(mean - q / 2, 0.0) if half else float(cut(p, q).mean())
        total = c + u.block * kept
        c = total - _block(u, total, q)[1]
    return (parts + c) / (k * mean) - 1


def predicted_of_normal(row: Row, k: int) -> tuple[float, float]:
    """Bias and rms of N(0, 1), for chains whose blocks c takes part in.

    What terms lose goes up as often as down: independent losses, whose squares add. The cut of a
    sum of last place r, from multiples of q, takes (r - q)/2 on average and always toward zero: a
    part rho of |c| that all products before it lose together, so that it grows as K. c is normal
    with the variance of the products so far; M is the largest exponent of it and the products.
    """
    u = Model(row.model, **dict(row.fields))
    a, b = operands("N(0, 1)", u.a.name, 1 << 11, 10**6)
    p = np.abs(a.ravel() * b.T.ravel()).astype(np.float64)
    exponents = np.frexp(np.abs(a.ravel()))[1] + np.frexp(np.abs(b.T.ravel()))[1] - 2
    n = 512
    of_block = exponents[: n * u.block].reshape(n, u.block).max(axis=1)
    lost: dict[int, float] = {}

    def square_lost(m: int) -> float:
        if m not in lost:
            lost[m] = float(np.square(p - cut(p, math.ldexp(1.0, m - u.fraction_bits))).mean())
        return lost[m]

    normal = np.abs(np.random.default_rng(10**6).normal(size=n))
    variance = float(np.square(p).mean())
    total, rho = 0.0, []
    for at in range(0, k, u.block):
        c = normal * math.sqrt(at * variance)
        largest = np.maximum(np.where(c > 0, np.frexp(c)[1] - 1, -99), of_block)
        total += u.block * float(np.mean([square_lost(int(m)) for m in largest]))
        after = normal * math.sqrt((at + u.block) * variance)
        last = np.ldexp(1.0, np.frexp(after)[1] - u.sum.precision)
        q = np.minimum(np.ldexp(1.0, largest - u.fraction_bits), last)
        total += float(np.mean(last**2 - q**2)) / 12
        taken = (last - q) / 2 if u.rounding == "toward-zero" else 0 * last
        rho.append(float(np.mean(after * taken) / np.mean(after**2)))
    together = np.cumsum(rho[::-1])[::-1]  # what the products of each block lose until the end
    rms = math.sqrt(total / (k * variance) + float(np.mean(together**2)))
    return -float(together.mean()), rms


# ---------------------------------------------------------------- tables
def _number(x: float, digits: int = 2) -> str:
    if x == 0:
        return "0"
    if 1e-3 <= abs(x) < 100:
        return f"{x:.{digits}g}"
    return f"{x:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e")


def interval(values: Sequence[float]) -> str:
    """Mean ± half of Student's 95% interval."""
    found = t_interval(values)
    assert found is not None
    if found.mean == 0 and found.half == 0:
        return "0"
    power = math.floor(math.log10(max(abs(found.mean), found.half)))
    scale = 10.0**power
    digits = max(power - math.floor(math.log10(found.half)), 0) if found.half > 0 else 2
    mean = float(f"{found.mean / scale:.{digits}f}") + 0.0  # no -0
    return f"({mean:.{digits}f} ± {found.half / scale:.{digits}f})e{power}"


def tiles(found: Sequence[Errors]) -> tuple[Array, Array]:
    """Mean and largest relative error of each TILE results, as a small experiment sees them."""
    values = np.concatenate([e.relative.ravel() for e in found])
    values = values[: values.size // TILE * TILE].reshape(-1, TILE)
    return values.mean(axis=1), values.max(axis=1)


def tables(found: dict[tuple[str, str, int], list[Errors]], rows: Sequence[Row] = ROWS) -> str:
    """Three Markdown tables: all errors at the largest K; bias of U[0, 1) by K; rms of N(0, 1)."""
    lengths = sorted({k for _, _, k in found})
    last = lengths[-1]
    lines = []
    for data in DATA:
        lines += [
            f"**{data}, K = {last}**",
            "",
            "| unit | bias | rms | median of the relative errors | their mean | largest |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for row in rows:
            each = found[row.label, data, last]
            relative = np.concatenate([e.relative.ravel() for e in each])
            cells = (
                interval([e.bias for e in each]),
                interval([e.rms for e in each]),
                *(
                    _number(float(x))
                    for x in (np.median(relative), relative.mean(), relative.max())
                ),
            )
            lines.append(f"| {row.label} | {' | '.join(cells)} |")
        lines.append("")
    heads = " | ".join(f"K = {k}" for k in lengths)
    rule = "|---|" + "---:|" * (len(lengths) + 1)
    for data, what in (("U[0, 1)", "bias"), ("N(0, 1)", "rms")):
        lines += [f"**{what} of {data}, by K**", ""]
        lines += [f"| unit | {heads} | predicted, K = {last} |", rule]
        for row in rows:
            cells = [
                interval([getattr(e, what) for e in found[row.label, data, k]]) for k in lengths
            ]
            lines.append(f"| {row.label} | {' | '.join(cells)} | {_prediction(row, what, last)} |")
        lines.append("")
    first = rows[0]
    means, largest = tiles(found[first.label, "N(0, 1)", last])
    spread = [np.quantile(x, (0.05, 0.5, 0.95)) for x in (means, largest)]
    said = (" to ".join(f"{100 * q:.2g} %" for q in x[[0, 2]]) for x in spread)
    lines.append(
        f"{first.label}, N(0, 1), K = {last}, {means.size} experiments of {TILE} results: the mean "
        f"relative error is {next(said)} in nine of ten of them, the largest {next(said)}."
    )
    return "\n".join(lines) + "\n"


def _prediction(row: Row, what: str, k: int) -> str:
    if what == "bias":
        return (
            f"{_number(predicted_bias(row, k), 3)}, {_number(predicted_bias(row, k, half=True), 3)}"
        )
    if row.model.startswith("x86.") or "promote_every" in dict(row.fields):
        return ""
    if Model(row.model).c == "after":
        return ""
    bias, rms = predicted_of_normal(row, k)
    return f"{_number(rms, 3)}; bias {_number(bias, 3)}"
