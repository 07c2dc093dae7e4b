"""The specification of a sweep (docs/cells.md): reading, checking, expanding it into cells."""

import difflib
import hashlib
import itertools
import json
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import SweepError
from .program import canonicalise

Tree = dict[str, Any]

MOST_CELLS = 1_000_000
BASELINES = ("unigram", "bigram")  # models of a text that its cells carry the loss of

PROSE = ("question", "method", "claims", "limits")  # texts of report and page: they decide nothing
TOP_KEYS = (
    "name",
    *PROSE,
    "baseline",
    "baseline_accuracy",
    "baseline_beats",
    "expect_broken",
    "cell",
    "axes",
    "precision",
    "control",
)
CONTROL_KEYS = ("name", "policy", "cell", "expect", "to")
EXPECTATIONS = ("equal", "different")


@dataclass(frozen=True)
class Control:
    """A cell beside the grid. `expect`: what comparing its bits to those of `to` must find."""

    name: str
    cell: Tree
    expect: str | None = None
    to: str | None = None


@dataclass(frozen=True)
class SweepSpec:
    """A checked specification of a sweep. `tree` is the TOML as it was read."""

    name: str
    question: str
    baseline: str
    cell: Tree
    axes: dict[str, list[Any]]  # dotted path -> values; "precision" holds names of policies
    policies: dict[str, Tree]
    controls: list[Control]
    expect_broken: list[str]
    baseline_accuracy: float | None
    baseline_beats: str | None  # a model of the data: one of BASELINES
    tree: Tree = field(repr=False)

    def text(self, key: str) -> str:
        """One of PROSE, without white space around it; empty if the sweep has none."""
        return str(self.tree.get(key, "")).strip()


@dataclass(frozen=True)
class PlannedCell:
    """A cell of a sweep: its identity and where it stands in the grid."""

    id: str  # SHA-256 of `canonical`
    canonical: str  # the whole specification, JSON text
    parameters: dict[str, Any]  # dotted path -> value, what sets it apart from [cell]
    control: str | None = None

    @property
    def specification(self) -> Tree:
        """The whole specification as nested dicts."""
        return json.loads(self.canonical)

    def describe(self) -> str:
        """The parameters on one line, for messages."""
        return describe(self.parameters, self.control)


def describe(parameters: Mapping[str, Any], control: str | None = None) -> str:
    """Parameters on one line: 'precision=bf16, optimizer.learning_rate=0.001, training.seed=0'."""
    text = ", ".join(f"{path}={value}" for path, value in parameters.items())
    if control is None:
        return text
    return f"control '{control}'" + (f" ({text})" if text else "")


def read_sweep(source: str | Path | Mapping[str, Any]) -> SweepSpec:
    """Reads and checks a sweep from a TOML file or from a dict of the same shape.

    Raises SweepError with one sentence; OSError if the file cannot be read.
    """
    if isinstance(source, Mapping):
        return check(dict(source))
    path = Path(source)
    try:
        return check(tomllib.loads(path.read_text(encoding="utf-8")))
    except SweepError as error:
        raise SweepError(f"{path}: {error}") from None
    except RecursionError:
        raise SweepError(f"{path} is not a sweep: it is nested too deeply") from None
    except ValueError as error:  # tomllib's own error, bytes that are no UTF-8, a number of a mile
        raise SweepError(f"{path} is not TOML: {error}") from None


def check(tree: Tree) -> SweepSpec:
    """The checked specification of a TOML tree."""
    _known(tree, TOP_KEYS, "the specification of a sweep")
    name, question = _text(tree, "name"), _text(tree, "question")
    policies = _policies(_table(tree, "precision"))
    axes = _axes(_table(tree, "axes"), policies)
    baseline = _text(tree, "baseline")
    names = axes["precision"]
    cells = math.prod(len(values) for values in axes.values())
    if cells > MOST_CELLS:
        raise SweepError(f"[axes] spans {cells:,} cells, more than {MOST_CELLS:,}; shorten an axis")
    if baseline not in names:
        raise SweepError(f"baseline = '{baseline}' is not in the axis precision = {names}")
    broken = tree.get("expect_broken", [])
    if not isinstance(broken, list):
        raise SweepError(f"expect_broken is {broken!r}, which is not a list of policies")
    for policy in broken:
        if policy not in names:
            raise SweepError(f"expect_broken = '{policy}' is not in the axis precision = {names}")
    accuracy = tree.get("baseline_accuracy")
    if accuracy is not None and not (_is_number(accuracy) and 0 <= accuracy <= 1):
        raise SweepError(f"baseline_accuracy is {accuracy!r}; it lies between 0 and 1")
    beaten = tree.get("baseline_beats")
    if beaten is not None and beaten not in BASELINES:
        raise SweepError(f"baseline_beats is {beaten!r}; it is one of {', '.join(BASELINES)}")
    for key in PROSE:
        if key in tree:
            _text(tree, key)
    return SweepSpec(
        name=name,
        question=question,
        baseline=baseline,
        cell=_table(tree, "cell"),
        axes=axes,
        policies=policies,
        controls=_controls(tree.get("control", []), policies),
        expect_broken=broken,
        baseline_accuracy=accuracy,
        baseline_beats=beaten,
        tree=tree,
    )


def expand(spec: SweepSpec, program: str) -> list[PlannedCell]:
    """Every cell of a sweep: the grid (its last axis varies fastest), then the controls.

    Canonical specifications come from one call of `program`. Raises SweepError for a specification
    that it refuses and for two cells that are the same.
    """
    drafts: list[tuple[Tree, dict[str, Any], str | None]] = []
    for values in itertools.product(*spec.axes.values()):
        parameters = dict(zip(spec.axes, values, strict=True))
        drafts.append((_specification(spec, parameters), parameters, None))
    for control in spec.controls:
        base = merge(spec.cell, {"precision": {"label": control.name}})
        drafts.append((merge(base, control.cell), flatten(control.cell), control.name))
    names = [describe(parameters, name) for _, parameters, name in drafts]
    texts = canonicalise(program, [tree for tree, _, _ in drafts], names)
    planned: dict[str, PlannedCell] = {}
    for text, (_, parameters, name) in zip(texts, drafts, strict=True):
        cell = PlannedCell(cell_id(text), text, parameters, name)
        if cell.id in planned:
            raise SweepError(
                f"two cells are the same, {planned[cell.id].describe()} and {cell.describe()}: "
                "an axis has no effect or a value stands twice; remove it"
            )
        planned[cell.id] = cell
    return list(planned.values())


def cell_id(canonical: str) -> str:
    """The name of a cell: SHA-256 of its canonical specification, 64 hexadecimal digits."""
    return hashlib.sha256(canonical.encode()).hexdigest()


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """A new tree: `over` laid on `base`, tables merged, all else replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping):
            if below is not None and not isinstance(below, Mapping):
                raise SweepError(f"{key} is {below!r}, but must be a table: something is set in it")
            merged[key] = merge(below or {}, value)
        else:
            merged[key] = value
    return merged


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted path -> value, for everything in a tree that is not a table."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nest(path: str, value: Any) -> Tree:
    """The tree with one value: nest("a.b", 1) is {"a": {"b": 1}}."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def decisive(tree: Mapping[str, Any]) -> Tree:
    """A sweep's tree without PROSE: what decides its cells and its numbers."""
    return {key: value for key, value in tree.items() if key not in PROSE}


def _specification(spec: SweepSpec, parameters: Mapping[str, Any]) -> Tree:
    """The cell at one point of the grid: [cell], then the policy, then the other axes."""
    policy = parameters["precision"]
    tree = merge(spec.cell, {"precision": merge(spec.policies[policy], {"label": policy})})
    for path, value in parameters.items():
        if path != "precision":
            tree = merge(tree, nest(path, value))
    return tree


def _policies(tables: Tree) -> dict[str, Tree]:
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise SweepError(
                f"precision.{name} is {table!r}; a policy is a table: [precision.{name}]"
            )
        if "label" in table:
            raise SweepError(f"[precision.{name}] sets label; the name of the table is the label")
    return tables


def _axes(tables: Tree, policies: Tree) -> dict[str, list[Any]]:
    axes = flatten(tables)
    for path, values in axes.items():
        if not isinstance(values, list):
            raise SweepError(
                f"axes.{path} = {values!r} is one value; an axis is a list: [{values!r}]"
            )
        if not values:
            raise SweepError(f"axes.{path} is empty; give at least one value or remove the axis")
        for index, value in enumerate(values):
            if value in values[:index]:
                raise SweepError(f"axes.{path} has the value {value!r} twice; remove one")
    if "precision" not in axes:
        raise SweepError(
            "[axes] has no precision; give it the names of policies, baseline included"
        )
    for name in axes["precision"]:
        if not isinstance(name, str) or name not in policies:
            raise SweepError(
                f"axes.precision names '{name}', but there is no [precision.{name}]"
                + suggestion(str(name), policies)
            )
    return axes


def _controls(tables: Any, policies: Tree) -> list[Control]:
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise SweepError("control is not a list of tables; write [[control]] above each")
    names = [_text(table, "name", "a [[control]]'s name") for table in tables]
    controls = []
    for table, name in zip(tables, names, strict=True):
        where = f"the control '{name}'"
        _known(table, CONTROL_KEYS, where)
        if names.count(name) > 1:
            raise SweepError(f"{where} stands {names.count(name)} times; give each its own name")
        cell, policy = _table(table, "cell"), table.get("policy")
        if policy is not None:
            if not isinstance(policy, str) or policy not in policies:
                raise SweepError(
                    f"{where} has the policy '{policy}'" + suggestion(str(policy), policies)
                )
            cell = merge({"precision": policies[policy]}, cell)
        expect, to = table.get("expect"), table.get("to")
        if (expect is None) != (to is None):
            raise SweepError(f"{where} has only one of expect and to; they go together")
        if expect is not None and expect not in EXPECTATIONS:
            raise SweepError(f"{where} has expect = '{expect}'; it is 'equal' or 'different'")
        if to is not None and (to not in names or to == name):
            raise SweepError(f"{where} has to = '{to}'; it names another control: {names}")
        controls.append(Control(name, cell, expect, to))
    return controls


def _known(table: Tree, keys: Sequence[str], where: str) -> None:
    for key in table:
        if key not in keys:
            raise SweepError(f"{where} has no key '{key}'" + suggestion(key, keys))


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest known one, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"


def _text(table: Tree, key: str, called: str | None = None) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        said = "is missing" if key not in table else f"is {value!r}, which is not a text"
        raise SweepError(f'{called or key} {said}; give {key} = "..."')
    return value


def _table(table: Tree, key: str) -> Tree:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise SweepError(f"{key} is {value!r}, which is not a table: [{key}]")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
