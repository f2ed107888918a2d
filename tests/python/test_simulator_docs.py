"""The program in docs/adding_a_simulator.md, run as it stands but for the port."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service_clients.simulator.client import InvalidParams, NotReset, SimulatorClient, TaskNotFound

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_is_a_simulator() -> None:
    page = (ROOT / "docs/adding_a_simulator.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert program.count("5555") == 1
    command = [sys.executable, "-c", program.replace("5555", str(port))]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            play(f"127.0.0.1:{port}")
        finally:
            process.terminate()


def play(address: str) -> None:
    with SimulatorClient(address, connect_timeout=30) as simulator:
        assert simulator.list_simulators() == ["pendulum"]
        simulator.select_simulator("pendulum")
        with pytest.raises(TaskNotFound):
            simulator.load_task("swing-down")
        task = simulator.load_task(simulator.list_tasks()[0])
        with pytest.raises(NotReset):
            simulator.step({"torque": [0.0]})
        observation = simulator.reset()
        assert observation["camera_image"].shape == (64, 64, 3)
        with pytest.raises(InvalidParams, match="outside of -2 to 2"):
            simulator.step({"torque": [3.0]})
        for _ in range(task["max_episode_steps"]):
            # pushing with the swing lifts it a little higher each time
            push = 2.0 if observation["joint"][1] >= 0 else -2.0
            observation, reward, terminated, truncated, info = simulator.step({"torque": np.array([push])})
            if terminated or truncated:
                break
        assert terminated
        assert reward == info["height"] > 0.99
