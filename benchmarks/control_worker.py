"""One way to control the arm of the control benchmark, in a process of its own: takes orders, answers with what it did.

    python -m benchmarks.control_worker MODE PORT

MODE is one of service_clients.runtime.chunk_engine's, or "openpi": openpi-client's ActionChunkBroker and Runtime, in an
environment that has them. Orders, a line each on standard input, and what is answered on standard output:

    run HZ SECONDS    an episode    JSON: when each command was given, which it was, of which chunk, whether it was new, and
                                    how long it was waited for
    cost CALLS        no server     nanoseconds that one next_action() took, in each of 20 turns
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.control_path import ACTION_HZ, HORIZON, JOINTS

TURNS = 20
PREFETCH_STEPS = (
    10  # 200 ms: what 80 +- 30 ms need; the engine takes more where its measured latency asks for it
)


class Arm:
    """Writes down what it is told, from the first command on. The environment of both runtimes."""

    def __init__(self, seconds: float, source: Any) -> None:
        self._seconds, self._source = seconds, source
        self._began = 0.0
        self.times: list[float] = []
        self.commands: list[list[float]] = []
        self.chunks: list[int] = []
        self.fresh: list[bool] = []
        self.waits: list[float] = []
        self._asked = 0.0

    def reset(self) -> None:
        self._began = time.monotonic()

    def is_episode_complete(self) -> bool:
        return self.times[-1] - self.times[0] >= self._seconds

    def get_observation(self) -> dict[str, Any]:
        self._asked = time.monotonic() - self._began
        return {"t": self._asked}

    def apply_action(self, action: dict[str, Any]) -> None:
        self.times.append(time.monotonic() - self._began)
        self.waits.append(self.times[-1] - self._asked)
        self.commands.append(action["actions"].tolist())
        chunk, fresh = self._source(action)
        self.chunks.append(chunk)
        self.fresh.append(fresh)


# ---- openpi's ------------------------------------------------------------------------------------


def run_openpi(port: int, hz: float, seconds: float) -> Arm:
    client = import_module("openpi_client.websocket_client_policy")
    broker = import_module("openpi_client.action_chunk_broker")
    agent = import_module("openpi_client.runtime.agents.policy_agent")
    runtime = import_module("openpi_client.runtime.runtime")
    policy = client.WebsocketClientPolicy("127.0.0.1", port)
    chunked = broker.ActionChunkBroker(policy, HORIZON)
    arm = Arm(
        seconds, lambda action: (int(action["chunk"]), True)
    )  # the reply's number comes with every step
    runtime.Runtime(arm, agent.PolicyAgent(chunked), [], max_hz=hz).run()
    return arm


# ---- ours ----------------------------------------------------------------------------------------


def run_engine(mode: str, port: int, hz: float, seconds: float) -> Arm:
    from service_clients.openpi.client import WebsocketClientPolicy
    from service_clients.runtime.chunk_engine import ChunkEngine
    from service_clients.runtime.policy_agent import PolicyAgent
    from service_clients.runtime.runtime import Runtime

    with WebsocketClientPolicy("127.0.0.1", port) as policy, ChunkEngine(
        policy, mode=mode, action_hz=ACTION_HZ, control_hz=hz, prefetch_steps=PREFETCH_STEPS
    ) as engine:
        environment: Any = Arm(seconds, lambda action: (engine.info.chunk, not engine.info.starved))
        Runtime(environment, PolicyAgent(engine), [], max_hz=hz).run()
    arm: Arm = environment
    return arm


class Still:
    """A policy that is not what is timed."""

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        return {"actions": np.zeros((HORIZON, JOINTS))}


def time_next_action(calls: int) -> list[float]:
    """Nanoseconds of one next_action(), in TURNS turns: a fast controller on a clock that every call moves on."""
    from service_clients.runtime.chunk_engine import ChunkEngine

    took, now = [], 1.0
    tick = 0.9 * HORIZON / ACTION_HZ / calls
    with ChunkEngine(Still(), mode="aligned", action_hz=ACTION_HZ, reuse_array=True) as engine:
        for _ in range(TURNS):
            engine.submit({"t": now}, now)
            engine.wait()
            engine.next_action(now)
            began = time.perf_counter_ns()
            for _ in range(calls):
                now += tick
                engine.next_action(now)
            took.append((time.perf_counter_ns() - began) / calls)
    return took


def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    print("ready", flush=True)
    for line in sys.stdin:
        order, *numbers = line.split()
        if order == "cost":
            print(*time_next_action(int(numbers[0])), flush=True)
            continue
        hz, seconds = map(float, numbers)
        arm = run_openpi(port, hz, seconds) if mode == "openpi" else run_engine(mode, port, hz, seconds)
        answer = {name: getattr(arm, name) for name in ("times", "commands", "chunks", "fresh", "waits")}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
