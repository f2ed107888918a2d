"""Simulators: `Simulator` is one session with a simulator server. simulator/client.py is thin over it."""

from __future__ import annotations

import math
from typing import Any, Callable, Mapping, NamedTuple

from service_clients._axon._ffi import check, ffi, lib, new_error
from service_clients._axon.errors import AxonTypeError
from service_clients._axon.handle import Handle
from service_clients._axon.options import c_string, fill, milliseconds
from service_clients._axon.reply import Percentiles, Timing
from service_clients._axon.simulator_errors import simulator_error
from service_clients._axon.values import Memory, read, write

__all__ = ["Simulator", "SimulatorStats", "StepResult"]

_TREE = ffi.typeof("axon_value **")
_OUTCOME = ffi.typeof("axb_outcome *")


class StepResult(NamedTuple):
    """What one step led to; unpacks like gymnasium's."""

    observation: dict[str, Any]
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class SimulatorStats(NamedTuple):
    """A session's counters, and how long its last steps took.

    Attributes:
        calls: all of them; replies: those that succeeded; errors: those that the server answered with an error.
        timeouts, cancels: calls that ended so; discarded: their late replies.
        sessions: begun at the server; more than one when a connection was lost.
        window: steps that `step` is of, at most 1024, the last ones.
        step: whole calls of step(), in ms.
    """

    calls: int
    replies: int
    errors: int
    timeouts: int
    cancels: int
    discarded: int
    sessions: int
    window: int
    step: Percentiles


def _message_of(root: Any) -> Memory | None:
    """The message that a reply came in, taken out of its tree: large arrays stay in it."""
    length = ffi.new("size_t *")
    message = lib.axb_take_message(root, length)
    return Memory(message, length[0]) if message else None


def _read_branches(told: Any, memory: Memory | None) -> list[Any]:
    """The members of a StepResult, for `read`."""
    outcome = told.outcome
    info = read(outcome.info, memory) if outcome.info else {}
    ended = bool(outcome.terminated), bool(outcome.truncated)
    return [read(outcome.observation, memory), outcome.reward, *ended, info]


class Simulator(Handle):
    """A session with a simulator server, which keeps a simulator for it.

    A call whose deadline passed, or that was cancelled (Ctrl-C included), fails; its late reply is discarded when it
    comes and never returned to a later call. When the connection is lost the episode is: the next call begins another
    session and tells the server which simulator and task were chosen, and step() raises NotReset until reset().

    Threads may share it: they take turns. It is a context manager. It does not survive a fork: in the child
    only close() is allowed.

    Every method raises, besides what it names: AxonConnectionError, AxonTimeout, AxonCanceled, AxonProtocolError; what
    the server answers is a SimulatorError, of the class that its `error_type` has. `timeout` is the seconds for one
    call, a reconnect in it included; default the constructor's `call_timeout`.
    """

    _C_CANCEL = lib.axon_simulator_cancel
    _C_CLOSE = lib.axon_simulator_close

    def __init__(
        self,
        address: str,
        *,
        connect_timeout: float | None = None,
        call_timeout: float | None = None,
        close_timeout: float | None = None,
        grace: float | None = None,
        max_reply_bytes: int | None = None,
        max_request_bytes: int | None = None,
        connect_once: bool = False,
    ) -> None:
        """Connects.

        Args:
            address: "tcp://host:port", "host:port" or "host" (port 5555; IPv6 in brackets), "ipc:///path".
            connect_timeout: seconds until the server has answered, a refused connection being tried again until
                then; default 10. Here and below: math.inf waits for ever.
            call_timeout: seconds for one call; default 60.
            close_timeout: seconds that close() waits for the server's goodbye; default 1.
            grace: seconds after its deadline that a late reply is waited for, by the calls that follow, before the
                session is given up; default 60.
            max_reply_bytes: a longer reply is AxonTooBig, and thrown away; default 256 MiB.
            max_request_bytes: a longer action is AxonTooBig, unsent; default 256 MiB.
            connect_once: a refused connection fails at once.

        Raises:
            AxonConnectionError: nobody listens; AxonTimeout: somebody does, and says nothing; AxonProtocolError: what
            listens does not speak ZeroMQ; AxonValueError: an address or option that cannot be, naming it.
        """
        options, _keep = fill(
            "axon_simulator_options",
            connect_timeout_ms=milliseconds(connect_timeout, "connect_timeout"),
            call_timeout_ms=milliseconds(call_timeout, "call_timeout"),
            close_timeout_ms=milliseconds(close_timeout, "close_timeout"),
            grace_ms=milliseconds(grace, "grace"),
            max_reply_bytes=max_reply_bytes,
            max_request_bytes=max_request_bytes,
            connect_once=connect_once,
        )
        out, error = ffi.new("axon_simulator **"), new_error()
        check(lib.axon_simulator_open(out, c_string(address, "address"), options, error), error)
        super().__init__(out[0], ffi.string(lib.axon_simulator_address(out[0])).decode("utf-8", "replace"))
        self._usual_ms = self._current_ms = options.call_timeout_ms

    @property
    def address(self) -> str:
        """The server's, whole: "tcp://127.0.0.1:5555"."""
        return self._name

    def list_simulators(self, timeout: float | None = None) -> list[str]:
        """The names of the server's simulators; of a server of the document's age the one that it has."""
        return self._ask(lib.axon_simulator_list_simulators, timeout)  # type: ignore[no-any-return]

    def select_simulator(self, simulator: str, timeout: float | None = None) -> None:
        """Chooses the session's simulator, once.

        Raises:
            UnknownSimulator, SimulatorAlreadySelected.
        """
        name = c_string(simulator, "simulator")
        self._run(lib.axon_simulator_select, timeout, name)

    def list_tasks(self, suite: str | None = None, timeout: float | None = None) -> list[str]:
        """The names that load_task() takes.

        Args:
            suite: only those of this suite.
            timeout: seconds.

        Raises:
            NoSimulatorSelected.
        """
        name = ffi.NULL if suite is None else c_string(suite, "suite")
        return self._ask(lib.axon_simulator_list_tasks, timeout, name)  # type: ignore[no-any-return]

    def load_task(self, task_name: str, timeout: float | None = None) -> dict[str, Any]:
        """Prepares a task, in place of the one before.

        Returns:
            task_info: task_name, description, action_space (for each key of an action: shape, dtype, low, high),
            max_episode_steps.

        Raises:
            TaskNotFound, NoSimulatorSelected.
        """
        name = c_string(task_name, "task_name")
        return self._ask(lib.axon_simulator_load_task, timeout, name)  # type: ignore[no-any-return]

    def reset(self, timeout: float | None = None) -> dict[str, Any]:
        """Begins an episode.

        Returns:
            The first observation, arrays wherever they were nested; they are the caller's own, and writable.

        Raises:
            NoTaskLoaded, NoSimulatorSelected.
        """
        return self._ask(lib.axon_simulator_reset, timeout)  # type: ignore[no-any-return]

    def step(self, action: Mapping[str, Any], timeout: float | None = None) -> StepResult:
        """One step of the simulation.

        Args:
            action: an array, or a list of numbers, for each key of the task's action_space.
            timeout: seconds.

        Returns:
            (observation, reward, terminated, truncated, info); arrays as from reset().

        Raises:
            NotReset: before reset(), or after the episode ended; InvalidParams: an action that the task does not
            take; AxonValueError: one that does not travel, naming the key: nothing was sent.
        """
        if not isinstance(action, (dict, Mapping)):
            raise AxonTypeError(f"action: is {type(action).__name__}, not a dict")
        keep: list[Any] = []
        told = ffi.new(_OUTCOME)
        tree = write(action, "action", keep)
        try:
            self._run(lib.axb_step, timeout, tree, told)
            memory = Memory(told.message, told.length) if told.message else None
            return StepResult(*read(told, memory, lib.axb_fill_step, _read_branches))
        finally:
            lib.axb_end_step(tree, told)

    def get_info(self, timeout: float | None = None) -> dict[str, Any]:
        """backend_name, backend_version, current_task, action_space, observation_space; None for what is not known."""
        return self._ask(lib.axon_simulator_get_info, timeout)  # type: ignore[no-any-return]

    def disconnect(self, timeout: float | None = None) -> None:
        """Ends the session at the server. A later call begins another one, with nothing chosen."""
        self._run(lib.axon_simulator_disconnect, timeout)

    def call(
        self, method: str, fields: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """Asks for a method of the server's own.

        Args:
            method: its name.
            fields: what goes along in the request.
            timeout: seconds, as everywhere.

        Returns:
            The reply without its "status".
        """
        name, keep = c_string(method, "method"), []  # type: tuple[Any, list[Any]]
        tree = write(fields or {}, method, keep)
        try:
            return self._ask(lib.axon_simulator_call, timeout, name, tree)  # type: ignore[no-any-return]
        finally:
            lib.axon_value_free(tree)

    def timing(self) -> Timing:
        """Where the time of the last call that succeeded went, in ms."""
        told, error = ffi.new("axon_timing *"), new_error()
        pointer = self._begin(math.inf)
        try:
            status = lib.axon_simulator_timing(pointer, told, error)
        finally:
            self._end()
        check(status, error)
        return Timing(*[getattr(told, name) for name in Timing._fields])._replace(server_ms=None)

    def stats(self) -> SimulatorStats:
        """The session's counters, and how long its last steps took. Waits for a call that is under way."""
        told, error = ffi.new("axon_simulator_stats *"), new_error()
        pointer = self._begin(math.inf)
        try:
            status = lib.axon_simulator_get_stats(pointer, told, error)
        finally:
            self._end()
        check(status, error)
        found = {name: getattr(told, name) for name in SimulatorStats._fields}
        found["step"] = Percentiles(*[getattr(told.step, field) for field in Percentiles._fields])
        return SimulatorStats(**found)

    def _ask(self, function: Callable[..., int], timeout: float | None, *arguments: Any) -> Any:
        """Makes a call that hands a tree over, as Python objects."""
        out = ffi.new(_TREE)
        try:
            self._run(function, timeout, *arguments, out)
            return read(out[0], _message_of(out[0]))
        finally:
            lib.axon_value_free(out[0])

    def _run(self, function: Callable[..., int], timeout: float | None, *arguments: Any) -> None:
        """Makes one call and raises what it says."""
        timeout_ms = self._usual_ms if timeout is None else milliseconds(timeout, "timeout")
        error = new_error()
        pointer = self._begin(timeout_ms / 1000 or math.inf)
        try:
            if timeout_ms != self._current_ms:
                check(lib.axon_simulator_set_timeout(pointer, timeout_ms, error), error)
                self._current_ms = timeout_ms
            status = function(pointer, *arguments, error)
            if status == lib.AXON_ESERVER:
                raise _server_error(pointer, error)
        finally:
            self._end()
        check(status, error)


def _server_error(pointer: Any, error: Any) -> Exception:
    message = lib.axon_simulator_server_error(pointer)
    exception = simulator_error(
        ffi.string(lib.axon_simulator_error_type(pointer)).decode("utf-8", "replace"),
        "" if message == ffi.NULL else ffi.string(message).decode("utf-8", "replace"),
        ffi.string(error.message).decode("utf-8", "replace"),
    )
    exception.status = lib.AXON_ESERVER
    return exception
