"""
YOLO Detection - Python Client SDK

Finds objects in a picture (YOLOv8): boxes, class names, confidences and, with a "-seg" model, masks.

Usage (inside robot code execution):
    from service_clients.yolo_detection.client import YOLOClient
    from robot_sdk import sensors

    client = YOLOClient()

    frame = sensors.get_camera_frame()                  # JPEG bytes
    for found in client.detect(frame, conf=0.4):
        box = found["bbox"]                             # pixels: x1, y1 top left, x2, y2 bottom right
        print(found["class_name"], found["confidence"], box["x1"], box["y1"], box["x2"], box["y2"])

    reply = client.detect_full(frame, model="yolov8n-seg", return_masks=True)
    for found in reply["detections"]:
        print(found["class_name"], len(found["mask"] or []), "polygons")

An image is any of: JPEG or PNG bytes, a path, a numpy array, base64 text, a PIL image. Arrays are uint8
(H, W), (H, W, 1), (H, W, 3) or (H, W, 4), and BGR as OpenCV has them unless color="rgb" says otherwise.

The service is looked for at the constructor's `host`, else the environment's AXON_HOST_YOLO_DETECTION, else
the `host` of the service.json beside this file, else http://127.0.0.1:8000.

Everything raised is a RuntimeError: "Service unavailable at http://...: ..." (also a ConnectionError),
"/detect failed (HTTP 422): ...", a call longer than `timeout` (also a TimeoutError), an image that is none
(also a ValueError; a path that leads nowhere also a FileNotFoundError).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service_clients._axon import ServiceClient, explicit

if TYPE_CHECKING:
    from service_clients._axon import Image


class YOLOClient(ServiceClient):
    """Object detection and instance segmentation (YOLOv8)."""

    def __init__(self, host: str | None = None, timeout: float | None = 60.0) -> None:
        """Makes the client; nothing is sent yet.

        Args:
            host: "http://host:port" of the service; None looks where the module's docstring says.
            timeout: seconds for one whole call, connecting included.
        """
        super().__init__(
            host,
            timeout,
            service="yolo_detection",
            default_host="http://127.0.0.1:8000",
            client_file=__file__,
        )

    def detect(
        self, image: Image, model: str = "yolov8n", conf: float = 0.25, *, color: str | None = None
    ) -> list[dict[str, Any]]:
        """Finds objects in one image.

        Args:
            image: JPEG or PNG bytes, a path, an array, base64 text or a PIL image.
            model: which weights to use: yolov8n, yolov8s, yolov8m, yolov8l, yolov8x, yolov8n-seg, yolov8s-seg.
            conf: least confidence kept, 0 to 1.
            color: the channel order of an array, "bgr" (default) or "rgb".

        Returns:
            List of {bbox: {x1, y1, x2, y2} in pixels, confidence, class_id, class_name}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call("detect", {"image": image}, color, model=model, conf=explicit(conf, "conf"))
        return reply  # type: ignore[no-any-return]

    def detect_full(
        self,
        image: Image,
        model: str = "yolov8n",
        conf: float = 0.25,
        return_masks: bool = False,
        mask_format: str = "polygon",
        *,
        color: str | None = None,
    ) -> dict[str, Any]:
        """Finds objects in one image and gives the whole reply.

        Args:
            image: JPEG or PNG bytes, a path, an array, base64 text or a PIL image.
            model: which weights to use; masks need a "-seg" model.
            conf: least confidence kept, 0 to 1.
            return_masks: with masks.
            mask_format: "polygon" (lists of [x, y]), "rle" ({counts, size: [h, w]}) or "bitmap" (base64 PNG).
            color: the channel order of an array, "bgr" (default) or "rgb".

        Returns:
            {detections: as above, each with mask or null; model, device, inference_ms, image_width,
            image_height in pixels, has_masks}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call(
            "detect_full",
            {"image": image},
            color,
            model=model,
            conf=explicit(conf, "conf"),
            return_masks=return_masks,
            mask_format=mask_format,
        )
        return reply  # type: ignore[no-any-return]
