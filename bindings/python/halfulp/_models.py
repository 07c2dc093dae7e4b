"""Models of hardware matrix units: their names, their fields, and products by them."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halfulp import _core, _dlpack, _x86
from halfulp._core import Format
from halfulp._elementwise import _values, encode
from halfulp._formats import format as as_format
from halfulp._threads import threads

_ROWS = {name: (fields, evidence, source) for name, fields, evidence, source in _core.named_units()}
_DEFAULTS = _core.default_unit()
_FORMATS = ("a", "b", "d", "sum", "scale")
_EXPONENTS = ("floor_exponent", "zero_exponent", "c_zero_exponent")
_EVIDENCE = ("hardware", "published", "any")
_NO_EMIN = _DEFAULTS["operand_emin"]


def models() -> list[str]:
    """The names of all matrix units, as 'hopper.wgmma.e4m3.f32'."""
    return [*_ROWS, *_x86.models()]


class Model:
    """A matrix unit: a named one, or one described by its fields.

    Model("hopper.wgmma.f16.f32") is the unit of that name; fields given beside it change a copy,
    and Model(a="bfloat16", b="bfloat16", k=16, block=8, fraction_bits=24) describes one from the
    defaults. docs/matrix-units.md defines every field. Exponents may be None: no floor, a zero
    without a say, the formats' own least exponents. Raises ValueError for a field that is unknown
    or out of range.
    """

    __slots__ = ("_fields", "evidence", "name", "source")

    def __init__(self, name: str | None = None, /, **fields: Any) -> None:
        base, evidence, source = _DEFAULTS, "none", "described by its fields"
        if name is not None:
            base, evidence, source = _row(name)
        changed = dict(base)
        for field, value in fields.items():
            if field not in _DEFAULTS:
                raise ValueError(
                    f"a model has no field {field!r}; its fields are {', '.join(_DEFAULTS)}"
                )
            changed[field] = _field(field, value)
        _core.check_unit(changed)
        described = name is None or changed != base
        self._fields = changed
        self.name = "described" if described else str(name)
        self.evidence = "none" if described else str(evidence)
        self.source = "described by its fields" if described else str(source)

    @property
    def is_described(self) -> bool:
        """Whether somebody described it, so that it is no named unit."""
        return self.name == "described"

    @property
    def fields(self) -> Mapping[str, Any]:
        """All fields, formats as Format, None for an exponent that does not exist."""
        return MappingProxyType({field: _shown(field, self._fields[field]) for field in _DEFAULTS})

    def __getattr__(self, field: str) -> Any:
        if field not in _DEFAULTS:
            raise AttributeError(f"a model has no field {field}")
        return _shown(field, self._fields[field])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self._fields == other._fields

    def __hash__(self) -> int:
        return hash(self.toml())

    def __repr__(self) -> str:
        if not self.is_described:
            return f"Model({self.name!r})"
        changed = [f for f in _DEFAULTS if self._fields[f] != _DEFAULTS[f]]
        shown = (f"{f}={_plain(_shown(f, self._fields[f]))!r}" for f in changed)
        return f"Model({', '.join(shown)})"

    def toml(self) -> str:
        """The fields as a TOML file, which from_toml reads; None is written as "none"."""
        lines = []
        for field, value in self.fields.items():
            plain = "none" if value is None else _plain(value)
            text = str(plain).lower() if isinstance(plain, bool | int) else f'"{plain}"'
            lines.append(f"{field} = {text}")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, path: str | Path) -> Model:
        """The model that a TOML file describes: fields as here, and `base`, the name of a unit that
        they change (default: none).
        """
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no TOML: {error}") from None
        base = table.pop("base", None)
        if base is not None and not isinstance(base, str):
            raise ValueError(f"base in {path} must be the name of a unit, not {base!r}")
        given = {k: None if v == "none" else v for k, v in table.items()}
        return cls(base, **given) if base is not None else cls(**given)


def _row(name: str) -> tuple[dict[str, Any], str, str]:
    if not isinstance(name, str):
        raise TypeError(f"a model is a Model or its name, not {type(name).__name__}")
    if name.startswith("x86.") and name in _x86.models():
        raise ValueError(
            f"{name} is a unit of x86, which has no fields to change; give its name to hu.matmul"
        )
    if name not in _ROWS:
        near = difflib.get_close_matches(name, models(), 3, 0.5)
        known = f"; near it: {', '.join(near)}" if near else "; hu.models() lists them"
        raise ValueError(f"no matrix unit is called '{name}'{known}")
    return _ROWS[name]


def _field(field: str, value: Any) -> Any:
    default = _DEFAULTS[field]
    if field in _FORMATS:
        found = as_format(value)
        if not isinstance(found, Format):
            raise ValueError(f"{field} must be a float format, and {found.name} is none")
        return found
    if value is None and field in _EXPONENTS:
        return _core.unit_no_exponent
    if value is None and field == "operand_emin":
        return _NO_EMIN
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise TypeError(f"{field} must be True or False, not {value!r}")
    elif isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{field} must be an integer, not {value!r}")
        if abs(int(value)) > 2**30:
            raise ValueError(f"{field} is {int(value)}, beyond all limits")
        return int(value)
    elif not isinstance(value, str):
        raise TypeError(f"{field} must be a name, not {value!r}")
    return value


def _shown(field: str, value: Any) -> Any:
    if field in _EXPONENTS and value == _core.unit_no_exponent:
        return None
    return None if field == "operand_emin" and value >= _NO_EMIN else value


def _plain(value: Any) -> Any:
    return value.name if isinstance(value, Format) else value


def require_evidence(evidence: str) -> None:
    """Raises unless the word is one of those that ask for evidence."""
    if evidence not in _EVIDENCE:
        raise ValueError(f"evidence is {evidence!r}, but must be one of {', '.join(_EVIDENCE)}")


def as_model(model: str | Model, evidence: str = "published") -> Model:
    """The model, if the evidence for it suffices: at least 'hardware' or 'published', or 'any'."""
    require_evidence(evidence)
    found = model if isinstance(model, Model) else Model(model)
    if found.is_described or evidence == "any":
        return found
    if found.evidence not in _EVIDENCE[: _EVIDENCE.index(evidence) + 1]:
        raise ValueError(
            f"{found.name} is not evidenced by {evidence} results (its evidence is "
            f"'{found.evidence}': {found.source}); evidence='any' takes it all the same"
        )
    return found


def _integers(x: ArrayLike, low: int, high: int, name: str) -> NDArray[np.uint32]:
    array = _dlpack.numbers(x, name)
    if array.dtype.kind not in "iufb":
        raise TypeError(f"{name} has dtype {array.dtype}; pass integers, {low} to {high}")
    bad = ~((array >= low) & (array <= high))
    if array.dtype.kind == "f":
        bad |= array != np.floor(array)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name}{list(index)} = {array[index]} is no integer from {low} to {high}, which this "
            "unit takes"
        )
    return array.astype(np.int64).astype(np.uint32)


def _codes(x: ArrayLike, f: Format, name: str) -> NDArray[Any]:
    """The codes of x, every element of which must be a value of f."""
    from halfulp._matmul import _require_representable

    values = _values(x, name)
    _require_representable(values, f, name)
    codes = np.asarray(encode(values, f, nan_to="largest"))
    return codes.astype(np.uint64 if f.width == 64 else np.uint32)


def _operand(x: ArrayLike, model: Model, first: bool, name: str) -> NDArray[Any]:
    if model.kind == "integer":
        bits = model.a_bits if first else model.b_bits
        if model.a_signed if first else model.b_signed:
            return _integers(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1, name)
        return _integers(x, 0, (1 << bits) - 1, name)
    if model.kind in ("bits-and", "bits-xor"):
        return _integers(x, 0, 1, name)
    return _codes(x, model.a if first else model.b, name)


def _shape(x: NDArray[Any], wanted: tuple[int, int], name: str) -> None:
    if x.shape != wanted:
        raise ValueError(f"{name} has shape {x.shape}, but must have {wanted}")


def matmul_by(
    model: Model,
    a: ArrayLike,
    b: ArrayLike,
    c: ArrayLike | None,
    scales: tuple[ArrayLike, ArrayLike] | None,
) -> NDArray[Any]:
    """What matmul does by a model: halfulp._matmul has its definition."""
    x, y = _operand(a, model, True, "a"), _operand(b, model, False, "b")
    for m, name in ((x, "a"), (y, "b")):
        if m.ndim != 2:
            raise ValueError(
                f"{name} has {m.ndim} dimensions; matmul takes matrices (2 dimensions)"
            )
    if x.shape[1] != y.shape[0]:
        raise ValueError(
            f"a has shape {x.shape} and b {y.shape}; the columns of a must equal the rows of b"
        )
    is_float = model.kind in ("block-sum", "fma-chain")
    out = np.empty((x.shape[0], y.shape[1]), x.dtype)
    z = None
    if c is not None:
        z = _codes(c, model.d, "c") if is_float else _integers(c, -(2**31), 2**31 - 1, "c")
        if z.shape != out.shape:
            raise ValueError(f"c has shape {z.shape}, but the product has {out.shape}")
    of_scales: list[NDArray[Any] | None] = [None, None]
    if (model.scale_block != 0) != (scales is not None):
        raise ValueError(
            f"this unit has a scale for each {model.scale_block} elements; give scales=(of a, of b)"
            if model.scale_block
            else "this unit takes no block scales; leave out scales="
        )
    if scales is not None:
        if not isinstance(scales, tuple | list) or len(scales) != 2:
            raise TypeError("scales must be two arrays, (of a, of b)")
        n = -(-x.shape[1] // model.scale_block)
        of_a = _codes(scales[0], model.scale, "scales of a")
        of_b = _codes(scales[1], model.scale, "scales of b")
        _shape(of_a, (x.shape[0], n), "the array of a's scales")
        _shape(of_b, (n, y.shape[1]), "the array of b's scales")
        of_scales = [of_a, of_b]
    run = _core.matmul_unit64 if model.kind == "fma-chain" else _core.matmul_unit32
    run(
        model._fields,
        np.ascontiguousarray(x),
        np.ascontiguousarray(y),
        None if z is None else np.ascontiguousarray(z),
        *(None if s is None else np.ascontiguousarray(s) for s in of_scales),
        out,
        threads(),
    )
    if not is_float:
        return out.view(np.int32)
    if model.kind == "fma-chain":
        return out.view(np.float64)
    if model.d.width == 16:
        return out.astype(np.uint16).view(np.float16)
    return out.view(np.float32)
