"""Figures and the page of the study `information`."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure

from halfulp import __version__
from halfulp.information._measure import OPTIONS, REFUSING, SUBSET
from halfulp.information._results import COMPARED, ESTIMATES, Results
from halfulp.information._study import QUESTION, Cell

READING = "## Reading\n"  # by hand; stays when the page is written again
FIGURES = ("planes.png", "compression.png", "errors.png", "planes.gif")


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
            for k, method in enumerate(COMPARED):
                c = np.array([results.compression(cell, method)[:, layer] for cell in chosen])
                half = 2.0 * c.std(axis=1, ddof=1) / np.sqrt(c.shape[1])
                at = np.arange(len(chosen)) + 0.08 * (k - len(COMPARED) / 2)
                style = "o-" if method.startswith("exact") else "s--"
                a.errorbar(at, c.mean(axis=1), half, fmt=style, ms=3, lw=1, label=method)
            a.set_xticks(range(len(chosen)), [cell.name for cell in chosen], fontsize=8)
            a.set_title(f"{activation}, layer {layer + 1}", fontsize=9)
            a.set_ylabel("max I(X;T) − last I(X;T) / bits", fontsize=8)
    lines = axes[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside right center", fontsize=8)
    return figure


def errors(results: Results, summary: dict[str, Any]) -> Figure:
    """Against formats: each method's mean error of I(X;T), rounded to nearest."""
    activations = results.size.activations
    figure = Figure(figsize=(4.2 * len(activations) + 1, 3.4), layout="constrained")
    axes = figure.subplots(1, len(activations), sharey=True, squeeze=False)[0]
    for a, activation in zip(axes, activations, strict=True):
        chosen = rows_of(summary, activation)
        for method in ESTIMATES:
            of = [row["errors"][method]["i_xt"] or [np.nan, np.nan] for row in chosen]
            mean, half = np.array(of, float).T
            style = {"ksg": "v", "kl": "^"}.get(method, "s--")
            a.errorbar(range(len(chosen)), mean, half, fmt=style, ms=3, lw=1, label=method)
        a.axhline(0, color="black", lw=0.7)
        names = [row["format"] for row in chosen]
        a.set_xticks(range(len(chosen)), names, fontsize=7, rotation=45)
        a.set_title(activation, fontsize=9)
    axes[0].set_ylabel("estimate − count of I(X;T) / bits", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
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


def write_figures(results: Results, summary: dict[str, Any], folder: Path) -> None:
    names = [folder / name for name in FIGURES]
    planes(results).savefig(names[0], dpi=90)
    compression(results).savefig(names[1], dpi=90)
    errors(results, summary).savefig(names[2], dpi=90)
    animate(results, names[3])


def rows_of(
    summary: dict[str, Any], activation: str, rounding: str | None = "nearest"
) -> list[dict[str, Any]]:
    """Cells of an activation; with None of both roundings."""
    return [
        row
        for row in summary["cells"]
        if row["activation"] == activation and rounding in (None, row["rounding"])
    ]


def plus_minus(of: list[float]) -> str:
    return f"{of[0]:.2f} ± {of[1]:.2f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def name_of(row: dict[str, Any]) -> str:
    return row["format"] + (", stochastic" if row["rounding"] == "stochastic" else "")


def label_of(row: dict[str, Any]) -> str:
    return Cell(row["format"], row["rounding"], row["activation"]).label


def p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def layer_head(first: str, layers: int) -> list[str]:
    return [first, *[f"layer {i + 1}" for i in range(layers)]]


def compression_table(summary: dict[str, Any], activation: str, layer: int) -> str:
    head = ["format", "fitted", "unseen rows right", *COMPARED]
    head += ["exact less FP32", "p (Holm)", "least effect"]
    rows = []
    for row in rows_of(summary, activation, None):
        base = summary["less_fp32"].get(label_of(row))
        paired = ["", "", ""]
        if base is not None:
            less = base[layer]["less"]
            paired = [plus_minus(less), p_value(base[layer]["holm"]), f"{less[2]:.2f}"]
        rows.append(
            [
                name_of(row),
                f"{row['fitted']}/{summary['size']['seeds']}",
                f"{row['test_accuracy'][0]:.3f} ± {row['test_accuracy'][1]:.3f}",
                *[plus_minus(row[m]["compression"][layer]) for m in COMPARED],
                *paired,
            ]
        )
    return table(head, rows)


def entropy_table(summary: dict[str, Any], activation: str) -> str:
    rows = []
    for row in rows_of(summary, activation):
        ends = zip(row["exact"]["first"], row["exact"]["last"], strict=True)
        rows.append([row["format"], *[f"{a[0]:.2f} → {b[0]:.2f}" for a, b in ends]])
    return table(layer_head("format", len(rows[0]) - 1), rows)


def error_of(of: dict[str, Any]) -> str:
    """Mean ± half interval, and what share was refused."""
    if of["i_xt"] is None:
        return "all refused" if of.get("refused") == 1 else f"{of['refused']:.0%} refused"
    refused = f" ({of['refused']:.0%} refused)" if of.get("refused") else ""
    return f"{of['i_xt'][0]:+.2f} ± {of['i_xt'][1]:.2f}{refused}"


def error_table(summary: dict[str, Any], activation: str) -> str:
    chosen = rows_of(summary, activation)
    rows = [[method, *[error_of(row["errors"][method]) for row in chosen]] for method in ESTIMATES]
    rows.append(["repeating", *[f"{row['repeating']:.0%}" for row in chosen]])
    return table(["method", *[row["format"] for row in chosen]], rows)


def top_bin_table(summary: dict[str, Any], activation: str) -> str:
    rows = []
    for row in rows_of(summary, activation):
        of = row["top_bin"]
        cells = zip(of["rows"], of["bits"], strict=True)
        rows.append(
            [row["format"], *[f"{100 * share:.1f}%, {bits[0]:+.2f}" for share, bits in cells]]
        )
    return table(layer_head("format", len(rows[0]) - 1), rows)


def stochastic_table(summary: dict[str, Any], activation: str) -> str:
    rows = []
    for row in rows_of(summary, activation, "stochastic"):
        of = summary["less_nearest"][label_of(row)]
        rows.append(
            [row["format"], *[f"{plus_minus(v['less'])}, p {p_value(v['holm'])}" for v in of]]
        )
    return table(layer_head("format", len(rows[0]) - 1), rows)


def correlation_table(summary: dict[str, Any]) -> str:
    rows = []
    for activation, methods in summary["correlations"].items():
        for method, layers in methods.items():
            values = [f"{v[0]:+.2f} ({v[1]:+.2f} … {v[2]:+.2f}), p {p_value(v[4])}" for v in layers]
            rows.append([f"{activation}, {method}", *values])
    return table(layer_head("Spearman's ρ", len(rows[0]) - 1), rows)


def spread(summary: dict[str, Any], activation: str, layer: int) -> tuple[float, float]:
    """Of compression: the deviation between formats (mean over methods on all rows), and between
    those methods (mean over formats)."""
    c = np.array(
        [
            [row[m]["compression"][layer][0] for m in COMPARED[:4]]
            for row in rows_of(summary, activation, None)
        ]
    )
    return float(c.std(axis=0, ddof=1).mean()), float(c.std(axis=1, ddof=1).mean())


def method_section(results: Results, summary: dict[str, Any], command: str) -> str:
    size = results.size
    recorded = ", ".join(map(str, results.epochs))
    seconds = f" in {summary['seconds']} s" if summary.get("seconds") else ""
    noise, kl = OPTIONS["noise"], OPTIONS["kl"]
    learnt = sum(row["fitted"] for row in summary["cells"] if row["format"] == "E2M1")
    of_all = size.seeds * sum(row["format"] == "E2M1" for row in summary["cells"])
    broken = (
        f"\nPositive control: E2M1, known to be too narrow, fits {learnt} of {of_all} networks."
        if of_all
        else ""
    )
    return f"""## Method

Networks 12-10-7-5-4-3-2 ({", ".join(size.activations)}; softmax at the end) learn the data of
Shwartz-Ziv and Tishby ([information](../information.md)) for {size.epochs} epochs: Adam at 3e-3,
batches of 512, 85% of the 4096 rows, seeds 0 to {size.seeds - 1}, which draw the same weights,
split and order of rows for every format. The operands of every product, weights, layers and
gradients, are rounded to the format (saturating) with a power of two as scale that is fixed before
training: the largest that keeps 2 for weights, 1 for gradients, tanh and probabilities, 4 for ReLU
and its leaky form (slope 0.01) within the format, and 1 for formats with binary32's exponent.
Products are summed in binary64 and rounded once to binary32; biases, master weights and Adam's
state are binary32. *Stochastic* rounds so in training (variant A, bits by seed, step, tensor,
index); what is recorded is always a pass over all 4096 rows rounded to nearest, so that a layer is
a function of its input and I(X;T) = H(T), counted; −0 is 0.

Compression of a layer is its largest I(X;T) of {len(results.epochs)} recorded epochs ({recorded})
less the last one. `exact`, `binning`, `binning-closed` (its bin of +1 joined to the one below),
`bin-size` and `ebab` see all rows. All others see {SUBSET} of them and are compared with
`exact-{SUBSET}`: `kde` (upper bound, σ² = 1e-3), `akde`, `noise` (β = {noise["deviation"]},
{noise["draws"]} draws a row), `cs-qmi` (widths by Silverman's rule; not an I(X;T)), `ksg`
({OPTIONS["ksg"]["neighbours"]} neighbours) and `kl` ({kl["components"]} principal components of x
and of t, {kl["neighbours"]} neighbours). The last two are asked at the first and the last record.

a ± b: mean over seeds and half the 95% interval (Student's t); *exact less FP32* is paired by
seed, *least effect* what its test at 5% finds with 80% power. p: of that test, adjusted by Holm's
method for all formats, roundings, activations and layers together
({len(summary["less_fp32"]) * results.layers} comparisons). Other intervals are not corrected for
their number. A network counts as fitted above 90% of the training rows: k alone gives 87.5%.

Controls before each run: binary32 through the path of emulation (every operand rounded) gives the
bits of binary32 without it, for every activation.{broken}

Made by `{command}`{seconds} (halfulp {__version__}).
"""


def write_page(
    results: Results, page: Path, command: str, summary: dict[str, Any], figures: Path
) -> None:
    """Method and results; the figures of that folder beside it, named after it."""
    size, stem = results.size, page.stem
    page.parent.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        copyfile(figures / name, page.with_name(f"{stem}-{name}"))
    other = stem.removesuffix("-full") if stem.endswith("-full") else f"{stem}-full"
    beside = page.with_name(f"{other}.md").is_file()
    text = "# The information plane, exact\n\n"
    text += f"{QUESTION} {size.seeds} seeds, {size.epochs} epochs"
    text += f"; the other size: [{other}]({other}.md).\n\n" if beside else ".\n\n"
    text += method_section(results, summary, command)
    text += "\n## H(T) at initialisation and at the end\n\n"
    for activation in size.activations:
        text += f"{activation}, rounded to nearest, bits, mean over seeds:\n\n"
        text += entropy_table(summary, activation) + "\n"
    text += f"![exact planes by format]({stem}-planes.png)\n\n"
    text += f"![the same by epochs]({stem}-planes.gif)\n\n## Compression\n\n"
    for activation in size.activations:
        for layer in (results.layers - 2, results.layers - 1):
            between_formats, between_methods = spread(summary, activation, layer)
            text += f"{activation}, layer {layer + 1}, bits:\n\n"
            text += compression_table(summary, activation, layer)
            text += (
                "\nBetween formats the standard deviation of the means is "
                f"{between_formats:.2f} bits (mean over the first four methods), between those "
                f"methods {between_methods:.2f} bits (mean over formats).\n\n"
            )
    text += f"![compression by method]({stem}-compression.png)\n\n"
    text += f"""## Error of the estimators

Estimate less count of I(X;T) on the same rows, bits: mean over records and layers, ± over seeds;
rounded to nearest. {" and ".join(f"`{m}`" for m in REFUSING)}, which are for continuous values,
refuse a layer of which more than 5% of the {SUBSET} rows repeat another, `kl` also one with rows at
no distance: the share of layers that they refused stands beside the error on the others, which
is left out where fewer than three seeds have one. *repeating*: the share of those layers of which
more than 5% of all 4096 rows repeat another, which they would refuse if they saw all.

"""
    for activation in size.activations:
        text += f"{activation}:\n\n" + error_table(summary, activation) + "\n"
    text += f"![errors of the estimators]({stem}-errors.png)\n\n"
    if "tanh" in size.activations:
        text += """## The bin of +1

tanh, rounded to nearest, last epoch: the share of rows with a value of exactly 1 (or above the last
edge), which the 30 edges of `binning` give a bin of their own, and how many bits of I(X;T) that bin
makes (`binning` less `binning-closed`).

"""
        text += top_bin_table(summary, "tanh") + "\n"
    text += f"""## Rounding stochastically

Counted compression less that of the same format to nearest, bits, paired by seed; p by Holm's
method for all of {len(summary["less_nearest"]) * results.layers} comparisons.

"""
    for activation in size.activations:
        if rows_of(summary, activation, "stochastic"):
            text += f"{activation}:\n\n" + stochastic_table(summary, activation) + "\n"
    number = sum(len(of) for of in summary["correlations"].values()) * results.layers
    text += f"""## Compression and generalisation

Of compression and the share of unseen rows that is right at the end: over the seeds of each cell,
mean over cells; 95% by drawing seeds again; p by permuting seeds, the same in every cell, by Holm's
method for all {number} of them.

"""
    text += correlation_table(summary)
    kept = page.read_text(encoding="utf-8").partition(READING) if page.is_file() else ("", "", "")
    page.write_text(text + ("\n" + READING + kept[2] if kept[1] else ""), encoding="utf-8")
