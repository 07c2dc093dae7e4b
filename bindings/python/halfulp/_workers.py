"""Tasks of a study in Pythons of their own, of one thread each: NumPy's and SciPy's threads stay
there, and multiprocessing would run the caller's script again."""

from __future__ import annotations

import importlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HALFULP_THREADS": "1"}

Task = tuple[str, list[Any]]  # its label, and the arguments of run_task as JSON has them


def serve(module: str) -> None:
    """A worker: arguments of the module's run_task from standard input, one task a line, and for
    each the seconds it took."""
    run_task = importlib.import_module(module).run_task
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a solver's prints may not stand between answers
    for line in sys.stdin:
        started = time.perf_counter()
        try:
            run_task(*json.loads(line))
            answer: dict[str, Any] = {"seconds": time.perf_counter() - started}
        except KeyboardInterrupt:  # the study's own process says so
            return
        except Exception as fault:
            answer = {"error": f"{type(fault).__name__}: {fault}"}
        print(json.dumps(answer), file=answers, flush=True)


def run_tasks(module: str, tasks: Sequence[Task], jobs: int, say: Callable[[str], None]) -> None:
    """All tasks, in sequence by at most `jobs` workers; `say` gets a line for each. RuntimeError
    with the first that fails."""
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    faults: list[str] = []

    def work() -> None:
        with subprocess.Popen(
            [sys.executable, "-c", f"from halfulp import _workers; _workers.serve({module!r})"],
            env=os.environ | ONE_THREAD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            while not faults:
                try:
                    label, arguments = waiting.get_nowait()
                except queue.Empty:
                    break
                worker.stdin.write(json.dumps(arguments) + "\n")
                worker.stdin.flush()
                line = worker.stdout.readline()
                answer = json.loads(line) if line else {"error": "its process ended"}
                if "error" in answer:
                    faults.append(f"{label}: {answer['error']}")
                else:
                    say(f"{label}  {answer['seconds']:.1f} s")
            worker.stdin.close()

    threads = [threading.Thread(target=work) for _ in range(min(jobs, len(tasks)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise RuntimeError(faults[0])
