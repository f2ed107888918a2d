"""
simulator - gymnasium's environments as a backend

Any environment that is registered with gymnasium is a task: "CartPole-v1", and with `mujoco` installed "Reacher-v5" and the
others of MuJoCo, whose camera comes along in each observation, rendered without a display.

Usage:
    from service_clients.simulator.backends.gymnasium import GymnasiumBackend
    from service_clients.simulator.server import SimulatorServer

    SimulatorServer({"gymnasium": GymnasiumBackend}).serve_forever()

Needs gymnasium, and mujoco for MuJoCo's environments: pip install gymnasium mujoco imageio. Pictures of MuJoCo need EGL or
OSMesa (Debian: libegl1, or libosmesa6); MUJOCO_GL=egl or osmesa chooses, before the first of them is made.
"""

from __future__ import annotations

import re
from typing import Any, Mapping

import numpy as np

try:
    import gymnasium
    from gymnasium import spaces
except ImportError as missing:
    raise ImportError(f"gymnasium cannot be imported ({missing}): pip install gymnasium") from missing

from service_clients.simulator.backend import (
    Backend,
    BackendError,
    InvalidParams,
    Observation,
    Step,
    TaskNotFound,
)
from service_clients.simulator.backends.rendering import choose_gl

__all__ = ["GymnasiumBackend"]

ACTION = "action"  # the one key of an action, unless the environment's own action is a dict
STATE = "state"  # the one key of an observation besides the camera's, unless the environment's own is a dict


class GymnasiumBackend(Backend):
    """One environment at a time.

    Observations: what the environment gives, arrays under their keys when it is a dict, else under "state"; and what its
    camera sees under "camera_image", uint8 (height, width, 3), where it is rendered. Actions likewise: a dict's keys, or
    "action", an int64 array of one element for a choice among n.
    """

    name = "gymnasium"
    version = gymnasium.__version__

    def __init__(
        self,
        image_size: tuple[int, int] = (256, 256),
        render: bool | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        """Prepares to make environments.

        Args:
            image_size: (height, width) of a MuJoCo camera's pictures; others render in their own size.
            render: whether observations hold pictures; None: those of MuJoCo's environments alone.
            seed: of the first episode of each task; each that follows goes on from there. None: by chance.
            options: handed to gymnasium.make().
        """
        self._image_size = image_size
        self._render = render
        self._seed = seed
        self._options = options
        self._env: gymnasium.Env[Any, Any] | None = None
        self._has_pictures = False
        self._next_seed: int | None = None

    def list_tasks(self, suite: str | None = None) -> list[str]:
        """The registered ids; suites are where they come from: "classic_control", "mujoco", "toy_text", ..."""
        suites = {task: _suite(spec) for task, spec in gymnasium.registry.items()}
        if suite is not None and suite not in suites.values():
            raise InvalidParams(
                f"suite: there is no {suite!r:.80}; there are {', '.join(sorted(set(suites.values())))}"
            )
        return sorted(task for task, its_suite in suites.items() if suite in (None, its_suite))

    def load_task(self, task_name: str) -> dict[str, Any]:
        """Makes an environment, in place of the one before."""
        spec = self._find(task_name)
        is_mujoco = _suite(spec) == "mujoco"
        has_pictures = is_mujoco if self._render is None else self._render
        options = dict(self._options)
        if has_pictures:
            options["render_mode"] = "rgb_array"
            if is_mujoco:
                choose_gl()
                options["height"], options["width"] = self._image_size
        env: gymnasium.Env[Any, Any] = gymnasium.make(task_name, **options)
        try:
            info = self._describe(env, spec)
        except BaseException:
            env.close()
            raise
        self.disconnect()
        self._env, self._has_pictures, self._next_seed = env, has_pictures, self._seed
        return info

    def reset(self) -> Observation:
        env = self._env_now()
        observation, _info = env.reset(seed=self._next_seed)
        self._next_seed = None
        return self._observe(env, observation)

    def step(self, action: dict[str, Any]) -> Step:
        env = self._env_now()
        observation, reward, terminated, truncated, info = env.step(_to_space(env.action_space, action))
        return self._observe(env, observation), float(reward), terminated, truncated, _plain(info)

    def disconnect(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            env.close()

    def _env_now(self) -> gymnasium.Env[Any, Any]:
        if self._env is None:
            raise BackendError("no environment is loaded")
        return self._env

    def _find(self, task_name: str) -> Any:
        try:
            return gymnasium.spec(task_name)
        except gymnasium.error.Error as error:
            raise TaskNotFound(f"gymnasium knows no {task_name!r:.80}: {error}") from None

    def _describe(self, env: gymnasium.Env[Any, Any], spec: Any) -> dict[str, Any]:
        return {
            "task_name": spec.id,
            "description": _first_sentence(type(env.unwrapped).__doc__) or spec.id,
            "action_space": _describe_members(env.action_space, ACTION),
            "observation_space": _describe_members(env.observation_space, STATE),
            "max_episode_steps": env.spec.max_episode_steps if env.spec else None,
        }

    def _observe(self, env: gymnasium.Env[Any, Any], observation: Any) -> Observation:
        found: Observation = dict(observation) if isinstance(observation, Mapping) else {STATE: observation}
        found = {key: np.atleast_1d(value) if _is_number(value) else value for key, value in found.items()}
        if self._has_pictures:
            found["camera_image"] = env.render()
        return found


def _suite(spec: Any) -> str:
    """Where an environment comes from: "mujoco" of "gymnasium.envs.mujoco.reacher_v5:ReacherEnv"."""
    if spec.namespace:
        return str(spec.namespace)
    module = str(spec.entry_point).split(":")[0].split(".")
    return module[2] if module[:2] == ["gymnasium", "envs"] and len(module) > 2 else module[0]


def _describe_members(space: spaces.Space[Any], alone: str) -> dict[str, Any]:
    members = space.spaces if isinstance(space, spaces.Dict) else {alone: space}
    return {key: _describe_space(member) for key, member in members.items()}


def _describe_space(space: spaces.Space[Any]) -> dict[str, Any]:
    """Shape, dtype and limits, None where there is none, as task_info has them."""
    if isinstance(space, spaces.Discrete):
        first = int(space.start)
        return {"shape": [1], "dtype": "int64", "low": [first], "high": [first + int(space.n) - 1]}
    if isinstance(space, spaces.MultiBinary):
        return {"shape": list(space.shape), "dtype": "int8", "low": 0, "high": 1}
    if isinstance(space, spaces.MultiDiscrete):
        high = (space.nvec - 1 + space.start).tolist()
        return {"shape": list(space.shape), "dtype": "int64", "low": space.start.tolist(), "high": high}
    if isinstance(space, spaces.Box):
        low, high = (_limits(limit) for limit in (space.low, space.high))
        return {"shape": list(space.shape), "dtype": str(space.dtype), "low": low, "high": high}
    raise BackendError(f"{type(space).__name__} spaces have no form in this protocol")


def _limits(limit: Any) -> Any:
    """One number when all are the same, which pictures' are; None for no limit."""
    flat = np.asarray(limit).reshape(-1)
    if flat.size and (flat == flat[0]).all() and flat.size > 64:
        return flat[0].item() if np.isfinite(flat[0]) else None
    limits = np.array(limit, dtype=object)
    limits[~np.isfinite(np.asarray(limit, dtype=float))] = None
    return limits.tolist()


def _to_space(space: spaces.Space[Any], action: dict[str, Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _to_member(member, action[key]) for key, member in space.spaces.items()}
    return _to_member(space, action[ACTION])


def _to_member(space: spaces.Space[Any], value: Any) -> Any:
    return int(value[0]) if isinstance(space, spaces.Discrete) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.generic))


def _plain(info: Mapping[Any, Any]) -> dict[str, Any]:
    """What of an info travels; the rest as its text."""
    return {str(key): _plain_value(value) for key, value in info.items()}


def _plain_value(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, (list, tuple)):
        return [_plain_value(child) for child in value]
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufSU":
        return value
    return str(value)


def _first_sentence(text: str | None) -> str:
    """The first sentence of a docstring, without Markdown."""
    paragraphs = re.split(r"\n\s*\n", re.sub(r"^\s*#.*$", "\n", text or "", flags=re.MULTILINE))
    said = next((" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip()), "")
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", said)
    return re.split(r"(?<=[.!?])\s", plain)[0]
