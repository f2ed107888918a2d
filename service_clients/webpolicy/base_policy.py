"""In place of webpolicy.base_policy: see service_clients/runtime/base_policy.py."""

from __future__ import annotations

from service_clients.runtime.base_policy import BasePolicy

__all__ = ["BasePolicy"]
