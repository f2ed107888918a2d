"""BasePolicy: infer and step are one, whichever of them a policy defines."""

from __future__ import annotations

from typing import Any

import pytest

from service_clients._axon import BasePolicy


class Infers(BasePolicy):
    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        return {"actions": obs["x"] + 1}


class Steps(BasePolicy):
    def __init__(self, more: int) -> None:
        self.more = more

    def step(self, obs: dict[str, Any]) -> dict[str, Any]:
        return {"actions": obs["x"] + self.more}


def test_a_policy_that_infers_steps_as_well() -> None:
    assert Infers().step({"x": 1}) == Infers().infer({"x": 1}) == {"actions": 2}


def test_a_policy_that_steps_infers_as_well() -> None:
    assert Steps(5).infer({"x": 1}) == Steps(more=5).step({"x": 1}) == {"actions": 6}


def test_reset_does_nothing_unless_it_is_defined() -> None:
    Infers().reset()


def test_of_a_class_that_defines_neither_no_object_can_be_made() -> None:
    class Neither(BasePolicy):
        pass

    for kind in (BasePolicy, Neither):
        with pytest.raises(TypeError, match="must define infer"):
            kind()
