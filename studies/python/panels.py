"""Small multiples: a panel per setting, each with its own band and the baseline in grey.

Two columns, so that they can be read on a phone as well; all panels share their axes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .drawing import (
    FONT,
    WIDTH,
    Curve,
    Style,
    draw_curve,
    log_losses,
    loss_curve,
    rate_curve,
    rate_ticks,
    styles,
)

if TYPE_CHECKING:
    from .results import Sweep

COLUMNS = 2
PANEL_HEIGHT = 1.75  # inches
GREY = Style("0.62", "", "-")
DASHES = {"unigram": (0, (1.5, 1.5)), "bigram": (0, (4, 2))}


def draw_curve_panels(sweep: "Sweep") -> Figure:
    """Held-out loss against steps at the baseline's best rate, with the models of the data."""
    rates = {row.setting: row.baseline_rate for row in sweep.summaries}
    figure, panels = _panels(sweep, lambda s: loss_curve(sweep, s, rates[s]))
    for setting, axes in panels.items():
        for name, loss in sweep.baselines_of(setting).items():
            axes.axhline(loss, color="0.3", linewidth=1, linestyle=DASHES.get(name, "--"))
            axes.annotate(
                name, (1, loss), xycoords=("axes fraction", "data"), xytext=(0, 1.5),
                textcoords="offset points", ha="right", va="bottom", fontsize=FONT - 3, color="0.3",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4},
            )  # fmt: skip
    shown = {rate for rate in rates.values() if rate is not None}
    at = f" (learning rate {shown.pop():g})" if len(shown) == 1 else ""
    _name_axes(figure, f"training step{at}", "held-out loss / nats")
    return figure


def draw_sensitivity_panels(sweep: "Sweep") -> Figure | None:
    """Last held-out loss, at most that at initialisation, against the rate; None for one rate."""
    if len(sweep.plan.rates) < 2:
        return None
    figure, panels = _panels(sweep, lambda setting: rate_curve(sweep, setting))
    for setting, axes in panels.items():
        runs = sweep.grid_of(setting).values()
        if runs:
            level = float(np.mean([run.initial for run in runs]))
            axes.axhline(level, color="0.45", linewidth=1, linestyle=":")
        axes.set_xscale("log")
        rate_ticks(axes, sweep.plan.rates, most=4)
    _name_axes(figure, "peak learning rate", "last held-out loss / nats")
    return figure


def _panels(
    sweep: "Sweep", curve_of: Callable[[str], Curve | None]
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel per setting: its curve, behind it that of its baseline."""
    rows = -(-len(sweep.settings) // COLUMNS)
    figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    chosen, panels = styles(sweep), {}
    for axes, (setting, baseline) in zip(grid.flat, sweep.settings, strict=False):
        behind = [] if setting == baseline else [(baseline, GREY)]
        for name, style in [*behind, (setting, chosen[setting])]:
            curve = curve_of(name)
            if curve is not None:
                draw_curve(axes, curve, style, band=True, markersize=3.5)
        _dress(axes, setting, chosen[setting])
        axes.tick_params(labelbottom=len(panels) + COLUMNS >= len(sweep.settings))
        panels[setting] = axes
    for axes in grid.flat[len(sweep.settings) :]:
        axes.set_axis_off()
    return figure, panels


def _dress(axes: Axes, setting: str, style: Style) -> None:
    log_losses(axes)
    axes.set_title(setting, fontsize=FONT, color=style.colour, loc="left", fontweight="bold", pad=4)
    axes.tick_params(labelsize=FONT - 2)
    axes.grid(color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _name_axes(figure: Figure, x: str, y: str) -> None:
    figure.supxlabel(x, fontsize=FONT)
    figure.supylabel(y, fontsize=FONT)
