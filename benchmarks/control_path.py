"""What the control benchmark is about: a path, and an arm that is told where to go.

The arm has seven joints. Each is a critically damped second-order system that is drawn to its last command, which stays
until the next one comes: a robot that nobody talks to stands still.
"""

from __future__ import annotations

from typing import Any

import numpy as np

JOINTS = 7
HORIZON = 50  # steps of a chunk
ACTION_HZ = 50.0  # and of them per second
SIMULATION_HZ = 1000.0
STIFFNESS = 60.0  # rad/s: the arm follows with a lag of 2 / STIFFNESS = 33 ms

_AMPLITUDES = np.array([0.5, 0.45, 0.4, 0.4, 0.35, 0.3, 0.3])  # rad
_FREQUENCIES = np.array([0.21, 0.27, 0.33, 0.37, 0.41, 0.47, 0.53])  # Hz
_PHASES = np.arange(JOINTS) * 0.9

Array = Any


def path(times: Array) -> Array:
    """Where the joints ought to be: times (n,) in s, result (n, JOINTS) in rad."""
    angles = 2 * np.pi * np.multiply.outer(np.asarray(times, float), _FREQUENCIES) + _PHASES
    return _AMPLITUDES * np.sin(angles)


def move(times: Array, commands: Array) -> tuple[Array, Array]:
    """Where an arm goes that was given commands (n, JOINTS) at times (n,).

    Returns:
        Times (m,), SIMULATION_HZ of them a second, and positions (m, JOINTS).
    """
    dt = 1 / SIMULATION_HZ
    grid = np.arange(times[0], times[-1], dt)
    targets = commands[np.searchsorted(times, grid, side="right") - 1]
    positions = np.empty_like(targets)
    position, speed = targets[0].copy(), np.zeros(targets.shape[1])
    for i, target in enumerate(targets):
        speed += (STIFFNESS**2 * (target - position) - 2 * STIFFNESS * speed) * dt
        position += speed * dt
        positions[i] = position
    return grid, positions
