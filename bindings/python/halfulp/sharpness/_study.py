"""The study `sharpness`: runs what is missing of it, in workers of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from halfulp._workers import run_tasks
from halfulp.sharpness._cells import (
    NAME,
    QUESTION,
    RECORDS,
    SIZES,
    Cell,
    Size,
    cells,
    path_of,
    run_cell,
)
from halfulp.sharpness._controls import controls

__all__ = ["NAME", "QUESTION", "SIZES", "estimate_cost", "run_study"]


# Of the run that computed the cells; kept when the page is made again.
RUN = ("seconds", "processor_seconds", "cells_computed")


def run_task(cell: dict[str, Any], size: dict[str, Any], folder: str) -> None:
    size = {k: tuple(v) if isinstance(v, list) else v for k, v in size.items()}
    run_cell(Cell(**cell), Size(**size), Path(folder))


def run_cells(
    todo: list[Cell], size: Size, folder: Path, jobs: int, say: Callable[[str], None]
) -> None:
    """In Pythons of their own; RuntimeError with the first cell that fails."""
    tasks = [(c.label, [asdict(c), asdict(size), str(folder)]) for c in todo]
    run_tasks(__name__, tasks, jobs, say)


def run_study(
    size_name: str = "quick",
    out: str | Path | None = None,
    *,
    jobs: int | None = None,
    page: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """What is missing of the study; figures, summary.json and the page. Returns its folder."""
    from halfulp.sharpness._page import write_figures, write_page
    from halfulp.sharpness._results import read
    from halfulp.sharpness._summary import summarise

    size = SIZES[size_name]
    folder = Path("results") / f"{NAME}-{size_name}" if out is None else Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    started, processor = time.perf_counter(), sum(os.times()[:4])

    def say(text: str) -> None:
        if progress:
            print(text, file=sys.stderr, flush=True)

    checks = controls()
    for check in checks:
        say(f"{'pass' if check.passed else 'FAIL'} {check.name}: {check.text}")
    if not all(check.passed for check in checks):
        raise RuntimeError("a control failed; the study's results would mean nothing")
    todo = [c for c in cells(size) if not path_of(c, size, folder).is_file()]
    jobs = jobs or min(2, os.cpu_count() or 1)
    run_cells(todo, size, folder, jobs, say)
    section, of_allocation, drawn = allocation(size_name, folder, progress, jobs)
    results = read(folder, size)
    summary = summarise(results)
    summary["controls"] = [asdict(check) for check in checks]
    summary["allocation"] = of_allocation
    kept = folder / "summary.json"
    if todo:
        summary["seconds"] = round(time.perf_counter() - started, 1)
        summary["processor_seconds"] = round(sum(os.times()[:4]) - processor, 1)
        summary["cells_computed"] = len(todo)
    elif kept.is_file():
        old = json.loads(kept.read_text(encoding="utf-8"))
        summary |= {k: old[k] for k in RUN if k in old}
    kept.write_text(json.dumps(summary, separators=(",", ":")) + "\n", encoding="utf-8")
    drawn += write_figures(results, summary, folder)
    if page is not None:
        command = f"halfulp study {NAME} --{size_name}"
        write_page(results, summary, Path(page), command, drawn, section)
    return folder


def allocation(
    size_name: str, folder: Path, progress: bool, jobs: int
) -> tuple[Callable[[str], str], dict[str, Any], list[Path]]:
    """The half about bit allocation: its section, by the stem of its figures' names, its summary,
    its figures."""
    from halfulp.sharpness._allocation_page import allocation_figures, allocation_section
    from halfulp.sharpness._allocation_results import AllocationResults
    from halfulp.sharpness._allocation_study import run_allocation

    run_allocation(size_name, folder, progress, jobs=jobs)
    of = AllocationResults(folder, size_name)
    return lambda stem: allocation_section(of, stem), of.summary(), allocation_figures(of, folder)


def estimate_cost(size_name: str) -> dict[str, Any]:
    """Cells, networks and seconds on two processors; from processor seconds of the quick size."""
    from halfulp.sharpness._allocation_study import SIZES as ALLOCATIONS
    from halfulp.sharpness._allocation_study import cells as cells_of_allocation

    size = SIZES[size_name]
    runs = len(size.settings) * len(size.rates)
    edges = len(size.edge_settings) * len(size.edge_rates)
    rows = size.rows / 128
    allocations = len(cells_of_allocation(ALLOCATIONS[size_name]))
    seconds = (
        runs * size.steps * size.seeds * 1.3e-4  # a step of one network
        + runs * len(RECORDS) * size.seeds * 7e-3 * rows  # all its measures, once
        + edges * size.edge_steps * size.edge_seeds * 6.4e-4 * rows
        + allocations * 9
    )
    return {
        "cells": len(cells(size)) + allocations,
        "networks": runs * size.seeds + edges * size.edge_seeds + allocations,
        "seeds": size.seeds,
        "seconds": seconds / 2 + 35,  # and what is made of it
    }
