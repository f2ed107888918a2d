"""In place of openpi_client.runtime.runtime: see service_clients/runtime/runtime.py."""

from __future__ import annotations

from service_clients.runtime.runtime import Runtime

__all__ = ["Runtime"]
