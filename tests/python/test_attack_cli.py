"""Attacks on the command line's new commands: each bad input is one sentence and its exit code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from halfulp.cli import main

UNIT = "hopper.wgmma.e4m3.f32"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.ones((2, 32), np.float32))
    np.save("b.npy", np.ones((32, 3), np.float32))
    np.save("big.npy", np.ones((2, 32), ">f4"))
    np.save("one.npy", np.ones(4, np.float32))
    np.save("objects.npy", np.array([[None]], object), allow_pickle=True)
    np.savez("several.npz", a=np.ones((2, 32), np.float32))
    Path("empty.npy").write_bytes(b"")
    Path("other.npy").write_bytes(b"hello")
    Path("short.npy").write_bytes(Path("a.npy").read_bytes()[:-20])
    Path("bytes.toml").write_bytes(b"\xff\xfe")
    Path("broken.toml").write_text("k=")
    Path("field.toml").write_text("zzz = 1")
    Path("x86.toml").write_text('base = "x86.amx.bf16.f32"')
    Path("targets.toml").write_text("target = 3")
    Path("target.toml").write_text('[[target]]\nratio = "x"')
    return tmp_path


def sentence(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert main(arguments) == code, capsys.readouterr()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("halfulp: ")
    assert err.count("\n") == 1
    assert "Errno" not in err
    return err


@pytest.mark.parametrize(
    ("name", "code"),
    [(n, 2) for n in ("empty.npy", "other.npy", "short.npy", "objects.npy", "several.npz")]
    + [("/dev/null", 2), ("missing.npy", 3), (".", 3)],
)
def test_a_file_that_holds_no_matrix_is_named(
    files: Path, capsys: pytest.CaptureFixture[str], name: str, code: int
) -> None:
    for given in ([name, "b.npy"], ["a.npy", "b.npy", name]):
        err = sentence(capsys, code, "matmul", *given, "--model", UNIT, "--out", "d.npy")
        assert name in err
    assert not Path("d.npy").exists()


@pytest.mark.parametrize("name", ["bytes.toml", "broken.toml"])
def test_a_model_file_that_is_no_toml_is_named(
    files: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    err = sentence(capsys, 2, "matmul", "a.npy", "b.npy", "--model", name, "--out", "d.npy")
    assert f"{name} is no TOML" in err


@pytest.mark.parametrize("model", ["nope", "hopper", "", ".", "field.toml", "x86.toml"])
def test_a_model_that_is_none_is_one_sentence(
    files: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    sentence(capsys, 2, "matmul", "a.npy", "b.npy", "--model", model, "--out", "d.npy")


def test_the_product_lies_in_the_file_that_was_named(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("d.npy", "no_suffix"):
        assert main(["matmul", "a.npy", "b.npy", "--model", UNIT, "--out", name]) == 0
        assert np.array_equal(np.load(name), np.full((2, 3), 32.0, np.float32))
    assert main(["matmul", "big.npy", "b.npy", "--model", UNIT, "--out", "d.npy"]) == 0
    assert np.load("d.npy")[0, 0] == 32.0
    capsys.readouterr()
    for name in (".", "", "nowhere/d.npy"):
        sentence(capsys, 3, "matmul", "a.npy", "b.npy", "--model", UNIT, "--out", name)


@pytest.mark.parametrize(
    "unit", [UNIT, "x86.amx.bf16.f32", "hopper.wgmma.s8.s32", "x86.amx.s8.s32"]
)
def test_an_evidence_that_is_no_word_of_it_is_refused_for_every_unit(
    files: Path, capsys: pytest.CaptureFixture[str], unit: str
) -> None:
    given = ["a.npy", "b.npy", "--model", unit, "--out", "d.npy", "--evidence", "hearsay"]
    assert "hardware, published, any" in sentence(capsys, 2, "matmul", *given)


@pytest.mark.parametrize(
    "options",
    [
        ["--only", "nope"],
        ["--only", "products,,"],
        ["--only", ""],
        ["--rounds", "0"],
        ["--rounds", "x"],
        ["--log2-elements", "99"],
        ["--log2-elements", "-3"],
        ["--threads", ""],
        ["--threads", "0"],
        ["--threads", "1,x"],
        ["--threads", "99999"],
        ["--targets", "bytes.toml"],
        ["--targets", "broken.toml"],
        ["--targets", "field.toml"],
        ["--targets", "targets.toml"],
        ["--targets", "target.toml"],
    ],
)
def test_odd_options_of_bench_are_bad_arguments(
    files: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    err = sentence(capsys, 2, "bench", *options)
    assert options[0].removeprefix("--") in err or options[1] in err
