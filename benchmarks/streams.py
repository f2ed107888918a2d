"""Times a robot backend's camera stream, and reading one of its frames: `make bench BENCH=streams`.

A backend publishes a 640x480 JPEG 30 times a second to eight clients, with and without a ninth that never reads. What
counts is the share of one core that the backend's process takes, all its threads together, and how old a frame is when a
client has it. The backend is axon's, and beside it one on Python's `websockets`, as it is written by hand: json.dumps
once a frame, and broadcast(). The clients are axon's, in this process; each checks every frame's bytes and number. A frame
that does not come, or not whole, fails the run.

Reading: the text of one camera_feed to its picture's bytes, and on to pixels, by axon and by json + base64 (+ OpenCV).
Both give the same bytes and pixels, which is checked first. They take turns, round after round.

Writes streams.json, [{"case", "name", "value", "unit"}].
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import socket
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

from benchmarks.harness import (
    BenchError,
    Rounds,
    Worker,
    exit_status,
    keep_quiet_rounds,
    machine,
    options_of,
    percentile,
    read_photograph,
    save_json,
    times_of,
    versions,
)

CLIENTS, FPS = 8, 30
BACKENDS = ("axon", "websockets")
PATIENCE_S = 30


def picture(width: int, height: int) -> bytes:
    """The photograph as a JPEG of that size."""
    import cv2

    pixels = cv2.resize(read_photograph(), (width, height), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", pixels)
    if not done:
        raise BenchError("OpenCV cannot write a JPEG")
    return bytes(data)


def camera_feed(jpeg: bytes, number: int) -> dict[str, Any]:
    return {
        "type": "camera_feed",
        "robot_id": "arm-1",
        "camera_id": "wrist",
        "image_data": base64.b64encode(jpeg).decode(),
        "timestamp": datetime.now(timezone.utc).isoformat(),
        "number": number,
    }


# ---- the backends, each in a process of its own --------------------------------------------------


def order_of(line: str) -> int:
    """How many frames are wanted; 0 at the end of all orders."""
    return int(line) if line.strip() else 0


def serve_axon() -> None:
    from service_clients.physical_ai.server import RobotBackendServer

    jpeg = picture(640, 480)
    with RobotBackendServer(port=0, stuck_timeout=3600.0) as server:
        print(server.url, flush=True)
        for line in sys.stdin:
            used, begun = time.process_time_ns(), time.monotonic()
            for number in range(order_of(line)):
                server.publish_camera("arm-1", "wrist", jpeg, number=number)
                time.sleep(max(0.0, begun + (number + 1) / FPS - time.monotonic()))
            print(time.process_time_ns() - used, int((time.monotonic() - begun) * 1e9), flush=True)


async def serve_websockets() -> None:
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    jpeg = picture(640, 480)
    connected: set[ServerConnection] = set()

    async def session(connection: ServerConnection) -> None:
        connected.add(connection)
        try:
            await connection.wait_closed()
        finally:
            connected.discard(connection)

    loop = asyncio.get_running_loop()
    async with serve(session, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            used, begun = time.process_time_ns(), time.monotonic()
            for number in range(order_of(line)):
                broadcast(connected, json.dumps(camera_feed(jpeg, number)))
                await asyncio.sleep(max(0.0, begun + (number + 1) / FPS - time.monotonic()))
            print(time.process_time_ns() - used, int((time.monotonic() - begun) * 1e9), flush=True)


@contextlib.contextmanager
def backend(name: str) -> Iterator[tuple[Worker, str]]:
    worker = Worker(name, [sys.executable, "-m", "benchmarks.streams", "--serve", name], None)
    try:
        yield worker, worker.read()
    finally:
        worker.kill()


# ---- the clients ---------------------------------------------------------------------------------


class Client:
    """One of axon's, which checks what it gets."""

    def __init__(self, url: str, jpeg: bytes) -> None:
        from service_clients.physical_ai.client import CameraFrame, SensorData

        self.sensors = SensorData(url)
        self.latencies: list[int] = []  # ns
        self.frames = self.wrong = 0
        self.jpeg = jpeg

        def hear(frame: CameraFrame) -> None:
            if frame.image != self.jpeg or frame.fields["number"] != self.frames:
                self.wrong += 1
            self.frames += 1
            if frame.latency is not None:
                self.latencies.append(int(frame.latency * 1e9))

        self.sensors.on_frame(hear)

    def begin(self) -> None:
        self.frames, self.latencies = 0, []

    def check(self, frames: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.frames < frames and time.monotonic() < deadline:
            time.sleep(0.01)
        stats = self.sensors.stats()
        if self.frames != frames or self.wrong or stats.dropped or stats.faults or stats.gaps:
            raise BenchError(f"{self.frames} of {frames} frames came, {self.wrong} wrong: {stats}")


@contextlib.contextmanager
def stalled_client(url: str) -> Iterator[None]:
    """Upgrades, and reads nothing from then on."""
    host, _, port = url.rpartition("/")[2].partition(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET /ws/sensor_data HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        yield


@dataclass
class Streamed:
    """What one backend did in one case, over its rounds."""

    shares: list[float]  # of one core
    latencies: list[int]  # ns, of all frames at all clients

    @property
    def share(self) -> float:
        return sorted(self.shares)[len(self.shares) // 2]


def stream(worker: Worker, clients: Sequence[Client], frames: int, result: Streamed | None) -> None:
    for client in clients:
        client.begin()
    used, took = worker.numbers(str(frames))
    for client in clients:
        client.check(frames)
        if result:
            result.latencies += client.latencies
    if result:
        result.shares.append(used / took)


def measure_streams(rounds: int, seconds: float) -> dict[tuple[str, str], Streamed]:
    jpeg = picture(640, 480)
    frames = round(seconds * FPS)
    plain, burdened = f"{CLIENTS} clients", f"{CLIENTS} and a stalled one"
    results = {(case, name): Streamed([], []) for case in (plain, burdened) for name in BACKENDS}
    for _ in range(rounds):
        for name in random.sample(BACKENDS, len(BACKENDS)):
            with backend(name) as (worker, url), contextlib.ExitStack() as stack:
                clients = [Client(url, jpeg) for _ in range(CLIENTS)]
                for client in clients:
                    stack.callback(client.sensors.close)
                stream(worker, clients, FPS // 2, None)
                stream(worker, clients, frames, results[plain, name])
                stack.enter_context(stalled_client(url))
                stream(worker, clients, max(FPS, frames // 2), None)  # until it has stalled
                stream(worker, clients, frames, results[burdened, name])
    return results


# ---- reading one frame ---------------------------------------------------------------------------


def readers() -> dict[str, dict[str, Callable[[str], Any]]]:
    """Ways to read a frame, by what becomes of it."""
    import cv2
    import numpy

    from service_clients.physical_ai.client import CameraFrame, read_message

    def axon_frame(text: str) -> CameraFrame:
        frame = read_message(text)
        assert isinstance(frame, CameraFrame)
        return frame

    def by_hand(text: str) -> bytes:
        return base64.b64decode(json.loads(text)["image_data"])

    def pixels_by_hand(text: str) -> Any:
        return cv2.imdecode(numpy.frombuffer(by_hand(text), numpy.uint8), cv2.IMREAD_COLOR)

    return {
        "to bytes": {"axon": lambda text: axon_frame(text).image, "json + base64": by_hand},
        "to pixels": {
            "axon": lambda text: axon_frame(text).array("bgr"),
            "json + base64": pixels_by_hand,
        },
    }


def check_answers(text: str, jpeg: bytes) -> None:
    import numpy

    found = readers()
    for read in found["to bytes"].values():
        if read(text) != jpeg:
            raise BenchError("the picture's bytes are not those that were sent")
    ours, theirs = (read(text).astype(numpy.int16) for read in found["to pixels"].values())
    if ours.shape != theirs.shape or abs(ours - theirs).mean() > 2:  # two JPEG decoders
        raise BenchError("the pixels are not the same")


def measure_reading(rounds: int, calls: int) -> dict[tuple[str, str], Rounds]:
    results = {}
    for width, height in ((640, 480), (1280, 720)):
        jpeg = picture(width, height)
        text = json.dumps(camera_feed(jpeg, 7))
        check_answers(text, jpeg)
        for what, ways in readers().items():
            timed = {name: Rounds() for name in ways}
            for _ in range(rounds):
                for name in random.sample(list(ways), len(ways)):
                    times = times_of(partial(ways[name], text), calls)
                    timed[name].p50s.append(percentile(times, 0.5) / 1e6)
            keep_quiet_rounds(timed)
            for name, result in timed.items():
                results[f"{width}x{height} ({len(jpeg) // 1024} KiB) {what}", name] = result
    return results


# ---- telling -------------------------------------------------------------------------------------


def print_streams(results: dict[tuple[str, str], Streamed]) -> None:
    print(f"\n{'640x480 JPEG at 30 Hz':28} {'backend':12} {'of a core':>10} {'p50 ms':>8} {'p99 ms':>8}")
    for (case, name), result in results.items():
        p50, p99 = (percentile(result.latencies, share) / 1e6 for share in (0.5, 0.99))
        print(f"{case:28} {name:12} {result.share:>10.1%} {p50:>8.2f} {p99:>8.2f}")
    print("Every frame came, whole, to each of the clients.")


def print_reading(results: dict[tuple[str, str], Rounds]) -> None:
    print(f"\n{'one camera_feed':34} {'axon us':>9} {'json + base64 us':>18} {'times':>7}")
    for case in dict.fromkeys(case for case, _ in results):
        ours, theirs = results[case, "axon"].p50_ms, results[case, "json + base64"].p50_ms
        print(f"{case:34} {ours * 1e3:>9.1f} {theirs * 1e3:>18.1f} {theirs / ours:>7.1f}")


def write_json(
    directory: Path,
    streams: dict[tuple[str, str], Streamed],
    reading: dict[tuple[str, str], Rounds],
) -> None:
    rows = []
    for (case, name), streamed in streams.items():
        rows.append({"case": case, "name": name, "value": round(streamed.share, 4), "unit": "of a core"})
        for share in (0.5, 0.99):
            age = round(percentile(streamed.latencies, share) / 1e6, 3)
            rows.append({"case": case, "name": name, "value": age, "unit": f"ms, p{share * 100:g}"})
    for (case, name), timed in reading.items():
        rows.append({"case": case, "name": name, "value": round(timed.p50_ms, 5), "unit": "ms"})
    save_json(directory / "streams.json", rows)
    print(f"\nWrote {directory / 'streams.json'}")


def run(options: argparse.Namespace) -> None:
    print(machine(), versions(sys.executable, ["cffi", "opencv-python-headless", "websockets"]), sep="\n")
    reading = measure_reading(*((2, 3) if options.quick else (20, 50)))
    print_reading(reading)
    streams = measure_streams(
        1 if options.quick else options.rounds, 0.5 if options.quick else options.seconds
    )
    print_streams(streams)
    write_json(options.output, streams, reading)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; gives the status that a process ends with."""
    parser = options_of("Times a robot backend's camera stream.", "each backend", 3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of one turn in one case (5)")
    parser.add_argument("--serve", choices=BACKENDS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve == "axon":
        serve_axon()
    elif options.serve == "websockets":
        asyncio.run(serve_websockets())
    if options.serve:
        return 0
    return exit_status(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
