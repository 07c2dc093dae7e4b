"""Attacks on DLPack: tensors that lie are refused before their memory is touched, and given back once."""

from __future__ import annotations

import ctypes as c
import gc
from typing import Any

import numpy as np
import pytest
from test_dlpack import CPU, Deleter, Foreign, ManagedVersioned, Taken, Tensor, _alive, _new

import halfulp as hu

F = "float8_e4m3fn"


class Liar:
    """An array whose tensor says what it is told to say."""

    def __init__(self, **said: Any) -> None:
        self.said, self.deleted, self.calls = said, 0, 0
        self.memory = np.arange(64, dtype=np.float32)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0

    def __dlpack__(self, **_: Any) -> Any:
        self.calls += 1
        s = self.said
        shape = s.get("shape", (4,))
        ints = None if shape is None else (c.c_int64 * max(len(shape), 1))(*shape)
        strides = s.get("strides")
        steps = None if strides is None else (c.c_int64 * max(len(strides), 1))(*strides)
        tensor = Tensor(
            s.get("data", self.memory.ctypes.data), s.get("device", CPU), 0, s.get("ndim", 1), 2, 32, 1, ints, steps, 0,
        )  # fmt: skip

        def delete(_: int) -> None:
            self.deleted += 1

        deleter = Deleter(delete)
        managed = ManagedVersioned(s.get("major", 1), 0, None, deleter, s.get("flags", 0), tensor)
        _alive.append((managed, ints, steps, deleter, self.memory))
        return _new(c.addressof(managed), b"dltensor_versioned", None)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"data": None}, "no memory"),
        ({"shape": None}, "no shape"),
        ({"ndim": -1}, "-1 dimensions"),
        ({"ndim": 65, "shape": (1,) * 65}, "65 dimensions"),
        ({"ndim": 2**31 - 1}, "2147483647 dimensions"),
        ({"device": 2}, "device 2"),
        ({"device": 99}, "device 99"),
        ({"major": 0}, "version 0"),
        ({"major": 2}, "version 2"),
    ],
)
def test_a_tensor_that_cannot_be_read_is_refused_and_given_back(
    said: dict[str, Any], why: str
) -> None:
    x = Liar(**said)
    with pytest.raises(TypeError, match=why):
        hu.round(x, F)
    gc.collect()
    assert (x.calls, x.deleted) == (1, 1)


@pytest.mark.parametrize("shape", [(-1,), (2**62,)])
def test_impossible_shapes_are_errors_and_given_back(shape: tuple[int, ...]) -> None:
    x = Liar(shape=shape)
    with pytest.raises(ValueError, match=r"negative dimensions|too big"):
        hu.round(x, F)
    gc.collect()
    assert x.deleted == 1


def test_no_elements_need_no_memory() -> None:
    assert hu.round(Liar(data=None, shape=(0,)), F).shape == (0,)


def test_a_capsule_is_taken_once_and_its_tensor_given_back_once() -> None:
    class Twice(Liar):
        capsule: Any = None

        def __dlpack__(self, **options: Any) -> Any:
            self.capsule = self.capsule or super().__dlpack__(**options)
            return self.capsule

    x = Twice()
    hu.round(x, F)
    with pytest.raises(TypeError, match="used already"):
        hu.round(x, F)
    gc.collect()
    assert x.deleted == 1


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyError("k"), MemoryError()])
def test_an_exception_of_the_producer_comes_through(error: Exception) -> None:
    class Broken(Liar):
        def __dlpack__(self, **_: Any) -> Any:
            raise error

    with pytest.raises(type(error)):
        hu.round(Broken(), F)


@pytest.mark.parametrize("answer", [None, 3, "x", np.zeros(3)])
def test_what_is_no_capsule_is_refused(answer: Any) -> None:
    class Other(Liar):
        def __dlpack__(self, **_: Any) -> Any:
            return answer

    with pytest.raises(TypeError, match="no capsule"):
        hu.round(Other(), F)


@pytest.mark.parametrize("answer", [None, 3, (1,), ("a", 0), (1, 0, 0)])
def test_what_is_no_device_is_refused(answer: Any) -> None:
    class Other(Liar):
        def __dlpack_device__(self) -> Any:
            return answer

    with pytest.raises(TypeError, match="x cannot be read by DLPack"):
        hu.round(Other(), F)


@pytest.mark.parametrize(
    ("unit", "dtype"),
    [
        ("hopper.wgmma.e4m3.f32", "float32"),
        ("hopper.mma.f64.f64", "float64"),
        ("hopper.wgmma.f16.f16", "float16"),
        ("x86.amx.bf16.f32", "float32"),
        ("x86.avx512.f16.f16", "float16"),
        ("hopper.wgmma.s8.s32", "int8"),
        ("x86.amx.s8.s32", "int8"),
    ],
)
def test_matrix_units_take_and_give_arrays_of_the_operands_library(unit: str, dtype: str) -> None:
    a, b = np.ones((2, 32), dtype), np.ones((32, 3), dtype)
    word = f"u{a.itemsize}"
    product = hu.matmul(Taken(a.view(word), dtype), Foreign(b), model=unit)
    want = hu.matmul(a, b, model=unit)
    assert isinstance(product, Taken)
    assert product.dtype == want.dtype.name
    assert product.array.tobytes() == want.tobytes()
