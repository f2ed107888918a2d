"""
simulator - simulator client

Runs tasks in a simulator behind ZeroMQ (Simulator Inference Center): MuJoCo, LIBERO, robosuite, or axon's own
tabletop world, whatever the server has.

Usage:
    import numpy as np
    from service_clients.simulator.client import SimulatorClient

    with SimulatorClient("tcp://127.0.0.1:5555") as simulator:
        simulator.select_simulator(simulator.list_simulators()[0])
        task = simulator.load_task(simulator.list_tasks()[0])
        space = task["action_space"]
        observation = simulator.reset()                     # dict of numpy arrays, the caller's own
        for _ in range(10):
            action = {key: np.zeros(member["shape"], member["dtype"]) for key, member in space.items()}
            observation, reward, terminated, truncated, info = simulator.step(action)
            if terminated or truncated:
                break

Actions hold arrays or lists of numbers, one for each key of the task's action_space, which says their shapes,
dtypes and limits. Servers that have one simulator and no choice (those of the protocol's document) list that one,
and selecting it does nothing.

Everything raised is a RuntimeError. What the server answers is a SimulatorError with `error_type` and `message`,
of a class of its own: NotReset, NoTaskLoaded, TaskNotFound, InvalidParams, BackendError, ... The others are those
of every client: no connection (also a ConnectionError), a deadline that passed (also a TimeoutError), an action
that does not travel (also a ValueError, naming the key). The client stays usable after each of them. The reply to
a call that failed is discarded when it comes, never returned to a later call.
"""

from __future__ import annotations

from service_clients._axon import (
    BackendError,
    InternalError,
    InvalidParams,
    NoSimulatorSelected,
    NoTaskLoaded,
    NotReset,
    Simulator,
    SimulatorAlreadySelected,
    SimulatorError,
    TaskNotFound,
    UnknownMethod,
    UnknownSimulator,
)

__all__ = [
    "BackendError",
    "InternalError",
    "InvalidParams",
    "NoSimulatorSelected",
    "NoTaskLoaded",
    "NotReset",
    "SimulatorAlreadySelected",
    "SimulatorClient",
    "SimulatorError",
    "TaskNotFound",
    "UnknownMethod",
    "UnknownSimulator",
]


class SimulatorClient(Simulator):
    """A session with a simulator server. Threads may share it: they take turns."""
