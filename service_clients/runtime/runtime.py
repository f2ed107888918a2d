"""The loop between an environment and an agent."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Any, Callable, NamedTuple, Sequence

from service_clients._axon import AxonTypeError, Pacer, Percentiles, StopEvent, percentiles_of
from service_clients.runtime.agent import Agent
from service_clients.runtime.environment import Environment
from service_clients.runtime.subscriber import Subscriber

__all__ = ["Runtime", "RuntimeStats"]

_LOGGER = logging.getLogger(__name__)
_WINDOW = 1024  # steps that percentiles are of, as in the pacer


class RuntimeStats(NamedTuple):
    """How a runtime's steps went, over all of its runs; percentiles in ms, over the last 1024 steps."""

    episodes: int  # that were begun
    steps: int
    rate_hz: float  # what was asked for; 0: as fast as it goes
    achieved_hz: float  # steps per second in the last episode
    overruns: int  # steps that began late, because the one before took longer than its period
    missed: int  # periods that were left out on that account
    wake_error: Percentiles  # from when a step was due to when it began; without overruns
    jitter: Percentiles  # by how much the time from one step to the next was off the period
    observe: Percentiles  # of environment.get_observation()
    decide: Percentiles  # of agent.get_action(): a policy's latency, where it is waited for
    act: Percentiles  # of environment.apply_action()

    def __str__(self) -> str:
        asked = f" of {self.rate_hz:g}" if self.rate_hz else ""
        lines = [
            f"{self.episodes} episodes, {self.steps} steps at {self.achieved_hz:.4g}{asked} Hz, "
            f"{self.overruns} overruns, {self.missed} periods missed",
            f"{'ms':12}" + "".join(f"{name:>10}" for name in Percentiles._fields),
        ]
        for name in RuntimeStats._fields[6:]:
            lines.append(f"{name:12}" + "".join(f"{number:10.3f}" for number in getattr(self, name)))
        return "\n".join(lines)


class Runtime:
    """Runs episodes: observe, decide, act, tell the subscribers, and again, `max_hz` times a second.

    Steps begin at absolute times of a monotonic clock, one period apart, so that no error adds up. A step that
    takes longer than its period costs the periods that it overran; the next ones keep to the same times. stats() says
    how well that went.
    """

    def __init__(
        self,
        environment: Environment,
        agent: Agent,
        subscribers: Sequence[Subscriber],
        max_hz: float = 0,
        num_episodes: int = 1,
        max_episode_steps: int = 0,
    ) -> None:
        """
        Args:
            environment: what is observed and acted upon.
            agent: what decides.
            subscribers: told of each step, in this order.
            max_hz: the most steps per second, 0.001 to 100 000; 0: as fast as it goes.
            num_episodes: episodes of one run().
            max_episode_steps: the most steps of an episode; 0: until the environment says that it is over.

        Raises:
            ValueError: a max_hz that is no rate: negative, NaN, 1e9.
        """
        self._environment = environment
        self._agent = agent
        self._subscribers = subscribers
        self._num_episodes = num_episodes
        self._max_episode_steps = max_episode_steps

        self._pacer = Pacer(max_hz) if max_hz else None
        self._stopped = StopEvent(self._pacer)  # from stop() to the end of the run that it ends
        self._in_episode = False
        self._episode_steps = 0

        self._episodes = self._steps = 0
        self._began = self._ended = 0.0  # of the last episode's steps
        self._ended_steps = 0  # those that were over by then
        self._took: dict[str, deque[float]] = {
            part: deque(maxlen=_WINDOW) for part in ("observe", "decide", "act")
        }

    @property
    def agent(self) -> Agent:
        """What decides."""
        return self._agent

    def run(self) -> None:
        """Runs all episodes, or until stop(); the environment is reset before each and after the last.

        A stop() that came before is for this run: it ends with nothing called, and that is logged. The next one runs.

        Raises:
            whatever a part raised, Ctrl-C included: the episode has been ended in order by then, with every
            subscriber's on_episode_end() and a reset of the environment.
        """
        try:
            if self._stopped.is_set():
                _LOGGER.warning("stop() was called before the run began: there is none")
            else:
                self._run_episodes()
        finally:
            self._stopped.clear()

    def run_in_new_thread(self) -> threading.Thread:
        """Starts run() in a thread of its own, and returns that."""
        thread = threading.Thread(target=self.run)
        thread.start()
        return thread

    def stop(self) -> None:
        """Ends the run after the step that is being made; when there is none, the next run before it begins.

        So a stop() that comes just before run(), or while a thread of it starts, is not lost. It ends one run, however
        often it is called: the runtime may run again. From any thread, and signal handlers; returns at once.
        """
        self._stopped.set()

    def mark_episode_complete(self) -> None:
        """Ends the episode after the step that is being made; the next episode follows. From any thread."""
        self._in_episode = False

    def stats(self) -> RuntimeStats:
        """How the steps went. From any thread."""
        pace = self._pacer.stats() if self._pacer else None
        none = Percentiles(0.0, 0.0, 0.0, 0.0)
        length = self._ended - self._began
        return RuntimeStats(
            episodes=self._episodes,
            steps=self._steps,
            rate_hz=pace.rate_hz if pace else 0.0,
            achieved_hz=self._ended_steps / length if length > 0 else 0.0,
            overruns=pace.overruns if pace else 0,
            missed=pace.missed if pace else 0,
            wake_error=pace.wake_error if pace else none,
            jitter=pace.jitter if pace else none,
            **{part: percentiles_of(times) for part, times in self._took.items()},
        )

    def _run_episodes(self) -> None:
        failure = None
        try:
            for subscriber in self._subscribers:
                getattr(subscriber, "on_run_start", _nothing)(self)
            for _ in range(self._num_episodes):
                if self._stopped.is_set():
                    break
                self._run_episode()
        except BaseException as error:
            failure = error
        _finish(failure, self._environment.reset)  # a robot goes to its home position

    def _run_episode(self) -> None:
        _LOGGER.info("Starting episode...")
        started: list[Subscriber] = []
        failure = None
        self._in_episode = True
        try:
            self._environment.reset()
            self._agent.reset()
            for subscriber in self._subscribers:
                subscriber.on_episode_start()
                started.append(subscriber)
            self._run_steps()
        except BaseException as error:
            failure = error
        self._in_episode = False
        _LOGGER.info("Episode completed.")
        _finish(failure, *(subscriber.on_episode_end for subscriber in started))

    def _run_steps(self) -> None:
        self._episode_steps = self._ended_steps = 0
        self._episodes += 1
        self._began = self._ended = time.monotonic()
        if self._pacer:
            self._pacer.restart()
            self._wait_for_next(self._pacer)  # the first step is due now
        while self._in_episode and not self._stopped.is_set():
            self._step()
            if self._pacer:
                self._wait_for_next(self._pacer)
            self._ended, self._ended_steps = time.monotonic(), self._episode_steps

    def _wait_for_next(self, pacer: Pacer) -> None:
        """Waits until the next step is due, or stop()."""
        now = time.monotonic()
        due = pacer.plan(now)
        if due > now:
            self._stopped.wait(due - now)
        if not self._stopped.is_set():
            pacer.record(time.monotonic())

    def _step(self) -> None:
        observation = self._timed("observe", self._environment.get_observation)
        if observation is None:
            raise AxonTypeError("the environment's get_observation() returned None, not an observation")
        action = self._timed("decide", self._agent.get_action, observation)
        if action is None:
            raise AxonTypeError("the agent's get_action() returned None, not an action")
        self._timed("act", self._environment.apply_action, action)
        self._episode_steps += 1
        self._steps += 1
        for subscriber in self._subscribers:
            subscriber.on_step(observation, action)
        is_last = 0 < self._max_episode_steps <= self._episode_steps
        if self._environment.is_episode_complete() or is_last:
            self.mark_episode_complete()

    def _timed(self, part: str, call: Callable[..., Any], *arguments: Any) -> Any:
        began = time.monotonic()
        result = call(*arguments)
        self._took[part].append((time.monotonic() - began) * 1e3)
        return result


def _nothing(_runtime: Runtime) -> None:
    """For subscribers that were written before on_run_start() was."""


def _finish(failure: BaseException | None, *parts: Callable[[], object]) -> None:
    """Calls every part, whatever the others raise, then raises what was raised first, if anything was."""
    for part in parts:
        try:
            part()
        except BaseException as error:
            if failure is None:
                failure = error
            else:
                _LOGGER.exception("%r was being handled when this was raised:", failure)
    if failure is not None:
        try:
            raise failure
        finally:
            failure = None  # its traceback holds this frame
