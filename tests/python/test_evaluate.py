"""`python -m service_clients.evaluate` against real policy and simulator servers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest
from peers import harness
from support import served

from service_clients.demo import expert
from service_clients.evaluate.__main__ import main
from service_clients.openpi.server import WebsocketPolicyServer
from service_clients.simulator.backend import Backend
from service_clients.simulator.backends.tabletop import TabletopBackend
from service_clients.simulator.server import SimulatorServer

SEEN = ("agentview_image", "agentview_depth")
Run = Callable[..., int]


class Slowly:
    """An expert that takes its time, or fails, at some call."""

    def __init__(self, sleeps_at: int = 0, fails_at: int = 0) -> None:
        self.expert, self.calls = expert.Expert(), 0
        self.sleeps_at, self.fails_at = sleeps_at, fails_at

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        if self.calls == self.sleeps_at:
            time.sleep(1.5)
        if self.calls == self.fails_at:
            raise ValueError("no such block")
        return self.expert.infer(observation)


class Renamed:
    """The expert, for those who use other names."""

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        assert sorted(observation) == ["cam/depth", "cam/rgb", "state", "task"]
        state = observation["state"]
        seen = {
            "agentview_image": observation["cam/rgb"],
            "agentview_depth": observation["cam/depth"],
            "ee_pos": state[:3],
            "gripper_position": state[3:],
            "prompt": observation["task"],
        }
        actions = expert.Expert().infer(seen)["actions"]
        padded = np.concatenate([actions[:, 3:], np.full((len(actions), 2), 9.0), actions[:, :3]], axis=1)
        return {"plan": padded}


class Silent(Backend):
    """One task whose info says nothing of success, and that ends after five steps."""

    name = "silent"

    def list_tasks(self, suite: str | None = None) -> list[str]:
        return ["wait"]

    def load_task(self, task_name: str) -> dict[str, Any]:
        space = {"push": {"shape": [1], "dtype": "float64", "low": [-1.0], "high": [1.0]}}
        return {"task_name": task_name, "action_space": space, "max_episode_steps": 50}

    def reset(self) -> dict[str, Any]:
        self.at = 0
        return {"state": np.zeros(2)}

    def step(self, action: dict[str, Any]) -> Any:
        self.at += 1
        return {"state": np.ones(2)}, 1.0, self.at == 5, False, {}


class Push:
    """Pushes."""

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        return {"actions": np.zeros((2, 1))}


@pytest.fixture
def host() -> Iterator[Callable[[Any], str]]:
    """Serves policies until the test is over."""

    def start(policy: Any) -> str:
        server = WebsocketPolicyServer(policy, port=0, metadata={"policy": type(policy).__name__})
        return stack.enter_context(served(server)).url

    with contextlib.ExitStack() as stack:
        yield start


@pytest.fixture(scope="module")
def tabletop() -> Iterator[str]:
    """A simulator server with the tabletop alone."""
    with SimulatorServer({"tabletop": lambda: TabletopBackend(seed=3, pictures=SEEN)}, port=0) as server:
        yield server.address


@pytest.fixture(scope="module")
def several() -> Iterator[str]:
    """One with two simulators."""
    simulators = {"tabletop": lambda: TabletopBackend(pictures=SEEN), "silent": Silent}
    with SimulatorServer(simulators, port=0) as server:
        yield server.address


# ---- what it is for ------------------------------------------------------------------------------


def test_the_expert_is_found_to_do_its_task(
    host: Callable[[Any], str], tabletop: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, drawn = tmp_path / "out.json", tmp_path / "out.png"
    command = ["--policy", host(expert.Expert()), "--simulator", tabletop, "--task", "place_red_block"]
    assert main([*command, "--episodes", "6", "--json", str(told), "--plot", str(drawn)]) == 0
    printed = capsys.readouterr()
    assert "success  100.0%  (6 of 6; 95% interval 61.0% to 100.0%, Wilson score)" in printed.out
    assert "episode 6/6: success" in printed.err
    found = json.loads(told.read_text())
    assert (found["successes"], found["task"], found["success_rule"]) == (6, "place_red_block", "info")
    assert found["policy_metadata"] == {"policy": "Expert"}
    assert found["simulator_info"]["backend_name"] == "tabletop"
    assert found["prompt"] == "place the red block on the goal"
    for episode in found["episode"]:
        assert episode["ended"] == "terminated"
        assert len(episode["step_ms"]) == episode["steps"]
        assert len(episode["infer_ms"]) == -(-episode["steps"] // expert.HORIZON)
    assert harness.decode(drawn.read_bytes()).shape[1] > 1000


def test_keys_prompt_and_columns_are_as_the_policy_wants_them(
    host: Callable[[Any], str], tabletop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--policy", host(Renamed()), "--simulator", tabletop, "--task", "stack_red_on_blue"]
    command += ["--observation", "cam/rgb=agentview_image", "--observation", "cam/depth=agentview_depth"]
    command += ["--observation", "state=ee_pos+gripper_position", "--prompt-key", "task"]
    command += ["--prompt", "please lift that red thing", "--actions", "plan"]
    command += ["--action", "gripper=0", "--action", "ee_delta=3:6", "--steps-per-chunk", "4"]
    assert main([*command, "--episodes", "1", "--max-steps", "40", "--success", "truncated", "--quiet"]) == 0
    assert "0 of 1" in capsys.readouterr().out, "lifted, and not stacked"
    command[5] = "lift_red_block"
    assert main([*command, "--episodes", "2", "--quiet"]) == 0
    assert "2 of 2" in capsys.readouterr().out


@pytest.mark.parametrize(("rule", "successes"), [("terminated", 3), ("truncated", 0), ("return:5", 3)])
def test_the_rule_of_success_is_the_callers(
    host: Callable[[Any], str],
    several: str,
    capsys: pytest.CaptureFixture[str],
    rule: str,
    successes: int,
) -> None:
    command = ["--policy", host(Push()), "--simulator", several, "--select", "silent", "--success", rule]
    assert main([*command, "--episodes", "3", "--quiet"]) == 0
    assert f"({successes} of 3;" in capsys.readouterr().out


def test_local_servers_are_started_and_seeded(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lengths = []
    for seed in ("5", "5", "6"):
        told = tmp_path / "out.json"
        command = ["--local", "tabletop", "--seed", seed, "--episodes", "3", "--json", str(told), "--quiet"]
        assert main(command) == 0
        found = json.loads(told.read_text())
        assert (found["successes"], found["seed"]) == (3, int(seed))
        lengths.append([episode["steps"] for episode in found["episode"]])
    assert lengths[0] == lengths[1] != lengths[2]


def test_cartpole_is_balanced_by_a_policy_that_can_and_not_by_one_that_cannot(
    host: Callable[[Any], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "out.json"
    command = ["--local", "CartPole-v1", "--episodes", "3", "--seed", "1", "--json", str(told), "--quiet"]
    assert main(command) == 0
    found = json.loads(told.read_text())
    assert (found["successes"], found["mean_return"], found["success_rule"]) == (3, 500.0, "return >= 475")
    assert found["simulator_info"]["backend_name"] == "gymnasium"
    assert main([*command, "--policy", host(Push())]) == 0
    assert json.loads(told.read_text())["successes"] == 0
    assert main([*command, "--policy", host(Push()), "--success", "terminated"]) == 0
    assert json.loads(told.read_text())["successes"] == 3, "it falls, which ends the episode"
    capsys.readouterr()


def test_the_tasks_are_listed(tabletop: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--simulator", tabletop, "--list-tasks"])
    assert end.value.code == 0
    assert capsys.readouterr().out.split() == TabletopBackend().list_tasks()


# ---- when things go wrong ------------------------------------------------------------------------


def test_a_policy_that_fails_stops_the_evaluation_and_what_was_done_is_reported(
    host: Callable[[Any], str], tabletop: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "out.json"
    command = ["--policy", host(Slowly(fails_at=10)), "--simulator", tabletop, "--task", "place_red_block"]
    assert main([*command, "--episodes", "9", "--json", str(told)]) == 1
    printed = capsys.readouterr()
    assert "no such block" in printed.err
    found = json.loads(told.read_text())
    assert found["episodes"] < 9
    assert found["errors"] == 1
    assert "no such block" in found["episode"][-1]["error"]


def test_it_goes_on_when_it_is_told_to(
    host: Callable[[Any], str], tabletop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--policy", host(Slowly(sleeps_at=3)), "--simulator", tabletop, "--task", "lift_red_block"]
    assert main([*command, "--episodes", "4", "--infer-timeout", "1", "--keep-going"]) == 0
    printed = capsys.readouterr()
    assert "(3 of 4;" in printed.out
    assert "errors   1" in printed.out
    assert "infer_timeout" in printed.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name a server with --policy"),
        (["--policy", "ws://127.0.0.1:1"], "name a server with --simulator"),
        (["--local", "tabletop", "--episodes", "0"], "--episodes is 0, not 1 or more"),
        (["--local", "tabletop", "--infer-timeout", "-1"], "--infer-timeout is -1.0"),
        (["--local", "tabletop", "--confidence", "1"], "--confidence is 1.0"),
        (["--local", "tabletop", "--json", "no/such/out.json"], "--json no/such/out.json: its folder"),
        (["--local", "tabletop", "--plot", "no/such/out.png"], "--plot no/such/out.png: its folder"),
        (["--local", "tabletop", "--success", "perhaps"], "--success 'perhaps'"),
        (["--local", "tabletop", "--observation", "x"], "--observation 'x'"),
        (["--local", "tabletop", "--action", "x"], "--action 'x'"),
        (["--local", "Juggling-v0"], "--local Juggling-v0: there is tabletop, and gymnasium has none"),
        (["--local", "Pendulum-v1"], "no policy of ours for it; name a server with --policy"),
        (["--local", "tabletop", "--resize", "224"], "--resize '224'"),
        (["--local", "tabletop", "--action", "arm=0:3"], "the task's action has no 'arm'"),
        (["--local", "tabletop", "--observation", "x=y"], "the simulator has no 'y'; it has ee_pos"),
        (["--local", "tabletop", "--actions", "x"], "the policy answered no 'x'; it answered actions"),
        (["--policy", "ws://x", "--simulator", "tcp://x", "--seed", "3"], "--seed is for a simulator"),
        (["--policy", "ws://x", "--simulator", "tcp://x", "--local", "tabletop"], "nothing to start"),
    ],
)
def test_a_command_line_that_cannot_be_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_what_has_to_be_chosen_is_listed(several: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--policy", "ws://127.0.0.1:1", "--simulator", several]
    assert main(command) == 2
    assert "2 simulators (tabletop, silent): choose one with --select" in capsys.readouterr().err
    assert main([*command, "--select", "tabletop"]) == 2
    assert "7 tasks (place_red_block" in capsys.readouterr().err


def test_a_simulator_that_says_nothing_of_success_needs_a_rule(
    host: Callable[[Any], str], several: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--policy", host(Push()), "--simulator", several, "--select", "silent"]) == 2
    assert "--success terminated, truncated or return:NUMBER" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--task", "juggle"], "juggle"),
        (["--select", "mujoco"], "mujoco"),
        (["--task", "place_red_block", "--policy", "ws://127.0.0.1:1"], "ws://127.0.0.1:1"),
        (["--simulator", "tcp://127.0.0.1:1"], "tcp://127.0.0.1:1"),
    ],
)
def test_what_is_not_there_is_named(
    host: Callable[[Any], str],
    tabletop: str,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["--policy", host(Push()), "--simulator", tabletop, "--connect-timeout", "0.5"]
    assert main([*command, *options]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_with_what_was_done(number: signal.Signals, tmp_path: Path) -> None:
    told = tmp_path / "out.json"
    command = [sys.executable, "-m", "service_clients.evaluate", "--local", "tabletop"]
    process = subprocess.Popen(
        [*command, "--episodes", "100000", "--json", str(told)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": harness.import_path()},
    )
    try:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("episode 2/"):
            assert process.poll() is None
        process.send_signal(number)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "success  100.0%" in printed
        assert json.loads(told.read_text())["episodes"] >= 2
    finally:
        process.kill()
        process.wait()
