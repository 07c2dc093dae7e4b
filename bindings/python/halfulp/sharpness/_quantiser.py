"""Quantisers by role, for `Network`: a format, a rounding, a scale for each tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from halfulp import _elementwise, _formats
from halfulp.sharpness._arguments import Array
from halfulp.transforms._arguments import integer

ROLES = ("weights", "activations", "gradients")
BOUNDS = {"weights": 2.0, "activations": 4.0, "gradients": 1.0}
SCALES = ("static", "power", "none")


class Quantiser:
    """Rounds each tensor to a format, saturating: a `quantise` of `Network`.

    scale: "static", a power of two for each role, the largest that keeps `bounds[role]` within the
    format; "power", the same of each tensor's largest magnitude (of each network of a stack);
    "none". Formats with binary32's exponent are never scaled. roles: which are rounded. A
    stochastic rounding takes its bits from seed, step and the number of the call since `begin`.
    """

    def __init__(
        self,
        format: str,
        rounding: str = "nearest-even",
        *,
        scale: str = "static",
        bounds: Mapping[str, float] = BOUNDS,
        roles: tuple[str, ...] = ROLES,
        seed: int = 0,
    ) -> None:
        if scale not in SCALES:
            raise ValueError(f"scale is {scale!r}, but must be one of {', '.join(SCALES)}")
        wrong = [role for role in roles if role not in ROLES]
        if wrong:
            raise ValueError(f"roles holds {wrong[0]!r}, but roles are {', '.join(ROLES)}")
        self.format, self.rounding, self.scale, self.roles = format, rounding, scale, roles
        self.seed = integer(seed, "seed", 0, 2**64 - 1)
        self.step = self.tensor = 0
        self.largest = largest(format)
        wide = getattr(_formats.format(format), "exponent_bits", 0) >= 8
        self.scaled = scale != "none" and not wide
        self.static = {
            role: 2.0 ** np.floor(np.log2(self.largest / bounds[role])) if self.scaled else 1.0
            for role in roles
        }

    def begin(self, step: int) -> None:
        """A new step of training: other random bits, tensors counted from 0."""
        self.step, self.tensor = step, 0

    def __call__(self, role: str, x: Any) -> Any:
        if role not in self.roles:
            return x
        self.tensor += 1
        if not self.scaled:
            return self._round(x)
        if self.scale == "static":
            s = self.static[role]
            return self._round(x * s) * (1 / s)
        most = np.abs(x).max(axis=(-2, -1), keepdims=True)
        # The largest power that keeps it within: 1 where there is nothing to scale.
        usable = np.isfinite(most) & (most > 0)
        power = np.floor(np.log2(self.largest / np.where(usable, most, self.largest)))
        s = np.exp2(np.clip(power, -1000, 1000))
        return self._round(x * s) * (1 / s)

    def _round(self, x: Array) -> Array:
        random: dict[str, Any] = {}
        if self.rounding.startswith("stochastic"):
            random = {"seed": self.seed, "step": self.step, "tensor": self.tensor}
        x = np.ascontiguousarray(x)
        lost = np.isnan(x)
        if lost.any():  # many narrow formats have no NaN, but a divergence is a result
            x = np.where(lost, 0.0, x)
        y = np.asarray(
            _elementwise.round(x, self.format, self.rounding, overflow="saturate", **random)
        )
        return np.where(lost, np.nan, y) if lost.any() else y


def largest(format: str) -> float:
    """The largest finite value of a format."""
    return float(_elementwise.round(1e300, format, overflow="saturate"))
