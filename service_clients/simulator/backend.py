"""
simulator - what a simulator is to the server

One class per simulator, with the protocol's six methods. The server makes one backend for each session, calls it on
that session's own thread from its first method to its last, and keeps the order: `reset` comes after `load_task`,
`step` after `reset` and not after an episode's end. So a backend holds the simulation and little else.

Usage:
    import numpy as np
    from service_clients.simulator.backend import Backend, TaskNotFound
    from service_clients.simulator.server import SimulatorServer

    class Counter(Backend):
        name = "counter"

        def list_tasks(self, suite=None):
            return ["count-to-ten"]

        def load_task(self, task_name):
            if task_name != "count-to-ten":
                raise TaskNotFound(task_name)
            return {
                "task_name": task_name,
                "description": "reach ten",
                "action_space": {"by": {"shape": [1], "dtype": "float64", "low": [-1.0], "high": [1.0]}},
                "max_episode_steps": 100,
            }

        def reset(self):
            self.at = 0.0
            return {"at": np.array([self.at])}

        def step(self, action):
            self.at += float(action["by"][0])
            return {"at": np.array([self.at])}, -abs(10 - self.at), self.at >= 10, False, {}

    SimulatorServer({"counter": Counter}).serve_forever()

docs/adding_a_simulator.md has the whole story.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Tuple

from service_clients._axon.simulator_errors import (
    BackendError,
    InternalError,
    InvalidParams,
    NoSimulatorSelected,
    NoTaskLoaded,
    NotReset,
    SimulatorAlreadySelected,
    SimulatorError,
    TaskNotFound,
    UnknownMethod,
    UnknownSimulator,
)

__all__ = [
    "Action",
    "Backend",
    "BackendError",
    "InternalError",
    "InvalidParams",
    "NoSimulatorSelected",
    "NoTaskLoaded",
    "NotReset",
    "Observation",
    "SimulatorAlreadySelected",
    "SimulatorError",
    "Step",
    "TaskNotFound",
    "UnknownMethod",
    "UnknownSimulator",
]

Observation = Dict[str, Any]
Action = Mapping[str, Any]
Step = Tuple[Observation, float, bool, bool, Dict[str, Any]]


class Backend:
    """A simulator for one session.

    A subclass is called without arguments, or a function that makes one is; it raises a SimulatorError for what the
    protocol has a word for, and anything else becomes `backend_error` with the exception's text.

    Attributes:
        name: what get_info() calls it, "libero".
        version: likewise.
    """

    name = ""
    version = ""

    def list_tasks(self, suite: str | None = None) -> list[str]:
        """The names that load_task() takes.

        Args:
            suite: only those of this suite; None: all.

        Raises:
            InvalidParams: no such suite.
        """
        raise NotImplementedError

    def load_task(self, task_name: str) -> dict[str, Any]:
        """Prepares a task, in place of the one before.

        Returns:
            task_info: `task_name`, `description`, `action_space` and `max_episode_steps`; more as it pleases.
            `action_space` says for each key of an action `shape` (list of int), `dtype` (numpy's name), and `low` and
            `high` (lists of float, or None where there is no limit): the server holds actions against it.

        Raises:
            TaskNotFound: no such task. The one before stays loaded.
        """
        raise NotImplementedError

    def reset(self) -> Observation:
        """Begins an episode.

        Returns:
            The first observation: arrays, numbers, str, and dicts and lists of these.
        """
        raise NotImplementedError

    def step(self, action: dict[str, Any]) -> Step:
        """One step of the simulation.

        Args:
            action: an array for each key of the task's `action_space`, of its shape and dtype, finite and within its
                limits; the backend's own. As it was sent where the task has no `action_space`.

        Returns:
            observation, reward, terminated (the task succeeded or failed), truncated (out of steps), info (a dict).
        """
        raise NotImplementedError

    def get_info(self) -> dict[str, Any]:
        """What the answer to get_info holds besides, or instead of, what the server knows: `backend_name`,
        `backend_version`, `current_task`, `action_space`, `observation_space`."""
        return {}

    def disconnect(self) -> None:
        """The session ends: lets go of what the simulation holds. Called once, also after an error."""
