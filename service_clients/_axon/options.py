"""Python arguments as C takes them: strings, seconds, option structs."""

from __future__ import annotations

import functools
import math
import os
from typing import Any, Callable, Mapping, NamedTuple

from service_clients._axon._ffi import ffi, lib
from service_clients._axon.errors import AxonTypeError, AxonValueError
from service_clients._axon.plain import as_float, flat_numbers

__all__ = [
    "c_string",
    "explicit",
    "fill",
    "listening_port",
    "milliseconds",
    "numbers",
    "one_of",
    "strings",
    "struct_of",
]

_CHARACTERS = ffi.typeof("char[]")


def fill(struct: str, **fields: Any) -> tuple[Any, list[Any]]:
    """Makes an options struct; a field of None keeps its default.

    Returns:
        A pointer to the struct, and what must live as long as C looks at it.

    Raises:
        AxonTypeError, AxonValueError: naming the field.
    """
    layout = _layout_of(struct)
    options, keep = ffi.new(layout.pointer), []
    options.size = layout.size
    for name, value in fields.items():
        if value is None:
            continue
        convert = layout.converters[name]
        if convert is not None and not isinstance(value, ffi.CData):
            value = convert(value, name)
        keep.append(value)
        try:
            setattr(options, name, value)
        except (TypeError, OverflowError) as error:
            kind = AxonTypeError if isinstance(error, TypeError) else AxonValueError
            raise kind(f"{name} is {value!r:.80}: {error}") from None
    return options, keep


_Converter = Callable[[Any, str], Any]


class _Layout(NamedTuple):
    """An options struct: asked of cffi once, because its answers are made anew each time."""

    pointer: Any
    size: int
    converters: dict[str, _Converter | None]  # None: cffi itself takes what Python has


@functools.lru_cache(maxsize=None)
def _layout_of(struct: str) -> _Layout:
    kind = ffi.typeof(struct)
    converters = {name: _converter_to(member.type) for name, member in kind.fields}
    return _Layout(ffi.typeof(f"{struct} *"), ffi.sizeof(kind), converters)


def _converter_to(kind: Any) -> _Converter | None:
    """What makes a value one that a member of this C type takes."""
    if kind.kind == "array":
        return functools.partial(_as_numbers, count=kind.length)
    return {"enum axon_choice": _as_choice, "char *": c_string, "double *": _as_number}.get(kind.cname)


def _as_choice(value: Any, name: str) -> Any:
    if value not in (True, False):
        raise AxonTypeError(f"{name} is {value!r:.80}, not True or False")
    return lib.AXON_YES if value else lib.AXON_NO


def _as_number(value: Any, name: str) -> Any:
    return numbers([value], 1, name)


def _as_numbers(value: Any, name: str, count: int) -> list[float]:
    return _not_all_zero(list(numbers(value, count, name)), name)


def _not_all_zero(values: list[float], name: str) -> list[float]:
    """Zeros ask C for the default, which is not what the caller said."""
    if not any(values):
        raise AxonValueError(f"{name} is all zeros")
    return values


def numbers(values: Any, count: int, name: str) -> Any:
    """`count` numbers, in nested sequences or an array, as a C array of doubles; raises as flat_numbers()."""
    return ffi.new("double[]", flat_numbers(values, count, name))


def strings(texts: Any, name: str) -> tuple[Any, list[Any]]:
    """Several str as a C array of strings, and what must live as long as C looks at it."""
    if isinstance(texts, (str, bytes)) or not hasattr(texts, "__iter__"):
        raise AxonTypeError(f"{name} is {texts!r:.80}, not a list of str")
    keep = [c_string(text, f"{name}[{index}]") for index, text in enumerate(texts)]
    return ffi.new("char *[]", keep), keep


def struct_of(kind: Any, values: Any, name: str) -> Any:
    """A C struct of doubles from a mapping of its members or a sequence in their order.

    Raises:
        AxonTypeError, AxonValueError: naming the members that it must have.
    """
    members = [member for member, _ in kind.fields]
    if hasattr(values, "keys"):
        wrong = set(values.keys()) ^ set(members)
        if wrong:
            raise AxonValueError(
                f"{name}: its keys must be {', '.join(members)}, not {', '.join(map(str, values))}"
            )
        values = [values[member] for member in members]
    found = numbers(values, len(members), f"{name} ({', '.join(members)})")
    return ffi.new(ffi.getctype(kind, "*"), list(found))


def c_string(text: Any, name: str) -> Any:
    """A str or PathLike as a zero-terminated string of C."""
    if not isinstance(text, (str, os.PathLike)):
        raise AxonTypeError(f"{name} is {text!r:.80}, not a str")
    data = os.fsencode(text)
    if b"\0" in data:
        raise AxonValueError(f"{name} is {text!r:.80}, which holds a zero character")
    return ffi.new(_CHARACTERS, data)


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
    number = as_float(seconds)
    if not number > 0:
        raise AxonValueError(f"{name} is {number:g}, not a positive number of seconds")
    return math.ceil(number * 1000) if number * 1000 < lib.AXON_FOREVER else int(lib.AXON_FOREVER)


def one_of(known: Mapping[str, int], name: Any, option: str) -> int:
    """The value that goes by a name; raises AxonTypeError, AxonValueError with the names that there are."""
    if not isinstance(name, str):
        raise AxonTypeError(f"{option} is {name!r:.80}, not a str")
    if name not in known:
        raise AxonValueError(f"{option} is {name!r:.80}, not one of {', '.join(known)}")
    return known[name]


def listening_port(port: int | None) -> Any:
    """The port as C takes it, where 0 is the default."""
    if port is None:
        return None
    if isinstance(port, bool) or not hasattr(port, "__index__"):
        raise AxonTypeError(f"port is {port!r:.80}, not a whole number")
    number = port.__index__()
    if not 0 <= number < 65536:
        raise AxonValueError(f"port is {number}, not 0 to 65535")
    return number or lib.AXON_ANY_PORT
