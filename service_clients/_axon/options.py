"""Python arguments as C takes them: strings, seconds, option structs."""

from __future__ import annotations

import math
import os
from typing import Any

from service_clients._axon._ffi import ffi, lib
from service_clients._axon.errors import AxonTypeError, AxonValueError

__all__ = ["c_string", "explicit", "fill", "milliseconds"]


def fill(struct: str, **fields: Any) -> tuple[Any, list[Any]]:
    """Makes an options struct; a field of None keeps its default.

    Returns:
        A pointer to the struct, and what must live as long as C looks at it.

    Raises:
        AxonTypeError, AxonValueError: naming the field.
    """
    options, keep = ffi.new(f"{struct} *"), []
    options.size = ffi.sizeof(struct)
    kinds = dict(ffi.typeof(struct).fields)
    for name, value in fields.items():
        if value is None:
            continue
        if kinds[name].type.kind == "pointer":
            value = c_string(value, name)
            keep.append(value)
        try:
            setattr(options, name, value)
        except (TypeError, OverflowError) as error:
            kind = AxonTypeError if isinstance(error, TypeError) else AxonValueError
            raise kind(f"{name} is {value!r:.80}: {error}") from None
    return options, keep


def c_string(text: Any, name: str) -> Any:
    """A str or PathLike as a zero-terminated string of C."""
    if not isinstance(text, (str, os.PathLike)):
        raise AxonTypeError(f"{name} is {text!r:.80}, not a str")
    data = os.fsencode(text)
    if b"\0" in data:
        raise AxonValueError(f"{name} is {text!r:.80}, which holds a zero character")
    return ffi.new("char[]", data)


def explicit(number: float, name: str) -> float:
    """A number of 0 or more as C takes it where its zero means the default: there a negative one means zero."""
    try:
        value = float(number)
    except (TypeError, ValueError):
        raise AxonTypeError(f"{name} is {number!r:.80}, not a number") from None
    if value < 0:
        raise AxonValueError(f"{name} is {value:g}, less than 0")
    return value or -1.0


def milliseconds(seconds: float | None, name: str) -> int:
    """Seconds as C counts them: None is 0, which means the default there; infinity is AXON_FOREVER.

    Raises:
        AxonTypeError: no number; AxonValueError: no positive one.
    """
    if seconds is None:
        return 0
    if isinstance(seconds, (bool, str, bytes, complex)) or not hasattr(seconds, "__float__"):
        raise AxonTypeError(f"{name} is {seconds!r:.80}, not a number of seconds")
    number = float(seconds)
    if not number > 0:
        raise AxonValueError(f"{name} is {number:g}, not a positive number of seconds")
    return math.ceil(number * 1000) if number * 1000 < lib.AXON_FOREVER else int(lib.AXON_FOREVER)
