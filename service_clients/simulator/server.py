"""
simulator - simulator server

Hosts simulators for robots' programs and for evaluation: sessions side by side, a simulator and a thread for each.

Usage:
    from service_clients.simulator.backends.tabletop import TabletopBackend
    from service_clients.simulator.server import SimulatorServer

    with SimulatorServer({"tabletop": TabletopBackend}, port=5555) as server:
        print(server.address)
        server.serve_forever()

or, with every backend that can be imported here:

    python -m service_clients.simulator.server --port 5555

A backend is one class with six methods: service_clients/simulator/backend.py, and docs/adding_a_simulator.md. The server
checks requests before a backend sees them, answers every error in the protocol's envelope, and writes tracebacks to its
log (`logging`), never to a client.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import signal
import sys
import threading
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from service_clients._axon._ffi import check, failure, ffi, lib, new_error, raise_pending
from service_clients._axon.errors import AxonTypeError, AxonValueError
from service_clients._axon.options import fill, listening_port, milliseconds
from service_clients._axon.values import read, write
from service_clients.simulator.actions import ActionSpace
from service_clients.simulator.backend import (
    Backend,
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

__all__ = ["SimulatorServer", "main"]

_LOGGER = logging.getLogger(__name__)

Factory = Callable[[], Backend]


class SimulatorStats(NamedTuple):
    """A server's counters; axon/simulator_server.h says what each counts."""

    sessions: int
    accepted: int
    refused: int
    reaped: int
    requests: int
    failed: int
    discarded: int
    abandoned: int


class SimulatorServer:
    """Hosts simulators for ZeroMQ clients: axon's, and any other that speaks the protocol.

    Each session has a thread, on which its requests are read, its backend is made, called and disconnected, and its
    replies are written: what a simulator ties to a thread (an OpenGL context) works. A session ends with its client's
    connection, unless the client gave itself a name to come back under, and when it was idle for `idle_timeout`.
    """

    def __init__(
        self,
        simulators: Mapping[str, Factory],
        host: str = "127.0.0.1",
        port: int | None = 5555,
        *,
        selected: str | None = None,
        max_sessions: int | None = None,
        idle_timeout: float | None = None,
        max_message_bytes: int | None = None,
        max_memory_bytes: int | None = None,
        stop_timeout: float | None = None,
    ) -> None:
        """Prepares a server; it listens from start() or serve_forever() on.

        Args:
            simulators: what makes a Backend for a session, by the name that select_simulator takes.
            host: what to listen on; the default is this machine alone, "0.0.0.0" every network.
            port: None is 5555; 0 is one that is free, see `port`.
            selected: the simulator that sessions begin with, for clients that do not know select_simulator; by
                default they begin with none.
            max_sessions: one more is answered internal_error; default 64.
            idle_timeout: seconds after which a session that is asked nothing ends; default 300; math.inf never.
            max_message_bytes: a longer request is answered invalid_params; default 64 MiB.
            max_memory_bytes: of all requests that wait together; one more is answered internal_error; default 256 MiB.
            stop_timeout: seconds that steps under way have when the server is stopped; default 5.

        Raises:
            AxonTypeError, AxonValueError: an argument that cannot be, naming it.
        """
        if not simulators:
            raise AxonValueError("simulators is empty")
        for name, factory in simulators.items():
            if not isinstance(name, str) or not callable(factory):
                raise AxonTypeError(f"simulators: {name!r:.80} is no name of a callable")
        if selected is not None and selected not in simulators:
            raise AxonValueError(f"selected is {selected!r:.80}, not one of {', '.join(simulators)}")
        self._simulators = dict(simulators)
        self._selected = selected
        self._options, self._keep = fill(
            "axon_simulator_server_options",
            host=host,
            port=listening_port(port),
            max_sessions=max_sessions,
            idle_timeout_ms=milliseconds(idle_timeout, "idle_timeout"),
            max_message_bytes=max_message_bytes,
            max_memory_bytes=max_memory_bytes,
            stop_timeout_ms=milliseconds(stop_timeout, "stop_timeout"),
        )
        self._pointer: Any = None
        self._gate = threading.RLock()  # keeps _pointer alive while stop() uses it
        self._accepting: threading.Thread | None = None
        self._ended = threading.Event()  # of `_accepting`

    @property
    def address(self) -> str:
        """Where it listens: "tcp://127.0.0.1:5555".

        Raises:
            AxonValueError: it does not, yet or any more.
        """
        with self._gate:
            return ffi.string(lib.axon_simulator_server_address(self._listening())).decode()  # type: ignore[no-any-return]

    @property
    def port(self) -> int:
        """The port that it listens on; raises as `address`."""
        with self._gate:
            return int(lib.axon_simulator_server_port(self._listening()))

    def start(self) -> None:
        """Listens and serves, on threads of its own, until stop().

        Raises:
            AxonFileError: the address cannot be listened on.
        """
        with self._gate:
            if self._pointer is not None:
                return
            out, error = ffi.new("axon_simulator_server **"), new_error()
            check(lib.axon_simulator_server_open(out, self._options, error), error)
            self._pointer = out[0]
            _LOGGER.info("Serving %s on %s", ", ".join(self._simulators), self.address)
            ended = threading.Event()
            accepting = threading.Thread(
                target=self._accept, args=(out[0], ended), daemon=True, name="accept"
            )
            accepting.start()
            self._accepting, self._ended = accepting, ended

    def serve_forever(self) -> None:
        """Serves until another thread calls stop(), or an exception (Ctrl-C) comes through."""
        self.start()
        # Not Thread.join(): before Python 3.13, one that Ctrl-C interrupts takes the thread for ended.
        ended = self._ended
        try:
            while not ended.wait(0.25):  # another thread may have got the signal
                pass
        finally:
            self.stop()

    def stop(self) -> None:
        """Lets steps that are under way be answered, for as long as stop_timeout says, and ends all sessions."""
        with self._gate:
            pointer, self._pointer = self._pointer, None
            accepting, self._accepting = self._accepting, None
            if pointer is not None:
                lib.axon_simulator_server_stop(pointer)
        if pointer is None:
            return
        if accepting is not None:
            accepting.join()
        lib.axon_simulator_server_close(pointer)

    def stats(self) -> SimulatorStats:
        """Its counters; raises as `address`."""
        told, error = ffi.new("axon_simulator_server_stats *"), new_error()
        with self._gate:
            check(lib.axon_simulator_server_get_stats(self._listening(), told, error), error)
        return SimulatorStats(*[getattr(told, name) for name in SimulatorStats._fields])

    def __enter__(self) -> SimulatorServer:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _listening(self) -> Any:
        if self._pointer is None:
            raise AxonValueError("the server does not listen: start() has not been called, or it was stopped")
        return self._pointer

    def _accept(self, server: Any, ended: threading.Event) -> None:
        """Gives every session a thread, until the server is stopped."""
        try:
            self._accept_all(server)
        finally:
            ended.set()

    def _accept_all(self, server: Any) -> None:
        out, error = ffi.new("axon_simulator_session **"), new_error()
        while True:
            status = lib.axon_simulator_server_accept(server, lib.AXON_FOREVER, out, error)
            if status != lib.AXON_OK:
                if status != lib.AXON_ECANCELED:
                    _LOGGER.error("No more sessions: %s", failure(status, error))
                return
            hosted = _Hosted(out[0], self._simulators, self._selected)
            threading.Thread(target=hosted.run, daemon=True, name=hosted.name).start()


# ---- one session -----------------------------------------------------------------------------------------


class _Hosted:
    """One session on its thread: fetches requests, and sends what `_Session` answers."""

    def __init__(self, pointer: Any, simulators: Mapping[str, Factory], selected: str | None) -> None:
        self._pointer = pointer
        self.name = ffi.string(lib.axon_simulator_session_name(pointer)).decode()
        self._session = _Session(simulators, selected, self.name)
        self._error = new_error()

    def run(self) -> None:
        """Serves the session to its end."""
        out, error = ffi.new("axon_simulator_request **"), self._error
        try:
            while not self._session.is_over:
                status = lib.axon_simulator_session_next(self._pointer, lib.AXON_FOREVER, out, error)
                if status != lib.AXON_OK:
                    _LOGGER.info("%s", failure(status, error))
                    return
                self._answer(out[0])
        except Exception:
            _LOGGER.exception("%s failed", self.name)
        finally:
            self._session.end()
            lib.axon_simulator_session_close(self._pointer)

    def _answer(self, request: Any) -> None:
        """Answers one request, whatever happens on the way."""
        method, keep = "a request", []  # type: tuple[str, list[Any]]
        try:
            fields = read(lib.axon_simulator_request_fields(request))
            method = _method_of(request, fields)
            reply = self._session.answer(method, fields)
            tree = write(reply, method, keep)
        except SimulatorError as error:
            _fail(request, error)
            return
        except (AxonValueError, MemoryError) as error:  # what the backend gave does not travel
            _LOGGER.warning("%s: %s: %s", self.name, method, error)
            _fail(request, BackendError(str(error)))
            return
        except BaseException as error:
            _LOGGER.exception("%s: %s failed", self.name, method)
            _fail(request, InternalError(_in_words(error)))
            return
        told = self._error
        status = lib.axb_reply(request, tree, told)
        if status != lib.AXON_OK:
            level = (
                logging.INFO if method == "disconnect" else logging.WARNING
            )  # some do not wait for that answer
            _LOGGER.log(level, "%s: %s: %s", self.name, method, failure(status, told))


def _method_of(request: Any, fields: dict[str, Any]) -> str:
    method = fields.get("method")
    if isinstance(method, str):
        return method
    return ffi.string(lib.axon_simulator_request_method(request)).decode()  # type: ignore[no-any-return]  # its key was bytes


def _fail(request: Any, error: SimulatorError) -> None:
    kind, text = (_plain(words) for words in (error.error_type, error.message))
    lib.axon_simulator_request_fail(request, kind, text, ffi.NULL)


def _plain(words: str) -> bytes:
    return words.replace("\0", "?").encode("utf-8", "replace")


def _in_words(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Session:
    """The protocol's state: which simulator, which task, whether an episode is under way."""

    def __init__(self, simulators: Mapping[str, Factory], selected: str | None, name: str) -> None:
        self._simulators = simulators
        self._begins_with = selected
        self._name = name
        self._selected = ""
        self._backend: Backend | None = None
        self._task: dict[str, Any] | None = None
        self._space: ActionSpace | None = None
        self._is_reset = False
        self._steps = 0
        self.is_over = False

    def answer(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """What the reply to a request holds, besides its status.

        Raises:
            SimulatorError: what the reply says instead.
        """
        handler = _METHODS.get(method)
        if handler is None:
            raise UnknownMethod(f"there is no method {method!r:.80}; there are {', '.join(_METHODS)}")
        if self._backend is None and self._begins_with is not None and method not in _WITHOUT_SIMULATOR:
            self._make(self._begins_with)
        return handler(self, request)

    def end(self) -> None:
        """Lets the backend go."""
        backend, self._backend = self._backend, None
        if backend is not None:
            try:
                backend.disconnect()
            except Exception:
                _LOGGER.exception("%s: disconnect of %s failed", self._name, self._selected)

    # ---- the methods

    def _list_simulators(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {"simulators": list(self._simulators)}

    def _select_simulator(self, request: dict[str, Any]) -> dict[str, Any]:
        name = _text(request, "simulator")
        if self._selected:
            raise SimulatorAlreadySelected(
                f"the session has {self._selected!r}; another one takes another session"
            )
        if name not in self._simulators:
            raise UnknownSimulator(f"there is no {name!r:.80}; there are {', '.join(self._simulators)}")
        self._make(name)
        return {"simulator": name}

    def _list_tasks(self, request: dict[str, Any]) -> dict[str, Any]:
        suite = request.get("suite")
        if suite is not None and not isinstance(suite, str):
            raise InvalidParams(f"suite: is {type(suite).__name__}, not a text")
        return {"tasks": [str(task) for task in self._call("list_tasks", suite)]}

    def _load_task(self, request: dict[str, Any]) -> dict[str, Any]:
        backend, name = self._backend_now(), _text(request, "task_name")
        before, self._task = self._task, None
        was_reset, self._is_reset = self._is_reset, False
        try:
            info = self._call("load_task", name)
        except (TaskNotFound, InvalidParams):
            self._task, self._is_reset = before, was_reset
            raise
        if not isinstance(info, Mapping):
            raise BackendError(
                f"load_task of {backend.name or self._selected} gave {type(info).__name__}, not a dict"
            )
        info = {"task_name": name, **info}
        described = info.get("action_space")
        try:
            self._space = ActionSpace(described) if described else None
        except (TypeError, ValueError, AttributeError) as error:
            raise BackendError(f"action_space of {name!r:.80}: {_in_words(error)}") from error
        self._task = info
        return {"task_info": info}

    def _reset(self, _request: dict[str, Any]) -> dict[str, Any]:
        self._backend_now()
        self._task_now()
        self._is_reset = False
        observation = _mapping(self._call("reset"), "reset")
        self._is_reset, self._steps = True, 0
        return {"observation": observation}

    def _step(self, request: dict[str, Any]) -> dict[str, Any]:
        self._backend_now()
        task = self._task_now()
        if not self._is_reset:
            raise NotReset("no episode is under way: call reset first")
        if "action" not in request:
            raise InvalidParams("action: is missing")
        action = request["action"]
        if self._space is not None:
            action = self._space.normalise(action)
        elif not isinstance(action, (dict, Mapping)):
            raise InvalidParams(f"action: is {type(action).__name__}, not a map")
        try:
            observation, reward, terminated, truncated, info = self._call("step", action)
            step = {
                "observation": _mapping(observation, "step"),
                "reward": float(reward),
                "terminated": bool(terminated),
                "truncated": bool(truncated),
                "info": dict(info or {}),
            }
        except InvalidParams:
            raise
        except (TypeError, ValueError) as error:
            self._is_reset = False
            raise BackendError(
                f"step gave no (observation, reward, terminated, truncated, info): {error}"
            ) from error
        except SimulatorError:
            self._is_reset = False
            raise
        self._steps += 1
        most = task.get("max_episode_steps")
        if isinstance(most, int) and 0 < most <= self._steps and not step["terminated"]:
            step["truncated"] = True
        self._is_reset = not (step["terminated"] or step["truncated"])
        return step

    def _get_info(self, _request: dict[str, Any]) -> dict[str, Any]:
        backend, task = self._backend_now(), self._task or {}
        return {
            "backend_name": backend.name or self._selected,
            "backend_version": backend.version,
            "current_task": task.get("task_name"),
            "action_space": task.get("action_space"),
            "observation_space": task.get("observation_space"),
            **self._call("get_info"),
        }

    def _disconnect(self, _request: dict[str, Any]) -> dict[str, Any]:
        self.end()
        self.is_over = True
        return {}

    # ---- the backend

    def _make(self, name: str) -> None:
        try:
            backend = self._simulators[name]()
        except Exception as error:
            raise self._failed(f"simulator {name}", error) from error
        self._backend, self._selected = backend, name

    def _backend_now(self) -> Backend:
        if self._backend is None:
            raise NoSimulatorSelected("call select_simulator first; list_simulators has the names")
        return self._backend

    def _task_now(self) -> dict[str, Any]:
        if self._task is None:
            raise NoTaskLoaded("call load_task first; list_tasks has the names")
        return self._task

    def _call(self, method: str, *arguments: Any) -> Any:
        """Calls the backend; what it raises comes out as a SimulatorError."""
        try:
            return getattr(self._backend_now(), method)(*arguments)
        except SimulatorError:
            raise
        except Exception as error:
            raise self._failed(method, error) from error

    def _failed(self, what: str, error: Exception) -> SimulatorError:
        if isinstance(error, SimulatorError):
            return error
        _LOGGER.exception("%s: %s failed", self._name, what)
        return BackendError(_in_words(error))


_METHODS: dict[str, Callable[[_Session, dict[str, Any]], dict[str, Any]]] = {
    "list_simulators": _Session._list_simulators,
    "select_simulator": _Session._select_simulator,
    "list_tasks": _Session._list_tasks,
    "load_task": _Session._load_task,
    "reset": _Session._reset,
    "step": _Session._step,
    "get_info": _Session._get_info,
    "disconnect": _Session._disconnect,
}
_WITHOUT_SIMULATOR = ("list_simulators", "select_simulator", "disconnect")


def _text(request: dict[str, Any], key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str):
        raise InvalidParams(
            f"{key}: is {type(value).__name__}, not a text" if key in request else f"{key}: is missing"
        )
    return value


def _mapping(value: Any, method: str) -> Mapping[str, Any]:
    if not isinstance(value, (dict, Mapping)):
        raise BackendError(f"{method} gave an observation that is {type(value).__name__}, not a dict")
    return value


# ---- as a program ----------------------------------------------------------------------------------------

# Where the backends are, what they need besides numpy, and how that is installed.
_BACKENDS = {
    "tabletop": ("service_clients.simulator.backends.tabletop", "TabletopBackend"),
    "gymnasium": ("service_clients.simulator.backends.gymnasium", "GymnasiumBackend"),
    "robosuite": ("service_clients.simulator.backends.robosuite", "RobosuiteBackend"),
}


def _find(name: str) -> Factory:
    """The backend of a name, or of "module:Class".

    Raises:
        ImportError: it, or what it stands on, is not installed.
        AxonValueError: there is none of that name.
    """
    if ":" not in name and name not in _BACKENDS:
        raise AxonValueError(f"there is no simulator {name!r:.80}; there are {', '.join(_BACKENDS)}")
    module, _, attribute = (
        name.partition(":") if ":" in name else (_BACKENDS[name][0], "", _BACKENDS[name][1])
    )
    factory: Factory = getattr(importlib.import_module(module), attribute)
    return factory


def _find_all() -> dict[str, Factory]:
    found = {}
    for name in _BACKENDS:
        try:
            found[name] = _find(name)
        except ImportError as error:
            _LOGGER.info("No %s: %s", name, error)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service_clients.simulator.server",
        description="Hosts simulators over ZeroMQ (Simulator Inference Center).",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="what to listen on; 0.0.0.0 is every network (%(default)s)"
    )
    parser.add_argument("--port", type=int, default=5555, help="0 is one that is free (%(default)s)")
    parser.add_argument(
        "--simulator",
        action="append",
        metavar="NAME",
        help=f"{', '.join(_BACKENDS)}, or module:Class of a Backend; may be given several times; "
        "default those whose libraries are installed",
    )
    parser.add_argument(
        "--select",
        metavar="NAME",
        help="the simulator of clients that do not know select_simulator; default none",
    )
    parser.add_argument("--max-sessions", type=int, help="at the same time (64)")
    parser.add_argument("--idle-timeout", type=float, help="seconds after which a silent session ends (300)")
    parser.add_argument("--verbose", action="store_true", help="log sessions, too")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server until it is told to stop (Ctrl-C, SIGTERM)."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO if parsed.verbose else logging.WARNING)
    try:
        named = parsed.simulator
        simulators = {name: _find(name) for name in named} if named else _find_all()
        server = SimulatorServer(
            simulators,
            parsed.host,
            parsed.port,
            selected=parsed.select,
            max_sessions=parsed.max_sessions,
            idle_timeout=parsed.idle_timeout,
        )
        server.start()
    except (ImportError, AttributeError, RuntimeError) as error:
        print(f"simulator server: {error}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"Serving {', '.join(simulators)} on {server.address}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    raise_pending()
    return 0


if __name__ == "__main__":
    sys.exit(main())
