"""Runs our own server with a policy that says which observation it answers: ``python axon_server_peer.py``."""

from __future__ import annotations

import logging
import time
from typing import Any

from service_clients.demo import backends
from service_clients.openpi.server import WebsocketPolicyServer


class Numbered:
    """Answers after as many seconds as the observation asks for, or fails."""

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        time.sleep(obs.get("sleep", 0.0))
        if obs.get("do") == "raise":
            raise ValueError("no such joint")
        return {"number": obs["number"]}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    backends.watch_starter()
    server = WebsocketPolicyServer(Numbered(), "127.0.0.1", 0, {"name": "numbered"})
    server.start()
    backends.announce(server.url)
    server.serve_forever()
