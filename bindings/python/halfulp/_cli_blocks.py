"""What `halfulp quantize` prints, and `halfulp formats` of block formats."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import numpy as np

from halfulp import _core
from halfulp._blocks import block_format, quantize
from halfulp._cli_numeric import _exact, _print_table
from halfulp._codebooks import quantize_codebook
from halfulp._core import BlockFormat

_RULES = {
    "floor": "2^(floor(log2 amax) - emax)",
    "ceil": "2^(ceil(log2 amax) - emax)",
    "rceil": "2^ceil(log2(amax / largest))",
    "even": "2^(floor(log2 of amax rounded to the element's precision) - emax)",
    "absmax": "amax / largest",
    "minmax": "(max - min) / (codes - 1), with a zero point",
    "te": "amax * (encode * (1/6)), each step in binary32",
    "mse": "the candidate of least squared error",
    "rms": "root mean square * clip / largest",
}


def is_block_format(name: str) -> bool:
    """Whether `name` is of a block format; says nothing of names that are of no format at all."""
    named = {row for row, _, _ in _core.named_block_formats()}
    return name in named or name.startswith(("bfp_", "block_"))


def facts(name: str) -> dict[str, Any]:
    """The definition of a block format."""
    f = block_format(name)
    sources = {row: source for row, _, source in _core.named_block_formats()}
    shape = f"{f.rows} x {f.columns}" if f.grouping == "block" else f"one scale per {f.grouping}"
    rule = _RULES[f.rule]
    if f.rule in ("absmax", "rms") and f.tensor_target:
        rule = _RULES[f.rule].replace("/ largest", "/ (largest * tensor scale)")
    tensor = "none"
    if f.rule == "te":
        tensor = "binary32, 1 / (2688 / amax of the tensor)"
    elif f.tensor_target:
        tensor = f"binary32, amax of the tensor / (largest * {f.tensor_target})"
    coding = {
        "floating": f.element.name,
        "int": "integer, two's complement, symmetric",
        "intfull": "integer, two's complement, with the lowest code",
        "bipolar": "odd integer, symmetric, without zero",
        "intaffine": "signed integer with a zero point",
        "uintaffine": "unsigned integer with a zero point",
    }[f.coding]
    if f.coding != "floating" and not f.is_affine:
        coding += f", in units of 2^{f.element.emin - f.element.precision + 1}"
    return {
        "name": f.name,
        "canonical_name": f.canonical_name,
        "element": coding,
        "element_bits": f.element_bits,
        "block": shape,
        "scale_format": f.scale.name,
        "scale_bits": f.scale.width,
        "rule": f.rule,
        "scale": rule,
        "scale_rounding": f.scale_rounding
        if f.rule in ("absmax", "minmax", "rms")
        else "none needed",
        "tensor_scale": tensor,
        "source": sources.get(f.name, "described by its name"),
    }


def formats(args: argparse.Namespace) -> int:
    """The definitions of the block formats named."""
    if args.values or args.png:
        raise ValueError("--values and --png are for formats of single numbers, not of blocks")
    rows = [facts(name) for name in args.names]
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    for i, row in enumerate(rows):
        if i:
            print()
        _print_table([[key.replace("_", " "), str(value)] for key, value in row.items()])
    return 0


def _as_floats(texts: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    values = []
    for text in texts:
        try:
            exact = _exact(text)
        except ValueError as error:
            if "is no number" not in str(error):
                raise
            raise ValueError(
                f"'{text.strip()}' is no number: write a decimal or a hex float like 0x1.8p3"
            ) from None
        try:
            value = float(text) if exact is None else float(exact)
        except OverflowError:
            raise ValueError(f"'{text}' is beyond float64, which carries the numbers") from None
        if exact == 0 and text.lstrip().startswith("-"):
            value = -0.0
        values.append(value)
    return np.array(values, np.float64)


def quantize_command(args: argparse.Namespace) -> int:
    """Quantise the numbers given: scales, codes, values."""
    given = {
        name: getattr(args, name)
        for name in ("rounding", "seed", "random_bits")
        if getattr(args, name) is not None
    }
    if _core.parse_system(args.format) is not None:
        return _quantize_codebook(args, given)
    f = block_format(args.format, rule=args.rule, block=args.block)
    x = _as_floats(args.values)
    if args.tensor_scale is not None:
        given["tensor_scale"] = float(_as_floats([args.tensor_scale])[0])
    q = quantize(x, f, **given)
    values = q.dequantize(np.float64)
    scales, scale_values = q.scales.ravel(), q.scale_values.ravel()
    block_of = [min(i // _columns(f, x.size), scales.size - 1) for i in range(x.size)]
    if f.grouping == "channel":
        block_of = list(range(x.size))
    digits, scale_digits = (f.element_bits + 3) // 4, (f.scale.width + 3) // 4
    if args.json:
        document = {
            "format": f.name,
            "canonical_name": f.canonical_name,
            "tensor_scale": None if q.tensor_scale is None else float(q.tensor_scale),
            "scales": [
                {"code": f"0x{int(c):0{scale_digits}x}", "value": _number(float(v))}
                for c, v in zip(scales, scale_values, strict=True)
            ],
            "zero_points": None if q.zero_points is None else q.zero_points.ravel().tolist(),
            "results": [
                {
                    "operand": text.strip(),
                    "block": block,
                    "code": f"0x{int(c):0{digits}x}",
                    "value": _number(float(v)),
                }
                for text, block, c, v in zip(args.values, block_of, q.codes, values, strict=True)
            ],
        }
        print(json.dumps(document))
        return 0
    if q.tensor_scale is not None:
        print(f"tensor scale {float(q.tensor_scale)!r} = {float(q.tensor_scale).hex()}")
    table = [["block", "scale", "scale code", "operand", "code", "bits", "value"]]
    for i, block in enumerate(block_of):
        first = i == 0 or block_of[i - 1] != block
        code = int(q.codes[i])
        scale = [str(block), repr(float(scale_values[block]))]
        if q.zero_points is not None:
            scale[1] += f" zero {int(q.zero_points.ravel()[block])}"
        scale.append(f"0x{int(scales[block]):0{scale_digits}x}")
        table.append(
            [
                *(scale if first else ["", "", ""]),
                args.values[i].strip(),
                f"0x{code:0{digits}x}",
                f"{code:0{f.element_bits}b}",
                repr(float(values[i])),
            ]
        )
    _print_table(table, right={1, 6})
    return 0


def _quantize_codebook(args: argparse.Namespace, given: dict[str, Any]) -> int:
    """The same for a codebook with a binary32 scale per block."""
    if args.rule is not None:
        raise ValueError("--rule is for block formats; the scale of a codebook is amax / largest")
    if args.tensor_scale is not None:
        raise ValueError("--tensor-scale is for block formats that have one, such as nvfp4")
    x = _as_floats(args.values)
    if isinstance(args.block, str):
        raise ValueError(f"--block {args.block} is for block formats; give a size for a codebook")
    if args.block is not None:
        given["block"] = args.block
    q = quantize_codebook(x, args.format, **given)
    values, digits = q.dequantize(), (q.system.width + 3) // 4
    rows = [
        (text.strip(), i // q.block, f"0x{int(c):0{digits}x}", float(v))
        for i, (text, c, v) in enumerate(zip(args.values, q.codes, values, strict=True))
    ]
    if args.json:
        document = {
            "format": q.system.name,
            "block": q.block,
            "scales": [float(s) for s in q.scales],
            "results": [
                dict(zip(("operand", "block", "code", "value"), row, strict=True)) for row in rows
            ],
        }
        print(json.dumps(document))
        return 0
    table = [["block", "scale", "operand", "code", "value"]]
    for i, (text, block, code, value) in enumerate(rows):
        first = i % q.block == 0
        head = [str(block), repr(float(q.scales[block]))] if first else ["", ""]
        table.append([*head, text, code, repr(value)])
    _print_table(table, right={1, 4})
    return 0


def _columns(f: BlockFormat, count: int) -> int:
    return f.columns if f.grouping == "block" else max(count, 1)


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
