"""The main table of a sweep: as text, CSV, LaTeX and JSON."""

import csv
import io
import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .controls import Check
from .statistics import Accuracy, Interval, Summary

Row = dict[str, Any]

HEADINGS = (
    "policy",
    "held-out accuracy\n(range over seeds)",
    "at\nrate",
    "loss gap at\nbaseline's rate",
    "loss gap,\nmean over rates",
    "learning-rate\nsensitivity",
    "diverged",
)
NARROW_HEADINGS = (
    "policy",
    "held-out\naccuracy\n(range)",
    "at\nrate",
    "loss gap\nat base\nrate",
    "loss gap\nmean over\nrates",
    "rate\nsensi-\ntivity",
    "diverged",
)


@dataclass(frozen=True)
class Table:
    """The main table. `rows` hold numbers (None: not known yet); printing it gives text."""

    title: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        self.print(Console(file=text, width=110, color_system=None))
        return text.getvalue().rstrip("\n")

    def print(self, console: Any = None) -> None:
        """Prints the table, its notes and the controls on a rich console (default: stdout)."""
        from rich.console import Console
        from rich.markup import escape

        if console is None:
            console = Console(width=None if sys.stdout.isatty() else 132)
        table = self._rich(narrow=False)
        unbounded = console.options.update(max_width=1000)
        if console.measure(table, options=unbounded).maximum > console.width:
            table = self._rich(narrow=True)
        console.print(table)
        for note in self.notes:
            console.print(escape(note), highlight=False)
        if self.checks:
            console.print("\nControls", style="bold")
        for check in self.checks:
            style = {True: "green", False: "bold red", None: "yellow"}[check.passed]
            console.print(
                f"  [{style}]{check.word}[/]  {escape(check.name)}\n        {escape(check.detail)}",
                highlight=False,
                soft_wrap=True,
            )

    def _rich(self, narrow: bool) -> Any:
        """The table for a console; narrow: with intervals on a line of their own."""
        from rich.box import SIMPLE_HEAD
        from rich.markup import escape
        from rich.table import Table as RichTable

        table = RichTable(
            title=escape(self.title),
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            padding=(0, 0 if narrow else 1),
        )
        for index, heading in enumerate(NARROW_HEADINGS if narrow else HEADINGS):
            name = index == 0  # the one column that may be folded
            table.add_column(
                heading,
                justify="right" if index > 1 else "left",
                no_wrap=not name,
                overflow="fold" if name else "ellipsis",
                min_width=8 if name else None,
            )
        for row in self.rows:
            cells = [escape(text) for text in texts(row)]
            if narrow:
                cells = [re.sub(r" (?=[±(])", "\n", cell) for cell in cells]
            table.add_row(*cells)
        return table

    def to_csv(self) -> str:
        """Comma-separated values with a header: a row per policy, numbers, empty if unknown."""
        out = io.StringIO()
        writer = csv.DictWriter(out, list(_COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return out.getvalue()

    def to_json(self) -> str:
        """One object: title, rows (as `rows`), notes, controls."""
        document = {
            "title": self.title,
            "rows": self.rows,
            "notes": self.notes,
            "controls": [
                {"name": c.name, "passed": c.passed, "detail": c.detail} for c in self.checks
            ],
        }
        return json.dumps(document, indent=2)

    def to_latex(self) -> str:
        """A tabular environment for the package booktabs."""
        lines = [
            "% needs \\usepackage{booktabs}",
            f"\\begin{{tabular}}{{ll{'r' * (len(HEADINGS) - 2)}}}",
            "\\toprule",
            " & ".join(_latex(heading.replace("\n", " ")) for heading in HEADINGS) + " \\\\",
            "\\midrule",
            *(" & ".join(_latex(text) for text in texts(row)) + " \\\\" for row in self.rows),
            "\\bottomrule",
            "\\end{tabular}",
        ]
        return "\n".join([*lines, *(f"% {note}" for note in self.notes)]) + "\n"


_COLUMNS = (
    "policy", "baseline", "cells", "best_rate", "accuracy", "accuracy_low", "accuracy_high",
    "baseline_rate", "gap", "gap_low", "gap_high", "gap_df",
    "mean_gap", "mean_gap_low", "mean_gap_high", "mean_gap_df",
    "sensitivity", "sensitivity_low", "sensitivity_high", "sensitivity_df",
    "diverged", "diverged_share_low", "diverged_share_high",
)  # fmt: skip


def row_of(summary: Summary) -> Row:
    """The numbers of one row, keys as in the CSV; None where nothing is known."""
    accuracy = summary.accuracy or Accuracy(math.nan, math.nan, math.nan, 0)
    low, high = summary.diverged_interval
    row: Row = {
        "policy": summary.setting,
        "baseline": summary.baseline,
        "cells": summary.runs,
        "best_rate": summary.best_rate,
        "accuracy": accuracy.mean,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "baseline_rate": summary.baseline_rate,
        **_interval("gap", summary.gap),
        **_interval("mean_gap", summary.mean_gap),
        **_interval("sensitivity", summary.sensitivity),
        "diverged": summary.diverged,
        "diverged_share_low": low,
        "diverged_share_high": high,
    }
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in row.items()
    }


def texts(row: Row) -> list[str]:
    """The cells of one row as text, one per heading; intervals as mean ± half-width."""
    accuracy = "–"
    if row["accuracy"] is not None:
        accuracy = f"{row['accuracy']:.3f} ({row['accuracy_low']:.3f}–{row['accuracy_high']:.3f})"
    share = ""
    if row["cells"]:
        low, high = 100 * row["diverged_share_low"], 100 * row["diverged_share_high"]
        share = f" ({low:.0f}–{high:.0f}%)"
    own = row["policy"] == row["baseline"]
    return [
        row["policy"],
        accuracy,
        "–" if row["best_rate"] is None else f"{row['best_rate']:g}",
        "baseline" if own else _plus_minus(row, "gap"),
        "baseline" if own else _plus_minus(row, "mean_gap"),
        _plus_minus(row, "sensitivity"),
        f"{row['diverged']}/{row['cells']}{share}",
    ]


def notes(summaries: Sequence[Summary], finished: int, planned: int) -> list[str]:
    """What a reader has to know to read the numbers."""
    rates = sorted({row.baseline_rate for row in summaries if row.baseline_rate is not None})
    at = "" if len(rates) != 1 else f" ({rates[0]:g})"
    df = sorted({i.df for row in summaries for i in (row.gap, row.mean_gap) if i is not None})
    freedom = f", df = {', '.join(map(str, df))}" if df else ""
    lines = [
        "Losses in nats, held out. a ± b: mean over seeds and half the 95% interval (Student t"
        f"{freedom}).",
        "Gaps are paired by seed: the policy's loss minus the baseline's, at the baseline's best "
        f"learning rate{at}, and clipped at the initial loss as a mean over all rates.",
        "A diverged run counts with its loss at initialisation. Accuracy: at the policy's own best "
        "rate. Diverged: runs, with Wilson's 95% interval. No interval is corrected for the number "
        "of policies.",
    ]
    if finished < planned:
        lines.insert(0, f"PROVISIONAL: {finished} of {planned} cells are finished.")
    return lines


def _interval(name: str, interval: Interval | None) -> Row:
    interval = interval or Interval(math.nan, math.nan, math.nan, 0)
    return {
        name: interval.mean,
        f"{name}_low": interval.low,
        f"{name}_high": interval.high,
        f"{name}_df": max(interval.df, 0),
    }


def _plus_minus(row: Row, name: str) -> str:
    mean, high = row[name], row[f"{name}_high"]
    if mean is None:
        return "–"
    return f"{mean:.4f}" if high is None else f"{mean:.4f} ± {high - mean:.4f}"


def _latex(text: str) -> str:
    for plain, escaped in (
        ("\\", "\\textbackslash{}"), ("_", "\\_"), ("%", "\\%"), ("&", "\\&"), ("#", "\\#"),
        ("±", "$\\pm$"), ("–", "--"),
    ):  # fmt: skip
        text = text.replace(plain, escaped)
    return text
