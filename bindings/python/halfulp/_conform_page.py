"""A conformance run as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from halfulp import _conform_records as recs
from halfulp import _conform_svg as svg
from halfulp import _conform_text as text
from halfulp._conform_records import Record, number

_STYLE = Path(__file__).with_name("conform.css").read_text(encoding="utf-8")
_PROMISES = {
    "bound": "every result lies within the suite's proven bound",
    "condition": "every error is at most C·u·condition plus the least subnormal",
    "ulp": "every error is at most C units in the last place of the exact result",
    "bit-exact": "every result has the bits of the named model",
    "baseline": "no error is larger than C times that of the suite's baseline",
    "statistical": "errors are not one-sided, by the named test at the level alpha",
    "run-to-run": "running again gives the same bits",
    "batch": "the bits of a row do not depend on the other rows",
    "split": "the number of splits does not change the bits",
}
_SHOWN, _LISTED, _WORST, _REASONS, _ROWS, _SIZES = 8, 200, 2, 6, 16, 3


def page(records: Sequence[Record]) -> str:
    """The whole page."""
    run = recs.of_type(records, "run")[0]
    title = f"{run['suite']}: {run['kernel'].get('name', '')}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_e(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f'<body class="hp">\n{_body(records)}\n</body>\n</html>\n'
    )


def fragment(records: Sequence[Record]) -> str:
    """Verdict and table, for a notebook."""
    parts = [_header(records), _families(records)]
    return f'<style>{_STYLE}</style><div class="hc">{"".join(parts)}</div>'


def _body(records: Sequence[Record]) -> str:
    parts = [
        _header(records),
        _promise(records),
        _families(records),
        _failures(records),
        _histograms(records),
        _worst(records),
        _against_size(records),
        _checks(records),
        _left_out(records),
        _evidence(records),
    ]
    return f'<main class="hc">{"".join(p for p in parts if p)}</main>'


def _e(value: Any) -> str:
    return html.escape(str(value))


def _word(outcome: str) -> str:
    kind = outcome if outcome in ("pass", "fail") else "other"
    return f'<span class="{kind}">{_e(outcome.replace("-", " "))}</span>'


def _header(records: Sequence[Record]) -> str:
    run, s = recs.of_type(records, "run")[0], recs.of_type(records, "summary")[0]
    mood = {"pass": "good", "fail": "bad"}.get(s["outcome"], "open")
    word, _, rest = text.verdict(records).partition(": ")
    kernel = run["kernel"]
    version = f" {kernel['version']}" if kernel.get("version") else ""
    tiles = {
        "cases": f"{s['cases']:,}",
        "failed": f"{s['fail']:,}",
        "results compared": f"{s['elements']:,}",
        "largest error": f"{text.short(number(s['max_ulp']))} ulp",
        "of the suite's bound": text.short(number(s["max_ratio"])),
    }
    shown = "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in tiles.items())
    return (
        f'<header style="--mood: var(--{mood})">'
        f"<h1>{_e(kernel.get('name', ''))}{_e(version)} under "
        f"suite {_e(run['suite'])}, version {run['suite_version']}, level {_e(run['level'])}</h1>"
        f'<p class="verdict">{_sentence_case(word)}</p><p class="lead">{_e(rest)}.</p></header>'
        f'<dl class="tiles">{shown}</dl>'
    )


def _sentence_case(word: str) -> str:
    return _e(word.replace("-", " ").capitalize())


def _promise(records: Sequence[Record]) -> str:
    run = recs.of_type(records, "run")[0]
    items = ""
    for part in run["promise"].replace("e+", "e").split("+"):
        what = _PROMISES.get(part.partition(":")[0], "")
        items += f"<dt><code>{_e(part)}</code></dt><dd>{_e(what)}</dd>"
    return f'<h2>What was promised</h2><dl class="facts">{items}</dl>'


def _case(c: Record) -> str:
    """One case with the bits of its worst result."""
    bad = " bad" if c["outcome"] == "fail" else ""
    out = f'<article class="case{bad}"><p class="id">{_e(c["id"])}</p>'
    if c["reason"]:
        out += f"<p>{_e(c['reason'])}</p>"
    worst = c.get("worst")
    if worst:
        element = text.element_of(c)
        place = f"{worst['output']}[{', '.join(map(str, worst['index']))}]"
        values = [text.value_of(worst[k], element) or worst[k] for k in ("got", "expected")]
        out += (
            f'<div class="scroll">{svg.bits(worst["got"], worst["expected"], element)}</div>'
            f'<p class="note">{_e(place)} {_e(element)}: '
            f"got {_e(values[0])} (<code>{worst['got']}</code>), "
            f"expected {_e(values[1])} (<code>{worst['expected']}</code>); exact "
            f"<code>{_e(worst['reference'])}</code>; {text.short(number(worst['ulp']))} ulp off, "
            f"{text.short(number(worst['ratio']))} of the bound</p>"
        )
    shapes = ", ".join(
        f"{n} {'×'.join(map(str, s)) or 'scalar'}" for n, s in c.get("shapes", {}).items()
    )
    out += f'<p class="note">inputs {_e(shapes)}</p><pre>{_e(c["replay"])}</pre></article>'
    return out


def _failures(records: Sequence[Record]) -> str:
    bad = [c for c in recs.of_type(records, "case") if c["outcome"] == "fail"]
    if not bad:
        return ""
    # First one of each family, then the rest.
    seen: set[tuple[str, str]] = set()
    first: list[Record] = []
    rest: list[Record] = []
    for c in bad:
        key = (c["variant"], c["family"])
        (rest if key in seen else first).append(c)
        seen.add(key)
    shown = [*first, *rest][:_SHOWN]
    others = [c for c in bad if not any(c is s for s in shown)]
    word = "case" if len(bad) == 1 else "cases"
    out = f"<h2>What failed: {len(bad):,} {word}</h2>"
    if len(bad) > len(shown):
        out += _without_results(bad)
        out += _note("First the first of each family. The line below a case runs it again.")
    out += "".join(map(_case, shown))
    if others:
        listed = "".join(
            f'<p class="note">{_e(c["id"])}: {_e(c["reason"])}</p><pre>{_e(c["replay"])}</pre>'
            for c in others[:_LISTED]
        )
        more = (
            f"<p>{len(others) - _LISTED:,} more stand in the records.</p>"
            if len(others) > _LISTED
            else ""
        )
        out += f"<details><summary>{len(others):,} more</summary>{listed}{more}</details>"
    return out


def _without_results(bad: Sequence[Record]) -> str:
    """How many cases gave nothing to judge, by reason."""
    counts: dict[str, int] = {}
    for c in bad:
        if not c.get("worst"):
            counts[c["reason"]] = counts.get(c["reason"], 0) + 1
    most = sorted(counts.items(), key=lambda item: -item[1])[:_REASONS]
    return "".join(f"<p>{n:,} × {_e(reason)}</p>" for reason, n in most if n > 1)


def _families(records: Sequence[Record]) -> str:
    rows = text.families(records)
    edges = list(text.coarse(text.add_histograms(f.histogram for f in rows)))
    variants = dict.fromkeys(f.variant for f in rows)
    body = ""
    for variant in variants:
        body += f'<tr><th scope="rowgroup" colspan="10">{_e(variant)}</th></tr>'
        for f in (f for f in rows if f.variant == variant):
            failed = f.outcomes["fail"]
            others = f.cases - f.outcomes["pass"] - failed
            numbers = [text.short(x) for x in (f.max_ulp, f.max_ratio, f.baseline_multiple)]
            if not f.judged:
                numbers = ["–"] * 3
            cells = "".join(f"<td>{n}</td>" for n in numbers)
            picture = svg.small_histogram(text.coarse(f.histogram), edges)
            body += (
                f'<tr{" class=failed" if failed else ""}><th scope="row">{_e(f.name)}</th>'
                f"<td>{f.cases:,}</td><td>{f.outcomes['pass']:,}</td>"
                f'<td class="{"fail" if failed else "none"}">{failed:,}</td>'
                f'<td class="{"other" if others else "none"}">{others:,}</td>'
                f'<td>{f.elements:,}</td>{cells}<td class="l">{picture}</td></tr>'
            )
    heads = ("cases", "pass", "fail", "other", "results", "max ulp", "of bound", "of baseline")
    return (
        "<h2>By family</h2>"
        + _table(("<family", *heads, "<errors: 0, ½, 1, 2, 4 … ulp"), body)
        + _note(
            "of bound: the largest error over the suite's bound; of baseline: over the largest "
            "error of the suite's baseline kernel on the same case. Bars: results by error in ulp, "
            "counts on a logarithmic scale; all above 1024 ulp in one; red: NaN and infinity "
            "where they do not belong."
        )
    )


def _table(heads: Sequence[str], body: str) -> str:
    """A table that scrolls by itself; a heading after < is on the left."""
    head = "".join(
        f'<th scope="col"{" class=l" if h.startswith("<") else ""}>{_e(h.removeprefix("<"))}</th>'
        for h in heads
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _note(sentence: str) -> str:
    return f'<p class="note">{_e(sentence)}</p>'


def _histograms(records: Sequence[Record]) -> str:
    by_variant: dict[str, list[dict[str, int]]] = {}
    for f in text.families(records):
        by_variant.setdefault(f.variant, []).append(f.histogram)
    out = ""
    for variant, parts in by_variant.items():
        counts = text.coarse(text.add_histograms(parts))
        if any(counts.values()):
            picture = svg.histogram(counts, f"errors of {variant}")
            out += f'<div><h3>{_e(variant)}</h3><div class="scroll">{picture}</div></div>'
    return f'<h2>Errors in ulp</h2><div class="beside">{out}</div>' if out else ""


def _worst(records: Sequence[Record]) -> str:
    """The cases that came closest to the bound, one of each family; failures stand above."""
    best: dict[tuple[str, str], Record] = {}
    for c in recs.of_type(records, "case"):
        if c["outcome"] != "pass" or not c.get("worst") or number(c["max_ulp"]) == 0:
            continue
        key = (c["variant"], c["family"])
        if key not in best or number(c["max_ratio"]) > number(best[key]["max_ratio"]):
            best[key] = c
    ordered = []
    for variant in dict.fromkeys(v for v, _ in best):
        of_variant = [c for (v, _), c in best.items() if v == variant]
        ordered += sorted(of_variant, key=lambda c: -number(c["max_ratio"]))[:_WORST]
    if not ordered:
        return ""
    note = f"Of each variant the {_WORST} families that came closest to the bound, with that case."
    return f"<h2>Worst of what passed</h2>{_note(note)}" + "".join(map(_case, ordered))


def _against_size(records: Sequence[Record]) -> str:
    cases = [c for c in recs.of_type(records, "case") if c.get("histogram") and c["shapes"]]
    names = list(dict.fromkeys(c["family"] for c in cases))
    out = ""
    for variant in dict.fromkeys(c["variant"] for c in cases):
        points: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for c in cases:
            shape = next(iter(c["shapes"].values()))
            if c["variant"] == variant and shape and shape[-1] > 0:
                points[c["family"]].append((float(shape[-1]), number(c["max_ulp"])))
        if len({x for group in points.values() for x, _ in group}) >= _SIZES:
            first = next(iter(cases[0]["shapes"]))
            picture = svg.scatter(
                points, f"last dimension of {_e(first)}", "largest error of a case / ulp"
            )
            out += f'<h3>{_e(variant)}</h3><div class="scroll">{picture}</div>' if picture else ""
    if not out:
        return ""
    note = "A point is a case; on the upper edge: infinite; on the lower: below 0.001."
    return f'<h2>Error against size</h2><ul class="key">{svg.key(names)}</ul>{_note(note)}{out}'


def _checks(records: Sequence[Record]) -> str:
    checks = recs.of_type(records, "check")
    body = ""
    for c in checks:
        p = number(c.get("p_value"))
        statistic = number(c.get("statistic"))
        promised = c.get("promised", True)
        word = _word(c["outcome"]) if promised else '<span class="none">not promised</span>'
        body += (
            f'<tr><th scope="row">{_e(c["name"])}</th>'
            f'<td class="l">{word}</td><td>{c["cases"]:,}</td>'
            f"<td>{text.short(statistic)}</td><td>{text.short(p)}</td>"
            f'<td class="w">{_e(c["reason"])}</td></tr>'
        )
    out = "<h2>Over many cases</h2>"
    if body:
        out += _table(("<check", "<outcome", "cases", "statistic", "p", "<reason"), body)
    run = recs.of_type(records, "run")[0]
    promised = set(run["promise"].split("+"))
    silent = [c for c in ("run-to-run", "batch", "split") if c not in promised]
    if silent:
        out += f'<p class="note">Not promised, so not looked at: {_e(", ".join(silent))}.</p>'
    signed = [
        (f"{f.variant} {f.name}", *f.mean_signed)
        for f in text.families(records)
        if f.histogram and math.isfinite(f.mean_signed[0])
    ]
    if any(mean for _, mean, _ in signed):
        signed.sort(key=lambda row: -_farness(row))
        shown = signed[:_ROWS]
        picture = svg.whiskers(shown, "|result| − |exact|, mean of the cases / ulp")
        out += f'<h3>Mean signed error</h3><div class="scroll">{picture}</div>'
        others = f" The other {len(signed) - _ROWS} are nearer." if len(signed) > _ROWS else ""
        out += _note(
            "Farthest from zero first, in units of the interval."
            + others
            + " With the 95 % confidence interval over the cases of the family (Student's t), not "
            "corrected for their number; red: it leaves zero out. Left of zero results are too "
            "small, as truncation makes them."
        )
    return out


def _farness(row: tuple[str, float, float]) -> float:
    """How far from zero a mean lies, in half widths of its interval."""
    _, mean, half = row
    return abs(mean) / half if half > 0 else 0.0


def _left_out(records: Sequence[Record]) -> str:
    """Waived, unsupported, not evidenced."""
    s, run = recs.of_type(records, "summary")[0], recs.of_type(records, "run")[0]
    checks = [c for c in recs.of_type(records, "check") if c.get("promised", True)]
    everything = [*recs.of_type(records, "case"), *checks]
    out = ""
    for outcome in ("waived", "unsupported", "not-evidenced"):
        found = [r for r in everything if r["outcome"] == outcome]
        if not found:
            continue
        groups: dict[str, list[str]] = {}
        for r in found:
            groups.setdefault(r["reason"], []).append(r.get("id") or r["name"])
        rows = ""
        for reason, names in groups.items():
            which = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
            rows += (
                f'<tr><td class="w">{_e(reason or "no reason given")}</td>'
                f'<td>{len(names):,}</td><td class="w">{_e(which)}</td></tr>'
            )
        out += f"<h3>{_sentence_case(outcome)}: {len(found):,}</h3>"
        out += _table(("<reason", "cases", "<which"), rows)
    out += "".join(f'<p class="other">{_e(line)}</p>' for line in s.get("idle_waivers", []))
    missing = run.get("variants_not_asked", [])
    if missing:
        out += f"<p>Variants that were not asked for: {_e(', '.join(missing))}.</p>"
    if not out:
        out = "<p>Nothing: no case was waived, unsupported or without evidence.</p>"
    return f"<h2>What this run does not show</h2>{out}"


def _evidence(records: Sequence[Record]) -> str:
    run, s = recs.of_type(records, "run")[0], recs.of_type(records, "summary")[0]
    kernel = [(f"kernel {k}", v) for k, v in run["kernel"].items() if v not in ("", None)]
    libraries = dict(run["environment"])
    versions = libraries.pop("libraries", {}) or {}
    facts: list[tuple[str, Any]] = [
        ("suite", f"{run['suite']}, version {run['suite_version']}, level {run['level']}"),
        ("strength of the suite", recs.strength_sentence(s)),
        *kernel,
        *((k, v) for k, v in libraries.items() if v),
        ("libraries", ", ".join(f"{k} {v}" for k, v in versions.items())),
        ("halfulp", run["halfulp"]),
        ("started (UTC)", run["started"]),
        ("time of the run", f"{number(s['seconds']):.3g} s"),
    ]
    return f"<h2>Evidence</h2>{_facts(facts)}"


def _facts(facts: Iterable[tuple[str, Any]]) -> str:
    rows = "".join(f"<dt>{_e(k)}</dt><dd>{_e(v)}</dd>" for k, v in facts if v not in ("", None))
    return f'<dl class="facts">{rows}</dl>'
