"""The pacer without the native core: the same ticks, less sharp."""

from __future__ import annotations

import math
import time
from collections import deque

from service_clients._axon.errors import AxonValueError
from service_clients._axon.pacing import (
    PacerStats,
    StopEvent,
    Tick,
    percentiles_of,
    rate_of,
    sleep_unless,
)

__all__ = ["Pacer", "StopEvent"]


class Pacer:
    """As service_clients/_axon/pace.py says."""

    def __init__(self, rate_hz: float) -> None:
        self._rate = rate_of(rate_hz)
        if not 0.001 <= self._rate <= 100000:
            raise AxonValueError(f"pacer: a rate of {self._rate:g} Hz, not 0.001 to 100000 (rate_hz)")
        self._is_stopped = False
        self._first: float | None = None  # the first tick since a restart
        self._planned: Tick | None = None
        self._last = Tick(0, 0.0, 0.0, 0)
        self._run_ticks = self._ticks = self._overruns = self._missed = 0
        self._wake_errors: deque[float] = deque(maxlen=1024)
        self._jitters: deque[float] = deque(maxlen=1024)

    def wait(self) -> bool:
        if not self.sleep(self.plan(time.monotonic())):
            return False
        self.record(time.monotonic())
        return True

    def stop(self) -> None:
        self._is_stopped = True

    def restart(self) -> None:
        self._first = self._planned = None
        self._run_ticks = 0
        self._is_stopped = False

    def stats(self) -> PacerStats:
        length = self._last.now - self._first if self._first is not None and self._run_ticks > 1 else 0.0
        return PacerStats(
            self._rate,
            (self._run_ticks - 1) / length if length > 0 else 0.0,
            self._ticks,
            self._overruns,
            self._missed,
            percentiles_of(self._wake_errors),
            percentiles_of(self._jitters),
        )

    def plan(self, now: float) -> float:
        if not (0 <= now < math.inf and (self._first is None or now >= self._last.now)):
            raise AxonValueError(
                f"pacer: time goes backwards, or is none: {now!r} s after {self._last.now} s"
            )
        if self._planned is not None:
            index, missed = self._planned.number, self._planned.missed
        else:
            index, missed = (0 if self._first is None else self._last.number + 1), 0
        self._first = now if self._first is None else self._first
        latest = int((now - self._first) * self._rate)
        if self._due(index) < now and latest > index:
            index, missed = latest, missed + latest - index
        self._planned = Tick(index, self._due(index), now, missed)
        return self._planned.due

    def sleep(self, until: float) -> bool:
        return sleep_unless(lambda: self._is_stopped, until)

    def record(self, now: float) -> Tick:
        if self._planned is None:
            raise AxonValueError("pacer: a tick that was not planned")
        tick, overran = self._planned._replace(now=now), self._planned.due < self._planned.now
        if self._run_ticks:
            self._jitters.append(abs(now - self._last.now - 1 / self._rate) * 1e3)
            if not overran:
                self._wake_errors.append((now - tick.due) * 1e3)
        self._last, self._planned = tick, None
        self._run_ticks += 1
        self._ticks += 1
        self._overruns += overran
        self._missed += tick.missed
        return tick

    def _due(self, index: int) -> float:
        return (self._first or 0.0) + index / self._rate
