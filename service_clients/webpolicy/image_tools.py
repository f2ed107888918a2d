"""In place of webpolicy.image_tools: see service_clients/_axon/image_tools.py."""

from __future__ import annotations

from service_clients._axon.image_tools import convert_to_uint8, resize_with_pad

__all__ = ["convert_to_uint8", "resize_with_pad"]
