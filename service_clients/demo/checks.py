"""What must hold of an episode that the demo has run, told from what its skill script left."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, NamedTuple

from service_clients.demo.expert import HORIZON, METADATA, Expert
from service_clients.demo.tabletop import Tabletop, box_of

__all__ = ["Rehearsal", "check", "overlap_of", "rehearse"]


class Rehearsal(NamedTuple):
    """The same episode in one process, without services: they must have changed nothing of it.

    first: the box of the red block in the first picture; hand: where it is at the end.
    """

    success: bool
    steps: int
    hand: list[float]
    first: dict[str, float]


def rehearse(task: str, seed: int) -> Rehearsal:
    """Runs the episode here, as the skill script does there."""
    world, expert = Tabletop(seed=seed), Expert()
    prompt = world.load_task(task)["description"]
    observation: dict[str, Any] = dict(world.reset())
    first = box_of(world, "red")
    while True:
        rgb, depth = world.render()
        seen = {**observation, "agentview_image": rgb, "agentview_depth": depth, "prompt": prompt}
        for row in expert.infer(seen)["actions"][: HORIZON // 2]:
            step = world.step({"ee_delta": row[:3], "gripper": row[3:]})
            observation = dict(step.observation)
            if step.terminated or step.truncated:
                return Rehearsal(step.terminated, step.info["steps"], observation["ee_pos"].tolist(), first)


def check(summary: Mapping[str, Any], rehearsal: Rehearsal) -> Iterator[tuple[str, bool]]:
    """What must hold, each with whether it does."""
    looks, streams = summary["looks"], summary["streams"]
    yield "the simulator says that the task is done", summary["info"].get("success") is True
    plan = summary["plan"]
    yield f"so does the robot's stream: {plan['message']}", plan["status"] == "completed"
    overlap = overlap_of(looks[0]["box"], rehearsal.first)
    yield f"the red block was found where it is (overlap {overlap:.2f})", overlap > 0.8
    goal = next((thing["bbox"] for thing in looks[0]["found"] if thing["class_name"] == "goal"), None)
    yield "at the end the camera sees it on the goal", goal is not None and _is_on(looks[-1]["box"], goal)
    same = (summary["steps"], summary["hand"]) == (rehearsal.steps, rehearsal.hand)
    yield f"{summary['steps']} steps through all services led where they lead without, bit for bit", same
    counts = [len(streams[name]) for name in ("camera_feed", "imu_data")]
    whole = all(count == summary["steps"] + 1 for count in counts) and not summary["dropped"]
    yield f"the sensor stream brought {counts[0]} frames and {counts[1]} IMU samples, all there were", whole
    yield "the policy server's metadata arrived", summary["metadata"] == METADATA
    names = ", ".join(summary["blocked"])
    yield f"the script could import none of {names}", summary["refused"] == summary["blocked"]


def overlap_of(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Intersection over union of two boxes {x1, y1, x2, y2}."""
    width = min(one["x2"], other["x2"]) - max(one["x1"], other["x1"])
    height = min(one["y2"], other["y2"]) - max(one["y1"], other["y1"])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum((box["x2"] - box["x1"]) * (box["y2"] - box["y1"]) for box in (one, other))
    return shared / (areas - shared)


def _is_on(box: Mapping[str, float], goal: Mapping[str, float]) -> bool:
    """Whether the middle of a box's lower half lies inside the goal's."""
    x, y = (box["x1"] + box["x2"]) / 2, box["y1"] * 0.25 + box["y2"] * 0.75
    return goal["x1"] < x < goal["x2"] and goal["y1"] < y < goal["y2"]
