"""The folder of a sweep: what lies where, who is at work in it, the failures of the last attempt.

Any number of sweeps work in one folder. What they do to a cell's file they do under the flock(2) on
its part, which halfulp-cell holds while it writes: whoever holds it has the cell.

DIR/sweep.toml             the sweep as it was given
DIR/index.json             its cells in order: id, canonical specification, parameters, control
DIR/cells/<id>.h5          finished cells; the only state
DIR/cells/<id>.h5.part     a cell that is being written
DIR/cells/<id>.h5.resume   where a cell goes on that was ended
DIR/cells/<id>.h5.corrupt  what was found under a finished cell's name and was not one
DIR/failed/<id>.json       why a cell failed at the last attempt
DIR/.lock                  who is at work here: each sweep holds a shared flock on it
"""

import fcntl
import json
import os
import tempfile
import time
import tomllib
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import SweepError
from .spec import PlannedCell, SweepSpec, decisive
from .toml_text import to_toml

Identity = tuple[int, int]  # which file lies under a name: inode, time of its last change in ns


def identity_of(path: str | Path) -> Identity | None:
    """Which file lies there now; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a str or a Path
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that a reader sees the old or the whole new content, never a part."""
    with _temporary(path, content) as temporary:
        temporary.replace(path)


@contextmanager
def _temporary(path: Path, content: str | bytes) -> Iterator[Path]:
    """A file beside `path`, gone afterwards unless it was renamed."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class Listing:
    """Names of cells by the files that there are of them."""

    finished: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()  # a part is there
    saved: frozenset[str] = frozenset()  # a checkpoint is there

    @property
    def begun(self) -> frozenset[str]:
        """Cells that are not finished and go on from a checkpoint."""
        return self.saved - self.finished


class Folder:
    """Paths and records of one sweep's folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.cells = self.root / "cells"
        self.failed = self.root / "failed"
        self.sweep = self.root / "sweep.toml"
        self.index = self.root / "index.json"
        self.lock = self.root / ".lock"

    def cell(self, identity: str) -> Path:
        """The file of a finished cell."""
        return self.cells / f"{identity}.h5"

    def create(self) -> None:
        """Makes the folder and shows that it can be written; OSError with one sentence if not."""
        try:
            self.cells.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.cells):
                pass
        except OSError as error:
            raise OSError(f"{self.root} cannot be written: {error.strerror}") from None

    def keep_sweep(self, spec: SweepSpec, text: str | None) -> None:
        """Keeps the sweep as it was given; refuses a folder that belongs to a different one.

        One that differs in nothing but its texts (question, limits and so on) replaces it.
        """
        if not self.sweep.exists():
            with _temporary(self.sweep, to_toml(spec.tree) if text is None else text) as temporary:
                try:
                    os.link(temporary, self.sweep)  # unlike renaming, it replaces nothing
                except FileExistsError:  # another sweep was faster
                    pass
                except OSError:  # a file system without hard links
                    temporary.replace(self.sweep)
        try:
            kept = tomllib.loads(self.sweep.read_text(encoding="utf-8"))
            same = decisive(kept) == decisive(spec.tree)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            same = False
        if not same:
            raise SweepError(
                f"{self.sweep} is a different sweep; give another folder with --out "
                "(finished cells copied into its cells/ are used again)"
            )
        if kept != spec.tree:
            write_atomically(self.sweep, to_toml(spec.tree) if text is None else text)

    def write_index(self, plan: Iterable[PlannedCell]) -> None:
        """Lets results be read without halfulp-cell; looked at by every start of the sweep."""
        plan = list(plan)
        if self.read_index() != plan:
            write_atomically(self.index, json.dumps([asdict(cell) for cell in plan]) + "\n")

    def read_index(self) -> list[PlannedCell] | None:
        """The cells in order; None if there is no index that can be read."""
        try:
            return [PlannedCell(**entry) for entry in json.loads(self.index.read_text("utf-8"))]
        except (OSError, ValueError, TypeError):
            return None

    def part(self, identity: str) -> Path:
        """The file of a cell while it is written."""
        return self.cells / f"{identity}.h5.part"

    def checkpoint(self, identity: str) -> Path:
        """Where a cell goes on that was ended before it was complete."""
        return self.cells / f"{identity}.h5.resume"

    def look(self) -> Listing:
        """Which cells are finished, written, begun; by names alone, in one reading of cells/."""
        names: dict[str, set[str]] = {".h5": set(), ".h5.part": set(), ".h5.resume": set()}
        with suppress(FileNotFoundError), os.scandir(self.cells) as entries:
            for entry in entries:
                identity, dot, suffix = entry.name.partition(".")
                names.get(dot + suffix, set()).add(identity)
        return Listing(*map(frozenset, names.values()))

    def remove_parts(self, identities: Iterable[str] | None = None) -> None:
        """Removes what ended cells left half-written: of these cells, or (None) all.

        A part that a cell still writes stays, whoever started that cell.
        """
        for identity in self.look().written if identities is None else identities:
            if self.part(identity).exists():
                with self._claimed(identity):
                    pass

    def remove_checkpoint(self, identity: str) -> None:
        """Removes the checkpoint that a finished cell left, as it was killed in between.

        One that is newer than the file is of a cell that is to replace it, and stays.
        """
        file = identity_of(self.cell(identity))
        checkpoint = self.checkpoint(identity)
        for path in (checkpoint, checkpoint.with_name(checkpoint.name + ".new")):
            left = identity_of(path)
            if file is not None and left is not None and left[1] <= file[1]:
                path.unlink(missing_ok=True)

    def set_aside(self, identity: str, corrupt: Identity) -> Path | None:
        """Moves a corrupt file out of the way, keeping it; returns its new path.

        None if another sweep has seen to it: it writes the cell, or has put another file there.
        """
        with self._claimed(identity) as claimed:
            if not claimed or identity_of(self.cell(identity)) != corrupt:
                return None
            aside = self.cells / f"{identity}.h5.corrupt"
            self.cell(identity).replace(aside)
            return aside

    @contextmanager
    def _claimed(self, identity: str) -> Iterator[bool]:
        """Holds a cell as halfulp-cell does while it writes it; its part is gone afterwards.

        False if another process holds it. What is locked may have been renamed or removed since it
        was opened, and another part begun: that is no claim either.
        """
        part = self.part(identity)
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            claimed = _try_lock(handle, fcntl.LOCK_EX) and _lies_at(handle, part)
            try:
                yield claimed
            finally:
                if claimed:
                    part.unlink(missing_ok=True)
        finally:
            os.close(handle)

    def note_failure(self, cell: PlannedCell, exit_code: int, message: str) -> None:
        record = {"cell": cell.describe(), "exit_code": exit_code, "message": message}
        write_atomically(self.failed / f"{cell.id}.json", json.dumps(record) + "\n")

    def forget_failure(self, identity: str) -> None:
        (self.failed / f"{identity}.json").unlink(missing_ok=True)

    def failure(self, identity: str) -> str | None:
        """Why the cell failed at the last attempt; None if it did not."""
        try:
            return str(json.loads((self.failed / f"{identity}.json").read_text("utf-8"))["message"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError):
            return "failed for an unknown reason"

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Says for so long that a sweep is at work here, whatever ends its process.

        Raises OSError if the file system has no flock(2), without which nobody may work here.
        """
        handle = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            try:
                if _try_lock(handle, fcntl.LOCK_EX):  # nobody else is here: their records go
                    os.ftruncate(handle, 0)
                fcntl.flock(handle, fcntl.LOCK_SH)  # waits for those who look only
            except OSError as error:
                raise OSError(
                    f"{self.root} lies on a file system without flock(2) ({error.strerror}), which "
                    "keeps cells from being run twice; give a folder elsewhere"
                ) from None
            os.write(handle, _record().encode())
            yield
        finally:
            os.close(handle)

    def sweeps(self) -> list[dict[str, Any]] | None:
        """Who is at work here: {"pid", "host", "started" (Unix time)} each; None if nobody is.

        Ended sweeps of other machines are named until all have ended.
        """
        try:  # to write, as NFS wants it for an exclusive lock
            handle = os.open(self.lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if _try_lock(handle, fcntl.LOCK_EX):
                return None
            return [record for record in _read_records(handle) if not _is_gone(record)]
        except OSError:
            return None
        finally:
            os.close(handle)


def is_locked(part: str | Path) -> bool:
    """Whether a process is writing this part of a cell now."""
    try:
        handle = os.open(part, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lies_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _record() -> str:
    record = {"pid": os.getpid(), "host": os.uname().nodename, "started": time.time()}
    return json.dumps(record) + "\n"


def _read_records(handle: int) -> list[dict[str, Any]]:
    records = []
    for line in os.pread(handle, 1 << 16, 0).splitlines():
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and {"pid", "host", "started"} <= record.keys():
                records.append(record)
    return records


def _is_gone(record: dict[str, Any]) -> bool:
    """Whether it is a process of this machine that has ended."""
    if record["host"] != os.uname().nodename:
        return False
    try:
        os.kill(record["pid"], 0)
    except ProcessLookupError:
        return True
    except (OSError, TypeError):
        pass
    return False
