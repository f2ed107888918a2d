"""What a policy is: see service_clients/_axon/base_policy.py."""

from __future__ import annotations

from service_clients._axon.base_policy import BasePolicy, act_of

__all__ = ["BasePolicy", "act_of"]
