"""Episodes as files: everything that was observed and done."""

from __future__ import annotations

import logging
import os
import time
from typing import Any, Iterator, Mapping, Sequence

import numpy as np

from service_clients._axon import AxonValueError
from service_clients.runtime.subscriber import Subscriber
from service_clients.runtime.subscribers.files import next_path

__all__ = ["Recorder"]

_LOGGER = logging.getLogger(__name__)


class Recorder(Subscriber):
    """Writes each episode to `episode_0000.npz` and so on, in a folder; files that are there are kept.

        episode = np.load("run/episode_0000.npz")
        episode["time"]                  # (steps,) float64, seconds since the first step
        episode["observation/state"]     # (steps, dim), as the environment gave it
        episode["action/actions"]        # (steps, dim)

    Names of nested maps are joined by "/", lists count from 0. What has the same shape in every step is one array. What
    changes its shape is one array per step, "observation/boxes[12]"; what is not in every step comes with the numbers of
    its steps, "observation/text@steps". Values that numpy has no plain dtype for are left out, and named in a warning.

    An episode is held in memory until it is over. When max_bytes of it are, the steps that follow are left out, with a
    warning and `truncated` in the file: a recorder does not end a run.
    """

    def __init__(
        self, folder: str | os.PathLike[str], leave_out: Sequence[str] = (), max_bytes: int = 2 << 30
    ) -> None:
        """
        Args:
            folder: made when it is not there.
            leave_out: beginnings of names that are not recorded: "observation/image".
            max_bytes: of one episode in memory.

        Raises:
            AxonValueError: max_bytes below 1; OSError: the folder cannot be made.
        """
        if max_bytes < 1:
            raise AxonValueError(f"max_bytes is {max_bytes}, not 1 or more")
        self._folder = os.fspath(folder)
        self._leave_out, self._max_bytes = tuple(leave_out), max_bytes
        os.makedirs(self._folder, exist_ok=True)
        self._truncated = False
        self._forget()

    def on_episode_start(self) -> None:
        self._forget()

    def on_step(self, observation: dict[str, Any], action: dict[str, Any]) -> None:
        if self._truncated:
            return
        step = len(self._times)
        self._times.append(time.monotonic())
        for name, value in _leaves({"observation": observation, "action": action}, ""):
            if not name.startswith(self._leave_out) or not self._leave_out:
                self._add(step, name, value)
        if self._bytes >= self._max_bytes:
            self._truncated = True
            _LOGGER.warning("recorder: %d bytes after %d steps (max_bytes); no more", self._bytes, step + 1)

    def on_episode_end(self) -> None:
        """Writes the file; an episode without a step leaves none."""
        if not self._times:
            return
        arrays = {"time": np.array(self._times) - self._times[0], "truncated": np.array(self._truncated)}
        for name, column in self._columns.items():
            arrays.update(_stacked(name, column, len(self._times)))
        path = next_path(self._folder, ".npz")
        half = f"{path}.tmp"
        with open(half, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(half, path)
        self._forget()

    def _forget(self) -> None:
        self._times: list[float] = []
        self._columns: dict[str, dict[int, np.ndarray[Any, Any]]] = {}
        self._refused: set[str] = set()
        self._bytes, self._truncated = 0, False

    def _add(self, step: int, name: str, value: Any) -> None:
        array = np.array(value)  # a copy: environments use their memory again
        if array.dtype.kind not in "biufcSUmM":
            if name not in self._refused:
                self._refused.add(name)
                _LOGGER.warning("recorder: %s is left out: %s", name, type(value).__name__)
            return
        self._columns.setdefault(name, {})[step] = array
        self._bytes += array.nbytes


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _leaves(child, f"{name}/{key}" if name else str(key))
    elif isinstance(value, (list, tuple)) and any(
        isinstance(child, (Mapping, list, tuple)) for child in value
    ):
        for index, child in enumerate(value):
            yield from _leaves(child, f"{name}/{index}")
    else:
        yield name, value


def _stacked(
    name: str, column: dict[int, np.ndarray[Any, Any]], steps: int
) -> dict[str, np.ndarray[Any, Any]]:
    """What a name had in the steps, as arrays under names of the file."""
    arrays = list(column.values())
    if len({(array.shape, array.dtype.kind) for array in arrays}) > 1:
        return {f"{name}[{step}]": array for step, array in column.items()}
    found = {name: np.stack(arrays)}
    if len(column) < steps:
        found[f"{name}@steps"] = np.array(list(column))
    return found
