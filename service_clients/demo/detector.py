"""Finds faces on the CPU with a detector that ships inside OpenCV, and outlines them."""

from __future__ import annotations

import os
import threading
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

CASCADE = "haarcascade_frontalface_alt2.xml"
CLASS_ID = 0
CLASS_NAME = "face"


class Face(NamedTuple):
    """One face: its box in pixels (x2 and y2 lie just outside) and how sure the detector is, 0 to 1."""

    x1: int
    y1: int
    x2: int
    y2: int
    confidence: float


class FaceDetector:
    """A cascade of boosted Haar features, as trained by Rainer Lienhart and shipped with OpenCV.

    The method: Viola and Jones, "Rapid object detection using a boosted cascade of simple features", 2001.
    """

    def __init__(self) -> None:
        path = os.path.join(os.path.dirname(cv2.__file__), "data", CASCADE)
        self._cascade = cv2.CascadeClassifier(path)
        if self._cascade.empty():
            raise RuntimeError(f"{path}: not a cascade that OpenCV {cv2.__version__} can load")
        self._stages, self._threshold = _last_stage(path)
        self._lock = threading.Lock()  # a CascadeClassifier keeps its scratch images between calls

    def detect(self, bgr: Pixels, conf: float) -> list[Face]:
        """Finds the faces in ``bgr``, uint8 (height, width, 3), best first.

        The confidence is margin / (1 + margin), where the margin is how far the vote of the cascade's last
        stage lies above that stage's own threshold: 0 at the threshold, approaching 1 far above it.
        """
        grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        with self._lock:
            boxes, stages, votes = self._cascade.detectMultiScale3(
                grey, scaleFactor=1.1, minNeighbors=3, minSize=(24, 24), outputRejectLevels=True
            )
        faces = []
        for (x, y, width, height), stage, vote in zip(boxes, stages, votes):
            margin = max(float(vote) - self._threshold, 0.0) if int(stage) >= self._stages else 0.0
            box = (int(x), int(y), int(x + width), int(y + height))
            faces.append(Face(*box, margin / (1.0 + margin)))
        return sorted((face for face in faces if face.confidence >= conf), key=lambda face: -face.confidence)


def outline(bgr: Pixels, face: Face) -> Pixels:
    """The pixels inside a face's box that are the face: uint8 (height, width), 255 there, 0 elsewhere.

    GrabCut (Rother, Kolmogorov and Blake, 2004), started from the box and given a margin around it to learn
    the background from.
    """
    height, width = bgr.shape[:2]
    margin = (face.x2 - face.x1) // 2
    left, top = max(face.x1 - margin, 0), max(face.y1 - margin, 0)
    right, bottom = min(face.x2 + margin, width), min(face.y2 + margin, height)
    around = np.ascontiguousarray(bgr[top:bottom, left:right])
    box = (face.x1 - left, face.y1 - top, face.x2 - face.x1, face.y2 - face.y1)
    labels = np.zeros(around.shape[:2], np.uint8)
    cv2.setRNGSeed(0)  # its clusters start from random centres; the same picture gives the same mask
    cv2.grabCut(around, labels, box, np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_RECT)
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right][(labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)] = 255
    return mask


def _last_stage(path: str) -> tuple[int, float]:
    """How many stages a cascade has, and the vote that a window needs to pass the last of them."""
    storage = cv2.FileStorage(path, cv2.FILE_STORAGE_READ)
    try:
        cascade = storage.getFirstTopLevelNode()
        count = int(cascade.getNode("stageNum").real())
        return count, float(cascade.getNode("stages").at(count - 1).getNode("stageThreshold").real())
    finally:
        storage.release()
