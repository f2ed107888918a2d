"""
simulator - robosuite's tasks as a backend

A task is one of robosuite's environments with one robot: "Lift", "Stack", "Door", ... Two cameras come along in each
observation, rendered without a display.

Usage:
    from service_clients.simulator.backends.robosuite import RobosuiteBackend
    from service_clients.simulator.server import SimulatorServer

    SimulatorServer({"robosuite": RobosuiteBackend}).serve_forever()

Needs robosuite, and a mujoco that it gets on with: pip install robosuite==1.5.1 mujoco==3.3.0 (with mujoco 4 its robots do not
load). The first step of a process takes half a minute, while numba compiles the controller. Pictures need EGL or OSMesa, as
those of gymnasium's backend.
"""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    import robosuite  # type: ignore[import-not-found]
    from robosuite import macros
except ImportError as missing:
    raise ImportError(f"robosuite cannot be imported ({missing}): pip install robosuite") from missing

from service_clients.simulator.backend import (
    Backend,
    BackendError,
    InvalidParams,
    Observation,
    Step,
    TaskNotFound,
)
from service_clients.simulator.backends.rendering import choose_gl

__all__ = ["RobosuiteBackend"]

_SUITE = "robosuite"
ACTION = "action"  # the one key of an action: what the robot's controller takes


class RobosuiteBackend(Backend):
    """One environment at a time. Observations are robosuite's own, their pictures the right way up."""

    name = "robosuite"
    version = str(getattr(robosuite, "__version__", ""))

    def __init__(
        self,
        robot: str = "Panda",
        image_size: tuple[int, int] = (256, 256),
        cameras: tuple[str, ...] = ("agentview", "robot0_eye_in_hand"),
        horizon: int = 500,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        """Prepares to make environments.

        Args:
            robot: which one, by robosuite's name.
            image_size: (height, width) of the cameras' pictures.
            cameras: whose pictures observations hold, as "<camera>_image"; none: no pictures.
            horizon: steps of an episode.
            seed: of the episodes; None: by chance.
            options: handed to robosuite.make().
        """
        self._robot = robot
        self._image_size = image_size
        self._cameras = list(cameras)
        self._horizon = horizon
        self._options = dict(options) if seed is None else {"seed": seed, **options}
        self._env: Any = None

    def list_tasks(self, suite: str | None = None) -> list[str]:
        """robosuite's environments for one arm; its one suite is "robosuite"."""
        if suite not in (None, _SUITE):
            raise InvalidParams(f"suite is {suite!r:.80}; there is {_SUITE!r}")
        return sorted(task for task in robosuite.ALL_ENVIRONMENTS if not task.startswith("TwoArm"))

    def load_task(self, task_name: str) -> dict[str, Any]:
        """Makes an environment, in place of the one before."""
        if task_name not in self.list_tasks():
            raise TaskNotFound(f"robosuite has no {task_name!r:.80} for one arm")
        has_pictures = bool(self._cameras)
        options: dict[str, Any] = {"use_camera_obs": has_pictures, "has_offscreen_renderer": has_pictures}
        if has_pictures:
            choose_gl()
            height, width = self._image_size
            options.update(camera_names=self._cameras, camera_heights=height, camera_widths=width)
        env = robosuite.make(
            task_name,
            robots=self._robot,
            has_renderer=False,
            ignore_done=True,
            horizon=self._horizon,
            **{**options, **self._options},
        )
        self.disconnect()
        self._env = env
        low, high = env.action_spec
        space = {"shape": list(low.shape), "dtype": "float64", "low": low.tolist(), "high": high.tolist()}
        return {
            "task_name": task_name,
            "description": _description(env),
            "action_space": {ACTION: space},
            "max_episode_steps": self._horizon,
        }

    def reset(self) -> Observation:
        return self._observe(self._env_now().reset())

    def step(self, action: dict[str, Any]) -> Step:
        env = self._env_now()
        observation, reward, _done, info = env.step(action[ACTION])
        return self._observe(observation), float(reward), bool(env._check_success()), False, dict(info)

    def disconnect(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            env.close()

    def _env_now(self) -> Any:
        if self._env is None:
            raise BackendError("no environment is loaded")
        return self._env

    def _observe(self, observation: dict[str, Any]) -> Observation:
        is_upside_down = getattr(macros, "IMAGE_CONVENTION", "opengl") == "opengl"
        return {
            key: value[::-1] if is_upside_down and key.endswith("_image") else np.asarray(value)
            for key, value in observation.items()
        }


def _description(env: Any) -> str:
    """The first sentence of the environment's docstring."""
    words = " ".join((type(env).__doc__ or "").split("Args:")[0].split())
    return words.split(". ")[0] or type(env).__name__
