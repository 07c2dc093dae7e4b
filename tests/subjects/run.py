"""Judges kernels that people use with the conformance suites.

    python tests/subjects/run.py [--device cpu|cuda] [--library NAME] [--only TEXT] [--seconds N] [--resume]
    python tests/subjects/run.py --page

On a processor: NumPy, SciPy, ml_dtypes, Eigen, JAX, torch, the plug-in that comes along. On a GPU: torch,
cuBLASLt, that plug-in, CuPy, JAX. A library that is not installed is left out, and the table says so.

What is asked of each subject: the suite's bound, the same bits when run again, and that a row's bits do not
depend on the other rows. The last two are not promised by the libraries: the table says what holds.

Every subject is asked in a process of its library's own, --jobs of them at once; one that dies, or takes more than
--subject-seconds, is ended, and the table has the reason. DIR/conformance-DEVICE.json (the table) and
conformance-DEVICE.jsonl.gz (a record of every case) are written after each subject, so that a run may be cut short
(--seconds: no subject is begun after that) and gone on with (--resume). --page writes docs/conformance-results.md
from what is there, running nothing.

Time, one process on a shared Xeon: NumPy, SciPy, ml_dtypes and the plug-ins half a minute, JAX 11 minutes, because
it compiles for every shape. On a GPU expect some 3 seconds a subject of torch, 66 of them, shared among --jobs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import arrays
import plugins
import torch_library
from subject import AbsentError, Subject
from table import Results, Row, number, page, plain

ROOT = Path(__file__).resolve().parents[2]
PROMISE = "bound+run-to-run+batch"
CPU: dict[str, Callable[[str], Iterator[Subject]]] = {
    "numpy": arrays.numpy_subjects,
    "scipy": arrays.scipy_subjects,
    "ml_dtypes": arrays.ml_dtypes_subjects,
    "eigen": plugins.eigen_subjects,
    "example": plugins.example_subjects,
    "torch": torch_library.torch_subjects,
    "jax": arrays.jax_subjects,
}
CUDA: dict[str, Callable[[str], Iterator[Subject]]] = {
    "torch": torch_library.torch_subjects,
    "cublaslt": plugins.cublas_subjects,
    "example": plugins.example_subjects,
    "cupy": arrays.cupy_subjects,
    "jax": arrays.jax_subjects,
}
LIBRARIES = {"cpu": CPU, "cuda": CUDA}


# ---------------------------------------------------------------- one subject
def row_of(s: Subject, report: Any) -> Row:
    """What the table says of a subject."""
    judged = [c for c in report.cases if c["outcome"] in ("pass", "fail", "waived")]
    failing = [c for c in judged if c["outcome"] == "fail"]
    refused = [c for c in report.cases if c["outcome"] == "unsupported"]
    least = min(failing, key=lambda c: number(c.get("elements")), default={"reason": "", "id": ""})
    # A bound of 0 asks for bits: one wrong bit is an infinite ratio, and told apart.
    ratios = [number(c.get("max_ratio")) for c in judged]
    libraries = {k: v for k, v in report.run["environment"]["libraries"].items() if v}
    version = report.run["kernel"].get("version")
    if isinstance(s.kernel, str) and version:
        libraries[s.name.partition(",")[0].split()[0]] = version
    return {
        "cases": len(judged),
        "failed": len(failing),
        "unsupported": len(refused),
        "why_unsupported": refused[0]["reason"] if refused else "",
        "families": sorted({c["family"] for c in failing}),
        "max_ulp": plain(max((number(c.get("max_ulp")) for c in judged), default=math.nan)),
        "max_ratio": plain(max(ratios, default=math.nan)),
        "first": least["reason"],
        "first_id": least["id"],
        "checks": {c["name"]: c["outcome"] for c in report.checks},
        "libraries": libraries,
        "suite_version": report.run["suite_version"],
    }


def slim(record: dict[str, Any]) -> dict[str, Any] | None:
    """What is kept of a record: all of a failure, the errors of a case that passed, nothing of machines' paths."""
    if record["type"] == "run":
        kernel = {k: v for k, v in record["kernel"].items() if k != "path"}
        return {**record, "kernel": kernel}
    if record["type"] != "case":
        return record
    dropped = {"replay", "seconds", "variant", "family"}
    if record["outcome"] == "pass":
        dropped |= {"histogram", "worst", "shapes", "reason", "baseline_multiple"}
    return {k: v for k, v in record.items() if k not in dropped}


def some(ids: list[str], count: int) -> list[str]:
    """About so many of them, spread over all."""
    return ids[:: max(1, len(ids) // count)]


def judged(
    s: Subject, level: str, limit: float, count: int
) -> tuple[Row, dict[str, Any], list[str]]:
    """The row, the environment and the records of one subject; whatever it raises becomes the row's reason."""
    import halfulp as hu

    known = {suite.name: suite for suite in hu.suites()}
    if s.suite not in known or s.variant not in known[s.suite].variants:
        return {"not_run": f"there is no suite {s.suite} with variant {s.variant}"}, {}, []
    options: dict[str, Any] = {}
    if not isinstance(s.kernel, str):
        options = {"arrays": s.arrays, "device": s.device, "isolate": False}
        if count:
            options["cases"] = some(list(known[s.suite].cases(s.variant, level)), count)
    context = None if s.around is None else s.around()
    try:
        if context is not None:
            context.__enter__()
        report = hu.conform(
            s.kernel,
            suite=s.suite,
            promise=PROMISE,
            variant=s.variant,
            level=level,
            seconds=limit,
            progress=False,
            **options,
        )
    except Exception as error:
        return {"not_run": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}, {}, []
    finally:
        if context is not None:
            with contextlib.suppress(Exception):  # a flag that cannot be set back costs no result
                context.__exit__(None, None, None)
    kept = [r for r in map(slim, report.records) if r is not None]
    lines = [json.dumps({"subject": s.name, "note": s.note, **r}) for r in kept]
    return row_of(s, report), dict(report.run["environment"]), lines


def device_fault(library: str, device: str) -> str:
    """Why this process can use its device no more, if so: an illegal access spoils all that comes after."""
    try:
        if device == "cuda" and library == "torch":
            sys.modules["torch"].cuda.synchronize()
        elif device == "cuda" and library == "cupy":
            sys.modules["cupy"].cuda.Device().synchronize()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def work(
    pipe: Connection, library: str, device: str, level: str, limit: float, count: int = 0
) -> None:
    """A process of one library: says which subjects it has, then judges those whose numbers come."""
    warnings.simplefilter("ignore")
    try:
        import halfulp  # noqa: F401 — here, so that no subject's time has it in it

        mine = list(LIBRARIES[device][library](device))
    except AbsentError as error:
        pipe.send(("absent", str(error)))
        return
    except Exception as error:
        pipe.send(("absent", f"{type(error).__name__}: {error}"))
        return
    facts = [(s.suite, s.variant, s.name, s.note, s.arrays) for s in mine]
    pipe.send(("has", facts))
    while (i := pipe.recv()) is not None:
        row, environment, lines = judged(mine[i], level, limit, count)
        pipe.send(("judged", row, environment, lines, device_fault(library, device)))


# ---------------------------------------------------------------- the run
@dataclass
class Worker:
    library: str
    process: Any
    pipe: Connection
    index: int | None = None  # what it is at
    since: float = field(default_factory=time.monotonic)


@dataclass
class Plan:
    device: str
    level: str
    jobs: int
    limit: float  # of a case
    cases: int  # of a subject; 0: all
    subject_seconds: float
    seconds: float  # of all
    only: list[str]
    resume: bool
    started: float = field(default_factory=time.monotonic)

    def over(self) -> bool:
        return time.monotonic() - self.started > self.seconds


def begin(plan: Plan, library: str) -> Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    arguments = (there, library, plan.device, plan.level, plan.limit, plan.cases)
    process = context.Process(target=work, args=arguments, daemon=True)
    process.start()
    there.close()
    return Worker(library, process, here)


def end(worker: Worker) -> None:
    if worker.process.is_alive():
        worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def death(worker: Worker) -> str:
    worker.process.join(10)
    code = worker.process.exitcode
    if code is not None and code < 0:
        return f"its process died by signal {-code} ({signal.Signals(-code).name})"
    return f"its process ended with {code}"


def subjects_of(plan: Plan, library: str) -> tuple[Worker | None, list[Any], str]:
    """A process of the library and what it has, or why there is none."""
    worker = begin(plan, library)
    reason = "its process said nothing for 300 s"
    try:
        if worker.pipe.poll(300):
            kind, found = worker.pipe.recv()
            if kind == "has":
                return worker, found, ""
            reason = found
    except EOFError:
        reason = death(worker)
    end(worker)
    return None, [], reason


def run_library(plan: Plan, library: str, results: Results) -> None:
    worker, facts, reason = subjects_of(plan, library)
    results.summary["absent"].pop(library, None)
    if worker is None:
        print(f"left out: {library}: {reason}", file=sys.stderr, flush=True)
        results.summary["absent"][library] = reason
        results.write()
        return
    place = list(LIBRARIES[plan.device]).index(library)
    keys = [f"{library}: {' | '.join(f[:4])}" for f in facts]
    asked = [
        i
        for i, key in enumerate(keys)
        if (not plan.only or any(text in key for text in plan.only))
        and not (plan.resume and results.has(key))
    ]
    queue, total, done, spent, failed_starts = list(asked), len(asked), 0, 0.0, 0
    idle, busy = [worker], []

    def give(w: Worker) -> None:
        w.index, w.since = queue[0], time.monotonic()
        try:
            w.pipe.send(w.index)
        except OSError:  # it died while it had nothing to do
            end(w)
            return
        queue.pop(0)
        busy.append(w)

    def keep(w: Worker, row: Row, environment: dict[str, Any], lines: list[str]) -> None:
        nonlocal done, spent
        assert w.index is not None
        suite, variant, name, note, _ = facts[w.index]
        took = time.monotonic() - w.since
        head = {
            "key": keys[w.index],
            "library": library,
            "order": [place, w.index],
            "level": plan.level,
        }
        head |= {
            "suite": suite,
            "variant": variant,
            "subject": name,
            "note": note,
            "seconds": round(took, 1),
        }
        results.add({**head, **row}, environment, lines)
        done, spent = done + 1, spent + took
        left = spent / done * (total - done) / max(1, plan.jobs)
        text = row.get("not_run") or (
            f"{row['failed']} of {row['cases']} fail, {row['unsupported']} unsupported, largest ratio {number(row['max_ratio']):.3g}"
            f" {', '.join(row['families'])}"
        )
        print(
            f"[{library} {done}/{total}] {suite} {variant} {name} {note}: {text}  ({took:.1f} s, {left:.0f} s left)",
            flush=True,
        )

    # Further processes start while the first one works; what they say first is that they are there.
    starting = [begin(plan, library) for _ in range(min(plan.jobs, total) - 1)]
    while (queue and not plan.over()) or busy:
        while queue and idle and not plan.over():
            give(idle.pop())
        alive = len(busy) + len(idle) + len(starting)
        if not plan.over() and alive < min(plan.jobs, len(queue) + len(busy)):
            starting.append(begin(plan, library))  # in place of one that died
        for pipe in wait([w.pipe for w in [*busy, *starting]], timeout=1):
            new = next((w for w in starting if w.pipe is pipe), None)
            w = new or next(w for w in busy if w.pipe is pipe)
            (busy if new is None else starting).remove(w)
            try:
                said = w.pipe.recv()
            except EOFError:
                if new is not None:
                    print(f"no further process of {library}: {death(w)}", file=sys.stderr)
                    failed_starts += 1
                else:
                    keep(w, {"not_run": death(w)}, {}, [])
                end(w)
                continue
            if new is not None and said[0] == "has":
                idle.append(w)
                continue
            if new is not None:
                print(f"no further process of {library}: {said[1]}", file=sys.stderr)
                failed_starts += 1
                end(w)
                continue
            _, row, environment, lines, fault = said
            keep(w, row, environment, lines)
            if fault:
                print(f"its device can be used no more: {fault}", file=sys.stderr)
                end(w)
            else:
                idle.append(w)
        if failed_starts > 3:
            break
        now = time.monotonic()
        for w in [
            w
            for w in busy
            if now - w.since > plan.subject_seconds or now - plan.started > plan.seconds + 60
        ]:
            busy.remove(w)
            keep(w, {"not_run": f"ended after {now - w.since:.0f} s"}, {}, [])
            end(w)
    for w in [*idle, *starting, *busy]:
        end(w)
    if queue:
        why = "time was up" if plan.over() else "no process of it starts any more"
        print(f"{library}: {len(queue)} subjects not begun, {why}; --resume goes on", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=tuple(LIBRARIES), default="cpu")
    parser.add_argument(
        "--library", action="append", default=[], help="only this one; may be repeated"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        help="subjects with this text in 'library: suite | variant | name | note'",
    )
    parser.add_argument("--level", default="quick", choices=("quick", "full", "exhaustive"))
    parser.add_argument("--out", type=Path, default=ROOT / "data/results")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="begin no subject after so many"
    )
    parser.add_argument(
        "--subject-seconds", type=float, default=600.0, help="end a subject after so many"
    )
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for a case of a plug-in")
    parser.add_argument(
        "--cases",
        type=int,
        default=0,
        help="about so many cases of each callable only, to try the rest; no result to keep",
    )
    parser.add_argument("--resume", action="store_true", help="leave out subjects that have a row")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="forget earlier rows, also of subjects that are not asked",
    )
    parser.add_argument(
        "--page", action="store_true", help="only write docs/conformance-results.md"
    )
    args = parser.parse_args()
    if args.page:
        path = ROOT / "docs/conformance-results.md"
        path.write_text(page(path.read_text(), args.out))
        return 0
    unknown = [x for x in args.library if x not in LIBRARIES[args.device]]
    if unknown:
        parser.error(
            f"no library {unknown[0]} on {args.device}; there are {', '.join(LIBRARIES[args.device])}"
        )
    if args.jobs < 1:
        parser.error(f"--jobs is {args.jobs}, but must be 1 or more")
    plan = Plan(
        args.device,
        args.level,
        args.jobs,
        args.limit,
        args.cases,
        args.subject_seconds,
        args.seconds,
        args.only,
        args.resume,
    )
    results = Results(args.out, args.device)
    if not args.fresh:
        results.read()
    results.write()
    for library in args.library or LIBRARIES[args.device]:
        if plan.over():
            print(f"{library}: not begun, time was up; --resume goes on", flush=True)
            continue
        run_library(plan, library, results)
    print(f"{len(results.summary['rows'])} rows: {results.table}, {results.records}")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
