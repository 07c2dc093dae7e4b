"""The page of a sweep: Markdown for docs/studies, with one figure beside it.

It depends on nothing but the sweep's folder (and the build of halfulp-cell that it is compared
with), so writing it again changes nothing.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import blocks
from .folder import write_atomically
from .panels import draw_curve_panels
from .progress import duration
from .report import render
from .table import HEADINGS, texts

if TYPE_CHECKING:
    from .results import Sweep

FIGURE_DPI = 100  # keeps the picture of eight settings below 120 kB
COMMANDS = "halfulp sweep sweep.toml --out DIR"


def write_page(sweep: "Sweep", path: str | Path, command: str = COMMANDS) -> Path:
    """Writes PATH and, beside it, the figure NAME.png, NAME being the sweep's; returns the path.

    command: what made the sweep, as a reader would type it.
    """
    path = Path(path)
    picture = path.with_name(f"{re.sub(r'[^A-Za-z0-9._-]+', '-', sweep.spec.name)}.png")
    figure = draw_curve_panels(sweep)
    write_atomically(picture, render(figure, "png", sweep.spec.name, dpi=FIGURE_DPI))
    write_atomically(path, page(sweep, picture.name, command))
    return path


def page(sweep: "Sweep", picture: str, command: str) -> str:
    """The text of the page; `picture`: the address of its figure."""
    table = sweep.table()
    parts = [
        f"# {sweep.spec.name}",
        sweep.spec.text("question"),
        *(f"**{warning}**" for warning in table.warnings),
        *_prose(sweep, "method"),
        "## How it was made",
        _made(sweep, command),
        *_block(blocks.data_baselines(sweep)),
        "## Results",
        _table(HEADINGS, [texts(row) for row in table.rows]),
        *table.notes,
        f"![Held-out loss of every policy during training]({picture})",
        "Held-out loss at the baseline's best learning rate: mean over seeds, band from the least "
        "to the largest, grey the baseline; × marks where a run diverged.",
        *_controls(sweep),
        *_block(blocks.shares(sweep)),
        *_block(blocks.frozen(sweep)),
        *_block(blocks.gradients(sweep)),
        *_block(blocks.spikes(sweep)),
        *_block(blocks.divergences(sweep)),
        *_prose(sweep, "claims"),
        *_prose(sweep, "limits"),
        *_block(blocks.speed(sweep)),
    ]
    return "\n\n".join(parts) + "\n"


def _made(sweep: "Sweep", command: str) -> str:
    """Command, date, machine, versions, time: a list."""
    finished = [cell for cell in sweep.cells if cell.finished]

    def said(name: str) -> str:
        found = dict.fromkeys(str(c.attributes[name]) for c in finished if name in c.attributes)
        return ", ".join(found) or "unknown"

    days = sorted(str(c.attributes["started"])[:10] for c in finished if "started" in c.attributes)
    seconds = sum(float(c.attributes.get("wall_seconds", 0)) for c in finished)
    resumed = sum(cell.resumed for cell in finished)
    facts = {
        "command": f"`{command}`",
        "cells": f"{len(finished)} of {len(sweep.cells)} finished: {_axes(sweep)}, and "
        f"{len(sweep.cells) - len(sweep.grid)} for controls",
        "date": " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "unknown",
        "machine": f"{said('cpu')}, {said('device')}",
        "software": f"halfulp {said('halfulp_version')} (commit {_short(said('git_sha'))}, "
        f"numerics {_short(said('numerics'))}), {said('compiler')}, {said('libc')}",
        "time": f"{duration(seconds)}, all cells together"
        + (f"; {resumed} times a cell went on from its checkpoint" if resumed else ""),
    }
    return "\n".join(f"- {name}: {text}" for name, text in facts.items())


def _axes(sweep: "Sweep") -> str:
    names = {"precision": "policies", "optimizer.learning_rate": "rates", "training.seed": "seeds"}
    axes = sweep.spec.axes.items()
    return " × ".join(f"{len(values)} {names.get(path, path)}" for path, values in axes)


def _short(digests: str) -> str:
    """The first digits of each of some digests."""
    return ", ".join(digest[:8] for digest in digests.split(", "))


def _prose(sweep: "Sweep", key: str) -> Iterable[str]:
    text = sweep.spec.text(key)
    return [f"## {key.capitalize()}", text] if text else []


def _controls(sweep: "Sweep") -> Iterable[str]:
    checks = sweep.check_controls()
    items = "\n".join(f"- **{c.word}** {c.name}: {c.detail}" for c in checks)
    return ["## Controls", items] if checks else []


def _block(block: "blocks.Block | None") -> Iterable[str]:
    if block is None:
        return []
    return [f"## {block.title}", _table(block.headings, block.rows), block.note]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left, the others to the right."""
    lines = [
        _row(heading.replace("\n", " ") for heading in headings),
        "|---" + "|---:" * (len(headings) - 1) + "|",
        *(_row(row) for row in rows),
    ]
    return "\n".join(lines)


def _row(texts: Iterable[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"
