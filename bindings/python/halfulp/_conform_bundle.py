"""Submission bundles: the evidence of a conformance run in one ZIP file, and the checker of such a
file.

A bundle holds records.jsonl, junit.xml, report.html, environment.json and manifest.json, which has
the SHA-256 of each and of the kernel's file. Nothing is signed: the checker finds what does not fit
together and what the suite itself contradicts; that a kernel gives such results only a new run
shows.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import random
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from halfulp import _conform as engine
from halfulp import _conform_records as recs
from halfulp._conform_call import code_dtype, numpy_dtype
from halfulp._conform_page import page
from halfulp._conform_records import Record, number
from halfulp._core import __version__
from halfulp._suites import as_array, expected, suites

FORMAT = 1
FILES = ("records.jsonl", "junit.xml", "report.html", "environment.json")
_MANIFEST = "manifest.json"
_LARGEST = 1 << 30  # bytes of a member, unpacked
_SHOWN = 5  # findings of one kind
_SAMPLE = 40
_OVERFLOW = {"float32": 2.0**128, "bfloat16": 2.0**128, "float16": 2.0**16}
_DATE = (1980, 1, 1, 0, 0, 0)  # the same bundle from the same records


def write_bundle(path: recs.Path_, records: Sequence[Record]) -> None:
    """Writes the bundle of a run."""
    run = recs.of_type(records, "run")[0]
    about = {"kernel": run["kernel"], "environment": run["environment"], "started": run["started"]}
    contents = {
        "records.jsonl": recs.lines(records),
        "junit.xml": recs.junit(records),
        "report.html": page(records),
        "environment.json": json.dumps(about, indent=1, ensure_ascii=False) + "\n",
    }
    data = {name: text.encode() for name, text in contents.items()}
    manifest = {
        "bundle": FORMAT,
        "halfulp": __version__,
        "suite": run["suite"],
        "suite_version": run["suite_version"],
        "kernel": {**run["kernel"], "sha256": file_hash(run["kernel"].get("path") or "")},
        "files": {name: hashlib.sha256(b).hexdigest() for name, b in data.items()},
    }
    data[_MANIFEST] = (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in data.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content, zipfile.ZIP_DEFLATED)
    Path(path).write_bytes(out.getvalue())


def file_hash(path: str) -> str | None:
    """The SHA-256 of a kernel's file; None where it is in none (builtins, functions typed in)."""
    if not path or not Path(path).is_file():
        return None
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@dataclass
class Examined:
    """What the checker found: `findings` that refute the bundle, `notes` on what it cannot show."""

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    summary: Record | None = None
    recomputed: int = 0

    @property
    def sound(self) -> bool:
        return not self.findings

    def lines(self) -> list[str]:
        out = [f"finding: {f}" for f in self.findings] + [f"note: {n}" for n in self.notes]
        if self.summary is not None:
            s = self.summary
            out.append(
                f"the records say: {s['outcome']}, {s['pass']} of {s['cases']} cases pass, "
                f"{s['fail']} fail; {self.recomputed} cases made again"
            )
        out.append("the bundle is sound" if self.sound else "the bundle is NOT sound")
        return out


def check_bundle(
    path: recs.Path_, *, kernel: recs.Path_ | None = None, sample: int = _SAMPLE
) -> Examined:
    """Examines a bundle; `sample` cases are made again, besides all that failed (at most as many).

    kernel: the file that the bundle is said to be of; its hash is compared. Raises ValueError for a
    file that is no bundle at all.
    """
    found = Examined()
    data = _unpacked(path, found)
    if found.findings:
        return found
    _check_hashes(data, kernel, found)
    try:
        records = recs.parse(data["records.jsonl"].decode(), "records.jsonl")
    except ValueError as error:  # undecodable text too
        found.findings.append(str(error))
        return found
    found.summary = recs.of_type(records, "summary")[0]
    _check_manifest(json.loads(data[_MANIFEST]), records, data, found)
    _check_counts(records, found)
    promise = records[0]["promise"]
    cases = recs.of_type(records, "case")
    _limited(found, [s for case in cases for s in _contradictions(case, promise)])
    _check_against_suite(records, found, sample)
    _check_documents(data, records, found)
    return found


def _unpacked(path: recs.Path_, found: Examined) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            wanted = {*FILES, _MANIFEST}
            found.findings += [f"{n} is missing" for n in sorted(wanted - set(names))]
            found.findings += [f"{n} is no part of a bundle" for n in sorted(set(names) - wanted)]
            found.findings += [f"{n} is there twice" for n in wanted if names.count(n) > 1]
            for member in archive.infolist():
                if member.file_size > _LARGEST:
                    found.findings.append(f"{member.filename} unpacks to more than 1 GiB")
            if found.findings:
                return {}
            return {name: archive.read(name) for name in names}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no bundle: {error}") from None


def _check_hashes(data: dict[str, bytes], kernel: recs.Path_ | None, found: Examined) -> None:
    try:
        manifest = json.loads(data[_MANIFEST])
        hashes, subject = manifest["files"], manifest["kernel"]
        if manifest["bundle"] != FORMAT or set(hashes) != set(FILES):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        found.findings.append(f"manifest.json is none of format {FORMAT}")
        data[_MANIFEST] = b"{}"
        return
    for name in FILES:
        if hashlib.sha256(data[name]).hexdigest() != hashes[name]:
            found.findings.append(f"{name} was changed: its SHA-256 is not that of the manifest")
    if kernel is not None and file_hash(str(kernel)) != subject.get("sha256"):
        found.findings.append(f"{kernel} is not the kernel of this bundle: their SHA-256 differ")
    if subject.get("sha256") is None:
        found.notes.append("the kernel is in no file, so it has no hash")


def _check_manifest(
    manifest: Record, records: Sequence[Record], data: dict[str, bytes], found: Examined
) -> None:
    run = records[0]
    for key in ("suite", "suite_version"):
        if manifest and manifest.get(key) != run[key]:
            found.findings.append(
                f"manifest.json has {key} {manifest.get(key)!r}, the records {run[key]!r}"
            )
    try:
        about = json.loads(data["environment.json"])
    except ValueError:
        about = None
    wanted = {"kernel": run["kernel"], "environment": run["environment"], "started": run["started"]}
    if about != wanted:
        found.findings.append("environment.json is not that of the records")
    named = {k: v for k, v in manifest.get("kernel", {}).items() if k != "sha256"}
    if manifest and named != run["kernel"]:
        found.findings.append("manifest.json names another kernel than the records")


def _check_counts(records: Sequence[Record], found: Examined) -> None:
    summary = recs.of_type(records, "summary")[0]
    for key, value in recs.tally(records).items():
        if key != "type" and not _same(summary.get(key), value):
            found.findings.append(
                f"the summary says {key} = {summary.get(key)}, but its records give {value}"
            )
    ids = [c["id"] for c in recs.of_type(records, "case")]
    twice = sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) < len(ids) else []
    _limited(found, [f"case {i} is there twice" for i in twice])


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, str | int) and not isinstance(b, float) and a == b:
        return True
    try:
        return math.isclose(float(a), float(b), rel_tol=1e-9) or (
            math.isnan(float(a)) and math.isnan(float(b))
        )
    except (TypeError, ValueError):
        return False


def _contradictions(case: Record, promise: str) -> list[str]:
    """Where a record disagrees with itself."""
    name, found = case["id"], []
    parts = name.partition("[")[0].split("/")
    if len(parts) != 5 or parts[2:4] != [case["variant"], case["family"]]:
        found.append(f"case {name} is said to be of {case['variant']}, {case['family']}")
    if case["outcome"] not in ("pass", "fail", "waived"):
        return found
    histogram = case.get("histogram") or {}
    if histogram:
        counted = sum(histogram.values())
        if counted != case["elements"]:
            found.append(
                f"case {name} has {case['elements']} results, but {counted} in its histogram"
            )
        top = max(float(edge) for edge, n in histogram.items() if n)
        ulp = recs.largest([case.get("max_ulp")])
        least = 0.0 if top <= 0.5 else top / 2  # the last bin is beyond all others
        if ulp > top or (math.isfinite(top) and not (ulp > least or ulp == top)):
            found.append(
                f"case {name} has a largest error of {case['max_ulp']} ulp, but its histogram "
                f"ends at {top:g}"
            )
    factor = _factor(promise)
    ratio = recs.largest([case.get("max_ratio")])
    if case["outcome"] == "pass" and factor is not None and ratio > factor:
        found.append(f"case {name} passes with an error of {case['max_ratio']} times the bound")
    if case["outcome"] == "pass" and not histogram and case["elements"]:
        found.append(f"case {name} passes, but its errors are nowhere")
    if case["outcome"] != "pass" and not case["reason"]:
        found.append(f"case {name} is {case['outcome']} without a reason")
    return found


def _factor(promise: str) -> float | None:
    """C of a promise bound or bound:C; None where it has no such part."""
    for part in promise.split("+"):
        if part == "bound":
            return 1.0
        if part.startswith("bound:"):
            try:
                return float(part.partition(":")[2])
            except ValueError:  # 1e+3, cut at its sign
                return None
    return None


def _check_against_suite(records: Sequence[Record], found: Examined, sample: int) -> None:
    run, cases = records[0], recs.of_type(records, "case")
    known = {s.name: s for s in suites()}
    here = known.get(run["suite"])
    if here is None or here.version != run["suite_version"]:
        there = "not there" if here is None else f"version {here.version}"
        found.notes.append(
            f"suite {run['suite']}, version {run['suite_version']}, is {there} in this halfulp: "
            "no case was made again"
        )
        return
    present = {c["id"] for c in cases}
    variants = dict.fromkeys(c["variant"] for c in cases)
    missing_variants = [v for v in here.variants if v not in variants]
    if missing_variants:
        found.notes.append(f"variants without records: {', '.join(missing_variants)}")
    for variant in variants:
        if variant not in here.variants:
            found.findings.append(f"suite {here.name} has no variant {variant}")
            continue
        try:
            wanted = engine.cases(here.name, variant, run["level"])
        except ValueError as error:
            found.findings.append(str(error))
            return
        missing = [i for i in wanted if i not in present]
        if missing:
            found.findings.append(
                f"{len(missing)} of {len(wanted)} cases of {variant} at level {run['level']} are "
                f"missing, the first {missing[0]}"
            )
        extra = sorted(present.intersection(c["id"] for c in cases if c["variant"] == variant))
        _limited(
            found,
            [f"case {i} is none of level {run['level']}" for i in extra if i not in set(wanted)],
        )
    drawn = random.Random(0)
    failed = [c for c in cases if c["outcome"] == "fail"]
    passed = [c for c in cases if c["outcome"] != "fail"]
    chosen = drawn.sample(failed, min(sample, len(failed)))
    chosen += drawn.sample(passed, min(sample, len(passed)))
    wrong = []
    for case in chosen:
        try:
            wrong += _made_again(case)
        except ValueError as error:  # no such case
            wrong.append(str(error))
        found.recomputed += 1
    _limited(found, wrong)


def _made_again(case: Record) -> list[str]:
    """Where the record of a case differs from what the suite gives here."""
    name = case["id"]
    made = engine.make(name)
    shapes = {n: list(shape) for n, (_, shape, _) in made["inputs"].items()}
    if case.get("shapes") != shapes:
        return [f"case {name} has inputs {shapes}, but its record says {case.get('shapes')}"]
    worst = case.get("worst")
    if not worst:
        return []
    if worst.get("output") not in made["outputs"]:
        return [f"case {name} has no output {worst.get('output')}"]
    element, shape = made["outputs"][worst["output"]]
    at = tuple(worst.get("index", ()))
    if len(at) != len(shape) or not all(0 <= i < n for i, n in zip(at, shape, strict=True)):
        return [f"case {name} has no result {worst['output']}{list(at)}"]
    e = expected(name, made)[worst["output"]]
    width = numpy_dtype(element).itemsize if element != "bfloat16" else 2
    codes = e.rounded.view(f"u{width}")
    bits = f"0x{int(codes[at]):0{2 * width}x}"
    reference, low, bound = (float(a[at]) for a in (e.reference, e.low, e.bound))
    both_nan = math.isnan(reference) and math.isnan(_value(worst["expected"], element))
    found = []
    if worst["expected"] != bits and not both_nan:
        found.append(
            f"case {name}: {worst['output']}{list(at)} must be {bits}, but the record expects "
            f"{worst['expected']}"
        )
    ratio = _ratio(_value(worst["got"], element), element, reference, low, bound)
    if ratio is not None and not _same_ratio(ratio, number(worst["ratio"])):
        found.append(
            f"case {name}: {worst['got']} is {ratio:.6g} of the bound from the exact result, "
            f"but the record says {worst['ratio']}"
        )
    return found


def _ratio(got: float, element: str, reference: float, low: float, bound: float) -> float | None:
    """The error over the bound, as the suites define it; None where bits decide, or nothing."""
    if math.isnan(reference) or math.isinf(reference):
        right = math.isnan(got) if math.isnan(reference) else got == reference
        return 0.0 if right else math.inf
    if math.isnan(got):
        return math.inf
    if not 0 < bound < math.inf or element not in _OVERFLOW:
        return None
    if math.isinf(got):  # counts as the power of two above all numbers
        got = math.copysign(_OVERFLOW[element], got)
    return abs((got - reference) - low) / bound


def _same_ratio(a: float, b: float) -> bool:
    return a == b or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _value(code: str, element: str) -> float:
    dtype = code_dtype(element)
    width = dtype.itemsize
    bits = int(code, 16)
    if bits >> (8 * width):
        return math.nan
    return float(np.asarray(as_array(element, (1,), bits.to_bytes(width, "little")))[0])


def _check_documents(data: dict[str, bytes], records: Sequence[Record], found: Examined) -> None:
    if records[0]["halfulp"] != __version__:
        found.notes.append(
            f"made by halfulp {records[0]['halfulp']}: its page and its JUnit file were not "
            f"compared with those of {__version__}"
        )
        return
    for name, wanted in (("junit.xml", recs.junit(records)), ("report.html", page(records))):
        if data[name] != wanted.encode():
            found.findings.append(f"{name} is not what these records give")


def _limited(found: Examined, sentences: Sequence[str]) -> None:
    """Adds a few of them, and how many more there are."""
    found.findings += sentences[:_SHOWN]
    if len(sentences) > _SHOWN:
        found.findings.append(f"… and {len(sentences) - _SHOWN} more of this kind")
