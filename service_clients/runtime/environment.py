"""What is acted upon."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

__all__ = ["Environment"]


class Environment(ABC):
    """A robot and its surroundings, or a simulation of them."""

    @abstractmethod
    def reset(self) -> None:
        """Goes back to the initial state: before each episode, and once when the last one is over."""

    @abstractmethod
    def is_episode_complete(self) -> bool:
        """Whether the episode is over, well or badly; asked after each step."""

    @abstractmethod
    def get_observation(self) -> dict[str, Any]:
        """What can be seen of the state now."""

    @abstractmethod
    def apply_action(self, action: dict[str, Any]) -> None:
        """Carries out one action."""
