"""Where a run of a callable took place, beside what every run says of itself: libraries with their
versions, device and driver; which kernel it is."""

from __future__ import annotations

import inspect
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from halfulp._conform_call import Arrays


def _driver() -> str:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return found[1] if found else ""


def of_arrays(arrays: Arrays) -> dict[str, str]:
    """device, driver and libraries/NAME for a callable that gets such arrays."""
    libraries = {"python": platform.python_version(), "numpy": np.__version__}
    device = "cpu"
    if arrays.library != "numpy":
        module = arrays.module()
        libraries[arrays.library] = str(sys.modules[arrays.library].__version__)
        if arrays.library == "torch" and not arrays.on_host:
            device = str(module.cuda.get_device_name(arrays.device))
            libraries["cuda"] = str(module.version.cuda)
        elif arrays.library == "cupy":
            number = int(str(arrays.device or "0").rpartition(":")[2])
            device = module.cuda.runtime.getDeviceProperties(number)["name"].decode()
            libraries["cuda"] = str(module.cuda.runtime.runtimeGetVersion())
        elif arrays.library == "jax":
            import jax

            first = (jax.devices(arrays.device) if arrays.device else jax.devices())[0]
            device = str(first.device_kind)  # "NVIDIA H200"; "cpu"
    for name in ("scipy", "ml_dtypes", "jaxlib"):
        if name in sys.modules:
            libraries[name] = str(sys.modules[name].__version__)
    return {
        "device": device,
        "driver": "" if arrays.on_host else _driver(),
        **{f"libraries/{name}": version for name, version in libraries.items()},
    }


def version_of(kernel: Callable[..., Any]) -> str:
    """__version__ of the module or package that the callable is of."""
    module = str(getattr(kernel, "__module__", "") or "")
    for name in (module, module.partition(".")[0]):
        found = getattr(sys.modules.get(name), "__version__", None)
        if found is not None:
            return str(found)
    return ""


def source_of(kernel: Callable[..., Any]) -> str:
    """The file that the callable was defined in, if it was in one."""
    try:
        return inspect.getsourcefile(inspect.unwrap(kernel)) or ""
    except TypeError:
        return ""
