"""Policy servers: `PolicyServer` hosts a Python policy. openpi/server.py and webpolicy/server.py are thin over it."""

from __future__ import annotations

import inspect
import logging
import threading
import traceback
from typing import Any, Callable, Mapping, NamedTuple

from service_clients._axon._ffi import check, failure, ffi, lib, new_error, raise_pending
from service_clients._axon.base_policy import act_of
from service_clients._axon.errors import AxonTypeError, AxonValueError
from service_clients._axon.options import fill, listening_port, milliseconds
from service_clients._axon.values import Memory, read, write

__all__ = ["PolicyServer", "ServerStats"]

_LOGGER = logging.getLogger(__name__)
_REQUEST = ffi.typeof("axb_request *")


class ServerStats(NamedTuple):
    """What a server has counted since it listens."""

    connections: int  #: clients that are connected now
    accepted: int  #: clients that ever were
    refused: int  #: too many, without the key, silent for too long, or no WebSocket clients
    requests: int  #: handed to the policy
    failed: int  #: answered with an error, those that could not be read included
    abandoned: int  #: whose client was gone before the answer


class PolicyServer:
    """Hosts a policy for WebSocket clients: openpi's, webpolicy's and axon's.

    The network has a thread of its own in C: pings and `GET /healthz` are answered while the policy works, or while
    Python is busy. The policy is called on the thread that is in serve_forever(), one observation at a time.

    An observation is the policy's own: its arrays may be written to and kept. Those of 64 KiB and more stay where the
    message lies, whose memory goes with the last of them: keep a copy of one if the others are large and are not kept.
    """

    def __init__(
        self,
        policy: Any,
        host: str = "127.0.0.1",
        port: int | None = 8000,
        metadata: Mapping[str, Any] | None = None,
        *,
        api_key: str | None = None,
        max_connections: int | None = None,
        max_message_bytes: int | None = None,
        max_memory_bytes: int | None = None,
        ping_interval: float | None = None,
        dead_after: float | None = None,
        stop_timeout: float | None = None,
    ) -> None:
        """Prepares a server; it listens from start() or serve_forever() on.

        Args:
            policy: has `infer(obs)` or `step(obs)`, which return a dict, and may have `reset()`.
            host: what to listen on; the default is this machine alone, "0.0.0.0" every network.
            port: None is 8000; 0 is one that is free, see `port`.
            metadata: what every client is told first.
            api_key: clients must send "Authorization: Api-Key <api_key>"; default none is needed.
            max_connections: more clients are refused with HTTP 503; default 256.
            max_message_bytes: a longer observation ends its client's connection; default 64 MiB.
            max_memory_bytes: of all messages on their way together; default 1 GiB.
            ping_interval: seconds between pings to a silent client; default 20.
            dead_after: seconds after which a client whose machine acknowledges nothing is gone; default 60.
            stop_timeout: seconds that requests under way have when the server is stopped; default 5.

        Raises:
            AxonTypeError, AxonValueError: an argument that cannot be, naming it.
        """
        try:
            self._act: Callable[[dict[str, Any]], dict[str, Any]] = act_of(policy)
        except TypeError as error:
            raise AxonTypeError(str(error)) from None
        if metadata is not None and not isinstance(metadata, Mapping):
            raise AxonTypeError(f"metadata is {type(metadata).__name__}, not a dict")
        self._reset = getattr(policy, "reset", None)
        self._metadata = dict(metadata or {})
        self._options, self._keep = fill(
            "axon_server_options",
            host=host,
            port=listening_port(port),
            api_key=api_key,
            max_connections=max_connections,
            max_message_bytes=max_message_bytes,
            max_memory_bytes=max_memory_bytes,
            ping_interval_ms=milliseconds(ping_interval, "ping_interval"),
            dead_after_ms=milliseconds(dead_after, "dead_after"),
            stop_timeout_ms=milliseconds(stop_timeout, "stop_timeout"),
        )
        self._pointer: Any = None
        self._gate = threading.RLock()  # keeps _pointer alive while stop() uses it
        self._is_stopped = False

    @property
    def url(self) -> str:
        """Where it listens: "ws://127.0.0.1:8000".

        Raises:
            AxonValueError: it does not, yet or any more.
        """
        with self._gate:
            return ffi.string(lib.axon_server_url(self._listening())).decode()  # type: ignore[no-any-return]

    @property
    def port(self) -> int:
        """The port that it listens on; raises as `url`."""
        with self._gate:
            return int(lib.axon_server_port(self._listening()))

    def stats(self) -> ServerStats:
        """What was counted; raises as `url`."""
        with self._gate:
            told, error = ffi.new("axon_server_stats *"), new_error()
            check(lib.axon_server_get_stats(self._listening(), told, error), error)
        return ServerStats(*[int(getattr(told, name)) for name in ServerStats._fields])

    def start(self) -> None:
        """Listens. Clients may connect from now on; they are answered by serve_forever().

        Raises:
            AxonFileError: the address cannot be listened on.
        """
        with self._gate:
            if self._pointer is not None:
                return
            keep: list[Any] = []
            out, error = ffi.new("axon_server **"), new_error()
            tree = write(self._metadata, "metadata", keep)
            try:
                check(lib.axon_server_open(out, tree, self._options, error), error)
            finally:
                lib.axon_value_free(tree)
            self._pointer = out[0]
            _LOGGER.info("Serving on %s", self.url)
            if self._is_stopped:
                lib.axon_server_stop(self._pointer)

    def serve_forever(self) -> None:
        """Listens and answers, until stop() is called or an exception that is no Exception (Ctrl-C) comes through.

        What the policy raises goes to the client as a traceback; the server goes on.
        """
        self.start()
        pointer, out, error = self._pointer, ffi.new("axon_request **"), new_error()
        try:
            while True:
                status = lib.axon_server_next(pointer, lib.AXON_FOREVER, out, error)
                if status == lib.AXON_ECANCELED:
                    raise_pending()
                    return
                check(status, error)
                self._answer(out[0])
        finally:
            self.close()

    async def run(self) -> None:
        """serve_forever() for an event loop, which goes on meanwhile: the policy is called on another thread.

        Cancelling it is stop(); it ends when the server has.
        """
        import asyncio  # what calls this has it; the sandbox of the clients beside this lets nobody in with it

        serving = asyncio.get_running_loop().run_in_executor(None, self.serve_forever)
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self.stop()
            await asyncio.wait([serving])
            raise

    def stop(self) -> None:
        """Lets the request that is under way be answered, says goodbye to every client and ends serve_forever().

        Any thread; does not wait.
        """
        with self._gate:
            self._is_stopped = True
            if self._pointer is not None:
                lib.axon_server_stop(self._pointer)

    def close(self) -> None:
        """Stops, and frees what the server had. serve_forever() does it at its end; may be repeated."""
        with self._gate:
            pointer, self._pointer = self._pointer, None
            self._is_stopped = False
        if pointer is not None:
            lib.axon_server_close(pointer)

    def _listening(self) -> Any:
        if self._pointer is None:
            raise AxonValueError("the server does not listen: start() has not been called, or it was stopped")
        return self._pointer

    def _answer(self, request: Any) -> None:
        """Answers one request, whatever happens on the way."""
        try:
            keep: list[Any] = []
            tree = self._make_reply(request, keep)
        except BaseException as problem:
            text = traceback.format_exc()
            client = ffi.string(lib.axon_request_get_client(request)).decode()
            lib.axon_request_fail(request, text.replace("\0", "?").encode("utf-8", "replace"), ffi.NULL)
            if not isinstance(problem, Exception):
                raise
            _LOGGER.exception("Request of %s failed", client)
            return
        error = new_error()
        try:
            status = lib.axon_request_reply(request, tree, error)
        finally:
            lib.axon_value_free(tree)
        if status != lib.AXON_OK:
            _LOGGER.warning("%s", failure(status, error))

    def _make_reply(self, request: Any, keep: list[Any]) -> Any:
        """The reply's tree, the caller's; NULL to a reset."""
        opened = ffi.new(_REQUEST)
        lib.axb_open_request(request, opened)
        value, memory = opened.value, Memory(opened.message, opened.length)
        if opened.is_reset:
            self._do_reset({} if value == ffi.NULL else read(value, memory))
            return ffi.NULL
        reply = self._act(read(value, memory))
        if type(reply) is not dict and not isinstance(reply, Mapping):
            raise AxonTypeError(f"the policy returned {type(reply).__name__}, not a dict")
        return write(reply, "action", keep)

    def _do_reset(self, payload: dict[str, Any]) -> None:
        """Resets the policy, with the payload when there is one and the policy takes one."""
        if self._reset is None:
            return
        if payload and _takes_one(self._reset):
            self._reset(payload)
        else:
            self._reset()


def _takes_one(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError):
        return False
    return True
