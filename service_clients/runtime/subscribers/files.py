"""The files that subscribers leave: one for each episode, none written over."""

from __future__ import annotations

import os

__all__ = ["next_path"]


def next_path(folder: str, ending: str) -> str:
    """The first of `episode_0000` and so on, with this ending, that is not there."""
    number = 0
    while os.path.exists(path := os.path.join(folder, f"episode_{number:04}{ending}")):
        number += 1
    return path
