"""
openpi - policy client

Asks an openpi policy server for robot actions, in place of `openpi_client.websocket_client_policy`: same
constructor, same methods, and deadlines, close() and `with` besides.

Usage:
    import numpy as np
    from service_clients.openpi.client import WebsocketClientPolicy

    with WebsocketClientPolicy(host="127.0.0.1", port=8000) as policy:
        print(policy.get_server_metadata())
        observation = {
            "observation/image": np.zeros((224, 224, 3), np.uint8),
            "observation/wrist_image": np.zeros((224, 224, 3), np.uint8),
            "observation/state": np.zeros(8, np.float32),
            "prompt": "pick up the cup",
        }
        actions = policy.infer(observation)["actions"]      # (horizon, dim), the caller's own

What the keys and shapes must be is the policy's business; its metadata may say. Values that travel: numpy
arrays and scalars of bool, integers, floats, fixed-width text, and dict, list, tuple, str, bytes, bool, int,
float, None. Arrays are sent from where they lie, whatever their strides.

Everything raised is a RuntimeError: no connection (also a ConnectionError), a deadline that passed (also a
TimeoutError), credentials refused (also a PermissionError), an observation that does not travel (also a
ValueError, naming the key), and "Error in inference server:" with the server's traceback. After any of these
but a refused observation the session is over: make another client.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Callable, Mapping

from service_clients._axon import AxonServerError, AxonTypeError, AxonValueError, Policy

_LOGGER = logging.getLogger(__name__)
_LOG_EVERY = 5.0  # seconds, while the server is not up


class WebsocketClientPolicy:
    """A session with an openpi policy server. Threads may share it: they take turns."""

    def __init__(
        self,
        host: str = "0.0.0.0",
        port: int | None = None,
        api_key: str | None = None,
        *,
        connect_timeout: float | None = 60.0,
        infer_timeout: float | None = 60.0,
        ca_file: str | None = None,
    ) -> None:
        """Connects, waiting for a server that is not up yet, and receives its metadata.

        Args:
            host: name or address ("0.0.0.0" is this machine), or a whole "ws://" or "wss://" URL.
            port: default that of the URL, or 8000 for a bare host.
            api_key: sent as "Authorization: Api-Key <api_key>".
            connect_timeout: seconds until the metadata is here; None: 10; math.inf waits for ever.
            infer_timeout: seconds for one round trip of infer(); None: 60; likewise.
            ca_file: PEM of the authorities to trust for wss; default the system's.

        Raises:
            RuntimeError: see the module's docstring.
        """
        url = _url(host, port)
        _LOGGER.info("Waiting for server at %s...", url)
        self._policy = Policy(
            url,
            api_key=api_key,
            ca_file=ca_file,
            connect_timeout=connect_timeout,
            infer_timeout=infer_timeout,
            while_connecting=_log_now_and_then(url),
        )

    def get_server_metadata(self) -> dict[str, Any]:
        """What the server said of itself when the session began."""
        return self._policy.metadata  # type: ignore[no-any-return]

    def infer(self, obs: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Sends one observation and waits for its actions.

        Args:
            obs: see the module's docstring; arrays must not change during the call.
            timeout: seconds for this round trip; default the constructor's infer_timeout.

        Returns:
            The server's reply: `actions` float (horizon, dim), `server_timing` {infer_ms, ...}, and what else
            the policy returns. Arrays are fresh and writable.

        Raises:
            RuntimeError: see the module's docstring; `.traceback` of one from the server is its text.
        """
        try:
            return self._policy.infer(obs, timeout)
        except AxonServerError as error:
            if error.traceback is not None:
                error.args = (f"Error in inference server:\n{error.traceback}",)
            raise

    def reset(self) -> None:
        """Does nothing: openpi's servers keep no state between observations."""

    def cancel(self) -> None:
        """Ends the infer() that another thread is waiting in; the session is over then."""
        self._policy.cancel()

    def close(self) -> None:
        """Says goodbye to the server. May be repeated."""
        self._policy.close()

    def __enter__(self) -> WebsocketClientPolicy:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _url(host: str, port: int | None) -> str:
    """The URL, or "host" or "host:port", that the C core takes."""
    if not isinstance(host, str):
        raise AxonTypeError(f"host is {host!r:.80}, not a str")
    scheme, separator, rest = host.rpartition("://")
    authority, slash, path = rest.partition("/")
    if not separator and authority.count(":") > 1 and not authority.startswith("["):
        authority = f"[{authority}]"  # a bare IPv6 address
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


def _log_now_and_then(url: str) -> Callable[[], None]:
    started = logged = time.monotonic()

    def look_up() -> None:
        nonlocal logged
        now = time.monotonic()
        if now - logged >= _LOG_EVERY:
            logged = now
            _LOGGER.info("Still waiting for server at %s (%.0f s)...", url, now - started)

    return look_up
