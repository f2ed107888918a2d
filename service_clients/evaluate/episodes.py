"""Running episodes: a policy's chunks against a simulator's steps, until each is done."""

from __future__ import annotations

import time
from typing import Any, Mapping, NamedTuple, Protocol

from service_clients.evaluate.mapping import Actions, Observations

__all__ = ["Episode", "Rule", "RuleError", "Runner", "parse_rule"]

# Keys of a step's info that say whether the task is done.
SUCCESS_KEYS = ("success", "is_success", "task_success")


class RuleError(ValueError):
    """A rule of success that is none, or that this simulator says nothing about."""


class Rule(NamedTuple):
    """When an episode counts as a success; `kind` is one of these.

    "info": some step's info has one of SUCCESS_KEYS, and it is true. "terminated": it ended by itself. "truncated": it
    lasted until its steps were used up. "return": its rewards sum up to `threshold` or more.
    """

    kind: str
    threshold: float = 0.0

    def __str__(self) -> str:
        return f"return >= {self.threshold:g}" if self.kind == "return" else self.kind


class Episode(NamedTuple):
    """How one went.

    Attributes:
        number: the first is 0.
        success: by the rule.
        steps: of the simulator.
        reward: the sum of its rewards.
        seconds: from reset to end.
        ended: "terminated", "truncated", "steps" (as many as were allowed), "error".
        error: what was said then.
        infer_ms, step_ms: each call's time.
    """

    number: int
    success: bool
    steps: int
    reward: float
    seconds: float
    ended: str
    error: str
    infer_ms: list[float]
    step_ms: list[float]


class _Policy(Protocol):
    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        """Answers an observation."""


class _Simulator(Protocol):
    def reset(self) -> dict[str, Any]:
        """Begins an episode."""

    def step(self, action: Mapping[str, Any]) -> Any:
        """observation, reward, terminated, truncated, info."""


class Runner:
    """Runs episodes of one task, one after another."""

    def __init__(
        self,
        policy: _Policy,
        simulator: _Simulator,
        observe: Observations,
        act: Actions,
        rule: Rule,
        max_steps: int | None = None,
    ) -> None:
        """Prepares it; the simulator has its task loaded. `max_steps` ends an episode that goes on."""
        self._policy, self._simulator = policy, simulator
        self._observe, self._act, self._rule, self._max_steps = observe, act, rule, max_steps

    def run(self, number: int) -> Episode:
        """Runs one. What policy or simulator raise ends it, and stands in `error`.

        Raises:
            MappingError, RuleError: what would go wrong in every episode.
        """
        run = _Run(number)
        try:
            reset = getattr(self._policy, "reset", None)
            if reset is not None:
                reset()
            observation = self._simulator.reset()
            while not run.ended:
                observation = self._run_chunk(run, observation)
        except (RuntimeError, OSError) as error:
            run.ended, run.error = "error", str(error)
        return run.finish(self._rule)

    def _run_chunk(self, run: _Run, observation: dict[str, Any]) -> dict[str, Any]:
        sent = self._observe(observation)
        started = time.perf_counter()
        reply = self._policy.infer(sent)
        run.infer_ms.append((time.perf_counter() - started) * 1000.0)
        for action in self._act(reply):
            started = time.perf_counter()
            observation, reward, terminated, truncated, info = self._simulator.step(action)
            run.step_ms.append((time.perf_counter() - started) * 1000.0)
            run.note(float(reward), info)
            if terminated or truncated:
                run.ended = "terminated" if terminated else "truncated"
            elif self._max_steps is not None and len(run.step_ms) >= self._max_steps:
                run.ended = "steps"
            if run.ended:
                break
        return observation


class _Run:
    """An episode under way."""

    def __init__(self, number: int) -> None:
        self.number, self.started, self.reward = number, time.perf_counter(), 0.0
        self.ended = self.error = ""
        self.infer_ms: list[float] = []
        self.step_ms: list[float] = []
        self._said: bool | None = None  # what info says of success, once it says something

    def note(self, reward: float, info: Any) -> None:
        """Takes one step's outcome in."""
        self.reward += reward
        for key in SUCCESS_KEYS:
            if isinstance(info, Mapping) and key in info:
                self._said = bool(self._said) or bool(info[key])

    def finish(self, rule: Rule) -> Episode:
        """The episode, judged."""
        seconds = time.perf_counter() - self.started
        success = self.ended != "error" and self._judge(rule)
        times = (self.infer_ms, self.step_ms)
        return Episode(
            self.number, success, len(self.step_ms), self.reward, seconds, self.ended, self.error, *times
        )

    def _judge(self, rule: Rule) -> bool:
        if rule.kind == "return":
            return self.reward >= rule.threshold
        if rule.kind in ("terminated", "truncated"):
            return self.ended == rule.kind
        if self._said is None:
            raise RuleError(
                f"success: the simulator's info has none of {', '.join(SUCCESS_KEYS)}; say what counts as success: "
                "--success terminated, truncated or return:NUMBER"
            )
        return self._said


def parse_rule(text: str) -> Rule:
    """ "info", "terminated", "truncated" or "return:475", as a Rule. Raises RuleError."""
    kind, colon, threshold = text.partition(":")
    if kind == "return" and colon:
        try:
            return Rule(kind, float(threshold))
        except ValueError:
            kind = ""
    if kind not in ("info", "terminated", "truncated") or colon:
        raise RuleError(f"--success {text!r}: not info, terminated, truncated or return:NUMBER")
    return Rule(kind)
