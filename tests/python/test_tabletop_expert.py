"""The scripted expert: it sees observations alone, and does every task of the tabletop world."""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np
import pytest
from peers import harness

from service_clients.demo import expert, tabletop, vision
from service_clients.demo.backends import Backend
from service_clients.demo.tabletop import Tabletop
from service_clients.openpi.client import WebsocketClientPolicy
from service_clients.simulator.backend import InvalidParams, TaskNotFound
from service_clients.simulator.backends.tabletop import TabletopBackend


def first_observation(task: str, seed: int = 0) -> tuple[Tabletop, dict[str, Any]]:
    """A world at the beginning of an episode, and what the policy is shown of it."""
    world = Tabletop(seed=seed)
    prompt = world.load_task(task)["description"]
    return world, {**with_pictures(world, world.reset()), "prompt": prompt}


def with_pictures(world: Tabletop, observation: dict[str, Any]) -> dict[str, Any]:
    """An observation and what the camera shows."""
    rgb, depth = world.render()
    return {**observation, "agentview_image": rgb, "agentview_depth": depth}


def run_episode(policy: Any, task: str, seed: int) -> bool:
    """Whether the task was done at the end."""
    world, observation = first_observation(task, seed)
    while True:
        for row in policy.infer(observation)["actions"]:
            step = world.step({"ee_delta": row[:3], "gripper": row[3:]})
            if step.terminated or step.truncated:
                return bool(step.info["success"])
        observation = {**with_pictures(world, step.observation), "prompt": observation["prompt"]}


@pytest.mark.parametrize("task", tabletop.TASKS)
def test_the_expert_does_every_task_wherever_things_lie(task: str) -> None:
    failed = [seed for seed in range(12) if not run_episode(expert.Expert(), task, seed)]
    assert failed == []


def test_a_policy_that_does_nothing_does_no_task() -> None:
    class Idle:
        def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
            return {"actions": np.zeros((60, 4))}

    assert not any(run_episode(Idle(), task, 0) for task in tabletop.TASKS)


@pytest.mark.parametrize("seed", range(20))
def test_it_sees_where_things_lie_to_a_few_millimetres(seed: int) -> None:
    world, observation = first_observation("place_red_block", seed)
    camera = tabletop.camera(world.image_size)
    seen = expert.look(camera, observation["agentview_image"], observation["agentview_depth"])
    for color, place in world.blocks.items():
        found = seen.blocks[color]
        assert found is not None
        assert np.abs(found - place).max() < 0.005
    assert seen.goal is not None
    assert np.abs(seen.goal[:2] - world.goal).max() < 0.01


def test_every_row_of_a_chunk_is_an_action_that_the_world_takes() -> None:
    _, observation = first_observation("place_red_block")
    actions = expert.Expert().infer(observation)["actions"]
    assert (actions.dtype.name, actions.shape) == ("float64", (expert.HORIZON, 4))
    assert np.abs(actions[:, :3]).max() <= tabletop.MAX_DELTA
    assert ((actions[:, 3] >= 0.0) & (actions[:, 3] <= 1.0)).all()


def test_the_chunk_follows_from_the_observation_alone() -> None:
    _, observation = first_observation("place_red_block")
    _, other = first_observation("stack_red_on_blue", seed=5)
    policy = expert.Expert()
    first = policy.infer(observation)["actions"]
    assert not np.array_equal(policy.infer(other)["actions"], first)
    assert np.array_equal(policy.infer(observation)["actions"], first)


def test_what_is_not_in_sight_sends_the_hand_home() -> None:
    _, observation = first_observation("place_red_block")
    observation["agentview_image"] = np.full((256, 256, 3), 128, np.uint8)
    observation["ee_pos"] = np.array([0.5, 0.2, 0.05])
    way = expert.Expert().infer(observation)["actions"][:, :3].sum(axis=0)
    assert np.array_equal(np.sign(way), [-1, -1, 1])


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("agentview_image", np.zeros((4, 4), np.uint8), "agentview_image: expected uint8"),
        ("agentview_depth", np.zeros((4, 4), np.float32), "agentview_depth: expected float32"),
        ("agentview_depth", np.full((256, 256), np.nan, np.float32), "agentview_depth: .* not finite"),
        ("ee_pos", [0.0, 0.0, 0.0], "ee_pos: expected 3 floats, got list"),
        ("gripper_position", np.array([np.inf]), "gripper_position: .* not finite"),
        ("prompt", "make coffee", "prompt: 'make coffee' has no task"),
        ("prompt", 7, "prompt: 7 has no task"),
    ],
)
def test_the_expert_names_the_key_that_is_wrong(key: str, value: Any, said: str) -> None:
    _, observation = first_observation("place_red_block")
    with pytest.raises(ValueError, match=said):
        expert.Expert().infer({**observation, key: value})


# ---- as a server ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Backend]:
    with harness.start_module("service_clients.demo.expert") as server:
        yield server


def test_the_expert_is_the_same_behind_a_policy_server(server: Backend) -> None:
    _, observation = first_observation("place_red_block", seed=2)
    with WebsocketClientPolicy(host=server.url) as policy:
        assert policy.get_server_metadata() == expert.METADATA
        assert np.array_equal(
            policy.infer(observation)["actions"], expert.Expert().infer(observation)["actions"]
        )
        assert run_episode(policy, "stack_red_on_blue", seed=3)


def test_an_observation_without_a_key_is_the_servers_error_and_names_it(server: Backend) -> None:
    _, observation = first_observation("place_red_block")
    del observation["agentview_depth"]
    with WebsocketClientPolicy(host=server.url) as policy, pytest.raises(RuntimeError) as caught:
        policy.infer(observation)
    assert "agentview_depth" in str(caught.value)


# ---- the colours in a picture --------------------------------------------------------------------


def test_blobs_of_a_colour_are_found_apart_and_the_largest_first() -> None:
    rgb = np.full((60, 80, 3), (198, 182, 160), np.uint8)
    rgb[10:20, 30:45] = (200, 40, 40)
    rgb[40:46, 5:10] = (110, 20, 25)
    rgb[50:52, 70:72] = (200, 40, 40)
    large, small = vision.find_blobs(rgb, "red")
    assert large == (30, 10, 45, 20, 1.0, "red")
    assert small == (5, 40, 10, 46, 1.0, "red")
    assert vision.find_blobs(rgb, "blue") == []


def test_no_two_colours_are_seen_in_one_pixel() -> None:
    every = np.stack(np.meshgrid(*[np.arange(0, 256, 15, dtype=np.uint8)] * 3), axis=-1).reshape(-1, 1, 3)
    masks = [vision.color_mask(every, color) for color in vision.COLOR_NAMES]
    assert np.sum(masks, axis=0).max() == 1


# ---- behind the simulator's interface ------------------------------------------------------------


def test_the_backend_gives_what_it_says_that_an_observation_holds() -> None:
    backend = TabletopBackend(image_size=(48, 64))
    backend.load_task("place_red_block")
    observation = backend.reset()
    space = backend.get_info()["observation_space"]
    assert {key: (list(array.shape), array.dtype.name) for key, array in observation.items()} == {
        key: (entry["shape"], entry["dtype"]) for key, entry in space.items()
    }


def test_the_backend_knows_its_tasks_and_its_suite() -> None:
    backend = TabletopBackend(pictures=())
    assert backend.list_tasks() == backend.list_tasks("tabletop") == list(tabletop.TASKS)
    with pytest.raises(InvalidParams, match="kitchen"):
        backend.list_tasks("kitchen")
    with pytest.raises(TaskNotFound, match="juggle"):
        backend.load_task("juggle")
    with pytest.raises(ValueError, match="pictures: no 'rear_image'"):
        TabletopBackend(pictures=("rear_image",))


def test_whoever_watches_sees_the_world_after_every_change() -> None:
    seen: list[int] = []
    backend = TabletopBackend(pictures=(), on_change=lambda world: seen.append(world.steps))
    backend.load_task("lift_red_block")
    backend.reset()
    backend.step({"ee_delta": [0.0] * 3, "gripper": [0.0]})
    assert seen == [0, 1]
