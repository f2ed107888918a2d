"""Streams of a robot backend: `Stream` is one endpoint. physical_ai/client.py is thin over it."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Callable, Iterator, Mapping, Sequence, TypeVar

from service_clients._axon._ffi import check, ffi, lib, new_error
from service_clients._axon.errors import (
    AxonError,
    AxonTimeout,
    AxonTypeError,
    AxonValueError,
)
from service_clients._axon.images import decode_image
from service_clients._axon.messages import (
    ActionPlanStatus,
    CameraFrame,
    ChannelStats,
    Fault,
    Gap,
    ImuSample,
    Message,
    RobotStatus,
    StreamStats,
)
from service_clients._axon.options import c_string, fill, milliseconds, one_of, strings
from service_clients._axon.shared_handle import SharedHandle
from service_clients._axon.values import read

__all__ = ["Stream", "Subscription", "read_message"]

_Taken = TypeVar("_Taken")
_Kind = TypeVar("_Kind", bound=Message)
_LOGGER = logging.getLogger(__name__)
_OVERFLOWS = {"drop oldest": lib.AXON_DROP_OLDEST, "latest": lib.AXON_LATEST_ONLY, "block": lib.AXON_BLOCK}
_ENDPOINTS = {"robot_control": lib.AXON_ROBOT_CONTROL, "sensor_data": lib.AXON_SENSOR_DATA}
_FORMATS = {
    value: name[len("AXON_IMAGE_") :].lower()
    for value, name in ffi.typeof("axon_image_format").elements.items()
}
_CLASSES: dict[int, type[Message]] = {
    lib.AXON_MESSAGE_OTHER: Message,
    lib.AXON_MESSAGE_ROBOT_STATUS: RobotStatus,
    lib.AXON_MESSAGE_ACTION_PLAN_STATUS: ActionPlanStatus,
    lib.AXON_MESSAGE_CAMERA_FEED: CameraFrame,
    lib.AXON_MESSAGE_IMU_DATA: ImuSample,
    lib.AXON_MESSAGE_GAP: Gap,
    lib.AXON_MESSAGE_FAULT: Fault,
}
_NO_TIME: int = lib.AXON_NO_TIME
_CAMERA_FEED: int = lib.AXON_MESSAGE_CAMERA_FEED
_MESSAGE_OUT = ffi.typeof("axon_message **")
_LOOK_UP_MS = 250  # how often a subscriber's thread looks whether it is still wanted


def read_message(text: str | bytes | bytearray | memoryview) -> Message:
    """One message from its text, as a stream reads it.

    Raises:
        AxonProtocolError: what a stream would hand over as a Fault.
    """
    data = ffi.from_buffer(text.encode() if isinstance(text, str) else text)
    out, error = ffi.new(_MESSAGE_OUT), new_error()
    check(lib.axon_message_read(data, len(data), out, error), error)
    return _take(out[0])


def _take(message: Any) -> Message:
    """A message of C as one of Python; frees it."""
    try:
        kind = message.kind
        fields = {} if message.fields == ffi.NULL else read(message.fields)
        if not isinstance(fields, dict):
            fields = {}
        image = fields.pop("image_data") if kind == _CAMERA_FEED else b""
        stamp, latency = message.stamp_ns, message.latency_ns
        made = _CLASSES[kind](
            fields,
            None if stamp == _NO_TIME else stamp,
            message.received_ns,
            None if latency == _NO_TIME else latency / 1e9,
            message.dropped,
        )
        if isinstance(made, CameraFrame):
            made.image, made.pixels = image, None
            made.format, made.width, made.height = (
                _FORMATS[message.image_format],
                message.width,
                message.height,
            )
        elif isinstance(made, Fault):
            made.reason = _text(message.fault)
        elif isinstance(made, Gap):
            made.since_ns, made.seconds = message.gap_since_ns, message.gap_ns / 1e9
            made.attempts, made.reason = message.gap_attempts, _text(message.fault)
        return made
    finally:
        lib.axon_message_free(message)


def _text(text: Any) -> str:
    return ffi.string(text).decode("utf-8", "replace")  # type: ignore[no-any-return]


class Stream(SharedHandle):
    """One endpoint of a robot backend, received by a thread in C that reconnects by itself.

    Threads may share it. It is an iterator of all messages, and a context manager. It does not survive a fork: in the
    child only close() is allowed.
    """

    def __init__(
        self,
        url: str,
        endpoint: str,
        *,
        overflow: str = "drop oldest",
        depth: int | None = None,
        images: str = "bytes",
        api_key: str | None = None,
        authorization: str | None = None,
        ca_file: str | None = None,
        connect_timeout: float | None = None,
        send_timeout: float | None = None,
        close_timeout: float | None = None,
        alive_interval: float | None = None,
        retry_min: float | None = None,
        retry_max: float | None = None,
        max_latency: float | None = None,
        max_channels: int | None = None,
        max_message_bytes: int | None = None,
        max_buffer_bytes: int | None = None,
        reconnect: bool = True,
        connect_once: bool = False,
        tls_insecure: bool = False,
    ) -> None:
        """Connects. Options are those of axon_stream_options, times in seconds.

        Args:
            url: "ws://host:port", "wss://...", "http://host:port", "https://...", "host:port", "host" (port 8200).
            endpoint: "robot_control" or "sensor_data", for a URL that has no path.
            overflow: what happens when a channel has no room: "drop oldest", "latest" (room for one message), or
                "block" (nothing more is received until there is room).
            depth: messages that a channel has room for; default 64.
            images: "bytes", or "array": pictures are decoded too, into CameraFrame.pixels; one that cannot be is a
                Fault.
            api_key: sent as "Authorization: Api-Key <api_key>".
            authorization: in its place, the whole value of that header.
            ca_file: PEM of the authorities to trust for wss; default the system's.
            tls_insecure: accept any certificate.

        Raises:
            AxonConnectionError, AxonTimeout, AxonAuthError, AxonServerError, AxonCanceled;
            AxonValueError: a URL or option that cannot be, naming it.
        """
        self._decodes = one_of({"bytes": 0, "array": 1}, images, "images") == 1
        options, self._keep = fill(
            "axon_stream_options",
            overflow=one_of(_OVERFLOWS, overflow, "overflow"),
            depth=depth,
            api_key=api_key,
            authorization=authorization,
            ca_file=ca_file,
            connect_timeout_ms=milliseconds(connect_timeout, "connect_timeout"),
            send_timeout_ms=milliseconds(send_timeout, "send_timeout"),
            close_timeout_ms=milliseconds(close_timeout, "close_timeout"),
            alive_interval_ms=milliseconds(alive_interval, "alive_interval"),
            retry_min_ms=milliseconds(retry_min, "retry_min"),
            retry_max_ms=milliseconds(retry_max, "retry_max"),
            max_latency_ms=milliseconds(max_latency, "max_latency"),
            max_channels=max_channels,
            max_message_bytes=max_message_bytes,
            max_buffer_bytes=max_buffer_bytes,
            no_reconnect=not reconnect,
            connect_once=connect_once,
            tls_insecure=tls_insecure,
        )
        out, error = ffi.new("axon_stream **"), new_error()
        check(lib.axon_stream_open(out, c_string(url, "url"), _ENDPOINTS[endpoint], options, error), error)
        name = _text(lib.axon_stream_url(out[0]))
        super().__init__(out[0], name, lib.axon_stream_cancel, lib.axon_stream_close)
        self._hearers: list[Subscription] = []
        self._caller: threading.Thread | None = None

    # ---- messages ----

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
            AxonTimeout: none came; AxonCanceled: the stream was closed meanwhile; AxonConnectionError: with
            reconnect=False, the connection is lost; AxonValueError: there are subscribers, who get them.
        """
        if self._hearers:
            raise AxonValueError(f"{self._name}: it has subscribers, who get the messages")
        return self._next(_patience(timeout), self._filter(type, robot_id, source_id))

    def __iter__(self) -> Iterator[Message]:
        """All messages, gaps and faults among them, until the stream is closed."""
        return self.messages()

    def messages(
        self,
        timeout: float | None = None,
        *,
        type: str | None = None,
        robot_id: str | None = None,
        source_id: str | None = None,
    ) -> Iterator[Message]:
        """Messages as they come, until the stream is closed. Arguments and errors are those of receive()."""
        return self._until_closed(
            lambda: self.receive(timeout, type=type, robot_id=robot_id, source_id=source_id)
        )

    def receive_only(self, kind: type[_Kind], timeout: float | None = None, **wanted: str | None) -> _Kind:
        """Takes the oldest message of a class, and drops the others that are wanted before it: faults.

        Arguments and errors are those of receive(), `timeout` being for all of it.
        """
        began, left = time.monotonic(), timeout
        while left != 0:
            found = self.receive(left, **wanted)
            if isinstance(found, kind):
                return found
            if timeout is not None:
                left = max(0.0, timeout - (time.monotonic() - began))
        for _ in range(self.stats().waiting + 1):  # those cost no time; the last one is none, as a rule
            found = self.receive(0, **wanted)
            if isinstance(found, kind):
                return found
        raise AxonTimeout(f"{self._name}: no {kind.__name__}, faults alone (timeout)")

    def messages_only(
        self, kind: type[_Kind], timeout: float | None = None, **wanted: str | None
    ) -> Iterator[_Kind]:
        """Messages of a class as they come, until the stream is closed; see receive_only()."""
        return self._until_closed(lambda: self.receive_only(kind, timeout, **wanted))

    def subscribe(
        self,
        callback: Callable[[Message], object],
        *,
        type: str | None = None,
        robot_id: str | None = None,
        source_id: str | None = None,
    ) -> Subscription:
        """Has `callback` called with every message from now on that is wanted, those that wait first.

        The callbacks of a stream are called on one thread of its own, one after the other. While one runs messages
        wait, and are dropped from their buffers. What a callback raises is logged, and goes no further.

        Args:
            callback: is given the message.
            type, robot_id, source_id: as for receive().

        Returns:
            What ends it: `subscription.stop()`.
        """
        wanted = {"type": type, "robot_id": robot_id, "source_id": source_id}
        made = Subscription(
            self, callback, {key: value for key, value in wanted.items() if value is not None}
        )
        with self._gate:
            if self._closing:
                raise AxonValueError(f"{self._name}: is closed")
            self._hearers.append(made)
            if self._caller is None:
                self._caller = threading.Thread(target=self._call, name="axon-stream", daemon=True)
                self._caller.start()
        return made

    # ---- commands ----

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a dict as it is, for backends with messages of their own; raises as send_direct_control()."""
        if not isinstance(message, Mapping):
            raise AxonTypeError(f"message: is {message.__class__.__name__}, not a dict")
        self._send(
            message, "message", lambda pointer, tree, error: lib.axon_stream_send(pointer, tree, error)
        )

    def send_control(
        self, robot_id: str, command_type: str, payload: Mapping[str, Any] | None, command_id: str | None
    ) -> None:
        """Sends a direct_control, now or not at all."""
        if payload is not None and not isinstance(payload, Mapping):
            raise AxonTypeError(f"payload: is {payload.__class__.__name__}, not a dict")
        robot, kind = c_string(robot_id, "robot_id"), c_string(command_type, "command_type")
        command = ffi.NULL if command_id is None else c_string(command_id, "command_id")
        self._send(
            payload or {},
            "payload",
            lambda pointer, tree, error: lib.axon_stream_send_control(
                pointer, robot, kind, tree, command, error
            ),
        )

    def wait_for_status(
        self, command_id: str, timeout: float | None = None, status: str | Sequence[str] | None = None
    ) -> ActionPlanStatus:
        """Waits for an action_plan_status of one command; see RobotControl.wait_for_status()."""
        wanted = ffi.NULL
        if status is not None:
            _, keep = strings([status] if isinstance(status, str) else status, "status")
            wanted = ffi.new("char *[]", [*keep, ffi.NULL])
        command, patience = c_string(command_id, "command_id"), _patience(timeout)
        out, error = ffi.new(_MESSAGE_OUT), new_error()
        check(self._do(lib.axon_stream_wait_status, command, wanted, patience, out, error), error)
        made = _take(out[0])
        assert isinstance(made, ActionPlanStatus)
        return made

    # ---- the stream ----

    @property
    def url(self) -> str:
        """The URL, whole."""
        return self._name

    def stats(self) -> StreamStats:
        """Counters since the beginning."""
        told, error = ffi.new("axon_stream_stats *"), new_error()
        check(self._do(lib.axon_stream_get_stats, told, error), error)
        found = {name: getattr(told, name) for name in StreamStats._fields if name != "gap_seconds"}
        found["is_connected"] = bool(told.is_connected)
        return StreamStats(**found, gap_seconds=told.gap_ns / 1e9)

    def channels(self) -> list[ChannelStats]:
        """What became of the messages of each type, robot, and camera or IMU, in order of their first message."""
        told, error = ffi.new("axon_channel_stats *"), new_error()
        found: list[ChannelStats] = []
        pointer = self._enter()
        try:
            while lib.axon_stream_get_channel(pointer, len(found), told, error) == lib.AXON_OK:
                latency = None if told.latency_ns == _NO_TIME else told.latency_ns / 1e9
                names = (_text(told.type), _text(told.robot_id), _text(told.source_id))
                found.append(ChannelStats(*names, told.received, told.dropped, told.waiting, latency))
        finally:
            self._leave()
        return found

    # ---- inside ----

    def _until_closed(self, take: Callable[[], _Taken]) -> Iterator[_Taken]:
        while not self._closing:
            try:
                message = take()
            except AxonError:
                if self._closing:
                    return
                raise
            yield message

    def _filter(self, type: str | None, robot_id: str | None, source_id: str | None) -> Any:
        if type is None and robot_id is None and source_id is None:
            return None
        return fill("axon_message_filter", type=type, robot_id=robot_id, source_id=source_id)

    def _next(self, patience_ms: int, wanted: Any) -> Message:
        error = new_error()
        message = self._next_of_c(patience_ms, wanted, error)
        if isinstance(message, int):
            check(message, error)
            raise AssertionError("unreachable")
        return self._decoded(message)

    def _next_of_c(self, patience_ms: int, wanted: Any, error: Any) -> Message | int:
        """The next message, or the status that there is none with."""
        out = ffi.new(_MESSAGE_OUT)
        message_filter = wanted[0] if wanted else ffi.NULL
        status = self._do(lib.axon_stream_next, message_filter, patience_ms, out, error)
        return status or _take(out[0])

    def _decoded(self, message: Message) -> Message:
        if not self._decodes or not isinstance(message, CameraFrame):
            return message
        try:
            message.pixels = decode_image(message.image, "rgb")
        except AxonError as error:
            fault = Fault(
                message.fields, message.stamp_ns, message.received_ns, message.latency, message.dropped
            )
            fault.reason = f"camera_feed of {message.camera_id}: image_data: {error}"
            return fault
        return message

    def _call(self) -> None:
        """The subscribers' thread."""
        error = new_error()
        while True:
            with self._gate:
                if self._closing or not self._hearers:
                    self._caller = None
                    return
            try:
                message = self._next_of_c(_LOOK_UP_MS, None, error)
                if isinstance(message, int) and message != lib.AXON_ETIMEOUT:
                    check(message, error)
            except AxonError as problem:
                if not self._closing:
                    _LOGGER.error("%s: subscribers hear no more: %s", self._name, problem)
                with self._gate:
                    self._hearers.clear()
                continue
            if not isinstance(message, int):
                self._tell(self._decoded(message))

    def _tell(self, message: Message) -> None:
        for hearer in list(self._hearers):
            try:
                hearer.hear(message)
            except Exception:
                _LOGGER.exception("%s: a subscriber failed", self._name)

    def _forget(self, subscription: Subscription) -> None:
        with self._gate:
            if subscription in self._hearers:
                self._hearers.remove(subscription)
            caller = self._caller if not self._hearers else None
        if caller is not None and caller is not threading.current_thread():
            caller.join()


class Subscription:
    """A callback that hears a stream's messages, until stop() or the end of a `with` block."""

    def __init__(
        self, stream: Stream, callback: Callable[[Message], object], wanted: Mapping[str, str]
    ) -> None:
        self._stream = stream
        self._callback = callback
        self._wanted = wanted

    def stop(self) -> None:
        """No callback after this, but for one that is running. May be called in the callback."""
        self._stream._forget(self)

    def hear(self, message: Message) -> None:
        """Calls back, if the message is wanted."""
        for name, value in self._wanted.items():
            if name == "source_id":
                if value not in (message.fields.get("camera_id"), message.fields.get("imu_id")):
                    return
            elif getattr(message, name) != value:
                return
        self._callback(message)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


def _patience(timeout: float | None) -> int:
    """Seconds as the calls that wait take them, where 0 means not to wait."""
    if timeout is None:
        return int(lib.AXON_FOREVER)
    if isinstance(timeout, (int, float)) and timeout == 0:
        return 0
    return milliseconds(timeout, "timeout")
