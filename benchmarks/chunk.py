"""Times one action out of a chunk engine, from C and from Python: `make bench BENCH=chunk`.

A controller of 1000 Hz over chunks of 50 steps at 50 Hz, in every mode, for actions of 7 and of 14 numbers. The
policy is asked between the timed calls, at most every 80 ms, so that an ensemble is of 12 chunks. From C each
call is timed by itself, less what the clock takes (benchmarks/chunk_next.c); from Python eighty (blocking: a
hundred) at a time, less the loop.

Writes chunk.json, [{"language", "mode", "width", "mean_ns", "p99_ns"}]; p99 of Python is that of these means.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path
from typing import Any, Callable

import numpy

from benchmarks.harness import PROGRAMS, ROOT, build_programs, machine, percentile, save_json, versions

MODES = ("blocking", "prefetch", "aligned", "ensemble", "rtc")
WIDTHS = (7, 14)
STEPS, ACTION_HZ, CONTROL_HZ = 50, 50, 1000
INFERENCE_TICKS = 80
BLOCKING_TICKS = 100  # of which a chunk of 1000 has a whole number
TARGETS = {"C": 200, "Python": 2000}  # ns


class Planner:
    """Answers at once."""

    def __init__(self, width: int) -> None:
        self._chunk = numpy.linspace(0, 1, STEPS * width).reshape(STEPS, width)

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        return {"actions": self._chunk}


def from_c() -> list[dict[str, Any]]:
    build_programs("chunk_next")
    done = subprocess.run([str(PROGRAMS / "chunk_next")], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return [
        {"language": "C", "mode": mode, "width": int(width), "mean_ns": float(mean), "p99_ns": float(p99)}
        for mode, width, mean, p99 in rows
    ]


def from_python(mode: str, width: int, batches: int) -> dict[str, Any]:
    from service_clients.runtime.chunk_engine import ChunkEngine

    control_hz = CONTROL_HZ if mode == "blocking" else None
    ticks = BLOCKING_TICKS if mode == "blocking" else INFERENCE_TICKS
    times: list[int] = []
    with ChunkEngine(Planner(width), mode, action_hz=ACTION_HZ, control_hz=control_hz) as engine:
        tick = 0
        for _ in range(batches):
            if engine.submit({"at": tick}, tick / CONTROL_HZ):
                engine.wait()
            clock = [(tick + i) / CONTROL_HZ for i in range(ticks)]
            times.append(_time(engine.next_action, clock))
            tick += ticks
    mean = sum(times) / len(times)
    return {
        "language": "Python",
        "mode": mode,
        "width": width,
        "mean_ns": mean,
        "p99_ns": percentile(times, 0.99),
    }


def _time(function: Callable[[float], Any], arguments: list[float]) -> int:
    """What one call takes, in ns, without the loop around it."""
    begin = time.perf_counter_ns()
    for _ in arguments:
        pass
    between = time.perf_counter_ns()
    for argument in arguments:
        function(argument)
    end = time.perf_counter_ns()
    return (end - between - (between - begin)) // len(arguments)


def show(results: list[dict[str, Any]]) -> None:
    print(f"\n{'ns':10}{'mode':12}{'width':>6}{'mean':>9}{'p99':>9}{'target':>9}")
    for row in results:
        target = TARGETS[row["language"]]
        missed = "" if row["mean_ns"] < target else "  missed"
        print(
            f"{row['language']:10}{row['mode']:12}{row['width']:6}{row['mean_ns']:9.0f}{row['p99_ns']:9.0f}"
            f"{target:9}{missed}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="show that it works")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench", help="where chunk.json goes")
    options = parser.parse_args()
    print(machine())
    print(versions(str(ROOT / ".venv" / "bin" / "python"), ["numpy", "cffi"]))
    batches = 20 if options.quick else 500
    results = from_c() + [from_python(mode, width, batches) for mode in MODES for width in WIDTHS]
    show(results)
    save_json(options.output / "chunk.json", results)


if __name__ == "__main__":
    main()
