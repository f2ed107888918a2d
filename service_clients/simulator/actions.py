"""
simulator - actions as a task takes them

`ActionSpace` is a task's `action_space`; `normalise()` makes arrays of an action, whether it was sent as arrays or as
lists, and refuses one that the task does not take.
"""

from __future__ import annotations

import math
from operator import le
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from service_clients.simulator.backend import InvalidParams

if TYPE_CHECKING:
    import numpy.typing as npt  # which numpy 1.17 has not

    Array = npt.NDArray[Any]

__all__ = ["ActionSpace"]


_LARGEST = float(np.finfo(np.float64).max)
_SLACK = 1e-6  # of a range, for numbers that were float32 on their way: they become the limit itself
_FEW = (
    64  # so many numbers are compared faster one by one than by numpy, whose calls cost more than their work
)


class _Member:
    """What one key of an action must be."""

    def __init__(self, name: str, described: Mapping[str, Any]) -> None:
        self.name = name
        self.shape = tuple(int(size) for size in described.get("shape", ()))
        self._size = math.prod(self.shape)
        self.dtype = np.dtype(described.get("dtype", "float64"))
        if self.dtype.kind not in "biuf":
            raise ValueError(f"action_space of {name!r}: dtype {self.dtype} holds no numbers")
        self.low = self._limit(described.get("low"), -np.inf)
        self.high = self._limit(described.get("high"), np.inf)
        self.is_exact = self.dtype.kind != "f"
        span = self.high - self.low
        slack = np.where(np.isfinite(span) & (not self.is_exact), _SLACK * span, 0.0)
        self._lows, self._highs = _finite(self.low), _finite(self.high)
        self._least, self._most = self.low - slack, self.high + slack

    def _limit(self, given: Any, unlimited: float) -> Array:
        """A limit for every element; None where there is none."""
        limit = np.array(given, dtype=np.float64)  # None becomes NaN
        return np.broadcast_to(np.where(np.isnan(limit), unlimited, limit), self.shape)

    def read(self, value: Any) -> Array:
        """The array that `value` stands for, of this shape and dtype and within the limits.

        Raises:
            InvalidParams: naming the key and what is wrong.
        """
        if type(value) is np.ndarray and self._fits(value):
            return value if value.base is None and value.flags.writeable else value.copy()
        array = self._as_array(value)
        if array.shape != self.shape:
            raise self._wrong(f"has shape {list(array.shape)}, not {list(self.shape)}")
        if not ((array >= self._least) & (array <= self._most)).all() or not np.isfinite(array).all():
            raise self._out_of_range(array)
        if self.is_exact and array.dtype.kind == "f" and (array != np.floor(array)).any():
            raise self._wrong(f"has {_first(array, array != np.floor(array))}, where {self.dtype} is wanted")
        if array.dtype.kind == "f" and not self.is_exact:
            array = np.clip(array, self.low, self.high)
        return array.astype(self.dtype)

    def _fits(self, array: Array) -> bool:
        """Whether an array may be used as it is: most may, so this is to cost little."""
        if array.dtype != self.dtype or array.shape != self.shape:
            return False
        if self._size > _FEW:
            return bool(((array >= self.low) & (array <= self.high) & np.isfinite(array)).all())
        numbers = array.ravel().tolist()
        return all(map(le, self._lows, numbers)) and all(map(le, numbers, self._highs))

    def _as_array(self, value: Any) -> Array:
        try:
            array = np.asarray(value)
        except ValueError:
            raise self._wrong("is no array: its rows are not of one length") from None
        if array.dtype.kind not in "biuf":
            raise self._wrong(f"is no array of numbers but {type(value).__name__}")
        return array.reshape(self.shape) if array.size == 1 == self._size else array

    def _out_of_range(self, array: Array) -> InvalidParams:
        if not np.isfinite(array).all():
            return self._wrong(f"has {_first(array, ~np.isfinite(array))}, which is no finite number")
        outside = (array < self._least) | (array > self._most)
        index = np.unravel_index(int(outside.argmax()), outside.shape) if outside.ndim else ()
        limits = f"{self.low[index]:g} to {self.high[index]:g}"
        return self._wrong(f"has {_first(array, outside)}, outside of {limits}")

    def _wrong(self, what: str) -> InvalidParams:
        return InvalidParams(f'action "{self.name}": {what}')


def _first(array: Array, wrong: Any) -> str:
    """The first element that is wrong, and where it is."""
    flat = int(np.asarray(wrong).argmax())
    place = np.unravel_index(flat, array.shape) if array.ndim else ()
    where = f" at [{', '.join(map(str, place))}]" if place else ""
    return f"{array.reshape(-1)[flat]}{where}"


def _finite(limits: Array) -> list[float]:
    """Limits that no infinite number is within."""
    return np.clip(limits, -_LARGEST, _LARGEST).ravel().tolist()


class ActionSpace:
    """What a task takes: for each key a shape, a dtype and limits."""

    def __init__(self, described: Mapping[str, Mapping[str, Any]]) -> None:
        """Reads `action_space` as task_info has it.

        Raises:
            ValueError, TypeError: a description that is none, naming the key.
        """
        self._members = {name: _Member(name, member) for name, member in described.items()}

    def normalise(self, action: Any) -> dict[str, Array]:
        """An array for each key, the caller's own.

        Args:
            action: arrays, lists of numbers, or, where one number is wanted, a number.

        Raises:
            InvalidParams: a key that is missing or unknown; an array of another shape, with what is no number, is not
            finite or is out of range. The message names the key.
        """
        if not isinstance(action, (dict, Mapping)):
            raise InvalidParams(f"action: is {type(action).__name__}, not a map")
        if action.keys() != self._members.keys():
            raise self._other_keys(action)
        return {name: member.read(action[name]) for name, member in self._members.items()}

    def _other_keys(self, action: Mapping[Any, Any]) -> InvalidParams:
        known = list(self._members)
        wanted = f"the task takes {', '.join(known) or 'none'}"
        for name in action:
            if name not in known:
                return InvalidParams(f'action "{name}": is not known; {wanted}')
        missing = next(name for name in known if name not in action)
        return InvalidParams(f'action "{missing}": is missing; {wanted}')
