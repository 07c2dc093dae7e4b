"""Information of a layer about its input and about the labels: exact, and by the usual estimators.

>>> import halfulp as hu
>>> x, y = hu.information.icosahedron()
>>> hu.information.exact(x, y).i_xt
12.0
"""

from __future__ import annotations

from halfulp.information._estimators import METHODS, estimate, principal
from halfulp.information._exact import Exact, Information, classes, entropy, exact
from halfulp.information._icosahedron import icosahedron, invariants
from halfulp.information._network import ACTIVATIONS, Run, Training, train

__all__ = [
    "ACTIVATIONS",
    "METHODS",
    "Exact",
    "Information",
    "Run",
    "Training",
    "classes",
    "entropy",
    "estimate",
    "exact",
    "icosahedron",
    "invariants",
    "principal",
    "train",
]
