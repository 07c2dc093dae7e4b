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
# # Sharpness, where a loss is rounded
#
# How fast does a loss rise around the weights? A loss computed in a narrow format is a staircase:
# flat almost everywhere, so that its Hessian says nothing. Three questions remain that have
# answers, and they are not the same. A small network learns the digits in a format, and is asked.

# %%
import matplotlib.pyplot as plt
import numpy as np

import halfulp as hu

sharpness = hu.sharpness
images = sharpness.digits()
x, y = images.train_x[:256], images.train_y[:256]
network = sharpness.Mlp((64, 32, 10))
print(
    f"{network.n} parameters, {len(images.train_x)} images to learn, {len(images.test_x)} held out"
)

# %% [markdown]
# ## Training in a format
#
# The operands of every product are rounded: weights, layers, gradients. Plain gradient descent with
# momentum; the rate rises over the first half.


# %%
def rounded_to(name, mode="nearest-even"):
    return None if name is None else sharpness.Quantiser(name, mode)


def train(name, rate, mode="nearest-even", steps=160, seed=0):
    quantise = rounded_to(name, mode)
    order = np.random.default_rng(seed)
    w = network.initial(seed)
    velocity = np.zeros_like(w)
    losses = []
    for step in range(steps):
        rows = order.integers(0, len(images.train_x), 32)
        batch = images.train_x[rows], images.train_y[rows]
        losses.append(network.loss(w, *batch, quantise))
        velocity = 0.9 * velocity + network.gradient(w, *batch, quantise)
        w = w - rate * min(1, 2 * (step + 1) / steps) * velocity
    return w, np.array(losses)


E8M2 = "fp_e8p3b127_s_ieee_ieee"
modes = {
    "unrounded": (None, "nearest-even"),
    "2 bits, to nearest": (E8M2, "nearest-even"),
    "2 bits, truncated": (E8M2, "toward-zero"),
}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained", sharey=True)
weights = {}
for a, rate in zip(axes, [0.1, 0.8], strict=True):
    for label, (name, mode) in modes.items():
        w, losses = train(name, rate, mode)
        weights[label, rate] = w
        a.semilogy(np.convolve(losses, np.ones(10) / 10, "valid"), label=label)
    a.set_title(f"peak rate {rate}")
    a.set_xlabel("step")
axes[0].set_ylabel("training loss, mean of 10 steps / nats")
axes[0].legend()
plt.show()

# %% [markdown]
# ## Three answers
#
# (a) The curvature of the unrounded loss at the rounded weights: the largest eigenvalue of its
# Hessian, by exact products. (b) The critical sharpness of the rounded loss: 2/η for the first step
# η along minus the gradient that raises it. (c) The largest rise found in a small box.

# %%
for label, (name, mode) in modes.items():
    quantise = rounded_to(name, mode)
    w = weights[label, 0.1]
    at = w if quantise is None else network.quantised(w, quantise)
    top = sharpness.lanczos(network.hvp(at, x, y), network.n, tolerance=1e-4)

    def loss(w, quantise=quantise):
        return network.loss(w, x, y, quantise)

    down = -network.gradient(w, x, y, quantise)
    critical = sharpness.critical_sharpness(loss, w, down, tolerance=0.02)
    box = sharpness.box_sharpness(loss, w, samples=20)
    print(
        f"{label:20} (a) λ_max = {top.values[0]:5.2f}   (b) λ_c = {critical.value:5.2f}"
        f"   (c) {box.value:6.3f}% in the box"
    )

# %% [markdown]
# ## A staircase
#
# Along minus the gradient: the loss in binary64, and as two bits after the point see it.

# %%
w = weights["2 bits, to nearest", 0.1]
direction = -network.gradient(w, x, y, rounded_to(E8M2))
steps = np.linspace(-0.3, 1.2, 241)
figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
for label, quantise in {"binary64": None, "2 bits": rounded_to(E8M2)}.items():
    axis.plot(steps, [network.loss(w + s * direction, x, y, quantise) for s in steps], label=label)
axis.set_xlabel("step along minus the gradient")
axis.set_ylabel("loss / nats")
axis.legend()
plt.show()

# %% [markdown]
# ## The whole spectrum
#
# Most directions are flat; a few, about as many as there are classes, are steep.

# %%
figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
for label, w in {
    "before training": network.initial(0),
    "after training": weights["unrounded", 0.1],
}.items():
    density = sharpness.spectral_density(network.hvp(w, x, y), network.n, probes=2, steps=30)
    at = np.linspace(-2, 8, 800)
    axis.semilogy(at, density.density(at, 0.05), label=label)
axis.set_ylim(1e-5, 30)
axis.set_xlabel("eigenvalue λ")
axis.set_ylabel("density")
axis.legend()
plt.show()

# %% [markdown]
# ## What the logits tell
#
# Logit sharpness moves only the logits, and has a closed form: no search. It costs less than
# anything above. Whether it foretells a divergence, beside the learning rate and the loss
# themselves, is what `halfulp study sharpness` asks with many seeds.

# %%
for label, (name, mode) in modes.items():
    for rate in [0.1, 0.8]:
        z = network.logits(weights[label, rate], x, rounded_to(name, mode))
        found = sharpness.logit_sharpness(z, y, epsilon=1e-2)
        print(f"{label:20} rate {rate}: φ = {found.value:.2f}%, loss {found.loss:.3f} nats")
