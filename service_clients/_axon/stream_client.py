"""The base of the robot backend's clients: an address as people give it, and one stream."""

from __future__ import annotations

from typing import Any, Callable, Iterator, TypeVar

from service_clients._axon.messages import ChannelStats, Message, StreamStats
from service_clients._axon.plain import configured_host
from service_clients._axon.policy_client import address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service_clients._axon.stream import Subscription

__all__ = ["StreamClient"]

_Client = TypeVar("_Client", bound="StreamClient")


class StreamClient:
    """One stream of a robot backend. It is an iterator of all messages, and a context manager."""

    def __init__(
        self, host: str | None, port: int | None, endpoint: str, client_file: str, **options: Any
    ) -> None:
        """Connects; `options` are those of Stream."""
        from service_clients._axon import Stream  # the native one, or what stands in its place

        if host is None:
            host = configured_host("physical_ai", client_file) if port is None else None
        self._stream = Stream(address(host or "127.0.0.1", port), endpoint, **options)

    def receive(
        self,
        timeout: float | None = None,
        *,
        type: str | None = None,
        robot_id: str | None = None,
        source_id: str | None = None,
    ) -> Message:
        """Takes the oldest message that is wanted, waiting for one to come.

        Args:
            timeout: seconds; None waits for ever, 0 does not wait.
            type: "camera_feed" and so on: only these, and faults that say they were; gaps have none.
            robot_id: only those of this robot.
            source_id: only those of this camera or IMU.

        Raises:
            AxonTimeout: none came; AxonCanceled: the client was closed meanwhile; AxonConnectionError: with
            reconnect=False, the connection is lost; AxonValueError: there are subscribers, who get them.
        """
        return self._stream.receive(timeout, type=type, robot_id=robot_id, source_id=source_id)

    def __iter__(self) -> Iterator[Message]:
        """All messages, gaps and faults among them, until the client is closed."""
        return iter(self._stream)

    def messages(
        self,
        timeout: float | None = None,
        *,
        type: str | None = None,
        robot_id: str | None = None,
        source_id: str | None = None,
    ) -> Iterator[Message]:
        """Messages as they come, until the client is closed. Arguments and errors are those of receive()."""
        return self._stream.messages(timeout, type=type, robot_id=robot_id, source_id=source_id)

    def subscribe(
        self,
        callback: Callable[[Message], object],
        *,
        type: str | None = None,
        robot_id: str | None = None,
        source_id: str | None = None,
    ) -> Subscription:
        """Has `callback` called with every message from now on that is wanted, those that wait first.

        The callbacks are called on one thread of the client's own, one after the other. While one runs messages wait, and
        are dropped from their buffers. What a callback raises is logged, and goes no further.

        Returns:
            What ends it: `subscription.stop()`.
        """
        return self._stream.subscribe(callback, type=type, robot_id=robot_id, source_id=source_id)

    def stats(self) -> StreamStats:
        """Counters since the beginning."""
        return self._stream.stats()

    def channels(self) -> list[ChannelStats]:
        """What became of the messages of each type, robot, and camera or IMU."""
        return self._stream.channels()

    @property
    def url(self) -> str:
        """The URL, whole."""
        return self._stream.url

    def close(self) -> None:
        """Says goodbye; calls that wait end with AxonCanceled, and loops end. May be repeated, in signal handlers, too."""
        self._stream.close()

    def __enter__(self: _Client) -> _Client:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"
