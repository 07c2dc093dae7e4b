"""The report of a sweep: one HTML file that needs nothing else, and its figures as PNG and SVG."""

import base64
import html
import io
import platform
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.figure import Figure

from . import blocks
from .cells import COMPLETED, DIVERGED
from .figures import all_figures
from .folder import write_atomically
from .table import HEADINGS, texts

if TYPE_CHECKING:
    from .results import Sweep

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; margin: 0 auto;
  max-width: 72rem; padding: 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ddd; }
.question { font-size: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4;
  white-space: nowrap; vertical-align: top; }
th { white-space: pre; vertical-align: bottom; border-bottom: 2px solid #999; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
table.facts td { text-align: left; white-space: normal; }
table.facts td { overflow-wrap: anywhere; }
table.facts td:first-child { overflow-wrap: normal; position: static; color: #555; }
@media (max-width: 40rem) {
  th, td { padding: .3rem .45rem; }
  .scroll th:first-child, .scroll td:first-child { white-space: normal; max-width: 7.5rem; }
  table.facts td { display: block; padding: .1rem 0; }
  table.facts td:first-child { border: 0; padding-top: .5rem; }
}
figure { margin: 1.2rem 0; }
figure img { display: block; width: 100%; max-width: 40rem; height: auto; }
figcaption, .note { color: #444; font-size: .9rem; max-width: 46rem; }
.prose { max-width: 46rem; } .prose p { white-space: pre-line; }
.pass { color: #00603f; font-weight: 600; } .fail { color: #a3002b; font-weight: 700; }
.open { color: #7a5200; font-weight: 600; }
.loud { color: #a3002b; font-weight: 700; border-left: 4px solid; padding-left: .7rem; }
ul.checks { list-style: none; padding: 0; } ul.checks li { margin: .5rem 0; }
.detail { display: block; color: #444; font-size: .9rem; }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto; font-size: .85rem; }
summary { cursor: pointer; margin: .4rem 0; }
"""


def write_report(sweep: "Sweep", path: Path | None = None) -> Path:
    """Writes the report and returns its path, by default DIR/report.html.

    The figures also go to DIR/report/<name>.png and .svg. Each file appears whole or not at all.
    """
    figures = []
    for name, (figure, caption) in all_figures(sweep).items():
        svg = render(figure, "svg", name)
        write_atomically(sweep.folder.root / "report" / f"{name}.svg", svg)
        write_atomically(sweep.folder.root / "report" / f"{name}.png", render(figure, "png", name))
        figures.append(_figure(caption, svg))
    target = path or sweep.folder.root / "report.html"
    write_atomically(target, _page(sweep, figures))
    return target


def render(figure: Figure, kind: str, salt: str, dpi: int = 160) -> bytes:
    """The figure as a file's bytes, the same every time.

    SVG goes without a date and with ids that depend on `salt` only, PNG without matplotlib's name.
    """
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, dpi=dpi, metadata=metadata)
    return out.getvalue()


def _page(sweep: "Sweep", figures: Sequence[str]) -> str:
    title = html.escape(sweep.spec.name)
    body = [
        f"<h1>{title}</h1>",
        f'<p class="question">{html.escape(sweep.spec.question)}</p>',
        _prose(sweep, "method"),
        _results(sweep),
        _block(blocks.data_baselines(sweep)),
        "<h2>Figures</h2>",
        *figures,
        _controls(sweep),
        _prose(sweep, "claims"),
        _prose(sweep, "limits"),
        _divergences(sweep),
        *(_block(make(sweep)) for make in blocks.INSIDE),
        _settings(sweep),
        _provenance(sweep),
        _reproduce(sweep),
        _cells(sweep),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _results(sweep: "Sweep") -> str:
    table = sweep.table()
    rows = [texts(row) for row in table.rows]
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in table.notes)
    loud = "".join(f'<p class="loud">{html.escape(text)}</p>' for text in table.warnings)
    return f"<h2>Results</h2>{loud}{_table(HEADINGS, rows)}{notes}"


def _figure(caption: str, svg: bytes) -> str:
    """A figure with its picture inside the page (as an image, so that ids of SVGs do not clash)."""
    data = base64.b64encode(svg).decode()
    text = html.escape(caption)
    return (
        f'<figure><div class="scroll"><img alt="{text}" src="data:image/svg+xml;base64,{data}">'
        f"</div><figcaption>{text}</figcaption></figure>"
    )


def _controls(sweep: "Sweep") -> str:
    checks = sweep.check_controls()
    if not checks:
        return "<h2>Controls</h2><p>This sweep declares none.</p>"
    kind = {True: "pass", False: "fail", None: "open"}
    items = "".join(
        f'<li><span class="{kind[c.passed]}">{c.word}</span> {html.escape(c.name)}'
        f'<span class="detail">{html.escape(c.detail)}</span></li>'
        for c in checks
    )
    return f'<h2>Controls</h2><ul class="checks">{items}</ul>'


def _divergences(sweep: "Sweep") -> str:
    each = blocks.diverged_runs(sweep)
    runs = "<p>No run of the grid diverged.</p>" if each is None else _table(*_of(each))
    return _block(blocks.divergences(sweep)) + runs


def _block(block: "blocks.Block | None") -> str:
    """A table with its heading and its note; nothing if there is nothing to show."""
    if block is None:
        return ""
    note = f'<p class="note">{html.escape(block.note)}</p>'
    return f"<h2>{html.escape(block.title)}</h2>{_table(*_of(block))}{note}"


def _of(block: "blocks.Block") -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    return block.headings, block.rows


def _prose(sweep: "Sweep", key: str) -> str:
    """One of the sweep's own texts under its name, paragraph by paragraph."""
    text = sweep.spec.text(key)
    if not text:
        return ""
    paragraphs = "".join(f"<p>{html.escape(part)}</p>" for part in re.split(r"\n\s*\n", text))
    return f'<h2>{key.capitalize()}</h2><div class="prose">{paragraphs}</div>'


def _settings(sweep: "Sweep") -> str:
    facts = [(f"axis {path}", ", ".join(map(_text, v))) for path, v in sweep.spec.axes.items()]
    facts.append(("baseline", sweep.spec.baseline))
    if sweep.grid:
        specification = sweep.grid[0].specification
        facts += [
            (part, ", ".join(f"{key} = {_text(value)}" for key, value in table.items()))
            for part, table in specification.items()
            if part not in ("precision", "fault") and isinstance(table, dict)
        ]
    policies = [
        (
            f"policy {name}",
            "; ".join(_role(role, value) for role, value in policy.items()) or "FP32",
        )
        for name, policy in sweep.spec.policies.items()
    ]
    note = '<p class="note">The axes replace these values of the first cell.</p>'
    return f"<h2>Settings</h2>{_facts([*facts, *policies])}{note}"


def _role(role: str, value: object) -> str:
    if isinstance(value, dict):
        return f"{role}: {', '.join(_text(v) for v in value.values())}"
    return f"{role} = {_text(value)}"


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _provenance(sweep: "Sweep") -> str:
    finished = [cell for cell in sweep.cells if cell.finished]
    names = (
        "halfulp_version",
        "numerics",
        "git_sha",
        "compiler",
        "flags",
        "libc",
        "cpu",
        "device",
        "data_sha256",
    )
    facts = [
        (name, ", ".join(_distinct(c.attributes.get(name, "") for c in finished))) for name in names
    ]
    starts = sorted(str(c.attributes["started"]) for c in finished if "started" in c.attributes)
    if starts:
        facts.append(("cells started (UTC)", f"{starts[0]} to {starts[-1]}"))
    seconds = sum(float(c.attributes.get("wall_seconds", 0)) for c in finished)
    facts.append(("time of all cells", f"{seconds:.0f} s"))
    counts = ", ".join(f"{n} {word}" for word, n in sweep.counts().items() if n)
    facts.append(("cells", counts))
    facts.append(("report written (UTC)", datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")))
    packages = ("numpy", "scipy", "h5py", "matplotlib")
    with_versions = [f"{name} {_version(name)}" for name in packages]
    facts.append(("Python", f"{platform.python_version()}; {', '.join(with_versions)}"))
    return f"<h2>Provenance</h2>{_facts(facts)}"


def _reproduce(sweep: "Sweep") -> str:
    text = html.escape(sweep.folder.sweep.read_text(encoding="utf-8"))
    command = "halfulp sweep sweep.toml --out DIR\nhalfulp table DIR\nhalfulp report DIR"
    return (
        f"<h2>How to reproduce</h2><pre>{command}</pre>"
        f"<details><summary>sweep.toml</summary><pre>{text}</pre></details>"
    )


def _cells(sweep: "Sweep") -> str:
    headings = ("cell", "outcome", "last held-out loss / nats", "last accuracy", "seconds", "name")
    rows = []
    for cell in sweep.cells:
        row = [cell.describe(), cell.outcome, "", "", "", cell.id[:12]]
        if cell.outcome in (COMPLETED, DIVERGED):
            row[2] = (
                f"{cell.metrics['eval_loss'][-1]:.4g}" if cell.metrics["eval_loss"].size else ""
            )
            accuracies = cell.metrics["eval_accuracy"]
            row[3] = f"{accuracies[-1]:.4f}" if accuracies.size else ""
            row[4] = f"{float(cell.attributes.get('wall_seconds', 0)):.2f}"
        rows.append(row)
    table = _table(headings, rows)
    return f"<h2>All cells</h2><details><summary>{len(rows)} cells</summary>{table}</details>"


def _table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>" for name, text in facts
    )
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _distinct(values: Iterable[object]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
