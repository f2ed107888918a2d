"""In place of webpolicy.runtime.agent: see service_clients/runtime/agent.py."""

from __future__ import annotations

from service_clients.runtime.agent import Agent

__all__ = ["Agent"]
