"""
simulator - the tabletop world as a backend

The world of service_clients/demo/tabletop.py, which needs numpy alone, behind the simulator's protocol. Actions and
numbers of an observation are the world's; its cameras come with them as `agentview_image`, `agentview_depth` and
`eye_in_hand_image`.

Usage:
    from service_clients.simulator.backends.tabletop import TabletopBackend
    from service_clients.simulator.server import SimulatorServer

    SimulatorServer({"tabletop": lambda: TabletopBackend(seed=7)}).serve_forever()
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

from service_clients.demo.tabletop import Tabletop
from service_clients.simulator.backend import Backend, InvalidParams, Observation, Step, TaskNotFound

__all__ = ["TabletopBackend"]

_SUITE = "tabletop"
_PICTURES = ("agentview_image", "agentview_depth", "eye_in_hand_image")


class TabletopBackend(Backend):
    """One tabletop world. Each session's begins with the first episode of its seed."""

    name = "tabletop"
    version = "1"

    def __init__(
        self,
        image_size: tuple[int, int] = (256, 256),
        seed: int = 0,
        pictures: Sequence[str] = _PICTURES,
        on_change: Callable[[Tabletop], None] | None = None,
    ) -> None:
        """Makes a world.

        Args:
            image_size: (height, width) of its pictures.
            seed: which sequence of episodes.
            pictures: which of them an observation holds; none makes 20 to 100 times as many steps a second.
            on_change: called after every reset and step, on the session's thread.
        """
        for picture in pictures:
            if picture not in _PICTURES:
                raise ValueError(f"pictures: no {picture!r}; there are {', '.join(_PICTURES)}")
        self.world = Tabletop(image_size, seed)
        self._pictures = tuple(pictures)
        self._on_change = on_change

    def list_tasks(self, suite: str | None = None) -> list[str]:
        """The world's tasks; its one suite is "tabletop"."""
        if suite not in (None, _SUITE):
            raise InvalidParams(f"suite is {suite!r}; there is {_SUITE!r}")
        return list(self.world.tasks)

    def load_task(self, task_name: str) -> dict[str, Any]:
        """As Tabletop.load_task()."""
        try:
            return self.world.load_task(task_name)
        except KeyError as error:
            raise TaskNotFound(str(error.args[0])) from None

    def reset(self) -> Observation:
        """Begins the next episode of the sequence."""
        return self._seen(self.world.reset())

    def step(self, action: dict[str, Any]) -> Step:
        """As Tabletop.step(), with the pictures."""
        observation, reward, terminated, truncated, info = self.world.step(action)
        return self._seen(observation), reward, terminated, truncated, info

    def get_info(self) -> dict[str, Any]:
        """What an observation holds."""
        height, width = self.world.image_size
        space = {
            "ee_pos": {"shape": [3], "dtype": "float64"},
            "ee_quat": {"shape": [4], "dtype": "float64"},
            "gripper_position": {"shape": [1], "dtype": "float64"},
            "joint_positions": {"shape": [5], "dtype": "float64"},
        }
        for picture in self._pictures:
            is_depth = picture.endswith("_depth")
            shape = [height, width] if is_depth else [height, width, 3]
            space[picture] = {"shape": shape, "dtype": "float32" if is_depth else "uint8"}
        return {"observation_space": space}

    def _seen(self, numbers: dict[str, Any]) -> Observation:
        observation: Observation = dict(numbers)
        names = dict.fromkeys(picture.rpartition("_")[0] for picture in self._pictures)
        for name in names:
            rgb, depth = self.world.render(name)
            observation.update({f"{name}_image": rgb, f"{name}_depth": depth})
        kept = {key: value for key, value in observation.items() if key in numbers or key in self._pictures}
        if self._on_change is not None:
            self._on_change(self.world)
        return kept
