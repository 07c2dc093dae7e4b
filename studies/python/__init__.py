"""Studies of low-precision training: sweeps of cells, their statistics, figures and reports.

A cell is one training run by the program halfulp-cell; a sweep spans many (docs/cells.md). This
subpackage imports nothing else of halfulp.
"""

from .catalogue import Study, studies, study
from .cells import Cell
from .controls import Check
from .errors import CorruptCellError, SweepError, SweepTerminated
from .process import CellRun, CellTask, run_cell
from .results import Sweep, open_sweep, status_of
from .sweep import run_sweep
from .table import Table

__all__ = [
    "Cell",
    "CellRun",
    "CellTask",
    "Check",
    "CorruptCellError",
    "Study",
    "Sweep",
    "SweepError",
    "SweepTerminated",
    "Table",
    "open_sweep",
    "run_cell",
    "run_sweep",
    "status_of",
    "studies",
    "study",
]
