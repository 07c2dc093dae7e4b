"""The page of a conformance run: whole by itself, well-formed, true to the records, readable."""

from __future__ import annotations

import html
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import conform_kernels as kernels
import pytest

import halfulp as hu
from halfulp import _conform_svg as svg
from halfulp import _conform_text as text

VOID = {"meta", "br", "img", "hr"}


class Reader(HTMLParser):
    """Elements with their attributes, and the text; complains of tags that do not fit together."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.wrong: list[str] = []
        self.feed(page)
        self.close()
        self.wrong += [f"<{tag}> stays open" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if len(dict(attrs)) != len(attrs):
            self.wrong.append(f"<{tag}> has an attribute twice")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> hu.Report:
    """With every outcome: failures, crashes, waived, unsupported, a broken check."""
    waivers = tmp_path_factory.mktemp("w") / "w.toml"
    waivers.write_text('[[waiver]]\ncase = "*/large/*"\nreason = "large <numbers> come next"\n')

    def kernel(x):
        if x.shape[1] == 2:
            raise NotImplementedError("rows of 2")
        if x.shape[1] > 1000:
            raise MemoryError("no scratch")
        return kernels.differs_from_run_to_run(x) if x.shape[1] == 3 else kernels.no_maximum(x)

    return hu.conform(
        kernel, "softmax", "bound+run-to-run", variant="all", waivers=waivers, progress=False
    )


@pytest.fixture(scope="module")
def passing() -> hu.Report:
    return hu.conform(kernels.softmax, "softmax", variant=["float32", "bfloat16"], progress=False)


@pytest.fixture(params=["failing", "passing"])
def report(request: pytest.FixtureRequest) -> hu.Report:
    return request.getfixturevalue(request.param)


def test_the_page_is_whole_and_well_formed(report: hu.Report, tmp_path: Path) -> None:
    page = report.html(tmp_path / "p.html")
    assert (tmp_path / "p.html").read_text(encoding="utf-8") == page
    read = Reader(page)
    assert read.wrong == []
    assert page.startswith("<!doctype html>")
    tags = Counter(tag for tag, _ in read.elements)
    assert tags["h1"] == tags["main"] == tags["title"] == 1
    assert not {"script", "link", "iframe", "img", "object"} & set(tags)
    assert not re.search(r"url\(|@import|https?:|src=|href=", page)
    assert len(page) < 3_000_000


def test_the_checks_of_pages_can_fail() -> None:
    assert Reader("<p><b>x</p></b>").wrong
    assert Reader("<div>").wrong
    assert not Reader("<p>x<br></p>").wrong


def test_the_verdict_comes_first(report: hu.Report) -> None:
    shown = Reader(report.html()).text
    word = shown.index(report.outcome.capitalize())
    assert (
        word < shown.index("What was promised") < shown.index("By family") < shown.index("Evidence")
    )
    assert (
        f"suite softmax, version {report.run['suite_version']}, level quick" in shown[: word + 200]
    )


def test_every_number_is_that_of_the_records(failing: hu.Report) -> None:
    page = failing.html()
    for f in text.families(failing.records):
        row = re.search(
            rf'<tr[^>]*><th scope="row">{f.name}</th><td>{f.cases:,}</td><td>{f.outcomes["pass"]:,}</td>'
            rf'<td class="\w+">{f.outcomes["fail"]:,}</td>',
            page,
        )
        assert row, f.name
    s = failing.summary
    assert s["fail"] > 8
    assert f"<dd>{s['cases']:,}</dd>" in page
    assert f"<dd>{s['elements']:,}</dd>" in page
    assert f"What failed: {s['fail']:,} cases" in page


def test_every_failure_is_there_with_its_bits_and_its_replay(failing: hu.Report) -> None:
    page = failing.html()
    failed = [c for c in failing.failures if c["type"] == "case"]
    assert len(failed) > 8
    there = [c for c in failed if html.escape(c["replay"]) in page]
    assert len(there) == min(len(failed), 8 + 200)
    assert f"{len(failed) - 8:,} more</summary>" in page
    assert f"{len(failed) - 208:,} more stand in the records." in page
    assert all(html.escape(c["reason"]) in page for c in there)
    drawn = re.findall(r'<p class="id">([^<]*)</p><p>', page)
    families = {tuple(case.split("/")[2:4]) for case in drawn}
    assert len(drawn) == 8 == len(families)  # one of each family first
    first = next(c for c in failed if c["id"] == drawn[0] and c["worst"])
    element = text.element_of(first)
    spoken = [" ".join(text.bits_of(first["worst"][k], element)) for k in ("got", "expected")]
    assert f"got {spoken[0]}, expected {spoken[1]}; " in page


def test_what_is_not_shown_is_named(failing: hu.Report, passing: hu.Report) -> None:
    read = Reader(failing.html()).text
    tail = read[read.index("What this run does not show") :]
    s = failing.summary
    assert f"Waived: {s['waived']}" in tail
    assert "large <numbers> come next" in tail
    assert f"Unsupported: {s['unsupported']}" in tail
    assert "rows of 2" in tail
    assert "not measured" in tail or "broken kernels caught" in tail
    assert "Not promised, so not looked at: batch, split." in read
    tail = Reader(passing.html()).text.partition("What this run does not show")[2]
    assert "Variants that were not asked for: float16" in tail


def test_pictures_have_their_content_as_text(report: hu.Report) -> None:
    read = Reader(report.html())
    pictures = [a for tag, a in read.elements if tag == "svg"]
    assert len(pictures) > 30
    assert all(a.get("role") == "img" and "aria-label" in a for a in pictures)
    for f in text.families(report.records):
        label = html.escape(svg.spoken(text.coarse(f.histogram)))
        assert f'aria-label="{label}"' in report.html()
        told = [int(n) for n in re.findall(r"(\d+) at ", label)]
        assert sum(told) == sum(f.histogram.values())
    tables = [a for tag, a in read.elements if tag == "th"]
    assert all(a.get("scope") in ("row", "col", "rowgroup") for a in tables)
    assert ("html", {"lang": "en"}) in read.elements


def luminance(colour: str) -> float:
    """Of sRGB, as WCAG 2 defines it."""
    colour = "".join(2 * c for c in colour) if len(colour) == 3 else colour
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_by_day_and_by_night(passing: hu.Report) -> None:
    style = passing.html().partition("<style>")[2].partition("</style>")[0]
    day, night = re.findall(r"\.hc \{ (--ink.*?)[;\s]*(?:font|\})", style, re.S)
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
    for scheme in (day, night):
        colours = dict(re.findall(r"--(\w+): #([0-9a-f]+)", scheme))
        paper = luminance(colours["paper"])
        for name in ("ink", "soft", "bad", "good", "open"):
            x = luminance(colours[name])
            contrast = (max(x, paper) + 0.05) / (min(x, paper) + 0.05)
            assert contrast >= 4.5, (name, contrast)


def test_a_notebook_gets_verdict_and_table(failing: hu.Report) -> None:
    fragment = failing._repr_html_()
    read = Reader(fragment)
    assert read.wrong == []
    assert "Fail" in read.text
    assert "By family" in read.text
    assert not {"html", "body", "main"} & {tag for tag, _ in read.elements}
    assert len(fragment) < 100_000


@pytest.mark.parametrize(
    ("code", "element", "parts", "value"),
    [
        ("0x3f800001", "float32", ["0", "01111111", "0" * 22 + "1"], "1.00000012"),
        ("0xc000", "float16", ["1", "10000", "0000000000"], "-2"),
        ("0x3f80", "bfloat16", ["0", "01111111", "0000000"], "1"),
        ("0x7e", "float8_e4m3fn", ["0", "1111", "110"], "448"),
        ("0x06", "float4_e2m1fn", ["0", "11", "0"], "4"),
        ("0x7f", "float8_e8m0fnu", ["", "01111111", ""], "1"),
        ("0xffffffffffffffff", "float64", ["1", "1" * 11, "1" * 52], "nan"),
        ("0x0000002a", "int32", ["0" * 26 + "101010"], ""),
    ],
)
def test_codes_are_drawn_by_field(code: str, element: str, parts: list[str], value: str) -> None:
    assert text.bits_of(code, element) == parts
    assert text.value_of(code, element) == value
    drawn = svg.bits(code, code, element)
    assert drawn.count("<rect") == 2 * sum(map(len, parts))
    assert "0 of " in drawn
    assert "differs" not in drawn


def test_differing_bits_are_marked() -> None:
    drawn = svg.bits("0x3f800001", "0xbf800000", "float32")
    assert drawn.count('class="mark"') == 2
    assert drawn.count(" differs") == 4
    assert "2 of 32 bits differ" in drawn


def test_histograms_in_few_bins_lose_no_result() -> None:
    fine = {"0": 1, "0.5": 2, "4": 3, "1024": 4, "2048": 5, "1e+20": 6, "inf": 7}
    bins = text.coarse(fine)
    assert bins == {
        "0": 1, "0.5": 2, "1": 0, "2": 0, "4": 3, "8": 0, "16": 0, "32": 0, "64": 0, "128": 0,
        "256": 0, "512": 0, "1024": 4, "more": 11, "inf": 7,
    }  # fmt: skip
    assert text.coarse({}) == {"0": 0, "0.5": 0, "1": 0, "2": 0}


def test_intervals_are_those_of_students_t() -> None:
    from scipy import stats

    values = [0.5, -0.25, 1.0, 0.125, float("inf"), float("nan")]
    mean, half = text.interval(values)
    low, high = stats.t.interval(0.95, 3, loc=mean, scale=stats.sem(values[:4]))
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-12)
    assert str(text.interval([])) == "(nan, nan)"
    assert text.interval([2.0])[0] == 2
