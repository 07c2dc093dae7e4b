"""Formats by name, and their values."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from halfulp import _core
from halfulp._core import Format


def format(name: str | Format) -> Format:
    """The format of that name; a Format is returned as it is.

    Names: those of `formats()`, synonyms (half, bf16, torch.float16, ...), P3109 names
    (binary8p3se) and canonical names (fp_e4p4b7_s_last_none). Raises ValueError for an unknown or
    ambiguous one.
    """
    if isinstance(name, Format):
        return name
    if not isinstance(name, str):
        raise TypeError(f"a format is a Format or its name, not {type(name).__name__}")
    if not (name.isascii() and name.isprintable()):
        raise ValueError(f"format {name!r} is unknown; names are of printable ASCII characters")
    return _core.parse_format(name)


def formats() -> dict[str, Format]:
    """All named formats, by name."""
    return {name: f for name, f, _ in _core.named_formats()}


def exact_value(f: str | Format, code: int) -> float | Fraction:
    """The value of one code, exactly: a float where float64 holds it, else a Fraction.

    Infinities, NaN and signed zeros are floats.
    """
    f = format(f)
    if isinstance(code, bool) or not isinstance(code, int | np.integer):
        raise TypeError(f"code must be an integer, not {code!r}")
    code = int(code)
    if not 0 <= code < 1 << f.width:
        raise ValueError(
            f"code {code:#x} is outside 0 to {(1 << f.width) - 1:#x}, the codes of {f.name}"
        )
    parts = f._exact(code & (2**64 - 1), code >> 64)
    magnitude = code & ((1 << (f.width - f.is_signed)) - 1)
    sign = -1.0 if f.is_signed and code >> (f.width - 1) else 1.0
    if parts is None:
        if f.infinity_code is not None and magnitude == f.infinity_code:
            return sign * np.inf
        is_zero = f.zero and magnitude >> (f.precision - 1) == 0 and code != f.nan_code
        return sign * 0.0 if is_zero else np.nan
    significand, exponent = parts
    exact = Fraction(significand) * Fraction(2) ** exponent
    try:
        nearest = float(exact)
    except OverflowError:
        return exact
    return nearest if Fraction(nearest) == exact else exact


def values(f: str | Format) -> NDArray[np.float64]:
    """The values of all codes in order of their codes, shape (2**width,), for formats of up to 16
    bits.
    """
    from halfulp._elementwise import decode

    f = format(f)
    if f.width > 16:
        raise ValueError(f"{f.name} has 2^{f.width} codes; values() lists formats of up to 16 bits")
    dtype = np.uint8 if f.width <= 8 else np.uint16
    return decode(np.arange(1 << f.width, dtype=dtype), f, dtype=np.float64)
