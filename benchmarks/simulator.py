"""Times a simulator's step beside pyzmq, msgpack and numpy, and a robot's streams: `make bench BENCH=simulator`.

One step: an action of two arrays goes out, an observation of two pictures of 256x256x3 and four small arrays comes
back (393 KB), each an array at the end. Two servers host the same world, which simulates nothing, and two clients play
in each, all of them processes of their own:

    axon     service_clients.simulator: client.py and server.py
    pyzmq    what the protocol's document shows, with pyzmq, msgpack and numpy

The four pairs take turns in random order, round after round. Servers and clients are started five times: a process of
pyzmq's is fast or slow, with page faults in each step, for as long as it lives. Each start is judged by itself, by the
quieter half of its rounds; what is printed is the median start, with the slowest and the fastest. Before and after,
untimed, all make a checksum of what they see: it must be the same one. A wrong answer fails the run; a target that is
missed is printed and does not.

Then come the streams of a robot backend: see streams.py.

Writes simulator.json, [{"case", "name", "size_bytes", "value", "unit"}], and simulator_detail.json with every round.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
from pathlib import Path
from typing import Iterable, Iterator, Mapping, Sequence, Tuple

from benchmarks import streams
from benchmarks.harness import (
    BenchError,
    Rounds,
    Worker,
    keep_quiet_rounds,
    machine,
    options_of,
    percentile,
    save_json,
    versions,
)

NAMES = ("axon", "pyzmq")
PAIRS = tuple((client, server) for server in NAMES for client in NAMES)
SIZE_BYTES = 2 * 256 * 256 * 3
CHECKED = 5  # steps
SAME_SERVER, BOTH_OURS = 1.5, 2.0  # times as fast as pyzmq

Pair = Tuple[str, str]


class Result(Rounds):
    """One client at one server, from one start to its end."""

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


@contextlib.contextmanager
def playing() -> Iterator[dict[Pair, Worker]]:
    """A client of each pair, in the middle of an episode; all are new."""
    with contextlib.ExitStack() as stack:
        ports, workers = {}, {}
        for name in NAMES:
            server = Worker(f"{name} server", program("server", name), None)
            stack.callback(server.kill)
            ports[name] = server.read()
        for client, name in PAIRS:
            worker = Worker(f"{client} at {name}", program("client", client, ports[name]), None)
            stack.callback(worker.stop)
            workers[client, name] = worker
            worker.await_ready()
        yield workers


Start = Mapping[Pair, Result]


def measure(rounds: int, calls: int) -> Start:
    """One start."""
    results = {pair: Result() for pair in PAIRS}
    with playing() as workers:
        check_answers(workers)
        for _ in range(rounds):
            for pair in random.sample(PAIRS, len(PAIRS)):
                times = workers[pair].numbers(f"round {max(2, calls // 10)} {calls}")
                results[pair].p50s.append(percentile(times, 0.5) / 1e6)
                results[pair].p99s.append(percentile(times, 0.99) / 1e6)
        check_answers(workers)
    keep_quiet_rounds(results)
    return results


# What is to be reached: in words, whose time by whose, and how much that should be.
TARGETS: tuple[tuple[str, Pair, Pair, float], ...] = (
    ("axon's client at axon's server", ("pyzmq", "axon"), ("axon", "axon"), SAME_SERVER),
    ("axon's client at a pyzmq server", ("pyzmq", "pyzmq"), ("axon", "pyzmq"), SAME_SERVER),
    ("axon's client and server, beside pyzmq's", ("pyzmq", "pyzmq"), ("axon", "axon"), BOTH_OURS),
)


def spread(values: Iterable[float]) -> tuple[float, float, float]:
    """The median, the least, the most."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[0], ordered[-1]


def report(starts: Sequence[Start]) -> None:
    print(f"\n{'step, two pictures of 256x256':32} {'p50 ms':>8} {'of starts':>16} {'p99 ms':>8}")
    for pair in PAIRS:
        middle, least, most = spread(start[pair].p50_ms for start in starts)
        p99 = statistics.median(start[pair].median_of(start[pair].p99s) for start in starts)
        print(f"{pair[0]} at {pair[1]} server".ljust(32), f"{middle:8.3f} {least:8.3f}-{most:.3f} {p99:8.3f}")
    for what, theirs, ours, target in TARGETS:
        middle, least, most = spread(start[theirs].p50_ms / start[ours].p50_ms for start in starts)
        verdict = "" if middle >= target else ", MISSED"
        print(
            f"{what}: {middle:.2f} times as fast ({least:.2f} to {most:.2f}; to reach: {target:g}{verdict})"
        )


def write_json(directory: Path, starts: Sequence[Start]) -> None:
    rows = [
        {
            "case": f"step at {server} server",
            "name": client,
            "size_bytes": SIZE_BYTES,
            "value": round(spread(start[client, server].p50_ms for start in starts)[0], 4),
            "unit": "ms",
        }
        for client, server in PAIRS
    ]
    detail = [
        {
            f"{client} at {server}": {"p50_ms": result.p50s, "p99_ms": result.p99s, "kept": result.kept}
            for (client, server), result in start.items()
        }
        for start in starts
    ]
    save_json(directory / "simulator.json", rows)
    save_json(directory / "simulator_detail.json", detail)
    print(f"\nWrote {directory / 'simulator.json'}")


def parse_arguments() -> argparse.Namespace:
    parser = options_of("Times a simulator's step, and a robot's streams.", "all pairs, at each start", 6)
    parser.add_argument("--starts", type=int, default=5, help="of all processes (%(default)s)")
    parser.add_argument("--calls", type=int, default=100, help="steps of each in a round (%(default)s)")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    starts, rounds, calls = (1, 1, 5) if options.quick else (options.starts, options.rounds, options.calls)
    print(machine())
    print(versions(sys.executable, ["pyzmq", "msgpack", "numpy"]))
    try:
        measured = [measure(rounds, calls) for _ in range(starts)]
    except BenchError as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 1
    report(measured)
    write_json(options.output, measured)
    print("\nA robot's streams:")
    return streams.main(["--output", str(options.output), *(["--quick"] if options.quick else [])])


if __name__ == "__main__":
    sys.exit(main())
