"""Between a simulator's keys and a policy's: which numbers go where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Sequence

import numpy as np

from service_clients._axon.image_tools import resize_with_pad

if TYPE_CHECKING:
    import numpy.typing as npt  # which numpy 1.17 has not

__all__ = ["Actions", "MappingError", "Observations", "parse_actions", "parse_observations", "parse_size"]


class MappingError(ValueError):
    """Keys or shapes that do not fit each other."""


class Observations:
    """Makes of a simulator's observation what the policy is sent."""

    def __init__(
        self,
        keys: Mapping[str, Sequence[str]],
        prompt_key: str,
        prompt: str,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        """Prepares it.

        Args:
            keys: for each key of the policy's the simulator's, whose arrays are laid end to end where there are several;
                none: all of the simulator's, under their own names.
            prompt_key: where the prompt goes; "": nowhere.
            prompt: what it is.
            image_size: (height, width) that pictures, uint8 (h, w, 3), are brought to, padded with black; None: as they
                are.
        """
        self._image_size = image_size
        self._keys = {key: list(sources) for key, sources in keys.items()}
        self._prompt = {prompt_key: prompt} if prompt_key else {}

    def __call__(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Raises MappingError for a key that the simulator does not have."""
        if not self._keys:
            made = {key: self._resize(value) for key, value in observation.items()}
            return {**made, **self._prompt}
        made = {}
        for key, sources in self._keys.items():
            for source in sources:
                if source not in observation:
                    there = ", ".join(map(str, observation))
                    raise MappingError(f"observation: the simulator has no {source!r}; it has {there}")
            values = [observation[source] for source in sources]
            alone = len(values) == 1
            made[key] = (
                self._resize(values[0]) if alone else np.concatenate([np.ravel(value) for value in values])
            )
        return {**made, **self._prompt}

    def _resize(self, value: Any) -> Any:
        if self._image_size is None or not isinstance(value, np.ndarray) or value.dtype != np.uint8:
            return value
        if value.ndim != 3 or value.shape[2] != 3 or value.shape[:2] == self._image_size:
            return value
        return resize_with_pad(value, *self._image_size)


class _Part(NamedTuple):
    """What one key of an action takes, and from where in a row of the chunk."""

    key: str
    columns: slice
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


class Actions:
    """Makes of a policy's reply the actions that the simulator takes, one after another."""

    def __init__(
        self,
        space: Mapping[str, Mapping[str, Any]],
        reply_key: str = "actions",
        columns: Mapping[str, slice] | None = None,
        steps: int | None = None,
    ) -> None:
        """Prepares it.

        Args:
            space: the task's action_space. Numbers outside of its limits count as the nearest within.
            reply_key: what of the reply is the chunk: an array (steps, numbers), or a map of arrays (steps, ...).
            columns: which numbers of a row go to which key of the action; without, one key after another in the
                order of `space`.
            steps: how many rows of a chunk are carried out before the policy is asked again; None: all.
        """
        self._reply_key, self._steps = reply_key, steps
        for key in columns or {}:
            if key not in space:
                raise MappingError(f"--action: the task's action has no {key!r}; it has {', '.join(space)}")
        self._parts, at = [], 0
        for key, entry in space.items():
            shape = tuple(int(size) for size in entry.get("shape", ()))
            width = int(np.prod(shape, dtype=np.int64))
            place = (columns or {}).get(key, slice(at, at + width))
            limits = _limit(entry.get("low"), -np.inf), _limit(entry.get("high"), np.inf)
            self._parts.append(_Part(key, place, shape, np.dtype(str(entry["dtype"])), *limits))
            at += width
        self._width = at if not columns else None

    def __call__(self, reply: Mapping[str, Any]) -> list[dict[str, npt.NDArray[Any]]]:
        """Raises MappingError for a reply that does not fit."""
        if self._reply_key not in reply:
            there = ", ".join(map(str, reply))
            raise MappingError(f"reply: the policy answered no {self._reply_key!r}; it answered {there}")
        chunk = reply[self._reply_key]
        if isinstance(chunk, Mapping):
            return self._from_map(chunk)
        rows = _rows(chunk, self._reply_key, len(self._parts) == 1)[: self._steps]
        if self._width is not None and rows.shape[1] != self._width:
            takes = " + ".join(f"{part.key} {list(part.shape)}" for part in self._parts)
            raise MappingError(
                f"reply: {self._reply_key!r} has {rows.shape[1]} numbers a step, the action takes {self._width} "
                f"({takes}); say which go where (--action KEY=FIRST:END)"
            )
        return [{part.key: _fit(part, row[part.columns]) for part in self._parts} for row in rows]

    def _from_map(self, chunk: Mapping[str, Any]) -> list[dict[str, npt.NDArray[Any]]]:
        missing = [part.key for part in self._parts if part.key not in chunk]
        if missing:
            raise MappingError(
                f"reply: {self._reply_key!r} has no {missing[0]!r}; it has {', '.join(map(str, chunk))}"
            )
        columns = {part.key: np.asarray(chunk[part.key]) for part in self._parts}
        length = min((len(column) if column.ndim else 0) for column in columns.values())
        if not length:
            raise MappingError(f"reply: {self._reply_key!r} has no steps in it")
        return [
            {part.key: _fit(part, np.ravel(columns[part.key][step])) for part in self._parts}
            for step in range(length)[: self._steps]
        ]


def parse_observations(options: Sequence[str]) -> dict[str, list[str]]:
    """POLICY_KEY=SIMULATOR_KEY[+SIMULATOR_KEY...], as keys. Raises MappingError."""
    keys = {}
    for option in options:
        key, equals, sources = option.partition("=")
        if not key or not equals or not all(sources.split("+")):
            raise MappingError(f"--observation {option!r}: not POLICY_KEY=SIMULATOR_KEY[+SIMULATOR_KEY...]")
        keys[key] = sources.split("+")
    return keys


def parse_size(option: str) -> tuple[int, int]:
    """HEIGHTxWIDTH as (height, width). Raises MappingError."""
    height, _, width = option.partition("x")
    if not (height.isdecimal() and width.isdecimal() and 0 < int(height) <= 8192 and 0 < int(width) <= 8192):
        raise MappingError(f"--resize {option!r}: not HEIGHTxWIDTH in pixels, each 1 to 8192")
    return int(height), int(width)


def parse_actions(options: Sequence[str]) -> dict[str, slice]:
    """SIMULATOR_KEY=FIRST:END or SIMULATOR_KEY=COLUMN, as slices. Raises MappingError."""
    columns = {}
    for option in options:
        key, equals, place = option.partition("=")
        first, colon, end = place.partition(":")
        try:
            start = int(first)
            columns[key] = slice(start, int(end) if colon else start + 1)
        except ValueError:
            equals = ""
        if not key or not equals:
            raise MappingError(f"--action {option!r}: not SIMULATOR_KEY=FIRST:END or SIMULATOR_KEY=COLUMN")
    return columns


def _rows(chunk: Any, key: str, is_single: bool) -> npt.NDArray[Any]:
    """A chunk as (steps, numbers), not empty."""
    rows = np.asarray(chunk)
    if rows.dtype.kind not in "biuf":
        raise MappingError(f"reply: {key!r} holds no numbers but {rows.dtype}")
    if rows.ndim == 0 and is_single:
        rows = rows[None]
    if rows.ndim == 1:
        rows = rows[None, :]
    if rows.ndim != 2 or 0 in rows.shape:
        raise MappingError(f"reply: {key!r} has shape {rows.shape}, not (steps, numbers)")
    return rows


def _limit(limit: Any, none: float) -> npt.NDArray[np.float64]:
    """A limit as an array; None, there or in it, is no limit."""
    numbers = np.array(limit, dtype=object)
    numbers[np.array(numbers == np.array(None))] = none
    return numbers.astype(np.float64)


def _fit(part: _Part, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A row's numbers in the action's shape and dtype, within its limits."""
    wanted = int(np.prod(part.shape, dtype=np.int64))
    if numbers.size != wanted:
        raise MappingError(f"reply: {numbers.size} numbers for {part.key!r}, which takes {wanted}")
    fitted = numbers.reshape(part.shape).astype(np.float64)
    if not np.isfinite(fitted).all():
        raise MappingError(f"reply: the numbers for {part.key!r} are not finite")
    fitted = np.minimum(np.maximum(fitted, part.low), part.high)
    if part.dtype.kind in "biu":
        fitted = np.rint(fitted)
    return np.asarray(fitted, part.dtype)
