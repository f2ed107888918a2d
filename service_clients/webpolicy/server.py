"""
webpolicy - policy server

Hosts a policy for webpolicy's clients, in place of `webpolicy.server`: same constructor, same serve(), and a network
that answers pings and `GET /healthz` while the policy works.

Usage:
    from service_clients.webpolicy.server import Server

    class Still:
        def step(self, obs):
            return {"actions": np.zeros((50, 7), np.float32)}

        def reset(self, payload=None):
            ...

    Server(Still(), host="127.0.0.1", port=8000).serve()

It listens on this machine alone unless told otherwise (host="0.0.0.0"). Clients of old and new versions are
understood: bare observations, and steps and resets in webpolicy's envelope.
"""

from __future__ import annotations

from service_clients._axon.server import PolicyServer

__all__ = ["Server"]


class Server(PolicyServer):
    """Hosts a policy: something with `step(obs) -> dict` (or `infer`), and `reset()` or `reset(payload)`."""

    def serve(self) -> None:
        """serve_forever(), by its name here."""
        self.serve_forever()
