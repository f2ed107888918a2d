"""Times an observation of photographs as raw pixels, JPEG and PNG, over shaped links: `make bench BENCH=pictures`.

Three pictures of 224x224 and one of 640x480, cut from tests/data/astronaut.jpg, with a state and a prompt, go to
a server in a network namespace of its own, over a veth pair whose both ends `tc` holds to 100 Mbit/s and then to
1 Gbit/s (tbf). A round trip is all that a robot waits for: encoding, the wire, the server's reading, which
includes decoding, and a chunk of 16 actions back. The server is Python's `websockets` with axon's reader.

The three take turns in random order, round after round. Needs root, for the namespace, and iproute2.

Writes pictures.json, [{"case", "name", "size_bytes", "value", "unit"}]: medians in ms.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Iterator

import numpy

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

NAMES = ("raw", "jpeg", "png")
LINKS = {"100 Mbit/s": ("100mbit", "64kb"), "1 Gbit/s": ("1gbit", "256kb")}  # rate, burst
OURS, THEIRS = "10.213.77.1", "10.213.77.2"
CUTS = ((224, 224, 20, 130), (224, 224, 180, 60), (224, 224, 280, 280))  # height, width, top, left


# ---- the observation and the server --------------------------------------------------------------


def observation() -> dict[str, Any]:
    """What a robot with three small cameras and a large one sends: 1.3 MiB of pixels."""
    import cv2

    whole = cv2.cvtColor(read_photograph(), cv2.COLOR_BGR2RGB)
    found: dict[str, Any] = {
        f"observation/image_{i}": numpy.ascontiguousarray(whole[top : top + height, left : left + width])
        for i, (height, width, top, left) in enumerate(CUTS)
    }
    found["observation/image_large"] = cv2.resize(whole[:384], (640, 480), interpolation=cv2.INTER_CUBIC)
    found["observation/state"] = numpy.linspace(-1, 1, 8, dtype=numpy.float32)
    found["prompt"] = "wave"
    return found


def serve() -> None:
    """Runs inside the namespace: reads each observation whole, and answers with how long it was."""
    from websockets.sync.server import ServerConnection
    from websockets.sync.server import serve as websocket_server

    from service_clients._axon.values import packb, unpackb

    def answer(connection: ServerConnection) -> None:
        connection.send(packb({"__axon__": {"codecs": ["jpeg", "png"]}}))
        actions = numpy.zeros((16, 8), numpy.float32)
        for message in connection:
            assert isinstance(message, bytes)
            seen = unpackb(message)
            shapes = [list(value.shape) for key, value in seen.items() if "image" in key]
            connection.send(packb({"actions": actions, "bytes": len(message), "shapes": shapes}))

    with websocket_server(answer, THEIRS, 0, max_size=None, compression=None) as server:
        print(server.socket.getsockname()[1], flush=True)
        server.serve_forever()


# ---- the link ------------------------------------------------------------------------------------


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


@contextlib.contextmanager
def namespace() -> Iterator[tuple[str, str, str]]:
    """A network namespace and a veth pair into it: its name, the end here, the end there."""
    name = f"axon-pictures-{os.getpid()}"
    here, there = f"axp{os.getpid() % 100000}a", f"axp{os.getpid() % 100000}b"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        run("ip", "addr", "add", f"{OURS}/30", "dev", here)
        run("ip", "link", "set", here, "up")
        run("ip", "-n", name, "addr", "add", f"{THEIRS}/30", "dev", there)
        run("ip", "-n", name, "link", "set", there, "up")
        yield name, here, there
    finally:
        subprocess.run(["ip", "link", "del", here], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def shape(name: str, here: str, there: str, rate: str, burst: str) -> None:
    """Holds both directions to a rate."""
    limit = ("root", "tbf", "rate", rate, "burst", burst, "latency", "200ms")
    run("tc", "qdisc", "replace", "dev", here, *limit)
    run("tc", "-n", name, "qdisc", "replace", "dev", there, *limit)


# ---- measuring -----------------------------------------------------------------------------------


class Result(Rounds):
    """One way to send pictures over one link."""

    size_bytes = 0


def measure(url: str, rounds: int, calls: int) -> dict[str, Result]:
    from service_clients._axon import Policy

    seen = observation()
    wanted = [list(value.shape) for key, value in seen.items() if "image" in key]
    results = {name: Result() for name in NAMES}
    with contextlib.ExitStack() as stack:
        policies = {
            name: stack.enter_context(Policy(url, compress=None if name == "raw" else name)) for name in NAMES
        }
        for name, policy in policies.items():
            reply = policy.infer(seen)
            if reply["shapes"] != wanted:
                raise BenchError(f"{name}: the server read pictures of {reply['shapes']}, not {wanted}")
            results[name].size_bytes = reply["bytes"]
        for _ in range(rounds):
            for name in random.sample(NAMES, len(NAMES)):
                policies[name].infer(seen)
                times = times_of(partial(policies[name].infer, seen), calls)
                results[name].p50s.append(percentile(times, 0.5) / 1e6)
    keep_quiet_rounds(results)
    return results


def print_table(link: str, results: dict[str, Result]) -> None:
    raw = results["raw"]
    print(f"\n{link:15} {'bytes':>10} {'of raw':>8} {'p50 ms':>9} {'raw / it':>9}")
    for name, result in results.items():
        share = result.size_bytes / raw.size_bytes
        faster = raw.p50_ms / result.p50_ms
        print(f"{name:15} {result.size_bytes:>10} {share:>8.1%} {result.p50_ms:>9.2f} {faster:>9.2f}")


def measure_links(options: argparse.Namespace) -> dict[str, dict[str, Result]]:
    rounds, calls = (1, 2) if options.quick else (options.rounds, 10)
    measured = {}
    with namespace() as (name, here, there):
        command = ["ip", "netns", "exec", name, sys.executable, "-m", "benchmarks.pictures", "--serve"]
        server = Worker("server", command, None)
        try:
            url = f"ws://{THEIRS}:{server.read()}"
            for link, (rate, burst) in LINKS.items():
                shape(name, here, there, rate, burst)
                measured[link] = measure(url, rounds, calls)
                print_table(link, measured[link])
        finally:
            server.kill()
    return measured


def write_json(directory: Path, measured: dict[str, dict[str, Result]]) -> None:
    rows = [
        {
            "case": link,
            "name": name,
            "size_bytes": result.size_bytes,
            "value": round(result.p50_ms, 3),
            "unit": "ms",
        }
        for link, results in measured.items()
        for name, result in results.items()
    ]
    save_json(directory / "pictures.json", rows)
    print(f"\nWrote {directory / 'pictures.json'}")


def check_machine() -> None:
    if os.geteuid() != 0:
        raise BenchError("needs root: it makes a network namespace and shapes a link in it")
    missing = [tool for tool in ("ip", "tc") if not shutil.which(tool)]
    if missing:
        raise BenchError(f"needs iproute2: {' and '.join(missing)} not found")


def parse_arguments() -> argparse.Namespace:
    parser = options_of("Times photographs as raw pixels, JPEG and PNG.", "each form per link", 10)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_all(options: argparse.Namespace) -> None:
    check_machine()
    print(machine(), versions(sys.executable, ["numpy", "cffi", "websockets"]), sep="\n")
    write_json(options.output, measure_links(options))


def main() -> int:
    options = parse_arguments()
    if options.serve:
        serve()
        return 0
    return exit_status(lambda: run_all(options))


if __name__ == "__main__":
    sys.exit(main())
