"""Times a simulator's step beside pyzmq, msgpack and numpy, and a robot's streams: `make bench BENCH=simulator`.

One step: an action of two arrays goes out, an observation of two pictures of 256x256x3 and four small arrays comes
back (393 KB), each an array at the end. Two servers host the same world, which simulates nothing, and two clients play
in each, all of them processes of their own:

    axon     service_clients.simulator: client.py and server.py
    pyzmq    what the protocol's document shows, with pyzmq, msgpack and numpy

The four pairs take turns in random order, round after round. Before and after, untimed, all make a checksum of what
they see: it must be the same one. A wrong answer fails the run; a target that is missed is printed and does not.

Then come the streams of a robot backend: see streams.py.

Writes simulator.json, [{"case", "name", "size_bytes", "value", "unit"}], and simulator_detail.json with every round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
from pathlib import Path
from typing import Mapping

from benchmarks.harness import ROOT, BenchError, Rounds, Worker, machine, percentile, quiet_rounds, versions

NAMES = ("axon", "pyzmq")
PAIRS = tuple((client, server) for server in NAMES for client in NAMES)
SIZE_BYTES = 2 * 256 * 256 * 3
CHECKED = 5  # steps
SAME_SERVER, BOTH_OURS = 1.5, 2.0  # times as fast as pyzmq

Pair = tuple[str, str]


class Result(Rounds):
    """One client at one server."""

    def __init__(self) -> None:
        super().__init__()
        self.p99s: list[float] = []


def program(role: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.simulator_peers", role, *arguments]


def check_answers(workers: Mapping[Pair, Worker]) -> None:
    """All have seen as many steps as the others: their next ones must look the same."""
    seen = {pair: worker.order(f"check {CHECKED}") for pair, worker in workers.items()}
    if len(set(seen.values())) > 1:
        lines = [f"\n  {client} at {server}: {found}" for (client, server), found in seen.items()]
        raise BenchError(f"what was seen differs (CRC-32):{''.join(lines)}")


def measure(rounds: int, calls: int) -> dict[Pair, Result]:
    results = {pair: Result() for pair in PAIRS}
    with contextlib.ExitStack() as stack:
        ports = {}
        for name in NAMES:
            server = Worker(f"{name} server", program("server", name), None)
            stack.callback(server.kill)
            ports[name] = server.read()
        workers = {}
        for client, server_name in PAIRS:
            worker = Worker(f"{client} at {server_name}", program("client", client, ports[server_name]), None)
            stack.callback(worker.stop)
            workers[client, server_name] = worker
            if worker.read() != "ready":
                raise BenchError(f"{worker.name}: not ready")
        check_answers(workers)
        for _ in range(rounds):
            for pair in random.sample(PAIRS, len(PAIRS)):
                times = workers[pair].numbers(f"round {max(2, calls // 10)} {calls}")
                results[pair].p50s.append(percentile(times, 0.5) / 1e6)
                results[pair].p99s.append(percentile(times, 0.99) / 1e6)
        check_answers(workers)
    kept = quiet_rounds({f"{client} at {server}": result for (client, server), result in results.items()})
    for result in results.values():
        result.kept = kept
    return results


def judge(results: Mapping[Pair, Result]) -> list[tuple[str, float, float]]:
    """What is to be reached: in words, how many times as fast, and how many times it should be."""
    p50 = {pair: result.p50_ms for pair, result in results.items()}
    return [
        ("axon's client at axon's server", p50["pyzmq", "axon"] / p50["axon", "axon"], SAME_SERVER),
        ("axon's client at a pyzmq server", p50["pyzmq", "pyzmq"] / p50["axon", "pyzmq"], SAME_SERVER),
        ("axon's client and server, beside pyzmq's", p50["pyzmq", "pyzmq"] / p50["axon", "axon"], BOTH_OURS),
    ]


def report(results: Mapping[Pair, Result]) -> None:
    print(f"\n{'step, two pictures of 256x256':32} {'p50 ms':>8} {'p99 ms':>8}")
    for (client, server), result in results.items():
        print(
            f"{client} at {server} server".ljust(32),
            f"{result.p50_ms:8.3f} {result.median_of(result.p99s):8.3f}",
        )
    for what, ratio, target in judge(results):
        verdict = "" if ratio >= target else ", MISSED"
        print(f"{what}: {ratio:.2f} times as fast (to reach: {target:g}{verdict})")


def write_json(directory: Path, results: Mapping[Pair, Result]) -> None:
    rows = [
        {
            "case": f"step at {server} server",
            "name": client,
            "size_bytes": SIZE_BYTES,
            "value": round(result.p50_ms, 4),
            "unit": "ms",
        }
        for (client, server), result in results.items()
    ]
    detail = {
        f"{client} at {server}": {"p50_ms": result.p50s, "p99_ms": result.p99s, "kept": result.kept}
        for (client, server), result in results.items()
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "simulator.json").write_text(json.dumps(rows, indent=1) + "\n")
    (directory / "simulator_detail.json").write_text(json.dumps(detail, indent=1) + "\n")
    print(f"\nWrote {directory / 'simulator.json'}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times a simulator's step, and a robot's streams.")
    parser.add_argument("--rounds", type=int, default=20, help="of all pairs (%(default)s)")
    parser.add_argument("--calls", type=int, default=100, help="steps of each in a round (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="show that it works; the figures mean nothing")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench", help="where the JSON goes")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    rounds, calls = (1, 5) if options.quick else (options.rounds, options.calls)
    print(machine())
    print(versions(sys.executable, ["pyzmq", "msgpack", "numpy"]))
    try:
        results = measure(rounds, calls)
    except BenchError as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 1
    report(results)
    write_json(options.output, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
