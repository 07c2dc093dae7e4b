"""A kernel that is asked, and what is said where a library is not there."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Subject:
    suite: str
    variant: str
    name: str  # "torch.softmax"
    kernel: Callable[..., Any] | str  # or the path of a plug-in
    arrays: str = "numpy"
    device: str | None = None
    note: str = ""
    around: Callable[[], Any] | None = None  # a context: flags that the kernel needs

    @property
    def label(self) -> str:
        return f"{self.suite} {self.variant} {self.name}"


class AbsentError(Exception):
    """A library that is not here; the sentence says what is missing."""


def need(name: str) -> Any:
    """The module of that name."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise AbsentError(f"{name} is not installed ({error})") from None
