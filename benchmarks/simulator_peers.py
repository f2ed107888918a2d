"""The servers and clients of simulator.py, each a process: ``python -m benchmarks.simulator_peers server|client NAME ...``.

`pyzmq` is what the protocol's document shows, on pyzmq, msgpack and numpy. A server announces its port. A client connects
to a port, says "ready" and takes orders: "check N", answered with a checksum of N observations, and "round N M", answered
with the nanoseconds of M steps that follow N untimed ones.
"""

from __future__ import annotations

import sys
import zlib
from typing import Any, Callable

import numpy as np

from benchmarks.harness import times_of
from service_clients.simulator.backend import Backend, Step

SIDE = 256
ACTION = {"joint_positions": np.linspace(-1, 1, 7), "gripper": np.array([0.5])}
SPACE = {
    "joint_positions": {"shape": [7], "dtype": "float64", "low": [-1.0] * 7, "high": [1.0] * 7},
    "gripper": {"shape": [1], "dtype": "float64", "low": [0.0], "high": [1.0]},
}
TASK = {"task_name": "look", "description": "look", "action_space": SPACE, "max_episode_steps": 10**9}


class World:
    """Two pictures and a robot's numbers, which say how many steps there were; no simulation."""

    def __init__(self) -> None:
        noise = np.random.default_rng(7)
        self._pictures = [noise.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(2)]
        self.steps = 0

    def observe(self) -> dict[str, Any]:
        for picture in self._pictures:
            picture[0, 0] = self.steps % 251
        joints = np.linspace(0, 1, 7) + self.steps
        return {
            "agentview_image": self._pictures[0],
            "eye_in_hand_image": self._pictures[1],
            "joint_positions": joints,
            "gripper_position": joints[:1],
            "ee_pos": joints[:3],
            "ee_quat": joints[:4],
        }

    def step(self, action: dict[str, Any]) -> Step:
        self.steps += 1
        return self.observe(), float(action["joint_positions"].sum() + action["gripper"][0]), False, False, {}


# ---- in the document's style -----------------------------------------------------------------------------


def encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {
            "__type__": "ndarray",
            "shape": list(value.shape),
            "dtype": str(value.dtype),
            "data": value.tobytes(),
        }
    return {key: encode(child) for key, child in value.items()} if isinstance(value, dict) else value


def decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value.get("__type__") == "ndarray":
        return np.frombuffer(value["data"], dtype=value["dtype"]).reshape(value["shape"])
    return {key: decode(child) for key, child in value.items()}


def serve_pyzmq() -> None:
    import msgpack  # type: ignore[import-untyped]
    import zmq

    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    print(router.bind_to_random_port("tcp://127.0.0.1"), flush=True)
    worlds: dict[bytes, World] = {}
    while True:
        identity, empty, body = router.recv_multipart()
        request = decode(msgpack.unpackb(body, raw=False))
        reply: dict[str, Any] = {"status": "ok"}
        if request["method"] == "reset":
            worlds[identity] = World()
            reply["observation"] = worlds[identity].observe()
        elif request["method"] == "step":
            step = worlds[identity].step(request["action"])
            reply.update(zip(("observation", "reward", "terminated", "truncated", "info"), step))
        elif request["method"] == "load_task":
            reply["task_info"] = TASK
        router.send_multipart([identity, empty, msgpack.packb(encode(reply), use_bin_type=True)])


def connect_pyzmq(port: str) -> Callable[..., Any]:
    import msgpack
    import zmq

    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    dealer.connect(f"tcp://127.0.0.1:{port}")

    def call(method: str, **fields: Any) -> Any:
        dealer.send_multipart([b"", msgpack.packb({"method": method, **encode(fields)}, use_bin_type=True)])
        reply = decode(msgpack.unpackb(dealer.recv_multipart()[1], raw=False))
        if reply["status"] != "ok":
            raise RuntimeError(reply["message"])
        return reply

    call("select_simulator", simulator="bench")
    call("load_task", task_name="look")
    call("reset")

    def step() -> tuple[dict[str, Any], float]:
        reply = call("step", action=ACTION)
        return reply["observation"], reply["reward"]

    return step


# ---- axon's ----------------------------------------------------------------------------------------------


class BenchBackend(Backend):
    """The world behind axon's server."""

    def load_task(self, task_name: str) -> dict[str, Any]:
        return TASK

    def reset(self) -> dict[str, Any]:
        self._world = World()
        return self._world.observe()

    def step(self, action: dict[str, Any]) -> Step:
        return self._world.step(action)


def serve_axon() -> None:
    from service_clients.simulator.server import SimulatorServer

    server = SimulatorServer({"bench": BenchBackend}, port=0)
    server.start()
    print(server.port, flush=True)
    server.serve_forever()


def connect_axon(port: str) -> Callable[..., Any]:
    from service_clients.simulator.client import SimulatorClient

    simulator = SimulatorClient(f"127.0.0.1:{port}")
    simulator.call("select_simulator", {"simulator": "bench"})
    simulator.load_task("look")
    simulator.reset()
    return lambda: simulator.step(ACTION)[:2]


# ---- orders ----------------------------------------------------------------------------------------------


def checksum(observation: dict[str, Any], reward: float, before: int) -> int:
    found = zlib.crc32(str(reward).encode(), before)
    for key in sorted(observation):
        array = observation[key]
        found = zlib.crc32(f"{key} {array.shape} {array.dtype}".encode(), found)
        found = zlib.crc32(np.ascontiguousarray(array).tobytes(), found)
    return found


def take_orders(step: Callable[[], Any]) -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        order, *numbers = line.split()
        if order == "check":
            found = 0
            for _ in range(int(numbers[0])):
                observation, reward = step()
                found = checksum(observation, reward, found)
            print(found, flush=True)
            continue
        untimed, timed = map(int, numbers)
        for _ in range(untimed):
            step()
        print(*times_of(step, timed), flush=True)


def main(role: str, name: str, *arguments: str) -> None:
    if role == "server":
        {"axon": serve_axon, "pyzmq": serve_pyzmq}[name]()
    else:
        take_orders({"axon": connect_axon, "pyzmq": connect_pyzmq}[name](*arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
