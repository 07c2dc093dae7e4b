"""Kills a sweep at random moments, again and again, until it is finished all the same.

    python tests/python/kill_sweep.py SPEC --kills 200 --out DIR --seed 0

DIR/undisturbed gets the sweep as it is, DIR/killed-1, killed-2, ... the same under kills (a new
folder whenever one is finished). Then every cell's file must hold the same bits, and no finished
file may ever have been replaced, which would be a cell completed twice. Exit code 1 if not.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

SAY_EVERY = 5.0  # seconds
LOOK_EVERY = 0.05
STUCK = 600.0  # seconds in which not one cell was finished


@dataclass
class Verdict:
    """What the kills did. `different`: cells whose bits are not those of the undisturbed run."""

    cells: int
    rounds: int = 0
    kills: int = 0
    terms: int = 0  # SIGTERM, after which the cells go on from their checkpoints
    twice: int = 0
    different: int = 0

    @property
    def good(self) -> bool:
        return self.twice == self.different == 0

    def __str__(self) -> str:
        equal = "yes" if self.different == 0 else f"NO, {self.different} cells differ"
        return (
            f"{self.cells} cells, finished {self.rounds} times; {self.kills} kills, {self.terms} "
            f"SIGTERMs; completed twice: {self.twice}; bit-equal to the undisturbed run: {equal}"
        )


class Sweeps:
    """Sweeps that work on one folder together, started again when they were killed."""

    def __init__(self, spec: Path, out: Path, count: int, jobs: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        self._line = [sys.executable, "-m", "halfulp.cli", "sweep", str(spec), "--out", str(out)]
        self._line.append(f"--jobs={jobs}")
        self._files: dict[str, tuple[int, int]] = {}
        self.twice = 0
        self._running = [self._start() for _ in range(count)]

    def _start(self) -> subprocess.Popen[bytes]:
        with (self.out / "stderr").open("ab") as said:
            return subprocess.Popen(
                self._line, stdout=subprocess.DEVNULL, stderr=said, process_group=0
            )

    @property
    def finished(self) -> int:
        return len(self._files)

    def look(self) -> bool:
        """Notes which files there are; True once a sweep has ended by itself.

        Raises RuntimeError if it has failed.
        """
        for path in (self.out / "cells").glob("*.h5"):
            status = path.stat()
            file = status.st_ino, status.st_mtime_ns
            self.twice += self._files.get(path.name, file) != file
            self._files[path.name] = file
        codes = {sweep.poll() for sweep in self._running} - {None}
        if codes - {0}:
            raise RuntimeError(f"a sweep ended with {codes}: see {self.out / 'stderr'}")
        return bool(codes)

    def kill(self, number: int, which: signal.Signals) -> None:
        """Ends the process group of one sweep and starts it again."""
        sweep = self._running[number]
        os.killpg(sweep.pid, which)
        sweep.wait()
        self._running[number] = self._start()

    def wait(self) -> None:
        """Lets all that are left end by themselves."""
        for sweep in self._running:
            sweep.wait()
        self.look()


def disturb(
    spec: Path, out: Path, *, kills: int, seed: int, longest: float, sweeps: int = 1,
    terms: float = 0.2, jobs: int = 2,
) -> Verdict:  # fmt: skip
    """Runs the sweep whole, then under `kills` kills, and compares.

    A kill comes after a random time up to `longest` seconds and hits one of the `sweeps` that work
    on the folder; the share `terms` of them is SIGTERM instead of SIGKILL.
    """
    choose = random.Random(seed)
    whole = Sweeps(spec, out / "undisturbed", 1, jobs)
    whole.wait()
    verdict = Verdict(whole.finished)
    begun = said = time.monotonic()
    while verdict.kills + verdict.terms < kills:
        verdict.rounds += 1
        disturbed = Sweeps(spec, out / f"killed-{verdict.rounds}", sweeps, jobs)
        due, progress, before = _later(choose, longest), time.monotonic(), 0
        while not disturbed.look():
            now = time.monotonic()
            if disturbed.finished > before:
                progress, before = now, disturbed.finished
            if now - progress > STUCK:
                raise RuntimeError(f"no cell was finished within {STUCK:g} s in {disturbed.out}")
            if now >= said + SAY_EVERY:
                said = now
                print(
                    f"{now - begun:.0f} s: {verdict.kills + verdict.terms} of {kills} kills, round "
                    f"{verdict.rounds}: {before} of {verdict.cells} cells finished", flush=True
                )  # fmt: skip
            if now >= due and verdict.kills + verdict.terms < kills:
                term = choose.random() < terms
                disturbed.kill(choose.randrange(sweeps), signal.SIGTERM if term else signal.SIGKILL)
                verdict.terms += term
                verdict.kills += not term
                due = _later(choose, longest)
            time.sleep(LOOK_EVERY)
        disturbed.wait()
        verdict.twice += disturbed.twice
        verdict.different += _different(whole.out / "cells", disturbed.out / "cells")
    return verdict


def _later(choose: random.Random, longest: float) -> float:
    return time.monotonic() + choose.uniform(0, longest)


def _different(expected: Path, found: Path) -> int:
    """How many cells are missing, or not equal bit for bit; leftovers count as cells, too."""
    names = {path.name for path in expected.iterdir()} | {path.name for path in found.iterdir()}
    return sum(bits(expected / name) != bits(found / name) for name in names)


def bits(path: Path) -> dict[str, bytes] | None:
    """What of a cell's file must be reproduced: specification, metrics, weights."""
    if path.suffix != ".h5" or not path.exists():
        return None
    kept: dict[str, bytes] = {}
    with h5py.File(path, "r", locking=False) as file:

        def keep(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                kept[name] = np.asarray(item[()]).tobytes()

        file.visititems(keep)
        for name in ("outcome", "diverged_step", "weights_sha256", "numerics"):
            kept[f"attribute {name}"] = str(file.attrs.get(name)).encode()
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spec", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=5.0, help="seconds between kills, at most")
    parser.add_argument("--sweeps", type=int, default=1, help="sweeps at work in the folder")
    parser.add_argument("--terms", type=float, default=0.2, help="share of SIGTERM among the kills")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time, of each sweep")
    options = parser.parse_args()
    if options.out.exists() and any(options.out.iterdir()):
        print(f"{options.out} is not empty; give a new folder", file=sys.stderr)
        return 2
    verdict = disturb(
        options.spec, options.out, kills=options.kills, seed=options.seed,
        longest=options.longest, sweeps=options.sweeps, terms=options.terms, jobs=options.jobs,
    )  # fmt: skip
    print(verdict)
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
