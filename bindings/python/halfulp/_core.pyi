"""
The compiled part of halfulp; use the package halfulp.
"""

from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing

__all__: list[str] = [
    "AdamWOptions",
    "BlockFormat",
    "Ending",
    "Format",
    "How",
    "Lns",
    "Norm",
    "NumberSystem",
    "RefinementHistory",
    "RoundingError",
    "activation16",
    "activation32",
    "activation64",
    "activation_emulated",
    "adamw16",
    "adamw32",
    "adamw64",
    "adamw_emulated",
    "add_pairs",
    "apply",
    "apply_system",
    "attention32",
    "attention64",
    "attention_emulated",
    "block_counts",
    "check_unit",
    "class_names",
    "compute",
    "compute_lns",
    "compute_system",
    "cross_entropy32",
    "cross_entropy64",
    "cross_entropy_emulated",
    "decode_lns",
    "decode_system",
    "default_unit",
    "dequantize",
    "dequantize_logfmt",
    "encode_lns",
    "functions",
    "functions_missing",
    "hadamard",
    "int8_matmul",
    "log_sum_exp32",
    "log_sum_exp64",
    "log_sum_exp_emulated",
    "make_codebook",
    "matmul32",
    "matmul64",
    "matmul_unit32",
    "matmul_unit64",
    "matmul_x86",
    "mean_magnitudes",
    "mode_names",
    "named_block_formats",
    "named_formats",
    "named_systems",
    "named_units",
    "no_exponent",
    "norm16",
    "norm32",
    "norm64",
    "norm_emulated",
    "norm_order",
    "operations",
    "ordering_names",
    "outcomes",
    "pack16",
    "pack8",
    "pair_values",
    "parse_block_format",
    "parse_format",
    "parse_lns",
    "parse_system",
    "quantize",
    "quantize_logfmt",
    "random_signs",
    "read_dlpack",
    "refine",
    "rename_dlpack_type",
    "require_tensor_scale",
    "rotary32",
    "rotary64",
    "rotary_emulated",
    "rows16",
    "scale_rule_names",
    "set_threads",
    "softmax32",
    "softmax64",
    "softmax_emulated",
    "split_pairs",
    "squared_error",
    "squares_unit",
    "sum_pairs",
    "threads",
    "unit_no_exponent",
    "unpack16",
    "unpack8",
    "x86_units",
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

class BlockFormat:
    def __eq__(self, arg0: BlockFormat) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple: ...
    def __repr__(self) -> str: ...
    @property
    def canonical_name(self) -> str: ...
    @property
    def coding(self) -> str: ...
    @property
    def columns(self) -> int: ...
    @property
    def element(self) -> Format: ...
    @property
    def element_bits(self) -> int: ...
    @property
    def grouping(self) -> str: ...
    @property
    def is_affine(self) -> bool: ...
    @property
    def name(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def rule(self) -> str: ...
    @property
    def scale(self) -> Format: ...
    @property
    def scale_rounding(self) -> str: ...
    @property
    def tensor_target(self) -> int: ...

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

class Ending:
    """
    Members:

      exact

      small_update

      backward_error

      stagnated

      iterations

      overflow

      singular
    """

    __members__: typing.ClassVar[dict[str, Ending]]
    backward_error: typing.ClassVar[Ending]
    exact: typing.ClassVar[Ending]
    iterations: typing.ClassVar[Ending]
    overflow: typing.ClassVar[Ending]
    singular: typing.ClassVar[Ending]
    small_update: typing.ClassVar[Ending]
    stagnated: typing.ClassVar[Ending]
    @typing.overload
    def __eq__(self, other: Ending) -> bool: ...
    @typing.overload
    def __eq__(self, other: typing.Any) -> bool: ...
    def __getstate__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __index__(self) -> int: ...
    def __init__(self, value: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __int__(self) -> int: ...
    @typing.overload
    def __ne__(self, other: Ending) -> bool: ...
    @typing.overload
    def __ne__(self, other: typing.Any) -> bool: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, state: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __str__(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...

class RefinementHistory:
    @property
    def backward_errors(self) -> list[float]: ...
    @property
    def ending(self) -> Ending: ...
    @property
    def forward_errors(self) -> list[float]: ...
    @property
    def gmres_iterations(self) -> list[int]: ...
    @property
    def updates(self) -> list[float]: ...
    @property
    def x(self) -> list[float]: ...

class Lns:
    def __eq__(self, arg0: Lns) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[..., tuple[str]]: ...
    def __repr__(self) -> str: ...
    @property
    def fraction_bits(self) -> int: ...
    @property
    def largest_code(self) -> int: ...
    @property
    def least_code(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def nan_code(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def zero_code(self) -> int: ...

class Norm:
    def __init__(
        self,
        centred: bool,
        moments: str,
        lanes: typing.SupportsInt | typing.SupportsIndex,
        epsilon: typing.SupportsFloat | typing.SupportsIndex,
    ) -> None: ...

class AdamWOptions:
    def __init__(
        self,
        rate: typing.SupportsFloat | typing.SupportsIndex,
        beta1: typing.SupportsFloat | typing.SupportsIndex,
        beta2: typing.SupportsFloat | typing.SupportsIndex,
        epsilon: typing.SupportsFloat | typing.SupportsIndex,
        decay: typing.SupportsFloat | typing.SupportsIndex,
        step: typing.SupportsFloat | typing.SupportsIndex,
        lerp: bool,
    ) -> None: ...

def activation16(
    function: str,
    is_bfloat16: bool,
    x: numpy.typing.NDArray[numpy.uint16],
    y: numpy.typing.NDArray[numpy.uint16],
) -> None: ...
def activation32(
    function: str,
    algorithm: str,
    x: numpy.typing.NDArray[numpy.float32],
    y: numpy.typing.NDArray[numpy.float32],
) -> None: ...
def activation64(
    function: str,
    algorithm: str,
    x: numpy.typing.NDArray[numpy.float64],
    y: numpy.typing.NDArray[numpy.float64],
) -> None: ...
def activation_emulated(
    function: str,
    algorithm: str,
    x: numpy.typing.NDArray[numpy.float64],
    y: numpy.typing.NDArray[numpy.float64],
    format: Format,
    how: How,
) -> None: ...
def adamw16(
    options: AdamWOptions,
    parameter: numpy.typing.NDArray[numpy.uint16],
    gradient: numpy.typing.NDArray[numpy.uint16],
    m: numpy.typing.NDArray[numpy.float32],
    v: numpy.typing.NDArray[numpy.float32],
) -> None: ...
def adamw32(
    options: AdamWOptions,
    parameter: numpy.typing.NDArray[numpy.float32],
    gradient: numpy.typing.NDArray[numpy.float32],
    m: numpy.typing.NDArray[numpy.float32],
    v: numpy.typing.NDArray[numpy.float32],
) -> None: ...
def adamw64(
    options: AdamWOptions,
    parameter: numpy.typing.NDArray[numpy.float64],
    gradient: numpy.typing.NDArray[numpy.float64],
    m: numpy.typing.NDArray[numpy.float64],
    v: numpy.typing.NDArray[numpy.float64],
) -> None: ...
def adamw_emulated(
    options: AdamWOptions,
    parameter: numpy.typing.NDArray[numpy.float64],
    gradient: numpy.typing.NDArray[numpy.float64],
    m: numpy.typing.NDArray[numpy.float64],
    v: numpy.typing.NDArray[numpy.float64],
    format: Format,
    how: How,
) -> None: ...
def add_pairs(
    a: numpy.typing.NDArray[numpy.float64],
    a_exponents: numpy.typing.NDArray[numpy.int32],
    b: numpy.typing.NDArray[numpy.float64],
    b_exponents: numpy.typing.NDArray[numpy.int32],
    format: Format,
    how: How,
) -> tuple[numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.int32], int]: ...
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
def attention32(
    algorithm: str,
    tile: typing.SupportsInt | typing.SupportsIndex,
    scale: typing.SupportsFloat | typing.SupportsIndex,
    causal: bool,
    q: numpy.typing.NDArray[numpy.float32],
    k: numpy.typing.NDArray[numpy.float32],
    v: numpy.typing.NDArray[numpy.float32],
    out: numpy.typing.NDArray[numpy.float32],
    lse: numpy.typing.NDArray[numpy.float32],
) -> None: ...
def attention64(
    algorithm: str,
    tile: typing.SupportsInt | typing.SupportsIndex,
    scale: typing.SupportsFloat | typing.SupportsIndex,
    causal: bool,
    q: numpy.typing.NDArray[numpy.float64],
    k: numpy.typing.NDArray[numpy.float64],
    v: numpy.typing.NDArray[numpy.float64],
    out: numpy.typing.NDArray[numpy.float64],
    lse: numpy.typing.NDArray[numpy.float64],
) -> None: ...
def attention_emulated(
    algorithm: str,
    tile: typing.SupportsInt | typing.SupportsIndex,
    scale: typing.SupportsFloat | typing.SupportsIndex,
    causal: bool,
    q: numpy.typing.NDArray[numpy.float64],
    k: numpy.typing.NDArray[numpy.float64],
    v: numpy.typing.NDArray[numpy.float64],
    out: numpy.typing.NDArray[numpy.float64],
    lse: numpy.typing.NDArray[numpy.float64],
    format: Format,
    how: How,
) -> None: ...
def block_counts(
    format: BlockFormat,
    shape: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
    axis: typing.SupportsInt | typing.SupportsIndex,
) -> list[int]: ...
def check_unit(fields: dict) -> None: ...
def class_names() -> list[str]: ...
def compute(
    operation: str, operands: collections.abc.Sequence[tuple[int, Format]], format: Format, how: How
) -> tuple: ...
def compute_lns(
    operation: str,
    operands: collections.abc.Sequence[typing.Annotated[numpy.typing.ArrayLike, numpy.uint32]],
    system: Lns,
    distance: str,
    how: How,
) -> tuple: ...
def compute_system(
    operation: str,
    operands: collections.abc.Sequence[tuple[int, Format | None]],
    system: NumberSystem,
    how: How,
) -> tuple: ...
def cross_entropy32(
    tile: typing.SupportsInt | typing.SupportsIndex,
    e: numpy.typing.NDArray[numpy.float32],
    c: numpy.typing.NDArray[numpy.float32],
    target: numpy.typing.NDArray[numpy.int64],
    loss: numpy.typing.NDArray[numpy.float32],
    lse: numpy.typing.NDArray[numpy.float32],
) -> None: ...
def cross_entropy64(
    tile: typing.SupportsInt | typing.SupportsIndex,
    e: numpy.typing.NDArray[numpy.float64],
    c: numpy.typing.NDArray[numpy.float64],
    target: numpy.typing.NDArray[numpy.int64],
    loss: numpy.typing.NDArray[numpy.float64],
    lse: numpy.typing.NDArray[numpy.float64],
) -> None: ...
def cross_entropy_emulated(
    tile: typing.SupportsInt | typing.SupportsIndex,
    e: numpy.typing.NDArray[numpy.float64],
    c: numpy.typing.NDArray[numpy.float64],
    target: numpy.typing.NDArray[numpy.int64],
    loss: numpy.typing.NDArray[numpy.float64],
    lse: numpy.typing.NDArray[numpy.float64],
    format: Format,
    how: How,
) -> None: ...
def decode_lns(
    codes: typing.Annotated[numpy.typing.ArrayLike, numpy.uint32],
    system: Lns,
    format: Format,
    how: How,
) -> tuple: ...
def decode_system(
    codes: numpy.ndarray, kind: str, system: NumberSystem, out: numpy.ndarray, out_kind: str
) -> None: ...
def default_unit() -> dict: ...
def dequantize(
    codes: numpy.ndarray,
    code_kind: str,
    scales: numpy.ndarray,
    scale_kind: str,
    zero_points: numpy.typing.NDArray[numpy.int32] | None,
    tensor_scale: typing.SupportsInt | typing.SupportsIndex,
    format: BlockFormat,
    axis: typing.SupportsInt | typing.SupportsIndex,
    out: numpy.ndarray,
    out_kind: str,
    rounding: str | None,
) -> None: ...
def dequantize_logfmt(
    codes: typing.Annotated[numpy.typing.ArrayLike, numpy.uint16],
    length: typing.SupportsInt | typing.SupportsIndex,
    tile: typing.SupportsInt | typing.SupportsIndex,
    width: typing.SupportsInt | typing.SupportsIndex,
    minima: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    steps: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    format: Format,
) -> numpy.typing.NDArray[numpy.uint64]: ...
def encode_lns(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], system: Lns, distance: str, how: How
) -> tuple: ...
def functions() -> list[tuple[str, int, str]]: ...
def functions_missing() -> str: ...
def hadamard(
    x: numpy.ndarray,
    kind: str,
    out: numpy.ndarray,
    out_kind: str,
    format: Format,
    block: typing.SupportsInt | typing.SupportsIndex,
    axis: typing.SupportsInt | typing.SupportsIndex,
    orthonormal: bool,
    inverse: bool,
    signs: typing.Annotated[numpy.typing.ArrayLike, numpy.uint8],
    how: How,
    flags: typing.Annotated[numpy.typing.ArrayLike, numpy.uint8] | None = None,
) -> None: ...
def int8_matmul(
    a: numpy.typing.NDArray[numpy.int8],
    b: numpy.typing.NDArray[numpy.int8],
    c: typing.Annotated[numpy.typing.ArrayLike, numpy.int32] | None,
    out: numpy.typing.NDArray[numpy.int32],
) -> None: ...
def llm_int8(
    x: numpy.typing.NDArray[numpy.float32],
    w: numpy.typing.NDArray[numpy.float32],
    threshold: typing.SupportsFloat | typing.SupportsIndex,
    out: numpy.typing.NDArray[numpy.float32],
) -> None: ...
def log_sum_exp32(
    algorithm: str, x: numpy.typing.NDArray[numpy.float32], y: numpy.typing.NDArray[numpy.float32]
) -> None: ...
def log_sum_exp64(
    algorithm: str, x: numpy.typing.NDArray[numpy.float64], y: numpy.typing.NDArray[numpy.float64]
) -> None: ...
def log_sum_exp_emulated(
    algorithm: str,
    x: numpy.typing.NDArray[numpy.float64],
    y: numpy.typing.NDArray[numpy.float64],
    format: Format,
    how: How,
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
) -> None: ...
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
) -> None: ...
def matmul_unit32(
    fields: dict,
    a: numpy.typing.NDArray[numpy.uint32],
    b: numpy.typing.NDArray[numpy.uint32],
    c: typing.Annotated[numpy.typing.ArrayLike, numpy.uint32] | None,
    a_scale: typing.Annotated[numpy.typing.ArrayLike, numpy.uint32] | None,
    b_scale: typing.Annotated[numpy.typing.ArrayLike, numpy.uint32] | None,
    out: numpy.typing.NDArray[numpy.uint32],
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> None: ...
def matmul_unit64(
    fields: dict,
    a: numpy.typing.NDArray[numpy.uint64],
    b: numpy.typing.NDArray[numpy.uint64],
    c: typing.Annotated[numpy.typing.ArrayLike, numpy.uint64] | None,
    a_scale: typing.Annotated[numpy.typing.ArrayLike, numpy.uint64] | None,
    b_scale: typing.Annotated[numpy.typing.ArrayLike, numpy.uint64] | None,
    out: numpy.typing.NDArray[numpy.uint64],
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> None: ...
def matmul_x86(
    name: str,
    a: numpy.typing.NDArray[numpy.uint32],
    b: numpy.typing.NDArray[numpy.uint32],
    c: typing.Annotated[numpy.typing.ArrayLike, numpy.uint32] | None,
    out: numpy.typing.NDArray[numpy.uint32],
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> None: ...
def mean_magnitudes(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    counts: typing.Annotated[numpy.typing.ArrayLike, numpy.uint8],
    format: Format,
    how: How,
) -> numpy.typing.NDArray[numpy.uint64]: ...
def mode_names() -> list[str]: ...
def named_block_formats() -> list[tuple[str, BlockFormat, str]]: ...
def named_formats() -> list[tuple[str, Format, str]]: ...
def named_systems() -> list[tuple[str, str]]: ...
def named_units() -> list: ...
def norm16(
    norm: Norm,
    is_bfloat16: bool,
    x: numpy.typing.NDArray[numpy.uint16],
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.uint16] | None,
    bias: typing.Annotated[numpy.typing.ArrayLike, numpy.uint16] | None,
    y: numpy.typing.NDArray[numpy.uint16],
) -> None: ...
def norm32(
    norm: Norm,
    x: numpy.typing.NDArray[numpy.float32],
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None,
    bias: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None,
    y: numpy.typing.NDArray[numpy.float32],
) -> None: ...
def norm64(
    norm: Norm,
    x: numpy.typing.NDArray[numpy.float64],
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None,
    bias: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None,
    y: numpy.typing.NDArray[numpy.float64],
) -> None: ...
def norm_emulated(
    norm: Norm,
    x: numpy.typing.NDArray[numpy.float64],
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None,
    bias: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None,
    y: numpy.typing.NDArray[numpy.float64],
    format: Format,
    how: How,
) -> None: ...
def norm_order(x: numpy.typing.NDArray[numpy.float64]) -> numpy.typing.NDArray[numpy.int64]: ...
def operations() -> list[tuple[str, int, bool]]: ...
def ordering_names() -> list[str]: ...
def outcomes(code: int, from_format: Format, format: Format, how: How) -> tuple: ...
def pack16(
    codes: numpy.typing.NDArray[numpy.uint16], width: typing.SupportsInt | typing.SupportsIndex
) -> numpy.typing.NDArray[numpy.uint8]: ...
def pack8(
    codes: numpy.typing.NDArray[numpy.uint8], width: typing.SupportsInt | typing.SupportsIndex
) -> numpy.typing.NDArray[numpy.uint8]: ...
def pair_values(
    v: numpy.typing.NDArray[numpy.float64],
    exponents: numpy.typing.NDArray[numpy.int32],
    format: Format,
    how: How,
) -> tuple[numpy.typing.NDArray[numpy.float64], int]: ...
def parse_block_format(name: str) -> BlockFormat: ...
def parse_format(name: str) -> Format: ...
def parse_lns(name: str) -> Lns | None: ...
def parse_system(name: str) -> NumberSystem | None: ...
def quantize(
    x: numpy.ndarray,
    kind: str,
    format: BlockFormat,
    axis: typing.SupportsInt | typing.SupportsIndex,
    codes: numpy.ndarray,
    code_kind: str,
    scales: numpy.ndarray,
    scale_kind: str,
    zero_points: numpy.typing.NDArray[numpy.int32] | None,
    tensor_scale: numpy.typing.NDArray[numpy.uint32],
    tensor_scale_given: bool,
    how: ...,
) -> None: ...
def quantize_logfmt(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    length: typing.SupportsInt | typing.SupportsIndex,
    tile: typing.SupportsInt | typing.SupportsIndex,
    width: typing.SupportsInt | typing.SupportsIndex,
    indices: typing.Annotated[numpy.typing.ArrayLike, numpy.uint64],
    how: How,
) -> tuple: ...
def random_signs(
    how: How, n: typing.SupportsInt | typing.SupportsIndex
) -> numpy.typing.NDArray[numpy.uint8]: ...
def read_dlpack(capsule: typing.Any) -> tuple: ...
def refine(
    a: numpy.typing.NDArray[numpy.float64],
    b: numpy.typing.NDArray[numpy.float64],
    factor: Format,
    working: Format,
    residual: Format,
    gmres: bool,
    gmres_tolerance: typing.SupportsFloat | typing.SupportsIndex,
    scale: bool,
    scaled_part: typing.SupportsFloat | typing.SupportsIndex,
    max_iterations: typing.SupportsInt | typing.SupportsIndex,
) -> RefinementHistory: ...
def rename_dlpack_type(capsule: typing.Any, dtype: str) -> None: ...
def require_tensor_scale(format: BlockFormat) -> None: ...
def rotary32(
    pairing: str,
    fused: bool,
    x: numpy.typing.NDArray[numpy.float32],
    cos: numpy.typing.NDArray[numpy.float32],
    sin: numpy.typing.NDArray[numpy.float32],
    y: numpy.typing.NDArray[numpy.float32],
) -> None: ...
def rotary64(
    pairing: str,
    fused: bool,
    x: numpy.typing.NDArray[numpy.float64],
    cos: numpy.typing.NDArray[numpy.float64],
    sin: numpy.typing.NDArray[numpy.float64],
    y: numpy.typing.NDArray[numpy.float64],
) -> None: ...
def rotary_emulated(
    pairing: str,
    fused: bool,
    x: numpy.typing.NDArray[numpy.float64],
    cos: numpy.typing.NDArray[numpy.float64],
    sin: numpy.typing.NDArray[numpy.float64],
    y: numpy.typing.NDArray[numpy.float64],
    format: Format,
    how: How,
) -> None: ...
def rows16(
    function: str,
    algorithm: str,
    is_bfloat16: bool,
    x: numpy.typing.NDArray[numpy.uint16],
    y: numpy.typing.NDArray[numpy.uint16],
) -> None: ...
def scale_rule_names() -> list[str]: ...
def set_threads(n: typing.SupportsInt | typing.SupportsIndex) -> None: ...
def softmax32(
    algorithm: str, x: numpy.typing.NDArray[numpy.float32], y: numpy.typing.NDArray[numpy.float32]
) -> None: ...
def softmax64(
    algorithm: str, x: numpy.typing.NDArray[numpy.float64], y: numpy.typing.NDArray[numpy.float64]
) -> None: ...
def softmax_emulated(
    algorithm: str,
    x: numpy.typing.NDArray[numpy.float64],
    y: numpy.typing.NDArray[numpy.float64],
    format: Format,
    how: How,
) -> None: ...
def split_pairs(
    x: numpy.typing.NDArray[numpy.float64],
) -> tuple[numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.int32]]: ...
def squared_error(
    x: numpy.typing.NDArray[numpy.float64], y: numpy.typing.NDArray[numpy.float64] | None = None
) -> typing.Any: ...
def sum_pairs(
    a: numpy.typing.NDArray[numpy.float64],
    exponents: numpy.typing.NDArray[numpy.int32],
    format: Format,
    how: How,
) -> tuple[float, int, int]: ...
def threads() -> int: ...
def unpack16(
    packed: numpy.typing.NDArray[numpy.uint8],
    count: typing.SupportsInt | typing.SupportsIndex,
    width: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.uint16]: ...
def unpack8(
    packed: numpy.typing.NDArray[numpy.uint8],
    count: typing.SupportsInt | typing.SupportsIndex,
    width: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.uint8]: ...
def x86_units() -> list[tuple[str, str, str, int, int, bool, bool]]: ...

__version__: str = "0.1.0"
no_exponent: int = -2147483648
squares_unit: int = -2148
unit_no_exponent: int = -30000
