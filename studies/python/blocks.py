"""The tables beside the main one, as text: what the HTML report and the Markdown page both show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cells import DIVERGED
from .drawing import percent
from .exponents import formats_of, shown_roles
from .metrics import SHARES, SPIKE_LEAST, SPIKE_SIGMAS, SPIKE_WINDOW, Spread

if TYPE_CHECKING:
    from .results import Sweep


@dataclass(frozen=True)
class Block:
    """A table under a heading. `rows` has one text per heading."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str


def data_baselines(sweep: "Sweep") -> Block | None:
    """Held-out losses beside those of models of the data; None for data without such models."""
    names = list(dict.fromkeys(name for row in sweep.details for name in row.baselines))
    if not names:
        return None
    rows = [
        [name, "", f"{next(r.baselines[name] for r in sweep.details if name in r.baselines):.4f}"]
        for name in names
    ]
    for row, summary in zip(sweep.details, sweep.summaries, strict=True):
        rate = "–" if summary.best_rate is None else f"{summary.best_rate:g}"
        rows.append([row.setting, rate, _range(row.loss, "{:.4f}")])
    return Block(
        "Models of the data",
        ("model or policy", "at rate", "held-out loss / nats"),
        rows,
        "Mean cross-entropy of the next character on what is held out. Unigram and bigram: counts "
        "of characters and of pairs of them in the training part, plus one. Policies: mean and "
        "range over the seeds, at the rate whose mean over all seeds is the least (so the seeds "
        "have chosen their rate themselves).",
    )


def shares(sweep: "Sweep") -> Block | None:
    """What rounding did to the tensors of each role."""
    rows = [row for row in sweep.details if row.roles]
    if not rows:
        return None
    roles = shown_roles(formats_of(sweep, row.setting) for row in rows)
    text = [
        [
            row.setting,
            *(
                " / ".join(percent(row.roles[role].share(name)) for name in SHARES)
                if role in row.roles
                else "–"
                for role in roles
            ),
        ]
        for row in rows
    ]
    return Block(
        "Overflow, underflow, flush to zero",
        ("policy", *roles),
        text,
        "Overflow / underflow / rounded to zero, as shares of the finite inputs that are not zero, "
        "over all observed steps and all runs. Overflow and underflow are IEEE 754's flags, "
        "tininess detected before rounding; overflow also counts where the policy saturates."
        + (
            " Of accumulation only sums that are not finite are counted, as overflow, of all sums."
            if "accumulation" in roles
            else ""
        ),
    )


def frozen(sweep: "Sweep") -> Block | None:
    """Weights that an update did not move, beside the two laws."""
    rows = [
        [row.setting, *(percent(x) for x in (own.frozen, own.stagnation_law, own.adam_law))]
        for row in sweep.details
        if (own := row.frozen) is not None
    ]
    if not rows:
        return None
    return Block(
        "Frozen weights",
        ("policy", "frozen", "|Δw| < 2^-(M+2) |w|", "|w| > 2^(M+2) η"),
        rows,
        "Shares of the weights whose update in binary32 is not zero, over all observed steps and "
        "runs: those that rounding to the master format left where they were; those of which the "
        "stagnation law says so, M being the format's fraction bits; and those of which the law "
        "says so with Adam's typical step, the learning rate η of that step.",
    )


def spikes(sweep: "Sweep") -> Block | None:
    """Spike scores of the training loss and of the gradient norm."""
    rows = [
        [row.setting, _range(row.loss_spikes, "{:.2%}"), _range(row.gradient_spikes, "{:.2%}")]
        for row in sweep.details
        if row.loss_spikes or row.gradient_spikes
    ]
    if not rows:
        return None
    return Block(
        "Spikes",
        ("policy", "training loss", "gradient norm"),
        rows,
        f"Spike score of OLMo 2 (arXiv 2501.00656): share of the steps whose value lies at least "
        f"{SPIKE_SIGMAS:g} standard deviations from the mean of the last {SPIKE_WINDOW:,} before "
        f"it. A variant for short runs: of as many as there are, from {SPIKE_LEAST} on. Mean over "
        "all runs, with their range.",
    )


def speed(sweep: "Sweep") -> Block | None:
    """Time of a step."""
    rows = [
        [row.setting, f"{own.milliseconds:.3g}", f"{own.items_per_second:,.0f}", str(own.n)]
        for row in sweep.details
        if (own := row.throughput) is not None
    ]
    if not rows:
        return None
    item = next(row.throughput.item for row in sweep.details if row.throughput)
    return Block(
        "Speed",
        ("policy", "ms per step", f"{item} per second", "runs"),
        rows,
        "Median over runs, training steps alone, of emulated arithmetic on a processor that other "
        "cells of the sweep shared: it says what a study costs, nothing of hardware.",
    )


def gradients(sweep: "Sweep") -> Block | None:
    """Agreement of the gradients with those of FP32, by parameter."""
    rows = [row for row in sweep.details if row.gradients]
    if not rows:
        return None
    found = {(row.setting, own.parameter): own for row in rows for own in row.gradients}
    parameters = dict.fromkeys(parameter for _, parameter in found)
    text = []
    for parameter in parameters:
        own = [found.get((row.setting, parameter)) for row in rows]
        text.append(
            [parameter, *(f"{a.cosine:.4f} / {a.relative_error:.2g}" if a else "–" for a in own)]
        )
    return Block(
        "Gradients against FP32",
        ("parameter", *(row.setting for row in rows)),
        text,
        "Cosine / relative error ‖g − r‖/‖r‖ of the gradient g to that of FP32, r, at the same "
        "master weights and batch: means over all observed steps and runs in which they are "
        "defined. First row: the whole gradient.",
    )


def divergences(sweep: "Sweep") -> Block:
    """Divergences at each rate, with Wilson's intervals."""
    rows = [
        [
            row.setting,
            *(f"{s.count}/{s.n} ({100 * s.low:.0f}–{100 * s.high:.0f}%)" for s in row.divergences),
        ]
        for row in sweep.summaries
    ]
    return Block(
        "Divergences",
        ("policy", *(f"rate {rate:g}" for rate in sweep.plan.rates)),
        rows,
        "Runs that diverged, of the finished seeds, at each learning rate, with Wilson's 95% "
        "interval of the share. Seeds at one rate are independent draws; the rates of a policy are "
        "not, so they are not pooled.",
    )


def diverged_runs(sweep: "Sweep") -> Block | None:
    """Each run of the grid that diverged."""
    rows = [
        [
            c.policy,
            f"{c.learning_rate:g}",
            str(c.seed),
            str(c.attributes.get("diverged_step", "")),
            f"{c.metrics['train_loss'][-1]:.4g}" if c.metrics["train_loss"].size else "",
        ]
        for c in sweep.grid
        if c.outcome == DIVERGED
    ]
    headings = ("policy", "learning rate", "seed", "at step", "last training loss / nats")
    return Block("Runs that diverged", headings, rows, "") if rows else None


INSIDE: tuple[Callable[["Sweep"], Block | None], ...] = (shares, frozen, gradients, spikes, speed)


def _range(spread: Spread | None, form: str) -> str:
    """Mean and range as text; the mean alone of a single run."""
    if spread is None:
        return "–"
    mean, low, high = (form.format(x) for x in (spread.mean, spread.low, spread.high))
    return f"{mean} ({low}–{high})" if spread.n > 1 else mean
