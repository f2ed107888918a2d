"""A policy to try servers with: a visual servo that looks at the bright part of what its cameras see.

It is no model, but it really computes every number of its chunk from every byte of the observation, by a
formula that is written down here and that a test computes a second time to check the answer:

1. Where to look. Each picture's luma is (77 R + 150 G + 29 B) // 256, and its centroid, from -1 (left, top)
   to 1 (right, bottom), is the luma-weighted mean of the pixel positions. Sums are of integers, so exact.
2. The target. The scene camera's centroid (x, y) turns the base (joint 0) to -0.6 x and the shoulder
   (joint 1) to -0.4 y; the wrist camera's turns joints 4 and 5 the same way. Joints 2 and 3 go home, to 0.
   The gripper (the last number: 0 open, 1 closed) follows the prompt's last word of GRIPPER_WORDS, or stays.
3. The chunk. Step t of 16 is state + (target - state) (1 - 0.8^(t + 1)), plus noise of at most +-0.001 drawn
   from PCG64 seeded with the CRC-32 of all that was observed. Policies that denoise an action start from
   noise as well; here its seed makes one changed byte change every number.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt  # which numpy 1.17 has not

HORIZON = 16
DIM = 7
SCENE = "observation/image"
WRIST = "observation/wrist_image"
STATE = "observation/state"
PROMPT = "prompt"
GRIPPER_WORDS = {"pick": 1.0, "grasp": 1.0, "close": 1.0, "place": 0.0, "release": 0.0, "open": 0.0}
NOISE = 0.001

METADATA: dict[str, Any] = {
    "policy": "axon-visual-servo",
    "action_horizon": HORIZON,
    "action_dim": DIM,
    "observation_keys": [SCENE, WRIST, STATE, PROMPT],
    "reset_pose": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
}


class VisualServo:
    """Answers an observation with ``{"actions": float32 (16, 7)}``; see the module for the formula."""

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Raises KeyError for a key that is missing and ValueError for a value of the wrong kind."""
        scene, wrist = _picture(observation, SCENE), _picture(observation, WRIST)
        state, prompt = _state(observation), _prompt(observation)
        target = np.zeros(DIM)
        for picture, (across, along) in ((scene, (0, 1)), (wrist, (4, 5))):
            x, y = centroid(picture)
            target[across], target[along] = -0.6 * x, -0.4 * y
        target[-1] = _gripper(prompt, float(state[-1]))
        progress = 1.0 - np.cumprod(np.full((HORIZON, 1), 0.8), axis=0)
        seed = 0
        for part in (scene.tobytes(), wrist.tobytes(), state.tobytes(), prompt.encode()):
            seed = zlib.crc32(part, seed)
        noise = np.random.default_rng(seed).uniform(-NOISE, NOISE, (HORIZON, DIM))
        actions = state + (target - state) * progress + noise
        return {"actions": actions.astype(np.float32)}


def centroid(rgb: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """The luma-weighted mean position (x, y) of uint8 (height, width, 3), each -1 to 1; black: (0, 0)."""
    luma = (rgb.astype(np.int64) @ np.array([77, 150, 29])) // 256
    total = int(luma.sum())
    if total == 0:
        return 0.0, 0.0
    x, y = (_mean_position(luma.sum(axis), total) for axis in (0, 1))
    return x, y


def _mean_position(weights: npt.NDArray[np.int64], total: int) -> float:
    last = len(weights) - 1
    return 2.0 * int((weights * np.arange(last + 1)).sum()) / (total * last) - 1.0 if last else 0.0


def _gripper(prompt: str, now: float) -> float:
    words = [word for word in prompt.lower().split() if word in GRIPPER_WORDS]
    return GRIPPER_WORDS[words[-1]] if words else now


def _picture(observation: Mapping[str, Any], key: str) -> npt.NDArray[np.uint8]:
    picture = observation[key]
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        raise ValueError(f"{key}: expected a uint8 array, got {_kind(picture)}")
    if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise ValueError(f"{key}: expected shape (height, width, 3), got {picture.shape}")
    return picture


def _state(observation: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    state = observation[STATE]
    if not isinstance(state, np.ndarray) or state.dtype.kind != "f" or state.shape != (DIM,):
        raise ValueError(f"{STATE}: expected {DIM} floats, got {_kind(state)}")
    return state.astype(np.float64)


def _prompt(observation: Mapping[str, Any]) -> str:
    prompt = observation[PROMPT]
    if not isinstance(prompt, str):
        raise ValueError(f"{PROMPT}: expected a str, got {_kind(prompt)}")
    return prompt


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return type(value).__name__
