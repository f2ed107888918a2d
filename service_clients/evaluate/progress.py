"""Saying how far it is: by rich where that is installed, else in plain lines. Everything goes to standard error."""

from __future__ import annotations

import sys
from typing import Any

from service_clients.evaluate.episodes import Episode

__all__ = ["Progress"]


class Progress:
    """A bar over some episodes, for a `with` block."""

    def __init__(self, episodes: int, is_quiet: bool = False) -> None:
        self._episodes, self._done, self._successes = episodes, 0, 0
        self._bar: Any = None
        self._is_quiet = is_quiet
        if not is_quiet and sys.stderr.isatty():
            self._bar = _make_bar()
            self._task = self._bar.add_task("episodes", total=episodes, said="") if self._bar else None

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, episode: Episode) -> None:
        """Another one is done."""
        self._done += 1
        self._successes += episode.success
        said = f"{self._successes} of {self._done} succeeded"
        if self._bar is not None:
            self._bar.update(self._task, advance=1, said=said)
        elif not self._is_quiet:
            outcome = (
                "success" if episode.success else f"failure{': ' if episode.error else ''}{episode.error}"
            )
            line = f"episode {self._done}/{self._episodes}: {outcome}, {episode.steps} steps; {said}"
            print(line, file=sys.stderr, flush=True)


def _make_bar() -> Any:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ImportError:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Bar(*columns, TextColumn("{task.fields[said]}"), console=Console(stderr=True))
