"""Policy servers: `Policy` is one session with one server, or with the first of several that is there."""

from __future__ import annotations

import math
from typing import Any, Callable, Mapping, Sequence

from service_clients._axon._ffi import check, failure, ffi, lib, looking_up, new_error
from service_clients._axon.errors import AxonServerError, AxonTypeError
from service_clients._axon.handle import Handle
from service_clients._axon.options import c_string, fill, milliseconds, one_of, strings
from service_clients._axon.reply import PARTS, Percentiles, PolicyStats, Reply
from service_clients._axon.values import read, write

__all__ = ["Policy"]

_TIMING = ffi.typeof("axon_timing *")


def _words(enum: str, prefix: str) -> dict[str, int]:
    """The members of an enum by what is left of their names: "openpi", "vllm-omni"."""
    members = sorted(ffi.typeof(enum).elements.items())
    return {name[len(prefix) :].lower().replace("_", "-"): value for value, name in members}


_DIALECTS = {name.replace("dialect-", ""): value for name, value in _words("axon_dialect", "AXON_").items()}
_DIALECT_NAMES = {value: name for name, value in _DIALECTS.items()}
_CODECS = _words("axon_compress", "AXON_COMPRESS_")


class Policy(Handle):
    """A session with a policy server: one observation out, its own reply back, whatever happens in between.

    A call whose deadline passed, or that was cancelled (Ctrl-C included), fails; its late reply is discarded when it
    comes and never returned to a later call. A lost connection is opened again by the next call. So the session
    stays usable after every error, until close().

    Threads may share it: they take turns. It is a context manager. It does not survive a fork: in the child
    only close() is allowed.
    """

    _C_CANCEL = lib.axon_policy_cancel
    _C_CLOSE = lib.axon_policy_close

    def __init__(
        self,
        url: str,
        *,
        hosts: Sequence[str] | None = None,
        dialect: str = "auto",
        api_key: str | None = None,
        ca_file: str | None = None,
        connect_timeout: float | None = None,
        infer_timeout: float | None = None,
        close_timeout: float | None = None,
        grace: float | None = None,
        reconnect: bool = True,
        resend: bool = False,
        metadata_may_change: bool = False,
        compress: str | None = None,
        record: str | None = None,
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
            hosts: more addresses, in the same forms, of servers of the same policy: tried in order when `url`
                cannot be reached, and after the last one `url` again.
            dialect: how the server is spoken to: "openpi", "webpolicy", "roboarena", "vllm-omni"; "auto" goes by
                the URL's path and the server's metadata, and is openpi when they do not tell.
            api_key: sent as "Authorization: Api-Key <api_key>".
            ca_file: PEM of the authorities to trust for wss; default the system's.
            connect_timeout: seconds until the metadata is here, a refused connection being tried again until
                then; default 10. Here and below: math.inf waits for ever.
            infer_timeout: seconds for one whole call, a reconnect in it included; default 60.
            close_timeout: seconds that close() waits for the server's answer; default 1.
            grace: seconds after its deadline that a late reply is waited for, by the calls that follow, before
                the connection is replaced; default 10.
            reconnect: False: a lost connection stays lost, calls are AxonConnectionError.
            resend: an observation whose connection broke before any byte of its reply came is sent once more
                over a new one; the server may then act on it twice.
            metadata_may_change: after a reconnect any metadata is taken; otherwise other metadata than before is
                AxonProtocolError, for as long as it differs.
            compress: "jpeg" (lossy) or "png": how uint8 arrays (height, width, 3) in observations are sent to a server
                that says that it decodes this; to any other they go as they are.
            record: every message is written to this file, see docs/recordings.md; one that exists is replaced.
            max_reply_bytes: a longer reply is AxonTooBig; default 64 MiB.
            max_request_bytes: a longer observation is AxonTooBig, unsent; default 1 GiB.
            connect_once: a refused connection fails at once.
            tls_insecure: accept any certificate.
            while_connecting: called about four times a second during the wait; raising ends it.

        Raises:
            AxonConnectionError, AxonTimeout, AxonAuthError, AxonProtocolError, AxonServerError, AxonCanceled;
            AxonValueError: a URL or option that cannot be, naming it.
        """
        options, keep = fill(
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
            dialect=one_of(_DIALECTS, dialect, "dialect"),
            grace_ms=milliseconds(grace, "grace"),
            no_reconnect=not reconnect,
            resend=resend,
            metadata_may_change=metadata_may_change,
            compress=None if compress is None else one_of(_CODECS, compress, "compress"),
            record_file=record,
        )
        if hosts is not None:
            _, more = strings(hosts, "hosts")
            options.more_urls = ended = ffi.new("char *[]", [*more, ffi.NULL])
            keep += [more, ended]
        out, error = ffi.new("axon_policy **"), new_error()
        with looking_up(while_connecting):
            status = lib.axon_policy_open(out, c_string(url, "url"), options, error)
        check(status, error)
        super().__init__(out[0], "")
        self._usual_ms = self._current_ms = options.infer_timeout_ms
        self._metadata_may_change = metadata_may_change
        self._metadata = read(lib.axon_policy_metadata(out[0]))
        self._dialect = ""
        self._look_again()

    @property
    def url(self) -> str:
        """The URL that is, or was last, connected to, whole; while another thread is in a call, the one before it."""
        self._look_again()
        return self._name

    @property
    def dialect(self) -> str:
        """What is spoken with the server: never "auto"."""
        self._look_again()
        return self._dialect

    @property
    def metadata(self) -> Any:
        """What the server said of itself, in practice a dict."""
        if self._metadata_may_change:
            self._look_again()
        return self._metadata

    def infer(self, observation: Mapping[str, Any], timeout: float | None = None) -> Reply:
        """Sends one observation and waits for its actions.

        Args:
            observation: str keys; arrays, numbers, str, bytes, lists and dicts of these. Not copied: arrays must
                not change during the call.
            timeout: seconds for this call, a reconnect in it included; default what the session was opened with.

        Returns:
            The reply: for openpi `actions`, float (horizon, dim), and `server_timing`. Arrays are the caller's own. A
            server that answers with a bare array gave {"actions": array}. `.timing` says where the time went.

        Raises:
            AxonValueError: an observation that does not travel, naming the key and the reason; nothing was sent.
            AxonServerError: the server failed; `.traceback` is what it sent.
            AxonTimeout, AxonCanceled: the reply, should it still come, is discarded.
            AxonConnectionError: the connection is lost; the next call opens another.
            AxonProtocolError: the server is none, or after a reconnect another one.
            AxonTooBig: the observation (nothing was sent) or the reply passes its limit.
        """
        timeout_ms = milliseconds(timeout, "timeout") or self._usual_ms
        if not isinstance(observation, Mapping):
            raise AxonTypeError(f"observation: is {type(observation).__name__}, not a dict")
        keep: list[Any] = []
        out, error, timing = ffi.new("axon_value **"), new_error(), ffi.new(_TIMING)
        tree = write(observation, "observation", keep)
        try:
            policy = self._begin(timeout_ms / 1000 or math.inf)
            try:
                self._set_timeout(policy, timeout_ms)
                status = lib.axon_policy_infer(policy, tree, out, error)
                if not status:
                    lib.axon_policy_timing(policy, timing, ffi.NULL)
                if status == lib.AXON_ESERVER:
                    raise _server_error(policy, error)
            finally:
                self._end()
            check(status, error)
            reply = Reply(read(out[0]))
        finally:
            lib.axon_value_free(tree)
            lib.axon_value_free(out[0])
        reply._timing = timing
        return reply

    def reset(self, payload: Mapping[str, Any] | None = None, timeout: float | None = None) -> None:
        """Tells the server that an episode begins, where its dialect knows a reset; openpi's is sent nothing.

        After a reconnect the last reset is said again by itself, before the next observation.

        Args:
            payload: goes along in webpolicy's dialect, and as more keys in RoboArena's and vllm-omni's.
            timeout: seconds, as for infer().

        Raises:
            As infer().
        """
        timeout_ms = milliseconds(timeout, "timeout") or self._usual_ms
        if payload is not None and not isinstance(payload, Mapping):
            raise AxonTypeError(f"payload: is {type(payload).__name__}, not a dict")
        keep: list[Any] = []
        error = new_error()
        tree = write(payload, "payload", keep) if payload else ffi.NULL
        try:
            policy = self._begin(timeout_ms / 1000 or math.inf)
            try:
                self._set_timeout(policy, timeout_ms)
                status = lib.axon_policy_reset(policy, tree, error)
                if status == lib.AXON_ESERVER:
                    raise _server_error(policy, error)
            finally:
                self._end()
        finally:
            lib.axon_value_free(tree)
        check(status, error)

    def stats(self) -> PolicyStats:
        """The session's counters, and where the time of its last replies went. Waits for a call that is under way."""
        told, error = ffi.new("axon_policy_stats *"), new_error()
        policy = self._begin(math.inf)
        try:
            status = lib.axon_policy_get_stats(policy, told, error)
        finally:
            self._end()
        check(status, error)
        found = {name: getattr(told, name) for name in PolicyStats._fields}
        for name in PARTS:
            found[name] = Percentiles(*[getattr(found[name], field) for field in Percentiles._fields])
        return PolicyStats(**{**found, "verdict": ffi.string(told.verdict).decode("utf-8", "replace")})

    def _look_again(self) -> None:
        """Takes over what a reconnect may have changed, unless a call is under way."""
        if not self._turn.acquire(blocking=False):
            return
        try:
            if self._busy or self._pointer is None:
                return
            self._name = ffi.string(lib.axon_policy_url(self._pointer)).decode("utf-8", "replace")
            self._dialect = _DIALECT_NAMES[lib.axon_policy_dialect(self._pointer)]
            if self._metadata_may_change:
                self._metadata = read(lib.axon_policy_metadata(self._pointer))
        finally:
            self._turn.release()

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
