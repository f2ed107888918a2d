"""In place of webpolicy.action_chunk_broker: see service_clients/runtime/action_chunk_broker.py."""

from __future__ import annotations

from service_clients.runtime.action_chunk_broker import ActionChunkBroker

__all__ = ["ActionChunkBroker"]
