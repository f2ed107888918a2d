"""A policy for gymnasium's CartPole-v1 that needs no training: it pushes towards where the pole is falling."""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np

__all__ = ["METADATA", "Balance"]

METADATA: dict[str, Any] = {"policy": "axon-cartpole-balance", "action_horizon": 1, "action_dim": 1}


class Balance:
    """Answers CartPole's state with ``{"actions": float64 (1, 1)}``: 0 pushes to the left, 1 to the right.

    A linear feedback of cart's place and speed, the pole's angle and its turning rate. The pole's weigh most; the
    cart's, with the same sign, lean the pole towards the middle before they move the cart there.
    """

    WEIGHTS = (0.1, 0.3, 4.0, 1.0)

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Raises ValueError where there is no state of four numbers."""
        for value in observation.values():
            if isinstance(value, np.ndarray) and value.shape == (4,):
                return {"actions": np.array([[float(np.dot(self.WEIGHTS, value) > 0.0)]])}
        raise ValueError(f"CartPole's state (4,) is not among {', '.join(map(str, observation))}")
