"""halfulp-conform as a program: commands, exit codes, sentences, files, the protocol's example."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from halfulp import _conform

ROOT = Path(__file__).resolve().parents[2]
SUM = next(s for s in _conform.list_suites() if s["name"] == "sum")
BUILTIN = f"builtin:{SUM['builtins'][0]['name']}"


def conform(*words: str, stdin: str | None = None, **environment: str):
    program = shutil.which("halfulp-conform") or str(
        Path(sys.executable).parent / "halfulp-conform"
    )
    return subprocess.run(
        [program, *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def plug_in(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The kernel that is wrong as the environment asks, compiled as a vendor would."""
    path = tmp_path_factory.mktemp("kernel") / "sum.so"
    source = ROOT / "tests/conformance/sum.c"
    compiler = shutil.which("cc") or "gcc"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", f"-I{ROOT}", str(source), "-o", str(path), "-lm"],
        check=True,
    )
    return str(path)


@pytest.fixture(scope="module")
def fake_device(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a runtime library of CUDA whose device is the host."""
    folder = tmp_path_factory.mktemp("device")
    source = ROOT / "tests/conformance/fake_cudart.c"
    compiler = shutil.which("cc") or "gcc"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", str(source), "-o", str(folder / "libcudart.so")],
        check=True,
    )
    return str(folder)


@pytest.mark.parametrize(
    ("faults", "outcome", "said"),
    [
        ("", "pass", ""),
        ("writes-beyond", "fail", "wrote beyond output y (at element "),
        ("writes-before", "fail", "wrote before output y (at element -1)"),
        ("writes-input", "fail", "wrote to input x (at element 0)"),
        ("missing-tail", "fail", "of the suite's bound"),
        ("unwritten", "fail", "unwritten"),
        ("illegal", "fail", "its kernels ended with a CUDA error: an illegal memory access"),
    ],
)
def test_a_plug_in_for_a_device_gets_its_memory_and_stream(
    plug_in: str, fake_device: str, faults: str, outcome: str, said: str
) -> None:
    done = conform(
        *(
            "run",
            "--suite",
            "sum",
            "--kernel",
            plug_in,
            "--case",
            "sum/1/float32/normal/1",
            "--jsonl",
            "-",
        ),
        HALFULP_TEST_FAULT=f"device,{faults}",
        HALFULP_FAKE_CUDA=faults,
        LD_LIBRARY_PATH=fake_device,
    )
    records = [json.loads(x) for x in done.stdout.splitlines() if x.startswith("{")]
    case = next(r for r in records if r["type"] == "case")
    assert case["outcome"] == outcome
    assert said in case["reason"]
    assert done.returncode == (0 if outcome == "pass" else 1)


def test_list_names_everything_that_can_be_asked_for() -> None:
    shown = conform("list")
    assert shown.returncode == 0
    suites = json.loads(conform("list", "--json").stdout)
    assert {s["name"] for s in suites} == {s["name"] for s in _conform.list_suites()}
    for suite in suites:
        assert f"{suite['name']}, version {suite['version']}\n" in shown.stdout
        assert suite["definition"]
        assert suite["inputs"]
        assert suite["outputs"]
        assert suite["builtins"]
        for variant in suite["variants"]:
            assert 0 < variant["quick"] <= variant["full"]
            assert variant["families"]
            assert f"  variant {variant['name']}: {variant['quick']} cases quick" in shown.stdout


def test_every_suite_s_first_builtin_keeps_its_bound_in_every_variant_s_first_cases() -> None:
    """Through the runner, so that guard pages look at builtins too."""
    for suite in json.loads(conform("list", "--json").stdout):
        for variant in suite["variants"]:
            cases = _conform.cases(suite["name"], variant["name"], "quick")
            for case in cases[:: max(1, len(cases) // 3)]:
                run = conform(
                    "run",
                    "--kernel",
                    f"builtin:{suite['builtins'][0]['name']}",
                    "--case",
                    case,
                    "--json",
                )
                assert run.returncode in (0, 4), run.stdout + run.stderr


def test_records_say_what_the_schema_asks(tmp_path: Path) -> None:
    schema = json.loads((ROOT / "kernels/conformance/schema.json").read_text())["$defs"]
    jsonl = tmp_path / "r.jsonl"
    junit = tmp_path / "r.xml"
    promise = "bound+run-to-run+batch+statistical:mean,1e-9"
    for jobs in ("1", "3"):
        run = conform(
            *["run", "--suite", "sum", "--kernel", BUILTIN, "--promise", promise, "--jobs", jobs],
            *["--jsonl", str(jsonl), "--junit", str(junit), "--json", "--variant", "float32"],
        )
        assert run.returncode == 0, run.stderr
        records = [json.loads(line) for line in jsonl.read_text().splitlines()]
        kinds = [r["type"] for r in records]
        ids = _conform.cases("sum", "float32", "quick")
        assert kinds[0] == "run"
        assert kinds[1 : 1 + len(ids)] == ["case"] * len(ids)
        assert kinds[-1] == "summary"
        assert set(kinds[1 + len(ids) : -1]) == {"check"}
        assert [r["id"] for r in records[1 : 1 + len(ids)]] == ids
        assert json.loads(run.stdout) == records[-1]
        for record in records:
            defined = schema[record["type"]]
            assert set(defined["required"]) == set(record), record["type"]
            assert set(defined["properties"]) == set(record)
        counts = [sum(r["histogram"].values()) for r in records if r["type"] == "case"]
        assert counts == [r["elements"] for r in records if r["type"] == "case"]
        assert sum(counts) == records[-1]["elements"]
        if jobs == "1":
            first = records
        else:
            for a, b in zip(first[1:], records[1:], strict=True):
                assert {**a, "seconds": 0} == {**b, "seconds": 0}
    suite = ET.parse(junit).getroot()
    assert int(suite.get("tests")) == len(records) - 2
    assert suite.get("failures") == "0"
    assert len(suite.findall(".//testcase")) == len(records) - 2


@pytest.mark.parametrize(
    ("fault", "code", "sentence"),
    [
        ("none", 0, "pass"),
        ("crash", 1, "died by signal 11"),
        ("exit", 1, "ended its process with exit(3)"),
        ("writes-input", 1, "wrote to input x (at element 0)"),
        ("reads-beyond", 1, "read beyond input x"),
        ("writes-beyond", 1, "wrote beyond output y"),
        ("unwritten", 1, "unwritten"),
        ("missing-tail", 1, "not as promised"),
        ("swallows-nan", 1, "exact nan"),
        ("negative-zero", 1, "is 0x80000000 (-0), exact 0"),
        ("returns-7", 1, "returned 7, which is no status"),
        ("run-unsupported", 4, "unsupported"),
        ("query-unsupported", 4, "does not support suite sum"),
        ("old-abi", 3, "speaks version 99"),
        ("query-fails", 3, "returned 2"),
        ("bad-promise", 2, 'promise "exactly" is not known'),
        ("own-promise", 1, "promise ulp:0.5"),
        ("prints", 0, "pass"),
    ],
)
def test_what_kernels_do(plug_in: str, fault: str, code: int, sentence: str) -> None:
    run = conform("run", "--suite", "sum", "--kernel", plug_in, HALFULP_TEST_FAULT=fault)
    assert run.returncode == code, run.stdout + run.stderr
    assert sentence in run.stdout + run.stderr
    assert "summary" not in run.stdout  # what a kernel prints goes elsewhere


@pytest.mark.parametrize(("fault", "check"), [("race", "run-to-run"), ("needs-its-batch", "batch")])
def test_invariance_is_checked_where_it_is_promised(plug_in: str, fault: str, check: str) -> None:
    # The errors are within ten bounds.
    words = ["run", "--suite", "sum", "--kernel", plug_in, "--variant", "float32"]
    with_check = conform(*words, "--promise", f"ulp:1e9+{check}", HALFULP_TEST_FAULT=fault)
    assert with_check.returncode == 1
    assert f"check {check}: fail" in with_check.stdout
    right = conform(*words, "--promise", f"bound+{check}")
    assert right.returncode == 0, right.stdout


def test_a_hang_ends_the_case_and_not_the_run(plug_in: str) -> None:
    case = f"sum/{SUM['version']}/float32/spread/0"
    words = ["run", "--kernel", plug_in, "--case", case, "--seconds", "0.2"]
    run = conform(*words, HALFULP_TEST_FAULT="hang")
    assert run.returncode == 1
    assert "ran past 0.2 s" in run.stdout


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["run", "--suite", "nothing", "--kernel", BUILTIN], 2, 'no suite "nothing"; there are'),
        (["run", "--kernel", BUILTIN], 2, "name a suite with --suite"),
        (["run", "--suite", "sum", "--kernel", "builtin:x"], 2, "there are builtin:"),
        (["run", "--suite", "sum", "--kernel", "/none.so"], 3, "there is no kernel at /none.so"),
        (["run", "--suite", "sum", "--kernel", "/etc/hostname"], 3, "cannot be loaded"),
        (["run", "--suite", "sum", "--kernel", BUILTIN, "--level", "fast"], 2, 'no level "fast"'),
        (["run", "--suite", "sum", "--kernel", BUILTIN, "--variant", "f8"], 2, 'no variant "f8"'),
        (["run", "--suite", "sum", "--kernel", BUILTIN, "--promise", "good"], 2, '"good"'),
        (["run", "--suite", "sum", "--kernel", BUILTIN, "--case", "sum/0"], 2, "2 parts, not 5"),
        (["run", "--suite", "sum", "--kernel", BUILTIN, "--waivers", "/no"], 5, "cannot read /no"),
        (["run", "--suite", "sum", "--kernel", BUILTIN, "--jsonl", "/no/x"], 5, "cannot write"),
        (["run", "--suite", "sum", "--kernel", BUILTIN, "--alignment", "3"], 2, "a power of two"),
        (["run", "--suite", "sum"], 2, "--kernel"),
        (["frobnicate"], 2, ""),
        (["judge"], 2, "no results on the standard input"),
    ],
)
def test_bad_arguments_get_one_sentence(words: list[str], code: int, sentence: str) -> None:
    run = conform(*words, stdin="")
    assert run.returncode == code, run.stdout + run.stderr
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr


def test_waivers(plug_in: str, tmp_path: Path) -> None:
    waivers = tmp_path / "w"
    waivers.write_text("# known\nsum/*/special-values/* NaN is documented\nsum/0/* old\n")
    words = ["run", "--suite", "sum", "--kernel", plug_in, "--variant", "float32"]
    run = conform(*words, "--waivers", str(waivers), HALFULP_TEST_FAULT="swallows-nan")
    assert run.returncode == 0, run.stdout
    assert "waived" in run.stdout
    assert "the waiver sum/0/* matched no failure" in run.stdout
    waivers.write_text("sum/*\n")
    assert conform(*words, "--waivers", str(waivers)).returncode == 2


def test_a_shrunk_case_replays(plug_in: str) -> None:
    fault = {"HALFULP_TEST_FAULT": "missing-tail"}
    words = ["run", "--suite", "sum", "--kernel", plug_in, "--variant", "float32"]
    records = map(json.loads, conform(*words, "--jsonl", "-", **fault).stdout.splitlines())
    failures = [r["id"] for r in records if r["type"] == "case" and r["outcome"] == "fail"]
    case = next(name for name in failures if "/spread/" in name)
    small = conform("shrink", "--kernel", plug_in, "--case", case, **fault)
    assert small.returncode == 1
    name = re.search(r"--case '([^']*)'", small.stdout).group(1)
    assert name.startswith(f"{case}[")
    assert "x[0, 0] 0x" in small.stdout
    replay = conform("run", "--kernel", plug_in, "--case", name, **fault)
    assert replay.returncode == 1
    assert f"FAIL {name}" in replay.stdout
    fine = conform("shrink", "--kernel", plug_in, "--case", case)
    assert (fine.returncode, fine.stdout) == (0, f"case {case} does not fail\n")


def test_the_protocol_s_example_as_it_stands_in_the_page() -> None:
    page = (ROOT / "docs/conformance-protocol.md").read_text()
    program = re.search(r"```python\n(.*?)```", page, re.S).group(1)
    for promise in ("bound", "bound+run-to-run+batch"):
        cases = conform("gen", "--suite", "sum", "--variant", "float32", "--promise", promise)
        assert cases.returncode == 0
        results = subprocess.run(
            [sys.executable, "-c", program],
            input=cases.stdout,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        kept = conform("judge", "--promise", promise, "--json", stdin=results)
        assert kept.returncode == 0, kept.stderr
        counts = json.loads(kept.stdout)
        assert counts["pass"] + counts["not_evidenced"] == len(
            _conform.cases("sum", "float32", "quick")
        )
        assert counts["not_evidenced"] <= 1  # where every sum overflows nothing is asked
    # A wrong bit, a case that is missing, and codes that are too few.
    lines = results.splitlines()
    at = next(i for i, line in enumerate(lines) if "/spread/" in line) + 2
    digits = lines[at].split()
    wrong = [*lines]
    wrong[at] = " ".join([f"{int(digits[0], 16) ^ 0x40000000:08x}", *digits[1:]])
    assert conform("judge", stdin="\n".join(wrong)).returncode == 1
    missing = results.split("case ")
    assert "no result came" in conform("judge", stdin="case ".join(missing[:-1])).stdout
    few = [*lines]
    few[at] = ""
    refused = conform("judge", stdin="\n".join(few))
    assert refused.returncode == 2
    assert f"line {at + 1} of the results has 0 codes" in refused.stderr


def test_the_header_is_installed_and_the_example_compiles(tmp_path: Path) -> None:
    folder = Path(conform("header").stdout.strip())
    header = (folder / "halfulp_kernel.h").read_text()
    assert header == (ROOT / "kernels/conformance/halfulp_kernel.h").read_text()
    assert (folder / "schema.json").exists()
    compiler = shutil.which("cc") or "gcc"
    out = str(tmp_path / "softmax.so")
    flags = ["-shared", "-fPIC", "-O2", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    source = str(folder / "example/softmax.c")
    subprocess.run([compiler, *flags, f"-I{folder}", source, "-o", out, "-lm"], check=True)
    unsupported = conform("run", "--suite", "sum", "--kernel", out)
    assert unsupported.returncode == 4
    assert "does not support suite sum" in unsupported.stderr
    if any(s["name"] == "softmax" for s in _conform.list_suites()):
        run = conform("run", "--suite", "softmax", "--kernel", out)
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stdout.count("\nfloat32 ") > 3
        assert run.stdout.count("\nfloat16") == run.stdout.count("\nfloat16, unsupported ") == 1


def test_the_python_module_judges_as_the_program_does() -> None:
    ids = _conform.cases("sum", "float32", "quick")
    name = BUILTIN.removeprefix("builtin:")
    promise = "bound+run-to-run+batch"
    run = _conform.Run("sum", promise=promise, kernel={"name": BUILTIN, "path": BUILTIN})
    records = []
    for case in ids:
        records.append(json.loads(run.judge(case, _conform.builtin_outputs(case, name))))
        for check, further in run.calls(case):
            run.compare(check, case, further, _conform.builtin_outputs(further, name))
    records += [json.loads(r) for r in run.finish()]
    assert run.outcome == "pass"
    words = ["run", "--suite", "sum", "--kernel", BUILTIN, "--variant", "float32"]
    lines = conform(*words, "--promise", promise, "--jsonl", "-").stdout.splitlines()
    for mine, line in zip(records, lines[1:], strict=True):
        assert {**mine, "seconds": 0} == {**json.loads(line), "seconds": 0}
    with pytest.raises(ValueError, match="output y of case is missing"):
        run.judge(ids[0], {})
    with pytest.raises(ValueError, match="has 1 bytes, but must have"):
        run.judge(ids[0], {"y": b"a"})
