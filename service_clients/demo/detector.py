"""Finds the tabletop's coloured things in a picture, and outlines them: numpy alone, no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from service_clients.demo.vision import Blob, color_mask, find_blobs

if TYPE_CHECKING:
    import numpy.typing as npt  # which numpy 1.17 has not

    Pixels = npt.NDArray[np.uint8]

__all__ = ["CLASSES", "MODEL", "BlockDetector", "Found", "outline"]


MODEL = "coloured-blocks"
CLASSES = {"red": "red block", "green": "green block", "blue": "blue block", "yellow": "goal"}


class Found(NamedTuple):
    """One thing: its box in pixels (x2 and y2 lie just outside), how sure the detector is, 0 to 1, and what it is."""

    x1: int
    y1: int
    x2: int
    y2: int
    confidence: float
    class_id: int
    class_name: str


class BlockDetector:
    """Takes each connected patch of a strong colour for a thing."""

    def detect(self, bgr: Pixels, conf: float) -> list[Found]:
        """Finds what is in `bgr`, uint8 (height, width, 3), best first.

        The confidence is the share of the box that has the colour, times one minus what other colours there are in it:
        a patch that is hidden in part, or that fades into grey, is less sure.
        """
        rgb = bgr[..., ::-1]
        found = []
        for class_id, color in enumerate(CLASSES):
            for blob in find_blobs(rgb, color):
                confidence = blob.fill * _purity(rgb, blob)
                if confidence >= conf:
                    found.append(Found(*blob[:4], confidence, class_id, CLASSES[color]))
        return sorted(found, key=lambda thing: -thing.confidence)


def outline(bgr: Pixels, found: Found) -> Pixels:
    """The pixels inside a thing's box that are the thing: uint8 (height, width), 255 there, 0 elsewhere."""
    color = list(CLASSES)[found.class_id]
    inside = (slice(found.y1, found.y2), slice(found.x1, found.x2))
    mask = np.zeros(bgr.shape[:2], np.uint8)
    mask[inside] = np.where(color_mask(bgr[..., ::-1][inside], color), 255, 0)
    return mask


def _purity(rgb: Pixels, blob: Blob) -> float:
    """One minus the weakest channel beside the strongest, over the patch's pixels."""
    patch = rgb[blob.y1 : blob.y2, blob.x1 : blob.x2]
    pixels = patch[color_mask(patch, blob.color)].astype(np.float64)
    return float(1.0 - np.mean(pixels.min(axis=1) / pixels.max(axis=1)))
