"""A robot's whole day on one machine: ``python -m service_clients.demo``.

Starts a detection service, a policy server, a simulator and a robot backend on loopback, and runs skill.py in a
sandboxed process against all of them: it looks, detects, asks and steps until the red block is on its goal. Then it
checks what happened, prints how long each service took, and draws the episode. Exit status 0 means that all was right.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Mapping, NoReturn, Sequence

NEEDED = {"numpy": "numpy", "fastapi": "fastapi", "pydantic": "pydantic", "uvicorn": "uvicorn"}
TASK = "place_red_block"
SCRIPT_TIMEOUT = 60.0
# What the table calls the services, and how they are reached.
SERVICES = {"detection": "HTTP", "policy": "WebSocket", "simulator": "ZeroMQ"}
STREAMS = {"camera_feed": "camera stream", "imu_data": "IMU stream"}
GREEN = (60, 255, 90)


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m service_clients.demo", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="where things lie on the table (%(default)s)")
    parser.add_argument(
        "--out", default=os.path.join("build", "demo"), help="folder to write to (%(default)s)"
    )
    given = parser.parse_args()
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        print(f"the demo needs {', '.join(missing)}: pip install '.[demo]' in axon's sources", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _end)
    started = time.monotonic()
    os.makedirs(given.out, exist_ok=True)
    for name in ("summary.json", "looks.npy", "film.png", "times.png"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(given.out, name))
    status = _run_skill(given.seed, given.out)
    if status:
        print(f"the skill script ended with status {status}", file=sys.stderr)
        return 1
    failures = _report(given.seed, given.out)
    print(f"{time.monotonic() - started:.1f} s, {f'{failures} FAILED' if failures else 'all as it must be'}")
    return 1 if failures else 0


def _end(number: int, frame: object) -> NoReturn:
    """Turns SIGTERM into an exit that ends the backends on its way."""
    raise SystemExit(128 + number)


def _run_skill(seed: int, folder: str) -> int:
    """Runs the script against fresh backends; they are gone when this returns. Returns its exit status."""
    from service_clients.demo.backends import Backend

    module = [sys.executable, "-m"]
    with contextlib.ExitStack() as stack:
        start = {
            "detection service": [*module, "service_clients.demo.detection_server"],
            "policy server": [*module, "service_clients.demo.expert"],
            "simulator": [*module, "service_clients.demo.world_server", "--seed", str(seed)],
        }
        started = {name: stack.enter_context(Backend(command)) for name, command in start.items()}
        for name, backend in started.items():
            print(f"{name:<18} {backend.url}  process {backend.pid}", flush=True)
        detection, policy, world = started.values()
        print(f"{'robot backend':<18} {world.told('robot')}  the same process")
        skill = os.path.join(os.path.dirname(os.path.abspath(__file__)), "skill.py")
        print(f"{'skill script':<18} {skill}, sandboxed\n", flush=True)
        addresses = [policy.url, world.url, world.told("robot")]
        command = [*module, "service_clients.demo.sandbox", skill, *addresses, TASK, folder]
        environment = {**os.environ, "AXON_HOST_YOLO_DETECTION": detection.url}
        return subprocess.run(command, env=environment, timeout=SCRIPT_TIMEOUT, check=False).returncode


def _report(seed: int, folder: str) -> int:
    """Prints the table and each check with its outcome, and draws. Returns how many checks failed."""
    from service_clients.demo.checks import check, rehearse

    with open(os.path.join(folder, "summary.json"), encoding="utf-8") as file:
        summary = json.load(file)
    _print_table(summary)
    failures = 0
    for text, holds in check(summary, rehearse(TASK, seed)):
        failures += not holds
        print(f"  {'ok    ' if holds else 'FAILED'}  {text}")
    print()
    _draw(summary, folder)
    return failures


def _print_table(summary: Mapping[str, Any]) -> None:
    from service_clients.evaluate.statistics import times_of

    print(f"\n  {'service':<16} {'over':<10} {'calls':>6} {'p50 ms':>8} {'p99 ms':>8}")
    rows = [(name, how, summary["calls"][name]) for name, how in SERVICES.items()]
    rows += [(name, "WebSocket", summary["streams"][key]) for key, name in STREAMS.items()]
    for name, how, took in rows:
        times = times_of(took)
        print(f"  {name:<16} {how:<10} {times.calls:>6} {times.p50:>8.2f} {times.p99:>8.2f}")
    print("  (of a stream: messages, and how old they were when they came)\n")


def _draw(summary: Mapping[str, Any], folder: str) -> None:
    """Writes the film strip, and the plot of the times where matplotlib is installed."""
    import numpy as np

    from service_clients._axon.images import encode_image
    from service_clients.demo.film import Frame, film_strip
    from service_clients.demo.tabletop import DT

    looks: Sequence[dict[str, Any]] = summary["looks"]
    saved = np.load(os.path.join(folder, "looks.npy"))
    frames = [Frame(rgb, look["step"] * DT, [(look["box"], GREEN)]) for rgb, look in zip(saved, looks)]
    film = os.path.join(folder, "film.png")
    with open(film, "wb") as file:
        file.write(encode_image(film_strip(frames, columns=(len(frames) + 1) // 2), color="rgb"))
    print(f"what the skill looked at, and the red block that was detected: {film}")
    if importlib.util.find_spec("matplotlib") is None:
        print("how long the calls took is not drawn: that needs matplotlib")
        return
    from service_clients.demo.plot import plot_times

    times = os.path.join(folder, "times.png")
    calls = {f"{name} ({how})": summary["calls"][name] for name, how in SERVICES.items()}
    calls.update({name: summary["streams"][key] for key, name in STREAMS.items()})
    plot_times(times, f"{TASK}: {summary['steps']} steps, all services on this machine", calls)
    print(f"how long the calls took: {times}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
