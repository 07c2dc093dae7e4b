"""Statistics of the bit-allocation part of the study `sharpness`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from halfulp.sharpness._allocation import spearman
from halfulp.sharpness._allocation_measures import BITS, FORMATS, INTEGERS, LIMITS, METHODS, PROXIES
from halfulp.sharpness._allocation_study import (
    FOLDER,
    OPERATION_LIMITS,
    PREDICTORS,
    SIZES,
    AllocationSize,
    load,
)
from halfulp.sharpness._arguments import Array

Interval = list[float]  # mean, lower and upper end of 95%, least effect


def bootstrap(values: Array, draws: int = 4000) -> Interval:
    """Of values (seeds,): their mean, 95% by drawing seeds again, and the least effect that a t
    test at 5% finds with 80% power. NaN (no rank correlation) is left out.
    """
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    n = len(x)
    if n < 2:
        return [float(x.mean()) if n else float("nan"), *[float("nan")] * 3]
    drawn = x[np.random.default_rng(0).integers(0, n, (draws, n))].mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    error = x.std(ddof=1) / np.sqrt(n)
    least = (stats.t.ppf(0.975, n - 1) + stats.t.ppf(0.8, n - 1)) * error
    return [float(x.mean()), float(low), float(high), float(least)]


def student(values: Array) -> Interval:
    """As `bootstrap`, but with Student's interval: of effects, which few seeds would narrow."""
    x = np.asarray(values, np.float64)
    mean, _, _, least = bootstrap(x)
    half = float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return [mean, mean - half, mean + half, least]


def correlations(table: Array, truth: Array) -> tuple[float, float, float]:
    """Spearman's ρ over layers and formats; its mean over formats of that over layers; the same
    over the formats of at most 4 bits.
    """
    within = np.array([spearman(table[:, f], truth[:, f]) for f in range(truth.shape[1])])
    coarse = np.array([bits <= 4 for _, bits in FORMATS.values()])
    means = [
        float(r[np.isfinite(r)].mean()) if np.isfinite(r).any() else float("nan")
        for r in (within, within[coarse])
    ]
    return spearman(table, truth), means[0], means[1]


RHO = ("all", "within", "coarse")
# Published claims as differences by seed, which are above 0 where the claim holds.
CLAIMS = {
    "trace": "HAWQ-V2: the mean trace ranks layers better than λ_max (ρ within ≤ 4 bits)",
    "omega": "HAWQ-V2: Ω ranks layers and formats better than ‖Q(W) − W‖² alone (ρ)",
    "taylor": "against Ω: g·δ + ½δᵀHδ, which needs the same products, ranks better (ρ)",
    "mixed": "HAWQ-V2, V3: Ω's allocation beats equal bits (rise of the loss at 4 bits)",
    "baq": "BAQ: equal losses beat equal bits (rise of the loss at 4 bits)",
    "pairs": "inter-layer terms improve the integer program (rise of the loss at 3.5 bits)",
}


class AllocationResults:
    """The files of a run of `run_allocation`, read: by_network[name][dataset] has seeds first."""

    def __init__(self, folder: str | Path, size: str | AllocationSize = "quick") -> None:
        self.size = SIZES[size] if isinstance(size, str) else size
        place = Path(folder)
        self.place = place if place.name == FOLDER else place / FOLDER
        self.by_network = load(self.place, self.size)
        if not self.by_network:
            raise FileNotFoundError(f"{self.place} holds no results; run run_allocation first")
        kept = self.place / "seconds.json"
        self.kept = json.loads(kept.read_text()) if kept.is_file() else {}

    @property
    def networks(self) -> list[str]:
        return list(self.by_network)

    def seeds(self, network: str) -> int:
        return len(self.by_network[network]["truth"])

    def rho(self, network: str, prefix: str = "") -> dict[str, list[Array]]:
        """By proxy, ρ of each seed as `correlations` gives them.
        prefix "control/rescaled/" reads that control.
        """
        of = self.by_network[network]
        found = {}
        for proxy in PROXIES:
            name = f"{prefix}{proxy}" if prefix else f"proxies/{proxy}"
            truths = of[f"{prefix}truth"]
            each = [correlations(a, b) for a, b in zip(of[name], truths, strict=True)]
            found[proxy] = [np.array(column) for column in zip(*each, strict=True)]
        return found

    def interactions(self, network: str) -> dict[str, Interval]:
        """By bits b: |L_ij − L_i − L_j| / (|L_i| + |L_j|) , both in b bits: median over pairs."""
        of = self.by_network[network]
        at = [list(FORMATS).index(name) for name in INTEGERS]
        pairs = {k: v for k, v in of.items() if k.startswith("pairs/")}
        found = {}
        for b, name in enumerate(INTEGERS):
            shares = []
            for key, table in pairs.items():
                i, j = map(int, key.removeprefix("pairs/").split("-"))
                alone = np.abs(of["truth"][:, [i, j], at[b]]).sum(axis=1)
                shares.append(np.abs(table[:, b, b]) / alone)
            found[name] = bootstrap(np.median(shares, axis=0))
        return found

    def chosen(self, network: str, what: int = 0) -> dict[str, list[Interval]]:
        """By method and limit: the rise of the loss (what = 0), the accuracy on other rows (1)."""
        of = self.by_network[network]["chosen"]
        return {
            method: [student(of[:, i, m, what]) for i in range(len(LIMITS))]
            for m, method in enumerate([*METHODS, "best"])
        }

    def paired(self, network: str, one: str, other: str) -> list[Interval]:
        """By limit: the rise of one method less that of another, paired by seed."""
        names = [*METHODS, "best"]
        of = self.by_network[network]["chosen"][..., 0]
        a, b = of[:, :, names.index(one)], of[:, :, names.index(other)]
        return [student(a[:, i] - b[:, i]) for i in range(len(LIMITS))]

    def front(self, network: str) -> dict[str, tuple[Array, Array, Array]]:
        """By method: mean bits, rise and accuracy, means over seeds, at each limit."""
        of = self.by_network[network]["chosen"]
        return {
            method: (of[:, :, m, 3].mean(0), of[:, :, m, 0].mean(0), of[:, :, m, 1].mean(0))
            for m, method in enumerate([*METHODS, "best"])
        }

    def claims(self, network: str) -> dict[str, Interval]:
        """By claim: Student's interval of its difference, and the p of its t test."""
        rho, of = self.rho(network), self.by_network[network]["chosen"][..., 0]

        def less(one: str, other: str, limit: float) -> Array:
            at = LIMITS.index(limit)
            return of[:, at, METHODS.index(other)] - of[:, at, METHODS.index(one)]

        differences = {
            "trace": rho["trace"][2] - rho["hawq"][2],
            "omega": rho["hawq-v2"][0] - rho["perturbation"][0],
            "taylor": rho["taylor"][0] - rho["hawq-v2"][0],
            "mixed": less("hawq-v2", "uniform", 4.0),
            "baq": less("baq", "uniform", 4.0),
            "pairs": less("measured+pairs", "measured", 3.5),
        }
        return {
            claim: [*student(x), float(stats.ttest_1samp(x, 0).pvalue) if x.any() else 1.0]
            for claim, x in differences.items()
        }

    def controls(self) -> dict[str, Any]:
        """Ties: the largest |rise| of a layer left as it is. Rescaled: whether the truth kept its
        bits, and ρ of each proxy before and after. Quadratic: ρ of Ω, its least; share of seeds
        where the program finds the best.
        """
        ties = max(float(np.abs(of["control/ties"]).max()) for of in self.by_network.values())
        found: dict[str, Any] = {"ties": ties}
        for network, of in self.by_network.items():
            if "control/rescaled/truth" not in of:
                continue
            before, after = self.rho(network), self.rho(network, "control/rescaled/")
            found[network] = {
                "same truth": bool((of["truth"] == of["control/rescaled/truth"]).all()),
                "rho": {
                    p: [
                        bootstrap(before[p][0]),
                        bootstrap(after[p][0]),
                        bootstrap(before[p][1]),
                        bootstrap(after[p][1]),
                    ]
                    for p in PROXIES
                },
                "quadratic rho": float(of["control/quadratic"][:, 0].min()),
                "quadratic best": float(of["control/quadratic"][:, 1].mean()),
            }
        return found

    def summary(self) -> dict[str, Any]:
        """All of the above as plain numbers, rounded: what goes to data/results."""
        found: dict[str, Any] = {
            "size": asdict(self.size),
            "seconds": self.kept.get("seconds"),
            "left_out": self.kept.get("left_out", ""),
            "limits": list(LIMITS),
            "bits": BITS.tolist(),
            "controls": _rounded(self.controls()),
            "networks": {},
        }
        for network, of in self.by_network.items():
            rho = self.rho(network)
            found["networks"][network] = _rounded(
                {
                    "seeds": self.seeds(network),
                    "weights": of["sizes"][0].tolist(),
                    "loss": student(of["loss"]),
                    "test_loss": student(of["test_loss"]),
                    "accuracy": student(of["accuracy"]),
                    "rho": {
                        p: {name: bootstrap(v) for name, v in zip(RHO, values, strict=True)}
                        for p, values in rho.items()
                    },
                    "claims": self.claims(network),
                    "truth": {
                        f: student(of["truth"][:, :, i].mean(axis=1)) for i, f in enumerate(FORMATS)
                    },
                    "uniform": {
                        f: [student(of["uniform"][:, i, 0]), student(of["uniform"][:, i, 1])]
                        for i, f in enumerate(FORMATS)
                    },
                    "interactions": self.interactions(network),
                    "joint": {p: bootstrap(of["joint"][:, i]) for i, p in enumerate(PREDICTORS)},
                    "rise": self.chosen(network),
                    "test accuracy": self.chosen(network, 1),
                    "pairs less none": self.paired(network, "measured+pairs", "measured"),
                    "measured less hawq-v2": self.paired(network, "measured", "hawq-v2"),
                    "operations": {
                        str(limit): [student(of["operations"][:, i, k]) for k in range(3)]
                        for i, limit in enumerate(OPERATION_LIMITS)
                    },
                }
            )
        return found


def _rounded(x: Any) -> Any:
    """Numbers to five decimals or, below a thousandth, three digits; NaN as null for JSON."""
    if isinstance(x, dict):
        return {k: _rounded(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_rounded(v) for v in x]
    if isinstance(x, float):
        if not np.isfinite(x):
            return None
        return round(x, 5) if abs(x) >= 1e-3 else float(f"{x:.3g}")
    return x
