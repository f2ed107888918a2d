"""
grounded-sam2 - Python Client SDK

Objects found by a text description, with their masks (Grounding DINO, SAM 2).

Say in words what to look for ("red cup"); boxes, labels, confidences and masks come back.

Usage (inside robot code execution):
    from service_clients.grounded_sam2.client import GroundedSAM2Client
    from robot_sdk import sensors

    client = GroundedSAM2Client()

    frame_bytes = sensors.get_camera_frame()  # JPEG bytes
    detections = client.detect(frame_bytes, prompts=["red cup"])
    reply = client.detect_full(frame_bytes, prompts=["red cup", "plate"], mask_format="rle")
    picture = client.visualize(frame_bytes, prompts=["red cup"], save_path="found.jpg")

Methods:
    detect(image, prompts, conf=0.3)
        Finds what the prompts describe: boxes only. Returns list of {label, confidence, bbox: {x1, y1, x2,
        y2} in pixels}.
    detect_full(image, prompts, conf=0.3, return_masks=True, mask_format="polygon")
        Finds and segments what the prompts describe, and gives the whole reply. Returns {detections: as
        above, each with mask or null; device, inference_ms, image_width and image_height in pixels,
        has_masks}; a mask is a list of polygons of [x, y], or {counts, size [h, w]} (runs, beginning with
        zeros, row by row), or a base64 PNG (0, 255).
    visualize(image, prompts, conf=0.3, return_masks=True, fmt="jpeg", quality=90)
        Draws boxes, labels and masks onto the image. Returns bytes of the JPEG or PNG.

A picture is any of: JPEG or PNG bytes, a path, a numpy array, base64 text, a PIL image. Arrays are uint8 (H,
W), (H, W, 1), (H, W, 3) or (H, W, 4), or uint16 or float depth (H, W), and RGB unless color= says otherwise.

The service is looked for at the constructor's `host`, else the environment's AXON_HOST_GROUNDED_SAM2, else
the `host` of the service.json beside this file, else http://127.0.0.1:8001.

Everything raised is a RuntimeError: "Service unavailable at http://...: ..." (also a ConnectionError),
"/detect failed (HTTP 422): ...", a call longer than `timeout` (also a TimeoutError), an argument that cannot
be (also a ValueError; a path that leads nowhere also a FileNotFoundError).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Sequence

from service_clients._axon import ServiceClient, deliver_picture, explicit, given

if TYPE_CHECKING:
    from service_clients._axon import Image


class GroundedSAM2Client(ServiceClient):
    """Objects found by a text description, with their masks (Grounding DINO, SAM 2)."""

    _WIRE: ClassVar[Any] = {  # for robots without the native core
        "detect": ("POST", "/detect", {"member": "detections", "fixed": {"return_masks": False}}),
        "detect_full": ("POST", "/detect", {}),
        "visualize": ("POST", "/visualize", {"query": ["fmt", "quality"]}),
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
            service="grounded_sam2",
            default_host="http://127.0.0.1:8001",
            client_file=__file__,
        )

    def detect(
        self, image: Image, prompts: Sequence[str], conf: float = 0.3, *, color: str | None = None
    ) -> list[dict[str, Any]]:
        """Finds what the prompts describe: boxes only.

        Args:
            image: JPEG or PNG bytes, or pixels.
            prompts: What to look for, each one description such as "red cup".
            conf: Least confidence kept, 0 to 1.
            color: The channel order of an array, "rgb" or "bgr"; None: "rgb".

        Returns:
            List of {label, confidence, bbox: {x1, y1, x2, y2} in pixels}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call(
            "detect", {"image": image, "prompts": prompts}, color or "rgb", conf=explicit(conf, "conf")
        )
        return reply  # type: ignore[no-any-return]

    def detect_full(
        self,
        image: Image,
        prompts: Sequence[str],
        conf: float = 0.3,
        return_masks: bool = True,
        mask_format: str = "polygon",
        *,
        color: str | None = None,
    ) -> dict[str, Any]:
        """Finds and segments what the prompts describe, and gives the whole reply.

        Args:
            image: As for detect.
            prompts: As for detect.
            conf: Least confidence kept, 0 to 1.
            return_masks: Whether to segment what was found.
            mask_format: "polygon", "rle" or "bitmap".
            color: The channel order of an array, "rgb" or "bgr"; None: "rgb".

        Returns:
            {detections: as above, each with mask or null; device, inference_ms, image_width and image_height
            in pixels, has_masks}; a mask is a list of polygons of [x, y], or {counts, size [h, w]} (runs,
            beginning with zeros, row by row), or a base64 PNG (0, 255).

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call(
            "detect_full",
            {"image": image, "prompts": prompts},
            color or "rgb",
            conf=explicit(conf, "conf"),
            return_masks=return_masks,
            mask_format=mask_format,
        )
        return reply  # type: ignore[no-any-return]

    def visualize(
        self,
        image: Image,
        prompts: Sequence[str],
        conf: float = 0.3,
        return_masks: bool = True,
        fmt: str = "jpeg",
        quality: int = 90,
        save_path: str | None = None,
        as_numpy: bool = False,
        as_pil: bool = False,
        *,
        color: str | None = None,
    ) -> Any:
        """Draws boxes, labels and masks onto the image.

        Args:
            image: As for detect.
            prompts: As for detect.
            conf: Least confidence kept, 0 to 1.
            return_masks: Whether to segment what was found.
            fmt: Of the picture: "jpeg" or "png".
            quality: Of a JPEG, 1 to 100.
            save_path: A file that the picture is written to as well.
            as_numpy: Give a uint8 array (height, width, 3), RGB, in place of bytes.
            as_pil: Give a PIL image in place of bytes.
            color: The channel order of an array, "rgb" or "bgr"; None: "rgb".

        Returns:
            Bytes of the JPEG or PNG.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call(
            "visualize",
            {"image": image, "prompts": prompts},
            color or "rgb",
            conf=explicit(conf, "conf"),
            return_masks=return_masks,
            fmt=fmt,
            quality=given(quality, "quality"),
        )
        return deliver_picture(reply, save_path, as_numpy, as_pil)
