# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A first study: from a sweep to a figure
#
# What does a narrow format cost in training? A single pair of runs cannot say: losses differ from
# one random seed to the next by as much as many formats cost. This notebook runs a **sweep**,
# which is small but has what a study needs: a baseline, several learning rates, several seeds,
# pairs, and controls. It takes some seconds on a laptop.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import halfulp as hu

BLACK, ORANGE, GREY = "black", "#E69F00", "0.6"  # told apart with any colour vision
plt.rcParams.update(
    {
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "0.92",
        "legend.frameon": False,
    }
)

# %% [markdown]
# ## The sweep
#
# A sweep is a TOML file or, as here, a dict of the same shape (`docs/cells.md` has every key).
# Each combination of the **axes** is a **cell**: one training run of a small network on
# handwritten digits.
#
# The question is about the **master weights**, which the optimiser keeps and to which it adds its
# updates. The policy `e4m3-master` keeps them in 8 bits, rounded to nearest; every other number
# stays in binary32. An update of less than half an ulp of its weight is then rounded away, as in
# the sum of `01_formats.py` that stagnates.

# %%
spec = {
    "name": "first study",
    "question": "What does it cost to keep the weights in 8 bits?",
    "baseline": "fp32",
    "expect_broken": ["e4m3-master"],
    "cell": {"training": {"steps": 100, "evaluate_every": 10}},
    "axes": {
        "precision": ["fp32", "e4m3-master"],
        "optimizer.learning_rate": [1e-3, 3e-3],
        "training.seed": [0, 1],
    },
    "precision": {
        "fp32": {},
        "e4m3-master": {"master": {"format": "float8_e4m3fn"}},
    },
    "control": [
        {"name": "plain", "cell": {"training": {"steps": 4}}},
        {
            "name": "emulated",
            "cell": {"training": {"steps": 4}, "precision": {"path": "general"}},
            "expect": "equal",
            "to": "plain",
        },
        {
            "name": "one bit flipped",
            "cell": {
                "training": {"steps": 4},
                "precision": {"path": "general"},
                "fault": {"flip_rounding": 26000},
            },
            "expect": "different",
            "to": "plain",
        },
    ],
}

# %% [markdown]
# `hu.sweep` runs the cells in processes of their own and keeps each as a file in a folder.
# Finished files are the only state: after an interruption the same call goes on, and a second
# call returns at once. Here the folder is temporary; a real study gets a lasting one. From a
# shell, the same is `halfulp sweep SPEC.toml --out DIR`.

# %%
folder = Path(tempfile.mkdtemp(prefix="halfulp-first-study-"))
study = hu.sweep(spec, folder, progress=False)
print(study, "in", folder)

# %% [markdown]
# ## The runs
#
# `study.grid` has the cells of the axes, each with its parameters, its outcome, and what was
# measured. First look at every run, before any statistics. A loss is the mean cross-entropy in
# nats on 360 held-out images; guessing costs ln 10 = 2.3.

# %%
rates, seeds = study.plan.rates, study.plan.seeds
policies = {"fp32": (BLACK, "o"), "e4m3-master": (ORANGE, "s")}
cells = {(c.parameters["precision"], c.learning_rate, c.seed): c for c in study.grid}

figure, panels = plt.subplots(1, len(rates), figsize=(10, 3.8), sharey=True)
for axes, rate in zip(panels, rates, strict=True):
    for policy, (colour, marker) in policies.items():
        for seed in seeds:
            metrics = cells[policy, rate, seed].metrics
            step = np.append(0, metrics["eval_step"])
            loss = np.append(metrics["initial_eval_loss"], metrics["eval_loss"])
            style = {"color": colour, "marker": marker, "markersize": 4, "markevery": (seed, 2)}
            label = policy if seed == seeds[0] else None
            axes.plot(step, loss, linestyle="-" if seed == 0 else "--", label=label, **style)
    axes.axhline(np.log(10), color=GREY, linewidth=1, linestyle=":")
    axes.set_yscale("log")
    axes.set_yticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
    axes.minorticks_off()
    axes.set(xlabel="training step", title=f"learning rate {rate:g}")
panels[0].set_ylabel("held-out loss / nats")
panels[0].text(100, np.log(10) * 0.97, "guessing", color="0.4", ha="right", va="top")
panels[0].legend(loc="lower left", title="solid: seed 0, dashed: seed 1")
plt.show()

# %% [markdown]
# At the lower rate the 8-bit weights learn nothing: nearly every update is less than half an ulp.
# At the higher rate larger updates get through, and it learns, slowly. So the cost of a format is
# no single number: it depends on the learning rate, which must be an axis of the study. Had only
# one rate been tried, and it the wrong one for either policy, the comparison would have said
# something about the rate.
#
# ## Paired gaps
#
# A seed decides three things, by separate random streams: the initial weights, the order of the
# images, and the bits of stochastic rounding. Runs of the same seed and rate differ in the policy
# alone, so they are a **pair**, and one looks at the difference within it, the **gap**. Much of
# what the seed does is common to both runs and cancels. The seeds are what was repeated, so they
# are what the interval counts: for n gaps their mean ± t · s / √n, with their standard deviation
# s and Student's t for n − 1 degrees of freedom.

# %%
losses = {key: cell.metrics["eval_loss"][-1] for key, cell in cells.items()}
t = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}[
    len(seeds)
]  # 97.5% quantiles, n - 1 degrees of freedom

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
for i, rate in enumerate(rates):
    place = i + 0.3 * (np.arange(len(seeds)) - 0.5)
    pair = {p: np.array([losses[p, rate, s] for s in seeds]) for p in policies}
    left.vlines(place, pair["fp32"], pair["e4m3-master"], color="0.8", linewidth=3)
    for policy, (colour, marker) in policies.items():
        label = policy if i == 0 else None
        left.plot(place, pair[policy], marker, color=colour, markersize=7, label=label)
    for x, seed in zip(place, seeds, strict=True):
        left.text(
            x + 0.04, 0.62 * pair["e4m3-master"].max(), f"seed {seed}", color="0.4", fontsize=9
        )

    gap = pair["e4m3-master"] - pair["fp32"]
    half = t * gap.std(ddof=1) / np.sqrt(len(seeds))
    right.plot(place, gap, "D", color=ORANGE, label="gap of one seed" if i == 0 else None)
    right.errorbar(
        i,
        gap.mean(),
        half,
        fmt="_",
        color=BLACK,
        capsize=5,
        label="mean, 95% interval" if i == 0 else None,
    )
    print(f"rate {rate:g}: gaps", gap.round(4), f"mean {gap.mean():.3f} ± {half:.3f}")
    for policy in policies:
        print(f"    {policy:12} losses", pair[policy].round(4))
left.set_ylim(bottom=0)
left.set(ylabel="last held-out loss / nats", title="pairs: one seed, two policies")
left.legend()
right.axhline(0, color=BLACK, linewidth=1)
right.set(ylabel="loss gap to fp32 / nats (up: worse)", title="what is left within a pair")
right.legend()
for axes in (left, right):
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_xlim(-0.5, len(rates) - 0.5)
    axes.set_xlabel("learning rate")
plt.show()

# %% [markdown]
# The gaps of the two seeds lie closer together than the losses of the two seeds do. Even so, with
# two seeds t is 12.7, and only a large gap can be told from none; with three it is 4.3, with five
# 2.8. A study that looks for small effects needs more seeds before it needs anything else.
#
# ## The table
#
# `study.table()` has these numbers for a whole sweep, and chooses rates so that no run is judged
# at a rate that it chose itself. What it cannot cure, it says below itself: read the notes.

# %%
print(study.table())

# %% [markdown]
# ## Controls
#
# A surprising result may be a fault of the tool. The last lines of the table are **controls**,
# which say whether it can be believed:
#
# - *emulated: equals plain*. FP32 through the general emulation path gives every metric and every
#   weight that plain FP32 gives, bit for bit. So the emulation itself costs nothing in learning;
# - *one bit flipped: differs from plain*. The same with one wrong bit in one rounding must show.
#   A check that cannot fail proves nothing;
# - *known to break*. A policy of which the harm is known must come out as harmful. If the sweep
#   could not see that, its silence about other policies would mean nothing.
#
# A failed control makes `halfulp sweep` end with exit code 1.

# %%
for check in study.check_controls():
    print(f"{check.word:8} {check.name}")

# %% [markdown]
# ## The figures of a sweep
#
# `study.plot()` draws the overview of any sweep: loss curves at the baseline's best rate, and the
# last loss against the rate, with the seeds as a band. `study.report()` writes everything as one
# HTML file.

# %%
study.plot(folder / "overview.png")

# %% [markdown]
# ## Where to go from here
#
# - Put `"rounding": "stochastic"` beside the format of `master`: do the updates survive?
# - `studies/quickstart.toml` has eight policies, five rates and three seeds; `./dev quickstart`
#   runs it.
# - `docs/cells.md` has every key of a sweep, and the formula behind every number of the table.
