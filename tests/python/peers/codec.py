"""The openpi wire's messages in Python: msgpack with numpy arrays, read with the care that strangers need.

It is written apart from axon's in C, so that the two check each other.
"""

from __future__ import annotations

import math
from typing import Any, Mapping

import msgpack  # type: ignore[import-untyped]
import numpy as np

KINDS = "biufUS"  # bool, integers, floats, fixed-width text and bytes


def pack(message: Mapping[Any, Any]) -> bytes:
    """Encodes one message. Raises TypeError for what the wire has no form for."""
    return bytes(msgpack.packb(message, default=_mark))


def unpack(data: bytes) -> Any:
    """Decodes one message; arrays come back as read-only views into ``data``. Raises ValueError."""
    return msgpack.unpackb(data, object_hook=_unmark, strict_map_key=False)


def _mark(value: Any) -> dict[bytes, Any]:
    if not isinstance(value, (np.ndarray, np.generic)) or value.dtype.kind not in KINDS:
        what = f"dtype {value.dtype}" if hasattr(value, "dtype") else type(value).__name__
        raise TypeError(f"{what} cannot travel")
    if isinstance(value, np.ndarray):
        data: dict[bytes, Any] = {b"__ndarray__": True, b"data": value.tobytes()}
        return {**data, b"dtype": value.dtype.str, b"shape": list(value.shape)}
    return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}


def _unmark(fields: dict[Any, Any]) -> Any:
    if b"__ndarray__" in fields:
        return _array(fields)
    if b"__npgeneric__" in fields:
        return _dtype(fields).type(fields.get(b"data"))
    return fields


def _array(fields: dict[Any, Any]) -> np.ndarray[Any, Any]:
    data, shape, dtype = fields.get(b"data"), fields.get(b"shape"), _dtype(fields)
    if not isinstance(data, bytes):
        raise ValueError(f"ndarray: data is {type(data).__name__}, not bytes")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"ndarray: shape {shape!r} is not a list of sizes")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"ndarray: shape {shape} of {dtype} does not take {len(data)} bytes")
    return np.ndarray(shape, dtype, data)


def _dtype(fields: dict[Any, Any]) -> np.dtype[Any]:
    name = fields.get(b"dtype")
    try:
        dtype = np.dtype(name) if isinstance(name, str) else None
    except TypeError:
        dtype = None
    if dtype is None or dtype.kind not in KINDS:
        raise ValueError(f"dtype {name!r} is not one that travels")
    return dtype
