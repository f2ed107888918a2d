"""What needs no native core: where a service is, numbers and arrays as people give them."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from service_clients._axon.errors import AxonTypeError, AxonValueError

if TYPE_CHECKING:
    import numpy

__all__ = ["as_float", "configured_host", "flat_numbers", "given", "stack"]


def given(number: Any, name: str) -> Any:
    """A number that is not 0, which C would take for the default."""
    if number is not None and not isinstance(number, (str, bytes)) and number == 0:
        raise AxonValueError(f"{name} is 0")
    return number


def as_float(number: Any) -> float:
    """A number as a float: an int that is too large for one is infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def flat_numbers(values: Any, count: int, name: str) -> list[float]:
    """`count` numbers, in nested sequences or an array.

    Raises:
        AxonTypeError: what is no number; AxonValueError: more or fewer of them.
    """
    found: list[float] = []
    _flatten(values, found, count, name)
    if len(found) != count:
        raise AxonValueError(f"{name} has {len(found)} numbers, not {count}")
    return found


def _flatten(values: Any, found: list[float], count: int, name: str) -> None:
    if len(found) > count:
        return
    if isinstance(values, (str, bytes)) or not (hasattr(values, "__iter__") or hasattr(values, "__float__")):
        raise AxonTypeError(f"{name} holds {values!r:.80}, not a number")
    if hasattr(values, "__iter__") and getattr(values, "ndim", 1) != 0:
        for value in values:
            _flatten(value, found, count, name)
    else:
        found.append(float(values))


def stack(items: Sequence[Mapping[str, Any]], member: str, shape: tuple[int, ...]) -> numpy.ndarray[Any, Any]:
    """One member of each item as one float64 array (N, *shape); (0, *shape) of no items.

    Raises:
        AxonValueError: an item whose member is not of that shape, naming it.
    """
    try:
        import numpy
    except ImportError as error:
        raise ImportError(f"an array needs numpy, which cannot be imported: {error}") from error
    result = numpy.empty((len(items), *shape))
    for index, item in enumerate(items):
        try:
            result[index] = numpy.reshape(numpy.asarray(item[member], dtype=float), shape)
        except (KeyError, TypeError, ValueError) as error:
            raise AxonValueError(f"item {index}: {member} is no array {shape}: {error}") from None
    return result


def configured_host(service: str, client_file: str) -> str | None:
    """The host that the environment names for a service, else the service.json beside its client; None without."""
    host = os.environ.get(f"AXON_HOST_{service.upper()}")
    return host or _host_beside(os.path.join(os.path.dirname(client_file), "service.json"))


def _host_beside(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            entry = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise AxonValueError(f"{path}: {error}") from None
    host = entry.get("host") if isinstance(entry, dict) else None
    if host is not None and not isinstance(host, str):
        raise AxonTypeError(f"{path}: host is {host!r:.80}, not a str")
    return host
