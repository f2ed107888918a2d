"""In place of openpi_client.runtime.environment: see service_clients/runtime/environment.py."""

from __future__ import annotations

from service_clients.runtime.environment import Environment

__all__ = ["Environment"]
