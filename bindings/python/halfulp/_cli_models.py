"""`halfulp models` and `halfulp matmul`: hardware matrix units, and products by them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from halfulp import _x86
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
    d = matmul(a, b, c, model=model_of(args.model), evidence=args.evidence)
    with Path(args.out).open("wb") as file:  # np.save itself would add .npy to the name
        np.save(file, d)
    facts = {"out": str(args.out), "shape": list(d.shape), "dtype": str(d.dtype)}
    if args.json:
        print(json.dumps(facts))
    else:
        print(f"{args.out}: {d.shape[0]} x {d.shape[1]}, {d.dtype}")
    return 0
