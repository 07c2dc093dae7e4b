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
# # What a layer knows
#
# I(X;T) is what a layer's values T know about the input X, I(T;Y) what they know about the labels.
# In a number format T takes finitely many values, so both are counted, not estimated. The same
# layer in several formats, and beside the counts what the usual estimators say.

# %%
import matplotlib.pyplot as plt
import numpy as np

import halfulp as hu

information = hu.information

# %% [markdown]
# ## The data
#
# All 4096 patterns of 12 inputs, which stand for the vertices of an icosahedron, and labels that
# depend on how the pattern looks under its rotations (Shwartz-Ziv and Tishby 2017).

# %%
x, y = information.icosahedron()
of = information.exact(x, y)
print(f"{len(x)} rows, {int(y.sum())} ones, H(X) = {of.h_t} bits, H(Y) = {of.h_y:.5f} bits")

# %% [markdown]
# ## One layer, many formats
#
# Three tanh units of random weights, rounded to formats with eight bits of exponent and M bits
# after the point. Nothing was trained; what is lost is lost by rounding alone.

# %%
random = np.random.default_rng(1)
w = random.normal(0, 12**-0.5, (12, 3)).astype(np.float32)
exact_layer = np.tanh(x @ w)
bits = [10, 7, 5, 4, 3, 2, 1]
layers = {m: hu.round(exact_layer, f"fp_e8p{m + 1}b127_s_ieee_ieee") for m in bits}
counted = {m: information.exact(t, y) for m, t in layers.items()}
for m, found in counted.items():
    print(
        f"M = {m:2}: {found.distinct:4} values, H(T) = {found.h_t:5.2f}, I(T;Y) = {found.i_ty:.3f}"
    )

# %% [markdown]
# ## Counted and estimated
#
# Binning of 30 edges sees few of the values that a wide format tells apart: there the estimate is
# that of the bins, and changes little with the format.

# %%
methods = {
    "30 bins": {"method": "binning"},
    "bins of 0.07": {"method": "bin-size"},
    "adaptive bins": {"method": "ebab"},
}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
axes[0].plot(bits, [counted[m].i_xt for m in bits], "ko-", label="counted")
axes[1].plot(bits, [counted[m].i_ty for m in bits], "ko-", label="counted")
for name, options in methods.items():
    found = [information.estimate(layers[m], y, **options) for m in bits]
    axes[0].plot(bits, [f.i_xt for f in found], "o--", label=name)
    axes[1].plot(bits, [f.i_ty for f in found], "o--", label=name)
for axis, quantity in zip(axes, ["I(X;T)", "I(T;Y)"], strict=True):
    axis.set_xlabel("M, bits after the point")
    axis.set_ylabel(f"{quantity} / bits")
    axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## A bin of its own for +1
#
# Where tanh rounds to 1, the last of the 30 edges is hit, and only there: a bin that narrow formats
# fill from smaller arguments on.

# %%
z = np.linspace(0, 6, 2001)
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
for m in [7, 5, 3, 1]:
    t = hu.round(np.tanh(z), f"fp_e8p{m + 1}b127_s_ieee_ieee")
    axis.plot(z, np.digitize(t, np.linspace(-1, 1, 30)), label=f"M = {m}")
    print(f"M = {m}: 1 from x = {z[np.argmax(t == 1)]:.2f} on")
axis.set_xlabel("x")
axis.set_ylabel("bin of tanh(x), of 30")
axis.legend()
plt.show()

# %% [markdown]
# ## Estimators where the truth is known
#
# Two Gaussians of correlation ρ share −½ log2(1 − ρ²) bits. Nearest neighbours find them; the
# Cauchy–Schwarz divergence grows with them, but is another quantity.

# %%
rho = np.array([0.0, 0.3, 0.6, 0.8, 0.9, 0.95])
found = {"ksg": [], "kl": [], "cs-qmi": []}
for r in rho:
    a = random.normal(size=(800, 1))
    b = r * a + np.sqrt(1 - r * r) * random.normal(size=(800, 1))
    for method, values in found.items():
        values.append(information.estimate(b, x=a, method=method).i_xt)
figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
axis.plot(rho, -np.log2(1 - rho**2) / 2, "k-", label="known")
for method, values in found.items():
    axis.plot(rho, values, "o--", label=method)
axis.set_xlabel("correlation")
axis.set_ylabel("information / bits")
axis.legend()
plt.show()

# %% [markdown]
# ## Values that repeat
#
# Nearest neighbours are for continuous variables. A layer in three bits repeats its values, and is
# refused with a sentence: count instead.

# %%
try:
    information.estimate(layers[2], x=x, method="ksg")
except ValueError as refused:
    print(refused)
print(f"counted: {information.exact(layers[2]).i_xt:.2f} bits")
