"""What the study `sharpness` checks before it computes: that its tools are sound, and can fail."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from halfulp.sharpness._cells import data
from halfulp.sharpness._predict import divergence, draws, estimate, held_out, pairs
from halfulp.sharpness._training import Stack, Training


@dataclass(frozen=True)
class Control:
    name: str
    passed: bool
    text: str


def controls() -> list[Control]:
    """That the emulator's path is binary32's, bit for bit; that the comparison can fail; that what
    is known to break is seen to; that the judge of predictors knows a perfect and a useless one."""
    d = data()

    def trained(t: Training, seeds: list[int], flip: bool = False) -> tuple[Any, Any]:
        stack = Stack(t, seeds)
        if flip:
            output = stack.layout[-1][0]
            stack.parameters.view(np.uint32)[0, output.start + 50] ^= 1 << 12
        orders = [np.random.default_rng([seed, 2]) for seed in seeds]
        losses = []
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(t.steps):
                at = np.stack([r.integers(0, len(d.x), t.batch) for r in orders])
                losses.append(stack.train_step(d.x[at], d.y[at]))
        return stack.parameters, np.stack(losses, axis=1)

    short = Training(steps=60, rate=0.3)
    emulated, plain, flipped = (
        trained(short, [0, 1]),
        trained(replace(short, path="plain"), [0, 1]),
        trained(replace(short, path="plain"), [0, 1], flip=True),
    )

    def differ(a: Any, b: Any) -> int:
        return sum(
            int((u.view(np.uint32) != v.view(np.uint32)).sum()) for u, v in zip(a, b, strict=True)
        )

    number = sum(v.size for v in plain)
    same, other = differ(emulated, plain), differ(flipped, plain)
    seeds = list(range(6))
    broken = []
    for rate in (0.05, 10.0):
        losses = trained(Training(steps=120, rate=rate), seeds)[1]
        broken.append(int(np.isfinite(divergence(losses, losses[:, :10].mean(axis=1))).sum()))
    random = np.random.default_rng(1)
    of = np.repeat(np.arange(12), 60)
    event = random.random(len(of)) < 0.3
    weights = draws(12, 500)
    judged = {}
    for name, values in (
        ("planted", event + 0.5 * random.random(len(of))),
        ("noise", random.random(len(of))),
    ):
        p = pairs(values, event, of, 12)
        judged[name] = estimate(float(held_out(p)[0]), held_out(p, weights))
    noise = judged["noise"]
    return [
        Control(
            "binary32 through the emulator is plain binary32",
            same == 0,
            f"{number:,} numbers of two trainings compared bit for bit, {same} differ",
        ),
        Control(
            "the same, one bit of one weight flipped, is not",
            other > 0,
            f"{other:,} of {number:,} differ",
        ),
        Control(
            "a rate known to break is seen to diverge",
            broken[1] == len(seeds) and broken[0] == 0,
            f"{broken[1]} of {len(seeds)} seeds diverge at rate 10, {broken[0]} at 0.05",
        ),
        Control(
            "a planted predictor is found",
            judged["planted"].value == 1,
            f"AUC {judged['planted'].value:.3f} on held-out seeds",
        ),
        Control(
            "noise predicts nothing",
            noise.low <= 0.5 <= noise.high,
            f"AUC {noise.value:.3f} ({noise.low:.3f}–{noise.high:.3f})",
        ),
    ]
