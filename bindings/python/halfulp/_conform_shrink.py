"""The smallest case that still fails: rows, then the length of sums, then significand bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from halfulp import _conform as engine

if TYPE_CHECKING:
    from halfulp._conformance import Subject

_MOST_BITS = 53


def shrunk(subject: Subject, case: str) -> str:
    """The id of a cut of that case which fails too, such that no single further cut of its kind
    does. Raises ValueError if the case itself does not fail.
    """
    process, session = subject.process(), subject.session()

    def fails(candidate: str) -> bool:
        answer = process(engine.make(candidate))
        return bool(subject.judged(candidate, answer, session)["outcome"] == "fail")

    try:
        if not fails(case):
            raise ValueError(f"case {case} does not fail, so there is nothing to shrink")
        for kind in ("rows", "entries"):
            case = _shorter(case, kind, fails)
        for bits in range(1, _MOST_BITS):
            candidate = f"{case}[bits {bits}]"
            if engine.make(case)["inputs"] == engine.make(candidate)["inputs"]:
                break
            if fails(candidate):
                return candidate
        return case
    finally:
        process.close()


def _shorter(case: str, kind: str, fails: Callable[[str], bool]) -> str:
    """The case with the shortest range found by cutting halves, quarters … off its ends."""

    def cut(b: int, e: int) -> str:
        return f"{case}[{kind} {b}:{e}]"

    begin, end = 0, _extent(cut)
    if end < 2:
        return case
    found, step = (begin, end), end // 2
    while step >= 1:
        b, e = found
        candidates = [(b + step, e), (b, e - step)]
        smaller = next((c for c in candidates if c[1] > c[0] and fails(cut(*c))), None)
        if smaller is None:
            step //= 2
        else:
            found = smaller
    return case if found == (begin, end) else cut(*found)


def _extent(cut: Callable[[int, int], str]) -> int:
    """How many rows (entries) a case has: the largest range that can be cut; 0: none can be."""

    def there(n: int) -> bool:
        try:
            engine.make(cut(0, n))
        except ValueError:
            return False
        return True

    if not there(1):
        return 0
    high = 1
    while there(2 * high):
        high *= 2
    low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if there(middle) else (low, middle)
    return low
