"""Records of a conformance run: their schema, tallies, waivers, JSON Lines, JUnit XML.

A run is a list of dicts in the order `run`, `case` …, `check` …, `summary`, as docs/conformance.md
lists them. Numbers that JSON lacks are the strings "inf" and "nan".
"""

from __future__ import annotations

import fnmatch
import json
import math
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

Record = dict[str, Any]
Path_ = str | PathLike[str]

SCHEMA = 1
OUTCOMES = ("pass", "fail", "unsupported", "waived", "not-evidenced")
_COUNTS = tuple(o.replace("-", "_") for o in OUTCOMES)

_NUMBER, _TEXT, _COUNT, _TABLE, _LIST = "a number", "text", "a count", "an object", "a list"
# What every record of a type must have; further keys may be there.
FIELDS: dict[str, dict[str, str]] = {
    "run": {
        "schema": _COUNT,
        "halfulp": _TEXT,
        "suite": _TEXT,
        "suite_version": _COUNT,
        "level": _TEXT,
        "kernel": _TABLE,
        "promise": _TEXT,
        "environment": _TABLE,
        "started": _TEXT,
    },
    "case": {
        "id": _TEXT,
        "variant": _TEXT,
        "family": _TEXT,
        "outcome": _TEXT,
        "reason": _TEXT,
        "elements": _COUNT,
        "seconds": _NUMBER,
        "replay": _TEXT,
    },
    "check": {"name": _TEXT, "outcome": _TEXT, "reason": _TEXT, "cases": _COUNT},
    "summary": {
        "outcome": _TEXT,
        "cases": _COUNT,
        **dict.fromkeys(_COUNTS, _COUNT),
        "elements": _COUNT,
        "max_ulp": _NUMBER,
        "max_ratio": _NUMBER,
        "seconds": _NUMBER,
    },
}
# Of cases that were judged.
_JUDGED = {
    "max_ulp": _NUMBER,
    "max_ratio": _NUMBER,
    "baseline_multiple": _NUMBER,
    "mean_signed_ulp": _NUMBER,
    "histogram": _TABLE,
    "shapes": _TABLE,
}
_BITS = re.compile(r"0x[0-9a-f]+")


def number(value: Any) -> float:
    """A number of a record; NaN where there is none."""
    return math.nan if value is None else float(value)


def plain(value: float) -> float | str:
    """A number for a record."""
    return value if math.isfinite(value) else "nan" if math.isnan(value) else f"{value:g}"


def _is(kind: str, value: Any) -> bool:
    if kind == _NUMBER:
        if isinstance(value, str):
            return value in ("inf", "-inf", "nan")
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == _COUNT:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, {_TEXT: str, _TABLE: dict, _LIST: list}[kind])


def problems(record: Any) -> list[str]:
    """What is wrong with one record, a sentence each."""
    if not isinstance(record, dict) or record.get("type") not in FIELDS:
        return [f"is no object whose type is one of {', '.join(FIELDS)}"]
    kind = record["type"]
    found = [
        f"{kind}: {key} is {record.get(key)!r}, but must be {what}"
        for key, what in FIELDS[kind].items()
        if not _is(what, record.get(key))
    ]
    if kind == "run" and record.get("schema") != SCHEMA:
        found.append(f"run: schema is {record.get('schema')!r}; this version reads {SCHEMA}")
    if kind != "run" and record.get("outcome") not in OUTCOMES:
        found.append(f"{kind}: outcome {record.get('outcome')!r} is none of {', '.join(OUTCOMES)}")
    if kind == "case":
        found += [
            f"case: {key} is {record[key]!r}, but must be {what}"
            for key, what in _JUDGED.items()
            if key in record and not _is(what, record[key])
        ]
        worst = record.get("worst")
        if worst is not None:
            bits = [worst.get(k) for k in ("got", "expected")] if isinstance(worst, dict) else []
            if not bits or not all(isinstance(b, str) and _BITS.fullmatch(b) for b in bits):
                found.append("case: worst has no bits got and expected, such as 0x3f800000")
    return found


def read(path: Path_) -> list[Record]:
    """The records of a file of JSON Lines. Raises ValueError, naming the line, for what is none."""
    return parse(Path(path).read_text(encoding="utf-8"), str(path))


def parse(text: str, where: str) -> list[Record]:
    records = []
    for place, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where}, line {place}: no JSON ({error})") from None
        wrong = problems(record)
        if wrong:
            raise ValueError(f"{where}, line {place}: {wrong[0]}")
        records.append(record)
    kinds = [r["type"] for r in records]
    if kinds.count("run") != 1 or kinds[0] != "run":
        raise ValueError(f"{where}: the first line, and no other, must be the record of the run")
    if kinds.count("summary") != 1 or kinds[-1] != "summary":
        raise ValueError(
            f"{where}: the last line, and no other, must be the summary; the run did not end"
        )
    return records


def lines(records: Iterable[Record]) -> str:
    """The records as JSON Lines."""
    return "".join(
        json.dumps(r, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
        for r in records
    )


def of_type(records: Iterable[Record], kind: str) -> list[Record]:
    return [r for r in records if r["type"] == kind]


def largest(values: Iterable[Any]) -> float:
    """The largest number; a NaN, which no bound admits, counts as infinite."""
    numbers = [math.inf if math.isnan(number(v)) else number(v) for v in values if v is not None]
    return max(numbers, default=0.0)


def tally(records: Sequence[Record]) -> Record:
    """The summary of the cases and checks of a run, counted anew.

    fail: a case or a promised check failed; pass: else, if one passed; else waived, unsupported,
    not-evidenced, the first that occurs. Results and errors are of cases that were neither waived
    nor unsupported.
    """
    cases = of_type(records, "case")
    checks = [c for c in of_type(records, "check") if c.get("promised", True)]
    counts = {o: sum(c["outcome"] == o for c in cases) for o in OUTCOMES}
    seen = {r["outcome"] for r in (*cases, *checks)}
    outcome = next(
        (o for o in ("fail", "pass", "waived", "unsupported") if o in seen), "not-evidenced"
    )
    judged = [c for c in cases if c["outcome"] not in ("waived", "unsupported")]
    summary: Record = {"type": "summary", "outcome": outcome, "cases": len(cases)}
    summary |= {key: counts[o] for key, o in zip(_COUNTS, OUTCOMES, strict=True)}
    summary["elements"] = sum(c["elements"] for c in judged)
    summary["max_ulp"] = plain(largest(c.get("max_ulp") for c in judged))
    summary["max_ratio"] = plain(largest(c.get("max_ratio") for c in judged))
    return summary


# ---------------------------------------------------------------- waivers
@dataclass
class Waiver:
    """A failure that is known and accepted: a pattern of case ids or names of checks, and why."""

    kind: str  # case or check
    pattern: str
    reason: str
    met: int = field(default=0, compare=False)  # records that fit the pattern
    used: int = field(default=0, compare=False)  # those of them that had failed


def read_waivers(path: Path_) -> list[Waiver]:
    """The [[waiver]] tables of a TOML file, each with `case` or `check` (a pattern; * is any text)
    and `reason`; of a file with another ending the lines PATTERN REASON that halfulp-conform reads.
    Raises ValueError for one without a reason.
    """
    if Path(path).suffix != ".toml":
        return _waiver_lines(path)
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from None
    tables = document.pop("waiver", [])
    if document or not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        other = f", not {next(iter(document))}" if document else ""
        raise ValueError(f"{path}: write each waiver as a table [[waiver]]{other}")
    waivers = []
    for place, table in enumerate(tables, 1):
        here = f"{path}, waiver {place}"
        kinds = [k for k in ("case", "check") if k in table]
        unknown = sorted(set(table) - {"case", "check", "reason"})
        if unknown or len(kinds) != 1:
            raise ValueError(
                f"{here}: has keys {', '.join(table) or 'none'}; it needs case or check, "
                "one of them, and reason"
            )
        pattern, reason = table[kinds[0]], table.get("reason")
        if not isinstance(pattern, str) or not pattern:
            raise ValueError(
                f'{here}: {kinds[0]} is {pattern!r}, but must be text such as "*/huge/*"'
            )
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"{here} ({pattern}) has no reason; write why the failure is accepted")
        waivers.append(Waiver(kinds[0], pattern, reason.strip()))
    return waivers


def _waiver_lines(path: Path_) -> list[Waiver]:
    waivers = []
    for place, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        pattern, _, reason = line.strip().partition(" ")
        if not pattern or pattern.startswith("#"):
            continue
        if not reason.strip():
            raise ValueError(f"{path}, line {place} ({pattern}) has no reason; write why")
        kind = "check" if pattern.startswith("check:") else "case"
        waivers.append(Waiver(kind, pattern.removeprefix("check:"), reason.strip()))
    return waivers


def waived(record: Record, waivers: Sequence[Waiver]) -> Record:
    """The record, or, if it failed and a waiver fits it, one whose outcome is `waived`."""
    name = record["id"] if record["type"] == "case" else record.get("name")
    result = record
    for waiver in waivers:
        if record["type"] != waiver.kind or not fnmatch.fnmatchcase(str(name), waiver.pattern):
            continue
        waiver.met += 1
        if record["outcome"] == "fail":
            waiver.used += 1
            if result is record:
                what = {"pattern": waiver.pattern, "reason": waiver.reason}
                reason = f"{waiver.reason} (waived; {record['reason']})"
                result = {**record, "outcome": "waived", "reason": reason, "waiver": what}
    return result


def idle_waivers(waivers: Sequence[Waiver]) -> list[str]:
    """A sentence for each waiver that waived nothing."""
    return [
        f'waiver "{w.pattern}": '
        + (
            f"none of the {w.met} {w.kind}s that it names failed; remove it"
            if w.met
            else f"no {w.kind} of this run has such a name"
        )
        for w in waivers
        if not w.used
    ]


# ---------------------------------------------------------------- JUnit
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _attribute(value: Any) -> str:
    return quoteattr(_NO_XML.sub("\ufffd", str(value)))


def _text(value: Any) -> str:
    return escape(_NO_XML.sub("\ufffd", str(value)))


def junit(records: Sequence[Record]) -> str:
    """The run as JUnit XML: a testsuite for each variant and family, and one for the checks.

    fail is a failure; unsupported, waived and not-evidenced are skipped, with the reason.
    """
    run = of_type(records, "run")[0]
    summary = of_type(records, "summary")[0]
    groups: dict[str, list[tuple[str, Record]]] = {}
    for c in of_type(records, "case"):
        group = f"{run['suite']}/{c['variant']}/{c['family']}"
        groups.setdefault(group, []).append((c["id"], c))
    for c in of_type(records, "check"):
        groups.setdefault(f"{run['suite']}/checks", []).append((c["name"], c))
    about = {
        "suite": run["suite"],
        "suite_version": run["suite_version"],
        "strength": strength_sentence(summary),
        "level": run["level"],
        "promise": run["promise"],
        "halfulp": run["halfulp"],
        **{f"kernel.{k}": v for k, v in run["kernel"].items()},
        **{f"environment.{k}": v for k, v in run["environment"].items()},
    }
    properties = "".join(
        f"<property name={_attribute(k)} value={_attribute(v)}/>" for k, v in about.items()
    )
    out = ['<?xml version="1.0" encoding="UTF-8"?>']
    everything = [c for group in groups.values() for _, c in group]
    out.append(f"<testsuites name={_attribute('halfulp ' + run['suite'])} {_totals(everything)}>")
    for name, group in groups.items():
        out.append(
            f"<testsuite name={_attribute(name)} {_totals([c for _, c in group])} "
            f"timestamp={_attribute(run['started'].removesuffix('Z'))}>"
            f"<properties>{properties}</properties>"
        )
        for case, record in group:
            out.append(
                f"<testcase classname={_attribute(name)} name={_attribute(case)} "
                f'time="{number(record.get("seconds", 0)):.6f}">{_verdict(record)}</testcase>'
            )
        out.append("</testsuite>")
    out.append("</testsuites>\n")
    return "\n".join(out)


def _totals(records: Sequence[Record]) -> str:
    failed = sum(r["outcome"] == "fail" for r in records)
    passed = sum(r["outcome"] == "pass" for r in records)
    seconds = math.fsum(number(r.get("seconds", 0)) for r in records)
    return (
        f'tests="{len(records)}" failures="{failed}" errors="0" '
        f'skipped="{len(records) - failed - passed}" time="{seconds:.6f}"'
    )


def _verdict(record: Record) -> str:
    outcome, reason = record["outcome"], record["reason"]
    if outcome == "pass":
        return ""
    if outcome != "fail":
        return f"<skipped message={_attribute(f'{outcome}: {reason}')}/>"
    text = record.get("replay", "")
    worst = record.get("worst")
    if worst:
        text += "\n" + json.dumps(worst)
    return f'<failure type="fail" message={_attribute(reason)}>{_text(text)}</failure>'


def strength_sentence(summary: Record) -> str:
    """What is known of the suite's own strength."""
    s = summary.get("strength")
    if not s:
        return "not measured"
    return (
        f"version {s['suite_version']}: {s['caught']} of {s['broken']} broken kernels caught, "
        f"{s['blamed']} of {s['correct']} correct ones blamed"
    )
