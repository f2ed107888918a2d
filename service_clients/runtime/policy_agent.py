"""An agent that asks a policy."""

from __future__ import annotations

from typing import Any

from service_clients.runtime.agent import Agent
from service_clients.runtime.base_policy import act_of

__all__ = ["PolicyAgent"]


class PolicyAgent(Agent):
    """Takes its actions from a policy."""

    def __init__(self, policy: Any) -> None:
        """
        Args:
            policy: anything with `infer` or `step`; its `reset`, if it has one, is called by reset().

        Raises:
            TypeError: it has neither `infer` nor `step`.
        """
        act_of(policy)
        self._policy = policy

    @property
    def policy(self) -> Any:
        """What is asked."""
        return self._policy

    def get_action(self, observation: dict[str, Any]) -> dict[str, Any]:
        """What the policy says."""
        return act_of(self._policy)(observation)

    def reset(self) -> None:
        """Resets the policy."""
        reset = getattr(self._policy, "reset", None)
        if reset is not None:
            reset()
