"""Cells as results: reading the HDF5 files that halfulp-cell writes (docs/cells.md)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .errors import CorruptCellError
from .program import Build
from .spec import BASELINES, PlannedCell, cell_id, describe

COMPLETED, DIVERGED = "completed", "diverged"
FINISHED = (COMPLETED, DIVERGED)
MISSING, FAILED, CORRUPT = "missing", "failed", "corrupt"
SERIES = ("train_loss", "gradient_norm", "learning_rate", "eval_step", "eval_loss", "eval_accuracy")
CONTEXT = 64  # model.context where the canonical specification leaves it out


@dataclass(frozen=True)
class CellFile:
    """What a finished cell's file holds, the checkpoint excepted."""

    attributes: dict[str, Any]
    metrics: dict[str, np.ndarray]  # SERIES: one per step or evaluation; initial_eval_loss: 0-d
    rounding: dict[str, dict[str, int]]  # role -> {"calls", "elements"}


@dataclass(frozen=True)
class Observed:
    """What a cell saw of its tensors in the observed steps; everything empty in older files."""

    step: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    # role -> "elements", "zeros", "not_finite", "overflow", "underflow", "to_zero": one per step;
    # and "exponents", of all steps together: index i counts inputs of exponent i - 149
    roles: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    # "moved", "frozen", "stagnation_law", "adam_law": weights, one number per step
    update: dict[str, np.ndarray] = field(default_factory=dict)
    # parameter -> "cosine", "relative_error": against the gradient of FP32, one number per step
    gradients: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)


def read_cell(path: Path) -> CellFile:
    """Reads and checks a finished cell's file.

    Raises CorruptCellError with one sentence if it is not HDF5, is not complete, or holds another
    specification than its name says.
    """
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            attributes = {name: _plain(value) for name, value in file.attrs.items()}
            if attributes.get("status") != "complete":
                raise CorruptCellError(f"{path} is not a complete cell: no status = complete")
            if cell_id(_plain(file["spec"][()])) != path.name.split(".")[0]:
                raise CorruptCellError(f"{path} holds another specification than its name says")
            if attributes.get("outcome") not in FINISHED:
                raise CorruptCellError(f"{path} has the outcome {attributes.get('outcome')!r}")
            metrics = {name: file["metrics"][name][()] for name in SERIES}
            metrics["initial_eval_loss"] = np.asarray(file["metrics/initial_eval_loss"][()])
            if not len(file["checkpoint"]) or not all(metrics[name].size for name in SERIES):
                raise CorruptCellError(f"{path} lacks metrics or a checkpoint")
            rounding = {
                role: {name: int(counts[name][()]) for name in ("calls", "elements")}
                for role, counts in file["metrics/rounding"].items()
            }
    except CorruptCellError:
        raise
    except FileNotFoundError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptCellError(f"{path} is not the file of a cell: {_first(error)}") from None
    return CellFile(attributes, metrics, rounding)


def read_observed(path: Path) -> Observed:
    """What the file of a finished cell says of the observed steps; empty if it says nothing."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        group = file.get("metrics/observed")
        if group is None or "step" not in group:
            return Observed()
        parts = {name: part for name, part in group.items() if isinstance(part, h5py.Group)}
        update, gradients = parts.pop("update", {}), parts.pop("gradient", {})
        return Observed(
            step=group["step"][()],
            roles={role: _arrays(part) for role, part in parts.items()},
            update=_arrays(update),
            gradients={name: _arrays(part) for name, part in gradients.items()},
        )


def read_baselines(path: Path) -> dict[str, float]:
    """Name -> loss in nats of the models of the data that the file of a cell names."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        metrics = file["metrics"]
        found = {name: metrics.get(f"baseline_{name}") for name in BASELINES}
        return {name: float(loss[()]) for name, loss in found.items() if loss is not None}


def _arrays(group: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: dataset[()] for name, dataset in group.items()}


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """The last master weights by name: float32, or the codes of a narrow format."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        return {name: dataset[()] for name, dataset in file["checkpoint"].items()}


def build_of_cell(attributes: Mapping[str, Any], specification: Mapping[str, Any]) -> Build:
    """The build that made a finished cell."""
    return Build.of(attributes, str(specification["data"]["name"]))


def _plain(value: Any) -> Any:
    """Python's own str, int or float for an HDF5 scalar."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(())[()]
    if isinstance(value, np.generic):
        value = value.item()
    return value.decode() if isinstance(value, bytes) else value


def _first(error: BaseException) -> str:
    return str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__


@dataclass
class Cell:
    """One cell of a sweep. Its file is read when first asked for."""

    id: str  # SHA-256 of the canonical specification
    parameters: dict[str, Any]  # dotted path -> value, as in the sweep's axes
    specification: Mapping[str, Any] = field(repr=False)
    path: Path = field(repr=False)
    control: str | None = None
    failure: str | None = None  # why it failed at the last attempt, if it did
    problem: str | None = field(default=None, init=False)  # why the file is corrupt, if it is

    @classmethod
    def of(cls, plan: PlannedCell, path: Path, failure: str | None) -> "Cell":
        return cls(
            plan.id, plan.parameters, json.loads(plan.canonical), path, plan.control, failure
        )

    @cached_property
    def file(self) -> CellFile | None:
        """The content of the file; None if there is none, it is corrupt, or it failed since."""
        if self.failure is not None:  # a finished cell of another build that was to run again
            return None
        try:
            return read_cell(self.path)
        except FileNotFoundError:
            return None
        except CorruptCellError as error:
            self.problem = str(error)
            return None

    @property
    def outcome(self) -> str:
        """completed, diverged, missing, failed or corrupt."""
        if self.file is not None:
            return str(self.file.attributes["outcome"])
        if self.problem is not None:
            return CORRUPT
        return MISSING if self.failure is None else FAILED

    @property
    def finished(self) -> bool:
        return self.outcome in FINISHED

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """Metrics by name (SERIES and initial_eval_loss); empty if the cell is not finished."""
        return {} if self.file is None else self.file.metrics

    @property
    def rounding(self) -> dict[str, dict[str, int]]:
        """Role -> {"calls", "elements"}: what was rounded; empty if the cell is not finished."""
        return {} if self.file is None else self.file.rounding

    @cached_property
    def observed(self) -> Observed:
        """What was seen in the observed steps; read when first asked for, empty if nothing was."""
        return Observed() if self.file is None else read_observed(self.path)

    @cached_property
    def baselines(self) -> dict[str, float]:
        """Loss in nats of the models of the data (BASELINES) on what the cell is evaluated on."""
        return {} if self.file is None else read_baselines(self.path)

    @property
    def attributes(self) -> dict[str, Any]:
        """The file's root attributes; empty if the cell is not finished."""
        return {} if self.file is None else self.file.attributes

    @property
    def build(self) -> Build:
        """The build that made it; all unknown if the cell is not finished."""
        return build_of_cell(self.attributes, self.specification)

    @property
    def roles(self) -> list[str]:
        """The roles of tensors: those of the canonical specification, and those of the file.

        The specification leaves out what was added to it later, where that has its default.
        """
        precision = self.specification["precision"]
        tables = [name for name, value in precision.items() if isinstance(value, Mapping)]
        return list(dict.fromkeys([*tables, *self.rounding]))

    @property
    def policy(self) -> str:
        return str(self.specification["precision"]["label"])

    @property
    def learning_rate(self) -> float:
        return float(self.specification["optimizer"]["learning_rate"])

    @property
    def resumed(self) -> int:
        """How many times the cell went on from a checkpoint of its own."""
        return int(self.attributes.get("resumed", 0))

    @property
    def training_seconds(self) -> float | None:
        """Time in training steps alone, over all attempts; None in files that do not say it."""
        seconds = self.attributes.get("training_seconds")
        return None if seconds is None else float(seconds)

    @property
    def item(self) -> str:
        """What an example consists of, in one word: its characters, or the image that it is."""
        return "characters" if self.specification["model"]["kind"] == "transformer" else "images"

    @property
    def items_per_step(self) -> int:
        """Characters or images in one training step."""
        batch = int(self.specification["training"]["batch"])
        if self.item == "images":
            return batch
        return batch * int(self.specification["model"].get("context", CONTEXT))

    @property
    def seed(self) -> int:
        return int(self.specification["training"]["seed"])

    def checkpoint(self) -> dict[str, np.ndarray]:
        """The last master weights by tensor (float32, or codes); empty if not finished."""
        return {} if self.file is None else read_checkpoint(self.path)

    def describe(self) -> str:
        """The parameters on one line."""
        return describe(self.parameters, self.control)
