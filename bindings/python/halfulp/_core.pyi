"""
The compiled part of halfulp; use the package halfulp.
"""

from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing

__all__: list[str] = [
    "Format",
    "How",
    "NumberSystem",
    "RoundingError",
    "apply",
    "apply_system",
    "compute",
    "compute_system",
    "decode_system",
    "make_codebook",
    "matmul32",
    "matmul64",
    "mean_magnitudes",
    "mode_names",
    "named_formats",
    "named_systems",
    "parse_format",
    "parse_system",
]

class Format:
    def __eq__(self, arg0: Format) -> bool: ...
    def __hash__(self) -> int: ...
    def __init__(self, **kwargs) -> None:
        """
        Format(*, exponent_bits, precision, bias=2**(exponent_bits-1)-1, is_signed=True, nan='ieee', inf='ieee', subnormals=True, zero=True, max_code=0)
        """
    def __reduce__(self) -> tuple: ...
    def __repr__(self) -> str: ...
    def _exact(
        self,
        low: typing.SupportsInt | typing.SupportsIndex,
        high: typing.SupportsInt | typing.SupportsIndex,
    ) -> typing.Any: ...
    def holds(self, narrow: Format) -> bool: ...
    @property
    def bias(self) -> int: ...
    @property
    def canonical_name(self) -> str: ...
    @property
    def emax(self) -> int: ...
    @property
    def emin(self) -> int: ...
    @property
    def exponent_bits(self) -> int: ...
    @property
    def inf(self) -> str: ...
    @property
    def infinity_code(self) -> typing.Any: ...
    @property
    def is_signed(self) -> bool: ...
    @property
    def largest_code(self) -> int: ...
    @property
    def least_code(self) -> int: ...
    @property
    def least_normal_code(self) -> int: ...
    @property
    def max_code(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def nan(self) -> str: ...
    @property
    def nan_code(self) -> typing.Any: ...
    @property
    def precision(self) -> int: ...
    @property
    def subnormals(self) -> bool: ...
    @property
    def width(self) -> int: ...
    @property
    def zero(self) -> bool: ...

class RoundingError(ValueError):
    pass

class How:
    def __init__(
        self,
        rounding: str,
        overflow: str,
        nan_to: str,
        tininess: str,
        seed: typing.SupportsInt | typing.SupportsIndex | None,
        step: typing.SupportsInt | typing.SupportsIndex,
        tensor: typing.SupportsInt | typing.SupportsIndex,
        offset: typing.SupportsInt | typing.SupportsIndex,
        random_bits: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...

class NumberSystem:
    def __eq__(self, arg0: NumberSystem) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple: ...
    def __repr__(self) -> str: ...
    def fits(self, format: Format) -> bool: ...
    def has_value(self, code: typing.SupportsInt | typing.SupportsIndex) -> bool: ...
    def wrapping(self) -> NumberSystem: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def width(self) -> int: ...

def apply(
    operation: str,
    operands: collections.abc.Sequence[tuple[numpy.ndarray, str, Format]],
    out: numpy.ndarray,
    out_kind: str,
    format: Format,
    how: How,
    flags: typing.Annotated[numpy.typing.ArrayLike, numpy.uint8] | None = None,
) -> None: ...
def apply_system(
    operation: str,
    operands: collections.abc.Sequence[tuple[numpy.ndarray, str, NumberSystem]],
    out: numpy.ndarray,
    out_kind: str,
    system: NumberSystem,
    how: How,
    flags: typing.Annotated[numpy.typing.ArrayLike, numpy.uint8] | None = None,
) -> None: ...
def compute(
    operation: str, operands: collections.abc.Sequence[tuple[int, Format]], format: Format, how: How
) -> tuple: ...
def compute_system(
    operation: str,
    operands: collections.abc.Sequence[tuple[int, Format | None]],
    system: NumberSystem,
    how: How,
) -> tuple: ...
def decode_system(
    codes: numpy.ndarray, kind: str, system: NumberSystem, out: numpy.ndarray, out_kind: str
) -> None: ...
def make_codebook(
    name: str,
    values: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex],
    codes: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
) -> NumberSystem: ...
def matmul32(
    a: numpy.typing.NDArray[numpy.float32],
    b: numpy.typing.NDArray[numpy.float32],
    c: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None,
    out: numpy.typing.NDArray[numpy.float32],
    product: Format,
    accumulator: Format,
    order: str,
    block: typing.SupportsInt | typing.SupportsIndex,
    how: How,
) -> int: ...
def matmul64(
    a: numpy.typing.NDArray[numpy.float64],
    b: numpy.typing.NDArray[numpy.float64],
    c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None,
    out: numpy.typing.NDArray[numpy.float64],
    product: Format,
    accumulator: Format,
    order: str,
    block: typing.SupportsInt | typing.SupportsIndex,
    how: How,
) -> int: ...
def mean_magnitudes(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    counts: typing.Annotated[numpy.typing.ArrayLike, numpy.uint8],
    format: Format,
    how: How,
) -> numpy.typing.NDArray[numpy.uint64]: ...
def mode_names() -> list[str]: ...
def named_formats() -> list[tuple[str, Format, str]]: ...
def named_systems() -> list[tuple[str, str]]: ...
def parse_format(name: str) -> Format: ...
def parse_system(name: str) -> NumberSystem | None: ...

__version__: str = "0.1.0"
