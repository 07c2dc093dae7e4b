"""The figures of a sweep: the paired gaps, and the overview with all settings in one picture.

Plain matplotlib figures, no global state; losses in nats, held out. Lines also differ in their
marker and carry their name.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .drawing import (
    BASELINE_COLOUR,
    FONT,
    MARKERS,
    SIZE,
    draw_curve,
    dress,
    log_losses,
    loss_curve,
    plain,
    rate_curve,
    rate_ticks,
    styles,
)
from .exponents import draw_exponents
from .panels import draw_curve_panels, draw_sensitivity_panels
from .statistics import Summary

if TYPE_CHECKING:
    from .results import Sweep

MOST_BANDS = 3  # with more settings than this in one picture, bands would hide each other


def overview(sweep: "Sweep") -> Figure:
    """Loss curves and learning-rate sensitivity of all settings, side by side."""
    figure = Figure(figsize=(2 * SIZE[0], SIZE[1]), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_curves(left, sweep)
    draw_sensitivity(right, sweep)
    return figure


def all_figures(sweep: "Sweep") -> dict[str, tuple[Figure, str]]:
    """Name -> (figure, what it shows), as the report has them, if they show anything."""
    drawn = {}
    for name, (draw, caption) in _FIGURES.items():
        figure = draw(sweep)
        if figure is not None:
            drawn[name] = (figure, caption)
    return drawn


def draw_curves(axes: Axes, sweep: "Sweep") -> None:
    """Held-out loss against steps at the baseline's best rate, one line per setting."""
    ends: list[_End] = []
    rates = {row.setting: row.baseline_rate for row in sweep.summaries}
    for setting, style in styles(sweep).items():
        curve = loss_curve(sweep, setting, rates[setting])
        if curve is None:
            continue
        turn = MARKERS.index(style.marker)  # lines that lie on each other show different markers
        draw_curve(axes, curve, style, band=_has_band(sweep, setting), markevery=(turn % 4, 4))
        ends.append(_End(setting, style.colour, curve.last, style.marker))
    log_losses(axes)
    shown = {rate for rate in rates.values() if rate is not None}
    at = f" (learning rate {shown.pop():g})" if len(shown) == 1 else ""
    dress(axes, f"training step{at}", "held-out loss / nats")
    _label_ends(axes, ends)


def draw_sensitivity(axes: Axes, sweep: "Sweep") -> None:
    """Last held-out loss, at most that at initialisation, against the learning rate."""
    ends: list[_End] = []
    for setting, style in styles(sweep).items():
        curve = rate_curve(sweep, setting)
        if curve is None:
            continue
        draw_curve(axes, curve, style, band=_has_band(sweep, setting))
        ends.append(_End(setting, style.colour, curve.last, style.marker))
    if sweep.runs:
        level = float(np.mean([run.initial for run in sweep.runs]))
        axes.axhline(level, color="0.45", linewidth=1, linestyle=(0, (4, 3)))
        ends.append(_End("initialisation", "0.35", level))
    axes.set_xscale("log")
    log_losses(axes)
    rate_ticks(axes, sweep.plan.rates)
    dress(axes, "peak learning rate", "last held-out loss / nats")
    _label_ends(axes, ends)


def draw_gaps(sweep: "Sweep") -> Figure:
    """The paired gaps in a figure that is as high as its settings need."""
    rows = sum(row.setting != row.baseline for row in sweep.summaries)
    figure = Figure(figsize=(SIZE[0], max(2.2, 1.4 + 0.42 * rows)), layout="constrained")
    _draw_gaps(figure.subplots(), sweep)
    return figure


def _draw_gaps(axes: Axes, sweep: "Sweep") -> None:
    """The two paired gaps of every setting that is not a baseline, with their intervals."""
    rows = [row for row in sweep.summaries if row.setting != row.baseline]
    kinds = (("gap", "o", "at the baseline's best rate"), ("mean_gap", "s", "mean over all rates"))
    chosen = styles(sweep)
    for index, row in enumerate(rows):
        for offset, (kind, marker, _) in zip((-0.16, 0.16), kinds, strict=True):
            interval = getattr(row, kind)
            if interval is None:
                continue
            half = 0.0 if math.isnan(interval.half) else interval.half
            colour = chosen[row.setting].colour
            axes.errorbar(
                interval.mean,
                index + offset,
                xerr=half,
                fmt=marker,
                color=colour,
                markerfacecolor=colour if kind == "gap" else "white",
                markersize=6,
                capsize=3,
                linewidth=1.6,
            )
    axes.axvline(0, color=BASELINE_COLOUR, linewidth=1)
    axes.set_yticks(range(len(rows)), [row.setting for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    scale = _gap_scale(axes, rows)
    for _, marker, text in kinds:
        face = "0.3" if marker == "o" else "white"
        axes.plot([], [], marker, color="0.3", markerfacecolor=face, label=text)
    dress(axes, f"loss gap to {sweep.spec.baseline} / nats (right: worse){scale}", "")
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)


def _gap_scale(axes: Axes, rows: Sequence[Summary]) -> str:
    """Logarithmic beyond some +-threshold if the gaps span decades; returns what to say of it."""
    intervals = [i for row in rows for i in (row.gap, row.mean_gap) if i is not None]
    sizes = sorted(abs(i.mean) for i in intervals if i.mean != 0)
    if not sizes or sizes[-1] < 30 * sizes[0]:
        return ""
    threshold = 10 ** math.floor(math.log10(sizes[len(sizes) // 2]))
    largest = max(abs(x) for i in intervals for x in (i.mean, i.low, i.high) if math.isfinite(x))
    decades = [threshold * 10**k for k in range(math.ceil(math.log10(largest / threshold)) + 1)]
    axes.set_xscale("symlog", linthresh=threshold, linscale=0.7)
    axes.xaxis.set_major_locator(FixedLocator([*(-d for d in decades), 0, *decades]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    return f"\nlogarithmic beyond ±{threshold:g}"


def _has_band(sweep: "Sweep", setting: str) -> bool:
    """Whether the spread over seeds is drawn: of every setting if there are few, else baselines."""
    few = len(sweep.settings) <= MOST_BANDS
    return few or (setting, setting) in sweep.settings


@dataclass(frozen=True)
class _End:
    """Where a line ends and what it is called."""

    text: str
    colour: str
    y: float
    marker: str = ""


def _label_ends(axes: Axes, ends: Sequence[_End]) -> None:
    """Writes each line's name and last value beside the right edge, in the order of the values.

    The names are spread so that they do not overlap; so the value is in the text, and the line's
    marker beside it: where lines end close together the leaders alone could mislead.
    """
    if not ends:
        return
    axes.figure.canvas.draw()  # fixes the limits that the positions are computed from
    low, high = np.log(axes.get_ylim())
    ordered = sorted(ends, key=lambda end: end.y)
    gap = 1.25 * FONT / 72 / (SIZE[1] * 0.8)  # a line of text, as a share of the axes' height
    wanted = [(math.log(end.y) - low) / (high - low) for end in ordered]
    for end, own, height in zip(ordered, wanted, _spread(wanted, gap), strict=True):
        drawn = {"color": end.colour, "transform": axes.transAxes, "clip_on": False}
        axes.plot([1.01, 1.065], [own, height], linewidth=0.8, **drawn)
        if end.marker:
            axes.plot([1.09], [height], end.marker, markersize=5, **drawn)
        axes.annotate(
            f"{end.text}  {end.y:#.2g}",
            (1.115 if end.marker else 1.075, height),
            xycoords="axes fraction",
            va="center",
            color=end.colour,
            fontsize=FONT - 1,
        )


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions at least `gap` apart in [0, 1], nearest to the ascending `wanted` (least squares).

    Subtracting i * gap makes this a regression to a non-decreasing sequence: neighbours that are
    in the wrong order are pooled at their mean until none are.
    """
    pools: list[tuple[float, int]] = []  # (mean, how many)
    for index, position in enumerate(wanted):
        pools.append((position - index * gap, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean, count), (last, more) = pools[-2:]
            pools[-2:] = [((mean * count + last * more) / (count + more), count + more)]
    room = max(0.0, 1.0 - (len(wanted) - 1) * gap)
    means = [min(max(mean, 0.0), room) for mean, count in pools for _ in range(count)]
    return [mean + index * gap for index, mean in enumerate(means)]


_FIGURES: dict[str, tuple[Callable[["Sweep"], Figure | None], str]] = {
    "gaps": (
        draw_gaps,
        "Paired loss gap to the baseline, with 95% intervals (Student t, seeds).",
    ),
    "curves": (
        draw_curve_panels,
        "Held-out loss during training at the baseline's best learning rate: mean over seeds, with "
        "a band from the least to the largest; grey: the baseline. × marks where a run diverged; "
        "dashed: models of the data that look at single characters (unigram) or pairs (bigram).",
    ),
    "sensitivity": (
        draw_sensitivity_panels,
        "Last held-out loss against the peak learning rate: mean over the finished seeds, with a "
        "band from the least to the largest; grey: the baseline. No run counts with more than its "
        "loss at initialisation (dotted), which is that of one that diverged (×).",
    ),
    "exponents": (
        draw_exponents,
        "Exponents of the finite nonzero inputs of each role, after scaling, as shares per binade "
        "over all runs and observed steps. Shaded: the normal range of the role's format; "
        "lighter: its subnormal range. Over, under: IEEE 754's overflow and underflow flags; to "
        "zero: inputs that were not zero and became it; what is not named is 0. Up to "
        "1% of a panel's inputs lie beyond its left end.",
    ),
}
