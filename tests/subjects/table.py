"""What is kept of a run of subjects: the table, the records, and the page that is made of them."""

from __future__ import annotations

import gzip
import json
import math
import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def number(x: Any) -> float:
    return float(x) if x not in (None, "") else float("nan")


def plain(x: float) -> float | str:
    """As JSON has it: infinities and NaN are text."""
    return x if math.isfinite(x) else str(x)


class Results:
    """The table and the records of one device, written whole after every change."""

    def __init__(self, folder: Path, device: str) -> None:
        self.table = folder / f"conformance-{device}.json"
        self.records = folder / f"conformance-{device}.jsonl.gz"
        self.summary: dict[str, Any] = {
            "device": device,
            "where": "",
            "date": "",
            "absent": {},
            "rows": [],
        }
        self.lines: dict[str, list[str]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def read(self) -> None:
        """Takes what is there, as far as it can be read."""
        if not self.table.exists():
            return
        found = json.loads(self.table.read_text())
        self.summary |= {k: found[k] for k in self.summary if k in found}
        self.summary["rows"] = [r for r in self.summary["rows"] if "library" in r]
        if self.records.exists():
            with gzip.open(self.records, "rt") as lines:
                for line in lines:
                    record = json.loads(line)
                    if "of" in record:
                        self.lines.setdefault(record["of"], []).append(line.rstrip("\n"))

    def has(self, key: str) -> bool:
        """Whether there is a result; a subject that could not be run is asked again."""
        return any(r["key"] == key and "not_run" not in r for r in self.summary["rows"])

    def add(self, row: Row, environment: dict[str, Any], lines: list[str]) -> None:
        rows = [r for r in self.summary["rows"] if r["key"] != row["key"]] + [row]
        self.summary["rows"] = sorted(rows, key=lambda r: r["order"])
        if environment:
            cpu = environment["device"] in ("", "cpu")
            self.summary["where"] = environment["processor" if cpu else "device"]
            self.summary["driver"] = environment.get("driver", "")
        self.lines[row["key"]] = [f'{{"of": {json.dumps(row["key"])}, {line[1:]}' for line in lines]
        self.write()

    def write(self) -> None:
        self.summary["date"] = time.strftime("%Y-%m-%d")
        part = self.table.with_suffix(".part")
        part.write_text(
            json.dumps(self.summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        )
        part.rename(self.table)
        part = self.records.with_suffix(".part")
        with gzip.GzipFile(part, "wb", 9, mtime=0) as out:
            for row in self.summary["rows"]:
                out.write("".join(f"{x}\n" for x in self.lines.get(row["key"], ())).encode())
        part.rename(self.records)


def cell(x: float) -> str:
    return "" if x != x else f"{x:.3g}"


def tables(summary: dict[str, Any]) -> list[str]:
    rows = [r for r in summary["rows"] if "not_run" not in r]
    libraries: dict[str, str] = {}
    for r in rows:
        libraries |= r["libraries"]
    driver = f", driver {summary['driver']}" if summary.get("driver") else ""
    lines = [
        "",
        f"## {summary['device']}: {summary['where']}{driver}, {summary['date']}",
        "",
        ", ".join(f"{k} {v}" for k, v in sorted(libraries.items()))
        + ". Level "
        + ", ".join({r["level"] for r in rows}),
        "",
        "| suite | variant | subject | cases | unsupported | outside the bound | in families | largest error, of the bound | in ulp | same bits again | rows alone |",
        "|---|---|---|--:|--:|--:|---|--:|--:|---|---|",
    ]
    for r in rows:
        name = r["subject"] + (f" ({r['note']})" if r["note"] else "")
        checks = r["checks"]
        lines.append(
            f"| {r['suite']} | {r['variant']} | {name} | {r['cases']} | {r['unsupported'] or ''} | {r['failed']} "
            f"| {', '.join(r['families'])} | {cell(number(r['max_ratio']))} | {cell(number(r['max_ulp']))} "
            f"| {checks.get('run-to-run', '')} | {checks.get('batch', '')} |"
        )
    failing = [r for r in rows if r["first"]]
    if failing:
        lines += ["", "The smallest failing case of each:", ""]
        lines += [f"- {r['subject']}, `{r['first_id']}`: {r['first']}." for r in failing]
    refused = [r for r in rows if r["unsupported"]]
    if refused:
        lines += ["", "Why cases are unsupported:", ""]
        lines += [
            f"- {r['subject']}, {r['suite']} {r['variant']}: {r['why_unsupported'] or 'the kernel says so'}."
            for r in refused
        ]
    missing = [
        (f"{r['subject']}, {r['suite']} {r['variant']}", r["not_run"])
        for r in summary["rows"]
        if "not_run" in r
    ]
    missing += sorted(summary["absent"].items())
    if missing:
        lines += ["", "Not run:", ""] + [f"- {who}: {why}." for who, why in missing]
    return lines


def page(before: str, folder: Path) -> str:
    """The page with its tables written anew: what is above its marker stays."""
    lines = [before.split("<!-- tables -->")[0] + "<!-- tables -->"]
    for device in ("cpu", "cuda"):
        source = folder / f"conformance-{device}.json"
        if source.exists():
            lines += tables(json.loads(source.read_text()))
    return "\n".join(lines) + "\n"
