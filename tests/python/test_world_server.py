"""The demo's world on the network: what a simulator session does is what the robot's streams tell."""

from __future__ import annotations

import sys
from typing import Any, Iterator

import numpy as np
import pytest
from peers import harness

from service_clients.demo.backends import Backend
from service_clients.demo.tabletop import MAX_STEPS, Tabletop
from service_clients.physical_ai.client import RobotControl, SensorData
from service_clients.simulator.client import SimulatorClient

SEED = 11
ACTION = {"ee_delta": [0.004, -0.01, -0.006], "gripper": [0.4]}
PATIENCE = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[Backend]:
    command = [sys.executable, "-m", "service_clients.demo.world_server", "--seed", str(SEED)]
    with harness.start(command) as server:
        yield server


@pytest.fixture
def simulator(server: Backend) -> Iterator[SimulatorClient]:
    with SimulatorClient(server.url, connect_timeout=PATIENCE) as simulator:
        simulator.select_simulator("tabletop")
        yield simulator


@pytest.fixture
def robot(server: Backend) -> Iterator[RobotControl]:
    with RobotControl(host=server.told("robot"), depth=512, connect_timeout=PATIENCE) as robot:
        yield robot


def twin(task: str) -> Tabletop:
    """The same world, here."""
    world = Tabletop(seed=SEED)
    world.load_task(task)
    world.reset()
    return world


def test_frames_samples_and_poses_are_those_of_the_steps(
    server: Backend, simulator: SimulatorClient, robot: RobotControl
) -> None:
    world = twin("lift_red_block")
    with SensorData(host=server.told("robot"), depth=512, connect_timeout=PATIENCE) as sensors:
        simulator.load_task("lift_red_block")
        simulator.reset()
        assert (
            np.abs(
                sensors.get_frame("agentview", timeout=PATIENCE).array() - world.render().rgb.astype(int)
            ).mean()
            < 3
        )
        samples = sensors.imu("wrist", timeout=PATIENCE)
        next(samples)
        for _ in range(5):
            seen = simulator.step(ACTION).observation
            world.step(ACTION)
            assert seen["ee_pos"].tolist() == list(world.hand)
            frame, sample = sensors.get_frame("agentview", timeout=PATIENCE), next(samples)
            assert frame.robot_id == "tabletop-arm"
            assert np.abs(frame.array() - world.render().rgb.astype(int)).mean() < 3, "but for JPEG's loss"
            assert np.allclose(sample.accelerometer, world.imu().accelerometer)
            assert np.allclose(sample.gyroscope, world.imu().gyroscope)
    status = robot.receive(PATIENCE, type="robot_status")
    while not np.allclose([status.fields["current_pose"][axis] for axis in "xyz"], world.hand):
        status = robot.receive(PATIENCE, type="robot_status")
    assert status.fields["status"] == "moving"


def test_who_watches_a_task_is_told_how_it_ended(simulator: SimulatorClient, robot: RobotControl) -> None:
    simulator.load_task("place_red_block")
    simulator.reset()
    robot.send_direct_control("tabletop-arm", "watch_task", command_id="watch-1")
    assert robot.wait_for_status("watch-1", timeout=PATIENCE).status == "executing"
    still: dict[str, Any] = {"ee_delta": [0.0, 0.0, 0.0], "gripper": [0.0]}
    for _ in range(MAX_STEPS):
        simulator.step(still)
    told = robot.wait_for_status("watch-1", timeout=PATIENCE, status=("completed", "failed"))
    assert (told.status, told.message) == ("failed", "place_red_block: 300 steps")


@pytest.mark.parametrize(
    ("command", "command_id", "said"),
    [("dance", "d-1", "'dance' is not watch_task"), ("watch_task", None, "command_id")],
)
def test_a_command_that_is_none_is_refused(
    robot: RobotControl, command: str, command_id: str | None, said: str
) -> None:
    robot.send_direct_control("tabletop-arm", command, command_id=command_id)
    refused = robot.receive(PATIENCE, type="error")
    assert said in str(refused.fields)
