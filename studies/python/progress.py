"""Progress of a sweep with an estimate of the time left, on stderr."""

import heapq
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

LINE_EVERY = 5.0  # seconds between lines where there is no terminal


@dataclass
class Estimate:
    """Predicts the time left from how long cells took, each setting by itself."""

    slots: int  # cells at a time
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    typical: list[float] = field(default_factory=list)

    def add(self, setting: str, seconds: float, *, typical: bool = True) -> None:
        """One finished cell took so long (of one job's time); typical: others are like it."""
        self.times[setting].append(seconds)
        if typical:
            self.typical.append(seconds)

    def seconds(
        self, waiting: Iterable[str], running: Sequence[tuple[str, float | None]] = ()
    ) -> float | None:
        """Wall-clock seconds for cells of these settings; None if too little was measured yet.

        `running`: (setting, for how long already; None: unknown, so half of its time). Cells are
        given to the slot that is free first, in their order, as a sweep does it; where more run
        than there are slots, other sweeps have a part in it.
        """
        ends, seen = [], defaultdict[str, float](float)
        for setting, elapsed in running:
            expected = self._expected(setting)
            if expected is None:
                return None
            elapsed = expected / 2 if elapsed is None else elapsed
            seen[setting] = max(seen[setting], elapsed)
            ends.append(self._remaining(setting, expected, elapsed))
        ends += [0.0] * (max(1, self.slots) - len(ends))
        heapq.heapify(ends)
        known: dict[str, float | None] = {}
        for setting in waiting:
            if setting not in known:
                known[setting] = self._expected(setting, seen.get(setting, 0.0))
            expected = known[setting]
            if expected is None:
                return None
            heapq.heappush(ends, heapq.heappop(ends) + expected)
        return max(ends)

    def _expected(self, setting: str, elapsed: float = 0.0) -> float | None:
        """How long a cell takes: the mean of its setting.

        One that was never measured counts with the mean of the typical cells, but with no less than
        1.5 times what a running cell of it has taken.
        """
        if own := self.times.get(setting):
            return sum(own) / len(own)
        if not self.typical:
            return None
        return max(sum(self.typical) / len(self.typical), 1.5 * elapsed)

    def _remaining(self, setting: str, expected: float, elapsed: float) -> float:
        """Of a running cell: what the cells of its setting that took longer took on average.

        The longer one of an unknown setting takes, the more is to come.
        """
        if own := self.times.get(setting):
            longer = [seconds - elapsed for seconds in own if seconds > elapsed]
            return sum(longer) / len(longer) if longer else 0.05 * expected
        return max(expected - elapsed, elapsed / 2)


def duration(seconds: float) -> str:
    """'42 s', '3 min 20 s', '2 h 05 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@dataclass
class State:
    """What a progress display shows."""

    total: int
    finished: int = 0
    diverged: int = 0
    failed: int = 0
    stopped: int = 0  # by a signal, not by the sweep
    left: float | None = None  # seconds

    @property
    def ended(self) -> int:
        return self.finished + self.failed + self.stopped

    def text(self) -> str:
        parts = [f"{self.finished} of {self.total} cells"]
        if self.diverged:
            parts.append(f"{self.diverged} diverged")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.stopped:
            parts.append(f"{self.stopped} stopped")
        if self.left is not None and self.ended < self.total:
            parts.append(f"about {duration(self.left)} left")
        return ", ".join(parts)


class Display(Protocol):
    """Where progress is shown."""

    def show(self, state: State) -> None:
        """Called after each cell and about once a second."""

    def say(self, text: str) -> None:
        """A message that has to be seen at once and stays."""

    def close(self) -> None: ...


class Quiet:
    """Shows nothing, but says what has to be said."""

    def show(self, state: State) -> None:
        pass

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class Lines(Quiet):
    """A line every few seconds, for logs."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._text = ""

    def show(self, state: State) -> None:
        done = state.ended == state.total
        now, text = time.monotonic(), state.text()
        if text != self._text and (done or now - self._last >= LINE_EVERY):
            self._last, self._text = now, text
            self.say(text)


class Bar:
    """A bar on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress: Any = Progress(
            BarColumn(bar_width=30),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def show(self, state: State) -> None:
        self._progress.update(
            self._task,
            description=state.text(),
            total=state.total,
            completed=state.ended,
        )

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


def display(progress: bool) -> Display:
    """A bar on a terminal, lines elsewhere, nothing but messages if progress is not wanted."""
    if not progress:
        return Quiet()
    return Bar() if sys.stderr.isatty() else Lines()
