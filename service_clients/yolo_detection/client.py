"""
yolo-detection - Python Client SDK

Object detection and instance segmentation (YOLOv8).

Finds objects of the 80 classes of COCO in a picture: boxes, class names, confidences and, with a "-seg"
model, masks.

Usage (inside robot code execution):
    from service_clients.yolo_detection.client import YOLOClient
    from robot_sdk import sensors

    client = YOLOClient()

    frame_bytes = sensors.get_camera_frame()  # JPEG bytes
    detections = client.detect(frame_bytes, conf=0.4)
    reply = client.detect_full(frame_bytes, model="yolov8n-seg", return_masks=True)

Methods:
    detect(image, model="yolov8n", conf=0.25)
        Finds objects in one image. Returns list of {bbox: {x1, y1, x2, y2} in pixels, confidence, class_id,
        class_name}.
    detect_full(image, model="yolov8n", conf=0.25, return_masks=False, mask_format="polygon")
        Finds objects in one image and gives the whole reply. Returns {detections: as above, each with mask or
        null; model, device, inference_ms, image_width, image_height in pixels, has_masks}.

A picture is any of: JPEG or PNG bytes, a path, a numpy array, base64 text, a PIL image. Arrays are uint8 (H,
W), (H, W, 1), (H, W, 3) or (H, W, 4), or uint16 or float depth (H, W), and BGR unless color= says otherwise.

The service is looked for at the constructor's `host`, else the environment's AXON_HOST_YOLO_DETECTION, else
the `host` of the service.json beside this file, else http://127.0.0.1:8000.

Everything raised is a RuntimeError: "Service unavailable at http://...: ..." (also a ConnectionError),
"/detect failed (HTTP 422): ...", a call longer than `timeout` (also a TimeoutError), an argument that cannot
be (also a ValueError; a path that leads nowhere also a FileNotFoundError).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from service_clients._axon import ServiceClient, explicit

if TYPE_CHECKING:
    from service_clients._axon import Image


class YOLOClient(ServiceClient):
    """Object detection and instance segmentation (YOLOv8)."""

    _WIRE: ClassVar[Any] = {  # for robots without the native core
        "detect": ("POST", "/detect", {"member": "detections"}),
        "detect_full": ("POST", "/detect", {}),
    }

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
            image: JPEG or PNG bytes, or pixels.
            model: Which weights to use.
            conf: Least confidence kept, 0 to 1.
            color: The channel order of an array, "rgb" or "bgr"; None: "bgr".

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
            image: JPEG or PNG bytes, or pixels.
            model: Which weights to use.
            conf: Least confidence kept, 0 to 1.
            return_masks: With masks, which need a "-seg" model.
            mask_format: "polygon", "rle" or "bitmap".
            color: The channel order of an array, "rgb" or "bgr"; None: "bgr".

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
