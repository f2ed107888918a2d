"""A detection service with the contract of the catalog's yolo-detection, and a face detector behind it.

The replies have the fields of the real service; /health says what really detects. It knows one class, "face",
whichever weights the request names.
"""

# ruff: noqa: UP006, UP007, UP045 - pydantic evaluates these annotations, on Python 3.8 too
from __future__ import annotations

import base64
import binascii
import socket
import time
from typing import Any, Dict, List, Literal, Optional, Protocol, Union, get_args

import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from service_clients.demo import backends
from service_clients.demo.detector import CASCADE, CLASS_ID, CLASS_NAME, Face, FaceDetector, Pixels, outline

ModelName = Literal["yolov8n", "yolov8s", "yolov8m", "yolov8l", "yolov8x", "yolov8n-seg", "yolov8s-seg"]
MaskFormat = Literal["polygon", "rle", "bitmap"]
DEVICE = f"cpu (OpenCV {cv2.__version__}, {CASCADE})"


class Detector(Protocol):
    """What the service needs of a detector."""

    def detect(self, bgr: Pixels, conf: float) -> List[Face]:
        """Finds what is in ``bgr``, uint8 (height, width, 3)."""


class _Model(BaseModel):
    model_config = ConfigDict(protected_namespaces=())  # some fields are really called model_...


class DetectRequest(_Model):
    """The body of POST /detect."""

    image: str
    model: ModelName = "yolov8n"
    conf: float = Field(0.25, ge=0.0, le=1.0)
    return_masks: bool = False
    mask_format: MaskFormat = "polygon"


class BoundingBox(_Model):
    """Corners in pixels."""

    x1: float
    y1: float
    x2: float
    y2: float


class RunLengths(_Model):
    """A mask as the lengths of its runs, row by row, zeros first."""

    counts: List[int]
    size: List[int]


class Detection(_Model):
    """One thing that was found."""

    bbox: BoundingBox
    confidence: float
    class_id: int
    class_name: str
    mask: Optional[Union[List[List[List[float]]], RunLengths, str]] = None


class DetectReply(_Model):
    """The body of a reply to POST /detect."""

    detections: List[Detection]
    model: str
    device: str
    inference_ms: float
    image_width: int
    image_height: int
    has_masks: bool


class HealthReply(_Model):
    """The body of a reply to GET /health."""

    status: str
    device: str
    gpu_name: Optional[str]
    gpu_memory_mb: Optional[float]
    loaded_models: List[str]
    available_models: List[str]


def create_app(detector: Detector) -> FastAPI:
    """The service, detecting with ``detector``."""
    app = FastAPI(title="yolo-detection", description=f"A stand-in that detects faces with {CASCADE}.")

    @app.get("/health")
    def health() -> HealthReply:
        return HealthReply(
            status="ok",
            device=DEVICE,
            gpu_name=None,
            gpu_memory_mb=None,
            loaded_models=[CASCADE],
            available_models=list(get_args(ModelName)),
        )

    @app.post("/detect")
    def detect(request: DetectRequest) -> DetectReply:
        if request.return_masks and not request.model.endswith("-seg"):
            raise HTTPException(400, f"model {request.model} has no masks; use a -seg model")
        bgr = _decode(request.image)
        started = time.perf_counter()
        faces = detector.detect(bgr, request.conf)
        masks = [
            _mask(outline(bgr, face), request.mask_format) if request.return_masks else None for face in faces
        ]
        return DetectReply(
            detections=[_detection(face, mask) for face, mask in zip(faces, masks)],
            model=request.model,
            device=DEVICE,
            inference_ms=(time.perf_counter() - started) * 1000.0,
            image_width=bgr.shape[1],
            image_height=bgr.shape[0],
            has_masks=request.return_masks,
        )

    return app


def _decode(text: str) -> Pixels:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise HTTPException(400, f"image is not base64: {error}") from error
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if bgr is None:
        raise HTTPException(400, f"image is no picture that can be decoded ({len(data)} bytes)")
    return np.asarray(bgr, np.uint8)


def _detection(face: Face, mask: Any) -> Detection:
    bbox = BoundingBox(x1=face.x1, y1=face.y1, x2=face.x2, y2=face.y2)
    return Detection(
        bbox=bbox, confidence=face.confidence, class_id=CLASS_ID, class_name=CLASS_NAME, mask=mask
    )


def _mask(mask: Pixels, form: str) -> Union[List[List[List[float]]], Dict[str, List[int]], str]:
    if form == "polygon":
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        return [contour[:, 0, :].astype(float).tolist() for contour in outlines if len(contour) >= 3]
    if form == "bitmap":
        return base64.b64encode(cv2.imencode(".png", mask)[1].tobytes()).decode("ascii")
    bits = mask.ravel() > 0
    changes = np.flatnonzero(np.diff(bits)) + 1
    edges = np.concatenate([[0], [0] if bits[0] else [], changes, [bits.size]])
    return {"counts": np.diff(edges).astype(int).tolist(), "size": list(mask.shape)}


def serve(app: FastAPI) -> None:
    """Serves ``app`` on a free loopback port until this process is ended."""
    listener = socket.create_server(("127.0.0.1", 0))
    backends.watch_starter()
    backends.announce(f"http://127.0.0.1:{listener.getsockname()[1]}")
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    serve(create_app(FaceDetector()))
