"""The figures of a sweep. Plain matplotlib figures, no global state; losses in nats, held out.

Colours are those of Okabe and Ito (2008), told apart with any colour vision; the baseline is black.
Lines also differ in their marker and carry their name.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from .cells import Cell
from .statistics import Run, Summary, grid, setting_of

if TYPE_CHECKING:
    from .results import Sweep

BASELINE_COLOUR = "#000000"
COLOURS = ("#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D31", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "p", "<", ">")
SIZE = (6.2, 4.3)  # inches
MOST_BANDS = 3  # with more settings than this, bands would hide each other
FONT = 11  # points


@dataclass(frozen=True)
class Style:
    """How one setting is drawn."""

    colour: str
    marker: str
    dash: str


def styles(sweep: "Sweep") -> dict[str, Style]:
    """Setting -> style: baselines black, the others in turn."""
    chosen, turn = {}, 0
    for setting, baseline in sweep.settings:
        if setting == baseline:
            chosen[setting] = Style(BASELINE_COLOUR, MARKERS[0], "-")
            continue
        marker = MARKERS[1 + turn % (len(MARKERS) - 1)]
        dash = ("-", "--", ":")[turn // len(COLOURS) % 3]
        chosen[setting] = Style(COLOURS[turn % len(COLOURS)], marker, dash)
        turn += 1
    return chosen


def overview(sweep: "Sweep") -> Figure:
    """Loss curves and learning-rate sensitivity, side by side."""
    figure = Figure(figsize=(2 * SIZE[0], SIZE[1]), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_curves(left, sweep)
    draw_sensitivity(right, sweep)
    return figure


def all_figures(sweep: "Sweep") -> dict[str, tuple[Figure, str]]:
    """Name -> (figure, what it shows), as the report has them."""
    drawn = {}
    for name, (draw, caption) in _FIGURES.items():
        figure = Figure(figsize=SIZE, layout="constrained")
        draw(figure.subplots(), sweep)
        bands = "each setting" if _has_band(sweep, "") else "the baseline"
        drawn[name] = (figure, caption.format(bands=bands))
    return drawn


def draw_curves(axes: Axes, sweep: "Sweep") -> None:
    """Held-out loss against steps at the baseline's best rate, one line per setting."""
    ends: list[_End] = []
    rates = {row.setting: row.baseline_rate for row in sweep.summaries}
    for setting, style in styles(sweep).items():
        rate = rates[setting]
        cells = [
            c
            for c in sweep.grid
            if c.finished and setting_of(c.parameters) == setting and c.learning_rate == rate
        ]
        if not cells:
            continue
        steps, losses = _curves(cells)
        mean = _mean(losses)
        if _has_band(sweep, setting):
            axes.fill_between(
                steps, _least(losses), _largest(losses), color=style.colour, alpha=0.15, linewidth=0
            )
        turn = MARKERS.index(style.marker)  # lines that lie on each other show different markers
        axes.plot(
            steps,
            mean,
            f"{style.dash}{style.marker}",
            color=style.colour,
            linewidth=1.6,
            markersize=5,
            markevery=(turn % 4, 4),
        )
        for cell, row in zip(cells, losses, strict=True):
            if cell.outcome == "diverged" and np.isfinite(row).any():
                last = int(np.flatnonzero(np.isfinite(row))[-1])
                axes.plot(steps[last], row[last], "x", color=style.colour, markersize=8)
        ends.append(_End(setting, style.colour, _last(mean), style.marker))
    _log_losses(axes)
    shown = {rate for rate in rates.values() if rate is not None}
    at = f" (learning rate {shown.pop():g})" if len(shown) == 1 else ""
    _dress(axes, f"training step{at}", "held-out loss / nats")
    _label_ends(axes, ends)


def draw_sensitivity(axes: Axes, sweep: "Sweep") -> None:
    """Last held-out loss, at most that at initialisation, against the learning rate."""
    ends: list[_End] = []
    initial = [run.initial for run in sweep.runs]
    for setting, style in styles(sweep).items():
        cells = grid(sweep.runs, setting)
        rates = sorted({rate for rate, _ in cells})
        if not rates:
            continue
        at = [[run for (r, _), run in cells.items() if r == rate] for rate in rates]
        mean = [float(np.mean([run.counted for run in runs])) for runs in at]
        low = [min(run.counted for run in runs) for runs in at]
        high = [max(run.counted for run in runs) for runs in at]
        if _has_band(sweep, setting):
            axes.fill_between(rates, low, high, color=style.colour, alpha=0.15, linewidth=0)
        line = f"{style.dash}{style.marker}"
        axes.plot(rates, mean, line, color=style.colour, linewidth=1.6, markersize=5)
        _mark_diverged(axes, [run for runs in at for run in runs if run.diverged], style)
        ends.append(_End(setting, style.colour, mean[-1], style.marker))
    if initial:
        level = float(np.mean(initial))
        axes.axhline(level, color="0.45", linewidth=1, linestyle=(0, (4, 3)))
        ends.append(_End("initialisation", "0.35", level))
    axes.set_xscale("log")
    _log_losses(axes)
    _rate_ticks(axes, sorted({run.rate for run in sweep.runs}))
    _dress(axes, "peak learning rate", "last held-out loss / nats")
    _label_ends(axes, ends)


def draw_gaps(axes: Axes, sweep: "Sweep") -> None:
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
    _dress(axes, f"loss gap to {sweep.spec.baseline} / nats (right: worse){scale}", "")
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
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    return f"\nlogarithmic beyond ±{threshold:g}"


def _has_band(sweep: "Sweep", setting: str) -> bool:
    """Whether the spread over seeds is drawn: of every setting if there are few, else baselines."""
    few = len(sweep.settings) <= MOST_BANDS
    return few or (setting, setting) in sweep.settings


def _curves(cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray]:
    """Steps (n) and losses (cells, n), with the loss at initialisation at step 0; else NaN."""
    steps = sorted({0, *(int(s) for c in cells for s in c.metrics["eval_step"])})
    index = {step: i for i, step in enumerate(steps)}
    losses = np.full((len(cells), len(steps)), np.nan)
    for row, cell in zip(losses, cells, strict=True):
        row[0] = float(cell.metrics["initial_eval_loss"])
        for step, loss in zip(cell.metrics["eval_step"], cell.metrics["eval_loss"], strict=True):
            row[index[int(step)]] = loss
    losses[~(np.isfinite(losses) & (losses > 0))] = np.nan
    return np.asarray(steps), losses


def _reduce(losses: np.ndarray, how: str) -> np.ndarray:
    """A column-wise reduction that skips NaN; NaN where a column has nothing else."""
    result = np.full(losses.shape[1], np.nan)
    some = np.isfinite(losses).any(axis=0)
    result[some] = getattr(np, how)(losses[:, some], axis=0)
    return result


def _mean(losses: np.ndarray) -> np.ndarray:
    return _reduce(losses, "nanmean")


def _least(losses: np.ndarray) -> np.ndarray:
    return _reduce(losses, "nanmin")


def _largest(losses: np.ndarray) -> np.ndarray:
    return _reduce(losses, "nanmax")


def _last(y: np.ndarray) -> float:
    return float(y[np.isfinite(y)][-1])


def _mark_diverged(axes: Axes, runs: Sequence[Run], style: Style) -> None:
    rates = sorted({run.rate for run in runs})
    levels = [max(run.counted for run in runs if run.rate == rate) for rate in rates]
    axes.plot(rates, levels, "x", color=style.colour, markersize=9, markeredgewidth=2)


def _log_losses(axes: Axes) -> None:
    """A logarithmic axis of losses with plain numbers at 1, 2 and 5 of each decade."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _plain(value: float, _position: object = None) -> str:
    return f"{value:g}"


def _rate_ticks(axes: Axes, rates: Sequence[float]) -> None:
    if rates and len(rates) <= 9:
        axes.set_xticks(list(rates), [f"{rate:g}" for rate in rates])
        axes.xaxis.set_minor_locator(NullLocator())


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


def _dress(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=FONT)
    axes.set_ylabel(y, fontsize=FONT)
    axes.tick_params(labelsize=FONT - 1)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


_FIGURES = {
    "gaps": (
        draw_gaps,
        "Paired loss gap to the baseline, with 95% intervals (Student t, seeds).",
    ),
    "curves": (
        draw_curves,
        "Held-out loss during training at the baseline's best learning rate: mean over seeds, with "
        "the last value beside the name; band of {bands} from the least to the largest; × marks "
        "where a run diverged.",
    ),
    "sensitivity": (
        draw_sensitivity,
        "Last held-out loss against the peak learning rate: mean over the finished seeds, with the "
        "value at the largest rate beside the name; band of {bands} from the least to the largest. "
        "No run counts with more than its loss at initialisation, which is that of one that "
        "diverged (×).",
    ),
}
