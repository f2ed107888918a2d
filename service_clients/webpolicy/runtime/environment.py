"""In place of webpolicy.runtime.environment: see service_clients/runtime/environment.py."""

from __future__ import annotations

from service_clients.runtime.environment import Environment

__all__ = ["Environment"]
