"""In place of webpolicy.runtime.agents.policy_agent: see service_clients/runtime/policy_agent.py."""

from __future__ import annotations

from service_clients.runtime.policy_agent import PolicyAgent

__all__ = ["PolicyAgent"]
