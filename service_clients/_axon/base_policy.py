"""What a policy is: something that makes actions from an observation. openpi calls that `infer`, webpolicy `step`."""

from __future__ import annotations

from typing import Any

__all__ = ["BasePolicy"]


class BasePolicy:
    """The base of policies. A subclass defines `infer` or `step`; the other one is then the same.

    Of itself, and of a subclass that defines neither, no object can be made: TypeError.
    """

    def __new__(cls, *_arguments: Any, **_options: Any) -> Any:
        """Refuses a class that cannot infer, as an abstract method would."""
        if cls.infer is BasePolicy.infer and cls.step is BasePolicy.step:
            raise TypeError(f"{cls.__name__} is abstract: it must define infer() or step()")
        return super().__new__(cls)

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        """Makes actions from an observation.

        Args:
            obs: what was observed: arrays, text, numbers, by str keys.

        Returns:
            The actions, in openpi's form under `actions`, float (horizon, dim).
        """
        return self.step(obs)

    def step(self, obs: dict[str, Any]) -> dict[str, Any]:
        """The same as `infer`, by webpolicy's name."""
        return self.infer(obs)

    def reset(self) -> None:
        """Forgets the episode so far: the next observation is the first of another."""
