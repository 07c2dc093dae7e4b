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
# # What a matrix unit does to a long sum
#
# The matrix instructions of a GPU do not add as IEEE 754 does. They line up a block of products
# on the largest one, **cut** what sticks out below, and add the rest exactly. With FP8 operands a
# Hopper chip keeps 13 bits below the largest exponent. This notebook shows what that costs, with
# models that give the bits of the chips, and needs no GPU.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np

import halfulp as hu

BLACK, ORANGE, BLUE, GREEN = "black", "#E69F00", "#0072B2", "#009E73"
PINK, SKY = "#CC79A7", "#56B4E9"
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

PLAIN = hu.Model("hopper.wgmma.e4m3.f32")
PARTS = hu.Model("hopper.wgmma.e4m3.f32", promote_every=128)

# %% [markdown]
# ## One block
#
# Seven products of E4M3 numbers and the running sum c. Each row is a number, each square one of
# its bits; M is the largest exponent, and everything to the right of 2^(M−13) is dropped before
# the addition. Look at the small products: they lose most of what they are, always toward zero.

# %%
rng = np.random.default_rng(3)
x = np.asarray(hu.round(rng.random(7) * 2.0 ** rng.integers(-3, 3, 7), "float8_e4m3fn"))
y = np.asarray(hu.round(rng.random(7) * 2.0 ** rng.integers(-3, 3, 7), "float8_e4m3fn"))
c = 213.84375
terms = [c, *(x * y)]
names = ["c", *(f"a{i}·b{i}" for i in range(7))]
top = math.floor(math.log2(c))
last = top - 13

figure, axes = plt.subplots(figsize=(10, 3.9))
for row, term in enumerate(terms):
    ones = [place for place in range(top, -25, -1) if math.floor(term * 2.0**-place) % 2]
    for place in range(ones[0], ones[-1] - 1, -1):
        kept = place >= last
        axes.text(-place, row, int(place in ones), ha="center", va="center", fontsize=9,
                  color="white" if kept else BLACK)  # fmt: skip
        axes.barh(row, 0.92, left=-place - 0.46, height=0.8, color=BLUE if kept else ORANGE)
axes.axvline(-last + 0.5, color=BLACK, linewidth=1.5)
axes.text(-last + 0.7, -0.75, f"cut: below $2^{{M-13}} = 2^{{{last}}}$", va="center")
axes.set_yticks(range(len(terms)), names)
axes.invert_yaxis()
axes.set_ylim(len(terms) - 0.4, -1.2)
axes.set_xticks(range(-top, 19, 2), [f"$2^{{{-p}}}$" for p in range(-top, 19, 2)])
axes.set(xlabel="place of the bit", ylabel="term")
axes.grid(False)
plt.show()

exact = sum(terms)
d = hu.matmul([x], y[:, None], [[c]], model=PLAIN)[0, 0]
print(f"exact {float(exact)!r}, unit {float(d)!r}, lost {exact - d:.4g}")

# %% [markdown]
# ## Errors grow with K
#
# Left: numbers between 0 and 1, where every cut goes the same way, so the sum comes out too small;
# the bias of the plain FP8 sum passes 6 % at K = 4096 (that of AMX is noise about zero). The dashed
# line is the prediction: every product p loses p mod 2^(M−13), and M follows the growing sum.
#
# Right: normal numbers, where the cuts of products go up and down and mostly cancel. Cutting the
# chain every 128 products and adding the parts in binary32 (pink) takes the growth away. Look at
# f16 too: Volta starts worst and ends best. The newer chips keep one or two more bits inside a
# block, and then cut each block's **sum**, always toward zero; that does not cancel.

# %%
UNITS = {
    "FP8, Hopper wgmma": (PLAIN, "float8_e4m3fn", ORANGE, "o"),
    "the same, parts of 128": (PARTS, "float8_e4m3fn", PINK, "s"),
    "f16, Volta": ("volta.mma.f16.f32", "binary16", GREEN, "^"),
    "f16, Ampere": ("ampere.mma.f16.f32", "binary16", SKY, "v"),
    "f16, Hopper": ("hopper.wgmma.f16.f32", "binary16", BLUE, "D"),
    "bf16, x86 AMX": ("x86.amx.bf16.f32", "bfloat16", BLACK, "x"),
}
LENGTHS = 2 ** np.arange(6, 13)


def operands(uniform, form, k, seed=0, side=32):
    rng = np.random.default_rng([seed, k, uniform])
    draw = rng.random if uniform else rng.standard_normal
    return (np.asarray(hu.round(draw(s), form)) for s in ((side, k), (k, side)))


def product_errors(uniform, form, unit, k):
    """Errors of all results, and the exact results."""
    a, b = operands(uniform, form, k)
    exact = hu.matmul(a, b, order="exact", accumulate="binary64")
    return hu.matmul(a, b, model=unit) - exact, exact


def predicted(k, fraction_bits=13, block=32):
    """The mean chain: what is left of a mean sum of k products of uniform numbers."""
    a, b = operands(True, "float8_e4m3fn", 64, seed=1)
    p = (a[:, None, :] * b.T[None]).ravel()
    total = 0.0
    for _ in range(0, k, block):
        exponent = max(math.frexp(total)[1] - 1, -2)
        unit = 2.0 ** (exponent - fraction_bits)
        total += block * np.mean(np.floor(p / unit) * unit)
    return 1 - total / (k * p.mean())


figure, panels = plt.subplots(1, 2, figsize=(11, 4.6))
for label, (unit, form, colour, marker) in UNITS.items():
    bias, rms = [], []
    for k in LENGTHS:
        e, s = product_errors(True, form, unit, int(k))
        bias.append(abs(e.sum()) / s.sum())
        e, s = product_errors(False, form, unit, int(k))
        rms.append(np.linalg.norm(e) / np.linalg.norm(s))
    style = {"color": colour, "marker": marker, "markersize": 5, "label": label}
    panels[0].plot(LENGTHS, bias, **style)
    panels[1].plot(LENGTHS, rms, **style)
panels[0].plot(LENGTHS, [predicted(int(k)) for k in LENGTHS], "--", color=BLACK, linewidth=1,
               label="predicted, FP8")  # fmt: skip
panels[0].set(title="U[0, 1): size of the mean signed error", ylabel="|Σ error| / Σ exact")
panels[1].set(title="N(0, 1): root mean square", ylabel="‖error‖ / ‖exact‖")
for axes in panels:
    axes.set(xscale="log", yscale="log", xlabel="K, products in a sum")
    axes.set_xticks(LENGTHS, [str(k) for k in LENGTHS])
    axes.minorticks_off()
panels[0].set_ylim(1e-10, 1)
handles, labels = panels[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
plt.show()

# %% [markdown]
# ## Which way the errors go
#
# The same sums at K = 4096, every result in a histogram of its signed error. With positive numbers
# the plain chain misses zero altogether: no result is right, and none is too large. With normal
# numbers the errors lie about zero, some ten times more narrowly with parts of 128.

# %%
figure, panels = plt.subplots(1, 2, figsize=(11, 3.8))
for axes, uniform, title in zip(panels, (True, False), ("U[0, 1)", "N(0, 1)"), strict=True):
    of_all = {}
    for label in ("FP8, Hopper wgmma", "the same, parts of 128"):
        unit, form, colour, _ = UNITS[label]
        e, s = product_errors(uniform, form, unit, 4096)
        of_all[label] = (100 * e.ravel() / np.sqrt(np.mean(s**2)), colour)
    width = 7.5 if uniform else 0.5
    bins = np.linspace(-width, width / 15 if uniform else width, 80)
    for label, (errors, colour) in of_all.items():
        axes.hist(errors, bins, color=colour, label=label, alpha=0.85)
    axes.axvline(0, color=BLACK, linewidth=1)
    axes.set(title=title, xlabel="error, % of the results' root mean square", yscale="log")
panels[0].set_ylabel("results, of 1024")
panels[0].legend(loc="upper center")
plt.show()

# %% [markdown]
# ## Why a mean relative error says little
#
# A sum of normal products can fall near zero, and an error divided by almost nothing is huge. So
# the mean of the relative errors has no limit: it jumps whenever such a result comes, and depends
# on how many results were looked at. The median settles. Each line is another set of matrices.

# %%
figure, axes = plt.subplots(figsize=(8, 4))
for seed in range(5):
    a, b = operands(False, "float8_e4m3fn", 4096, seed=seed)
    s = hu.matmul(a, b, order="exact", accumulate="binary64").ravel()
    relative = 100 * np.abs(hu.matmul(a, b, model=PLAIN).ravel() - s) / np.abs(s)
    counts = np.unique(np.geomspace(8, len(s), 60).astype(int))
    label = seed == 0
    axes.plot(counts, [relative[:n].mean() for n in counts], color=ORANGE,
              label="mean" if label else None)  # fmt: skip
    axes.plot(counts, [np.median(relative[:n]) for n in counts], color=BLUE,
              label="median" if label else None)  # fmt: skip
axes.set(xscale="log", yscale="log", xlabel="results looked at", ylabel="relative error, %")
axes.legend()
plt.show()

# %% [markdown]
# ## More in, less out
#
# Cutting depends on the largest term, so a sum need not grow with its terms. Here 32 products of
# 2⁻¹² each are added to a growing c. Below 4 they all count; at c = 4 the last place moves up, all
# of them are cut, and the sum **falls** by more than c has risen.

# %%
ones, column = np.full((1, 32), 2.0**-6), np.full((32, 1), 2.0**-6)
for c in (4 - 2.0**-12, 4.0):
    print(f"c = {c:.6f}: {hu.matmul(ones, column, [[c]], model=PLAIN)[0, 0]:.6f}")

grid = 4 + np.arange(-80, 81) * 2.0**-12
many = np.repeat(ones, len(grid), axis=0)
results = hu.matmul(many, column, grid[:, None], model=PLAIN)
figure, axes = plt.subplots(figsize=(8, 4))
axes.plot(grid, grid + 32 * 2.0**-12, color="0.6", linewidth=1, label="exact")
axes.plot(grid, results[:, 0], ".", color=ORANGE, markersize=4, label="FP8, Hopper wgmma")
axes.annotate("32 products are lost at once", (4, 4), (4.003, 3.992),
              arrowprops={"arrowstyle": "->"})  # fmt: skip
axes.set(xlabel="c", ylabel="c + 32 products of 2⁻¹²")
axes.legend(loc="upper left")
plt.show()

# %% [markdown]
# ## Asking a unit
#
# All this can be found out from outside. `hu.probe_unit` takes any function that multiplies, a
# model or a real chip, and finds the size of its blocks, the bits it keeps, and how it rounds.


# %%
def unit(a, b, c):
    return hu.matmul(a[None], b[:, None], [[c]], model="hopper.wgmma.e4m3.f32")[0, 0]


print(hu.probe_unit(unit, "float8_e4m3fn", k=32))

# %% [markdown]
# ## Where to go from here
#
# - `hu.Model(..., fraction_bits=25)`: what would the sum be worth with more bits?
# - `hu.probe_unit` on your own GPU: a function that calls it is all that is needed.
# - `halfulp models --errors` makes the tables of the study page on matrix units, with intervals.
