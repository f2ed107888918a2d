"""What the benchmarks share: processes that take turns, rounds of which the quieter half counts, options and files."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import select
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "build" / "c" / "bench"
PHOTOGRAPH = ROOT / "tests" / "data" / "astronaut.jpg"
ORDER_TIMEOUT_S = 120


class BenchError(Exception):
    """The run proves nothing: a client is missing, died, or got a wrong answer."""


class Worker:
    """The sink or a contender: one line of orders in, one line of answers out."""

    def __init__(self, name: str, command: Sequence[str], cpu: int | None) -> None:
        self.name = name
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        if cpu is not None:
            os.sched_setaffinity(self._process.pid, {cpu})

    def read(self) -> str:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], ORDER_TIMEOUT_S)
        line = self._process.stdout.readline() if ready else ""
        if not line.endswith("\n"):
            raise BenchError(f"{self.name}: {'died' if ready else f'silent for {ORDER_TIMEOUT_S} s'}")
        return line.strip()

    def await_ready(self) -> None:
        if self.read() != "ready":
            raise BenchError(f"{self.name}: not ready")

    def send(self, line: str) -> None:
        """Gives an order, whose answer is to be read()."""
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def order(self, line: str) -> str:
        self.send(line)
        return self.read()

    def numbers(self, line: str) -> list[int]:
        return [int(word) for word in self.order(line).split()]

    def stop(self) -> None:
        """Ends the process: by the end of its orders, and if that is no use, by force."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def kill(self) -> None:
        """Ends a process that takes no orders."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


def build_programs(*names: str) -> None:
    """Builds C programs of this folder as anybody's program is built, without sanitizers."""
    programs = [str((PROGRAMS / name).relative_to(ROOT)) for name in names]
    subprocess.run(["make", "-s", "BUILD=build/c", "SAN=", *programs], cwd=ROOT, check=True)


def read_photograph() -> Any:
    """The pixels of PHOTOGRAPH, BGR."""
    import cv2  # not in every process that needs this module

    pixels = cv2.imread(str(PHOTOGRAPH))
    if pixels is None:
        raise BenchError(f"{PHOTOGRAPH} cannot be read")
    return pixels


def times_of(call: Callable[[], object], count: int) -> list[int]:
    """The nanoseconds of each of so many calls."""
    times = []
    for _ in range(count):
        started = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - started)
    return times


def percentile(values: Iterable[int], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass
class Rounds:
    """What one contender did in one case: the p50 of each round, in milliseconds, and the rounds that count."""

    p50s: list[float] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)

    @property
    def p50_ms(self) -> float:
        return self.median_of(self.p50s)

    def median_of(self, rounds: Sequence[float]) -> float:
        """The median, over the rounds that count, of something that was taken down for every round."""
        return statistics.median(rounds[i] for i in self.kept)


def quiet_rounds(results: Mapping[Any, Rounds]) -> list[int]:
    """The quieter half of the rounds, chosen for all contenders together by the product of their p50s.

    Virtual machines slow down for seconds at a time; a round is kept or dropped for everybody.
    """
    count = len(next(iter(results.values())).p50s)
    loudness = [sum(math.log(result.p50s[i]) for result in results.values()) for i in range(count)]
    return sorted(range(count), key=loudness.__getitem__)[: (count + 1) // 2]


def keep_quiet_rounds(results: Mapping[Any, Rounds]) -> None:
    """Has only those rounds count."""
    kept = quiet_rounds(results)
    for result in results.values():
        result.kept = kept


def options_of(description: str, turns: str, rounds: int) -> argparse.ArgumentParser:
    """The options that all have which take turns; `turns` says of what, `rounds` how many by default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a few calls: shows that it works, not how fast")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"turns of {turns} (%(default)s)")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build" / "bench", help="where the JSON files go"
    )
    return parser


def save_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def exit_status(run: Callable[[], object]) -> int:
    """Runs a benchmark, and says in one line why there is no result when there is none."""
    try:
        run()
    except (BenchError, OSError, subprocess.CalledProcessError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    return 0


def versions(python: str, packages: Sequence[str]) -> str:
    script = (
        "import platform, sys; from importlib.metadata import version\n"
        "print('Python ' + platform.python_version(), *(f'{p} {version(p)}' for p in sys.argv[1:]), sep=', ')"
    )
    done = subprocess.run([python, "-c", script, *packages], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def machine() -> str:
    def first(path: str, key: str) -> str:
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            return "unknown"
        return next((line.split(":", 1)[-1].strip() for line in lines if line.startswith(key)), "unknown")

    model = first("/proc/cpuinfo", "model name")
    congestion = first("/proc/sys/net/ipv4/tcp_congestion_control", "")
    return f"{os.cpu_count()} CPUs ({model}), Linux {platform.release()}, TCP {congestion}"
