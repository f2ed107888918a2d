"""Times our policy server beside openpi's, with the same clients and the same policy: `make bench BENCH=server`.

Three servers run side by side, each a process of its own:

    axon-server     service_clients.openpi.server, hosting a Python policy (hosted.py)
    openpi-server   as it comes from PyPI, on the newest websockets, hosting the same policy
    floor           sink.c, bare sockets that read the request and answer at once: what the client alone costs

and the clients of policy.py take turns at them in random order, first axon's (axon_client.c, which costs least, so
that the server shows), then PyPI's openpi-client. Cases:

    round-trip      one client, one observation after the other, p50
    16-clients      sixteen processes at once, observations per second of all together
    healthz         GET /healthz while an inference is under way, p99: the policy waits as for a GPU, or keeps Python's
                    lock busy

Untimed calls before and after carry a checksum that the policy makes of what it was given: all clients of both
servers must get the same one, and the same actions. A wrong answer fails the run; a target that is missed is
printed and does not.

Writes server.json, [{"case", "name", "size_bytes", "value", "unit"}], and server_detail.json with every round and
the floor.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from benchmarks.harness import (
    PROGRAMS,
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
from benchmarks.policy import ObservationSize, command_of, peers_python

NAMES = ("axon-server", "openpi-server")
FLOOR = "floor"
CLIENTS = {"axon-client": "axon-c", "openpi-client": "openpi-client"}  # and what policy.py calls them
AT_ONCE = 16
HEALTHZ_LIMIT_MS = 10.0


@dataclass(frozen=True)
class Size(ObservationSize):
    faster: float  # how many times faster than openpi-server's the round trip is to be


SIZES = (Size("294 KiB", 2, 224, 224, 100, 1.5), Size("2.7 MiB", 3, 480, 640, 30, 2.0))
MORE_AT_ONCE = 2.0  # times as many observations per second


@dataclass(frozen=True)
class Case:
    """What is timed with one client and one size; `results` are ms per round trip, or per observation."""

    kind: str
    client: str
    size: Size
    results: Mapping[str, Rounds]

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.client}"

    @property
    def label(self) -> str:
        return f"{self.kind}, {self.size.label}, {self.client}"

    @property
    def unit(self) -> str:
        return "ms" if self.kind == "round-trip" else "observations/s"

    def value(self, name: str) -> float:
        p50 = self.results[name].p50_ms
        return p50 if self.kind == "round-trip" else 1000 / p50

    def ratio(self, name: str) -> float:
        """How many times as fast as openpi-server that one is."""
        return self.results["openpi-server"].p50_ms / self.results[name].p50_ms

    @property
    def target(self) -> float:
        return self.size.faster if self.kind == "round-trip" else MORE_AT_ONCE


# ---- servers and clients -------------------------------------------------------------------------


class Server(Worker):
    """A server that takes orders, and the port that it listens on."""

    def __init__(self, name: str, cpu: int | None) -> None:
        hosted = ("-m", "benchmarks.hosted", name)
        command = {
            "axon-server": [sys.executable, *hosted],
            "openpi-server": [peers_python(), *hosted],
            FLOOR: [str(PROGRAMS / "sink")],
        }[name]
        super().__init__(name, command, cpu)
        self.port = self.read().split()[1]
        self._await_listening()

    def _await_listening(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", int(self.port)), 1).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.05)
        raise BenchError(f"{self.name}: does not listen on port {self.port}")


Crowd = Mapping[str, Sequence[Worker]]  # by the name of the server that they are connected to


def open_clients(
    servers: Sequence[Server], client: str, size: Size, count: int, cpu: int | None
) -> dict[str, list[Worker]]:
    """So many processes for each server, ready."""
    crowd: dict[str, list[Worker]] = {server.name: [] for server in servers}
    try:
        for server in servers:
            command = [*command_of(CLIENTS[client]), "127.0.0.1", server.port, *size.shape]
            name = f"{client} of {server.name}"
            crowd[server.name] += [Worker(name, command, cpu) for _ in range(count)]
        for worker in everyone(crowd):
            worker.await_ready()
    except BaseException:
        stop(crowd)
        raise
    return crowd


def everyone(crowd: Crowd) -> Iterator[Worker]:
    for workers in crowd.values():
        yield from workers


def stop(crowd: Crowd) -> None:
    for worker in everyone(crowd):
        worker.stop()


def check_answers(servers: Sequence[Server], crowd: Crowd) -> None:
    """One checked round trip each: both policies were given the same, and everybody gets the same actions.

    The floor counts and sums the message, which the policies never see: of its answer the actions are compared.
    """
    for server in servers:
        server.order("check")
    answers = [(worker.name, worker.order("check").split()) for worker in everyone(crowd)]
    for server in servers:
        server.order("count")
    hosted = {tuple(answer) for name, answer in answers if not name.endswith(FLOOR)}
    if len(hosted) > 1 or len({answer[-1] for _, answer in answers}) > 1:
        lines = [f"\n  {name}: {' '.join(answer)}" for name, answer in answers]
        raise BenchError(f"answers differ (bytes received, their CRC-32, sum of actions):{''.join(lines)}")


# ---- round trips, one client or many ---------------------------------------------------------------


def time_one(workers: Sequence[Worker], calls: int) -> float:
    """The p50 of a round trip in ms."""
    return percentile(workers[0].numbers(f"round {max(2, calls // 10)} {calls}"), 0.5) / 1e6


def time_many(workers: Sequence[Worker], milliseconds: int) -> float:
    """Milliseconds per observation when all send at once."""
    for worker in workers:
        worker.send(f"load {milliseconds}")
    done = [worker.read().split() for worker in workers]
    return 1000 / sum(int(count) / int(elapsed) * 1e9 for count, elapsed in done)


def measure(
    kind: str,
    client: str,
    size: Size,
    servers: Sequence[Server],
    options: argparse.Namespace,
    cpu: int | None,
) -> Case:
    at_once, rounds, calls, milliseconds = (
        (3, 2, 5, 50) if options.quick else (AT_ONCE, options.rounds, size.calls, 500)
    )
    count = 1 if kind == "round-trip" else at_once
    results = {server.name: Rounds() for server in servers}
    crowd = open_clients(servers, client, size, count, cpu)
    try:
        check_answers(servers, crowd)
        for _ in range(rounds):
            for name in random.sample(list(crowd), len(crowd)):
                workers = crowd[name]
                spent = time_one(workers, calls) if count == 1 else time_many(workers, milliseconds)
                results[name].p50s.append(spent)
        check_answers(servers, crowd)
    finally:
        stop(crowd)
    keep_quiet_rounds(results)
    return Case(kind, client, size, results)


# ---- healthz ---------------------------------------------------------------------------------------


def get_healthz(port: str) -> int:
    """Nanoseconds that a new connection and its answer take."""
    started = time.perf_counter_ns()
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
    try:
        connection.request("GET", "/healthz")
        reply = connection.getresponse()
        if (reply.status, reply.read()) != (200, b"OK\n"):
            raise BenchError(f"port {port}: /healthz answers {reply.status}")
    finally:
        connection.close()
    return time.perf_counter_ns() - started


def probe_during(server: Server, work: str, seconds: float) -> list[int]:
    """What /healthz takes, again and again, from shortly after the beginning of an inference to its end."""
    from service_clients.openpi.client import WebsocketClientPolicy

    policy = WebsocketClientPolicy("127.0.0.1", int(server.port))
    inference = threading.Thread(target=policy.infer, args=({work: seconds},))
    inference.start()
    times = []
    try:
        time.sleep(0.05)
        while inference.is_alive():
            times.append(get_healthz(server.port))
            time.sleep(0.005)
    finally:
        inference.join()
        policy.close()
    if not times:
        raise BenchError(f"{server.name}: the inference was over before /healthz was asked")
    return times


def measure_healthz(
    servers: Sequence[Server], work: str, rounds: int, seconds: float
) -> dict[str, list[int]]:
    """All that /healthz took during inferences, by server, in nanoseconds."""
    times: dict[str, list[int]] = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in random.sample(servers, len(servers)):
            times[server.name] += probe_during(server, work, seconds)
    return times


# ---- reporting -------------------------------------------------------------------------------------


def print_case(case: Case) -> None:
    columns = "{:45} {:>15} {:>12}"
    print(columns.format(f"\n{case.label}", case.unit, "openpi / it"))
    for name in case.results:
        value = case.value(name)
        text = f"{value:.3f}" if value < 100 else f"{value:.0f}"
        print(columns.format(name, text, f"{case.ratio(name):.2f}"))


def print_targets(cases: Sequence[Case], healthz: Mapping[str, Mapping[str, list[int]]]) -> None:
    print("\nTargets")
    for case in cases:
        ratio, most = case.ratio("axon-server"), case.ratio(FLOOR)
        met = "met   " if ratio >= case.target else "MISSED"
        print(f"  {met} {case.label}: axon-server {ratio:.2f}x openpi-server's speed", end=" ")
        print(f"({case.target:g}x; without a server {most:.2f}x)")
    for work, times in healthz.items():
        p99 = percentile(times["axon-server"], 0.99) / 1e6
        met = "met   " if p99 < HEALTHZ_LIMIT_MS else "MISSED"
        print(f"  {met} {work}: axon-server p99 {p99:.2f} ms ({HEALTHZ_LIMIT_MS:g} ms)")


def write_json(
    directory: Path,
    cases: Sequence[Case],
    healthz: Mapping[str, Mapping[str, list[int]]],
    about: Mapping[str, Any],
) -> None:
    summary = [
        {
            "case": case.name,
            "name": name,
            "size_bytes": case.size.bytes,
            "value": round(case.value(name), 4),
            "unit": case.unit,
        }
        for case in cases
        for name in NAMES
    ]
    summary += [
        {"case": work, "name": name, "size_bytes": 0, "value": round(p99, 4), "unit": "ms p99"}
        for work, times in healthz.items()
        for name in NAMES
        for p99 in [percentile(times[name], 0.99) / 1e6]
    ]
    detail = [
        {
            "case": case.name,
            "name": name,
            "size_bytes": case.size.bytes,
            "rounds_ms": [round(p50, 4) for p50 in result.p50s],
            "rounds_kept": result.kept,
            "value": round(case.value(name), 4),
            "unit": case.unit,
        }
        for case in cases
        for name, result in case.results.items()
    ]
    save_json(directory / "server.json", summary)
    save_json(directory / "server_detail.json", {**about, "results": detail})
    print(f"\nWrote {directory / 'server.json'}")


# ---- the run ---------------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    parser = options_of("Times our policy server beside openpi's.", "each server per case", 16)
    parser.add_argument("--pin", action="store_true", help="clients on the first CPU, servers on the last")
    parser.add_argument(
        "--only", nargs="+", choices=list(CLIENTS), help="these clients; then no file is written"
    )
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    build_programs("sink", "axon_client")
    cpus = sorted(os.sched_getaffinity(0)) if options.pin else [None]
    about = {
        "machine": machine(),
        "placement": "pinned" if options.pin else "free",
        "axon": versions(sys.executable, ["numpy", "cffi"]),
        "peers": versions(peers_python(), ["numpy", "openpi-server", "openpi-client", "websockets"]),
    }
    print(*(f"{key}: {value}" for key, value in about.items()), sep="\n")
    servers: list[Server] = []
    cases = []
    try:
        for name in (*NAMES, FLOOR):
            servers.append(Server(name, cpus[-1]))
        for client in options.only or CLIENTS:
            for kind in ("round-trip", f"{AT_ONCE}-clients"):
                for size in SIZES:
                    cases.append(measure(kind, client, size, servers, options, cpus[0]))
                    print_case(cases[-1])
        rounds, seconds = (1, 0.2) if options.quick else (4, 1.0)
        hosted = servers[: len(NAMES)]
        healthz = {
            f"healthz-{name}": measure_healthz(hosted, work, rounds, seconds)
            for name, work in (("waiting", "wait_s"), ("computing", "compute_s"))
        }
    finally:
        for server in servers:
            server.stop()
    print_targets(cases, healthz)
    if not options.only:
        write_json(options.output, cases, healthz, about)


def main() -> int:
    return exit_status(lambda: run(parse_arguments()))


if __name__ == "__main__":
    sys.exit(main())
