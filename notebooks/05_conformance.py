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
# # Does a kernel keep its promise?
#
# A conformance suite is a computation, its cases, the exact results, and a **proven** bound on how
# far a correct kernel may be from them. This notebook judges softmaxes: NumPy's, which is good, and
# some that are broken in ways that ordinary tests with a tolerance do not see.

# %%
import matplotlib.pyplot as plt
import numpy as np

import halfulp as hu

BLACK, ORANGE, BLUE, GREEN = "black", "#E69F00", "#0072B2", "#009E73"
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

print(hu.suite("softmax"))

# %% [markdown]
# ## A good kernel
#
# Any function of arrays can be judged. It gets the inputs of each case as read-only arrays and
# returns the output. The definition of the suite asks for NaN where a row has NaN or +∞, so the
# warnings of NumPy are expected here.


# %%
def softmax(x):
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(axis=1, keepdims=True, initial=-np.inf))
        return e / e.sum(axis=1, keepdims=True)


good = hu.conform(softmax, "softmax", "bound+run-to-run+batch", progress=False)
print(good)

# %% [markdown]
# The column *of bound* says how much of the bound the largest error takes. A family is a way to be
# wrong: `late-maximum` has the largest entry last, where a running maximum must rescale; in `large`
# exp overflows without the maximum. The figure shows how many results of each family lie how many
# units in the last place (ulp) from the exact ones.

# %%
good.plot()
plt.show()

# %% [markdown]
# ## A case in hand
#
# Every case has a name, from which it can be made anywhere: suite, version, variant, family,
# number. Its arrays can be used in your own tests, with the exact results rounded once, and the
# bound of each element.

# %%
name = next(c["id"] for c in good.cases if c["family"] == "tiny")
case = hu.suite("softmax").make(name)
print(case.id, case.inputs)
print(case.expected["y"].rounded, case.expected["y"].bound)

# %% [markdown]
# ## A broken kernel
#
# Without the maximum, exp overflows. Most rows of a network's own tests never get there; the suite
# says at once in which families it happens.


# %%
def without_maximum(x):
    with np.errstate(all="ignore"):
        e = np.exp(x)
        return e / e.sum(axis=1, keepdims=True)


bad = hu.conform(without_maximum, "softmax", progress=False)
failed = sorted({c["family"] for c in bad.failures})
print(bad.outcome, "in", ", ".join(failed))

# %% [markdown]
# A failure can be cut down: fewer rows, a shorter row, fewer bits in the inputs, for as long as it
# fails. What is left is often the explanation. The bits of the worst result stand below those that
# were expected.

# %%
small = bad.shrink(bad.failures[0]["id"])
print(small)
print(small.inputs["x"])

# %% [markdown]
# ## A kernel that is a little wrong
#
# A sum in half precision gives results that are right to three digits. With `rtol=1e-3` it passes;
# here its errors are thousands of ulp. Look where the two histograms part.


# %%
def half_sum(x):
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(axis=1, keepdims=True, initial=-np.inf))
        return e / e.sum(axis=1, keepdims=True, dtype=np.float16).astype(np.float32)


x = np.random.default_rng(1).standard_normal((64, 256)).astype(np.float32)
print("with a tolerance:", np.allclose(half_sum(x), softmax(x), rtol=1e-3))
half = hu.conform(half_sum, "softmax", progress=False)
print(half.outcome, half.summary["max_ratio"], "times the bound")


def counts(report):
    """Results by the upper edge of their error in ulp."""
    total = {}
    for record in report.cases:
        for edge, n in record["histogram"].items():
            total[float(edge)] = total.get(float(edge), 0) + n
    return total


figure, axes = plt.subplots(figsize=(8, 3.6), constrained_layout=True)
edges = [0.0, 0.5, *2.0 ** np.arange(0, 16)]
for report, colour, label, shift in (
    (good, BLUE, "float32", -0.2),
    (half, ORANGE, "float16 sum", 0.2),
):
    found = counts(report)
    axes.bar(np.arange(len(edges)) + shift, [found.get(e, 0) for e in edges], 0.4, color=colour,
             label=label)  # fmt: skip
axes.set_xticks(range(len(edges)), [f"{e:g}" for e in edges], fontsize=8)
axes.set(yscale="log", xlabel="error, at most / ulp", ylabel="results")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## The same bits every time
#
# `run-to-run` and `batch` are promises of their own: the same bits when run again, and for a row
# whatever the other rows are. This kernel is as exact as the first, and still breaks the second: it
# adds in another order when there are several rows, as a kernel does that chooses its tiles by the
# shape.


# %%
def tiled(x):
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(axis=1, keepdims=True, initial=-np.inf))
        parts = e if len(x) == 1 else e[:, ::-1]
        return e / np.cumsum(parts, axis=1)[:, -1:] if x.shape[1] else e


shaped = hu.conform(tiled, "softmax", "bound+run-to-run+batch", progress=False)
for check in shaped.checks:
    if check["promised"]:
        print(check["name"], check["outcome"], check["reason"])

# %% [markdown]
# ## Where to go from here
#
# - `report.html("page.html")` writes the whole run as one page, `report.bundle("run.zip")` the
#   evidence with its hashes.
# - `hu.conform(f, arrays="torch", device="cuda")` judges a kernel on a GPU.
# - `halfulp conform --suite softmax --kernel module:function` does the same in a shell, and judges
#   plug-ins in C.
