"""Pictures of a conformance run as SVG text for a page: they take their colours from its style, and
each has its content as a text alternative."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from halfulp._conform_text import bits_of, short

_BEYOND = ("more", "inf")
_SHAPES = ("circle", "square", "diamond", "triangle")


def _svg(width: float, height: float, label: str, body: str, kind: str = "") -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{html.escape(label)}">{body}</svg>'
    )


def _edge(text: str) -> str:
    return {"inf": "∞, NaN", "0.5": "½", "more": "more"}.get(text, text)


def spoken(histogram: dict[str, int]) -> str:
    """A histogram as a sentence: counts at upper edges in ulp."""
    return ", ".join(f"{n} at {_edge(e)}" for e, n in histogram.items() if n) or "nothing judged"


def small_histogram(histogram: dict[str, int], edges: Sequence[str]) -> str:
    """Bars over common edges; heights by the logarithm of the counts."""
    most = max(histogram.values(), default=1)
    step, height = 9, 24
    body = f'<path class="axis" d="M0 {height + 0.5}H{step * len(edges)}"/>'
    for i, edge in enumerate(edges):
        n = histogram.get(edge, 0)
        if n:
            tall = 3 + (height - 3) * math.log1p(n) / math.log1p(most)
            body += (
                f'<rect class="bar{" beyond" if edge == "inf" else ""}" x="{step * i + 1}" '
                f'y="{height - tall:.1f}" width="{step - 2}" height="{tall:.1f}"/>'
            )
    return _svg(step * max(len(edges), 1), height + 2, spoken(histogram), body, "small")


def histogram(counts: dict[str, int], label: str) -> str:
    """One histogram with its axes: upper edges in ulp, counts on a logarithmic scale."""
    left, top, height, step = 8, 18, 110, 46
    width = left + step * len(counts) + 4
    most = max(counts.values(), default=1)
    body = f'<path class="axis" d="M{left} {top + height + 0.5}H{width}"/>'
    for i, (edge, n) in enumerate(counts.items()):
        tall = 2 + (height - 2) * math.log1p(n) / math.log1p(max(most, 1))
        x = left + step * i
        if n:
            body += (
                f'<rect class="bar{" beyond" if edge == "inf" else ""}" x="{x + 3}" '
                f'y="{top + height - tall:.1f}" width="{step - 6}" height="{tall:.1f}"/>'
            )
        body += (
            f'<text class="count" x="{x + step / 2}" y="{top + height - tall - 4:.1f}">{n:,}</text>'
            f'<text class="tick" x="{x + step / 2}" y="{top + height + 15}">'
            f"{'' if edge in ('0', *_BEYOND) else '≤ '}{_edge(edge)}</text>"
        )
    middle, foot = left + step * len(counts) / 2, top + height + 33
    body += f'<text class="tick" x="{middle}" y="{foot}">error / ulp</text>'
    return _svg(width, top + height + 40, f"{label}: {spoken(counts)}", body)


def bits(got: str, expected: str, element: str) -> str:
    """The bits of two codes below each other: sign, exponent, significand; those that differ are
    framed and marked."""
    rows = [bits_of(code, element) for code in (got, expected)]
    names = ("sign", "exponent", "significand") if len(rows[0]) == 3 else ("bits",)
    count = sum(map(len, rows[0]))
    cell, gap, left, top = (13 if count <= 32 else 9), 6, 62, 18
    body, x, differing = "", float(left), 0
    for name, a, b in zip(names, *rows, strict=True):
        if len(a) * cell > 7 * len(name):
            body += f'<text class="field" x="{x}" y="12">{name}</text>'
        for one, other in zip(a, b, strict=True):
            differs = one != other
            differing += differs
            for row, bit in enumerate((one, other)):
                y = top + row * (cell + 5)
                kind = name + (" one" if bit == "1" else "") + (" differs" if differs else "")
                body += (
                    f'<rect class="{kind}" x="{x + 0.5:g}" y="{y + 0.5}" '
                    f'width="{cell - 1}" height="{cell - 1}"/>'
                    f'<text class="bit{" one" if bit == "1" else ""}" x="{x + cell / 2:g}" '
                    f'y="{y + cell - 3}">{bit}</text>'
                )
            if differs:
                y = top + 2 * (cell + 5)
                body += f'<path class="mark" d="M{x + cell / 2:g} {y - 2}l4 6h-8z"/>'
            x += cell
        x += gap
    for row, word in enumerate(("got", "expected")):
        y = top + row * (cell + 5) + cell - 3
        body += f'<text class="row" x="{left - 6}" y="{y}">{word}</text>'
    spaced = [" ".join(row) for row in rows]
    label = f"got {spaced[0]}, expected {spaced[1]}; {differing} of {count} bits differ"
    return _svg(x + 2, top + 2 * (cell + 5) + 6, label, body, "bits")


def _marker(shape: str, colour: int, x: float, y: float) -> str:
    kind = f'class="point c{colour}"'
    if shape == "circle":
        return f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="3.4"/>'
    if shape == "square":
        return f'<rect {kind} x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"/>'
    if shape == "diamond":
        return f'<path {kind} d="M{x:.1f} {y - 4.4:.1f}l4.4 4.4l-4.4 4.4l-4.4 -4.4z"/>'
    return f'<path {kind} d="M{x:.1f} {y - 4:.1f}l4.2 7.4h-8.4z"/>'


def scatter(points: dict[str, list[tuple[float, float]]], x_name: str, y_name: str) -> str:
    """Points of named groups on logarithmic axes; infinite ones
    lie on the upper edge, those below 0.001 on the lower."""
    width, height, left, top = 620.0, 260.0, 62.0, 12.0
    right, foot = width - 22, height - 46
    every = [p for group in points.values() for p in group]
    xs = [x for x, _ in every if x > 0]
    ys = [y for _, y in every if 0 < y < math.inf]
    if not xs or not ys:
        return ""
    x0, x1 = _decades(xs)
    y0, y1 = _decades([1e-3, *(y for y in ys if y > 1e-3)])

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(max(x, 10.0**x0)) - x0) / (x1 - x0)
        y = min(max(y, 10.0**y0), 10.0**y1)
        return left + across * (right - left), foot - (math.log10(y) - y0) / (y1 - y0) * (
            foot - top
        )

    body = ""
    for k in range(x0, x1 + 1):
        x = at(10.0**k, 1)[0]
        body += (
            f'<path class="grid" d="M{x:.1f} {top}V{foot}"/>'
            f'<text class="tick" x="{x:.1f}" y="{foot + 16}">{_power(k)}</text>'
        )
    every_nth = max(1, (y1 - y0) // 6)
    for k in range(y0, y1 + 1, every_nth):
        y = at(1, 10.0**k)[1]
        body += (
            f'<path class="grid" d="M{left} {y:.1f}H{right}"/>'
            f'<text class="tick end" x="{left - 6}" y="{y + 4:.1f}">{_power(k)}</text>'
        )
    body += f'<text class="tick" x="{(left + right) / 2}" y="{height - 12}">{x_name}</text>'
    middle = (top + foot) / 2
    turned = f'transform="rotate(-90 14 {middle})"'
    body += f'<text class="tick" x="14" y="{middle}" {turned}>{y_name}</text>'
    for i, group in enumerate(points.values()):
        for x, y in group:
            body += _marker(_SHAPES[i // 8 % 4], i % 8, *at(x, y))
    label = f"{y_name} against {x_name}; " + "; ".join(
        f"{name}: largest {short(max((y for _, y in group), default=0))}"
        for name, group in points.items()
    )
    return _svg(width, height, label, body, "wide")


def key(names: Sequence[str]) -> str:
    """What the markers of `scatter` mean."""
    items = ""
    for i, name in enumerate(names):
        mark = _svg(12, 12, "", _marker(_SHAPES[i // 8 % 4], i % 8, 6, 6))
        items += f"<li>{mark} {html.escape(name)}</li>"
    return items


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _power(k: int) -> str:
    if -1 <= k <= 3:
        return f"{10.0**k:g}"
    return f'10<tspan dy="-4" font-size="8">{str(k).replace("-", "−")}</tspan>'


def whiskers(rows: Sequence[tuple[str, float, float]], x_name: str) -> str:
    """Means with their intervals (half widths) about zero, a row each."""
    left, width, step = 200.0, 620.0, 20
    reach = max((abs(m) + (0 if math.isnan(h) else h) for _, m, h in rows), default=0) or 1.0
    middle, scale = (left + width - 12) / 2, (width - left - 24) / 2 / reach
    foot = step * len(rows) + 8
    body = f'<path class="axis" d="M{middle} 4V{foot}"/>'
    for i, (name, mean, half) in enumerate(rows):
        y = 4 + step * i + step / 2
        x = middle + mean * scale
        away = not math.isnan(half) and abs(mean) > half
        body += f'<text class="tick end" x="{left - 8}" y="{y + 4}">{html.escape(name)}</text>'
        if not math.isnan(half):
            body += (
                f'<path class="whisker" d="M{x - half * scale:.1f} {y}H{x + half * scale:.1f}"/>'
            )
        body += f'<circle class="mean{" away" if away else ""}" cx="{x:.1f}" cy="{y}" r="4"/>'
    for side in (-1, 0, 1):
        body += (
            f'<text class="tick" x="{middle + side * reach * scale:.1f}" y="{foot + 15}">'
            f"{short(side * reach).replace('-', '−')}</text>"
        )
    body += f'<text class="tick" x="{middle}" y="{foot + 32}">{x_name}</text>'
    label = f"{x_name}; " + "; ".join(f"{n}: {short(m)} ± {short(h)}" for n, m, h in rows)
    return _svg(width, foot + 40, label, body, "wide")
