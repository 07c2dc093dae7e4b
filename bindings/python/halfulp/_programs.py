"""Where the package's C++ programs are."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def find(name: str, remedy: str) -> str:
    """The path of a program: beside this Python, else on PATH. Raises FileNotFoundError with one
    sentence that ends with the remedy."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
    if found is None:
        raise FileNotFoundError(
            f"the program {name} is neither beside {sys.executable} nor on PATH: {remedy}"
        )
    return found
