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
# # Number formats in pictures
#
# A floating-point format of 4, 6 or 8 bits has so few values that one can look at all of them.
# This notebook does so, and shows what becomes of a number that is not among them: the rounding
# modes, ties, overflow, stochastic rounding, double rounding, subnormals, and a format without a
# significand. Everything is computed by halfulp, bit for bit; nothing is sketched.
#
# Run the cells from top to bottom; change a format's name or a mode and run them again. It takes
# a few seconds.

# %%
import matplotlib.pyplot as plt
import numpy as np

import halfulp as hu

# The colours of Okabe and Ito (2008), which can be told apart with any colour vision.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "0.55"

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


def staircase(axes, x, y, **style):
    """Draws y over x as a line that is broken wherever it jumps, as a step function does."""
    jumps = np.flatnonzero(np.diff(y)) + 1
    axes.plot(np.insert(x, jumps, x[jumps]), np.insert(y, jumps, np.nan), **style)


# %% [markdown]
# ## All values of a format
#
# `float4_e2m1fn` has 4 bits: a sign, 2 bits of exponent (E2) and 1 bit of fraction (M1). A
# **code** is what is stored, a **value** what it means:
#
# - exponent field e > 0: (1 + fraction) · 2^(e − bias), a *normal* number;
# - exponent field 0: fraction · 2^(1 − bias), without the hidden 1 in front: zero and the
#   *subnormal* numbers.
#
# The **precision** p counts the hidden bit: E2M1 has p = 2.

# %%
e2m1 = hu.format("float4_e2m1fn")
print(f"{e2m1.name}: precision {e2m1.precision}, bias {e2m1.bias}\n")
print("code  sign exponent fraction  value")
for code, value in enumerate(hu.values(e2m1)[:8]):
    bits = f"{code:04b}"
    kind = "zero" if value == 0 else "subnormal" if code < e2m1.least_normal_code else ""
    print(f"{code:4}  {bits[0]:>4} {bits[1:3]:>8} {bits[3:]:>8}  {value:<4g} {kind}")
print("\nCodes 8 to 15 have the sign set: the same values, negative (and a negative zero).")

# %% [markdown]
# Side by side, the formats differ in where they put their values. Within a **binade** (from one
# power of two to the next) the values are evenly spaced, and from one binade to the next the
# spacing doubles: left. On a logarithmic axis every binade looks alike, and one sees how far each
# format reaches: right. More exponent bits buy range, more fraction bits buy density, and at 8
# bits one pays for the one with the other. The fraction bits also buy the subnormals, which
# continue the grid evenly down to zero.

# %%
names = ["float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn", "float8_e4m3fn", "float8_e5m2"]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True)
for row, name in enumerate(names):
    f = hu.format(name)
    values = hu.values(f)
    values = np.unique(values[np.isfinite(values) & (values >= 0)])
    normal = values >= hu.exact_value(f, f.least_normal_code)
    for axes, shown in ((left, values <= 8), (right, values > 0)):
        for colour, chosen in ((BLUE, shown & normal), (ORANGE, shown & ~normal)):
            axes.vlines(values[chosen], row - 0.34, row + 0.34, color=colour, linewidth=1)
left.set_yticks(range(len(names)), names)
left.set_ylim(len(names) - 0.5, -0.5)
left.set(
    ylabel="format",
    xlabel="value, 0 to 8",
    title="evenly spaced within a binade",
    xlim=(-0.15, 8.15),
)
right.set_xscale("log", base=2)
right.set(xlabel="value, logarithmic", title="range")
for axes in (left, right):
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
handles = [plt.Line2D([], [], color=c, linewidth=3) for c in (BLUE, ORANGE)]
figure.legend(handles, ["normal", "zero and subnormal"], loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# ## The ulp
#
# The spacing of the values around x is the **ulp** (unit in the last place): 2^(⌊log2|x|⌋−p+1),
# and below the least normal number the constant 2^(emin−p+1), emin being the exponent of that
# number. Rounding to nearest errs by at most half an ulp (hence this package's name). Relative to
# x, that is at most 2^−p among the normal numbers, and more and more below them: right, where the
# area is the error that E4M3 really makes.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), sharex=True)
x = 2 ** np.linspace(-12, 3, 6001)
for name, colour in (("float8_e5m2", ORANGE), ("float8_e4m3fn", BLUE)):
    f = hu.format(name)
    exponent = np.maximum(np.floor(np.log2(x)), f.emin)
    ulp = 2.0 ** (exponent - f.precision + 1)
    error = np.abs(hu.round(x, f) - x) / x
    staircase(left, x, ulp, color=colour, linewidth=2.4, label=name)
    if colour == BLUE:
        right.fill_between(x, error, 2**-9, color=colour, alpha=0.25, linewidth=0)
    right.plot(x, ulp / 2 / x, color=colour, linewidth=1.6)
    right.axhline(2.0**-f.precision, color=colour, linewidth=0.8, linestyle=":")
    right.text(2**3.2, 2.0**-f.precision, rf"$2^{{-{f.precision}}}$", color=colour, va="center")
left.set_xscale("log", base=2)
left.set_yscale("log", base=2)
right.set_yscale("log", base=2)
right.set_ylim(2**-7, 4)
left.set(xlabel="x", ylabel="ulp of x", title="absolute: doubles with each binade")
right.set(xlabel="x", ylabel="distance / x", title="relative: half an ulp (lines), error (area)")
left.legend()
plt.show()

# %% [markdown]
# ## Rounding modes
#
# A number between two values of the format must become one of them, and the **rounding mode**
# says which. Below, a ramp is rounded to E2M1 under each deterministic mode; the dashed line is
# the ramp itself. Dots mark the **ties**, which lie exactly halfway, on the side they fall to:
#
# - `nearest-even`, `nearest-away`, `nearest-zero`: the nearer value. They differ in ties alone,
#   which go to the value with the even code, away from zero, or towards it;
# - `toward-zero` (truncation), `away`, `up`, `down`: always in that direction;
# - `odd`: whatever is inexact takes the neighbour with the odd code. It never reaches 0, 1 or 2
#   unless it was there before, and so remembers that something was lost. What that is good for,
#   see below.

# %%
modes = ["nearest-even", "nearest-away", "nearest-zero", "odd", "toward-zero", "away", "up", "down"]
ramp = np.linspace(-2.4, 2.4, 4801)
positive = hu.values(e2m1)[:6]
ties = (positive[1:] + positive[:-1]) / 2
ties = np.concatenate([-ties, ties])
ties = ties[np.abs(ties) < ramp[-1]]
figure, grid = plt.subplots(2, 4, figsize=(9, 6.6), sharex=True, sharey=True)
for axes, mode in zip(grid.flat, modes, strict=True):
    axes.plot(ramp, ramp, color=GREY, linewidth=1, linestyle="--")
    staircase(axes, ramp, hu.round(ramp, e2m1, mode), color=BLUE, linewidth=2.4)
    axes.plot(ties, hu.round(ties, e2m1, mode), "o", color=RED, markersize=4)
    axes.set_title(mode)
    axes.set_aspect("equal")
    axes.set_xticks(range(-2, 3))
    axes.set_yticks(range(-3, 4))
figure.supxlabel("x")
figure.supylabel("x rounded to float4_e2m1fn")
plt.show()

# %% [markdown]
# Even and odd refer to the **code**, not to the value: 2.5 lies between 2 (code 4) and 3 (code
# 5), and goes to 2; 5 lies between 4 (code 6) and 6 (code 7), and goes to 4. Codes of neighbours
# differ by one, so exactly one of the two is even, and over many ties no direction is favoured.

# %%
ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
print("tie            ", *(f"{t:5g}" for t in ties))
for mode in modes[:3]:
    print(f"{mode:15}", *(f"{y:5g}" for y in hu.round(ties, e2m1, mode)))
print("code, even mode", *(f"{c:5}" for c in hu.encode(ties, e2m1)))

# %% [markdown]
# ## Too large: infinity, NaN, or saturation
#
# A result **overflows** if it would be above the largest value had the format no end. So 464 does
# not overflow in `float8_e4m3fn`: it is a tie between the largest value 448 and 480, which comes
# next if the grid goes on, and 448 is the even one. In `float8_e5m2` the corresponding tie is
# 61440, whose even neighbour is beyond the end, so it does overflow. What happens beyond is a
# policy:
#
# - `ieee` gives infinity where the mode rounds outward, as nearest modes do. A format without
#   infinity gives NaN (E4M3FN), and one without NaN too its largest value (E2M1);
# - `saturate` gives the largest value, even for an operand that is infinite; `saturate-propagate`
#   lets infinity through (here as NaN, E4M3FN having no infinity).
#
# Truncation never rounds outward, so under `ieee` it stops at the largest value.

# %%
cases = (
    ("float8_e5m2", "infinity", np.linspace(36000, 84000, 4001)),
    ("float8_e4m3fn", "NaN", np.linspace(300, 620, 4001)),
)
figure, panels = plt.subplots(1, 2, figsize=(11, 4))
for axes, (name, special, x) in zip(panels, cases, strict=True):
    f = hu.format(name)
    largest = hu.exact_value(f, f.largest_code)
    top = 1.28 * largest  # where what is not finite is drawn
    ieee = hu.round(x, f)
    saturated = hu.round(x, f, overflow="saturate")
    axes.axhspan(1.2 * largest, 1.36 * largest, color="0.94")
    axes.text(x[0], top, f" {special}", va="center", color="0.3")
    below = x[x < 1.19 * largest]
    axes.plot(below, below, color=GREY, linewidth=1, linestyle="--", label="x")
    staircase(axes, x, saturated, color=ORANGE, linewidth=5, label="saturate")
    finite = np.where(np.isfinite(ieee), ieee, top)
    staircase(axes, x, finite, color=BLUE, linewidth=2, label="ieee, nearest-even")
    limit = largest + 2.0 ** (f.emax - f.precision)  # half an ulp above the largest value
    axes.axvline(limit, color=RED, linewidth=1, linestyle=":")
    axes.text(limit, 0.66 * largest, f"{limit:g} ", color=RED, ha="right")
    axes.set(xlabel="x", ylabel=f"x rounded to {name}", title=f"{name}: largest value {largest:g}")
    axes.set_ylim(0.62 * largest, 1.36 * largest)
panels[0].legend(loc="lower right")
plt.show()

for policy in ("ieee", "saturate", "saturate-propagate"):
    print(
        f"{policy:18}",
        *hu.round([464.0, 465.0, 1e9, -1e9, np.inf], "float8_e4m3fn", "nearest-even", policy),
    )

# %% [markdown]
# ## Stochastic rounding
#
# Draw a random number and round up or down with odds given by the distance: for a positive x that
# lies the share f of an ulp above the value below it, the mode `stochastic` takes the value above
# with probability f. Then
#
# - the mean is x itself: no bias, where nearest rounding would always err the same way;
# - the price is a variance of f (1 − f) ulp², a quarter of an ulp² halfway.
#
# The random bits are a function of (seed, step, tensor, index), so results repeat on any machine.
# Each point below is the mean or the variance of 20,000 roundings, the bar four standard errors
# of that estimate.

# %%
draws, ulp = 20_000, 0.125
f = np.linspace(0, 1, 25)
x = 1 + f * ulp  # between 1 and 1.125, neighbours in float8_e4m3fn
rounded = hu.round(np.repeat(x[:, None], draws, axis=1), "float8_e4m3fn", "stochastic", seed=1)
share = (rounded > 1).mean(axis=1)
law = f * (1 - f)
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8))
error = np.sqrt(law / draws)
fine = np.linspace(0, 1, 1001)
nearest = (hu.round(1 + fine * ulp, "float8_e4m3fn") - 1) / ulp
staircase(left, fine, nearest, color=ORANGE, linewidth=2.4, label="nearest-even")
left.plot(fine, fine, color=GREY, label="law: f")
left.errorbar(f, share, 4 * error, fmt="o", color=BLUE, markersize=4, label="stochastic")
left.set(xlabel="f: x = 1 + f ulp", ylabel="share rounded up", title="the mean follows x")
right.plot(fine, fine * (1 - fine), color=GREY)
spread = np.sqrt(law * (1 - 4 * law) / draws)  # of the variance of a two-valued variable
right.errorbar(f, rounded.var(axis=1) / ulp**2, 4 * spread, fmt="o", color=BLUE, markersize=4)
right.set(
    xlabel="f: x = 1 + f ulp", ylabel="variance / ulp²", title="the variance is f (1 − f) ulp²"
)
left.legend()
plt.show()
assert np.all(np.abs(share - f) <= 5 * error + 1e-12)

# %% [markdown]
# Why anyone wants this: add 0.01 again and again, and keep the sum in 8 bits. As soon as 0.01 is
# less than half an ulp of the sum, nearest rounding returns the sum unchanged, for ever: it
# **stagnates**. Stochastic rounding lets each summand through with a small probability, and on
# average the sum is right. So it is with small updates of a weight that is kept in a narrow
# format.

# %%
steps, runs = 300, 40
sums = {"nearest-even": np.zeros((steps + 1, 1)), "stochastic": np.zeros((steps + 1, runs))}
for mode, total in sums.items():
    for k in range(steps):
        total[k + 1] = hu.add(total[k], 0.01, "float8_e4m3fn", rounding=mode, seed=2, step=k)
figure, axes = plt.subplots(figsize=(7.5, 4))
count = np.arange(steps + 1)
axes.plot(count, sums["stochastic"], color=BLUE, alpha=0.15, linewidth=0.8)
axes.plot(
    count,
    sums["stochastic"].mean(axis=1),
    color=BLUE,
    linewidth=2.4,
    label="stochastic, mean of 40",
)
axes.plot(count, 0.01 * count, color="black", linestyle="--", label="exact")
axes.plot(count, sums["nearest-even"], color=ORANGE, linewidth=2.4, label="nearest-even")
axes.set(xlabel="summands", ylabel="sum kept in float8_e4m3fn", title="adding 0.01 again and again")
axes.legend()
plt.show()

# %% [markdown]
# ## Double rounding
#
# 1.125 + 2^−40 lies between 1 and 1.25, neighbours in `float8_e5m2`, just above the middle:
# rounded once, it is 1.25. Many programs go through float32 first. But float32 cannot hold the
# 2^−40, so it rounds to exactly 1.125: a tie, which goes to 1. Two correct roundings, and a wrong
# result.

# %%
x = 1.125 + 2.0**-40
through = hu.round(x, "binary32")
print("rounded once:    ", hu.round(x, "float8_e5m2"))
print("through binary32:", hu.round(through, "float8_e5m2"), f"(binary32 gives {through!r})")
print("through binary32, odd:", hu.round(hu.round(x, "binary32", "odd"), "float8_e5m2"))

# %% [markdown]
# How often does it happen to random numbers? An intermediate format with d more bits than the
# target collapses a share 2^−d of all numbers onto ties, and half of these fall to the wrong
# side: 2^−(d+1). With bfloat16 before E4M3 (d = 4) that is 3% of all numbers, with float32 one in
# two million.
#
# The cure is the mode `odd` for the first rounding: an inexact result ends in an odd bit, so with
# two more bits than the target (d ≥ 2) it is never a tie and never a value of the target, and the
# second rounding sees on which side x lay. With one more bit (d = 1) the odd values are the ties
# themselves, and half of all results are wrong.

# %%
target = hu.format("float8_e4m3fn")
x = np.random.default_rng(0).uniform(1, 2, 400_000)
once = hu.round(x, target)
extra = np.arange(1, 9)
wrong = {"nearest-even": [], "odd": []}
for mode, shares in wrong.items():
    for d in extra:
        middle = hu.Format(exponent_bits=8, precision=target.precision + int(d))
        shares.append(np.mean(hu.round(hu.round(x, middle, mode), target) != once))
figure, axes = plt.subplots(figsize=(7.5, 3.8))
axes.plot(extra, 2.0 ** -(extra + 1), color=GREY, label="law: $2^{-(d+1)}$")
axes.plot(extra, wrong["nearest-even"], "o", color=ORANGE, label="first rounding nearest-even")
axes.plot(extra, wrong["odd"], "s", color=BLUE, label="first rounding odd")
axes.set_yscale("symlog", base=2, linthresh=2**-10, linscale=0.6)
axes.set_ylim(-(2**-12), 1)
axes.set_yticks([0, *(2.0**-k for k in range(10, -1, -1))])
axes.set(xlabel="d: extra bits of the intermediate format", ylabel="share of wrong results")
axes.legend()
plt.show()
assert not any(wrong["odd"][1:])

# %% [markdown]
# ## Subnormals
#
# Without subnormal numbers there would be a hole around zero: the least normal number 0.25 of
# `float6_e3m2fn` has its neighbours above at a distance of 0.0625, but zero below at 0.25, and a
# difference of two unequal numbers could round to zero. The subnormals fill the hole evenly. Some
# hardware leaves them out; in halfulp that is another format, `subnormals=False`.

# %%
with_them = hu.format("float6_e3m2fn")
without = hu.Format(exponent_bits=3, precision=3, nan="none", inf="none", subnormals=False)
x = np.linspace(0, 0.6, 3001)
figure, axes = plt.subplots(figsize=(7.5, 4))
axes.plot(x, x, color=GREY, linewidth=1, linestyle="--", label="x")
staircase(axes, x, hu.round(x, without), color=ORANGE, linewidth=5, label="without subnormals")
staircase(axes, x, hu.round(x, with_them), color=BLUE, linewidth=2, label="float6_e3m2fn")
axes.axvline(0.25, color=RED, linewidth=1, linestyle=":")
axes.text(0.255, 0.02, "least normal number", color=RED)
axes.set(xlabel="x", ylabel="x rounded to nearest", title="with and without subnormals")
axes.legend(loc="upper left")
plt.show()
print(without.canonical_name)

# %% [markdown]
# ## A format that is all exponent
#
# `float8_e8m0fnu` (E8M0) is the other extreme: 8 bits of exponent, no fraction, no sign, no zero,
# no infinity. Its values are the powers of two from 2^−127 to 2^127, and one NaN. Nobody computes
# with it: it holds the **scale** that a block of 32 narrow numbers shares in the MX formats.
#
# At precision 1, ties still go to the even code, and that is the exponent's last bit: the tie 1.5
# becomes 2 (code 128) rather than 1 (code 127), but the tie 3 becomes 2 as well, and 6 becomes 8.
# What is too small becomes the least value, as there is no zero.

# %%
e8m0 = hu.format("float8_e8m0fnu")
for x in (1.0, 1.4, 1.5, 3.0, 6.0, 0.0, 1e39):
    value = hu.round(x, e8m0)
    print(f"{x:6g} -> {value:<12g} code {hu.encode(x, e8m0)}")

block = np.random.default_rng(3).normal(0, 0.02, 32)
exponent = np.floor(np.log2(np.abs(block).max())) - e2m1.emax  # the rule `floor` of the MX formats
scale = hu.round(2.0**exponent, e8m0)  # exact: a value of E8M0
scaled = hu.round(block / scale, e2m1, overflow="saturate") * scale
alone = hu.round(block, e2m1)
figure, axes = plt.subplots(figsize=(9, 3.8))
place = np.arange(32)
axes.vlines(place, np.minimum(block, scaled), np.maximum(block, scaled), color="0.8", linewidth=2)
axes.plot(place, block, "o", color="black", markersize=4, label="block of 32 numbers")
axes.plot(
    place,
    scaled,
    "D",
    color=BLUE,
    markersize=5,
    markerfacecolor="none",
    label=f"E2M1 × $2^{{{exponent:g}}}$",
)
axes.plot(place, alone, "_", color=ORANGE, markersize=9, markeredgewidth=2, label="E2M1 alone")
axes.set(xlabel="index in the block", ylabel="value", title="what a shared scale is for")
figure.legend(loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# ## Where to go from here
#
# - `hu.formats()` lists the named formats; `hu.Format(exponent_bits=..., precision=..., ...)`
#   makes any other; `halfulp formats` prints the table on the command line.
# - `hu.add`, `sub`, `mul`, `div`, `sqrt`, `fma` and `hu.matmul` compute in any of them, with
#   flags.
# - `docs/definitions.md` says what every bit must be.
# - `02_first_study.py` asks what such a format does to training.
