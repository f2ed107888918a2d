"""A small world to try things in: an arm over a table, three coloured blocks and a goal. It needs numpy alone.

    world = Tabletop(seed=7)
    world.load_task("place_red_block")
    observation = world.reset()
    observation, reward, terminated, truncated, info = world.step({"ee_delta": [0.0, 0.01, 0.0], "gripper": [0.0]})
    rgb, depth = world.render()

It moves in steps of DT seconds. Blocks fall, lie on each other, are pushed, grasped and dropped; nothing tips over or
slides. The same seed gives the same episodes, and the same actions in them the same numbers, bit for bit.

Lengths are metres. The world's x points away from the robot's base, y to its left, z up from the table. The hand always
points down; its position is that of the point between the finger tips.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

import numpy as np

from service_clients.demo.render import Box, Camera, Capsule, Disc, Picture, Shape, draw, draw_ground

if TYPE_CHECKING:
    import numpy.typing as npt  # which numpy 1.17 has not

    Vector = npt.NDArray[np.float64]

__all__ = [
    "ACTION_SPACE",
    "BLOCK",
    "CAMERA",
    "COLORS",
    "DT",
    "GOAL_RADIUS",
    "GOAL_YELLOW",
    "MAX_STEPS",
    "OPENING",
    "TASKS",
    "Imu",
    "Step",
    "Tabletop",
    "box_of",
    "camera",
]

DT = 0.05  # seconds per step
MAX_STEPS = 300
BLOCK = 0.04  # a block's side
GOAL_RADIUS = 0.06
GOAL_YELLOW = 0.052  # the radius of what of it is inside its dark rim
OPENING = 0.08  # between the fingers, when open
MAX_DELTA = 0.02  # the hand's way along each axis in one step
GRIPPER_SPEED = 0.2  # of the way between open and closed in one step
HOME = (0.3, 0.0, 0.26)
LOW, HIGH = (0.2, -0.3, 0.012), (0.6, 0.3, 0.4)  # where the hand can be
GRAVITY = 9.81

COLORS = {"red": (206, 40, 38), "green": (44, 150, 62), "blue": (36, 84, 196)}
# Where the camera "agentview" stands, what it looks at, and its field of view from top to bottom, in degrees.
CAMERA = ((1.15, 0.1, 0.76), (0.36, 0.0, 0.115), 38.0)

TASKS: dict[str, str] = {
    **{f"place_{color}_block": f"place the {color} block on the goal" for color in COLORS},
    **{f"lift_{color}_block": f"lift the {color} block" for color in COLORS},
    "stack_red_on_blue": "stack the red block on the blue block",
}
ACTION_SPACE: dict[str, dict[str, Any]] = {
    "ee_delta": {"shape": [3], "dtype": "float64", "low": [-MAX_DELTA] * 3, "high": [MAX_DELTA] * 3},
    "gripper": {"shape": [1], "dtype": "float64", "low": [0.0], "high": [1.0]},
}

_TABLE = (0.42, -0.12, 0.76)  # half its width, and from where to where it reaches along x
_SPAWN_LOW, _SPAWN_HIGH = (0.3, -0.22), (0.54, 0.22)
_APART = 0.12  # between the centres of what reset() lays out
_HALF = BLOCK / 2.0
_TOUCH = 1.0 - BLOCK / OPENING  # how far the gripper closes on a block
_FINGER = (0.009, 0.006)  # half a finger's depth and width
_TIP = 0.01  # how far the finger tips reach below the hand's position
_SHOULDER, _UPPER, _FORE, _WRIST = 0.25, 0.4, 0.4, 0.18


class Step(NamedTuple):
    """What step() returns, as gymnasium orders it."""

    observation: dict[str, Vector]
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class Imu(NamedTuple):
    """The inertial sensor in the wrist; its x points away from the base's axis, z up.

    accelerometer is the specific force (3,) in m/s2, +9.81 along z at rest; gyroscope the turning rate (3,) in rad/s.
    """

    accelerometer: Vector
    gyroscope: Vector


class _Block:
    """A cube that is not turned: where its centre is and how fast it falls."""

    __slots__ = ("color", "fall", "x", "y", "z")

    def __init__(self, color: str, x: float, y: float) -> None:
        self.color, self.x, self.y, self.z, self.fall = color, x, y, _HALF, 0.0


def camera(size: tuple[int, int]) -> Camera:
    """The camera "agentview", which stands still, for pictures of `size` (height, width)."""
    position, target, field_of_view = CAMERA
    return Camera(size, position, target, field_of_view)


def box_of(world: Tabletop, color: str) -> dict[str, float]:
    """The box {x1, y1, x2, y2} that a block takes up in the picture of "agentview", hidden or not."""
    x, y, z = world.blocks[color]
    ways = [(i, j, k) for i in (-_HALF, _HALF) for j in (-_HALF, _HALF) for k in (-_HALF, _HALF)]
    corners = camera(world.image_size).project([(x + i, y + j, z + k) for i, j, k in ways])
    (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
    return {"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}


class Tabletop:
    """One such world.

    An action is {"ee_delta": (3,), "gripper": (1,)}, arrays or lists: how far the hand moves in this step along x, y and
    z, and what the gripper moves towards, 0 open to 1 closed; numbers outside of ACTION_SPACE count as its nearest.

    An observation holds float64 arrays: ee_pos (3,), ee_quat (4,) as x, y, z, w, gripper_position (1,) as in the action,
    joint_positions (5,) in radians: base, shoulder, elbow, wrist bend, wrist turn. Pictures come from render().
    """

    tasks = TASKS

    def __init__(self, image_size: tuple[int, int] = (256, 256), seed: int = 0) -> None:
        """Makes a world; load_task() and reset() begin.

        Args:
            image_size: (height, width) of the pictures, 16 to 2048 each.
            seed: which sequence of episodes.
        """
        height, width = image_size
        if not (16 <= height <= 2048 and 16 <= width <= 2048):
            raise ValueError(f"image_size is {image_size}: each side must be 16 to 2048")
        self.image_size = (int(height), int(width))
        self.task: str | None = None
        self.steps = 0
        self._random = np.random.default_rng(seed)
        self._blocks: list[_Block] = []
        self._goal = (0.0, 0.0)
        self._is_over = True
        self._camera: Camera | None = None
        self._ground: Picture | None = None
        self._rendered: dict[str, Picture] = {}
        self._settle_hand()

    # ---- episodes ----

    def load_task(self, name: str) -> dict[str, Any]:
        """Chooses a task; reset() begins its first episode. Returns the task_info of the simulator's protocol.

        Raises:
            KeyError: there is no such task.
        """
        if name not in TASKS:
            raise KeyError(f"no task {name!r}; there are {', '.join(TASKS)}")
        self.task, self._is_over = name, True
        return {
            "task_name": name,
            "description": TASKS[name],
            "action_space": ACTION_SPACE,
            "max_episode_steps": MAX_STEPS,
        }

    def reset(self, seed: int | None = None) -> dict[str, Vector]:
        """Begins the next episode of the sequence, or the first of another `seed`. Returns its first observation.

        Raises:
            RuntimeError: no task is loaded.
        """
        if self.task is None:
            raise RuntimeError("no task is loaded: load_task() comes first")
        if seed is not None:
            self._random = np.random.default_rng(seed)
        *places, self._goal = self._lay_out(len(COLORS) + 1)
        self._blocks = [_Block(color, x, y) for color, (x, y) in zip(COLORS, places)]
        self.steps, self._is_over = 0, False
        self._rendered = {}
        self._settle_hand()
        return self._observe()

    def step(self, action: Mapping[str, Any]) -> Step:
        """Moves the world on by DT seconds. The reward is 1 in the step that succeeds, else 0.

        The episode is terminated when the task is done, truncated after MAX_STEPS; info has "success".

        Raises:
            RuntimeError: no episode is under way: reset() comes first.
            ValueError: an action that is none, naming the key; nothing has moved.
        """
        if self._is_over:
            raise RuntimeError("no episode is under way: reset() comes first")
        delta, gripper = _numbers(action, "ee_delta", 3), _numbers(action, "gripper", 1)
        self._rendered = {}
        self._move_hand(delta)
        self._move_gripper(gripper[0])
        self._fall()
        self.steps += 1
        success = self._judge()
        truncated = not success and self.steps >= MAX_STEPS
        self._is_over = success or truncated
        info = {"success": success, "steps": self.steps}
        return Step(self._observe(), float(success), success, truncated, info)

    # ---- what can be seen of it ----

    @property
    def hand(self) -> tuple[float, float, float]:
        """Where the hand is."""
        x, y, z = self._hand
        return x, y, z

    @property
    def blocks(self) -> dict[str, tuple[float, float, float]]:
        """Where the blocks' centres are, by colour: for tests and judges, not for policies."""
        return {block.color: (block.x, block.y, block.z) for block in self._blocks}

    @property
    def goal(self) -> tuple[float, float]:
        """Where the goal's centre is, likewise."""
        return self._goal

    @property
    def is_over(self) -> bool:
        """Whether no episode is under way: before reset(), and after its end."""
        return self._is_over

    @property
    def is_done(self) -> bool:
        """Whether the task is."""
        return bool(self._blocks) and self._judge()

    def render(self, name: str = "agentview") -> Picture:
        """What a camera sees now: rgb uint8 (h, w, 3), and depth float32 (h, w), metres along its optical axis.

        Args:
            name: "agentview" stands opposite the robot; "eye_in_hand" sits on the wrist.

        Returns:
            A Picture, drawn once per step however often it is asked for, and read-only.

        Raises:
            KeyError: there is no such camera.
        """
        if name not in self._rendered:
            eye, ground = self._eye(name)
            x, y = self._goal
            goal = [Disc((x, y), GOAL_RADIUS, (52, 52, 60)), Disc((x, y), GOAL_YELLOW, (240, 196, 40))]
            picture = draw(eye, ground, goal, self._shapes())
            for pixels in picture:
                pixels.setflags(write=False)
            self._rendered[name] = picture
        return self._rendered[name]

    def _eye(self, name: str) -> tuple[Camera, Picture]:
        """A camera, and the empty table as it sees it."""
        if name == "eye_in_hand":
            x, y, z = self._hand
            at, target = (x + 0.075, y, z + 0.13), (x + 0.01, y, z - 0.05)
            eye = Camera(self.image_size, at, target, 70.0, up=(-1.0, 0.0, 0.0))
            return eye, draw_ground(eye, *_TABLE)
        if name != "agentview":
            raise KeyError(f"no camera {name!r}; there are agentview, eye_in_hand")
        if self._camera is None or self._ground is None:
            self._camera = camera(self.image_size)
            self._ground = draw_ground(self._camera, *_TABLE)
        return self._camera, self._ground

    def imu(self) -> Imu:
        """The wrist's inertial sensor, from the hand's motion in the last step."""
        x, y, _ = self._hand
        reach = math.hypot(x, y)
        cos, sin = x / reach, y / reach
        ax, ay, az = self._acceleration
        turn = (cos * self._velocity[1] - sin * self._velocity[0]) / reach
        force = np.array([cos * ax + sin * ay, cos * ay - sin * ax, az + GRAVITY])
        return Imu(force, np.array([0.0, 0.0, turn]))

    # ---- the hand ----

    def _settle_hand(self) -> None:
        self._hand, self._gripper, self._held = list(HOME), 0.0, -1
        self._velocity, self._acceleration = [0.0] * 3, [0.0] * 3

    def _move_hand(self, delta: list[float]) -> None:
        old, hand = self._hand, self._hand[:]
        for axis in range(3):
            way = min(max(delta[axis], -MAX_DELTA), MAX_DELTA)
            hand[axis] = min(max(hand[axis] + way, LOW[axis]), HIGH[axis])
        self._hand = hand
        self._stop_on_blocks(old[2])
        if self._held >= 0:
            self._carry(old)
        self._push(hand[0] - old[0], hand[1] - old[1])
        velocity = [(hand[axis] - old[axis]) / DT for axis in range(3)]
        self._acceleration = [(velocity[axis] - self._velocity[axis]) / DT for axis in range(3)]
        self._velocity = velocity

    def _carry(self, old: list[float]) -> None:
        """Takes the held block along; it takes the hand along where something is in its way below."""
        block, hand = self._blocks[self._held], self._hand
        block.x += hand[0] - old[0]
        block.y += hand[1] - old[1]
        lifted = block.z + hand[2] - old[2]
        lowest = self._support(block, block.z) + _HALF
        if lifted < lowest:
            hand[2] += lowest - lifted
            lifted = lowest
        block.z, block.fall = lifted, 0.0

    def _stop_on_blocks(self, old_z: float) -> None:
        """Fingers that come down on a block stop on top of it."""
        hand = self._hand
        if hand[2] >= old_z:
            return
        for index, block in enumerate(self._blocks):
            top = block.z + _HALF + _TIP
            if index != self._held and hand[2] < top <= old_z + 1e-9 and self._overlaps(block):
                hand[2] = top

    def _overlaps(self, block: _Block) -> bool:
        """Whether a finger and the block overlap, seen from above."""
        x, y, _ = self._hand
        middle = OPENING * (1.0 - self._gripper) / 2.0 + _FINGER[1]
        if abs(block.x - x) >= _HALF + _FINGER[0]:
            return False
        return min(abs(block.y - y - middle), abs(block.y - y + middle)) < _HALF + _FINGER[1] - 1e-9

    def _push(self, dx: float, dy: float) -> None:
        """Moves the blocks that the fingers or the held block ran into, and those that these run into."""
        for index, block in enumerate(self._blocks):
            if index == self._held:
                continue
            if self._hand[2] - _TIP < block.z + _HALF - 1e-9 and self._overlaps(block):
                block.x += dx
                block.y += dy
        for one in self._blocks:
            for other in self._blocks:
                if one is not other and abs(one.z - other.z) < BLOCK - 1e-6:
                    self._part(one, other)

    def _part(self, one: _Block, other: _Block) -> None:
        """Pushes `other` out of `one` the short way, unless it is held."""
        dx, dy = other.x - one.x, other.y - one.y
        if abs(dx) >= BLOCK or abs(dy) >= BLOCK:
            return
        if self._held >= 0 and other is self._blocks[self._held]:
            return
        if abs(dx) > abs(dy):
            other.x = one.x + math.copysign(BLOCK, dx)
        else:
            other.y = one.y + math.copysign(BLOCK, dy)

    def _move_gripper(self, target: float) -> None:
        """Moves the fingers; what comes between them is held until they open wider than it is."""
        target = min(max(target, 0.0), 1.0)
        way = min(max(target - self._gripper, -GRIPPER_SPEED), GRIPPER_SPEED)
        gripper = self._gripper + way
        if self._held >= 0:
            if gripper < _TOUCH - 1e-9:
                self._held = -1
            gripper = min(gripper, _TOUCH)
        elif way > 0 and gripper >= _TOUCH > self._gripper - 1e-9:
            self._held = self._between_fingers()
            if self._held >= 0:
                self._blocks[self._held].y = self._hand[1]
                gripper = _TOUCH
        self._gripper = gripper

    def _between_fingers(self) -> int:
        """The block that the closing fingers meet, -1: none."""
        x, y, z = self._hand
        room = OPENING * (1.0 - self._gripper) / 2.0 - _HALF
        for index, block in enumerate(self._blocks):
            if (
                abs(block.x - x) < _HALF
                and abs(block.y - y) <= room + 1e-6
                and abs(block.z - z) < _HALF + _TIP
            ):
                return index
        return -1

    # ---- the blocks ----

    def _lay_out(self, count: int) -> list[tuple[float, float]]:
        """So many places on the table, far enough from each other for the hand."""
        while True:
            places = self._random.uniform(_SPAWN_LOW, _SPAWN_HIGH, (count, 2))
            way = places[:, None] - places[None, :]
            distance = np.hypot(way[..., 0], way[..., 1]) + np.eye(count)
            if distance.min() >= _APART:
                return [(float(x), float(y)) for x, y in places]

    def _fall(self) -> None:
        for index, block in enumerate(self._blocks):
            if index == self._held:
                continue
            lowest = self._support(block, block.z) + _HALF
            if block.z <= lowest:
                block.fall = 0.0
                continue
            block.fall += GRAVITY * DT
            block.z = max(block.z - block.fall * DT, lowest)

    def _support(self, block: _Block, z: float) -> float:
        """How high what is below a block is that has its centre at z."""
        height = 0.0
        for other in self._blocks:
            top = other.z + _HALF
            is_below = abs(other.x - block.x) < _HALF and abs(other.y - block.y) < _HALF
            if is_below and other is not block and height < top <= z - _HALF + 1e-6:
                height = top
        return height

    def _judge(self) -> bool:
        assert self.task is not None
        verb, color = self.task.split("_")[:2]
        index = list(COLORS).index(color)
        block = self._blocks[index]
        if verb == "lift":
            return self._held == index and block.z > 0.12
        if self._held == index or block.fall > 0.0 or self._gripper > 0.4:
            return False
        if verb == "place":
            far = math.hypot(block.x - self._goal[0], block.y - self._goal[1])
            return far < 0.025 and block.z < BLOCK
        below = self._blocks[list(COLORS).index("blue")]
        far = math.hypot(block.x - below.x, block.y - below.y)
        return far < _HALF and abs(block.z - below.z - BLOCK) < 1e-3

    # ---- how it looks ----

    def _observe(self) -> dict[str, Vector]:
        return {
            "ee_pos": np.array(self._hand),
            "ee_quat": np.array([1.0, 0.0, 0.0, 0.0]),
            "gripper_position": np.array([self._gripper]),
            "joint_positions": np.array(self._joints()),
        }

    def _joints(self) -> list[float]:
        """The five angles that bring the hand to where it is, the elbow up: the law of cosines."""
        x, y, z = self._hand
        reach, rise = math.hypot(x, y), z + _WRIST - _SHOULDER
        distance2 = reach * reach + rise * rise
        bend = math.acos((distance2 - _UPPER**2 - _FORE**2) / (2.0 * _UPPER * _FORE))
        shoulder = math.atan2(rise, reach) + math.atan2(
            _FORE * math.sin(bend), _UPPER + _FORE * math.cos(bend)
        )
        base = math.atan2(y, x)
        return [base, shoulder, -bend, bend - shoulder - math.pi / 2.0, -base]

    def _shapes(self) -> list[Shape]:
        """Blocks and arm."""
        shapes: list[Shape] = [
            Box((block.x, block.y, block.z), (_HALF, _HALF, _HALF), COLORS[block.color])
            for block in self._blocks
        ]
        light, dark, steel = (226, 228, 232), (70, 74, 84), (128, 132, 140)
        x, y, z = self._hand
        base, shoulder = self._joints()[:2]
        out, up = _UPPER * math.cos(shoulder), _SHOULDER + _UPPER * math.sin(shoulder)
        elbow = (out * math.cos(base), out * math.sin(base), up)
        wrist, root = (x, y, z + _WRIST), (0.0, 0.0, _SHOULDER)
        shapes += [
            Box((0.0, 0.0, 0.015), (0.09, 0.09, 0.015), dark),
            Capsule((0.0, 0.0, 0.03), root, 0.055, light),
            Capsule(root, elbow, 0.042, light),
            Capsule(elbow, wrist, 0.036, light),
            Capsule(elbow, elbow, 0.05, dark),
            Capsule(wrist, wrist, 0.043, dark),
            Capsule(wrist, (x, y, z + 0.1), 0.028, steel),
            Box((x, y, z + 0.075), (0.022, OPENING / 2.0 + 0.018, 0.014), dark),
        ]
        middle = OPENING * (1.0 - self._gripper) / 2.0 + _FINGER[1]
        half = (_FINGER[0], _FINGER[1], (0.062 + _TIP) / 2.0)
        shapes += [Box((x, y + way, z + 0.062 - half[2]), half, steel) for way in (-middle, middle)]
        return shapes


def _numbers(action: Mapping[str, Any], key: str, count: int) -> list[float]:
    """The `count` finite numbers that an action has under `key`."""
    if not isinstance(action, Mapping) or key not in action:
        raise ValueError(f"action: {key!r} is missing")
    try:
        numbers = [float(number) for number in action[key]]
    except (TypeError, ValueError):
        raise ValueError(f"action {key!r}: not a list of {count} numbers") from None
    if len(numbers) != count:
        raise ValueError(f"action {key!r}: {len(numbers)} numbers, not {count}")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"action {key!r}: {numbers} is not finite")
    return numbers
