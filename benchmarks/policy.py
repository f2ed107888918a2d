"""Times one policy round trip, side by side with the peers: `make bench BENCH=policy`.

The same observation, in three sizes, goes to the same sink (sink.c) from five clients, each in a process of
its own:

    axon-python     service_clients.openpi.client, the drop-in for openpi-client
    axon-c          axon_client.c, on the public C API
    openpi-client   as it comes from PyPI, on the newest websockets
    picows          its core API on uvloop, with openpi's msgpack around it
    floor           floor.c, a plain socket that does the least that any client must do

The clients take turns in random order, round after round, so that whatever else the machine does hits all
alike, and are started anew now and then. The sink's answers to untimed calls before and after the rounds carry
a checksum, which proves that everybody sent the same bytes. A wrong answer fails the run; a target that is
missed is printed and does not.

Writes policy.json, [{"name", "size_bytes", "p50_ms", "p99_ms"}], and policy_detail.json with every round.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Sequence

from benchmarks.harness import (
    PROGRAMS,
    ROOT,
    BenchError,
    Rounds,
    Worker,
    build_programs,
    exit_status,
    keep_quiet_rounds,
    machine,
    options_of,
    percentile,
    save_json,
    versions,
)

CONTENDER = ("-m", "benchmarks.contender")
NAMES = ("axon-python", "axon-c", "openpi-client", "picows", "floor")


@dataclass(frozen=True)
class ObservationSize:
    """One observation: so many images of (height, width, 3) bytes."""

    label: str
    images: int
    height: int
    width: int
    calls: int  # in a round

    @property
    def bytes(self) -> int:
        return self.images * self.height * self.width * 3

    @property
    def shape(self) -> list[str]:
        """As the clients are told it."""
        return [str(self.images), str(self.height), str(self.width)]


@dataclass(frozen=True)
class Size(ObservationSize):
    over_openpi: float  # how many times faster than openpi-client axon-python is to be


SIZES = (
    Size("294 KiB", 2, 224, 224, 100, 3.0),
    Size("588 KiB", 4, 224, 224, 100, 4.0),
    Size("2.7 MiB", 3, 480, 640, 50, 4.0),
)
STARTS = 3  # of every client: no two processes and connections are quite alike
OVER_FLOOR = 1.25  # axon-c may take so many times the floor's time


# ---- processes ---------------------------------------------------------------------------------


def peers_python() -> str:
    """The interpreter of the environment that has openpi-client, which pins numpy below 2."""
    python = os.path.abspath(os.environ.get("AXON_PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))
    if not Path(python).exists():
        raise BenchError(f"no interpreter with openpi-client: {python} is not there (set AXON_PEERS_PYTHON)")
    return python


def command_of(name: str) -> list[str]:
    return {
        "axon-python": [sys.executable, *CONTENDER, "axon-python"],
        "axon-c": [str(PROGRAMS / "axon_client")],
        "openpi-client": [peers_python(), *CONTENDER, "openpi-client"],
        "picows": [sys.executable, *CONTENDER, "picows"],
        "floor": [str(PROGRAMS / "floor")],
    }[name]


# ---- measuring ---------------------------------------------------------------------------------


@dataclass
class Result(Rounds):
    """What one contender did with one size; p99 of each round in milliseconds."""

    p99s: list[float] = field(default_factory=list)
    peak_kib: int = 0
    grown_kib: int = 0

    def add_memory(self, baseline_kib: int, peak_kib: int) -> None:
        """Takes down what one process of it needed: the most counts."""
        self.peak_kib = max(self.peak_kib, peak_kib)
        self.grown_kib = max(self.grown_kib, peak_kib - baseline_kib)

    @property
    def p99_ms(self) -> float:
        return self.median_of(self.p99s)


def check_answers(sink: Worker, workers: Sequence[Worker]) -> None:
    """One checked round trip each: the same bytes must have arrived, and the same actions come back."""
    sink.order("check")
    answers = {worker.name: worker.order("check") for worker in workers}
    sink.order("count")
    if len(set(answers.values())) != 1:
        lines = [f"\n  {name}: {answer}" for name, answer in answers.items()]
        raise BenchError(f"answers differ (bytes received, their CRC-32, sum of actions):{''.join(lines)}")


def measure_once(
    size: Size,
    results: dict[str, Result],
    sink: Worker,
    port: str,
    rounds: int,
    calls: int,
    cpu: int | None,
) -> None:
    """Starts every client anew and adds its rounds to its result."""
    workers: list[Worker] = []
    try:
        for name in results:
            workers.append(Worker(name, [*command_of(name), "127.0.0.1", port, *size.shape], cpu))
            workers[-1].await_ready()
        check_answers(sink, workers)
        for _ in range(rounds):
            for worker in random.sample(workers, len(workers)):
                times = worker.numbers(f"round {max(2, calls // 10)} {calls}")
                results[worker.name].p50s.append(percentile(times, 0.5) / 1e6)
                results[worker.name].p99s.append(percentile(times, 0.99) / 1e6)
        check_answers(sink, workers)
        for worker in workers:
            results[worker.name].add_memory(*worker.numbers("memory"))
    finally:
        for worker in workers:
            worker.stop()


def measure(
    size: Size, names: Sequence[str], sink: Worker, port: str, options: argparse.Namespace, cpu: int | None
) -> dict[str, Result]:
    results = {name: Result() for name in names}
    starts, rounds, calls = (1, 2, 5) if options.quick else (STARTS, options.rounds, size.calls)
    for start in range(starts):
        share = rounds // starts + (start < rounds % starts)
        measure_once(size, results, sink, port, share, calls, cpu)
    keep_quiet_rounds(results)
    return results


# ---- reporting ---------------------------------------------------------------------------------


def print_table(size: Size, results: dict[str, Result]) -> None:
    columns = "{:15} {:>8} {:>8} {:>12} {:>11} {:>9} {:>10}"
    print()
    print(
        columns.format(size.label, "p50 ms", "p99 ms", "openpi / it", "it / floor", "peak MiB", "grown MiB")
    )
    openpi, floor = results.get("openpi-client"), results.get("floor")
    for name, result in sorted(results.items(), key=lambda item: -item[1].p50_ms):
        print(
            columns.format(
                name,
                f"{result.p50_ms:.3f}",
                f"{result.p99_ms:.3f}",
                f"{openpi.p50_ms / result.p50_ms:.2f}" if openpi else "-",
                f"{result.p50_ms / floor.p50_ms:.2f}" if floor else "-",
                f"{result.peak_kib / 1024:.1f}",
                f"{result.grown_kib / 1024:.1f}",
            )
        )


def targets(size: Size, results: dict[str, Result]) -> Iterator[tuple[bool, str]]:
    """What was to be reached: whether it was, and the figures."""
    p50 = {name: result.p50_ms for name, result in results.items()}
    faster = p50["openpi-client"] / p50["axon-python"]
    yield (
        faster >= size.over_openpi,
        f"axon-python {faster:.2f}x openpi-client's speed ({size.over_openpi:g}x)",
    )
    share = p50["axon-python"] / p50["picows"]
    yield share <= 1, f"axon-python {share:.2f}x picows' time (1x)"
    share = p50["axon-c"] / p50["floor"]
    yield share <= OVER_FLOOR, f"axon-c {share:.2f}x the floor's time ({OVER_FLOOR:g}x)"


def print_targets(measured: dict[Size, dict[str, Result]]) -> None:
    print("\nTargets, at p50")
    for size, results in measured.items():
        for met, text in targets(size, results):
            print(f"  {'met   ' if met else 'MISSED'} {size.label}: {text}")


def write_json(directory: Path, measured: dict[Size, dict[str, Result]], about: dict[str, Any]) -> None:
    summary: list[dict[str, Any]] = []
    detail: list[dict[str, Any]] = []
    for size, results in measured.items():
        for name, result in results.items():
            summary.append(
                {
                    "name": name,
                    "size_bytes": size.bytes,
                    "p50_ms": round(result.p50_ms, 4),
                    "p99_ms": round(result.p99_ms, 4),
                }
            )
            detail.append(
                {
                    **summary[-1],
                    "rounds_ms": [
                        [round(p50, 4), round(p99, 4)] for p50, p99 in zip(result.p50s, result.p99s)
                    ],
                    "rounds_kept": result.kept,
                    "peak_kib": result.peak_kib,
                    "grown_kib": result.grown_kib,
                }
            )
    save_json(directory / "policy.json", summary)
    save_json(directory / "policy_detail.json", {**about, "results": detail})
    print(f"\nWrote {directory / 'policy.json'}")


def parse_arguments() -> argparse.Namespace:
    parser = options_of(
        "Times one policy round trip, side by side with the peers.", "each client per size", 30
    )
    parser.add_argument("--pin", action="store_true", help="clients on the first CPU, the sink on the last")
    parser.add_argument("--only", nargs="+", choices=NAMES, help="these clients; then no file is written")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    build_programs("sink", "floor", "axon_client")
    names = options.only or list(NAMES)
    cpus = sorted(os.sched_getaffinity(0)) if options.pin else [None]
    about = {
        "machine": machine(),
        "placement": "pinned" if options.pin else "free",
        "axon": versions(sys.executable, ["numpy", "cffi", "picows", "uvloop"]),
        "peers": versions(peers_python(), ["numpy", "openpi-client", "websockets"]),
    }
    print(*(f"{key}: {value}" for key, value in about.items()), sep="\n")
    sink = Worker("sink", [str(PROGRAMS / "sink")], cpus[-1])
    measured = {}
    try:
        port = sink.read().split()[1]
        for size in SIZES:
            measured[size] = measure(size, names, sink, port, options, cpus[0])
            print_table(size, measured[size])
    finally:
        sink.stop()
    if not options.only:
        print_targets(measured)
        write_json(options.output, measured, about)


def main() -> int:
    return exit_status(lambda: run(parse_arguments()))


if __name__ == "__main__":
    sys.exit(main())
