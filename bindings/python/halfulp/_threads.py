"""How many threads a call may use. Results do not depend on it."""

from __future__ import annotations

import os

from halfulp import _core

_MOST = 1024


def threads() -> int:
    """How many threads large arrays are shared among: in `round`, `encode`, `decode`, `quantize`,
    `dequantize`, arithmetic and `matmul`.
    """
    return _core.threads()


def set_threads(n: int) -> None:
    """Lets one call use n threads, 1 to 1024. At first: HALFULP_THREADS, or else the processors
    that this process may use.
    """
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"the number of threads must be an integer, not {type(n).__name__}")
    if not 1 <= n <= _MOST:
        raise ValueError(f"the number of threads is {n}, but must be 1 to {_MOST}")
    _core.set_threads(n)


def _set_from_environment() -> None:
    text = os.environ.get("HALFULP_THREADS")
    if text is None:
        _core.set_threads(min(len(os.sched_getaffinity(0)), _MOST))
        return
    try:
        set_threads(int(text))
    except ValueError:
        raise ValueError(
            f"HALFULP_THREADS is {text!r}, but must be an integer from 1 to {_MOST}"
        ) from None


_set_from_environment()
