"""hu.conform: does a kernel keep its promise? The verdict with its evidence."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfulp import _conform as engine
from halfulp import _conform_environment as environment
from halfulp import _conform_records as recs
from halfulp._conform_call import Answer, Apart, Arrays, Here, Kernel
from halfulp._conform_records import Record
from halfulp._suites import LEVELS, Expected, Suite, TestCase, as_array, expected
from halfulp._suites import suite as _suite_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Progress = bool | Callable[[Record], None] | None


class Report:
    """What came of a run: the verdict, and the records it rests on."""

    def __init__(self, records: Sequence[Record], again: Subject | None = None) -> None:
        self.records: list[Record] = list(records)
        self._again = again

    @cached_property
    def run(self) -> Record:
        return recs.of_type(self.records, "run")[0]

    @cached_property
    def summary(self) -> Record:
        return recs.of_type(self.records, "summary")[0]

    @property
    def outcome(self) -> str:
        """pass, fail, unsupported, waived or not-evidenced."""
        return str(self.summary["outcome"])

    @cached_property
    def cases(self) -> list[Record]:
        """The record of every case."""
        return recs.of_type(self.records, "case")

    @cached_property
    def checks(self) -> list[Record]:
        """What was looked at over many cases: run-to-run, batch, split, statistics."""
        return recs.of_type(self.records, "check")

    @property
    def failures(self) -> list[Record]:
        """The records of the cases and checks that failed."""
        return [r for r in (*self.cases, *self.checks) if r["outcome"] == "fail"]

    @property
    def worst(self) -> Record | None:
        """The case that came closest to its bound, or went farthest beyond it."""
        judged = [c for c in self.cases if c.get("worst")]
        return max(
            judged,
            key=lambda c: (recs.largest([c["max_ratio"]]), recs.largest([c["max_ulp"]])),
            default=None,
        )

    def jsonl(self, path: recs.Path_ | None = None) -> str:
        """The records as JSON Lines, also into a file."""
        return _into(path, recs.lines(self.records))

    def junit(self, path: recs.Path_ | None = None) -> str:
        """The run as JUnit XML, also into a file."""
        return _into(path, recs.junit(self.records))

    def html(self, path: recs.Path_ | None = None) -> str:
        """The run as one HTML page that needs nothing else, also into a file."""
        from halfulp._conform_page import page

        return _into(path, page(self.records))

    def bundle(self, path: recs.Path_) -> None:
        """Writes the submission bundle, a ZIP file that `halfulp conform --check` examines."""
        from halfulp._conform_bundle import write_bundle

        write_bundle(path, self.records)

    def plot(self) -> Figure:
        """A figure of matplotlib: how many results of each family lie how many ulp off."""
        from halfulp._conform_text import figure

        return figure(self.records)

    def replay(self, case: str) -> Replay:
        """Runs one case again, with all its arrays. Also ids that are cut down."""
        if self._again is None:
            raise ValueError("these records were read from a file; only hu.conform can replay")
        return self._again.replay(case)

    def shrink(self, case: str) -> Replay:
        """The smallest case that still fails: fewer rows, a shorter sum, fewer significand bits.

        Raises ValueError if the case passes.
        """
        from halfulp._conform_shrink import shrunk

        if self._again is None:
            raise ValueError("these records were read from a file; only hu.conform can shrink")
        return self._again.replay(shrunk(self._again, case))

    def __repr__(self) -> str:
        from halfulp._conform_text import table

        return table(self.records)

    def _repr_html_(self) -> str:
        from halfulp._conform_page import fragment

        return fragment(self.records)


@dataclass(frozen=True, repr=False)
class Replay:
    """One case run again: arrays by name, what the kernel gave (None if it failed before) and the
    record."""

    case: TestCase
    got: dict[str, Any] | None
    record: Record

    @property
    def id(self) -> str:
        return self.case.id

    @property
    def outcome(self) -> str:
        return str(self.record["outcome"])

    @property
    def inputs(self) -> dict[str, Any]:
        return self.case.inputs

    @property
    def expected(self) -> dict[str, Expected]:
        return self.case.expected

    def __repr__(self) -> str:
        from halfulp._conform_text import case_lines

        return "\n".join(case_lines(self.record))


class Subject:
    """A callable under test, with all that a run of a case needs."""

    def __init__(
        self,
        kernel: Kernel,
        suite: Suite,
        promise: str,
        arrays: Arrays,
        isolate: bool,
        seconds: float,
    ) -> None:
        self.kernel, self.suite, self.promise, self.arrays = kernel, suite, promise, arrays
        self.isolate, self.seconds = isolate, seconds
        self.name, self.importable = _name_of(kernel)

    def process(self) -> Apart | Here:
        """What calls the kernel; to be closed."""
        return (Apart if self.isolate else Here)(self.kernel, self.arrays, self.seconds)

    def replay_line(self, case: str) -> str:
        if not self.importable:
            return f'report.replay("{case}")'
        options = "" if self.arrays.library == "numpy" else f" --arrays {self.arrays.library}"
        options += "" if self.arrays.dtypes == "native" else f" --dtypes {self.arrays.dtypes}"
        options += "" if self.promise == "bound" else f" --promise {self.promise}"
        shown = f"'{case}'" if "[" in case else case
        asked = f"--suite {self.suite.name} --kernel {self.name}{options}"
        return f"halfulp conform {asked} --case {shown}"

    def session(self, level: str = "quick") -> engine.Run:
        """What judges the cases of a run. Raises ValueError for a promise that is none."""
        kernel = {
            "name": self.name,
            "version": environment.version_of(self.kernel),
            "path": environment.source_of(self.kernel),
            "device": self.arrays.device or ("cpu" if self.arrays.on_host else "default"),
        }
        where = environment.of_arrays(self.arrays)
        return engine.Run(self.suite.name, level, self.promise, kernel, where)

    def judged(self, case: str, answer: Answer, session: engine.Run) -> Record:
        """The record of a case."""
        if answer.outputs is not None:
            line = session.judge(case, answer.outputs, answer.seconds)
        else:
            line = session.without_outputs(case, answer.outcome, answer.reason, answer.seconds)
        return {**json.loads(line), "replay": self.replay_line(case)}

    def replay(self, case: str) -> Replay:
        made = engine.make(case)
        process = self.process()
        try:
            answer = process(made)
        finally:
            process.close()
        got = None
        if answer.outputs is not None:
            got = {
                n: as_array(e, tuple(s), answer.outputs[n]) for n, (e, s) in made["outputs"].items()
            }
        arrays = {n: self.arrays.make(e, tuple(s), b) for n, (e, s, b) in made["inputs"].items()}
        outputs = {n: (e, tuple(s)) for n, (e, s) in made["outputs"].items()}
        test = TestCase(case, arrays, dict(made["attributes"]), outputs, expected(case, made))
        return Replay(test, got, self.judged(case, answer, self.session()))


def conform(
    kernel: Kernel | str | os.PathLike[str],
    suite: str = "softmax",
    promise: str | None = None,
    *,
    level: str = "quick",
    variant: str | Sequence[str] | None = None,
    arrays: str = "numpy",
    dtypes: str = "native",
    device: str | None = None,
    isolate: bool | None = None,
    seconds: float = 10.0,
    jobs: int = 1,
    waivers: recs.Path_ | None = None,
    cases: Sequence[str] | None = None,
    progress: Progress = None,
) -> Report:
    """Run a suite's cases on a kernel and judge the results. docs/conformance-python.md.

    kernel: a callable, which gets the inputs as arrays in the suite's order and the attributes (as
    floats) by name, and returns the output or the tuple or dict of them; NotImplementedError from
    it means that the case is unsupported. Or a plug-in (a shared library's path, halfulp_kernel.h),
    or "builtin:NAME".

    variant: one or several of the suite's, or "all"; by default the first for a callable, all for
    others. arrays: numpy (read-only arrays), torch, cupy or jax; device as that library names it.
    dtypes: native (float16, and ml_dtypes' or the library's bfloat16 and float8), float32 (narrower
    floats widened; float32 outputs are rounded) or codes (bits, as unsigned integers).

    isolate: calls in a forked process, so that a crash or `seconds` of silence fails one case and
    not the run; the default for NumPy's arrays. Without it nothing ends a kernel that hangs.
    Writes beyond an output cannot be seen in Python, where the kernel makes its outputs itself.
    promise: docs/conformance.md; by default the plug-in's own, else "bound". jobs: processes, for
    plug-ins. waivers: a TOML file of accepted failures. cases: ids, instead of a level's.
    progress: True (stderr) or a function that gets each record.
    """
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}, but must be {', '.join(LEVELS)}")
    if not seconds > 0:
        raise ValueError(f"seconds is {seconds}, but a time limit must be above 0")
    rules = [] if waivers is None else recs.read_waivers(waivers)
    one = _suite_named(suite)
    chosen = _variants(one, variant, first_only=callable(kernel))
    subject = None
    if callable(kernel):
        kind = Arrays(arrays, dtypes, device)
        kind.module()
        subject = Subject(kernel, one, promise or "bound", kind, _isolated(isolate, kind), seconds)
        ids = list(cases) if cases is not None else _ids(one, chosen, level)
        subject.session()  # refuses a promise that is none
        _check_call(subject, ids)
        stream = run_callable(subject, ids, level, chosen)
    else:
        from halfulp._conform_program import run_program

        if jobs < 1:
            raise ValueError(f"jobs is {jobs}, but must be 1 or more")
        for what, value in (("arrays", arrays != "numpy"), ("dtypes", dtypes != "native")):
            if value:
                raise ValueError(f"{what} is for callables; a plug-in gets the suite's own tensors")
        stream = run_program(
            os.fspath(kernel),
            one.name,
            promise,
            level=level,
            variants=None if variant is None else chosen,
            cases=cases,
            seconds=seconds,
            jobs=jobs,
        )
    return Report(list(finished(stream, rules, progress)), subject)


def finished(
    stream: Iterator[Record], waivers: Sequence[recs.Waiver], progress: Progress
) -> Iterator[Record]:
    """The records with waivers applied and the summary counted anew; tells of each."""
    show = _shower(progress)
    seen: list[Record] = []
    for record in stream:
        if record["type"] in ("case", "check"):
            record = recs.waived(record, waivers)
        elif record["type"] == "summary":
            record = {**record, **recs.tally(seen)}
            if waivers:
                record["idle_waivers"] = recs.idle_waivers(waivers)
        seen.append(record)
        show(record)
        yield record


def run_callable(
    subject: Subject, ids: Sequence[str], level: str, variants: Sequence[str]
) -> Iterator[Record]:
    """The records of a run of a Python callable, as they come."""
    session = subject.session(level)
    header = json.loads(session.header())
    header["kernel"] |= {
        "arrays": subject.arrays.library,
        "dtypes": subject.arrays.dtypes,
        "isolated": subject.isolate,
    }
    others = [v for v in subject.suite.variants if v not in variants]
    yield {**header, "variants": list(variants), "variants_not_asked": others}
    process = subject.process()
    try:
        for case in ids:
            answer = process(engine.make(case))
            yield subject.judged(case, answer, session)
            if answer.outputs is None:
                continue
            for check, further in session.calls(case):
                again = process(engine.make(further))
                session.compare(check, case, further, again.outputs, again.reason)
    finally:
        process.close()
    yield from map(json.loads, session.finish())


def _ids(one: Suite, variants: Sequence[str], level: str) -> list[str]:
    return [case for v in variants for case in one.cases(v, level)]


def _variants(one: Suite, wanted: str | Sequence[str] | None, *, first_only: bool) -> list[str]:
    if wanted is None:
        return list(one.variants[:1] if first_only else one.variants)
    if wanted == "all" or wanted == ["all"]:
        return list(one.variants)
    chosen = [wanted] if isinstance(wanted, str) else list(wanted)
    for v in chosen:
        if v not in one.variants:
            raise ValueError(
                f'suite {one.name} has no variant "{v}"; there are '
                f"{', '.join(one.variants)}, or all"
            )
    if not chosen:
        raise ValueError("variant is empty; leave it out, or pass 'all'")
    return chosen


def _isolated(wanted: bool | None, arrays: Arrays) -> bool:
    if wanted is None:
        return arrays.library == "numpy" and hasattr(os, "fork")
    if wanted and not hasattr(os, "fork"):
        raise ValueError("isolate=True needs fork, which this system lacks; pass isolate=False")
    if wanted and (not arrays.on_host or arrays.library == "jax"):
        raise ValueError(
            f"isolate=True forks this process, which {arrays.library} on "
            f"{arrays.device or 'its device'} does not survive; pass isolate=False"
        )
    return wanted


def _check_call(subject: Subject, ids: Sequence[str]) -> None:
    """Refuses, before the first case, arrays that cannot be made here and a callable that cannot
    take the suite's arguments.
    """
    if not ids:
        raise ValueError(f"suite {subject.suite.name} has no cases there")
    made = {}
    for case in {tuple(case.split("/")[2:3]): case for case in ids}.values():
        made = engine.make(case)
        for element, shape, data in made["inputs"].values():
            subject.arrays.make(element, tuple(shape), data)
    try:
        signature = inspect.signature(subject.kernel)
    except (TypeError, ValueError):
        return  # of some functions in C nothing is known
    try:
        signature.bind(*made["inputs"], **made["attributes"])
    except TypeError as error:
        call = ", ".join([*made["inputs"], *(f"{a}=…" for a in made["attributes"])])
        raise TypeError(
            f"{subject.name}{signature} cannot be called as kernel({call}), "
            f"which suite {subject.suite.name} does: {error}"
        ) from None


def _name_of(kernel: Kernel) -> tuple[str, bool]:
    """module:function, and whether it can be imported by that name; else the function's own."""
    module = getattr(kernel, "__module__", None) or type(kernel).__module__
    name = getattr(kernel, "__qualname__", None) or type(kernel).__qualname__
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is kernel and module != "__main__":
        return f"{module}:{name}", True
    return name, False


def _into(path: recs.Path_ | None, text: str) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _shower(progress: Progress) -> Callable[[Record], None]:
    if callable(progress):
        return progress
    if progress is None:
        progress = sys.stderr.isatty()
    if not progress:
        return lambda record: None
    counts = {"cases": 0, "fail": 0}

    def show(record: Record) -> None:
        if record["type"] == "case":
            counts["cases"] += 1
            counts["fail"] += record["outcome"] == "fail"
            text = f"{counts['cases']} cases, {counts['fail']} failed: {record['id']}"
            print(f"\r\033[K{text[:100]}", end="", file=sys.stderr, flush=True)
        elif record["type"] == "summary":
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    return show
