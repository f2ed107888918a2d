"""From a slow policy to a fast robot: chunks are asked for ahead of time and handed out at the controller's rate."""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from service_clients._axon.chunk import ChunkField, ChunkInfo, Chunks, ChunkStats
from service_clients.runtime.base_policy import BasePolicy

__all__ = ["ChunkEngine", "ChunkField", "ChunkInfo", "ChunkStats"]


class ChunkEngine(Chunks, BasePolicy):
    """A chunk engine, as a pair of calls for two threads or as a policy for one.

    Two threads, or one that does both:

        engine = ChunkEngine(WebsocketClientPolicy(host), "aligned", action_hz=50)
        engine.submit(observation)          # whenever there is one
        action = engine.next_action()       # 50 to 1000 times a second

    As a policy, in the place of ActionChunkBroker: `PolicyAgent(engine)`, `engine.infer(observation)`.
    """

    def infer(self, obs: Mapping[str, Any], now: float | None = None) -> dict[str, Any]:
        """Submits an observation, if one is asked for, and gives the action for now.

        Args:
            obs: see submit().
            now: see next_action().

        Returns:
            The policy's chunks where its reply has them, one step of each: `actions` (dim,) of (horizon, dim). Floats
            have the policy's own dtype, integers too when they are not interpolated. What else a reply holds is left
            out.

        Raises:
            As submit() and next_action().
        """
        self.submit(obs, now)
        action = self.next_action(now)
        found: dict[str, Any] = {}
        for path, begin, end, shape, dtype in self._parts():
            place = found
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = action[begin:end].reshape(shape).astype(dtype)
        return found

    def step(self, obs: Mapping[str, Any]) -> dict[str, Any]:
        """The same, by webpolicy's name."""
        return self.infer(obs)

    def _parts(self) -> list[tuple[tuple[str, ...], int, int, tuple[int, ...], Any]]:
        found: Any = getattr(self, "_known_parts", None)
        if found is None:
            found = self._known_parts = [
                (field.path, field.offset, field.offset + field.width, field.shape, self._dtype_of(field))
                for field in self.fields()
            ]
        return found  # type: ignore[no-any-return]

    def _dtype_of(self, field: ChunkField) -> Any:
        dtype = np.dtype(field.dtype)
        is_exact = self.mode != "ensemble" and not self._interpolates
        return dtype if dtype.kind == "f" or is_exact else np.dtype(np.float64)
