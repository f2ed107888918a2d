"""The robot backend's clients, with backends on FastAPI and on `websockets` in the document's style."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import socket
import threading
import time
from datetime import datetime, timezone
from itertools import islice
from typing import Any, Callable, Iterator

import numpy as np
import pytest
from fastapi import WebSocket  # FastAPI looks annotations up by name, in this module
from support import CHECKOUT, RunScript, Serve, running_threads, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from service_clients._axon import (
    AxonCanceled,
    AxonConnectionError,
    AxonProtocolError,
    AxonTimeout,
    AxonValueError,
)
from service_clients.physical_ai.client import (
    ActionPlanStatus,
    CameraFrame,
    Fault,
    Gap,
    ImuSample,
    Message,
    RobotControl,
    RobotStatus,
    SensorData,
    read_message,
)

JPEG = (CHECKOUT / "tests" / "data" / "astronaut.jpg").read_bytes()


def camera(camera_id: str = "wrist", image: bytes = JPEG, **fields: Any) -> dict[str, Any]:
    return {
        "type": "camera_feed",
        "robot_id": "r1",
        "camera_id": camera_id,
        "image_data": base64.b64encode(image).decode(),
        "timestamp": datetime.now(timezone.utc).isoformat(),
        **fields,
    }


def imu(z: float) -> dict[str, Any]:
    return {
        "type": "imu_data",
        "robot_id": "r1",
        "imu_id": "base",
        "accelerometer": {"x": 0, "y": -0.5, "z": z},
        "gyroscope": {"x": 0.1, "y": 0.2, "z": 0.3},
        "timestamp": datetime.now(timezone.utc).isoformat(),
    }


def plan(command_id: str, status: str) -> dict[str, Any]:
    return {
        "type": "action_plan_status",
        "command_id": command_id,
        "action_id": "a1",
        "status": status,
        "message": f"it is {status}",
        "timestamp": datetime.now(timezone.utc).isoformat(),
    }


class Backend:
    """A backend on `websockets`: `session` plays its part on each connection."""

    def __init__(self, session: Callable[[ServerConnection], None], port: int = 0) -> None:
        def guarded(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                session(connection)
                for _ in connection:
                    pass

        self.server: Server = serve(guarded, "127.0.0.1", port)
        self.port: int = self.server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self._thread.join(20)
        self.server.socket.close()


@pytest.fixture
def backend() -> Iterator[Callable[..., Backend]]:
    """Makes backends, and stops them."""
    made: list[Backend] = []

    def make(session: Callable[[ServerConnection], None], port: int = 0) -> Backend:
        made.append(Backend(session, port))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def saying(*messages: Any) -> Callable[[ServerConnection], None]:
    def session(connection: ServerConnection) -> None:
        for message in messages:
            connection.send(message if isinstance(message, (str, bytes)) else json.dumps(message))

    return session


# ---- a backend on FastAPI ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fastapi_backend(serve: Serve) -> str:
    """Both endpoints as one would write them with FastAPI."""
    from fastapi import FastAPI, WebSocketDisconnect

    app = FastAPI()

    async def robot_control(socket: WebSocket) -> None:
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                command = await socket.receive_json()
                pose = {"x": 0.1, "y": 0.2, "z": 0.3, "orientation": "0 0 0 1"}
                stamp = datetime.now(timezone.utc).isoformat()
                await socket.send_json(
                    {
                        "type": "robot_status",
                        "robot_id": command["robot_id"],
                        "status": "moving",
                        "current_pose": pose,
                        "timestamp": stamp,
                        "battery": 0.5,
                    }
                )
                for status in ("accepted", "running", "completed"):
                    await socket.send_json(plan(command["command_id"], status))
                await socket.send_json({"type": "command_echo", "command": command})

    async def sensor_data(socket: WebSocket) -> None:
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            for number in range(10):
                await socket.send_json(camera("wrist" if number % 2 else "head"))
                await socket.send_json(imu(number))
            await socket.receive_text()

    app.add_api_websocket_route("/ws/robot_control", robot_control)
    app.add_api_websocket_route("/ws/sensor_data", sensor_data)
    return serve(app)


def test_a_command_and_its_statuses(fastapi_backend: str) -> None:
    with RobotControl(fastapi_backend) as robot:
        assert robot.url.endswith("/ws/robot_control")
        robot.send_direct_control("arm", "move_to", {"goal": np.array([1, 2.5]), "fast": True}, "c1")
        done = robot.wait_for_status("c1", 20, ("completed", "failed"))
        assert (done.status, done.action_id, done.message) == ("completed", "a1", "it is completed")
        status = robot.receive(20)
        assert isinstance(status, RobotStatus)
        assert (status.status, status.robot_id, status.orientation) == ("moving", "arm", "0 0 0 1")
        assert status.position.tolist() == [0.1, 0.2, 0.3]
        assert status.fields["battery"] == 0.5
        assert status.latency is not None and 0 <= status.latency < 10
        plans = [robot.receive(20) for _ in range(3)]
        assert [p.status for p in plans if isinstance(p, ActionPlanStatus)] == [
            "accepted",
            "running",
            "completed",
        ]
        echo = robot.receive(20)
        assert type(echo) is Message and echo.type == "command_echo"
        assert echo.fields["command"] == {
            "type": "direct_control",
            "robot_id": "arm",
            "command_type": "move_to",
            "command_id": "c1",
            "payload": {"goal": [1.0, 2.5], "fast": True},
        }
        assert robot.wait_for_status("c1", 20, "running").message == "it is running"
        with pytest.raises(AxonTimeout, match='"c1": no such status came, the last one is completed'):
            robot.wait_for_status("c1", 0.05, "failed")


def test_frames_and_samples(fastapi_backend: str) -> None:
    with SensorData(fastapi_backend) as sensors:
        frame = sensors.get_frame("wrist", 20)
        assert frame.image == JPEG and frame.camera_id == "wrist" and "image_data" not in frame.fields
        assert (frame.format, frame.width, frame.height) == ("jpeg", 512, 512)
        pixels = frame.array()
        assert pixels.shape == (512, 512, 3) and pixels.dtype == np.uint8
        assert (pixels[..., ::-1] == frame.array("bgr")).all()
        assert frame.timestamp is not None and frame.timestamp.tzinfo is timezone.utc
        for number, sample in enumerate(islice(sensors.imu("base", 20), 10)):
            assert sample.accelerometer.tolist() == [0, -0.5, number]
            assert sample.gyroscope.dtype == np.float64 and sample.gyroscope.shape == (3,)
        assert [frame.camera_id for frame in islice(sensors.frames("head", 20), 5)] == ["head"] * 5
        stats = sensors.stats()
        assert (stats.received, stats.dropped, stats.faults, stats.is_connected) == (20, 0, 0, True)
        assert [channel[:4] for channel in sensors.channels()] == [
            ("camera_feed", "r1", "head", 5),
            ("imu_data", "r1", "base", 10),
            ("camera_feed", "r1", "wrist", 5),
        ]


def test_pictures_can_come_as_arrays(backend: Callable[..., Backend]) -> None:
    cut_off = camera(image=JPEG[:2000])
    with SensorData("127.0.0.1", backend(saying(camera(), cut_off)).port, images="array") as sensors:
        frame, fault = sensors.receive(20), sensors.receive(20)
        assert isinstance(frame, CameraFrame) and frame.pixels is not None
        assert frame.pixels.shape == (512, 512, 3)
        assert isinstance(fault, Fault) and fault.reason.startswith("camera_feed of wrist: image_data: ")


# ---- what is dropped, lost and wrong -------------------------------------------------------------


def test_the_latest_frame_is_the_one_that_waits(backend: Callable[..., Backend]) -> None:
    frames = [camera(number=number) for number in range(20)]
    with SensorData(f"ws://127.0.0.1:{backend(saying(*frames)).port}", overflow="latest") as sensors:
        wait_until(lambda: sensors.stats().received == 20)
        frame = sensors.get_frame(timeout=20)
        assert (frame.fields["number"], frame.dropped) == (19, 19)
        with pytest.raises(AxonTimeout, match="no message"):
            sensors.get_frame(timeout=0)


def test_bad_messages_are_told_and_the_stream_goes_on(backend: Callable[..., Backend]) -> None:
    bad = [
        "hello",
        json.dumps(imu(1)).replace("0.5", "NaN"),
        camera(image=b"GIFT, not a GIF"),
        camera(image_data="*" * 100),
        {**imu(1), "gyroscope": [0, 0, 0]},
        {**imu(1), "accelerometer": {"x": 1, "y": True, "z": 1}},
        {**plan("c", "x"), "status": 7},
        {"robot_id": "r1"},
        b"\x00\x01",
    ]
    words = [
        "'h' at byte 0",
        "'N' at byte",
        "camera_feed of wrist: image_data is no picture",
        "image_data is not base64: byte 0x2a at offset 0",
        "imu_data of base: gyroscope is a list, not an object",
        "accelerometer.y is a bool, not a number",
        "action_plan_status: status is a number, not text",
        "type is missing",
        "2 bytes of binary data",
    ]
    with SensorData("127.0.0.1", backend(saying(*bad, imu(9))).port) as sensors:
        for part in words:
            fault = sensors.receive(20)
            assert isinstance(fault, Fault)
            assert part in fault.reason
        good = sensors.receive(20)
        assert isinstance(good, ImuSample) and good.accelerometer[2] == 9
        assert (sensors.stats().faults, sensors.stats().gaps) == (len(bad), 0)


def test_loops_over_frames_pass_bad_ones_over(backend: Callable[..., Backend]) -> None:
    said = saying(camera(number=0), camera(image=b"none"), imu(1), camera(number=2))
    with SensorData("127.0.0.1", backend(said).port) as sensors:
        assert [f.fields["number"] for f in islice(sensors.frames(timeout=20), 2)] == [0, 2]


def test_frames_that_wait_behind_bad_ones_need_no_waiting(backend: Callable[..., Backend]) -> None:
    said = saying(*[camera(image=b"none") for _ in range(5)], camera(number=5))
    with SensorData("127.0.0.1", backend(said).port) as sensors:
        wait_until(lambda: sensors.stats().received == 6)
        assert sensors.get_frame(timeout=0).fields["number"] == 5
        with pytest.raises(AxonTimeout):
            sensors.get_frame(timeout=0)


@pytest.mark.parametrize(
    ("bad", "good", "take"),
    [
        (camera(image=b"none"), camera(), lambda s: s.get_frame("wrist", 0.4)),
        (camera(image_data=7), camera(), lambda s: next(s.frames(timeout=0.4))),
        ({**imu(1), "gyroscope": 0}, imu(1), lambda s: next(s.imu("base", 0.4))),
        (plan("c2", "done"), plan("c1", "done"), lambda s: s.wait_for_status("c1", 0.4)),
    ],
)
def test_what_is_passed_over_does_not_prolong_a_wait(
    backend: Callable[..., Backend], bad: Any, good: Any, take: Callable[[Any], Any]
) -> None:
    def session(connection: ServerConnection) -> None:
        for _ in range(100):  # one every 0.1 s; then what the caller has given up by then
            connection.send(json.dumps(bad))
            time.sleep(0.1)
        connection.send(json.dumps(good))

    client = RobotControl if bad["type"] == "action_plan_status" else SensorData
    with client("127.0.0.1", backend(session).port) as stream:
        with pytest.raises(AxonTimeout):
            take(stream)
        assert stream.stats().received < 100


def test_unknown_types_and_fields_come_through(backend: Callable[..., Backend]) -> None:
    scan = {"type": "lidar_scan", "robot_id": "r1", "ranges": [1, 2.5, None], "timestamp": 1795273445.5}
    with SensorData("127.0.0.1", backend(saying(scan, camera(exposure_ms=8))).port) as sensors:
        message = sensors.receive(20, type="lidar_scan")
        assert message.fields == scan and message.stamp_ns == 1795273445500000000
        assert sensors.get_frame(timeout=20).fields["exposure_ms"] == 8


def test_a_clock_that_jumps_gives_no_latency(backend: Callable[..., Backend]) -> None:
    stamps = ["2001-01-01T00:00:00Z", "2200-01-01T00:00:00", "yesterday", None]
    said = saying(*[{**imu(1), "timestamp": stamp} for stamp in stamps])
    with SensorData("127.0.0.1", backend(said).port) as sensors:
        found = [sensors.receive(20) for _ in stamps]
        assert [message.latency for message in found] == [None] * 4
        assert [message.stamp_ns is None for message in found] == [False, False, True, True]
        assert found[0].timestamp == datetime(2001, 1, 1, tzinfo=timezone.utc)
        assert (sensors.stats().odd_time, sensors.stats().unknown_time) == (2, 2)


def test_a_gap_is_told_after_the_reconnect(backend: Callable[..., Backend]) -> None:
    first = backend(saying(imu(1)))
    with SensorData("127.0.0.1", first.port, retry_min=0.01, retry_max=0.05) as sensors:
        assert isinstance(sensors.receive(20), ImuSample)
        begun = time.time_ns()
        first.stop()
        wait_until(lambda: not sensors.stats().is_connected)
        with pytest.raises(AxonTimeout, match="there has been no connection for"):
            sensors.receive(0.3)
        backend(saying(imu(2)), first.port)
        gap = sensors.receive(20)
        assert isinstance(gap, Gap)
        assert gap.seconds >= 0.2 and gap.attempts >= 1 and abs(gap.since_ns - begun) < 60e9
        assert "1001 (going away)" in gap.reason
        assert isinstance(sensors.receive(20), ImuSample)
        assert sensors.stats().gaps == 1


def test_a_command_is_never_sent_late(backend: Callable[..., Backend]) -> None:
    heard: list[str] = []

    def session(connection: ServerConnection) -> None:
        heard.extend(str(message) for message in connection)

    first = backend(session)
    with RobotControl("127.0.0.1", first.port, retry_min=0.01, retry_max=0.05) as robot:
        first.stop()
        wait_until(lambda: not robot.stats().is_connected)
        with pytest.raises(AxonConnectionError, match="there is no connection: "):
            robot.send_direct_control("arm", "stop")
        backend(session, first.port)
        wait_until(lambda: robot.stats().is_connected)
        robot.send_direct_control("arm", "go")
        wait_until(lambda: heard)
    assert [json.loads(text)["command_type"] for text in heard] == ["go"]


def test_without_reconnect_a_lost_connection_is_an_error(backend: Callable[..., Backend]) -> None:
    first = backend(saying(imu(1)))
    with SensorData("127.0.0.1", first.port, reconnect=False) as sensors:
        assert isinstance(sensors.receive(20), ImuSample)
        first.stop()
        with pytest.raises(AxonConnectionError, match="1001"):
            sensors.receive(20)


def test_nobody_there_and_no_websocket_server(backend: Callable[..., Backend], serve: Serve) -> None:
    from fastapi import FastAPI

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(AxonTimeout, match=f"ws://127.0.0.1:{port}/ws/sensor_data"):
            SensorData("127.0.0.1", port, connect_timeout=0.2)
    with pytest.raises(AxonConnectionError, match=f"127.0.0.1:{port}"):
        SensorData("127.0.0.1", port, connect_timeout=0.2)
    with pytest.raises(RuntimeError, match=r"403|404"):
        SensorData(serve(FastAPI()), connect_timeout=5)


# ---- callbacks, threads, signals -----------------------------------------------------------------


def test_callbacks_hear_what_they_want(backend: Callable[..., Backend]) -> None:
    said = [camera("wrist", n=n) if n % 3 else camera("head", n=n) for n in range(30)] + [imu(7)]
    before, everyone_is_there = running_threads(), threading.Event()

    def session(connection: ServerConnection) -> None:
        assert everyone_is_there.wait(20)
        saying(*said)(connection)

    with SensorData("127.0.0.1", backend(session).port) as sensors:
        all_heard: list[Message] = []
        wrist: list[int] = []

        def fail(message: Message) -> None:
            raise ValueError("a callback's own affair")

        with sensors.subscribe(all_heard.append), sensors.subscribe(fail):
            subscription = sensors.on_frame(lambda frame: wrist.append(frame.fields["n"]), "wrist")
            everyone_is_there.set()
            wait_until(lambda: len(all_heard) == 31)
            with pytest.raises(AxonValueError, match="it has subscribers"):
                sensors.receive(0)
            subscription.stop()
        assert wrist == [n for n in range(30) if n % 3] and isinstance(all_heard[-1], ImuSample)
        with pytest.raises(AxonTimeout):
            sensors.receive(0)
    del sensors
    wait_until(lambda: running_threads() <= before + 2)  # those of the backend


def test_a_callback_may_end_its_own_subscription(backend: Callable[..., Backend]) -> None:
    with SensorData("127.0.0.1", backend(saying(*[imu(n) for n in range(5)])).port) as sensors:
        heard: list[Message] = []

        def once(message: Message) -> None:
            heard.append(message)
            subscription.stop()

        wait_until(lambda: sensors.stats().received == 5)
        subscription = sensors.subscribe(once)
        wait_until(lambda: heard)
        assert isinstance(sensors.receive(20), ImuSample)
        assert len(heard) == 1


def test_closing_ends_loops_and_waits(backend: Callable[..., Backend]) -> None:
    sensors = SensorData("127.0.0.1", backend(saying(imu(1))).port)
    seen: list[Any] = []

    def loop() -> None:
        seen.extend(sensors)
        seen.append("end")

    def wait() -> None:
        try:
            sensors.receive(type="nothing")
        except AxonCanceled:
            seen.append("cancelled")

    threads = [threading.Thread(target=target) for target in (loop, wait)]
    for thread in threads:
        thread.start()
    wait_until(lambda: seen)
    sensors.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert set(seen[1:]) == {"end", "cancelled"}
    sensors.close()
    with pytest.raises(AxonValueError, match="is closed"):
        sensors.receive(0)
    assert list(sensors) == []


def test_ctrl_c_ends_a_wait(backend: Callable[..., Backend]) -> None:
    with SensorData("127.0.0.1", backend(saying()).port) as sensors:
        timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            sensors.receive(20)
        with pytest.raises(AxonTimeout):
            sensors.receive(0)


def test_blocking_loses_nothing(backend: Callable[..., Backend]) -> None:
    said = [camera(n=n) for n in range(200)]
    with SensorData("127.0.0.1", backend(saying(*said)).port, overflow="block", depth=2) as sensors:
        assert [f.fields["n"] for f in islice(sensors.frames(timeout=20), 200)] == list(range(200))
        assert sensors.stats().dropped == 0


def test_options_that_cannot_be_are_named(backend: Callable[..., Backend]) -> None:
    port = backend(saying()).port
    for options, word in [
        ({"overflow": "newest"}, "overflow is 'newest'"),
        ({"images": "pixels"}, "images is 'pixels'"),
        ({"depth": -1}, "depth"),
        ({"depth": 1 << 30}, "depth: 1073741824, limit"),
        ({"connect_timeout": 0}, "connect_timeout"),
        ({"authorization": "a\nb"}, "authorization"),
    ]:
        with pytest.raises(AxonValueError, match=word):
            SensorData("127.0.0.1", port, **options)  # type: ignore[arg-type]
    with RobotControl("127.0.0.1", port) as robot:
        with pytest.raises(AxonValueError, match="robot_id"):
            robot.send_direct_control("", "go")
        with pytest.raises(AxonValueError, match="payload"):
            robot.send_direct_control("arm", "go", [1])  # type: ignore[arg-type]
        with pytest.raises(AxonValueError, match=r'"payload\.x": NaN'):
            robot.send_direct_control("arm", "go", {"x": float("nan")})


def test_one_message_can_be_read_from_its_text() -> None:
    text = json.dumps(camera())
    for form in (text, text.encode(), memoryview(text.encode())):
        frame = read_message(form)
        assert isinstance(frame, CameraFrame) and frame.image == JPEG
    with pytest.raises(AxonProtocolError, match="image_data is not base64"):
        read_message(text[:500] + "*" + text[501:])


def test_the_client_runs_in_the_sandbox(backend: Callable[..., Backend], run_script: RunScript) -> None:
    script = (
        "import sys, runpy\n"
        "from service_clients.demo import sandbox\n"
        "sys.argv = ['sandbox', '--frame', sys.argv[1], sys.argv[2], sys.argv[3]]\n"
        "runpy.run_module('service_clients.demo.sandbox', run_name='__main__')\n"
    )
    skill = CHECKOUT / "build" / "sandboxed_sensors.py"
    skill.parent.mkdir(exist_ok=True)
    skill.write_text(
        "import sys\n"
        "from service_clients.physical_ai.client import SensorData\n"
        "with SensorData('127.0.0.1', int(sys.argv[1])) as sensors:\n"
        "    print(sensors.get_frame(timeout=20).array().shape)\n"
    )
    port = backend(saying(camera())).port
    done = run_script(script, str(CHECKOUT / "tests" / "data" / "astronaut.jpg"), str(skill), str(port))
    assert "(512, 512, 3)" in done.stdout
