"""Drives a simulated arm from slow policies, in every mode, openpi's among them: `make bench BENCH=control`.

A policy server (control_server.py, on axon's server for openpi's protocol) answers with 50 steps of a known path, at 50 steps
a second, after 80 +- 30 ms or after 300 ms. Each way to control is a process of its own (control_worker.py) with a server
of its own, which takes the same time for the same request of each:

    blocking, prefetch, aligned, ensemble    service_clients.runtime: ChunkEngine, PolicyAgent and Runtime
    openpi                                   openpi-client's ActionChunkBroker, PolicyAgent and Runtime
    ideal                                    no policy at all: the path itself, 50 times a second

What the arm was told, and when, is written down. Of that:

    starved %      of the ticks, those at which the policy had nothing new: the loop waited for it, or got the last action again
    idle ms        the length of these ticks, per chunk
    path error     root mean square over joints and time of where the arm was and ought to have been, in mrad; `ideal` has
                   the arm's own lag
    jerk           of the commands, at 50 Hz, the most within 3 ticks of where a chunk began; the median over chunks
    stalls         ticks that passed while the loop was not waiting: this machine was busy with something else
    jitter p99     of the time from one command to the next, off the period, at 50, 200 and 1000 ticks a second

Beside it: a bare clock_nanosleep loop and axon's pacer, tick about, both in C (ticks.c); what one next_action() costs, from C
(chunk_next.c) and from Python. A target that is missed is printed and does not fail the run.

Writes control.json and control.png.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np

from benchmarks.control_path import ACTION_HZ, move, path
from benchmarks.harness import (
    PROGRAMS,
    ROOT,
    BenchError,
    Rounds,
    Worker,
    build_programs,
    machine,
    percentile,
    quiet_rounds,
    save_json,
    versions,
)
from benchmarks.policy import peers_python

MODES = ("openpi", "blocking", "prefetch", "aligned", "ensemble")
RATES = (50, 200, 1000)
SEED = 7

STARVED_PREFETCH = 0.1  # % at most, and
STARVED_BLOCKING = 5.0  # % at least: that prefetching is needed
OVER_BARE = 1.2  # the pacer's p99 wake-up error at 200 Hz may be so many times the bare loop's
NEXT_C_NS, NEXT_PYTHON_NS = 200, 2000

Array = Any


@dataclass(frozen=True)
class Latency:
    """How long the policy thinks, and how long that is watched."""

    mean_ms: float
    spread_ms: float
    seconds: float

    @property
    def label(self) -> str:
        return f"{self.mean_ms:g} ± {self.spread_ms:g} ms" if self.spread_ms else f"{self.mean_ms:g} ms"


LATENCIES = (Latency(80, 30, 25.0), Latency(300, 0, 15.0))


@dataclass
class Trace:
    """What the arm was told: times (n,) in s, commands (n, joints) in rad, each's chunk, whether it was new, and for how
    long, in s, it had been waited for."""

    times: Array
    commands: Array
    chunks: Array
    fresh: Array
    waits: Array

    @classmethod
    def of(cls, answer: str) -> Trace:
        told = json.loads(answer)
        return cls(*(np.array(told[name]) for name in ("times", "commands", "chunks", "fresh", "waits")))

    @property
    def boundaries(self) -> Array:
        """When chunks began, the first one left out."""
        return self.times[1:][np.diff(self.chunks) != 0]

    @property
    def starved(self) -> Array:
        """Of each command but the first: ticks that passed while it was waited for, and itself when it was not new."""
        return np.round(self.waits[1:] * ACTION_HZ).astype(int) + ~self.fresh[1:]

    @property
    def missing(self) -> Array:
        """How many ticks have no command, before each command but the first."""
        return np.maximum(0, np.round(np.diff(self.times) * ACTION_HZ) - 1).astype(int)


@dataclass
class Score:
    """What became of one mode at one latency."""

    starved_percent: float
    idle_ms: float
    error_mrad: float
    jerk: float
    ticks: int
    chunks: int
    stalled: int


def score(trace: Trace) -> Score:
    starved, ticks = int(trace.starved.sum()), len(trace.times) + int(trace.missing.sum())
    chunks = len(trace.boundaries) + 1
    return Score(
        starved_percent=100 * starved / ticks,
        idle_ms=1e3 * starved / ACTION_HZ / chunks,
        error_mrad=path_error(trace),
        jerk=boundary_jerk(trace),
        ticks=ticks,
        chunks=chunks,
        stalled=int(np.maximum(0, trace.missing - trace.starved).sum()),
    )


def path_error(trace: Trace) -> float:
    """Root mean square in mrad, after a second in which the arm gets under way."""
    times, positions = move(trace.times, trace.commands)
    off = (positions - path(times))[times > times[0] + 1]
    return float(1e3 * np.sqrt((off**2).mean()))


def boundary_jerk(trace: Trace) -> float:
    """Median over chunks, in rad/s^3; over the whole trace where there are none."""
    grid = np.arange(trace.times[0] + 0.5 / ACTION_HZ, trace.times[-1], 1 / ACTION_HZ)
    held = trace.commands[np.searchsorted(trace.times, grid, side="right") - 1]
    jerks = np.linalg.norm(np.diff(held, n=3, axis=0), axis=1) * ACTION_HZ**3
    places: Array = np.searchsorted(grid[3:], trace.boundaries)
    if not len(places):
        return float(np.median(jerks))
    return float(np.median([jerks[max(0, at - 3) : at + 4].max(initial=0.0) for at in places]))


def jitter_ms(trace: Trace, hz: float) -> float:
    return float(percentile(1e3 * np.abs(np.diff(trace.times) - 1 / hz), 0.99))


def ideal(seconds: float) -> Trace:
    times = np.arange(0, seconds, 1 / ACTION_HZ)
    nothing = np.zeros(len(times), int)
    return Trace(times, path(times), nothing, nothing == 0, nothing)


# ---- the arm -------------------------------------------------------------------------------------


class Robots:
    """A process and a policy server for each mode."""

    def __init__(self, latency: Latency, modes: Sequence[str]) -> None:
        numbers = [str(latency.mean_ms), str(latency.spread_ms), str(SEED)]
        self._servers: list[Worker] = []
        self.workers: dict[str, Worker] = {}
        for mode in modes:
            command = [sys.executable, "-m", "benchmarks.control_server", *numbers]
            self._servers.append(Worker(f"{mode}'s server", command, None))
        for mode, server in zip(modes, self._servers):
            python = peers_python() if mode == "openpi" else sys.executable
            command = [python, "-m", "benchmarks.control_worker", mode, server.read()]
            self.workers[mode] = Worker(mode, command, None)
        for worker in self.workers.values():
            worker.await_ready()

    def __enter__(self) -> Robots:
        return self

    def __exit__(self, *_exception: object) -> None:
        for worker in self.workers.values():
            worker.stop()
        for server in self._servers:
            server.kill()

    def run_together(self, hz: float, seconds: float) -> dict[str, Trace]:
        """All modes at once: they wait most of the time."""
        for worker in self.workers.values():
            worker.send(f"run {hz} {seconds}")
        return {mode: Trace.of(worker.read()) for mode, worker in self.workers.items()}

    def jitters(self, seconds: float) -> dict[str, dict[int, float]]:
        """p99 in ms, by mode and rate, one after the other."""
        return {
            mode: {hz: jitter_ms(Trace.of(worker.order(f"run {hz} {seconds}")), hz) for hz in RATES}
            for mode, worker in self.workers.items()
        }


# ---- the clock -----------------------------------------------------------------------------------


@dataclass
class Ticks:
    """Wake-up errors at one rate, in us."""

    hz: int
    p50_us: dict[str, float]
    p99_us: dict[str, float]


def time_ticks(program: Worker, hz: int, rounds: int, seconds: float) -> Ticks:
    """Wake-up errors of the bare loop and of the pacer, all of those of the quieter half of the rounds together."""
    count = max(10, int(hz * seconds) // 2 * 2)
    errors: dict[str, list[list[int]]] = {"bare": [], "pacer": []}
    for _ in range(rounds):
        numbers = program.numbers(f"round {hz} {count}")
        errors["bare"].append(numbers[::2])
        errors["pacer"].append(numbers[1::2])
    kept = quiet_rounds(
        {name: Rounds([max(1.0, percentile(it, 0.99)) for it in turns]) for name, turns in errors.items()}
    )
    together = {name: [ns for i in kept for ns in turns[i]] for name, turns in errors.items()}
    return Ticks(
        hz,
        {name: percentile(found, 0.5) / 1e3 for name, found in together.items()},
        {name: percentile(found, 0.99) / 1e3 for name, found in together.items()},
    )


def next_in_c() -> dict[str, float]:
    """Nanoseconds of one axon_chunk_next() of seven numbers, by mode."""
    done = subprocess.run([PROGRAMS / "chunk_next"], capture_output=True, text=True, check=True, timeout=60)
    rows = [line.split() for line in done.stdout.splitlines()]
    return {mode: float(mean) for mode, width, mean, _ in rows if width == "7"}


# ---- reporting -----------------------------------------------------------------------------------


@dataclass
class Report:
    """Everything that was measured."""

    traces: dict[Latency, dict[str, Trace]]
    scores: dict[Latency, dict[str, Score]]
    jitters: dict[str, dict[int, float]]
    ticks: list[Ticks]
    next_c_ns: dict[str, float]  # by mode
    next_python_ns: float


def print_report(report: Report) -> None:
    columns = "{:12} {:>10} {:>9} {:>16} {:>14} {:>7} {:>7} {:>7}"
    for latency, scores in report.scores.items():
        print()
        print(
            columns.format(
                latency.label,
                "starved %",
                "idle ms",
                "path error mrad",
                "jerk rad/s^3",
                "ticks",
                "chunks",
                "stalls",
            )
        )
        for mode, it in scores.items():
            print(
                columns.format(
                    mode,
                    f"{it.starved_percent:.2f}",
                    f"{it.idle_ms:.0f}",
                    f"{it.error_mrad:.1f}",
                    f"{it.jerk:.0f}",
                    it.ticks,
                    it.chunks,
                    it.stalled,
                )
            )
    print(
        "\n{:12} {:>10} {:>10} {:>10}   ({})".format(
            "jitter p99", *(f"{hz} Hz" for hz in RATES), "ms, at 80 ms"
        )
    )
    for mode, jitters in report.jitters.items():
        print("{:12} {:>10} {:>10} {:>10}".format(mode, *(f"{jitters[hz]:.2f}" for hz in RATES)))
    print(
        "\n{:12} {:>10} {:>10} {:>10} {:>10}".format(
            "wake-up us", "bare p50", "bare p99", "pacer p50", "pacer p99"
        )
    )
    for ticks in report.ticks:
        numbers = (ticks.p50_us["bare"], ticks.p99_us["bare"], ticks.p50_us["pacer"], ticks.p99_us["pacer"])
        print("{:12} {:10.0f} {:10.0f} {:10.0f} {:10.0f}".format(f"{ticks.hz} Hz", *numbers))
    costs = ", ".join(f"{mode} {ns:.0f}" for mode, ns in report.next_c_ns.items())
    print(f"\nnext_action from C: {costs} ns; from Python: aligned {report.next_python_ns:.0f} ns")


def targets(report: Report) -> Iterator[tuple[bool, str]]:
    """What was to be reached: whether it was, and the figures."""
    first = next(iter(report.scores.values()))
    starved = first["prefetch"].starved_percent
    yield (
        starved < STARVED_PREFETCH,
        f"prefetch starved for {starved:.2f} % of ticks ({STARVED_PREFETCH:g} %)",
    )
    starved = first["blocking"].starved_percent
    yield starved > STARVED_BLOCKING, f"blocking for {starved:.1f} % (more than {STARVED_BLOCKING:g} %)"
    ticks = next(it for it in report.ticks if it.hz == 200)
    share = ticks.p99_us["pacer"] / ticks.p99_us["bare"]
    yield (
        share <= OVER_BARE,
        f"pacer's p99 wake-up error at 200 Hz {share:.2f}x the bare loop's ({OVER_BARE:g}x)",
    )
    slowest = max(report.next_c_ns, key=report.next_c_ns.__getitem__)
    cost = report.next_c_ns[slowest]
    yield (
        cost < NEXT_C_NS,
        f"next_action from C {cost:.0f} ns where it takes longest, {slowest} ({NEXT_C_NS} ns)",
    )
    yield (
        report.next_python_ns < NEXT_PYTHON_NS,
        f"from Python {report.next_python_ns:.0f} ns ({NEXT_PYTHON_NS} ns)",
    )


def print_targets(report: Report) -> None:
    print("\nTargets, at " + next(iter(report.scores)).label)
    for met, text in targets(report):
        print(f"  {'met   ' if met else 'MISSED'} {text}")


def write_json(directory: Path, report: Report, about: dict[str, Any]) -> None:
    told = {
        **about,
        "modes": [
            {"latency": latency.label, "mode": mode, **{k: round(v, 4) for k, v in vars(it).items()}}
            for latency, scores in report.scores.items()
            for mode, it in scores.items()
        ],
        "jitter_p99_ms": {
            mode: {f"{hz} Hz": round(ms, 4) for hz, ms in found.items()}
            for mode, found in report.jitters.items()
        },
        "wake_up_us": [{"hz": it.hz, "p50": it.p50_us, "p99": it.p99_us} for it in report.ticks],
        "next_action_ns": {"c": report.next_c_ns, "python": report.next_python_ns},
        "targets": [{"met": met, "text": text} for met, text in targets(report)],
    }
    save_json(directory / "control.json", told)
    print(f"\nWrote {directory / 'control.json'} and {directory / 'control.png'}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Drives a simulated arm from slow policies, in every mode.")
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds: shows that it works, not how well"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench", help="where the files go")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> Report:
    report = Report({}, {}, {}, [], next_in_c(), 0.0)
    program = Worker("ticks", [str(PROGRAMS / "ticks")], None)
    try:
        program.await_ready()
        for hz in RATES:
            rounds, length = (2, 0.1) if options.quick else (24 if hz == 200 else 8, 1.0)
            report.ticks.append(time_ticks(program, hz, rounds, length))
    finally:
        program.stop()
    for latency in LATENCIES:
        with Robots(latency, MODES) as robots:
            traces = robots.run_together(ACTION_HZ, 1.5 if options.quick else latency.seconds)
            report.traces[latency] = traces
            report.scores[latency] = {mode: score(trace) for mode, trace in traces.items()}
            report.scores[latency]["ideal"] = score(ideal(20.0))
            if latency is LATENCIES[0]:
                report.jitters = robots.jitters(0.2 if options.quick else 3.0)
                costs = robots.workers["aligned"].order("cost 20000").split()
                report.next_python_ns = statistics.median(map(float, costs))
    return report


def run(options: argparse.Namespace) -> None:
    from benchmarks.control_plot import draw

    build_programs("ticks", "chunk_next")
    about = {
        "machine": machine(),
        "python": versions(sys.executable, ["numpy"]),
        "peers": versions(peers_python(), ["openpi-client", "websockets", "numpy"]),
    }
    print("\n".join(f"{name}: {text}" for name, text in about.items()))
    report = measure(options)
    print_report(report)
    print_targets(report)
    write_json(options.output, report, about)
    draw(report, options.output / "control.png")


def main() -> int:
    try:
        run(parse_arguments())
    except BenchError as error:
        print(f"control: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
