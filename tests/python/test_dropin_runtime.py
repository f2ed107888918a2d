"""The runtime, the agent, the brokers and BasePolicy, under the names of openpi_client and of webpolicy."""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

from service_clients.openpi.action_chunk_broker import ActionChunkBroker
from service_clients.openpi.base_policy import BasePolicy
from service_clients.openpi.runtime.agent import Agent
from service_clients.openpi.runtime.agents.policy_agent import PolicyAgent
from service_clients.openpi.runtime.environment import Environment
from service_clients.openpi.runtime.runtime import Runtime
from service_clients.openpi.runtime.subscriber import Subscriber


class Part(Environment, Agent, Subscriber):
    """Every part of a runtime at once: writes down what is asked of it, and fails where it is told to."""

    def __init__(self, steps: int = 2, fails_in: str = "", error: BaseException | None = None) -> None:
        self.steps, self.fails_in, self.error = steps, fails_in, error or ValueError("the arm is off")
        self.log: list[str] = []

    def _note(self, name: str) -> None:
        self.log.append(name)
        if name == self.fails_in:
            self.fails_in = ""
            raise self.error

    def reset(self) -> None:
        self._note("reset")

    def is_episode_complete(self) -> bool:
        return self.log.count("step") % self.steps == 0

    def get_observation(self) -> dict[str, Any]:
        self._note("observe")
        return {}

    def get_action(self, observation: dict[str, Any]) -> dict[str, Any]:
        self._note("decide")
        return {"actions": np.zeros(2)}

    def apply_action(self, action: dict[str, Any]) -> None:
        self._note("act")

    def on_episode_start(self) -> None:
        self._note("start")

    def on_step(self, observation: dict[str, Any], action: dict[str, Any]) -> None:
        self._note("step")

    def on_episode_end(self) -> None:
        self._note("end")


def runtime_of(part: Part, **options: Any) -> Runtime:
    """The environment and the subscriber are `part`; the agent's reset is not written down."""
    return Runtime(part, part, [part], **options)


STEP = ["observe", "decide", "act", "step"]


def test_an_episode_goes_in_order_and_ends_with_a_reset() -> None:
    part = Part(steps=2)
    runtime_of(part, num_episodes=2).run()
    episode = ["reset", "reset", "start", *STEP, *STEP, "end"]  # of the environment, of the agent
    assert part.log == [*episode, *episode, "reset"]


def test_an_episode_has_at_most_max_episode_steps() -> None:
    part = Part(steps=100)
    runtime_of(part, max_episode_steps=3).run()
    assert part.log.count("step") == 3


@pytest.mark.parametrize("where", STEP)
@pytest.mark.parametrize("error", [ValueError("the arm is off"), KeyboardInterrupt()])
def test_what_a_part_raises_ends_the_episode_in_order_and_comes_out(where: str, error: BaseException) -> None:
    part = Part(fails_in=where, error=error)
    with pytest.raises(type(error)) as caught:
        runtime_of(part, num_episodes=3).run()
    assert caught.value is error
    assert part.log[-3:] == [where, "end", "reset"]


def test_a_failing_end_does_not_hide_the_first_failure() -> None:
    first, second = Part(fails_in="decide"), Part(fails_in="end", error=OSError("disk full"))
    with pytest.raises(ValueError, match="the arm is off"):
        Runtime(first, first, [second, first]).run()
    assert second.log[-1] == "end"
    assert first.log[-2:] == ["end", "reset"]


def test_a_subscriber_that_did_not_start_is_not_ended() -> None:
    part = Part(fails_in="start")
    with pytest.raises(ValueError, match="the arm is off"):
        runtime_of(part).run()
    assert part.log == ["reset", "reset", "start", "reset"]


@pytest.mark.parametrize("max_hz", [0, 0.01])
def test_stop_from_another_thread_ends_all_episodes(max_hz: float) -> None:
    part = Part(steps=1 << 30)
    runtime = runtime_of(part, max_hz=max_hz, num_episodes=1000)
    thread = runtime.run_in_new_thread()
    while "step" not in part.log:
        time.sleep(0.001)
    runtime.stop()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert part.log[-2:] == ["end", "reset"]


def test_mark_episode_complete_ends_one_episode() -> None:
    part = Part(steps=1 << 30)

    class Marker(Part):
        def on_step(self, observation: dict[str, Any], action: dict[str, Any]) -> None:
            runtime.mark_episode_complete()

    runtime = Runtime(part, part, [part, Marker()], num_episodes=3)
    runtime.run()
    assert part.log.count("step") == part.log.count("end") == 3


def test_ctrl_c_ends_a_long_pause_between_steps() -> None:
    part = Part(steps=100)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        runtime_of(part, max_hz=0.01).run()
    timer.join()
    assert part.log[-2:] == ["end", "reset"]


def test_steps_keep_to_absolute_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of the test's own, where waiting oversleeps by a tenth of a period each time."""
    runtime_module = importlib.import_module("service_clients.runtime.runtime")
    now, begun = 100.0, []

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now

    class Slow(Part):
        def get_observation(self) -> dict[str, Any]:
            nonlocal now
            begun.append(now - 100.0)
            now += 0.25 if len(begun) == 5 else 0.02
            return {}

    def wait(timeout: float) -> None:
        nonlocal now
        now += timeout + 0.01

    part = Slow(steps=100)
    runtime = runtime_of(part, max_hz=10, max_episode_steps=9)
    monkeypatch.setattr(runtime_module, "time", Clock)
    monkeypatch.setattr(runtime._stopped, "wait", wait)
    runtime.run()
    assert begun == pytest.approx([0, 0.11, 0.21, 0.31, 0.41, 0.66, 0.71, 0.81, 0.91])


class Infers(BasePolicy):
    def __init__(self, **reply: Any) -> None:
        self.reply, self.calls, self.resets = reply, 0, 0

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        return self.reply

    def reset(self) -> None:
        self.resets += 1


class Steps(BasePolicy):
    def step(self, obs: dict[str, Any]) -> dict[str, Any]:
        return {"stepped": obs["x"]}


class Duck:
    def step(self, obs: dict[str, Any]) -> dict[str, Any]:
        return {"quacked": obs["x"]}


def test_a_policy_is_one_that_infers_or_steps() -> None:
    assert Steps().infer({"x": 1}) == Steps().step({"x": 1}) == {"stepped": 1}
    assert Infers(a=2).step({}) == {"a": 2}
    with pytest.raises(TypeError, match="must define infer"):
        BasePolicy()
    with pytest.raises(TypeError, match="takes no arguments"):
        Steps(3)


def test_base_policy_is_the_same_class_everywhere() -> None:
    theirs = importlib.import_module("service_clients.webpolicy.base_policy").BasePolicy
    assert theirs is BasePolicy
    assert isinstance(ActionChunkBroker(Steps(), 1), theirs)

    class Whole(Duck):
        def reset(self) -> None: ...

    assert isinstance(Whole(), BasePolicy)
    assert not isinstance(Duck(), BasePolicy)
    assert not isinstance(Whole(), Infers)


def test_the_openpi_client_is_a_policy() -> None:
    client = importlib.import_module("service_clients.openpi.websocket_client_policy")
    assert issubclass(client.WebsocketClientPolicy, BasePolicy)


def test_an_agent_asks_either_kind_of_policy() -> None:
    policy = Infers(a=1)
    agent = PolicyAgent(policy)
    assert agent.get_action({}) == {"a": 1}
    agent.reset()
    assert policy.resets == 1
    assert PolicyAgent(Steps()).get_action({"x": 4}) == {"stepped": 4}
    assert PolicyAgent(policy=Duck()).get_action({"x": 5}) == {"quacked": 5}
    PolicyAgent(Duck()).reset()
    with pytest.raises(TypeError, match="neither infer nor step"):
        PolicyAgent(object())


def test_a_broker_hands_out_one_step_at_a_time() -> None:
    actions = np.arange(12.0).reshape(4, 3)
    state = np.arange(3.0)
    policy = Infers(
        actions=actions, nested=[{"gripper": np.arange(4)}], state=state, text="hello", n=np.array(7)
    )
    broker = ActionChunkBroker(policy, action_horizon=3)
    for call in range(7):
        step = broker.infer({}) if call % 2 else broker.step({})
        np.testing.assert_array_equal(step["actions"], actions[call % 3])
        assert step["nested"][0]["gripper"] == call % 3
        assert step["state"] is state
        assert step["text"] == "hello"
        assert step["n"].shape == ()
        step["actions"][:] = -1  # the caller's own
    assert policy.calls == 3


@pytest.mark.parametrize("horizon", [4, 6])
def test_arms_whose_chunks_differ_in_length_are_each_handed_out_step_by_step(horizon: int) -> None:
    arms = {"left": np.arange(12.0).reshape(6, 2), "right": np.arange(8), "bounds": np.zeros(3)}
    if horizon == 4:
        arms["left"] = arms["left"][:5]
    broker = ActionChunkBroker(Infers(actions=arms), horizon)
    for call in range(horizon + 1):
        step = broker.infer({})["actions"]
        assert step["left"].tolist() == arms["left"][call % horizon].tolist()
        assert step["right"] == call % horizon
        assert step["bounds"] is arms["bounds"]


def test_a_broker_s_steps_are_writable_though_the_reply_is_not() -> None:
    actions = np.zeros((2, 3))
    actions.flags.writeable = False
    assert ActionChunkBroker(Infers(actions=actions), 2).infer({})["actions"].flags.writeable


def test_a_broker_forgets_its_chunk_on_reset() -> None:
    policy = Infers(actions=np.arange(6).reshape(3, 2))
    broker = ActionChunkBroker(policy, 3)
    broker.infer({})
    broker.reset()
    assert broker.infer({})["actions"].tolist() == [0, 1]
    assert (policy.calls, policy.resets) == (2, 1)


def test_a_broker_hands_a_payload_on() -> None:
    given: list[Any] = []

    class Takes(Infers):
        def reset(self, payload: Any = None) -> None:
            given.append(payload)

    broker = ActionChunkBroker(Takes(), 1)
    broker.reset({"seed": 3})
    broker.reset({})
    assert given == [{"seed": 3}, None]


def test_a_broker_names_both_lengths_of_a_chunk_that_is_too_short() -> None:
    policy = Infers(actions=np.zeros((4, 7)), state=np.zeros(9))
    broker = ActionChunkBroker(policy, 8)
    with pytest.raises(ValueError, match="chunk has 4 steps, and action_horizon is 8"):
        broker.infer({})
    policy.reply = {"actions": np.zeros((8, 7))}
    assert broker.infer({})["actions"].shape == (7,)


def test_a_broker_finds_chunks_without_the_name() -> None:
    step = ActionChunkBroker(Infers(left=np.zeros((5, 2)), pose=np.zeros(3)), 5).infer({})
    assert (step["left"].shape, step["pose"].shape) == ((2,), (3,))
    assert ActionChunkBroker(Infers(left=np.zeros((50, 2))), 5).infer({})["left"].shape == (2,)
    with pytest.raises(ValueError, match=r"have 3, 9 steps, none of them action_horizon \(5\)"):
        ActionChunkBroker(Infers(left=np.zeros((9, 2)), pose=np.zeros(3)), 5).infer({})
    with pytest.raises(ValueError, match="no chunk of actions"):
        ActionChunkBroker(Infers(text="no"), 5).infer({})
    with pytest.raises(ValueError, match="action_horizon is 0"):
        ActionChunkBroker(Infers(), 0)


def test_a_broker_may_be_told_which_members_are_chunks() -> None:
    policy = Infers(plan={"arm": np.arange(8).reshape(4, 2)}, video=np.zeros((4, 9)), text="x")
    broker = ActionChunkBroker(policy, 3, keys=["plan"])
    for call in range(4):
        step = broker.infer({})
        assert step["plan"]["arm"].tolist() == policy.reply["plan"]["arm"][call % 3].tolist()
        assert step["video"] is policy.reply["video"]
        assert list(step) == ["plan", "video", "text"]
    with pytest.raises(ValueError, match=r"no arm, leg \(keys\)"):
        ActionChunkBroker(policy, 3, keys=["leg", "arm"]).infer({})
