"""Calls a Python callable on cases of a suite, here or in a process of its own, and looks at what
it returns. Nothing is judged here.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Kernel = Callable[..., Any]
Made = dict[str, Any]  # of the engine's make: inputs, attributes, outputs

LIBRARIES = ("numpy", "torch", "cupy", "jax")
DTYPES = ("native", "float32", "codes")
_PLAIN = ("float32", "float64", "float16", "int8", "uint8", "int32", "int64")  # NumPy has them
_LONGEST = 500  # characters of what a kernel says
_START = 60.0  # seconds that a process may take to start, beyond the limit for its first case


class RefusedError(Exception):
    """What a kernel did or returned is a fault; the sentence says which."""


@dataclass(frozen=True)
class Answer:
    """What came of one call: `outputs` (bytes by name) or the outcome and reason without them."""

    outputs: dict[str, bytes] | None
    outcome: str = ""  # fail or unsupported, if there are no outputs
    reason: str = ""
    seconds: float = 0.0


def numpy_dtype(element: str) -> np.dtype[Any]:
    """NumPy's dtype of an element type, or that of ml_dtypes."""
    if element in _PLAIN:
        return np.dtype(element)
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            f"{element} is a dtype of ml_dtypes, which is not installed; pip install ml_dtypes, "
            "or take the bits with dtypes='codes'"
        ) from None
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, element))
    return dtype


def code_dtype(element: str) -> np.dtype[Any]:
    """Unsigned integers as wide as the element type."""
    return np.dtype({"bfloat16": "u2"}.get(element, "u1") if element not in _PLAIN else element)


def host_array(element: str, shape: tuple[int, ...], data: bytes, *, codes: bool) -> NDArray[Any]:
    """A read-only array of those bytes."""
    dtype = code_dtype(element) if codes else numpy_dtype(element)
    if not data:  # np.frombuffer refuses none
        array = np.empty(shape, dtype)
        array.flags.writeable = False
        return array
    return np.frombuffer(data, dtype).reshape(shape)


def _narrow(element: str) -> bool:
    return element not in _PLAIN or element == "float16"


@dataclass(frozen=True)
class Arrays:
    """Which arrays a callable gets, and must return.

    library: one of LIBRARIES. dtypes: native (those of the elements), float32 (floats of 16 bits
    and less widened; outputs of float32 are then rounded to nearest even), codes (bits of dtypes
    that NumPy lacks, as unsigned integers).
    """

    library: str = "numpy"
    dtypes: str = "native"
    device: str | None = None

    def __post_init__(self) -> None:
        if self.library not in LIBRARIES:
            raise ValueError(f"arrays is {self.library!r}, but must be {', '.join(LIBRARIES)}")
        if self.dtypes not in DTYPES:
            raise ValueError(f"dtypes is {self.dtypes!r}, but must be {', '.join(DTYPES)}")
        if not isinstance(self.device, str | None):
            raise TypeError(f"device is {self.device!r}, but must be text such as 'cuda:0'")
        if self.library == "numpy" and self.device not in (None, "cpu"):
            raise ValueError(
                f"device is {self.device!r}, but NumPy's arrays are in the memory of the host; "
                "choose arrays='torch', 'cupy' or 'jax'"
            )

    @property
    def on_host(self) -> bool:
        if self.library == "torch":
            return str(self.device or "cpu").startswith("cpu")
        return self.library == "numpy"

    def module(self) -> Any:
        import importlib

        name = "jax.numpy" if self.library == "jax" else self.library
        try:
            return importlib.import_module(name)
        except ImportError:
            raise ImportError(
                f"arrays='{self.library}', but {self.library} is not installed"
            ) from None

    def make(self, element: str, shape: tuple[int, ...], data: bytes) -> Any:
        """The array of an input."""
        codes = self.dtypes == "codes"
        if self.library == "torch":
            return self._torch(element, shape, data)
        array = host_array(element, shape, data, codes=codes)
        if self.dtypes == "float32" and _narrow(element):
            array = array.astype(np.float32)
            array.flags.writeable = False
        if self.library == "numpy":
            return array
        module = self.module()
        if self.library == "jax":
            import jax

            if element == "float64" and not jax.config.jax_enable_x64:
                raise ValueError("JAX makes float32 of float64; set jax_enable_x64 first")
            where = jax.devices(self.device)[0] if self.device else None
            return jax.device_put(module.asarray(array), where)
        with module.cuda.Device(int(str(self.device or "0").rpartition(":")[2])):
            try:
                return module.asarray(array)
            except (TypeError, ValueError):
                raise TypeError(
                    f"CuPy has no {element}; take its bits with dtypes='codes'"
                ) from None

    def _torch(self, element: str, shape: tuple[int, ...], data: bytes) -> Any:
        torch = self.module()
        array = host_array(element, shape, data, codes=True).copy()
        if array.dtype == np.uint16:
            array = array.view(np.int16)  # older torch has no uint16
        t = torch.from_numpy(array)
        if self.dtypes != "codes" and element not in (*_PLAIN, "float4_e2m1fn"):
            dtype = getattr(torch, element, None)
            if dtype is None:
                raise ValueError(f"torch {torch.__version__} has no {element}; use dtypes='codes'")
            t = t.view(dtype)
        t = t.to(self.device or "cpu")
        return t.to(torch.float32) if self.dtypes == "float32" and _narrow(element) else t

    def wait(self) -> None:
        """Until the device has done what was queued."""
        if self.on_host:
            return
        module = self.module()
        if self.library == "torch" and module.cuda.is_available():
            module.cuda.synchronize(self.device)
        elif self.library == "cupy":
            module.cuda.get_current_stream().synchronize()

    def bytes_of(self, array: Any) -> bytes:
        """The bytes of an array that `make` made."""
        if self.library == "torch":
            torch = self.module()
            if array.numel() == 0:
                return b""
            # A copy even where it counts as contiguous: an extent of 1 may have any stride.
            flat = torch.empty(array.numel(), dtype=array.dtype, device=array.device)
            flat.copy_(array.reshape(-1))
            return bytes(flat.view(torch.uint8).cpu().numpy().tobytes())
        host = self.module().asnumpy(array) if self.library == "cupy" else np.asarray(array)
        return host.tobytes()

    def take(self, name: str, element: str, shape: tuple[int, ...], y: Any) -> bytes:
        """The bytes of the output `name`. Raises RefusedError for what is no such array."""
        kind = {
            "numpy": lambda: isinstance(y, np.ndarray | np.generic),
            "torch": lambda: isinstance(y, self.module().Tensor),
            "cupy": lambda: isinstance(y, self.module().ndarray),
            "jax": lambda: isinstance(y, sys.modules["jax"].Array),
        }
        if not kind[self.library]():
            raise RefusedError(
                f"{name} is of type {_type(y)}; it must be an array of "
                f"{'NumPy' if self.library == 'numpy' else self.library}"
            )
        if isinstance(y, np.ma.MaskedArray):
            raise RefusedError(f"{name} is a masked array; return a plain one")
        if tuple(y.shape) != shape:
            raise RefusedError(f"{name} has shape {tuple(y.shape)}, but must have {shape}")
        if self.library == "torch":
            wanted = str(self.device or "cpu").partition(":")[0]
            if y.device.type != wanted:
                raise RefusedError(f"{name} is on {y.device}, but its inputs were on {wanted}")
            y = y.detach()
        got = str(y.dtype).rpartition(".")[2]
        if self.library == "numpy" and not y.dtype.isnative:
            got = y.dtype.str
        allowed = self._dtypes_of(element)
        if got not in allowed:
            raise RefusedError(f"{name} has dtype {got}, but must have {' or '.join(allowed)}")
        if self.library == "numpy" and not y.flags.writeable and isinstance(y, np.ndarray):
            raise RefusedError(
                f"{name} is read-only, as a view of an input or of np.broadcast_to is; "
                "return an array of its own"
            )
        data = self.bytes_of(y)
        if got == "float32" != element:
            return rounded(np.frombuffer(data, np.float32), element)
        return data

    def _dtypes_of(self, element: str) -> list[str]:
        bits = code_dtype(element).name
        if self.library == "torch" and bits == "uint16":
            bits = "int16"
        if self.dtypes == "codes" or (self.library == "torch" and element == "float4_e2m1fn"):
            return [bits]
        return [element, "float32"] if self.dtypes == "float32" and _narrow(element) else [element]


def rounded(values: NDArray[Any], element: str) -> bytes:
    """Codes of a float type, rounded to nearest even with IEEE 754's overflow."""
    from halfulp._elementwise import encode

    name = {"float16": "binary16", "float32": "binary32"}.get(element, element)
    codes: NDArray[Any] = np.asarray(encode(values, name, nan_to="largest"))
    return codes.tobytes()


def _type(x: Any) -> str:
    kind = type(x)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def outputs_of(
    result: Any, wanted: Mapping[str, tuple[str, list[int]]], arrays: Arrays
) -> dict[str, bytes]:
    """The bytes of each output. Raises RefusedError with a sentence for whatever is no result."""
    names = list(wanted)
    if result is None:
        raise RefusedError(f"returned None; it must return {_described(wanted)}")
    if isinstance(result, Mapping):
        if set(result) != set(names):
            raise RefusedError(
                f"returned a dict of {', '.join(map(str, result)) or 'nothing'}; "
                f"the outputs are {', '.join(names)}"
            )
        parts = [result[name] for name in names]
    elif isinstance(result, tuple) or (isinstance(result, list) and len(names) > 1):
        parts = list(result)
    else:
        parts = [result]
    if len(parts) != len(names):
        raise RefusedError(f"returned {len(parts)} outputs; it must return {_described(wanted)}")
    return {
        name: arrays.take(name, element, tuple(shape), part)
        for (name, (element, shape)), part in zip(wanted.items(), parts, strict=True)
    }


def _described(wanted: Mapping[str, tuple[str, list[int]]]) -> str:
    return ", ".join(f"{n} ({e}, shape {tuple(s)})" for n, (e, s) in wanted.items())


def _sentence(error: BaseException) -> str:
    """One line that any file and terminal can take."""
    text = " ".join(str(error).split())
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 2] + " …"
    return f"raised {type(error).__name__}" + (f": {text}" if text else "")


def call(kernel: Kernel, made: Made, arrays: Arrays) -> Answer:
    """One call in this process; whatever the kernel raises becomes a sentence."""
    try:
        inputs = {n: arrays.make(e, tuple(s), b) for n, (e, s, b) in made["inputs"].items()}
        # What it got, as arrays: widened ones have other bytes than the case.
        none = arrays.library == "jax"
        watched = {} if none else {n: arrays.bytes_of(x) for n, x in inputs.items()}
        arrays.wait()
    except Exception as error:
        if arrays.on_host:
            raise
        # As after an illegal access: every later call of CUDA fails too.
        return Answer(None, "fail", f"after earlier cases its device {_sentence(error)}")
    started = time.perf_counter()

    def failed(reason: str, outcome: str = "fail") -> Answer:
        return Answer(None, outcome, reason, time.perf_counter() - started)

    try:
        # What it prints is no record.
        with contextlib.redirect_stdout(sys.stderr):
            result = kernel(*inputs.values(), **made["attributes"])
        arrays.wait()
    except NotImplementedError as error:
        return failed(_sentence(error), "unsupported")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit: a kernel may not end the run
        return failed(_sentence(error))
    seconds = time.perf_counter() - started
    try:
        outputs = outputs_of(result, made["outputs"], arrays)
    except RefusedError as error:
        return Answer(None, "fail", str(error), seconds)
    except Exception as error:  # such as a device's error, which comes when the result is read
        return Answer(None, "fail", f"the result cannot be read: it {_sentence(error)}", seconds)
    for name, before in watched.items():
        if arrays.bytes_of(inputs[name]) != before:
            return Answer(None, "fail", f"wrote to its input {name}", seconds)
    return Answer(outputs, seconds=seconds)


class Here:
    """Calls in this process: no time limit, and a crash ends the run."""

    def __init__(self, kernel: Kernel, arrays: Arrays, seconds: float) -> None:
        self._kernel, self._arrays = kernel, arrays

    def __call__(self, made: Made) -> Answer:
        return call(self._kernel, made, self._arrays)

    def close(self) -> None:
        pass


class Apart:
    """Calls in a forked process, which is replaced when it dies or takes more than `seconds`."""

    def __init__(self, kernel: Kernel, arrays: Arrays, seconds: float) -> None:
        self._kernel, self._arrays, self._seconds = kernel, arrays, seconds
        self._pid = 0
        self._pipe: Connection | None = None

    def __call__(self, made: Made) -> Answer:
        if self._pipe is None:
            self._start()
        assert self._pipe is not None
        started = time.perf_counter()
        try:
            self._pipe.send(made)
            if not self._pipe.poll(self._seconds):
                self.close()
                return Answer(
                    None, "fail", f"ran past {self._seconds:g} s", time.perf_counter() - started
                )
            answer: Answer | Exception = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return Answer(None, "fail", self._last_words(), time.perf_counter() - started)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _start(self) -> None:
        from multiprocessing.connection import Pipe

        ours, theirs = Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():  # Python 3.12 on: of threads, such as those of a BLAS
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                self._serve(theirs)
            finally:
                os._exit(0)  # no handlers of the parent's, no buffers written twice
        theirs.close()
        self._pid, self._pipe = pid, ours
        with contextlib.suppress(
            EOFError
        ):  # it says when it is ready; death shows at the first call
            if ours.poll(_START):
                ours.recv()

    def _serve(self, pipe: Connection) -> None:
        os.setsid()  # so that all it starts can be ended with it
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        os.dup2(2, 1)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
        pipe.send("ready")
        while True:
            try:
                made = pipe.recv()
            except EOFError:
                return
            # Should the parent be gone, nobody else would end a kernel that hangs.
            signal.alarm(int(self._seconds) + 30)
            try:
                answer: Answer | Exception = call(self._kernel, made, self._arrays)
            except Exception as error:  # ours, not the kernel's
                answer = error
            signal.alarm(0)
            pipe.send(answer)

    def _last_words(self) -> str:
        _, status = os.waitpid(self._pid, 0)
        self._forget()
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return f"ended its process with exit code {code}"
        try:
            name = f" ({signal.Signals(-code).name})"
        except ValueError:
            name = ""
        return f"died by signal {-code}{name}"

    def _forget(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        self._pipe, self._pid = None, 0

    def close(self) -> None:
        """Ends the process and all that it has started."""
        if self._pipe is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)  # had it no group of its own yet
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        self._forget()
