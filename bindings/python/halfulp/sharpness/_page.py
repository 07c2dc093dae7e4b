"""The page of the study `sharpness`, and its figures beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copyfile
from typing import Any

from halfulp import __version__
from halfulp.sharpness._cells import QUESTION, RECORDS, SETTINGS, SHOWN_RATE, Size
from halfulp.sharpness._figures import figures
from halfulp.sharpness._predict import LEAST
from halfulp.sharpness._results import FALSE_ALARMS, GAP, SOON, WITHIN, Results, patience_of
from halfulp.studies.statistics import wilson_interval

READING = "## Reading\n"  # by hand; stays when the page is written again
RESOLUTION = 80


def write_figures(results: Results, summary: dict[str, Any], folder: Path) -> list[Path]:
    found = []
    for name, draw in figures(results, summary).items():
        found.append(folder / f"{name}.png")
        draw().savefig(found[-1], dpi=RESOLUTION)
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def plus_minus(of: Sequence[float] | None, digits: int = 3) -> str:
    return "" if of is None else f"{of[0]:.{digits}f} ± {of[1]:.{digits}f}"


def interval(of: Sequence[float | None], digits: int = 2, sign: str = "") -> str:
    value, low, high = of[:3]
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{value:{sign}.{digits}f}"
    return f"{value:{sign}.{digits}f} ({low:{sign}.{digits}f}…{high:{sign}.{digits}f})"


def outcome_table(summary: dict[str, Any]) -> str:
    size = summary["size"]
    n = size["seeds"]
    head = [
        "setting",
        *[f"rate {rate:g}" for rate in size["rates"]],
        "share of rates, less FP32's",
        "least effect",
        f"held-out loss less FP32's, rate {size['rates'][0]:g}",
        "least effect",
        "the same at the best rate",
        "sensitivity to the rate",
    ]
    rows = []
    for name, row in summary["outcomes"]["settings"].items():
        base = name == "FP32"
        rows.append(
            [
                name,
                *[f"{k}/{n}" for k in row["diverged"]],
                "" if base else plus_minus(row["share_less_fp32"]),
                "" if base else f"{row['share_less_fp32'][2]:.3f}",
                "" if base else plus_minus(row["gap_first_rate"], 4),
                "" if base else f"{row['gap_first_rate'][2]:.4f}",
                "" if base else plus_minus(row["gap_at_best"], 4),
                plus_minus(row["sensitivity"]),
            ]
        )
    return table(head, rows)


def when_diverged(summary: dict[str, Any]) -> str:
    of = summary["diverges_at"]
    if not of:
        return "None diverged."
    return (
        "Half of them between steps {1:.0f} and {3:.0f}, 90% between {0:.0f} and {4:.0f}.".format(
            *of
        )
    )


def factor_table(summary: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['of']} less {row['less']}",
            plus_minus(row["share"]),
            f"{row['share'][2]:.3f}",
            plus_minus(row["loss"]),
            f"{row['loss'][2]:.3f}",
        ]
        for row in summary["outcomes"]["factors"]
    ]
    head = [
        "what less what",
        "share of rates that diverge",
        "least effect",
        "held-out loss, mean over rates / nats",
        "least effect",
    ]
    return table(head, rows)


def prediction_tables(rows: list[dict[str, Any]]) -> str:
    text = ""
    for event, step in dict.fromkeys((row["event"], row["step"]) for row in rows):
        chosen = [r for r in rows if (r["event"], r["step"]) == (event, step)]
        what, when = ("runs", f", from step {step}") if step is not None else ("values", "")
        text += (
            f"**{event}{when}**: {chosen[0]['runs']:,} {what}, {chosen[0]['events']:,} with the "
            "event; pairs on both halves together "
            + ", ".join(f"{r['pairs']:,} ({r['within']})" for r in chosen)
            + ".\n\n"
        )
        body = []
        for name in chosen[0]["auc"]:
            line = [name]
            for r in chosen:
                of = r["auc"][name]
                arrow = "" if of["auc"][0] in (None, 0.5) else (" ↑" if of["larger"] else " ↓")
                line.append(interval(of["auc"]) + arrow)
            of = chosen[1]["auc"][name]
            line.append(interval(of["less_loss"], sign="+") if "less_loss" in of else "")
            least = of["auc"][3]
            line.append("" if not least else f"{least:.2f}")
            body.append(line)
        head = ["measure", *[f"AUC, {w}" for w in WITHIN]]
        text += table([*head, "same rate: above the loss's", "least effect"], body) + "\n"
    return text


def correlation_table(summary: dict[str, Any]) -> str:
    rows = summary["correlations"]
    head = ["measure", *[f"step {r['step']}, {r['runs']} runs" for r in rows]]
    names = list(rows[0]["rho"])
    return table(head, [[n, *[interval(r["rho"][n], sign="+") for r in rows]] for n in names])


def lead_table(summary: dict[str, Any]) -> str:
    rows = []
    for name in next(iter(summary["leads"].values())):
        line = [name]
        for of in (found[name] for found in summary["leads"].values()):
            for key in ("warned", "false"):
                k, n, low, high = of[key]
                line.append(f"{k}/{n} ({low:.2f}…{high:.2f})")
            line.append(interval(of["median"], 0))
        rows.append(line)
    head = ["monitor"]
    for within in summary["leads"]:
        head += [f"{within}: announced", "false alarms", "median lead / steps"]
    return table(head, rows)


def critical_table(summary: dict[str, Any]) -> str:
    rows = []
    for name, of in summary["critical"].items():
        for group in ("FP32", "all settings"):
            low, middle, high = of[group]["quotient"]
            rows.append(
                [
                    f"{name}, {group}",
                    interval(of[group]["rho"], sign="+"),
                    interval(of[group]["along"], sign="+"),
                    f"{middle:.2f} ({low:.2f}…{high:.2f})",
                    f"{of[group]['pairs']:,}",
                    "{1:g} ({0:g}…{2:g})".format(*of["evaluations"]),
                    f"{100 * of['never_descends']:.1f}%",
                ]
            )
    head = [
        "direction, runs",
        "ρ with λ_max, same step and rate",
        "ρ with λ_max along a run",
        "λ_c/λ_max: median (5%…95%)",
        "values",
        "evaluations: median (5%…95%)",
        "no descent found",
    ]
    return table(head, rows)


def edge_table(summary: dict[str, Any]) -> str:
    size = summary["size"]
    head = ["λ_max·η/2", *[f"rate {rate:g}" for rate in size["edge_rates"]]]
    rows = []
    for name, key in (("", "lambda-max"), (", λ_c·η/2", "critical-gradient")):
        for setting in size["edge_settings"]:
            of = [r for r in summary["edges"] if r["setting"] == setting]
            line = []
            for r in of:
                short = "" if r["sound"] == size["edge_seeds"] else f" [{r['sound']}]"
                line.append((plus_minus(r[key]) or "–") + short)
            rows.append([setting + name, *line])
    return table(head, rows)


def layer_table(summary: dict[str, Any]) -> str:
    rows = []
    steps: list[int] = []
    for setting, of in summary["layers"].items():
        steps = of["steps"]
        for i in range(len(of["layers"][0])):
            rows.append([f"{setting}, layer {i + 1}", *[plus_minus(e[i], 2) for e in of["layers"]]])
    return table(["λ_max of the block", *[f"step {s}" for s in steps]], rows)


def method(size: Size, summary: dict[str, Any]) -> str:
    records = ", ".join(str(round(share * size.steps)) for share in RECORDS)
    settings = len(size.settings)
    shrunk = 100 * SETTINGS["FP32 shrunk"][2]
    n = size.seeds
    low, high = wilson_interval(0, n)
    patience, calibration = patience_of(size.steps), summary["calibration"]
    return f"""Networks 64-32-10 (ReLU, softmax) learn the UCI digits: 1500 images, 297 held out,
the same for all. {size.steps} steps of 32 images drawn at random, gradients with momentum 0.9,
a rate that rises linearly over the first half and then stays, so that a run which will diverge does
so at a step of its own, after a time in which that can be foretold. {settings} settings ×
{len(size.rates)} peak rates × {n} seeds; a seed draws the same weights and the same order of images
in every cell.

The operands of every product (weights, layers, gradients of a layer's sums) are rounded to the
format, to nearest if nothing else is said, saturating; *truncated* is toward zero, the masking of
2405.18710. E4M3 and E5M2 have static scales, powers of two that keep 2 for weights, 8 for layers
and 1 for gradients within the format; formats with eight bits of exponent need none. Products
are summed in binary64 and rounded once to binary32; biases, master weights and momentum are
binary32. *FP32 shrunk* multiplies operands by 1 − ln 2/16, {shrunk:.1f}% less, which is what
truncation to three bits takes away on the average: is the shrinking what truncation does?

Measured at steps {records}, on {size.rows} images of the
training part, before the step is made. Three semantics stay apart ([sharpness](../sharpness.md)):

- (a) of the unrounded loss, binary64, at the rounded weights: `lambda-max` (8 steps of Lanczos,
  exact products), `trace` (4 probes), `sam` (ρ = 0.05);
- (b) of the rounded loss: `critical` along the next update (momentum and all),
  `critical-gradient` along minus the gradient, λ_c = 2/η_c, to 5%;
- (c) of the rounded loss: `box`, 8 points of the box with ε = 0.001.

And from the rounded pass: `loss`, `gradient-norm`, `gradient-error` (the rounded gradient less that
of the unrounded loss at the rounded weights, over the latter; norms), `max-logit`, `log-z` (mean),
`logit-sharpness` (closed form, ε = 0.01). Where a setting rounds stochastically, measures round to
nearest. `rate` is the present rate alone, `noise` a random number: what knows nothing.

A run **diverges** at the first of {patience} steps in sequence whose training loss (mean of 10
batches) lies above its value at initialisation or above the least so far + 1 nat; or where it is
not finite. The **gap** is the held-out loss at the end less FP32's of the same seed and rate; a
loss counts as at most its value at initialisation, a diverged run as just that.

Even and odd seeds are two halves: directions and thresholds are chosen on one and judged on the
other, both ways; AUCs count pairs within a half. Pairs are made of **all runs**, of runs of the
**same rate**, or of the same rate **and setting**: a measure that merely grows with the rate passes
the first only. Intervals are 95%: of AUCs by drawing seeds again, 2000 times, the choice of
direction included; of ρ and leads 100 or 200 times, thresholds held; a ± b by Student's t over
seeds, paired; shares by Wilson (0 of {n}: {low:.2f}…{high:.2f}), as if runs were independent, which
those of one seed are not quite. *Least effect*: what a test at 5% finds with 80% power. Of
{calibration["number"]} measures that know nothing, {calibration["inside"]} have an interval with
0.5 in it (divergence, same rate): the intervals are wide enough. There are
{summary["comparisons"]} AUCs here and none is corrected for that."""


def write_page(
    results: Results,
    summary: dict[str, Any],
    page: Path,
    command: str,
    drawn: Sequence[Path],
    section: Callable[[str], str],
) -> None:
    """Method and results; the figures that are drawn are copied beside it, named after it.
    `section`: of the stem of their names, what stands last."""
    size, stem = results.size, page.stem
    page.parent.mkdir(parents=True, exist_ok=True)
    for path in drawn:
        copyfile(path, page.with_name(f"{stem}-{path.name}"))
    checks = "\n".join(
        f"- **{'pass' if c['passed'] else 'FAIL'}** {c['name']}: {c['text']}"
        for c in summary["controls"]
    )
    seconds = summary.get("seconds", "some")
    text = f"""# Sharpness along training

{QUESTION}

## Method

{method(size, summary)}

Made by `{command}` in {seconds} s, {summary.get("processor_seconds", "some")} s of
processors (halfulp {__version__}); the cells of this half are {summary["cell_seconds"]:.0f} s of
these.

## Controls

{checks}

## What diverges

Runs that diverged, of {size.seeds} seeds, at each peak rate; then paired with FP32 by seed.
{when_diverged(summary)}

{outcome_table(summary)}
Rounding as a factor:

{factor_table(summary)}
## What tells a divergence, or a gap, early

The first event is that a run diverges later on; the second, among runs that do not diverge and
whose FP32 twin does not, that the held-out loss ends more than {GAP:g} nats above FP32's. ↑: larger
values have the event more often.

{prediction_tables(summary["predictions"])}![AUC of every measure]({stem}-auc.png)

Spearman's ρ of measure and gap, within a rate, among runs that do not diverge:

{correlation_table(summary)}
## What tells that a divergence is near

At every step recorded: does the run diverge within {round(SOON * size.steps)} steps, or never?
Only values at the same step are compared.

{prediction_tables(summary["imminent"])}
## Lead time

Each measure as a monitor: how far is a value from the median, at the same step, of the other half's
runs that do not diverge (or of those among them with the same rate), in units of their spread (to
the 90% quantile above, 10% below)? The threshold is the distance that
{100 * FALSE_ALARMS:.0f}% of these runs exceed at some time; false alarms on the seeds that are
judged are more, since seeds differ. The lead is the number of steps from the first alarm to the
divergence, the median of those that were announced. Runs with fewer than {LEAST} to be compared
with are left out.

{lead_table(summary)}
![leads and alarms]({stem}-lead.png)

## Along training

![measures along training]({stem}-along.png)

λ_max of each layer's own block, semantics (a), rate {SHOWN_RATE:g}, mean over seeds:

{layer_table(summary)}
![spectral densities]({stem}-spectra.png)

![slices of the loss]({stem}-slice.png)

Both pictures of the slice show the same weights (seed 0 after training, directions normalised by
filters): left the unrounded loss in binary64, right the loss as the format rounds it.

## Critical sharpness

Along the next update and along minus the gradient, beside λ_max, while runs have not diverged; ρ
among runs at the same step and rate, and along each run, mean over runs.

{critical_table(summary)}
## The edge of stability

Full batches of {size.rows} images, no momentum, squared loss, tanh 64-32-32-10,
{size.edge_steps} steps at a constant rate η, {size.edge_seeds} seeds: mean over the second half. 1
is the edge: λ_max, semantics (a), is 2/η; and λ_c, semantics (b), of the rounded loss along minus
its gradient. [k]: only k seeds learned.

{edge_table(summary)}
![λ_max times η/2]({stem}-edge.png)
"""
    text += "\n" + section(stem).strip() + "\n"
    kept = page.read_text(encoding="utf-8").partition(READING) if page.is_file() else ("", "", "")
    page.write_text(text + ("\n" + READING + kept[2] if kept[1] else ""), encoding="utf-8")
