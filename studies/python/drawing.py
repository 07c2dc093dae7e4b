"""What the figures of a sweep share: colours, axes, the numbers of their lines.

Colours are those of Okabe and Ito (2008), told apart with any colour vision; the baseline is black.
Plain matplotlib figures, no global state.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from .cells import DIVERGED

if TYPE_CHECKING:
    from .results import Sweep

BASELINE_COLOUR = "#000000"
COLOURS = ("#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D31", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "p", "<", ">")
SIZE = (6.2, 4.3)  # inches
WIDTH = 5.0  # of a figure that is read on a phone, too
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


@dataclass(frozen=True)
class Curve:
    """A line with a band: over runs the mean, the least and the largest value; NaN where none."""

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    ends: list[tuple[float, float]]  # where runs that diverged end

    @property
    def last(self) -> float:
        """The last mean that is a number; NaN if none is."""
        known = self.mean[np.isfinite(self.mean)]
        return float(known[-1]) if known.size else math.nan


def loss_curve(sweep: "Sweep", setting: str, rate: float | None) -> Curve | None:
    """Held-out loss against the step, from initialisation on, of the runs at one rate."""
    cells = [cell for cell in sweep.cells_of(setting) if cell.learning_rate == rate]
    if not cells:
        return None
    steps = sorted({0, *(int(s) for c in cells for s in c.metrics["eval_step"])})
    index = {step: i for i, step in enumerate(steps)}
    losses = np.full((len(cells), len(steps)), np.nan)
    for row, cell in zip(losses, cells, strict=True):
        row[0] = float(cell.metrics["initial_eval_loss"])
        for step, loss in zip(cell.metrics["eval_step"], cell.metrics["eval_loss"], strict=True):
            row[index[int(step)]] = loss
    losses[~(np.isfinite(losses) & (losses > 0))] = np.nan
    lasts = [int(np.flatnonzero(np.isfinite(row))[-1]) for row in losses if np.isfinite(row).any()]
    ends = [
        (float(steps[last]), float(row[last]))
        for cell, row, last in zip(cells, losses, lasts, strict=False)
        if cell.outcome == DIVERGED
    ]
    return _curve(np.asarray(steps, float), losses, ends)


def rate_curve(sweep: "Sweep", setting: str) -> Curve | None:
    """Last held-out loss, as it counts, against the learning rate."""
    runs = sweep.grid_of(setting)
    rates = sorted({rate for rate, _ in runs})
    if not rates:
        return None
    at = [[run.counted for (r, _), run in runs.items() if r == rate] for rate in rates]
    losses = np.full((max(map(len, at)), len(rates)), np.nan)
    for column, counted in enumerate(at):
        losses[: len(counted), column] = counted
    diverged = {rate for (rate, _), run in runs.items() if run.diverged}
    ends = [(rate, max(runs[k].counted for k in runs if k[0] == rate)) for rate in sorted(diverged)]
    return _curve(np.asarray(rates), losses, ends)


def _curve(x: np.ndarray, losses: np.ndarray, ends: list[tuple[float, float]]) -> Curve:
    """Column-wise mean and range that skip NaN."""
    some = np.isfinite(losses).any(axis=0)
    found = []
    for reduce in (np.nanmean, np.nanmin, np.nanmax):
        values = np.full(x.size, np.nan)
        values[some] = reduce(losses[:, some], axis=0)
        found.append(values)
    return Curve(x, *found, ends)


def draw_curve(axes: Axes, curve: Curve, style: Style, *, band: bool, **line: Any) -> None:
    """One line with its marks of divergence; `line`: further properties of the line."""
    colour = style.colour
    if band:
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(
        curve.x, curve.mean, f"{style.dash}{style.marker}",
        **{"color": colour, "linewidth": 1.6, "markersize": 5, **line},
    )  # fmt: skip
    for x, y in curve.ends:
        axes.plot(x, y, "x", color=colour, markersize=8, markeredgewidth=2)


def log_losses(axes: Axes) -> None:
    """A logarithmic axis of losses with plain numbers at 1, 2 and 5 of each decade."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_minor_formatter(NullFormatter())


def plain(value: float, _position: object = None) -> str:
    return f"{value:g}"


def rate_ticks(axes: Axes, rates: Sequence[float], most: int = 9) -> None:
    """A tick at each learning rate, with numbers at `most` of them or so, in even steps."""
    if rates and len(rates) <= 9:
        step = -(-len(rates) // most)
        axes.set_xticks(
            list(rates), [f"{r:g}" if i % step == 0 else "" for i, r in enumerate(rates)]
        )
        axes.xaxis.set_minor_locator(NullLocator())


def dress(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=FONT)
    axes.set_ylabel(y, fontsize=FONT)
    axes.tick_params(labelsize=FONT - 1)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def percent(share: float) -> str:
    """A share in percent, two digits; small ones are not shown as 0."""
    if math.isnan(share):
        return "–"
    if share == 0:
        return "0%"
    if share < 1e-6:
        return "<0.0001%"
    return f"{100 * share:.2g}%" if share < 0.995 else f"{100 * share:.3g}%"
