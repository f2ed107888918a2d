"""gymnasium's environments through the whole chain: backend, server, ZeroMQ, client; MuJoCo's with pictures."""

from __future__ import annotations

from typing import Any, Iterator

import gymnasium
import numpy as np
import pytest
from peers.harness import TESTS
from support import RunScript

from service_clients.simulator.backends.gymnasium import GymnasiumBackend
from service_clients.simulator.client import (
    BackendError,
    InvalidParams,
    NotReset,
    SimulatorClient,
    SimulatorError,
    TaskNotFound,
)
from service_clients.simulator.server import SimulatorServer


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    simulators = {
        "gymnasium": lambda: GymnasiumBackend(image_size=(120, 160), seed=7),
        "pictures": lambda: GymnasiumBackend(render=True),
        "numbers": lambda: GymnasiumBackend(render=False),
    }
    with SimulatorServer(simulators, port=0) as server:
        yield server.address


@pytest.fixture
def client(address: str) -> Iterator[SimulatorClient]:
    with SimulatorClient(address, call_timeout=120) as made:
        made.select_simulator("gymnasium")
        yield made


def test_cartpole_goes_as_it_does_without_us(client: SimulatorClient) -> None:
    task = client.load_task("CartPole-v1")
    assert task["max_episode_steps"] == 500
    assert task["action_space"] == {"action": {"shape": [1], "dtype": "int64", "low": [0], "high": [1]}}
    assert task["observation_space"]["state"]["low"][1] is None  # a speed has no limit
    env: gymnasium.Env[Any, Any] = gymnasium.make("CartPole-v1")
    theirs, _ = env.reset(seed=7)
    assert client.reset()["state"].tolist() == theirs.tolist()
    ended = False
    for n in range(500):
        theirs, reward, terminated, truncated, _ = env.step(n % 2)
        step = client.step({"action": [n % 2]})
        assert (step.observation["state"].dtype, step.observation["state"].tolist()) == (
            np.float32,
            theirs.tolist(),
        )
        assert step[1:4] == (reward, terminated, truncated)
        ended = terminated or truncated
        if ended:
            break
    env.close()
    assert ended
    with pytest.raises(NotReset):
        client.step({"action": [0]})
    assert client.reset()["state"].shape == (4,)


def test_mujocos_camera_comes_along(client: SimulatorClient) -> None:
    task = client.load_task("Reacher-v5")
    assert task["description"] == '"Reacher" is a two-jointed robot arm.'
    first = client.reset()["camera_image"]
    assert (first.shape, first.dtype) == ((120, 160, 3), np.uint8)
    assert len(np.unique(first)) > 10  # something is to be seen
    for _ in range(5):
        step = client.step({"action": np.array([1.0, -1.0])})
    assert set(step.observation) == {"state", "camera_image"}
    assert (step.observation["camera_image"] != first).any()
    assert step.info["reward_ctrl"] < 0


def test_pictures_are_a_matter_of_choice(address: str) -> None:
    with SimulatorClient(address) as client:
        client.select_simulator("numbers")
        client.load_task("Reacher-v5")
        assert set(client.reset()) == {"state"}


def test_what_is_not_installed_is_named(address: str) -> None:
    with SimulatorClient(address) as client:
        client.select_simulator("pictures")
        client.load_task("FrozenLake-v1")
        with pytest.raises(BackendError, match="pygame is not installed"):
            client.reset()


def test_tasks_are_what_is_registered(client: SimulatorClient) -> None:
    assert {"CartPole-v1", "Reacher-v5"} <= set(client.list_tasks())
    assert "Ant-v5" in client.list_tasks(suite="mujoco")
    assert "CartPole-v1" not in client.list_tasks(suite="mujoco")
    with pytest.raises(InvalidParams, match="there is no 'cooking'; there are"):
        client.list_tasks(suite="cooking")
    with pytest.raises(TaskNotFound, match="CartPole-v99"):
        client.load_task("CartPole-v99")
    with pytest.raises(SimulatorError, match="Tuple spaces have no form in this protocol"):
        client.load_task("Blackjack-v1")
    assert client.get_info()["backend_version"] == gymnasium.__version__


@pytest.mark.parametrize(
    ("task", "action", "reason"),
    [
        ("CartPole-v1", {"action": [2]}, r'action "action": has 2 at \[0\], outside of 0 to 1'),
        ("CartPole-v1", {"action": [0.5]}, "where int64 is wanted"),
        ("Pendulum-v1", {"action": [float("nan")]}, "no finite number"),
        ("Pendulum-v1", {"torque": [1.0]}, '"torque": is not known; the task takes action'),
    ],
)
def test_what_an_environment_does_not_take_is_refused(
    client: SimulatorClient, task: str, action: dict[str, Any], reason: str
) -> None:
    client.load_task(task)
    client.reset()
    with pytest.raises(InvalidParams, match=reason):
        client.step(action)


def test_robosuites_tasks_are_played(run_script: RunScript) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(TESTS / "fakes")!r})
import numpy as np
from service_clients.simulator.backends.robosuite import RobosuiteBackend
from service_clients.simulator.client import SimulatorClient, TaskNotFound
from service_clients.simulator.server import SimulatorServer

simulators = {{"robosuite": lambda: RobosuiteBackend(image_size=(8, 6))}}
with SimulatorServer(simulators, port=0) as server, SimulatorClient(server.address) as client:
    client.select_simulator("robosuite")
    assert client.list_tasks() == ["Lift", "Stack"]
    try:
        client.load_task("TwoArmLift")
    except TaskNotFound as error:
        print(error.message)
    print(client.load_task("Lift")["description"])
    picture = client.reset()["agentview_image"]
    assert picture.shape == (8, 6, 3) and (picture[0] == 255).all()
    ended = [client.step({{"action": np.array([0, 0, 1.0, 0, 0, 0, 0])}}).terminated for _ in range(2)]
    assert ended == [False, True]
"""
    assert run_script(script).stdout.splitlines() == [
        "robosuite has no 'TwoArmLift' for one arm",
        "Lifts a cube that lies on a table",
    ]
