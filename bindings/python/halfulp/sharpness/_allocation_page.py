"""Figures and the section of the page for the bit-allocation part of the study `sharpness`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from halfulp.sharpness._allocation_measures import (
    CLIPS,
    DRAWS,
    FORMATS,
    INTEGERS,
    LIMITS,
    METHODS,
    PROXIES,
)
from halfulp.sharpness._allocation_results import CLAIMS, RHO, AllocationResults, bootstrap
from halfulp.sharpness._allocation_study import (
    OPERATION_LIMITS,
    PREDICTORS,
    SIZE_LIMIT,
    AllocationSize,
)

FIGURES = ("allocation-rho.png", "allocation-front.png", "allocation-pairs.png")
NAMES = {
    "random": "random",
    "parameters": "number of parameters",
    "hawq": "HAWQ: λ_max/n",
    "trace": "tr/n",
    "perturbation": "‖δ‖²",
    "baq": "BAQ: L·2^(−2R)",
    "hawq-v2": "HAWQ-V2: Ω",
    "first order": "g·δ",
    "second order": "½ δᵀHδ",
    "taylor": "g·δ + ½ δᵀHδ",
}
METHOD_NAMES = {
    "uniform": "equal bits",
    "random": "random",
    "hawq": "HAWQ's order",
    "hawq-v2": "HAWQ-V2's front",
    "baq": "BAQ",
    "taylor": "program, g·δ + ½ δᵀHδ",
    "measured": "program, measured",
    "measured+pairs": "program, measured + pairs",
    "best": "best of all",
}


def rho_figure(results: AllocationResults) -> Figure:
    """ρ of every proxy with the truth: over everything, and over layers within formats."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(PROXIES))
    for i, network in enumerate(results.networks):
        rho = results.rho(network)
        for k, a in enumerate(axes):
            found = np.array([bootstrap(rho[p][2 * k]) for p in PROXIES])
            error = np.abs(found[:, 1:3] - found[:, :1]).T
            offset = 0.2 * (i - (len(results.networks) - 1) / 2)
            a.errorbar(found[:, 0], rows + offset, xerr=error, fmt="o", ms=3.5, lw=1, label=network)
    for a, title in zip(
        axes, ("over layers and formats", "over layers, within formats of ≤ 4 bits"), strict=True
    ):
        a.axvline(0, color="0.8", lw=0.8, zorder=0)
        a.set_title(title, fontsize=9)
        a.set_xlabel("Spearman's ρ with the measured rise of the loss")
        a.set_xlim(-1, 1.02)
    axes[0].set_yticks(rows, [NAMES[p] for p in PROXIES])
    axes[0].invert_yaxis()
    axes[0].legend(fontsize=8)
    return figure


def front_figure(results: AllocationResults) -> Figure:
    """Loss and accuracy against size, means over seeds: a line a method, a cross a format."""
    networks = results.networks
    figure = Figure(figsize=(3.6 * len(networks), 5.6), layout="constrained")
    axes = figure.subplots(2, len(networks), squeeze=False, sharex=True)
    styles = {"best": ("k", "-"), "random": ("0.7", ":"), "hawq": ("C0", "--")}
    bits = np.array([b for _, b in FORMATS.values()])
    for column, network in zip(axes.T, networks, strict=True):
        for i, (method, values) in enumerate(results.front(network).items()):
            if method == "uniform":
                continue
            color, line = styles.get(method, (f"C{i}", "-"))
            for a, y in zip(column, values[1:], strict=True):
                label = METHOD_NAMES[method]
                a.plot(values[0], y, line, color=color, marker=".", ms=4, lw=1, label=label)
        uniform = results.by_network[network]["uniform"].mean(axis=0)
        shown = bits <= 8
        for k, a in enumerate(column):
            a.plot(bits[shown], uniform[shown, k], "x", color="k", ms=4, label="one format for all")
            for name, b, y in zip(FORMATS, bits, uniform[:, k], strict=True):
                if b <= 8 and not name.startswith("INT"):
                    a.annotate(name, (b, y), fontsize=6, xytext=(2, 2), textcoords="offset points")
        column[0].set_title(network, fontsize=9)
        column[0].set_yscale("symlog", linthresh=1e-3)
        column[1].set_xlabel("mean bits of a weight")
        top = results.by_network[network]["accuracy"].mean()
        column[1].axhline(top, color="0.8", lw=0.8, zorder=0)
        column[1].set_ylim(max(0.0, top - 0.25), top + 0.02)
    axes[0, 0].set_ylabel("rise of the loss / nats")
    axes[1, 0].set_ylabel("accuracy on unseen images")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8
    )
    return figure


def pairs_figure(results: AllocationResults) -> Figure:
    """How large inter-layer terms are, and what sums say of all allocations."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    count = len(results.networks)
    for i, network in enumerate(results.networks):
        offset = 0.12 * (i - (count - 1) / 2)
        found = np.array(list(results.interactions(network).values()))
        error = np.abs(found[:, 1:3] - found[:, :1]).T
        at = np.arange(len(INTEGERS)) + offset
        left.errorbar(at, found[:, 0], yerr=error, fmt="o", ms=3.5, lw=1, label=network)
        joint = results.by_network[network]["joint"]
        found = np.array([bootstrap(joint[:, k]) for k in range(len(PREDICTORS))])
        error = np.abs(found[:, 1:3] - found[:, :1]).T
        at = np.arange(len(PREDICTORS)) + offset
        right.errorbar(at, 1 - found[:, 0], yerr=error, fmt="o", ms=3.5, lw=1)
    left.set_xticks(range(len(INTEGERS)), INTEGERS, fontsize=8)
    left.set_ylabel("|L_ij − L_i − L_j| / (|L_i| + |L_j|)")
    left.set_ylim(0)
    left.legend(fontsize=8)
    right.set_xticks(
        range(len(PREDICTORS)), ["ΣΩ", "Σ Taylor", "Σ L_i", "Σ L_i + pairs"], fontsize=8
    )
    right.set_yscale("log")
    right.set_ylabel("1 − ρ with the loss of all allocations")
    return figure


def allocation_figures(results: AllocationResults, folder: str | Path) -> list[Path]:
    """Writes FIGURES into the folder; returns their paths."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    drawn = (rho_figure(results), front_figure(results), pairs_figure(results))
    for name, figure in zip(FIGURES, drawn, strict=True):
        figure.savefig(place / name, dpi=110)
    return [place / name for name in FIGURES]


def cell(interval: list[Any], digits: int = 2, sign: bool = False) -> str:
    """mean [low, high]."""
    if interval[0] is None or not np.isfinite(interval[0]):
        return "–"
    plus = "+" if sign else ""
    mean, low, high = (f"{v:{plus}.{digits}f}".replace("-", "−") for v in interval[:3])
    return f"{mean} [{low}, {high}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def rho_table(results: AllocationResults) -> str:
    rows = []
    rho = {network: results.rho(network) for network in results.networks}
    for proxy in PROXIES:
        row = [NAMES[proxy]]
        for network in results.networks:
            intervals = [bootstrap(rho[network][proxy][k]) for k in range(len(RHO))]
            row += [cell(intervals[0]), cell(intervals[2]), f"{intervals[2][3]:.2f}"]
        rows.append(row)
    head = ["proxy"]
    for network in results.networks:
        head += [f"{network}: all", "within, ≤ 4 bits", "least"]
    return table(head, rows)


def rise_table(results: AllocationResults, network: str) -> str:
    rises = results.chosen(network)
    seeds = results.seeds(network)
    rows = []
    for method in [*METHODS, "best"]:
        row = [METHOD_NAMES[method]]
        for interval in rises[method]:
            half = (interval[2] - interval[1]) / 2
            lost = not np.isfinite(interval[0])
            row.append("–" if lost else f"{interval[0]:.4f} ± {half:.4f}".replace("-", "−"))
        rows.append(row)
    return table([f"{network} ({seeds} seeds)", *[f"{limit:g} bits" for limit in LIMITS]], rows)


def verdicts(results: AllocationResults) -> str:
    """Each claim on each network: the difference, and what a t test says of it."""
    found = {network: results.claims(network) for network in results.networks}
    tests = len(found) * len(CLAIMS)
    rows = []
    for claim, text in CLAIMS.items():
        for network, by in found.items():
            mean, low, high, least, p = by[claim]
            if p >= 0.05:
                says = "not seen"
            else:
                says = "yes" if mean > 0 else "no, the reverse"
                says += "" if p < 0.05 / tests else ", not after correction"
            digits = 3 if max(abs(low), abs(high)) < 0.2 else 2
            interval = cell([mean, low, high], digits, sign=True)
            rows.append([text, network, interval, f"{least:.{digits}f}", says])
            text = ""
    return table(["claim", "network", "difference", "least effect", "holds"], rows)


def allocation_section(results: AllocationResults, figures: str = "sharpness") -> str:
    """The section in Markdown; its pictures are FIGURES, named {figures}-{name} beside the page."""
    size: AllocationSize = results.size
    controls = results.controls()
    checks = [f"a layer left as it is raises the loss by {controls.pop('ties'):g}"]
    for network, of in controls.items():
        before, after = (of["rho"]["perturbation"][k][0] for k in (0, 1))
        v2 = [of["rho"]["hawq-v2"][k][0] for k in (0, 1)]
        same = "the same bits" if of["same truth"] else "OTHER BITS"
        checks.append(
            f"a quadratic loss with blocks a·I: ρ of Ω {of['quadratic rho']:g}, the program finds "
            f"the best allocation in {of['quadratic best']:.0%} of seeds"
        )
        checks.append(
            f"{network} with its second layer times 8 and its third over 8, the same function: the "
            f"truth has {same}, ρ of Ω goes from {v2[0]:.3f} to {v2[1]:.3f}, ρ of ‖δ‖² from "
            f"{before:.3f} to {after:.3f}"
        )
    networks = ", ".join(results.networks)
    left = results.kept.get("left_out")
    seconds = results.kept.get("seconds", "some")
    text = f"""## Which layer gets the bits?

Networks {networks}; {size.seeds} seeds each, trained in binary64 ({size.epochs} epochs of Adam at
3e-3, falling to 0, batches of 64). Only weights are quantised, layer by layer, in
{len(FORMATS)} formats: each tensor times one scale, that of least squared error among
{len(CLIPS)} that put 20% to 100% of max|W| on the format's largest value (E8M3 and BF16
unscaled). Loss, gradient g and Hessian H are of the same {size.rows} training images, H by exact
products; δ = Q(W) − W; λ_max by Lanczos, traces by Hutch++ with {size.samples} products a layer.
The truth is the rise of the loss when one layer is quantised. Intervals: 95%, of ρ by drawing
seeds again (with {size.seeds} seeds somewhat too narrow), of differences Student's; *least*: what a
test at 5% finds with 80% power. Measured in {seconds} s.{" Left out: " + left if left else ""}

Controls: {"; ".join(checks)}.

### Proxies beside the measured truth

*All*: Spearman's ρ over layers and formats. *Within, ≤ 4 bits*: over the layers of one format, mean
over {", ".join(n for n, (_, b) in FORMATS.items() if b <= 4)}; a proxy of the layer alone can only
show there. These are ranks of three to five layers: coarse.

{rho_table(results)}
![rank correlations]({figures}-{FIGURES[0]})

### Allocations

Each layer takes one of {INTEGERS[0]} to {INTEGERS[-1]} under a limit of the mean bits of a
weight; every allocation was evaluated, so *best of all* is the truth. *HAWQ's order*: bits fall by
two along λ_max/n; *random*: mean of {DRAWS} that fit; *program*: the integer program with the sum
of the given rises. Rise of the loss on the {size.rows} images, mean ± half of 95% over seeds:

"""
    for network in results.networks:
        text += rise_table(results, network) + "\n"
    text += f"""![fronts]({figures}-{FIGURES[1]})

Under {SIZE_LIMIT:g} bits of size and a limit of bit operations (products × bits of the weight),
rise of the loss:

"""
    rows = []
    for network in results.networks:
        of = results.by_network[network]["operations"]
        for i, limit in enumerate(OPERATION_LIMITS):
            values = [bootstrap(of[:, i, k]) for k in range(3)]
            rows.append([network, f"{limit:g}", *[cell(v, 4) for v in values]])
    text += table(["network", "bits a product", "V3, Ω", "V3, measured", "best of all"], rows)
    text += f"""
### Between layers

Left: the inter-layer term beside the two rises, both layers in the same format, median over pairs
of layers. Right: how well a sum over layers ranks all {len(INTEGERS)}^layers allocations.

![inter-layer terms]({figures}-{FIGURES[2]})

### Claims

Differences by seed, positive where the claim holds; *not after correction*: 0.05 divided by the
{len(CLAIMS) * len(results.networks)} tests of this table is not reached.

{verdicts(results)}"""
    return text
