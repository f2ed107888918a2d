"""
physical-ai - robot backend client

Two streams of a robot backend (JSON over WebSocket): `RobotControl` sends commands and hears robot and plan
statuses, `SensorData` hears camera feeds and IMU data.

Usage:
    from service_clients.physical_ai.client import SensorData
    from service_clients.physical_ai.client import RobotControl

    with RobotControl(host="127.0.0.1", port=8200) as robot:
        robot.send_direct_control("arm-1", "move_to", {"x": 0.4, "y": 0.0, "z": 0.2}, command_id="go-1")
        done = robot.wait_for_status("go-1", timeout=30, status=("completed", "failed"))
        print(done.status, done.message)
        for message in robot:                               # every message, until close()
            print(message.type, message.fields)

    with SensorData(host="127.0.0.1", port=8200, overflow="latest") as sensors:
        frame = sensors.get_frame("wrist", timeout=5)       # the newest
        jpeg, pixels = frame.image, frame.array()           # bytes; uint8 (height, width, 3), RGB
        for sample in sensors.imu():
            print(sample.accelerometer, sample.gyroscope, sample.latency)

A thread in C receives, answers pings and reconnects by itself. What nobody has taken yet waits in a buffer per
channel (type, robot, camera or IMU); `overflow` says what happens when one is full, `message.dropped` how many
were dropped. After a reconnect a `Gap` says how long nothing could be received; what is no message (text that
is not JSON, a picture that is none) comes as a `Fault` that names it. Types and fields that axon does not know
are handed through, in `fields`.

Everything raised is a RuntimeError: no connection (also a ConnectionError), a deadline that passed (also a
TimeoutError), an argument that cannot be (also a ValueError). The client stays usable after each of them.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping, Sequence

from service_clients._axon import (
    ActionPlanStatus,
    CameraFrame,
    Fault,
    Gap,
    ImuSample,
    Message,
    RobotStatus,
    StreamClient,
    Subscription,
    read_message,
)

__all__ = [
    "ActionPlanStatus",
    "CameraFrame",
    "Fault",
    "Gap",
    "ImuSample",
    "Message",
    "RobotControl",
    "RobotStatus",
    "SensorData",
    "read_message",
]


class RobotControl(StreamClient):
    """`/ws/robot_control`: commands go, statuses come. Threads may share it."""

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        overflow: str = "drop oldest",
        depth: int | None = None,
        connect_timeout: float | None = None,
        api_key: str | None = None,
        **options: Any,
    ) -> None:
        """Connects, waiting for a backend that is not up yet.

        Args:
            host: name or address, or a whole "ws://", "wss://", "http://" or "https://" URL; default
                AXON_HOST_PHYSICAL_AI, the host in service.json, "127.0.0.1".
            port: default that of the URL, or 8200.
            overflow: what happens to a message whose channel has no room: "drop oldest", "latest" (room for
                one), or "block" (nothing more is received until there is room: somebody must take them).
            depth: messages that a channel has room for; default 64.
            connect_timeout: seconds; default 10.
            api_key: sent as "Authorization: Api-Key <api_key>".
            options: more of them: send_timeout (default 5), retry_min, retry_max, max_latency,
                max_message_bytes, max_buffer_bytes, reconnect=False, authorization (the whole header, in
                place of api_key), ca_file (of the authorities to trust for wss://), tls_insecure=True.

        Raises:
            RuntimeError: see the module's docstring.
        """
        super().__init__(
            host,
            port,
            "robot_control",
            __file__,
            overflow=overflow,
            depth=depth,
            connect_timeout=connect_timeout,
            api_key=api_key,
            **options,
        )

    def send_direct_control(
        self,
        robot_id: str,
        command_type: str,
        payload: Mapping[str, Any] | None = None,
        command_id: str | None = None,
    ) -> None:
        """Sends a command: now, or not at all. While the connection is lost it fails at once.

        Args:
            robot_id: which robot.
            command_type: in the backend's words: "move_to".
            payload: what else the command says; arrays become lists.
            command_id: goes along, for backends that take one over into action_plan_status.

        Raises:
            AxonConnectionError: there is no connection at the moment; AxonTimeout: it could not be sent in
            time; AxonValueError: a command that does not travel, naming the field.
        """
        self._stream.send_control(robot_id, command_type, payload, command_id)

    def wait_for_status(
        self, command_id: str, timeout: float | None = 30.0, status: str | Sequence[str] | None = None
    ) -> ActionPlanStatus:
        """Waits for an action_plan_status of a command, beside loops and callbacks: they get it, too.

        Args:
            command_id: which command. A status that came earlier counts, of the last 256.
            timeout: seconds; None waits for ever.
            status: the `status` that is waited for, or several of them; None: any.

        Returns:
            The newest of them.

        Raises:
            AxonTimeout: none came; the message has the last one that did.
        """
        return self._stream.wait_for_status(command_id, timeout, status)


class SensorData(StreamClient):
    """`/ws/sensor_data`: camera feeds and IMU data come. Threads may share it."""

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        overflow: str = "drop oldest",
        depth: int | None = None,
        images: str = "bytes",
        connect_timeout: float | None = None,
        api_key: str | None = None,
        **options: Any,
    ) -> None:
        """Connects, waiting for a backend that is not up yet.

        Args:
            host, port, overflow, depth, connect_timeout, api_key, options: as for RobotControl. "latest" is for
                controllers that want the newest frame and no other.
            images: "bytes": frames hold the picture file, and array() decodes it when asked; "array": it is
                decoded as it is received, into `pixels`, and one that cannot be decoded is a Fault.

        Raises:
            RuntimeError: see the module's docstring.
        """
        super().__init__(
            host,
            port,
            "sensor_data",
            __file__,
            overflow=overflow,
            depth=depth,
            images=images,
            connect_timeout=connect_timeout,
            api_key=api_key,
            **options,
        )

    def get_frame(
        self, camera_id: str | None = None, timeout: float | None = 10.0, *, robot_id: str | None = None
    ) -> CameraFrame:
        """The oldest frame that waits, or the next one: with overflow="latest" always the newest.

        Pictures that are none are left out.

        Args:
            camera_id: of this camera; None: of any.
            timeout: seconds, whatever is left out meanwhile; None waits for ever, 0 does not wait.
            robot_id: of this robot; None: of any.

        Raises:
            AxonTimeout: none came.
        """
        return self._stream.receive_only(
            CameraFrame, timeout, type="camera_feed", robot_id=robot_id, source_id=camera_id
        )

    def frames(
        self, camera_id: str | None = None, timeout: float | None = None, *, robot_id: str | None = None
    ) -> Iterator[CameraFrame]:
        """Camera frames as they come; other messages stay where they are. Pictures that are none are left out.

        Arguments and errors are those of get_frame(), `timeout` being for each frame.
        """
        return self._stream.messages_only(
            CameraFrame, timeout, type="camera_feed", robot_id=robot_id, source_id=camera_id
        )

    def imu(
        self, imu_id: str | None = None, timeout: float | None = None, *, robot_id: str | None = None
    ) -> Iterator[ImuSample]:
        """IMU samples as they come; other messages stay where they are. Samples that are none are left out.

        Arguments and errors are those of frames().
        """
        return self._stream.messages_only(
            ImuSample, timeout, type="imu_data", robot_id=robot_id, source_id=imu_id
        )

    def on_frame(
        self, callback: Callable[[CameraFrame], object], camera_id: str | None = None
    ) -> Subscription:
        """Has `callback` called with every camera frame; see subscribe()."""

        def hear(message: Message) -> None:
            if isinstance(message, CameraFrame):
                callback(message)

        return self.subscribe(hear, type="camera_feed", source_id=camera_id)
