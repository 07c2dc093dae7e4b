"""`halfulp models` and `halfulp matmul`: hardware matrix units, and products by them."""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from halfulp import _core, _x86
from halfulp._cli_numeric import _print_table
from halfulp._matmul import matmul
from halfulp._models import Model, models


def _facts(name: str) -> dict[str, Any]:
    if name.startswith("x86."):
        return _x86.facts(name)
    model = Model(name)
    fields = {k: getattr(v, "name", v) for k, v in model.fields.items()}
    return {"name": name, "evidence": model.evidence, "source": model.source, **fields}


def _shown(facts: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that say nothing of a unit of this kind."""
    kind = facts["kind"]
    if "instruction" in facts:
        return facts
    integer = ("a_bits", "b_bits", "a_signed", "b_signed", "saturate")
    shared = ("name", "evidence", "source", "kind", "k")
    if kind == "integer":
        return {k: v for k, v in facts.items() if k in (*shared, *integer)}
    if kind != "block-sum":
        return {k: v for k, v in facts.items() if k in shared}
    skipped = integer if facts["scale_block"] else (*integer, "scale", "scale_block", "group")
    return {k: v for k, v in facts.items() if k not in skipped}


def models_command(args: argparse.Namespace) -> int:
    """All units in a table, or the fields of those named; what they do, with --probe, --errors."""
    if args.page is not None and not (args.probe or args.errors):
        raise ValueError("--page needs --probe or --errors, whose table it takes")
    if args.recorded is not None:
        if len(args.names) != 1 or args.probe or args.errors:
            raise ValueError("--recorded takes one unit, by name or as a .toml file, and no tables")
        model = model_of(args.names[0])
        model = model if isinstance(model, Model) else Model(model)
        compared, wrong = compare_recorded(args.recorded, model)
        print(
            json.dumps({"compared": compared, "mismatched": wrong})
            if args.json
            else f"{args.recorded.name}: compared {compared}, mismatched {wrong}"
        )
        return 1 if wrong else 0
    if args.probe or args.errors:
        return _shown_by_products(args)
    rows = [_facts(name) for name in args.names or models()]
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    if args.names:
        for i, row in enumerate(rows):
            if i:
                print()
            _print_table([[k, "none" if v is None else str(v)] for k, v in _shown(row).items()])
        return 0
    table = [["name", "evidence", "k", "block", "fraction bits", "result"]]
    for row in rows:
        is_sum = row["kind"] == "block-sum"
        result = f"{row['sum']} {row['rounding']}" if is_sum else row["kind"]
        of_block = [str(row["block"]), str(row["fraction_bits"])] if is_sum else ["", ""]
        result = row.get("instruction", result)
        table.append([row["name"], row["evidence"], str(row["k"]), *of_block, result])
    _print_table(table)
    return 0


def _shown_by_products(args: argparse.Namespace) -> int:
    from halfulp import _probes, _unit_errors

    if args.json:
        raise ValueError("--probe and --errors print Markdown; leave out --json")
    if args.probe:
        mark, text = "probe", _probes.table(args.names or _probes.names())
    else:
        if args.names:
            raise ValueError("--errors has its own list of units; leave out the names")
        rows = _unit_errors.ROWS
        mark, text = "errors", _unit_errors.tables(_unit_errors.measure(rows), rows)
    print(text, end="")
    if args.page is not None:
        page = args.page.read_text(encoding="utf-8")
        begin, end = f"<!-- begin {mark} -->\n", f"<!-- end {mark} -->"
        if begin not in page or end not in page:
            raise ValueError(f"{args.page} has no lines '{begin.strip()}' and '{end}'")
        head, _, rest = page.partition(begin)
        tail = rest.partition(end)[2]
        args.page.write_text(f"{head}{begin}{text}{end}{tail}", encoding="utf-8")
    return 0


def model_of(text: str) -> Model | str:
    """A unit's name, or the model that the TOML file of that name describes."""
    return Model.from_toml(Path(text)) if text.endswith(".toml") else text


def _recorded(path: Path) -> tuple[dict[str, str], list[np.ndarray[Any, Any]]]:
    """Header and rows of a, columns of b, c and d (codes) of a file of hardware's results, whose
    form data/hardware/README.md has."""
    head, _, rest = path.read_bytes().partition(b"\nend\n")
    lines = head.decode("latin-1").split("\n")
    if lines[0] != "halfulp matrix results 1":
        raise ValueError(f"{path} holds no results of hardware (data/hardware/*/*.bits do)")
    header = dict(line.partition(": ")[::2] for line in lines[1:])
    k, row, word, count = (int(header[x]) for x in ("k", "row", "word", "records"))
    length = 1 + 2 * row + 2 * word
    if len(rest) != count * length:
        raise ValueError(f"{path} has {len(rest)} bytes of records, not {count * length}")
    records = np.frombuffer(rest, np.uint8).reshape(count, length)

    def integers(part: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
        bits = np.unpackbits(part, axis=1, bitorder="little").reshape(count, n, -1)
        return bits.astype(np.uint64) @ (np.uint64(1) << np.arange(bits.shape[2], dtype=np.uint64))

    ends = np.cumsum([1, row, row, word, word])
    parts = [records[:, low:high] for low, high in itertools.pairwise(ends)]
    return header, [integers(p, n) for p, n in zip(parts, (k, k, 1, 1), strict=True)]


def compare_recorded(path: Path, model: Model) -> tuple[int, int]:
    """How many recorded results there are, and how many the model does not give."""
    header, (a, b, c, d) = _recorded(path)
    if header["unit"].startswith("x86."):
        raise ValueError(f"{path} is of a unit of x86; halfulp-verify hardware compares those")
    is_integer = model.kind in ("integer", "bits-and", "bits-xor")
    width = model.a_bits if model.kind == "integer" else 1 if is_integer else model.a.width
    stored = 8 * int(header["row"]) // int(header["k"])
    if stored != width + model.dropped_bits:
        raise ValueError(
            f"{path} has operands of {stored} bits, but the model's have "
            f"{width + model.dropped_bits}"
        )
    wide = model.kind == "fma-chain"
    run = _core.matmul_unit64 if wide else _core.matmul_unit32
    dtype = np.uint64 if wide else np.uint32
    dropped = np.uint64(model.dropped_bits)
    x, y = ((v >> dropped).astype(dtype) for v in (a, b))
    z, out = c.astype(dtype), np.empty((1, 1), dtype)
    wrong = 0
    for i in range(len(d)):
        run(model._fields, x[i : i + 1], y[i][:, None].copy(), z[i : i + 1], None, None, out, 1)
        wrong += int(out[0, 0]) != int(d[i, 0])
    return len(d), wrong


def _load(path: Path) -> np.ndarray[Any, Any]:
    try:
        array = np.load(path)
    except (EOFError, ValueError):
        raise ValueError(
            f"{path} is no complete .npy file of numbers; np.save writes one"
        ) from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} holds several arrays; save the one that is meant as .npy")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def matmul_command(args: argparse.Namespace) -> int:
    """The product of matrices in .npy files, by a unit, into a .npy file."""
    a, b = (_load(path) for path in (args.a, args.b))
    c = None if args.c is None else _load(args.c)
    scales = None if args.scales is None else (_load(args.scales[0]), _load(args.scales[1]))
    d = matmul(a, b, c, model=model_of(args.model), evidence=args.evidence, scales=scales)
    with Path(args.out).open("wb") as file:  # np.save itself would add .npy to the name
        np.save(file, d)
    facts = {"out": str(args.out), "shape": list(d.shape), "dtype": str(d.dtype)}
    if args.json:
        print(json.dumps(facts))
    else:
        print(f"{args.out}: {d.shape[0]} x {d.shape[1]}, {d.dtype}")
    return 0
