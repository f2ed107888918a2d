"""A control loop's clock in C: ticks at absolute times, the GIL released while waiting.

pacer = Pacer(200)
while pacer.wait():              # False after pacer.stop(), from any thread; Ctrl-C raises as everywhere
    robot.command(next_action())
print(pacer.stats())
"""

from __future__ import annotations

from typing import Any

from service_clients._axon._ffi import check, ffi, lib, new_error, raise_pending
from service_clients._axon.errors import AxonValueError
from service_clients._axon.pacing import PacerStats, StopEvent, Tick, rate_of
from service_clients._axon.reply import Percentiles

__all__ = ["Pacer", "StopEvent"]

_NS = 1e9
_LAST = 2**63 - 1


class Pacer:
    """Ticks `rate_hz` times a second, each at its time since the first one, so that no error adds up.

    When the work between two waits outlasts the period, the next wait returns at once, for the latest tick that was
    due; those before it are left out and counted. One thread waits; stop() and stats() are for any.
    """

    def __init__(self, rate_hz: float) -> None:
        """
        Args:
            rate_hz: ticks per second, 0.001 to 100 000.

        Raises:
            AxonValueError: another rate; AxonTypeError: no number.
        """
        out, self._error = ffi.new("axon_pacer **"), new_error()
        check(lib.axon_pacer_open(out, rate_of(rate_hz), self._error), self._error)
        self._pointer = ffi.gc(out[0], lib.axon_pacer_close)
        self._due = ffi.new("int64_t *")
        self._tick = ffi.new("axon_tick *")

    def wait(self) -> bool:
        """Waits for the next tick; the first one is now.

        Returns:
            True at a tick, False when stop() was called.

        Raises:
            whatever a signal handler raised: KeyboardInterrupt. The next wait is for the same tick.
        """
        return self._went_on(lib.axon_pacer_wait(self._pointer, ffi.NULL, self._error))

    def stop(self) -> None:
        """Ends the wait that is under way, within 20 ms, and every later one. Any thread, signal handlers too."""
        lib.axon_pacer_stop(self._pointer)

    def restart(self) -> None:
        """Forgets a stop: the next wait is for a first tick again. The counters go on."""
        check(lib.axon_pacer_restart(self._pointer, self._error), self._error)

    def stats(self) -> PacerStats:
        """How well the ticks were kept. Any thread."""
        found, error = ffi.new("axon_pacer_stats *"), new_error()
        check(lib.axon_pacer_get_stats(self._pointer, found, error), error)
        return PacerStats(
            *(getattr(found, name) for name in PacerStats._fields[:5]),
            *(
                Percentiles(*(getattr(getattr(found, name), part) for part in Percentiles._fields))
                for name in PacerStats._fields[5:]
            ),
        )

    # wait() is these three, with time.monotonic() as `now`. A simulation uses the first and the last with its own
    # time, and makes an hour of ticks in no time.

    def plan(self, now: float) -> float:
        """When the next tick is due; not after `now` where it is to be now.

        Args:
            now: seconds, 0 or more, never less than in the call before.

        Raises:
            AxonValueError: time goes backwards, or is no time.
        """
        check(lib.axon_pacer_plan(self._pointer, _nanoseconds(now), self._due, self._error), self._error)
        return float(self._due[0]) / _NS

    def sleep(self, until: float) -> bool:
        """Sleeps until a time of time.monotonic(); returns and raises as wait()."""
        return self._went_on(lib.axon_pacer_sleep(self._pointer, _nanoseconds(until), self._error))

    def record(self, now: float) -> Tick:
        """The tick that was planned happened at `now`; raises as plan()."""
        tick = self._tick
        check(lib.axon_pacer_record(self._pointer, _nanoseconds(now), tick, self._error), self._error)
        return Tick(tick.number, tick.due_ns / _NS, tick.now_ns / _NS, tick.missed)

    def _went_on(self, status: int) -> bool:
        if status == lib.AXON_ECANCELED:
            raise_pending()
            return False
        check(status, self._error)
        return True


def _nanoseconds(seconds: Any) -> int:
    try:
        nanoseconds: int = round(seconds * _NS)
    except (ValueError, OverflowError, TypeError):
        raise AxonValueError(f"a time of {seconds!r:.80}, not a number of seconds") from None
    return min(max(nanoseconds, -1), _LAST)  # C says what is wrong with those
