"""In place of openpi_client.websocket_client_policy: see client.py."""

from __future__ import annotations

from service_clients.openpi.client import WebsocketClientPolicy

__all__ = ["WebsocketClientPolicy"]
