"""The loop between an environment and an agent."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable, Sequence

from service_clients.runtime.agent import Agent
from service_clients.runtime.environment import Environment
from service_clients.runtime.subscriber import Subscriber

__all__ = ["Runtime"]

_LOGGER = logging.getLogger(__name__)


class Runtime:
    """Runs episodes: observe, decide, act, tell the subscribers, and again, `max_hz` times a second.

    Steps begin at absolute times of a monotonic clock, one period apart, so that no error adds up. A step that
    takes longer than its period costs the periods that it overran; the next ones keep to the same times.
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
            max_hz: the most steps per second; 0: as fast as it goes.
            num_episodes: episodes of one run().
            max_episode_steps: the most steps of an episode; 0: until the environment says that it is over.
        """
        self._environment = environment
        self._agent = agent
        self._subscribers = subscribers
        self._max_hz = max_hz
        self._num_episodes = num_episodes
        self._max_episode_steps = max_episode_steps

        self._in_episode = False
        self._episode_steps = 0
        self._stopped = threading.Event()

    def run(self) -> None:
        """Runs all episodes, or until stop(); the environment is reset before each and after the last.

        Raises:
            whatever a part raised, Ctrl-C included: the episode has been ended in order by then, with every
            subscriber's on_episode_end() and a reset of the environment.
        """
        self._stopped.clear()
        self._run_episodes()

    def run_in_new_thread(self) -> threading.Thread:
        """Starts run() in a thread of its own, and returns that."""
        self._stopped.clear()
        thread = threading.Thread(target=self._run_episodes)
        thread.start()
        return thread

    def stop(self) -> None:
        """Ends the run after the step that is being made. From any thread; returns at once."""
        self._stopped.set()

    def mark_episode_complete(self) -> None:
        """Ends the episode after the step that is being made; the next episode follows. From any thread."""
        self._in_episode = False

    def _run_episodes(self) -> None:
        failure = None
        try:
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
        period = 1 / self._max_hz if self._max_hz > 0 else 0.0
        self._episode_steps = 0
        deadline = time.monotonic()
        while self._in_episode and not self._stopped.is_set():
            self._step()
            if period:
                deadline = self._wait_for_next(deadline, period)

    def _wait_for_next(self, deadline: float, period: float) -> float:
        """Waits until the next step is due, or stop(); returns when it was due."""
        deadline += period
        late = time.monotonic() - deadline
        if late >= 0:
            return deadline + late // period * period
        self._stopped.wait(-late)
        return deadline

    def _step(self) -> None:
        observation = self._environment.get_observation()
        action = self._agent.get_action(observation)
        self._environment.apply_action(action)
        for subscriber in self._subscribers:
            subscriber.on_step(observation, action)
        self._episode_steps += 1
        is_last = 0 < self._max_episode_steps <= self._episode_steps
        if self._environment.is_episode_complete() or is_last:
            self.mark_episode_complete()


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
