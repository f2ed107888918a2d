"""What Runtime has beyond the shape of openpi's: statistics, an hour without drift, errors that say what is wrong."""

from __future__ import annotations

import contextlib
import importlib
import math
import threading
import time
from typing import Any

import numpy as np
import pytest

from service_clients.runtime.agent import Agent
from service_clients.runtime.environment import Environment
from service_clients.runtime.policy_agent import PolicyAgent
from service_clients.runtime.runtime import Runtime
from service_clients.runtime.subscriber import Subscriber


class Arm(Environment):
    """Counts its steps and resets."""

    def __init__(self, steps: int = 1 << 62, observation: Any = ()) -> None:
        self.steps, self.resets, self.applied = steps, 0, 0
        self.observation = {"state": np.zeros(2)} if observation == () else observation

    def reset(self) -> None:
        self.resets += 1

    def is_episode_complete(self) -> bool:
        return self.applied >= self.steps

    def get_observation(self) -> Any:
        return self.observation

    def apply_action(self, action: dict[str, Any]) -> None:
        self.applied += 1


class Still(Agent):
    def __init__(self, action: Any = ()) -> None:
        self.action = {"actions": np.zeros(2)} if action == () else action

    def get_action(self, observation: dict[str, Any]) -> Any:
        return self.action

    def reset(self) -> None: ...


class Log(Subscriber):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_run_start(self, runtime: Runtime) -> None:
        self.calls.append(runtime)

    def on_episode_start(self) -> None:
        self.calls.append("start")

    def on_step(self, observation: dict[str, Any], action: dict[str, Any]) -> None:
        self.calls.append("step")

    def on_episode_end(self) -> None:
        self.calls.append("end")


@pytest.mark.parametrize("max_hz", [-1, 1e9, math.nan, math.inf])
def test_rates_that_cannot_be_are_refused(max_hz: float) -> None:
    with pytest.raises(ValueError, match=r"Hz, not 0.001 to 100000 \(rate_hz\)"):
        Runtime(Arm(), Still(), [], max_hz=max_hz)


def test_an_environment_that_returns_nothing_is_named() -> None:
    arm, log = Arm(observation=None), Log()
    with pytest.raises(TypeError, match=r"environment's get_observation\(\) returned None"):
        Runtime(arm, Still(), [log]).run()
    assert log.calls[1:] == ["start", "end"]
    assert arm.resets == 2


def test_an_agent_that_returns_nothing_is_named() -> None:
    arm = Arm()
    with pytest.raises(TypeError, match=r"agent's get_action\(\) returned None"):
        Runtime(arm, Still(action=None), []).run()
    assert (arm.applied, arm.resets) == (0, 2)


def test_subscribers_meet_their_runtime_once_a_run() -> None:
    log = Log()
    runtime = Runtime(Arm(), Still(), [log], num_episodes=2, max_episode_steps=1)
    runtime.run()
    assert log.calls == [runtime, "start", "step", "end", "start", "step", "end"]


def test_subscribers_need_not_know_the_call_that_introduces_them() -> None:
    class Old:
        """As one that was written for openpi_client, without its base class."""

        steps = 0

        def on_episode_start(self) -> None: ...

        def on_step(self, observation: dict[str, Any], action: dict[str, Any]) -> None:
            self.steps += 1

        def on_episode_end(self) -> None: ...

    old: Any = Old()
    Runtime(Arm(), Still(), [old], max_episode_steps=3).run()
    assert old.steps == 3


class Simulated:
    """A clock in place of the module time, and the wait that goes with it, which is late by up to 3 ms."""

    def __init__(self) -> None:
        self.now, self.waits = 1000.0, 0

    def monotonic(self) -> float:
        return self.now

    def wait(self, timeout: float) -> bool:
        self.waits += 1
        self.now += timeout + (self.waits * 7919 % 3000) / 1e6
        return False


def test_an_hour_of_steps_does_not_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, begun = Simulated(), []

    class Slow(Arm):
        def get_observation(self) -> Any:
            begun.append(clock.now - 1000)
            clock.now += 0.005
            return self.observation

    steps = 3600 * 30 + 1
    runtime = Runtime(Slow(), Still(), [], max_hz=30, max_episode_steps=steps)
    monkeypatch.setattr(importlib.import_module("service_clients.runtime.runtime"), "time", clock)
    monkeypatch.setattr(runtime._stopped, "wait", clock.wait)
    runtime.run()
    assert len(begun) == steps
    assert all(0 <= at - step / 30 < 0.0031 for step, at in enumerate(begun))
    stats = runtime.stats()
    assert (stats.episodes, stats.steps, stats.overruns, stats.missed) == (1, steps, 0, 0)
    assert stats.achieved_hz == pytest.approx(30, abs=0.001)
    assert 0 < stats.wake_error.p50 <= stats.wake_error.max <= 3.001
    assert stats.observe.p50 == pytest.approx(5)


def test_the_rate_is_right_from_the_second_step_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, rates = Simulated(), []

    class Rates(Log):
        def on_step(self, observation: dict[str, Any], action: dict[str, Any]) -> None:
            rates.append(runtime.stats().achieved_hz)

    runtime = Runtime(Arm(), Still(), [Rates()], max_hz=10, max_episode_steps=5)
    monkeypatch.setattr(importlib.import_module("service_clients.runtime.runtime"), "time", clock)
    monkeypatch.setattr(runtime._stopped, "wait", clock.wait)
    runtime.run()
    assert rates == pytest.approx([0, 10, 10, 10, 10], rel=0.05)


def test_overruns_are_counted_and_the_steps_keep_to_their_times(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Simulated()

    class Slow(Arm):
        def apply_action(self, action: dict[str, Any]) -> None:
            self.applied += 1
            clock.now += 0.35 if self.applied == 2 else 0.01

    runtime = Runtime(Slow(), Still(), [], max_hz=10, max_episode_steps=5)
    monkeypatch.setattr(importlib.import_module("service_clients.runtime.runtime"), "time", clock)
    monkeypatch.setattr(runtime._stopped, "wait", clock.wait)
    runtime.run()
    stats = runtime.stats()
    assert (stats.steps, stats.overruns, stats.missed) == (5, 1, 2)
    assert stats.act.max == pytest.approx(350)
    assert "1 overruns, 2 periods missed" in str(stats)


def test_stats_without_a_rate_have_no_pace() -> None:
    runtime = Runtime(Arm(), Still(), [], max_episode_steps=50)
    assert runtime.stats().achieved_hz == runtime.stats().decide.max == 0
    runtime.run()
    stats = runtime.stats()
    assert (stats.steps, stats.rate_hz, stats.overruns, stats.jitter.max) == (50, 0, 0, 0)
    assert stats.achieved_hz > 0
    assert stats.decide.max > 0


def test_stats_may_be_read_from_another_thread_while_it_runs() -> None:
    runtime = Runtime(Arm(), Still(), [], max_hz=1000, max_episode_steps=300)
    thread = runtime.run_in_new_thread()
    while thread.is_alive():
        assert 0 <= runtime.stats().steps <= 300
    thread.join()
    assert runtime.stats().steps == 300


def test_a_runtime_that_was_stopped_runs_again() -> None:
    arm = Arm()
    runtime = Runtime(arm, Still(), [], max_hz=0.01)
    for runs in (1, 2):
        thread = runtime.run_in_new_thread()
        while arm.applied < runs:
            time.sleep(0.001)
        runtime.stop()
        thread.join(30)
        assert not thread.is_alive()
    assert runtime.stats().episodes == 2


@pytest.mark.parametrize("max_hz", [0, 100])
@pytest.mark.parametrize("times", [1, 3])
def test_a_stop_that_comes_before_its_run_is_not_lost(
    max_hz: float, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    arm, log = Arm(), Log()
    runtime = Runtime(arm, Still(), [log], max_hz=max_hz, max_episode_steps=2)
    for runs in (1, 2):
        for _ in range(times):
            runtime.stop()
        runtime.run()
        assert (arm.applied, runtime.stats().episodes) == (2 * runs - 2, runs - 1)
        assert "stop() was called before the run began" in caplog.text
        caplog.clear()
        runtime.run()  # it was for one run
        assert (arm.applied, runtime.stats().episodes) == (2 * runs, runs)
    assert log.calls == [runtime, "start", "step", "step", "end"] * 2
    assert arm.resets == 4
    assert not caplog.text


@pytest.mark.parametrize("max_hz", [0, 1000])
def test_a_stop_that_races_with_the_start_of_its_thread_is_not_lost(max_hz: float) -> None:
    arm = Arm()
    runtime = Runtime(arm, Still(), [], max_hz=max_hz)
    for number in range(100):
        thread = runtime.run_in_new_thread()
        while number % 3 and not arm.resets:
            pass
        runtime.stop()
        thread.join(30)
        assert not thread.is_alive()
        arm.resets = 0
    arm.steps = arm.applied + 1
    runtime.run()
    assert arm.applied == arm.steps


@pytest.mark.parametrize(
    ("where", "steps"), [("on_run_start", 0), ("on_episode_start", 0), ("on_step", 1), ("on_episode_end", 1)]
)
@pytest.mark.parametrize("fails", [False, True])
def test_a_stop_within_a_run_ends_that_run_and_no_other(where: str, steps: int, fails: bool) -> None:
    class Stopping(Log):
        """Stops once."""

    def stop(*_arguments: Any) -> None:
        delattr(Stopping, where)
        runtime.stop()
        if fails:
            raise ValueError("the part's own affair")

    setattr(Stopping, where, stop)
    arm = Arm()
    runtime = Runtime(arm, Still(), [Stopping()], num_episodes=3, max_episode_steps=1)
    with pytest.raises(ValueError, match="own affair") if fails else contextlib.nullcontext():
        runtime.run()
    assert arm.applied == steps
    runtime.run()
    assert arm.applied == steps + 3


SIGNALLED = """
import random, signal, sys
from service_clients.runtime.agent import Agent
from service_clients.runtime.environment import Environment
from service_clients.runtime.runtime import Runtime

class Arm(Environment, Agent):
    def reset(self): pass
    def is_episode_complete(self): return False
    def get_observation(self): return {}
    def get_action(self, observation): return {}
    def apply_action(self, action): pass

def stop(*_):
    runtime.stop()

arm = Arm()
runtime = Runtime(arm, arm, [], max_hz=float(sys.argv[1]))
signal.signal(signal.SIGALRM, stop)
dice = random.Random(1)
for _ in range(300):
    signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, 1e-3))
    runtime.run()    # ends by the signal alone, whenever it comes
print(runtime.stats().episodes > 0)
"""


@pytest.mark.parametrize("max_hz", [0, 1000])
def test_a_signal_handler_may_stop_it_at_any_moment(run_script: Any, max_hz: float) -> None:
    assert run_script(SIGNALLED, str(max_hz)).stdout.split() == ["True"]
    without_core = "import sys; sys.modules['service_clients._axon._native'] = None" + SIGNALLED
    assert run_script(without_core, str(max_hz), PYTHONWARNINGS="ignore").stdout.split() == ["True"]


def test_stop_in_a_policy_s_own_thread_of_thought_ends_after_the_step() -> None:
    """stop() while the policy is being asked: that step is finished, and no other follows."""
    asked, answer = threading.Event(), threading.Event()

    class Policy:
        def step(self, obs: dict[str, Any]) -> dict[str, Any]:
            asked.set()
            assert answer.wait(30)
            return {"actions": np.zeros(2)}

    arm, log = Arm(), Log()
    runtime = Runtime(arm, PolicyAgent(Policy()), [log], max_hz=100)
    thread = runtime.run_in_new_thread()
    assert asked.wait(30)
    runtime.stop()
    answer.set()
    thread.join(30)
    assert not thread.is_alive()
    assert log.calls[1:] == ["start", "step", "end"]
    assert (arm.applied, arm.resets) == (1, 2)


WITHOUT_CORE = """
import sys, warnings
sys.modules["service_clients._axon._native"] = None
warnings.simplefilter("ignore")
from service_clients.runtime.agent import Agent
from service_clients.runtime.environment import Environment
from service_clients.runtime.runtime import Runtime

class Arm(Environment, Agent):
    def reset(self): pass
    def is_episode_complete(self): return False
    def get_observation(self): return {}
    def get_action(self, observation): return {}
    def apply_action(self, action): pass

arm = Arm()
runtime = Runtime(arm, arm, [], max_hz=200, max_episode_steps=10)
runtime.run()
assert type(runtime._pacer).__module__.endswith("pace_fallback")
print(runtime.stats().steps, runtime.stats().rate_hz)
"""


def test_robots_without_the_core_are_paced_as_well(run_script: Any) -> None:
    assert run_script(WITHOUT_CORE).stdout.split() == ["10", "200.0"]
