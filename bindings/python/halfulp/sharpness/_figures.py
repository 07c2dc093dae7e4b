"""Figures of the study `sharpness`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from halfulp.sharpness._cells import SHOWN, Cell
from halfulp.sharpness._hessian import Spectrum
from halfulp.sharpness._results import FALSE_ALARMS, MEASURES, WITHIN, Results

LINES = ("FP32", "FP32 shrunk", "E8M3", "E8M3 truncated", "E4M3", "E5M2 stochastic")
PANELS = ("loss", "lambda-max", "critical-gradient", "logit-sharpness", "gradient-error", "box")
SYMBOLS = ("o", "s", "^")


def along(results: Results) -> Figure:
    """Measures along training by setting, at a rate where little diverges and one where much does:
    median over the seeds that have not diverged, quartiles as a band."""
    runs, size = results.runs, results.size
    rates = [size.rates[min(1, len(size.rates) - 1)], size.rates[len(size.rates) // 2]]
    figure = Figure(figsize=(3.1 * len(PANELS), 5.6), layout="constrained")
    axes = figure.subplots(len(rates), len(PANELS), sharex=True, squeeze=False)
    for row, rate in zip(axes, rates, strict=True):
        for a, name in zip(row, PANELS, strict=True):
            shown = [s for s in LINES if s in size.settings]
            for i, setting in enumerate(shown):
                at = (runs.setting == size.settings.index(setting)) & (runs.rate == rate)
                v = np.where(
                    runs.diverges[at, None] > runs.steps[None], runs.series[name][at], np.nan
                )
                v = np.where(np.isfinite(v), v, np.nan)
                use = np.isfinite(v).sum(axis=0) >= 3
                if not use.any():
                    continue
                low, middle, high = np.nanpercentile(v[:, use], [25, 50, 75], axis=0)
                a.plot(runs.steps[use], middle, color=f"C{i}", lw=1.4, label=setting)
                a.fill_between(runs.steps[use], low, high, color=f"C{i}", alpha=0.15, lw=0)
            a.set_yscale("log")
            low, high = a.get_ylim()
            subs = (1, 1.5, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5)
            a.yaxis.set_major_locator(LogLocator(subs=subs if high < 1e3 * low else (1,)))
            a.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
            a.yaxis.set_minor_locator(NullLocator())
            a.set_title(f"{name}, rate {rate:g}", fontsize=10)
    for a in axes[-1]:
        a.set_xlabel("step")
    for a in axes[:, 0]:
        a.set_ylabel("median and quartiles")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def aucs(results: Results, summary: dict[str, Any]) -> Figure:
    """Each measure's AUC on held-out seeds with its 95% interval; a symbol for each choice of the
    runs that are compared."""
    rows = [*summary["predictions"], *summary["imminent"]]
    panels = list(dict.fromkeys((row["event"], row["step"]) for row in rows))
    names = list(rows[0]["auc"])
    figure = Figure(figsize=(3.6 * len(panels), 6.8), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for a, (event, step) in zip(axes, panels, strict=True):
        a.axvline(0.5, color="0.6", lw=1)
        for row in rows:
            if (row["event"], row["step"]) != (event, step):
                continue
            k = WITHIN.index(row["within"])
            for i, name in enumerate(names):
                value, low, high, _ = row["auc"][name]["auc"]
                if value is None:
                    continue
                y = len(names) - 1 - i + 0.24 * (1 - k)
                label = row["within"] if i == 0 else None
                if low is not None:
                    a.plot([low, high], [y, y], color=f"C{k}", lw=1.5)
                a.plot(value, y, SYMBOLS[k], color=f"C{k}", ms=5, label=label)
        a.set_title(event if step is None else f"{event}, from step {step}", fontsize=11)
        a.set_xlabel("AUC on held-out seeds")
        a.grid(axis="y", lw=0.3)
    axes[0].set_yticks(range(len(names)), names[::-1], fontsize=10)
    axes[0].set_ylabel("measure")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def lead_times(summary: dict[str, Any]) -> Figure:
    """Of each monitor: divergences announced, false alarms, and the median lead, beside all runs
    and beside those of the same rate."""
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    axes = figure.subplots(1, 2 * len(summary["leads"]), sharey=True, squeeze=False)[0]
    names: list[str] = []
    for k, (within, of) in enumerate(summary["leads"].items()):
        names = list(of)
        shares, steps = axes[2 * k], axes[2 * k + 1]
        for i, name in enumerate(names):
            y = len(names) - 1 - i
            value, low, high, _ = of[name]["median"]
            if value is not None:
                if low is not None:
                    steps.plot([low, high], [y, y], color="C0", lw=1.5)
                steps.plot(value, y, "o", color="C0", ms=5)
            for key, colour, symbol in (("warned", "C2", "s"), ("false", "C3", "^")):
                number, n, bottom, top = of[name][key]
                shares.plot([bottom, top], [y, y], color=colour, lw=1.5)
                label = {"warned": "divergences announced", "false": "false alarms"}[key]
                label = label if (i, k) == (0, 0) else None
                shares.plot(number / max(n, 1), y, symbol, color=colour, ms=5, label=label)
        shares.axvline(FALSE_ALARMS, color="0.6", lw=1)
        shares.set_xlim(0, 1)
        shares.set_title(f"beside {within}", fontsize=10)
        shares.set_xlabel("share of runs")
        steps.set_title(f"beside {within}", fontsize=10)
        steps.set_xlabel("median lead / steps")
        steps.set_xlim(left=0)
        for a in (shares, steps):
            a.grid(axis="y", lw=0.3)
    axes[0].set_yticks(range(len(names)), names[::-1])
    axes[0].set_ylabel("monitor")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def spectra(results: Results) -> Figure:
    """Spectral density of the Hessian at the rounded weights, at the start and at the end."""
    shown = [s for s in SHOWN[:2] if s in results.size.settings]
    figure = Figure(figsize=(5 * max(len(shown), 1), 3.4), layout="constrained")
    axes = figure.subplots(1, max(len(shown), 1), sharey=True, squeeze=False)[0]
    for a, setting in zip(axes, shown, strict=False):
        raw = next(
            r for c, r in results.raw.items() if c.kind == "pictures" and c.setting == setting
        )
        for when, colour in (("first", "C0"), ("last", "C1")):
            values, weights = raw[f"spectrum/{when}/values"], raw[f"spectrum/{when}/weights"]
            spectrum = Spectrum(values, weights, 0, values.size)
            used = values[weights > 0]
            sigma = 0.05
            x = np.linspace(used.min() - 0.5, used.max() + 0.5, 1500)
            label = {"first": "before training", "last": "after it"}[when]
            a.semilogy(x, spectrum.density(x, sigma), color=colour, lw=1.2, label=label)
        a.set_ylim(1e-5, 30)
        a.set_title(f"{setting}, σ = {sigma:g}", fontsize=10)
        a.set_xlabel("eigenvalue λ")
        a.legend(fontsize=9)
    axes[0].set_ylabel("density")
    return figure


def slices(results: Results) -> Figure:
    """The loss on a square around the end of training: unrounded in binary64, and as rounded."""
    shown = [s for s in SHOWN[1:] if s in results.size.settings] or [
        s for s in SHOWN if s in results.size.settings
    ]
    setting = shown[-1]
    raw = next(r for c, r in results.raw.items() if c.kind == "pictures" and c.setting == setting)
    x = raw["slice/along"]
    both = [raw["slice/plain"], raw["slice/rounded"]]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    shown_losses = [np.log10(np.where(np.isfinite(v) & (v > 0), v, np.nan)) for v in both]
    low = min(float(np.nanmin(v)) for v in shown_losses)
    high = max(float(np.nanmax(v)) for v in shown_losses)
    levels = np.linspace(low, max(high, low + 1e-6), 19)
    for a, v, name in zip(axes, shown_losses, ("binary64", setting), strict=True):
        filled = a.contourf(x, x, v.T, levels, cmap="viridis")
        a.contour(x, x, v.T, levels, colors="k", linewidths=0.4, alpha=0.5)
        a.plot(0, 0, "w+", ms=9)
        a.set_title(f"evaluated in {name}", fontsize=10)
        a.set_xlabel("α")
        a.set_ylabel("β")
        a.set_aspect("equal")
    figure.colorbar(filled, ax=axes, label="log10 loss / nats")
    return figure


def edge(results: Results) -> Figure:
    """λ_max·η/2 along full-batch training, mean over seeds; 1 is the edge of stability."""
    size = results.size
    figure = Figure(figsize=(2.7 * len(size.edge_rates), 3.4), layout="constrained")
    axes = figure.subplots(1, len(size.edge_rates), sharey=True, squeeze=False)[0]
    for a, rate in zip(axes, size.edge_rates, strict=True):
        a.axhline(1, color="0.5", lw=1)
        for i, setting in enumerate(size.edge_settings):
            raw = results.raw[Cell("edge", setting, rate)]
            of = raw["lambda-max"] * rate / 2
            good = np.isfinite(raw["loss"]).all(axis=1) & (raw["loss"][:, -1] < raw["loss"][:, 0])
            if good.any():
                a.plot(raw["steps"], of[good].mean(axis=0), "-", color=f"C{i}", label=setting)
        a.set_ylim(0.4, 1.6)
        a.set_title(f"rate {rate:g}", fontsize=10)
        a.set_xlabel("step")
    axes[0].set_ylabel("λ_max η / 2, mean over seeds")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
    return figure


def figures(results: Results, summary: dict[str, Any]) -> dict[str, Callable[[], Figure]]:
    """By the name of their file's end."""
    return {
        "along": lambda: along(results),
        "auc": lambda: aucs(results, summary),
        "lead": lambda: lead_times(summary),
        "edge": lambda: edge(results),
        "spectra": lambda: spectra(results),
        "slice": lambda: slices(results),
    }


assert set(PANELS) <= set(MEASURES)
