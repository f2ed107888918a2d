"""The slow policy of the control benchmark, on axon's own server for openpi's protocol.

    python -m benchmarks.control_server MEAN_MS SPREAD_MS SEED

Prints its port. An observation is {"t": seconds}; the answer is a chunk of the path that begins at t, which the policy
takes MEAN +- SPREAD milliseconds to make (normally distributed, at least 5, the same sequence for the same seed). No policy
is of quite the same opinion twice: each chunk is off by a little of its own, which is what ensembling averages out.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import numpy as np

from benchmarks.control_path import ACTION_HZ, HORIZON, JOINTS, path
from service_clients.openpi.server import WebsocketPolicyServer

OPINION_RAD = 0.005


class Slow:
    """Knows the path, and takes its time."""

    def __init__(self, mean_ms: float, spread_ms: float, seed: int) -> None:
        self._mean, self._spread = mean_ms / 1e3, spread_ms / 1e3
        self._random = np.random.default_rng(seed)
        self._chunks = 0

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        until = time.monotonic() + max(0.005, self._random.normal(self._mean, self._spread))
        opinion = self._random.normal(0, OPINION_RAD, JOINTS)
        actions = path(obs["t"] + np.arange(HORIZON) / ACTION_HZ) + opinion
        self._chunks += 1
        time.sleep(max(0.0, until - time.monotonic()))
        return {"actions": actions, "chunk": self._chunks}


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # an engine that is closed does not wait for its last answer
    mean, spread, seed = sys.argv[1:]
    server = WebsocketPolicyServer(Slow(float(mean), float(spread), int(seed)), port=0)
    server.start()
    print(server.port, flush=True)
    server.serve_forever()
