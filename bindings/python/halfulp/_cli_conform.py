"""halfulp conform: does a kernel keep its promise?

Exit codes: 0 it does, 1 it does not (or a bundle is not sound), 2 bad arguments, 3 the kernel
cannot be tried or files failed, 4 nothing was judged (unsupported, not evidenced).
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from halfulp import _conform_records as recs
from halfulp import _conform_text as text
from halfulp._conform_bundle import check_bundle
from halfulp._conformance import Replay, Report, conform
from halfulp._suites import suite, suites

DONE, FAILED, NOTHING = 0, 1, 4
_PLUG_INS = (".so", ".dylib", ".dll")


def conform_command(options: argparse.Namespace) -> int:
    """Runs what the options ask for and prints it."""
    if options.list:
        return _list(options)
    if options.check is not None:
        return _check(options)
    if options.records is not None:
        report = Report(recs.read(options.records))
        return _show(report, options)
    if options.suite is None or options.kernel is None:
        raise ValueError(
            "halfulp conform needs --suite and --kernel, or --list, --check F.zip or --records F; "
            "halfulp conform --list shows the suites"
        )
    if options.shrink and not options.case:
        raise ValueError("--shrink needs the case that shall be cut down: --case ID")
    kernel = _kernel(options.kernel)
    if options.shrink and isinstance(kernel, str):
        return _shrink_by_program(kernel, options)
    if not callable(kernel):
        for name in ("arrays", "dtypes", "device"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name} is for module:function; a plug-in says what it takes")
    report = conform(
        kernel,
        options.suite,
        options.promise,
        level=options.level,
        variant=options.variant,
        arrays=options.arrays or "numpy",
        dtypes=options.dtypes or "native",
        device=options.device,
        isolate=False if options.here else None,
        seconds=options.seconds,
        jobs=options.jobs,
        waivers=options.waivers,
        cases=options.case,
        progress=False if options.json else None,
    )
    if options.shrink:
        return _shrink(report, options)
    return _show(report, options)


def _kernel(name: str) -> Any:
    """A callable for module:function; else the name, for the program."""
    if name.startswith("builtin:") or name.endswith(_PLUG_INS) or Path(name).exists():
        return name
    module, colon, function = name.partition(":")
    if not colon or not module or not function:
        raise ValueError(
            f"kernel {name!r} is no file; give a shared library, builtin:NAME or module:function"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"kernel {name!r}: {error}") from None
    for part in function.split("."):
        if not hasattr(found, part):
            raise ValueError(f"kernel {name!r}: module {module} has no {function}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(
            f"kernel {name!r} is of type {type(found).__name__}, which cannot be called"
        )
    return found


def exit_code(outcome: str) -> int:
    """pass and waived: 0; fail: 1; unsupported and not-evidenced: 4."""
    return {"pass": DONE, "waived": DONE, "fail": FAILED}.get(outcome, NOTHING)


def _show(report: Report, options: argparse.Namespace) -> int:
    """Writes the files that were asked for and prints the table."""
    if options.jsonl:
        report.jsonl(options.jsonl)
    if options.junit:
        report.junit(options.junit)
    if options.html:
        report.html(options.html)
    if options.bundle:
        report.bundle(options.bundle)
    if options.json:
        document = {"run": report.run, "summary": report.summary, "checks": report.checks}
        document["failures"] = [c for c in report.cases if c["outcome"] == "fail"]
        print(json.dumps(document, allow_nan=False))
    elif options.case:
        for case in report.cases:
            print("\n".join(text.case_lines(case)))
    else:
        print(report)
    return exit_code(report.outcome)


def _shrink(report: Report, options: argparse.Namespace) -> int:
    replays: list[Replay] = [report.shrink(case) for case in options.case]
    if options.json:
        print(json.dumps({"cases": [r.record for r in replays]}, allow_nan=False))
    for replay in () if options.json else replays:
        print(replay)
    return FAILED


def _shrink_by_program(kernel: str, options: argparse.Namespace) -> int:
    from halfulp._conform_program import shrink_by_program

    found = [
        shrink_by_program(kernel, options.suite, options.promise, case, options.seconds)
        for case in options.case
    ]
    if options.json:
        print(json.dumps({"cases": found}, allow_nan=False))
    for record in () if options.json else found:
        print("\n".join(text.case_lines(record)))
    return FAILED


def _list(options: argparse.Namespace) -> int:
    """All suites in a line each, or one with everything about it."""
    chosen = suites() if options.suite is None else [suite(options.suite)]
    if options.json:
        print(
            json.dumps(
                [
                    {
                        "name": s.name,
                        "version": s.version,
                        "definition": s.definition,
                        "inputs": [vars(p) for p in s.inputs],
                        "attributes": [vars(p) for p in s.attributes],
                        "outputs": [vars(p) for p in s.outputs],
                        "variants": s.variants,
                        "builtins": s.builtins,
                    }
                    for s in chosen
                ]
            )
        )
        return DONE
    if options.suite is None:
        for s in chosen:
            print(f"{s.name:24} {s.version:3}  {', '.join(s.variants)}")
        return DONE
    (s,) = chosen
    print(f"{s.name}, version {s.version}\n{s.definition}")
    for what, parts in (("input", s.inputs), ("attribute", s.attributes), ("output", s.outputs)):
        for p in parts:
            print(f"  {what:9} {p.name:12} {p.shape:20} {p.meaning}".rstrip())
    print(f"  variants  {', '.join(s.variants)}")
    for name, what in s.builtins.items():
        print(f"  builtin:{name:22} {what}")
    return DONE


def _check(options: argparse.Namespace) -> int:
    kernel = options.kernel
    if kernel is not None and not Path(kernel).is_file():
        raise ValueError(f"--kernel {kernel} is no file; with --check it is the kernel's own")
    found = check_bundle(options.check, kernel=kernel)
    if options.json:
        document = {
            "sound": found.sound,
            "findings": found.findings,
            "notes": found.notes,
            "cases_made_again": found.recomputed,
        }
        print(json.dumps(document))
    else:
        print("\n".join(found.lines()))
    return DONE if found.sound else FAILED
