"""Arrays of other libraries by DLPack: a producer and a consumer made of ctypes, NumPy's own, JAX and torch.

The structures are declared here once more, from DLPack's specification.
"""

from __future__ import annotations

import ctypes as c
import doctest
import gc
import importlib.metadata
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import halfulp as hu
from halfulp import _core, _dlpack

CPU, CUDA, CUDA_HOST = 1, 2, 3
CODES = {
    "int8": (0, 8), "int32": (0, 32), "uint8": (1, 8), "uint16": (1, 16), "uint32": (1, 32), "uint64": (1, 64),
    "float16": (2, 16), "float32": (2, 32), "float64": (2, 64), "bfloat16": (4, 16), "complex64": (5, 64), "bool": (6, 8),
    "float8_e3m4": (7, 8), "float8_e4m3": (8, 8), "float8_e4m3b11fnuz": (9, 8), "float8_e4m3fn": (10, 8),
    "float8_e4m3fnuz": (11, 8), "float8_e5m2": (12, 8), "float8_e5m2fnuz": (13, 8), "float8_e8m0fnu": (14, 8),
    "float6_e2m3fn": (15, 6), "float6_e3m2fn": (16, 6), "float4_e2m1fn": (17, 4),
}  # fmt: skip
READ_ONLY, PADDED = 1, 4


class Tensor(c.Structure):
    _fields_ = (
        ("data", c.c_void_p), ("device_type", c.c_int32), ("device_id", c.c_int32), ("ndim", c.c_int32),
        ("code", c.c_uint8), ("bits", c.c_uint8), ("lanes", c.c_uint16),
        ("shape", c.POINTER(c.c_int64)), ("strides", c.POINTER(c.c_int64)), ("byte_offset", c.c_uint64),
    )  # fmt: skip


Deleter = c.CFUNCTYPE(None, c.c_void_p)


class Managed(c.Structure):
    _fields_ = (("tensor", Tensor), ("context", c.c_void_p), ("deleter", Deleter))


class ManagedVersioned(c.Structure):
    _fields_ = (
        ("major", c.c_uint32), ("minor", c.c_uint32), ("context", c.c_void_p), ("deleter", Deleter),
        ("flags", c.c_uint64), ("tensor", Tensor),
    )  # fmt: skip


_new = c.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = c.py_object, (c.c_void_p, c.c_char_p, c.c_void_p)
_pointer = c.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = c.c_void_p, (c.py_object, c.c_char_p)
_alive: list[Any] = []  # what C points to


class Foreign:
    """Another library's array over the memory of one of NumPy's (uint of the dtype's size)."""

    def __init__(
        self, array: np.ndarray[Any, Any], dtype: str | None = None, **changes: Any
    ) -> None:
        self.array, self.dtype = array, dtype or array.dtype.name
        self.changes, self.deleted, self.calls = changes, 0, 0

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.changes.get("device", CPU), 0

    def __dlpack__(self, **options: Any) -> Any:
        if options and self.changes.get("legacy"):
            raise TypeError("__dlpack__() takes no keyword arguments")
        self.calls += 1
        code, bits = self.changes.get("type", CODES.get(self.dtype))
        a, size = self.array, self.array.itemsize
        shape = (c.c_int64 * max(a.ndim, 1))(*a.shape)
        strides = (c.c_int64 * max(a.ndim, 1))(*(s // size for s in a.strides))
        offset = self.changes.get("offset", 0)
        tensor = Tensor(
            None if a.size == 0 else a.ctypes.data - offset, CPU, 0, a.ndim, code, bits, self.changes.get("lanes", 1), shape,
            None if self.changes.get("no_strides") else strides, offset,
        )  # fmt: skip

        def delete(_: int) -> None:
            self.deleted += 1

        deleter = Deleter(delete)
        legacy = self.changes.get("legacy", False)
        if legacy:
            managed: Any = Managed(tensor, None, deleter)
        else:
            major = self.changes.get("major", 1)
            managed = ManagedVersioned(
                major, 0, None, deleter, self.changes.get("flags", 0), tensor
            )
        _alive.append((managed, shape, strides, deleter, a))
        return _new(c.addressof(managed), b"dltensor" if legacy else b"dltensor_versioned", None)


class Library:
    """The namespace of an array-API library whose arrays are `Taken`."""

    refuses: tuple[str, ...] = ()

    def from_dlpack(self, x: Any) -> Taken:
        assert x.__dlpack_device__() == (CPU, 0)
        capsule = x.__dlpack__(max_version=(1, 0))
        managed = ManagedVersioned.from_address(_pointer(capsule, b"dltensor_versioned"))
        t = managed.tensor
        name = {v: k for k, v in CODES.items()}[t.code, t.bits]
        if name in self.refuses:
            raise BufferError(f"no {name} here")
        assert (t.lanes, t.device_type) == (1, CPU)
        shape = tuple(t.shape[i] for i in range(t.ndim))
        count, step = int(np.prod(shape)), t.bits // 8
        data = c.string_at(t.data + t.byte_offset, count * step) if count else b""
        values = np.frombuffer(data, f"u{step}").reshape(shape)
        return Taken(values, name, t.data % 64 if count else 0)


class Taken(Foreign):
    """An array that a library made of a result."""

    def __init__(self, values: np.ndarray[Any, Any], dtype: str, misaligned: int = 0) -> None:
        super().__init__(values, dtype)
        self.misaligned = misaligned

    library = Library()

    def __array_namespace__(self) -> Library:
        return self.library


def numbers(dtype: str, n: int = 96) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(7).standard_normal(n) * 8
    return x.astype(getattr(ml_dtypes, dtype, None) or dtype)


def bits(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return x.view(f"u{x.itemsize}")


def same(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((bits(a) == bits(b)).all())


WIDE = ("float16", "bfloat16", "float32", "float64")
NARROW = [name for name in CODES if name.startswith(("float8", "float6", "float4"))]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", WIDE)
def test_numbers_are_read_where_they_lie(
    dtype: str, legacy: bool, cases: Callable[..., None]
) -> None:
    x = numbers(dtype)
    y = Foreign(bits(x), dtype, legacy=legacy)
    memory, name = _dlpack.bits_of(y, "x")
    assert name == dtype
    assert memory.ctypes.data == x.ctypes.data
    assert memory.flags.writeable is not legacy
    del memory
    assert (y.calls, y.deleted) == (1, 1)
    found = hu.round(y, "float8_e4m3fn", "up")
    assert same(found, hu.round(x, "float8_e4m3fn", "up"))
    assert (y.calls, y.deleted) == (2, 2)
    cases(x.size, "DLPack")


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_numbers_count_as_float32(dtype: str, cases: Callable[..., None]) -> None:
    x = numbers(dtype) if dtype != "float8_e8m0fnu" else np.abs(numbers(dtype))
    y = Foreign(bits(x), dtype, flags=PADDED if CODES[dtype][1] < 8 else 0)
    assert same(hu.add(y, np.float32(0.1), "bfloat16"), hu.add(x, np.float32(0.1), "bfloat16"))
    assert y.deleted == 1
    cases(x.size, "DLPack")


@pytest.mark.parametrize(
    "pick",
    [
        lambda x: x.reshape(8, 12).T, lambda x: x[::-1], lambda x: x.reshape(4, 24)[::2, 5::-2],
        lambda x: np.broadcast_to(x[:6], (4, 6)), lambda x: x[3:4].reshape(()), lambda x: x[:0].reshape(0, 3),
        lambda x: x.reshape(2, 2, 2, 12)[1:, :, ::-1],
    ],
)  # fmt: skip
def test_any_shape_and_strides(pick: Callable[[Any], Any], cases: Callable[..., None]) -> None:
    x = numbers("float32")
    y = pick(bits(x))
    for changes in ({}, {"offset": 40}, {"no_strides": True}):
        if "no_strides" in changes and not y.flags.c_contiguous:
            continue
        found = hu.round(Foreign(y, "float32", **changes), "bfloat16")
        assert same(np.asarray(found), np.asarray(hu.round(pick(x), "bfloat16")))
        cases(y.size, "DLPack")


def test_the_memory_outlives_its_owner() -> None:
    x = numbers("float32")
    y = Foreign(bits(x), "float32")
    seen = [_dlpack.bits_of(y, "x")[0][::2]]
    counts = y.__dict__
    del y
    gc.collect()
    assert counts["deleted"] == 0
    assert (seen[0] == bits(x)[::2]).all()
    seen.clear()
    assert counts["deleted"] == 1


def test_out_is_written_where_it_lies_unless_it_is_read_only() -> None:
    x = numbers("float32")
    expected = hu.round(x, "float8_e5m2")
    memory = bits(x.copy())
    y = Foreign(memory, "float32")
    assert hu.round(y, "float8_e5m2", out=y) is y  # in place
    assert same(memory.view(np.float32), expected)
    codes = Foreign(np.zeros(96, np.uint8))
    assert hu.encode(x, "float8_e5m2", out=codes) is codes
    assert same(codes.array, hu.encode(x, "float8_e5m2"))
    values = Foreign(np.zeros(96, np.uint32), "float32")
    assert hu.decode(codes, "float8_e5m2", out=values) is values
    assert same(values.array.view(np.float32), expected)
    classes = Foreign(np.zeros(96, np.uint8))
    assert hu.classify(y, "float8_e5m2", out=classes) is classes
    assert same(classes.array, hu.classify(expected, "float8_e5m2"))
    for changes in ({"flags": READ_ONLY}, {"legacy": True}):
        before = memory.copy()
        frozen = Foreign(memory, "float32", **changes)
        with pytest.raises(TypeError, match="out may not be written"):
            hu.round(x, "bfloat16", out=frozen)
        assert (memory == before).all()
        assert same(hu.round(frozen, "bfloat16"), hu.round(expected, "bfloat16"))  # but may be read


@pytest.mark.parametrize("dtype", WIDE)
def test_results_are_of_the_operands_library(dtype: str, cases: Callable[..., None]) -> None:
    x = numbers(dtype).reshape(8, 12)
    y = Taken(bits(x), dtype)
    found, flags = hu.add(x, y, "bfloat16" if dtype != "float16" else "float8_e5m2", flags=True)
    expected, raised = hu.add(x, x, "bfloat16" if dtype != "float16" else "float8_e5m2", flags=True)
    assert isinstance(found, Taken)
    assert found.dtype == dtype
    assert (found.array == bits(expected)).all()
    assert found.misaligned == 0  # JAX would copy it
    assert isinstance(flags, Taken)
    assert (flags.array == raised).all()
    codes = hu.encode(y, "float8_e4m3fn")
    assert isinstance(codes, Taken)
    assert (codes.array == hu.encode(x, "float8_e4m3fn")).all()
    values = hu.decode(codes, "float8_e4m3fn")
    assert isinstance(values, Taken)
    assert (values.array.view(np.float32) == hu.round(x, "float8_e4m3fn").astype(np.float32)).all()
    number = hu.encode(y, "float8_e4m3fn", dtype=ml_dtypes.float8_e4m3fn)
    assert (number.dtype, number.array.tolist()) == ("float8_e4m3fn", codes.array.tolist())
    order = hu.total_order(y, y)
    assert (order.dtype, order.array.all()) == ("bool", True)
    zero_d = hu.round(Taken(bits(x[:1, 0].reshape(())), dtype), "float8_e5m2")
    assert isinstance(zero_d, Taken)
    assert zero_d.array.shape == ()
    cases(3 * x.size, "DLPack")


def test_what_the_library_does_not_take_stays_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    x = numbers("bfloat16")
    y = Taken(bits(x), "bfloat16")
    monkeypatch.setattr(Taken.library, "refuses", ("bfloat16",), raising=False)
    assert same(hu.round(y, "float8_e5m2"), hu.round(x, "float8_e5m2"))
    assert isinstance(hu.encode(y, "float8_e5m2"), Taken)
    # As JAX does with 64 bits unless it is told otherwise.
    monkeypatch.setattr(Library, "from_dlpack", lambda self, a: np.zeros(3, np.float32))
    z = Taken(bits(numbers("float64")), "float64")
    assert hu.round(z, "binary32").dtype == np.float64


def test_functions_of_every_kind_take_them() -> None:
    x = numbers("float32", 64).reshape(8, 8)
    y = Foreign(bits(x), "float32")
    assert same(hu.quantize(y, "mxfp4").codes, hu.quantize(x, "mxfp4").codes)
    assert same(hu.matmul(y, x, y), hu.matmul(x, x, x))
    assert hu.dot(Foreign(bits(x[0]), "float32"), x[1]) == hu.dot(x[0], x[1])
    assert same(hu.sum(y, axis=0), hu.sum(x, axis=0))
    assert same(hu.functions.exp(y, "bfloat16"), hu.functions.exp(x, "bfloat16"))
    assert same(hu.transforms.hadamard(y, "bfloat16", 8), hu.transforms.hadamard(x, "bfloat16", 8))
    assert same(hu.round(y, "posit16"), hu.round(x, "posit16"))
    assert same(hu.fma(y, 2.0, [1.0] * 8, "binary16"), hu.fma(x, 2.0, [1.0] * 8, "binary16"))
    assert y.deleted == y.calls == 8


BAD = [
    ({"device": CUDA}, "x is in the memory of a device .CUDA 0.; copy it to the host"),
    ({"device": 99}, "x is in the memory of a device .99 0."),
    ({"lanes": 4}, "elements of 4 float32"),
    ({"dtype": "complex64"}, "x has dtype complex64; pass float16"),
    ({"dtype": "int32"}, "x has dtype int32; pass float16"),
    ({"dtype": "bool"}, "x has dtype bool; pass float16"),
    ({"type": (2, 128)}, "dtype float128 is not taken"),
    ({"type": (2, 80)}, "dtype float80 is not taken"),
    ({"type": (200, 32)}, "number 200 of DLPack"),
    ({"type": (17, 4)}, "packed float4_e2m1fn is not taken"),
    ({"type": (1, 4), "flags": PADDED}, "x has dtype uint4; pass"),
    ({"major": 2}, "version 2 of DLPack is not understood"),
]


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_what_is_refused_is_given_back(changes: dict[str, Any], words: str) -> None:
    changes = dict(changes)
    dtype = changes.pop("dtype", "float32")
    memory = np.zeros(4, {"complex64": "u8", "bool": "u1"}.get(dtype, "u4"))
    y = Foreign(memory, dtype, **changes)
    with pytest.raises(TypeError, match=words):
        hu.round(y, "bfloat16")
    assert y.deleted == y.calls


def test_pinned_memory_is_the_hosts() -> None:
    x = numbers("float32")
    assert same(
        hu.round(Foreign(bits(x), "float32", device=CUDA_HOST), "bfloat16"), hu.round(x, "bfloat16")
    )


def test_a_capsule_is_read_once_and_a_producer_may_refuse() -> None:
    x = numbers("float32")
    capsule = Foreign(bits(x), "float32").__dlpack__()
    _core.read_dlpack(capsule)
    for bad in (capsule, None, 3):
        with pytest.raises(TypeError, match="no capsule of DLPack"):
            _core.read_dlpack(bad)
        with pytest.raises(TypeError, match="no capsule of DLPack"):
            _core.rename_dlpack_type(bad, "bfloat16")

    class Refusing(Foreign):
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("it requires a gradient; use detach()")

    with pytest.raises(
        TypeError, match=r"b cannot be read by DLPack: it requires a gradient; use d"
    ):
        hu.add(x, Refusing(bits(x), "float32"), "bfloat16")
    with pytest.raises(ValueError, match="no dtype float4_e2m1fn of 32 bits"):
        _core.rename_dlpack_type(Foreign(bits(x), "float32").__dlpack__(), "float4_e2m1fn")
    with pytest.raises(TypeError, match="codes have dtype float32"):
        hu.decode(Foreign(bits(x), "float32"), "binary32")
    with pytest.raises(TypeError, match="the result must be an array of float16"):
        hu.round(x, "bfloat16", out=Foreign(np.zeros(96, np.uint8), "float8_e5m2"))


class Wrapped:
    """NumPy's own DLPack behind a class that is not NumPy's."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numpys_producer(dtype: str) -> None:
    x = numbers(dtype).reshape(8, 12)[:, ::-2]
    assert same(hu.round(Wrapped(x), "bfloat16" if dtype != "float16" else "float8_e5m2"),
                hu.round(x, "bfloat16" if dtype != "float16" else "float8_e5m2"))  # fmt: skip
    frozen = x.copy()
    frozen.flags.writeable = False
    assert same(hu.encode(Wrapped(frozen), "binary16"), hu.encode(x, "binary16"))
    with pytest.raises(TypeError, match="out "):
        hu.round(x, "float8_e5m2", out=Wrapped(frozen))


def test_results_have_numpys_dlpack() -> None:
    y = hu.round(numbers("float32"), "bfloat16")
    z = np.from_dlpack(y)
    assert z.ctypes.data == y.ctypes.data
    assert same(z, y)


# ------------------------------------------------------------------ the libraries themselves
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_array_api_strict(dtype: str) -> None:
    import array_api_strict as xp

    given = numbers(dtype).reshape(8, 12)
    x = xp.asarray(given.copy())
    f = "bfloat16"
    assert _dlpack.bits_of(x, "x")[0].ctypes.data == x._array.ctypes.data
    for theirs, ours in ((hu.round(x, f), hu.round(given, f)), (hu.add(given, x.T.T, f), hu.add(given, given, f)),
                         (hu.encode(x, f), hu.encode(given, f)), (hu.matmul(x, x.T), hu.matmul(given, given.T)),
                         (hu.compare(x, 0.0), hu.compare(given, 0.0))):  # fmt: skip
        assert type(theirs) is type(x)
        assert same(theirs._array, ours)
    assert hu.round(x, f, "up", out=x) is x
    assert same(x._array, hu.round(given, f, "up"))


def installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed (350 MB)")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_jax(dtype: str) -> None:
    import jax
    import jax.numpy as jnp

    given = numbers(dtype).reshape(8, 12)
    x = jnp.asarray(given)
    memory, name = _dlpack.bits_of(x, "x")
    assert name == dtype
    assert memory.ctypes.data == x.unsafe_buffer_pointer()
    f = "float8_e5m2"
    found, flags = hu.mul(x, given, f, rounding="up", flags=True)
    expected, raised = hu.mul(given, given, f, rounding="up", flags=True)
    for theirs, ours in ((found, expected), (flags, raised), (hu.encode(x, f), hu.encode(given, f)),
                         (hu.functions.exp(x.T, f), hu.functions.exp(given.T, f)),
                         (hu.matmul(x, x.T), hu.matmul(given, given.T)),
                         (hu.decode(hu.encode(x, f), f), hu.decode(hu.encode(given, f), f)),
                         (hu.encode(x, f, dtype=ml_dtypes.float8_e5m2), hu.encode(given, f, dtype=ml_dtypes.float8_e5m2)),
                         (hu.total_order(x, x), hu.total_order(given, given)),
                         (hu.round(x[3, 4], f), np.asarray(hu.round(given[3, 4], f)))):  # fmt: skip
        assert isinstance(theirs, jax.Array)
        assert same(np.asarray(theirs), ours)
    assert hu.round(x, "float8_e4m3fn").devices() == x.devices()
    with pytest.raises(TypeError, match="out may not be written"):
        hu.round(given, f, out=x)
    with pytest.raises(TypeError, match="Tracer; pass a NumPy array"):
        jax.jit(lambda v: hu.round(v, f))(x)
    if dtype != "bfloat16":  # NumPy's own, which knows no bfloat16
        assert same(np.asarray(jnp.from_dlpack(hu.round(given, f))), hu.round(given, f))
    wide = hu.round(x, f, out=np.empty(x.shape, np.float64))
    assert same(wide, hu.round(given.astype(np.float64), f))


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed (350 MB)")
def test_the_page_shows_what_happens() -> None:
    text = (Path(__file__).parents[2] / "docs/arrays.md").read_text()
    example = "\n".join(re.findall(r"```pycon\n(.*?)```", text, re.S))
    test = doctest.DocTestParser().get_doctest(example, {}, "page", "arrays.md", 0)
    result = doctest.DocTestRunner().run(test)
    assert (result.failed, result.attempted) == (0, 4)


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed (350 MB)")
def test_64_bits_are_not_narrowed_by_jax() -> None:
    import jax.numpy as jnp

    x = np.array([1 + 2.0**-40])
    found = hu.add(x, jnp.float32(0), "binary64")
    assert isinstance(found, np.ndarray)
    assert found[0] == x[0]


@pytest.mark.skipif(not installed("torch"), reason="torch is not installed (gigabytes)")
@pytest.mark.parametrize("dtype", WIDE)
def test_torch(dtype: str) -> None:
    import torch

    given = numbers(dtype).reshape(8, 12)
    x = torch.from_numpy(bits(given.copy()).view(f"i{given.itemsize}")).view(getattr(torch, dtype))
    f = "float8_e5m2"

    def back(t: Any) -> Any:
        return t.contiguous().view(getattr(torch, f"int{8 * t.element_size()}")).numpy()

    assert _dlpack.bits_of(x, "x")[0].ctypes.data == x.data_ptr()
    for theirs, ours in ((hu.round(x, f), hu.round(given, f)), (hu.add(x.T, 1.0, f), hu.add(given.T, 1.0, f)),
                         (hu.encode(x, f), hu.encode(given, f))):  # fmt: skip
        assert isinstance(theirs, torch.Tensor)
        assert (
            back(theirs).view(np.uint8) == bits(np.ascontiguousarray(ours)).view(np.uint8)
        ).all()
    with pytest.raises(TypeError, match="cannot be read by DLPack"):
        hu.round(x.requires_grad_(), f)
