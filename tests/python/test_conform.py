"""hu.conform and halfulp conform: good and broken callables, processes that die, sentences."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from fractions import Fraction
from pathlib import Path

import conform_kernels as kernels
import numpy as np
import pytest

import halfulp as hu
from halfulp import _conform_records as recs
from halfulp import cli

SOME = [
    f"softmax/1/float32/{family}/{i}" for family in ("tiny", "special", "ragged") for i in range(4)
]


def some(family: str, variant: str = "float32") -> list[str]:
    version = hu.suite("softmax").version
    every = hu.suite("softmax").cases(variant)
    return [c for c in every if c.startswith(f"softmax/{version}/{variant}/{family}/")]


def children() -> set[int]:
    """Processes of this one, ended ones that nobody waited for among them."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


@pytest.fixture(scope="module")
def good() -> hu.Report:
    return hu.conform(
        kernels.softmax, "softmax", "bound+run-to-run+batch", variant="all", progress=False
    )


# ---------------------------------------------------------------- suites
def test_suites_say_what_they_are() -> None:
    names = [s.name for s in hu.suites()]
    assert {"sum", "softmax"} <= set(names)
    assert len(names) == len(set(names))
    for s in hu.suites():
        assert s.definition
        assert s.variants
        assert s.builtins
        assert s.inputs
        assert s.outputs
        assert s.name in repr(s)
    with pytest.raises(ValueError, match=r'no suite "sofmax"; there are .*softmax'):
        hu.suite("sofmax")


def test_a_case_is_made_as_arrays_with_what_is_expected() -> None:
    s = hu.suite("softmax")
    case = s.make(some("tiny")[0])
    x, y = case.inputs["x"], case.expected["y"]
    assert x.dtype == np.float32
    assert not x.flags.writeable
    assert case.outputs["y"] == ("float32", x.shape)
    assert y.rounded.shape == x.shape
    assert y.rounded.dtype == np.float32
    e = np.exp(x.astype(np.longdouble) - x.max(axis=1, keepdims=True))
    exact = e / e.sum(axis=1, keepdims=True)
    assert np.all(np.abs(y.reference + y.low.astype(np.longdouble) - exact) <= 1e-17 * exact)
    with pytest.raises(ValueError, match='case "sum/1/float32/small/0" is none of suite softmax'):
        s.make("sum/1/float32/small/0")
    with pytest.raises(ValueError, match="5"):
        s.make("softmax/1")


@pytest.mark.parametrize("element", ["float32", "float16", "bfloat16"])
def test_expected_bits_are_the_exact_result_rounded_once(element: str) -> None:
    """Sums of two floats against rationals: also where rounding the first alone would be wrong."""
    from halfulp._suites import rounded_sum

    precision = {"float32": 24, "float16": 11, "bfloat16": 8}[element]
    rng = np.random.default_rng(1)
    halves = (rng.integers(2 ** (precision - 1), 2**precision, 500) + 0.5) * 2.0 ** (1 - precision)
    high = np.concatenate([halves, rng.random(500) + 1, np.nextafter(halves, 9)])
    low = rng.choice([-1, 0, 1], high.size) * np.ldexp(rng.random(high.size), -54)
    codes = np.frombuffer(rounded_sum(high, low, element), "<u4" if element == "float32" else "<u2")
    values = hu.decode(codes, {"float32": "binary32", "float16": "binary16"}.get(element, element))
    unit = Fraction(1, 2 ** (precision - 1))
    for h, tail, got in zip(high, low, np.asarray(values, np.float64), strict=True):
        exact = Fraction(float(h)) + Fraction(float(tail))
        lattice = unit if exact < 2 else 2 * unit
        assert Fraction(float(got)) == round(exact / lattice) * lattice  # round: ties to even


# ---------------------------------------------------------------- verdicts
def test_a_good_callable_passes_with_evidence(good: hu.Report) -> None:
    assert good.outcome == "pass", good
    assert good.failures == []
    assert len(good.cases) == sum(
        len(hu.suite("softmax").cases(v)) for v in hu.suite("softmax").variants
    )
    assert {c["outcome"] for c in good.cases} == {"pass"}
    checks = {c["name"]: c for c in good.checks if c.get("promised", True)}
    assert {n: c["outcome"] for n, c in checks.items()} == {"run-to-run": "pass", "batch": "pass"}
    assert checks["batch"]["cases"] > len(good.cases)
    assert good.worst is not None
    assert good.worst["max_ratio"] == good.summary["max_ratio"] <= 1
    assert good.summary["elements"] == sum(sum(c["histogram"].values()) for c in good.cases) > 10**5
    assert "PASS: " in repr(good)
    kernel = good.run["kernel"]
    assert kernel["name"] == "conform_kernels:softmax"
    assert kernel["path"].endswith("conform_kernels.py")
    assert good.run["environment"]["libraries"]["numpy"] == np.__version__


@pytest.mark.parametrize("kernel", kernels.BROKEN, ids=lambda k: k.__name__)
def test_a_broken_callable_is_caught(kernel: object) -> None:
    report = hu.conform(kernel, "softmax", progress=False)
    assert report.outcome == "fail", f"{kernel} passes"
    assert report.summary["fail"] == len(report.failures) > 0
    assert all(c["reason"] for c in report.failures)
    assert report.failures[0]["replay"].startswith(
        f"halfulp conform --suite softmax --kernel conform_kernels:{kernel.__name__} --case softmax/"
    )


def test_the_reports_name_the_trap() -> None:
    failed = Counter(c["family"] for c in hu.conform(kernels.no_maximum, progress=False).failures)
    assert failed["large"]
    assert not failed["tiny"]
    failed = Counter(
        c["family"] for c in hu.conform(kernels.masked_rows_are_zero, progress=False).failures
    )
    assert set(failed) <= {"all-masked", "special"}


@pytest.mark.parametrize(
    ("kernel", "check"),
    [(kernels.differs_from_run_to_run, "run-to-run"), (kernels.depends_on_the_batch, "batch")],
)
def test_other_bits_in_other_calls_are_caught_where_they_are_promised(
    kernel: object, check: str
) -> None:
    ids = some("normal")
    assert hu.conform(kernel, "softmax", cases=ids, progress=False).outcome == "pass"
    report = hu.conform(kernel, "softmax", "bound+run-to-run+batch", cases=ids, progress=False)
    found = {c["name"]: c["outcome"] for c in report.checks if c.get("promised", True)}
    assert report.outcome == "fail"
    assert found[check] == "fail"
    assert report.summary["fail"] == 0
    assert check in repr(report).splitlines()[-1]


def test_bfloat16_and_float16_arrays_are_those_of_ml_dtypes_and_numpy() -> None:
    seen = set()

    def look(x: np.ndarray) -> np.ndarray:
        seen.add((x.dtype.name, x.flags.writeable))
        return kernels.softmax(x)

    ids = [some("normal", v)[0] for v in ("float32", "float16", "bfloat16")]
    assert hu.conform(look, cases=ids, isolate=False, progress=False).outcome == "pass"
    assert seen == {("float32", False), ("float16", False), ("bfloat16", False)}
    seen.clear()

    def wide(x: np.ndarray) -> np.ndarray:
        seen.add((x.dtype.name, x.flags.writeable))
        return kernels.softmax(x)

    report = hu.conform(wide, cases=ids, isolate=False, dtypes="float32", progress=False)
    assert report.outcome == "pass", report
    assert seen == {("float32", False)}
    seen.clear()

    def codes(x: np.ndarray) -> np.ndarray:
        seen.add(x.dtype.name)
        if x.dtype == np.uint16:
            import ml_dtypes

            return kernels.softmax(x.view(ml_dtypes.bfloat16)).view(np.uint16)
        return kernels.softmax(x)

    assert (
        hu.conform(codes, cases=ids, isolate=False, dtypes="codes", progress=False).outcome
        == "pass"
    )
    assert seen == {"float32", "float16", "uint16"}


def test_a_bfloat16_truncation_is_caught() -> None:
    def truncated(x: np.ndarray) -> np.ndarray:
        bits = kernels.softmax(x.astype(np.float32)).view(np.uint32) >> 16
        return bits.astype(np.uint16).view(x.dtype)

    report = hu.conform(truncated, variant="bfloat16", progress=False)
    assert report.outcome == "fail"
    assert report.worst["max_ulp"] <= 1.01
    # Below a half everywhere on average: the signed error shows the direction.
    signed = [c["mean_signed_ulp"] for c in report.cases if c["family"] == "normal"]
    assert max(signed) < 0


def test_builtins_are_judged_by_the_program(good: hu.Report) -> None:
    (name, *_) = hu.suite("sum").builtins
    report = hu.conform(f"builtin:{name}", "sum", "bound+run-to-run", progress=False)
    assert report.outcome == "pass", report
    assert [c["id"] for c in report.cases][:3] == hu.suite("sum").cases(level="quick")[:3]
    assert report.run["kernel"]["name"]
    with pytest.raises(ValueError, match=r"only hu.conform can replay"):
        report.replay(report.cases[0]["id"])
    with pytest.raises(ValueError, match="arrays is for callables"):
        hu.conform(f"builtin:{name}", "sum", arrays="torch")
    with pytest.raises((ValueError, ChildProcessError), match="nowhere"):
        hu.conform("builtin:nowhere", "sum", progress=False)


# ---------------------------------------------------------------- what a callable may do
@pytest.mark.parametrize("kernel", kernels.SENTENCES, ids=lambda k: k.__name__)
@pytest.mark.parametrize("isolate", [True, False])
def test_what_is_no_result_gets_a_sentence(kernel: object, isolate: bool) -> None:
    case = some("ragged")[0]
    report = hu.conform(kernel, cases=[case], isolate=isolate, progress=False)
    (record,) = report.cases
    assert record["outcome"] == "fail"
    assert kernels.SENTENCES[kernel] in record["reason"]
    assert "\n" not in record["reason"]
    assert not recs.problems(record)


def test_not_implemented_is_unsupported() -> None:
    report = hu.conform(kernels.is_unsupported, cases=SOME, progress=False)
    found = Counter(c["outcome"] for c in report.cases)
    assert found["unsupported"]
    assert found["pass"]
    assert report.outcome == "pass"
    reasons = {c["reason"] for c in report.cases if c["outcome"] == "unsupported"}
    assert reasons == {"raised NotImplementedError: rows longer than 3"}
    assert (
        hu.conform(kernels.is_unsupported, cases=some("ragged")[:1], progress=False).outcome
        == "unsupported"
    )


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (kernels.dies, "died by signal 11 (SIGSEGV)"),
        (kernels.leaves, "ended its process with exit code 7"),
        (kernels.hangs, "ran past 0.5 s"),
        (kernels.ends_its_group, "died by signal 9 (SIGKILL)"),
    ],
)
def test_a_process_that_dies_or_hangs_fails_its_case_alone(kernel: object, reason: str) -> None:
    every = [c for c in some("normal") + some("special") + some("ragged")]
    rows = {c: hu.suite("softmax").make(c).inputs["x"].shape[0] for c in every}
    ids = [c for c in every if rows[c] != 3][:4]
    ids[1:1] = [c for c in every if rows[c] == 3][:2]
    assert len(ids) == 6
    before = children()
    started = time.monotonic()
    report = hu.conform(kernel, cases=ids, seconds=0.5, progress=False)
    assert time.monotonic() - started < 30
    for record in report.cases:
        bad = rows[record["id"]] == 3
        assert record["outcome"] == ("fail" if bad else "pass"), record
        assert record["reason"] == (reason if bad else "")
        assert record["seconds"] < 4
    assert children() <= before  # no process is left


def test_what_a_kernel_prints_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    for isolate in (True, False):
        hu.conform(kernels.prints, cases=some("tiny")[:2], isolate=isolate, progress=False)
        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("printed by a kernel") == 2


def test_an_interrupt_ends_the_run_and_its_process() -> None:
    def interrupted(record: object) -> None:
        raise KeyboardInterrupt

    before = children()
    with pytest.raises(KeyboardInterrupt):
        hu.conform(kernels.softmax, cases=some("tiny"), progress=interrupted)
    assert children() <= before


# ---------------------------------------------------------------- replay, shrink
def test_a_case_is_replayed_with_its_arrays() -> None:
    report = hu.conform(kernels.no_maximum, progress=False)
    first = next(c for c in report.failures if c["family"] == "large")
    replay = report.replay(first["id"])
    assert replay.outcome == "fail"
    assert replay.record["worst"] == first["worst"]
    place = tuple(first["worst"]["index"])
    got = replay.got["y"].view(np.uint32)[place]
    wanted = replay.expected["y"].rounded.view(np.uint32)[place]
    assert f"0x{got:08x}" == first["worst"]["got"]
    assert f"0x{wanted:08x}" == first["worst"]["expected"]
    text = repr(replay)
    assert first["worst"]["got"] in text
    assert "sign, exponent, significand" in text
    died = hu.conform(kernels.raises, cases=some("tiny")[:1], progress=False)
    assert died.replay(died.cases[0]["id"]).got is None


def test_a_failure_is_shrunk() -> None:
    report = hu.conform(kernels.sum_of_another_row, progress=False)
    ids = [c["id"] for c in report.failures if c["family"] == "normal"]
    small = report.shrink(ids[0])
    assert small.outcome == "fail"
    rows, n = small.inputs["x"].shape
    assert (rows, n <= 2) == (2, True), small  # one row alone is right; two differ in their sums
    assert small.id.startswith(f"{ids[0]}[rows ")
    assert report.replay(small.id).outcome == "fail"
    good = hu.conform(kernels.softmax, cases=some("tiny")[:1], progress=False)
    with pytest.raises(ValueError, match="does not fail, so there is nothing to shrink"):
        good.shrink(some("tiny")[0])


# ---------------------------------------------------------------- records
def test_records_are_of_the_schema_and_come_back_from_a_file(
    good: hu.Report, tmp_path: Path
) -> None:
    text = good.jsonl(tmp_path / "r.jsonl")
    assert recs.read(tmp_path / "r.jsonl") == good.records
    assert text.count("\n") == len(good.records)
    assert [r["type"] for r in good.records] == ["run"] + ["case"] * len(good.cases) + [
        "check"
    ] * len(good.checks) + ["summary"]
    again = hu.Report(recs.read(tmp_path / "r.jsonl"))
    assert repr(again) == repr(good)
    assert recs.tally(good.records).items() <= good.summary.items()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda t: t.replace('"schema":1', '"schema":2'),
            "line 1: run: schema is 2; this version reads 1",
        ),
        (
            lambda t: t.replace('"outcome":"pass"', '"outcome":"good"', 1),
            "outcome 'good' is none of pass, fail",
        ),
        (
            lambda t: t.replace('"elements":', '"elemente":', 1),
            "elements is None, but must be a count",
        ),
        (lambda t: t[: t.rindex("\n", 0, -1) + 1], "the run did not end"),
        (lambda t: t[t.index("\n") + 1 :], "the first line, and no other"),
        (lambda t: t[:-20], "no JSON"),
        (lambda t: t.replace('"got":"0x', '"got":"', 1), "worst has no bits got and expected"),
    ],
)
def test_a_file_that_is_no_run_is_refused(
    good: hu.Report, tmp_path: Path, change: object, sentence: str
) -> None:
    broken = change(good.jsonl())
    assert broken != good.jsonl()
    (tmp_path / "r.jsonl").write_text(broken)
    with pytest.raises(ValueError, match=sentence):
        recs.read(tmp_path / "r.jsonl")


def test_junit_counts_what_the_records_count(tmp_path: Path) -> None:
    waivers = tmp_path / "w.toml"
    waivers.write_text('[[waiver]]\ncase = "*/large/*"\nreason = "known"\n')
    report = hu.conform(kernels.no_maximum, waivers=waivers, progress=False)
    root = ET.fromstring(report.junit(tmp_path / "j.xml").encode())
    assert (tmp_path / "j.xml").read_text() == report.junit()
    s = report.summary
    assert int(root.get("failures")) == s["fail"] > 0
    assert int(root.get("skipped")) >= s["waived"] > 0
    assert int(root.get("tests")) == len(report.cases) + len(report.checks)
    suites = root.findall("testsuite")
    for key in ("tests", "failures", "skipped"):
        assert int(root.get(key)) == sum(int(suite.get(key)) for suite in suites)
    cases = {case.get("name"): case for suite in suites for case in suite}
    for record in report.cases:
        failure = cases[record["id"]].find("failure")
        assert (failure is not None) == (record["outcome"] == "fail")
        if failure is not None:
            assert failure.get("message") == record["reason"]
            assert record["replay"] in failure.text
    properties = {p.get("name"): p.get("value") for p in suites[0].find("properties")}
    assert properties["strength"]
    assert properties["suite_version"] == str(hu.suite("softmax").version)


def test_xml_survives_any_sentence() -> None:
    def odd(x: np.ndarray) -> np.ndarray:
        raise ValueError('<&"\x00\ud800\x1b[31m é \U0001f600')

    report = hu.conform(odd, cases=some("tiny")[:1], progress=False)
    root = ET.fromstring(report.junit().encode())
    assert "é" in root.find(".//failure").get("message")
    assert "&lt;&amp;" in report.html()


def test_a_figure_shows_all_families(good: hu.Report) -> None:
    import matplotlib.pyplot as plt

    figure = good.plot()
    try:
        labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
        assert any("ragged" in label for label in labels)
        assert figure.axes[0].get_xlabel()
    finally:
        plt.close(figure)


# ---------------------------------------------------------------- waivers
def test_waived_failures_do_not_fail_the_run(tmp_path: Path) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(
        '[[waiver]]\ncase = "softmax/*"\nreason = "the maximum comes next week"\n'
        '[[waiver]]\ncase = "*/no-such/*"\nreason = "old"\n'
        '[[waiver]]\ncase = "*/tiny/*"\nreason = "too careful"\n'
    )
    report = hu.conform(kernels.no_maximum, waivers=file, progress=False)
    assert report.outcome == "pass"
    assert report.failures == []
    assert report.summary["waived"] > 0
    record = next(c for c in report.cases if c["outcome"] == "waived")
    assert record["reason"].startswith("the maximum comes next week (waived; y[")
    assert record["waiver"] == {"pattern": "softmax/*", "reason": "the maximum comes next week"}
    first, second = report.summary["idle_waivers"]
    assert first == 'waiver "*/no-such/*": no case of this run has such a name'
    assert second.startswith('waiver "*/tiny/*": none of the ')
    assert first in repr(report)
    check = tmp_path / "check.toml"
    check.write_text('[[waiver]]\ncheck = "run-to-run"\nreason = "atomics"\n')
    kernel, ids = kernels.differs_from_run_to_run, some("normal")
    report = hu.conform(
        kernel, "softmax", "bound+run-to-run", cases=ids, waivers=check, progress=False
    )
    assert report.outcome == "pass"
    assert {c["name"]: c["outcome"] for c in report.checks}["run-to-run"] == "waived"


def test_the_program_s_lines_are_waivers_too(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text(
        "# known\n\nsoftmax/*/large/*   no maximum yet\ncheck:batch tiles\n"
    )
    found = recs.read_waivers(tmp_path / "w.txt")
    assert found == [
        recs.Waiver("case", "softmax/*/large/*", "no maximum yet"),
        recs.Waiver("check", "batch", "tiles"),
    ]
    (tmp_path / "w.txt").write_text("softmax/*\n")
    with pytest.raises(ValueError, match=r"w\.txt, line 1 \(softmax/\*\) has no reason"):
        recs.read_waivers(tmp_path / "w.txt")


def test_a_promise_of_bits_alone_is_decided_by_its_checks() -> None:
    ids = some("normal")
    report = hu.conform(kernels.no_maximum, "softmax", "run-to-run", cases=ids, progress=False)
    assert report.outcome == "pass"
    assert report.summary["not_evidenced"] == len(ids)
    assert repr(report).endswith(f"PASS: run-to-run kept; {len(ids)} not evidenced")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[[waiver]]\ncase = "*"\n', r"waiver 1 \(\*\) has no reason; write why"),
        ('[[waiver]]\ncase = "*"\nreason = "  "\n', "has no reason"),
        ('[[waiver]]\nreason = "x"\n', "it needs case or check"),
        ('[[waiver]]\ncase = "*"\ncheck = "*"\nreason = "x"\n', "one of them, and reason"),
        ('[[waiver]]\ncase = "*"\nwhy = "x"\n', "has keys case, why"),
        ('[[waiver]]\ncase = 3\nreason = "x"\n', "case is 3, but must be text"),
        ('[[waivers]]\ncase = "*"\n', r"a table \[\[waiver\]\], not waivers"),
        ("waiver = 3\n", "write each waiver as a table"),
        ("[[waiver]\n", "is no TOML"),
    ],
)
def test_waivers_that_say_too_little_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "w.toml").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        hu.conform(kernels.softmax, waivers=tmp_path / "w.toml")


# ---------------------------------------------------------------- arguments
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"suite": "sofmax"}, 'no suite "sofmax"'),
        ({"promise": "bund"}, 'promise "bund" is not known'),
        ({"level": "slow"}, "level is 'slow', but must be quick, full, exhaustive"),
        ({"variant": "float8"}, 'no variant "float8"; there are float32'),
        ({"variant": []}, "variant is empty"),
        ({"arrays": "tensorflow"}, "arrays is 'tensorflow', but must be numpy, torch"),
        ({"dtypes": "double"}, "dtypes is 'double', but must be native"),
        ({"device": "cuda"}, "NumPy's arrays are in the memory of the host"),
        ({"seconds": 0}, "seconds is 0, but a time limit must be above 0"),
        ({"cases": []}, "has no cases there"),
        ({"cases": ["softmax/9/float32/tiny/0"]}, "version 9"),
        ({"cases": ["sum/1/float32/small/0"]}, "not one of suite softmax|cannot be called"),
        ({"cases": ["nonsense"]}, "5"),
        ({"arrays": "jax", "isolate": True}, "forks this process|jax is not installed"),
    ],
)
def test_bad_arguments_get_a_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises((ValueError, TypeError, ImportError), match=sentence):
        hu.conform(kernels.softmax, **{"suite": "softmax", "progress": False, **options})


def test_a_callable_that_cannot_be_called_so_is_refused_before_the_first_case() -> None:
    with pytest.raises(
        TypeError, match=r"cannot be called as kernel\(x\), which suite softmax does"
    ):
        hu.conform(lambda x, y: x, "softmax")
    with pytest.raises(TypeError, match="cannot be called as kernel"):
        hu.conform(lambda: None, "softmax")
    assert (
        hu.conform(
            lambda *a, **k: kernels.softmax(*a), cases=some("tiny")[:1], progress=False
        ).outcome
        == "pass"
    )


# ---------------------------------------------------------------- other libraries
def test_jax_gets_and_gives_its_own_arrays() -> None:
    jax = pytest.importorskip("jax")

    @jax.jit
    def softmax(x: object) -> object:
        return jax.nn.softmax(x.astype("float32"), axis=1).astype(x.dtype)

    # Families without subnormal numbers: its CPU backend has flushed them, which the suite reports.
    ids = some("tiny") + some("equal", "bfloat16")
    report = hu.conform(softmax, arrays="jax", cases=ids, progress=False)
    assert report.outcome == "pass", report
    assert report.run["environment"]["libraries"]["jax"] == jax.__version__
    wrong = hu.conform(
        lambda x: np.asarray(x), arrays="jax", cases=some("tiny")[:1], progress=False
    )
    assert wrong.cases[0]["reason"] == "y is of type numpy.ndarray; it must be an array of jax"


def test_torch_gets_and_gives_its_own_tensors() -> None:
    torch = pytest.importorskip("torch")

    def softmax(x: object) -> object:
        return torch.softmax(x.float(), dim=1).to(x.dtype)

    report = hu.conform(softmax, arrays="torch", variant="all", isolate=False, progress=False)
    assert report.summary["pass"] > 0.9 * report.summary["cases"], report

    def in_place(x: object) -> object:
        return x.add_(1)

    wrong = hu.conform(in_place, arrays="torch", cases=some("tiny")[:1], progress=False)
    assert wrong.cases[0]["reason"] == "wrote to its input x"


# ---------------------------------------------------------------- the command line
def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["conform", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)


def test_the_list_shows_every_suite(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [s.name for s in hu.suites()]
    code, out, _ = run(capsys, "--list", "--suite", "softmax")
    assert "builtin:" in out
    assert hu.suite("softmax").definition in out
    code, out, _ = run(capsys, "--list", "--json")
    assert [row["name"] for row in json.loads(out)] == [s.name for s in hu.suites()]


def test_a_function_of_a_module_is_judged(
    here: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = {name: tmp_path / name for name in ("r.jsonl", "j.xml", "p.html", "b.zip")}
    code, out, _ = run(
        capsys, "--suite", "softmax", "--kernel", "conform_kernels:softmax", "--jsonl", str(files["r.jsonl"]),
        "--junit", str(files["j.xml"]), "--html", str(files["p.html"]), "--bundle", str(files["b.zip"]),
    )  # fmt: skip
    assert code == 0
    assert out.splitlines()[-1].startswith("PASS: ")
    assert "variants not asked for: float16, bfloat16" in out
    assert all(file.stat().st_size > 1000 for file in files.values())
    code, shown, _ = run(capsys, "--records", str(files["r.jsonl"]))
    assert (code, shown) == (0, out)
    code, out, _ = run(
        capsys, "--suite", "softmax", "--kernel", "conform_kernels:no_maximum", "--json"
    )
    assert code == 1
    document = json.loads(out)
    assert document["summary"]["outcome"] == "fail"
    assert len(document["failures"]) == document["summary"]["fail"]


def test_a_replay_line_replays(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    report = hu.conform(kernels.sum_of_another_row, "softmax", "bound+run-to-run", progress=False)
    for line in (
        report.failures[0]["replay"],
        report.shrink(report.failures[0]["id"]).record["replay"],
    ):
        words = shlex.split(line)
        assert words[:2] == ["halfulp", "conform"]
        code, out, _ = run(capsys, *words[2:])
        assert code == 1
        assert out.startswith(f"{words[-1]}: fail\n")
    code, out, _ = run(capsys, *shlex.split(report.failures[0]["replay"])[2:], "--shrink")
    assert code == 1
    assert "[rows " in out.splitlines()[0]


def test_builtins_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    (name, *_) = hu.suite("sum").builtins
    code, out, _ = run(capsys, "--suite", "sum", "--kernel", f"builtin:{name}")
    assert (code, out.splitlines()[-1][:5]) == (0, "PASS:")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "needs --suite and --kernel, or --list"),
        (["--suite", "softmax"], 2, "needs --suite and --kernel"),
        (
            ["--suite", "softmax", "--kernel", "nothing.here"],
            2,
            "is no file; give a shared library",
        ),
        (["--suite", "softmax", "--kernel", "no_such_module:f"], 2, "No module named"),
        (["--suite", "softmax", "--kernel", "conform_kernels:f"], 2, "has no f"),
        (["--suite", "softmax", "--kernel", "conform_kernels:BROKEN"], 2, "cannot be called"),
        (
            ["--suite", "softmax", "--kernel", "conform_kernels:softmax", "--shrink"],
            2,
            "needs the case",
        ),
        (
            ["--suite", "softmax", "--kernel", "builtin:x", "--arrays", "torch"],
            2,
            "--arrays is for module:function",
        ),
        (
            ["--suite", "softmax", "--kernel", "conform_kernels:softmax", "--promise", "x"],
            2,
            "is not known",
        ),
        (
            ["--suite", "softmax", "--kernel", "conform_kernels:softmax", "--waivers", "none.toml"],
            3,
            "none.toml",
        ),
        (["--records", "none.jsonl"], 3, "none.jsonl: No such file"),
        (["--check", "none.zip"], 3, "none.zip: No such file"),
    ],
)
def test_complaints_are_one_sentence(
    here: None, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, sentence: str
) -> None:
    got, _, err = run(capsys, *arguments)
    assert got == code
    assert sentence in err
    assert err.count("\n") == 1


def test_numbers_of_records() -> None:
    assert math.isnan(recs.number("nan"))
    assert math.isnan(recs.number(None))
    assert recs.number("inf") == math.inf
    assert [recs.plain(x) for x in (1.5, math.inf, -math.inf, math.nan)] == [
        1.5,
        "inf",
        "-inf",
        "nan",
    ]
    assert recs.largest([1, "inf", None]) == math.inf
    assert recs.largest(["nan", 2]) == math.inf  # no bound admits it
    assert recs.largest([]) == 0


def test_importing_halfulp_starts_nothing() -> None:
    code = "import sys, halfulp; print([m for m in ('multiprocessing.connection', 'matplotlib', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- plug-ins
FOLDER = Path(__file__).resolve().parents[2] / "kernels/conformance"


def plug_in(source: str, folder: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / "kernel.c").write_text(source)
    library = folder / "kernel.so"
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O2",
        f"-I{FOLDER}",
        "-o",
        library,
        folder / "kernel.c",
        "-lm",
    ]
    subprocess.run(command, check=True)
    return library


def test_a_plug_in_is_judged_and_bundled(tmp_path: Path) -> None:
    library = plug_in((FOLDER / "example/softmax.c").read_text(), tmp_path)
    report = hu.conform(library, "softmax", variant="float32", progress=False)
    assert report.outcome == "pass", report
    assert report.run["kernel"]["path"] == str(library)
    assert not [p for r in report.records for p in recs.problems(r)]
    report.bundle(tmp_path / "b.zip")
    assert cli.main(["conform", "--check", str(tmp_path / "b.zip"), "--kernel", str(library)]) == 0
    library.write_bytes(library.read_bytes() + b"\0")
    assert cli.main(["conform", "--check", str(tmp_path / "b.zip"), "--kernel", str(library)]) == 1
    with pytest.raises(ValueError, match="2 cases are asked for"):
        hu.conform(library, "softmax", cases=some("tiny")[:2])


def test_a_broken_plug_in_is_caught_replayed_and_shrunk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = (FOLDER / "example/softmax.c").read_text()
    broken = re.sub(r"expf\(([^()]*(?:\[[^]]*\])?) - \w+\)", r"expf(\1)", source)
    assert broken != source
    library = plug_in(broken, tmp_path)
    report = hu.conform(library, "softmax", variant="float32", jobs=2, progress=False)
    assert report.outcome == "fail"
    failed = next(c for c in report.failures if c["family"] == "large")
    words = shlex.split(failed["replay"])
    code, out, _ = run(capsys, *words[2:])
    assert code == 1
    assert out.startswith(f"{failed['id']}: fail\n")
    code, out, _ = run(capsys, *words[2:], "--shrink")
    assert code == 1
    assert "[entries " in out.splitlines()[0]
    code, out, _ = run(capsys, *words[2:], "--shrink", "--json")
    assert json.loads(out)["cases"][0]["outcome"] == "fail"
    passed = next(c for c in report.cases if c["outcome"] == "pass")
    words[words.index(failed["id"])] = passed["id"]
    code, _, err = run(capsys, *words[2:], "--shrink")
    assert (code, "does not fail" in err) == (2, True)
