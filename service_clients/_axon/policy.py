"""Policy servers: `Policy` is one session with one server."""

from __future__ import annotations

import math
from typing import Any, Callable, Mapping

from service_clients._axon._ffi import check, failure, ffi, lib, looking_up, new_error
from service_clients._axon.errors import AxonServerError, AxonTypeError
from service_clients._axon.handle import Handle
from service_clients._axon.options import c_string, fill, milliseconds
from service_clients._axon.values import read, write

__all__ = ["Policy"]


class Policy(Handle):
    """A session with a policy server that speaks msgpack over WebSocket, as openpi's do.

    Threads may share it: they take turns. It is a context manager. It does not survive a fork: in the child
    only close() is allowed.
    """

    _C_CANCEL = lib.axon_policy_cancel
    _C_CLOSE = lib.axon_policy_close

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        ca_file: str | None = None,
        connect_timeout: float | None = None,
        infer_timeout: float | None = None,
        close_timeout: float | None = None,
        max_reply_bytes: int | None = None,
        max_request_bytes: int | None = None,
        connect_once: bool = False,
        tls_insecure: bool = False,
        while_connecting: Callable[[], None] | None = None,
    ) -> None:
        """Connects and waits for the server's metadata.

        Args:
            url: "ws://host:port/path", "wss://...", or "host" or "host:port" (ws; port 8000 when none is
                named; IPv6 in brackets).
            api_key: sent as "Authorization: Api-Key <api_key>".
            ca_file: PEM of the authorities to trust for wss; default the system's.
            connect_timeout: seconds until the metadata is here, a refused connection being tried again until
                then; default 10. Here and below: math.inf waits for ever.
            infer_timeout: seconds for one whole round trip; default 60.
            close_timeout: seconds that close() waits for the server's answer; default 1.
            max_reply_bytes: a longer reply is AxonTooBig; default 64 MiB.
            max_request_bytes: a longer observation is AxonTooBig, unsent; default 1 GiB.
            connect_once: a refused connection fails at once.
            tls_insecure: accept any certificate.
            while_connecting: called about four times a second during the wait; raising ends it.

        Raises:
            AxonConnectionError, AxonTimeout, AxonAuthError, AxonProtocolError, AxonServerError, AxonCanceled;
            AxonValueError: a URL or option that cannot be, naming it.
        """
        options, _keep = fill(
            "axon_policy_options",
            api_key=api_key,
            ca_file=ca_file,
            connect_timeout_ms=milliseconds(connect_timeout, "connect_timeout"),
            infer_timeout_ms=milliseconds(infer_timeout, "infer_timeout"),
            close_timeout_ms=milliseconds(close_timeout, "close_timeout"),
            max_reply_bytes=max_reply_bytes,
            max_request_bytes=max_request_bytes,
            connect_once=connect_once,
            tls_insecure=tls_insecure,
        )
        out, error = ffi.new("axon_policy **"), new_error()
        with looking_up(while_connecting):
            status = lib.axon_policy_open(out, c_string(url, "url"), options, error)
        check(status, error)
        super().__init__(out[0], ffi.string(lib.axon_policy_url(out[0])).decode())
        self._usual_ms = self._current_ms = options.infer_timeout_ms
        self._metadata = read(lib.axon_policy_metadata(out[0]))

    @property
    def url(self) -> str:
        """The URL that is connected to, whole."""
        return self._name

    @property
    def metadata(self) -> Any:
        """What the server said of itself when the session began, in practice a dict."""
        return self._metadata

    def infer(self, observation: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Sends one observation and waits for its actions.

        Args:
            observation: str keys; arrays, numbers, str, bytes, lists and dicts of these. Not copied: arrays must
                not change during the call.
            timeout: seconds for this round trip; default what the session was opened with.

        Returns:
            The reply: for openpi `actions`, float (horizon, dim), and `server_timing`. Arrays are the caller's own.

        Raises:
            AxonValueError: an observation that does not travel, naming the key and the reason; nothing was sent.
            AxonServerError: the server failed; `.traceback` is what it sent.
            AxonTimeout, AxonCanceled: the session is over, so that a late reply is never taken for a later one's.
            AxonConnectionError, AxonProtocolError: the session is over.
            AxonTooBig: the observation (nothing was sent) or the reply passes its limit.
        """
        timeout_ms = milliseconds(timeout, "timeout") or self._usual_ms
        if not isinstance(observation, Mapping):
            raise AxonTypeError(f"observation: is {type(observation).__name__}, not a dict")
        keep: list[Any] = []
        out, error = ffi.new("axon_value **"), new_error()
        tree = write(observation, "observation", keep)
        try:
            policy = self._begin(timeout_ms / 1000 or math.inf)
            try:
                self._set_timeout(policy, timeout_ms)
                status = lib.axon_policy_infer(policy, tree, out, error)
                if status == lib.AXON_ESERVER:
                    raise _server_error(policy, error)
            finally:
                self._end()
        finally:
            lib.axon_value_free(tree)
        check(status, error)
        try:
            return read(out[0])  # type: ignore[no-any-return]
        finally:
            lib.axon_value_free(out[0])

    def _set_timeout(self, policy: Any, timeout_ms: int) -> None:
        if timeout_ms != self._current_ms:
            error = new_error()
            check(lib.axon_policy_set_infer_timeout(policy, timeout_ms, error), error)
            self._current_ms = timeout_ms


def _server_error(policy: Any, error: Any) -> Exception:
    exception = failure(lib.AXON_ESERVER, error)
    text = lib.axon_policy_server_error(policy)
    if isinstance(exception, AxonServerError) and text != ffi.NULL:
        exception.traceback = ffi.string(text).decode("utf-8", "replace")
    return exception
