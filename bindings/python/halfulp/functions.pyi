"""Signatures of the functions; a test compares them with the table."""

from typing import Any, Literal, Protocol

from numpy.typing import ArrayLike, NDArray

from halfulp._elementwise import FormatLike

class _OfOne(Protocol):
    def __call__(
        self,
        x: ArrayLike,
        f: FormatLike,
        *,
        rounding: str = ...,
        overflow: str = ...,
        out: NDArray[Any] | None = ...,
        seed: int | None = ...,
        step: int = ...,
        tensor: int = ...,
        offset: int = ...,
        random_bits: int = ...,
        nan_to: str = ...,
        tininess: Literal["after", "before"] = ...,
        flags: bool = ...,
    ) -> Any: ...

class _OfTwo(Protocol):
    def __call__(
        self,
        a: ArrayLike,
        b: ArrayLike,
        f: FormatLike,
        *,
        rounding: str = ...,
        overflow: str = ...,
        out: NDArray[Any] | None = ...,
        seed: int | None = ...,
        step: int = ...,
        tensor: int = ...,
        offset: int = ...,
        random_bits: int = ...,
        nan_to: str = ...,
        tininess: Literal["after", "before"] = ...,
        flags: bool = ...,
    ) -> Any: ...

def names() -> list[str]: ...

exp: _OfOne
exp2: _OfOne
exp10: _OfOne
expm1: _OfOne
log: _OfOne
log2: _OfOne
log10: _OfOne
log1p: _OfOne
sin: _OfOne
cos: _OfOne
tan: _OfOne
tanh: _OfOne
sigmoid: _OfOne
erf: _OfOne
erfc: _OfOne
gelu: _OfOne
silu: _OfOne
softplus: _OfOne
rsqrt: _OfOne
cbrt: _OfOne
lgamma: _OfOne
pow: _OfTwo
hypot: _OfTwo
atan2: _OfTwo
