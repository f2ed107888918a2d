"""What is told of each step: recorders, viewers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service_clients.runtime.runtime import Runtime

__all__ = ["Subscriber"]


class Subscriber(ABC):
    """Is told what happens in a Runtime, on the Runtime's own thread."""

    def on_run_start(self, runtime: Runtime) -> None:  # noqa: B027
        """`runtime` is about to run: its stats() say how it goes. Need not be there."""

    @abstractmethod
    def on_episode_start(self) -> None:
        """The environment and the agent have been reset, the first step follows."""

    @abstractmethod
    def on_step(self, observation: dict[str, Any], action: dict[str, Any]) -> None:
        """The action has been applied; both are as the environment and the agent gave them."""

    @abstractmethod
    def on_episode_end(self) -> None:
        """No step follows. Called after each on_episode_start() that succeeded, also when a step failed."""
