"""The folder of a sweep: what lies where, its lock, the failures of the last attempt.

DIR/sweep.toml             the sweep as it was given
DIR/index.json             its cells in order: id, canonical specification, parameters, control
DIR/cells/<id>.h5          finished cells; the only state
DIR/cells/<id>.h5.part     a cell that is being written
DIR/cells/<id>.h5.corrupt  what was found under a finished cell's name and was not one
DIR/failed/<id>.json       why a cell failed at the last attempt
DIR/.lock                  who is at work here
"""

import fcntl
import json
import os
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .errors import SweepBusyError, SweepError
from .spec import PlannedCell, SweepSpec
from .toml_text import to_toml

_PATIENCE = 1.0  # seconds that a busy lock is tried for


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that a reader sees the old or the whole new content, never a part."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
        """Keeps the sweep as it was given; refuses a folder that belongs to a different one."""
        if not self.sweep.exists():
            write_atomically(self.sweep, to_toml(spec.tree) if text is None else text)
            return
        try:
            same = tomllib.loads(self.sweep.read_text(encoding="utf-8")) == spec.tree
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            same = False
        if not same:
            raise SweepError(
                f"{self.sweep} is a different sweep; give another folder with --out "
                "(finished cells copied into its cells/ are used again)"
            )

    def write_index(self, plan: Iterable[PlannedCell]) -> None:
        """Lets results be read without halfulp-cell; rebuilt by every start of the sweep."""
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

    def remove_parts(self, identities: Iterable[str] | None = None) -> set[str]:
        """Removes what an ended sweep left half-written: of these cells, or (None) all.

        A part that a cell still writes (which holds an flock on it) stays: such an executor's cells
        can outlive the sweep that started them. Returns the cells of these parts.
        """
        if identities is None:
            identities = [part.name.split(".")[0] for part in self.cells.glob("*.h5.part")]
        return {identity for identity in identities if not _remove_part(self.part(identity))}

    def is_written(self, identity: str) -> bool:
        """Whether a process is writing this cell now."""
        try:
            handle = os.open(self.part(identity), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(handle, fcntl.LOCK_EX)
        finally:
            os.close(handle)

    def set_aside(self, identity: str) -> Path:
        """Moves a corrupt file out of the way, keeping it; returns its new path."""
        aside = self.cells / f"{identity}.h5.corrupt"
        self.cell(identity).replace(aside)
        return aside

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
    def locked(self, shard: tuple[int, int] | None = None) -> Iterator[None]:
        """Holds the folder: alone, or as shard (I, N) together with the other shards of N.

        The lock is flock(2): it ends with the process that holds it, however that ends.
        Raises SweepBusyError if another sweep is at work here.
        """
        number, shards = shard or (1, 1)
        handles = [_open(self.lock)]
        try:
            self._take(handles[0], shards)
            if shards > 1:
                handles.append(_open(self.root / f".lock-{number}-of-{shards}"))
                if not _try_lock(handles[1], fcntl.LOCK_EX):
                    raise SweepBusyError(
                        f"shard {number}/{shards} of {self.root} is running already"
                    )
            yield
        finally:
            for handle in handles:
                os.close(handle)

    def _take(self, handle: int, shards: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            if _try_lock(handle, fcntl.LOCK_EX):  # nobody else is here
                os.ftruncate(handle, 0)
                os.pwrite(handle, json.dumps(_record(shards)).encode(), 0)
                if shards == 1:
                    return
            if shards > 1 and _try_lock(handle, fcntl.LOCK_SH):
                if _read_record(handle).get("shards") == shards:
                    return
                fcntl.flock(handle, fcntl.LOCK_UN)
            if time.monotonic() > deadline:
                raise SweepBusyError(_busy(self.root, _read_record(handle), shards))
            time.sleep(0.05)

    def holder(self) -> dict[str, Any] | None:
        """Who is at work here: {"pid", "host", "started" (Unix time), "shards"}; else None."""
        try:
            handle = os.open(self.lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return None if _try_lock(handle, fcntl.LOCK_EX) else _read_record(handle)
        finally:
            os.close(handle)


def _remove_part(part: Path) -> bool:
    """Removes a part; False if a cell still writes it.

    The lock is held while it is removed, and what is removed is the file that was locked: a cell
    may have renamed it, and another one begun a new part, since it was opened.
    """
    try:
        handle = os.open(part, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        if not _try_lock(handle, fcntl.LOCK_EX):
            return False
        with suppress(FileNotFoundError):
            if not os.path.samestat(os.fstat(handle), part.stat()):
                return False
            part.unlink()
        return True
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _record(shards: int) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "started": time.time(),
        "shards": shards,
    }


def _read_record(handle: int) -> dict[str, Any]:
    try:
        record = json.loads(os.pread(handle, 4096, 0))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _busy(root: Path, record: dict[str, Any], shards: int) -> str:
    who = f"process {record['pid']} on {record['host']}" if record else "another process"
    if shards > 1 and record.get("shards", 1) > 1:
        return (
            f"{root} is being worked on in {record['shards']} shards ({who}), so not in {shards}: "
            f"use --shard I/{record['shards']}, or wait until it has ended"
        )
    return f"{root} is being worked on by another sweep ({who}): wait until it has ended, or end it"
