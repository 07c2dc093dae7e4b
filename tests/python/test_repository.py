"""Rules of the repository: layers, versions, stubs, and what the README shows."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import halfulp
from halfulp import cli

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ["emu", "kernels", "studies", "bindings"]


def wrong_way_includes(folder: str, text: str) -> list[str]:
    """Includes of a later layer in a file of `folder`; imports run emu <- kernels <- studies <- bindings."""
    later = LAYERS[LAYERS.index(folder) + 1 :]
    if not later:
        return []
    return re.findall(rf'#\s*include\s*[<"](?:halfulp/)?((?:{"|".join(later)})/[^>"]*)', text)


def test_includes_run_one_way() -> None:
    seen = 0
    for folder in LAYERS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".hpp", ".cpp", ".cu", ".cuh", ".h"}:
                seen += 1
                assert not wrong_way_includes(folder, path.read_text()), path
    assert seen > 15


def test_the_include_check_can_fail() -> None:
    assert wrong_way_includes("emu", '#include "kernels/matmul.hpp"') == ["kernels/matmul.hpp"]
    assert wrong_way_includes("kernels", "# include <studies/mlp.hpp>") == ["studies/mlp.hpp"]
    assert wrong_way_includes("kernels", '#include "emu/names.hpp"') == []


def test_cmake_targets_link_one_way() -> None:
    for i, folder in enumerate(LAYERS):
        text = (ROOT / folder / "CMakeLists.txt").read_text()
        linked = " ".join(re.findall(r"target_link_libraries\(([^)]*)\)", text))
        assert not [later for later in LAYERS[i + 1 :] if f"halfulp_{later}" in linked], folder


def test_the_core_has_no_io_and_the_oracle_knows_nothing_of_it() -> None:
    for path in (ROOT / "emu/core").glob("*.hpp"):
        assert not re.search(
            r"#include <(iostream|cstdio|fstream|string|vector)>", path.read_text()
        ), path
    for path in (ROOT / "tests/oracle").iterdir():
        assert not re.search(r'#include\s*[<"](emu|kernels)/', path.read_text()), path


def test_studies_do_not_import_the_faces() -> None:
    for path in (ROOT / "studies/python").glob("*.py"):
        assert not re.search(
            r"^\s*(from halfulp|import halfulp)(?!\.studies)", path.read_text(), re.M
        ), path


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    cmake = re.search(r"project\(halfulp VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())
    citation = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert cmake is not None
    assert citation is not None
    assert {project, cmake.group(1), citation.group(1), halfulp.__version__} == {project}


def declared(stub: str) -> dict[str, list[str]]:
    """What a stub declares: names of classes, members and functions, with their parameters."""
    found = {}
    for node in ast.parse(stub).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for member in members:
            if isinstance(member, ast.FunctionDef):
                arguments = member.args.args + member.args.kwonlyargs
                found[prefix + member.name] = [a.arg for a in arguments]
    return found


@pytest.mark.parametrize(("module", "least"), [("_core", 25), ("_conform", 10)])
def test_the_stub_is_that_of_the_module(module: str, least: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pybind11_stubgen", f"halfulp.{module}", "-o", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    made = declared((tmp_path / f"halfulp/{module}.pyi").read_text())
    kept = declared((ROOT / f"bindings/python/halfulp/{module}.pyi").read_text())
    assert made == kept, (
        f"regenerate it: .venv/bin/python -m pybind11_stubgen halfulp.{module} -o bindings/python"
    )
    assert len(kept) > least


def readme_examples() -> list[tuple[str, str]]:
    """Pairs (command or Python program, shown output) of the README's code blocks."""
    text = (ROOT / "README.md").read_text()
    examples = []
    for block in re.findall(r"```console\n(.*?)```", text, re.S):
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
            examples.append((command, output))
    return examples


def test_the_readme_has_its_examples() -> None:
    commands = [command for command, _ in readme_examples()]
    rounding = (
        "halfulp round --format float8_e4m3fn --rounding nearest-even 0.3 448 464 1e9 nan -- -0.0"
    )
    assert {rounding, "halfulp formats"} <= set(commands)


@pytest.mark.parametrize(("command", "shown"), readme_examples())
def test_the_readme_shows_what_its_commands_print(command: str, shown: str) -> None:
    words = shlex.split(command)
    assert words[0] == "halfulp"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert cli.main(words[1:]) == 0
    assert printed.getvalue() == shown


def test_the_readme_s_python_example() -> None:
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```pycon\n(.*?)```", text, re.S)
    assert blocks
    import doctest

    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "README", "README.md", 0)
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.failed == 0
    assert result.attempted >= 5


def test_the_readme_lists_every_named_format() -> None:
    text = (ROOT / "README.md").read_text()
    missing = [name for name in halfulp.formats() if name not in text]
    assert not missing


def test_the_shipped_data_is_what_notice_says() -> None:
    import hashlib

    for data in ("digits/digits.csv", "fashion/fashion.gz", "kjv/kjv.txt.gz"):
        path = ROOT / "data" / data
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest in (ROOT / "NOTICE").read_text(), data
        assert digest in (path.parent / "README.md").read_text(), data


def test_relative_links_of_the_pages_resolve() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_verification_page_has_its_tallies() -> None:
    text = (ROOT / "docs/verification.md").read_text()
    for name, least in (("quick", 10**7), ("full", 10**9)):
        section = text.split(f"<!-- begin verify {name} -->")[1].split("<!-- end")[0]
        counts = re.search(r"([0-9,]+) cases compared, ([0-9,]+) mismatches", section)
        assert counts is not None, name
        assert int(counts[1].replace(",", "")) >= least
        assert counts[2] == "0"
    mutants = text.split("<!-- begin mutants -->")[1].split("<!-- end")[0]
    caught, of = re.search(r"(\d+) of (\d+) mutants caught", mutants).groups()
    assert caught == of
    assert int(of) >= 10


def test_the_coverage_page_is_what_its_command_prints() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "tests/coverage/page.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "docs/coverage.md is current\n"), run.stderr


def test_the_coverage_page_has_no_row_by_hand() -> None:
    """Every named thing of the package stands there, and what the page calls absent is asked for."""
    text = (ROOT / "docs/coverage.md").read_text()
    rows = re.findall(r"^\| ([^|]+?) \|", text, re.M)
    names = [*halfulp.formats(), *halfulp.block_formats(), *halfulp.functions.names()]
    assert not [n for n in names if n not in rows]
    assert "*absent*" in text


def test_every_mutant_matches_one_place() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("mutants", ROOT / "tests/mutants/run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    module.check_patterns()
    assert len(module.MUTANTS) >= 10


def test_the_shares_of_the_tests_are_equal_and_complete() -> None:
    import json

    import share

    files = sorted(path.name for path in (ROOT / "tests/python").glob("test_*.py"))
    seconds = json.loads(share.SECONDS.read_text())
    assert set(seconds) <= set(files), "a file is gone; record anew as tests/python/share.py says"
    for n in (1, 2, 3, len(files) + 1):
        found = share.shares(files, seconds, n)
        assert len(found) == n
        assert sorted(file for one in found for file in one) == files
    two = [sum(seconds.get(file, 0) for file in one) for one in share.shares(files, seconds, 2)]
    assert max(two) <= 1.05 * min(two)
    run = subprocess.run(
        [sys.executable, share.__file__, "2"], capture_output=True, text=True, check=True
    )
    named = [line.split() for line in run.stdout.splitlines()]
    assert sorted(name for line in named for name in line) == [f"tests/python/{f}" for f in files]


def test_seconds_are_read_from_what_pytest_prints() -> None:
    import share

    lines = [
        "= slowest durations =",
        "1.50s call     tests/python/test_a.py::test_x[call-setup]",
        "0.50s setup    tests/python/test_a.py::test_x",
        "2.25s call     tests/python/test_b.py::test_y",
        "0.01s teardown tests/python/test_b.py::test_y",
        "tests/python/test_c.py::test_z PASSED [ 10%]",
    ]
    assert share.recorded(lines) == {"test_a.py": 2.0, "test_b.py": 2.3}
