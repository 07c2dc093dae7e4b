"""halfulp bench: how fast arrays are rounded here, beside a copy, against targets."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from halfulp import _programs, _threads
from halfulp._blocks import quantize
from halfulp._elementwise import round as round_array

PROGRAM = "halfulp-bench"
_FIRST_OF_ARGUMENTS = 100  # its exit codes from here on are complaints about arguments
TARGETS = Path(__file__).with_name("bench_targets.toml")
_KEYS = ("operation", "from", "format", "rounding", "random_bits", "data", "threads", "device")
HEADER = (
    f"{'operation':13} {'from':9} {'format':15} {'rounding':14} {'r':>3} {'data':7} {'threads':>7} "
    f"{'Gelem/s':>8} {'copy':>7} {'ratio':>6} {'interval':>13} {'target':>7}"
)


def target_of(row: dict[str, Any], targets: list[dict[str, Any]]) -> dict[str, float]:
    """What the first target asks whose every list has the row's value: a ratio, a rate or both."""
    for target in targets:
        if all(row[key] in target[key] for key in _KEYS if key in target):
            return {key: float(target[key]) for key in ("ratio", "rate") if key in target}
    return {}


def read_targets(path: Path) -> list[dict[str, Any]]:
    """The [[target]] tables of a TOML file: lists of what a row may have, a ratio, a rate."""
    try:
        targets = tomllib.loads(path.read_text(encoding="utf-8")).get("target")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from None
    if not isinstance(targets, list) or not all(isinstance(t, dict) for t in targets):
        raise ValueError(f"{path} has no targets; write each as a table [[target]]")
    for target in targets:
        for key, value in target.items():
            known = list if key in _KEYS else (int, float) if key in ("ratio", "rate") else None
            if known is None or isinstance(value, bool) or not isinstance(value, known):
                raise ValueError(
                    f"{path}: {key} = {value!r} is no part of a target; it has lists "
                    f"{', '.join(_KEYS)} and numbers ratio, rate"
                )
    return targets


def judge(row: dict[str, Any], targets: list[dict[str, Any]]) -> dict[str, Any]:
    """The row with its targets and whether it meets them (None: nothing is asked). A rate is in
    results (of products: multiply-adds) a second."""
    asked = target_of(row, targets)
    met = None
    if asked:
        met = all(
            (row["ratio"] or 0) >= value if key == "ratio" else row["elements_per_second"] >= value
            for key, value in asked.items()
        )
    return {**row, "target": asked.get("ratio"), "target_rate": asked.get("rate"), "met": met}


def line_of(row: dict[str, Any]) -> str:
    asked = [] if row["target"] is None else [f"{row['target']:.2f}"]
    if row["target_rate"] is not None:
        asked.append(f"{row['target_rate'] / 1e9:g} G/s")
    verdict = f"{', '.join(asked):>7}" + (" missed" if row["met"] is False else "")
    copy, ratio, interval = "", "", ""
    if row["ratio"] is not None:
        copy = f"{row['copy_elements_per_second'] / 1e9:.3f}"
        ratio = f"{row['ratio']:.2f}"
        interval = "{:.2f}..{:.2f}".format(*row["ratio_interval"])
    return (
        f"{row['operation']:13} {row['from']:9} {row['format']:15} {row['rounding']:14} "
        f"{row['random_bits'] or '':>3} {row['data']:7} {row['threads']:>7} "
        f"{row['elements_per_second'] / 1e9:8.3f} {copy:>7} {ratio:>6} {interval:>13} {verdict}"
    ).rstrip()


def _python_row(options: argparse.Namespace, cpp: dict[str, Any]) -> dict[str, Any]:
    """The same from Python, beside the row in C++: with an array for the result where it may be
    given, else with a new one each time."""
    n = 1 << options.log2_elements
    x = np.random.default_rng(1).standard_normal(n).astype(np.float32)
    y = np.empty_like(x)
    name = cpp["format"]
    calls: dict[str, Callable[[], Any]] = {
        "round": lambda: round_array(x, name, out=y),
        "quantize": lambda: quantize(x, name),
    }
    if cpp["operation"] == "dequantize":
        calls["dequantize"] = quantize(x, name).dequantize
    call = calls[cpp["operation"]]
    before = _threads.threads()
    _threads.set_threads(cpp["threads"])
    try:
        rates = []
        for _ in range(options.rounds + 1):
            start = time.perf_counter()
            call()
            rates.append(n / (time.perf_counter() - start))
    finally:
        _threads.set_threads(before)
    rates = rates[1:]
    ratios = sorted(rate / cpp["elements_per_second"] for rate in rates)
    return {
        **cpp,
        "operation": "hu." + cpp["operation"],
        "elements_per_second": statistics.median(rates),
        "copy_elements_per_second": cpp["elements_per_second"],
        "ratio": statistics.median(ratios),
        "ratio_interval": [ratios[1], ratios[-2]],
    }


# Rows that Python is held against: operation, format, rounding. All from binary32, normal data.
_IN_PYTHON = {
    ("round", "float8_e4m3fn", "nearest-even"),
    ("quantize", "mxfp4", "nearest-even"),
    ("dequantize", "mxfp4", "exact"),
}


def bench_command(options: argparse.Namespace) -> int:
    """Runs halfulp-bench and judges its rows; exit code 1 with --check if one is missed."""
    targets = read_targets(Path(options.targets or TARGETS))
    program = _programs.find(
        PROGRAM, "build it with ./dev build, which makes it together with the tests"
    )
    command = [program, "--rounds", str(options.rounds)]
    command += ["--log2-elements", str(options.log2_elements), "--threads", options.threads]
    if options.only is not None:
        if not all(options.only.split(",")):
            raise ValueError(
                f"--only is '{options.only}', which has an empty name; leave it out to run all"
            )
        command += ["--only", options.only]
    rows: list[dict[str, Any]] = []
    in_python: list[dict[str, Any]] = []  # timed when the program has ended: beside it, both lose

    def take(row: dict[str, Any]) -> None:
        row = judge(row, targets)
        rows.append(row)
        if not options.json:
            print(line_of(row), flush=True)

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        about = json.loads(process.stdout.readline() or "{}")
        if about and not options.json:
            print(
                f"{about['device_name']}, {about['compiler']}, {about['elements']:,} elements, "
                f"{about['rounds']} rounds; ratios to an ordinary copy of as many bytes (hu.*: "
                "to the same in C++)"
            )
            print(HEADER, flush=True)
        for text in process.stdout:
            row = {**json.loads(text), "device_name": about["device_name"]}
            take(row)
            key = (row["operation"], row["format"], row["rounding"])
            if key in _IN_PYTHON and (row["from"], row["data"]) == ("binary32", "normal"):
                in_python.append(row)
        assert process.stderr is not None
        complaint = process.stderr.readline().strip()
    if process.returncode >= _FIRST_OF_ARGUMENTS:
        raise ValueError(complaint)
    if process.returncode != 0:
        raise ChildProcessError(f"{PROGRAM} ended with {process.returncode}: {complaint}")
    for row in in_python:
        take(_python_row(options, row))
    missed = [row for row in rows if row["met"] is False]
    judged = sum(row["met"] is not None for row in rows)
    if options.json:
        print(json.dumps({**about, "rows": rows, "judged": judged, "missed": len(missed)}))
    else:
        print(f"{judged - len(missed)} of {judged} targets met, {len(missed)} missed")
    return 1 if options.check and missed else 0
