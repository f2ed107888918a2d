"""The robot backend's streams over TLS, with a backend on `websockets`: whom to trust, and what comes through."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from support import CHECKOUT, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from service_clients._axon import AxonConnectionError, AxonFileError, AxonTimeout
from service_clients.physical_ai.client import Gap, ImuSample, RobotControl, SensorData

JPEG = (CHECKOUT / "tests" / "data" / "astronaut.jpg").read_bytes()
IMU = {"type": "imu_data", "robot_id": "r1", "imu_id": "base", "accelerometer": {"x": 0, "y": 0, "z": 9.81}}

Session = Callable[[ServerConnection], None]


@contextlib.contextmanager
def backend(
    certificates: Path, certificate: str, session: Session, port: int = 0, seen: list[Any] | None = None
) -> Iterator[int]:
    """The port of a backend with this certificate; `session` plays its part on each connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / certificate, certificates / "server.key")

    def guarded(connection: ServerConnection) -> None:
        if seen is not None:
            seen.append(connection)
        with contextlib.suppress(ConnectionClosed):
            session(connection)
            for _ in connection:
                pass

    server = serve(guarded, "127.0.0.1", port, ssl=context)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()
        thread.join(20)
        server.socket.close()


def show(connection: ServerConnection) -> None:
    picture = base64.b64encode(JPEG).decode()
    for number in range(20):
        frame = {"type": "camera_feed", "camera_id": "wrist", "image_data": picture, "number": number}
        connection.send(json.dumps(frame))
        connection.send(json.dumps(IMU))


def obey(connection: ServerConnection) -> None:
    for message in connection:
        command = json.loads(message)
        status = {"type": "action_plan_status", "command_id": command["command_id"], "status": "completed"}
        connection.send(json.dumps({**status, "message": command["payload"]["text"]}))


def test_frames_and_samples_of_a_trusted_backend(certificates: Path) -> None:
    trusted = str(certificates / "ca.pem")
    with backend(certificates, "good.pem", show) as port:
        with SensorData("wss://127.0.0.1", port, ca_file=trusted) as sensors:
            assert sensors.url == f"wss://127.0.0.1:{port}/ws/sensor_data"
            for number in range(20):
                frame = sensors.get_frame("wrist", 20)
                assert frame.image == JPEG and frame.fields["number"] == number
            assert next(sensors.imu("base", 20)).accelerometer.tolist() == [0, 0, 9.81]
        with SensorData(f"https://127.0.0.1:{port}", ca_file=trusted) as sensors:
            assert sensors.get_frame(timeout=20).image == JPEG


@pytest.mark.parametrize("length", [0, 100, 200_000])
def test_commands_and_statuses_of_a_trusted_backend(certificates: Path, length: int) -> None:
    with backend(certificates, "good.pem", obey) as port, RobotControl(
        f"wss://127.0.0.1:{port}", ca_file=str(certificates / "ca.pem")
    ) as robot:
        robot.send_direct_control("arm", "say", {"text": "x" * length}, "c1")
        assert robot.wait_for_status("c1", 20).message == "x" * length


@pytest.mark.parametrize("client", [RobotControl, SensorData])
@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        ("wrong.pem", "certificate is not trusted"),
        ("expired.pem", "certificate has expired"),
        ("elsewhere.pem", "certificate is not for 127.0.0.1"),
    ],
)
def test_a_certificate_that_proves_nothing_is_refused_with_the_reason(
    certificates: Path, client: Any, certificate: str, said: str
) -> None:
    seen: list[Any] = []
    with backend(certificates, certificate, show, seen=seen) as port, pytest.raises(
        AxonConnectionError, match=f"wss://127.0.0.1:{port}/ws/.*{said}"
    ):
        client(f"wss://127.0.0.1:{port}", ca_file=str(certificates / "ca.pem"), connect_timeout=20)
    assert not seen


def test_an_authority_that_the_system_does_not_know_has_to_be_named(certificates: Path) -> None:
    with backend(certificates, "good.pem", show) as port:
        with pytest.raises(AxonConnectionError, match="certificate is not trusted"):
            SensorData(f"wss://127.0.0.1:{port}", connect_timeout=20)
        with pytest.raises(AxonFileError, match=r"nowhere\.pem"):
            SensorData(f"wss://127.0.0.1:{port}", ca_file="nowhere.pem")
        with SensorData(f"wss://127.0.0.1:{port}", tls_insecure=True) as sensors:
            assert sensors.get_frame(timeout=20).image == JPEG


def test_a_stream_reconnects_to_whom_it_trusts_and_to_no_other(certificates: Path) -> None:
    def say(connection: ServerConnection) -> None:
        connection.send(json.dumps(IMU))

    with contextlib.ExitStack() as ours:
        with backend(certificates, "good.pem", say) as port:
            sensors = ours.enter_context(
                SensorData(
                    f"wss://127.0.0.1:{port}",
                    ca_file=str(certificates / "ca.pem"),
                    retry_min=0.01,
                    retry_max=0.05,
                )
            )
            assert isinstance(sensors.receive(20), ImuSample)
        wait_until(lambda: not sensors.stats().is_connected)

        def trouble() -> str:
            with pytest.raises(AxonTimeout, match="there has been no connection for") as caught:
                sensors.receive(0.05)
            return str(caught.value)

        with backend(certificates, "expired.pem", say, port):
            wait_until(lambda: "certificate has expired" in trouble())
        with backend(certificates, "good.pem", say, port):
            assert isinstance(sensors.receive(20), Gap)
            assert isinstance(sensors.receive(20), ImuSample)
