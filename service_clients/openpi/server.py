"""
openpi - policy server

Hosts a policy for openpi's clients, in place of `openpi.serving.websocket_policy_server`: same constructor, same
serve_forever(), and a network that answers pings and `GET /healthz` while the policy works.

Usage:
    from service_clients.openpi.server import WebsocketPolicyServer

    class Still:
        def infer(self, obs):
            return {"actions": np.zeros((50, 7), np.float32)}

    WebsocketPolicyServer(Still(), host="127.0.0.1", port=8000, metadata={"action_horizon": 50}).serve_forever()

It listens on this machine alone unless told otherwise (host="0.0.0.0"). An observation that the policy cannot
take costs its client an error with the traceback, and nobody else anything.
"""

from __future__ import annotations

from service_clients._axon.server import PolicyServer

__all__ = ["WebsocketPolicyServer"]


class WebsocketPolicyServer(PolicyServer):
    """Hosts a policy: something with `infer(obs) -> dict` (or `step`). Replies get `server_timing`."""
