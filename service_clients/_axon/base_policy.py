"""What a policy is: something with `infer` (openpi's word) or `step` (webpolicy's), and `reset`."""

from __future__ import annotations

from abc import ABC
from typing import Any, Callable

__all__ = ["BasePolicy", "act_of"]


class BasePolicy(ABC):  # noqa: B024  (what is abstract is that both are missing: see __new__)
    """Turns observations into actions.

    A subclass defines `infer` or `step`; the other one then calls it, so that either kind of policy works
    wherever a policy is taken. Any class that has one of them and `reset` passes isinstance() and issubclass().
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Refuses a class that defines neither."""
        if cls.infer is BasePolicy.infer and cls.step is BasePolicy.step:
            raise TypeError(
                f"Can't instantiate abstract class {cls.__name__}: it must define infer() or step()"
            )
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__}() takes no arguments")
        return super().__new__(cls)

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        if cls is not BasePolicy:
            return NotImplemented
        has_act = callable(getattr(other, "infer", None)) or callable(getattr(other, "step", None))
        return True if has_act and callable(getattr(other, "reset", None)) else NotImplemented

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        """The actions for one observation."""
        return self.step(obs)

    def step(self, obs: dict[str, Any]) -> dict[str, Any]:
        """The same, by webpolicy's name."""
        return self.infer(obs)

    def reset(self, *args: Any, **kwargs: Any) -> None:  # noqa: B027
        """Goes back to the initial state; does nothing unless overridden. webpolicy's take a payload."""


def act_of(policy: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The method of a policy that maps an observation to actions.

    Raises:
        TypeError: it has neither `infer` nor `step`.
    """
    for name in ("infer", "step"):
        method = getattr(policy, name, None)
        if callable(method):
            return method  # type: ignore[no-any-return]
    raise TypeError(f"policy is {type(policy).__name__}, which has neither infer nor step")
