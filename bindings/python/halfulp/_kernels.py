"""Kernels of neural networks on arrays: softmax, attention, norms, activations and others.

Each computes in the host's own arithmetic (binary32 inside for arrays of float32, float16 and
bfloat16, in vectors and on threads where the kernel has such a version; binary64 for float64), or,
with `arithmetic=`, with every operation rounded to a format. docs/kernels-python.md.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halfulp import _core, _dlpack
from halfulp._core import Format
from halfulp._elementwise import _raw, _values, make_how
from halfulp._elementwise import round as _round
from halfulp._formats import format as as_format
from halfulp._matmul import _float_format, _require_representable

Array = NDArray[Any]
_HALVES = ("float16", "bfloat16")
_BINARY64 = "binary64"


class _Arithmetic:
    """What `arithmetic=` and the options of a rounding choose."""

    def __init__(self, function: str, arithmetic: str | Format | None, options: dict[str, Any]):
        self.format: Format | None = None
        for name in options:
            if name in ("flags", "out", "tininess"):
                raise TypeError(f"{function}() has no argument '{name}'")
        self.how = make_how(function, **options)
        if arithmetic is None:
            if options:
                raise ValueError(
                    f"{', '.join(sorted(options))} belong to emulated arithmetic; "
                    f"give its format too, as in {function}(…, arithmetic='bfloat16')"
                )
            return
        self.format = _float_format(arithmetic)
        if not as_format(_BINARY64).holds(self.format):
            raise ValueError(
                f"{self.format.name} has values that binary64 lacks, and kernels hold theirs in "
                "float64; choose a narrower arithmetic"
            )

    def operand(self, x: Array, name: str) -> Array:
        """x, contiguous, as what the compiled kernel reads; values of the format are required."""
        if self.format is None:
            return np.ascontiguousarray(x)
        _require_representable(x, self.format, name)
        return np.ascontiguousarray(x, dtype=np.float64)

    def dtype_of_result(self, operand: Array) -> Any:
        """The operand's own where it holds the results, else float32 or float64."""
        dtype = operand.dtype
        if self.format is None:
            return dtype
        names = {"float16": "binary16", "bfloat16": "bfloat16", "float32": "binary32"}
        own = names.get(dtype.name, _BINARY64)
        for found, kind in ((dtype, own), (np.dtype(np.float32), "binary32")):
            if as_format(kind).holds(self.format) and found.itemsize >= dtype.itemsize:
                return found
        return np.dtype(np.float64)


def _operand(x: ArrayLike, name: str, dimensions: int | None = None, shape: str = "") -> Array:
    array = _values(x, name)
    if dimensions is not None and array.ndim != dimensions:
        raise ValueError(f"{name} has {array.ndim} dimensions, but must have {dimensions}: {shape}")
    return array


def _common(arrays: dict[str, Array]) -> Any:
    """The dtype that all have; raises TypeError where they differ."""
    (first, x), *others = arrays.items()
    for name, other in others:
        if other.dtype != x.dtype:
            raise TypeError(
                f"{first} has dtype {x.dtype} and {name} {other.dtype}; convert one of them"
            )
    return x.dtype


def _is_half(x: Array) -> bool:
    return x.dtype.name in _HALVES


def _widened(x: Array) -> Array:
    """Contiguous, and float32 where it is of 16 bits."""
    return np.ascontiguousarray(x, dtype=np.float32 if _is_half(x) else x.dtype)


def _into(y: Array, dtype: Any) -> Array:
    """y rounded once to the dtype."""
    if y.dtype == dtype:
        return y
    if np.dtype(dtype).name not in _HALVES:
        return y.astype(dtype)
    out = np.empty(y.shape, dtype)
    names = {"float16": "binary16", "bfloat16": "bfloat16"}
    _round(y, names[out.dtype.name], out=out)
    return out


def _finished(given: list[Any], y: Array, dtype: Any) -> Any:
    """As the caller's library has it, rounded once to the dtype."""
    y = _into(y, dtype)
    if y.ndim == 0:
        return y[()]
    if not any(_dlpack.is_foreign(x) for x in given):
        return y
    out = _dlpack.empty(given, y.shape, y.dtype)
    out[...] = y
    return _dlpack.like(given, out)


def _rows(x: Array) -> tuple[int, int]:
    """The rows along the last axis: their number and length."""
    return math.prod(x.shape[:-1]), x.shape[-1]


def _require_rows(x: ArrayLike, name: str) -> Array:
    array = _values(x, name)
    if array.ndim == 0:
        raise ValueError(f"{name} is a single number; pass an array, whose last axis is a row")
    return array


def _require_algorithm(algorithm: Any, known: tuple[str, ...]) -> None:
    if algorithm not in known:
        names = ", ".join(f"'{k}'" for k in known)
        raise ValueError(f"algorithm '{algorithm}' is unknown; choose one of {names}")


_SOFTMAX = ("three-pass", "online", "two-pass")


def _over_rows(
    function: str,
    x: ArrayLike,
    algorithm: str,
    arithmetic: str | Format | None,
    options: dict[str, Any],
) -> Any:
    how = _Arithmetic(function, arithmetic, options)
    array = _require_rows(x, "x")
    _require_algorithm(algorithm, _SOFTMAX)
    rows, n = _rows(array)
    whole = function == "softmax"
    shape = (rows, n) if whole else (rows,)
    dtype = how.dtype_of_result(array)
    if how.format is not None:
        values, y = how.operand(array, "x").reshape(rows, n), np.empty(shape, np.float64)
        run = _core.softmax_emulated if whole else _core.log_sum_exp_emulated
        run(algorithm, values, y, how.format, how.how)
    elif _is_half(array) and algorithm != "online":
        flat = np.ascontiguousarray(array).reshape(rows, n)
        y = np.empty(shape, array.dtype)
        codes, out = flat.view(np.uint16), y.view(np.uint16)
        _core.rows16(function, algorithm, array.dtype.name == "bfloat16", codes, out)
    else:
        values = _widened(array).reshape(rows, n)
        y = np.empty(shape, values.dtype)
        wide = values.dtype == np.float64
        if whole:
            (_core.softmax64 if wide else _core.softmax32)(algorithm, values, y)
        else:
            (_core.log_sum_exp64 if wide else _core.log_sum_exp32)(algorithm, values, y)
    y = y.reshape(array.shape if whole else array.shape[:-1])
    return _finished([x], y, dtype)


def softmax(
    x: ArrayLike,
    *,
    algorithm: str = "three-pass",
    arithmetic: str | Format | None = None,
    **options: Any,
) -> Any:
    """exp(x) / sum(exp(x)) along the last axis; shape and dtype of x.

    algorithm: 'three-pass' (the maximum, the sum, the quotients), 'online' (maximum and sum in one
    pass; Milakov and Gimelshein, arXiv:1805.02867) or 'two-pass' (sums of (significand, exponent)
    pairs, no maximum; Dukhan and Ablavatski, arXiv:2001.04438). A row with NaN or +inf, or of -inf
    alone, is all NaN; -inf elsewhere gives +0.

    arithmetic: a format to which every operation is rounded (exp correctly so), whose values x must
    hold; options: rounding=, overflow=, nan_to=, seed= and so on, as in hu.round. Row r takes the
    random bits of the indices from r 2^32 on. The result has x's dtype, or a wider one that holds
    the format. Without it: binary32 inside, binary64 for float64; docs/softmax.md has the bounds.
    """
    return _over_rows("softmax", x, algorithm, arithmetic, options)


def log_sum_exp(
    x: ArrayLike,
    *,
    algorithm: str = "three-pass",
    arithmetic: str | Format | None = None,
    **options: Any,
) -> Any:
    """log(sum(exp(x))) along the last axis, which the result lacks; dtype of x.

    Algorithms, arithmetic and options as for `softmax`. NaN gives NaN, +inf itself, a row of -inf
    alone or an empty one -inf.
    """
    return _over_rows("log_sum_exp", x, algorithm, arithmetic, options)


def cross_entropy(
    e: ArrayLike,
    c: ArrayLike,
    target: ArrayLike,
    *,
    tile: int = 64,
    return_lse: bool = False,
    arithmetic: str | Format | None = None,
    **options: Any,
) -> Any:
    """The losses log(sum_j exp(a_ij)) - a_i,target(i) of logits a = e c^T that are never stored.

    e (N, D): embeddings; c (V, D): the classifier; target (N): classes, 0 to V - 1. Logits are
    chains of fused multiply-adds, made in tiles of `tile` classes (Wijmans et al.,
    arXiv:2411.09009). The result is (N), float32 (float64 for operands of float64), in nats; with
    return_lse=True the pair of it and the log-sum-exps. arithmetic, options: as for `softmax`, but
    deterministic modes only.
    """
    how = _Arithmetic("cross_entropy", arithmetic, options)
    left, right = _operand(e, "e", 2, "(N, D)"), _operand(c, "c", 2, "(V, D)")
    dtype = _common({"e": left, "c": right})
    if left.shape[1] != right.shape[1]:
        raise ValueError(
            f"e has shape {left.shape} and c {right.shape}; both must have one width D"
        )
    classes = np.asarray(_dlpack.numbers(target, "target"))
    if classes.size == 0:  # a list of nothing has no dtype of its own
        classes = classes.astype(np.int64)
    if classes.dtype.kind not in "iu":
        raise TypeError(f"target has dtype {classes.dtype}; pass integers")
    if classes.shape != left.shape[:1]:
        raise ValueError(f"target has shape {classes.shape}, but e has {left.shape[0]} tokens")
    if classes.size and not (classes.min() >= 0 and classes.max() < right.shape[0]):
        wrong = int(classes.min()) if classes.min() < 0 else int(classes.max())
        raise ValueError(f"target holds {wrong}, but must be 0 to {right.shape[0] - 1}")
    if not 1 <= tile <= 2**32:
        raise ValueError(f"tile is {tile}, but must be 1 to {2**32}")
    indices = np.ascontiguousarray(classes, dtype=np.int64)
    if how.format is not None:
        x, y = how.operand(left, "e"), how.operand(right, "c")
    else:
        x, y = _widened(left), _widened(right)
    loss, lse = np.empty(left.shape[0], x.dtype), np.empty(left.shape[0], x.dtype)
    if how.format is not None:
        _core.cross_entropy_emulated(tile, x, y, indices, loss, lse, how.format, how.how)
    else:
        run = _core.cross_entropy64 if x.dtype == np.float64 else _core.cross_entropy32
        run(tile, x, y, indices, loss, lse)
    kind: Any = np.float64 if dtype == np.float64 else np.float32
    if how.format is not None and not as_format("binary32").holds(how.format):
        kind = np.float64
    results = [_finished([e, c], r, kind) for r in (loss, lse)]
    return tuple(results) if return_lse else results[0]


def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    scale: float | None = None,
    causal: bool = False,
    algorithm: str = "tiles",
    tile: int = 128,
    return_lse: bool = False,
    arithmetic: str | Format | None = None,
    **options: Any,
) -> Any:
    """softmax(scale q k^T) v of each head; q (B, S, H, D), k and v (B, T, H, D), result as q.

    scale: by default 1/sqrt(D). causal: query i sees the keys j <= i + T - S, so that the last
    query sees all (torch's is_causal has j <= i). A query that sees no key gives 0. algorithm:
    'tiles' (FlashAttention-2, arXiv:2307.08691: a running maximum and sum over tiles of `tile`
    keys) or 'plain' (all scores first). return_lse=True: the pair of the result and the
    log-sum-exps of the scores (B, H, S), float32 at least.

    arithmetic: a format to which every operation is rounded (exp and log correctly so), whose
    values q, k and v must hold; scale is rounded to it. Options as in hu.round; query n of all
    B H S takes the random bits of the indices from n 2^32 on. Without it: binary32 inside, binary64
    for float64. docs/attention.md has the bounds.
    """
    how = _Arithmetic("attention", arithmetic, options)
    arrays = {
        "q": _operand(q, "q", 4, "(B, S, H, D)"),
        "k": _operand(k, "k", 4, "(B, T, H, D)"),
        "v": _operand(v, "v", 4, "(B, T, H, D)"),
    }
    dtype = _common(arrays)
    a, b = arrays["q"], arrays["k"]
    if arrays["v"].shape != b.shape:
        raise ValueError(f"k has shape {b.shape} and v {arrays['v'].shape}; they must be equal")
    if a.shape[2] != b.shape[2] and b.shape[2] and a.shape[2] % b.shape[2] == 0:
        raise ValueError(
            f"q has {a.shape[2]} heads and k {b.shape[2]}; repeat these, as in "
            f"np.repeat(k, {a.shape[2] // b.shape[2]}, axis=2)"
        )
    if (a.shape[0], *a.shape[2:]) != (b.shape[0], *b.shape[2:]):
        raise ValueError(
            f"q has shape {a.shape} and k {b.shape}; they may differ in the second extent only"
        )
    _require_algorithm(algorithm, ("plain", "tiles"))
    lacks_infinity = how.format is not None and how.format.infinity_code is None
    if lacks_infinity and algorithm == "tiles" and options.get("overflow") != "saturate":
        raise ValueError(
            f"algorithm 'tiles' begins with a maximum of -inf, which {how.format.name} lacks; "
            "pass overflow='saturate', or algorithm='plain'"
        )
    if not 1 <= tile <= 2**32:
        raise ValueError(f"tile is {tile}, but must be 1 to {2**32}")
    if scale is None:
        scale = 1 / math.sqrt(max(1, a.shape[3]))
    if not 0 < scale < math.inf:
        raise ValueError(f"scale is {scale}, but must be above 0 and finite")
    if how.format is not None:
        operands = [how.operand(x, name) for name, x in arrays.items()]
    else:
        operands = [_widened(x) for x in arrays.values()]
    inner = operands[0].dtype
    out = np.empty(a.shape, inner)
    lse = np.empty((a.shape[0], a.shape[2], a.shape[1]), inner)
    options_of = (algorithm, tile, float(scale), bool(causal), *operands, out, lse)
    if how.format is not None:
        _core.attention_emulated(*options_of, how.format, how.how)
    else:
        (_core.attention64 if inner == np.float64 else _core.attention32)(*options_of)
    result = _finished([q, k, v], out, how.dtype_of_result(a))
    if not return_lse:
        return result
    narrow = dtype != np.float64 and (how.format is None or as_format("binary32").holds(how.format))
    return result, _finished([q, k, v], lse, np.float32 if narrow else np.float64)


_MOMENTS = ("two-pass", "welford", "one-pass")
_LANES = 64  # of the versions in vectors


def _norm(
    function: str,
    x: ArrayLike,
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    eps: float,
    algorithm: str,
    lanes: int,
    arithmetic: str | Format | None,
    options: dict[str, Any],
) -> Any:
    how = _Arithmetic(function, arithmetic, options)
    array = _require_rows(x, "x")
    rows, n = _rows(array)
    factors: list[Array | None] = []
    for name, given in (("weight", weight), ("bias", bias)):
        factor = None if given is None else _values(given, name)
        if factor is not None:
            if factor.shape != (n,):
                raise ValueError(f"{name} has shape {factor.shape}, but x has rows of {n}")
            _common({"x": array, name: factor})
        factors.append(factor)
    _require_algorithm(algorithm, _MOMENTS)
    if not (1 <= lanes <= 2**20 and lanes & (lanes - 1) == 0):
        raise ValueError(f"lanes is {lanes}, but must be a power of two, 1 to {2**20}")
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps is {eps}, but must be 0 or more and finite")
    form = _core.Norm(function == "layer_norm", algorithm, lanes, float(eps))
    dtype = how.dtype_of_result(array)
    if how.format is not None:
        given64 = [
            None if f is None else how.operand(f, name)
            for f, name in zip(factors, ("weight", "bias"), strict=True)
        ]
        y = np.empty((rows, n), np.float64)
        values = how.operand(array, "x").reshape(rows, n)
        _core.norm_emulated(form, values, *given64, y, how.format, how.how)
    elif _is_half(array) and algorithm == "two-pass" and lanes == _LANES:
        codes = [None if f is None else np.ascontiguousarray(f).view(np.uint16) for f in factors]
        y = np.empty((rows, n), array.dtype)
        flat = np.ascontiguousarray(array).reshape(rows, n).view(np.uint16)
        _core.norm16(form, array.dtype.name == "bfloat16", flat, *codes, y.view(np.uint16))
    else:
        values = _widened(array).reshape(rows, n)
        wide = [None if f is None else _widened(f) for f in factors]
        y = np.empty((rows, n), values.dtype)
        (_core.norm64 if values.dtype == np.float64 else _core.norm32)(form, values, *wide, y)
    return _finished([x], y.reshape(array.shape), dtype)


def layer_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    algorithm: str = "two-pass",
    lanes: int = _LANES,
    arithmetic: str | Format | None = None,
    **options: Any,
) -> Any:
    """(x - mean) / sqrt(variance + eps) * weight + bias along the last axis; shape and dtype of x.

    Ba, Kiros and Hinton 2016, arXiv:1607.06450; the variance is divided by n. weight, bias: (n), of
    x's dtype; without them nothing is multiplied or added. algorithm: 'two-pass', 'welford'
    (Welford 1962, lanes merged as by Chan, Golub and LeVeque 1983) or 'one-pass' (mean(x^2) -
    mean^2, which cancels: known to be bad). lanes: a power of two; lane l sums every lanes-th
    element from l on, then neighbours are added.

    arithmetic: a format to which every operation is rounded, whose values x, weight and bias must
    hold; eps is rounded to it. Options as in hu.round; row r takes the random bits of the indices
    from r 2^32 on. Without it: binary32 inside, binary64 for float64. docs/norms.md.
    """
    return _norm("layer_norm", x, weight, bias, eps, algorithm, lanes, arithmetic, options)


def rms_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    eps: float = 1e-6,
    lanes: int = _LANES,
    arithmetic: str | Format | None = None,
    **options: Any,
) -> Any:
    """x / sqrt(mean(x^2) + eps) * weight along the last axis; shape and dtype of x.

    Zhang and Sennrich 2019, arXiv:1910.07467. Arguments as for `layer_norm`.
    """
    return _norm("rms_norm", x, weight, None, eps, "two-pass", lanes, arithmetic, options)


def _activation(
    function: str,
    x: ArrayLike,
    algorithm: str,
    known: tuple[str, ...],
    arithmetic: str | Format | None,
    options: dict[str, Any],
) -> Any:
    how = _Arithmetic(function, arithmetic, options)
    array = _values(x, "x")
    _require_algorithm(algorithm, known)
    dtype = how.dtype_of_result(array)
    if how.format is not None:
        y = np.empty(array.shape, np.float64)
        values = how.operand(array, "x")
        _core.activation_emulated(function, algorithm, values, y, how.format, how.how)
    elif _is_half(array) and algorithm == known[0]:
        y = np.empty(array.shape, array.dtype)
        codes = _raw(np.ascontiguousarray(array)).view(np.uint16)
        _core.activation16(function, array.dtype.name == "bfloat16", codes, y.view(np.uint16))
    else:
        values = _widened(array)
        y = np.empty(array.shape, values.dtype)
        run = _core.activation64 if values.dtype == np.float64 else _core.activation32
        run(function, algorithm, values, y)
    return _finished([x], y, dtype)


def gelu(
    x: ArrayLike,
    *,
    algorithm: str = "normal",
    arithmetic: str | Format | None = None,
    **options: Any,
) -> Any:
    """x times the normal distribution's function at x (Hendrycks and Gimpel, arXiv:1606.08415).

    algorithm: 'normal' (accurate also where that is small), 'erf' (x/2 (1 + erf(x sqrt(1/2))),
    which cancels below 0) or 'tanh' (the approximation, another function). arithmetic: a format to
    which every operation is rounded ('erf' and 'tanh', deterministic modes), whose values x must
    hold; options as in hu.round. Without it: binary32 inside, binary64 for float64; 'erf' and
    'tanh' take libm's functions. hu.functions.gelu is the function itself, rounded once.
    """
    names = ("normal", "erf", "tanh")
    return _activation("gelu", x, algorithm, names, arithmetic, options)


def silu(
    x: ArrayLike,
    *,
    algorithm: str = "quotient",
    arithmetic: str | Format | None = None,
    **options: Any,
) -> Any:
    """x / (1 + exp(-x)) (Elfwing, Uchibe and Doya, arXiv:1702.03118); 'sigmoid': x (1/(1+exp(-x))).

    Arguments as for `gelu`; hu.functions.silu is the function itself, rounded once.
    """
    return _activation("silu", x, algorithm, ("quotient", "sigmoid"), arithmetic, options)


def rotary(
    x: ArrayLike,
    cos: ArrayLike,
    sin: ArrayLike,
    *,
    pairing: str = "halves",
    fused: bool = False,
    arithmetic: str | Format | None = None,
    **options: Any,
) -> Any:
    """Pairs (p, q) of a head's coordinates become (p cos - q sin, q cos + p sin); as x.

    Su et al. 2021, arXiv:2104.09864. x (B, S, H, D), D even; cos and sin (S, D/2), of x's dtype.
    pairing: 'halves' (p = x[i], q = x[i + D/2]) or 'interleaved' (x[2i], x[2i + 1]). fused: the
    second product by fma. arithmetic, options: as for `softmax`; head n of all B S H takes the
    random bits of the indices from n 2^32 on.
    """
    how = _Arithmetic("rotary", arithmetic, options)
    arrays = {
        "x": _operand(x, "x", 4, "(B, S, H, D)"),
        "cos": _operand(cos, "cos", 2, "(S, D/2)"),
        "sin": _operand(sin, "sin", 2, "(S, D/2)"),
    }
    _common(arrays)
    array = arrays["x"]
    _, tokens, _, width = array.shape
    if width % 2:
        raise ValueError(f"x has heads of {width}; their width must be even")
    for name in ("cos", "sin"):
        if arrays[name].shape != (tokens, width // 2):
            raise ValueError(
                f"{name} has shape {arrays[name].shape}, but for this x it must be "
                f"{(tokens, width // 2)}"
            )
    if pairing not in ("halves", "interleaved"):
        raise ValueError(f"pairing '{pairing}' is unknown; choose 'halves' or 'interleaved'")
    if how.format is not None:
        operands = [how.operand(a, name) for name, a in arrays.items()]
    else:
        operands = [_widened(a) for a in arrays.values()]
    y = np.empty(array.shape, operands[0].dtype)
    if how.format is not None:
        _core.rotary_emulated(pairing, bool(fused), *operands, y, how.format, how.how)
    else:
        run = _core.rotary64 if y.dtype == np.float64 else _core.rotary32
        run(pairing, bool(fused), *operands, y)
    return _finished([x, cos, sin], y, how.dtype_of_result(array))


def adamw_step(
    parameter: ArrayLike,
    gradient: ArrayLike,
    m: ArrayLike,
    v: ArrayLike,
    *,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    lerp: bool = True,
    arithmetic: str | Format | None = None,
    **options: Any,
) -> tuple[Any, Any, Any]:
    """One step of AdamW (Loshchilov and Hutter, arXiv:1711.05101), in the order of PyTorch.

    Returns the new parameter, m and v, of the shapes and dtypes that they had; step counts from 1.
    lerp: m + (gradient - m)(1 - beta1) in place of two products. Arrays are all float32, or all
    float64, or bfloat16 with m and v of float32. arithmetic: a format to which every operation is
    rounded, whose values all four must hold; numbers that no element changes are computed in
    binary64 and rounded to it. Options as in hu.round; element i takes the random bits of the
    indices from 16 i on.
    """
    how = _Arithmetic("adamw_step", arithmetic, options)
    arrays = {
        name: _values(x, name)
        for name, x in (("parameter", parameter), ("gradient", gradient), ("m", m), ("v", v))
    }
    for name, x in arrays.items():
        if x.shape != arrays["parameter"].shape:
            raise ValueError(
                f"{name} has shape {x.shape}, but parameter has {arrays['parameter'].shape}"
            )
    if isinstance(step, bool) or not isinstance(step, int | np.integer) or step < 1:
        raise ValueError(f"step is {step!r}, but must be an integer, 1 or more")
    for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}, but must be 0 or more and finite")
    for name, value in (("beta1", beta1), ("beta2", beta2)):
        if not 0 <= value < 1:
            raise ValueError(f"{name} is {value}, but must be at least 0 and below 1")
    names = [x.dtype.name for x in arrays.values()]
    chosen = _core.AdamWOptions(
        float(lr), float(beta1), float(beta2), float(eps), float(weight_decay), float(step), lerp
    )
    copies = {name: np.array(x, order="C") for name, x in arrays.items()}
    if how.format is not None:
        for name, x in arrays.items():
            copies[name] = np.array(how.operand(x, name))
        _core.adamw_emulated(chosen, *copies.values(), how.format, how.how)
    elif names == ["bfloat16", "bfloat16", "float32", "float32"]:
        codes = [_raw(copies[name]) for name in ("parameter", "gradient")]
        _core.adamw16(chosen, *codes, copies["m"], copies["v"])
    elif set(names) in ({"float32"}, {"float64"}):
        run = _core.adamw64 if names[0] == "float64" else _core.adamw32
        run(chosen, *copies.values())
    else:
        raise TypeError(
            f"parameter, gradient, m and v have dtypes {', '.join(names)}; pass float32 or float64 "
            "for all, or bfloat16 with m and v of float32"
        )
    given = [parameter, gradient, m, v]
    new = [
        _finished(given, copies[name], how.dtype_of_result(arrays[name]))
        for name in ("parameter", "m", "v")
    ]
    return new[0], new[1], new[2]


def int8_matmul(a: ArrayLike, b: ArrayLike, c: ArrayLike | None = None) -> Any:
    """a (M, K) @ b (K, N) [+ c (M, N)] of int8 matrices, exactly, in int32.

    c: int32. Sums wrap as two's complement does, which K below 131072 without c cannot reach.
    """
    arrays = {}
    for name, x, dtype in (("a", a, np.int8), ("b", b, np.int8), ("c", c, np.int32)):
        if x is None:
            continue
        array = _dlpack.numbers(x, name)
        if array.dtype != dtype:
            raise TypeError(f"{name} has dtype {array.dtype}, but must have {np.dtype(dtype)}")
        if array.ndim != 2:
            raise ValueError(f"{name} has {array.ndim} dimensions; int8_matmul takes matrices")
        arrays[name] = np.ascontiguousarray(array)
    x, y = arrays["a"], arrays["b"]
    if x.shape[1] != y.shape[0]:
        raise ValueError(
            f"a has shape {x.shape} and b {y.shape}; the columns of a must equal the rows of b"
        )
    shape = (x.shape[0], y.shape[1])
    if c is not None and arrays["c"].shape != shape:
        raise ValueError(f"c has shape {arrays['c'].shape}, but the product has {shape}")
    out = np.empty(shape, np.int32)
    _core.int8_matmul(x, y, arrays.get("c"), out)
    return _finished([a, b] if c is None else [a, b, c], out, np.int32)


def llm_int8(x: ArrayLike, w: ArrayLike, *, threshold: float = 6.0) -> Any:
    """x (M, K) @ w (K, N) by LLM.int8() (Dettmers et al., arXiv:2208.07339, section 3).

    Columns of x with a magnitude of threshold or more (NaN and infinities too) are multiplied as
    they are, the others as integers of -127 to 127 on the scales of x's rows and w's columns, whose
    maxima are those over the same k. float32, or float16 or bfloat16, for which results are rounded
    once more; binary32 inside. docs/products.md has the steps.
    """
    operands = {
        "x": _operand(x, "x", 2, "(M, K)"),
        "w": _operand(w, "w", 2, "(K, N)"),
    }
    dtype = _common(operands)
    if dtype == np.float64:
        raise TypeError("x has dtype float64, but LLM.int8 computes in binary32; convert x and w")
    (m, k), (rows, n) = operands["x"].shape, operands["w"].shape
    if k != rows:
        raise ValueError(
            f"x has shape {(m, k)} and w {(rows, n)}; the columns of x must equal the rows of w"
        )
    if k >= 131072:
        raise ValueError(
            f"x has {k} columns, but its integers' sums hold those of 131071; split x and w"
        )
    if not threshold >= 0:
        raise ValueError(f"threshold is {threshold}, but must be 0 or more")
    out = np.empty((m, n), np.float32)
    _core.llm_int8(*(_widened(v) for v in operands.values()), float(threshold), out)
    return _finished([x, w], out, dtype)
