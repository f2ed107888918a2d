"""The skill script of the demo: what an agent would submit to a robot, run by the sandbox.

It looks at the camera, has the detection service find the block in what it sees, asks the policy what to do, steps the
simulator accordingly, and so on until the block is where it belongs. Meanwhile it watches the robot's sensors.

Arguments: the URLs of policy server, simulator and robot backend, the task, and a folder for what the demo checks and
draws afterwards. The detection service is found as on a robot, through its environment variable.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import threading
import time
from typing import Any, Callable

import numpy as np

from service_clients.openpi.client import WebsocketClientPolicy
from service_clients.physical_ai.client import CameraFrame, ImuSample, RobotControl, SensorData
from service_clients.simulator.client import SimulatorClient
from service_clients.yolo_detection.client import YOLOClient

BLOCKED = ["requests", "httpx", "http.client", "urllib.request", "aiohttp", "grpc", "socket", "ssl", "ctypes"]
BLOCKED += ["subprocess"]
PATIENCE = 5.0  # seconds, for every connection and every call
ROBOT = "tabletop-arm"
COMMAND = "demo-1"


class Calls:
    """How long the calls of each service took, in ms."""

    def __init__(self) -> None:
        self.took: dict[str, list[float]] = {}

    def time(self, service: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Calls it and writes down how long it took."""
        started = time.perf_counter()
        reply = function(*arguments, **options)
        self.took.setdefault(service, []).append((time.perf_counter() - started) * 1000.0)
        return reply


class Watch:
    """Hears the robot's sensors from a thread of its own, beside everything else."""

    def __init__(self, robot: str) -> None:
        self.sensors = SensorData(host=robot, depth=256, connect_timeout=PATIENCE)
        self.latency: dict[str, list[float]] = {"camera_feed": [], "imu_data": []}
        self.dropped = 0
        self.shape: tuple[int, ...] = ()
        self.strongest = 0.0  # the greatest acceleration felt, gravity included
        self._thread = threading.Thread(target=self._listen, name="watch", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        for message in self.sensors:
            if not isinstance(message, (CameraFrame, ImuSample)):
                continue
            self.dropped = max(self.dropped, message.dropped)
            if message.latency is not None:
                self.latency[message.type].append(message.latency * 1000.0)
            if isinstance(message, ImuSample):
                self.strongest = max(self.strongest, float(np.linalg.norm(message.accelerometer)))
            elif not self.shape:
                self.shape = message.array().shape

    def close(self) -> None:
        """Stops listening."""
        time.sleep(0.2)  # what was sent last may still be under way
        self.sensors.close()
        self._thread.join(5.0)


class Skill:
    """One episode."""

    def __init__(self, policy: WebsocketClientPolicy, simulator: SimulatorClient, calls: Calls) -> None:
        self.detector, self.policy, self.simulator, self.calls = (
            YOLOClient(timeout=PATIENCE),
            policy,
            simulator,
            calls,
        )
        self.metadata = policy.get_server_metadata()
        self.looks: list[dict[str, Any]] = []
        self.frames: list[Any] = []
        self.steps = 0

    def look(self, observation: dict[str, Any]) -> dict[str, float]:
        """Has the red block found in the camera's picture; returns its box and says where it is."""
        image = observation["agentview_image"]
        bgr = np.ascontiguousarray(image[:, :, ::-1])
        found = self.calls.time("detection", self.detector.detect, bgr, conf=0.4)
        red = [thing for thing in found if thing["class_name"] == "red block"]
        if not red:
            raise SystemExit("the red block is nowhere to be seen")
        box: dict[str, float] = red[0]["bbox"]
        self.frames.append(image)
        self.looks.append({"step": self.steps, "box": box, "found": found})
        x, y = (box["x1"] + box["x2"]) / 2, (box["y1"] + box["y2"]) / 2
        hand = " ".join(f"{number:+.2f}" for number in observation["ee_pos"])
        confidence = red[0]["confidence"]
        print(f"  {self.steps:5d}   {x:5.0f}, {y:3.0f}   {confidence:10.2f}   {hand}", flush=True)
        return box

    def run(self, task: dict[str, Any]) -> dict[str, Any]:
        """Goes on until the simulator says that the episode is over; returns its last observation and info.

        Half of each chunk is carried out, then it looks again.
        """
        print("   step   red block at   confidence   hand at", flush=True)
        observation = self.calls.time("reset", self.simulator.reset)
        while True:
            self.look(observation)
            asked = {**observation, "prompt": task["description"]}
            actions = self.calls.time("policy", self.policy.infer, asked)["actions"]
            for row in actions[: self.metadata["action_horizon"] // 2]:
                action = {"ee_delta": row[:3], "gripper": row[3:]}
                result = self.calls.time("simulator", self.simulator.step, action)
                observation, self.steps = result.observation, self.steps + 1
                if result.terminated or result.truncated:
                    self.look(observation)
                    return {"hand": observation["ee_pos"].tolist(), "info": result.info}


def try_blocked() -> list[str]:
    """Which of the modules that a robot's sandbox blocks are blocked here."""
    refused = []
    for name in BLOCKED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            # A module that is not installed proves nothing.
            refused += [name] if "refused" in str(error) else []
    return refused


def main(policy_url: str, simulator_address: str, robot_url: str, task_name: str, folder: str) -> None:
    """Runs the skill and leaves what the demo checks and draws in `folder`."""
    calls, watch = Calls(), Watch(robot_url)
    with contextlib.ExitStack() as stack:
        robot = stack.enter_context(RobotControl(host=robot_url, connect_timeout=PATIENCE))
        policy = stack.enter_context(
            WebsocketClientPolicy(policy_url, connect_timeout=PATIENCE, infer_timeout=PATIENCE)
        )
        simulator = stack.enter_context(
            SimulatorClient(simulator_address, connect_timeout=PATIENCE, call_timeout=PATIENCE)
        )
        simulator.select_simulator("tabletop")
        task = simulator.load_task(task_name)
        robot.send_direct_control(ROBOT, "watch_task", {"task": task_name}, command_id=COMMAND)
        skill = Skill(policy, simulator, calls)
        end = skill.run(task)
        status = robot.wait_for_status(COMMAND, timeout=PATIENCE, status=("completed", "failed"))
    watch.close()
    np.save(os.path.join(folder, "looks.npy"), np.stack(skill.frames))
    summary = {
        "calls": calls.took,
        "streams": watch.latency,
        "dropped": watch.dropped,
        "stream_shape": watch.shape,
        "strongest": watch.strongest,
        "looks": skill.looks,
        "steps": skill.steps,
        "plan": {"status": status.status, "message": status.message},
        "metadata": skill.metadata,
        "refused": try_blocked(),
        "blocked": BLOCKED,
        **end,
    }
    with open(os.path.join(folder, "summary.json"), "w", encoding="utf-8") as file:
        json.dump(summary, file, indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
