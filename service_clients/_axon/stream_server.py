"""Robot backends: `StreamServer` pushes messages to many clients and takes their commands. physical_ai/server.py is thin
over it."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from service_clients._axon._ffi import check, ffi, lib, new_error
from service_clients._axon.errors import AxonTypeError
from service_clients._axon.images import open_image
from service_clients._axon.options import fill, listening_port, milliseconds, one_of
from service_clients._axon.shared_handle import SharedHandle
from service_clients._axon.values import as_numpy, read

__all__ = ["Command", "StreamServer", "StreamServerStats", "picture_file"]

_ENDPOINTS = {"robot_control": lib.AXON_ROBOT_CONTROL, "sensor_data": lib.AXON_SENSOR_DATA}
_COMMAND_OUT = ffi.typeof("axon_command **")


class StreamServerStats(NamedTuple):
    """What became of a server so far."""

    connections: int  # now
    accepted: int  # connections since the beginning
    refused: int  # of too many, without the key, or that were no WebSocket clients of an endpoint
    published: int  # messages
    sent: int  # messages, to each client that was handed it
    skipped: int  # that a client was too slow for
    stuck: int  # clients that were disconnected because they took nothing
    commands: int  # that were good
    bad_commands: int  # that were answered with an error


class Command:
    """A command that was checked.

    Attributes:
        robot_id: which robot.
        command_type: in the backend's words.
        payload: what else it says.
        command_id: "" when there is none.
        client: who sent it: "127.0.0.1:53412".
        fields: the whole message.
    """

    def __init__(self, pointer: Any) -> None:
        self._pointer = ffi.gc(pointer, lib.axon_command_free)
        self.fields: dict[str, Any] = read(pointer.fields)
        self.robot_id: str = self.fields["robot_id"]
        self.command_type: str = self.fields["command_type"]
        self.payload: dict[str, Any] = self.fields["payload"]
        self.command_id: str = self.fields.get("command_id") or ""
        self.client: str = ffi.string(pointer.client).decode()

    def refuse(self, reason: str, field: str = "") -> None:
        """Answers with an error, which names the field: "payload.speed"."""
        error = new_error()
        texts = [ffi.new("char[]", text.replace("\0", "?").encode()) for text in (field, reason)]
        check(lib.axon_command_refuse(self._pointer, *texts, error), error)

    def __repr__(self) -> str:
        named = f", command_id={self.command_id!r}" if self.command_id else ""
        return f"Command({self.robot_id!r}, {self.command_type!r}, {self.payload!r}{named})"


class StreamServer(SharedHandle):
    """Listens on both endpoints; a thread in C does the rest. Threads may share it."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        max_connections: int | None = None,
        max_message_bytes: int | None = None,
        max_commands: int | None = None,
        client_depth: int | None = None,
        client_bytes: int | None = None,
        stuck_timeout: float | None = None,
        ping_interval: float | None = None,
        dead_after: float | None = None,
        stop_timeout: float | None = None,
        api_key: str | None = None,
    ) -> None:
        """Listens. Options are those of axon_stream_server_options, times in seconds; port 0 is one that is free.

        Raises:
            AxonFileError: the address cannot be listened on; AxonValueError: an option that cannot be.
        """
        options, self._keep = fill(
            "axon_stream_server_options",
            host=host,
            port=listening_port(port),
            max_connections=max_connections,
            max_message_bytes=max_message_bytes,
            max_commands=max_commands,
            client_depth=client_depth,
            client_bytes=client_bytes,
            stuck_timeout_ms=milliseconds(stuck_timeout, "stuck_timeout"),
            ping_interval_ms=milliseconds(ping_interval, "ping_interval"),
            dead_after_ms=milliseconds(dead_after, "dead_after"),
            stop_timeout_ms=milliseconds(stop_timeout, "stop_timeout"),
            api_key=api_key,
        )
        out, error = ffi.new("axon_stream_server **"), new_error()
        check(lib.axon_stream_server_open(out, options, error), error)
        self.url: str = ffi.string(lib.axon_stream_server_url(out[0])).decode()
        self.port: int = lib.axon_stream_server_port(out[0])
        super().__init__(out[0], self.url, lib.axon_stream_server_stop, lib.axon_stream_server_close)

    def publish(self, endpoint: str, message: Mapping[str, Any]) -> None:
        """Sends a message to every client of "robot_control" or "sensor_data"; does not wait for any.

        Args:
            message: has a `type`; a `timestamp` of now is added when it has none. bytes become base64, arrays lists.

        Raises:
            AxonValueError: a message that does not travel, naming the place.
        """
        where = one_of(_ENDPOINTS, endpoint, "endpoint")
        if not isinstance(message, Mapping):
            raise AxonTypeError(f"message: is {type(message).__name__}, not a dict")
        self._send(
            message,
            "message",
            lambda pointer, tree, error: lib.axon_stream_server_publish(pointer, where, tree, error),
        )

    def next_command(self, timeout: float | None = None) -> Command:
        """Waits for a command.

        Args:
            timeout: seconds; None waits for ever, 0 does not wait.

        Raises:
            AxonTimeout: none came; AxonCanceled: the server was closed.
        """
        patience = 0 if timeout == 0 else milliseconds(timeout, "timeout") or lib.AXON_FOREVER
        out, error = ffi.new(_COMMAND_OUT), new_error()
        check(self._do(lib.axon_stream_server_next, patience, out, error), error)
        return Command(out[0])

    def stats(self) -> StreamServerStats:
        """Counters since the beginning."""
        told, error = ffi.new("axon_stream_server_stats *"), new_error()
        check(self._do(lib.axon_stream_server_get_stats, told, error), error)
        return StreamServerStats(*[getattr(told, name) for name in StreamServerStats._fields])


def picture_file(image: Any, color: str, quality: int | None) -> bytes | bytearray | memoryview:
    """A picture as the bytes of a file: those of a file as they are, pixels as JPEG.

    Raises:
        AxonTypeError, AxonValueError: what is no picture, naming its type, dtype or shape.
    """
    options, data = ffi.new("axon_image_encode_options *"), ffi.new("void **")
    length, error = ffi.new("size_t *"), new_error()
    options.size = ffi.sizeof("axon_image_encode_options")
    is_file = isinstance(image, (bytes, bytearray, memoryview))
    if not is_file and hasattr(type(image), "__array__"):
        image = as_numpy(image)
        options.format, options.quality = lib.AXON_IMAGE_JPEG, quality or 0
    with open_image(image, "image", color) as handle:
        if is_file:
            return image  # type: ignore[no-any-return]
        check(lib.axon_image_encode(handle, options, data, length, error), error)
    try:
        return bytes(ffi.buffer(data[0], length[0]))
    finally:
        lib.axon_free(data[0])
