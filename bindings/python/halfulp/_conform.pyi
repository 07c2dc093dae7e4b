from __future__ import annotations
import collections.abc
import typing

__all__: list[str] = [
    "Run",
    "builtin_outputs",
    "cases",
    "check_promise",
    "expected",
    "judge",
    "list_suites",
    "make",
]

class Run:
    def __init__(
        self,
        suite: str,
        level: str = "quick",
        promise: str = "bound",
        kernel: collections.abc.Mapping[str, str] = {},
        environment: collections.abc.Mapping[str, str] = {},
        waivers: str = "",
    ) -> None: ...
    def calls(self, id: str) -> list[tuple[str, str]]: ...
    def compare(
        self,
        check: str,
        id: str,
        further: str,
        outputs: collections.abc.Mapping[str, bytes] | None,
        reason: str = "",
    ) -> None: ...
    def finish(self) -> list[str]: ...
    def header(self) -> str: ...
    def judge(
        self,
        id: str,
        outputs: collections.abc.Mapping[str, bytes],
        seconds: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    ) -> str: ...
    def without_outputs(
        self,
        id: str,
        outcome: str,
        reason: str,
        seconds: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    ) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def sentence(self) -> str: ...

def builtin_outputs(id: str, builtin: str) -> dict: ...
def cases(suite: str, variant: str, level: str) -> list[str]: ...
def check_promise(promise: str) -> None: ...
def expected(id: str) -> dict: ...
def judge(
    id: str,
    outputs: collections.abc.Mapping[str, bytes],
    promise: str = "bound",
    seconds: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    kernel: str = "kernel",
) -> str: ...
def list_suites() -> list: ...
def make(id: str) -> dict: ...
