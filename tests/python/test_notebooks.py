"""The notebooks run to their end, make labelled figures, and use only what the package offers."""

from __future__ import annotations

import ast
import os
import re
import runpy
import sys
import tempfile
import time
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
PACKAGES = {"halfulp", "numpy", "matplotlib"}
SECONDS = 60  # for one notebook, far above what it takes


def cells(text: str) -> list[tuple[str, str]]:
    """The (kind, source) of the cells of a notebook in jupytext's percent format, header left out."""
    parts = re.split(r"^# %%(.*)\n", text, flags=re.M)
    return [
        ("markdown" if "[markdown]" in kind else "code", source)
        for kind, source in zip(parts[1::2], parts[2::2], strict=True)
    ]


def forbidden(text: str) -> list[str]:
    """What a notebook may not use: other packages, private names, paths into the repository."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if not is_allowed(alias.name)]
        elif isinstance(node, ast.ImportFrom):
            private = [alias.name for alias in node.names if alias.name.startswith("_")]
            found += private if is_allowed(node.module or ".") else [node.module or "."]
        elif isinstance(node, ast.Attribute):
            if node.attr.startswith("_") or ast.unparse(node) == "sys.path":
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Name) and node.id == "__file__":
            found.append(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            folders = "emu|kernels|studies|bindings|notebooks|data|tests|docs"
            if re.search(rf"(^|/)({folders})/|\.\./|^/", node.value):
                found.append(node.value)
    return found


def is_allowed(module: str) -> bool:
    """halfulp itself but no module within it, NumPy, matplotlib, the standard library."""
    top, _, within = module.partition(".")
    return (top in PACKAGES or top in sys.stdlib_module_names) and not (top == "halfulp" and within)


def unlabelled(figure: Figure) -> list[str]:
    """What a figure lacks: something drawn, a label for x, one for y."""
    axes = figure.axes
    x = figure.get_supxlabel() or any(a.get_xlabel() for a in axes)
    y = figure.get_supylabel() or any(a.get_ylabel() for a in axes)
    drawn = bool(axes) and all(a.has_data() for a in axes)
    wanted = {"data": drawn, "a label for x": x, "a label for y": y}
    return [what for what, there in wanted.items() if not there]


def test_the_notebooks_are_found() -> None:
    found = {path.stem for path in NOTEBOOKS}
    assert {
        "01_formats",
        "02_first_study",
        "03_refinement",
        "04_matrix_units",
        "05_conformance",
        "06_information",
        "07_sharpness",
    } <= found


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_text_with_prose_and_uses_only_the_package(notebook: Path) -> None:
    text = notebook.read_text(encoding="utf-8")
    assert text.startswith("# ---\n# jupyter:\n")
    kinds = [kind for kind, _ in cells(text)]
    assert kinds[0] == "markdown"
    assert kinds.count("code") >= 5
    assert kinds.count("markdown") >= kinds.count("code") - 1, "prose before every cell of code"
    for kind, source in cells(text):
        if kind == "markdown":
            assert all(line.startswith("#") for line in source.splitlines() if line), source
    assert not forbidden(text)


@pytest.mark.parametrize(
    "line",
    [
        "import torch",
        "import halfulp._core",
        "from halfulp import _core",
        "from halfulp.studies import sweep",
        "from . import helpers",
        "hu._core.apply()",
        "sys.path.append('x')",
        "here = __file__",
        "spec = 'studies/quickstart.toml'",
        "data = '../data/digits/digits.csv'",
        "out = '/tmp/out'",
    ],
)
def test_the_check_of_what_is_used_can_fail(line: str) -> None:
    assert forbidden(line)
    assert not forbidden("import halfulp as hu\nfrom pathlib import Path\nx = 'loss / nats'")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_makes_its_figures(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []

    def show() -> None:
        figures = [plt.figure(number) for number in plt.get_fignums()]
        for figure in figures:
            assert not unlabelled(figure), f"figure {len(shown) + 1} of {notebook.name}"
            file = tmp_path / f"{len(shown)}.png"
            figure.savefig(file)
            assert file.stat().st_size > 5000
        shown.append(len(figures))
        plt.close("all")

    monkeypatch.chdir(tmp_path)  # it may not lean on the folder that it is run in
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path))
    monkeypatch.setattr(plt, "show", show)
    plt.close("all")  # what others left open
    before = plt.get_backend()
    plt.switch_backend("Agg")
    started = time.monotonic()
    try:
        with matplotlib.rc_context():
            names = runpy.run_path(os.fspath(notebook))
            assert not plt.get_fignums(), "a figure without plt.show()"
    finally:
        plt.close("all")
        plt.switch_backend(before)
    assert shown == [1] * notebook.read_text(encoding="utf-8").count("plt.show()")
    assert shown
    assert time.monotonic() - started < SECONDS
    if notebook.stem == "02_first_study":
        assert all(check.passed for check in names["study"].check_controls())
        assert (names["folder"] / "overview.png").is_file()
        assert names["folder"].is_relative_to(tmp_path)
