"""
physical-ai - robot backend

Pushes robot and plan statuses, camera feeds and IMU data to many clients, and takes their commands (JSON over
WebSocket), on both endpoints: `/ws/robot_control` and `/ws/sensor_data`.

Usage:
    from service_clients.physical_ai.server import RobotBackendServer

    def obey(command):
        if command.command_type != "move_to":
            raise CommandError("command_type", "only move_to is known")
        server.publish_plan_status(command.command_id, "1", "accepted")

    with RobotBackendServer(host="127.0.0.1", port=8200, on_command=obey) as server:
        while True:
            server.publish_camera("arm-1", "wrist", camera.jpeg())      # bytes of a JPEG, or pixels
            server.publish_imu("arm-1", "base", (0, 0, 9.81), (0, 0, 0))

It listens on this machine alone unless told otherwise (host="0.0.0.0"); with api_key="..." only clients that send that
may connect. Publishing never waits: a client that is too slow misses the oldest messages, one that takes nothing is
disconnected, and the others notice neither. What is no command is answered with an error that names the field.

    python -m service_clients.physical_ai.server --image photo.jpg

plays a robot that stands still, for trying clients out.
"""

from __future__ import annotations

import argparse
import logging
import math
import signal
import threading
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence, TypeVar, Union

from service_clients._axon.errors import AxonCanceled, AxonError, AxonTypeError, AxonValueError
from service_clients._axon.plain import flat_numbers
from service_clients._axon.stream_server import Command, StreamServer, StreamServerStats, picture_file

if TYPE_CHECKING:
    import numpy

    Vector = Union[Sequence[float], Mapping[str, float], numpy.ndarray[Any, Any]]

__all__ = ["Command", "CommandError", "RobotBackendServer"]

_LOGGER = logging.getLogger(__name__)

_Server = TypeVar("_Server", bound="RobotBackendServer")


class CommandError(ValueError):
    """Raised by an on_command: the client is answered with an error that names the field."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class RobotBackendServer:
    """A robot's backend. Threads may share it; it is a context manager, which starts and stops it."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        on_command: Callable[[Command], object] | None = None,
        *,
        api_key: str | None = None,
        **options: Any,
    ) -> None:
        """Prepares a server; it listens from start() or serve_forever() on.

        Args:
            host: what to listen on; the default is this machine alone, "0.0.0.0" every network.
            port: None is 8200; 0 is one that is free, see `port`.
            on_command: called with each command, one after the other: on a thread of its own, or on that of
                serve_forever(). Raising CommandError or another ValueError answers the client with an error, any
                other Exception is logged besides. None: commands are answered with an error.
            api_key: clients must send "Authorization: Api-Key <api_key>", else they get HTTP 401; None: everyone who
                reaches it may command the robot.
            options: max_connections (64), max_message_bytes (of a command, 256 KiB), max_commands (that wait, 256),
                client_depth and client_bytes (of what waits for one client, 32 messages and 16 MiB), stuck_timeout (10
                seconds), ping_interval (20), dead_after (60), stop_timeout (1).
        """
        if on_command is not None and not callable(on_command):
            raise AxonTypeError(f"on_command is {on_command!r:.80}, not a function")
        self._where = (host, port)
        self._options = {"api_key": api_key, **options}
        self._on_command = on_command
        self._server: StreamServer | None = None
        self._thread: threading.Thread | None = None

    # ---- life ----

    @property
    def url(self) -> str:
        """Where it listens: "ws://127.0.0.1:8200".

        Raises:
            AxonValueError: it does not, yet or any more.
        """
        return self._listening().url

    @property
    def port(self) -> int:
        """The port that it listens on; raises as `url`."""
        return self._listening().port

    def start(self) -> None:
        """Listens, and has commands answered by a thread. Clients may connect from now on.

        Raises:
            AxonFileError: the address cannot be listened on; AxonValueError: an option that cannot be.
        """
        server = self._listen()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._obey, args=(server,), name="axon-backend", daemon=True
            )
            self._thread.start()

    def serve_forever(self) -> None:
        """Listens, and answers commands on this thread, until stop() is called or Ctrl-C comes."""
        server = self._listen()
        try:
            self._obey(server)
        finally:
            self.stop()

    def stop(self) -> None:
        """Says goodbye to every client, and ends the thread that answers commands. May be repeated."""
        server, self._server = self._server, None
        thread, self._thread = self._thread, None
        if server is not None:
            server.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def __enter__(self: _Server) -> _Server:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    # ---- what it says ----

    def publish_status(
        self,
        robot_id: str,
        status: str,
        position: Vector = (0.0, 0.0, 0.0),
        orientation: str = "",
        timestamp: datetime | float | str | None = None,
        **fields: Any,
    ) -> None:
        """Sends a robot_status to every client of `/ws/robot_control`.

        Args:
            robot_id: whose it is.
            status: in the backend's words.
            position: x, y, z, in m as a rule.
            orientation: as text.
            timestamp: when it was so: a datetime (one without a zone is local time), seconds since 1970, or text that
                goes out as it is; None: now.
            fields: more of them, which go along.

        Raises:
            AxonValueError: a message that does not travel, naming the field.
        """
        pose = {**_axes(position, "position"), **_texts(orientation=orientation)}
        message = {"type": "robot_status", **_texts(robot_id=robot_id, status=status), "current_pose": pose}
        self.publish("robot_control", {**message, **_stamp(timestamp), **fields})

    def publish_plan_status(
        self,
        command_id: str,
        action_id: str,
        status: str,
        message: str = "",
        timestamp: datetime | float | str | None = None,
        **fields: Any,
    ) -> None:
        """Sends an action_plan_status to every client of `/ws/robot_control`; see publish_status().

        Args:
            command_id: the command that it is about.
            action_id: the step of its plan.
            status: in the backend's words: "accepted", "completed".
            message: what there is to say about it.
        """
        plan = _texts(command_id=command_id, action_id=action_id, status=status, message=message)
        self.publish("robot_control", {"type": "action_plan_status", **plan, **_stamp(timestamp), **fields})

    def publish_camera(
        self,
        robot_id: str,
        camera_id: str,
        image: Any,
        timestamp: datetime | float | str | None = None,
        *,
        color: str = "rgb",
        quality: int | None = None,
        **fields: Any,
    ) -> None:
        """Sends a camera_feed to every client of `/ws/sensor_data`; see publish_status().

        Args:
            robot_id: whose camera it is.
            camera_id: which of them.
            image: bytes of a JPEG or PNG, which go out as they are; or pixels, uint8 (height, width, 3), which become
                a JPEG; or a path or a PIL image.
            color: the channel order of pixels, "rgb" or "bgr".
            quality: of the JPEG that pixels become, 1 to 100; default 90.
        """
        picture = picture_file(image, color, quality)
        names = _texts(robot_id=robot_id, camera_id=camera_id)
        message = {"type": "camera_feed", **names, "image_data": picture}
        self.publish("sensor_data", {**message, **_stamp(timestamp), **fields})

    def publish_imu(
        self,
        robot_id: str,
        imu_id: str,
        accelerometer: Vector,
        gyroscope: Vector,
        timestamp: datetime | float | str | None = None,
        **fields: Any,
    ) -> None:
        """Sends imu_data to every client of `/ws/sensor_data`; see publish_status().

        Args:
            robot_id: whose IMU it is.
            imu_id: which of them.
            accelerometer: x, y, z, in m/s2 as a rule: 3 numbers, or a dict of them.
            gyroscope: x, y, z, in rad/s as a rule; likewise.
        """
        sensed = {
            "accelerometer": _axes(accelerometer, "accelerometer"),
            "gyroscope": _axes(gyroscope, "gyroscope"),
        }
        message = {"type": "imu_data", **_texts(robot_id=robot_id, imu_id=imu_id), **sensed}
        self.publish("sensor_data", {**message, **_stamp(timestamp), **fields})

    def publish(self, endpoint: str, message: Mapping[str, Any]) -> None:
        """Sends a message of any type to every client of "robot_control" or "sensor_data".

        Args:
            message: has a `type`; a `timestamp` of now is added when it has none. bytes become base64, arrays lists.

        Raises:
            AxonValueError: a message that does not travel, naming the place; or the server is not started.
        """
        self._listening().publish(endpoint, message)

    def stats(self) -> StreamServerStats:
        """Counters since the start."""
        return self._listening().stats()

    # ---- inside ----

    def _listen(self) -> StreamServer:
        if self._server is None:
            self._server = StreamServer(*self._where, **self._options)
            _LOGGER.info("Serving on %s", self._server.url)
        return self._server

    def _listening(self) -> StreamServer:
        server = self._server
        if server is None:
            raise AxonValueError(
                "the backend does not listen: start() has not been called, or it was stopped"
            )
        return server

    def _obey(self, server: StreamServer) -> None:
        """Hands out commands until the server is closed."""
        while True:
            try:
                command = server.next_command()
            except AxonError as error:
                if not server.closed and not isinstance(error, AxonCanceled):
                    raise
                return
            self._hand_out(command)

    def _hand_out(self, command: Command) -> None:
        if self._on_command is None:
            command.refuse("this backend takes no commands")
            return
        try:
            self._on_command(command)
        except CommandError as problem:
            command.refuse(str(problem), problem.field)
        except ValueError as problem:
            command.refuse(str(problem))
        except Exception:
            _LOGGER.exception("%r failed", command)
            command.refuse("internal error")


def _axes(values: Vector, name: str) -> dict[str, float]:
    if isinstance(values, Mapping):
        if set(values) != {"x", "y", "z"}:
            raise AxonValueError(f"{name}: its keys must be x, y, z, not {', '.join(map(str, values))}")
        values = [values[axis] for axis in "xyz"]
    return dict(zip("xyz", flat_numbers(values, 3, name)))


def _texts(**given: str) -> dict[str, str]:
    """Fields of the protocol's that are text: a client would take another thing for a fault."""
    for name, value in given.items():
        if not isinstance(value, str):
            raise AxonTypeError(f"{name} is {value!r:.80}, not a str")
    return given


def _stamp(timestamp: datetime | float | str | None) -> dict[str, str]:
    """The `timestamp` field; {} leaves it to C, which takes the time of sending."""
    if timestamp is None:
        return {}
    if isinstance(timestamp, str):
        return {"timestamp": timestamp}
    if isinstance(timestamp, datetime):
        return {"timestamp": timestamp.astimezone(timezone.utc).isoformat()}
    if isinstance(timestamp, (int, float)) and not isinstance(timestamp, bool) and math.isfinite(timestamp):
        try:
            return {"timestamp": datetime.fromtimestamp(timestamp, timezone.utc).isoformat()}
        except (OverflowError, OSError, ValueError):
            raise AxonValueError(f"timestamp is {timestamp!r:.80}, not within the years 1 to 9999") from None
    raise AxonTypeError(f"timestamp is {timestamp!r:.80}, not a datetime, a number of seconds or a str")


# ---- the command ---------------------------------------------------------------------------------


def _play(server: RobotBackendServer, picture: bytes, fps: float, seconds: float) -> None:
    """A robot that stands still."""
    begun, number = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        server.publish_camera("robot-1", "front", picture, frame=number)
        server.publish_imu("robot-1", "base", (0.0, 0.0, 9.81), (0.0, 0.0, 0.0))
        if number % max(1, round(fps)) == 0:
            server.publish_status("robot-1", "idle", orientation="0 0 0 1")
        number += 1
        time.sleep(max(0.0, begun + number / fps - time.monotonic()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays a robot that stands still, until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m service_clients.physical_ai.server",
        description="Plays a robot that stands still: one picture as its camera, an IMU, and commands that are completed at once.",
    )
    parser.add_argument("--image", required=True, help="the picture that its camera sees, a JPEG or PNG")
    parser.add_argument("--fps", type=float, default=30.0, help="pictures and IMU samples per second (30)")
    parser.add_argument("--host", default="127.0.0.1", help="what to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8200, help="0 is one that is free (8200)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="how long (until Ctrl-C)")
    given = parser.parse_args(arguments)
    if not 0 < given.fps <= 1000:
        parser.error(f"--fps is {given.fps:g}, not above 0 and at most 1000")

    def complete(command: Command) -> None:
        for status in ("accepted", "completed"):
            server.publish_plan_status(command.command_id, "1", status, command.command_type)

    server = RobotBackendServer(given.host, given.port, complete)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with open(given.image, "rb") as file:
            picture = file.read()
        with server:
            print(server.url, flush=True)
            _play(server, picture, given.fps, given.seconds)
    except KeyboardInterrupt:
        pass
    except (OSError, AxonError) as problem:
        parser.exit(1, f"{parser.prog}: {problem}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
