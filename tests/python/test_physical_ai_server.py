"""The robot backend's server in Python, with clients on `websockets` and ours."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any, Callable, Iterator

import numpy as np
import pytest
from support import CHECKOUT, memory_tells, resident_bytes, wait_until
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from service_clients._axon import AxonConnectionError, AxonFileError, AxonValueError
from service_clients.physical_ai.client import (
    ActionPlanStatus,
    CameraFrame,
    ImuSample,
    Message,
    RobotControl,
    RobotStatus,
    SensorData,
)
from service_clients.physical_ai.server import Command, CommandError, RobotBackendServer

PHOTOGRAPH = CHECKOUT / "tests" / "data" / "astronaut.jpg"
JPEG = PHOTOGRAPH.read_bytes()


@pytest.fixture
def backend() -> Iterator[RobotBackendServer]:
    with RobotBackendServer(port=0) as server:
        yield server


@contextlib.contextmanager
def peer(server: RobotBackendServer, endpoint: str, **options: Any) -> Iterator[ClientConnection]:
    """A client on `websockets`."""
    count = server.stats().connections
    with connect(f"{server.url}/ws/{endpoint}", **options) as connection:
        wait_until(lambda: server.stats().connections == count + 1)
        yield connection


def hear(connection: ClientConnection) -> dict[str, Any]:
    text = connection.recv(20)
    assert isinstance(text, str)
    message = json.loads(text)
    assert isinstance(message, dict)
    assert abs(datetime.fromisoformat(message["timestamp"]).timestamp() - time.time()) < 60
    return message


def without_time(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "timestamp"}


# ---- what it says --------------------------------------------------------------------------------


def test_messages_are_those_of_the_document(backend: RobotBackendServer) -> None:
    with peer(backend, "sensor_data") as sensors, peer(backend, "robot_control") as control:
        backend.publish_camera("r1", "wrist", JPEG)
        backend.publish_imu("r1", "base", (0, -1.5, 9.81), np.array([0.1, 0.2, 0.3], np.float32))
        backend.publish_status("r1", "idle", {"x": 1, "y": 2, "z": 3}, "0 0 0 1", battery=0.5)
        backend.publish_plan_status("c1", "a1", "completed", "well done")
        camera = hear(sensors)
        assert base64.b64decode(camera.pop("image_data")) == JPEG
        assert without_time(camera) == {"type": "camera_feed", "robot_id": "r1", "camera_id": "wrist"}
        imu = hear(sensors)
        assert imu["accelerometer"] == {"x": 0, "y": -1.5, "z": 9.81}
        assert imu["gyroscope"] == pytest.approx({"x": 0.1, "y": 0.2, "z": 0.3})
        assert (imu["type"], imu["imu_id"], imu["robot_id"]) == ("imu_data", "base", "r1")
        assert without_time(hear(control)) == {
            "type": "robot_status",
            "robot_id": "r1",
            "status": "idle",
            "current_pose": {"x": 1.0, "y": 2.0, "z": 3.0, "orientation": "0 0 0 1"},
            "battery": 0.5,
        }
        assert without_time(hear(control)) == {
            "type": "action_plan_status",
            "command_id": "c1",
            "action_id": "a1",
            "status": "completed",
            "message": "well done",
        }


def test_our_clients_understand_it(backend: RobotBackendServer) -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[..., 0] = 255  # red
    with SensorData(backend.url) as sensors, RobotControl(backend.url) as control:
        wait_until(lambda: backend.stats().connections == 2)
        backend.publish_camera("r1", "wrist", pixels)
        backend.publish_camera("r1", "wrist", pixels[..., ::-1], color="bgr", quality=50)
        backend.publish_camera("r1", "wrist", PHOTOGRAPH)
        for _ in range(2):
            frame = sensors.receive(20)
            assert isinstance(frame, CameraFrame) and (frame.format, frame.width, frame.height) == (
                "jpeg",
                64,
                48,
            )
            assert abs(frame.array().astype(int) - pixels).max() < 10
            assert frame.latency is not None and 0 <= frame.latency < 10
        assert sensors.get_frame(timeout=20).image == JPEG
        backend.publish_imu("r1", "base", (1, 2, 3), (4, 5, 6))
        sample = next(sensors.imu(timeout=20))
        assert isinstance(sample, ImuSample) and sample.gyroscope.tolist() == [4, 5, 6]
        backend.publish_status("r1", "idle", (7, 8, 9))
        status = control.receive(20)
        assert isinstance(status, RobotStatus) and status.position.tolist() == [7, 8, 9]
        backend.publish("robot_control", {"type": "battery_low", "level": 0.1})
        assert control.receive(20).fields["level"] == 0.1


def test_timestamps_may_be_given(backend: RobotBackendServer) -> None:
    moment = datetime(2026, 11, 21, 15, 4, 5, 500000, timezone.utc)
    forms: list[Any] = [
        moment,
        moment.astimezone(timezone(timedelta(hours=9))),
        moment.timestamp(),
        moment.isoformat(),
    ]
    with SensorData(backend.url) as sensors:
        wait_until(lambda: backend.stats().connections == 1)
        for form in forms:
            backend.publish_imu("r", "i", (0, 0, 0), (0, 0, 0), form)
            assert sensors.receive(20).timestamp == moment


def test_what_does_not_travel_is_refused(backend: RobotBackendServer) -> None:
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: backend.publish_camera("r", "c", b"GIFT"), "image: .*not a picture"),
        (lambda: backend.publish_camera("r", "c", np.zeros((3, 3), object)), "image: object dtype"),
        (lambda: backend.publish_imu("r", "i", (0, 0), (0, 0, 0)), "accelerometer has 2 numbers, not 3"),
        (lambda: backend.publish_imu("r", "i", (0, 0, 0), {"x": 1}), "gyroscope: its keys must be x, y, z"),
        (lambda: backend.publish_imu("r", "i", (0, 0, float("nan")), (0, 0, 0)), r'"accelerometer\.z": NaN'),
        (lambda: backend.publish_status("r", "s", timestamp=True), "timestamp is True"),
        (lambda: backend.publish_status("r", "s", timestamp=1e20), r"timestamp is 1e\+20, not within"),
        (lambda: backend.publish_status(5, "s"), "robot_id is 5, not a str"),  # type: ignore[arg-type]
        (lambda: backend.publish_status("r", None), "status is None"),  # type: ignore[arg-type]
        (lambda: backend.publish_plan_status("c", 1, "s"), "action_id is 1"),  # type: ignore[arg-type]
        (lambda: backend.publish_imu("r", 0, (0, 0, 0), (0, 0, 0)), "imu_id is 0"),  # type: ignore[arg-type]
        (lambda: backend.publish("sensors", {"type": "x"}), "endpoint is 'sensors'"),
        (lambda: backend.publish("sensor_data", {"no": "type"}), '"type": it is missing'),
        (lambda: backend.publish("sensor_data", [1]), "message: is list"),  # type: ignore[arg-type]
    ]
    for call, words in refused:
        with pytest.raises(AxonValueError, match=words):
            call()
    assert backend.stats().published == 0


# ---- commands ------------------------------------------------------------------------------------


def direct_control(**fields: Any) -> str:
    return json.dumps(
        {"type": "direct_control", "robot_id": "r", "command_type": "go", "payload": {}, **fields}
    )


def test_commands_are_obeyed_in_order() -> None:
    def obey(command: Command) -> None:
        for status in ("accepted", "completed"):
            server.publish_plan_status(command.command_id, "1", status, repr(command.payload))

    with RobotBackendServer(port=0, on_command=obey) as server, RobotControl(server.url, depth=200) as robot:
        for number in range(50):
            robot.send_direct_control("r1", "move", {"n": number, "list": [1, None]}, f"c{number}")
        done = robot.wait_for_status("c49", 20, "completed")
        assert done.message == "{'n': 49, 'list': [1, None]}"
        plans = [plan for plan in islice(robot, 100) if isinstance(plan, ActionPlanStatus)]
        assert [plan.command_id for plan in plans] == [f"c{number // 2}" for number in range(100)]
        assert server.stats().commands == 50


def test_bad_commands_are_answered_with_the_field() -> None:
    def obey(command: Command) -> None:
        if command.command_type == "fly":
            raise CommandError("command_type", "it has no wings")
        if command.command_type == "fast":
            raise ValueError("too fast")
        raise KeyError("a secret of the server's")

    cases = [
        ("hello", "", "the message: 'h' at byte 0"),
        ("[1]", "", "the message is no object"),
        (direct_control(type="reboot"), "type", 'type is "reboot", not "direct_control"'),
        (direct_control(robot_id=7), "robot_id", "robot_id is no text"),
        (direct_control(robot_id="r" * 1000), "robot_id", "robot_id has 1000 bytes, limit 256"),
        (direct_control(command_type=""), "command_type", "command_type is empty"),
        (direct_control(payload=None), "payload", "payload is no object"),
        (direct_control(command_type="fly"), "command_type", "it has no wings"),
        (direct_control(command_type="fast"), "", "too fast"),
        (direct_control(command_type="fail"), "", "internal error"),
    ]
    with RobotBackendServer(port=0, on_command=obey) as server, peer(server, "robot_control") as control:
        for text, field, words in cases:
            control.send(text)
            error = hear(control)
            assert (error["type"], error["field"]) == ("error", field)
            assert error["message"].startswith(words)
        control.send(direct_control(command_type="fly", command_id="c7"))
        assert hear(control)["command_id"] == "c7"
        control.send(b"\x80")
        assert "binary" in hear(control)["message"]
        control.send("x" * 300_000)
        with pytest.raises(ConnectionClosed, match="1009"):
            control.recv(20)


def test_without_a_function_commands_are_refused(backend: RobotBackendServer) -> None:
    heard: list[Message] = []
    with RobotControl(backend.url) as robot, robot.subscribe(heard.append, type="error"):
        robot.send_direct_control("r", "go")
        wait_until(lambda: heard)
        assert heard[0].fields["message"] == "this backend takes no commands"


# ---- many clients --------------------------------------------------------------------------------


def test_a_client_that_stalls_costs_the_others_nothing() -> None:
    frames = 400
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RobotBackendServer(port=0, client_depth=8, stuck_timeout=1.0))
        clients = [stack.enter_context(SensorData(server.url, depth=2 * frames)) for _ in range(8)]
        with socket.create_connection(("127.0.0.1", server.port)) as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            key = base64.b64encode(os.urandom(16)).decode()
            stalled.sendall(
                f"GET /ws/sensor_data HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            wait_until(lambda: server.stats().connections == 9)
            before = resident_bytes()
            for number in range(frames):
                server.publish_camera("r", "c", JPEG, n=number)
                while min(client.stats().received for client in clients) < number - 5:
                    time.sleep(0.001)  # a machine that is busy, not the ninth client, made them miss some
            for client in clients:
                got = [frame.fields["n"] for frame in islice(client.frames(timeout=20), frames)]
                assert got == list(range(frames))
            if memory_tells():
                assert resident_bytes() - before < 500e6  # of which the clients have 8 * 400 * 98 kB
            wait_until(lambda: server.stats().stuck == 1 and server.stats().connections == 8)
        assert server.stats().skipped > 0
        assert sum(client.stats().dropped for client in clients) == 0


def test_a_client_on_websockets_gets_every_frame(backend: RobotBackendServer) -> None:
    with peer(backend, "sensor_data") as sensors:
        for number in range(100):
            backend.publish_camera("r", "c", JPEG, n=number)
            assert hear(sensors)["n"] == number


def test_many_threads_may_publish(backend: RobotBackendServer) -> None:
    def publish(robot: str) -> None:
        for number in range(100):
            backend.publish_imu(robot, "i", (number, 0, 0), (0, 0, 0))

    with SensorData(backend.url, depth=1000) as sensors:
        wait_until(lambda: backend.stats().connections == 1)
        threads = [threading.Thread(target=publish, args=(f"r{index}",)) for index in range(4)]
        for thread in threads:
            thread.start()
        found = list(islice(sensors.imu(timeout=20), 400))
        for thread in threads:
            thread.join(20)
        for index in range(4):
            mine = [sample.accelerometer[0] for sample in found if sample.robot_id == f"r{index}"]
            assert mine == list(range(100))


# ---- life ----------------------------------------------------------------------------------------


def test_http_gets_an_answer(backend: RobotBackendServer) -> None:
    http = backend.url.replace("ws://", "http://")
    with urllib.request.urlopen(f"{http}/healthz", timeout=20) as reply:
        assert reply.read() == b"OK\n"
    for path, status, words in (("/", 404, "Not Found"), ("/ws/sensor_data", 426, "Upgrade Required")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(http + path, timeout=20)
        assert (caught.value.code, caught.value.reason) == (status, words)
        caught.value.close()


def test_a_key_is_asked_for() -> None:
    commands: list[Command] = []
    with RobotBackendServer(port=0, on_command=commands.append, api_key="secret") as server:
        for client in (RobotControl, SensorData):
            with pytest.raises(PermissionError, match=r"401.*An API key is needed"):
                client(server.url)
            with pytest.raises(PermissionError, match=r"401.*The API key is wrong"):
                client(server.url, api_key="Secret")
        with RobotControl(server.url, api_key="secret") as robot:
            robot.send_direct_control("arm", "go")
            wait_until(lambda: commands)
        with SensorData(server.url, authorization="Api-Key secret") as sensors:
            wait_until(lambda: server.stats().connections == 1)
            server.publish_camera("r1", "wrist", JPEG)
            assert sensors.get_frame(timeout=20).image == JPEG
        with pytest.raises(InvalidStatus, match="401"), connect(f"{server.url}/ws/robot_control"):
            pass
        header = {"Authorization": "Api-Key secret"}
        with peer(server, "robot_control", additional_headers=header) as connection:
            server.publish_status("r1", "idle")
            assert hear(connection)["status"] == "idle"
        with urllib.request.urlopen(server.url.replace("ws://", "http://") + "/healthz", timeout=20) as reply:
            assert reply.status == 200
    with pytest.raises(AxonValueError, match="api_key: it is empty"):
        RobotBackendServer(port=0, api_key="").start()


def test_a_key_is_asked_for_at_a_reconnect() -> None:
    with RobotBackendServer(port=0, api_key="old") as first:
        port = first.port
        robot = RobotControl(first.url, api_key="old", retry_min=0.01, retry_max=0.05)
    with robot:
        wait_until(lambda: not robot.stats().is_connected)

        def said() -> str:
            with pytest.raises(AxonConnectionError) as caught:
                robot.send_direct_control("arm", "go")
            return str(caught.value)

        with RobotBackendServer(port=port, api_key="new"):
            wait_until(lambda: "The API key is wrong" in said())
        with RobotBackendServer(port=port, api_key="old"):
            wait_until(lambda: robot.stats().is_connected)
            robot.send_direct_control("arm", "go")


def test_stopping_says_goodbye_and_it_may_start_again() -> None:
    server = RobotBackendServer(port=0)
    with pytest.raises(AxonValueError, match="does not listen"):
        server.publish("sensor_data", {"type": "x"})
    for _ in range(2):
        server.start()
        server.start()
        with connect(f"{server.url}/ws/sensor_data") as client:
            server.stop()
            with pytest.raises(ConnectionClosedOK, match="1001"):
                client.recv(20)
    server.stop()


def test_a_port_that_is_taken_is_named(backend: RobotBackendServer) -> None:
    with pytest.raises(AxonFileError, match=str(backend.port)):
        RobotBackendServer(port=backend.port).start()
    for options, words in [
        ({"port": 70000}, "port is 70000"),
        ({"client_depth": 1 << 20}, "client_depth: 1048576, limit"),
        ({"stuck_timeout": 0}, "stuck_timeout"),
        ({"on_command": 7}, "on_command is 7"),
    ]:
        with pytest.raises(AxonValueError, match=words):
            RobotBackendServer(**{"port": 0, **options}).start()  # type: ignore[arg-type]


def test_a_client_follows_a_backend_that_restarts() -> None:
    server = RobotBackendServer(port=0)
    server.start()
    port = server.port
    with SensorData("127.0.0.1", port, retry_min=0.01, retry_max=0.05) as sensors:
        server.stop()
        with RobotBackendServer(port=port) as again:
            wait_until(lambda: again.stats().connections == 1)
            again.publish_imu("r", "i", (1, 2, 3), (0, 0, 0))
            kinds = [type(message).__name__ for message in islice(sensors, 2)]
            assert kinds == ["Gap", "ImuSample"]


COMMAND = [sys.executable, "-m", "service_clients.physical_ai.server"]


def test_the_command_explains_itself() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60, cwd=CHECKOUT)
    assert done.returncode == 0 and "--image" in done.stdout
    done = subprocess.run(
        [*COMMAND, "--image", "nowhere.jpg", "--port", "0"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "nowhere.jpg" in done.stderr
    done = subprocess.run(
        [*COMMAND, "--image", str(PHOTOGRAPH), "--fps", "inf"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "--fps is inf" in done.stderr


@pytest.mark.parametrize("goodbye", [signal.SIGINT, signal.SIGTERM])
def test_the_command_plays_a_robot_until_it_is_told_to_stop(goodbye: signal.Signals) -> None:
    player = subprocess.Popen(
        [*COMMAND, "--image", str(PHOTOGRAPH), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert player.stdout
    try:
        url = player.stdout.readline().strip()
        with SensorData(url) as sensors, RobotControl(url) as robot:
            assert [frame.image for frame in islice(sensors.frames("front", 20), 3)] == [JPEG] * 3
            robot.send_direct_control("robot-1", "wave", {}, "c1")
            assert robot.wait_for_status("c1", 20, "completed").message == "wave"
        player.send_signal(goodbye)
        assert player.wait(20) == 0
    finally:
        player.kill()
        player.wait()
        player.stdout.close()
