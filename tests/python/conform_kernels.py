"""Kernels under test for test_conform*.py: a good softmax, broken ones, ill-behaved callables."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import time

import numpy as np


def softmax(x):
    """In binary32, as the suite expects it."""
    if x.shape[1] == 0:
        return np.empty_like(x)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float32)
        e = np.exp(wide - wide.max(axis=1, keepdims=True))
        return (e / e.sum(axis=1, keepdims=True)).astype(x.dtype)


def _shifted(x, shift, total=None):
    with np.errstate(all="ignore"):
        e = np.exp(x - shift)
        return e / (e.sum(axis=1, keepdims=True) if total is None else total(e))


def _rows(x):
    return x.max(axis=1, keepdims=True, initial=-np.inf)


# ---------------------------------------------------------------- wrong results
def no_maximum(x):
    return _shifted(x, np.float32(0))


def first_as_maximum(x):
    return _shifted(x, x[:, :1]) if x.shape[1] else x.copy()


def maximum_of_half(x):
    half = max(x.shape[1] // 2, 1)
    return _shifted(x, _rows(x[:, :half])) if x.shape[1] else x.copy()


def missing_tail(x):
    y = softmax(x)
    y[:, x.shape[1] // 4 * 4 :] = 0
    return y


def sum_without_the_last(x):
    return _shifted(x, _rows(x), lambda e: np.maximum(e[:, :-1].sum(axis=1, keepdims=True), 1e-30))


def sum_of_another_row(x):
    return _shifted(x, _rows(x), lambda e: np.roll(e.sum(axis=1, keepdims=True), 1, axis=0))


def half_accumulator(x):
    def total(e):
        return e.sum(axis=1, keepdims=True, dtype=np.float16).astype(np.float32)

    return _shifted(x, _rows(x), total)


def nan_swallowed(x):
    return np.nan_to_num(softmax(x), nan=0.0)


def wrong_axis(x):
    return softmax(np.ascontiguousarray(x.T)).T if x.size else x.copy()


def not_normalized(x):
    with np.errstate(all="ignore"):
        return np.exp(x - _rows(x))


def coarse_exp(x):
    """exp by its series to the fourth order after halving the argument ten times."""
    with np.errstate(all="ignore"):
        t = np.maximum(x - _rows(x), -104) / np.float32(1024)
        e = (1 + t * (1 + t / 2)) ** np.float32(1024)
        return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


def guarded_sum(x):
    return _shifted(x, _rows(x), lambda e: e.sum(axis=1, keepdims=True) + np.float32(1e-5))


def masked_rows_are_zero(x):
    y = softmax(x)
    y[np.all(x == -np.inf, axis=1)] = 0
    return y


BROKEN = [
    no_maximum,
    first_as_maximum,
    maximum_of_half,
    missing_tail,
    sum_without_the_last,
    sum_of_another_row,
    half_accumulator,
    nan_swallowed,
    wrong_axis,
    not_normalized,
    coarse_exp,
    guarded_sum,
    masked_rows_are_zero,
]

_calls = [0]


def differs_from_run_to_run(x):
    """Within the bound, but every second call adds a unit in the last place."""
    _calls[0] += 1
    y = softmax(x)
    return np.nextafter(y, np.float32(0)) if _calls[0] % 2 else y


def depends_on_the_batch(x):
    y = softmax(x)
    return np.nextafter(y, np.float32(0)) if x.shape[0] > 1 else y


# ---------------------------------------------------------------- no result at all
def returns_none(x):
    return None


def returns_a_list(x):
    return softmax(x).tolist()


def returns_two(x):
    return softmax(x), softmax(x)


def returns_a_dict(x):
    return {"z": softmax(x)}


def returns_float64(x):
    return softmax(x).astype(np.float64)


def returns_foreign_bytes(x):
    return softmax(x).astype(">f4")


def returns_flat(x):
    return softmax(x).ravel()


def returns_its_input(x):
    return x


def returns_a_broadcast(x):
    return np.broadcast_to(np.float32(0.5), x.shape)


def returns_masked(x):
    return np.ma.masked_array(softmax(x))


def raises(x):
    raise MemoryError("no scratch\nfor this")


def exits(x):
    sys.exit(4)


def writes_to_its_input(x):
    x -= 1


def writes_around_numpy(x):
    if x.size:
        ctypes.memset(x.ctypes.data, 0, 1)
        ctypes.memset(x.ctypes.data + x.nbytes - 1, 0x55, 1)
    return softmax(x)


def recurses(x):
    return recurses(x)


def is_unsupported(x):
    if x.shape[1] > 3:
        raise NotImplementedError("rows longer than 3")
    return softmax(x)


SENTENCES = {
    returns_none: "returned None; it must return y (float32, shape (",
    returns_a_list: "y is of type list; it must be an array of NumPy",
    returns_two: "returned 2 outputs; it must return y (float32",
    returns_a_dict: "returned a dict of z; the outputs are y",
    returns_float64: "y has dtype float64, but must have float32",
    returns_foreign_bytes: "y has dtype >f4, but must have float32",
    returns_flat: "), but must have (",
    returns_its_input: "y is read-only",
    returns_a_broadcast: "y is read-only",
    returns_masked: "y is a masked array; return a plain one",
    raises: "raised MemoryError: no scratch for this",
    exits: "raised SystemExit: 4",
    writes_to_its_input: "raised ValueError: output array is read-only",
    writes_around_numpy: "wrote to its input x",
    recurses: "raised RecursionError: maximum recursion depth exceeded",
}


# ---------------------------------------------------------------- worse than that
def _at(x, rows, act):
    if x.shape[0] == rows:
        act()
    return softmax(x)


def _segfault():
    faulthandler.disable()  # pytest's would print where
    os.kill(os.getpid(), signal.SIGSEGV)


def dies(x):
    return _at(x, 3, _segfault)


def leaves(x):
    return _at(x, 3, lambda: os._exit(7))


def hangs(x):
    return _at(x, 3, lambda: time.sleep(1000))


def ends_its_group(x):
    return _at(x, 3, lambda: os.killpg(0, signal.SIGKILL))


def prints(x):
    print("printed by a kernel")
    return softmax(x)
