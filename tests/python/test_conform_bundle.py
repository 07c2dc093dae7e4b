"""Submission bundles: what is written is sound, what was changed afterwards is found and named."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import conform_kernels as kernels
import pytest

import halfulp as hu
from halfulp import _conform_records as recs
from halfulp import cli
from halfulp._conform_bundle import check_bundle
from halfulp._conform_page import page

Records = list[dict[str, Any]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a kernel that fails in some cases."""
    path = tmp_path_factory.mktemp("bundle") / "b.zip"
    hu.conform(kernels.no_maximum, "softmax", "bound+run-to-run", progress=False).bundle(path)
    return path


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, data: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in data.items():
            archive.writestr(name, content)
    return path


def forged(path: Path, data: dict[str, bytes], change: Callable[[Records], None]) -> Path:
    """What a careful forger would do: the page, the JUnit file and all hashes anew."""
    records = recs.parse(data["records.jsonl"].decode(), "records")
    change(records)
    new = dict(data)
    new["records.jsonl"] = recs.lines(records).encode()
    new["junit.xml"] = recs.junit(records).encode()
    new["report.html"] = page(records).encode()
    run = records[0]
    about = {"kernel": run["kernel"], "environment": run["environment"], "started": run["started"]}
    new["environment.json"] = json.dumps(about).encode()
    manifest = json.loads(data["manifest.json"])
    manifest["kernel"] = {**run["kernel"], "sha256": manifest["kernel"]["sha256"]}
    manifest |= {key: run[key] for key in ("suite", "suite_version")}
    manifest["files"] = {n: hashlib.sha256(new[n]).hexdigest() for n in manifest["files"]}
    new["manifest.json"] = json.dumps(manifest).encode()
    return packed(path, new)


def first_failed(records: Records) -> dict[str, Any]:
    return next(r for r in records if r["type"] == "case" and r["outcome"] == "fail")


def recounted(records: Records) -> None:
    records[-1] |= recs.tally(records[:-1])


def test_a_bundle_is_sound(bundle: Path) -> None:
    found = check_bundle(bundle, kernel=kernels.__file__)
    assert found.findings == []
    assert found.sound
    assert found.recomputed >= 40
    assert found.summary["outcome"] == "fail"
    assert found.lines()[-1] == "the bundle is sound"
    assert any("variants without records: float16, bfloat16" in n for n in found.notes)
    manifest = json.loads(members(bundle)["manifest.json"])
    assert (
        manifest["kernel"]["sha256"]
        == hashlib.sha256(Path(kernels.__file__).read_bytes()).hexdigest()
    )
    assert set(members(bundle)) == {*manifest["files"], "manifest.json"}


def test_bundles_of_builtins_and_good_kernels_are_sound(tmp_path: Path) -> None:
    (name, *_) = hu.suite("sum").builtins
    for report in (
        hu.conform(f"builtin:{name}", "sum", "bound", progress=False),
        hu.conform(kernels.softmax, "softmax", "bound+batch", variant="all", progress=False),
    ):
        report.bundle(tmp_path / "b.zip")
        found = check_bundle(tmp_path / "b.zip", sample=500)
        assert found.findings == []
        assert found.summary["outcome"] == "pass"


def test_the_same_records_give_the_same_bundle(bundle: Path, tmp_path: Path) -> None:
    records = recs.parse(members(bundle)["records.jsonl"].decode(), "records")
    hu.Report(records).bundle(tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_a_forger_who_changes_nothing_is_not_blamed(bundle: Path, tmp_path: Path) -> None:
    path = forged(tmp_path / "f.zip", members(bundle), lambda records: None)
    assert check_bundle(path).findings == []


# ---------------------------------------------------------------- changed files
@pytest.mark.parametrize("name", ["records.jsonl", "junit.xml", "report.html", "environment.json"])
def test_a_changed_file_is_named(bundle: Path, tmp_path: Path, name: str) -> None:
    data = members(bundle)
    data[name] = data[name].replace(b"kernel", b"colonel", 1)
    found = check_bundle(packed(tmp_path / "f.zip", data))
    assert f"{name} was changed: its SHA-256 is not that of the manifest" in found.findings
    assert not found.sound


@pytest.mark.parametrize("name", ["records.jsonl", "manifest.json"])
def test_a_missing_or_added_file_is_named(bundle: Path, tmp_path: Path, name: str) -> None:
    data = members(bundle)
    del data[name]
    data["more.txt"] = b""
    found = check_bundle(packed(tmp_path / "f.zip", data))
    assert found.findings == [f"{name} is missing", "more.txt is no part of a bundle"]


@pytest.mark.parametrize("manifest", [b"", b"[]", b'{"bundle": 2}', b'{"bundle": 1, "files": {}}'])
def test_a_manifest_that_is_none_is_named(bundle: Path, tmp_path: Path, manifest: bytes) -> None:
    data = {**members(bundle), "manifest.json": manifest}
    assert (
        "manifest.json is none of format 1"
        in check_bundle(packed(tmp_path / "f.zip", data)).findings
    )


def test_another_kernel_is_named(bundle: Path) -> None:
    (finding,) = check_bundle(bundle, kernel=__file__).findings
    assert finding.endswith("is not the kernel of this bundle: their SHA-256 differ")


def test_a_page_of_other_records_is_named(bundle: Path, tmp_path: Path) -> None:
    data = members(bundle)
    data["report.html"] = data["report.html"].replace(b">Fail<", b">Pass<")
    manifest = json.loads(data["manifest.json"])
    manifest["files"]["report.html"] = hashlib.sha256(data["report.html"]).hexdigest()
    data["manifest.json"] = json.dumps(manifest).encode()
    found = check_bundle(packed(tmp_path / "f.zip", data))
    assert found.findings == ["report.html is not what these records give"]


def test_no_zip_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f.zip").write_bytes(b"PK no")
    with pytest.raises(ValueError, match=r"f\.zip is no bundle"):
        check_bundle(tmp_path / "f.zip")


# ---------------------------------------------------------------- forged records, hashes anew
def passes_now(records: Records) -> None:
    case = first_failed(records)
    case["outcome"], case["reason"] = "pass", ""
    recounted(records)


def better_numbers(records: Records) -> None:
    case = first_failed(records)
    case |= {"outcome": "pass", "reason": "", "max_ratio": 0.5, "max_ulp": 1.0}
    case["histogram"] = {"1": case["elements"]}
    case["worst"] |= {"ratio": 0.5, "ulp": 1.0}
    recounted(records)


def better_bits(records: Records) -> None:
    """Every failing result is said to have been the expected one, but with its error kept small."""
    for case in records:
        if case["type"] == "case" and case["outcome"] == "fail":
            case |= {"outcome": "pass", "reason": "", "max_ratio": 0.5, "max_ulp": 1.0}
            case["histogram"] = {"1": case["elements"]}
            case["worst"] |= {
                "got": "0x3f000000",
                "expected": "0x3f000000",
                "ratio": 0.5,
                "ulp": 1.0,
            }
    recounted(records)


def failures_left_out(records: Records) -> None:
    records[:] = [r for r in records if r.get("outcome") != "fail" or r["type"] == "summary"]
    recounted(records)


def summary_alone(records: Records) -> None:
    records[-1] |= {"outcome": "pass", "fail": 0}


def one_twice(records: Records) -> None:
    records.insert(1, dict(records[1]))
    recounted(records)


def another_level(records: Records) -> None:
    records[0]["level"] = "full"


def another_shape(records: Records) -> None:
    for case in records:
        if case["type"] == "case":
            case["shapes"]["x"][0] += 1


def another_family(records: Records) -> None:
    first_failed(records)["family"] = "tiny"


def no_histogram(records: Records) -> None:
    case = first_failed(records)
    case |= {"outcome": "pass", "reason": "", "max_ratio": 0.0, "max_ulp": 0.0, "histogram": {}}
    recounted(records)


def one_result_moved(records: Records) -> None:
    case = next(r for r in records if r["type"] == "case" and len(r["histogram"]) > 2)
    edge = list(case["histogram"])[-1]
    case["histogram"].pop(edge)
    recounted(records)


def invented_case(records: Records) -> None:
    case = {**records[1], "id": records[1]["id"].rpartition("/")[0] + "/99999"}
    records.insert(1, case)
    recounted(records)


def check_is_kept(records: Records) -> None:
    records[-1]["max_ulp"] = 0.25


FORGERIES = [
    (passes_now, "passes with an error of inf times the bound"),
    (better_numbers, "case softmax/"),
    (better_bits, "must be 0x"),
    (failures_left_out, "are missing, the first softmax/"),
    (summary_alone, "the summary says outcome = pass, but its records give fail"),
    (one_twice, "is there twice"),
    (another_level, "cases of float32 at level full are missing"),
    (another_shape, "but its record says"),
    (another_family, "is said to be of float32, tiny"),
    (no_histogram, "passes, but its errors are nowhere"),
    (one_result_moved, "in its histogram"),
    (invented_case, "is none of level quick"),
    (check_is_kept, "the summary says max_ulp = 0.25"),
]


@pytest.mark.parametrize(
    ("change", "sentence"), FORGERIES, ids=lambda x: getattr(x, "__name__", "")
)
def test_a_forged_record_is_found(bundle: Path, tmp_path: Path, change: Any, sentence: str) -> None:
    found = check_bundle(forged(tmp_path / "f.zip", members(bundle), change), sample=1000)
    assert any(sentence in f for f in found.findings), found.findings
    assert found.lines()[-1] == "the bundle is NOT sound"
    assert len(found.findings) < 30


def test_a_suite_of_another_version_is_a_note(bundle: Path, tmp_path: Path) -> None:
    def other(records: Records) -> None:
        records[0]["suite_version"] += 1

    found = check_bundle(forged(tmp_path / "f.zip", members(bundle), other))
    assert found.recomputed == 0
    assert any("no case was made again" in n for n in found.notes)


# ---------------------------------------------------------------- the command line
def test_the_command_examines_a_bundle(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["conform", "--check", str(bundle), "--kernel", kernels.__file__]) == 0
    assert capsys.readouterr().out.endswith("the bundle is sound\n")
    path = forged(tmp_path / "f.zip", members(bundle), passes_now)
    assert cli.main(["conform", "--check", str(path), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["sound"] is False
    assert any("times the bound" in f for f in document["findings"])
    shutil.copy(__file__, tmp_path / "other.so")
    assert (
        cli.main(["conform", "--check", str(bundle), "--kernel", str(tmp_path / "other.so")]) == 1
    )
