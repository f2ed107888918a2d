"""
simulator - rendering without a display

What the backends on MuJoCo share.
"""

from __future__ import annotations

import ctypes.util
import os

from service_clients.simulator.backend import BackendError

__all__ = ["choose_gl"]


def choose_gl() -> None:
    """Has MuJoCo render without a display, unless MUJOCO_GL says how, or there is a display. Before its first picture.

    Raises:
        BackendError: there is nothing to render with.
    """
    if "MUJOCO_GL" in os.environ or "DISPLAY" in os.environ:
        return
    for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if ctypes.util.find_library(library):
            os.environ["MUJOCO_GL"] = name
            return
    raise BackendError("pictures need EGL or OSMesa to render with: apt-get install libegl1, or libosmesa6")
