"""Prints the table of docs/information.md: errors of the estimators where information is known."""

from __future__ import annotations

import math

import numpy as np
from test_information import (
    LABELLED,
    gaussians,
    images_of_two_labels,
    information_of_two_gaussians,
    pairs_of_images,
    two_gaussians,
)

import halfulp as hu

SEEDS = range(5)


def show(what: str, known: float, found: list[float]) -> None:
    errors = np.array(found) - known
    print(f"| {what} | {known + 0.0:.3f} | {errors.mean():+.3f} | {errors.std(ddof=1):.3f} |")


def main() -> None:
    estimate = hu.information.estimate
    print("| what | I / bits | mean error | deviation |\n|---|---:|---:|---:|")
    for method in ("ksg", "kl", "cs-qmi"):
        for d, rho in [(1, 0.5), (1, 0.9), (2, 0.9), (5, 0.9)]:
            known = -d / 2 * math.log2(1 - rho * rho)
            pairs = [gaussians(2000, d, rho, seed) for seed in SEEDS]
            found = [estimate(t, x=x, method=method).i_xt for x, t in pairs]
            show(f"`{method}`, Gaussians {d} + {d}, ρ = {rho}", known, found)
    for method in ("ksg", "kl", "cs-qmi"):
        for rho in (0.0, 0.7, 0.9):
            found = []
            for seed in SEEDS:
                x, t, _ = pairs_of_images(2000, rho, seed)
                a, b = (hu.information.principal(v, 2) for v in (x, t))
                found.append(estimate(b, x=a, method=method).i_xt)
            known = -math.log2(1 - rho * rho)
            show(f"`{method}`, images, 2 components, ρ = {rho}", known, found)
    for d, beta in [(1, 0.3), (2, 0.3), (1, 1.0), (2, 1.0)]:
        known = d / 2 * math.log2(1 + beta**-2)
        data = [gaussians(2000, d, 0, seed)[0] for seed in SEEDS]
        for method, options in [
            ("noise", {"deviation": beta}),
            ("kde", {"variance": beta**2, "bound": "upper"}),
            ("kde", {"variance": beta**2, "bound": "lower"}),
        ]:
            found = [estimate(t, method=method, **options).i_xt for t in data]
            bound = f" {options['bound']}" if "bound" in options else ""
            show(f"`{method}`{bound}, {d} Gaussian, noise {beta}", known, found)
    of_images = [images_of_two_labels(2000, seed) for seed in SEEDS]
    of_pairs = [two_gaussians(2000, seed) for seed in SEEDS]
    cases = {
        "t": ("two Gaussians", of_pairs, information_of_two_gaussians(0.5)),
        "images": (
            "images, all pixels",
            [(t, y) for t, y, _ in of_images],
            of_images[0][2],
        ),
        "components": (
            "images, 2 components",
            [(hu.information.principal(t, 2), y) for t, y, _ in of_images],
            of_images[0][2],
        ),
    }
    for case, (what, pairs, known) in cases.items():
        for method, options in LABELLED[case]:
            found = [estimate(t, y, method=method, **options).i_ty for t, y in pairs]
            with_options = ", ".join([what, *[f"{k} {v}" for k, v in options.items()]])
            show(f"`{method}`, I(T;Y) of {with_options}", known, found)


if __name__ == "__main__":
    main()
