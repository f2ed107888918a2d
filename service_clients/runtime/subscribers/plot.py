"""Pictures of episodes: the actions over time, and where chunks began or came late."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from service_clients._axon import AxonError
from service_clients.runtime.subscriber import Subscriber
from service_clients.runtime.subscribers.chunks import chunk_counters
from service_clients.runtime.subscribers.files import next_path

if TYPE_CHECKING:
    from service_clients.runtime.runtime import Runtime

__all__ = ["Plot"]

_MAX_PANELS = 8
_MAX_LEGEND = 10


class Plot(Subscriber):
    """Draws each episode to `episode_0000.png` and so on, in a folder; files that are there are kept.

    One panel for each array of the actions, one line for each of its numbers. When the agent is a PolicyAgent over a
    ChunkEngine, a grey line stands where a chunk began, a red one where a chunk came late, and an orange
    band where nothing was left.
    """

    def __init__(self, folder: str | os.PathLike[str], size: tuple[float, float] = (12.0, 3.0)) -> None:
        """
        Args:
            folder: made when it is not there.
            size: (width, height) of a panel, in inches of 100 pixels.

        Raises:
            AxonError: matplotlib is not installed; OSError: the folder cannot be made.
        """
        try:
            import matplotlib.figure  # noqa: F401
        except ImportError as missing:
            raise AxonError(f"Plot draws with matplotlib ({missing}): pip install matplotlib") from missing
        self._folder, self._size = os.fspath(folder), size
        os.makedirs(self._folder, exist_ok=True)
        self._source: Any = None
        self._forget()

    def on_run_start(self, runtime: Runtime) -> None:
        self._source = chunk_counters(runtime)

    def on_episode_start(self) -> None:
        self._forget()
        self._counted = self._count()

    def on_step(self, observation: dict[str, Any], action: dict[str, Any]) -> None:
        now = time.monotonic()
        self._times.append(now)
        for name, value in _vectors(action, ""):
            self._lines.setdefault(name, []).append((now, value))
        counted = self._count()
        for name, before, after in zip(self._marks, self._counted, counted):
            if after > before:
                self._marks[name].append(len(self._times) - 1)
        self._counted = counted

    def on_episode_end(self) -> None:
        """Draws; an episode without a step leaves no file."""
        if not self._times:
            return
        from matplotlib.figure import Figure

        names = list(self._lines)[:_MAX_PANELS]
        width, height = self._size
        figure = Figure(figsize=(width, height * max(1, len(names)) + 0.5), dpi=100, layout="constrained")
        panels = figure.subplots(max(1, len(names)), 1, sharex=True, squeeze=False)[:, 0]
        for panel, name in zip(panels, names):
            self._draw(panel, name)
        panels[0].set_title(f"{len(self._times)} steps in {self._times[-1] - self._times[0]:.1f} s")
        panels[-1].set_xlabel("time (s)")
        figure.savefig(next_path(self._folder, ".png"))
        self._forget()

    def _draw(self, panel: Any, name: str) -> None:
        begin, samples = self._times[0], self._lines[name]
        width = min(len(value) for _, value in samples)
        times = np.array([at for at, _ in samples]) - begin
        values = np.stack([value[:width] for _, value in samples])
        for dimension in range(width):
            panel.plot(times, values[:, dimension], linewidth=1.2, label=f"[{dimension}]")
        for kind, colour, text in (("chunks", "0.75", "chunk"), ("late", "tab:red", "late chunk")):
            for index, step in enumerate(self._marks[kind]):
                at = self._times[step] - begin
                panel.axvline(at, color=colour, linewidth=0.8, zorder=0, label="" if index else text)
        for index, (first, last) in enumerate(_runs(self._marks["starved"])):
            since, until = self._times[first], self._times[min(last + 1, len(self._times) - 1)]
            text = "" if index else "starved"
            panel.axvspan(
                since - begin, until - begin, color="tab:orange", alpha=0.3, linewidth=0, label=text
            )
        panel.set_ylabel(name)
        panel.grid(alpha=0.25)
        if width <= _MAX_LEGEND:
            panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")

    def _count(self) -> tuple[int, int, int]:
        """The number of the chunk that the last action came from, and how often it was starved or late by now."""
        if self._source is None:
            return 0, 0, 0
        stats, info = self._source.stats(), getattr(self._source, "info", None)
        return (stats.chunks if info is None else info.chunk), stats.starved, stats.late

    def _forget(self) -> None:
        self._times: list[float] = []
        self._lines: dict[str, list[tuple[float, np.ndarray[Any, Any]]]] = {}
        self._marks: dict[str, list[int]] = {kind: [] for kind in _MARKS}  # numbers of steps
        self._counted = (0, 0, 0)


_MARKS = ("chunks", "starved", "late")  # in the order of Plot._count()


def _runs(steps: list[int]) -> list[tuple[int, int]]:
    """The first and last of steps that follow each other."""
    runs: list[tuple[int, int]] = []
    for step in steps:
        if runs and runs[-1][1] == step - 1:
            runs[-1] = runs[-1][0], step
        else:
            runs.append((step, step))
    return runs


def _vectors(value: Any, name: str) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """The numbers of an action, each array as one vector: of a chunk, its first step."""
    if isinstance(value, Mapping):
        found = []
        for key, child in value.items():
            found += _vectors(child, f"{name}/{key}" if name else str(key))
        return found
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.size == 0 or array.ndim > 2:
        return []
    return [(name, np.atleast_1d(array[0] if array.ndim == 2 else array).astype(float))]
