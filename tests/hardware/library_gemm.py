"""Whole matrix products of cuBLASLt and torch, predicted bit for bit from the order of their sums.

python tests/hardware/library_gemm.py record OUT.json --library LIB.so   (CUDA device, torch; LIB.so:
                                                            the target halfulp-library)
python tests/hardware/library_gemm.py check data/hardware/h200/gemm.json  (needs halfulp; no GPU)
python tests/hardware/library_gemm.py table data/hardware/h200/gemm.json [--page docs/matrix-units.md]

For each product `record` finds the order by halfulp._sum_order, at every place of the result, predicts
all elements of two products of hard operands with the model of the matrix unit, compares the bits, and
keeps a sample. `check` makes the sample's rows and columns again and predicts them on the host.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import datetime
import importlib.util
import json
import re
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from halfulp._sum_order import SumOrder

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ((1, 4096, 4096), (4096, 4096, 8192), (128, 7168, 2048))
BESIDE = ((256, 256, 16384), (64, 64, 512), (64, 64, 128))  # torch's alone
SEED = 20261122
KINDS = ("spread", "cancel")
# type: exponent bits, fraction bits, least and largest exponent drawn (of e4m3 all finite codes)
TYPES = {"e4m3": (4, 3, 0, 0), "f16": (5, 10, -15, 3), "bf16": (8, 7, -20, 20), "tf32": (8, 23, -20, 20)}  # fmt: skip
C_EXPONENTS = (-12, 14)
# The unit whose fused sums have so many products.
UNITS = {
    ("e4m3", 32): "hopper.wgmma.e4m3.f32",
    ("f16", 16): "hopper.wgmma.f16.f32",
    ("f16", 8): "hopper.mma.k8.f16.f32",
    ("bf16", 16): "hopper.wgmma.bf16.f32",
    ("bf16", 8): "hopper.mma.k8.bf16.f32",
    ("tf32", 8): "hopper.wgmma.tf32.f32",
    ("tf32", 4): "hopper.mma.k4.tf32.f32",
    ("tf32", 1): "binary32 fma",  # no matrix unit: of operands as they are
}
FORMATS = {"e4m3": "float8_e4m3fn", "f16": "binary16", "bf16": "bfloat16", "tf32": "tf32"}


# ---------------------------------------------------------------- operands, by NumPy or by torch


def mixed(x: Any) -> Any:
    """SplitMix64's last steps, on int64 that wraps."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def words(x: Any, kind: str, low: int = 0, high: int = 0) -> Any:
    """Codes of a type from random int64: uniform exponents, one in sixteen zero."""
    exponent_bits, fraction_bits, *drawn = TYPES.get(kind, (8, 23, low, high))
    if kind == "e4m3":
        code = x & 0xFF
        return code - ((code & 0x7F) == 0x7F) * 1
    bias = (1 << (exponent_bits - 1)) - 1
    field = (((x >> 32) & 0xFFFF) % (drawn[1] - drawn[0] + 1)) + (bias + drawn[0])
    sign = (x >> 50) & 1
    code = sign << (exponent_bits + fraction_bits) | field << fraction_bits
    code = code | (x & ((1 << fraction_bits) - 1))
    return code * (((x >> 52) & 15) != 0)


def operand(rows: Any, places: Any, k: int, seed: int, kind: str, data: str, negate: bool) -> Any:
    """Codes of these rows of a (or columns of b) at these places of K.

    data 'spread': independent. 'cancel': the second half of K repeats the first, negated in a, but
    for the last bit of one in eight: sums go up, come back and leave little.
    """
    at = places if data == "spread" else places % (k // 2)
    x = mixed(rows[:, None] * k + at[None, :] + (seed << 40))
    code = words(x, kind)
    if data == "cancel" and negate:
        second = (places >= k // 2)[None, :]
        bits = TYPES[kind]
        code = code ^ (second * (1 << (bits[0] + bits[1])))
        code = code ^ (((places % 8) == 0)[None, :] & ~second & ((code & 2) == 0) & (code != 0)) * 1
    return code


def addend(rows: Any, columns: Any, n: int, seed: int) -> Any:
    """binary32 words of c at these rows and columns."""
    return words(mixed(rows[:, None] * n + columns[None, :] + (seed << 40)), "c", *C_EXPONENTS)


def unit_codes(code: Any, kind: str) -> Any:
    """The unit's operands: of binary32 words the TF32 nearest to them, ties to even."""
    return (code + 0xFFF + ((code >> 13) & 1)) >> 13 if kind == "tf32" else code


def packed(order: list[dict[str, Any]]) -> list[dict[str, Any]] | str:
    """The order, or where it is long its text compressed."""
    text = json.dumps(order, separators=(",", ":"))
    if len(text) < 300:
        return order
    return base64.b85encode(zlib.compress(text.encode(), 9)).decode()


def unpacked(order: list[dict[str, Any]] | str) -> Any:
    return (
        order if isinstance(order, list) else json.loads(zlib.decompress(base64.b85decode(order)))
    )


def single_fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x y + z in binary32, rounded once: the sum in binary64 is rounded to odd."""
    product, start = x.astype(np.float64) * y, z.astype(np.float64)
    total = start + product
    back = total - start
    error = (start - (total - back)) + (product - back)
    bits = total.view(np.int64)
    outward = (error > 0) == (total > 0)
    odd = np.where((error != 0) & (bits & 1 == 0), np.where(outward, bits + 1, bits - 1), bits)
    return odd.view(np.float64).astype(np.float32)


def seed_of(data: str, which: int) -> int:
    return SEED % 100000 * 16 + KINDS.index(data) * 4 + which


# ---------------------------------------------------------------- the check, on any machine


def predicted(record: dict[str, Any], data: str, rows: np.ndarray, columns: np.ndarray) -> Any:
    """What the order and the unit give for these rows and columns, as bits of the result's type."""
    import halfulp as hu
    from halfulp._sum_order import SumOrder

    _, n, k = record["shape"]
    kind = record["type"]
    places = np.arange(k)

    def values(which: int, lines: np.ndarray, negate: bool) -> np.ndarray:
        code = operand(lines, places, k, seed_of(data, which), kind, data, negate)
        if kind == "tf32":
            single = code.astype(np.uint32).view(np.float32)
            on_unit = record["unit"] != ["binary32 fma"]
            return np.asarray(hu.round(single, "tf32")) if on_unit else single
        width = np.uint8 if kind == "e4m3" else np.uint16
        return np.asarray(hu.decode(code.astype(width), FORMATS[kind]))

    a, b = values(0, rows, True), values(1, columns, False).T
    singles = record["unit"] == ["binary32 fma"]
    c = None
    if record["c"]:
        c = addend(rows, columns, n, seed_of(data, 2)).astype(np.uint32).view(np.float32)

    def chain(at: list[int], block: int, start: Any) -> np.ndarray:
        if singles:
            total = np.zeros((len(rows), len(columns)), np.float32) if start is None else start
            for i in at:
                x, y = np.broadcast_arrays(a[:, [i]], b[[i]])
                total = np.asarray(hu.fma(x, y, total, "binary32"), np.float32)
            return total
        return np.asarray(hu.matmul(a[:, at], b[at], start, model=UNITS[kind, block]))

    def add(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x + y  # binary32, to nearest even

    sums = SumOrder.from_json(unpacked(record["order"])).evaluate(chain, add, c)
    if record["out"] == "f32":
        return sums.view(np.uint32)
    if record["out"] == "f16":
        return sums.astype(np.float16).view(np.uint16)
    return np.asarray(hu.encode(sums, "bfloat16")).astype(np.uint16)


def check(path: Path) -> tuple[int, int]:
    """Compares the sample of every product whose order is known: how many bits were compared, and
    how many differ."""
    table = json.loads(path.read_text(encoding="utf-8"))
    compared = mismatched = 0
    for record in table["products"]:
        if record["order"] is None:
            continue
        for data, sample in record["sample"].items():
            rows, columns = np.array(sample["rows"]), np.array(sample["columns"])
            width = 8 if record["out"] == "f32" else 4
            text = sample["bits"]
            want = [int(text[i : i + width], 16) for i in range(0, len(text), width)]
            got = predicted(record, data, rows, columns).ravel()
            wrong = int((got != np.array(want)).sum())
            compared += len(want)
            mismatched += wrong
            if wrong:
                print(f"MISMATCH {title(record)}, {data}: {wrong} of {len(want)}")
    return compared, mismatched


def title(record: dict[str, Any]) -> str:
    shape = " x ".join(str(x) for x in record["shape"])
    return f"{record['library']} {shape} {record['name']}"


MARKS = ("<!-- begin library products -->\n", "<!-- end library products -->")


def in_short(record: dict[str, Any]) -> str:
    """The order without what the columns of shape and unit say."""
    from halfulp._sum_order import SumOrder

    if record["order"] is None:
        return str(record["verdict"])
    if record["unit"] == ["binary32 fma"]:
        return "a tree of single products"
    text = str(SumOrder.from_json(unpacked(record["order"]))).removesuffix(", then c")
    text = re.sub(r",? ?(a chain|chains) of blocks of \d+", "", text)
    sums = [re.sub(r"k = \d+:\d+( in )?", "", x) or "one chain" for x in text.split(" + ")]
    if len(sums) == 1:
        return sums[0]
    same = len(set(sums)) == 1
    return f"{len(sums)} sums: {sums[0] + ' each' if same else ', '.join(sums)}"


def table_of(path: Path) -> str:
    """The recorded products in Markdown, those of one shape and type in a row."""
    table = json.loads(path.read_text(encoding="utf-8"))
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for r in table["products"]:
        fast = {True: ", fast", False: ", not fast"}["fast" in r["name"]] * (r["type"] == "e4m3")
        key = (" × ".join(str(x) for x in r["shape"]), r["type"].upper() + fast)
        empty: dict[str, Any] = {"orders": {}, "compared": 0, "mismatched": 0, "refuted": []}
        row = rows.setdefault(key, empty)
        chosen = "torch" if r["library"] == "torch" else r["name"].partition(", ")[2]
        chosen = chosen.replace("no. 1 ", "first ").replace(", binary32", "")
        chosen = re.sub(", (the result's type|in place)", r" (\1)", chosen)
        by = row["orders"].setdefault(in_short(r), [])
        if chosen not in by:
            by.append(chosen)
        row["unit"] = ", ".join(f"`{u}`" for u in r.get("unit", []))
        row["compared"] += r.get("compared", 0)
        row["mismatched"] += r.get("mismatched", 0)
        if r["out"] == "f32" and r["order"] is not None:
            row["refuted"] += [
                r["refuted"][x] for x in ("one chain", "two halves") if x in r["refuted"]
            ]
    lines = [
        "| M × N × K | type | unit | order: by whom | compared | mismatched | refuted |",
        "|---|---|---|---|---:|---:|---:|",
    ]
    for (shape, kind), row in rows.items():
        orders = "<br>".join(f"{order}: {', '.join(by)}" for order, by in row["orders"].items())
        least = f"{min(row['refuted']):.2f}" if row["refuted"] else ""
        lines.append(
            f"| {shape} | {kind} | {row['unit']} | {orders} | {row['compared']:,} "
            f"| {row['mismatched']} | {least} |"
        )
    compared, wrong = (
        sum(r.get(x, 0) for r in table["products"]) for x in ("compared", "mismatched")
    )
    known = sum(r["order"] is not None for r in table["products"])
    lines += [
        "",
        f"{len(table['products'])} products, of {known} the order is known; {compared:,} results "
        f"compared, {wrong} mismatched. {table['device']}, driver {table['driver']}, CUDA "
        f"{table['toolkit']}, torch {table['torch']}, cuBLASLt {table['cublasLt']}, {table['date']}.",
    ]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- recording, on a GPU


def load_sum_order() -> Any:
    """halfulp/_sum_order.py alone, which needs no built package."""
    path = ROOT / "bindings/python/halfulp/_sum_order.py"
    spec = importlib.util.spec_from_file_location("sum_order", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sum_order"] = module
    spec.loader.exec_module(module)
    return module


RANGES = {  # emin, emax, precision
    "e4m3": SimpleNamespace(emin=-6, emax=8, precision=4),
    "f16": SimpleNamespace(emin=-14, emax=15, precision=11),
    "bf16": SimpleNamespace(emin=-126, emax=127, precision=8),
    "tf32": SimpleNamespace(emin=-126, emax=127, precision=24),  # words of binary32
    "f32": SimpleNamespace(emin=-126, emax=127, precision=24),
}
ATTRIBUTES = ("id", "tile", "stages", "splitk", "reduction", "swizzle", "custom", "inner", "cluster")  # fmt: skip
OFFERED = 32 << 20  # what torch offers cuBLASLt
WORKSPACE = 1 << 30  # for algorithms that are made to cut K


class Library:
    """LIB.so by ctypes."""

    def __init__(self, path: str) -> None:
        import torch

        self.lib = ctypes.CDLL(path)
        self.lib.last_error.restype = ctypes.c_char_p
        self.lib.lt_version.restype = ctypes.c_ulonglong
        self.workspace = torch.empty(WORKSPACE, dtype=torch.uint8, device="cuda")

    def call(self, name: str, *given: Any) -> int:
        def as_c(x: Any) -> Any:
            if x is None:
                return None
            if isinstance(x, str):
                return x.encode()
            if isinstance(x, int):
                return ctypes.c_longlong(x)
            return ctypes.c_void_p(x.data_ptr())

        code = int(getattr(self.lib, name)(*(as_c(x) for x in given)))
        if code < 0:
            raise RuntimeError(self.lib.last_error().decode())
        return code

    def stream(self) -> int:
        import torch

        return int(torch.cuda.current_stream().cuda_stream)

    def describe(self, algorithm: int) -> dict[str, int]:
        out = (ctypes.c_longlong * len(ATTRIBUTES))()
        if self.lib.lt_describe(algorithm, out) < 0:
            raise RuntimeError(self.lib.last_error().decode())
        return dict(zip(ATTRIBUTES, out, strict=True))


@dataclass
class Subject:
    """One way to make one product."""

    shape: tuple[int, int, int]
    type: str
    fast: bool
    out: str
    c: bool
    library: str
    run: Any  # (a, b transposed, c) -> d
    algorithm: dict[str, int] | None
    chosen: str  # "first", "split 4 of first", …

    @property
    def name(self) -> str:
        fast = (" fast" if self.fast else " precise") if self.type == "e4m3" else ""
        return f"{self.type}{fast} -> {self.out}{' + c' if self.c else ''}, {self.chosen}"


def dtypes() -> dict[str, Any]:
    import torch

    return {
        "e4m3": torch.float8_e4m3fn,
        "f16": torch.float16,
        "bf16": torch.bfloat16,
        "tf32": torch.float32,
        "f32": torch.float32,
    }


def typed(code: Any, kind: str) -> Any:
    import torch

    width = {"e4m3": torch.uint8, "f16": torch.int16, "bf16": torch.int16}.get(kind, torch.int32)
    return code.to(width).view(dtypes()[kind])


def bits_of(d: Any) -> Any:
    import torch

    return d.view(torch.int32 if d.element_size() == 4 else torch.int16)


class Prober:
    """A subject as _sum_order asks for it: the rows of a, again and again, over all of the result.

    The result is cut in cells of `rows` rows (of columns, where it has one row), each with every
    row of a; `places` tells cells apart whose results ever differed.
    """

    rows = 64

    def __init__(self, subject: Subject) -> None:
        import torch

        self.s = subject
        m, n, _ = subject.shape
        self.wide = m < self.rows
        self.cells = (1, n // self.rows) if self.wide else (m // self.rows, n)
        self.seen = torch.zeros(self.cells, dtype=torch.int64, device="cuda")
        self.weights = mixed(torch.arange(1, self.rows + 1, device="cuda"))
        self.at = (0, 0)

    def __call__(self, a: np.ndarray, b: np.ndarray, c: np.ndarray | None) -> np.ndarray:
        import torch

        s = self.s
        m, n, k = s.shape
        dtype, out = dtypes()[s.type], dtypes()[s.out]
        x = torch.tensor(a, dtype=torch.float32, device="cuda").to(dtype)
        y = torch.tensor(b, dtype=torch.float32, device="cuda").to(dtype)[None, :]
        word = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[x.element_size()]
        z = None
        if c is not None:
            z = torch.tensor(c, dtype=torch.float32, device="cuda").to(out)
            z = (
                z.repeat(n // self.rows)[None, :]
                if self.wide
                else z.repeat(m // self.rows)[:, None]
            )
            z = z.expand(m, n).contiguous()
        if self.wide:
            left, right = (
                y.expand(m, k).contiguous(),
                x.view(word).repeat(n // self.rows, 1).view(dtype),
            )
        else:
            left = x.view(word).repeat(m // self.rows, 1).view(dtype)
            right = y.view(word).expand(n, k).contiguous().view(dtype)
        d = s.run(left, right, z)
        per_cell = bits_of(d).long()
        if self.wide:
            per_cell = per_cell.view(n // self.rows, self.rows)
            self.seen = mixed(self.seen + (per_cell * self.weights).sum(1)[None, :])
            return d.view(n // self.rows, self.rows)[self.at[1]].float().cpu().numpy()
        per_cell = per_cell.view(m // self.rows, self.rows, n)
        self.seen = mixed(self.seen + (per_cell * self.weights[None, :, None]).sum(1))
        return d.view(m // self.rows, self.rows, n)[self.at[0], :, self.at[1]].float().cpu().numpy()


class Predictor:
    """All elements of a product, by the models of matrix units on the device."""

    def __init__(self, library: Library, s: Subject, data: str) -> None:
        import torch

        self.library, self.s = library, s
        m, n, k = s.shape
        every = torch.arange(k, device="cuda")
        lines = [torch.arange(x, device="cuda") for x in (m, n)]
        codes = [
            operand(lines[i], every, k, seed_of(data, i), s.type, data, i == 0) for i in range(2)
        ]
        self.a, self.b = (typed(x, s.type) for x in codes)
        self.c = None
        if s.c:
            word = addend(lines[0], lines[1], n, seed_of(data, 2)).to(torch.int32)
            self.c = word.view(torch.float32)
        self.code_a = unit_codes(codes[0], s.type).to(torch.int32)
        self.code_b = unit_codes(codes[1], s.type).to(torch.int32).t().contiguous()

    def product(self) -> Any:
        return self.s.run(self.a, self.b, self.c)

    def sums(self, order: SumOrder, rows: int) -> Any:
        import torch

        n = self.s.shape[1]
        a_rows = self.code_a[:rows]

        def chain(places: list[int], block: int, start: Any) -> Any:
            unit = UNITS.get((self.s.type, block))
            if unit == "binary32 fma":
                rows_of_a = self.a[:rows].cpu().numpy()
                lines = self.b[:, places].t().contiguous().cpu().numpy()
                total = np.zeros((len(rows_of_a), n), np.float32)
                if start is not None:
                    total = start.cpu().numpy()
                for row, i in zip(lines, places, strict=True):
                    total = single_fma(rows_of_a[:, [i]], row[None, :], total)
                return torch.tensor(total, device="cuda")
            if unit is None:
                raise LookupError(f"no unit of {self.s.type} has fused sums of {block}")
            low, length = places[0], len(places)
            if places == list(range(low, low + length)):
                a, b = a_rows[:, low : low + length].contiguous(), self.code_b[low : low + length]
            else:
                at = torch.tensor(places, device="cuda")
                a, b = a_rows[:, at].contiguous(), self.code_b[at].contiguous()
            out = torch.empty((len(a_rows), n), dtype=torch.float32, device="cuda")
            start = None if start is None else start.contiguous()
            self.library.call(
                "unit_product", unit, len(a), n, length, a, b, start, out, self.library.stream()
            )
            # The unit's work is in memory of the caller's: keep it until it is done.
            torch.cuda.current_stream().synchronize()
            return out

        def add(x: Any, y: Any) -> Any:
            return x + y

        c = None if self.c is None else self.c[:rows]
        return order.evaluate(chain, add, c).to(dtypes()[self.s.out])


def kernels_of(run: Any) -> list[str]:
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as p:
        run()
        torch.cuda.synchronize()
    names = [e.key for e in p.key_averages()]
    others = ("Memset", "Memcpy", "cu", "Activity")
    return sorted(n.partition("<")[0][:100] for n in names if not n.startswith(others))


def wrong_orders(so: Any, order: SumOrder) -> dict[str, SumOrder]:
    """Orders that a library might have as well, for the data to tell apart."""
    parts = order.parts()
    after = parts[-1].steps == ((so.C,),)
    parts = parts[:-1] if after else parts
    first_block = parts[0].steps[0]
    onto = isinstance(first_block, tuple) and so.C in first_block
    k, block = order.k, max(order.blocks())

    def chain(low: int, high: int) -> Any:
        return so.Chain(
            tuple(tuple(range(i, min(i + block, high))) for i in range(low, high, block))
        )

    def with_c(chains: list[Any], after: bool, onto: bool) -> SumOrder:
        steps = (*chains[0].steps, *chains[1:])
        if onto:
            steps = ((so.C, *steps[0]), *steps[1:])
        return so.SumOrder(k, so.Chain((*steps, (so.C,)) if after else steps))

    half = k // 2 // block * block
    found = {
        "one chain": with_c([chain(0, k)], after, onto),
        "two halves": with_c([chain(0, half), chain(half, k)], after, onto),
    }
    if after or onto:
        plain = [
            so.Chain(tuple(tuple(k for k in s if k != so.C) for s in parts[0].steps)),
            *parts[1:],
        ]
        found["c at the other end"] = with_c(plain, onto, after)
    if len(parts) > 1 and not any(isinstance(s, so.Chain) for p in parts for s in p.steps):
        early = [
            so.Chain(parts[0].steps[:-1]),
            so.Chain((parts[0].steps[-1], *parts[1].steps)),
            *parts[2:],
        ]
        if early[0].steps:
            found["the first cut a block early"] = with_c(early, after, False)
    return {name: wrong for name, wrong in found.items() if wrong.chain != order.chain}


def record_product(so: Any, library: Library, s: Subject) -> dict[str, Any]:
    """Order, prediction and comparison of one product."""
    import torch

    begin = time.time()
    m, n, k = s.shape
    row: dict[str, Any] = {
        "shape": list(s.shape), "type": s.type, "out": s.out, "c": s.c, "library": s.library,
        "name": s.name, "algorithm": s.algorithm, "kernels": [], "order": None,
    }  # fmt: skip
    data = {kind: Predictor(library, s, kind) for kind in KINDS[:1]}
    first = data["spread"].product()
    row["kernels"] = kernels_of(data["spread"].product)
    again = data["spread"].product()
    row["repeats"] = bool(torch.equal(bits_of(first), bits_of(again)))
    f = Prober(s)
    arguments = (RANGES[s.type], RANGES[s.type], RANGES[s.out])
    options = {"with_c": s.c, "grain": 16, "rows": f.rows, "checks": 12}
    try:
        order, row["calls"] = so.probe(f, k, *arguments, **options)
    except so.UnknownOrderError as error:
        row["verdict"] = f"order cannot be known: {str(error)[:600]}"
        classes = torch.unique(f.seen)
        row["kinds_of_places"] = len(classes)
        return row
    classes, of_cell = torch.unique(f.seen, return_inverse=True)
    row["kinds_of_places"] = len(classes)
    if len(classes) > 1:
        row["text"] = str(order)
        row["verdict"] = "order cannot be known: it depends on the place in the result"
        row["cells"] = [int((of_cell == i).sum()) for i in range(min(len(classes), 16))]
        return row
    row |= {"order": packed(order.json()), "compared": 0, "mismatched": 0}
    row["unit"] = [UNITS.get((s.type, b), f"none for blocks of {b}") for b in order.blocks()]
    rng = np.random.default_rng(SEED)
    row["sample"] = {}
    for kind in KINDS:
        p = data.pop(kind, None) or Predictor(library, s, kind)
        d = p.product()
        try:
            wanted = p.sums(order, m)
        except LookupError as error:
            row["verdict"] = f"order known, arithmetic not: {error}"
            row["order"] = None
            return row
        wrong = int((bits_of(d) != bits_of(wanted)).sum())
        row["compared"] += d.numel()
        row["mismatched"] += wrong
        if kind == "spread":
            rows = min(m, 256)
            row["refuted"] = {
                name: int((bits_of(d[:rows]) != bits_of(p.sums(o, rows))).sum()) / (rows * n)
                for name, o in wrong_orders(so, order).items()
            }
            row["special"] = int((~torch.isfinite(d)).sum())
        rows = np.sort(rng.choice(m, min(m, 8), replace=False))
        columns = np.sort(rng.choice(n, 64 if m == 1 else 8, replace=False))
        part = bits_of(d)[torch.tensor(rows, device="cuda")][
            :, torch.tensor(columns, device="cuda")
        ]
        width = 8 if s.out == "f32" else 4
        mask = (1 << (4 * width)) - 1
        row["sample"][kind] = {
            "rows": rows.tolist(),
            "columns": columns.tolist(),
            "bits": "".join(f"{int(x) & mask:0{width}x}" for x in part.flatten().tolist()),
        }
    row["verdict"] = "predicted" if row["mismatched"] == 0 else "mispredicted"
    row["seconds"] = round(time.time() - begin, 2)
    return row


def lt_subjects(library: Library, shape: tuple[int, int, int], few: bool) -> Any:
    """cuBLASLt's products: the heuristic's first algorithm, others of it that cut K or have another
    tile, and the first one made to cut K."""
    import torch

    m, n, k = shape
    cases = [("e4m3", True, "f32"), ("e4m3", False, "f32"), ("f16", False, "f32"), ("bf16", False, "f32"), ("tf32", False, "f32"),
             ("e4m3", True, "bf16"), ("e4m3", False, "bf16"), ("f16", False, "f16"), ("bf16", False, "bf16")]  # fmt: skip
    for kind, fast, out in cases:
        for c in (False, True) if out == "f32" else (False,):
            opened = (
                kind,
                out,
                int(fast),
                m,
                n,
                k,
                int(c),
                library.workspace,
                OFFERED,
                WORKSPACE,
                48,
            )
            count = library.call("lt_open", *opened)
            if count == 0:
                yield f"cuBLASLt has no algorithm for {kind} -> {out}, {shape}"
                continue

            def run(a: Any, b: Any, z: Any, algorithm: int, out: str = out) -> Any:
                d = torch.empty((m, n), dtype=dtypes()[out], device="cuda")
                library.call("lt_run", algorithm, a, b, z, d, library.stream())
                return d

            facts = [library.describe(i) for i in range(count)]
            chosen = {"first": 0}
            if not c:
                cut = [i for i in range(1, count) if facts[i]["splitk"] > 1]
                if cut:
                    chosen["first that cuts K"] = cut[0]
                tiles = {facts[0]["tile"]}
                for i in range(1, count):
                    if (
                        len(tiles) < (2 if few or out != "f32" else 3)
                        and facts[i]["tile"] not in tiles
                    ):
                        tiles.add(facts[i]["tile"])
                        chosen.setdefault(f"no. {i + 1}", i)
                for parts, scheme, how in (
                    (4, 2, "binary32"),
                    (3, 4, "the result's type"),
                    (2, 1, "in place"),
                ):
                    if out == "f32" and scheme == 4:
                        continue
                    for i in range(min(count, 8)):
                        try:
                            number = library.call("lt_split", i, parts, scheme)
                        except RuntimeError:
                            continue
                        chosen[f"no. {i + 1} cut in {parts}, {how}"] = number
                        break
            used = set()
            for name, i in chosen.items():
                if i in used:
                    continue
                used.add(i)
                yield Subject(
                    shape, kind, fast, out, c, "cuBLASLt",
                    lambda a, b, z, i=i, run=run: run(a, b, z, i), library.describe(i), name,
                )  # fmt: skip


def torch_subjects(shape: tuple[int, int, int]) -> Any:
    import torch

    one = torch.ones((), device="cuda")
    for kind in ("f16", "bf16"):
        for out in ("f32", kind):

            def mm(a: Any, b: Any, z: Any, out: str = out, kind: str = kind) -> Any:
                if out == kind:
                    return torch.mm(a, b.t())
                return torch.mm(a, b.t(), out_dtype=torch.float32)

            yield Subject(shape, kind, False, out, False, "torch", mm, None, "mm")
    for c, name in ((False, "mm"), (True, "addmm")):

        def single(a: Any, b: Any, z: Any) -> Any:
            return torch.mm(a, b.t()) if z is None else torch.addmm(z, a, b.t())

        yield Subject(shape, "tf32", False, "f32", c, "torch", single, None, name)
    for fast in (True, False):
        for out in ("f32", "bf16"):

            def scaled(a: Any, b: Any, z: Any, fast: bool = fast, out: str = out) -> Any:
                return torch._scaled_mm(
                    a, b.t(), one, one, out_dtype=dtypes()[out], use_fast_accum=fast
                )

            yield Subject(shape, "e4m3", fast, out, False, "torch", scaled, None, "_scaled_mm")


def record(args: argparse.Namespace) -> None:
    import torch

    so = load_sum_order()
    torch.backends.cuda.matmul.allow_tf32 = True
    library = Library(args.library)
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    table: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "driver": driver,
        "toolkit": torch.version.cuda,
        "torch": torch.__version__,
        "cublasLt": int(library.lib.lt_version()),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "products": [],
        "absent": [],
    }
    begin = time.time()
    for shape in (*SHAPES, *BESIDE):
        if args.shape and list(shape) != args.shape:
            continue
        makers = [torch_subjects]
        if shape in SHAPES:
            makers.append(lambda x: lt_subjects(library, x, args.few))
        for make in makers:
            for s in make(shape):
                if isinstance(s, str):
                    table["absent"].append(s)
                    print(s)
                    continue
                if args.only and args.only not in s.name:
                    continue
                if time.time() - begin > args.seconds:
                    print("out of time before", s.library, s.name, s.shape)
                    break
                try:
                    row = record_product(so, library, s)
                except RuntimeError as error:
                    row = {"verdict": f"failed: {error}", "shape": list(shape), "name": s.name}
                    row |= {"library": s.library, "order": None, "type": s.type, "out": s.out}
                table["products"].append(row)
                shown = {x: y for x, y in row.items() if x not in ("order", "sample", "shape")}
                print(
                    f"{time.time() - begin:6.1f}",
                    shape,
                    json.dumps(shown)[: args.width],
                    flush=True,
                )
                args.path.write_text(compact(table), encoding="utf-8")
    totals = [sum(r.get(x, 0) for r in table["products"]) for x in ("compared", "mismatched")]
    print(len(table["products"]), "products, compared", totals[0], "mismatched", totals[1])


def compact(table: dict[str, Any]) -> str:
    """JSON, a product a line."""
    head = {k: v for k, v in table.items() if k != "products"}
    lines = ",\n".join(json.dumps(r, separators=(",", ":")) for r in table["products"])
    return json.dumps(head)[:-1] + ', "products": [\n' + lines + "\n]}\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("record", "check", "table"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--library")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--shape", type=int, nargs=3)
    parser.add_argument("--only")
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--width", type=int, default=100000)
    given = parser.parse_args()
    if given.command == "record":
        record(given)
    elif given.command == "table":
        text = table_of(given.path)
        print(text, end="")
        if given.page is not None:
            head, _, rest = given.page.read_text(encoding="utf-8").partition(MARKS[0])
            tail = rest.partition(MARKS[1])[2]
            given.page.write_text(f"{head}{MARKS[0]}{text}{MARKS[1]}{tail}", encoding="utf-8")
    else:
        compared, mismatched = check(given.path)
        print(f"{given.path}: compared {compared}, mismatched {mismatched}")
        sys.exit(mismatched != 0)
