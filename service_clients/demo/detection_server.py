"""A detection service with the contract of the catalog's yolo-detection, and a detector of coloured blocks behind it.

The replies have the fields of the real service; /health says what really detects. It knows the tabletop's blocks and
its goal, whichever weights the request names.
"""

# ruff: noqa: UP006, UP007, UP045 - pydantic evaluates these annotations, on Python 3.8 too
from __future__ import annotations

import base64
import binascii
import socket
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Literal, Optional, Protocol, Union, get_args

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from service_clients._axon.errors import AxonError
from service_clients._axon.images import decode_image, encode_image
from service_clients.demo import backends
from service_clients.demo.detector import CLASSES, MODEL, BlockDetector, Found, outline

if TYPE_CHECKING:
    from service_clients.demo.detector import Pixels

ModelName = Literal["yolov8n", "yolov8s", "yolov8m", "yolov8l", "yolov8x", "yolov8n-seg", "yolov8s-seg"]
MaskFormat = Literal["polygon", "rle", "bitmap"]
DEVICE = f"cpu (numpy {np.__version__}, {MODEL})"


class Detector(Protocol):
    """What the service needs of a detector."""

    def detect(self, bgr: Pixels, conf: float) -> List[Found]:
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


def decode(data: bytes) -> Pixels:
    """The pixels of a JPEG or PNG: uint8 (height, width, 3), BGR. Raises ValueError."""
    try:
        return np.asarray(decode_image(data, color="bgr"), np.uint8)
    except AxonError as error:
        raise ValueError(str(error)) from error


def create_app(detector: Detector, decode: Callable[[bytes], Pixels] = decode) -> FastAPI:
    """The service, detecting with `detector` in what `decode` makes of a picture's bytes."""
    app = FastAPI(
        title="yolo-detection", description=f"A stand-in that detects {', '.join(CLASSES.values())}."
    )

    @app.get("/health")
    def health() -> HealthReply:
        return HealthReply(
            status="ok",
            device=DEVICE,
            gpu_name=None,
            gpu_memory_mb=None,
            loaded_models=[MODEL],
            available_models=list(get_args(ModelName)),
        )

    @app.post("/detect")
    def detect(request: DetectRequest) -> DetectReply:
        if request.return_masks and not request.model.endswith("-seg"):
            raise HTTPException(400, f"model {request.model} has no masks; use a -seg model")
        bgr = _pixels(request.image, decode)
        started = time.perf_counter()
        things = detector.detect(bgr, request.conf)
        masks = [
            _mask(outline(bgr, thing), request.mask_format) if request.return_masks else None
            for thing in things
        ]
        return DetectReply(
            detections=[_detection(thing, mask) for thing, mask in zip(things, masks)],
            model=request.model,
            device=DEVICE,
            inference_ms=(time.perf_counter() - started) * 1000.0,
            image_width=bgr.shape[1],
            image_height=bgr.shape[0],
            has_masks=request.return_masks,
        )

    return app


def _pixels(text: str, decode: Callable[[bytes], Pixels]) -> Pixels:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise HTTPException(400, f"image is not base64: {error}") from error
    try:
        return decode(data)
    except ValueError as error:
        why = f"image is no picture that can be decoded ({len(data)} bytes): {error}"
        raise HTTPException(400, why) from error


def _detection(found: Found, mask: Any) -> Detection:
    return Detection(
        bbox=BoundingBox(x1=found.x1, y1=found.y1, x2=found.x2, y2=found.y2),
        confidence=found.confidence,
        class_id=found.class_id,
        class_name=found.class_name,
        mask=mask,
    )


def _mask(mask: Pixels, form: str) -> Union[List[List[List[float]]], Dict[str, List[int]], str]:
    if form == "polygon":
        return [_polygon(mask)]
    if form == "bitmap":
        return base64.b64encode(encode_image(mask)).decode("ascii")
    bits = mask.ravel() > 0
    changes = np.flatnonzero(np.diff(bits)) + 1
    edges = np.concatenate([[0], [0] if bits[0] else [], changes, [bits.size]])
    return {"counts": np.diff(edges).astype(int).tolist(), "size": list(mask.shape)}


def _polygon(mask: Pixels) -> List[List[float]]:
    """Down the left side of a mask and up its right; what is hollow along a row is filled."""
    rows = np.flatnonzero(mask.any(axis=1))
    left = mask[rows].argmax(axis=1)
    right = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    down, up = np.stack([left, rows], axis=1), np.stack([right, rows], axis=1)[::-1]
    return np.concatenate([down, up]).astype(float).tolist()  # type: ignore[no-any-return]


def serve(app: FastAPI) -> None:
    """Serves ``app`` on a free loopback port until this process is ended."""
    listener = socket.create_server(("127.0.0.1", 0))
    backends.watch_starter()
    backends.announce(f"http://127.0.0.1:{listener.getsockname()[1]}")
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    serve(create_app(BlockDetector()))
