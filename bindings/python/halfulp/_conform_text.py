"""A conformance run as text and as a figure: the table by family, the verdict, single cases with
their bits."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from halfulp import _conform_records as recs
from halfulp._conform_records import Record, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Bits of sign, exponent, significand.
FIELDS = {
    "float32": (1, 8, 23),
    "float64": (1, 11, 52),
    "float16": (1, 5, 10),
    "bfloat16": (1, 8, 7),
    "float8_e4m3fn": (1, 4, 3),
    "float8_e5m2": (1, 5, 2),
    "float8_e8m0fnu": (0, 8, 0),
    "float4_e2m1fn": (1, 2, 1),
}
_FAILURES_SHOWN = 5


@dataclass(frozen=True)
class Family:
    """The cases of one family in one variant, in total."""

    variant: str
    name: str
    cases: int
    outcomes: dict[str, int]
    elements: int
    max_ulp: float
    max_ratio: float
    baseline_multiple: float
    mean_signed: tuple[float, float]  # over cases, and half the width of its 95 % interval
    histogram: dict[str, int]

    @property
    def judged(self) -> bool:
        return bool(self.histogram) or self.outcomes["pass"] > 0


def families(records: Iterable[Record]) -> list[Family]:
    """In the order in which they came."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for case in recs.of_type(records, "case"):
        groups.setdefault((case["variant"], case["family"]), []).append(case)
    return [_family(variant, name, cases) for (variant, name), cases in groups.items()]


def _family(variant: str, name: str, cases: Sequence[Record]) -> Family:
    return Family(
        variant,
        name,
        len(cases),
        {o: sum(c["outcome"] == o for c in cases) for o in recs.OUTCOMES},
        sum(c["elements"] for c in cases),
        recs.largest(c.get("max_ulp") for c in cases),
        recs.largest(c.get("max_ratio") for c in cases),
        recs.largest(c.get("baseline_multiple") for c in cases),
        interval([number(c.get("mean_signed_ulp")) for c in cases]),
        add_histograms(c.get("histogram", {}) for c in cases),
    )


def interval(values: Iterable[float]) -> tuple[float, float]:
    """The mean of the finite ones, and half the width of its 95 % confidence interval (Student's
    t); NaN where there are too few."""
    finite = [v for v in values if math.isfinite(v)]
    n = len(finite)
    if n == 0:
        return math.nan, math.nan
    mean = math.fsum(finite) / n
    if n == 1:
        return mean, math.nan
    from scipy.special import stdtrit

    variance = math.fsum((v - mean) ** 2 for v in finite) / (n - 1)
    return mean, float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n)


def add_histograms(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Counts by the upper edge of the bin, in ulp, edges ascending."""
    total: dict[str, int] = {}
    for part in parts:
        for edge, n in part.items():
            total[edge] = total.get(edge, 0) + n
    return dict(sorted(total.items(), key=lambda item: float(item[0])))


_LAST = 1024.0  # ulp; beyond it the bins are one


def coarse(histogram: dict[str, int]) -> dict[str, int]:
    """The histogram in bins for a picture: 0, ½, 1, 2, 4 … as far as there are results, all errors
    above 1024 ulp in `more`, and `inf`."""
    edges = {"0": 0.0, "0.5": 0.5} | {f"{2**k}": 2.0**k for k in range(11)}
    finite = [float(e) for e in histogram if e != "inf"]
    bins = {e: 0 for e, x in edges.items() if x <= max([*finite, 2.0])}
    for edge, n in histogram.items():
        x = float(edge)
        name = "inf" if math.isinf(x) else "more" if x > _LAST else edge
        bins[name] = bins.get(name, 0) + n
    return {e: bins[e] for e in (*edges, "more", "inf") if e in bins}


def short(x: float) -> str:
    """Three digits."""
    if math.isnan(x):
        return "–"
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    return f"{x:.3g}"


def verdict(records: Sequence[Record]) -> str:
    """One sentence."""
    run, s = recs.of_type(records, "run")[0], recs.of_type(records, "summary")[0]
    checks = [c for c in recs.of_type(records, "check") if c.get("promised", True)]
    failed = [c["name"] for c in checks if c["outcome"] == "fail"]
    kept = [c["name"] for c in checks if c["outcome"] == "pass"]
    parts = [f"{s['fail']} of {s['cases']} cases fail"] if s["fail"] else []
    parts += [f"{', '.join(failed)} not kept"] if failed else []
    if s["outcome"] == "pass":
        parts = [f"{s['pass']} of {s['cases']} cases keep the promise {run['promise']}"]
        if s["pass"] == 0:  # such a promise is not one of single cases
            parts = [f"{', '.join(kept)} kept"]
    for key in ("waived", "unsupported", "not_evidenced"):
        if s[key]:
            parts.append(f"{s[key]} {key.replace('_', ' ')}")
    return f"{s['outcome'].upper()}: {'; '.join(parts) or 'nothing was judged'}"


def _row(
    variant: str, family: str, counts: tuple[int, ...], numbers: tuple[float, ...] | None
) -> str:
    cases, passed, failed, other = counts
    ulp, bound, baseline = ("–",) * 3 if numbers is None else map(short, numbers)
    return (
        f"{variant:18} {family:22} {cases:6} {passed:6} {failed:5} {other:5} "
        f"{ulp:>8} {bound:>8} {baseline:>11}"
    )


def table(records: Sequence[Record]) -> str:
    """The run in lines: what was asked, a row per family, checks, failures, the verdict."""
    run, summary = recs.of_type(records, "run")[0], recs.of_type(records, "summary")[0]
    out = [
        f"suite {run['suite']} {run['suite_version']}, level {run['level']}; "
        f"kernel {run['kernel'].get('name', '')}; promise {run['promise']}",
        f"{'variant':18} {'family':22} {'cases':>6} {'pass':>6} {'fail':>5} {'other':>5} "
        f"{'max ulp':>8} {'of bound':>8} {'of baseline':>11}",
    ]
    for variant, group in groupby(families(records), key=lambda f: f.variant):
        rows = list(group)
        cases = sum(f.cases for f in rows)
        if cases == sum(f.outcomes.get("unsupported", 0) for f in rows):
            out.append(_row(variant, "unsupported", (cases, 0, 0, cases), None))
            continue
        for f in rows:
            passed, failed = f.outcomes["pass"], f.outcomes["fail"]
            numbers = (f.max_ulp, f.max_ratio, f.baseline_multiple) if f.judged else None
            counts = (f.cases, passed, failed, f.cases - passed - failed)
            out.append(_row(variant, f.name, counts, numbers))
    for c in recs.of_type(records, "check"):
        p = number(c.get("p_value"))
        about = c["reason"] or f"{c['cases']} cases"
        shown = "" if math.isnan(p) else f", p = {short(p)}"
        if c.get("promised", True):
            out.append(f"{'check':18} {c['name']:22} {c['outcome']}: {about}{shown}")
    bad = [c for c in recs.of_type(records, "case") if c["outcome"] == "fail"]
    for c in bad[:_FAILURES_SHOWN]:
        out += [f"{c['id']}: {c['reason']}", f"    {c['replay']}"]
    if len(bad) > _FAILURES_SHOWN:
        out.append(f"… and {len(bad) - _FAILURES_SHOWN} more")
    out += summary.get("idle_waivers", [])
    if run.get("variants_not_asked"):
        out.append(f"variants not asked for: {', '.join(run['variants_not_asked'])}")
    out.append(f"strength of the suite: {recs.strength_sentence(summary)}")
    out.append(verdict(records))
    return "\n".join(out)


# ---------------------------------------------------------------- single results
def element_of(record: Record) -> str:
    """The element type of the worst result, "" where the record does not say."""
    element = record["worst"].get("element")
    if element is not None:
        return str(element)
    last = str(record["variant"]).rpartition(":")[2]
    width = 4 * (len(record["worst"]["got"]) - 2)
    return last if sum(FIELDS.get(last, ())) == width else ""


def bits_of(code: str, element: str) -> list[str]:
    """Sign, exponent and significand in binary, or all bits in one."""
    width = 4 * (len(code) - 2)
    sizes: tuple[int, ...] = FIELDS.get(element, (width,))
    text = f"{int(code, 16):0{sum(sizes)}b}"
    parts, start = [], 0
    for size in sizes:
        parts.append(text[start : start + size])
        start += size
    return parts


def value_of(code: str, element: str) -> str:
    """The number that a code stands for, "" where the element type is not known."""
    sizes = FIELDS.get(element)
    if sizes is None:
        return ""
    bits = int(code, 16)
    if element in ("float32", "float16", "float64", "bfloat16"):
        if element == "bfloat16":
            bits, element = bits << 16, "float32"
        kinds = {"float32": ("f", "I"), "float16": ("e", "H"), "float64": ("d", "Q")}
        kind, integer = kinds[element]
        (x,) = struct.unpack("<" + kind, struct.pack("<" + integer, bits))
        return f"{x:.{9 if element != 'float64' else 17}g}"
    from halfulp._elementwise import decode

    x = decode(bits, element)
    return f"{float(x):g}"


def case_lines(record: Record) -> list[str]:
    """One case: outcome, and its worst result with the bits below each other."""
    out = [f"{record['id']}: {record['outcome']}"]
    if record["reason"]:
        out.append(f"  {record['reason']}")
    shapes = ", ".join(f"{n} {tuple(s)}" for n, s in record.get("shapes", {}).items())
    out.append(f"  inputs {shapes}; {record['elements']} results")
    worst = record.get("worst")
    if worst:
        element = element_of(record)
        place = f"{worst['output']}[{', '.join(map(str, worst['index']))}]"
        rows = [" ".join(bits_of(worst[key], element)) for key in ("got", "expected")]
        marks = "".join("^" if a != b else " " for a, b in zip(*rows, strict=True))
        out.append(
            f"  {place}, {element}: sign, exponent, significand" if element else f"  {place}"
        )
        for key, row in zip(("got", "expected"), rows, strict=True):
            out.append(f"  {key:9} {row}  {worst[key]}  {value_of(worst[key], element)}".rstrip())
        if marks.strip():
            out.append(f"  {'':9} {marks.rstrip()}")
        out.append(
            f"  exact {worst['reference']}; {short(number(worst['ulp']))} ulp off, "
            f"{short(number(worst['ratio']))} of the bound"
        )
    out.append(f"  replay: {record['replay']}")
    return out


def figure(records: Sequence[Record]) -> Figure:
    """How many results of each family lie how far off: a map of families and ulp."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm

    rows = [f for f in families(records) if f.histogram]
    shown = [coarse(f.histogram) for f in rows]
    edges = list(coarse(add_histograms(f.histogram for f in rows)))
    fig, axes = plt.subplots(figsize=(2.5 + 0.55 * max(len(edges), 6), 1.6 + 0.32 * len(rows)))
    counts: list[list[Any]] = [[part.get(e, 0) or math.nan for e in edges] for part in shown]
    if counts:
        most = max(max(part.values()) for part in shown)
        image = axes.imshow(counts, norm=LogNorm(1, max(most, 2)), cmap="cividis_r", aspect="auto")
        fig.colorbar(image, ax=axes, label="results")
    axes.set_xticks(range(len(edges)), [edge.replace("inf", "∞") for edge in edges])
    axes.set_yticks(range(len(rows)), [f"{f.variant}  {f.name}" for f in rows])
    axes.set(xlabel="error, at most / ulp", ylabel="variant and family")
    run = recs.of_type(records, "run")[0]
    axes.set_title(
        f"{run['suite']}: {run['kernel'].get('name', '')}", loc="left", fontsize="medium"
    )
    fig.tight_layout()
    return fig
