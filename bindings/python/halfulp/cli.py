"""The command line `halfulp`: parses, calls, and turns errors into one sentence and an exit code.

Exit codes: 0 done, 1 some cells or controls failed, 2 bad arguments or input, 3 input or output
failed, 4 nothing was judged (conform), 130 interrupted, 143 ended by SIGTERM.
"""

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .studies import Study, Sweep

DONE, SOME_FAILED, BAD_INPUT, FILES_FAILED, INTERRUPTED = 0, 1, 2, 3, 130

# Written in Python, not sweeps of cells; each a package with a module _study.
_PYTHON_STUDIES = ("information", "sharpness")

_NEGATIVE = re.compile(r"-(\.?\d|inf|nan)", re.IGNORECASE)

Command = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaint is one sentence."""

    def error(self, message: str) -> "None":  # type: ignore[override]
        raise ValueError(f"{message}; {self.prog} --help lists the arguments")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; messages about errors go to stderr.

    With --json, stdout gets one JSON document whatever happens: a command that fails prints nothing
    there but {"error": sentence, "exit_code": code}.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options_end = arguments.index("--") if "--" in arguments else len(arguments)
    as_json = "--json" in arguments[:options_end]
    try:
        code = _run(arguments, as_json)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of a pipe has seen enough
        _abandon_output()
        return DONE
    except KeyboardInterrupt as error:
        code = getattr(error, "exit_code", INTERRUPTED)
        return _complain(str(error) or "interrupted", code, as_json)
    except ImportError as error:
        return _complain(f"a part of the installation is missing: {error}", FILES_FAILED, as_json)
    except OSError as error:
        return _complain(_os_sentence(error), FILES_FAILED, as_json)
    except (ValueError, TypeError, OverflowError) as error:
        return _complain(str(error), BAD_INPUT, as_json)


def _run(arguments: Sequence[str], as_json: bool) -> int:
    """Runs one command; with --json, what it prints is held back until it has succeeded."""
    held = io.StringIO()
    with redirect_stdout(held) if as_json else nullcontext():
        options = _parser().parse_args(_protect_negatives(arguments))
        code: int = options.command(options)
    sys.stdout.write(held.getvalue())
    return code


def _complain(sentence: str, code: int, as_json: bool) -> int:
    sentence = " ".join(sentence.split())
    try:
        if as_json:
            print(json.dumps({"error": sentence, "exit_code": code}))
        sys.stdout.flush()
    except OSError:  # a full disk: it may be what the sentence is about
        _abandon_output()
    print(f"halfulp: {sentence}", file=sys.stderr)
    return code


def _abandon_output() -> None:
    """Lets what could not be printed go nowhere, so that the exit does not try again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_json(document: object) -> None:
    """One JSON document; JSON has no NaN and no infinity."""
    print(json.dumps(document, allow_nan=False))


def _os_sentence(error: OSError) -> str:
    """'PATH: reason' instead of Python's '[Errno 2] reason: PATH'."""
    if error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return error.strerror or str(error)


def _protect_negatives(arguments: Sequence[str]) -> list[str]:
    """Puts a space before negative numbers, which keeps argparse from taking them for options.

    argparse itself knows only -1 and -.5; here -1e9, -0x1p-3, -inf and -nan are numbers too.
    """
    return [f" {a}" if _NEGATIVE.match(a) else a for a in arguments]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="halfulp",
        description="Bit-exact emulation of numeric formats; studies of low-precision training.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_formats(commands)
    _add_round(commands)
    _add_op(commands)
    _add_quantize(commands)
    _add_hadamard(commands)
    _add_fit(commands)
    _add_models(commands)
    _add_matmul(commands)
    _add_bench(commands)
    _add_conform(commands)
    _add_sweep(commands)
    _add_status(commands)
    _add_table(commands)
    _add_report(commands)
    _add_study(commands)
    return parser


class _Version(argparse.Action):
    """Prints the version of the installed package; looked up only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from ._core import __version__

        print(f"halfulp {__version__}")
        parser.exit(0)


if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _add(commands: "_Commands", name: str, run: Command, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(command=run)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _number(text: str) -> str:
    """A number as it was typed, without the space that protected it."""
    return text.strip()


# ---------------------------------------------------------------- numbers
def _add_formats(commands: "_Commands") -> None:
    parser = _add(commands, "formats", _formats, "show formats, all of them or those named")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a format's name")
    parser.add_argument("--values", action="store_true", help="every value (up to 16 bits)")
    parser.add_argument("--png", type=Path, metavar="F", help="draw the values into a PNG file")


def _add_rounding(parser: argparse.ArgumentParser) -> None:
    """Format, mode and policies; what is left out has the defaults of halfulp.round."""
    parser.add_argument("--format", required=True, metavar="F", help="the format rounded to")
    parser.add_argument("--rounding", metavar="M", help="the mode (default nearest-even)")
    parser.add_argument("--overflow", metavar="P", help="overflow policy (default ieee)")
    parser.add_argument("--nan-to", metavar="P", help="what NaN becomes in a format without NaN")
    parser.add_argument("--seed", type=int, metavar="N", help="needed by stochastic modes")
    parser.add_argument("--random-bits", type=int, metavar="R", help="of stochastic modes (32)")


def _add_round(commands: "_Commands") -> None:
    parser = _add(commands, "round", _round, "round numbers: value, code, hex float, flags")
    _add_rounding(parser)
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="both outcomes of a stochastic mode and the exact probability of the second",
    )
    parser.add_argument(
        "values", nargs="+", type=_number, metavar="VALUE", help="decimal, hex float or 0x code"
    )


def _add_op(commands: "_Commands") -> None:
    parser = _add(commands, "op", _op, "one operation on numbers, rounded once")
    parser.add_argument(
        "name",
        metavar="NAME",
        help="add, fma, remainder, next-up, ..., or a function: exp, pow, ...",
    )
    _add_rounding(parser)
    parser.add_argument("--flags", action="store_true", help="print the exception flags")
    parser.add_argument(
        "operands", nargs="+", type=_number, metavar="OPERAND", help="decimal, hex float or 0x code"
    )


def _block(text: str) -> int | tuple[int, int] | str:
    text = text.strip()  # the space that protects a negative number
    sides = re.fullmatch(r"([0-9]+)x([0-9]+)", text)
    if sides:
        return int(sides[1]), int(sides[2])
    return int(text) if re.fullmatch(r"[+-]?[0-9]+", text) else text


def _add_quantize(commands: "_Commands") -> None:
    parser = _add(commands, "quantize", _quantize, "numbers in a block format: scales, codes")
    parser.add_argument("--format", required=True, metavar="F", help="such as mxfp4, nvfp4, nf4")
    parser.add_argument("--rule", metavar="R", help="of the scales (default: the format's)")
    parser.add_argument(
        "--tensor-scale", metavar="S", help="of formats that have one (default: from amax)"
    )
    parser.add_argument(
        "--block", type=_block, metavar="N", help="size of a block, RxC, or 'tensor'"
    )
    parser.add_argument("--rounding", metavar="M", help="of elements (default nearest-even)")
    parser.add_argument("--seed", type=int, metavar="N", help="needed by stochastic modes")
    parser.add_argument("--random-bits", type=int, metavar="R", help="of stochastic modes (32)")
    _add_float64s(parser)


def _quantize(options: argparse.Namespace) -> int:
    from . import _cli_blocks

    return _cli_blocks.quantize_command(options)


def _add_float64s(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "values",
        nargs="+",
        type=_number,
        metavar="VALUE",
        help="decimal (taken as float64) or hex float",
    )


def _add_hadamard(commands: "_Commands") -> None:
    parser = _add(commands, "hadamard", _hadamard, "the Hadamard transform of numbers")
    _add_rounding(parser)
    parser.add_argument("--block", type=int, metavar="D", help="a power of two (default: all)")
    parser.add_argument("--sign-seed", type=int, metavar="N", help="draws one vector of signs")
    parser.add_argument("--inverse", action="store_true", help="the inverse, with the same signs")
    _add_float64s(parser)


def _hadamard(options: argparse.Namespace) -> int:
    from . import _cli_transforms

    return _cli_transforms.hadamard_command(options)


def _add_fit(commands: "_Commands") -> None:
    parser = _add(commands, "fit", _fit, "the format of a width with the least squared error")
    parser.add_argument("--width", type=int, required=True, metavar="W", help="bits, 2 to 16")
    parser.add_argument("--exponent-bits", type=int, metavar="E", help="(default: every number)")
    _add_float64s(parser)


def _fit(options: argparse.Namespace) -> int:
    from . import _cli_transforms

    return _cli_transforms.fit_command(options)


def _add_bench(commands: "_Commands") -> None:
    parser = _add(commands, "bench", _bench, "the speed of rounding arrays here, beside a copy")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a target is missed")
    parser.add_argument("--targets", metavar="FILE", help="TOML (default: the package's own)")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="pairs for each row (9)")
    parser.add_argument("--log2-elements", type=int, default=24, metavar="N", help="(default: 24)")
    parser.add_argument("--only", metavar="NAME[,NAME]", help="families of rows (default: all)")
    parser.add_argument("--threads", default="1,2", metavar="N,N", help="(default: 1,2)")


def _bench(options: argparse.Namespace) -> int:
    from . import _cli_bench

    return _cli_bench.bench_command(options)


def _add_conform(commands: "_Commands") -> None:
    parser = _add(commands, "conform", _conform, "judge a kernel by a suite: its promise, evidence")
    parser.add_argument("--list", action="store_true", help="the suites, or what --suite is")
    parser.add_argument("--suite", metavar="NAME", help="one of those that --list shows")
    parser.add_argument(
        "--kernel", metavar="K", help="a shared library, builtin:NAME or module:function"
    )
    parser.add_argument("--promise", metavar="P", help="such as bound+run-to-run (or its own)")
    parser.add_argument(
        "--level", choices=("quick", "full", "exhaustive"), default="quick", help="(default: quick)"
    )
    parser.add_argument(
        "--variant", action="append", metavar="V", help="element types; several times for several"
    )
    parser.add_argument("--case", action="append", metavar="ID", help="only this case")
    parser.add_argument("--shrink", action="store_true", help="cut a failing --case down")
    parser.add_argument(
        "--seconds", type=_seconds, default=10.0, metavar="S", help="for a case (10)"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, for plug-ins")
    parser.add_argument("--waivers", type=Path, metavar="F", help="TOML: accepted failures")
    for name, what in (
        ("jsonl", "the records, JSON Lines"),
        ("junit", "JUnit XML"),
        ("html", "the page"),
        ("bundle", "all of these and their hashes, a ZIP file"),
    ):
        parser.add_argument(f"--{name}", type=Path, metavar="F", help=f"write {what}")
    parser.add_argument("--check", type=Path, metavar="F.zip", help="examine a bundle")
    parser.add_argument("--records", type=Path, metavar="F", help="show records from a file")
    arrays = parser.add_argument_group("for module:function")
    arrays.add_argument("--arrays", metavar="A", help="numpy (default), torch, cupy or jax")
    arrays.add_argument("--dtypes", metavar="D", help="native (default), float32 or codes")
    arrays.add_argument("--device", metavar="D", help="as the library names it, such as cuda:0")
    arrays.add_argument("--here", action="store_true", help="call it in this process")


def _conform(options: argparse.Namespace) -> int:
    from . import _cli_conform

    return _cli_conform.conform_command(options)


def _add_models(commands: "_Commands") -> None:
    parser = _add(commands, "models", _models, "show matrix units of hardware and their evidence")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a unit's name")
    parser.add_argument(
        "--recorded",
        type=Path,
        metavar="FILE.bits",
        help="compare one unit (a name or FILE.toml) with results of hardware",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--probe", action="store_true", help="the features that products show")
    what.add_argument("--errors", action="store_true", help="the errors of long sums (a minute)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put that table into a page")


def _models(options: argparse.Namespace) -> int:
    from . import _cli_models

    return _cli_models.models_command(options)


def _add_matmul(commands: "_Commands") -> None:
    parser = _add(commands, "matmul", _matmul, "multiply matrices as a hardware unit does")
    parser.add_argument("a", type=Path, metavar="A.npy", help="a matrix of the unit's values")
    parser.add_argument("b", type=Path, metavar="B.npy", help="a matrix of the unit's values")
    parser.add_argument("c", type=Path, nargs="?", metavar="C.npy", help="is added (default: +0)")
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME|FILE.toml",
        help="a unit that `halfulp models` lists, or a file that describes one",
    )
    parser.add_argument(
        "--evidence",
        default="published",
        metavar="E",
        help="what must support a named unit: hardware, published (default) or any",
    )
    parser.add_argument(
        "--scales",
        type=Path,
        nargs=2,
        metavar=("OF_A.npy", "OF_B.npy"),
        help="block scales, for units that have them: (M, K/n) and (K/n, N)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="D.npy", help="the result")


def _matmul(options: argparse.Namespace) -> int:
    from . import _cli_models

    return _cli_models.matmul_command(options)


def _formats(options: argparse.Namespace) -> int:
    from . import _cli_blocks, _cli_logarithmic, _cli_numeric

    logarithmic = [name for name in options.names if _cli_logarithmic.is_logarithmic(name)]
    if logarithmic and len(logarithmic) < len(options.names):
        raise ValueError("ask for logarithmic number systems and other formats in two commands")
    if logarithmic:
        return _cli_logarithmic.formats(options)
    blocks = [name for name in options.names if _cli_blocks.is_block_format(name)]
    if blocks and len(blocks) < len(options.names):
        raise ValueError("ask for block formats and formats of single numbers in two commands")
    if blocks:
        return _cli_blocks.formats(options)
    return _cli_numeric.formats(options)


def _round(options: argparse.Namespace) -> int:
    from . import _cli_logarithmic, _cli_numeric

    if _cli_logarithmic.is_logarithmic(options.format):
        return _cli_logarithmic.round(options)
    return _cli_numeric.round(options)


def _op(options: argparse.Namespace) -> int:
    from . import _cli_logarithmic, _cli_numeric

    if _cli_logarithmic.is_logarithmic(options.format):
        return _cli_logarithmic.op(options)
    return _cli_numeric.op(options)


# ---------------------------------------------------------------- sweeps
def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"'{text}' is not I/N with 1 <= I <= N")
    return int(match[1]), int(match[2])


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no finite number of seconds above 0")
    return seconds


def _add_sweep(commands: "_Commands") -> None:
    parser = _add(commands, "sweep", _sweep, "run what is missing of a sweep")
    parser.add_argument("spec", type=Path, metavar="SPEC.toml", help="see docs/cells.md")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="its folder")
    parser.add_argument("--jobs", type=int, metavar="N", help="cells at a time (default: CPUs)")
    parser.add_argument("--shard", type=_shard, metavar="I/N", help="only every N-th cell")
    parser.add_argument(
        "--executor", metavar="NAME", help="local (default), dask, dask:ADDRESS or mpi"
    )
    parser.add_argument(
        "--cell-limit", type=_seconds, metavar="SECONDS", help="end a cell that takes longer"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="run again what another build or other data made"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say cells, time and disk")


def _add_status(commands: "_Commands") -> None:
    parser = _add(commands, "status", _status, "count the cells of a sweep")
    parser.add_argument("directory", type=Path, metavar="DIR", help="its folder")


def _add_table(commands: "_Commands") -> None:
    parser = _add(commands, "table", _table, "print a sweep's table and controls")
    parser.add_argument("directory", type=Path, metavar="DIR", help="its folder")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--csv", action="store_true", help="comma-separated values")
    kind.add_argument("--latex", action="store_true", help="a tabular environment")


def _add_report(commands: "_Commands") -> None:
    parser = _add(commands, "report", _report, "write a sweep's report, one HTML file")
    parser.add_argument("directory", type=Path, metavar="DIR", help="its folder")
    parser.add_argument("--out", type=Path, metavar="F", help="the file (default: DIR/report.html)")


def _add_study(commands: "_Commands") -> None:
    parser = _add(commands, "study", _study, "run a study of halfulp's own: table, report, page")
    parser.add_argument("name", nargs="?", metavar="NAME", help="one of those that --list shows")
    parser.add_argument("--list", action="store_true", help="show the studies")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="its small size (default)")
    size.add_argument("--full", action="store_true", help="its large size")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: results/NAME-SIZE")
    parser.add_argument("--jobs", type=int, metavar="N", help="cells at a time (default: CPUs)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="also write a Markdown page")
    parser.add_argument("--dry-run", action="store_true", help="only say cells, time and disk")


def _sweep(options: argparse.Namespace) -> int:
    from .studies import run_sweep

    sweep = run_sweep(
        options.spec,
        options.out,
        jobs=options.jobs,
        executor=options.executor,
        shard=options.shard,
        cell_limit=options.cell_limit,
        fresh=options.fresh,
        dry_run=options.dry_run,
        progress=not options.json,
    )
    return _say_sweep(sweep, options.json)


def _say_sweep(sweep: "Sweep", as_json: bool) -> int:
    """Says what became of a sweep, or what is predicted of it; returns the exit code."""
    if sweep.prediction is not None:
        if as_json:
            _print_json(sweep.prediction.to_dict())
        else:
            print(sweep.prediction)
        return DONE
    bad = [check for check in sweep.check_controls() if check.passed is False]
    if as_json:
        _print_json(_summary(sweep))
    else:
        counts = ", ".join(f"{n} {word}" for word, n in sweep.counts().items() if n)
        print(f"{sweep.spec.name}: {len(sweep.cells)} cells: {counts}")
        if sweep.failed:
            print("failed (the same command tries them again):", file=sys.stderr)
        for cell in sweep.failed:
            print(f"  {cell.describe()}: {cell.failure}", file=sys.stderr)
        for cell in sweep.stopped:
            print(f"stopped (the same command goes on): {cell.describe()}", file=sys.stderr)
        for warning in sweep.build_warnings():
            print(warning, file=sys.stderr)
        for check in bad:
            print(f"control FAILED: {check.name}: {check.detail}", file=sys.stderr)
    return SOME_FAILED if sweep.failed or sweep.stopped or bad else DONE


def _summary(sweep: "Sweep") -> dict[str, object]:
    return {
        "sweep": sweep.spec.name,
        "directory": str(sweep.folder.root),
        "cells": len(sweep.cells),
        **sweep.counts(),
        "other_build": len(sweep.of_another_build),
        "warnings": sweep.build_warnings(),
        "stopped": [c.describe() for c in sweep.stopped],
        "failures": [{"cell": c.describe(), "message": c.failure} for c in sweep.failed],
        "controls": [{"name": c.name, "passed": c.passed} for c in sweep.check_controls()],
    }


def _status(options: argparse.Namespace) -> int:
    from .studies import open_sweep, status_of
    from .studies.progress import duration

    status = status_of(open_sweep(options.directory))
    if options.json:
        _print_json(status)
        return DONE
    finished = status["completed"] + status["diverged"]
    line = f"{status['sweep']}: {finished} of {status['cells']} cells are finished"
    for word in ("diverged", "failed", "corrupt", "missing", "begun"):
        line += f", {status[word]} {word}" if status[word] else ""
    if status["running"]:
        left = status["seconds_left"]
        line += "; running" + ("" if left is None else f", about {duration(left)} left")
    print(line)
    for sweep in status["sweeps"]:
        print(f"  at work: process {sweep['pid']} on {sweep['host']}")
    for warning in status["warnings"]:
        print(warning)
    for problem in status["problems"]:
        print(f"  {problem}")
    return DONE


def _table(options: argparse.Namespace) -> int:
    from .studies import open_sweep

    if options.json and (options.csv or options.latex):
        raise ValueError("--json, --csv and --latex exclude each other; give one")
    table = open_sweep(options.directory).table()
    if options.json:
        print(table.to_json())
    elif options.csv:
        print(table.to_csv(), end="")
    elif options.latex:
        print(table.to_latex(), end="")
    else:
        table.print()
    return DONE


def _report(options: argparse.Namespace) -> int:
    from .studies import open_sweep

    sweep = open_sweep(options.directory)
    path = sweep.report(options.out)
    if options.json:
        _print_json({"report": str(path), "warnings": sweep.warnings()})
        return DONE
    for warning in sweep.warnings():
        print(warning, file=sys.stderr)
    print(path)
    return DONE


def _study(options: argparse.Namespace) -> int:
    from .studies import studies, study
    from .studies.spec import suggestion

    if options.list:
        return _list_studies(studies(), options.json)
    if options.name in _PYTHON_STUDIES:
        return _python_study(options)
    if options.name is None:
        raise ValueError("give the name of a study; halfulp study --list shows them")
    known = sorted({*(s.name for s in studies()), *_PYTHON_STUDIES})
    if options.name not in known:
        raise ValueError(f"there is no study '{options.name}'" + suggestion(options.name, known))
    sweep = study(
        options.name,
        quick=not options.full,
        out=options.out,
        page=options.page,
        jobs=options.jobs,
        dry_run=options.dry_run,
        progress=not options.json,
    )
    code = _say_sweep(sweep, options.json)
    if sweep.prediction is None and not options.json:
        print(sweep.folder.root / "report.html")
        if options.page is not None:
            print(options.page)
        sweep.table().print()
    return code


def _python_study(options: argparse.Namespace) -> int:
    study = import_module(f"halfulp.{options.name}._study")
    size = "full" if options.full else "quick"
    if options.jobs is not None and options.jobs < 1:
        raise ValueError(f"--jobs is {options.jobs}, but must be 1 or more")
    if options.dry_run:
        cost = study.estimate_cost(size)
        _print_json(cost) if options.json else print(
            f"{cost['cells']} cells of {cost['seeds']} networks, about {cost['seconds']:.0f} s "
            "on two processors"
        )
        return DONE
    try:
        folder = study.run_study(
            size, options.out, jobs=options.jobs, page=options.page, progress=not options.json
        )
    except RuntimeError as error:  # a cell or a control
        return _complain(str(error), SOME_FAILED, options.json)
    if options.json:
        _print_json({"folder": str(folder), "page": options.page and str(options.page)})
        return DONE
    print(folder)
    if options.page is not None:
        print(options.page)
    return DONE


def _list_studies(studies: "Sequence[Study]", as_json: bool) -> int:
    sizes: dict[str, list[str]] = {}
    for each in studies:
        sizes.setdefault(each.name, []).append(each.size)
    questions = {each.name: each.question for each in reversed(studies)}
    for name in _PYTHON_STUDIES:
        module = import_module(f"halfulp.{name}._study")
        sizes[name], questions[name] = list(module.SIZES), module.QUESTION
    if as_json:
        _print_json([{"name": n, "sizes": s, "question": questions[n]} for n, s in sizes.items()])
        return DONE
    for name, known in sizes.items():
        print(f"{name}  ({', '.join(known)})\n  {questions[name]}")
    return DONE


if __name__ == "__main__":
    raise SystemExit(main())
