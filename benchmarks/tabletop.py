"""Times the tabletop world: `make bench BENCH=tabletop`.

Steps per second without pictures, which is what it is made for (10,000 and more), each of the two pictures of an
observation at 256x256, and the expert's chunk. One core; medians of the quieter half of rounds.

Writes tabletop.json, [{"case", "value", "unit"}].
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np

from benchmarks.harness import ROOT, machine, save_json, versions
from service_clients.demo.expert import Expert
from service_clients.demo.tabletop import MAX_STEPS, Tabletop


def seconds(function: Callable[[], object], rounds: int, calls: int) -> float:
    """How long one call takes: the median of the quieter half of rounds of so many calls."""
    function()
    took = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(calls):
            function()
        took.append((time.perf_counter() - started) / calls)
    return statistics.median(sorted(took)[: (rounds + 1) // 2])


def measure(rounds: int) -> list[dict[str, Any]]:
    """Every case with its figure."""
    world, expert = Tabletop(), Expert()
    prompt = world.load_task("place_red_block")["description"]
    found = []

    def episode() -> None:
        """With actions as a server hands them over, all over the table."""
        world.reset()
        for _ in range(MAX_STEPS):
            if world.step({"ee_delta": way[world.steps], "gripper": grip[world.steps]}).terminated:
                break

    random = np.random.default_rng(0)
    way, grip = random.uniform(-0.02, 0.02, (MAX_STEPS, 3)), random.uniform(0, 1, (MAX_STEPS, 1))
    steps_per_second = MAX_STEPS / seconds(episode, rounds, 4)
    found.append({"case": "steps without pictures", "value": round(steps_per_second), "unit": "steps/s"})

    observation: dict[str, Any] = dict(world.reset())
    still = {"ee_delta": [0.0] * 3, "gripper": [0.0]}
    for name in ("agentview", "eye_in_hand"):

        def picture(name: str = name) -> None:
            if world.steps == MAX_STEPS - 1:
                world.reset()
            world.step(still)
            world.render(name)

        took = seconds(picture, rounds, 20)
        found.append({"case": f"a step with {name} at 256x256", "value": round(took * 1e3, 2), "unit": "ms"})

    rgb, depth = world.render()
    seen = {**observation, "agentview_image": rgb, "agentview_depth": depth, "prompt": prompt}
    took = seconds(lambda: expert.infer(seen), rounds, 20)
    found.append({"case": "the expert's chunk of 10 actions", "value": round(took * 1e3, 2), "unit": "ms"})
    return found


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabletop", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="default %(default)s")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build" / "bench", help="where the JSON file goes"
    )
    given = parser.parse_args()
    print(machine())
    print(versions(sys.executable, ["numpy"]))
    found = measure(given.rounds)
    for line in found:
        print(f"  {line['case']:<36} {line['value']:>10} {line['unit']}")
    save_json(given.output / "tabletop.json", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
