"""Times other emulators beside halfulp: one process, one thread, the same inputs, taken in turn.

    python tests/peers/speed.py [--rounds N] [--elements N] [--only PART ...] [--json | --tiny]

Prints a Markdown table of medians: millions of results a second (of products: multiply-adds), and in
brackets how many times faster halfulp is. '-': the peer does not do it, or is not installed. '*': some
results are not halfulp's, which tests/peers/compare.py explains. Every call makes a new result, none is
told where to put it. Stochastic rounding takes 32 random bits from here and from gfloat (drawn by NumPy,
which is timed), doubles in pychop, and apytypes' own. Blocks are quantised and turned into values again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from compare import APY_MODES, CHOP_MODES, IEEE_SHAPES, codes_of, gfloat_formats

import halfulp as hu

Array = np.ndarray[Any, Any]
PARTS = ("round", "encode", "decode", "arithmetic", "matmul", "blocks")
PEERS = ("ml_dtypes", "numpy", "gfloat", "pychop", "apytypes")
MODES = ("nearest-even", "up", "stochastic")
RANDOM_BITS = 32
ML = {"float8_e4m3fn", "float8_e5m2", "bfloat16"}  # with a dtype of ml_dtypes


@dataclass
class Row:
    """One operation: ours and theirs, each a function of nothing that makes the result."""

    part: str
    what: str
    format: str
    rounding: str
    elements: int
    ours: Callable[[], Any]
    theirs: dict[str, Callable[[], Any]] = field(default_factory=dict)


def installed(peer: str) -> bool:
    return importlib.util.find_spec(peer) is not None


def normal(n: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def ml_dtype(name: str) -> Any:
    import ml_dtypes

    return getattr(ml_dtypes, name)


def rounder_of_gfloat(name: str, mode: str) -> Callable[[Array], Array]:
    import gfloat

    peer = gfloat_formats()[name]
    if mode == "stochastic":
        rng = np.random.default_rng(1)

        def stochastic(x: Array) -> Array:
            bits = rng.integers(0, 1 << RANDOM_BITS, x.shape, dtype=np.int64)
            how = gfloat.RoundMode.StochasticFastest
            return gfloat.round_ndarray(peer, x, how, srbits=bits, srnumbits=RANDOM_BITS)

        return stochastic
    how = {
        "nearest-even": gfloat.RoundMode.TiesToEven,
        "up": gfloat.RoundMode.TowardPositive,
    }[mode]
    return lambda x: gfloat.round_ndarray(peer, x, how)


def rounder_of_pychop(name: str, mode: str) -> Callable[[Array], Array]:
    import pychop

    pychop.backend("numpy")
    e, m = IEEE_SHAPES[name]
    rmode = 5 if mode == "stochastic" else CHOP_MODES[mode]
    return pychop.Chop(exp_bits=e, sig_bits=m, rmode=rmode)


def rounding(n: int) -> Iterator[Row]:
    x = normal(n, 1)
    for name in ("float8_e4m3fn", "float8_e5m2", "bfloat16", "binary16"):
        for mode in MODES:
            how = {"seed": 1, "random_bits": RANDOM_BITS} if mode == "stochastic" else {}
            row = Row(
                "round",
                "round",
                name,
                mode,
                n,
                lambda f=name, m=mode, h=how: hu.round(x, f, m, **h),
            )
            if mode == "nearest-even" and name in ML:
                dtype = ml_dtype(name)
                row.theirs["ml_dtypes"] = lambda d=dtype: x.astype(d).astype(np.float32)
            if mode == "nearest-even" and name == "binary16":
                row.theirs["numpy"] = lambda: x.astype(np.float16).astype(np.float32)
            row.theirs["gfloat"] = partial(rounder_of_gfloat(name, mode), x)
            if name in IEEE_SHAPES and installed("pychop"):
                row.theirs["pychop"] = partial(rounder_of_pychop(name, mode), x)
            if name in IEEE_SHAPES and installed("apytypes"):
                import apytypes as apy

                given = apy.APyFloatArray.from_array(x, 8, 23)
                to = "STOCH_WEIGHTED" if mode == "stochastic" else APY_MODES[mode]
                quantization = getattr(apy.QuantizationMode, to)
                row.theirs["apytypes"] = partial(
                    given.cast, *IEEE_SHAPES[name], quantization=quantization
                )
            yield row


def encoding(n: int) -> Iterator[Row]:
    import gfloat

    x = normal(n, 2)
    for name in ("float8_e4m3fn", "float8_e5m2", "bfloat16", "binary16"):
        row = Row("encode", "encode", name, "nearest-even", n, lambda f=name: hu.encode(x, f))
        if name in ML:
            row.theirs["ml_dtypes"] = partial(x.astype, ml_dtype(name))
        else:
            row.theirs["numpy"] = partial(x.astype, np.float16)
        peer, to = gfloat_formats()[name], rounder_of_gfloat(name, "nearest-even")
        row.theirs["gfloat"] = lambda p=peer, r=to: gfloat.encode_ndarray(p, r(x))
        if name in IEEE_SHAPES and installed("apytypes"):
            import apytypes as apy

            row.theirs["apytypes"] = lambda s=IEEE_SHAPES[name]: apy.APyFloatArray.from_array(
                x, *s
            ).to_bits(numpy=True)
        yield row


def decoding(n: int) -> Iterator[Row]:
    import gfloat

    for name in ("float8_e4m3fn", "float8_e5m2", "bfloat16", "binary16"):
        codes = hu.encode(normal(n, 3), name)
        row = Row("decode", "decode", name, "", n, lambda f=name, c=codes: hu.decode(c, f))
        if name in ML:
            narrow = codes.view(ml_dtype(name))
            row.theirs["ml_dtypes"] = lambda v=narrow: v.astype(np.float32)
        else:
            row.theirs["numpy"] = lambda c=codes: c.view(np.float16).astype(np.float32)
        row.theirs["gfloat"] = partial(gfloat.decode_ndarray, gfloat_formats()[name], codes)
        if name in IEEE_SHAPES and installed("apytypes"):
            import apytypes as apy

            row.theirs["apytypes"] = lambda s=IEEE_SHAPES[name], c=codes: (
                apy.APyFloatArray.from_bits(c, *s).to_numpy()
            )
        yield row


def arithmetic(n: int) -> Iterator[Row]:
    """Operands are numbers of the format, held by each in its own way."""
    for name, ours in (
        ("bfloat16", hu.add),
        ("bfloat16", hu.mul),
        ("binary16", hu.add),
        ("binary16", hu.mul),
    ):
        what = ours.__name__
        two = [hu.round(normal(n, k), name) for k in (4, 5)]
        a, b = (
            v.astype(np.float16) if name == "binary16" else v.astype(ml_dtype(name)) for v in two
        )
        operator = {"add": np.add, "mul": np.multiply}[what]
        row = Row(
            "arithmetic", what, name, "nearest-even", n, lambda o=ours, u=a, v=b, f=name: o(u, v, f)
        )
        row.theirs["numpy" if name == "binary16" else "ml_dtypes"] = lambda o=operator, u=a, v=b: o(
            u, v
        )
        # A sum or product of binary32, rounded again, is the exact one rounded once: 24 ≥ 2 · 11 + 2.
        to = rounder_of_gfloat(name, "nearest-even")
        row.theirs["gfloat"] = lambda o=operator, t=two, r=to: r(o(*t))
        if installed("pychop"):
            chop = rounder_of_pychop(name, "nearest-even")
            row.theirs["pychop"] = lambda o=operator, t=two, r=chop: r(o(*t))
        if installed("apytypes"):
            import apytypes as apy

            u, v = (apy.APyFloatArray.from_array(w, *IEEE_SHAPES[name]) for w in two)
            row.theirs["apytypes"] = {"add": lambda u=u, v=v: u + v, "mul": lambda u=u, v=v: u * v}[
                what
            ]
        yield row


def products(side: int) -> Iterator[Row]:
    """side × side × side, each product and sum rounded, in the order of k; where a peer has no such
    product, by outer products.
    """
    name = "bfloat16"
    a, b = (hu.round(normal(side * side, k), name).reshape(side, side) for k in (6, 7))

    def by_outer_products(to: Callable[[Array], Array]) -> Array:
        total = to(a[:, :1] * b[:1])
        for k in range(1, side):
            total = to(total + to(a[:, k : k + 1] * b[k]))
        return total

    def with_ml_dtypes() -> Array:
        u, v = a.astype(ml_dtype(name)), b.astype(ml_dtype(name))
        total = u[:, :1] * v[:1]
        for k in range(1, side):
            total = total + u[:, k : k + 1] * v[k]
        return total

    row = Row(
        "matmul", f"matmul {side}³", name, "nearest-even", side**3,
        lambda: hu.matmul(a, b, product=name, accumulate=name, order="sequential"),
        {"ml_dtypes": with_ml_dtypes},
    )  # fmt: skip
    row.theirs["gfloat"] = partial(by_outer_products, rounder_of_gfloat(name, "nearest-even"))
    if installed("pychop"):
        row.theirs["pychop"] = partial(by_outer_products, rounder_of_pychop(name, "nearest-even"))
    if installed("apytypes"):
        import apytypes as apy

        u, v = (apy.APyFloatArray.from_array(w, *IEEE_SHAPES[name]) for w in (a, b))
        row.theirs["apytypes"] = lambda: u @ v
    yield row


def blocks(n: int) -> Iterator[Row]:
    """Quantised and back again, which is what the peers' functions do, at most 2^14 elements."""
    import gfloat
    from gfloat.formats import format_info_mxfp4_e2m1

    x = normal(n, 8)

    def with_gfloat() -> Array:
        scale = gfloat.compute_scale_amax
        return np.concatenate(
            [gfloat.quantize_block(format_info_mxfp4_e2m1, v, scale) for v in x.reshape(-1, 32)]
        )

    row = Row(
        "blocks",
        "quantize",
        "mxfp4",
        "nearest-even",
        n,
        lambda: hu.quantize(x, "mxfp4").dequantize(),
    )
    row.theirs["gfloat"] = with_gfloat
    if installed("pychop"):
        import pychop

        row.theirs["pychop"] = lambda: pychop.mx_quantize(x, "mxfp4_e2m1", backend="numpy")
    yield row


def rows(parts: list[str], n: int, side: int, few: int) -> Iterator[Row]:
    makers = (rounding, encoding, decoding, arithmetic)
    for part, maker in zip(PARTS, makers, strict=False):
        if part in parts:
            yield from maker(n)
    if "matmul" in parts:
        yield from products(side)
    if "blocks" in parts:
        yield from blocks(few)


def values(result: Any, row: Row) -> Array:
    """A result of anyone as float64; codes are compared as codes."""
    if hasattr(result, "to_numpy"):
        result = result.to_numpy()
    array = np.asarray(result)
    if row.part == "encode":
        array = array.view({1: np.uint8, 2: np.uint16}.get(array.dtype.itemsize, array.dtype))
    return array.astype(np.float64).ravel()


def timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measured(row: Row, rounds: int) -> dict[str, Any]:
    theirs = {peer: row.theirs[peer] for peer in PEERS if peer in row.theirs}
    expected = values(row.ours(), row)
    differ = {}
    for peer, function in theirs.items():
        found = values(function(), row)  # this call warms up, too
        if row.rounding != "stochastic":
            same = codes_of(found) == codes_of(expected)  # -0 is not +0, NaN is NaN
            differ[peer] = int(np.sum(~(same | np.isnan(found) & np.isnan(expected))))
    seconds: dict[str, list[float]] = {who: [] for who in ("halfulp", *theirs)}
    for _ in range(rounds):
        seconds["halfulp"].append(timed(row.ours))
        for peer, function in theirs.items():
            seconds[peer].append(timed(function))
    rates = {who: row.elements / statistics.median(times) for who, times in seconds.items()}
    ours = seconds["halfulp"]
    ratios = {
        peer: statistics.median([t / o for t, o in zip(seconds[peer], ours, strict=True)])
        for peer in theirs
    }
    return {
        "operation": row.what,
        "format": row.format,
        "rounding": row.rounding,
        "elements": row.elements,
        "elements_per_second": rates,
        "halfulp_faster_by": ratios,
        "other_results": differ,
    }


def shown(x: float) -> str:
    return f"{x:.0f}" if x >= 100 else f"{x:.3g}"


def line_of(row: dict[str, Any]) -> str:
    rates, cells = row["elements_per_second"], []
    for peer in PEERS:
        if peer not in rates:
            cells.append("-")
            continue
        mark = "*" if row["other_results"].get(peer) else ""
        cells.append(f"{shown(rates[peer] / 1e6)}{mark} ({shown(row['halfulp_faster_by'][peer])})")
    ours = shown(rates["halfulp"] / 1e6)
    what = ", ".join(filter(None, (row["operation"], row["format"], row["rounding"])))
    return f"| {what} | **{ours}** | {' | '.join(cells)} |"


def versions() -> dict[str, str]:
    found = {"halfulp": hu.__version__, "python": platform.python_version()}
    for peer in PEERS:
        if installed(peer):
            found[peer] = importlib.metadata.version(peer)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="turns of each row (9)")
    parser.add_argument("--elements", type=int, default=1 << 18, help="of an array (2^18), by 32")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART",
                        help=", ".join(PARTS))  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument(
        "--tiny", action="store_true", help="shows that it works; the times mean nothing"
    )
    options = parser.parse_args()
    if options.rounds < 1 or options.elements < 32 or options.elements % 32 != 0:
        parser.error("--rounds must be at least 1, --elements a positive multiple of 32")
    n, side, few, rounds = options.elements, 64, min(options.elements, 1 << 14), options.rounds
    if options.tiny:
        n, side, few, rounds = 1 << 10, 8, 64, 1
    hu.set_threads(1)
    found = versions()
    if not options.json:
        print(", ".join(f"{name} {version}" for name, version in found.items()), end=".\n\n")
        print("| what | halfulp |", " | ".join(PEERS), "|")
        print("|---|---:|" + "---:|" * len(PEERS), flush=True)
    done = []
    with np.errstate(all="ignore"):
        for row in rows(options.only, n, side, few):
            done.append(measured(row, rounds))
            if not options.json:
                print(line_of(done[-1]), flush=True)
    if options.json:
        print(json.dumps({"versions": found, "threads": 1, "rounds": rounds, "rows": done}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
