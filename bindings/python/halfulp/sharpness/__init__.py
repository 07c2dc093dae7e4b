"""Sharpness of a loss, curvature, and bits by sensitivity; definitions in docs/sharpness.md.

Losses, gradients and Hessian-vector products are functions of the caller's, of NumPy arrays.

>>> from halfulp import sharpness
>>> found = sharpness.critical_sharpness(lambda w: 2 * w[0] ** 2, [1.0], [-4.0], tolerance=1e-9)
>>> round(found.value, 6)
4.0
"""

from __future__ import annotations

from halfulp.sharpness._allocation import (
    Allocation,
    baq,
    hawq,
    hawq_v2,
    integer_program,
    inter_layer,
    layer_importance,
    layer_pairs,
    non_dominated,
    pareto_front,
    spearman,
)
from halfulp.sharpness._data import Images, digits, fashion, fashion_full
from halfulp.sharpness._dual import exact_hvp
from halfulp.sharpness._hessian import (
    Eigenpairs,
    LayerCurvature,
    Spectrum,
    Trace,
    block,
    difference_hvp,
    lanczos,
    layer_curvature,
    spectral_density,
    trace,
)
from halfulp.sharpness._landscape import Landscape, landscape
from halfulp.sharpness._losses import (
    CriticalSharpness,
    LogitSharpness,
    RandomSharpness,
    Sharpness,
    box_sharpness,
    critical_sharpness,
    keskar,
    logit_sharpness,
    random_sharpness,
    sam,
)
from halfulp.sharpness._networks import ConvNet, Mlp, Network
from halfulp.sharpness._quantiser import Quantiser

__all__ = [
    "Allocation",
    "ConvNet",
    "CriticalSharpness",
    "Eigenpairs",
    "Images",
    "Landscape",
    "LayerCurvature",
    "LogitSharpness",
    "Mlp",
    "Network",
    "Quantiser",
    "RandomSharpness",
    "Sharpness",
    "Spectrum",
    "Trace",
    "baq",
    "block",
    "box_sharpness",
    "critical_sharpness",
    "difference_hvp",
    "digits",
    "exact_hvp",
    "fashion",
    "fashion_full",
    "hawq",
    "hawq_v2",
    "integer_program",
    "inter_layer",
    "keskar",
    "lanczos",
    "landscape",
    "layer_curvature",
    "layer_importance",
    "layer_pairs",
    "logit_sharpness",
    "non_dominated",
    "pareto_front",
    "random_sharpness",
    "sam",
    "spearman",
    "spectral_density",
    "trace",
]
