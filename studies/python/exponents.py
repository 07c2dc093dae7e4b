"""Histograms of exponents: where the tensors of each role lie in the range of their format."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .drawing import FONT, WIDTH, percent, styles
from .metrics import FIRST_EXPONENT, Details, RoleCounts

if TYPE_CHECKING:
    from .results import Sweep

OPERANDS = ("weights", "activations", "gradients")
BINARY32 = ("fp_e8p24b127_s_ieee_ieee", "binary32")
NORMAL_COLOUR, SUBNORMAL_COLOUR = "#BFDCEC", "#E6F1F7"
PANEL_HEIGHT = 1.15  # inches
HIDDEN = 0.01  # of a panel's inputs, at most, lie beyond the left end of the axis

_NAME = re.compile(
    r"fp_e(?P<exponent>\d+)p(?P<precision>\d+)b(?P<bias>-?\d+)_(?P<sign>[su])"
    r"_(?P<nan>[a-z]+)_(?P<inf>[a-z]+)(?P<nosub>_nosub)?(?P<nozero>_nozero)?"
    r"(?:_max(?:0x)?(?P<most>[0-9a-f]+))?"
)


@dataclass(frozen=True)
class Range:
    """The exponents of a format's values: binades from 2^least to 2^greatest."""

    least: int  # of the least value, subnormal ones included
    least_normal: int
    greatest: int  # of the largest finite value


def range_of(format_name: str) -> Range | None:
    """The range of a format by its canonical name (docs/definitions.md); None for another name.

    The largest code is that of the special values' rules: an IEEE top exponent field is left to
    infinity and NaN, `last` takes one code each.
    """
    name = BINARY32[0] if format_name in BINARY32 else format_name
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    bits, precision, bias = (int(match[key]) for key in ("exponent", "precision", "bias"))
    fraction = precision - 1
    if match["most"] is not None:
        largest = int(match["most"], 16)
    elif match["nan"] == "ieee":
        largest = (((1 << bits) - 1) << fraction) - 1
    else:
        largest = (1 << (bits + fraction)) - 1 - [match["nan"], match["inf"]].count("last")
    least_normal = (0 if match["nozero"] else 1) - bias
    least = least_normal if match["nosub"] else least_normal - fraction
    return Range(least, least_normal, max((largest >> fraction) - bias, least_normal))


def draw_exponents(sweep: "Sweep") -> Figure | None:
    """A row of panels per setting, a column per role; None if the cells observed nothing.

    Operands are always shown, master weights and sums where a policy narrows them.
    """
    rows = [row for row in sweep.details if row.roles]
    if not rows:
        return None
    formats = {row.setting: formats_of(sweep, row.setting) for row in rows}
    roles = shown_roles(formats.values())
    figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * len(rows) + 0.75), layout="constrained")
    panels = figure.subplots(len(rows), len(roles), sharex=True, sharey=True, squeeze=False)
    low, high = _limits(rows, roles, formats)
    for line, row in zip(panels, rows, strict=True):
        colour = styles(sweep)[row.setting].colour
        for axes, role in zip(line, roles, strict=True):
            _panel(axes, row.roles.get(role), range_of(formats[row.setting].get(role, "")), colour)
        line[0].set_ylabel(_folded(row.setting), fontsize=FONT - 2, color=colour)
    for axes, role in zip(panels[0], roles, strict=True):
        axes.set_title(role, fontsize=FONT)
    for axes in panels.flat:
        axes.set_xlim(low - 0.5, high + 0.5)
        axes.tick_params(labelsize=FONT - 3)
    top = max(float(row.roles[r].by_binade.max()) for row in rows for r in roles if r in row.roles)
    panels[0][0].set_ylim(0, 1.75 * top)  # the words stand above the bars
    panels[0][0].set_yticks([0, _round_down(top)])
    panels[0][0].yaxis.set_major_formatter(lambda y, _: f"{100 * y:g}%")
    figure.supxlabel("exponent of two, after scaling", fontsize=FONT - 1)
    return figure


def formats_of(sweep: "Sweep", setting: str) -> dict[str, str]:
    """Role -> canonical name of its format, for one setting."""
    precision = sweep.cells_of(setting)[0].specification["precision"]
    return {k: str(v["format"]) for k, v in precision.items() if isinstance(v, Mapping)}


def shown_roles(formats: Iterable[Mapping[str, str]]) -> list[str]:
    """The operands, then the other roles that some setting does not keep in binary32."""
    others = dict.fromkeys(
        role for each in formats for role, name in each.items() if name not in BINARY32
    )
    return list(dict.fromkeys([*OPERANDS, *others]))


def _panel(axes: Axes, counts: RoleCounts | None, span: Range | None, colour: str) -> None:
    """One histogram over the range of its format, with what was lost in words."""
    if span is not None:
        normal, least = span.least_normal, span.least
        axes.axvspan(normal - 0.5, span.greatest + 0.5, color=NORMAL_COLOUR, linewidth=0)
        if least < normal:
            axes.axvspan(least - 0.5, normal - 0.5, color=SUBNORMAL_COLOUR, linewidth=0)
    if counts is not None:
        edges = FIRST_EXPONENT - 0.5 + np.arange(counts.exponents.size + 1)
        axes.stairs(counts.by_binade, edges, fill=True, color=colour, alpha=0.85)
        axes.text(
            0.04, 0.96, _lost(counts), transform=axes.transAxes, va="top", fontsize=FONT - 3.5,
            linespacing=1.1, in_layout=False,
        )  # fmt: skip
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _lost(counts: RoleCounts) -> str:
    """What rounding lost, a line for each kind that is not 0."""
    words = (("over", "overflow"), ("under", "underflow"), ("to zero", "to_zero"))
    return "\n".join(f"{w} {percent(counts.share(s))}" for w, s in words if counts.share(s) > 0)


def _limits(
    rows: Sequence[Details], roles: Sequence[str], formats: Mapping[str, Mapping[str, str]]
) -> tuple[int, int]:
    """Exponents that the axes show: nearly all of the inputs, and the ranges of narrow formats."""
    ends: list[int] = []
    for row in rows:
        for role in roles:
            if role in row.roles and row.roles[role].exponents.any():
                inputs = np.cumsum(row.roles[role].by_binade)
                first = int(np.searchsorted(inputs, HIDDEN))
                last = int(np.flatnonzero(row.roles[role].exponents)[-1])
                ends += [FIRST_EXPONENT + first, FIRST_EXPONENT + last]
            span = range_of(formats[row.setting].get(role, ""))
            if span is not None and span.greatest - span.least < 64:
                ends += [span.least, span.greatest]
    return (min(ends) - 1, max(ends) + 1) if ends else (FIRST_EXPONENT, 127)


def _round_down(share: float) -> float:
    """A tick at or below a share: 1, 2 or 5 of a decade."""
    decade = 10.0 ** np.floor(np.log10(share)) if share > 0 else 1.0
    return float(max(k * decade for k in (1, 2, 5) if k * decade <= share or k == 1))


def _folded(name: str, width: int = 14) -> str:
    """A long name on two lines, broken at a hyphen or a comma."""
    if len(name) <= width:
        return name
    cuts = [i + 1 for i, letter in enumerate(name) if letter in "-, "] or [width]
    cut = min(cuts, key=lambda i: abs(i - len(name) / 2))
    return f"{name[:cut].strip()}\n{name[cut:].strip()}"
