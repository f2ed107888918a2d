"""What decides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

__all__ = ["Agent"]


class Agent(ABC):
    """Decides what to do next from what is observed."""

    @abstractmethod
    def get_action(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The action for one observation."""

    @abstractmethod
    def reset(self) -> None:
        """Goes back to the initial state; called at the start of each episode."""
