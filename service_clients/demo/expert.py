"""The scripted expert of the tabletop world, hosted as a policy server: ``python -m service_clients.demo.expert``.

It sees what any policy sees, the observation: it finds blocks and goal in the camera's picture by their colours, and in
space by depth and the camera's calibration. It keeps nothing between calls, so that clients and episodes may mix: each
chunk is planned anew from where things are, by stepping a model of the hand ahead.
"""

from __future__ import annotations

import argparse
import contextlib
import math
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

import numpy as np

from service_clients.demo import backends, tabletop
from service_clients.demo.render import Camera
from service_clients.demo.tabletop import BLOCK, GOAL_RADIUS, HOME, MAX_DELTA
from service_clients.demo.vision import color_mask

if TYPE_CHECKING:
    import numpy.typing as npt  # which numpy 1.17 has not

    Vector = npt.NDArray[np.float64]

__all__ = ["HORIZON", "METADATA", "Expert", "Seen", "look"]

HORIZON = 10
IMAGE, DEPTH, HAND, GRIPPER, PROMPT = (
    "agentview_image",
    "agentview_depth",
    "ee_pos",
    "gripper_position",
    "prompt",
)
METADATA: dict[str, Any] = {
    "policy": "axon-tabletop-expert",
    "action_horizon": HORIZON,
    "action_dim": 4,
    "observation_keys": [IMAGE, DEPTH, HAND, GRIPPER, PROMPT],
}

_HOVER = 0.15  # the hand's height on its way
_CLOSE = 0.006  # near enough
_FEWEST = 12  # pixels, to be seen at all
_TOUCH = 1.0 - BLOCK / tabletop.OPENING


class Seen(NamedTuple):
    """Where things are, (3,) each; None: not in sight."""

    blocks: dict[str, Vector | None]
    goal: Vector | None


class _State:
    """What a plan is stepped ahead from. The gripper's and the hand's motion are those of the world's actions."""

    def __init__(self, hand: Vector, gripper: float, block: Vector, target: Vector) -> None:
        self.hand, self.gripper, self.block, self.target = hand.copy(), gripper, block.copy(), target
        self.is_held = _TOUCH - 0.05 < gripper < _TOUCH + 0.05 and self.is_around_block()

    def is_around_block(self) -> bool:
        """Whether closing now would grasp it."""
        way = np.abs(self.hand - self.block)
        return bool(way[0] < 0.015 and way[1] < 0.015 and way[2] < 0.015)

    def move(self, delta: Vector, gripper: float) -> None:
        """One step of the world, as far as it matters here."""
        self.hand += delta
        if self.is_held:
            self.block += delta
        way = min(max(gripper - self.gripper, -tabletop.GRIPPER_SPEED), tabletop.GRIPPER_SPEED)
        self.gripper += way
        if way > 0 and self.gripper >= _TOUCH and self.is_around_block():
            self.gripper, self.is_held = _TOUCH, True
        elif self.gripper < _TOUCH - 1e-9:
            self.is_held = False


class Expert:
    """Answers an observation with ``{"actions": float64 (HORIZON, 4)}``: ee_delta and gripper, one row per step.

    The prompt is one of the tasks' descriptions, or any text that has "lift", "place" or "stack" and a colour in it.
    """

    def __init__(self) -> None:
        self._cameras: dict[tuple[int, int], Camera] = {}

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Raises KeyError for a key that is missing and ValueError for a value of the wrong kind."""
        image, depth = _picture(observation)
        hand, gripper = _floats(observation, HAND, 3), float(_floats(observation, GRIPPER, 1)[0])
        verb, color = _task(observation[PROMPT])
        size = (image.shape[0], image.shape[1])
        if size not in self._cameras:
            self._cameras = {size: tabletop.camera(size)}
        seen = look(self._cameras[size], image, depth)
        block, target = seen.blocks[color], _target(verb, seen)
        if block is None or target is None:
            return {"actions": _go(hand, np.array(HOME), gripper)}
        state = _State(hand, gripper, block, target)
        actions = np.zeros((HORIZON, 4))
        for row in actions:
            goal, row[3] = _lift(state) if verb == "lift" else _carry(state)
            row[:3] = _delta(state.hand, goal)
            state.move(row[:3], float(row[3]))
        return {"actions": actions}


def look(camera: Camera, rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32]) -> Seen:
    """Finds blocks and goal in a picture of `camera`.

    The camera looks from the front, where the hand hides nothing: what counts is the face or the edge towards it.
    """
    points = camera.points(depth)
    blocks: dict[str, Vector | None] = {}
    for color in tabletop.COLORS:
        x, y, z = points[color_mask(rgb, color)].T.astype(np.float64)
        if len(x) < _FEWEST:
            blocks[color] = None
            continue
        front = np.percentile(x, 90)  # of the front face all points have the same x
        blocks[color] = np.array([front - BLOCK / 2, (y.min() + y.max()) / 2, z.max() - BLOCK / 2])
    x, y, _ = points[color_mask(rgb, "yellow")].T.astype(np.float64)
    if len(x) < _FEWEST:
        return Seen(blocks, None)
    edge = y[x > x.max() - GOAL_RADIUS / 4]
    center = x.max() - tabletop.GOAL_YELLOW
    return Seen(blocks, np.array([center, (edge.min() + edge.max()) / 2, 0.0]))


def _target(verb: str, seen: Seen) -> Vector | None:
    """Where the block's centre is to go; None: what it goes onto is not in sight."""
    if verb == "lift":
        return np.array([0.0, 0.0, 0.2])
    below, height = (seen.blocks["blue"], BLOCK) if verb == "stack" else (seen.goal, BLOCK / 2)
    return None if below is None else below + np.array([0.0, 0.0, height])


def _lift(state: _State) -> tuple[Vector, float]:
    """Where the hand should go, and what the gripper should do."""
    if not state.is_held:
        return _grasp(state)
    return np.array([state.hand[0], state.hand[1], state.target[2]]), 1.0


def _carry(state: _State) -> tuple[Vector, float]:
    """The same, until the block rests at its target."""
    way = state.target - state.block
    far = math.hypot(way[0], way[1])
    if not state.is_held:
        if far < 2 * _CLOSE and abs(way[2]) < 2 * _CLOSE:
            return state.hand + np.array([0.0, 0.0, _HOVER]), 0.0
        return _grasp(state)
    if far > _CLOSE:
        if far > 0.03 and state.hand[2] < _HOVER - _CLOSE:
            return np.array([state.hand[0], state.hand[1], _HOVER]), 1.0
        height = _HOVER if far > 0.03 else state.hand[2]
        return np.array([state.hand[0] + way[0], state.hand[1] + way[1], height]), 1.0
    if way[2] < -_CLOSE / 2:
        return state.hand + way, 1.0
    return state.hand, 0.0


def _grasp(state: _State) -> tuple[Vector, float]:
    """The same, until the block is held: over it with the gripper open, down, close."""
    way = state.block - state.hand
    if math.hypot(way[0], way[1]) > _CLOSE:
        if state.hand[2] < _HOVER - _CLOSE:
            return np.array([state.hand[0], state.hand[1], _HOVER]), 0.0
        return np.array([state.block[0], state.block[1], _HOVER]), 0.0
    if abs(way[2]) <= _CLOSE:
        return state.hand, 1.0
    if state.gripper > 0.05:
        return state.hand, 0.0
    return state.block, 0.0


def _go(hand: Vector, target: Vector, gripper: float) -> npt.NDArray[np.float64]:
    """A chunk that leads there and leaves the gripper as it is."""
    actions = np.zeros((HORIZON, 4))
    for row in actions:
        row[:3], row[3] = _delta(hand, target), gripper
        hand = hand + row[:3]
    return actions


def _delta(hand: Vector, target: Vector) -> Vector:
    """One step straight towards the target."""
    way = target - hand
    longest = float(np.abs(way).max())
    return np.asarray(np.clip(way * min(1.0, MAX_DELTA / max(longest, 1e-9)), -MAX_DELTA, MAX_DELTA))


def _task(prompt: Any) -> tuple[str, str]:
    """The verb, and the colour that is named first."""
    words = prompt.lower().split() if isinstance(prompt, str) else []
    verb = next((word for word in words if word in ("lift", "place", "stack")), None)
    color = next((word for word in words if word in tabletop.COLORS), None)
    if verb is None or color is None:
        raise ValueError(f"{PROMPT}: {prompt!r:.100} has no task of the tabletop in it")
    return verb, color


def _picture(observation: Mapping[str, Any]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    image, depth = observation[IMAGE], observation[DEPTH]
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"{IMAGE}: expected uint8 (height, width, 3), got {_kind(image)}")
    if not isinstance(depth, np.ndarray) or depth.dtype != np.float32 or depth.shape != image.shape[:2]:
        raise ValueError(f"{DEPTH}: expected float32 {image.shape[:2]}, got {_kind(depth)}")
    if not np.isfinite(depth).all():
        raise ValueError(f"{DEPTH}: it has numbers that are not finite")
    return image, depth


def _floats(observation: Mapping[str, Any], key: str, count: int) -> Vector:
    value = observation[key]
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.shape != (count,):
        raise ValueError(f"{key}: expected {count} floats, got {_kind(value)}")
    if not np.isfinite(value).all():
        raise ValueError(f"{key}: {value.tolist()} is not finite")
    return value.astype(np.float64)


def _kind(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def main() -> None:
    """Serves the expert: on a port of one's own until Ctrl-C, else on a free one until its starter is gone."""
    from service_clients.openpi.server import WebsocketPolicyServer

    parser = argparse.ArgumentParser(prog="python -m service_clients.demo.expert", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="what to listen on (%(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        help="default one that is free, for programs: until standard input ends",
    )
    given = parser.parse_args()
    server = WebsocketPolicyServer(Expert(), host=given.host, port=given.port, metadata=METADATA)
    server.start()
    if given.port == 0:
        backends.watch_starter()
    backends.announce(server.url)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
