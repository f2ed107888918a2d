"""What a robot backend's streams hand over: a class for each kind of message, for gaps and for faults."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy

__all__ = [
    "ActionPlanStatus",
    "CameraFrame",
    "ChannelStats",
    "Fault",
    "Gap",
    "ImuSample",
    "Message",
    "RobotStatus",
    "StreamStats",
]

_1970 = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


class Message:
    """One message, of any type.

    Attributes:
        type: as the backend wrote it; "" for a gap, and for text that is no JSON object.
        fields: all fields as a dict, unknown ones and the type among them; {} for a gap.
        stamp_ns: `timestamp` in ns since 1970 (one without a zone is UTC); None when it has none that can be read.
        received_ns: when the message had come, by this machine's clock; ns since 1970.
        latency: seconds from one to the other; None when the two clocks do not allow to tell.
        dropped: messages of this channel (type, robot, camera or IMU) that were dropped since the one before.
    """

    __slots__ = ("dropped", "fields", "latency", "received_ns", "stamp_ns", "type")

    def __init__(
        self,
        fields: dict[str, Any],
        stamp_ns: int | None = None,
        received_ns: int = 0,
        latency: float | None = None,
        dropped: int = 0,
    ) -> None:
        self.fields = fields
        self.type = _text(fields.get("type"))
        self.stamp_ns = stamp_ns
        self.received_ns = received_ns
        self.latency = latency
        self.dropped = dropped

    @property
    def robot_id(self) -> str:
        """Whose message it is; "" when it does not say."""
        return _text(self.fields.get("robot_id"))

    @property
    def timestamp(self) -> datetime | None:
        """`stamp_ns` as a datetime in UTC, to the microsecond."""
        return None if self.stamp_ns is None else _1970 + timedelta(microseconds=self.stamp_ns // 1000)

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self._told() if value not in ("", None))
        return f"{type(self).__name__}({told})"

    def _told(self) -> list[tuple[str, Any]]:
        return [
            ("type", self.type),
            ("robot_id", self.robot_id),
            ("latency", self.latency),
            ("dropped", self.dropped or None),
        ]


class RobotStatus(Message):
    """`robot_status`."""

    __slots__ = ()

    @property
    def status(self) -> str:
        """In the backend's words."""
        return _text(self.fields.get("status"))

    @property
    def position(self) -> numpy.ndarray[Any, Any]:
        """`current_pose` x, y, z: float64 (3,), in the backend's unit, m as a rule; NaN where it does not say."""
        return _vector(self.fields.get("current_pose"))

    @property
    def orientation(self) -> str:
        """`current_pose.orientation`, as the backend writes it."""
        pose = self.fields.get("current_pose")
        return _text(pose.get("orientation")) if isinstance(pose, dict) else ""

    def _told(self) -> list[tuple[str, Any]]:
        return [("status", self.status), *super()._told()]


class ActionPlanStatus(Message):
    """`action_plan_status`."""

    __slots__ = ()

    @property
    def command_id(self) -> str:
        """The command that it is about."""
        return _text(self.fields.get("command_id"))

    @property
    def action_id(self) -> str:
        """The step of its plan."""
        return _text(self.fields.get("action_id"))

    @property
    def status(self) -> str:
        """In the backend's words."""
        return _text(self.fields.get("status"))

    @property
    def message(self) -> str:
        """What the backend says to it."""
        return _text(self.fields.get("message"))

    def _told(self) -> list[tuple[str, Any]]:
        return [("command_id", self.command_id), ("status", self.status), *super()._told()]


class CameraFrame(Message):
    """`camera_feed`.

    Attributes:
        image: the picture file: bytes of a JPEG or PNG as a rule. It is not in `fields`.
        format: "jpeg", "png", "webp", "bmp", "tiff", "gif" or "npy".
        width: pixels; 0 when the format is not one that axon reads.
        height: likewise.
        pixels: with images="array", what array() gives; else None.
    """

    __slots__ = ("format", "height", "image", "pixels", "width")

    image: bytes
    format: str
    width: int
    height: int
    pixels: numpy.ndarray[Any, Any] | None

    @property
    def camera_id(self) -> str:
        """Which of the robot's cameras."""
        return _text(self.fields.get("camera_id"))

    def array(self, color: str = "rgb") -> numpy.ndarray[Any, Any]:
        """The pixels: uint8 (height, width, 3), RGB or with color="bgr" BGR; 16-bit grey as uint16 (height, width).

        Raises:
            AxonProtocolError: a damaged picture; AxonValueError: of a format that axon does not decode.
        """
        from service_clients._axon.images import decode_image

        return decode_image(self.image, color)

    def _told(self) -> list[tuple[str, Any]]:
        size = f"{self.format} {self.width}x{self.height}, {len(self.image)} bytes"
        return [("camera_id", self.camera_id), ("image", size), *super()._told()]


class ImuSample(Message):
    """`imu_data`."""

    __slots__ = ()

    @property
    def imu_id(self) -> str:
        """Which of the robot's IMUs."""
        return _text(self.fields.get("imu_id"))

    @property
    def accelerometer(self) -> numpy.ndarray[Any, Any]:
        """x, y, z: float64 (3,), in the backend's unit, m/s2 as a rule; NaN where it does not say."""
        return _vector(self.fields.get("accelerometer"))

    @property
    def gyroscope(self) -> numpy.ndarray[Any, Any]:
        """x, y, z: float64 (3,), in the backend's unit, rad/s as a rule; NaN where it does not say."""
        return _vector(self.fields.get("gyroscope"))

    def _told(self) -> list[tuple[str, Any]]:
        return [("imu_id", self.imu_id), *super()._told()]


class Gap(Message):
    """The connection was lost, and stands again: nothing was received in between.

    Attributes:
        since_ns: when it was lost; ns since 1970.
        seconds: for how long there was none.
        attempts: tries that it took, the last one included.
        reason: why it was lost.
    """

    __slots__ = ("attempts", "reason", "seconds", "since_ns")

    since_ns: int
    seconds: float
    attempts: int
    reason: str

    def _told(self) -> list[tuple[str, Any]]:
        return [("seconds", self.seconds), ("attempts", self.attempts), ("reason", self.reason)]


class Fault(Message):
    """What came was no message: `reason` names what is wrong. `fields` has what could be read."""

    __slots__ = ("reason",)

    reason: str

    def _told(self) -> list[tuple[str, Any]]:
        return [("reason", self.reason)]


def _vector(axes: Any) -> numpy.ndarray[Any, Any]:
    try:
        import numpy
    except ImportError as error:
        raise ImportError(f"an array needs numpy, which cannot be imported: {error}") from error
    values = [axes.get(axis) for axis in "xyz"] if isinstance(axes, dict) else [None] * 3
    return numpy.array([numpy.nan if value is None else value for value in values], numpy.float64)


class StreamStats(NamedTuple):
    """What became of a stream so far."""

    is_connected: bool
    channels: int
    received: int  # messages, faults among them
    taken: int  # by receive(), loops and callbacks, gaps among them
    dropped: int  # for want of room
    waiting: int  # now
    waiting_bytes: int  # now
    faults: int
    gaps: int
    gap_seconds: float  # all gaps together
    unknown_time: int  # messages without a timestamp that could be read
    odd_time: int  # whose timestamp is in the future, long past, or before that of the one before
    sent: int  # commands


class ChannelStats(NamedTuple):
    """What became of the messages of one type, robot and camera or IMU."""

    type: str  # "gap" and "fault" for these
    robot_id: str
    source_id: str  # camera or IMU
    received: int
    dropped: int
    waiting: int
    latency: float | None  # seconds, of the last message; None when the clocks do not allow to tell
