"""The tabletop world: the same numbers from the same seed, blocks that behave, pictures that agree with the world."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service_clients.demo import tabletop
from service_clients.demo.tabletop import BLOCK, Tabletop

STILL = {"ee_delta": [0.0, 0.0, 0.0], "gripper": [0.0]}


def started(task: str = "place_red_block", seed: int = 3) -> Tabletop:
    """A world at the beginning of an episode."""
    world = Tabletop(image_size=(96, 128), seed=seed)
    world.load_task(task)
    world.reset()
    return world


def move_to(world: Tabletop, target: list[float], gripper: float) -> tabletop.Step:
    """Moves the hand there, or until something stops it."""
    while True:
        old = np.array(world.hand)
        step = world.step({"ee_delta": np.array(target) - old, "gripper": [gripper]})
        if np.abs(step.observation["ee_pos"] - old).max() < 1e-6:
            return step


def grasp(world: Tabletop, color: str) -> None:
    """Comes down around a block and closes on it."""
    x, y, z = world.blocks[color]
    move_to(world, [x, y, 0.2], 0.0)
    move_to(world, [x, y, z], 0.0)
    for _ in range(5):
        world.step({**STILL, "gripper": [1.0]})


def actions(count: int) -> list[dict[str, Any]]:
    """Some that lead all over the table."""
    random = np.random.default_rng(1)
    return [
        {"ee_delta": random.uniform(-0.03, 0.03, 3), "gripper": random.uniform(0, 1, 1)} for _ in range(count)
    ]


def test_the_same_seed_gives_the_same_world_bit_for_bit() -> None:
    one, other, third = started(), started(), started(seed=4)
    for action in actions(120):
        ours, theirs = one.step(action), other.step(action)
        third.step(action)
        assert all(np.array_equal(ours.observation[key], theirs.observation[key]) for key in ours.observation)
        assert np.array_equal(one.imu().accelerometer, other.imu().accelerometer)
    for name in ("agentview", "eye_in_hand"):
        rgb, depth = one.render(name)
        assert np.array_equal(rgb, other.render(name)[0])
        assert np.array_equal(depth, other.render(name)[1])
        assert not np.array_equal(rgb, third.render(name)[0])


def test_a_seed_is_a_sequence_of_episodes_that_differ() -> None:
    world = started()
    first = world.render()[0]
    world.reset()
    assert not np.array_equal(world.render()[0], first)
    world.reset(seed=3)
    assert np.array_equal(world.render()[0], first)


def test_looking_changes_nothing() -> None:
    one, other = started(), started()
    for action in actions(40):
        one.step(action)
        one.render()
        one.imu()
        other.step(action)
    assert np.array_equal(one.render()[1], other.render()[1])


def test_an_observation_holds_what_the_protocol_names() -> None:
    observation = started().reset()
    shapes = {key: (array.dtype.name, array.shape) for key, array in observation.items()}
    assert shapes == {
        "ee_pos": ("float64", (3,)),
        "ee_quat": ("float64", (4,)),
        "gripper_position": ("float64", (1,)),
        "joint_positions": ("float64", (5,)),
    }


def test_the_joints_bring_the_hand_to_where_it_is() -> None:
    world = started()
    for action in actions(200):
        seen = world.step(action).observation
        base, shoulder, elbow, bend, turn = seen["joint_positions"]
        reach = 0.4 * np.cos(shoulder) + 0.4 * np.cos(shoulder + elbow)
        height = 0.25 + 0.4 * np.sin(shoulder) + 0.4 * np.sin(shoulder + elbow) - 0.18
        hand = [reach * np.cos(base), reach * np.sin(base), height]
        assert np.allclose(hand, seen["ee_pos"], atol=1e-9)
        assert np.isclose(shoulder + elbow + bend, -np.pi / 2), "the hand points down"
        assert np.isclose(base + turn, 0.0), "and does not turn"


def test_the_hand_stays_within_its_bounds_and_its_speed() -> None:
    world, old = started(), np.array(tabletop.HOME)
    for _ in range(60):
        hand = world.step({"ee_delta": [9.0, -9.0, -9.0], "gripper": [7.0]}).observation["ee_pos"]
        assert np.abs(hand - old).max() <= tabletop.MAX_DELTA + 1e-12
        old = hand
    assert np.allclose(hand, [tabletop.HIGH[0], tabletop.LOW[1], tabletop.LOW[2]])


def test_a_block_that_is_grasped_comes_along_and_falls_when_let_go() -> None:
    world = started("place_red_block")
    grasp(world, "red")
    stopped = world.step({**STILL, "gripper": [1.0]}).observation["gripper_position"]
    assert stopped == pytest.approx(1.0 - BLOCK / tabletop.OPENING), "the fingers stop at the block"
    x, y, _ = world.hand
    move_to(world, [x, y, 0.3], 1.0)
    assert world.blocks["red"][2] == pytest.approx(0.3, abs=0.01)
    for _ in range(20):
        world.step(STILL)
    assert world.blocks["red"][2] == pytest.approx(BLOCK / 2)


def test_a_block_comes_to_rest_on_another() -> None:
    world = started("stack_red_on_blue")
    grasp(world, "red")
    x, y, _ = world.hand
    move_to(world, [x, y, 0.2], 1.0)
    x, y, _ = world.blocks["blue"]
    move_to(world, [x, y, 0.2], 1.0)
    assert not move_to(world, [x, y, 0.08], 1.0).terminated, "it is still held"
    for _ in range(20):
        step = world.step(STILL)
        if step.terminated:
            break
    assert step.reward == 1.0
    assert step.info["success"]
    assert world.blocks["red"][2] == pytest.approx(1.5 * BLOCK)


def test_fingers_push_what_is_in_their_way_and_stop_on_what_is_below() -> None:
    world = started()
    x, y, _ = world.blocks["red"]
    move_to(world, [x, y + 0.046, 0.25], 0.0)
    hand = move_to(world, [x, y + 0.046, 0.012], 0.0).observation["ee_pos"]
    assert hand[2] == pytest.approx(BLOCK + 0.01), "a finger stands on the block"
    move_to(world, [x, y + 0.1, 0.1], 1.0)
    move_to(world, [x, y + 0.1, 0.02], 1.0)
    move_to(world, [x, y + 0.02, 0.02], 1.0)
    assert world.blocks["red"][1] < y - 0.01
    assert world.blocks["red"][0] == pytest.approx(x)


def test_an_episode_without_success_is_truncated_and_then_over() -> None:
    world = started()
    for _ in range(tabletop.MAX_STEPS):
        step = world.step(STILL)
    assert (step.terminated, step.truncated, step.reward, step.info["success"]) == (False, True, 0.0, False)
    with pytest.raises(RuntimeError, match="reset"):
        world.step(STILL)


def test_at_rest_the_sensor_feels_its_weight_and_in_motion_the_motion() -> None:
    world = started()
    world.step(STILL)
    assert np.allclose(world.imu().accelerometer, [0.0, 0.0, 9.81])
    assert np.allclose(world.imu().gyroscope, 0.0)
    world.step({"ee_delta": [0.0, 0.01, 0.01], "gripper": [0.0]})
    felt = world.imu()
    assert np.allclose(felt.accelerometer[1:], [0.01 / 0.05**2, 9.81 + 0.01 / 0.05**2], rtol=0.01)
    assert felt.gyroscope[2] == pytest.approx(0.2 / 0.3, rel=0.01), "it turns about the base"


@pytest.mark.parametrize("name", ["agentview", "eye_in_hand"])
def test_a_picture_has_its_size_and_kinds(name: str) -> None:
    rgb, depth = started().render(name)
    assert (rgb.dtype.name, rgb.shape) == ("uint8", (96, 128, 3))
    assert (depth.dtype.name, depth.shape) == ("float32", (96, 128))
    assert np.isfinite(depth).all()
    assert depth.min() > 0.0


@pytest.mark.parametrize("seed", range(8))
def test_what_the_camera_sees_lies_where_the_world_says(seed: int) -> None:
    world = started(seed=seed)
    rgb, depth = world.render()
    camera = tabletop.camera(world.image_size)
    points = camera.points(depth)
    for color, (x, y, _) in world.blocks.items():
        ((across, down),) = camera.project([(x, y, BLOCK)])
        column, row = int(across), int(down)
        seen = rgb[row, column].astype(int)
        assert int(np.argmax(seen)) == int(np.argmax(tabletop.COLORS[color]))
        assert np.abs(points[row, column] - [x, y, BLOCK]).max() < 0.01


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ({"gripper": [0.0]}, "'ee_delta' is missing"),
        ({"ee_delta": [0.0, 0.0], "gripper": [0.0]}, "'ee_delta': 2 numbers, not 3"),
        ({"ee_delta": [0.0, 0.0, float("nan")], "gripper": [0.0]}, "not finite"),
        ({"ee_delta": "up", "gripper": [0.0]}, "not a list of 3 numbers"),
        ({"ee_delta": [0.0, 0.0, 0.0], "gripper": 1.0}, "'gripper': not a list"),
        ([0.0, 0.0, 0.0, 1.0], "'ee_delta' is missing"),
    ],
)
def test_an_action_that_is_none_is_refused_and_moves_nothing(action: Any, said: str) -> None:
    world = started()
    before = world.hand
    with pytest.raises(ValueError, match=said):
        world.step(action)
    assert world.hand == before
    assert world.steps == 0


def test_what_is_not_there_is_named() -> None:
    world = Tabletop()
    with pytest.raises(RuntimeError, match="no task is loaded"):
        world.reset()
    with pytest.raises(KeyError, match="no task 'juggle'"):
        world.load_task("juggle")
    with pytest.raises(KeyError, match="no camera 'rear'"):
        world.render("rear")
    with pytest.raises(ValueError, match="image_size"):
        Tabletop(image_size=(4, 100000))
    world.load_task("lift_red_block")
    with pytest.raises(RuntimeError, match="reset"):
        world.step(STILL)
