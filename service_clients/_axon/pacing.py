"""What the pacers in C and in Python share: their rate, what they give back, and the event that stops one."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import Any, Callable, NamedTuple

from service_clients._axon.errors import AxonTypeError
from service_clients._axon.plain import as_float
from service_clients._axon.reply import Percentiles

__all__ = ["PacerStats", "StopEvent", "Tick", "percentiles_of", "rate_of", "sleep_unless"]

_NAP = 0.02  # seconds


class Tick(NamedTuple):
    """One tick; times in seconds of the clock that it was planned on."""

    number: int  # periods since the first tick, those that were left out included
    due: float
    now: float  # when it was
    missed: int  # ticks that were left out just before it


class PacerStats(NamedTuple):
    """How well the ticks were kept; percentiles in ms, over the last 1024 ticks."""

    rate_hz: float  # what was asked for
    achieved_hz: float  # ticks per second since the first one; 0 before the second
    ticks: int
    overruns: int  # of these, begun when the tick was past
    missed: int  # ticks that overruns left out
    wake_error: Percentiles  # from when a tick was due to when the wait for it returned; without overruns
    jitter: Percentiles  # by how much the time from one tick to the next was off the period

    def __str__(self) -> str:
        return (
            f"{self.ticks} ticks at {self.achieved_hz:.5g} of {self.rate_hz:g} Hz, {self.overruns} overruns, "
            f"{self.missed} missed, wake-up error p99 {self.wake_error.p99:.3f} ms, "
            f"jitter p99 {self.jitter.p99:.3f} ms"
        )


class StopEvent(threading.Event):
    """An Event that stops a pacer when it is set, and waits as sharply as the pacer does.

    It takes no lock, so that signal handlers may set it, whatever their thread is doing with it.
    """

    def __init__(self, pacer: Any = None) -> None:
        """
        Args:
            pacer: None: there is none.
        """
        super().__init__()
        self._pacer = pacer
        self._is_set = False

    def is_set(self) -> bool:
        """Whether it is."""
        return self._is_set

    def set(self) -> None:
        """Ends every wait, within 20 ms."""
        self._is_set = True
        if self._pacer is not None:
            self._pacer.stop()

    def clear(self) -> None:
        """Makes it as new; the pacer begins again."""
        self._is_set = False
        if self._pacer is not None:
            self._pacer.restart()

    def wait(self, timeout: float | None = None) -> bool:
        """Sleeps for `timeout` seconds, or until the event is set; whether it is. None waits for it alone."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        if self._pacer is None or timeout is None:
            sleep_unless(self.is_set, until)
        else:
            self._pacer.sleep(until)
        return self._is_set


def sleep_unless(is_over: Callable[[], bool], until: float) -> bool:
    """Sleeps until a time of time.monotonic(), or until something is over, to within 20 ms; whether it is not.

    Asks instead of being told, for it takes a lock to tell, and a signal handler may find that taken.
    """
    while not is_over():
        left = until - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, _NAP))
    return False


def rate_of(rate_hz: Any) -> float:
    """A pacer's rate as a float; AxonTypeError when it is no number."""
    if isinstance(rate_hz, (bool, str, bytes)) or not hasattr(rate_hz, "__float__"):
        raise AxonTypeError(f"rate_hz is {rate_hz!r:.80}, not a number")
    return as_float(rate_hz)


def percentiles_of(samples: deque[float]) -> Percentiles:
    """Of some numbers; another thread may be adding to them."""
    ordered = sorted(samples.copy())
    if not ordered:
        return Percentiles(0.0, 0.0, 0.0, 0.0)
    p50, p95, p99 = (ordered[math.ceil(len(ordered) * share) - 1] for share in (0.5, 0.95, 0.99))
    return Percentiles(p50, p95, p99, ordered[-1])
