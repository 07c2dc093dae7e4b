"""The conformance suites: what they are, their cases as arrays, and what results are expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfulp import _conform as engine
from halfulp._conform_call import Arrays, host_array, rounded

LEVELS = ("quick", "full", "exhaustive")


@dataclass(frozen=True)
class Part:
    """An input, an attribute or an output of a suite."""

    name: str
    shape: str
    meaning: str


@dataclass(frozen=True)
class Expected:
    """What one output must be, elementwise.

    rounded: the exact results rounded to nearest even, in the output's dtype, read-only.
    reference, low: their sum is the exact result to many more bits (float64). bound: how far an
    output may be from it; 0: it must be `rounded`, bit for bit; infinity: nothing is asked.
    condition: the scale of the first-order error.
    """

    rounded: NDArray[Any]
    reference: NDArray[np.float64]
    low: NDArray[np.float64]
    bound: NDArray[np.float64]
    condition: NDArray[np.float64]


@dataclass(frozen=True)
class TestCase:
    """A case: inputs by name, attributes, dtype and shape of each output, expected results."""

    __test__ = False  # for pytest

    id: str
    inputs: dict[str, Any]
    attributes: dict[str, float]
    outputs: dict[str, tuple[str, tuple[int, ...]]]
    expected: dict[str, Expected]


@dataclass(frozen=True)
class Suite:
    """A suite: the definition of a computation and its cases."""

    name: str
    version: int
    definition: str
    inputs: tuple[Part, ...]
    attributes: tuple[Part, ...]
    outputs: tuple[Part, ...]
    variants: tuple[str, ...]
    builtins: dict[str, str]  # kernels of halfulp's own, and what they do

    def cases(self, variant: str | None = None, level: str = "quick") -> list[str]:
        """The ids of the cases of one variant, by default of all."""
        if level not in LEVELS:
            raise ValueError(f"level is {level!r}, but must be {', '.join(LEVELS)}")
        wanted = self.variants if variant is None else (variant,)
        return [case for v in wanted for case in engine.cases(self.name, v, level)]

    def make(
        self, case: str, *, arrays: str = "numpy", dtypes: str = "native", device: str | None = None
    ) -> TestCase:
        """A case by its id, with arrays as `conform` gives them to a callable."""
        if case.partition("/")[0] != self.name:
            raise ValueError(f'case "{case}" is none of suite {self.name}')
        made = engine.make(case)
        kind = Arrays(arrays, dtypes, device)
        return TestCase(
            case,
            {n: kind.make(e, tuple(s), b) for n, (e, s, b) in made["inputs"].items()},
            dict(made["attributes"]),
            {n: (e, tuple(s)) for n, (e, s) in made["outputs"].items()},
            expected(case, made),
        )

    def __repr__(self) -> str:
        signature = ", ".join(
            [p.name for p in self.inputs] + [f"{p.name}=" for p in self.attributes]
        )
        outputs = ", ".join(p.name for p in self.outputs)
        return (
            f"Suite {self.name}, version {self.version}: {signature} -> {outputs}\n"
            f"  {self.definition}\n  variants: {', '.join(self.variants)}"
        )


def expected(case: str, made: Mapping[str, Any]) -> dict[str, Expected]:
    """What each output of a made case must be."""
    result = {}
    for name, wanted in engine.expected(case).items():
        element, shape = made["outputs"][name]
        numbers = {
            key: np.asarray(wanted[key], np.float64).reshape(tuple(shape))
            for key in ("reference", "low", "bound", "condition")
        }
        data = rounded_sum(numbers["reference"], numbers["low"], element)
        result[name] = Expected(as_array(element, tuple(shape), data), **numbers)
    return result


def as_array(element: str, shape: tuple[int, ...], data: bytes) -> NDArray[Any]:
    """A read-only array of the element type; of its codes where ml_dtypes is not installed."""
    try:
        return host_array(element, shape, data, codes=False)
    except ImportError:
        return host_array(element, shape, data, codes=True)


def rounded_sum(high: NDArray[np.float64], low: NDArray[np.float64], element: str) -> bytes:
    """high + low rounded once to nearest even, |low| at most half an ulp of high: binary64's own
    sum, or, for narrower types, by the sum rounded to odd, from which rounding to two bits less is
    that of the sum itself (Boldo and Melquiond 2008).
    """
    if element == "float64":
        return (high + low).tobytes()
    inexact = (low != 0) & np.isfinite(high) & (high.view(np.int64) % 2 == 0)
    toward = np.where(low > 0, np.inf, -np.inf)
    with np.errstate(all="ignore"):
        odd = np.where(inexact, np.nextafter(high, toward), high)
    if element in ("int8", "uint8", "int32", "int64"):
        return np.rint(high).astype(element).tobytes()
    return rounded(odd, element)


def _parts(rows: Sequence[Mapping[str, str]]) -> tuple[Part, ...]:
    return tuple(Part(row["name"], row["shape"], row["meaning"]) for row in rows)


def suites() -> list[Suite]:
    """All suites of this version."""
    return [
        Suite(
            row["name"],
            row["version"],
            row["definition"],
            _parts(row["inputs"]),
            _parts(row["attributes"]),
            _parts(row["outputs"]),
            tuple(row["variants"]),
            {b["name"]: b["what"] for b in row["builtins"]},
        )
        for row in engine.list_suites()
    ]


def suite(name: str) -> Suite:
    """The suite of that name, as `conform` takes it. Raises ValueError, naming those there are."""
    known = suites()
    for one in known:
        if one.name == name:
            return one
    raise ValueError(f'no suite "{name}"; there are {", ".join(one.name for one in known)}')
