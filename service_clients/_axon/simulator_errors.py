"""What a simulator answers instead of a result: one class for each `error_type` of the protocol.

A client raises them; a backend raises them too, and the server turns them into the protocol's answer.
"""

from __future__ import annotations

from typing import Any

from service_clients._axon.errors import AxonServerError

__all__ = [
    "BackendError",
    "InternalError",
    "InvalidParams",
    "NoSimulatorSelected",
    "NoTaskLoaded",
    "NotReset",
    "SimulatorAlreadySelected",
    "SimulatorError",
    "TaskNotFound",
    "UnknownMethod",
    "UnknownSimulator",
    "simulator_error",
]


class SimulatorError(AxonServerError):
    """The base of them all, and what an `error_type` of a server's own is raised as.

    Attributes:
        error_type: the protocol's word for it, "not_reset".
        message: what the server, or the backend, said; `str()` has the server's address before it in a client.
    """

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message

    def __reduce__(self) -> Any:
        return simulator_error, (self.error_type, self.message, str(self))


class _Named(SimulatorError):
    """One whose class says the `error_type`."""

    ERROR_TYPE = ""

    def __init__(self, message: str = "") -> None:
        super().__init__(self.ERROR_TYPE, message)


class UnknownMethod(_Named):
    """The server does not know the method."""

    ERROR_TYPE = "unknown_method"


class InvalidParams(_Named, ValueError):
    """A parameter is missing, or is not what the method or the task takes; the message names it."""

    ERROR_TYPE = "invalid_params"


class TaskNotFound(_Named, LookupError):
    """There is no task of that name."""

    ERROR_TYPE = "task_not_found"


class NoTaskLoaded(_Named):
    """The method needs a task: call load_task() first."""

    ERROR_TYPE = "no_task_loaded"


class NotReset(_Named):
    """A step before reset(), or after the episode ended."""

    ERROR_TYPE = "not_reset"


class BackendError(_Named):
    """The simulator itself failed."""

    ERROR_TYPE = "backend_error"


class InternalError(_Named):
    """The server failed."""

    ERROR_TYPE = "internal_error"


class NoSimulatorSelected(_Named):
    """The server has several simulators: call select_simulator() first."""

    ERROR_TYPE = "no_simulator_selected"


class UnknownSimulator(_Named, LookupError):
    """The server has no simulator of that name."""

    ERROR_TYPE = "unknown_simulator"


class SimulatorAlreadySelected(_Named):
    """The session has a simulator; another one takes another session."""

    ERROR_TYPE = "simulator_already_selected"


_CLASSES = {kind.ERROR_TYPE: kind for kind in _Named.__subclasses__()}


def simulator_error(error_type: str, message: str, text: str | None = None) -> SimulatorError:
    """The exception for an `error_type`; `text` is what `str()` gives, the message unless something stands here."""
    kind = _CLASSES.get(error_type)
    made = kind(message) if kind else SimulatorError(error_type, message)
    if text is not None:
        made.args = (text,)
    return made
