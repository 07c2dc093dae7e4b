"""Studies of low-precision training: sweeps of cells, their statistics, figures and reports.

A cell is one training run by the program halfulp-cell; a sweep spans many (docs/cells.md). This
subpackage imports nothing else of halfulp.
"""

from .cells import Cell
from .controls import Check
from .errors import CorruptCellError, SweepBusyError, SweepError
from .program import CellRun, CellTask, run_cell
from .results import Sweep, open_sweep, status_of
from .sweep import run_sweep
from .table import Table

__all__ = [
    "Cell",
    "CellRun",
    "CellTask",
    "Check",
    "CorruptCellError",
    "Sweep",
    "SweepBusyError",
    "SweepError",
    "Table",
    "open_sweep",
    "run_cell",
    "run_sweep",
    "status_of",
]
