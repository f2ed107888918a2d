"""What of robosuite its backend uses, without physics: the real one brings hundreds of megabytes along."""

from __future__ import annotations

from typing import Any

import numpy as np

__version__ = "0.0-fake"
ALL_ENVIRONMENTS = {"Lift", "Stack", "TwoArmLift"}


class Lift:
    """
    Lifts a cube that
    lies on a table. There is more to say.

    Args:
        robots: which.
    """

    action_spec = (np.full(7, -1.0), np.full(7, 1.0))

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.height = 0.0

    def observe(self) -> dict[str, Any]:
        size = self.options["camera_heights"], self.options["camera_widths"], 3
        picture = np.zeros(size, np.uint8)
        picture[-1] = 255  # upside down, as OpenGL has it: the top row comes last
        return {"cube_pos": np.array([0.0, 0.0, self.height]), "agentview_image": picture}

    def reset(self) -> dict[str, Any]:
        self.height = 0.0
        return self.observe()

    def step(self, action: Any) -> Any:
        self.height += float(action[2])
        return self.observe(), self.height, False, {}

    def _check_success(self) -> bool:
        return self.height > 1.5

    def close(self) -> None:
        self.options = {}


def make(task: str, **options: Any) -> Lift:
    assert task == "Lift"
    assert options["robots"] == "Panda"
    return Lift(**options)
