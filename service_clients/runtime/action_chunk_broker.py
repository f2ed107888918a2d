"""Chunks of actions, handed out one at a time."""

from __future__ import annotations

import math
from typing import Any, Iterator, Mapping, Sequence

import numpy as np

from service_clients.runtime.base_policy import BasePolicy, act_of

__all__ = ["ActionChunkBroker"]

_ACTION_KEYS = ("actions", "action")


class ActionChunkBroker(BasePolicy):
    """A policy that asks another one for a chunk of actions and hands them out one by one.

    The steps of a chunk are the first dimension of its `actions` (or `action`); where these hold several arrays, of
    each that is no shorter than `action_horizon`. Of the other arrays in the reply, those whose first dimension is as
    long are chunks too; what is not (a state, an image, a timing) is given with every step, whole. The inner policy is
    asked again when `action_horizon` steps have been handed out, and the robot waits for it: ChunkEngine does not.
    """

    def __init__(self, policy: Any, action_horizon: int, keys: Sequence[str] | None = None) -> None:
        """
        Args:
            policy: anything with `infer` or `step`.
            action_horizon: how many steps of each chunk are used; a chunk may have more.
            keys: which members of a reply are chunks, or hold them; all else is then given whole.

        Raises:
            ValueError: action_horizon is below 1.
            TypeError: policy has neither `infer` nor `step`.
        """
        if action_horizon < 1:
            raise ValueError(f"action_horizon is {action_horizon}, not 1 or more")
        act_of(policy)
        self._policy = policy
        self._action_horizon = action_horizon
        self._keys = None if keys is None else frozenset(keys)
        self._cur_step = 0
        self._steps = 0
        self._last_results: dict[str, Any] | None = None

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        """The next action.

        Args:
            obs: goes to the inner policy when a new chunk is due, and is not looked at otherwise.

        Returns:
            The reply's structure with one step of each chunk: `actions` (dim,) of (horizon, dim). Steps are
            copies: writable, and the caller's own.

        Raises:
            ValueError: the chunk has fewer steps than action_horizon, or the reply holds no chunk.
        """
        if self._last_results is None:
            results = act_of(self._policy)(obs)
            self._steps = _count_steps(self._chunks_of(results), self._action_horizon)
            self._last_results = results
            self._cur_step = 0
        chunks = self._chunks_of(self._last_results)
        step = _slice(chunks, (self._steps, self._steps), self._cur_step)
        for key in _named(chunks):  # one arm's chunk may be longer than the other's
            step[key] = _slice(chunks[key], (self._action_horizon, math.inf), self._cur_step)
        if self._keys is not None:
            step = {**self._last_results, **step}
        self._cur_step += 1
        if self._cur_step >= self._action_horizon:
            self._last_results = None
        return step  # type: ignore[no-any-return]

    def reset(self, payload: Any = None) -> None:
        """Forgets the rest of the chunk, and resets the inner policy, with the payload if there is one."""
        self._last_results = None
        self._cur_step = 0
        reset = getattr(self._policy, "reset", None)
        if reset is not None:
            reset(payload) if payload else reset()

    def _chunks_of(self, results: Any) -> Any:
        """The part of a reply that chunks are looked for in."""
        if self._keys is None:
            return results
        missing = sorted(self._keys.difference(results))
        if missing:
            raise ValueError(f"the policy's reply has no {', '.join(missing)} (keys)")
        return {key: results[key] for key in self._keys}


def _arrays(value: Any) -> Iterator[np.ndarray[Any, Any]]:
    """Every array that has a first dimension."""
    if isinstance(value, np.ndarray):
        if value.ndim:
            yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for child in value.values() if isinstance(value, Mapping) else value:
            yield from _arrays(child)


def _named(results: Any) -> list[str]:
    """The keys of what is actions by its name."""
    return [key for key in _ACTION_KEYS if isinstance(results, Mapping) and key in results]


def _count_steps(results: Any, horizon: int) -> int:
    """How many steps the chunks of a reply have, which is at least `horizon`."""
    named = [results[key] for key in _named(results)]
    lengths = {len(array) for array in _arrays(named)} or {len(array) for array in _arrays(results)}
    if len(lengths) > 1 and horizon in lengths:
        return horizon
    if named and max(lengths, default=0) >= horizon:
        return min(length for length in lengths if length >= horizon)
    if not lengths:
        raise ValueError(
            f"the policy's reply holds no chunk of actions to take {horizon} steps (action_horizon) of"
        )
    if max(lengths) < horizon:
        raise ValueError(f"the policy's chunk has {max(lengths)} steps, and action_horizon is {horizon}")
    if len(lengths) > 1:
        raise ValueError(
            f"the arrays of the policy's reply have {', '.join(map(str, sorted(lengths)))} steps, "
            f"none of them action_horizon ({horizon}), and none is named actions"
        )
    return lengths.pop()


def _slice(value: Any, lengths: tuple[float, float], at: int) -> Any:
    if isinstance(value, np.ndarray):
        return value[at, ...].copy() if value.ndim and lengths[0] <= len(value) <= lengths[1] else value
    if isinstance(value, Mapping):
        return {key: _slice(child, lengths, at) for key, child in value.items()}
    if isinstance(value, list):
        return [_slice(child, lengths, at) for child in value]
    if isinstance(value, tuple):
        children = [_slice(child, lengths, at) for child in value]
        return type(value)(*children) if hasattr(value, "_fields") else tuple(children)
    return value
