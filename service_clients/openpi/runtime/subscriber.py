"""In place of openpi_client.runtime.subscriber: see service_clients/runtime/subscriber.py."""

from __future__ import annotations

from service_clients.runtime.subscriber import Subscriber

__all__ = ["Subscriber"]
