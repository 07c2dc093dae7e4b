"""halfulp.functions against the balls of balls.py, bit for bit: values and flags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import balls
import numpy as np
import rounder

import halfulp as hu

# Formats that results are compared in: the named ones of up to 32 bits.
FORMATS = {name: f for name, f in hu.formats().items() if f.width <= 32}
_VALUES: dict[str, rounder.Values] = {}


def values_of(name: str) -> rounder.Values:
    if name not in _VALUES:
        _VALUES[name] = rounder.Values(hu.format(name).canonical_name)
    return _VALUES[name]


def oracle(name: str, operands: Sequence[np.ndarray]) -> rounder.Results:
    with np.errstate(invalid="ignore"):  # signaling NaNs among random bits
        columns = [x.astype(np.float64).tolist() for x in operands]
    if len(columns) == 1:
        return rounder.collect([balls.one(name, x) for x in columns[0]])
    return rounder.collect([balls.BIVARIATE[name](x, y) for x, y in zip(*columns, strict=True)])


def _policy(format: str) -> dict[str, str]:
    return {"nan_to": "zero"} if FORMATS[format].nan == "none" else {}


def differences(
    name: str, operands: Sequence[np.ndarray], want: rounder.Results, format: str, mode: str
) -> np.ndarray:
    """Indices at which values or flags are not the oracle's."""
    f = FORMATS[format]
    out = np.empty(operands[0].shape, np.float32)
    y, flags = getattr(hu.functions, name)(
        *operands, f, rounding=mode, out=out, flags=True, **_policy(format)
    )
    value, raised = rounder.rounded(want, values_of(format), mode)
    with np.errstate(invalid="ignore"):
        wanted = value.astype(np.float32)
    same = (y.view(np.uint32) == wanted.view(np.uint32)) | (np.isnan(y) & np.isnan(wanted))
    return np.flatnonzero(~(same & (flags == raised)))


def compare(
    name: str,
    operands: Sequence[np.ndarray],
    want: rounder.Results,
    formats: Sequence[str] = tuple(FORMATS),
    modes: Sequence[str] = tuple(rounder.MODES),
) -> tuple[int, list[str]]:
    """(results compared, sentences about the first few that differ)."""
    compared, wrong = 0, []
    for format in formats:
        for mode in modes:
            bad = differences(name, operands, want, format, mode)
            compared += len(want)
            for i in bad[:2]:
                x = ", ".join(float(a[i]).hex() for a in operands)
                got: Any = getattr(hu.functions, name)(
                    *[float(a[i]) for a in operands],
                    format,
                    rounding=mode,
                    flags=True,
                    **_policy(format),
                )
                value, raised = rounder.rounded(want[i : i + 1], values_of(format), mode)
                wrong.append(
                    f"{name}({x}) into {format} {mode}: {got}, not {value[0]}, {raised[0]}"
                    f" ({len(bad)} such)"
                )
    return compared, wrong
