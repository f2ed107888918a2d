"""The pacer, in C and in its pure-Python stand-in: absolute times, overruns, stopping."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any, Iterator

import pytest

from service_clients._axon import AxonTypeError, AxonValueError, Tick, pace, pace_fallback

Kind = Any


@pytest.fixture(params=[pace, pace_fallback], ids=["C", "Python"])
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    yield request.param


def tick(pacer: Any, now: float, late: float = 0.0) -> Tick:
    """Asks for the next tick at `now` and gets there `late` seconds after it is due."""
    due = pacer.plan(now)
    found: Tick = pacer.record(due + late if due > now else now)
    return found


def test_an_hour_of_late_ticks_does_not_drift(kind: Kind) -> None:
    pacer, now = kind.Pacer(30), 1000.0
    for step in range(30 * 3600 + 1):
        found = tick(pacer, now, late=(step * 7919 % 20000) / 1e6)
        assert found.number == step
        now = found.now + 0.01
    assert found.due == pytest.approx(1000 + 3600, abs=1e-6)
    stats = pacer.stats()
    assert (stats.ticks, stats.overruns, stats.missed) == (30 * 3600 + 1, 0, 0)
    assert stats.achieved_hz == pytest.approx(30, abs=1e-3)
    assert 0 <= stats.wake_error.p50 <= stats.wake_error.p99 <= stats.wake_error.max <= 20


def test_an_overrun_leaves_out_what_it_missed(kind: Kind) -> None:
    pacer = kind.Pacer(10)
    assert tick(pacer, 5.0) == pytest.approx((0, 5.0, 5.0, 0))
    assert tick(pacer, 5.35) == pytest.approx((3, 5.3, 5.35, 2))
    assert tick(pacer, 5.36) == pytest.approx((4, 5.4, 5.4, 0))
    assert pacer.stats()[2:5] == (3, 1, 2)
    assert "1 overruns, 2 missed" in str(pacer.stats())


@pytest.mark.parametrize("rate", [0, -1, 1e9, 10**400, float("nan"), float("inf"), 0.0001])
def test_rates_that_cannot_be_are_refused(kind: Kind, rate: float) -> None:
    with pytest.raises(AxonValueError, match=r"Hz, not 0.001 to 100000 \(rate_hz\)"):
        kind.Pacer(rate)


@pytest.mark.parametrize("rate", ["50", None, True])
def test_a_rate_is_a_number(kind: Kind, rate: Any) -> None:
    with pytest.raises(AxonTypeError, match=r"rate_hz is .*, not a number"):
        kind.Pacer(rate)


def test_time_does_not_go_backwards(kind: Kind) -> None:
    pacer = kind.Pacer(10)
    tick(pacer, 5.0)
    with pytest.raises(AxonValueError, match="time goes backwards"):
        pacer.plan(4.0)
    with pytest.raises(AxonValueError, match="was not planned"):
        pacer.record(6.0)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(AxonValueError, match="time"):
            pacer.plan(wrong)
    assert tick(pacer, 5.05).number == 1


def test_stop_ends_a_long_wait_and_restart_forgets_it(kind: Kind) -> None:
    pacer = kind.Pacer(0.001)
    assert pacer.wait()
    threading.Timer(0.05, pacer.stop).start()
    assert not pacer.wait()
    assert not pacer.wait()
    pacer.restart()
    assert pacer.wait()
    assert pacer.stats().ticks == 2


def test_ctrl_c_ends_a_long_wait_at_once(kind: Kind) -> None:
    pacer = kind.Pacer(0.001)
    pacer.wait()
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        pacer.wait()
    timer.join()
    pacer.stop()


def test_other_threads_run_while_one_waits(kind: Kind) -> None:
    pacer = kind.Pacer(2)
    pacer.wait()
    counted = 0
    thread = threading.Thread(target=pacer.wait)
    thread.start()
    while thread.is_alive():
        counted += 1
    thread.join()
    assert counted > 10


def test_waits_do_not_end_early(kind: Kind) -> None:
    pacer = kind.Pacer(200)
    pacer.wait()
    began = time.monotonic()
    for _ in range(20):
        assert pacer.wait()
    assert time.monotonic() - began > 19 / 200
    assert pacer.stats().ticks == 21


def test_a_stop_event_is_an_event_that_stops_its_pacer(kind: Kind) -> None:
    pacer = kind.Pacer(100)
    stopped = kind.StopEvent(pacer)
    assert isinstance(stopped, threading.Event)
    assert not stopped.wait(0.001)
    stopped.set()
    assert stopped.wait(60)
    assert stopped.wait()
    assert not pacer.wait()
    stopped.clear()
    assert not stopped.is_set()
    assert pacer.wait()


@pytest.mark.parametrize("timeout", [60, None])
def test_a_signal_handler_may_set_the_event_that_its_thread_waits_for(
    kind: Kind, timeout: float | None
) -> None:
    stopped = kind.StopEvent(kind.Pacer(0.001))
    before = signal.signal(signal.SIGALRM, lambda *_: stopped.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert stopped.wait(timeout)
    finally:
        signal.signal(signal.SIGALRM, before)
