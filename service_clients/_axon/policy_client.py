"""The base of the policy clients: an address as people give it, one session, and a log while the server is not up."""

from __future__ import annotations

import logging
import time
from typing import Any, Callable, Mapping, Sequence, TypeVar

from service_clients._axon.base_policy import BasePolicy
from service_clients._axon.errors import AxonServerError, AxonTypeError, AxonValueError
from service_clients._axon.reply import PolicyStats, Reply

__all__ = ["PolicyClient", "address"]

_LOG_EVERY = 5.0  # seconds, while the server is not up
_THIS_MACHINE = "0.0.0.0"  # the host of a client that was given none

_Client = TypeVar("_Client", bound="PolicyClient")


class PolicyClient(BasePolicy):
    """A session with a policy server. Threads may share it: they take turns."""

    def __init__(
        self,
        host: str,
        port: int | None,
        hosts: Sequence[str] | None,
        usual_port: int | None = None,
        **options: Any,
    ) -> None:
        """Connects; `options` are those of Policy. A `port` that is the usual one gives way to that of a host."""
        from service_clients._axon import Policy  # the native one, or what stands in its place

        if port == usual_port and _says_where(host):
            port = None
        first, *more = _addresses(host, port, hosts)
        logger = logging.getLogger(type(self).__module__)
        logger.info("Waiting for server at %s...", first)
        self._policy = Policy(first, hosts=more, while_connecting=_log_now_and_then(logger, first), **options)

    def get_server_metadata(self) -> dict[str, Any]:
        """What the server said of itself."""
        return self._policy.metadata  # type: ignore[no-any-return]

    def infer(self, obs: Mapping[str, Any], timeout: float | None = None) -> Reply:
        """Sends one observation and waits for its actions.

        Args:
            obs: see the module's docstring; arrays must not change during the call.
            timeout: seconds for this call, a reconnect in it included; default the constructor's infer_timeout.

        Returns:
            The server's reply, a dict: `actions` float (horizon, dim) and what else the policy and its server say.
            Arrays are fresh and writable. `.timing` says where the time went.

        Raises:
            RuntimeError: see the module's docstring; `.traceback` of one from the server is its text.
        """
        try:
            return self._policy.infer(obs, timeout)
        except AxonServerError as error:
            raise _in_upstreams_words(error, "Error in inference server") from error.__cause__

    def step(self, obs: Mapping[str, Any], timeout: float | None = None) -> Reply:
        """The same as infer(), by webpolicy's name."""
        return self.infer(obs, timeout)

    def reset(self, payload: Mapping[str, Any] | None = None) -> None:
        """Tells the server that an episode begins; openpi's servers know no reset and are sent nothing.

        Args:
            payload: goes along, where the server's dialect has room for it.

        Raises:
            RuntimeError: as infer().
        """
        try:
            self._policy.reset(payload)
        except AxonServerError as error:
            raise _in_upstreams_words(error, "Error in inference server reset") from error.__cause__

    def stats(self) -> PolicyStats:
        """Counters, percentiles and `.verdict`, one line on where the time goes; print() shows a table."""
        return self._policy.stats()

    @property
    def url(self) -> str:
        """The URL that is, or was last, connected to."""
        return self._policy.url

    @property
    def dialect(self) -> str:
        """What is spoken with the server: "openpi", "webpolicy", "roboarena", ..."""
        return self._policy.dialect

    def cancel(self) -> None:
        """Ends the call that another thread is waiting in; its reply is discarded when it comes."""
        self._policy.cancel()

    def close(self) -> None:
        """Says goodbye to the server. May be repeated."""
        self._policy.close()

    def __enter__(self: _Client) -> _Client:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


def _in_upstreams_words(error: AxonServerError, words: str) -> AxonServerError:
    if error.traceback is not None:
        error.args = (f"{words}:\n{error.traceback}",)
    return error


def _addresses(host: str, port: int | None, hosts: Sequence[str] | None) -> list[str]:
    """All addresses in order; a host that nobody named is none of them when there are others."""
    if hosts is None:
        return [address(host, port)]
    if isinstance(hosts, (str, bytes)) or not hasattr(hosts, "__iter__"):
        raise AxonTypeError(f"hosts is {hosts!r:.80}, not a list of str")
    given = [] if host == _THIS_MACHINE else [address(host, port)]
    given += [address(other, None if _says_where(other) else port) for other in hosts]
    return given or [address(host, port)]


def _says_where(host: Any) -> bool:
    """Whether a host brings its port along, or is a whole URL."""
    return isinstance(host, str) and ("://" in host or ":" in _bracketed(host).rpartition("]")[2])


def _bracketed(authority: str) -> str:
    """A bare IPv6 address in brackets; anything else as it is."""
    return f"[{authority}]" if authority.count(":") > 1 and not authority.startswith("[") else authority


def address(host: str, port: int | None) -> str:
    """The URL, or "host" or "host:port", that the C core takes."""
    if not isinstance(host, str):
        raise AxonTypeError(f"host is {host!r:.80}, not a str")
    scheme, separator, rest = host.rpartition("://")
    authority, slash, path = rest.partition("/")
    if not separator:
        authority = _bracketed(authority)
    if port is not None:
        if ":" in authority.rpartition("]")[2]:
            raise AxonValueError(f"host {host!r} names a port already, and port is {port!r}")
        authority = f"{authority}:{_port(port)}"
    return f"{scheme}{separator}{authority}{slash}{path}"


def _port(port: Any) -> int:
    """The port as a number: openpi_client takes its digits too, as os.environ has them."""
    is_digits = isinstance(port, str) and port.isdecimal()
    if isinstance(port, bool) or not (is_digits or hasattr(port, "__index__")):
        raise AxonTypeError(f"port is {port!r:.80}, not a whole number")
    number = int(port) if is_digits else port.__index__()
    if not 0 < number < 65536:
        raise AxonValueError(f"port is {number}, not 1 to 65535")
    return number


def _log_now_and_then(logger: logging.Logger, url: str) -> Callable[[], None]:
    started = logged = time.monotonic()

    def look_up() -> None:
        nonlocal logged
        now = time.monotonic()
        if now - logged >= _LOG_EVERY:
            logged = now
            logger.info("Still waiting for server at %s (%.0f s)...", url, now - started)

    return look_up
