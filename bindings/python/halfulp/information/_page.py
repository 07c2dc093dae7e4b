"""Figures and the page of the study `information`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure

from halfulp import __version__
from halfulp.information._study import METHODS, QUESTION, SUBSET, Cell, Results

READING = "## Reading\n"  # by hand; stays when the page is written again
FIGURES = ("planes.png", "compression.png", "planes.gif")


def nearest(results: Results, activation: str) -> list[Cell]:
    return [c for c in results.cells if c.activation == activation and c.rounding == "nearest"]


def planes(results: Results) -> Figure:
    """A plane for each activation and format, rounded to nearest: a line for each layer over
    epochs, mean over seeds, exact."""
    activations, formats = results.size.activations, results.size.formats
    figure = Figure(
        figsize=(1.7 * len(formats), 2.3 * len(activations) + 0.6), layout="constrained"
    )
    axes = figure.subplots(len(activations), len(formats), sharex=True, sharey=True, squeeze=False)
    for row, activation in zip(axes, activations, strict=True):
        for a, cell in zip(row, nearest(results, activation), strict=True):
            of = results.information[cell.label]["exact"].mean(axis=0)
            for i in range(of.shape[1]):
                a.plot(of[:, i, 0], of[:, i, 1], "-", color=f"C{i}", lw=1)
                a.plot(of[-1, i, 0], of[-1, i, 1], "o", color=f"C{i}", ms=4, label=f"{i + 1}")
            a.set_title(f"{cell.name} {activation}", fontsize=9)
    lines = axes[0, 0].get_legend_handles_labels()
    figure.legend(*lines, title="layer", loc="outside right center", fontsize=8)
    figure.supxlabel("I(X;T) / bits, exact; the dot is the last epoch")
    figure.supylabel("I(T;Y) / bits")
    return figure


def compression(results: Results, layers: tuple[int, ...] = (4, 5)) -> Figure:
    """Against formats: what each method calls a layer's compression, mean and 95% over seeds."""
    activations = results.size.activations
    figure = Figure(figsize=(5.4 * len(layers), 3.1 * len(activations)), layout="constrained")
    axes = figure.subplots(len(activations), len(layers), sharex=True, squeeze=False)
    for row, activation in zip(axes, activations, strict=True):
        chosen = nearest(results, activation)
        for a, layer in zip(row, layers, strict=True):
            for k, method in enumerate(METHODS):
                c = np.array([results.compression(cell, method)[:, layer] for cell in chosen])
                half = 2.0 * c.std(axis=1, ddof=1) / np.sqrt(c.shape[1])
                at = np.arange(len(chosen)) + 0.08 * (k - len(METHODS) / 2)
                style = "o-" if method.startswith("exact") else "s--"
                a.errorbar(at, c.mean(axis=1), half, fmt=style, ms=3, lw=1, label=method)
            a.set_xticks(range(len(chosen)), [cell.name for cell in chosen], fontsize=8)
            a.set_title(f"{activation}, layer {layer + 1}", fontsize=9)
            a.set_ylabel("max I(X;T) − last I(X;T) / bits", fontsize=8)
    lines = axes[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside right center", fontsize=8)
    return figure


def animate(results: Results, path: Path) -> None:
    """The planes epoch by epoch, every seed a dot, exact."""
    activation = results.size.activations[0]
    chosen = nearest(results, activation)
    figure = Figure(figsize=(1.6 * len(chosen), 2.6), layout="constrained")
    axes = figure.subplots(1, len(chosen), sharex=True, sharey=True)
    dots = []
    for a, cell in zip(axes, chosen, strict=True):
        layers = results.information[cell.label]["exact"].shape[2]
        dots.append([a.plot([], [], ".", color=f"C{i}", ms=4)[0] for i in range(layers)])
        a.set_xlim(0, 12.5)
        a.set_ylim(0, 1.05)
        a.set_title(cell.name, fontsize=9)
    figure.supylabel("I(T;Y) / bits", fontsize=8)
    below = figure.supxlabel(" ", fontsize=8)

    def frame(e: int) -> list[Any]:
        for of_cell, cell in zip(dots, chosen, strict=True):
            of = results.information[cell.label]["exact"]
            for i, dot in enumerate(of_cell):
                dot.set_data(of[:, e, i, 0], of[:, e, i, 1])
        below.set_text(f"I(X;T) / bits, {activation}, epoch {results.epochs[e]}")
        return []

    FuncAnimation(figure, frame, frames=len(results.epochs)).save(
        path, writer=PillowWriter(fps=1), dpi=60
    )


def write_figures(results: Results, folder: Path) -> None:
    planes(results).savefig(folder / FIGURES[0], dpi=90)
    compression(results).savefig(folder / FIGURES[1], dpi=90)
    animate(results, folder / FIGURES[2])


def plus_minus(of: list[float]) -> str:
    return f"{of[0]:.2f} ± {of[1]:.2f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def name_of(row: dict[str, Any]) -> str:
    return row["format"] + (", stochastic" if row["rounding"] == "stochastic" else "")


def compression_table(summary: dict[str, Any], activation: str, layer: int) -> str:
    head = ["format", "fitted", "unseen rows right", *METHODS, "exact less FP32", "least effect"]
    rows = []
    for row in summary["cells"]:
        if row["activation"] == activation:
            paired = row["exact"]["less_fp32"][layer]
            base = (row["format"], row["rounding"]) == ("FP32", "nearest")
            rows.append(
                [
                    name_of(row),
                    f"{row['fitted']}/{summary['size']['seeds']}",
                    f"{row['test_accuracy'][0]:.3f} ± {row['test_accuracy'][1]:.3f}",
                    *[plus_minus(row[m]["compression"][layer]) for m in METHODS],
                    "" if base else plus_minus(paired),
                    "" if base else f"{paired[2]:.2f}",
                ]
            )
    return table(head, rows)


def entropy_table(summary: dict[str, Any], activation: str) -> str:
    rows = []
    for row in summary["cells"]:
        if row["activation"] == activation and row["rounding"] == "nearest":
            ends = zip(row["exact"]["first"], row["exact"]["last"], strict=True)
            rows.append([row["format"], *[f"{a[0]:.2f} → {b[0]:.2f}" for a, b in ends]])
    return table(["format", *[f"layer {i + 1}" for i in range(len(rows[0]) - 1)]], rows)


def correlation_table(summary: dict[str, Any]) -> str:
    rows = []
    for activation, methods in summary["correlations"].items():
        for method, layers in methods.items():
            values = [f"{v[0]:+.2f} ({v[1]:+.2f} … {v[2]:+.2f})" for v in layers]
            rows.append([f"{activation}, {method}", *values])
    return table(["Spearman's ρ", *[f"layer {i + 1}" for i in range(len(rows[0]) - 1)]], rows)


def spread(summary: dict[str, Any], activation: str, layer: int) -> tuple[float, float]:
    """Of compression: the deviation between formats (mean over methods on all rows), and between
    those methods (mean over formats)."""
    c = np.array(
        [
            [row[m]["compression"][layer][0] for m in METHODS[:4]]
            for row in summary["cells"]
            if row["activation"] == activation
        ]
    )
    return float(c.std(axis=0, ddof=1).mean()), float(c.std(axis=1, ddof=1).mean())


def write_page(results: Results, page: Path, command: str, summary: dict[str, Any]) -> None:
    """Method and results; figures beside it, named after it."""
    size = results.size
    stem = page.stem
    page.parent.mkdir(parents=True, exist_ok=True)
    planes(results).savefig(page.with_name(f"{stem}-planes.png"), dpi=90)
    compression(results).savefig(page.with_name(f"{stem}-compression.png"), dpi=90)
    animate(results, page.with_name(f"{stem}-planes.gif"))
    layers = results.information[results.cells[0].label]["exact"].shape[2]
    activations = " and ".join(size.activations)
    recorded = ", ".join(map(str, results.epochs))
    seconds = summary.get("seconds", "some")
    text = f"""# The information plane, exact

{QUESTION}

## Method

Networks 12-10-7-5-4-3-2 ({activations}, softmax at the end) learn the data of Shwartz-Ziv and
Tishby ([information](../information.md)) for {size.epochs} epochs: Adam at 3e-3, batches of 512,
85% of the 4096 rows, seeds 0 to {size.seeds - 1}, which draw the same weights, split and order of
rows for every format. The operands of every product, weights, layers and gradients, are rounded
to the format (saturating) with a power of two as scale that is fixed before training: the largest
that keeps 2 for weights, 1 for gradients, tanh and probabilities, 4 for ReLU within the format,
and 1 for formats with binary32's exponent. Products are summed in binary64 and rounded once to
binary32; biases, master weights and Adam's state are binary32. *Stochastic* rounds so in training
(variant A, bits by seed, step, tensor, index); what is recorded is always a pass over all 4096
rows rounded to nearest, so that a layer is a function of its input and I(X;T) = H(T), counted;
−0 is 0.

Compression of a layer is its largest I(X;T) of {len(results.epochs)} recorded epochs ({recorded})
less the last one. `exact`, `binning`, `bin-size` and `ebab` see all rows, `kde` (upper bound) and
`akde` {SUBSET} of them, to be compared with `exact-{SUBSET}`. a ± b: mean over seeds and half the
95% interval (Student t); *exact less FP32* is paired by seed, *least effect* what its test at 5%
finds with 80% power. A network counts as fitted above 90% of the training rows: k alone gives
87.5%.

Made by `{command}` in {seconds} s (halfulp {__version__}). Intervals are not corrected for their
number.

## H(T) at initialisation and at the end

"""
    for activation in size.activations:
        text += f"{activation}, rounded to nearest, bits, mean over seeds:\n\n"
        text += entropy_table(summary, activation) + "\n"
    text += f"![exact planes by format]({stem}-planes.png)\n\n"
    text += f"![the same by epochs]({stem}-planes.gif)\n\n## Compression\n\n"
    for activation in size.activations:
        for layer in (layers - 2, layers - 1):
            between_formats, between_methods = spread(summary, activation, layer)
            text += f"{activation}, layer {layer + 1}, bits:\n\n"
            text += compression_table(summary, activation, layer)
            text += (
                "\nBetween formats the standard deviation of the means is "
                f"{between_formats:.2f} bits (mean over the first four methods), between those "
                f"methods {between_methods:.2f} bits (mean over formats).\n\n"
            )
    text += f"![compression by method]({stem}-compression.png)\n\n"
    text += """## Compression and generalisation

Of compression and the share of unseen rows that is right at the end: over the seeds of each cell,
mean over cells; 95% by drawing seeds again.

"""
    text += correlation_table(summary)
    kept = page.read_text(encoding="utf-8").partition(READING) if page.is_file() else ("", "", "")
    page.write_text(text + ("\n" + READING + kept[2] if kept[1] else ""), encoding="utf-8")
