"""Writes TOML (Python reads it, but does not write it): for sweeps that are given as a dict."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from .errors import SweepError

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(tree: Mapping[str, Any]) -> str:
    """TOML text of a tree of str, bool, int, float, list and dict; `tomllib.loads` reads it back.

    Raises SweepError for a value of another type.
    """
    return "".join(f"{_key(key)} = {_value(value, str(key))}\n" for key, value in tree.items())


def _key(key: Any) -> str:
    text = str(key)
    return text if _BARE.fullmatch(text) else _string(text)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any, path: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v, f"{path}[{i}]") for i, v in enumerate(value)) + "]"
    if isinstance(value, Mapping):
        items = (f"{_key(k)} = {_value(v, f'{path}.{k}')}" for k, v in value.items())
        return "{ " + ", ".join(items) + " }" if value else "{}"
    raise SweepError(
        f"{path} is {value!r} of type {type(value).__name__}; a sweep holds text, numbers, true or "
        "false, lists and tables"
    )
