"""The main table of a sweep: as text, CSV, LaTeX and JSON."""

import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from .controls import Check
from .metrics import SHARES, Details, Spread
from .statistics import Accuracy, Interval, Plan, Summary

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
    warnings: list[str] = field(default_factory=list)  # what must be known before any number
    notes: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    details: Callable[[], list[Row]] = field(default=list, repr=False)  # further columns of rows

    @cached_property
    def full_rows(self) -> list[Row]:
        """`rows` with the columns that CSV and JSON have and the printed table has not."""
        more = self.details() or [{} for _ in self.rows]
        return [row | other for row, other in zip(self.rows, more, strict=True)]

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
        for warning in self.warnings:
            console.print(escape(warning), style="bold red", highlight=False)
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
        """Comma-separated values with a header: a row per policy, numbers, empty if unknown.

        Divergences at each rate: diverged_at_RATE, and _n, _low and _high.
        """
        rows = [_flat(row) for row in self.full_rows]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()

    def to_json(self) -> str:
        """One object: title, rows (as `rows`), warnings, notes, controls."""
        document = {
            "title": self.title,
            "rows": self.full_rows,
            "warnings": self.warnings,
            "notes": self.notes,
            "controls": [
                {"name": c.name, "passed": c.passed, "detail": c.detail} for c in self.checks
            ],
        }
        return json.dumps(document, indent=2, allow_nan=False)

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
        return "\n".join([*lines, *(f"% {note}" for note in (*self.warnings, *self.notes))]) + "\n"


def row_of(summary: Summary, plan: Plan) -> Row:
    """The numbers of one row, keys as in the CSV; None where nothing is known."""
    accuracy = summary.accuracy or Accuracy(math.nan, math.nan, math.nan, 0, ())
    row: Row = {
        "policy": summary.setting,
        "baseline": summary.baseline,
        "cells": summary.runs,
        "cells_planned": summary.planned,
        "seeds": len(plan.seeds),
        "best_rate": summary.best_rate,
        "accuracy": accuracy.mean,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "accuracy_n": accuracy.n,
        "accuracy_rates": list(accuracy.rates),
        "baseline_rate": summary.baseline_rate,
        **_interval("gap", summary.gap),
        **_interval("mean_gap", summary.mean_gap),
        **_interval("sensitivity", summary.sensitivity),
        "diverged": summary.diverged,
        "divergences": [asdict(share) for share in summary.divergences],
    }
    return _known(row)


def columns_of(details: Details) -> Row:
    """The columns of one row that are not in the printed table; None where nothing is known."""
    speed, frozen = details.throughput, details.frozen
    row: Row = {
        **_spread("loss", details.loss),
        **{f"baseline_{name}": loss for name, loss in details.baselines.items()},
        **_spread("loss_spikes", details.loss_spikes),
        **_spread("gradient_spikes", details.gradient_spikes),
        "steps_per_second": speed.steps_per_second if speed else None,
    }
    if speed:
        row[f"{speed.item}_per_second"] = speed.items_per_second
    for role, counts in details.roles.items():
        row |= {f"{role}_{name}": counts.share(name) for name in SHARES}
    for name in ("frozen", "stagnation_law", "adam_law"):
        row[name] = getattr(frozen, name) if frozen else None
    row["gradients"] = [_known(asdict(agreement)) for agreement in details.gradients]
    return _known(row)


def _known(row: Row) -> Row:
    """JSON has no NaN and no infinity: None."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }


def _flat(row: Row) -> Row:
    """A row without lists, for CSV."""
    lists = ("divergences", "gradients")
    flat = {key: value for key, value in row.items() if key not in lists}
    flat["accuracy_rates"] = " ".join(f"{rate:g}" for rate in row["accuracy_rates"])
    for agreement in row.get("gradients", ()):
        for name in ("cosine", "relative_error"):
            flat[f"gradient_{name}_{agreement['parameter']}"] = agreement[name]
    for share in row["divergences"]:
        name = f"diverged_at_{share['rate']:g}"
        flat[name] = share["count"]
        flat.update({f"{name}_{key}": share[key] for key in ("n", "low", "high")})
    return flat


def texts(row: Row) -> list[str]:
    """The cells of one row as text, one per heading; intervals as mean ± half-width.

    A number that rests on fewer seeds than the sweep has says on how many.
    """
    accuracy = rates = "–"
    if row["accuracy"] is not None:
        accuracy = f"{row['accuracy']:.3f} ({row['accuracy_low']:.3f}–{row['accuracy_high']:.3f})"
        if row["accuracy_n"] != row["seeds"]:
            accuracy += f" (n = {row['accuracy_n']})"
        chosen = sorted(set(row["accuracy_rates"]))
        rates = f"{chosen[0]:g}" + (f"–{chosen[-1]:g}" if len(chosen) > 1 else "")
    own = row["policy"] == row["baseline"]
    return [
        row["policy"],
        accuracy,
        rates,
        "baseline" if own else _plus_minus(row, "gap"),
        "baseline" if own else _plus_minus(row, "mean_gap"),
        _plus_minus(row, "sensitivity"),
        f"{row['diverged']}/{row['cells']}",
    ]


def notes(summaries: Sequence[Summary], plan: Plan) -> list[str]:
    """What a reader has to know to read the numbers."""
    n = len(plan.seeds)
    shown = [i for row in summaries for i in (row.gap, row.mean_gap, row.sensitivity)]
    intervals = sum(interval is not None and interval.n > 1 for interval in shown)
    if n == 1:
        over = "1 seed, so there are no intervals"
        chosen = "each rate is chosen by the run that is judged at it, there being one seed,"
    else:
        over = (
            f"{n} seeds and half the 95% interval (Student t, df = {n - 1}; a number that rests on "
            "fewer seeds says so)"
        )
        chosen = "for each seed the other seeds choose the rate of least mean loss,"
    ends = {plan.rates[0], plan.rates[-1]} if len(plan.rates) > 1 else set()
    edge = [row.setting for row in summaries if row.accuracy and ends & {*row.accuracy.rates}]
    beyond = f" Chosen at an end of the rates, so a better one may lie beyond: {', '.join(edge)}."
    many = "is 1 interval" if intervals == 1 else f"are {intervals} intervals"
    return [
        "Losses l in nats, held out, count as min(l, l0), l0 being the loss at initialisation; a "
        f"diverged run counts as l0. a ± b: mean over {over}.",
        "Gaps are paired by seed: the policy's loss minus the baseline's, at the baseline's best "
        "rate, and averaged over all rates. Accuracy is at the policy's own best rate.",
        f"Selection: {chosen} but on the examples that it is then judged by: one fixed held-out "
        "split. The baseline's rate favours the baseline; the gap over all rates chooses nothing; "
        "the sensitivity subtracts each seed's own least loss." + (beyond if edge else ""),
        f"There {many} here, and none is corrected for their number. Diverged: runs at all rates "
        "together; per rate, with intervals, in the report, CSV and JSON.",
    ]


def beaten_note(model: str, least: float, row: Summary, loss: Spread | None) -> str:
    """Whether a baseline policy beats a model of the data, with the numbers."""
    said = f"Baseline of the data: a {model} model has {least:.3f} nats on what is held out"
    if loss is None:
        return f"{said}; {row.setting} is not complete for any seed."
    verdict = "beats it" if loss.mean < least else "does NOT beat it"
    seeds = "1 seed" if loss.n == 1 else f"{loss.n} seeds"
    return (
        f"{said}; {row.setting} {verdict}, with {loss.mean:.3f} ({loss.low:.3f}–{loss.high:.3f} "
        f"over {seeds}) at its best rate {row.best_rate:g}."
    )


def _spread(name: str, spread: Spread | None) -> Row:
    spread = spread or Spread(math.nan, math.nan, math.nan, 0)
    return {
        name: spread.mean,
        f"{name}_low": spread.low,
        f"{name}_high": spread.high,
        f"{name}_n": spread.n,
    }


def _interval(name: str, interval: Interval | None) -> Row:
    interval = interval or Interval(math.nan, math.nan, math.nan, 0)
    return {
        name: interval.mean,
        f"{name}_low": interval.low,
        f"{name}_high": interval.high,
        f"{name}_df": max(interval.df, 0),
    }


def _plus_minus(row: Row, name: str) -> str:
    mean, high, df = row[name], row[f"{name}_high"], row[f"{name}_df"]
    if mean is None:
        return "–"
    text = f"{mean:.4f}" if high is None else f"{mean:.4f} ± {high - mean:.4f}"
    return text if df == row["seeds"] - 1 else f"{text} (df = {df})"


def _latex(text: str) -> str:
    for plain, escaped in (
        ("\\", "\\textbackslash{}"), ("_", "\\_"), ("%", "\\%"), ("&", "\\&"), ("#", "\\#"),
        ("±", "$\\pm$"), ("–", "--"),
    ):  # fmt: skip
        text = text.replace(plain, escaped)
    return text
