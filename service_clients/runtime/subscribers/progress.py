"""A line that says how the run goes: step, rate, jitter, latency."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from service_clients.runtime.subscriber import Subscriber
from service_clients.runtime.subscribers.chunks import chunk_counters

if TYPE_CHECKING:
    from service_clients.runtime.runtime import Runtime

__all__ = ["Progress"]

_LIVE_INTERVAL = 0.1  # seconds between two states of a line that is written over
_PRINTED_INTERVAL = 1.0  # and between two lines, where nothing can be written over


class Progress(Subscriber):
    """Keeps one line up to date on a terminal, in colours when `rich` is installed; elsewhere prints one a second.

        episode 2  step 1250  50.0 of 50 Hz  jitter 0.21 ms  latency 84 ms  overruns 3  late 1

    Rate is of the episode; jitter and latency are the 99th and 50th percentile of the last steps. Latency is that of the
    policy where a ChunkEngine measures it, and otherwise of agent.get_action(). What is 0 of the rest is left out.
    """

    def __init__(self, stream: TextIO | None = None, interval: float | None = None) -> None:
        """
        Args:
            stream: default sys.stderr, as it is when a run begins.
            interval: seconds between two updates; default 0.1 on a terminal, 1 elsewhere.
        """
        self._given, self._interval_given = stream, interval
        self._runtime: Runtime | None = None
        self._chunks: Any = None
        self._live: Any = None  # rich's
        self._next = 0.0
        self._episode = self._steps = 0
        self._begin(stream if stream is not None else sys.stderr)

    def on_run_start(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._chunks = chunk_counters(runtime)
        self._begin(self._given if self._given is not None else sys.stderr)

    def on_episode_start(self) -> None:
        self._episode += 1
        self._steps = 0
        self._next = time.monotonic() + self._interval
        if self._is_live:
            self._live = _rich_line(self._stream)

    def on_step(self, observation: dict[str, Any], action: dict[str, Any]) -> None:
        self._steps += 1
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._interval
            self._show(last=False)

    def on_episode_end(self) -> None:
        self._show(last=True)
        if self._live is not None:
            self._live.stop()
            self._live = None

    def line(self) -> str:
        """What is shown now."""
        words = [f"episode {self._episode}", f"step {self._steps}"]
        if self._runtime is None:
            return "  ".join(words)
        stats = self._runtime.stats()
        words.append(f"{stats.achieved_hz:.1f}" + (f" of {stats.rate_hz:g}" if stats.rate_hz else "") + " Hz")
        if stats.rate_hz:
            words.append(f"jitter {stats.jitter.p99:.2f} ms")
        chunks = self._chunks.stats() if self._chunks is not None else None
        latency = chunks.latency_p50_ms if chunks is not None else stats.decide.p50
        words.append(f"latency {latency:.{0 if latency >= 10 else 2}f} ms")
        if stats.overruns:
            words.append(f"overruns {stats.overruns}")
        for name in ("late", "starved"):
            if chunks is not None and getattr(chunks, name):
                words.append(f"{name} {getattr(chunks, name)}")
        return "  ".join(words)

    def _begin(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_live = stream.isatty()
        default = _LIVE_INTERVAL if self._is_live else _PRINTED_INTERVAL
        self._interval = default if self._interval_given is None else self._interval_given

    def _show(self, last: bool) -> None:
        line = self.line()
        if self._live is not None:
            self._live.update(line, refresh=True)
        elif self._is_live:
            self._stream.write(f"\r{line}\x1b[K" + ("\n" if last else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


def _rich_line(stream: TextIO) -> Any:
    """A started rich Live on a stream; None without rich."""
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        return None
    live = Live("", console=Console(file=stream), auto_refresh=False)
    live.start()
    return live
